//! AVX2 with FMA, and AVX-512: takes lanes, gives lanes, an intrinsic an operation. Widths that fill no register go
//! lane by lane.
//!
//! Soundness: the two types are named only in this module, which hands them to a [`Body`] after the machine or the build
//! was found to have their instructions, or where a function that has these itself hands it over. No signature names
//! them. So whoever calls one of their functions runs on such a machine.

use super::*;
use crate::kernel::Scalar::{F32, F64};
use core::arch::x86_64::*;
use core::mem::transmute_copy;

/// The instructions of AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2;

/// The instructions of AVX-512 F, VL, BW and DQ, and those of [`Avx2`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512;

#[cfg(all(target_feature = "avx2", target_feature = "fma", not(target_feature = "avx512dq")))]
pub use Avx2 as Native;
#[cfg(all(target_feature = "avx2", target_feature = "fma", target_feature = "avx512dq"))]
pub use Avx512 as Native;

/// Runs a body with AVX2 and FMA, for a caller that has them: a function with `#[target_feature(enable = "avx2,fma")]`
/// calls this without `unsafe`, and nobody else does. It gives no value of the set: its type would stand in the
/// signature, from which code on any machine could take it.
///
/// # Safety
/// Where the caller does not have the instructions, the machine has.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub fn avx2<B: Body>(body: B) {
    body.run(Avx2);
}

/// Runs a body with AVX-512; as [`avx2`], from a function with
/// `#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]`.
///
/// # Safety
/// As of [`avx2`].
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub fn avx512<B: Body>(body: B) {
    body.run(Avx512);
}

/// One operation: the intrinsic for the kind of lanes (scalar type, number of lanes), else lane by lane.
macro_rules! operation {
    ($wide:expr, $T:ident $N:ident, $($a:ident)+; $s4:ident $s8:ident $s16:ident $d2:ident $d4:ident $d8:ident; $other:expr) => {
        // SAFETY: the machine has the instruction (see the module). A branch is reached only where lanes and register
        // have one size, and any bits are valid in both.
        unsafe {
            match ($T::SCALAR, $N) {
                (F32, 4) => transmute_copy::<__m128, Lanes<$T, $N>>(&$s4($(transmute_copy(&$a)),+)),
                (F32, 8) => transmute_copy::<__m256, Lanes<$T, $N>>(&$s8($(transmute_copy(&$a)),+)),
                (F32, 16) if $wide => transmute_copy::<__m512, Lanes<$T, $N>>(&$s16($(transmute_copy(&$a)),+)),
                (F64, 2) => transmute_copy::<__m128d, Lanes<$T, $N>>(&$d2($(transmute_copy(&$a)),+)),
                (F64, 4) => transmute_copy::<__m256d, Lanes<$T, $N>>(&$d4($(transmute_copy(&$a)),+)),
                (F64, 8) if $wide => transmute_copy::<__m512d, Lanes<$T, $N>>(&$d8($(transmute_copy(&$a)),+)),
                _ => $other,
            }
        }
    };
}

