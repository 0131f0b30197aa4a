//! Plans: takes a kernel, gives how each of its functions is carried out: by one nest, or in stages, functions of their
//! own that hand tensors on in a workspace. What the functions themselves say does not change here.
//!
//! Holds after it (`check.rs` tests it): a function with stages runs them in order, each on arguments and on places in
//! the workspace; tensors that are needed at the same time have places apart; what a stage keeps on the stack has at
//! most [`Limits::stack`] bytes, panels aside; an elementwise step reuses the memory of an input that is dead after it.

pub mod check;
mod over;
mod workspace;

pub use workspace::{ALIGNMENT, Workspace};

use super::epilogue;
use super::function::finishes;
use super::fuse::{Tree, fuse};
use super::rows::in_blocks;
use super::tile::Tuning;
use crate::index::TensorId;
use crate::plain::{Function, Kernel, Kind, Step, Stmt, cost, written_once};
use std::collections::{BTreeMap, BTreeSet};

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
    /// What stages will be scheduled with.
    pub tuning: Tuning,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { program: 20_000, stage: 2_000, stack: 4096, tuning: Tuning::default() }
    }
}

/// A kernel with how it is carried out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Entry points, then the stages of the large ones. Entry points have stages in common: the way forward.
    pub kernel: Kernel,
    /// Of each function of the kernel.
    pub plans: Vec<Plan>,
}

/// How one function is carried out.
#[derive(Clone, Debug)]
pub enum Plan {
    /// By a nest of its own.
    Nest {
        /// Its reductions have epilogues, which their tiles run.
        tiled: bool,
    },
    /// By other functions.
    Stages {
        /// Their numbers, in order.
        stages: Vec<usize>,
        /// What they hand on.
        workspace: Workspace,
    },
}

impl Plan {
    /// The functions that carry it out, in order; none where it does so itself.
    pub fn stages(&self) -> &[usize] {
        match self {
            Plan::Nest { .. } => &[],
            Plan::Stages { stages, .. } => stages,
        }
    }

    /// The functions that run for the one of the number `n`, whose plan this is: itself, or its stages.
    pub fn parts(&self, n: usize) -> Vec<usize> {
        match self {
            Plan::Nest { .. } => vec![n],
            Plan::Stages { stages, .. } => stages.clone(),
        }
    }

    /// What its caller provides, where that is anything.
    pub fn workspace(&self) -> Option<&Workspace> {
        match self {
            Plan::Stages { workspace, .. } if workspace.bytes > 0 => Some(workspace),
            _ => None,
        }
    }
}

impl Planned {
    /// Each function by a nest of its own, whose tiles run reductions alone: the plan of an op.
    pub fn whole(kernel: Kernel) -> Self {
        let plans = vec![Plan::Nest { tiled: false }; kernel.functions.len()];
        Planned { kernel, plans }
    }
}

/// Plans the functions of a kernel, which are whole programs.
pub fn plan(mut kernel: Kernel, limits: Limits) -> Planned {
    let mut planner = Planner { kernel: &kernel, limits, known: BTreeMap::new() };
    let mut plans = Vec::new();
    // Numbered from the functions on, with their plans.
    let mut made: Vec<Stage> = Vec::new();
    for f in &kernel.functions {
        let work = cost::steps(&f.steps);
        let bytes: usize = f.locals.iter().map(|t| workspace::bytes(&kernel, *t)).sum();
        if work <= limits.program && bytes <= limits.stack {
            plans.push(Plan::Nest { tiled: planner.finishes(f) });
            continue;
        }
        let mut parts = planner.parts(f);
        let over = over::in_place(&kernel, f, &mut parts);
        let (own, workspace) = stages(&kernel, f, parts, over, limits.stack);
        let first = kernel.functions.len();
        let numbers = own.into_iter().map(|stage| {
            let at = made.iter().position(|known| known.is(&stage)).unwrap_or_else(|| {
                made.push(stage);
                made.len() - 1
            });
            first + at
        });
        plans.push(Plan::Stages { stages: numbers.collect(), workspace });
    }
    for Stage { function, tiled } in made {
        kernel.functions.push(function);
        plans.push(Plan::Nest { tiled });
    }
    Planned { kernel, plans }
}

