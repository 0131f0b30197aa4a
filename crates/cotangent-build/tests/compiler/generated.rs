//! Generated code under rustc: takes specs, gives the files that builds render of them, and what programs print that
//! use these.

use cotangent_build::Build;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One op.
pub const SQUARE: &str = "op: square
inputs: {x: [I]}
outputs: {y: [I]}
forward:
  - y[i] = x[i]^2
adjoint:
  - x_bar[i] += 2 * x[i] * y_bar[i]
instances:
  - {name: small, I: 5}
";

/// For programs that print what functions write: numbers of either type, and a hash of their bits (FNV-1a).
pub const BITS: &str = "
trait Number: Copy { fn of(x: f64) -> Self; fn bits(self) -> u64; }
impl Number for f32 { fn of(x: f64) -> f32 { x as f32 } fn bits(self) -> u64 { self.to_bits().into() } }
impl Number for f64 { fn of(x: f64) -> f64 { x } fn bits(self) -> u64 { self.to_bits() } }

/// Fractions of multiples of the golden ratio, from a place that the seed says, between -1 and 1.
fn filled<T: Tensor>(seed: f64) -> T where T::Scalar: Number {
    let mut x = T::ZERO;
    for (i, x) in x.flat_mut().iter_mut().enumerate() {
        *x = T::Scalar::of((seed + (i as f64) * 0.618033988749895).fract() * 2.0 - 1.0);
    }
    x
}

fn hash<T: Tensor>(x: &T) -> u64 where T::Scalar: Number {
    x.flat().iter().fold(0xcbf29ce484222325, |h, x| (h ^ x.bits()).wrapping_mul(0x100000001b3))
}
";

/// A folder of its own for a test, emptied.
pub fn emptied(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the folder is made");
    path
}

/// A folder of its own for a test, emptied, with specs in `ops`: names and texts.
pub fn folder(name: &str, ops: &[(&str, &str)]) -> PathBuf {
    let path = emptied(name);
    std::fs::create_dir(path.join("ops")).expect("the folder is made");
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
