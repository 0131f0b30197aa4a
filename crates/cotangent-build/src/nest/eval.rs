//! The interpreter of nests: takes a nest, numbers and a memory that holds its tensors in storage order; runs it just
//! as the generated code would.

use super::*;
use crate::index::eval::Number;
use crate::plain::Kernel;
use std::collections::BTreeMap;

/// Runs one function in `f64`; results are updated in place.
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
    run_in(k, n, tensors, fused);
}

/// Runs one function in a memory; `fused` as of [`run_as`].
pub fn run_in<N: Number>(k: &Kernel, n: &Nest, memory: &mut impl Memory<N>, fused: bool) {
    // A register that nothing set holds a number that nothing expects.
    let unset = |r: &Register| Lanes::all(N::from_f64(0x5eed as f64), r.lanes.unwrap_or(1));
    let registers =
        n.registers.iter().map(|r| vec![unset(r); r.dims.iter().map(|v| n.vars[*v].extent).product()]).collect();
    let mut m = Interpreter { k, n, memory, registers, env: vec![None; n.vars.len()], fused };
    m.nodes(&n.body);
}

/// What holds the tensors, by their flat index in storage order, and says what runs.
pub trait Memory<N> {
    fn read(&mut self, t: TensorId, at: usize) -> N;
    fn write(&mut self, t: TensorId, at: usize, how: Update, value: N);
    /// Sets every element.
    fn fill(&mut self, t: TensorId, value: N);
    /// Which iterations of a loop run, given where the loops around it stand; `None`: all.
    fn iterations(&mut self, _var: VarId, _body: &[Node], _env: &[Option<i64>]) -> Option<Vec<i64>> {
        None
    }
}

impl Memory<f64> for BTreeMap<TensorId, Vec<f64>> {
    fn read(&mut self, t: TensorId, at: usize) -> f64 {
        self[&t][at]
    }
    fn write(&mut self, t: TensorId, at: usize, how: Update, value: f64) {
        let slot = &mut self.get_mut(&t).expect("results are there")[at];
        *slot = updated(how, *slot, value);
    }
    fn fill(&mut self, t: TensorId, value: f64) {
        self.get_mut(&t).expect("results are there").fill(value);
    }
}

/// What an update makes of a number that is there.
pub fn updated<N: Number>(how: Update, old: N, new: N) -> N {
    match how {
        Update::Set => new,
        Update::Reduce(op) => reduce(op, old, new),
    }
}

fn reduce<N: Number>(op: ReduceOp, a: N, b: N) -> N {
    match op {
        ReduceOp::Sum => a.add(b),
        ReduceOp::Prod => a.mul(b),
        ReduceOp::Max => N::binary(Binary::Max, a, b),
        ReduceOp::Min => N::binary(Binary::Min, a, b),
    }
}

fn fold<N: Number>(op: ReduceOp, lanes: &Lanes<N>) -> N {
    let mut lanes = *lanes;
    while lanes.count > 1 {
        lanes.count /= 2;
        for l in 0..lanes.count {
            lanes.values[l] = reduce(op, lanes.values[l], lanes.values[l + lanes.count]);
        }
    }
    lanes.values[0]
}

/// The most lanes of a register.
const MOST_LANES: usize = 16;

/// As many values as lanes, or one.
#[derive(Clone, Copy)]
struct Lanes<N> {
    count: usize,
    values: [N; MOST_LANES],
}

impl<N: Number> Lanes<N> {
    fn all(value: N, count: usize) -> Self {
        assert!(count <= MOST_LANES, "{count} lanes");
        Lanes { count, values: [value; MOST_LANES] }
    }
    fn one(value: N) -> Self {
        Lanes::all(value, 1)
    }
    fn from_fn(count: usize, mut f: impl FnMut(usize) -> N) -> Self {
        let mut lanes = Lanes::all(f(0), count);
        for l in 1..count {
            lanes.values[l] = f(l);
        }
        lanes
    }
    fn each(mut self, f: impl Fn(N) -> N) -> Self {
        for l in 0..self.count {
            self.values[l] = f(self.values[l]);
        }
        self
    }
    fn zip(mut self, other: &Self, f: impl Fn(N, N) -> N) -> Self {
        for l in 0..self.count {
            self.values[l] = f(self.values[l], other.values[l]);
        }
        self
    }
}

struct Interpreter<'a, N, M> {
    k: &'a Kernel,
    n: &'a Nest,
    memory: &'a mut M,
    /// Of an array of registers one after the other.
    registers: Vec<Vec<Lanes<N>>>,
    /// Where the loops stand that run.
    env: Vec<Option<i64>>,
    fused: bool,
}

