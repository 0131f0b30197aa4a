//! The checker of signatures: takes a function, says whether its arguments are not what it is for, or its steps touch
//! what it does not declare. A failure is a bug of ours.

use super::*;
use std::collections::BTreeSet;

/// What is wrong, and with which tensor.
pub type Broken = (&'static str, Option<TensorId>);

/// Checks a function.
pub fn check(k: &Kernel, f: &Function) -> Result<(), String> {
    let result = distinct(f).and_then(|()| interface(k, f)).and_then(|()| steps(f));
    result.map_err(|broken| text(k, f, broken))
}

/// What is wrong with a function, for a person.
pub fn text(k: &Kernel, f: &Function, (what, t): Broken) -> String {
    let name = t.map_or(String::new(), |t| format!("`{}` ", k.tensor(t).name));
    format!("{}::{}::{}: {name}{what}", k.op, k.name, f.name)
}

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
        Kind::Jvp | Kind::Hvp | Kind::ValueGradAndHvp => input(t) || dot(t, &input),
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
        Kind::ValueGradAndHvp => output(t) || gradient(t) || dot(t, &gradient),
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
