//! A nest's body as Rust: takes a nest, gives the lines of a function body, loops as loops.
//!
//! Holds after it: safe code, `usize` arithmetic that cannot go below zero where nothing guards it, and that wraps
//! where a test of the range follows.

mod merged;
mod value;
mod vectors;

pub use merged::merged;

use super::names::{ANY, FLAG, Names, SPECULATION, Size};
use super::rust::{self, Expr, Number, Path, Pattern, Stmt};
use crate::index::{ReduceOp, TensorId, Unary};
use crate::nest::plan::ALIGNMENT;
use crate::nest::walk::{self, Part};
use crate::nest::{Local, Nest, Node, Place, Register, RegisterId, Slot, Tile, Update, Value, VarId};
use crate::plain::{Kernel, Linear};
use crate::source::{SourceId, Sources, Span};
use crate::types::DType;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use value::{summed, total};

/// The instruction set.
const ISA: &str = "Isa_";
/// What the templates call the runtime's module of instruction sets.
const INSTRUCTIONS: &str = "_isa";

/// How the text of a body stands.
pub struct Form<'a> {
    /// Sums that are added to an argument are stored instead where the flag of the function does not hold.
    pub either: bool,
    /// The types of arguments.
    pub types: &'a BTreeMap<TensorId, String>,
    /// The file that the kernel is of: its statements are named by their lines alone.
    pub spec: Option<SourceId>,
}

/// A tile as `tile.rs.tera` sees it: a function of its own.
#[derive(Clone, PartialEq, Serialize)]
pub struct TileContext {
    pub name: String,
    /// The names of its constants: lanes, vectors, rows.
    pub sizes: Vec<String>,
    pub arguments: Vec<super::context::ReferenceContext>,
    pub text: String,
    /// The lines around it, where only stages call it that other kernels may have too: see [`super::shared`].
    pub begin: String,
    pub end: &'static str,
    /// The same for all tiles that do the same, whatever their tensors are called.
    #[serde(skip)]
    key: String,
    /// Where each argument stands among those of the key.
    #[serde(skip)]
    order: Vec<usize>,
}

impl TileContext {
    /// Whether a body, as it is written, calls the tile.
    pub fn is_called_in(&self, body: &str) -> bool {
        body.contains(&format!("self::{}::<", self.name))
    }
}

/// The statements of the body. Tiles that it calls and that are not among `tiles` are added to them.
pub fn stmts(
    sources: &Sources,
    k: &Kernel,
    n: &Nest,
    names: &Names,
    form: Form,
    tiles: &mut Vec<TileContext>,
) -> Vec<Stmt> {
    let Form { either, types, spec } = form;
    let mut w = Writer {
        sources,
        k,
        n,
        names,
        either,
        types,
        spec,
        tiles,
        tile: None,
        tried: Tried::No,
        changed: BTreeSet::new(),
        zeros: BTreeSet::new(),
    };
    changed(&n.body, &mut w.changed);
    let filled = |t: &TensorId| n.body.contains(&Node::Fill(*t));
    let apart: Vec<Stmt> = n.reads.iter().chain(&n.writes).filter(|t| !filled(t)).filter_map(|t| w.apart(*t)).collect();
    let (panels, locals): (Vec<&Local>, Vec<_>) = n.locals.iter().partition(|l| l.is_panel(k));
    let locals = locals.into_iter().flat_map(|l| w.local_of(l));
    let mut out: Vec<Stmt> = apart.into_iter().chain(locals).collect();
    let mut rest = n.body.as_slice();
    while !rest.is_empty() {
        // What stands between comments has panels of its own.
        let said = rest.iter().take_while(|n| matches!(n, Node::Comment(..))).count();
        let (comments, behind) = rest.split_at(said);
        let (nodes, behind) = behind.split_at(behind.iter().take_while(|n| !matches!(n, Node::Comment(..))).count());
        w.nodes(comments, &mut out);
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        touched(nodes, &mut read, &mut written);
        out.extend(panels.iter().filter(|l| written.contains(&l.tensor)).flat_map(|l| w.local_of(l)));
        w.nodes(nodes, &mut out);
        rest = behind;
    }
    out
}

