//! Elementary functions on `f32`: takes one or two numbers, gives one, never panics.
//!
//! `tan`, `asin`, `acos`, `asinh`, `acosh`, `atanh`, `cbrt`, `atan2` and `pow` compute in `f64`; everything else
//! stays in `f32`, for the sake of lane width and of processors whose hardware has no `f64`.
//!
//! The stated error bounds are in units in the last place (ulp) of the exact result. The functions that stay in
//! `f32` were checked over every argument of the range in which their result is not a limit or the argument itself,
//! the others over a stride of all bit patterns (worst: 0.501). Special values follow C99, Annex F.

use super::{even_odd, horner, huge, pick, wide};

/// Adding it to a number of magnitude up to 2^22 rounds to an integer, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;
const SIGN: u32 = 1 << 31;
/// The logarithm of 2 in two parts; a multiple of the first by up to 9 bits is exact.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;

/// `exp(r) = 1 + r + r² q(r)` for `|r| <= ln(2)/2`; relative error of `exp(r) - 1` 2^-30.9.
const EXP: [f32; 6] = [0.5, 1.666_666_7e-1, 4.166_648e-2, 8.333_186e-3, 1.393_359_2e-3, 1.997_250_7e-4];
/// The same with a term less, error 2^-25.9, where a bound of 2 ulp leaves room for it.
const EXP_SHORT: [f32; 5] = [0.5, 1.666_652_9e-1, 4.166_661e-2, 8.368_466e-3, 1.391_82e-3];
/// `log(1 + f) = f - f²/2 + f³ p(f)` for `1 + f` between the square roots of 1/2 and 2.
const LOG: [f32; 9] = [
    3.333_331_3e-1,
    -2.500_016_7e-1,
    2.000_222_4e-1,
    -1.665_936_7e-1,
    1.420_955_7e-1,
    -1.254_962_5e-1,
    1.210_881_2e-1,
    -1.091_712_6e-1,
    5.340_197_7e-2,
];
/// `sin(r) = r + r³ p(r²)` for `|r| <= pi/4`.
const SIN: [f32; 3] = [-1.666_665_5e-1, 8.332_19e-3, -1.951_840_5e-4];
/// `cos(r) = 1 - r²/2 + r⁴ p(r²)` for `|r| <= pi/4`.
const COS: [f32; 3] = [4.166_664_6e-2, -1.388_730_1e-3, 2.443_066e-5];
/// `erf(x) = x + x p(x²)` for `x² <= 0.85`.
const ERF: [f32; 6] = [1.283_791_5e-1, -3.761_249_8e-1, 1.128_184_35e-1, -2.676_734_9e-2, 4.994_036e-3, -5.994_48e-4];
/// `-log(1 - erf(x)) = p(x)` for `0.9 <= x <= 4`.
const ERFC: [f32; 7] =
    [1.775_034_6e-4, 1.127_749_6, 6.370_597e-1, 1.040_374_7e-1, -2.227_716_1e-2, 3.055_628_2e-3, -1.971_834_9e-4];
/// `atan(t) = t + t³ p(t²)` for `|t| <= tan(pi/8)`.
const ATAN: [f32; 5] = [-3.333_331_6e-1, 1.999_853_3e-1, -1.424_451e-1, 1.060_016_6e-1, -6.092_712e-2];
/// `sinh(x) = x + x³ p(x²)` for `|x| <= 1`.
const SINH: [f32; 4] = [1.6666667e-1, 8.333311e-3, 1.9842602e-4, 2.7843687e-6];
/// `tanh(x) = x + x³ p(x²)` for `|x| <= 0.56`.
const TANH: [f32; 5] = [-3.3333313e-01, 1.3332437e-01, -5.3835757e-02, 2.1000376e-02, -6.1696135e-03];
/// Half of pi in four parts of 12 bits and a rest; a multiple of each of the first three by up to 12 bits is exact.
const PIO2: [f32; 4] = [1.570_312_5, 4.837_513e-4, 7.549_533_6e-8, 2.563_344e-12];

/// The largest magnitude that `sin`, `cos` and `tan` reduce without the branch for huge arguments.
pub const TRIG_LIMIT: f32 = 6000.0;

/// The absolute value. Exact.
#[inline(always)]
pub const fn abs(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & !SIGN)
}

/// The magnitude of `x` (which has no sign) with the sign of `y`.
#[inline(always)]
const fn with_sign(x: f32, y: f32) -> f32 {
    f32::from_bits(x.to_bits() | (y.to_bits() & SIGN))
}

