//! Presence: takes small specs with a read outside of its tensor in every place of a formula, under every form of
//! statement, demands that every stage agrees with the index interpreter on what is absent. Where nothing may be read
//! stands a NaN, what is absent has an infinity or a NaN for its other factor, and the sign of a zero tells an absent
//! zero from the negative of a number. What holds after it: the masks of the plain IR, and what all later stages make
//! of them, say what the index interpreter says.

use crate::panics::caught;
use cotangent_build::certify::{Certified, Sampler};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::Interpreter;
use cotangent_build::index::{Role, TensorId};
use cotangent_build::plain::Step;
use cotangent_build::source::Sources;
use cotangent_build::{Options, nest, pipeline, plain};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// The first coordinate has no element before it, the last none behind it; no coordinate has the last element before
/// it.
const ABSENT: &str = "x[r, i - 1]";

/// Formulas around one that may be absent, `#`.
const PLACES: &[&str] = &[
    "#",
    "# * a[r, i]",
    "a[r, i] * #",
    "-(#)",
    "# / a[r, i]",
    "a[r, i] / #",
    "# + a[r, i]",
    "z[r, i - 1] - #",
    "# + z[r, i + 1]",
    "(# + z[r, i + 2]) * a[r, i]",
    "exp(#)",
    "(#)^2",
    "max(#, b[r, i])",
    "where(# > 0, a[r, i], b[r, i])",
    "where(b[r, i] > 0, #, z[r, i - 1])",
    "where(b[r, i] > 0, a[r, i], #)",
    "where(b[r, i] > 0 and # > 0, a[r, i], b[r, i])",
    "where(b[r, i] > 0 or not # > 0, a[r, i], z[r, i + 1])",
    "where(inside(x[r, i - 1]), #, b[r, i])",
    "where(i == 1, #, b[r, i])",
    "where(i == 0, z[r, i + 1], 0) + #",
];

/// What makes a statement of a formula.
const FORMS: &[&str] = &["y[r, i] = #", "y[r] = sum(i) #", "y[r] = prod(i) #", "y[r] = max(i) #", "y[r] = min(i) #"];

/// Sizes: short loops, and loops with lanes.
const SIZES: &str = "instances:
  - {name: short, R: 6, I: 3, dtype: f64, functions: [forward, jvp, vjp_store]}
  - {name: long, R: 6, I: 19, dtype: f64, functions: [forward, jvp, vjp_store]}
";

fn spec(form: &str, formula: &str) -> String {
    let axes = if form.contains("y[r, i]") { "[R, I]" } else { "[R]" };
    let text = form.replace('#', &format!("({formula})"));
    format!(
        "op: presence\ninputs: {{x: [R, I], z: [R, I], a: [R, I], b: [R, I]}}\noutputs: {{y: {axes}}}\nforward:\n  - {text}\n{SIZES}"
    )
}

fn certified(text: &str) -> Certified {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("presence.yaml", text.to_string());
    pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}\n{text}", out.render(&sources)))
}

/// Values of a tensor of `columns`: of `x` and its tangent what nothing may read is NaN; of `a` what an absent read may
/// meet is anything.
fn values(name: &str, columns: usize, elements: usize, random: &mut Sampler) -> Vec<f64> {
    // Quarters, so that most sums are exact; none of them is zero.
    let mut all: Vec<f64> = (0..elements).map(|_| ((random.unit() * 16.0).floor() - 8.0 + 0.5) / 4.0).collect();
    let odd = [1.5, INF, NAN, -INF, -0.0, 0.0];
    for (row, v) in all.chunks_mut(columns).enumerate() {
        match name.chars().next() {
            Some('x') => v[columns - 1] = NAN,
            Some('a') => v[0] = odd[row % odd.len()],
            _ => {}
        }
    }
    all
}

/// The same, presence and all: of zeros the sign too, if `signs`.
fn same(got: f64, wanted: f64, signs: bool) -> bool {
    let zero = |v: f64| signs && v == 0.0 && v.is_sign_negative();
    if wanted.is_finite() {
        (got - wanted).abs() <= 1e-12 * wanted.abs().max(1.0) && zero(got) == zero(wanted)
    } else {
        got == wanted || got.is_nan() && wanted.is_nan()
    }
}

