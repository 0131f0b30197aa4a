//! Helpers of the `f32` functions that compute in `f64`: take values converted from `f32`, give `f64` results to
//! about 2^-38, so that the final conversion to `f32` is the only rounding that counts.

use super::f64::{COS, SIN, sqrt};
use super::{even_odd, pick};
use crate::isa::Isa;

const MAGIC: f64 = 6_755_399_441_055_744.0;
/// `log((1 + s)/(1 - s)) = s (2 + z p(z))`, `z = s²`, for `s` up to 0.1716.
const LN: [f64; 5] =
    [0.6666666667579622, 0.39999995622940343, 0.2857210906995345, 0.22176191655614405, 0.19584116039149235];
/// `exp(r) = 1 + r + r² q(r)` for `|r| <= ln(2)/2`.
const EXP: [f64; 6] = [
    0.5000000080234858,
    0.16666667243111852,
    0.041666259625942136,
    0.008333161965501684,
    0.0013946897838913906,
    0.00019981515475497101,
];
/// `atan(t) = t + t³ p(t²)` for `|t| <= tan(pi/8)`.
const ATAN: [f64; 7] = [
    -0.3333333329643838,
    0.19999994406779892,
    -0.1428542663818248,
    0.1110405582313733,
    -0.08997292355498325,
    0.06993153408436562,
    -0.037956714762318745,
];
/// `asin(x) = x + x³ p(x²)` for `|x| <= 1/2`.
const ASIN: [f64; 8] = [
    0.1666666662678579,
    0.0750000503739586,
    0.04464068915014349,
    0.03042681984403493,
    0.02186320261862349,
    0.02065808100671258,
    0.001950920421454061,
    0.032939175226904926,
];

/// `(1 + 2 x) exp(x²) (1 - erf(x)) = p((x - 2)/(x + 2))` for `0 <= x <= 10.2`.
const ERFC: [f64; 12] = [
    1.2769783826871233,
    -0.09276382066344449,
    -0.16603052242455224,
    0.16405104063297019,
    -0.054217815514129256,
    -0.00803087574149814,
    0.008709026343052926,
    0.0012527170441288841,
    -0.0014206299018899866,
    -0.0004007186484939887,
    0.00016925098312127977,
    7.935049237935565e-05,
];

/// `(k, log(m))` with `x = 2^k m`, for positive normal `x`.
#[inline(always)]
fn split_ln<S: Isa>(x: f64) -> (f64, f64) {
    let bits = x.to_bits() as i64;
    // The upper words are enough to find k, and stay in 32-bit lanes.
    let k = (((bits >> 32) as i32).wrapping_sub(0x3fe6_a09e)) >> 20;
    let m = f64::from_bits(bits.wrapping_sub((k as i64) << 52) as u64);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    (k as f64, s * (2.0 + z * even_odd!(S, z, LN, 0 2 4; 1 3)))
}

/// The natural logarithm of a positive normal number.
#[inline(always)]
pub(super) fn ln<S: Isa>(x: f64) -> f64 {
    let (k, l) = split_ln::<S>(x);
    k * core::f64::consts::LN_2 + l
}

/// The cube root of a positive normal number.
#[inline(always)]
pub(super) fn cbrt(x: f64) -> f64 {
    // A third of the exponent, then Halley's iteration twice: 5, 16, 47 bits (the guess as in FreeBSD's cbrt).
    let guess = (((x.to_bits() >> 32) as u32) / 3).wrapping_add(715_094_163);
    let t = f64::from_bits((guess as u64) << 32);
    let r = t * t * t;
    let t = t * (x + x + r) / (x + r + r);
    let r = t * t * t;
    t * (x + x + r) / (x + r + r)
}

/// The tangent of `quadrant pi/2 + r`.
#[inline(always)]
pub(super) fn tan_reduced<S: Isa>(quadrant: u32, r: f64) -> f64 {
    let z = r * r;
    let s = r + r * z * even_odd!(S, z, SIN, 0 2 4; 1 3 5);
    let c = 1.0 - (0.5 * z - z * z * even_odd!(S, z, COS, 0 2 4; 1 3 5));
    let odd = quadrant & 1 == 1;
    pick(odd, -c, s) / pick(odd, s, c)
}

/// The tangent for `0 <= a <= 2^18`.
#[inline(always)]
pub(super) fn tan<S: Isa>(a: f64) -> f64 {
    let t = a * core::f64::consts::FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    // Half of pi in two parts, the first of 33 bits.
    let r = (a - n * 1.5707963267341256) - n * 6.077_100_506_506_192e-11;
    tan_reduced::<S>(t.to_bits() as u32, r)
}