/// -1, 0 or 1 (zeros keep their sign); NaN at NaN. Exact.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    let s = pick(x > 0.0, 1.0, x);
    pick(x < 0.0, -1.0, s)
}

/// The smaller of two numbers; NaN if either is NaN. Of two zeros, either one.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let m = pick(a < b, a, b);
    pick(a.is_nan(), a, m)
}

/// The larger of two numbers; NaN if either is NaN. Of two zeros, either one.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    let m = pick(a > b, a, b);
    pick(a.is_nan(), a, m)
}

/// The largest integer not above `x`. Exact; keeps the sign of zero.
#[inline(always)]
pub fn floor(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    let a = abs(x);
    let nearest = f32::from_bits(((a + WHOLE) - WHOLE).to_bits() | (x.to_bits() & SIGN));
    let down = pick(nearest > x, nearest - 1.0, nearest);
    pick(a < WHOLE, down, x)
}

/// 2^n for n from -126 to 127; bits of n above the lowest nine do not matter.
#[inline(always)]
const fn exp2i(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `(n, r)`, where the low 22 bits of n count (`exp2i` takes no more), with `x = n ln(2) + r`, `|r| <= ln(2)/2`,
/// for `|x| <= 128`.
#[inline(always)]
fn reduce_ln2(x: f32) -> (i32, f32) {
    let t = x * core::f32::consts::LOG2_E + MAGIC;
    let n = t - MAGIC;
    (t.to_bits() as i32, (x - n * LN2_HI) - n * LN2_LO)
}

/// The exponential, for `-104 <= x <= 89`. Two factors, so that overflow and underflow are rounded once.
#[inline(always)]
fn exp_clamped(x: f32) -> f32 {
    let (n, r) = reduce_ln2(x);
    let e = 1.0 + (r + r * r * even_odd!(r, EXP, 0 2 4; 1 3 5));
    let half = n >> 1;
    e * exp2i(half) * exp2i(n.wrapping_sub(half))
}

/// The exponential. Error at most 1 ulp.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = pick(x > 89.0, 89.0, x);
    let x = pick(x < -104.0, -104.0, x);
    exp_clamped(x)
}

/// `exp(x) - 1`, accurate near zero too. Error at most 2 ulp.
#[inline(always)]
pub fn expm1(x: f32) -> f32 {
    let a = pick(x > 89.0, 89.0, x);
    let a = pick(a < -30.0, -30.0, a);
    let (n, r) = reduce_ln2(a);
    let p = r + r * r * even_odd!(r, EXP, 0 2 4; 1 3 5);
    // Half the result, so that the power of two stays finite up to overflow.
    let s = exp2i(n.wrapping_sub(1));
    let y = 2.0 * (s * p + (s - 0.5));
    pick(abs(x) < 1e-9, x, y)
}

/// `(k, m - 1)` with `x = 2^k m`, m between the square roots of 1/2 and 2; x positive and normal.
#[inline(always)]
fn split_log(x: f32) -> (i32, f32) {
    let bits = x.to_bits() as i32;
    let k = bits.wrapping_sub(core::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub(k << 23) as u32);
    (k, m - 1.0)
}

/// The natural logarithm; -inf at zeros, NaN below. Error at most 1 ulp.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let (k, f) = split_log(pick(tiny, x * 8_388_608.0, x));
    let k = k as f32 - pick(tiny, 23.0, 0.0);
    let h = f * f;
    let y = (h * f * even_odd!(f, LOG, 0 2 4 6 8; 1 3 5 7) + k * LN2_LO) - 0.5 * h;
    let y = (f + y) + k * LN2_HI;
    let y = pick(x < f32::INFINITY, y, x);
    let outside = pick(x == 0.0, f32::NEG_INFINITY, f32::NAN);
    pick(x > 0.0, y, outside)
}

/// `log(1 + x)` for finite `x > -1`.
#[inline(always)]
fn log1p_inside(x: f32) -> f32 {
    let u = 1.0 + x;
    let t = u - 1.0;
    // What the rounding of u lost.
    let c = (1.0 - (u - t)) + (x - t);
    let (k, f) = split_log(u);
    let scale = f32::from_bits((pick(k < 127, 127i32.wrapping_sub(k), 0) as u32) << 23);
    let k = k as f32;
    let c = c * scale * (1.0 - f);
    let h = f * f;
    let y = (h * f * even_odd!(f, LOG, 0 2 4 6 8; 1 3 5 7) + (k * LN2_LO + c)) - 0.5 * h;
    (f + y) + k * LN2_HI
}

