//! The checker of the plain IR: takes a kernel, gives the first broken invariant of [`crate::plain`]. A failure is a
//! bug of ours.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Checks every function.
pub fn check(k: &Kernel) -> Result<(), String> {
    k.functions.iter().try_for_each(|f| function(k, f))
}

/// Checks one.
pub fn function(k: &Kernel, f: &Function) -> Result<(), String> {
    signature::check(k, f)?;
    let mut begun: BTreeSet<TensorId> = f.reads.iter().copied().collect();
    begun.extend(&f.held);
    // Statements that store the parts of a tensor, until nothing of it is missing.
    let mut parts: BTreeMap<TensorId, Vec<&Stmt>> = BTreeMap::new();
    for step in &f.steps {
        let fail = |s: &Stmt, what: &str| {
            Err(format!("{}::{}::{}: {what}: {}", k.op, k.name, f.name, print::stmt(&k.tensors, s)))
        };
        for s in step.stmts() {
            sound(k, s).or_else(|what| fail(s, what))?;
        }
        match step {
            Step::Fill(t) => _ = begun.insert(*t),
            Step::Stmt(s) => {
                if unbegun(k, s, &begun) {
                    return fail(s, "a tensor is read before it is written");
                }
                let target = s.target.tensor;
                if begun.contains(&target) {
                    continue;
                }
                let own = parts.entry(target).or_default();
                own.push(s);
                match written_once(own) {
                    Some(n) if !s.accumulate => {
                        if n == k.tensor(target).elements() as u128 {
                            begun.insert(target);
                        }
                    }
                    _ => return fail(s, "the first write leaves elements without a value"),
                }
            }
            Step::Scan(scan) => {
                let written: BTreeSet<TensorId> = step.stmts().iter().map(|s| s.target.tensor).collect();
                // What turns read of each other, the checker of the index IR has seen.
                let known: BTreeSet<TensorId> = begun.union(&written).copied().collect();
                for (segment, part) in scan.segments.iter().flat_map(|s| s.body.iter().map(move |part| (s, part))) {
                    let s = &part.stmt;
                    let moves = |v: usize| v < s.free && s.vars[v].extent == segment.turns;
                    if !part.turn.map_or(segment.turns == 1, moves) {
                        return fail(s, "a statement of a recurrence has not one coordinate a turn");
                    }
                    if unbegun(k, s, &known) {
                        return fail(s, "a tensor is read before it is written");
                    }
                }
                for t in written.difference(&begun.clone()) {
                    let own: Vec<&Stmt> =
                        step.stmts().into_iter().filter(|s| s.target.tensor == *t && !s.accumulate).collect();
                    if written_once(&own) != Some(k.tensor(*t).elements() as u128) {
                        return Err(format!(
                            "{}::{}::{}: a recurrence does not set `{}`",
                            k.op,
                            k.name,
                            f.name,
                            k.tensor(*t).name
                        ));
                    }
                    begun.insert(*t);
                }
            }
        }
    }
    if let Some(t) = f.writes.iter().find(|t| !begun.contains(t)) {
        return Err(format!(
            "{}::{}::{}: `{}` is never written, or not whole",
            k.op,
            k.name,
            f.name,
            k.tensor(*t).name
        ));
    }
    Ok(())
}

/// Whether the statement reads what has no value; a read that is always outside reads nothing.
fn unbegun(k: &Kernel, s: &Stmt, begun: &BTreeSet<TensorId>) -> bool {
    let mut found = false;
    s.value.reads(&mut |a| {
        let outside = a.positions.iter().zip(&k.tensor(a.tensor).shape).any(|(p, size)| {
            let (lo, hi) = p.numerator.range(&|v| s.vars[v].extent);
            hi < 0 || lo >= *size as i64 * p.divisor
        });
        found |= !outside && !begun.contains(&a.tensor);
    });
    found
}

/// What holds for a statement wherever it stands.
fn sound(k: &Kernel, s: &Stmt) -> Result<(), &'static str> {
    if s.vars.iter().any(|v| v.extent < 2) {
        return Err("a loop of one turn");
    }
    if s.reduce.is_none() && s.vars.len() != s.free {
        return Err("bound variables without a reduction");
    }
    let mut problem = None;
    let mut access = |a: &Access| {
        let shape = &k.tensor(a.tensor).shape;
        if a.positions.len() != shape.len() {
            problem = Some("wrong number of positions");
        }
        for (p, size) in a.positions.iter().zip(shape) {
            let proven = Position::new(p.numerator.clone(), p.divisor, *size, &|v| s.vars[v].extent).guard;
            if (proven.low && !p.guard.low) || (proven.high && !p.guard.high) || (proven.exact && !p.guard.exact) {
                problem = Some("a position out of bounds without a guard");
            }
        }
    };
    access(&s.target);
    s.value.accesses(&mut access);
    problem.map_or(Ok(()), Err)
}
