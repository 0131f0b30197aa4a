//! Straight-line code: takes the functions of a kernel whose loops are short, gives nests without loops, where every element is a number of its own and what
//! is common is computed once.
//!
//! Holds after it: the same results for finite numbers, the sign of a zero aside. What a value is computed by depends on its formula alone, not on
//! what else is computed or how often it is used: so it has the same bits in every function of the kernel. Both sides of a `where` may be
//! computed, and one is then chosen: nothing traps, and nothing of the other side is seen.

use super::machine::Machine;
use super::*;
use crate::index::eval::Number;
use crate::plain::{self, Cond, Expr, Function, Step, Stmt, eval::locate};
use crate::spec::DType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most operations of a function: what does not fit the instruction cache is better a loop, and big functions are slow to compile.
const MOST: u64 = 2000;
/// The most elements that results may have.
const MOST_WRITES: u64 = 1024;
/// The most operations that are unrolled to see what remains of them.
const MOST_UNROLLED: u64 = 40_000;
/// Straight-line code is taken where it needs at most this part of the operations that loops need, a full vector counted as one, and
const PAYS: f64 = 0.5;
/// where it saves so many: what is small either way keeps its loops.
const SAVES: f64 = 32.0;
/// A division or a square root, in operations.
const DIVISION: u64 = 4;
/// A function such as `sin`, in operations; so many lanes of it at once cost the same.
const FUNCTION: u64 = 16;
/// Expressions are nested no deeper than this, for the sake of readers and compilers.
const DEEPEST: usize = 6;

/// A value of a graph.
type Id = usize;

/// How a value is made of others. Constants are kept by their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    Const(u64),
    /// An element of an argument, in storage order.
    Load(TensorId, usize),
    Unary(Unary, Id),
    Binary(Binary, Id, Id),
    Powf(Id, u64),
    /// `a * b + c`, the product negated where `minus`, `c` where `less`.
    Fused {
        minus: bool,
        a: Id,
        b: Id,
        less: bool,
        c: Id,
    },
    Select(Test, Id, Id),
}

/// The condition of a choice, by its place among the conditions of the graph.
type Test = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Compare(Compare, Id, Id),
    And(Test, Test),
    Or(Test, Test),
    Not(Test),
}

/// A condition, decided or not.
#[derive(Clone, Copy)]
enum Decided {
    Known(bool),
    Asked(Test),
}

/// What an element holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Unset,
    Set(Id),
    /// What was there, and this.
    Added(Id),
}

/// A function as a graph: every value once, each after those that it is made of.
pub struct Graph<'a> {
    kernel: &'a Kernel,
    function: &'a Function,
    ops: Vec<Op>,
    ids: HashMap<Op, Id>,
    tests: Vec<Asked>,
    asked: HashMap<Asked, Test>,
    cells: BTreeMap<TensorId, Vec<Cell>>,
    /// Something is computed from a number that is infinite here already, as an extremum over nothing is: no rule below holds for that.
    infinite: bool,
}

/// What cannot be unrolled is left to loops.
struct Unfit;

/// The graphs of all functions of a kernel, where straight-line code pays: all or none, so that a value has the same bits in each.
pub fn graphs(kernel: &Kernel) -> Option<Vec<Graph<'_>>> {
    if !kernel.schedule.is_empty() {
        return None;
    }
    let (mut loops, mut straight) = (0.0, 0.0);
    let mut graphs = Vec::new();
    for f in &kernel.functions {
        let g = Graph::of(kernel, f)?;
        loops += in_loops(kernel, f).1;
        straight += g.operations() as f64;
        graphs.push(g);
    }
    (straight <= PAYS * loops && straight + SAVES <= loops).then_some(graphs)
}

/// The graph of a Jacobian or a Hessian, where straight-line code pays: most of it is numbers that loops would not see to be zero.
pub fn dense<'a>(kernel: &'a Kernel, f: &'a Function) -> Option<Graph<'a>> {
    if !matches!(f.kind, Kind::Jacobian | Kind::Hessian) || kernel.schedule.contains_key(&f.name) {
        return None;
    }
    let g = Graph::of(kernel, f)?;
    let (loops, straight) = (in_loops(kernel, f).1, g.operations() as f64);
    (straight <= PAYS * loops && straight + SAVES <= loops).then_some(g)
}

