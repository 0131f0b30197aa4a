//! Joining of dimensions: takes statements, gives them with loops joined whose coordinates follow each other in every
//! tensor.
//!
//! A tensor seen with joined dimensions is an alias, a tensor of its own in [`Space`]. Holds after it: a joined
//! variable keeps the number of the inner one; the outer one has extent 1 and stands nowhere.

use super::*;
use crate::plain::{self, Expr, Stmt, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// The tensors that scheduling sees: the kernel's, locals without the dimensions that loops took over, aliases and
/// panels.
#[derive(Clone)]
pub struct Space {
    pub kernel: plain::Kernel,
    /// What an alias stands for, and how many storage dimensions each of its dimensions joins.
    aliases: BTreeMap<TensorId, (TensorId, Vec<usize>)>,
}

impl Space {
    /// For a function that touches these tensors: of the others there is nothing but their numbers.
    pub fn new(kernel: &plain::Kernel, touched: impl IntoIterator<Item = TensorId>) -> Self {
        let plain::Kernel { op, name, dtype, extents, params, tensors: all, schedule, functions: _, left_out: _ } =
            kernel;
        let role = crate::index::Role::Local;
        let none = Tensor { name: String::new(), role, shape: Vec::new(), dims: Vec::new(), order: Vec::new() };
        let mut tensors = vec![none; all.len()];
        for t in touched.into_iter().collect::<BTreeSet<_>>() {
            tensors[t.0] = all[t.0].clone();
        }
        let kernel = plain::Kernel {
            op: op.clone(),
            name: name.clone(),
            dtype: *dtype,
            extents: extents.clone(),
            params: params.clone(),
            tensors,
            functions: Vec::new(),
            schedule: schedule.clone(),
            left_out: Vec::new(),
        };
        Space { kernel, aliases: BTreeMap::new() }
    }
    /// The tensor behind an alias, and the joined dimensions.
    pub fn stored(&self, t: TensorId) -> (TensorId, Option<Vec<usize>>) {
        self.aliases.get(&t).map_or((t, None), |(of, joined)| (*of, Some(joined.clone())))
    }
    /// A new tensor.
    pub fn add(&mut self, name: String, shape: Vec<usize>) -> TensorId {
        let role = crate::index::Role::Local;
        self.kernel.tensors.push(Tensor { name, role, dims: Vec::new(), order: (0..shape.len()).collect(), shape });
        TensorId(self.kernel.tensors.len() - 1)
    }
    /// The tensor with its dimensions `at` and `at + 1` joined.
    fn join(&mut self, t: TensorId, at: usize) -> TensorId {
        let (of, joined) = self.stored(t);
        let mut shape = self.kernel.tensor(t).shape.clone();
        let mut joined = joined.unwrap_or_else(|| vec![1; shape.len()]);
        joined[at] += joined.remove(at + 1);
        shape[at] *= shape.remove(at + 1);
        let known = self.aliases.iter().find(|(_, (o, j))| *o == of && *j == joined).map(|(t, _)| *t);
        known.unwrap_or_else(|| {
            let name = self.kernel.tensor(of).name.clone();
            let alias = self.add(name, shape);
            self.aliases.insert(alias, (of, joined));
            alias
        })
    }
}

/// Every access of a statement, the target first.
pub fn accesses(s: &Stmt) -> Vec<&plain::Access> {
    let mut all = vec![&s.target];
    s.value.accesses(&mut |a| all.push(a));
    all
}

/// Joins what can be joined, in statements that run over the same variables. Variables in `fixed` are others' loops.
/// Those that a reduction binds keep their order, as it is that of the sum.
pub fn coalesce(space: &mut Space, stmts: &mut [Stmt], fixed: &BTreeSet<usize>) {
    if stmts.iter().any(|s| has_index_test(&s.value)) {
        return;
    }
    for s in stmts.iter_mut() {
        rewrite(s, &mut |a| drop_units(space, a));
    }
    let count = stmts[0].vars.len();
    let free = stmts[0].free;
    let mut again = true;
    while std::mem::take(&mut again) {
        for a in 0..count {
            for b in 0..count {
                let both = a != b && (a < free) == (b < free) && !fixed.contains(&a) && !fixed.contains(&b);
                let extents = (stmts[0].vars[a].extent, stmts[0].vars[b].extent);
                let between = |v: usize| v > a && v < b && stmts[0].vars[v].extent > 1;
                let in_order = a < free || a < b && !(free..count).any(between);
                let loops = extents.0 > 1 && extents.1 > 1 && in_order;
                let all = |space: &Space| {
                    stmts.iter().flat_map(accesses).all(|x| follows(&space.kernel, x, a, b, extents.1).is_some())
                };
                if !both || !loops || !all(space) {
                    continue;
                }
                for s in stmts.iter_mut() {
                    rewrite(s, &mut |x| join(space, x, a, b, extents));
                    s.vars[b].name = format!("{}_{}", s.vars[a].name, s.vars[b].name);
                    s.vars[b].extent = extents.0 * extents.1;
                    s.vars[a].extent = 1;
                }
                again = true;
            }
        }
    }
}

/// Where `a` is directly outside of `b`: the position of `a`, or nothing where neither stands; `None` where they do not
/// follow each other.
fn follows(k: &Kernel, x: &plain::Access, a: usize, b: usize, extent: usize) -> Option<Option<usize>> {
    let at = |v: usize| -> Vec<usize> {
        (0..x.positions.len()).filter(|d| x.positions[*d].numerator.coefficient(v) != 0).collect()
    };
    match (at(a).as_slice(), at(b).as_slice()) {
        ([], []) => Some(None),
        ([outer], [inner]) => {
            let (p, q) = (&x.positions[*outer], &x.positions[*inner]);
            let plain = q.as_var() == Some(b) && !q.guard.any() && k.tensor(x.tensor).shape[*inner] == extent;
            let whole = p.divisor == 1 && !p.guard.any() && p.numerator.coefficient(a) == 1;
            (inner == &(outer + 1) && plain && whole).then_some(Some(*outer))
        }
        _ => None,
    }
}

fn join(space: &mut Space, x: &plain::Access, a: usize, b: usize, extents: (usize, usize)) -> plain::Access {
    let Some(Some(at)) = follows(&space.kernel, x, a, b, extents.1) else { return x.clone() };
    let inner = extents.1 as i64;
    let outer = &x.positions[at].numerator;
    // Every term of the outer position counts whole rows of the inner one; with `b` running over both, `a` is gone.
    let terms = outer.terms.iter().filter(|(v, _)| *v != a).map(|(v, c)| (*v, c * inner)).chain([(b, 1)]);
    let mut positions = x.positions.clone();
    positions[at].numerator = Linear::new(terms, outer.constant * inner);
    positions.remove(at + 1);
    plain::Access { tensor: space.join(x.tensor, at), positions }
}

/// Dimensions of extent 1 belong to the one before.
fn drop_units(space: &mut Space, x: &plain::Access) -> plain::Access {
    let mut x = x.clone();
    let mut at = 1;
    while at < x.positions.len() {
        let unit = space.kernel.tensor(x.tensor).shape[at] == 1;
        let p = &x.positions[at];
        if unit && !p.guard.any() && p.numerator == Linear::constant(0) {
            x.tensor = space.join(x.tensor, at - 1);
            x.positions.remove(at);
        } else {
            at += 1;
        }
    }
    x
}

/// The statement with every access changed.
pub fn rewrite(s: &mut Stmt, f: &mut impl FnMut(&plain::Access) -> plain::Access) {
    s.target = f(&s.target);
    let f = std::cell::RefCell::new(f);
    s.value = s.value.moved(&|a| (f.borrow_mut())(a), &|l| l.clone());
}

/// Whether coordinates are compared anywhere, conditions of compared values included.
pub fn has_index_test(e: &Expr) -> bool {
    let mut found = false;
    e.conds(&mut |c| found |= matches!(c, plain::Cond::Index(..)));
    found
}

/// The statement with `v` running over `from..from + extent` only, guards and masks made anew.
pub fn restrict(k: &Kernel, s: &Stmt, v: usize, from: usize, extent: usize) -> Stmt {
    let mut vars = s.vars.clone();
    vars[v].extent = extent;
    let shifted = |w: usize| match w == v {
        true if extent == 1 => Linear::constant(from as i64),
        true => Linear::new([(v, 1)], from as i64),
        false => Linear::var(w),
    };
    let access = |a: &plain::Access| {
        let shape = &k.tensor(a.tensor).shape;
        let positions = a
            .positions
            .iter()
            .zip(shape)
            .map(|(p, size)| {
                plain::Position::new(p.numerator.substitute(&shifted), p.divisor, *size, &|w| vars[w].extent)
            })
            .collect();
        plain::Access { tensor: a.tensor, positions }
    };
    let value = s.value.moved(&access, &|l| l.substitute(&shifted)).settled(&|w| vars[w].extent);
    Stmt { target: access(&s.target), value, vars, ..s.clone() }
}