macro_rules! isa {
    ($isa:ident, $set:ident, $name:literal, $machine:ident, $wide:expr) => {
        impl Sealed for $isa {}
        impl Isa for $isa {
            const NAME: &'static str = $name;
            const MACHINE: Machine = Machine::$machine;
            const SET: u8 = sets::$set;
            const FUSED: bool = true;

            #[inline(always)]
            fn mul_add<T: Real>(a: T, b: T, c: T) -> T {
                // SAFETY: the machine has the instruction; T is the type that it says.
                unsafe {
                    match T::SCALAR {
                        F32 => {
                            let one = |x: &T| _mm_set_ss(transmute_copy(x));
                            transmute_copy(&_mm_cvtss_f32(_mm_fmadd_ss(one(&a), one(&b), one(&c))))
                        }
                        F64 => {
                            let one = |x: &T| _mm_set_sd(transmute_copy(x));
                            transmute_copy(&_mm_cvtsd_f64(_mm_fmadd_sd(one(&a), one(&b), one(&c))))
                        }
                    }
                }
            }
            #[inline(always)]
            fn splat<T: Real, const N: usize>(x: T) -> Lanes<T, N> {
                operation!($wide, T N, x; _mm_set1_ps _mm256_set1_ps _mm512_set1_ps _mm_set1_pd _mm256_set1_pd _mm512_set1_pd; Lanes::splat(x))
            }
            #[inline(always)]
            fn load<T: Real, const N: usize>(from: &[T; N]) -> Lanes<T, N> {
                let from = *from;
                // Through the type of the register, so that the compiler never sees single scalars.
                operation!($wide, T N, from; id id id id id id; Lanes::from_array(from))
            }
            #[inline(always)]
            fn store<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T; N]) {
                let x = operation!($wide, T N, x; id id id id id id; x);
                *to = x.to_array();
            }
            #[inline(always)]
            fn lanes_mul_add<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>, c: Lanes<T, N>) -> Lanes<T, N> {
                operation!($wide, T N, a b c; _mm_fmadd_ps _mm256_fmadd_ps _mm512_fmadd_ps _mm_fmadd_pd _mm256_fmadd_pd _mm512_fmadd_pd;
                    Lanes::from_fn(|l| Self::mul_add(a[l], b[l], c[l])))
            }
            #[inline(always)]
            fn lanes_add<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
                operation!($wide, T N, a b; _mm_add_ps _mm256_add_ps _mm512_add_ps _mm_add_pd _mm256_add_pd _mm512_add_pd;
                    Lanes::from_fn(|l| a[l] + b[l]))
            }
            #[inline(always)]
            fn lanes_sub<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
                operation!($wide, T N, a b; _mm_sub_ps _mm256_sub_ps _mm512_sub_ps _mm_sub_pd _mm256_sub_pd _mm512_sub_pd;
                    Lanes::from_fn(|l| a[l] - b[l]))
            }
            #[inline(always)]
            fn lanes_mul<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
                operation!($wide, T N, a b; _mm_mul_ps _mm256_mul_ps _mm512_mul_ps _mm_mul_pd _mm256_mul_pd _mm512_mul_pd;
                    Lanes::from_fn(|l| a[l] * b[l]))
            }
            #[inline(always)]
            fn lanes_max<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
                operation!($wide, T N, a b; max_4s max_8s max_16s max_2d max_4d max_8d; Lanes::from_fn(|l| T::max::<Self>(a[l], b[l])))
            }
            #[inline(always)]
            fn lanes_min<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
                operation!($wide, T N, a b; min_4s min_8s min_16s min_2d min_4d min_8d; Lanes::from_fn(|l| T::min::<Self>(a[l], b[l])))
            }
            #[inline(always)]
            fn sum<T: Real, const N: usize>(x: Lanes<T, N>) -> T {
                // SAFETY: as in `operation`.
                unsafe {
                    match (T::SCALAR, N) {
                        (F32, 4) => transmute_copy(&sum_4s(transmute_copy(&x))),
                        (F32, 8) => transmute_copy(&sum_8s(transmute_copy(&x))),
                        (F32, 16) if $wide => transmute_copy(&sum_16s(transmute_copy(&x))),
                        (F64, 2) => transmute_copy(&sum_2d(transmute_copy(&x))),
                        (F64, 4) => transmute_copy(&sum_4d(transmute_copy(&x))),
                        (F64, 8) if $wide => transmute_copy(&sum_8d(transmute_copy(&x))),
                        _ => fold(x, |a, b| a + b),
                    }
                }
            }
            #[inline(always)]
            fn join<T: Real, const N: usize, const M: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, M> {
                // SAFETY: as in `operation`.
                unsafe {
                    match (T::SCALAR, N, M) {
                        (F32, 8, 16) if $wide => transmute_copy(&_mm512_insertf32x8::<1>(
                            _mm512_castps256_ps512(transmute_copy(&a)),
                            transmute_copy(&b),
                        )),
                        (F64, 4, 8) if $wide => transmute_copy(&_mm512_insertf64x4::<1>(
                            _mm512_castpd256_pd512(transmute_copy(&a)),
                            transmute_copy(&b),
                        )),
                        _ => Lanes::from_fn(|l| if l < N { a[l] } else { b[l - N] }),
                    }
                }
            }
            #[inline(always)]
            fn read_part<T: Real, const N: usize>(from: &[T], at: usize, count: usize) -> Lanes<T, N> {
                let from = &from[at..at + count];
                // SAFETY: the mask lets the first `count` lanes be read, which are the slice.
                unsafe {
                    match (T::SCALAR, N) {
                        (F32, 8) if !$wide => transmute_copy(&_mm256_maskload_ps(from.as_ptr().cast(), first_8(count))),
                        (F64, 4) if !$wide => transmute_copy(&_mm256_maskload_pd(from.as_ptr().cast(), first_4(count))),
                        (F32, 8) => transmute_copy(&_mm256_maskz_loadu_ps(first(count) as u8, from.as_ptr().cast())),
                        (F64, 4) => transmute_copy(&_mm256_maskz_loadu_pd(first(count) as u8, from.as_ptr().cast())),
                        (F32, 16) if $wide => transmute_copy(&_mm512_maskz_loadu_ps(first(count), from.as_ptr().cast())),
                        (F64, 8) if $wide => transmute_copy(&_mm512_maskz_loadu_pd(first(count) as u8, from.as_ptr().cast())),
                        _ => {
                            let mut out = [T::ZERO; N];
                            out[..count].copy_from_slice(from);
                            Lanes::from_array(out)
                        }
                    }
                }
            }
            #[inline(always)]
            fn write_part<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T], at: usize, start: usize, end: usize) {
                let to = &mut to[at + start..at + end];
                // SAFETY: the mask lets the lanes `start..end` be written, which are the slice when counted from
                // `start` lanes before it.
                unsafe {
                    let first = first(end) & !first(start);
                    let before = to.as_mut_ptr().wrapping_sub(start);
                    match (T::SCALAR, N) {
                        (F32, 8) if $wide => _mm256_mask_storeu_ps(before.cast(), first as u8, transmute_copy(&x)),
                        (F64, 4) if $wide => _mm256_mask_storeu_pd(before.cast(), first as u8, transmute_copy(&x)),
                        (F32, 16) if $wide => _mm512_mask_storeu_ps(before.cast(), first, transmute_copy(&x)),
                        (F64, 8) if $wide => _mm512_mask_storeu_pd(before.cast(), first as u8, transmute_copy(&x)),
                        _ => to.copy_from_slice(&x.to_array()[start..end]),
                    }
                }
            }
            #[inline(always)]
            fn sums<T: Real, const N: usize, const R: usize>(rows: [Lanes<T, N>; R]) -> Lanes<T, R> {
                // SAFETY: as in `operation`.
                unsafe {
                    match (T::SCALAR, N, R) {
                        (F32, 4, 4) => transmute_copy(&sums_4s(transmute_copy(&rows))),
                        (F32, 8, 8) => transmute_copy(&sums_8s(transmute_copy(&rows))),
                        (F32, 16, 8) if $wide => transmute_copy(&sums_8s(halved_s(transmute_copy(&rows)))),
                        (F64, 4, 4) => transmute_copy(&sums_4d(transmute_copy(&rows))),
                        (F64, 8, 4) if $wide => transmute_copy(&sums_4d(halved_d(transmute_copy(&rows)))),
                        _ => Lanes::from_array(rows.map(|row| Self::sum(row))),
                    }
                }
            }
            #[inline(always)]
            fn transpose<T: Real, const N: usize>(rows: [&[T; N]; N]) -> [Lanes<T, N>; N] {
                // SAFETY: as in `operation`; references to arrays of N scalars of that size.
                unsafe {
                    match (T::SCALAR, N) {
                        (F32, 4) => transmute_copy(&transpose_4s(transmute_copy(&rows))),
                        (F32, 8) => transmute_copy(&transpose_8s(transmute_copy(&rows))),
                        (F64, 4) => transmute_copy(&transpose_4d(transmute_copy(&rows))),
                        _ => transposed(rows),
                    }
                }
            }
            #[inline(always)]
            fn transpose_both<T: Real, const N: usize, const M: usize>(
                upper: [&[T; N]; N],
                lower: [&[T; N]; N],
            ) -> [Lanes<T, M>; N] {
                // SAFETY: as in `transpose`.
                unsafe {
                    match (T::SCALAR, N, M) {
                        (F32, 8, 16) if $wide => {
                            transmute_copy(&transpose_16x8s(transmute_copy(&upper), transmute_copy(&lower)))
                        }
                        (F64, 4, 8) if $wide => {
                            transmute_copy(&transpose_8x4d(transmute_copy(&upper), transmute_copy(&lower)))
                        }
                        _ => both_transposed::<Self, T, N, M>(upper, lower),
                    }
                }
            }
        }
    };
}

