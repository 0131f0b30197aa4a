//! Recurrences: takes specs whose steps read what was written before along an axis, compares them with the same steps
//! unrolled by hand into locals, each stage with the interpreter, and generated code with loops written in Rust. What
//! holds after it: value, tangent, adjoint and the tangent of the adjoint are those of the unrolled steps.

use crate::generated::{compile, folder, render, run};
use cotangent_build::certify::Sampler;
use cotangent_build::certify::field::M61;
use cotangent_build::diagnostic::{Code, Diagnostics};
use cotangent_build::index::bind::{Binding, ParamValue};
use cotangent_build::index::eval::{Interpreter, Number};
use cotangent_build::index::{Op, Role, Stmt, TensorId, resolve};
use cotangent_build::library::Library;
use cotangent_build::nest::schedule::{Target, schedule};
use cotangent_build::source::Sources;
use cotangent_build::{Build, InstructionSet, Options, derive, nest, pipeline, plain, spec};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// How many iterations are unrolled.
const ITERATIONS: usize = 4;

struct Case {
    name: &'static str,
    declared: &'static str,
    steps: &'static [&'static str],
    /// One iteration over locals with the number of the iteration in their names, and what is read where there is no
    /// earlier iteration.
    unrolled: fn(usize) -> Vec<String>,
    /// The outputs, and the local that each is in each iteration.
    outputs: &'static [(&'static str, &'static str)],
    rational: bool,
}

/// The local of another iteration, or a zero.
fn at(name: &str, iteration: Option<usize>, index: &str) -> String {
    iteration.filter(|t| *t < ITERATIONS).map_or("0".into(), |t| format!("{name}{t}{index}"))
}

