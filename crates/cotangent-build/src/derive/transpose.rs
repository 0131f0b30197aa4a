//! Transposition: takes statements that are linear in some tensors, gives the statements of the transposed map.
//!
//! `T[f] += Σ c * L[g]` contributes `L_bar[g] += Σ c * T_bar[f]` over the same iteration domain: the scatter form,
//! always right, for repeated reads, strides and diagonals too. Holds after it: the result is linear in the duals of
//! the targets, in reverse order.

use crate::index::normal::{build, hoist};
use crate::index::*;
use crate::source::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Div, Mul, Neg};

/// Where a statement is not linear in the tensors that it should be linear in.
pub struct NotLinear {
    pub span: Span,
    pub tensor: TensorId,
    /// Whether the tensor meets another linear factor, a function, or stands as an added constant.
    pub why: &'static str,
}

/// Transposes `stmts`. `linear`: the linear inputs and targets with their duals (what the transposed map writes for a
/// tensor read, and reads for a tensor written); linear locals get duals of their own, of role [`Role::RuleLocal`].
pub fn transpose(op: &mut Op, stmts: &[Stmt], linear: &BTreeMap<TensorId, TensorId>) -> Result<Vec<Stmt>, NotLinear> {
    let mut duals = linear.clone();
    // What nothing reads has no dual to read.
    let stmts = &super::live(stmts, &linear.keys().copied().collect());
    // Linear locals: written by a statement that reads something linear.
    let mut linear_stmts = Vec::new();
    for (s, reads_linear) in stmts.iter().zip(moved(stmts, linear)) {
        if !reads_linear && linear.contains_key(&s.target) && !s.value.is_zero() {
            let source = linear.keys().find(|t| stmts.iter().all(|s| s.target != **t));
            let tensor = *source.unwrap_or(&s.target);
            return Err(NotLinear { span: s.span, tensor, why: "no term contains it" });
        }
        if reads_linear && !duals.contains_key(&s.target) {
            let Tensor { name, axes, span, role, .. } = op.tensor(s.target).clone();
            let dual = match role {
                Role::Tangent(u) => op.dual(u, Role::Cotangent),
                Role::Cotangent(u) => op.dual(u, Role::Tangent),
                _ => op.add_tensor(&format!("{name}_t"), axes, Role::RuleLocal, span),
            };
            duals.insert(s.target, dual);
        }
        linear_stmts.push(reads_linear);
    }
    let mut out = Vec::new();
    // A target that later statements read: what comes back for it joins its own dual in a local.
    let read: BTreeSet<TensorId> = stmts.iter().flat_map(Stmt::reads).collect();
    for (t, dual) in linear {
        if read.contains(t) && stmts.iter().any(|s| s.target == *t) {
            let Tensor { name, axes, span, .. } = op.tensor(*t).clone();
            let local = op.add_tensor(&format!("{name}_t"), axes.clone(), Role::RuleLocal, span);
            duals.insert(*t, local);
            let (vars, index) = super::plain_index(op, &axes);
            out.push(build(local, index.clone(), false, &vars, None, Expr::Read(*dual, index), span));
        }
    }
    // What is not linear is needed as it is, before everything else.
    let constant = |s: &Stmt, reads_linear: bool| !reads_linear && !linear.contains_key(&s.target);
    let constants =
        stmts.iter().zip(&linear_stmts).filter(|(s, l)| constant(s, **l)).map(|(s, _)| s.clone()).collect::<Vec<_>>();
    for unit in scan::units(&constants) {
        super::arranged(op, constants[unit].to_vec(), &mut out);
    }
    // Duals that hold something: those given, and those that a statement below has added to.
    let mut reached: BTreeSet<TensorId> = linear.values().copied().collect();
    reached.extend(out.iter().map(|s| s.target));
    for unit in scan::units(stmts).into_iter().rev() {
        let members: Vec<&Stmt> = unit.filter(|n| linear_stmts[*n]).map(|n| &stmts[n]).collect();
        // In a recurrence what comes first backwards may be reached by what comes after it.
        let mut known = usize::MAX;
        while known != reached.len() {
            known = reached.len();
            for s in members.iter().rev().filter(|s| s.scan.is_some()) {
                if reached.contains(&duals[&s.target]) {
                    reached.extend(s.reads().iter().filter_map(|t| duals.get(t)));
                }
            }
        }
        let mut back = Vec::new();
        for s in members.into_iter().rev() {
            scatter(op, s, &duals, &mut reached, &mut back)?;
        }
        super::arranged(op, back, &mut out);
    }
    scan::renumber(op, &mut out);
    Ok(out)
}

/// Those that read something linear, or what such a statement wrote.
fn moved(stmts: &[Stmt], linear: &BTreeMap<TensorId, TensorId>) -> Vec<bool> {
    let mut known: BTreeSet<TensorId> = linear.keys().copied().collect();
    let reads = |s: &Stmt, known: &BTreeSet<TensorId>| s.reads().iter().any(|t| known.contains(t));
    for unit in scan::units(stmts) {
        let mut count = usize::MAX;
        while count != known.len() {
            count = known.len();
            for s in &stmts[unit.clone()] {
                if reads(s, &known) {
                    known.insert(s.target);
                }
            }
        }
    }
    stmts.iter().map(|s| reads(s, &known)).collect()
}

