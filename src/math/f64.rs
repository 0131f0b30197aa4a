//! Elementary functions on `f64`: takes one or two numbers, gives one, never panics.
//!
//! The stated error bounds are in units in the last place (ulp) of the exact result. They are the worst found by
//! dense sampling against a double-double reference, rounded up. Special values follow C99, Annex F.

use super::{even_odd, huge, pick, tried};
use crate::isa::Isa;

/// Adding it to a number of magnitude up to 2^51 rounds to an integer, which then stands in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
const SIGN: u64 = 1 << 63;
/// The logarithm of 2 in two parts; a multiple of the first by up to 21 bits is exact.
const LN2_HI: f64 = 0.693_147_180_369_123_8;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// What the double nearest to pi/2 lacks of it.
const PIO2_LO: f64 = 6.123_233_995_736_766e-17;

/// `exp(r) = 1 + r + r² q(r)` for `|r| <= ln(2)/2`, for a relative error of `exp(r) - 1`.
const EXP: [f64; 11] = [
    0.5,
    0.1666666666666668,
    0.04166666666666667,
    0.008333333333318958,
    0.0013888888888878956,
    0.00019841269893217833,
    2.480158735027877e-05,
    2.755723694890122e-06,
    2.7557233775281713e-07,
    2.5111572554800952e-08,
    2.0933830271907856e-09,
];
/// `log((1 + s)/(1 - s)) = s (2 + z p(z))`, `z = s²`, for `s` up to 0.1716.
const LOG: [f64; 7] = [
    0.6666666666666734,
    0.3999999999941653,
    0.28571428742069443,
    0.22222198599468967,
    0.18183563201793732,
    0.1531407449150316,
    0.14795749668899524,
];
/// `log((1 + s)/(1 - s)) = 2 s (1 + z/3 + z² q(z))`, `z = s²`, for `s` up to 0.1716.
const POW_LOG: [f64; 8] = [
    0.1999999999999999,
    0.1428571428572192,
    0.11111111108894797,
    0.09090909422015381,
    0.07692279212327406,
    0.06668132347014881,
    0.05837887959612347,
    0.05990899791472261,
];
/// `sin(r) = r + r³ p(r²)` for `|r| <= pi/4`.
pub(super) const SIN: [f64; 6] = [
    -0.16666666666666632,
    0.008333333333322457,
    -0.00019841269829815131,
    2.7557313688177802e-06,
    -2.505075680538041e-08,
    1.5896686794951442e-10,
];
/// `cos(r) = 1 - r²/2 + r⁴ p(r²)` for `|r| <= pi/4`.
pub(super) const COS: [f64; 6] = [
    0.0416666666666666,
    -0.0013888888888874441,
    2.4801587289636504e-05,
    -2.7557314387579225e-07,
    2.087572707958702e-09,
    -1.1359803745429727e-11,
];
/// `atan(t) = t + t³ p(t²)` for `|t| <= tan(pi/8)`.
const ATAN: [f64; 11] = [
    -0.333333333333332,
    0.1999999999995382,
    -0.14285714280220965,
    0.1111111078470247,
    -0.0909089779365062,
    0.07692060850987087,
    -0.06663111187507902,
    0.05847940241425499,
    -0.0503952866599441,
    0.03807009403199364,
    -0.017913087038026392,
];
/// `asin(x) = x + x³ p(x²)` for `|x| <= 1/2`.
const ASIN: [f64; 13] = [
    0.16666666666666763,
    0.07499999999970128,
    0.044642857175256775,
    0.030381942676752156,
    0.02237221586256579,
    0.017351596310678976,
    0.013981008448548157,
    0.011397378478704956,
    0.010788826769575096,
    0.003674108892584261,
    0.021785833877296087,
    -0.02110972596379694,
    0.03269767786674227,
];
/// `erf(x) = x + x p(x²)` for `0 <= x <= 1`.
const ERF: [f64; 13] = [
    0.1283791670955126,
    -0.376126389031841,
    0.11283791670971101,
    -0.026866170648032282,
    0.005223977652698257,
    -0.0008548328535270376,
    0.00012055386150400347,
    -1.4926880632909652e-05,
    1.6481066550540088e-06,
    -1.6557638928970497e-07,
    1.602083832213799e-08,
    -1.6514695077882141e-09,
    1.4468765559559862e-10,
];
/// `exp(x²) (1 - erf(x)) = p((x - 2)/(x + 2))` for `1 <= x <= 6`, weighted for a relative error of `erf`.
const ERFCX: [f64; 14] = [
    0.25539567631050575,
    -0.4271858474139584,
    0.24165819424245882,
    -0.0789785810158186,
    0.003732892405952631,
    0.006997461767787936,
    -0.0008471431620362879,
    -0.000981977158425862,
    4.356479640316688e-05,
    0.00017450623414896156,
    2.838947139806472e-05,
    -2.5055216530367793e-05,
    -1.0775883422728809e-05,
    1.079757792449787e-06,
];
/// `(1 + 2 x) exp(x²) (1 - erf(x)) = p((x - 4)/(x + 4))` for `0.75 <= x <= 27.5`.
const ERFC: [f64; 22] = [
    1.2329951186255526,
    -0.13962111684056247,
    0.015379652102619875,
    0.06809705425468668,
    -0.10103906603631145,
    0.09373283499862384,
    -0.06633036581208793,
    0.03716751553176034,
    -0.0161977340585491,
    0.005031970043637359,
    -0.0007577732932436082,
    -0.00019925714928355266,
    0.0001506217701324083,
    -2.439722068547034e-05,
    -1.1222638826189222e-05,
    5.704106229908957e-06,
    2.959029143264521e-07,
    -8.153519811103605e-07,
    7.056046127572426e-08,
    9.922753461482282e-08,
    -1.367937563779405e-08,
    -7.984889314383992e-09,
];
/// Half of pi in three parts of 33 bits and a rest; a multiple of a part by up to 20 bits is exact.
const PIO2: [f64; 4] = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32];

