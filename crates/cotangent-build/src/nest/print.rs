//! The text of a nest: takes a nest and its kernel, gives indented pseudo-code.

use super::*;
use crate::plain::Kernel;
use crate::plain::print::linear;
use std::fmt::Write;

/// One function.
pub fn nest(k: &Kernel, n: &Nest) -> String {
    let names = |ts: &[TensorId]| ts.iter().map(|t| k.tensor(*t).name.as_str()).collect::<Vec<_>>().join(", ");
    let mut out = format!("{}({}) -> {}\n", n.name, names(&n.reads), names(&n.writes));
    for l in &n.locals {
        let _ = writeln!(out, "  local {}{:?}", l.name, l.shape);
    }
    let p = Printer { k, n };
    p.nodes(&n.body, 1, &mut out);
    out
}

struct Printer<'a> {
    k: &'a Kernel,
    n: &'a Nest,
}

impl Printer<'_> {
    fn nodes(&self, nodes: &[Node], depth: usize, out: &mut String) {
        let pad = "  ".repeat(depth);
        for node in nodes {
            let _ = match node {
                Node::Comment(text, _) => writeln!(out, "{pad}# {text}"),
                Node::Loop { var, body } => {
                    let v = &self.n.vars[*var];
                    let done = writeln!(out, "{pad}for {} in 0..{}", v.name, v.extent);
                    self.nodes(body, depth + 1, out);
                    done
                }
                Node::If { tests, body } => {
                    let done = writeln!(out, "{pad}if {}", self.tests(tests, " and "));
                    self.nodes(body, depth + 1, out);
                    done
                }
                Node::Init { register, value } => {
                    let r = &self.n.registers[*register];
                    writeln!(
                        out,
                        "{pad}{}{} = {value:?}",
                        r.name,
                        r.lanes.map_or(String::new(), |l| format!("[0..{l}]"))
                    )
                }
                Node::Update { place, how, value } => {
                    let how = match how {
                        Update::Set => "=".to_string(),
                        Update::Reduce(ReduceOp::Sum) => "+=".into(),
                        Update::Reduce(ReduceOp::Prod) => "*=".into(),
                        Update::Reduce(r) => format!("{}=", r.name()),
                    };
                    let place = match place {
                        Place::Element(a) => self.access(a),
                        Place::Register(r, lane) => self.register(*r, lane),
                    };
                    writeln!(out, "{pad}{place} {how} {}", self.value(value))
                }
                Node::Fold { into, from, op } => writeln!(
                    out,
                    "{pad}{} = {} of the lanes of {}",
                    self.n.registers[*into].name,
                    op.name(),
                    self.n.registers[*from].name
                ),
                Node::Fill(t) => writeln!(out, "{pad}{}[..] = 0", self.k.tensor(*t).name),
            };
        }
    }
    fn linear(&self, l: &Linear) -> String {
        linear(l, &|v| self.n.vars[v].name.clone())
    }
    fn register(&self, r: RegisterId, lane: &Option<Linear>) -> String {
        let name = &self.n.registers[r].name;
        lane.as_ref().map_or_else(|| name.clone(), |l| format!("{name}[{}]", self.linear(l)))
    }
    fn access(&self, a: &Access) -> String {
        let quotient = |p: &Position| {
            if p.divisor == 1 {
                self.linear(&p.numerator)
            } else {
                format!("({})/{}", self.linear(&p.numerator), p.divisor)
            }
        };
        let positions: Vec<_> = a.positions.iter().map(quotient).collect();
        format!("{}{}[{}]", self.k.tensor(a.tensor).name, if a.flat { ".flat" } else { "" }, positions.join(", "))
    }
    fn value(&self, v: &Value) -> String {
        match v {
            Value::Const(c) => format!("{c:?}"),
            Value::Load(a) => self.access(a),
            Value::Register(r, lane) => self.register(*r, lane),
            Value::Unary(f, a) => format!("{}({})", f.name(), self.value(a)),
            Value::Binary(f, a, b) => match f {
                Binary::Add => format!("({} + {})", self.value(a), self.value(b)),
                Binary::Sub => format!("({} - {})", self.value(a), self.value(b)),
                Binary::Mul => format!("{} * {}", self.value(a), self.value(b)),
                Binary::Div => format!("{} / {}", self.value(a), self.value(b)),
                f => format!("{}({}, {})", f.name(), self.value(a), self.value(b)),
            },
            Value::Powf(a, n) => format!("({})^{n:?}", self.value(a)),
            Value::Select(t, a, b) => format!("({} ? {} : {})", self.test(t), self.value(a), self.value(b)),
        }
    }
    fn tests(&self, tests: &[Test], joint: &str) -> String {
        tests.iter().map(|t| self.test(t)).collect::<Vec<_>>().join(joint)
    }
    fn test(&self, t: &Test) -> String {
        match t {
            Test::Within { numerator, divisor: 1, extent } => format!("{} in 0..{extent}", self.linear(numerator)),
            Test::Within { numerator, divisor, extent } => {
                format!("({})/{divisor} in 0..{extent}", self.linear(numerator))
            }
            Test::Index(op, a, b) => format!("{} {} {}", self.linear(a), op.symbol(), self.linear(b)),
            Test::Value(op, a, b) => format!("{} {} {}", self.value(a), op.symbol(), self.value(b)),
            Test::And(ts) if ts.is_empty() => "true".into(),
            Test::Or(ts) if ts.is_empty() => "false".into(),
            Test::And(ts) => format!("({})", self.tests(ts, " and ")),
            Test::Or(ts) => format!("({})", self.tests(ts, " or ")),
            Test::Not(t) => format!("not {}", self.test(t)),
        }
    }
}
