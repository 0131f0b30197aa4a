//! The elementary functions as one list: takes the name of a macro and what else it shall be given, calls it with all
//! of them. The scalar trait, the lanes, the functions of a speculative block and the tests are made from it: a new
//! function is a row here and a body in `math` for each scalar type.

/// Calls a macro with what it is given and three groups: functions of one argument; those with a branch for rare
/// arguments, and their form without it; functions of two arguments.
macro_rules! for_each_function {
    ($then:ident! { $($given:tt)* }) => {
        $then! { $($given)*
            {
                /// The absolute value.
                abs
                /// -1, 0 or 1; NaN at NaN.
                sign
                /// The largest integer not above `x`.
                floor
                /// The exponential.
                exp
                /// `exp(x) - 1`, accurate near zero.
                expm1
                /// The natural logarithm.
                log
                /// `log(1 + x)`, accurate near zero.
                log1p
                /// The square root, correctly rounded.
                sqrt
                /// One over the square root.
                rsqrt
                /// The cube root.
                cbrt
                /// The inverse sine.
                asin
                /// The inverse cosine.
                acos
                /// The inverse tangent.
                atan
                /// The hyperbolic sine.
                sinh
                /// The hyperbolic cosine.
                cosh
                /// The hyperbolic tangent.
                tanh
                /// The inverse hyperbolic sine.
                asinh
                /// The inverse hyperbolic cosine.
                acosh
                /// The inverse hyperbolic tangent.
                atanh
                /// `1 / (1 + exp(-x))`.
                logistic
                /// `log(1 + exp(x))`.
                softplus
                /// The error function.
                erf
                /// `1 - erf(x)`, accurate where that is tiny.
                erfc
            }
            {
                /// The sine.
                sin sin_moderate
                /// The cosine.
                cos cos_moderate
                /// The tangent.
                tan tan_moderate
            }
            {
                /// `x` to the power `y`.
                pow(x, y)
                /// The angle of the point `(x, y)`.
                atan2(y, x)
                /// The smaller; NaN if either is NaN.
                min(a, b)
                /// The larger; NaN if either is NaN.
                max(a, b)
            }
        }
    };
}
pub(crate) use for_each_function;
