//! The text of the index IR: takes an op or a statement, gives formula text in the spec language. What a statement
//! prints parses again (but for the names of derived locals), so a derived rule can be pasted into a spec.

use super::formula::{Formula, Op as Sign};
use super::*;
use std::fmt::Write;

struct Printer<'a> {
    op: &'a Op,
    vars: &'a [Var],
}

/// One statement on one line.
pub fn stmt(op: &Op, s: &Stmt) -> String {
    let target = Printer { op, vars: &s.vars }.target(s);
    format!("{target} {} {}", if s.accumulate { "+=" } else { "=" }, value(op, s))
}

/// What a statement sets or adds.
pub fn value(op: &Op, s: &Stmt) -> Formula {
    let p = Printer { op, vars: &s.vars };
    let value = p.expr(&s.value);
    s.reduce.map_or(value.clone(), |r| p.reduction(r, &s.vars[s.free..], value))
}

/// A condition of a statement with these variables.
pub fn condition(op: &Op, vars: &[Var], c: &Cond) -> String {
    Printer { op, vars }.cond(c).to_string()
}

/// A size formula.
pub fn size(op: &Op, s: &Size) -> Formula {
    let both = |sign: Sign, a: &Size, b: &Size| size(op, a).binary(sign, size(op, b));
    match s {
        Size::Poly(p) => poly(op, p),
        Size::Add(a, b) => both(Sign::Add, a, b),
        Size::Sub(a, b) => both(Sign::Sub, a, b),
        Size::Mul(a, b) => both(Sign::Times, a, b),
        Size::Div(a, b) => both(Sign::Div, a, b),
    }
}

/// A coefficient: `2`, `stride`, `I*rate - 1`.
pub fn poly(op: &Op, p: &Poly) -> Formula {
    Formula::total(terms(op, p).map(|(negative, factors)| (negative, product(factors))))
}

/// The terms of a coefficient, each with its sign and factors; symbols before the plain number: `stride - 1`.
fn terms<'a>(op: &'a Op, p: &'a Poly) -> impl Iterator<Item = (bool, Vec<Formula>)> + 'a {
    let name = |a: &Atom| match a {
        Atom::Param(p) => Formula::atom(&op.params[p.0].name),
        Atom::Axis(a) => Formula::atom(&op.axes[a.0].name),
    };
    p.0.iter().rev().map(move |(monomial, c)| {
        let size = (c.unsigned_abs() != 1 || monomial.is_empty()).then(|| Formula::atom(c.unsigned_abs()));
        (*c < 0, size.into_iter().chain(monomial.iter().map(name)).collect())
    })
}

/// Factors side by side.
fn product(factors: impl IntoIterator<Item = Formula>) -> Formula {
    factors.into_iter().reduce(|a, b| a.binary(Sign::Times, b)).unwrap_or_else(|| Formula::atom(1))
}

/// A whole op: declarations, then the statements of each rule.
pub fn op(op: &Op) -> String {
    let mut out = format!("op {}\n", op.name);
    for a in &op.axes {
        match &a.size {
            None => {
                let _ = writeln!(out, "  axis {} index {}", a.name, a.index);
            }
            Some(s) => {
                let _ = writeln!(out, "  axis {} index {} = {}", a.name, a.index, size(op, s));
            }
        }
    }
    for p in &op.params {
        let kind = match p.kind {
            ParamKind::PerDim(a) => op.axes[a.0].name.clone(),
            ParamKind::Int => "int".into(),
            ParamKind::Real => "real".into(),
        };
        let _ = writeln!(out, "  param {}: {kind}", p.name);
    }
    for t in &op.tensors {
        let role = match t.role {
            Role::Input => "input",
            Role::Output => "output",
            Role::Local | Role::RuleLocal => "local",
            Role::Tangent(_) => "tangent",
            Role::Cotangent(_) => "cotangent",
            Role::Partial(..) => "partial",
        };
        let axes: Vec<_> = t.axes.iter().map(|a| op.axes[a.0].name.as_str()).collect();
        let _ = writeln!(out, "  {role} {}[{}]", t.name, axes.join(", "));
    }
    for (title, stmts, declared) in [
        ("forward", &op.forward, true),
        ("adjoint", &op.adjoint.stmts, op.adjoint.declared),
        ("tangent", &op.tangent.stmts, op.tangent.declared),
    ] {
        let _ = writeln!(out, "{title}{}", if declared { "" } else { " (derived)" });
        out.push_str(&list(op, stmts));
    }
    out
}

/// Statements in order, those of a recurrence set in below its head.
pub fn list(op: &Op, stmts: &[Stmt]) -> String {
    let mut out = String::new();
    for unit in scan::units(stmts) {
        let unit = &stmts[unit];
        let mut margin = "  ";
        if let Some(recurrence) = unit[0].scan {
            let direction = if recurrence.backwards { ", backwards" } else { "" };
            let _ = writeln!(out, "  along {}{direction}", unit[0].vars[recurrence.var.0].name);
            margin = "    ";
        }
        for s in unit {
            let _ = writeln!(out, "{margin}{}", stmt(op, s));
        }
    }
    out
}