/// `log(1 + x)`, accurate near zero too; -inf at -1, NaN below. Error at most 2 ulp.
#[inline(always)]
pub fn log1p(x: f32) -> f32 {
    let y = log1p_inside(x);
    let y = pick(x < f32::INFINITY, y, x);
    let y = pick(abs(x) < 1e-9, x, y);
    let outside = pick(x == -1.0, f32::NEG_INFINITY, f32::NAN);
    pick(x > -1.0, y, outside)
}

/// The square root, correctly rounded; NaN below zero, -0 at -0.
#[cfg(feature = "std")]
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    x.sqrt()
}

/// The square root, correctly rounded; NaN below zero, -0 at -0.
#[cfg(not(feature = "std"))]
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    sqrt_portable(x)
}

/// The square root in integer and plain float arithmetic: the same bits as `sqrt`.
#[inline(always)]
pub fn sqrt_portable(x: f32) -> f32 {
    const FRACTION: u32 = (1 << 23) - 1;
    let tiny = x < f32::MIN_POSITIVE;
    let bits = pick(tiny, x * 16_777_216.0, x).to_bits();
    let e = ((bits >> 23) as i32).wrapping_sub(127);
    // x = m 2^(2h) with m in [1, 4).
    let h = e >> 1;
    let m = f32::from_bits(bits.wrapping_sub((h as u32) << 24));
    // Newton's iteration for 1/sqrt(m) from a linear guess in the bits.
    let mut y = f32::from_bits(0x5f37_59df_u32.wrapping_sub(m.to_bits() >> 1));
    for _ in 0..3 {
        y += y * (0.5 - 0.5 * m * y * y);
    }
    // The root as a 24-bit integer, off by three at most; the remainder (small, so 32 bits of it are enough) decides.
    let s = (m * y).to_bits();
    let mut root = ((s & FRACTION) | (1 << 23)) as i32;
    let mb = m.to_bits();
    let whole = ((mb & FRACTION) | (1 << 23)) << (mb >> 23).wrapping_sub(127).min(1);
    let square = (whole << 23) as i32;
    for _ in 0..3 {
        let rest = square.wrapping_sub(root.wrapping_mul(root));
        let up = (rest > root) as i32;
        let down = (rest <= root.wrapping_neg()) as i32;
        root = root.wrapping_add(up).wrapping_sub(down);
    }
    let h = h.wrapping_sub(pick(tiny, 12, 0));
    let y = f32::from_bits((root as u32).wrapping_add((h.wrapping_add(126) as u32) << 23));
    let y = pick(x < f32::INFINITY, y, x);
    let outside = pick(x == 0.0, x, f32::NAN);
    pick(x > 0.0, y, outside)
}

/// One over the square root; infinite at zeros, with their sign. Error at most 2 ulp.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    1.0 / sqrt(x)
}

/// The cube root, of negative numbers too. Error at most 1 ulp.
#[inline(always)]
pub fn cbrt(x: f32) -> f32 {
    let y = wide::cbrt(abs(x) as f64) as f32;
    pick(x.is_finite() && x != 0.0, with_sign(y, x), x)
}

/// `(quadrant, r)` with `a = quadrant pi/2 + r` for `0 <= a <= TRIG_LIMIT`.
#[inline(always)]
fn reduce_pio2(a: f32) -> (u32, f32) {
    let t = a * core::f32::consts::FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    let u = (a - n * PIO2[0]) - n * PIO2[1];
    let w = n * PIO2[2];
    // Everything so far is exact; keep what the next difference loses, so that only one rounding is left.
    let v = u - w;
    let r = v + (((u - v) - w) - n * PIO2[3]);
    (t.to_bits(), r)
}

/// The sine of `quadrant pi/2 + r`.
#[inline(always)]
fn sin_reduced(quadrant: u32, r: f32) -> f32 {
    let z = r * r;
    let s = r + r * z * horner!(z, SIN, 0 1 2);
    let c = 1.0 - (0.5 * z - z * z * horner!(z, COS, 0 1 2));
    let y = pick(quadrant & 1 == 0, s, c);
    f32::from_bits(y.to_bits() ^ ((quadrant & 2) << 30))
}

/// `sin` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn sin_moderate(x: f32) -> f32 {
    let (q, r) = reduce_pio2(abs(x));
    f32::from_bits(sin_reduced(q, r).to_bits() ^ (x.to_bits() & SIGN))
}

/// `cos` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn cos_moderate(x: f32) -> f32 {
    let (q, r) = reduce_pio2(abs(x));
    sin_reduced(q.wrapping_add(1), r)
}

/// `tan` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn tan_moderate(x: f32) -> f32 {
    let y = wide::tan(abs(x) as f64) as f32;
    f32::from_bits(y.to_bits() ^ (x.to_bits() & SIGN))
}

