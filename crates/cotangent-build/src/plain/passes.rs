//! Passes: takes a function as it is lowered, gives it as every later stage wants it. [`PASSES`] lists them in order,
//! with what holds after each; `cotangent show SPEC --stage plain --after NAME` prints what it holds of.

use super::number::Numbers;
use super::*;
use std::collections::BTreeSet;

/// A step of the way from lowered statements to a function.
pub struct Pass {
    pub name: &'static str,
    run: fn(&mut Draft),
}

/// Every pass, in the order in which they run.
pub const PASSES: [Pass; 10] = [
    Pass { name: "lower", run: |_| {} },
    // after this: statements one by one, as the op says them; recurrences whole, over their coordinates
    Pass { name: "merge", run: merged },
    // after this: no two statements that follow each other add to one derivative in loops that match
    Pass { name: "split", run: split },
    // after this: sums that a condition on one coordinate cuts into few parts are these parts, recurrences aside
    Pass { name: "gather", run: gathered },
    // after this: the targets of sums stand still where a position can be solved for a variable, recurrences aside
    Pass { name: "initialise", run: initialised },
    // after this: what starts at zero is filled, or stored before anything is added to it
    Pass { name: "segment", run: segmented },
    // after this: recurrences count upwards, in segments whose sums have no condition on the number of the iteration
    Pass { name: "gather-recurrences", run: gathered_in_recurrences },
    // after this: targets of recurrences stand still too, as far as positions can be solved
    Pass { name: "prune", run: pruned },
    // after this: every step writes what a result needs
    Pass { name: "inline", run: inlined },
    // after this: no elementwise statement writes by digits of positions what one other elementwise statement reads
    Pass { name: "mask", run: masked },
    // after this: what may be absent stands under masks, which say where it is present
];

impl Pass {
    /// The pass of a name.
    pub fn named(name: &str) -> Option<&'static Pass> {
        PASSES.iter().find(|p| p.name == name)
    }
}

/// A function between two passes.
pub(super) struct Draft<'a> {
    pub tensors: &'a [Tensor],
    pub numbers: &'a mut Numbers,
    /// When each statement was lowered, in order, by [`Numbers::lowered`]: what is merged is numbered by it.
    pub lowered: Vec<usize>,
    pub results: Vec<TensorId>,
    /// The results hold values to add to.
    pub accumulated: bool,
    pub locals: Vec<TensorId>,
    pub items: Vec<Item>,
}

/// What a function runs, between two passes.
#[derive(Clone)]
pub(super) enum Item {
    Fill(TensorId),
    /// One statement, or its parts, which write different elements.
    Stmts(Vec<Stmt>),
    /// A recurrence over its coordinates, from the first on or from the last.
    Scan {
        name: String,
        iterations: usize,
        backwards: bool,
        body: Vec<Member>,
    },
    /// A recurrence in segments.
    Segments(Scan),
}

impl Item {
    fn stmts(&self) -> Vec<&Stmt> {
        match self {
            Item::Fill(_) => Vec::new(),
            Item::Stmts(all) => all.iter().collect(),
            Item::Scan { body, .. } => body.iter().map(|p| &p.stmt).collect(),
            Item::Segments(scan) => scan.segments.iter().flat_map(|s| &s.body).map(|p| &p.stmt).collect(),
        }
    }

    /// As steps. Of a recurrence that is not in segments it is one segment, over coordinates instead of numbers.
    fn steps(self) -> Vec<Step> {
        match self {
            Item::Fill(t) => vec![Step::Fill(t)],
            Item::Stmts(all) => all.into_iter().map(Step::Stmt).collect(),
            Item::Scan { name, iterations, backwards, body } => {
                let name = if backwards { format!("{name} backwards") } else { name };
                vec![Step::Scan(Scan { name, segments: vec![Segment { iterations, body }] })]
            }
            Item::Segments(scan) => vec![Step::Scan(scan)],
        }
    }
}

impl From<Step> for Item {
    fn from(step: Step) -> Self {
        match step {
            Step::Fill(t) => Item::Fill(t),
            Step::Stmt(s) => Item::Stmts(vec![s]),
            Step::Scan(scan) => Item::Segments(scan),
        }
    }
}

