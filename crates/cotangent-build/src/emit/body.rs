//! A nest's body as Rust: takes a nest, gives the lines of a function body, loops as loops.
//!
//! Holds after it: safe code, `usize` arithmetic that cannot go below zero where nothing guards it, and that wraps where a test of the
//! range follows.

use super::names::Names;
use crate::index::{Binary, ReduceOp, TensorId, Unary};
use crate::nest::{Access, Nest, Node, Place, RegisterId, Test, Update, Value};
use crate::plain::{Kernel, Linear};
use crate::source::Sources;
use crate::spec::DType;

/// How the text of a body stands.
pub struct Form<'a> {
    /// The path of what it stands on.
    pub runtime: &'a str,
    /// Steps of four spaces before each line.
    pub depth: usize,
    /// Sums that are added to an argument are stored instead where the flag of the function does not hold.
    pub either: bool,
}

/// The lines of the body.
pub fn lines(sources: &Sources, k: &Kernel, n: &Nest, names: &Names, form: Form) -> String {
    let Form { runtime, depth, either } = form;
    let mut w = Writer { sources, runtime, k, n, names, either, tried: Tried::No, out: String::new() };
    for l in &n.locals {
        let (name, zero) = (names.tensor(l.tensor), nested(&format!("0.0_{}", scalar(k.dtype)), &l.shape));
        if l.shape.is_empty() {
            w.line(depth, &format!("let mut {name} = {zero};"));
        } else {
            w.line(depth, &format!("let {name} = &mut {runtime}::isa::Aligned({zero}).0;"));
        }
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
    runtime: &'a str,
    k: &'a Kernel,
    n: &'a Nest,
    names: &'a Names,
    either: bool,
    tried: Tried,
    out: String,
}

/// Where the text stands.
#[derive(Clone, Copy, PartialEq)]
enum Tried {
    No,
    /// Within a trial.
    First,
    /// Where it is run again.
    Again,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        self.out.push_str(&"    ".repeat(depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Whether what is done to a place depends on the flag.
    fn is_result(&self, place: &Place) -> bool {
        self.either && matches!(place, Place::Element(a) | Place::Lanes(a, _) if self.n.writes.contains(&a.tensor))
    }

    fn update(&self, place: &Place, how: Update, value: &Value) -> String {
        if let Place::Lanes(a, lanes) = place {
            let (row, at) = self.row(a, true);
            let value_text = self.value(value);
            let whole = Some(lanes.len()) == value.lanes(&self.n.registers);
            return match (how, whole) {
                (Update::Set, true) => format!("Isa_::write({value_text}, {row}, {at});"),
                (Update::Set, false) => {
                    format!("Isa_::write_part({value_text}, {row}, {at}, {}, {});", lanes.start, lanes.end)
                }
                (Update::Reduce(_), true) => format!("Isa_::add_to({value_text}, {row}, {at});"),
                (Update::Reduce(_), false) => {
                    format!("Isa_::add_part({value_text}, {row}, {at}, {}, {});", lanes.start, lanes.end)
                }
            };
        }
        let lanes = value.lanes(&self.n.registers).is_some();
        let place = match place {
            Place::Element(a) => self.access(a, true),
            Place::Register(r) => self.names.register(*r).to_string(),
            Place::Lanes(..) => unreachable!("above"),
        };
        match how {
            Update::Set => format!("{place} = {};", self.value(value)),
            Update::Reduce(ReduceOp::Sum) => return_sum(&place, &self.sum(&place, value, lanes)),
            Update::Reduce(ReduceOp::Prod) if lanes => {
                format!("{place} = Isa_::lanes_mul({place}, {});", self.value(value))
            }
            Update::Reduce(ReduceOp::Prod) => format!("{place} *= {};", self.value(value)),
            Update::Reduce(r) if lanes => {
                format!("{place} = Isa_::lanes_{}({place}, {});", r.name(), self.value(value))
            }
            Update::Reduce(r) => {
                format!("{place} = math::{}::<Isa_>({place}, {});", r.name(), self.value(value))
            }
        }
    }

    fn nodes(&mut self, nodes: &[Node], depth: usize) {
        let mut rest = nodes.iter();
        while let Some(node) = rest.next() {
            if let Some((sin, cos, x)) = rest.as_slice().first().and_then(|next| turn(node, next)) {
                let x: Vec<_> = x.iter().map(|x| self.value(x)).collect();
                let [sin, cos] = [sin, cos].map(|r| self.names.register(r));
                let lanes = format!("{}::Lanes::from_array([{}])", self.runtime, x.join(", "));
                self.line(depth, &format!("let (mut {sin}, mut {cos}) = {lanes}.sin_cos::<Isa_>();"));
                rest.next();
                continue;
            }
            match node {
                // Said once.
                Node::Comment(..) if self.tried == Tried::Again => {}
                Node::Comment(text, span) => {
                    let place = span.map_or(String::new(), |s| format!("    {}", super::place(self.sources, s)));
                    self.line(depth, &format!("// {text}{place}"));
                }
                Node::Loop { var, body } => {
                    self.line(depth, &format!("for {} in 0..{} {{", self.names.var(*var), self.n.vars[*var].extent));
                    self.nodes(body, depth + 1);
                    self.line(depth, "}");
                }
                Node::If { tests, body } => {
                    let tests: Vec<_> = tests.iter().map(|t| self.test(t, true)).collect();
                    self.line(depth, &format!("if {} {{", tests.join(" && ")));
                    self.nodes(body, depth + 1);
                    self.line(depth, "}");
                }
                Node::Trial { body } => {
                    self.line(depth, "let mut trial = math::Trial::new();");
                    self.tried = Tried::First;
                    self.nodes(body, depth);
                    self.line(depth, "if trial.failed() {");
                    self.tried = Tried::Again;
                    self.nodes(body, depth + 1);
                    self.tried = Tried::No;
                    self.line(depth, "}");
                }
                Node::Init { register, value } => {
                    self.line(depth, &format!("let mut {} = {};", self.names.register(*register), self.value(value)));
                }
                Node::Update { place, how: Update::Reduce(ReduceOp::Sum), value } if self.is_result(place) => {
                    let add = self.update(place, Update::Reduce(ReduceOp::Sum), value);
                    let store = self.update(place, Update::Set, value);
                    self.line(depth, &format!("if {} {{ {add} }} else {{ {store} }}", self.names.flag()));
                }
                Node::Update { place, how, value } => {
                    let text = self.update(place, *how, value);
                    self.line(depth, &text);
                }
                Node::Fold { into, from, op } => {
                    let (into, from) = (self.names.register(*into), self.names.register(*from));
                    let fold = |f: &str| format!("{}::isa::fold({from}, {f})", self.runtime);
                    let text = match op {
                        ReduceOp::Sum => format!("{into} += Isa_::sum({from});"),
                        ReduceOp::Prod => format!("{into} *= {};", fold("|a, b| a * b")),
                        ReduceOp::Max | ReduceOp::Min => {
                            let f = format!("math::{}::<Isa_>", op.name());
                            format!("{into} = {f}({into}, {});", fold(&f))
                        }
                    };
                    self.line(depth, &text);
                }
                Node::Sums { into, from } => {
                    let rows: Vec<_> = from.iter().map(|r| self.names.register(*r)).collect();
                    let into = self.names.register(*into);
                    self.line(depth, &format!("let mut {into} = Isa_::sums([{}]);", rows.join(", ")));
                }
                Node::Transpose { from, to } => {
                    let rows: Vec<_> = from
                        .iter()
                        .map(|a| {
                            let (row, at) = self.row(a, false);
                            format!("{}::isa::row({row}, {at})", self.runtime)
                        })
                        .collect();
                    let (ty, n) = (scalar(self.k.dtype), to.len());
                    for (name, rows) in ["turned", "beside"].iter().zip(rows.chunks(n)) {
                        let rows = rows.join(", ");
                        self.line(depth, &format!("let {name} = Isa_::transpose::<{ty}, {n}>([{rows}]);"));
                    }
                    for (i, a) in to.iter().enumerate() {
                        let (row, at) = self.row(a, true);
                        let lanes = if from.len() == n {
                            format!("turned[{i}]")
                        } else {
                            format!("Isa_::join::<{ty}, {n}, {}>(turned[{i}], beside[{i}])", from.len())
                        };
                        self.line(depth, &format!("Isa_::write({lanes}, {row}, {at});"));
                    }
                }
                Node::Fill(t) => {
                    let name = self.names.tensor(*t);
                    let borrow = if self.n.shape(self.k, *t).is_empty() && self.local(*t) { "&mut " } else { "&mut *" };
                    let flat = format!("{}::Tensor::flat_mut({borrow}{name})", self.runtime);
                    self.line(depth, &format!("{flat}.fill(0.0);"));
                }
            }
        }
    }

    /// The text of `place` with a value added: products are fused into the sum where the instruction set does that, term by term, the last
    /// term of the value first.
    fn sum(&self, place: &str, v: &Value, lanes: bool) -> String {
        let (fma, add) = if lanes { ("Isa_::lanes_mul_add", "Isa_::lanes_add") } else { ("Isa_::mul_add", "") };
        match v {
            Value::Binary(Binary::Add, a, b) => self.sum(&self.sum(place, b, lanes), a, lanes),
            Value::Binary(Binary::Mul, a, b) => format!("{fma}({}, {}, {place})", self.value(a), self.value(b)),
            Value::Powf(a, n) if *n == 2.0 => {
                format!("{{ let a = {}; {fma}(a, a, {place}) }}", self.value(a))
            }
            v if lanes => format!("{add}({place}, {})", self.value(v)),
            v => format!("{place} + {}", self.operand(v)),
        }
    }

    fn local(&self, t: TensorId) -> bool {
        self.n.local(t).is_some()
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

    /// A place or an element, behind `mutable` joins.
    fn access(&self, a: &Access, mutable: bool) -> String {
        let name = self.names.tensor(a.tensor);
        if a.positions.is_empty() {
            // A scalar argument is behind a reference, a scalar local is not.
            return if self.local(a.tensor) { name.to_string() } else { format!("*{name}") };
        }
        let (row, at) = self.steps(a, mutable);
        format!("{row}[{at}]")
    }

    /// The row of lanes as a slice, and where in it they start.
    fn row(&self, a: &Access, mutable: bool) -> (String, String) {
        let (row, at) = self.steps(a, mutable);
        let flat = row.ends_with("()");
        let borrow = match (flat, mutable) {
            (true, _) => "",
            (false, true) => "&mut ",
            (false, false) => "&",
        };
        // A name alone is a reference to the array already.
        let whole = a.positions.len() == 1 && !flat;
        (if whole { format!("{borrow}{row}[..]") } else { format!("{borrow}{row}") }, at)
    }

    /// The array that the last position indexes, and that position.
    fn steps(&self, a: &Access, mutable: bool) -> (String, String) {
        let mut row = self.names.tensor(a.tensor).to_string();
        let mut at = String::new();
        for (n, (p, joined)) in a.positions.iter().zip(&a.joined).enumerate() {
            if n > 0 {
                row += &format!("[{at}]");
            }
            row += &(if mutable { ".as_flattened_mut()" } else { ".as_flattened()" }).repeat(joined - 1);
            let numerator = self.linear(&p.numerator, p.guarded);
            at = if p.divisor == 1 { numerator } else { format!("({numerator}) / {}", p.divisor) };
        }
        (row, at)
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
        if v.lanes(&self.n.registers).is_some() {
            return self.lanes(v);
        }
        match v {
            Value::Const(c) => self.number(*c),
            Value::Load(a) => self.access(a, false),
            Value::Register(r) => self.names.register(*r).to_string(),
            Value::Unary(Unary::Neg, a) => format!("-{}", self.operand(a)),
            Value::Unary(f, a) if f.branches() && self.tried == Tried::First => {
                format!("trial.{}::<Isa_>({})", f.name(), self.value(a))
            }
            Value::Unary(f, a) => format!("math::{}::<Isa_>({})", f.name(), self.value(a)),
            Value::Binary(f, a, b) => {
                let symbol = match f {
                    Binary::Add => "+",
                    Binary::Sub => "-",
                    Binary::Mul => "*",
                    Binary::Div => "/",
                    f => return format!("math::{}::<Isa_>({}, {})", f.name(), self.value(a), self.value(b)),
                };
                format!("{} {symbol} {}", self.operand(a), self.operand(b))
            }
            Value::Powf(a, n) => self.power(&self.value(a), *n),
            Value::Select(t, a, b) => {
                format!("(if {} {{ {} }} else {{ {} }})", self.test(t, false), self.value(a), self.value(b))
            }
            Value::Fused(a, b, c) => {
                format!("Isa_::mul_add({}, {}, {})", self.value(a), self.value(b), self.value(c))
            }
            Value::Lane(r, lane) => format!("{}[{lane}]", self.names.register(*r)),
            Value::Lanes(..) | Value::Splat(..) | Value::Each(..) | Value::Choose(..) => {
                unreachable!("lanes are above")
            }
        }
    }

    fn power(&self, base: &str, n: f64) -> String {
        match n {
            n if n.fract() == 0.0 && n.abs() <= 64.0 => format!("math::powi::<Isa_>({base}, {})", n as i32),
            0.5 => format!("math::sqrt::<Isa_>({base})"),
            -0.5 => format!("math::rsqrt::<Isa_>({base})"),
            n => format!("math::pow::<Isa_>({base}, {})", self.number(n)),
        }
    }

    /// A value of several lanes.
    fn lanes(&self, v: &Value) -> String {
        let ty = scalar(self.k.dtype);
        let arithmetic =
            |name: &str, a: &Value, b: &Value| format!("Isa_::lanes_{name}({}, {})", self.lanes(a), self.lanes(b));
        match v {
            Value::Register(r) => self.names.register(*r).to_string(),
            Value::Lanes(a, width, count) => {
                let (row, at) = self.row(a, false);
                if width == count {
                    format!("Isa_::read::<{ty}, {width}>({row}, {at})")
                } else {
                    format!("Isa_::read_part::<{ty}, {width}>({row}, {at}, {count})")
                }
            }
            Value::Splat(a, width) => format!("Isa_::splat::<{ty}, {width}>({})", self.value(a)),
            Value::Unary(Unary::Neg, a) => format!("-{}", self.lanes(a)),
            Value::Unary(f, a) => format!("{}.{}::<Isa_>()", self.lanes(a), f.name()),
            Value::Binary(f, a, b) => match f {
                Binary::Add => arithmetic("add", a, b),
                Binary::Sub => arithmetic("sub", a, b),
                Binary::Mul => arithmetic("mul", a, b),
                Binary::Max => arithmetic("max", a, b),
                Binary::Min => arithmetic("min", a, b),
                Binary::Div => format!("{} / {}", self.lanes(a), self.lanes(b)),
                f => format!("{}.zip({}, |a, b| math::{}::<Isa_>(a, b))", self.lanes(a), self.lanes(b), f.name()),
            },
            Value::Powf(a, n) => format!("{}.map(|a| {})", self.lanes(a), self.power("a", *n)),
            Value::Select(t, a, b) => {
                format!("(if {} {{ {} }} else {{ {} }})", self.test(t, false), self.lanes(a), self.lanes(b))
            }
            Value::Choose(op, all) => {
                let [a, b, yes, no] = all.each_ref().map(|v| self.lanes(v));
                format!("{}::Lanes::choose(|a, b| a {} b, {a}, {b}, {yes}, {no})", self.runtime, op.symbol())
            }
            Value::Each(f, all) => {
                let all: Vec<_> = all.iter().map(|a| self.value(a)).collect();
                let lanes = format!("{}::Lanes::from_array([{}])", self.runtime, all.join(", "));
                format!("{lanes}.{}::<Isa_>().apart()", f.name())
            }
            Value::Const(_) | Value::Load(_) | Value::Fused(..) | Value::Lane(..) => {
                unreachable!("scalars stand in splats")
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

/// The registers of sine and cosine, where two nodes that follow each other take them of the same lanes.
fn turn<'a>(node: &'a Node, next: &Node) -> Option<(RegisterId, RegisterId, &'a [Value])> {
    let (Node::Init { register: a, value: Value::Each(f, x) }, Node::Init { register: b, value: Value::Each(g, y) }) =
        (node, next)
    else {
        return None;
    };
    match (f, g) {
        (Unary::Sin, Unary::Cos) if x == y => Some((*a, *b, x)),
        (Unary::Cos, Unary::Sin) if x == y => Some((*b, *a, x)),
        _ => None,
    }
}

/// A sum set to its new value: `+=` where nothing is fused.
fn return_sum(place: &str, sum: &str) -> String {
    match sum.strip_prefix(&format!("{place} + ")) {
        Some(added) => format!("{place} += {added};"),
        None => format!("{place} = {sum};"),
    }
}
