//! Fusion: takes the steps of a function, gives them as a tree in which steps that follow each other share outer loops
//! where that is legal: a local that lives in one iteration of a loop then loses that dimension (a softmax keeps rows,
//! not matrices).

use crate::index::TensorId;
use crate::plain::{Access, Member, Position, Scan, Step, Stmt, written_once};
use std::collections::{BTreeMap, BTreeSet};

/// So many elements of a local stay in the first-level cache, whatever else does.
const SMALL: usize = 64;

/// Steps, or a loop around a run of them.
#[derive(Clone, Debug)]
pub enum Tree {
    Step {
        step: Step,
        /// The statement's variables that enclosing loops run, by loop.
        fixed: BTreeMap<usize, usize>,
    },
    Loop {
        id: usize,
        name: String,
        extent: usize,
        /// Its iterations are those of a recurrence.
        recurs: bool,
        body: Vec<Tree>,
    },
}

/// The tree, and for each local the storage dimensions that loops took over.
pub struct Fused {
    pub trees: Vec<Tree>,
    /// How many loops have ids.
    pub loops: usize,
    pub dropped: BTreeMap<TensorId, BTreeSet<usize>>,
    /// The locals that have an element for each row of a block: the storage dimension, and how many rows.
    pub rows: BTreeMap<TensorId, (usize, usize)>,
}

impl Fused {
    /// The storage dimensions of a local that no loop took over.
    pub fn kept(&self, t: TensorId, dims: usize) -> Vec<usize> {
        (0..dims).filter(|d| !self.dropped.get(&t).is_some_and(|s| s.contains(d))).collect()
    }
    /// The extents of these.
    pub fn shape(&self, t: TensorId, shape: &[usize]) -> Vec<usize> {
        let extent = |d: usize| self.rows.get(&t).filter(|(dim, _)| *dim == d).map_or(shape[d], |(_, rows)| *rows);
        self.kept(t, shape.len()).into_iter().map(extent).collect()
    }
}

/// Fuses the steps of a function whose scratch tensors are `locals`. A recurrence becomes a loop whatever it shares.
pub fn fuse(steps: &[Step], locals: &[TensorId]) -> Fused {
    let mut touched: BTreeMap<TensorId, usize> = BTreeMap::new();
    let mut count = |tensors: BTreeSet<TensorId>| tensors.into_iter().for_each(|t| *touched.entry(t).or_insert(0) += 1);
    for step in steps {
        match step {
            Step::Fill(t) => count(BTreeSet::from([*t])),
            _ => step.stmts().into_iter().for_each(|s| count(accesses(s).into_iter().map(|a| a.tensor).collect())),
        }
    }
    let locals = locals.iter().copied().collect();
    let mut f = Fuser { locals, touched, loops: 0, dropped: BTreeMap::new(), in_turn: false };
    let mut trees = Vec::new();
    let mut before: Vec<Placed> = Vec::new();
    for step in steps {
        let Step::Scan(scan) = step else {
            before.push(Placed::new(step, BTreeMap::new()));
            continue;
        };
        trees.extend(f.run(&std::mem::take(&mut before)));
        trees.extend(f.recurrence(scan));
    }
    trees.extend(f.run(&before));
    Fused { trees, loops: f.loops, dropped: f.dropped, rows: BTreeMap::new() }
}

/// A step to place, and what it touches.
struct Placed {
    step: Step,
    fixed: BTreeMap<usize, usize>,
    reads: BTreeSet<TensorId>,
    writes: TensorId,
}

impl Placed {
    fn new(step: &Step, fixed: BTreeMap<usize, usize>) -> Placed {
        let (reads, writes) = match step {
            Step::Fill(t) => (BTreeSet::new(), *t),
            Step::Stmt(s) => (accesses(s)[1..].iter().map(|a| a.tensor).collect(), s.target.tensor),
            Step::Scan(_) => unreachable!("recurrences have loops of their own"),
        };
        Placed { step: step.clone(), fixed, reads, writes }
    }
    fn tensors(&self) -> BTreeSet<TensorId> {
        self.reads.iter().copied().chain([self.writes]).collect()
    }
}

