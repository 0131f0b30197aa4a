//! Names: takes every word that the emitter writes, lexed from the templates and from what it renders, and gives it to
//! tensors, locals, ops, instances and axes of specs. What holds after it: these compile, for every instruction set,
//! with a prefix, for C and for `ndarray`; so no name of a spec means something else in generated code.

use crate::generated::{self, SQUARE, folder, run, rustc};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::source::Sources;
use cotangent_build::{Build, InstructionSet, pipeline};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Specs whose kernels hold every kind of text that there is: loops, lanes, tiles, panels, transposes, speculative
/// blocks, powers, folds, unrolled graphs, one body for what adds and what stores, stages in a workspace, recurrences,
/// dense derivatives.
const SAMPLES: &[(&str, &str)] = &[
    (
        "lines",
        "op: lines\ninputs: {x: [I], w: [I]}\noutputs: {y: [I], n: [], m: [], q: []}\nforward:\n  - y[i] = x[i] * w[i]\n\
         \x20 - y[i] += sin(x[i])^2 + where(x[i] < w[i], pow(w[i], x[i]), atan2(w[i], x[i]) / 3)\n  - n = sum(i) exp(-x[i])^2.5 * w[i]\n\
         \x20 - m = max(i) tan(cos(x[i]))\n  - q = prod(i) x[i]\ninstances: [{name: n, I: 300}, {name: few, I: 3, dtype: f64}]\n",
    ),
    (
        "tiles",
        "op: tiles\ninputs: {x: [I, J], w: [J, K]}\noutputs: {y: [I, K]}\nforward:\n  - y[i,k] = sum(j) x[i,j] * w[j,k]\n\
         instances: [{name: n, I: 64, J: 64, K: 64}, {name: odd, I: 19, J: 33, K: 7}]\n",
    ),
    (
        "windows",
        "op: windows\ninputs: {x: [S, C], w: [T, C]}\noutputs: {y: [S, C], z: [S]}\nforward:\n\
         \x20 - y[s,c] = sum(t) x[s + t - 1, c] * w[t,c]\n  - z[s] = max(c) y[s,c]\n\
         instances: [{name: n, S: [9, 7], T: [3, 2], C: 20}]\n",
    ),
    (
        "staged",
        "program: staged\ninputs: {x: [B, D], v: [D, H], w: [H, C]}\noutputs: {y: []}\nwrt: [v, w]\nforward:\n  - p = matmul(x, v)\n\
         \x20 - h[b,k in H] = max(p[b,k], 0)\n  - r[b,c] = sum(k in H) h[b,k] * w[k,c]\n  - y = sum(b,c) tanh(r[b,c])\n\
         instances: [{name: n, B: 14, D: 3, H: 40, C: 2}]\n",
    ),
    (
        "iterations",
        "program: iterations\ninputs: {x: [T, D], w: [D, K], u: [K, K]}\noutputs: {y: []}\nwrt: [w, u]\n\
         functions: [forward, jvp, vjp, value_and_grad, hvp, value_grad_and_hvp, jacobian, hessian]\nforward:\n\
         \x20 - h[t,k] = tanh(sum(d) x[t,d] * w[d,k] + sum(j in K) h[t - 1, j] * u[j,k])\n  - y = sum(t,k) h[t,k]^2\n\
         instances: [{name: n, T: 4, D: 2, K: 2, dtype: f64}]\n",
    ),
];

/// A template without what stands for other text.
fn literal(template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out = out + before + " ";
        let end = [("{", "}}"), ("%", "%}"), ("#", "#}")].into_iter().find(|(begin, _)| after.starts_with(begin));
        rest = end.map_or(after, |(_, end)| after.split_once(end).expect("a tag ends").1);
    }
    out + rest
}

/// The words of a text, without comments.
fn words(text: &str, out: &mut BTreeSet<String>) {
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let separate = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        out.extend(code.split(separate).filter(|w| w.starts_with(char::is_alphabetic)).map(str::to_string));
    }
}

