//! Programs: takes specs with `program:`, compares each entry point with differences of another, stages in their
//! workspace with the function that they are made of, every stage of the compiler with the interpreter, and generated
//! code with differences. What holds after it: derivatives are those of the value, by the inputs of `wrt` alone, and no
//! tensor's place is taken while it is needed.

use crate::generated::{compile, folder, render};
use cotangent_build::certify::Sampler;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::TensorId;
use cotangent_build::library::Library;
use cotangent_build::nest::Tuning;
use cotangent_build::nest::plan::{self, ALIGNMENT, Limits, Plan, Planned, Workspace, plan};
use cotangent_build::nest::schedule::{Target, schedule};
use cotangent_build::plain::specialise::specialise;
use cotangent_build::plain::{self, Function, Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{Build, InstructionSet, Options, nest, pipeline, spec};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const PROGRAMS: &[(&str, &str)] = &[
    (
        "mlp",
        "inputs: {x: [B, D], w1: [D, H], b1: [H], w2: [H, C], b2: [C], t: [B, C]}\noutputs: {loss: []}\nwrt: [w1, b1, w2, b2]\nforward:\n\
         \x20 - h = tanh(bias_add(matmul(x, w1), b1))\n  - z = bias_add(matmul(h, w2), b2)\n\
         \x20 - l = softmax_cross_entropy(z, t; I = [C])\n  - loss = mean(b) l[b]\n\
         instances: [{name: n, B: 3, D: 4, H: 5, C: 2, dtype: f64}]\n",
    ),
    // A parameter of two steps, a step that nobody reads, two alike, one to compute again, and derivatives by a part.
    (
        "shared",
        "inputs: {x: [B, D], w: [D, D], s: []}\noutputs: {y: []}\nwrt: [w, s]\ncheckpoint: {b: recompute, c: save}\nforward:\n\
         \x20 - a[b, e in D] = sum(d) x[b,d] * w[d,e]\n  - dead[b,d] = exp(a[b,d])\n  - b[b,d] = sin(a[b,d]) * s\n  - e[b,d] = sin(a[b,d]) * s\n\
         \x20 - c[b,d] = b[b,d] + x[b,d]\n  - y = sum(b,d) c[b,d] * c[b,d] * e[b,d] * w[d,d]\n\
         instances: [{name: n, B: 3, D: 4, dtype: f64}]\n",
    ),
    // Several outputs with axes: what only `jvp`, `vjp` and `jacobian` are of.
    (
        "field",
        "inputs: {x: [S], u: [U]}\noutputs: {f: [S], g: [U]}\nforward:\n  - f[0] = x[1] * u[0]\n  - f[1] = sin(x[0]) * x[2]\n\
         \x20 - f[2] = exp(x[0] * u[1])\n  - g[u] = sum(s) x[s] * u[u]\ninstances: [{name: n, S: 3, U: 2, dtype: f64}]\n",
    ),
    // More inputs than outputs: its Jacobian goes back.
    (
        "wide",
        "inputs: {x: [I], w: [J, I]}\noutputs: {y: [J]}\nforward:\n  - a = matvec(w, x)\n  - y = tanh(a)\n\
         instances: [{name: n, I: 4, J: 2, dtype: f64}]\n",
    ),
    // Elements where a division leaves nothing over; its Jacobian goes forward, the other's back.
    (
        "spread",
        "inputs: {x: [I]}\noutputs: {y: [J]}\nforward:\n  - y[j] = sin(x[j / 2]) * 2 + x[(j - 1) / 3]^2\ninstances: [{name: n, I: 3, J: 7, dtype: f64}]\n",
    ),
    (
        "thin",
        "inputs: {x: [I]}\noutputs: {y: []}\nforward:\n  - y = sum(q in I) sin(x[q / 2]) * x[q]\ninstances: [{name: n, I: 5, dtype: f64}]\n",
    ),
    // Elements read by the index of another axis, which ends before theirs or behind it.
    (
        "across",
        "inputs: {x: [I], z: [J]}\noutputs: {y: []}\nforward:\n  - y = (sum(q in J) x[q]^2) + (sum(q in I) sin(z[q]))\n\
         instances: [{name: n, I: 5, J: 3, dtype: f64}]\n",
    ),
    // Choices that are made when it is built.
    (
        "decided",
        "inputs: {x: [I]}\noutputs: {y: [I], z: [I]}\nforward:\n  - y[i] = where(1 > 0.25, x[i], 0)\n  - z[i] = where(2 < 1, x[i], 0) + where(1 < 2, x[i]^2, 0)\n\
         instances: [{name: n, I: 11, dtype: f64}]\n",
    ),
    // Windows that overlap, padding, a maximum.
    (
        "net",
        "inputs: {x: [N, S, Cx], k: [T, Cx, C], w: [P, C, K]}\noutputs: {loss: []}\nwrt: [k, w]\nforward:\n\
         \x20 - a = conv(x, k; stride = 2, lo = 1, hi = 1, dilation = 1, O = [P])\n  - h[n,p,c] = max(a[n,p,c], 0)\n\
         \x20 - z[n,k] = sum(p,c) h[n,p,c] * w[p,c,k]\n  - loss = sum(n,k) z[n,k]^2\n\
         instances: [{name: n, N: 2, S: [5, 4], T: [3, 3], Cx: 2, C: 3, K: 2, dtype: f64}]\n",
    ),
    // Steps that a product's tiles run on their accumulators: whole vectors, one moved back to end with the row, and a
    // part of one.
    (
        "dense",
        "inputs: {x: [B, D], v: [D, H], b: [H], w: [H, C], c: [C]}\noutputs: {y: []}\nwrt: [v, b, w, c]\nforward:\n\
         \x20 - p = matmul(x, v)\n  - q = bias_add(p, b)\n  - h = relu(q)\n  - r[i in B, c] = sum(h) h[i,h] * w[h,c]\n\
         \x20 - z[i in B, k in C] = where(r[i,k] < c[k] and r[i,k] > -1, 2 * r[i,k], max(r[i,k], c[k]) / 3)\n  - y = sum(i in B, k in C) z[i,k]^2\n\
         instances: [{name: n, B: 3, D: 4, H: 19, C: 3, dtype: f64}]\n",
    ),
    // The largest of windows, whose cotangent goes back to elements by two digits of a position, in rows of few.
    (
        "pool",
        "inputs: {x: [N, S, C], k: [C]}\noutputs: {y: []}\nwrt: [x]\nsizes:\n  P: S / W\nforward:\n\
         \x20 - a[n,s,c] = x[n,s,c] * k[c]\n  - b = relu(a)\n  - m[n,p,c] = max(w) b[n, p*W + w, c]\n\
         \x20 - y = sum(n,p,c) m[n,p,c]^2\ninstances: [{name: n, N: 2, S: [4, 6], W: [2, 3], C: 6, dtype: f64}]\n",
    ),
    // Two outputs, with steps on the way to one alone: its Jacobian goes back.
    (
        "apart",
        "inputs: {x: [N], w: [N]}\noutputs: {y: [], z: []}\nforward:\n  - d = x[0] * w[1]\n  - e[n] = d * sin(w[n])\n\
         \x20 - y = x[2]^2\n  - z = sum(n) e[n] * x[n]\ninstances: [{name: n, N: 3, dtype: f64}]\n",
    ),
    // Conditions ask for places in a tensor that no derivative reads; of a step all that is read is outside at this
    // size.
    (
        "asked",
        "inputs: {v: [J], w: [J]}\noutputs: {z: []}\nforward:\n  - a[j] = exp(w[j])\n  - c[j] = w[j]^2\n\
         \x20 - z = sum(j) where((a[j] < 0.3 or inside(v[2*j])), v[j], a[j]) + sum(j) w[j] * c[j + 4]\n\
         instances: [{name: n, J: 4, dtype: f64}]\n",
    ),
    // A recurrence.
    (
        "rnn",
        "inputs: {x: [T, D], w: [D, K], u: [K, K]}\noutputs: {y: []}\nwrt: [w, u]\nforward:\n\
         \x20 - h[t,k] = tanh(sum(d) x[t,d] * w[d,k] + sum(j in K) h[t - 1, j] * u[j,k])\n  - y = sum(t,k) h[t,k]^2\n\
         instances: [{name: n, T: 4, D: 2, K: 3, dtype: f64}]\n",
    ),
    // Conditions that compare two indices: on an operand, on a term, on the target.
    (
        "triangle",
        "inputs: {l: [K, D, D], x: [N, D], w: [D]}\noutputs: {y: []}\nwrt: [l, x]\nforward:\n\
         \x20 - q[n,k,d] = sum(e in D) where(e < d, l[k,d,e], where(e == d, 1, 0)) * x[n,e]\n\
         \x20 - r[n,d] = sum(k, e in D) where(e <= d, l[k,d,e]^2 * x[n,e], 0.5)\n\
         \x20 - y = (sum(n,k,d) q[n,k,d] * sin(r[n,d])) + (sum(k, d, e in D) where(e != d, l[k,d,e]^2 * w[e], 0))\n\
         instances: [{name: n, N: 3, K: 2, D: 9, dtype: f64}]\n",
    ),
    // A recurrence along the last axis of its tensor, of which others read every iteration.
    (
        "powers",
        "inputs: {t: [N], x: [M], b: [N]}\noutputs: {y: []}\nwrt: [x, t]\nforward:\n\
         \x20 - p[n,m] = where(m == 0, 1, t[n] * p[n,m - 1])\n\
         \x20 - r[n] = sum(m) p[n,m] * x[m] - b[n]\n  - y = 0.5 * sum(n) r[n]^2\n\
         instances: [{name: n, N: 11, M: 5, dtype: f64}]\n",
    ),
];

fn text(name: &str) -> String {
    let body = PROGRAMS.iter().find(|(n, _)| *n == name).expect("a program of that name").1;
    format!("program: {name}\n{body}")
}

/// Limits so low that everything is cut into stages.
const LOW: Limits = Limits { program: 0, stage: 0, stack: 0, tuning: Tuning { scratch: usize::MAX, core: None } };

/// The kernel in stages.
fn staged(name: &str) -> Planned {
    planned(&whole(name), LOW)
}

fn planned(whole: &Kernel, limits: Limits) -> Planned {
    let planned = plan(whole.clone(), limits);
    plan::check::check(&planned).unwrap_or_else(|broken| panic!("{}: {broken}", whole.op));
    planned
}

fn whole(name: &str) -> Kernel {
    kernel(name, text(name))
}

/// The kernel of the first instance.
fn kernel(name: &str, text: String) -> Kernel {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add(&format!("{name}.yaml"), text);
    let certified = pipeline::certified(id, &sources, &mut out);
    let kernel = certified.as_ref().and_then(|c| specialise(&c.op, &c.spec.instances[0], &mut out));
    kernel.unwrap_or_else(|| panic!("{name}: {}", out.render(&sources)))
}

type Values = BTreeMap<String, Vec<f64>>;

fn named(kernel: &Kernel, name: &str) -> TensorId {
    let at = kernel.tensors.iter().position(|t| t.name == name);
    TensorId(at.unwrap_or_else(|| panic!("no tensor `{name}`")))
}

fn number(kernel: &Kernel, name: &str) -> usize {
    let at = kernel.functions.iter().position(|f| f.name == name);
    at.unwrap_or_else(|| panic!("{} has no `{name}`", kernel.op))
}

fn function<'a>(kernel: &'a Kernel, name: &str) -> &'a Function {
    &kernel.functions[number(kernel, name)]
}

