//! The regression: takes images and digits, gives the mean loss over all of them as a function of the weights, by
//! generated functions.
//!
//! Holds after it: the images stand once, on the heap, in the form that the program wants; calls allocate nothing.

use crate::data::Digits;
use crate::kernels::softmax_regression::digits;
use crate::newton::Objective;
use cotangent::Tensor;

/// All that is learnt.
pub type Weights = digits::Parameters;

/// The regression on all images at once, and the memory that it works in.
pub struct Regression {
    x: Box<digits::X>,
    t: Box<digits::T>,
    gradient: Box<digits::value_and_grad::Workspace>,
    product: Box<digits::hvp::Workspace>,
}

impl Regression {
    /// All of those images, each as likely as another.
    ///
    /// # Panics
    ///
    /// If they are not as many as the program's batch.
    pub fn new(train: &Digits) -> Self {
        let (mut x, mut t) = (digits::X::zeros(), digits::T::zeros());
        assert_eq!(train.len(), x.len(), "the program has one size, that of the training set");
        for ((x, t), (image, label)) in x.iter_mut().zip(t.iter_mut()).zip(train.images.iter().zip(&train.labels)) {
            *x = image.map(f64::from);
            t[usize::from(*label)] = 1.0;
        }
        Regression { x, t, gradient: Box::default(), product: Box::default() }
    }
}

impl Objective for Regression {
    type Parameters = Weights;

    fn value_and_grad(&mut self, p: &Weights, p_bar: &mut Weights) -> f64 {
        let mut loss = 0.0;
        p.value_and_grad(&self.x, &self.t, &mut loss, p_bar, &mut self.gradient);
        loss
    }

    fn hvp(&mut self, p: &Weights, p_dot: &Weights, p_bar_dot: &mut Weights) {
        p.hvp(&self.x, &self.t, p_dot, p_bar_dot, &mut self.product);
    }
}
