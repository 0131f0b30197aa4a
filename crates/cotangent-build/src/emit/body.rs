//! A nest's body as Rust: takes a nest, gives the lines of a function body, loops as loops.
//!
//! Holds after it: safe code, `usize` arithmetic that cannot go below zero where nothing guards it, and that wraps where a test of the
//! range follows.

use super::names::Names;
use crate::index::{Binary, ReduceOp, TensorId, Unary};
use crate::nest::{Access, Nest, Node, Place, Position, Test, Update, Value};
use crate::plain::{Kernel, Linear};
use crate::source::Sources;
use crate::spec::DType;

/// The lines of the body, indented by `depth` steps of four spaces.
pub fn lines(sources: &Sources, k: &Kernel, n: &Nest, names: &Names, depth: usize) -> String {
    let mut w = Writer { sources, k, n, names, out: String::new() };
    for l in &n.locals {
        let zero = nested(&format!("0.0_{}", scalar(k.dtype)), &l.shape);
        w.line(depth, &format!("let mut {} = {zero};", names.tensor(l.tensor)));
    }
    w.nodes(&n.body, depth);
    w.out
}

/// The scalar type.
pub fn scalar(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F64 => "f64",
    }
}

/// `[[x; 3]; 2]`: of a type or of an element.
pub fn nested(element: &str, shape: &[usize]) -> String {
    shape.iter().rev().fold(element.to_string(), |inner, n| format!("[{inner}; {n}]"))
}

