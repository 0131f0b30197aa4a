//! The checker of nests: takes a nest, gives the first broken invariant of [`crate::nest`]. A failure is a bug of ours.

use super::*;
use crate::plain::Kernel;
use std::collections::BTreeSet;

/// Checks one function.
pub fn check(k: &Kernel, n: &Nest) -> Result<(), String> {
    let mut c = Checker { k, n, running: BTreeSet::new(), set: BTreeSet::new(), tests: Vec::new() };
    c.nodes(&n.body).map_err(|what| format!("{}::{}::{}: {what}", k.op, k.name, n.name))
}

struct Checker<'a> {
    k: &'a Kernel,
    n: &'a Nest,
    running: BTreeSet<VarId>,
    set: BTreeSet<RegisterId>,
    /// The tests known to hold.
    tests: Vec<Test>,
}

impl Checker<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Comment(..) => {}
                Node::Loop { var, body } => {
                    if !self.running.insert(*var) {
                        return Err(format!("loop `{}` inside itself", self.n.vars[*var].name));
                    }
                    self.nodes(body)?;
                    self.running.remove(var);
                }
                Node::If { tests, body } => {
                    let known = self.tests.len();
                    for t in tests {
                        self.test(t)?;
                        self.learn(t);
                    }
                    self.nodes(body)?;
                    self.tests.truncate(known);
                }
                Node::Init { register, .. } => {
                    self.set.insert(*register);
                }
                Node::Update { place, value, .. } => {
                    self.value(value)?;
                    match place {
                        Place::Element(a) => {
                            let writable =
                                self.n.writes.contains(&a.tensor) || self.n.locals.iter().any(|l| l.tensor == a.tensor);
                            if !writable {
                                return Err(format!("`{}` is written but is no result", self.k.tensor(a.tensor).name));
                            }
                            self.access(a)?;
                        }
                        Place::Register(r, lane) => self.register(*r, lane)?,
                    }
                }
                Node::Fold { into, from, .. } => {
                    if !self.set.contains(into)
                        || !self.set.contains(from)
                        || self.n.registers[*from].lanes.is_none_or(|l| !l.is_power_of_two())
                    {
                        return Err("a fold of registers that are not set or not a power of two".into());
                    }
                }
                Node::Fill(_) => {}
            }
        }
        Ok(())
    }

    fn learn(&mut self, t: &Test) {
        match t {
            Test::And(ts) => ts.iter().for_each(|t| self.learn(t)),
            t => self.tests.push(t.clone()),
        }
    }

    fn linear(&self, l: &Linear) -> Result<(), String> {
        match l.terms.iter().find(|(v, _)| !self.running.contains(v)) {
            Some((v, _)) => Err(format!("variable `{}` outside its loop", self.n.vars[*v].name)),
            None => Ok(()),
        }
    }

    fn register(&self, r: RegisterId, lane: &Option<Linear>) -> Result<(), String> {
        let register = &self.n.registers[r];
        if !self.set.contains(&r) {
            return Err(format!("register `{}` is not set", register.name));
        }
        match (lane, register.lanes) {
            (None, None) => Ok(()),
            (Some(l), Some(lanes)) => {
                self.linear(l)?;
                let (lo, hi) = l.range(&|v| self.n.vars[v].extent);
                if lo < 0 || hi >= lanes as i64 {
                    Err(format!("lane of `{}` out of range", register.name))
                } else {
                    Ok(())
                }
            }
            _ => Err(format!("register `{}` used as what it is not", register.name)),
        }
    }

    fn access(&self, a: &Access) -> Result<(), String> {
        let shape = match self.n.locals.iter().find(|l| l.tensor == a.tensor) {
            Some(l) => l.shape.clone(),
            None if a.flat => vec![self.k.tensor(a.tensor).elements()],
            None => self.k.tensor(a.tensor).shape.clone(),
        };
        let name = &self.k.tensor(a.tensor).name;
        let shape = if a.flat { vec![shape.iter().product()] } else { shape };
        if shape.len() != a.positions.len() {
            return Err(format!("`{name}` has {} dimensions here", shape.len()));
        }
        for (p, size) in a.positions.iter().zip(&shape) {
            self.linear(&p.numerator)?;
            let (lo, hi) = p.numerator.range(&|v| self.n.vars[v].extent);
            let proven = lo >= 0 && hi < *size as i64 && p.divisor == 1;
            let tested = self.tests.contains(&Test::Within {
                numerator: p.numerator.clone(),
                divisor: p.divisor,
                extent: *size,
            });
            let kept = p.guarded && tested;
            if !proven && !kept {
                return Err(format!("`{name}` may be accessed out of bounds"));
            }
        }
        Ok(())
    }

    fn value(&mut self, v: &Value) -> Result<(), String> {
        match v {
            Value::Const(_) => Ok(()),
            Value::Load(a) => self.access(a),
            Value::Register(r, lane) => self.register(*r, lane),
            Value::Unary(_, a) | Value::Powf(a, _) => self.value(a),
            Value::Binary(_, a, b) => {
                self.value(a)?;
                self.value(b)
            }
            Value::Select(t, a, b) => {
                self.test(t)?;
                let known = self.tests.len();
                self.learn(t);
                self.value(a)?;
                self.tests.truncate(known);
                self.learn(&Test::Not(t.clone()));
                self.value(b)?;
                self.tests.truncate(known);
                Ok(())
            }
        }
    }

    fn test(&mut self, t: &Test) -> Result<(), String> {
        match t {
            Test::Within { numerator, .. } => self.linear(numerator),
            Test::Index(_, a, b) => {
                self.linear(a)?;
                self.linear(b)
            }
            Test::Value(_, a, b) => {
                self.value(a)?;
                self.value(b)
            }
            Test::And(ts) => {
                let known = self.tests.len();
                for t in ts {
                    self.test(t)?;
                    self.learn(t);
                }
                self.tests.truncate(known);
                Ok(())
            }
            Test::Or(ts) => ts.iter().try_for_each(|t| self.test(t)),
            Test::Not(t) => self.test(t),
        }
    }
}
