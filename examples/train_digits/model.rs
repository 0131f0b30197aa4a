//! The network and its training: takes images and digits, gives better weights, by calls of generated kernels alone.
//!
//! ```text
//! step                                 kernel                                  shape
//! t1[n,k] = sum(j) x[n,j] * w1[j,k]    matmul::digits_hidden                   32x64 * 64x32
//! t2[n,k] = t1[n,k] + b1[k]            bias_add::digits_hidden                 32x32
//! t3[n,k] = tanh(t2[n,k])              tanh::digits_hidden                     32x32
//! t4[n,c] = sum(k) t3[n,k] * w2[k,c]   matmul::digits_logits                   32x32 * 32x10
//! t5[n,c] = t4[n,c] + b2[c]            bias_add::digits_logits                 32x10
//! y[n]    = cross entropy of t5        softmax_cross_entropy::digits           32
//! ```
//!
//! Every step has a kernel, every kernel a `forward` and a `vjp`. The backward sweep calls the `vjp` of each step, last step first: it takes the
//! cotangent of what the step wrote and gives the cotangents of what it read. The shapes stand in the types, so a matrix of the wrong
//! size, or a forgotten transposition, does not compile.
//!
//! Holds after it: nothing is allocated once a [`Trainer`] stands. All it needs are arrays of fixed size within it (`tests/no_alloc.rs` counts).

use crate::data::{CLASSES, Digits, Random};
use cotangent::Tensor;
use cotangent::kernels::{bias_add, matmul, softmax_cross_entropy, tanh};

/// Images that go through the network at once.
pub const BATCH: usize = 32;
/// Most images that a [`Trainer`] learns from: their order stands in an array.
pub const MOST: usize = 1797;

// A kernel names the types of its tensors as its formula names the tensors: `X`, `Y` and `Z` of `z[i,k] = sum(j) x[i,j] * y[j,k]`.
type Images = matmul::digits_hidden::X;
type Hidden = matmul::digits_hidden::Z;
type Logits = matmul::digits_logits::Z;
type Losses = softmax_cross_entropy::digits::Y;

/// All that is learnt: the weights and biases of both layers. Their cotangents and the averages of the optimizer have the same form.
#[derive(Clone, PartialEq)]
struct Parameters {
    w1: matmul::digits_hidden::Y,
    b1: bias_add::digits_hidden::B,
    w2: matmul::digits_logits::Y,
    b2: bias_add::digits_logits::B,
}

impl Parameters {
    const ZERO: Self = Parameters { w1: Tensor::ZERO, b1: Tensor::ZERO, w2: Tensor::ZERO, b2: Tensor::ZERO };

    /// Each tensor as one flat slice, whatever its rank.
    fn flat(&self) -> [&[f32]; 4] {
        [self.w1.flat(), self.b1.flat(), self.w2.flat(), self.b2.flat()]
    }

    fn flat_mut(&mut self) -> [&mut [f32]; 4] {
        [self.w1.flat_mut(), self.b1.flat_mut(), self.w2.flat_mut(), self.b2.flat_mut()]
    }
}

/// The result of every step for one batch, and its cotangent `t_bar`: the derivative of the batch's mean loss by it.
struct Steps {
    x: Images,
    t1: Hidden,
    t2: Hidden,
    t3: Hidden,
    t4: Logits,
    t5: Logits,
    /// One row an image, with a 1 at its digit.
    target: Logits,
    y: Losses,

    y_bar: Losses,
    t5_bar: Logits,
    t4_bar: Logits,
    t3_bar: Hidden,
    t2_bar: Hidden,
    t1_bar: Hidden,
}

