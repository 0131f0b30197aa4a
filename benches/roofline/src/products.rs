//! Rows of products: takes a kernel's functions and extents, measures them against every library at the same data.

use crate::harness::{Aligned, Bench, Contestant, Group, Product, Spec};
use crate::machine::{fused, has_fused, separate};
use crate::peers::{Engine, Faer, Float, Gemm, MatrixMultiply, NanoGemm, Ndarray, Operand, nalgebra_static};
use crate::plain::{Batch, Nn, NnAdd, Nt, Tn};
use cotangent::Tensor;
use std::hint::black_box;

/// A tensor that is a matrix: a vector is one of a single column.
pub trait Matrix<S: Float, const I: usize, const J: usize>: Tensor<Scalar = S> {
    /// Its rows.
    fn rows(&self) -> &[[S; J]; I];
    /// Its rows, to be written.
    fn rows_mut(&mut self) -> &mut [[S; J]; I];
}

impl<S: Float, const I: usize, const J: usize> Matrix<S, I, J> for [[S; J]; I] {
    #[inline(always)]
    fn rows(&self) -> &[[S; J]; I] {
        self
    }
    #[inline(always)]
    fn rows_mut(&mut self) -> &mut [[S; J]; I] {
        self
    }
}

impl<const I: usize> Matrix<f32, I, 1> for [f32; I] {
    #[inline(always)]
    fn rows(&self) -> &[[f32; 1]; I] {
        self.as_chunks().0.try_into().expect("as many")
    }
    #[inline(always)]
    fn rows_mut(&mut self) -> &mut [[f32; 1]; I] {
        self.as_chunks_mut().0.try_into().expect("as many")
    }
}

/// Up to this many multiplications the libraries for small matrices take part: static ones take long to compile beyond.
const SMALL: usize = 64 * 64 * 64;

fn spec<S: Float>(op: &'static str, extents: &[usize], mode: &'static str, group: Group, products: usize) -> Spec {
    let double = size_of::<S>() == 8;
    let by = extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let &[.., i, j, k] = extents else { unreachable!("a product has three extents") };
    let batch: usize = extents[..extents.len() - 3].iter().product();
    // A tangent has two products where the value has one, and doubles every argument.
    let arguments = if products > 1 { 2 } else { 1 };
    // The transposed second operand is summed along its rows, which has lanes too.
    let lanes = if mode == "vjp_x" { j.max(k) } else { k };
    let product = |rows, columns, transposed| Some(Product { rows, columns, transposed });
    Spec {
        op,
        shape: if double { format!("{by}-f64") } else { by },
        mode,
        group,
        double,
        flops: (2 * products * batch * i * j * k) as f64,
        bytes: (arguments * batch * (i * j + j * k + i * k) * size_of::<S>()) as f64,
        elements: None,
        lanes: Some(lanes),
        product: match mode {
            "forward" => product(i, k, false),
            "vjp_x" => product(i, j, true),
            "vjp_y" => product(j, k, false),
            _ => None,
        },
    }
}

/// The data of a row: two operands, what is written, and what stands for them in a library.
struct Data<A, B, C> {
    a: Box<Aligned<A>>,
    b: Box<Aligned<B>>,
    c: Box<Aligned<C>>,
}

impl<S: Float, A: Tensor<Scalar = S>, B: Tensor<Scalar = S>, C: Tensor<Scalar = S>> Data<A, B, C> {
    fn new() -> Self {
        Data { a: Aligned::filled(1, 1.0), b: Aligned::filled(2, 1.0), c: Aligned::zeros() }
    }
}

