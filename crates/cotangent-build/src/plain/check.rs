//! The checker of the plain IR: takes a kernel, gives the first broken invariant of [`crate::plain`]. A failure is a bug of ours.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Checks every function.
pub fn check(k: &Kernel) -> Result<(), String> {
    for f in &k.functions {
        let mut begun: BTreeSet<TensorId> = f.reads.iter().copied().collect();
        if matches!(f.kind, Kind::Vjp { store: false, .. }) {
            begun.extend(&f.writes);
        }
        // Statements that store the parts of a tensor, until nothing of it is missing.
        let mut parts: BTreeMap<TensorId, Vec<&Stmt>> = BTreeMap::new();
        for step in &f.steps {
            let s = match step {
                Step::Fill(t) => {
                    begun.insert(*t);
                    continue;
                }
                Step::Stmt(s) => s,
            };
            let fail =
                |what: &str| Err(format!("{}::{}::{}: {what}: {}", k.op, k.name, f.name, print::stmt(&k.tensors, s)));
            if s.vars.iter().any(|v| v.extent < 2) {
                return fail("a loop of one turn");
            }
            if s.reduce.is_none() && s.vars.len() != s.free {
                return fail("bound variables without a reduction");
            }
            let mut problem = None;
            let mut access = |a: &Access| {
                let shape = &k.tensor(a.tensor).shape;
                if a.positions.len() != shape.len() {
                    problem = Some("wrong number of positions");
                }
                for (p, size) in a.positions.iter().zip(shape) {
                    let proven = Position::new(p.numerator.clone(), p.divisor, *size, &|v| s.vars[v].extent).guard;
                    if (proven.low && !p.guard.low)
                        || (proven.high && !p.guard.high)
                        || (proven.exact && !p.guard.exact)
                    {
                        problem = Some("a position out of bounds without a guard");
                    }
                }
            };
            access(&s.target);
            s.value.accesses(&mut access);
            let mut unbegun = false;
            s.value.reads(&mut |a| unbegun |= !begun.contains(&a.tensor));
            if unbegun {
                problem = Some("a tensor is read before it is written");
            }
            let target = s.target.tensor;
            if !begun.contains(&target) {
                let own = parts.entry(target).or_default();
                own.push(s);
                match written_once(own) {
                    Some(n) if !s.accumulate => {
                        if n == k.tensor(target).elements() as u128 {
                            begun.insert(target);
                        }
                    }
                    _ => problem = Some("the first write leaves elements without a value"),
                }
            }
            if let Some(what) = problem {
                return fail(what);
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
    }
    Ok(())
}