/// A name that a tensor could have, and whose type the word is.
fn name(word: &str) -> Option<String> {
    let mut name = String::new();
    for c in word.chars() {
        // `KernelInfo` is the type of `kernel_info`.
        if c.is_ascii_uppercase() && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    let derivative = name.ends_with("_dot") || name.ends_with("_bar");
    // Of the header all but its prefix are names of the samples; `vjp_store` and `vjp_with` are functions that the last
    // test is about.
    let made = name.starts_with("cotangent_") || name.ends_with("store") || name.ends_with("_with") || name.len() > 24;
    (!derivative && !made).then_some(name)
}

/// A capital letter at each part, as for types.
fn capital(name: &str) -> String {
    name.split('_').filter(|p| !p.is_empty()).map(|p| p[..1].to_uppercase() + &p[1..]).collect()
}

fn build(folder: &Path) -> Build {
    // Names are looked at here, and no values.
    let build = Build::new().ops(folder.join("ops")).validate(false).c_header("kernels.h");
    build.instruction_sets(InstructionSet::ALL.to_vec())
}

fn rendered(build: &Build) -> std::collections::BTreeMap<String, String> {
    build.render().unwrap_or_else(|report| panic!("{report}")).files
}

/// Every word that the emitter writes and that names a tensor.
fn emitted() -> Vec<String> {
    let folder = folder("names_samples", SAMPLES);
    let mut all = BTreeSet::new();
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
    for entry in std::fs::read_dir(templates).expect("the templates") {
        words(&literal(&std::fs::read_to_string(entry.expect("a template").path()).expect("text")), &mut all);
    }
    for text in rendered(&build(&folder).ndarray(true)).values() {
        words(text, &mut all);
    }
    // Names that numbers end differ in the number alone.
    let plain = |w: &str| w.trim_end_matches(|c: char| c.is_ascii_digit()).to_string();
    let mut seen = BTreeSet::new();
    all.retain(|w| seen.insert(plain(w)));
    let names: BTreeSet<String> =
        all.iter().filter_map(|w| name(w)).chain(OTHERS.iter().map(|w| (*w).into())).collect();
    names.into_iter().filter(|name| accepted(name)).collect()
}

/// What stands in no text now, but did, or could; and what Rust, C and their libraries know.
const OTHERS: &[&str] = &[
    "a",
    "b",
    "transposed",
    "beside",
    "speculation",
    "rest",
    "rest_",
    "adds",
    "acc0",
    "sum0",
    "e0",
    "v0",
    "f0",
    "t",
    "workspace",
    "workspace_",
    "dot",
    "bar",
    "self_",
    "parameters",
    "kernel",
    "result",
    "option",
    "some",
    "none",
    "ok",
    "err",
    "vec",
    "string",
    "iterator",
    "copy",
    "clone",
    "int",
    "int_",
    "double",
    "float",
    "restrict",
    "auto",
    "register",
    "char",
    "void",
    "errno",
    "complex",
    "y0",
    "null",
    "i",
    "j",
    "k",
    "lane",
    "scalar",
    "x__y",
    "f32",
    "f64",
    "usize",
    "bool",
    "u8",
    "str",
    "core",
    "std",
    "alloc",
    "main",
    "test",
    "union",
    "default",
    "raw",
    "safe",
];

/// Whether the language takes the name, for a tensor, an op and an instance.
fn accepted(name: &str) -> bool {
    let text = format!(
        "op: {name}\ninputs: {{{name}: [I]}}\noutputs: {{out_: [I]}}\nforward:\n  - out_[i] = {name}[i]\ninstances: [{{name: {name}, I: 2}}]\n"
    );
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add(&format!("{name}.yaml"), text);
    pipeline::certified(id, &sources, &mut out).is_some()
}

/// Names in groups of `size`, no two types in one alike, nor these in small letters.
fn groups(names: &[String], size: usize) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for name in names {
        let small = |name: &str| capital(name).to_lowercase();
        let fits = |g: &&mut Vec<String>| g.len() < size && g.iter().all(|o| small(o) != small(name));
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(name.clone()),
            None => groups.push(vec![name.clone()]),
        }
    }
    // Filled up with what no word is.
    for group in &mut groups {
        (group.len()..size).for_each(|n| group.push(format!("filled{n}")));
    }
    groups
}

