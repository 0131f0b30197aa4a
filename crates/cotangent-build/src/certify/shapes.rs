//! Shapes to test rules at: takes an op, gives bindings, smallest first: groups of rank 0, 1 and 2, pairwise distinct
//! extents so that a swapped axis shows, parameters above 1 and asymmetric, sizes that do not divide, and each axis
//! longer than each other one somewhere, so that a loop over the wrong axis falls short there.

use super::Sampler;
use crate::index::bind::{BindError, Binding, ParamValue};
use crate::index::*;
use std::collections::BTreeSet;

/// The shapes of a certificate. None where no small one with dimensions is found.
pub fn sample(op: &Op) -> Vec<Binding> {
    let classes: Vec<usize> = op.axes.iter().map(|a| a.rank_class).collect::<BTreeSet<_>>().into_iter().collect();
    let least = least(op);
    // Elements that are told apart by number stand in one dimension.
    let numbered = |c: usize| op.axes.iter().zip(&least).any(|(a, n)| a.rank_class == classes[c] && *n > 0);
    let mut ranks: Vec<Vec<usize>> = vec![vec![1; classes.len()]];
    for special in [0, 2] {
        for c in (0..classes.len()).filter(|c| !numbered(*c)) {
            let mut r = vec![1; classes.len()];
            r[c] = special;
            ranks.push(r);
        }
    }
    let all = |rank: usize| (0..classes.len()).map(|c| if numbered(c) { 1 } else { rank }).collect::<Vec<_>>();
    ranks.push(all(0));
    if classes.len() == 2 {
        ranks.push(all(2));
    }
    let mut shapes: Vec<Binding> = Vec::new();
    for (n, r) in ranks.iter().enumerate() {
        // Two settings of parameters and extents at the plainest ranks.
        for variant in 0..if n == 0 { 2 } else { 1 } {
            let rank = |a: &Axis| classes.iter().position(|c| *c == a.rank_class).map_or(1, |c| r[c]);
            shapes.extend(grow(op, &rank, variant, &least));
        }
    }
    shapes.extend(orders(op, &least));
    let far = far(op);
    if far.iter().any(|n| *n > 0) {
        let wide: Vec<i64> = far.iter().zip(&least).map(|(a, b)| *a.max(b)).collect();
        shapes.extend(grow(op, &|_| 1, 0, &wide).filter(|b| work(op, b) <= MAX_FAR));
    }
    let elements = |b: &Binding| -> usize { (0..op.tensors.len()).map(|t| b.elements(op, TensorId(t))).sum() };
    // Groups of one dimension first: a counterexample there reads best.
    shapes.sort_by_key(|b| (b.extents.iter().any(|e| e.len() != 1), elements(b)));
    shapes.dedup_by(|a, b| a.extents == b.extents && a.params == b.params);
    shapes
        .retain(|b| named(&least, b) && b.unusable(op).is_none() && elements(b) <= MAX_WORK && work(op, b) <= MAX_WORK);
    // Scalars alone prove nothing about indices.
    if !shapes.iter().any(|b| b.extents.iter().all(|e| e.len() == 1)) {
        shapes.clear();
    }
    shapes
}

/// The least extent at which each axis has every element that a rule names by number; 0 where none does.
fn least(op: &Op) -> Vec<i64> {
    op.numbered().into_iter().map(|n| n.map_or(0, |n| n.saturating_add(1))).collect()
}

/// Whether every element that a rule names by number is there, and no two of them are one.
fn named(least: &[i64], b: &Binding) -> bool {
    least.iter().zip(&b.extents).all(|(least, e)| *least == 0 || e.len() == 1 && e[0] as i64 >= *least)
}

/// Numbers that small shapes reach anyhow.
const NEAR: i64 = 4;
/// The most terms of a shape that is as wide as numbers in indices ask for.
const MAX_FAR: usize = 1 << 18;

/// The extents at which numbers that are compared with coordinates, or added to positions, lie within; 0 where none is
/// far.
fn far(op: &Op) -> Vec<i64> {
    let mut far = vec![0; op.axes.len()];
    let mut need = |axis: AxisId, number: i64| {
        if number > NEAR {
            far[axis.0] = far[axis.0].max(number.saturating_add(2));
        }
    };
    // The variables of a sum that comes to zero beside a number.
    fn sum(s: &Stmt, a: &Affine, constant: i64, need: &mut impl FnMut(AxisId, i64)) {
        for (v, c) in &a.terms {
            if let Some(c) = c.as_int().filter(|c| *c != 0) {
                need(s.vars[v.0].axis, constant.saturating_abs() / c.saturating_abs());
            }
        }
    }
    fn cond(s: &Stmt, c: &Cond, need: &mut impl FnMut(AxisId, i64)) {
        c.tests(&mut |c| {
            if let Cond::Index(_, a, b) = c
                && let Some(d) = a.constant.as_int().zip(b.constant.as_int()).and_then(|(a, b)| a.checked_sub(b))
            {
                [a, b].into_iter().for_each(|side| sum(s, side, d, need));
            }
        });
    }
    for s in op.forward.iter().chain(&op.adjoint.stmts).chain(&op.tangent.stmts) {
        let mut position = |t: TensorId, index: &[Affine]| {
            for (axis, a) in op.tensor(t).axes.iter().zip(index).filter(|(_, a)| !a.terms.is_empty()) {
                if let Some(k) = a.constant.as_int() {
                    need(*axis, k.saturating_abs());
                    sum(s, a, k, &mut need);
                }
            }
        };
        position(s.target, &s.index);
        s.value.reads(&mut position);
        s.value.visit(&mut |e| {
            if let Expr::Where(c, ..) = e {
                cond(s, c, &mut need);
            }
        });
    }
    far
}

