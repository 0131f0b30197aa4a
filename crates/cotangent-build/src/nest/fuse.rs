//! Fusion: takes the steps of a function, gives them as a tree in which steps that follow each other share outer loops where that is legal: a
//! local that lives in one turn of a loop then loses that dimension (a softmax keeps rows, not matrices).

use crate::index::TensorId;
use crate::plain::{Access, Part, Position, Scan, Step, Stmt};
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
        body: Vec<Tree>,
    },
}

/// The tree, and for each local the storage dimensions that loops took over.
pub struct Fused {
    pub trees: Vec<Tree>,
    pub dropped: BTreeMap<TensorId, BTreeSet<usize>>,
}

/// Fuses the steps of a function whose scratch tensors are `locals`. A recurrence becomes a loop whatever it shares.
pub fn fuse(steps: &[Step], locals: &[TensorId]) -> Fused {
    let item = |step: Step| Item { step, fixed: BTreeMap::new() };
    let all: Vec<Item> = steps
        .iter()
        .flat_map(|s| match s {
            Step::Fill(_) => vec![item(s.clone())],
            _ => s.stmts().into_iter().map(|s| item(Step::Stmt(s.clone()))).collect(),
        })
        .collect();
    let locals = locals.iter().copied().collect();
    let mut f = Fuser { locals, loops: 0, dropped: BTreeMap::new(), in_turn: false };
    let mut trees = Vec::new();
    let mut straight: Vec<Item> = Vec::new();
    for step in steps {
        let Step::Scan(scan) = step else {
            straight.push(item(step.clone()));
            continue;
        };
        trees.extend(f.run(std::mem::take(&mut straight), &all));
        trees.extend(f.recurrence(scan, &all));
    }
    trees.extend(f.run(straight, &all));
    Fused { trees, dropped: f.dropped }
}

#[derive(Clone)]
struct Item {
    step: Step,
    fixed: BTreeMap<usize, usize>,
}

struct Fuser {
    locals: BTreeSet<TensorId>,
    loops: usize,
    dropped: BTreeMap<TensorId, BTreeSet<usize>>,
    /// Whether the steps are those of one turn of a recurrence: there a sum has no other rows than its own.
    in_turn: bool,
}

/// A run of steps that can share a loop: its variable in each, and the storage dimension of each tensor that it selects.
struct Run {
    vars: Vec<usize>,
    dims: BTreeMap<TensorId, usize>,
}

