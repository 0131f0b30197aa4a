//! A nest's body as Rust: takes a nest, gives the lines of a function body, loops as loops.
//!
//! Holds after it: safe code, `usize` arithmetic that cannot go below zero where nothing guards it, and that wraps where a test of the
//! range follows.

use super::names::{ANY, BLOCKS, FLAG, Names, TRIAL};
use super::rust::{self, Expr, Number, Path, Stmt};
use crate::index::{Binary, ReduceOp, TensorId, Unary};
use crate::nest::{Access, Nest, Node, Place, RegisterId, Test, Update, Value};
use crate::plain::{Kernel, Linear};
use crate::source::Sources;
use crate::spec::DType;

/// The instruction set.
const ISA: &str = "Isa_";

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
    let mut w = Writer { sources, runtime, k, n, names, either, tried: Tried::No };
    let mut out = Vec::new();
    for l in &n.locals {
        let zero = l.shape.iter().rev().fold(w.number(0.0), |inner, n| inner.repeat(*n));
        let (mutable, value) = if l.shape.is_empty() {
            (true, zero)
        } else {
            let aligned = w.runtime(&["isa", "Aligned"]).call([zero]);
            (false, aligned.field(0).unary(rust::Unary::RefMut))
        };
        out.push(Stmt::Let { names: vec![Path::name(names.tensor(l.tensor))], mutable, value });
    }
    w.nodes(&n.body, &mut out);
    rust::lines(&out, depth)
}

/// The scalar type.
pub fn scalar(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F64 => "f64",
    }
}

/// The type of an array: `[[f32; 3]; 2]`.
pub fn array(dtype: DType, shape: &[usize]) -> String {
    shape.iter().rev().fold(Expr::name(scalar(dtype)), |inner, n| inner.repeat(*n)).to_string()
}

struct Writer<'a> {
    sources: &'a Sources,
    runtime: &'a str,
    k: &'a Kernel,
    n: &'a Nest,
    names: &'a Names,
    either: bool,
    tried: Tried,
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

/// A function of the instruction set.
fn isa(name: &str) -> Path {
    Path::new(&[ISA, name])
}

/// A function of scalars.
fn math(name: &str) -> Path {
    Path::new(&["math", name]).of(&[&ISA])
}

