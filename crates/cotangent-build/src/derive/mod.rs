//! Derivation: forward statements to tangent statements ([`tangent`]), linear statements to their transposes ([`transpose`]),
//! and the normal form that both keep ([`hoist`]).
//!
//! The adjoint of an op is the transpose of its tangent, as the tangent is the transpose of its adjoint: one transposition serves
//! both. Holds after each: statements of the index IR, reductions at the root, ready to be differentiated again.

pub mod absent;
mod least;
pub mod range;
mod tangent;
mod transpose;

pub use tangent::{tangent, tangent_through};
pub use transpose::{NotLinear, transpose};

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::*;
use crate::source::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Neg;

/// The rules that follow from the forward formula alone.
pub struct Derived {
    pub tangent: Vec<Stmt>,
    pub adjoint: Vec<Stmt>,
}

/// Derives both rules and completes the op: a rule that is not declared is the transpose of the one that is, or the derived one.
///
/// So the tangent of an op with a declared adjoint takes over its convention at kinks, and its economy (a softmax tangent that reads `y`).
pub fn complete(op: &mut Op, out: &mut Diagnostics) -> Derived {
    let forward = op.forward.clone();
    let (inputs, outputs) = (op.inputs(), op.outputs());
    let calls = op.calls.clone();
    let tangents = tangent_through(op, &forward, &calls, &inputs);
    let pairs = |op: &mut Op, from: fn(TensorId) -> Role, to: fn(TensorId) -> Role| -> BTreeMap<TensorId, TensorId> {
        inputs.iter().chain(&outputs).map(|t| (op.dual(*t, from), op.dual(*t, to))).collect()
    };
    let to_bar = pairs(op, Role::Tangent, Role::Cotangent);
    let to_dot = pairs(op, Role::Cotangent, Role::Tangent);
    let Ok(adjoint) = transpose(op, &tangents, &to_bar) else { unreachable!("derived tangents are linear") };
    let derived = Derived { tangent: tangents, adjoint };
    let mut declared = |op: &mut Op, stmts: &[Stmt], duals: &BTreeMap<TensorId, TensorId>, what: &str| {
        transpose(op, stmts, duals)
            .inspect_err(|e| {
                let name = &op.tensor(e.tensor).name;
                let d = Diagnostic::error(Code::NotLinear, e.span, format!("{what} is not linear in `{name}`"), e.why);
                let kind = if matches!(op.tensor(e.tensor).role, Role::Tangent(_)) { "tangent" } else { "cotangent" };
                out.push(d.help(format!(
                    "each term has exactly one {kind} as a factor; the other factors, denominators and conditions have none"
                )));
            })
            .ok()
    };
    let of_adjoint = op.adjoint.declared.then(|| declared(op, &op.adjoint.stmts.clone(), &to_dot, "the adjoint"));
    let of_tangent = op.tangent.declared.then(|| declared(op, &op.tangent.stmts.clone(), &to_bar, "the tangent"));
    if !op.adjoint.declared {
        op.adjoint.stmts = of_tangent.flatten().unwrap_or_else(|| derived.adjoint.clone());
    }
    if !op.tangent.declared {
        op.tangent.stmts = of_adjoint.flatten().unwrap_or_else(|| derived.tangent.clone());
    }
    if calls.is_empty() {
        return derived;
    }
    // What went through the rules of other ops is compared with what follows from the formulas alone.
    let tangent = tangent(op, &forward, &inputs);
    let Ok(adjoint) = transpose(op, &tangent, &to_bar) else { unreachable!("derived tangents are linear") };
    Derived { tangent, adjoint }
}

