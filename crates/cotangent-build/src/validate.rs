//! Validation of each translation: takes a certified op and the nests of one of its kernels, runs every nest and
//! compares what it writes with the statements of the index IR, element by element. Gives what was compared, for the
//! kernel's documentation.
//!
//! Numbers are integers modulo 2^61 - 1 where the statements are rational, and `f64` else. A function of little work
//! runs whole. Of another only the turns of loops run that write the elements at the corners of what each write covers,
//! so that each piece of the schedule (tiles, tails, borders, phases) runs at the instance's own extents; what they
//! read besides, the index IR computes.
//!
//! Holds after it: the nests compute what the certificate is about. Where one does not, by more than rounding can
//! explain, the compiler is wrong, and panics.

use crate::certify::field::M61;
use crate::certify::{Certified, Close, Sampler, rational};
use crate::compiled::{Compiled, Validation};
use crate::index::bind::Binding;
use crate::index::bounds::{self, Bounded};
use crate::index::element::Elements;
use crate::index::eval::Number;
use crate::index::{Op, Role, Stmt, TensorId};
use crate::nest::eval::{Memory, run_in, updated};
use crate::nest::lanes::chooses;
use crate::nest::machine::MACHINES;
use crate::nest::walk::{self, Part};
use crate::nest::{Access, Nest, Node, Place, Position, Turned, Update, VarId, inline};
use crate::plain::{self, Function, Kernel, Kind, Linear};
use crate::types::{DType, Domain};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// A function whose nest does at most so much runs whole.
const WHOLE: u64 = 1500;
/// The most that is run of a function, in operations of the nest; what would take more is not run.
const MOST: u64 = 200_000;
/// The most terms that the statements are followed for, of a function.
const MOST_TERMS: u64 = 4_000_000;
/// How many elements are compared at a corner: of a row at least, and in all at most.
const ROW: usize = 8;
const MOST_KEPT: usize = 256;
/// The loops' own order of operations may round so many times as much as the statements'.
const ROUNDING: f64 = 4.0;

/// What a thread that validates may have on its stack: elements that depend on elements are computed one within the
/// other.
const STACK: usize = 64 << 20;

