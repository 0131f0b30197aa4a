//! The text of a nest: takes a nest and its kernel, gives indented pseudo-code.

use super::*;
use crate::index::formula::{Formula, Op};
use crate::plain::Kernel;
use crate::plain::print::{binary, divided, linear, number, power};
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
                Node::Tile(t) => {
                    let list =
                        |f: &dyn Fn(&(VarId, Linear)) -> String| t.params.iter().map(f).collect::<Vec<_>>().join(", ");
                    let given = list(&|(v, value)| format!("{} = {}", self.n.vars[*v].name, self.linear(value)));
                    let done = writeln!(out, "{pad}tile({given})");
                    self.nodes(&t.body, depth + 1, out);
                    done
                }
                Node::Let { var, value, most } => {
                    let least = Formula::call("min", [self.linear(value), Formula::atom(most)]);
                    writeln!(out, "{pad}{} := {least}", self.n.vars[*var].name)
                }
                Node::If { tests, body } => {
                    let done = writeln!(out, "{pad}if {}", self.tests(Op::And, tests));
                    self.nodes(body, depth + 1, out);
                    done
                }
                Node::Speculative { body } => {
                    let done = writeln!(out, "{pad}try");
                    self.nodes(body, depth + 1, out);
                    done
                }
                Node::Init { register, value } => {
                    let r = &self.n.registers[*register];
                    let lanes = r.lanes.map_or(String::new(), |l| format!("<{l}>"));
                    let over = |v: &VarId| format!("{} in 0..{}", self.n.vars[*v].name, self.n.vars[*v].extent);
                    let dims: Vec<_> = r.dims.iter().map(over).collect();
                    let dims = if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) };
                    writeln!(out, "{pad}{}{lanes}{dims} := {}", self.register(*register), self.value(value))
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
                        Place::Lanes(a, lanes) => {
                            Formula::Lanes(Box::new(self.access(a)), format!("{}..{}", lanes.start, lanes.end))
                        }
                        Place::Register(slot) => self.slot(slot),
                    };
                    writeln!(out, "{pad}{place} {how} {}", self.value(value))
                }
                Node::Fold { into, from, op } => {
                    writeln!(out, "{pad}{} = {} of the lanes of {}", self.slot(into), op.name(), self.slot(from))
                }
                Node::Sums { into, from } => {
                    let (into, lanes) = (self.register(*into), from.len());
                    let from: Vec<_> = from.iter().map(|slot| self.slot(slot).to_string()).collect();
                    writeln!(out, "{pad}{into}<{lanes}> := sums of the lanes of {}", from.join(", "))
                }
                Node::Transpose(t) => {
                    let [row, column] = [t.row, t.column].map(|v| &self.n.vars[v]);
                    let (to, from) = (self.access(&t.to), self.access(&t.from));
                    let over = |v: &Var| format!("{} in 0..{}", v.name, v.extent);
                    writeln!(out, "{pad}rows {to} for {} = columns {from} for {}", over(column), over(row))
                }
                Node::Fill(t) => writeln!(out, "{pad}{}[..] = 0", self.n.tensor(self.k, *t)),
            };
        }
    }
    fn linear(&self, l: &Linear) -> Formula {
        linear(l, &|v| self.n.vars[v].name.clone())
    }

    fn access(&self, a: &Access) -> Formula {
        // `_` for each dimension that a position runs over besides its own.
        let position = |(p, n): (&Position, &usize)| {
            let quotient = divided(self.linear(&p.numerator), p.divisor);
            if *n == 1 { quotient } else { Formula::Over(n - 1, Box::new(quotient)) }
        };
        let positions = a.positions.iter().zip(&a.joined).map(position).collect();
        Formula::Access(self.n.tensor(self.k, a.tensor).into(), positions)
    }

    fn register(&self, r: RegisterId) -> String {
        format!("{}{r}", self.n.registers[r].name)
    }

    fn slot(&self, slot: &Slot) -> Formula {
        let name = self.register(slot.register);
        match slot.at.is_empty() {
            true => Formula::Atom(name),
            false => Formula::Access(name, slot.at.iter().map(|l| self.linear(l)).collect()),
        }
    }

    fn value(&self, v: &Value) -> Formula {
        let lanes = |a: Formula, text: String| Formula::Lanes(Box::new(a), text);
        match v {
            Value::Const(c) => number(*c),
            Value::Load(a) => self.access(a),
            Value::Lanes(a, width, count) if width == count => lanes(self.access(a), width.to_string()),
            Value::Lanes(a, width, count) => lanes(self.access(a), format!("{count} of {width}")),
            Value::Splat(a, width) => lanes(self.value(a), format!("all {width}")),
            Value::Register(slot) => self.slot(slot),
            Value::Unary(f, a) => Formula::call(f.name(), [self.value(a)]),
            Value::Binary(f, a, b) => binary(*f, self.value(a), self.value(b)),
            Value::Powf(a, n) => power(self.value(a), *n),
            Value::Fused(a, b, c) => {
                let product = self.value(a).binary(Op::Mul, self.value(b));
                Formula::call("fused", [product.binary(Op::Add, self.value(c))])
            }
            Value::Each(f, all) => Formula::Each(f.name().into(), all.iter().map(|a| self.value(a)).collect()),
            Value::Lane(slot, lane) => lanes(self.slot(slot), lane.to_string()),
            Value::Choose(op, all) => {
                let [a, b, yes, no] = all.each_ref().map(|v| self.value(v));
                Formula::Choice(Box::new([a.binary((*op).into(), b), yes, no]))
            }
            Value::Select(t, a, b) => Formula::Choice(Box::new([self.test(t), self.value(a), self.value(b)])),
        }
    }

    /// All of them, or one of them.
    fn tests(&self, op: Op, tests: &[Test]) -> Formula {
        let all = tests.iter().map(|t| self.test(t)).reduce(|a, b| a.binary(op, b));
        all.unwrap_or_else(|| Formula::atom(op == Op::And))
    }

    fn test(&self, t: &Test) -> Formula {
        match t {
            Test::Within { numerator, divisor, extent } => {
                divided(self.linear(numerator), *divisor).binary(Op::In, Formula::Atom(format!("0..{extent}")))
            }
            Test::Index(op, a, b) => self.linear(a).binary((*op).into(), self.linear(b)),
            Test::Value(op, a, b) => self.value(a).binary((*op).into(), self.value(b)),
            Test::And(ts) if ts.is_empty() => self.tests(Op::And, ts),
            Test::Or(ts) if ts.is_empty() => self.tests(Op::Or, ts),
            Test::And(ts) => self.tests(Op::And, ts).bracketed(),
            Test::Or(ts) => self.tests(Op::Or, ts).bracketed(),
            Test::Not(t) => Formula::Not(Box::new(self.test(t))),
        }
    }
}
