//! The interpreter of the plain IR: takes a function and tensors in storage order, runs it in `f64`. What is absent its
//! masks say; a read outside of a tensor that they let through is a bug of ours.

use super::mask::Mask;
use super::*;
use crate::index::eval::Number;
use std::collections::BTreeMap;

/// Runs a function on its arguments; locals need no value beforehand.
pub fn run(k: &Kernel, f: &Function, tensors: &mut BTreeMap<TensorId, Vec<f64>>) {
    for t in &f.locals {
        // Poisoned: what is read must have been written.
        tensors.insert(*t, vec![f64::NAN; k.tensor(*t).elements()]);
    }
    for step in &f.steps {
        match step {
            Step::Fill(t) => {
                tensors.insert(*t, vec![0.0; k.tensor(*t).elements()]);
            }
            Step::Stmt(s) => run_stmt(&k.tensors, s, None, tensors),
            Step::Scan(scan) => {
                for segment in &scan.segments {
                    for n in 0..segment.iterations {
                        for part in &segment.body {
                            run_stmt(&k.tensors, &part.stmt, part.iteration.map(|v| (v, n)), tensors);
                        }
                    }
                }
            }
        }
    }
}

/// Runs one statement; of a recurrence, in the iteration whose number a variable has.
pub fn run_stmt(
    shapes: &[Tensor],
    s: &Stmt,
    iteration: Option<(usize, usize)>,
    tensors: &mut BTreeMap<TensorId, Vec<f64>>,
) {
    // What was written before, and what is to be: a statement of a recurrence may read its own target.
    tensors.entry(s.target.tensor).or_insert_with(|| vec![f64::NAN; shapes[s.target.tensor.0].elements()]);
    let mut results = Vec::new();
    let frame = Frame { shapes, tensors };
    let mut env = vec![0i64; s.vars.len()];
    let mut vars = s.vars.clone();
    if let Some((v, n)) = iteration {
        // One iteration of its loop, further on.
        (vars[v].extent, env[v]) = (1, n as i64);
    }
    each(&vars, 0..s.free, &mut env, &mut |env| {
        let Some(at) = locate(&s.target, &shapes[s.target.tensor.0].shape, env) else { return };
        let (masks, value) = s.value.unmasked();
        let v = match s.reduce {
            None => frame.eval(&s.value, env),
            Some(r) => {
                let mut total = r.identity();
                each(&vars, s.free..vars.len(), env, &mut |env| {
                    if !frame.all(masks, env) {
                        return;
                    }
                    let v = frame.eval(value, env);
                    total = match r {
                        ReduceOp::Sum => total + v,
                        ReduceOp::Prod => total * v,
                        ReduceOp::Max => f64::binary(Binary::Max, total, v),
                        ReduceOp::Min => f64::binary(Binary::Min, total, v),
                    };
                });
                total
            }
        };
        results.push((at, v));
    });
    if let Some(out) = tensors.get_mut(&s.target.tensor) {
        results.into_iter().for_each(|(at, v)| out[at] = if s.accumulate { out[at] + v } else { v });
    }
}

fn each(vars: &[Var], range: std::ops::Range<usize>, env: &mut [i64], f: &mut impl FnMut(&mut [i64])) {
    let Some(v) = range.clone().next() else { return f(env) };
    let first = env[v];
    for n in 0..vars[v].extent {
        env[v] = first + n as i64;
        each(vars, v + 1..range.end, env, f);
    }
    env[v] = first;
}

/// The flat index of an element in storage order, `None` outside.
pub fn locate(a: &Access, shape: &[usize], env: &[i64]) -> Option<usize> {
    let mut at = 0;
    for (p, size) in a.positions.iter().zip(shape) {
        at = at * size + p.at(*size, env)?;
    }
    Some(at)
}

struct Frame<'a> {
    shapes: &'a [Tensor],
    tensors: &'a BTreeMap<TensorId, Vec<f64>>,
}

impl Frame<'_> {
    fn find(&self, a: &Access, env: &[i64]) -> Option<usize> {
        locate(a, &self.shapes[a.tensor.0].shape, env)
    }
    fn eval(&self, e: &Expr, env: &[i64]) -> f64 {
        match e {
            Expr::Const(c) => *c,
            Expr::Read(a) => self.tensors[&a.tensor][self.find(a, env).expect("masks keep reads inside")],
            Expr::Unary(f, a) => f64::unary(*f, self.eval(a, env)),
            Expr::Powf(a, n) => Number::powf(self.eval(a, env), *n),
            Expr::Binary(f, a, b) => f64::binary(*f, self.eval(a, env), self.eval(b, env)),
            Expr::Where(c, a, b) => self.eval(if self.test(c, env) { a } else { b }, env),
            Expr::Masked(masks, a) => {
                if self.all(masks, env) {
                    self.eval(a, env)
                } else {
                    0.0
                }
            }
        }
    }
    fn test(&self, c: &Cond, env: &[i64]) -> bool {
        match c {
            Cond::Const(b) => *b,
            Cond::Index(op, a, b) => op.holds(&a.eval(env), &b.eval(env)),
            Cond::Value(op, a, b) => op.holds(&self.eval(a, env), &self.eval(b, env)),
            Cond::Inside(a) => self.find(a, env).is_some(),
            Cond::And(a, b) => self.test(a, env) && self.test(b, env),
            Cond::Or(a, b) => self.test(a, env) || self.test(b, env),
            Cond::Not(a) => !self.test(a, env),
        }
    }
    fn all(&self, masks: &[Mask], env: &[i64]) -> bool {
        masks.iter().all(|m| match m {
            Mask::Within(p, size) => p.at(*size, env).is_some(),
            Mask::Either(a, b) => self.all(a, env) || self.all(b, env),
            Mask::Taken(c, a, b) => self.all(if self.test(c, env) { a } else { b }, env),
        })
    }
}
