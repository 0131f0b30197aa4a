//! What nests write: takes their accesses, gives boxes of elements, counts of them, and the iterations of a loop that
//! reach a box.
//!
//! Holds after it: a box is whole, each of its elements is written; where that cannot be told there is none. No
//! iteration is left out that may reach what is asked for.

use crate::index::TensorId;
use crate::nest::walk::{self, Part};
use crate::nest::{Access, BlockTranspose, Nest, Node, Place, Position, VarId};
use crate::plain::{Kernel, Linear};
use std::collections::{BTreeMap, BTreeSet};

/// How many elements are compared at a corner: of a row at least, and in all at most.
const ROW: usize = 8;
const MOST_KEPT: usize = 256;

/// Elements that are kept: ranges of storage coordinates, one a dimension.
pub(super) type Corner = Vec<std::ops::Range<usize>>;

/// Accesses that differ in constants alone, as those of a tile.
#[derive(Clone, PartialEq)]
pub(super) struct Write {
    pub(super) tensor: TensorId,
    pub(super) positions: Vec<Spread>,
    /// As of the accesses.
    pub(super) joined: Vec<usize>,
}

/// A position that stands for several: from that of the access on, so many more.
#[derive(Clone, PartialEq)]
pub(super) struct Spread {
    pub(super) from: Position,
    pub(super) more: i64,
}

/// One more box, if all are boxes.
pub(super) fn joined(all: Option<Vec<Corner>>, one: Option<Corner>) -> Option<Vec<Corner>> {
    all.zip(one).map(|(mut all, one)| {
        all.push(one);
        all
    })
}

/// The coordinates that positions reach, each with so many elements more, if they are all within a range of each
/// dimension.
pub(super) fn reached<'a>(
    positions: impl Iterator<Item = (&'a Position, i64)>,
    joined: &[usize],
    shape: &[usize],
    extent: &dyn Fn(usize) -> usize,
) -> Option<Corner> {
    let mut seen = BTreeSet::new();
    let mut rest = shape;
    let mut out = Vec::new();
    for ((p, more), joined) in positions.zip(joined) {
        let (these, after) = rest.split_at(*joined);
        rest = after;
        let moving = || p.numerator.terms.iter().filter(|(v, _)| extent(*v) > 1);
        let alone = moving().all(|(v, _)| seen.insert(*v));
        let mut terms: Vec<(i64, i64)> = moving().map(|(v, c)| (c.abs(), extent(*v) as i64 - 1)).collect();
        terms.sort_unstable();
        let mut span = more + 1;
        let dense = terms.iter().all(|(c, iterations)| {
            let follows = *c <= span;
            span += c * iterations;
            follows
        });
        if !alone || !dense || p.divisor != 1 || p.guarded {
            return None;
        }
        let (from, to) = p.numerator.range(&|v| extent(v));
        let (from, to) = (from as usize, (to + more) as usize + 1);
        // Of joined dimensions whole rows.
        let row: usize = these[1..].iter().product();
        if !from.is_multiple_of(row) || !to.is_multiple_of(row) {
            return None;
        }
        out.push(from / row..to / row);
        out.extend(these[1..].iter().map(|n| 0..*n));
    }
    Some(out)
}

/// The elements that are in any of the boxes.
pub(super) fn volume(boxes: &[Corner]) -> u64 {
    let Some(dims) = boxes.first().map(Vec::len) else { return 0 };
    if dims == 0 {
        return 1;
    }
    let cuts: BTreeSet<usize> = boxes.iter().flat_map(|b| [b[0].start, b[0].end]).collect();
    let cuts: Vec<usize> = cuts.into_iter().collect();
    let between = |w: &[usize]| {
        let inside: Vec<Corner> =
            boxes.iter().filter(|b| b[0].start <= w[0] && w[1] <= b[0].end).map(|b| b[1..].to_vec()).collect();
        (w[1] - w[0]) as u64 * volume(&inside)
    };
    cuts.windows(2).map(between).sum()
}

