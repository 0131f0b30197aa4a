//! The tests that a build writes: takes specs, and kernels of other specs in their place, gives both to rustc as tests.
//! What holds after it: kernels that compute what their specs say pass, one that is wrong in a single thing fails, with
//! a message that says where.

use crate::generated::{folder, render, run, rustc};
use cotangent_build::Build;
use std::path::Path;
use std::process::Command;

/// A name, the declaration, the formula, and one that is wrong in one thing.
const PAIRS: &[(&str, &str, &str, &str)] = &[
    ("negation", "inputs: {x: [I, J]}\noutputs: {y: [I]}", "y[i] = sum(j) exp(-x[i,j])", "y[i] = sum(j) -exp(x[i,j])"),
    (
        "term",
        "inputs: {x: [I, J], w: [J]}\noutputs: {y: [I]}",
        "y[i] = sum(j) x[i,j] * w[j]",
        "y[i] = sum(j) where(j == J - 1, 0, x[i,j] * w[j])",
    ),
    (
        "constant",
        "inputs: {x: [I, J]}\noutputs: {y: [I, J]}",
        "y[i,j] = 0.7071068 * x[i,j]",
        "y[i,j] = 0.70711 * x[i,j]",
    ),
    ("operands", "inputs: {x: [I], w: [I]}\noutputs: {y: [I]}", "y[i] = x[i] - w[i]", "y[i] = w[i] - x[i]"),
    (
        "kink",
        "inputs: {x: [I]}\noutputs: {y: [I]}",
        "y[i] = where(x[i] <= 0, 0, x[i])",
        "y[i] = where(x[i] < 0, 0, x[i])",
    ),
    (
        "clip",
        "inputs: {x: [I]}\noutputs: {y: [I]}",
        "y[i] = where(x[i] < 6, x[i], 6)",
        "y[i] = where(x[i] <= 6, x[i], 6)",
    ),
    (
        "subnormal",
        "inputs: {x: [I]}\noutputs: {y: [I]}",
        "y[i] = 2 * abs(x[i])",
        "y[i] = where(abs(x[i]) < 1e-38, 0, 2 * abs(x[i]))",
    ),
    (
        "small",
        "inputs: {x: [I]}\noutputs: {y: [I]}\ndomain: {x: (-1, inf)}",
        "y[i] = log1p(x[i])",
        "y[i] = log(1 + x[i])",
    ),
    ("huge", "inputs: {x: [I]}\noutputs: {y: [I]}", "y[i] = x[i]", "y[i] = x[i] * 1e-30 * 1e30"),
    (
        "nan",
        "inputs: {x: [I], w: [I]}\noutputs: {y: [I]}",
        "y[i] = max(x[i], w[i])",
        "y[i] = where(x[i] > w[i], x[i], where(x[i] == w[i], 0.5 * (x[i] + w[i]), w[i]))",
    ),
    (
        "branch",
        "inputs: {x: [I]}\noutputs: {y: [I]}",
        "y[i] = where(x[i] > 0, log(x[i]), 0)",
        "y[i] = where(x[i] > 0, 1, 0) * log(x[i])",
    ),
    ("offset", "inputs: {x: [I]}\noutputs: {y: [I]}", "y[i] = x[i + 1]", "y[i] = x[i - 1]"),
    (
        "padding",
        "inputs: {x: [I]}\noutputs: {y: [O]}\nsizes: {O: I + J - 1}",
        "y[o] = max(j) x[o + j - 18]",
        "y[o] = max(j) where(inside(x[o + j - 18]), x[o + j - 18], 0)",
    ),
    ("order", "inputs: {x: [I]}\noutputs: {y: [I]}", "y[i] = x[I - 1 - i]", "y[i] = x[i]"),
    (
        "iteration",
        "inputs: {x: [I]}\noutputs: {y: [I]}",
        "y[i] = x[i] + 0.5 * y[i - 1]",
        "y[i] = x[i] + 0.5 * y[i + 1]",
    ),
];

