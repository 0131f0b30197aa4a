//! Elementary functions on `f32`: takes one or two numbers, gives one, never panics.
//!
//! `tan`, `asin`, `acos`, `asinh`, `acosh`, `atanh`, `cbrt`, `erfc`, `atan2` and `pow` compute in `f64`; everything
//! else stays in `f32`, for the sake of lane width and of processors whose hardware has no `f64`.
//!
//! The stated error bounds are in units in the last place (ulp) of the exact result. The functions of one argument were
//! checked over every argument, with and without fused multiply-adds. Special values follow C99, Annex F.

use super::{even_odd, horner, huge, pick, tried, wide};
use crate::isa::{Isa, Machine};

/// Adding it to a number of magnitude up to 2^22 rounds to an integer, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;
const SIGN: u32 = 1 << 31;
/// The logarithm of 2 in two parts; a multiple of the first by up to 9 bits is exact.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;
/// What the single nearest to the logarithm of 2 lacks of it.
const LN2_REST: f32 = -1.904_654_3e-9;

/// `exp(r) = 1 + r + r² q(r)` for `|r| <= ln(2)/2`; relative error of `exp(r) - 1` 2^-30.9.
const EXP: [f32; 6] = [0.5, 1.666_666_7e-1, 4.166_648e-2, 8.333_186e-3, 1.393_359_2e-3, 1.997_250_7e-4];
/// The same with a term less, error 2^-25.9, where a bound of 2 ulp leaves room for it.
const EXP_SHORT: [f32; 5] = [0.5, 1.666_652_9e-1, 4.166_661e-2, 8.368_466e-3, 1.391_82e-3];
/// The same for a relative error of `exp(r)`, 2^-28.2.
const EXP_FUSED: [f32; 5] = [0.499_999_94, 1.666_652_1e-1, 4.166_826_6e-2, 8.368_678e-3, 1.382_076e-3];
/// `exp(r) = 1 + r q(r)` for `|r| <= ln(2)/2`; error 2^-23.4.
const EXP_SHORTER: [f32; 5] = [0.999_999_7, 0.499_991_48, 1.666_765_2e-1, 4.189_819e-2, 8.289_357e-3];
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

/// Half of pi in three parts, for fused multiply-adds.
const PIO2_FUSED: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];

/// The largest magnitude that `sin`, `cos` and `tan` reduce without the branch for huge arguments.
pub const TRIG_LIMIT: f32 = 6000.0;

super::speculation! { f32, u32 }

/// The absolute value. Exact.
#[inline(always)]
pub const fn abs<S: Isa>(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & !SIGN)
}

/// The magnitude of `x` (which has no sign) with the sign of `y`.
#[inline(always)]
const fn with_sign(x: f32, y: f32) -> f32 {
    f32::from_bits(x.to_bits() | (y.to_bits() & SIGN))
}

/// -1, 0 or 1 (zeros keep their sign); NaN at NaN. Exact.
#[inline(always)]
pub fn sign<S: Isa>(x: f32) -> f32 {
    let s = pick(x > 0.0, 1.0, x);
    pick(x < 0.0, -1.0, s)
}

/// The smaller of two numbers; NaN if either is NaN. Of two zeros, either one.
#[inline(always)]
pub fn min<S: Isa>(a: f32, b: f32) -> f32 {
    let m = pick(a < b, a, b);
    pick(a.is_nan(), a, m)
}

/// The larger of two numbers; NaN if either is NaN. Of two zeros, either one.
#[inline(always)]
pub fn max<S: Isa>(a: f32, b: f32) -> f32 {
    let m = pick(a > b, a, b);
    pick(a.is_nan(), a, m)
}