/// A statement from its parts: variables renumbered, the free ones (those of `index`) first, then `bound`.
pub fn build(
    target: TensorId,
    index: Vec<Affine>,
    accumulate: bool,
    vars: &[Var],
    reduce: Option<(ReduceOp, Vec<VarId>)>,
    value: Expr,
    span: Span,
) -> Stmt {
    let mut order = free_vars(&index);
    let free = order.len();
    let (op, bound) = reduce.map_or((None, Vec::new()), |(op, bound)| (Some(op), bound));
    order.extend(&bound);
    let renumber =
        |v: VarId| VarId(order.iter().position(|w| *w == v).expect("every variable of a statement is free or bound"));
    let affine = |a: &Affine| a.rename(&renumber);
    Stmt {
        target,
        index: index.iter().map(affine).collect(),
        accumulate,
        vars: order.iter().map(|v| vars[v.0].clone()).collect(),
        free,
        // A reduction over nothing is its body.
        reduce: op.filter(|_| order.len() > free),
        value: value.map(&affine, &mut |e| e),
        span,
        scan: None,
    }
}

/// The variables of a target, each once.
fn free_vars(index: &[Affine]) -> Vec<VarId> {
    let mut order: Vec<VarId> = Vec::new();
    for v in index.iter().flat_map(Affine::vars) {
        if !order.contains(&v) {
            order.push(v);
        }
    }
    order
}

/// The part in a recurrence of a statement that [`build`] makes of others' variables, where it has the one along the axis on its left.
pub fn part(scan: Option<Turn>, index: &[Affine]) -> Option<Turn> {
    let turn = scan?;
    let var = free_vars(index).iter().position(|v| *v == turn.var)?;
    Some(Turn { var: VarId(var), ..turn })
}

/// Brings a statement whose value may hold reductions anywhere to normal form and appends it to `out`: sums at the top become statements of
/// their own, reductions inside become locals over just the variables that they depend on.
pub fn hoist(op: &mut Op, mut raw: Stmt, local: Role, out: &mut Vec<Stmt>) {
    let mut terms = Vec::new();
    let value = std::mem::replace(&mut raw.value, Expr::zero());
    if has_reduction(&value) {
        split(value, false, &mut terms);
    } else {
        terms.push(value);
    }
    // One `=` at most: terms that follow add to it.
    for (n, term) in terms.into_iter().enumerate() {
        let (reduce, body) = match term {
            Expr::Reduce(r, vars, body) => (Some((r, vars)), *body),
            Expr::Unary(Unary::Neg, a) if matches!(*a, Expr::Reduce(ReduceOp::Sum, ..)) => match *a {
                Expr::Reduce(_, vars, body) => (Some((ReduceOp::Sum, vars)), body.neg()),
                _ => unreachable!("matched above"),
            },
            e => (None, e),
        };
        let (reduce, body) = merge_sums(reduce, body);
        let value = hoist_inner(op, &raw, body, local, out);
        let s = build(raw.target, raw.index.clone(), raw.accumulate || n > 0, &raw.vars, reduce, value, raw.span);
        out.push(Stmt { scan: part(raw.scan, &raw.index), ..s });
    }
}

/// Appends the statements that a recurrence became, what stands in a cycle of them as a recurrence.
fn arranged(op: &Op, group: Vec<Stmt>, out: &mut Vec<Stmt>) {
    if group.iter().all(|s| s.scan.is_none()) {
        out.extend(group);
        return;
    }
    // Numbers that no statement in `out` has; all are numbered anew in the end.
    let mut next = op.scans + out.len();
    let arranged = scan::arrange(op, &mut next, group, out);
    arranged.unwrap_or_else(|e| panic!("the derivative of a recurrence is none: {e:?}"));
}

/// One plain variable for each of the axes: `[i, j]` for `[I, J]`.
pub fn plain_index(op: &Op, axes: &[AxisId]) -> (Vec<Var>, Vec<Affine>) {
    let mut vars: Vec<Var> = Vec::new();
    for a in axes {
        let base = &op.axis(*a).index;
        let name = (1..)
            .map(|n| if n == 1 { base.clone() } else { format!("{base}{n}") })
            .find(|n| !vars.iter().any(|v| v.name == *n));
        vars.push(Var { name: name.expect("numbers do not run out"), axis: *a });
    }
    let index = (0..vars.len()).map(|v| Affine::var(VarId(v))).collect();
    (vars, index)
}

