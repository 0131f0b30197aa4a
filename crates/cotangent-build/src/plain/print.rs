//! The text of the plain IR: takes a kernel, gives one line a statement, loops in brackets, guarded positions marked `?`.

use super::*;
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
                        let _ = writeln!(out, "  along {}: {} in turn", scan.name, segment.turns);
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
    let p = Printer { tensors, vars: &s.vars };
    let loops = |vars: &[Var]| vars.iter().map(|v| format!("{}:{}", v.name, v.extent)).collect::<Vec<_>>().join(" ");
    let reduce = s.reduce.map_or(String::new(), |r| format!("{}({}) ", r.name(), loops(&s.vars[s.free..])));
    format!(
        "[{}] {} {} {reduce}{}",
        loops(&s.vars[..s.free]),
        p.access(&s.target),
        if s.accumulate { "+=" } else { "=" },
        p.expr(&s.value)
    )
}

struct Printer<'a> {
    tensors: &'a [Tensor],
    vars: &'a [Var],
}

impl Printer<'_> {
    fn linear(&self, l: &Linear) -> String {
        linear(l, &|v| self.vars[v].name.clone())
    }
    fn access(&self, a: &Access) -> String {
        let name = &self.tensors[a.tensor.0].name;
        let positions = a.positions.iter().map(|p| {
            let n = self.linear(&p.numerator);
            let quotient = if p.divisor == 1 { n } else { format!("({n})/{}", p.divisor) };
            if p.guard.any() { format!("{quotient}?") } else { quotient }
        });
        format!("{name}[{}]", positions.collect::<Vec<_>>().join(", "))
    }
    fn expr(&self, e: &Expr) -> String {
        match e {
            Expr::Const(c) => format!("{c:?}"),
            Expr::Read(a) => self.access(a),
            Expr::Unary(f, a) => format!("{}({})", f.name(), self.expr(a)),
            Expr::Binary(f, a, b) => match f {
                Binary::Add => format!("({} + {})", self.expr(a), self.expr(b)),
                Binary::Sub => format!("({} - {})", self.expr(a), self.expr(b)),
                Binary::Mul => format!("{} * {}", self.expr(a), self.expr(b)),
                Binary::Div => format!("{} / {}", self.expr(a), self.expr(b)),
                f => format!("{}({}, {})", f.name(), self.expr(a), self.expr(b)),
            },
            Expr::Powf(a, n) => format!("({})^{n:?}", self.expr(a)),
            Expr::Where(c, a, b) => format!("where({}, {}, {})", self.cond(c), self.expr(a), self.expr(b)),
        }
    }
    fn cond(&self, c: &Cond) -> String {
        match c {
            Cond::Const(b) => b.to_string(),
            Cond::Index(op, a, b) => format!("{} {} {}", self.linear(a), op.symbol(), self.linear(b)),
            Cond::Value(op, a, b) => format!("{} {} {}", self.expr(a), op.symbol(), self.expr(b)),
            Cond::Inside(a) => format!("inside({})", self.access(a)),
            Cond::And(a, b) => format!("({} and {})", self.cond(a), self.cond(b)),
            Cond::Or(a, b) => format!("({} or {})", self.cond(a), self.cond(b)),
            Cond::Not(a) => format!("not {}", self.cond(a)),
        }
    }
}

/// `2*i - j + 3`.
pub fn linear(l: &Linear, name: &impl Fn(usize) -> String) -> String {
    let mut out = String::new();
    for (v, c) in &l.terms {
        let size = if c.abs() == 1 { name(*v) } else { format!("{}*{}", c.unsigned_abs(), name(*v)) };
        out.push_str(match (out.is_empty(), *c < 0) {
            (true, true) => "-",
            (true, false) => "",
            (false, true) => " - ",
            (false, false) => " + ",
        });
        out.push_str(&size);
    }
    match (out.is_empty(), l.constant) {
        (true, c) => out = c.to_string(),
        (false, 0) => {}
        (false, c) => out.push_str(&if c < 0 { format!(" - {}", c.unsigned_abs()) } else { format!(" + {c}") }),
    }
    out
}