/// The operations of a function in loops: one by one, and with those of a full vector of 32 bytes as one.
fn in_loops(kernel: &Kernel, f: &Function) -> (u64, f64) {
    let lanes = 32 / if kernel.dtype == DType::F32 { 4 } else { 8 };
    let (mut all, mut vectors) = (0u64, 0.0);
    for step in &f.steps {
        let Step::Stmt(s) = step else { continue };
        let turns = s.vars.iter().fold(1u64, |n, v| n.saturating_mul(v.extent as u64));
        // And one that puts it where it belongs.
        let each = weight(&s.value) + 1;
        all = all.saturating_add(turns.saturating_mul(each));
        // Along the storage of the target, or along a sum.
        let last = s.target.positions.last();
        let along = |v: usize| v >= s.free || last.is_some_and(|p| p.numerator.coefficient(v).abs() == 1);
        let speed = |v: usize| {
            let extent = s.vars[v].extent;
            let width = lanes.min(1 << extent.ilog2());
            extent as f64 / extent.div_ceil(width) as f64
        };
        let best = (0..s.vars.len()).filter(|v| along(*v)).map(speed).fold(1.0, f64::max);
        vectors += turns as f64 * each as f64 / best;
    }
    (all, vectors)
}

fn weight(e: &Expr) -> u64 {
    match e {
        Expr::Const(_) | Expr::Read(_) => 0,
        Expr::Unary(f, a) => cost_of(*f) + weight(a),
        Expr::Powf(a, n) => weight(a) + if n.fract() == 0.0 { 1 } else { FUNCTION },
        Expr::Binary(f, a, b) => weight(a) + weight(b) + cost_of_two(*f),
        Expr::Where(c, a, b) => 1 + weight_of_test(c) + weight(a) + weight(b),
    }
}

fn weight_of_test(c: &Cond) -> u64 {
    match c {
        Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => 0,
        Cond::Value(_, a, b) => 1 + weight(a) + weight(b),
        Cond::And(a, b) | Cond::Or(a, b) => weight_of_test(a) + weight_of_test(b),
        Cond::Not(a) => weight_of_test(a),
    }
}

fn cost_of(f: Unary) -> u64 {
    match f {
        Unary::Neg => 0,
        Unary::Abs | Unary::Sign | Unary::Floor => 1,
        Unary::Sqrt | Unary::Rsqrt => DIVISION,
        _ => FUNCTION,
    }
}

fn cost_of_two(f: Binary) -> u64 {
    match f {
        Binary::Div => DIVISION,
        Binary::Pow | Binary::Atan2 => FUNCTION,
        _ => 1,
    }
}

impl<'a> Graph<'a> {
    /// A function as a graph; `None` where that is left to loops.
    pub fn of(kernel: &'a Kernel, function: &'a Function) -> Option<Self> {
        let elements = |all: &[TensorId]| all.iter().map(|t| kernel.tensor(*t).elements() as u64).sum::<u64>();
        let written = elements(&function.writes);
        if in_loops(kernel, function).0 > MOST_UNROLLED
            || written > MOST_WRITES
            || elements(&function.locals) > MOST_UNROLLED
        {
            return None;
        }
        Graph::new(kernel, function).ok().filter(|g| g.operations() <= MOST)
    }

    fn new(kernel: &'a Kernel, function: &'a Function) -> Result<Self, Unfit> {
        let cells = function.writes.iter().chain(&function.locals);
        let cells = cells.map(|t| (*t, vec![Cell::Unset; kernel.tensor(*t).elements()])).collect();
        let (ids, asked) = (HashMap::new(), HashMap::new());
        let mut g = Graph { kernel, function, ops: Vec::new(), ids, tests: Vec::new(), asked, cells, infinite: false };
        for step in &function.steps {
            match step {
                Step::Fill(t) => {
                    let zero = g.constant(0.0);
                    g.cells.get_mut(t).ok_or(Unfit)?.fill(Cell::Set(zero));
                }
                Step::Stmt(s) => g.stmt(s)?,
                // A recurrence stays a loop.
                Step::Scan(_) => return Err(Unfit),
            }
        }
        if g.infinite { Err(Unfit) } else { Ok(g) }
    }

