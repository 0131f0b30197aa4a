//! Every instance of `instances/`, as `tests/kernels.rs` has the bundled ones: against the loops of its spec, and what
//! those cannot tell; and as `tests/ndarray.rs` has them, on arrays of `ndarray` (`tests/support/arrays.rs`), and on
//! numbers, which are no arrays. One program: both compile the same kernels.

#[path = "../../support/arrays.rs"]
mod arrays;
#[path = "../../support/checks.rs"]
mod checks;
#[path = "../../support/counting.rs"]
mod counting;
#[path = "../../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use cotangent_reference::instances::matmul::inner_100 as inner;
use ndarray::Array1;

cotangent::test_kernels!(cotangent_reference::instances, concat!(env!("OUT_DIR"), "/instances/test.mod.rs"));

cotangent_reference::instances::for_each_kernel!(kernel_list);

cotangent_reference::instances::for_each_kernel!(calls);

#[test]
fn numbers_are_numbers() {
    let v = Array1::from_elem(100, 0.5);
    let mut sum = 0.0;
    inner::nd::forward(&v, &v, &mut sum).unwrap();
    assert_eq!(sum, 25.0);
    let mut v_bar = Array1::ones(100);
    inner::nd::vjp_x(&v, &2.0, &mut v_bar).unwrap();
    assert_eq!(v_bar, Array1::from_elem(100, 2.0));
}
