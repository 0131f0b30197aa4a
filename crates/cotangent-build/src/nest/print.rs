//! The text of a nest: takes a nest and its kernel, gives indented pseudo-code.

use super::*;
use crate::plain::Kernel;
use crate::plain::print::linear;
use std::fmt::Write;

/// One function.
pub fn nest(k: &Kernel, n: &Nest) -> String {
    let names = |ts: &[TensorId]| ts.iter().map(|t| k.tensor(*t).name.as_str()).collect::<Vec<_>>().join(", ");
    let machines: Vec<_> = n.machines.iter().map(|m| m.name.to_lowercase()).collect();
    let mut out = format!("{}({}) -> {}    {}\n", n.name, names(&n.reads), names(&n.writes), machines.join(", "));
    for note in &n.notes {
        let _ = writeln!(out, "  ; {note}");
    }
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
                Node::Trial { body } => {
                    let done = writeln!(out, "{pad}try");
                    self.nodes(body, depth + 1, out);
                    done
                }
                Node::Init { register, value } => {
                    let r = &self.n.registers[*register];
                    let lanes = r.lanes.map_or(String::new(), |l| format!("<{l}>"));
                    writeln!(out, "{pad}{}{lanes} := {}", r.name, self.value(value))
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
                        Place::Lanes(a, lanes) => format!("{}<{}..{}>", self.access(a), lanes.start, lanes.end),
                        Place::Register(r) => self.n.registers[*r].name.clone(),
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
                Node::Sums { into, from } => {
                    let (into, lanes) = (&self.n.registers[*into].name, from.len());
                    let from: Vec<_> = from.iter().map(|r| self.n.registers[*r].name.as_str()).collect();
                    writeln!(out, "{pad}{into}<{lanes}> := sums of the lanes of {}", from.join(", "))
                }
                Node::Transpose { from, to } => {
                    let list = |all: &[Access]| all.iter().map(|a| self.access(a)).collect::<Vec<_>>().join(", ");
                    writeln!(out, "{pad}rows {} = columns {}", list(to), list(from))
                }
                Node::Fill(t) => writeln!(out, "{pad}{}[..] = 0", self.n.tensor(self.k, *t)),
            };
        }
    }
    fn linear(&self, l: &Linear) -> String {
        linear(l, &|v| self.n.vars[v].name.clone())
    }
    fn access(&self, a: &Access) -> String {
        let quotient = |p: &Position| {
            if p.divisor == 1 {
                self.linear(&p.numerator)
            } else {
                format!("({})/{}", self.linear(&p.numerator), p.divisor)
            }
        };
        // `_` for each dimension that a position runs over besides its own.
        let positions: Vec<_> =
            a.positions.iter().zip(&a.joined).map(|(p, n)| "_ ".repeat(n - 1) + &quotient(p)).collect();
        format!("{}[{}]", self.n.tensor(self.k, a.tensor), positions.join(", "))
    }
    fn value(&self, v: &Value) -> String {
        match v {
            Value::Const(c) => format!("{c:?}"),
            Value::Load(a) => self.access(a),
            Value::Lanes(a, width, count) if width == count => format!("{}<{width}>", self.access(a)),
            Value::Lanes(a, width, count) => format!("{}<{count} of {width}>", self.access(a)),
            Value::Splat(a, width) => format!("{}<all {width}>", self.value(a)),
            Value::Register(r) => self.n.registers[*r].name.clone(),
            Value::Unary(f, a) => format!("{}({})", f.name(), self.value(a)),
            Value::Binary(f, a, b) => match f {
                Binary::Add => format!("({} + {})", self.value(a), self.value(b)),
                Binary::Sub => format!("({} - {})", self.value(a), self.value(b)),
                Binary::Mul => format!("{} * {}", self.value(a), self.value(b)),
                Binary::Div => format!("{} / {}", self.value(a), self.value(b)),
                f => format!("{}({}, {})", f.name(), self.value(a), self.value(b)),
            },
            Value::Powf(a, n) => format!("({})^{n:?}", self.value(a)),
            Value::Fused(a, b, c) => format!("fused({} * {} + {})", self.value(a), self.value(b), self.value(c)),
            Value::Each(f, all) => {
                format!("{}<{}>", f.name(), all.iter().map(|a| self.value(a)).collect::<Vec<_>>().join(", "))
            }
            Value::Lane(r, lane) => format!("{}<{lane}>", self.n.registers[*r].name),
            Value::Choose(op, all) => {
                let [a, b, yes, no] = all.each_ref().map(|v| self.value(v));
                format!("({a} {} {b} ? {yes} : {no})", op.symbol())
            }
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
