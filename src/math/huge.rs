//! Reduction of huge angles: takes any finite number `a >= 0`, gives `(quadrant, hi, lo)` with
//! `a = quadrant pi/2 + hi + lo` modulo `2 pi`, `|hi + lo| <= pi/4`, to about 2^-100.
//!
//! [`reduce_single`] does the same for numbers that were `f32`, to about 2^-31 of the remainder.
//!
//! The method of Payne and Hanek (1983): of the binary expansion of 2/pi only those words are multiplied that
//! matter modulo 4. Integer arithmetic in 32-bit words. NaN and infinity give NaN.

use super::f64::{two_prod, two_sum};
use crate::isa::Isa;

/// The first 1248 binary digits of 2/pi after the point.
const TWO_OVER_PI: [u32; 39] = [
    0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561, 0xb7246e3a,
    0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41,
    0x3991d639, 0x835339f4, 0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf,
    0x27cb09b7, 0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1, 0x1f8d5d08,
    0x56033046, 0xfc7b6bab, 0xf0cfbc20,
];

/// See the module. For `a` of at least 1.
#[inline]
pub(super) fn reduce<S: Isa>(a: f64) -> (u32, f64, f64) {
    let bits = a.to_bits();
    let e = ((bits >> 52) as i32).wrapping_sub(1075);
    let m = (bits & ((1 << 52) - 1)) | (1 << 52);
    // a = m 2^s 2^(32 j), with m 2^s in three words.
    let j = e >> 5;
    let s = (e & 31) as u32;
    let words = [(m as u32) << s, ((m << s) >> 32) as u32, ((m >> 32) << s >> 32) as u32];
    // acc[p] counts units of 2^(-32 p) of a 2/pi; what is above 2^32 is a multiple of 4 and left out.
    let mut acc = [0u64; 8];
    for (i, &w) in words.iter().enumerate() {
        for p in 0..7usize {
            let at = (i as i32).wrapping_add(j).wrapping_add(p as i32).wrapping_sub(1);
            let digit = TWO_OVER_PI.get(at as usize).copied().unwrap_or(0);
            let product = w as u64 * digit as u64;
            acc[p] = acc[p].wrapping_add(product & 0xffff_ffff);
            if p > 0 {
                acc[p - 1] = acc[p - 1].wrapping_add(product >> 32);
            }
        }
    }
    let mut carry = 0u64;
    for p in (0..7).rev() {
        let sum = acc[p].wrapping_add(carry);
        acc[p] = sum & 0xffff_ffff;
        carry = sum >> 32;
    }
    // The fraction, to the nearest integer: from one half on it counts as negative.
    let up = acc[1] >> 31;
    let quadrant = (acc[0].wrapping_add(up) & 3) as u32;
    let flip = if up == 1 { 0xffff_ffff } else { 0 };
    let mut hi = 0.0;
    let mut lo = 0.0;
    let mut unit = 1.0 / 4_294_967_296.0;
    for digit in &acc[1..7] {
        let (sum, rest) = two_sum(hi, (digit ^ flip) as u32 as f64 * unit);
        hi = sum;
        lo += rest;
        unit *= 1.0 / 4_294_967_296.0;
    }
    let (p, rest) = two_prod::<S>(hi, core::f64::consts::FRAC_PI_2);
    let rest = rest + (hi * 6.123_233_995_736_766e-17 + lo * core::f64::consts::FRAC_PI_2);
    let y = p + rest;
    let tail = (p - y) + rest;
    let y = if a < f64::INFINITY { y } else { f64::NAN };
    if up == 1 { (quadrant, -y, -tail) } else { (quadrant, y, tail) }
}

/// The remainder of an `f32` of at least 1: `(quadrant, r)` with `a = quadrant pi/2 + r` modulo `2 pi`, `|r| <= pi/4`.
///
/// The remainder is off by 2^-61, and no `f32` comes closer to a multiple of pi/2 than 2^-30.
#[inline(always)]
pub(super) fn reduce_single(a: f32) -> (u32, f64) {
    // Zeros before the point, then as many digits as the largest number reaches.
    const DIGITS: [u32; 8] = {
        let t = TWO_OVER_PI;
        [0, t[0], t[1], t[2], t[3], t[4], t[5], t[6]]
    };
    let bits = a.to_bits();
    let m = ((bits & 0x007f_ffff) | 0x0080_0000) as u64;
    // a = m 2^e. The digits that count start with the one that m 2^e takes to 2^1: those before give multiples of 4.
    let start = (bits >> 23).wrapping_sub(150 - 30);
    let (at, shift) = ((start >> 5) as usize, start & 31);
    let window = |n: usize| {
        let digit = |n: usize| DIGITS[n & 7] as u64;
        (((digit(at + n) << 32) | digit(at + n + 1)) << shift) >> 32
    };
    // In units of 2^-62; what overflows is a multiple of 4.
    let product = ((m * window(0)) << 32).wrapping_add(m * window(1)).wrapping_add((m * window(2)) >> 32);
    let quadrant = (product.wrapping_add(1 << 61) >> 62) as u32;
    let rest = product.wrapping_sub((quadrant as u64) << 62) as i64;
    let r = rest as f64 * (core::f64::consts::FRAC_PI_2 / 4_611_686_018_427_387_904.0);
    (quadrant, if a < f32::INFINITY { r } else { f64::NAN })
}
