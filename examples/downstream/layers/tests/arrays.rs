//! Kernels of this crate on arrays of `ndarray`: the layouts that fit, those that do not, and shapes that cannot.

use cotangent::ndarray::Misfit;
use downstream_layers::nn::my_matmul::small::nd;
use ndarray::{array, s, Array2};

#[test]
fn views_of_any_layout() {
    let wide = array![[9.0, 1.0, 2.0], [9.0, 3.0, 4.0], [9.0, 5.0, 6.0]];
    let y = array![[10.0], [1.0]];
    let mut z = Array2::zeros((3, 1));
    // Columns of a wider array are no standard layout: copied.
    nd::forward(&wide.slice(s![.., 1..]), &y, &mut z).expect("the shapes fit");
    assert_eq!(z, array![[12.0], [34.0], [56.0]]);
    let strict = nd::strict::forward(&wide.slice(s![.., 1..]), &y, &mut z);
    assert!(matches!(strict, Err(Misfit::Layout { argument: "x", .. })), "{strict:?}");
    let x = wide.slice(s![.., 1..]).to_owned();
    z.fill(0.0);
    nd::strict::forward(&x, &y, &mut z).expect("the layouts fit");
    assert_eq!(z, x.dot(&y));
}

#[test]
fn shapes_that_cannot_be() {
    let mut z = Array2::zeros((3, 1));
    let short = nd::forward(&Array2::zeros((2, 2)), &Array2::zeros((2, 1)), &mut z);
    assert!(matches!(short, Err(Misfit::Shape { argument: "x", .. })), "{short:?}");
}
