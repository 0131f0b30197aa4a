//! Batches of tangents or cotangents: takes statements that are linear in a seed, gives those of one seed for each
//! element of a tensor, along axes of their own. A seed's value is 1 where both coordinates agree, so that sums over it
//! are reads.
//!
//! Holds after it: what depends on the seed has the axes of the batch before or behind its own; the rest is as it was,
//! once for all.

use super::optimise::with_value;
use crate::derive::plain_index;
use crate::index::normal::{build, part};
use crate::index::*;
use std::collections::{BTreeMap, BTreeSet};

/// Where the axes of the batch stand.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Seeds {
    First,
    Last,
}

/// What is put through a rule.
pub(super) struct Batch {
    /// The tangent or cotangent that is 1 at one coordinate.
    pub seed: TensorId,
    /// Those of the seed, and of the batch.
    pub axes: Vec<AxisId>,
    pub seeds: Seeds,
    /// Other seeds of the rule: nothing comes from them.
    pub zero: BTreeSet<TensorId>,
    /// Results of the rule, and the tensor of the batch of each.
    pub results: BTreeMap<TensorId, TensorId>,
}

impl Batch {
    /// Appends the statements to `out`.
    pub fn run(&self, op: &mut Op, rule: &[Stmt], out: &mut Vec<Stmt>) {
        // What depends on other seeds alone is zero with them.
        let all: BTreeSet<TensorId> = self.zero.iter().copied().chain([self.seed]).collect();
        let linear = &depending(rule, &all) - &depending(rule, &BTreeSet::from([self.seed]));
        let zero = |e: &Expr| match e {
            Expr::Read(t, _) if linear.contains(t) => Some(Expr::zero()),
            _ => None,
        };
        let own = rule.iter().filter(|s| !linear.contains(&s.target));
        let rule: Vec<Stmt> = own.map(|s| with_value(s, &zero)).collect();
        let depending = depending(&rule, &BTreeSet::from([self.seed]));
        let targets = rule.iter().map(|s| s.target).filter(|t| depending.contains(t)).collect::<BTreeSet<_>>();
        let moved: BTreeMap<TensorId, TensorId> = targets.into_iter().map(|t| (t, self.tensor(op, t))).collect();
        // What another batch has made, with all that is added to it.
        let made: BTreeSet<TensorId> = out.iter().map(|s| s.target).collect();
        for s in &rule {
            match moved.get(&s.target) {
                Some(target) if !s.value.is_zero() => out.push(self.statement(op, s, *target, &moved)),
                Some(_) => {}
                None => {
                    // What is not linear in the seed.
                    let linear = matches!(op.tensor(s.target).role, Role::Tangent(_) | Role::Cotangent(_));
                    if !made.contains(&s.target) && !linear && !self.results.contains_key(&s.target) {
                        out.push(s.clone());
                    }
                }
            }
        }
    }

    /// The batch of a tensor.
    fn tensor(&self, op: &mut Op, t: TensorId) -> TensorId {
        if let Some(result) = self.results.get(&t) {
            op.batches.insert(*result, t);
            return *result;
        }
        let Tensor { name, axes, span, .. } = op.tensor(t).clone();
        let axes = self.joined(&axes, &self.axes);
        let by = op.tensor(self.seed).name.clone();
        let batch = op.add_tensor(&format!("{name}_{by}"), axes, Role::RuleLocal, span);
        op.batches.insert(batch, t);
        batch
    }

    fn joined<T: Clone>(&self, own: &[T], batch: &[T]) -> Vec<T> {
        match self.seeds {
            Seeds::First => [batch, own].concat(),
            Seeds::Last => [own, batch].concat(),
        }
    }