/// The largest integer not above `x`. Exact; keeps the sign of zero.
#[inline(always)]
pub fn floor<S: Isa>(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    let a = abs::<S>(x);
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

/// `(t, p)` with `exp(sign x) = 2^n (1 + p)`, where the low 9 bits of t are those of `n + bias`, for `|x| <= 128` and a
/// constant sign, 1 or -1. For fused multiply-adds, which make the first step of the reduction exact; the second is
/// left to a correction of first order.
#[inline(always)]
fn exp_parts<S: Isa>(x: f32, sign: f32, bias: f32) -> (u32, f32) {
    let t = S::mul_add(x, sign * core::f32::consts::LOG2_E, MAGIC + bias);
    let n = t - (MAGIC + bias);
    // x itself is not negated: that would hide from the compiler that it is clamped.
    let r = S::mul_add(n, -sign * core::f32::consts::LN_2, x);
    let z = r * r;
    let high = S::mul_add(r, sign * EXP_FUSED[3], EXP_FUSED[2]);
    let low = S::mul_add(r, sign * EXP_FUSED[1], EXP_FUSED[0]);
    let q = S::mul_add(z, S::mul_add(z, EXP_FUSED[4], high), low);
    // c (1 + r + r²/2), the square as it is on the average
    let c = n * (-1.035 * LN2_REST);
    let square = S::mul_add(z, q, S::mul_add(sign * c, r, c));
    (t.to_bits(), square + sign * r)
}

/// The exponential over `2^shift`, for x between `(-126 + shift) ln(2)` and `(127 + shift) ln(2)`: one factor is
/// enough.
#[inline(always)]
fn exp_over<S: Isa>(x: f32, shift: f32) -> f32 {
    let (t, p) = exp_parts::<S>(x, 1.0, 127.0 - shift);
    let s = f32::from_bits(t << 23);
    S::mul_add(s, p, s)
}

/// The exponential, for `-104 <= x <= 89`. Two factors, so that overflow and underflow are rounded once.
#[inline(always)]
fn exp_clamped<S: Isa>(x: f32) -> f32 {
    if S::FUSED {
        let (t, p) = exp_parts::<S>(x, 1.0, 254.0);
        let half = t >> 1;
        let s = f32::from_bits(half << 23);
        return S::mul_add(s, p, s) * f32::from_bits(t.wrapping_sub(half) << 23);
    }
    let (n, r) = reduce_ln2(x);
    let e = 1.0 + (r + r * r * even_odd!(S, r, EXP, 0 2 4; 1 3 5));
    let half = n >> 1;
    e * exp2i(half) * exp2i(n.wrapping_sub(half))
}

/// The exponential. Error at most 1 ulp.
#[inline(always)]
pub fn exp<S: Isa>(x: f32) -> f32 {
    let x = pick(x > 89.0, 89.0, x);
    let x = pick(x < -104.0, -104.0, x);
    exp_clamped::<S>(x)
}

/// `exp(x) - 1`, accurate near zero too. Error at most 2 ulp.
#[inline(always)]
pub fn expm1<S: Isa>(x: f32) -> f32 {
    let a = pick(x > 89.0, 89.0, x);
    let a = pick(a < -30.0, -30.0, a);
    if S::FUSED {
        // Half the result, as below.
        let (t, p) = exp_parts::<S>(a, 1.0, 126.0);
        let s = f32::from_bits(t << 23);
        let y = S::mul_add(s, p, s - 0.5);
        return pick(abs::<S>(x) < 1e-9, x, y + y);
    }
    let (n, r) = reduce_ln2(a);
    let p = r + r * r * even_odd!(S, r, EXP, 0 2 4; 1 3 5);
    // Half the result, so that the power of two stays finite up to overflow.
    let s = exp2i(n.wrapping_sub(1));
    let y = 2.0 * (s * p + (s - 0.5));
    pick(abs::<S>(x) < 1e-9, x, y)
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
pub fn log<S: Isa>(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let (k, f) = split_log(pick(tiny, x * 8_388_608.0, x));
    let k = k as f32 - pick(tiny, 23.0, 0.0);
    let h = f * f;
    let p = even_odd!(S, f, LOG, 0 2 4 6 8; 1 3 5 7);
    let y = if S::FUSED {
        S::mul_add(k, core::f32::consts::LN_2, S::mul_add(h, S::mul_add(f, p, -0.5), f))
    } else {
        let y = (h * f * p + k * LN2_LO) - 0.5 * h;
        (f + y) + k * LN2_HI
    };
    let y = pick(x < f32::INFINITY, y, x);
    let outside = pick(x == 0.0, f32::NEG_INFINITY, f32::NAN);
    pick(x > 0.0, y, outside)
}

/// `log(1 + x)` for finite `x > -1`.
#[inline(always)]
fn log1p_inside<S: Isa>(x: f32) -> f32 {
    let u = 1.0 + x;
    let t = u - 1.0;
    // What the rounding of u lost.
    let c = (1.0 - (u - t)) + (x - t);
    let (k, f) = split_log(u);
    let scale = f32::from_bits((pick(k < 127, 127i32.wrapping_sub(k), 0) as u32) << 23);
    let k = k as f32;
    let c = c * scale * (1.0 - f);
    let h = f * f;
    if S::FUSED {
        let q = S::mul_add(f, even_odd!(S, f, LOG, 0 2 4 6 8; 1 3 5 7), -0.5);
        return S::mul_add(k, core::f32::consts::LN_2, f + S::mul_add(h, q, c));
    }
    let y = S::mul_add(h * f, even_odd!(S, f, LOG, 0 2 4 6 8; 1 3 5 7), S::mul_add(k, LN2_LO, c)) - 0.5 * h;
    S::mul_add(k, LN2_HI, f + y)
}

/// `log(1 + x)` for `0 <= x <= 1`.
#[inline(always)]
fn log1p_unit<S: Isa>(x: f32) -> f32 {
    if !S::FUSED {
        return log1p_inside::<S>(x);
    }
    let upper = x > core::f32::consts::SQRT_2 - 1.0;
    // log(1 + x) = ln(2) + log((1 + x) / 2)
    let f = pick(upper, S::mul_add(0.5, x, -0.5), x);
    let q = S::mul_add(f, even_odd!(S, f, LOG, 0 2 4 6 8; 1 3 5 7), -0.5);
    S::mul_add(f * f, q, f) + pick(upper, core::f32::consts::LN_2, 0.0)
}

/// `log(1 + x)`, accurate near zero too; -inf at -1, NaN below. Error at most 2 ulp.
#[inline(always)]
pub fn log1p<S: Isa>(x: f32) -> f32 {
    let y = log1p_inside::<S>(x);
    let y = pick(x < f32::INFINITY, y, x);
    let y = pick(abs::<S>(x) < 1e-9, x, y);
    let outside = pick(x == -1.0, f32::NEG_INFINITY, f32::NAN);
    pick(x > -1.0, y, outside)
}

/// The square root, correctly rounded; NaN below zero, -0 at -0.
#[inline(always)]
pub fn sqrt<S: Isa>(x: f32) -> f32 {
    S::sqrt(x)
}

/// The square root where no instruction set is known to have one.
#[inline(always)]
pub(crate) fn sqrt_baseline(x: f32) -> f32 {
    #[cfg(feature = "std")]
    return x.sqrt();
    #[cfg(not(feature = "std"))]
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
pub fn rsqrt<S: Isa>(x: f32) -> f32 {
    1.0 / sqrt::<S>(x)
}

/// The cube root, of negative numbers too. Error at most 1 ulp.
#[inline(always)]
pub fn cbrt<S: Isa>(x: f32) -> f32 {
    let y = wide::cbrt(abs::<S>(x) as f64) as f32;
    pick(x.is_finite() && x != 0.0, with_sign(y, x), x)
}

/// `(quadrant, r)` with `a = quadrant pi/2 + r` for `0 <= a <= TRIG_LIMIT`.
#[inline(always)]
fn reduce_pio2<S: Isa>(a: f32) -> (u32, f32) {
    let t = a * core::f32::consts::FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    if S::FUSED {
        let r = S::mul_add(n, -PIO2_FUSED[0], a);
        let r = S::mul_add(n, -PIO2_FUSED[1], r);
        return (t.to_bits(), S::mul_add(n, -PIO2_FUSED[2], r));
    }
    let u = (a - n * PIO2[0]) - n * PIO2[1];
    let w = n * PIO2[2];
    // Everything so far is exact; keep what the next difference loses, so that only one rounding is left.
    let v = u - w;
    let r = v + (((u - v) - w) - n * PIO2[3]);
    (t.to_bits(), r)
}

/// The sine of `quadrant pi/2 + r`.
#[inline(always)]
fn sin_reduced<S: Isa>(quadrant: u32, r: f32) -> f32 {
    let z = r * r;
    let s = S::mul_add(r * z, horner!(S, z, SIN, 0 1 2), r);
    let c = 1.0 - S::mul_add(-(z * z), horner!(S, z, COS, 0 1 2), 0.5 * z);
    let y = pick(quadrant & 1 == 0, s, c);
    f32::from_bits(y.to_bits() ^ ((quadrant & 2) << 30))
}

/// `sin` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn sin_moderate<S: Isa>(x: f32) -> f32 {
    let (q, r) = reduce_pio2::<S>(abs::<S>(x));
    f32::from_bits(sin_reduced::<S>(q, r).to_bits() ^ (x.to_bits() & SIGN))
}

/// `cos` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn cos_moderate<S: Isa>(x: f32) -> f32 {
    let (q, r) = reduce_pio2::<S>(abs::<S>(x));
    sin_reduced::<S>(q.wrapping_add(1), r)
}

/// `tan` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn tan_moderate<S: Isa>(x: f32) -> f32 {
    let y = wide::tan::<S>(abs::<S>(x) as f64) as f32;
    f32::from_bits(y.to_bits() ^ (x.to_bits() & SIGN))
}

