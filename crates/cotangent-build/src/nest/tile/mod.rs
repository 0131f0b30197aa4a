//! Register tiles: takes reductions that run over the same variables, gives loops around a tile of accumulators that
//! stay in registers.
//!
//! One scheme for every contraction. Lanes run along one variable: a free one, along which the targets are contiguous,
//! or a bound one (a dot product), along which reads are. Other free variables give the tile its rows. The reduction
//! runs inside, results are stored once. Reads that are not contiguous along the lanes, or whose rows collide in the
//! cache, are packed into a panel first; so are the scalars of the rows, tile by tile, where they stand far apart.
//! Extents are split into pieces of nearly equal size, the last vector moved back to end with the extent; where a guard
//! depends on a variable of the tile, its range is split so that the guard is always or never met.
//!
//! [`group`] is what is tiled, [`candidates`] lists the ways to do it with their [`cost`] in cycles, [`choose`] takes
//! the cheapest (of parts that guards cut off, one with less text that costs little more), and [`build`] carries it out
//! with [`panels`] and [`accumulate`]. All but the last three only read.

mod accumulate;
mod build;
mod candidates;
mod choose;
mod cost;
mod group;
mod panels;

pub use candidates::Tuning;
pub(super) use candidates::{Budget, Candidate};
pub(super) use choose::{Decided, Decider, Decision, Request, may_finish};

use std::collections::BTreeMap;

/// The order in which an element of a statement is summed.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// One term after the other, as the variables stand.
    Loops,
    /// So in blocks of a variable, of this size, whose sums are added one after the other.
    Blocks(String, usize),
    /// Lanes along a variable: of each vector so many, and so many vectors.
    Dot(String, usize, usize),
    /// Parts of a variable one after the other: first coordinate, extent, and the order within.
    Parts(String, Vec<(usize, usize, Order)>),
}

/// What statements are summed in, by their numbers; several where they are so in parts.
pub type Orders = BTreeMap<usize, Vec<Order>>;

/// A run of `count` pieces of `size`, the first at `first`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    first: usize,
    count: usize,
    size: usize,
}

/// As few pieces of at most `most` as possible, sizes equal but for one.
fn pieces(extent: usize, most: usize) -> Vec<Piece> {
    let n = extent.div_ceil(most);
    let (size, larger) = (extent / n, extent % n);
    let all = [
        Piece { first: 0, count: larger, size: size + 1 },
        Piece { first: larger * (size + 1), count: n - larger, size },
    ];
    all.into_iter().filter(|p| p.count > 0).collect()
}
