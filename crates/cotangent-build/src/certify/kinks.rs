//! Ties and kinks, which random points never meet: takes a declared and the derived rule, gives a place at which the
//! declared one is no convention.
//!
//! Where `forward` has no derivative the declared rule is the convention, but not any number is one. Around the point
//! the derivative exists, almost everywhere; a convention lies between the values it takes there (Clarke's generalised
//! gradient, 1983, seen element by element), and what is the same in every direction, as the total that a maximum hands
//! on to its ties, is the same at the point.

use super::rounded::Rounded;
use super::{Sampler, Side};
use crate::index::bind::Binding;
use crate::index::eval::{Interpreter, Number, Prepared};
use crate::index::*;
use crate::types::Domain;
use std::collections::BTreeMap;

/// The most input elements of a shape at which ties are tried: each is moved on its own.
pub(super) const MAX_INPUTS: usize = 48;
/// How far around a point, relative to each element: so that no other kink lies within, and rounding is small against
/// it.
const STEP: f64 = 1e-11;
/// The same further away. What a smooth function changes by grows with the distance, what it jumps by does not.
const FURTHER: f64 = 1e-8;
/// By how much a tangent and an adjoint, or a sum over all elements, may differ, relative to what is compared.
const SLACK: f64 = 1e-4;
/// Below this part of what a derivative comes to at ordinary points a difference is none.
const NEGLIGIBLE: f64 = 1e-11;

/// Points tried at a shape.
const SEEDS: [u64; 6] = [8, 9, 10, 11, 12, 13];

/// A place at which a rule is no convention.
#[derive(Clone, Debug)]
pub struct Disagreement {
    pub tensor: TensorId,
    pub element: usize,
    pub declared: f64,
    /// The values around, lowest and highest, of the element or of the `total`.
    pub around: (f64, f64),
    pub what: What,
}

/// What is wrong there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The derivative exists, and is another.
    Value,
    /// There is none, but the rule is beyond what it is around.
    Kink,
    /// The sum over all elements, which is the same all around.
    Total,
    /// The rule is infinite or NaN where `forward` is not, which may be rounding, or a point without derivative.
    NotFinite,
}

/// Whether statements can have ties or kinks: conditions on values, extrema, and functions with a corner or a jump.
pub fn any(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|s| {
        let mut found = matches!(s.reduce, Some(ReduceOp::Max | ReduceOp::Min));
        s.value.visit(&mut |e| {
            found |= match e {
                Expr::Unary(f, _) => f.row().bends.breaks(),
                Expr::Binary(f, ..) => f.row().chooses,
                Expr::Where(c, ..) => !super::coordinates_only(c),
                Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..) => false,
                Expr::Powf(..) | Expr::Reduce(..) => false,
            }
        });
        found
    })
}

pub(super) type Values = BTreeMap<TensorId, Vec<f64>>;

/// Inputs; tangents of inputs or cotangents of outputs.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub inputs: Values,
    pub duals: Values,
}

impl Point {
    /// Each element of an input as `draw` gives it; duals of the sides anywhere.
    pub fn new(
        op: &Op,
        sides: &[Side],
        binding: &Binding,
        sampler: &mut Sampler,
        draw: &mut dyn FnMut(&mut Sampler, TensorId) -> f64,
    ) -> Self {
        let mut point = Point { inputs: Values::new(), duals: Values::new() };
        for (n, t) in op.tensors.iter().enumerate() {
            let id = TensorId(n);
            let size = binding.elements(op, id);
            match t.role {
                Role::Input => _ = point.inputs.insert(id, (0..size).map(|_| draw(sampler, id)).collect()),
                Role::Tangent(u) if op.tensor(u).role == Role::Input && sides.contains(&Side::Tangent) => {
                    point.duals.insert(id, (0..size).map(|_| sampler.ordinary(None)).collect());
                }
                Role::Cotangent(u) if op.tensor(u).role == Role::Output && sides.contains(&Side::Adjoint) => {
                    point.duals.insert(id, (0..size).map(|_| sampler.ordinary(None)).collect());
                }
                _ => {}
            }
        }
        point
    }

