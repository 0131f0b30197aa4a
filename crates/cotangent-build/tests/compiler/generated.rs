//! Generated code under rustc: takes specs, gives the files that builds render of them, and what programs print that use these.

use cotangent_build::Build;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of its own for a test, emptied, with specs in `ops`: names and texts.
pub fn folder(name: &str, ops: &[(&str, &str)]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(path.join("ops")).expect("the folder is made");
    for (name, text) in ops {
        std::fs::write(path.join(format!("ops/{name}.yaml")), text).expect("the spec is written");
    }
    path
}

/// Renders the specs of a folder to its file `NAME.rs`, which needs no crate, and gives the text.
pub fn render(folder: &Path, name: &str, build: Build) -> String {
    let output = build.ops(folder.join("ops")).self_contained(true).module(name).render();
    let output = output.unwrap_or_else(|report| panic!("{report}"));
    // With it its tests.
    assert_eq!(output.files.keys().collect::<Vec<_>>(), ["mod.rs", "test.mod.rs"]);
    let text = output.files["mod.rs"].clone();
    std::fs::write(folder.join(format!("{name}.rs")), &text).expect("the file is written");
    std::fs::write(folder.join(format!("{name}.tests.rs")), &output.files["test.mod.rs"]).expect("the file is written");
    text
}

/// The compiler of this toolchain: beside its cargo.
pub fn rustc() -> Command {
    let beside = Path::new(env!("CARGO")).with_file_name(format!("rustc{}", std::env::consts::EXE_SUFFIX));
    Command::new(if beside.is_file() { beside } else { "rustc".into() })
}

/// Compiles the file `root` of a folder, without a warning.
pub fn compile(folder: &Path, edition: &str, root: &str, arguments: &[&str]) {
    let (_, said) = run(rustc().args(["--edition", edition, root]).args(arguments).current_dir(folder));
    assert!(said.is_empty(), "{root}, edition {edition}:\n{said}");
}

/// Runs a program to its end; gives what it printed, and what it said besides.
pub fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program()));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}{err}");
    (out.into_owned(), err.into_owned())
}
