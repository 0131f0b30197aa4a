//! Rows bounded by memory: takes a kernel's functions, measures them against loops by hand and a stream over the same
//! arrays.

use crate::harness::{Aligned, Bench, Contestant, Group, Spec};
use crate::machine::{self, Streams, Width, fused, has_fused, separate};
use crate::plain::{Function, LayerNorm, LayerNormVjp, Loops, Map, Separate, Softmax, SoftmaxVjp, Sum, Zip};
use cotangent::Tensor;
use ndarray::ArrayView1;
use std::hint::black_box;

/// The row of an op on one array or two: `operations` on each element, `tensors` arrays read or written.
fn spec(
    op: &'static str,
    shape: String,
    mode: &'static str,
    operations: usize,
    elements: usize,
    tensors: usize,
) -> Spec {
    let group = if shape.contains('x') { Group::Rows } else { Group::Elementwise };
    Spec {
        op,
        shape,
        mode,
        group,
        double: false,
        flops: (operations * elements) as f64,
        bytes: (tensors * elements * size_of::<f32>()) as f64,
        elements: Some(elements as f64),
        lanes: None,
        product: None,
    }
}

/// Adds the loops by hand twice: for the target as it is, and with FMA. What they write is `$c`, of the row's output
/// `$out`.
macro_rules! by_hand {
    ($contestants:ident, $out:ident: $type:ty, $Loops:ty, $a:expr, $b:expr, $c:expr) => {{
        $contestants.push(Contestant::new("plain", |$out: &mut $type| separate::<$Loops, _, _, _>($a, $b, $c)));
        if has_fused() {
            $contestants.push(Contestant::new("plain-fma", |$out: &mut $type| fused::<$Loops, _, _, _>($a, $b, $c)));
        }
    }};
}

/// A function of each element.
pub fn map<F: Function, const I: usize>(bench: &mut Bench, ours: impl Fn(&[f32; I], &mut [f32; I])) {
    type Out<const I: usize> = Box<Aligned<[f32; I]>>;
    let spec = spec(F::OP, I.to_string(), "forward", 1, I, F::INPUTS + 1);
    if !bench.wants(&spec) {
        return;
    }
    let x = Aligned::<[f32; I]>::filled(1, 4.0);
    let x = &**x;
    let mut y = Aligned::zeros();
    let mut contestants = vec![Contestant::new("cotangent", |y: &mut Out<I>| ours(black_box(x), y))];
    by_hand!(contestants, y: Out<I>, Map<F>, black_box(x), &(), &mut ***y);
    let stream = |width: Width, y: &mut Out<I>| machine::stream(width, Streams::Copy, black_box(x), &[], y.flat_mut());
    bench.row_of_streams(spec, &mut y, contestants, stream);
}

/// A function of two elements.
pub fn zip<F: Function, const I: usize>(bench: &mut Bench, ours: impl Fn(&[f32; I], &[f32; I], &mut [f32; I])) {
    type Out<const I: usize> = Box<Aligned<[f32; I]>>;
    let spec = spec(F::OP, I.to_string(), "forward", 1, I, F::INPUTS + 1);
    if !bench.wants(&spec) {
        return;
    }
    let (u, v) = (Aligned::<[f32; I]>::filled(1, 1.0), Aligned::<[f32; I]>::filled(2, 1.0));
    let (u, v) = (&**u, &**v);
    let mut y = Aligned::zeros();
    let mut contestants = vec![Contestant::new("cotangent", |y: &mut Out<I>| ours(black_box(u), black_box(v), y))];
    by_hand!(contestants, y: Out<I>, Zip<F>, black_box(u), black_box(v), &mut ***y);
    let stream =
        |width: Width, y: &mut Out<I>| machine::stream(width, Streams::Add, black_box(u), black_box(v), y.flat_mut());
    bench.row_of_streams(spec, &mut y, contestants, stream);
}

/// The sum of all elements.
pub fn sum<const J: usize>(bench: &mut Bench, ours: impl Fn(&[f32; J], &mut f32)) {
    type Out = Box<Aligned<f32>>;
    let spec = spec("reduce_sum", J.to_string(), "forward", 1, J, 1);
    if !bench.wants(&spec) {
        return;
    }
    let x = Aligned::<[f32; J]>::filled(1, 1.0);
    let x = &**x;
    let mut y = Aligned::zeros();
    let mut contestants = vec![Contestant::new("cotangent", |y: &mut Out| ours(black_box(x), y))];
    by_hand!(contestants, y: Out, Sum, black_box(x), &(), &mut ***y);
    contestants.push(Contestant::new("ndarray", |y: &mut Out| ***y = ArrayView1::from(black_box(&x[..])).sum()));
    let stream = |width: Width, _: &mut Out| machine::stream(width, Streams::Load, black_box(x), &[], &mut []);
    bench.row_of_streams(spec, &mut y, contestants, stream);
}

