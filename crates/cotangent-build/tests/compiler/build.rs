//! The build: spec folders in, files out, as a build script runs it.

use crate::generated::{SQUARE, emptied as folder};
use cotangent_build::diagnostic::Code;
use cotangent_build::{Build, DType, InstructionSet, Output};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

#[test]
fn a_folder_becomes_a_file_an_op_and_the_root() {
    let ops = folder("two_ops");
    std::fs::write(ops.join("square.yaml"), SQUARE).unwrap();
    let cube =
        SQUARE.replace("op: square", "op: cube").replace("x[i]^2", "x[i]*x[i]*x[i]").replace("2 * x[i]", "3 * x[i]^2");
    std::fs::write(ops.join("cube.yaml"), cube).unwrap();
    let Output { files, warnings } = Build::new().ops(&ops).render().unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["cube.rs", "mod.rs", "square.rs", "test.mod.rs"]);
    assert_eq!(warnings.to_string(), "");
    assert!(files["cube.rs"].contains("pub fn vjp_x_store("));
    assert!(files["mod.rs"].contains("cube::small") && files["mod.rs"].contains("square::small"));
}

/// What the folder of a cache holds is used while it is what would be made, and no longer.
#[test]
fn what_has_not_changed_is_not_made_again() {
    let (ops, out, cache) = (folder("cached"), folder("cached_out"), folder("cached_kept"));
    let write = |name: &str, text: &str| std::fs::write(ops.join(format!("{name}.yaml")), text).unwrap();
    let caller = SQUARE.replace("op: square", "op: caller").replace("x[i]^2", "t[i] + x[i]");
    let caller = caller
        .replace("  - y[i]", "  - t = square(x)\n  - y[i]")
        .replace("adjoint:\n  - x_bar[i] += 2 * x[i] * y_bar[i]", "adjoint: derived");
    write("square", SQUARE);
    write("caller", &caller);
    write("relu", "use: relu\ninstances:\n  - {name: small, I: 5}\n");
    write(
        "warned",
        &SQUARE
            .replace("op: square", "op: warned")
            .replace("  - {name: small, I: 5}", "")
            .replace("instances:", "instances: []"),
    );
    let build = |options: &dyn Fn(Build) -> Build| {
        let build = options(Build::new().ops(&ops).out_dir(&out).cache(&cache).cargo_metadata(false));
        let made = build.try_compile().unwrap();
        let fresh = build.render().unwrap();
        assert!(made.files == fresh.files, "a cache changes what is made");
        assert_eq!(made.warnings.to_string(), fresh.warnings.to_string());
        let kept = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path());
        // A file is made anew, never changed.
        let name = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().split_once('-').unwrap().1.to_string();
        kept.map(|p| (name(&p), p.metadata().unwrap().modified().unwrap())).collect::<BTreeMap<_, _>>()
    };
    let changed = |before: &BTreeMap<String, SystemTime>, after: &BTreeMap<String, SystemTime>| -> Vec<String> {
        after.iter().filter(|(name, time)| before.get(*name) != Some(time)).map(|(name, _)| name.clone()).collect()
    };
    let plain = |b: Build| b;
    let first = build(&plain);
    assert_eq!(first.keys().collect::<Vec<_>>(), ["caller", "relu", "square"], "what is warned of is not kept");
    let second = build(&plain);
    assert_eq!(changed(&first, &second), Vec::<String>::new(), "nothing has changed");
    write("relu", "use: relu\ninstances:\n  - {name: small, I: 6}\n");
    let third = build(&plain);
    assert_eq!(changed(&second, &third), ["relu"]);
    write("square", &SQUARE.replace("x[i]^2", "3 * x[i]^2").replace("2 * x[i]", "6 * x[i]"));
    let fourth = build(&plain);
    assert_eq!(changed(&third, &fourth), ["caller", "square"], "who calls an op is made of it");
    // An empty line moves what stands below.
    write("caller", &format!("\n{caller}"));
    let fifth = build(&plain);
    assert_eq!(changed(&fourth, &fifth), ["caller"]);
    build(&|b| b.dtype(DType::F64).inline_limit(0));
    // What is broken is made again.
    for file in std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let half = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
        std::fs::write(&file, &text[..half]).unwrap();
    }
    build(&plain);
    std::fs::remove_file(ops.join("square.yaml")).unwrap();
    // The op of that name that ships.
    build(&plain);
}

