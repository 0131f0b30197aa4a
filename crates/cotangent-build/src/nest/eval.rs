//! The interpreter of nests: takes a nest and its arguments in storage order, runs it in `f64` just as the generated code would.

use super::*;
use crate::index::eval::Number;
use crate::plain::Kernel;
use std::collections::BTreeMap;

/// Runs one function; results are updated in place.
pub fn run(k: &Kernel, n: &Nest, tensors: &mut BTreeMap<TensorId, Vec<f64>>) {
    run_as(k, n, tensors, false);
}

/// As [`run`]; where `fused`, a product that is added is rounded once, as by instruction sets that can.
pub fn run_as(k: &Kernel, n: &Nest, tensors: &mut BTreeMap<TensorId, Vec<f64>>, fused: bool) {
    for l in &n.locals {
        tensors.insert(l.tensor, vec![f64::NAN; l.shape.iter().product()]);
    }
    for w in &n.writes {
        tensors.entry(*w).or_insert_with(|| vec![f64::NAN; k.tensor(*w).elements()]);
    }
    let registers = vec![Vec::new(); n.registers.len()];
    let mut m = Machine { k, n, tensors, registers, env: vec![0; n.vars.len()], fused };
    m.nodes(&n.body);
}

struct Machine<'a> {
    k: &'a Kernel,
    n: &'a Nest,
    tensors: &'a mut BTreeMap<TensorId, Vec<f64>>,
    registers: Vec<Vec<f64>>,
    env: Vec<i64>,
    fused: bool,
}

fn reduce(op: ReduceOp, a: f64, b: f64) -> f64 {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Prod => a * b,
        ReduceOp::Max => f64::binary(Binary::Max, a, b),
        ReduceOp::Min => f64::binary(Binary::Min, a, b),
    }
}

fn fold(op: ReduceOp, lanes: &[f64]) -> f64 {
    let mut lanes = lanes.to_vec();
    while lanes.len() > 1 {
        let half = lanes.len() / 2;
        lanes = (0..half).map(|l| reduce(op, lanes[l], lanes[l + half])).collect();
    }
    lanes[0]
}

