//! The checker of the plain IR: takes a kernel, gives the first broken invariant of [`crate::plain`]. A failure is a
//! bug of ours.

use super::mask::Mask;
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
    begun.extend(&f.accumulated);
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
                // What iterations read of each other, the checker of the index IR has seen.
                let known: BTreeSet<TensorId> = begun.union(&written).copied().collect();
                for (segment, part) in scan.segments.iter().flat_map(|s| s.body.iter().map(move |part| (s, part))) {
                    let s = &part.stmt;
                    let moves = |v: usize| v < s.free && s.vars[v].extent == segment.iterations;
                    if !part.iteration.map_or(segment.iterations == 1, moves) {
                        return fail(s, "a statement of a recurrence has not one coordinate an iteration");
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
        return Err("a loop of one iteration");
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
    problem.map_or(Ok(()), Err)?;
    Masks { tensors: &k.tensors, known: Vec::new() }.value(&s.value)?;
    let (masks, value) = s.value.unmasked();
    if s.reduce.is_some_and(ReduceOp::skips_outside) && !evaluated(value, masks) {
        return Err("a reduction counts a coordinate at which a read falls outside of its tensor");
    }
    Ok(())
}

/// Whether reads that are evaluated in any case are known to be inside.
fn evaluated(e: &Expr, known: &[Mask]) -> bool {
    match e {
        Expr::Const(_) | Expr::Read(_) | Expr::Where(..) => true,
        Expr::Unary(_, a) | Expr::Powf(a, _) => evaluated(a, known),
        Expr::Binary(_, a, b) => evaluated(a, known) && evaluated(b, known),
        Expr::Masked(masks, a) => {
            let inside = |m: &Mask| !matches!(m, Mask::Within(..)) || known.contains(m);
            masks.iter().all(inside) && evaluated(a, known)
        }
    }
}

/// Looks for reads that no mask keeps inside.
struct Masks<'a> {
    tensors: &'a [Tensor],
    /// What holds here.
    known: Vec<&'a Mask>,
}

impl<'a> Masks<'a> {
    fn value(&mut self, e: &'a Expr) -> Result<(), &'static str> {
        match e {
            Expr::Const(_) => Ok(()),
            Expr::Read(a) => {
                let holds = |(p, size): (&Position, usize)| {
                    self.known.iter().any(|m| matches!(m, Mask::Within(q, n) if (p, size) == (q, *n)))
                };
                let inside = mask::guards(a, self.tensors).all(holds);
                inside.then_some(()).ok_or("a read may fall outside of its tensor, and no mask says so")
            }
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.value(a),
            Expr::Binary(_, a, b) => self.value(a).and_then(|()| self.value(b)),
            Expr::Where(c, a, b) => self.cond(c).and_then(|()| self.value(a)).and_then(|()| self.value(b)),
            Expr::Masked(masks, a) => {
                if masks.is_empty() {
                    return Err("an empty list of masks");
                }
                masks.iter().try_for_each(|m| self.mask(m))?;
                let before = self.known.len();
                self.known.extend(masks);
                let sound = self.value(a);
                self.known.truncate(before);
                sound
            }
        }
    }
    fn cond(&mut self, c: &'a Cond) -> Result<(), &'static str> {
        match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => Ok(()),
            Cond::Value(_, a, b) => self.value(a).and_then(|()| self.value(b)),
            Cond::And(a, b) | Cond::Or(a, b) => self.cond(a).and_then(|()| self.cond(b)),
            Cond::Not(a) => self.cond(a),
        }
    }
    /// What masks themselves read.
    fn mask(&mut self, m: &'a Mask) -> Result<(), &'static str> {
        let (c, a, b) = match m {
            Mask::Within(..) => return Ok(()),
            Mask::Either(a, b) => (None, a, b),
            Mask::Taken(c, a, b) => (Some(c), a, b),
        };
        c.map_or(Ok(()), |c| self.cond(c))?;
        a.iter().chain(b).try_for_each(|m| self.mask(m))
    }
}
