//! Programs: takes an op with its rules, gives the statements of each entry point: `forward`, `jvp`, `vjp`,
//! `value_and_grad`, `hvp`, `value_grad_and_hvp`, `jacobian`, `hessian`, derived by the inputs that `wrt` names and by
//! no other.
//!
//! Holds after it: each entry point is a list of statements of the index IR that writes its results from inputs,
//! tangents and cotangents; what two statements compute alike is computed once, but for what the way back computes
//! again, as a checkpoint asks for it or it is cheap; and nothing that the results do not need is there.

mod batch;
mod conditions;
mod diagonal;
mod optimise;

use crate::derive::range::Range;
use crate::derive::{self, absent, tangent_through, transpose};
use crate::index::*;
use batch::{Batch, Seeds};
use conditions::Conditions;
use std::collections::{BTreeMap, BTreeSet};

/// The ranges of what the instances give.
pub type Params = BTreeMap<ParamId, Range>;

/// Completes a program whose rules are there, but for the entry points that are `never` made; of an op it changes
/// nothing.
pub fn complete(op: &mut Op, params: &Params, never: &[Entry]) {
    let Some(program) = op.program.clone() else { return };
    let outputs = op.outputs();
    let scalar = match outputs.as_slice() {
        [z] if op.tensor(*z).axes.is_empty() => Some(*z),
        _ => None,
    };
    let wanted =
        |e: &Entry| e.is_of(op) && !never.contains(e) && program.asked.as_ref().is_none_or(|asked| asked.contains(e));
    let entries: Vec<Entry> = Entry::ALL.into_iter().filter(wanted).collect();
    // What the spec says stays beside the entry points.
    let (forward, calls) = diagonal::joined(op, &program.wrt);
    let (forward, calls) = (std::mem::replace(&mut op.forward, forward), std::mem::replace(&mut op.calls, calls));
    let mut functions = Vec::new();
    for entry in entries {
        match entry {
            Entry::Forward => functions.push(function(op, params, entry, op.forward.clone(), outputs.clone())),
            Entry::Jvp => {
                let tangents = tangents(op, &program.wrt);
                let dots = outputs.iter().map(|z| op.dual(*z, Role::Tangent));
                let results = outputs.iter().copied().chain(dots.collect::<Vec<_>>()).collect();
                let stmts = interleaved(op, &op.forward, &tangents);
                functions.push(function(op, params, entry, stmts, results));
            }
            Entry::Vjp => {
                let (stmts, results) = forward_and_reverse(op, &program, None);
                functions.push(function(op, params, entry, stmts, results));
            }
            Entry::ValueAndGrad => {
                let (stmts, bars) = forward_and_reverse(op, &program, scalar);
                let results = outputs.iter().copied().chain(bars).collect();
                functions.push(function(op, params, entry, stmts, results));
            }
            Entry::Hvp | Entry::ValueGradAndHvp => {
                let (stmts, bars) = forward_and_reverse(op, &program, scalar);
                let tangents = second(op, &stmts, &program.wrt);
                let products: Vec<TensorId> = bars.iter().map(|b| op.dual(*b, Role::Tangent)).collect();
                let results = match entry {
                    Entry::Hvp => products,
                    _ => [outputs.clone(), bars, products].concat(),
                };
                functions.push(function(op, params, entry, interleaved(op, &stmts, &tangents), results));
            }
            Entry::Jacobian => functions.extend([false, true].map(|reverse| jacobian(op, params, &program, reverse))),
            Entry::Hessian => {
                functions.push(hessian(op, params, &program, scalar.expect("a single output without axes")))
            }
        }
    }
    (op.forward, op.calls) = (forward, calls);
    let mut conditions = Conditions::default();
    for f in &mut functions {
        f.stmts = conditions.taken_out(op, std::mem::take(&mut f.stmts));
    }
    // after this: tiles can run what compared indices
    op.program = Some(Program { functions, ..program });
}

/// What the results need, with branches that are not taken kept apart, made small.
fn function(op: &mut Op, params: &Params, entry: Entry, stmts: Vec<Stmt>, results: Vec<TensorId>) -> ProgramFunction {
    let stmts = derive::live(&stmts, &results.iter().copied().collect());
    let stmts = absent::absorbed(op, params, &[], &stmts);
    let stmts = optimise::optimise(op, &stmts, &results);
    ProgramFunction { entry, stmts, results, reverse: false }
}

