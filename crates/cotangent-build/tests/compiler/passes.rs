//! What each pass and stage does, one small spec a behaviour: takes `tests/passes`, a folder for each, gives the text
//! before and after beside every spec. Holds after it: each text is the one that stands there, each case shows a
//! change, each pass of the plain IR has at least three; and what the last pass leaves is what later stages take.
//! `BLESS=1 cargo test --test compiler passes` rewrites the texts; read them before committing.

use cotangent_build::certify::Certified;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::print::list;
use cotangent_build::nest::plan::{Plan, Planned};
use cotangent_build::nest::unrolled::Graph;
use cotangent_build::plain::passes::{PASSES, Pass};
use cotangent_build::source::Sources;
use cotangent_build::{Options, index, nest, pipeline, plain};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The text before and after, by the name of the pass or stage, and the text of the spec.
type Show = fn(&str, &Certified, &str) -> [String; 2];

/// What has a folder besides the passes of the plain IR, and how it is shown.
const STAGES: [(&str, Show); 13] = [
    ("derive", derived),
    ("absorb", absorbed),
    ("program", program),
    ("plan", planned),
    ("coalesce", nests),
    ("fuse", nests),
    ("rows", nests),
    ("unroll", unrolled),
    ("tile", nests),
    ("panels", nests),
    ("epilogue", nests),
    ("guards", nests),
    ("speculate", nests),
];

/// Each pass has at least so many cases.
const FEWEST: usize = 3;

fn rules(c: &Certified, tangent: &[index::Stmt], adjoint: &[index::Stmt]) -> String {
    format!("tangent\n{}adjoint\n{}", list(&c.op, tangent), list(&c.op, adjoint))
}

/// What derivation makes of the forward formula.
fn derived(_: &str, c: &Certified, _: &str) -> [String; 2] {
    [format!("forward\n{}", list(&c.op, &c.op.forward)), rules(c, &c.derived.tangent, &c.derived.adjoint)]
}

/// What becomes of derived rules once they are certified.
fn absorbed(_: &str, c: &Certified, _: &str) -> [String; 2] {
    let after = rules(c, &c.op.tangent.stmts, &c.op.adjoint.stmts);
    [rules(c, &c.derived.tangent, &c.derived.adjoint), after]
}

/// The statements of a program's entry points.
fn program(_: &str, c: &Certified, _: &str) -> [String; 2] {
    let functions = c.op.program.iter().flat_map(|p| &p.functions);
    let after = functions
        .map(|f| format!("{}{}\n{}", f.entry.name(), if f.reverse { " in reverse" } else { "" }, list(&c.op, &f.stmts)))
        .collect();
    [format!("steps\n{}", list(&c.op, &c.op.forward)), after]
}

/// The functions of the only kernel, without what it declares.
fn functions(kernel: &plain::Kernel) -> String {
    let text = plain::print::kernel(kernel);
    text.lines().skip(1).skip_while(|l| l.starts_with(' ')).map(|l| format!("{l}\n")).collect()
}

/// The kernel of the only instance.
fn only<K>(kernels: impl FnOnce(&mut Diagnostics) -> Vec<K>) -> K {
    let mut out = Diagnostics::default();
    let mut all = kernels(&mut out);
    assert!(all.len() == 1 && !out.has_errors(), "a case has one instance, in order: {:?}", out.iter().next());
    all.remove(0)
}

fn kernel(c: &Certified) -> Planned {
    only(|out| pipeline::kernels(c, &Options::default(), out))
}

fn after(c: &Certified, pass: &Pass) -> plain::Kernel {
    only(|out| pipeline::plain_after(c, pass, out))
}

/// A program's stages, and the places of their workspace.
fn planned(_: &str, c: &Certified, _: &str) -> [String; 2] {
    let last = PASSES.last().expect("there are passes");
    let whole = after(c, last);
    let Planned { kernel, plans } = kernel(c);
    let name = |t: &index::TensorId| kernel.tensor(*t).name.as_str();
    let mut text = String::new();
    for (f, plan) in kernel.functions.iter().zip(&plans) {
        let Plan::Stages { stages, workspace: w } = plan else { continue };
        let names: Vec<_> = stages.iter().map(|n| kernel.functions[*n].name.as_str()).collect();
        text += &format!("{}: {}, in {} bytes\n", f.name, names.join(", "), w.bytes);
        w.places.iter().for_each(|(t, at)| text += &format!("  {} at {at}\n", name(t)));
        w.over.iter().for_each(|(new, old, _)| text += &format!("  {} over {}\n", name(new), name(old)));
    }
    let mut stages = kernel.clone();
    stages.functions.drain(..whole.functions.len());
    [functions(&whole), text + &functions(&stages)]
}

