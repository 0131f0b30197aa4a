//! The networks and their training: takes images and digits, gives better weights.
//!
//! A network is a program (`programs/mlp.yaml`, `programs/cnn.yaml`): its steps in a few lines of YAML, from which the
//! compiler has made the loss and its gradient as one function, `value_and_grad`, and a struct of all that is learnt,
//! `Parameters`. What is written here is what no compiler knows: where the weights begin ([`Network::start`]) and how
//! they follow the gradient ([`Optimizer`]), once for every struct of parameters.
//!
//! The shapes stand in the types, so a matrix of the wrong size does not compile.
//!
//! Holds after it: nothing is allocated once a [`Trainer`] stands. All it needs are arrays of fixed size within it
//! (`tests/no_alloc.rs` counts).

use crate::data::{CLASSES, Digits, PIXELS, Random};
use crate::kernels::{cnn, cnn_logits, mlp, mlp_logits};
use cotangent::{Parameters, Tensor};

/// Images that go through a network at once.
pub const BATCH: usize = 32;
/// Most images that a [`Trainer`] learns from: their order stands in an array.
pub const MOST: usize = 1797;

type Image = [f32; PIXELS];

/// A row an image: the logits of its classes, or the classes' part in what it shows.
type Classes = [[f32; CLASSES]; BATCH];

/// A classifier of a batch of images, by generated functions. What implements it is the memory that they work in.
pub trait Network {
    /// The batch, as the program wants it.
    type Images: Tensor<Scalar = f32>;
    /// All that is learnt. Its gradient and the averages of the optimizer have the same form.
    type Parameters: Parameters<Scalar = f32>;
    /// The memory, cleared.
    const NEW: Self;

    /// Fresh weights, evenly random, as wide as keeps the spread of the sums; biases are zero.
    fn start(random: &mut Random) -> Self::Parameters;

    /// A logit for each class.
    fn logits(&mut self, p: &Self::Parameters, x: &Self::Images, z: &mut Classes);

    /// The mean loss, and its derivatives by all that is learnt.
    fn value_and_grad(
        &mut self,
        p: &Self::Parameters,
        x: &Self::Images,
        t: &Classes,
        p_bar: &mut Self::Parameters,
    ) -> f32;
}

/// Two dense layers, 32 neurons with tanh and 10.
pub struct Mlp {
    logits: mlp_logits::digits::forward::Workspace,
    gradient: mlp::digits::value_and_grad::Workspace,
}

impl Network for Mlp {
    type Images = mlp::digits::X;
    type Parameters = mlp::digits::Parameters;
    const NEW: Self = Mlp {
        logits: mlp_logits::digits::forward::Workspace::new(),
        gradient: mlp::digits::value_and_grad::Workspace::new(),
    };

    fn start(random: &mut Random) -> Self::Parameters {
        let mut p = Self::Parameters::ZERO;
        let (inputs, hidden) = (p.w1.len(), p.w2.len());
        random.fill(p.w1.flat_mut(), glorot(inputs, hidden));
        random.fill(p.w2.flat_mut(), glorot(hidden, CLASSES));
        p
    }

    fn logits(&mut self, p: &Self::Parameters, x: &Self::Images, z: &mut Classes) {
        mlp_logits::digits::forward(x, &p.w1, &p.b1, &p.w2, &p.b2, z, &mut self.logits);
    }

    fn value_and_grad(
        &mut self,
        p: &Self::Parameters,
        x: &Self::Images,
        t: &Classes,
        p_bar: &mut Self::Parameters,
    ) -> f32 {
        let mut loss = 0.0;
        p.value_and_grad(x, t, &mut loss, p_bar, &mut self.gradient);
        loss
    }
}

/// Two convolutions of stride 2 with relu, of 8 and 16 channels, and a dense layer.
pub struct Cnn {
    logits: cnn_logits::digits::forward::Workspace,
    gradient: cnn::digits::value_and_grad::Workspace,
}

impl Network for Cnn {
    type Images = cnn::digits::X;
    type Parameters = cnn::digits::Parameters;
    const NEW: Self = Cnn {
        logits: cnn_logits::digits::forward::Workspace::new(),
        gradient: cnn::digits::value_and_grad::Workspace::new(),
    };