/// Validates the nests of all kernels, on every core.
pub fn all(ops: &mut [(&Certified, Vec<Compiled>)]) {
    let kernels: Vec<(&Certified, &mut Compiled)> =
        ops.iter_mut().flat_map(|(c, kernels)| kernels.iter_mut().map(|k| (*c, k))).collect();
    let kernels = Mutex::new(kernels);
    let work = || {
        while let Some((c, compiled)) = { kernels.lock().unwrap_or_else(PoisonError::into_inner).pop() } {
            compiled.validation = Some(validate(c, compiled));
        }
    };
    std::thread::scope(|s| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let spawn = |_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(s, work);
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        for thread in threads {
            let joined = thread.expect("the system gives threads").join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// Validates the nests of a kernel.
pub fn validate(certified: &Certified, compiled: &Compiled) -> Validation {
    let mut done = Validation::default();
    let functions = compiled.kernel.functions.iter().enumerate();
    for (n, _) in functions.filter(|(_, f)| f.kind != Kind::Stage) {
        let (reached, exact) = function(certified, compiled, n);
        match reached {
            Reached::Whole => done.whole += 1,
            Reached::Pieces => done.pieces += 1,
            Reached::Nothing => done.none += 1,
        }
        done.exact += usize::from(exact && reached != Reached::Nothing);
    }
    done
}

/// Validates the nests of one entry point, by its number; also says whether that was exact.
pub fn function(certified: &Certified, compiled: &Compiled, n: usize) -> (Reached, bool) {
    let f = &compiled.kernel.functions[n];
    let parts = compiled.plans[n].parts(n);
    let meaning = Meaning::of(&certified.op, f);
    // What runs without loops has constants that were computed in `f64`.
    let exact = rational(&meaning.stmts) && !straight(compiled, f, &parts);
    let binding = binding(&compiled.kernel);
    let over = compiled.plans[n].workspace().map_or(&[][..], |w| &w.over);
    let subject = Subject { op: &certified.op, binding: &binding, compiled, f, parts: &parts, over, meaning: &meaning };
    let reached = if exact {
        subject.run(&|r, _| M61::new(r.bits()), &|_, _| 0.0)
    } else {
        subject.run(&Sampler::ordinary, &|t, at| subject.doubt(t, at))
    };
    (reached, exact)
}

/// The numbers of the instance, as the index IR takes them.
fn binding(kernel: &Kernel) -> Binding {
    Binding { extents: kernel.extents.clone(), params: kernel.params.clone() }
}

/// Whether some nest of the function has no loops where its statements have.
fn straight(compiled: &Compiled, f: &Function, parts: &[usize]) -> bool {
    let loops = f.steps.iter().flat_map(|s| s.stmts()).any(|s| !s.vars.is_empty());
    let unrolled = |n: &Nest| !n.body.iter().any(|node| matches!(node, Node::Loop { .. }));
    parts.iter().flat_map(|n| &compiled.nests[*n]).any(unrolled) && loops
}

/// What a function is to compute.
struct Meaning {
    stmts: Vec<Stmt>,
    /// What they write.
    made: BTreeSet<TensorId>,
}

impl Meaning {
    fn of(op: &Op, f: &Function) -> Self {
        let own: Vec<Stmt> = match (&op.program, f.kind) {
            (Some(program), kind) => {
                let name = kind.name();
                let made = |t: &TensorId, stmts: &[Stmt]| stmts.iter().any(|s| s.target == *t);
                let mut entries = program.functions.iter().filter(|e| e.entry.name() == name);
                let all = |stmts: &[Stmt]| f.locals.iter().all(|t| made(t, stmts));
                let first = entries.clone().next();
                let entry = entries.find(|e| all(&e.stmts)).or(first).expect("a program's function is an entry point");
                entry.stmts.clone()
            }
            (None, Kind::Forward) => op.forward.clone(),
            (None, Kind::Jvp) => op.tangent.stmts.clone(),
            (None, _) => op.adjoint.stmts.clone(),
        };
        let made: BTreeSet<TensorId> = own.iter().map(|s| s.target).collect();
        let forward = op.forward.iter().filter(|s| !made.contains(&s.target)).cloned();
        let stmts: Vec<Stmt> = forward.chain(own).collect();
        let made = stmts.iter().map(|s| s.target).collect();
        Meaning { stmts, made }
    }
}

/// How far a function was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Every element was compared.
    Whole,
    /// Those at the corners of each piece were.
    Pieces,
    /// It is too large.
    Nothing,
}

/// How far off an element may be that was computed in another way, for rounding alone.
type Doubt<'a> = &'a dyn Fn(TensorId, usize) -> f64;

/// A number for one element, from a generator and the domain of its tensor.
type Draw<'a, N> = &'a dyn Fn(&mut Sampler, Option<Domain>) -> N;

/// A function and what it means.
struct Subject<'a> {
    op: &'a Op,
    binding: &'a Binding,
    compiled: &'a Compiled<'a>,
    f: &'a Function,
    /// The numbers of the functions that run.
    parts: &'a [usize],
    /// Tensors that stand for others, each with the one whose place it has, from the part on that is named.
    over: &'a [(TensorId, TensorId, usize)],
    meaning: &'a Meaning,
}

impl Subject<'_> {
    /// What is given of an element: nothing where statements alone say what it is.
    fn given<N>(&self, draw: Draw<N>, t: TensorId, at: usize) -> Option<N> {
        let role = |t: TensorId| self.op.tensor(t).role;
        let drawn = |t: TensorId| match role(t) {
            Role::Input => true,
            Role::Tangent(of) => role(of) == Role::Input,
            Role::Cotangent(of) => role(of) == Role::Output,
            _ => self.f.reads.contains(&t),
        };
        (!self.meaning.made.contains(&t) && drawn(t)).then(|| self.drawn(draw, t, at))
    }

    /// A bound of what rounding does to an element. Where a comparison may go either way there is none.
    fn doubt(&self, t: TensorId, at: usize) -> f64 {
        let draw: Draw<Bounded> = &|sampler, domain| Bounded::exact(Sampler::ordinary(sampler, domain));
        let (bounded, doubt) = bounds::rounded(DType::F64, || {
            let given = |t: TensorId, at: usize| self.given(draw, t, at);
            let elements = Elements::new(self.op, self.binding, &self.meaning.stmts, &given, MOST_TERMS);
            let v = elements.value(t, at);
            let v = if self.f.held.contains(&t) { self.initial(draw, t, at).add(v) } else { v };
            if elements.beyond() { Bounded { error: f64::INFINITY, ..v } } else { v }
        });
        if doubt { f64::INFINITY } else { ROUNDING * bounded.error }
    }

    fn run<N: Close>(&self, draw: Draw<N>, doubt: Doubt) -> Reached {
        let kernel = &self.compiled.kernel;
        let given = |t: TensorId, at: usize| self.given(draw, t, at);
        let elements = Elements::new(self.op, self.binding, &self.meaning.stmts, &given, MOST_TERMS);
        let mut reached = Reached::Whole;
        let mut seen: Vec<Vec<&Nest>> = Vec::new();
        for machine in MACHINES {
            let nests = self.parts.iter().map(|n| &self.compiled.nests[*n]);
            let of_machine = nests.map(|nests| nests.iter().find(|n| n.machines.contains(&machine)));
            let Some(nests) = of_machine.collect::<Option<Vec<&Nest>>>() else { continue };
            if seen.contains(&nests) {
                continue;
            }
            seen.push(nests.clone());
            // Coordinates are followed through all loops.
            let nests: Vec<Nest> = nests.into_iter().map(inline::inlined).collect();
            let nests: Vec<&Nest> = nests.iter().collect();
            let whole = nests.iter().map(|n| work(n, &n.body)).sum::<u64>() <= WHOLE;
            let mut tensors = Tensors::new(kernel, self, &elements, whole, &nests);
            let garbage = draw(&mut Sampler::new(0x5eed), None);
            tensors.garbage = garbage;
            for t in &self.f.held {
                tensors.hold(*t, &|at| self.initial(draw, *t, at));
            }
            self.covered(&tensors.written, &nests);
            for (n, nest) in nests.iter().enumerate() {
                for (new, old, _) in self.over.iter().filter(|(.., stage)| *stage == n) {
                    tensors.stands_for.insert(*old, *new);
                }
                tensors.begin(nest);
                run_in(kernel, nest, &mut tensors, false);
            }
            if tensors.spent() || elements.beyond() {
                return Reached::Nothing;
            }
            if !whole {
                reached = Reached::Pieces;
            }
            if !self.compare(&tensors, machine.name, draw, doubt) {
                return Reached::Nothing;
            }
        }
        reached
    }

    /// What is written without a guard, and not filled before, is written wherever its statements write it, and a
    /// result everywhere.
    fn covered(&self, written: &BTreeSet<TensorId>, nests: &[&Nest]) {
        let kernel = &self.compiled.kernel;
        let functions = self.parts.iter().map(|n| &kernel.functions[*n]);
        let fault = |t: TensorId, counted: u64, all: u64| -> ! {
            panic!(
                "{}::{}: the loops of `{}` write {counted} of the {all} elements of `{}`. This is a fault of the compiler: please report it",
                kernel.op,
                kernel.name,
                self.f.name,
                kernel.tensor(t).name
            )
        };
        let mut sums: BTreeMap<TensorId, Option<u64>> = BTreeMap::new();
        for (nest, f) in nests.iter().zip(functions) {
            let mut counts: BTreeMap<TensorId, Option<u64>> = BTreeMap::new();
            count(nest, &nest.body, 1, false, &mut counts);
            let mut boxes: BTreeMap<TensorId, Option<Vec<Corner>>> = BTreeMap::new();
            for w in writes(nest, &nest.body).iter().filter(|w| !is_scratch(kernel, nest, w.tensor)) {
                let spreads = w.positions.iter().map(|s| (&s.from, s.more));
                let shape = &kernel.tensor(w.tensor).shape;
                let all = boxes.entry(w.tensor).or_insert_with(|| Some(Vec::new()));
                *all = joined(all.take(), reached(spreads, &w.joined, shape, &|v| nest.vars[v].extent));
            }
            for t in written.iter().filter(|t| f.writes.contains(t)) {
                let counted = counts.get(t).copied().unwrap_or(Some(0));
                // Counted once where it is written twice.
                let counted = counted.map(|n| match boxes.get(t) {
                    Some(Some(boxes)) => n.min(volume(boxes)),
                    _ => n,
                });
                if let (Some(counted), Some(wanted)) = (counted, self.reached_by(f, *t)) {
                    let wanted = volume(&wanted);
                    if counted < wanted {
                        fault(*t, counted, wanted);
                    }
                }
                let sum = sums.entry(*t).or_insert(Some(0));
                *sum = sum.zip(counted).map(|(a, b)| a.saturating_add(b));
            }
        }
        for t in written.iter().filter(|t| !self.f.held.contains(t)) {
            let (counted, all) = (sums.get(t).copied().unwrap_or(Some(0)), kernel.tensor(*t).elements() as u64);
            if let Some(counted) = counted.filter(|n| *n < all) {
                fault(*t, counted, all);
            }
        }
    }

    /// What the statements of a function write of a tensor, where they say it without a guard.
    fn reached_by(&self, f: &Function, t: TensorId) -> Option<Vec<Corner>> {
        let mut out = Some(Vec::new());
        for step in &f.steps {
            if matches!(step, plain::Step::Scan(_)) {
                return None;
            }
            for s in step.stmts().into_iter().filter(|s| s.target.tensor == t) {
                // Where a read is always outside, or a condition never holds, nothing is added; nor is a constant that
                // is zero.
                let (mut guards, mut constant) = (chooses(&s.value), true);
                s.value.accesses(&mut |a| (guards, constant) = (guards || a.guarded(), false));
                if guards || constant && s.accumulate {
                    return None;
                }
                let position = |p: &plain::Position| Position {
                    numerator: p.numerator.clone(),
                    divisor: p.divisor,
                    guarded: p.guard.any(),
                };
                let positions: Vec<Position> = s.target.positions.iter().map(position).collect();
                let shape = &self.compiled.kernel.tensor(t).shape;
                let each = vec![1; shape.len()];
                out = joined(out, reached(positions.iter().map(|p| (p, 0)), &each, shape, &|v| s.vars[v].extent));
            }
        }
        out
    }

    /// A random element: the same whenever it is asked for.
    fn drawn<N>(&self, draw: Draw<N>, t: TensorId, at: usize) -> N {
        let domain = self.op.tensor(t).domain.filter(|_| self.op.tensor(t).role == Role::Input);
        draw(&mut Sampler::new((t.0 as u64) << 40 ^ at as u64), domain)
    }

    /// What a result that is added to holds before.
    fn initial<N>(&self, draw: Draw<N>, t: TensorId, at: usize) -> N {
        draw(&mut Sampler::new(1 << 63 | (t.0 as u64) << 40 ^ at as u64), None)
    }

    /// Whether the results could be compared; if so, they are right.
    fn compare<N: Close>(&self, tensors: &Tensors<N>, machine: &str, draw: Draw<N>, doubt: Doubt) -> bool {
        let (kernel, f) = (&self.compiled.kernel, self.f);
        for (t, store) in &tensors.stores {
            let result = tensors.written.contains(t);
            let held = f.held.contains(t);
            let wanted = |at: usize| {
                let v = tensors.meaning(*t, at);
                if held { self.initial(draw, *t, at).add(v) } else { v }
            };
            let pairs: Vec<(usize, Option<N>, N)> = store.elements().map(|(at, got)| (at, got, wanted(at))).collect();
            if tensors.elements.beyond() {
                return false;
            }
            let scale = pairs.iter().map(|(.., w)| w.magnitude()).fold(0.0, f64::max);
            for (at, got, wanted) in pairs {
                let right = match got {
                    Some(got) => got.close(wanted, 100.0 * scale) || got.distance(wanted) <= doubt(*t, at),
                    None => !result,
                };
                assert!(
                    right,
                    "{}::{}: the loops of `{}` for {machine} machines compute {} for element {at} of `{}`, which is {}. This is a fault of the \
                     compiler: please report it",
                    kernel.op,
                    kernel.name,
                    f.name,
                    got.map_or("nothing".into(), |v| v.show()),
                    kernel.tensor(*t).name,
                    wanted.show()
                );
            }
        }
        true
    }
}

