//! Kernels on arrays of `ndarray`: the bundled ones (`support/arrays.rs`), what else is an argument, and what misfits
//! say.

#[path = "support/arrays.rs"]
mod arrays;
#[path = "support/counting.rs"]
mod counting;
#[expect(dead_code, reason = "the calls here are others")]
mod support;

use cotangent::Tensor;
use cotangent::kernels::{conv::channels_first as conv, matmul::digits_logits as dense};
use cotangent::ndarray::{self as wrappers, ArrayRef, Dimension, Misfit, Shaped};
use counting::counted;
use ndarray::{Array1, Array2, Array4, ArrayD, Axis, IxDyn, s};

cotangent::kernels::for_each_kernel!(calls);

/// `x @ y` by a loop of its own.
fn product(x: &ArrayRef<f32, ndarray::Ix2>, y: &ArrayRef<f32, ndarray::Ix2>) -> Array2<f32> {
    Array2::from_shape_fn((x.nrows(), y.ncols()), |(i, k)| (0..x.ncols()).map(|j| x[[i, j]] * y[[j, k]]).sum())
}

/// Small integers: every order of summation gives the same.
fn whole(shape: (usize, usize), step: usize) -> Array2<f32> {
    Array2::from_shape_fn(shape, |(i, j)| ((i * step + j * 3) % 7) as f32 - 3.0)
}

#[test]
fn arrays_views_and_slices_are_arguments_alike() {
    let (x, y) = (whole((32, 32), 5), whole((32, 10), 2));
    let wanted = product(&x, &y);
    let mut z = Array2::zeros((32, 10));
    dense::nd::forward(&x, &y, &mut z).unwrap();
    assert_eq!(z, wanted);

    // A part of an array, and one that is read as it lies: rows of 10 out of 12.
    let mut wide = Array2::from_elem((32, 12), -1.0);
    dense::nd::forward(&x.view(), &y.view(), &mut wide.slice_mut(s![.., 1..11])).unwrap();
    assert_eq!(wide.slice(s![.., 1..11]), wanted);
    assert!(wide.column(0).iter().chain(wide.column(11)).all(|v| *v == -1.0));

    // Transposed, upside down, and one row for all.
    let transposed = x.t();
    dense::nd::forward(&transposed, &y, &mut z).unwrap();
    assert_eq!(z, product(&x.t(), &y));
    dense::nd::forward(&x.slice(s![..;-1, ..]), &y, &mut z).unwrap();
    assert_eq!(z, wanted.slice(s![..;-1, ..]));
    let row = Array1::from_iter((0..32).map(|i| i as f32));
    dense::nd::forward(&row.broadcast((32, 32)).unwrap(), &y, &mut z).unwrap();
    assert_eq!(z.row(3), row.dot(&y));

    // A batch: whole rows of a larger array are taken where they are.
    let batch = Array4::from_shape_fn((6, 8, 12, 12), |(n, c, h, w)| ((n + c * 2 + h * 3 + w * 5) % 11) as f32);
    let k = Array4::from_elem((8, 8, 3, 3), 0.5f32);
    let mut y = Array4::zeros((6, 8, 12, 12));
    for (x, mut y) in batch.axis_chunks_iter(Axis(0), 2).zip(y.axis_chunks_iter_mut(Axis(0), 2)) {
        let (allocations, result) = counted(|| conv::nd::forward(&x, &k, &mut y));
        assert_eq!((allocations, result), (0, Ok(())));
    }
    // An inner element is the sum over its window and channels.
    let window: f32 = batch.slice(s![4, .., 4..7, 2..5]).sum();
    assert_eq!(y[[4, 7, 5, 3]], 0.5 * window);
}

#[test]
fn misfits_say_what_is_wrong() {
    let (x, y) = (whole((32, 32), 5), whole((32, 10), 2));
    let mut z = Array2::zeros((32, 10));
    let shape = dense::nd::forward(&x, &y.t(), &mut z).unwrap_err();
    assert_eq!(shape.to_string(), "`y` has the shape [10, 32], not [32, 10]");
    let layout = dense::nd::strict::forward(&x.t(), &y, &mut z).unwrap_err();
    assert_eq!(layout.to_string(), "`x` of the shape [32, 32] has the strides [1, 32], not those of standard layout");
    let boxed: Box<dyn std::error::Error> = layout.into();
    assert!(boxed.downcast_ref::<Misfit>().is_some_and(|e| e.argument() == "x"));
    assert_eq!(z, Array2::<f32>::zeros((32, 10)));
}

/// Beyond six dimensions the library counts at run time.
#[test]
fn seven_dimensions_are_checked_at_run_time() {
    type Deep = [[[[[[[f64; 2]; 1]; 3]; 2]; 1]; 2]; 2];
    let shape = [2, 2, 1, 2, 3, 1, 2];
    assert_eq!(Deep::shape(), shape);
    let mut x = ArrayD::from_shape_fn(IxDyn(&shape), |i| i.slice().iter().fold(0.0, |n, d| n * 4.0 + *d as f64));
    let flat: Vec<f64> = x.iter().copied().collect();
    assert_eq!(wrappers::borrow::<Deep>("x", &x).unwrap().flat(), flat);
    assert_eq!(wrappers::read::<Deep>("x", &x).unwrap().tensor().flat(), flat);
    assert_eq!(wrappers::borrow_mut::<Deep>("x", &mut x).unwrap()[1][0][0][1][2][0][1], flat[24 + 6 + 4 + 1]);
    // Of other ranks too.
    let x = x.into_shape_with_order(IxDyn(&[2, 24])).unwrap();
    let misfit = wrappers::read::<Deep>("x", &x).err().unwrap();
    assert_eq!(misfit.to_string(), "`x` has the shape [2, 24], not [2, 2, 1, 2, 3, 1, 2]");
}
