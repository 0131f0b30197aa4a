//! The checker of plans: takes a planned kernel, gives the first broken invariant of [`super`]. A failure is a bug of
//! ours.

use super::{Planned, Workspace};
use crate::index::TensorId;
use crate::plain::signature::{Broken, text};
use crate::plain::{self, Function, Kernel, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Checks the functions, and the plan of each.
pub fn check(planned: &Planned) -> Result<(), String> {
    let Planned { kernel, plans } = planned;
    plain::check::check(kernel)?;
    if kernel.functions.len() != plans.len() {
        return Err(format!("{}::{}: not one plan for each function", kernel.op, kernel.name));
    }
    kernel.functions.iter().zip(plans).try_for_each(|(f, plan)| {
        let result = match plan {
            super::Plan::Nest { .. } => Ok(()),
            super::Plan::Stages { stages, workspace } => staged(kernel, f, stages, workspace),
        };
        result.map_err(|broken| text(kernel, f, broken))
    })
}

/// Each stage takes arguments of the function and places of its workspace, and reads of these what an earlier one has
/// written.
fn staged(k: &Kernel, f: &Function, stages: &[usize], workspace: &Workspace) -> Result<(), Broken> {
    let place = |t: &TensorId| workspace.places.contains_key(t);
    let mut begun: BTreeSet<TensorId> = f.reads.iter().chain(&f.accumulated).copied().collect();
    for stage in stages.iter().map(|n| &k.functions[*n]) {
        if stage.kind != Kind::Stage {
            return Err(("has an entry point among its stages", None));
        }
        if let Some(t) = stage.reads.iter().chain(&stage.accumulated).find(|t| !begun.contains(t)) {
            return Err(("is read by a stage before it has a value", Some(*t)));
        }
        if let Some(t) = stage.writes.iter().find(|t| !f.writes.contains(t) && !place(t)) {
            return Err(("is written by a stage that is not given it", Some(*t)));
        }
        begun.extend(&stage.writes);
    }
    match f.writes.iter().find(|t| !begun.contains(t)) {
        Some(t) => Err(("is written by no stage", Some(*t))),
        None => disjoint(k, stages, workspace),
    }
}

/// Tensors that a stage needs after another was written stand in places apart. Their lives are taken from the stages,
/// not from the plan.
fn disjoint(k: &Kernel, stages: &[usize], workspace: &Workspace) -> Result<(), Broken> {
    let mut lives: BTreeMap<TensorId, (usize, usize)> = BTreeMap::new();
    for (n, stage) in stages.iter().enumerate() {
        let stage = &k.functions[*stage];
        for t in stage.reads.iter().chain(&stage.writes).filter(|t| workspace.places.contains_key(t)) {
            lives.entry(*t).or_insert((n, n)).1 = n;
        }
    }
    let place = |t: &TensorId| {
        let at = workspace.places[t];
        (at, at + k.tensor(*t).elements() * k.dtype.bytes())
    };
    for (t, (first, last)) in &lives {
        let (from, to) = place(t);
        if to > workspace.bytes {
            return Err(("ends behind the workspace", Some(*t)));
        }
        let others = lives.iter().filter(|(u, l)| t < *u && l.0 <= *last && *first <= l.1);
        if others.map(|(u, _)| place(u)).any(|(begin, end)| from < end && begin < to) {
            return Err(("shares memory with another that lives when it does", Some(*t)));
        }
    }
    Ok(())
}