/// The tangents of the forward formula, through the rules of the ops that it calls.
fn tangents(op: &mut Op, wrt: &[TensorId]) -> Vec<Stmt> {
    let (forward, calls) = (op.forward.clone(), op.calls.clone());
    tangent_through(op, &forward, &calls, wrt)
}

/// The tangents of statements that begin with the forward formula.
fn second(op: &mut Op, stmts: &[Stmt], wrt: &[TensorId]) -> Vec<Stmt> {
    // The rule of a call gives the tangents of what the call makes; where the way back reads its locals, theirs are
    // needed too.
    let whole = |call: &&Call| {
        let given: BTreeSet<TensorId> = call.tangent.iter().map(|s| s.target).collect();
        let has_tangent = |t: &TensorId| given.iter().any(|g| op.tensor(*g).role == Role::Tangent(*t));
        let inner: BTreeSet<TensorId> = op.forward[call.stmts.clone()].iter().map(|s| s.target).collect();
        let outside = stmts.iter().enumerate().filter(|(n, _)| !call.stmts.contains(n));
        let mut read = outside.flat_map(|(_, s)| s.reads()).filter(|t| inner.contains(t));
        read.all(|t| has_tangent(&t))
    };
    let calls: Vec<Call> = op.calls.iter().filter(whole).cloned().collect();
    let mut tangents = tangent_through(op, stmts, &calls, wrt);
    // A rule that stands in both directions has its locals in both, with all that is added to them.
    tangents.retain(|s| !stmts.iter().any(|o| o.target == s.target));
    tangents
}

/// The forward formula and the way back from the cotangents of the outputs, or from that of `scalar`, which is 1; and
/// the cotangents of the inputs that derivatives are taken by.
fn forward_and_reverse(op: &mut Op, program: &Program, scalar: Option<TensorId>) -> (Vec<Stmt>, Vec<TensorId>) {
    let mut back = adjoint(op, &program.wrt);
    if let Some(z) = scalar {
        let seed = op.dual(z, Role::Cotangent);
        back = back.iter().map(|s| optimise::with_value(s, &|e| is_read(e, seed).then(Expr::one))).collect();
    }
    let bars: Vec<TensorId> = program.wrt.iter().map(|x| op.dual(*x, Role::Cotangent)).collect();
    let back = derive::live(&back, &bars.iter().copied().collect());
    let back = optimise::recomputed(op, back, &program.checkpoints);
    (op.forward.iter().cloned().chain(back).collect(), bars)
}

fn is_read(e: &Expr, of: TensorId) -> bool {
    matches!(e, Expr::Read(t, _) if *t == of)
}

/// The adjoint by some of the inputs: the transpose of the tangent by those alone, so that nothing is propagated to the
/// others.
fn adjoint(op: &mut Op, wrt: &[TensorId]) -> Vec<Stmt> {
    let tangents = tangents(op, wrt);
    let pairs: BTreeMap<TensorId, TensorId> = wrt
        .iter()
        .copied()
        .chain(op.outputs())
        .map(|t| (op.dual(t, Role::Tangent), op.dual(t, Role::Cotangent)))
        .collect();
    let Ok(adjoint) = transpose(op, &tangents, &pairs) else { unreachable!("derived tangents are linear") };
    adjoint
}

/// Statements and their tangents in one list, each tangent behind its primal as soon as what it reads is there: both
/// share loads, and less is alive.
fn interleaved(op: &Op, stmts: &[Stmt], tangents: &[Stmt]) -> Vec<Stmt> {
    if stmts.iter().chain(tangents).any(|s| s.scan.is_some()) {
        // A recurrence stays together.
        return [stmts, tangents].concat();
    }
    let mut last: BTreeMap<TensorId, usize> = BTreeMap::new();
    stmts.iter().enumerate().for_each(|(n, s)| _ = last.insert(s.target, n + 1));
    let mut after: Vec<Vec<Stmt>> = vec![Vec::new(); stmts.len() + 1];
    let mut placed: BTreeMap<TensorId, usize> = BTreeMap::new();
    for s in tangents {
        let own = |t: &TensorId| last.get(t).copied().max(placed.get(t).copied()).unwrap_or(0);
        let primal = match op.tensor(s.target).role {
            Role::Tangent(of) => Some(of),
            _ => None,
        };
        let at = s.reads().iter().chain([&s.target]).chain(&primal).map(own).max().unwrap_or(0);
        placed.insert(s.target, at);
        after[at].push(s.clone());
    }
    let mut out = std::mem::take(&mut after[0]);
    for (s, behind) in stmts.iter().zip(after.into_iter().skip(1)) {
        out.push(s.clone());
        out.extend(behind);
    }
    out
}

