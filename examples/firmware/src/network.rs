//! The smaller network of `examples/train_digits`, 64 pixels, 32 neurons, 10 digits, by calls of kernels, for a device:
//! gradient descent without averages, images read from flash batch by batch.

use cotangent::Tensor;
use cotangent::kernels::{bias_add, matmul, softmax_cross_entropy, tanh};

/// Images that go through the network at once: the kernels' first axis.
const BATCH: usize = 32;
/// Of an image, in front of its digit.
const PIXELS: usize = 64;

type Images = matmul::digits_hidden::X;
type Hidden = matmul::digits_hidden::Z;
type Logits = matmul::digits_logits::Z;
type Losses = softmax_cross_entropy::digits::Y;

/// Images and their digits, as they stand in flash.
pub struct Digits {
    pub images: &'static [[u8; PIXELS + 1]],
    /// One in so many is not learnt from.
    pub held_out: usize,
}

impl Digits {
    /// Those to learn from, or those held out.
    fn part(&self, held_out: bool) -> impl Iterator<Item = &'static [u8; PIXELS + 1]> {
        let every = self.held_out;
        self.images.iter().enumerate().filter(move |(n, _)| n.is_multiple_of(every) == held_out).map(|(_, image)| image)
    }
}

/// What is learnt, or its cotangent.
struct Parameters {
    w1: matmul::digits_hidden::Y,
    b1: bias_add::digits_hidden::B,
    w2: matmul::digits_logits::Y,
    b2: bias_add::digits_logits::B,
}

impl Parameters {
    const ZERO: Self = Parameters { w1: Tensor::ZERO, b1: Tensor::ZERO, w2: Tensor::ZERO, b2: Tensor::ZERO };

    fn flat_mut(&mut self) -> [&mut [f32]; 4] {
        [self.w1.flat_mut(), self.b1.flat_mut(), self.w2.flat_mut(), self.b2.flat_mut()]
    }
}

/// All memory that training needs.
pub struct Network {
    p: Parameters,
    p_bar: Parameters,
    x: Images,
    target: Logits,
    t1: Hidden,
    t2: Hidden,
    t3: Hidden,
    t4: Logits,
    t5: Logits,
    y: Losses,
    y_bar: Losses,
    t5_bar: Logits,
    t4_bar: Logits,
    t3_bar: Hidden,
    t2_bar: Hidden,
    t1_bar: Hidden,
}

impl Network {
    /// Nothing learnt and nothing seen.
    pub const ZERO: Self = Network {
        p: Parameters::ZERO,
        p_bar: Parameters::ZERO,
        x: Tensor::ZERO,
        target: Tensor::ZERO,
        t1: Tensor::ZERO,
        t2: Tensor::ZERO,
        t3: Tensor::ZERO,
        t4: Tensor::ZERO,
        t5: Tensor::ZERO,
        y: Tensor::ZERO,
        y_bar: Tensor::ZERO,
        t5_bar: Tensor::ZERO,
        t4_bar: Tensor::ZERO,
        t3_bar: Tensor::ZERO,
        t2_bar: Tensor::ZERO,
        t1_bar: Tensor::ZERO,
    };

    /// Random weights: xorshift (Marsaglia, 2003), as wide as Glorot and Bengio (2010) advise; the square roots are of
    /// 6/96 and 6/42.
    pub fn start(&mut self) {
        let mut state = 0x2545_f491_u32;
        let mut fill = |weights: &mut [f32], bound: f32| {
            for w in weights {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                *w = bound * ((state >> 8) as f32 / 8_388_608.0 - 1.0);
            }
        };
        fill(self.p.w1.flat_mut(), 0.25);
        fill(self.p.w2.flat_mut(), 0.378);
    }

    /// Takes the next batch in; rows that remain hold no image, and weigh nothing. Gives the number of images.
    fn load(&mut self, from: &mut impl Iterator<Item = &'static [u8; PIXELS + 1]>) -> usize {
        (self.x, self.target, self.y_bar) = (Tensor::ZERO, Tensor::ZERO, Tensor::ZERO);
        let mut images = 0;
        for ((row, target), [pixels @ .., digit]) in self.x.iter_mut().zip(&mut self.target).zip(from) {
            row.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = f32::from(*pixel) / 16.0);
            target.iter_mut().zip(0..).for_each(|(to, class)| *to = f32::from(u8::from(class == *digit)));
            images += 1;
        }
        self.y_bar.iter_mut().take(images).for_each(|y_bar| *y_bar = 1.0 / images as f32);
        images
    }

    fn forward(&mut self) {
        matmul::digits_hidden::forward(&self.x, &self.p.w1, &mut self.t1);
        bias_add::digits_hidden::forward(&self.t1, &self.p.b1, &mut self.t2);
        tanh::digits_hidden::forward(&self.t2, &mut self.t3);
        matmul::digits_logits::forward(&self.t3, &self.p.w2, &mut self.t4);
        bias_add::digits_logits::forward(&self.t4, &self.p.b2, &mut self.t5);
        softmax_cross_entropy::digits::forward(&self.t5, &self.target, &mut self.y);
    }

    fn backward(&mut self) {
        softmax_cross_entropy::digits::vjp_x_store(&self.t5, &self.target, &self.y_bar, &mut self.t5_bar);
        bias_add::digits_logits::vjp_store(&self.t5_bar, &mut self.t4_bar, &mut self.p_bar.b2);
        matmul::digits_logits::vjp_store(&self.t3, &self.p.w2, &self.t4_bar, &mut self.t3_bar, &mut self.p_bar.w2);
        tanh::digits_hidden::vjp_store(&self.t3, &self.t3_bar, &mut self.t2_bar);
        bias_add::digits_hidden::vjp_store(&self.t2_bar, &mut self.t1_bar, &mut self.p_bar.b1);
        matmul::digits_hidden::vjp_y_store(&self.x, &self.t1_bar, &mut self.p_bar.w1);
    }

    /// Learns from every image once, in steps of `rate`; gives the mean loss, each image's taken when it was met.
    pub fn epoch(&mut self, digits: &Digits, rate: f32) -> f32 {
        let mut left = digits.part(false);
        let (mut loss, mut seen) = (0.0, 0);
        loop {
            let images = self.load(&mut left);
            if images == 0 {
                return loss / seen as f32;
            }
            self.forward();
            self.backward();
            for (p, p_bar) in self.p.flat_mut().into_iter().zip(self.p_bar.flat_mut()) {
                p.iter_mut().zip(p_bar).for_each(|(p, p_bar)| *p -= rate * *p_bar);
            }
            loss += self.y.iter().take(images).sum::<f32>();
            seen += images;
        }
    }

    /// The part of the images held out whose digit has the greatest logit.
    pub fn accuracy(&mut self, digits: &Digits) -> f32 {
        let mut left = digits.part(true);
        let (mut hits, mut seen) = (0, 0);
        loop {
            let images = self.load(&mut left);
            if images == 0 {
                return hits as f32 / seen as f32;
            }
            self.forward();
            let greatest = |row: &[f32; 10]| row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            for (logits, target) in self.t5.iter().zip(&self.target).take(images) {
                let most = greatest(logits);
                hits += usize::from(logits.iter().zip(target).any(|(x, t)| *x == most && *t == 1.0));
            }
            seen += images;
        }
    }
}

const _: () = assert!(Images::LEN == BATCH * PIXELS);
