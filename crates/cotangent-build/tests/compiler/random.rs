//! Whole ops made at random: takes those of `specs/`, demands that every stage means the same. What the index
//! interpreter computes, the plain and the nest interpreters compute; derived tangents are slopes; derived adjoints are
//! their transposes.

use crate::panics::caught;
use crate::specs::{Style, document};
use cotangent_build::Options;
use cotangent_build::certify::rounded::Rounded;
use cotangent_build::certify::{Certified, Sampler};
use cotangent_build::compiled::Compiled;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::{Interpreter, Number};
use cotangent_build::index::{Op, Role, Stmt, TensorId};
use cotangent_build::source::Sources;
use cotangent_build::{nest, pipeline, plain};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Specs made, unless `RANDOM_OPS` says otherwise: a number, or a range of seeds such as `2313..2314`. Some do not
/// resolve (a tensor read before its last write): they count for nothing.
const ROUNDS: u64 = 200;

/// Values of tensors by id, and a place for complaints.
type Values = BTreeMap<TensorId, Vec<f64>>;

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    let scale = a.iter().chain(b).filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= tolerance * scale || a == b || !a.is_finite() && !b.is_finite())
}

/// The same, where each element of `b` may be off by what rounding did to it besides.
fn near(a: &[f64], b: &[f64], rounding: &[Rounded]) -> bool {
    // A bound that is no number, as beside infinite terms, allows nothing.
    let slack = |n: usize| rounding.get(n).map_or(0.0, |r| (16.0 * r.error).max(0.0));
    let scale = a.iter().chain(b).filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .enumerate()
            .all(|(n, (a, b))| (a - b).abs() <= 1e-9 * scale + slack(n) || a == b || !a.is_finite() && !b.is_finite())
}

/// A kernel on random tensors.
struct Trial<'a> {
    compiled: &'a Compiled<'a>,
    op: &'a Op,
    binding: Binding,
    inputs: Values,
    /// Tangents of inputs, and cotangents of outputs.
    dots: Values,
    bars: Values,
    /// What the index interpreter makes of these.
    meaning: Values,
    /// By how much rounding may have moved it.
    rounding: BTreeMap<TensorId, Vec<Rounded>>,
}

impl<'a> Trial<'a> {
    /// Nothing where the statements cannot be run.
    fn new(op: &'a Op, compiled: &'a Compiled<'a>, seed: u64) -> Option<Self> {
        let binding = Binding { extents: compiled.kernel.extents.clone(), params: Vec::new() };
        let mut random = Sampler::new(seed);
        let mut draw = |wanted: &dyn Fn(Role) -> bool| -> Values {
            let ids = (0..op.tensors.len()).map(TensorId).filter(|t| wanted(op.tensor(*t).role));
            let fill =
                |t: TensorId, r: &mut Sampler| (t, (0..binding.elements(op, t)).map(|_| r.ordinary(None)).collect());
            ids.map(|t| fill(t, &mut random)).collect()
        };
        let role = |t: TensorId| op.tensor(t).role;
        let inputs = draw(&|r| r == Role::Input);
        let dots = draw(&|r| matches!(r, Role::Tangent(t) if role(t) == Role::Input));
        let bars = draw(&|r| matches!(r, Role::Cotangent(t) if role(t) == Role::Output));
        let all: Values = inputs.iter().chain(&dots).chain(&bars).map(|(t, v)| (*t, v.clone())).collect();
        // A sine of something large is off by more than a billionth, whoever computes it.
        let mut rounding = Interpreter::<Rounded>::new(op, &binding);
        let of = |v: &Vec<f64>| v.iter().map(|v| Rounded::from_f64(*v)).collect();
        rounding.tensors = all.iter().map(|(t, v)| (*t, of(v))).collect();
        let rules = [&op.forward, &op.tangent.stmts, &op.adjoint.stmts];
        let _ = rules.map(|r| rounding.run(r));
        let rounding = rounding.tensors;
        let mut trial = Trial { compiled, op, binding, inputs, dots, bars, meaning: Values::new(), rounding };
        trial.meaning = trial.run(all, &rules.map(Vec::as_slice))?;
        Some(trial)
    }

    fn run(&self, given: Values, rules: &[&[Stmt]]) -> Option<Values> {
        let mut m = Interpreter::new(self.op, &self.binding);
        m.tensors = given;
        rules.iter().try_for_each(|r| m.run(r)).ok()?;
        Some(m.tensors)
    }

    fn value(&self, t: &TensorId) -> Vec<f64> {
        let zeros = || vec![0.0; self.binding.elements(self.op, *t)];
        self.meaning.get(t).cloned().unwrap_or_else(zeros)
    }

