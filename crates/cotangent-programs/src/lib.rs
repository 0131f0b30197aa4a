//! The programs that ship with Cotangent, at the sizes of their specs: a module a program, a module in it for each
//! instance. A program of one's own sizes is two lines in one's own crate, `use: mlp` and `instances: [...]`.
//!
//! `no_std`, no allocation: what a program keeps between its steps stands in a [`cotangent::Workspace`] that the caller
//! provides.
//!
//! ```
//! use cotangent::{Parameters, Tensor};
//! use cotangent_programs::mlp::digits as mlp;
//! use std::sync::Mutex;
//!
//! static WORKSPACE: Mutex<mlp::value_and_grad::Workspace> = Mutex::new(mlp::value_and_grad::Workspace::new());
//!
//! let (mut x, mut t) = (mlp::X::ZERO, mlp::T::ZERO);
//! for (n, (x, t)) in x.iter_mut().zip(&mut t).enumerate() {
//!     (x[n], t[n % 10]) = (1.0, 1.0);
//! }
//! let (mut parameters, mut gradient) = (mlp::Parameters::ZERO, mlp::Parameters::ZERO);
//! let mut losses = [0.0; 20];
//! for loss in &mut losses {
//!     parameters.value_and_grad(&x, &t, loss, &mut gradient, &mut WORKSPACE.lock().unwrap());
//!     for (p, g) in parameters.slices_mut().zip(gradient.slices()) {
//!         p.iter_mut().zip(g).for_each(|(p, g)| *p -= 0.1 * g);
//!     }
//! }
//! assert!(losses.is_sorted_by(|a, b| a > b));
//! ```
#![no_std]
// All of it is generated, by the templates of the kernels in `cotangent`, where the lints see what they make.
#![allow(clippy::all)]

cotangent::include_kernels!();