/// Appends what a statement contributes to the duals of the tensors that it reads.
fn scatter(
    op: &mut Op,
    s: &Stmt,
    duals: &BTreeMap<TensorId, TensorId>,
    reached: &mut BTreeSet<TensorId>,
    out: &mut Vec<Stmt>,
) -> Result<(), NotLinear> {
    if s.reduce.is_some_and(|r| r != ReduceOp::Sum) {
        let tensor = s.reads().into_iter().find(|t| duals.contains_key(t)).unwrap_or(s.target);
        return Err(NotLinear { span: s.span, tensor, why: "it stands under a reduction other than a sum" });
    }
    if !reached.contains(&duals[&s.target]) {
        return Ok(());
    }
    let seed = Expr::Read(duals[&s.target], s.index.clone());
    let mut terms = Vec::new();
    collect(&s.value, seed, duals, &mut terms).map_err(|(tensor, why)| {
        let read = s.reads().into_iter().find(|t| duals.contains_key(t));
        NotLinear { span: s.span, tensor: tensor.or(read).unwrap_or(s.target), why }
    })?;
    for (read, index, value) in terms {
        reached.insert(duals[&read]);
        let free: Vec<VarId> = index.iter().flat_map(Affine::vars).collect();
        let bound: Vec<VarId> = (0..s.vars.len()).map(VarId).filter(|v| !free.contains(v)).collect();
        let value = if bound.is_empty() { value } else { Expr::Reduce(ReduceOp::Sum, bound, Box::new(value)) };
        let raw = Stmt {
            target: duals[&read],
            index,
            accumulate: true,
            vars: s.vars.clone(),
            free: 0,
            reduce: None,
            value,
            span: s.span,
            scan: s.scan.map(|t| Recurrence { backwards: !t.backwards, ..t }),
        };
        hoist(op, raw, Role::RuleLocal, out);
    }
    Ok(())
}

type Term = (TensorId, Vec<Affine>, Expr);

/// The linear reads of `e`, each with the dual's contribution `coefficient * seed`.
fn collect(
    e: &Expr,
    seed: Expr,
    duals: &BTreeMap<TensorId, TensorId>,
    out: &mut Vec<Term>,
) -> Result<(), (Option<TensorId>, &'static str)> {
    let linear = |e: &Expr| {
        let mut found = None;
        e.reads(&mut |t, _| found = found.or(duals.contains_key(&t).then_some(t)));
        found
    };
    let mut target = None;
    match e {
        Expr::Read(t, index) if duals.contains_key(t) => {
            out.push((*t, index.clone(), seed));
            return Ok(());
        }
        // The constant zero is linear: a branch of `where`.
        e if e.is_zero() => return Ok(()),
        Expr::Unary(Unary::Neg, a) => return collect(a, seed.neg(), duals, out),
        Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) => {
            collect(a, seed.clone(), duals, out)?;
            return collect(b, if *f == Binary::Sub { seed.neg() } else { seed }, duals, out);
        }
        Expr::Binary(Binary::Mul, a, b) => match (linear(a), linear(b)) {
            (Some(_), None) => return collect(a, seed.mul(b.as_ref().clone()), duals, out),
            (None, Some(_)) => return collect(b, a.as_ref().clone().mul(seed), duals, out),
            (Some(t), Some(_)) => target = Some((t, "it is multiplied by another linear factor")),
            (None, None) => {}
        },
        Expr::Binary(Binary::Div, a, b) => match (linear(a), linear(b)) {
            (Some(_), None) => return collect(a, seed.div(b.as_ref().clone()), duals, out),
            (_, Some(t)) => target = Some((t, "it stands in a denominator")),
            (None, None) => {}
        },
        Expr::Where(c, a, b) => {
            let mut in_cond = None;
            c.reads(&mut |t, _| in_cond = in_cond.or(duals.contains_key(&t).then_some(t)));
            if let Some(t) = in_cond {
                return Err((Some(t), "a condition depends on it"));
            }
            // Only the taken branch is evaluated, in derivatives too.
            let mut branch = Vec::new();
            collect(a, seed.clone(), duals, &mut branch)?;
            out.extend(branch.drain(..).map(|(t, i, v)| (t, i, Expr::select(c.as_ref().clone(), v, Expr::zero()))));
            collect(b, seed, duals, &mut branch)?;
            out.extend(branch.into_iter().map(|(t, i, v)| (t, i, Expr::select(c.as_ref().clone(), Expr::zero(), v))));
            return Ok(());
        }
        _ => target = linear(e).map(|t| (t, "a function is applied to it")),
    }
    // A term without a linear read adds a constant: affine, not linear.
    Err(target.map_or((None, "a term does not contain it"), |(t, why)| (Some(t), why)))
}