impl Steps {
    const ZERO: Self = Steps {
        x: Tensor::ZERO,
        t1: Tensor::ZERO,
        t2: Tensor::ZERO,
        t3: Tensor::ZERO,
        t4: Tensor::ZERO,
        t5: Tensor::ZERO,
        target: Tensor::ZERO,
        y: Tensor::ZERO,
        y_bar: Tensor::ZERO,
        t5_bar: Tensor::ZERO,
        t4_bar: Tensor::ZERO,
        t3_bar: Tensor::ZERO,
        t2_bar: Tensor::ZERO,
        t1_bar: Tensor::ZERO,
    };

    /// Copies a batch in. A kernel has one shape, so a batch of fewer images keeps it: rows that remain hold no image, and weigh nothing.
    fn load(&mut self, digits: &Digits, batch: &[usize]) {
        self.x = Tensor::ZERO;
        self.target = Tensor::ZERO;
        self.y_bar = Tensor::ZERO;
        for (row, &image) in batch.iter().enumerate() {
            self.x[row] = digits.images[image];
            self.target[row][usize::from(digits.labels[image])] = 1.0;
            // The backward sweep begins here: the mean loss is `sum(n) y[n] / images`, so its derivative by each `y[n]` is this. A row
            // without an image keeps the cotangent zero. All that the sweep makes of it is a multiple of it, and zero.
            self.y_bar[row] = 1.0 / batch.len() as f32;
        }
    }

    /// The six steps, in order. Each kernel reads its arguments by reference and writes the last.
    fn forward(&mut self, p: &Parameters) {
        matmul::digits_hidden::forward(&self.x, &p.w1, &mut self.t1);
        bias_add::digits_hidden::forward(&self.t1, &p.b1, &mut self.t2);
        tanh::digits_hidden::forward(&self.t2, &mut self.t3);
        matmul::digits_logits::forward(&self.t3, &p.w2, &mut self.t4);
        bias_add::digits_logits::forward(&self.t4, &p.b2, &mut self.t5);
        softmax_cross_entropy::digits::forward(&self.t5, &self.target, &mut self.y);
    }

    /// The same steps, last first. `vjp` adds to a cotangent, as `dt4 += dt5 * t2` does in the scalar case; `vjp_store` is the same where the
    /// contribution is the first one, and here every tensor is used once, so none needs to be set to zero before.
    fn backward(&mut self, p: &Parameters, p_bar: &mut Parameters) {
        // `vjp_x`: the cotangent of the logits alone; the targets are given, and nobody asks for theirs.
        softmax_cross_entropy::digits::vjp_x_store(&self.t5, &self.target, &self.y_bar, &mut self.t5_bar);
        // An addition hands its cotangent on; the bias, which every row used, gets the sum over the rows. No value is read.
        bias_add::digits_logits::vjp_store(&self.t5_bar, &mut self.t4_bar, &mut p_bar.b2);
        // A product hands each factor the cotangent times the other factor.
        matmul::digits_logits::vjp_store(&self.t3, &p.w2, &self.t4_bar, &mut self.t3_bar, &mut p_bar.w2);
        // tanh' = 1 - tanh^2, so this one reads the output `t3`, and `t2` could have been forgotten.
        tanh::digits_hidden::vjp_store(&self.t3, &self.t3_bar, &mut self.t2_bar);
        bias_add::digits_hidden::vjp_store(&self.t2_bar, &mut self.t1_bar, &mut p_bar.b1);
        // The images are not learnt: `vjp_y` leaves their cotangent out, and half of the work with it.
        matmul::digits_hidden::vjp_y_store(&self.x, &self.t1_bar, &mut p_bar.w1);
    }

    /// How many rows of the batch have their greatest logit at the digit.
    fn hits(&self, digits: &Digits, batch: &[usize]) -> usize {
        let best = |logits: &[f32; CLASSES]| (1..CLASSES).fold(0, |b, c| if logits[c] > logits[b] { c } else { b });
        batch.iter().zip(&self.t5).filter(|(image, logits)| best(logits) == usize::from(digits.labels[**image])).count()
    }
}