/// The libraries that take any two matrices.
fn libraries<'a, S: Float, C: Tensor<Scalar = S>>(
    a: Operand<'a, S>,
    b: Operand<'a, S>,
    work: usize,
) -> Vec<Contestant<'a, Box<Aligned<C>>>> {
    fn library<'a, S: Float, C: Tensor<Scalar = S>, E: Engine>(
        a: Operand<'a, S>,
        b: Operand<'a, S>,
    ) -> Contestant<'a, Box<Aligned<C>>> {
        Contestant::new(E::NAME, move |c: &mut Box<Aligned<C>>| {
            E::product(black_box(a), black_box(b), c.flat_mut(), false)
        })
    }
    let mut all = vec![
        library::<S, C, Ndarray>(a, b),
        library::<S, C, MatrixMultiply>(a, b),
        library::<S, C, Faer>(a, b),
        library::<S, C, Gemm>(a, b),
    ];
    if work <= SMALL {
        let plan = NanoGemm::new(a, b);
        all.push(Contestant::new(NanoGemm::<S>::NAME, move |c: &mut Box<Aligned<C>>| {
            plan.product(black_box(a), black_box(b), c.flat_mut())
        }));
    }
    all
}

/// A row: the kernel's function of two operands, the loops by hand and the static libraries of the same, and the
/// operands as the other libraries read them.
macro_rules! row {
    ($bench:ident, $spec:expr, $ours:ident, |$a:ident: $A:ty, $b:ident: $B:ty| -> $C:ty, $Loops:ident, $by_hand:ident, $left:expr, $right:expr) => {{
        let spec = $spec;
        if !$bench.wants(&spec) {
            return;
        }
        let Data { a, b, mut c } = Data::<$A, $B, $C>::new();
        let ($a, $b) = (&**a, &**b);
        let mut contestants = vec![
            Contestant::new("cotangent", |c: &mut Box<Aligned<$C>>| $ours(black_box($a), black_box($b), &mut ***c)),
            Contestant::new("plain", |c: &mut Box<Aligned<$C>>| {
                let (a, b, c) = (black_box($a.rows()), black_box($b.rows()), c.rows_mut());
                separate::<$Loops, _, _, _>(a, b, c)
            }),
        ];
        if has_fused() {
            contestants.push(Contestant::new("plain-fma", |c: &mut Box<Aligned<$C>>| {
                let (a, b, c) = (black_box($a.rows()), black_box($b.rows()), c.rows_mut());
                fused::<$Loops, _, _, _>(a, b, c)
            }));
        }
        contestants.extend(libraries::<S, $C>($left, $right, I * J * K));
        if const { I * J * K <= SMALL } {
            contestants.push(Contestant::new(nalgebra_static::NAME, |c: &mut Box<Aligned<$C>>| {
                nalgebra_static::$by_hand(black_box($a.rows()), black_box($b.rows()), c.rows_mut())
            }));
        }
        $bench.row(spec, &mut c, contestants);
    }};
}

/// `z = x y`
pub fn nn<S: Float, X, Y, Z, const I: usize, const J: usize, const K: usize>(
    bench: &mut Bench,
    ours: impl Fn(&X, &Y, &mut Z),
) where
    X: Matrix<S, I, J>,
    Y: Matrix<S, J, K>,
    Z: Matrix<S, I, K>,
{
    let group = if size_of::<S>() == 8 { Group::ProductF64 } else { Group::ProductNn };
    let spec = spec::<S>("matmul", &[I, J, K], "forward", group, 1);
    row!(
        bench,
        spec,
        ours,
        |x: X, y: Y| -> Z,
        Nn,
        nn,
        Operand::new(x.flat(), I, J),
        Operand::new(y.flat(), J, K)
    );
}

/// `x_bar = z_bar yᵀ`
pub fn nt<S: Float, X, Y, Z, const I: usize, const J: usize, const K: usize>(
    bench: &mut Bench,
    ours: impl Fn(&Y, &Z, &mut X),
) where
    X: Matrix<S, I, J>,
    Y: Matrix<S, J, K>,
    Z: Matrix<S, I, K>,
{
    let spec = spec::<S>("matmul", &[I, J, K], "vjp_x", Group::ProductNt, 1);
    row!(
        bench,
        spec,
        ours,
        |y: Y, z_bar: Z| -> X,
        Nt,
        nt,
        Operand::new(z_bar.flat(), I, K),
        Operand::new(y.flat(), J, K).t()
    );
}

