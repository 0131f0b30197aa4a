//! Specs for the benchmark: takes the lists of instances (`instances/`) and the bundled ops that they are of
//! (`../../ops`), gives kernels of these ops at these shapes. After it, an instance in a list is a row of the
//! benchmark: the ops' formulas stand in one place.

use std::path::{Path, PathBuf};

/// The line at which the list of instances begins: the last key of a spec.
const INSTANCES: &str = "\ninstances:";

fn main() {
    println!("cargo::rerun-if-changed=../../ops");
    println!("cargo::rerun-if-changed=instances");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let specs = out.join("specs");
    if specs.exists() {
        std::fs::remove_dir_all(&specs).expect("the old specs can go");
    }
    std::fs::create_dir_all(&specs).expect("OUT_DIR can be written");
    for entry in std::fs::read_dir("instances").expect("the lists of instances") {
        let list = entry.expect("an entry").path();
        let file = list.file_name().expect("a file");
        let declaration = before_instances(&Path::new("../../ops").join(file)).0;
        let instances = before_instances(&list).1;
        std::fs::write(specs.join(file), format!("{declaration}{INSTANCES}{instances}"))
            .expect("OUT_DIR can be written");
    }

    // Diagnostics name `specs/...`, wherever the build folder is. The specs are new on every run, so cargo must not
    // watch them, which `compile` would ask it to.
    std::env::set_current_dir(&out).expect("OUT_DIR is a folder");
    if let Err(failure) =
        cotangent_build::Build::new().ops("specs").stack_limit(1 << 20).cargo_metadata(false).try_compile()
    {
        eprintln!("{failure}");
        std::process::exit(1);
    }
}

/// A spec in two parts: its declaration, and its list of instances.
fn before_instances(path: &Path) -> (String, String) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (declaration, list) = text.split_once(INSTANCES).unwrap_or_else(|| panic!("{}: no instances", path.display()));
    (declaration.into(), list.into())
}