/// One more box, if all are boxes.
fn joined(all: Option<Vec<Corner>>, one: Option<Corner>) -> Option<Vec<Corner>> {
    all.zip(one).map(|(mut all, one)| {
        all.push(one);
        all
    })
}

/// The coordinates that positions reach, each with so many elements more, if they are all within a range of each
/// dimension.
fn reached<'a>(
    positions: impl Iterator<Item = (&'a Position, i64)>,
    joined: &[usize],
    shape: &[usize],
    extent: &dyn Fn(usize) -> usize,
) -> Option<Corner> {
    let mut seen = BTreeSet::new();
    let mut rest = shape;
    let mut out = Vec::new();
    for ((p, more), joined) in positions.zip(joined) {
        let (these, after) = rest.split_at(*joined);
        rest = after;
        let moving = || p.numerator.terms.iter().filter(|(v, _)| extent(*v) > 1);
        let alone = moving().all(|(v, _)| seen.insert(*v));
        let mut terms: Vec<(i64, i64)> = moving().map(|(v, c)| (c.abs(), extent(*v) as i64 - 1)).collect();
        terms.sort_unstable();
        let mut span = more + 1;
        let dense = terms.iter().all(|(c, turns)| {
            let follows = *c <= span;
            span += c * turns;
            follows
        });
        if !alone || !dense || p.divisor != 1 || p.guarded {
            return None;
        }
        let (from, to) = p.numerator.range(&|v| extent(v));
        let (from, to) = (from as usize, (to + more) as usize + 1);
        // Of joined dimensions whole rows.
        let row: usize = these[1..].iter().product();
        if !from.is_multiple_of(row) || !to.is_multiple_of(row) {
            return None;
        }
        out.push(from / row..to / row);
        out.extend(these[1..].iter().map(|n| 0..*n));
    }
    Some(out)
}

