//! Syntax to index notation: takes a [`Spec`] and the syntax of its formulas, gives an [`Op`] with names resolved.
//!
//! Holds after it: see [`crate::index`]. Errors are collected; `None` only when some were found.

mod affine;
mod call;
mod declare;
mod program;
mod recurrence;
mod steps;
mod value;

use super::normal::hoist;
use super::*;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use crate::source::At;
use crate::spec::{Adjoint, Formula, Spec, misnamed};
use crate::syntax::{self, Assign, BinaryOp, ExprKind};
use std::ops::{Div, Mul, Neg};
use std::rc::Rc;

/// Functions as other languages call them.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("sigmoid", "logistic"),
    ("ln", "log"),
    ("arcsin", "asin"),
    ("arccos", "acos"),
    ("arctan", "atan"),
    ("arcsinh", "asinh"),
    ("arccosh", "acosh"),
    ("arctanh", "atanh"),
    ("fabs", "abs"),
    ("power", "pow"),
    ("maximum", "max"),
    ("minimum", "min"),
    ("select", "where"),
    ("if", "where"),
];

/// Statements beyond which an op is refused, those of the ops that it calls included. No op that is meant comes near,
/// and calls of calls of calls grow fast.
const MOST_STATEMENTS: usize = 4000;

/// Accesses in the formulas of an op beyond which it is refused: each has a derivative, which is compared with the
/// others'.
const MOST_ACCESSES: usize = 10_000;

/// Axes, and tensors with parameters, beyond which an op is refused.
const MOST_NAMES: [usize; 2] = [200, 2000];

/// The ops that a step may call.
pub trait Library {
    /// The op of a name, with both rules.
    fn op(&self, name: &str) -> Result<Rc<Op>, Missing>;
    /// Whether there is one of that name.
    fn has(&self, name: &str) -> bool;
    /// The names of all.
    fn names(&self) -> Vec<String>;
}

/// Why there is no op to call.
pub enum Missing {
    /// There is none of that name.
    Unknown,
    /// It has errors, which are told where it stands.
    Broken,
    /// It is being read: it calls itself, by way of these.
    Cycle(Vec<String>),
    /// It stands deeper than this among ops that call each other.
    Deep(usize),
}

/// Which formulas are being read: it decides what may be read and written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Forward,
    Adjoint,
    Tangent,
}

struct Resolver<'a> {
    library: &'a dyn Library,
    op: Op,
    out: &'a mut Diagnostics,
    section: Section,
    /// Locals that the current section may read: of the forward formula always, of a rule while in it.
    locals: BTreeMap<String, TensorId>,
    /// What happened to each tensor so far in this section.
    history: BTreeMap<TensorId, History>,
    /// Union-find over axes that meet in an index expression.
    ranks: Vec<usize>,
    used: Vec<TensorId>,
    /// Axes that stand in no tensor, only under `sizes:`.
    free_axes: std::ops::Range<usize>,
    /// Axes whose size is derived.
    derived: Vec<String>,
    /// Targets of the steps of this section, in order.
    targets: Vec<At<String>>,
    /// The axes of each of them, where its positions are plain indices.
    ahead: Vec<Option<Vec<AxisId>>>,
    /// Which of them are calls, and where.
    called: Vec<Option<Span>>,
    /// Which step is being read.
    current: usize,
    /// What steps of this section read before it is written.
    early: Vec<recurrence::Early>,
    /// Names whose step is in error: what follows from that is not said.
    failed: Vec<String>,
    /// Names that nothing has, each reported where it first stands.
    told: BTreeSet<(Code, String)>,
}

#[derive(Default)]
struct History {
    writes: Vec<Touch>,
    reads: Vec<Touch>,
}

/// An access of a tensor: where, and at which positions; none of a tensor as a whole.
struct Touch {
    span: Span,
    index: Vec<Affine>,
}

