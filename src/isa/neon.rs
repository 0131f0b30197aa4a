//! NEON: fused multiply-add and square root of scalars, from which the compiler makes vectors. Part of every 64-bit
//! ARM.

use super::*;
use crate::kernel::Scalar;
use core::arch::aarch64::*;
use core::mem::transmute_copy;

/// The instructions of 64-bit ARM.
#[derive(Clone, Copy, Debug)]
pub struct Neon;

impl Sealed for Neon {}
impl Isa for Neon {
    const NAME: &'static str = "neon";
    const MACHINE: Machine = Machine::Narrow;
    const SET: u8 = sets::NEON;
    const FUSED: bool = true;

    #[inline(always)]
    fn mul_add<T: Real>(a: T, b: T, c: T) -> T {
        // SAFETY: T is the type that it says.
        unsafe {
            match T::SCALAR {
                Scalar::F32 => {
                    let one = |x: &T| vdup_n_f32(transmute_copy(x));
                    transmute_copy(&vget_lane_f32::<0>(vfma_f32(one(&c), one(&a), one(&b))))
                }
                Scalar::F64 => {
                    let one = |x: &T| vdup_n_f64(transmute_copy(x));
                    transmute_copy(&vget_lane_f64::<0>(vfma_f64(one(&c), one(&a), one(&b))))
                }
            }
        }
    }
    #[inline(always)]
    fn sqrt<T: Real>(x: T) -> T {
        // SAFETY: as above.
        unsafe {
            match T::SCALAR {
                Scalar::F32 => transmute_copy(&vget_lane_f32::<0>(vsqrt_f32(vdup_n_f32(transmute_copy(&x))))),
                Scalar::F64 => transmute_copy(&vget_lane_f64::<0>(vsqrt_f64(vdup_n_f64(transmute_copy(&x))))),
            }
        }
    }
}
