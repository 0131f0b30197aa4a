//! The memory of a function that is validated: takes its nests, keeps what they write, all of it or what stands at the
//! corners, and gives what they read.
//!
//! Holds for it: what is not kept reads as the index IR says; where no iteration of a loop needs another, only those
//! iterations run that write what is kept.

use super::reach::{Corner, Write, coordinates, corner, inside, is_scratch, reach, reaching, writes};
use super::{MOST, Subject, work};
use crate::certify::Close;
use crate::index::TensorId;
use crate::index::element::Elements;
use crate::nest::eval::{Memory, updated};
use crate::nest::walk::{self, Part};
use crate::nest::{Nest, Node, Update, VarId};
use crate::plain::Kernel;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is kept of a tensor.
pub(super) enum Store<N> {
    Whole(Vec<Option<N>>),
    Corners { corners: Vec<Corner>, values: BTreeMap<usize, Option<N>> },
}

impl<N: Copy> Store<N> {
    pub(super) fn elements(&self) -> Box<dyn Iterator<Item = (usize, Option<N>)> + '_> {
        match self {
            Store::Whole(values) => Box::new(values.iter().copied().enumerate()),
            Store::Corners { values, .. } => Box::new(values.iter().map(|(at, v)| (*at, *v))),
        }
    }
    fn slot(&mut self, at: usize) -> Option<&mut Option<N>> {
        match self {
            Store::Whole(values) => values.get_mut(at),
            Store::Corners { values, .. } => values.get_mut(&at),
        }
    }
}

/// The memory of a function that is validated.
pub(super) struct Tensors<'a, N> {
    kernel: &'a Kernel,
    pub(super) elements: &'a Elements<'a, N>,
    pub(super) stores: BTreeMap<TensorId, Store<N>>,
    /// What must be written in the end: results, and what stages hand on.
    pub(super) written: BTreeSet<TensorId>,
    /// Panels, and locals without the dimensions of a loop that they live in: nothing but the nest says what they hold.
    scratch: HashMap<TensorId, Vec<Option<N>>>,
    /// The tensor whose place another has taken.
    pub(super) stands_for: HashMap<TensorId, TensorId>,
    /// What is found where nothing was written.
    pub(super) garbage: N,
    whole: bool,
    /// Of each loop, by the address of its body.
    loops: HashMap<*const Node, Apart>,
    nest: Option<&'a Nest>,
    /// How many accesses each tensor has in the nest.
    touches: BTreeMap<TensorId, usize>,
    steps: u64,
}

/// What the iterations of a loop write for good, where no iteration needs another.
type Apart = Option<Vec<Write>>;

impl<'a, N: Close> Tensors<'a, N> {
    pub(super) fn new(
        kernel: &'a Kernel,
        of: &Subject,
        elements: &'a Elements<'a, N>,
        whole: bool,
        nests: &[&Nest],
    ) -> Self {
        let mut corners: BTreeMap<TensorId, Vec<Corner>> = BTreeMap::new();
        for n in nests {
            for w in writes(n, &n.body).iter().filter(|w| !is_scratch(kernel, n, w.tensor)) {
                let shape = &kernel.tensor(w.tensor).shape;
                corners.entry(w.tensor).or_default().extend(reach(n, w, shape));
            }
        }
        let parts = || of.parts.iter().map(|n| &kernel.functions[*n]);
        let written: BTreeSet<TensorId> = parts().flat_map(|f| &f.writes).chain(&of.f.writes).copied().collect();
        // Locals too: where no nest writes one, what reads it shows that.
        let locals = parts().flat_map(|f| &f.locals).chain(&of.f.locals);
        for t in written.iter().chain(locals) {
            let shape = &kernel.tensor(*t).shape;
            let (first, last) = (vec![0; shape.len()], shape.iter().map(|n| n - 1).collect::<Vec<_>>());
            let least = vec![1; shape.len()];
            corners
                .entry(*t)
                .or_default()
                .extend([corner(&first, &least, shape, true), corner(&last, &least, shape, false)]);
        }
        let store = |(t, mut corners): (TensorId, Vec<Corner>)| {
            if whole {
                return (t, Store::Whole(vec![None; kernel.tensor(t).elements()]));
            }
            corners.sort_by_key(|c| c.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>());
            corners.dedup();
            let mut values = BTreeMap::new();
            for c in &corners {
                inside(c, &kernel.tensor(t).shape, &mut |at| _ = values.insert(at, None));
            }
            (t, Store::Corners { corners, values })
        };
        Tensors {
            kernel,
            elements,
            stores: corners.into_iter().map(store).collect(),
            written,
            scratch: HashMap::new(),
            stands_for: HashMap::new(),
            garbage: N::from_f64(0.0),
            whole,
            loops: HashMap::new(),
            touches: BTreeMap::new(),
            nest: None,
            steps: 0,
        }
    }

    pub(super) fn hold(&mut self, t: TensorId, initial: &dyn Fn(usize) -> N) {
        let store = self.stores.get_mut(&t).expect("results have a place");
        let all: Vec<usize> = store.elements().map(|(at, _)| at).collect();
        for at in all {
            *store.slot(at).expect("it is kept") = Some(initial(at));
        }
    }

    pub(super) fn begin(&mut self, nest: &'a Nest) {
        self.nest = Some(nest);
        self.touches = touches(&nest.body);
        self.loops.clear();
        self.scratch.clear();
        for l in nest.locals.iter().filter(|l| is_scratch(self.kernel, nest, l.tensor)) {
            self.scratch.insert(l.tensor, vec![None; l.shape.iter().product()]);
        }
    }