struct Fuser {
    locals: BTreeSet<TensorId>,
    /// How many steps and statements of the function touch each tensor.
    touched: BTreeMap<TensorId, usize>,
    loops: usize,
    dropped: BTreeMap<TensorId, BTreeSet<usize>>,
    /// Whether the steps are those of one iteration of a recurrence: there a sum has no other rows than its own.
    in_turn: bool,
}

/// A run of steps that can share a loop: its variable in each, and the storage dimension of each tensor that it
/// selects.
struct Run {
    vars: Vec<usize>,
    dims: BTreeMap<TensorId, usize>,
}

impl Fuser {
    /// A loop for each segment. What an iteration reads of another keeps all its dimensions; a local that lives in one
    /// iteration loses that of the iterations.
    fn recurrence(&mut self, scan: &Scan) -> Vec<Tree> {
        // How many statements touch each local, and the places of its accesses.
        let mut places: BTreeMap<TensorId, Vec<Vec<usize>>> = BTreeMap::new();
        for (n, segment) in scan.segments.iter().enumerate() {
            for (m, part) in segment.body.iter().enumerate() {
                let own: BTreeSet<TensorId> = accesses(&part.stmt).into_iter().map(|a| a.tensor).collect();
                for t in own.into_iter().filter(|t| self.locals.contains(t)) {
                    places.entry(t).or_insert_with(|| vec![Vec::new(); scan.segments.len()])[n].push(m);
                }
            }
        }
        let mut outer = Vec::new();
        for (t, places) in places {
            match turn_dimension(scan, t, &places) {
                None => {
                    self.locals.remove(&t);
                    outer.push(t);
                }
                Some(dim) => {
                    if places.iter().map(Vec::len).sum::<usize>() == self.touched[&t] {
                        self.dropped.entry(t).or_default().insert(dim);
                    }
                }
            }
        }
        let mut trees = Vec::new();
        self.in_turn = true;
        for segment in &scan.segments {
            let id = self.loops;
            self.loops += 1;
            let item = |part: &Member| {
                Placed::new(&Step::Stmt(part.stmt.clone()), part.iteration.iter().map(|v| (*v, id)).collect())
            };
            let body = self.run(&segment.body.iter().map(item).collect::<Vec<_>>());
            if segment.iterations == 1 {
                trees.extend(body);
            } else {
                let (name, extent) = (scan.name.clone(), segment.iterations);
                trees.push(Tree::Loop { id, name, extent, recurs: true, body });
            }
        }
        self.in_turn = false;
        self.locals.extend(outer);
        trees
    }

    fn run(&mut self, items: &[Placed]) -> Vec<Tree> {
        let may_share = self.may_share(items);
        let mut out = Vec::new();
        let mut at = 0;
        while at < items.len() {
            let Some(run) = may_share[at].then(|| self.best(&items[at..])).flatten() else {
                out.push(Tree::Step { step: items[at].step.clone(), fixed: items[at].fixed.clone() });
                at += 1;
                continue;
            };
            let id = self.loops;
            self.loops += 1;
            let members = &items[at..at + run.vars.len()];
            let Step::Stmt(first) = &members[0].step else { unreachable!("runs are of statements") };
            let var = &first.vars[run.vars[0]];
            let (name, extent) = (var.name.clone(), var.extent);
            let mut here: BTreeMap<TensorId, usize> = BTreeMap::new();
            members.iter().flat_map(Placed::tensors).for_each(|t| *here.entry(t).or_insert(0) += 1);
            for (t, dim) in &run.dims {
                if self.locals.contains(t) && self.touched[t] == here[t] {
                    self.dropped.entry(*t).or_default().insert(*dim);
                }
            }
            let inner = members.iter().zip(&run.vars).map(|(item, v)| {
                let mut fixed = item.fixed.clone();
                fixed.insert(*v, id);
                Placed::new(&item.step, fixed)
            });
            let body = self.run(&inner.collect::<Vec<_>>());
            at += run.vars.len();
            out.push(Tree::Loop { id, name, extent, recurs: false, body });
        }
        out
    }