    /// Inputs on a coarse grid, so that they tie and meet kinks.
    fn on_grid(op: &Op, sides: &[Side], binding: &Binding, seed: u64) -> Self {
        let mut grid = vec![-1.0, -0.5, 0.0, 0.5, 1.0];
        grid.extend(thresholds(op));
        Point::new(op, sides, binding, &mut Sampler::new(seed), &mut |sampler, t| {
            let domain = op.tensor(t).domain;
            let inside: Vec<f64> = grid.iter().copied().filter(|v| interior(domain, *v)).collect();
            match inside.len() {
                0 => sampler.ordinary(domain),
                n => inside[(sampler.bits() % n as u64) as usize],
            }
        })
    }

    /// The inputs moved by `step`: each element up and down furthest once, so that every tie is broken both ways, and
    /// all elements together.
    fn around(&self, step: f64) -> Vec<Values> {
        let mut sampler = Sampler::new(8);
        let count = self.inputs.values().map(Vec::len).sum::<usize>();
        let mut all = Vec::new();
        for furthest in (0..=count).rev().step_by(1 + count / MAX_INPUTS) {
            for sign in [1.0, -1.0] {
                let mut n = 0;
                // One closure over all inputs, so that elements are numbered throughout.
                let mut moved = |v: &f64| {
                    let small = sampler.unit() - 0.5;
                    let by = match furthest {
                        f if f == count => sign * (1.0 + 0.1 * small),
                        f if f == n => sign,
                        _ => small,
                    };
                    n += 1;
                    v + step * by * if *v == 0.0 { 1.0 } else { v.abs() }
                };
                all.push(self.inputs.iter().map(|(t, v)| (*t, v.iter().map(&mut moved).collect())).collect());
            }
        }
        all
    }
}

/// A rule and what it is compared with at one shape, ready to be run at many points.
pub(super) struct Rules<'a> {
    pub op: &'a Op,
    pub binding: &'a Binding,
    pub targets: Vec<TensorId>,
    /// `forward`, the declared rule, the derived one.
    stmts: [&'a [Stmt]; 3],
    forward: Prepared<f64>,
    declared: Prepared<f64>,
    derived: Prepared<f64>,
    /// Of each target what differences below are none.
    floors: BTreeMap<TensorId, f64>,
    /// Whether `forward` has corners of its own: there NaN is no convention.
    corners: bool,
}

/// What a point gives.
pub(super) struct Run {
    /// The outputs of `forward` are.
    pub finite: bool,
    pub ours: Values,
    pub standard: Values,
}

