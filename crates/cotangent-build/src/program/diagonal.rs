//! Diagonals into sums: takes the statements of a program's formula, gives the same in which a product that stands
//! beside a sum is its diagonal, where the sum has an operand with nothing there: `a[d] * x[n,d]` and `sum(e) where(e <
//! d, l[d,e], 0) * x[n,e]` become the sum of `t[d,e] * x[n,e]`, with a local `t[d,e] = where(e < d, l[d,e], 0)` to
//! which `t[d,d] += a[d]` is added. A tile computes the terms of the diagonal in any case; without this they are zeros,
//! and a second loop goes over what it has written. Derivatives follow: the cotangent of `a` is the diagonal of that of
//! `t`.
//!
//! Holds after it: each element is the sum of the same terms in another order, less products with zeros on the
//! diagonal; a local has fewer indices than the sum, and a cotangent only where the sum's operand has one without it.

use super::batch::depending;
use super::conditions::{stored, within};
use crate::index::normal::build;
use crate::index::*;
use std::collections::BTreeSet;
use std::ops::{Add, Mul, Neg};

/// The formula with diagonals in its sums, and the calls in it, which stay as they are: they have rules of their own.
/// `wrt`: what derivatives are taken by.
pub(super) fn joined(op: &mut Op, wrt: &[TensorId]) -> (Vec<Stmt>, Vec<Call>) {
    let (forward, mut calls) = (op.forward.clone(), op.calls.clone());
    let moves = depending(&forward, &wrt.iter().copied().collect());
    let called = |n: usize| op.calls.iter().any(|c| c.stmts.contains(&n));
    let pairs: Vec<bool> = (1..forward.len()).map(|n| !called(n - 1) && !called(n)).collect();
    let mut out: Vec<Stmt> = Vec::new();
    // Where each statement stands now.
    let mut places: Vec<usize> = Vec::new();
    while let Some(s) = forward.get(places.len()) {
        let n = places.len();
        places.push(out.len());
        let pair = pairs.get(n).is_some_and(|pair| *pair).then(|| pair(op, &moves, s, &forward[n + 1])).flatten();
        match pair {
            Some(both) => {
                places.push(out.len());
                out.extend(both);
            }
            None => out.push(s.clone()),
        }
    }
    places.push(out.len());
    calls.iter_mut().for_each(|c| c.stmts = places[c.stmts.start]..places[c.stmts.end]);
    (out, calls)
}

/// What two statements that write the same elements become, where one is a sum that takes over products of the other.
fn pair(op: &mut Op, moves: &BTreeSet<TensorId>, first: &Stmt, second: &Stmt) -> Option<Vec<Stmt>> {
    let axes = |s: &Stmt| s.vars[..s.free].iter().map(|v| v.axis).collect::<Vec<_>>();
    let same = (first.target, &first.index, axes(first)) == (second.target, &second.index, axes(second));
    let apart = [first, second].iter().all(|s| s.scan.is_none() && !s.reads().contains(&first.target));
    if !same || !apart || !second.accumulate {
        return None;
    }
    let (sum, beside) = match (first.reduce, second.reduce) {
        (Some(ReduceOp::Sum), None) => (first, second),
        (None, Some(ReduceOp::Sum)) => (second, first),
        _ => return None,
    };
    let Taken { local, value, rest } = taken_over(op, moves, sum, &beside.value)?;
    let of_both = match rest {
        // It is alone, in the place of both.
        None => vec![Stmt { value, accumulate: first.accumulate, ..sum.clone() }],
        Some(rest) => {
            let (sum, rest) = (Stmt { value, ..sum.clone() }, Stmt { value: rest, ..beside.clone() });
            if first.reduce.is_some() { vec![sum, rest] } else { vec![rest, sum] }
        }
    };
    Some(local.into_iter().chain(of_both).collect())
}

/// A sum that has taken over products beside it.
struct Taken {
    /// What makes the operand.
    local: [Stmt; 2],
    /// Of the sum.
    value: Expr,
    /// What is left beside it.
    rest: Option<Expr>,
}

/// A sum with what it takes over of the value beside it.
fn taken_over(op: &mut Op, moves: &BTreeSet<TensorId>, sum: &Stmt, beside: &Expr) -> Option<Taken> {
    let [_] = sum.vars[sum.free..] else { return None };
    let bound = VarId(sum.free);
    let (negative, factors) = factors(&sum.value);
    let own = (0..sum.free).map(VarId).filter(|v| sum.vars[v.0].axis == sum.vars[bound.0].axis);
    let tries = own.flat_map(|free| (0..factors.len()).map(move |n| (Diagonal { bound, free }, n)));
    let (diagonal, n, a, rest) = tries.into_iter().find_map(|(diagonal, n)| {
        let operand = factors[n];
        if diagonal.meets(&sum.value) || !diagonal.is_free_of(operand) || !within(op, sum, operand) {
            return None;
        }
        let fits = |a: &Expr| {
            let vars: BTreeSet<VarId> = &operand.vars() | &a.vars();
            within(op, sum, a) && vars.len() < sum.vars.len() && (!reads(a, moves) || reads(operand, moves))
        };
        let others: Vec<Expr> = others(&factors, n).map(|f| diagonal.of(f)).collect();
        let (mut taken, mut rest) = (Vec::new(), Vec::new());
        for (minus, term) in terms(beside) {
            match without(term, &others).filter(fits) {
                Some(a) => taken.push(signed(a, minus != negative)),
                None => rest.push(signed(term.clone(), minus)),
            }
        }
        Some((diagonal, n, taken.into_iter().reduce(Expr::add)?, rest.into_iter().reduce(Expr::add)))
    })?;
    let operand = factors[n].clone();
    let order = stored(&operand.clone().add(a.clone()));
    let axes = order.iter().map(|v| sum.vars[v.0].axis).collect();
    let t = op.add_tensor("t", axes, Role::RuleLocal, sum.span);
    let index: Vec<Affine> = order.into_iter().map(Affine::var).collect();
    let read = Expr::Read(t, index.clone());
    let product = factors.iter().enumerate().map(|(m, f)| if m == n { read.clone() } else { (*f).clone() });
    let value = signed(product.reduce(Expr::mul).expect("a factor"), negative);
    let there = index.iter().map(|a| diagonal.at(a)).collect();
    let make = |index, adds, value| build(t, index, adds, &sum.vars, None, value, sum.span);
    Some(Taken { local: [make(index, false, operand), make(there, true, a)], value, rest })
}