/// The elements that are in any of the boxes.
fn volume(boxes: &[Corner]) -> u64 {
    let Some(dims) = boxes.first().map(Vec::len) else { return 0 };
    if dims == 0 {
        return 1;
    }
    let cuts: BTreeSet<usize> = boxes.iter().flat_map(|b| [b[0].start, b[0].end]).collect();
    let cuts: Vec<usize> = cuts.into_iter().collect();
    let between = |w: &[usize]| {
        let inside: Vec<Corner> =
            boxes.iter().filter(|b| b[0].start <= w[0] && w[1] <= b[0].end).map(|b| b[1..].to_vec()).collect();
        (w[1] - w[0]) as u64 * volume(&inside)
    };
    cuts.windows(2).map(between).sum()
}

/// How many elements of each tensor are written, within loops of so many turns; `None` where that is not known.
fn count(n: &Nest, nodes: &[Node], turns: u64, guarded: bool, out: &mut BTreeMap<TensorId, Option<u64>>) {
    let mut add = |t: TensorId, elements: u64| {
        let sum = out.entry(t).or_insert(Some(0));
        *sum = sum.filter(|_| !guarded).map(|sum| sum.saturating_add(turns.saturating_mul(elements)));
    };
    for node in nodes {
        match node {
            Node::Update { place: Place::Element(a), .. } => add(a.tensor, 1),
            Node::Update { place: Place::Lanes(a, lanes), .. } => add(a.tensor, lanes.len() as u64),
            Node::Transpose(t) => add(t.to.tensor, turned(n, t)),
            _ => {}
        }
    }
    for node in nodes {
        match node {
            Node::Fill(t) => _ = out.insert(*t, None),
            Node::Loop { var, body } => {
                count(n, body, turns.saturating_mul(n.vars[*var].extent as u64), guarded, out);
            }
            Node::If { body, .. } => count(n, body, turns, true, out),
            Node::Trial { body } => count(n, body, turns, guarded, out),
            _ => {}
        }
    }
}

