//! The identifiers of generated code: takes the names of tensors, loops and registers, gives Rust names that do not
//! collide.
//!
//! Holds after it: tensors that a caller hands on keep their names, and no other name of a function is one of theirs.
//! What the emitter's own text names begins with `_`, which no name of a spec does.

use super::elements::{self, Position};
use super::rust::Pattern;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::{Op, Role, TensorId};
use crate::nest::walk::{self, Part};
use crate::nest::{Access, Nest, Node, RegisterId, Tile, Value, VarId};
use crate::plain::Kernel;
use crate::words::is_keyword;
use std::collections::{BTreeMap, BTreeSet};

/// The variable of a speculative block.
pub const SPECULATION: &str = "_speculation";
/// The blocks of a transpose: the first rows, and the others.
pub const BLOCKS: [&str; 2] = ["_transposed", "_beside"];
/// The rows of a block that is transposed.
pub const ROWS: &str = "_rows";
/// What small functions and blocks within an expression name their values.
pub const ANY: [&str; 2] = ["_a", "_b"];
/// What is left of a workspace.
pub const REST: &str = "_rest";
/// A flag of a function: whether results are added to what is there, or stored.
pub const FLAG: &str = "_adds";

/// Names that Rust knows without being told, and `Self`: the type of a tensor has `_` behind such a name, so that
/// generated code and whoever imports the types still mean what these mean.
const PRELUDE: &[&str] = &[
    "AsMut",
    "AsRef",
    "AsyncFn",
    "AsyncFnMut",
    "AsyncFnOnce",
    "Box",
    "Clone",
    "Copy",
    "Debug",
    "Default",
    "DoubleEndedIterator",
    "Drop",
    "Eq",
    "Err",
    "ExactSizeIterator",
    "Extend",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "FromIterator",
    "Future",
    "Hash",
    "Into",
    "IntoFuture",
    "IntoIterator",
    "Iterator",
    "None",
    "Ok",
    "Option",
    "Ord",
    "PartialEq",
    "PartialOrd",
    "Result",
    "Self",
    "Send",
    "Sized",
    "Some",
    "String",
    "Sync",
    "ToOwned",
    "ToString",
    "TryFrom",
    "TryInto",
    "Unpin",
    "Vec",
];

/// The names of one function.
pub struct Names {
    tensors: BTreeMap<TensorId, String>,
    vars: Vec<String>,
    registers: Vec<String>,
    /// Of lanes that are read one by one: `f0_1` is the second of `f0`.
    lanes: BTreeMap<(RegisterId, usize), String>,
    /// Of elements: `x_0_2` is `x[0][2]`.
    elements: BTreeMap<TensorId, BTreeMap<Position, String>>,
    sizes: Vec<String>,
}

/// The constants of a tile's function.
#[derive(Clone, Copy)]
pub enum Size {
    Lanes,
    Vectors,
    /// Of the first or the second variable of the rows.
    Rows(usize),
    /// The row of a panel: of the first that it is given, and so on.
    Panel(usize),
}

/// A name that is not taken: with as many `_` before it as that needs.
fn free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut free = name.to_string();
    while taken(&free) || is_keyword(&free) {
        free.insert(0, '_');
    }
    free
}

impl Names {
    /// Arguments keep their names; the others give way to them.
    pub fn new(k: &Kernel, n: &Nest) -> Self {
        Names::of(k, n, &|t| k.tensor(t).name.clone(), &|what, _| what.to_string())
    }

    /// Names that say nothing of the spec: functions that do the same with other tensors have the same text.
    pub fn anonymous(k: &Kernel, n: &Nest) -> Self {
        let argument = |t: TensorId| n.reads.iter().chain(&n.writes).position(|a| *a == t).expect("an argument");
        Names::of(k, n, &|t| format!("argument{}", argument(t)), &|_, number| format!("name{number}"))
    }

