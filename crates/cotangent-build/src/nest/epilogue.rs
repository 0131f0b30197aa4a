//! Epilogues: takes the steps of a function, gives for each reduction the elementwise steps behind it that compute one
//! element from each of its results, as statements over its own variables. A tile runs them on its accumulators, before
//! anything is stored.
//!
//! Holds after it: an epilogue reads what the reduction and the epilogue's own steps write at the element at hand
//! alone; everything else that it reads was there before the reduction began.

use crate::functions::Cost;
use crate::index::TensorId;
use crate::plain::{Access, Cond, Expr, Step, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// What follows a reduction.
#[derive(Clone, Debug)]
pub struct Epilogue {
    /// What the reduction writes.
    pub of: TensorId,
    /// Over the reduction's variables.
    pub stmts: Vec<Stmt>,
    /// What only the epilogue reads: it needs no memory.
    pub inner: BTreeSet<TensorId>,
}

/// The steps behind the first that are its epilogue, over its variables.
pub fn follows(steps: &[Step]) -> Vec<Stmt> {
    let Some(Step::Stmt(of)) = steps.first() else { return Vec::new() };
    let whole = |s: &Stmt| s.target.positions.iter().map(|p| p.as_var()).collect::<Option<Vec<usize>>>();
    let Some(own) = whole(of).filter(|own| of.reduce.is_some() && !of.accumulate && all_once(own, of.free)) else {
        return Vec::new();
    };
    // What is known of each element: the reduction's variables by the dimensions of the tensor.
    let mut known: BTreeMap<TensorId, Vec<usize>> = BTreeMap::from([(of.target.tensor, own)]);
    let mut read: BTreeSet<TensorId> = BTreeSet::new();
    of.value.accesses(&mut |a| _ = read.insert(a.tensor));
    let mut out = Vec::new();
    for step in &steps[1..] {
        let Step::Stmt(s) = step else { break };
        let Some(s) = over(of, s, &known) else { break };
        let target = s.target.positions.iter().map(|p| p.as_var()).collect::<Option<Vec<usize>>>();
        let Some(target) = target.filter(|t| all_once(t, of.free)) else { break };
        if read.contains(&s.target.tensor) || known.contains_key(&s.target.tensor) {
            break;
        }
        s.value.accesses(&mut |a| _ = (!known.contains_key(&a.tensor)).then(|| read.insert(a.tensor)));
        known.insert(s.target.tensor, target);
        out.push(s);
    }
    out
}

/// Every free variable, once each.
fn all_once(vars: &[usize], free: usize) -> bool {
    vars.len() == free && vars.iter().collect::<BTreeSet<_>>().len() == free && vars.iter().all(|v| *v < free)
}

/// An elementwise statement over the variables of `of`.
fn over(of: &Stmt, s: &Stmt, known: &BTreeMap<TensorId, Vec<usize>>) -> Option<Stmt> {
    let plain = s.reduce.is_none() && !s.accumulate && cheap(&s.value);
    let mut reads: Vec<&Access> = Vec::new();
    s.value.accesses(&mut |a| reads.push(a));
    let guarded = reads.iter().chain([&&s.target]).any(|a| a.positions.iter().any(|p| p.guard.any() || p.divisor != 1));
    if !plain || guarded || s.free != of.free {
        return None;
    }
    // Its variables by those of the reduction, the same for every element that it reads of it.
    let mut map: Vec<Option<usize>> = vec![None; s.vars.len()];
    for a in reads {
        let Some(own) = known.get(&a.tensor) else { continue };
        for (p, v) in a.positions.iter().zip(own) {
            let w = p.as_var()?;
            if map[w].is_some_and(|known| known != *v) || s.vars[w].extent != of.vars[*v].extent {
                return None;
            }
            map[w] = Some(*v);
        }
    }
    let map: Vec<usize> = map.into_iter().collect::<Option<_>>()?;
    let access = |a: &Access| a.renamed(&|v| map[v]);
    Some(Stmt {
        target: access(&s.target),
        vars: of.vars.clone(),
        free: of.free,
        value: s.value.moved(&access, &|l| l.renamed(&|v| map[v])),
        ..s.clone()
    })
}

/// Arithmetic and choices alone: what has branches of its own is better off in a loop of its own.
pub fn cheap(e: &Expr) -> bool {
    fn cond(c: &Cond) -> bool {
        match c {
            Cond::Const(_) => true,
            Cond::Value(_, a, b) => cheap(a) && cheap(b),
            Cond::Index(..) | Cond::Inside(_) => false,
            Cond::And(a, b) | Cond::Or(a, b) => cond(a) && cond(b),
            Cond::Not(a) => cond(a),
        }
    }
    match e {
        Expr::Const(_) | Expr::Read(_) => true,
        Expr::Masked(_, a) => cheap(a),
        Expr::Unary(f, a) => vectors(f.cost()) && cheap(a),
        Expr::Powf(a, n) => *n == 2.0 && cheap(a),
        Expr::Binary(f, a, b) => vectors(f.cost()) && cheap(a) && cheap(b),
        Expr::Where(c, a, b) => cond(c) && cheap(a) && cheap(b),
    }
}

/// What an instruction set computes of a whole register of lanes. A division is one of these though it is slow; masks
/// and roots have no instruction here, so lanes would leave their registers.
fn vectors(cost: Cost) -> bool {
    match cost {
        Cost::Sign | Cost::Arithmetic | Cost::Extremum | Cost::Division => true,
        Cost::Mask | Cost::Few | Cost::Root | Cost::Call => false,
    }
}

/// The steps without those that are epilogues, and these. `locals` are the function's own tensors.
pub fn split(steps: &[Step], locals: &[TensorId]) -> (Vec<Step>, Vec<Epilogue>) {
    let locals: BTreeSet<TensorId> = locals.iter().copied().collect();
    let readers = readers(steps.iter().flat_map(Step::stmts));
    let (mut left, mut all) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        let stmts = follows(&steps[at..]);
        left.push(step.clone());
        at += 1 + stmts.len();
        if stmts.is_empty() {
            continue;
        }
        let of = step.stmts()[0].target.tensor;
        let own = stmts.iter().map(|s| s.target.tensor).chain([of]);
        let here = self::readers(&stmts);
        let inside = |t: &TensorId| locals.contains(t) && here.get(t) == readers.get(t);
        let inner = own.filter(inside).collect();
        all.push(Epilogue { of, stmts, inner });
    }
    (left, all)
}

/// How many statements read each tensor.
fn readers<'a>(stmts: impl IntoIterator<Item = &'a Stmt>) -> BTreeMap<TensorId, usize> {
    let mut all = BTreeMap::new();
    for s in stmts {
        let mut own = BTreeSet::new();
        s.value.accesses(&mut |a| _ = own.insert(a.tensor));
        own.into_iter().for_each(|t| *all.entry(t).or_insert(0) += 1);
    }
    all
}
