//! Elementary functions on `f32` and `f64`, in portable `core` arithmetic.
//!
//! Takes plain numbers, gives plain numbers; nothing can panic. Every function is a straight line of additions,
//! multiplications, divisions and selects, so that a loop over a fixed-size array of lanes turns into vector code.
//! The only branch is in `sin`, `cos` and `tan`, for arguments beyond `TRIG_LIMIT`; the lane types test it once
//! for a whole vector. No fused multiply-add is assumed: results are the same bits on every IEEE machine in
//! round-to-nearest mode, with and without `std`. Without `std` the square root is computed in integers, correctly
//! rounded too but some ten times slower than the instruction.
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

/// Evaluates `c[0] + c[1] t + ...` by Horner's rule; the indices are written out, lest a loop be left in the way of
/// vectorising the caller's.
macro_rules! horner {
    ($t:ident, $c:expr, $last:literal) => { $c[$last] };
    ($t:ident, $c:expr, $first:literal $($rest:literal)+) => {
        $crate::math::horner!($t, $c, $($rest)+) * $t + $c[$first]
    };
}
pub(crate) use horner;

/// The same as two interleaved polynomials in `t²`, even and odd: as many operations, half the latency.
macro_rules! even_odd {
    ($t:ident, $c:expr, $($even:literal)+; $($odd:literal)+) => {{
        let square = $t * $t;
        let even = $crate::math::horner!(square, $c, $($even)+);
        let odd = $crate::math::horner!(square, $c, $($odd)+);
        even + $t * odd
    }};
}
pub(crate) use even_odd;
