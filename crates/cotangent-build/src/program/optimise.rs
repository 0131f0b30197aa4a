//! Less to compute: takes the statements of an entry point, gives fewer that write the same results.
//!
//! Holds after it: copies and broadcasts stand in no tensor, a step that one other alone reads element by element is
//! part of it, what two statements compute alike is computed once, and what no result needs is gone. Steps of a
//! recurrence stay as they are.

use crate::derive;
use crate::functions::Cost;
use crate::index::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// What the results need, made small.
pub(super) fn optimise(op: &mut Op, stmts: &[Stmt], results: &[TensorId]) -> Vec<Stmt> {
    let wanted: BTreeSet<TensorId> = results.iter().copied().collect();
    let mut stmts = derive::live(stmts, &wanted);
    loop {
        let before = stmts.len();
        shared(op, &mut stmts, &wanted);
        inlined(op, &mut stmts, &wanted);
        stmts = derive::live(&stmts, &wanted);
        if stmts.len() == before {
            scan::renumber(op, &mut stmts);
            return stmts;
        }
    }
}

/// The statement with expressions replaced, innermost first, and what zeros and ones leave of the value.
pub(super) fn with_value(s: &Stmt, f: &impl Fn(&Expr) -> Option<Expr>) -> Stmt {
    let value = s.value.map(&mut |e| f(&e).unwrap_or(e).settled());
    // A reduction of zeros is still one: its loops cost nothing that `live` does not find.
    Stmt { value, ..s.clone() }
}

/// The variables of a target that are its indices, one each.
fn plain(op: &Op, s: &Stmt) -> Option<Vec<VarId>> {
    let vars: Vec<VarId> = s.index.iter().map(Affine::as_var).collect::<Option<_>>()?;
    let distinct: BTreeSet<VarId> = vars.iter().copied().collect();
    let own = vars.iter().zip(&op.tensor(s.target).axes).all(|(v, a)| s.vars[v.0].axis == *a);
    (own && distinct.len() == vars.len()).then_some(vars)
}

/// The one statement that makes a tensor: whole, and stored.
fn makers(op: &Op, stmts: &[Stmt], results: &BTreeSet<TensorId>) -> Vec<(usize, Vec<VarId>)> {
    let mut writes: BTreeMap<TensorId, usize> = BTreeMap::new();
    stmts.iter().for_each(|s| *writes.entry(s.target).or_insert(0) += 1);
    let alone = |s: &Stmt| writes[&s.target] == 1 && !results.contains(&s.target);
    let maker =
        |(n, s): (usize, &Stmt)| (alone(s) && s.scan.is_none()).then(|| plain(op, s)).flatten().map(|vars| (n, vars));
    stmts.iter().enumerate().filter_map(maker).collect()
}

/// What two statements make alike is made once.
fn shared(op: &Op, stmts: &mut [Stmt], results: &BTreeSet<TensorId>) {
    let mut first: HashMap<String, Vec<usize>> = HashMap::new();
    // What was made before, for each tensor that is no longer read.
    let mut renamed: BTreeMap<TensorId, TensorId> = BTreeMap::new();
    let writers = writers(stmts);
    let makers: BTreeSet<usize> = makers(op, stmts, results).into_iter().map(|(n, _)| n).collect();
    for n in 0..stmts.len() {
        if stmts[n].reads().iter().chain(&asked(&stmts[n])).any(|t| renamed.contains_key(t)) {
            let put = |e: &Expr| match e {
                Expr::Read(t, index) => renamed.get(t).map(|to| Expr::Read(*to, index.clone())),
                _ => None,
            };
            stmts[n] = with_value(&stmts[n], &put);
            stmts[n].value = inside_of(&stmts[n].value, &renamed);
        }
        let s = &stmts[n];
        if !makers.contains(&n) || s.accumulate {
            continue;
        }
        let axes: Vec<AxisId> = s.vars.iter().map(|v| v.axis).collect();
        let steady = |m: usize| s.reads().iter().all(|t| !between(&writers, *t, m + 1..n));
        let alike = first.entry(format!("{:?}", (&s.index, s.free, &s.reduce, &s.value, axes))).or_default();
        match alike.iter().find(|m| steady(**m)) {
            Some(m) => _ = renamed.insert(s.target, stmts[*m].target),
            None => alike.push(n),
        }
    }
}

/// The statements that write each tensor, in order.
fn writers(stmts: &[Stmt]) -> BTreeMap<TensorId, Vec<usize>> {
    let mut all: BTreeMap<TensorId, Vec<usize>> = BTreeMap::new();
    stmts.iter().enumerate().for_each(|(n, s)| all.entry(s.target).or_default().push(n));
    all
}

