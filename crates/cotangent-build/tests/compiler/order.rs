//! Order of summation: takes ops and programs, shipped ones, hand-made ones and others made at random, gives the bits
//! of each value under every class of machines, products fused and not. What holds after it: a value that several
//! functions compute has the same bits in each, whatever stands beside it.

use crate::generated::{BITS, folder, render, run, rustc};
use cotangent_build::certify::Sampler;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::{Role, TensorId};
use cotangent_build::nest::machine::{MACHINES, Machine};
use cotangent_build::nest::plan::Planned;
use cotangent_build::nest::schedule::{Target, schedule};
use cotangent_build::nest::{self, Nest};
use cotangent_build::plain::{Kind, Step};
use cotangent_build::source::Sources;
use cotangent_build::{Build, Options, pipeline};
use std::collections::BTreeMap;

/// Normalises groups of channels that stand in one axis.
const FLAT_GROUPS: &str = "\
params: {eps: real}
inputs: {x: [N, C, S], gamma: [C], beta: [C]}
outputs: {y: [N, C, S]}
sizes: {C: G*K}
forward:
  - mu[n,g] = mean(k,s) x[n, g*K + k, s]
  - v[n,g] = mean(k,s) (x[n, g*K + k, s] - mu[n,g])^2
  - r[n,g] = rsqrt(v[n,g] + eps)
  - y[n, g*K + k, s] = (x[n, g*K + k, s] - mu[n,g]) * r[n,g] * gamma[g*K + k] + beta[g*K + k]
instances:
  - {name: a, N: 2, G: 2, K: 4, S: 16, eps: 1e-5}
  - {name: b, N: 2, G: 4, K: 2, S: [4, 4], eps: 1e-5}
  - {name: c, N: 4, G: 8, K: 8, S: 1, eps: 1e-5}
  - {name: d, N: 3, G: 5, K: 7, S: [3, 5], eps: 1e-5, dtype: f64}
  - {name: e, N: 1, G: 2, K: 8, S: 8, eps: 1e-5, dtype: f64}
  - {name: f, N: 8, G: 4, K: 16, S: [], eps: 1e-5}
  - {name: g, N: 2, G: 2, K: 4, S: 16, eps: 1e-5, layout: {x: [N, S, C], y: [N, S, C]}}
  - {name: h, N: 16, G: 1, K: 3, S: 5, eps: 1e-5}
  - {name: i, N: 1, G: 2, K: 1, S: 128, eps: 1e-5}
  - {name: j, N: 1, G: 4, K: 1, S: 64, eps: 1e-5}
";