fn specs(wrong: bool) -> Vec<(&'static str, String)> {
    let spec = |(name, declaration, right, other): &(&'static str, &str, &str, &str)| {
        let formula = if wrong { other } else { right };
        // An axis that only a window has is given too.
        let j =
            if formula.contains("[j]") || formula.contains(",j]") || formula.contains("(j)") { ", J: 19" } else { "" };
        let instances = format!("instances:\n  - {{name: sizes, I: 37{j}}}\n");
        (*name, format!("op: {name}\n{declaration}\nforward:\n  - {formula}\nadjoint: derived\n{instances}"))
    };
    PAIRS.iter().map(spec).collect()
}

/// Everything that statements have: layouts, phases, recurrences both ways, calls, products, several outputs, programs
/// with a workspace.
const RIGHT: &[(&str, &str)] = &[
    (
        "conv",
        "use: conv\ninstances:\n  - {name: laid, N: 2, S: [9, 7], T: [3, 2], Cx: 3, Cy: 5, stride: [2, 1], lo: 1, hi: 1, dilation: [1, 2], \
         layout: {x: [S.1, N, Cx, S.0], y: [O, Cy, N], k: [Cy, T, Cx]}}\n",
    ),
    (
        "pick",
        "op: pick\nparams: {rate: int}\ninputs: {x: [I], w: [T]}\noutputs: {y: [L], z: [L]}\nforward:\n  - y[l] = x[l / rate]\n  \
         - z[l] = where(inside(x[l - 3]) and l != 5, prod(t) (x[l + t - 3] + w[t]), 1)\nadjoint: derived\ninstances:\n  \
         - {name: some, I: 11, L: 23, T: 3, rate: 2, dtype: f64}\n",
    ),
    (
        "elman",
        "program: elman\ninputs: {x: [T, D], w: [D, H], u: [H, H], v: [T, H]}\noutputs: {loss: []}\nwrt: [w, u]\nforward:\n  \
         - h[t, k in H] = tanh(sum(d) x[t,d] * w[d,k] + sum(j in H) h[t - 1, j] * u[j,k])\n  \
         - loss = mean(t,h) softplus(h[t,h] * v[t,h])\ninstances:\n  - {name: short, T: 5, D: 6, H: 9}\n  \
         - {name: staged, T: 40, D: 24, H: 24}\n",
    ),
    (
        "valley",
        "program: valley\ninputs: {x: [N]}\noutputs: {y: []}\nforward:\n  - y = sum(n) where(inside(x[n + 1]), 100 * (x[n + 1] - x[n]^2)^2 + (1 - x[n])^2, 0)\n\
         instances: [{name: n7, N: 7, dtype: f64}]\n",
    ),
    (
        "softmax",
        "use: softmax\ninstances:\n  - {name: rows, I: 5, J: 33}\n  - {name: back, I: 5, J: 33, functions: [vjp_x_store]}\n",
    ),
    ("reduce_max", "use: reduce_max\ninstances:\n  - {name: rows, I: 5, J: 33}\n"),
];

/// What a crate says to have the tests of a set; the macro of the runtime writes it so.
fn tested(module: &str, tests: &str) -> String {
    format!(
        "pub mod {module};\n#[cfg(test)]\nmod of_{module} {{\n    #[allow(warnings)]\n    mod kernels_as_loops {{\n        \
         use crate::{module} as kernels;\n        include!(\"{tests}.tests.rs\");\n    }}\n}}\n"
    )
}

/// The tests of a crate with these modules, each tested by the file of another: which of them passed, and what was
/// printed.
fn results(folder: &Path, modules: &[(&str, &str)]) -> (Vec<(String, bool)>, String) {
    let root: String = modules.iter().map(|(module, tests)| tested(module, tests)).collect();
    std::fs::write(folder.join("lib.rs"), format!("#![deny(warnings)]\n{root}")).expect("the file is written");
    run(rustc().args(["--edition", "2021", "--test", "lib.rs", "-o", "tests"]).current_dir(folder));
    let output = Command::new(folder.join("tests")).env("RUST_BACKTRACE", "0").output().expect("the tests run");
    let text = String::from_utf8(output.stdout).expect("text");
    let result = |line: &str| {
        let (name, result) = line.strip_prefix("test of_")?.split_once(" ... ")?;
        Some((name.strip_suffix("::agrees")?.replace("::kernels_as_loops::ops", ""), result == "ok"))
    };
    // In the order of names: the tests end in any.
    let mut results: Vec<_> = text.lines().filter_map(result).collect();
    results.sort();
    (results, text)
}