/// Whether one of the statements writes the tensor.
fn between(writers: &BTreeMap<TensorId, Vec<usize>>, t: TensorId, range: Range<usize>) -> bool {
    let all = writers.get(&t).map_or(&[][..], Vec::as_slice);
    all.get(all.partition_point(|n| *n < range.start)).is_some_and(|n| *n < range.end)
}

/// Conditions on the bounds of a tensor, asked of another of the same axes.
fn inside_of(e: &Expr, renamed: &BTreeMap<TensorId, TensorId>) -> Expr {
    let mut e = e.clone();
    e.change(&mut |part| {
        if let walk::PartMut::Cond(Cond::Inside(t, _)) = part {
            *t = renamed.get(t).copied().unwrap_or(*t);
        }
    });
    e
}

/// Values of more nodes than this are not put into others: who reads the output, and who compiles it, goes in as deep
/// as they are.
const LARGEST: usize = 200;

fn nodes(e: &Expr) -> usize {
    let mut count = 0;
    e.visit(&mut |_| count += 1);
    count
}

/// Puts steps into those that read them, as long as there are some.
fn inlined(op: &Op, all: &mut Vec<Stmt>, results: &BTreeSet<TensorId>) {
    let makers: BTreeMap<usize, Vec<VarId>> = makers(op, all, results).into_iter().collect();
    let made: BTreeMap<TensorId, usize> = makers.keys().map(|n| (all[*n].target, *n)).collect();
    let writers = writers(all);
    // A step that is put into another asks for nothing that was not asked before.
    let asked: BTreeSet<TensorId> = all.iter().flat_map(asked).collect();
    let mut readers: BTreeMap<TensorId, BTreeSet<usize>> = BTreeMap::new();
    for (n, s) in all.iter().enumerate() {
        s.reads().into_iter().for_each(|t| _ = readers.entry(t).or_default().insert(n));
    }
    let mut stmts: Vec<Option<Stmt>> = std::mem::take(all).into_iter().map(Some).collect();
    let mut open: BTreeSet<usize> = makers.keys().copied().collect();
    while let Some(n) = open.pop_first() {
        let fits = |s: &&Stmt| s.reduce.is_none() && !asked.contains(&s.target) && within(op, s);
        let Some(s) = stmts[n].as_ref().filter(fits) else { continue };
        let own: Vec<usize> =
            readers.get(&s.target).map_or(Vec::new(), |all| all.iter().copied().filter(|m| *m > n).collect());
        let Some(last) = own.last() else { continue };
        let reads = s.reads();
        let at = |m: usize| stmts[m].as_ref().expect("who reads is there");
        let places = |m: usize| {
            let mut all = Vec::new();
            at(m).value.reads(&mut |t, index| all.extend((t == s.target).then(|| index.to_vec())));
            all
        };
        let axes = &op.tensor(s.target).axes;
        let inside = |m: usize| {
            let own = |a: &Affine, axis: &AxisId| a.as_var().is_some_and(|v| at(m).vars[v.0].axis == *axis);
            places(m).iter().all(|index| index.iter().zip(axes).all(|(a, axis)| own(a, axis)))
        };
        let steady = reads.iter().all(|t| !between(&writers, *t, n + 1..last + 1));
        if !steady || own.iter().any(|m| at(*m).scan.is_some() || !inside(*m)) {
            continue;
        }
        let free = matches!(&s.value, Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..));
        // Read once for each of its elements by one other step: nothing is computed twice.
        let once = || match (own.as_slice(), places(own[0]).as_slice()) {
            ([m], [index]) => {
                let whole = index.iter().filter_map(Affine::as_var).collect::<BTreeSet<_>>().len() == at(*m).vars.len();
                whole && nodes(&s.value) + nodes(&at(*m).value) <= LARGEST
            }
            _ => false,
        };
        if !free && !once() {
            continue;
        }
        let (vars, s) = (&makers[&n], stmts[n].take().expect("it is there"));
        for m in own {
            let put = |e: &Expr| match e {
                Expr::Read(t, index) if *t == s.target => {
                    let at = |v: VarId| {
                        let place = vars
                            .iter()
                            .position(|w| *w == v)
                            .expect("the variables of a step without a sum are its indices");
                        index[place].as_var().expect("checked above")
                    };
                    Some(s.value.moved(&|a| a.rename(&at)))
                }
                _ => None,
            };
            let before = stmts[m].take().expect("who reads is there");
            let after = with_value(&before, &put);
            let (old, new) = (before.reads(), after.reads());
            old.difference(&new).for_each(|t| _ = readers.entry(*t).or_default().remove(&m));
            new.difference(&old).for_each(|t| _ = readers.entry(*t).or_default().insert(m));
            // What it reads has other readers now, or is read otherwise.
            open.extend(old.union(&new).filter_map(|t| made.get(t)));
            open.extend(makers.contains_key(&m).then_some(m));
            stmts[m] = Some(after);
        }
        for t in reads {
            readers.entry(t).or_default().remove(&n);
            open.extend(made.get(&t));
        }
    }
    *all = stmts.into_iter().flatten().collect();
}