    /// For each item, whether a local that it or a later one writes is touched once more before the statements end.
    fn may_share(&self, items: &[Placed]) -> Vec<bool> {
        let mut later: BTreeSet<TensorId> = BTreeSet::new();
        let mut shares = vec![false; items.len()];
        for (n, item) in items.iter().enumerate().rev() {
            if !matches!(item.step, Step::Stmt(_)) {
                later.clear();
                continue;
            }
            let after = shares.get(n + 1).is_some_and(|s| *s);
            shares[n] = after || self.locals.contains(&item.writes) && later.contains(&item.writes);
            later.extend(item.tensors());
        }
        shares
    }

    /// The longest run from the start that shares a local, over any free variable of the first statement; outermost
    /// dimensions first. A loop that leaves the ones inside it to jump over memory is the last resort, and none where
    /// what it saves is small.
    fn best(&self, items: &[Placed]) -> Option<Run> {
        let Step::Stmt(first) = &items[0].step else { return None };
        let mut best: Option<((bool, usize), Run)> = None;
        let order: Vec<usize> = first.target.positions.iter().filter_map(|p| p.as_var()).collect();
        let left = (0..first.free).filter(|v| !items[0].fixed.contains_key(v));
        let small = left.map(|v| first.vars[v].extent).product::<usize>() <= SMALL;
        for v in order {
            if items[0].fixed.contains_key(&v) {
                continue;
            }
            let Some(run) = self.extend(items, v) else { continue };
            let jumps = run.vars.iter().zip(items).any(|(v, i)| jumps(i, *v));
            if jumps && small {
                continue;
            }
            let length = (!jumps, run.vars.len());
            if best.as_ref().is_none_or(|(known, _)| length > *known) {
                best = Some((length, run));
            }
        }
        best.map(|(_, run)| run)
    }

    fn extend(&self, items: &[Placed], v: usize) -> Option<Run> {
        let Step::Stmt(first) = &items[0].step else { return None };
        let extent = first.vars[v].extent;
        let mut run = Run { vars: Vec::new(), dims: BTreeMap::new() };
        let mut written: BTreeSet<TensorId> = BTreeSet::new();
        // Of these the variable is but a digit of a position: no other step of the run may touch them.
        let mut mixed_radix: BTreeSet<TensorId> = BTreeSet::new();
        let mut shares_local = false;
        // What the run reads before it writes it.
        let mut reads: BTreeSet<TensorId> = BTreeSet::new();
        for item in items {
            let Step::Stmt(s) = &item.step else { break };
            let var = if run.vars.is_empty() { Some(v) } else { matching(s, &item.fixed, &run.dims, &written, extent) };
            let Some(var) = var.filter(|w| *w < s.free && !tiles(s, *w, self.in_turn)) else { break };
            // Every tensor that is written here or was before, and is touched by both sides, moves with the loop.
            let mut dims: BTreeMap<TensorId, usize> = BTreeMap::new();
            let touched_written: BTreeSet<TensorId> =
                item.tensors().into_iter().filter(|t| written.contains(t) || *t == s.target.tensor).collect();
            dims.extend(touched_written.iter().filter_map(|t| Some((*t, *run.dims.get(t)?))));
            let consistent = accesses(s).into_iter().all(|a| {
                if !touched_written.contains(&a.tensor) {
                    return true;
                }
                let moving: Vec<usize> =
                    (0..a.positions.len()).filter(|d| a.positions[*d].numerator.coefficient(var) != 0).collect();
                let [dim] = moving.as_slice() else { return false };
                if a.positions[*dim].guard.any() || mixed_radix.contains(&a.tensor) {
                    return false;
                }
                let first = !written.contains(&a.tensor) && a.positions == s.target.positions;
                match a.positions[*dim].as_var() {
                    None => first && !dims.contains_key(&a.tensor),
                    Some(_) => *dims.entry(a.tensor).or_insert(*dim) == *dim,
                }
            });
            // What adds to an element in several iterations keeps the order of its own loops.
            let scatters = s.accumulate && written_once(&[s]).is_none();
            // Nor may it overwrite what an earlier step of the run reads in another iteration.
            if scatters || !consistent || reads.contains(&s.target.tensor) {
                break;
            }
            shares_local |= touched_written.iter().any(|t| written.contains(t) && self.locals.contains(t));
            if !dims.contains_key(&s.target.tensor) {
                mixed_radix.insert(s.target.tensor);
            }
            run.dims.extend(dims);
            reads.extend(item.reads.iter().filter(|t| !written.contains(t) && **t != s.target.tensor));
            written.insert(s.target.tensor);
            run.vars.push(var);
        }
        (run.vars.len() > 1 && shares_local).then_some(run)
    }
}