fn has_reduction(e: &Expr) -> bool {
    let mut found = false;
    e.visit(&mut |e| found |= matches!(e, Expr::Reduce(..)));
    found
}

/// The terms of a sum of which some are reductions.
fn split(e: Expr, negative: bool, out: &mut Vec<Expr>) {
    match e {
        Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) if has_reduction(&a) || has_reduction(&b) => {
            split(*a, negative, out);
            split(*b, negative != (f == Binary::Sub), out);
        }
        e => out.push(if negative { e.neg() } else { e }),
    }
}

/// `sum(i) sum(j) e` is `sum(i,j) e`.
fn merge_sums(reduce: Option<(ReduceOp, Vec<VarId>)>, body: Expr) -> (Option<(ReduceOp, Vec<VarId>)>, Expr) {
    match (reduce, body) {
        (Some((a, mut vars)), Expr::Reduce(b, inner, body)) if a == b => {
            vars.extend(inner);
            merge_sums(Some((a, vars)), *body)
        }
        other => other,
    }
}

/// Replaces every reduction in `e` by a read of a new local.
fn hoist_inner(op: &mut Op, raw: &Stmt, e: Expr, local: Role, out: &mut Vec<Stmt>) -> Expr {
    let (vars, span) = (&raw.vars, raw.span);
    e.map(&Affine::clone, &mut |e| match e {
        Expr::Reduce(r, bound, body) => {
            let free: Vec<VarId> = body.vars().into_iter().filter(|v| !bound.contains(v)).collect();
            let axes = free.iter().map(|v| vars[v.0].axis).collect();
            let t = op.add_tensor("t", axes, local, span);
            let index: Vec<_> = free.iter().copied().map(Affine::var).collect();
            let s = build(t, index.clone(), false, vars, Some((r, bound)), *body, span);
            out.push(Stmt { scan: part(raw.scan, &index), ..s });
            Expr::Read(t, index)
        }
        e => e,
    })
}

/// Drops statements whose target nobody reads, `wanted` aside; keeps order.
pub fn live(stmts: &[Stmt], wanted: &BTreeSet<TensorId>) -> Vec<Stmt> {
    needed(stmts, wanted, &|_| true)
}

/// The statements that `wanted` needs, in order, by way of tensors that `follow` names.
pub fn needed(stmts: &[Stmt], wanted: &BTreeSet<TensorId>, follow: &impl Fn(TensorId) -> bool) -> Vec<Stmt> {
    let mut needed = wanted.clone();
    let mut kept = Vec::new();
    for unit in scan::units(stmts).into_iter().rev() {
        let unit = &stmts[unit];
        // In a recurrence earlier statements read what later ones write.
        let mut known = usize::MAX;
        while known != needed.len() {
            known = needed.len();
            for s in unit.iter().rev() {
                if needed.contains(&s.target) {
                    needed.extend(reads(s).into_iter().filter(|t| follow(*t)));
                }
            }
        }
        kept.extend(unit.iter().rev().filter(|s| needed.contains(&s.target)).cloned());
    }
    kept.reverse();
    kept
}

/// A rule as it can be written in a spec: before it, what defines the locals that have no name in the spec, made where a reduction stands inside a
/// forward step.
pub fn with_definitions(op: &Op, rule: &[Stmt]) -> Vec<Stmt> {
    // A named local was written at its name, an anonymous one by its whole step.
    let anonymous = |s: &Stmt| op.tensor(s.target).role == Role::Local && op.tensor(s.target).span == s.span;
    let definitions: Vec<Stmt> = op.forward.iter().filter(|s| anonymous(s)).cloned().collect();
    let mut all = live(&definitions, &rule.iter().flat_map(reads).collect());
    all.extend_from_slice(rule);
    all
}

/// The tensors that a statement reads.
pub fn reads(s: &Stmt) -> BTreeSet<TensorId> {
    let mut set = BTreeSet::new();
    s.value.reads(&mut |t, _| {
        set.insert(t);
    });
    set
}
