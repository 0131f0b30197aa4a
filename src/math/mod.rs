//! Elementary functions on `f32` and `f64`, in portable `core` arithmetic.
//!
//! Takes plain numbers, gives plain numbers; nothing can panic. Every function is generic over an instruction set,
//! whose multiply-add and square root it uses, and is a straight line of arithmetic and selects, so that a loop over an
//! array turns into vector code. The only branch is in `sin`, `cos` and `tan`, for arguments beyond `TRIG_LIMIT`; the
//! lane types test it once for a whole vector, a `Speculation` once for a whole loop.
//!
//! Under [`Portable`](crate::isa::Portable) no fused multiply-add is used: results are the same bits on every IEEE
//! machine in round-to-nearest mode, with and without `std`. Where a target has no square root and there is no `std`,
//! it is computed in integers, correctly rounded too but some ten times slower than the instruction. The other
//! instruction sets agree with each other, and keep the same error bounds.
//!
//! Polynomial coefficients are minimax fits (Remez exchange in 110-digit arithmetic, each coefficient rounded in
//! turn and the rest fitted again). Where a scheme comes from elsewhere, a comment names it.

pub mod f32;
pub mod f64;
mod huge;
mod wide;

/// `yes` or `no`, both of them computed. An `if` may become a branch again, which ends vectorising; this may not.
#[inline(always)]
fn pick<T: Copy>(test: bool, yes: T, no: T) -> T {
    core::hint::select_unpredictable(test, yes, no)
}

/// The functions with a branch, without it: for a loop over an array, which then turns into vector code, and a test
/// after it.
macro_rules! speculation {
    ($T:ident, $Bits:ident) => {
        /// `sin`, `cos` and `tan` for a loop over many arguments: without a branch, the same bits as the functions
        /// themselves as long as no argument is beyond [`TRIG_LIMIT`] or a NaN. If [`failed`](Speculation::failed) says
        /// that one was, all results are to be computed again.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Speculation($Bits);

        impl Speculation {
            /// Before the first argument.
            #[inline(always)]
            pub const fn new() -> Self {
                Speculation(0)
            }
            /// Whether some argument was beyond the limit.
            #[inline(always)]
            pub const fn failed(self) -> bool {
                self.0 & SIGN != 0
            }
            /// Both are positive as integers, so the sign of their difference says which is larger; a union of signs
            /// needs no comparison.
            #[inline(always)]
            const fn note(&mut self, x: $T) {
                self.0 |= TRIG_LIMIT.to_bits().wrapping_sub(x.to_bits() & !SIGN);
            }
            $crate::functions::for_each_function! { tried! { $T } }
        }
    };
}
pub(crate) use speculation;

/// The functions of a speculative block.
macro_rules! tried {
    ($T:ident $unary:tt {$($(#[$doc:meta])* $name:ident $moderate:ident)*} $binary:tt) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name<S: Isa>(&mut self, x: $T) -> $T {
            self.note(x);
            $moderate::<S>(x)
        }
    )*};
}
pub(crate) use tried;

/// Evaluates `c[0] + c[1] t + ...` by Horner's rule, in multiply-adds of an instruction set; the indices are written
/// out, lest a loop be left in the way of vectorising the caller's.
macro_rules! horner {
    ($S:ident, $t:ident, $c:expr, $last:literal) => { $c[$last] };
    ($S:ident, $t:ident, $c:expr, $first:literal $($rest:literal)+) => {
        $S::mul_add($crate::math::horner!($S, $t, $c, $($rest)+), $t, $c[$first])
    };
}
pub(crate) use horner;

/// The same as two interleaved polynomials in `t²`, even and odd: as many operations, half the latency.
macro_rules! even_odd {
    ($S:ident, $t:ident, $c:expr, $($even:literal)+; $($odd:literal)+) => {{
        let square = $t * $t;
        let even = $crate::math::horner!($S, square, $c, $($even)+);
        let odd = $crate::math::horner!($S, square, $c, $($odd)+);
        $S::mul_add($t, odd, even)
    }};
}
pub(crate) use even_odd;
