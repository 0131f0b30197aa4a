//! The diagnostics as a user reads them: takes the specs of `tests/ui`, where a folder is a build of several, gives the
//! text that the compiler prints for each. What holds after it: every text is the one beside its spec, every code has a
//! spec that shows it, and no damaged op of the library makes the compiler panic. `BLESS=1 cargo test --test compiler
//! ui` rewrites the texts; read them before committing.

use crate::panics::caught;
use cotangent_build::Options;
use cotangent_build::diagnostic::{Code, Diagnostic, Diagnostics};
use cotangent_build::library::Library;
use cotangent_build::source::{Sources, shipped_ops};
use cotangent_build::{pipeline, spec};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Codes that the stages up to the kernels never raise, and why.
const ELSEWHERE: [(Code, &str); 4] = [
    (Code::NoInstances, "only a build warns of it; `tests/compiler/build.rs` sees it"),
    (Code::BadOption, "options belong to a build; `tests/compiler/build.rs` sees it"),
    (Code::Template, "templates belong to a build; `tests/compiler/build.rs` sees it"),
    (Code::Io, "files are read and written around these stages, by the library and the command line"),
];

fn specs(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut specs: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    specs.sort();
    assert!(!specs.is_empty(), "no specs in {}", folder.display());
    specs
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a stem").to_string_lossy().into_owned()
}

/// Runs the pipeline up to the kernels, and to their nests where an instance says something of those; what it found,
/// and the number of kernels.
fn run(files: &[(String, String)]) -> (Diagnostics, Sources, Option<usize>) {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let ids: Vec<_> = files.iter().map(|(path, text)| sources.add(path, text.clone())).collect();
    let mut all = None;
    let specs = spec::all(&ids, &sources, &mut out);
    let library = Library::new(&specs, &sources);
    for spec in &specs {
        let Some(c) = pipeline::certified_spec(spec.clone(), &library, &mut out) else { continue };
        let kernels = pipeline::kernels(&c, &Options::default(), &mut out);
        *all.get_or_insert(0) += kernels.len();
        pipeline::check_schedules(&c, kernels, &Options::default(), &mut out);
    }
    (out, sources, all)
}