#[cold]
#[inline]
fn sin_huge<S: Isa>(x: f32) -> f32 {
    let (q, r) = huge::reduce_single(abs::<S>(x));
    f32::from_bits(sin_reduced::<S>(q, r as f32).to_bits() ^ (x.to_bits() & SIGN))
}

#[cold]
#[inline]
fn cos_huge<S: Isa>(x: f32) -> f32 {
    let (q, r) = huge::reduce_single(abs::<S>(x));
    sin_reduced::<S>(q.wrapping_add(1), r as f32)
}

#[cold]
#[inline]
fn tan_huge<S: Isa>(x: f32) -> f32 {
    let (q, r) = huge::reduce_single(abs::<S>(x));
    let y = wide::tan_reduced::<S>(q, r) as f32;
    f32::from_bits(y.to_bits() ^ (x.to_bits() & SIGN))
}

/// The sine, for every finite argument; NaN at infinities. Error at most 2 ulp.
#[inline(always)]
pub fn sin<S: Isa>(x: f32) -> f32 {
    if abs::<S>(x) <= TRIG_LIMIT { sin_moderate::<S>(x) } else { sin_huge::<S>(x) }
}

/// The cosine, for every finite argument; NaN at infinities. Error at most 2 ulp.
#[inline(always)]
pub fn cos<S: Isa>(x: f32) -> f32 {
    if abs::<S>(x) <= TRIG_LIMIT { cos_moderate::<S>(x) } else { cos_huge::<S>(x) }
}

