//! The loops that kernels are tested against: takes ops in the index IR and the numbers of their instances, gives Rust
//! that runs the statements one by one as they stand there. It shares nothing with the way to the kernels but the IR
//! and the signatures: no plain IR, no schedule, no body.
//!
//! Holds for it: a statement is its loops, one index a dimension; a function is its statements in order. What a test
//! does with them stands in `harness/`, whose text goes into the generated file as it is.

use super::context::SplitContext;
use super::rust::{self, Expr as Value, Number, Path, Pattern, Stmt as Rust};
use super::{Compiled, place};
use crate::diagnostic::Diagnostics;
use crate::index::bind::{Binding, ParamValue};
use crate::index::{
    self, Affine, Atom, AxisId, Compare, Cond, Entry, Expr, Op, Poly, ReduceOp, Role, Stmt, TensorId, VarId,
};
use crate::index::{ParamId, scan};
use crate::nest::plan::Plan;
use crate::plain::{Function, Kind};
use crate::source::Sources;
use serde::Serialize;

/// What compares, for the generated file: the files of `harness` as one module, without the lines that join them here.
pub(super) fn harness_text() -> String {
    let (loops, _) =
        include_str!("harness/mod.rs").split_once("\n// Behind it in the generated file").expect("a joint");
    let (_, check) = include_str!("harness/check.rs").split_once("use super::*;\n").expect("a joint");
    format!("{loops}{check}")
}

/// What `reference.rs.tera` sees of a kernel.
#[derive(Serialize)]
pub(super) struct ReferenceContext {
    name: String,
    dtype: &'static str,
    place: String,
    tensors: Vec<TensorContext>,
    functions: Vec<FunctionContext>,
    loops: Vec<LoopsContext>,
    kinks: Vec<String>,
    one_order: bool,
    dispatched: bool,
}

#[derive(Serialize)]
struct TensorContext {
    name: String,
    role: String,
    shape: Vec<usize>,
    order: Vec<usize>,
    domain: String,
}

#[derive(Clone, Serialize)]
struct FunctionContext {
    name: String,
    reads: Vec<usize>,
    writes: Vec<usize>,
    adds: bool,
    nan: bool,
    loops: usize,
    workspace: bool,
    /// It can be given instructions.
    with: bool,
    /// It runs in parts, on a pool.
    split: bool,
}

#[derive(Serialize)]
struct LoopsContext {
    given: Vec<usize>,
    work: u64,
    text: String,
}

/// The context of a kernel. `dispatched`: its functions choose their instructions when they are called.
pub(super) fn context(
    sources: &Sources,
    c: &Compiled,
    split: Option<&SplitContext>,
    dispatched: bool,
) -> ReferenceContext {
    let (op, kernel) = (&c.certified.op, &c.kernel);
    let binding = crate::plain::bind(op, c.instance, &mut Diagnostics::default()).expect("the kernel was made of it");
    let w = Writer { op, binding: &binding };
    let tensors = (0..op.tensors.len()).map(|t| tensor(op, c, &binding, TensorId(t))).collect();
    let mut loops: Vec<(Option<Entry>, LoopsContext)> = Vec::new();
    let mut functions = Vec::new();
    let mut number_of = |(entry, given, stmts): (Option<Entry>, Vec<usize>, Vec<Stmt>)| {
        loops.iter().position(|(e, _)| *e == entry).unwrap_or_else(|| {
            let units = scan::units(&stmts).into_iter().map(|unit| &stmts[unit]);
            let mut stmts = Vec::new();
            let work = units.map(|unit| w.unit(unit, &mut stmts)).fold(0u64, u64::saturating_add);
            loops.push((entry, LoopsContext { given, work, text: rust::lines(&stmts, 4) }));
            loops.len() - 1
        })
    };
    // The way back of an op is given the value: that comes first, also where no function is asked for it.
    if op.program.is_none() {
        number_of(forwards(op));
    }
    let unrolled = |n: usize| c.nests[n].iter().flat_map(|n| &n.notes).any(|note| note.contains("unrolled graph"));
    for (n, f) in kernel.functions.iter().enumerate().filter(|(_, f)| f.kind != Kind::Stage) {
        let number = number_of(statements(op, f));
        functions.push(FunctionContext {
            name: f.name.clone(),
            reads: f.reads.iter().map(|t| t.0).collect(),
            writes: f.writes.iter().map(|t| t.0).collect(),
            adds: matches!(f.kind, Kind::Vjp { store: false, .. }),
            nan: !unrolled(n) && !c.plans[n].stages().iter().any(|n| unrolled(*n)),
            loops: number,
            workspace: c.plans[n].workspace().is_some(),
            with: !matches!(c.plans[n], Plan::Stages { .. }),
            split: false,
        });
    }
    // Those in parts compute the same, so the same loops say what.
    for f in split.iter().flat_map(|s| &s.functions) {
        let whole = functions.iter().find(|g| g.name == f.name).expect("the kernel has it whole");
        let (name, workspace) = (format!("split::{}", f.name), f.own);
        functions.push(FunctionContext { name, workspace, with: false, split: true, ..whole.clone() });
    }
    ReferenceContext {
        name: kernel.name.clone(),
        dtype: super::body::scalar(kernel.dtype),
        place: place(sources, c.instance.name.span),
        tensors,
        functions,
        loops: loops.into_iter().map(|(_, l)| l).collect(),
        kinks: kinks(op, &binding),
        one_order: c.instance.schedule.is_empty(),
        dispatched,
    }
}