impl<'a> Rules<'a> {
    pub fn new(op: &'a Op, side: Side, stmts: [&'a [Stmt]; 3], binding: &'a Binding) -> Self {
        let [forward, declared, derived] = stmts.map(|s| Prepared::new(op, binding, s));
        let targets = super::targets(op, side);
        let corners = any(stmts[0]);
        Rules { op, binding, targets, stmts, forward, declared, derived, floors: BTreeMap::new(), corners }
    }

    fn results<N: Number>(&self, interpreter: &mut Interpreter<N>) -> BTreeMap<TensorId, Vec<N>> {
        let zeros = |t: &TensorId| vec![N::from_f64(0.0); self.binding.elements(self.op, *t)];
        self.targets.iter().map(|t| (*t, interpreter.tensors.remove(t).unwrap_or_else(|| zeros(t)))).collect()
    }

    /// Both rules at a point; `more` is run behind the declared one, and leaves what it writes in the interpreter.
    pub fn run(&self, point: &Point, more: Option<&Prepared<f64>>) -> (Run, Interpreter<'a, f64>) {
        let mut interpreter = Interpreter::new(self.op, self.binding);
        interpreter.tensors = point.inputs.clone();
        interpreter.tensors.extend(point.duals.iter().map(|(t, v)| (*t, v.clone())));
        // Double writes are reported before rules are compared.
        let _ = (interpreter.execute(&self.forward), interpreter.execute(&self.declared));
        let ours = self.results(&mut interpreter);
        let _ = (more.map(|more| interpreter.execute(more)), interpreter.execute(&self.derived));
        let standard = self.results(&mut interpreter);
        let is_output = |t: &TensorId| self.op.tensor(*t).role == Role::Output;
        let mut outputs = interpreter.tensors.iter().filter(|(t, _)| is_output(t)).flat_map(|(_, v)| v);
        (Run { finite: outputs.all(|v| v.is_finite()), ours, standard }, interpreter)
    }

    /// The derived rule alone.
    fn standard(&self, inputs: &Values, duals: &Values) -> Values {
        let mut interpreter = Interpreter::new(self.op, self.binding);
        interpreter.tensors = inputs.clone();
        interpreter.tensors.extend(duals.clone());
        let _ = (interpreter.execute(&self.forward), interpreter.execute(&self.derived));
        self.results(&mut interpreter)
    }

    /// How far rounding may have carried each element of both rules.
    fn errors(&self, point: &Point) -> Values {
        let rounded = |v: &Vec<f64>| v.iter().map(|v| Rounded::from_f64(*v)).collect();
        let given: BTreeMap<_, _> = point.inputs.iter().chain(&point.duals).map(|(t, v)| (*t, rounded(v))).collect();
        let mut errors: Values = Values::new();
        for rule in &self.stmts[1..] {
            let mut interpreter = Interpreter::<Rounded>::new(self.op, self.binding);
            interpreter.tensors = given.clone();
            let _ = (interpreter.run(self.stmts[0]), interpreter.run(rule));
            for (t, v) in self.results(&mut interpreter) {
                let sum = errors.entry(t).or_insert_with(|| vec![0.0; v.len()]);
                // What is not finite is compared with what is around, whose rounding is that of the other rule.
                let finite = sum.iter_mut().zip(&v).filter(|(_, v)| v.value.is_finite());
                finite.for_each(|(sum, v)| *sum += if v.error.is_nan() { f64::INFINITY } else { 4.0 * v.error });
            }
        }
        errors
    }

    /// Takes what the derivative comes to at an ordinary point for the measure of what is negligible.
    pub fn measure(&mut self, run: &Run) {
        for (t, v) in &run.standard {
            let size = v.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
            let floor = self.floors.entry(*t).or_insert(0.0);
            *floor = floor.max(NEGLIGIBLE * size);
        }
    }

    fn size(&self, t: &TensorId) -> usize {
        self.binding.elements(self.op, *t)
    }

    /// Whether two values are one, but for what is negligible.
    fn same(&self, t: &TensorId, a: f64, b: f64, error: f64) -> bool {
        match a.is_finite() && b.is_finite() {
            true => {
                let floor = self.floors.get(t).copied().unwrap_or(0.0);
                (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + floor + error
            }
            false => !a.is_finite() && !b.is_finite(),
        }
    }

    /// What is wrong with the declared rule at a point. `pole`: something that it divides by, or takes a logarithm of,
    /// is zero there.
    pub fn judge(&self, point: &Point, run: &Run, pole: bool) -> Option<Disagreement> {
        let (ours, standard) = (&run.ours, &run.standard);
        let all = || self.targets.iter().flat_map(|t| (0..self.size(t)).map(move |e| (*t, e)));
        if !run.finite || all().all(|(t, e)| self.same(&t, ours[&t][e], standard[&t][e], 0.0)) {
            return None;
        }
        let errors = self.errors(point);
        let differing: Vec<(TensorId, usize)> =
            all().filter(|(t, e)| !self.same(t, ours[t][*e], standard[t][*e], errors[t][*e])).collect();
        if differing.is_empty() {
            return None;
        }
        let around = |step: f64| -> Vec<Values> {
            point.around(step).iter().map(|inputs| self.standard(inputs, &point.duals)).collect()
        };
        let (near, far) = (around(STEP), around(FURTHER));
        // `None` where something is infinite: then there is nothing to lie between.
        let range = |set: &[Values], of: &dyn Fn(&Values) -> f64| {
            set.iter().map(of).try_fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| {
                v.is_finite().then_some((lo.min(v), hi.max(v)))
            })
        };
        let mut doubtful = None;
        for (t, e) in &differing {
            let (value, right) = (ours[t][*e], standard[t][*e]);
            let disagreement =
                |around, what| Some(Disagreement { tensor: *t, element: *e, declared: value, around, what });
            let of = |v: &Values| v[t][*e];
            let (Some((lo, hi)), Some((low, high))) = (range(&near, &of), range(&far, &of)) else {
                if !value.is_finite() && right.is_finite() {
                    doubtful = doubtful.or(disagreement((right, right), What::NotFinite));
                }
                continue;
            };
            let (width, wider) = (hi - lo, high - low);
            let size = lo.abs().max(hi.abs());
            let slack = (width - wider).abs() + 1e-9 * size + self.floors.get(t).unwrap_or(&0.0) + errors[t][*e];
            let smooth = width <= 1e-6 * size || width <= slack;
            // Without a limit, as a root at zero.
            let diverges = width > 2.0 * wider + (slack - (width - wider).abs());
            if value.is_finite() {
                if !(lo - slack..=hi + slack).contains(&value) {
                    let middle = if right.is_finite() { (right, right) } else { (0.5 * (lo + hi), 0.5 * (lo + hi)) };
                    return if smooth { disagreement(middle, What::Value) } else { disagreement((lo, hi), What::Kink) };
                }
            } else if right.is_finite() && (smooth && pole) {
                return disagreement((right, right), What::Value);
            } else if right.is_finite() && !smooth && !diverges && self.corners {
                return disagreement((lo, hi), What::Kink);
            } else if right.is_finite() && !diverges {
                doubtful = doubtful.or(disagreement((right, right), What::NotFinite));
            }
        }
        // Totals: of each tensor, and of all.
        let groups = self.targets.iter().map(std::slice::from_ref).chain([self.targets.as_slice()]);
        for group in groups {
            let total = |v: &Values| group.iter().flat_map(|t| &v[t]).sum::<f64>();
            let Some((lo, hi)) = range(&far, &total) else { continue };
            let (value, right) = (total(ours), total(standard));
            let slack = SLACK * (1.0 + [lo, hi, right].iter().fold(0.0, |m: f64, v| m.max(v.abs())));
            let at = differing.iter().find(|(t, _)| group.contains(t));
            if hi - lo <= slack
                && value.is_finite()
                && !(lo - slack..=hi + slack).contains(&value)
                && (right - lo).abs() <= slack
                && let Some((tensor, element)) = at
            {
                let (tensor, element) = (*tensor, *element);
                return Some(Disagreement { tensor, element, declared: value, around: (lo, hi), what: What::Total });
            }
        }
        doubtful
    }

    /// The same fault at a point of simpler numbers: zeros, ones, few digits. `judge` says what is wrong at one.
    pub fn simple(
        &self,
        point: Point,
        disagreement: Disagreement,
        judge: &dyn Fn(&Point) -> Option<Disagreement>,
    ) -> (Point, Disagreement) {
        let (mut point, mut disagreement) = (point, disagreement);
        let places = |values: &Values| -> Vec<(TensorId, usize)> {
            values.iter().flat_map(|(t, v)| (0..v.len()).map(|e| (*t, e))).collect()
        };
        let all = [(true, places(&point.duals)), (false, places(&point.inputs))];
        for (dual, places) in all {
            for (t, e) in places.into_iter().take(4 * MAX_INPUTS) {
                let now = if dual { point.duals[&t][e] } else { point.inputs[&t][e] };
                let digits = (0..5).map(|d| format!("{now:.d$e}").parse().unwrap_or(now));
                // Of the duals one is left, the others are nothing.
                let others = point.duals.values().flatten().filter(|v| **v != 0.0).count();
                let skipped = usize::from(dual && others < 2);
                let simpler: Vec<f64> = [0.0, 1.0, -1.0, 2.0].into_iter().chain(digits).skip(skipped).collect();
                for v in simpler.into_iter().take_while(|v| *v != now) {
                    if self.op.tensor(t).domain.is_some_and(|d| !within(&d, v)) {
                        continue;
                    }
                    let mut trial = point.clone();
                    let map = if dual { &mut trial.duals } else { &mut trial.inputs };
                    if let Some(slot) = map.get_mut(&t) {
                        slot[e] = v;
                    }
                    // What a NaN should be is not made nothing by a dual that is.
                    let same = |u: &Disagreement| {
                        let lost = u.around.1 == 0.0 && disagreement.around.1 != 0.0;
                        u.tensor == disagreement.tensor && u.what == disagreement.what && !(dual && lost)
                    };
                    if let Some(found) = judge(&trial).filter(same) {
                        (point, disagreement) = (trial, found);
                        break;
                    }
                }
            }
        }
        (point, disagreement)
    }
}

