//! Emitted code under the machine: takes specs made at random, renders many into one crate, compiles it once, runs
//! every function under every instruction set, and compares with the index interpreter, which is what a spec means.
//!
//! What holds after it: each function of each kernel computes its formula within the rounding of its terms; what stores
//! stores, whatever was there, and what adds adds; what `forward`, `jvp` and `value_and_grad` compute alike has the
//! same bits; each entry point of a program is the derivative that the op's rules say; signatures name inputs, outputs
//! and their duals alone. `EMITTED=5000` makes more specs, `EMITTED_SEED=7` one, with its text. A spec that fails is
//! made smaller until nothing can be left out.

mod meaning;
mod run;
mod tally;

use crate::panics::caught;
use crate::specs::{Document, Style, document};
use cotangent_build::certify::Certified;
use cotangent_build::compiled::Compiled;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::{Op, Role, Stmt, TensorId};
use cotangent_build::library::Library;
use cotangent_build::nest::Tuning;
use cotangent_build::nest::plan::{self, Limits, Planned};
use cotangent_build::plain::{self, Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{InstructionSet, Options, emit, pipeline, spec, validate};
use meaning::{Meaning, meaning};
use run::ran;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tally::{Tally, count};

/// Specs made, unless `EMITTED` says otherwise.
const SEEDS: u64 = 200;

/// Of so many specs one is validated too.
const VALIDATED: u64 = 4;

/// So many stand in one crate.
const BATCH: u64 = 50;

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
    "speculative blocks",
    "unrolled graphs",
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
    "value_grad_and_hvp",
    "jacobian",
    "hessian",
];

/// The most iterations of loops that a kernel may have, all its rules taken together.
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
        let mut document = document(seed, Style::Full);
        // What is made for those alone who ask, and not what they would have unasked.
        for spec in document.0.iter_mut().filter(|s| s.program && seed.is_multiple_of(2)) {
            if let [(_, axes)] = &spec.outputs[..]
                && axes.is_empty()
            {
                let all = ["forward", "jvp", "vjp", "value_and_grad", "hvp", "value_grad_and_hvp"];
                spec.functions = Some(all.map(str::to_owned).to_vec());
            }
        }
        Case { seed, document }
    }
    /// Programs are cut into stages as they are, or at limits so low that small ones are.
    fn limits(&self) -> Limits {
        match self.seed % 3 {
            0 => Limits::default(),
            1 => Limits { program: 0, stage: 200, stack: 256, tuning: Tuning::default() },
            _ => Limits { program: 0, stage: 0, stack: 0, tuning: Tuning::default() },
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

/// Iterations of the loops of all rules of an op.
fn work(op: &Op, extents: &[Vec<usize>]) -> usize {
    let iterations = |s: &Stmt| s.vars.iter().flat_map(|v| &extents[v.axis.0]).product::<usize>();
    let rules = op.forward.iter().chain(&op.tangent.stmts).chain(&op.adjoint.stmts);
    let functions = op.program.iter().flat_map(|p| &p.functions).flat_map(|f| &f.stmts);
    rules.chain(functions).map(iterations).sum()
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
    let files = emit::Templates::new(options).and_then(|templates| {
        let piece = |(c, kernels): &(&Certified, Vec<Compiled>)| emit::piece(&templates, c, kernels, sources, options);
        emit::files(&templates, &ops.iter().map(piece).collect::<Result<Vec<_>, _>>()?, options)
    });
    let files = files.expect("the templates are right");
    let mut back = ops.into_iter().map(|(_, kernels)| kernels);
    for (_, built) in good.iter_mut() {
        built.compiled = back.by_ref().take(built.certified.len()).collect();
    }
    let text = &files["mod.rs"];
    std::fs::write(folder.join("kernels.rs"), text).expect("the kernels are written");
    std::fs::write(folder.join("main.rs"), include_str!("../../emitted/runner.rs")).expect("the program is written");
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