/// `y_bar = xᵀ z_bar`
pub fn tn<S: Float, X, Y, Z, const I: usize, const J: usize, const K: usize>(
    bench: &mut Bench,
    ours: impl Fn(&X, &Z, &mut Y),
) where
    X: Matrix<S, I, J>,
    Y: Matrix<S, J, K>,
    Z: Matrix<S, I, K>,
{
    let spec = spec::<S>("matmul", &[I, J, K], "vjp_y", Group::ProductTn, 1);
    row!(
        bench,
        spec,
        ours,
        |x: X, z_bar: Z| -> Y,
        Tn,
        tn,
        Operand::new(x.flat(), I, J).t(),
        Operand::new(z_bar.flat(), I, K)
    );
}

/// Value and tangent. By a library: three products, the last added to the second.
pub fn jvp<const I: usize, const J: usize, const K: usize>(
    bench: &mut Bench,
    ours: impl Fn(&[[f32; J]; I], &[[f32; K]; J], &[[f32; J]; I], &[[f32; K]; J], &mut [[f32; K]; I], &mut [[f32; K]; I]),
) {
    type Out<const I: usize, const K: usize> = (Box<Aligned<[[f32; K]; I]>>, Box<Aligned<[[f32; K]; I]>>);
    let spec = spec::<f32>("matmul", &[I, J, K], "jvp", Group::ProductJvp, 3);
    if !bench.wants(&spec) {
        return;
    }
    let (x, x_dot) = (Aligned::<[[f32; J]; I]>::filled(1, 1.0), Aligned::<[[f32; J]; I]>::filled(2, 1.0));
    let (y, y_dot) = (Aligned::<[[f32; K]; J]>::filled(3, 1.0), Aligned::<[[f32; K]; J]>::filled(4, 1.0));
    let (x, y, x_dot, y_dot) = (&**x, &**y, &**x_dot, &**y_dot);
    let mut out: Out<I, K> = (Aligned::zeros(), Aligned::zeros());
    let mut contestants = vec![
        Contestant::new("cotangent", |out: &mut Out<I, K>| {
            ours(black_box(x), black_box(y), black_box(x_dot), black_box(y_dot), &mut out.0, &mut out.1)
        }),
        Contestant::new("plain", |out: &mut Out<I, K>| {
            separate::<Nn, _, _, _>(black_box(x), black_box(y), &mut **out.0);
            separate::<Nn, _, _, _>(black_box(x_dot), black_box(y), &mut **out.1);
            separate::<NnAdd, _, _, _>(black_box(x), black_box(y_dot), &mut **out.1);
        }),
    ];
    if has_fused() {
        contestants.push(Contestant::new("plain-fma", |out: &mut Out<I, K>| {
            fused::<Nn, _, _, _>(black_box(x), black_box(y), &mut **out.0);
            fused::<Nn, _, _, _>(black_box(x_dot), black_box(y), &mut **out.1);
            fused::<NnAdd, _, _, _>(black_box(x), black_box(y_dot), &mut **out.1);
        }));
    }
    fn library<'a, E: Engine, const I: usize, const J: usize, const K: usize>(
        x: [&'a [[f32; J]; I]; 2],
        y: [&'a [[f32; K]; J]; 2],
    ) -> Contestant<'a, Out<I, K>> {
        let [x, x_dot] = x.map(|x| Operand::new(x.as_flattened(), I, J));
        let [y, y_dot] = y.map(|y| Operand::new(y.as_flattened(), J, K));
        Contestant::new(E::NAME, move |out: &mut Out<I, K>| {
            E::product(black_box(x), black_box(y), out.0.flat_mut(), false);
            E::product(black_box(x_dot), black_box(y), out.1.flat_mut(), false);
            E::product(black_box(x), black_box(y_dot), out.1.flat_mut(), true);
        })
    }
    contestants.push(library::<Ndarray, I, J, K>([x, x_dot], [y, y_dot]));
    contestants.push(library::<MatrixMultiply, I, J, K>([x, x_dot], [y, y_dot]));
    contestants.push(library::<Faer, I, J, K>([x, x_dot], [y, y_dot]));
    contestants.push(library::<Gemm, I, J, K>([x, x_dot], [y, y_dot]));
    bench.row(spec, &mut out, contestants);
}

