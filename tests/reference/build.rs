//! Kernels for the tests, in two modules. `kernels`: takes the reference values (`cases/`), the lists of shapes at the
//! edge (`edges/`) and the ops that they are of (`../../ops`, `ops/`), gives these ops at the sizes of the cases, once
//! in `f64` and once in `f32`, and at the edges. `instances`: takes the lists of further instances of the bundled ops
//! (`instances/`), gives what they say.

#[path = "src/cases.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod cases;

use cases::{Case, INSTANCES, Layout, SCALARS};
use cotangent_build::Build;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The stored orders that a case is compiled in, besides the declared one.
const LAYOUTS: &[(&str, &str)] = &[("conv", "{x: [N, Cx, S], y: [N, Cy, O], k: [Cy, Cx, T]}")];

fn main() {
    for folder in ["../../ops", "ops", "cases", "edges", "instances"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut instances: BTreeMap<String, String> = BTreeMap::new();
    for case in cases::all(Path::new("cases")) {
        let list = instances.entry(case.op.clone()).or_default();
        for scalar in SCALARS {
            list.push_str(&instance(&case, scalar, Layout::Declared, ""));
            for (_, layout) in LAYOUTS.iter().filter(|(op, _)| *op == case.op) {
                list.push_str(&instance(&case, scalar, Layout::Other, &format!(", layout: {layout}")));
            }
        }
    }
    for (op, text) in cases::edges(Path::new("edges")) {
        let (_, list) = text.split_once(INSTANCES).unwrap_or_else(|| panic!("edges of {op}: no instances"));
        instances.entry(op).or_default().push_str(list);
    }

    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let specs = out.join("specs");
    if specs.exists() {
        std::fs::remove_dir_all(&specs).expect("the old specs can go");
    }
    std::fs::create_dir_all(&specs).expect("OUT_DIR can be written");
    for (op, list) in &instances {
        let file = format!("{op}.yaml");
        let found = ["../../ops", "ops"].iter().map(|f| Path::new(f).join(&file)).find(|p| p.exists());
        let path = found.unwrap_or_else(|| panic!("no spec of {op}"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (declaration, _) = text.split_once(INSTANCES).unwrap_or_else(|| panic!("{op}: no instances"));
        let text = format!("{declaration}{INSTANCES}\n{list}");
        std::fs::write(specs.join(file), text).expect("OUT_DIR can be written");
    }

    let listed = Build::new().ops("instances").module("instances").ndarray(true);
    built(&listed.out_dir(out.join("instances")).cache(out.join("instances.cache")));

    // Diagnostics name `specs/...`, wherever the build folder is. The specs are new on every run, so cargo must not
    // watch them, which `compile` would ask it to.
    std::env::set_current_dir(&out).expect("OUT_DIR is a folder");
    built(&Build::new().ops("specs"));
}

/// Compiles. What cargo watches is said above.
fn built(build: &Build) {
    if let Err(failure) = build.clone().cargo_metadata(false).try_compile() {
        eprintln!("{failure}");
        std::process::exit(1);
    }
}

/// A line of a list of instances.
fn instance(case: &Case, scalar: &str, layout: Layout, more: &str) -> String {
    let numbers = case.axes.iter().chain(&case.params).map(|(key, value)| format!(", {key}: {value}"));
    let numbers: String = numbers.collect();
    format!("  - {{name: {}, dtype: {scalar}{numbers}{more}}}\n", case.instance(scalar, layout))
}