    fn stmt(&mut self, s: &Stmt) -> Result<(), Unfit> {
        let mut env = vec![0i64; s.vars.len()];
        let mut written = Vec::new();
        loop {
            if let Some(at) = locate(&s.target, &self.kernel.tensor(s.target.tensor).shape, &env) {
                let v = match s.reduce {
                    None => self.expr(&s.value, &env)?,
                    Some(r) => self.reduce(s, r, &mut env)?,
                };
                written.push((at, v.unwrap_or_else(|| self.constant(0.0))));
            }
            if !turn(&s.vars, 0..s.free, &mut env) {
                break;
            }
        }
        // A statement reads what others have left, not what its own earlier turns have.
        for (at, v) in written {
            let old = self.cells.get(&s.target.tensor).ok_or(Unfit)?[at];
            let new = match (old, s.accumulate) {
                (_, false) => Cell::Set(v),
                (Cell::Unset, true) if self.function.locals.contains(&s.target.tensor) => return Err(Unfit),
                (Cell::Unset, true) => Cell::Added(v),
                (Cell::Set(a), true) => Cell::Set(self.add(a, v)),
                (Cell::Added(a), true) => Cell::Added(self.add(a, v)),
            };
            self.cells.get_mut(&s.target.tensor).ok_or(Unfit)?[at] = new;
        }
        Ok(())
    }

    /// The value of a reduction, in the order of its loops.
    fn reduce(&mut self, s: &Stmt, r: ReduceOp, env: &mut [i64]) -> Result<Option<Id>, Unfit> {
        let mut total: Option<Id> = None;
        env[s.free..].fill(0);
        loop {
            let skipped = r.skips_outside() && self.outside(&s.value, env)?;
            if !skipped {
                let v = self.expr(&s.value, env)?;
                total = match (r, total, v) {
                    (ReduceOp::Sum, total, None) => total,
                    (_, None, v) => Some(v.unwrap_or_else(|| self.constant(0.0))),
                    (ReduceOp::Sum, Some(a), Some(v)) => Some(self.add(a, v)),
                    (r, Some(a), v) => {
                        let v = v.unwrap_or_else(|| self.constant(0.0));
                        Some(match r {
                            ReduceOp::Max => self.binary(Binary::Max, a, v),
                            ReduceOp::Min => self.binary(Binary::Min, a, v),
                            _ => self.mul(a, v),
                        })
                    }
                };
            }
            if !turn(&s.vars, s.free..s.vars.len(), env) {
                break;
            }
        }
        env[s.free..].fill(0);
        Ok(Some(total.unwrap_or_else(|| self.constant(r.identity()))))
    }

