//! The libraries: takes two matrices, gives their product by each library, one thread each, all through one interface.
//!
//! All unsafe code of the peers is here: most of these libraries take pointers and strides.

use cotangent_measure::Number;
use nalgebra::{SMatrixView, SMatrixViewMut};
use nano_gemm::Plan;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// The scalar types, and what the libraries have a function of its own for.
pub trait Float: Number + ndarray::LinalgScalar + nalgebra::RealField + faer::traits::ComplexField {
    /// `a * b + c`, rounded once.
    fn fused(a: Self, b: Self, c: Self) -> Self;
    /// `matrixmultiply`'s function: `c = a b + beta c`.
    ///
    /// # Safety
    /// As for `matrixmultiply::sgemm`: every element that the extents and strides reach is valid.
    #[allow(unsafe_code, reason = "takes pointers")]
    unsafe fn matrixmultiply(
        m: usize,
        k: usize,
        n: usize,
        a: Pointer<Self>,
        b: Pointer<Self>,
        beta: Self,
        c: *mut Self,
    );
    /// `nano-gemm`'s plan for column-major products; the left operand has contiguous columns if `contiguous`.
    fn plan(m: usize, n: usize, k: usize, contiguous: bool) -> Plan<Self>;
}

/// The first element of a matrix, the steps from row to row and from column to column.
pub type Pointer<S> = (*const S, isize, isize);

macro_rules! float {
    ($t:ident $gemm:ident $plan:ident $plan_contiguous:ident) => {
        impl Float for $t {
            #[inline(always)]
            fn fused(a: Self, b: Self, c: Self) -> Self {
                $t::mul_add(a, b, c)
            }
            #[inline(always)]
            #[allow(unsafe_code, reason = "takes pointers")]
            unsafe fn matrixmultiply(
                m: usize,
                k: usize,
                n: usize,
                a: Pointer<Self>,
                b: Pointer<Self>,
                beta: Self,
                c: *mut Self,
            ) {
                // SAFETY: the caller's promise.
                unsafe { matrixmultiply::$gemm(m, k, n, 1.0, a.0, a.1, a.2, b.0, b.1, b.2, beta, c, n as isize, 1) }
            }
            fn plan(m: usize, n: usize, k: usize, contiguous: bool) -> Plan<Self> {
                if contiguous { Plan::$plan_contiguous(m, n, k) } else { Plan::$plan(m, n, k) }
            }
        }
    };
}
float!(f32 sgemm new_f32 new_colmajor_lhs_and_dst_f32);
float!(f64 dgemm new_f64 new_colmajor_lhs_and_dst_f64);

/// A matrix as a product reads it: `rows` by `columns`, stored by rows, or by columns where it is the transpose of what
/// is stored.
#[derive(Clone, Copy)]
pub struct Operand<'a, S> {
    data: &'a [S],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, S> Operand<'a, S> {
    /// A matrix stored by rows.
    #[inline(always)]
    pub fn new(data: &'a [S], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns);
        Operand { data, rows, columns, transposed: false }
    }

    /// Its transpose, not moved.
    #[inline(always)]
    pub fn t(self) -> Self {
        Operand { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    #[inline(always)]
    fn pointer(&self) -> Pointer<S> {
        let (down, right) = if self.transposed { (1, self.rows) } else { (self.columns, 1) };
        (self.data.as_ptr(), down as isize, right as isize)
    }
}

/// A library.
pub trait Engine {
    /// Its name in the output.
    const NAME: &'static str;
    /// `c = a b`, or `c += a b` if `add`; `c` is stored by rows.
    fn product<S: Float>(a: Operand<S>, b: Operand<S>, c: &mut [S], add: bool);
}

#[inline(always)]
fn extents<S>(a: &Operand<S>, b: &Operand<S>, c: &[S]) -> (usize, usize, usize) {
    assert_eq!(a.columns, b.rows);
    assert_eq!(c.len(), a.rows * b.columns);
    (a.rows, a.columns, b.columns)
}

#[inline(always)]
fn factor<S: Float>(add: bool) -> S {
    S::of(if add { 1.0 } else { 0.0 })
}

/// `matrixmultiply`.
pub struct MatrixMultiply;

impl Engine for MatrixMultiply {
    const NAME: &'static str = "matrixmultiply";
    #[inline(always)]
    #[allow(unsafe_code, reason = "takes pointers")]
    fn product<S: Float>(a: Operand<S>, b: Operand<S>, c: &mut [S], add: bool) {
        let (m, k, n) = extents(&a, &b, c);
        // SAFETY: an operand has as many elements as its extents say, `extents` checks `c`, which is borrowed alone.
        unsafe { S::matrixmultiply(m, k, n, a.pointer(), b.pointer(), factor(add), c.as_mut_ptr()) }
    }
}

/// `gemm`.
pub struct Gemm;

impl Engine for Gemm {
    const NAME: &'static str = "gemm";
    #[inline(always)]
    #[allow(unsafe_code, reason = "takes pointers")]
    fn product<S: Float>(a: Operand<S>, b: Operand<S>, c: &mut [S], add: bool) {
        let (m, k, n) = extents(&a, &b, c);
        let ((a, a_down, a_right), (b, b_down, b_right)) = (a.pointer(), b.pointer());
        let (alpha, beta) = (factor(add), factor(true));
        let one_thread = gemm::Parallelism::None;
        // SAFETY: an operand has as many elements as its extents say, `extents` checks `c`, which is borrowed alone.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                add,
                a,
                a_right,
                a_down,
                b,
                b_right,
                b_down,
                alpha,
                beta,
                false,
                false,
                false,
                one_thread,
            )
        }
    }
}