/// The value and its tangent of an op that is no program.
fn forwards(op: &Op) -> (Option<Entry>, Vec<usize>, Vec<Stmt>) {
    (Some(Entry::Jvp), Vec::new(), op.forward.iter().chain(&op.tangent.stmts).cloned().collect())
}

/// The statements that say what a function computes, what tells those of one function from another's, and the tensors
/// that the caller gives besides inputs and seeds.
fn statements(op: &Op, f: &Function) -> (Option<Entry>, Vec<usize>, Vec<Stmt>) {
    let entry = match f.kind {
        // The value with its tangent, also for the value alone.
        Kind::Forward | Kind::Jvp => Entry::Jvp,
        Kind::Vjp { .. } => Entry::Vjp,
        Kind::ValueAndGrad => Entry::ValueAndGrad,
        Kind::Hvp => Entry::Hvp,
        Kind::ValueGradAndHvp => Entry::ValueGradAndHvp,
        Kind::Jacobian => Entry::Jacobian,
        Kind::Hessian | Kind::Stage => Entry::Hessian,
    };
    if let Some(program) = &op.program {
        let has = |e: Entry| program.functions.iter().any(|p| p.entry == e);
        let entry = if f.kind == Kind::Forward && !has(Entry::Jvp) { Entry::Forward } else { entry };
        // Of the two ways to a Jacobian the one that writes what the other writes will do.
        let found = program.functions.iter().find(|p| p.entry == entry).expect("the entry point was made of it");
        return (Some(entry), Vec::new(), found.stmts.clone());
    }
    if entry == Entry::Jvp {
        return forwards(op);
    }
    // Locals are computed again, outputs are arguments.
    let local = |s: &&Stmt| op.tensor(s.target).role == Role::Local;
    let given = op.outputs().iter().map(|t| t.0).collect();
    (Some(entry), given, op.forward.iter().filter(local).chain(&op.adjoint.stmts).cloned().collect())
}

/// The input or output whose type a tensor has.
fn base(op: &Op, t: TensorId) -> TensorId {
    match op.tensor(t).role {
        Role::Tangent(of) | Role::Cotangent(of) => base(op, of),
        _ => t,
    }
}

fn tensor(op: &Op, c: &Compiled, binding: &Binding, t: TensorId) -> TensorContext {
    let own = op.tensor(t);
    let role = match own.role {
        Role::Input => "Input".to_string(),
        Role::Output => "Output".to_string(),
        Role::Tangent(of) if is_interface(op, of) => format!("Dot({})", of.0),
        Role::Cotangent(of) if is_interface(op, of) => format!("Bar({})", of.0),
        _ => "Other".to_string(),
    };
    let end = |v: f64, closed: bool| {
        let v = if v.is_finite() {
            format!("{v:?}")
        } else if v > 0.0 {
            "f64::INFINITY".into()
        } else {
            "f64::NEG_INFINITY".into()
        };
        format!("({v}, {closed})")
    };
    let domain = own
        .domain
        .map_or([(f64::NEG_INFINITY, false), (f64::INFINITY, false)], |d| [(d.lo, d.lo_closed), (d.hi, d.hi_closed)]);
    TensorContext {
        name: own.name.clone(),
        role,
        shape: binding.shape(op, t),
        order: order(op, c, binding, t),
        domain: domain.map(|(v, closed)| end(v, closed)).join(", "),
    }
}

