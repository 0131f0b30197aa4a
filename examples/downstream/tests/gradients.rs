//! The adjoint identity: for every cotangent and every tangent, `<jvp(x_dot), y_bar> = <x_dot, vjp(y_bar)>`. It holds of a kernel and of a
//! sequence of kernels, so it tests both.

use cotangent::Tensor;
use downstream::kernels::{self, conv, softmax_cross_entropy, swish};

/// Numbers between -1 and 1 in no visible order: the fractions of multiples of the golden ratio.
fn fill<T: Tensor<Scalar = f32>>(seed: u32) -> T {
    let mut x = T::ZERO;
    for (i, x) in x.flat_mut().iter_mut().enumerate() {
        let turns = f64::from(seed) * 0.37 + i as f64 * 0.618_033_988_749_895;
        *x = (2.0 * turns.fract() - 1.0) as f32;
    }
    x
}

/// The inner product.
fn dot<T: Tensor<Scalar = f32>>(a: &T, b: &T) -> f64 {
    a.flat().iter().zip(b.flat()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[track_caller]
fn near(a: f64, b: f64) {
    assert!(a.abs() > 1e-3 && (a - b).abs() < 1e-4 * (1.0 + a.abs()), "{a} is not {b}");
}

#[test]
fn of_a_shipped_op_at_sizes_of_our_own() {
    use conv::halve as c;
    let (x, k, x_dot, k_dot): (c::X, c::K, c::X, c::K) = (fill(1), fill(2), fill(3), fill(4));
    let y_bar: c::Y = fill(5);
    let (mut y, mut y_dot) = (c::Y::ZERO, c::Y::ZERO);
    let (mut x_bar, mut k_bar) = (c::X::ZERO, c::K::ZERO);
    c::jvp(&x, &k, &x_dot, &k_dot, &mut y, &mut y_dot);
    c::vjp(&x, &k, &y_bar, &mut x_bar, &mut k_bar);
    near(dot(&y_dot, &y_bar), dot(&x_dot, &x_bar) + dot(&k_dot, &k_bar));
    // Against the formula, at one element: output (2, 3) of channel 5 starts at input (3, 5), one before it for the padding.
    let mut expected = 0.0;
    for (s, t) in (0..9).map(|n| (n / 3, n % 3)) {
        for c in 0..4 {
            expected += x[0][4 + s - 1][6 + t - 1][c] * k[s][t][c][5];
        }
    }
    assert!((y[0][2][3][5] - expected).abs() < 1e-5);
}

#[test]
fn of_an_op_used_from_a_file_of_another_name() {
    use softmax_cross_entropy::ten_classes as loss;
    let (x, t, x_dot, t_dot): (loss::X, loss::T, loss::X, loss::T) = (fill(1), fill(2), fill(3), fill(4));
    let y_bar: loss::Y = fill(5);
    let (mut y, mut y_dot) = (loss::Y::ZERO, loss::Y::ZERO);
    let (mut x_bar, mut t_bar) = (loss::X::ZERO, loss::T::ZERO);
    loss::jvp(&x, &t, &x_dot, &t_dot, &mut y, &mut y_dot);
    loss::vjp(&x, &t, &y_bar, &mut x_bar, &mut t_bar);
    near(dot(&y_dot, &y_bar), dot(&x_dot, &x_bar) + dot(&t_dot, &t_bar));
}

#[test]
fn of_an_op_of_our_own() {
    use swish::hidden as s;
    let (x, x_dot, y_bar): (s::X, s::X, s::Y) = (fill(1), fill(2), fill(3));
    let (mut y, mut y_dot, mut x_bar) = (s::Y::ZERO, s::Y::ZERO, s::X::ZERO);
    s::jvp(&x, &x_dot, &mut y, &mut y_dot);
    s::vjp(&x, &y_bar, &mut x_bar);
    near(dot(&y_dot, &y_bar), dot(&x_dot, &x_bar));
    let at = f64::from(x[3][4][1]);
    assert!((f64::from(y[3][4][1]) - at / (1.0 + (-at).exp())).abs() < 1e-6);
}

#[test]
fn of_several_kernels_in_sequence() {
    let image: conv::edges::X = fill(1);
    let (edges, halve): (conv::edges::K, conv::halve::K) = (fill(2), fill(3));
    let (edges_dot, halve_dot): (conv::edges::K, conv::halve::K) = (fill(4), fill(5));
    let out_bar: conv::halve::Y = fill(6);
    let (mut edges_bar, mut halve_bar) = (conv::edges::K::ZERO, conv::halve::K::ZERO);
    downstream::features(&image, (&edges, &halve), &out_bar, (&mut edges_bar, &mut halve_bar));

    // The derivative along the tangents, by a central difference over the whole.
    let at = |step: f32| {
        let moved = |x: f32, x_dot: f32| x + step * x_dot;
        let (mut e, mut h) = (edges, halve);
        e.flat_mut().iter_mut().zip(edges_dot.flat()).for_each(|(e, d)| *e = moved(*e, *d));
        h.flat_mut().iter_mut().zip(halve_dot.flat()).for_each(|(h, d)| *h = moved(*h, *d));
        let (mut a, mut b) = (conv::edges::K::ZERO, conv::halve::K::ZERO);
        dot(&downstream::features(&image, (&e, &h), &out_bar, (&mut a, &mut b)), &out_bar)
    };
    let step = 1.0 / 256.0;
    let slope = (at(step) - at(-step)) / (2.0 * f64::from(step));
    let by_vjp = dot(&edges_dot, &edges_bar) + dot(&halve_dot, &halve_bar);
    assert!((slope - by_vjp).abs() < 1e-3 * (1.0 + by_vjp.abs()), "{slope} is not {by_vjp}");
}

#[test]
fn every_kernel_is_listed() {
    let names: Vec<_> = kernels::KERNELS.iter().map(|k| format!("{}::{}", k.op, k.name)).collect();
    let expected = [
        "conv::edges",
        "conv::halve",
        "softmax_cross_entropy::ten_classes",
        "swish::hidden",
        "swish::fine",
        "two_products::heads",
    ];
    assert_eq!(names, expected);
    assert_eq!(kernels::KERNELS[0].source, "ops/conv.yaml:4");
    assert!(kernels::KERNELS[0].forward[0].source.starts_with("<cotangent>/ops/conv.yaml:"));
}

/// What is stored first and added to later is all there, whatever was there before.
#[test]
fn of_two_parts_in_one_cotangent() {
    use kernels::two_products::heads as h;
    let (x, a, b, x_dot): (h::X, h::A, h::B, h::X) = (fill(1), fill(2), fill(3), fill(4));
    let (y_bar, z_bar): (h::Y, h::Z) = (fill(5), fill(6));
    let (mut y, mut z, mut y_dot, mut z_dot) = (h::Y::ZERO, h::Z::ZERO, h::Y::ZERO, h::Z::ZERO);
    h::jvp(&x, &a, &b, &x_dot, &h::A::ZERO, &h::B::ZERO, &mut y, &mut z, &mut y_dot, &mut z_dot);
    let (mut added, mut stored) = (h::X::ZERO, fill::<h::X>(7));
    h::vjp_x(&a, &b, &y_bar, &z_bar, &mut added);
    h::vjp_x_store(&a, &b, &y_bar, &z_bar, &mut stored);
    near(dot(&y_dot, &y_bar) + dot(&z_dot, &z_bar), dot(&x_dot, &added));
    assert_eq!(added, stored);
}
