//! The checker of signatures: takes a kernel, gives the first function whose arguments are not what it is for, whose
//! stages are given what it has not, or whose steps touch what it does not declare. A failure is a bug of ours.

use super::*;
use std::collections::BTreeSet;

/// Checks every function.
pub fn check(k: &Kernel) -> Result<(), String> {
    k.functions.iter().try_for_each(|f| {
        let result = distinct(f).and_then(|()| interface(k, f)).and_then(|()| steps(f)).and_then(|()| stages(k, f));
        result.map_err(|(what, t)| {
            let name = t.map_or(String::new(), |t| format!("`{}` ", k.tensor(t).name));
            format!("{}::{}::{}: {name}{what}", k.op, k.name, f.name)
        })
    })
}

type Broken = (&'static str, Option<TensorId>);

/// Each tensor is one thing to a function.
fn distinct(f: &Function) -> Result<(), Broken> {
    let mut seen = BTreeSet::new();
    match f.reads.iter().chain(&f.writes).chain(&f.locals).find(|t| !seen.insert(**t)) {
        Some(t) => Err(("stands twice among arguments and locals", Some(*t))),
        None => Ok(()),
    }
}

/// Whoever calls an entry point hands on what its kind names, and nothing else: inputs, outputs and their derivatives.
fn interface(k: &Kernel, f: &Function) -> Result<(), Broken> {
    let role = |t: TensorId| k.tensor(t).role;
    let input = |t: TensorId| role(t) == Role::Input;
    let output = |t: TensorId| role(t) == Role::Output;
    let dot = |t: TensorId, of: &dyn Fn(TensorId) -> bool| matches!(role(t), Role::Tangent(x) if of(x));
    let bar = |t: TensorId, of: &dyn Fn(TensorId) -> bool| matches!(role(t), Role::Cotangent(x) if of(x));
    let gradient = |t: TensorId| bar(t, &input);
    let partial = |t: TensorId| match role(t) {
        Role::Partial(of, by) if f.kind == Kind::Jacobian => input(by) && output(of),
        Role::Partial(of, by) if f.kind == Kind::Hessian => input(by) && input(of),
        _ => false,
    };
    let read = |t: TensorId| match f.kind {
        Kind::Forward | Kind::ValueAndGrad | Kind::Jacobian | Kind::Hessian => input(t),
        Kind::Jvp | Kind::Hvp => input(t) || dot(t, &input),
        // A rule of an op may read what `forward` returned.
        Kind::Vjp { .. } => input(t) || output(t) || bar(t, &output),
        Kind::Stage => true,
    };
    let written = |t: TensorId| match f.kind {
        Kind::Forward => output(t),
        Kind::Jvp => output(t) || dot(t, &output),
        Kind::Vjp { input: None, .. } => gradient(t),
        Kind::Vjp { input: Some(x), .. } => role(t) == Role::Cotangent(x),
        Kind::ValueAndGrad => output(t) || gradient(t),
        Kind::Hvp => dot(t, &gradient),
        Kind::Jacobian => output(t) || partial(t),
        Kind::Hessian => output(t) || gradient(t) || partial(t),
        Kind::Stage => true,
    };
    if let Some(t) = f.reads.iter().find(|t| !read(**t)) {
        return Err(("is an argument that nobody declared", Some(*t)));
    }
    if let Some(t) = f.writes.iter().find(|t| !written(**t)) {
        return Err(("is a result that nobody declared", Some(*t)));
    }
    if f.writes.is_empty() { Err(("has no result", None)) } else { Ok(()) }
}

/// What the steps read and write stands among arguments and locals, and each local is written.
fn steps(f: &Function) -> Result<(), Broken> {
    let written: BTreeSet<TensorId> = f.writes.iter().chain(&f.locals).copied().collect();
    for step in &f.steps {
        let target = match step {
            Step::Fill(t) => Some(t),
            _ => None,
        };
        let stmts = step.stmts();
        if let Some(t) = stmts.iter().map(|s| &s.target.tensor).chain(target).find(|t| !written.contains(t)) {
            return Err(("is written and not declared", Some(*t)));
        }
        let mut unknown = None;
        stmts.iter().for_each(|s| {
            s.value.reads(&mut |a| {
                if !written.contains(&a.tensor) && !f.reads.contains(&a.tensor) {
                    unknown = Some(a.tensor);
                }
            });
        });
        if unknown.is_some() {
            return Err(("is read and not declared", unknown));
        }
    }
    let written: BTreeSet<TensorId> = f.steps.iter().flat_map(Step::writes).collect();
    match f.locals.iter().find(|t| !written.contains(t)) {
        Some(t) => Err(("is a local that no step writes", Some(*t))),
        None => Ok(()),
    }
}

/// Each stage takes arguments of the function and places of its workspace, and reads of these what an earlier one has
/// written.
fn stages(k: &Kernel, f: &Function) -> Result<(), Broken> {
    if f.stages.is_empty() {
        return if f.workspace.places.is_empty() { Ok(()) } else { Err(("has a workspace and no stages", None)) };
    }
    let place = |t: &TensorId| f.workspace.places.contains_key(t);
    let mut begun: BTreeSet<TensorId> = f.reads.iter().chain(&f.held).copied().collect();
    for stage in f.stages.iter().map(|n| &k.functions[*n]) {
        if stage.kind != Kind::Stage {
            return Err(("has an entry point among its stages", None));
        }
        if let Some(t) = stage.reads.iter().chain(&stage.held).find(|t| !begun.contains(t)) {
            return Err(("is read by a stage before it has a value", Some(*t)));
        }
        if let Some(t) = stage.writes.iter().find(|t| !f.writes.contains(t) && !place(t)) {
            return Err(("is written by a stage that is not given it", Some(*t)));
        }
        begun.extend(&stage.writes);
    }
    match f.writes.iter().find(|t| !begun.contains(t)) {
        Some(t) => Err(("is written by no stage", Some(*t))),
        None => Ok(()),
    }
}
