//! Loops by hand: takes arrays, gives what the kernels give, as a careful author writes it first: plain, bounds known,
//! innermost loop over contiguous memory.
//!
//! Each is compiled twice: for the build's target, and inside a function with AVX2 and FMA, where products with
//! additions are fused. So all are inlined, and call no closure or function pointer that might not be: each is a type.

use crate::peers::Float;
use std::marker::PhantomData;

/// How a product is added.
pub trait Arithmetic {
    /// `a * b + c`
    fn add<S: Float>(a: S, b: S, c: S) -> S;
}

/// Rounded twice.
pub struct Separate;

impl Arithmetic for Separate {
    #[inline(always)]
    fn add<S: Float>(a: S, b: S, c: S) -> S {
        a * b + c
    }
}

/// Rounded once. Slow where the function around it has no such instruction.
pub struct Fused;

impl Arithmetic for Fused {
    #[inline(always)]
    fn add<S: Float>(a: S, b: S, c: S) -> S {
        S::fused(a, b, c)
    }
}

/// Loops that read `X` and `Y` and write `Z`.
pub trait Loops<X, Y, Z> {
    /// Runs them, products added in the way of `A`.
    fn run<A: Arithmetic>(x: &X, y: &Y, z: &mut Z);
}

/// `to += x * from`
#[inline(always)]
fn add_row<A: Arithmetic, S: Float>(to: &mut [S], x: S, from: &[S]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = A::add(x, *from, *to);
    }
}

/// The sum of `a * b`, in order.
#[inline(always)]
fn dot<A: Arithmetic, S: Float>(a: &[S], b: &[S]) -> S {
    a.iter().zip(b).fold(S::of(0.0), |sum, (a, b)| A::add(*a, *b, sum))
}

/// `z = x y`
pub struct Nn;

impl<S: Float, const I: usize, const J: usize, const K: usize> Loops<[[S; J]; I], [[S; K]; J], [[S; K]; I]> for Nn {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[S; J]; I], y: &[[S; K]; J], z: &mut [[S; K]; I]) {
        for (x, z) in x.iter().zip(z) {
            *z = [S::of(0.0); K];
            for (x, y) in x.iter().zip(y) {
                add_row::<A, S>(z, *x, y);
            }
        }
    }
}

/// `x_bar = z_bar yᵀ`
pub struct Nt;

impl<S: Float, const I: usize, const J: usize, const K: usize> Loops<[[S; K]; J], [[S; K]; I], [[S; J]; I]> for Nt {
    #[inline(always)]
    fn run<A: Arithmetic>(y: &[[S; K]; J], z_bar: &[[S; K]; I], x_bar: &mut [[S; J]; I]) {
        for (x_bar, z_bar) in x_bar.iter_mut().zip(z_bar) {
            for (x_bar, y) in x_bar.iter_mut().zip(y) {
                *x_bar = dot::<A, S>(z_bar, y);
            }
        }
    }
}

/// `y_bar = xᵀ z_bar`
pub struct Tn;

impl<S: Float, const I: usize, const J: usize, const K: usize> Loops<[[S; J]; I], [[S; K]; I], [[S; K]; J]> for Tn {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[S; J]; I], z_bar: &[[S; K]; I], y_bar: &mut [[S; K]; J]) {
        *y_bar = [[S::of(0.0); K]; J];
        for (x, z_bar) in x.iter().zip(z_bar) {
            for (x, y_bar) in x.iter().zip(&mut *y_bar) {
                add_row::<A, S>(y_bar, *x, z_bar);
            }
        }
    }
}

/// `z += x y`: a tangent is `x_dot y`, then `x y_dot` added.
pub struct NnAdd;

impl<S: Float, const I: usize, const J: usize, const K: usize> Loops<[[S; J]; I], [[S; K]; J], [[S; K]; I]> for NnAdd {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[S; J]; I], y: &[[S; K]; J], z: &mut [[S; K]; I]) {
        for (x, z) in x.iter().zip(z) {
            for (x, y) in x.iter().zip(y) {
                add_row::<A, S>(z, *x, y);
            }
        }
    }
}

/// Value and tangent: of a pair the second is the tangent.
pub struct Tangent;

