//! What ships inside the compiler: takes the folders `ops`, `programs`, `runtime` and `templates`, gives a list of
//! names and texts for each, so that a new file in one of them needs no other edit.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    let mut text = String::new();
    for (name, folder, extension, doc) in [
        ("OPS", "ops", "yaml", "The specs of the library."),
        ("PROGRAMS", "programs", "yaml", "The programs of the library."),
        ("RUNTIME", "runtime", "rs", "The sources of the crate `cotangent`."),
        ("TEMPLATES", "templates", "tera", "The templates of the generated Rust."),
    ] {
        let folder = followed(folder);
        println!("cargo::rerun-if-changed={folder}");
        let _ = writeln!(text, "/// {doc}\npub const {name}: &[(&str, &str)] = &[");
        for path in files(Path::new(&folder), extension) {
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            let at = parts.join("/");
            let _ = writeln!(
                text,
                "    ({:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?}))),",
                &at[folder.len() + 1..],
                format!("/{at}")
            );
        }
        text.push_str("];\n");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("shipped.rs"), text).expect("OUT_DIR can be written");
}

/// The folder that a link leads to. A checkout without symbolic links has a file in its place, which holds the path.
fn followed(link: &str) -> String {
    match std::fs::read_to_string(link) {
        Ok(path) => path.trim_end().to_string(),
        Err(_) => link.to_string(),
    }
}

/// The files of a folder and its folders with this extension, in the order of their paths.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            all.push(path);
        }
    }
    all
}
