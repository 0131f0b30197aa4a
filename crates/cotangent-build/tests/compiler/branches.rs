//! Branches that are not taken, and points without a slope: takes specs whose steps are infinite or NaN where no branch
//! takes them, and numbers that are so, compares every function at every stage and the generated code with derivatives
//! by hand. What holds after it: nothing of a branch that is not taken gets into a derivative; norms at zero have the
//! derivative zero; the table of kinks in `docs/language.md` is true line by line.

use crate::generated::{compile, folder, render, run};
use cotangent_build::certify::Certified;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::Interpreter;
use cotangent_build::index::{Entry, Stmt, TensorId};
use cotangent_build::plain::{self, Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{Build, Options, nest, pipeline};
use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::fmt::Write as _;
use std::process::Command;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

type Values = &'static [(&'static str, &'static [f64])];

struct Case {
    name: &'static str,
    /// All between the name and the instances.
    spec: &'static str,
    instance: &'static str,
    given: Values,
    /// Functions and what they write. What is NaN here is not compared.
    expected: &'static [(&'static str, Values)],
}

const CASES: &[Case] = &[
    Case {
        name: "root",
        spec: "op: root\ninputs: {x: [I]}\noutputs: {y: [I]}\nforward:\n  - r[i] = sqrt(x[i])\n  - y[i] = where(x[i] > 0, r[i], 0)",
        instance: "I: 3",
        given: &[("x", &[0.0, 4.0, -1.0]), ("x_dot", &[3.0, 2.0, 1.0]), ("y_bar", &[1.0, 2.0, 3.0])],
        expected: &[
            ("jvp", &[("y", &[0.0, 2.0, 0.0]), ("y_dot", &[0.0, 0.5, 0.0])]),
            ("vjp_store", &[("x_bar", &[0.0, 0.5, 0.0])]),
        ],
    },
    Case {
        name: "chain",
        spec: "program: chain\ninputs: {p: [N]}\noutputs: {h: []}\nforward:\n  - l[n] = log(p[n])\n  - m[n] = l[n] * l[n]\n  \
               - h = sum(n) where(p[n] > 0, p[n] * m[n], 0)",
        instance: "N: 3",
        given: &[("p", &[0.0, 1.0, 2.0]), ("p_dot", &[5.0, 2.0, 1.0]), ("h_bar", &[2.0])],
        expected: &[
            ("jvp", &[("h_dot", &[LN_2 * LN_2 + 2.0 * LN_2])]),
            ("vjp_store", &[("p_bar", &[0.0, 0.0, 2.0 * (LN_2 * LN_2 + 2.0 * LN_2)])]),
            ("value_and_grad", &[("p_bar", &[0.0, 0.0, LN_2 * LN_2 + 2.0 * LN_2])]),
            ("hvp", &[("p_bar_dot", &[0.0, 4.0, LN_2 + 1.0])]),
            ("jacobian", &[("h_p", &[0.0, 0.0, LN_2 * LN_2 + 2.0 * LN_2])]),
            ("hessian", &[("h_p_p", &[0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, LN_2 + 1.0])]),
        ],
    },
    Case {
        name: "rows",
        spec: "program: rows\ninputs: {x: [I, J], m: [I]}\noutputs: {y: [I]}\nwrt: [x]\nforward:\n  - s[i] = sum(j) log(x[i,j])\n  \
               - y[i] = where(m[i] > 0, s[i], 0)",
        instance: "I: 2, J: 2",
        given: &[
            ("x", &[0.0, -1.0, 2.0, 4.0]),
            ("m", &[0.0, 1.0]),
            ("x_dot", &[1.0, 1.0, 1.0, 1.0]),
            ("y_bar", &[1.0, 3.0]),
        ],
        expected: &[
            ("jvp", &[("y_dot", &[0.0, 0.75])]),
            ("vjp_store", &[("x_bar", &[0.0, 0.0, 1.5, 0.75])]),
            ("jacobian", &[("y_x", &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.25])]),
        ],
    },
    // Rows that are masked throughout.
    Case {
        name: "masked",
        spec: "program: masked\ninputs: {x: [I, J], m: [I, J]}\noutputs: {y: [I, J], z: [I]}\nwrt: [x]\nforward:\n  \
               - s[i,j] = where(m[i,j] > 0, x[i,j], -inf)\n  - any[i] = max(j) m[i,j]\n  - p = softmax(s; J = [J])\n  \
               - l = logsumexp(s; J = [J])\n  - y[i,j] = where(any[i] > 0, p[i,j], 0)\n  - z[i] = where(any[i] > 0, l[i], 0)",
        instance: "I: 2, J: 2",
        given: &[
            ("x", &[1.0, 2.0, 3.0, 3.0]),
            ("m", &[0.0, 0.0, 1.0, 1.0]),
            ("x_dot", &[1.0, 1.0, 1.0, 0.0]),
            ("y_bar", &[1.0, 2.0, 1.0, 0.0]),
            ("z_bar", &[1.0, 2.0]),
        ],
        expected: &[
            ("forward", &[("y", &[0.0, 0.0, 0.5, 0.5]), ("z", &[0.0, 3.0 + LN_2])]),
            ("jvp", &[("y_dot", &[0.0, 0.0, 0.25, -0.25]), ("z_dot", &[0.0, 0.5])]),
            ("vjp_store", &[("x_bar", &[0.0, 0.0, 1.25, 0.75])]),
        ],
    },
    Case {
        name: "recurrence",
        spec: "program: recurrence\ninputs: {x: [T]}\noutputs: {h: [T]}\nforward:\n  - r[t] = sqrt(x[t] * where(t == 0, 1, h[t - 1]))\n  \
               - h[t] = where(x[t] > 0, r[t], where(t == 0, 1, h[t - 1]))",
        instance: "T: 3",
        // h is 2, 2, sqrt(8) = 2 sqrt(2).
        given: &[
            ("x", &[4.0, 0.0, 4.0]),
            ("x_dot", &[1.0, 1.0, 0.0]),
            ("h_bar", &[0.0, 1.0, std::f64::consts::SQRT_2]),
        ],
        expected: &[
            ("jvp", &[("h_dot", &[0.25, 0.25, 0.25 / std::f64::consts::SQRT_2])]),
            ("vjp_store", &[("x_bar", &[0.5, 0.0, 0.5])]),
        ],
    },
    Case {
        name: "large",
        spec: "program: large\ninputs: {x: [I]}\noutputs: {z: []}\nforward:\n  - e[i] = exp(x[i])\n  - s[i] = log1p(e[i])\n  \
               - y[i] = where(x[i] > 20, x[i], s[i])\n  - z = sum(i) y[i]",
        instance: "I: 2",
        given: &[("x", &[1000.0, 0.0]), ("x_dot", &[1.0, 1.0])],
        expected: &[
            ("jvp", &[("z_dot", &[1.5])]),
            ("value_and_grad", &[("z", &[1000.0 + LN_2]), ("x_bar", &[1.0, 0.5])]),
            ("hvp", &[("x_bar_dot", &[0.0, 0.25])]),
            ("hessian", &[("z_x_x", &[0.0, 0.0, 0.0, 0.25])]),
        ],
    },
    // What is not there is NaN.
    Case {
        name: "missing",
        spec: "program: missing\ninputs: {p: [N], t: [N], w: [N]}\noutputs: {z: []}\nwrt: [p]\nforward:\n  - d[n] = p[n] - t[n]\n  \
               - q[n] = d[n] * d[n] * d[n]\n  - z = sum(n) where(w[n] > 0, q[n], 0)",
        instance: "N: 2",
        given: &[("p", &[1.0, 3.0]), ("t", &[NAN, 1.0]), ("w", &[0.0, 1.0]), ("p_dot", &[1.0, 1.0])],
        expected: &[
            ("jvp", &[("z_dot", &[12.0])]),
            ("value_and_grad", &[("z", &[8.0]), ("p_bar", &[0.0, 12.0])]),
            ("hvp", &[("p_bar_dot", &[0.0, 12.0])]),
            ("hessian", &[("z_p_p", &[0.0, 0.0, 0.0, 12.0])]),
        ],
    },
    // Two readers, of which one takes it; a branch within a branch.
    Case {
        name: "readers",
        spec: "op: readers\ninputs: {x: [I]}\noutputs: {y: [I]}\nforward:\n  - r[i] = sqrt(x[i])\n  - u[i] = where(x[i] > 0, r[i], 0)\n  \
               - v[i] = where(x[i] > 0, where(x[i] > 1, 2 * r[i], 0), 0)\n  - y[i] = u[i] + v[i]",
        instance: "I: 3",
        given: &[("x", &[0.0, 1.0, 4.0]), ("x_dot", &[1.0, 1.0, 1.0]), ("y_bar", &[1.0, 1.0, 1.0])],
        expected: &[("jvp", &[("y_dot", &[0.0, 0.5, 0.75])]), ("vjp_store", &[("x_bar", &[0.0, 0.5, 0.75])])],
    },
    Case {
        name: "quotient",
        spec: "op: quotient\ninputs: {a: [I], b: [I]}\noutputs: {y: [I]}\nforward:\n  - q[i] = a[i] / b[i]\n  - r = 2\n  \
               - y[i] = where(b[i] != 0, r * q[i], 0)",
        instance: "I: 2",
        given: &[
            ("a", &[1.0, 1.0]),
            ("b", &[0.0, 2.0]),
            ("a_dot", &[1.0, 1.0]),
            ("b_dot", &[1.0, 0.0]),
            ("y_bar", &[1.0, 1.0]),
        ],
        expected: &[
            ("jvp", &[("y_dot", &[0.0, 1.0])]),
            ("vjp_store", &[("a_bar", &[0.0, 1.0]), ("b_bar", &[0.0, -0.5])]),
        ],
    },
    Case {
        name: "domains",
        spec: "op: domains\ninputs: {x: [I]}\noutputs: {y: [I]}\nforward:\n  - a[i] = acosh(x[i])\n  - b[i] = asin(x[i] - 1)\n  \
               - c[i] = pow(x[i] - 1, 0.5)\n  - y[i] = where(x[i] > 1, a[i] + b[i] + c[i], 0)",
        instance: "I: 2",
        given: &[("x", &[1.0, -3.0]), ("x_dot", &[1.0, 1.0]), ("y_bar", &[1.0, 1.0])],
        expected: &[("jvp", &[("y_dot", &[0.0, 0.0])]), ("vjp_store", &[("x_bar", &[0.0, 0.0])])],
    },
    // Clamped: `max` takes a branch too. So does a maximum over elements.
    Case {
        name: "clamped",
        spec: "program: clamped\ninputs: {p: [N]}\noutputs: {z: []}\nforward:\n  - l[n] = log(p[n])\n  - c[n] = max(l[n], -100)\n  \
               - m = max(n) l[n]\n  - z = m + sum(n) c[n]",
        instance: "N: 2",
        given: &[("p", &[0.0, 2.0]), ("p_dot", &[1.0, 1.0])],
        expected: &[
            ("jvp", &[("z_dot", &[1.0])]),
            ("value_and_grad", &[("p_bar", &[0.0, 1.0])]),
            ("hvp", &[("p_bar_dot", &[0.0, -0.5])]),
        ],
    },
    // Elements that nothing reads.
    Case {
        name: "unread",
        spec: "op: unread\ninputs: {x: [I]}\noutputs: {y: [J]}\nsizes: {J: I - 1}\nforward:\n  - r[i] = sqrt(x[i])\n  - y[j] = r[j + 1]",
        instance: "I: 3",
        given: &[("x", &[0.0, 1.0, 4.0]), ("y_bar", &[1.0, 1.0])],
        expected: &[("vjp_store", &[("x_bar", &[0.0, 0.5, 0.25])])],
    },
    // A step that stands still, then a root.
    Case {
        name: "still",
        spec: "op: still\ninputs: {x: [I], z: []}\noutputs: {y: []}\nforward:\n  - s[i] = where(x[i] > 0, x[i], 0)\n  - r[i] = sqrt(s[i])\n  \
               - y = z + sum(i) r[i]",
        instance: "I: 2",
        given: &[("x", &[-1.0, 4.0]), ("z", &[0.0]), ("x_dot", &[1.0, 1.0]), ("z_dot", &[1.0]), ("y_bar", &[1.0])],
        expected: &[("jvp", &[("y_dot", &[1.25])]), ("vjp_store", &[("x_bar", &[0.0, 0.25]), ("z_bar", &[1.0])])],
    },
    // Matrix products behind a branch.
    Case {
        name: "layers",
        spec: "program: layers\ninputs: {x: [N, D], w: [D, H]}\noutputs: {z: []}\nforward:\n  - l[n,d] = log(x[n,d])\n  - a = matmul(l, w)\n  \
               - z = sum(n,h) where(x[n, 0] > 0, a[n,h], 0)",
        instance: "N: 2, D: 1, H: 2",
        given: &[("x", &[0.0, 2.0]), ("w", &[1.0, 3.0]), ("x_dot", &[1.0, 1.0]), ("w_dot", &[1.0, 0.0])],
        expected: &[
            ("value_and_grad", &[("x_bar", &[0.0, 2.0]), ("w_bar", &[LN_2, LN_2])]),
            ("hvp", &[("x_bar_dot", &[0.0, -0.5]), ("w_bar_dot", &[0.5, 0.5])]),
        ],
    },
    // Norms at zero, and one that is not.
    Case {
        name: "norms",
        spec: "program: norms\ninputs: {x: [I], y: [I]}\noutputs: {z: []}\nforward:\n  - d[i] = x[i] - y[i]\n  - s = sum(i) d[i] * d[i]\n  \
               - n = sqrt(s)\n  - m = (sum(i) x[i]^2)^0.5\n  - q = sqrt(reduce_sum(square(x); J = [I]))\n  - z = n + m + q + n^2 + sum(i) sqrt(x[i]^2 + y[i]^2)",
        instance: "I: 2",
        given: &[
            ("x", &[0.0, 0.0]),
            ("y", &[0.0, 0.0]),
            ("x_dot", &[1.0, 2.0]),
            ("y_dot", &[3.0, 5.0]),
            ("z_bar", &[1.0]),
        ],
        expected: &[
            ("jvp", &[("z", &[0.0]), ("z_dot", &[0.0])]),
            ("vjp_store", &[("x_bar", &[0.0, 0.0]), ("y_bar", &[0.0, 0.0])]),
            ("value_and_grad", &[("x_bar", &[0.0, 0.0]), ("y_bar", &[0.0, 0.0])]),
            ("hvp", &[("x_bar_dot", &[0.0, 0.0]), ("y_bar_dot", &[0.0, 0.0])]),
            ("jacobian", &[("z_x", &[0.0, 0.0]), ("z_y", &[0.0, 0.0])]),
            ("hessian", &[("z_x_x", &[0.0; 4]), ("z_x_y", &[0.0; 4]), ("z_y_y", &[0.0; 4])]),
        ],
    },
    Case {
        name: "norm",
        spec: "program: norm\ninputs: {x: [I]}\noutputs: {z: []}\nforward:\n  - s = sum(i) x[i]^2\n  - z = sqrt(s)",
        instance: "I: 2",
        given: &[("x", &[3.0, 4.0]), ("x_dot", &[1.0, 0.0])],
        expected: &[
            ("value_and_grad", &[("z", &[5.0]), ("x_bar", &[0.6, 0.8])]),
            ("hvp", &[("x_bar_dot", &[0.128, -0.096])]),
        ],
    },
    // A root of what is not at its least where it is zero.
    Case {
        name: "mean",
        spec: "op: mean\ninputs: {x: [], z: []}\noutputs: {y: [], v: []}\nforward:\n  - u = x * z\n  - y = sqrt(u)\n  - v = sqrt(x * z)",
        instance: "dtype: f64",
        given: &[
            ("x", &[0.0]),
            ("z", &[0.0]),
            ("x_dot", &[1.0]),
            ("z_dot", &[2.0]),
            ("y_bar", &[1.0]),
            ("v_bar", &[1.0]),
        ],
        expected: &[
            ("jvp", &[("y_dot", &[0.0]), ("v_dot", &[0.0])]),
            ("vjp_store", &[("x_bar", &[0.0]), ("z_bar", &[0.0])]),
        ],
    },
    // A zero among factors that are not infinite is a number like any other: its slope counts.
    Case {
        name: "zero",
        spec: "program: zero\ninputs: {x: []}\noutputs: {z: []}\nforward:\n  - r = log(x)\n  - z = where(x > 0, r * r, 0)",
        instance: "dtype: f64",
        given: &[("x", &[1.0]), ("x_dot", &[1.0])],
        expected: &[("value_and_grad", &[("x_bar", &[0.0])]), ("hvp", &[("x_bar_dot", &[2.0])])],
    },
    // Rows of logsumexp that are infinite.
    Case {
        name: "infinite",
        spec: "program: infinite\ninputs: {x: [I, J]}\noutputs: {y: [I]}\nforward:\n  - y = logsumexp(x; J = [J])",
        instance: "I: 4, J: 2",
        given: &[("x", &[-INF, -INF, -INF, 1.0, INF, 0.0, NAN, 0.0]), ("y_bar", &[1.0, 1.0, 1.0, 1.0])],
        expected: &[
            ("forward", &[("y", &[-INF, 1.0, INF, NAN])]),
            ("vjp_store", &[("x_bar", &[NAN, NAN, 0.0, 1.0, NAN, 0.0, NAN, NAN])]),
        ],
    },
];