/// The largest magnitude that `sin`, `cos` and `tan` reduce without the branch for huge arguments.
pub const TRIG_LIMIT: f64 = 1_000_000.0;

super::speculation! { f64, u64 }

/// The absolute value. Exact.
#[inline(always)]
pub const fn abs<S: Isa>(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & !SIGN)
}

/// The magnitude of `x` (which has no sign) with the sign of `y`.
#[inline(always)]
const fn with_sign(x: f64, y: f64) -> f64 {
    f64::from_bits(x.to_bits() | (y.to_bits() & SIGN))
}

/// `x`, negated where `y` is negative.
#[inline(always)]
const fn times_sign(x: f64, y: f64) -> f64 {
    f64::from_bits(x.to_bits() ^ (y.to_bits() & SIGN))
}

/// `(s, e)` with `s + e = a + b` exactly and `s` the rounded sum (Knuth).
#[inline(always)]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// The same for `|a| >= |b|` (Dekker).
#[inline(always)]
fn fast_two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    (s, b - (s - a))
}

/// `(p, e)` with `p + e = a b` exactly, for magnitudes below 2^500 (Dekker and Veltkamp).
#[inline(always)]
pub(super) fn two_prod<S: Isa>(a: f64, b: f64) -> (f64, f64) {
    const SPLIT: f64 = 134_217_729.0;
    let p = a * b;
    if S::FUSED {
        return (p, S::mul_add(a, b, -p));
    }
    let t = SPLIT * a;
    let ah = t - (t - a);
    let al = a - ah;
    let t = SPLIT * b;
    let bh = t - (t - b);
    let bl = b - bh;
    (p, ((ah * bh - p) + ah * bl + al * bh) + al * bl)
}

/// Picks both parts of a sum.
#[inline(always)]
fn pick2(test: bool, yes: (f64, f64), no: (f64, f64)) -> (f64, f64) {
    (pick(test, yes.0, no.0), pick(test, yes.1, no.1))
}

/// `(n + n_lo) / (d + d_lo)` as a rounded quotient and its correction.
#[inline(always)]
fn divide<S: Isa>(n: f64, n_lo: f64, d: f64, d_lo: f64) -> (f64, f64) {
    let q = n / d;
    let (p, e) = two_prod::<S>(q, d);
    (q, ((((n - p) - e) + n_lo) - q * d_lo) / d)
}

/// -1, 0 or 1 (zeros keep their sign); NaN at NaN. Exact.
#[inline(always)]
pub fn sign<S: Isa>(x: f64) -> f64 {
    let s = pick(x > 0.0, 1.0, x);
    pick(x < 0.0, -1.0, s)
}

/// The smaller of two numbers; NaN if either is NaN. Of two zeros, either one.
#[inline(always)]
pub fn min<S: Isa>(a: f64, b: f64) -> f64 {
    let m = pick(a < b, a, b);
    pick(a.is_nan(), a, m)
}

/// The larger of two numbers; NaN if either is NaN. Of two zeros, either one.
#[inline(always)]
pub fn max<S: Isa>(a: f64, b: f64) -> f64 {
    let m = pick(a > b, a, b);
    pick(a.is_nan(), a, m)
}

/// The largest integer not above `x`. Exact; keeps the sign of zero.
#[inline(always)]
pub fn floor<S: Isa>(x: f64) -> f64 {
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let a = abs::<S>(x);
    let nearest = with_sign((a + WHOLE) - WHOLE, x);
    let down = pick(nearest > x, nearest - 1.0, nearest);
    pick(a < WHOLE, down, x)
}

/// 2^n for n from -1022 to 1023; bits of n above the lowest twelve do not matter.
#[inline(always)]
const fn exp2i(n: i64) -> f64 {
    f64::from_bits((n.wrapping_add(1023) as u64) << 52)
}

/// Half of an integer of at most 32 bits, rounded down.
#[inline(always)]
const fn halve(n: i64) -> i64 {
    // A 32-bit shift: there is no arithmetic shift of 64-bit lanes before AVX-512.
    ((n as i32) >> 1) as i64
}

/// `(n, hi, lo)`, where the low 32 bits of n count, with `x = n ln(2) + hi - lo`, `|hi - lo| <= ln(2)/2`, for `|x| <=
/// 2^20`.
#[inline(always)]
fn reduce_ln2<S: Isa>(x: f64) -> (i64, f64, f64) {
    let t = S::mul_add(x, core::f64::consts::LOG2_E, MAGIC);
    let n = t - MAGIC;
    (t.to_bits() as i64, S::mul_add(n, -LN2_HI, x), n * LN2_LO)
}

