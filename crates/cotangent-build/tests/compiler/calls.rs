//! Calls against formulas: takes pairs of specs, one whose steps call ops and one that says the same in indices, and
//! compares value, adjoint and tangent in the interpreter, at groups of rank 0, 1 and 2. What holds after it: axes,
//! parameters and sizes go where they should.

use cotangent_build::certify::Sampler;
use cotangent_build::derive;
use cotangent_build::diagnostic::{Code, Diagnostics};
use cotangent_build::index::bind::{Binding, ParamValue};
use cotangent_build::index::eval::Interpreter;
use cotangent_build::index::{Op, ParamKind, TensorId, resolve};
use cotangent_build::library::Library;
use cotangent_build::pipeline;
use cotangent_build::source::Sources;
use cotangent_build::spec;
use std::collections::BTreeMap;

/// Declarations, steps with calls, and the same steps in indices.
const PAIRS: &[(&str, &str, &str)] = &[
    (
        "inputs: {x: [B, N, D], w: [D, H]}\noutputs: {y: [B, N, H]}",
        "[\"y = matmul(x, w)\"]",
        "[\"y[b,n,h] = sum(d) x[b,n,d] * w[d,h]\"]",
    ),
    // The result is declared in another order, and the first operand is stored in one that `matmul` does not know.
    (
        "inputs: {x: [D, B], w: [H, D]}\noutputs: {y: [H, B]}",
        "[\"y = matmul(x, w)\"]",
        "[\"y[h,b] = sum(d) x[d,b] * w[h,d]\"]",
    ),
    // What the result keeps is not summed over, nor what the call leaves out.
    (
        "inputs: {x: [H, M, D], w: [H, N, D]}\noutputs: {y: [H, M, N]}",
        "[\"y = matmul(x, w)\"]",
        "[\"y[h,m,n] = sum(d) x[h,m,d] * w[h,n,d]\"]",
    ),
    (
        "inputs: {x: [H, M, D], w: [H, N, D]}\noutputs: {y: [H, M, N]}",
        "[\"s = matmul(x, w; J = [D])\", \"y = softmax(s; J = [N])\"]",
        "[\"s[h,m,n] = sum(d) x[h,m,d] * w[h,n,d]\", \"c[h,m] = max(n) s[h,m,n]\", \"e[h,m,n] = exp(s[h,m,n] - c[h,m])\", \
          \"y[h,m,n] = e[h,m,n] / (sum(r in N) e[h,m,r])\"]",
    ),
    // Calls within calls, and one tensor twice.
    (
        "inputs: {x: [B, D], w: [D, C], b: [C]}\noutputs: {y: [B, C]}",
        "[\"y = tanh(bias_add(matmul(x, w), b))\"]",
        "[\"y[b,c] = tanh(sum(d) x[b,d] * w[d,c] + b[c])\"]",
    ),
    ("inputs: {x: [I]}\noutputs: {y: [I]}", "[\"y = mul(x, x)\"]", "[\"y[i] = x[i] * x[i]\"]"),
    // A tensor has an axis twice: the first stands for the first.
    (
        "inputs: {x: [B, D], w: [D, D]}\noutputs: {y: [B, D]}",
        "[\"y = matmul(x, w; I = [B], J = [D], K = [D])\"]",
        "[\"y[b, e in D] = sum(d) x[b,d] * w[d,e]\"]",
    ),
    (
        "inputs: {x: [D, B], w: [D, D]}\noutputs: {y: [B, D]}",
        "[\"y = matmul(x, w; J = [D], K = [D])\"]",
        "[\"y[b, e in D] = sum(d) x[d,b] * w[d,e]\"]",
    ),
    (
        "inputs: {w: [D, D]}\noutputs: {y: [D, D]}",
        "[\"y = mul(w, w; I = [D, D])\"]",
        "[\"y[d, e in D] = w[d,e] * w[d,e]\"]",
    ),
    // A parameter is handed on; two derived sizes, the second named.
    (
        "params: {step: S}\ninputs: {x: [N, S, Cx], k: [T, Cx, C], r: [T, C, E]}\noutputs: {y: [N, P, E]}\n\
         sizes: {O: (S + 2 - (T - 1) - 1) / step + 1, P: ((S + 2 - (T - 1) - 1) / step + 1 + 3 - 2*(T - 1) - 1) / 1 + 1}",
        "[\"a = conv(x, k; stride = step, lo = 1, hi = 1, dilation = 1)\", \
          \"y = conv(a, r; stride = 1, lo = 2, hi = 1, dilation = 2, O = [P])\"]",
        "[\"a[n,o,c] = sum(t,cx) x[n, o*step + t - 1, cx] * k[t,cx,c]\", \
          \"y[n,p,e] = sum(t,c) a[n, p + 2*t - 2, c] * r[t,c,e]\"]",
    ),
];

fn op(declared: &str, forward: &str, derived_sizes: bool) -> Op {
    // Sizes that calls derive are left out where there are calls.
    let declared: Vec<&str> = declared.lines().filter(|l| derived_sizes || !l.starts_with("sizes:")).collect();
    let text = format!("op: pair\n{}\nforward: {forward}\nadjoint: derived\ninstances: []\n", declared.join("\n"));
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("pair.yaml", text);
    let spec = spec::parse(id, &sources, &mut out);
    let op = spec.and_then(|spec| resolve::resolve(&spec, &Library::new(&[], &sources), &mut out));
    let mut op = op.unwrap_or_else(|| panic!("{}", out.render(&sources)));
    derive::complete(&mut op, &mut out);
    assert!(!out.has_errors(), "{}", out.render(&sources));
    op
}