/// Whether a case has second derivatives times a direction.
fn has_products(case: &Case) -> bool {
    case.expected.iter().any(|(f, _)| *f == "hvp")
}

/// What functions write. What `value_and_grad` and `hvp` are to write, one function is to write at once.
fn expected(case: &Case) -> impl Iterator<Item = (&'static str, Values)> {
    let both = case.expected.iter().filter(|(f, _)| matches!(*f, "value_and_grad" | "hvp"));
    let both = both.filter(|_| has_products(case)).map(|(_, wanted)| ("value_grad_and_hvp", *wanted));
    case.expected.iter().copied().chain(both)
}

fn text(case: &Case) -> String {
    let dtype = if case.instance.contains("dtype") { "" } else { ", dtype: f64" };
    let all = "\nfunctions: [forward, jvp, vjp, value_and_grad, hvp, value_grad_and_hvp, jacobian, hessian]";
    let functions = if has_products(case) { all } else { "" };
    format!("{}{functions}\ninstances:\n  - {{name: case, {}{dtype}}}\n", case.spec, case.instance)
}

fn near(what: &str, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let same = |g: f64, w: f64| w.is_nan() || g == w || (g - w).abs() <= 1e-12 * w.abs().max(1.0);
    assert!(got.iter().zip(wanted).all(|(g, w)| same(*g, *w)), "{what} is {got:?}, not {wanted:?}");
}