/// The most terms, and the most elements, that a shape may have: a certificate takes milliseconds.
const MAX_WORK: usize = 1 << 21;

/// The terms that the statements of an op evaluate.
fn work(op: &Op, b: &Binding) -> usize {
    [&op.forward, &op.adjoint.stmts, &op.tangent.stmts].into_iter().fold(0, |n, s| n.saturating_add(terms(s, b)))
}

/// The terms that statements evaluate.
pub fn terms(stmts: &[Stmt], b: &Binding) -> usize {
    let of = |s: &Stmt| s.vars.iter().fold(1usize, |n, v| n.saturating_mul(b.count(v.axis)));
    stmts.iter().fold(0, |n, s| n.saturating_add(of(s)))
}

/// Random bindings of rank 1 in which every axis is the shorter of every pair a few times, where that can be: a read
/// outside is zero, so a loop that is too long does no harm, and only one that is too short tells. Parameters are 1 at
/// every fourth try: wide strides and paddings leave derived axes that read nothing.
fn orders(op: &Op, least: &[i64]) -> Vec<Binding> {
    let axes = op.axes.len();
    let mut seen = vec![0; axes * axes];
    let mut sampler = Sampler::new(2);
    let mut draw = |n: u64| 1 + (sampler.bits() % n) as i64;
    let mut found = Vec::new();
    // Some pairs have one order only: it ends when nothing new comes up for a while.
    let mut idle = if axes < 2 { 32 } else { 0 };
    for n in 0..128 {
        if idle == 32 {
            break;
        }
        idle += 1;
        let given: Vec<_> = op
            .axes
            .iter()
            .zip(least)
            .map(|(a, least)| a.size.is_none().then(|| vec![(least - 1).max(0) + draw(6)]))
            .collect();
        let params = op.params.iter().map(|p| match p.kind {
            ParamKind::PerDim(_) => ParamValue::Ints(vec![draw(1 + n % 4)]),
            ParamKind::Int => ParamValue::Int(draw(1 + n % 4)),
            ParamKind::Real => ParamValue::Real(0.25 * draw(8) as f64),
        });
        let Ok(binding) = Binding::new(op, &given, params.collect()) else { continue };
        let shorter = |pair: usize| binding.extents[pair / axes] < binding.extents[pair % axes];
        let new: Vec<usize> = (0..axes * axes).filter(|p| shorter(*p) && seen[*p] < 3).collect();
        if !new.is_empty() {
            new.into_iter().for_each(|pair| seen[pair] += 1);
            found.push(binding);
            idle = 0;
        }
    }
    found
}

