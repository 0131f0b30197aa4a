//! Building a tile: takes a group and the candidate that is taken for it, gives the loops around its tiles: blocks of a
//! split reduction, blocks of rows, groups of vectors, other free variables, and the rows.
//!
//! Holds after it: each element of the targets is of one tile, but for lanes that two vectors share at the end of an
//! extent.

use super::super::builder::{Builder, Map, add};
use super::super::coalesce::rewrite;
use super::super::*;
use super::candidates::{Candidate, lane_in, row_in, tile_in};
use super::group::Group;
use super::panels::Panel;
use super::{Piece, pieces};
use crate::plain::{self, Stmt};

/// What makes the nodes of one tile: where it is, and how many rows of each variable it has.
type OfTile<'a, S> = dyn FnMut(&mut S, Map, &[usize]) -> Vec<Node> + 'a;

/// The vectors of a tile that stand beside each other.
pub struct Vectors {
    /// Where the lanes of the first start.
    pub first: Linear,
    pub count: usize,
    pub ends: Ends,
}

/// How vectors end with the extent of their variable.
#[derive(Clone, Copy)]
pub enum Ends {
    /// As they do.
    Whole,
    /// The only one has so many lanes.
    Part(usize),
    /// They are moved back together: so many lanes of the first are another group's as well.
    Shared(usize),
    /// The last one is moved back: it starts at `most`, and so many of its lanes are the one's before as well.
    Moved { most: usize, shared: usize },
}

/// A loop over vectors.
#[derive(Clone)]
pub struct Counted {
    pub var: VarId,
    /// The number of each.
    pub number: Linear,
    /// Where the lanes of each start, in their variable and in a panel.
    pub at: Linear,
    pub lane: Linear,
    pub body: Vec<Node>,
    /// It is no single vector.
    pub loops: bool,
}

impl Counted {
    /// One vector of a loop, and where its lanes start.
    pub fn fixed(each: &Counted, number: usize, at: Linear) -> Self {
        let only = |l: &Linear| {
            l.substitute(&|v| if v == each.var { Linear::constant(number as i64) } else { Linear::var(v) })
        };
        Counted {
            var: each.var,
            number: Linear::constant(number as i64),
            at,
            lane: only(&each.lane),
            body: Vec::new(),
            loops: false,
        }
    }
    pub fn into_loop(self) -> Node {
        Node::Loop { var: self.var, body: self.body }
    }
}

/// A candidate being carried out.
pub struct Tile<'a> {
    pub g: &'a Group<'a>,
    pub p: &'a Candidate,
    pub stmts: Vec<Stmt>,
    pub panels: Vec<Panel>,
    pub row_panels: Vec<Panel>,
    pub lane_in: usize,
    pub row_in: usize,
}

/// What a tile runs within: the block of the reduction, and the rows of the first variable.
pub struct Range {
    pub block: Option<VarId>,
    pub first: Linear,
    pub count: usize,
}

impl Tile<'_> {
    pub fn free(&self) -> bool {
        self.g.is_free(self.p.lane)
    }
    pub fn name(&self, v: usize) -> &str {
        self.g.var(v)
    }
    pub fn is_row(&self, v: usize) -> bool {
        self.p.rows.iter().any(|(w, _)| *w == v)
    }
    /// Free variables that are neither lanes nor rows, in the order of the target's storage.
    pub fn outer_vars(&self) -> Vec<usize> {
        let target = &self.g.first().target;
        let place = |v: &usize| target.positions.iter().position(|p| p.numerator.coefficient(*v) != 0);
        let mut all: Vec<usize> = self
            .g
            .own
            .iter()
            .copied()
            .filter(|v| self.g.is_free(*v) && *v != self.p.lane && !self.is_row(*v))
            .collect();
        all.sort_by_key(place);
        all
    }
    /// Whether it runs outside of the groups of vectors: a panel depends on it, or all that is read does, so that groups
    /// have lines in common within one of its iterations and none beyond.
    pub fn outside(&self, v: usize) -> bool {
        self.packed(v) || self.g.reads.iter().all(|a| a.vars().any(|w| w == v))
    }
    /// Whether a panel depends on it.
    fn packed(&self, v: usize) -> bool {
        self.panels.iter().chain(&self.row_panels).any(|p| p.from.vars().any(|w| w == v))
    }
}