/// The elements of a block that is turned.
fn turned(n: &Nest, t: &Turned) -> u64 {
    (n.vars[t.row].extent * n.vars[t.column].extent) as u64
}

/// How much a nest does: values and updates, guards taken to hold.
fn work(n: &Nest, nodes: &[Node]) -> u64 {
    nodes
        .iter()
        .map(|node| match node {
            Node::Loop { var, body } => (n.vars[*var].extent as u64).saturating_mul(work(n, body)),
            Node::If { body, .. } => work(n, body),
            Node::Trial { body } => 2 * work(n, body),
            Node::Comment(..) | Node::Let { .. } => 0,
            Node::Tile(t) => work(n, &t.body),
            Node::Transpose(t) => turned(n, t),
            Node::Fill(_) | Node::Init { .. } | Node::Update { .. } | Node::Fold { .. } | Node::Sums { .. } => 1,
        })
        .fold(0, u64::saturating_add)
}

/// Elements that are kept: ranges of storage coordinates, one a dimension.
type Corner = Vec<std::ops::Range<usize>>;

/// What is kept of a tensor.
enum Store<N> {
    Whole(Vec<Option<N>>),
    Corners { corners: Vec<Corner>, values: BTreeMap<usize, Option<N>> },
}

impl<N: Copy> Store<N> {
    fn elements(&self) -> Box<dyn Iterator<Item = (usize, Option<N>)> + '_> {
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
struct Tensors<'a, N> {
    kernel: &'a Kernel,
    elements: &'a Elements<'a, N>,
    stores: BTreeMap<TensorId, Store<N>>,
    /// What must be written in the end: results, and what stages hand on.
    written: BTreeSet<TensorId>,
    /// Panels, and locals without the dimensions of a loop that they live in: nothing but the nest says what they hold.
    scratch: HashMap<TensorId, Vec<Option<N>>>,
    /// The tensor whose place another has taken.
    stands_for: HashMap<TensorId, TensorId>,
    /// What is found where nothing was written.
    garbage: N,
    whole: bool,
    /// Of each loop, by the address of its body.
    loops: HashMap<*const Node, Apart>,
    nest: Option<&'a Nest>,
    /// How many accesses each tensor has in the nest.
    touches: BTreeMap<TensorId, usize>,
    steps: u64,
}