impl Writer<'_> {
    /// A path of what the body stands on.
    fn runtime(&self, names: &[&str]) -> Path {
        Path::new(&[&[self.runtime], names].concat())
    }

    fn register(&self, r: RegisterId) -> Expr {
        Expr::name(self.names.register(r))
    }

    /// Whether what is done to a place depends on the flag.
    fn is_result(&self, place: &Place) -> bool {
        self.either && matches!(place, Place::Element(a) | Place::Lanes(a, _) if self.n.writes.contains(&a.tensor))
    }

    fn update(&self, place: &Place, how: Update, value: &Value) -> Stmt {
        let lanes = value.lanes(&self.n.registers);
        let place = match place {
            Place::Lanes(a, range) => {
                let (row, at) = self.row(a, true);
                let all = [self.value(value), row, at];
                let ends = [range.start, range.end].map(Expr::whole);
                return Stmt::Expr(match (how, Some(range.len()) == lanes) {
                    (Update::Set, true) => isa("write").call(all),
                    (Update::Set, false) => isa("write_part").call([&all[..], &ends].concat()),
                    (Update::Reduce(_), true) => isa("add_to").call(all),
                    (Update::Reduce(_), false) => isa("add_part").call([&all[..], &ends].concat()),
                });
            }
            Place::Element(a) => self.access(a, true),
            Place::Register(r) => self.register(*r),
        };
        let with = |f: Path| Stmt::Assign(place.clone(), f.call([place.clone(), self.value(value)]));
        match how {
            Update::Set => Stmt::Assign(place, self.value(value)),
            Update::Reduce(ReduceOp::Sum) => summed(&place, self.sum(place.clone(), value, lanes.is_some())),
            Update::Reduce(ReduceOp::Prod) if lanes.is_some() => with(isa("lanes_mul")),
            Update::Reduce(ReduceOp::Prod) => Stmt::Change(place, rust::Binary::Mul, self.value(value)),
            Update::Reduce(ReduceOp::Max) if lanes.is_some() => with(isa("lanes_max")),
            Update::Reduce(ReduceOp::Min) if lanes.is_some() => with(isa("lanes_min")),
            Update::Reduce(r @ (ReduceOp::Max | ReduceOp::Min)) => with(math(r.name())),
        }
    }

    fn nodes(&mut self, nodes: &[Node], out: &mut Vec<Stmt>) {
        let mut rest = nodes.iter();
        while let Some(node) = rest.next() {
            if let Some((sin, cos, x)) = rest.as_slice().first().and_then(|next| turn(node, next)) {
                let names = [sin, cos].map(|r| Path::name(self.names.register(r))).into();
                let value = self.of_scalars(x).method(Path::name("sin_cos").of(&[&ISA]), []);
                out.push(Stmt::Let { names, mutable: true, value });
                rest.next();
                continue;
            }
            self.node(node, out);
        }
    }

    fn within(&mut self, nodes: &[Node]) -> Vec<Stmt> {
        let mut out = Vec::new();
        self.nodes(nodes, &mut out);
        out
    }

    fn node(&mut self, node: &Node, out: &mut Vec<Stmt>) {
        match node {
            // Said once.
            Node::Comment(..) if self.tried == Tried::Again => {}
            Node::Comment(text, span) => {
                let place = span.map_or(String::new(), |s| format!("    {}", super::place(self.sources, s)));
                out.push(Stmt::Comment(format!("{text}{place}")));
            }
            Node::Loop { var, body } => {
                let (name, extent) = (Path::name(self.names.var(*var)), self.n.vars[*var].extent);
                out.push(Stmt::For { var: name, extent: rust::Number::whole(extent), body: self.within(body) });
            }
            Node::If { tests, body } => {
                let test = self.tests(rust::Binary::And, tests);
                out.push(Stmt::If { test, body: self.within(body) });
            }
            Node::Trial { body } => {
                let value = Path::new(&["math", "Trial", "new"]).call([]);
                out.push(let_mut(TRIAL, value));
                self.tried = Tried::First;
                self.nodes(body, out);
                self.tried = Tried::Again;
                let test = Expr::name(TRIAL).method(Path::name("failed"), []);
                out.push(Stmt::If { test, body: self.within(body) });
                self.tried = Tried::No;
            }
            Node::Init { register, value } => {
                out.push(let_mut(self.names.register(*register), self.value(value)));
            }
            Node::Update { place, how: Update::Reduce(ReduceOp::Sum), value } if self.is_result(place) => {
                let add = self.update(place, Update::Reduce(ReduceOp::Sum), value);
                let store = self.update(place, Update::Set, value);
                out.push(Stmt::Expr(Expr::when(Expr::name(FLAG), add, store)));
            }
            Node::Update { place, how, value } => out.push(self.update(place, *how, value)),
            Node::Fold { into, from, op } => {
                let (into, from) = (self.register(*into), self.register(*from));
                let fold = |f: Expr| self.runtime(&["isa", "fold"]).call([from.clone(), f]);
                out.push(match op {
                    ReduceOp::Sum => Stmt::Change(into, rust::Binary::Add, isa("sum").call([from])),
                    ReduceOp::Prod => {
                        let [a, b] = ANY.map(Expr::name);
                        let product = Expr::closure(&ANY, a.binary(rust::Binary::Mul, b));
                        Stmt::Change(into, rust::Binary::Mul, fold(product))
                    }
                    ReduceOp::Max | ReduceOp::Min => {
                        let folded = fold(Expr::Path(math(op.name())));
                        Stmt::Assign(into.clone(), math(op.name()).call([into, folded]))
                    }
                });
            }
            Node::Sums { into, from } => {
                let rows = from.iter().map(|r| self.register(*r)).collect();
                out.push(let_mut(self.names.register(*into), isa("sums").call([Expr::Array(rows)])));
            }
            Node::Transpose { from, to } => {
                let rows: Vec<Expr> = from
                    .iter()
                    .map(|a| {
                        let (row, at) = self.row(a, false);
                        self.runtime(&["isa", "row"]).call([row, at])
                    })
                    .collect();
                let (ty, n) = (scalar(self.k.dtype), to.len());
                for (name, rows) in BLOCKS.iter().zip(rows.chunks(n)) {
                    let value = isa("transpose").of(&[&ty, &n]).call([Expr::Array(rows.to_vec())]);
                    out.push(Stmt::Let { names: vec![Path::name(name)], mutable: false, value });
                }
                for (i, a) in to.iter().enumerate() {
                    let (row, at) = self.row(a, true);
                    let [turned, beside] = BLOCKS.map(|name| Expr::name(name).at(Expr::whole(i)));
                    let lanes = if from.len() == n {
                        turned
                    } else {
                        isa("join").of(&[&ty, &n, &from.len()]).call([turned, beside])
                    };
                    out.push(Stmt::Expr(isa("write").call([lanes, row, at])));
                }
            }
            Node::Fill(t) => {
                let name = Expr::name(self.names.tensor(*t));
                // A scalar local is no reference.
                let place = match self.n.shape(self.k, *t).is_empty() && self.local(*t) {
                    true => name,
                    false => name.unary(rust::Unary::Deref),
                };
                let flat = self.runtime(&["Tensor", "flat_mut"]).call([place.unary(rust::Unary::RefMut)]);
                out.push(Stmt::Expr(flat.method(Path::name("fill"), [Expr::Number(Number::zero())])));
            }
        }
    }

    /// `place` with a value added: products are fused into the sum where the instruction set does that, term by term, the last term of the
    /// value first.
    fn sum(&self, place: Expr, v: &Value, lanes: bool) -> Expr {
        let fma = || isa(if lanes { "lanes_mul_add" } else { "mul_add" });
        match v {
            Value::Binary(Binary::Add, a, b) => self.sum(self.sum(place, b, lanes), a, lanes),
            Value::Binary(Binary::Mul, a, b) => fma().call([self.value(a), self.value(b), place]),
            Value::Powf(a, n) if *n == 2.0 => {
                let it = Expr::name(ANY[0]);
                Expr::binding(ANY[0], self.value(a), fma().call([it.clone(), it, place]))
            }
            v if lanes => isa("lanes_add").call([place, self.value(v)]),
            v => place.binary(rust::Binary::Add, self.operand(v)),
        }
    }

    fn local(&self, t: TensorId) -> bool {
        self.n.local(t).is_some()
    }

    fn number(&self, c: f64) -> Expr {
        let ty = scalar(self.k.dtype);
        // What does not fit is infinite, as it would be in a conversion.
        let c = if self.k.dtype == DType::F32 && (c as f32).is_infinite() { f64::from(c as f32) } else { c };
        let special = |name: &str| Expr::Path(Path::new(&[ty, name]));
        match c {
            f64::INFINITY => special("INFINITY"),
            f64::NEG_INFINITY => special("NEG_INFINITY"),
            c if c.is_nan() => special("NAN"),
            c => signed(Number::real(c, ty), c.is_sign_negative()),
        }
    }

    /// A place or an element, behind `mutable` joins.
    fn access(&self, a: &Access, mutable: bool) -> Expr {
        let (row, at) = self.steps(a, mutable);
        match at {
            Some(at) => row.at(at),
            // A scalar argument is behind a reference, a scalar local is not.
            None if self.local(a.tensor) => row,
            None => row.unary(rust::Unary::Deref),
        }
    }

    /// The row of lanes as a slice, and where in it they start.
    fn row(&self, a: &Access, mutable: bool) -> (Expr, Expr) {
        let (row, at) = self.steps(a, mutable);
        let borrow = if mutable { rust::Unary::RefMut } else { rust::Unary::Ref };
        let row = match row {
            // A slice already.
            flat @ Expr::Method(..) => flat,
            // A reference to the array.
            name @ Expr::Path(_) => Expr::Whole(Box::new(name)).unary(borrow),
            array => array.unary(borrow),
        };
        (row, at.expect("lanes are no scalar"))
    }

    /// The array that the last position indexes, and that position; none of a scalar.
    fn steps(&self, a: &Access, mutable: bool) -> (Expr, Option<Expr>) {
        let mut row = Expr::name(self.names.tensor(a.tensor));
        let mut at = None;
        for (p, joined) in a.positions.iter().zip(&a.joined) {
            if let Some(at) = at {
                row = row.at(at);
            }
            for _ in 1..*joined {
                row = row.method(Path::name(if mutable { "as_flattened_mut" } else { "as_flattened" }), []);
            }
            at = Some(divided(self.linear(&p.numerator, p.guarded), rust::Binary::Div, p.divisor));
        }
        (row, at)
    }

    /// A linear map as `usize`: terms that add, then terms that take away, wrapping where only a test keeps it from going below zero.
    fn linear(&self, l: &Linear, wrapping: bool) -> Expr {
        let (plus, minus) = self.halves(l);
        let plus = total(plus);
        if minus.is_empty() {
            plus
        } else if wrapping {
            Path::new(&["usize", "wrapping_sub"]).call([plus, total(minus)])
        } else {
            minus.into_iter().fold(plus, |a, b| a.binary(rust::Binary::Sub, b))
        }
    }

    /// The terms with positive and with negative coefficients.
    fn halves(&self, l: &Linear) -> (Vec<Expr>, Vec<Expr>) {
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for (v, c) in &l.terms {
            let name = Expr::name(self.names.var(*v));
            let size = if c.unsigned_abs() == 1 { name } else { name.binary(rust::Binary::Mul, size(*c)) };
            if *c > 0 { &mut plus } else { &mut minus }.push(size);
        }
        match l.constant {
            0 => {}
            c => if c > 0 { &mut plus } else { &mut minus }.push(size(c)),
        }
        (plus, minus)
    }

    fn value(&self, v: &Value) -> Expr {
        if v.lanes(&self.n.registers).is_some() {
            return self.lanes(v);
        }
        match v {
            Value::Const(c) => self.number(*c),
            Value::Load(a) => self.access(a, false),
            Value::Register(r) => self.register(*r),
            Value::Unary(Unary::Neg, a) => self.operand(a).unary(rust::Unary::Neg),
            Value::Unary(f, a) if f.branches() && self.tried == Tried::First => {
                let note = |x: Expr| Expr::name(TRIAL).method(Path::name(f.name()).of(&[&ISA]), [x]);
                // A trial is borrowed while its argument is computed: one that needs the trial too comes first.
                match crate::nest::trial::branches(a) {
                    true => Expr::binding(ANY[0], self.value(a), note(Expr::name(ANY[0]))),
                    false => note(self.value(a)),
                }
            }
            Value::Unary(f, a) => math(f.name()).call([self.value(a)]),
            Value::Binary(f, a, b) => match arithmetic(*f) {
                Some(op) => self.operand(a).binary(op, self.operand(b)),
                None => math(f.name()).call([self.value(a), self.value(b)]),
            },
            Value::Powf(a, n) => self.power(self.value(a), *n),
            Value::Select(t, a, b) => self.select(t, a, b),
            Value::Fused(a, b, c) => isa("mul_add").call([self.value(a), self.value(b), self.value(c)]),
            Value::Lane(r, lane) => self.register(*r).at(Expr::whole(*lane)),
            Value::Lanes(..) | Value::Splat(..) | Value::Each(..) | Value::Choose(..) => {
                unreachable!("lanes are above")
            }
        }
    }

    fn select(&self, t: &Test, a: &Value, b: &Value) -> Expr {
        Expr::when(self.test(t), self.value(a), self.value(b)).bracketed()
    }

    fn power(&self, base: Expr, n: f64) -> Expr {
        match n {
            n if n.fract() == 0.0 && n.abs() <= 64.0 => {
                math("powi").call([base, signed(Number::whole(n.abs() as usize), n < 0.0)])
            }
            0.5 => math("sqrt").call([base]),
            -0.5 => math("rsqrt").call([base]),
            n => math("pow").call([base, self.number(n)]),
        }
    }

    /// Lanes of scalars, one each.
    fn of_scalars(&self, all: &[Value]) -> Expr {
        let all = all.iter().map(|a| self.value(a)).collect();
        self.runtime(&["Lanes", "from_array"]).call([Expr::Array(all)])
    }

    /// A value of several lanes.
    fn lanes(&self, v: &Value) -> Expr {
        let ty = scalar(self.k.dtype);
        let function = |f: &Unary| Path::name(f.name()).of(&[&ISA]);
        match v {
            Value::Register(r) => self.register(*r),
            Value::Lanes(a, width, count) => {
                let (row, at) = self.row(a, false);
                match width == count {
                    true => isa("read").of(&[&ty, width]).call([row, at]),
                    false => isa("read_part").of(&[&ty, width]).call([row, at, Expr::whole(*count)]),
                }
            }
            Value::Splat(a, width) => isa("splat").of(&[&ty, width]).call([self.value(a)]),
            Value::Unary(Unary::Neg, a) => self.lanes(a).unary(rust::Unary::Neg),
            Value::Unary(f, a) => self.lanes(a).method(function(f), []),
            Value::Binary(f, a, b) => {
                let (a, b) = (self.lanes(a), self.lanes(b));
                match f {
                    Binary::Add => isa("lanes_add").call([a, b]),
                    Binary::Sub => isa("lanes_sub").call([a, b]),
                    Binary::Mul => isa("lanes_mul").call([a, b]),
                    Binary::Max => isa("lanes_max").call([a, b]),
                    Binary::Min => isa("lanes_min").call([a, b]),
                    Binary::Div => a.binary(rust::Binary::Div, b),
                    f => {
                        let each = Expr::closure(&ANY, math(f.name()).call(ANY.map(Expr::name)));
                        a.method(Path::name("zip"), [b, each])
                    }
                }
            }
            Value::Powf(a, n) => {
                let each = Expr::closure(&ANY[..1], self.power(Expr::name(ANY[0]), *n));
                self.lanes(a).method(Path::name("map"), [each])
            }
            Value::Select(t, a, b) => self.select(t, a, b),
            Value::Choose(op, all) => {
                let [a, b] = ANY.map(Expr::name);
                let [x, y, yes, no] = all.each_ref().map(|v| self.lanes(v));
                let test = Expr::closure(&ANY, a.binary((*op).into(), b));
                self.runtime(&["Lanes", "choose"]).call([test, x, y, yes, no])
            }
            Value::Each(f, all) => self.of_scalars(all).method(function(f), []).method(Path::name("apart"), []),
            Value::Const(_) | Value::Load(_) | Value::Fused(..) | Value::Lane(..) => {
                unreachable!("scalars stand in splats")
            }
        }
    }

    /// Sums and products within others are bracketed as they were written, also where Rust would not ask for it: the order of operations is
    /// part of a kernel's contract, and is to be seen.
    fn operand(&self, v: &Value) -> Expr {
        let e = self.value(v);
        match v {
            Value::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div, ..) | Value::Unary(Unary::Neg, _) => {
                e.bracketed()
            }
            _ => e,
        }
    }

    /// All of them, or one of them.
    fn tests(&self, op: rust::Binary, tests: &[Test]) -> Expr {
        Expr::joined(op, tests.iter().map(|t| self.test(t))).unwrap_or(Expr::Bool(op == rust::Binary::And))
    }

    fn test(&self, t: &Test) -> Expr {
        match t {
            Test::Within { numerator, divisor, extent } => {
                let n = self.linear(numerator, true);
                let inside = divided(n.clone(), rust::Binary::Div, *divisor);
                let inside = inside.binary(rust::Binary::Lt, Expr::whole(*extent));
                if *divisor == 1 {
                    return inside;
                }
                let whole = divided(n, rust::Binary::Rem, *divisor).binary(rust::Binary::Eq, Expr::whole(0));
                whole.binary(rust::Binary::And, inside)
            }
            Test::Index(op, a, b) => {
                // Every term on the side where it adds.
                let ((pa, ma), (pb, mb)) = (self.halves(a), self.halves(b));
                total([pa, mb].concat()).binary((*op).into(), total([pb, ma].concat()))
            }
            Test::Value(op, a, b) => self.operand(a).binary((*op).into(), self.operand(b)),
            Test::And(ts) => self.tests(rust::Binary::And, ts),
            Test::Or(ts) => self.tests(rust::Binary::Or, ts),
            Test::Not(t) => self.test(t).unary(rust::Unary::Not),
        }
    }
}

