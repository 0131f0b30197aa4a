//! Inlining: takes the steps of a function, gives them without elementwise statements that write a tensor by parts,
//! each variable a digit of a position (`z[2*p + w]`), for one other elementwise statement to read.
//!
//! Holds after it: such a reader runs over the digits and computes the value itself. Loops could not be shared here, as
//! no variable of the one is the other's.

use super::*;
use std::collections::BTreeSet;

/// The steps of a function whose scratch tensors are `locals`.
pub fn inline(mut steps: Vec<Step>, locals: &[TensorId], tensors: &[Tensor]) -> Vec<Step> {
    let mut at = 0;
    while at < steps.len() {
        match into(&steps, at, locals, tensors) {
            Some((reader, stmt)) => {
                steps[reader] = Step::Stmt(stmt);
                steps.remove(at);
            }
            None => at += 1,
        }
    }
    steps
}

/// The step that reads what step `at` writes, and what it is with the value in it.
fn into(steps: &[Step], at: usize, locals: &[TensorId], tensors: &[Tensor]) -> Option<(usize, Stmt)> {
    let Step::Stmt(s) = &steps[at] else { return None };
    let t = s.target.tensor;
    let by_digits = s.target.positions.iter().any(|p| p.numerator.terms.len() > 1);
    let mut guarded = false;
    let mut read: BTreeSet<TensorId> = BTreeSet::new();
    s.value.accesses(&mut |a| {
        guarded |= a.guarded();
        read.insert(a.tensor);
    });
    if !by_digits || s.reduce.is_some() || s.accumulate || guarded || !locals.contains(&t) {
        return None;
    }
    if !s.covers(&tensors[t.0].shape) {
        return None;
    }
    let mut others = (0..steps.len()).filter(|n| *n != at && steps[*n].touches(t));
    let (Some(reader), None) = (others.next(), others.next()) else { return None };
    let Step::Stmt(r) = steps.get(reader).filter(|_| reader > at)? else { return None };
    // Nothing of what the value is computed from changes before it is needed.
    let written = |step: &Step| step.stmts().iter().any(|s| read.contains(&s.target.tensor));
    if steps[at + 1..=reader].iter().any(written) || r.reduce.is_some() || r.target.tensor == t {
        return None;
    }
    let mut accesses: Vec<&Access> = Vec::new();
    r.value.accesses(&mut |a| accesses.extend((a.tensor == t).then_some(a)));
    let [access] = accesses.as_slice() else { return None };
    Some((reader, substituted(s, r, access, tensors)?))
}

/// The reader over the variables of `s` and those of its own that do not stand in the access, with the value of `s` for
/// the element read.
fn substituted(s: &Stmt, r: &Stmt, access: &Access, tensors: &[Tensor]) -> Option<Stmt> {
    let mut vars = s.vars.clone();
    let mut map: Vec<Option<Linear>> = vec![None; r.vars.len()];
    for (own, mixed_radix) in access.positions.iter().zip(&s.target.positions) {
        match own.as_var().filter(|_| !own.guard.any()) {
            Some(v) if map[v].is_none() => map[v] = Some(mixed_radix.numerator.clone()),
            _ => return None,
        }
    }
    for (v, to) in r.vars.iter().zip(&mut map) {
        to.get_or_insert_with(|| {
            vars.push(v.clone());
            Linear::var(vars.len() - 1)
        });
    }
    let map: Vec<Linear> = map.into_iter().flatten().collect();
    let linear = |l: &Linear| l.substitute(&|v| map[v].clone());
    let moved = |a: &Access| {
        let along = a.positions.iter().zip(&tensors[a.tensor.0].shape);
        let positions =
            along.map(|(p, size)| Position::new(linear(&p.numerator), p.divisor, *size, &|v| vars[v].extent)).collect();
        Access { tensor: a.tensor, positions }
    };
    let value = r.value.moved(&moved, &linear).map(&mut |e| match e {
        Expr::Read(a) if a.tensor == access.tensor => s.value.clone(),
        e => e,
    });
    Some(Stmt { target: moved(&r.target), free: vars.len(), value, vars, ..r.clone() })
}
