//! One tile: takes where it is, gives its accumulators, the reduction, and the results with their epilogue.
//!
//! Holds after it: each result is stored once, or added once; lanes that two vectors have are stored twice, as they are
//! equal.

use super::super::builder::{Builder, Map, add, bound_outside, looped, nest};
use super::super::lanes::{Along, Iteration, LANE, along};
use super::super::*;
use super::Piece;
use super::build::{Counted, Ends, Tile, Vectors};
use super::candidates::{scalar_in, tile_in};
use super::cost;
use super::panels::BLOCK_BYTES;
use crate::plain::{Access, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// A loop of at most so many loads and operations is short: three to six instructions besides are a tenth of it.
const SHORT: usize = 40;
/// So many single elements take longer than a vector.
const LONG_TAIL: usize = 4;

/// A tile at its place: what it is given, and the registers and loops that it has there.
struct Frame<'a> {
    t: &'a Tile<'a>,
    /// The map of its statements outside of the reduction, rows aside.
    given: Map,
    /// The number of the block of the reduction.
    block: Option<Linear>,
    /// The variables that count its rows, and how many there are of each.
    rows: Vec<VarId>,
    sizes: &'a [usize],
    /// The loop over its vectors.
    each: Counted,
    /// The accumulators of each statement.
    accs: Vec<RegisterId>,
    /// The loops of the reduction, lanes aside, and the map within them.
    loops: Vec<VarId>,
    iteration: Map,
}

impl Frame<'_> {
    /// The row at hand.
    fn row_vars(&self) -> Vec<Linear> {
        self.rows.iter().map(|v| Linear::var(*v)).collect()
    }

    /// The map of a row, so many coordinates from the first.
    fn at_rows(&self, at: &[Linear]) -> Map {
        let t = self.t;
        let mut m = self.given.clone();
        for (q, at) in at.iter().enumerate() {
            let v = t.p.rows[q].0;
            m[v] = add(&m[v], at);
            m[scalar_in(t.g, q)] = at.clone();
        }
        m
    }
}

/// The first vector of a row of an array of accumulators.
fn first_of(acc: RegisterId, row: &[Linear]) -> Slot {
    Slot { register: acc, at: row.iter().cloned().chain([Linear::default()]).collect() }
}