    /// A value; `None` where it is absent.
    fn expr(&mut self, e: &Expr, env: &[i64]) -> Result<Option<Id>, Unfit> {
        Ok(match e {
            Expr::Const(c) => Some(self.constant(*c)),
            Expr::Read(a) => match locate(a, &self.kernel.tensor(a.tensor).shape, env) {
                None => None,
                Some(at) => Some(match self.cells.get(&a.tensor) {
                    None => self.intern(Op::Load(a.tensor, at)),
                    Some(cells) => match cells[at] {
                        Cell::Set(v) => v,
                        Cell::Unset | Cell::Added(_) => return Err(Unfit),
                    },
                }),
            },
            Expr::Unary(Unary::Neg, a) => self.expr(a, env)?.map(|a| self.neg(a)),
            Expr::Unary(f, a) => {
                let a = self.number(a, env)?;
                Some(self.unary(*f, a))
            }
            Expr::Powf(a, n) => {
                let a = self.number(a, env)?;
                Some(self.powf(a, *n))
            }
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.expr(a, env)?, self.expr(b, env)?);
                match (f, a, b) {
                    (Binary::Mul, a, b) => match (a, b) {
                        (Some(a), Some(b)) => Some(self.mul(a, b)),
                        _ => None,
                    },
                    (Binary::Div, None, _) | (Binary::Add | Binary::Sub, None, None) => None,
                    (f, a, b) => {
                        let zero = self.constant(0.0);
                        Some(self.binary(*f, a.unwrap_or(zero), b.unwrap_or(zero)))
                    }
                }
            }
            Expr::Where(c, a, b) => match self.cond(c, env)? {
                Decided::Known(true) => self.expr(a, env)?,
                Decided::Known(false) => self.expr(b, env)?,
                Decided::Asked(t) => match (self.expr(a, env)?, self.expr(b, env)?) {
                    (Some(a), Some(b)) => Some(self.select(t, a, b)),
                    (None, None) => None,
                    // Whether it is present is known at run time only.
                    _ => return Err(Unfit),
                },
            },
        })
    }

    /// A value that counts as zero where it is absent.
    fn number(&mut self, e: &Expr, env: &[i64]) -> Result<Id, Unfit> {
        Ok(self.expr(e, env)?.unwrap_or_else(|| self.constant(0.0)))
    }

    fn cond(&mut self, c: &Cond, env: &[i64]) -> Result<Decided, Unfit> {
        use Decided::{Asked as Open, Known};
        Ok(match c {
            Cond::Const(b) => Known(*b),
            Cond::Index(op, a, b) => Known(op.holds(&a.eval(env), &b.eval(env))),
            Cond::Inside(a) => Known(locate(a, &self.kernel.tensor(a.tensor).shape, env).is_some()),
            Cond::Value(op, a, b) => {
                let (a, b) = (self.number(a, env)?, self.number(b, env)?);
                match (self.known(a), self.known(b)) {
                    (Some(a), Some(b)) => Known(op.holds(&a, &b)),
                    _ => Open(self.ask(Asked::Compare(*op, a, b))),
                }
            }
            Cond::And(a, b) => match self.cond(a, env)? {
                Known(false) => Known(false),
                Known(true) => self.cond(b, env)?,
                Open(a) => match self.cond(b, env)? {
                    Known(false) => Known(false),
                    Known(true) => Open(a),
                    Open(b) => Open(self.ask(Asked::And(a, b))),
                },
            },
            Cond::Or(a, b) => match self.cond(a, env)? {
                Known(true) => Known(true),
                Known(false) => self.cond(b, env)?,
                Open(a) => match self.cond(b, env)? {
                    Known(true) => Known(true),
                    Known(false) => Open(a),
                    Open(b) => Open(self.ask(Asked::Or(a, b))),
                },
            },
            Cond::Not(a) => match self.cond(a, env)? {
                Known(b) => Known(!b),
                Open(a) => Open(self.ask(Asked::Not(a))),
            },
        })
    }

    /// Whether a read that the evaluation meets falls outside.
    fn outside(&mut self, e: &Expr, env: &[i64]) -> Result<bool, Unfit> {
        Ok(match e {
            Expr::Const(_) => false,
            Expr::Read(a) => locate(a, &self.kernel.tensor(a.tensor).shape, env).is_none(),
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.outside(a, env)?,
            Expr::Binary(_, a, b) => self.outside(a, env)? || self.outside(b, env)?,
            Expr::Where(c, a, b) => {
                self.outside_test(c, env)? || {
                    match self.cond(c, env)? {
                        Decided::Known(taken) => self.outside(if taken { a } else { b }, env)?,
                        Decided::Asked(_) => match (self.outside(a, env)?, self.outside(b, env)?) {
                            (a, b) if a == b => a,
                            _ => return Err(Unfit),
                        },
                    }
                }
            }
        })
    }

    fn outside_test(&mut self, c: &Cond, env: &[i64]) -> Result<bool, Unfit> {
        Ok(match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => false,
            Cond::Value(_, a, b) => self.outside(a, env)? || self.outside(b, env)?,
            // The second side is met only where the first does not decide.
            Cond::And(a, b) | Cond::Or(a, b) => {
                self.outside_test(a, env)?
                    || match self.cond(a, env)? {
                        Decided::Known(holds) => holds == matches!(c, Cond::And(..)) && self.outside_test(b, env)?,
                        Decided::Asked(_) if self.outside_test(b, env)? => return Err(Unfit),
                        Decided::Asked(_) => false,
                    }
            }
            Cond::Not(a) => self.outside_test(a, env)?,
        })
    }

    fn intern(&mut self, op: Op) -> Id {
        let next = self.ops.len();
        let id = *self.ids.entry(op).or_insert(next);
        if id == next {
            self.ops.push(op);
        }
        id
    }

    fn ask(&mut self, asked: Asked) -> Test {
        let next = self.tests.len();
        let id = *self.asked.entry(asked).or_insert(next);
        if id == next {
            self.tests.push(asked);
        }
        id
    }

    fn constant(&mut self, c: f64) -> Id {
        self.infinite |= c.is_nan();
        // One zero for both signs.
        self.intern(Op::Const((c + 0.0).to_bits()))
    }

    fn known(&self, v: Id) -> Option<f64> {
        match self.ops[v] {
            Op::Const(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Both values, where both are known; notes what is infinite.
    fn both(&mut self, a: Id, b: Id) -> Option<(f64, f64)> {
        let (a, b) = (self.known(a), self.known(b));
        self.infinite |= [a, b].into_iter().flatten().any(|c| !c.is_finite());
        a.zip(b)
    }

    fn is(&self, v: Id, c: f64) -> bool {
        self.known(v) == Some(c)
    }

    fn negated(&self, v: Id) -> Option<Id> {
        match self.ops[v] {
            Op::Unary(Unary::Neg, a) => Some(a),
            _ => None,
        }
    }

    fn product(&self, v: Id) -> Option<(Id, Id)> {
        match self.ops[v] {
            Op::Binary(Binary::Mul, a, b) => Some((a, b)),
            _ => None,
        }
    }

    fn neg(&mut self, a: Id) -> Id {
        match self.ops[a] {
            Op::Const(c) => self.constant(-f64::from_bits(c)),
            Op::Unary(Unary::Neg, a) => a,
            Op::Binary(Binary::Sub, a, b) => self.intern(Op::Binary(Binary::Sub, b, a)),
            Op::Fused { minus, a, b, less, c } => self.intern(Op::Fused { minus: !minus, a, b, less: !less, c }),
            _ => self.intern(Op::Unary(Unary::Neg, a)),
        }
    }

    fn add(&mut self, a: Id, b: Id) -> Id {
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
            (_, Some((x, y))) => self.intern(Op::Fused { minus: false, a: x, b: y, less: false, c: a }),
            (Some((x, y)), None) => self.intern(Op::Fused { minus: false, a: x, b: y, less: false, c: b }),
            (None, None) => self.intern(Op::Binary(Binary::Add, a.min(b), a.max(b))),
        }
    }

    fn sub(&mut self, a: Id, b: Id) -> Id {
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
            (_, Some((x, y))) => self.intern(Op::Fused { minus: true, a: x, b: y, less: false, c: a }),
            (Some((x, y)), None) => self.intern(Op::Fused { minus: false, a: x, b: y, less: true, c: b }),
            (None, None) => self.intern(Op::Binary(Binary::Sub, a, b)),
        }
    }

    fn mul(&mut self, a: Id, b: Id) -> Id {
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
        self.intern(Op::Binary(Binary::Mul, a.min(b), a.max(b)))
    }

    fn div(&mut self, a: Id, b: Id) -> Id {
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
        self.intern(Op::Binary(Binary::Div, a, b))
    }

    fn binary(&mut self, f: Binary, a: Id, b: Id) -> Id {
        match f {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            Binary::Min | Binary::Max if a == b => a,
            f => match (self.known(a), self.known(b)) {
                (Some(a), Some(b)) if matches!(f, Binary::Min | Binary::Max) => self.constant(f64::binary(f, a, b)),
                _ => self.intern(Op::Binary(f, a, b)),
            },
        }
    }

    fn unary(&mut self, f: Unary, a: Id) -> Id {
        let exact = matches!(f, Unary::Abs | Unary::Sign | Unary::Floor | Unary::Sqrt);
        self.infinite |= f != Unary::Neg && self.known(a).is_some_and(|c| !c.is_finite());
        match (f, self.known(a)) {
            (Unary::Neg, _) => self.neg(a),
            (f, Some(c)) if exact => self.constant(f64::unary(f, c)),
            (f, _) => self.intern(Op::Unary(f, a)),
        }
    }

    /// Small powers as products, as the runtime computes them.
    fn powf(&mut self, a: Id, n: f64) -> Id {
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
            self.intern(Op::Powf(a, n.to_bits()))
        }
    }

    fn select(&mut self, t: Test, a: Id, b: Id) -> Id {
        if a == b { a } else { self.intern(Op::Select(t, a, b)) }
    }

    /// The values that one is made of, those of its conditions included.
    fn parts(&self, v: Id) -> Vec<Id> {
        match self.ops[v] {
            Op::Const(_) | Op::Load(..) => Vec::new(),
            Op::Unary(_, a) | Op::Powf(a, _) => vec![a],
            Op::Binary(_, a, b) => vec![a, b],
            Op::Fused { a, b, c, .. } => vec![a, b, c],
            Op::Select(t, a, b) => {
                let mut all = Vec::new();
                self.compared(t, &mut all);
                all.extend([a, b]);
                all
            }
        }
    }

    fn compared(&self, t: Test, out: &mut Vec<Id>) {
        match self.tests[t] {
            Asked::Compare(_, a, b) => out.extend([a, b]),
            Asked::And(a, b) | Asked::Or(a, b) => {
                self.compared(a, out);
                self.compared(b, out);
            }
            Asked::Not(a) => self.compared(a, out),
        }
    }

    /// The results: which element, how it is written, its value; in storage order.
    fn results(&self) -> Vec<(TensorId, usize, Update, Id)> {
        let mut out = Vec::new();
        for t in &self.function.writes {
            for (at, cell) in self.cells[t].iter().enumerate() {
                match cell {
                    Cell::Unset => {}
                    Cell::Set(v) => out.push((*t, at, Update::Set, *v)),
                    Cell::Added(v) if self.is(*v, 0.0) => {}
                    Cell::Added(v) => out.push((*t, at, Update::Reduce(ReduceOp::Sum), *v)),
                }
            }
        }
        out
    }

    /// The values that the results need.
    fn live(&self) -> BTreeSet<Id> {
        let mut live: BTreeSet<Id> = BTreeSet::new();
        let mut open: Vec<Id> = self.results().into_iter().map(|(.., v)| v).collect();
        while let Some(v) = open.pop() {
            if live.insert(v) {
                open.extend(self.parts(v));
            }
        }
        live
    }

    /// The operations that the results need, one for each that is written, functions of one kind batched by four.
    fn operations(&self) -> u64 {
        let live = self.live();
        let single = |v: &Id| match self.ops[*v] {
            Op::Const(_) | Op::Load(..) => 0,
            Op::Unary(f, _) if batches(f) => 0,
            Op::Unary(f, _) => cost_of(f),
            Op::Powf(..) => FUNCTION,
            Op::Binary(f, ..) => cost_of_two(f),
            Op::Fused { .. } => 1,
            Op::Select(..) => 2,
        };
        let batches: u64 = self.batches(&live, 4).iter().map(|_| FUNCTION).sum();
        let results = self.results();
        let zeros = results.iter().filter(|(.., v)| self.is(*v, 0.0)).count();
        // Zeros are filled in, several at a time.
        let written = (results.len() - zeros + zeros.div_ceil(4)) as u64;
        live.iter().map(single).sum::<u64>() + batches + written
    }

    /// Calls of one function that do not depend on each other, at most `width` together, one alone included.
    fn batches(&self, live: &BTreeSet<Id>, width: usize) -> Vec<Vec<Id>> {
        // How many functions in a row lead to a value: what has the same number cannot depend on each other.
        let mut level: HashMap<Id, usize> = HashMap::new();
        let mut groups: BTreeMap<(usize, usize), Vec<Id>> = BTreeMap::new();
        for v in live {
            let below = self.parts(*v).iter().map(|p| level[p]).max().unwrap_or(0);
            let own = match self.ops[*v] {
                Op::Unary(f, _) if batches(f) => {
                    groups.entry((below, f as usize)).or_default().push(*v);
                    1
                }
                _ => 0,
            };
            level.insert(*v, below + own);
        }
        let argument = |v: &Id| self.parts(*v)[0];
        groups.values_mut().for_each(|g| g.sort_by_key(argument));
        groups.values().flat_map(|g| g.chunks(width)).map(<[Id]>::to_vec).collect()
    }

    /// The nest for a class of machines.
    pub fn nest(&self, machine: &'static Machine) -> Nest {
        let f = self.function;
        let live = self.live();
        let size = if self.kernel.dtype == DType::F32 { 4 } else { 8 };
        let mut batch: BTreeMap<Id, (Id, usize)> = BTreeMap::new();
        let mut groups: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for group in self.batches(&live, (machine.bytes / size).max(1)) {
            if group.len() > 1 {
                batch.extend(group.iter().enumerate().map(|(lane, v)| (*v, (group[0], lane))));
                groups.insert(group[0], group);
            }
        }
        let results = self.results();
        let mut uses: HashMap<Id, usize> = HashMap::new();
        let needed = live.iter().flat_map(|v| self.parts(*v)).chain(results.iter().map(|(.., v)| *v));
        needed.for_each(|v| *uses.entry(v).or_insert(0) += 1);
        let nest = Nest {
            name: f.name.clone(),
            kind: f.kind,
            machines: vec![machine],
            notes: vec![format!(
                "straight line: {} operations, {} as loops",
                self.operations(),
                in_loops(self.kernel, f).1.round()
            )],
            reads: f.reads.clone(),
            writes: f.writes.clone(),
            locals: Vec::new(),
            vars: Vec::new(),
            registers: Vec::new(),
            body: Vec::new(),
        };
        let (registers, depth) = (HashMap::new(), HashMap::new());
        let mut w = Writer { g: self, nest, batch, groups, uses, registers, depth };
        for step in &f.steps {
            let node = match step {
                Step::Fill(t) => Node::Comment(format!("{} = 0", self.kernel.tensor(*t).name), None),
                Step::Stmt(s) => Node::Comment(plain::print::stmt(&self.kernel.tensors, s), Some(s.span)),
                Step::Scan(_) => unreachable!("a function with a recurrence has no graph"),
            };
            w.nest.body.push(node);
        }
        // Mostly zeros: filled, and the others set after it.
        let mut filled = BTreeSet::new();
        for t in &f.writes {
            let own = || results.iter().filter(|(r, _, how, _)| r == t && *how == Update::Set);
            let zeros = own().filter(|(.., v)| self.is(*v, 0.0)).count();
            if zeros > 1 && 2 * zeros > own().count() && own().count() == self.kernel.tensor(*t).elements() {
                w.nest.body.push(Node::Fill(*t));
                filled.insert(*t);
            }
        }
        for (t, at, how, v) in results {
            if filled.contains(&t) && self.is(v, 0.0) {
                continue;
            }
            w.need(v);
            let value = w.value(v);
            w.nest.body.push(Node::Update { place: Place::Element(self.access(t, at)), how, value });
        }
        w.nest
    }

    fn access(&self, t: TensorId, flat: usize) -> Access {
        let mut rest = flat;
        let mut at: Vec<usize> = Vec::new();
        for n in self.kernel.tensor(t).shape.iter().rev() {
            at.push(rest % n);
            rest /= n;
        }
        at.reverse();
        let position = |n: &usize| Position { numerator: Linear::constant(*n as i64), divisor: 1, guarded: false };
        Access { tensor: t, positions: at.iter().map(position).collect(), joined: vec![1; at.len()] }
    }
}