/// An op, the kernel of its instance and the nests of each function.
struct Built {
    c: Certified,
    kernel: Kernel,
    nests: Vec<Vec<nest::Nest>>,
}

fn built(name: &str, text: String) -> Built {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add(&format!("{name}.yaml"), text);
    let c = pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)));
    let kernels = pipeline::kernels(&c, &Options::default(), &mut out);
    let scheduled = pipeline::schedule(&c, kernels, &Options::default(), &mut out);
    assert!(!out.has_errors(), "{}", out.render(&sources));
    let (kernel, nests) = scheduled.into_iter().map(|s| (s.kernel, s.nests)).next().expect("there is one instance");
    Built { c, kernel, nests }
}

/// What a function writes, by the names of stages and tensors.
type Results = Vec<(String, BTreeMap<String, Vec<f64>>)>;

/// The results of a function at each stage.
fn stages(built: &Built, function: &str, given: &dyn Fn(&str) -> Option<Vec<f64>>) -> Results {
    let Built { c, kernel, nests } = built;
    let (op, name) = (&c.op, &c.op.name);
    let n = kernel.functions.iter().position(|f| f.name == function);
    let n = n.unwrap_or_else(|| panic!("{name} has no {function}"));
    let f = &kernel.functions[n];
    let named = |t: TensorId| kernel.tensor(t).name.clone();
    let mut values: BTreeMap<TensorId, Vec<f64>> = BTreeMap::new();
    let all = (0..op.tensors.len()).map(TensorId);
    values.extend(all.filter_map(|t| Some((t, given(&op.tensor(t).name)?))));
    // A rule may read what `forward` gave.
    let forward = kernel.functions.iter().find(|f| f.kind == Kind::Forward).expect("it is there");
    let mut whole = values.clone();
    plain::eval::run(kernel, forward, &mut whole);
    let given: BTreeMap<TensorId, Vec<f64>> = f
        .reads
        .iter()
        .map(|t| (*t, whole.get(t).cloned().unwrap_or_else(|| panic!("{name}: no {}", named(*t)))))
        .collect();
    let results =
        |tensors: &BTreeMap<TensorId, Vec<f64>>| f.writes.iter().map(|t| (named(*t), tensors[t].clone())).collect();
    let mut all = Vec::new();
    let stmts: Vec<Stmt> = match &op.program {
        Some(p) => {
            let name = function.trim_end_matches("_store");
            let of = |f: &&cotangent_build::index::ProgramFunction| f.entry.name() == name;
            // Of two Jacobians the kernel has the one of fewer directions: both say the same.
            let functions: Vec<_> = p.functions.iter().filter(of).collect();
            assert!(!functions.is_empty() && (functions.len() == 1 || functions[0].entry == Entry::Jacobian));
            functions.iter().flat_map(|f| f.stmts.clone()).collect()
        }
        None => op.forward.iter().chain(&op.tangent.stmts).chain(&op.adjoint.stmts).cloned().collect(),
    };
    if op.program.as_ref().is_none_or(|p| p.functions.iter().filter(|f| f.entry.name() == function).count() < 2) {
        let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
        let mut interpreter = Interpreter::new(op, &binding);
        interpreter.tensors = values.clone();
        interpreter.run(&stmts).expect("no element is written twice");
        let zeros = |t: TensorId| vec![0.0; binding.elements(op, t)];
        let value = |t: &TensorId| (named(*t), interpreter.tensors.get(t).cloned().unwrap_or_else(|| zeros(*t)));
        all.push(("index".to_string(), f.writes.iter().map(value).collect()));
    }
    let mut tensors = given.clone();
    plain::eval::run(kernel, f, &mut tensors);
    all.push(("plain".to_string(), results(&tensors)));
    for nest in &nests[n] {
        let mut tensors = given.clone();
        nest::eval::run(kernel, nest, &mut tensors);
        all.push((nest.machines[0].name.to_string(), results(&tensors)));
    }
    all
}

