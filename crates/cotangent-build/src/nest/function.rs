//! Schedules of functions: takes a prepared function and a class of machines, gives how its reductions are run, and of
//! that the nest.
//!
//! Holds after it: the nest does what the function says, in the orders of summation that were chosen.

use super::builder::Builder;
use super::coalesce::Space;
use super::decide::decide;
use super::epilogue;
use super::machine::MACHINES;
use super::prepare::{Prepared, Reductions, Work};
use super::tile::{Budget, Candidate, Decided, Decider, Decision, Order, Request, Tuning};
use super::*;
use crate::plain;
use std::collections::BTreeMap;

/// How a function's reductions are run on a class of machines.
pub(super) struct Schedule<'p> {
    prepared: &'p Prepared<'p>,
    machine: &'static Machine,
    space: Space,
    decisions: Vec<Decision<'p>>,
    pub decided: Decided,
    /// The orders that were asked for.
    pub demands: BTreeMap<usize, Order>,
}

impl<'p> Schedule<'p> {
    /// For one class of machines; `model` is what the class takes whose order of summation
    /// it keeps.
    pub fn new(
        prepared: &'p Prepared<'p>,
        machine: &'static Machine,
        tuning: Tuning,
        model: Option<&[Option<Candidate>]>,
        demands: BTreeMap<usize, Order>,
    ) -> Self {
        let cores = tuning.cores(machine);
        let request = Request { machine, cores, asked: prepared.asked(), model, demands: &demands };
        let mut space = prepared.space.clone();
        let mut decider = Decider { request: &request, space: &mut space, budget: Budget::new(tuning.scratch) };
        let (mut decisions, mut decided) = (Vec::new(), Decided::default());
        for r in prepared.reductions() {
            let (decision, own) = decider.group(r, decided.chosen.len());
            decided.extend(own);
            decisions.push(decision);
        }
        Schedule { prepared, machine, space, decisions, decided, demands }
    }

    /// What the reductions cost.
    pub fn cycles(&self) -> f64 {
        self.decided.costs.iter().sum()
    }

    /// The function in this way.
    pub fn nest(self) -> Nest {
        let Prepared { source, work, in_registers, nest, .. } = self.prepared;
        let nest = Nest { machines: vec![self.machine], notes: self.decided.notes, ..nest.clone() };
        let (machine, space) = (self.machine, self.space);
        let mut b = Builder { source, machine, in_registers, space, nest, loops: BTreeMap::new() };
        let body = b.work(work, &mut self.decisions.into_iter());
        let body = decide(body, &b.nest.vars);
        // after this: what stands there runs
        b.nest.body = b.speculate(body);
        b.nest
    }
}

/// Whether reductions of a function have epilogues, and tiles of every class of machines run them. All classes run the
/// same tiles, so that those which keep another's order of summation find them. Nothing is built, and nothing is
/// decided behind the first tile that does not, nor behind the last epilogue.
pub(super) fn finishes(kernel: &Kernel, f: &plain::Function, tuning: Tuning) -> bool {
    if epilogue::split(&f.steps, &f.locals).1.is_empty() {
        return false;
    }
    let prepared = Prepared::new(kernel, f, true);
    let mut reductions = prepared.reductions();
    let Some(last) = reductions.iter().rposition(|r| !r.epilogue.is_empty()) else { return true };
    reductions.truncate(last + 1);
    let mut space = prepared.space.clone();
    if !reductions.iter().all(|r| r.may_finish(&mut space)) {
        return false;
    }
    // What each class takes, for those that keep its order.
    let mut chosen: Vec<(&Machine, Vec<Option<Candidate>>)> = Vec::new();
    for machine in MACHINES {
        let like = |model: &Machine| chosen.iter().find(|(m, _)| *m == model).map(|(_, all)| all.as_slice());
        let model = machine.same_order_as.map(|m| like(m).expect("classes stand behind those whose order they keep"));
        let demands = BTreeMap::new();
        let cores = tuning.cores(machine);
        let request = Request { machine, cores, asked: prepared.asked(), model, demands: &demands };
        let mut space = prepared.space.clone();
        let mut decider = Decider { request: &request, space: &mut space, budget: Budget::new(tuning.scratch) };
        let mut taken: Vec<Option<Candidate>> = Vec::new();
        for r in &reductions {
            let (_, decided) = decider.group(r, taken.len());
            if decided.missed {
                return false;
            }
            taken.extend(decided.chosen);
        }
        chosen.push((machine, taken));
    }
    true
}

impl Reductions {
    /// Whether some class of machines may run the epilogue in a tile.
    fn may_finish(&self, space: &mut Space) -> bool {
        self.epilogue.is_empty() || self.fixed.is_empty() && tile::may_finish(space, &self.stmts, &self.epilogue)
    }
}

impl Decider<'_> {
    /// A group of a function, `from` others before it.
    pub fn group<'f>(&mut self, r: &'f Reductions, from: usize) -> (Decision<'f>, Decided) {
        let (decision, mut decided) = self.reduction(&r.stmts, &r.epilogue, &r.fixed, from);
        // In a loop of others a tile has no whole results.
        decided.missed |= !r.epilogue.is_empty() && !r.fixed.is_empty();
        (decision, decided)
    }
}

impl Builder<'_> {
    /// Work in order; `decisions` has one for each group of reductions.
    fn work<'d>(&mut self, work: &[Work], decisions: &mut impl Iterator<Item = Decision<'d>>) -> Vec<Node> {
        let mut out = Vec::new();
        for w in work {
            match w {
                Work::Loop { id, name, extent, body } => {
                    let var = self.var(name, *extent);
                    self.loops.insert(*id, var);
                    let body = self.work(body, decisions);
                    out.push(Node::Loop { var, body });
                }
                Work::Fill(t) => {
                    out.push(Node::Comment(format!("{} = 0", self.source.tensor(*t).name), None));
                    out.push(Node::Fill(*t));
                }
                Work::Elementwise { stmt, fixed } => {
                    out.push(self.comment(stmt));
                    out.extend(self.elementwise(stmt, fixed));
                }
                Work::Reductions(r) => {
                    out.extend(r.stmts.iter().chain(&r.epilogue).map(|s| self.comment(s)));
                    let decision = decisions.next().expect("each group is decided");
                    out.extend(self.decided(decision, r));
                }
            }
        }
        out
    }

    /// What a statement says.
    fn comment(&self, s: &plain::Stmt) -> Node {
        Node::Comment(plain::print::brief(&self.space.kernel.tensors, s), Some(s.span))
    }

    /// A group of reductions as it was decided.
    fn decided(&mut self, decision: Decision, r: &Reductions) -> Vec<Node> {
        match decision {
            Decision::Tile(group, candidate) => self.tile(&group, &candidate),
            Decision::Sum(stmt, op) => self.sum(&stmt, op, &r.fixed),
            Decision::Several(all) => all.into_iter().flat_map(|d| self.decided(d, r)).collect(),
        }
    }
}