    fn start(random: &mut Random) -> Self::Parameters {
        let mut p = Self::Parameters::ZERO;
        // What a kernel sums for one element: its extents times the channels that it reads.
        let (first, second) = (p.k1.flat().len() / p.b1.len(), p.k2.flat().len() / p.b2.len());
        let last = p.w3.flat().len() / CLASSES;
        random.fill(p.k1.flat_mut(), he(first));
        random.fill(p.k2.flat_mut(), he(second));
        random.fill(p.w3.flat_mut(), glorot(last, CLASSES));
        p
    }

    fn logits(&mut self, p: &Self::Parameters, x: &Self::Images, z: &mut Classes) {
        cnn_logits::digits::forward(x, &p.k1, &p.b1, &p.k2, &p.b2, &p.w3, &p.b3, z, &mut self.logits);
    }

    fn value_and_grad(
        &mut self,
        p: &Self::Parameters,
        x: &Self::Images,
        t: &Classes,
        p_bar: &mut Self::Parameters,
    ) -> f32 {
        let mut loss = 0.0;
        p.value_and_grad(x, t, &mut loss, p_bar, &mut self.gradient);
        loss
    }
}

/// The greatest weight in front of what is symmetric (Glorot and Bengio, 2010).
fn glorot(inputs: usize, outputs: usize) -> f32 {
    (6.0 / (inputs + outputs) as f32).sqrt()
}

/// The greatest weight in front of a relu (He et al., 2015).
fn he(inputs: usize) -> f32 {
    (6.0 / inputs as f32).sqrt()
}

/// What an epoch gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Mean loss of the images, in nats, each taken when its batch was met.
    pub loss: f32,
    /// The part of the images that were recognised then.
    pub accuracy: f32,
}

/// How the parameters follow their gradient: a step for all of them, element by element, whatever tensors they are.
pub enum Optimizer<P> {
    /// Gradient descent with momentum (Polyak, 1964).
    Sgd {
        /// The gradients of the past, each batch counting 0.9 times as much as the next.
        velocity: P,
    },
    /// Adam (Kingma and Ba, 2014) with its usual constants.
    Adam {
        /// The average of the gradients.
        mean: P,
        /// The average of their squares.
        square: P,
        /// `0.9^t` after `t` updates: how much of the average is still the zero at the start.
        mean_left: f32,
        /// `0.999^t` likewise.
        square_left: f32,
    },
}

impl<P: Parameters<Scalar = f32>> Optimizer<P> {
    const MOMENTUM: f32 = 0.9;
    const MEAN: f32 = 0.9;
    const SQUARE: f32 = 0.999;

    /// What parameters lose in an update, as a part of the rate (Loshchilov and Hutter, 2017): small ones generalise
    /// better. Adam's updates are about as long as the rate, however small the gradient, so it takes more.
    fn decay(&self) -> f32 {
        match self {
            Optimizer::Sgd { .. } => 0.01,
            Optimizer::Adam { .. } => 0.1,
        }
    }

    /// Gradient descent at rest.
    pub fn sgd() -> Self {
        Optimizer::Sgd { velocity: P::ZERO }
    }

    /// Adam before the first batch.
    pub fn adam() -> Self {
        Optimizer::Adam { mean: P::ZERO, square: P::ZERO, mean_left: 1.0, square_left: 1.0 }
    }

    /// One step down the gradient.
    fn update(&mut self, p: &mut P, p_bar: &P, rate: f32) {
        let kept = 1.0 - rate * self.decay();
        p.slices_mut().flatten().for_each(|p| *p *= kept);
        let tensors = p.slices_mut().zip(p_bar.slices());
        match self {
            Optimizer::Sgd { velocity } => {
                for ((p, p_bar), velocity) in tensors.zip(velocity.slices_mut()) {
                    for ((p, g), velocity) in p.iter_mut().zip(p_bar).zip(velocity) {
                        *velocity = Self::MOMENTUM * *velocity + g;
                        *p -= rate * *velocity;
                    }
                }
            }
            Optimizer::Adam { mean, square, mean_left, square_left } => {
                *mean_left *= Self::MEAN;
                *square_left *= Self::SQUARE;
                let (mean_scale, square_scale) = (1.0 / (1.0 - *mean_left), 1.0 / (1.0 - *square_left));
                for (((p, p_bar), mean), square) in tensors.zip(mean.slices_mut()).zip(square.slices_mut()) {
                    for (((p, g), mean), square) in p.iter_mut().zip(p_bar).zip(mean).zip(square) {
                        *mean = Self::MEAN * *mean + (1.0 - Self::MEAN) * g;
                        *square = Self::SQUARE * *square + (1.0 - Self::SQUARE) * g * g;
                        *p -= rate * (*mean * mean_scale) / ((*square * square_scale).sqrt() + 1e-8);
                    }
                }
            }
        }
    }
}

