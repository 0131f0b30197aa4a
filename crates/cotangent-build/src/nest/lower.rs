//! Lowering of values: takes expressions of the plain IR and a map of their variables, gives values of the nest and the
//! tests under which they are present. It changes nothing.

use super::builder::Map;
use super::coalesce::Space;
use super::*;
use crate::plain::{self, Cond, Expr, Stmt};

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
        for (p, extent) in a.positions.iter().zip(&self.space.kernel.tensor(a.tensor).shape) {
            if p.guard.any() {
                let test = Test::Within {
                    numerator: p.numerator.substitute(&|v| map[v].clone()),
                    divisor: p.divisor,
                    extent: *extent,
                };
                if !tests.contains(&test) {
                    tests.push(test);
                }
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

    /// A value that a reduction takes: the tests under which the coordinate counts, and the value.
    pub fn lower_reduced(&self, s: &Stmt, r: ReduceOp, map: &Map) -> (Vec<Test>, Value) {
        if r == ReduceOp::Sum {
            return self.lower_term(&s.value, map);
        }
        let (mut guards, value) = self.lower(&s.value, map);
        if r.skips_outside() {
            // These pass over coordinates where any read that is met falls outside, not just a factor.
            for t in self.met_inside(&s.value, map) {
                if !guards.contains(&t) {
                    guards.push(t);
                }
            }
        }
        (guards, value)
    }

    /// The tests under which no read that the evaluation meets falls outside.
    fn met_inside(&self, e: &Expr, map: &Map) -> Vec<Test> {
        match e {
            Expr::Const(_) => Vec::new(),
            Expr::Read(a) => self.tests_of(a, map),
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.met_inside(a, map),
            Expr::Binary(_, a, b) => [self.met_inside(a, map), self.met_inside(b, map)].concat(),
            Expr::Where(c, a, b) => {
                let mut all = self.met_in_test(c, map);
                let (yes, no) = (self.met_inside(a, map), self.met_inside(b, map));
                if !yes.is_empty() || !no.is_empty() {
                    let taken = self.test(c, map);
                    let left = Test::And([vec![taken.clone()], yes].concat());
                    let right = Test::And([vec![Test::Not(Box::new(taken))], no].concat());
                    all.push(Test::Or(vec![left, right]));
                }
                all
            }
        }
    }

    /// As [`Self::met_inside`], of a condition: its second side is met only where the first does not decide, `inside`
    /// is no read.
    fn met_in_test(&self, c: &Cond, map: &Map) -> Vec<Test> {
        let unless = |decided: Test, rest: Vec<Test>| {
            if rest.is_empty() { Vec::new() } else { vec![Test::Or(vec![decided, Test::all(rest)])] }
        };
        match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => Vec::new(),
            Cond::Value(_, a, b) => [self.met_inside(a, map), self.met_inside(b, map)].concat(),
            Cond::And(a, b) => {
                let decided = Test::Not(Box::new(self.test(a, map)));
                [self.met_in_test(a, map), unless(decided, self.met_in_test(b, map))].concat()
            }
            Cond::Or(a, b) => [self.met_in_test(a, map), unless(self.test(a, map), self.met_in_test(b, map))].concat(),
            Cond::Not(a) => self.met_in_test(a, map),
        }
    }

    /// The tests under which the value is present (an absent one is zero), and the value there.
    pub fn lower(&self, e: &Expr, map: &Map) -> (Vec<Test>, Value) {
        let number = |e: &Expr| {
            let (tests, v) = self.lower(e, map);
            or_zero(tests, v)
        };
        match e {
            Expr::Const(c) => (Vec::new(), Value::Const(*c)),
            Expr::Read(a) => (self.tests_of(a, map), Value::Load(self.access(a, map))),
            Expr::Unary(Unary::Neg, a) => {
                let (tests, a) = self.lower(a, map);
                (tests, Value::Unary(Unary::Neg, Box::new(a)))
            }
            Expr::Unary(f, a) => (Vec::new(), Value::Unary(*f, Box::new(number(a)))),
            Expr::Powf(a, n) => (Vec::new(), Value::Powf(Box::new(number(a)), *n)),
            Expr::Binary(Binary::Mul, a, b) => {
                let ((mut tests, a), (more, b)) = (self.lower(a, map), self.lower(b, map));
                for t in more {
                    if !tests.contains(&t) {
                        tests.push(t);
                    }
                }
                (tests, Value::Binary(Binary::Mul, Box::new(a), Box::new(b)))
            }
            Expr::Binary(Binary::Div, a, b) => {
                let (tests, a) = self.lower(a, map);
                (tests, Value::Binary(Binary::Div, Box::new(a), Box::new(number(b))))
            }
            Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) => {
                let ((ta, va), (tb, vb)) = (self.lower(a, map), self.lower(b, map));
                if ta == tb {
                    return (ta, Value::Binary(*f, Box::new(va), Box::new(vb)));
                }
                // Present where one of the two is.
                let tests = if ta.is_empty() || tb.is_empty() {
                    Vec::new()
                } else {
                    vec![Test::Or(vec![Test::all(ta.clone()), Test::all(tb.clone())])]
                };
                (tests, Value::Binary(*f, Box::new(or_zero(ta, va)), Box::new(or_zero(tb, vb))))
            }
            Expr::Binary(f, a, b) => (Vec::new(), Value::Binary(*f, Box::new(number(a)), Box::new(number(b)))),
            Expr::Where(c, a, b) => {
                let test = self.test(c, map);
                let ((ta, va), (tb, vb)) = (self.lower(a, map), self.lower(b, map));
                let mut tests = Vec::new();
                if !ta.is_empty() || !tb.is_empty() {
                    // Present where the taken branch is.
                    let left = Test::And([vec![test.clone()], ta.clone()].concat());
                    let right = Test::And([vec![Test::Not(Box::new(test.clone()))], tb.clone()].concat());
                    tests.push(Test::Or(vec![left, right]));
                }
                // Each branch keeps its own tests: the one on the whole does not say which of them holds.
                (tests, Value::Select(Box::new(test), Box::new(or_zero(ta, va)), Box::new(or_zero(tb, vb))))
            }
        }
    }

    /// A term that is added or stored: besides, `where(c, e, 0)` on coordinates is `e` under the test `c`.
    pub fn lower_term(&self, e: &Expr, map: &Map) -> (Vec<Test>, Value) {
        match e {
            Expr::Where(c, a, b) if **b == Expr::Const(0.0) => {
                let test = self.test(c, map);
                if has_loads(&test) {
                    return self.lower(e, map);
                }
                let (mut tests, value) = self.lower_term(a, map);
                tests.insert(0, test);
                (tests, value)
            }
            e => self.lower(e, map),
        }
    }

    fn test(&self, c: &Cond, map: &Map) -> Test {
        let linear = |l: &Linear| l.substitute(&|v| map[v].clone());
        let number = |e: &Expr| {
            let (tests, v) = self.lower(e, map);
            or_zero(tests, v)
        };
        match c {
            Cond::Const(true) => Test::And(Vec::new()),
            Cond::Const(false) => Test::Or(Vec::new()),
            Cond::Index(op, a, b) => Test::Index(*op, linear(a), linear(b)),
            Cond::Value(op, a, b) => Test::Value(*op, number(a), number(b)),
            Cond::Inside(a) => Test::all(self.tests_of(a, map)),
            Cond::And(a, b) => Test::And(vec![self.test(a, map), self.test(b, map)]),
            Cond::Or(a, b) => Test::Or(vec![self.test(a, map), self.test(b, map)]),
            Cond::Not(a) => Test::Not(Box::new(self.test(a, map))),
        }
    }
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
