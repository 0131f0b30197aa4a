//! Specs that are meant to harm: takes files too large, too deep, too many or not text, and what fuzzing found, gives
//! them to the command line in a process of bounded memory. What holds after it: each ends in time, without a crash,
//! and says what is wrong where something is.
//!
//! The ceilings are for a debug build on a busy machine: a release build takes a second or two for each.

use crate::generated::folder;
use cotangent_build::Build;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HEAD: &str = "op: h\ninputs: {x: [I]}\noutputs: {y: [I]}\n";

fn spec(steps: &[String], instances: &str) -> String {
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("{HEAD}forward:\n{steps}instances: {instances}\n")
}

fn one(value: &str) -> String {
    spec(&[format!("y[i] = {value}")], "[{name: a, I: 3}]")
}

fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<_>>().join(", ")
}

/// The command line in a process that has a gigabyte and a half of address space: its exit code, and what it says.
fn cotangent(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -v 1500000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cotangent")]);
        shell
    } else {
        Command::new(env!("CARGO_BIN_EXE_cotangent"))
    };
    let said = folder.join("said.txt");
    let file = std::fs::File::create(&said).expect("the file is made");
    let command = command.args(arguments).current_dir(folder).stdout(Stdio::null()).stderr(file);
    let mut child = command.spawn().expect("the command line runs");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the process is ours") {
            break status;
        }
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().expect("the process ends");
            child.wait().expect("the process has ended");
            panic!("{arguments:?} in {} does not end", folder.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = std::fs::read(&said).expect("what was said is there");
    (status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Name, file, and what is said; nothing where the spec is right.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let chain = |n: usize, step: &dyn Fn(usize) -> String| -> Vec<String> {
        let first = "t0[i] = x[i]".to_owned();
        let last = format!("y[i] = t{n}[i]");
        std::iter::once(first).chain((0..n).map(step)).chain([last]).collect()
    };
    let text: Vec<(&str, String, &str)> = vec![
        ("extent_1e9", spec(&["y[i] = exp(x[i])".into()], "[{name: a, I: 1000000000}]"), ""),
        ("extent_2e31", spec(&["y[i] = exp(x[i])".into()], "[{name: a, I: 2147483649}]"), "error[E025]"),
        ("extent_2e63", spec(&["y[i] = exp(x[i])".into()], "[{name: a, I: 9223372036854775808}]"), "error[E025]"),
        ("extent_negative", spec(&["y[i] = exp(x[i])".into()], "[{name: a, I: -9223372036854775808}]"), "error[E025]"),
        (
            "reduction_1e9",
            "op: h\ninputs: {x: [I]}\noutputs: {y: []}\nforward:\n  - y = sum(i) exp(x[i])\ninstances: [{name: a, I: 1000000000}]\n".into(),
            "",
        ),
        (
            "local_2e31",
            "op: h\ninputs: {x: [I], z: [J]}\noutputs: {y: []}\nforward:\n  - t[i,j] = x[i] * z[j]\n  - u[i,j] = exp(t[i,j])\n  - y = sum(i,j) u[i,j]\ninstances: [{name: a, I: 100000, J: 100000}]\n".into(),
            "error[E025]",
        ),
        ("parentheses", one(&("(".repeat(10_000) + "x[i]" + &")".repeat(10_000))), "error[E007]"),
        ("signs", one(&("-".repeat(10_000) + "x[i]")), "error[E007]"),
        ("terms", one(&("x[i] + ".repeat(100_000) + "x[i]")), "error[E007]"),
        ("where", one(&("where(x[i] > 0, x[i], ".repeat(60) + "0" + &")".repeat(60))), ""),
        ("where_deeper", one(&("where(x[i] > 0, x[i], ".repeat(80) + "0" + &")".repeat(80))), "error[E007]"),
        ("functions", one(&("sin(".repeat(60) + "x[i]" + &")".repeat(60))), ""),
        ("reductions", one(&("sum(i) ".repeat(10_000) + "x[i]")), "error[E007]"),
        ("power", one("x[i]^9223372036854775807"), ""),
        ("powers", one(&("(".repeat(50) + "x[i]" + &")^3".repeat(50))), ""),
        ("product", one(&list(30, |n| format!("(x[i] + {n})")).replace(", ", " * ")), ""),
        ("doubling", spec(&chain(60, &|n| format!("t{}[i] = t{n}[i] * t{n}[i]", n + 1)), "[{name: a, I: 3}]"), ""),
        ("steps", spec(&chain(20_000, &|n| format!("t{}[i] = t{n}[i]", n + 1)), "[]"), "error[E044]"),
        (
            "accesses",
            spec(&(0..100).map(|n| format!("t{n}[i] = {}x[i]", "x[i] + ".repeat(150))).chain(["y[i] = x[i]".into()]).collect::<Vec<_>>(), "[]"),
            "error[E044]",
        ),
        ("instances", spec(&["y[i] = x[i]".into()], &format!("[{}]", list(20_000, |n| format!("{{name: a{n}, I: 3}}")))), "error[E044]"),
        ("dimensions", spec(&["y[i] = x[i]".into()], &format!("[{{name: a, I: [{}]}}]", list(100_000, |_| "1".into()))), "error[E044]"),
        (
            "axes",
            format!("op: h\ninputs: {{x: [{}]}}\noutputs: {{y: []}}\nforward:\n  - y = 1\ninstances: []\n", list(5_000, |n| format!("A{n}"))),
            "error[E044]",
        ),
        (
            "inputs",
            format!("op: h\ninputs: {{{}}}\noutputs: {{y: []}}\nforward:\n  - y = x1\ninstances: []\n", list(5_000, |n| format!("x{n}: []"))),
            "error[E044]",
        ),
        (
            "laughs",
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nop: h\n".into(),
            "error[E001]: anchors and aliases",
        ),
        ("lists", format!("op: {}{}\n", "[".repeat(10_000), "]".repeat(10_000)), "error[E001]"),
        ("mappings", format!("op: {}{}\n", "{a: ".repeat(10_000), "}".repeat(10_000)), "error[E001]"),
        ("blocks", (0..1_400).map(|n| " ".repeat(n) + "a:\n").collect(), "error[E001]"),
        ("zero_byte", "op: h\0\n".into(), "error[E001]"),
        ("walks_out", HEAD.replace("op: h", "op: ../h") + "forward:\n  - y[i] = x[i]\ninstances: []\n", "error[E005]"),
        ("walks_in", spec(&["y[i] = x[i]".into()], "[{name: ../../a, I: 3}]"), "error[E005]"),
        ("itself", spec(&["y = h(x)".into()], "[{name: a, I: 3}]"), "error[E039]: `h` is made of itself"),
        ("long_name", format!("op: {}\n", "a".repeat(900_000)), "error[E003]"),
        ("long_line", format!("{HEAD}doc: {}\nforward:\n  - y[i] = q[i]\ninstances: []\n", "a".repeat(900_000)), "error[E008]"),
        (
            "index",
            "op: h\nparams: {p: int, q: int}\ninputs: {x: [I]}\noutputs: {y: [I]}\nforward:\n  - y[i] = x[i*PRODUCT]\ninstances: [{name: a, I: 3, p: 1, q: 2}]\n"
                .replace("PRODUCT", &list(60, |n| format!("(p+q+{n})")).replace(", ", "*")),
            "error[E013]",
        ),
    ];
    let mut all: Vec<_> = text.into_iter().map(|(name, text, said)| (name, text.into_bytes(), said)).collect();
    all.push(("not_utf8", b"op: h\xff\xfe\n".to_vec(), "error[E033]"));
    all.push(("large", "a\n".repeat(10_000_000).into_bytes(), "error[E044]: the file is too large"));
    all
}

#[test]
fn every_spec_ends_in_time_with_what_is_wrong() {
    for (name, text, expected) in cases() {
        let folder = folder(&format!("hostile_{name}"), &[]);
        std::fs::write(folder.join("ops/h.yaml"), text).expect("the spec is written");
        for arguments in [&["check", "ops"] as &[&str], &["render", "ops", "--portable", "-o", "out.rs"]] {
            let (code, said) = cotangent(&folder, arguments);
            let head: String = said.chars().take(3000).collect();
            if expected.is_empty() {
                assert_eq!(code, Some(0), "{name}: {head}");
            } else {
                assert!(code == Some(1) && said.contains(expected), "{name}: {code:?} {head}");
            }
            assert!(said.len() < 100_000, "{name}: {} bytes are said", said.len());
        }
    }
}

#[test]
fn ops_that_call_each_other_are_bounded() {
    let op = |n: usize, step: String| {
        let text = format!("op: r{n}\ninputs: {{x: [I]}}\noutputs: {{y: [I]}}\nforward:\n{step}instances: []\n");
        (format!("r{n}"), text)
    };
    // Around in a ring; one after the other; each the one before eight times.
    let next = |n: usize, of: usize| op(n, format!("  - y = r{of}(x)\n"));
    let end = |n: usize| op(n, "  - y[i] = x[i] * x[i]\n".into());
    let eight = |n: usize| {
        let steps = (0..8)
            .map(|k| format!("  - t{} = r{}({})\n", k + 1, n - 1, if k == 0 { "x".into() } else { format!("t{k}") }));
        op(n, steps.collect::<String>() + "  - y[i] = t8[i]\n")
    };
    let ring: Vec<_> = (0..60).map(|n| next(n, (n + 1) % 60)).collect();
    let chain: Vec<_> = (0..400).map(|n| if n < 399 { next(n, n + 1) } else { end(n) }).collect();
    let tree: Vec<_> = (0..10).map(|n| if n > 0 { eight(n) } else { end(n) }).collect();
    for (name, ops, expected) in [
        ("ring", ring, "error[E0"),
        ("chain", chain, "error[E044]: `r0` is too large: its calls go more than 32 ops deep"),
        ("tree", tree, "error[E044]: `r4` is too large: with this call it has more than 4000 steps"),
    ] {
        let ops: Vec<_> = ops.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let folder = folder(&format!("hostile_calls_{name}"), &ops);
        let (code, said) = cotangent(&folder, &["check", "ops"]);
        assert!(code == Some(1) && said.contains(expected), "{name}: {said:.3000}");
    }
}

#[test]
fn many_findings_are_counted() {
    let steps: Vec<_> = (0..3_000).map(|n| format!("t{n}[i] = q{n}[i]")).collect();
    let folder = folder("hostile_findings", &[("h", &spec(&steps, "[]"))]);
    let report = Build::new().ops(folder.join("ops")).render().expect_err("errors");
    let errors = report.errors();
    assert!(errors >= 3_000);
    let said = report.to_string();
    assert_eq!(said.matches("error[E").count(), 100);
    assert!(said.ends_with(&format!("\n\nnot shown: {} more errors\n", errors - 100)), "{}", &said[said.len() - 100..]);
    // Far from each other in a file, two places are shown without what stands between them.
    let keys: String = (0..30_000).map(|n| format!("# {n}\n")).collect();
    let text = format!("{HEAD}{keys}doc: a\ndoc: b\nop: h\n");
    std::fs::write(folder.join("ops/h.yaml"), text).expect("the spec is written");
    let said = Build::new().ops(folder.join("ops")).render().expect_err("errors").to_string();
    for part in ["h.yaml:30006:1\n", "30006 | op: h\n", "1 | op: h\n", "30005 | doc: b\n"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    let folder = folder("hostile_pipe", &[("softmax", "use: softmax\ninstances: [{name: a, I: 3, J: 5}]\n")]);
    let bad = folder.join("bad.yaml");
    std::fs::write(&bad, "op: b\n").expect("the spec is written");
    for arguments in [
        &["check", "ops"] as &[&str],
        &["check", "bad.yaml"],
        &["show", "ops", "--stage", "index"],
        &["render", "ops"],
        &["render", "bad.yaml"],
        &["explain", "E020"],
        &["explain", "E999"],
        &["--help"],
        &["--version"],
        &["no", "command"],
    ] {
        let expected = cotangent(&folder, arguments).0;
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
        let command = command.args(arguments).current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command line runs");
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().expect("it ends").code(), expected, "{arguments:?}");
    }
}

/// What fuzzing found: no panic, and either kernels or what is wrong.
#[test]
fn what_fuzzing_found_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut specs: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the folder is there").map(|e| e.expect("an entry").path()).collect();
    specs.sort();
    assert!(specs.len() >= 2);
    for spec in specs {
        match Build::new().ops(&spec).render() {
            Ok(output) => assert!(output.files.len() > 1, "{}", spec.display()),
            Err(report) => assert!(report.to_string().contains("error[E"), "{}: {report}", spec.display()),
        }
    }
}
