//! Conditions on coordinates out of reductions: takes the statements of an entry point, gives the same in which, where
//! it can be, no reduction compares two of its indices: `sum(e) where(e < d, l[d,e], 0) * c[n,e]` becomes a sum of `t *
//! c`, with `t[d,e] = where(e < d, l[d,e], 0)` in a local. Tiles know no such conditions, but any operand.
//!
//! Holds after it: every term is what it was, bit for bit, a branch that is not taken is not evaluated within a term,
//! and what is computed besides is read by no element; a local is made of fewer indices than the reduction has, so it
//! is computed less often. A condition on one index stays: the plain IR cuts ranges there. So do those of recurrences.
//!
//! Only programs have it: their locals stand in a workspace, those of ops on the stack.

use crate::functions::Cost;
use crate::index::*;
use std::collections::{BTreeMap, BTreeSet};

/// The locals that were made so far, of all entry points: steps that are the same in two of them stay the same.
#[derive(Default)]
pub(super) struct Conditions {
    made: Vec<Stmt>,
}

impl Conditions {
    /// The statements of an entry point without such conditions.
    pub fn taken_out(&mut self, op: &mut Op, stmts: Vec<Stmt>) -> Vec<Stmt> {
        let mut rewriting = Rewriting { op, made: &mut self.made, out: Vec::new(), there: BTreeMap::new() };
        stmts.into_iter().for_each(|s| rewriting.statement(s));
        rewriting.out
    }
}

/// An entry point that is being rewritten.
struct Rewriting<'a> {
    op: &'a mut Op,
    made: &'a mut Vec<Stmt>,
    out: Vec<Stmt>,
    /// The locals of this entry point, each with its place in `out`.
    there: BTreeMap<TensorId, usize>,
}

impl Rewriting<'_> {
    fn statement(&mut self, s: Stmt) {
        if s.reduce.is_none() || s.scan.is_some() || !tied(&s.value) {
            self.out.push(s);
            return;
        }
        let before = (self.out.len(), self.made.len(), self.op.tensors.len());
        let mut without = s.clone();
        let of_target = if s.reduce == Some(ReduceOp::Sum) { of_target(&mut without) } else { Vec::new() };
        let mut value = without.value.clone();
        self.replace(&s, &mut value);
        if tied(&value) {
            // A tile would know one as little as several.
            self.out.truncate(before.0);
            self.made.truncate(before.1);
            self.op.tensors.truncate(before.2);
            self.there.retain(|_, at| *at < before.0);
            self.out.push(s);
            return;
        }
        without.value = value;
        let s = if of_target.is_empty() { without } else { self.behind(without, of_target) };
        self.out.push(s);
    }

    /// The sum in a local of its own, and the target's elements of it where the conditions hold.
    fn behind(&mut self, s: Stmt, conditions: Vec<Cond>) -> Stmt {
        let Stmt { target, index, accumulate, vars, free, span, .. } = s.clone();
        let own: Vec<Affine> = (0..free).map(|v| Affine::var(VarId(v))).collect();
        let local = self.local(Stmt { index: own.clone(), accumulate: false, ..s });
        let value = conditions.into_iter().rev().fold(Expr::Read(local, own), |v, c| Expr::select(c, v, Expr::zero()));
        let vars = vars[..free].to_vec();
        Stmt { target, index, accumulate, vars, free, reduce: None, value, span, scan: None }
    }

    /// Replaces choices by conditions that tie indices, outermost first: by a read of a local that holds what is
    /// chosen, or else by a choice by a local that holds 1 where the condition is met and 0 where not.
    fn replace(&mut self, s: &Stmt, e: &mut Expr) {
        if let Expr::Where(c, a, b) = &*e
            && ties(c)
            && within(self.op, s, e)
        {
            if e.vars().len() < s.vars.len() {
                *e = self.operand(s, e.clone());
                return;
            }
            // Loops ask what stands still only once, and skip all where it is not met.
            let often = !is_of(c, s.free) || often(c, true);
            if of_coordinates(c) && vars(c).len() < s.vars.len() && often && in_lanes(a) && in_lanes(b) {
                let mark = Expr::Where(c.clone(), Box::new(Expr::one()), Box::new(Expr::zero()));
                let mark = self.operand(s, mark);
                let Expr::Where(c, ..) = e else { unreachable!("it was one") };
                **c = Cond::Value(Compare::Gt, mark, Expr::zero());
            }
        }
        walk::PartMut::Expr(e).below(&mut |part| self.replace_part(s, part));
    }

    fn replace_part(&mut self, s: &Stmt, part: walk::PartMut) {
        match part {
            walk::PartMut::Expr(e) => self.replace(s, e),
            walk::PartMut::Cond(c) => walk::PartMut::Cond(c).below(&mut |part| self.replace_part(s, part)),
            walk::PartMut::Position(_) | walk::PartMut::Bound(_) => {}
        }
    }

    /// A read of a local that holds a part of a statement's value, over just the indices of that part.
    fn operand(&mut self, s: &Stmt, value: Expr) -> Expr {
        let index: Vec<Affine> = stored(&value).into_iter().map(Affine::var).collect();
        // The target is another as soon as it is known.
        let local = self.local(normal::build(s.target, index.clone(), false, &s.vars, None, value, s.span));
        Expr::Read(local, index)
    }

    /// The local that holds what the statement computes, made here if it is not there.
    fn local(&mut self, s: Stmt) -> TensorId {
        let alike = |m: &&Stmt| {
            let axes = |s: &Stmt| s.vars.iter().map(|v| v.axis).collect::<Vec<_>>();
            (&m.index, m.free, m.reduce, &m.value) == (&s.index, s.free, s.reduce, &s.value) && axes(m) == axes(&s)
        };
        let reads = s.reads();
        let steady = |from: usize| self.out[from..].iter().all(|o| !reads.contains(&o.target));
        let mut known = self.made.iter().filter(alike).map(|m| m.target);
        let fits = |t: &TensorId| self.there.get(t).is_none_or(|at| steady(*at));
        if let Some(t) = known.find(fits) {
            if !self.there.contains_key(&t) {
                self.there.insert(t, self.out.len());
                self.out.push(Stmt { target: t, ..s });
            }
            return t;
        }
        let axes = s.vars[..s.free].iter().map(|v| v.axis).collect();
        let t = self.op.add_tensor("t", axes, Role::RuleLocal, s.span);
        let s = Stmt { target: t, ..s };
        self.made.push(s.clone());
        self.there.insert(t, self.out.len());
        self.out.push(s);
        t
    }
}