/// Runs an entry point on values by name; what it only writes needs none.
fn run(kernel: &Kernel, name: &str, values: &Values) -> Values {
    let f = function(kernel, name);
    let mut tensors = arguments(kernel, f, values);
    plain::eval::run(kernel, f, &mut tensors);
    f.writes.iter().map(|t| (kernel.tensor(*t).name.clone(), tensors[t].clone())).collect()
}

fn arguments(kernel: &Kernel, f: &Function, values: &Values) -> BTreeMap<TensorId, Vec<f64>> {
    let all = f.reads.iter().chain(&f.writes);
    let value = |t: &TensorId| values.get(&kernel.tensor(*t).name).cloned();
    all.map(|t| (*t, value(t).unwrap_or_else(|| vec![f64::NAN; kernel.tensor(*t).elements()]))).collect()
}

/// Random values of every tensor that any function reads.
fn random(kernel: &Kernel) -> Values {
    let mut sampler = Sampler::new(kernel.op.bytes().map(u64::from).sum());
    let read = kernel.functions.iter().filter(|f| f.kind != Kind::Stage).flat_map(|f| &f.reads);
    let mut all = Values::new();
    for t in read {
        let tensor = kernel.tensor(*t);
        all.entry(tensor.name.clone()).or_insert_with(|| (0..tensor.elements()).map(|_| sampler.unit()).collect());
    }
    all
}