/// `(t, r, rest)` with `exp(x + lo) = 2^n (1 + r + rest)`, where the low 12 bits of t are those of `n + bias`. For
/// fused multiply-adds.
#[inline(always)]
fn exp_parts<S: Isa>(x: f64, lo: f64, bias: f64) -> (u64, f64, f64) {
    let t = S::mul_add(x, core::f64::consts::LOG2_E, MAGIC + bias);
    let n = t - (MAGIC + bias);
    let hi = S::mul_add(n, -LN2_HI, x);
    let low = S::mul_add(n, LN2_LO, -lo);
    let r = hi - low;
    let tail = (hi - r) - low;
    let q = even_odd!(S, r, EXP, 0 2 4 6 8 10; 1 3 5 7 9);
    (t.to_bits(), r, S::mul_add(r * r, q, tail))
}

/// The exponential of `x + lo`, for `-746 <= x <= 710`.
#[inline(always)]
fn exp_clamped<S: Isa>(x: f64, lo: f64) -> f64 {
    exp_times::<S>(x, lo, 1.0)
}

/// `factor` times it. Two factors more, so that overflow and underflow are rounded once.
#[inline(always)]
fn exp_times<S: Isa>(x: f64, lo: f64, factor: f64) -> f64 {
    if S::FUSED {
        let (t, r, rest) = exp_parts::<S>(x, lo, 2046.0);
        let (u, v) = fast_two_sum(1.0, r);
        let half = t >> 1;
        return (u + (v + rest)) * factor * f64::from_bits(half << 52) * f64::from_bits(t.wrapping_sub(half) << 52);
    }
    let (n, hi, low) = reduce_ln2::<S>(x);
    let low = low - lo;
    let r = hi - low;
    let tail = (hi - r) - low;
    let (u, v) = fast_two_sum(1.0, r);
    let q = even_odd!(S, r, EXP, 0 2 4 6 8 10; 1 3 5 7 9);
    let e = u + (v + S::mul_add(r * r, q, tail));
    let half = halve(n);
    e * factor * exp2i(half) * exp2i(n.wrapping_sub(half))
}

/// The exponential. Error at most 1 ulp.
#[inline(always)]
pub fn exp<S: Isa>(x: f64) -> f64 {
    let x = pick(x > 710.0, 710.0, x);
    let x = pick(x < -746.0, -746.0, x);
    exp_clamped::<S>(x, 0.0)
}

/// `(exp(x) - 1) / 2^scale` as a sum of two, the second not yet small.
#[inline(always)]
fn expm1_sum<S: Isa>(x: f64, scale: i64) -> (f64, f64) {
    let (n, hi, low) = reduce_ln2::<S>(x);
    let r = hi - low;
    let t = S::mul_add(r * r, even_odd!(S, r, EXP, 0 2 4 6 8 10; 1 3 5 7 9), (hi - r) - low);
    let s = exp2i(n.wrapping_sub(scale));
    let (u, e) = two_sum(s - exp2i(scale.wrapping_neg()), s * r);
    (u, e + s * t)
}

/// `(y, lo)` with `(exp(x) - 1) / 2^scale = y + lo`, `lo` below half an ulp of `y`.
#[inline(always)]
fn expm1_parts<S: Isa>(x: f64, scale: i64) -> (f64, f64) {
    let (u, rest) = expm1_sum::<S>(x, scale);
    fast_two_sum(u, rest)
}

/// `exp(x) - 1`, accurate near zero too. Error at most 2 ulp.
#[inline(always)]
pub fn expm1<S: Isa>(x: f64) -> f64 {
    let a = pick(x > 710.0, 710.0, x);
    let a = pick(a < -50.0, -50.0, a);
    // Half the result, so that the power of two stays finite up to overflow.
    let (u, rest) = expm1_sum::<S>(a, 1);
    let y = 2.0 * u + 2.0 * rest;
    pick(abs::<S>(x) < 1e-20, x, y)
}

/// `(k, m - 1)` with `x = 2^k m`, m between the square roots of 1/2 and 2; x positive and normal.
#[inline(always)]
fn split_log(x: f64) -> (i32, f64) {
    let bits = x.to_bits();
    // The upper word is enough to find k, and stays in 32-bit lanes.
    let k = ((bits >> 32) as i32).wrapping_sub(0x3fe6_a09e) >> 20;
    let m = f64::from_bits(bits.wrapping_sub((k as i64 as u64) << 52));
    (k, m - 1.0)
}

/// `k ln(2) + log(1 + f) + c` for `1 + f` between the square roots of 1/2 and 2, tiny `c`. The scheme of FreeBSD's
/// `log`.
#[inline(always)]
fn log_sum<S: Isa>(k: f64, f: f64, c: f64) -> f64 {
    let s = f / (2.0 + f);
    let z = s * s;
    let h = 0.5 * f * f;
    let p = S::mul_add(z, even_odd!(S, z, LOG, 0 2 4 6; 1 3 5), h);
    S::mul_add(k, LN2_HI, -((h - S::mul_add(s, p, S::mul_add(k, LN2_LO, c))) - f))
}

/// The natural logarithm; -inf at zeros, NaN below. Error at most 1 ulp.
#[inline(always)]
pub fn log<S: Isa>(x: f64) -> f64 {
    let tiny = x < f64::MIN_POSITIVE;
    let (k, f) = split_log(pick(tiny, x * 18_014_398_509_481_984.0, x));
    let k = k as f64 - pick(tiny, 54.0, 0.0);
    let y = log_sum::<S>(k, f, 0.0);
    let y = pick(x < f64::INFINITY, y, x);
    let outside = pick(x == 0.0, f64::NEG_INFINITY, f64::NAN);
    pick(x > 0.0, y, outside)
}

