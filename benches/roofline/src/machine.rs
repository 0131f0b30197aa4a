//! Where hand-written loops run: takes them, gives them compiled for the build's target and for a core with AVX2 and
//! FMA. The limits of the core are those of `cotangent-measure`.

use crate::plain::{Fused, Loops, Separate};
pub use cotangent_measure::machine::*;

/// Whether [`fused`] may be called.
pub fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

/// Runs loops compiled with AVX2 and FMA where the target is x86-64. Panics where the machine lacks them.
#[inline(always)]
#[allow(unsafe_code, reason = "a call into a function with instructions of its own")]
pub fn fused<L: Loops<X, Y, Z>, X, Y, Z>(x: &X, y: &Y, z: &mut Z) {
    #[cfg(target_arch = "x86_64")]
    {
        // The arguments are this function's own, so that the compiler knows here, too, that they do not overlap.
        #[target_feature(enable = "avx2,fma")]
        fn inner<L: Loops<X, Y, Z>, X, Y, Z>(x: &X, y: &Y, z: &mut Z) {
            L::run::<Fused>(x, y, z)
        }
        assert!(has_fused(), "no AVX2 and FMA");
        // SAFETY: the assertion shows that the machine has both features.
        unsafe { inner::<L, X, Y, Z>(x, y, z) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    L::run::<Fused>(x, y, z)
}

/// Whether [`each_widest`] may be called.
pub fn has_widest() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_fused()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Functions that run loops once for each of many arguments, compiled with instructions that are asked for once.
macro_rules! each {
    ($(#[$doc:meta])* $name:ident, $has:ident, $features:literal) => {
        $(#[$doc])*
        #[allow(unsafe_code, reason = "a call into a function with instructions of its own")]
        pub fn $name<L: Loops<X, Y, Z>, X, Y, Z>(x: &[X], y: &[Y], z: &mut [Z]) {
            // The arguments are this function's own, as in `fused`.
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = $features))]
            #[inline(never)]
            fn one<L: Loops<X, Y, Z>, X, Y, Z>(x: &X, y: &Y, z: &mut Z) {
                L::run::<Fused>(x, y, z)
            }
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = $features))]
            fn all<L: Loops<X, Y, Z>, X, Y, Z>(x: &[X], y: &[Y], z: &mut [Z]) {
                for ((x, y), z) in x.iter().zip(y).zip(z) {
                    one::<L, X, Y, Z>(x, y, z);
                }
            }
            assert!($has(), "no {}", $features);
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the assertion shows that the machine has the features.
            unsafe {
                all::<L, X, Y, Z>(x, y, z)
            }
            #[cfg(not(target_arch = "x86_64"))]
            all::<L, X, Y, Z>(x, y, z)
        }
    };
}
each! {
    /// As [`fused`], for each. Panics where the machine lacks AVX2 and FMA.
    each_fused, has_fused, "avx2,fma"
}
each! {
    /// With AVX-512. Panics where the machine lacks it.
    each_widest, has_widest, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"
}

/// Runs loops compiled for the target as it is: the counterpart of [`fused`], at the same cost of a call.
#[inline(never)]
pub fn separate<L: Loops<X, Y, Z>, X, Y, Z>(x: &X, y: &Y, z: &mut Z) {
    L::run::<Separate>(x, y, z)
}