fn near(what: &str, got: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (n, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{n}] is {a}, not {b}");
    }
}

/// The inputs moved along their tangents.
fn moved(values: &Values, wrt: &[String], by: f64) -> Values {
    let mut all = values.clone();
    for x in wrt {
        let dot = values[&format!("{x}_dot")].clone();
        all.get_mut(x).expect("an input").iter_mut().zip(dot).for_each(|(x, d)| *x += by * d);
    }
    all
}

/// The derivative of what a function writes, in the direction of the tangents, by differences.
fn slope(kernel: &Kernel, name: &str, values: &Values, wrt: &[String]) -> Values {
    const STEP: f64 = 1e-5;
    let [up, down] = [STEP, -STEP].map(|by| run(kernel, name, &moved(values, wrt, by)));
    up.into_iter()
        .map(|(t, up)| (t.clone(), up.iter().zip(&down[&t]).map(|(a, b)| (a - b) / (2.0 * STEP)).collect()))
        .collect()
}

/// The inputs that a kernel's derivatives are by.
fn wrt(kernel: &Kernel) -> Vec<String> {
    let jvp = function(kernel, "jvp");
    let names = jvp.reads.iter().map(|t| kernel.tensor(*t).name.clone());
    names.filter_map(|n| n.strip_suffix("_dot").map(str::to_owned)).collect()
}

