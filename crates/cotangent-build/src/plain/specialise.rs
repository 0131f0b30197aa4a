//! Specialisation: takes an op and an instance, gives a [`Kernel`]: groups become dimensions, coefficients numbers, layout storage order;
//! each function has just the statements that its results need.

use super::instance::{bind, layout};
use super::*;
use crate::derive;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::bind::Binding;
use crate::index::{self, Affine, Entry, Op, VarId, scan};
use crate::spec::InstanceSpec;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A program's dense derivatives are made unasked by inputs, and of outputs, of at most so many elements.
const MOST_DENSE: usize = 64;

/// The most writes of a `=` that are tried one by one.
const MAX_TRIED: usize = 1 << 22;

/// Specialises one instance; errors go to `out`.
pub fn specialise(op: &Op, instance: &InstanceSpec, out: &mut Diagnostics) -> Option<Kernel> {
    let binding = bind(op, instance, out)?;
    let tensors = layout(op, instance, &binding, out)?;
    let numbers = Numbers::default();
    let mut s = Specialiser { op, instance, binding: &binding, tensors: &tensors, numbers, out };
    let functions = s.functions()?;
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
    };
    Some(kernel)
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
    out: &'a mut Diagnostics,
}

/// The numbers of statements: what says the same has the same, in whichever function it stands.
#[derive(Default)]
struct Numbers {
    known: BTreeMap<TensorId, Vec<(index::Stmt, usize)>>,
    merged: BTreeMap<(usize, usize), usize>,
    next: usize,
}

impl Numbers {
    fn of(&mut self, s: &index::Stmt) -> usize {
        let axes = |s: &index::Stmt| s.vars.iter().map(|v| v.axis).collect::<Vec<_>>();
        // One sum makes a tensor, if it stores: it is the same sum also where another step's formula stands in it.
        let whole = |s: &index::Stmt| s.reduce.is_some() && !s.accumulate;
        let alike = |o: &index::Stmt| {
            let value = o.value == s.value || whole(o) && whole(s);
            value && (&o.index, o.free, &o.reduce) == (&s.index, s.free, &s.reduce) && axes(o) == axes(s)
        };
        let known = self.known.entry(s.target).or_default();
        if let Some((_, number)) = known.iter().find(|(o, _)| alike(o)) {
            return *number;
        }
        self.next += 1;
        known.push((s.clone(), self.next));
        self.next
    }

    /// Of two statements in one.
    fn both(&mut self, a: usize, b: usize) -> usize {
        let next = &mut self.next;
        *self.merged.entry((a, b)).or_insert_with(|| {
            *next += 1;
            *next
        })
    }
}

