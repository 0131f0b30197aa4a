//! The text of the plain IR: takes a kernel, gives one line a statement, loops in brackets, guarded positions marked
//! `?`, what stands under masks as `masked(i - 1 in 0..4, x[i - 1?])`.

use super::mask::Mask;
use super::*;
use crate::index::formula::{Formula, Op};
use std::fmt::Write;

/// A kernel: its tensors, then its functions.
pub fn kernel(k: &Kernel) -> String {
    let mut out = format!("kernel {}::{} {:?}\n", k.op, k.name, k.dtype);
    for t in &k.tensors {
        if matches!(t.role, Role::Input | Role::Output | Role::Local | Role::RuleLocal) {
            let dims: Vec<_> = t.dims.iter().zip(&t.shape).map(|(d, n)| format!("{d}={n}")).collect();
            let _ = writeln!(out, "  {:?} {}[{}]", t.role, t.name, dims.join(", "));
        }
    }
    for f in &k.functions {
        let names = |ts: &[TensorId]| ts.iter().map(|t| k.tensor(*t).name.as_str()).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "{}({}) -> {}", f.name, names(&f.reads), names(&f.writes));
        for step in &f.steps {
            match step {
                Step::Fill(t) => {
                    let _ = writeln!(out, "  {} = 0", k.tensor(*t).name);
                }
                Step::Stmt(s) => {
                    let _ = writeln!(out, "  {}", stmt(&k.tensors, s));
                }
                Step::Scan(scan) => {
                    for segment in &scan.segments {
                        let _ = writeln!(out, "  along {}: {} iterations", scan.name, segment.iterations);
                        for part in &segment.body {
                            let _ = writeln!(out, "    {}", stmt(&k.tensors, &part.stmt));
                        }
                    }
                }
            }
        }
    }
    out
}

/// One statement.
pub fn stmt(tensors: &[Tensor], s: &Stmt) -> String {
    printed(&Printer { tensors, vars: &s.vars, masks: true }, s)
}

/// One statement without its masks, for readers of generated code: what is marked `?` is absent where it is outside.
pub fn brief(tensors: &[Tensor], s: &Stmt) -> String {
    printed(&Printer { tensors, vars: &s.vars, masks: false }, s)
}

fn printed(p: &Printer, s: &Stmt) -> String {
    let loops = |vars: &[Var]| vars.iter().map(|v| format!("{}:{}", v.name, v.extent)).collect::<Vec<_>>().join(" ");
    let value = p.expr(&s.value);
    let value = match s.reduce {
        Some(r) => Formula::Reduce(r, loops(&s.vars[s.free..]), Box::new(value)),
        None => value,
    };
    let how = if s.accumulate { "+=" } else { "=" };
    format!("[{}] {} {how} {value}", loops(&s.vars[..s.free]), p.access(&s.target))
}

struct Printer<'a> {
    tensors: &'a [Tensor],
    vars: &'a [Var],
    masks: bool,
}

impl Printer<'_> {
    fn linear(&self, l: &Linear) -> Formula {
        linear(l, &|v| self.vars[v].name.clone())
    }

    fn access(&self, a: &Access) -> Formula {
        let positions = a.positions.iter().map(|p| {
            let quotient = divided(self.linear(&p.numerator), p.divisor);
            if p.guard.any() { Formula::Guarded(Box::new(quotient)) } else { quotient }
        });
        Formula::Access(self.tensors[a.tensor.0].name.clone(), positions.collect())
    }

    fn expr(&self, e: &Expr) -> Formula {
        match e {
            Expr::Const(c) => number(*c),
            Expr::Read(a) => self.access(a),
            Expr::Unary(f, a) => Formula::call(f.name(), [self.expr(a)]),
            Expr::Binary(f, a, b) => binary(*f, self.expr(a), self.expr(b)),
            Expr::Powf(a, n) => power(self.expr(a), *n),
            Expr::Where(c, a, b) => Formula::call("where", [self.cond(c), self.expr(a), self.expr(b)]),
            Expr::Masked(_, a) if !self.masks => self.expr(a),
            Expr::Masked(masks, a) => Formula::call("masked", [self.masks(masks), self.expr(a)]),
        }
    }

    fn masks(&self, all: &[Mask]) -> Formula {
        let all = all.iter().map(|m| self.mask(m));
        all.reduce(|a, b| a.binary(Op::And, b)).unwrap_or_else(|| Formula::atom(true))
    }

    fn mask(&self, m: &Mask) -> Formula {
        match m {
            Mask::Within(p, size) => {
                divided(self.linear(&p.numerator), p.divisor).binary(Op::In, Formula::Atom(format!("0..{size}")))
            }
            Mask::Either(a, b) => self.masks(a).binary(Op::Or, self.masks(b)).bracketed(),
            Mask::Taken(c, a, b) => Formula::call("where", [self.cond(c), self.masks(a), self.masks(b)]),
        }
    }

    fn cond(&self, c: &Cond) -> Formula {
        match c {
            Cond::Const(b) => Formula::atom(b),
            Cond::Index(op, a, b) => self.linear(a).binary((*op).into(), self.linear(b)),
            Cond::Value(op, a, b) => self.expr(a).binary((*op).into(), self.expr(b)),
            Cond::Inside(a) => Formula::call("inside", [self.access(a)]),
            Cond::And(a, b) => self.cond(a).binary(Op::And, self.cond(b)).bracketed(),
            Cond::Or(a, b) => self.cond(a).binary(Op::Or, self.cond(b)).bracketed(),
            Cond::Not(a) => Formula::Not(Box::new(self.cond(a))),
        }
    }
}

/// A literal, its type to be seen.
pub fn number(c: f64) -> Formula {
    Formula::Atom(format!("{:?}", c.abs())).signed(c.is_sign_negative())
}

/// Sums within others are bracketed as they were written, also where nobody asks for it: their order is to be seen.
pub fn binary(f: Binary, a: Formula, b: Formula) -> Formula {
    match Op::of(f) {
        Some(op @ (Op::Add | Op::Sub)) => a.binary(op, b).bracketed(),
        Some(op) => a.binary(op, b),
        None => Formula::call(f.name(), [a, b]),
    }
}

pub fn power(a: Formula, n: f64) -> Formula {
    Formula::Power(Box::new(a.bracketed()), Box::new(number(n)))
}

/// `(i + 1)/2`
pub fn divided(l: Formula, divisor: i64) -> Formula {
    if divisor == 1 { l } else { l.bracketed().binary(Op::Per, Formula::atom(divisor)) }
}

/// `2*i - j + 3`.
pub fn linear(l: &Linear, name: &impl Fn(usize) -> String) -> Formula {
    let term = |(v, c): &(usize, i64)| {
        let name = Formula::Atom(name(*v));
        let size = c.unsigned_abs();
        (*c < 0, if size == 1 { name } else { Formula::atom(size).binary(Op::Times, name) })
    };
    let constant = (l.constant != 0).then(|| (l.constant < 0, Formula::atom(l.constant.unsigned_abs())));
    Formula::total(l.terms.iter().map(term).chain(constant))
}
