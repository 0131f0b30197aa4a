//! Normal forms: takes two rules, tells whether they are the same sum of products up to the names of variables and
//! locals, the order of terms and factors, and an affine change of variables. A `false` proves nothing; a `true` holds
//! for every shape.

use crate::index::*;
use std::collections::BTreeMap;

/// Whether both rules add the same terms over the same iteration domains.
pub fn equal(op: &Op, a: &[Stmt], b: &[Stmt]) -> bool {
    match (terms(op, a), terms(op, b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// The terms of a rule with their multiplicity. `None` where the rule is not a flat sum of products (it has locals,
/// recurrences or reductions other than sums).
fn terms(op: &Op, stmts: &[Stmt]) -> Option<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for s in stmts {
        let is_target = matches!(op.tensor(s.target).role, Role::Cotangent(_) | Role::Tangent(_));
        if !is_target || !s.accumulate || s.scan.is_some() || s.reduce.is_some_and(|r| r != ReduceOp::Sum) {
            return None;
        }
        let mut products = Vec::new();
        expand(&s.value, 1.0, &mut products);
        for (c, factors) in products {
            *all.entry(canonical(op, s, &factors)?).or_insert(0.0) += c;
        }
    }
    all.retain(|_, c| *c != 0.0);
    Some(all)
}

/// A product of sums that would have more terms stays as it is: evaluation decides then.
const MAX_TERMS: usize = 256;

type Product<'a> = (f64, Vec<&'a Expr>);

/// Products of factors that are neither sums nor products.
fn expand<'a>(e: &'a Expr, sign: f64, out: &mut Vec<Product<'a>>) {
    match e {
        Expr::Binary(Binary::Add, a, b) => {
            expand(a, sign, out);
            expand(b, sign, out);
        }
        Expr::Binary(Binary::Sub, a, b) => {
            expand(a, sign, out);
            expand(b, -sign, out);
        }
        Expr::Unary(Unary::Neg, a) => expand(a, -sign, out),
        Expr::Const(c) => out.push((sign * c, Vec::new())),
        Expr::Binary(Binary::Mul, a, b) => {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            expand(a, sign, &mut left);
            expand(b, 1.0, &mut right);
            if left.len() * right.len() > MAX_TERMS {
                out.push((sign, vec![e]));
                return;
            }
            for (ca, fa) in &left {
                for (cb, fb) in &right {
                    out.push((ca * cb, [fa.as_slice(), fb.as_slice()].concat()));
                }
            }
        }
        e => out.push((sign, vec![e])),
    }
}

/// The text of one term over its scatter domain, variables numbered in an order that does not depend on their names.
fn canonical(op: &Op, s: &Stmt, factors: &[&Expr]) -> Option<String> {
    let mut index = s.index.clone();
    let mut factors: Vec<Expr> = factors.iter().map(|f| (*f).clone()).collect();
    // The scatter domain: a gather `x_bar[p] += y_bar[p + lo]` becomes `x_bar[i - lo] += y_bar[i]` where the shift has
    // the coefficient 1, so that derived and declared rules meet. The axis of the new variable bounds the same points,
    // reads and writes outside counting nothing.
    let mut vars = s.vars.clone();
    for (v, var) in vars.iter_mut().enumerate() {
        let Some((offset, axis)) = shift(op, s.target, &index, &factors, VarId(v), var.axis) else { continue };
        // v - offset in v's place; an overflow leaves the comparison to evaluation.
        let back = offset.neg()?;
        let overflow = std::cell::Cell::new(false);
        let moved = |a: &Affine| {
            let Some((_, k)) = a.terms.iter().find(|(w, _)| w.0 == v) else { return a.clone() };
            let constant = k.mul(&back).and_then(|d| a.constant.add(&d));
            overflow.set(overflow.get() || constant.is_none());
            Affine { constant: constant.unwrap_or_default(), ..a.clone() }
        };
        index = index.iter().map(moved).collect();
        factors = factors.iter().map(|f| f.moved(&moved)).collect();
        if overflow.get() {
            return None;
        }
        var.axis = axis;
    }
    // Numbered by stand: first those on the left, then by the first factor in the order of the texts without names.
    let blank: Vec<Var> = vars.iter().map(|v| Var { name: "_".into(), axis: v.axis }).collect();
    let text = |value: &Expr, vars: &[Var]| {
        let probe = Stmt {
            target: s.target,
            index: Vec::new(),
            accumulate: true,
            vars: vars.to_vec(),
            free: vars.len(),
            reduce: None,
            value: value.clone(),
            span: s.span,
            scan: None,
        };
        print::stmt(op, &probe)
    };
    factors.sort_by_cached_key(|f| text(f, &blank));
    let mut order: Vec<VarId> = Vec::new();
    let mut stand = |a: &Affine| {
        for v in a.vars() {
            if !order.contains(&v) {
                order.push(v);
            }
        }
    };
    index.iter().for_each(&mut stand);
    factors.iter().for_each(|f| f.positions(&mut |a| stand(a)));
    order.extend((0..vars.len()).map(VarId).filter(|v| !order.contains(v)).collect::<Vec<_>>());
    let number = |v: VarId| VarId(order.iter().position(|w| *w == v).expect("all are ordered"));
    let named: Vec<Var> =
        order.iter().enumerate().map(|(n, v)| Var { name: format!("#{n}"), axis: vars[v.0].axis }).collect();
    let renamed = |a: &Affine| a.rename(&number);
    let mut texts: Vec<String> = factors.iter().map(|f| text(&f.moved(&renamed), &named)).collect();
    texts.sort();
    let target = Expr::Read(s.target, index.iter().map(renamed).collect());
    let domain: Vec<_> = named.iter().map(|v| op.axis(v.axis).name.as_str()).collect();
    Some(format!("{} | {} | {}", text(&target, &named), texts.join(" * "), domain.join(",")))
}

/// The offset `c` and the axis of a cotangent or tangent read at `v + c`, where the target stands at `v` itself: the
/// target then bounds `v` to its old axis, as the read bounds `v + c` to the new one.
fn shift(
    op: &Op,
    target: TensorId,
    index: &[Affine],
    factors: &[Expr],
    v: VarId,
    axis: AxisId,
) -> Option<(Poly, AxisId)> {
    let on_left = index.iter().zip(&op.tensor(target).axes).any(|(p, a)| p.as_var() == Some(v) && *a == axis);
    let reads = factors.iter().filter_map(|f| match f {
        Expr::Read(t, positions) if matches!(op.tensor(*t).role, Role::Cotangent(_) | Role::Tangent(_)) => {
            Some(positions.iter().zip(&op.tensor(*t).axes))
        }
        _ => None,
    });
    let unit =
        |a: &Affine| a.divided_by_one() && matches!(a.terms.as_slice(), [(w, c)] if *w == v && c.as_int() == Some(1));
    let (a, axis) = reads.flatten().find(|(a, _)| on_left && unit(a) && !a.constant.is_zero())?;
    Some((a.constant.clone(), *axis))
}
