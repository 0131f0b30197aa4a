//! Forward differentiation: takes forward statements in normal form, gives the statements of the tangents they
//! propagate.
//!
//! Holds after it: every statement is linear in the tangents it reads, and reads primal values as the forward
//! statements left them.

use super::least::Least;
use crate::functions::Cost;
use crate::index::normal::hoist;
use crate::index::*;
use std::collections::BTreeSet;
use std::ops::{Add, Mul, Sub};

/// The tangent rule of `forward`: reads primals and the tangents of `wrt`, writes the tangent of every other tensor
/// that depends on them.
pub fn tangent(op: &mut Op, forward: &[Stmt], wrt: &[TensorId]) -> Vec<Stmt> {
    tangent_through(op, forward, &[], wrt)
}

/// The same, where the statements of `calls` propagate tangents by the rules of the ops that are called.
pub fn tangent_through(op: &mut Op, forward: &[Stmt], calls: &[Call], wrt: &[TensorId]) -> Vec<Stmt> {
    let mut active: BTreeSet<TensorId> = wrt.iter().copied().collect();
    let least = Least::new(forward);
    let mut out = Vec::new();
    for unit in scan::units(forward) {
        // The rule of a root that is called does not know what it is of.
        let own = |c: &&Call| matches!(&forward[c.stmts.clone()], [s] if bends(&least, &s.value));
        match calls.iter().find(|c| c.stmts.contains(&unit.start)).filter(|c| !own(c)) {
            Some(call) if call.stmts.start == unit.start => called(op, call, &mut active, &mut out),
            Some(_) => {}
            None if forward[unit.start].scan.is_none() => {
                differentiate(op, &forward[unit.start], forward, &least, &mut active, &mut out);
            }
            None => recurrence(op, unit, forward, &least, &mut active, &mut out),
        }
    }
    scan::renumber(op, &mut out);
    out
}

/// The tangents of a recurrence run along the same axis in the same direction.
fn recurrence(
    op: &mut Op,
    unit: std::ops::Range<usize>,
    forward: &[Stmt],
    least: &Least,
    active: &mut BTreeSet<TensorId>,
    out: &mut Vec<Stmt>,
) {
    let stmts = &forward[unit];
    // What moves: earlier statements read what later ones write.
    let mut known = usize::MAX;
    while known != active.len() {
        known = active.len();
        for s in stmts {
            let mut d = Derive { op, vars: s.vars.clone(), active, least, known: Vec::new() };
            if !d.derivative(&s.value).is_zero() {
                active.insert(s.target);
            }
        }
    }
    let mut group = Vec::new();
    for s in stmts {
        differentiate(op, s, forward, least, active, &mut group);
    }
    super::arranged(op, group, out);
}

/// The tangents of a call, by its rule; those that nothing has propagated to are zero.
fn called(op: &Op, call: &Call, active: &mut BTreeSet<TensorId>, out: &mut Vec<Stmt>) {
    let mut made = BTreeSet::new();
    for unit in scan::units(&call.tangent) {
        let unit = &call.tangent[unit];
        // In a recurrence earlier statements read what later ones write.
        let mut known = usize::MAX;
        while known != active.len() + made.len() {
            known = active.len() + made.len();
            for s in unit {
                if propagated(op, s, active, &made).is_zero() {
                    continue;
                }
                match op.tensor(s.target).role {
                    Role::Tangent(of) => _ = active.insert(of),
                    _ => _ = made.insert(s.target),
                }
            }
        }
        let all = unit.iter().map(|s| Stmt { value: propagated(op, s, active, &made), ..s.clone() });
        out.extend(all.filter(|s| !s.value.is_zero()));
    }
}

/// The value of a statement of a call's tangent, where what nothing has propagated to is zero.
fn propagated(op: &Op, s: &Stmt, active: &BTreeSet<TensorId>, made: &BTreeSet<TensorId>) -> Expr {
    s.value.map(&mut |e| match e {
        Expr::Read(t, index) => match op.tensor(t).role {
            Role::Tangent(of) if !active.contains(&of) => Expr::zero(),
            Role::RuleLocal if !made.contains(&t) => Expr::zero(),
            _ => Expr::Read(t, index),
        },
        e => e.settled(),
    })
}