const CASES: &[Case] = &[
    Case {
        name: "linear",
        declared: "inputs: {x: [T, K], h0: [K], u: [K, K]}\noutputs: {h: [T, K]}",
        steps: &["h[t,k] = x[t,k] + sum(j in K) where(t == 0, h0[j], h[t - 1, j]) * u[j,k]"],
        unrolled: |t| {
            let before = if t == 0 { "h0[j]".to_string() } else { format!("a{}[j]", t - 1) };
            vec![format!("a{t}[k] = x[{t},k] + sum(j in K) {before} * u[j,k]")]
        },
        outputs: &[("h[t,k]", "a")],
        rational: true,
    },
    Case {
        name: "elements by number",
        declared: "inputs: {u: [T], x0: [D]}\noutputs: {y: [T]}",
        steps: &[
            "p[t, k in D] = where(t == 0, x0[k], x[t - 1, k])",
            "s[t] = p[t,0] * u[t]",
            "x[t, 0 in D] = p[t,1] + s[t]",
            "x[t, 1] = p[t,1] * p[t,0] + u[t]",
            "y[t] = x[t,0] + 2 * x[t,1]",
        ],
        unrolled: |t| {
            let (first, second) = match t {
                0 => ("x0[0]".to_string(), "x0[1]".to_string()),
                t => (format!("f{}", t - 1), format!("g{}", t - 1)),
            };
            vec![
                format!("f{t} = {second} + {first} * u[{t}]"),
                format!("g{t} = {second} * {first} + u[{t}]"),
                format!("a{t} = f{t} + 2 * g{t}"),
            ]
        },
        outputs: &[("y[t]", "a")],
        rational: true,
    },
    Case {
        name: "backwards",
        declared: "inputs: {x: [T, K]}\noutputs: {h: [T, K]}",
        steps: &["h[t,k] = x[t,k] * h[t + 1, k] + x[t,k] * x[t - 1, k]"],
        unrolled: |t| {
            let t = ITERATIONS - 1 - t;
            let x = if t == 0 { "0".to_string() } else { format!("x[{},k]", t - 1) };
            vec![format!("a{t}[k] = x[{t},k] * {} + x[{t},k] * {x}", at("a", Some(t + 1), "[k]"))]
        },
        outputs: &[("h[t,k]", "a")],
        rational: true,
    },
    Case {
        name: "two_distances",
        declared: "params: {lag: int}\ninputs: {x: [T], c: []}\noutputs: {h: [T]}",
        steps: &["h[t] = x[t] + h[t - 1] * x[t] + c * h[t - lag]"],
        unrolled: |t| {
            let (one, two) = (at("a", t.checked_sub(1), ""), at("a", t.checked_sub(2), ""));
            vec![format!("a{t} = x[{t}] + {one} * x[{t}] + c * {two}")]
        },
        outputs: &[("h[t]", "a")],
        rational: true,
    },
    Case {
        name: "several",
        declared: "inputs: {x: [T, K], v: [K, L]}\noutputs: {y: [T, L], z: [T, K]}",
        // A local that a later step makes, a step that does not depend on the others, one that nothing in the cycle
        // needs, sums that add.
        steps: &[
            "p[t,k] = x[t,k] * q[t - 1, k] + 1",
            "e[t,k] = x[t,k]^2",
            "z[t,k] = sum(l) v[k,l]^2 + p[t,k]",
            "y[t,l] = sum(k) p[t,k] * v[k,l]",
            "y[t,l] += sum(k) e[t,k] * v[k,l]",
            "q[t,k] = p[t,k] - 0.5 * q[t - 1, k] + sum(l) y[t,l] * v[k,l] + e[t,k]",
        ],
        unrolled: |t| {
            let q = at("q", t.checked_sub(1), "[k]");
            vec![
                format!("p{t}[k] = x[{t},k] * {q} + 1"),
                format!("z{t}[k] = sum(l) v[k,l]^2 + p{t}[k]"),
                format!("y{t}[l] = sum(k) (p{t}[k] + x[{t},k]^2) * v[k,l]"),
                format!("q{t}[k] = p{t}[k] - 0.5 * {q} + sum(l) y{t}[l] * v[k,l] + x[{t},k]^2"),
            ]
        },
        outputs: &[("y[t,l]", "y"), ("z[t,k]", "z")],
        rational: true,
    },
    Case {
        name: "elman",
        declared: "inputs: {x: [T, D], h0: [K], w: [D, K], u: [K, K], b: [K]}\noutputs: {h: [T, K]}",
        steps: &[
            "h[t,k] = tanh(sum(d) x[t,d] * w[d,k] + sum(j in K) where(t == 0, h0[j], h[t - 1, j]) * u[j,k] + b[k])",
        ],
        unrolled: |t| {
            let before = if t == 0 { "h0[j]".to_string() } else { format!("a{}[j]", t - 1) };
            vec![format!("a{t}[k] = tanh(sum(d) x[{t},d] * w[d,k] + sum(j in K) {before} * u[j,k] + b[k])")]
        },
        outputs: &[("h[t,k]", "a")],
        rational: false,
    },
    Case {
        name: "extrema",
        declared: "inputs: {x: [T, K], w: [K]}\noutputs: {m: [T, K]}",
        // The greatest so far, decaying; the scale is what an iteration finds.
        steps: &[
            "s[t] = max(k) (x[t,k] + m[t - 1, k])",
            "m[t,k] = max(0.5 * m[t - 1, k], x[t,k] * w[k]) / (1 + exp(s[t]))",
        ],
        unrolled: |t| {
            let m = at("m", t.checked_sub(1), "[k]");
            vec![
                format!("s{t} = max(k) (x[{t},k] + {m})"),
                format!("m{t}[k] = max(0.5 * {m}, x[{t},k] * w[k]) / (1 + exp(s{t}))"),
            ]
        },
        outputs: &[("m[t,k]", "m")],
        rational: false,
    },
];

/// The axes of one iteration are read at windows, functions have branches, one recurrence follows another.
const WINDOWS: Case = Case {
    name: "windows",
    declared: "inputs: {x: [T, S], v: [W]}\noutputs: {h: [T, S], g: [T, S]}",
    steps: &["h[t,s] = sin(sum(w) h[t - 1, s + w - 1] * v[w] + x[t,s])", "g[t,s] = h[t,s] + cos(g[t + 1, s] * x[t,s])"],
    unrolled: |t| {
        let before = t.checked_sub(1).map_or("0".to_string(), |t| format!("h{t}[s + w - 1]"));
        let mut steps = vec![format!("h{t}[s] = sin(sum(w) {before} * v[w] + x[{t},s])")];
        // The second runs backwards, when the first is done.
        if t + 1 == ITERATIONS {
            let back = |t: usize| format!("g{t}[s] = h{t}[s] + cos({} * x[{t},s])", at("g", Some(t + 1), "[s]"));
            steps.extend((0..ITERATIONS).rev().map(back));
        }
        steps
    },
    outputs: &[("h[t,s]", "h"), ("g[t,s]", "g")],
    rational: false,
};

fn all_cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain([&WINDOWS])
}