/// Extents by the names of axes, so that both ops of a pair have the same.
fn binding(op: &Op, extents: &BTreeMap<String, Vec<i64>>, rank: usize) -> Option<Binding> {
    let given = op.axes.iter().map(|a| a.size.is_none().then(|| extents[&a.name].clone())).collect::<Vec<_>>();
    let params = op.params.iter().map(|p| match p.kind {
        ParamKind::PerDim(_) => ParamValue::Ints(vec![2; rank]),
        ParamKind::Int => ParamValue::Int(2),
        ParamKind::Real => ParamValue::Real(0.5),
    });
    Binding::new(op, &given, params.collect()).ok()
}

fn named(op: &Op, name: &str) -> TensorId {
    op.find(name).unwrap_or_else(|| panic!("a tensor `{name}`"))
}

/// Every tensor of the interface and its derivatives after all rules have run, by name.
fn results(op: &Op, binding: &Binding) -> BTreeMap<String, Vec<f64>> {
    let name = |t: TensorId| op.tensor(t).name.clone();
    let (inputs, outputs) = (op.inputs(), op.outputs());
    let mut interpreter = Interpreter::new(op, binding);
    let starts = inputs.iter().flat_map(|t| [name(*t), format!("{}_dot", name(*t))]);
    for (n, start) in starts.chain(outputs.iter().map(|t| format!("{}_bar", name(*t)))).enumerate() {
        let t = named(op, &start);
        let mut sampler = Sampler::new(n as u64 + 1);
        interpreter.tensors.insert(t, (0..binding.elements(op, t)).map(|_| sampler.ordinary(None)).collect());
    }
    for rule in [&op.forward, &op.tangent.stmts, &op.adjoint.stmts] {
        interpreter.run(rule).expect("nothing is written twice");
    }
    let ends = inputs.iter().map(|t| format!("{}_bar", name(*t)));
    let ends = ends.chain(outputs.iter().flat_map(|t| [name(*t), format!("{}_dot", name(*t))]));
    ends.map(|end| {
        let t = named(op, &end);
        let values = interpreter.tensors.get(&t).cloned();
        (end, values.unwrap_or_else(|| vec![0.0; binding.elements(op, t)]))
    })
    .collect()
}

#[test]
fn calls_mean_what_their_formulas_do() {
    let mut compared = 0;
    for (declared, calls, formulas) in PAIRS {
        let (called, written) = (op(declared, calls, false), op(declared, formulas, true));
        for rank in 0..=2 {
            // Different for each axis and dimension, so that one taken for another shows.
            let extents = |op: &Op| -> BTreeMap<String, Vec<i64>> {
                let first = |name: &str, n: usize| match name {
                    "S" => 7,
                    "T" => 2,
                    _ => 2 + (n % 4) as i64,
                };
                let axes = op.axes.iter().enumerate();
                axes.map(|(n, a)| {
                    let extent = |d: usize| first(&a.name, n) + d as i64;
                    (a.name.clone(), (0..rank).map(extent).collect())
                })
                .collect()
            };
            let extents = extents(&written);
            let (Some(c), Some(w)) = (binding(&called, &extents, rank), binding(&written, &extents, rank)) else {
                panic!("{declared}: no shape of rank {rank}");
            };
            let (found, expected) = (results(&called, &c), results(&written, &w));
            for (name, expected) in expected {
                let found = &found[&name];
                assert_eq!(found.len(), expected.len(), "{calls}, rank {rank}: {name}");
                for (a, b) in found.iter().zip(&expected) {
                    assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{calls}, rank {rank}: {name}: {a} is not {b}");
                    compared += 1;
                }
            }
        }
    }
    println!("{compared} numbers compared");
    assert!(compared > 5000, "{compared} numbers");
}

/// Rules through calls are compared with what follows from the formulas alone: a wrong one of the op that is called
/// shows in its caller.
#[test]
fn rules_through_calls_are_certified() {
    let caller = |factor: &str| {
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let callee = format!(
            "op: cube\ninputs: {{x: [I]}}\noutputs: {{y: [I]}}\nforward: [\"y[i] = x[i]^3\"]\nadjoint: [\"x_bar[i] += {factor} * x[i]^2 * y_bar[i]\"]\ninstances: []\n"
        );
        let program =
            "program: twice\ninputs: {x: [I]}\noutputs: {y: [I]}\nforward: [\"y = cube(cube(x))\"]\ninstances: []\n";
        let ids =
            [("cube.yaml", callee), ("twice.yaml", program.to_string())].map(|(name, text)| sources.add(name, text));
        let specs: Vec<_> = ids.iter().filter_map(|id| spec::parse(*id, &sources, &mut out)).collect();
        let library = Library::new(&specs, &sources);
        let certified = pipeline::certified_spec(specs[1].clone(), &library, &mut out);
        (certified.map(|c| c.certificate.adjoint.to_string()), out.iter().map(|d| d.code).collect::<Vec<_>>())
    };
    let (proof, errors) = caller("3");
    assert!(errors.is_empty() && proof.as_ref().is_some_and(|p| p.starts_with("equal")), "{proof:?}, {errors:?}");
    let (proof, errors) = caller("2");
    assert!(proof.is_none() && errors.contains(&Code::WrongAdjoint), "{errors:?}");
}
