//! What people write as text: takes specs whose texts, paths and names hold whatever ends a comment, a string, a line
//! or a block of Markdown. What holds after it: each is refused with a code, or the Rust, its documentation and the
//! header for C compile without a warning, and hold no code of it.

use crate::generated::{folder, run, rustc};
use cotangent_build::{Build, InstructionSet};
use std::path::Path;
use std::process::Command;

/// Each would be code, or refused by a compiler, somewhere if it stood there as it is.
const NASTY: [&str; 22] = [
    "a\nfn mischief(",
    "a\rfn mischief(",
    "a\r\n#![mischief]",
    "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f",
    "right\u{202e}left\u{202c}, \u{2066}isolated\u{2069}, \u{200f}\u{61c}\u{200e}",
    "tab\there, bell\u{7}, escape\u{1b}[31m, delete\u{7f}, mark\u{feff}",
    "ends */ int mischief; /* opens",
    "/*/ */*/ **//",
    "quote \" mischief \\\" and \\",
    "raw \"# r#\"##",
    "goes on \\",
    "trigraph ?\u{3f}/",
    "?\u{3f}?/",
    "{{ mischief }} {% mischief %} {# mischief",
    "{} {0} {mischief} %s %n ${mischief}",
    "```\nassert!(mischief);\n```",
    "~~~rust\nassert!(mischief);\n~~~",
    "- item\n\n      assert!(mischief);\n\n-     assert!(mischief);",
    "> ```\n> assert!(mischief);",
    "<script>mischief</script> <!-- <pre> <mischief",
    "a ` b `` c ` [mischief] [mischief](mischief) [`mischief`] <http://mischief> [x]: y",
    "| mischief | # mischief\n===\n#[mischief]",
];

/// A text as YAML.
fn quoted(text: &str) -> String {
    let chars = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_ascii() && !c.is_control() => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    });
    format!("\"{}\"", chars.collect::<String>())
}

