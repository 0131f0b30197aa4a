//! Derivation: forward statements to tangent statements (`tangent`), linear statements to their transposes
//! (`transpose`). Both keep the normal form (`index/normal.rs`).
//!
//! The adjoint of an op is the transpose of its tangent, as the tangent is the transpose of its adjoint: one
//! transposition serves both. Holds after each: statements of the index IR, reductions at the root, ready to be
//! differentiated again.

pub mod absent;
pub mod least;
pub mod range;
mod tangent;
mod transpose;

pub use tangent::{tangent, tangent_through};
pub use transpose::{NotLinear, transpose};

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::*;
use std::collections::{BTreeMap, BTreeSet};

/// The rules that follow from the forward formula alone.
pub struct Derived {
    pub tangent: Vec<Stmt>,
    pub adjoint: Vec<Stmt>,
}

/// Derives both rules and completes the op: a rule that is not declared is the transpose of the one that is, or the
/// derived one.
///
/// So the tangent of an op with a declared adjoint takes over its convention at kinks, and its economy (a softmax
/// tangent that reads `y`).
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
                    needed.extend(s.reads().into_iter().filter(|t| follow(*t)));
                }
            }
        }
        kept.extend(unit.iter().rev().filter(|s| needed.contains(&s.target)).cloned());
    }
    kept.reverse();
    kept
}

/// A rule as it can be written in a spec: before it, what defines the locals that have no name in the spec, made where
/// a reduction stands inside a forward step.
pub fn with_definitions(op: &Op, rule: &[Stmt]) -> Vec<Stmt> {
    // A named local was written at its name, an anonymous one by its whole step.
    let anonymous = |s: &Stmt| op.tensor(s.target).role == Role::Local && op.tensor(s.target).span == s.span;
    let definitions: Vec<Stmt> = op.forward.iter().filter(|s| anonymous(s)).cloned().collect();
    let mut all = live(&definitions, &rule.iter().flat_map(Stmt::reads).collect());
    all.extend_from_slice(rule);
    all
}
