//! Blocks of rows: takes the tree of a function's loops, gives those in blocks whose iterations wait for sums. A
//! statement runs for all rows of a block before the next one begins, so that their sums overlap: in one row after the
//! other each would wait for the last one's lanes to be folded.
//!
//! Holds after it: a local of one row has an element for each row of the block, unless it lives in a loop inside; the
//! steps stand in the order in which they stood, and each has the variables of its own that it had: what is chosen for
//! one row is chosen for each of a block.

use super::fuse::{Fused, Tree};
use super::lanes::{Along, along};
use crate::index::TensorId;
use crate::plain::{Access, Kernel, Linear, Position, Step, Stmt, Var};
use std::collections::{BTreeMap, BTreeSet};

/// The most rows of a block.
const ROWS: usize = 4;
/// The most bytes of a block's rows, which each of its statements reads again: three quarters of a small first-level
/// cache.
const BYTES: usize = 24 * 1024;
/// The fewest terms of the sums that are waited for: with few of them rows overlap by themselves where a core looks
/// ahead, and a core in order has nothing of it. Of 64, a Cortex-M4 took as many instructions in a third more code.
const TERMS: usize = 128;

/// Cuts the loops of a function where that pays.
pub fn in_blocks(fused: &mut Fused, kernel: &Kernel) {
    let trees = std::mem::take(&mut fused.trees);
    fused.trees = trees.into_iter().map(|tree| cut(tree, fused, kernel)).collect();
}

fn cut(tree: Tree, fused: &mut Fused, kernel: &Kernel) -> Tree {
    let Tree::Loop { id, name, extent, recurs, body } = tree else { return tree };
    let lives = lives(&body, id, fused);
    let rows = if recurs { None } else { rows(&body, [id, extent], &lives, fused, kernel) };
    let Some(rows) = rows else {
        let body = body.into_iter().map(|tree| cut(tree, fused, kernel)).collect();
        return Tree::Loop { id, name, extent, recurs, body };
    };
    for (t, dim) in &lives {
        fused.dropped.get_mut(t).expect("a dimension is dropped").remove(dim);
        fused.rows.insert(*t, (*dim, rows));
    }
    let mut out = Vec::new();
    for mut part in independent(body) {
        let inside = fused.loops;
        fused.loops += 1;
        part.iter_mut().for_each(|tree| blocked(tree, [id, inside], rows, &lives));
        out.push(Tree::Loop { id: inside, name: name.clone(), extent: rows, recurs: false, body: part });
    }
    Tree::Loop { id, name: format!("{name}_block"), extent: extent / rows, recurs, body: out }
}

/// A body in parts, none of which reads what it writes, but in loops of its own.
fn independent(body: Vec<Tree>) -> Vec<Vec<Tree>> {
    let mut parts: Vec<Vec<Tree>> = Vec::new();
    let mut written = BTreeSet::new();
    for tree in body {
        let (reads, writes) = touched(&tree);
        match parts.last_mut().filter(|_| written.is_disjoint(&reads)) {
            Some(part) => part.push(tree),
            None => {
                written.clear();
                parts.push(vec![tree]);
            }
        }
        written.extend(writes);
    }
    parts
}

/// What a part of a body reads, and what it writes.
fn touched(tree: &Tree) -> (BTreeSet<TensorId>, BTreeSet<TensorId>) {
    let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
    each(tree, &mut |s, _| {
        writes.insert(s.target.tensor);
        s.value.accesses(&mut |a| _ = reads.insert(a.tensor));
    });
    (reads, writes)
}

/// The locals of one iteration that several parts of the body touch, each with the dimension that the loop took over.
fn lives(body: &[Tree], id: usize, fused: &Fused) -> BTreeMap<TensorId, usize> {
    let mut parts: BTreeMap<(TensorId, usize), BTreeSet<usize>> = BTreeMap::new();
    for (n, tree) in body.iter().enumerate() {
        each(tree, &mut |s, fixed| {
            for a in accesses(s) {
                for dim in fused.dropped.get(&a.tensor).into_iter().flatten() {
                    if a.positions[*dim].as_var().is_some_and(|v| fixed.get(&v) == Some(&id)) {
                        parts.entry((a.tensor, *dim)).or_default().insert(n);
                    }
                }
            }
        });
    }
    parts.into_iter().filter(|(_, parts)| parts.len() > 1).map(|(at, _)| at).collect()
}

