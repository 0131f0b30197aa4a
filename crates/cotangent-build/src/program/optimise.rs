//! Less to compute: takes the statements of an entry point, gives fewer that write the same results.
//!
//! Holds after it: copies and broadcasts stand in no tensor, a step that one other alone reads element by element is part of it, what two
//! statements compute alike is computed once, and what no result needs is gone. Steps of a recurrence stay as they are.

use crate::derive;
use crate::index::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// What the results need, made small.
pub(super) fn optimise(op: &mut Op, stmts: &[Stmt], results: &[TensorId]) -> Vec<Stmt> {
    let wanted: BTreeSet<TensorId> = results.iter().copied().collect();
    let mut stmts = derive::live(stmts, &wanted);
    loop {
        let before = stmts.len();
        shared(op, &mut stmts, &wanted);
        while inlined(op, &mut stmts, &wanted) {}
        stmts = derive::live(&stmts, &wanted);
        if stmts.len() == before {
            scan::renumber(op, &mut stmts);
            return stmts;
        }
    }
}

/// The statement with expressions replaced, innermost first, and what zeros and ones leave of the value.
pub(super) fn with_value(s: &Stmt, f: &impl Fn(&Expr) -> Option<Expr>) -> Stmt {
    let value = s.value.map(&Affine::clone, &mut |e| match f(&e).unwrap_or(e) {
        Expr::Unary(Unary::Neg, a) => a.neg(),
        Expr::Binary(Binary::Add, a, b) => a.add(*b),
        Expr::Binary(Binary::Sub, a, b) => a.sub(*b),
        Expr::Binary(Binary::Mul, a, b) => a.mul(*b),
        Expr::Binary(Binary::Div, a, b) => a.div(*b),
        Expr::Where(_, a, b) if a == b => *a,
        e => e,
    });
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
    let mut first: Vec<usize> = Vec::new();
    for (n, _) in makers(op, stmts, results) {
        let s = &stmts[n];
        if s.accumulate {
            continue;
        }
        let axes = |s: &Stmt| s.vars.iter().map(|v| v.axis).collect::<Vec<_>>();
        let same = |m: &&usize| {
            let o: &Stmt = &stmts[**m];
            let alike = (&o.index, o.free, &o.reduce, &o.value) == (&s.index, s.free, &s.reduce, &s.value);
            let steady = |t: &TensorId| !stmts[**m + 1..n].iter().any(|w| w.target == *t);
            alike && axes(o) == axes(s) && derive::reads(s).iter().all(steady)
        };
        match first.iter().find(same) {
            Some(m) => {
                let (from, to) = (s.target, stmts[*m].target);
                for s in &mut stmts[n + 1..] {
                    let renamed = |e: &Expr| match e {
                        Expr::Read(t, index) if *t == from => Some(Expr::Read(to, index.clone())),
                        _ => None,
                    };
                    *s = with_value(s, &renamed);
                    s.value = inside_of(&s.value, from, to);
                }
            }
            None => first.push(n),
        }
    }
}

/// Conditions on the bounds of a tensor, asked of another of the same axes.
fn inside_of(e: &Expr, from: TensorId, to: TensorId) -> Expr {
    fn cond(c: &Cond, from: TensorId, to: TensorId) -> Cond {
        match c {
            Cond::Inside(t, index) if *t == from => Cond::Inside(to, index.clone()),
            Cond::And(a, b) => Cond::And(Box::new(cond(a, from, to)), Box::new(cond(b, from, to))),
            Cond::Or(a, b) => Cond::Or(Box::new(cond(a, from, to)), Box::new(cond(b, from, to))),
            Cond::Not(a) => Cond::Not(Box::new(cond(a, from, to))),
            c => c.clone(),
        }
    }
    e.map(&Affine::clone, &mut |e| match e {
        Expr::Where(c, a, b) => Expr::Where(Box::new(cond(&c, from, to)), a, b),
        e => e,
    })
}