    fn rounding(&self, t: &TensorId) -> &[Rounded] {
        self.rounding.get(t).map_or(&[][..], Vec::as_slice)
    }

    fn place(&self, what: &str) -> String {
        let kernel = &self.compiled.kernel;
        format!("{} at {:?}: {what}", kernel.name, kernel.extents)
    }

    fn find(&self, r: Role) -> Option<TensorId> {
        (0..self.op.tensors.len()).map(TensorId).find(|t| self.op.tensor(*t).role == r)
    }

    /// The stages below mean the same: gives the number of comparisons.
    fn stages_agree(&self, unrolled: &mut usize) -> Result<usize, String> {
        let (op, kernel) = (self.op, &self.compiled.kernel);
        let mut compared = 0;
        for (f, nests) in kernel.functions.iter().zip(&self.compiled.nests) {
            if matches!(f.kind, plain::Kind::Vjp { store: false, .. }) {
                continue;
            }
            let given: Values = f.reads.iter().map(|t| (*t, self.value(t))).collect();
            let mut runs = Vec::new();
            let mut by_plain = given.clone();
            plain::eval::run(kernel, f, &mut by_plain);
            runs.push(("plain", by_plain));
            for n in nests {
                let mut by_nest = given.clone();
                nest::eval::run(kernel, n, &mut by_nest);
                runs.push((n.machines[0].name, by_nest));
            }
            *unrolled += self.straight_agrees(f, &given)?;
            for t in &f.writes {
                for (stage, got) in &runs {
                    compared += 1;
                    if !near(&got[t], &self.value(t), self.rounding(t)) {
                        let got = &got[t];
                        let name = &op.tensor(*t).name;
                        return Err(self.place(&format!(
                            "{stage} {}: {name} is {got:?}, not {:?}",
                            f.name,
                            self.value(t)
                        )));
                    }
                }
            }
        }
        Ok(compared)
    }

    /// Without loops too, whether that pays or not. What is not finite may differ there.
    fn straight_agrees(&self, f: &plain::Function, given: &Values) -> Result<usize, String> {
        let (op, kernel) = (self.op, &self.compiled.kernel);
        let mut compared = 0;
        let Some(graph) = nest::unrolled::Graph::of(kernel, f) else { return Ok(compared) };
        for machine in nest::machine::MACHINES {
            let n = graph.nest(machine);
            nest::check::check(kernel, &n).map_err(|what| self.place(&what))?;
            let mut got = given.clone();
            nest::eval::run(kernel, &n, &mut got);
            for t in &f.writes {
                compared += 1;
                let wanted = self.value(t);
                let finite = |v: &[f64]| -> Vec<f64> {
                    v.iter().zip(&wanted).map(|(v, w)| if w.is_finite() { *v } else { 0.0 }).collect()
                };
                if !near(&finite(&got[t]), &finite(&wanted), self.rounding(t)) {
                    let (name, got) = (&op.tensor(*t).name, &got[t]);
                    return Err(self.place(&format!("without loops {}: {name} is {got:?}, not {wanted:?}", f.name)));
                }
            }
        }
        Ok(compared)
    }

    /// Where a step is infinite (an extremum over nothing) or huge, neither slopes nor sums say much.
    fn is_tame(&self) -> bool {
        let tame = |v: &f64| v.abs() < 1e3;
        self.op.forward.iter().all(|s| self.value(&s.target).iter().all(tame))
    }

    /// Adjoints are the transposes of tangents.
    fn adjoint_is_transpose(&self) -> Result<usize, String> {
        let op = self.op;
        let mut compared = 0;
        let role = |t: TensorId| op.tensor(t).role;
        let pair = |a: &dyn Fn(TensorId) -> Option<TensorId>,
                    of: &dyn Fn(Role) -> bool,
                    duals: &Values|
         -> (f64, f64) {
            let ids = (0..op.tensors.len()).map(TensorId).filter(|t| of(op.tensor(*t).role));
            let terms: Vec<f64> = ids
                .filter_map(|t| Some(self.value(&a(t)?).iter().zip(&duals[&t]).map(|(x, y)| x * y).collect::<Vec<_>>()))
                .flatten()
                .collect();
            (terms.iter().sum(), terms.iter().map(|t| t.abs()).sum())
        };
        let through = |dual: fn(TensorId) -> Role| {
            move |t: TensorId| match op.tensor(t).role {
                Role::Tangent(p) | Role::Cotangent(p) => self.find(dual(p)),
                _ => None,
            }
        };
        let (a, size_a) =
            pair(&through(Role::Tangent), &|r| matches!(r, Role::Cotangent(t) if role(t) == Role::Output), &self.bars);
        let (b, size_b) =
            pair(&through(Role::Cotangent), &|r| matches!(r, Role::Tangent(t) if role(t) == Role::Input), &self.dots);
        if a.is_finite() && b.is_finite() {
            compared += 1;
            if (a - b).abs() > 1e-9 * (1.0 + size_a + size_b) {
                return Err(self.place(&format!("the adjoint identity fails: {a} and {b}")));
            }
        }
        Ok(compared)
    }

