//! Cotangent: derivatives compiled ahead of time.
//!
//! An op is a YAML file: its forward formula and its adjoint in index notation over named axes. The build script checks
//! it, certifies that the adjoint is the transpose of the formula's derivative, specialises it to fixed shapes and
//! renders Rust. This crate is what generated code stands on ([`math`], [`Lanes`], [`Tensor`], [`KernelInfo`]) and,
//! with the feature `bundled`, the kernels of the bundled ops (`kernels`).
//!
#![cfg_attr(feature = "bundled", doc = "```")]
#![cfg_attr(not(feature = "bundled"), doc = "```text")]
//! use cotangent::kernels::matmul::digits_logits as dense;
//! use cotangent::Tensor;
//!
//! let (x, y) = (dense::X::ZERO, dense::Y::ZERO);
//! let mut z = dense::Z::ZERO;
//! dense::forward(&x, &y, &mut z);
//! assert_eq!(z, dense::Z::ZERO);
//! ```
//!
//! A loop over small kernels, with the instructions of the machine, asked for once ([`isa`]):
//!
#![cfg_attr(feature = "bundled", doc = "```")]
#![cfg_attr(not(feature = "bundled"), doc = "```text")]
//! use cotangent::isa::{self, Body, Isa};
//! use cotangent::kernels::quadratic_scalar::scalar_f32 as kernel;
//!
//! struct Each<'a> {
//!     x: &'a [kernel::X],
//!     y: &'a mut [kernel::Y],
//! }
//!
//! impl Body for Each<'_> {
//!     #[inline(always)]
//!     fn run<I: Isa>(self, isa: I) {
//!         for (x, y) in self.x.iter().zip(self.y) {
//!             kernel::forward_with(isa, x, &2.0, &3.0, y);
//!         }
//!     }
//! }
//!
//! let mut y = [0.0; 1000];
//! isa::dispatch(Each { x: &[1.0; 1000], y: &mut y });
//! assert_eq!(y, [12.0; 1000]);
//! ```
//!
//! `no_std`, no allocation: the feature `std` (on by default) adds heap-allocated zeros, [`Tensor::zeros`], and the choice of the
//! instruction set at run time ([`isa`]).
#![no_std]
#![deny(missing_docs)]

#[cfg(feature = "ndarray")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

// Generated code names the crate by its name, here as everywhere.
extern crate self as cotangent;

mod functions;
#[allow(unsafe_code, reason = "the audited module")]
pub mod isa;
mod kernel;
pub mod lanes;
pub mod math;
#[cfg(feature = "ndarray")]
pub mod ndarray;
pub mod parameters;
pub mod pool;
pub mod real;
pub mod tensor;
pub mod workspace;

pub use kernel::{Domain, FunctionInfo, KernelInfo, Kind, Role, Scalar, Scratch, StepInfo, TensorInfo};
pub use lanes::Lanes;
pub use parameters::Parameters;
pub use pool::Pool;
pub use real::Real;
pub use tensor::Tensor;
pub use workspace::Workspace;

/// The kernels of the bundled ops, a module an op, a module in it for each instance.
#[cfg(feature = "bundled")]
pub mod kernels {
    crate::include_kernels!();
}

/// Includes the kernels that the build script compiled, where it stands: by default in `mod kernels` at the root of the
/// crate.
#[macro_export]
macro_rules! include_kernels {
    () => {
        include!(concat!(env!("OUT_DIR"), "/cotangent/mod.rs"));
    };
}

/// Tests every kernel that the build script compiled against plain loops, under every instruction set of the machine.
/// One line in a file of tests:
///
/// ```text
/// cotangent::test_kernels!(my_crate::kernels);
/// ```
///
/// The loops come straight from the formulas of the specs, on a way of their own: no schedule, no lanes, sums in `f64`.
/// Each function of each kernel is run at random points, at kinks and ties, at zeros of both signs, subnormal and huge
/// numbers, infinities and NaN; what it writes is compared element by element, within the rounding of just the
/// operations that lead to it. Tangents and adjoints are each other's transpose, what stores does so whatever was
/// there, what adds adds, `jvp` gives the bits of `forward`. Each kernel is a test of its own, so `cargo test conv`
/// runs those of `conv`. A failure tells the function, the instruction set, the element and both values.
///
/// | form | kernels, and where the build script wrote the loops |
/// | --- | --- |
/// | `test_kernels!()` | `crate::kernels`, for tests within the library |
/// | `test_kernels!(path)` | a module of any crate, `$OUT_DIR/cotangent/test.mod.rs` |
/// | `test_kernels!(path, file)` | another set of the crate: `test_kernels!(my_crate::fast, concat!(env!("OUT_DIR"), "/fast/test.mod.rs"))` |
///
/// It makes a module `kernels_as_loops`; two sets stand in two modules. Nothing of it is compiled but in tests, and
/// nothing is needed but `std`. The environment variable `COTANGENT_TEST_SEED=n` draws other points. Other sets than
/// the build's own are there where the crate `cotangent` has its feature `std`.
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "the kernels of the crate that calls the macro")]
macro_rules! test_kernels {
    () => {
        $crate::test_kernels!(crate::kernels);
    };
    ($kernels:path) => {
        $crate::test_kernels!($kernels, concat!(env!("OUT_DIR"), "/cotangent/test.mod.rs"));
    };
    ($kernels:path, $file:expr) => {
        #[cfg(test)]
        #[allow(warnings, clippy::all, clippy::pedantic)]
        mod kernels_as_loops {
            use $kernels as kernels;
            include!($file);
        }
    };
}