impl Case {
    fn op(&self, unrolled: bool) -> Op {
        let mut steps: Vec<String> = self.steps.iter().map(|s| s.to_string()).collect();
        if unrolled {
            steps = (0..ITERATIONS).flat_map(self.unrolled).collect();
            for (output, local) in self.outputs {
                let index = output.split_once("[t").map_or("", |(_, rest)| rest.trim_start_matches(','));
                let index = if index == "]" { String::new() } else { format!("[{index}") };
                let nested = (0..ITERATIONS - 1).rev().fold(format!("{local}{}{index}", ITERATIONS - 1), |rest, t| {
                    format!("where(t == {t}, {local}{t}{index}, {rest})")
                });
                steps.push(format!("{output} = {nested}"));
            }
        }
        let list: Vec<String> = steps.iter().map(|s| format!("  - {s}\n")).collect();
        complete(
            &format!("op: case\n{}\nforward:\n{}adjoint: derived\ninstances: []\n", self.declared, list.concat()),
            &[],
        )
    }
}

/// The op of a text, with both rules; `others` may be called.
fn complete(text: &str, others: &[&str]) -> Op {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let mut parsed = |text: &str, out: &mut Diagnostics| {
        let name = text.lines().next().and_then(|l| l.strip_prefix("op: ")).unwrap_or("case");
        let id = sources.add(&format!("{name}.yaml"), text.to_string());
        spec::parse(id, &sources, out).unwrap_or_else(|| panic!("{}", out.render(&sources)))
    };
    let others: Vec<_> = others.iter().map(|text| parsed(text, &mut out)).collect();
    let own = parsed(text, &mut out);
    let op = resolve::resolve(&own, &Library::new(&others, &sources), &mut out);
    let mut op = op.unwrap_or_else(|| panic!("{}", out.render(&sources)));
    derive::complete(&mut op, &mut out);
    assert!(!out.has_errors(), "{}", out.render(&sources));
    cotangent_build::index::check::check(&op).unwrap_or_else(|broken| panic!("{broken}"));
    op
}

fn binding(op: &Op, iterations: i64) -> Binding {
    let extent = |name: &str| match name {
        "T" => iterations,
        "D" => 2,
        "K" => 3,
        _ => 5,
    };
    let given: Vec<_> = op.axes.iter().map(|a| Some(vec![extent(&a.name)])).collect();
    Binding::new(op, &given, op.params.iter().map(|_| ParamValue::Int(2)).collect()).expect("the sizes fit")
}

fn dual(op: &Op, role: Role) -> Option<TensorId> {
    (0..op.tensors.len()).map(TensorId).find(|t| op.tensor(*t).role == role)
}

/// Inputs, their tangents, the cotangents of outputs, and the tangents of these, by name, then everything that the
/// statements make of them.
fn results<N: Number>(
    op: &Op,
    binding: &Binding,
    stmts: &[&[Stmt]],
    draw: fn(&mut Sampler) -> N,
) -> BTreeMap<String, Vec<N>> {
    let mut interpreter = Interpreter::new(op, binding);
    for (n, t) in op.tensors.iter().enumerate() {
        let of = |u: TensorId, role: Role| op.tensor(u).role == role;
        let given = match t.role {
            Role::Input => true,
            Role::Tangent(u) => of(u, Role::Input),
            Role::Cotangent(u) => of(u, Role::Output),
            _ => false,
        };
        if given {
            let mut sampler = Sampler::new(t.name.bytes().map(u64::from).fold(1, |h, b| h * 31 + b));
            let id = TensorId(n);
            interpreter.tensors.insert(id, (0..binding.elements(op, id)).map(|_| draw(&mut sampler)).collect());
        }
    }
    for rule in stmts {
        interpreter.run(rule).expect("nothing is written twice");
    }
    interpreter.tensors.iter().map(|(t, v)| (op.tensor(*t).name.clone(), v.clone())).collect()
}

fn compare(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{what}: {found:?} is not {expected:?}");
    }
}

/// What the forward formula, both rules and the tangent of the adjoint in the inputs compute.
fn everything(op: &mut Op, binding: &Binding) -> BTreeMap<String, Vec<f64>> {
    let (forward, tangent, adjoint) = (op.forward.clone(), op.tangent.stmts.clone(), op.adjoint.stmts.clone());
    let both: Vec<Stmt> = forward.iter().chain(&adjoint).cloned().collect();
    let inputs = op.inputs();
    let second = derive::tangent(op, &both, &inputs);
    let draw: fn(&mut Sampler) -> f64 = |s| s.ordinary(None);
    let mut all = results(op, binding, &[&both, &second], draw);
    // Tangents add to nothing that the second derivative has left there.
    all.extend(results(op, binding, &[&forward, &tangent], draw));
    all
}