fn is_interface(op: &Op, t: TensorId) -> bool {
    matches!(op.tensor(t).role, Role::Input | Role::Output)
}

/// The dimensions of the declaration in the order in which they are stored: that of the input or output that it belongs
/// to.
fn order(op: &Op, c: &Compiled, binding: &Binding, t: TensorId) -> Vec<usize> {
    let of = op.tensor(base(op, t));
    let dims: Vec<(&str, usize)> =
        of.axes.iter().flat_map(|a| (0..binding.rank(*a)).map(|d| (op.axis(*a).name.as_str(), d))).collect();
    let Some((_, stored)) = c.instance.layout.iter().find(|(name, _)| name.value == of.name) else {
        return (0..dims.len()).collect();
    };
    let mut order: Vec<usize> = Vec::new();
    for word in &stored.value {
        // An axis stands for all of its dimensions; one that the tensor has twice for the next of them.
        let (axis, dim) = match word.value.split_once('.') {
            Some((axis, dim)) => (axis, dim.parse::<usize>().ok()),
            None => (word.value.as_str(), None),
        };
        let twice = of.axes.iter().filter(|a| op.axis(**a).name == axis).count() > 1;
        let left =
            (0..dims.len()).filter(|n| !order.contains(n) && dims[*n].0 == axis && dim.is_none_or(|d| dims[*n].1 == d));
        let next: Vec<usize> = if twice || dim.is_some() { left.take(1).collect() } else { left.collect() };
        order.extend(next);
    }
    order
}

/// The numbers of the formulas: where a branch ends, most likely one of them is.
fn kinks(op: &Op, binding: &Binding) -> Vec<String> {
    let mut all: Vec<f64> = Vec::new();
    for s in op.forward.iter().chain(&op.adjoint.stmts).chain(&op.tangent.stmts) {
        s.value.visit(&mut |e| match e {
            Expr::Const(c) => all.push(*c),
            Expr::Param(p) => all.push(binding.real(*p)),
            _ => {}
        });
    }
    all.retain(|v| v.abs() < 1e3);
    all.sort_by(f64::total_cmp);
    all.dedup();
    all.truncate(16);
    all.into_iter().map(|v| format!("{v:?}")).collect()
}

/// Statements of the index IR to those of Rust.
struct Writer<'a> {
    op: &'a Op,
    binding: &'a Binding,
}

/// The names of a statement's indices: by variable and dimension.
type Slots = Vec<Vec<String>>;