/// Whether the tangent is the slope, in the index interpreter, where numbers are ordinary: derivation says for itself
/// which coordinates a reduction passes over.
fn slopes(c: &Certified, extents: &[Vec<usize>]) -> Result<usize, String> {
    let op = &c.op;
    let binding = Binding { extents: extents.to_vec(), params: Vec::new() };
    let mut random = Sampler::new(11);
    let mut draw = |t: TensorId| -> Vec<f64> {
        let mut all: Vec<f64> = (0..binding.elements(op, t)).map(|_| 2.0 * random.unit() - 1.0).collect();
        let columns = extents.last().map_or(1, |e| e[0]);
        if op.tensor(t).name.starts_with('x') {
            all.chunks_mut(columns).for_each(|row| row[columns - 1] = NAN);
        }
        all
    };
    let ids = || (0..op.tensors.len()).map(TensorId);
    let inputs: Vec<(TensorId, Vec<f64>)> =
        ids().filter(|t| op.tensor(*t).role == Role::Input).map(|t| (t, draw(t))).collect();
    let dots: Vec<(TensorId, Vec<f64>)> = ids()
        .filter(|t| matches!(op.tensor(*t).role, Role::Tangent(of) if op.tensor(of).role == Role::Input))
        .map(|t| (t, draw(t)))
        .collect();
    let at = |step: f64| {
        let mut m = Interpreter::new(op, &binding);
        m.tensors.extend(dots.iter().cloned());
        for (t, v) in &inputs {
            let dot = dots.iter().find(|(d, _)| op.tensor(*d).role == Role::Tangent(*t));
            let moved = v.iter().enumerate().map(|(n, x)| x + step * dot.map_or(0.0, |(_, d)| d[n]));
            m.tensors.insert(*t, moved.collect());
        }
        m.run(&op.forward).and_then(|()| m.run(&op.tangent.stmts)).expect("no element is written twice");
        m.tensors
    };
    let step = 1e-6;
    let (here, up, down) = (at(0.0), at(step), at(-step));
    let output = op.outputs()[0];
    let dot = ids().find(|t| op.tensor(*t).role == Role::Tangent(output)).expect("the output has a tangent");
    let mut compared = 0;
    for (n, value) in here[&output].iter().enumerate() {
        let (slope, got) = ((up[&output][n] - down[&output][n]) / (2.0 * step), here[&dot][n]);
        // What is steep says little.
        if value.abs() < 1e3 && slope.abs() < 1e3 {
            compared += 1;
            if (slope - got).abs() > 1e-4 * slope.abs().max(1.0) {
                return Err(format!("element {n} of the tangent is {got}, the slope is {slope}"));
            }
        }
    }
    Ok(compared)
}

/// Runs every stage of every instance; gives the number of comparisons, and of those that were of code without loops.
fn check(c: &Certified) -> Result<(usize, usize), String> {
    let (op, mut out) = (&c.op, Diagnostics::default());
    let (mut compared, mut unrolled) = (0, 0);
    let kernels = pipeline::kernels(c, &Options::default(), &mut out);
    for compiled in pipeline::schedule(c, kernels, &Options::default(), &mut out) {
        let kernel = &compiled.kernel;
        let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
        compared += slopes(c, &kernel.extents).map_err(|what| format!("{}: {what}", kernel.name))?;
        let mut random = Sampler::new(7);
        let mut interpreter = Interpreter::new(op, &binding);
        for t in (0..op.tensors.len()).map(TensorId) {
            let given = match op.tensor(t).role {
                Role::Tangent(of) => op.tensor(of).role == Role::Input,
                Role::Cotangent(of) => op.tensor(of).role == Role::Output,
                role => role == Role::Input,
            };
            if given {
                let columns = kernel.tensor(t).shape.last().copied().unwrap_or(1);
                interpreter
                    .tensors
                    .insert(t, values(&op.tensor(t).name, columns, binding.elements(op, t), &mut random));
            }
        }
        for rule in [&op.forward, &op.tangent.stmts, &op.adjoint.stmts] {
            interpreter.run(rule).map_err(|e| format!("{e:?}"))?;
        }
        for (f, nests) in kernel.functions.iter().zip(&compiled.nests) {
            let given: BTreeMap<TensorId, Vec<f64>> =
                f.reads.iter().map(|t| (*t, interpreter.tensors[t].clone())).collect();
            let mut runs = Vec::new();
            let mut by_plain = given.clone();
            plain::eval::run(kernel, f, &mut by_plain);
            runs.push(("plain", true, by_plain));
            let mut run = |name, loops, n: &nest::Nest| {
                let mut by_nest = given.clone();
                nest::eval::run(kernel, n, &mut by_nest);
                runs.push((name, loops, by_nest));
            };
            nests.iter().for_each(|n| run(n.machines[0].name, !n.vars.is_empty(), n));
            if let Some(graph) = nest::unrolled::Graph::of(kernel, f) {
                unrolled += 1;
                run("without loops", false, &graph.nest(nest::machine::MACHINES[0]));
            }
            for (stage, loops, got) in &runs {
                for t in &f.writes {
                    let wanted = &interpreter.tensors[t];
                    compared += wanted.len();
                    // What is added to a zero has none; whether a derivative is stored or added is a stage's own
                    // business.
                    let signs = *loops && op.tensor(*t).role == Role::Output;
                    // Without loops the same is promised for finite numbers.
                    let same = |(g, w): (&f64, &f64)| same(*g, *w, signs) || !*loops && !w.is_finite();
                    if !got[t].iter().zip(wanted).all(same) {
                        let (name, got) = (&op.tensor(*t).name, &got[t]);
                        return Err(format!(
                            "{} {stage} {}: {name} is\n{got:?}, not\n{wanted:?}\n{}",
                            kernel.name,
                            f.name,
                            plain::print::kernel(kernel)
                        ));
                    }
                }
            }
        }
    }
    Ok((compared, unrolled))
}