    /// With names for the arguments, and for the locals and the variables: those of the nest, or their numbers.
    fn of(k: &Kernel, n: &Nest, argument: &dyn Fn(TensorId) -> String, inner: &dyn Fn(&str, usize) -> String) -> Self {
        let own = [SPECULATION, FLAG, ROWS].into_iter().chain(BLOCKS).chain(ANY);
        let mut taken: BTreeSet<String> = own.map(str::to_string).collect();
        let arguments: BTreeSet<TensorId> = n.reads.iter().chain(&n.writes).copied().collect();
        taken.extend(arguments.iter().map(|t| argument(*t)));
        let mut tensors: BTreeMap<TensorId, String> = arguments.iter().map(|t| (*t, argument(*t))).collect();
        for (number, l) in n.locals.iter().enumerate() {
            let name = free(&inner(&l.name, number), |name| taken.contains(name));
            taken.insert(name.clone());
            tensors.insert(l.tensor, name);
        }
        // Those of a tile are numbered within it, so that tiles that do the same have the same text.
        let mut registers: Vec<Option<String>> = vec![None; n.registers.len()];
        let mut of_tiles = BTreeSet::new();
        tiles(&n.body, &mut |t| {
            let mut own: BTreeSet<String> = taken.clone();
            for r in set(&t.body) {
                let base = &n.registers[r].name;
                let numbered = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}{n}") });
                let name = numbered.map(|name| free(&name, |n| taken.contains(n))).find(|name| !own.contains(name));
                let name = name.expect("one is free");
                own.insert(name.clone());
                registers[r] = Some(name);
            }
            of_tiles.extend(own);
        });
        taken.extend(of_tiles);
        let mut fresh = |name: &str| {
            let free = free(name, |name| taken.contains(name));
            taken.insert(free.clone());
            free
        };
        let named =
            |(r, name): (usize, Option<String>)| name.unwrap_or_else(|| fresh(&format!("{}{r}", n.registers[r].name)));
        let registers: Vec<String> = registers.into_iter().enumerate().map(named).collect();
        let mut fresh = |name: &str| {
            let free = free(name, |name| taken.contains(name));
            taken.insert(free.clone());
            free
        };
        let mut lanes = BTreeMap::new();
        walk::parts(&n.body, &mut |part| {
            if let Part::Value(Value::Lane(slot, lane)) = part {
                let name = || fresh(&format!("{}_{lane}", registers[slot.register]));
                lanes.entry((slot.register, *lane)).or_insert_with(name);
            }
        });
        let mut elements = BTreeMap::new();
        for (t, all) in elements::named(k, n) {
            let name = |at: Position| {
                let name = at.iter().fold(tensors[&t].clone(), |name, n| format!("{name}_{n}"));
                (at, fresh(&name))
            };
            elements.insert(t, all.into_iter().map(name).collect());
        }
        // Loops beside each other may share a name; those inside each other have names of their own already.
        let mut same: BTreeMap<&str, String> = BTreeMap::new();
        let mut vars = Vec::new();
        for v in &n.vars {
            let number = n.locals.len() + same.len();
            vars.push(same.entry(&v.name).or_insert_with(|| fresh(&inner(&v.name, number))).clone());
        }
        // The types of tensors have capital letters as well.
        let types: BTreeSet<String> = k.tensors.iter().map(|t| plain_alias(&t.name)).collect();
        let panels = n.locals.iter().filter(|l| l.is_panel(k)).count();
        let sizes = ["N", "V", "R", "S"].map(str::to_string).into_iter().chain((1..=panels).map(|n| format!("L{n}")));
        let sizes = sizes.map(|name| free(&name, |name| types.contains(name))).collect();
        Names { tensors, vars, registers, lanes, elements, sizes }
    }

    /// Names for the text of a tile that say nothing of the spec, nor of where the tile stands: tensors, variables and
    /// registers by number.
    pub fn of_tile(&self, t: &Tile, tensors: &[TensorId]) -> Self {
        let numbered = |n: usize, tensor: &TensorId| (*tensor, format!("tensor{n}"));
        let tensors = tensors.iter().enumerate().map(|(n, t)| numbered(n, t)).collect();
        // Where there is a tile there are loops.
        let (lanes, elements) = (BTreeMap::new(), BTreeMap::new());
        let (vars, registers, sizes) = (self.vars.clone(), self.registers.clone(), self.sizes.clone());
        let mut names = Names { tensors, vars, registers, lanes, elements, sizes };
        let params = t.params.iter().map(|(var, _)| *var);
        for (n, var) in params.chain(loops(&t.body)).enumerate() {
            names.vars[var] = format!("var{n}");
        }
        for (n, register) in set(&t.body).into_iter().enumerate() {
            names.registers[register] = format!("register{n}");
        }
        names
    }

    pub fn size(&self, size: Size) -> &str {
        match size {
            Size::Lanes => &self.sizes[0],
            Size::Vectors => &self.sizes[1],
            Size::Rows(n) => &self.sizes[2 + n],
            Size::Panel(n) => &self.sizes[4 + n],
        }
    }
    pub fn tensor(&self, t: TensorId) -> &str {
        &self.tensors[&t]
    }
    pub fn var(&self, v: usize) -> &str {
        &self.vars[v]
    }
    pub fn register(&self, r: usize) -> &str {
        &self.registers[r]
    }
    pub fn lane(&self, r: RegisterId, lane: usize) -> &str {
        &self.lanes[&(r, lane)]
    }
    /// The pattern that names the lanes of a register that are read.
    pub fn lanes(&self, r: RegisterId, lanes: usize) -> Pattern {
        let name = |lane| self.lanes.get(&(r, lane)).map_or(Pattern::Unnamed, |name| Pattern::name(name));
        Pattern::array((0..lanes).map(name).collect())
    }
    /// The name of an element, if it has one.
    pub fn element(&self, a: &Access) -> Option<&str> {
        let all = self.elements.get(&a.tensor)?;
        Some(&all[&elements::position(a).expect("each of its elements has a name")])
    }
    /// The pattern that names the elements of a tensor of a shape, if they have names.
    pub fn elements(&self, t: TensorId, shape: &[usize]) -> Option<Pattern> {
        let all = self.elements.get(&t)?;
        Some(elements::pattern(shape, &|at| all.get(at).map(|name| Pattern::name(name))))
    }
}