#[test]
fn an_op_without_instances_is_a_warning() {
    let ops = folder("no_instances");
    let text = SQUARE.split("instances:").next().unwrap().to_string() + "instances: []\n";
    std::fs::write(ops.join("square.yaml"), text).unwrap();
    let Output { files, warnings } = Build::new().ops(&ops).render().unwrap();
    let warnings = warnings.to_string();
    assert!(files.contains_key("square.rs"));
    assert!(warnings.starts_with("warning[E029]: no kernel is made of the op `square`"), "{warnings}");
}

#[test]
fn two_ops_of_one_name_are_an_error() {
    let (a, b) = (folder("same_a"), folder("same_b"));
    std::fs::write(a.join("square.yaml"), SQUARE).unwrap();
    std::fs::write(b.join("square.yaml"), SQUARE).unwrap();
    let failure = Build::new().ops(&a).ops(&b).render().unwrap_err();
    assert_eq!(failure.errors(), 1);
    assert!(failure.to_string().starts_with("error[E006]: two ops are called `square`"), "{failure}");
}

#[test]
fn one_wrong_spec_stops_the_build_and_all_errors_are_told() {
    let ops = folder("wrong");
    std::fs::write(ops.join("square.yaml"), SQUARE.replace("2 * x[i]", "3 * x[i]")).unwrap();
    std::fs::write(ops.join("other.yaml"), SQUARE.replace("op: square", "op: other").replace("x[i]^2", "x[q]^2"))
        .unwrap();
    let failure = Build::new().ops(&ops).render().unwrap_err();
    assert_eq!(failure.errors(), 2);
    assert!(failure.to_string().contains("error[E009]") && failure.to_string().contains("error[E021]"), "{failure}");
}

#[test]
fn a_missing_folder_is_a_diagnostic() {
    let failure = Build::new().ops("no/such/folder").render().unwrap_err();
    assert!(failure.to_string().contains("cannot read no/such/folder"), "{failure}");
}

#[test]
fn a_template_of_ones_own_replaces_the_shipped_one() {
    let (ops, templates) = (folder("own_ops"), folder("own_templates"));
    std::fs::write(ops.join("square.yaml"), SQUARE).unwrap();
    std::fs::write(templates.join("op.rs.tera"), "// {{ name }}: {% for k in kernels %}{{ k.name }}{% endfor %}\n")
        .unwrap();
    let Output { files, .. } = Build::new().ops(&ops).templates(&templates).render().unwrap();
    assert_eq!(files["square.rs"], "// square: small\n");
    std::fs::write(templates.join("op.rs.tera"), "{{ nothing_of_the_kind }}").unwrap();
    let failure = Build::new().ops(&ops).templates(&templates).render().unwrap_err();
    assert!(failure.to_string().starts_with("error[E038]: template op.rs.tera"), "{failure}");
}

