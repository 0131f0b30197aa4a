//! The networks of the example and their images: `ops/` names the programs and the sizes, the compiler makes
//! [`kernels`], [`model`] trains with them.

pub mod data;
pub mod model;

/// What the compiler made of `ops/`.
pub mod kernels {
    cotangent::include_kernels!();
}
