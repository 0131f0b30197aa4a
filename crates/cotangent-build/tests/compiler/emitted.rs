//! Emitted code under the machine: takes specs made at random, renders many into one crate, compiles it once, runs
//! every function under every instruction set, and compares with the index interpreter, which is what a spec means.
//!
//! What holds after it: each function of each kernel computes its formula within the rounding of its terms; what stores
//! stores, whatever was there, and what adds adds; what `forward`, `jvp` and `value_and_grad` compute alike has the
//! same bits; each entry point of a program is the derivative that the op's rules say; signatures name inputs, outputs
//! and their duals alone. `EMITTED=5000` makes more specs, `EMITTED_SEED=7` one, with its text. A spec that fails is
//! made smaller until nothing can be left out.

use crate::panics::caught;
use crate::specs::{Document, Style, document};
use cotangent_build::certify::{Certified, Sampler};
use cotangent_build::compiled::Compiled;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::bounds::{Bounded, rounded};
use cotangent_build::index::eval::{Machine, Number};
use cotangent_build::index::{Entry, Op, Role, Stmt, TensorId};
use cotangent_build::library::Library;
use cotangent_build::nest::plan::{self, Limits, Plan, Planned};
use cotangent_build::nest::{Node, Place};
use cotangent_build::plain::{self, Function, Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{DType, InstructionSet, Options, emit, pipeline, spec, validate};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Specs made, unless `EMITTED` says otherwise.
const SEEDS: u64 = 200;

/// Of so many specs one is validated too.
const VALIDATED: u64 = 4;

/// So many stand in one crate.
const BATCH: u64 = 25;

/// What all specs together must have had: else the generator has lost its teeth.
const COVERED: &[&str] = &[
    "right",
    "bits",
    "compared",
    "derivatives",
    "not finite",
    "tiles",
    "dots",
    "packed",
    "rows",
    "folds",
    "sums of lanes",
    "transposes",
    "trials",
    "straight lines",
    "tests",
    "stores of lanes",
    "stages",
    "workspaces",
    "in place",
    "epilogues",
    "recurrences",
    "segments",
    "forward",
    "jvp",
    "vjp",
    "vjp_store",
    "value_and_grad",
    "hvp",
    "jacobian",
    "hessian",
];

/// The most turns of loops that a kernel may have, all its rules taken together.
const WORK: usize = 400_000;

/// What is said of one that has more.
const TOO_MUCH: &str = "too much work for interpreters";

/// Draws of arguments: ordinary ones, small whole numbers (ties, zeros), and special ones (infinite, huge, subnormal,
/// no number).
const ROUNDS: usize = 3;

/// A document, and what decides how it is compiled.
#[derive(Clone)]
struct Case {
    seed: u64,
    document: Document,
}

impl Case {
    fn new(seed: u64) -> Self {
        Case { seed, document: document(seed, Style::Full) }
    }
    /// Programs are cut into stages as they are, or at limits so low that small ones are.
    fn limits(&self) -> Limits {
        match self.seed % 3 {
            0 => Limits::default(),
            1 => Limits { program: 0, stage: 200, stack: 256, scratch: usize::MAX },
            _ => Limits { program: 0, stage: 0, stack: 0, scratch: usize::MAX },
        }
    }
}

/// What became of a case.
#[derive(Clone, Debug)]
enum Outcome {
    /// The compiler says that it is wrong.
    Refused(String),
    Right(Tally),
    /// What kind of failure, and what it is.
    Wrong(&'static str, String),
}

/// What was compared, and what the schedules of it had.
#[derive(Clone, Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn add(&mut self, what: &'static str, n: usize) {
        if n == 0 {
            return;
        }
        *self.0.entry(what).or_default() += n;
    }
    fn all(&mut self, other: &Tally) {
        other.0.iter().for_each(|(what, n)| self.add(what, *n));
    }
}

/// A case through the compiler, up to emission.
struct Built {
    certified: Vec<&'static Certified>,
    compiled: Vec<Vec<Compiled<'static>>>,
    /// By kernel and draw.
    meanings: Vec<Vec<Option<Meaning>>>,
    tally: Tally,
}

/// All errors of the texts, or the kernels.
fn built(case: &Case, sources: &mut Sources, options: &Options) -> Result<Built, String> {
    let mut out = Diagnostics::default();
    let text = |name: &str, text: String, sources: &mut Sources| sources.add(&format!("{name}.yaml"), text);
    let ids: Vec<_> = case.document.0.iter().map(|s| text(&s.name, s.text(), sources)).collect();
    let parsed: Vec<_> = ids.iter().filter_map(|id| spec::parse(*id, sources, &mut out)).collect();
    let library = Library::new(&parsed, sources);
    let mut built =
        Built { certified: Vec::new(), compiled: Vec::new(), meanings: Vec::new(), tally: Tally::default() };
    for spec in &parsed {
        let Some(certified) = pipeline::certified_spec(spec.clone(), &library, &mut out) else { continue };
        let certified: &'static Certified = Box::leak(Box::new(certified));
        let mut kernels = Vec::new();
        for instance in &certified.spec.instances {
            let Some(kernel) = plain::specialise::specialise(&certified.op, instance, &mut out) else { continue };
            if work(&certified.op, &kernel.extents) > WORK {
                return Err(TOO_MUCH.into());
            }
            let planned = match certified.op.program {
                Some(_) => plan::plan(kernel, case.limits()),
                None => Planned::whole(kernel),
            };
            plan::check::check(&planned).unwrap_or_else(|broken| panic!("the plan is broken: {broken}"));
            kernels.push(planned);
        }
        if out.has_errors() {
            break;
        }
        let mut scheduled = [(certified, pipeline::schedule(certified, kernels, options, &mut out))];
        // What a build does, for a part of the specs: it finds no fault where there is none.
        if case.seed.is_multiple_of(VALIDATED) && !out.has_errors() {
            validate::all(&mut scheduled);
        }
        let [(_, scheduled)] = scheduled;
        built.compiled.push(scheduled);
        built.certified.push(certified);
    }
    if out.has_errors() { Err(out.render(sources)) } else { Ok(built) }
}

