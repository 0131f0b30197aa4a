//! Three ways to have kernels: takes the specs of this package, gives their functions.
#![no_std]
#![forbid(unsafe_code)]
#![deny(warnings)]

/// What the build script made of `ops/`: shipped ops at sizes of ours, and an op of our own.
pub mod kernels {
    cotangent::include_kernels!();
}

// Every kernel of it against the formulas of its spec, under every instruction set of the machine: tests alone see this
// line.
cotangent::test_kernels!();

/// What the build script made of `vendor/`, for portable instructions alone.
pub mod portable {
    include!(concat!(env!("OUT_DIR"), "/portable/mod.rs"));
}

/// What `cotangent render` made of `vendor/`: a file that needs neither a build script nor the crate `cotangent`.
pub mod vendored;

/// A small network, forward and backward: edges, their activation, and the same image at half its size.
pub fn features(
    image: &kernels::conv::edges::X,
    (edges, halve): (&kernels::conv::edges::K, &kernels::conv::halve::K),
    out_bar: &kernels::conv::halve::Y,
    (edges_bar, halve_bar): (&mut kernels::conv::edges::K, &mut kernels::conv::halve::K),
) -> kernels::conv::halve::Y {
    use cotangent::Tensor;
    use kernels::{conv, swish};

    let (mut h, mut a) = (conv::edges::Y::ZERO, conv::edges::Y::ZERO);
    let mut out = conv::halve::Y::ZERO;
    conv::edges::forward(image, edges, &mut h);
    // A batch of one image is stored as the image.
    swish::hidden::forward(&h[0], &mut a[0]);
    conv::halve::forward(&a, halve, &mut out);

    let (mut a_bar, mut h_bar) = (conv::edges::Y::ZERO, conv::edges::Y::ZERO);
    conv::halve::vjp(&a, halve, out_bar, &mut a_bar, halve_bar);
    swish::hidden::vjp(&h[0], &a_bar[0], &mut h_bar[0]);
    conv::edges::vjp_k(image, &h_bar, edges_bar);
    out
}