/// Specs whose tensors, locals, indices, axes, instances and ops bear the names.
fn specs(names: &[String]) -> Vec<(String, String)> {
    let mut specs = Vec::new();
    let few = |functions: &str| format!("functions: [{functions}]\nforward:\n");
    // Inputs of sines that are tried, of squares and products that are added, and indices.
    for (n, g) in groups(names, 12).iter().enumerate() {
        let inputs: Vec<_> = g.iter().map(|name| format!("{name}: [I]")).collect();
        let mut text =
            format!("program: reads{n}\ninputs: {{{}}}\noutputs: {{fixed_y: [I], fixed_z: []}}\n", inputs.join(", "));
        text += &few("forward, vjp");
        let _ = writeln!(text, "  - fixed_y[i] = sin({}[i])", g[0]);
        g[1..].iter().for_each(|name| _ = writeln!(text, "  - fixed_y[i] += {name}[i]^2"));
        let all: Vec<_> = g.iter().map(|name| format!("{name}[{}]", g[0])).collect();
        let pairs: Vec<_> = all.chunks(2).map(|pair| pair.join(" * ")).collect();
        let _ = writeln!(text, "  - fixed_z = sum({} in I) ({})", g[0], pairs.join(" + "));
        specs.push((format!("reads{n}"), text + "instances: [{name: n, I: 40}]\n"));
        // Locals that stages hand on in a workspace, and what derivatives are by.
        let mut text =
            format!("program: steps{n}\ninputs: {{{}: [L], {}: [L]}}\noutputs: {{{}: []}}\n", g[0], g[1], g[2]);
        text += &few("value_and_grad");
        let _ = writeln!(text, "  - {}[l] = {}[l] * {}[l]", g[3], g[0], g[1]);
        for pair in g[3..].windows(2) {
            let _ = writeln!(text, "  - {}[l] = exp({}[l]) * {}[l]", pair[1], pair[0], pair[0]);
        }
        let _ = writeln!(text, "  - {} = sum(l) {}[l]", g[2], g[g.len() - 1]);
        specs.push((format!("steps{n}"), text + "instances: [{name: n, L: 600, dtype: f64}]\n"));
    }
    // Bodies of every other kind.
    let own: Vec<String> = OTHERS.iter().map(|w| (*w).to_string()).filter(|name| accepted(name)).collect();
    for (n, g) in groups(&own, 6).iter().enumerate() {
        let [a, b, c, d, e, f] = g.as_slice() else { unreachable!("six of them") };
        let text = format!(
            "op: tiles{n}\ninputs: {{{a}: [I, J], {b}: [J, K], {c}: [L]}}\noutputs: {{{d}: [I, K], {e}: [L], {f}: []}}\nforward:\n\
             \x20 - {d}[i,k] = sum(j) {a}[i,j] * {b}[j,k]\n  - {e}[l] = sin({c}[l])\n  - {e}[l] += {c}[l]^2\n\
             \x20 - {f} = sum(q in L) {c}[q]\ninstances: [{{name: n, I: 8, J: 16, K: 8, L: 300}}]\n"
        );
        specs.push((format!("tiles{n}"), text));
        let text = format!(
            "program: dense{n}\ninputs: {{{a}: [N], {b}: [N], {c}: []}}\noutputs: {{{d}: []}}\nforward:\n\
             \x20 - {f}[n] = {a}[n] * {b}[n]\n  - {e}[n] = {f}[n] * {c}\n  - {d} = sum(n) {e}[n]^2\ninstances: [{{name: n, N: 2, dtype: f64}}]\n"
        );
        specs.push((format!("dense{n}"), text));
    }
    // Modules of the runtime and of a tool are no names of ops: refused, and told so.
    for name in names.iter().filter(|name| !["cotangent", "rustfmt"].contains(&name.as_str())) {
        let text = format!(
            "program: {name}\ninputs: {{fixed_x: []}}\noutputs: {{fixed_y: []}}\n{}  - fixed_y = exp(fixed_x)\n\
             instances: [{{name: {name}}}]\n",
            few("forward")
        );
        specs.push((name.clone(), text));
    }
    // Axes and their indices, in loops that are not joined. Words of formulas are indices of no axis.
    let reserved = ["and", "or", "not", "in", "sum", "prod", "mean", "max", "min", "pi", "inf"];
    let own: Vec<String> = names.iter().map(|name| capital(name)).collect();
    let own: Vec<String> = own.into_iter().filter(|a| !reserved.contains(&a.to_lowercase().as_str())).collect();
    for (n, axes) in groups(&own, 4).iter().enumerate() {
        let axes: Vec<String> = axes.iter().map(|a| capital(a)).collect();
        let list = |order: &dyn Fn(usize) -> usize, name: &dyn Fn(&String) -> String| {
            (0..4).map(|n| name(&axes[order(n)])).collect::<Vec<_>>().join(", ")
        };
        let (same, back) = (|n: usize| n, |n: usize| 3 - n);
        let (axis, index) = (|a: &String| a.clone(), |a: &String| a.to_lowercase());
        let text = format!(
            "program: axes{n}\ninputs: {{fixed_x: [{}], fixed_w: [{}]}}\noutputs: {{fixed_y: []}}\n{}\
             \x20 - fixed_y = sum({indices}) fixed_x[{indices}] * fixed_w[{}]\ninstances: [{{name: n, {}}}]\n",
            list(&same, &axis),
            list(&back, &axis),
            few("forward"),
            list(&back, &index),
            list(&same, &|a| format!("{a}: {}", 4 + a.len())),
            indices = list(&same, &index),
        );
        specs.push((format!("axes{n}"), text));
    }
    specs
}