/// Puts one step into those that read it; whether there was one.
fn inlined(op: &Op, stmts: &mut Vec<Stmt>, results: &BTreeSet<TensorId>) -> bool {
    for (n, vars) in makers(op, stmts, results) {
        let s = &stmts[n];
        if s.reduce.is_some() || !within(op, s) {
            continue;
        }
        let readers: Vec<usize> =
            (n + 1..stmts.len()).filter(|m| derive::reads(&stmts[*m]).contains(&s.target)).collect();
        let Some(last) = readers.last() else { continue };
        let steady = derive::reads(s).iter().all(|t| !stmts[n + 1..=*last].iter().any(|w| w.target == *t));
        let places = |m: usize| {
            let mut all = Vec::new();
            stmts[m].value.reads(&mut |t, index| all.extend((t == s.target).then(|| index.to_vec())));
            all
        };
        let mut asked = false;
        stmts.iter().for_each(|o| asks(&o.value, s.target, &mut asked));
        let axes = &op.tensor(s.target).axes;
        let inside = |m: usize| {
            let own = |a: &Affine, axis: &AxisId| a.as_var().is_some_and(|v| stmts[m].vars[v.0].axis == *axis);
            places(m).iter().all(|index| index.iter().zip(axes).all(|(a, axis)| own(a, axis)))
        };
        if !steady || asked || readers.iter().any(|m| stmts[*m].scan.is_some() || !inside(*m)) {
            continue;
        }
        let free = matches!(&s.value, Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..));
        // Read once for each of its elements by one other step: nothing is computed twice.
        let once = || match (readers.as_slice(), places(readers[0]).as_slice()) {
            ([m], [index]) => {
                index.iter().filter_map(Affine::as_var).collect::<BTreeSet<_>>().len() == stmts[*m].vars.len()
            }
            _ => false,
        };
        if !free && !once() {
            continue;
        }
        let (value, target) = (s.value.clone(), s.target);
        for m in readers {
            let put = |e: &Expr| match e {
                Expr::Read(t, index) if *t == target => {
                    let at = |v: VarId| {
                        let place = vars
                            .iter()
                            .position(|w| *w == v)
                            .expect("the variables of a step without a sum are its indices");
                        index[place].as_var().expect("checked above")
                    };
                    Some(value.map(&|a| a.rename(&at), &mut |e| e))
                }
                _ => None,
            };
            stmts[m] = with_value(&stmts[m], &put);
        }
        stmts.remove(n);
        return true;
    }
    false
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

/// Whether a condition asks for the bounds of a tensor.
fn asks(e: &Expr, of: TensorId, found: &mut bool) {
    fn cond(c: &Cond, of: TensorId, found: &mut bool) {
        match c {
            Cond::Inside(t, _) => *found |= *t == of,
            Cond::And(a, b) | Cond::Or(a, b) => {
                cond(a, of, found);
                cond(b, of, found);
            }
            Cond::Not(a) => cond(a, of, found),
            Cond::Index(..) | Cond::Value(..) => {}
        }
    }
    e.visit(&mut |e| {
        if let Expr::Where(c, ..) = e {
            cond(c, of, found);
        }
    });
}

/// The way back, with locals of the forward formula computed again where a checkpoint asks for that, or where that costs less than keeping them:
/// a few operations an element on what is kept anyway.
pub(super) fn recomputed(op: &mut Op, back: Vec<Stmt>, checkpoints: &BTreeMap<TensorId, Checkpoint>) -> Vec<Stmt> {
    let forward = op.forward.clone();
    let read: BTreeSet<TensorId> = back.iter().flat_map(derive::reads).collect();
    let kept = |op: &Op, t: &TensorId| op.tensor(*t).role == Role::Input || read.contains(t);
    let mut again: BTreeSet<TensorId> = BTreeSet::new();
    for t in op.with_role(Role::Local) {
        let makers: Vec<&Stmt> = forward.iter().filter(|s| s.target == t).collect();
        let in_turn = makers.iter().any(|s| s.scan.is_some());
        let cheap = match makers.as_slice() {
            [s] => s.reduce.is_none() && cheap(&s.value) && derive::reads(s).iter().all(|r| kept(op, r) && *r != t),
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
            needed.extend(derive::reads(s).intersection(&again));
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
        let at = out.iter().position(|o| derive::reads(o).contains(&s.target)).unwrap_or(out.len());
        out.insert(at, s);
    }
    out
}

/// A few instructions.
fn cheap(e: &Expr) -> bool {
    let (mut operations, mut dear) = (0, false);
    e.visit(&mut |e| match e {
        Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..) => {}
        Expr::Unary(Unary::Neg | Unary::Abs, _) => operations += 1,
        Expr::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Max | Binary::Min, ..) => operations += 1,
        _ => dear = true,
    });
    !dear && operations <= 3
}