/// Whether every element that a part of a statement's value reads is there, and none is asked for.
pub(super) fn within(op: &Op, s: &Stmt, e: &Expr) -> bool {
    let mut all = true;
    e.reads(&mut |t, index| {
        let axes = &op.tensor(t).axes;
        all &= index.iter().zip(axes).all(|(a, axis)| a.as_var().is_some_and(|v| s.vars[v.0].axis == *axis));
    });
    e.insides(&mut |_| all = false);
    all
}

/// The indices of a value in the order of the largest tensor that it reads, so that it is stored likewise.
pub(super) fn stored(value: &Expr) -> Vec<VarId> {
    let mut order: Vec<VarId> = Vec::new();
    value.reads(&mut |_, index| {
        let own: Vec<VarId> = index.iter().flat_map(Affine::vars).collect();
        if own.len() > order.len() {
            order = own;
        }
    });
    let mut seen = BTreeSet::new();
    order.retain(|v| seen.insert(*v));
    order.extend(value.vars().into_iter().filter(|v| seen.insert(*v)).collect::<Vec<_>>());
    order
}

/// Takes from a sum the conditions on its target's coordinates under which its terms are there: `sum(n) where(e < d, v,
/// 0)` is `where(e < d, sum(n) v, 0)`. None that few coordinates meet, as the sum is computed for all.
fn of_target(s: &mut Stmt) -> Vec<Cond> {
    let free = s.free;
    let mut all = Vec::new();
    loop {
        match std::mem::replace(&mut s.value, Expr::zero()) {
            Expr::Where(c, a, b) if b.is_zero() && ties(&c) && often(&c, true) && is_of(&c, free) => {
                s.value = *a;
                all.push(*c);
            }
            e => {
                s.value = e;
                return all;
            }
        }
    }
}

/// Whether a condition compares coordinates of free variables alone.
fn is_of(c: &Cond, free: usize) -> bool {
    of_coordinates(c) && vars(c).iter().all(|v| v.0 < free)
}

/// Whether a condition compares nothing but coordinates.
fn of_coordinates(c: &Cond) -> bool {
    !c.any(&|c| matches!(c, Cond::Value(..) | Cond::Inside(..)))
}

/// The variables whose coordinates a condition compares.
fn vars(c: &Cond) -> BTreeSet<VarId> {
    let mut all = BTreeSet::new();
    c.tests(&mut |c| {
        if let Cond::Index(_, a, b) = c {
            all.extend(a.vars().chain(b.vars()));
        }
    });
    all
}

/// Whether a good part of all coordinates meets a condition, or does not, as far as its form says.
fn often(c: &Cond, met: bool) -> bool {
    match c {
        Cond::Index(Compare::Eq, ..) => !met,
        Cond::Index(Compare::Ne, ..) => met,
        Cond::Index(Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge, ..) => true,
        Cond::Value(..) | Cond::Inside(..) => false,
        Cond::And(a, b) if met => often(a, met) && often(b, met),
        Cond::Or(a, b) if !met => often(a, met) && often(b, met),
        Cond::And(a, b) | Cond::Or(a, b) => often(a, met) || often(b, met),
        Cond::Not(a) => often(a, !met),
    }
}

/// Whether a condition compares coordinates of different indices.
fn ties(c: &Cond) -> bool {
    c.any(&|c| match c {
        Cond::Index(_, a, b) => a.vars().chain(b.vars()).collect::<BTreeSet<_>>().len() > 1,
        _ => false,
    })
}

/// Whether a value has such a condition.
fn tied(e: &Expr) -> bool {
    e.any(&|e| matches!(e, Expr::Where(c, ..) if ties(c)))
}

/// Whether lanes compute a value: a choice in them computes both its sides.
fn in_lanes(e: &Expr) -> bool {
    let instruction = |c: Cost| matches!(c, Cost::Sign | Cost::Arithmetic | Cost::Extremum | Cost::Division);
    !e.any(&|e| match e {
        Expr::Unary(f, _) => !instruction(f.cost()),
        Expr::Binary(f, ..) => !instruction(f.cost()),
        Expr::Powf(_, n) => *n != 2.0,
        Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..) | Expr::Where(..) => false,
        Expr::Reduce(..) => true,
    })
}
