//! Conditions in reductions that compare two indices: takes small programs, demands that entry points without these
//! conditions write what the formula says, also where what is not taken is infinite or NaN, at every stage, and that
//! every reduction has a tile then. What holds after it: a tile sees the terms that the formula has.

use cotangent_build::certify::{Certified, Sampler};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::Interpreter;
use cotangent_build::index::{Role, TensorId, print};
use cotangent_build::plain::{Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{Options, nest, pipeline, plain};
use std::collections::BTreeMap;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// Steps of `y[n, d]`, all of which have tiles without their conditions. Of `l` the elements above the diagonal are
/// never taken.
const TILED: &[&str] = &[
    // On an operand.
    "y[n,d] = sum(e in D) where(e <= d, l[d,e], 0) * x[n,e]",
    "y[n,d] = sum(e in D) where(e < d, l[d,e], where(e == d, 1, 0)) * x[n,e]",
    "y[n,d] = sum(e in D) where(not (e > d), exp(l[d,e]), 2) * x[n,e]",
    "y[n,d] = max(e in D) (where(e <= d, l[d,e], -3) + x[n,e])",
    "y[n,d] = sum(e in D) where(e <= d, where(w[e] > 0.5, l[d,e], 1), w[e]) * x[n,e]",
    // On a term.
    "y[n,d] = sum(e in D) where(e <= d, l[d,e] * x[n,e], 0)",
    "y[n,d] = sum(e in D) where(e <= d, l[d,e]^2 - x[n,e], 0.25 * x[n,d])",
    "y[n,d] = prod(e in D) where(e <= d, 1 + 0.1 * l[d,e] * x[n,e], 1)",
    // On a term, both of whose indices are summed.
    "y[n,d] = sum(a in D, b in D) where(b <= a, l[a,b] * x[n,a], 0) * w[d]",
    // On the target.
    "y[n,d] = sum(e in D) where(n <= d, w[e] * x[n,e], 0)",
    "y[n,d] = sum(e in D) where(n != d, where(e <= d, l[d,e], 0) * x[n,e], 0)",
];

/// Steps that keep their conditions.
const KEPT: &[&str] = &[
    // Few coordinates meet it.
    "y[n,d] = sum(e in D) where(n == d, w[e] * x[n,e], 0)",
    // It compares all indices that there are.
    "y[n,d] = sum(e in D) where(e <= d + n, w[e] * x[n,e], 0)",
    // A read that may fall outside.
    "y[n,d] = sum(e in D) where(e <= d, x[n,e - 1], 0)",
    // A value decides too, so nobody knows how often it is met.
    "y[n,d] = sum(e in D) where(n <= d and w[d] > 0.5, w[e] * x[n,e], 0)",
    // One index.
    "y[n,d] = sum(e in D) where(e <= 2, l[d,e], 0) * x[n,e]",
];

/// Steps in which a product is the diagonal of the sum beside it, and what is added to the sum's operand there.
const DIAGONALS: &[(&str, &str)] = &[
    ("y[n,d] = w[d] * x[n,d] + sum(e in D) where(e < d, l[d,e], 0) * x[n,e]", "t[d, d] += w[d]"),
    ("y[n,d] = sum(e in D) x[n,e] * where(e <= d, 0, l[d,e]) - x[n,d]", "t[d, d] += -1"),
    ("y[n,d] = sum(e in D) x[n,e] * where(not (d != e), 0, l[d,e]) + w[d] * x[n,d]", "t[d, d] += w[d]"),
    (
        "y[n,d] = 2 - l[d,d] * x[n,d] * w[d] - sum(e in D) where(e < d and w[e] > 0.5, l[d,e], 0) * x[n,e]",
        "t[d, d] += l[d, d] * w[d]",
    ),
];

/// Steps in which it is none, or nothing would be gained.
const APART: &[&str] = &[
    // The sum has a diagonal of its own.
    "y[n,d] = w[d] * x[n,d] + sum(e in D) where(e <= d, l[d,e], 0) * x[n,e]",
    // Another factor.
    "y[n,d] = w[d] * x[n,d]^2 + sum(e in D) where(e < d, l[d,e], 0) * x[n,e]",
    // The operand would have all indices of the sum.
    "y[n,d] = x[n,d] * x[n,d] + sum(e in D) where(e < d, l[d,e], 0) * x[n,e]",
    "y[n,d] = w[n] * x[n,d] + sum(e in D) where(e < d, l[n,e], 0) * x[n,e]",
];

fn certified(step: &str) -> Certified {
    certified_by(step, "l, x")
}

fn certified_by(step: &str, wrt: &str) -> Certified {
    let text = format!(
        "program: conditions\ninputs: {{l: [D, D], x: [N, D], w: [D]}}\noutputs: {{z: []}}\nwrt: [{wrt}]\nforward:\n  - {step}\n\
         \x20 - z = sum(n,d) y[n,d] * w[d]\ninstances:\n  - {{name: short, N: 3, D: 4, dtype: f64}}\n\
         \x20 - {{name: long, N: 9, D: 19, dtype: f64, functions: [forward, value_and_grad]}}\n"
    );
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("conditions.yaml", text.clone());
    pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}\n{text}", out.render(&sources)))
}

