//! Recurrences: takes statements along an axis, some of which depend on what others wrote at other coordinates. Gives
//! them in order: the statements of each cycle of dependences are one recurrence; all others stand before or behind it.
//!
//! Holds after [`arrange`]: the statements of a recurrence follow each other; each has the variable along the axis in
//! one position of its target, alone, with a constant beside; what an iteration reads of the recurrence, an earlier
//! iteration wrote, or an earlier statement of the same iteration.

use super::*;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

/// Why statements are no recurrence: which of them, and what it reads there.
#[derive(Clone, Debug)]
pub struct NoRecurrence {
    pub span: Span,
    pub tensor: TensorId,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its target does not stand at the variable along the axis.
    Still,
    /// It reads the tensor at other positions than at a constant distance along the axis.
    Elsewhere,
    /// It reads what is written in the same iteration, after it or by itself.
    SameIteration,
    /// It reads what a later iteration writes.
    Later,
}

/// The distance of a read from what is written in the same iteration: above zero where it lies ahead.
#[derive(Clone, Debug)]
pub struct Shift {
    pub span: Span,
    pub tensor: TensorId,
    pub axis: AxisId,
    pub distance: Poly,
}

/// Statements that stand alone, and runs of those of one recurrence.
pub fn units(stmts: &[Stmt]) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for (n, s) in stmts.iter().enumerate() {
        match all.last_mut() {
            Some(last) if s.scan.is_some() && stmts[last.start].scan.map(|t| t.scan) == s.scan.map(|t| t.scan) => {
                last.end = n + 1;
            }
            _ => all.push(n..n + 1),
        }
    }
    all
}

/// The sign of a distance, parameters and sizes taken to be above zero; `None` where it depends on them.
pub fn sign(p: &Poly) -> Option<Ordering> {
    let (mut above, mut below) = (false, false);
    p.0.values().for_each(|c| if *c > 0 { above = true } else { below = true });
    match (above, below) {
        (false, false) => Some(Ordering::Equal),
        (true, false) => Some(Ordering::Greater),
        (false, true) => Some(Ordering::Less),
        (true, true) => None,
    }
}

/// Where an access moves with a variable, if in one position alone, one by one: the position and the constant beside.
pub fn along(index: &[Affine], v: VarId) -> Option<(usize, &Poly)> {
    let mut at = index.iter().enumerate().filter(|(_, a)| a.vars().any(|w| w == v));
    match (at.next(), at.next()) {
        (Some((n, a)), None)
            if a.divided_by_one() && matches!(a.terms.as_slice(), [(_, c)] if c.as_int() == Some(1)) =>
        {
            Some((n, &a.constant))
        }
        _ => None,
    }
}

/// Every distance at which statements of a recurrence, in their order, read what they write.
pub fn shifts(op: &Op, members: &[Stmt]) -> Result<Vec<Shift>, NoRecurrence> {
    let mut written: BTreeMap<TensorId, Vec<(usize, usize, &Poly)>> = BTreeMap::new();
    for (n, s) in members.iter().enumerate() {
        let fail = || NoRecurrence { span: s.span, tensor: s.target, why: Why::Still };
        let (at, offset) = s.scan.and_then(|t| along(&s.index, t.var)).ok_or_else(fail)?;
        written.entry(s.target).or_default().push((n, at, offset));
    }
    let mut all = Vec::new();
    for (n, s) in members.iter().enumerate() {
        let Some(recurrence) = s.scan else { continue };
        let mut problem = None;
        s.value.reads(&mut |t, index| {
            let fail = |why| NoRecurrence { span: s.span, tensor: t, why };
            for (writer, place, offset) in written.get(&t).into_iter().flatten() {
                let distance = along(index, recurrence.var).filter(|(at, _)| at == place);
                let distance = distance.and_then(|(_, read)| read.add(&offset.neg()?));
                let why = match distance.as_ref().and_then(sign) {
                    None => Some(Why::Elsewhere),
                    Some(Ordering::Equal) => (*writer >= n).then_some(Why::SameIteration),
                    Some(Ordering::Less) => recurrence.backwards.then_some(Why::Later),
                    Some(Ordering::Greater) => (!recurrence.backwards).then_some(Why::Later),
                };
                problem = problem.take().or(why.map(fail));
                let axis = op.tensor(t).axes[*place];
                all.extend(distance.map(|distance| Shift { span: s.span, tensor: t, axis, distance }));
            }
        });
        if let Some(reason) = problem {
            return Err(reason);
        }
    }
    Ok(all)
}

