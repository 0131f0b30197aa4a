//! Groups: takes reductions that run over the same variables, gives what a tile needs to know of them: what they read,
//! which variables are theirs to run, and where guards cut the ranges of these.
//!
//! Holds after it: within a segment every guard that depends on its variable is always met, never met, or a segment of
//! one coordinate.

use super::super::coalesce::Space;
use crate::index::{ReduceOp, TensorId};
use crate::plain::{Access, Position, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// The most cuts at guards, one within the other: along one variable, then its borders along another.
const CUTS: usize = 2;
/// So few rows hide no latency: a reduction is cut for more.
const FEW_ROWS: usize = 4;
/// The most segments that guards may cut a variable into.
const SEGMENTS: usize = 17;
/// The most coordinates at the borders of a bound variable that become parts of their own.
const BORDERS: usize = 16;
/// So few coordinates in the longest segment are no range for lanes.
const LEAST_LANES: usize = 4;

/// A statement group with the loops around it.
pub(in crate::nest) struct Group<'a> {
    pub stmts: Vec<Stmt>,
    /// What is computed of each result besides.
    pub epilogue: Vec<Stmt>,
    pub op: ReduceOp,
    pub fixed: &'a BTreeMap<usize, usize>,
    /// Every access that is read, once.
    pub reads: Vec<Access>,
    /// Variables with loops of their own.
    pub own: Vec<usize>,
    /// For each variable that a guard depends on, the segments within which it does not.
    pub segments: BTreeMap<usize, Segments>,
    /// How often the statement's range was cut at guards before.
    pub cuts: usize,
    /// Bytes of an element.
    pub size: usize,
    operands: BTreeMap<TensorId, Operand>,
}

/// A tensor that is read.
struct Operand {
    name: String,
    shape: Vec<usize>,
}

/// A range of a variable cut by guards.
#[derive(Debug, Default)]
pub(in crate::nest) struct Segments {
    /// First coordinates and extents; none where they are more than [`SEGMENTS`].
    pub all: Vec<(usize, usize)>,
    pub longest: (usize, usize),
}

/// What a guard is at one value of a variable.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Segment {
    Met,
    Never,
    /// It depends on other variables, and so does each value from the others.
    Alone,
}

/// The coordinates `at` for which `constant + step * at` is at least `end`: from the first on, or before it where the
/// step is negative.
fn crossing(constant: i64, step: i64, end: i64) -> i64 {
    let gap = end - constant;
    if step > 0 { -(-gap).div_euclid(step) } else { gap.div_euclid(step) + 1 }
}

impl<'a> Group<'a> {
    pub fn new(
        space: &Space,
        stmts: Vec<Stmt>,
        epilogue: Vec<Stmt>,
        fixed: &'a BTreeMap<usize, usize>,
        cuts: usize,
    ) -> Self {
        let mut reads: Vec<Access> = Vec::new();
        for s in &stmts {
            s.value.accesses(&mut |a| {
                if !reads.contains(a) {
                    reads.push(a.clone());
                }
            });
        }
        let operand = |a: &Access| {
            let tensor = space.kernel.tensor(a.tensor);
            (a.tensor, Operand { name: tensor.name.clone(), shape: tensor.shape.clone() })
        };
        let operands = reads.iter().map(operand).collect();
        let vars = 0..stmts[0].vars.len();
        let own: Vec<usize> = vars.filter(|v| stmts[0].vars[*v].extent > 1 && !fixed.contains_key(v)).collect();
        let op = stmts[0].reduce.expect("a reduction");
        let size = space.kernel.dtype.bytes();
        let segments = BTreeMap::new();
        let mut g = Group { stmts, epilogue, op, fixed, reads, own, segments, cuts, size, operands };
        let guarded = |v: &usize| {
            g.reads.iter().any(|a| a.positions.iter().any(|p| p.guard.any() && p.numerator.coefficient(*v) != 0))
        };
        let guarded: Vec<usize> = g.own.iter().copied().filter(guarded).collect();
        g.segments = guarded.into_iter().map(|v| (v, g.segments_of(v))).collect();
        g
    }