/// How many rows a block of a loop has, if its rows wait for sums more than once and keep a number of each local: what
/// follows a single sum overlaps with the next row anyway, and locals of whole rows fill caches and stacks.
fn rows(
    body: &[Tree],
    [id, extent]: [usize; 2],
    lives: &BTreeMap<TensorId, usize>,
    fused: &Fused,
    kernel: &Kernel,
) -> Option<usize> {
    let number = |t: &TensorId| fused.shape(*t, &kernel.tensor(*t).shape).iter().product::<usize>() == 1;
    let plain = body.iter().all(|tree| matches!(tree, Tree::Loop { .. } | Tree::Step { step: Step::Stmt(_), .. }));
    if !plain || !waits(body, lives) || !lives.keys().all(number) {
        return None;
    }
    // What each row has of every tensor.
    let mut elements: BTreeMap<TensorId, usize> = BTreeMap::new();
    for tree in body {
        each(tree, &mut |s, fixed| {
            let moves = |a: &Access| a.vars().any(|v| fixed.get(&v) == Some(&id));
            for a in accesses(s).into_iter().filter(|a| moves(a)) {
                let kept = fused.kept(a.tensor, a.positions.len()).into_iter().map(|d| &a.positions[d].numerator);
                let own = kept.flat_map(|l| l.terms.iter().map(|(v, _)| *v)).filter(|v| fixed.get(v) != Some(&id));
                let own: BTreeSet<usize> = own.collect();
                let own: usize = own.into_iter().map(|v| s.vars[v].extent).product();
                let most = elements.entry(a.tensor).or_insert(0);
                *most = own.max(*most);
            }
        });
    }
    let bytes = elements.values().sum::<usize>() * kernel.dtype.bytes();
    let fits = |rows: &usize| extent.is_multiple_of(*rows) && extent > *rows && rows * bytes <= BYTES;
    [ROWS, ROWS / 2].into_iter().find(fits)
}

/// Whether a row has a sum of what another sum of the row decides.
fn waits(body: &[Tree], lives: &BTreeMap<TensorId, usize>) -> bool {
    let mut late: BTreeSet<TensorId> = BTreeSet::new();
    for tree in body {
        let sum = match tree {
            Tree::Step { step: Step::Stmt(s), fixed } => lives.contains_key(&s.target.tensor) && is_dot(s, fixed),
            _ => false,
        };
        let (reads, writes) = touched(tree);
        let waits = !late.is_disjoint(&reads);
        if sum && waits {
            return true;
        }
        if sum || waits {
            late.extend(writes);
        }
    }
    false
}

/// Whether a statement is a reduction of many terms to one element, along which what it reads stands beside each other.
fn is_dot(s: &Stmt, fixed: &BTreeMap<usize, usize>) -> bool {
    let mut reads = Vec::new();
    s.value.accesses(&mut |a| reads.push(a.clone()));
    let whole = (0..s.free).all(|v| s.vars[v].extent == 1 || fixed.contains_key(&v));
    let lanes = |v: usize| {
        reads.iter().all(|a| along(a, v) != Along::Strided) && reads.iter().any(|a| along(a, v) == Along::Contiguous)
    };
    s.reduce.is_some() && whole && (s.free..s.vars.len()).any(|v| s.vars[v].extent >= TERMS && lanes(v))
}

/// The statements of a part with a variable for their rows, which the loop `inside` around the part runs.
fn blocked(tree: &mut Tree, [id, inside]: [usize; 2], rows: usize, lives: &BTreeMap<TensorId, usize>) {
    match tree {
        Tree::Loop { body, .. } => body.iter_mut().for_each(|tree| blocked(tree, [id, inside], rows, lives)),
        Tree::Step { step: Step::Stmt(s), fixed } => {
            let v = fixed.iter().find(|(_, at)| **at == id).map(|(v, _)| *v).expect("a loop is a variable of its body");
            *s = of_rows(s, v, rows, lives);
            fixed.insert(s.free - 1, inside);
        }
        Tree::Step { .. } => unreachable!("a body has statements"),
    }
}

/// A statement whose variable `v` counts blocks: the last free variable counts their rows.
fn of_rows(s: &Stmt, v: usize, rows: usize, lives: &BTreeMap<TensorId, usize>) -> Stmt {
    let row = s.free;
    let moved = |l: &Linear| {
        l.substitute(&|w| match w {
            _ if w == v => Linear::new([(v, rows as i64), (row, 1)], 0),
            _ if w < row => Linear::var(w),
            _ => Linear::var(w + 1),
        })
    };
    let access = |a: &Access| {
        let position = |(dim, p): (usize, &Position)| match lives.get(&a.tensor) {
            Some(own) if *own == dim => Position { numerator: Linear::var(row), ..p.clone() },
            _ => Position { numerator: moved(&p.numerator), ..p.clone() },
        };
        Access { tensor: a.tensor, positions: a.positions.iter().enumerate().map(position).collect() }
    };
    let mut vars = s.vars.clone();
    let Var { name, extent } = vars[v].clone();
    vars[v] = Var { name: format!("{name}_block"), extent: extent / rows };
    vars.insert(row, Var { name, extent: rows });
    Stmt { target: access(&s.target), value: s.value.moved(&access, &moved), vars, free: row + 1, ..s.clone() }
}

/// Every statement of a tree, with what enclosing loops run.
fn each<'a>(tree: &'a Tree, f: &mut dyn FnMut(&'a Stmt, &'a BTreeMap<usize, usize>)) {
    match tree {
        Tree::Loop { body, .. } => body.iter().for_each(|tree| each(tree, f)),
        Tree::Step { step, fixed } => step.stmts().into_iter().for_each(|s| f(s, fixed)),
    }
}

fn accesses(s: &Stmt) -> Vec<&Access> {
    super::coalesce::accesses(s)
}
