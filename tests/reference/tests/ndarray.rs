//! Every instance of `instances/` on arrays of `ndarray` (`tests/support/arrays.rs`), and numbers, which are no arrays.

#[path = "../../support/arrays.rs"]
mod arrays;
#[path = "../../support/counting.rs"]
mod counting;
#[path = "../../support/mod.rs"]
#[expect(dead_code, reason = "the calls here are others")]
mod support;

use cotangent_reference::instances::matmul::inner_100 as inner;
use ndarray::Array1;

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