#[test]
fn derivatives_are_those_of_the_value() {
    for (name, _) in PROGRAMS {
        let kernel = whole(name);
        let (values, wrt) = (random(&kernel), wrt(&kernel));
        let value = run(&kernel, "forward", &values);
        let slope_of_value = slope(&kernel, "forward", &values, &wrt);
        let jvp = run(&kernel, "jvp", &values);
        for (t, v) in &value {
            near(&format!("{name}: {t}"), &jvp[t], v, 1e-12);
            near(&format!("{name}: {t}_dot"), &jvp[&format!("{t}_dot")], &slope_of_value[t], 1e-7);
        }
        // The cotangents times the tangents of the outputs are the tangents times the cotangents of the inputs.
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let out: f64 = value.keys().map(|t| dot(&values[&format!("{t}_bar")], &jvp[&format!("{t}_dot")])).sum();
        let back = run(&kernel, "vjp_store", &values);
        let into: f64 = wrt.iter().map(|x| dot(&back[&format!("{x}_bar")], &values[&format!("{x}_dot")])).sum();
        near(&format!("{name}: vjp"), &[into], &[out], 1e-12);
        assert_eq!(back.len(), wrt.len(), "{name}: cotangents of other inputs");
        // What adds, adds.
        let mut from = values.clone();
        from.extend(back.iter().map(|(t, v)| (t.clone(), vec![1.5; v.len()])));
        for (t, v) in run(&kernel, "vjp", &from) {
            let wanted: Vec<f64> = back[&t].iter().map(|b| b + 1.5).collect();
            near(&format!("{name}: vjp {t}"), &v, &wanted, 1e-12);
        }
        if kernel.functions.iter().any(|f| f.kind == Kind::ValueAndGrad) {
            second_derivatives(name, &kernel, &values, &wrt, &value);
        }
        dense(name, &kernel, &values, &wrt, &jvp);
    }
}