/// What the turns of a loop write for good, where no turn needs another.
type Apart = Option<Vec<Write>>;

/// Accesses that differ in constants alone, as those of a tile.
#[derive(Clone, PartialEq)]
struct Write {
    tensor: TensorId,
    positions: Vec<Spread>,
    /// As of the accesses.
    joined: Vec<usize>,
}

/// A position that stands for several: from that of the access on, so many more.
#[derive(Clone, PartialEq)]
struct Spread {
    from: Position,
    more: i64,
}

impl<'a, N: Close> Tensors<'a, N> {
    fn new(kernel: &'a Kernel, of: &Subject, elements: &'a Elements<'a, N>, whole: bool, nests: &[&Nest]) -> Self {
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

    fn hold(&mut self, t: TensorId, initial: &dyn Fn(usize) -> N) {
        let store = self.stores.get_mut(&t).expect("results have a place");
        let all: Vec<usize> = store.elements().map(|(at, _)| at).collect();
        for at in all {
            *store.slot(at).expect("it is kept") = Some(initial(at));
        }
    }

    fn begin(&mut self, nest: &'a Nest) {
        self.nest = Some(nest);
        self.touches = touches(&nest.body);
        self.loops.clear();
        self.scratch.clear();
        for l in nest.locals.iter().filter(|l| is_scratch(self.kernel, nest, l.tensor)) {
            self.scratch.insert(l.tensor, vec![None; l.shape.iter().product()]);
        }
    }

    fn spent(&self) -> bool {
        !self.whole && self.steps + self.elements.work() > MOST
    }

    /// What the index IR says of an element in storage order.
    fn meaning(&self, t: TensorId, at: usize) -> N {
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
    fn turns(&mut self, var: VarId, body: &[Node], env: &[Option<i64>]) -> Option<Vec<i64>> {
        if self.whole {
            return None;
        }
        let (kernel, nest) = (self.kernel, self.nest?);
        let turns = self.needed(kernel, nest, var, body, env);
        // What would take more than is run is not begun.
        let count = turns.as_ref().map_or(nest.vars[var].extent, Vec::len) as u64;
        let more = if has_loop(body) { count } else { count.saturating_mul(work(nest, body)) };
        if self.spent() || self.steps.saturating_add(more) > MOST {
            self.steps = MOST + 1;
            return Some(Vec::new());
        }
        turns
    }
}

impl<N: Close> Tensors<'_, N> {
    /// The turns of a loop that write what is kept; `None` where all are needed.
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
        let mut turns: BTreeSet<i64> = BTreeSet::new();
        for w in writes {
            let Some(Store::Corners { corners, .. }) = self.stores.get(&w.tensor) else { return None };
            for c in corners {
                let (from, to) = reaching(nest, var, env, w, c, &kernel.tensor(w.tensor).shape);
                if to - from > MOST as i64 {
                    return None;
                }
                turns.extend(from..=to);
            }
        }
        Some(turns.into_iter().collect())
    }
}