#[test]
fn recurrences_are_their_steps_one_after_the_other() {
    for case in all_cases() {
        let mut ops = [case.op(false), case.op(true)];
        assert!(ops[0].forward.iter().any(|s| s.scan.is_some()), "{}: no recurrence", case.name);
        assert!(ops[1].forward.iter().all(|s| s.scan.is_none()));
        let all = ops.each_mut().map(|op| {
            let binding = binding(op, ITERATIONS as i64);
            everything(op, &binding)
        });
        let names: Vec<String> = ops[0].inputs().iter().map(|t| ops[0].tensor(*t).name.clone()).collect();
        for output in ops[0].outputs().iter().map(|t| &ops[0].tensor(*t).name) {
            compare(&format!("{}: {output}", case.name), &all[0][output], &all[1][output]);
            let dot = format!("{output}_dot");
            compare(&format!("{}: {dot}", case.name), &all[0][&dot], &all[1][&dot]);
        }
        for bar in names.iter().map(|n| format!("{n}_bar")) {
            compare(&format!("{}: {bar}", case.name), &all[0][&bar], &all[1][&bar]);
            let second = format!("{bar}_dot");
            match (all[0].get(&second), all[1].get(&second)) {
                (Some(a), Some(b)) => compare(&format!("{}: {second}", case.name), a, b),
                (a, b) => assert!(a.is_none() && b.is_none(), "{}: {second}", case.name),
            }
        }
    }
}

/// `y_bar * y_dot` over the outputs is `x_bar * x_dot` over the inputs: in the field, to the last bit.
#[test]
fn adjoints_are_transposes_exactly() {
    for case in CASES.iter().filter(|c| c.rational) {
        let op = case.op(false);
        for iterations in 1..=5 {
            let binding = binding(&op, iterations);
            let stmts = [&op.forward[..], &op.tangent.stmts, &op.adjoint.stmts];
            let values = results(&op, &binding, &stmts, |s| M61::new(s.bits()));
            let total = |tensors: &[TensorId]| {
                let pairs = tensors
                    .iter()
                    .map(|t| &op.tensor(*t).name)
                    .map(|n| (&values[&format!("{n}_dot")], &values[&format!("{n}_bar")]));
                pairs.flat_map(|(a, b)| a.iter().zip(b)).fold(M61::new(0), |sum, (a, b)| sum.add(a.mul(*b)))
            };
            assert_eq!(total(&op.outputs()), total(&op.inputs()), "{}, {iterations} iterations", case.name);
        }
    }
}

/// Only what is in a cycle runs iteration by iteration: the products with all inputs at once before, those with all
/// cotangents behind.
#[test]
fn only_cycles_run_in_turns() {
    let op = CASES.iter().find(|c| c.name == "elman").expect("a case").op(false);
    let iterations = |stmts: &[Stmt]| -> Vec<String> {
        let targets = stmts.iter().filter(|s| s.scan.is_some()).map(|s| op.tensor(s.target).name.clone());
        targets.collect()
    };
    assert_eq!(iterations(&op.forward), ["t2", "h"]);
    assert_eq!(iterations(&op.tangent.stmts), ["t2_dot", "h_dot"]);
    assert_eq!(iterations(&op.adjoint.stmts), ["t2_bar", "h_dot_t"]);
    let behind: Vec<_> = op.adjoint.stmts.iter().rev().take_while(|s| s.scan.is_none()).map(|s| s.target).collect();
    for input in op.inputs() {
        assert!(dual(&op, Role::Cotangent(input)).is_some_and(|bar| behind.contains(&bar)));
    }
}