    pub fn first(&self) -> &Stmt {
        &self.stmts[0]
    }
    pub fn var(&self, v: usize) -> &str {
        &self.first().vars[v].name
    }
    pub fn extent(&self, v: usize) -> usize {
        self.first().vars[v].extent
    }
    pub fn is_free(&self, v: usize) -> bool {
        v < self.first().free
    }
    pub fn guarded_in(&self, v: usize) -> bool {
        self.segments.contains_key(&v)
    }
    /// The name of a tensor that is read.
    pub fn tensor(&self, a: &Access) -> &str {
        &self.operands[&a.tensor].name
    }
    /// The variables of the reduction that move a read.
    pub fn bound(&self, a: &Access) -> Vec<usize> {
        self.own.iter().copied().filter(|v| !self.is_free(*v) && a.vars().any(|w| w == *v)).collect()
    }
    /// Bytes between the elements of a read at two values of a variable.
    pub fn stride(&self, a: &Access, v: usize) -> usize {
        let (mut step, mut unit) = (0, self.size);
        for (p, n) in a.positions.iter().zip(&self.operands[&a.tensor].shape).rev() {
            step += p.numerator.coefficient(v).unsigned_abs() as usize * unit;
            unit *= n;
        }
        step
    }
    /// Whether splitting a variable by its guards leaves something to tile.
    pub fn splits(&self, v: usize) -> bool {
        let segments = &self.segments[&v];
        self.cuts < CUTS && segments.all.len() > 1 && segments.longest.1 > 1
    }
    /// Whether splitting a variable by its guards leaves most of it for lanes.
    pub fn splits_lanes(&self, v: usize) -> bool {
        let longest = self.segments[&v].longest.1;
        self.splits(v) && longest >= LEAST_LANES && 2 * longest >= self.extent(v)
    }
    /// A bound variable, and its range in parts, where rows are wanted that guards along it forbid: first the inner
    /// part, without those guards, then those before and behind one by one, where guards along the rows are met or not.
    /// The derivative by a kernel of few channels over padded images has no rows but the kernel's own extents.
    ///
    /// It depends on the statement alone, so all classes of machines have the same parts.
    pub fn inner_part(&self) -> Option<(usize, Vec<(usize, usize)>)> {
        let free = || self.own.iter().copied().filter(|v| self.is_free(*v));
        let clear: Vec<usize> = free().filter(|v| !self.guarded_in(*v)).map(|v| self.extent(v)).collect();
        let rows = clear.iter().product::<usize>() / clear.iter().max().copied().unwrap_or(1);
        if self.cuts > 0 || self.op != ReduceOp::Sum || rows >= FEW_ROWS {
            return None;
        }
        let together = |v: usize, w: usize| {
            let both =
                |p: &Position| p.guard.any() && p.numerator.coefficient(v) != 0 && p.numerator.coefficient(w) != 0;
            self.reads.iter().any(|a| a.positions.iter().any(both))
        };
        let bound = self.own.iter().copied().filter(|w| !self.is_free(*w) && self.guarded_in(*w));
        // Of several the one that runs fastest.
        bound.rev().filter(|w| free().any(|v| together(v, *w))).find_map(|w| {
            let (from, extent) = self.segments[&w].longest;
            let borders = (0..from).chain(from + extent..self.extent(w));
            (3 * extent >= 2 * self.extent(w) && self.extent(w) - extent <= BORDERS)
                .then(|| (w, [(from, extent)].into_iter().chain(borders.map(|at| (at, 1))).collect()))
        })
    }

    /// The ranges of a variable within which every guard that depends on it is always met, or the variable stands
    /// still.
    fn segments_of(&self, v: usize) -> Segments {
        // The least and the greatest value of each guarded position at the coordinate 0, its step, and what it may be.
        let mut guards: Vec<(i64, i64, i64, i64, bool)> = Vec::new();
        for a in &self.reads {
            for (p, size) in a.positions.iter().zip(&self.operands[&a.tensor].shape) {
                let c = p.numerator.coefficient(v);
                if p.guard.any() && c != 0 {
                    let (lo, hi) = p.numerator.range(&|w| if w == v { 1 } else { self.extent(w) });
                    guards.push((lo, hi, c, (*size as i64 - 1) * p.divisor, p.divisor == 1));
                }
            }
        }
        let inside = |at: usize| -> Vec<Segment> {
            let one = |(lo, hi, c, top, whole): &(i64, i64, i64, i64, bool)| {
                let (lo, hi) = (lo + c * at as i64, hi + c * at as i64);
                match (lo >= 0 && hi <= *top, hi < 0 || lo > *top) {
                    (true, _) if *whole => Segment::Met,
                    (_, true) if *whole => Segment::Never,
                    _ => Segment::Alone,
                }
            };
            guards.iter().map(one).collect()
        };
        // Where a guard may change.
        let mut cuts: BTreeSet<i64> = BTreeSet::from([0]);
        for (lo, hi, c, top, _) in &guards {
            cuts.extend([(*lo, 0), (*hi, 0), (*lo, top + 1), (*hi, top + 1)].map(|(x, end)| crossing(x, *c, end)));
        }
        let extent = self.extent(v);
        let starts: Vec<usize> =
            cuts.into_iter().filter(|at| (0..extent as i64).contains(at)).map(|at| at as usize).collect();
        let mut out = Segments::default();
        let mut count = 0usize;
        let mut last = None;
        for (n, from) in starts.iter().enumerate() {
            let length = starts.get(n + 1).unwrap_or(&extent) - from;
            let now = inside(*from);
            if now.contains(&Segment::Alone) {
                // One by one.
                count += length;
                out.all.extend((*from..from + length.min(SEGMENTS + 1)).map(|at| (at, 1)));
                last = None;
            } else if last.as_ref() == Some(&now) {
                out.all.last_mut().expect("there is one").1 += length;
            } else {
                count += 1;
                out.all.push((*from, length));
                last = Some(now);
            }
        }
        out.longest = out.all.iter().copied().max_by_key(|s| s.1).unwrap_or_default();
        if count > SEGMENTS {
            out.all.clear();
        }
        out
    }
}
