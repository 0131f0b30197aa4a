//! Every instance of `instances/`, as `tests/kernels.rs` has the bundled ones: against the loops of its spec, and what
//! those cannot tell.

#[path = "../../support/checks.rs"]
mod checks;
#[path = "../../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

cotangent::test_kernels!(cotangent_reference::instances, concat!(env!("OUT_DIR"), "/instances/test.mod.rs"));

cotangent_reference::instances::for_each_kernel!(kernel_list);