/// A program's spec as that of an op: each of its functions in one piece, whatever its size.
fn program(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../programs/{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.replacen("program: ", "op: ", 1).replacen("instances:", "adjoint: derived\ninstances:", 1)
}

/// A text with other instances.
fn with_instances(text: &str, instances: &str) -> String {
    let head = text.split("instances:").next().unwrap_or_default();
    format!("{head}instances:\n{instances}")
}

#[test]
fn every_stage_runs_them_alike() {
    let cases = all_cases().map(|c| {
        let steps: Vec<String> = c.steps.iter().map(|s| format!("  - {s}\n")).collect();
        format!("op: case\n{}\nforward:\n{}adjoint: derived\ninstances:\n", c.declared, steps.concat())
    });
    let mut compared = 0;
    for text in cases.chain(["gru", "lstm"].map(program)) {
        let sizes =
            |axis: &str| if text.contains(&format!("{axis}]")) { format!(", {axis}: 17") } else { String::new() };
        let lag = if text.contains("lag") { ", lag: 2" } else { "" };
        let rest: String = ["D", "K", "L", "H", "S", "W"].iter().map(|a| sizes(a)).collect();
        let instance = |t: usize| format!("  - {{name: iterations{t}, T: {t}{rest}{lag}, dtype: f64}}\n");
        let text = with_instances(&text, &[1, 2, 3, 7].map(instance).concat());
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let name = text.lines().next().and_then(|l| l.strip_prefix("op: ")).unwrap_or_default().to_string();
        let id = sources.add(&format!("{name}.yaml"), text.clone());
        let certified =
            pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)));
        let kernels = pipeline::kernels(&certified, &Options::default(), &mut out);
        assert!(!out.has_errors(), "{}", out.render(&sources));
        let op = &certified.op;
        for planned in kernels {
            let kernel = &planned.kernel;
            let binding = binding_of(op, kernel);
            let stmts = [&op.forward[..], &op.tangent.stmts, &op.adjoint.stmts];
            let meaning = results(op, &binding, &stmts, |s: &mut Sampler| 0.5 * s.ordinary(None));
            let value = |t: TensorId| meaning[&op.tensor(t).name].clone();
            let nests = schedule(&planned, &Target::default()).nests;
            for (f, nests) in kernel.functions.iter().zip(nests) {
                let stores = !matches!(f.kind, plain::Kind::Vjp { store: false, .. });
                let mut given: BTreeMap<TensorId, Vec<f64>> = f.reads.iter().map(|t| (*t, value(*t))).collect();
                if !stores {
                    given.extend(f.writes.iter().map(|t| (*t, vec![0.0; kernel.tensor(*t).elements()])));
                }
                let mut by_plain = given.clone();
                plain::eval::run(kernel, f, &mut by_plain);
                let mut runs = vec![("plain", by_plain)];
                for n in &nests {
                    nest::check::check(kernel, n).unwrap_or_else(|e| panic!("{name} {}: {e}", f.name));
                    let mut by_nest = given.clone();
                    nest::eval::run(kernel, n, &mut by_nest);
                    runs.push((n.machines[0].name, by_nest));
                }
                for (stage, got) in &runs {
                    for t in &f.writes {
                        let (a, b) = (&got[t], &value(*t));
                        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-10 * (1.0 + b.abs());
                        let what = format!("{stage} {name}::{}::{} of {}", kernel.name, f.name, kernel.tensor(*t).name);
                        assert!(a.len() == b.len() && a.iter().zip(b).all(near), "{what}: {a:?} is not {b:?}");
                        compared += a.len();
                    }
                }
            }
        }
    }
    assert!(compared > 100_000, "{compared} numbers");
}

fn binding_of(op: &Op, kernel: &plain::Kernel) -> Binding {
    let given: Vec<_> = kernel.extents.iter().map(|e| Some(e.iter().map(|n| *n as i64).collect())).collect();
    Binding::new(op, &given, op.params.iter().map(|_| ParamValue::Int(2)).collect()).expect("the sizes fit")
}

/// A loop stays a loop: what is run does not grow with the number of iterations.
#[test]
fn statements_do_not_grow_with_the_turns() {
    let count = |iterations: usize| -> Vec<usize> {
        let text = with_instances(&program("lstm"), &format!("  - {{name: n, T: {iterations}, D: 4, H: 8}}\n"));
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let id = sources.add("lstm.yaml", text);
        let certified = pipeline::certified(id, &sources, &mut out).expect("the spec is right");
        // A thousand iterations' gates are more than a stack should hold.
        let options = Options { stack_limit: usize::MAX, ..Options::default() };
        let kernels = pipeline::kernels(&certified, &options, &mut out);
        kernels[0].kernel.functions.iter().map(|f| f.steps.iter().map(|s| s.stmts().len()).sum()).collect()
    };
    assert_eq!(count(8), count(1000));
}

