//! Segments: takes the statements of a recurrence over all coordinates along its axis, gives its segments: iterations
//! in which every sum has the same guards and conditions, so that its loops ask for none; and any sum in such parts.
//!
//! Holds after it: the iterations of a segment count upwards from zero; the segments follow each other as the
//! recurrence runs.

use super::walk::PartMut;
use super::*;
use std::collections::BTreeSet;

/// The most segments: where conditions cut off more, they are asked in each iteration.
const MAX_SEGMENTS: usize = 4;

/// The segments of statements that run for `iterations` coordinates, each with the variable that is one; none if there
/// is one coordinate.
pub fn segments(body: &[Member], iterations: usize, backwards: bool, tensors: &[Tensor]) -> Vec<Segment> {
    let mut cuts: BTreeSet<i64> = BTreeSet::new();
    // What is no sum asks once an iteration or an element, which is cheaper than a second body.
    let sums = body.iter().filter(|p| p.stmt.reduce.is_some());
    sums.for_each(|p| p.iteration.iter().for_each(|v| boundaries(&p.stmt, *v, tensors, &mut cuts)));
    cuts.retain(|at| (1..iterations as i64).contains(at));
    if cuts.len() >= MAX_SEGMENTS {
        cuts.clear();
    }
    let starts: Vec<usize> = std::iter::once(0).chain(cuts.into_iter().map(|at| at as usize)).collect();
    let ends = starts[1..].iter().copied().chain([iterations]);
    let mut all: Vec<Segment> = starts
        .iter()
        .zip(ends)
        .map(|(from, end)| {
            let count = end - from;
            let part = |p: &Member| match p.iteration {
                Some(v) => restricted(&p.stmt, v, *from, count, backwards, tensors),
                None => p.clone(),
            };
            Segment { iterations: count, body: body.iter().map(part).filter(|p| !idle(&p.stmt, tensors)).collect() }
        })
        .collect();
    all.retain(|s| !s.body.is_empty());
    if backwards {
        all.reverse();
    }
    all
}

/// A sum with a condition on one of its coordinates as sums without, over parts of its range; `None` where it has none,
/// or too many. Parts of a free variable write different elements, those of a bound one the same, one after the other.
pub fn parts(s: &Stmt, tensors: &[Tensor]) -> Option<(usize, Vec<Stmt>)> {
    if s.reduce != Some(ReduceOp::Sum) {
        return None;
    }
    let mut conditions: Vec<Linear> = Vec::new();
    comparisons(&s.value, &mut |a, b| conditions.push(difference(a, b)));
    let v = conditions.iter().find_map(|l| if let [(v, _)] = l.terms.as_slice() { Some(*v) } else { None })?;
    let mut cuts = BTreeSet::new();
    conditions.iter().for_each(|l| crossings(l, v, [0, 1], &mut cuts));
    cuts.retain(|at| (1..s.vars[v].extent as i64).contains(at));
    if cuts.is_empty() || cuts.len() >= MAX_SEGMENTS {
        return None;
    }
    let starts: Vec<usize> = std::iter::once(0).chain(cuts.into_iter().map(|at| at as usize)).collect();
    let ends = starts[1..].iter().copied().chain([s.vars[v].extent]);
    let part = |(from, end): (&usize, usize)| restricted(s, v, *from, end - from, false, tensors).stmt;
    let mut all: Vec<Stmt> = starts.iter().zip(ends).map(part).collect();
    if v < s.free {
        all.retain(|s| !idle(s, tensors));
        return Some((v, all));
    }
    // A part that adds nothing may still be the only one that sets.
    if all.iter().any(|s| s.value != Expr::Const(0.0)) {
        all.retain(|s| s.value != Expr::Const(0.0));
    }
    all.truncate(if all[0].value == Expr::Const(0.0) { 1 } else { all.len() });
    all.iter_mut().skip(1).for_each(|s| s.accumulate = true);
    Some((v, all))
}

/// Whether a statement changes nothing: it adds zero, or stands outside.
fn idle(s: &Stmt, tensors: &[Tensor]) -> bool {
    let outside = s.target.positions.iter().zip(&tensors[s.target.tensor.0].shape).any(|(p, size)| {
        let (lo, hi) = p.numerator.range(&|v| s.vars[v].extent);
        hi < 0 || lo >= *size as i64 * p.divisor
    });
    outside || s.accumulate && s.value == Expr::Const(0.0)
}

/// `a - b`.
fn difference(a: &Linear, b: &Linear) -> Linear {
    Linear::new(a.terms.iter().copied().chain(b.terms.iter().map(|(v, c)| (*v, -c))), a.constant - b.constant)
}