/// No character that shows nothing or turns what follows; no code of a text.
fn clean(name: &str, text: &str) {
    let bad = text
        .chars()
        .find(|c| *c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{2028}\u{200f}\u{feff}".contains(*c)));
    assert_eq!(bad, None, "{name}");
    for line in text.lines().filter(|line| line.contains("mischief")) {
        let comment = line.trim_start().starts_with("//") || line.contains(" // ") || line.starts_with(" *");
        let opens = line.trim_start().starts_with("/* ") && (line.ends_with("*/") || !line.contains("*/"));
        assert!(comment || opens || line.contains('"'), "{name}: {line}");
    }
}

#[test]
fn texts_and_paths_are_never_code() {
    let root = folder("text", &[]);
    let mut build = Build::new().c_header("ends ?\u{3f}/ `x`\n.h").instruction_sets([InstructionSet::Portable]);
    for (n, text) in NASTY.iter().enumerate() {
        // A path has no zero; a slash in it is a folder.
        let specs = root.join(format!("{n}_{text}"));
        std::fs::create_dir_all(&specs).expect("the folder is made");
        let own = format!(
            "op: own{n}\ndoc: {}\ninputs: {{x: [I]}}\noutputs: {{y: [I]}}\nforward:\n  - \"t[i]\\n=\\r\\nexp(x[i])\\t\"\n  - |\n    y[i] =\u{2003}t[i]\n      * 2\ninstances:\n  - {{name: k, I: 3}}\n",
            quoted(text)
        );
        std::fs::write(specs.join(format!("own{n}.yaml")), own).expect("the spec is written");
        let file = format!("{}.yaml", text.replace('/', "\u{2215}"));
        let used = format!("use: exp\ninstances: [{{name: k{n}, I: 3}}]\n");
        std::fs::write(specs.join(file), used).expect("the spec is written");
        build = build.ops(&specs);
    }
    let output = build.self_contained(true).module("text").render().unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(output.files.len(), 3);
    for (name, text) in &output.files {
        clean(name, text);
        let file = match name.as_str() {
            "mod.rs" => "text.rs",
            "test.mod.rs" => "test.rs",
            _ => "text.h",
        };
        std::fs::write(root.join(file), text).expect("the file is written");
    }
    compiles(&root);
    // What is said of such a file is one line a line.
    let bad = root.join("b\u{1b}[2J\n= c.yaml");
    std::fs::write(&bad, "op: a\n").expect("the spec is written");
    for path in [bad.clone(), root.join("none\nerror: here")] {
        let said = Build::new().ops(path).render().expect_err("no spec").to_string();
        assert!(!said.contains('\u{1b}') && !said.contains("\n= c") && !said.contains("\nerror: here"), "{said}");
    }
}

/// The Rust with its documentation, and the header, without a warning.
fn compiles(root: &Path) {
    std::fs::write(root.join("lib.rs"), "//! All.\n#![no_std]\n#![deny(warnings)]\npub mod text;\n").expect("written");
    let lib = ["--edition", "2024", "--crate-type", "lib", "--crate-name", "texts", "lib.rs"];
    let (_, said) = run(rustc().args(lib).args(["--emit", "metadata", "-o", "out.rmeta"]).current_dir(root));
    assert_eq!(said, "");
    let tool = rustc().get_program().to_string_lossy().replace("rustc", "rustdoc");
    let rustdoc = || {
        let mut command = Command::new(&tool);
        command.args(lib).current_dir(root);
        command
    };
    let (_, said) = run(rustdoc().args(["-D", "warnings", "-o", "doc"]));
    assert_eq!(said, "");
    let page = std::fs::read_to_string(root.join("doc/texts/text/own19/index.html")).expect("the page is there");
    assert!(page.contains("&lt;script&gt;mischief&lt;/script&gt;"), "{page}");
    // No text is a test of the crate that has it.
    let (said, _) = run(rustdoc().arg("--test"));
    assert!(said.contains("running 0 tests"), "{said}");
    for (compiler, language) in [("cc", "c"), ("c++", "c++")] {
        let cc = Command::new(compiler)
            .args(["-fsyntax-only", "-trigraphs", "-Wall", "-Wextra", "-Werror", "-x", language, "text.h"])
            .current_dir(root)
            .output();
        // As in the tests of C: where there is no compiler, there is nothing to ask.
        if let Ok(output) = cc {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let said: Vec<_> = said.lines().filter(|line| !line.contains("pragma")).collect();
            assert!(output.status.success(), "{}", said.join("\n"));
        }
    }
}

/// A spec with each of its texts on its own.
const SPEC: &str = "\
@op@: @own@
@doc@: @A text.@
@params@: {@p@: @J@, @q@: @real@}
@inputs@:
  @x@: [@I@, @J@]
  @u@: []
@outputs@: {@y@: [@I@, @K@]}
@sizes@: {@K@: @J + p@}
@domain@: {@x@: @[-1, 1]@}
@forward@:
  - @y[i,k] = q * x[i, k - p] * u@
@adjoint@: @derived@
@instances@:
  - {@name@: @k@, @I@: @2@, @J@: @3@, @p@: @1@, @q@: @0.5@, @dtype@: @f64@, @layout@: {@x@: [@J@, @I@]}, @schedule@: {@forward@: @plain@}}
";

#[test]
fn every_text_is_refused_with_a_code_or_harmless() {
    let root = folder("text_fields", &[]);
    let spec = root.join("own.yaml");
    let parts: Vec<&str> = SPEC.split('@').collect();
    let mut accepted = 0;
    for at in (1..parts.len()).step_by(2) {
        for text in NASTY {
            let part = |n: usize| match n {
                n if n == at => quoted(text),
                // Quoted numbers are texts.
                n if n % 2 == 1 && parts[n].parse::<f64>().is_err() => quoted(parts[n]),
                n => parts[n].to_owned(),
            };
            // The schedule is one that no machine has: it is left out unless its turn has come.
            let whole: String = (0..parts.len()).map(part).collect();
            let whole = if at < parts.len() - 6 {
                whole.replace(", \"schedule\": {\"forward\": \"plain\"}", "")
            } else {
                whole
            };
            std::fs::write(&spec, whole).expect("the spec is written");
            match Build::new().ops(&spec).c_header("k.h").render() {
                Ok(output) => {
                    accepted += 1;
                    output.files.iter().for_each(|(name, text)| clean(name, text));
                }
                Err(report) => {
                    let said = report.to_string();
                    assert!(said.starts_with("error[E"), "{said}");
                    clean("what is said", &said.replace("mischief", ""));
                }
            }
        }
    }
    // The documentation alone is free.
    assert_eq!(accepted, NASTY.len());
}