/// Softmax of each row.
pub fn softmax<const I: usize, const J: usize>(
    bench: &mut Bench,
    forward: impl Fn(&[[f32; J]; I], &mut [[f32; J]; I]),
    vjp: impl Fn(&[[f32; J]; I], &[[f32; J]; I], &mut [[f32; J]; I]),
) {
    type Out<const I: usize, const J: usize> = Box<Aligned<[[f32; J]; I]>>;
    let row = |mode, operations, tensors| spec("softmax", format!("{I}x{J}"), mode, operations, I * J, tensors);
    let x = Aligned::<[[f32; J]; I]>::filled(1, 4.0);
    let x = &**x;
    let mut y: Out<I, J> = Aligned::zeros();

    // A maximum, a difference, an exponential, a sum, a quotient.
    let spec = row("forward", 5, 2);
    if bench.wants(&spec) {
        let mut contestants = vec![Contestant::new("cotangent", |y: &mut Out<I, J>| forward(black_box(x), y))];
        by_hand!(contestants, y: Out<I, J>, Softmax, black_box(x), &(), &mut ***y);
        let stream = |width: Width, y: &mut Out<I, J>| {
            machine::stream(width, Streams::Copy, black_box(x.flat()), &[], y.flat_mut())
        };
        bench.row_of_streams(spec, &mut y, contestants, stream);
    }

    // A product and a sum, a difference and a product.
    let spec = row("vjp", 4, 3);
    if bench.wants(&spec) {
        Softmax::run::<Separate>(x, &(), &mut y);
        let y_bar = Aligned::<[[f32; J]; I]>::filled(2, 1.0);
        let (y, y_bar) = (&**y, &**y_bar);
        let mut x_bar: Out<I, J> = Aligned::zeros();
        let mut contestants =
            vec![Contestant::new("cotangent", |x_bar: &mut Out<I, J>| vjp(black_box(y), black_box(y_bar), x_bar))];
        by_hand!(
            contestants, x_bar: Out<I, J>, SoftmaxVjp,
            black_box(y), black_box(y_bar), &mut ***x_bar
        );
        let stream = |width: Width, x_bar: &mut Out<I, J>| {
            machine::stream(width, Streams::Add, black_box(y.flat()), black_box(y_bar.flat()), x_bar.flat_mut())
        };
        bench.row_of_streams(spec, &mut x_bar, contestants, stream);
    }
}

/// Normalisation of each row.
pub fn layer_norm<const N: usize, const I: usize>(
    bench: &mut Bench,
    forward: impl Fn(&[[f32; I]; N], &[f32; I], &[f32; I], &mut [[f32; I]; N]),
    vjp: impl Fn(&[[f32; I]; N], &[f32; I], &[[f32; I]; N], &mut [[f32; I]; N], &mut [f32; I], &mut [f32; I]),
) {
    type Out<const N: usize, const I: usize> = Box<Aligned<[[f32; I]; N]>>;
    type Bars<const N: usize, const I: usize> = (Out<N, I>, Box<Aligned<[f32; I]>>, Box<Aligned<[f32; I]>>);
    let row = |mode, operations, tensors| spec("layer_norm", format!("{N}x{I}"), mode, operations, N * I, tensors);
    let x = Aligned::<[[f32; I]; N]>::filled(1, 1.0);
    let (gamma, beta) = (Aligned::<[f32; I]>::filled(2, 1.0), Aligned::<[f32; I]>::filled(3, 1.0));
    let (x, gamma, beta) = (&**x, &**gamma, &**beta);

    // A sum; a difference, a square and a sum; a difference and a product; a product and a sum.
    let spec = row("forward", 8, 2);
    if bench.wants(&spec) {
        let mut y: Out<N, I> = Aligned::zeros();
        let mut contestants = vec![Contestant::new("cotangent", |y: &mut Out<N, I>| {
            forward(black_box(x), black_box(gamma), black_box(beta), y)
        })];
        by_hand!(
            contestants, y: Out<N, I>, LayerNorm,
            black_box(x), &black_box((gamma, beta)), &mut ***y
        );
        let stream = |width: Width, y: &mut Out<N, I>| {
            machine::stream(width, Streams::Copy, black_box(x.flat()), &[], y.flat_mut())
        };
        bench.row_of_streams(spec, &mut y, contestants, stream);
    }

    // The moments and the normalised value again (6); four sums of products with theirs (7); the result (5).
    let spec = row("vjp", 18, 3);
    if bench.wants(&spec) {
        let y_bar = Aligned::<[[f32; I]; N]>::filled(4, 1.0);
        let y_bar = &**y_bar;
        let mut bars: Bars<N, I> = (Aligned::zeros(), Aligned::zeros(), Aligned::zeros());
        let mut contestants = vec![Contestant::new("cotangent", |out: &mut Bars<N, I>| {
            vjp(black_box(x), black_box(gamma), black_box(y_bar), &mut out.0, &mut out.1, &mut out.2)
        })];
        by_hand!(
            contestants, out: Bars<N, I>, LayerNormVjp,
            &black_box((x, gamma)), black_box(y_bar), &mut (&mut **out.0, &mut **out.1, &mut **out.2)
        );
        let stream = |width: Width, out: &mut Bars<N, I>| {
            machine::stream(width, Streams::Add, black_box(x.flat()), black_box(y_bar.flat()), out.0.flat_mut())
        };
        bench.row_of_streams(spec, &mut bars, contestants, stream);
    }
}
