//! The scalar types: takes nothing, gives the trait `Real`, which `f32` and `f64` implement and nothing else can.
//!
//! Code generic over `Real` runs the same formulas in both precisions, under any instruction set. Error bounds stand at the functions of
//! [`crate::math`], which these only name.

use crate::isa::Isa;
use core::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

pub(crate) mod sealed {
    /// Keeps the traits of this crate to its own types.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl<T: Sealed, const N: usize> Sealed for [T; N] {}
}

/// A floating-point scalar, `f32` or `f64`, with its elementary functions.
pub trait Real:
    sealed::Sealed
    + Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// Up to this magnitude the `_moderate` functions hold.
    #[doc(hidden)]
    const TRIG_LIMIT: Self;

    /// The absolute value.
    fn abs<S: Isa>(x: Self) -> Self;
    /// -1, 0 or 1; NaN at NaN.
    fn sign<S: Isa>(x: Self) -> Self;
    /// The largest integer not above `x`.
    fn floor<S: Isa>(x: Self) -> Self;
    /// The exponential.
    fn exp<S: Isa>(x: Self) -> Self;
    /// `exp(x) - 1`, accurate near zero.
    fn expm1<S: Isa>(x: Self) -> Self;
    /// The natural logarithm; NaN below 0.
    fn log<S: Isa>(x: Self) -> Self;
    /// `log(1 + x)`, accurate near zero.
    fn log1p<S: Isa>(x: Self) -> Self;
    /// The square root, correctly rounded; NaN below 0.
    fn sqrt<S: Isa>(x: Self) -> Self;
    /// One over the square root.
    fn rsqrt<S: Isa>(x: Self) -> Self;
    /// The cube root.
    fn cbrt<S: Isa>(x: Self) -> Self;
    /// The sine of `x` in radians.
    fn sin<S: Isa>(x: Self) -> Self;
    /// The cosine of `x` in radians.
    fn cos<S: Isa>(x: Self) -> Self;
    /// The tangent of `x` in radians.
    fn tan<S: Isa>(x: Self) -> Self;
    /// The inverse sine, in radians from -π/2 to π/2; NaN beyond -1 and 1.
    fn asin<S: Isa>(x: Self) -> Self;
    /// The inverse cosine, in radians from 0 to π; NaN beyond -1 and 1.
    fn acos<S: Isa>(x: Self) -> Self;
    /// The inverse tangent, in radians from -π/2 to π/2.
    fn atan<S: Isa>(x: Self) -> Self;
    /// The hyperbolic sine.
    fn sinh<S: Isa>(x: Self) -> Self;
    /// The hyperbolic cosine.
    fn cosh<S: Isa>(x: Self) -> Self;
    /// The hyperbolic tangent.
    fn tanh<S: Isa>(x: Self) -> Self;
    /// The inverse hyperbolic sine.
    fn asinh<S: Isa>(x: Self) -> Self;
    /// The inverse hyperbolic cosine.
    fn acosh<S: Isa>(x: Self) -> Self;
    /// The inverse hyperbolic tangent.
    fn atanh<S: Isa>(x: Self) -> Self;
    /// `1 / (1 + exp(-x))`.
    fn logistic<S: Isa>(x: Self) -> Self;
    /// `log(1 + exp(x))`.
    fn softplus<S: Isa>(x: Self) -> Self;
    /// The error function.
    fn erf<S: Isa>(x: Self) -> Self;
    /// `x` to the power `y`.
    fn pow<S: Isa>(x: Self, y: Self) -> Self;
    /// The angle of the point `(x, y)`, in radians from -π to π.
    fn atan2<S: Isa>(y: Self, x: Self) -> Self;
    /// The smaller; NaN if either is NaN.
    fn min<S: Isa>(a: Self, b: Self) -> Self;
    /// The larger; NaN if either is NaN.
    fn max<S: Isa>(a: Self, b: Self) -> Self;
    /// `x` to the whole power `n`.
    fn powi<S: Isa>(x: Self, n: i32) -> Self;
    #[doc(hidden)]
    fn sqrt_baseline(x: Self) -> Self;
    #[doc(hidden)]
    fn sin_moderate<S: Isa>(x: Self) -> Self;
    #[doc(hidden)]
    fn cos_moderate<S: Isa>(x: Self) -> Self;
    #[doc(hidden)]
    fn tan_moderate<S: Isa>(x: Self) -> Self;
}

/// Implements `Real` for a type by the module of the same name under `math`.
macro_rules! real {
    ($t:ident: $($unary:ident)*; $($binary:ident)*) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $t::INFINITY;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const TRIG_LIMIT: Self = crate::math::$t::TRIG_LIMIT;
            $(
                #[inline(always)]
                fn $unary<S: Isa>(x: Self) -> Self {
                    crate::math::$t::$unary::<S>(x)
                }
            )*
            $(
                #[inline(always)]
                fn $binary<S: Isa>(a: Self, b: Self) -> Self {
                    crate::math::$t::$binary::<S>(a, b)
                }
            )*
            #[inline(always)]
            fn sqrt_baseline(x: Self) -> Self {
                crate::math::$t::sqrt_baseline(x)
            }
            #[inline(always)]
            fn powi<S: Isa>(x: Self, n: i32) -> Self {
                crate::math::$t::powi::<S>(x, n)
            }
        }
    };
    ($($t:ident)*) => {
        $(real! { $t:
            abs sign floor exp expm1 log log1p sqrt rsqrt cbrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh logistic softplus erf sin_moderate cos_moderate tan_moderate;
            pow atan2 min max
        })*
    };
}

real! { f32 f64 }