/// `log(1 + x + lo)` for finite `x > -1`, `lo` tiny beside x.
#[inline(always)]
fn log1p_inside<S: Isa>(x: f64, lo: f64) -> f64 {
    let (u, c) = two_sum(1.0, x);
    let (k, f) = split_log(u);
    log_sum::<S>(k as f64, f, (c + lo) / u)
}

/// `log(1 + x)` for `0 <= x <= 1`.
#[inline(always)]
fn log1p_unit<S: Isa>(x: f64) -> f64 {
    if !S::FUSED {
        return log1p_inside::<S>(x, 0.0);
    }
    let upper = x > core::f64::consts::SQRT_2 - 1.0;
    // log(1 + x) = ln(2) + log((1 + x) / 2)
    let f = pick(upper, S::mul_add(0.5, x, -0.5), x);
    log_sum::<S>(pick(upper, 1.0, 0.0), f, 0.0)
}

/// `log(1 + x)`, accurate near zero too; -inf at -1, NaN below. Error at most 1 ulp.
#[inline(always)]
pub fn log1p<S: Isa>(x: f64) -> f64 {
    let y = log1p_inside::<S>(x, 0.0);
    let y = pick(x < f64::INFINITY, y, x);
    let y = pick(abs::<S>(x) < 1e-20, x, y);
    let outside = pick(x == -1.0, f64::NEG_INFINITY, f64::NAN);
    pick(x > -1.0, y, outside)
}

/// The square root, correctly rounded; NaN below zero, -0 at -0.
#[inline(always)]
pub fn sqrt<S: Isa>(x: f64) -> f64 {
    S::sqrt(x)
}

/// The square root where no instruction set is known to have one.
#[inline(always)]
pub(crate) fn sqrt_baseline(x: f64) -> f64 {
    #[cfg(feature = "std")]
    return x.sqrt();
    #[cfg(not(feature = "std"))]
    sqrt_portable(x)
}

/// The square root in integer and plain float arithmetic: the same bits as `sqrt`.
#[inline(always)]
pub fn sqrt_portable(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let tiny = x < f64::MIN_POSITIVE;
    let bits = pick(tiny, x * 18_014_398_509_481_984.0, x).to_bits();
    let e = ((bits >> 52) as i32).wrapping_sub(1023);
    // x = m 2^(2h) with m in [1, 4).
    let h = e >> 1;
    let m = f64::from_bits(bits.wrapping_sub((h as i64 as u64) << 53));
    // Newton's iteration for 1/sqrt(m) from a linear guess in the bits.
    let mut y = f64::from_bits(0x5fe6_eb50_c7b5_37a9_u64.wrapping_sub(m.to_bits() >> 1));
    for _ in 0..4 {
        y += y * (0.5 - 0.5 * m * y * y);
    }
    // The root as a 53-bit integer, off by three at most; the remainder (small, so 64 bits of it are enough) decides.
    let s = (m * y).to_bits();
    let mut root = ((s & FRACTION) | (1 << 52)) as i64;
    let mb = m.to_bits();
    let whole = ((mb & FRACTION) | (1 << 52)) << (mb >> 52).wrapping_sub(1023).min(1);
    let square = (whole << 52) as i64;
    for _ in 0..3 {
        let rest = square.wrapping_sub(root.wrapping_mul(root));
        let up = (rest > root) as i64;
        let down = (rest <= root.wrapping_neg()) as i64;
        root = root.wrapping_add(up).wrapping_sub(down);
    }
    let h = (h as i64).wrapping_sub(pick(tiny, 27, 0));
    let y = f64::from_bits((root as u64).wrapping_add((h.wrapping_add(1022) as u64) << 52));
    let y = pick(x < f64::INFINITY, y, x);
    let outside = pick(x == 0.0, x, f64::NAN);
    pick(x > 0.0, y, outside)
}

/// One over the square root; infinite at zeros, with their sign. Error at most 2 ulp.
#[inline(always)]
pub fn rsqrt<S: Isa>(x: f64) -> f64 {
    1.0 / sqrt::<S>(x)
}

/// The cube root, of negative numbers too. Error at most 1 ulp.
#[inline(always)]
pub fn cbrt<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let tiny = a < f64::MIN_POSITIVE;
    let a = pick(tiny, a * 18_014_398_509_481_984.0, a);
    // A third of the exponent, then Halley's iteration twice: 5, 16, 47 bits (the guess as in FreeBSD's cbrt).
    let guess = (((a.to_bits() >> 32) as u32) / 3).wrapping_add(715_094_163);
    let t = f64::from_bits((guess as u64) << 32);
    let r = a / t / t;
    let t = t * (r + r + t) / (r + t + t);
    let r = a / t / t;
    let t = t * (r + r + t) / (r + t + t);
    // Cut to 26 bits, so that its square is exact, and one step of Newton.
    let t = f64::from_bits(t.to_bits() & !0x07ff_ffff);
    let r = a / (t * t);
    let y = t + t * ((r - t) / (t + t + r));
    let y = pick(tiny, y * (1.0 / 262_144.0), y);
    pick(x.is_finite() && x != 0.0, with_sign(y, x), x)
}

/// `(quadrant, hi, lo)` with `a = quadrant pi/2 + hi + lo` for `0 <= a <= TRIG_LIMIT`.
#[inline(always)]
fn reduce_pio2(a: f64) -> (u32, f64, f64) {
    let t = a * core::f64::consts::FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    let (r, e) = two_sum(a - n * PIO2[0], -(n * PIO2[1]));
    let (r, d) = two_sum(r, -(n * PIO2[2]));
    let (hi, lo) = fast_two_sum(r, (e + d) - n * PIO2[3]);
    (t.to_bits() as u32, hi, lo)
}

