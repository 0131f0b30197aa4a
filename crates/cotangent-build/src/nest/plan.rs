//! Plans of programs: takes a kernel whose functions are whole programs, gives how each is carried out: by itself, or
//! in stages, functions of their own that hand tensors on in a workspace. The kernel itself does not change here.
//!
//! Holds after it: a function with stages runs them in order, each on arguments and on places in the workspace; tensors
//! that are needed at the same time have places apart; what a stage keeps on the stack has at most [`Limits::stack`]
//! bytes, panels aside; what computes each element from the same one of a tensor that nothing needs any more writes it
//! there.

use super::coalesce::rewrite;
use super::epilogue;
use super::function::finishes;
use super::fuse::{Tree, fuse};
use crate::emit::cost;
use crate::index::TensorId;
use crate::plain::{Access, Function, Kernel, Kind, Step, Stmt, Workspace, written_once};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How small what stays together is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Programs of at most so many operations are one function each: what they keep is small, and a call would cost as
    /// much as a step.
    pub program: u64,
    /// Steps that follow each other make one stage up to so many operations: below it a call of a stage of its own
    /// shows.
    pub stage: u64,
    /// The most bytes of a stage's own tensors on the stack.
    pub stack: usize,
    /// The most bytes of panels that a stage will be scheduled with.
    pub scratch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { program: 20_000, stage: 2_000, stack: 4096, scratch: usize::MAX }
    }
}

/// Places in a workspace begin at multiples of so many bytes: cache lines, and the widest vectors.
pub const ALIGNMENT: usize = 64;

/// How the functions of a kernel are carried out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Of each function, in the kernel's order.
    pub functions: Vec<Plan>,
    /// What large functions are cut into. Their numbers follow those of the functions; entry points have stages in
    /// common: the way forward.
    pub stages: Vec<Function>,
}

/// How one function is carried out.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its reductions have epilogues, which their tiles run.
    pub tiled: bool,
    /// The functions that carry it out, in order; empty where it does so itself.
    pub stages: Vec<usize>,
    /// What the stages hand on.
    pub workspace: Workspace,
}

impl Planned {
    /// The kernel with its stages behind its functions. It is the only place that sets what a function is carried out
    /// by.
    #[must_use]
    pub fn applied(self, mut kernel: Kernel) -> Kernel {
        for (f, Plan { tiled, stages, workspace }) in kernel.functions.iter_mut().zip(self.functions) {
            assert!(f.stages.is_empty(), "{} is planned twice", f.name);
            (f.tiled, f.stages, f.workspace) = (tiled, stages, workspace);
        }
        kernel.functions.extend(self.stages);
        kernel
    }
}

/// Plans the functions of a kernel.
pub fn plan(kernel: &Kernel, limits: Limits) -> Planned {
    let mut planner = Planner { kernel, limits, known: BTreeMap::new() };
    let mut planned = Planned { functions: Vec::new(), stages: Vec::new() };
    for f in &kernel.functions {
        let work: u64 = f.steps.iter().map(cost::step).fold(0, u64::saturating_add);
        let bytes: usize = f.locals.iter().map(|t| bytes(kernel, *t)).sum();
        if work <= limits.program && bytes <= limits.stack {
            planned.functions.push(Plan { tiled: planner.finishes(f), ..Plan::default() });
            continue;
        }
        let mut parts = planner.parts(f);
        let over = in_place(kernel, f, &mut parts);
        let (stages, workspace) = stages(kernel, f, parts, limits.stack);
        let first = kernel.functions.len();
        let numbers = stages.into_iter().map(|stage| {
            let same = |g: &Function| g.held == stage.held && g.tiled == stage.tiled && does_as(g, &stage);
            let at = planned.stages.iter().position(same).unwrap_or_else(|| {
                planned.stages.push(stage);
                planned.stages.len() - 1
            });
            first + at
        });
        let stages = numbers.collect();
        planned.functions.push(Plan { tiled: false, stages, workspace: Workspace { over, ..workspace } });
    }
    planned
}

