//! Lanes: takes scalar values and a variable, gives values over lanes along it, and elementwise statements written so.
//!
//! Holds after it: what moves with the lanes moves by one element; what differs between lanes is computed on both sides
//! and chosen.

use super::builder::{Builder, Map, add, nest};
use super::coalesce::accesses;
use super::epilogue;
use super::*;
use crate::plain::{self, Cond, Expr, Stmt};
use std::collections::BTreeMap;

/// Marks what moves with the lanes while a term is lowered; no loop's variable.
pub(super) const LANE: VarId = usize::MAX;

/// Rows of at most so many elements are written in lanes here. Of longer ones the compiler of the output makes lanes,
/// choices included; these it runs one by one, with a branch for each choice.
const SHORT: usize = 64;

/// Along a variable an access stands still, moves by one element, or else.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Along {
    Still,
    Contiguous,
    Strided,
}

pub(super) fn along(a: &plain::Access, v: usize) -> Along {
    let last = a.positions.len().wrapping_sub(1);
    let moving: Vec<(usize, i64)> =
        a.positions.iter().enumerate().map(|(d, p)| (d, p.numerator.coefficient(v))).filter(|(_, c)| *c != 0).collect();
    match moving.as_slice() {
        [] => Along::Still,
        [(d, 1)] if *d == last && a.positions[*d].divisor == 1 => Along::Contiguous,
        _ => Along::Strided,
    }
}

/// One iteration of a tile's reduction: loops over rows and vectors, and the registers that hold what was read. What
/// does not differ between rows or vectors is read once, outside of their loops.
pub(super) struct Iteration {
    /// The loops, outermost first, each with what its body begins with.
    loops: Vec<(VarId, Vec<Node>)>,
    /// What stands before each loop, and in the innermost one.
    levels: Vec<Vec<Node>>,
    known: Vec<(Value, Slot)>,
}

impl Iteration {
    /// Over loops, outermost first, each with what its body begins with.
    pub fn new(loops: Vec<(VarId, Vec<Node>)>) -> Self {
        Iteration { levels: vec![Vec::new(); loops.len() + 1], loops, known: Vec::new() }
    }
    /// A node of the innermost loop.
    pub fn push(&mut self, node: Node) {
        self.levels.last_mut().expect("there is one").push(node);
    }
    /// The loops with what stands in them.
    pub fn nodes(self) -> Vec<Node> {
        let mut levels = self.levels.into_iter().rev();
        let mut out = levels.next().expect("there is one");
        for ((var, begin), before) in self.loops.into_iter().rev().zip(levels) {
            let body = begin.into_iter().chain(out).collect();
            out = before;
            out.push(Node::Loop { var, body });
        }
        out
    }
    /// Which of the loops a value depends on.
    fn moving(&self, v: &Value) -> Vec<usize> {
        let sets = |begin: &[Node], v: VarId| begin.iter().any(|n| matches!(n, Node::Let { var, .. } if *var == v));
        let moves = |n: &usize| {
            let (var, begin) = &self.loops[*n];
            let mut moves = false;
            v.vars(&mut |w| moves |= w == *var || sets(begin, w));
            moves
        };
        (0..self.loops.len()).filter(moves).collect()
    }
}

