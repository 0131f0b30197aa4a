//! The text of the index IR: takes an op or a statement, gives formula text in the spec language. What a statement prints parses
//! again (but for the names of derived locals), so a derived rule can be pasted into a spec.

use super::*;
use std::fmt::Write;

/// Binding strength of what is printed, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Not,
    Compare,
    Sum,
    Product,
    Negation,
    Power,
    Primary,
}

struct Printer<'a> {
    op: &'a Op,
    vars: &'a [Var],
}

/// One statement on one line.
pub fn stmt(op: &Op, s: &Stmt) -> String {
    let p = Printer { op, vars: &s.vars };
    let mut out = String::new();
    out.push_str(&p.target(s));
    out.push_str(if s.accumulate { " += " } else { " = " });
    if let Some(r) = s.reduce {
        let bound: Vec<_> = s.vars[s.free..].iter().map(|v| p.binder(v)).collect();
        let _ = write!(out, "{}({}) ", r.name(), bound.join(","));
        out.push_str(&p.expr(&s.value, Level::Product));
    } else {
        out.push_str(&p.expr(&s.value, Level::Or));
    }
    out
}

/// A size formula.
pub fn size(op: &Op, s: &Size) -> String {
    fn go(op: &Op, s: &Size, tight: bool) -> String {
        let (text, loose) = match s {
            Size::Poly(p) => (poly(op, p), p.0.len() > 1),
            Size::Add(a, b) => (format!("{} + {}", go(op, a, false), go(op, b, false)), true),
            Size::Sub(a, b) => (format!("{} - {}", go(op, a, false), go(op, b, true)), true),
            Size::Mul(a, b) => (format!("{}*{}", go(op, a, true), go(op, b, true)), false),
            Size::Div(a, b) => (format!("{} / {}", go(op, a, true), go(op, b, true)), false),
        };
        if tight && loose { format!("({text})") } else { text }
    }
    go(op, s, false)
}