/// Whether two functions run the same steps on the same tensors.
fn does_as(a: &Function, b: &Function) -> bool {
    (&a.reads, &a.writes, &a.locals, &a.steps) == (&b.reads, &b.writes, &b.locals, &b.steps)
}

/// What a tensor takes in a workspace.
fn bytes(kernel: &Kernel, t: TensorId) -> usize {
    (kernel.tensor(t).elements() * kernel.dtype.bytes()).next_multiple_of(ALIGNMENT)
}

/// The steps of one stage.
struct Group {
    steps: Vec<Step>,
    /// A reduction whose tiles run all the other steps: nothing else joins it.
    tiled: bool,
}

/// Cuts one function after the other.
struct Planner<'a> {
    kernel: &'a Kernel,
    limits: Limits,
    /// What is known of [`Planner::finishes`], by what functions write: entry points ask for the way forward again.
    known: BTreeMap<Vec<TensorId>, Vec<(Function, bool)>>,
}

impl Planner<'_> {
    /// The steps in groups, one a stage: what shares a loop or a tile stays together, and so does what is small.
    fn parts(&mut self, f: &Function) -> Vec<Group> {
        let all = readers(&f.steps);
        let mut trees: Vec<Group> = Vec::new();
        let mut run: Vec<Step> = Vec::new();
        for step in &f.steps {
            if !matches!(step, Step::Scan(_)) {
                run.push(step.clone());
                continue;
            }
            trees.extend(self.fused(&std::mem::take(&mut run), f, &all));
            trees.push(Group { steps: vec![step.clone()], tiled: false });
        }
        trees.extend(self.fused(&run, f, &all));
        let mut parts: Vec<(Group, u64)> = Vec::new();
        for tree in trees {
            let work: u64 = tree.steps.iter().map(cost::step).fold(0, u64::saturating_add);
            match parts.last_mut() {
                Some((last, sum))
                    if !last.tiled
                        && !tree.tiled
                        && (open(self.kernel, f, &last.steps)
                            || alike(&last.steps, &tree.steps)
                            || sum.saturating_add(work) <= self.limits.stage) =>
                {
                    last.steps.extend(tree.steps);
                    *sum = sum.saturating_add(work);
                }
                _ => parts.push((tree, work)),
            }
        }
        parts.into_iter().map(|(group, _)| group).collect()
    }

    /// Steps without recurrences, those that share a loop in one group, and a reduction with its epilogue. `all`: how
    /// many steps of the function read each tensor.
    fn fused(&mut self, steps: &[Step], f: &Function, all: &BTreeMap<TensorId, usize>) -> Vec<Group> {
        fn flat(tree: &Tree, out: &mut Vec<Step>) {
            match tree {
                Tree::Step { step, .. } => out.push(step.clone()),
                Tree::Loop { body, .. } => body.iter().for_each(|t| flat(t, out)),
            }
        }
        let mut out = Vec::new();
        let mut at = 0;
        for tree in &fuse(steps, &f.locals).trees {
            let mut own = Vec::new();
            flat(tree, &mut own);
            let end = at + 1 + if own.len() == 1 { epilogue::follows(&steps[at..]).len() } else { 0 };
            if end > at + 1 && self.finishes(&tile_of(f, &steps[at..end], all)) {
                out.push(Group { steps: steps[at..end].to_vec(), tiled: true });
                out.extend(self.fused(&steps[end..], f, all));
                return out;
            }
            at += own.len();
            out.push(Group { steps: own, tiled: false });
        }
        out
    }

    /// Whether reductions of the function have epilogues, and tiles of every class of machines run them.
    fn finishes(&mut self, f: &Function) -> bool {
        // Which schedule is asked for goes by the name.
        let asked = |f: &Function| self.kernel.schedule.get(&f.name);
        let known = self.known.entry(f.writes.clone()).or_default();
        if let Some((_, answer)) = known.iter().find(|(g, _)| asked(g) == asked(f) && does_as(g, f)) {
            return *answer;
        }
        let answer = finishes(self.kernel, f, self.limits.scratch);
        known.push((f.clone(), answer));
        answer
    }
}