/// A declared rule that adds to a local of its own, in every direction that a dense derivative goes.
#[test]
fn locals_of_a_rule_are_made_once() {
    let cube = "op: cube\ninputs: {x: [N]}\noutputs: {y: [N]}\nforward:\n  - y[n] = x[n]^3\nadjoint:\n\
                \x20 - m[n] = x[n] * x[n]\n  - m[n] += 2 * x[n] * x[n]\n  - x_bar[n] += y_bar[n] * m[n]\ninstances: []\n";
    let back = "program: back\ninputs: {x: [N], w: [N]}\noutputs: {y: [], v: []}\nforward:\n  - a[n] = x[n] * w[n]\n  - b = cube(a)\n\
                \x20 - y = sum(n) b[n]\n  - v = sum(n) b[n] * b[n]\ninstances: [{name: n, N: 2, dtype: f64}]\n";
    let there = "program: there\ninputs: {x: [], w: [], s: [N]}\noutputs: {y: [N]}\nwrt: [x, w]\nforward:\n  - a[n] = x * w * s[n]\n  - y = cube(a)\n\
                 instances: [{name: n, N: 3, dtype: f64}]\n";
    let second = "program: second\ninputs: {x: [N], w: [N]}\noutputs: {z: []}\nforward:\n  - a[n] = x[n] * w[n]\n  - b = cube(a)\n\
                  \x20 - z = sum(n) b[n]\ninstances: [{name: n, N: 2, dtype: f64}]\n";
    for text in [back, there, second] {
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let ids = [("cube.yaml", cube), ("program.yaml", text)].map(|(path, text)| sources.add(path, text.to_string()));
        let specs = spec::all(&ids, &sources, &mut out);
        let library = Library::new(&specs, &sources);
        let program = specs.iter().find(|s| s.op.value != "cube").expect("the program").clone();
        let certified = pipeline::certified_spec(program, &library, &mut out);
        let kernel = certified.as_ref().and_then(|c| specialise(&c.op, &c.spec.instances[0], &mut out));
        let kernel = kernel.unwrap_or_else(|| panic!("{}", out.render(&sources)));
        let (values, wrt) = (random(&kernel), wrt(&kernel));
        let jvp = run(&kernel, "jvp", &values);
        let slopes = slope(&kernel, "forward", &values, &wrt);
        slopes.iter().for_each(|(z, v)| near(&format!("{}: {z}_dot", kernel.op), &jvp[&format!("{z}_dot")], v, 1e-7));
        dense(&kernel.op, &kernel, &values, &wrt, &jvp);
        if kernel.functions.iter().any(|f| f.kind == Kind::Hessian) {
            second_derivatives(&kernel.op, &kernel, &values, &wrt, &run(&kernel, "forward", &values));
        }
    }
}

/// Of a single number: the gradient is the cotangents from 1, and second derivatives are its slopes.
fn second_derivatives(name: &str, kernel: &Kernel, values: &Values, wrt: &[String], value: &Values) {
    let z = value.keys().next().expect("an output");
    let grad = run(kernel, "value_and_grad", values);
    near(&format!("{name}: value"), &grad[z], &value[z], 1e-12);
    let mut one = values.clone();
    one.insert(format!("{z}_bar"), vec![1.0]);
    let back = run(kernel, "vjp_store", &one);
    let slopes = slope(kernel, "value_and_grad", values, wrt);
    let hvp = run(kernel, "hvp", values);
    for x in wrt {
        let bar = format!("{x}_bar");
        near(&format!("{name}: {bar}"), &grad[&bar], &back[&bar], 1e-12);
        near(&format!("{name}: hvp {x}"), &hvp[&format!("{bar}_dot")], &slopes[&bar], 1e-6);
    }
    if !kernel.functions.iter().any(|f| f.kind == Kind::Hessian) {
        return;
    }
    let hessian = run(kernel, "hessian", values);
    near(&format!("{name}: hessian's value"), &hessian[z], &value[z], 1e-12);
    for x in wrt {
        let mut product = vec![0.0; values[x].len()];
        for y in wrt {
            let (rows, dots) = (&hessian[&format!("{z}_{x}_{y}")], &values[&format!("{y}_dot")]);
            for (n, row) in rows.chunks(dots.len()).enumerate() {
                product[n] += row.iter().zip(dots).map(|(a, b)| a * b).sum::<f64>();
            }
        }
        near(&format!("{name}: hessian {x}"), &product, &hvp[&format!("{x}_bar_dot")], 1e-10);
        near(&format!("{name}: hessian's gradient"), &hessian[&format!("{x}_bar")], &grad[&format!("{x}_bar")], 1e-12);
    }
}

/// Dense derivatives times the tangents are what `jvp` gives.
fn dense(name: &str, kernel: &Kernel, values: &Values, wrt: &[String], jvp: &Values) {
    if !kernel.functions.iter().any(|f| f.kind == Kind::Jacobian) {
        return;
    }
    let jacobian = run(kernel, "jacobian", values);
    for z in jvp.keys().filter(|z| !z.ends_with("_dot")) {
        near(&format!("{name}: jacobian's {z}"), &jacobian[z], &jvp[z], 1e-12);
        let mut product = vec![0.0; jvp[z].len()];
        for x in wrt {
            let (rows, dots) = (&jacobian[&format!("{z}_{x}")], &values[&format!("{x}_dot")]);
            for (n, row) in rows.chunks(dots.len()).enumerate() {
                product[n] += row.iter().zip(dots).map(|(a, b)| a * b).sum::<f64>();
            }
        }
        near(&format!("{name}: jacobian {z}"), &product, &jvp[&format!("{z}_dot")], 1e-12);
    }
}