struct Writer<'a> {
    sources: &'a Sources,
    k: &'a Kernel,
    n: &'a Nest,
    names: &'a Names,
    out: String,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        self.out.push_str(&"    ".repeat(depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn nodes(&mut self, nodes: &[Node], depth: usize) {
        for node in nodes {
            match node {
                Node::Comment(text, span) => {
                    let place = span.map_or(String::new(), |s| format!("    {}", super::place(self.sources, s)));
                    self.line(depth, &format!("// {text}{place}"));
                }
                Node::Loop { var, body } => {
                    let flats = flat_tensors(body);
                    let v = &self.n.vars[*var];
                    if flats.is_empty() {
                        self.line(depth, &format!("for {} in 0..{} {{", self.names.var(*var), v.extent));
                        self.nodes(body, depth + 1);
                        self.line(depth, "}");
                        continue;
                    }
                    // The whole tensors as flat slices, under their own names.
                    self.line(depth, "{");
                    for t in flats {
                        let name = self.names.tensor(t);
                        let mutable = self.n.writes.contains(&t) || self.local(t);
                        let borrow = match (self.local(t), mutable) {
                            (true, _) => format!("&mut {name}"),
                            (false, _) => name.to_string(),
                        };
                        let method = if mutable { "flat_mut" } else { "flat" };
                        self.line(depth + 1, &format!("let {name} = ::cotangent::Tensor::{method}({borrow});"));
                    }
                    self.line(depth + 1, &format!("for {} in 0..{} {{", self.names.var(*var), v.extent));
                    self.nodes(body, depth + 2);
                    self.line(depth + 1, "}");
                    self.line(depth, "}");
                }
                Node::If { tests, body } => {
                    let tests: Vec<_> = tests.iter().map(|t| self.test(t, true)).collect();
                    self.line(depth, &format!("if {} {{", tests.join(" && ")));
                    self.nodes(body, depth + 1);
                    self.line(depth, "}");
                }
                Node::Init { register, value } => {
                    let r = &self.n.registers[*register];
                    let value = self.number(*value);
                    let init = r.lanes.map_or_else(|| value.clone(), |l| format!("[{value}; {l}]"));
                    self.line(depth, &format!("let mut {} = {init};", self.names.register(*register)));
                }
                Node::Update { place, how, value } => {
                    let place = match place {
                        Place::Element(a) => self.access(a),
                        Place::Register(r, lane) => self.register(*r, lane),
                    };
                    let value = self.value(value);
                    let text = match how {
                        Update::Set => format!("{place} = {value};"),
                        Update::Reduce(ReduceOp::Sum) => format!("{place} += {value};"),
                        Update::Reduce(ReduceOp::Prod) => format!("{place} *= {value};"),
                        Update::Reduce(r) => format!("{place} = math::{}({place}, {value});", r.name()),
                    };
                    self.line(depth, &text);
                }
                Node::Fold { into, from, op } => {
                    let (into, lanes) =
                        (self.names.register(*into).to_string(), self.names.register(*from).to_string());
                    let width = self.n.registers[*from].lanes.unwrap_or(1);
                    let mut half = width / 2;
                    while half >= 1 {
                        self.line(depth, &format!("for l in 0..{half} {{"));
                        let (a, b) = (format!("{lanes}[l]"), format!("{lanes}[l + {half}]"));
                        self.line(depth + 1, &fold(*op, &a, &b));
                        self.line(depth, "}");
                        half /= 2;
                    }
                    self.line(depth, &fold(*op, &into, &format!("{lanes}[0]")));
                }
                Node::Fill(t) => {
                    let name = self.names.tensor(*t);
                    let borrow = if self.local(*t) { format!("&mut {name}") } else { name.to_string() };
                    self.line(depth, &format!("::cotangent::Tensor::flat_mut({borrow}).fill(0.0);"));
                }
            }
        }
    }

    fn local(&self, t: TensorId) -> bool {
        self.n.locals.iter().any(|l| l.tensor == t)
    }

    fn number(&self, c: f64) -> String {
        let ty = scalar(self.k.dtype);
        // What does not fit is infinite, as it would be in a conversion.
        let c = if self.k.dtype == DType::F32 && (c as f32).is_infinite() { f64::from(c as f32) } else { c };
        match c {
            f64::INFINITY => format!("{ty}::INFINITY"),
            f64::NEG_INFINITY => format!("{ty}::NEG_INFINITY"),
            _ => format!("{c:?}_{ty}"),
        }
    }

    fn register(&self, r: usize, lane: &Option<Linear>) -> String {
        let name = self.names.register(r);
        lane.as_ref().map_or_else(|| name.to_string(), |l| format!("{name}[{}]", self.linear(l, false)))
    }

    fn access(&self, a: &Access) -> String {
        let name = self.names.tensor(a.tensor);
        if a.positions.is_empty() {
            // A scalar argument is behind a reference, a scalar local is not.
            return if self.local(a.tensor) { name.to_string() } else { format!("*{name}") };
        }
        let position = |p: &Position| {
            let n = self.linear(&p.numerator, p.guarded);
            if p.divisor == 1 { n } else { format!("({n}) / {}", p.divisor) }
        };
        let positions: Vec<_> = a.positions.iter().map(|p| format!("[{}]", position(p))).collect();
        format!("{name}{}", positions.concat())
    }

    /// A linear map as `usize`: terms that add, then terms that take away, wrapping where only a test keeps it from going below zero.
    fn linear(&self, l: &Linear, wrapping: bool) -> String {
        let (plus, minus) = self.halves(l);
        match (plus.is_empty(), minus.is_empty()) {
            (true, true) => "0".into(),
            (false, true) => plus.join(" + "),
            (_, false) if wrapping => {
                let from = if plus.is_empty() { "0".to_string() } else { plus.join(" + ") };
                format!("usize::wrapping_sub({from}, {})", minus.join(" + "))
            }
            (_, false) => {
                format!("{} - {}", if plus.is_empty() { "0".into() } else { plus.join(" + ") }, minus.join(" - "))
            }
        }
    }

    /// The terms with positive and with negative coefficients, as text.
    fn halves(&self, l: &Linear) -> (Vec<String>, Vec<String>) {
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for (v, c) in &l.terms {
            let name = self.names.var(*v);
            let size = if c.unsigned_abs() == 1 { name.to_string() } else { format!("{name} * {}", c.unsigned_abs()) };
            if *c > 0 { &mut plus } else { &mut minus }.push(size);
        }
        match l.constant {
            0 => {}
            c if c > 0 => plus.push(c.to_string()),
            c => minus.push(c.unsigned_abs().to_string()),
        }
        (plus, minus)
    }

    fn value(&self, v: &Value) -> String {
        match v {
            Value::Const(c) => self.number(*c),
            Value::Load(a) => self.access(a),
            Value::Register(r, lane) => self.register(*r, lane),
            Value::Unary(Unary::Neg, a) => format!("-{}", self.operand(a)),
            Value::Unary(f, a) => format!("math::{}({})", f.name(), self.value(a)),
            Value::Binary(f, a, b) => {
                let symbol = match f {
                    Binary::Add => "+",
                    Binary::Sub => "-",
                    Binary::Mul => "*",
                    Binary::Div => "/",
                    f => return format!("math::{}({}, {})", f.name(), self.value(a), self.value(b)),
                };
                format!("{} {symbol} {}", self.operand(a), self.operand(b))
            }
            Value::Powf(a, n) if n.fract() == 0.0 && n.abs() <= 64.0 => {
                format!("math::powi({}, {})", self.value(a), *n as i32)
            }
            Value::Powf(a, n) if *n == 0.5 => format!("math::sqrt({})", self.value(a)),
            Value::Powf(a, n) if *n == -0.5 => format!("math::rsqrt({})", self.value(a)),
            Value::Powf(a, n) => format!("math::pow({}, {})", self.value(a), self.number(*n)),
            Value::Select(t, a, b) => {
                format!("(if {} {{ {} }} else {{ {} }})", self.test(t, false), self.value(a), self.value(b))
            }
        }
    }

    /// Bracketed where precedence could change the meaning. Sums and products are bracketed as they were written: the order of
    /// operations is part of a kernel's contract.
    fn operand(&self, v: &Value) -> String {
        let text = self.value(v);
        match v {
            Value::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div, ..) | Value::Unary(Unary::Neg, _) => {
                format!("({text})")
            }
            _ => text,
        }
    }

    fn test(&self, t: &Test, inside_and: bool) -> String {
        match t {
            Test::Within { numerator, divisor, extent } => {
                let n = self.linear(numerator, true);
                if *divisor == 1 {
                    return format!("{n} < {extent}");
                }
                let n = if n.ends_with(')') { n } else { format!("({n})") };
                format!("{n} % {divisor} == 0 && {n} / {divisor} < {extent}")
            }
            Test::Index(op, a, b) => {
                // Every term on the side where it adds.
                let ((pa, ma), (pb, mb)) = (self.halves(a), self.halves(b));
                let side = |x: Vec<String>, y: Vec<String>| {
                    let all = [x, y].concat();
                    if all.is_empty() { "0".to_string() } else { all.join(" + ") }
                };
                format!("{} {} {}", side(pa, mb), op.symbol(), side(pb, ma))
            }
            Test::Value(op, a, b) => {
                format!("{} {} {}", self.operand(a), op.symbol(), self.operand(b))
            }
            Test::And(ts) if ts.is_empty() => "true".into(),
            Test::Or(ts) if ts.is_empty() => "false".into(),
            Test::And(ts) => {
                let all: Vec<_> = ts.iter().map(|t| self.test(t, true)).collect();
                let text = all.join(" && ");
                if inside_and || ts.len() == 1 { text } else { format!("({text})") }
            }
            Test::Or(ts) => format!("({})", ts.iter().map(|t| self.test(t, true)).collect::<Vec<_>>().join(" || ")),
            Test::Not(t) => format!("!({})", self.test(t, true)),
        }
    }
}

fn fold(op: ReduceOp, a: &str, b: &str) -> String {
    match op {
        ReduceOp::Sum => format!("{a} += {b};"),
        ReduceOp::Prod => format!("{a} *= {b};"),
        ReduceOp::Max | ReduceOp::Min => format!("{a} = math::{}({a}, {b});", op.name()),
    }
}

/// The tensors that the nodes, inner loops aside, access by a flat position.
fn flat_tensors(nodes: &[Node]) -> Vec<TensorId> {
    let mut all = Vec::new();
    let mut note = |a: &Access| {
        if a.flat && !all.contains(&a.tensor) {
            all.push(a.tensor);
        }
    };
    for node in nodes {
        if let Node::Update { place, value, .. } = node {
            if let Place::Element(a) = place {
                note(a);
            }
            value.loads(&mut note);
        }
    }
    all
}
