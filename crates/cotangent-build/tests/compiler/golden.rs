//! Golden text: two ops at every stage, one instance each, as `cotangent show` prints them. `BLESS=1 cargo test --test compiler golden` rewrites.

use std::path::{Path, PathBuf};
use std::process::Command;

fn show(op: &str, instance: &str, stage: &str) -> String {
    shown(op, instance, stage, &[])
}

/// As the command line prints it, with more options.
fn shown(op: &str, instance: &str, stage: &str, more: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO_BIN_EXE_cotangent"))
        .args(["show", &format!("ops/{op}.yaml"), "--stage", stage, "--instance", instance])
        .args(more)
        .current_dir(root)
        .output()
        .expect("the command line runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn golden(op: &str, instance: &str) {
    for stage in ["index", "rules", "plain", "nest", "rust"] {
        let text = show(op, instance, stage);
        let file: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{op}.{stage}.txt")].iter().collect();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &text).expect("the golden file is written");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let differs = expected.lines().zip(text.lines()).position(|(a, b)| a != b);
        let at = differs.unwrap_or(expected.lines().count().min(text.lines().count()));
        assert!(
            expected == text,
            "{} differs from line {}:\n  expected: {}\n  found:    {}",
            file.display(),
            at + 1,
            expected.lines().nth(at).unwrap_or("<end>"),
            text.lines().nth(at).unwrap_or("<end>")
        );
    }
}

#[test]
fn softmax_at_every_stage() {
    golden("softmax", "i32_j10");
}

#[test]
fn convolution_at_every_stage() {
    golden("conv", "signal_stride3");
}

/// The text of one function stands in the README as it is.
#[test]
fn the_readme_shows_what_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).expect("the README");
    let more = ["--functions", "forward", "--target-arch", "x86_64"];
    let text = shown("matmul", "dense_64x64x64", "rust", &more);
    let (before, rest) = readme.split_once("```rust,ignore\n// @generated").expect("the text is there");
    let (old, after) = rest.split_once("```\n").expect("it ends");
    let text = text.strip_prefix("// @generated").expect("it says that it is generated");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{before}```rust,ignore\n// @generated{text}```\n{after}"))
            .expect("the README is written");
    } else {
        assert!(old == text, "the README shows another text than is printed (BLESS=1 writes it):\n{text}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(show("conv", "signal_stride3", "rust"), show("conv", "signal_stride3", "rust"));
}
