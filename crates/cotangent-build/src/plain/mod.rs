//! The plain IR: statements over loops of numbers. Takes ops bound to an instance ([`specialise`]), gives functions
//! whose every extent, stride and offset is a number.
//!
//! Holds after it: tensors are laid out in storage order; every access position is an affine map with numeric
//! coefficients; each position is proven in bounds or says which guards it needs, and what is read under guards stands
//! under masks ([`mask`]); no loop has the extent 1; what starts at zero is filled or wholly written first.

pub mod check;
pub mod cost;
pub mod eval;
pub mod gather;
mod inline;
mod instance;
pub mod mask;
pub mod merge;
mod number;
pub mod passes;
pub mod print;
mod segments;
pub mod signature;
pub mod specialise;
pub mod walk;
mod written;

pub use instance::bind;

use crate::index::bind::ParamValue;
use crate::index::{Binary, Compare, ReduceOp, Role, TensorId, Unary};
use crate::source::Span;
use crate::types::DType;

/// An op bound to sizes, layout and scalar type.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub op: String,
    pub name: String,
    pub dtype: DType,
    /// The extents of each axis of the op.
    pub extents: Vec<Vec<usize>>,
    /// The numbers of the op's parameters.
    pub params: Vec<ParamValue>,
    /// By the ids of the op.
    pub tensors: Vec<Tensor>,
    pub functions: Vec<Function>,
    /// The schedules that the instance asks for, by function.
    pub schedule: std::collections::BTreeMap<String, String>,
    /// Of a program: the entry points that it could have and nobody asks for.
    pub left_out: Vec<LeftOut>,
}

/// An entry point that is not made unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub name: &'static str,
    pub why: TooMuch,
}

/// What of an entry point is more than is made unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    /// Lines of code, estimated, and how many are not too many.
    Lines(u64, u64),
    /// Elements that come out, or that derivatives are by, likewise.
    Elements(usize, usize),
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TooMuch::Lines(n, most) => write!(f, "about {n} lines of code, unasked at most {most}"),
            TooMuch::Elements(n, most) => write!(f, "of {n} elements, unasked at most {most}"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub role: Role,
    /// Extents in storage order.
    pub shape: Vec<usize>,
    /// The names of the dimensions in storage order: `N`, `S.0`, `S.1`.
    pub dims: Vec<String>,
    /// Storage dimension of each dimension of the declaration.
    pub order: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Forward,
    Jvp,
    /// All inputs, or one. `store`: the first contribution is stored, not added.
    Vjp {
        input: Option<TensorId>,
        store: bool,
    },
    ValueAndGrad,
    Hvp,
    ValueGradAndHvp,
    Jacobian,
    Hessian,
    /// A part of another function, which a plan makes.
    Stage,
}

/// One entry point of a kernel, or a part of one.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub kind: Kind,
    /// Arguments that are read only, in order.
    pub reads: Vec<TensorId>,
    /// Arguments that are written, in order.
    pub writes: Vec<TensorId>,
    /// Those of them that hold values to add to.
    pub accumulated: Vec<TensorId>,
    /// Scratch tensors.
    pub locals: Vec<TensorId>,
    pub steps: Vec<Step>,
}

impl Kind {
    /// What an entry point is called; of an op the functions by one input too.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Forward => "forward",
            Kind::Jvp => "jvp",
            Kind::Vjp { .. } => "vjp",
            Kind::ValueAndGrad => "value_and_grad",
            Kind::Hvp => "hvp",
            Kind::ValueGradAndHvp => "value_grad_and_hvp",
            Kind::Jacobian => "jacobian",
            Kind::Hessian => "hessian",
            Kind::Stage => "stage",
        }
    }
}

impl Function {
    /// Whether it adds to its results.
    pub fn accumulates(&self) -> bool {
        self.kind != Kind::Stage && !self.accumulated.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Sets every element to zero.
    Fill(TensorId),
    Stmt(Stmt),
    Scan(Scan),
}

/// A recurrence: statements in order, again in each iteration. What an iteration reads of the tensors that are written
/// here, an earlier iteration wrote, or an earlier statement of the same iteration.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// Of the index along the axis.
    pub name: String,
    pub segments: Vec<Segment>,
}

/// Iterations that differ in nothing but their number, which counts from zero in each segment, whichever way the
/// recurrence runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub iterations: usize,
    pub body: Vec<Member>,
}

