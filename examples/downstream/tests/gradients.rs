//! What `cotangent::test_kernels!` does not see: values by hand, the gradient through several kernels in sequence,
//! which kernels there are. That each kernel computes what its spec says, adjoint identity and all, its one line in the
//! library tests.

use cotangent::Tensor;
use downstream::kernels::{self, conv, partition, swish};

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

#[test]
fn value_of_a_shipped_op_at_sizes_of_our_own() {
    use conv::halve as c;
    let (x, k): (c::X, c::K) = (fill(1), fill(2));
    let mut y = c::Y::ZERO;
    c::forward(&x, &k, &mut y);
    // Against the formula, at one element: output (2, 3) of channel 5 starts at input (3, 5), one before it for the
    // padding.
    let mut expected = 0.0;
    for (s, t) in (0..9).map(|n| (n / 3, n % 3)) {
        for c in 0..4 {
            expected += x[0][4 + s - 1][6 + t - 1][c] * k[s][t][c][5];
        }
    }
    assert!((y[0][2][3][5] - expected).abs() < 1e-5);
}

#[test]
fn value_of_an_op_of_our_own() {
    use swish::hidden as s;
    let (x, mut y): (s::X, _) = (fill(1), s::Y::ZERO);
    s::forward(&x, &mut y);
    let at = f64::from(x[3][4][1]);
    assert!((f64::from(y[3][4][1]) - at / (1.0 + (-at).exp())).abs() < 1e-6);
}

/// What functions make of the negatives that a sum adds up: nothing but the sum.
#[test]
fn value_of_a_sum_of_functions_of_negatives() {
    use partition::levels as p;
    let x: p::X = fill(1);
    let mut y = p::Y::ZERO;
    p::forward(&x, &mut y);
    let sum: f64 = x[5].iter().map(|x| (-f64::from(*x)).exp()).sum();
    assert!((f64::from(y[5]) - sum).abs() < 1e-4, "{} is not {sum}", y[5]);
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
        "partition::levels",
        "partition::wide",
        "swish::hidden",
        "swish::fine",
        "two_products::heads",
    ];
    assert_eq!(names, expected);
    assert_eq!(kernels::KERNELS[0].source, "ops/conv.yaml:4");
    assert!(kernels::KERNELS[0].forward[0].source.starts_with("<cotangent>/ops/conv.yaml:"));
}
