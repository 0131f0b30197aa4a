//! SSE2: takes a scalar, gives its square root by the instruction. Part of every 64-bit x86 that has vector registers
//! at all.

use crate::kernel::Scalar;
use crate::real::Real;
use core::arch::x86_64::*;
use core::mem::transmute_copy;

/// The square root, correctly rounded.
#[inline(always)]
pub fn sqrt<T: Real>(x: T) -> T {
    // SAFETY: the build has SSE2, else this module is left out; T is the type that it says.
    unsafe {
        match T::SCALAR {
            Scalar::F32 => transmute_copy(&_mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(transmute_copy(&x))))),
            Scalar::F64 => {
                let x = _mm_set_sd(transmute_copy(&x));
                transmute_copy(&_mm_cvtsd_f64(_mm_sqrt_sd(x, x)))
            }
        }
    }
}
