//! Numbers that know how far rounding may have carried them: takes formulas, gives each value in `f64` with a bound of
//! its error, to first order (running error analysis, Wilkinson 1963). So a difference of two rules can be told from
//! the noise of both.

use crate::index::eval::Number;
use crate::index::{Binary, Compare, Unary};

/// A value as `f64` computes it, and how far it may be from the exact one. Comparisons see the value, so control flow
/// is that of `f64`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rounded {
    pub value: f64,
    pub error: f64,
}

/// Of a function of the library, relative.
const FUNCTION: f64 = 4.0 * f64::EPSILON;

/// Bounds multiply as if nothing times anything were nothing.
fn times(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { (a * b).abs() }
}

/// How far the values at the given places are from `value`. Where there is none at some of them, the others say.
fn spread(value: f64, at: impl Iterator<Item = f64>) -> f64 {
    let distances = at.map(|v| (v - value).abs()).filter(|d| !d.is_nan());
    distances.fold(None, |m: Option<f64>, d| Some(m.map_or(d, |m| m.max(d)))).unwrap_or(f64::INFINITY)
}

impl Rounded {
    /// How far it may lie below and above: to the next number at least, as less would be lost in the sum.
    fn ends(self) -> impl Iterator<Item = f64> + Clone {
        let (lo, hi) = (self.value - self.error, self.value + self.error);
        let exact = self.error == 0.0;
        let next = |end: f64, next: f64| if end == self.value && !exact { next } else { end };
        [next(lo, self.value.next_down()), next(hi, self.value.next_up())].into_iter()
    }
    /// `f` of it, whose domain ends somewhere, and which rounds by `rounding`, relative.
    fn through(self, f: impl Fn(f64) -> f64, domain: &[f64], rounding: f64) -> Self {
        let value = f(self.value);
        let between = domain.iter().copied().filter(|x| (x - self.value).abs() < self.error);
        let moved = if self.error == 0.0 { 0.0 } else { spread(value, self.ends().chain(between).map(f)) };
        Rounded { value, error: moved + rounding * value.abs() }
    }
}

impl Number for Rounded {
    fn from_f64(value: f64) -> Self {
        Rounded { value, error: 0.0 }
    }
    fn add(self, other: Self) -> Self {
        let value = self.value + other.value;
        // What was rounded away, exactly (Knuth 1969).
        let back = value - self.value;
        let lost = (self.value - (value - back)) + (other.value - back);
        Rounded { value, error: self.error + other.error + lost.abs() }
    }
    fn sub(self, other: Self) -> Self {
        self.add(Rounded { value: -other.value, ..other })
    }
    fn mul(self, other: Self) -> Self {
        let value = self.value * other.value;
        let lost = self.value.mul_add(other.value, -value).abs();
        let carried = times(self.value, other.error) + times(other.value, self.error) + times(self.error, other.error);
        Rounded { value, error: carried + lost }
    }
    fn unary(f: Unary, a: Self) -> Self {
        let result = a.through(|a| f64::unary(f, a), f.ends(), if f.exact() { 0.0 } else { FUNCTION });
        let swing = f.swing(a.value, a.error).unwrap_or(0.0);
        Rounded { error: result.error.max(swing), ..result }
    }
    fn binary(f: Binary, a: Self, b: Self) -> Self {
        let value = f64::binary(f, a.value, b.value);
        match f {
            Binary::Add => a.add(b),
            Binary::Sub => a.sub(b),
            Binary::Mul => a.mul(b),
            Binary::Div => {
                let lost = (-value).mul_add(b.value, a.value).abs() / b.value.abs();
                let away = b.value.abs() - b.error;
                let carried = a.error + times(value, b.error);
                let carried = if carried == 0.0 { 0.0 } else { carried / away.max(0.0) };
                Rounded { value, error: carried + lost }
            }
            Binary::Pow | Binary::Atan2 | Binary::Min | Binary::Max => {
                let rounding = if f.row().chooses { 0.0 } else { FUNCTION };
                // A power may have its pole between.
                let pole = (f == Binary::Pow && a.value.abs() < a.error).then_some(0.0);
                let corners = a.ends().chain(pole).flat_map(|x| b.ends().map(move |y| f64::binary(f, x, y)));
                let moved = if a.error == 0.0 && b.error == 0.0 { 0.0 } else { spread(value, corners) };
                Rounded { value, error: moved + rounding * value.abs() }
            }
        }
    }
    fn powf(self, n: f64) -> Self {
        self.through(|a| a.powf(n), &[0.0], n.abs().clamp(4.0, 64.0) * f64::EPSILON)
    }
    fn compare(op: Compare, a: Self, b: Self) -> bool {
        op.holds(&a.value, &b.value)
    }
}
