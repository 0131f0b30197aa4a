//! The identifiers of generated code: takes the names of tensors, loops and registers, gives Rust names that do not collide.
//!
//! Holds after it: tensors that a caller hands on keep their names, and no other name of a function is one of theirs. What the emitter's own text
//! names begins with `_`, which no name of a spec does.

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::{Op, Role, TensorId};
use crate::nest::Nest;
use crate::plain::Kernel;
use crate::spec::is_keyword;
use std::collections::{BTreeMap, BTreeSet};

/// The variable of a trial.
pub const TRIAL: &str = "_trial";
/// The blocks of a transpose: the first rows, and the others.
pub const BLOCKS: [&str; 2] = ["_turned", "_beside"];
/// What small functions and blocks within an expression name their values.
pub const ANY: [&str; 2] = ["_a", "_b"];
/// A flag of a function: whether results are added to what is there, or stored.
pub const FLAG: &str = "_adds";

/// Names that Rust knows without being told, and `Self`: the type of a tensor has `_` behind such a name, so that generated code and whoever imports
/// the types still mean what these mean.
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
        let own = [TRIAL, FLAG].into_iter().chain(BLOCKS).chain(ANY);
        let mut taken: BTreeSet<String> = own.map(str::to_string).collect();
        let arguments: BTreeSet<TensorId> = n.reads.iter().chain(&n.writes).copied().collect();
        taken.extend(arguments.iter().map(|t| k.tensor(*t).name.clone()));
        let mut fresh = |name: &str| {
            let free = free(name, |name| taken.contains(name));
            taken.insert(free.clone());
            free
        };
        let mut tensors: BTreeMap<TensorId, String> =
            arguments.iter().map(|t| (*t, k.tensor(*t).name.clone())).collect();
        tensors.extend(n.locals.iter().map(|l| (l.tensor, fresh(&l.name))));
        let registers = n.registers.iter().map(|r| fresh(&r.name)).collect();
        // Loops beside each other may share a name; those inside each other have names of their own already.
        let mut same: BTreeMap<&str, String> = BTreeMap::new();
        let vars = n.vars.iter().map(|v| same.entry(&v.name).or_insert_with(|| fresh(&v.name)).clone()).collect();
        Names { tensors, vars, registers }
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
    functions.extend(["vjp", "vjp_store"].map(|name| (name.to_string(), None)));
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
        for suffix in ["", "_store"] {
            let name = format!("vjp_{}{suffix}", op.tensor(t).name);
            if let Some(first) = functions.insert(name.clone(), Some(t)) {
                clash(t, first, format!("the function `{name}`"));
            }
        }
    }
}
