//! The entry points of a program: takes the statements that were made of each, gives whether they compute what the
//! certified rules and differences of the gradient say. Each is run once in a random direction: a wrong element of a
//! Jacobian or a Hessian shows in its product with that.

use super::Sampler;
use super::kinks::{Point, Values};
use super::shapes;
use crate::index::bind::Binding;
use crate::index::eval::{Interpreter, Prepared};
use crate::index::*;
use std::cell::LazyCell;

/// Points tried. A wrong function is wrong at nearly all, while a difference may reach over a kink at one.
const SEEDS: [u64; 3] = [31, 32, 33];
/// The most terms of a function that is run.
const MAX_WORK: usize = 1 << 16;
/// By how much values may differ, relative to the largest of a tensor: of the same derivative computed in two ways, and
/// of differences.
const CLOSE: f64 = 1e-8;
const DIFFERENCE: f64 = 1e-4;

/// An entry point that does not compute what it should.
#[derive(Debug)]
pub struct Broken {
    pub entry: Entry,
    pub tensor: TensorId,
    pub element: usize,
    pub value: f64,
    pub right: f64,
}

/// Runs every entry point of a program at a small shape; gives the first that is broken. An op has none.
pub fn check(op: &Op, sampled: &[Binding]) -> Option<Broken> {
    let program = op.program.as_ref()?;
    let binding = sampled.iter().find(|b| b.extents.iter().all(|e| e.len() == 1 && e[0] > 1)).or(sampled.first())?;
    let runnable = |f: &&ProgramFunction| {
        shapes::terms(&f.stmts, binding) <= MAX_WORK && f.results.iter().all(|t| !binding.too_large(op, *t))
    };
    program.functions.iter().filter(runnable).find_map(|f| {
        let all = SEEDS.into_iter().map(|seed| differs(op, program, f, binding, seed));
        all.collect::<Option<Vec<_>>>()?.into_iter().next()
    })
}