/// How many elements of each tensor are written, within loops of so many iterations; `None` where that is not known.
pub(super) fn count(
    n: &Nest,
    nodes: &[Node],
    iterations: u64,
    guarded: bool,
    out: &mut BTreeMap<TensorId, Option<u64>>,
) {
    let mut add = |t: TensorId, elements: u64| {
        let sum = out.entry(t).or_insert(Some(0));
        *sum = sum.filter(|_| !guarded).map(|sum| sum.saturating_add(iterations.saturating_mul(elements)));
    };
    for node in nodes {
        match node {
            Node::Update { place: Place::Element(a), .. } => add(a.tensor, 1),
            Node::Update { place: Place::Lanes(a, lanes), .. } => add(a.tensor, lanes.len() as u64),
            Node::Transpose(t) => add(t.to.tensor, transposed_elements(n, t)),
            _ => {}
        }
    }
    for node in nodes {
        match node {
            Node::Fill(t) => _ = out.insert(*t, None),
            Node::Loop { var, body } => {
                count(n, body, iterations.saturating_mul(n.vars[*var].extent as u64), guarded, out);
            }
            Node::If { body, .. } => count(n, body, iterations, true, out),
            Node::Speculative { body } => count(n, body, iterations, guarded, out),
            _ => {}
        }
    }
}

/// The elements of a block that is transposed.
pub(super) fn transposed_elements(n: &Nest, t: &BlockTranspose) -> u64 {
    (n.vars[t.row].extent * n.vars[t.column].extent) as u64
}

/// Whether nothing but the nest says what a tensor holds.
pub(super) fn is_scratch(kernel: &Kernel, n: &Nest, t: TensorId) -> bool {
    n.local(t).is_some_and(|l| kernel.tensors.get(t.0).is_none_or(|tensor| tensor.shape != l.shape))
}

/// Every access that is written, those that differ in constants alone in one, and those of a tile.
pub(super) fn writes(n: &Nest, nodes: &[Node]) -> Vec<Write> {
    let mut out: Vec<Write> = Vec::new();
    let mut add = |a: &Access, lanes: usize| {
        let last = a.positions.len().wrapping_sub(1);
        let spread = |(k, p): (usize, &Position)| {
            let (rolled, terms): (Vec<_>, Vec<_>) =
                p.numerator.terms.iter().copied().partition(|(v, _)| n.vars[*v].counts.is_some());
            let reach = |(v, c): &(VarId, i64)| *c * (n.vars[*v].extent as i64 - 1);
            let before: i64 = rolled.iter().map(|term| reach(term).min(0)).sum();
            let more: i64 = rolled.iter().map(|term| reach(term).abs()).sum();
            let numerator = Linear::new(terms, p.numerator.constant + before);
            let lanes = if k == last { lanes as i64 - 1 } else { 0 };
            Spread { from: Position { numerator, ..p.clone() }, more: more + lanes }
        };
        let positions: Vec<Spread> = a.positions.iter().enumerate().map(spread).collect();
        let w = Write { tensor: a.tensor, positions, joined: a.joined.clone() };
        if !out.iter_mut().any(|o| o.takes(&w)) {
            out.push(w);
        }
    };
    walk::parts(nodes, &mut |part| match part {
        Part::Node(Node::Update { place: Place::Element(a), .. }) => add(a, 1),
        Part::Node(Node::Update { place: Place::Lanes(a, lanes), .. }) => add(a, lanes.end),
        Part::Node(Node::Transpose(t)) => add(&t.to, n.vars[t.row].extent),
        _ => {}
    });
    out
}

impl Write {
    /// Stands for another too, if that differs in constants alone.
    fn takes(&mut self, other: &Write) -> bool {
        let alike = |(a, b): (&Spread, &Spread)| {
            a.from.divisor == 1
                && (a.from.divisor, a.from.guarded) == (b.from.divisor, b.from.guarded)
                && a.from.numerator.terms == b.from.numerator.terms
        };
        if self.tensor != other.tensor
            || self.joined != other.joined
            || !self.positions.iter().zip(&other.positions).all(alike)
        {
            return false;
        }
        for (a, b) in self.positions.iter_mut().zip(&other.positions) {
            let (first, second) = (a.from.numerator.constant, b.from.numerator.constant);
            let end = (first + a.more).max(second + b.more);
            a.from.numerator.constant = first.min(second);
            a.more = end - first.min(second);
        }
        true
    }
}

