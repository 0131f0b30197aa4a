//! Values, places and tests as Rust: takes those of a nest, gives expressions.
//!
//! Holds after it: operations stand in brackets in the order in which the nest has them; positions are `usize`
//! arithmetic that cannot go below zero, or that wraps where a test of the range follows.

use super::{ISA, Tried, Writer, isa, math, scalar};
use crate::emit::names::{ANY, SPECULATION, Size};
use crate::emit::rust::{self, Expr, Number, Path, Stmt};
use crate::index::{Binary, TensorId, Unary};
use crate::nest::{Access, Counts, Test, Value};
use crate::plain::Linear;

impl Writer<'_> {
    /// `place` with a value added: products are fused into the sum where the instruction set does that, term by term,
    /// the last term of the value first.
    pub(super) fn sum(&self, place: Expr, v: &Value, lanes: bool) -> Expr {
        let fma = || isa(if lanes { "lanes_mul_add" } else { "mul_add" });
        match v {
            Value::Binary(Binary::Add, a, b) => self.sum(self.sum(place, b, lanes), a, lanes),
            Value::Binary(Binary::Mul, a, b) => fma().call([self.value(a), self.value(b), place]),
            Value::Powf(a, n) if *n == 2.0 => {
                let it = Expr::name(ANY[0]);
                Expr::binding(ANY[0], self.value(a), fma().call([it.clone(), it, place]))
            }
            v if lanes => isa("lanes_add").call([place, self.value(v)]),
            v => place.binary(rust::Binary::Add, self.operand(v)),
        }
    }

    pub(super) fn local(&self, t: TensorId) -> bool {
        self.n.local(t).is_some()
    }

    pub(super) fn number(&self, c: f64) -> Expr {
        let ty = scalar(self.k.dtype);
        // What does not fit is infinite, as it would be in a conversion.
        let nearest = self.k.dtype.nearest(c);
        let c = if nearest.is_infinite() { nearest } else { c };
        let special = |name: &str| Expr::Path(Path::new(&[ty, name]));
        match c {
            f64::INFINITY => special("INFINITY"),
            f64::NEG_INFINITY => special("NEG_INFINITY"),
            c if c.is_nan() => special("NAN"),
            c => signed(Number::real(c, ty), c.is_sign_negative()),
        }
    }

    /// A place or an element, behind `mutable` joins.
    pub(super) fn access(&self, a: &Access, mutable: bool) -> Expr {
        if let Some(name) = self.names.element(a) {
            let name = Expr::name(name);
            return if self.n.writes.contains(&a.tensor) { name.unary(rust::Unary::Deref) } else { name };
        }
        let (row, at) = self.steps(a, mutable);
        match at {
            Some(at) => row.at(at),
            // A scalar argument is behind a reference, a scalar local is not.
            None if self.local(a.tensor) && self.tile.is_none() => row,
            None => row.unary(rust::Unary::Deref),
        }
    }

    /// The row of lanes as a slice, and where in it they start.
    pub(super) fn row(&self, a: &Access, mutable: bool) -> (Expr, Expr) {
        let (row, at) = self.steps(a, mutable);
        let borrow = if mutable { rust::Unary::RefMut } else { rust::Unary::Ref };
        let row = match row {
            // A slice already.
            flat @ Expr::Method(..) => flat,
            // A reference to the array.
            name @ Expr::Path(_) => Expr::Whole(Box::new(name)).unary(borrow),
            array => array.unary(borrow),
        };
        (row, at.expect("lanes are no scalar"))
    }

    /// The array that the last position indexes, and that position; none of a scalar.
    pub(super) fn steps(&self, a: &Access, mutable: bool) -> (Expr, Option<Expr>) {
        let mut row = Expr::name(self.names.tensor(a.tensor));
        let mut at = None;
        for (p, joined) in a.positions.iter().zip(&a.joined) {
            if let Some(at) = at {
                row = row.at(at);
            }
            for _ in 1..*joined {
                row = row.method(Path::name(if mutable { "as_flattened_mut" } else { "as_flattened" }), []);
            }
            at = Some(divided(self.linear(&p.numerator, p.guarded), rust::Binary::Div, p.divisor));
        }
        (row, at)
    }

    /// A linear map as `usize`: terms that add, then terms that take away, wrapping where only a test keeps it from
    /// going below zero.
    pub(super) fn linear(&self, l: &Linear, wrapping: bool) -> Expr {
        let (plus, minus) = self.halves(l);
        let plus = total(plus);
        if minus.is_empty() {
            plus
        } else if wrapping {
            Path::new(&["usize", "wrapping_sub"]).call([plus, total(minus)])
        } else {
            minus.into_iter().fold(plus, |a, b| a.binary(rust::Binary::Sub, b))
        }
    }

    /// The terms with positive and with negative coefficients.
    fn halves(&self, l: &Linear) -> (Vec<Expr>, Vec<Expr>) {
        self.terms(l, true)
    }

    /// The same; of elements, vectors are as far apart as they have lanes.
    pub(super) fn terms(&self, l: &Linear, elements: bool) -> (Vec<Expr>, Vec<Expr>) {
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for (v, c) in l.terms.iter().filter(|(v, _)| !self.zeros.contains(v)) {
            let name = Expr::name(self.names.var(*v));
            let lanes = self
                .tile
                .filter(|t| elements && self.n.vars[*v].counts == Some(Counts::Vectors) && *c == t.width as i64);
            let size = match lanes {
                Some(_) => name.binary(rust::Binary::Mul, Expr::name(self.names.size(Size::Lanes))),
                None if c.unsigned_abs() == 1 => name,
                None => name.binary(rust::Binary::Mul, size(*c)),
            };
            if *c > 0 { &mut plus } else { &mut minus }.push(size);
        }
        match l.constant {
            0 => {}
            c => if c > 0 { &mut plus } else { &mut minus }.push(size(c)),
        }
        (plus, minus)
    }

    pub(super) fn value(&self, v: &Value) -> Expr {
        if v.lanes(&self.n.registers).is_some() {
            return self.lanes(v);
        }
        match v {
            Value::Const(c) => self.number(*c),
            Value::Load(a) => self.access(a, false),
            Value::Register(slot) => self.slot(slot),
            Value::Unary(Unary::Neg, a) => self.operand(a).unary(rust::Unary::Neg),
            Value::Unary(f, a) if f.branches() && self.tried == Tried::First => {
                let note = |x: Expr| Expr::name(SPECULATION).method(Path::name(f.name()).of(&[&ISA]), [x]);
                // A speculative block is borrowed while its argument is computed: one that needs the speculative block
                // too comes first.
                match a.any(&crate::nest::speculate::calls_branch) {
                    true => Expr::binding(ANY[0], self.value(a), note(Expr::name(ANY[0]))),
                    false => note(self.value(a)),
                }
            }
            Value::Unary(f, a) => math(f.name()).call([self.value(a)]),
            Value::Binary(f, a, b) => match arithmetic(*f) {
                Some(op) => self.operand(a).binary(op, self.operand(b)),
                None => math(f.name()).call([self.value(a), self.value(b)]),
            },
            Value::Powf(a, n) => self.power(self.value(a), *n),
            Value::Select(t, a, b) => self.select(t, a, b),
            Value::Fused(a, b, c) => isa("mul_add").call([self.value(a), self.value(b), self.value(c)]),
            Value::Lane(slot, lane) => Expr::name(self.names.lane(slot.register, *lane)),
            Value::Lanes(..) | Value::Splat(..) | Value::Each(..) | Value::Choose(..) => {
                unreachable!("lanes are above")
            }
        }
    }

    fn select(&self, t: &Test, a: &Value, b: &Value) -> Expr {
        Expr::when(self.test(t), self.value(a), self.value(b)).bracketed()
    }

    fn power(&self, base: Expr, n: f64) -> Expr {
        match n {
            n if n.fract() == 0.0 && n.abs() <= 64.0 => {
                math("powi").call([base, signed(Number::whole(n.abs() as usize), n < 0.0)])
            }
            0.5 => math("sqrt").call([base]),
            -0.5 => math("rsqrt").call([base]),
            n => math("pow").call([base, self.number(n)]),
        }
    }

    /// Lanes of scalars, one each.
    pub(super) fn of_scalars(&self, all: &[Value]) -> Expr {
        let all = all.iter().map(|a| self.value(a)).collect();
        Path::new(&["_Lanes", "from_array"]).call([Expr::Array(all)])
    }

    /// A value of several lanes.
    fn lanes(&self, v: &Value) -> Expr {
        let ty = scalar(self.k.dtype);
        let function = |f: &Unary| Path::name(f.name()).of(&[&ISA]);
        match v {
            Value::Register(slot) => self.slot(slot),
            Value::Lanes(a, width, count) => {
                let (row, at) = self.row(a, false);
                match width == count {
                    true => isa("read").of(&[&ty, &self.width(*width)]).call([row, at]),
                    false => isa("read_part").of(&[&ty, &self.width(*width)]).call([row, at, Expr::whole(*count)]),
                }
            }
            Value::Splat(a, width) => isa("splat").of(&[&ty, &self.width(*width)]).call([self.value(a)]),
            Value::Unary(Unary::Neg, a) => self.lanes(a).unary(rust::Unary::Neg),
            Value::Unary(f, a) => self.lanes(a).method(function(f), []),
            Value::Binary(f, a, b) => {
                let (a, b) = (self.lanes(a), self.lanes(b));
                match f {
                    Binary::Add => isa("lanes_add").call([a, b]),
                    Binary::Sub => isa("lanes_sub").call([a, b]),
                    Binary::Mul => isa("lanes_mul").call([a, b]),
                    Binary::Max => isa("lanes_max").call([a, b]),
                    Binary::Min => isa("lanes_min").call([a, b]),
                    Binary::Div => a.binary(rust::Binary::Div, b),
                    f => {
                        let each = Expr::closure(&ANY, math(f.name()).call(ANY.map(Expr::name)));
                        a.method(Path::name("zip"), [b, each])
                    }
                }
            }
            Value::Powf(a, n) => {
                let each = Expr::closure(&ANY[..1], self.power(Expr::name(ANY[0]), *n));
                self.lanes(a).method(Path::name("map"), [each])
            }
            Value::Select(t, a, b) => self.select(t, a, b),
            Value::Choose(op, all) => {
                let [a, b] = ANY.map(Expr::name);
                let [x, y, yes, no] = all.each_ref().map(|v| self.lanes(v));
                let test = Expr::closure(&ANY, a.binary((*op).into(), b));
                Path::new(&["_Lanes", "choose"]).call([test, x, y, yes, no])
            }
            Value::Each(f, all) => self.of_scalars(all).method(function(f), []).method(Path::name("apart"), []),
            Value::Const(_) | Value::Load(_) | Value::Fused(..) | Value::Lane(..) => {
                unreachable!("scalars stand in splats")
            }
        }
    }

    /// Sums and products within others are bracketed as they were written, also where Rust would not ask for it: the
    /// order of operations is part of a kernel's contract, and is to be seen.
    fn operand(&self, v: &Value) -> Expr {
        let e = self.value(v);
        match v {
            Value::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div, ..) | Value::Unary(Unary::Neg, _) => {
                e.bracketed()
            }
            _ => e,
        }
    }

    /// All of them, or one of them.
    pub(super) fn tests(&self, op: rust::Binary, tests: &[Test]) -> Expr {
        Expr::joined(op, tests.iter().map(|t| self.test(t))).unwrap_or(Expr::Bool(op == rust::Binary::And))
    }

    fn test(&self, t: &Test) -> Expr {
        match t {
            Test::Within { numerator, divisor, extent } => {
                let n = self.linear(numerator, true);
                let inside = divided(n.clone(), rust::Binary::Div, *divisor);
                let inside = inside.binary(rust::Binary::Lt, Expr::whole(*extent));
                if *divisor == 1 {
                    return inside;
                }
                let whole = divided(n, rust::Binary::Rem, *divisor).binary(rust::Binary::Eq, Expr::whole(0));
                whole.binary(rust::Binary::And, inside)
            }
            Test::Index(op, a, b) => {
                // Every term on the side where it adds.
                let ((pa, ma), (pb, mb)) = (self.halves(a), self.halves(b));
                total([pa, mb].concat()).binary((*op).into(), total([pb, ma].concat()))
            }
            Test::Value(op, a, b) => self.operand(a).binary((*op).into(), self.operand(b)),
            Test::And(ts) => self.tests(rust::Binary::And, ts),
            Test::Or(ts) => self.tests(rust::Binary::Or, ts),
            Test::Not(t) => self.test(t).unary(rust::Unary::Not),
        }
    }
}

