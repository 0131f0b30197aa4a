//! The identifiers of one generated function: takes the names of tensors, loops and registers, gives Rust names that do not collide.

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::{Op, TensorId};
use crate::nest::Nest;
use crate::plain::Kernel;
use std::collections::{BTreeMap, BTreeSet};

/// What may not name a variable; the last five are used by the body's own text.
const RESERVED: &[&str] = &[
    "as", "break", "const", "continue", "crate", "else", "enum", "extern", "false", "fn", "for", "if", "impl", "in",
    "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self", "static", "struct", "super", "trait",
    "true", "type", "unsafe", "use", "where", "while", "async", "await", "dyn", "abstract", "become", "box", "do",
    "final", "macro", "override", "priv", "typeof", "unsized", "virtual", "yield", "try", "gen", "a", "b", "turned",
    "beside", "trial",
];

/// The names of one function.
pub struct Names {
    tensors: BTreeMap<TensorId, String>,
    vars: Vec<String>,
    registers: Vec<String>,
    flag: String,
}

impl Names {
    /// Arguments keep their names; the others give way to them.
    pub fn new(k: &Kernel, n: &Nest) -> Self {
        let mut taken: BTreeSet<String> = RESERVED.iter().map(|s| (*s).to_string()).collect();
        let arguments: BTreeSet<TensorId> = n.reads.iter().chain(&n.writes).copied().collect();
        taken.extend(arguments.iter().map(|t| k.tensor(*t).name.clone()));
        let mut fresh = |name: &str| {
            let mut free = name.to_string();
            while !taken.insert(free.clone()) {
                free.push('_');
            }
            free
        };
        let flag = fresh("adds");
        let mut tensors: BTreeMap<TensorId, String> =
            arguments.iter().map(|t| (*t, k.tensor(*t).name.clone())).collect();
        tensors.extend(n.locals.iter().map(|l| (l.tensor, fresh(&l.name))));
        let registers = n.registers.iter().map(|r| fresh(&r.name)).collect();
        // Loops beside each other may share a name; those inside each other have names of their own already.
        let apart = |name: &str| {
            let mut free = name.to_string();
            while taken.contains(&free) {
                free.push('_');
            }
            free
        };
        let vars = n.vars.iter().map(|v| apart(&v.name)).collect();
        Names { tensors, vars, registers, flag }
    }
    /// A flag of the function that says whether results are added to what is there, or stored. It depends on the arguments alone.
    pub fn flag(&self) -> &str {
        &self.flag
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

/// The type of a tensor: its name with a capital letter at each part.
pub fn alias(name: &str) -> String {
    name.split('_').filter(|part| !part.is_empty()).map(|part| part[..1].to_uppercase() + &part[1..]).collect()
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
        let name = alias(&op.tensor(t).name);
        if let Some(first) = types.insert(name.clone(), t) {
            clash(t, Some(first), format!("the type `{name}`"));
        }
    }
    for t in op.inputs() {
        for suffix in ["", "_store"] {
            let name = format!("vjp_{}{suffix}", op.tensor(t).name);
            if let Some(first) = functions.insert(name.clone(), Some(t)) {
                clash(t, first, format!("the function `{name}`"));
            }
        }
    }
}