/// Turns of the loops of all rules of an op.
fn work(op: &Op, extents: &[Vec<usize>]) -> usize {
    let turns = |s: &Stmt| s.vars.iter().flat_map(|v| &extents[v.axis.0]).product::<usize>();
    let rules = op.forward.iter().chain(&op.tangent.stmts).chain(&op.adjoint.stmts);
    let functions = op.program.iter().flat_map(|p| &p.functions).flat_map(|f| &f.stmts);
    rules.chain(functions).map(turns).sum()
}

/// Crates take turns: small kernels inlined, as by default, or each dispatched; portable instructions and one set more,
/// or all that there are.
fn options(seed: u64) -> Options {
    use InstructionSet::{Avx2, Avx512, Portable};
    let batch = seed / BATCH;
    let inline_limit = if batch % 4 == 3 { Options::default().inline_limit } else { 0 };
    let instruction_sets = match batch % 4 {
        0 => vec![Portable, Avx512],
        1 => vec![Portable, Avx2],
        2 => vec![Portable],
        _ => InstructionSet::ALL.to_vec(),
    };
    Options { self_contained: true, std: true, inline_limit, instruction_sets, ..Options::default() }
}

/// Compiles and runs cases in one crate; the outcome of each.
fn outcomes(cases: &mut [Case], folder: &Path) -> Vec<Outcome> {
    let options = options(cases[0].seed);
    let mut sources = Sources::default();
    let start = Instant::now();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; cases.len()];
    let mut good: Vec<(usize, Built)> = Vec::new();
    for (n, case) in cases.iter_mut().enumerate() {
        let mut result = caught(|| built(case, &mut sources, &options));
        while matches!(&result, Ok(Err(why)) if why == TOO_MUCH) {
            case.document = case.document.halved();
            result = caught(|| built(case, &mut sources, &options));
        }
        match result {
            Ok(Ok(built)) => good.push((n, built)),
            Ok(Err(diagnostics)) => outcomes[n] = Some(Outcome::Refused(diagnostics)),
            Err(panic) => outcomes[n] = Some(Outcome::Wrong("panic", panic.replace('\n', " "))),
        }
    }
    good.retain_mut(|(n, built)| {
        let check = |k: &Compiled| signature(&k.certified.op, &k.kernel);
        let wrong = built.compiled.iter().flatten().find_map(|k| check(k).err()).map(|what| ("signature", what));
        let wrong = wrong.or_else(|| meant(built, cases[*n].seed).err().map(|what| ("derivatives", what)));
        outcomes[*n] = wrong.map(|(kind, what)| Outcome::Wrong(kind, what));
        outcomes[*n].is_none()
    });
    let scheduled = start.elapsed();
    // What rustc refuses goes, so that the others run.
    while !good.is_empty() {
        let refused = compiled(&mut good, &sources, &options, folder);
        if refused.is_empty() {
            break;
        }
        good.retain(|(n, built)| {
            let says = |c: &&Certified| refused.get(&c.op.name).cloned();
            let error = built.certified.iter().find_map(says);
            outcomes[*n] = error.map(|error| Outcome::Wrong("rustc", error));
            outcomes[*n].is_none()
        });
    }
    let compiled = start.elapsed();
    if !good.is_empty() {
        for (n, outcome) in ran(&good, folder) {
            outcomes[n] = Some(outcome);
        }
    }
    if std::env::var_os("EMITTED_TIMES").is_some() {
        println!(
            "{} cases: scheduled {scheduled:.1?}, compiled {compiled:.1?}, all {:.1?}",
            cases.len(),
            start.elapsed()
        );
    }
    outcomes.into_iter().map(|o| o.expect("each case has one")).collect()
}

/// Works out what the functions of a case shall compute.
fn meant(built: &mut Built, seed: u64) -> Result<(), String> {
    for k in built.compiled.iter().flatten() {
        count(k, &mut built.tally);
        let rounds = (0..ROUNDS).map(|round| meaning(&k.certified.op, &k.kernel, round, seed, &mut built.tally));
        built.meanings.push(rounds.collect::<Result<_, String>>()?);
    }
    Ok(())
}

