//! Takes the objects that a program is linked from; gives the graph of their functions and constants: sizes, frames,
//! and what refers to what.
//!
//! Holds after it: closure and deepest stack are computed from the graph alone, whatever the format of the objects
//! (`elf.rs`, `wasm.rs`).

use crate::{Failure, elf, reported, wasm};
use std::collections::{BTreeMap, BTreeSet};

/// A part by the number of its file, and its number in the file.
pub type Place = (usize, usize);

/// A function or a constant, as the linker keeps or drops it.
pub struct Part {
    pub code: bool,
    pub bytes: u64,
    /// Of `core` or the compiler's runtime.
    pub shared: bool,
    /// What it refers to.
    pub to: BTreeSet<Target>,
    /// Bytes of stack.
    pub frame: u64,
}

/// A part of the same file, or a symbol of another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Part(Place),
    Symbol(String),
}

#[derive(Default)]
pub struct Parts {
    pub all: BTreeMap<Place, Part>,
    /// Functions that have a line of their own.
    pub reported: BTreeMap<String, Place>,
    global: BTreeMap<String, Place>,
    files: usize,
}

impl Parts {
    /// Adds an object, `shared` if it is of `core` or the compiler's runtime.
    pub fn read(&mut self, bytes: &[u8], shared: bool) -> Result<(), Failure> {
        let file = self.files;
        self.files += 1;
        if wasm::is(bytes) { wasm::read(self, file, bytes, shared) } else { elf::read(self, file, bytes, shared) }
    }

    /// Adds the name of a part.
    pub fn define(&mut self, name: &str, global: bool, at: Place) {
        if global {
            self.global.entry(name.into()).or_insert(at);
        }
        if let Some(name) = reported(name) {
            self.reported.insert(name.into(), at);
        }
    }

    fn follow(&self, at: Place) -> Vec<Place> {
        let part = |t: &Target| match t {
            Target::Part(place) => Some(*place),
            Target::Symbol(name) => self.global.get(name).copied(),
        };
        self.all.get(&at).into_iter().flat_map(|p| &p.to).filter_map(part).filter(|p| *p != at).collect()
    }

    /// A symbol that a part refers to and no object defines: then an object is missing, and what is computed is too
    /// little.
    pub fn undefined(&self, at: Place) -> Option<&str> {
        self.all.get(&at).into_iter().flat_map(|p| &p.to).find_map(|t| match t {
            Target::Symbol(name) if !self.global.contains_key(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Everything that is reached.
    pub fn closure(&self, from: Place) -> BTreeSet<Place> {
        let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(self.follow(at).into_iter().filter(|to| seen.insert(*to)));
        }
        seen
    }

    /// The frames on the deepest path; nothing is recursive.
    pub fn stack(&self, from: Place, known: &mut BTreeMap<Place, u64>) -> u64 {
        if let Some(depth) = known.get(&from) {
            return *depth;
        }
        known.insert(from, 0);
        let below = self.follow(from).into_iter().map(|to| self.stack(to, known)).max().unwrap_or(0);
        let depth = below + self.all.get(&from).map_or(0, |p| p.frame);
        known.insert(from, depth);
        depth
    }
}
