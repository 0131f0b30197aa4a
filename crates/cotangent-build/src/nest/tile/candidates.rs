//! Candidates: takes a group, a class of machines and a budget, gives every way to tile the group with its cost. It
//! reads nothing else, and changes nothing.
//!
//! Holds after it: each candidate can be built; the order of the list is that of the enumeration, whatever the costs
//! are.

use super::super::coalesce::has_index_test;
use super::super::lanes::{Along, along};
use super::super::machine::Machine;
use super::Order;
use super::cost::{self, Work, cost, work};
use super::group::Group;
use crate::cores::Core;
use crate::index::ReduceOp;
use crate::plain::{Access, Stmt};
use std::collections::BTreeSet;

/// The most vectors beside each other along a free variable that are tried one by one; of more some.
const VECTORS: usize = 4;
/// Those of more that are tried, for machines with many registers.
const MORE_VECTORS: [usize; 4] = [6, 8, 10, 12];
/// The most vectors of a dot product: so many chains of additions hide the latency of any machine here.
const DOT_VECTORS: usize = 8;
/// How many widths are tried, the full register first: narrower ones only lose.
const WIDTHS: usize = 2;
/// The most rows of each of two variables.
const TWO_ROWS: usize = 8;
/// Registers that are no accumulators and no vectors: a scalar's copies, and one that the compiler is left with: at 16
/// of 16 it spills.
const SPARE_REGISTERS: usize = 2;
/// The most vectors of an operand that are held in registers at once.
const HELD_VECTORS: usize = 4;
/// A panel of scalars is worth it for so many rows at least, or for all.
const ROW_PANEL: usize = 16;
/// Several loops are split where they are so many times as long as one variable's would have to be: they start again in
/// each block.
const SEVERAL_LOOPS: usize = 4;
/// A block of a split reduction has at least this part of the longest that fits.
const BLOCKS: usize = 5;
/// A way to run a group of statements.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The variable along the lanes; a bound one makes it a dot product.
    pub lane: usize,
    pub width: usize,
    pub vectors: usize,
    /// The variables of the rows, and how many of each.
    pub rows: Vec<(usize, usize)>,
    /// The reads that are packed.
    pub pack: Vec<Access>,
    /// The reads of one scalar a row that are packed, and how many rows of the first variable at a time.
    pub row_pack: Vec<Access>,
    pub row_block: usize,
    /// A bound variable that is split, and the size of a block.
    pub block: Option<(usize, usize)>,
    /// On each of the machine's cores, in cycles, roughly.
    pub cycles: Vec<f64>,
    /// What it is chosen by: see [`weigh`].
    pub cost: f64,
}

/// What a build chooses of the schedules.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The most bytes of panels that a function may have on the stack.
    pub scratch: usize,
    /// The core that schedules of its class are weighed on; all cores of the class if `None`.
    pub core: Option<&'static Core>,
}

impl Default for Tuning {
    /// As much scratch as pays, every core.
    fn default() -> Self {
        Tuning { scratch: usize::MAX, core: None }
    }
}

impl Tuning {
    /// The cores of a machine that its schedules are weighed on.
    pub fn cores(&self, m: &Machine) -> Vec<&'static Core> {
        match self.core.filter(|core| m.cores.contains(core)) {
            Some(core) => vec![core],
            None => m.cores.to_vec(),
        }
    }
}

/// What panels a function may still have.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Bytes of panels that may be added.
    scratch: usize,
    /// The panels that are there, which later tiles use again: names and shapes.
    panels: Vec<(String, Vec<usize>)>,
}

/// Reads to pack, and a bound variable to split with the size of a block.
type Packing = (Vec<Access>, Option<(usize, usize)>);

