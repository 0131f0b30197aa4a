//! Elementary functions on `f32` and `f64`, in portable `core` arithmetic.
//!
//! Takes plain numbers, gives plain numbers; nothing can panic. Every function is generic over an instruction set, whose multiply-add and
//! square root it uses, and is a straight line of arithmetic and selects, so that a loop over an array turns into vector code. The only
//! branch is in `sin`, `cos` and `tan`, for arguments beyond `TRIG_LIMIT`; the lane types test it once for a whole vector.
//!
//! Under [`Portable`](crate::isa::Portable) no fused multiply-add is used: results are the same bits on every IEEE machine in round-to-nearest
//! mode, with and without `std`. Where a target has no square root and there is no `std`, it is computed in integers, correctly rounded too
//! but some ten times slower than the instruction. The other instruction sets agree with each other, and keep the same error bounds.
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

/// Evaluates `c[0] + c[1] t + ...` by Horner's rule, in multiply-adds of an instruction set; the indices are written out, lest a loop be
/// left in the way of vectorising the caller's.
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
