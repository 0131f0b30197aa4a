//! Self-contained output: takes the files that `cotangent render` writes, gives them to rustc as modules of crates that
//! depend on nothing. What holds after it: they compile without a warning in both editions and without `std`, the
//! portable one without unsafe code, and every choice of instruction sets computes what the others compute on the same
//! instructions.

use crate::generated::{BITS, compile, folder, render, run};
use cotangent_build::{Build, InstructionSet};
use std::path::Path;
use std::process::Command;

/// Every kind of body: more than six arguments, a tile with borders, rows with functions, a kernel small enough to
/// inline.
const OPS: [(&str, &str); 3] = [
    ("norm", "use: layer_norm\ninstances:\n  - {name: rows, N: 2, I: 40, eps: 1e-5}\n"),
    ("matmul", "use: matmul\ninstances:\n  - {name: tile, I: 19, J: 21, K: 23}\n"),
    ("softmax", "use: softmax\ninstances:\n  - {name: rows, I: 5, J: 33, dtype: f64}\n  - {name: small, I: 1, J: 3}\n"),
];

/// Unrolled graphs, with functions on lanes.
const PROGRAMS: [(&str, &str); 2] = [
    ("quadrotor", include_str!("../../../../programs/quadrotor.yaml")),
    ("arm", include_str!("../../../../programs/arm.yaml")),
];

