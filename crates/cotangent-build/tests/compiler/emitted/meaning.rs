//! What the functions of a kernel shall compute: takes an op and a draw of arguments, gives the results that the index
//! interpreter has, each with a bound of what rounding may change.
//!
//! Holds after it: what a program's entry points say is what the rules of its op say, where derivatives exist.

use super::tally::Tally;
use cotangent_build::DType;
use cotangent_build::certify::Sampler;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::bounds::{Bounded, rounded};
use cotangent_build::index::eval::{Interpreter, Number};
use cotangent_build::index::{Entry, Op, Role, Stmt, TensorId};
use cotangent_build::plain::{Function, Kernel, Kind};
use std::collections::{BTreeMap, BTreeSet};

pub(super) type Values = BTreeMap<TensorId, Vec<f64>>;
pub(super) type Bounds = BTreeMap<TensorId, Vec<Bounded>>;

/// One draw of all that functions may take, by id.
fn draw(op: &Op, binding: &Binding, dtype: DType, round: usize, seed: u64) -> Values {
    let mut random = Sampler::new(seed * 7 + round as u64);
    let role = |t: TensorId| op.tensor(t).role;
    let wanted = |t: &TensorId| match role(*t) {
        Role::Input | Role::Partial(..) => true,
        Role::Tangent(p) | Role::Cotangent(p) => matches!(role(p), Role::Input | Role::Output),
        Role::Output => true,
        Role::Local | Role::RuleLocal => false,
    };
    let mut number = |special: bool| match round {
        0 => random.ordinary(None),
        1 => (random.bits() % 9) as f64 / 2.0 - 2.0,
        _ if special && random.bits().is_multiple_of(5) => {
            const ODD: [f64; 12] =
                [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-39, 1e30, -1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 100.0];
            ODD[(random.bits() % 12) as usize]
        }
        _ => random.ordinary(None),
    };
    let fit = |x: f64| dtype.nearest(x);
    let ids = (0..op.tensors.len()).map(TensorId).filter(wanted).collect::<Vec<_>>();
    ids.into_iter()
        .map(|t| (t, (0..binding.elements(op, t)).map(|_| fit(number(role(t) == Role::Input))).collect()))
        .collect()
}

/// Statements on numbers; `None` where an element is written twice, and whether a comparison is in doubt.
fn interpreted<N: Number>(
    op: &Op,
    binding: &Binding,
    given: BTreeMap<TensorId, Vec<N>>,
    stmts: &[Stmt],
) -> Option<BTreeMap<TensorId, Vec<N>>> {
    let mut interpreter = Interpreter::new(op, binding);
    interpreter.tensors = given;
    interpreter.run(stmts).ok()?;
    Some(interpreter.tensors)
}

/// What the functions of a kernel shall compute in one draw: for each its results and whether they are sure.
pub(super) struct Meaning {
    pub(super) drawn: Values,
    /// By function.
    pub(super) expected: Vec<(Bounds, bool)>,
}