pub(super) fn within(d: &Domain, v: f64) -> bool {
    (d.lo < v || d.lo_closed && d.lo == v) && (v < d.hi || d.hi_closed && v == d.hi)
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
    let compared = |c: &Cond, literal: &mut dyn FnMut(&Expr)| {
        c.tests(&mut |c| {
            if let Cond::Value(_, a, b) = c {
                literal(a);
                literal(b);
            }
        });
    };
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
    domain.is_none_or(|d| d.lo + 2.0 * FURTHER < v && v < d.hi - 2.0 * FURTHER)
}

/// Compares a declared rule with the values of the derived one around points with ties and kinks.
pub(super) fn check(
    op: &Op,
    side: Side,
    declared: &[Stmt],
    derived: &[Stmt],
    binding: &Binding,
) -> Option<(Point, Disagreement)> {
    let size = |t: &TensorId| binding.elements(op, *t);
    if op.inputs().iter().map(size).sum::<usize>() > MAX_INPUTS {
        return None;
    }
    let rules = Rules::new(op, side, [&op.forward, declared, derived], binding);
    let judge = |point: &Point| {
        let run = rules.run(point, None).0;
        rules.judge(point, &run, true).filter(|u| u.what != What::NotFinite)
    };
    SEEDS.into_iter().find_map(|seed| {
        let point = Point::on_grid(op, &[side], binding, seed);
        let disagreement = judge(&point)?;
        Some(rules.simple(point, disagreement, &judge))
    })
}

/// Whether a declared tangent and a declared adjoint differ at ties and kinks: `z_bar · (J x_dot)` is `(z_bar J) ·
/// x_dot`. Gives both.
pub(super) fn disagree(op: &Op, binding: &Binding) -> Option<(f64, f64)> {
    let dual = |role: Role| (0..op.tensors.len()).map(TensorId).find(|t| op.tensor(*t).role == role);
    let (adjoint, tangent) = (op.adjoint.stmts.as_slice(), op.tangent.stmts.as_slice());
    let rules = |side, rule| Rules::new(op, side, [&op.forward, rule, &[]], binding);
    let (back, along) = (rules(Side::Adjoint, adjoint), rules(Side::Tangent, tangent));
    SEEDS.into_iter().find_map(|seed| {
        let point = Point::on_grid(op, &[Side::Adjoint, Side::Tangent], binding, seed);
        let x_bar = back.run(&point, None).0.ours;
        let z_dot = along.run(&point, None).0.ours;
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
