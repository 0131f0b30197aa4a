//! C programs against generated kernels: `tests/c/ops` becomes a static library and a header, which programs in C are
//! compiled against and run.
//!
//! `by_hand.c` compares kernels with loops of its own; a program that calls every function of the header must print
//! what the same calls from Rust print, to the bit. Both also hold the header to the compilers' strictest warnings.

use crate::generated::{folder, run, rustc};
use cotangent_build::{Build, Report};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c")
}

/// A C or C++ compiler: what the variable names, else the one on the path.
fn compiler(variable: &str, program: &str) -> Option<OsString> {
    let name = std::env::var_os(variable).unwrap_or_else(|| program.into());
    Command::new(&name).arg("--version").output().is_ok_and(|o| o.status.success()).then_some(name)
}

fn cc() -> Command {
    let found = compiler("CC", "cc").or_else(|| compiler("CC", "gcc"));
    Command::new(found.expect("these tests need a C compiler: install gcc or clang, or name one by the variable CC"))
}

/// Every warning that there is a common name for, as errors.
const STRICT: [&str; 8] =
    ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wcast-align", "-Wshadow", "-Wno-long-long"];

/// The kernels of `tests/c/ops` as a library in a folder of its own, beside their header; and what to link besides.
fn library(name: &str) -> (PathBuf, Vec<String>) {
    let folder = folder(name, &[]);
    let build = Build::new().ops(sources().join("ops")).self_contained(true).std(true).cargo_metadata(false);
    let build = build.out_dir(folder.join("kernels")).c_header(folder.join("kernels.h"));
    build.try_compile().unwrap_or_else(|report| panic!("{report}"));
    std::fs::copy(sources().join("every.rs"), folder.join("every.rs")).expect("the library's root");
    std::fs::write(
        folder.join("main.rs"),
        "fn main() {\n    if std::env::args().len() > 1 { print!(\"{}\", every::program()) } else { every::run() }\n}\n",
    )
    .expect("the program's root");
    let (_, said) = run(rustc()
        .args(["--edition=2024", "--crate-type=staticlib", "--crate-type=rlib", "-Copt-level=0"])
        .args(["-Dwarnings", "--print=native-static-libs", "every.rs"])
        .current_dir(&folder));
    let libraries = said.lines().find_map(|l| l.split_once("native-static-libs:")).expect("what to link").1;
    (folder, libraries.split_whitespace().map(String::from).collect())
}

/// Compiles a program in C against the library and runs it.
fn program(folder: &Path, libraries: &[String], source: &Path) -> String {
    let binary = source.file_stem().expect("a file").to_owned();
    run(cc()
        .args(["-std=c99", "-O1", "-I"])
        .arg(folder)
        .args(STRICT)
        .arg(source)
        .arg(folder.join("libevery.a"))
        .arg("-o")
        .arg(folder.join(&binary))
        .args(libraries)
        .arg("-lm"));
    run(&mut Command::new(folder.join(binary))).0
}

#[test]
fn c_programs_compute_what_their_own_loops_and_rust_do() {
    let (folder, libraries) = library("c_library");
    let by_hand = program(&folder, &libraries, &sources().join("by_hand.c"));
    println!("{by_hand}");
    assert_eq!(by_hand.lines().filter(|line| line.ends_with(": good")).count(), 9, "{by_hand}");

    run(rustc()
        .args(["--edition=2024", "--extern=every=libevery.rlib", "-L.", "-o", "from_rust", "main.rs"])
        .current_dir(&folder));
    let from_rust = || Command::new(folder.join("from_rust"));
    std::fs::write(folder.join("every.c"), run(from_rust().arg("program")).0).expect("the program is written");
    let (c, (rust, _)) = (program(&folder, &libraries, &folder.join("every.c")), run(&mut from_rust()));
    let header = std::fs::read_to_string(folder.join("kernels.h")).expect("the header");
    let functions = header.lines().filter(|line| line.starts_with("void cotangent_")).count();
    let called: std::collections::BTreeSet<&str> =
        rust.lines().filter(|line| line.split(' ').count() == 3 && !line.contains('[')).map(first_word).collect();
    assert!(functions > 50 && called.len() == functions, "{} of {functions} functions were called", called.len());
    for (c, rust) in c.lines().zip(rust.lines()) {
        assert_eq!(c, rust, "C and Rust differ");
    }
    assert_eq!(c, rust);
}