/// The scalar type.
pub fn scalar(dtype: DType) -> &'static str {
    dtype.rust()
}

/// The type of an array: `[[f32; 3]; 2]`.
pub fn array(dtype: DType, shape: &[usize]) -> String {
    shape.iter().rev().fold(Expr::name(scalar(dtype)), |inner, n| inner.repeat(Expr::whole(*n))).to_string()
}

struct Writer<'a> {
    sources: &'a Sources,
    k: &'a Kernel,
    n: &'a Nest,
    names: &'a Names,
    either: bool,
    types: &'a BTreeMap<TensorId, String>,
    spec: Option<SourceId>,
    tiles: &'a mut Vec<TileContext>,
    /// The tile that the text is of.
    tile: Option<&'a Tile>,
    tried: Tried,
    /// The registers that change after they are set.
    changed: BTreeSet<RegisterId>,
    /// The variables of loops that run once: there is no loop in the text.
    zeros: BTreeSet<VarId>,
}

/// Where the text stands.
#[derive(Clone, Copy, PartialEq)]
enum Tried {
    No,
    /// Within a speculative block.
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

impl<'a> Writer<'a> {
    /// An argument taken apart, if its elements have names: those of what is read are numbers, those of what is written
    /// references.
    fn apart(&self, t: TensorId) -> Option<Stmt> {
        let pattern = self.names.elements(t, &self.k.tensor(t).shape)?;
        let name = Expr::name(self.names.tensor(t));
        let value = if self.n.writes.contains(&t) { name } else { name.unary(rust::Unary::Deref) };
        Some(Stmt::Let { pattern, mutable: false, value })
    }

    /// A local, zero at first. An array has whole cache lines, of which the compiler of the output may read all.
    fn local_of(&self, l: &Local) -> Vec<Stmt> {
        let zero = || l.shape.iter().rev().fold(self.number(0.0), |inner, n| inner.repeat(Expr::whole(*n)));
        let name = Path::name(self.names.tensor(l.tensor));
        let is = |mutable, value| Stmt::Let { pattern: Pattern::Name(name.clone()), mutable, value };
        if l.shape.is_empty() {
            return vec![is(true, zero())];
        }
        let aligned = |array: Expr| Path::new(&[INSTRUCTIONS, "Aligned"]).call([array]);
        let (elements, line) = (l.shape.iter().product::<usize>(), ALIGNMENT / self.k.dtype.bytes());
        if elements.is_multiple_of(line) {
            return vec![is(false, aligned(zero()).field(0).unary(rust::Unary::RefMut))];
        }
        let lines = self.number(0.0).repeat(Expr::whole(elements.next_multiple_of(line)));
        let of_type = zero().unary(rust::Unary::Ref);
        vec![
            is(true, aligned(lines)),
            is(false, Expr::name(self.names.tensor(l.tensor)).method(Path::name("like"), [of_type])),
        ]
    }

    fn register(&self, r: RegisterId) -> Expr {
        Expr::name(self.names.register(r))
    }

    fn slot(&self, slot: &Slot) -> Expr {
        slot.at.iter().fold(self.register(slot.register), |array, at| {
            let (plus, minus) = self.terms(at, false);
            assert!(minus.is_empty(), "registers are counted forwards");
            array.at(total(plus))
        })
    }

    /// A number of lanes: within a tile that of its vectors is a constant.
    fn width(&self, width: usize) -> String {
        match self.tile {
            Some(t) if t.width == width => self.names.size(Size::Lanes).into(),
            _ => width.to_string(),
        }
    }

    /// The extent of a variable: within a tile those of its vectors and rows are constants.
    fn extent(&self, var: VarId) -> Expr {
        let row = |t: &Tile| t.rows.iter().position(|r| *r == var).map(Size::Rows);
        let size = self.tile.and_then(|t| if t.vector == var { Some(Size::Vectors) } else { row(t) });
        size.map_or_else(|| Expr::whole(self.n.vars[var].extent), |s| Expr::name(self.names.size(s)))
    }