impl Printer<'_> {
    fn target(&self, s: &Stmt) -> Formula {
        let mut seen = Vec::new();
        let index = s.index.iter().map(|a| match a.as_var() {
            // The first stand of an index that is not its axis's own names its axis.
            Some(v) if !seen.contains(&v) => {
                seen.push(v);
                Formula::Atom(self.binder(&self.vars[v.0]))
            }
            _ => self.affine(a),
        });
        self.access(s.target, index.collect())
    }

    fn binder(&self, v: &Var) -> String {
        let axis = self.op.axis(v.axis);
        if axis.index == v.name { v.name.clone() } else { format!("{} in {}", v.name, axis.name) }
    }

    fn access(&self, t: TensorId, index: Vec<Formula>) -> Formula {
        let name = self.op.tensor(t).name.clone();
        if index.is_empty() { Formula::Atom(name) } else { Formula::Access(name, index) }
    }

    fn affine(&self, a: &Affine) -> Formula {
        let mut all = Vec::new();
        for (v, c) in &a.terms {
            let name = Formula::atom(&self.vars[v.0].name);
            let mut parts: Vec<_> = terms(self.op, c).collect();
            all.push(match parts.pop() {
                Some((negative, factors)) if parts.is_empty() => {
                    let factors = if c.as_int().is_some_and(|n| n.abs() == 1) { Vec::new() } else { factors };
                    (negative, product([name].into_iter().chain(factors)))
                }
                _ => (false, name.binary(Sign::Times, poly(self.op, c))),
            });
        }
        all.extend(terms(self.op, &a.constant).map(|(negative, factors)| (negative, product(factors))));
        let top = Formula::total(all);
        if a.divided_by_one() { top } else { top.binary(Sign::Div, poly(self.op, &a.divisor)) }
    }

    fn read(&self, t: TensorId, index: &[Affine]) -> Formula {
        self.access(t, index.iter().map(|a| self.affine(a)).collect())
    }

    fn reduction(&self, r: ReduceOp, vars: &[Var], body: Formula) -> Formula {
        let bound: Vec<_> = vars.iter().map(|v| self.binder(v)).collect();
        Formula::Reduce(r, bound.join(","), Box::new(body))
    }

    fn expr(&self, e: &Expr) -> Formula {
        match e {
            Expr::Const(c) => number(*c),
            Expr::Param(p) => Formula::atom(&self.op.params[p.0].name),
            Expr::Extent(a) => Formula::atom(&self.op.axis(*a).name),
            Expr::Read(t, index) => self.read(*t, index),
            Expr::Unary(Unary::Neg, a) => self.expr(a).signed(true),
            Expr::Unary(f, a) => Formula::call(f.name(), [self.expr(a)]),
            Expr::Powf(a, n) => Formula::Power(Box::new(self.expr(a)), Box::new(number(*n))),
            Expr::Binary(f, a, b) => match Sign::of(*f) {
                Some(sign) => self.expr(a).binary(sign, self.expr(b)),
                None => Formula::call(f.name(), [self.expr(a), self.expr(b)]),
            },
            Expr::Where(c, a, b) if a.is_one() && b.is_zero() && matches!(**c, Cond::Value(..) | Cond::Index(..)) => {
                self.cond(c)
            }
            Expr::Where(c, a, b) => Formula::call("where", [self.cond(c), self.expr(a), self.expr(b)]),
            Expr::Reduce(r, vars, body) => {
                let vars: Vec<_> = vars.iter().map(|v| self.vars[v.0].clone()).collect();
                self.reduction(*r, &vars, self.expr(body))
            }
        }
    }

    fn cond(&self, c: &Cond) -> Formula {
        match c {
            Cond::Index(op, a, b) => self.affine(a).binary((*op).into(), self.affine(b)),
            Cond::Value(op, a, b) => self.expr(a).binary((*op).into(), self.expr(b)),
            Cond::Inside(t, index) => Formula::call("inside", [self.read(*t, index)]),
            Cond::And(a, b) => self.cond(a).binary(Sign::And, self.cond(b)),
            Cond::Or(a, b) => self.cond(a).binary(Sign::Or, self.cond(b)),
            Cond::Not(a) => Formula::Not(Box::new(self.cond(a))),
        }
    }
}

/// A literal as the language writes it.
pub fn number(c: f64) -> Formula {
    let size = c.abs();
    let text = match size {
        f64::INFINITY => "inf".into(),
        _ => format!("{size:?}").strip_suffix(".0").map_or_else(|| format!("{size:?}"), str::to_string),
    };
    Formula::Atom(text).signed(c.is_sign_negative())
}