impl Fuser {
    /// A loop for each segment. What a turn reads of another keeps all its dimensions; a local that lives in one turn loses that of the turns.
    fn recurrence(&mut self, scan: &Scan, all: &[Item]) -> Vec<Tree> {
        let stmts: Vec<(Option<usize>, &Stmt)> =
            scan.segments.iter().flat_map(|s| &s.body).map(|p| (p.turn, &p.stmt)).collect();
        let touched: BTreeSet<TensorId> = stmts.iter().flat_map(|(_, s)| accesses(s)).map(|a| a.tensor).collect();
        let mut outer = Vec::new();
        for t in touched.into_iter().filter(|t| self.locals.contains(t)).collect::<Vec<_>>() {
            match turn_dimension(scan, t) {
                None => {
                    self.locals.remove(&t);
                    outer.push(t);
                }
                Some(dim) => {
                    let here = stmts.iter().filter(|(_, s)| accesses(s).iter().any(|a| a.tensor == t)).count();
                    if all.iter().filter(|i| tensors(&i.step).contains(&t)).count() == here {
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
            let item = |part: &Part| Item {
                step: Step::Stmt(part.stmt.clone()),
                fixed: part.turn.iter().map(|v| (*v, id)).collect(),
            };
            let body = self.run(segment.body.iter().map(item).collect(), all);
            if segment.turns == 1 {
                trees.extend(body);
            } else {
                trees.push(Tree::Loop { id, name: scan.name.clone(), extent: segment.turns, body });
            }
        }
        self.in_turn = false;
        self.locals.extend(outer);
        trees
    }

    /// `all`: every step of the function, to see who else touches a local.
    fn run(&mut self, items: Vec<Item>, all: &[Item]) -> Vec<Tree> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < items.len() {
            let Some(run) = self.best(&items[at..]) else {
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
            for (t, dim) in &run.dims {
                let touched = |i: &Item| tensors(&i.step).contains(t);
                if self.locals.contains(t)
                    && all.iter().filter(|i| touched(i)).count() == members.iter().filter(|i| touched(i)).count()
                {
                    self.dropped.entry(*t).or_default().insert(*dim);
                }
            }
            let inner: Vec<Item> = members
                .iter()
                .zip(&run.vars)
                .map(|(item, v)| {
                    let mut fixed = item.fixed.clone();
                    fixed.insert(*v, id);
                    Item { step: item.step.clone(), fixed }
                })
                .collect();
            let body = self.run(inner, all);
            at += run.vars.len();
            out.push(Tree::Loop { id, name, extent, body });
        }
        out
    }

    /// The longest run from the start that shares a local, over any free variable of the first statement; outermost dimensions first. A loop that leaves
    /// the ones inside it to jump over memory is the last resort, and none where what it saves is small.
    fn best(&self, items: &[Item]) -> Option<Run> {
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

    fn extend(&self, items: &[Item], v: usize) -> Option<Run> {
        let Step::Stmt(first) = &items[0].step else { return None };
        let extent = first.vars[v].extent;
        let mut run = Run { vars: Vec::new(), dims: BTreeMap::new() };
        let mut written: BTreeSet<TensorId> = BTreeSet::new();
        // Of these the variable is but a digit of a position: no other step of the run may touch them.
        let mut digits: BTreeSet<TensorId> = BTreeSet::new();
        let mut shares_local = false;
        for item in items {
            let Step::Stmt(s) = &item.step else { break };
            let var = if run.vars.is_empty() { Some(v) } else { matching(s, &item.fixed, &run.dims, &written, extent) };
            let Some(var) = var.filter(|w| *w < s.free && !tiles(s, *w, self.in_turn)) else { break };
            // Every tensor that is written here or was before, and is touched by both sides, moves with the loop.
            let mut dims = run.dims.clone();
            let touched_written: BTreeSet<TensorId> =
                tensors(&item.step).into_iter().filter(|t| written.contains(t) || *t == s.target.tensor).collect();
            let consistent = accesses(s).into_iter().all(|a| {
                if !touched_written.contains(&a.tensor) {
                    return true;
                }
                let moving: Vec<usize> =
                    (0..a.positions.len()).filter(|d| a.positions[*d].numerator.coefficient(var) != 0).collect();
                let [dim] = moving.as_slice() else { return false };
                if a.positions[*dim].guard.any() || digits.contains(&a.tensor) {
                    return false;
                }
                let first = !written.contains(&a.tensor) && a.positions == s.target.positions;
                match a.positions[*dim].as_var() {
                    None => first && !dims.contains_key(&a.tensor),
                    Some(_) => *dims.entry(a.tensor).or_insert(*dim) == *dim,
                }
            });
            // Nor may it overwrite what an earlier step of the run reads in another turn.
            let reads_before = |t: TensorId| {
                run.vars.iter().zip(items).any(|(_, i)| reads(&i.step).contains(&t)) && !written.contains(&t)
            };
            if !consistent || reads_before(s.target.tensor) {
                break;
            }
            shares_local |= touched_written.iter().any(|t| written.contains(t) && self.locals.contains(t));
            if !dims.contains_key(&s.target.tensor) {
                digits.insert(s.target.tensor);
            }
            run.dims = dims;
            written.insert(s.target.tensor);
            run.vars.push(var);
        }
        (run.vars.len() > 1 && shares_local).then_some(run)
    }
}

/// Whether a loop over `v` leaves none to the others that runs along memory: where `v` selects what is contiguous, and others run across.
fn jumps(item: &Item, v: usize) -> bool {
    let Step::Stmt(s) = &item.step else { return false };
    accesses(s).into_iter().any(|a| {
        let last = a.positions.last().is_some_and(|p| p.numerator.coefficient(v) != 0);
        last && a.vars().any(|w| w != v && s.vars[w].extent > 1 && !item.fixed.contains_key(&w))
    })
}

/// The storage dimension along which a tensor lives in one turn of a recurrence: each turn sets it before it reads it, and touches no other turn's.
fn turn_dimension(scan: &Scan, t: TensorId) -> Option<usize> {
    let mut dim = None;
    for segment in &scan.segments {
        let mut place: Option<Position> = None;
        for (n, part) in segment.body.iter().enumerate() {
            let own: Vec<&Access> = accesses(&part.stmt).into_iter().filter(|a| a.tensor == t).collect();
            let first = segment.body[..n].iter().all(|p| p.stmt.target.tensor != t);
            let sets = part.stmt.target.tensor == t && !part.stmt.accumulate && own.len() == 1;
            if !own.is_empty() && first && !sets {
                return None;
            }
            for a in own {
                let at = match part.turn {
                    Some(v) => a.positions.iter().position(|p| p.numerator.coefficient(v) != 0)?,
                    None => a.positions.iter().position(|p| p.numerator.terms.is_empty())?,
                };
                // Variables are numbered by statement: the number of the turn is the same in all.
                let numerator = a.positions[at].numerator.renamed(&|v| if Some(v) == part.turn { 0 } else { v + 1 });
                let position = Position { numerator, ..a.positions[at].clone() };
                let alone = part.turn.is_none() || position.numerator.terms.iter().all(|(v, _)| *v == 0);
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

/// Whether a sum is better off as a tile of its own than in a loop over `v`: it reads elements again for each value of `v`, and the loop would take
/// away the tile's lanes, or its rows where others run across them. A sum along what is contiguous, one a row, loses little.
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

fn reads(step: &Step) -> BTreeSet<TensorId> {
    let mut set = BTreeSet::new();
    if let Step::Stmt(s) = step {
        s.value.accesses(&mut |a| {
            set.insert(a.tensor);
        });
    }
    set
}

fn tensors(step: &Step) -> BTreeSet<TensorId> {
    let mut set = reads(step);
    match step {
        Step::Fill(t) => _ = set.insert(*t),
        step => set.extend(step.stmts().iter().map(|s| s.target.tensor)),
    }
    set
}