/// A binding of the given ranks; extents grow until every derived size is at least 2, or as much as numbers ask for.
fn grow(op: &Op, rank: &impl Fn(&Axis) -> usize, variant: usize, least: &[i64]) -> Option<Binding> {
    let mut given: Vec<Option<Vec<i64>>> = Vec::new();
    let mut taken = BTreeSet::new();
    for (axis, least) in op.axes.iter().zip(least) {
        let mut fresh = || (2.max(*least)..).find(|n| taken.insert(*n)).expect("numbers do not run out");
        given.push(axis.size.is_none().then(|| (0..rank(axis)).map(|_| fresh()).collect()));
    }
    if variant == 1 {
        // Another order of the same extents, but of those that numbers decide.
        let free = given.iter_mut().zip(least).filter(|(_, least)| **least == 0);
        let mut all: Vec<&mut i64> = free.flat_map(|(e, _)| e).flatten().collect();
        let sizes: Vec<i64> = all.iter().rev().map(|n| **n + 1).collect();
        all.iter_mut().zip(sizes).for_each(|(n, size)| **n = size);
    }
    let integer = |p: usize, d: usize| 2 + ((p + 2 * d + variant) % 3) as i64;
    let params: Vec<ParamValue> = op
        .params
        .iter()
        .enumerate()
        .map(|(p, param)| match param.kind {
            ParamKind::PerDim(a) => ParamValue::Ints((0..rank(op.axis(a))).map(|d| integer(p, d)).collect()),
            ParamKind::Int => ParamValue::Int(integer(p, 0)),
            ParamKind::Real => ParamValue::Real(0.75 + 0.5 * p as f64),
        })
        .collect();
    // Each round makes one size larger where that helps the smallest derived one; by one at first, since small shapes
    // are wanted.
    for round in 0..96 {
        let smallest = |given: &[Option<Vec<i64>>]| match Binding::new(op, given, params.clone()) {
            Ok(b) => {
                let derived = b.extents.iter().enumerate().filter(|(a, _)| op.axes[*a].size.is_some());
                let least = |a: usize| least[a].max(2);
                derived.map(|(a, e)| e.iter().map(|n| (*n as i64).min(least(a)) - least(a)).sum::<i64>()).sum()
            }
            Err(errors) => errors
                .iter()
                .map(|e| if let BindError::Extent(_, _, Some(n)) = e { n.min(&0) - 1000 } else { -100_000 })
                .sum(),
        };
        let now = smallest(&given);
        if now == 0 {
            break;
        }
        // The best single step up: by one, further where that does not show yet.
        let best = |steps: std::ops::Range<u32>| {
            let mut best: Option<(i64, usize, usize, i64)> = None;
            for a in 0..given.len() {
                for d in 0..given[a].as_ref().map_or(0, Vec::len) {
                    for step in steps.clone().map(|n| 1 << n) {
                        let mut trial = given.clone();
                        if let Some(n) = trial[a].as_mut().map(|v| &mut v[d]) {
                            *n += step;
                        }
                        let score = smallest(&trial);
                        if score > now && best.is_none_or(|(s, ..)| score > s) {
                            best = Some((score, a, d, step));
                        }
                    }
                }
            }
            best
        };
        let best = if round < 32 { best(0..1).or_else(|| best(1..3)) } else { best(0..24) };
        let (_, a, d, step) = best?;
        if let Some(n) = given[a].as_mut().map(|v| &mut v[d]) {
            *n += if round < 32 { 1 } else { step };
        }
    }
    Binding::new(op, &given, params).ok()
}

/// A binding at which `wrong` still holds and no single step down (a dimension dropped, an extent or a parameter
/// lowered by one) keeps it.
pub fn shrink(op: &Op, from: &Binding, wrong: &impl Fn(&Binding) -> bool) -> Binding {
    let mut best = from.clone();
    let least = least(op);
    let usable = |b: &Binding| named(&least, b) && b.unusable(op).is_none();
    while let Some(smaller) = steps_down(op, &best).into_iter().find(|b| usable(b) && wrong(b)) {
        best = smaller;
    }
    best
}

/// Every binding one step smaller.
fn steps_down(op: &Op, b: &Binding) -> Vec<Binding> {
    let given: Vec<Option<Vec<i64>>> = op
        .axes
        .iter()
        .zip(&b.extents)
        .map(|(a, e)| a.size.is_none().then(|| e.iter().map(|n| *n as i64).collect()))
        .collect();
    let mut all = Vec::new();
    let mut push = |given: &[Option<Vec<i64>>], params: Vec<ParamValue>| all.extend(Binding::new(op, given, params));
    let classes: BTreeSet<usize> = op.axes.iter().map(|a| a.rank_class).collect();
    for class in classes {
        // The last dimension of every group of the class, and of the parameters that go with it.
        let (mut less, mut params) = (given.clone(), b.params.clone());
        let axes = op.axes.iter().zip(&mut less).filter(|(a, _)| a.rank_class == class);
        axes.for_each(|(_, g)| {
            g.iter_mut().for_each(|g| {
                g.pop();
            });
        });
        for (param, value) in op.params.iter().zip(&mut params) {
            if let (ParamKind::PerDim(a), ParamValue::Ints(v)) = (param.kind, value)
                && op.axis(a).rank_class == class
            {
                v.pop();
            }
        }
        if less != given {
            push(&less, params);
        }
    }
    for a in 0..given.len() {
        for d in 0..given[a].as_ref().map_or(0, Vec::len) {
            let mut less = given.clone();
            if let Some(n) = less[a].as_mut().map(|v| &mut v[d]).filter(|n| **n > 1) {
                *n -= 1;
                push(&less, b.params.clone());
            }
        }
    }
    for p in 0..b.params.len() {
        let ints = match &b.params[p] {
            ParamValue::Ints(v) => v.len(),
            ParamValue::Int(_) => 1,
            ParamValue::Real(_) => 0,
        };
        for d in 0..ints {
            let mut params = b.params.clone();
            let slot = match &mut params[p] {
                ParamValue::Ints(v) => &mut v[d],
                ParamValue::Int(n) => n,
                ParamValue::Real(_) => continue,
            };
            if *slot > 1 {
                *slot -= 1;
                push(&given, params);
            }
        }
    }
    all
}