/// The files of a build of one spec.
fn render(name: &str, spec: &str, options: impl Fn(Build) -> Build) -> Output {
    let ops = folder(name);
    std::fs::write(ops.join("square.yaml"), spec).unwrap();
    options(Build::new().ops(&ops)).render().unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn what_streams_memory_is_portable() {
    // Three arrays of f32 in `forward`: 1 MiB is 87,381 elements of each.
    let portable = |elements: usize| {
        let add = format!("use: add\ninstances: [{{name: long, I: {elements}}}]\n");
        let Output { files, .. } = render("streams", &add, |build| build);
        let text = &files["add.rs"];
        (text.matches("_with(_isa::Portable, ").count(), text.matches("isa::dispatch").count())
    };
    let (here, dispatched) = portable(400_000);
    assert!(here > 0 && dispatched == 0, "{here} {dispatched}");
    let (here, dispatched) = portable(80_000);
    assert!(here == 0 && dispatched > 0, "{here} {dispatched}");
}

#[test]
fn a_build_without_a_script_says_where_it_cannot_write() {
    if std::env::var_os("OUT_DIR").is_some() {
        // Cargo sets it for tests too.
        let mut this = std::process::Command::new(std::env::current_exe().expect("the path of the test binary"));
        let run = this.arg("a_build_without_a_script").env_remove("OUT_DIR").output().expect("the test binary runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let report = Build::new().cargo_metadata(false).try_compile().unwrap_err();
    let codes: Vec<Code> = report.diagnostics().iter().map(|d| d.code).collect();
    assert_eq!((codes, report.errors()), (vec![Code::Io], 1));
    assert!(report.to_string().starts_with("error[E033]: OUT_DIR is not set"), "{report}");
}

#[test]
fn diagnostics_are_data_too() {
    let ops = folder("as_data");
    std::fs::write(ops.join("square.yaml"), SQUARE.replace("x[i]^2", "x[q]^2")).unwrap();
    let report = Build::new().ops(&ops).render().unwrap_err();
    let d = report.diagnostics().iter().next().expect("one finding");
    let span = d.labels[0].span;
    assert_eq!(report.sources().line_column(span), (5, 14));
    assert_eq!((report.sources().snippet(span), d.code), ("q", Code::UnknownIndex));
}

#[test]
fn a_folder_of_ones_own_keeps_what_is_not_generated() {
    let (ops, out) = (folder("out_ops"), folder("out_dir"));
    std::fs::write(ops.join("square.yaml"), SQUARE).unwrap();
    std::fs::write(out.join("by_hand.rs"), "// Ours.\n").unwrap();
    let build = Build::new().ops(&ops).out_dir(&out).cargo_metadata(false);
    build.try_compile().unwrap();
    let made = |name: &str| out.join(name).exists();
    assert!(made("square.rs") && made("mod.rs") && made("by_hand.rs"));
    build.clone().prefix("my_").try_compile().unwrap();
    assert!(made("my_square.rs") && !made("square.rs") && made("by_hand.rs"));
    let report = build.out_dir(out.join("by_hand.rs")).try_compile().unwrap_err();
    assert!(report.to_string().starts_with("error[E033]: cannot write to"), "{report}");
}

#[test]
fn names_of_two_sets_in_one_module_differ() {
    let plain = render("prefix_none", SQUARE, |b| b);
    let mine = render("prefix_my", SQUARE, |b| b.prefix("my_").module("nn::kernels"));
    let items = |output: &Output| -> Vec<String> {
        let lines = output.files["mod.rs"].lines();
        // Of the macro for bodies the later one shadows the same one before.
        let named =
            lines.filter(|l| ["pub mod", "pub static", "macro_rules! __", "pub use"].iter().any(|k| l.starts_with(k)));
        named.map(|l| l.split([':', '{']).next().unwrap_or("").trim().to_string()).collect()
    };
    let (plain, mine) = (items(&plain), items(&mine));
    assert_eq!(
        mine,
        [
            "pub mod my_square",
            "pub static MY_KERNELS",
            "macro_rules! __cotangent_nn_kernels_my_for_each_kernel",
            "pub use __cotangent_nn_kernels_my_for_each_kernel as my_for_each_kernel;"
        ]
    );
    assert_eq!(plain.len(), mine.len());
    assert!(plain.iter().all(|item| !mine.contains(item)));
}

#[test]
fn dtype_is_that_of_instances_without_one() {
    let spec = SQUARE.to_string() + "  - {name: fine, I: 5, dtype: f64}\n  - {name: coarse, I: 5, dtype: f32}\n";
    let types = |output: Output| -> Vec<String> {
        let lines = output.files["square.rs"].lines();
        lines.filter_map(|l| l.trim().strip_prefix("pub type X = ")).map(str::to_string).collect()
    };
    assert_eq!(types(render("dtype_f32", &spec, |b| b)), ["[f32; 5];", "[f64; 5];", "[f32; 5];"]);
    assert_eq!(types(render("dtype_f64", &spec, |b| b.dtype(DType::F64))), ["[f64; 5];", "[f64; 5];", "[f32; 5];"]);
}

const PRODUCT: &str = "op: square
inputs: {x: [I, J], y: [J, K]}
outputs: {z: [I, K]}
forward:
  - z[i,k] = sum(j) x[i,j] * y[j,k]
adjoint: derived
instances:
  - {name: small, I: 32, J: 32, K: 32}
";

#[test]
fn instruction_sets_decide_which_nests_are_there() {
    use InstructionSet::{Avx2, Avx512, Neon, Portable};
    let text = |name: &str, sets: &[InstructionSet]| {
        render(name, PRODUCT, |b| b.instruction_sets(sets.iter().copied())).files["square.rs"].clone()
    };
    let every = text("sets_all", &InstructionSet::ALL);
    // Each class has tiles of its own number of lanes.
    assert!([1, 4, 8, 16].iter().all(|lanes| every.contains(&format!("::<Isa_, {lanes}, "))));
    assert!(every.contains("_body!(_forward: Body3 = ") && !every.contains(" for AVX"));
    let narrow = text("sets_portable", &[Portable]);
    assert!(!narrow.contains("f32, 8>") && !narrow.contains("isa::dispatch"));
    assert!(narrow.contains("_with(_isa::Portable, "));
    assert!(text("sets_none", &[]).replace("sets_none", "sets_portable") == narrow);
    // A machine without a nest of its own has that of the widest which have one.
    let wide = text("sets_avx2", &[Avx2]);
    assert!(wide.contains("if Isa_::NARROW {") && wide.contains("} else {"));
    assert!(wide.contains("::<Isa_, 8, ") && !wide.contains("::<Isa_, 16, "));
    assert!(wide.contains("_body!(_forward: Body3 for AVX2 = "));
    let two = text("sets_two", &[Portable, Avx512, Neon]);
    assert!(two.contains("_body!(_forward: Body3 for AVX512 | NEON = "));
    // The classes that a target may be of.
    let of = |arch: &str| render(&format!("arch_{arch}"), PRODUCT, |b| b.target_arch(arch)).files["square.rs"].clone();
    let classes = |text: &str| [4, 8, 16, 1].map(|lanes| u8::from(text.contains(&format!("::<Isa_, {lanes}, "))));
    assert_eq!(["x86_64", "wasm32"].map(|arch| classes(&of(arch))), [[1, 1, 1, 0], [1, 0, 0, 1]]);
    let arm = render("arch_guard", PRODUCT, |b| b.target_arch("arm")).files["mod.rs"].clone();
    assert!(
        arm.contains("#[cfg(not(target_arch = \"arm\"))]\ncompile_error!(")
            && !render("arch_none", PRODUCT, |b| b).files["mod.rs"].contains("compile_error!")
    );
    // One class needs no name.
    let (neon, arm) = (of("aarch64"), of("arm"));
    assert_eq!([&neon, &arm].map(|text| classes(text)), [[1, 0, 0, 0], [0, 0, 0, 1]]);
    assert!([&neon, &arm].iter().all(|text| !text.contains("if Isa_::") && !text.contains("if (const ")));
    let lines = |text: &str| text.lines().count();
    assert!(lines(&narrow) < lines(&wide) && lines(&wide) < lines(&every));
}

#[test]
fn inline_limit_decides_who_is_inlined() {
    let dispatched = |limit: Option<u64>| {
        let options = |b: Build| if let Some(limit) = limit { b.inline_limit(limit) } else { b };
        let name = format!("inline_{}", limit.unwrap_or(1024));
        render(&name, SQUARE, options).files["square.rs"].contains("isa::dispatch")
    };
    assert!(!dispatched(None) && dispatched(Some(0)) && !dispatched(Some(40)));
}

#[test]
fn options_that_rust_would_refuse_are_errors() {
    let report = |name: &str, options: &dyn Fn(Build) -> Build| {
        let ops = folder(name);
        std::fs::write(ops.join("mod_.yaml"), SQUARE.replace("op: square", "op: mod_")).unwrap();
        std::fs::write(ops.join("gent.yaml"), SQUARE.replace("op: square", "op: gent")).unwrap();
        let report = options(Build::new().ops(&ops)).render().unwrap_err();
        assert!(report.diagnostics().iter().all(|d| d.code == Code::BadOption), "{report}");
        let text = report.to_string();
        text.replace(&format!("{}/", ops.display()), "").replace(" \n", "\n")
    };
    assert_eq!(
        report("option_module", &|b| b.module("crate::kernels")),
        "error[E037]: `crate::kernels` cannot be the module of the kernels
 |
help: a path from the crate's root: `kernels`, `nn::kernels`
"
    );
    assert_eq!(
        report("option_arch", &|b| b.target_arch("x86\"")),
        "error[E037]: `x86\"` cannot be an architecture
 |
help: as `CARGO_CFG_TARGET_ARCH` calls it: `x86_64`, `aarch64`, `arm`
"
    );
    assert_eq!(
        report("option_prefix", &|b| b.prefix("My-")),
        "error[E037]: `My-` cannot begin the names of modules
 |
help: lower-case letters, digits and `_`: `net_`
"
    );
    assert_eq!(
        report("option_std", &|b| b.std(true)),
        "error[E037]: `std` is an option of self-contained output
 |
help: elsewhere it is a feature of the crate `cotangent`
"
    );
    let text = report("option_runtime", &|b| b.prefix("cotan").self_contained(true));
    assert!(text.starts_with("error[E037]: the module of this op would be called `cotangent`\n"), "{text}");
    assert!(text.contains("so is that of the runtime") && text.contains("help: choose another prefix"), "{text}");
    let ops = folder("option_keyword");
    std::fs::write(ops.join("tch.yaml"), SQUARE.replace("op: square", "op: tch")).unwrap();
    let text = Build::new().ops(&ops).prefix("ma").render().unwrap_err().to_string();
    assert!(text.contains("would be called `match`") && text.contains("a keyword of Rust"), "{text}");
}

#[test]
fn files_that_use_one_op_are_merged() {
    let ops = folder("merged");
    let used = |name: &str, size: u32| format!("use: matvec\ninstances:\n  - {{name: {name}, I: {size}, J: 3}}\n");
    std::fs::write(ops.join("a.yaml"), used("encoder", 2)).unwrap();
    std::fs::write(ops.join("b.yml"), used("decoder", 4)).unwrap();
    std::fs::write(ops.join("square.yaml"), SQUARE).unwrap();
    let Output { files, warnings } = Build::new().ops(&ops).render().unwrap();
    assert_eq!(warnings.to_string(), "");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["matvec.rs", "mod.rs", "square.rs", "test.mod.rs"]);
    let kernels: Vec<&str> = files["matvec.rs"].lines().filter_map(|l| l.strip_prefix("pub mod ")).collect();
    assert_eq!(kernels, ["encoder {", "decoder {"]);
}

#[test]
fn an_op_of_ones_own_is_used_before_the_shipped_one() {
    let ops = folder("own_matvec");
    let own = SQUARE.replace("op: square", "op: matvec").replace("small", "own");
    std::fs::write(ops.join("matvec.yaml"), own).unwrap();
    std::fs::write(ops.join("sizes.yaml"), "use: matvec\ninstances:\n  - {name: used, I: 7}\n").unwrap();
    let Output { files, warnings } = Build::new().ops(&ops).render().unwrap();
    let codes: Vec<Code> = warnings.diagnostics().iter().map(|d| d.code).collect();
    assert_eq!((codes, warnings.errors()), (vec![Code::OwnOpUsed], 0));
    assert!(files["matvec.rs"].contains("pub mod used {") && files["matvec.rs"].contains("y[i] = x[i]^2"));
}

/// Stages that do the same with arrays of the same shapes stand in one kernel, whatever names their specs have; the
/// others import them. What comes from a cache is no exception.
#[test]
fn kernels_have_stages_in_common() {
    let [ops, out, cache, templates] = ["common", "common_out", "common_kept", "common_templates"].map(folder);
    let layer = |program: &str, tensors: [&str; 3], last: &str| {
        let [x, w, h] = tensors;
        let text = format!(
            "program: {program}\ninputs: {{{x}: [B, D], {w}: [D, H]}}\noutputs: {{y: []}}\nfunctions: [forward]\n\
             forward:\n  - {h} = matmul({x}, {w})\n  - y = {last}\n\
             instances: [{{name: n, B: 32, D: 64, H: 32}}, {{name: double, B: 32, D: 64, H: 32, dtype: f64}}]\n"
        );
        std::fs::write(ops.join(format!("{program}.yaml")), text).expect("a spec");
    };
    layer("first", ["x", "w", "h"], "sum(b,h in H) h[b,h]^2");
    layer("second", ["image", "weights", "made"], "sum(b,h) exp(made[b,h])");
    let build = |b: Build| b.ops(&ops).out_dir(&out).cache(&cache).cargo_metadata(false);
    let imports = |text: &str| -> Vec<String> {
        text.lines().filter(|l| l.starts_with("pub(super) use super::super::")).map(str::to_owned).collect()
    };
    let shared = ["n", "double"]
        .map(|kernel| format!("pub(super) use super::super::super::first::{kernel}::stages::forward_0;"));
    for cached in [false, true] {
        let files = build(Build::new()).try_compile().expect("both are made").files;
        assert_eq!(imports(&files["first.rs"]), Vec::<String>::new(), "cached: {cached}");
        assert_eq!(imports(&files["second.rs"]), shared, "cached: {cached}");
        assert!(files.values().all(|text| !text.contains('\u{1}')), "marks are left");
        // The tiles of the product stand where it does.
        let tiles = ["first.rs", "second.rs"].map(|file| files[file].matches("fn _tile").count());
        assert!(tiles[0] > 0 && tiles[1] < tiles[0], "{tiles:?}");
    }
    let prefixed = build(Build::new()).prefix("k_").render().expect("both are made").files;
    assert!(imports(&prefixed["k_second.rs"])[0].contains("::k_first::n::stages::"));
    let whole = Build::new().ops(&ops).self_contained(true).module("kernels").render().expect("both are made").files;
    assert_eq!(imports(&whole["mod.rs"]), shared);
    // A module of one's own may stand elsewhere.
    let template = "pub mod elsewhere { include!(\"{{ module }}.rs\"); }\n";
    std::fs::write(templates.join("module.rs.tera"), template).expect("a template");
    let own = build(Build::new()).templates(&templates).render().expect("both are made").files;
    assert!(imports(&own["second.rs"]).is_empty() && !own["second.rs"].contains('\u{1}'));
}
