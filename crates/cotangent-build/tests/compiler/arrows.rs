//! Arrows between the rooms of the compiler, its modules at the root: takes the paths that their files import by, and
//! [`LAYERS`], the one place that says who may import whom. Holds after it: a file imports its own room and those of
//! lower layers, and has no tests; ARCHITECTURE.md draws the table (`BLESS=1` rewrites it).

use std::path::{Path, PathBuf};

/// The layers from the top, each with its rooms. Rooms of one layer do not know each other.
const LAYERS: [(&str, &[&str]); 16] = [
    ("front door", &["lib", "main", "native"]),
    ("stages in order", &["pipeline"]),
    ("kept output", &["cache"]),
    ("output", &["emit", "validate"]),
    ("kernels", &["compiled"]),
    ("loop nests", &["nest"]),
    ("plain IR", &["plain"]),
    ("whole ops", &["certify", "library", "program"]),
    ("derivation", &["derive"]),
    ("index IR", &["index"]),
    ("formula text, options", &["options", "syntax"]),
    ("spec files", &["spec"]),
    ("diagnostics", &["diagnostic"]),
    ("scalar types, instances", &["types"]),
    ("files and spans", &["source"]),
    ("leaves", &["cores", "functions", "instructions", "shipped", "words"]),
];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, rooms)| rooms.contains(&room))
}

/// The files of a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The rooms that a file names, its comments aside, and the names in them.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    paths.map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn rooms_import_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in files(&src) {
        let at = file.strip_prefix(&src).expect("it is in there");
        let room = at.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_string();
        let Some(own) = layer(&room) else {
            wrong.push(format!("`{room}` has no layer"));
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("text");
        let up = imports(&text).filter(|to| *to != room && layer(to).is_some_and(|to| to <= own));
        wrong.extend(up.map(|to| format!("{} imports `{to}`, which is no lower layer", at.display())));
        // One way to write it, which the lines above read; and no other way out of a room.
        let root = at.iter().count() == 1 || at.iter().count() == 2 && at.ends_with("mod.rs");
        let hidden = text.contains("use crate::{") || root && room != "lib" && text.contains("use super::");
        wrong.extend(hidden.then(|| format!("{}: write `use crate::ROOM`, one a line", at.display())));
        // The library has `test = false`.
        let tests = text.contains("#[test]") || text.contains("cfg(test)");
        wrong.extend(tests.then(|| format!("{} has tests, which do not run: see `units/`", at.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_architecture_draws_the_layers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).expect("ARCHITECTURE.md");
    let drawn: String = LAYERS.iter().map(|(name, rooms)| format!("{name:<22} {}\n", rooms.join(", "))).collect();
    let (before, rest) = text.split_once("## Layers\n").expect("it has the section");
    let (intro, rest) = rest.split_once("```text\n").expect("it has the table");
    let (old, after) = rest.split_once("```\n").expect("the table ends");
    if std::env::var_os("BLESS").is_some() {
        let text = format!("{before}## Layers\n{intro}```text\n{drawn}```\n{after}");
        std::fs::write(&path, text).expect("ARCHITECTURE.md is written");
    } else {
        assert!(old == drawn, "ARCHITECTURE.md draws other layers (BLESS=1 draws these):\n{drawn}");
    }
}