fn mantissa(c: f64) -> u64 {
    c.to_bits() & ((1 << 52) - 1)
}

/// Whether several calls of the function are worth one on lanes.
fn batches(f: Unary) -> bool {
    cost_of(f) == FUNCTION
}

/// The next setting of some variables; `false` after the last.
fn turn(vars: &[plain::Var], range: std::ops::Range<usize>, env: &mut [i64]) -> bool {
    for v in range.rev() {
        env[v] += 1;
        if (env[v] as usize) < vars[v].extent {
            return true;
        }
        env[v] = 0;
    }
    false
}

struct Writer<'g, 'a> {
    g: &'g Graph<'a>,
    nest: Nest,
    /// The first value of the batch that one is in, and its lane.
    batch: BTreeMap<Id, (Id, usize)>,
    groups: BTreeMap<Id, Vec<Id>>,
    uses: HashMap<Id, usize>,
    /// Where a value is: of a batch, that of its first.
    registers: HashMap<Id, RegisterId>,
    /// How deep the expression of a value is.
    depth: HashMap<Id, usize>,
}

impl Writer<'_, '_> {
    /// Writes what a value needs before it, each after what it needs itself: deepest first, so that values are short-lived.
    fn need(&mut self, v: Id) {
        let mut open = vec![(v, false)];
        while let Some((v, ready)) = open.pop() {
            let first = self.batch.get(&v).map_or(v, |(first, _)| *first);
            if self.depth.contains_key(&first) {
                continue;
            }
            if ready {
                self.write(first);
                continue;
            }
            open.push((first, true));
            let own = [first];
            let members = self.groups.get(&first).map_or(own.as_slice(), Vec::as_slice);
            open.extend(members.iter().flat_map(|m| self.g.parts(*m)).rev().map(|p| (p, false)));
        }
    }

