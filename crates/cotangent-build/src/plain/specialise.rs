//! Specialisation: takes an op and an instance, gives a [`Kernel`]: groups become dimensions, coefficients numbers,
//! layout storage order; each function has just the statements that its results need, as its passes leave them.

use super::instance::{bind, layout};
use super::number::Numbers;
use super::passes::{Draft, Item, Pass};
use super::written::Written;
use super::*;
use crate::derive;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::bind::Binding;
use crate::index::{self, Affine, Entry, Op, VarId, scan};
use crate::types::InstanceSpec;
use std::collections::{BTreeSet, HashSet};

/// A program's dense derivatives are made unasked by inputs, and of outputs, of at most so many elements.
const MOST_DENSE: usize = 64;

/// Second derivatives and dense ones are made unasked where they add at most so many lines, as `Written` estimates
/// them. Small programs keep theirs: the most in `programs/` are 2,400, the Hessian of a network of 37 weights; `hvp`
/// adds 700 to two dense layers, 1,600 to five, 2,000 to LeNet. To seventeen convolutions for keywords, no two of one
/// size, it adds 3,800, a quarter of all their text.
pub const MOST_LINES: u64 = 3000;

/// The most writes of a `=` that are tried one by one.
const MAX_TRIED: usize = 1 << 22;

/// Specialises one instance; errors go to `out`.
pub fn specialise(op: &Op, instance: &InstanceSpec, out: &mut Diagnostics) -> Option<Kernel> {
    specialise_until(op, instance, None, out)
}

/// Specialises one instance, its functions as they are after a pass: to be printed, no later stage takes them.
pub fn specialise_until(
    op: &Op,
    instance: &InstanceSpec,
    after: Option<&Pass>,
    out: &mut Diagnostics,
) -> Option<Kernel> {
    let binding = bind(op, instance, out)?;
    let tensors = layout(op, instance, &binding, out)?;
    let numbers = Numbers::default();
    let mut s = Specialiser { op, instance, binding: &binding, tensors: &tensors, numbers, after, out };
    let (functions, left_out) = s.functions()?;
    let functions = asked(functions, instance, out)?;
    // after this: they are those that the instance names
    let kernel = Kernel {
        op: op.name.clone(),
        name: instance.name.value.clone(),
        dtype: instance.dtype.unwrap_or_default(),
        extents: binding.extents.clone(),
        params: binding.params.clone(),
        tensors,
        functions,
        schedule: instance.schedule.iter().map(|(f, s)| (f.value.clone(), s.value.clone())).collect(),
        left_out,
    };
    Some(kernel)
}

/// The dense derivatives, and what is made for those alone who ask, that none of these instances of a program has: they
/// are neither derived nor certified.
pub fn never_made(op: &Op, instances: &[InstanceSpec]) -> Vec<Entry> {
    let Some(program) = op.program.as_ref().filter(|p| p.asked.is_none()) else { return Vec::new() };
    let has = |entry: Entry, instance: &InstanceSpec| match &instance.functions {
        Some(asked) => asked.value.iter().any(|name| name.value == entry.name()),
        None if entry.is_asked_for() => false,
        // What is wrong with its sizes is told when it is specialised.
        None => bind(op, instance, &mut Diagnostics::default())
            .is_some_and(|binding| elements(op, program, &binding) <= MOST_DENSE),
    };
    let never = |e: &Entry| !instances.is_empty() && !instances.iter().any(|i| has(*e, i));
    [Entry::ValueGradAndHvp, Entry::Jacobian, Entry::Hessian].into_iter().filter(never).collect()
}

/// The elements that come out of a program, or those that its derivatives are by, whichever are more.
fn elements(op: &Op, program: &index::Program, binding: &Binding) -> usize {
    let count = |ts: &[TensorId]| ts.iter().map(|t| binding.elements(op, *t)).fold(0, usize::saturating_add);
    count(&program.wrt).max(count(&op.outputs()))
}