impl<S: Float, const I: usize, const J: usize, const K: usize>
    Loops<[[[S; J]; I]; 2], [[[S; K]; J]; 2], [[[S; K]; I]; 2]> for Tangent
{
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[[S; J]; I]; 2], y: &[[[S; K]; J]; 2], z: &mut [[[S; K]; I]; 2]) {
        Nn::run::<A>(&x[0], &y[0], &mut z[0]);
        Nn::run::<A>(&x[1], &y[0], &mut z[1]);
        NnAdd::run::<A>(&x[0], &y[1], &mut z[1]);
    }
}

/// Both cotangents of square matrices: the first argument is `x` and `y`, what is written theirs.
pub struct Adjoints;

impl<S: Float, const I: usize> Loops<[[[S; I]; I]; 2], [[S; I]; I], [[[S; I]; I]; 2]> for Adjoints {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[[S; I]; I]; 2], z_bar: &[[S; I]; I], bars: &mut [[[S; I]; I]; 2]) {
        Nt::run::<A>(&x[1], z_bar, &mut bars[0]);
        Tn::run::<A>(&x[0], z_bar, &mut bars[1]);
    }
}

/// The loops `L` for each pair of a batch.
pub struct Batch<L>(PhantomData<L>);

impl<L: Loops<X, Y, Z>, X, Y, Z, const N: usize> Loops<[X; N], [Y; N], [Z; N]> for Batch<L> {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[X; N], y: &[Y; N], z: &mut [Z; N]) {
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            L::run::<A>(x, y, z);
        }
    }
}

/// Images, channels last.
pub type Images<const N: usize, const W: usize, const C: usize> = [[[[f32; C]; W]; W]; N];
/// A kernel: taps, channels read, channels written.
pub type Taps<const T: usize, const CX: usize, const CY: usize> = [[[[f32; CY]; CX]; T]; T];

/// A convolution's stride and padding.
#[derive(Clone, Copy)]
pub struct Window {
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Zeros before the first pixel.
    pub lo: usize,
}

impl Window {
    /// Of images of side `s`, windows of side `t` and results of side `o`: padding is even, and no more than the last
    /// window reads.
    pub const fn new(s: usize, t: usize, o: usize) -> Self {
        let stride = s / o;
        Window { stride, lo: ((o - 1) * stride + t).saturating_sub(s).div_ceil(2) }
    }

    /// The pixel under tap `t` of result `o`, if it is not in the padding.
    #[inline(always)]
    pub fn under(self, o: usize, t: usize, side: usize) -> Option<usize> {
        (o * self.stride + t).checked_sub(self.lo).filter(|s| *s < side)
    }
}

/// Runs a block for each pixel of the result and each tap that is not in the padding: image, pixel of the result, tap,
/// pixel.
macro_rules! for_each_tap {
    ($n:ident, $o:ident, $t:ident, $s:ident => $block:block) => {
        let window = const { Window::new(S, T, O) };
        for $n in 0..N {
            for row in 0..O {
                for column in 0..O {
                    for down in 0..T {
                        let Some(s0) = window.under(row, down, S) else { continue };
                        for right in 0..T {
                            let Some(s1) = window.under(column, right, S) else { continue };
                            let ($o, $t, $s) = ([row, column], [down, right], [s0, s1]);
                            $block
                        }
                    }
                }
            }
        }
    };
}

/// `y = x * k`
pub struct Conv;

impl<const N: usize, const S: usize, const CX: usize, const T: usize, const CY: usize, const O: usize>
    Loops<Images<N, S, CX>, Taps<T, CX, CY>, Images<N, O, CY>> for Conv
{
    #[inline(always)]
    fn run<A: Arithmetic>(x: &Images<N, S, CX>, k: &Taps<T, CX, CY>, y: &mut Images<N, O, CY>) {
        y.as_flattened_mut().as_flattened_mut().fill([0.0; CY]);
        ConvAdd::run::<A>(x, k, y);
    }
}

/// `y += x * k`: a tangent is `x_dot * k`, then `x * k_dot` added.
pub struct ConvAdd;

