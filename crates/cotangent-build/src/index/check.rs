//! The checker of the index IR: takes an op, gives the first broken invariant of [`crate::index`]. A failure is a bug
//! of ours.

use super::*;

/// Checks every statement of every rule.
pub fn check(op: &Op) -> Result<(), String> {
    let entries = op.program.iter().flat_map(|p| &p.functions).map(|f| (f.entry.name(), &f.stmts));
    let rules = [("forward", &op.forward), ("adjoint", &op.adjoint.stmts), ("tangent", &op.tangent.stmts)];
    for (rule, stmts) in rules.into_iter().chain(entries) {
        let mut written = std::collections::BTreeSet::new();
        let mut numbers = std::collections::BTreeSet::new();
        for unit in scan::units(stmts) {
            let unit = &stmts[unit];
            let Some(first) = unit[0].scan else { continue };
            let broken = |what: &str| Err(format!("{}: {rule}: {what} at `{}`", op.name, print::stmt(op, &unit[0])));
            if !numbers.insert(first.scan) {
                return broken("a recurrence in two pieces");
            }
            if unit.iter().any(|s| s.scan.is_none_or(|t| t.backwards != first.backwards || t.var.0 >= s.free)) {
                return broken("a recurrence in two directions, or along a bound variable");
            }
            if let Err(unfit) = scan::shifts(op, unit) {
                return broken(&format!("no recurrence: `{}` {:?}", op.tensor(unfit.tensor).name, unfit.why));
            }
        }
        for (n, s) in stmts.iter().enumerate() {
            if let Some(recurrence) = s.scan {
                let others = stmts[n..].iter().take_while(|o| o.scan.is_some_and(|t| t.scan == recurrence.scan));
                written.extend(others.map(|o| o.target));
            }
            let fail = |what: String| Err(format!("{}: {rule}: {what} in `{}`", op.name, print::stmt(op, s)));
            let arity = |t: TensorId, index: &[Affine]| index.len() == op.tensor(t).axes.len();
            if !arity(s.target, &s.index) {
                return fail("arity of the target".into());
            }
            let on_left: std::collections::BTreeSet<_> = s.index.iter().flat_map(Affine::vars).collect();
            if on_left != (0..s.free).map(VarId).collect() {
                return fail("the free variables are not those on the left".into());
            }
            let meets = |b: &Stmt| b.target == s.target && !apart(&b.index, &s.index);
            if !s.accumulate && stmts[..n].iter().any(meets) {
                return fail("a `=` on what is written before".into());
            }
            if s.reduce.is_none() && s.vars.len() != s.free {
                return fail("bound variables without a reduction".into());
            }
            let mut broken = None;
            s.value.visit(&mut |e| match e {
                Expr::Reduce(..) => broken = Some("a reduction inside a value".to_string()),
                Expr::Read(t, index) if !arity(*t, index) => {
                    broken = Some(format!("arity of `{}`", op.tensor(*t).name))
                }
                Expr::Where(c, ..) if divided(c) => broken = Some("a division in a condition".into()),
                Expr::Read(t, _) if matches!(op.tensor(*t).role, Role::RuleLocal) && !written.contains(t) => {
                    broken = Some(format!("`{}` is read before it is written", op.tensor(*t).name))
                }
                _ => {}
            });
            s.value.positions(&mut |a| {
                if a.vars().any(|v| v.0 >= s.vars.len()) {
                    broken = Some("a variable out of range".into());
                }
                if a.terms.windows(2).any(|w| w[0].0 >= w[1].0)
                    || a.terms.iter().any(|(_, c)| c.is_zero())
                    || a.divisor.is_zero()
                {
                    broken = Some("an affine map out of normal form".into());
                }
            });
            if let Some(what) = broken {
                return fail(what);
            }
            written.insert(s.target);
        }
    }
    Ok(())
}

/// Whether coordinates are compared that are divided: what the division leaves over would not count.
fn divided(c: &Cond) -> bool {
    c.any(&|c| matches!(c, Cond::Index(_, a, b) if !a.divided_by_one() || !b.divided_by_one()))
}