    /// A value whose parts are written: a register, or part of the expressions that use it.
    fn write(&mut self, v: Id) {
        if let Some(group) = self.groups.get(&v).cloned() {
            self.write_batch(&group);
            if let Some(other) = self.other_half(&group) {
                self.write_batch(&other);
            }
            return;
        }
        let depth = 1 + self.g.parts(v).iter().map(|p| self.depth[p]).max().unwrap_or(0);
        // A sign is part of the instruction that takes it.
        let free = match self.g.ops[v] {
            Op::Const(_) | Op::Load(..) => true,
            Op::Unary(Unary::Neg, _) => depth < DEEPEST,
            _ => self.uses.get(&v).is_some_and(|n| *n == 1) && depth < DEEPEST,
        };
        if free {
            self.depth.insert(v, depth);
            return;
        }
        let value = self.formula(v);
        let register = self.register("v", None, value);
        self.registers.insert(v, register);
        self.depth.insert(v, 0);
    }

    /// The sines of the same angles as these cosines, or the other way round: side by side they are one function.
    fn other_half(&self, group: &[Id]) -> Option<Vec<Id>> {
        let function = |g: &[Id]| match self.g.ops[g[0]] {
            Op::Unary(f, _) => f,
            _ => unreachable!("batches are of functions"),
        };
        let arguments = |g: &[Id]| g.iter().map(|v| self.g.parts(*v)[0]).collect::<Vec<_>>();
        let wanted = match function(group) {
            Unary::Sin => Unary::Cos,
            Unary::Cos => Unary::Sin,
            _ => return None,
        };
        let same = |g: &&Vec<Id>| function(g) == wanted && arguments(g) == arguments(group);
        self.groups.values().find(same).filter(|g| !self.depth.contains_key(&g[0])).cloned()
    }