/// The sine and cosine of `r + lo`, each with its correction. The schemes of FreeBSD's `k_sin` and `k_cos`.
#[inline(always)]
fn sin_cos_parts<S: Isa>(r: f64, lo: f64) -> ((f64, f64), (f64, f64)) {
    let z = r * r;
    let h = 0.5 * z;
    let s = fast_two_sum(r, r * z * even_odd!(S, z, SIN, 0 2 4; 1 3 5) + (lo - h * lo));
    let w = 1.0 - h;
    let c = fast_two_sum(w, ((1.0 - w) - h) + (z * z * even_odd!(S, z, COS, 0 2 4; 1 3 5) - r * lo));
    (s, c)
}

/// The sine of `quadrant pi/2 + r + lo`.
#[inline(always)]
fn sin_reduced<S: Isa>(quadrant: u32, r: f64, lo: f64) -> f64 {
    let ((s, _), (c, _)) = sin_cos_parts::<S>(r, lo);
    let y = pick(quadrant & 1 == 0, s, c);
    f64::from_bits(y.to_bits() ^ ((quadrant as u64 & 2) << 62))
}

/// The tangent of `quadrant pi/2 + r + lo`.
#[inline(always)]
fn tan_reduced<S: Isa>(quadrant: u32, r: f64, lo: f64) -> f64 {
    let ((s, s_lo), (c, c_lo)) = sin_cos_parts::<S>(r, lo);
    let odd = quadrant & 1 == 1;
    let (n, n_lo) = pick2(odd, (-c, -c_lo), (s, s_lo));
    let (d, d_lo) = pick2(odd, (s, s_lo), (c, c_lo));
    let (q, q_lo) = divide::<S>(n, n_lo, d, d_lo);
    q + q_lo
}

/// `sin` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn sin_moderate<S: Isa>(x: f64) -> f64 {
    let (q, r, lo) = reduce_pio2(abs::<S>(x));
    times_sign(sin_reduced::<S>(q, r, lo), x)
}

/// `cos` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn cos_moderate<S: Isa>(x: f64) -> f64 {
    let (q, r, lo) = reduce_pio2(abs::<S>(x));
    sin_reduced::<S>(q.wrapping_add(1), r, lo)
}

/// `tan` for `|x| <= TRIG_LIMIT`, without a branch; what it gives beyond has no meaning.
#[inline(always)]
pub fn tan_moderate<S: Isa>(x: f64) -> f64 {
    let (q, r, lo) = reduce_pio2(abs::<S>(x));
    let y = times_sign(tan_reduced::<S>(q, r, lo), x);
    pick(abs::<S>(x) < 1e-100, x, y)
}

#[cold]
#[inline]
fn sin_huge<S: Isa>(x: f64) -> f64 {
    let (q, r, lo) = huge::reduce::<S>(abs::<S>(x));
    times_sign(sin_reduced::<S>(q, r, lo), x)
}

#[cold]
#[inline]
fn cos_huge<S: Isa>(x: f64) -> f64 {
    let (q, r, lo) = huge::reduce::<S>(abs::<S>(x));
    sin_reduced::<S>(q.wrapping_add(1), r, lo)
}

#[cold]
#[inline]
fn tan_huge<S: Isa>(x: f64) -> f64 {
    let (q, r, lo) = huge::reduce::<S>(abs::<S>(x));
    times_sign(tan_reduced::<S>(q, r, lo), x)
}

/// The sine, for every finite argument; NaN at infinities. Error at most 1 ulp.
#[inline(always)]
pub fn sin<S: Isa>(x: f64) -> f64 {
    if abs::<S>(x) <= TRIG_LIMIT { sin_moderate::<S>(x) } else { sin_huge::<S>(x) }
}

/// The cosine, for every finite argument; NaN at infinities. Error at most 1 ulp.
#[inline(always)]
pub fn cos<S: Isa>(x: f64) -> f64 {
    if abs::<S>(x) <= TRIG_LIMIT { cos_moderate::<S>(x) } else { cos_huge::<S>(x) }
}

/// The tangent, for every finite argument; NaN at infinities. Error at most 1 ulp.
#[inline(always)]
pub fn tan<S: Isa>(x: f64) -> f64 {
    if abs::<S>(x) <= TRIG_LIMIT { tan_moderate::<S>(x) } else { tan_huge::<S>(x) }
}

/// `(s, c, r)` with `asin(s + c) = (s + c) + s r`: s is `a`, or where `far` the square root of `(1 - a)/2`.
#[inline(always)]
fn asin_parts<S: Isa>(a: f64, far: bool) -> (f64, f64, f64) {
    let z = pick(far, 0.5 * (1.0 - a), a * a);
    let s = sqrt::<S>(z);
    let (p, e) = two_prod::<S>(s, s);
    let c = ((z - p) - e) / (s + s);
    let r = z * even_odd!(S, z, ASIN, 0 2 4 6 8 10 12; 1 3 5 7 9 11);
    let c = pick(far & (s > 0.0), c, 0.0);
    (pick(far, s, a), c, r)
}