impl Budget {
    pub fn new(scratch: usize) -> Self {
        Budget { scratch, panels: Vec::new() }
    }
    /// Elements of the panels that a candidate needs besides those that are there.
    fn added(&self, g: &Group, p: &Candidate) -> usize {
        let each = |a: &Access| -> usize {
            let (name, shape) = p.panel(g, a);
            if self.panels.iter().any(|(n, s)| *n == name && *s == shape) { 0 } else { shape.iter().product() }
        };
        p.packed().map(each).sum()
    }
    /// What is left when a candidate is built: each of its panels is one that it has not taken yet, or a new one.
    pub fn spend(&mut self, g: &Group, p: &Candidate) {
        let mut taken: Vec<usize> = Vec::new();
        for (name, shape) in p.packed().map(|a| p.panel(g, a)) {
            let fits = |at: &usize| {
                let (n, s) = &self.panels[*at];
                *n == name && *s == shape && !taken.contains(at)
            };
            let at = (0..self.panels.len()).find(fits).unwrap_or_else(|| {
                self.scratch = self.scratch.saturating_sub(shape.iter().product::<usize>() * g.size);
                self.panels.push((name, shape));
                self.panels.len() - 1
            });
            taken.push(at);
        }
    }
    /// Whether a candidate's panels fit, and are worth it on a machine of little memory.
    fn allows(&self, g: &Group, m: &Machine, p: &Candidate) -> bool {
        let panels = self.added(g, p) * g.size;
        let iterations = g.own.iter().fold(1usize, |n, v| n.saturating_mul(g.extent(*v)));
        panels <= self.scratch && (iterations >= m.packs_from || panels <= cost::IN_REGISTERS)
    }
}

/// Sets what candidates are chosen by, and sorts by it: how much each loses on the core where it loses most against the
/// candidate that is best there, as cycles of the machine's first core.
pub fn weigh(all: &mut [Candidate]) {
    let least = least_cycles(all);
    for p in all.iter_mut() {
        p.cost = least[0] * p.loss(&least);
    }
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
}

/// The least cycles of candidates on each core.
pub fn least_cycles(all: &[Candidate]) -> Vec<f64> {
    let cores = all.first().map_or(0, |p| p.cycles.len());
    (0..cores).map(|c| all.iter().map(|p| p.cycles[c]).fold(f64::INFINITY, f64::min)).collect()
}

/// Every candidate of a group, not yet weighed.
pub fn candidates(g: &Group, m: &'static Machine, cores: &[&Core], budget: &Budget) -> Vec<Candidate> {
    let mut out = Vec::new();
    let Some(work) = g.stmts.iter().map(|s| work(&s.value)).collect::<Option<Vec<Work>>>() else { return out };
    if !g.stmts.iter().all(|s| stands_still(g, s)) || g.stmts.iter().any(|s| has_index_test(&s.value)) {
        return out;
    }
    let e = Enumeration { g, m, cores };
    let block = (g.op == ReduceOp::Sum).then(|| e.block()).flatten();
    for lane in g.own.iter().copied() {
        let free = g.is_free(lane);
        let Some([strided, contiguous]) = e.operands(lane) else { continue };
        for width in e.widths(lane) {
            for vectors in vectors(free, g.extent(lane), width) {
                let registers = m.parts(width, g.size) * vectors;
                // Accumulators that do not fit are spilled; of one vector there are no fewer.
                if vectors > 1 && registers * g.stmts.len() + SPARE_REGISTERS > m.registers {
                    continue;
                }
                for rows in e.row_sets(lane, registers * g.stmts.len()) {
                    for (pack, block) in e.packings(lane, [&strided, &contiguous], vectors * width, block) {
                        let (rows, row_pack) = (rows.clone(), Vec::new());
                        let one = Candidate {
                            lane,
                            width,
                            vectors,
                            rows,
                            pack,
                            row_pack,
                            row_block: 0,
                            block,
                            cycles: Vec::new(),
                            cost: 0.0,
                        };
                        for mut one in e.with_row_packs(one) {
                            let runs = cost::fits(g, m, &one) && cost::unrolls(g, &one, &work);
                            if one.is_possible() && runs && budget.allows(g, m, &one) {
                                one.cycles = cores.iter().map(|core| cost(g, m, core, &one, &work)).collect();
                                out.push(one);
                            }
                        }
                    }
                }
            }
        }
    }
    out
}

