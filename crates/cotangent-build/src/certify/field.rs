//! The integers modulo the prime 2^61 - 1: takes rational formulas, gives exact values in the field. Two polynomials of
//! degree d that differ agree at a random point with probability at most d / 2^61 (Schwartz 1980, Zippel 1979).

use crate::index::eval::Number;
use crate::index::{Binary, Compare, Unary};

/// An element of the field, below the modulus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct M61(u64);

const P: u64 = (1 << 61) - 1;

impl M61 {
    pub fn new(value: u64) -> Self {
        M61(value % P)
    }
    /// The value as a small signed integer, for messages.
    pub fn signed(self) -> i64 {
        if self.0 > P / 2 { self.0 as i64 - P as i64 } else { self.0 as i64 }
    }
    fn power(self, mut n: u64) -> Self {
        let (mut base, mut result) = (self, M61(1));
        while n > 0 {
            if n & 1 == 1 {
                result = result.mul(base);
            }
            base = base.mul(base);
            n >>= 1;
        }
        result
    }
    /// Fermat: a^(p-2). The inverse of 0 is 0, which a random point meets with probability 2^-61.
    fn inverse(self) -> Self {
        self.power(P - 2)
    }
}

impl Number for M61 {
    /// Exact: a float is an integer times a power of two.
    fn from_f64(value: f64) -> Self {
        assert!(value.is_finite(), "an infinity has no image in the field");
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, exponent) =
            if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
        // 2^61 is 1: a power of two depends on its exponent modulo 61.
        let scale = M61(1 << exponent.rem_euclid(61));
        let size = M61::new(mantissa).mul(scale);
        if value < 0.0 { M61(0).sub(size) } else { size }
    }
    fn add(self, other: Self) -> Self {
        M61::new(self.0 + other.0)
    }
    fn sub(self, other: Self) -> Self {
        M61::new(self.0 + P - other.0)
    }
    fn mul(self, other: Self) -> Self {
        let product = u128::from(self.0) * u128::from(other.0);
        M61::new((product as u64 & P) + (product >> 61) as u64)
    }
    fn unary(f: Unary, a: Self) -> Self {
        match f {
            Unary::Neg => M61(0).sub(a),
            _ => unreachable!("only rational formulas are evaluated in the field"),
        }
    }
    fn binary(f: Binary, a: Self, b: Self) -> Self {
        match f {
            Binary::Add => a.add(b),
            Binary::Sub => a.sub(b),
            Binary::Mul => a.mul(b),
            Binary::Div => a.mul(b.inverse()),
            _ => unreachable!("only rational formulas are evaluated in the field"),
        }
    }
    fn powf(self, n: f64) -> Self {
        let p = self.power(n.abs() as u64);
        if n < 0.0 { p.inverse() } else { p }
    }
    fn compare(_: Compare, _: Self, _: Self) -> bool {
        unreachable!("conditions on values are not evaluated in the field")
    }
}