/// A statement of a recurrence.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The free variable that is the number of the iteration; none in a single iteration.
    pub iteration: Option<usize>,
    pub stmt: Stmt,
}

/// A loop variable of a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    pub name: String,
    pub extent: usize,
}

/// As [`crate::index::Stmt`], each variable one dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// Of the statement of the index IR that it is, or is a part of: one number in all functions of a kernel.
    pub number: usize,
    pub target: Access,
    pub accumulate: bool,
    /// Free variables first (`free` of them), then those that the reduction binds.
    pub vars: Vec<Var>,
    pub free: usize,
    pub reduce: Option<ReduceOp>,
    pub value: Expr,
    pub span: Span,
}

/// `constant + Σ coefficient * variable`; terms sorted by variable, none zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Linear {
    pub terms: Vec<(usize, i64)>,
    pub constant: i64,
}

/// One position of an access: `numerator / divisor`, with the guards that its ranges do not prove.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub numerator: Linear,
    pub divisor: i64,
    pub guard: Guard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Guard {
    /// May be negative.
    pub low: bool,
    /// May reach the extent.
    pub high: bool,
    /// The division may have a remainder.
    pub exact: bool,
}

impl Guard {
    pub fn any(self) -> bool {
        self.low || self.high || self.exact
    }
}

/// One element of a tensor, positions in storage order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    pub tensor: TensorId,
    pub positions: Vec<Position>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Const(f64),
    Read(Access),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Powf(Box<Expr>, f64),
    Where(Box<Cond>, Box<Expr>, Box<Expr>),
    /// The value where all masks hold. Elsewhere it is not evaluated: a reduction whose whole value it is passes over
    /// the coordinate, anything else sees the number 0.
    Masked(Vec<mask::Mask>, Box<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cond {
    Const(bool),
    Index(Compare, Linear, Linear),
    Value(Compare, Expr, Expr),
    /// Every guard of the access holds.
    Inside(Access),
    And(Box<Cond>, Box<Cond>),
    Or(Box<Cond>, Box<Cond>),
    Not(Box<Cond>),
}

impl Linear {
    pub fn constant(c: i64) -> Self {
        Linear { terms: Vec::new(), constant: c }
    }
    pub fn var(v: usize) -> Self {
        Linear { terms: vec![(v, 1)], constant: 0 }
    }
    pub fn new(terms: impl IntoIterator<Item = (usize, i64)>, constant: i64) -> Self {
        let mut map = std::collections::BTreeMap::new();
        for (v, c) in terms {
            *map.entry(v).or_insert(0) += c;
        }
        Linear { terms: map.into_iter().filter(|(_, c)| *c != 0).collect(), constant }
    }
    /// The coefficient of a variable.
    pub fn coefficient(&self, v: usize) -> i64 {
        self.terms.iter().find(|(w, _)| *w == v).map_or(0, |(_, c)| *c)
    }
    pub fn as_var(&self) -> Option<usize> {
        match self.terms.as_slice() {
            [(v, 1)] if self.constant == 0 => Some(*v),
            _ => None,
        }
    }
    /// Least and greatest value over the ranges of the variables.
    pub fn range(&self, extent: &impl Fn(usize) -> usize) -> (i64, i64) {
        self.terms.iter().fold((self.constant, self.constant), |(lo, hi), (v, c)| {
            let reach = c * (extent(*v) as i64 - 1);
            (lo + reach.min(0), hi + reach.max(0))
        })
    }
    /// Every variable replaced by a linear map.
    pub fn substitute(&self, f: &impl Fn(usize) -> Linear) -> Linear {
        let mut constant = self.constant;
        let mut terms = Vec::new();
        for (v, c) in &self.terms {
            let map = f(*v);
            constant += c * map.constant;
            terms.extend(map.terms.into_iter().map(|(w, k)| (w, c * k)));
        }
        Linear::new(terms, constant)
    }
    /// Every variable numbered anew.
    pub fn renamed(&self, number: &impl Fn(usize) -> usize) -> Linear {
        self.substitute(&|v| Linear::var(number(v)))
    }
    pub fn eval(&self, env: &[i64]) -> i64 {
        self.terms.iter().fold(self.constant, |sum, (v, c)| sum + c * env[*v])
    }
}

impl Position {
    /// With the guards that the ranges require; a common factor of the division is cancelled.
    pub fn new(numerator: Linear, divisor: i64, size: usize, extent: &impl Fn(usize) -> usize) -> Self {
        let (mut numerator, mut divisor) = if divisor < 0 {
            (numerator.substitute(&|v| Linear::new([(v, -1)], 0)), -divisor)
        } else {
            (numerator, divisor)
        };
        if divisor > 1 && numerator.constant % divisor == 0 && numerator.terms.iter().all(|(_, c)| c % divisor == 0) {
            numerator =
                Linear::new(numerator.terms.iter().map(|(v, c)| (*v, c / divisor)), numerator.constant / divisor);
            divisor = 1;
        }
        let (lo, hi) = numerator.range(extent);
        let guard = Guard { low: lo < 0, high: hi > (size as i64 - 1) * divisor, exact: divisor > 1 };
        Position { numerator, divisor, guard }
    }
    /// The coordinate in a dimension of so many elements, `None` outside.
    pub fn at(&self, size: usize, env: &[i64]) -> Option<usize> {
        let n = self.numerator.eval(env);
        let inside = n % self.divisor == 0 && (0..size as i64).contains(&(n / self.divisor));
        inside.then_some((n / self.divisor) as usize)
    }
    /// `Some(v)` when it is the variable itself.
    pub fn as_var(&self) -> Option<usize> {
        if self.divisor == 1 { self.numerator.as_var() } else { None }
    }
}

impl Access {
    pub fn guarded(&self) -> bool {
        self.positions.iter().any(|p| p.guard.any())
    }
    /// Every variable numbered anew, of the same extent as before.
    pub fn renamed(&self, number: &impl Fn(usize) -> usize) -> Access {
        let position = |p: &Position| Position { numerator: p.numerator.renamed(number), ..p.clone() };
        Access { tensor: self.tensor, positions: self.positions.iter().map(position).collect() }
    }
    pub fn vars(&self) -> impl Iterator<Item = usize> + '_ {
        self.positions.iter().flat_map(|p| p.numerator.terms.iter().map(|(v, _)| *v))
    }
}

