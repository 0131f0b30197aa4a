//! Numbers of statements: takes statements of the index IR, and pairs that become one, gives their numbers.
//!
//! Holds after it: what says the same has the same number, in whichever function it stands; numbers count up in the
//! order in which statements are lowered, that of a merged one right behind its second.

use crate::index::{Stmt, TensorId};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Numbers {
    known: BTreeMap<TensorId, Vec<(Stmt, usize)>>,
    merged: BTreeMap<(usize, usize), usize>,
    /// How many statements were lowered so far, in all functions.
    lowered: usize,
}

impl Numbers {
    /// The number of a statement that is lowered now.
    pub fn of(&mut self, s: &Stmt) -> usize {
        self.lowered += 1;
        let axes = |s: &Stmt| s.vars.iter().map(|v| v.axis).collect::<Vec<_>>();
        // One sum makes a tensor, if it stores: it is the same sum also where another step's formula stands in it.
        let whole = |s: &Stmt| s.reduce.is_some() && !s.accumulate;
        let alike = |o: &Stmt| {
            let value = o.value == s.value || whole(o) && whole(s);
            value && (&o.index, o.free, &o.reduce) == (&s.index, s.free, &s.reduce) && axes(o) == axes(s)
        };
        let known = self.known.entry(s.target).or_default();
        if let Some((_, number)) = known.iter().find(|(o, _)| alike(o)) {
            return *number;
        }
        // The odd numbers are those of merged statements.
        let number = 2 * self.lowered;
        known.push((s.clone(), number));
        number
    }

    /// How many statements were lowered up to now.
    pub fn lowered(&self) -> usize {
        self.lowered
    }

    /// Of two statements in one, the second of which was lowered as that of so many.
    pub fn both(&mut self, a: usize, b: usize, lowered: usize) -> usize {
        *self.merged.entry((a, b)).or_insert(2 * lowered + 1)
    }
}