fn differentiate(
    op: &mut Op,
    s: &Stmt,
    forward: &[Stmt],
    least: &Least,
    active: &mut BTreeSet<TensorId>,
    out: &mut Vec<Stmt>,
) {
    let mut d = Derive { op, vars: s.vars.clone(), active, least, known: Vec::new() };
    let value = match s.reduce {
        None | Some(ReduceOp::Sum) => {
            let dv = d.derivative(&s.value);
            if s.free < s.vars.len() && !dv.is_zero() {
                Expr::Reduce(ReduceOp::Sum, bound(s), Box::new(dv))
            } else {
                dv
            }
        }
        Some(ReduceOp::Prod) => d.product(s),
        Some(r @ (ReduceOp::Max | ReduceOp::Min)) => {
            // Where other steps write the target too, it does not hold the extremum. An output comes back from the
            // caller, and need not have the bits that this rule computes, unless all bits are those of inputs.
            let alone = !s.accumulate && forward.iter().filter(|o| o.target == s.target).count() == 1;
            let ours = d.op.tensor(s.target).role != Role::Output || d.op.program.is_some() || s.scan.is_some();
            let known = alone && (ours || selects(d.op, &s.value));
            d.extremum(s, r, known)
        }
    };
    if value.is_zero() {
        return;
    }
    // What a step has computed is read, not computed again: always in a recurrence, elsewhere where it takes more than
    // a read does. An output that comes back from the caller need not have these bits.
    let alone = !s.accumulate && forward.iter().filter(|o| o.target == s.target).count() == 1;
    let costly = s.scan.is_some() || d.op.program.is_some() && s.value.any(&costs);
    let value = match alone && s.reduce.is_none() && costly {
        true => value.map(&mut |e| {
            if e == s.value && !matches!(e, Expr::Read(..)) { Expr::Read(s.target, s.index.clone()) } else { e }
        }),
        false => value,
    };
    let vars = d.vars;
    let target = op.dual(s.target, Role::Tangent);
    active.insert(s.target);
    let raw = Stmt {
        target,
        index: s.index.clone(),
        accumulate: s.accumulate,
        vars,
        free: s.free,
        reduce: None,
        value,
        span: s.span,
        scan: s.scan,
    };
    hoist(op, raw, Role::RuleLocal, out);
}

/// Whether a value takes more than to read it does.
fn costs(e: &Expr) -> bool {
    match e {
        Expr::Unary(f, _) => f.cost() > Cost::Extremum,
        Expr::Binary(f, ..) => f.cost() > Cost::Extremum,
        Expr::Powf(_, n) => *n != 2.0,
        _ => false,
    }
}

/// Whether a value is that of an input, bit for bit, or its negative.
fn selects(op: &Op, e: &Expr) -> bool {
    match e {
        Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) => true,
        Expr::Read(t, _) => op.tensor(*t).role == Role::Input,
        Expr::Unary(f, a) => matches!(f, Unary::Neg | Unary::Abs) && selects(op, a),
        Expr::Binary(f, a, b) => matches!(f, Binary::Min | Binary::Max) && selects(op, a) && selects(op, b),
        Expr::Where(_, a, b) => selects(op, a) && selects(op, b),
        Expr::Powf(..) | Expr::Reduce(..) => false,
    }
}

fn bound(s: &Stmt) -> Vec<VarId> {
    (s.free..s.vars.len()).map(VarId).collect()
}

struct Derive<'a> {
    op: &'a mut Op,
    /// Of the statement, and fresh ones after them.
    vars: Vec<Var>,
    active: &'a BTreeSet<TensorId>,
    least: &'a Least,
    /// The conditions that the branch stands under, and whether each holds.
    known: Vec<(Cond, bool)>,
}