/// Runs the stages of a function on one piece of memory that nobody has cleared.
fn run_staged(Planned { kernel, plans }: &Planned, n: usize, values: &Values) -> BTreeMap<TensorId, Vec<f64>> {
    let size = 8;
    let Plan::Stages { stages, workspace } = &plans[n] else { panic!("{} has no stages", kernel.functions[n].name) };
    let mut memory = vec![f64::NAN; workspace.bytes / size];
    let mut tensors = arguments(kernel, &kernel.functions[n], values);
    for stage in stages {
        let stage = &kernel.functions[*stage];
        let place = |t: &TensorId| workspace.places.get(t).map(|at| at / size);
        let mut own: BTreeMap<TensorId, Vec<f64>> = BTreeMap::new();
        for t in stage.reads.iter().chain(&stage.writes) {
            let value = match place(t) {
                Some(at) => memory[at..at + kernel.tensor(*t).elements()].to_vec(),
                None => tensors[t].clone(),
            };
            own.insert(*t, value);
        }
        plain::eval::run(kernel, stage, &mut own);
        for t in &stage.writes {
            match place(t) {
                Some(at) => memory[at..at + kernel.tensor(*t).elements()].copy_from_slice(&own[t]),
                None => _ = tensors.insert(*t, own[t].clone()),
            }
        }
    }
    tensors
}

/// What an iteration writes lies together, however its tensor is declared; interfaces are as declared.
#[test]
fn iterations_are_outermost() {
    let kernel = whole("powers");
    let stored = |name: &str| kernel.tensor(named(&kernel, name)).dims.join(" ");
    assert_eq!(["p", "p_dot", "p_bar"].map(stored), ["M N"; 3]);
    let kernel = whole("rnn");
    assert_eq!(kernel.tensor(named(&kernel, "h")).dims, ["T", "K"]);
}

#[test]
fn stages_in_a_workspace_are_the_whole_function() {
    for (name, _) in PROGRAMS {
        let planned = staged(name);
        let Planned { kernel, plans } = &planned;
        let mut values = random(kernel);
        // What is added to is there.
        for x in wrt(kernel) {
            let n = kernel.tensor(named(kernel, &x)).elements();
            values.insert(format!("{x}_bar"), vec![0.25; n]);
        }
        let mut stages = 0;
        for (n, f) in kernel.functions.iter().enumerate().filter(|(_, f)| f.kind != Kind::Stage) {
            stages += plans[n].stages().len();
            let (staged, whole) = (run_staged(&planned, n, &values), run(kernel, &f.name, &values));
            for t in &f.writes {
                let tensor = &kernel.tensor(*t).name;
                assert_eq!(staged[t], whole[tensor], "{name}::{}: {tensor}", f.name);
            }
            for at in plans[n].workspace().iter().flat_map(|w| w.places.values()) {
                assert_eq!(at % ALIGNMENT, 0, "{name}::{}", f.name);
            }
        }
        let made = kernel.functions.iter().filter(|f| f.kind == Kind::Stage).count();
        assert!(made < stages, "{name}: {made} stages, and none is common to two of {stages}");
    }
}

/// Of every program with a gradient: what the others give, whole and in stages.
#[test]
fn value_gradient_and_product_in_one() {
    let mut compared = 0;
    for (name, _) in PROGRAMS {
        let others = whole(name);
        if !others.functions.iter().any(|f| f.kind == Kind::Hvp) {
            continue;
        }
        let asks = format!("{}functions: [forward, value_grad_and_hvp]\n", text(name));
        let planned = planned(&kernel(name, asks), LOW);
        let n = number(&planned.kernel, "value_grad_and_hvp");
        let values = random(&others);
        let [gradient, product] = ["value_and_grad", "hvp"].map(|f| run(&others, f, &values));
        let all = run(&planned.kernel, "value_grad_and_hvp", &values);
        assert!(all.keys().eq(gradient.keys().chain(product.keys()).collect::<BTreeSet<_>>()), "{name}");
        for (t, v) in gradient.iter().chain(&product) {
            near(&format!("{name}: {t}"), &all[t], v, 1e-12);
        }
        let staged = run_staged(&planned, n, &values);
        for t in &planned.kernel.functions[n].writes {
            let tensor = &planned.kernel.tensor(*t).name;
            assert_eq!(staged[t], all[tensor], "{name}: {tensor}");
        }
        compared += 1;
    }
    assert!(compared > 5, "{compared} programs have a gradient");
}