/// Has the compiler look at a file, without a warning.
fn looked_at(folder: &Path, root: &str, arguments: &[&str]) {
    let check = ["--edition=2024", "--crate-type=lib", "--emit=metadata", "-Dwarnings"];
    run(rustc().args(check).arg(root).args(arguments).current_dir(folder));
}

fn c_looks_at(folder: &Path, header: &str) {
    let source = format!("{}.c", header.replace('/', "_"));
    std::fs::write(
        folder.join(&source),
        format!("#include <errno.h>\n#include <complex.h>\n#include <stdio.h>\n#include \"{header}\"\n"),
    )
    .expect("the file is written");
    let c = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    run(Command::new(c)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", &source])
        .current_dir(folder));
}

#[test]
fn no_word_of_the_emitter_is_taken_from_a_spec() {
    let names = emitted();
    println!("{} names", names.len());
    assert!(
        names.len() > 150
            && ["speculation", "a", "workspace", "native", "ndarray", "math"]
                .iter()
                .all(|w| names.iter().any(|n| n == w))
    );
    let specs = specs(&names);
    let specs: Vec<(&str, &str)> = specs.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = folder("names", &specs);

    let alone = || {
        let files = rendered(&build(&folder).self_contained(true).std(true));
        for (name, text) in [("kernels.rs", &files["mod.rs"]), ("kernels.h", &files["kernels.h"])] {
            std::fs::write(folder.join(name), text).expect("the file is written");
        }
        std::fs::write(folder.join("lib.rs"), "pub mod kernels;\n").expect("the file is written");
        looked_at(&folder, "lib.rs", &[]);
        c_looks_at(&folder, "kernels.h");
    };
    // The two ways beside each other.
    std::thread::scope(|s| {
        s.spawn(alone);
        with_a_crate(&folder);
    });
}