isa!(Avx2, AVX2, "avx2", Wide, false);
isa!(Avx512, AVX512, "avx512", Widest, true);

/// A mask of the first lanes.
#[inline(always)]
const fn first(count: usize) -> u16 {
    ((1u32 << count) - 1) as u16
}
/// The same as lanes of integers, whose signs count.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn first_8(count: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}
#[target_feature(enable = "avx2,fma")]
#[inline]
fn first_4(count: usize) -> __m256i {
    _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), _mm256_setr_epi64x(0, 1, 2, 3))
}

#[inline(always)]
fn id<R>(x: R) -> R {
    x
}

/// The larger or smaller, NaN if either is: the instruction gives its second operand when one is NaN, so only a NaN in
/// the first is left.
macro_rules! extreme {
    ($($name:ident $R:ident: $op:ident $compare:ident $blend:ident;)+) => {$(
        #[target_feature(enable = "avx2,fma")]
        #[inline]
        fn $name(a: $R, b: $R) -> $R {
            $blend($op(a, b), a, $compare::<_CMP_UNORD_Q>(a, a))
        }
    )+};
}
extreme! {
    max_4s __m128: _mm_max_ps _mm_cmp_ps _mm_blendv_ps;
    max_8s __m256: _mm256_max_ps _mm256_cmp_ps _mm256_blendv_ps;
    max_2d __m128d: _mm_max_pd _mm_cmp_pd _mm_blendv_pd;
    max_4d __m256d: _mm256_max_pd _mm256_cmp_pd _mm256_blendv_pd;
    min_4s __m128: _mm_min_ps _mm_cmp_ps _mm_blendv_ps;
    min_8s __m256: _mm256_min_ps _mm256_cmp_ps _mm256_blendv_ps;
    min_2d __m128d: _mm_min_pd _mm_cmp_pd _mm_blendv_pd;
    min_4d __m256d: _mm256_min_pd _mm256_cmp_pd _mm256_blendv_pd;
}
macro_rules! extreme_masked {
    ($($name:ident $R:ident: $op:ident $compare:ident $blend:ident;)+) => {$(
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
        #[inline]
        fn $name(a: $R, b: $R) -> $R {
            $blend($compare::<_CMP_UNORD_Q>(a, a), $op(a, b), a)
        }
    )+};
}
extreme_masked! {
    max_16s __m512: _mm512_max_ps _mm512_cmp_ps_mask _mm512_mask_blend_ps;
    max_8d __m512d: _mm512_max_pd _mm512_cmp_pd_mask _mm512_mask_blend_pd;
    min_16s __m512: _mm512_min_ps _mm512_cmp_ps_mask _mm512_mask_blend_ps;
    min_8d __m512d: _mm512_min_pd _mm512_cmp_pd_mask _mm512_mask_blend_pd;
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn sum_4s(x: __m128) -> f32 {
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
}
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sum_8s(x: __m256) -> f32 {
    sum_4s(_mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x)))
}
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn sum_16s(x: __m512) -> f32 {
    sum_8s(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)))
}
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sum_2d(x: __m128d) -> f64 {
    _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
}
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sum_4d(x: __m256d) -> f64 {
    sum_2d(_mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x)))
}
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn sum_8d(x: __m512d) -> f64 {
    sum_4d(_mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x)))
}