/// What a function computes that it should not, at one point.
fn differs(op: &Op, program: &Program, f: &ProgramFunction, binding: &Binding, seed: u64) -> Option<Broken> {
    let sides = [super::Side::Adjoint, super::Side::Tangent];
    let mut point = Point::new(op, &sides, binding, &mut Sampler::new(seed), &mut |sampler, t| {
        sampler.ordinary(op.tensor(t).domain)
    });
    // Derivatives are by `wrt` alone; a gradient starts from one.
    for (t, v) in &mut point.duals {
        match op.tensor(*t).role {
            Role::Tangent(x) if !program.wrt.contains(&x) => v.fill(0.0),
            Role::Cotangent(_) if f.entry.of_number() => v.fill(1.0),
            _ => {}
        }
    }
    let run = |inputs: &Values, lists: &[&[Stmt]]| -> Values {
        let mut interpreter = Interpreter::new(op, binding);
        interpreter.tensors = inputs.clone();
        interpreter.tensors.extend(point.duals.clone());
        // Double writes are reported before.
        lists.iter().for_each(|stmts| _ = interpreter.run(stmts));
        interpreter.tensors
    };
    let zeros = |t: TensorId| vec![0.0; binding.elements(op, t)];
    let value = |from: &Values, t: TensorId| from.get(&t).cloned().unwrap_or_else(|| zeros(t));
    let dual = |role: Role| (0..op.tensors.len()).map(TensorId).find(|t| op.tensor(*t).role == role);
    let direction = |x: TensorId| dual(Role::Tangent(x)).map(|t| value(&point.duals, t)).unwrap_or_default();
    let by_rules = run(&point.inputs, &[&op.forward, &op.tangent.stmts, &op.adjoint.stmts]);
    let ours = run(&point.inputs, &[&f.stmts]);

    // The derivative of the gradient in the direction, by differences of the sixth order (Richardson 1911) of two
    // widths: where these disagree nothing is known.
    let rules = [Prepared::new(op, binding, &op.forward), Prepared::new(op, binding, &op.adjoint.stmts)];
    let gradient_at = |step: f64| -> Values {
        let moved = |(x, v): (&TensorId, &Vec<f64>)| {
            let by = direction(*x);
            (*x, v.iter().enumerate().map(|(n, v)| v + step * by.get(n).unwrap_or(&0.0)).collect())
        };
        let mut interpreter = Interpreter::new(op, binding);
        interpreter.tensors = point.inputs.iter().map(moved).collect();
        interpreter.tensors.extend(point.duals.clone());
        rules.iter().for_each(|stmts| _ = interpreter.execute(stmts));
        interpreter.tensors
    };
    let gradients = LazyCell::new(|| {
        let around = |width: f64| [1.0, 2.0, 3.0].map(|n| n * width).map(|h| (h, gradient_at(h), gradient_at(-h)));
        [1e-3, 3e-4].map(around)
    });
    let second = |bar: TensorId| -> Vec<f64> {
        let slopes = gradients.iter().map(|around| -> Vec<f64> {
            let central = around.iter().map(|(h, up, down)| -> Vec<f64> {
                value(up, bar).iter().zip(&value(down, bar)).map(|(a, b)| (a - b) / (2.0 * h)).collect()
            });
            let central: Vec<_> = central.collect();
            let weights = [1.5, -0.6, 0.1];
            let at = |n: usize| weights.iter().zip(&central).map(|(w, c)| w * c[n]).sum();
            (0..central[0].len()).map(at).collect()
        });
        let slopes: Vec<_> = slopes.collect();
        let (wide, narrow) = (&slopes[0], &slopes[1]);
        let scale = wide.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        let agree = |a: f64, b: f64| (a - b).abs() <= 0.1 * DIFFERENCE * scale;
        wide.iter().zip(narrow).map(|(a, b)| if agree(*a, *b) { *b } else { f64::NAN }).collect()
    };
    let compared = |tensor: TensorId, ours: &[f64], right: &[f64], tolerance: f64| {
        let element = first_off(ours, right, tolerance)?;
        Some(Broken { entry: f.entry, tensor, element, value: ours[element], right: right[element] })
    };
    // The product of a matrix of derivatives with the direction, over all that they are by.
    let product = |of: TensorId, rows: usize| {
        let mut sum = vec![0.0; rows];
        for x in &program.wrt {
            let Some(matrix) = dual(Role::Partial(of, *x)).filter(|t| f.results.contains(t)) else { continue };
            let (matrix, by) = (value(&ours, matrix), direction(*x));
            let rows = sum.iter_mut().zip(matrix.chunks(by.len().max(1)));
            rows.for_each(|(s, row)| *s += row.iter().zip(&by).map(|(a, b)| a * b).sum::<f64>());
        }
        sum
    };
    f.results.iter().find_map(|t| match op.tensor(*t).role {
        Role::Tangent(of) if matches!(op.tensor(of).role, Role::Cotangent(_)) => {
            compared(*t, &value(&ours, *t), &second(of), DIFFERENCE)
        }
        Role::Output | Role::Tangent(_) | Role::Cotangent(_) => {
            compared(*t, &value(&ours, *t), &value(&by_rules, *t), CLOSE)
        }
        // Each row of matrices once, at the first.
        Role::Partial(of, by) if program.wrt.first() == Some(&by) => match op.tensor(of).role {
            Role::Input => {
                let right = second(dual(Role::Cotangent(of))?);
                compared(*t, &product(of, right.len()), &right, DIFFERENCE)
            }
            _ => {
                let right = value(&by_rules, dual(Role::Tangent(of))?);
                compared(*t, &product(of, right.len()), &right, CLOSE)
            }
        },
        _ => None,
    })
}

/// The first element that is not near the right one, where that is known.
fn first_off(ours: &[f64], right: &[f64], tolerance: f64) -> Option<usize> {
    let scale = right.iter().filter(|v| v.is_finite()).fold(1e-6, |m: f64, v| m.max(v.abs()));
    // NaN is not near.
    let near = |a: f64, b: f64| (a - b).abs() <= tolerance * scale;
    let off = |n: &usize| right[*n].is_finite() && !near(ours[*n], right[*n]);
    (0..right.len()).find(off)
}
