//! The interpreter of the index IR: the meaning of the language. Takes statements, a binding and tensors (row-major,
//! groups in the order of the declaration), runs the statements over any [`Number`].
//!
//! A read outside a tensor is an *absent* zero: a product with it is absent, whatever the other factor; a sum passes
//! over it; anything else sees the number 0. A recurrence runs its statements in order for each coordinate along its
//! axis. A `prod`, `max` or `min` reduction passes over coordinates at which a read falls outside.

use super::bind::Binding;
use super::*;
use std::cell::Cell;

/// What formulas are evaluated over: `f64`, or a finite field for exact comparison.
pub trait Number: Copy + PartialEq + std::fmt::Debug {
    fn from_f64(value: f64) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn unary(f: Unary, a: Self) -> Self;
    fn binary(f: Binary, a: Self, b: Self) -> Self;
    fn powf(self, n: f64) -> Self;
    /// `self * factor + term`, rounded once where numbers are rounded.
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul(factor).add(term)
    }
    fn compare(op: Compare, a: Self, b: Self) -> bool;
}

impl Number for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn add(self, other: Self) -> Self {
        self + other
    }
    fn sub(self, other: Self) -> Self {
        self - other
    }
    fn mul(self, other: Self) -> Self {
        self * other
    }
    fn unary(f: Unary, a: f64) -> f64 {
        (f.row().value)(a)
    }
    fn binary(f: Binary, a: f64, b: f64) -> f64 {
        (f.row().value)(a, b)
    }
    fn powf(self, n: f64) -> f64 {
        if n.fract() == 0.0 && n.abs() < 64.0 { self.powi(n as i32) } else { f64::powf(self, n) }
    }
    fn mul_add(self, factor: f64, term: f64) -> f64 {
        f64::mul_add(self, factor, term)
    }
    fn compare(op: Compare, a: f64, b: f64) -> bool {
        op.holds(&a, &b)
    }
}

/// Tensors by id, each once it has a value.
pub struct Interpreter<'a, N> {
    op: &'a Op,
    binding: &'a Binding,
    pub tensors: BTreeMap<TensorId, Vec<N>>,
}

/// A `=` wrote an element twice.
#[derive(Debug)]
pub struct DoubleWrite {
    pub span: Span,
    /// The flat index of the element.
    pub element: usize,
}

impl<'a, N: Number> Interpreter<'a, N> {
    pub fn new(op: &'a Op, binding: &'a Binding) -> Self {
        Interpreter { op, binding, tensors: BTreeMap::new() }
    }

    /// Runs statements in order. A tensor without a value is zero before its first write.
    pub fn run(&mut self, stmts: &[Stmt]) -> Result<(), DoubleWrite> {
        self.execute(&Prepared::new(self.op, self.binding, stmts))
    }