/// The sums of four rows, each in the order of [`Isa::sum`].
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sums_4s([a, b, c, d]: [__m128; 4]) -> __m128 {
    // Lanes 0 and 1 of two rows with lanes 2 and 3 of them.
    let two = |a: __m128, b: __m128| _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    let (p, q) = (two(a, b), two(c, d));
    _mm_add_ps(_mm_shuffle_ps::<0x88>(p, q), _mm_shuffle_ps::<0xdd>(p, q))
}
/// As [`sums_4s`], of eight rows.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sums_8s(r: [__m256; 8]) -> __m256 {
    // The first half of a row is added to its second; rows 0 to 3 go to the low half of the result, 4 to 7 to the high
    // one.
    let halves = |a: __m256, b: __m256| {
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
    };
    let two = |a: __m256, b: __m256| _mm256_add_ps(_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
    let (p, q) = (two(halves(r[0], r[4]), halves(r[1], r[5])), two(halves(r[2], r[6]), halves(r[3], r[7])));
    _mm256_add_ps(_mm256_shuffle_ps::<0x88>(p, q), _mm256_shuffle_ps::<0xdd>(p, q))
}
/// As [`sums_4s`].
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sums_4d(r: [__m256d; 4]) -> __m256d {
    let halves = |a: __m256d, b: __m256d| {
        _mm256_add_pd(_mm256_permute2f128_pd::<0x20>(a, b), _mm256_permute2f128_pd::<0x31>(a, b))
    };
    let (p, q) = (halves(r[0], r[2]), halves(r[1], r[3]));
    _mm256_add_pd(_mm256_unpacklo_pd(p, q), _mm256_unpackhi_pd(p, q))
}
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn halved_s(r: [__m512; 8]) -> [__m256; 8] {
    r.map(|x| _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)))
}
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn halved_d(r: [__m512d; 4]) -> [__m256d; 4] {
    r.map(|x| _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x)))
}

