//! `tests/reference/tests/instances.rs`, for the lists that this package compiles.

#[path = "../../../tests/support/checks.rs"]
mod checks;
#[path = "../../../tests/support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

cotangent::test_kernels!(aarch64::instances, concat!(env!("OUT_DIR"), "/instances/test.mod.rs"));

aarch64::instances::for_each_kernel!(kernel_list);