pub(super) fn meaning(
    op: &Op,
    kernel: &Kernel,
    round: usize,
    seed: u64,
    tally: &mut Tally,
) -> Result<Option<Meaning>, String> {
    let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
    let mut drawn = draw(op, &binding, kernel.dtype, round, seed);
    let wrt: BTreeSet<TensorId> = match &op.program {
        Some(program) => program.wrt.iter().copied().collect(),
        None => op.inputs().into_iter().collect(),
    };
    for t in (0..op.tensors.len()).map(TensorId) {
        if let Role::Tangent(x) = op.tensor(t).role
            && op.tensor(x).role == Role::Input
            && !wrt.contains(&x)
            && let Some(dot) = drawn.get_mut(&t)
        {
            dot.fill(0.0);
        }
    }
    let given = |wanted: &dyn Fn(Role) -> bool| -> Bounds {
        let of = drawn.iter().filter(|(t, _)| wanted(op.tensor(**t).role));
        of.map(|(t, v)| (*t, v.iter().map(|x| Bounded::exact(*x)).collect())).collect()
    };
    let role = |t: TensorId| op.tensor(t).role;
    let all = given(&|r| match r {
        Role::Input => true,
        Role::Tangent(p) => role(p) == Role::Input,
        Role::Cotangent(p) => role(p) == Role::Output,
        _ => false,
    });
    let run = |given: &Bounds, stmts: &[Stmt]| {
        let (result, doubt) = rounded(kernel.dtype, || interpreted(op, &binding, given.clone(), stmts));
        result.map(|values| (values, doubt))
    };
    let Some(forward) = run(&all, &op.forward) else { return Ok(None) };
    let then = |stmts: &[Stmt]| run(&forward.0, stmts).map(|(values, doubt)| (values, doubt || forward.1));
    let Some(tangent) = then(&op.tangent.stmts) else { return Ok(None) };
    let Some(adjoint) = then(&op.adjoint.stmts) else { return Ok(None) };
    let mut expected = Vec::new();
    for f in kernel.functions.iter().filter(|f| f.kind != Kind::Stage) {
        let rule = match f.kind {
            Kind::Forward => &forward,
            Kind::Jvp => &tangent,
            _ => &adjoint,
        };
        let (mut results, doubt) = match (&op.program, entry(f.kind)) {
            (Some(program), Some(entry)) => {
                let mut of: Option<(Bounds, bool)> = None;
                for statements in program.functions.iter().filter(|p| p.entry == entry) {
                    let Some((own, doubt)) = run(&all, &statements.stmts) else { return Ok(None) };
                    // A Jacobian is made in one of two ways.
                    of = Some(match of {
                        None => (own, doubt),
                        Some((mut first, before)) => {
                            for (t, values) in &mut first {
                                let other = own.get(t).into_iter().flatten();
                                // What is not a number in one of them alone is not compared.
                                let either = |(a, b): (&mut Bounded, &Bounded)| {
                                    let alike = a.value.is_finite() == b.value.is_finite();
                                    a.error = if alike { a.error.max(b.error) } else { f64::INFINITY };
                                };
                                values.iter_mut().zip(other).for_each(either);
                            }
                            (first, before || doubt)
                        }
                    });
                }
                of.ok_or_else(|| format!("no statements for {}", f.name))?
            }
            _ => (rule.0.clone(), rule.1),
        };
        if op.program.is_some() && round < 2 && !doubt && !rule.1 {
            let rules = Rules {
                op,
                binding: &binding,
                given: &all,
                forward: &forward.0,
                tangent: &tangent.0,
                adjoint: &adjoint.0,
            };
            rounded(kernel.dtype, || rules.against(f, &results, round == 0, tally)).0?;
        }
        let zeros = |t: &TensorId| vec![Bounded::exact(0.0); binding.elements(op, *t)];
        let results: Bounds = f.writes.iter().map(|t| (*t, results.remove(t).unwrap_or_else(|| zeros(t)))).collect();
        expected.push((results, doubt));
    }
    Ok(Some(Meaning { drawn, expected }))
}

pub(super) fn entry(kind: Kind) -> Option<Entry> {
    Some(match kind {
        Kind::Forward => Entry::Forward,
        Kind::Jvp => Entry::Jvp,
        Kind::Vjp { .. } => Entry::Vjp,
        Kind::ValueAndGrad => Entry::ValueAndGrad,
        Kind::Hvp => Entry::Hvp,
        Kind::ValueGradAndHvp => Entry::ValueGradAndHvp,
        Kind::Jacobian => Entry::Jacobian,
        Kind::Hessian => Entry::Hessian,
        Kind::Stage => return None,
    })
}

/// What the rules of an op say of a program's entry points.
struct Rules<'a> {
    op: &'a Op,
    binding: &'a Binding,
    given: &'a Bounds,
    forward: &'a Bounds,
    tangent: &'a Bounds,
    adjoint: &'a Bounds,
}