impl<N: Number, M: Memory<N>> Interpreter<'_, N, M> {
    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Comment(..) => {}
                Node::Loop { var, body } => {
                    match self.memory.iterations(*var, body, &self.env) {
                        Some(iterations) => iterations.into_iter().for_each(|i| self.iteration(*var, i, body)),
                        None => (0..self.n.vars[*var].extent).for_each(|i| self.iteration(*var, i as i64, body)),
                    }
                    self.env[*var] = None;
                }
                Node::Tile(t) => {
                    let given: Vec<i64> = t.params.iter().map(|(_, value)| self.linear(value)).collect();
                    t.params.iter().zip(given).for_each(|((var, _), at)| self.env[*var] = Some(at));
                    self.nodes(&t.body);
                    t.params.iter().for_each(|(var, _)| self.env[*var] = None);
                }
                Node::Let { var, value, most } => self.env[*var] = Some(self.linear(value).min(*most as i64)),
                Node::If { tests, body } => {
                    if tests.iter().all(|t| self.test(t)) {
                        self.nodes(body);
                    }
                }
                // Twice, as it may have to.
                Node::Speculative { body } => {
                    self.nodes(body);
                    self.nodes(body);
                }
                Node::Init { register, value } => {
                    let dims = &self.n.registers[*register].dims;
                    for n in 0..self.registers[*register].len() {
                        let mut rest = n;
                        for v in dims.iter().rev() {
                            self.env[*v] = Some((rest % self.n.vars[*v].extent) as i64);
                            rest /= self.n.vars[*v].extent;
                        }
                        self.registers[*register][n] = self.value(value);
                    }
                    dims.iter().for_each(|v| self.env[*v] = None);
                }
                Node::Update { place: Place::Element(a), how: Update::Reduce(ReduceOp::Sum), value } if self.fused => {
                    let at = self.locate(a);
                    let sum = Lanes::one(self.memory.read(a.tensor, at));
                    let sum = self.sum(sum, value);
                    self.memory.write(a.tensor, at, Update::Set, sum.values[0]);
                }
                Node::Update { place: Place::Register(slot), how: Update::Reduce(ReduceOp::Sum), value }
                    if self.fused =>
                {
                    let sum = self.sum(self.slot(slot), value);
                    *self.slot_mut(slot) = sum;
                }
                Node::Update { place, how, value } => {
                    let v = self.value(value);
                    match place {
                        Place::Element(a) => {
                            let at = self.locate(a);
                            self.memory.write(a.tensor, at, *how, v.values[0]);
                        }
                        Place::Lanes(a, lanes) => {
                            let at = self.locate(a);
                            lanes.clone().for_each(|l| self.memory.write(a.tensor, at + l, *how, v.values[l]));
                        }
                        Place::Register(slot) => {
                            let register = self.slot_mut(slot);
                            *register = register.zip(&v, |old, new| updated(*how, old, new));
                        }
                    }
                }
                Node::Transpose(t) => self.transpose(t),
                Node::Fold { into, from, op } => {
                    let folded = fold(*op, &self.slot(from));
                    let into = &mut self.slot_mut(into).values[0];
                    *into = reduce(*op, *into, folded);
                }
                Node::Sums { into, from } => {
                    let sums = |l: usize| fold(ReduceOp::Sum, &self.slot(&from[l]));
                    let sums = Lanes::from_fn(from.len(), sums);
                    self.registers[*into].fill(sums);
                }
                Node::Fill(t) => self.memory.fill(*t, N::from_f64(0.0)),
            }
        }
    }
    /// Rows that are read, and written as columns.
    fn transpose(&mut self, t: &BlockTranspose) {
        let [count, columns] = [t.row, t.column].map(|v| self.n.vars[v].extent);
        let at = |this: &mut Self, var: VarId, i: usize, a: &Access| {
            this.env[var] = Some(i as i64);
            this.locate(a)
        };
        let mut rows = Vec::new();
        for i in 0..count {
            let at = at(self, t.row, i, &t.from);
            rows.push((0..columns).map(|l| self.memory.read(t.from.tensor, at + l)).collect::<Vec<N>>());
        }
        for i in 0..columns {
            let at = at(self, t.column, i, &t.to);
            for (j, row) in rows.iter().enumerate() {
                self.memory.write(t.to.tensor, at + j, Update::Set, row[i]);
            }
        }
        [t.row, t.column].into_iter().for_each(|var| self.env[var] = None);
    }
    /// A sum with a value added, its products fused, the last term first.
    fn sum(&mut self, sum: Lanes<N>, v: &Value) -> Lanes<N> {
        let product =
            |a: Lanes<N>, b: &Lanes<N>| Lanes::from_fn(sum.count, |l| a.values[l].mul_add(b.values[l], sum.values[l]));
        match v {
            Value::Binary(Binary::Add, a, b) => {
                let sum = self.sum(sum, b);
                self.sum(sum, a)
            }
            Value::Binary(Binary::Mul, a, b) => product(self.value(a), &self.value(b)),
            Value::Powf(a, n) if *n == 2.0 => {
                let a = self.value(a);
                product(a, &a)
            }
            v => sum.zip(&self.value(v), N::add),
        }
    }
    fn place(&self, slot: &Slot) -> usize {
        let dims = &self.n.registers[slot.register].dims;
        let extent = |v: &VarId| self.n.vars[*v].extent;
        slot.at.iter().zip(dims).fold(0, |sum, (at, v)| sum * extent(v) + self.linear(at) as usize)
    }
    fn slot(&self, slot: &Slot) -> Lanes<N> {
        self.registers[slot.register][self.place(slot)]
    }
    fn slot_mut(&mut self, slot: &Slot) -> &mut Lanes<N> {
        let at = self.place(slot);
        &mut self.registers[slot.register][at]
    }
    fn iteration(&mut self, var: VarId, i: i64, body: &[Node]) {
        self.env[var] = Some(i);
        self.nodes(body);
    }
    fn linear(&self, l: &Linear) -> i64 {
        l.terms.iter().fold(l.constant, |sum, (v, c)| sum + c * self.env[*v].expect("a variable is used in its loop"))
    }
    fn locate(&self, a: &Access) -> usize {
        let mut rest = self.n.shape(self.k, a.tensor);
        let mut at = 0;
        for (p, joined) in a.positions.iter().zip(&a.joined) {
            let (these, after) = rest.split_at(*joined);
            rest = after;
            at = at * these.iter().product::<usize>() + (self.linear(&p.numerator) / p.divisor) as usize;
        }
        at
    }
    fn value(&mut self, v: &Value) -> Lanes<N> {
        match v {
            Value::Const(c) => Lanes::one(N::from_f64(*c)),
            Value::Load(a) => {
                let at = self.locate(a);
                Lanes::one(self.memory.read(a.tensor, at))
            }
            Value::Lanes(a, width, count) => {
                let at = self.locate(a);
                let zero = N::from_f64(0.0);
                Lanes::from_fn(*width, |l| if l < *count { self.memory.read(a.tensor, at + l) } else { zero })
            }
            Value::Splat(a, width) => Lanes::all(self.scalar(a), *width),
            Value::Register(slot) => self.slot(slot),
            Value::Unary(f, a) => self.value(a).each(|x| N::unary(*f, x)),
            Value::Binary(f, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                a.zip(&b, |a, b| N::binary(*f, a, b))
            }
            Value::Powf(a, n) => self.value(a).each(|x| x.powf(*n)),
            Value::Fused(a, b, c) if self.fused => Lanes::one(self.scalar(a).mul_add(self.scalar(b), self.scalar(c))),
            Value::Fused(a, b, c) => Lanes::one(self.scalar(a).mul(self.scalar(b)).add(self.scalar(c))),
            Value::Each(f, all) => Lanes::from_fn(all.len(), |l| N::unary(*f, self.scalar(&all[l]))),
            Value::Lane(slot, lane) => Lanes::one(self.slot(slot).values[*lane]),
            Value::Choose(op, all) => {
                let [a, b, yes, no] = all.each_ref().map(|v| self.value(v));
                let holds = |l: usize| N::compare(*op, a.values[l], b.values[l]);
                Lanes::from_fn(a.count, |l| if holds(l) { yes.values[l] } else { no.values[l] })
            }
            Value::Select(t, a, b) => {
                let taken = if self.test(t) { a } else { b };
                self.value(taken)
            }
        }
    }
    fn scalar(&mut self, v: &Value) -> N {
        self.value(v).values[0]
    }
    fn test(&mut self, t: &Test) -> bool {
        match t {
            Test::Within { numerator, divisor, extent } => {
                let n = self.linear(numerator);
                n % divisor == 0 && (0..*extent as i64).contains(&(n / divisor))
            }
            Test::Index(op, a, b) => op.holds(&self.linear(a), &self.linear(b)),
            Test::Value(op, a, b) => {
                let (a, b) = (self.scalar(a), self.scalar(b));
                N::compare(*op, a, b)
            }
            Test::And(ts) => ts.iter().all(|t| self.test(t)),
            Test::Or(ts) => ts.iter().any(|t| self.test(t)),
            Test::Not(t) => !self.test(t),
        }
    }
}