#[cold]
#[inline]
fn sin_huge(x: f32) -> f32 {
    let (q, r, _) = huge::reduce(abs(x) as f64);
    f32::from_bits(sin_reduced(q, r as f32).to_bits() ^ (x.to_bits() & SIGN))
}

#[cold]
#[inline]
fn cos_huge(x: f32) -> f32 {
    let (q, r, _) = huge::reduce(abs(x) as f64);
    sin_reduced(q.wrapping_add(1), r as f32)
}

#[cold]
#[inline]
fn tan_huge(x: f32) -> f32 {
    let (q, r, _) = huge::reduce(abs(x) as f64);
    let y = wide::tan_reduced(q, r) as f32;
    f32::from_bits(y.to_bits() ^ (x.to_bits() & SIGN))
}

/// The sine, for every finite argument; NaN at infinities. Error at most 2 ulp.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    if abs(x) <= TRIG_LIMIT { sin_moderate(x) } else { sin_huge(x) }
}

/// The cosine, for every finite argument; NaN at infinities. Error at most 2 ulp.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    if abs(x) <= TRIG_LIMIT { cos_moderate(x) } else { cos_huge(x) }
}

/// The tangent, for every finite argument; NaN at infinities. Error at most 1 ulp.
#[inline(always)]
pub fn tan(x: f32) -> f32 {
    if abs(x) <= TRIG_LIMIT { tan_moderate(x) } else { tan_huge(x) }
}

/// The inverse sine; NaN beyond 1. Error at most 1 ulp.
#[inline(always)]
pub fn asin(x: f32) -> f32 {
    let a = abs(x) as f64;
    let far = a > 0.5;
    let r = wide::asin_core(a, far);
    let y = pick(far, core::f64::consts::FRAC_PI_2 - 2.0 * r, r);
    f32::from_bits((y as f32).to_bits() | (x.to_bits() & SIGN))
}

/// The inverse cosine; NaN beyond 1. Error at most 1 ulp.
#[inline(always)]
pub fn acos(x: f32) -> f32 {
    use core::f64::consts::{FRAC_PI_2, PI};
    let a = abs(x) as f64;
    let far = a > 0.5;
    let r = wide::asin_core(a, far);
    let near = pick(x < 0.0, FRAC_PI_2 + r, FRAC_PI_2 - r);
    let ends = pick(x < 0.0, PI - 2.0 * r, 2.0 * r);
    pick(far, ends as f32, near as f32)
}

/// The inverse tangent. Error at most 2 ulp.
#[inline(always)]
pub fn atan(x: f32) -> f32 {
    let a = abs(x);
    let big = a > 2.414_213_7;
    let mid = a > 0.414_213_57;
    // atan(a) = pi/4 + atan((a - 1) / (a + 1)) = pi/2 - atan(1 / a)
    let num = pick(mid, a - 1.0, a);
    let num = pick(big, -1.0, num);
    let den = pick(mid, a + 1.0, 1.0);
    let den = pick(big, a, den);
    let base = pick(mid, core::f32::consts::FRAC_PI_4, 0.0);
    let base = pick(big, core::f32::consts::FRAC_PI_2, base);
    // What the constants lack of the exact multiples of pi.
    let rest = pick(mid, -2.185_569_4e-8, 0.0);
    let rest = pick(big, -4.371_139e-8, rest);
    let t = num / den;
    let z = t * t;
    let y = base + (t + (t * z * even_odd!(z, ATAN, 0 2 4; 1 3) + rest));
    f32::from_bits(y.to_bits() | (x.to_bits() & SIGN))
}

/// The angle of the point `(x, y)`, from -pi to pi, with the signs of zeros as in C99. Error at most 1 ulp.
#[inline(always)]
pub fn atan2(y: f32, x: f32) -> f32 {
    wide::atan2(y as f64, x as f64) as f32
}

/// `exp(a) / 4` for `0 <= a <= 89.5`.
#[inline(always)]
fn exp_quarter(a: f32) -> f32 {
    let (n, r) = reduce_ln2(a);
    let e = 1.0 + (r + r * r * even_odd!(r, EXP_SHORT, 0 2 4; 1 3));
    e * exp2i(n.wrapping_sub(2))
}

/// The hyperbolic sine. Error at most 2 ulp.
#[inline(always)]
pub fn sinh(x: f32) -> f32 {
    let a = abs(x);
    let b = pick(a > 89.5, 89.5, a);
    let z = b * b;
    let near = a + a * z * horner!(z, SINH, 0 1 2 3);
    // q = exp(b) / 4, which is finite up to overflow of the result
    let q = exp_quarter(b);
    let y = pick(a < 1.0, near, 2.0 * q - 0.125 / q);
    with_sign(y, x)
}

