//! The build: spec folders in, files out, as a build script runs it.

use cotangent_build::{Build, Output};
use std::path::PathBuf;

/// A folder of its own for a test, emptied.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the folder is made");
    path
}

const SQUARE: &str = "op: square
inputs: {x: [I]}
outputs: {y: [I]}
forward:
  - y[i] = x[i]^2
adjoint:
  - x_bar[i] += 2 * x[i] * y_bar[i]
instances:
  - {name: small, I: 5}
";

#[test]
fn a_folder_becomes_a_file_an_op_and_the_root() {
    let ops = folder("two_ops");
    std::fs::write(ops.join("square.yaml"), SQUARE).unwrap();
    let cube =
        SQUARE.replace("op: square", "op: cube").replace("x[i]^2", "x[i]*x[i]*x[i]").replace("2 * x[i]", "3 * x[i]^2");
    std::fs::write(ops.join("cube.yaml"), cube).unwrap();
    let Output { files, warnings } = Build::new().ops(&ops).render().unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["cube.rs", "mod.rs", "square.rs"]);
    assert_eq!(warnings.to_string(), "");
    assert!(files["cube.rs"].contains("pub fn vjp_x_store("));
    assert!(files["mod.rs"].contains("cube::small") && files["mod.rs"].contains("square::small"));
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
    assert!(failure.to_string().contains("op.rs.tera"), "{failure}");
}
