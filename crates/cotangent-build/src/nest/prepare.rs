//! Preparation: takes a function, gives what every class of machines has of it: loops joined, locals without the
//! dimensions that these took over, reductions that share their loads in groups, each with its epilogue.
//!
//! Holds after it: statements see locals as they are stored; a group has the same variables, guards and positions of
//! targets.

use super::coalesce::{Space, rewrite};
use super::epilogue;
use super::fuse::{Tree, fuse};
use super::lower::Lowering;
use super::*;
use crate::plain::{self, Function, Step, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// What a function does, in order.
pub(super) enum Work {
    Loop { id: usize, name: String, extent: usize, body: Vec<Work> },
    Fill(TensorId),
    Elementwise { stmt: Stmt, fixed: BTreeMap<usize, usize> },
    Reductions(Reductions),
}

/// Reductions over the same variables, none of which reads what another writes: a value and its tangent.
pub(super) struct Reductions {
    pub stmts: Vec<Stmt>,
    /// What is computed of each result of the only one besides.
    pub epilogue: Vec<Stmt>,
    /// The statements' variables that enclosing loops run, by loop.
    pub fixed: BTreeMap<usize, usize>,
}

/// A function as every class of machines has it.
pub(super) struct Prepared<'a> {
    pub source: &'a Kernel,
    pub work: Vec<Work>,
    pub space: Space,
    /// Tensors that are registers of epilogues alone.
    pub in_registers: BTreeSet<TensorId>,
    /// Without a body, and for no machine yet.
    pub nest: Nest,
}

impl<'a> Prepared<'a> {
    pub fn new(kernel: &'a Kernel, f: &Function, epilogues: bool) -> Self {
        let (steps, epilogues) =
            if epilogues { epilogue::split(&f.steps, &f.locals) } else { (f.steps.clone(), Vec::new()) };
        // What an epilogue touches keeps its dimensions.
        let touched: BTreeSet<TensorId> =
            epilogues.iter().flat_map(|e| &e.stmts).flat_map(super::coalesce::accesses).map(|a| a.tensor).collect();
        let free: Vec<TensorId> = f.locals.iter().copied().filter(|t| !touched.contains(t)).collect();
        let mut fused = fuse(&steps, &free);
        rows::in_blocks(&mut fused, kernel);
        // after this: rows that wait for sums stand in blocks
        // A condition may ask for a place in a tensor that is no argument.
        let own = f.reads.iter().chain(&f.writes).chain(&f.locals).copied();
        let mut space = Space::new(kernel, own.chain(f.steps.iter().flat_map(Step::tensors)));
        let mut locals = Vec::new();
        let in_registers: BTreeSet<TensorId> = epilogues.iter().flat_map(|e| e.inner.iter().copied()).collect();
        let mut kept: BTreeMap<TensorId, Vec<usize>> = BTreeMap::new();
        for t in f.locals.iter().filter(|t| !in_registers.contains(t)) {
            let tensor = &mut space.kernel.tensors[t.0];
            if fused.dropped.contains_key(t) {
                kept.insert(*t, fused.kept(*t, tensor.shape.len()));
                tensor.shape = fused.shape(*t, &tensor.shape);
            }
            locals.push(Local { tensor: *t, name: tensor.name.clone(), shape: tensor.shape.clone() });
        }
        fused.trees.iter_mut().for_each(|tree| drop_dimensions(tree, &kept));
        // after this: locals have the dimensions that they are stored with
        let mut behind: BTreeMap<TensorId, Vec<Stmt>> = BTreeMap::new();
        epilogues.into_iter().for_each(|e| _ = behind.entry(e.of).or_insert(e.stmts));
        let lowering = Lowering { space: &space, kernel_tensors: kernel.tensors.len() };
        let work = grouped(&fused.trees, &behind, lowering);
        // after this: reductions that share their loads are one group
        let nest = Nest {
            name: f.name.clone(),
            kind: f.kind,
            machines: Vec::new(),
            notes: Vec::new(),
            reads: f.reads.clone(),
            writes: f.writes.clone(),
            locals,
            vars: Vec::new(),
            registers: Vec::new(),
            body: Vec::new(),
        };
        Prepared { source: kernel, work, space, in_registers, nest }
    }

