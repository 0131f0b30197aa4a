//! The builder under cargo: a workspace of two small crates, each with a build script that counts its runs. What holds
//! after it: a script runs again when a spec, a template or an option changes, and not otherwise; what it writes
//! depends on nothing else.

use crate::generated::SQUARE;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What cargo made of the crates that these tests write: the folder of this build, so that dependencies are compiled
/// once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder").to_path_buf()
}

struct Workspace {
    /// What the names of its packages begin with: cargo would take equal ones for the same.
    name: String,
    root: PathBuf,
}

impl Workspace {
    /// Two crates of the same shape; the first depends on the second.
    fn new(name: &str) -> Self {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&root);
        let w = Workspace { name: name.into(), root };
        w.write("Cargo.toml", "[workspace]\nmembers = [\"first\", \"second\"]\nresolver = \"3\"\n");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::copy(repository.join("Cargo.lock"), w.path("Cargo.lock")).expect("the versions of this build");
        for (package, other) in
            [("first", format!("{name}-second = {{ path = \"../second\" }}\n")), ("second", String::new())]
        {
            w.write(
                &format!("{package}/Cargo.toml"),
                &format!(
                    "[package]\nname = \"{name}-{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
                     [dependencies]\ncotangent = {{ path = {repository:?}, default-features = false }}\n{other}\n\
                     [build-dependencies]\ncotangent-build = {{ path = {:?} }}\n",
                    env!("CARGO_MANIFEST_DIR")
                ),
            );
            w.write(&format!("{package}/build.rs"), &build_script(""));
            w.write(
                &format!("{package}/src/lib.rs"),
                "#![no_std]\n\npub mod kernels {\n    cotangent::include_kernels!();\n}\n",
            );
            w.write(&format!("{package}/ops/square.yaml"), SQUARE);
            w.write(&format!("{package}/templates/README"), "Templates of our own.\n");
        }
        w
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder is made");
        std::fs::write(path, text).expect("the file is written");
        // The clock of some file systems is coarse.
        std::thread::sleep(Duration::from_millis(20));
    }

    /// Builds; how often each script has run in it, and what cargo said.
    fn build(&self) -> ([usize; 2], bool, String) {
        let output = Command::new(env!("CARGO"))
            .args(["check", "--offline", "--workspace", "--color=never"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", target())
            // The compiler is built once: what helps the next build only costs.
            .env("CARGO_INCREMENTAL", "0")
            // What wraps the compiler of this build is nothing that users have.
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .output()
            .expect("cargo runs");
        let runs = ["first", "second"].map(|package| {
            let path = self.path(&format!("{package}.runs"));
            let runs = std::fs::read_to_string(&path).unwrap_or_default().len();
            let _ = std::fs::remove_file(path);
            runs
        });
        (runs, output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Builds, which must succeed; how often each script has run.
    fn runs(&self) -> [usize; 2] {
        let (runs, success, text) = self.build();
        assert!(success, "{text}");
        runs
    }

    /// The folders that the first crate's script has written to, the newest last.
    fn out_dir(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.path("first.out")).expect("the script has run");
        PathBuf::from(text)
    }
}

/// A script that adds a letter to a file beside the package each time that it runs.
fn build_script(options: &str) -> String {
    format!(
        "use std::io::Write;

fn main() {{
    let package = std::env::var(\"CARGO_PKG_NAME\").unwrap();
    let package = package.split('-').next_back().unwrap();
    let mut runs = std::fs::OpenOptions::new().create(true).append(true).open(format!(\"../{{package}}.runs\")).unwrap();
    runs.write_all(b\"x\").unwrap();
    std::fs::write(format!(\"../{{package}}.out\"), std::env::var(\"OUT_DIR\").unwrap()).unwrap();
    cotangent_build::Build::new().ops(\"ops\").templates(\"templates\"){options}.compile();
}}
"
    )
}

/// Every file of a folder and its folders, with its text.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.insert(path.clone(), std::fs::read_to_string(&path).expect("text"));
        }
    }
    all
}

#[test]
fn a_script_runs_when_something_of_its_own_changes() {
    let w = Workspace::new("builder_runs");
    let before = tree(&w.path("first"));
    assert_eq!(w.runs(), [1, 1]);
    // Sources are left as they are, as where documentation is built they cannot be written.
    assert_eq!(tree(&w.path("first")), before);
    let out = w.out_dir().join("cotangent");
    let names = || -> Vec<String> {
        tree(&out).into_keys().map(|p| p.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    };
    let time = |name: &str| out.join(name).metadata().and_then(|m| m.modified()).expect("the file has a time");
    assert_eq!(names(), ["mod.rs", "square.rs", "test.mod.rs"]);
    assert_eq!(w.runs(), [0, 0], "nothing has changed");

    w.write(
        "first/src/lib.rs",
        "#![no_std]\n\npub mod kernels {\n    //! Ours.\n    cotangent::include_kernels!();\n}\n",
    );
    w.write("first/README.md", "Of no concern.\n");
    assert_eq!(w.runs(), [0, 0], "neither sources nor other files are watched");

    let square = time("square.rs");
    w.write("first/ops/relu.yaml", "use: relu\ninstances:\n  - {name: small, I: 5}\n");
    assert_eq!(w.runs(), [1, 0], "a spec was added");
    assert_eq!(names(), ["mod.rs", "relu.rs", "square.rs", "test.mod.rs"]);
    assert_eq!(time("square.rs"), square, "what has not changed keeps its time");

    w.write("first/ops/square.yaml", &SQUARE.replace("I: 5", "I: 6"));
    assert_eq!(w.runs(), [1, 0], "a spec was edited");
    assert!(time("square.rs") > square);

    std::fs::remove_file(w.path("first/ops/relu.yaml")).expect("it is there");
    assert_eq!(w.runs(), [1, 0], "a spec was deleted");
    assert_eq!(names(), ["mod.rs", "square.rs", "test.mod.rs"]);

    w.write("first/templates/doc.rs.tera", "/// Ours: {{ k.name }}.\n");
    assert_eq!(w.runs(), [1, 0], "a template was added");
    w.write("first/templates/doc.rs.tera", "/// Ours, again: {{ k.name }}.\n");
    assert_eq!(w.runs(), [1, 0], "a template was edited");
    assert!(tree(&out)[&out.join("square.rs")].contains("/// Ours, again: small."));
    std::fs::remove_file(w.path("first/templates/doc.rs.tera")).expect("it is there");
    assert_eq!(w.runs(), [1, 0], "a template was deleted");

    w.write("first/build.rs", &build_script(".dtype(cotangent_build::DType::F64)"));
    assert_eq!(w.runs(), [1, 0], "an option was changed");
    assert!(tree(&out)[&out.join("square.rs")].contains("pub type X = [f64; 6];"));

    w.write("second/ops/square.yaml", &SQUARE.replace("small", "other"));
    assert_eq!(w.runs(), [0, 1], "each script has its own specs");

    let good = tree(&out);
    w.write("first/ops/square.yaml", &SQUARE.replace("2 * x[i]", "3 * x[i]"));
    let (runs, success, text) = w.build();
    assert!(!success && runs == [1, 0]);
    assert!(text.contains("error[E021]") && text.contains("--> ops/square.yaml:7:5"), "{text}");
    assert!(text.contains("1 error in the op specs (shown above)") && !text.contains("panicked"), "{text}");
    assert_eq!(tree(&out), good, "nothing is written of a build that fails");
    let (runs, success, _) = w.build();
    assert!(!success && runs == [1, 0], "what has failed runs again");
    w.write("first/ops/square.yaml", SQUARE);
    assert_eq!(w.runs(), [1, 0]);
    assert_eq!(w.runs(), [0, 0]);
}

/// The same script, run by hand for another target of the same architecture, on what says that it is another host, from
/// another folder.
#[test]
fn what_is_written_depends_on_specs_and_options_alone() {
    let w = Workspace::new("builder_host");
    w.write("first/ops/conv.yaml", "use: conv\ninstances:\n  - {name: edge, N: 1, S: 12, T: 3, Cx: 4, Cy: 8, stride: 2, lo: 1, hi: 1, dilation: 1}\n");
    w.runs();
    let out = w.out_dir();
    let script = out.parent().expect("the script's folder");
    let info =
        std::fs::read_dir(target().join("debug/build")).expect("cargo's folder").map(|e| e.expect("an entry").path());
    let binary = info
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{}-first-", w.name))))
        .map(|p| p.join("build-script-build"))
        .filter(|p| p.is_file())
        .max_by_key(|p| p.metadata().and_then(|m| m.modified()).expect("it has a time"))
        .unwrap_or_else(|| panic!("no script beside {}", script.display()));
    let elsewhere = w.path("elsewhere");
    for file in ["ops/square.yaml", "ops/conv.yaml", "templates/README"] {
        w.write(
            &format!("elsewhere/first/{file}"),
            &std::fs::read_to_string(w.path(&format!("first/{file}"))).unwrap(),
        );
    }
    let theirs = elsewhere.join("out");
    std::fs::create_dir_all(&theirs).expect("the folder is made");
    let run = Command::new(binary)
        .current_dir(elsewhere.join("first"))
        .env_clear()
        .envs([("OUT_DIR", theirs.to_string_lossy().as_ref()), ("CARGO_PKG_NAME", "its-first")])
        .envs([
            ("TARGET", "x86_64-unknown-none"),
            ("HOST", "aarch64-apple-darwin"),
            ("CARGO_CFG_TARGET_ARCH", std::env::consts::ARCH),
        ])
        .envs([
            ("CARGO_CFG_TARGET_POINTER_WIDTH", "32"),
            ("PROFILE", "release"),
            ("LANG", "de_DE.UTF-8"),
            ("TZ", "UTC"),
        ])
        .output()
        .expect("the script runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8_lossy(&run.stdout);
    assert_eq!(said, "cargo::rerun-if-changed=ops\ncargo::rerun-if-changed=templates\n");
    let read = |folder: &Path| -> BTreeMap<PathBuf, String> {
        let files = tree(&folder.join("cotangent")).into_iter();
        files.map(|(path, text)| (path.strip_prefix(folder).expect("it is in there").to_path_buf(), text)).collect()
    };
    let (ours, theirs) = (read(&out), read(&theirs));
    assert_eq!(ours.len(), 4);
    assert!(ours == theirs, "the output differs");
    let root = w.root.to_string_lossy().into_owned();
    assert!(ours.values().all(|text| !text.contains(&root)), "the folder of the crate stands in the output");
}
