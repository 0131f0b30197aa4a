//! Every bundled kernel: against the loops of its spec, by the line that any crate tests its kernels with; and what
//! those loops cannot tell (`support/checks.rs`). Instances that only tests use have the same in `tests/reference`.

#[path = "support/checks.rs"]
mod checks;
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

cotangent::test_kernels!(cotangent::kernels);

cotangent::kernels::for_each_kernel!(kernel_list);
