//! A second package with a build script: its kernels in `nn`, under a prefix, in `f64`.
#![deny(warnings)]

pub mod nn {
    //! The layers.
    cotangent::include_kernels!();
}
