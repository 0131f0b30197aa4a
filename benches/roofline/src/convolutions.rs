//! Rows of convolutions: takes a kernel's functions, measures them against loops by hand and the way through a matrix
//! product (im2col).

use crate::harness::{Aligned, Bench, Contestant, Group, Spec};
use crate::machine::{fused, has_fused, separate};
use crate::peers::{Engine, Gemm, MatrixMultiply, Operand};
use crate::plain::{Conv, ConvAdd, ConvK, ConvX, Images, Taps, Window};
use cotangent::Tensor;
use std::cell::RefCell;
use std::hint::black_box;

/// Extents: images, side, channels read, side of the window, channels written, side of the result.
struct Shape {
    n: usize,
    s: usize,
    cx: usize,
    t: usize,
    cy: usize,
    o: usize,
    window: Window,
}

impl Shape {
    fn spec(&self, mode: &'static str, group: Group) -> Spec {
        let Shape { n, s, cx, t, cy, o, window } = *self;
        let mut shape = format!("{s}x{s}x{cx}-{t}x{t}x{cy}");
        if n > 1 {
            shape = format!("{n}x{shape}");
        }
        if window.lo > 0 {
            shape += &format!("-pad{}", window.lo);
        }
        if window.stride > 1 {
            shape += &format!("-stride{}", window.stride);
        }
        let products = if mode == "jvp" { 3 } else { 1 };
        let arguments = if mode == "jvp" { 2 } else { 1 };
        // Images of one channel have rows of pixels; the transposed kernel is summed along its rows.
        let lanes = if mode == "vjp_x" { cy.max(if cx == 1 { s } else { cx }) } else { cy };
        let elements = n * s * s * cx + t * t * cx * cy + n * o * o * cy;
        Spec {
            op: "conv",
            shape,
            mode,
            group,
            double: false,
            flops: (2 * products * self.pixels() * self.patch() * cy) as f64,
            bytes: (arguments * elements * size_of::<f32>()) as f64,
            elements: None,
            lanes: Some(lanes),
            product: None,
        }
    }

    /// Pixels of all results: rows of the matrix product.
    fn pixels(&self) -> usize {
        self.n * self.o * self.o
    }

    /// Elements under a window: the extent that the product sums over.
    fn patch(&self) -> usize {
        self.t * self.t * self.cx
    }

    /// Whether the images are the matrix of patches as they are.
    fn is_product(&self) -> bool {
        self.t == 1 && self.window.stride == 1 && self.window.lo == 0
    }

    /// Calls `f` with each run of channels of the matrix of patches: its offset there, and its offset in the images
    /// unless in the padding.
    #[inline(always)]
    fn for_each_run(&self, mut f: impl FnMut(usize, Option<usize>)) {
        let Shape { n, s, cx, t, o, window, .. } = *self;
        let mut to = 0;
        for n in 0..n {
            for row in 0..o {
                for column in 0..o {
                    for down in 0..t {
                        let row = window.under(row, down, s);
                        for right in 0..t {
                            let column = window.under(column, right, s);
                            f(to, row.zip(column).map(|(row, column)| ((n * s + row) * s + column) * cx));
                            to += cx;
                        }
                    }
                }
            }
        }
    }

    /// Every patch as a row (im2col).
    fn gather<'a>(&self, x: &'a [f32], patches: &'a mut [f32]) -> &'a [f32] {
        if self.is_product() {
            return x;
        }
        self.for_each_run(|to, from| {
            let to = &mut patches[to..to + self.cx];
            match from {
                Some(from) => to.copy_from_slice(&x[from..from + self.cx]),
                None => to.fill(0.0),
            }
        });
        patches
    }

