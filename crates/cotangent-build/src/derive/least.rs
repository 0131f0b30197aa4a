//! Which values are never below zero, by their form alone: takes statements and expressions, tells of each whether it
//! can be negative for any numbers in its inputs. Where such a value is zero it is at its least, so its slope there is
//! zero: the Euclidean norm at zero, a deviation of equal numbers.
//!
//! Holds after it: a `true` holds for every input, domains aside; a `false` proves nothing.

use crate::functions::Sign;
use crate::index::*;
use std::collections::BTreeSet;

/// The tensors without negative elements.
pub struct Least(BTreeSet<TensorId>);

impl Least {
    /// The greatest set in which each statement follows from the others: a recurrence begins with zeros.
    pub fn new(stmts: &[Stmt]) -> Self {
        let mut least = Least(stmts.iter().map(|s| s.target).collect());
        let mut known = usize::MAX;
        while known != least.0.len() {
            known = least.0.len();
            for s in stmts {
                if !least.never_negative(&s.value) {
                    least.0.remove(&s.target);
                }
            }
        }
        least
    }

    pub fn never_negative(&self, e: &Expr) -> bool {
        let sure = |e: &Expr| self.never_negative(e);
        match e {
            Expr::Const(c) => *c >= 0.0,
            Expr::Param(_) | Expr::Reduce(..) => false,
            Expr::Extent(_) => true,
            Expr::Read(t, _) => self.0.contains(t),
            Expr::Powf(a, n) => sure(a) || n.rem_euclid(2.0) == 0.0,
            Expr::Where(_, a, b) => sure(a) && sure(b),
            Expr::Unary(f, a) => match f.row().sign {
                Sign::Positive | Sign::NeverNegative => true,
                // A root is defined around its zeros only where its argument is not negative there.
                Sign::AsArgument => sure(a),
                Sign::Any => false,
            },
            Expr::Binary(f, a, b) => match f {
                Binary::Mul => a == b || sure(a) && sure(b),
                Binary::Add | Binary::Div | Binary::Min => sure(a) && sure(b),
                Binary::Max => sure(a) || sure(b),
                Binary::Pow => sure(a),
                Binary::Sub | Binary::Atan2 => false,
            },
        }
    }

    /// Whether it cannot be zero either.
    fn positive(&self, e: &Expr) -> bool {
        match e {
            Expr::Const(c) => *c > 0.0,
            Expr::Extent(_) => true,
            Expr::Unary(f, a) => f.row().sign == Sign::Positive || f.row().root && self.positive(a),
            Expr::Powf(a, _) => self.positive(a),
            Expr::Binary(Binary::Mul | Binary::Div, a, b) => self.positive(a) && self.positive(b),
            Expr::Binary(Binary::Add, a, b) => {
                let one = self.positive(a) || self.positive(b);
                one && self.never_negative(a) && self.never_negative(b)
            }
            _ => false,
        }
    }

    /// Whether a value may be zero, and then is at its least.
    pub fn touches_zero(&self, e: &Expr) -> bool {
        self.never_negative(e) && !self.positive(e)
    }
}
