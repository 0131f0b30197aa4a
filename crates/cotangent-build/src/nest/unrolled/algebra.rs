//! Algebra: takes an operation on values of a graph, gives the value that it is: one that is there already, or simpler,
//! or a new one.
//!
//! Holds after it: equal operations on equal values are one value; the result is the same for finite numbers, the sign
//! of a zero aside.

use super::*;

impl Graph<'_> {
    pub(super) fn intern(&mut self, op: Definition) -> Id {
        let next = self.ops.len();
        let id = *self.ids.entry(op).or_insert(next);
        if id == next {
            self.ops.push(op);
        }
        id
    }

    pub(super) fn ask(&mut self, asked: Asked) -> Test {
        let next = self.tests.len();
        let id = *self.asked.entry(asked).or_insert(next);
        if id == next {
            self.tests.push(asked);
        }
        id
    }

    pub(super) fn constant(&mut self, c: f64) -> Id {
        self.infinite |= c.is_nan();
        // One zero for both signs.
        self.intern(Definition::Const((c + 0.0).to_bits()))
    }

    pub(super) fn known(&self, v: Id) -> Option<f64> {
        match self.ops[v] {
            Definition::Const(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Both values, where both are known; notes what is infinite.
    pub(super) fn both(&mut self, a: Id, b: Id) -> Option<(f64, f64)> {
        let (a, b) = (self.known(a), self.known(b));
        self.infinite |= [a, b].into_iter().flatten().any(|c| !c.is_finite());
        a.zip(b)
    }

    pub(super) fn is(&self, v: Id, c: f64) -> bool {
        self.known(v) == Some(c)
    }

    pub(super) fn negated(&self, v: Id) -> Option<Id> {
        match self.ops[v] {
            Definition::Unary(Unary::Neg, a) => Some(a),
            _ => None,
        }
    }

    pub(super) fn product(&self, v: Id) -> Option<(Id, Id)> {
        match self.ops[v] {
            Definition::Binary(Binary::Mul, a, b) => Some((a, b)),
            _ => None,
        }
    }

    pub(super) fn neg(&mut self, a: Id) -> Id {
        match self.ops[a] {
            Definition::Const(c) => self.constant(-f64::from_bits(c)),
            Definition::Unary(Unary::Neg, a) => a,
            Definition::Binary(Binary::Sub, a, b) => self.intern(Definition::Binary(Binary::Sub, b, a)),
            Definition::Fused { minus, a, b, less, c } => {
                self.intern(Definition::Fused { minus: !minus, a, b, less: !less, c })
            }
            _ => self.intern(Definition::Unary(Unary::Neg, a)),
        }
    }

    pub(super) fn add(&mut self, a: Id, b: Id) -> Id {
        if let Some((a, b)) = self.both(a, b) {
            return self.constant(a + b);
        }
        if self.is(a, 0.0) {
            return b;
        }
        if self.is(b, 0.0) {
            return a;
        }
        if let Some(b) = self.negated(b) {
            return self.sub(a, b);
        }
        if let Some(a) = self.negated(a) {
            return self.sub(b, a);
        }
        // Of two products the second is fused, whatever else becomes of them: a sum goes on as it began.
        match (self.product(a), self.product(b)) {
            (_, Some((x, y))) => self.intern(Definition::Fused { minus: false, a: x, b: y, less: false, c: a }),
            (Some((x, y)), None) => self.intern(Definition::Fused { minus: false, a: x, b: y, less: false, c: b }),
            (None, None) => self.intern(Definition::Binary(Binary::Add, a.min(b), a.max(b))),
        }
    }

    pub(super) fn sub(&mut self, a: Id, b: Id) -> Id {
        if let Some((a, b)) = self.both(a, b) {
            return self.constant(a - b);
        }
        if self.is(a, 0.0) {
            return self.neg(b);
        }
        if self.is(b, 0.0) {
            return a;
        }
        if let Some(b) = self.negated(b) {
            return self.add(a, b);
        }
        if let Some(a) = self.negated(a) {
            let sum = self.add(a, b);
            return self.neg(sum);
        }
        match (self.product(a), self.product(b)) {
            (_, Some((x, y))) => self.intern(Definition::Fused { minus: true, a: x, b: y, less: false, c: a }),
            (Some((x, y)), None) => self.intern(Definition::Fused { minus: false, a: x, b: y, less: true, c: b }),
            (None, None) => self.intern(Definition::Binary(Binary::Sub, a, b)),
        }
    }

    pub(super) fn mul(&mut self, a: Id, b: Id) -> Id {
        if let Some((a, b)) = self.both(a, b) {
            return self.constant(a * b);
        }
        // A zero that is known here is none of a number's: padding, a part that does not depend on anything.
        if self.is(a, 0.0) || self.is(b, 0.0) {
            return self.constant(0.0);
        }
        if self.is(a, 1.0) {
            return b;
        }
        if self.is(b, 1.0) {
            return a;
        }
        if self.is(a, -1.0) {
            return self.neg(b);
        }
        if self.is(b, -1.0) {
            return self.neg(a);
        }
        if let Some(a) = self.negated(a) {
            let product = self.mul(a, b);
            return self.neg(product);
        }
        if let Some(b) = self.negated(b) {
            let product = self.mul(a, b);
            return self.neg(product);
        }
        self.intern(Definition::Binary(Binary::Mul, a.min(b), a.max(b)))
    }

    pub(super) fn div(&mut self, a: Id, b: Id) -> Id {
        if let Some((a, b)) = self.both(a, b) {
            return self.constant(a / b);
        }
        if self.is(a, 0.0) {
            return self.constant(0.0);
        }
        if let Some(c) = self.known(b) {
            // The inverse of a power of two is exact.
            let inverse = 1.0 / c;
            if c.abs() >= f64::from(f32::MIN_POSITIVE)
                && c.abs() <= f64::from(1.0 / f32::MIN_POSITIVE)
                && mantissa(c) == 0
            {
                let inverse = self.constant(inverse);
                return self.mul(a, inverse);
            }
        }
        if let Some(a) = self.negated(a) {
            let quotient = self.div(a, b);
            return self.neg(quotient);
        }
        if let Some(b) = self.negated(b) {
            let quotient = self.div(a, b);
            return self.neg(quotient);
        }
        self.intern(Definition::Binary(Binary::Div, a, b))
    }

    pub(super) fn binary(&mut self, f: Binary, a: Id, b: Id) -> Id {
        match f {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            f if f.row().chooses && a == b => a,
            f => match (self.known(a), self.known(b)) {
                (Some(a), Some(b)) if f.row().chooses => self.constant(f64::binary(f, a, b)),
                _ => self.intern(Definition::Binary(f, a, b)),
            },
        }
    }

    pub(super) fn unary(&mut self, f: Unary, a: Id) -> Id {
        let exact = f.correctly_rounded();
        self.infinite |= f != Unary::Neg && self.known(a).is_some_and(|c| !c.is_finite());
        match (f, self.known(a)) {
            (Unary::Neg, _) => self.neg(a),
            (f, Some(c)) if exact => self.constant(f64::unary(f, c)),
            (f, _) => self.intern(Definition::Unary(f, a)),
        }
    }

    /// Small powers as products, as the runtime computes them.
    pub(super) fn powf(&mut self, a: Id, n: f64) -> Id {
        if n == 2.0 {
            self.mul(a, a)
        } else if n == 3.0 {
            let square = self.mul(a, a);
            self.mul(square, a)
        } else if n == 4.0 {
            let square = self.mul(a, a);
            self.mul(square, square)
        } else if n == -1.0 || n == -2.0 {
            let one = self.constant(1.0);
            let inverse = self.div(one, a);
            if n == -1.0 { inverse } else { self.div(inverse, a) }
        } else {
            self.intern(Definition::Powf(a, n.to_bits()))
        }
    }

    pub(super) fn select(&mut self, t: Test, a: Id, b: Id) -> Id {
        if a == b { a } else { self.intern(Definition::Select(t, a, b)) }
    }

    /// The values that one is made of, those of its conditions included.
    pub(super) fn parts(&self, v: Id) -> Vec<Id> {
        match self.ops[v] {
            Definition::Const(_) | Definition::Load(..) => Vec::new(),
            Definition::Unary(_, a) | Definition::Powf(a, _) => vec![a],
            Definition::Binary(_, a, b) => vec![a, b],
            Definition::Fused { a, b, c, .. } => vec![a, b, c],
            Definition::Select(t, a, b) => {
                let mut all = Vec::new();
                self.compared(t, &mut all);
                all.extend([a, b]);
                all
            }
        }
    }

    pub(super) fn compared(&self, t: Test, out: &mut Vec<Id>) {
        match self.tests[t] {
            Asked::Compare(_, a, b) => out.extend([a, b]),
            Asked::And(a, b) | Asked::Or(a, b) => {
                self.compared(a, out);
                self.compared(b, out);
            }
            Asked::Not(a) => self.compared(a, out),
        }
    }
}

fn mantissa(c: f64) -> u64 {
    c.to_bits() & ((1 << 52) - 1)
}