/// The class of machines that the first line of a spec names: `# for wide`.
fn class(spec: &str) -> &str {
    spec.lines().next().and_then(|l| l.strip_prefix("# for ")).expect("`# for CLASS`")
}

/// Nests without the statements that they are of, which stand before, and without costs: figures of the model change.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|l| !l.starts_with("  ;   next: ") && !l.trim_start().starts_with("# "));
    lines
        .map(|l| format!("{}\n", if l.starts_with("  ; ") { l.rsplit_once(": ").map_or(l, |(l, _)| l) } else { l }))
        .collect()
}

/// The nests for one class of machines.
fn nests(_: &str, c: &Certified, spec: &str) -> [String; 2] {
    let planned = kernel(c);
    let before = functions(&planned.kernel);
    let compiled = only(|out| pipeline::schedule(c, vec![planned], &Options::default(), out));
    let own = compiled.nests.iter().flatten();
    let own = own.filter(|n| n.machines.iter().any(|m| m.name.to_lowercase() == class(spec)));
    let text: String = own.map(|n| nest::print::nest(&compiled.kernel, n)).collect();
    [before, code(&text)]
}

/// The functions as unrolled code, whether or not it pays.
fn unrolled(_: &str, c: &Certified, _: &str) -> [String; 2] {
    let kernel = kernel(c).kernel;
    let graph = |f| Graph::of(&kernel, f).expect("loops that are short").nest(&nest::machine::WIDE);
    let text: String = kernel.functions.iter().map(|f| nest::print::nest(&kernel, &graph(f))).collect();
    [functions(&kernel), code(&text)]
}

/// A function before and after a pass of the plain IR.
fn pass(name: &str, c: &Certified, _: &str) -> [String; 2] {
    let at = PASSES.iter().position(|p| p.name == name).expect("a pass");
    [at - 1, at].map(|n| functions(&after(c, &PASSES[n])))
}

/// What stays, what goes (`-`) and what comes (`+`): a longest common part of the lines stays.
fn difference(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        let (sign, line) = if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
            (' ', a[i - 1])
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            i += 1;
            ('-', a[i - 1])
        } else {
            j += 1;
            ('+', b[j - 1])
        };
        out += &format!("{sign} {line}\n");
    }
    out
}

fn certified(path: &Path) -> (Certified, String) {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let text = std::fs::read_to_string(path).expect("a spec");
    let id = sources.add(&path.display().to_string(), text.clone());
    let c = pipeline::certified(id, &sources, &mut out);
    (c.unwrap_or_else(|| panic!("{}: {}", path.display(), out.render(&sources))), text)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut all: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    all.sort();
    all
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes")
}

fn specs(folder: &str) -> Vec<PathBuf> {
    let all = entries(&root().join(folder));
    all.into_iter().filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect()
}

/// Compares the cases of a folder with their texts; what is wrong.
fn check(folder: &str, show: Show) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in specs(folder) {
        let (c, text) = certified(&path);
        let [before, after] = show(folder, &c, &text);
        if before == after {
            wrong.push(format!("{} shows nothing:\n{after}", path.display()));
            continue;
        }
        let found = difference(&before, &after);
        let file = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &found).expect("the text is written");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if expected != found {
            wrong.push(format!("{} differs; found:\n{found}", file.display()));
        }
    }
    wrong
}

#[test]
fn each_case_shows_what_a_pass_does() {
    let passes = PASSES[1..].iter().map(|p| (p.name, pass as Show));
    let all: Vec<(&str, Show)> = passes.chain(STAGES).collect();
    let mut wrong: Vec<String> = all.iter().flat_map(|(name, show)| check(name, *show)).collect();
    for (name, _) in &all {
        let cases = specs(name).len();
        wrong.extend((cases < FEWEST).then(|| format!("{name} has {cases} cases, of {FEWEST}")));
    }
    // Nothing lies there that no test reads.
    let known: BTreeSet<PathBuf> = all.iter().map(|(name, _)| root().join(name)).collect();
    let folders = entries(&root());
    wrong.extend(folders.iter().filter(|f| !known.contains(*f)).map(|f| format!("{}: no pass", f.display())));
    let alone = |p: &PathBuf| !(p.with_extension("yaml").is_file() && p.with_extension("txt").is_file());
    let files = folders.iter().flat_map(|folder| entries(folder));
    wrong.extend(files.filter(alone).map(|p| format!("{} stands alone", p.display())));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_last_pass_leaves_what_later_stages_take() {
    let last = PASSES.last().expect("there are passes");
    for path in PASSES[1..].iter().flat_map(|p| specs(p.name)) {
        let (c, _) = certified(&path);
        let [made, taken] = [after(&c, last), kernel(&c).kernel].map(|k| plain::print::kernel(&k));
        assert_eq!(made, taken, "{}", path.display());
    }
}