/// A coefficient: `2`, `stride`, `I*rate - 1`.
pub fn poly(op: &Op, p: &Poly) -> String {
    let name = |a: &Atom| match a {
        Atom::Param(p) => op.params[p.0].name.clone(),
        Atom::Axis(a) => op.axes[a.0].name.clone(),
    };
    let mut out = String::new();
    // Symbols before the plain number: `stride - 1`.
    for (monomial, c) in p.0.iter().rev() {
        let names: Vec<_> = monomial.iter().map(name).collect();
        let sign = match (out.is_empty(), *c < 0) {
            (true, true) => "-",
            (true, false) => "",
            (false, true) => " - ",
            (false, false) => " + ",
        };
        out.push_str(sign);
        let size = c.unsigned_abs();
        match (size, names.is_empty()) {
            (_, true) => out.push_str(&size.to_string()),
            (1, false) => out.push_str(&names.join("*")),
            (_, false) => {
                let _ = write!(out, "{size}*{}", names.join("*"));
            }
        }
    }
    if out.is_empty() { "0".into() } else { out }
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
fn list(op: &Op, stmts: &[Stmt]) -> String {
    let mut out = String::new();
    for unit in scan::units(stmts) {
        let unit = &stmts[unit];
        let mut margin = "  ";
        if let Some(turn) = unit[0].scan {
            let direction = if turn.backwards { ", backwards" } else { "" };
            let _ = writeln!(out, "  along {}{direction}", unit[0].vars[turn.var.0].name);
            margin = "    ";
        }
        for s in unit {
            let _ = writeln!(out, "{margin}{}", stmt(op, s));
        }
    }
    out
}

impl Printer<'_> {
    fn target(&self, s: &Stmt) -> String {
        let mut seen = Vec::new();
        let index: Vec<_> = s
            .index
            .iter()
            .map(|a| match a.as_var() {
                // The first stand of an index that is not its axis's own names its axis.
                Some(v) if !seen.contains(&v) => {
                    seen.push(v);
                    self.binder(&self.vars[v.0])
                }
                _ => self.affine(a),
            })
            .collect();
        self.access(s.target, &index)
    }
    fn binder(&self, v: &Var) -> String {
        let axis = self.op.axis(v.axis);
        if axis.index == v.name { v.name.clone() } else { format!("{} in {}", v.name, axis.name) }
    }
    fn access(&self, t: TensorId, index: &[String]) -> String {
        let name = &self.op.tensor(t).name;
        if index.is_empty() { name.clone() } else { format!("{name}[{}]", index.join(", ")) }
    }
    fn affine(&self, a: &Affine) -> String {
        let mut out = String::new();
        for (v, c) in &a.terms {
            let name = &self.vars[v.0].name;
            let (negative, size) = match c.as_int() {
                Some(n) => (n < 0, if n.abs() == 1 { name.clone() } else { format!("{name}*{}", n.unsigned_abs()) }),
                None if c.0.len() == 1 => {
                    let negative = c.0.values().all(|n| *n < 0);
                    let positive = if negative { c.neg().unwrap_or_default() } else { c.clone() };
                    (negative, format!("{name}*{}", poly(self.op, &positive)))
                }
                None => (false, format!("{name}*({})", poly(self.op, c))),
            };
            match (out.is_empty(), negative) {
                (true, true) => out.push('-'),
                (true, false) => {}
                (false, true) => out.push_str(" - "),
                (false, false) => out.push_str(" + "),
            }
            out.push_str(&size);
        }
        if !a.constant.is_zero() || out.is_empty() {
            let c = poly(self.op, &a.constant);
            match (out.is_empty(), c.strip_prefix('-')) {
                (true, _) => out = c,
                (false, Some(rest)) => {
                    let _ = write!(out, " - {rest}");
                }
                (false, None) => {
                    let _ = write!(out, " + {c}");
                }
            }
        }
        if a.divided_by_one() {
            return out;
        }
        let single = |p: &Poly| p.0.len() == 1;
        let top = if a.terms.len() + usize::from(!a.constant.is_zero()) > 1 { format!("({out})") } else { out };
        let bottom = poly(self.op, &a.divisor);
        if single(&a.divisor) && !bottom.contains(['*', '-']) {
            format!("{top} / {bottom}")
        } else {
            format!("{top} / ({bottom})")
        }
    }
    fn read(&self, t: TensorId, index: &[Affine]) -> String {
        let index: Vec<_> = index.iter().map(|a| self.affine(a)).collect();
        self.access(t, &index)
    }
    fn expr(&self, e: &Expr, at: Level) -> String {
        let (text, level) = match e {
            Expr::Const(c) => (number(*c), if *c < 0.0 { Level::Negation } else { Level::Primary }),
            Expr::Param(p) => (self.op.params[p.0].name.clone(), Level::Primary),
            Expr::Extent(a) => (self.op.axis(*a).name.clone(), Level::Primary),
            Expr::Read(t, index) => (self.read(*t, index), Level::Primary),
            Expr::Unary(Unary::Neg, a) => (format!("-{}", self.expr(a, Level::Power)), Level::Negation),
            Expr::Unary(f, a) => (format!("{}({})", f.name(), self.expr(a, Level::Or)), Level::Primary),
            Expr::Powf(a, n) => (format!("{}^{}", self.expr(a, Level::Primary), number(*n)), Level::Power),
            Expr::Binary(Binary::Add, a, b) => {
                (format!("{} + {}", self.expr(a, Level::Sum), self.expr(b, Level::Product)), Level::Sum)
            }
            Expr::Binary(Binary::Sub, a, b) => {
                (format!("{} - {}", self.expr(a, Level::Sum), self.expr(b, Level::Product)), Level::Sum)
            }
            Expr::Binary(Binary::Mul, a, b) => {
                (format!("{} * {}", self.expr(a, Level::Product), self.expr(b, Level::Power)), Level::Product)
            }
            Expr::Binary(Binary::Div, a, b) => {
                (format!("{} / {}", self.expr(a, Level::Product), self.expr(b, Level::Power)), Level::Product)
            }
            Expr::Binary(f, a, b) => {
                (format!("{}({}, {})", f.name(), self.expr(a, Level::Or), self.expr(b, Level::Or)), Level::Primary)
            }
            Expr::Where(c, a, b) if a.is_one() && b.is_zero() && matches!(**c, Cond::Value(..) | Cond::Index(..)) => {
                (self.cond(c, Level::Compare), Level::Compare)
            }
            Expr::Where(c, a, b) => (
                format!("where({}, {}, {})", self.cond(c, Level::Or), self.expr(a, Level::Or), self.expr(b, Level::Or)),
                Level::Primary,
            ),
            Expr::Reduce(r, vars, body) => {
                let bound: Vec<_> = vars.iter().map(|v| self.binder(&self.vars[v.0])).collect();
                // A reduction swallows the product to its right, so it is bracketed inside one.
                (format!("{}({}) {}", r.name(), bound.join(","), self.expr(body, Level::Product)), Level::Sum)
            }
        };
        if level < at { format!("({text})") } else { text }
    }
    fn cond(&self, c: &Cond, at: Level) -> String {
        let (text, level) = match c {
            Cond::Index(op, a, b) => (format!("{} {} {}", self.affine(a), op.symbol(), self.affine(b)), Level::Compare),
            Cond::Value(op, a, b) => {
                (format!("{} {} {}", self.expr(a, Level::Sum), op.symbol(), self.expr(b, Level::Sum)), Level::Compare)
            }
            Cond::Inside(t, index) => (format!("inside({})", self.read(*t, index)), Level::Primary),
            Cond::And(a, b) => (format!("{} and {}", self.cond(a, Level::And), self.cond(b, Level::Not)), Level::And),
            Cond::Or(a, b) => (format!("{} or {}", self.cond(a, Level::Or), self.cond(b, Level::And)), Level::Or),
            Cond::Not(a) => (format!("not {}", self.cond(a, Level::Compare)), Level::Not),
        };
        if level < at { format!("({text})") } else { text }
    }
}

/// A literal as the language writes it.
fn number(c: f64) -> String {
    match c {
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        _ => format!("{c:?}").strip_suffix(".0").map_or_else(|| format!("{c:?}"), str::to_string),
    }
}

/// The rules of an op: what it uses, how it was proved, and what derivation gives.
pub fn rules(op: &Op, derived: &crate::derive::Derived, certificate: &crate::certify::Certificate) -> String {
    let mut out = format!("op {}\n", op.name);
    let mut section = |title: String, stmts: &[Stmt]| {
        let _ = writeln!(out, "{title}");
        out.push_str(&list(op, stmts));
    };
    section("forward".into(), &op.forward);
    let source = |declared: bool, method: &crate::certify::Method| {
        if declared { format!("declared, {method}") } else { "not declared".into() }
    };
    section(format!("adjoint ({})", source(op.adjoint.declared, &certificate.adjoint)), &op.adjoint.stmts);
    section(format!("tangent ({})", source(op.tangent.declared, &certificate.tangent)), &op.tangent.stmts);
    section("derived adjoint".into(), &derived.adjoint);
    section("derived tangent".into(), &derived.tangent);
    out
}