/// A batch of products, one mode: by hand and by a library one after the other.
macro_rules! batch {
    ($name:ident, $doc:literal, $mode:literal, $group:expr, |$a:ident: $A:ty, $b:ident: $B:ty| -> $C:ty, $Loops:ident, $left:expr, $right:expr) => {
        #[doc = $doc]
        pub fn $name<const N: usize, const I: usize, const J: usize, const K: usize>(
            bench: &mut Bench,
            ours: impl Fn(&[$A; N], &[$B; N], &mut [$C; N]),
        ) {
            let spec = spec::<f32>("batch_matmul", &[N, I, J, K], $mode, $group, 1);
            if !bench.wants(&spec) {
                return;
            }
            let Data { a, b, mut c } = Data::<[$A; N], [$B; N], [$C; N]>::new();
            let (a, b) = (&**a, &**b);
            let mut contestants = vec![
                Contestant::new("cotangent", |c: &mut Box<Aligned<[$C; N]>>| {
                    ours(black_box(a), black_box(b), &mut ***c)
                }),
                Contestant::new("plain", |c: &mut Box<Aligned<[$C; N]>>| {
                    separate::<Batch<$Loops>, _, _, _>(black_box(a), black_box(b), &mut ***c)
                }),
            ];
            if has_fused() {
                contestants.push(Contestant::new("plain-fma", |c: &mut Box<Aligned<[$C; N]>>| {
                    fused::<Batch<$Loops>, _, _, _>(black_box(a), black_box(b), &mut ***c)
                }));
            }
            fn library<'a, E: Engine, const N: usize, const I: usize, const J: usize, const K: usize>(
                a: &'a [$A; N],
                b: &'a [$B; N],
            ) -> Contestant<'a, Box<Aligned<[$C; N]>>> {
                Contestant::new(E::NAME, move |c: &mut Box<Aligned<[$C; N]>>| {
                    for (($a, $b), c) in black_box(a).iter().zip(black_box(b)).zip(&mut ***c) {
                        E::product($left, $right, c.as_flattened_mut(), false);
                    }
                })
            }
            contestants.push(library::<Ndarray, N, I, J, K>(a, b));
            contestants.push(library::<MatrixMultiply, N, I, J, K>(a, b));
            contestants.push(library::<Faer, N, I, J, K>(a, b));
            contestants.push(library::<Gemm, N, I, J, K>(a, b));
            bench.row(spec, &mut c, contestants);
        }
    };
}
batch!(
    batch_nn, "`z = x y` for each pair of a batch", "forward", Group::Batch,
    |x: [[f32; J]; I], y: [[f32; K]; J]| -> [[f32; K]; I], Nn,
    Operand::new(x.as_flattened(), I, J), Operand::new(y.as_flattened(), J, K)
);
batch!(
    batch_nt, "`x_bar = z_bar yᵀ` for each pair of a batch", "vjp_x", Group::Batch,
    |y: [[f32; K]; J], z_bar: [[f32; K]; I]| -> [[f32; J]; I], Nt,
    Operand::new(z_bar.as_flattened(), I, K), Operand::new(y.as_flattened(), J, K).t()
);
batch!(
    batch_tn, "`y_bar = xᵀ z_bar` for each pair of a batch", "vjp_y", Group::Batch,
    |x: [[f32; J]; I], z_bar: [[f32; K]; I]| -> [[f32; K]; J], Tn,
    Operand::new(x.as_flattened(), I, J).t(), Operand::new(z_bar.as_flattened(), I, K)
);