impl Builder<'_> {
    /// An elementwise statement that chooses among values along short rows, in lanes; `None` for any other. Its
    /// variables are joined as far as possible.
    pub fn elementwise_lanes(&mut self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Option<Vec<Node>> {
        let own = |v: &usize| s.vars[*v].extent > 1 && !fixed.contains_key(v);
        let lane = (0..s.vars.len()).filter(own).find(|v| along(&s.target, *v) == Along::Contiguous)?;
        let extent = s.vars[lane].extent;
        // A guard within a choice would be a test of what differs between lanes.
        let fits = |a: &&plain::Access| along(a, lane) != Along::Strided && !a.guarded();
        if extent > SHORT || !chooses(&s.value) || !epilogue::cheap(&s.value) || !accesses(s).iter().all(fits) {
            return None;
        }
        // A power of two, so that the last vector ends with the row: what it has in common with the one before is not
        // written again.
        let most = extent.min(self.machine.bytes / self.space.kernel.dtype.bytes());
        let width = 1 << most.checked_ilog2().filter(|n| *n > 0)?;
        let mut map = self.fixed_map(s, fixed);
        let loops = self.loops_of(s, (0..s.vars.len()).filter(|v| own(v) && *v != lane), &mut map);
        let (count, rest) = (extent / width, extent % width);
        let mut body = if count == 1 {
            self.vector(s, lane, &map, Linear::default(), width, 0..width)
        } else {
            let var = self.var(&s.vars[lane].name, count);
            let at = Linear::new([(var, width as i64)], 0);
            vec![Node::Loop { var, body: self.vector(s, lane, &map, at, width, 0..width) }]
        };
        if rest > 0 {
            let at = Linear::constant((extent - width) as i64);
            body.extend(self.vector(s, lane, &map, at, width, width - rest..width));
        }
        Some(nest(&loops, Vec::new(), &[], body))
    }

    /// One vector of such a statement.
    fn vector(
        &mut self,
        s: &Stmt,
        lane: usize,
        map: &Map,
        at: Linear,
        width: usize,
        written: std::ops::Range<usize>,
    ) -> Vec<Node> {
        let mut map = map.clone();
        map[lane] = at.clone();
        let target = self.lowering().access(&s.target, &map);
        map[lane] = add(&at, &Linear::var(LANE));
        // A choice that no read decides is one still, and no test around the row.
        let (tests, value) = self.lowering().lower(&s.value, &map);
        assert!(tests.is_empty(), "no access is guarded");
        let value = self.lanes(value, width, None, None);
        let mut out = Vec::new();
        let register = self.init("e", Some(width), value, &mut out);
        let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
        out.push(Node::Update { place: Place::Lanes(target, written), how, value: Value::register(register) });
        out
    }

    /// A scalar value as lanes: reads that move with the lanes become lanes, what stands still a splat, each in a
    /// register if `step` is there.
    pub fn lanes(&mut self, v: Value, width: usize, partial: Option<usize>, mut step: Option<&mut Iteration>) -> Value {
        if let Value::Register(slot) = &v
            && self.nest.registers[slot.register].lanes.is_some()
        {
            return v;
        }
        if !self.moves(&v) {
            let splat = |v| Value::Splat(Box::new(v), width);
            return match v {
                Value::Const(_) => splat(v),
                v => self.once(splat(v), width, step),
            };
        }
        let mut go = |this: &mut Self, v: Box<Value>| Box::new(this.lanes(*v, width, partial, step.as_deref_mut()));
        match v {
            Value::Load(mut a) => {
                // In the last position alone, or there is only the first lane.
                a.positions.iter_mut().for_each(|p| p.numerator.terms.retain(|(v, _)| *v != LANE));
                // A panel is as wide as its vectors; an argument may end before.
                let whole = self.lowering().is_panel(a.tensor);
                let count = partial.filter(|_| !whole).unwrap_or(width);
                self.once(Value::Lanes(a, width, count), width, step)
            }
            Value::Unary(f, a) => Value::Unary(f, go(self, a)),
            Value::Powf(a, n) => Value::Powf(go(self, a), n),
            Value::Binary(f, a, b) => {
                let a = go(self, a);
                Value::Binary(f, a, go(self, b))
            }
            Value::Select(t, a, b) if self.test_moves(&t) => {
                let [a, b] = [a, b].map(|v| self.lanes(*v, width, partial, step.as_deref_mut()));
                self.chosen_lanes(*t, a, b, width, partial, step)
            }
            Value::Select(t, a, b) => {
                // Read only under the test, so nothing of it goes to a register before.
                let a = self.lanes(*a, width, partial, None);
                let b = self.lanes(*b, width, partial, None);
                Value::Select(t, Box::new(a), Box::new(b))
            }
            v => unreachable!("a register or lanes in a term: {v:?}"),
        }
    }

    /// Where a test of the lanes' values holds, lanes of `a`, else of `b`.
    fn chosen_lanes(
        &mut self,
        t: Test,
        a: Value,
        b: Value,
        width: usize,
        partial: Option<usize>,
        mut step: Option<&mut Iteration>,
    ) -> Value {
        match t {
            Test::Value(op, l, r) => {
                let [l, r] = [l, r].map(|v| self.lanes(v, width, partial, step.as_deref_mut()));
                Value::Choose(op, Box::new([l, r, a, b]))
            }
            Test::Not(t) => self.chosen_lanes(*t, b, a, width, partial, step),
            Test::And(ts) => ts
                .into_iter()
                .rev()
                .fold(a, |yes, t| self.chosen_lanes(t, yes, b.clone(), width, partial, step.as_deref_mut())),
            Test::Or(ts) => ts
                .into_iter()
                .rev()
                .fold(b, |no, t| self.chosen_lanes(t, a.clone(), no, width, partial, step.as_deref_mut())),
            t => Value::Select(Box::new(t), Box::new(a), Box::new(b)),
        }
    }

    /// Whether a value differs from lane to lane.
    fn moves(&self, v: &Value) -> bool {
        let mut moves = false;
        v.vars(&mut |v| moves |= v == LANE);
        v.slots(&mut |slot| moves |= self.nest.registers[slot.register].lanes.is_some());
        moves
    }

    /// Whether a test compares values that differ from lane to lane.
    fn test_moves(&self, t: &Test) -> bool {
        let mut moves = false;
        t.values(&mut |v| moves = moves || self.moves(v));
        moves
    }

    /// A register with a value that several accumulators take: set as far outside as it can be, an array where loops
    /// that it depends on are not the outermost ones.
    fn once(&mut self, value: Value, width: usize, step: Option<&mut Iteration>) -> Value {
        let Some(step) = step else { return value };
        if let Some((_, slot)) = step.known.iter().find(|(v, _)| *v == value) {
            return Value::Register(slot.clone());
        }
        let name = if matches!(value, Value::Splat(..)) { "a" } else { "b" };
        let moving = step.moving(&value);
        let outside = moving.iter().enumerate().take_while(|(n, at)| n == *at).count();
        // Within all loops it is a register of one iteration. So it is where a loop begins with more than a value: the
        // compiler of the output takes it out.
        let begins = moving.iter().any(|n| !step.loops[*n].1.is_empty());
        let innermost = begins || moving.len() == step.loops.len();
        let dims = if innermost { &[][..] } else { &moving[outside..] };
        let level = match innermost {
            true => step.loops.len(),
            false => outside,
        };
        let vars: Vec<VarId> = dims.iter().map(|n| step.loops[*n].0).collect();
        let register = self.register(name, Some(width), vars.clone());
        step.levels[level].push(Node::Init { register, value: value.clone() });
        let slot = Slot { register, at: vars.iter().map(|v| Linear::var(*v)).collect() };
        step.known.push((value, slot.clone()));
        Value::Register(slot)
    }
}

/// Whether values are chosen by others.
pub(crate) fn chooses(e: &Expr) -> bool {
    let mut found = matches!(e, Expr::Where(c, ..) if !matches!(**c, Cond::Const(_)));
    e.operands(&mut |e| found = found || chooses(e));
    found
}