impl Builder<'_> {
    /// One tile of so many rows: accumulators, the reduction, the results.
    pub fn accumulate(
        &mut self,
        t: &Tile,
        mut map: Map,
        vectors: &Vectors,
        block: Option<VarId>,
        sizes: &[usize],
    ) -> Vec<Node> {
        let lane = t.p.lane;
        if t.free() {
            map[lane] = vectors.first.clone();
        }
        // What the tile is given: where it is.
        let mut params: Vec<(VarId, Linear)> = Vec::new();
        let given = self.given_map(t, &map, &mut params);
        let block = block.map(|b| {
            let at = t.p.block.map_or_else(Linear::default, |(v, _)| given[v].clone());
            if at.terms.is_empty() { Linear::var(self.given("block", &Linear::var(b), &mut params)) } else { at }
        });
        let rows: Vec<VarId> =
            sizes.iter().zip(["r", "s"]).map(|(n, name)| self.counting(Counts::Rows, name, *n)).collect();
        let first = if t.free() { given[lane].clone() } else { Linear::default() };
        let each = self.counted(t, &Vectors { first, ..*vectors });
        let vector = each.var;
        // An array by row and vector for each statement.
        let dims: Vec<VarId> = rows.iter().copied().chain([vector]).collect();
        let accs: Vec<RegisterId> =
            t.stmts.iter().map(|_| self.register("acc", Some(t.p.width), dims.clone())).collect();
        let mut frame = Frame { t, given, block, rows, sizes, each, accs, loops: Vec::new(), iteration: Vec::new() };
        self.reduction_loops(&mut frame);
        let identity = Value::Splat(Box::new(Value::Const(t.g.op.identity())), t.p.width);
        let mut out: Vec<Node> =
            frame.accs.iter().map(|acc| Node::Init { register: *acc, value: identity.clone() }).collect();
        out.extend(if t.free() { self.lane_tile(&frame, vectors) } else { self.dot_tile(&frame) });
        let mut used = BTreeSet::new();
        walk::parts(&out, &mut |part| {
            if let walk::Part::Linear(l) = part {
                used.extend(l.terms.iter().map(|(v, _)| *v));
            }
        });
        params.retain(|(v, _)| used.contains(v));
        vec![Node::Tile(super::super::Tile { params, width: t.p.width, vector, rows: frame.rows, body: out })]
    }

    /// The map of a tile's statements over variables that it is given.
    fn given_map(&mut self, t: &Tile, map: &Map, params: &mut Vec<(VarId, Linear)>) -> Map {
        let mut given = Map::new();
        for (v, place) in map.iter().enumerate() {
            let tile_of = (0..t.p.rows.len()).find(|q| tile_in(t.g, *q) == v && !t.row_panels.is_empty());
            let own = t.is_row(v) || v == t.p.lane && t.free() || tile_of.is_some();
            if !own && place.terms.is_empty() {
                given.push(place.clone());
                continue;
            }
            let name = match tile_of {
                Some(q) => format!("{}_tile", t.name(t.p.rows[q].0)),
                None if t.p.is_split(v) => format!("{}_block", t.name(v)),
                None => t.stmts[0].vars[v].name.clone(),
            };
            let var = self.given(&name, place, params);
            given.push(Linear::var(var));
        }
        given
    }

    /// The loops of the reduction, lanes aside.
    fn reduction_loops(&mut self, frame: &mut Frame) {
        let t = frame.t;
        let mut iteration = frame.at_rows(&frame.row_vars());
        for v in t.g.own.iter().copied().filter(|v| !t.g.is_free(*v) && *v != t.p.lane) {
            let var = self.var(t.name(v), t.p.rows_in(t.g, v));
            frame.loops.push(var);
            if t.p.is_split(v) {
                iteration[v] = add(&iteration[v], &Linear::var(var));
                iteration[t.row_in] = Linear::var(var);
            } else {
                iteration[v] = Linear::var(var);
            }
        }
        frame.iteration = iteration;
    }

    /// A tile whose lanes run along a free variable. Lanes that two vectors have are added once.
    fn lane_tile(&mut self, f: &Frame, vectors: &Vectors) -> Vec<Node> {
        let t = f.t;
        let partial = match vectors.ends {
            Ends::Part(lanes) => Some(lanes),
            _ => None,
        };
        let (tests, updates) = self.updates(f, &f.each, partial);
        let mut out = nest(&f.loops, tests, &bound_outside(&f.iteration, &f.loops), updates);
        // What adds and what stores are one body where they differ in that alone.
        let adds = f.block.is_some()
            || t.stmts.iter().any(|s| s.accumulate)
            || matches!(self.nest.kind, crate::plain::Kind::Vjp { .. });
        let (width, at) = (t.p.width, f.given[t.p.lane].clone());
        let all = match vectors.ends {
            Ends::Part(lanes) => self.stored(f, &f.each, 0..lanes, partial),
            Ends::Shared(shared) if adds => {
                let first = Counted::fixed(&f.each, 0, at);
                let rest = self.others_of(&f.each, 1);
                let mut out = self.stored(f, &first, shared..width, None);
                if vectors.count > 1 {
                    out.extend(self.stored(f, &rest, 0..width, None));
                }
                out
            }
            Ends::Moved { most, shared } if adds => {
                let last = Counted::fixed(&f.each, vectors.count - 1, Linear::constant(most as i64));
                let rest = self.others_of(&Counted { at: add(&at, &f.each.lane), ..f.each.clone() }, 0);
                let mut out = self.stored(f, &rest, 0..width, None);
                out.extend(self.stored(f, &last, shared..width, None));
                out
            }
            _ => self.stored(f, &f.each, 0..width, None),
        };
        out.extend(looped(&f.rows, all));
        out
    }

    /// A tile whose lanes run along the reduction: they are folded, and results are scalars.
    fn dot_tile(&mut self, f: &Frame) -> Vec<Node> {
        let t = f.t;
        let (mut out, sums) = self.dot(f);
        // Rows that follow each other in the targets are folded together, as many as make lanes.
        let together = together(t.p.width, t.g.size);
        let last = t.p.rows.last().filter(|(v, _)| t.stmts.iter().all(|s| along(&s.target, *v) == Along::Contiguous));
        let size = f.sizes.last().copied().unwrap_or(1);
        let (groups, rest) = (size / together, size % together);
        let partly = folds_partly(rest, together);
        if last.is_none() || !sums.is_empty() || t.g.op != ReduceOp::Sum || groups == 0 && !partly {
            let all = self.folded(f, &sums, &f.row_vars());
            out.extend(looped(&f.rows, all));
            return out;
        }
        let outer = &f.rows[..f.rows.len() - 1];
        let row = |last: Linear| -> Vec<Linear> { outer.iter().map(|v| Linear::var(*v)).chain([last]).collect() };
        let mut parts = Vec::new();
        if groups > 0 {
            let part = self.counting(Counts::Rows, "part", groups);
            let at = |l: usize| row(Linear::new([(part, together as i64)], l as i64));
            let body = self.folded_together(f, together, together, &at);
            parts.push(Node::Loop { var: part, body });
        }
        if partly {
            let at = |l: usize| row(Linear::constant((size - rest + l) as i64));
            parts.extend(self.folded_together(f, rest, together, &at));
        } else if rest > 0 {
            let var = self.counting(Counts::Rows, "s", rest);
            let body = self.folded(f, &sums, &row(Linear::new([(var, 1)], (size - rest) as i64)));
            parts.push(Node::Loop { var, body });
        }
        out.extend(looped(outer, parts));
        out
    }

    /// The results of rows of a dot product that follow each other in the targets, folded together as lanes; where
    /// there are fewer than lanes, the last stands for the others, and these are not stored.
    fn folded_together(
        &mut self,
        f: &Frame,
        count: usize,
        together: usize,
        at: &dyn Fn(usize) -> Vec<Linear>,
    ) -> Vec<Node> {
        let mut all = Vec::new();
        for (s, acc) in f.t.stmts.iter().zip(&f.accs) {
            let into = self.register("sums", Some(together), Vec::new());
            let from = (0..together).map(|l| first_of(*acc, &at(l.min(count - 1)))).collect();
            all.push(Node::Sums { into, from });
            let target = self.lowering().access(&s.target, &f.at_rows(&at(0)));
            all.extend(results(s, Place::Lanes(target, 0..count), Value::register(into), f.block.as_ref()));
        }
        all
    }

    /// The results of one row of a dot product, each folded onto the sum of its single elements, if there is one.
    fn folded(&mut self, f: &Frame, sums: &[RegisterId], at: &[Linear]) -> Vec<Node> {
        let op = f.t.g.op;
        let mut all = Vec::new();
        for (n, (s, acc)) in f.t.stmts.iter().zip(&f.accs).enumerate() {
            let into = match sums.get(n) {
                Some(sum) => Slot { register: *sum, at: at.to_vec() },
                None => self.init("sum", None, Value::Const(op.identity()), &mut all).into(),
            };
            all.push(Node::Fold { into: into.clone(), from: first_of(*acc, at), op });
            let target = self.lowering().access(&s.target, &f.at_rows(at));
            all.extend(results(s, Place::Element(target), Value::Register(into), f.block.as_ref()));
        }
        all
    }

    /// The vectors of a loop but the first or the last one.
    fn others_of(&mut self, each: &Counted, from: usize) -> Counted {
        let count = self.nest.vars[each.var].extent - 1;
        let var = self.counting(Counts::Vectors, "v", count.max(1));
        let at = Linear::new([(var, 1)], from as i64);
        let moved = |l: &Linear| l.substitute(&|v| if v == each.var { at.clone() } else { Linear::var(v) });
        Counted {
            var,
            number: moved(&each.number),
            at: moved(&each.at),
            lane: moved(&each.lane),
            body: Vec::new(),
            loops: true,
        }
    }

    /// The results of vectors of a row: the lanes of the range are written, and of a vector that is not whole so many
    /// are read.
    fn stored(
        &mut self,
        f: &Frame,
        each: &Counted,
        lanes: std::ops::Range<usize>,
        partial: Option<usize>,
    ) -> Vec<Node> {
        let rows = f.row_vars();
        let mut m = f.at_rows(&rows);
        m[f.t.p.lane] = each.at.clone();
        let mut all = each.body.clone();
        for (s, acc) in f.t.stmts.iter().zip(&f.accs) {
            let slot = Slot { register: *acc, at: rows.iter().cloned().chain([each.number.clone()]).collect() };
            let target = self.lowering().access(&s.target, &m);
            if !self.in_registers.contains(&target.tensor) {
                let place = Place::Lanes(target.clone(), lanes.clone());
                all.extend(results(s, place, Value::Register(slot.clone()), f.block.as_ref()));
            }
            self.finish(f.t, &m, partial, (target.tensor, slot), &mut all);
        }
        if each.loops { vec![Node::Loop { var: each.var, body: all }] } else { all }
    }

    /// The epilogue of one vector of results, at the places of `map`.
    fn finish(&mut self, t: &Tile, map: &Map, partial: Option<usize>, result: (TensorId, Slot), out: &mut Vec<Node>) {
        let mut known = BTreeMap::from([result]);
        let mut moving = map.clone();
        moving[t.p.lane] = add(&map[t.p.lane], &Linear::var(LANE));
        for s in &t.g.epilogue {
            let (tests, value) = self.lowering().lower(&s.value, &moving);
            assert!(tests.is_empty(), "an epilogue reads nothing that a guard keeps");
            let value = value.replaced(&|a| known.get(&a.tensor).map(|slot| Value::Register(slot.clone())));
            let value = self.lanes(value, t.p.width, partial, None);
            let register = self.init("e", Some(t.p.width), value, out);
            let target = self.lowering().access(&s.target, map);
            known.insert(target.tensor, register.into());
            if !self.in_registers.contains(&target.tensor) {
                let place = Place::Lanes(target, 0..partial.unwrap_or(t.p.width));
                out.push(Node::Update { place, how: Update::Set, value: Value::register(register) });
            }
        }
    }

    /// The reduction of a dot product: groups of vectors, then single vectors, then single elements, or of an extremum
    /// one more vector that ends with the row. Gives the nodes, and the sums of the single elements, if there are any,
    /// by statement; what a row has in several vectors is added to the first of them.
    fn dot(&mut self, f: &Frame) -> (Vec<Node>, Vec<RegisterId>) {
        let t = f.t;
        let (extent, width, vector) = (t.g.extent(t.p.lane), t.p.width, f.each.var);
        let per = self.nest.vars[vector].extent;
        let (groups, rest, tail) = (extent / width / per, extent / width % per, extent % width);
        let moved = ends_in_vector(t.g.op, tail);
        let name = t.name(t.p.lane).to_string();
        let mut body = Vec::new();
        let mut tests = Vec::new();
        let rest_first = groups * per * width;
        for (first, count, vectors) in
            [(0, groups, per), (rest_first, usize::from(rest > 0), rest), (extent - width, usize::from(moved), 1)]
        {
            let piece = Piece { first, count, size: vectors * width };
            if count == 0 {
                continue;
            }
            let mut group = |this: &mut Self, base: Linear, _| {
                let var = if vectors == per { vector } else { this.counting(Counts::Vectors, "v", vectors) };
                let lane = Linear::new([(var, width as i64)], 0);
                let number = Linear::var(var);
                let each = Counted { var, number, at: add(&base, &lane), lane, body: Vec::new(), loops: true };
                let (found, updates) = this.updates(f, &each, None);
                tests = found;
                updates
            };
            if count > 2 && count.is_multiple_of(2) && self.runs_twice(f, piece.size) {
                let (twice, turns) =
                    (Piece { first: 0, count: 2, ..piece }, Piece { count: count / 2, size: 2 * piece.size, ..piece });
                body.extend(self.over(&name, &[turns], |this, turn, _| {
                    this.over(&name, &[twice], |this, base, size| group(this, add(&turn, &base), size))
                }));
            } else {
                body.extend(self.over(&name, &[piece], group));
            }
        }
        let (mut out, sums) = if tail > 0 && !moved { self.tail(f, tail, &mut body) } else { Default::default() };
        out.extend(nest(&f.loops, tests, &bound_outside(&f.iteration, &f.loops), body));
        if per > 1 {
            let var = self.counting(Counts::Rows, "v", per - 1);
            let own = f.row_vars();
            let add = |acc: &RegisterId| {
                let slot = |at: Linear| Slot { register: *acc, at: own.iter().cloned().chain([at]).collect() };
                let value = Value::Register(slot(Linear::new([(var, 1)], 1)));
                Node::Update { place: Place::Register(slot(Linear::default())), how: Update::Reduce(t.g.op), value }
            };
            let folds = vec![Node::Loop { var, body: f.accs.iter().map(add).collect() }];
            out.extend(looped(&f.rows, folds));
        }
        (out, sums)
    }

    /// Whether a loop over so many lanes of each row is so short that counting and branching are much of it, on machines
    /// that do nothing beside: then two iterations are one turn. Where they are constant the compiler unrolls them.
    fn runs_twice(&self, f: &Frame, lanes: usize) -> bool {
        let rows: usize = f.sizes.iter().product();
        let moves = |a: &&Access| f.t.p.rows.iter().any(|(v, _)| a.vars().any(|w| w == *v));
        let per_row = f.t.g.reads.iter().filter(moves).count();
        let Some(work) = f.t.stmts.iter().map(|s| cost::work(&s.value)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let operations: usize = work.iter().map(cost::Work::operations).sum();
        let instructions = lanes * (rows * (per_row + operations) + f.t.g.reads.len() - per_row);
        self.machine.same_order_as.is_some() && instructions <= SHORT
    }

    /// The elements of a dot product beyond the last whole vector, added in `body`: what stands before, and the sums by
    /// statement.
    fn tail(&mut self, f: &Frame, tail: usize, body: &mut Vec<Node>) -> (Vec<Node>, Vec<RegisterId>) {
        let (g, lane) = (f.t.g, f.t.p.lane);
        let var = self.var(f.t.name(lane), tail);
        let mut m = f.iteration.clone();
        m[lane] = Linear::new([(var, 1)], (g.extent(lane) - tail) as i64);
        let (mut out, mut updates, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for s in &f.t.stmts {
            let sum = self.register("sum", None, f.rows.clone());
            out.push(Node::Init { register: sum, value: Value::Const(g.op.identity()) });
            let (_, value) = self.lowering().lower_reduced(&s.value, g.op, &m);
            let place = Place::Register(Slot { register: sum, at: f.row_vars() });
            updates.push(Node::Update { place, how: Update::Reduce(g.op), value });
            sums.push(sum);
        }
        body.push(Node::Loop { var, body: looped(&f.rows, updates) });
        (out, sums)
    }

    /// One iteration of the reduction: every read once, then every accumulator.
    fn updates(&mut self, f: &Frame, each: &Counted, partial: Option<usize>) -> (Vec<Test>, Vec<Node>) {
        let t = f.t;
        let loops = f.rows.iter().map(|v| (*v, Vec::new())).chain([(each.var, each.body.clone())]);
        let mut step = Iteration::new(loops.collect());
        let at: Vec<Linear> = f.rows.iter().chain([&each.var]).map(|v| Linear::var(*v)).collect();
        let mut m = f.iteration.clone();
        m[t.p.lane] = add(&each.at, &Linear::var(LANE));
        m[t.lane_in] = add(&each.lane, &Linear::var(LANE));
        let mut tests: Vec<Test> = Vec::new();
        for (s, acc) in t.stmts.iter().zip(&f.accs) {
            let (found, value) = self.lowering().lower_reduced(&s.value, t.g.op, &m);
            for test in found {
                // Within a tile a guard is met or not, whatever the row.
                if decide::decided(&test, &self.nest.vars) == Some(true) || tests.contains(&test) {
                    continue;
                }
                test.vars(&mut |v| {
                    assert!(v != LANE && self.nest.vars[v].counts.is_none(), "a guard along a tile is cut")
                });
                tests.push(test);
            }
            let value = self.lanes(value, t.p.width, partial, Some(&mut step));
            let place = Place::Register(Slot { register: *acc, at: at.clone() });
            step.push(Node::Update { place, how: Update::Reduce(t.g.op), value });
        }
        (tests, step.nodes())
    }
}

/// Whether the elements beyond the last whole vector of a dot product are taken as one more vector that ends with the
/// row: of an extremum, which may take an element twice, and where they are many. Few run beside the vectors.
pub fn ends_in_vector(op: ReduceOp, tail: usize) -> bool {
    match op {
        ReduceOp::Max | ReduceOp::Min => tail >= LONG_TAIL,
        ReduceOp::Sum | ReduceOp::Prod => false,
    }
}

/// How many rows of a dot product that follow each other in the targets are folded together: as many as make lanes.
pub fn together(width: usize, size: usize) -> usize {
    width.min(BLOCK_BYTES / size)
}

/// Whether so many rows, fewer than are folded together, are folded as if there were as many: a row alone takes as long
/// as several together.
pub fn folds_partly(rest: usize, together: usize) -> bool {
    3 * rest >= together && rest > 1
}

/// The result of a tile: added, or stored; in a later block of the reduction added in any case.
fn results(s: &Stmt, place: Place, value: Value, block: Option<&Linear>) -> Vec<Node> {
    let update = |how: Update| Node::Update { place: place.clone(), how, value: value.clone() };
    let add = Update::Reduce(ReduceOp::Sum);
    match block {
        Some(block) if !s.accumulate => {
            let first = |op: Compare| vec![Test::Index(op, block.clone(), Linear::constant(0))];
            vec![
                Node::If { tests: first(Compare::Eq), body: vec![update(Update::Set)] },
                Node::If { tests: first(Compare::Gt), body: vec![update(add)] },
            ]
        }
        _ => vec![update(if s.accumulate { add } else { Update::Set })],
    }
}