    fn statement(&self, op: &Op, s: &Stmt, target: TensorId, moved: &BTreeMap<TensorId, TensorId>) -> Stmt {
        let mut vars = s.vars.clone();
        let first = vars.len();
        let (fresh, _) = plain_index(op, &self.axes);
        for v in fresh {
            let name = (1..)
                .map(|n| if n == 1 { v.name.clone() } else { format!("{}{n}", v.name) })
                .find(|n| !vars.iter().any(|w| w.name == *n));
            vars.push(Var { name: name.expect("numbers do not run out"), axis: v.axis });
        }
        let batch: Vec<VarId> = (first..vars.len()).map(VarId).collect();
        let along: Vec<Affine> = batch.iter().copied().map(Affine::var).collect();
        let value = with_value(s, &|e| match e {
            Expr::Read(t, index) if *t == self.seed => Some(delta(index, &batch)),
            Expr::Read(t, index) => moved.get(t).map(|u| Expr::Read(*u, self.joined(index, &along))),
            _ => None,
        })
        .value;
        let mut index = self.joined(&s.index, &along);
        let mut bound: Vec<VarId> = (s.free..s.vars.len()).map(VarId).collect();
        let mut value = value;
        // A factor that is 1 where two variables agree, and else 0, makes one of both.
        if matches!(s.reduce, None | Some(ReduceOp::Sum))
            && s.scan.is_none()
            && let Some((pairs, rest)) = taken(&value, &batch)
            // A variable of another axis ends elsewhere.
            && pairs.iter().all(|(own, b)| vars[own.0].axis == vars[b.0].axis)
        {
            let same = |v: VarId| pairs.iter().find(|(_, b)| *b == v).map_or(v, |(own, _)| *own);
            let kept = |v: VarId| pairs.iter().find(|(own, _)| *own == v).map_or(v, |(_, batch)| *batch);
            // The batch's variable stays if the equated one is summed over, else the statement's.
            let all_bound = pairs.iter().all(|(own, _)| bound.contains(own));
            let rename = |v: VarId| if all_bound { kept(v) } else { same(v) };
            if all_bound || pairs.iter().all(|(own, _)| !bound.contains(own)) {
                value = rest.moved(&|a| a.rename(&rename));
                index = index.iter().map(|a| a.rename(&rename)).collect();
                bound.retain(|v| !pairs.iter().any(|(own, _)| own == v));
            }
        }
        let reduce = s.reduce.filter(|_| !bound.is_empty()).map(|r| (r, bound));
        let scan = part(s.scan, &index);
        Stmt { scan, ..build(target, index, s.accumulate, &vars, reduce, value, s.span) }
    }
}

/// What the statements compute from any of the tensors given, and these.
pub(super) fn depending(rule: &[Stmt], from: &BTreeSet<TensorId>) -> BTreeSet<TensorId> {
    let mut all = from.clone();
    // In a recurrence a step may read what a later one writes.
    let mut before = 0;
    while all.len() > before {
        before = all.len();
        for s in rule {
            if !s.reads().is_disjoint(&all) {
                all.insert(s.target);
            }
        }
    }
    all
}

/// 1 where the positions are those of the batch, else 0.
fn delta(index: &[Affine], batch: &[VarId]) -> Expr {
    // A condition has no division: what is divided equals a multiple.
    let same = index.iter().zip(batch).map(|(a, b)| {
        let multiple = Affine { terms: vec![(*b, a.divisor.clone())], ..Affine::var(*b) };
        Cond::Index(Compare::Eq, Affine { divisor: Poly::int(1), ..a.clone() }, multiple)
    });
    match same.reduce(Cond::and) {
        Some(same) => Expr::select(same, Expr::one(), Expr::zero()),
        None => Expr::one(),
    }
}

/// The variables that a factor [`delta`] equates, each a variable of the statement and one of the batch, and what the
/// factor stands beside.
fn taken(e: &Expr, batch: &[VarId]) -> Option<(Vec<(VarId, VarId)>, Expr)> {
    match e {
        Expr::Where(c, a, b) if b.is_zero() => {
            let mut pairs = Vec::new();
            if equated(c, batch, &mut pairs) && pairs.len() == batch.len() {
                let own: BTreeSet<VarId> = pairs.iter().map(|(own, _)| *own).collect();
                return (own.len() == pairs.len()).then(|| (pairs, a.as_ref().clone()));
            }
            let (pairs, rest) = taken(a, batch)?;
            Some((pairs, Expr::select(c.as_ref().clone(), rest, Expr::zero())))
        }
        Expr::Unary(Unary::Neg, a) => taken(a, batch).map(|(pairs, rest)| (pairs, std::ops::Neg::neg(rest))),
        Expr::Binary(Binary::Mul, a, b) => match taken(a, batch) {
            Some((pairs, rest)) => Some((pairs, std::ops::Mul::mul(rest, b.as_ref().clone()))),
            None => taken(b, batch).map(|(pairs, rest)| (pairs, std::ops::Mul::mul(a.as_ref().clone(), rest))),
        },
        Expr::Binary(Binary::Div, a, b) => {
            taken(a, batch).map(|(pairs, rest)| (pairs, std::ops::Div::div(rest, b.as_ref().clone())))
        }
        _ => None,
    }
}

/// Whether a condition is that variables of the statement equal those of the batch.
fn equated(c: &Cond, batch: &[VarId], out: &mut Vec<(VarId, VarId)>) -> bool {
    match c {
        Cond::And(a, b) => equated(a, batch, out) && equated(b, batch, out),
        Cond::Index(Compare::Eq, a, b) => match (a.as_var(), b.as_var()) {
            (Some(own), Some(b)) if batch.contains(&b) && !batch.contains(&own) => {
                out.push((own, b));
                true
            }
            _ => false,
        },
        _ => false,
    }
}