impl Specialiser<'_> {
    fn functions(&mut self) -> Option<Vec<Function>> {
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
            return Some(functions);
        }
        let bars: Vec<TensorId> = moved.iter().filter_map(|t| bar(*t)).collect();
        let each = moved.iter().zip(&bars).map(|(t, b)| (Some(*t), vec![*b]));
        for (input, wanted) in std::iter::once((None, bars.clone())).chain(each) {
            let mut stmts = derive::live(&op.adjoint.stmts, &wanted.iter().copied().collect());
            // Locals of the forward formula that the rule reads are computed again, from inputs and outputs.
            let local = |t: TensorId| op.tensor(t).role == Role::Local;
            let needed = stmts.iter().flat_map(derive::reads).filter(|t| local(*t)).collect();
            let mut again = derive::needed(&op.forward, &needed, &local);
            again.append(&mut stmts);
            let base = input.map_or("vjp".to_string(), |t| format!("vjp_{}", op.tensor(t).name));
            for store in [false, true] {
                let name = if store { format!("{base}_store") } else { base.clone() };
                functions.push(self.function(name, Kind::Vjp { input, store }, &again, &wanted, store)?);
            }
        }
        Some(functions)
    }

    /// The entry points of a program.
    fn entries(&mut self, program: &index::Program) -> Option<Vec<Function>> {
        let elements = |ts: &[TensorId]| ts.iter().map(|t| self.tensors[t.0].elements()).sum::<usize>();
        let (by, of) = (elements(&program.wrt), elements(&self.op.outputs()));
        let small = program.asked.is_some() || (by <= MOST_DENSE && of <= MOST_DENSE);
        let mut functions = Vec::new();
        for f in &program.functions {
            let dense = matches!(f.entry, Entry::Jacobian | Entry::Hessian);
            // Fewer go back from the outputs than forward from the inputs, or the other way round.
            if dense && !small || f.entry == Entry::Jacobian && f.reverse != (of < by) {
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
                Entry::Jacobian => Kind::Jacobian,
                Entry::Hessian => Kind::Hessian,
            };
            functions.push(self.function(name, kind, &f.stmts, &f.results, f.entry != Entry::Vjp)?);
            if f.entry == Entry::Vjp {
                let kind = Kind::Vjp { input: None, store: true };
                functions.push(self.function("vjp_store".into(), kind, &f.stmts, &f.results, true)?);
            }
        }
        Some(functions)
    }

    /// A function of the statements that `results` need. `fresh`: the results start at zero, else they hold values to add to.
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
        let read: BTreeSet<TensorId> = stmts.iter().flat_map(derive::reads).collect();
        let reads: Vec<TensorId> =
            read.iter().copied().filter(|t| !written.contains(t) && !results.contains(t)).collect();
        let locals: Vec<TensorId> = written.iter().copied().filter(|t| !results.contains(t)).collect();
        let mut steps = Vec::new();
        let mut begun: BTreeSet<TensorId> = if fresh { BTreeSet::new() } else { results.iter().copied().collect() };
        let items: Vec<Item> = self.items(&stmts)?.into_iter().flat_map(|item| item.parts(self.tensors)).collect();
        for n in 0..items.len() {
            match items[n].clone() {
                Item::Stmts(group) => {
                    let target = group[0].target.tensor;
                    let mut group: Vec<Stmt> =
                        group.into_iter().flat_map(|s| gathered(s, None, self.tensors)).collect();
                    if begun.insert(target) {
                        // What is written once, of all that the tensor holds, is stored; only what no statement reaches needs a zero before.
                        let once = written_once(&group.iter().collect::<Vec<_>>());
                        if once.is_some() {
                            group.iter_mut().for_each(|s| s.accumulate = false);
                        }
                        let elements = self.tensors[target.0].elements() as u128;
                        if once != Some(elements) && !(once.is_some() && filled(target, elements, &items[n..])) {
                            steps.push(Step::Fill(target));
                        }
                    }
                    steps.extend(group.into_iter().map(Step::Stmt));
                }
                Item::Scan { name, turns, backwards, mut body } => {
                    steps.extend(self.begin(&mut body, &mut begun).into_iter().map(Step::Fill));
                    let mut segments = turns::segments(&body, turns, backwards, self.tensors);
                    for segment in &mut segments {
                        segment.body = segment.body.drain(..).flat_map(|part| part.gathered(self.tensors)).collect();
                    }
                    steps.push(Step::Scan(Scan { name, segments }));
                }
            }
        }
        // A result that no statement writes is zero.
        if fresh {
            steps.extend(results.iter().filter(|t| !begun.contains(t)).map(|t| Step::Fill(*t)));
        }
        let steps = inline::inline(needed(steps, results), &locals, self.tensors);
        let written: BTreeSet<TensorId> = steps.iter().flat_map(Step::writes).collect();
        let locals = locals.into_iter().filter(|t| written.contains(t)).collect();
        // Order of arguments: inputs, their tangents, outputs, cotangents.
        let mut reads = reads;
        reads.sort_by_key(|t| match self.op.tensor(*t).role {
            Role::Input => (0, t.0),
            Role::Tangent(of) => (1, of.0),
            Role::Output => (2, t.0),
            Role::Cotangent(of) => (3, of.0),
            Role::Local | Role::RuleLocal | Role::Partial(..) => (4, t.0),
        });
        let held = if fresh { Vec::new() } else { results.to_vec() };
        let workspace = Workspace::default();
        Some(Function {
            name,
            kind,
            reads,
            writes: results.to_vec(),
            held,
            locals,
            steps,
            tiled: false,
            stages: Vec::new(),
            workspace,
        })
    }

    /// Plain statements and recurrences, those that can be one merged.
    fn items(&mut self, stmts: &[index::Stmt]) -> Option<Vec<Item>> {
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
        let mut items: Vec<Item> = Vec::new();
        for unit in scan::units(&arranged) {
            let unit = &arranged[unit];
            let var = |t: index::Turn| &unit[0].vars[t.var.0];
            if let Some(turn) = unit[0].scan {
                let turns = self.binding.count(var(turn).axis);
                let mut body: Vec<(Option<usize>, Stmt)> = Vec::new();
                for s in unit {
                    let (plain, var) = (self.stmt(s)?, (turns > 1).then(|| self.turn(s)));
                    match body.last_mut().and_then(|(_, last)| Some((merge::merge(last, &plain, self.tensors)?, last)))
                    {
                        Some((both, last)) => {
                            let number = self.numbers.both(last.number, plain.number);
                            *last = Stmt { number, ..both };
                        }
                        None => body.push((var, plain)),
                    }
                }
                items.push(Item::Scan { name: var(turn).name.clone(), turns, backwards: turn.backwards, body });
                continue;
            }
            for s in unit {
                let plain = self.stmt(s)?;
                if let Some(Item::Stmts(last)) = items.last_mut()
                    && let Some(both) = merge::merge(&last[0], &plain, self.tensors)
                {
                    let number = self.numbers.both(last[0].number, plain.number);
                    last[0] = Stmt { number, ..both };
                } else {
                    items.push(Item::Stmts(vec![plain]));
                }
            }
        }
        Some(items)
    }

    /// The plain variable that is the coordinate of a recurrence of more than one turn.
    fn turn(&self, s: &index::Stmt) -> usize {
        let before = s.scan.map_or(0, |t| t.var.0);
        let loops = |v: &index::Var| self.binding.extents[v.axis.0].iter().filter(|n| **n > 1).count();
        s.vars[..before].iter().map(loops).sum()
    }

    /// Makes the first writes of a recurrence store, where each element is stored before anything is added to it; gives the tensors that start at
    /// zero instead.
    fn begin(&self, body: &mut [(Option<usize>, Stmt)], begun: &mut BTreeSet<TensorId>) -> Vec<TensorId> {
        let mut fills = Vec::new();
        for n in 0..body.len() {
            let (v, first) = &body[n];
            let target = first.target.tensor;
            if !begun.insert(target) {
                continue;
            }
            // Every other statement writes in the same turn, after it.
            let at =
                |v: Option<usize>, s: &Stmt| s.target.positions.iter().position(|p| v.is_some() && p.as_var() == v);
            let place = at(*v, first);
            let mut writers = body.iter().filter(|(_, s)| s.target.tensor == target);
            let same = writers.clone().count() == 1 || place.is_some() && writers.all(|(v, s)| at(*v, s) == place);
            if same && first.covers(&self.tensors[target.0].shape) {
                body[n].1.accumulate = false;
            } else {
                fills.push(target);
            }
        }
        fills
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
        let scope = Scope { op: self.op, binding: self.binding, tensors: self.tensors, vars: &vars, slots: &slots };
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

    /// Steps that write one tensor are told apart by numbers: an axis without dimensions has one element, whatever the number.
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
        // A position tells the coordinates of its variables apart where each coefficient exceeds what the smaller ones reach together, as
        // digits do; a single variable is the plainest case. Distinct coordinates then have distinct targets.
        let digits = |p: &Position| {
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
            .filter(|p| digits(p))
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

/// The steps that the results need: at the sizes of an instance what read a tensor may be decided to read none of it.
fn needed(steps: Vec<Step>, results: &[TensorId]) -> Vec<Step> {
    let mut needed: BTreeSet<TensorId> = results.iter().copied().collect();
    let mut kept: Vec<Step> = Vec::new();
    for step in steps.into_iter().rev() {
        if step.writes().iter().any(|t| needed.contains(t)) {
            // A recurrence runs whole: what else it writes has to be there to be written.
            needed.extend(step.writes());
            step.stmts().iter().for_each(|s| s.value.reads(&mut |a| _ = needed.insert(a.tensor)));
            kept.push(step);
        }
    }
    kept.reverse();
    kept
}

/// Whether the statements store every element of a tensor once before one of them reads it or adds to it.
fn filled(t: TensorId, elements: u128, items: &[Item]) -> bool {
    let only_stores = |s: &&Stmt| {
        let mut found = s.accumulate && s.target.tensor == t;
        s.value.reads(&mut |a| found |= a.tensor == t);
        !found
    };
    let all = items.iter().flat_map(Item::stmts);
    let stores: Vec<&Stmt> = all.take_while(only_stores).filter(|s| s.target.tensor == t).collect();
    written_once(&stores) == Some(elements)
}

/// What a function runs, before its sums are gathered.
#[derive(Clone)]
enum Item {
    /// One statement, or its parts, which write different elements.
    Stmts(Vec<Stmt>),
    /// Statements with the variable that is the coordinate along the axis, if there is more than one.
    Scan { name: String, turns: usize, backwards: bool, body: Vec<(Option<usize>, Stmt)> },
}

impl Item {
    fn stmts(&self) -> Vec<&Stmt> {
        match self {
            Item::Stmts(all) => all.iter().collect(),
            Item::Scan { body, .. } => body.iter().map(|(_, s)| s).collect(),
        }
    }

    /// A sum with conditions as parts without.
    fn parts(self, tensors: &[Tensor]) -> Vec<Item> {
        let Item::Stmts(all) = &self else { return vec![self] };
        match turns::parts(&all[0], tensors) {
            Some((v, parts)) if v < all[0].free => {
                if parts.is_empty() {
                    return vec![self];
                }
                vec![Item::Stmts(parts)]
            }
            Some((_, parts)) => parts.into_iter().map(|s| Item::Stmts(vec![s])).collect(),
            None => vec![self],
        }
    }
}

/// A statement in gather form, where it has one.
fn gathered(s: Stmt, turn: Option<usize>, tensors: &[Tensor]) -> Vec<Stmt> {
    let moves = s.accumulate && s.target.positions.iter().any(|p| p.as_var().is_none());
    let gathered = if moves { gather::gather(&s, turn, tensors) } else { None };
    gathered.unwrap_or_else(|| vec![s])
}

impl Part {
    /// In gather form; the position that moves with the turns stays.
    fn gathered(self, tensors: &[Tensor]) -> Vec<Part> {
        let Part { turn, stmt } = self;
        let own = |s: &Stmt, v: usize| s.target.positions.iter().position(|p| p.numerator.coefficient(v) != 0);
        let place = turn.and_then(|v| own(&stmt, v));
        let number = |s: &Stmt| place.map(|at| s.target.positions[at].numerator.terms[0].0);
        gathered(stmt, turn, tensors).into_iter().map(|stmt| Part { turn: number(&stmt), stmt }).collect()
    }
}

struct Scope<'a> {
    op: &'a Op,
    binding: &'a Binding,
    tensors: &'a [Tensor],
    vars: &'a [Var],
    slots: &'a [Vec<Option<usize>>],
}

impl Scope<'_> {
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