/// Every output's derivatives by each of the inputs, and the outputs. Going forward there is a tangent for each element
/// of an input, going back a cotangent for each of an output: sizes decide which is less.
fn jacobian(op: &mut Op, params: &Params, program: &Program, reverse: bool) -> ProgramFunction {
    let outputs = op.outputs();
    let mut stmts = op.forward.clone();
    let mut results = outputs.clone();
    if reverse {
        let back = adjoint(op, &program.wrt);
        for z in &outputs {
            let bar = op.dual(*z, Role::Cotangent);
            let others = outputs.iter().filter(|o| *o != z).map(|o| op.dual(*o, Role::Cotangent)).collect();
            let results = program.wrt.iter().map(|x| (op.dual(*x, Role::Cotangent), partial(op, *z, *z, *x))).collect();
            let batch =
                Batch { seed: bar, axes: op.tensor(*z).axes.clone(), seeds: Seeds::First, zero: others, results };
            batch.run(op, &back, &mut stmts);
        }
    } else {
        for x in &program.wrt {
            let forward = tangents(op, &[*x]);
            let dot = op.dual(*x, Role::Tangent);
            let results = outputs.iter().map(|z| (op.dual(*z, Role::Tangent), partial(op, *z, *z, *x))).collect();
            let zero = BTreeSet::new();
            let batch = Batch { seed: dot, axes: op.tensor(*x).axes.clone(), seeds: Seeds::Last, zero, results };
            batch.run(op, &forward, &mut stmts);
        }
    }
    for z in &outputs {
        results.extend(program.wrt.iter().map(|x| partial(op, *z, *z, *x)).collect::<Vec<_>>());
    }
    ProgramFunction { reverse, ..function(op, params, Entry::Jacobian, stmts, results) }
}

/// The derivatives of `of` by `by`; of `value` they are.
fn partial(op: &mut Op, value: TensorId, of: TensorId, by: TensorId) -> TensorId {
    if let Some(t) = op.with_role(Role::Partial(of, by)).first() {
        return *t;
    }
    let (value, own, by_) = (op.tensor(value).name.clone(), op.tensor(of).clone(), op.tensor(by).clone());
    let second = if op.tensor(of).role == Role::Input { format!("_{}", own.name) } else { String::new() };
    let axes = [own.axes, by_.axes].concat();
    op.add_tensor(&format!("{value}{second}_{}", by_.name), axes, Role::Partial(of, by), own.span)
}

/// The value, the gradient, and the gradient's derivatives.
fn hessian(op: &mut Op, params: &Params, program: &Program, z: TensorId) -> ProgramFunction {
    let (gradient, bars) = forward_and_reverse(op, program, Some(z));
    let mut stmts = gradient.clone();
    for x in &program.wrt {
        let forward = second(op, &gradient, &[*x]);
        let dot = op.dual(*x, Role::Tangent);
        let results =
            program.wrt.iter().zip(&bars).map(|(y, b)| (op.dual(*b, Role::Tangent), partial(op, z, *y, *x))).collect();
        let zero = BTreeSet::new();
        let batch = Batch { seed: dot, axes: op.tensor(*x).axes.clone(), seeds: Seeds::Last, zero, results };
        batch.run(op, &forward, &mut stmts);
    }
    let pairs = program.wrt.iter().flat_map(|y| program.wrt.iter().map(move |x| (*y, *x)));
    let second: Vec<TensorId> = pairs.map(|(y, x)| partial(op, z, y, x)).collect();
    let results = [z].into_iter().chain(bars).chain(second).collect();
    function(op, params, Entry::Hessian, stmts, results)
}
