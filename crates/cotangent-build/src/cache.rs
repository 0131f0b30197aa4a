//! What a build has made of each op before: takes a folder, keeps there what generated files hold of an op, and gives
//! it again while nothing has changed that it is made of: the program that compiles, the options, the op's files, and
//! those of the ops that it calls.
//!
//! Holds after it: what is given again is what would be made, byte for byte. A file that cannot be read or written is
//! none: a build needs no cache.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::emit::Piece;
use crate::library::Library;
use crate::options::Options;
use crate::source::{SourceId, Sources};
use crate::spec::Spec;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A folder, and the keys of a build.
pub struct Cache {
    folder: PathBuf,
    /// Of the options, in the names of the files: sets of kernels in one crate do not drive each other out.
    options: u64,
    /// Of each op, what it is made of.
    keys: BTreeMap<String, u64>,
    /// Of each op, the files that it is read from.
    files: BTreeMap<String, Vec<SourceId>>,
}

impl Cache {
    /// The cache of a folder, for a build of these specs; none where nothing tells this program from the one that it
    /// was before.
    pub fn new(folder: &Path, specs: &[Spec], library: &Library, sources: &Sources, options: &Options) -> Option<Self> {
        let program = program()?;
        let options = hash(&format!("{options:?}"));
        let own: BTreeMap<&str, (u64, BTreeSet<&str>)> = specs
            .iter()
            .map(|spec| {
                let files = files(spec);
                let texts: Vec<(&str, &str)> = files.iter().map(|f| (sources.path(*f), sources.text(*f))).collect();
                let names: Vec<&str> = spec.instances.iter().map(|i| i.name.value.as_str()).collect();
                let words = texts.iter().flat_map(|(_, text)| words(text)).filter(|word| library.has_own(word));
                (spec.op.value.as_str(), (hash(&(&texts, names)), words.collect()))
            })
            .collect();
        let key = |op: &str| {
            // All that it may call, and what these may call.
            let (mut seen, mut open) = (BTreeSet::new(), vec![op]);
            while let Some(op) = open.pop() {
                if let Some((_, called)) = own.get(op).filter(|_| seen.insert(op.to_string())) {
                    open.extend(called);
                }
            }
            hash(&(program, options, op, seen.iter().map(|op| (op, own[op.as_str()].0)).collect::<Vec<_>>()))
        };
        let keys = specs.iter().map(|spec| (spec.op.value.clone(), key(&spec.op.value))).collect();
        let files = specs.iter().map(|spec| (spec.op.value.clone(), files(spec))).collect();
        Some(Cache { folder: folder.to_path_buf(), options, keys, files })
    }

    fn path(&self, op: &str) -> PathBuf {
        self.folder.join(format!("{:016x}-{op}", self.options))
    }

    /// What was made of an op, if it would be made of it again.
    pub fn get(&self, op: &str) -> Option<Piece> {
        let text = std::fs::read_to_string(self.path(op)).ok()?;
        let mut rest = text.strip_prefix(&format!("{:016x}\n", self.keys[op]))?;
        let mut part = || {
            let (length, behind) = rest.split_once('\n')?;
            let (part, behind) = behind.split_at_checked(length.parse().ok()?)?;
            rest = behind.strip_prefix('\n')?;
            Some(part.to_string())
        };
        let [module, file, declaration, list, callback, tests] = [part()?, part()?, part()?, part()?, part()?, part()?];
        Some(Piece { module, file, declaration, list, callback, tests, header: Vec::new() })
    }

    /// Keeps what was made of an op. What a build warns of, the next one shall too: an op with a finding is not kept.
    pub fn put(&self, op: &str, piece: &Piece, found: &Diagnostics) {
        let of_op = |d: &Diagnostic| d.labels.first().is_none_or(|l| self.files[op].contains(&l.span.source));
        if found.iter().any(of_op) {
            return;
        }
        let Piece { module, file, declaration, list, callback, tests, .. } = piece;
        let mut text = format!("{:016x}\n", self.keys[op]);
        for part in [module, file, declaration, list, callback, tests] {
            text += &format!("{}\n{part}\n", part.len());
        }
        // Whole or not at all, also where two builds write at a time.
        let (path, part) = (self.path(op), self.path(op).with_extension(std::process::id().to_string()));
        let written = std::fs::create_dir_all(&self.folder).and_then(|()| std::fs::write(&part, text));
        if written.and_then(|()| std::fs::rename(&part, &path)).is_err() {
            let _ = std::fs::remove_file(part);
        }
    }
}

/// What a program has that is linked anew, of whatever in it has changed: its size and its time.
fn program() -> Option<(u64, SystemTime)> {
    let about = std::env::current_exe().and_then(|path| path.metadata()).ok()?;
    Some((about.len(), about.modified().ok()?))
}

/// The files that a spec is read from: that of the op, and those with instances of it.
fn files(spec: &Spec) -> Vec<SourceId> {
    let mut files = vec![spec.op.span.source];
    for file in spec.instances.iter().map(|i| i.span.source) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// The words of a text: the names of ops that it calls are among them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
