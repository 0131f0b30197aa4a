//! Validation of each translation: takes a certified op and the nests of one of its kernels, runs every nest and
//! compares what it writes with the statements of the index IR, element by element. Gives what was compared, for the
//! kernel's documentation.
//!
//! Numbers are integers modulo 2^61 - 1 where the statements are rational, and `f64` else. A function of little work
//! runs whole. Of another only the iterations of loops run that write the elements at the corners of what each write
//! covers, so that each piece of the schedule (tiles, tails, borders, phases) runs at the instance's own extents; what
//! they read besides, the index IR computes.
//!
//! Holds after it: the nests compute what the certificate is about. Where one does not, by more than rounding can
//! explain, the compiler is wrong, and panics.

mod memory;
mod reach;

use crate::certify::field::M61;
use crate::certify::{Certified, Close, Sampler, rational};
use crate::compiled::{Compiled, Validation};
use crate::index::bind::Binding;
use crate::index::bounds::{self, Bounded};
use crate::index::element::Elements;
use crate::index::eval::Number;
use crate::index::{Op, Role, Stmt, TensorId};
use crate::nest::eval::run_in;
use crate::nest::lanes::chooses;
use crate::nest::machine::MACHINES;
use crate::nest::{Nest, Node, Position, inline};
use crate::plain::{self, Function, Kernel, Kind};
use crate::types::{DType, Domain};
use memory::Tensors;
use reach::{Corner, count, is_scratch, joined, reached, transposed_elements, volume, writes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A function whose nest does at most so much runs whole.
const WHOLE: u64 = 1500;
/// The most that is run of a function, in operations of the nest; what would take more is not run.
const MOST: u64 = 200_000;
/// The most terms that the statements are followed for, of a function.
const MOST_TERMS: u64 = 4_000_000;
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
    let exact = rational(&meaning.stmts) && !unrolled(compiled, f, &parts);
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
fn unrolled(compiled: &Compiled, f: &Function, parts: &[usize]) -> bool {
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
            let v = if self.f.accumulated.contains(&t) { self.initial(draw, t, at).add(v) } else { v };
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
            for t in &self.f.accumulated {
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
        for t in written.iter().filter(|t| !self.f.accumulated.contains(t)) {
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
            let accumulated = f.accumulated.contains(t);
            let wanted = |at: usize| {
                let v = tensors.meaning(*t, at);
                if accumulated { self.initial(draw, *t, at).add(v) } else { v }
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

/// How much a nest does: values and updates, guards taken to hold.
fn work(n: &Nest, nodes: &[Node]) -> u64 {
    nodes
        .iter()
        .map(|node| match node {
            Node::Loop { var, body } => (n.vars[*var].extent as u64).saturating_mul(work(n, body)),
            Node::If { body, .. } => work(n, body),
            Node::Speculative { body } => 2 * work(n, body),
            Node::Comment(..) | Node::Let { .. } => 0,
            Node::Tile(t) => work(n, &t.body),
            Node::Transpose(t) => transposed_elements(n, t),
            Node::Fill(_) | Node::Init { .. } | Node::Update { .. } | Node::Fold { .. } | Node::Sums { .. } => 1,
        })
        .fold(0, u64::saturating_add)
}