impl Expr {
    /// One of two values, decided where the condition is.
    pub fn choose(c: Cond, a: Expr, b: Expr) -> Expr {
        match c {
            Cond::Const(true) => a,
            Cond::Const(false) => b,
            c => Expr::Where(Box::new(c), Box::new(a), Box::new(b)),
        }
    }
}

impl Cond {
    /// Decided here where the ranges of the variables decide it.
    pub fn compare(op: Compare, a: Linear, b: Linear, extent: &impl Fn(usize) -> usize) -> Cond {
        let difference =
            Linear::new(a.terms.iter().copied().chain(b.terms.iter().map(|(v, c)| (*v, -c))), a.constant - b.constant);
        let (lo, hi) = difference.range(extent);
        let (always, never) = match op {
            Compare::Lt => (hi < 0, lo >= 0),
            Compare::Le => (hi <= 0, lo > 0),
            Compare::Gt => (lo > 0, hi <= 0),
            Compare::Ge => (lo >= 0, hi < 0),
            Compare::Eq => (lo == 0 && hi == 0, lo > 0 || hi < 0),
            Compare::Ne => (lo > 0 || hi < 0, lo == 0 && hi == 0),
        };
        match (always, never) {
            (true, _) => Cond::Const(true),
            (_, true) => Cond::Const(false),
            _ => Cond::Index(op, a, b),
        }
    }
    pub fn and(self, other: Cond) -> Cond {
        match (self, other) {
            (Cond::Const(true), c) | (c, Cond::Const(true)) => c,
            (Cond::Const(false), _) | (_, Cond::Const(false)) => Cond::Const(false),
            (a, b) => Cond::And(Box::new(a), Box::new(b)),
        }
    }
    pub fn or(self, other: Cond) -> Cond {
        match (self, other) {
            (Cond::Const(false), c) | (c, Cond::Const(false)) => c,
            (Cond::Const(true), _) | (_, Cond::Const(true)) => Cond::Const(true),
            (a, b) => Cond::Or(Box::new(a), Box::new(b)),
        }
    }
    pub fn negated(self) -> Cond {
        match self {
            Cond::Const(b) => Cond::Const(!b),
            c => Cond::Not(Box::new(c)),
        }
    }
}