    /// Tangents are slopes.
    fn tangents_are_slopes(&self) -> Result<usize, String> {
        let op = self.op;
        let mut compared = 0;
        let moved = |step: f64| {
            let shifted = |(t, v): (&TensorId, &Vec<f64>)| {
                let dot = self.find(Role::Tangent(*t)).and_then(|d| self.dots.get(&d));
                (*t, v.iter().enumerate().map(|(n, x)| x + step * dot.map_or(0.0, |d| d[n])).collect())
            };
            self.run(self.inputs.iter().map(shifted).collect(), &[&op.forward])
        };
        let step = 1e-6;
        let (Some(up), Some(down)) = (moved(step), moved(-step)) else { return Ok(compared) };
        for z in op.outputs() {
            let Some(dot) = self.find(Role::Tangent(z)) else { continue };
            let slope: Vec<f64> = up[&z].iter().zip(&down[&z]).map(|(a, b)| (a - b) / (2.0 * step)).collect();
            if slope.iter().any(|v| !v.is_finite()) {
                continue;
            }
            compared += 1;
            if !close(&self.value(&dot), &slope, 1e-4) {
                return Err(self.place(&format!(
                    "{} is {:?}, the slope is {slope:?}",
                    op.tensor(dot).name,
                    self.value(&dot)
                )));
            }
        }
        Ok(compared)
    }
}

/// Runs every stage of every instance on random tensors; gives the number of comparisons. `unrolled` counts those of
/// code without loops.
fn check(c: &Certified, seed: u64, out: &mut Diagnostics, unrolled: &mut usize) -> Result<usize, String> {
    let mut compared = 0;
    let kernels = pipeline::kernels(c, &Options::default(), out);
    for compiled in pipeline::schedule(c, kernels, &Options::default(), out) {
        let Some(trial) = Trial::new(&c.op, &compiled, seed) else { continue };
        compared += trial.stages_agree(unrolled)?;
        if trial.is_tame() {
            compared += trial.adjoint_is_transpose()? + trial.tangents_are_slopes()?;
        }
    }
    Ok(compared)
}

/// What came of one seed: nothing of a spec that does not resolve, the number of comparisons or what failed; how many
/// are of code without loops.
fn tried(seed: u64) -> (Option<Result<usize, String>>, usize) {
    let text = document(seed, Style::Small).0[0].text();
    // A panic of the compiler is a failure like any other, told with its spec.
    let result = caught(|| {
        let mut sources = Sources::default();
        let mut out = Diagnostics::default();
        let mut unrolled = 0;
        let id = sources.add(&format!("spec{seed}.yaml"), text.clone());
        let checked = pipeline::certified(id, &sources, &mut out).map(|c| check(&c, seed, &mut out, &mut unrolled));
        (checked, unrolled)
    });
    let told = |what: String| format!("seed {seed}: {what}\n{text}");
    match result {
        Ok((checked, unrolled)) => (checked.map(|r| r.map_err(told)), unrolled),
        Err(what) => (Some(Err(told(format!("panic: {what}")))), 0),
    }
}

#[test]
fn every_stage_means_the_same() {
    let asked = std::env::var("RANDOM_OPS").unwrap_or_default();
    let (first, last) = asked.split_once("..").unwrap_or(("0", &asked));
    let seeds = first.parse().unwrap_or(0)..last.parse().unwrap_or(ROUNDS);
    let rounds = seeds.end - seeds.start;
    // On every core.
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end);
        std::iter::from_fn(take).map(tried).collect::<Vec<_>>()
    };
    let all: Vec<_> = std::thread::scope(|s| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("panics are caught")).collect()
    });
    let unrolled: usize = all.iter().map(|(_, unrolled)| unrolled).sum();
    let (mut built, mut compared, mut failures) = (0, 0, Vec::new());
    for result in all.into_iter().filter_map(|(result, _)| result) {
        built += 1;
        match result {
            Ok(n) => compared += n,
            Err(what) => failures.push(what),
        }
    }
    let count = failures.len();
    failures.sort();
    failures.truncate(5);
    assert!(failures.is_empty(), "{count} failures\n{}", failures.join("\n"));
    println!("{built} of {rounds} random ops built, {compared} comparisons, {unrolled} without loops");
    // A few seeds say nothing of the generator.
    assert!(rounds < ROUNDS || built * 2 > rounds as usize && compared > 0 && unrolled > 1000);
}
