//! A nest's body as Rust: takes a nest, gives the lines of a function body, loops as loops.
//!
//! Holds after it: safe code, `usize` arithmetic that cannot go below zero where nothing guards it, and that wraps
//! where a test of the range follows.

use super::names::{ANY, BLOCKS, FLAG, Names, ROWS, Size, TRIAL};
use super::rust::{self, Expr, Number, Path, Stmt};
use crate::index::{Binary, ReduceOp, TensorId, Unary};
use crate::nest::walk::{self, Part};
use crate::nest::{
    Access, Counts, Local, Nest, Node, Place, Position, Register, RegisterId, Slot, Test, Tile, Turned, Update, Value,
    VarId,
};
use crate::plain::{Kernel, Linear};
use crate::source::{SourceId, Sources, Span};
use crate::types::DType;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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
    pub arguments: Vec<super::ReferenceContext>,
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
    let (panels, locals): (Vec<&Local>, Vec<_>) = n.locals.iter().partition(|l| l.is_panel(k));
    let mut out: Vec<Stmt> = locals.into_iter().map(|l| w.local_of(l)).collect();
    let mut rest = n.body.as_slice();
    while !rest.is_empty() {
        // What stands between comments has panels of its own.
        let said = rest.iter().take_while(|n| matches!(n, Node::Comment(..))).count();
        let (comments, behind) = rest.split_at(said);
        let (nodes, behind) = behind.split_at(behind.iter().take_while(|n| !matches!(n, Node::Comment(..))).count());
        w.nodes(comments, &mut out);
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        touched(nodes, &mut read, &mut written);
        out.extend(panels.iter().filter(|l| written.contains(&l.tensor)).map(|l| w.local_of(l)));
        w.nodes(nodes, &mut out);
        rest = behind;
    }
    out
}

