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

/// Runs loops compiled for the target as it is: the counterpart of [`fused`], at the same cost of a call.
#[inline(never)]
pub fn separate<L: Loops<X, Y, Z>, X, Y, Z>(x: &X, y: &Y, z: &mut Z) {
    L::run::<Separate>(x, y, z)
}