impl Writer<'_> {
    /// A statement, or a recurrence; gives about how many operations it has.
    fn unit(&self, unit: &[Stmt], out: &mut Vec<Rust>) -> u64 {
        let Some(recurrence) = unit[0].scan else { return self.stmt(&unit[0], None, out) };
        let iterations = self.binding.count(unit[0].vars[recurrence.var.0].axis);
        let mut body = Vec::new();
        if recurrence.backwards {
            let value = integer(iterations as i64 - 1).binary(rust::Binary::Sub, Value::name("iteration"));
            body.push(set("iteration", false, value));
        }
        let work = unit.iter().map(|s| self.stmt(s, s.scan.map(|t| t.var.0), &mut body)).fold(0, u64::saturating_add);
        out.push(Rust::For {
            var: Path::name("iteration"),
            extent: Value::Number(Number::integer(iterations as u64, "i64")),
            body,
        });
        work.saturating_mul(iterations as u64)
    }

    /// `iteration`: the variable that stands still.
    fn stmt(&self, s: &Stmt, iteration: Option<usize>, out: &mut Vec<Rust>) -> u64 {
        out.push(Rust::Comment(index::print::stmt(self.op, s)));
        let mut slots: Slots = Vec::new();
        let mut count = 0;
        for (v, var) in s.vars.iter().enumerate() {
            let name =
                |d: usize| if iteration == Some(v) { "iteration".to_string() } else { format!("v{}", count + d) };
            let own: Vec<String> = (0..self.binding.rank(var.axis)).map(name).collect();
            count += own.len();
            slots.push(own);
        }
        let mut iterations = 1u64;
        // The loops over variables, outermost first, around a body.
        let mut around = |vars: std::ops::Range<usize>, mut body: Vec<Rust>| {
            for v in vars.filter(|v| iteration != Some(*v)).rev() {
                for (name, extent) in slots[v].iter().zip(&self.binding.extents[s.vars[v].axis.0]).rev() {
                    iterations = iterations.saturating_mul(*extent as u64);
                    let extent = Value::Number(Number::integer(*extent as u64, "i64"));
                    body = vec![Rust::For { var: Path::name(name), extent, body }];
                }
            }
            body
        };
        let value = self.expr(&s.value, &slots);
        let run = Value::name("r");
        let mut body = Vec::new();
        let total = match s.reduce {
            None => value,
            Some(r) => {
                let all = Value::name("all");
                body.push(set("all", true, reduction(r)));
                let term = match r {
                    ReduceOp::Sum => vec![Rust::Expr(method(all.clone(), "take", [value]))],
                    ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min => vec![
                        Rust::Expr(method(run.clone(), "begin", [])),
                        set("term", false, value),
                        Rust::Expr(method(all.clone(), "take", [run.clone(), Value::name("term")])),
                    ],
                };
                body.extend(around(s.free..s.vars.len(), term));
                method(all, "total", [])
            }
        };
        body.push(set("total", false, total));
        let at = self.positions(s.target, &s.index, &slots);
        let how = if s.accumulate { "add" } else { "set" };
        body.push(Rust::Expr(method(run, how, [Value::whole(s.target.0), at, Value::name("total")])));
        out.extend(around(0..s.free, body));
        let mut nodes = 1u64;
        s.value.visit(&mut |_| nodes += 1);
        iterations.saturating_mul(nodes)
    }

    fn expr(&self, e: &Expr, slots: &Slots) -> Value {
        let of = |e: &Expr| self.expr(e, slots);
        match e {
            Expr::Const(c) => number(*c),
            Expr::Param(p) => number(self.binding.real(*p)),
            Expr::Extent(a) => number(self.binding.count(*a) as f64),
            Expr::Read(t, index) => {
                method(Value::name("r"), "at", [Value::whole(t.0), self.positions(*t, index, slots)])
            }
            Expr::Unary(f, a) => method(of(a), f.name(), []),
            Expr::Binary(f, a, b) => method(of(a), f.name(), [of(b)]),
            Expr::Powf(a, n) => method(of(a), "powf", [real(*n)]),
            Expr::Where(c, a, b) => method(self.cond(c, slots), "choose", [a, b].map(|e| later(of(e)))),
            Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        }
    }

    fn cond(&self, c: &Cond, slots: &Slots) -> Value {
        let of = |c: &Cond| self.cond(c, slots);
        match c {
            Cond::Index(op, a, b) => {
                // Of a group: in every dimension, `!=` in some.
                let rank = a.vars().chain(b.vars()).next().map_or(1, |v| slots[v.0].len());
                let side = |d| self.numerator(a, d, slots).binary((*op).into(), self.numerator(b, d, slots));
                let differ = *op == Compare::Ne;
                let join = if differ { rust::Binary::Or } else { rust::Binary::And };
                let all = Value::joined(join, (0..rank).map(side)).unwrap_or(Value::Bool(!differ));
                Path::new(&["Truth", "of"]).call([all])
            }
            Cond::Value(op, a, b) => method(self.expr(a, slots), word(*op), [self.expr(b, slots)]),
            Cond::Inside(t, index) => {
                method(Value::name("r"), "inside", [Value::whole(t.0), self.positions(*t, index, slots)])
            }
            Cond::And(a, b) => method(of(a), "and", [later(of(b))]),
            Cond::Or(a, b) => method(of(a), "or", [later(of(b))]),
            Cond::Not(a) => method(of(a), "not", []),
        }
    }

    /// An array: one position for each dimension of the tensor as it is declared.
    fn positions(&self, t: TensorId, index: &[Affine], slots: &Slots) -> Value {
        let mut all = Vec::new();
        for (a, axis) in index.iter().zip(&self.op.tensor(t).axes) {
            for d in 0..self.binding.rank(*axis) {
                let numerator = self.numerator(a, d, slots);
                let divisor = self.poly(&a.divisor, d);
                let exactly = Path::name("exactly");
                all.push(if divisor == 1 { numerator } else { exactly.call([numerator, integer(divisor)]) });
            }
        }
        Value::Array(all)
    }

    fn numerator(&self, a: &Affine, dim: usize, slots: &Slots) -> Value {
        let term = |(v, c): &(VarId, Poly)| {
            let (c, name) = (self.poly(c, dim), Value::name(&slots[v.0][dim]));
            if c == 1 { name } else { integer(c).binary(rust::Binary::Mul, name) }
        };
        let constant = self.poly(&a.constant, dim);
        let rest = (constant != 0 || a.terms.is_empty()).then(|| integer(constant));
        Value::joined(rust::Binary::Add, a.terms.iter().map(term).chain(rest)).expect("it has a term or a constant")
    }

    /// A size or parameter in one dimension.
    fn poly(&self, p: &Poly, dim: usize) -> i64 {
        let of = |atom: &Atom| match *atom {
            Atom::Axis(AxisId(a)) => self.binding.extents[a][dim] as i64,
            Atom::Param(ParamId(p)) => match &self.binding.params[p] {
                ParamValue::Ints(all) => all[dim],
                ParamValue::Int(n) => *n,
                ParamValue::Real(_) => unreachable!("real parameters stand in no index"),
            },
        };
        p.0.iter().map(|(monomial, c)| c * monomial.iter().map(of).product::<i64>()).sum()
    }
}