/// Whether every element that the step reads is there, whatever the sizes.
fn within(op: &Op, s: &Stmt) -> bool {
    let mut all = true;
    s.value.reads(&mut |t, index| {
        let axes = &op.tensor(t).axes;
        all &= index.iter().zip(axes).all(|(a, axis)| a.as_var().is_some_and(|v| s.vars[v.0].axis == *axis));
    });
    all
}

/// The tensors whose bounds conditions of a statement ask for.
fn asked(s: &Stmt) -> BTreeSet<TensorId> {
    let mut found = BTreeSet::new();
    s.value.insides(&mut |t| _ = found.insert(t));
    found
}

/// The way back, with locals of the forward formula computed again where a checkpoint asks for that, or where that
/// costs less than keeping them: a few operations an element on what is kept anyway.
pub(super) fn recomputed(op: &mut Op, back: Vec<Stmt>, checkpoints: &BTreeMap<TensorId, Checkpoint>) -> Vec<Stmt> {
    let forward = op.forward.clone();
    let read: BTreeSet<TensorId> = back.iter().flat_map(Stmt::reads).collect();
    let kept = |op: &Op, t: &TensorId| op.tensor(*t).role == Role::Input || read.contains(t);
    let mut again: BTreeSet<TensorId> = BTreeSet::new();
    for t in op.with_role(Role::Local) {
        let makers: Vec<&Stmt> = forward.iter().filter(|s| s.target == t).collect();
        let in_turn = makers.iter().any(|s| s.scan.is_some());
        let cheap = match makers.as_slice() {
            [s] => s.reduce.is_none() && cheap(&s.value) && s.reads().iter().all(|r| kept(op, r) && *r != t),
            _ => false,
        };
        match checkpoints.get(&t) {
            Some(Checkpoint::Save) => {}
            Some(Checkpoint::Recompute) if !in_turn => _ = again.insert(t),
            _ if cheap && !in_turn => _ = again.insert(t),
            _ => {}
        }
    }
    // The steps that make them, under names of their own.
    let mut needed: BTreeSet<TensorId> = read.intersection(&again).copied().collect();
    let mut steps: Vec<Stmt> = Vec::new();
    for s in forward.iter().rev().filter(|s| s.scan.is_none()) {
        if needed.contains(&s.target) {
            needed.extend(s.reads().intersection(&again));
            steps.push(s.clone());
        }
    }
    steps.reverse();
    let mut copies: BTreeMap<TensorId, TensorId> = BTreeMap::new();
    for t in needed {
        let Tensor { name, axes, span, .. } = op.tensor(t).clone();
        copies.insert(t, op.add_tensor(&format!("{name}_again"), axes, Role::RuleLocal, span));
    }
    let copied = |s: &Stmt| {
        let renamed = |e: &Expr| match e {
            Expr::Read(t, index) => copies.get(t).map(|u| Expr::Read(*u, index.clone())),
            _ => None,
        };
        let value = with_value(s, &renamed).value;
        Stmt { value, target: copies.get(&s.target).copied().unwrap_or(s.target), ..s.clone() }
    };
    // Each as late as can be: before the first that reads it.
    let mut out: Vec<Stmt> = back.iter().map(copied).collect();
    for s in steps.iter().rev().map(copied) {
        let at = out.iter().position(|o| o.reads().contains(&s.target)).unwrap_or(out.len());
        out.insert(at, s);
    }
    out
}

/// A few instructions.
fn cheap(e: &Expr) -> bool {
    let (mut operations, mut expensive) = (0, false);
    e.visit(&mut |e| match e {
        Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..) => {}
        // Computed again it must cost less than the element that would be loaded.
        Expr::Unary(f, _) if f.cost() <= Cost::Extremum => operations += 1,
        Expr::Binary(f, ..) if f.cost() <= Cost::Extremum => operations += 1,
        _ => expensive = true,
    });
    !expensive && operations <= 3
}
