//! The regression of the example and the methods that fit it: `ops/` names the program and the sizes, the compiler
//! makes [`kernels`].

#[path = "../../train_digits/src/data.rs"]
pub mod data;
pub mod newton;
pub mod regression;

/// What the compiler made of `ops/`.
pub mod kernels {
    cotangent::include_kernels!();
}
