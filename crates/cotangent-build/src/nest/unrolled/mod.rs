//! Unrolled code: takes the functions of a kernel whose loops are short, gives nests without loops, where every
//! element is a number of its own and what is common is computed once.
//!
//! Holds after it: the same results for finite numbers, the sign of a zero aside. What a value is computed by depends
//! on its formula alone, not on what else is computed or how often it is used: so it has the same bits in every
//! function of the kernel. Both sides of a `where` may be computed, and one is then chosen: nothing traps, and nothing
//! of the other side is seen.

mod algebra;
mod unroll;
mod write;

use super::machine::Machine;
use super::*;
use crate::functions::Cost;
use crate::index::eval::Number;
use crate::plain::{self, Cond, Expr, Function, Step, Stmt, eval::locate};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most operations of a function: what does not fit the instruction cache is better a loop, and big functions are
/// slow to compile.
const MOST: u64 = 2000;
/// The most elements that results may have.
const MOST_WRITES: u64 = 1024;
/// The most operations that are unrolled to see what remains of them.
const MOST_UNROLLED: u64 = 40_000;
/// Unrolled code is taken where it needs at most this part of the operations that loops need, a full vector
/// counted as one, and
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
enum Definition {
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
    ops: Vec<Definition>,
    ids: HashMap<Definition, Id>,
    tests: Vec<Asked>,
    asked: HashMap<Asked, Test>,
    cells: BTreeMap<TensorId, Vec<Cell>>,
    /// Something is computed from a number that is infinite here already, as an extremum over nothing is: no rule below
    /// holds for that.
    infinite: bool,
}

/// What cannot be unrolled is left to loops.
struct NotUnrolled;

/// The graphs of all functions of a kernel, where unrolled code pays: all or none, so that a value has the same
/// bits in each.
pub fn graphs(kernel: &Kernel) -> Option<Vec<Graph<'_>>> {
    if !kernel.schedule.is_empty() {
        return None;
    }
    let (mut loops, mut unrolled) = (0.0, 0.0);
    let mut graphs = Vec::new();
    for f in &kernel.functions {
        let g = Graph::of(kernel, f)?;
        loops += in_loops(kernel, f).1;
        unrolled += g.operations() as f64;
        graphs.push(g);
    }
    (unrolled <= PAYS * loops && unrolled + SAVES <= loops).then_some(graphs)
}

/// The graph of a Jacobian or a Hessian, where unrolled code pays: most of it is numbers that loops would not see
/// to be zero.
pub fn dense<'a>(kernel: &'a Kernel, f: &'a Function) -> Option<Graph<'a>> {
    if !matches!(f.kind, Kind::Jacobian | Kind::Hessian) || kernel.schedule.contains_key(&f.name) {
        return None;
    }
    let g = Graph::of(kernel, f)?;
    let (loops, unrolled) = (in_loops(kernel, f).1, g.operations() as f64);
    (unrolled <= PAYS * loops && unrolled + SAVES <= loops).then_some(g)
}

/// The operations of a function in loops: one by one, and with those of a full vector of 32 bytes as one.
fn in_loops(kernel: &Kernel, f: &Function) -> (u64, f64) {
    let lanes = 32 / kernel.dtype.bytes();
    let (mut all, mut vectors) = (0u64, 0.0);
    for step in &f.steps {
        let Step::Stmt(s) = step else { continue };
        let iterations = s.vars.iter().fold(1u64, |n, v| n.saturating_mul(v.extent as u64));
        // And one that puts it where it belongs.
        let each = weight(&s.value) + 1;
        all = all.saturating_add(iterations.saturating_mul(each));
        // Along the storage of the target, or along a sum.
        let last = s.target.positions.last();
        let along = |v: usize| v >= s.free || last.is_some_and(|p| p.numerator.coefficient(v).abs() == 1);
        let speed = |v: usize| {
            let extent = s.vars[v].extent;
            let width = lanes.min(1 << extent.ilog2());
            extent as f64 / extent.div_ceil(width) as f64
        };
        let best = (0..s.vars.len()).filter(|v| along(*v)).map(speed).fold(1.0, f64::max);
        vectors += iterations as f64 * each as f64 / best;
    }
    (all, vectors)
}

fn weight(e: &Expr) -> u64 {
    match e {
        Expr::Const(_) | Expr::Read(_) => 0,
        Expr::Masked(_, a) => weight(a),
        Expr::Unary(f, a) => cost_of(f.cost()) + weight(a),
        Expr::Powf(a, n) => weight(a) + if n.fract() == 0.0 { 1 } else { FUNCTION },
        Expr::Binary(f, a, b) => weight(a) + weight(b) + cost_of(f.cost()),
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

/// Latencies, as most unrolled code waits for itself: a sign goes into what takes it.
fn cost_of(cost: Cost) -> u64 {
    match cost {
        Cost::Sign => 0,
        Cost::Mask | Cost::Arithmetic | Cost::Extremum | Cost::Few => 1,
        Cost::Division | Cost::Root => DIVISION,
        Cost::Call => FUNCTION,
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

    fn new(kernel: &'a Kernel, function: &'a Function) -> Result<Self, NotUnrolled> {
        let cells = function.writes.iter().chain(&function.locals);
        let cells = cells.map(|t| (*t, vec![Cell::Unset; kernel.tensor(*t).elements()])).collect();
        let (ids, asked) = (HashMap::new(), HashMap::new());
        let mut g = Graph { kernel, function, ops: Vec::new(), ids, tests: Vec::new(), asked, cells, infinite: false };
        for step in &function.steps {
            match step {
                Step::Fill(t) => {
                    let zero = g.constant(0.0);
                    g.cells.get_mut(t).ok_or(NotUnrolled)?.fill(Cell::Set(zero));
                }
                Step::Stmt(s) => g.stmt(s)?,
                // A recurrence stays a loop.
                Step::Scan(_) => return Err(NotUnrolled),
            }
        }
        if g.infinite { Err(NotUnrolled) } else { Ok(g) }
    }
}