/// Inputs; what is above the diagonal is not a number, if `odd`.
fn inputs(c: &Certified, binding: &Binding, odd: bool) -> BTreeMap<TensorId, Vec<f64>> {
    let mut random = Sampler::new(5);
    let mut all = BTreeMap::new();
    for t in c.op.inputs() {
        let mut values: Vec<f64> = (0..binding.elements(&c.op, t)).map(|_| random.unit()).collect();
        if odd && c.op.tensor(t).name == "l" {
            let n = values.len().isqrt();
            let others = [NAN, INF, -INF];
            (0..n * n).filter(|at| at % n > at / n).for_each(|at| values[at] = others[at % 3]);
        }
        all.insert(t, values);
    }
    all
}

/// Values and gradient as the formula and its rule say.
fn meaning(c: &Certified, binding: &Binding, inputs: &BTreeMap<TensorId, Vec<f64>>) -> BTreeMap<TensorId, Vec<f64>> {
    let op = &c.op;
    let mut m = Interpreter::new(op, binding);
    m.tensors.extend(inputs.clone());
    let bar = |t: &TensorId| matches!(op.tensor(*t).role, Role::Cotangent(of) if op.tensor(of).role == Role::Output);
    let seed = (0..op.tensors.len()).map(TensorId).find(bar).expect("the output has a cotangent");
    m.tensors.insert(seed, vec![1.0]);
    m.run(&op.forward).and_then(|()| m.run(&op.adjoint.stmts)).expect("no element is written twice");
    m.tensors
}

fn compare(what: &str, got: &[f64], wanted: &[f64]) {
    for (n, (g, w)) in got.iter().zip(wanted).enumerate() {
        let same = g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= 1e-12 * w.abs().max(1.0);
        assert!(same, "{what}[{n}] is {g}, not {w}");
    }
}

/// Runs the statements of the entry points, the plain statements and every nest.
fn check(step: &str, odd: bool) {
    let c = certified(step);
    let mut out = Diagnostics::default();
    let kernels = pipeline::kernels(&c, &Options::default(), &mut out);
    for compiled in pipeline::schedule(&c, kernels, &Options::default(), &mut out) {
        let kernel: &Kernel = &compiled.kernel;
        let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
        let given = inputs(&c, &binding, odd);
        let wanted = meaning(&c, &binding, &given);
        let program = c.op.program.as_ref().expect("a program");
        for f in kernel.functions.iter().filter(|f| matches!(f.kind, Kind::Forward | Kind::ValueAndGrad)) {
            let entry = program.functions.iter().find(|e| e.entry.name() == f.name).expect("an entry point");
            let mut m = Interpreter::new(&c.op, &binding);
            m.tensors.extend(given.clone());
            m.run(&entry.stmts).expect("no element is written twice");
            let mut plain: BTreeMap<_, _> = f.reads.iter().map(|t| (*t, given[t].clone())).collect();
            plain::eval::run(kernel, f, &mut plain);
            let mut runs = vec![("statements", m.tensors), ("plain", plain)];
            let n = kernel.functions.iter().position(|g| g.name == f.name).expect("it is there");
            // Unrolled graphs promise the same of finite numbers alone.
            for nest in compiled.nests[n].iter().filter(|nest| !odd || !nest.vars.is_empty()) {
                let mut by_nest = f.reads.iter().map(|t| (*t, given[t].clone())).collect();
                nest::eval::run(kernel, nest, &mut by_nest);
                runs.push((nest.machines[0].name, by_nest));
            }
            for (stage, got) in runs {
                for t in &f.writes {
                    let what = format!("{step}: {} {} {stage}: {}", kernel.name, f.name, c.op.tensor(*t).name);
                    // What no statement writes is zero.
                    let zeros = vec![0.0; kernel.tensor(*t).elements()];
                    compare(&what, got.get(t).unwrap_or(&zeros), wanted.get(t).unwrap_or(&zeros));
                }
            }
        }
    }
}