/// A function takes inputs, outputs and their duals, and gives these and dense derivatives.
fn signature(op: &Op, kernel: &Kernel) -> Result<(), String> {
    fn interface(op: &Op, t: TensorId) -> bool {
        match op.tensor(t).role {
            Role::Input | Role::Output => true,
            // Of `hvp`: the tangent of a cotangent.
            Role::Tangent(p) | Role::Cotangent(p) => interface(op, p),
            Role::Partial(..) | Role::Local | Role::RuleLocal => false,
        }
    }
    for f in kernel.functions.iter().filter(|f| f.kind != Kind::Stage) {
        let partial = |t: TensorId| matches!(op.tensor(t).role, Role::Partial(..));
        let twice = |t: TensorId| match op.tensor(t).role {
            Role::Tangent(p) | Role::Cotangent(p) => !matches!(op.tensor(p).role, Role::Input | Role::Output),
            _ => false,
        };
        let read = f.reads.iter().find(|t| !interface(op, **t) || twice(**t));
        let written = f.writes.iter().find(|t| !interface(op, **t) && !partial(**t));
        if let Some(t) = read.or(written) {
            return Err(format!("{}: {} takes `{}`", kernel.name, f.name, op.tensor(*t).name));
        }
        // Nothing takes cotangents and works out its own.
        let own = |t: &TensorId| matches!(op.tensor(*t).role, Role::Cotangent(_) | Role::Tangent(_));
        let alone = matches!(f.kind, Kind::Forward | Kind::ValueAndGrad | Kind::Jacobian | Kind::Hessian);
        if let Some(t) = f.reads.iter().find(|t| alone && own(t)) {
            return Err(format!("{}: {} takes `{}`", kernel.name, f.name, op.tensor(*t).name));
        }
    }
    Ok(())
}

/// Renders and compiles; the errors of the ops that rustc refuses.
fn compiled(
    good: &mut [(usize, Built)],
    sources: &Sources,
    options: &Options,
    folder: &Path,
) -> BTreeMap<String, String> {
    let mut ops = Vec::new();
    for (_, built) in good.iter_mut() {
        let kernels = std::mem::take(&mut built.compiled);
        ops.extend(built.certified.iter().copied().zip(kernels));
    }
    let pieces: Result<Vec<_>, _> = ops.iter().map(|(c, kernels)| emit::piece(c, kernels, sources, options)).collect();
    let files = pieces.and_then(|pieces| emit::files(&pieces, options)).expect("the templates are right");
    let mut back = ops.into_iter().map(|(_, kernels)| kernels);
    for (_, built) in good.iter_mut() {
        built.compiled = back.by_ref().take(built.certified.len()).collect();
    }
    let text = &files["mod.rs"];
    std::fs::write(folder.join("kernels.rs"), text).expect("the kernels are written");
    std::fs::write(folder.join("main.rs"), include_str!("../emitted/runner.rs")).expect("the program is written");
    let mut rustc = crate::generated::rustc();
    rustc.args([
        "--edition",
        "2024",
        "main.rs",
        "-o",
        "main",
        "-C",
        "debuginfo=0",
        "-C",
        "codegen-units=8",
        "-C",
        "debug-assertions=on",
    ]);
    // Optimised code would take twice as long to make. Assertions find indices that overflow.
    rustc.args(["-C", "opt-level=0", "--cap-lints", "allow", "--error-format", "short"]);
    let output = rustc.current_dir(folder).output().expect("rustc starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return BTreeMap::new();
    }
    // `kernels.rs:LINE:`: the op whose module that is in. The modules of its kernels stand in that.
    let ops: BTreeSet<&str> = good.iter().flat_map(|(_, b)| &b.certified).map(|c| c.op.name.as_str()).collect();
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for line in errors.lines().filter(|l| l.contains("error")) {
        let Some(at) = line.strip_prefix("kernels.rs:").and_then(|l| l.split(':').next()?.parse::<usize>().ok()) else {
            continue;
        };
        let modules = lines[..at].iter().rev().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(" {"));
        let module = modules.into_iter().find(|name| ops.contains(name));
        let said = refused.entry(module.unwrap_or("").to_owned()).or_default();
        if said.len() < 1000 {
            said.push_str(&format!("{line}\n    {}\n", lines[at - 1].trim()));
        }
    }
    assert!(!refused.is_empty() && !refused.contains_key(""), "rustc refuses what no spec made:\n{errors}");
    refused
}

type Values = BTreeMap<TensorId, Vec<f64>>;
type Bounds = BTreeMap<TensorId, Vec<Bounded>>;

/// One draw of all that functions may take, by id.
fn draw(op: &Op, binding: &Binding, dtype: DType, round: usize, seed: u64) -> Values {
    let mut random = Sampler::new(seed * 7 + round as u64);
    let role = |t: TensorId| op.tensor(t).role;
    let wanted = |t: &TensorId| match role(*t) {
        Role::Input | Role::Partial(..) => true,
        Role::Tangent(p) | Role::Cotangent(p) => matches!(role(p), Role::Input | Role::Output),
        Role::Output => true,
        Role::Local | Role::RuleLocal => false,
    };
    let mut number = |special: bool| match round {
        0 => random.ordinary(None),
        1 => (random.bits() % 9) as f64 / 2.0 - 2.0,
        _ if special && random.bits().is_multiple_of(5) => {
            const ODD: [f64; 12] =
                [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-39, 1e30, -1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 100.0];
            ODD[(random.bits() % 12) as usize]
        }
        _ => random.ordinary(None),
    };
    let fit = |x: f64| dtype.nearest(x);
    let ids = (0..op.tensors.len()).map(TensorId).filter(wanted).collect::<Vec<_>>();
    ids.into_iter()
        .map(|t| (t, (0..binding.elements(op, t)).map(|_| fit(number(role(t) == Role::Input))).collect()))
        .collect()
}

/// Statements on numbers; `None` where an element is written twice, and whether a comparison is in doubt.
fn interpreted<N: Number>(
    op: &Op,
    binding: &Binding,
    given: BTreeMap<TensorId, Vec<N>>,
    stmts: &[Stmt],
) -> Option<BTreeMap<TensorId, Vec<N>>> {
    let mut machine = Machine::new(op, binding);
    machine.tensors = given;
    machine.run(stmts).ok()?;
    Some(machine.tensors)
}