/// The tangent, for every finite argument; NaN at infinities. Error at most 1 ulp.
#[inline(always)]
pub fn tan<S: Isa>(x: f32) -> f32 {
    if abs::<S>(x) <= TRIG_LIMIT { tan_moderate::<S>(x) } else { tan_huge::<S>(x) }
}

/// The inverse sine; NaN beyond 1. Error at most 1 ulp.
#[inline(always)]
pub fn asin<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x) as f64;
    let far = a > 0.5;
    let r = wide::asin_core::<S>(a, far);
    let y = pick(far, core::f64::consts::FRAC_PI_2 - 2.0 * r, r);
    f32::from_bits((y as f32).to_bits() | (x.to_bits() & SIGN))
}

/// The inverse cosine; NaN beyond 1. Error at most 1 ulp.
#[inline(always)]
pub fn acos<S: Isa>(x: f32) -> f32 {
    use core::f64::consts::{FRAC_PI_2, PI};
    let a = abs::<S>(x) as f64;
    let far = a > 0.5;
    let r = wide::asin_core::<S>(a, far);
    let near = pick(x < 0.0, FRAC_PI_2 + r, FRAC_PI_2 - r);
    let ends = pick(x < 0.0, PI - 2.0 * r, 2.0 * r);
    pick(far, ends as f32, near as f32)
}

/// The inverse tangent. Error at most 2 ulp.
#[inline(always)]
pub fn atan<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x);
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
    let y = base + (t + S::mul_add(t * z, even_odd!(S, z, ATAN, 0 2 4; 1 3), rest));
    f32::from_bits(y.to_bits() | (x.to_bits() & SIGN))
}