    /// Whether a loop runs once, whatever the constants of a tile.
    fn once(&self, var: VarId) -> bool {
        self.n.vars[var].extent == 1 && self.tile.is_none_or(|t| t.vector != var && !t.rows.contains(&var))
    }

    /// The call of a tile; it becomes a function unless there is one that does the same.
    fn tile(&mut self, t: &'a Tile) -> Stmt {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        touched(&t.body, &mut read, &mut written);
        // In the order of the text: of tiles that do the same the first meets what the others have in its place.
        let mut own = Vec::new();
        accessed(&t.body, &mut |t, _| {
            if !own.contains(&t) {
                own.push(t)
            }
        });
        let mut arguments = Vec::new();
        let mut passed = Vec::new();
        let mut key = String::new();
        let rows = (0..t.rows.len()).map(Size::Rows);
        let mut sizes: Vec<Size> = [Size::Lanes, Size::Vectors].into_iter().chain(rows).collect();
        let mut counts: Vec<usize> = [t.width]
            .into_iter()
            .chain([&t.vector].into_iter().chain(&t.rows).map(|v| self.n.vars[*v].extent))
            .collect();
        for tensor in own.iter().copied() {
            let local = self.n.local(tensor);
            // Tiles that differ in how long the rows of a panel are have the same text.
            let ty = match local {
                Some(l) if l.is_panel(self.k) && l.shape.len() > 1 => {
                    let (row, outer) = l.shape.split_last().expect("a panel has rows");
                    sizes.push(Size::Panel(sizes.len() - 2 - t.rows.len()));
                    counts.push(*row);
                    let row = self.names.size(sizes[sizes.len() - 1]);
                    let row = Expr::name(scalar(self.k.dtype)).repeat(Expr::name(row));
                    outer.iter().rev().fold(row, |inner, n| inner.repeat(Expr::whole(*n))).to_string()
                }
                Some(l) => array(self.k.dtype, &l.shape),
                None => self.types[&tensor].clone(),
            };
            let shape = local.map_or_else(|| &self.k.tensor(tensor).shape, |l| &l.shape);
            let is_panel = local.is_some_and(|l| l.is_panel(self.k));
            let whole = if is_panel { ty.clone() } else { array(self.k.dtype, shape) };
            let (how, borrow) = match written.contains(&tensor) {
                true => ("&mut ", rust::Unary::RefMut),
                false => ("&", rust::Unary::Ref),
            };
            key += &format!("{how}{whole}, ");
            let name = self.names.tensor(tensor);
            arguments.push(super::context::ReferenceContext { name: name.into(), ty: format!("{how}{ty}") });
            // A local number is no reference.
            let number = local.is_some_and(|l| l.shape.is_empty());
            passed.push(if number { Expr::name(name).unary(borrow) } else { Expr::name(name) });
        }
        // For the reader in the order in which the spec declares them.
        let locals = self.n.locals.iter().map(|l| l.tensor);
        let declared: Vec<TensorId> = self.n.reads.iter().chain(&self.n.writes).copied().chain(locals).collect();
        let mut order: Vec<usize> = (0..own.len()).collect();
        order.sort_by_key(|n| declared.iter().position(|t| *t == own[*n]));
        for (var, value) in &t.params {
            order.push(arguments.len());
            arguments.push(super::context::ReferenceContext { name: self.names.var(*var).into(), ty: "usize".into() });
            passed.push(self.linear(value, false));
        }
        if self.either && self.n.writes.iter().any(|t| written.contains(t)) {
            order.push(arguments.len());
            arguments.push(super::context::ReferenceContext { name: FLAG.into(), ty: "bool".into() });
            passed.push(Expr::name(FLAG));
        }
        let sizes: Vec<String> = sizes.into_iter().map(|s| self.names.size(s).to_string()).collect();
        let text = rust::lines(&self.of_tile(t, self.names), 1);
        let anonymous = self.names.of_tile(t, &own);
        key += &format!("{sizes:?}\n{}", rust::lines(&self.of_tile(t, &anonymous), 0));
        if !self.tiles.iter().any(|other| other.key == key) {
            let number = self.tiles.len() + 1;
            let name = if number == 1 { "_tile".to_string() } else { format!("_tile{number}") };
            let arguments = order.iter().map(|n| arguments[*n].clone()).collect();
            let (begin, end) = (String::new(), "");
            self.tiles.push(TileContext { name, sizes, arguments, text, begin, end, key: key.clone(), order });
        }
        let made = self.tiles.iter().find(|other| other.key == key).expect("it was made, if by none before");
        let passed: Vec<Expr> = made.order.iter().map(|n| passed[*n].clone()).collect();
        let constants = std::iter::once(&ISA as &dyn std::fmt::Display);
        let constants: Vec<&dyn std::fmt::Display> =
            constants.chain(counts.iter().map(|n| n as &dyn std::fmt::Display)).collect();
        Stmt::Expr(Path::new(&["self", &made.name]).of(&constants).call(passed))
    }