impl Draft<'_> {
    /// Runs the passes, up to `last` if there is one.
    pub fn run(&mut self, last: Option<&Pass>) {
        for pass in &PASSES {
            (pass.run)(self);
            if last.is_some_and(|last| last.name == pass.name) {
                return;
            }
        }
    }

    /// The steps, and the locals that they write.
    pub fn finished(self) -> (Vec<Step>, Vec<TensorId>) {
        let steps: Vec<Step> = self.items.into_iter().flat_map(Item::steps).collect();
        let written: BTreeSet<TensorId> = steps.iter().flat_map(Step::writes).collect();
        let locals = self.locals.into_iter().filter(|t| written.contains(t)).collect();
        (steps, locals)
    }

    /// Each item in place of the items that it becomes.
    fn replace(&mut self, mut with: impl FnMut(Item) -> Vec<Item>) {
        self.items = std::mem::take(&mut self.items).into_iter().flat_map(&mut with).collect();
    }

    /// The steps through `with`, which knows no items.
    fn rewrite(&mut self, with: impl FnOnce(Vec<Step>) -> Vec<Step>) {
        let steps = std::mem::take(&mut self.items).into_iter().flat_map(Item::steps).collect();
        self.items = with(steps).into_iter().map(Item::from).collect();
    }
}

fn merged(d: &mut Draft) {
    let mut lowered = std::mem::take(&mut d.lowered).into_iter();
    let (tensors, numbers) = (d.tensors, &mut *d.numbers);
    // The last statement becomes both; else there is another behind it.
    let mut onto = |last: Option<&mut Stmt>, next: &Stmt| {
        let at = lowered.next().expect("each statement was lowered");
        let Some((last, both)) = last.and_then(|last| merge::merge(last, next, tensors).map(|both| (last, both)))
        else {
            return false;
        };
        let number = numbers.both(last.number, next.number, at);
        *last = Stmt { number, ..both };
        true
    };
    let mut items: Vec<Item> = Vec::new();
    for item in std::mem::take(&mut d.items) {
        match item {
            Item::Scan { name, iterations, backwards, body } => {
                let mut own: Vec<Member> = Vec::new();
                for part in body {
                    if !onto(own.last_mut().map(|p| &mut p.stmt), &part.stmt) {
                        own.push(part);
                    }
                }
                items.push(Item::Scan { name, iterations, backwards, body: own });
            }
            Item::Stmts(all) => {
                for s in all {
                    let last = match items.last_mut() {
                        Some(Item::Stmts(last)) => last.last_mut(),
                        _ => None,
                    };
                    if !onto(last, &s) {
                        items.push(Item::Stmts(vec![s]));
                    }
                }
            }
            item => items.push(item),
        }
    }
    d.items = items;
}

fn split(d: &mut Draft) {
    let tensors = d.tensors;
    d.replace(|item| {
        let Item::Stmts(all) = &item else { return vec![item] };
        match segments::parts(&all[0], tensors) {
            Some((v, parts)) if v < all[0].free => {
                if parts.is_empty() {
                    return vec![item];
                }
                vec![Item::Stmts(parts)]
            }
            Some((_, parts)) => parts.into_iter().map(|s| Item::Stmts(vec![s])).collect(),
            None => vec![item],
        }
    });
}

fn gathered(d: &mut Draft) {
    let tensors = d.tensors;
    d.replace(|item| {
        let Item::Stmts(all) = item else { return vec![item] };
        vec![Item::Stmts(all.into_iter().flat_map(|s| gathered_stmt(s, None, tensors)).collect())]
    });
}

fn gathered_in_recurrences(d: &mut Draft) {
    let tensors = d.tensors;
    d.replace(|mut item| {
        if let Item::Segments(scan) = &mut item {
            for segment in &mut scan.segments {
                segment.body = segment.body.drain(..).flat_map(|part| gathered_part(part, tensors)).collect();
            }
        }
        vec![item]
    });
}

/// A statement in gather form, where it has one.
fn gathered_stmt(s: Stmt, iteration: Option<usize>, tensors: &[Tensor]) -> Vec<Stmt> {
    let moves = s.accumulate && s.target.positions.iter().any(|p| p.as_var().is_none());
    let gathered = if moves { gather::gather(&s, iteration, tensors) } else { None };
    gathered.unwrap_or_else(|| vec![s])
}

/// A statement of a recurrence in gather form; the position that moves with the iterations stays.
fn gathered_part(Member { iteration, stmt }: Member, tensors: &[Tensor]) -> Vec<Member> {
    let own = |s: &Stmt, v: usize| s.target.positions.iter().position(|p| p.numerator.coefficient(v) != 0);
    let place = iteration.and_then(|v| own(&stmt, v));
    let number = |s: &Stmt| place.map(|at| s.target.positions[at].numerator.terms[0].0);
    gathered_stmt(stmt, iteration, tensors).into_iter().map(|stmt| Member { iteration: number(&stmt), stmt }).collect()
}