#[test]
fn every_stage_keeps_branches_apart() {
    for case in CASES {
        let built = built(case.name, text(case));
        for (function, wanted) in expected(case) {
            let given = |name: &str| case.given.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_vec());
            for (stage, got) in stages(&built, function, &given) {
                for (tensor, wanted) in wanted {
                    near(&format!("{} {function} {stage}: {tensor}", case.name), &got[*tensor], wanted);
                }
            }
        }
    }
}

/// Rust's text of an array with these elements.
fn array(shape: &[usize], data: &[f64]) -> String {
    let number = |v: f64| match v {
        v if v.is_nan() => "f64::NAN".to_string(),
        v if v.is_infinite() => format!("{}f64::INFINITY", if v < 0.0 { "-" } else { "" }),
        v => format!("{v:?}"),
    };
    match shape.split_first() {
        None => number(data[0]),
        Some((_, rest)) => {
            let chunks = data.chunks(rest.iter().product::<usize>().max(1)).map(|c| array(rest, c));
            format!("[{}]", chunks.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The machine's own instructions: what runs is what a user has.
#[test]
fn generated_code_keeps_branches_apart() {
    let texts: Vec<(&str, String)> = CASES.iter().map(|c| (c.name, text(c))).collect();
    let ops: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let folder = folder("branches", &ops);
    render(&folder, "kernels", Build::new());
    let mut main = "#![allow(warnings)]\nmod kernels;\nfn flat<T: std::fmt::Debug>(name: &str, v: &T) { println!(\"{name} {v:?}\"); }\nfn main() {\n".to_string();
    for case in CASES {
        let Built { kernel, .. } = built(case.name, text(case));
        let given: BTreeMap<&str, &[f64]> = case.given.iter().copied().collect();
        let forward = kernel.functions.iter().find(|f| f.kind == Kind::Forward).expect("it is there");
        let _ = writeln!(main, "{{ use kernels::{}::case::*;", case.name);
        for f in [("forward", true)].into_iter().chain(expected(case).map(|(f, _)| (f, false))) {
            let (name, first) = f;
            if !first && name == "forward" {
                continue;
            }
            let f = kernel.functions.iter().find(|f| f.name == name).unwrap_or(forward);
            let mut arguments = Vec::new();
            for t in &f.reads {
                let t = kernel.tensor(*t);
                if let Some(v) = given.get(t.name.as_str()) {
                    arguments.push(format!("&{}", array(&t.shape, v)));
                } else {
                    // What `forward` gave.
                    arguments.push(format!("&{}", t.name));
                }
            }
            let _ = if first { Ok(()) } else { writeln!(main, "{{") };
            for t in &f.writes {
                let t = kernel.tensor(*t);
                let zeros = array(&t.shape, &vec![0.0; t.shape.iter().product::<usize>().max(1)]);
                let _ = writeln!(main, "let mut {} = {zeros};", t.name);
                arguments.push(format!("&mut {}", t.name));
            }
            let _ = writeln!(main, "{name}({});", arguments.join(", "));
            for t in &f.writes {
                let t = &kernel.tensor(*t).name;
                let _ = writeln!(main, "flat(\"{} {name} {t}\", &{t});", case.name);
            }
            let _ = if first { Ok(()) } else { writeln!(main, "}}") };
        }
        main.push_str("}\n");
    }
    main.push_str("}\n");
    std::fs::write(folder.join("main.rs"), main).expect("the file is written");
    compile(&folder, "2024", "main.rs", &["-o", "main"]);
    let (printed, _) = run(&mut Command::new(folder.join("main")));
    let got: BTreeMap<&str, Vec<f64>> = printed
        .lines()
        .map(|l| {
            let at = l.match_indices(' ').nth(2).expect("three names").0;
            let numbers = l[at..].split([' ', ',', '[', ']']).filter(|n| !n.is_empty());
            (&l[..at], numbers.map(|n| n.parse().expect("a number")).collect())
        })
        .collect();
    for case in CASES {
        for (function, wanted) in expected(case) {
            for (tensor, wanted) in wanted {
                let name = format!("{} {function} {tensor}", case.name);
                near(&name, &got[name.as_str()], wanted);
            }
        }
    }
}

/// A number, or several in brackets.
fn numbers(text: &str) -> Vec<f64> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    inner.split(',').map(|n| n.trim().parse().unwrap_or_else(|_| panic!("`{n}` is a number"))).collect()
}

/// The parts of a list, brackets kept together.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut all) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                all.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(text[from..].trim());
    all
}

const LANGUAGE: &str = include_str!("../../../../docs/language.md");

#[test]
fn the_table_of_kinks_holds() {
    let rows = LANGUAGE.lines().skip_while(|l| *l != "| value | at | derivative |").skip(2);
    let rows: Vec<&str> = rows.take_while(|l| l.starts_with('|')).collect();
    assert!(rows.len() > 30, "the table is there");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|c| c.trim().trim_matches('`')).collect();
        let [_, value, at, derivative, _] = cells.as_slice() else { panic!("{row} has three cells") };
        let at: Vec<(&str, Vec<f64>)> = parts(at)
            .into_iter()
            .map(|p| p.split_once(" = ").expect("a name and a number"))
            .map(|(n, v)| (n, numbers(v)))
            .collect();
        let wanted: Vec<Vec<f64>> = parts(derivative).into_iter().map(numbers).collect();
        assert_eq!(at.len(), wanted.len(), "{row}");
        let axes = |v: &Vec<f64>| if v.len() > 1 { "[I]" } else { "[]" };
        let inputs: Vec<String> = at.iter().map(|(n, v)| format!("{n}: {}", axes(v))).collect();
        let size = at.iter().map(|(_, v)| v.len()).max().unwrap_or(1);
        let sizes = if size > 1 { format!("I: {size}, ") } else { String::new() };
        let text = format!(
            "op: kink\ninputs: {{{}}}\noutputs: {{z: []}}\nforward: [\"z = {value}\"]\ninstances: [{{name: case, {sizes}dtype: f64}}]\n",
            inputs.join(", ")
        );
        let built = built("kink", text);
        let same = |what: &str, got: f64, wanted: f64| {
            assert!(got == wanted || got.is_nan() && wanted.is_nan(), "{row}: {what} is {got}, not {wanted}");
        };
        let given = |name: &str| match name {
            "z_bar" => Some(vec![1.0]),
            name => at.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()),
        };
        if !built.kernel.functions.iter().any(|f| f.name == "vjp_store") {
            assert!(wanted.iter().flatten().all(|w| *w == 0.0), "{row}: there is no derivative");
            continue;
        }
        for (stage, got) in stages(&built, "vjp_store", &given) {
            for ((name, _), wanted) in at.iter().zip(&wanted) {
                let got = &got[&format!("{name}_bar")];
                got.iter().zip(wanted).for_each(|(g, w)| same(&format!("{stage} {name}_bar"), *g, *w));
            }
        }
        // Along each input on its own, where the value is a number.
        for ((moved, v), wanted) in at.iter().zip(&wanted) {
            for (n, wanted) in (0..v.len()).zip(wanted) {
                let along = |name: &str| match name.strip_suffix("_dot") {
                    Some(of) => at
                        .iter()
                        .find(|(n, _)| *n == of)
                        .map(|(_, v)| (0..v.len()).map(|m| if of == *moved && m == n { 1.0 } else { 0.0 }).collect()),
                    None => given(name),
                };
                for (stage, got) in stages(&built, "jvp", &along) {
                    if got["z"][0].is_finite() {
                        same(&format!("{stage} z_dot along {moved}"), got["z_dot"][0], *wanted);
                    }
                }
            }
        }
    }
}

#[test]
fn the_softmax_of_a_masked_row_is_what_it_says() {
    let block = LANGUAGE.split("```yaml\n").find(|b| b.starts_with("program: masked_softmax")).expect("it is there");
    let text =
        format!("{}instances: [{{name: case, N: 2, K: 2, dtype: f64}}]\n", block.split("```").next().unwrap_or(""));
    let built = built("masked_softmax", text);
    let given = |name: &str| {
        Some(match name {
            "x" => vec![1.0, 2.0, 3.0, 3.0],
            "mask" => vec![0.0, 0.0, 1.0, 1.0],
            "x_dot" => vec![1.0, 1.0, 1.0, 0.0],
            "y_bar" => vec![1.0, 2.0, 1.0, 0.0],
            _ => return None,
        })
    };
    for (function, tensor, wanted) in [
        ("forward", "y", [0.0, 0.0, 0.5, 0.5]),
        ("jvp", "y_dot", [0.0, 0.0, 0.25, -0.25]),
        ("vjp_store", "x_bar", [0.0, 0.0, 0.25, -0.25]),
    ] {
        for (stage, got) in stages(&built, function, &given) {
            near(&format!("{function} {stage}"), &got[tensor], &wanted);
        }
    }
}