#[test]
fn entry_points_without_conditions_compute_the_same() {
    TILED.iter().chain(KEPT).chain(APART).for_each(|step| check(step, false));
    DIAGONALS.iter().for_each(|(step, _)| check(step, false));
}

#[test]
fn what_is_not_taken_never_leaks() {
    // Those of `w` alone read all of `l`, or none.
    TILED.iter().filter(|step| !step.contains("w[e]")).for_each(|step| check(step, true));
    check(DIAGONALS[0].0, true);
}

#[test]
fn a_product_beside_a_sum_is_its_diagonal() {
    for (step, added) in DIAGONALS {
        let c = certified(step);
        for entry in ["forward", "jvp", "value_and_grad"] {
            let statements = statements(&c, entry);
            assert!(statements.contains(added), "{entry}\n{statements}");
            assert_eq!(tied(&statements), 0, "{entry}\n{statements}");
        }
    }
    for step in APART {
        let statements = statements(&certified(step), "forward");
        assert!(!statements.contains("t[d, d]"), "{statements}");
    }
}

#[test]
fn a_diagonal_alone_has_no_cotangent_of_the_whole_operand() {
    let of = |wrt| statements(&certified_by(DIAGONALS[0].0, wrt), "value_and_grad");
    assert!(
        of("w, l").contains("w_bar[d] = t_bar[d, d]") || of("w, l").contains("w_bar[d] += t_bar[d, d]"),
        "{}",
        of("w, l")
    );
    assert!(!of("w").contains("t_bar"), "{}", of("w"));
}

/// The statements of an entry point, one a line.
fn statements(c: &Certified, name: &str) -> String {
    let program = c.op.program.as_ref().expect("a program");
    let entry = program.functions.iter().find(|e| e.entry.name() == name).expect("an entry point");
    entry.stmts.iter().map(|s| print::stmt(&c.op, s) + "\n").collect()
}

/// The lines of sums and extrema that compare indices of each other.
fn tied(statements: &str) -> usize {
    let reduces = |line: &&str| ["sum(", "max(", "prod("].iter().any(|r| line.contains(r));
    let pairs = ["n <= d", "n != d", "e <= d", "e < d", "e == d", "e > d", "b <= a", "n == d", "e <= n + d"];
    statements.lines().filter(reduces).filter(|line| pairs.iter().any(|p| line.contains(p))).count()
}

#[test]
fn no_reduction_compares_two_indices() {
    for step in TILED {
        let c = certified(step);
        for entry in ["forward", "jvp", "value_and_grad"] {
            let statements = statements(&c, entry);
            assert_eq!(tied(&statements), 0, "{entry}\n{statements}");
        }
    }
    for step in &KEPT[..4] {
        let c = certified(step);
        let statements = statements(&c, "forward");
        assert_eq!(tied(&statements), 1, "{statements}");
        assert!(!statements.contains("t["), "{statements}");
    }
}

#[test]
fn a_local_is_made_once_and_is_the_same_in_every_entry_point() {
    let c = certified(TILED[0]);
    let made = |entry: &str| {
        let all = statements(&c, entry);
        all.lines().filter(|line| line.contains("where(e <= d, l[d, e], 0)")).map(str::to_owned).collect::<Vec<_>>()
    };
    let forward = made("forward");
    assert_eq!(forward.len(), 1, "{}", statements(&c, "forward"));
    assert_eq!(forward, made("value_and_grad"));
}
