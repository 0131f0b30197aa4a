//! Branches that are not taken, and points without a slope: takes specs whose steps are infinite or NaN where no branch takes them, and numbers that are
//! so, compares every function at every stage and the generated code with derivatives by hand. What holds after it: nothing of a branch that is not
//! taken gets into a derivative; norms at zero have the derivative zero; the table of kinks in `docs/language.md` is true line by line.

use cotangent_build::certify::Certified;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::Machine;
use cotangent_build::index::{Entry, Stmt, TensorId};
use cotangent_build::plain::{self, Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{Options, nest, pipeline};
use std::collections::BTreeMap;
use std::f64::consts::LN_2;

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

fn text(case: &Case) -> String {
    let dtype = if case.instance.contains("dtype") { "" } else { ", dtype: f64" };
    format!("{}\ninstances:\n  - {{name: case, {}{dtype}}}\n", case.spec, case.instance)
}

fn near(what: &str, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let same = |g: f64, w: f64| w.is_nan() || g == w || (g - w).abs() <= 1e-12 * w.abs().max(1.0);
    assert!(got.iter().zip(wanted).all(|(g, w)| same(*g, *w)), "{what} is {got:?}, not {wanted:?}");
}

fn certified(name: &str, text: String) -> (Certified, Vec<Kernel>, Vec<Vec<Vec<nest::Nest>>>) {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add(&format!("{name}.yaml"), text);
    let c = pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)));
    let kernels = pipeline::kernels(&c, &Options::default(), &mut out);
    let scheduled = pipeline::schedule(&c, kernels, &Options::default(), &mut out);
    assert!(!out.has_errors(), "{}", out.render(&sources));
    let (kernels, nests) = scheduled.into_iter().map(|s| (s.kernel, s.nests)).unzip();
    (c, kernels, nests)
}

/// The results of a function of the first kernel at each stage, by the name of the stage.
fn stages(
    name: &str,
    text: String,
    function: &str,
    given: &dyn Fn(&str) -> Option<Vec<f64>>,
) -> Vec<(String, BTreeMap<String, Vec<f64>>)> {
    let (c, kernels, nests) = certified(name, text);
    let (op, kernel) = (&c.op, &kernels[0]);
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
            let of = |f: &&cotangent_build::index::ProgramFunction| match function.trim_end_matches("_store") {
                name => f.entry.name() == name,
            };
            // Of two Jacobians the kernel has the one of fewer directions: both say the same.
            let functions: Vec<_> = p.functions.iter().filter(of).collect();
            assert!(!functions.is_empty() && (functions.len() == 1 || functions[0].entry == Entry::Jacobian));
            functions.iter().flat_map(|f| f.stmts.clone()).collect()
        }
        None => op.forward.iter().chain(&op.tangent.stmts).chain(&op.adjoint.stmts).cloned().collect(),
    };
    if op.program.as_ref().is_none_or(|p| p.functions.iter().filter(|f| f.entry.name() == function).count() < 2) {
        let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
        let mut machine = Machine::new(op, &binding);
        machine.tensors = values.clone();
        machine.run(&stmts).expect("no element is written twice");
        let zeros = |t: TensorId| vec![0.0; binding.elements(op, t)];
        let value = |t: &TensorId| (named(*t), machine.tensors.get(t).cloned().unwrap_or_else(|| zeros(*t)));
        all.push(("index".to_string(), f.writes.iter().map(value).collect()));
    }
    let mut tensors = given.clone();
    plain::eval::run(kernel, f, &mut tensors);
    all.push(("plain".to_string(), results(&tensors)));
    for nest in &nests[0][n] {
        let mut tensors = given.clone();
        nest::eval::run(kernel, nest, &mut tensors);
        all.push((nest.machines[0].name.to_string(), results(&tensors)));
    }
    all
}

#[test]
fn every_stage_keeps_branches_apart() {
    for case in CASES {
        for (function, wanted) in case.expected {
            let given = |name: &str| case.given.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_vec());
            for (stage, got) in stages(case.name, text(case), function, &given) {
                for (tensor, wanted) in *wanted {
                    near(&format!("{} {function} {stage}: {tensor}", case.name), &got[*tensor], wanted);
                }
            }
        }
    }
}