/// What a caller sees to, as a build with debug assertions sees to it.
#[test]
fn debug_builds_check_what_callers_see_to() {
    let (folder, libraries) = library("c_pointers");
    let called = |name: &str, arguments: &str| {
        let text = format!(
            "#include \"kernels.h\"\n#include <stdio.h>\nstatic cotangent_matmul_dense_X x;\nstatic cotangent_matmul_dense_Y y;\n\
             static union {{ cotangent_matmul_dense_Z z; cotangent_matmul_dense_Y y; char bytes[4096]; }} both;\n\
             int main(void) {{\n    cotangent_matmul_dense_forward({arguments});\n    puts(\"done\");\n    return 0;\n}}\n"
        );
        std::fs::write(folder.join(format!("{name}.c")), text).expect("the program is written");
        run(cc()
            .args(["-std=c99", "-w", &format!("{name}.c"), "libevery.a", "-o", name])
            .args(&libraries)
            .arg("-lm")
            .current_dir(&folder));
        let output = Command::new(folder.join(name)).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (good, text) = called("good", "&x, &y, &both.z");
    assert!(good && text == "done\n", "{text}");
    // What is only read may overlap.
    let (good, text) = called("same", "(void *)&y, &y, &both.z");
    assert!(good && text == "done\n", "{text}");
    for (name, arguments, message) in [
        ("null", "&x, (void *)0, &both.z", "`y` is null"),
        ("null_result", "&x, &y, (void *)0", "`z` is null"),
        ("odd", "&x, &y, (void *)(both.bytes + 2)", "`z` is not aligned to 4 bytes"),
        ("odd_input", "&x, (void *)(both.bytes + 1), &both.z", "`y` is not aligned to 4 bytes"),
        ("overlap", "&x, &both.y, &both.z", "`z`, which is written, overlaps with `y`"),
        ("last", "&x, &both.y, (void *)(both.bytes + sizeof both.y - 4)", "`z`, which is written, overlaps with `y`"),
        ("first", "&x, (void *)(both.bytes + sizeof both.z - 4), &both.z", "`z`, which is written, overlaps with `y`"),
    ] {
        let (ended, text) = called(name, arguments);
        assert!(!ended && !text.contains("done"), "{name}: {text}");
        assert!(text.contains(&format!("cotangent_matmul_dense_forward: {message}")), "{name}: {text}");
    }
    let (good, text) = called("beside", "&x, &both.y, (void *)(both.bytes + sizeof both.y)");
    assert!(good && text == "done\n", "{text}");
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// A crate with a build script, its library linked to a program in C: `examples/c`.
#[test]
fn the_example_is_built_by_cargo_and_fits_its_weights() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/c");
    let header = || std::fs::read_to_string(example.join("include/layer.h")).expect("the header");
    let committed = header();
    // The folder of this build, so that dependencies are compiled once.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let said = run(Command::new(env!("CARGO"))
        .args(["rustc", "--offline", "--color=never", "--manifest-path"])
        .arg(example.join("Cargo.toml"))
        .args(["--", "--print=native-static-libs"])
        .env("CARGO_TARGET_DIR", target)
        .env_remove("RUSTC_WORKSPACE_WRAPPER"))
    .1;
    assert_eq!(header(), committed, "the header has changed with the specs: commit it");
    let folder = folder("c_example", &[]);
    // Cargo repeats what it said where it has built this before.
    let libraries = said.lines().find_map(|l| l.split_once("native-static-libs:")).expect("what to link").1;
    run(cc()
        .args(["-std=c99", "-O1", "-I"])
        .arg(example.join("include"))
        .args(STRICT)
        .arg(example.join("main.c"))
        .arg(target.join("debug/liblayer.a"))
        .arg("-o")
        .arg(folder.join("layer"))
        .args(libraries.split_whitespace()));
    let (out, _) = run(&mut Command::new(folder.join("layer")));
    println!("{out}");
    assert_eq!(out.lines().count(), 6, "{out}");
}