/// The inverse sine; NaN beyond 1. Error at most 1 ulp.
#[inline(always)]
pub fn asin<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let far = a > 0.5;
    let (s, c, r) = asin_parts::<S>(a, far);
    let (h, e) = fast_two_sum(core::f64::consts::FRAC_PI_2, -2.0 * s);
    let y = h + (e + (PIO2_LO - 2.0 * (c + s * r)));
    with_sign(abs::<S>(pick(far, y, s + s * r)), x)
}

/// The inverse cosine; NaN beyond 1. Error at most 1 ulp.
#[inline(always)]
pub fn acos<S: Isa>(x: f64) -> f64 {
    use core::f64::consts::{FRAC_PI_2, PI};
    let a = abs::<S>(x);
    let far = a > 0.5;
    let (s, c, r) = asin_parts::<S>(a, far);
    let t = c + s * r;
    // acos(x) = pi/2 - asin(x) = 2 asin(sqrt((1 - x)/2)) = pi - 2 asin(sqrt((1 + x)/2))
    let base = pick(x < 0.0, PI, 0.0);
    let base_lo = pick(x < 0.0, 2.0 * PIO2_LO, 0.0);
    let turn = pick(x < 0.0, -2.0, 2.0);
    let base = pick(far, base, FRAC_PI_2);
    let base_lo = pick(far, base_lo, PIO2_LO);
    let turn = pick(far, turn, -times_sign(1.0, x));
    let (h, e) = two_sum(base, turn * s);
    h + (e + (base_lo + turn * t))
}

/// `base + atan((n + n_lo) / (d + d_lo))` for a quotient of magnitude up to tan(pi/8).
#[inline(always)]
fn atan_quotient<S: Isa>(n: (f64, f64), d: (f64, f64), base: f64, base_lo: f64) -> (f64, f64) {
    let (t, lo) = divide::<S>(n.0, n.1, d.0, d.1);
    let z = t * t;
    let (h, e) = two_sum(base, t);
    fast_two_sum(h, e + (t * z * even_odd!(S, z, ATAN, 0 2 4 6 8 10; 1 3 5 7 9) + (lo + base_lo)))
}

/// The inverse tangent. Error at most 1 ulp.
#[inline(always)]
pub fn atan<S: Isa>(x: f64) -> f64 {
    use core::f64::consts::{FRAC_PI_2, FRAC_PI_4};
    let a = abs::<S>(x);
    // Beyond 2^60 the result is pi/2.
    let a = pick(a > 1_152_921_504_606_846_976.0, 1_152_921_504_606_846_976.0, a);
    let big = a > 2.414_213_562_373_095;
    let mid = a > 0.414_213_562_373_095_03;
    // atan(a) = pi/4 + atan((a - 1) / (a + 1)) = pi/2 - atan(1 / a)
    let n = pick2(mid, two_sum(a, -1.0), (a, 0.0));
    let n = pick2(big, (-1.0, 0.0), n);
    let d = pick2(mid, two_sum(a, 1.0), (1.0, 0.0));
    let d = pick2(big, (a, 0.0), d);
    let base = pick(mid, FRAC_PI_4, 0.0);
    let base = pick(big, FRAC_PI_2, base);
    let base_lo = pick(mid, 0.5 * PIO2_LO, 0.0);
    let base_lo = pick(big, PIO2_LO, base_lo);
    let (y, _) = atan_quotient::<S>(n, d, base, base_lo);
    with_sign(y, x)
}

/// The angle of the point `(x, y)`, from -pi to pi, with the signs of zeros as in C99. Error at most 1 ulp.
#[inline(always)]
pub fn atan2<S: Isa>(y: f64, x: f64) -> f64 {
    use core::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let (ax, ay) = (abs::<S>(x), abs::<S>(y));
    let swap = ay > ax;
    let small = pick(swap, ax, ay);
    let large = pick(swap, ay, ax);
    // Keep clear of overflow, and of underflow in the products that correct the quotient.
    let scale = pick(large > 1e150, 1e-160, 1.0);
    let scale = pick(large < 1e-140, 1e160, scale);
    let equal = small == large;
    let s = pick(equal, 1.0, small * scale);
    let l = pick(equal, 1.0, large * scale);
    let mid = s > 0.414_213_562_373_095_03 * l;
    let n = pick2(mid, two_sum(s, -l), (s, 0.0));
    let d = pick2(mid, two_sum(l, s), (l, 0.0));
    let base = pick(mid, FRAC_PI_4, 0.0);
    let (r, r_lo) = atan_quotient::<S>(n, d, base, pick(mid, 0.5 * PIO2_LO, 0.0));
    // A quotient too small for its correction.
    let direct = small / large;
    let plain = direct < 1e-100;
    let r = pick(plain, direct, r);
    let r_lo = pick(plain, 0.0, r_lo);
    let zero = large == 0.0;
    let r = pick(zero, 0.0, r);
    let r_lo = pick(zero, 0.0, r_lo);
    let base = pick(swap, FRAC_PI_2, 0.0);
    let left = x.to_bits() >> 63 == 1;
    // pi - (pi/2 - r) = pi/2 + r
    let base = pick(left & !swap, PI, base);
    let base_lo = pick(swap, PIO2_LO, 0.0);
    let base_lo = pick(left & !swap, 2.0 * PIO2_LO, base_lo);
    let turn = pick(swap == left, 1.0, -1.0);
    let (h, e) = two_sum(base, turn * r);
    let y0 = h + (e + (base_lo + turn * r_lo));
    let y0 = pick(x.is_nan() | y.is_nan(), f64::NAN, y0);
    with_sign(abs::<S>(y0), y)
}