/// Every tile.
fn tiles<'a>(nodes: &'a [Node], f: &mut impl FnMut(&'a Tile)) {
    walk::parts(nodes, &mut |part| {
        if let Part::Node(Node::Tile(t)) = part {
            f(t);
        }
    });
}

/// The nodes within, those of tiles aside: these are functions of their own.
fn within(node: &Node) -> &[Node] {
    if let Node::Tile(_) = node { &[] } else { node.body() }
}

/// The variables of the loops, from outside to inside.
fn loops(nodes: &[Node]) -> Vec<VarId> {
    let own = |n: &Node| if let Node::Loop { var, .. } = n { Some(*var) } else { None };
    nodes.iter().flat_map(|n| own(n).into_iter().chain(loops(within(n)))).collect()
}

/// The registers that nodes set, each once, in order.
fn set(nodes: &[Node]) -> Vec<RegisterId> {
    nodes.iter().flat_map(|n| n.begins().into_iter().chain(set(within(n)))).collect()
}

/// A name for an argument that is no tensor: the one given, unless one of `others` has it.
pub fn argument<'a>(name: &str, others: impl IntoIterator<Item = &'a str>) -> String {
    let others: BTreeSet<&str> = others.into_iter().collect();
    free(name, |name| others.contains(name))
}

/// The type of a tensor: its name with a capital letter at each part. No dense derivative has that of another tensor.
pub fn alias(op: &Op, t: TensorId) -> String {
    let own = |t: TensorId| plain_alias(&op.tensor(t).name);
    let is_partial = |t: &TensorId| matches!(op.tensor(*t).role, Role::Partial(..));
    if !is_partial(&t) {
        return own(t);
    }
    let mut taken: BTreeSet<String> = op.inputs().into_iter().chain(op.outputs()).map(own).collect();
    let mut alias = String::new();
    for partial in (0..=t.0).map(TensorId).filter(is_partial) {
        alias = own(partial);
        while !taken.insert(alias.clone()) {
            alias.push('_');
        }
    }
    alias
}

fn plain_alias(name: &str) -> String {
    let parts = name.split('_').filter(|part| !part.is_empty());
    let mut alias: String = parts.map(|part| part[..1].to_uppercase() + &part[1..]).collect();
    if PRELUDE.contains(&alias.as_str()) {
        alias.push('_');
    }
    alias
}

/// Tensors whose types or functions would have the same name in a kernel's module are errors.
pub fn distinct(op: &Op, out: &mut Diagnostics) {
    let mut types: BTreeMap<String, TensorId> = BTreeMap::new();
    let mut functions: BTreeMap<String, Option<TensorId>> = BTreeMap::new();
    functions.extend(["vjp", "vjp_store", "vjp_with", "vjp_store_with"].map(|name| (name.to_string(), None)));
    let mut clash = |t: TensorId, first: Option<TensorId>, what: String| {
        let tensor = op.tensor(t);
        let message = format!("`{}` would make {what} a second time", tensor.name);
        let d = Diagnostic::error(Code::Duplicate, tensor.span, message, "choose another name");
        out.push(match first {
            Some(first) => d.label(op.tensor(first).span, "this makes it first"),
            None => d.note("every kernel has that function"),
        });
    };
    for t in op.inputs().into_iter().chain(op.outputs()) {
        let name = alias(op, t);
        if let Some(first) = types.insert(name.clone(), t) {
            clash(t, Some(first), format!("the type `{name}`"));
        }
    }
    // A program has no function for one input alone.
    for t in op.inputs().into_iter().filter(|_| op.program.is_none()) {
        for suffix in ["", "_store", "_with", "_store_with"] {
            let name = format!("vjp_{}{suffix}", op.tensor(t).name);
            if let Some(first) = functions.insert(name.clone(), Some(t)) {
                clash(t, first, format!("the function `{name}`"));
                // The others follow from it.
                break;
            }
        }
    }
}