/// Statements whose loops other steps may join, cut or share.
const OTHERS: [&str; 5] = [
    // Sums along and across memory, beside elementwise steps.
    "inputs: {x: [N, I], w: [I, J]}\noutputs: {y: [N, J]}\nforward:\n  - m[n] = max(i) x[n,i]\n  - s[n] = sum(i) exp(x[n,i] - m[n])\n  \
     - y[n,j] = sum(i) x[n,i] * w[i,j] / s[n]\n\
     instances:\n  - {name: a, N: 7, I: 33, J: 20}\n  - {name: b, N: 1, I: 64, J: 3, dtype: f64}\n  - {name: c, N: 40, I: 5, J: 1}\n",
    // A sum that a tangent joins along other strides.
    "inputs: {x: [N, K, S], w: [S, K]}\noutputs: {y: [N]}\nforward:\n  - y[n] = sum(k,s) x[n,k,s] * w[s,k]\n\
     instances:\n  - {name: a, N: 5, K: 6, S: 8}\n  - {name: b, N: 16, K: 3, S: 17, dtype: f64}\n",
    // Windows with padding.
    "inputs: {x: [N, S, C], k: [T, C]}\noutputs: {y: [N, C], z: [N]}\nforward:\n  - h[n,s,c] = sum(t) x[n, s + t - 2, c] * k[t,c]\n  \
     - y[n,c] = sum(s) h[n,s,c]^2\n  - z[n] = sum(c,s) x[n, s - 1, c] * y[n,c]\n\
     instances:\n  - {name: a, N: 2, S: 19, C: 3, T: 5}\n  - {name: b, N: 3, S: [5, 6], C: 1, T: [3, 3]}\n  - {name: c, N: 1, S: 40, C: 16, T: 3}\n",
    // What is added to an element by several iterations.
    "inputs: {x: [N, I], w: [N, J]}\noutputs: {y: [N, L]}\nsizes: {L: I + 2*J}\nforward:\n  - u[n,i] = x[n,i] * x[n,i]\n  - y[n, i + 2*j] += u[n,i] * w[n,j]\n\
     instances:\n  - {name: a, N: 3, I: 9, J: 5}\n  - {name: b, N: 2, I: 4, J: 33, dtype: f64}\n",
    // Long rows and tall products.
    "inputs: {a: [I, K], b: [K, J]}\noutputs: {y: [I, J], z: [I]}\nforward:\n  - y[i,j] = sum(k) a[i,k] * b[k,j]\n  - z[i] = sum(j) y[i,j] * y[i,j]\n\
     instances:\n  - {name: a, I: 12, K: 1500, J: 3}\n  - {name: b, I: 2, K: 70, J: 65}\n  - {name: c, I: 33, K: 24, J: 16, dtype: f64}\n",
];

/// What an op that is not made by hand looks like: sums over some axes of tensors that are stored in any order.
fn random(random: &mut Sampler) -> String {
    let mut below = |n: usize| (random.bits() % n as u64) as usize;
    let axes = ["n", "i", "j"];
    let extents: Vec<usize> = (0..3).map(|_| [1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 33][below(11)]).collect();
    let mut order = || {
        let mut all = axes.to_vec();
        (0..3).map(|_| all.remove(below(all.len()))).collect::<Vec<_>>()
    };
    let orders = [order(), order()];
    let declared = |o: &[&str]| o.join(", ").to_uppercase();
    let (x, w) = (format!("x[{}]", orders[0].join(",")), format!("w[{}]", orders[1].join(",")));
    let mut steps = Vec::new();
    let kept = 1 + below(6);
    let [free, bound] = [true, false].map(|f| {
        axes.iter()
            .enumerate()
            .filter(|(n, _)| (kept >> n & 1 == 1) == f)
            .map(|(_, a)| *a)
            .collect::<Vec<_>>()
            .join(",")
    });
    let term = [x.clone(), format!("{x} * {w}"), format!("sin({x}) * {w}"), format!("({x} - {w})^2")];
    steps.push(format!("m[{free}] = sum({bound}) {}", term[below(4)]));
    steps.push(format!("u[n,i,j] = ({x} - m[{free}]) * {}", [w.as_str(), "0.5"][below(2)]));
    let (then, over) = [("n", "i,j"), ("n,i", "j"), ("j", "n,i"), ("i,j", "n")][below(4)];
    steps.push(format!("s[{then}] = sum({over}) {}", ["u[n,i,j]", "u[n,i,j]^2", &format!("u[n,i,j] * {x}")][below(3)]));
    steps.push(format!("y[n,i,j] = u[n,i,j] * s[{then}]"));
    steps.push(format!(
        "z = sum(n,i,j) {}",
        ["u[n,i,j] * u[n,i,j]", &format!("s[{then}] * {w}"), "exp(u[n,i,j])"][below(3)]
    ));
    let steps: String = steps.iter().map(|s| format!("  - {s}\n")).collect();
    format!(
        "inputs: {{x: [{}], w: [{}]}}\noutputs: {{y: [N, I, J], z: []}}\nforward:\n{steps}instances:\n  \
         - {{name: a, N: {}, I: {}, J: {}, dtype: {}}}\n",
        declared(&orders[0]),
        declared(&orders[1]),
        extents[0],
        extents[1],
        extents[2],
        ["f32", "f64"][below(2)],
    )
}