/// The names of all that ships, as a diagnostic lists them: a new spec changes no text here.
fn shipped() -> String {
    let mut names: Vec<&str> = shipped_ops().collect();
    names.sort_unstable();
    names.join(", ")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A spec, or a folder of them that are built together.
struct Case {
    name: String,
    /// Where its text is.
    expected: PathBuf,
    /// Path and text of each file.
    files: Vec<(String, String)>,
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for path in specs("tests/ui") {
        let file = (format!("ui/{}.yaml", stem(&path)), read(&path));
        all.push(Case { name: stem(&path), expected: path.with_extension("txt"), files: vec![file] });
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()) {
        let name = stem(&path);
        let files = specs(&format!("tests/ui/{name}"));
        let files = files.iter().map(|file| (format!("{name}/{}.yaml", stem(file)), read(file))).collect();
        all.push(Case { name, expected: path.with_extension("txt"), files });
    }
    all
}

#[test]
fn every_spec_prints_the_text_beside_it() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for Case { name, expected, files } in cases() {
        let (out, sources, _) = run(&files);
        let text = out.render(&sources).replace(&shipped(), "<all>");
        if bless {
            std::fs::write(&expected, &text).unwrap_or_else(|e| panic!("{}: {e}", expected.display()));
            continue;
        }
        let before = std::fs::read_to_string(&expected).unwrap_or_default();
        if before != text {
            wrong.push(format!("---- {name}, expected\n{before}---- {name}, printed\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nBLESS=1 rewrites the texts", wrong.join("\n"));
}

/// A spec named `e012_case` shows E012; every code is shown.
#[test]
fn every_code_is_shown() {
    let mut shown = BTreeSet::new();
    for Case { name, files, .. } in cases() {
        let (out, ..) = run(&files);
        let codes: BTreeSet<Code> = out.iter().map(|d| d.code).collect();
        let code = name.split('_').next().unwrap_or("");
        match code.parse::<Code>() {
            Ok(code) => assert!(codes.contains(&code), "{name} does not show {code}"),
            Err(_) => assert!(codes.len() > 1, "{name} shows one code only: begin its name with it"),
        }
        shown.extend(codes);
    }
    for code in Code::ALL {
        let elsewhere = ELSEWHERE.iter().find(|(c, _)| c == code);
        match elsewhere {
            None => assert!(shown.contains(code), "{code} ({}) has no spec in tests/ui", code.title()),
            Some((_, why)) => assert!(!shown.contains(code), "{code} is shown, but: {why}"),
        }
    }
}

/// Helps that name what to write are edits too, except where they show a pattern.
fn names_an_edit(help: &str) -> bool {
    let pattern = ["..", "(j)", " in I", "(k", "for example", "after `;`"].iter().any(|p| help.contains(p));
    ["did you mean `", "it is called `", "write `", "quote it: `", "add `", "say which, after the tensors:"]
        .iter()
        .any(|start| help.starts_with(start))
        && !pattern
}

/// Helps of that kind that no single edit follows, and why.
const NO_EDIT: [(&str, &str); 8] = [
    ("write `+=` if the contributions add up", "a choice of what the op is to mean"),
    ("write `pow(a, b)`", "an example"),
    ("write `save`, or `recompute` to compute it again on the way back", "two words, each explained"),
    ("write `(` or `)` at an infinite end", "the end is in a word of another place"),
    ("write `inside(x[i - 1])`", "an example"),
    ("write `+=` to add to it, or a new local", "a choice, and of the second the name is the user's"),
    ("write `+=` to add to it, or correct the position", "a choice, and of the second the position is the user's"),
    ("write `+=`, which may meet an element twice", "a choice of what the op is to mean"),
];

/// Whoever applies a suggestion to the letter is rid of the finding, and meets no new one before it.
#[test]
fn every_suggestion_applied_to_the_letter_mends_what_it_stands_beside() {
    let mut wrong = Vec::new();
    let mut applied = 0;
    for Case { name, files, .. } in cases() {
        let (before, sources, _) = run(&files);
        for d in &before {
            for help in &d.helps {
                if names_an_edit(help) && d.suggestions.is_empty() && NO_EDIT.iter().all(|(text, _)| text != help) {
                    wrong.push(format!("{name}: {} names an edit without giving it: {help}", d.code));
                }
            }
            for s in &d.suggestions {
                let range = s.span.start as usize..s.span.end as usize;
                let mut edited = files.clone();
                let path = sources.path(s.span.source).to_owned();
                let (_, text) = edited.iter_mut().find(|(p, _)| *p == path).expect("an edit is of a file of the build");
                text.replace_range(range.clone(), &s.text);
                applied += 1;
                let text = text.clone();
                let (after, sources, _) = run(&edited);
                let place = |d: &Diagnostic| d.labels.iter().find(|l| l.primary).expect("a place").span.start as usize;
                // The same slip behind may have been hidden by this one.
                let same = |all: &Diagnostics| {
                    let same = all.iter().filter(|o| (o.code, &o.message) == (d.code, &d.message));
                    same.filter(|o| place(o) <= place(d)).count()
                };
                let known = |o: &Diagnostic| before.iter().any(|b| (b.code, &b.message) == (o.code, &o.message));
                // New findings stand in the line of the edit, or behind; those of the same place are another matter.
                let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
                let earlier = |o: &Diagnostic| o.labels[0].span.source == s.span.source && place(o) < start;
                let show = |what: &str| {
                    format!("{name}: {what} after `{}` for {}:\n{text}\n{}", s.text, d.code, after.render(&sources))
                };
                if same(&after) >= same(&before) {
                    wrong.push(show("the finding is still there"));
                }
                if after.iter().any(|o| !known(o) && earlier(o)) {
                    wrong.push(show("an earlier finding"));
                }
            }
        }
    }
    println!("{applied} suggestions applied");
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    assert!(applied > 40);
}

/// A generator of its own (Steele, Lea and Flood, SplitMix64, 2014), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }
}

/// Words and numbers, runs of white space, and single signs.
fn tokens(text: &str) -> Vec<&str> {
    let class = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' => 0,
        ' ' => 1,
        _ => 2,
    };
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in text.char_indices() {
        if at > start && (last != Some(class(c)) || class(c) == 2) {
            tokens.push(&text[start..at]);
            start = at;
        }
        last = Some(class(c));
    }
    tokens.push(&text[start..]);
    tokens
}

/// Every fault that one slip of the hand makes in a spec is an error, or a spec that means something else: never a
/// panic. A slip deletes, doubles, exchanges or replaces a token; replacements come from all specs, so that they fit
/// more often than noise would.
#[test]
fn damaged_specs_are_survived() {
    const ROUNDS: usize = 4000;
    let files: Vec<(String, String)> = ["../../ops", "../../tests/reference/ops"]
        .iter()
        .flat_map(|folder| specs(folder))
        .map(|path| (stem(&path), read(&path)))
        // Prose and what comes before it would take most of the slips.
        .map(|(name, text)| {
            let body = text.find("params:").or(text.find("inputs:")).unwrap_or(0);
            (name.clone(), format!("op: {name}\n{}", &text[body..]))
        })
        .collect();
    let words: Vec<&str> = files.iter().flat_map(|(_, text)| tokens(text)).collect();
    let (mut built, mut refused) = (0, 0);
    let mut panics = Vec::new();
    for seed in 0..ROUNDS {
        let mut dice = Dice(seed as u64);
        let (name, text) = &files[dice.roll(files.len())];
        let mut parts = tokens(text);
        let head = tokens(&format!("op: {name}\n")).len();
        for _ in 0..=dice.roll(3) {
            let at = head + dice.roll(parts.len() - head);
            match dice.roll(5) {
                0 => {
                    parts.remove(at);
                }
                1 => parts.insert(at, parts[at]),
                2 => {
                    let other = head + dice.roll(parts.len() - head);
                    parts.swap(at, other);
                }
                // Numbers at the edges of what is counted.
                3 if parts[at].starts_with(|c: char| c.is_ascii_digit()) => {
                    let edges =
                        ["0", "-1", "1", "65", "1e9", "2147483648", "4611686018427387904", "1e300", ".inf", "0.5"];
                    parts[at] = edges[dice.roll(edges.len())];
                }
                _ => parts[at] = words[dice.roll(words.len())],
            }
        }
        let damaged = parts.concat();
        let (path, copy) = (format!("ops/{name}.yaml"), damaged.clone());
        let outcome = caught(move || {
            let (out, sources, kernels) = run(&[(path, copy)]);
            let text = out.render(&sources);
            (out.errors(), text.is_empty(), kernels)
        });
        let Ok((errors, silent, kernels)) = outcome else {
            panics.push(format!("seed {seed} makes the compiler panic:\n{damaged}"));
            continue;
        };
        assert!(errors == 0 || !silent, "seed {seed}: errors without a text");
        assert!(errors > 0 || kernels.is_some(), "seed {seed}: neither errors nor kernels:\n{damaged}");
        if errors > 0 { refused += 1 } else { built += 1 }
    }
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    println!("{ROUNDS} damaged specs: {refused} refused, {built} built");
    assert!(built > 0 && refused > built);
}