/// Faults planted in a plan that is right.
#[test]
fn broken_plans_are_found() {
    let planned = staged("mlp");
    let at = number(&planned.kernel, "value_and_grad");
    let found = |why: &str, spoil: &dyn Fn(&mut Vec<usize>, &mut Workspace)| {
        let mut broken = planned.clone();
        let Plan::Stages { stages, workspace } = &mut broken.plans[at] else { panic!("it has stages") };
        spoil(stages, workspace);
        let error = plan::check::check(&broken).expect_err(why);
        assert!(error.contains(why), "{error}, not: {why}");
    };
    found("has an entry point among its stages", &|stages, _| stages[0] = at);
    found("is read by a stage before it has a value", &|stages, _| stages.reverse());
    found("is written by no stage", &|stages, _| _ = stages.pop());
    found("is written by a stage that is not given it", &|_, workspace| _ = workspace.places.pop_first());
    found("shares memory", &|_, workspace| workspace.places.values_mut().for_each(|at| *at = 0));
    found("ends behind the workspace", &|_, workspace| workspace.bytes -= ALIGNMENT);
}

/// The nests of every function and every stage against the plain interpreter.
#[test]
fn nests_are_what_they_are_made_of() {
    for (name, _) in PROGRAMS {
        let whole = whole(name);
        for planned in [planned(&whole, Limits::default()), planned(&whole, LOW), Planned::whole(whole)] {
            let Planned { kernel, plans } = &planned;
            let mut values = random(kernel);
            let mut sampler = Sampler::new(name.len() as u64);
            let scheduled = schedule(&planned, &Target::default());
            for ((f, plan), nests) in kernel.functions.iter().zip(plans).zip(&scheduled.nests) {
                for t in f.reads.iter().chain(&f.writes) {
                    let tensor = kernel.tensor(*t);
                    let fresh = || (0..tensor.elements()).map(|_| sampler.unit()).collect();
                    values.entry(tensor.name.clone()).or_insert_with(fresh);
                }
                assert_eq!(nests.is_empty(), matches!(plan, Plan::Stages { .. }), "{name}::{}", f.name);
                let mut wanted = arguments(kernel, f, &values);
                plain::eval::run(kernel, f, &mut wanted);
                for n in nests {
                    nest::check::check(kernel, n).unwrap_or_else(|broken| panic!("{name}: {broken}"));
                    let mut got = arguments(kernel, f, &values);
                    nest::eval::run(kernel, n, &mut got);
                    for t in &f.writes {
                        near(&format!("{name}::{}: {}", f.name, kernel.tensor(*t).name), &got[t], &wanted[t], 1e-10);
                    }
                }
            }
        }
    }
}

/// What is computed on accumulators is in no memory: only the last of the steps has a place, and what the way back
/// reads.
#[test]
fn epilogues_need_no_memory() {
    let planned = staged("dense");
    let Planned { kernel, plans } = &planned;
    let used = |name: &str| -> Vec<&str> {
        let stages = plans[number(kernel, name)].stages().iter().map(|n| &kernel.functions[*n]);
        let tensors = stages.flat_map(|s| s.reads.iter().chain(&s.writes)).map(|t| kernel.tensor(*t).name.as_str());
        ["p", "q", "h", "r"].into_iter().filter(|n| tensors.clone().any(|t| t == *n)).collect()
    };
    assert_eq!(used("forward"), ["h", "r"]);
    assert_eq!(used("value_and_grad"), ["q", "h", "r"]);
    // The first sum is one stage with what follows it.
    let scheduled = schedule(&planned, &Target::default());
    let first = plans[number(kernel, "forward")].stages()[0];
    assert_eq!(kernel.functions[first].steps.len(), 3);
    let text = nest::print::nest(kernel, &scheduled.nests[first][0]);
    assert!(text.contains("(0.0<all 2> ? ") || text.contains(" ? 0.0<all 2> : "), "{text}");
}