/// A network with its parameters and one batch.
struct Classifier<N: Network> {
    network: N,
    parameters: N::Parameters,
    images: N::Images,
    /// One row an image, with a weight at its digit.
    targets: Classes,
    logits: Classes,
}

impl<N: Network> Classifier<N> {
    /// Copies a batch in, each image as `seen` makes it. A program has one shape, so a batch of fewer images keeps it:
    /// rows that remain hold no image, and their targets no weight, so they add nothing to the loss or the gradient.
    /// The loss is a mean over all rows; the weights of the others make it one over the images.
    fn load(&mut self, digits: &Digits, batch: &[usize], mut seen: impl FnMut(&Image) -> Image) {
        self.images = Tensor::ZERO;
        self.targets = Tensor::ZERO;
        let rows = self.images.flat_mut().chunks_mut(PIXELS).zip(&mut self.targets);
        for ((pixels, target), &image) in rows.zip(batch) {
            pixels.copy_from_slice(&seen(&digits.images[image]));
            target[usize::from(digits.labels[image])] = BATCH as f32 / batch.len() as f32;
        }
    }

    /// Of the batch that [`load`](Self::load) has copied in, how many images have their greatest logit at the digit.
    fn hits(&mut self, digits: &Digits, batch: &[usize]) -> usize {
        self.network.logits(&self.parameters, &self.images, &mut self.logits);
        let best = |logits: &[f32; CLASSES]| (1..CLASSES).fold(0, |b, c| if logits[c] > logits[b] { c } else { b });
        let rows = batch.iter().zip(&self.logits);
        rows.filter(|(image, logits)| best(logits) == usize::from(digits.labels[**image])).count()
    }
}

/// A network under training, with every buffer that training needs.
pub struct Trainer<N: Network> {
    classifier: Classifier<N>,
    cotangents: N::Parameters,
    optimizer: Optimizer<N::Parameters>,
    order: [usize; MOST],
    random: Random,
}

impl<N: Network> Trainer<N> {
    /// A network with fresh weights.
    pub fn new(optimizer: Optimizer<N::Parameters>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Trainer {
            classifier: Classifier {
                network: N::NEW,
                parameters: N::start(&mut random),
                images: Tensor::ZERO,
                targets: Tensor::ZERO,
                logits: Tensor::ZERO,
            },
            cotangents: Parameters::ZERO,
            optimizer,
            order: std::array::from_fn(|n| n),
            random,
        }
    }

    /// Shows the network every image once, some moved by a pixel, in random order, and improves it after each batch of
    /// at most [`BATCH`]. `seen` is told how many images each batch had. Of more than [`MOST`] images it takes the
    /// first.
    pub fn epoch(&mut self, digits: &Digits, rate: f32, mut seen: impl FnMut(usize)) -> Epoch {
        let Trainer { classifier, cotangents, optimizer, order, random } = self;
        let images = digits.len().min(MOST);
        let order = &mut order[..images];
        random.shuffle(order);
        let (mut loss, mut hits) = (0.0, 0);
        for batch in order.chunks(BATCH) {
            classifier.load(digits, batch, |image| random.moved(image));
            hits += classifier.hits(digits, batch);
            let Classifier { network, parameters, images, targets, .. } = classifier;
            loss += batch.len() as f32 * network.value_and_grad(parameters, images, targets, cotangents);
            optimizer.update(parameters, cotangents, rate);
            seen(batch.len());
        }
        Epoch { loss: loss / images as f32, accuracy: hits as f32 / images as f32 }
    }

    /// The part of the images that the network recognises. Nothing is learnt.
    pub fn accuracy(&mut self, digits: &Digits) -> f32 {
        let mut hits = 0;
        for first in (0..digits.len()).step_by(BATCH) {
            let rows: [usize; BATCH] = std::array::from_fn(|row| first + row);
            let batch = &rows[..BATCH.min(digits.len() - first)];
            self.classifier.load(digits, batch, |image| *image);
            hits += self.classifier.hits(digits, batch);
        }
        hits as f32 / digits.len() as f32
    }
}