impl Rules<'_> {
    /// The cotangents of the inputs for a cotangent of 1, at the inputs moved along their tangents.
    fn gradient(&self, by: f64) -> Option<BTreeMap<TensorId, Vec<f64>>> {
        let op = self.op;
        let mut given: Values = self.given.iter().map(|(t, v)| (*t, v.iter().map(|x| x.value).collect())).collect();
        for x in op.inputs() {
            let dot = op.with_role(Role::Tangent(x)).first().and_then(|d| given.get(d).cloned());
            let moved = |v: &mut Vec<f64>| v.iter_mut().zip(dot.iter().flatten()).for_each(|(x, d)| *x += by * d);
            given.get_mut(&x).map(moved);
        }
        for bar in op.outputs().into_iter().flat_map(|z| op.with_role(Role::Cotangent(z))) {
            given.get_mut(&bar)?.fill(1.0);
        }
        let forward = interpreted(op, self.binding, given, &op.forward)?;
        interpreted(op, self.binding, forward, &op.adjoint.stmts)
    }

    /// The statements of an entry point give what the rules of the op give: the first result that differs. Second
    /// derivatives are slopes of the gradient, dense ones are multiplied by the tangents of the inputs.
    fn against(&self, f: &Function, results: &Bounds, smooth: bool, tally: &mut Tally) -> Result<(), String> {
        let op = self.op;
        let role = |t: TensorId| op.tensor(t).role;
        let zeros = |t: TensorId| vec![Bounded::exact(0.0); self.binding.elements(op, t)];
        let own = |t: TensorId| results.get(&t).cloned().unwrap_or_else(|| zeros(t));
        let gradient = || self.gradient(0.0);
        let slope = || -> Option<Vec<(TensorId, Vec<f64>)>> {
            const STEP: f64 = 1e-5;
            let [up, down, near, far] = [STEP, -STEP, STEP / 2.0, -STEP / 2.0].map(|by| self.gradient(by));
            let (up, down, near, far) = (up?, down?, near?, far?);
            let bars = op.inputs().into_iter().flat_map(|x| op.with_role(Role::Cotangent(x)));
            let slope = |a: &[f64], b: &[f64], by: f64| a.iter().zip(b).map(|(a, b)| (a - b) / by).collect::<Vec<_>>();
            let mut all = Vec::new();
            for bar in bars.filter(|b| up.contains_key(b)) {
                let (wide, narrow) = (slope(&up[&bar], &down[&bar], 2.0 * STEP), slope(&near[&bar], &far[&bar], STEP));
                // Beside a corner there is no slope.
                let even = |(a, b): (&f64, &f64)| if (a - b).abs() <= 1e-4 * (1.0 + a.abs()) { *b } else { f64::NAN };
                all.push((bar, wide.iter().zip(&narrow).map(even).collect()));
            }
            Some(all)
        };
        // Rows of dense derivatives times the tangents.
        let product = |of: TensorId| {
            let rows = self.binding.elements(op, of);
            let mut sums = vec![Bounded::exact(0.0); rows];
            for t in &f.writes {
                let Role::Partial(own_of, by) = role(*t) else { continue };
                if own_of != of {
                    continue;
                }
                let dense = own(*t);
                let dot = op.with_role(Role::Tangent(by)).first().map_or_else(|| zeros(by), |d| self.given[d].clone());
                for (row, sum) in dense.chunks(dot.len()).zip(&mut sums) {
                    *sum = row.iter().zip(&dot).fold(*sum, |sum, (a, b)| sum.add(a.mul(*b)));
                }
            }
            sums
        };
        let mut pairs: Vec<(String, Vec<Bounded>, Vec<Bounded>)> = Vec::new();
        let exact = |v: &[f64]| v.iter().map(|x| Bounded::exact(*x)).collect::<Vec<_>>();
        let soft = |v: &[f64]| {
            let scale = v.iter().filter(|x| x.is_finite()).fold(1.0, |m: f64, x| m.max(x.abs()));
            v.iter().map(|x| Bounded { error: 1e-3 * scale, ..Bounded::exact(*x) }).collect::<Vec<_>>()
        };
        let mut dense = BTreeSet::new();
        for t in &f.writes {
            let name = op.tensor(*t).name.clone();
            let or_zeros = |b: &Bounds, t: TensorId| b.get(&t).cloned().unwrap_or_else(|| zeros(t));
            match role(*t) {
                Role::Output => pairs.push((name, own(*t), or_zeros(self.forward, *t))),
                Role::Tangent(z) if role(z) == Role::Output => pairs.push((name, own(*t), or_zeros(self.tangent, *t))),
                Role::Cotangent(_) if matches!(f.kind, Kind::Vjp { .. }) => {
                    pairs.push((name, own(*t), or_zeros(self.adjoint, *t)));
                }
                Role::Cotangent(_) => {
                    if let Some(bar) = gradient().and_then(|g| g.get(t).cloned()) {
                        pairs.push((name, own(*t), exact(&bar)));
                    }
                }
                Role::Tangent(bar) if smooth => {
                    let all = slope().unwrap_or_default();
                    pairs.extend(all.iter().filter(|(b, _)| *b == bar).map(|(_, v)| (name.clone(), own(*t), soft(v))));
                }
                Role::Partial(of, _) => _ = dense.insert(of),
                _ => {}
            }
        }
        for of in dense {
            let name = format!("derivatives of {}", op.tensor(of).name);
            if role(of) == Role::Output {
                let dot = op.with_role(Role::Tangent(of));
                pairs.extend(dot.first().and_then(|d| self.tangent.get(d)).map(|d| (name, product(of), d.clone())));
            } else if smooth {
                let bars = op.with_role(Role::Cotangent(of));
                let all = slope().unwrap_or_default();
                pairs.extend(
                    all.iter().filter(|(b, _)| bars.contains(b)).map(|(_, v)| (name.clone(), product(of), soft(v))),
                );
            }
        }
        for (name, own, rule) in pairs {
            for (n, (a, b)) in own.iter().zip(&rule).enumerate() {
                let bound = 4.0 * (a.error + b.error) + 1e-12 * (1.0 + b.value.abs());
                if bound.is_finite() && a.value.is_finite() && b.value.is_finite() {
                    tally.add("derivatives", 1);
                    if (a.value - b.value).abs() > bound {
                        return Err(format!(
                            "{}: {name}[{n}] is {:e} by its statements, {:e} by the rules, bound {bound:e}",
                            f.name, a.value, b.value
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