    /// The statements of a tile, with names of the writer's choice or others.
    fn of_tile(&self, t: &Tile, names: &Names) -> Vec<Stmt> {
        // No tile is within another.
        let mut tiles = Vec::new();
        Writer {
            names,
            tile: Some(t),
            tiles: &mut tiles,
            changed: self.changed.clone(),
            zeros: BTreeSet::new(),
            ..*self
        }
        .within(&t.body)
    }

    /// Whether what is done to a place depends on the flag.
    fn is_result(&self, place: &Place) -> bool {
        self.either && matches!(place, Place::Element(a) | Place::Lanes(a, _) if self.n.writes.contains(&a.tensor))
    }

    /// The first lane of a range and that behind it; that behind the last of a tile's vectors is a constant.
    fn ends(&self, range: &std::ops::Range<usize>) -> [Expr; 2] {
        let end = |at: usize| self.tile.filter(|t| t.width == at).map(|_| Expr::name(self.names.size(Size::Lanes)));
        [range.start, range.end].map(|at| end(at).unwrap_or_else(|| Expr::whole(at)))
    }

    fn update(&self, place: &Place, how: Update, value: &Value) -> Stmt {
        let lanes = value.lanes(&self.n.registers);
        let place = match place {
            Place::Lanes(a, range) => {
                let (row, at) = self.row(a, true);
                let all = [self.value(value), row, at];
                let ends = self.ends(range);
                return Stmt::Expr(match (how, Some(range.len()) == lanes) {
                    (Update::Set, true) => isa("write").call(all),
                    (Update::Set, false) => isa("write_part").call([&all[..], &ends].concat()),
                    (Update::Reduce(_), true) => isa("add_to").call(all),
                    (Update::Reduce(_), false) => isa("add_part").call([&all[..], &ends].concat()),
                });
            }
            Place::Element(a) => self.access(a, true),
            Place::Register(slot) => self.slot(slot),
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

    fn nodes(&mut self, nodes: &'a [Node], out: &mut Vec<Stmt>) {
        let mut rest = nodes.iter();
        while let Some(node) = rest.next() {
            if let Some((sin, cos, x)) = rest.as_slice().first().and_then(|next| sine_and_cosine(node, next)) {
                let halves = [sin, cos].map(|r| self.names.lanes(r, x.len()));
                let pattern = Pattern::Tuple(halves.into());
                let value = self.of_scalars(x).method(Path::name("sin_cos").of(&[&ISA]), []);
                out.push(Stmt::Let { pattern, mutable: false, value });
                rest.next();
                continue;
            }
            self.node(node, out);
        }
    }

    fn within(&mut self, nodes: &'a [Node]) -> Vec<Stmt> {
        let mut out = Vec::new();
        self.nodes(nodes, &mut out);
        out
    }

    fn node(&mut self, node: &'a Node, out: &mut Vec<Stmt>) {
        match node {
            // Said once; and where nothing is a loop, statements and lines of code have no order in common.
            Node::Comment(..) if self.tried == Tried::Again || self.n.vars.is_empty() => {}
            Node::Comment(text, span) => {
                let place = |s: Span| match self.spec == Some(s.source) {
                    true => format!("    line {}", self.sources.line(s)),
                    false => format!("    {}", super::place(self.sources, s)),
                };
                let place = span.map_or(String::new(), place);
                out.push(Stmt::Comment(format!("{text}{place}")));
            }
            Node::Loop { var, body } if let Some(all) = self.vectors(*var, body) => out.extend(all),
            Node::Loop { var, body } if self.once(*var) => {
                self.zeros.insert(*var);
                self.nodes(body, out);
            }
            Node::Loop { var, body } => {
                let (name, extent) = (Path::name(self.names.var(*var)), self.extent(*var));
                out.push(Stmt::For { var: name, extent, body: self.within(body) });
            }
            Node::Tile(t) => {
                let call = self.tile(t);
                out.push(call);
            }
            Node::Let { var, value, most } => {
                let value = self.linear(value, false).method(Path::name("min"), [Expr::whole(*most)]);
                out.push(Stmt::Let { pattern: Pattern::name(self.names.var(*var)), mutable: false, value });
            }
            Node::If { tests, body } => {
                let test = self.tests(rust::Binary::And, tests);
                out.push(Stmt::If { test, body: self.within(body), otherwise: Vec::new() });
            }
            Node::Speculative { body } => {
                let value = Path::new(&["math", "Speculation", "new"]).call([]);
                out.push(let_mut(SPECULATION, value));
                self.tried = Tried::First;
                self.nodes(body, out);
                self.tried = Tried::Again;
                let test = Expr::name(SPECULATION).method(Path::name("failed"), []);
                out.push(Stmt::If { test, body: self.within(body), otherwise: Vec::new() });
                self.tried = Tried::No;
            }
            Node::Init { register, value } => self.init(*register, value, out),
            Node::Update { place, how: Update::Reduce(ReduceOp::Sum), value } if self.is_result(place) => {
                out.push(self.either(place, value));
            }
            Node::Update { place, how, value } => out.push(self.update(place, *how, value)),
            Node::Fold { into, from, op } => out.push(self.fold(into, from, *op)),
            Node::Sums { into, from } => {
                let rows = from.iter().map(|slot| self.slot(slot)).collect();
                out.push(self.set(*into, isa("sums").call([Expr::Array(rows)])));
            }
            Node::Transpose(t) => self.transpose(t, out),
            Node::Fill(t) => {
                let name = Expr::name(self.names.tensor(*t));
                // A scalar local is no reference.
                let place = match self.n.shape(self.k, *t).is_empty() && self.local(*t) {
                    true => name,
                    false => name.unary(rust::Unary::Deref),
                };
                let flat = Path::new(&["_Tensor", "flat_mut"]).call([place.unary(rust::Unary::RefMut)]);
                out.push(Stmt::Expr(flat.method(Path::name("fill"), [Expr::Number(Number::zero())])));
                out.extend(self.apart(*t));
            }
        }
    }

    /// A register with its first value, each of its elements if it has several.
    fn init(&self, register: RegisterId, value: &Value, out: &mut Vec<Stmt>) {
        let Register { lanes, dims, .. } = &self.n.registers[register];
        if let Value::Each(_, all) = value {
            let pattern = self.names.lanes(register, all.len());
            out.push(Stmt::Let { pattern, mutable: false, value: self.value(value) });
            return;
        }
        if let ([var], Value::Lanes(a, width, count)) = (dims.as_slice(), value)
            && width == count
            && self.tile.is_some_and(|t| t.vector == *var)
            && let Some((row, at)) = self.vectors_of(a, *var, *width, false)
        {
            let ty = scalar(self.k.dtype);
            let read = isa("read_all").of(&[&ty, &self.width(*width), &self.names.size(Size::Vectors)]);
            out.push(self.set(register, read.call([row, at])));
            return;
        }
        let mut moves = false;
        value.vars(&mut |v| moves |= dims.contains(&v));
        let of = |value: Expr, v: &VarId| value.repeat(self.extent(*v));
        let name = self.names.register(register);
        if !moves {
            out.push(self.set(register, dims.iter().rev().fold(self.value(value), of)));
        } else {
            // No closure: one that is inlined late is compiled without the caller's instructions.
            let zero = Value::Const(0.0);
            let zero = lanes.map_or(zero.clone(), |n| Value::Splat(Box::new(zero), n));
            out.push(let_mut(name, dims.iter().rev().fold(self.value(&zero), of)));
            let slot = Slot { register, at: dims.iter().map(|v| Linear::var(*v)).collect() };
            let set = vec![Stmt::Assign(self.slot(&slot), self.value(value))];
            let looped = |body: Vec<Stmt>, v: &VarId| {
                vec![Stmt::For { var: Path::name(self.names.var(*v)), extent: self.extent(*v), body }]
            };
            out.extend(dims.iter().rev().fold(set, looped));
        }
    }

    /// The lanes of one register folded into another, a scalar.
    fn fold(&self, into: &Slot, from: &Slot, op: ReduceOp) -> Stmt {
        let (into, from) = (self.slot(into), self.slot(from));
        let fold = |f: Expr| Path::new(&[INSTRUCTIONS, "fold"]).call([from.clone(), f]);
        match op {
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
        }
    }

    /// A register and its first value.
    fn set(&self, register: RegisterId, value: Expr) -> Stmt {
        let pattern = Pattern::name(self.names.register(register));
        Stmt::Let { pattern, mutable: self.changed.contains(&register), value }
    }

    /// A result that is added or stored, as the flag says.
    fn either(&self, place: &Place, value: &Value) -> Stmt {
        let lanes = value.lanes(&self.n.registers);
        let (value, flag) = (self.value(value), Expr::name(FLAG));
        Stmt::Expr(match place {
            Place::Element(a) => {
                let place = match self.access(a, true) {
                    Expr::Unary(rust::Unary::Deref, reference) => *reference,
                    element => element.unary(rust::Unary::RefMut),
                };
                Path::new(&[INSTRUCTIONS, "update"]).call([place, value, flag])
            }
            Place::Lanes(a, range) => {
                let (row, at) = self.row(a, true);
                match Some(range.len()) == lanes {
                    true => isa("update").call([value, row, at, flag]),
                    false => {
                        let [start, end] = self.ends(range);
                        isa("update_part").call([value, row, at, start, end, flag])
                    }
                }
            }
            Place::Register(_) => unreachable!("a register is no result"),
        })
    }
}

/// The registers that nodes change.
fn changed(nodes: &[Node], out: &mut BTreeSet<RegisterId>) {
    walk::parts(nodes, &mut |part| {
        if let Part::Changed(slot) = part {
            out.insert(slot.register);
        }
    });
}

/// The tensors that nodes read and write.
fn touched(nodes: &[Node], read: &mut BTreeSet<TensorId>, written: &mut BTreeSet<TensorId>) {
    accessed(nodes, &mut |t, writes| _ = if writes { written.insert(t) } else { read.insert(t) });
}

/// Each access in the order of the text, and whether it writes.
fn accessed(nodes: &[Node], f: &mut dyn FnMut(TensorId, bool)) {
    walk::parts(nodes, &mut |part| match part {
        Part::Read(a) => f(a.tensor, false),
        Part::Written(a) => f(a.tensor, true),
        Part::Filled(t) => f(*t, true),
        _ => {}
    });
}

fn let_mut(name: &str, value: Expr) -> Stmt {
    Stmt::Let { pattern: Pattern::name(name), mutable: true, value }
}

/// The registers of sine and cosine, where two nodes that follow each other take them of the same lanes.
fn sine_and_cosine<'a>(node: &'a Node, next: &Node) -> Option<(RegisterId, RegisterId, &'a [Value])> {
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
