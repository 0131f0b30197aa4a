//! Kernels for tests: takes nothing, gives the bundled and the test-only ops at the sizes of the reference values.

pub mod kernels {
    //! A module an op, a module in it for each case and scalar type.
    cotangent::include_kernels!();
}
