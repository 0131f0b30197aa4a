//! Specialisation: takes an op and an instance, gives a [`Kernel`]: groups become dimensions, coefficients numbers, layout storage order;
//! each function has just the statements that its results need.

use super::instance::{bind, layout};
use super::*;
use crate::derive;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::bind::Binding;
use crate::index::{self, Affine, Op, VarId};
use crate::spec::InstanceSpec;
use std::collections::{BTreeSet, HashSet};

/// The most writes of a `=` that are tried one by one.
const MAX_TRIED: usize = 1 << 22;

/// Specialises one instance; errors go to `out`.
pub fn specialise(op: &Op, instance: &InstanceSpec, out: &mut Diagnostics) -> Option<Kernel> {
    let binding = bind(op, instance, out)?;
    let tensors = layout(op, instance, &binding, out)?;
    let mut s = Specialiser { op, instance, binding: &binding, tensors: &tensors, out };
    let functions = s.functions()?;
    let kernel = Kernel {
        op: op.name.clone(),
        name: instance.name.value.clone(),
        dtype: instance.dtype.unwrap_or_default(),
        extents: binding.extents.clone(),
        tensors,
        functions,
        schedule: instance.schedule.iter().map(|(f, s)| (f.value.clone(), s.value.clone())).collect(),
    };
    Some(kernel)
}

struct Specialiser<'a> {
    op: &'a Op,
    instance: &'a InstanceSpec,
    binding: &'a Binding,
    tensors: &'a [Tensor],
    out: &'a mut Diagnostics,
}