#[test]
fn every_stage_agrees_on_what_is_absent() {
    let mut specs = Vec::new();
    for (n, inner) in PLACES.iter().enumerate() {
        for (m, outer) in PLACES.iter().enumerate() {
            let formula = outer.replace('#', &format!("({})", inner.replace('#', ABSENT)));
            // Each place under each form, the others in turn.
            let all = if n == 0 { 0..FORMS.len() } else { (n + m) % FORMS.len()..(n + m) % FORMS.len() + 1 };
            specs.extend(FORMS[all].iter().map(|form| spec(form, &formula)));
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || specs.get(next.fetch_add(1, Ordering::Relaxed));
        let tried =
            |text: &String| caught(|| check(&certified(text))).flatten().map_err(|what| format!("{text}{what}"));
        std::iter::from_fn(take).map(tried).collect::<Vec<_>>()
    };
    let all: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> =
            (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| s.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("panics are caught")).collect()
    });
    let failures: Vec<&String> = all.iter().filter_map(|r| r.as_ref().err()).collect();
    let shown: Vec<String> = failures.iter().take(4).map(|f| f.to_string()).collect();
    assert!(failures.is_empty(), "{} of {} fail\n{}", failures.len(), specs.len(), shown.join("\n"));
    let total = all.iter().flatten().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    println!("{} specs, {} comparisons, {} functions without loops", specs.len(), total.0, total.1);
    assert!(total.1 > specs.len() / 2, "{} functions without loops", total.1);
}

/// A reduction over nothing but coordinates that are passed over has its identity.
#[test]
fn a_reduction_of_nothing_present_has_its_identity() {
    for (form, wanted) in FORMS[1..].iter().zip([0.0, 1.0, -INF, INF]) {
        let c = certified(&spec(form, "a[r, i] * x[r, i - 19]"));
        check(&c).unwrap_or_else(|what| panic!("{form}: {what}"));
        let kernels = pipeline::kernels(&c, &Options::default(), &mut Diagnostics::default());
        let kernel = &kernels[0].kernel;
        let f = &kernel.functions[0];
        let mut tensors = f.reads.iter().map(|t| (*t, vec![NAN; kernel.tensor(*t).elements()])).collect();
        plain::eval::run(kernel, f, &mut tensors);
        assert_eq!(tensors[&f.writes[0]], [wanted; 6], "{form}");
    }
}

/// The checker finds a value without its masks.
#[test]
fn a_read_outside_without_a_mask_is_found() {
    for form in FORMS {
        let c = certified(&spec(form, "a[r, i] * x[r, i - 1] + exp(x[r, i + 1])"));
        for planned in pipeline::kernels(&c, &Options::default(), &mut Diagnostics::default()) {
            let mut kernel = planned.kernel;
            assert_eq!(plain::check::check(&kernel), Ok(()));
            for s in kernel.functions.iter_mut().flat_map(|f| f.steps.iter_mut().flat_map(Step::stmts_mut)) {
                s.value = bare(&s.value);
            }
            let found = plain::check::check(&kernel).expect_err("masks are gone");
            assert!(found.contains("no mask says so"), "{found}");
        }
    }
    // A coordinate that a maximum counts though it should not.
    let c = certified(&spec("y[r] = max(i) #", "exp(x[r, i - 1])"));
    let mut kernel = pipeline::kernels(&c, &Options::default(), &mut Diagnostics::default()).remove(0).kernel;
    let s = kernel.functions[0].steps[0].stmts_mut().remove(0);
    s.value = s.value.unmasked().1.clone();
    let found = plain::check::check(&kernel).expect_err("the mask at the root is gone");
    assert!(found.contains("counts a coordinate"), "{found}");
}

/// A value without its masks.
fn bare(e: &plain::Expr) -> plain::Expr {
    use plain::Expr;
    match e.unmasked().1 {
        Expr::Unary(f, a) => Expr::Unary(*f, Box::new(bare(a))),
        Expr::Binary(f, a, b) => Expr::Binary(*f, Box::new(bare(a)), Box::new(bare(b))),
        e => e.clone(),
    }
}
