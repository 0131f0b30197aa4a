//! Rows of loops over small products: takes the kernel of 4×4×4, gives the time of a loop that is given the machine's
//! instructions once, beside plain calls and hand-written loops compiled for the same instructions.
//!
//! A hand-written product is a function of its own within such a loop: inlined, the compiler makes no vectors of it.

use crate::harness::{Aligned, Bench, Contestant, Group, Spec};
use crate::kernels::matmul::f32_4x4x4 as kernel;
use crate::machine::{each_fused, each_widest, has_fused, has_widest, separate};
use crate::plain::{Adjoints, Loops, Nn, Nt, Tangent, Tn};
use cotangent::Tensor;
use cotangent::isa::{self, Body, Isa};
use std::hint::black_box;

/// All arguments are of one shape.
type M = [[f32; 4]; 4];

/// So few that all arguments stay in the first-level cache.
const COUNT: usize = 64;

/// How a loop over products is run.
trait Many<X, Y, Z>: Loops<X, Y, Z> {
    /// By functions that are called plainly.
    fn called(x: &[X; COUNT], y: &[Y; COUNT], z: &mut [Z; COUNT]);
    /// By functions that are given the machine's instructions.
    fn given(x: &[X; COUNT], y: &[Y; COUNT], z: &mut [Z; COUNT]);
}

macro_rules! many {
    ($Loops:ident: $x:tt: $X:ty, $y:tt: $Y:ty, $z:tt: $Z:ty; $called:ident $given:ident($($argument:ident),*)) => {
        impl Many<$X, $Y, $Z> for $Loops {
            fn called(x: &[$X; COUNT], y: &[$Y; COUNT], z: &mut [$Z; COUNT]) {
                for (($x, $y), $z) in x.iter().zip(y).zip(z) {
                    kernel::$called($($argument),*);
                }
            }
            fn given(x: &[$X; COUNT], y: &[$Y; COUNT], z: &mut [$Z; COUNT]) {
                struct Given<'a>(&'a [$X; COUNT], &'a [$Y; COUNT], &'a mut [$Z; COUNT]);
                impl Body for Given<'_> {
                    #[inline(always)]
                    fn run<I: Isa>(self, isa: I) {
                        for (($x, $y), $z) in self.0.iter().zip(self.1).zip(self.2) {
                            kernel::$given(isa, $($argument),*);
                        }
                    }
                }
                isa::dispatch(Given(x, y, z));
            }
        }
    };
}
many!(Nn: x: M, y: M, z: M; forward forward_with(x, y, z));
many!(Nt: y: M, z_bar: M, x_bar: M; vjp_x_store vjp_x_store_with(y, z_bar, x_bar));
many!(Tn: x: M, z_bar: M, y_bar: M; vjp_y_store vjp_y_store_with(x, z_bar, y_bar));
many!(Tangent: [x, x_dot]: [M; 2], [y, y_dot]: [M; 2], [z, z_dot]: [M; 2]; jvp jvp_with(x, y, x_dot, y_dot, z, z_dot));
many!(Adjoints: [x, y]: [M; 2], z_bar: M, [x_bar, y_bar]: [M; 2];
    vjp_store vjp_store_with(x, y, z_bar, x_bar, y_bar));

fn row<L: Many<X, Y, Z>, X, Y, Z>(bench: &mut Bench, mode: &'static str, products: usize)
where
    [X; COUNT]: Tensor<Scalar = f32>,
    [Y; COUNT]: Tensor<Scalar = f32>,
    [Z; COUNT]: Tensor<Scalar = f32>,
{
    let spec = Spec {
        op: "many_matmul",
        shape: format!("{COUNT}x4x4x4"),
        mode,
        group: Group::Many,
        double: false,
        flops: (2 * products * COUNT * 4 * 4 * 4) as f64,
        bytes: (size_of::<[X; COUNT]>() + size_of::<[Y; COUNT]>() + size_of::<[Z; COUNT]>()) as f64,
        elements: None,
        lanes: None,
        product: None,
    };
    if !bench.wants(&spec) {
        return;
    }
    let (x, y) = (Aligned::<[X; COUNT]>::filled(1, 1.0), Aligned::<[Y; COUNT]>::filled(2, 1.0));
    let (x, y) = (&**x, &**y);
    let mut out: Box<Aligned<[Z; COUNT]>> = Aligned::zeros();
    type Out<Z> = Box<Aligned<[Z; COUNT]>>;
    let mut contestants: Vec<Contestant<Out<Z>>> = vec![
        Contestant::new("cotangent", |z: &mut Out<Z>| L::given(black_box(x), black_box(y), z)),
        Contestant::new("called", |z: &mut Out<Z>| L::called(black_box(x), black_box(y), z)),
        Contestant::new("plain", |z: &mut Out<Z>| {
            for ((x, y), z) in black_box(x).iter().zip(black_box(y)).zip(&mut ***z) {
                separate::<L, _, _, _>(x, y, z);
            }
        }),
    ];
    if has_fused() {
        let run = |z: &mut Out<Z>| each_fused::<L, _, _, _>(black_box(x), black_box(y), &mut ***z);
        contestants.push(Contestant::new("plain-avx2", run));
    }
    if has_widest() {
        let run = |z: &mut Out<Z>| each_widest::<L, _, _, _>(black_box(x), black_box(y), &mut ***z);
        contestants.push(Contestant::new("plain-avx512", run));
    }
    bench.row(spec, &mut out, contestants);
}

/// Every mode.
pub fn rows(bench: &mut Bench) {
    row::<Nn, M, M, M>(bench, "forward", 1);
    row::<Tangent, [M; 2], [M; 2], [M; 2]>(bench, "jvp", 3);
    row::<Adjoints, [M; 2], M, [M; 2]>(bench, "vjp", 2);
    row::<Nt, M, M, M>(bench, "vjp_x", 1);
    row::<Tn, M, M, M>(bench, "vjp_y", 1);
}