/// The angle of the point `(x, y)`, from -pi to pi, with the signs of zeros as in C99. Error at most 1 ulp.
#[inline(always)]
pub fn atan2<S: Isa>(y: f32, x: f32) -> f32 {
    wide::atan2::<S>(y as f64, x as f64) as f32
}

/// `exp(a) / 4` for `0 <= a <= 89.5`.
#[inline(always)]
fn exp_quarter<S: Isa>(a: f32) -> f32 {
    if S::FUSED {
        return exp_over::<S>(a, 2.0);
    }
    let (n, r) = reduce_ln2(a);
    let e = 1.0 + (r + r * r * even_odd!(S, r, EXP_SHORT, 0 2 4; 1 3));
    e * exp2i(n.wrapping_sub(2))
}

/// The hyperbolic sine. Error at most 2 ulp.
#[inline(always)]
pub fn sinh<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x);
    let b = pick(a > 89.5, 89.5, a);
    let z = b * b;
    let near = S::mul_add(a * z, horner!(S, z, SINH, 0 1 2 3), a);
    // q = exp(b) / 4, which is finite up to overflow of the result
    let q = exp_quarter::<S>(b);
    let y = pick(a < 1.0, near, 2.0 * q - 0.125 / q);
    with_sign(y, x)
}

/// The hyperbolic cosine. Error at most 2 ulp.
#[inline(always)]
pub fn cosh<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x);
    let q = exp_quarter::<S>(pick(a > 89.5, 89.5, a));
    2.0 * q + 0.125 / q
}

/// The hyperbolic tangent below 0.55, a polynomial.
#[inline(always)]
fn tanh_near<S: Isa>(a: f32) -> f32 {
    let z = a * a;
    S::mul_add(a * z, even_odd!(S, z, TANH, 0 2 4; 1 3), a)
}

/// The hyperbolic tangent from there to 10, by the exponential.
#[inline(always)]
fn tanh_far<S: Isa>(a: f32) -> f32 {
    if S::FUSED {
        // tanh(a) = 1 - 2 / (exp(2 a) + 1). At most half of an error of the quotient gets into the result: fewer terms
        // will do.
        let b = a + a;
        let t = S::mul_add(b, core::f32::consts::LOG2_E, MAGIC + 127.0);
        let r = S::mul_add(t - (MAGIC + 127.0), -core::f32::consts::LN_2, b);
        let w = r * r;
        let high = S::mul_add(r, EXP_SHORTER[3], EXP_SHORTER[2]);
        let low = S::mul_add(r, EXP_SHORTER[1], EXP_SHORTER[0]);
        let p = S::mul_add(w, S::mul_add(w, EXP_SHORTER[4], high), low);
        let s = f32::from_bits(t.to_bits() << 23);
        1.0 - 2.0 / S::mul_add(r * s, p, s + 1.0)
    } else {
        // tanh(a) = 1 - 2 q / (1 + q) with q = exp(-2 a)
        let (n, r) = reduce_ln2(-2.0 * a);
        let e = 1.0 + (r + r * r * even_odd!(S, r, EXP_SHORT, 0 2 4; 1 3));
        let q = e * exp2i(n);
        1.0 - (q + q) / (1.0 + q)
    }
}

/// The hyperbolic tangent. Error at most 2 ulp.
#[inline(always)]
pub fn tanh<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x);
    let a = pick(a > 10.0, 10.0, a);
    let y = if const { matches!(S::MACHINE, Machine::Scalar) } {
        // Without lanes a branch costs less than what is not taken.
        if a < 0.55 { tanh_near::<S>(a) } else { tanh_far::<S>(a) }
    } else {
        pick(a < 0.55, tanh_near::<S>(a), tanh_far::<S>(a))
    };
    with_sign(y, x)
}

/// The inverse hyperbolic sine. Error at most 1 ulp.
#[inline(always)]
pub fn asinh<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x) as f64;
    let y = wide::ln::<S>(a + super::f64::sqrt::<S>(a * a + 1.0));
    let y = pick(a < 1e-3, a - a * a * a / 6.0, y);
    let y = pick(a < f64::INFINITY, y, a);
    f32::from_bits((y as f32).to_bits() | (x.to_bits() & SIGN))
}