/// The index variables in scope while one statement is read.
#[derive(Default)]
struct Scope {
    vars: Vec<Var>,
    /// How many of them the left side brought.
    free: usize,
    /// Innermost last.
    names: Vec<(String, VarId)>,
    /// Indices without a binding, each reported once.
    unbound: Vec<String>,
}

/// More names than any op that is meant has are an error.
fn too_many(spec: &Spec, out: &mut Diagnostics) {
    let tensors = || spec.inputs.iter().chain(&spec.outputs);
    let mut axes = std::collections::BTreeSet::new();
    let axis = tensors().flat_map(|t| &t.axes).find(|a| axes.insert(a.as_str()) && axes.len() > MOST_NAMES[0]);
    let names = spec.params.iter().map(|(name, _)| name).chain(tensors().map(|t| &t.name));
    let name = names.skip(MOST_NAMES[1]).map(|name| name.span).next();
    for (place, what, most) in
        [(axis.map(|a| a.span), "axes", MOST_NAMES[0]), (name, "tensors and parameters", MOST_NAMES[1])]
    {
        let Some(place) = place else { continue };
        let message = format!("`{}` has too many {what}", spec.op.value);
        out.push(Diagnostic::error(Code::TooLarge, place, message, format!("from here on more than {most}")));
    }
}

/// Resolves a spec. Errors go to `out`.
pub fn resolve(spec: &Spec, library: &dyn Library, out: &mut Diagnostics) -> Option<Op> {
    let errors = out.errors();
    too_many(spec, out);
    if out.errors() > errors {
        return None;
    }
    let op = Op::new(&spec.op.value, spec.doc.as_ref().map_or("", |d| &d.value), spec.source);
    let mut r = Resolver {
        library,
        op,
        out,
        section: Section::Forward,
        locals: BTreeMap::new(),
        history: BTreeMap::new(),
        ranks: Vec::new(),
        used: Vec::new(),
        free_axes: 0..0,
        derived: spec.sizes.iter().map(|(axis, _)| axis.value.clone()).collect(),
        targets: Vec::new(),
        ahead: Vec::new(),
        called: Vec::new(),
        current: 0,
        early: Vec::new(),
        failed: Vec::new(),
        told: BTreeSet::new(),
    };
    r.declare(spec);
    let (forward, written) = r.section(Section::Forward, &spec.forward);
    r.op.forward = forward;
    r.op.written.forward = written;
    let mut accesses = 0;
    r.op.forward.iter().for_each(|s| s.value.reads(&mut |_, _| accesses += 1));
    if accesses > MOST_ACCESSES {
        let message = format!("`{}` is too large: its formulas read tensors {accesses} times", r.op.name);
        r.out.push(Diagnostic::error(Code::TooLarge, spec.op.span, message, format!("more than {MOST_ACCESSES}")));
        return None;
    }
    r.check_forward_complete(spec);
    r.check_free_axes();
    if let Adjoint::Declared(formulas) = &spec.adjoint {
        let (stmts, written) = r.section(Section::Adjoint, formulas);
        r.op.adjoint = Rule { stmts, declared: true };
        r.op.written.adjoint = written;
    }
    if let Some(formulas) = &spec.tangent {
        let (stmts, written) = r.section(Section::Tangent, formulas);
        r.op.tangent = Rule { stmts, declared: true };
        r.op.written.tangent = written;
    }
    if let Some(program) = &spec.program {
        r.op.program = Some(r.program(program));
    }
    for a in 0..r.op.axes.len() {
        r.op.axes[a].rank_class = r.find_rank(a);
    }
    let Resolver { op, out, .. } = r;
    (out.errors() == errors).then_some(op)
}

fn find(ranks: &mut [usize], mut a: usize) -> usize {
    while ranks[a] != a {
        ranks[a] = ranks[ranks[a]];
        a = ranks[a];
    }
    a
}

fn plural<'a>(n: usize, one: &'a str, many: &'a str) -> &'a str {
    if n == 1 { one } else { many }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}
