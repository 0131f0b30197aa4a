//! Models of the programs: takes their inputs by name and the extents of their axes, gives their outputs by name, by
//! plain loops over numbers that may be dual. They owe nothing to the compiler but the names.
//!
//! Holds for each: tensors are row-major in the order in which the spec declares their axes, and so is what it gives.

pub mod arm;
pub mod attention;
pub mod bundle;
pub mod cnn;
pub mod cnn_logits;
pub mod gmm;
pub mod gru;
pub mod layers;
pub mod lenet;
pub mod lenet_logits;
pub mod lstm;
pub mod mlp;
pub mod mlp_logits;
pub mod mlp_tiny;
pub mod quadrotor;
pub mod quadrotor_step;
pub mod rosenbrock;
pub mod scalar;
pub mod softmax_regression;

use cotangent::{KernelInfo, Role};
use num_dual::{Dual64, DualNum, HyperDual64};
use std::collections::BTreeMap;

/// What a model computes with: `f64`, dual and hyper-dual numbers.
pub trait Number: DualNum<Primitive = f64> + Copy {}

impl<T: DualNum<Primitive = f64> + Copy> Number for T {}

/// Inputs and extents.
pub struct Point<'a, D> {
    info: &'a KernelInfo,
    tensors: BTreeMap<&'static str, Vec<D>>,
}

/// Outputs by name.
pub type Outputs<D> = BTreeMap<&'static str, Vec<D>>;

impl<'a, D: Number> Point<'a, D> {
    /// Of the inputs of a kernel.
    pub fn new(info: &'a KernelInfo, tensor: impl Fn(&str) -> Vec<D>) -> Self {
        let inputs = info.tensors.iter().filter(|t| t.role == Role::Input);
        Point { info, tensors: inputs.map(|t| (t.name, tensor(t.name))).collect() }
    }

    /// The elements of an input.
    pub fn get(&self, name: &str) -> &[D] {
        &self.tensors[name]
    }

    /// An input without axes.
    pub fn one(&self, name: &str) -> D {
        self.get(name)[0]
    }

    /// The extents of an axis.
    pub fn extents(&self, axis: &str) -> &'static [usize] {
        let found = self.info.axes.iter().find(|(name, _)| *name == axis);
        found.unwrap_or_else(|| panic!("no axis {axis}")).1
    }

    /// The number of coordinates of an axis.
    pub fn size(&self, axis: &str) -> usize {
        self.extents(axis).iter().product()
    }
}

/// A constant.
pub fn real<D: Number>(v: f64) -> D {
    D::from(v)
}

/// Zeros.
pub fn zeros<D: Number>(n: usize) -> Vec<D> {
    vec![real(0.0); n]
}

/// The model of a program over each kind of numbers, and where it is compared.
pub struct Model {
    /// The program.
    pub program: &'static str,
    /// The value.
    pub real: fn(&Point<f64>) -> Outputs<f64>,
    /// First derivatives along one direction.
    pub dual: fn(&Point<Dual64>) -> Outputs<Dual64>,
    /// Second derivatives along two.
    pub hyper: fn(&Point<HyperDual64>) -> Outputs<HyperDual64>,
    /// The interval that an input's elements are drawn from.
    pub range: fn(&str) -> (f64, f64),
    /// The number of points.
    pub draws: usize,
    /// Makes an input of some points special.
    pub at: fn(usize, &str, &mut [f64]),
}

impl Model {
    const fn among(self, range: fn(&str) -> (f64, f64)) -> Self {
        Model { range, ..self }
    }

    const fn at(self, draws: usize, at: fn(usize, &str, &mut [f64])) -> Self {
        Model { draws, at, ..self }
    }
}

macro_rules! model {
    ($program:ident) => {
        Model {
            program: stringify!($program),
            real: $program::model::<f64>,
            dual: $program::model::<Dual64>,
            hyper: $program::model::<HyperDual64>,
            range: |_| (-1.0, 1.0),
            draws: 2,
            at: |_, _, _| {},
        }
    };
}

/// One for each program.
pub const MODELS: &[Model] = &[
    model!(arm).among(|_| (-3.2, 3.2)),
    model!(attention),
    model!(bundle).among(bundle::range).at(4, bundle::at),
    model!(cnn).among(layers::range),
    model!(cnn_logits).among(layers::range),
    model!(gmm),
    model!(gru).among(layers::range),
    model!(lenet).among(layers::range),
    model!(lenet_logits).among(layers::range),
    model!(lstm).among(layers::range),
    model!(mlp).among(layers::range),
    model!(mlp_logits).among(layers::range),
    model!(mlp_tiny),
    Model { program: "mlp_tiny_input", ..model!(mlp_tiny) },
    model!(quadrotor),
    model!(quadrotor_step).among(quadrotor_step::range),
    model!(rosenbrock).among(|_| (-2.0, 2.0)),
    model!(scalar),
    model!(softmax_regression).among(layers::range),
];