/// What an epoch gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Mean loss of the images, in nats, each taken when its batch was met.
    pub loss: f32,
    /// The part of the images that were recognised then.
    pub accuracy: f32,
}

/// Adam (Kingma and Ba, 2014) with its usual constants.
struct Adam {
    mean: Parameters,
    square: Parameters,
    /// `0.9^t` and `0.999^t` after `t` updates: how much of the averages is still their zero at the start.
    mean_left: f32,
    square_left: f32,
}

impl Adam {
    const MEAN: f32 = 0.9;
    const SQUARE: f32 = 0.999;

    /// One step down the gradient, element by element. The formula is the same for every tensor, so it runs over their flat slices.
    fn update(&mut self, p: &mut Parameters, p_bar: &Parameters, rate: f32) {
        self.mean_left *= Self::MEAN;
        self.square_left *= Self::SQUARE;
        let (mean_scale, square_scale) = (1.0 / (1.0 - self.mean_left), 1.0 / (1.0 - self.square_left));
        let tensors = p.flat_mut().into_iter().zip(p_bar.flat());
        let averages = self.mean.flat_mut().into_iter().zip(self.square.flat_mut());
        for ((p, p_bar), (mean, square)) in tensors.zip(averages) {
            for (((p, g), mean), square) in p.iter_mut().zip(p_bar).zip(mean).zip(square) {
                *mean = Self::MEAN * *mean + (1.0 - Self::MEAN) * g;
                *square = Self::SQUARE * *square + (1.0 - Self::SQUARE) * g * g;
                *p -= rate * (*mean * mean_scale) / ((*square * square_scale).sqrt() + 1e-8);
            }
        }
    }
}

/// A network under training, with every buffer that training needs.
pub struct Trainer {
    parameters: Parameters,
    cotangents: Parameters,
    adam: Adam,
    steps: Steps,
    order: [usize; MOST],
    random: Random,
}

impl Trainer {
    /// Fresh weights, evenly random, as wide as keeps the spread of the sums (Glorot and Bengio, 2010); biases are zero.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut parameters = Parameters::ZERO;
        let mut fill = |weights: &mut [f32], inputs: usize, outputs: usize| {
            let bound = (6.0 / (inputs + outputs) as f32).sqrt();
            weights.iter_mut().for_each(|w| *w = bound * random.symmetric());
        };
        let (inputs, hidden) = (parameters.w1.len(), parameters.w2.len());
        fill(parameters.w1.flat_mut(), inputs, hidden);
        fill(parameters.w2.flat_mut(), hidden, CLASSES);
        Trainer {
            parameters,
            cotangents: Parameters::ZERO,
            adam: Adam { mean: Parameters::ZERO, square: Parameters::ZERO, mean_left: 1.0, square_left: 1.0 },
            steps: Steps::ZERO,
            order: std::array::from_fn(|n| n),
            random,
        }
    }

    /// Shows the network every image once, in random order, and improves it after each batch of at most [`BATCH`]. `seen` is told how many images
    /// each batch had. Of more than [`MOST`] images it takes the first.
    pub fn epoch(&mut self, digits: &Digits, rate: f32, mut seen: impl FnMut(usize)) -> Epoch {
        let Trainer { parameters, cotangents, adam, steps, order, random } = self;
        let images = digits.len().min(MOST);
        let order = &mut order[..images];
        random.shuffle(order);
        let (mut loss, mut hits) = (0.0, 0);
        for batch in order.chunks(BATCH) {
            steps.load(digits, batch);
            steps.forward(parameters);
            steps.backward(parameters, cotangents);
            adam.update(parameters, cotangents, rate);
            loss += steps.y[..batch.len()].iter().sum::<f32>();
            hits += steps.hits(digits, batch);
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
            self.steps.load(digits, batch);
            self.steps.forward(&self.parameters);
            hits += self.steps.hits(digits, batch);
        }
        hits as f32 / digits.len() as f32
    }
}