/// A number with its sign.
fn signed(n: Number, negative: bool) -> Expr {
    let size = Expr::Number(n);
    if negative { size.unary(rust::Unary::Neg) } else { size }
}

/// A whole number without its sign.
fn size(c: i64) -> Expr {
    Expr::whole(usize::try_from(c.unsigned_abs()).expect("a size fits 64 bits"))
}

/// The sum of all terms.
pub(super) fn total(terms: Vec<Expr>) -> Expr {
    Expr::joined(rust::Binary::Add, terms).unwrap_or(Expr::whole(0))
}

/// Divided, where that changes anything.
fn divided(e: Expr, op: rust::Binary, divisor: i64) -> Expr {
    if divisor == 1 { e } else { e.binary(op, size(divisor)) }
}

/// The operator of a function that has one.
fn arithmetic(f: Binary) -> Option<rust::Binary> {
    match f {
        Binary::Add => Some(rust::Binary::Add),
        Binary::Sub => Some(rust::Binary::Sub),
        Binary::Mul => Some(rust::Binary::Mul),
        Binary::Div => Some(rust::Binary::Div),
        _ => None,
    }
}

/// A sum set to its new value: `+=` where nothing is fused.
pub(super) fn summed(place: &Expr, sum: Expr) -> Stmt {
    match added(place, &sum) {
        Some(added) => Stmt::Change(place.clone(), rust::Binary::Add, added),
        None => Stmt::Assign(place.clone(), sum),
    }
}

/// What a sum that begins with `place` adds to it.
fn added(place: &Expr, sum: &Expr) -> Option<Expr> {
    let Expr::Binary(rust::Binary::Add, first, last) = sum else { return None };
    let last = (**last).clone();
    if **first == *place { Some(last) } else { added(place, first).map(|all| all.binary(rust::Binary::Add, last)) }
}