    /// The same of statements that are run many times.
    pub fn execute(&mut self, prepared: &Prepared<N>) -> Result<(), DoubleWrite> {
        for Unit { iterations, steps } in &prepared.units {
            match iterations {
                None => self.step(&steps[0], None)?,
                Some((iterations, backwards)) => {
                    for n in 0..*iterations {
                        let at = if *backwards { iterations - 1 - n } else { n };
                        steps.iter().try_for_each(|s| self.step(s, Some(at)))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `at`: where the variable of a recurrence stands.
    fn step(&mut self, s: &Step<N>, at: Option<i64>) -> Result<(), DoubleWrite> {
        let zero = N::from_f64(0.0);
        let (size, target, value, bound) = (s.size, &s.target, &s.value, &s.bound);
        let mut results = Vec::new();
        let mut env = vec![0i64; s.extents.len()];
        if let (Some(slot), Some(at)) = (s.still, at) {
            env[slot] = at;
        }
        let outside = Cell::new(false);
        let frame = Frame { source: &self.tensors, outside: &outside };
        odometer(&s.extents, &s.free, &mut env, &mut |env| {
            let Some(at) = target.locate(env) else { return };
            let v = frame.result(s.reduce, value, &s.extents, bound, env);
            results.push((at, v));
        });
        // A statement of a recurrence may read its own target, so it is written when all is read.
        let out = self.tensors.entry(target.tensor).or_insert_with(|| vec![zero; size]);
        let mut written = vec![false; if s.accumulate { 0 } else { size }];
        let mut result = Ok(());
        for (at, v) in results {
            if s.accumulate {
                out[at] = out[at].add(v);
            } else {
                if std::mem::replace(&mut written[at], true) && result.is_ok() {
                    result = Err(DoubleWrite { span: s.span, element: at });
                }
                out[at] = v;
            }
        }
        result
    }
}

/// Statements with their indices turned into numbers.
pub struct Prepared<N> {
    units: Vec<Unit<N>>,
}

/// A statement alone, or those of one recurrence with the number of its iterations and whether it runs backwards.
struct Unit<N> {
    iterations: Option<(i64, bool)>,
    steps: Vec<Step<N>>,
}

/// A statement with its indices turned into numbers.
pub(super) struct Step<N> {
    pub target: Element,
    pub value: Code<N>,
    pub reduce: Option<ReduceOp>,
    pub accumulate: bool,
    pub span: Span,
    /// Of each slot of the environment.
    pub extents: Vec<usize>,
    /// The slot of the variable of a recurrence.
    pub still: Option<usize>,
    pub free: Vec<usize>,
    pub bound: Vec<usize>,
    /// Elements of the target.
    pub size: usize,
}

impl<N: Number> Prepared<N> {
    pub fn new(op: &Op, binding: &Binding, stmts: &[Stmt]) -> Self {
        let units = scan::units(stmts).into_iter().map(|unit| {
            let unit = &stmts[unit];
            let iterations = unit[0].scan.map(|t| (binding.count(unit[0].vars[t.var.0].axis) as i64, t.backwards));
            Unit { iterations, steps: unit.iter().map(|s| Step::new(op, binding, s)).collect() }
        });
        Prepared { units: units.collect() }
    }
}

impl<N: Number> Step<N> {
    pub fn new(op: &Op, binding: &Binding, s: &Stmt) -> Self {
        let code = Compiler::new(op, binding, s);
        let still = s.scan.map(|t| code.first[t.var.0]);
        Step {
            target: code.access(s.target, &s.index),
            value: code.expr(&s.value),
            reduce: s.reduce,
            accumulate: s.accumulate,
            span: s.span,
            still,
            free: code.slots(0..s.free).filter(|slot| Some(*slot) != still).collect(),
            bound: code.slots(s.free..s.vars.len()).collect(),
            size: binding.elements(op, s.target),
            extents: code.extents,
        }
    }
}

/// Calls `f` for every setting of the slots, last fastest; once if there are none.
fn odometer(extents: &[usize], slots: &[usize], env: &mut [i64], f: &mut impl FnMut(&mut [i64])) {
    slots.iter().for_each(|slot| env[*slot] = 0);
    loop {
        f(env);
        let mut moved = false;
        for slot in slots.iter().copied().rev() {
            env[slot] += 1;
            if (env[slot] as usize) < extents[slot] {
                moved = true;
                break;
            }
            env[slot] = 0;
        }
        if !moved {
            return;
        }
    }
}

/// A statement with its coefficients turned into numbers: each dimension of each variable has a slot of the
/// environment.
pub(super) struct Compiler<'a> {
    op: &'a Op,
    binding: &'a Binding,
    /// First slot of each variable.
    first: Vec<usize>,
    /// Of each slot.
    pub extents: Vec<usize>,
}

pub(super) struct Linear {
    pub terms: Vec<(i64, usize)>,
    pub constant: i64,
    pub divisor: i64,
}

pub(super) struct Position {
    pub linear: Linear,
    pub extent: i64,
    pub stride: usize,
}

pub(super) struct Element {
    pub tensor: TensorId,
    pub positions: Vec<Position>,
}

pub(super) enum Code<N> {
    Const(N),
    Read(Element),
    Unary(Unary, Box<Code<N>>),
    Binary(Binary, Box<Code<N>>, Box<Code<N>>),
    Powf(Box<Code<N>>, f64),
    Where(Box<Test<N>>, Box<Code<N>>, Box<Code<N>>),
}

pub(super) enum Test<N> {
    /// In every dimension (`all`), or in some.
    Index(Compare, bool, Vec<(Linear, Linear)>),
    Value(Compare, Code<N>, Code<N>),
    Inside(Element),
    And(Box<Test<N>>, Box<Test<N>>),
    Or(Box<Test<N>>, Box<Test<N>>),
    Not(Box<Test<N>>),
}

impl<'a> Compiler<'a> {
    pub fn new(op: &'a Op, binding: &'a Binding, s: &Stmt) -> Self {
        let mut first = Vec::new();
        let mut extents = Vec::new();
        for v in &s.vars {
            first.push(extents.len());
            extents.extend(&binding.extents[v.axis.0]);
        }
        Compiler { op, binding, first, extents }
    }
    pub fn slots(&self, vars: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let at = |v: usize| self.first.get(v).copied().unwrap_or(self.extents.len());
        at(vars.start)..at(vars.end)
    }
    fn linear(&self, a: &Affine, dim: usize) -> Linear {
        let number = |p: &Poly| self.binding.poly(p, dim);
        Linear {
            terms: a.terms.iter().map(|(v, c)| (number(c), self.first[v.0] + dim)).collect(),
            constant: number(&a.constant),
            divisor: number(&a.divisor),
        }
    }
    pub fn access(&self, tensor: TensorId, index: &[Affine]) -> Element {
        let mut stride = self.binding.elements(self.op, tensor);
        let mut positions = Vec::new();
        for (a, axis) in index.iter().zip(&self.op.tensor(tensor).axes) {
            for (dim, extent) in self.binding.extents[axis.0].iter().enumerate() {
                stride /= extent;
                positions.push(Position { linear: self.linear(a, dim), extent: *extent as i64, stride });
            }
        }
        Element { tensor, positions }
    }
    pub fn expr<N: Number>(&self, e: &Expr) -> Code<N> {
        match e {
            Expr::Const(c) => Code::Const(N::from_f64(*c)),
            Expr::Param(p) => Code::Const(N::from_f64(self.binding.real(*p))),
            Expr::Extent(a) => Code::Const(N::from_f64(self.binding.count(*a) as f64)),
            Expr::Read(t, index) => Code::Read(self.access(*t, index)),
            Expr::Unary(f, a) => Code::Unary(*f, Box::new(self.expr(a))),
            Expr::Powf(a, n) => Code::Powf(Box::new(self.expr(a)), *n),
            Expr::Binary(f, a, b) => Code::Binary(*f, Box::new(self.expr(a)), Box::new(self.expr(b))),
            Expr::Where(c, a, b) => Code::Where(Box::new(self.cond(c)), Box::new(self.expr(a)), Box::new(self.expr(b))),
            Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        }
    }
    fn cond<N: Number>(&self, c: &Cond) -> Test<N> {
        match c {
            Cond::Index(op, a, b) => {
                let rank = self.compared_rank(a, b);
                let sides = (0..rank).map(|d| (self.linear(a, d), self.linear(b, d))).collect();
                // `!=` is the negation of `==`.
                Test::Index(*op, *op != Compare::Ne, sides)
            }
            Cond::Value(op, a, b) => Test::Value(*op, self.expr(a), self.expr(b)),
            Cond::Inside(t, index) => Test::Inside(self.access(*t, index)),
            Cond::And(a, b) => Test::And(Box::new(self.cond(a)), Box::new(self.cond(b))),
            Cond::Or(a, b) => Test::Or(Box::new(self.cond(a)), Box::new(self.cond(b))),
            Cond::Not(a) => Test::Not(Box::new(self.cond(a))),
        }
    }
    /// The rank of the groups in a comparison: that of any of its variables.
    fn compared_rank(&self, a: &Affine, b: &Affine) -> usize {
        let at = |v: usize| self.first.get(v).copied().unwrap_or(self.extents.len());
        a.vars().chain(b.vars()).next().map_or(1, |v| at(v.0 + 1) - at(v.0))
    }
}

impl Linear {
    fn numerator(&self, env: &[i64]) -> i64 {
        self.terms.iter().fold(self.constant, |sum, (c, slot)| sum + c * env[*slot])
    }
}

impl Element {
    /// The flat index, `None` outside.
    fn locate(&self, env: &[i64]) -> Option<usize> {
        let mut at = 0;
        for p in &self.positions {
            let n = p.linear.numerator(env);
            if n % p.linear.divisor != 0 {
                return None;
            }
            let n = n / p.linear.divisor;
            if !(0..p.extent).contains(&n) {
                return None;
            }
            at += n as usize * p.stride;
        }
        Some(at)
    }
}

/// What formulas read from: an element by its flat index.
pub(super) trait Source<N> {
    fn read(&self, tensor: TensorId, at: usize) -> N;
}

impl<N: Number> Source<N> for BTreeMap<TensorId, Vec<N>> {
    /// A tensor that nothing wrote is zero.
    fn read(&self, tensor: TensorId, at: usize) -> N {
        self.get(&tensor).map_or(N::from_f64(0.0), |t| t[at])
    }
}

pub(super) struct Frame<'a, S> {
    pub source: &'a S,
    /// Set when a read falls outside.
    pub outside: &'a Cell<bool>,
}

impl<S> Frame<'_, S> {
    /// What a statement comes to at a setting of its free variables.
    pub fn result<N: Number>(
        &self,
        reduce: Option<ReduceOp>,
        value: &Code<N>,
        extents: &[usize],
        bound: &[usize],
        env: &mut [i64],
    ) -> N
    where
        S: Source<N>,
    {
        let zero = N::from_f64(0.0);
        let Some(r) = reduce else { return self.eval(value, env).unwrap_or(zero) };
        let mut total = N::from_f64(r.identity());
        odometer(extents, bound, env, &mut |env| {
            self.outside.set(false);
            let v = self.eval(value, env);
            if r.skips_outside() && self.outside.get() {
                return;
            }
            total = match (r, v) {
                (ReduceOp::Sum, None) => total,
                (ReduceOp::Sum, Some(v)) => total.add(v),
                (ReduceOp::Prod, v) => total.mul(v.unwrap_or(zero)),
                (ReduceOp::Max, v) => N::binary(Binary::Max, total, v.unwrap_or(zero)),
                (ReduceOp::Min, v) => N::binary(Binary::Min, total, v.unwrap_or(zero)),
            };
        });
        total
    }
    /// `None`: an absent zero.
    pub fn eval<N: Number>(&self, code: &Code<N>, env: &[i64]) -> Option<N>
    where
        S: Source<N>,
    {
        let number = |v: Option<N>| v.unwrap_or(N::from_f64(0.0));
        match code {
            Code::Const(c) => Some(*c),
            Code::Read(e) => match e.locate(env) {
                Some(at) => Some(self.source.read(e.tensor, at)),
                None => {
                    self.outside.set(true);
                    None
                }
            },
            Code::Unary(Unary::Neg, a) => self.eval(a, env).map(|a| N::unary(Unary::Neg, a)),
            Code::Unary(f, a) => Some(N::unary(*f, number(self.eval(a, env)))),
            Code::Powf(a, n) => Some(number(self.eval(a, env)).powf(*n)),
            Code::Binary(f, a, b) => {
                let (a, b) = (self.eval(a, env), self.eval(b, env));
                match (f, a, b) {
                    (Binary::Mul, a, b) => Some(a?.mul(b?)),
                    (Binary::Div, None, _) | (Binary::Add | Binary::Sub, None, None) => None,
                    (Binary::Add, a, b) => Some(number(a).add(number(b))),
                    (Binary::Sub, a, b) => Some(number(a).sub(number(b))),
                    (f, a, b) => Some(N::binary(*f, number(a), number(b))),
                }
            }
            Code::Where(c, a, b) => self.eval(if self.test(c, env) { a } else { b }, env),
        }
    }
    fn test<N: Number>(&self, test: &Test<N>, env: &[i64]) -> bool
    where
        S: Source<N>,
    {
        let number = |v: Option<N>| v.unwrap_or(N::from_f64(0.0));
        match test {
            Test::Index(op, all, sides) => {
                let holds = |(a, b): &(Linear, Linear)| op.holds(&a.numerator(env), &b.numerator(env));
                if *all { sides.iter().all(holds) } else { sides.iter().any(holds) }
            }
            Test::Value(op, a, b) => N::compare(*op, number(self.eval(a, env)), number(self.eval(b, env))),
            Test::Inside(e) => e.locate(env).is_some(),
            Test::And(a, b) => self.test(a, env) && self.test(b, env),
            Test::Or(a, b) => self.test(a, env) || self.test(b, env),
            Test::Not(a) => !self.test(a, env),
        }
    }
}
