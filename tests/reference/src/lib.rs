//! Kernels for tests: takes nothing, gives the bundled and the test-only ops at the sizes of the reference values and
//! at edges, and the bundled ops at further sizes.

pub mod kernels {
    //! A module an op, a module in it for each case and scalar type.
    cotangent::include_kernels!();
}

pub mod instances {
    //! A module an op, a module in it for each instance of `instances/`.
    include!(concat!(env!("OUT_DIR"), "/instances/mod.rs"));
}