/// A part of a function, as a function.
struct Stage {
    function: Function,
    /// As of its plan.
    tiled: bool,
}

impl Stage {
    /// Whether one can stand for the other.
    fn is(&self, other: &Stage) -> bool {
        let (a, b) = (&self.function, &other.function);
        self.tiled == other.tiled && a.accumulated == b.accumulated && does_as(a, b)
    }
}

/// Whether two functions run the same steps on the same tensors.
fn does_as(a: &Function, b: &Function) -> bool {
    (&a.reads, &a.writes, &a.locals, &a.steps) == (&b.reads, &b.writes, &b.locals, &b.steps)
}

/// The steps of one stage.
struct StageSteps {
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
    fn parts(&mut self, f: &Function) -> Vec<StageSteps> {
        let all = readers(&f.steps);
        let mut trees: Vec<StageSteps> = Vec::new();
        let mut run: Vec<Step> = Vec::new();
        for step in &f.steps {
            if !matches!(step, Step::Scan(_)) {
                run.push(step.clone());
                continue;
            }
            trees.extend(self.fused(&std::mem::take(&mut run), f, &all));
            trees.push(StageSteps { steps: vec![step.clone()], tiled: false });
        }
        trees.extend(self.fused(&run, f, &all));
        let mut parts: Vec<(StageSteps, u64)> = Vec::new();
        for tree in trees {
            let work = cost::steps(&tree.steps);
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
    fn fused(&mut self, steps: &[Step], f: &Function, all: &BTreeMap<TensorId, usize>) -> Vec<StageSteps> {
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
                out.push(StageSteps { steps: steps[at..end].to_vec(), tiled: true });
                out.extend(self.fused(&steps[end..], f, all));
                return out;
            }
            at += own.len();
            out.push(StageSteps { steps: own, tiled: false });
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
        let answer = finishes(self.kernel, f, self.limits.tuning);
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
    stage(format!("{}_", f.name), [reads, writes, locals], Vec::new(), steps.to_vec())
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
    let begun = |t: &TensorId| f.accumulated.contains(t) || steps.contains(&Step::Fill(*t));
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

/// The groups as stages, and where what they hand on has its places; `over` as of these.
fn stages(
    kernel: &Kernel,
    f: &Function,
    parts: Vec<StageSteps>,
    over: Vec<(TensorId, TensorId, usize)>,
    stack: usize,
) -> (Vec<Stage>, Workspace) {
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
    for (n, (StageSteps { steps, tiled }, inner)) in parts.iter().zip(inner).enumerate() {
        let mut fused = fuse(steps, &inner);
        in_blocks(&mut fused, kernel);
        let registers = if *tiled { epilogue::split(steps, &inner).1 } else { Vec::new() };
        let size = |t: &TensorId| {
            if registers.iter().any(|e| e.inner.contains(t)) {
                return 0;
            }
            fused.shape(*t, &kernel.tensor(*t).shape).into_iter().product::<usize>() * kernel.dtype.bytes()
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
    let workspace = Workspace::new(kernel, lives, over, parts.len());
    let mut begun: BTreeSet<TensorId> =
        if f.accumulated.is_empty() { BTreeSet::new() } else { f.writes.iter().copied().collect() };
    let mut out = Vec::new();
    for (n, ((StageSteps { steps, tiled }, (reads, writes)), own)) in parts.into_iter().zip(sets).zip(own).enumerate() {
        let mine = |t: &TensorId| own.contains(t);
        let writes: Vec<TensorId> = writes.into_iter().filter(|t| !mine(t)).collect();
        let reads = reads.into_iter().filter(|t| !mine(t) && !writes.contains(t)).collect();
        let accumulated = writes.iter().copied().filter(|t| begun.contains(t)).collect();
        let function = stage(format!("{}_{n}", f.name), [reads, writes.clone(), own.clone()], accumulated, steps);
        out.push(Stage { function, tiled });
        begun.extend(writes);
    }
    (out, workspace)
}

/// A stage that reads, writes and keeps the tensors given, of which `accumulated` have values before.
fn stage(
    name: String,
    [reads, writes, locals]: [Vec<TensorId>; 3],
    accumulated: Vec<TensorId>,
    steps: Vec<Step>,
) -> Function {
    Function { name, kind: Kind::Stage, reads, writes, accumulated, locals, steps }
}