fn signed(e: Expr, minus: bool) -> Expr {
    if minus { e.neg() } else { e }
}

/// Whether a value reads one of the tensors.
fn reads(e: &Expr, any: &BTreeSet<TensorId>) -> bool {
    let mut found = false;
    e.reads(&mut |t, _| found |= any.contains(&t));
    found
}

/// The coordinates at which the variable of a sum is one of its target's.
#[derive(Clone, Copy)]
struct Diagonal {
    bound: VarId,
    free: VarId,
}

impl Diagonal {
    /// A position there.
    fn at(&self, a: &Affine) -> Affine {
        a.rename(&|v| if v == self.bound { self.free } else { v })
    }

    /// A value there.
    fn of(&self, e: &Expr) -> Expr {
        e.moved(&|a| self.at(a))
    }

    /// Whether both variables meet in one position: there is no such position on the diagonal.
    fn meets(&self, e: &Expr) -> bool {
        let mut both = false;
        e.positions(&mut |a| both |= [self.bound, self.free].iter().all(|v| a.vars().any(|w| w == *v)));
        both
    }

    /// Whether a value is a choice by both coordinates that is zero there.
    fn is_free_of(&self, e: &Expr) -> bool {
        matches!(e, Expr::Where(..)) && self.is_zero(e)
    }

    fn is_zero(&self, e: &Expr) -> bool {
        let Expr::Where(c, a, b) = e else { return e.is_zero() };
        match self.holds(c) {
            Some(true) => self.is_zero(a),
            Some(false) => self.is_zero(b),
            None => false,
        }
    }

    /// What is known of a condition there. A group without dimensions has but one coordinate, at which `<` holds too:
    /// the terms are added, so they are right there as well.
    fn holds(&self, c: &Cond) -> Option<bool> {
        match c {
            Cond::Index(op, a, b) => {
                let mut vars = [a.as_var()?, b.as_var()?];
                vars.sort();
                let mut both = [self.bound, self.free];
                both.sort();
                (vars == both).then(|| op.holds(&0, &0))
            }
            Cond::Not(c) => self.holds(c).map(|holds| !holds),
            Cond::And(a, b) => match (self.holds(a), self.holds(b)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (a, b) => Some(a? && b?),
            },
            Cond::Or(a, b) => match (self.holds(a), self.holds(b)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (a, b) => Some(a? || b?),
            },
            Cond::Value(..) | Cond::Inside(..) => None,
        }
    }
}

/// The terms of a sum, and whether each is taken from it.
fn terms(e: &Expr) -> Vec<(bool, &Expr)> {
    fn go<'a>(e: &'a Expr, minus: bool, out: &mut Vec<(bool, &'a Expr)>) {
        match e {
            Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) => {
                go(a, minus, out);
                go(b, minus != (*f == Binary::Sub), out);
            }
            Expr::Unary(Unary::Neg, a) => go(a, !minus, out),
            e => out.push((minus, e)),
        }
    }
    let mut out = Vec::new();
    go(e, false, &mut out);
    out
}

/// The factors of a product, and whether it is negative.
fn factors(e: &Expr) -> (bool, Vec<&Expr>) {
    match e {
        Expr::Unary(Unary::Neg, a) => {
            let (negative, all) = factors(a);
            (!negative, all)
        }
        Expr::Binary(Binary::Mul, a, b) => {
            let ((p, a), (q, b)) = (factors(a), factors(b));
            (p != q, [a, b].concat())
        }
        e => (false, vec![e]),
    }
}

/// All factors but one.
fn others<'a>(factors: &'a [&'a Expr], n: usize) -> impl Iterator<Item = &'a Expr> {
    factors.iter().enumerate().filter(move |(m, _)| *m != n).map(|(_, f)| *f)
}

/// What stands beside the factors given, each once, in a product that has them all.
fn without(term: &Expr, given: &[Expr]) -> Option<Expr> {
    let (negative, mut left) = factors(term);
    for f in given {
        left.remove(left.iter().position(|own| *own == f)?);
    }
    let rest = left.into_iter().cloned().reduce(Expr::mul).unwrap_or_else(Expr::one);
    Some(signed(rest, negative))
}