    pub(super) fn spent(&self) -> bool {
        !self.whole && self.steps + self.elements.work() > MOST
    }

    /// What the index IR says of an element in storage order.
    pub(super) fn meaning(&self, t: TensorId, at: usize) -> N {
        let tensor = self.kernel.tensor(t);
        let at = if tensor.order.iter().enumerate().all(|(d, o)| d == *o) {
            at
        } else {
            let place = coordinates(at, &tensor.shape);
            tensor.order.iter().fold(0, |sum, d| sum * tensor.shape[*d] + place[*d])
        };
        self.elements.value(self.stands_for.get(&t).copied().unwrap_or(t), at)
    }
}

impl<N: Close> Memory<N> for Tensors<'_, N> {
    fn read(&mut self, t: TensorId, at: usize) -> N {
        self.steps += 1;
        if let Some(values) = self.scratch.get(&t) {
            return values[at].unwrap_or(self.garbage);
        }
        let kept = self.stores.get_mut(&t).and_then(|s| s.slot(at)).map(|slot| slot.unwrap_or(self.garbage));
        match kept {
            Some(v) if self.whole => v,
            // Rounded as the elements beside it, which are computed by the index IR, so that comparisons agree.
            Some(v) => {
                let exact = self.meaning(t, at);
                if v.close(exact, exact.magnitude()) { exact } else { v }
            }
            None => self.meaning(t, at),
        }
    }
    fn write(&mut self, t: TensorId, at: usize, how: Update, value: N) {
        self.steps += 1;
        let garbage = self.garbage;
        let slot = match self.scratch.get_mut(&t) {
            Some(values) => values.get_mut(at),
            None => self.stores.get_mut(&t).and_then(|s| s.slot(at)),
        };
        if let Some(slot) = slot {
            *slot = Some(updated(how, slot.unwrap_or(garbage), value));
        }
    }
    fn fill(&mut self, t: TensorId, value: N) {
        if let Some(values) = self.scratch.get_mut(&t) {
            values.fill(Some(value));
        } else if let Some(store) = self.stores.get_mut(&t) {
            match store {
                Store::Whole(values) => values.fill(Some(value)),
                Store::Corners { values, .. } => values.values_mut().for_each(|v| *v = Some(value)),
            }
        }
    }
    fn iterations(&mut self, var: VarId, body: &[Node], env: &[Option<i64>]) -> Option<Vec<i64>> {
        if self.whole {
            return None;
        }
        let (kernel, nest) = (self.kernel, self.nest?);
        let iterations = self.needed(kernel, nest, var, body, env);
        // What would take more than is run is not begun.
        let count = iterations.as_ref().map_or(nest.vars[var].extent, Vec::len) as u64;
        let more = if has_loop(body) { count } else { count.saturating_mul(work(nest, body)) };
        if self.spent() || self.steps.saturating_add(more) > MOST {
            self.steps = MOST + 1;
            return Some(Vec::new());
        }
        iterations
    }
}

impl<N: Close> Tensors<'_, N> {
    /// The iterations of a loop that write what is kept; `None` where all are needed.
    fn needed(
        &mut self,
        kernel: &Kernel,
        nest: &Nest,
        var: VarId,
        body: &[Node],
        env: &[Option<i64>],
    ) -> Option<Vec<i64>> {
        let writes =
            self.loops.entry(body.as_ptr()).or_insert_with(|| apart(kernel, nest, body, &self.touches)).as_ref()?;
        let mut iterations: BTreeSet<i64> = BTreeSet::new();
        for w in writes {
            let Some(Store::Corners { corners, .. }) = self.stores.get(&w.tensor) else { return None };
            for c in corners {
                let (from, to) = reaching(nest, var, env, w, c, &kernel.tensor(w.tensor).shape);
                if to - from > MOST as i64 {
                    return None;
                }
                iterations.extend(from..=to);
            }
        }
        Some(iterations.into_iter().collect())
    }
}

fn has_loop(nodes: &[Node]) -> bool {
    nodes.iter().any(|n| matches!(n, Node::Loop { .. }) || has_loop(n.body()))
}

/// What the iterations of a loop write, if an iteration may be left out without another noticing, but for what it
/// writes itself. `all`: how many accesses each tensor has in the whole nest.
fn apart(kernel: &Kernel, n: &Nest, body: &[Node], all: &BTreeMap<TensorId, usize>) -> Apart {
    let (mut begun, mut updated, mut filled) = (BTreeSet::new(), BTreeSet::new(), false);
    walk::parts(body, &mut |part| match part {
        Part::Node(node) => begun.extend(node.begins()),
        Part::Changed(slot) => _ = updated.insert(slot.register),
        Part::Filled(t) => filled |= !is_scratch(kernel, n, *t),
        _ => {}
    });
    let written = writes(n, body);
    let (scratch, for_good): (Vec<_>, Vec<_>) = written.into_iter().partition(|w| is_scratch(kernel, n, w.tensor));
    let here = touches(body);
    let inner = |w: &Write| here.get(&w.tensor) == all.get(&w.tensor);
    let alone = !filled && updated.is_subset(&begun) && scratch.iter().all(inner);
    (alone && !for_good.is_empty()).then_some(for_good)
}

/// How many accesses each tensor has.
fn touches(nodes: &[Node]) -> BTreeMap<TensorId, usize> {
    let mut count = BTreeMap::new();
    walk::parts(nodes, &mut |part| match part {
        Part::Read(a) | Part::Written(a) => *count.entry(a.tensor).or_insert(0) += 1,
        Part::Filled(t) => *count.entry(*t).or_insert(0) += 1,
        _ => {}
    });
    count
}