/// Whether a target stands still while the reduction runs, each free variable alone in one position; what others' loops
/// run may stand beside it.
fn stands_still(g: &Group, s: &Stmt) -> bool {
    let own = |v: usize| s.vars[v].extent > 1 && !g.fixed.contains_key(&v);
    (0..s.free)
        .filter(|v| own(*v))
        .all(|v| s.target.positions.iter().filter(|p| p.numerator.coefficient(v) != 0).count() == 1)
        && s.target
            .positions
            .iter()
            .all(|p| p.numerator.terms.iter().filter(|(v, _)| own(*v)).count() <= 1 && !p.guard.any())
        && s.target.vars().all(|v| v < s.free)
}

/// How many vectors beside each other are tried.
fn vectors(free: bool, extent: usize, width: usize) -> Vec<usize> {
    let most = (extent / width).max(1) + usize::from(free && extent > width && !extent.is_multiple_of(width));
    let few = 1..=most.min(if free { VECTORS } else { DOT_VECTORS });
    few.chain(MORE_VECTORS.into_iter().filter(|v| free && *v <= most)).collect()
}

/// The least divisor of a number within a range.
fn least_divisor(number: usize, least: usize, greatest: usize) -> Option<usize> {
    let small = (1..=number.isqrt()).filter(|n| number.is_multiple_of(*n));
    small.flat_map(|n| [n, number / n]).filter(|n| (least..=greatest).contains(n)).min()
}

/// What the choices of a candidate are made of.
struct Enumeration<'a> {
    g: &'a Group<'a>,
    m: &'static Machine,
    cores: &'a [&'a Core],
}