/// Prints the bits of each output that each function writes, hashed; what has one name has one value.
const MAIN: &str = r#"
mod kernels;
use kernels::cotangent::Tensor;

/// What has one name has one value.
fn seed(name: &str) -> f64 {
    name.bytes().fold(1.0, |s, b| s * 0.37 + f64::from(b))
}

macro_rules! run {
    ($({ $path:path, $op:ident, $kernel:ident, $scalar:ident;
         $(fn $f:ident($($r:ident: $R:ident,)* => $($w:ident: $W:ident,)*);)* })*) => {
        $({
            use $path as k;
            $({
                $(let $r: k::$R = filled(seed(stringify!($r)));)*
                $(let mut $w: k::$W = filled(seed(stringify!($w)));)*
                k::$f($(&$r,)* $(&mut $w,)*);
                $(println!("{} {} {} {} {:016x}", stringify!($op), stringify!($kernel), stringify!($w), stringify!($f), hash(&$w));)*
            })*
        })*
    };
}

fn main() {
    kernels::for_each_kernel!(run);
}
"#;

#[test]
fn compiled_values_have_their_bits_under_every_instruction_set() {
    // Of some sizes: the others are interpreted.
    let some = |line: &&str| !line.contains("{name") || ["{name: a", "{name: i"].iter().any(|n| line.contains(n));
    let flat = format!("op: flat\n{}\n", FLAT_GROUPS.lines().filter(some).collect::<Vec<_>>().join("\n"));
    let others = [0, 1].map(|n| {
        (["rows", "strides"][n], format!("{}: {}\n{}", ["op", "program"][n], ["rows", "strides"][n], OTHERS[n]))
    });
    let specs: Vec<(&str, &str)> =
        [("flat", flat.as_str())].into_iter().chain(others.iter().map(|(name, text)| (*name, text.as_str()))).collect();
    let folder = folder("order_runs", &specs);
    render(&folder, "kernels", Build::new().std(true).inline_limit(0));
    std::fs::write(folder.join("main.rs"), format!("{MAIN}{BITS}")).expect("the file is written");
    run(rustc().args(["--edition", "2024", "main.rs", "-Copt-level=1", "-o", "main"]).current_dir(&folder));
    for set in ["portable", "avx2", "avx512"] {
        let text = run(std::process::Command::new(folder.join("main")).env("COTANGENT_ISA", set)).0;
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        let mut again = 0;
        for line in text.lines() {
            let [op, kernel, tensor, function, hash] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            if ["y", "z"].contains(&tensor) {
                let first = *known.entry(format!("{op} {kernel} {tensor}")).or_insert(hash);
                assert_eq!(first, hash, "{set}: {line}");
                again += usize::from(function != "forward");
            }
        }
        assert!(again >= 7, "{again} values again");
    }
}

/// The kernels of a spec.
fn kernels(name: &str, text: &str) -> Vec<Planned> {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let source = sources.add(&format!("{name}.yaml"), text.to_string());
    let certified = pipeline::certified(source, &sources, &mut out);
    let certified = certified.unwrap_or_else(|| panic!("{}\n{text}", out.render(&sources)));
    pipeline::kernels(&certified, &Options::default(), &mut out)
}

type Tensors = BTreeMap<TensorId, Vec<f64>>;

/// The results of a function under one class of machines.
fn results(k: &Planned, nests: &[Vec<Nest>], f: usize, machine: &Machine, given: &Tensors, fused: bool) -> Tensors {
    let mut tensors = given.clone();
    for part in k.plans[f].parts(f) {
        let n = nests[part].iter().find(|n| n.machines.contains(&machine)).expect("a nest for each class");
        nest::eval::run_as(&k.kernel, n, &mut tensors, fused);
    }
    tensors
}

/// Iterations of a kernel beyond which it is too slow to interpret.
const MOST: u64 = 300_000;