/// Whether a loop over `v` leaves none to the others that runs along memory: where `v` selects what is contiguous, and
/// others run across.
fn jumps(item: &Placed, v: usize) -> bool {
    let Step::Stmt(s) = &item.step else { return false };
    accesses(s).into_iter().any(|a| {
        let last = a.positions.last().is_some_and(|p| p.numerator.coefficient(v) != 0);
        last && a.vars().any(|w| w != v && s.vars[w].extent > 1 && !item.fixed.contains_key(&w))
    })
}

/// The storage dimension along which a tensor lives in one iteration of a recurrence: each iteration sets it before it
/// reads it, and touches no other iteration's. `places`: the statements of each segment that touch it.
fn turn_dimension(scan: &Scan, t: TensorId, places: &[Vec<usize>]) -> Option<usize> {
    let mut dim = None;
    for (segment, places) in scan.segments.iter().zip(places) {
        let mut place: Option<Position> = None;
        let mut first = true;
        for part in places.iter().map(|n| &segment.body[*n]) {
            let own: Vec<&Access> = accesses(&part.stmt).into_iter().filter(|a| a.tensor == t).collect();
            let sets = part.stmt.target.tensor == t && !part.stmt.accumulate && own.len() == 1;
            if first && !sets {
                return None;
            }
            first = false;
            for a in own {
                let at = match part.iteration {
                    Some(v) => a.positions.iter().position(|p| p.numerator.coefficient(v) != 0)?,
                    None => a.positions.iter().position(|p| p.numerator.terms.is_empty())?,
                };
                // Variables are numbered by statement: the number of the iteration is the same in all.
                let numerator =
                    a.positions[at].numerator.renamed(&|v| if Some(v) == part.iteration { 0 } else { v + 1 });
                let position = Position { numerator, ..a.positions[at].clone() };
                let alone = part.iteration.is_none() || position.numerator.terms.iter().all(|(v, _)| *v == 0);
                let known = *dim.get_or_insert(at) == at && *place.get_or_insert_with(|| position.clone()) == position;
                if !alone || !known || position.guard.any() {
                    return None;
                }
            }
        }
    }
    dim
}

/// The variable of `s` that reads or writes a tensor of the run where the run's loop does.
fn matching(
    s: &Stmt,
    fixed: &BTreeMap<usize, usize>,
    dims: &BTreeMap<TensorId, usize>,
    written: &BTreeSet<TensorId>,
    extent: usize,
) -> Option<usize> {
    accesses(s).into_iter().filter(|a| written.contains(&a.tensor)).find_map(|a| {
        let v = a.positions[*dims.get(&a.tensor)?].as_var()?;
        (v < s.free && s.vars[v].extent == extent && !fixed.contains_key(&v)).then_some(v)
    })
}

/// Whether a sum is better off as a tile of its own than in a loop over `v`: it reads elements again for each value of
/// `v`, and the loop would take away the tile's lanes, or its rows where others run across them. A sum along what is
/// contiguous, one a row, loses little.
fn tiles(s: &Stmt, v: usize, in_turn: bool) -> bool {
    let (mut again, mut column, mut across) = (false, false, in_turn);
    s.value.accesses(&mut |a| {
        let has = |w: usize| a.vars().any(|x| x == w);
        if a.vars().any(|w| w >= s.free) {
            again |= !has(v);
            across |= has(v) && (0..s.free).any(|w| !has(w));
            column |= a.positions.last().is_some_and(|p| p.numerator.coefficient(v) != 0);
        }
    });
    s.reduce.is_some() && again && (across || column)
}

fn accesses(s: &Stmt) -> Vec<&Access> {
    let mut all = vec![&s.target];
    s.value.accesses(&mut |a| all.push(a));
    all
}