    fn write_batch(&mut self, group: &[Id]) {
        let Op::Unary(f, _) = self.g.ops[group[0]] else { unreachable!("batches are of functions") };
        let mut arguments: Vec<Id> = group.iter().map(|v| self.g.parts(*v)[0]).collect();
        let lanes = arguments.len().next_power_of_two();
        arguments.resize(lanes, arguments[arguments.len() - 1]);
        let value = Value::Each(f, arguments.iter().map(|a| self.value(*a)).collect());
        let register = self.register("f", Some(lanes), value);
        self.registers.insert(group[0], register);
        group.iter().for_each(|v| _ = self.depth.insert(*v, 0));
    }

    fn register(&mut self, name: &str, lanes: Option<usize>, value: Value) -> RegisterId {
        let register = self.nest.registers.len();
        self.nest.registers.push(Register { name: name.to_string(), lanes, dims: Vec::new() });
        self.nest.body.push(Node::Init { register, value });
        register
    }

    /// A value that is written: its register, or its formula.
    fn value(&self, v: Id) -> Value {
        if let Some((first, lane)) = self.batch.get(&v) {
            return Value::Lane(self.registers[first].into(), *lane);
        }
        match self.registers.get(&v) {
            Some(r) => Value::register(*r),
            None => self.formula(v),
        }
    }

