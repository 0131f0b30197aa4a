//! Numbers that know how far off another way to compute them may be: takes formulas through an interpreter, gives
//! values in `f64` and a bound of the error that the same formula has where each operation is rounded, in any order of
//! summation, with or without fused products.
//!
//! Holds after it: a bound is infinite where nothing can be said (a jump within the error); a comparison that the error
//! may turn raises a flag.

use super::eval::Number;
use super::{Binary, Compare, Unary};
use crate::types::DType;
use std::cell::Cell;

thread_local! {
    static TYPE: Cell<DType> = const { Cell::new(DType::F64) };
    static DOUBT: Cell<bool> = const { Cell::new(false) };
}

/// Calls with the rounding of a type; whether a comparison could have gone the other way.
pub fn rounded<R>(dtype: DType, f: impl FnOnce() -> R) -> (R, bool) {
    TYPE.set(dtype);
    DOUBT.set(false);
    let result = f();
    (result, DOUBT.get())
}

/// Of a rounding: half the distance of 1 to the next number.
fn unit() -> f64 {
    TYPE.get().unit()
}

/// The least that a rounding is off, below the normal numbers.
fn least() -> f64 {
    TYPE.get().least()
}

/// From here on a value may overflow on the way.
fn most() -> f64 {
    TYPE.get().most()
}

/// A value, how far another way to compute it may be off, and the sum of the magnitudes of the terms that it is the sum
/// of.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub value: f64,
    pub error: f64,
    pub size: f64,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Bounded {
    pub fn exact(value: f64) -> Self {
        Bounded { value, error: 0.0, size: value.abs() }
    }
    fn new(value: f64, error: f64, size: f64) -> Self {
        let huge = value.is_finite() && (size.is_nan() || size >= most());
        Bounded { value, error: if huge || error.is_nan() { f64::INFINITY } else { error }, size }
    }
    /// Of operands that are not finite, exactly so: IEEE 754 says what comes out.
    fn special(value: f64, operands: &[Bounded]) -> Self {
        let sure = operands.iter().all(|o| o.error == 0.0 || o.value.is_finite() && o.error.is_finite());
        let given = operands.iter().any(|o| !o.value.is_finite());
        Bounded { value, error: if sure && given { 0.0 } else { f64::INFINITY }, size: value.abs() }
    }
    /// One more rounding of a sum.
    fn sum(self, other: Self, value: f64) -> Self {
        if !value.is_finite() {
            return Bounded::special(value, &[self, other]);
        }
        let size = self.size + other.size;
        Bounded::new(value, self.error + other.error + unit() * size, size)
    }
    /// A function of one number: what it is at both ends, and where its domain ends between them, and a few roundings.
    fn through(self, f: impl Fn(f64) -> f64, domain: &[f64]) -> Self {
        let value = f(self.value);
        if self.error.is_infinite() {
            return Bounded { value, error: f64::INFINITY, size: value.abs() };
        }
        if !self.value.is_finite() || !value.is_finite() && self.error == 0.0 {
            // What an exact number gives is exact if it is infinite.
            return Bounded { value, error: if self.error == 0.0 { 0.0 } else { f64::INFINITY }, size: value.abs() };
        }
        let moved = |x: f64| (f(x) - value).abs();
        let (lo, hi) = (self.value - self.error, self.value + self.error);
        let between = domain.iter().copied().filter(|x| lo < *x && *x < hi);
        let spread = if lo == hi { 0.0 } else { between.map(moved).fold(moved(lo).max(moved(hi)), f64::max) };
        Bounded::new(value, 2.0 * spread + 8.0 * unit() * value.abs() + least(), value.abs())
    }
}

impl Number for Bounded {
    fn from_f64(value: f64) -> Self {
        // A literal is rounded to the type.
        let exact = unit() < 1e-10 || f64::from(value as f32) == value;
        Bounded { value, error: if exact { 0.0 } else { unit() * value.abs() }, size: value.abs() }
    }
    fn add(self, other: Self) -> Self {
        self.sum(other, self.value + other.value)
    }
    fn sub(self, other: Self) -> Self {
        self.sum(other, self.value - other.value)
    }
    fn mul(self, other: Self) -> Self {
        let value = self.value * other.value;
        if !value.is_finite() {
            return Bounded::special(value, &[self, other]);
        }
        let (a, b) = (self, other);
        let size = a.size * b.size;
        let error = a.value.abs() * b.error + b.value.abs() * a.error + a.error * b.error;
        Bounded::new(value, error + unit() * size + least(), size)
    }
    fn unary(f: Unary, a: Self) -> Self {
        match f {
            Unary::Neg => Bounded { value: -a.value, ..a },
            Unary::Abs => Bounded { value: a.value.abs(), ..a },
            f => {
                let result = a.through(|x| f64::unary(f, x), f.ends());
                let swing = f.swing(a.value, a.error).unwrap_or(0.0);
                Bounded { error: result.error.max(swing), ..result }
            }
        }
    }
    fn binary(f: Binary, a: Self, b: Self) -> Self {
        let value = f64::binary(f, a.value, b.value);
        match f {
            Binary::Add => a.add(b),
            Binary::Sub => a.sub(b),
            Binary::Mul => a.mul(b),
            Binary::Div => {
                if b.error == 0.0 && b.value == 0.0 && a.error == 0.0 {
                    return Bounded { value, error: 0.0, size: value.abs() };
                }
                if !value.is_finite() || !b.value.is_finite() {
                    return Bounded::special(value, &[a, b]);
                }
                let low = b.value.abs() - b.error;
                let error = if low <= 0.0 { f64::INFINITY } else { (a.error + value.abs() * b.error) / low };
                let size = a.size / b.value.abs();
                Bounded::new(value, error + 2.0 * unit() * size + least(), size)
            }
            Binary::Min | Binary::Max => {
                if value.is_nan() {
                    return Bounded::special(value, &[a, b]);
                }
                // Whichever it is.
                let other = if value == a.value { b } else { a };
                let own = if value == a.value { a } else { b };
                let near = (a.value - b.value).abs() <= a.error + b.error;
                let error = if near { own.error.max(other.error) } else { own.error };
                Bounded { value, error, size: own.size }
            }
            Binary::Pow | Binary::Atan2 => {
                let first = a.through(|x| f64::binary(f, x, b.value), &[0.0]);
                let second = b.through(|y| f64::binary(f, a.value, y), &[]);
                // A power of a great exponent multiplies the error of the logarithm.
                let log = if f == Binary::Pow { (b.value * a.value.abs().ln()).abs() } else { 0.0 };
                let more = if log.is_finite() { unit() * log * value.abs() } else { 0.0 };
                Bounded { value, error: first.error + second.error + more, size: value.abs() }
            }
        }
    }
    fn powf(self, n: f64) -> Self {
        let power = self.through(|x| x.powf(n), &[0.0]);
        Bounded { error: power.error + unit() * n.abs() * power.value.abs(), ..power }
    }
    fn compare(op: Compare, a: Self, b: Self) -> bool {
        // What is the same number is computed the same way. Another one may be equal by chance, and is not in another
        // order of summation.
        let (apart, error) = ((a.value - b.value).abs(), a.error + b.error);
        let same = apart == 0.0 && (a.error, a.size) == (b.error, b.size);
        if !same && error > 0.0 && apart <= 4.0 * error || error.is_infinite() {
            DOUBT.set(true);
        }
        f64::compare(op, a.value, b.value)
    }
}
