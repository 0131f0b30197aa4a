//! Panels: takes the packed reads of a tile, gives the locals that stand for them and the nodes that fill them.
//!
//! Holds after it: a panel holds every element that the tiles read from it before they do.

use super::super::builder::{Builder, Map, add, bound_outside, nest};
use super::super::lanes::{Along, along};
use super::super::*;
use super::build::{Counted, Ends, Range, Tile, Vectors};
use super::candidates::{Candidate, scalar_in};
use super::group::Group;
use super::{Piece, pieces};
use crate::plain;

/// So many iterations of the reduction are packed for all tiles of rows before the next.
const CHUNK: usize = 16;
/// The most bytes of a row of a block that is transposed: what every machine with vectors shuffles at once.
pub const BLOCK_BYTES: usize = 32;

/// A packed read: where it is now.
pub struct Panel {
    pub from: plain::Access,
    /// The variables of the reduction that move the read.
    pub bound: Vec<usize>,
    pub access: plain::Access,
}

impl Builder<'_> {
    /// The local in the place of a packed read, none of those that this tile has taken.
    pub fn panel_of(&mut self, g: &Group, p: &Candidate, a: &plain::Access, taken: &mut Vec<TensorId>) -> Panel {
        let (name, shape) = p.panel(g, a);
        let tensor = self.panel(name, shape, taken);
        taken.push(tensor);
        let plain = |v| plain::Position { numerator: Linear::var(v), divisor: 1, guard: plain::Guard::default() };
        let positions = p.panel_dims(g, a).iter().map(|(v, _)| plain(*v)).collect();
        Panel { from: a.clone(), bound: g.bound(a), access: plain::Access { tensor, positions } }
    }

    /// Fills a panel of scalars for a range of rows: some iterations of the reduction for all tiles, then the next
    /// ones, so that a line that holds scalars of several tiles is there when each wants it.
    pub fn pack_rows(&mut self, t: &Tile, panel: &Panel, map: &Map, range: &Range) -> Vec<Node> {
        let holds = |v: usize| panel.from.vars().any(|w| w == v);
        let mut map = map.clone();
        let last = panel.bound.last().copied();
        let loops = self.rows_of(t, panel, last, &mut map);
        let (chunks, name) = match last {
            Some(v) => (pieces(t.p.rows_in(t.g, v), CHUNK), t.name(v).to_string()),
            None => (vec![Piece { first: 0, count: 1, size: 1 }], String::new()),
        };
        let body = self.over(&name, &chunks, |this, first, size| {
            this.rows(t, map.clone(), range, &holds, &mut Vec::new(), &mut |this, mut map, sizes| {
                let mut loops = Vec::new();
                if let Some(v) = last {
                    let var = this.var(&name, size);
                    loops.push(var);
                    let at = add(&first, &Linear::var(var));
                    if t.p.is_split(v) {
                        map[v] = add(&map[v], &at);
                        map[t.row_in] = at;
                    } else {
                        map[v] = at;
                    }
                }
                for (q, (v, _)) in t.p.rows.iter().enumerate().filter(|(_, (v, _))| holds(*v)) {
                    let var = this.var("scalar", sizes[q]);
                    loops.push(var);
                    map[*v] = add(&map[*v], &Linear::var(var));
                    map[scalar_in(t.g, q)] = Linear::var(var);
                }
                let value = Value::Load(this.lowering().access(&panel.from, &map));
                let place = Place::Element(this.lowering().access(&panel.access, &map));
                let copy = vec![Node::Update { place, how: Update::Set, value }];
                nest(&loops, Vec::new(), &bound_outside(&map, &loops), copy)
            })
        });
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), body)
    }

    /// Fills the panels.
    pub fn packs(&mut self, t: &Tile, map: &Map, vectors: &Vectors) -> Vec<Node> {
        let mut out = Vec::new();
        for panel in &t.panels {
            let transposed = t.p.transposed(t.g, &panel.from);
            let copied = along(&panel.from, t.p.lane) == Along::Contiguous;
            let whole = !matches!(vectors.ends, Ends::Part(_));
            let mut each = self.counted(t, vectors);
            let mut map = map.clone();
            map[t.p.lane] = each.at.clone();
            map[t.lane_in] = each.lane.clone();
            if copied && whole {
                out.extend(self.copy_lanes(t, panel, map, each));
                continue;
            }
            let filled = match vectors.ends {
                Ends::Part(lanes) => lanes,
                _ => t.p.width,
            };
            each.body.extend(match transposed.filter(|_| !copied && whole) {
                Some(along) => self.transpose(t, panel, along, map),
                None => self.copy(t, panel, map, filled),
            });
            out.push(each.into_loop());
        }
        out
    }

    /// The loops of a panel's rows but `without`, and the map with them.
    fn rows_of(&mut self, t: &Tile, panel: &Panel, without: Option<usize>, map: &mut Map) -> Vec<VarId> {
        let mut loops = Vec::new();
        for v in panel.bound.iter().copied().filter(|v| Some(*v) != without) {
            let split = t.p.block.filter(|(b, _)| *b == v);
            let var = self.var(t.name(v), split.map_or(t.g.extent(v), |(_, n)| n));
            loops.push(var);
            match split {
                Some(_) => {
                    map[v] = add(&map[v], &Linear::var(var));
                    map[t.row_in] = Linear::var(var);
                }
                None => map[v] = Linear::var(var),
            }
        }
        loops
    }

    /// A panel's rows copied, all vectors of one before the next.
    fn copy_lanes(&mut self, t: &Tile, panel: &Panel, mut map: Map, mut each: Counted) -> Vec<Node> {
        let loops = self.rows_of(t, panel, None, &mut map);
        let value = Value::Lanes(self.lowering().access(&panel.from, &map), t.p.width, t.p.width);
        let place = Place::Lanes(self.lowering().access(&panel.access, &map), 0..t.p.width);
        each.body.push(Node::Update { place, how: Update::Set, value });
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), vec![each.into_loop()])
    }

    /// A vector's part of a panel's rows gathered element by element.
    fn copy(&mut self, t: &Tile, panel: &Panel, mut map: Map, lanes: usize) -> Vec<Node> {
        let loops = self.rows_of(t, panel, None, &mut map);
        let lane = self.var("lane", lanes);
        map[t.p.lane] = add(&map[t.p.lane], &Linear::var(lane));
        map[t.lane_in] = add(&map[t.lane_in], &Linear::var(lane));
        let value = Value::Load(self.lowering().access(&panel.from, &map));
        let place = Place::Element(self.lowering().access(&panel.access, &map));
        let node = Node::Loop { var: lane, body: vec![Node::Update { place, how: Update::Set, value }] };
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), vec![node])
    }

    /// A panel transposed in square blocks: rows of the operand become columns.
    fn transpose(&mut self, t: &Tile, panel: &Panel, along: usize, mut map: Map) -> Vec<Node> {
        let side = t.p.width.min(BLOCK_BYTES / t.g.size);
        let loops = self.rows_of(t, panel, Some(along), &mut map);
        let split = t.p.block.filter(|(b, _)| *b == along);
        let extent = split.map_or(t.g.extent(along), |(_, n)| n);
        let mut blocks = vec![Piece { first: 0, count: extent / side, size: side }];
        if !extent.is_multiple_of(side) {
            // The last block again covers some of the one before.
            blocks.push(Piece { first: extent - side, count: 1, size: side });
        }
        let name = t.name(along).to_string();
        let body = self.over(&name, &blocks, |this, base, _| {
            let (row, column) =
                (this.counting(Counts::Rows, "row", t.p.width), this.counting(Counts::Rows, "column", side));
            let at = |along_at: &Linear, lane: &Linear| {
                let mut m = map.clone();
                if split.is_some() {
                    m[t.row_in] = along_at.clone();
                    m[along] = add(&m[along], along_at);
                } else {
                    m[along] = along_at.clone();
                }
                m[t.p.lane] = add(&m[t.p.lane], lane);
                m
            };
            let from = this.lowering().access(&panel.from, &at(&base, &Linear::var(row)));
            let to = this.lowering().access(&panel.access, &at(&add(&base, &Linear::var(column)), &Linear::default()));
            vec![Node::Transpose(BlockTranspose { row, from, column, to })]
        });
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), body)
    }
}