/// The functions that an instance asks for.
fn asked(mut functions: Vec<Function>, instance: &InstanceSpec, out: &mut Diagnostics) -> Option<Vec<Function>> {
    let Some(asked) = &instance.functions else { return Some(functions) };
    let names: Vec<&str> = functions.iter().map(|f| f.name.as_str()).collect();
    let errors = out.errors();
    for name in asked.value.iter().filter(|name| !names.contains(&name.value.as_str())) {
        let message = format!("the op has no function `{}`", name.value.escape_debug());
        let d = Diagnostic::error(Code::UnknownName, name.span, message, "unknown");
        out.push(d.did_you_mean(&name.value, name.span, &names, "functions"));
    }
    for (n, name) in asked.value.iter().enumerate() {
        if let Some(first) = asked.value[..n].iter().find(|other| other.value == name.value) {
            let message = format!("`{}` is listed twice in `functions`", name.value.escape_debug());
            let d = Diagnostic::error(Code::Duplicate, name.span, message, "again here");
            out.push(d.label(first.span, "first here").help("leave one of them out"));
        }
    }
    if asked.value.is_empty() {
        let d = Diagnostic::error(Code::WrongType, asked.span, "an instance without functions", "none is named");
        out.push(d.help("leave `functions` out for every function"));
    }
    functions.retain(|f| asked.value.iter().any(|name| name.value == f.name));
    (out.errors() == errors).then_some(functions)
}

struct Specialiser<'a> {
    op: &'a Op,
    instance: &'a InstanceSpec,
    binding: &'a Binding,
    tensors: &'a [Tensor],
    numbers: Numbers,
    /// The last pass that runs, if it is not the last of all.
    after: Option<&'a Pass>,
    out: &'a mut Diagnostics,
}