impl Machine<'_> {
    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Comment(..) => {}
                Node::Loop { var, body } => {
                    for i in 0..self.n.vars[*var].extent {
                        self.env[*var] = i as i64;
                        self.nodes(body);
                    }
                }
                Node::If { tests, body } => {
                    if tests.iter().all(|t| self.test(t)) {
                        self.nodes(body);
                    }
                }
                // Twice, as it may have to.
                Node::Trial { body } => {
                    self.nodes(body);
                    self.nodes(body);
                }
                Node::Init { register, value } => self.registers[*register] = self.value(value),
                Node::Update { place: Place::Element(a), how: Update::Reduce(ReduceOp::Sum), value } if self.fused => {
                    let at = self.locate(a);
                    let sum = self.sum(vec![self.tensors[&a.tensor][at]], value);
                    self.tensors.get_mut(&a.tensor).expect("results are there")[at] = sum[0];
                }
                Node::Update { place: Place::Register(r), how: Update::Reduce(ReduceOp::Sum), value } if self.fused => {
                    self.registers[*r] = self.sum(self.registers[*r].clone(), value);
                }
                Node::Update { place, how, value } => {
                    let v = self.value(value);
                    let set = |slot: &mut f64, v: f64| {
                        *slot = match how {
                            Update::Set => v,
                            Update::Reduce(op) => reduce(*op, *slot, v),
                        }
                    };
                    match place {
                        Place::Element(a) => {
                            let at = self.locate(a);
                            set(&mut self.tensors.get_mut(&a.tensor).expect("results are there")[at], v[0]);
                        }
                        Place::Lanes(a, lanes) => {
                            let at = self.locate(a);
                            let to = self.tensors.get_mut(&a.tensor).expect("results are there");
                            lanes.clone().for_each(|l| set(&mut to[at + l], v[l]));
                        }
                        Place::Register(r) => self.registers[*r].iter_mut().zip(v).for_each(|(x, v)| set(x, v)),
                    }
                }
                Node::Transpose { from, to } => {
                    let rows: Vec<Vec<f64>> = from.iter().map(|a| self.elements(a, to.len())).collect();
                    for (i, a) in to.iter().enumerate() {
                        let at = self.locate(a);
                        let to = self.tensors.get_mut(&a.tensor).expect("results are there");
                        rows.iter().enumerate().for_each(|(j, row)| to[at + j] = row[i]);
                    }
                }
                Node::Fold { into, from, op } => {
                    let folded = fold(*op, &self.registers[*from]);
                    self.registers[*into][0] = reduce(*op, self.registers[*into][0], folded);
                }
                Node::Sums { into, from } => {
                    self.registers[*into] = from.iter().map(|r| fold(ReduceOp::Sum, &self.registers[*r])).collect();
                }
                Node::Fill(t) => self.tensors.get_mut(t).expect("results are there").fill(0.0),
            }
        }
    }
    /// A sum with a value added, its products fused, the last term first.
    fn sum(&self, sum: Vec<f64>, v: &Value) -> Vec<f64> {
        let product = |a: &Value, b: &Value, sum: Vec<f64>| {
            let both = self.value(a).into_iter().zip(self.value(b));
            both.zip(sum).map(|((a, b), sum)| a.mul_add(b, sum)).collect()
        };
        match v {
            Value::Binary(Binary::Add, a, b) => self.sum(self.sum(sum, b), a),
            Value::Binary(Binary::Mul, a, b) => product(a, b, sum),
            Value::Powf(a, n) if *n == 2.0 => product(a, a, sum),
            v => sum.into_iter().zip(self.value(v)).map(|(sum, v)| sum + v).collect(),
        }
    }
    fn locate(&self, a: &Access) -> usize {
        let extents = a.extents(self.n.shape(self.k, a.tensor));
        let position = |p: &Position| (p.numerator.eval(&self.env) / p.divisor) as usize;
        a.positions.iter().zip(extents).fold(0, |at, (p, n)| at * n + position(p))
    }
    fn elements(&self, a: &Access, count: usize) -> Vec<f64> {
        let at = self.locate(a);
        self.tensors[&a.tensor][at..at + count].to_vec()
    }
    /// As many values as lanes, or one.
    fn value(&self, v: &Value) -> Vec<f64> {
        let each = |a: &Value, f: &dyn Fn(f64) -> f64| self.value(a).into_iter().map(f).collect();
        match v {
            Value::Const(c) => vec![*c],
            Value::Load(a) => self.elements(a, 1),
            Value::Lanes(a, width, count) => {
                let mut lanes = self.elements(a, *count);
                lanes.resize(*width, 0.0);
                lanes
            }
            Value::Splat(a, width) => vec![self.scalar(a); *width],
            Value::Register(r) => self.registers[*r].clone(),
            Value::Unary(f, a) => each(a, &|x| f64::unary(*f, x)),
            Value::Binary(f, a, b) => {
                self.value(a).into_iter().zip(self.value(b)).map(|(a, b)| f64::binary(*f, a, b)).collect()
            }
            Value::Powf(a, n) => each(a, &|x| Number::powf(x, *n)),
            Value::Fused(a, b, c) if self.fused => vec![self.scalar(a).mul_add(self.scalar(b), self.scalar(c))],
            Value::Fused(a, b, c) => vec![self.scalar(a) * self.scalar(b) + self.scalar(c)],
            Value::Each(f, all) => all.iter().map(|a| f64::unary(*f, self.scalar(a))).collect(),
            Value::Lane(r, lane) => vec![self.registers[*r][*lane]],
            Value::Choose(op, all) => {
                let [a, b, yes, no] = all.each_ref().map(|v| self.value(v));
                (0..a.len()).map(|l| if op.holds(&a[l], &b[l]) { yes[l] } else { no[l] }).collect()
            }
            Value::Select(t, a, b) => self.value(if self.test(t) { a } else { b }),
        }
    }
    fn scalar(&self, v: &Value) -> f64 {
        self.value(v)[0]
    }
    fn test(&self, t: &Test) -> bool {
        match t {
            Test::Within { numerator, divisor, extent } => {
                let n = numerator.eval(&self.env);
                n % divisor == 0 && (0..*extent as i64).contains(&(n / divisor))
            }
            Test::Index(op, a, b) => op.holds(&a.eval(&self.env), &b.eval(&self.env)),
            Test::Value(op, a, b) => op.holds(&self.scalar(a), &self.scalar(b)),
            Test::And(ts) => ts.iter().all(|t| self.test(t)),
            Test::Or(ts) => ts.iter().any(|t| self.test(t)),
            Test::Not(t) => !self.test(t),
        }
    }
}