/// Demands that all functions of a kernel compute outputs with the same bits; gives how many were compared.
fn compared(planned: &Planned, what: &str) -> usize {
    let k = &planned.kernel;
    let iterations =
        |s: &Step| s.stmts().iter().map(|s| s.vars.iter().map(|v| v.extent as u64).product::<u64>()).sum::<u64>();
    let values = |kind: Kind| matches!(kind, Kind::Forward | Kind::Jvp | Kind::ValueAndGrad | Kind::ValueGradAndHvp);
    let of: Vec<usize> = (0..k.functions.len()).filter(|n| values(k.functions[*n].kind)).collect();
    if of.len() < 2 || of.iter().flat_map(|n| &k.functions[*n].steps).map(iterations).sum::<u64>() > MOST {
        return 0;
    }
    let mut random = Sampler::new(11);
    let number = |t: &TensorId| (*t, (0..k.tensor(*t).elements()).map(|_| 0.1 + random.ordinary(None).abs()).collect());
    let given: Tensors = of
        .iter()
        .flat_map(|n| &k.functions[*n].reads)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(number)
        .collect();
    let nests = schedule(planned, &Target::default()).nests;
    let mut count = 0;
    for (machine, fused) in MACHINES.into_iter().flat_map(|m| [(m, false), (m, true)]) {
        let mut known: BTreeMap<TensorId, Vec<u64>> = BTreeMap::new();
        for f in &of {
            let got = results(planned, &nests, *f, machine, &given, fused);
            let outputs = k.functions[*f].writes.iter().filter(|t| k.tensor(**t).role == Role::Output);
            for t in outputs {
                let bits: Vec<u64> = got[t].iter().map(|x| x.to_bits()).collect();
                let first = known.entry(*t).or_insert_with(|| bits.clone());
                let differ = first.iter().zip(&bits).filter(|(a, b)| a != b).count();
                let (name, class) = (&k.functions[*f].name, machine.name);
                assert_eq!(
                    differ,
                    0,
                    "{} of {} elements of {} in {name} for {class}, fused {fused}: {what}::{}",
                    bits.len(),
                    bits.len(),
                    k.tensor(*t).name,
                    k.name
                );
                count += bits.len();
            }
        }
    }
    count
}

#[test]
fn groups_of_flat_channels() {
    let all = kernels("flat", &format!("op: flat\n{FLAT_GROUPS}"));
    assert_eq!(all.len(), 10);
    assert!(all.iter().all(|k| compared(k, "flat") > 0));
}

#[test]
fn values_have_their_bits_beside_whatever() {
    for text in OTHERS {
        for head in ["op", "program"] {
            let text = format!("{head}: other\n{text}");
            assert!(kernels("other", &text).iter().all(|k| compared(k, &text) > 0));
        }
    }
}

#[test]
fn values_of_random_ops_and_programs_have_their_bits() {
    let rounds = std::env::var("RANDOM_ORDERS").map_or(40, |n| n.parse().expect("a number"));
    let mut sampler = Sampler::new(5);
    let mut count = 0;
    for round in 0..rounds {
        let text = random(&mut sampler);
        let text = format!("{}: random\n{text}", if round % 2 == 0 { "op" } else { "program" });
        count += kernels("random", &text).iter().map(|k| compared(k, &text)).sum::<usize>();
    }
    assert!(count > 100 * rounds, "{count} values");
}

/// Ops alone: in programs a step that is put into a sum in one function and not in another makes these two statements.
#[test]
fn values_of_what_ships_have_their_bits() {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let mut count = 0;
    for spec in crate::ops_and_lists(&mut sources, &mut out) {
        let certified = pipeline::certified(spec, &sources, &mut out).expect("what ships is right");
        for kernel in pipeline::kernels(&certified, &Options::default(), &mut out) {
            count += compared(&kernel, &kernel.kernel.op);
        }
    }
    assert!(count > 10_000, "{count} values");
}