    fn formula(&self, v: Id) -> Value {
        let value = |v: Id| Box::new(self.value(v));
        let signed = |minus: bool, v: Id| match (minus, self.g.known(v)) {
            (true, Some(c)) => Box::new(Value::Const(-c)),
            (true, None) => Box::new(Value::Unary(Unary::Neg, value(v))),
            (false, _) => value(v),
        };
        match self.g.ops[v] {
            Op::Const(bits) => Value::Const(f64::from_bits(bits)),
            Op::Load(t, at) => Value::Load(self.g.access(t, at)),
            Op::Unary(f, a) => Value::Unary(f, value(a)),
            Op::Binary(f, a, b) => Value::Binary(f, value(a), value(b)),
            Op::Powf(a, n) => Value::Powf(value(a), f64::from_bits(n)),
            Op::Fused { minus, a, b, less, c } => Value::Fused(signed(minus, a), value(b), signed(less, c)),
            Op::Select(t, a, b) => Value::Select(Box::new(self.test(t)), value(a), value(b)),
        }
    }

    fn test(&self, t: Test) -> super::Test {
        match self.g.tests[t] {
            Asked::Compare(op, a, b) => super::Test::Value(op, self.value(a), self.value(b)),
            Asked::And(a, b) => super::Test::And(vec![self.test(a), self.test(b)]),
            Asked::Or(a, b) => super::Test::Or(vec![self.test(a), self.test(b)]),
            Asked::Not(a) => super::Test::Not(Box::new(self.test(a))),
        }
    }
}
