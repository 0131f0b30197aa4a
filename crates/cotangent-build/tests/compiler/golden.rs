//! Golden text: one small op at every stage, as `cotangent show` prints it. Takes `ops`, gives the texts of
//! `tests/golden`; what single passes do stands in `tests/passes`. `BLESS=1 cargo test --test compiler golden`
//! rewrites.

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

#[test]
fn an_op_at_every_stage() {
    for stage in ["index", "rules", "plain", "nest", "rust"] {
        let text = shown("bias_add", "digits_logits", stage, &["--functions", "forward,vjp_b_store"]);
        let file: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("bias_add.{stage}.txt")].iter().collect();
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

/// The text of one function stands in `docs/generated.md` as it is, and its tile in the README.
#[test]
fn the_documents_show_what_is_printed() {
    let text = show("matmul", "dense_64x64x64", "rust");
    let tile = text.find("#[inline(always)]\nfn _tile<").expect("it has a tile");
    let end = tile + text[tile..].find("\n}\n").expect("the tile ends") + "\n}\n".len();
    for (file, own) in [("docs/generated.md", text.as_str()), ("README.md", &text[tile..end])] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let document = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        let (before, rest) = document.split_once("```rust,ignore\n").expect("the text is there");
        let (old, after) = rest.split_once("```\n").expect("it ends");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, format!("{before}```rust,ignore\n{own}```\n{after}"))
                .expect("the document is written");
        } else {
            assert!(old == own, "{file} shows another text than is printed (BLESS=1 writes it):\n{own}");
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let all = || shown("conv", "signal_stride3", "rust", &["--functions", "all"]);
    assert_eq!(all(), all());
}