fn initialised(d: &mut Draft) {
    let before = std::mem::take(&mut d.items);
    let mut begun: BTreeSet<TensorId> =
        if d.accumulated { d.results.iter().copied().collect() } else { BTreeSet::new() };
    for (n, item) in before.iter().enumerate() {
        match item.clone() {
            Item::Stmts(mut group) => {
                let target = group[0].target.tensor;
                if begun.insert(target) {
                    // What is written once, of all that the tensor holds, is stored; only what no statement reaches
                    // needs a zero before.
                    let once = written_once(&group.iter().collect::<Vec<_>>());
                    if once.is_some() {
                        group.iter_mut().for_each(|s| s.accumulate = false);
                    }
                    let elements = d.tensors[target.0].elements() as u128;
                    if once != Some(elements) && !(once.is_some() && filled(target, elements, &before[n..])) {
                        d.items.push(Item::Fill(target));
                    }
                }
                d.items.push(Item::Stmts(group));
            }
            Item::Scan { name, iterations, backwards, mut body } => {
                d.items.extend(begin(&mut body, &mut begun, d.tensors).into_iter().map(Item::Fill));
                d.items.push(Item::Scan { name, iterations, backwards, body });
            }
            item => d.items.push(item),
        }
    }
    // A result that no statement writes is zero; those that are held are begun.
    d.items.extend(d.results.iter().filter(|t| !begun.contains(t)).map(|t| Item::Fill(*t)));
}

/// Whether the statements store every element of a tensor once before one of them reads it or adds to it.
fn filled(t: TensorId, elements: u128, items: &[Item]) -> bool {
    let only_stores = |s: &&Stmt| {
        let mut found = s.accumulate && s.target.tensor == t;
        s.value.reads(&mut |a| found |= a.tensor == t);
        !found
    };
    let all = items.iter().flat_map(Item::stmts);
    let stores: Vec<&Stmt> = all.take_while(only_stores).filter(|s| s.target.tensor == t).collect();
    written_once(&stores) == Some(elements)
}

/// Makes the first writes of a recurrence store, where each element is stored before anything is added to it; gives the
/// tensors that start at zero instead.
fn begin(body: &mut [Member], begun: &mut BTreeSet<TensorId>, tensors: &[Tensor]) -> Vec<TensorId> {
    let mut fills = Vec::new();
    for n in 0..body.len() {
        let Member { iteration, stmt: first } = &body[n];
        let target = first.target.tensor;
        if !begun.insert(target) {
            continue;
        }
        // Every other statement writes in the same iteration, after it.
        let at = |v: Option<usize>, s: &Stmt| s.target.positions.iter().position(|p| v.is_some() && p.as_var() == v);
        let place = at(*iteration, first);
        let mut writers = body.iter().filter(|p| p.stmt.target.tensor == target);
        let same =
            writers.clone().count() == 1 || place.is_some() && writers.all(|p| at(p.iteration, &p.stmt) == place);
        if same && first.covers(&tensors[target.0].shape) {
            body[n].stmt.accumulate = false;
        } else {
            fills.push(target);
        }
    }
    fills
}

fn segmented(d: &mut Draft) {
    let tensors = d.tensors;
    d.replace(|item| match item {
        Item::Scan { name, iterations, backwards, body } => {
            let segments = segments::segments(&body, iterations, backwards, tensors);
            vec![Item::Segments(Scan { name, segments })]
        }
        item => vec![item],
    });
}

fn pruned(d: &mut Draft) {
    let results = d.results.clone();
    d.rewrite(|steps| needed(steps, &results));
}

/// The steps that the results need: at the sizes of an instance what read a tensor may be decided to read none of it.
fn needed(steps: Vec<Step>, results: &[TensorId]) -> Vec<Step> {
    let mut needed: BTreeSet<TensorId> = results.iter().copied().collect();
    let mut kept: Vec<Step> = Vec::new();
    for step in steps.into_iter().rev() {
        if step.writes().iter().any(|t| needed.contains(t)) {
            // A recurrence runs whole: what else it writes has to be there to be written.
            needed.extend(step.writes());
            step.stmts().iter().for_each(|s| s.value.reads(&mut |a| _ = needed.insert(a.tensor)));
            kept.push(step);
        }
    }
    kept.reverse();
    kept
}

fn inlined(d: &mut Draft) {
    let (locals, tensors) = (d.locals.clone(), d.tensors);
    d.rewrite(|steps| inline::inline(steps, &locals, tensors));
}

fn masked(d: &mut Draft) {
    let tensors = d.tensors;
    d.rewrite(|mut steps| {
        steps.iter_mut().flat_map(Step::stmts_mut).for_each(|s| *s = mask::masked(s, tensors));
        steps
    });
}