/// The first and the second half of a row as vectors.
macro_rules! halves {
    ($load:ident, $row:expr, $half:literal) => {
        // SAFETY: both halves lie within the row.
        unsafe { ($load($row.as_ptr()), $load($row.as_ptr().add($half))) }
    };
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn transpose_4s(rows: [&[f32; 4]; 4]) -> [__m128; 4] {
    // SAFETY: four floats each.
    let [a, b, c, d] = rows.map(|r| unsafe { _mm_loadu_ps(r.as_ptr()) });
    let (p, q, r, s) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d), _mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
    [_mm_movelh_ps(p, q), _mm_movehl_ps(q, p), _mm_movelh_ps(r, s), _mm_movehl_ps(s, r)]
}

/// Rows are joined in halves as they are loaded, so that the rest stays within halves: 16 shuffles instead of 24.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn transpose_8s(rows: [&[f32; 8]; 8]) -> [__m256; 8] {
    let h = rows.map(|r| halves!(_mm_loadu_ps, r, 4));
    let left = |i: usize| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(h[i].0), h[i + 4].0);
    let right = |i: usize| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(h[i].1), h[i + 4].1);
    let four = |a: __m256, b: __m256, c: __m256, d: __m256| {
        let (p, q) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (r, s) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(p, q),
            _mm256_shuffle_ps::<0xee>(p, q),
            _mm256_shuffle_ps::<0x44>(r, s),
            _mm256_shuffle_ps::<0xee>(r, s),
        ]
    };
    let [a, b, c, d] = four(left(0), left(1), left(2), left(3));
    let [e, f, g, h] = four(right(0), right(1), right(2), right(3));
    [a, b, c, d, e, f, g, h]
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn transpose_4d(rows: [&[f64; 4]; 4]) -> [__m256d; 4] {
    let h = rows.map(|r| halves!(_mm_loadu_pd, r, 2));
    let left = |i: usize| _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(h[i].0), h[i + 2].0);
    let right = |i: usize| _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(h[i].1), h[i + 2].1);
    let (a, b, c, d) = (left(0), left(1), right(0), right(1));
    [_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), _mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d)]
}