impl Enumeration<'_> {
    /// The scalars of a full register. Without vectors lanes are single scalars, but for a dot product, whose lanes are
    /// its order of summation.
    fn full(&self, free: bool) -> usize {
        (self.m.same_order_as.filter(|_| !free).unwrap_or(self.m).bytes / self.g.size).max(1)
    }

    /// The reads that move in strides along the lanes and those that follow each other, as far as packing them may pay;
    /// `None` where lanes cannot run along the variable.
    fn operands(&self, lane: usize) -> Option<[Vec<Access>; 2]> {
        let g = self.g;
        let free = g.is_free(lane);
        let targets_fit =
            g.stmts.iter().all(|s| along(&s.target, lane) == if free { Along::Contiguous } else { Along::Still });
        let moving = g.reads.iter().filter(|a| along(a, lane) != Along::Still).count();
        if !targets_fit || moving == 0 || g.guarded_in(lane) && !(free && g.splits_lanes(lane)) {
            return None;
        }
        // Where a guard depends on the lanes, their range is split until none does; what moves in strides is not there
        // to be packed then.
        let strided: Vec<Access> = g.reads.iter().filter(|a| along(a, lane) == Along::Strided).cloned().collect();
        if !free && !strided.is_empty() || strided.iter().any(|a| a.guarded()) {
            return None;
        }
        let contiguous = |a: &&Access| along(a, lane) == Along::Contiguous && !a.guarded();
        let contiguous: Vec<Access> = g.reads.iter().filter(contiguous).cloned().collect();
        // A single scalar is read from anywhere.
        Some(if free && self.full(free) == 1 { Default::default() } else { [strided, contiguous] })
    }

    /// The widths of vectors along a variable.
    fn widths(&self, lane: usize) -> Vec<usize> {
        let (free, extent) = (self.g.is_free(lane), self.g.extent(lane));
        let mut widths: Vec<usize> =
            std::iter::successors(Some(self.full(free)), |w| (*w > 2).then_some(w / 2)).collect();
        widths.retain(|w| *w <= extent || free && *w < 2 * extent && *w > 2);
        widths.truncate(WIDTHS);
        widths
    }

    /// Which rows a tile may have beside vectors in so many registers: none, one variable's, or two variables'.
    fn row_sets(&self, lane: usize, registers: usize) -> Vec<Vec<(usize, usize)>> {
        let g = self.g;
        // One register for each vector too.
        let beside = SPARE_REGISTERS + registers.min(HELD_VECTORS);
        let most = self.m.registers.saturating_sub(beside) / registers.max(1);
        let mut out = vec![Vec::new()];
        let rows = g.own.iter().copied().filter(|v| g.is_free(*v) && *v != lane);
        let rows: Vec<usize> = rows.filter(|v| !g.guarded_in(*v) || g.splits(*v)).collect();
        // Of counts that make as many pieces, which are of nearly equal size, one.
        let counts = |v: usize, most: usize| -> BTreeSet<usize> {
            let extent = g.extent(v);
            (2..=most.min(extent)).map(|n| extent.div_ceil(extent.div_ceil(n))).filter(|n| *n > 1).collect()
        };
        for v in &rows {
            out.extend(counts(*v, most).into_iter().map(|n| vec![(*v, n)]));
            for w in rows.iter().filter(|w| *w > v) {
                for n in counts(*v, most.min(TWO_ROWS)) {
                    // Two variables are worth it to fill a tile that one does not.
                    let second = counts(*w, (most / n).min(TWO_ROWS))
                        .into_iter()
                        .filter(|m| n * m * 2 > most || n == g.extent(*v) && *m == g.extent(*w));
                    out.extend(second.map(|m| vec![(*v, n), (*w, m)]));
                }
            }
        }
        out
    }

    /// Which reads to pack, and how to split the reduction for it.
    fn packings(
        &self,
        lane: usize,
        [strided, contiguous]: [&[Access]; 2],
        lanes: usize,
        block: Option<(usize, usize)>,
    ) -> Vec<Packing> {
        let g = self.g;
        if !g.is_free(lane) {
            return vec![(Vec::new(), None)];
        }
        let mut out = Vec::new();
        let mut sets = vec![strided.to_vec()];
        if !contiguous.is_empty() {
            sets.push(strided.iter().chain(contiguous).cloned().collect());
        }
        for set in sets {
            let elements = |block: Option<(usize, usize)>| -> usize {
                let rows = |v: usize| block.filter(|(b, _)| *b == v).map_or(g.extent(v), |(_, n)| n);
                let all = |a| g.bound(a).into_iter().map(rows).fold(lanes, usize::saturating_mul);
                set.iter().map(all).max().unwrap_or(0)
            };
            let blocks = std::iter::once(None).chain(block.map(Some));
            let most = self.m.panel() / g.size;
            out.extend(blocks.filter(|b| elements(*b) <= most).map(|b| (set.clone(), b)));
        }
        out
    }

    /// A long reduction in equal blocks, if there is a divisor of a fitting size: blocks of its longest variable, or of
    /// the outermost one where only all of them together are long.
    fn block(&self) -> Option<(usize, usize)> {
        let (g, most) = (self.g, self.m.block() / self.g.size);
        let bound: Vec<usize> = g.own.iter().copied().filter(|v| !g.is_free(*v)).collect();
        let longest = bound.iter().copied().max_by_key(|v| g.extent(*v))?;
        let (v, inside) = if g.extent(longest) > most {
            (longest, 1)
        } else {
            (bound[0], bound[1..].iter().fold(1usize, |n, v| n.saturating_mul(g.extent(*v))))
        };
        let (extent, all) = (g.extent(v), g.extent(v).saturating_mul(inside));
        if all <= if inside == 1 { most } else { SEVERAL_LOOPS * most } {
            return None;
        }
        let (least, greatest) = (all.div_ceil(most).max(2), (all.saturating_mul(BLOCKS) / most).min(extent));
        least_divisor(extent, least, greatest).map(|n| (v, extent / n))
    }

    /// The candidate, and where scalars of its rows stand far apart, the one that packs them.
    fn with_row_packs(&self, one: Candidate) -> Vec<Candidate> {
        let (g, m) = (self.g, self.m);
        let Some((v, n)) = one.rows.first().copied().filter(|_| g.is_free(one.lane)) else { return vec![one] };
        let all: Vec<usize> = one.rows.iter().map(|(_, n)| *n).collect();
        let far = |a: &&Access| {
            let scalars: usize = one.rows.iter().filter(|(w, _)| a.vars().any(|u| u == *w)).map(|(_, n)| n).product();
            a.vars().any(|w| w == v)
                && along(a, one.lane) == Along::Still
                && !a.guarded()
                && self.cores.iter().any(|core| {
                    cost::misses(g, core, &one, a, scalars) > 0.0
                        || cost::rows_collide(g, core, &one, &all, a) > cost::COLLISION_WORTH_PACKING
                })
        };
        let row_pack: Vec<Access> = g.reads.iter().filter(far).cloned().collect();
        // Elements of one row of the first variable.
        let each = |a: &Access| -> usize {
            let moves = g.own.iter().copied().filter(|w| *w != v && a.vars().any(|u| u == *w));
            moves
                .filter(|w| !g.is_free(*w) || one.rows.iter().any(|(r, _)| r == w))
                .map(|w| one.rows_in(g, w))
                .product()
        };
        let Some(each) = row_pack.iter().map(each).max() else { return vec![one] };
        let (most, extent) = (m.row_panel() / g.size / each.max(1), g.extent(v));
        if most < n.max(ROW_PANEL).min(extent) {
            return vec![one];
        }
        let most_rows = most.min(extent);
        let even = (most_rows.div_ceil(2)..=most_rows).rev().find(|r| extent.is_multiple_of(*r));
        let row_block = even.unwrap_or_else(|| extent.div_ceil(extent.div_ceil(most)));
        vec![one.clone(), Candidate { row_pack, row_block, ..one }]
    }
}