/// The inverse hyperbolic cosine; NaN below 1. Error at most 1 ulp.
#[inline(always)]
pub fn acosh<S: Isa>(x: f32) -> f32 {
    let a = x as f64;
    let y = wide::ln::<S>(a + super::f64::sqrt::<S>(a * a - 1.0)) as f32;
    let y = pick(x < f32::INFINITY, y, x);
    pick(x >= 1.0, y, f32::NAN)
}

/// The inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond. Error at most 1 ulp.
#[inline(always)]
pub fn atanh<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x) as f64;
    let y = 0.5 * wide::ln::<S>((1.0 + a) / (1.0 - a));
    let y = pick(a < 1e-3, a + a * a * a / 3.0, y);
    let y = pick(a == 1.0, f64::INFINITY, y);
    let y = pick(a <= 1.0, y, f64::NAN);
    f32::from_bits((y as f32).to_bits() | (x.to_bits() & SIGN))
}

/// `1 / (1 + exp(-x))`, without overflow, subnormal results included. Error at most 2 ulp.
#[inline(always)]
pub fn logistic<S: Isa>(x: f32) -> f32 {
    if S::FUSED {
        // K / (K + K exp(-x)): with K so small neither overflows before the result is zero.
        const K: f32 = 1.0 / 18_446_744_073_709_551_616.0;
        let b = pick(x > 43.0, 43.0, x);
        let b = pick(b < -105.0, -105.0, b);
        let (t, p) = exp_parts::<S>(b, -1.0, 63.0);
        let s = f32::from_bits(t << 23);
        // What the rounding of the sum loses goes into the other term.
        let sum = s + K;
        let rest = K - (sum - s);
        return K / (sum + S::mul_add(s, p, rest));
    }
    let a = -abs::<S>(x);
    let e = exp_clamped::<S>(pick(a < -104.0, -104.0, a));
    let d = 1.0 + e;
    let y = pick(x < 0.0, e, 1.0) / d;
    // What the rounding of d lost, to first order for small e, where it weighs most.
    y - y * (e - (d - 1.0))
}

/// `log(1 + exp(x))`, without overflow. Error at most 2 ulp.
#[inline(always)]
pub fn softplus<S: Isa>(x: f32) -> f32 {
    let a = -abs::<S>(x);
    let e = exp_clamped::<S>(pick(a < -104.0, -104.0, a));
    let y = log1p_unit::<S>(e);
    pick(x > 0.0, x, 0.0) + y
}

/// The error function, `2/sqrt(pi)` times the integral of `exp(-t²)` from 0 to x. Error at most 2 ulp.
#[inline(always)]
pub fn erf<S: Isa>(x: f32) -> f32 {
    let a = abs::<S>(x);
    let a = pick(a > 4.0, 4.0, a);
    let z = a * a;
    let near = S::mul_add(a, even_odd!(S, z, ERF, 0 2 4; 1 3 5), a);
    let b = -even_odd!(S, a, ERFC, 0 2 4 6; 1 3 5);
    let far = if S::FUSED {
        1.0 - exp_over::<S>(b, 0.0)
    } else {
        let (n, r) = reduce_ln2(b);
        let e = 1.0 + (r + r * r * even_odd!(S, r, EXP_SHORT, 0 2 4; 1 3));
        1.0 - e * exp2i(n)
    };
    with_sign(pick(a < 0.921_875, near, far), x)
}

/// The complement of the error function, `1 - erf(x)`, accurate where that is tiny. Error at most 1 ulp.
#[inline(always)]
pub fn erfc<S: Isa>(x: f32) -> f32 {
    wide::erfc::<S>(x as f64) as f32
}

/// `x` to the power `y`, with the special values of C99. Error at most 1 ulp.
#[inline(always)]
pub fn pow<S: Isa>(x: f32, y: f32) -> f32 {
    wide::pow::<S>(x, y as f64)
}

/// `x` to a whole power. Error at most 2 ulp. A constant `n` leaves only its own arm.
#[inline(always)]
pub fn powi<S: Isa>(x: f32, n: i32) -> f32 {
    match n {
        0 => 1.0,
        1 => x,
        2 => x * x,
        3 => x * x * x,
        4 => (x * x) * (x * x),
        -1 => 1.0 / x,
        -2 => 1.0 / x / x,
        _ => wide::pow::<S>(x, n as f64),
    }
}