/// The least and the greatest value of a position, its variables anywhere in their loops or where they stand; one of
/// them left out.
fn range(n: &Nest, p: &Position, env: &[Option<i64>], without: Option<VarId>) -> (i64, i64) {
    let mut ends = (p.numerator.constant, p.numerator.constant);
    for (v, c) in p.numerator.terms.iter().filter(|(v, _)| Some(*v) != without) {
        let (lo, hi) = env[*v].map_or((0, n.vars[*v].extent as i64 - 1), |at| (at, at));
        ends.0 += (c * lo).min(c * hi);
        ends.1 += (c * lo).max(c * hi);
    }
    ends
}

/// The corners of what a write covers: what it writes first, and last.
pub(super) fn reach(n: &Nest, w: &Write, shape: &[usize]) -> [Corner; 2] {
    let env = vec![None; n.vars.len()];
    let (mut lo, mut hi, mut size) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = shape;
    for (p, joined) in w.positions.iter().zip(&w.joined) {
        let (these, after) = rest.split_at(*joined);
        rest = after;
        let most = these.iter().product::<usize>() as i64 - 1;
        let (from, to) = range(n, &p.from, &env, None);
        lo.extend(coordinates((from / p.from.divisor).clamp(0, most) as usize, these));
        hi.extend(coordinates((to / p.from.divisor + p.more).clamp(0, most) as usize, these));
        size.extend(std::iter::repeat_n(1, joined - 1).chain([p.more as usize + 1]));
    }
    [corner(&lo, &size, shape, true), corner(&hi, &size, shape, false)]
}

/// The first and the last iteration of a loop in which a write may reach a corner; none where the first is behind the
/// last.
pub(super) fn reaching(
    n: &Nest,
    var: VarId,
    env: &[Option<i64>],
    w: &Write,
    corner: &Corner,
    shape: &[usize],
) -> (i64, i64) {
    let (mut first, mut last) = (0, n.vars[var].extent as i64 - 1);
    let mut at = 0;
    for (Spread { from: p, more }, joined) in w.positions.iter().zip(&w.joined) {
        let dims = at..at + joined;
        at = dims.end;
        if p.guarded || p.divisor != 1 {
            continue;
        }
        let flat = |pick: &dyn Fn(&std::ops::Range<usize>) -> usize| {
            dims.clone().fold(0, |sum, d| sum * shape[d] + pick(&corner[d])) as i64
        };
        let (low, high) = range(n, p, env, Some(var));
        // lo <= c * iteration + rest <= hi, for some rest in low..=high + more.
        let (lo, hi) = (flat(&|r| r.start) - high - more, flat(&|r| r.end - 1) - low);
        match p.numerator.coefficient(var) {
            0 if lo > 0 || hi < 0 => return (0, -1),
            0 => {}
            c if c > 0 => {
                first = first.max(lo.div_euclid(c) + i64::from(lo.rem_euclid(c) != 0));
                last = last.min(hi.div_euclid(c));
            }
            c => {
                first = first.max((-hi).div_euclid(-c) + i64::from((-hi).rem_euclid(-c) != 0));
                last = last.min((-lo).div_euclid(-c));
            }
        }
    }
    (first, last)
}

/// Storage coordinates of a flat index.
pub(super) fn coordinates(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for d in (0..shape.len()).rev() {
        place[d] = at % shape[d];
        at /= shape[d];
    }
    place
}

/// The elements of a size from a place on, or up to it: a row at least, and not too many.
pub(super) fn corner(place: &[usize], size: &[usize], shape: &[usize], on: bool) -> Corner {
    let mut left = MOST_KEPT;
    let mut corner: Corner = (0..shape.len())
        .rev()
        .map(|d| {
            let least = if d + 1 == shape.len() { ROW } else { 1 };
            let size = size[d].max(least).min(left);
            left /= size;
            if on {
                place[d]..(place[d] + size).min(shape[d])
            } else {
                (place[d] + 1).saturating_sub(size)..place[d] + 1
            }
        })
        .collect();
    corner.reverse();
    corner
}

/// The flat index of each element of a corner.
pub(super) fn inside(corner: &Corner, shape: &[usize], f: &mut impl FnMut(usize)) {
    let extents: Vec<usize> = corner.iter().map(std::ops::Range::len).collect();
    for n in 0..extents.iter().product() {
        let place = coordinates(n, &extents);
        f((0..shape.len()).fold(0, |sum, d| sum * shape[d] + corner[d].start + place[d]));
    }
}