impl Specialiser<'_> {
    /// The functions, and of a program those that nobody asks for.
    fn functions(&mut self) -> Option<(Vec<Function>, Vec<LeftOut>)> {
        let op = self.op;
        self.check_ranks()?;
        if let Some(program) = &op.program {
            return self.entries(program);
        }
        let inputs = op.inputs();
        let outputs = op.outputs();
        let bar = |t: TensorId| (0..op.tensors.len()).map(TensorId).find(|u| op.tensor(*u).role == Role::Cotangent(t));
        let dot = |t: TensorId| (0..op.tensors.len()).map(TensorId).find(|u| op.tensor(*u).role == Role::Tangent(t));
        let mut functions = Vec::new();
        functions.push(self.function("forward".into(), Kind::Forward, &op.forward, &outputs, true)?);
        let both: Vec<_> = op.forward.iter().chain(&op.tangent.stmts).cloned().collect();
        let results: Vec<_> = outputs.iter().copied().chain(outputs.iter().filter_map(|t| dot(*t))).collect();
        functions.push(self.function("jvp".into(), Kind::Jvp, &both, &results, true)?);
        // Inputs that some rule adds to; the others have no derivative.
        let moved: Vec<TensorId> = inputs
            .iter()
            .copied()
            .filter(|t| bar(*t).is_some_and(|b| op.adjoint.stmts.iter().any(|s| s.target == b)))
            .collect();
        if moved.is_empty() {
            return Some((functions, Vec::new()));
        }
        let bars: Vec<TensorId> = moved.iter().filter_map(|t| bar(*t)).collect();
        let each = moved.iter().zip(&bars).map(|(t, b)| (Some(*t), vec![*b]));
        for (input, wanted) in std::iter::once((None, bars.clone())).chain(each) {
            let mut stmts = derive::live(&op.adjoint.stmts, &wanted.iter().copied().collect());
            // Locals of the forward formula that the rule reads are computed again, from inputs and outputs.
            let local = |t: TensorId| op.tensor(t).role == Role::Local;
            let needed = stmts.iter().flat_map(index::Stmt::reads).filter(|t| local(*t)).collect();
            let mut again = derive::needed(&op.forward, &needed, &local);
            again.append(&mut stmts);
            let base = input.map_or("vjp".to_string(), |t| format!("vjp_{}", op.tensor(t).name));
            for store in [false, true] {
                let name = if store { format!("{base}_store") } else { base.clone() };
                functions.push(self.function(name, Kind::Vjp { input, store }, &again, &wanted, store)?);
            }
        }
        Some((functions, Vec::new()))
    }

    /// The entry points of a program, and those that nobody asks for and that are too much.
    fn entries(&mut self, program: &index::Program) -> Option<(Vec<Function>, Vec<LeftOut>)> {
        let elements = |ts: &[TensorId]| ts.iter().map(|t| self.tensors[t.0].elements()).sum::<usize>();
        let (by, of) = (elements(&program.wrt), elements(&self.op.outputs()));
        let named = |e: Entry| self.instance.functions.iter().flat_map(|f| &f.value).any(|name| name.value == e.name());
        // Whoever names functions gets those, and is told of no others.
        let unasked = program.asked.is_none() && self.instance.functions.is_none();
        let (mut functions, mut left_out) = (Vec::new(), Vec::new());
        let mut written = Written::default();
        for f in &program.functions {
            // Fewer go back from the outputs than forward from the inputs, or the other way round.
            if f.entry == Entry::Jacobian && f.reverse != (of < by) {
                continue;
            }
            let dense = matches!(f.entry, Entry::Jacobian | Entry::Hessian);
            let large = dense && by.max(of) > MOST_DENSE;
            if program.asked.is_none() && !named(f.entry) && (large || f.entry.is_asked_for()) {
                continue;
            }
            let mut made = f.stmts.iter().map(|s| s.target).chain(f.results.iter().copied());
            if let Some(t) = made.find(|t| self.binding.too_large(self.op, *t)) {
                let at = self.instance.name.span;
                let message = format!("`{}` of this program makes a tensor of more than 2^31 elements", f.entry.name());
                let d = Diagnostic::error(Code::BadSize, at, message, format!("`{}`", self.op.tensor(t).name));
                self.out.push(d.help("leave it out of `functions`, or name less in `wrt`"));
                return None;
            }
            let name = f.entry.name().to_string();
            let kind = match f.entry {
                Entry::Forward => Kind::Forward,
                Entry::Jvp => Kind::Jvp,
                Entry::Vjp => Kind::Vjp { input: None, store: false },
                Entry::ValueAndGrad => Kind::ValueAndGrad,
                Entry::Hvp => Kind::Hvp,
                Entry::ValueGradAndHvp => Kind::ValueGradAndHvp,
                Entry::Jacobian => Kind::Jacobian,
                Entry::Hessian => Kind::Hessian,
            };
            let function = self.function(name, kind, &f.stmts, &f.results, f.entry != Entry::Vjp)?;
            if unasked {
                let lines = written.lines(&function, self.tensors);
                if (dense || f.entry == Entry::Hvp) && lines > MOST_LINES {
                    left_out.push(LeftOut { name: f.entry.name(), why: TooMuch::Lines(lines, MOST_LINES) });
                    continue;
                }
                written.add(&function);
            }
            functions.push(function);
            if f.entry == Entry::Vjp {
                let kind = Kind::Vjp { input: None, store: true };
                functions.push(self.function("vjp_store".into(), kind, &f.stmts, &f.results, true)?);
            }
        }
        if unasked && by.max(of) > MOST_DENSE {
            let dense = [Entry::Jacobian, Entry::Hessian].into_iter().filter(|e| e.is_of(self.op));
            let why = TooMuch::Elements(by.max(of), MOST_DENSE);
            left_out.extend(dense.map(|e| LeftOut { name: e.name(), why }));
        }
        Some((functions, left_out))
    }

    /// A function of the statements that `results` need. `fresh`: the results start at zero, else they hold values to
    /// add to.
    fn function(
        &mut self,
        name: String,
        kind: Kind,
        stmts: &[index::Stmt],
        results: &[TensorId],
        fresh: bool,
    ) -> Option<Function> {
        let stmts = derive::live(stmts, &results.iter().copied().collect());
        let written: BTreeSet<TensorId> = stmts.iter().map(|s| s.target).collect();
        let read: BTreeSet<TensorId> = stmts.iter().flat_map(index::Stmt::reads).collect();
        let reads: Vec<TensorId> =
            read.iter().copied().filter(|t| !written.contains(t) && !results.contains(t)).collect();
        let locals: Vec<TensorId> = written.iter().copied().filter(|t| !results.contains(t)).collect();
        let (items, lowered) = self.items(&stmts)?;
        let (tensors, numbers, results) = (self.tensors, &mut self.numbers, results.to_vec());
        let mut draft = Draft { tensors, numbers, lowered, results, accumulated: !fresh, locals, items };
        draft.run(self.after);
        let results = draft.results.clone();
        let (steps, locals) = draft.finished();
        // Order of arguments: inputs, their tangents, outputs, cotangents.
        let mut reads = reads;
        reads.sort_by_key(|t| match self.op.tensor(*t).role {
            Role::Input => (0, t.0),
            Role::Tangent(of) => (1, of.0),
            Role::Output => (2, t.0),
            Role::Cotangent(of) => (3, of.0),
            Role::Local | Role::RuleLocal | Role::Partial(..) => (4, t.0),
        });
        let accumulated = if fresh { Vec::new() } else { results.clone() };
        Some(Function { name, kind, reads, writes: results, accumulated, locals, steps })
    }

    /// Plain statements one by one, and recurrences whole; and when each statement was lowered.
    fn items(&mut self, stmts: &[index::Stmt]) -> Option<(Vec<Item>, Vec<usize>)> {
        // Where a function has what a recurrence makes as an argument, less of it is a cycle.
        let mut next = self.op.scans;
        let mut arranged = Vec::new();
        for unit in scan::units(stmts) {
            match stmts[unit.start].scan {
                None => arranged.extend_from_slice(&stmts[unit]),
                Some(_) => scan::arrange(self.op, &mut next, stmts[unit].to_vec(), &mut arranged)
                    .unwrap_or_else(|e| panic!("a part of a recurrence is none: {e:?}")),
            }
        }
        let (mut items, mut lowered) = (Vec::new(), Vec::new());
        for unit in scan::units(&arranged) {
            let unit = &arranged[unit];
            let mut body = Vec::new();
            for s in unit {
                body.push(self.stmt(s)?);
                lowered.push(self.numbers.lowered());
            }
            let Some(recurrence) = unit[0].scan else {
                items.extend(body.into_iter().map(|s| Item::Stmts(vec![s])));
                continue;
            };
            let var = &unit[0].vars[recurrence.var.0];
            let iterations = self.binding.count(var.axis);
            let part = |(s, stmt)| Member { iteration: (iterations > 1).then(|| self.iteration(s)), stmt };
            let body = unit.iter().zip(body).map(part).collect();
            items.push(Item::Scan { name: var.name.clone(), iterations, backwards: recurrence.backwards, body });
        }
        Some((items, lowered))
    }

    /// The plain variable that is the coordinate of a recurrence of more than one iteration.
    fn iteration(&self, s: &index::Stmt) -> usize {
        let before = s.scan.map_or(0, |t| t.var.0);
        let loops = |v: &index::Var| self.binding.extents[v.axis.0].iter().filter(|n| **n > 1).count();
        s.vars[..before].iter().map(loops).sum()
    }

    fn stmt(&mut self, s: &index::Stmt) -> Option<Stmt> {
        let mut vars = Vec::new();
        // Each dimension of each variable: its plain variable, or nothing where there is just the coordinate 0.
        let mut slots: Vec<Vec<Option<usize>>> = Vec::new();
        let mut free = 0;
        for (n, v) in s.vars.iter().enumerate() {
            if n == s.free {
                free = vars.len();
            }
            let extents = &self.binding.extents[v.axis.0];
            let mut own = Vec::new();
            for (d, extent) in extents.iter().enumerate() {
                own.push((*extent > 1).then(|| {
                    let name = if extents.len() == 1 { v.name.clone() } else { format!("{}{d}", v.name) };
                    let name = (0..)
                        .map(|k| if k == 0 { name.clone() } else { format!("{name}_{k}") })
                        .find(|n| !vars.iter().any(|w: &Var| w.name == *n));
                    vars.push(Var { name: name.expect("numbers do not run out"), extent: *extent });
                    vars.len() - 1
                }));
            }
            slots.push(own);
        }
        if s.free == s.vars.len() {
            free = vars.len();
        }
        let scope =
            Coordinates { op: self.op, binding: self.binding, tensors: self.tensors, vars: &vars, slots: &slots };
        let target = scope.access(s.target, &s.index);
        let value = scope.expr(&s.value);
        // A reduction over nothing but skipped coordinates still has its identity: it stays one where a guard can fail.
        let mut guarded = false;
        value.accesses(&mut |a| guarded |= a.guarded());
        let trivial = vars.len() == free && !(guarded && s.reduce.is_some_and(ReduceOp::skips_outside));
        let stmt = Stmt {
            number: self.numbers.of(s),
            target,
            accumulate: s.accumulate,
            free,
            reduce: s.reduce.filter(|_| !trivial),
            value,
            span: s.span,
            vars,
        };
        if !s.accumulate {
            self.check_single(s, &stmt)?;
        }
        Some(stmt)
    }

    /// Steps that write one tensor are told apart by numbers: an axis without dimensions has one element, whatever the
    /// number.
    fn check_ranks(&mut self) -> Option<()> {
        let op = self.op;
        let mut rules = [&op.forward, &op.adjoint.stmts, &op.tangent.stmts].into_iter();
        let Some((first, second)) = rules.find_map(|stmts| op.stored_twice(stmts, self.binding)) else {
            return Some(());
        };
        let message = format!("this writes an element of `{}` a second time", op.tensor(second.target).name);
        let d = Diagnostic::error(Code::DoubleWrite, second.span, message, "second write");
        let d = d.label(first.span, "first write").label(self.instance.name.span, "at the sizes of this instance");
        self.out.push(d.help("an axis without dimensions has one element: give it a size"));
        None
    }

    /// A `=` must not write an element twice.
    fn check_single(&mut self, s: &index::Stmt, plain: &Stmt) -> Option<()> {
        // A position tells the coordinates of its variables apart where each coefficient exceeds what the smaller ones
        // reach together, as digits do; a single variable is the plainest case. Distinct coordinates then have distinct
        // targets.
        let mixed_radix = |p: &Position| {
            let mut terms = p.numerator.terms.clone();
            terms.sort_by_key(|(_, c)| c.unsigned_abs());
            let mut reach = 0i128;
            terms.iter().all(|(v, c)| {
                let c = i128::from(c.unsigned_abs());
                let larger = c > reach;
                reach += c * (plain.vars[*v].extent as i128 - 1);
                larger
            })
        };
        let told: BTreeSet<usize> = plain
            .target
            .positions
            .iter()
            .filter(|p| mixed_radix(p))
            .flat_map(|p| p.numerator.terms.iter().map(|(v, _)| *v))
            .collect();
        if (0..plain.free).all(|v| told.contains(&v)) {
            return Some(());
        }
        let target = &self.op.tensor(s.target).name;
        let count = plain.vars[..plain.free].iter().try_fold(1usize, |n, v| n.checked_mul(v.extent));
        let Some(count) = count.filter(|n| *n <= MAX_TRIED) else {
            let message = format!("whether this writes an element of `{target}` twice cannot be decided at this size");
            let d = Diagnostic::error(Code::Unsupported, s.span, message, "too many writes to try");
            let d = d.label(self.instance.name.span, "at the sizes of this instance");
            self.out.push(d.help("write `+=`, which may meet an element twice"));
            return None;
        };
        let shape = &self.tensors[plain.target.tensor.0].shape;
        let mut seen = HashSet::new();
        let mut env = vec![0i64; plain.vars.len()];
        for n in 0..count {
            let mut rest = n;
            for (v, var) in plain.vars[..plain.free].iter().enumerate().rev() {
                env[v] = (rest % var.extent) as i64;
                rest /= var.extent;
            }
            if let Some(at) = eval::locate(&plain.target, shape, &env)
                && !seen.insert(at)
            {
                let d = Diagnostic::error(
                    Code::DoubleWrite,
                    s.span,
                    format!("this writes an element of `{target}` twice"),
                    "writes twice",
                );
                let d = d.label(self.instance.name.span, "at the sizes of this instance");
                self.out.push(d.help("write `+=` if the contributions add up"));
                return None;
            }
        }
        Some(())
    }
}