/// A reduction and what follows it, as a stage. `all`: how many steps of the function read each tensor.
fn tile_of(f: &Function, steps: &[Step], all: &BTreeMap<TensorId, usize>) -> Function {
    let (reads, writes) = touched(steps);
    let here = readers(steps);
    let own = |t: &TensorId| f.locals.contains(t) && all.get(t) == here.get(t);
    let (locals, writes): (Vec<TensorId>, Vec<TensorId>) = writes.into_iter().partition(own);
    let reads: Vec<TensorId> = reads.into_iter().filter(|t| !locals.contains(t) && !writes.contains(t)).collect();
    stage(format!("{}_", f.name), [reads, writes, locals], Vec::new(), steps.to_vec(), true)
}

/// How many steps read each tensor.
fn readers(steps: &[Step]) -> BTreeMap<TensorId, usize> {
    let mut all = BTreeMap::new();
    for step in steps {
        touched(std::slice::from_ref(step)).0.into_iter().for_each(|t| *all.entry(t).or_insert(0) += 1);
    }
    all
}

/// Whether the steps end in one that only prepares, or leave a tensor of which they have written a part.
fn open(kernel: &Kernel, f: &Function, steps: &[Step]) -> bool {
    let mut parts: BTreeMap<TensorId, Vec<&Stmt>> = BTreeMap::new();
    for step in steps {
        if let Step::Stmt(s) = step
            && !s.accumulate
        {
            parts.entry(s.target.tensor).or_default().push(s);
        }
    }
    let begun = |t: &TensorId| f.held.contains(t) || steps.contains(&Step::Fill(*t));
    let whole = |t: &TensorId, stmts: &[&Stmt]| written_once(stmts) == Some(kernel.tensor(*t).elements() as u128);
    // What is filled in an earlier stage has parts here that are not the whole: it is taken to be open, and the stage
    // goes on.
    matches!(steps.last(), Some(Step::Fill(_))) || parts.iter().any(|(t, stmts)| !begun(t) && !whole(t, stmts))
}

/// Whether two reductions that follow each other may share a tile.
fn alike(before: &[Step], after: &[Step]) -> bool {
    let (Some(Step::Stmt(a)), Some(Step::Stmt(b))) = (before.last(), after.first()) else { return false };
    a.reduce.is_some()
        && (&a.vars, a.free, a.reduce) == (&b.vars, b.free, b.reduce)
        && a.target.positions == b.target.positions
}

fn stmts(steps: &[Step]) -> impl Iterator<Item = &Stmt> {
    steps.iter().flat_map(Step::stmts)
}

/// What the steps touch: tensors that they read, and those that they write.
fn touched(steps: &[Step]) -> (BTreeSet<TensorId>, BTreeSet<TensorId>) {
    let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        if let Step::Fill(t) = step {
            writes.insert(*t);
        }
    }
    for s in stmts(steps) {
        writes.insert(s.target.tensor);
        s.value.reads(&mut |a| _ = reads.insert(a.tensor));
    }
    (reads, writes)
}