fn let_mut(name: &str, value: Expr) -> Stmt {
    Stmt::Let { names: vec![Path::name(name)], mutable: true, value }
}

/// A number with its sign.
fn signed(n: Number, negative: bool) -> Expr {
    let size = Expr::Number(n);
    if negative { size.unary(rust::Unary::Neg) } else { size }
}

/// A whole number without its sign.
fn size(c: i64) -> Expr {
    Expr::whole(usize::try_from(c.unsigned_abs()).expect("a size fits 64 bits"))
}

/// The sum of all terms.
fn total(terms: Vec<Expr>) -> Expr {
    Expr::joined(rust::Binary::Add, terms).unwrap_or(Expr::whole(0))
}

/// Divided, where that changes anything.
fn divided(e: Expr, op: rust::Binary, divisor: i64) -> Expr {
    if divisor == 1 { e } else { e.binary(op, size(divisor)) }
}

/// The operator of a function that has one.
fn arithmetic(f: Binary) -> Option<rust::Binary> {
    match f {
        Binary::Add => Some(rust::Binary::Add),
        Binary::Sub => Some(rust::Binary::Sub),
        Binary::Mul => Some(rust::Binary::Mul),
        Binary::Div => Some(rust::Binary::Div),
        _ => None,
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
fn summed(place: &Expr, sum: Expr) -> Stmt {
    match added(place, &sum) {
        Some(added) => Stmt::Change(place.clone(), rust::Binary::Add, added),
        None => Stmt::Assign(place.clone(), sum),
    }
}

/// What a sum that begins with `place` adds to it.
fn added(place: &Expr, sum: &Expr) -> Option<Expr> {
    let Expr::Binary(rust::Binary::Add, first, last) = sum else { return None };
    let last = (**last).clone();
    if **first == *place { Some(last) } else { added(place, first).map(|all| all.binary(rust::Binary::Add, last)) }
}