struct Coordinates<'a> {
    op: &'a Op,
    binding: &'a Binding,
    tensors: &'a [Tensor],
    vars: &'a [Var],
    slots: &'a [Vec<Option<usize>>],
}

impl Coordinates<'_> {
    fn linear(&self, a: &Affine, dim: usize) -> Linear {
        let number = |p: &index::Poly| self.binding.poly(p, dim);
        Linear::new(
            a.terms.iter().filter_map(|(VarId(v), c)| Some((self.slots[*v][dim]?, number(c)))),
            number(&a.constant),
        )
    }
    fn access(&self, t: TensorId, index: &[Affine]) -> Access {
        let tensor = &self.tensors[t.0];
        let mut positions: Vec<Option<Position>> = vec![None; tensor.shape.len()];
        let mut declared = 0;
        for (a, axis) in index.iter().zip(&self.op.tensor(t).axes) {
            for dim in 0..self.binding.rank(*axis) {
                let at = tensor.order[declared];
                let p =
                    Position::new(self.linear(a, dim), self.binding.poly(&a.divisor, dim), tensor.shape[at], &|v| {
                        self.vars[v].extent
                    });
                positions[at] = Some(p);
                declared += 1;
            }
        }
        Access { tensor: t, positions: positions.into_iter().flatten().collect() }
    }
    fn expr(&self, e: &index::Expr) -> Expr {
        match e {
            index::Expr::Const(c) => Expr::Const(*c),
            index::Expr::Param(p) => Expr::Const(self.binding.real(*p)),
            index::Expr::Extent(a) => Expr::Const(self.binding.count(*a) as f64),
            index::Expr::Read(t, index) => Expr::Read(self.access(*t, index)),
            index::Expr::Unary(f, a) => Expr::Unary(*f, Box::new(self.expr(a))),
            index::Expr::Powf(a, n) => Expr::Powf(Box::new(self.expr(a)), *n),
            index::Expr::Binary(f, a, b) => Expr::Binary(*f, Box::new(self.expr(a)), Box::new(self.expr(b))),
            index::Expr::Where(c, a, b) => Expr::choose(self.cond(c), self.expr(a), self.expr(b)),
            index::Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        }
    }
    fn cond(&self, c: &index::Cond) -> Cond {
        match c {
            index::Cond::Index(op, a, b) => {
                let rank = a.vars().chain(b.vars()).next().map_or(1, |v| self.slots[v.0].len());
                let extent = |v: usize| self.vars[v].extent;
                let sides: Vec<Cond> =
                    (0..rank).map(|d| Cond::compare(*op, self.linear(a, d), self.linear(b, d), &extent)).collect();
                // `!=` is the negation of `==`: some dimension differs.
                if *op == Compare::Ne {
                    sides.into_iter().fold(Cond::Const(false), Cond::or)
                } else {
                    sides.into_iter().fold(Cond::Const(true), Cond::and)
                }
            }
            index::Cond::Value(op, a, b) => Cond::Value(*op, self.expr(a), self.expr(b)),
            index::Cond::Inside(t, index) => {
                let access = self.access(*t, index);
                if access.guarded() { Cond::Inside(access) } else { Cond::Const(true) }
            }
            index::Cond::And(a, b) => self.cond(a).and(self.cond(b)),
            index::Cond::Or(a, b) => self.cond(a).or(self.cond(b)),
            index::Cond::Not(a) => self.cond(a).negated(),
        }
    }
}
