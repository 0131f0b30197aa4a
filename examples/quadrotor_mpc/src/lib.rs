//! The controller of the example and what it flies: `ops/` names the dynamics, the compiler makes [`kernels`], their
//! Jacobians among them.

pub mod controller;
pub mod flight;

/// What the compiler made of `ops/`.
pub mod kernels {
    cotangent::include_kernels!();
}