/// Whether nothing but the nest says what a tensor holds.
fn is_scratch(kernel: &Kernel, n: &Nest, t: TensorId) -> bool {
    n.local(t).is_some_and(|l| kernel.tensors.get(t.0).is_none_or(|tensor| tensor.shape != l.shape))
}

/// Every access that is written, those that differ in constants alone in one, and those of a tile.
fn writes(n: &Nest, nodes: &[Node]) -> Vec<Write> {
    let mut out: Vec<Write> = Vec::new();
    let mut add = |a: &Access, lanes: usize| {
        let last = a.positions.len().wrapping_sub(1);
        let spread = |(k, p): (usize, &Position)| {
            let (rolled, terms): (Vec<_>, Vec<_>) =
                p.numerator.terms.iter().copied().partition(|(v, _)| n.vars[*v].counts.is_some());
            let reach = |(v, c): &(VarId, i64)| *c * (n.vars[*v].extent as i64 - 1);
            let before: i64 = rolled.iter().map(|term| reach(term).min(0)).sum();
            let more: i64 = rolled.iter().map(|term| reach(term).abs()).sum();
            let numerator = Linear::new(terms, p.numerator.constant + before);
            let lanes = if k == last { lanes as i64 - 1 } else { 0 };
            Spread { from: Position { numerator, ..p.clone() }, more: more + lanes }
        };
        let positions: Vec<Spread> = a.positions.iter().enumerate().map(spread).collect();
        let w = Write { tensor: a.tensor, positions, joined: a.joined.clone() };
        if !out.iter_mut().any(|o| o.takes(&w)) {
            out.push(w);
        }
    };
    walk::parts(nodes, &mut |part| match part {
        Part::Node(Node::Update { place: Place::Element(a), .. }) => add(a, 1),
        Part::Node(Node::Update { place: Place::Lanes(a, lanes), .. }) => add(a, lanes.end),
        Part::Node(Node::Transpose(t)) => add(&t.to, n.vars[t.row].extent),
        _ => {}
    });
    out
}

impl Write {
    /// Stands for another too, if that differs in constants alone.
    fn takes(&mut self, other: &Write) -> bool {
        let alike = |(a, b): (&Spread, &Spread)| {
            a.from.divisor == 1
                && (a.from.divisor, a.from.guarded) == (b.from.divisor, b.from.guarded)
                && a.from.numerator.terms == b.from.numerator.terms
        };
        if self.tensor != other.tensor
            || self.joined != other.joined
            || !self.positions.iter().zip(&other.positions).all(alike)
        {
            return false;
        }
        for (a, b) in self.positions.iter_mut().zip(&other.positions) {
            let (first, second) = (a.from.numerator.constant, b.from.numerator.constant);
            let end = (first + a.more).max(second + b.more);
            a.from.numerator.constant = first.min(second);
            a.more = end - first.min(second);
        }
        true
    }
}

fn has_loop(nodes: &[Node]) -> bool {
    nodes.iter().any(|n| matches!(n, Node::Loop { .. }) || has_loop(n.body()))
}

/// What the turns of a loop write, if a turn may be left out without another noticing, but for what it writes itself.
/// `all`: how many accesses each tensor has in the whole nest.
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