/// The first coordinates of `v` at which a map of it alone is at least one of `ends`, or no longer.
fn crossings(l: &Linear, v: usize, ends: [i64; 2], cuts: &mut BTreeSet<i64>) {
    let [(w, c)] = l.terms.as_slice() else { return };
    if *w == v {
        let at = |end: i64| {
            let gap = end - l.constant;
            if *c > 0 { -(-gap).div_euclid(*c) } else { gap.div_euclid(*c) + 1 }
        };
        cuts.extend(ends.map(at));
    }
}

/// The coordinates at which a guard or a condition that depends on the variable alone changes.
fn boundaries(s: &Stmt, v: usize, tensors: &[Tensor], cuts: &mut BTreeSet<i64>) {
    let mut guarded = |a: &Access| {
        for (p, size) in a.positions.iter().zip(&tensors[a.tensor.0].shape) {
            if p.divisor == 1 && p.guard.any() {
                crossings(&p.numerator, v, [0, *size as i64], cuts);
            }
        }
    };
    guarded(&s.target);
    s.value.accesses(&mut guarded);
    comparisons(&s.value, &mut |a, b| crossings(&difference(a, b), v, [0, 1], cuts));
}

/// Every pair of coordinates that are compared.
fn comparisons(e: &Expr, f: &mut dyn FnMut(&Linear, &Linear)) {
    e.conds(&mut |c| {
        if let Cond::Index(_, a, b) = c {
            f(a, b);
        }
    });
}

/// A statement where `v` takes `count` coordinates from `from` on, in the order of the iterations.
fn restricted(s: &Stmt, v: usize, from: usize, count: usize, backwards: bool, tensors: &[Tensor]) -> Member {
    let mut vars = s.vars.clone();
    let (coordinate, gone) = match (count, backwards) {
        (1, _) => (Linear::constant(from as i64), 1),
        (_, false) => (Linear::new([(v, 1)], from as i64), 0),
        (_, true) => (Linear::new([(v, -1)], (from + count - 1) as i64), 0),
    };
    if gone == 1 {
        vars.remove(v);
    } else {
        vars[v].extent = count;
    }
    let replace = |w: usize| if w == v { coordinate.clone() } else { Linear::var(if w > v { w - gone } else { w }) };
    let over = Substituted { replace: &replace, vars: &vars, tensors };
    let (target, value) = (over.access(&s.target), over.expr(&s.value));
    let free = s.free - if v < s.free { gone } else { 0 };
    let reduce = s.reduce.filter(|r| vars.len() > free || *r != ReduceOp::Sum);
    let stmt = Stmt { target, value, free, reduce, vars: vars.clone(), ..s.clone() };
    Member { iteration: (gone == 0).then_some(v), stmt }
}

/// A statement's parts over other variables, conditions decided where their ranges decide them.
struct Substituted<'a, F> {
    replace: &'a F,
    vars: &'a [Var],
    tensors: &'a [Tensor],
}

impl<F: Fn(usize) -> Linear> Substituted<'_, F> {
    fn access(&self, a: &Access) -> Access {
        let extent = |w: usize| self.vars[w].extent;
        let shape = &self.tensors[a.tensor.0].shape;
        let moved = |(p, size): (&Position, &usize)| {
            Position::new(p.numerator.substitute(self.replace), p.divisor, *size, &extent)
        };
        Access { tensor: a.tensor, positions: a.positions.iter().zip(shape).map(moved).collect() }
    }
    fn expr(&self, e: &Expr) -> Expr {
        let mut e = e.clone();
        e.change(&mut |part| match part {
            PartMut::Access(a) => *a = self.access(a),
            PartMut::Linear(l) => *l = l.substitute(self.replace),
            PartMut::Cond(c) => *c = self.decided(c.take()),
            PartMut::Mask(_) => unreachable!("values are masked when they stand"),
            PartMut::Expr(e) => {
                *e = match e.take() {
                    Expr::Where(c, a, b) => Expr::choose(*c, *a, *b),
                    e => e,
                }
            }
        });
        e
    }
    /// A condition whose parts stand over the other variables, decided where their ranges decide it.
    fn decided(&self, c: Cond) -> Cond {
        match c {
            Cond::Index(op, a, b) => Cond::compare(op, a, b, &|w| self.vars[w].extent),
            Cond::Inside(a) if !a.guarded() => Cond::Const(true),
            Cond::And(a, b) => a.and(*b),
            Cond::Or(a, b) => a.or(*b),
            Cond::Not(a) => a.negated(),
            c @ (Cond::Const(_) | Cond::Value(..) | Cond::Inside(_)) => c,
        }
    }
}