impl<const N: usize, const S: usize, const CX: usize, const T: usize, const CY: usize, const O: usize>
    Loops<Images<N, S, CX>, Taps<T, CX, CY>, Images<N, O, CY>> for ConvAdd
{
    #[inline(always)]
    fn run<A: Arithmetic>(x: &Images<N, S, CX>, k: &Taps<T, CX, CY>, y: &mut Images<N, O, CY>) {
        for_each_tap!(n, o, t, s => {
            let y = &mut y[n][o[0]][o[1]];
            for (x, k) in x[n][s[0]][s[1]].iter().zip(&k[t[0]][t[1]]) {
                add_row::<A, f32>(y, *x, k);
            }
        });
    }
}

/// The cotangent of `x`.
pub struct ConvX;

impl<const N: usize, const S: usize, const CX: usize, const T: usize, const CY: usize, const O: usize>
    Loops<Taps<T, CX, CY>, Images<N, O, CY>, Images<N, S, CX>> for ConvX
{
    #[inline(always)]
    fn run<A: Arithmetic>(k: &Taps<T, CX, CY>, y_bar: &Images<N, O, CY>, x_bar: &mut Images<N, S, CX>) {
        x_bar.as_flattened_mut().as_flattened_mut().fill([0.0; CX]);
        for_each_tap!(n, o, t, s => {
            let y_bar = &y_bar[n][o[0]][o[1]];
            for (x_bar, k) in x_bar[n][s[0]][s[1]].iter_mut().zip(&k[t[0]][t[1]]) {
                *x_bar += dot::<A, f32>(y_bar, k);
            }
        });
    }
}

/// The cotangent of `k`.
pub struct ConvK;

impl<const N: usize, const S: usize, const CX: usize, const T: usize, const CY: usize, const O: usize>
    Loops<Images<N, S, CX>, Images<N, O, CY>, Taps<T, CX, CY>> for ConvK
{
    #[inline(always)]
    fn run<A: Arithmetic>(x: &Images<N, S, CX>, y_bar: &Images<N, O, CY>, k_bar: &mut Taps<T, CX, CY>) {
        k_bar.as_flattened_mut().as_flattened_mut().fill([0.0; CY]);
        for_each_tap!(n, o, t, s => {
            let y_bar = &y_bar[n][o[0]][o[1]];
            for (x, k_bar) in x[n][s[0]][s[1]].iter().zip(&mut k_bar[t[0]][t[1]]) {
                add_row::<A, f32>(k_bar, *x, y_bar);
            }
        });
    }
}

/// A function of two numbers, as a type: a function pointer would be called for each element.
pub trait Function {
    /// The op.
    const OP: &'static str;
    /// Arrays that it reads.
    const INPUTS: usize;
    /// Its value; `v` is not read where `INPUTS` is 1.
    fn at(u: f32, v: f32) -> f32;
}

/// Names functions.
macro_rules! functions {
    ($($name:ident $op:literal $inputs:literal |$u:ident, $v:pat_param| $value:expr;)*) => {
        $(
            #[doc = concat!("`", stringify!($value), "`")]
            pub struct $name;
            impl Function for $name {
                const OP: &'static str = $op;
                const INPUTS: usize = $inputs;
                #[inline(always)]
                fn at($u: f32, $v: f32) -> f32 {
                    $value
                }
            }
        )*
    };
}
functions! {
    Add "add" 2 |u, v| u + v;
    Mul "mul" 2 |u, v| u * v;
    Relu "relu" 1 |x, _| if x <= 0.0 { 0.0 } else { x };
    Exp "exp" 1 |x, _| x.exp();
    Tanh "tanh" 1 |x, _| x.tanh();
    Logistic "logistic" 1 |x, _| 1.0 / (1.0 + (-x).exp());
}

/// Each element by itself.
pub struct Map<F>(PhantomData<F>);

impl<F: Function, const I: usize> Loops<[f32; I], (), [f32; I]> for Map<F> {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[f32; I], _: &(), y: &mut [f32; I]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = F::at(*x, *x);
        }
    }
}

/// Elements in pairs.
pub struct Zip<F>(PhantomData<F>);

impl<F: Function, const I: usize> Loops<[f32; I], [f32; I], [f32; I]> for Zip<F> {
    #[inline(always)]
    fn run<A: Arithmetic>(u: &[f32; I], v: &[f32; I], y: &mut [f32; I]) {
        for ((y, u), v) in y.iter_mut().zip(u).zip(v) {
            *y = F::at(*u, *v);
        }
    }
}

/// The sum, in order.
pub struct Sum;