/// What the functions of a kernel shall compute in one draw: for each its results and whether they are sure.
struct Meaning {
    drawn: Values,
    /// By function.
    expected: Vec<(Bounds, bool)>,
}

fn meaning(op: &Op, kernel: &Kernel, round: usize, seed: u64, tally: &mut Tally) -> Result<Option<Meaning>, String> {
    let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
    let mut drawn = draw(op, &binding, kernel.dtype, round, seed);
    let wrt: BTreeSet<TensorId> = match &op.program {
        Some(program) => program.wrt.iter().copied().collect(),
        None => op.inputs().into_iter().collect(),
    };
    for t in (0..op.tensors.len()).map(TensorId) {
        if let Role::Tangent(x) = op.tensor(t).role
            && op.tensor(x).role == Role::Input
            && !wrt.contains(&x)
            && let Some(dot) = drawn.get_mut(&t)
        {
            dot.fill(0.0);
        }
    }
    let given = |wanted: &dyn Fn(Role) -> bool| -> Bounds {
        let of = drawn.iter().filter(|(t, _)| wanted(op.tensor(**t).role));
        of.map(|(t, v)| (*t, v.iter().map(|x| Bounded::exact(*x)).collect())).collect()
    };
    let role = |t: TensorId| op.tensor(t).role;
    let all = given(&|r| match r {
        Role::Input => true,
        Role::Tangent(p) => role(p) == Role::Input,
        Role::Cotangent(p) => role(p) == Role::Output,
        _ => false,
    });
    let run = |given: &Bounds, stmts: &[Stmt]| {
        let (result, doubt) = rounded(kernel.dtype, || interpreted(op, &binding, given.clone(), stmts));
        result.map(|values| (values, doubt))
    };
    let Some(forward) = run(&all, &op.forward) else { return Ok(None) };
    let then = |stmts: &[Stmt]| run(&forward.0, stmts).map(|(values, doubt)| (values, doubt || forward.1));
    let Some(tangent) = then(&op.tangent.stmts) else { return Ok(None) };
    let Some(adjoint) = then(&op.adjoint.stmts) else { return Ok(None) };
    let mut expected = Vec::new();
    for f in kernel.functions.iter().filter(|f| f.kind != Kind::Stage) {
        let rule = match f.kind {
            Kind::Forward => &forward,
            Kind::Jvp => &tangent,
            _ => &adjoint,
        };
        let (mut results, doubt) = match (&op.program, entry(f.kind)) {
            (Some(program), Some(entry)) => {
                let mut of: Option<(Bounds, bool)> = None;
                for statements in program.functions.iter().filter(|p| p.entry == entry) {
                    let Some((own, doubt)) = run(&all, &statements.stmts) else { return Ok(None) };
                    // A Jacobian is made in one of two ways.
                    of = Some(match of {
                        None => (own, doubt),
                        Some((mut first, before)) => {
                            for (t, values) in &mut first {
                                let other = own.get(t).into_iter().flatten();
                                // What is not a number in one of them alone is not compared.
                                let either = |(a, b): (&mut Bounded, &Bounded)| {
                                    let alike = a.value.is_finite() == b.value.is_finite();
                                    a.error = if alike { a.error.max(b.error) } else { f64::INFINITY };
                                };
                                values.iter_mut().zip(other).for_each(either);
                            }
                            (first, before || doubt)
                        }
                    });
                }
                of.ok_or_else(|| format!("no statements for {}", f.name))?
            }
            _ => (rule.0.clone(), rule.1),
        };
        if op.program.is_some() && round < 2 && !doubt && !rule.1 {
            let rules = Rules {
                op,
                binding: &binding,
                given: &all,
                forward: &forward.0,
                tangent: &tangent.0,
                adjoint: &adjoint.0,
            };
            rounded(kernel.dtype, || rules.against(f, &results, round == 0, tally)).0?;
        }
        let zeros = |t: &TensorId| vec![Bounded::exact(0.0); binding.elements(op, *t)];
        let results: Bounds = f.writes.iter().map(|t| (*t, results.remove(t).unwrap_or_else(|| zeros(t)))).collect();
        expected.push((results, doubt));
    }
    Ok(Some(Meaning { drawn, expected }))
}

fn entry(kind: Kind) -> Option<Entry> {
    Some(match kind {
        Kind::Forward => Entry::Forward,
        Kind::Jvp => Entry::Jvp,
        Kind::Vjp { .. } => Entry::Vjp,
        Kind::ValueAndGrad => Entry::ValueAndGrad,
        Kind::Hvp => Entry::Hvp,
        Kind::Jacobian => Entry::Jacobian,
        Kind::Hessian => Entry::Hessian,
        Kind::Stage => return None,
    })
}

/// What the rules of an op say of a program's entry points.
struct Rules<'a> {
    op: &'a Op,
    binding: &'a Binding,
    given: &'a Bounds,
    forward: &'a Bounds,
    tangent: &'a Bounds,
    adjoint: &'a Bounds,
}