/// The header alone, under every standard that compilers have a name for.
#[test]
fn the_header_is_c_and_cpp() {
    let folder = folder("c_header", &[]);
    let files = Build::new().ops(sources().join("ops")).c_header("include/kernels.h").render().unwrap().files;
    std::fs::write(folder.join("kernels.h"), &files["include/kernels.h"]).expect("the header is written");
    // Twice, as two headers may include it.
    std::fs::write(
        folder.join("twice.c"),
        "#include \"kernels.h\"\n#include \"kernels.h\"\nint main(void) { return 0; }\n",
    )
    .expect("the program is written");
    let check = |mut compiler: Command, language: &str, standard: &str| {
        let standard = format!("-std={standard}");
        run(compiler
            .args(["-x", language, &standard, "-fsyntax-only", "-I"])
            .arg(&folder)
            .args(STRICT)
            .arg(folder.join("twice.c")));
    };
    for standard in ["c89", "c99", "c11", "c17"] {
        check(cc(), "c", standard);
    }
    match compiler("CXX", "c++").or_else(|| compiler("CXX", "g++")) {
        Some(cpp) => {
            for standard in ["c++98", "c++11", "c++17", "c++20"] {
                check(Command::new(&cpp), "c++", standard);
            }
            // Here arrays convert to arrays of constants, as in C23.
            std::fs::write(
                folder.join("twice.c"),
                "#include \"kernels.h\"\nint main() {\n    static cotangent_matmul_dense_X x;\n    static cotangent_matmul_dense_Y y;\n    \
                 static cotangent_matmul_dense_Z z;\n    cotangent_matmul_dense_forward(&x, &y, &z);\n}\n",
            )
            .expect("the program is written");
            check(Command::new(&cpp), "c++", "c++20");
        }
        None => println!("no C++ compiler: the header was not tried as C++"),
    }
}

/// A wrong shape is an error of the C compiler.
#[test]
fn an_array_of_another_shape_does_not_compile() {
    let folder = folder("c_shapes", &[]);
    let files = Build::new().ops(sources().join("ops")).c_header("kernels.h").render().unwrap().files;
    std::fs::write(folder.join("kernels.h"), &files["kernels.h"]).expect("the header is written");
    let compiles = |x: &str| {
        let text = format!(
            "#include \"kernels.h\"\nvoid f(const {x} *x, const cotangent_matmul_dense_Y *y, cotangent_matmul_dense_Z *z) {{\n    \
             cotangent_matmul_dense_forward(x, y, z);\n}}\n"
        );
        std::fs::write(folder.join("shapes.c"), text).expect("the program is written");
        let output = cc()
            .args(["-std=c99", "-Werror", "-fsyntax-only", "-I"])
            .arg(&folder)
            .arg(folder.join("shapes.c"))
            .output();
        output.expect("the compiler runs").status.success()
    };
    assert!(compiles("cotangent_matmul_dense_X"));
    assert!(!compiles("cotangent_matmul_dense_Y"));
}

const PAIR: &str = "op: NAME
inputs: {x: [I]}
outputs: {y: [I]}
forward:
  - y[i] = x[i]^2
instances:
  - {name: KERNEL, I: 5}
";

/// Two specs of one tensor each, by the names of their ops and kernels.
fn pair(name: &str, ops: [(&str, &str); 2], with: impl Fn(Build) -> Build) -> Result<String, Report> {
    let folder = folder(name, &[]);
    for (op, kernel) in ops {
        let text = PAIR.replace("NAME", op).replace("KERNEL", kernel);
        std::fs::write(folder.join(format!("{op}.yaml")), text).expect("the spec is written");
    }
    with(Build::new().ops(&folder).c_header("kernels.h"))
        .render()
        .map(|mut output| output.files.remove("kernels.h").expect("the header"))
}

#[test]
fn names_that_join_to_the_same_are_an_error() {
    let report = pair("c_names", [("a", "b_c"), ("a_b", "c")], |b| b).unwrap_err();
    let text = report.to_string();
    assert_eq!(report.errors(), 1, "{text}");
    assert!(text.starts_with("error[E006]: `cotangent_a_b_c_X_LEN` would stand in the C header twice"), "{text}");
    assert!(text.contains("this makes it first") && text.contains("a_b.yaml:7:"), "{text}");
    assert!(pair("c_names", [("a", "b"), ("b", "b")], |b| b).is_ok());
}

