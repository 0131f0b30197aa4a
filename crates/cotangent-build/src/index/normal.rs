//! The normal form of statements: takes statements whose value may hold reductions anywhere, or their parts, gives
//! statements of the index IR.
//!
//! Holds after it: a reduction stands only at the root of a value; variables are numbered from the target's on.

use super::*;

/// A statement from its parts: variables renumbered, the free ones (those of `index`) first, then `bound`.
pub fn build(
    target: TensorId,
    index: Vec<Affine>,
    accumulate: bool,
    vars: &[Var],
    reduce: Option<(ReduceOp, Vec<VarId>)>,
    value: Expr,
    span: Span,
) -> Stmt {
    let mut order = free_vars(&index);
    let free = order.len();
    let (op, bound) = reduce.map_or((None, Vec::new()), |(op, bound)| (Some(op), bound));
    order.extend(&bound);
    let renumber =
        |v: VarId| VarId(order.iter().position(|w| *w == v).expect("every variable of a statement is free or bound"));
    let affine = |a: &Affine| a.rename(&renumber);
    Stmt {
        target,
        index: index.iter().map(affine).collect(),
        accumulate,
        vars: order.iter().map(|v| vars[v.0].clone()).collect(),
        free,
        // A reduction over nothing is its body.
        reduce: op.filter(|_| order.len() > free),
        value: value.moved(&affine),
        span,
        scan: None,
    }
}

/// The variables of a target, each once.
fn free_vars(index: &[Affine]) -> Vec<VarId> {
    let mut order: Vec<VarId> = Vec::new();
    for v in index.iter().flat_map(Affine::vars) {
        if !order.contains(&v) {
            order.push(v);
        }
    }
    order
}

/// The part in a recurrence of a statement that [`build`] makes of others' variables, where it has the one along the
/// axis on its left.
pub fn part(scan: Option<Recurrence>, index: &[Affine]) -> Option<Recurrence> {
    let recurrence = scan?;
    let var = free_vars(index).iter().position(|v| *v == recurrence.var)?;
    Some(Recurrence { var: VarId(var), ..recurrence })
}

/// Brings a statement whose value may hold reductions anywhere to normal form and appends it to `out`: sums at the top
/// become statements of their own, reductions inside become locals over just the variables that they depend on.
pub fn hoist(op: &mut Op, mut raw: Stmt, local: Role, out: &mut Vec<Stmt>) {
    let mut terms = Vec::new();
    let value = std::mem::replace(&mut raw.value, Expr::zero());
    if has_reduction(&value) {
        split(value, false, &mut terms);
    } else {
        terms.push(value);
    }
    // One `=` at most: terms that follow add to it.
    for (n, term) in terms.into_iter().enumerate() {
        let (reduce, body) = match term {
            Expr::Reduce(r, vars, body) => (Some((r, vars)), *body),
            Expr::Unary(Unary::Neg, a) if matches!(*a, Expr::Reduce(ReduceOp::Sum, ..)) => match *a {
                Expr::Reduce(_, vars, body) => (Some((ReduceOp::Sum, vars)), body.neg()),
                _ => unreachable!("matched above"),
            },
            e => (None, e),
        };
        let (reduce, body) = merge_sums(reduce, body);
        let value = hoist_inner(op, &raw, body, local, out);
        let s = build(raw.target, raw.index.clone(), raw.accumulate || n > 0, &raw.vars, reduce, value, raw.span);
        out.push(Stmt { scan: part(raw.scan, &raw.index), ..s });
    }
}

fn has_reduction(e: &Expr) -> bool {
    e.any(&|e| matches!(e, Expr::Reduce(..)))
}

/// The terms of a sum of which some are reductions.
fn split(e: Expr, negative: bool, out: &mut Vec<Expr>) {
    match e {
        Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) if has_reduction(&a) || has_reduction(&b) => {
            split(*a, negative, out);
            split(*b, negative != (f == Binary::Sub), out);
        }
        e => out.push(if negative { e.neg() } else { e }),
    }
}

/// `sum(i) sum(j) e` is `sum(i,j) e`.
fn merge_sums(reduce: Option<(ReduceOp, Vec<VarId>)>, body: Expr) -> (Option<(ReduceOp, Vec<VarId>)>, Expr) {
    match (reduce, body) {
        (Some((a, mut vars)), Expr::Reduce(b, inner, body)) if a == b => {
            vars.extend(inner);
            merge_sums(Some((a, vars)), *body)
        }
        other => other,
    }
}

/// Replaces every reduction in `e` by a read of a new local.
fn hoist_inner(op: &mut Op, raw: &Stmt, e: Expr, local: Role, out: &mut Vec<Stmt>) -> Expr {
    let (vars, span) = (&raw.vars, raw.span);
    e.map(&mut |e| match e {
        Expr::Reduce(r, bound, body) => {
            let free: Vec<VarId> = body.vars().into_iter().filter(|v| !bound.contains(v)).collect();
            let axes = free.iter().map(|v| vars[v.0].axis).collect();
            let t = op.add_tensor("t", axes, local, span);
            let index: Vec<_> = free.iter().copied().map(Affine::var).collect();
            let s = build(t, index.clone(), false, vars, Some((r, bound)), *body, span);
            out.push(Stmt { scan: part(raw.scan, &index), ..s });
            Expr::Read(t, index)
        }
        e => e,
    })
}