/// The kernels with the runtime as a crate.
fn with_a_crate(folder: &Path) {
    // The crate `cotangent`, of the runtime that stands in any such file, and what wrappers for `ndarray` name.
    let few = generated::folder("names_runtime", &[("square", SQUARE)]);
    let runtime = &rendered(&build(&few).self_contained(true).std(true))["mod.rs"];
    for (file, text) in [
        ("kernels.rs", runtime),
        ("runtime.rs", &format!("pub mod kernels;\npub use kernels::cotangent::*;\n{NDARRAY}")),
    ] {
        std::fs::write(few.join(file), text).expect("the file is written");
    }
    looked_at(&few, "runtime.rs", &["--crate-name=cotangent", "-Aunused"]);
    for (name, text) in rendered(&build(folder).ndarray(true).prefix("net_").module("all")) {
        std::fs::create_dir_all(folder.join("all")).expect("the folder is made");
        std::fs::write(folder.join("all").join(name), text).expect("the file is written");
    }
    std::fs::write(folder.join("arrays.rs"), "pub mod all;\n").expect("the file is written");
    looked_at(folder, "arrays.rs", &[&format!("--extern=cotangent={}", few.join("libcotangent.rmeta").display())]);
    c_looks_at(folder, "all/kernels.h");
}

/// The signatures that wrappers for `ndarray` are written against.
const NDARRAY: &str = "pub mod ndarray {
    pub struct ArrayRef<T, D>(pub T, pub D);
    pub struct Ix1; pub struct Ix2; pub struct Ix3; pub struct Ix4;
    pub struct Misfit;
    pub struct Read<T>(T);
    impl<T> Read<T> { pub fn tensor(&self) -> &T { loop {} } }
    pub struct Written<T>(T);
    impl<T> Written<T> { pub fn tensor(&mut self) -> &mut T { loop {} } pub fn store(self) {} }
    pub fn read<T>(_: &str, _: &impl Sized) -> Result<Read<T>, Misfit> { loop {} }
    pub fn write<T>(_: &str, _: &mut impl Sized) -> Result<Written<T>, Misfit> { loop {} }
    pub fn update<T>(_: &str, _: &mut impl Sized) -> Result<Written<T>, Misfit> { loop {} }
    pub fn borrow<T: 'static>(_: &str, _: &impl Sized) -> Result<&'static T, Misfit> { loop {} }
    pub fn borrow_mut<T: 'static>(_: &str, _: &mut impl Sized) -> Result<&'static mut T, Misfit> { loop {} }
}
";

/// Names that would make two types or two functions alike are refused, with what makes the first; others of the kind
/// are fine.
#[test]
fn names_that_make_one_type_or_function_are_refused() {
    let codes = |head: &str, inputs: &str| -> Vec<String> {
        let text = format!(
            "{head}: case\ninputs: {{{inputs}}}\noutputs: {{z: []}}\nforward:\n  - z = 1.0\ninstances: [{{name: n}}]\n"
        );
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let id = sources.add("case.yaml", text);
        pipeline::certified(id, &sources, &mut out);
        let text = out.render(&sources);
        text.lines().filter_map(|l| Some(l.strip_prefix("error[")?.split(']').next()?.to_string())).collect()
    };
    for same in ["x1: [], x_1: []", "x_y: [], x__y: []", "x: [], x_: []", "self_: [], self__: []"] {
        assert_eq!(codes("op", same), ["E006"], "{same}");
    }
    assert_eq!(codes("op", "store: []"), ["E006"]);
    assert_eq!(codes("op", "x: [], x_store: []"), ["E006"]);
    assert_eq!(codes("op", "x: [], x_with: []"), ["E006"]);
    for fine in ["store: []", "x: [], x_store: []", "x: [], x_with: []", "xy: [], x_y: []", "self_: [], result: []"] {
        assert_eq!(codes("program", fine), Vec::<String>::new(), "{fine}");
    }
}