#[test]
fn the_prefix_begins_every_name() {
    let header = pair("c_prefix", [("a", "b"), ("c", "d")], |b| b.c_prefix("net_").prefix("own_")).unwrap();
    assert!(header.contains("#ifndef NET_KERNELS_H\n") && header.contains("*NET_RESTRICT x,"), "{header}");
    assert!(header.contains("void net_own_a_b_forward(\n    const net_own_a_b_X *"), "{header}");
    assert!(!header.lines().any(|line| line.contains("cotangent_")), "{header}");
}

#[test]
fn options_that_no_header_can_have_are_errors() {
    let fails = |with: fn(Build) -> Build, message: &str| {
        let report = pair("c_options", [("a", "b"), ("c", "d")], with).unwrap_err();
        assert_eq!(report.errors(), 1, "{report}");
        assert!(report.to_string().starts_with(&format!("error[E037]: {message}")), "{report}");
    };
    fails(|b| b.c_prefix("9_"), "`9_` cannot begin names in C");
    fails(|b| b.c_header("mod.rs"), "`mod.rs` cannot be the C header");
    fails(|b| b.ndarray(true).self_contained(true), "self-contained output has no wrappers for `ndarray`");
}

/// Without a header there is no word of C in the output, and nothing unsafe in the kernels.
#[test]
fn wrappers_are_there_only_when_asked_for() {
    let files = Build::new().ops(sources().join("ops")).render().unwrap().files;
    assert!(files.keys().all(|name| name.ends_with(".rs")));
    for text in files.values() {
        assert!(!text.contains("extern \"C\"") && !text.contains("unsafe") && !text.contains("pub mod nd"));
    }
    let files = Build::new().ops(sources().join("ops")).c_header("kernels.h").render().unwrap().files;
    let matmul = &files["matmul.rs"];
    assert!(matmul.contains("#[unsafe(no_mangle)]\n    pub extern \"C\" fn cotangent_matmul_dense_forward(x: &super::X, y: &super::Y, z: &mut super::Z) {\n"));
    // Names apart, no wrapper holds unsafe code.
    assert!(!matmul.contains("unsafe {") && !matmul.contains("unsafe fn"));
}

#[test]
fn a_header_goes_where_it_is_told_and_an_old_one_goes_away() {
    let folder = folder("c_places", &[]);
    let out = folder.join("out");
    let build = |header: PathBuf| {
        let build = Build::new().ops(sources().join("ops/softmax.yaml")).out_dir(&out).cargo_metadata(false);
        build.c_header(header).try_compile().unwrap_or_else(|report| panic!("{report}"));
    };
    build("first.h".into());
    assert!(out.join("first.h").is_file());
    std::fs::write(out.join("own.h"), "/* By hand. */\n").expect("the file is written");
    // A folder that is not there yet is made.
    build(folder.join("include/deep/second.h"));
    assert!(folder.join("include/deep/second.h").is_file() && !out.join("first.h").exists());
    assert!(out.join("own.h").is_file(), "what was not generated is left alone");
}

#[test]
fn the_command_line_renders_a_header_too() {
    let folder = folder("c_render", &[]);
    let ops = sources().join("ops");
    let cotangent = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
        command.arg(arguments[0]).arg(&ops).args(&arguments[1..]).current_dir(&folder).output().expect("it runs")
    };
    let render = ["render", "-o", "kernels.rs", "--c-header", "kernels.h", "--c-prefix", "net_"];
    assert!(cotangent(&render).status.success());
    let header = std::fs::read_to_string(folder.join("kernels.h")).expect("the header");
    let kernels = std::fs::read_to_string(folder.join("kernels.rs")).expect("the kernels");
    assert!(
        header.contains("void net_softmax_rows_f64_forward(") && kernels.contains("fn net_softmax_rows_f64_forward(")
    );
    let check = [&render[..], &["--check"]].concat();
    assert!(cotangent(&check).status.success());
    std::fs::write(folder.join("kernels.h"), header + "\n").expect("the header is written");
    let stale = cotangent(&check);
    assert!(!stale.status.success());
    assert_eq!(
        String::from_utf8_lossy(&stale.stderr),
        "error: kernels.h is not what the specs and options give: render it again\n"
    );
    let misplaced = cotangent(&["check", "--c-header", "kernels.h"]);
    assert!(String::from_utf8_lossy(&misplaced.stderr).starts_with("error: --c-header is an option of render\n"));
}