/// Appends the statements of a recurrence to `out`, those that stand in a cycle as recurrences with numbers from `next`
/// on. An error tells of one in a cycle that cannot run one iteration after the other.
pub fn arrange(op: &Op, next: &mut usize, mut group: Vec<Stmt>, out: &mut Vec<Stmt>) -> Result<(), NoRecurrence> {
    let after = dependences(op, &group);
    let reach: Vec<BTreeSet<usize>> = (0..group.len()).map(|n| reachable(&after, n)).collect();
    let cycle = |n: usize| -> Vec<usize> {
        if !reach[n].contains(&n) {
            return vec![n];
        }
        reach[n].iter().copied().filter(|m| reach[*m].contains(&n)).collect()
    };
    // Cycles in the order of their first statements, each when all that it needs is there.
    let mut done: BTreeSet<usize> = BTreeSet::new();
    let mut order: Vec<Vec<usize>> = Vec::new();
    while done.len() < group.len() {
        let ready = (0..group.len()).filter(|n| !done.contains(n)).map(cycle).find(|members| {
            let needed = |m: usize| members.contains(&m) || done.contains(&m);
            (0..group.len()).all(|m| needed(m) || members.iter().all(|n| !after[m].contains(n)))
        });
        let members = ready.expect("cycles are in an order");
        done.extend(&members);
        order.push(members);
    }
    let first: BTreeMap<TensorId, usize> = order.iter().flatten().rev().map(|n| (group[*n].target, *n)).collect();
    for t in sets(&group) {
        if group.iter().filter(|s| s.target == t).all(|s| covers(op, s)) {
            group
                .iter_mut()
                .enumerate()
                .filter(|(_, s)| s.target == t)
                .for_each(|(n, s)| s.accumulate = n != first[&t]);
        }
    }
    for members in order {
        if let [n] = members.as_slice()
            && !reach[*n].contains(n)
        {
            out.push(Stmt { scan: None, ..group[*n].clone() });
            continue;
        }
        let number = |s: &Stmt| Stmt { scan: s.scan.map(|t| Recurrence { scan: *next, ..t }), ..s.clone() };
        let scan: Vec<Stmt> = members.iter().map(|n| number(&group[*n])).collect();
        let scan: Vec<Stmt> = in_turn(&scan).into_iter().map(|n| scan[n].clone()).collect();
        *next += 1;
        shifts(op, &scan)?;
        out.extend(scan);
    }
    Ok(())
}

/// The order of statements within an iteration: sums as late as can be, so that those over the same variables stand
/// together and share their loads.
fn in_turn(members: &[Stmt]) -> Vec<usize> {
    let place = |s: &Stmt, index: &[Affine]| s.scan.and_then(|t| along(index, t.var).map(|(at, c)| (at, c.clone())));
    // What stands before in the list and writes what is read in the same iteration, or is added to.
    let needs = |n: usize, m: usize| {
        let (s, before) = (&members[n], &members[m]);
        let mut found = s.target == before.target;
        let written = place(before, &before.index);
        s.value.reads(&mut |t, index| found |= t == before.target && place(s, index) == written);
        m < n && found
    };
    let mut order: Vec<usize> = Vec::new();
    while order.len() < members.len() {
        let left = (0..members.len()).filter(|n| !order.contains(n));
        let ready = left.filter(|n| (0..members.len()).all(|m| order.contains(&m) || !needs(*n, m)));
        let first = ready.min_by_key(|n| (members[*n].reduce.is_some(), *n));
        order.push(first.expect("the first that is left is ready"));
    }
    order
}

/// For each statement those that need it.
fn dependences(op: &Op, group: &[Stmt]) -> Vec<BTreeSet<usize>> {
    let mut after = vec![BTreeSet::new(); group.len()];
    for (n, s) in group.iter().enumerate() {
        for t in s.reads() {
            for m in (0..group.len()).filter(|m| group[*m].target == t) {
                after[m].insert(n);
            }
        }
    }
    // What is added after a tensor was set comes after it, unless any of the statements could be the one that sets.
    for t in sets(group) {
        let writers: Vec<usize> = (0..group.len()).filter(|n| group[*n].target == t).collect();
        if !writers.iter().all(|n| covers(op, &group[*n])) {
            writers.windows(2).for_each(|w| _ = after[w[0]].insert(w[1]));
        }
    }
    after
}

/// The tensors that some statement sets.
fn sets(group: &[Stmt]) -> BTreeSet<TensorId> {
    group.iter().filter(|s| !s.accumulate).map(|s| s.target).collect()
}

/// Whether a statement writes every element of its target, each once, whatever the sizes.
fn covers(op: &Op, s: &Stmt) -> bool {
    let mut seen = BTreeSet::new();
    let plain = |(a, axis): (&Affine, &AxisId)| a.as_var().is_some_and(|v| s.vars[v.0].axis == *axis && seen.insert(v));
    s.index.iter().zip(&op.tensor(s.target).axes).all(plain)
}

fn reachable(after: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<usize> = after[from].iter().copied().collect();
    while let Some(n) = open.pop() {
        if seen.insert(n) {
            open.extend(&after[n]);
        }
    }
    seen
}

/// Gives every recurrence of a list a number that no other list of the op has.
pub fn renumber(op: &mut Op, stmts: &mut [Stmt]) {
    for unit in units(stmts) {
        if stmts[unit.start].scan.is_none() {
            continue;
        }
        stmts[unit].iter_mut().flat_map(|s| &mut s.scan).for_each(|t| t.scan = op.scans);
        op.scans += 1;
    }
}