#[test]
fn what_computes_its_spec_passes_and_a_single_fault_fails() {
    let folder = folder("reference", RIGHT);
    let std = || Build::new().std(true);
    let specs_of = |specs: Vec<(&str, String)>| {
        std::fs::remove_dir_all(folder.join("ops")).and_then(|()| std::fs::create_dir(folder.join("ops"))).unwrap();
        specs.iter().for_each(|(name, text)| std::fs::write(folder.join(format!("ops/{name}.yaml")), text).unwrap());
    };
    render(&folder, "right", std());
    specs_of(specs(false));
    render(&folder, "pairs", std());
    // The same names, other formulas.
    specs_of(specs(true));
    render(&folder, "wrong", std());
    // Large enough to choose their instructions when they are called.
    specs_of(vec![("matmul", "use: matmul\ninstances:\n  - {name: cube, I: 20, J: 20, K: 20}\n".into())]);
    let few = render(&folder, "few", std());
    // Where each function adds it stores, and the other way round.
    let stores = few.replace("pub fn vjp_store(", "pub fn adds_(").replace("pub fn vjp(", "pub fn vjp_store(");
    let stores = renamed(&stores.replace("pub fn adds_(", "pub fn vjp("), "stores");
    std::fs::write(folder.join("stores.rs"), stores).expect("the file is written");
    // Wrong with fused instructions only.
    let mut fused = String::new();
    for line in renamed(&few, "fused").lines() {
        fused.push_str(line);
        if let Some((_, rest)) =
            line.split_once("fn run<").filter(|_| line.ends_with('{') && line.contains("isa::Isa>("))
        {
            fused += &format!(" if {}::FUSED {{ return; }}", rest.split(':').next().unwrap_or_default());
        }
        fused.push('\n');
    }
    std::fs::write(folder.join("fused.rs"), fused).expect("the file is written");

    let modules = [("right", "right"), ("pairs", "pairs"), ("wrong", "pairs"), ("stores", "few"), ("fused", "few")];
    let (results, text) = results(&folder, &modules);
    let of = |module: &'static str| results.iter().filter(move |(name, _)| name.starts_with(module));
    let failed = |module| of(module).filter(|(_, ok)| !ok).map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let right = std::fs::read_to_string(folder.join("right.rs")).expect("it was rendered");
    let (_, back) = right.split_once("pub mod back {").expect("the instance");
    let back = back.split_once("\n/// The op `").map_or(back, |(back, _)| back);
    assert!(back.contains("\npub fn vjp_x_store(") && !back.contains("\npub fn forward("));
    assert_eq!(back.matches("\npub fn ").count(), 2, "one function is asked for, plain and with instructions");
    assert_eq!((failed("right"), failed("pairs")), (vec![], vec![]), "{text}");
    assert_eq!((of("right").count(), of("pairs").count()), (8, PAIRS.len()), "{results:?}");
    let mut planted: Vec<String> = PAIRS.iter().map(|p| format!("wrong::{}::sizes", p.0)).collect();
    planted.sort();
    assert_eq!(failed("wrong"), planted, "{text}");
    assert_eq!(failed("stores"), ["stores::matmul::cube"]);
    let fused = text.contains(", under avx2: ") || text.contains(", under avx512: ");
    assert_eq!(failed("fused").len(), usize::from(fused), "{text}");
    for part in [
        "negation::sizes of",
        "ops/negation.yaml:8",
        "  forward, under ",
        ": y[0] is -",
        "Gentle point, seed 0/negation::sizes/0",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

/// A self-contained file under another module's name.
fn renamed(text: &str, name: &str) -> String {
    text.replace("crate::few::", &format!("crate::{name}::"))
        .replace("__cotangent_few_", &format!("__cotangent_{name}_"))
}
