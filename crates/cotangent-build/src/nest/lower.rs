//! Lowering of values: takes expressions of the plain IR and a map of their variables, gives values of the nest, and
//! masks as tests. It changes nothing.

use super::builder::Map;
use super::coalesce::Space;
use super::*;
use crate::plain::mask::{self, Mask};
use crate::plain::{self, Cond, Expr};

/// Answers questions about the tensors and statements of one function.
#[derive(Clone, Copy)]
pub(super) struct Lowering<'a> {
    pub space: &'a Space,
    /// How many tensors the kernel has: ids behind them are of aliases and panels.
    pub kernel_tensors: usize,
}

impl Lowering<'_> {
    /// Whether a tensor holds packed operands.
    pub fn is_panel(&self, t: TensorId) -> bool {
        t.0 >= self.kernel_tensors
    }

    /// The guards of an access as tests.
    pub fn tests_of(&self, a: &plain::Access, map: &Map) -> Vec<Test> {
        let mut tests = Vec::new();
        for (p, size) in mask::guards(a, &self.space.kernel.tensors) {
            let test = within(p, size, map);
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        tests
    }

    pub fn access(&self, a: &plain::Access, map: &Map) -> Access {
        let positions = a
            .positions
            .iter()
            .map(|p| Position {
                numerator: p.numerator.substitute(&|v| map[v].clone()),
                divisor: p.divisor,
                guarded: p.guard.any(),
            })
            .collect();
        let (tensor, joined) = self.space.stored(a.tensor);
        Access { tensor, positions, joined: joined.unwrap_or_else(|| vec![1; a.positions.len()]) }
    }

    /// The tests under which a statement's value counts (elsewhere it is absent, or zero), and the value there.
    pub fn lower(&self, e: &Expr, map: &Map) -> (Vec<Test>, Value) {
        let (masks, value) = e.unmasked();
        (self.tests(masks, map), self.value(value, map))
    }

    /// A term that is added or stored: besides, `where(c, e, 0)` on coordinates is `e` under the test `c`.
    pub fn lower_term(&self, e: &Expr, map: &Map) -> (Vec<Test>, Value) {
        match e.unmasked().1 {
            Expr::Where(c, a, b) if **b == Expr::Const(0.0) => {
                let test = self.test(c, map);
                if has_loads(&test) {
                    return self.lower(e, map);
                }
                let (mut tests, value) = self.lower_term(a, map);
                tests.insert(0, test);
                (tests, value)
            }
            _ => self.lower(e, map),
        }
    }

    /// A value that a reduction takes.
    pub fn lower_reduced(&self, e: &Expr, r: ReduceOp, map: &Map) -> (Vec<Test>, Value) {
        if r == ReduceOp::Sum { self.lower_term(e, map) } else { self.lower(e, map) }
    }

    fn value(&self, e: &Expr, map: &Map) -> Value {
        let go = |e: &Expr| Box::new(self.value(e, map));
        match e {
            Expr::Const(c) => Value::Const(*c),
            Expr::Read(a) => Value::Load(self.access(a, map)),
            Expr::Unary(f, a) => Value::Unary(*f, go(a)),
            Expr::Powf(a, n) => Value::Powf(go(a), *n),
            Expr::Binary(f, a, b) => Value::Binary(*f, go(a), go(b)),
            Expr::Where(c, a, b) => Value::Select(Box::new(self.test(c, map)), go(a), go(b)),
            Expr::Masked(masks, a) => or_zero(self.tests(masks, map), self.value(a, map)),
        }
    }

    /// Each mask as a test, once.
    fn tests(&self, masks: &[Mask], map: &Map) -> Vec<Test> {
        let mut tests = Vec::new();
        for m in masks {
            let test = self.mask(m, map);
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        tests
    }

    fn mask(&self, m: &Mask, map: &Map) -> Test {
        let all = |masks: &[Mask]| -> Vec<Test> { masks.iter().map(|m| self.mask(m, map)).collect() };
        match m {
            Mask::Within(p, size) => within(p, *size, map),
            Mask::Either(a, b) => Test::Or(vec![Test::all(all(a)), Test::all(all(b))]),
            Mask::Taken(c, a, b) => {
                let taken = self.test(c, map);
                let left = Test::And([vec![taken.clone()], all(a)].concat());
                let right = Test::And([vec![Test::Not(Box::new(taken))], all(b)].concat());
                Test::Or(vec![left, right])
            }
        }
    }

    fn test(&self, c: &Cond, map: &Map) -> Test {
        let linear = |l: &Linear| l.substitute(&|v| map[v].clone());
        match c {
            Cond::Const(true) => Test::And(Vec::new()),
            Cond::Const(false) => Test::Or(Vec::new()),
            Cond::Index(op, a, b) => Test::Index(*op, linear(a), linear(b)),
            Cond::Value(op, a, b) => Test::Value(*op, self.value(a, map), self.value(b, map)),
            Cond::Inside(a) => Test::all(self.tests_of(a, map)),
            Cond::And(a, b) => Test::And(vec![self.test(a, map), self.test(b, map)]),
            Cond::Or(a, b) => Test::Or(vec![self.test(a, map), self.test(b, map)]),
            Cond::Not(a) => Test::Not(Box::new(self.test(a, map))),
        }
    }
}

fn within(p: &plain::Position, size: usize, map: &Map) -> Test {
    let numerator = p.numerator.substitute(&|v| map[v].clone());
    Test::Within { numerator, divisor: p.divisor, extent: size }
}

fn has_loads(t: &Test) -> bool {
    let mut found = false;
    t.loads(&mut |_| found = true);
    found
}

pub(super) fn or_zero(tests: Vec<Test>, v: Value) -> Value {
    if tests.is_empty() {
        v
    } else {
        Value::Select(Box::new(Test::all(tests)), Box::new(v), Box::new(Value::Const(0.0)))
    }
}
