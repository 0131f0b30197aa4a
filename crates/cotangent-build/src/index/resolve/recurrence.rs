//! Recurrences: takes what steps read before it is written, gives the steps from there to the one that writes as
//! recurrences.
//!
//! Holds after it: a read before the write is one of a recurrence, which [`scan::arrange`] has put in order; all others
//! are errors.

use super::*;
use crate::index::scan::{NoRecurrence, Why};
use std::cmp::Ordering;
use std::ops::Range;

/// A read of what the same step or a later one writes.
pub(super) struct Early {
    /// Which step reads.
    step: usize,
    tensor: TensorId,
    /// At which position, and how far from the index there.
    position: usize,
    distance: Ordering,
    span: Span,
}

/// The statements of a step.
pub(super) struct StepRange {
    pub span: Span,
    pub stmts: Range<usize>,
    pub call: bool,
}

impl Resolver<'_> {
    /// The axes of a step's target, where its positions are plain indices or numbers along a named axis.
    pub(super) fn target_axes(&self, step: &syntax::Step) -> Option<Vec<AxisId>> {
        let axis = |arg: &syntax::IndexArg| match (&arg.expr.kind, &arg.axis) {
            (ExprKind::Name(_) | ExprKind::Number(_), Some(axis)) => self.axis_named(&axis.value),
            (ExprKind::Name(name), None) => self.op.axes.iter().position(|a| a.index == *name).map(AxisId),
            _ => None,
        };
        step.target.index.iter().map(axis).collect()
    }

    /// The tensor of a name that this or a later step writes, where the access may be one of a recurrence.
    pub(super) fn written_ahead(&mut self, name: &str, index: &[syntax::IndexArg]) -> Option<TensorId> {
        let step = (self.current..self.targets.len()).find(|n| self.targets[*n].value == name)?;
        if index.iter().all(|arg| matches!(arg.expr.kind, ExprKind::Name(_))) {
            return None;
        }
        if let Some(t) = self.visible(name) {
            let own = match (self.section, self.op.tensor(t).role) {
                (Section::Forward, role) => matches!(role, Role::Output | Role::Local),
                (Section::Tangent, Role::Tangent(of)) => self.op.tensor(of).role == Role::Output,
                (_, role) => role == Role::RuleLocal,
            };
            return own.then_some(t);
        }
        // A local that a later step makes.
        let derivative = name.ends_with("_bar") || name.ends_with("_dot");
        if derivative || self.op.params.iter().any(|p| p.name == name) {
            return None;
        }
        let axes = self.ahead[step].clone()?;
        let role = if self.section == Section::Forward { Role::Local } else { Role::RuleLocal };
        let t = self.op.add_tensor(name, axes, role, self.targets[step].span);
        self.locals.insert(name.to_string(), t);
        Some(t)
    }

    /// Whether a read of what is written later is one of a recurrence; `None` after an error.
    pub(super) fn early(
        &mut self,
        t: TensorId,
        index: &[Affine],
        args: &[syntax::IndexArg],
        span: Span,
        scope: &Scope,
    ) -> Option<bool> {
        let moved = |a: &Affine| a.as_var().is_none() && a.vars().any(|v| v.0 < scope.free);
        let Some(position) = index.iter().position(moved) else { return Some(false) };
        let v = index[position].vars().find(|v| v.0 < scope.free).expect("found above");
        let distance = crate::index::scan::along(index, v).and_then(|(_, distance)| crate::index::scan::sign(distance));
        let Some(distance) = distance else {
            let (name, i) = (&self.op.tensor(t).name, &scope.vars[v.0].name);
            let message = format!("`{name}` is read before it is written, at a distance that is not constant");
            let d =
                Diagnostic::error(Code::BadRecurrence, args[position].expr.span, message, "not a constant distance");
            self.out.push(d.help(format!(
                "a recurrence reads at `{i} - c` or at `{i} + c`, where c is a whole number, a parameter or a size"
            )));
            return None;
        };
        self.early.push(Early { step: self.current, tensor: t, position, distance, span });
        Some(true)
    }

    /// Makes recurrences of the steps that read early, and of those up to the steps that write.
    pub(super) fn recurrences(&mut self, parts: &[StepRange], stmts: &mut Vec<Stmt>) {
        let mut early = std::mem::take(&mut self.early);
        let last = |t: TensorId| {
            let writes = |p: &StepRange| stmts[p.stmts.clone()].iter().any(|s| s.target == t);
            parts.iter().rposition(writes)
        };
        // What no step writes is told where the step is.
        early.retain(|e| last(e.tensor).is_some_and(|n| n >= e.step));
        early.sort_by_key(|e| e.step);
        let mut groups: Vec<(Range<usize>, Vec<Early>)> = Vec::new();
        for e in early {
            let end = last(e.tensor).unwrap_or(e.step) + 1;
            match groups.last_mut() {
                Some((range, all)) if e.step < range.end => {
                    range.end = range.end.max(end);
                    all.push(e);
                }
                _ => groups.push((e.step..end, vec![e])),
            }
        }
        for (range, early) in groups {
            let all = &parts[range];
            let own = all[0].stmts.start..all[all.len() - 1].stmts.end;
            // A step in error has no statements: what the others need of it is not known.
            if all.iter().any(|p| p.stmts.is_empty()) {
                continue;
            }
            if let Some(group) = self.recurrence(all, &early, &stmts[own.clone()]) {
                stmts.splice(own, group);
            }
        }
    }

    /// The statements of one recurrence, arranged; `None` after an error.
    fn recurrence(&mut self, parts: &[StepRange], early: &[Early], stmts: &[Stmt]) -> Option<Vec<Stmt>> {
        let first = &early[0];
        let axis = self.op.tensor(first.tensor).axes[first.position];
        let name = self.op.axis(axis).name.clone();
        for e in early {
            let other = self.op.tensor(e.tensor).axes[e.position];
            let (message, help) = if other != axis {
                let other = &self.op.axis(other).name;
                let message = format!("a recurrence runs along one axis, this one along `{name}` and `{other}`");
                (message, "along other axes a recurrence reads its own iteration and earlier ones whole")
            } else if e.distance != first.distance {
                let message = format!("a recurrence runs in one direction, this one reads along `{name}` in both");
                (message, "write each direction as steps of its own, with locals of its own")
            } else {
                continue;
            };
            let d = Diagnostic::error(Code::BadRecurrence, e.span, message, "this read");
            self.out.push(d.label(first.span, "the first one").help(help));
            return None;
        }
        if let Some(call) = parts.iter().find(|p| p.call) {
            self.call_within(call.span, first.span, "reads what a later step writes");
            return None;
        }
        let places = self.places(axis, early, stmts);
        let base = parts[0].stmts.start;
        for part in parts {
            // What a step writes itself comes last of its statements.
            let target = stmts[part.stmts.end - 1 - base].target;
            if places.contains_key(&target) {
                continue;
            }
            let message = format!("`{}` does not run along `{name}`", self.op.tensor(target).name);
            let d = Diagnostic::error(Code::BadRecurrence, part.span, message, "a step within a recurrence");
            let d = d.label(first.span, "reads what a later step writes");
            self.out.push(d.help("move it out: before the recurrence if that needs it, else behind"));
            return None;
        }
        let backwards = first.distance == Ordering::Greater;
        let recurrence =
            |s: &Stmt| Some(Recurrence { scan: 0, var: s.index[*places.get(&s.target)?].as_var()?, backwards });
        let group = stmts.iter().map(|s| Stmt { scan: recurrence(s), ..s.clone() }).collect();
        let (mut next, mut out) = (self.op.scans, Vec::new());
        let result = crate::index::scan::arrange(&self.op, &mut next, group, &mut out);
        self.op.scans = next;
        result.map_err(|reason| self.no_recurrence(&reason, &name, first)).ok()?;
        Some(out)
    }

    /// What is called takes and makes whole tensors, which a recurrence has one iteration at a time.
    pub(super) fn call_within(&mut self, call: Span, read: Span, why: &str) {
        let message = "a call within a recurrence";
        let d = Diagnostic::error(Code::BadRecurrence, call, message, "takes and makes whole tensors");
        let d = if read == call { d } else { d.label(read, why) };
        self.out.push(d.help("call it before the recurrence or behind it, or write its formula here"));
    }

    /// The call that is to make what a step before it reads elsewhere along an axis.
    pub(super) fn call_ahead(&self, name: &str, index: &[syntax::IndexArg]) -> Option<Span> {
        let moved = |arg: &syntax::IndexArg| !matches!(arg.expr.kind, ExprKind::Name(_) | ExprKind::Number(_));
        let step = (self.current..self.targets.len()).find(|n| self.targets[*n].value == name)?;
        self.called[step].filter(|_| index.iter().any(moved))
    }

    /// The position along the axis of each tensor that the statements write, where it has one.
    fn places(&self, axis: AxisId, early: &[Early], stmts: &[Stmt]) -> BTreeMap<TensorId, usize> {
        let mut places: BTreeMap<TensorId, usize> = early.iter().map(|e| (e.tensor, e.position)).collect();
        // Those that read a tensor of the recurrence run as it does.
        let mut known = usize::MAX;
        while known != places.len() {
            known = places.len();
            for s in stmts {
                let mut found = None;
                s.value.reads(&mut |t, index| {
                    let read = places.get(&t).and_then(|p| index[*p].vars().find(|v| v.0 < s.free));
                    let own = |v: VarId| s.index.iter().position(|a| a.as_var() == Some(v));
                    found = found.or(read.and_then(own));
                });
                if let Some(place) = found {
                    places.entry(s.target).or_insert(place);
                }
            }
        }
        for s in stmts {
            let along = |a: &Affine| a.as_var().is_some_and(|v| s.vars[v.0].axis == axis);
            if let Some(place) = s.index.iter().position(along) {
                places.entry(s.target).or_insert(place);
            }
        }
        places
    }

    fn no_recurrence(&mut self, reason: &NoRecurrence, axis: &str, first: &Early) {
        let tensor = &self.op.tensor(reason.tensor).name;
        let (message, label) = match reason.why {
            Why::Still => (format!("`{tensor}` does not run along `{axis}`"), "needed in every iteration"),
            Why::Elsewhere => (
                format!("elements of `{tensor}` that this reads are not there yet"),
                "reads it elsewhere along the axis",
            ),
            Why::SameIteration => {
                (format!("`{tensor}` is read in the iteration that writes it, before it is written"), "reads it")
            }
            Why::Later => (format!("`{tensor}` is read in an iteration before the one that writes it"), "reads it"),
        };
        let d = Diagnostic::error(Code::BadRecurrence, reason.span, message, label);
        let d = d.label(first.span, format!("a recurrence along `{axis}`, from here"));
        self.out.push(d.help(match reason.why {
            Why::Still => {
                "on the left of each step of a recurrence stands the index along its axis, alone in its position"
            }
            _ => "what is read of a recurrence within it is of earlier iterations, or of an earlier step",
        }));
    }
}