impl Builder<'_> {
    /// The loops of a tile.
    pub fn tile(&mut self, g: &Group, p: &Candidate) -> Vec<Node> {
        let mut map = self.fixed_map(g.first(), g.fixed);
        let mut stmts = g.stmts.clone();
        let mut taken = Vec::new();
        let panels: Vec<Panel> = p.pack.iter().map(|a| self.panel_of(g, p, a, &mut taken)).collect();
        let row_panels: Vec<Panel> = p.row_pack.iter().map(|a| self.panel_of(g, p, a, &mut taken)).collect();
        for s in &mut stmts {
            let mut add = |name: &str, extent: usize| s.vars.push(plain::Var { name: name.into(), extent });
            add("lane", p.vectors * p.width);
            add("row", p.block.map_or(1, |(_, n)| n));
            for (q, (_, n)) in p.rows.iter().enumerate() {
                add("tile", p.tiles(g, q));
                add("scalar", *n);
            }
            let replace = |a: &plain::Access| {
                let panel = panels.iter().chain(&row_panels).find(|q| q.from == *a);
                panel.map_or_else(|| a.clone(), |q| q.access.clone())
            };
            let target = s.target.clone();
            rewrite(s, &mut |a| if *a == target { a.clone() } else { replace(a) });
        }
        map.resize(stmts[0].vars.len(), Linear::default());
        let t = Tile { g, p, stmts, panels, row_panels, lane_in: lane_in(g), row_in: row_in(g) };
        self.blocks(&t, map)
    }

    /// Loops over the pieces of a variable.
    pub fn over(
        &mut self,
        name: &str,
        pieces: &[Piece],
        mut body: impl FnMut(&mut Self, Linear, usize) -> Vec<Node>,
    ) -> Vec<Node> {
        let mut out = Vec::new();
        for piece in pieces {
            if piece.count == 1 {
                out.extend(body(self, Linear::constant(piece.first as i64), piece.size));
            } else {
                let var = self.var(name, piece.count);
                let at = Linear::new([(var, piece.size as i64)], piece.first as i64);
                let body = body(self, at, piece.size);
                out.push(Node::Loop { var, body });
            }
        }
        out
    }

    /// Blocks of the reduction, then loops on which panels depend, and those on which all reads do.
    fn blocks(&mut self, t: &Tile, map: Map) -> Vec<Node> {
        let rows = |block| Range {
            block,
            first: Linear::default(),
            count: t.p.rows.first().map_or(1, |(v, _)| t.g.extent(*v)),
        };
        let Some((v, n)) = t.p.block else { return self.outer(t, map, &rows(None), 0) };
        let var = self.var(&format!("{}_block", t.name(v)), t.g.extent(v) / n);
        let mut inside = map;
        inside[v] = Linear::new([(var, n as i64)], 0);
        let body = self.outer(t, inside, &rows(Some(var)), 0);
        vec![Node::Loop { var, body }]
    }

    fn outer(&mut self, t: &Tile, mut map: Map, range: &Range, from: usize) -> Vec<Node> {
        let next = t.outer_vars().into_iter().filter(|v| t.outside(*v)).nth(from);
        if let Some(v) = next {
            let var = self.var(t.name(v), t.g.extent(v));
            map[v] = Linear::var(var);
            let body = self.outer(t, map, range, from + 1);
            return vec![Node::Loop { var, body }];
        }
        if !t.free() {
            let per = t.p.vectors.min(t.g.extent(t.p.lane) / t.p.width);
            let vectors = Vectors { first: Linear::default(), count: per, ends: Ends::Whole };
            return self.others(t, map, &vectors, range, 0);
        }
        if t.row_panels.is_empty() {
            return self.groups(t, map, range);
        }
        // Blocks of rows: their scalars are packed once for all groups.
        let name = format!("{}_block", t.name(t.p.rows[0].0));
        self.over(&name, &pieces(range.count, t.p.row_block), |this, first, count| {
            let range = Range { first, count, ..*range };
            let mut out = Vec::new();
            for panel in &t.row_panels {
                out.extend(this.pack_rows(t, panel, &map, &range));
            }
            out.extend(this.groups(t, map.clone(), &range));
            out
        })
    }

    fn groups(&mut self, t: &Tile, map: Map, range: &Range) -> Vec<Node> {
        // Groups of vectors; where the extent is no whole number of vectors the last group ends with it.
        let extent = t.g.extent(t.p.lane);
        let (width, rest) = (t.p.width, extent % t.p.width);
        let name = format!("{}_tile", t.name(t.p.lane));
        let all = pieces(extent.div_ceil(width), t.p.vectors);
        let alone = matches!(all.as_slice(), [Piece { count: 1, .. }]);
        let mut out = Vec::new();
        for (n, piece) in all.iter().enumerate() {
            let cut = rest > 0 && n + 1 == all.len();
            let whole = Piece { count: piece.count - usize::from(cut), ..*piece };
            let scaled = Piece { first: whole.first * width, size: whole.size * width, ..whole };
            if whole.count > 0 {
                out.extend(self.over(&name, &[scaled], |this, first, _| {
                    this.group_of(t, &map, &Vectors { first, count: piece.size, ends: Ends::Whole }, range)
                }));
            }
            if cut {
                let (first, ends) = match alone {
                    true if extent < width => (0, Ends::Part(extent)),
                    true => (0, Ends::Moved { most: extent - width, shared: width - rest }),
                    false => (extent - piece.size * width, Ends::Shared(width - rest)),
                };
                let vectors = Vectors { first: Linear::constant(first as i64), count: piece.size, ends };
                out.extend(self.group_of(t, &map, &vectors, range));
            }
        }
        out
    }

    /// One group of vectors: its panels, and all rows.
    fn group_of(&mut self, t: &Tile, map: &Map, vectors: &Vectors, range: &Range) -> Vec<Node> {
        let mut out = self.packs(t, map, vectors);
        out.extend(self.others(t, map.clone(), vectors, range, 0));
        out
    }

    /// The loop over vectors, without a body so far.
    pub fn counted(&mut self, t: &Tile, vectors: &Vectors) -> Counted {
        let var = self.counting(Counts::Vectors, "v", vectors.count);
        let lane = Linear::new([(var, t.p.width as i64)], 0);
        let place = add(&vectors.first, &lane);
        let (at, body) = match vectors.ends {
            Ends::Moved { most, .. } => {
                let at = self.counting(Counts::Rows, "at", most + 1);
                (Linear::var(at), vec![Node::Let { var: at, value: place, most }])
            }
            _ => (place, Vec::new()),
        };
        Counted { var, number: Linear::var(var), at, lane, body, loops: true }
    }

    /// The other free variables: plain loops, then the rows of the tile.
    fn others(&mut self, t: &Tile, mut map: Map, vectors: &Vectors, range: &Range, from: usize) -> Vec<Node> {
        let plain: Vec<usize> = t.outer_vars().into_iter().filter(|v| !t.outside(*v)).collect();
        if let Some(v) = plain.get(from) {
            let var = self.var(t.name(*v), t.g.extent(*v));
            map[*v] = Linear::var(var);
            let body = self.others(t, map, vectors, range, from + 1);
            return vec![Node::Loop { var, body }];
        }
        self.rows(t, map, range, &|_| true, &mut Vec::new(), &mut |this, map, sizes| {
            this.accumulate(t, map, vectors, range.block, sizes)
        })
    }

    /// Loops over the tiles of the rows; a variable that is not `wanted` stands still.
    pub fn rows(
        &mut self,
        t: &Tile,
        map: Map,
        range: &Range,
        wanted: &dyn Fn(usize) -> bool,
        sizes: &mut Vec<usize>,
        tile: &mut OfTile<Self>,
    ) -> Vec<Node> {
        let q = sizes.len();
        let Some((v, n)) = t.p.rows.get(q).copied() else { return tile(self, map, sizes) };
        if !wanted(v) {
            sizes.push(1);
            let out = self.rows(t, map, range, wanted, sizes, tile);
            sizes.pop();
            return out;
        }
        let name = t.name(v).to_string();
        let (first, count) =
            if q == 0 { (range.first.clone(), range.count) } else { (Linear::default(), t.g.extent(v)) };
        let mut before = 0;
        let mut out = Vec::new();
        for piece in pieces(count, n) {
            out.extend(self.over(&name, &[piece], |this, base, size| {
                let mut map = map.clone();
                map[tile_in(t.g, q)] = Linear::new(base.terms.iter().map(|(var, _)| (*var, 1)), before);
                map[v] = add(&first, &base);
                sizes.push(size);
                let out = this.rows(t, map, range, wanted, sizes, tile);
                sizes.pop();
                out
            }));
            before += piece.count as i64;
        }
        out
    }
}
