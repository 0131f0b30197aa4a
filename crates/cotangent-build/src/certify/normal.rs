//! Normal forms: takes two rules, tells whether they are the same sum of products up to the names of variables and locals, the order of
//! terms and factors, and an affine change of variables. A `false` proves nothing; a `true` holds for every shape.

use crate::index::*;
use std::collections::BTreeMap;

/// Whether both rules add the same terms over the same iteration domains.
pub fn equal(op: &Op, a: &[Stmt], b: &[Stmt]) -> bool {
    match (terms(op, a), terms(op, b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// The terms of a rule with their multiplicity. `None` where the rule is not a flat sum of products (it has locals or reductions
/// other than sums).
fn terms(op: &Op, stmts: &[Stmt]) -> Option<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for s in stmts {
        let is_target = matches!(op.tensor(s.target).role, Role::Cotangent(_) | Role::Tangent(_));
        if !is_target || !s.accumulate || s.reduce.is_some_and(|r| r != ReduceOp::Sum) {
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
    // The scatter domain: a gather `x_bar[p] += y_bar[p + lo]` becomes `x_bar[i - lo] += y_bar[i]` where the shift has the coefficient 1, so
    // that derived and declared rules meet. The axis of the new variable bounds the same points, reads and writes outside counting nothing.
    let mut vars = s.vars.clone();
    for v in 0..vars.len() {
        let id = VarId(v);
        // The target then bounds the variable to its old axis, as the read bounds it to the new one.
        let mut shift = None;
        for f in &factors {
            if let Expr::Read(t, positions) = f {
                for (a, axis) in positions.iter().zip(&op.tensor(*t).axes) {
                    let unit = a.terms.len() == 1
                        && a.terms[0].0 == id
                        && a.terms[0].1.as_int() == Some(1)
                        && a.divided_by_one()
                        && !a.constant.is_zero();
                    let on_left = index
                        .iter()
                        .zip(&op.tensor(s.target).axes)
                        .any(|(p, axis)| p.as_var() == Some(id) && *axis == vars[v].axis);
                    if unit && on_left && matches!(op.tensor(*t).role, Role::Cotangent(_) | Role::Tangent(_)) {
                        shift = Some((a.constant.clone(), *axis));
                    }
                }
            }
        }
        if let Some((c, axis)) = shift {
            let back = c.neg()?;
            let moved = |a: &Affine| match a.terms.iter().find(|(w, _)| *w == id) {
                None => a.clone(),
                Some((_, k)) => {
                    let constant = k.mul(&back).and_then(|d| a.constant.add(&d)).unwrap_or_else(|| a.constant.clone());
                    Affine { constant, ..a.clone() }
                }
            };
            index = index.iter().map(moved).collect();
            factors = factors.iter().map(|f| f.map(&moved, &mut |e| e)).collect();
            vars[v].axis = axis;
        }
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
    factors.iter().for_each(|f| f.visit_affines(&mut |a| stand(a)));
    order.extend((0..vars.len()).map(VarId).filter(|v| !order.contains(v)).collect::<Vec<_>>());
    let number = |v: VarId| VarId(order.iter().position(|w| *w == v).expect("all are ordered"));
    let named: Vec<Var> =
        order.iter().enumerate().map(|(n, v)| Var { name: format!("#{n}"), axis: vars[v.0].axis }).collect();
    let renamed = |a: &Affine| a.rename(&number);
    let mut texts: Vec<String> = factors.iter().map(|f| text(&f.map(&renamed, &mut |e| e), &named)).collect();
    texts.sort();
    let target = Expr::Read(s.target, index.iter().map(renamed).collect());
    let domain: Vec<_> = named.iter().map(|v| op.axis(v.axis).name.as_str()).collect();
    Some(format!("{} | {} | {}", text(&target, &named), texts.join(" * "), domain.join(",")))
}