impl Derive<'_> {
    fn derivative(&mut self, e: &Expr) -> Expr {
        match e {
            Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) => Expr::zero(),
            Expr::Read(t, index) if self.active.contains(t) => {
                Expr::Read(self.op.dual(*t, Role::Tangent), index.clone())
            }
            Expr::Read(..) => Expr::zero(),
            Expr::Unary(f, a) => {
                let da = self.derivative(a);
                if da.is_zero() { da } else { self.at_root(e, f.slope(a.as_ref(), da)) }
            }
            Expr::Powf(a, n) => {
                let da = self.derivative(a);
                self.at_root(e, Expr::Const(*n).mul(a.as_ref().clone().powf(n - 1.0)).mul(da))
            }
            Expr::Binary(Binary::Pow, a, b) => {
                let (da, db) = (self.derivative(a), self.derivative(b));
                let base = self.at_root(e, power(a, b, da));
                base.add(exponent(a, b, db))
            }
            Expr::Binary(f, a, b) => {
                let (da, db) = (self.derivative(a), self.derivative(b));
                if da.is_zero() && db.is_zero() { Expr::zero() } else { f.slope(a.as_ref(), b.as_ref(), da, db) }
            }
            Expr::Where(c, a, b) => {
                let mut under = |holds: bool, e: &Expr| {
                    self.known.push((c.as_ref().clone(), holds));
                    let d = self.derivative(e);
                    self.known.pop();
                    d
                };
                let (da, db) = (under(true, a), under(false, b));
                Expr::select(c.as_ref().clone(), da, db)
            }
            Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        }
    }

    /// The derivative `d` of the root `e`, but zero where its argument is zero and at its least: there the slope of the
    /// argument is zero, that of the root infinite, and the convention is that such a product is zero.
    fn at_root(&self, e: &Expr, d: Expr) -> Expr {
        let Some((of, kind)) = root(e) else { return d };
        let excluded = self.known.iter().any(|(c, holds)| excludes_zero(c, *holds, of) || excludes_zero(c, *holds, e));
        if excluded || !self.least.touches_zero(of) {
            return d;
        }
        let zero = |e: &Expr| Cond::Value(Compare::Eq, e.clone(), Expr::zero());
        let steep = match kind {
            Root::Exponent(n) => zero(of).and(Cond::Value(Compare::Lt, n.clone(), Expr::one())),
            // The derivative needs the value of the root in any case, but a read costs less.
            Root::Function if !matches!(of, Expr::Read(..)) => zero(e),
            _ => zero(of),
        };
        Expr::select(steep, Expr::zero(), d)
    }

    /// `d prod(j) e = sum(j) de * prod(k) where(k == j, 1, e)`: right at zeros too, where dividing by `e` would not be.
    fn product(&mut self, s: &Stmt) -> Expr {
        let de = self.derivative(&s.value);
        if de.is_zero() {
            return de;
        }
        let outer = bound(s);
        let inner: Vec<VarId> = outer.iter().map(|v| self.fresh(*v)).collect();
        let rename = |v: VarId| outer.iter().position(|o| *o == v).map_or(v, |n| inner[n]);
        let copy = s.value.moved(&|a| a.rename(&rename));
        let same = outer
            .iter()
            .zip(&inner)
            .map(|(o, i)| Cond::Index(Compare::Eq, Affine::var(*i), Affine::var(*o)))
            .reduce(Cond::and);
        let rest = match same {
            Some(same) => Expr::Reduce(ReduceOp::Prod, inner, Box::new(Expr::select(same, Expr::one(), copy))),
            None => Expr::one(),
        };
        let term = self.where_inside(&s.value, de.mul(rest));
        if outer.is_empty() { term } else { Expr::Reduce(ReduceOp::Sum, outer, Box::new(term)) }
    }

    /// The mean of the tangents where the extremum is attained (the convention at ties).
    /// `known`: the target holds it.
    fn extremum(&mut self, s: &Stmt, r: ReduceOp, known: bool) -> Expr {
        let de = self.derivative(&s.value);
        if de.is_zero() {
            return de;
        }
        let vars = bound(s);
        let value = if known || vars.is_empty() {
            Expr::Read(s.target, s.index.clone())
        } else {
            let inner: Vec<VarId> = vars.iter().map(|v| self.fresh(*v)).collect();
            let rename = |v: VarId| vars.iter().position(|o| *o == v).map_or(v, |n| inner[n]);
            let copy = s.value.moved(&|a| a.rename(&rename));
            Expr::Reduce(r, inner, Box::new(copy))
        };
        let attained = Cond::Value(Compare::Eq, s.value.clone(), value);
        let counted = self.where_inside(&s.value, Expr::select(attained.clone(), Expr::one(), Expr::zero()));
        let moved = self.where_inside(&s.value, Expr::select(attained, de, Expr::zero()));
        let total = |e| Expr::Reduce(ReduceOp::Sum, vars.clone(), Box::new(e));
        // Over an empty window nothing is attained and nothing moves.
        let count = Expr::Binary(Binary::Max, Box::new(total(counted)), Box::new(Expr::one()));
        Expr::Binary(Binary::Div, Box::new(total(moved)), Box::new(count))
    }

    /// `e` at the coordinates that a product, maximum or minimum over `body` does not pass over, else 0.
    fn where_inside(&self, body: &Expr, e: Expr) -> Expr {
        match self.evaluated(body) {
            Some(c) => Expr::select(c, e, Expr::zero()),
            None => e,
        }
    }

    /// That no read which the evaluation of `e` meets falls outside; `None` where none can.
    fn evaluated(&self, e: &Expr) -> Option<Cond> {
        match e {
            Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) => None,
            Expr::Read(t, index) => {
                let axes = &self.op.tensor(*t).axes;
                let surely =
                    index.iter().zip(axes).all(|(a, axis)| a.as_var().is_some_and(|v| self.vars[v.0].axis == *axis));
                (!surely).then(|| Cond::Inside(*t, index.clone()))
            }
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.evaluated(a),
            Expr::Binary(_, a, b) => both(self.evaluated(a), self.evaluated(b)),
            Expr::Where(c, a, b) => {
                let not = Cond::Not(c.clone());
                let yes = self.evaluated(a).map(|m| Cond::Or(Box::new(not), Box::new(m)));
                let no = self.evaluated(b).map(|m| Cond::Or(c.clone(), Box::new(m)));
                both(self.evaluated_in_test(c), both(yes, no))
            }
            Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        }
    }

    /// As [`Self::evaluated`], of a condition: its second side is evaluated only where the first does not decide,
    /// `inside` is no read.
    fn evaluated_in_test(&self, c: &Cond) -> Option<Cond> {
        let unless = |decided: Cond, rest: Option<Cond>| rest.map(|m| Cond::Or(Box::new(decided), Box::new(m)));
        match c {
            Cond::Index(..) | Cond::Inside(..) => None,
            Cond::Value(_, a, b) => both(self.evaluated(a), self.evaluated(b)),
            Cond::And(a, b) => both(self.evaluated_in_test(a), unless(Cond::Not(a.clone()), self.evaluated_in_test(b))),
            Cond::Or(a, b) => both(self.evaluated_in_test(a), unless(a.as_ref().clone(), self.evaluated_in_test(b))),
            Cond::Not(a) => self.evaluated_in_test(a),
        }
    }

    fn fresh(&mut self, of: VarId) -> VarId {
        let Var { name, axis } = self.vars[of.0].clone();
        let mut n = 2;
        while self.vars.iter().any(|v| v.name == format!("{name}{n}")) {
            n += 1;
        }
        self.vars.push(Var { name: format!("{name}{n}"), axis });
        VarId(self.vars.len() - 1)
    }
}