fn stages(kernel: &Kernel, f: &Function, parts: Vec<Group>, stack: usize) -> (Vec<Function>, Workspace) {
    let sets: Vec<_> = parts.iter().map(|p| touched(&p.steps)).collect();
    // The stages from the first that touches a local to the last.
    let locals: BTreeSet<TensorId> = f.locals.iter().copied().collect();
    let mut lives: BTreeMap<TensorId, (usize, usize)> = BTreeMap::new();
    for (n, (reads, writes)) in sets.iter().enumerate() {
        for t in reads.union(writes).filter(|t| locals.contains(t)) {
            lives.entry(*t).or_insert((n, n)).1 = n;
        }
    }
    // A stage's own small tensors stay on its stack.
    let mut own: Vec<Vec<TensorId>> = vec![Vec::new(); parts.len()];
    let mut inner: Vec<Vec<TensorId>> = vec![Vec::new(); parts.len()];
    lives.iter().filter(|(_, (first, last))| first == last).for_each(|(t, (n, _))| inner[*n].push(*t));
    for (n, (Group { steps, tiled }, inner)) in parts.iter().zip(inner).enumerate() {
        let dropped = fuse(steps, &inner).dropped;
        let registers = if *tiled { epilogue::split(steps, &inner).1 } else { Vec::new() };
        let size = |t: &TensorId| {
            if registers.iter().any(|e| e.inner.contains(t)) {
                return 0;
            }
            let shape = &kernel.tensor(*t).shape;
            let kept = (0..shape.len()).filter(|d| !dropped.get(t).is_some_and(|s| s.contains(d)));
            kept.map(|d| shape[d]).product::<usize>() * kernel.dtype.bytes()
        };
        let mut left = stack;
        for t in inner {
            if size(&t) <= left {
                left -= size(&t);
                lives.remove(&t);
                own[n].push(t);
            }
        }
    }
    let workspace = places(kernel, &lives, parts.len());
    let mut begun: BTreeSet<TensorId> =
        if f.held.is_empty() { BTreeSet::new() } else { f.writes.iter().copied().collect() };
    let mut out = Vec::new();
    for (n, ((Group { steps, tiled }, (reads, writes)), own)) in parts.into_iter().zip(sets).zip(own).enumerate() {
        let mine = |t: &TensorId| own.contains(t);
        let writes: Vec<TensorId> = writes.into_iter().filter(|t| !mine(t)).collect();
        let reads = reads.into_iter().filter(|t| !mine(t) && !writes.contains(t)).collect();
        let held = writes.iter().copied().filter(|t| begun.contains(t)).collect();
        out.push(stage(format!("{}_{n}", f.name), [reads, writes.clone(), own.clone()], held, steps, tiled));
        begun.extend(writes);
    }
    (out, workspace)
}

/// A stage that reads, writes and keeps the tensors given, of which `held` have values before.
fn stage(
    name: String,
    [reads, writes, locals]: [Vec<TensorId>; 3],
    held: Vec<TensorId>,
    steps: Vec<Step>,
    tiled: bool,
) -> Function {
    let workspace = Workspace::default();
    Function { name, kind: Kind::Stage, reads, writes, held, locals, steps, tiled, stages: Vec::new(), workspace }
}

/// Has statements write over what they are the last to read, where each element is computed from the same one: from
/// there on the old tensor stands for the new one. Gives the pairs, and the stage that writes.
fn in_place(kernel: &Kernel, f: &Function, parts: &mut [Group]) -> Vec<(TensorId, TensorId, usize)> {
    // The steps in order, and where each tensor is touched.
    let at: Vec<(usize, usize)> =
        parts.iter().enumerate().flat_map(|(n, p)| (0..p.steps.len()).map(move |k| (n, k))).collect();
    let mut touched: BTreeMap<TensorId, BTreeSet<usize>> = BTreeMap::new();
    for (step, (n, k)) in at.iter().enumerate() {
        parts[*n].steps[*k].tensors().into_iter().for_each(|t| _ = touched.entry(t).or_default().insert(step));
    }
    let locals: BTreeSet<TensorId> = f.locals.iter().copied().collect();
    let mut over = Vec::new();
    let mut from = 0;
    for n in 0..parts.len() {
        let end = from + parts[n].steps.len();
        for step in from..end {
            let Some((new, old)) = written_over(kernel, &locals, &parts[n], &touched, [from, step, end]) else {
                continue;
            };
            let renamed = |a: &Access| Access { tensor: if a.tensor == new { old } else { a.tensor }, ..a.clone() };
            let moved = touched.remove(&new).unwrap_or_default();
            for (n, k) in moved.iter().map(|step| at[*step]) {
                parts[n].steps[k].stmts_mut().into_iter().for_each(|s| rewrite(s, &mut |a| renamed(a)));
            }
            touched.entry(old).or_default().extend(moved);
            over.push((new, old, n));
        }
        from = end;
    }
    over
}

