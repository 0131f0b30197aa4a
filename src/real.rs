//! The scalar types: takes nothing, gives the trait `Real`, which `f32` and `f64` implement and nothing else can.
//!
//! Code generic over `Real` runs the same formulas in both precisions, under any instruction set. Error bounds stand at
//! the functions of [`crate::math`], which these only name.

use crate::functions::for_each_function;
use crate::isa::Isa;
use crate::kernel::Scalar;
use core::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

pub(crate) mod sealed {
    /// Keeps the traits of this crate to its own types.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl<T: Sealed, const N: usize> Sealed for [T; N] {}
}

/// The functions of a scalar.
macro_rules! declared {
    (
        {$($(#[$doc:meta])* $unary:ident)*}
        {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
        {$($(#[$binary_doc:meta])* $binary:ident($a:ident, $b:ident))*}
    ) => {
        $($(#[$doc])* fn $unary<S: Isa>(x: Self) -> Self;)*
        $($(#[$tried_doc])* fn $tried<S: Isa>(x: Self) -> Self;)*
        $(#[doc(hidden)] fn $moderate<S: Isa>(x: Self) -> Self;)*
        $($(#[$binary_doc])* fn $binary<S: Isa>($a: Self, $b: Self) -> Self;)*
    };
}

/// They, by those of a module under `math`.
macro_rules! defined {
    (
        $t:ident
        {$($(#[$doc:meta])* $unary:ident)*}
        {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
        {$($(#[$binary_doc:meta])* $binary:ident($a:ident, $b:ident))*}
    ) => {
        defined! { $t $($unary)* $($tried)* $($moderate)* }
        $(
            #[inline(always)]
            fn $binary<S: Isa>($a: Self, $b: Self) -> Self {
                crate::math::$t::$binary::<S>($a, $b)
            }
        )*
    };
    ($t:ident $($unary:ident)*) => {$(
        #[inline(always)]
        fn $unary<S: Isa>(x: Self) -> Self {
            crate::math::$t::$unary::<S>(x)
        }
    )*};
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
    /// Which of them it is.
    const SCALAR: Scalar;
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

    for_each_function! { declared! {} }

    /// `x` to the whole power `n`.
    fn powi<S: Isa>(x: Self, n: i32) -> Self;
    #[doc(hidden)]
    fn sqrt_baseline(x: Self) -> Self;
}

/// Implements `Real` for a type by the module of the same name under `math`.
macro_rules! real {
    ($($t:ident $scalar:ident)*) => {$(
        impl Real for $t {
            const SCALAR: Scalar = Scalar::$scalar;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $t::INFINITY;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const TRIG_LIMIT: Self = crate::math::$t::TRIG_LIMIT;
            for_each_function! { defined! { $t } }
            #[inline(always)]
            fn sqrt_baseline(x: Self) -> Self {
                crate::math::$t::sqrt_baseline(x)
            }
            #[inline(always)]
            fn powi<S: Isa>(x: Self, n: i32) -> Self {
                crate::math::$t::powi::<S>(x, n)
            }
        }
    )*};
}

real! { f32 F32 f64 F64 }
