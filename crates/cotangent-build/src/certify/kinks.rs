//! Ties and kinks, which random points never meet: takes a declared and the derived rule, gives a place at which the declared one is no
//! convention.
//!
//! Where `forward` has no derivative the declared rule is the convention, but not any number is one. Around the point the derivative
//! exists, almost everywhere; a convention lies between the values it takes there (Clarke's generalised gradient, 1983, seen element by
//! element), and what is the same in every direction, as the total that a maximum hands on to its ties, is the same at the point.

use super::{Sampler, Side};
use crate::index::bind::Binding;
use crate::index::eval::Machine;
use crate::index::*;
use crate::spec::Domain;
use std::collections::BTreeMap;

/// The most input elements of a shape at which ties are tried: each is moved on its own.
const MAX_INPUTS: usize = 48;
/// How far around a point. Small against the distance of the points drawn, large against rounding.
const STEP: f64 = 1e-6;
/// By how much a smooth function may change over that distance, relative to the largest value compared.
const SLACK: f64 = 1e-4;

/// Points tried at a shape.
const SEEDS: [u64; 6] = [8, 9, 10, 11, 12, 13];

/// A place at which a rule is no convention.
pub struct Unfit {
    pub tensor: TensorId,
    pub element: usize,
    pub declared: f64,
    /// The values around, lowest and highest, of the element or of the `total`.
    pub around: (f64, f64),
    /// Whether the sum over all elements is what is wrong.
    pub total: bool,
}

/// Whether statements can have ties or kinks: conditions on values, extrema, and functions with a corner or a jump.
pub fn any(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|s| {
        let mut found = matches!(s.reduce, Some(ReduceOp::Max | ReduceOp::Min));
        s.value.visit(&mut |e| {
            found |= match e {
                Expr::Unary(f, _) => matches!(f, Unary::Abs | Unary::Sign | Unary::Floor),
                Expr::Binary(f, ..) => matches!(f, Binary::Max | Binary::Min),
                Expr::Where(c, ..) => !super::coordinates_only(c),
                _ => false,
            }
        });
        found
    })
}

type Values = BTreeMap<TensorId, Vec<f64>>;

/// Inputs on a coarse grid, so that they tie and meet kinks; tangents of inputs or cotangents of outputs anywhere.
struct Point {
    inputs: Values,
    duals: Values,
}

impl Point {
    fn new(op: &Op, binding: &Binding, seed: u64) -> Self {
        let mut sampler = Sampler::new(seed);
        let mut grid = vec![-1.0, -0.5, 0.0, 0.5, 1.0];
        grid.extend(thresholds(op));
        let mut point = Point { inputs: Values::new(), duals: Values::new() };
        for (n, t) in op.tensors.iter().enumerate() {
            let id = TensorId(n);
            let size = binding.elements(op, id);
            match t.role {
                Role::Input => {
                    let inside: Vec<f64> = grid.iter().copied().filter(|v| interior(t.domain, *v)).collect();
                    let mut draw = || match inside.len() {
                        0 => sampler.ordinary(t.domain),
                        n => inside[(sampler.bits() % n as u64) as usize],
                    };
                    point.inputs.insert(id, (0..size).map(|_| draw()).collect());
                }
                Role::Tangent(u) if op.tensor(u).role == Role::Input => {
                    point.duals.insert(id, (0..size).map(|_| sampler.ordinary(None)).collect());
                }
                Role::Cotangent(u) if op.tensor(u).role == Role::Output => {
                    point.duals.insert(id, (0..size).map(|_| sampler.ordinary(None)).collect());
                }
                _ => {}
            }
        }
        point
    }

    /// The same duals around the inputs: each element moved up and down furthest once, so that every tie is broken both ways, and all
    /// elements together.
    fn around(&self, seed: u64) -> Vec<Values> {
        let mut sampler = Sampler::new(seed);
        let count = self.inputs.values().map(Vec::len).sum::<usize>();
        let mut all = Vec::new();
        for furthest in (0..=count).rev() {
            for sign in [1.0, -1.0] {
                let mut n = 0;
                let moved = |v: &f64| {
                    let small = sampler.unit() - 0.5;
                    let by = match furthest {
                        f if f == count => sign * (1.0 + 0.1 * small),
                        f if f == n => sign,
                        _ => small,
                    };
                    n += 1;
                    v + STEP * by
                };
                // One closure over all inputs, so that elements are numbered throughout.
                let mut moved = moved;
                all.push(self.inputs.iter().map(|(t, v)| (*t, v.iter().map(&mut moved).collect())).collect());
            }
        }
        all
    }

    /// The rule's results at the given inputs.
    fn run(&self, op: &Op, binding: &Binding, inputs: &Values, rule: &[Stmt], targets: &[TensorId]) -> Values {
        let mut machine = Machine::new(op, binding);
        machine.tensors = inputs.clone();
        machine.tensors.extend(self.duals.clone());
        // Double writes are reported before rules are compared.
        let _ = (machine.run(&op.forward), machine.run(rule));
        let zeros = |t: &TensorId| vec![0.0; binding.elements(op, *t)];
        targets.iter().map(|t| (*t, machine.tensors.remove(t).unwrap_or_else(|| zeros(t)))).collect()
    }
}