/// The target of a step and the tensor whose place it can have; `from` and `end` are the steps of its part.
fn written_over(
    kernel: &Kernel,
    locals: &BTreeSet<TensorId>,
    part: &Group,
    touched: &BTreeMap<TensorId, BTreeSet<usize>>,
    [from, step, end]: [usize; 3],
) -> Option<(TensorId, TensorId)> {
    let Step::Stmt(s) = &part.steps[step - from] else { return None };
    let new = s.target.tensor;
    let shape = &kernel.tensor(new).shape;
    // What is tried without its branches must be able to run again: its arguments stay.
    let elementwise = s.reduce.is_none() && !s.accumulate && s.covers(shape) && epilogue::cheap(&s.value);
    if part.tiled || !elementwise {
        return None;
    }
    let within = |t: TensorId, range: Range<usize>| touched[&t].range(range).next().is_some();
    if !locals.contains(&new) || within(new, 0..step) || !within(new, end..usize::MAX) {
        return None;
    }
    let mut reads: Vec<&Access> = Vec::new();
    s.value.accesses(&mut |a| reads.push(a));
    let old = reads.iter().map(|a| a.tensor).find(|t| {
        locals.contains(t)
            && kernel.tensor(*t).shape == *shape
            && reads.iter().all(|a| a.tensor != *t || a.positions == s.target.positions)
            && within(*t, 0..from)
            && !within(*t, from..step)
            && !within(*t, step + 1..usize::MAX)
    })?;
    Some((new, old))
}

/// Places for tensors that live through the stages given: the largest first, each at the lowest place that none has
/// which lives when it does.
fn places(kernel: &Kernel, lives: &BTreeMap<TensorId, (usize, usize)>, stages: usize) -> Workspace {
    let mut order: Vec<TensorId> = lives.keys().copied().collect();
    order.sort_by_key(|t| (std::cmp::Reverse(bytes(kernel, *t)), *t));
    let mut places: BTreeMap<TensorId, usize> = BTreeMap::new();
    // What has a place, by where it begins: first and last byte, first and last stage.
    let mut taken: Vec<[usize; 4]> = Vec::new();
    for t in order {
        let (first, last) = lives[&t];
        let own = bytes(kernel, t);
        let mut at = 0;
        for [from, to, begins, ends] in &taken {
            if *begins > last || first > *ends {
                continue;
            }
            if at + own <= *from {
                break;
            }
            at = at.max(*to);
        }
        taken.insert(taken.partition_point(|[from, ..]| *from <= at), [at, at + own, first, last]);
        places.insert(t, at);
    }
    let size = taken.iter().map(|[_, to, ..]| *to).max().unwrap_or(0);
    // Bytes that begin to be needed with a stage, and those that end before it.
    let (mut begin, mut end) = (vec![0; stages + 1], vec![0; stages + 1]);
    for (t, (first, last)) in lives {
        begin[*first] += bytes(kernel, *t);
        end[*last + 1] += bytes(kernel, *t);
    }
    let at_once = begin.iter().zip(&end).scan(0, |sum, (begin, end)| {
        *sum = *sum + begin - end;
        Some(*sum)
    });
    let needed = at_once.max().unwrap_or(0);
    Workspace { places, bytes: size, needed, lives: lives.clone(), over: Vec::new() }
}