fn set(name: &str, mutable: bool, value: Value) -> Rust {
    Rust::Let { pattern: Pattern::name(name), mutable, value }
}

fn method<const N: usize>(of: Value, name: &str, arguments: [Value; N]) -> Value {
    of.method(Path::name(name), arguments)
}

/// A closure: it is run where its value is needed.
fn later(value: Value) -> Value {
    Value::closure(&[], value)
}

fn signed(negative: bool, number: Number) -> Value {
    let number = Value::Number(number);
    if negative { number.unary(rust::Unary::Neg) } else { number }
}

fn integer(n: i64) -> Value {
    signed(n < 0, Number::integer(n.unsigned_abs(), "i64"))
}

fn real(v: f64) -> Value {
    signed(v.is_sign_negative(), Number::real(v, "f64"))
}

fn number(v: f64) -> Value {
    let near = |name: &str, v: Value| Path::new(&["Near", name]).call([v]);
    let infinity = |name: &str| Value::Path(Path::new(&["f64", name]));
    match v {
        f64::INFINITY => near("exact", infinity("INFINITY")),
        f64::NEG_INFINITY => near("exact", infinity("NEG_INFINITY")),
        v => near("number", real(v)),
    }
}

fn reduction(r: ReduceOp) -> Value {
    let path = |names: &[&str]| Value::Path(Path::new(names));
    let fold = |none: Value, f: &str| Path::new(&["Fold", "new"]).call([none, path(&["Near", f])]);
    match r {
        ReduceOp::Sum => Path::new(&["Sum", "new"]).call([]),
        ReduceOp::Prod => fold(real(1.0), "mul"),
        ReduceOp::Max => fold(path(&["f64", "NEG_INFINITY"]), "max"),
        ReduceOp::Min => fold(path(&["f64", "INFINITY"]), "min"),
    }
}

fn word(op: Compare) -> &'static str {
    match op {
        Compare::Lt => "lt",
        Compare::Le => "le",
        Compare::Gt => "gt",
        Compare::Ge => "ge",
        Compare::Eq => "eq",
        Compare::Ne => "ne",
    }
}
