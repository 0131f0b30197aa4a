//! Peers: takes a function of a program and its inputs, gives what else computes the same: chains of `ndarray` calls by
//! hand, `num-dual`, plain Rust.

mod attention;
mod classifier;
mod dual;
mod recurrent;

use crate::subject::Tensors;
use cotangent::{FunctionInfo, KernelInfo, Scalar};
use cotangent_measure::{Contestant, Number};
use ndarray::{Array, ArrayBase, Data, Dimension, IntoDimension, NdFloat};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

/// The scalar types, with what `ndarray` asks of them.
pub trait Element: Number + NdFloat {}
impl Element for f32 {}
impl Element for f64 {}

/// What a peer writes, by our names.
pub type Results = BTreeMap<String, Vec<f64>>;

/// Another that computes what a function does.
pub struct Peer {
    /// What it computed in one call.
    pub results: Results,
    /// It, to be timed.
    pub contestant: Contestant<'static, ()>,
}

impl Peer {
    /// From one call, over data and buffers that it may use again.
    fn new<I: 'static, O: 'static>(
        name: &'static str,
        input: I,
        mut output: O,
        f: impl Fn(&I, &mut O) + 'static,
        results: impl Fn(&O) -> Results,
    ) -> Peer {
        f(&input, &mut output);
        let results = results(&output);
        let output = RefCell::new(output);
        let contestant = Contestant::timed(name, move |_: &mut (), calls: u64| {
            let output = &mut *output.borrow_mut();
            let start = Instant::now();
            for _ in 0..calls {
                f(black_box(&input), black_box(&mut *output));
            }
            start.elapsed()
        });
        Peer { results, contestant }
    }
}

/// The peers of a function.
pub fn of(kernel: &'static KernelInfo, function: &FunctionInfo, inputs: &Tensors) -> Vec<Peer> {
    let mut all = match kernel.scalar {
        Scalar::F32 => with_arrays::<f32>(kernel, function, inputs),
        Scalar::F64 => with_arrays::<f64>(kernel, function, inputs),
    };
    all.extend(dual::peers(kernel, function, inputs));
    all
}

fn with_arrays<S: Element>(kernel: &'static KernelInfo, function: &FunctionInfo, inputs: &Tensors) -> Vec<Peer> {
    let given = Given::<S> { kernel, inputs, scalar: std::marker::PhantomData };
    let peer = match kernel.op {
        "mlp" | "cnn" | "lenet" => classifier::peer(given, function.name),
        "attention" => attention::peer(given, function.name),
        "gru" => recurrent::gru(given, function.name),
        "lstm" => recurrent::lstm(given, function.name),
        _ => None,
    };
    peer.into_iter().collect()
}

/// A function's inputs as arrays.
#[derive(Clone, Copy)]
struct Given<'a, S> {
    kernel: &'static KernelInfo,
    inputs: &'a Tensors,
    scalar: std::marker::PhantomData<S>,
}

impl<S: Element> Given<'_, S> {
    /// The extents of an axis.
    fn axis(&self, name: &str) -> &'static [usize] {
        let axis = self.kernel.axes.iter().find(|(axis, _)| *axis == name);
        axis.unwrap_or_else(|| panic!("{} has no axis {name}", self.kernel.op)).1
    }

    /// The number of points of axes.
    fn size(&self, names: &[&str]) -> usize {
        names.iter().flat_map(|name| self.axis(name)).product()
    }

    /// An argument, reshaped.
    fn array<E: IntoDimension>(&self, name: &str, shape: E) -> Array<S, E::Dim> {
        let elements = self.inputs[name].iter().map(|x| S::of(*x)).collect();
        Array::from_shape_vec(shape.into_dimension(), elements).expect("as many elements as the axes have")
    }
}

/// All elements, in order.
fn numbers<S: Element, D: Dimension>(array: &ArrayBase<impl Data<Elem = S>, D>) -> Vec<f64> {
    array.iter().map(|x| x.wide()).collect()
}
