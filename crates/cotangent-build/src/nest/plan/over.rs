//! What is written over: takes the parts of a function, has statements write over what they are the last to read, where
//! each element is computed from the same one. Gives which tensors have no place of their own.
//!
//! Holds after it: the parts compute the same; in them the old tensor stands for the new one from the statement on that
//! writes it.

use super::super::coalesce::rewrite;
use super::super::epilogue;
use super::StageSteps;
use crate::index::TensorId;
use crate::plain::{Access, Function, Kernel, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Rewrites the parts; gives the new tensors with the old ones, and the stage that writes.
pub(super) fn in_place(kernel: &Kernel, f: &Function, parts: &mut [StageSteps]) -> Vec<(TensorId, TensorId, usize)> {
    // The steps in order, and where each tensor is touched.
    let at: Vec<(usize, usize)> =
        parts.iter().enumerate().flat_map(|(n, p)| (0..p.steps.len()).map(move |k| (n, k))).collect();
    let mut touched: BTreeMap<TensorId, BTreeSet<usize>> = BTreeMap::new();
    for (step, (n, k)) in at.iter().enumerate() {
        parts[*n].steps[*k].tensors().into_iter().for_each(|t| _ = touched.entry(t).or_default().insert(step));
    }
    let locals: BTreeSet<TensorId> = f.locals.iter().copied().collect();
    let mut over = Vec::new();
    let mut from = 0;
    for n in 0..parts.len() {
        let end = from + parts[n].steps.len();
        for step in from..end {
            let Some((new, old)) = written_over(kernel, &locals, &parts[n], &touched, [from, step, end]) else {
                continue;
            };
            let renamed = |a: &Access| Access { tensor: if a.tensor == new { old } else { a.tensor }, ..a.clone() };
            let moved = touched.remove(&new).unwrap_or_default();
            for (n, k) in moved.iter().map(|step| at[*step]) {
                parts[n].steps[k].stmts_mut().into_iter().for_each(|s| rewrite(s, &mut |a| renamed(a)));
            }
            touched.entry(old).or_default().extend(moved);
            over.push((new, old, n));
        }
        from = end;
    }
    over
}

/// The target of a step and the tensor whose place it can have; `from` and `end` are the steps of its part.
fn written_over(
    kernel: &Kernel,
    locals: &BTreeSet<TensorId>,
    part: &StageSteps,
    touched: &BTreeMap<TensorId, BTreeSet<usize>>,
    [from, step, end]: [usize; 3],
) -> Option<(TensorId, TensorId)> {
    let Step::Stmt(s) = &part.steps[step - from] else { return None };
    let new = s.target.tensor;
    let shape = &kernel.tensor(new).shape;
    // What is tried without its branches must be able to run again: its arguments stay.
    let elementwise = s.reduce.is_none() && !s.accumulate && s.covers(shape) && epilogue::cheap(&s.value);
    if part.tiled || !elementwise {
        return None;
    }
    let within = |t: TensorId, range: Range<usize>| touched[&t].range(range).next().is_some();
    if !locals.contains(&new) || within(new, 0..step) || !within(new, end..usize::MAX) {
        return None;
    }
    let mut reads: Vec<&Access> = Vec::new();
    s.value.accesses(&mut |a| reads.push(a));
    let old = reads.iter().map(|a| a.tensor).find(|t| {
        locals.contains(t)
            && kernel.tensor(*t).shape == *shape
            && reads.iter().all(|a| a.tensor != *t || a.positions == s.target.positions)
            && within(*t, 0..from)
            && !within(*t, from..step)
            && !within(*t, step + 1..usize::MAX)
    })?;
    Some((new, old))
}