/// The cotangents of a maximum are one step with what follows, its choices in lanes: nothing is filled with zeros and
/// added to.
#[test]
fn windows_go_back_in_one_step() {
    let planned = Planned::whole(whole("pool"));
    let kernel = &planned.kernel;
    let at = number(kernel, "value_and_grad");
    let f = &kernel.functions[at];
    assert!(!f.steps.iter().any(|s| matches!(s, plain::Step::Fill(_))), "{}", plain::print::kernel(kernel));
    let text = nest::print::nest(kernel, &schedule(&planned, &Target::default()).nests[at][0]);
    assert!(text.contains("all 2> ? "), "{text}");
    assert!(!text.contains("b_bar["), "{text}");
}

/// A cotangent takes the place of the one that it is computed from.
#[test]
fn what_nothing_needs_is_written_over() {
    let Planned { kernel, plans } = staged("dense");
    let plan = &plans[number(&kernel, "hvp")];
    let places = &plan.workspace().expect("it has stages").places;
    let names: Vec<&str> = places.keys().map(|t| kernel.tensor(*t).name.as_str()).collect();
    // `q` is where `p` was, and so is the tangent of its cotangent; `h_dot` is where `q_dot` was, and that where
    // `p_dot`.
    assert_eq!(names, ["p", "p_dot", "h", "r", "r_dot", "r_bar", "z_bar", "r_bar_dot", "h_bar_dot"]);
    let over = |s: &&Function| s.accumulated.iter().any(|t| kernel.tensor(*t).name == "p");
    assert_eq!(plan.stages().iter().map(|n| &kernel.functions[*n]).filter(over).count(), 2);
}

/// Whatever panels a stage may have, its own tensors on the stack are no more than the limit.
#[test]
fn stacks_are_bounded() {
    for (name, _) in PROGRAMS {
        let whole = whole(name);
        for (scratch, stack) in [0, 200, usize::MAX].into_iter().zip([0, 100, 1000]) {
            let planned = planned(&whole, Limits { tuning: Tuning { scratch, ..Tuning::default() }, stack, ..LOW });
            let scheduled =
                schedule(&planned, &Target { tuning: Tuning { scratch, ..Tuning::default() }, ..Target::default() });
            for nest in scheduled.nests.iter().flatten() {
                // Panels are tensors of the schedule.
                let own = nest.locals.iter().filter(|l| l.tensor.0 < whole.tensors.len());
                let bytes: usize = own.map(|l| l.shape.iter().product::<usize>() * size_of::<f64>()).sum();
                assert!(bytes <= stack, "{name}::{}: {bytes} bytes of {stack}", nest.name);
            }
        }
    }
}

fn mlp(instance: &str) -> String {
    let text = text("mlp");
    let (head, _) = text.split_once("instances:").expect("the key");
    format!("{head}instances: [{instance}]\n")
}

/// The workspace is little more than what is needed at the same time.
#[test]
fn workspaces_are_tight() {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("mlp.yaml", mlp("{name: mnist, B: 32, D: 784, H: 128, C: 10}"));
    let certified = pipeline::certified(id, &sources, &mut out).expect("the spec is right");
    let kernels = pipeline::kernels(&certified, &Options::default(), &mut out);
    let Planned { kernel, plans } = &kernels[0];
    for (f, plan) in kernel.functions.iter().zip(plans) {
        let Some(Workspace { bytes, needed, .. }) = plan.workspace() else { continue };
        println!("{}: {bytes} bytes, {needed} needed at the same time", f.name);
        assert!(10 * bytes <= 12 * needed, "{}: {bytes} bytes for {needed}", f.name);
    }
}

/// Generated functions with a workspace, against differences (`programs/mlp.rs`).
#[test]
fn generated_code_trains() {
    let text = mlp("{name: small, B: 8, D: 24, H: 16, C: 4, dtype: f64}");
    let folder = folder("programs", &[("mlp", &text)]);
    render(&folder, "programs", Build::new().instruction_sets([InstructionSet::Portable]));
    std::fs::write(folder.join("main.rs"), include_str!("../programs/mlp.rs")).expect("the file is written");
    compile(&folder, "2024", "main.rs", &["-o", "main"]);
    crate::generated::run(&mut Command::new(folder.join("main")));
}