impl Step {
    /// The statements, in order.
    pub fn stmts(&self) -> Vec<&Stmt> {
        match self {
            Step::Fill(_) => Vec::new(),
            Step::Stmt(s) => vec![s],
            Step::Scan(scan) => scan.segments.iter().flat_map(|s| &s.body).map(|p| &p.stmt).collect(),
        }
    }
    /// Every tensor that it touches, some more than once.
    pub fn tensors(&self) -> Vec<TensorId> {
        let mut all = if let Step::Fill(t) = self { vec![*t] } else { Vec::new() };
        for s in self.stmts() {
            all.push(s.target.tensor);
            s.value.accesses(&mut |a| all.push(a.tensor));
        }
        all
    }
    /// The tensors that it writes.
    pub fn writes(&self) -> Vec<TensorId> {
        let fill = if let Step::Fill(t) = self { Some(*t) } else { None };
        fill.into_iter().chain(self.stmts().into_iter().map(|s| s.target.tensor)).collect()
    }
    /// Whether it reads or writes the tensor, or asks for the place of an element.
    pub fn touches(&self, t: TensorId) -> bool {
        *self == Step::Fill(t) || self.stmts().iter().any(|s| s.target.tensor == t || s.takes(t))
    }
    pub fn stmts_mut(&mut self) -> Vec<&mut Stmt> {
        match self {
            Step::Fill(_) => Vec::new(),
            Step::Stmt(s) => vec![s],
            Step::Scan(scan) => scan.segments.iter_mut().flat_map(|s| &mut s.body).map(|p| &mut p.stmt).collect(),
        }
    }
}

impl Stmt {
    /// Whether its value has an access of the tensor.
    pub fn takes(&self, t: TensorId) -> bool {
        let mut found = false;
        self.value.accesses(&mut |a| found |= a.tensor == t);
        found
    }
    /// Whether it writes every element of its target, each once.
    pub fn covers(&self, shape: &[usize]) -> bool {
        written_once(&[self]) == Some(shape.iter().map(|n| *n as u128).product())
    }
    /// The elements that it writes, where it writes each once and skips none: their coordinates in each storage
    /// dimension.
    fn progressions(&self) -> Option<Vec<Progression>> {
        let mut seen = Vec::new();
        let along = self.target.positions.iter().map(|p| match p.numerator.terms.as_slice() {
            _ if p.divisor != 1 || p.guard.any() => None,
            [] => Some(Progression { first: p.numerator.constant, step: 1, count: 1 }),
            terms => {
                // Digits of one number, the last first: each counts as many as the ones behind it make.
                let mut digits = terms.to_vec();
                digits.sort_by_key(|(_, c)| c.abs());
                let step = digits[0].1.abs();
                let (mut count, mut first) = (1, p.numerator.constant);
                for (v, c) in digits {
                    if seen.contains(&v) || c.abs() != step * count {
                        return None;
                    }
                    seen.push(v);
                    let extent = self.vars[v].extent as i64;
                    count *= extent;
                    // Counted from its lower end.
                    first += (c * (extent - 1)).min(0);
                }
                Some(Progression { first, step, count })
            }
        });
        let all: Option<Vec<_>> = along.collect();
        all.filter(|_| seen.len() == self.free)
    }
}

/// The coordinates `first + step * n` for n in `0..count`.
struct Progression {
    first: i64,
    step: i64,
    count: i64,
}

impl Progression {
    fn last(&self) -> i64 {
        self.first + self.step * (self.count - 1)
    }
    /// Whether no coordinate is of both; undecided counts as no.
    fn apart(&self, other: &Progression) -> bool {
        let common = gcd(self.step, other.step);
        (self.first - other.first) % common != 0 || self.last() < other.first || other.last() < self.first
    }
}

/// How many elements of one tensor the statements write, where they write each once, all of them together; `None` where
/// that is not so or cannot be seen from the targets.
pub fn written_once(stmts: &[&Stmt]) -> Option<u128> {
    let all: Vec<Vec<Progression>> = stmts.iter().map(|s| s.progressions()).collect::<Option<_>>()?;
    let apart = |a: &[Progression], b: &[Progression]| a.iter().zip(b).any(|(a, b)| a.apart(b));
    let distinct = all.iter().enumerate().all(|(n, a)| all[..n].iter().all(|b| apart(a, b)));
    distinct.then(|| all.iter().map(|a| a.iter().map(|p| p.count as u128).product::<u128>()).sum())
}

/// The greatest common divisor of two numbers that are not negative.
fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Kernel {
    pub fn tensor(&self, t: TensorId) -> &Tensor {
        &self.tensors[t.0]
    }
}

impl Tensor {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