/// The hyperbolic sine. Error at most 2 ulp.
#[inline(always)]
pub fn sinh<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let b = pick(a > 710.6, 710.6, a);
    // q = (exp(b) - 1) / 4; sinh = (E + E / (E + 1)) / 2 with E = 4 q
    let (q, lo) = expm1_parts::<S>(b, 2);
    let y = 2.0 * q + (2.0 * lo + 0.5 * q / (q + 0.25));
    with_sign(pick(a < 1e-9, a, y), x)
}

/// The hyperbolic cosine. Error at most 2 ulp.
#[inline(always)]
pub fn cosh<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let a = pick(a > 710.6, 710.6, a);
    let (q, lo) = expm1_parts::<S>(a, 2);
    let q = q + (0.25 + lo);
    2.0 * q + 0.125 / q
}

/// The hyperbolic tangent. Error at most 2 ulp.
#[inline(always)]
pub fn tanh<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let b = pick(a > 22.0, 22.0, a);
    let (e, lo) = expm1_parts::<S>(b + b, 0);
    let (d, d_lo) = fast_two_sum(2.0, e);
    let y = e / d;
    // First-order correction of the quotient for what e and d leave out.
    let y = y + (lo - y * (d_lo + lo)) / d;
    with_sign(pick(a < 1e-9, a, y), x)
}

/// The inverse hyperbolic sine. Error at most 2 ulp.
#[inline(always)]
pub fn asinh<S: Isa>(x: f64) -> f64 {
    // Beyond 2^60 the 1 in log1p does not count.
    const BIG: f64 = 1_152_921_504_606_846_976.0;
    let a = abs::<S>(x);
    // log(a + sqrt(a² + 1)) = log1p(a + a² / (1 + sqrt(a² + 1))); log(2 a) far out
    let z = a * a;
    let (v, lo) = fast_two_sum(a, z / (1.0 + sqrt::<S>(z + 1.0)));
    let far = a > BIG;
    let y = log1p_inside::<S>(pick(far, a, v), pick(far, 0.0, lo));
    let y = pick(far, y + core::f64::consts::LN_2, y);
    let y = pick(a < 1e-9, a, y);
    with_sign(pick(a < f64::INFINITY, y, a), x)
}

/// The inverse hyperbolic cosine; NaN below 1. Error at most 2 ulp.
#[inline(always)]
pub fn acosh<S: Isa>(x: f64) -> f64 {
    // Beyond 2^60 the 1 in log1p does not count.
    const BIG: f64 = 1_152_921_504_606_846_976.0;
    let t = x - 1.0;
    let (v, lo) = two_sum(t, sqrt::<S>(t * (x + 1.0)));
    let far = x > BIG;
    let y = log1p_inside::<S>(pick(far, x, v), pick(far, 0.0, lo));
    let y = pick(far, y + core::f64::consts::LN_2, y);
    let y = pick(x < f64::INFINITY, y, x);
    pick(x >= 1.0, y, f64::NAN)
}

/// The inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond. Error at most 2 ulp.
#[inline(always)]
pub fn atanh<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let (d, d_lo) = fast_two_sum(1.0, -a);
    let (v, lo) = divide::<S>(2.0 * a, 0.0, d, d_lo);
    let y = 0.5 * log1p_inside::<S>(v, lo);
    let y = pick(a < 1e-9, a, y);
    let y = pick(a == 1.0, f64::INFINITY, y);
    let y = pick(a <= 1.0, y, f64::NAN);
    with_sign(y, x)
}

/// `1 / (1 + exp(-x))`, without overflow, subnormal results included. Error at most 2 ulp.
#[inline(always)]
pub fn logistic<S: Isa>(x: f64) -> f64 {
    if S::FUSED {
        // K / (K + K exp(-x)), K = 2^-512: with K so small neither overflows before the result is zero.
        const K: f64 = f64::from_bits((1023 - 512) << 52);
        let b = pick(-x < -50.0, -50.0, -x);
        let b = pick(b > 746.0, 746.0, b);
        let (t, r, more) = exp_parts::<S>(b, 0.0, 1023.0 - 512.0);
        let s = f64::from_bits(t << 52);
        // What the rounding of the sum loses goes into the other term.
        let sum = s + K;
        let rest = K - (sum - s);
        return K / (sum + S::mul_add(s, r + more, rest));
    }
    let a = -abs::<S>(x);
    let e = exp_clamped::<S>(pick(a < -746.0, -746.0, a), 0.0);
    let d = 1.0 + e;
    let y = pick(x < 0.0, e, 1.0) / d;
    // What the rounding of d lost, to first order for small e, where it weighs most.
    y - y * (e - (d - 1.0))
}

/// `log(1 + exp(x))`, without overflow. Error at most 2 ulp.
#[inline(always)]
pub fn softplus<S: Isa>(x: f64) -> f64 {
    let a = -abs::<S>(x);
    let e = exp_clamped::<S>(pick(a < -746.0, -746.0, a), 0.0);
    pick(x > 0.0, x, 0.0) + log1p_unit::<S>(e)
}