/// `asin(a)` for `0 <= a <= 1/2`; where `far`, `asin` of the square root of `(1 - a)/2`.
#[inline(always)]
pub(super) fn asin_core<S: Isa>(a: f64, far: bool) -> f64 {
    let z = pick(far, 0.5 * (1.0 - a), a * a);
    let s = pick(far, sqrt::<S>(z), a);
    s + s * z * even_odd!(S, z, ASIN, 0 2 4 6; 1 3 5 7)
}

/// The angle of the point `(x, y)`, as C99 defines it.
#[inline(always)]
pub(super) fn atan2<S: Isa>(y: f64, x: f64) -> f64 {
    use core::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let ax = f64::from_bits(x.to_bits() << 1 >> 1);
    let ay = f64::from_bits(y.to_bits() << 1 >> 1);
    let swap = ay > ax;
    let small = pick(swap, ax, ay);
    let large = pick(swap, ay, ax);
    let t = small / large;
    let t = pick(small == f64::INFINITY, 1.0, t);
    let t = pick(large == 0.0, 0.0, t);
    let mid = t > 0.41421356237309503;
    let t = pick(mid, (t - 1.0) / (t + 1.0), t);
    let z = t * t;
    let r = pick(mid, FRAC_PI_4, 0.0) + (t + t * z * even_odd!(S, z, ATAN, 0 2 4 6; 1 3 5));
    let r = pick(swap, FRAC_PI_2 - r, r);
    let r = pick(x.to_bits() >> 63 == 1, PI - r, r);
    let r = pick(x.is_nan() | y.is_nan(), f64::NAN, r);
    f64::from_bits(r.to_bits() | (y.to_bits() >> 63 << 63))
}

/// The complement of the error function, as far as it is not zero in `f32`.
#[inline(always)]
pub(super) fn erfc<S: Isa>(x: f64) -> f64 {
    let a = f64::from_bits(x.to_bits() << 1 >> 1);
    let a = pick(a > 10.2, 10.2, a);
    let u = (a - 2.0) / (a + 2.0);
    let p = even_odd!(S, u, ERFC, 0 2 4 6 8 10; 1 3 5 7 9 11) / (1.0 + 2.0 * a);
    let t = -a * a;
    let shifted = t * core::f64::consts::LOG2_E + MAGIC;
    let r = t - (shifted - MAGIC) * core::f64::consts::LN_2;
    let e = 1.0 + (r + r * r * even_odd!(S, r, EXP, 0 2 4; 1 3 5));
    let n = (shifted.to_bits() as u32).wrapping_add(1023);
    let y = e * p * f64::from_bits((n as u64) << 52);
    pick(x < 0.0, 2.0 - y, y)
}

/// True for whole numbers (infinity is one) at `a >= 0`.
#[inline(always)]
fn whole(a: f64) -> bool {
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    (a >= WHOLE) | ((a + WHOLE) - WHOLE == a)
}

/// `x` to the power `y`, with the special values of C99.
#[inline(always)]
pub(super) fn pow<S: Isa>(x: f32, y: f64) -> f32 {
    let ax = f32::from_bits(x.to_bits() << 1 >> 1) as f64;
    let (k, l) = split_ln::<S>(ax);
    let log2 = k + l * core::f64::consts::LOG2_E;
    // Beyond 2^40 the result is 0, 1 or infinite all the same, and infinity times zero is avoided.
    const FAR: f64 = 1_099_511_627_776.0;
    let yc = pick(y > FAR, FAR, y);
    let yc = pick(yc < -FAR, -FAR, yc);
    let t = yc * log2;
    let t = pick(t > 200.0, 200.0, t);
    let t = pick(t < -200.0, -200.0, t);
    let shifted = t + MAGIC;
    let r = (t - (shifted - MAGIC)) * core::f64::consts::LN_2;
    let e = 1.0 + (r + r * r * even_odd!(S, r, EXP, 0 2 4; 1 3 5));
    let n = (shifted.to_bits() as u32).wrapping_add(1023);
    let p = (e * f64::from_bits((n as u64) << 52)) as f32;
    // The ends, the sign, and where there is no real power.
    let p = pick(ax == 0.0, pick(y > 0.0, 0.0, f32::INFINITY), p);
    let p = pick(ax == f64::INFINITY, pick(y > 0.0, f32::INFINITY, 0.0), p);
    let ay = f64::from_bits(y.to_bits() << 1 >> 1);
    let integer = whole(ay);
    let odd = integer & !whole(0.5 * ay);
    let negative = x.to_bits() >> 31 == 1;
    let p = pick(negative & odd, -p, p);
    let none = negative & !integer & (ax > 0.0) & (ax < f64::INFINITY);
    let p = pick(none | x.is_nan() | y.is_nan(), f32::NAN, p);
    pick((y == 0.0) | (x == 1.0), 1.0, p)
}