    /// Every row added to its patch (col2im).
    fn scatter(&self, patches: &[f32], x_bar: &mut [f32]) {
        x_bar.fill(0.0);
        self.for_each_run(|from, to| {
            if let Some(to) = to {
                let from = &patches[from..from + self.cx];
                x_bar[to..to + self.cx].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        });
    }

    fn matrix(&self) -> RefCell<Vec<f32>> {
        RefCell::new(vec![0.0; self.pixels() * self.patch()])
    }

    /// `y = x * k`, or added to `y`.
    fn forward<E: Engine>(&self, x: &[f32], k: &[f32], y: &mut [f32], matrix: &RefCell<Vec<f32>>, add: bool) {
        let mut matrix = matrix.borrow_mut();
        let patches = Operand::new(self.gather(x, &mut matrix), self.pixels(), self.patch());
        E::product(patches, Operand::new(k, self.patch(), self.cy), y, add);
    }

    fn x<E: Engine>(&self, k: &[f32], y_bar: &[f32], x_bar: &mut [f32], matrix: &RefCell<Vec<f32>>) {
        let y_bar = Operand::new(y_bar, self.pixels(), self.cy);
        let k = Operand::new(k, self.patch(), self.cy).t();
        if self.is_product() {
            return E::product(y_bar, k, x_bar, false);
        }
        let mut matrix = matrix.borrow_mut();
        E::product(y_bar, k, &mut matrix, false);
        self.scatter(&matrix, x_bar);
    }

    fn k<E: Engine>(&self, x: &[f32], y_bar: &[f32], k_bar: &mut [f32], matrix: &RefCell<Vec<f32>>) {
        let mut matrix = matrix.borrow_mut();
        let patches = Operand::new(self.gather(x, &mut matrix), self.pixels(), self.patch());
        E::product(patches.t(), Operand::new(y_bar, self.pixels(), self.cy), k_bar, false);
    }
}

/// A row: `$ours`, the loops by hand of these names on these arguments, and `$library`, in which `$engine` names the
/// library.
macro_rules! row {
    ($bench:ident, $spec:expr, $out:ident: $type:ty, $new:expr, $ours:expr, $($Loops:ident($a:expr, $b:expr, $c:expr)),+; $engine:ident => $library:expr) => {{
        let spec = $spec;
        if $bench.wants(&spec) {
            let mut contestants = vec![
                Contestant::new("cotangent", |$out: &mut $type| $ours),
                Contestant::new("plain", |$out: &mut $type| {
                    $(separate::<$Loops, _, _, _>($a, $b, $c);)+
                }),
                Contestant::new("im2col+matrixmultiply", |$out: &mut $type| {
                    type $engine = MatrixMultiply;
                    $library
                }),
                Contestant::new("im2col+gemm", |$out: &mut $type| {
                    type $engine = Gemm;
                    $library
                }),
            ];
            if has_fused() {
                contestants.push(Contestant::new("plain-fma", |$out: &mut $type| {
                    $(fused::<$Loops, _, _, _>($a, $b, $c);)+
                }));
            }
            let mut out: $type = $new;
            $bench.row(spec, &mut out, contestants);
        }
    }};
}

type Boxed<T> = Box<Aligned<T>>;

/// Value, both cotangents, and the tangent where one is given.
pub fn conv<Jvp, const N: usize, const S: usize, const CX: usize, const T: usize, const CY: usize, const O: usize>(
    bench: &mut Bench,
    forward: impl Fn(&Images<N, S, CX>, &Taps<T, CX, CY>, &mut Images<N, O, CY>),
    vjp_x: impl Fn(&Taps<T, CX, CY>, &Images<N, O, CY>, &mut Images<N, S, CX>),
    vjp_k: impl Fn(&Images<N, S, CX>, &Images<N, O, CY>, &mut Taps<T, CX, CY>),
    jvp: Option<Jvp>,
) where
    Jvp: Fn(
        &Images<N, S, CX>,
        &Taps<T, CX, CY>,
        &Images<N, S, CX>,
        &Taps<T, CX, CY>,
        &mut Images<N, O, CY>,
        &mut Images<N, O, CY>,
    ),
{
    let shape = Shape { n: N, s: S, cx: CX, t: T, cy: CY, o: O, window: Window::new(S, T, O) };
    let (x, k) = (Aligned::<Images<N, S, CX>>::filled(1, 1.0), Aligned::<Taps<T, CX, CY>>::filled(2, 1.0));
    let (x, k) = (&**x, &**k);
    let y_bar = Aligned::<Images<N, O, CY>>::filled(3, 1.0);
    let y_bar = &**y_bar;
    let matrix = shape.matrix();

    row!(
        bench, shape.spec("forward", Group::ConvForward),
        y: Boxed<Images<N, O, CY>>, Aligned::zeros(),
        forward(black_box(x), black_box(k), y),
        Conv(black_box(x), black_box(k), &mut ***y);
        E => shape.forward::<E>(black_box(x.flat()), black_box(k.flat()), y.flat_mut(), &matrix, false)
    );
    row!(
        bench, shape.spec("vjp_x", Group::ConvX),
        x_bar: Boxed<Images<N, S, CX>>, Aligned::zeros(),
        vjp_x(black_box(k), black_box(y_bar), x_bar),
        ConvX(black_box(k), black_box(y_bar), &mut ***x_bar);
        E => shape.x::<E>(black_box(k.flat()), black_box(y_bar.flat()), x_bar.flat_mut(), &matrix)
    );
    row!(
        bench, shape.spec("vjp_k", Group::ConvK),
        k_bar: Boxed<Taps<T, CX, CY>>, Aligned::zeros(),
        vjp_k(black_box(x), black_box(y_bar), k_bar),
        ConvK(black_box(x), black_box(y_bar), &mut ***k_bar);
        E => shape.k::<E>(black_box(x.flat()), black_box(y_bar.flat()), k_bar.flat_mut(), &matrix)
    );
    let Some(jvp) = jvp else { return };
    let (x_dot, k_dot) = (Aligned::<Images<N, S, CX>>::filled(4, 1.0), Aligned::<Taps<T, CX, CY>>::filled(5, 1.0));
    let (x_dot, k_dot) = (&**x_dot, &**k_dot);
    row!(
        bench, shape.spec("jvp", Group::ConvJvp),
        out: (Boxed<Images<N, O, CY>>, Boxed<Images<N, O, CY>>), (Aligned::zeros(), Aligned::zeros()),
        jvp(black_box(x), black_box(k), black_box(x_dot), black_box(k_dot), &mut out.0, &mut out.1),
        Conv(black_box(x), black_box(k), &mut **out.0),
        Conv(black_box(x_dot), black_box(k), &mut **out.1),
        ConvAdd(black_box(x), black_box(k_dot), &mut **out.1);
        E => {
            let (x, k) = (black_box(x.flat()), black_box(k.flat()));
            shape.forward::<E>(x, k, out.0.flat_mut(), &matrix, false);
            shape.forward::<E>(black_box(x_dot.flat()), k, out.1.flat_mut(), &matrix, false);
            shape.forward::<E>(x, black_box(k_dot.flat()), out.1.flat_mut(), &matrix, true);
        }
    );
}