impl Specialiser<'_> {
    fn functions(&mut self) -> Option<Vec<Function>> {
        let op = self.op;
        self.check_ranks()?;
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
            let mut needed: BTreeSet<TensorId> =
                stmts.iter().flat_map(derive::reads).filter(|t| op.tensor(*t).role == Role::Local).collect();
            let mut again = Vec::new();
            for s in op.forward.iter().rev() {
                if needed.contains(&s.target) {
                    needed.extend(derive::reads(s).into_iter().filter(|t| op.tensor(*t).role == Role::Local));
                    again.push(s.clone());
                }
            }
            again.reverse();
            again.append(&mut stmts);
            let base = input.map_or("vjp".to_string(), |t| format!("vjp_{}", op.tensor(t).name));
            for store in [false, true] {
                let name = if store { format!("{base}_store") } else { base.clone() };
                functions.push(self.function(name, Kind::Vjp { input, store }, &again, &wanted, store)?);
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
        let mut merged: Vec<Stmt> = Vec::new();
        for s in &stmts {
            let plain = self.stmt(s)?;
            if let Some(last) = merged.last_mut()
                && let Some(both) = merge::merge(last, &plain, self.tensors)
            {
                *last = both;
            } else {
                merged.push(plain);
            }
        }
        for n in 0..merged.len() {
            let plain = merged[n].clone();
            let target = plain.target.tensor;
            let moves = plain.accumulate && plain.target.positions.iter().any(|p| p.as_var().is_none());
            let gathered = if moves { gather::gather(&plain, self.tensors) } else { None };
            let mut group = gathered.unwrap_or_else(|| vec![plain]);
            if begun.insert(target) {
                // What is written once, of all that the tensor holds, is stored; only what no statement reaches needs a zero before.
                let once = written_once(&group.iter().collect::<Vec<_>>());
                if once.is_some() {
                    group.iter_mut().for_each(|s| s.accumulate = false);
                }
                let elements = self.tensors[target.0].elements() as u128;
                if once != Some(elements) && !(once.is_some() && filled(target, elements, &merged[n..])) {
                    steps.push(Step::Fill(target));
                }
            }
            steps.extend(group.into_iter().map(Step::Stmt));
        }
        // A result that no statement writes is zero.
        if fresh {
            steps.extend(results.iter().filter(|t| !begun.contains(t)).map(|t| Step::Fill(*t)));
        }
        // Order of arguments: inputs, their tangents, outputs, cotangents.
        let mut reads = reads;
        reads.sort_by_key(|t| match self.op.tensor(*t).role {
            Role::Input => (0, t.0),
            Role::Tangent(of) => (1, of.0),
            Role::Output => (2, t.0),
            Role::Cotangent(of) => (3, of.0),
            Role::Local | Role::RuleLocal => (4, t.0),
        });
        Some(Function { name, kind, reads, writes: results.to_vec(), locals, steps })
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

/// Whether the statements store every element of a tensor once before one of them reads it or adds to it.
fn filled(t: TensorId, elements: u128, stmts: &[Stmt]) -> bool {
    let only_stores = |s: &&Stmt| {
        let mut found = s.accumulate && s.target.tensor == t;
        s.value.reads(&mut |a| found |= a.tensor == t);
        !found
    };
    let stores: Vec<&Stmt> = stmts.iter().take_while(only_stores).filter(|s| s.target.tensor == t).collect();
    written_once(&stores) == Some(elements)
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
            index::Expr::Where(c, a, b) => match self.cond(c) {
                Cond::Const(true) => self.expr(a),
                Cond::Const(false) => self.expr(b),
                c => Expr::Where(Box::new(c), Box::new(self.expr(a)), Box::new(self.expr(b))),
            },
            index::Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        }
    }
    fn cond(&self, c: &index::Cond) -> Cond {
        match c {
            index::Cond::Index(op, a, b) => {
                let rank = a.vars().chain(b.vars()).next().map_or(1, |v| self.slots[v.0].len());
                let sides: Vec<Cond> =
                    (0..rank).map(|d| self.compare(*op, self.linear(a, d), self.linear(b, d))).collect();
                // `!=` is the negation of `==`: some dimension differs.
                if *op == Compare::Ne {
                    sides.into_iter().fold(Cond::Const(false), or)
                } else {
                    sides.into_iter().fold(Cond::Const(true), and)
                }
            }
            index::Cond::Value(op, a, b) => Cond::Value(*op, self.expr(a), self.expr(b)),
            index::Cond::Inside(t, index) => {
                let access = self.access(*t, index);
                if access.guarded() { Cond::Inside(access) } else { Cond::Const(true) }
            }
            index::Cond::And(a, b) => and(self.cond(a), self.cond(b)),
            index::Cond::Or(a, b) => or(self.cond(a), self.cond(b)),
            index::Cond::Not(a) => match self.cond(a) {
                Cond::Const(b) => Cond::Const(!b),
                c => Cond::Not(Box::new(c)),
            },
        }
    }
    /// Decided here where the ranges decide it.
    fn compare(&self, op: Compare, a: Linear, b: Linear) -> Cond {
        let difference =
            Linear::new(a.terms.iter().copied().chain(b.terms.iter().map(|(v, c)| (*v, -c))), a.constant - b.constant);
        let (lo, hi) = difference.range(&|v| self.vars[v].extent);
        let (always, never) = match op {
            Compare::Lt => (hi < 0, lo >= 0),
            Compare::Le => (hi <= 0, lo > 0),
            Compare::Gt => (lo > 0, hi <= 0),
            Compare::Ge => (lo >= 0, hi < 0),
            Compare::Eq => (lo == 0 && hi == 0, lo > 0 || hi < 0),
            Compare::Ne => (lo > 0 || hi < 0, lo == 0 && hi == 0),
        };
        match (always, never) {
            (true, _) => Cond::Const(true),
            (_, true) => Cond::Const(false),
            _ => Cond::Index(op, a, b),
        }
    }
}

fn and(a: Cond, b: Cond) -> Cond {
    match (a, b) {
        (Cond::Const(true), c) | (c, Cond::Const(true)) => c,
        (Cond::Const(false), _) | (_, Cond::Const(false)) => Cond::Const(false),
        (a, b) => Cond::And(Box::new(a), Box::new(b)),
    }
}

fn or(a: Cond, b: Cond) -> Cond {
    match (a, b) {
        (Cond::Const(false), c) | (c, Cond::Const(false)) => c,
        (Cond::Const(true), _) | (_, Cond::Const(true)) => Cond::Const(true),
        (a, b) => Cond::Or(Box::new(a), Box::new(b)),
    }
}
