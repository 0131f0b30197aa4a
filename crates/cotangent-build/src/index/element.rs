//! The meaning of single elements: takes statements, a binding and what is given, gives the value of any element of any
//! tensor, computed from just what it depends on. A read finds what a tensor holds in the end, as statements and
//! iterations of recurrences read nothing that is written later.
//!
//! Holds after it: the values are those of [`super::eval`], up to the order of sums.

use super::bind::Binding;
use super::eval::{Element, Frame, Number, Source, Step};
use super::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// How deep elements may depend on elements: further back in a recurrence nothing is followed.
const MOST_DEPTH: usize = 1000;

/// What is given of an element: nothing where statements alone say what it is.
pub type Given<'a, N> = &'a dyn Fn(TensorId, usize) -> Option<N>;

/// The elements of all tensors of an op.
pub struct Elements<'a, N> {
    statements: HashMap<TensorId, Vec<Step<N>>>,
    given: Given<'a, N>,
    /// What was computed, by tensor.
    known: Vec<RefCell<Known<N>>>,
    /// Of each tensor.
    elements: Vec<usize>,
    depth: Cell<usize>,
    work: Cell<u64>,
    /// More terms than this are not computed.
    most: u64,
    beyond: Cell<bool>,
}

/// The elements of a tensor that are known.
enum Known<N> {
    All(Vec<Option<N>>),
    Few(HashMap<usize, N>),
}

/// A tensor of more elements has few that are known.
const MOST_LISTED: usize = 1 << 16;

impl<N: Copy> Known<N> {
    fn get(&self, at: usize) -> Option<N> {
        match self {
            Known::All(values) => values.get(at).copied().flatten(),
            Known::Few(values) => values.get(&at).copied(),
        }
    }
    fn set(&mut self, at: usize, value: N, elements: usize) {
        match self {
            Known::All(values) => {
                values.resize(elements, None);
                values[at] = Some(value);
            }
            Known::Few(values) => _ = values.insert(at, value),
        }
    }
}

impl<'a, N: Number> Elements<'a, N> {
    /// `most`: how many terms are computed, in all.
    pub fn new(op: &Op, binding: &Binding, stmts: &[Stmt], given: Given<'a, N>, most: u64) -> Self {
        let mut statements: HashMap<TensorId, Vec<Step<N>>> = HashMap::new();
        for s in stmts {
            statements.entry(s.target).or_default().push(Step::new(op, binding, s));
        }
        let elements: Vec<usize> = (0..op.tensors.len()).map(|t| binding.elements(op, TensorId(t))).collect();
        let few = |n: &usize| if *n > MOST_LISTED { Known::Few(HashMap::new()) } else { Known::All(Vec::new()) };
        let known = elements.iter().map(few).map(RefCell::new).collect();
        let (depth, work, beyond) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Elements { statements, given, known, elements, depth, work, most, beyond }
    }

    /// The element at a flat index, row-major.
    pub fn value(&self, t: TensorId, at: usize) -> N {
        if let Some(v) = self.known[t.0].borrow().get(at) {
            return v;
        }
        let mut total = (self.given)(t, at).unwrap_or(N::from_f64(0.0));
        if self.depth.get() > MOST_DEPTH || self.beyond.get() {
            self.beyond.set(true);
            return total;
        }
        self.depth.set(self.depth.get() + 1);
        for s in self.statements.get(&t).into_iter().flatten() {
            let mut env = vec![0; s.extents.len()];
            let mut open: Vec<usize> = s.free.iter().copied().chain(s.still).collect();
            s.solve(&coordinates(&s.target, at), &mut open, &mut env, &|n| self.spend(n), &mut |env| {
                let frame = Frame { source: self, outside: &Cell::new(false) };
                let terms = s.bound.iter().map(|slot| s.extents[*slot] as u64).fold(1, u64::saturating_mul);
                if !self.spend(terms) {
                    return;
                }
                let v = frame.result(s.reduce, &s.value, &s.extents, &s.bound, env);
                total = if s.accumulate { total.add(v) } else { v };
            });
        }
        self.depth.set(self.depth.get() - 1);
        self.known[t.0].borrow_mut().set(at, total, self.elements[t.0]);
        total
    }

    /// Counts terms, or coordinates tried; whether they may be computed.
    fn spend(&self, terms: u64) -> bool {
        self.work.set(self.work.get().saturating_add(terms));
        self.beyond.set(self.beyond.get() || self.work.get() > self.most);
        !self.beyond.get()
    }

    /// Terms computed so far.
    pub fn work(&self) -> u64 {
        self.work.get()
    }

    /// Some element took more terms, or was further back in a recurrence, than is followed: the values are not to be
    /// used.
    pub fn beyond(&self) -> bool {
        self.beyond.get()
    }
}

impl<N: Number> Source<N> for Elements<'_, N> {
    fn read(&self, tensor: TensorId, at: usize) -> N {
        self.value(tensor, at)
    }
}

fn coordinates(element: &Element, at: usize) -> Vec<i64> {
    element.positions.iter().map(|p| (at / p.stride) as i64 % p.extent).collect()
}

impl<N> Step<N> {
    /// Calls `f` for each setting of the open slots that reaches the element, unless `spend` forbids to try as many.
    fn solve(
        &self,
        coordinates: &[i64],
        open: &mut Vec<usize>,
        env: &mut [i64],
        spend: &dyn Fn(u64) -> bool,
        f: &mut impl FnMut(&mut [i64]),
    ) {
        let mut solved: Option<(usize, i64)> = None;
        for (p, coordinate) in self.target.positions.iter().zip(coordinates) {
            let (mut unknown, mut rest) = (None, coordinate * p.linear.divisor - p.linear.constant);
            let mut several = false;
            for (c, slot) in &p.linear.terms {
                if open.contains(slot) && *c != 0 {
                    several |= unknown.is_some();
                    unknown = Some((*c, *slot));
                } else {
                    rest -= c * env[*slot];
                }
            }
            match unknown {
                None if rest != 0 => return,
                Some((c, slot)) if !several => {
                    if rest % c != 0 || !(0..self.extents[slot] as i64).contains(&(rest / c)) {
                        return;
                    }
                    solved = Some((slot, rest / c));
                }
                _ => {}
            }
        }
        let smallest = open.iter().copied().min_by_key(|slot| self.extents[*slot]);
        let (slot, values) = match (solved, smallest) {
            (Some((slot, value)), _) => (slot, value..value + 1),
            (None, Some(slot)) => (slot, 0..self.extents[slot] as i64),
            (None, None) => return f(env),
        };
        let place = open.iter().position(|s| *s == slot).expect("it is open");
        open.remove(place);
        if spend((values.end - values.start) as u64) {
            for value in values {
                env[slot] = value;
                self.solve(coordinates, open, env, spend, f);
            }
        }
        open.insert(place, slot);
    }
}
