//! What was compared, and what schedules have: takes kernels, gives numbers by name.

use cotangent_build::compiled::Compiled;
use cotangent_build::nest::plan::Plan;
use cotangent_build::nest::{Node, Place};
use cotangent_build::plain::{self, Function, Kind};
use std::collections::BTreeMap;

/// What was compared, and what the schedules of it had.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(pub(super) BTreeMap<&'static str, usize>);

impl Tally {
    pub(super) fn add(&mut self, what: &'static str, n: usize) {
        if n == 0 {
            return;
        }
        *self.0.entry(what).or_default() += n;
    }
    pub(super) fn all(&mut self, other: &Tally) {
        other.0.iter().for_each(|(what, n)| self.add(what, *n));
    }
}

/// What schedules have.
pub(super) fn count(k: &Compiled, tally: &mut Tally) {
    tally.add("kernels", 1);
    tally.add("stages", k.kernel.functions.iter().filter(|f| f.kind == Kind::Stage).count());
    for (f, plan) in k.kernel.functions.iter().zip(&k.plans) {
        tally.add("functions", 1);
        tally.add("workspaces", usize::from(plan.workspace().is_some()));
        tally.add("in place", plan.workspace().map_or(0, |w| w.over.len()));
        tally.add("epilogues", usize::from(matches!(plan, Plan::Nest { tiled: true })));
        for step in &f.steps {
            if let plain::Step::Scan(scan) = step {
                tally.add("recurrences", 1);
                tally.add("segments", scan.segments.len());
            }
        }
        tally.add(f.kind_name(), 1);
    }
    for nest in k.nests.iter().flatten() {
        tally.add("nests", 1);
        for note in &nest.notes {
            for (word, what) in [
                ("chosen: lanes", "tiles"),
                ("chosen: dot", "dots"),
                ("unrolled graph", "unrolled graphs"),
                ("pack", "packed"),
                ("rows", "rows"),
                ("block", "blocks"),
            ] {
                tally.add(what, usize::from(note.contains(word)));
            }
        }
        nodes(&nest.body, tally);
    }
}

fn nodes(body: &[Node], tally: &mut Tally) {
    for node in body {
        match node {
            Node::Loop { body, .. } => nodes(body, tally),
            Node::If { body, .. } => {
                tally.add("tests", 1);
                nodes(body, tally);
            }
            Node::Speculative { body } => {
                tally.add("speculative blocks", 1);
                nodes(body, tally);
            }
            Node::Tile(t) => nodes(&t.body, tally),
            Node::Fold { .. } => tally.add("folds", 1),
            Node::Sums { .. } => tally.add("sums of lanes", 1),
            Node::Transpose { .. } => tally.add("transposes", 1),
            Node::Update { place: Place::Lanes(..), .. } => tally.add("stores of lanes", 1),
            _ => {}
        }
    }
}

trait Named {
    fn kind_name(&self) -> &'static str;
}

impl Named for Function {
    fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Stage => "stage",
            Kind::Forward => "forward",
            Kind::Jvp => "jvp",
            Kind::Vjp { store: false, .. } => "vjp",
            Kind::Vjp { store: true, .. } => "vjp_store",
            Kind::ValueAndGrad => "value_and_grad",
            Kind::Hvp => "hvp",
            Kind::ValueGradAndHvp => "value_grad_and_hvp",
            Kind::Jacobian => "jacobian",
            Kind::Hessian => "hessian",
        }
    }
}