/// The least and the greatest value of a position, its variables anywhere in their loops or where they stand; one of
/// them left out.
fn range(n: &Nest, p: &Position, env: &[Option<i64>], without: Option<VarId>) -> (i64, i64) {
    let mut ends = (p.numerator.constant, p.numerator.constant);
    for (v, c) in p.numerator.terms.iter().filter(|(v, _)| Some(*v) != without) {
        let (lo, hi) = env[*v].map_or((0, n.vars[*v].extent as i64 - 1), |at| (at, at));
        ends.0 += (c * lo).min(c * hi);
        ends.1 += (c * lo).max(c * hi);
    }
    ends
}

/// The corners of what a write covers: what it writes first, and last.
fn reach(n: &Nest, w: &Write, shape: &[usize]) -> [Corner; 2] {
    let env = vec![None; n.vars.len()];
    let (mut lo, mut hi, mut size) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = shape;
    for (p, joined) in w.positions.iter().zip(&w.joined) {
        let (these, after) = rest.split_at(*joined);
        rest = after;
        let most = these.iter().product::<usize>() as i64 - 1;
        let (from, to) = range(n, &p.from, &env, None);
        lo.extend(coordinates((from / p.from.divisor).clamp(0, most) as usize, these));
        hi.extend(coordinates((to / p.from.divisor + p.more).clamp(0, most) as usize, these));
        size.extend(std::iter::repeat_n(1, joined - 1).chain([p.more as usize + 1]));
    }
    [corner(&lo, &size, shape, true), corner(&hi, &size, shape, false)]
}

/// The first and the last turn of a loop in which a write may reach a corner; none where the first is behind the last.
fn reaching(n: &Nest, var: VarId, env: &[Option<i64>], w: &Write, corner: &Corner, shape: &[usize]) -> (i64, i64) {
    let (mut first, mut last) = (0, n.vars[var].extent as i64 - 1);
    let mut at = 0;
    for (Spread { from: p, more }, joined) in w.positions.iter().zip(&w.joined) {
        let dims = at..at + joined;
        at = dims.end;
        if p.guarded || p.divisor != 1 {
            continue;
        }
        let flat = |pick: &dyn Fn(&std::ops::Range<usize>) -> usize| {
            dims.clone().fold(0, |sum, d| sum * shape[d] + pick(&corner[d])) as i64
        };
        let (low, high) = range(n, p, env, Some(var));
        // lo <= c * turn + rest <= hi, for some rest in low..=high + more.
        let (lo, hi) = (flat(&|r| r.start) - high - more, flat(&|r| r.end - 1) - low);
        match p.numerator.coefficient(var) {
            0 if lo > 0 || hi < 0 => return (0, -1),
            0 => {}
            c if c > 0 => {
                first = first.max(lo.div_euclid(c) + i64::from(lo.rem_euclid(c) != 0));
                last = last.min(hi.div_euclid(c));
            }
            c => {
                first = first.max((-hi).div_euclid(-c) + i64::from((-hi).rem_euclid(-c) != 0));
                last = last.min((-lo).div_euclid(-c));
            }
        }
    }
    (first, last)
}

/// Storage coordinates of a flat index.
fn coordinates(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for d in (0..shape.len()).rev() {
        place[d] = at % shape[d];
        at /= shape[d];
    }
    place
}

/// The elements of a size from a place on, or up to it: a row at least, and not too many.
fn corner(place: &[usize], size: &[usize], shape: &[usize], on: bool) -> Corner {
    let mut left = MOST_KEPT;
    let mut corner: Corner = (0..shape.len())
        .rev()
        .map(|d| {
            let least = if d + 1 == shape.len() { ROW } else { 1 };
            let size = size[d].max(least).min(left);
            left /= size;
            if on {
                place[d]..(place[d] + size).min(shape[d])
            } else {
                (place[d] + 1).saturating_sub(size)..place[d] + 1
            }
        })
        .collect();
    corner.reverse();
    corner
}

/// The flat index of each element of a corner.
fn inside(corner: &Corner, shape: &[usize], f: &mut impl FnMut(usize)) {
    let extents: Vec<usize> = corner.iter().map(std::ops::Range::len).collect();
    for n in 0..extents.iter().product() {
        let place = coordinates(n, &extents);
        f((0..shape.len()).fold(0, |sum, d| sum * shape[d] + corner[d].start + place[d]));
    }
}
