//! Stages that kernels have in common: takes the texts of ops, in which stages and tiles stand between marks, gives
//! them without marks, each stage once. Other kernels that do the same import it from the one that has it.
//!
//! Marks begin with a character that no text of a spec can bring ([`super::text`] writes it out). Which stages are
//! alike is known by a key of each, so that the text of an op depends on no other op until here, and can be cached.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Before every mark.
const MARK: char = '\u{1}';
/// A line that ends a stage or a tile.
pub const END: &str = "\u{1}end\n";
/// Who calls a tile, besides stages.
const OTHERS: &str = "others";

/// A key for all that two stages must have in common to be one function.
pub fn key(text: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// The line in front of a stage: its key, the path of its kernel from the module of all, its name.
pub fn stage(key: &str, kernel: &str, name: &str) -> String {
    format!("{MARK}stage {key} {kernel} {name}\n")
}

/// The key in the line in front of a stage.
pub fn key_of(begin: &str) -> &str {
    words(begin).get(1).copied().unwrap_or_default()
}

/// The line in front of a tile: the keys of the stages that call it, and whether anything else does.
pub fn tile(kernel: &str, stages: &[&str], others: bool) -> String {
    let others = if others || stages.is_empty() { OTHERS } else { "" };
    format!("{MARK}tile {kernel} {} {others}\n", stages.join(" "))
}

/// The texts without marks. `once`: each stage stands in one kernel, the first; tiles that only dropped stages call go
/// with them.
pub fn unmarked(texts: &[&str], once: bool) -> Vec<String> {
    let mut first: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let marks = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix(MARK));
    for mark in marks.filter(|_| once) {
        if let ["stage", key, kernel, name] = words(mark)[..] {
            first.entry(key).or_insert((kernel, name));
        }
    }
    let elsewhere = |key: &str, kernel: &str| first.get(key).filter(|(owner, _)| *owner != kernel);
    let unmarked = |text: &&str| {
        let mut out = String::with_capacity(text.len());
        let mut dropped = false;
        for line in text.split_inclusive('\n') {
            let Some(mark) = line.strip_prefix(MARK) else {
                if !dropped {
                    out.push_str(line);
                }
                continue;
            };
            dropped = match words(mark)[..] {
                ["stage", key, kernel, name] => match elsewhere(key, kernel) {
                    Some((owner, other)) => {
                        // From the stages of a kernel of an op to the module of all ops.
                        let renamed = if other == &name { String::new() } else { format!(" as {name}") };
                        let path = format!("super::super::super::{owner}::stages::{other}");
                        out.push_str(&format!("pub(super) use {path}{renamed};\n"));
                        true
                    }
                    None => false,
                },
                ["tile", kernel, ref callers @ ..] => callers.iter().all(|key| elsewhere(key, kernel).is_some()),
                _ => false,
            };
        }
        out
    };
    texts.iter().map(unmarked).collect()
}

fn words(mark: &str) -> Vec<&str> {
    mark.split_whitespace().collect()
}