impl Group<'_> {
    /// Whether a tile can run the epilogue on its accumulators: they hold whole results, in lanes that follow each
    /// other in all that it touches.
    pub fn finishes(&self, p: &Candidate) -> bool {
        self.epilogue.is_empty() || p.block.is_none() && self.finishes_along(p.lane)
    }
    /// Whether tiles with lanes along a variable can, as far as that decides it.
    pub fn finishes_along(&self, lane: usize) -> bool {
        let in_lanes = |s: &Stmt| {
            let mut fits = along(&s.target, lane) == Along::Contiguous;
            s.value.accesses(&mut |a| fits &= along(a, lane) != Along::Strided);
            fits
        };
        self.is_free(lane) && self.epilogue.iter().all(in_lanes)
    }
}

// Variables beside the statement's: of panels, and of tiles.

/// The lane within a panel.
pub fn lane_in(g: &Group) -> usize {
    g.first().vars.len()
}
/// The split variable within its block.
pub fn row_in(g: &Group) -> usize {
    lane_in(g) + 1
}
/// The number of the tile along the rows `q`.
pub fn tile_in(g: &Group, q: usize) -> usize {
    row_in(g) + 1 + 2 * q
}
/// The scalar within a tile along the rows `q`.
pub fn scalar_in(g: &Group, q: usize) -> usize {
    row_in(g) + 2 + 2 * q
}

impl Candidate {
    /// The order in which elements are summed.
    pub fn order(&self, g: &Group) -> Order {
        let name = |v: usize| g.var(v).to_string();
        match self.block {
            _ if !g.is_free(self.lane) => Order::Dot(name(self.lane), self.width, self.vectors),
            Some((v, size)) => Order::Blocks(name(v), size),
            None => Order::Loops,
        }
    }

