//! The builder of a nest: takes requests for variables, registers and panels, gives what names them, and loops around
//! nodes. It is the only thing that changes while a function is built; questions about what is there go to its
//! [`Lowering`].
//!
//! Holds after it: every variable and register that a node names is declared in the nest.

use super::coalesce::Space;
use super::lower::Lowering;
use super::*;
use crate::plain::Stmt;
use std::collections::{BTreeMap, BTreeSet};

/// A statement's variables as linear maps of nest variables: a loop of its own, a fused one, or a piece of one.
pub(super) type Map = Vec<Linear>;

pub(super) struct Builder<'a> {
    /// As it came, to print statements from.
    pub source: &'a Kernel,
    pub machine: &'static Machine,
    /// Tensors that are registers of epilogues alone: nothing stores them.
    pub in_registers: &'a BTreeSet<TensorId>,
    pub space: Space,
    pub nest: Nest,
    /// The nest variable of each fused loop.
    pub loops: BTreeMap<usize, VarId>,
}

impl Builder<'_> {
    /// What answers questions about accesses, values and tests.
    pub fn lowering(&self) -> Lowering<'_> {
        Lowering { space: &self.space, kernel_tensors: self.source.tensors.len() }
    }

    pub fn var(&mut self, name: &str, extent: usize) -> VarId {
        self.nest.vars.push(Var { name: name.to_string(), extent, counts: None });
        self.nest.vars.len() - 1
    }

    /// A variable that counts registers.
    pub fn counting(&mut self, counts: Counts, name: &str, extent: usize) -> VarId {
        self.nest.vars.push(Var { name: name.to_string(), extent, counts: Some(counts) });
        self.nest.vars.len() - 1
    }

    /// A variable of a tile that is given a value.
    pub fn given(&mut self, name: &str, value: &Linear, params: &mut Vec<(VarId, Linear)>) -> VarId {
        let most = value.range(&|v| self.nest.vars[v].extent).1;
        let var = self.var(name, usize::try_from(most).expect("coordinates are not negative") + 1);
        params.push((var, value.clone()));
        var
    }

    pub fn register(&mut self, name: &str, lanes: Option<usize>, dims: Vec<usize>) -> RegisterId {
        self.nest.registers.push(Register { name: name.to_string(), lanes, dims });
        self.nest.registers.len() - 1
    }

    /// A register with its first value.
    pub fn init(&mut self, name: &str, lanes: Option<usize>, value: Value, out: &mut Vec<Node>) -> RegisterId {
        let register = self.register(name, lanes, Vec::new());
        out.push(Node::Init { register, value });
        register
    }

    /// A scratch tensor of the nest.
    pub fn local(&mut self, name: String, shape: Vec<usize>) -> TensorId {
        let tensor = self.space.add(name.clone(), shape.clone());
        self.nest.locals.push(Local { tensor, name, shape });
        tensor
    }

    /// A panel of this name and shape that is none of `taken`: one that a tile before has left, or a new one.
    pub fn panel(&mut self, name: String, shape: Vec<usize>, taken: &[TensorId]) -> TensorId {
        let lowering = self.lowering();
        let fits = |l: &&Local| {
            lowering.is_panel(l.tensor) && l.name == name && l.shape == shape && !taken.contains(&l.tensor)
        };
        let left = self.nest.locals.iter().find(fits).map(|l| l.tensor);
        left.unwrap_or_else(|| self.local(name, shape))
    }

    /// The map of a statement whose variables in `fixed` are run by fused loops; the others stand at 0.
    pub fn fixed_map(&self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Map {
        (0..s.vars.len())
            .map(|v| fixed.get(&v).map_or_else(Linear::default, |id| Linear::var(self.loops[id])))
            .collect()
    }

    /// Loops of their own for variables, outermost first in the order of the target's storage.
    pub fn loops_of(&mut self, s: &Stmt, vars: impl Iterator<Item = usize>, map: &mut Map) -> Vec<VarId> {
        let mut vars: Vec<usize> = vars.collect();
        let place =
            |v: &usize| s.target.positions.iter().position(|p| p.numerator.coefficient(*v) != 0).unwrap_or(usize::MAX);
        vars.sort_by_key(place);
        vars.into_iter()
            .map(|v| {
                let var = self.var(&s.vars[v].name, s.vars[v].extent);
                map[v] = Linear::var(var);
                var
            })
            .collect()
    }
}

pub(super) fn add(a: &Linear, b: &Linear) -> Linear {
    Linear::new(a.terms.iter().chain(&b.terms).copied(), a.constant + b.constant)
}

/// Loops around nodes, the first outermost.
pub(super) fn looped(vars: &[VarId], body: Vec<Node>) -> Vec<Node> {
    vars.iter().rev().fold(body, |body, var| vec![Node::Loop { var: *var, body }])
}

/// The nest variables that the map uses and `loops` does not run: enclosing ones.
pub(super) fn bound_outside(map: &Map, loops: &[VarId]) -> Vec<VarId> {
    map.iter().flat_map(|l| l.terms.iter().map(|(v, _)| *v)).filter(|v| !loops.contains(v)).collect()
}

/// Loops around `body`, outermost first, each test as far out as its variables are bound.
pub(super) fn nest(loops: &[VarId], tests: Vec<Test>, outside: &[VarId], body: Vec<Node>) -> Vec<Node> {
    let bound: BTreeSet<VarId> = outside.iter().copied().collect();
    let missing = |t: &Test, bound: &BTreeSet<VarId>| {
        let mut missing = false;
        t.vars(&mut |v| missing |= loops.contains(&v) && !bound.contains(&v));
        missing
    };
    let (later, now): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(|t| missing(t, &bound));
    let inner = match loops.split_first() {
        None => body,
        Some((var, rest)) => vec![Node::Loop { var: *var, body: nest_in(rest, later, bound, *var, body) }],
    };
    if now.is_empty() { inner } else { vec![Node::If { tests: now, body: inner }] }
}

fn nest_in(loops: &[VarId], tests: Vec<Test>, bound: BTreeSet<VarId>, var: VarId, body: Vec<Node>) -> Vec<Node> {
    let outside: Vec<VarId> = bound.into_iter().chain([var]).collect();
    nest(loops, tests, &outside, body)
}