/// Both conditions, one of them once if they are the same.
fn both(a: Option<Cond>, b: Option<Cond>) -> Option<Cond> {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(a), Some(b)) => Some(a.and(b)),
        (a, b) => a.or(b),
    }
}

/// `∂(a^b)/∂a da`: of what is constant, as `a^0` is, none.
fn power(a: &Expr, b: &Expr, da: Expr) -> Expr {
    let one_less = match b {
        Expr::Const(n) => Expr::Const(n - 1.0),
        b => b.clone().sub(Expr::one()),
    };
    let slope = b.clone().mul(Expr::Binary(Binary::Pow, Box::new(a.clone()), Box::new(one_less))).mul(da);
    match b {
        Expr::Const(n) if *n == 0.0 => Expr::zero(),
        Expr::Const(_) => slope,
        b => Expr::select(Cond::Value(Compare::Eq, b.clone(), Expr::zero()), Expr::zero(), slope),
    }
}

/// `∂(a^b)/∂b db`: zero at the base 0, whose logarithm is infinite.
fn exponent(a: &Expr, b: &Expr, db: Expr) -> Expr {
    let power = Expr::Binary(Binary::Pow, Box::new(a.clone()), Box::new(b.clone()));
    let slope = power.mul(Expr::unary(Unary::Log, a.clone())).mul(db);
    Expr::select(Cond::Value(Compare::Eq, a.clone(), Expr::zero()), Expr::zero(), slope)
}

/// What is finite where its argument is zero, with an infinite slope.
enum Root<'a> {
    Function,
    Literal,
    /// A root where the exponent is below 1.
    Exponent(&'a Expr),
}

/// The argument of a root.
fn root(e: &Expr) -> Option<(&Expr, Root<'_>)> {
    match e {
        Expr::Unary(f, a) if f.row().root => Some((a, Root::Function)),
        Expr::Powf(a, n) if 0.0 < *n && *n < 1.0 => Some((a, Root::Literal)),
        Expr::Binary(Binary::Pow, a, n) => match n.as_ref() {
            Expr::Const(c) if 0.0 < *c && *c < 1.0 => Some((a, Root::Literal)),
            Expr::Const(_) => None,
            n => Some((a, Root::Exponent(n))),
        },
        _ => None,
    }
}

/// Whether `e` is a root of what is at its least where it is zero.
fn bends(least: &Least, e: &Expr) -> bool {
    root(e).is_some_and(|(of, _)| least.touches_zero(of))
}

/// Whether `e` is not zero where the condition holds, or does not.
pub(super) fn excludes_zero(c: &Cond, holds: bool, e: &Expr) -> bool {
    match c {
        Cond::And(a, b) if holds => excludes_zero(a, true, e) || excludes_zero(b, true, e),
        Cond::Or(a, b) if !holds => excludes_zero(a, false, e) || excludes_zero(b, false, e),
        Cond::Not(a) => excludes_zero(a, !holds, e),
        Cond::Value(f, a, b) if a == e && b.is_zero() => match f {
            Compare::Gt | Compare::Ne => holds,
            Compare::Eq | Compare::Le => !holds,
            Compare::Lt | Compare::Ge => false,
        },
        Cond::Value(f, a, b) if b == e && a.is_zero() => match f {
            Compare::Lt | Compare::Ne => holds,
            Compare::Eq | Compare::Ge => !holds,
            Compare::Gt | Compare::Le => false,
        },
        _ => false,
    }
}