/// The error function, `2/sqrt(pi)` times the integral of `exp(-t²)` from 0 to x. Error at most 2 ulp.
#[inline(always)]
pub fn erf<S: Isa>(x: f64) -> f64 {
    let a = abs::<S>(x);
    let a = pick(a > 6.0, 6.0, a);
    let z = a * a;
    let near = S::mul_add(a, even_odd!(S, z, ERF, 0 2 4 6 8 10 12; 1 3 5 7 9 11), a);
    let (n, hi, low) = reduce_ln2::<S>(-z);
    let r = hi - low;
    let e = (1.0 + S::mul_add(r * r, even_odd!(S, r, EXP, 0 2 4 6 8 10; 1 3 5 7 9), r)) * exp2i(n);
    let u = (a - 2.0) / (a + 2.0);
    let far = S::mul_add(-e, even_odd!(S, u, ERFCX, 0 2 4 6 8 10 12; 1 3 5 7 9 11 13), 1.0);
    with_sign(pick(a < 1.0, near, far), x)
}

/// The complement of the error function, `1 - erf(x)`, accurate where that is tiny. Error at most 4 ulp.
#[inline(always)]
pub fn erfc<S: Isa>(x: f64) -> f64 {
    // erf(x) = x + s; from 1/4 on the difference of x and 1/2 is exact.
    let square = x * x;
    let s = x * even_odd!(S, square, ERF, 0 2 4 6 8 10 12; 1 3 5 7 9 11);
    let near = pick(x < 0.25, 1.0 - (x + s), 0.5 - (s + (x - 0.5)));
    // Beyond 27.3 the result is zero.
    let a = abs::<S>(x);
    let b = pick(a > 27.3, 27.3, a);
    let (z, z_lo) = two_prod::<S>(b, b);
    let u = (b - 4.0) / (b + 4.0);
    let p = even_odd!(S, u, ERFC, 0 2 4 6 8 10 12 14 16 18 20; 1 3 5 7 9 11 13 15 17 19 21);
    let y = exp_times::<S>(-z, -z_lo, p / (1.0 + 2.0 * b));
    pick(a < 0.75, near, pick(x < 0.0, 2.0 - y, y))
}

/// True for whole numbers (infinity is one) at `a >= 0`.
#[inline(always)]
fn whole(a: f64) -> bool {
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    (a >= WHOLE) | ((a + WHOLE) - WHOLE == a)
}

/// `x` to the power `y`, with the special values of C99. Error at most 1 ulp.
#[inline(always)]
pub fn pow<S: Isa>(x: f64, y: f64) -> f64 {
    // log|x| as a sum of two doubles, to about 2^-66.
    let ax = abs::<S>(x);
    let tiny = ax < f64::MIN_POSITIVE;
    let (k, f) = split_log(pick(tiny, ax * 18_014_398_509_481_984.0, ax));
    let k = k as f64 - pick(tiny, 54.0, 0.0);
    let (d, d_lo) = two_sum(2.0, f);
    let (s, s_lo) = divide::<S>(f, 0.0, d, d_lo);
    let (z, z_lo) = two_prod::<S>(s, s);
    let z_lo = z_lo + 2.0 * s * s_lo;
    let (t, t_lo) = two_prod::<S>(z, 1.0 / 3.0);
    // 1/3 is its double plus 1.85e-17.
    let t_lo = t_lo + (z * 1.850_371_707_708_594e-17 + z_lo * (1.0 / 3.0));
    let (t, e) = fast_two_sum(t, z * z * even_odd!(S, z, POW_LOG, 0 2 4 6; 1 3 5 7));
    let (w, w_lo) = fast_two_sum(1.0, t);
    let w_lo = w_lo + (e + t_lo);
    let (l, l_lo) = two_prod::<S>(2.0 * s, w);
    let l_lo = l_lo + 2.0 * (s * w_lo + s_lo * w);
    // ln(2) in two parts; a multiple of the first by up to 11 bits is exact.
    let (h, e) = two_sum(k * 0.693_147_180_559_890_3, l);
    let (h, lo) = fast_two_sum(h, e + (l_lo + k * 5.497_923_018_708_371e-14));
    // Beyond 2^66 the result is 0, 1 or infinite all the same, and infinity times zero is avoided.
    const FAR: f64 = 73_786_976_294_838_206_464.0;
    let yc = pick(y > FAR, FAR, y);
    let yc = pick(yc < -FAR, -FAR, yc);
    let (p, e) = two_prod::<S>(yc, h);
    let c = pick(p > 710.0, 710.0, p);
    let c = pick(c < -746.0, -746.0, c);
    let r = exp_clamped::<S>(c, pick(c == p, e + yc * lo, 0.0));
    // The ends, the sign, and where there is no real power.
    let r = pick(ax == 0.0, pick(y > 0.0, 0.0, f64::INFINITY), r);
    let r = pick(ax == f64::INFINITY, pick(y > 0.0, f64::INFINITY, 0.0), r);
    let ay = abs::<S>(y);
    let integer = whole(ay);
    let odd = integer & !whole(0.5 * ay);
    let negative = x.to_bits() >> 63 == 1;
    let r = pick(negative & odd, -r, r);
    let none = negative & !integer & (ax > 0.0) & (ax < f64::INFINITY);
    let r = pick(none | x.is_nan() | y.is_nan(), f64::NAN, r);
    pick((y == 0.0) | (x == 1.0), 1.0, r)
}

/// `x` to a whole power. Error at most 2 ulp. A constant `n` leaves only its own arm.
#[inline(always)]
pub fn powi<S: Isa>(x: f64, n: i32) -> f64 {
    match n {
        0 => 1.0,
        1 => x,
        2 => x * x,
        3 => x * x * x,
        4 => (x * x) * (x * x),
        -1 => 1.0 / x,
        -2 => 1.0 / x / x,
        _ => pow::<S>(x, n as f64),
    }
}