/// Numbers that values are compared with: kinks of the formula.
fn thresholds(op: &Op) -> Vec<f64> {
    let mut found = Vec::new();
    let mut literal = |e: &Expr| match e {
        Expr::Const(c) if c.is_finite() => found.push(*c),
        Expr::Unary(Unary::Neg, a) => {
            if let Expr::Const(c) = a.as_ref() {
                found.push(-c);
            }
        }
        _ => {}
    };
    fn compared(c: &Cond, literal: &mut impl FnMut(&Expr)) {
        match c {
            Cond::Value(_, a, b) => {
                literal(a);
                literal(b);
            }
            Cond::And(a, b) | Cond::Or(a, b) => {
                compared(a, literal);
                compared(b, literal);
            }
            Cond::Not(a) => compared(a, literal),
            Cond::Index(..) | Cond::Inside(..) => {}
        }
    }
    for s in &op.forward {
        s.value.visit(&mut |e| match e {
            Expr::Where(c, ..) => compared(c, &mut literal),
            Expr::Binary(Binary::Max | Binary::Min, a, b) => {
                literal(a);
                literal(b);
            }
            _ => {}
        });
    }
    found
}

fn interior(domain: Option<Domain>, v: f64) -> bool {
    domain.is_none_or(|d| d.lo + 2.0 * STEP < v && v < d.hi - 2.0 * STEP)
}

/// Compares a declared rule with the values of the derived one around points with ties and kinks.
pub(super) fn check(op: &Op, side: Side, declared: &[Stmt], derived: &[Stmt], binding: &Binding) -> Option<Unfit> {
    let size = |t: &TensorId| binding.elements(op, *t);
    if op.inputs().iter().map(size).sum::<usize>() > MAX_INPUTS {
        return None;
    }
    let targets = super::targets(op, side);
    for seed in SEEDS {
        let point = Point::new(op, binding, seed);
        let ours = point.run(op, binding, &point.inputs, declared, &targets);
        let standard = point.run(op, binding, &point.inputs, derived, &targets);
        let same = |a: f64, b: f64| match a.is_finite() && b.is_finite() {
            true => (a - b).abs() <= SLACK * (1.0 + a.abs().max(b.abs())),
            false => !a.is_finite() && !b.is_finite(),
        };
        let differs = |t: &TensorId| (0..size(t)).find(|e| !same(ours[t][*e], standard[t][*e]));
        if targets.iter().all(|t| differs(t).is_none()) {
            continue;
        }
        let around: Vec<Values> =
            point.around(seed).iter().map(|p| point.run(op, binding, p, derived, &targets)).collect();
        // `None` where something but the declared rule is infinite: then there is nothing to lie between.
        let range = |of: &dyn Fn(&Values) -> f64| {
            let values: Vec<f64> = around.iter().map(of).chain([of(&standard)]).collect();
            let bounds =
                |v: &[f64]| v.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
            let (lo, hi) = bounds(&values[..around.len()]);
            let slack = SLACK * (1.0 + values.iter().fold(0.0, |m: f64, v| m.max(v.abs())));
            values.iter().all(|v| v.is_finite()).then_some((lo, hi, slack))
        };
        for t in &targets {
            for element in (0..size(t)).filter(|e| !same(ours[t][*e], standard[t][*e])) {
                let value = ours[t][element];
                if let Some((lo, hi, slack)) = range(&|v| v[t][element])
                    && !(lo - slack..=hi + slack).contains(&value)
                {
                    return Some(Unfit { tensor: *t, element, declared: value, around: (lo, hi), total: false });
                }
            }
        }
        // Totals: of each tensor, and of all.
        let groups = targets.iter().map(std::slice::from_ref).chain([targets.as_slice()]);
        for group in groups {
            let total = |v: &Values| group.iter().flat_map(|t| &v[t]).sum::<f64>();
            let Some((lo, hi, slack)) = range(&total) else { continue };
            let at = group.iter().find_map(|t| Some((*t, differs(t)?)));
            if hi - lo <= slack
                && !(lo - slack..=hi + slack).contains(&total(&ours))
                && same(total(&standard), lo)
                && let Some((tensor, element)) = at
            {
                return Some(Unfit { tensor, element, declared: total(&ours), around: (lo, hi), total: true });
            }
        }
    }
    None
}

/// Whether a declared tangent and a declared adjoint differ at ties and kinks: `z_bar · (J x_dot)` is `(z_bar J) · x_dot`. Gives both.
pub(super) fn disagree(op: &Op, binding: &Binding) -> Option<(f64, f64)> {
    let (bars, dots) = (super::targets(op, Side::Adjoint), super::targets(op, Side::Tangent));
    let dual = |role: Role| (0..op.tensors.len()).map(TensorId).find(|t| op.tensor(*t).role == role);
    SEEDS.into_iter().find_map(|seed| {
        let point = Point::new(op, binding, seed);
        let x_bar = point.run(op, binding, &point.inputs, &op.adjoint.stmts, &bars);
        let z_dot = point.run(op, binding, &point.inputs, &op.tangent.stmts, &dots);
        let product = |values: &Values, partner: &dyn Fn(TensorId) -> Option<TensorId>| {
            let terms = values.iter().filter_map(|(t, v)| Some(v.iter().zip(point.duals.get(&partner(*t)?)?)));
            terms.flatten().map(|(a, b)| a * b).sum::<f64>()
        };
        let primal = |t: TensorId| match op.tensor(t).role {
            Role::Tangent(u) | Role::Cotangent(u) => u,
            _ => t,
        };
        let a = product(&x_bar, &|t| dual(Role::Tangent(primal(t))));
        let b = product(&z_dot, &|t| dual(Role::Cotangent(primal(t))));
        let finite = a.is_finite() && b.is_finite();
        (finite && (a - b).abs() > SLACK * (1.0 + a.abs().max(b.abs()))).then_some((a, b))
    })
}