    /// The variables of the tile.
    pub fn tile(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|(v, _)| *v).chain([self.lane])
    }

    /// Whether each element is summed in the same order.
    pub fn in_order_of(&self, other: &Candidate, g: &Group) -> bool {
        let order = |p: &Candidate| (p.lane, p.width, p.vectors);
        let free = g.is_free(other.lane);
        self.block == other.block && if free { g.is_free(self.lane) } else { order(self) == order(other) }
    }

    /// The most that it loses on a core, as a ratio to the least cycles on each.
    pub fn loss(&self, least: &[f64]) -> f64 {
        self.cycles.iter().zip(least).map(|(own, least)| own / least).fold(1.0, f64::max)
    }

    /// Whether each element is summed in the same order, in tiles that are cut by the same guards.
    pub fn adds_as(&self, other: &Candidate, g: &Group) -> bool {
        let cut = |p: &Candidate| p.tile().find(|v| g.guarded_in(*v));
        cut(self) == cut(other) && self.in_order_of(other, g)
    }

    /// The text by which an instance asks for it.
    pub fn describe(&self, g: &Group) -> String {
        let kind = if g.is_free(self.lane) { "lanes" } else { "dot" };
        let mut out = format!("{kind} {} {}x{}", g.var(self.lane), self.vectors, self.width);
        for (v, n) in &self.rows {
            out += &format!(", rows {} {n}", g.var(*v));
        }
        for a in &self.pack {
            out += &format!(", pack {}", g.tensor(a));
        }
        for a in &self.row_pack {
            out += &format!(", pack rows {} of {}", self.row_block, g.tensor(a));
        }
        if let Some((v, n)) = self.block {
            out += &format!(", block {} {n}", g.var(v));
        }
        out
    }

    /// Whether its panels can be filled: no packed read is guarded or moves with the rows.
    fn is_possible(&self) -> bool {
        let moves = |a: &Access| self.rows.iter().any(|(v, _)| a.vars().any(|w| w == *v));
        !self.pack.iter().any(|a| a.guarded() || moves(a))
    }

    pub fn is_split(&self, v: usize) -> bool {
        self.block.is_some_and(|(b, _)| b == v)
    }
    /// The extent of a bound variable, or of its block.
    pub fn rows_in(&self, g: &Group, v: usize) -> usize {
        self.block.filter(|(b, _)| *b == v).map_or(g.extent(v), |(_, n)| n)
    }
    /// Every read that is packed, scalars of rows last.
    pub fn packed(&self) -> impl Iterator<Item = &Access> {
        self.pack.iter().chain(&self.row_pack)
    }
    /// The name and the shape of the local in the place of a packed read.
    pub fn panel(&self, g: &Group, a: &Access) -> (String, Vec<usize>) {
        let name = format!("{}_{}", g.tensor(a), if self.row_pack.contains(a) { "rows" } else { "panel" });
        (name, self.panel_dims(g, a).iter().map(|(_, n)| *n).collect())
    }
    /// The dimensions of that local: variables and extents. Scalars of a tile's rows stand beside each other.
    pub fn panel_dims(&self, g: &Group, a: &Access) -> Vec<(usize, usize)> {
        let inner = g.bound(a).into_iter().map(|v| (if self.is_split(v) { row_in(g) } else { v }, self.rows_in(g, v)));
        if !self.row_pack.contains(a) {
            return inner.chain([(lane_in(g), self.vectors * self.width)]).collect();
        }
        let rows: Vec<usize> = (0..self.rows.len()).filter(|q| a.vars().any(|w| w == self.rows[*q].0)).collect();
        let tiles = rows.iter().map(|q| (tile_in(g, *q), self.tiles(g, *q)));
        let scalars = rows.iter().map(|q| (scalar_in(g, *q), self.rows[*q].1));
        tiles.chain(inner).chain(scalars).collect()
    }

    /// How many tiles a panel of scalars has along one of the variables of the rows.
    pub fn tiles(&self, g: &Group, q: usize) -> usize {
        let (v, n) = self.rows[q];
        let extent = if q == 0 && !self.row_pack.is_empty() { self.row_block } else { g.extent(v) };
        extent.div_ceil(n)
    }

    /// The bound variable along which a read is contiguous, if whole blocks of it can be transposed into a panel.
    pub fn transposed(&self, g: &Group, a: &Access) -> Option<usize> {
        let block = self.width.min(cost::TRANSPOSED_ROWS);
        g.own
            .iter()
            .copied()
            .find(|v| !g.is_free(*v) && along(a, *v) == Along::Contiguous && self.rows_in(g, *v) >= block)
    }
}