/// Quarters of four rows, four apart, are joined as they are loaded: 16 shuffles, where two blocks of eight take 32.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn transpose_16x8s(upper: [&[f32; 8]; 8], lower: [&[f32; 8]; 8]) -> [__m512; 8] {
    let (u, l) = (upper.map(|r| halves!(_mm_loadu_ps, r, 4)), lower.map(|r| halves!(_mm_loadu_ps, r, 4)));
    let join = |a: __m128, b: __m128, c: __m128, d: __m128| {
        let (a, c) = (_mm256_castps128_ps256(a), _mm256_castps128_ps256(c));
        let (ab, cd) = (_mm256_insertf128_ps::<1>(a, b), _mm256_insertf128_ps::<1>(c, d));
        _mm512_insertf32x8::<1>(_mm512_castps256_ps512(ab), cd)
    };
    let left = |i: usize| join(u[i].0, u[i + 4].0, l[i].0, l[i + 4].0);
    let right = |i: usize| join(u[i].1, u[i + 4].1, l[i].1, l[i + 4].1);
    let four = |a: __m512, b: __m512, c: __m512, d: __m512| {
        let (p, q) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
        let (r, s) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
        [
            _mm512_shuffle_ps::<0x44>(p, q),
            _mm512_shuffle_ps::<0xee>(p, q),
            _mm512_shuffle_ps::<0x44>(r, s),
            _mm512_shuffle_ps::<0xee>(r, s),
        ]
    };
    let [a, b, c, d] = four(left(0), left(1), left(2), left(3));
    let [e, f, g, h] = four(right(0), right(1), right(2), right(3));
    [a, b, c, d, e, f, g, h]
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn transpose_8x4d(upper: [&[f64; 4]; 4], lower: [&[f64; 4]; 4]) -> [__m512d; 4] {
    let (u, l) = (upper.map(|r| halves!(_mm_loadu_pd, r, 2)), lower.map(|r| halves!(_mm_loadu_pd, r, 2)));
    let join = |a: __m128d, b: __m128d, c: __m128d, d: __m128d| {
        let (a, c) = (_mm256_castpd128_pd256(a), _mm256_castpd128_pd256(c));
        let (ab, cd) = (_mm256_insertf128_pd::<1>(a, b), _mm256_insertf128_pd::<1>(c, d));
        _mm512_insertf64x4::<1>(_mm512_castpd256_pd512(ab), cd)
    };
    let left = |i: usize| join(u[i].0, u[i + 2].0, l[i].0, l[i + 2].0);
    let right = |i: usize| join(u[i].1, u[i + 2].1, l[i].1, l[i + 2].1);
    let (a, b, c, d) = (left(0), left(1), right(0), right(1));
    [_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b), _mm512_unpacklo_pd(c, d), _mm512_unpackhi_pd(c, d)]
}

/// The choice at run time.
#[cfg(all(feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
mod chosen {
    use super::*;
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
    use std::arch::is_x86_feature_detected as has;

    pub const UNKNOWN: u8 = 0;
    const PORTABLE: u8 = 1;
    pub const AVX2: u8 = 2;
    pub const AVX512: u8 = 3;
    static LEVEL: AtomicU8 = AtomicU8::new(UNKNOWN);

    /// What to use: a byte that is read; `UNKNOWN` until [`choose`] was called.
    #[inline(always)]
    pub fn chosen() -> u8 {
        LEVEL.load(Relaxed)
    }

    /// What to use, found on the first call.
    fn level() -> u8 {
        match chosen() {
            UNKNOWN => choose(),
            level => level,
        }
    }

    /// What the machine has.
    fn best() -> u8 {
        if !(has!("avx2") && has!("fma")) {
            PORTABLE
        } else if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
            AVX512
        } else {
            AVX2
        }
    }

    /// Finds what the machine has, capped by `COTANGENT_ISA`.
    #[cold]
    pub fn choose() -> u8 {
        let wish = std::env::var_os("COTANGENT_ISA").unwrap_or_default();
        let cap = match wish.to_str() {
            Some("portable") => PORTABLE,
            Some("avx2") => AVX2,
            Some("avx512" | "") => AVX512,
            _ => {
                // A kernel does not fail; who cannot be told is not told.
                let text =
                    format_args!("cotangent: COTANGENT_ISA is {wish:?}, not portable, avx2 or avx512: not heeded\n");
                let _ = std::io::Write::write_fmt(&mut std::io::stderr(), text);
                AVX512
            }
        };
        let level = best().min(cap);
        LEVEL.store(level, Relaxed);
        level
    }

    /// The best first.
    const NAMES: &[&str] = &[Avx512::NAME, Avx2::NAME, Portable::NAME];

    pub fn names() -> &'static [&'static str] {
        &NAMES[usize::from(AVX512 - best())..]
    }
    pub fn name() -> &'static str {
        NAMES[usize::from(AVX512 - level())]
    }
}

#[cfg(all(feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
pub use chosen::{AVX2, AVX512, UNKNOWN, choose, chosen, name, names};

/// The build has a good set: nothing to choose.
#[cfg(all(target_feature = "avx2", target_feature = "fma"))]
pub fn names() -> &'static [&'static str] {
    &[Native::NAME]
}
#[cfg(all(target_feature = "avx2", target_feature = "fma"))]
pub fn name() -> &'static str {
    Native::NAME
}