impl Rules<'_> {
    /// The cotangents of the inputs for a cotangent of 1, at the inputs moved along their tangents.
    fn gradient(&self, by: f64) -> Option<BTreeMap<TensorId, Vec<f64>>> {
        let op = self.op;
        let mut given: Values = self.given.iter().map(|(t, v)| (*t, v.iter().map(|x| x.value).collect())).collect();
        for x in op.inputs() {
            let dot = op.with_role(Role::Tangent(x)).first().and_then(|d| given.get(d).cloned());
            let moved = |v: &mut Vec<f64>| v.iter_mut().zip(dot.iter().flatten()).for_each(|(x, d)| *x += by * d);
            given.get_mut(&x).map(moved);
        }
        for bar in op.outputs().into_iter().flat_map(|z| op.with_role(Role::Cotangent(z))) {
            given.get_mut(&bar)?.fill(1.0);
        }
        let forward = interpreted(op, self.binding, given, &op.forward)?;
        interpreted(op, self.binding, forward, &op.adjoint.stmts)
    }

    /// The statements of an entry point give what the rules of the op give: the first result that differs. Second
    /// derivatives are slopes of the gradient, dense ones are multiplied by the tangents of the inputs.
    fn against(&self, f: &Function, results: &Bounds, smooth: bool, tally: &mut Tally) -> Result<(), String> {
        let op = self.op;
        let role = |t: TensorId| op.tensor(t).role;
        let zeros = |t: TensorId| vec![Bounded::exact(0.0); self.binding.elements(op, t)];
        let own = |t: TensorId| results.get(&t).cloned().unwrap_or_else(|| zeros(t));
        let gradient = || self.gradient(0.0);
        let slope = || -> Option<Vec<(TensorId, Vec<f64>)>> {
            const STEP: f64 = 1e-5;
            let [up, down, near, far] = [STEP, -STEP, STEP / 2.0, -STEP / 2.0].map(|by| self.gradient(by));
            let (up, down, near, far) = (up?, down?, near?, far?);
            let bars = op.inputs().into_iter().flat_map(|x| op.with_role(Role::Cotangent(x)));
            let slope = |a: &[f64], b: &[f64], by: f64| a.iter().zip(b).map(|(a, b)| (a - b) / by).collect::<Vec<_>>();
            let mut all = Vec::new();
            for bar in bars.filter(|b| up.contains_key(b)) {
                let (wide, narrow) = (slope(&up[&bar], &down[&bar], 2.0 * STEP), slope(&near[&bar], &far[&bar], STEP));
                // Beside a corner there is no slope.
                let even = |(a, b): (&f64, &f64)| if (a - b).abs() <= 1e-4 * (1.0 + a.abs()) { *b } else { f64::NAN };
                all.push((bar, wide.iter().zip(&narrow).map(even).collect()));
            }
            Some(all)
        };
        // Rows of dense derivatives times the tangents.
        let product = |of: TensorId| {
            let rows = self.binding.elements(op, of);
            let mut sums = vec![Bounded::exact(0.0); rows];
            for t in &f.writes {
                let Role::Partial(own_of, by) = role(*t) else { continue };
                if own_of != of {
                    continue;
                }
                let dense = own(*t);
                let dot = op.with_role(Role::Tangent(by)).first().map_or_else(|| zeros(by), |d| self.given[d].clone());
                for (row, sum) in dense.chunks(dot.len()).zip(&mut sums) {
                    *sum = row.iter().zip(&dot).fold(*sum, |sum, (a, b)| sum.add(a.mul(*b)));
                }
            }
            sums
        };
        let mut pairs: Vec<(String, Vec<Bounded>, Vec<Bounded>)> = Vec::new();
        let exact = |v: &[f64]| v.iter().map(|x| Bounded::exact(*x)).collect::<Vec<_>>();
        let soft = |v: &[f64]| {
            let scale = v.iter().filter(|x| x.is_finite()).fold(1.0, |m: f64, x| m.max(x.abs()));
            v.iter().map(|x| Bounded { error: 1e-3 * scale, ..Bounded::exact(*x) }).collect::<Vec<_>>()
        };
        let mut dense = BTreeSet::new();
        for t in &f.writes {
            let name = op.tensor(*t).name.clone();
            let or_zeros = |b: &Bounds, t: TensorId| b.get(&t).cloned().unwrap_or_else(|| zeros(t));
            match role(*t) {
                Role::Output => pairs.push((name, own(*t), or_zeros(self.forward, *t))),
                Role::Tangent(z) if role(z) == Role::Output => pairs.push((name, own(*t), or_zeros(self.tangent, *t))),
                Role::Cotangent(_) if matches!(f.kind, Kind::Vjp { .. }) => {
                    pairs.push((name, own(*t), or_zeros(self.adjoint, *t)));
                }
                Role::Cotangent(_) => {
                    if let Some(bar) = gradient().and_then(|g| g.get(t).cloned()) {
                        pairs.push((name, own(*t), exact(&bar)));
                    }
                }
                Role::Tangent(bar) if smooth => {
                    let all = slope().unwrap_or_default();
                    pairs.extend(all.iter().filter(|(b, _)| *b == bar).map(|(_, v)| (name.clone(), own(*t), soft(v))));
                }
                Role::Partial(of, _) => _ = dense.insert(of),
                _ => {}
            }
        }
        for of in dense {
            let name = format!("derivatives of {}", op.tensor(of).name);
            if role(of) == Role::Output {
                let dot = op.with_role(Role::Tangent(of));
                pairs.extend(dot.first().and_then(|d| self.tangent.get(d)).map(|d| (name, product(of), d.clone())));
            } else if smooth {
                let bars = op.with_role(Role::Cotangent(of));
                let all = slope().unwrap_or_default();
                pairs.extend(
                    all.iter().filter(|(b, _)| bars.contains(b)).map(|(_, v)| (name.clone(), product(of), soft(v))),
                );
            }
        }
        for (name, own, rule) in pairs {
            for (n, (a, b)) in own.iter().zip(&rule).enumerate() {
                let bound = 4.0 * (a.error + b.error) + 1e-12 * (1.0 + b.value.abs());
                if bound.is_finite() && a.value.is_finite() && b.value.is_finite() {
                    tally.add("derivatives", 1);
                    if (a.value - b.value).abs() > bound {
                        return Err(format!(
                            "{}: {name}[{n}] is {:e} by its statements, {:e} by the rules, bound {bound:e}",
                            f.name, a.value, b.value
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The elements of a tensor in storage order, given those in the order of its declaration: `from[n]` is the `n`th of
/// the storage.
fn storage(kernel: &Kernel, t: TensorId) -> Vec<usize> {
    let tensor = kernel.tensor(t);
    let rank = tensor.shape.len();
    // Extents and strides by declaration.
    let extents: Vec<usize> = tensor.order.iter().map(|d| tensor.shape[*d]).collect();
    let mut strides = vec![1; rank];
    for d in (0..rank.saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * extents[d + 1];
    }
    let mut declared = vec![0; rank];
    tensor.order.iter().enumerate().for_each(|(d, s)| declared[*s] = d);
    (0..tensor.elements())
        .map(|n| {
            let mut rest = n;
            let mut at = 0;
            for s in (0..rank).rev() {
                at += rest % tensor.shape[s] * strides[declared[s]];
                rest /= tensor.shape[s];
            }
            at
        })
        .collect()
}

fn fnv(parts: &[&str]) -> u64 {
    parts
        .iter()
        .flat_map(|s| s.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Runs what was compiled, under each instruction set, and compares.
fn ran(good: &[(usize, Built)], folder: &Path) -> Vec<(usize, Outcome)> {
    let mut numbers: Vec<u64> = vec![ROUNDS as u64];
    for (_, built) in good {
        for (k, rounds) in built.compiled.iter().flatten().zip(&built.meanings) {
            rounds.iter().for_each(|m| arguments(k, m.as_ref(), &mut numbers));
        }
    }
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(folder.join("arguments"), bytes).expect("the arguments are written");
    let sets = ["portable", "avx2", "avx512"].into_iter().filter(|set| available(set));
    let mut outcomes: Vec<(usize, Outcome)> = Vec::new();
    let results: Vec<(&str, Result<Vec<f64>, String>)> = sets
        .map(|set| {
            let mut command = Command::new(folder.join("main"));
            let output = command
                .current_dir(folder)
                .args(["arguments", set])
                .env("COTANGENT_ISA", set)
                .output()
                .expect("the program starts");
            if !output.status.success() {
                return (set, Err(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
            let bytes = std::fs::read(folder.join(set)).expect("results");
            let number = |b: &[u8]| f64::from_bits(u64::from_le_bytes(b.try_into().expect("eight")));
            (set, Ok(bytes.chunks_exact(8).map(number).collect()))
        })
        .collect();
    let mut at = vec![0; results.len()];
    for (n, built) in good {
        let (mut failure, mut tally) = (None, built.tally.clone());
        for (s, (set, results)) in results.iter().enumerate() {
            let results = match results {
                Ok(results) => results,
                Err(said) => {
                    failure = failure.or(Some(("crash", format!("under {set}: {said}"))));
                    continue;
                }
            };
            for (k, rounds) in built.compiled.iter().flatten().zip(&built.meanings) {
                for (round, meaning) in rounds.iter().enumerate() {
                    let (used, wrong) = compared(k, meaning.as_ref(), round, &results[at[s]..], &mut tally);
                    at[s] += used;
                    if let Some((kind, what)) = wrong {
                        failure =
                            failure.or(Some((kind, format!("{}, round {round}, under {set}: {what}", k.kernel.name))));
                    }
                }
            }
        }
        outcomes.push((*n, failure.map_or(Outcome::Right(tally), |(kind, what)| Outcome::Wrong(kind, what))));
    }
    for (s, (set, results)) in results.iter().enumerate() {
        assert!(results.as_ref().map_or(true, |r| r.len() == at[s]), "{set}: results that nothing expects");
    }
    outcomes
}

fn available(set: &str) -> bool {
    match set {
        #[cfg(target_arch = "x86_64")]
        "avx2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        #[cfg(target_arch = "x86_64")]
        "avx512" => {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            wide && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq")
        }
        set => set == "portable",
    }
}

/// The arguments of every function of a kernel, in the order in which the program takes them.
fn arguments(k: &Compiled, meaning: Option<&Meaning>, numbers: &mut Vec<u64>) {
    let op = &k.certified.op;
    for f in k.kernel.functions.iter().filter(|f| f.kind != Kind::Stage) {
        numbers.push(fnv(&[&op.name, &k.kernel.name, &f.name]));
        let value = |t: TensorId, numbers: &mut Vec<u64>| {
            let from = storage(&k.kernel, t);
            numbers.push(from.len() as u64);
            let drawn = meaning.and_then(|m| m.drawn.get(&t));
            numbers.extend(from.iter().map(|at| drawn.map_or(0.0, |d| d[*at]).to_bits()));
        };
        for t in &f.reads {
            // An output that a rule reads is what `forward` gave.
            match op.tensor(*t).role {
                Role::Output => numbers.push(u64::MAX),
                _ => value(*t, numbers),
            }
        }
        for t in &f.writes {
            if f.held.contains(t) {
                value(*t, numbers);
            } else {
                let len = k.kernel.tensor(*t).elements();
                numbers.push(len as u64);
                numbers.extend(std::iter::repeat_n(f64::NAN.to_bits(), len));
            }
        }
    }
}

/// Results of every function of a kernel against what they shall be: how many there were, and the first that is wrong.
fn compared(
    k: &Compiled,
    meaning: Option<&Meaning>,
    round: usize,
    results: &[f64],
    tally: &mut Tally,
) -> (usize, Option<(&'static str, String)>) {
    let op = &k.certified.op;
    let kernel = &k.kernel;
    let unit = kernel.dtype.unit();
    let mut wrong = None;
    let mut at = 0;
    let mut first: BTreeMap<TensorId, Vec<f64>> = BTreeMap::new();
    for (n, f) in kernel.functions.iter().filter(|f| f.kind != Kind::Stage).enumerate() {
        for t in &f.writes {
            let from = storage(kernel, *t);
            let got = &results[at..at + from.len()];
            at += from.len();
            let Some(meaning) = meaning else { continue };
            let name = &op.tensor(*t).name;
            // The same value, the same bits.
            if op.tensor(*t).role == Role::Output {
                match first.get(t) {
                    None => _ = first.insert(*t, got.to_vec()),
                    Some(y) => {
                        tally.add("bits", got.len());
                        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                        if !y.iter().zip(got).all(same)
                            && matches!(f.kind, Kind::Jvp | Kind::ValueAndGrad)
                            && wrong.is_none()
                        {
                            let (a, b) = y.iter().zip(got).find(|(a, b)| !same((a, b))).expect("one differs");
                            wrong = Some(("bits", format!("{} gives {name} {b:e}, forward {a:e}", f.name)));
                        }
                    }
                }
            }
            let (expected, doubt) = &meaning.expected[n];
            if *doubt {
                tally.add("in doubt", got.len());
                continue;
            }
            for (n, (got, element)) in got.iter().zip(&from).enumerate() {
                let mut wanted = expected[t][*element];
                if f.held.contains(t) {
                    let before = meaning.drawn[t][*element];
                    wanted.value += before;
                    wanted.error += unit * (before.abs() + wanted.value.abs());
                }
                let bound = 4.0 * wanted.error + 4.0 * unit * wanted.value.abs() + kernel.dtype.least();
                let (kind, right) = match wanted.value.is_finite() {
                    _ if bound.is_nan()
                        || bound.is_infinite() && wanted.value.is_finite()
                        || wanted.error.is_infinite() =>
                    {
                        ("unbounded", true)
                    }
                    true => ("compared", (got - wanted.value).abs() <= bound),
                    false if round < 2 => {
                        ("not finite", got.is_nan() == wanted.value.is_nan() && (got.is_nan() || *got == wanted.value))
                    }
                    false => ("not finite", true),
                };
                tally.add(kind, 1);
                if kind == "compared" && bound > 1e-3 * (1e-3 + wanted.value.abs()) {
                    tally.add("loose", 1);
                }
                if !right && wrong.is_none() {
                    let value = wanted.value;
                    wrong = Some((
                        "value",
                        format!(
                            "{}: {name}[{n}] is {got:e}, not {value:e}, off by {:e}, bound {bound:e}",
                            f.name,
                            (got - value).abs()
                        ),
                    ));
                }
            }
        }
    }
    (at, wrong)
}

/// What schedules have.
fn count(k: &Compiled, tally: &mut Tally) {
    tally.add("kernels", 1);
    tally.add("stages", k.kernel.functions.iter().filter(|f| f.kind == Kind::Stage).count());
    for (f, plan) in k.kernel.functions.iter().zip(&k.plans) {
        tally.add("functions", 1);
        tally.add("workspaces", usize::from(plan.workspace().is_some()));
        tally.add("in place", plan.workspace().map_or(0, |w| w.over.len()));
        tally.add("epilogues", usize::from(matches!(plan, Plan::Nest { tiled: true })));
        for step in &f.steps {
            if let plain::Step::Scan(scan) = step {
                tally.add("recurrences", 1);
                tally.add("segments", scan.segments.len());
            }
        }
        tally.add(f.kind_name(), 1);
    }
    for nest in k.nests.iter().flatten() {
        tally.add("nests", 1);
        for note in &nest.notes {
            for (word, what) in [
                ("chosen: lanes", "tiles"),
                ("chosen: dot", "dots"),
                ("straight line", "straight lines"),
                ("pack", "packed"),
                ("rows", "rows"),
                ("block", "blocks"),
            ] {
                tally.add(what, usize::from(note.contains(word)));
            }
        }
        nodes(&nest.body, tally);
    }
}

fn nodes(body: &[Node], tally: &mut Tally) {
    for node in body {
        match node {
            Node::Loop { body, .. } => nodes(body, tally),
            Node::If { body, .. } => {
                tally.add("tests", 1);
                nodes(body, tally);
            }
            Node::Trial { body } => {
                tally.add("trials", 1);
                nodes(body, tally);
            }
            Node::Tile(t) => nodes(&t.body, tally),
            Node::Fold { .. } => tally.add("folds", 1),
            Node::Sums { .. } => tally.add("sums of lanes", 1),
            Node::Transpose { .. } => tally.add("transposes", 1),
            Node::Update { place: Place::Lanes(..), .. } => tally.add("stores of lanes", 1),
            _ => {}
        }
    }
}

trait Named {
    fn kind_name(&self) -> &'static str;
}

impl Named for Function {
    fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Stage => "stage",
            Kind::Forward => "forward",
            Kind::Jvp => "jvp",
            Kind::Vjp { store: false, .. } => "vjp",
            Kind::Vjp { store: true, .. } => "vjp_store",
            Kind::ValueAndGrad => "value_and_grad",
            Kind::Hvp => "hvp",
            Kind::Jacobian => "jacobian",
            Kind::Hessian => "hessian",
        }
    }
}

/// Of a panic, the place in the source.
fn place(what: &str) -> Option<&str> {
    what.strip_prefix("panicked at ")?.split(' ').next()
}

/// Makes a failing case smaller while it fails in the same way.
fn shrunk(case: &Case, kind: &'static str, what: String, folder: &Path) -> (Case, String) {
    let (mut best, mut why) = (case.clone(), what);
    let start = Instant::now();
    let limit = std::env::var("EMITTED_SHRINK").ok().and_then(|n| n.parse().ok()).unwrap_or(240);
    'smaller: while start.elapsed().as_secs() < limit {
        let all = best.document.smaller();
        for some in all.chunks(24) {
            // Names tell the candidates apart.
            let named = |(n, d): (usize, &Document)| Case { seed: case.seed, document: d.renamed(&format!("_{n}")) };
            let mut cases: Vec<Case> = some.iter().enumerate().map(named).collect();
            let outcomes = outcomes(&mut cases, folder);
            let failing = outcomes.into_iter().zip(some).find_map(|(o, d)| match o {
                Outcome::Wrong(k, what) if k == kind && place(&what) == place(&why) => Some((d, what)),
                _ => None,
            });
            if let Some((document, what)) = failing {
                best = Case { seed: case.seed, document: document.clone() };
                why = what;
                continue 'smaller;
            }
            if start.elapsed().as_secs() >= limit {
                break;
            }
        }
        break;
    }
    (best, why)
}

/// A folder of its own, so that two runs do not meet.
fn folder(name: &str) -> PathBuf {
    crate::generated::folder(&format!("emitted_{}_{name}", std::process::id()), &[])
}

#[test]
fn emitted_code_computes_its_formula() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds: Vec<u64> = match (number("EMITTED_SEED"), number("EMITTED")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (0..count.unwrap_or(SEEDS)).collect(),
    };
    let batches: Vec<&[u64]> = seeds.chunk_by(|a, b| a / BATCH == b / BATCH).collect();
    let mut tally = Tally::default();
    let mut refused = Vec::new();
    let mut failures: Vec<(Case, &'static str, String)> = Vec::new();
    // Two crates at a time: the first half of rustc runs on one core.
    let next = AtomicUsize::new(0);
    let worker = |n: usize| {
        let folder = folder(&format!("batch_{n}"));
        let mut all = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut cases: Vec<Case> = batch.iter().map(|seed| Case::new(*seed)).collect();
            if seeds.len() == 1 {
                println!("{}", cases[0].document.text());
            }
            let outcomes = outcomes(&mut cases, &folder);
            for (case, outcome) in cases.iter().zip(&outcomes) {
                if let Outcome::Wrong(kind, what) = outcome {
                    println!("seed {} fails, {kind}: {}", case.seed, what.lines().next().unwrap_or_default());
                }
            }
            all.extend(cases.into_iter().zip(outcomes));
        }
        all
    };
    let mut done: Vec<(Case, Outcome)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|n| {
                scope.spawn({
                    let worker = &worker;
                    move || worker(n)
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().expect("a worker ends")).collect()
    });
    done.sort_by_key(|(case, _)| case.seed);
    for (case, outcome) in done {
        match outcome {
            Outcome::Refused(why) => refused.push((case.seed, why)),
            Outcome::Right(own) => {
                tally.add("right", 1);
                tally.all(&own);
            }
            Outcome::Wrong(kind, what) => failures.push((case, kind, what)),
        }
    }
    println!("{} of {} specs refused", refused.len(), seeds.len());
    if std::env::var_os("EMITTED_REFUSED").is_some() || seeds.len() == 1 {
        refused.iter().for_each(|(seed, why)| println!("seed {seed} is refused:\n{why}"));
    }
    println!("{:?}", tally.0);
    let mut told = String::new();
    let mut kinds = BTreeSet::new();
    for (case, kind, what) in &failures {
        // One of each kind is made small.
        if kinds.insert(*kind) || seeds.len() == 1 {
            let (small, why) = shrunk(case, kind, what.clone(), &folder("shrunk"));
            told.push_str(&format!("seed {}, {kind}: {why}\n{}\n", case.seed, small.document.text()));
        }
    }
    ["batch_0", "batch_1", "shrunk"].iter().for_each(|name| _ = std::fs::remove_dir_all(folder(name)));
    assert!(failures.is_empty(), "{} of {} specs fail\n{told}", failures.len(), seeds.len());
    if seeds.len() as u64 >= SEEDS {
        assert!(refused.len() * 3 < seeds.len(), "too many specs are refused");
        let missing: Vec<_> = COVERED.iter().filter(|what| !tally.0.contains_key(*what)).collect();
        assert!(missing.is_empty(), "no spec has {missing:?}: {:?}", tally.0);
    }
}