/// The bodies of several classes of machines in one: what they have in common stands once, the rest where the class is
/// theirs.
pub fn merged(all: &[(Vec<&'static str>, Vec<Stmt>)]) -> Vec<Stmt> {
    let [(_, first), others @ ..] = all else { return Vec::new() };
    let comments = |body: &[Stmt]| body.iter().filter(|s| matches!(s, Stmt::Comment(_))).cloned().collect::<Vec<_>>();
    let said = comments(first);
    if said.is_empty() || others.iter().any(|(_, body)| comments(body) != said) {
        return merged_segment(all);
    }
    let mut rest: Vec<(&Vec<&'static str>, &[Stmt])> = all.iter().map(|(m, body)| (m, body.as_slice())).collect();
    let mut out = Vec::new();
    for comment in said.into_iter().map(Some).chain([None]) {
        let end = |body: &[Stmt]| body.iter().position(|s| matches!(s, Stmt::Comment(_))).unwrap_or(body.len());
        let segments: Vec<_> = rest.iter().map(|(m, body)| ((*m).clone(), body[..end(body)].to_vec())).collect();
        out.extend(merged_segment(&segments));
        out.extend(comment);
        rest.iter_mut().for_each(|(_, body)| *body = &body[(end(body) + 1).min(body.len())..]);
    }
    out
}

/// The same of bodies without comments outside of loops.
fn merged_segment(all: &[(Vec<&'static str>, Vec<Stmt>)]) -> Vec<Stmt> {
    let [(_, first), others @ ..] = all else { return Vec::new() };
    let shortest = all.iter().map(|(_, body)| body.len()).min().unwrap_or(0);
    let same = |n: &usize| others.iter().all(|(_, body)| body[*n] == first[*n]);
    let before = (0..shortest).take_while(same).count();
    let mut out = first[..before].to_vec();
    let rest: Vec<(Vec<&'static str>, &[Stmt])> = all.iter().map(|(m, body)| (m.clone(), &body[before..])).collect();
    // Loops that differ in what is in them.
    let loops = |(_, body): &(Vec<&'static str>, &[Stmt])| match body {
        [Stmt::For { var, extent, .. }] => Some((var.clone(), extent.clone())),
        _ => None,
    };
    if let Some((var, extent)) = loops(&rest[0])
        && rest.iter().all(|r| loops(r) == loops(&rest[0]))
    {
        let inner = |(m, body): &(Vec<&'static str>, &[Stmt])| match body {
            [Stmt::For { body, .. }] => (m.clone(), body.clone()),
            _ => unreachable!("all are loops"),
        };
        let body = merged(&rest.iter().map(inner).collect::<Vec<_>>());
        out.push(Stmt::For { var, extent, body });
        return out;
    }
    let mut groups: Vec<(Vec<&'static str>, &[Stmt])> = Vec::new();
    let complete = rest.iter().all(|(_, body)| !body.is_empty());
    for (machines, body) in rest.into_iter().filter(|(_, body)| !body.is_empty()) {
        match groups.iter_mut().find(|(_, other)| *other == body) {
            Some((all, _)) => all.extend(machines),
            None => groups.push((machines, body)),
        }
    }
    // Where every class does something, the one that most of them do needs no test.
    groups.sort_by_key(|(machines, _)| machines.len());
    let mut otherwise = Vec::new();
    if complete && groups.len() > 1 {
        otherwise = groups.pop().expect("more than one").1.to_vec();
    }
    for (machines, body) in groups.into_iter().rev() {
        let each = machines.iter().map(|m| Expr::Path(isa(&m.to_uppercase())));
        let test = Expr::joined(rust::Binary::Or, each).expect("a class of machines");
        let test = if machines.len() > 1 { Expr::Const(Box::new(test)) } else { test };
        let last = Stmt::If { test, body: body.to_vec(), otherwise: std::mem::take(&mut otherwise) };
        otherwise = vec![last];
    }
    out.extend(otherwise);
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

impl<'a> Writer<'a> {
    /// A local, zero at first.
    fn local_of(&self, l: &Local) -> Stmt {
        let zero = l.shape.iter().rev().fold(self.number(0.0), |inner, n| inner.repeat(Expr::whole(*n)));
        let (mutable, value) = if l.shape.is_empty() {
            (true, zero)
        } else {
            let aligned = Path::new(&[INSTRUCTIONS, "Aligned"]).call([zero]);
            (false, aligned.field(0).unary(rust::Unary::RefMut))
        };
        Stmt::Let { names: vec![Path::name(self.names.tensor(l.tensor))], mutable, value }
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
            arguments.push(super::ReferenceContext { name: name.into(), ty: format!("{how}{ty}") });
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
            arguments.push(super::ReferenceContext { name: self.names.var(*var).into(), ty: "usize".into() });
            passed.push(self.linear(value, false));
        }
        if self.either && self.n.writes.iter().any(|t| written.contains(t)) {
            order.push(arguments.len());
            arguments.push(super::ReferenceContext { name: FLAG.into(), ty: "bool".into() });
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
            if let Some((sin, cos, x)) = rest.as_slice().first().and_then(|next| turn(node, next)) {
                let names = [sin, cos].map(|r| Path::name(self.names.register(r))).into();
                let value = self.of_scalars(x).method(Path::name("sin_cos").of(&[&ISA]), []);
                out.push(Stmt::Let { names, mutable: false, value });
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
                out.push(Stmt::Let { names: vec![Path::name(self.names.var(*var))], mutable: false, value });
            }
            Node::If { tests, body } => {
                let test = self.tests(rust::Binary::And, tests);
                out.push(Stmt::If { test, body: self.within(body), otherwise: Vec::new() });
            }
            Node::Trial { body } => {
                let value = Path::new(&["math", "Trial", "new"]).call([]);
                out.push(let_mut(TRIAL, value));
                self.tried = Tried::First;
                self.nodes(body, out);
                self.tried = Tried::Again;
                let test = Expr::name(TRIAL).method(Path::name("failed"), []);
                out.push(Stmt::If { test, body: self.within(body), otherwise: Vec::new() });
                self.tried = Tried::No;
            }
            Node::Init { register, value } => {
                let Register { lanes, dims, .. } = &self.n.registers[*register];
                if let ([var], Value::Lanes(a, width, count)) = (dims.as_slice(), value)
                    && width == count
                    && self.tile.is_some_and(|t| t.vector == *var)
                    && let Some((row, at)) = self.vectors_of(a, *var, *width, false)
                {
                    let ty = scalar(self.k.dtype);
                    let read = isa("read_all").of(&[&ty, &self.width(*width), &self.names.size(Size::Vectors)]);
                    out.push(self.set(*register, read.call([row, at])));
                    return;
                }
                let mut moves = false;
                value.vars(&mut |v| moves |= dims.contains(&v));
                let of = |value: Expr, v: &VarId| value.repeat(self.extent(*v));
                let name = self.names.register(*register);
                if !moves {
                    out.push(self.set(*register, dims.iter().rev().fold(self.value(value), of)));
                } else {
                    // No closure: one that is inlined late is compiled without the caller's instructions.
                    let zero = Value::Const(0.0);
                    let zero = lanes.map_or(zero.clone(), |n| Value::Splat(Box::new(zero), n));
                    out.push(let_mut(name, dims.iter().rev().fold(self.value(&zero), of)));
                    let slot = Slot { register: *register, at: dims.iter().map(|v| Linear::var(*v)).collect() };
                    let set = vec![Stmt::Assign(self.slot(&slot), self.value(value))];
                    let looped = |body: Vec<Stmt>, v: &VarId| {
                        vec![Stmt::For { var: Path::name(self.names.var(*v)), extent: self.extent(*v), body }]
                    };
                    out.extend(dims.iter().rev().fold(set, looped));
                }
            }
            Node::Update { place, how: Update::Reduce(ReduceOp::Sum), value } if self.is_result(place) => {
                out.push(self.either(place, value));
            }
            Node::Update { place, how, value } => out.push(self.update(place, *how, value)),
            Node::Fold { into, from, op } => {
                let (into, from) = (self.slot(into), self.slot(from));
                let fold = |f: Expr| Path::new(&[INSTRUCTIONS, "fold"]).call([from.clone(), f]);
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
            }
        }
    }

    /// A register and its first value.
    fn set(&self, register: RegisterId, value: Expr) -> Stmt {
        let names = vec![Path::name(self.names.register(register))];
        Stmt::Let { names, mutable: self.changed.contains(&register), value }
    }

    /// A result that is added or stored, as the flag says.
    fn either(&self, place: &Place, value: &Value) -> Stmt {
        let lanes = value.lanes(&self.n.registers);
        let (value, flag) = (self.value(value), Expr::name(FLAG));
        Stmt::Expr(match place {
            Place::Element(a) => {
                let place = self.access(a, true).unary(rust::Unary::RefMut);
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

    /// What a loop over the vectors of a tile does, where each of its statements is one call for all of them.
    fn vectors(&self, var: VarId, body: &[Node]) -> Option<Vec<Stmt>> {
        self.tile.filter(|t| t.vector == var)?;
        let mut out = Vec::new();
        let mut written = BTreeSet::new();
        for node in body {
            let Node::Update { place, how, value } = node else { return None };
            match (place, how) {
                (Place::Lanes(a, range), _) => {
                    let Value::Register(slot) = value else { return None };
                    let width = self.n.registers[slot.register].lanes?;
                    if range.len() != width || !written.insert(a.tensor) {
                        return None;
                    }
                    let (row, at) = self.vectors_of(a, var, width, true)?;
                    let mut all = vec![self.vectors_in(slot, var)?, row, at];
                    let function = match how {
                        Update::Set => "write_all",
                        Update::Reduce(ReduceOp::Sum) if self.is_result(place) => {
                            all.push(Expr::name(FLAG));
                            "update_all"
                        }
                        Update::Reduce(ReduceOp::Sum) => "add_all",
                        Update::Reduce(_) => return None,
                    };
                    out.push(Stmt::Expr(isa(function).call(all)));
                }
                (Place::Register(slot), Update::Reduce(ReduceOp::Sum)) => {
                    let sum = self.vectors_in(slot, var)?;
                    // As sums of single vectors: the last term first.
                    let mut terms = Vec::new();
                    products(value, &mut terms)?;
                    for (a, b) in terms {
                        let (a, b) = match (self.lone(a, var), self.lone(b, var)) {
                            (Some(one), None) => (one, b),
                            (None, Some(one)) => (one, a),
                            _ => return None,
                        };
                        let Value::Register(each) = b else { return None };
                        let value = isa("mul_add_all").call([a, self.vectors_in(each, var)?, sum.clone()]);
                        out.push(Stmt::Assign(sum.clone(), value));
                    }
                }
                _ => return None,
            }
        }
        Some(out)
    }

    /// A value that is the same for every vector.
    fn lone(&self, v: &Value, var: VarId) -> Option<Expr> {
        let mut moves = false;
        v.vars(&mut |v| moves |= v == var);
        (!moves).then(|| self.value(v))
    }

    /// The registers of all vectors.
    fn vectors_in(&self, slot: &Slot, var: VarId) -> Option<Expr> {
        let (last, others) = slot.at.split_last()?;
        let fixed = others.iter().all(|l| l.terms.iter().all(|(v, _)| *v != var));
        let all = Slot { register: slot.register, at: others.to_vec() };
        (fixed && *last == Linear::var(var)).then(|| self.slot(&all))
    }

    /// The row of vectors that follow each other, and where the first starts.
    fn vectors_of(&self, a: &Access, var: VarId, width: usize, mutable: bool) -> Option<(Expr, Expr)> {
        let coefficient = |l: &Linear| l.terms.iter().find(|(v, _)| *v == var).map_or(0, |(_, c)| *c);
        let (last, others) = a.positions.split_last()?;
        let fixed = others.iter().all(|p| coefficient(&p.numerator) == 0);
        if !fixed || last.divisor != 1 || last.guarded || coefficient(&last.numerator) != width as i64 {
            return None;
        }
        let mut first = a.clone();
        first.positions.last_mut()?.numerator.terms.retain(|(v, _)| *v != var);
        Some(self.row(&first, mutable))
    }

    /// Square blocks turned, one or two beside each other.
    fn transpose(&self, t: &Turned, out: &mut Vec<Stmt>) {
        let [rows, columns] = [t.row, t.column].map(|v| self.n.vars[v].extent);
        let ty = scalar(self.k.dtype);
        let name = |v: VarId| self.names.var(v);
        let blocks = &BLOCKS[..rows / columns];
        if let (Some((from, at, column)), Some((to, first, side))) =
            (self.plane(&t.from, t.row, false), self.plane(&t.to, t.column, true))
        {
            let block = |n: usize| {
                let at = match n * columns {
                    0 => at.clone(),
                    behind => at.clone().binary(rust::Binary::Add, Expr::whole(behind)),
                };
                Path::new(&[INSTRUCTIONS, "block"]).call([from.clone(), at, column.clone()])
            };
            let constants: [&dyn std::fmt::Display; 4] = [&ty, &columns, &rows, &"_"];
            let call = match rows == columns {
                true => isa("transpose_to").of(&[&ty, &columns, &"_"]).call([block(0), to, first, side]),
                false => isa("transpose_both_to").of(&constants).call([block(0), block(1), to, first, side]),
            };
            out.push(Stmt::Expr(call));
            return;
        }
        // No closure: one that is inlined late has bounds to check.
        let row_of = |at: Linear| {
            let moved = |l: &Linear| l.substitute(&|v| if v == t.row { at.clone() } else { Linear::var(v) });
            let positions = t.from.positions.iter().map(|p| Position { numerator: moved(&p.numerator), ..p.clone() });
            let (row, at) = self.row(&Access { positions: positions.collect(), ..t.from.clone() }, false);
            Path::new(&[INSTRUCTIONS, "row"]).call([row, at])
        };
        for (n, block) in blocks.iter().enumerate() {
            // Its rows are those behind the blocks before it.
            let first = (n * columns) as i64;
            out.push(let_mut(ROWS, row_of(Linear::constant(first)).repeat(Expr::whole(columns))));
            let set =
                Stmt::Assign(Expr::name(ROWS).at(Expr::name(name(t.row))), row_of(Linear::new([(t.row, 1)], first)));
            out.push(Stmt::For { var: Path::name(name(t.row)), extent: Expr::whole(columns), body: vec![set] });
            let value = isa("transpose").of(&[&ty, &columns]).call([Expr::name(ROWS)]);
            out.push(Stmt::Let { names: vec![Path::name(block)], mutable: false, value });
        }
        let column = || Expr::name(name(t.column));
        let mut lanes = blocks.iter().map(|block| Expr::name(block).at(column()));
        let lanes = match (lanes.next(), lanes.next()) {
            (Some(turned), Some(beside)) => isa("join").of(&[&ty, &columns, &rows]).call([turned, beside]),
            (turned, _) => turned.expect("there is a block"),
        };
        let (row, at) = self.row(&t.to, true);
        let body = vec![Stmt::Expr(isa("write").call([lanes, row, at]))];
        out.push(Stmt::For { var: Path::name(name(t.column)), extent: Expr::whole(columns), body });
    }

    /// The rows that a variable counts, the first of them and where in it an access starts; `None` where the variable
    /// counts something else.
    fn plane(&self, a: &Access, var: VarId, mutable: bool) -> Option<(Expr, Expr, Expr)> {
        let coefficient = |p: &Position| p.numerator.terms.iter().find(|(v, _)| *v == var).map_or(0, |(_, c)| *c);
        let [outer @ .., counted, last] = a.positions.as_slice() else { return None };
        let plain = |p: &Position| p.divisor == 1 && !p.guarded;
        let fixed = outer.iter().chain([last]).all(|p| coefficient(p) == 0);
        if !(fixed && coefficient(counted) == 1 && plain(counted) && plain(last) && a.joined.last() == Some(&1)) {
            return None;
        }
        let mut first = a.clone();
        first.positions.pop();
        first.joined.pop();
        first.positions.last_mut()?.numerator.terms.retain(|(v, _)| *v != var);
        let (rows, at) = self.steps(&first, mutable);
        let rows = match rows {
            // A slice or a reference already.
            rows @ (Expr::Method(..) | Expr::Path(_)) => rows,
            array => array.unary(if mutable { rust::Unary::RefMut } else { rust::Unary::Ref }),
        };
        Some((rows, at?, self.linear(&last.numerator, false)))
    }

    /// `place` with a value added: products are fused into the sum where the instruction set does that, term by term,
    /// the last term of the value first.
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
        let nearest = self.k.dtype.nearest(c);
        let c = if nearest.is_infinite() { nearest } else { c };
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
            None if self.local(a.tensor) && self.tile.is_none() => row,
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

    /// A linear map as `usize`: terms that add, then terms that take away, wrapping where only a test keeps it from
    /// going below zero.
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
        self.terms(l, true)
    }

    /// The same; of elements, vectors are as far apart as they have lanes.
    fn terms(&self, l: &Linear, elements: bool) -> (Vec<Expr>, Vec<Expr>) {
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for (v, c) in l.terms.iter().filter(|(v, _)| !self.zeros.contains(v)) {
            let name = Expr::name(self.names.var(*v));
            let lanes = self
                .tile
                .filter(|t| elements && self.n.vars[*v].counts == Some(Counts::Vectors) && *c == t.width as i64);
            let size = match lanes {
                Some(_) => name.binary(rust::Binary::Mul, Expr::name(self.names.size(Size::Lanes))),
                None if c.unsigned_abs() == 1 => name,
                None => name.binary(rust::Binary::Mul, size(*c)),
            };
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
            Value::Register(slot) => self.slot(slot),
            Value::Unary(Unary::Neg, a) => self.operand(a).unary(rust::Unary::Neg),
            Value::Unary(f, a) if f.branches() && self.tried == Tried::First => {
                let note = |x: Expr| Expr::name(TRIAL).method(Path::name(f.name()).of(&[&ISA]), [x]);
                // A trial is borrowed while its argument is computed: one that needs the trial too comes first.
                match a.any(&crate::nest::trial::calls_branch) {
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
            Value::Lane(slot, lane) => self.slot(slot).at(Expr::whole(*lane)),
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
        Path::new(&["_Lanes", "from_array"]).call([Expr::Array(all)])
    }

    /// A value of several lanes.
    fn lanes(&self, v: &Value) -> Expr {
        let ty = scalar(self.k.dtype);
        let function = |f: &Unary| Path::name(f.name()).of(&[&ISA]);
        match v {
            Value::Register(slot) => self.slot(slot),
            Value::Lanes(a, width, count) => {
                let (row, at) = self.row(a, false);
                match width == count {
                    true => isa("read").of(&[&ty, &self.width(*width)]).call([row, at]),
                    false => isa("read_part").of(&[&ty, &self.width(*width)]).call([row, at, Expr::whole(*count)]),
                }
            }
            Value::Splat(a, width) => isa("splat").of(&[&ty, &self.width(*width)]).call([self.value(a)]),
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
                Path::new(&["_Lanes", "choose"]).call([test, x, y, yes, no])
            }
            Value::Each(f, all) => self.of_scalars(all).method(function(f), []).method(Path::name("apart"), []),
            Value::Const(_) | Value::Load(_) | Value::Fused(..) | Value::Lane(..) => {
                unreachable!("scalars stand in splats")
            }
        }
    }

    /// Sums and products within others are bracketed as they were written, also where Rust would not ask for it: the
    /// order of operations is part of a kernel's contract, and is to be seen.
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

/// The factors of each term of a sum of products, the last term first; `None` if it is another sum.
fn products<'a>(v: &'a Value, out: &mut Vec<(&'a Value, &'a Value)>) -> Option<()> {
    match v {
        Value::Binary(Binary::Add, a, b) => products(b, out).and_then(|()| products(a, out)),
        Value::Binary(Binary::Mul, a, b) => {
            out.push((a, b));
            Some(())
        }
        _ => None,
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