/// The hyperbolic cosine. Error at most 2 ulp.
#[inline(always)]
pub fn cosh(x: f32) -> f32 {
    let a = abs(x);
    let q = exp_quarter(pick(a > 89.5, 89.5, a));
    2.0 * q + 0.125 / q
}

/// The hyperbolic tangent. Error at most 2 ulp.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = abs(x);
    let a = pick(a > 10.0, 10.0, a);
    let z = a * a;
    let near = a + a * z * even_odd!(z, TANH, 0 2 4; 1 3);
    // tanh(a) = 1 - 2 q / (1 + q) with q = exp(-2 a)
    let (n, r) = reduce_ln2(-2.0 * a);
    let e = 1.0 + (r + r * r * even_odd!(r, EXP_SHORT, 0 2 4; 1 3));
    let q = e * exp2i(n);
    let far = 1.0 - (q + q) / (1.0 + q);
    with_sign(pick(a < 0.55, near, far), x)
}

/// The inverse hyperbolic sine. Error at most 1 ulp.
#[inline(always)]
pub fn asinh(x: f32) -> f32 {
    let a = abs(x) as f64;
    let y = wide::ln(a + super::f64::sqrt(a * a + 1.0));
    let y = pick(a < 1e-3, a - a * a * a / 6.0, y);
    let y = pick(a < f64::INFINITY, y, a);
    f32::from_bits((y as f32).to_bits() | (x.to_bits() & SIGN))
}

/// The inverse hyperbolic cosine; NaN below 1. Error at most 1 ulp.
#[inline(always)]
pub fn acosh(x: f32) -> f32 {
    let a = x as f64;
    let y = wide::ln(a + super::f64::sqrt(a * a - 1.0)) as f32;
    let y = pick(x < f32::INFINITY, y, x);
    pick(x >= 1.0, y, f32::NAN)
}

/// The inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond. Error at most 1 ulp.
#[inline(always)]
pub fn atanh(x: f32) -> f32 {
    let a = abs(x) as f64;
    let y = 0.5 * wide::ln((1.0 + a) / (1.0 - a));
    let y = pick(a < 1e-3, a + a * a * a / 3.0, y);
    let y = pick(a == 1.0, f64::INFINITY, y);
    let y = pick(a <= 1.0, y, f64::NAN);
    f32::from_bits((y as f32).to_bits() | (x.to_bits() & SIGN))
}

/// `1 / (1 + exp(-x))`, without overflow, subnormal results included. Error at most 2 ulp.
#[inline(always)]
pub fn logistic(x: f32) -> f32 {
    let a = -abs(x);
    let e = exp_clamped(pick(a < -104.0, -104.0, a));
    let d = 1.0 + e;
    let y = pick(x < 0.0, e, 1.0) / d;
    // What the rounding of d lost, to first order for small e, where it weighs most.
    y - y * (e - (d - 1.0))
}

/// `log(1 + exp(x))`, without overflow. Error at most 2 ulp.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let a = -abs(x);
    let e = exp_clamped(pick(a < -104.0, -104.0, a));
    let y = log1p_inside(e);
    pick(x > 0.0, x, 0.0) + y
}

/// The error function, `2/sqrt(pi)` times the integral of `exp(-t²)` from 0 to x. Error at most 2 ulp.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = abs(x);
    let a = pick(a > 4.0, 4.0, a);
    let z = a * a;
    let near = a + a * even_odd!(z, ERF, 0 2 4; 1 3 5);
    let (n, r) = reduce_ln2(-even_odd!(a, ERFC, 0 2 4 6; 1 3 5));
    let e = 1.0 + (r + r * r * even_odd!(r, EXP_SHORT, 0 2 4; 1 3));
    let far = 1.0 - e * exp2i(n);
    with_sign(pick(a < 0.921_875, near, far), x)
}

/// `x` to the power `y`, with the special values of C99. Error at most 1 ulp.
#[inline(always)]
pub fn pow(x: f32, y: f32) -> f32 {
    wide::pow(x, y as f64)
}

/// `x` to a whole power. Error at most 2 ulp. A constant `n` leaves only its own arm.
#[inline(always)]
pub fn powi(x: f32, n: i32) -> f32 {
    match n {
        0 => 1.0,
        1 => x,
        2 => x * x,
        3 => x * x * x,
        4 => (x * x) * (x * x),
        -1 => 1.0 / x,
        -2 => 1.0 / x / x,
        _ => wide::pow(x, n as f64),
    }
}