#[test]
fn one_file_compiles_anywhere() {
    let folder = folder("render_compiles", &[&OPS[..], &PROGRAMS].concat());
    let portable = render(&folder, "portable", Build::new().instruction_sets([InstructionSet::Portable]));
    assert!(!portable.contains("unsafe") && !portable.contains("core::arch") && !portable.contains("feature = \"std"));
    let every = render(&folder, "every", Build::new());
    assert!(every.contains("unsafe") && every.contains("x86_64") && every.contains("aarch64"));
    for text in [&portable, &every] {
        assert!(!text.contains(" ::cotangent") && !text.contains("std::") && !text.contains("OUT_DIR"));
    }
    // Who vendors the file formats it with the rest of the crate: it stays as it is.
    for name in ["portable.rs", "every.rs"] {
        let mut rustfmt = Command::new("rustfmt");
        let rustfmt = rustfmt.args(["--check", "--edition", "2021", "--config", "max_width=80", name]);
        let output = rustfmt.current_dir(&folder).output().expect("rustfmt runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "rustfmt changes {name}:\n{text}");
    }
    let crates = [
        ("portable", "#![no_std]\n#![deny(warnings)]\n#![forbid(unsafe_code)]\nmod portable;\n"),
        ("every", "#![no_std]\n#![deny(warnings, missing_docs, unreachable_pub)]\n//! All.\nmod every;\n"),
    ];
    for (name, text) in crates {
        let root = format!("lib_{name}.rs");
        std::fs::write(folder.join(&root), text).expect("the file is written");
        for edition in ["2021", "2024"] {
            compile(&folder, edition, &root, &["--crate-type", "lib", "--emit", "metadata", "-o", "out.rmeta"]);
        }
    }
}

/// Prints each function of each kernel with the bits that it writes, hashed.
const MAIN: &str = r#"
#![deny(warnings)]
mod MODULE;
use MODULE::cotangent::Tensor;

macro_rules! run {
    ($({ $path:path, $op:ident, $kernel:ident, $scalar:ident;
         $(fn $f:ident($($r:ident: $R:ident,)* => $($w:ident: $W:ident,)*);)* })*) => {
        $({
            use $path as k;
            $({
                let mut seed = 0;
                $(seed += 1; let $r: k::$R = filled(f64::from(seed) * 0.37);)*
                $(seed += 1; let mut $w: k::$W = filled(f64::from(seed) * 0.37);)*
                k::$f($(&$r,)* $(&mut $w,)*);
                print!("{} {} {}", stringify!($op), stringify!($kernel), stringify!($f));
                $(print!(" {:016x}", hash(&$w));)*
                println!();
            })*
        })*
    };
}

fn main() {
    MODULE::for_each_kernel!(run);
}
"#;

/// What the program of a module prints, capped at a set of instructions.
fn printed(folder: &Path, module: &str, set: &str) -> String {
    run(Command::new(folder.join(module)).env("COTANGENT_ISA", set)).0
}

#[test]
fn every_choice_of_instruction_sets_computes_the_same() {
    use InstructionSet::{Avx2, Avx512, Portable};
    let folder = folder("render_runs", &[&OPS[1..], &PROGRAMS].concat());
    let choices = [
        ("every", Build::new().inline_limit(0)),
        ("portable", Build::new().instruction_sets([Portable])),
        ("only_avx2", Build::new().inline_limit(0).instruction_sets([Avx2])),
        ("only_avx512", Build::new().inline_limit(0).instruction_sets([Portable, Avx512])),
    ];
    std::thread::scope(|scope| {
        for (name, build) in choices {
            let folder = &folder;
            scope.spawn(move || {
                let build = if name == "portable" { build } else { build.std(true) };
                render(folder, name, build);
                let root = format!("main_{name}.rs");
                std::fs::write(folder.join(&root), MAIN.replace("MODULE", name) + BITS).expect("the file is written");
                compile(folder, "2021", &root, &["-o", name]);
            });
        }
    });
    let portable = printed(&folder, "every", "portable");
    // forward, jvp, and vjp, all together and for each input, each twice, of three kernels.
    assert!(portable.lines().count() >= 20, "{portable}");
    // Unrolled graphs compute a value alike, whatever else they compute.
    for set in ["portable", "avx2", "avx512"] {
        let all = printed(&folder, "every", set);
        for kernel in ["quadrotor single", "quadrotor double", "arm ur5"] {
            let first = |f: &str| {
                let line = all.lines().find_map(|l| l.strip_prefix(&format!("{kernel} {f} ")));
                line.expect("the kernel").split(' ').next().map(str::to_owned)
            };
            assert_eq!(first("forward"), first("jvp"), "{kernel} under {set}");
        }
    }
    for name in ["portable", "only_avx2", "only_avx512"] {
        assert!(printed(&folder, name, "portable") == portable, "{name} differs on portable instructions");
    }
    assert!(printed(&folder, "portable", "avx512") == portable, "portable kernels take other instructions");
    let wide = printed(&folder, "every", "avx2");
    let widest = printed(&folder, "every", "avx512");
    assert!(printed(&folder, "only_avx2", "avx512") == wide, "AVX2 alone is not what AVX2 is among all");
    let expected = if widest == wide { &portable } else { &widest };
    assert!(printed(&folder, "only_avx512", "avx512") == *expected, "AVX-512 alone is not what it is among all");
    assert!(printed(&folder, "only_avx512", "avx2") == portable, "without AVX-512 the portable kernels run");
    // A slip of the pen is told, and the machine's best used.
    let (out, said) = run(Command::new(folder.join("every")).env("COTANGENT_ISA", "avx-512"));
    let expected = if cfg!(target_arch = "x86_64") {
        "cotangent: COTANGENT_ISA is \"avx-512\", not portable, avx2 or avx512: not heeded\n"
    } else {
        ""
    };
    assert!(out == widest && said == expected, "{said}");
    assert_eq!(run(Command::new(folder.join("every")).env("COTANGENT_ISA", "")).1, "");
}

/// Runs the command line in a folder: its code, what it prints, what it complains of.
fn cotangent(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
    let output = command.args(arguments).current_dir(folder).output().expect("the command line runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_writes_the_same_file() {
    let folder = folder("render_command", &OPS[2..]);
    std::fs::create_dir_all(folder.join("src/nn")).expect("the folder is made");
    let run = |arguments: &[&str]| cotangent(&folder, arguments);
    // The module is told by the place of the file.
    for (file, module) in [("src/nn/deep.rs", "nn::deep"), ("src/nn/mod.rs", "nn"), ("src/lib.rs", ""), ("k.rs", "k")] {
        let (code, out, error) = run(&["render", "ops", "--portable", "-o", file]);
        assert_eq!((code, out.as_str(), error.as_str()), (Some(0), "", ""));
        let text = std::fs::read_to_string(folder.join(file)).expect("the file is there");
        let build = Build::new().instruction_sets([InstructionSet::Portable]).self_contained(true).module(module);
        let expected = build.ops(folder.join("ops")).render().expect("the specs are right").files["mod.rs"].clone();
        let inside = format!("{}/", folder.display());
        assert!(text == expected.replace(&inside, ""), "{file} is not the module `{module}`");
    }
    let (code, printed, _) = run(&["render", "ops", "--portable", "--module", "nn::deep"]);
    assert!(code == Some(0) && printed == std::fs::read_to_string(folder.join("src/nn/deep.rs")).unwrap());

    let check = ["render", "ops", "--portable", "-o", "src/nn/deep.rs", "--check"];
    assert_eq!(run(&check), (Some(0), String::new(), String::new()));
    let spec = folder.join("ops/softmax.yaml");
    std::fs::write(&spec, OPS[2].1.replace("J: 33", "J: 34")).expect("the spec is written");
    let (code, _, error) = run(&check);
    let expected = "error: src/nn/deep.rs is not what the specs and options give: render it again\n";
    assert_eq!((code, error.as_str()), (Some(1), expected));
    std::fs::write(&spec, OPS[2].1.replace("J: 33, ", "")).expect("the spec is written");
    let (code, out, error) = run(&["render", "ops"]);
    assert!(code == Some(1) && out.is_empty() && error.starts_with("error[E023]"), "{error}");
}

#[test]
fn check_looks_at_schedules() {
    let spec = "use: matmul\ninstances: [{name: a, I: 4, J: 4, K: 8, schedule: {forward: nonsense}}]\n";
    let folder = folder("render_schedule", &[("matmul", spec)]);
    let (code, _, error) = cotangent(&folder, &["check", "ops"]);
    assert!(code == Some(1) && error.starts_with("error[E034]"), "{error}");
}

#[test]
fn a_wrong_command_line_is_told_so() {
    let folder = folder("render_usage", &OPS[2..]);
    for (arguments, message) in [
        (&["render"] as &[&str], "error: render takes spec files or folders\n"),
        (&["render", "ops", "--check"], "error: --check takes -o FILE\n"),
        (&["render", "ops", "--dtype", "f16"], "error: cannot parse argument \"f16\": it is f32 or f64\n"),
        (
            &["render", "ops", "--instruction-sets", "avx2,sse"],
            "error: cannot parse argument \"avx2,sse\": no instruction set `sse`: there are portable, avx2, avx512, neon\n",
        ),
        (&["check", "ops", "--portable"], "error: --portable is an option of render\n"),
        (&["show", "ops", "--stage", "rust", "-o", "x.rs"], "error: -o is an option of render\n"),
        (
            &["show", "ops", "--stage", "nest", "--after", "merge"],
            "error: --after is an option of show --stage plain\n",
        ),
        (&["check", "ops", "--after", "merge"], "error: --after is an option of show --stage plain\n"),
        (
            &["show", "ops", "--stage", "plain", "--after", "fuse"],
            "error: no pass `fuse`: the passes are lower, merge, split, gather, initialise, segment, gather-recurrences, \
             prune, inline, mask\n",
        ),
    ] {
        let (code, out, error) = cotangent(&folder, arguments);
        assert!(code == Some(2) && out.is_empty() && error.starts_with(message), "{arguments:?}: {error}");
    }
}
