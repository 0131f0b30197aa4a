//! The portable kernels against the formulas of their specs. Those of `kernels` have this line in the library.

cotangent::test_kernels!(downstream::portable, concat!(env!("OUT_DIR"), "/portable/test.mod.rs"));