const RUNNING: &str = "op: running\nparams: {c: real}\ninputs: {x: [T, K]}\noutputs: {y: [T, K]}\nforward:\n  - y[t,k] = x[t,k]^2 + c * y[t - 1, k]\n";

/// A declared adjoint may be a recurrence; it is certified, and a wrong one is not.
#[test]
fn declared_adjoints_are_certified() {
    let rule = |read: &str| {
        let adjoint =
            format!("adjoint:\n  - p[t,k] = y_bar[t,k] + c * {read}\n  - x_bar[t,k] += 2 * x[t,k] * p[t,k]\n");
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let id = sources.add("running.yaml", format!("{RUNNING}{adjoint}instances: []\n"));
        let certified = pipeline::certified(id, &sources, &mut out);
        (certified.map(|c| c.certificate.adjoint.to_string()), out)
    };
    let (proof, out) = rule("p[t + 1, k]");
    assert!(!out.has_errors() && proof.is_some_and(|p| p.contains("field")));
    for wrong in ["p[t - 1, k]", "p[t + 2, k]"] {
        let (proof, out) = rule(wrong);
        assert!(proof.is_none() && out.iter().any(|d| d.code == Code::WrongAdjoint), "{wrong}");
    }
}

#[test]
fn declared_tangents_are_certified() {
    let rule = |read: &str| {
        let tangent = format!("tangent:\n  - y_dot[t,k] = 2 * x[t,k] * x_dot[t,k] + c * {read}\n");
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let id = sources.add("running.yaml", format!("{RUNNING}{tangent}instances: []\n"));
        let certified = pipeline::certified(id, &sources, &mut out);
        (certified.is_some(), out.iter().map(|d| d.code).collect::<Vec<_>>())
    };
    assert_eq!(rule("y_dot[t - 1, k]"), (true, Vec::new()));
    assert_eq!(rule("y_dot[t - 2, k]"), (false, vec![Code::WrongTangent]));
}

/// The instances that the programs come with are kernels.
#[test]
fn programs_are_kernels() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../programs");
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let specs = cotangent_build::load(&folder, &mut sources, &mut out);
    assert!(!specs.is_empty());
    for id in specs {
        let certified = pipeline::certified(id, &sources, &mut out);
        let kernels = certified.map_or(0, |c| pipeline::kernels(&c, &Options::default(), &mut out).len());
        assert!(kernels > 0 && !out.has_errors(), "{}", out.render(&sources));
    }
}

/// A step that calls an op with a recurrence is as if it stood there; the axis that is kept has one each.
#[test]
fn calls_of_recurrences_are_recurrences() {
    let head = "op: caller\ninputs: {a: [S, B, K], w: [K, K]}\noutputs: {z: [S, B, K]}\nforward:\n";
    // A call puts the axes that it keeps first.
    let tail = "  - z[s,b,k] = sum(j in K) r[b,s,j] * w[j,k]\nadjoint: derived\ninstances: []\n";
    let running = format!("{RUNNING}adjoint: derived\ninstances: []\n");
    let called = "  - r = running(a; c = 0.5, T = [S], K = [K])\n";
    let written = "  - r[b,s,k] = a[s,b,k]^2 + 0.5 * r[b, s - 1, k]\n";
    let mut ops =
        [complete(&format!("{head}{called}{tail}"), &[&running]), complete(&format!("{head}{written}{tail}"), &[])];
    let all = ops.each_mut().map(|op| {
        let binding = binding(op, 3);
        everything(op, &binding)
    });
    for name in ["z", "z_dot", "a_bar", "w_bar", "a_bar_dot", "w_bar_dot"] {
        compare(name, &all[0][name], &all[1][name]);
    }
}

/// An instance of the program against a loop over the iterations, and its derivatives against differences
/// (`recurrences/lstm.rs`).
#[test]
fn generated_code_runs_the_loop() {
    let text = with_instances(&program("lstm"), "  - {name: steps, T: 16, D: 5, H: 7, dtype: f64}\n");
    let folder = folder("recurrences", &[("lstm", &text)]);
    render(&folder, "programs", Build::new().instruction_sets([InstructionSet::Portable]));
    std::fs::write(folder.join("main.rs"), include_str!("../recurrences/lstm.rs")).expect("the file is written");
    compile(&folder, "2024", "main.rs", &["-o", "main"]);
    run(&mut Command::new(folder.join("main")));
}