impl<const J: usize> Loops<[f32; J], (), f32> for Sum {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[f32; J], _: &(), y: &mut f32) {
        *y = x.iter().sum();
    }
}

/// Exponentials of each row, over their sum.
pub struct Softmax;

impl<const I: usize, const J: usize> Loops<[[f32; J]; I], (), [[f32; J]; I]> for Softmax {
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[f32; J]; I], _: &(), y: &mut [[f32; J]; I]) {
        for (x, y) in x.iter().zip(y) {
            let greatest = x.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            let mut sum = 0.0;
            for (y, x) in y.iter_mut().zip(x) {
                *y = (x - greatest).exp();
                sum += *y;
            }
            y.iter_mut().for_each(|y| *y /= sum);
        }
    }
}

/// Its adjoint, from its value.
pub struct SoftmaxVjp;

impl<const I: usize, const J: usize> Loops<[[f32; J]; I], [[f32; J]; I], [[f32; J]; I]> for SoftmaxVjp {
    #[inline(always)]
    fn run<A: Arithmetic>(y: &[[f32; J]; I], y_bar: &[[f32; J]; I], x_bar: &mut [[f32; J]; I]) {
        for ((y, y_bar), x_bar) in y.iter().zip(y_bar).zip(x_bar) {
            let mean = dot::<A, f32>(y, y_bar);
            for ((x_bar, y), y_bar) in x_bar.iter_mut().zip(y).zip(y_bar) {
                *x_bar = y * (y_bar - mean);
            }
        }
    }
}

/// What is added to the variance.
const EPS: f32 = 1e-5;

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn moments<A: Arithmetic, const I: usize>(x: &[f32; I]) -> (f32, f32) {
    let mean = x.iter().sum::<f32>() / I as f32;
    let variance = x.iter().fold(0.0, |sum, x| A::add(x - mean, x - mean, sum)) / I as f32;
    (mean, 1.0 / (variance + EPS).sqrt())
}

/// Each row normalised, scaled and shifted.
pub struct LayerNorm;

impl<'a, const N: usize, const I: usize> Loops<[[f32; I]; N], (&'a [f32; I], &'a [f32; I]), [[f32; I]; N]>
    for LayerNorm
{
    #[inline(always)]
    fn run<A: Arithmetic>(x: &[[f32; I]; N], (gamma, beta): &(&'a [f32; I], &'a [f32; I]), y: &mut [[f32; I]; N]) {
        for (x, y) in x.iter().zip(y) {
            let (mean, r) = moments::<A, I>(x);
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(*gamma).zip(*beta) {
                *y = A::add((x - mean) * r, *gamma, *beta);
            }
        }
    }
}

/// Its adjoint: the cotangents of the rows, of the scale and of the shift.
pub struct LayerNormVjp;

impl<'a, const N: usize, const I: usize>
    Loops<(&'a [[f32; I]; N], &'a [f32; I]), [[f32; I]; N], (&'a mut [[f32; I]; N], &'a mut [f32; I], &'a mut [f32; I])>
    for LayerNormVjp
{
    #[inline(always)]
    fn run<A: Arithmetic>(
        (x, gamma): &(&'a [[f32; I]; N], &'a [f32; I]),
        y_bar: &[[f32; I]; N],
        (x_bar, gamma_bar, beta_bar): &mut (&'a mut [[f32; I]; N], &'a mut [f32; I], &'a mut [f32; I]),
    ) {
        **gamma_bar = [0.0; I];
        **beta_bar = [0.0; I];
        for ((x, y_bar), x_bar) in x.iter().zip(y_bar).zip(x_bar.iter_mut()) {
            let (mean, r) = moments::<A, I>(x);
            let (mut a, mut c) = (0.0, 0.0);
            for i in 0..I {
                let h = (x[i] - mean) * r;
                let scaled = y_bar[i] * gamma[i];
                a += scaled;
                c = A::add(scaled, h, c);
                gamma_bar[i] = A::add(y_bar[i], h, gamma_bar[i]);
                beta_bar[i] += y_bar[i];
            }
            (a, c) = (a / I as f32, c / I as f32);
            for i in 0..I {
                let h = (x[i] - mean) * r;
                x_bar[i] = r * (A::add(y_bar[i], gamma[i], -a) - h * c);
            }
        }
    }
}