/// `faer`.
pub struct Faer;

impl Engine for Faer {
    const NAME: &'static str = "faer";
    #[inline(always)]
    fn product<S: Float>(a: Operand<S>, b: Operand<S>, c: &mut [S], add: bool) {
        use faer::{Accum, MatMut, MatRef, Par};
        let (m, _, n) = extents(&a, &b, c);
        #[inline(always)]
        fn view<'a, S: Float>(x: Operand<'a, S>) -> MatRef<'a, S> {
            if x.transposed {
                MatRef::from_column_major_slice(x.data, x.rows, x.columns)
            } else {
                MatRef::from_row_major_slice(x.data, x.rows, x.columns)
            }
        }
        let accumulate = if add { Accum::Add } else { Accum::Replace };
        let c = MatMut::from_row_major_slice_mut(c, m, n);
        faer::linalg::matmul::matmul(c, accumulate, view(a), view(b), S::of(1.0), Par::Seq);
    }
}

/// `ndarray`.
pub struct Ndarray;

impl Engine for Ndarray {
    const NAME: &'static str = "ndarray";
    #[inline(always)]
    fn product<S: Float>(a: Operand<S>, b: Operand<S>, c: &mut [S], add: bool) {
        let (m, _, n) = extents(&a, &b, c);
        #[inline(always)]
        fn view<'a, S: Float>(x: Operand<'a, S>) -> ArrayView2<'a, S> {
            let stored = if x.transposed { (x.columns, x.rows) } else { (x.rows, x.columns) };
            let view = ArrayView2::from_shape(stored, x.data).expect("as many as its extents say");
            if x.transposed { view.reversed_axes() } else { view }
        }
        let mut c = ArrayViewMut2::from_shape((m, n), c).expect("checked");
        general_mat_mul(S::of(1.0), &view(a), &view(b), factor(add), &mut c);
    }
}

/// `nano-gemm`, planned beforehand for two operands of these extents and orders.
pub struct NanoGemm<S: Float>(Plan<S>);

impl<S: Float> NanoGemm<S> {
    /// Its name in the output.
    pub const NAME: &'static str = "nano-gemm";

    /// The plan. The library wants columns contiguous: what is stored by rows is the transpose, so it multiplies `bᵀ
    /// aᵀ`.
    pub fn new(a: Operand<S>, b: Operand<S>) -> Self {
        NanoGemm(S::plan(b.columns, a.rows, a.columns, !b.transposed))
    }

    /// `c = a b`, of the extents and orders of the plan.
    #[inline(always)]
    #[allow(unsafe_code, reason = "takes pointers")]
    pub fn product(&self, a: Operand<S>, b: Operand<S>, c: &mut [S]) {
        let (m, k, n) = extents(&a, &b, c);
        let ((a, a_down, a_right), (b, b_down, b_right)) = (a.pointer(), b.pointer());
        let (alpha, beta) = (factor(false), factor(true));
        let (c, width) = (c.as_mut_ptr(), n as isize);
        // SAFETY: an operand has as many elements as its extents say, `extents` checks `c`, which is borrowed alone.
        unsafe {
            self.0.execute_unchecked(
                n, m, k, c, 1, width, b, b_right, b_down, a, a_right, a_down, alpha, beta, false, false,
            )
        }
    }
}

/// `nalgebra`'s matrices of static extents, whose columns are contiguous: what is stored by rows is the transpose.
pub mod nalgebra_static {
    use super::{Float, SMatrixView, SMatrixViewMut};

    /// Its name in the output.
    pub const NAME: &str = "nalgebra";

    /// `z = x y`, as `zᵀ = yᵀ xᵀ`.
    #[inline(always)]
    pub fn nn<S: Float, const I: usize, const J: usize, const K: usize>(
        x: &[[S; J]; I],
        y: &[[S; K]; J],
        z: &mut [[S; K]; I],
    ) {
        let x = SMatrixView::<S, J, I>::from_slice(x.as_flattened());
        let y = SMatrixView::<S, K, J>::from_slice(y.as_flattened());
        SMatrixViewMut::<S, K, I>::from_slice(z.as_flattened_mut()).gemm(S::of(1.0), &y, &x, S::of(0.0));
    }

    /// `x_bar = z_bar yᵀ`
    #[inline(always)]
    pub fn nt<S: Float, const I: usize, const J: usize, const K: usize>(
        y: &[[S; K]; J],
        z_bar: &[[S; K]; I],
        x_bar: &mut [[S; J]; I],
    ) {
        let y = SMatrixView::<S, K, J>::from_slice(y.as_flattened());
        let z_bar = SMatrixView::<S, K, I>::from_slice(z_bar.as_flattened());
        SMatrixViewMut::<S, J, I>::from_slice(x_bar.as_flattened_mut()).gemm_tr(S::of(1.0), &y, &z_bar, S::of(0.0));
    }

    /// `y_bar = xᵀ z_bar`
    #[inline(always)]
    pub fn tn<S: Float, const I: usize, const J: usize, const K: usize>(
        x: &[[S; J]; I],
        z_bar: &[[S; K]; I],
        y_bar: &mut [[S; K]; J],
    ) {
        let x = SMatrixView::<S, J, I>::from_slice(x.as_flattened());
        let z_bar = SMatrixView::<S, K, I>::from_slice(z_bar.as_flattened());
        let mut y_bar = SMatrixViewMut::<S, K, J>::from_slice(y_bar.as_flattened_mut());
        y_bar.gemm(S::of(1.0), &z_bar, &x.transpose(), S::of(0.0));
    }
}