    /// The schedule that the instance asks for.
    pub fn asked(&self) -> Option<&'a str> {
        self.source.schedule.get(&self.nest.name).map(String::as_str)
    }

    /// The groups of reductions, in order.
    pub fn reductions(&self) -> Vec<&Reductions> {
        fn inside<'w>(work: &'w [Work], out: &mut Vec<&'w Reductions>) {
            for w in work {
                match w {
                    Work::Loop { body, .. } => inside(body, out),
                    Work::Reductions(r) => out.push(r),
                    Work::Fill(_) | Work::Elementwise { .. } => {}
                }
            }
        }
        let mut out = Vec::new();
        inside(&self.work, &mut out);
        out
    }
}

/// Trees as work. `epilogues`: by what the reduction before them writes.
fn grouped(trees: &[Tree], epilogues: &BTreeMap<TensorId, Vec<Stmt>>, lowering: Lowering) -> Vec<Work> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        at += 1;
        out.push(match tree {
            Tree::Loop { id, name, extent, body, .. } => {
                Work::Loop { id: *id, name: name.clone(), extent: *extent, body: grouped(body, epilogues, lowering) }
            }
            Tree::Step { step: Step::Fill(t), .. } => Work::Fill(*t),
            Tree::Step { step: Step::Scan(_), .. } => unreachable!("recurrences are loops of the tree"),
            Tree::Step { step: Step::Stmt(s), fixed } if s.reduce.is_none() => {
                Work::Elementwise { stmt: s.clone(), fixed: fixed.clone() }
            }
            Tree::Step { step: Step::Stmt(s), fixed } => {
                let mut stmts = vec![s.clone()];
                let epilogue = epilogues.get(&s.target.tensor);
                while let Some(Tree::Step { step: Step::Stmt(next), fixed: others }) = trees.get(at)
                    && others == fixed
                    && epilogue.is_none()
                    && !epilogues.contains_key(&next.target.tensor)
                    && joins(&stmts, next, lowering)
                {
                    stmts.push(next.clone());
                    at += 1;
                }
                let epilogue = epilogue.cloned().unwrap_or_default();
                Work::Reductions(Reductions { stmts, epilogue, fixed: fixed.clone() })
            }
        });
    }
    out
}

/// Whether a reduction can run in the same loops: the same variables, targets' positions and guards, and nothing read
/// that the others write.
fn joins(group: &[Stmt], next: &Stmt, lowering: Lowering) -> bool {
    let first = &group[0];
    let same: Vec<Linear> = (0..first.vars.len()).map(Linear::var).collect();
    let tests = |s: &Stmt| lowering.lower_reduced(&s.value, s.reduce.expect("reductions"), &same).0;
    first.reduce.is_some()
        && first.reduce == next.reduce
        && first.vars == next.vars
        && first.free == next.free
        && first.target.positions == next.target.positions
        && tests(first) == tests(next)
        && group.iter().all(|s| {
            s.target.tensor != next.target.tensor && !next.takes(s.target.tensor) && !s.takes(next.target.tensor)
        })
}

/// `kept`: the dimensions that are left of each tensor that lost some.
fn drop_dimensions(tree: &mut Tree, kept: &BTreeMap<TensorId, Vec<usize>>) {
    match tree {
        Tree::Loop { body, .. } => body.iter_mut().for_each(|b| drop_dimensions(b, kept)),
        Tree::Step { step: Step::Stmt(s), .. } => rewrite(s, &mut |a| {
            let Some(keep) = kept.get(&a.tensor) else { return a.clone() };
            plain::Access { tensor: a.tensor, positions: keep.iter().map(|d| a.positions[*d].clone()).collect() }
        }),
        Tree::Step { .. } => {}
    }
}
