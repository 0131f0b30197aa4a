//! The interpreter of nests: takes a nest and its arguments in storage order, runs it in `f64` just as the generated code would.

use super::*;
use crate::index::eval::Number;
use crate::plain::Kernel;
use std::collections::BTreeMap;

/// Runs one function; results are updated in place.
pub fn run(k: &Kernel, n: &Nest, tensors: &mut BTreeMap<TensorId, Vec<f64>>) {
    for l in &n.locals {
        tensors.insert(l.tensor, vec![f64::NAN; l.shape.iter().product()]);
    }
    for w in &n.writes {
        tensors.entry(*w).or_insert_with(|| vec![f64::NAN; k.tensor(*w).elements()]);
    }
    let registers = n.registers.iter().map(|r| vec![f64::NAN; r.lanes.unwrap_or(1)]).collect();
    let mut m = Machine { k, n, tensors, registers, env: vec![0; n.vars.len()] };
    m.nodes(&n.body);
}

struct Machine<'a> {
    k: &'a Kernel,
    n: &'a Nest,
    tensors: &'a mut BTreeMap<TensorId, Vec<f64>>,
    registers: Vec<Vec<f64>>,
    env: Vec<i64>,
}

fn reduce(op: ReduceOp, a: f64, b: f64) -> f64 {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Prod => a * b,
        ReduceOp::Max => f64::binary(Binary::Max, a, b),
        ReduceOp::Min => f64::binary(Binary::Min, a, b),
    }
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
                Node::Init { register, value } => self.registers[*register].fill(*value),
                Node::Update { place, how, value } => {
                    let v = self.value(value);
                    let slot = match place {
                        Place::Element(a) => {
                            let at = self.locate(a);
                            &mut self.tensors.get_mut(&a.tensor).expect("results are there")[at]
                        }
                        Place::Register(r, lane) => {
                            let at = lane.as_ref().map_or(0, |l| l.eval(&self.env) as usize);
                            &mut self.registers[*r][at]
                        }
                    };
                    *slot = match how {
                        Update::Set => v,
                        Update::Reduce(op) => reduce(*op, *slot, v),
                    };
                }
                Node::Fold { into, from, op } => {
                    let mut lanes = self.registers[*from].clone();
                    while lanes.len() > 1 {
                        let half = lanes.len() / 2;
                        lanes = (0..half).map(|l| reduce(*op, lanes[l], lanes[l + half])).collect();
                    }
                    self.registers[*into][0] = reduce(*op, self.registers[*into][0], lanes[0]);
                }
                Node::Fill(t) => self.tensors.get_mut(t).expect("results are there").fill(0.0),
            }
        }
    }
    fn locate(&self, a: &Access) -> usize {
        let shape = match self.n.locals.iter().find(|l| l.tensor == a.tensor) {
            Some(l) => &l.shape,
            None => &self.k.tensor(a.tensor).shape,
        };
        let position = |p: &Position| (p.numerator.eval(&self.env) / p.divisor) as usize;
        if a.flat {
            position(&a.positions[0])
        } else {
            a.positions.iter().zip(shape).fold(0, |at, (p, n)| at * n + position(p))
        }
    }
    fn value(&self, v: &Value) -> f64 {
        match v {
            Value::Const(c) => *c,
            Value::Load(a) => self.tensors[&a.tensor][self.locate(a)],
            Value::Register(r, lane) => self.registers[*r][lane.as_ref().map_or(0, |l| l.eval(&self.env) as usize)],
            Value::Unary(f, a) => f64::unary(*f, self.value(a)),
            Value::Binary(f, a, b) => f64::binary(*f, self.value(a), self.value(b)),
            Value::Powf(a, n) => Number::powf(self.value(a), *n),
            Value::Select(t, a, b) => self.value(if self.test(t) { a } else { b }),
        }
    }
    fn test(&self, t: &Test) -> bool {
        match t {
            Test::Within { numerator, divisor, extent } => {
                let n = numerator.eval(&self.env);
                n % divisor == 0 && (0..*extent as i64).contains(&(n / divisor))
            }
            Test::Index(op, a, b) => op.holds(&a.eval(&self.env), &b.eval(&self.env)),
            Test::Value(op, a, b) => op.holds(&self.value(a), &self.value(b)),
            Test::And(ts) => ts.iter().all(|t| self.test(t)),
            Test::Or(ts) => ts.iter().any(|t| self.test(t)),
            Test::Not(t) => !self.test(t),
        }
    }
}
