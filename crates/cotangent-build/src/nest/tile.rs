//! Register tiles: takes reductions that run over the same variables, gives loops around a tile of accumulators that stay in registers.
//!
//! One scheme for every contraction. Lanes run along one variable: a free one, along which the targets are contiguous, or a bound one (a dot
//! product), along which reads are. Other free variables give the tile its rows. The reduction runs inside, results are stored once. Reads that
//! are not contiguous along the lanes, or whose rows collide in the cache, are packed into a panel first; so are the scalars of the rows, tile
//! by tile, where they stand far apart. Extents are split into pieces of
//! nearly equal size, the last vector moved back to end with the extent; where a guard depends on a variable of the tile, its range is split
//! so that the guard is always or never met.
//!
//! Candidates are enumerated, costed in cycles, and the cheapest is taken; of parts that guards cut off, one with less text that costs little more.

use super::coalesce::{coalesce, restrict, rewrite};
use super::epilogue;
use super::lanes::{Along, LANE, Turn, along};
use super::machine::Cache;
use super::schedule::{Map, Scheduler, bound_outside, nest};
use super::*;
use crate::plain::{self, Cond, Expr, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// So many turns of the reduction are packed for all tiles of rows before the next.
const CHUNK: usize = 16;
/// Loops of at most so many turns are unrolled by the compiler.
const UNROLLED: usize = 8;
/// Panels of at most so many bytes are kept in registers by the compiler.
const IN_REGISTERS: usize = 64;
/// Bytes of a cache line.
const LINE: usize = 64;
/// What of a statement's time shorter text may cost, over all parts that guards cut it into.
const SLACK: f64 = 0.08;
/// How often a range is cut by guards: along one variable, and what that leaves at the borders along another.
const CUTS: usize = 2;
/// So few rows hide no latency: a reduction is cut for more.
const FEW_ROWS: usize = 4;
/// How much more a tile may cost that runs an epilogue than the best without: the epilogue's own loops would cost so much.
const WITHOUT_EPILOGUE: f64 = 1.05;
/// The most segments that guards may cut a variable into.
const SEGMENTS: usize = 17;
/// The most coordinates at the borders of a bound variable that become parts of their own.
const BORDERS: usize = 16;

/// What makes the nodes of one tile: where it is, and how many rows of each variable it has.
type OfTile<'a, S> = dyn FnMut(&mut S, Map, &[usize]) -> Vec<Node> + 'a;

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

/// How a group of statements is run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The variable along the lanes; a bound one makes it a dot product.
    lane: usize,
    width: usize,
    vectors: usize,
    /// The variables of the rows, and how many of each.
    rows: Vec<(usize, usize)>,
    /// The reads that are packed.
    pack: Vec<plain::Access>,
    /// The reads of one scalar a row that are packed, and how many rows of the first variable at a time.
    row_pack: Vec<plain::Access>,
    row_block: usize,
    /// A bound variable that is split, and the size of a block.
    block: Option<(usize, usize)>,
    cost: f64,
}

/// What statements are summed in, by their numbers; several where they are so in parts.
pub type Orders = BTreeMap<usize, Vec<Order>>;

/// Reads to pack, and a bound variable to split with the size of a block.
type Packing = (Vec<plain::Access>, Option<(usize, usize)>);

/// A statement group with the loops around it.
struct Group<'a> {
    stmts: Vec<Stmt>,
    /// What is computed of each result besides.
    epilogue: Vec<Stmt>,
    op: ReduceOp,
    fixed: &'a BTreeMap<usize, usize>,
    /// Every access that is read, once.
    reads: Vec<plain::Access>,
    /// Variables with loops of their own.
    own: Vec<usize>,
    /// For each variable that a guard depends on, the segments within which it does not.
    segments: BTreeMap<usize, Segments>,
    part: Part,
}

/// What of a statement's range is left after cuts at guards.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// How often it was cut.
    cuts: usize,
    /// Of all turns.
    share: f64,
    /// Of how many parts it is one.
    of: usize,
}

/// A run of `count` pieces of `size`, the first at `first`.
#[derive(Clone, Copy, Debug)]
struct Piece {
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

impl Group<'_> {
    fn first(&self) -> &Stmt {
        &self.stmts[0]
    }
    fn extent(&self, v: usize) -> usize {
        self.first().vars[v].extent
    }
    fn is_free(&self, v: usize) -> bool {
        v < self.first().free
    }
    fn guarded_in(&self, v: usize) -> bool {
        self.segments.contains_key(&v)
    }
    /// Whether splitting a variable by its guards leaves most of it for lanes.
    fn splits_lanes(&self, v: usize) -> bool {
        let longest = self.segments[&v].longest.1;
        self.splits(v) && longest >= 4 && 2 * longest >= self.extent(v)
    }
    /// The plan to take first, the others by their cost. Of a part that guards cut off the one with the least text is taken that adds in the same
    /// order and costs the whole but little more: such parts are many, and nearly all of the text of a kernel with padding.
    fn rank(&self, plans: &mut [Plan]) {
        plans.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let Some(best) = plans.first().filter(|_| self.part.cuts > 0) else { return };
        let most = best.cost * (1.0 + SLACK / (self.part.share * self.part.of as f64));
        let near = (0..plans.len()).filter(|n| plans[*n].cost <= most && plans[*n].in_order_of(best, self));
        let least = near.min_by_key(|n| plans[*n].text(self)).expect("the best is near itself");
        plans[..=least].rotate_right(1);
    }
    /// A bound variable, and its range in parts, where rows are wanted that guards along it forbid: first the inner part, without those guards, then
    /// those before and behind one by one, where guards along the rows are met or not. The derivative by a kernel of few channels over padded images has no rows but the kernel's own extents.
    ///
    /// It depends on the statement alone, so all classes of machines have the same parts.
    fn inner_part(&self) -> Option<(usize, Vec<(usize, usize)>)> {
        let free = || self.own.iter().copied().filter(|v| self.is_free(*v));
        let clear: Vec<usize> = free().filter(|v| !self.guarded_in(*v)).map(|v| self.extent(v)).collect();
        let rows = clear.iter().product::<usize>() / clear.iter().max().copied().unwrap_or(1);
        if self.part.cuts > 0 || self.op != ReduceOp::Sum || rows >= FEW_ROWS {
            return None;
        }
        let together = |v: usize, w: usize| {
            let both = |p: &plain::Position| {
                p.guard.any() && p.numerator.coefficient(v) != 0 && p.numerator.coefficient(w) != 0
            };
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
    /// Whether a tile can run the epilogue on its accumulators: they hold whole results, in lanes that follow each other in all that it touches.
    fn finishes(&self, p: &Plan) -> bool {
        let in_lanes = |s: &Stmt| {
            let mut fits = along(&s.target, p.lane) == Along::Contiguous;
            s.value.accesses(&mut |a| fits &= along(a, p.lane) != Along::Strided);
            fits
        };
        self.epilogue.is_empty() || self.is_free(p.lane) && p.block.is_none() && self.epilogue.iter().all(in_lanes)
    }
    /// Whether splitting a variable by its guards leaves something to tile.
    fn splits(&self, v: usize) -> bool {
        let segments = &self.segments[&v];
        self.part.cuts < CUTS && segments.all.len() > 1 && segments.longest.1 > 1
    }
}

/// A range of a variable cut by guards.
#[derive(Debug, Default)]
struct Segments {
    /// First coordinates and extents; none where they are more than [`SEGMENTS`].
    all: Vec<(usize, usize)>,
    longest: (usize, usize),
}

/// What a guard is at one value of a variable.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Segment {
    Met,
    Never,
    /// It depends on other variables, and so does each value from the others.
    Alone,
}

/// The coordinates `at` for which `constant + step * at` is at least `end`: from the first on, or before it where the step is negative.
fn crossing(constant: i64, step: i64, end: i64) -> i64 {
    let gap = end - constant;
    if step > 0 { -(-gap).div_euclid(step) } else { gap.div_euclid(step) + 1 }
}

/// Arithmetic of one term: multiply-adds, other operations, calls of functions; `None` where a lane's value decides what is read.
#[derive(Clone, Copy, Default)]
struct Work {
    fused: usize,
    plain: usize,
    calls: usize,
}

fn work(e: &Expr) -> Option<Work> {
    fn inside(e: &Expr, w: &mut Work) -> bool {
        match e {
            Expr::Const(_) | Expr::Read(_) => true,
            Expr::Unary(Unary::Neg, a) => {
                w.plain += 1;
                inside(a, w)
            }
            Expr::Powf(a, n) if *n == 2.0 => {
                w.plain += 1;
                inside(a, w)
            }
            Expr::Unary(_, a) | Expr::Powf(a, _) => {
                w.calls += 1;
                inside(a, w)
            }
            Expr::Binary(op, a, b) => {
                match op {
                    Binary::Add | Binary::Sub | Binary::Mul => w.plain += 1,
                    Binary::Max | Binary::Min => w.plain += 3,
                    Binary::Div => w.plain += 8,
                    _ => w.calls += 1,
                }
                inside(a, w) && inside(b, w)
            }
            // Both sides are computed, and the comparison.
            Expr::Where(c, a, b) => {
                let mut guarded = false;
                e.accesses(&mut |a| guarded |= a.guarded());
                !guarded && epilogue::cheap(e) && condition(c, w) && inside(a, w) && inside(b, w)
            }
        }
    }
    fn condition(c: &Cond, w: &mut Work) -> bool {
        match c {
            Cond::Const(_) => true,
            Cond::Value(_, a, b) => {
                w.plain += 2;
                inside(a, w) && inside(b, w)
            }
            Cond::And(a, b) | Cond::Or(a, b) => condition(a, w) && condition(b, w),
            Cond::Not(a) => condition(a, w),
            Cond::Index(..) | Cond::Inside(_) => false,
        }
    }
    fn term(e: &Expr, w: &mut Work) -> bool {
        match e {
            Expr::Binary(Binary::Add, a, b) => term(a, w) && term(b, w),
            Expr::Binary(Binary::Mul, a, b) => {
                w.fused += 1;
                inside(a, w) && inside(b, w)
            }
            Expr::Powf(a, n) if *n == 2.0 => {
                w.fused += 1;
                inside(a, w)
            }
            e => {
                w.plain += 1;
                inside(e, w)
            }
        }
    }
    let mut w = Work::default();
    term(e, &mut w).then_some(w)
}

/// The least divisor of a number within a range.
fn least_divisor(number: usize, least: usize, greatest: usize) -> Option<usize> {
    let small = (1..=number.isqrt()).filter(|n| number.is_multiple_of(*n));
    small.flat_map(|n| [n, number / n]).filter(|n| (least..=greatest).contains(n)).min()
}

/// How many of the sets of a cache rows so many bytes apart fall into.
fn sets_apart(step: usize, sets: usize) -> usize {
    let apart = (step / LINE).max(1);
    let gcd = std::iter::successors(Some((sets, apart)), |(a, b)| (*b > 0).then(|| (*b, a % b))).last();
    sets / gcd.map_or(1, |(gcd, _)| gcd)
}

impl Scheduler<'_> {
    /// A reduction, or several over the same variables, none of which reads what another writes.
    /// `epilogue` is what its tiles run on their accumulators besides.
    pub(super) fn reduction(&mut self, stmts: &[Stmt], epilogue: &[Stmt], fixed: &BTreeMap<usize, usize>) -> Vec<Node> {
        self.region(stmts, epilogue, fixed, Part { cuts: 0, share: 1.0, of: 1 })
    }

    fn region(&mut self, stmts: &[Stmt], epilogue: &[Stmt], fixed: &BTreeMap<usize, usize>, part: Part) -> Vec<Node> {
        let mut joined = [stmts, epilogue].concat();
        coalesce(&mut self.space, &mut joined, &fixed.keys().copied().collect::<BTreeSet<_>>());
        let epilogue = joined.split_off(stmts.len());
        let mut group = self.group(joined, fixed, part);
        group.epilogue = epilogue;
        let asked = stmts.iter().any(|s| self.demands.contains_key(&s.number));
        if let Some((v, parts)) = group.inner_part().filter(|_| !asked) {
            // Each part adds to what the others left.
            self.missed |= !group.epilogue.is_empty();
            let before = std::mem::take(&mut self.orders);
            let mut of_parts: Vec<(usize, usize, Orders)> = Vec::new();
            let name = group.first().vars[v].name.clone();
            let mut out = Vec::new();
            let of = part.of * parts.len();
            for (n, (from, extent)) in parts.into_iter().enumerate() {
                let mut stmts: Vec<Stmt> =
                    group.stmts.iter().map(|s| restrict(&self.space.kernel, s, v, from, extent)).collect();
                stmts.iter_mut().for_each(|s| s.accumulate |= n > 0);
                let share = part.share * extent as f64 / group.extent(v) as f64;
                out.extend(self.region(&stmts, &[], fixed, Part { cuts: part.cuts + 1, share, of }));
                of_parts.push((from, extent, std::mem::take(&mut self.orders)));
            }
            self.orders = before;
            for s in stmts {
                // Parts that differ along free variables are not told apart here: the first stands for all.
                let order = |(from, extent, orders): &(usize, usize, Orders)| {
                    Some((*from, *extent, orders.get(&s.number)?[0].clone()))
                };
                self.record(s, Order::Parts(name.clone(), of_parts.iter().filter_map(order).collect()));
            }
            return out;
        }
        let Some(plan) = self.best(&group) else {
            self.missed |= !group.epilogue.is_empty();
            return match stmts {
                [one] => {
                    self.record(one, Order::Loops);
                    // Each term waits for the one before.
                    self.cycles +=
                        group.own.iter().map(|v| group.extent(*v) as f64).product::<f64>() * self.machine.latency;
                    self.scalar(one, group.op, fixed)
                }
                several => {
                    several.iter().flat_map(|s| self.region(std::slice::from_ref(s), &[], fixed, part)).collect()
                }
            };
        };
        let Some(v) = plan.tile().find(|v| group.guarded_in(*v)) else {
            stmts.iter().for_each(|s| self.record(s, plan.order(&group)));
            self.cycles += plan.cost;
            if !group.epilogue.is_empty() {
                self.finished.extend(stmts.iter().map(|s| s.number));
            }
            return self.tile(&group, &plan);
        };
        // Each segment is a problem of its own: at a border another tile may fit better.
        let mut out = Vec::new();
        for (from, extent) in &group.segments[&v].all {
            let [stmts, epilogue]: [Vec<Stmt>; 2] = [&group.stmts, &group.epilogue]
                .map(|all| all.iter().map(|s| restrict(&self.space.kernel, s, v, *from, *extent)).collect());
            let share = part.share * *extent as f64 / group.extent(v) as f64;
            let of = part.of * group.segments[&v].all.len();
            out.extend(self.region(&stmts, &epilogue, fixed, Part { cuts: part.cuts + 1, share, of }));
        }
        out
    }

    /// Notes the order of a sum; extrema are the same in any.
    fn record(&mut self, s: &Stmt, order: Order) {
        if !matches!(s.reduce, Some(ReduceOp::Sum | ReduceOp::Prod)) {
            return;
        }
        let own = self.orders.entry(s.number).or_default();
        if !own.contains(&order) {
            own.push(order);
        }
    }

    fn group<'a>(&self, stmts: Vec<Stmt>, fixed: &'a BTreeMap<usize, usize>, part: Part) -> Group<'a> {
        let mut reads: Vec<plain::Access> = Vec::new();
        for s in &stmts {
            s.value.accesses(&mut |a| {
                if !reads.contains(a) {
                    reads.push(a.clone());
                }
            });
        }
        let vars = 0..stmts[0].vars.len();
        let own: Vec<usize> = vars.filter(|v| stmts[0].vars[*v].extent > 1 && !fixed.contains_key(v)).collect();
        let op = stmts[0].reduce.expect("a reduction");
        let mut g = Group { stmts, epilogue: Vec::new(), op, fixed, reads, own, segments: BTreeMap::new(), part };
        let guarded = |v: &usize| {
            g.reads.iter().any(|a| a.positions.iter().any(|p| p.guard.any() && p.numerator.coefficient(*v) != 0))
        };
        let guarded: Vec<usize> = g.own.iter().copied().filter(guarded).collect();
        g.segments = guarded.into_iter().map(|v| (v, self.segments(&g, v))).collect();
        g
    }

    /// The ranges of a variable within which every guard that depends on it is always met, or the variable stands still.
    fn segments(&self, g: &Group, v: usize) -> Segments {
        // The least and the greatest value of each guarded position at the coordinate 0, its step, and what it may be.
        let mut guards: Vec<(i64, i64, i64, i64, bool)> = Vec::new();
        for a in &g.reads {
            for (p, size) in a.positions.iter().zip(&self.space.kernel.tensor(a.tensor).shape) {
                let c = p.numerator.coefficient(v);
                if p.guard.any() && c != 0 {
                    let (lo, hi) = p.numerator.range(&|w| if w == v { 1 } else { g.extent(w) });
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
        let extent = g.extent(v);
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

    // ---- candidates ----

    /// The plan to take, if there is any; of a class that keeps another's order of summation, one that adds as that other's.
    fn best(&mut self, g: &Group) -> Option<Plan> {
        let like = self.model.as_mut().map(|model| model.next().expect("the same groups for both classes"));
        let plan = match like {
            Some(None) => None,
            like => self.ranked(g, like.flatten().as_ref()),
        };
        self.chosen.push(plan.clone());
        plan
    }

    fn ranked(&mut self, g: &Group, like: Option<&Plan>) -> Option<Plan> {
        let size = self.size();
        self.taken.clear();
        let mut plans = self.plans(g, size);
        if let Some(like) = like {
            let same = |p: &Plan| p.adds_as(like, g);
            plans.retain(same);
            if let Some(model) = self.machine.keeps.filter(|_| plans.is_empty()) {
                // A tile of its own does not add so.
                let own = std::mem::replace(&mut self.machine, model);
                plans.extend(self.plans(g, size).into_iter().filter(same));
                self.machine = own;
            }
        } else {
            for s in &g.stmts {
                if let Some(demand) = self.demands.get(&s.number) {
                    plans.retain(|p| p.order(g) == *demand);
                    continue;
                }
                if g.stmts.len() == 1 {
                    continue;
                }
                // What runs beside others is best summed in the same order as alone, as it is in the functions where it stands alone.
                let alone = self.group(vec![s.clone()], g.fixed, g.part);
                let mut own = self.plans(&alone, size);
                alone.rank(&mut own);
                let like = own.into_iter().next()?;
                plans.retain(|p| p.in_order_of(&like, g));
            }
        }
        let least = |plans: &[Plan]| plans.iter().map(|p| p.cost).fold(f64::INFINITY, f64::min);
        let alone = least(&plans);
        plans.retain(|p| g.finishes(p));
        self.missed |= least(&plans) > WITHOUT_EPILOGUE * alone;
        g.rank(&mut plans);
        let asked = self.source.schedule.get(&self.nest.name);
        if let Some(at) = asked.and_then(|text| plans.iter().position(|p| self.describe(g, p) == *text)) {
            let plan = plans.remove(at);
            plans.insert(0, plan);
            self.as_asked = true;
        }
        // Beside the chosen one the best of other kinds: those that differ in rows only say little.
        let kind = |p: &Plan| (p.lane, p.width, p.vectors, p.pack.len(), p.row_pack.len(), p.block);
        let mut told: Vec<&Plan> = Vec::new();
        for p in &plans {
            if told.len() < 4 && told.iter().all(|q| kind(q) != kind(p)) {
                told.push(p);
            }
        }
        for (n, p) in told.into_iter().enumerate() {
            let verdict = if n == 0 { "chosen:" } else { "  next:" };
            self.nest.notes.push(format!("{verdict} {}: {:.0} cycles", self.describe(g, p), p.cost));
        }
        plans.into_iter().next()
    }

    fn describe(&self, g: &Group, p: &Plan) -> String {
        let name = |v: usize| &g.first().vars[v].name;
        let kind = if g.is_free(p.lane) { "lanes" } else { "dot" };
        let mut out = format!("{kind} {} {}x{}", name(p.lane), p.vectors, p.width);
        for (v, n) in &p.rows {
            out += &format!(", rows {} {n}", name(*v));
        }
        for a in &p.pack {
            out += &format!(", pack {}", self.space.kernel.tensor(a.tensor).name);
        }
        for a in &p.row_pack {
            out += &format!(", pack rows {} of {}", p.row_block, self.space.kernel.tensor(a.tensor).name);
        }
        if let Some((v, n)) = p.block {
            out += &format!(", block {} {n}", name(v));
        }
        out
    }

    fn plans(&self, g: &Group, size: usize) -> Vec<Plan> {
        let mut out = Vec::new();
        let Some(work) = g.stmts.iter().map(|s| work(&s.value)).collect::<Option<Vec<Work>>>() else { return out };
        // Targets that stand still while the reduction runs, each free variable alone in one position.
        let plain = |s: &Stmt| {
            (0..s.free)
                .filter(|v| s.vars[*v].extent > 1 && !g.fixed.contains_key(v))
                .all(|v| s.target.positions.iter().filter(|p| p.numerator.coefficient(v) != 0).count() == 1)
                && s.target.positions.iter().all(|p| {
                    p.numerator.terms.iter().filter(|(v, _)| s.vars[*v].extent > 1).count() <= 1 && !p.guard.any()
                })
                && s.target.vars().all(|v| v < s.free)
        };
        if !g.stmts.iter().all(plain) || g.stmts.iter().any(|s| super::coalesce::has_index_test(&s.value)) {
            return out;
        }
        // Without vectors lanes are single scalars, but for a dot product, whose lanes are its order of summation.
        let full = |free: bool| (self.machine.keeps.filter(|_| !free).unwrap_or(self.machine).bytes / size).max(1);
        let block = Some(g).filter(|g| g.op == ReduceOp::Sum).and_then(|g| self.block(g, self.machine.block() / size));
        let own = g.own.clone();
        for lane in own.iter().copied() {
            let free = g.is_free(lane);
            let targets_fit =
                g.stmts.iter().all(|s| along(&s.target, lane) == if free { Along::Contiguous } else { Along::Still });
            let guarded = g.guarded_in(lane);
            let reads = &g.reads;
            let moving = reads.iter().filter(|a| along(a, lane) != Along::Still).count();
            if !targets_fit || moving == 0 || guarded && !(free && g.splits_lanes(lane)) {
                continue;
            }
            // Where a guard depends on the lanes, their range is split until none does; what moves in strides is not there to be packed then.
            let strided: Vec<plain::Access> =
                reads.iter().filter(|a| along(a, lane) == Along::Strided).map(|a| (*a).clone()).collect();
            if !free && !strided.is_empty() || strided.iter().any(|a| a.guarded()) {
                continue;
            }
            let contiguous: Vec<plain::Access> = reads
                .iter()
                .filter(|a| along(a, lane) == Along::Contiguous && !a.guarded())
                .map(|a| (*a).clone())
                .collect();
            // A single scalar is read from anywhere.
            let (strided, contiguous) =
                if free && full(free) == 1 { Default::default() } else { (strided, contiguous) };
            let extent = g.extent(lane);
            let mut widths: Vec<usize> =
                std::iter::successors(Some(full(free)), |w| (*w > 2).then_some(w / 2)).collect();
            widths.retain(|w| *w <= extent || free && *w < 2 * extent && *w > 2);
            // Narrower ones only lose.
            widths.truncate(2);
            for width in widths {
                let most =
                    (extent / width).max(1) + usize::from(free && extent > width && !extent.is_multiple_of(width));
                for vectors in (1..=most.min(if free { 4 } else { 8 }))
                    .chain([6, 8, 10, 12].into_iter().filter(|v| free && *v <= most))
                {
                    let registers = self.machine.parts(width, size) * vectors;
                    for rows in self.row_sets(g, lane, registers * g.stmts.len(), &own) {
                        for (pack, block) in
                            self.packings(g, lane, [&strided, &contiguous], vectors * width, size, block)
                        {
                            let row_pack = Vec::new();
                            let rows = rows.clone();
                            let plan =
                                Plan { lane, width, vectors, rows, pack, row_pack, row_block: 0, block, cost: 0.0 };
                            for mut plan in self.with_row_packs(g, plan, size) {
                                if let Some(cost) = self.cost(g, &plan, &work, size) {
                                    plan.cost = cost;
                                    out.push(plan);
                                }
                            }
                        }
                    }
                }
            }
        }
        out
    }

    /// Which rows a tile may have beside so many vectors: none, one variable's, or two variables'.
    fn row_sets(&self, g: &Group, lane: usize, vectors: usize, own: &[usize]) -> Vec<Vec<(usize, usize)>> {
        // One register for a scalar's copies, one for each vector, one that the compiler is left with: at 16 of 16 it spills.
        let most = self.machine.registers.saturating_sub(2 + vectors.min(4)) / vectors.max(1);
        let mut out = vec![Vec::new()];
        let rows: Vec<usize> = own.iter().copied().filter(|v| g.is_free(*v) && *v != lane).collect();
        let rows: Vec<usize> = rows.into_iter().filter(|v| !g.guarded_in(*v) || g.splits(*v)).collect();
        // Of counts that make as many pieces, which are of nearly equal size, one.
        let counts = |v: usize, most: usize| -> BTreeSet<usize> {
            let extent = g.extent(v);
            (2..=most.min(extent)).map(|n| extent.div_ceil(extent.div_ceil(n))).filter(|n| *n > 1).collect()
        };
        for v in &rows {
            out.extend(counts(*v, most).into_iter().map(|n| vec![(*v, n)]));
            for w in rows.iter().filter(|w| *w > v) {
                for n in counts(*v, most.min(8)) {
                    // Two variables are worth it to fill a tile that one does not.
                    let second = counts(*w, (most / n).min(8))
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
        g: &Group,
        lane: usize,
        [strided, contiguous]: [&[plain::Access]; 2],
        lanes: usize,
        size: usize,
        block: Option<(usize, usize)>,
    ) -> Vec<Packing> {
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
                let all = |a| bound(g, a).into_iter().map(rows).fold(lanes, usize::saturating_mul);
                set.iter().map(all).max().unwrap_or(0)
            };
            let blocks = std::iter::once(None).chain(block.map(Some));
            let most = self.machine.panel() / size;
            out.extend(blocks.filter(|b| elements(*b) <= most).map(|b| (set.clone(), b)));
        }
        out
    }

    /// A long reduction in equal blocks, if there is a divisor of a fitting size: blocks of its longest variable, or of the outermost one where
    /// only all of them together are long.
    fn block(&self, g: &Group, most: usize) -> Option<(usize, usize)> {
        let bound: Vec<usize> = g.own.iter().copied().filter(|v| !g.is_free(*v)).collect();
        let longest = bound.iter().copied().max_by_key(|v| g.extent(*v))?;
        let (v, turns) = if g.extent(longest) > most {
            (longest, 1)
        } else {
            (bound[0], bound[1..].iter().fold(1usize, |n, v| n.saturating_mul(g.extent(*v))))
        };
        let (extent, all) = (g.extent(v), g.extent(v).saturating_mul(turns));
        // Loops of several variables start again and again: blocks of them pay where all is far beyond the cache.
        if all <= if turns == 1 { most } else { 4 * most } {
            return None;
        }
        let (least, greatest) = (all.div_ceil(most).max(2), (all.saturating_mul(5) / most).min(extent));
        least_divisor(extent, least, greatest).map(|n| (v, extent / n))
    }

    /// The plan, and where scalars of its rows stand far apart, the plan that packs them.
    fn with_row_packs(&self, g: &Group, plan: Plan, size: usize) -> Vec<Plan> {
        let Some((v, n)) = plan.rows.first().copied().filter(|_| g.is_free(plan.lane)) else { return vec![plan] };
        let all: Vec<usize> = plan.rows.iter().map(|(_, n)| *n).collect();
        let far = |a: &&plain::Access| {
            let scalars: usize = plan.rows.iter().filter(|(w, _)| a.vars().any(|u| u == *w)).map(|(_, n)| n).product();
            a.vars().any(|w| w == v)
                && along(a, plan.lane) == Along::Still
                && !a.guarded()
                && (self.misses(g, &plan, a, scalars, size) > 0.0 || self.rows_collide(&plan, &all, a, size) > 0.5)
        };
        let row_pack: Vec<plain::Access> = g.reads.iter().filter(far).cloned().collect();
        // Elements of one row of the first variable.
        let each = |a: &plain::Access| -> usize {
            let moves = g.own.iter().copied().filter(|w| *w != v && a.vars().any(|u| u == *w));
            moves
                .filter(|w| !g.is_free(*w) || plan.rows.iter().any(|(r, _)| r == w))
                .map(|w| plan.rows_in(g, w))
                .product()
        };
        let Some(each) = row_pack.iter().map(each).max() else { return vec![plan] };
        let (most, extent) = (self.machine.row_panel() / size / each.max(1), g.extent(v));
        if most < n.max(16).min(extent) {
            return vec![plan];
        }
        let most_rows = most.min(extent);
        let even = (most_rows.div_ceil(2)..=most_rows).rev().find(|r| extent.is_multiple_of(*r));
        let row_block = even.unwrap_or_else(|| extent.div_ceil(extent.div_ceil(most)));
        vec![plan.clone(), Plan { row_pack, row_block, ..plan }]
    }

    /// Cycles, roughly; `None` for what cannot be.
    fn cost(&self, g: &Group, p: &Plan, work: &[Work], size: usize) -> Option<f64> {
        let m = self.machine;
        let free = g.is_free(p.lane);
        let unit = if p.width * size > 32 { m.full } else { 0.5 };
        let parts = m.parts(p.width, size) as f64;
        let tile: Vec<usize> = p.rows.iter().map(|(v, _)| *v).collect();
        let moves = |all: &[plain::Access], v: usize| all.iter().any(|a| a.vars().any(|w| w == v));
        let packed_moves = |v: usize| moves(&p.pack, v) || moves(&p.row_pack, v);
        if p.pack.iter().any(|a| a.guarded()) || tile.iter().any(|v| moves(&p.pack, *v)) {
            return None;
        }
        let panels = p.pack.iter().chain(&p.row_pack).map(|a| -> usize {
            let shape: Vec<usize> = p.panel_dims(g, a).iter().map(|(_, n)| *n).collect();
            if self.left(&self.panel_name(p, a), &shape).is_some() { 0 } else { shape.iter().product() }
        });
        let panels = panels.sum::<usize>() * size;
        if panels > self.scratch {
            return None;
        }
        let turns = g.own.iter().fold(1usize, |n, v| n.saturating_mul(g.extent(*v)));
        if turns < m.packs_from && panels > IN_REGISTERS {
            return None;
        }
        let extent = g.extent(p.lane);
        let bound: f64 =
            g.own.iter().copied().filter(|v| !g.is_free(*v) && *v != p.lane).map(|v| g.extent(v) as f64).product();
        let others: f64 = g
            .own
            .iter()
            .copied()
            .filter(|v| g.is_free(*v) && *v != p.lane && !tile.contains(v))
            .map(|v| g.extent(v) as f64)
            .product();
        let blocks = p.block.map_or(1.0, |(v, n)| (g.extent(v) / n) as f64);
        // Loops of the reduction: the innermost one's turns, and how often it starts.
        let inner = g.own.iter().copied().rfind(|v| !g.is_free(*v) && *v != p.lane).map_or(1.0, |v| g.extent(v) as f64);
        let starts = bound / inner;
        let (fused, plain, calls) = work.iter().fold((0, 0, 0), |(f, q, c), w| (f + w.fused, q + w.plain, c + w.calls));
        let chain = work.iter().map(|w| w.fused + w.plain.min(1)).max().unwrap_or(1) as f64;
        let body = |rows: &[usize], vectors: f64, accs: f64| -> f64 {
            let of = |a: &plain::Access| -> f64 {
                p.rows
                    .iter()
                    .zip(rows)
                    .filter(|((v, _), _)| a.vars().any(|w| w == *v))
                    .map(|(_, n)| *n as f64)
                    .product()
            };
            let (mut load, mut uops, mut missing) = (0.0, 3.0, 0.0);
            for a in &g.reads {
                match along(a, p.lane) {
                    Along::Still => {
                        let misses = self.misses(g, p, a, of(a) as usize, size);
                        let collide = if p.row_pack.contains(a) { 0.0 } else { self.rows_collide(p, rows, a, size) };
                        let kept =
                            accs + of(a) + self.slides(g, p, a).map_or(0.0, |turns| turns as f64 - 1.0) + vectors;
                        let spilled = self.slides(g, p, a).is_some() && kept > m.registers as f64;
                        load += of(a) * (0.5 + collide + f64::from(spilled)) + misses;
                        missing += misses;
                        uops += of(a);
                    }
                    _ => {
                        let lines = vectors * of(a) * parts;
                        let misses = self.misses(g, p, a, p.vectors * p.width, size);
                        load += lines * unit + misses;
                        missing += misses;
                        uops += lines;
                    }
                }
            }
            let arithmetic = accs * parts / g.stmts.len() as f64 * (fused as f64 + plain as f64 + 10.0 * calls as f64);
            uops += arithmetic;
            // Lines from further away are waited for now and then, however much there is to do.
            (arithmetic * unit).max(load).max(uops / m.issue).max(chain * m.latency) + 0.1 * missing
        };
        let stores = |accs: f64| {
            let accumulate = g.stmts.iter().any(|s| s.accumulate) || p.block.is_some();
            let fold = if free { 0.0 } else { (p.width as f64).log2() * 2.0 + 2.0 };
            accs * (0.25 + if free { if accumulate { 1.5 } else { 1.0 } } else { 1.5 } + fold)
        };
        // Every combination of piece sizes.
        let mut total = 0.0;
        let row_pieces: Vec<Vec<Piece>> = p.rows.iter().map(|(v, n)| pieces(g.extent(*v), *n)).collect();
        let combos = row_pieces.iter().fold(vec![(1.0, Vec::new())], |all, pieces| {
            all.into_iter()
                .flat_map(|(count, sizes)| {
                    pieces
                        .iter()
                        .map(move |x| (count * x.count as f64, [sizes.clone(), vec![x.size]].concat()))
                        .collect::<Vec<_>>()
                })
                .collect()
        });
        for (count, sizes) in combos {
            let rows = sizes.iter().product::<usize>() as f64;
            let stmts = g.stmts.len() as f64;
            let each = if free {
                let vectors = extent.div_ceil(p.width);
                pieces(vectors, p.vectors)
                    .iter()
                    .map(|piece| {
                        let accs = rows * piece.size as f64 * stmts;
                        let partial = if extent.is_multiple_of(p.width) { 0.0 } else { 3.0 * rows };
                        piece.count as f64
                            * (bound * body(&sizes, piece.size as f64, accs)
                                + blocks * (stores(accs) + 10.0)
                                + starts * 4.0
                                + partial)
                    })
                    .sum::<f64>()
            } else {
                let groups = extent / p.width / p.vectors;
                let rest = extent / p.width % p.vectors;
                let tail = extent % p.width;
                let accs = rows * p.vectors as f64 * stmts;
                let last = if rest == 0 { 0.0 } else { body(&sizes, rest as f64, rows * rest as f64 * stmts) };
                bound * (groups as f64 * body(&sizes, p.vectors as f64, accs) + last + tail as f64 * rows * 4.0 + 4.0)
                    + stores(rows * stmts)
                    + accs * 2.0
                    + 10.0
            };
            total += count * each;
        }
        // Every segment is text of its own, and borders run worse than this says.
        let segments: usize =
            tile.iter().chain([&p.lane]).filter(|v| g.guarded_in(**v)).map(|v| g.segments[v].all.len()).product();
        total *= others * (1.0 + 0.004 * (segments - 1) as f64);
        // Packing: elements moved, by blocks where a bound variable is contiguous.
        let product = |of: &dyn Fn(usize) -> bool| -> f64 {
            g.own.iter().copied().filter(|v| *v != p.lane && of(*v)).map(|v| g.extent(v) as f64).product()
        };
        let in_access = |a: &plain::Access, v: usize| a.vars().any(|w| w == v);
        // Filled again for what other panels depend on.
        let again =
            |a: &plain::Access| product(&|v| g.is_free(v) && packed_moves(v) && !in_access(a, v) && !tile.contains(&v));
        let row_blocks = if p.row_pack.is_empty() { 1 } else { g.extent(tile[0]).div_ceil(p.row_block) };
        for a in &p.row_pack {
            let contiguous = p.rows.iter().any(|(v, _)| along(a, *v) == Along::Contiguous);
            total += product(&|v| in_access(a, v)) * again(a) * if contiguous { 0.6 } else { 1.2 };
        }
        for a in &p.pack {
            let vectors = extent.div_ceil(p.width) * p.width;
            let dims = product(&|v| in_access(a, v));
            let outer = again(a) * row_blocks as f64;
            let each = match along(a, p.lane) {
                Along::Contiguous => 1.5 / p.width as f64,
                _ if self.turned(g, p, a).is_some() => 4.0 / p.width.min(8) as f64,
                _ => 1.5,
            };
            // Tiles wait for the first panel; the others are filled while tiles run.
            total += vectors as f64 * dims * outer * each + 0.05 * (p.vectors * p.width) as f64 * dims;
        }
        Some(total)
    }

    /// Cycles that the lines of `elements` beside each other cost beyond loads from the first-level cache, as each tile reads them again.
    fn misses(&self, g: &Group, p: &Plan, a: &plain::Access, elements: usize, size: usize) -> f64 {
        if !g.is_free(p.lane) {
            return 0.0;
        }
        let lanes = (elements * size).div_ceil(LINE).max(1);
        let over = bound(g, a);
        let count: usize = over.iter().map(|v| p.rows_in(g, *v)).product();
        let together = p.row_pack.contains(a);
        let step = over.iter().map(|v| self.stride(a, *v, size)).filter(|s| *s > 0).min().unwrap_or(size);
        let step = if together { elements * size } else { step };
        // Rows of scalars start anywhere in a line.
        let still = !together && along(a, p.lane) == Along::Still;
        let touched = if still { (elements * size + LINE - size) as f64 / LINE as f64 } else { lanes as f64 };
        let lines = if step < LINE { (count * step).div_ceil(LINE) * lanes } else { count * lanes };
        let cost = |Cache { bytes, ways, cycles }: &Cache| {
            let holds = if together || p.pack.contains(a) || step <= LINE {
                bytes / LINE
            } else {
                // Each row has so many lines beside each other; those of one column fall into few sets.
                let sets = (bytes / ways / LINE).max(1);
                let apart = sets_apart(step, sets);
                apart * ways * lanes.min(sets / apart)
            };
            if lines * 4 > holds * 3 { touched * cycles } else { 0.0 }
        };
        // A line that lasts for several turns is fetched once in them.
        let turns = (LINE / step.min(LINE)) as f64;
        self.machine.caches.iter().map(cost).sum::<f64>() / turns
    }

    /// The turns of the innermost loop, if they are so few that the compiler unrolls them and the scalars of a tile's rows move along with them:
    /// then it keeps those that several turns share in registers, and spills accumulators for it.
    fn slides(&self, g: &Group, p: &Plan, a: &plain::Access) -> Option<usize> {
        let v = g.own.iter().copied().rfind(|v| !g.is_free(*v) && *v != p.lane).filter(|v| g.extent(*v) <= UNROLLED)?;
        let moves = |q: &plain::Position, v: usize| q.numerator.coefficient(v) != 0;
        let shared = |q: &plain::Position| moves(q, v) && p.rows.iter().any(|(r, _)| moves(q, *r));
        a.positions.iter().any(shared).then(|| g.extent(v))
    }

    /// Bytes between the elements of a read at two values of a variable.
    fn stride(&self, a: &plain::Access, v: usize, size: usize) -> usize {
        let shape = &self.space.kernel.tensor(a.tensor).shape;
        let (mut step, mut unit) = (0, size);
        for (p, n) in a.positions.iter().zip(shape).rev() {
            step += p.numerator.coefficient(v).unsigned_abs() as usize * unit;
            unit *= n;
        }
        step
    }

    /// Cycles that a scalar of each row costs beyond its load, where the rows' lines push each other out of the cache before they are used up.
    fn rows_collide(&self, p: &Plan, rows: &[usize], a: &plain::Access, size: usize) -> f64 {
        let Cache { bytes, ways, .. } = self.machine.caches[0];
        let sets = (bytes / ways / LINE).max(1);
        let moved: Vec<(usize, usize)> = p
            .rows
            .iter()
            .zip(rows)
            .map(|((v, _), n)| (self.stride(a, *v, size), *n))
            .filter(|(step, n)| *step >= LINE && *n > 1)
            .collect();
        let lines: usize = moved.iter().map(|(_, n)| n).product();
        let room = moved.iter().map(|(step, n)| sets_apart(*step, sets).min(*n)).product::<usize>() * ways;
        // Half of the room is others'. Many streams are more than the prefetchers follow.
        let pushed = if moved.iter().any(|(_, n)| *n > 1) && lines * 2 > room { 1.0 } else { 0.0 };
        pushed + 0.002 * lines as f64
    }

    /// The bound variable along which a read is contiguous, if whole blocks of it can be turned.
    fn turned(&self, g: &Group, p: &Plan, a: &plain::Access) -> Option<usize> {
        g.own
            .iter()
            .copied()
            .find(|v| !g.is_free(*v) && along(a, *v) == Along::Contiguous && p.rows_in(g, *v) >= p.width.min(8))
    }

    // ---- the nest of a plan ----

    fn tile(&mut self, g: &Group, p: &Plan) -> Vec<Node> {
        let mut map = self.fixed_map(g.first(), g.fixed);
        let mut stmts = g.stmts.clone();
        self.taken.clear();
        let panels: Vec<Panel> = p.pack.iter().map(|a| self.panel(g, p, a)).collect();
        let row_panels: Vec<Panel> = p.row_pack.iter().map(|a| self.panel(g, p, a)).collect();
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

    /// The local in the place of a packed read; one that a tile before has left is used again.
    fn panel(&mut self, g: &Group, p: &Plan, a: &plain::Access) -> Panel {
        let dims = p.panel_dims(g, a);
        let shape: Vec<usize> = dims.iter().map(|(_, n)| *n).collect();
        let name = self.panel_name(p, a);
        let tensor = match self.left(&name, &shape) {
            Some(tensor) => tensor,
            None => {
                let tensor = self.space.add(name.clone(), shape.clone());
                self.scratch -= shape.iter().product::<usize>() * self.size();
                self.nest.locals.push(Local { tensor, name, shape });
                tensor
            }
        };
        self.taken.push(tensor);
        let plain = |v| plain::Position { numerator: Linear::var(v), divisor: 1, guard: plain::Guard::default() };
        let positions = dims.iter().map(|(v, _)| plain(*v)).collect();
        Panel { from: a.clone(), bound: bound(g, a), access: plain::Access { tensor, positions } }
    }

    fn panel_name(&self, p: &Plan, a: &plain::Access) -> String {
        format!("{}_{}", self.space.kernel.tensor(a.tensor).name, if p.row_pack.contains(a) { "rows" } else { "panel" })
    }

    /// A panel of this name and shape that the tile at hand does not use.
    fn left(&self, name: &str, shape: &[usize]) -> Option<TensorId> {
        let fits = |l: &&Local| l.name == name && l.shape == shape && !self.taken.contains(&l.tensor);
        self.nest.locals.iter().filter(|l| self.is_panel(l.tensor)).find(fits).map(|l| l.tensor)
    }

    pub(super) fn is_panel(&self, t: TensorId) -> bool {
        t.0 >= self.source.tensors.len()
    }

    /// Bytes of an element.
    pub(super) fn size(&self) -> usize {
        if self.space.kernel.dtype == crate::spec::DType::F32 { 4 } else { 8 }
    }

    /// Loops over the pieces of a variable.
    fn over(
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

    /// Blocks of the reduction, then loops on which panels depend.
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
        let next = t.outer_vars().into_iter().filter(|v| t.packed(*v)).nth(from);
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

    /// Fills a panel of scalars for a range of rows: some turns of the reduction for all tiles, then the next ones, so that a line that holds
    /// scalars of several tiles is there when each wants it.
    fn pack_rows(&mut self, t: &Tile, panel: &Panel, map: &Map, range: &Range) -> Vec<Node> {
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
                let value = Value::Load(this.access(&panel.from, &map));
                let place = Place::Element(this.access(&panel.access, &map));
                let copy = vec![Node::Update { place, how: Update::Set, value }];
                nest(&loops, Vec::new(), &bound_outside(&map, &loops), copy)
            })
        });
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), body)
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

    /// Fills the panels.
    fn packs(&mut self, t: &Tile, map: &Map, vectors: &Vectors) -> Vec<Node> {
        let mut out = Vec::new();
        for panel in &t.panels {
            let turned = self.turned(t.g, t.p, &panel.from);
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
            each.body.extend(match turned.filter(|_| !copied && whole) {
                Some(along) => self.turn(t, panel, along, map),
                None => self.copy(t, panel, map, filled),
            });
            out.push(each.turned());
        }
        out
    }

    /// The loop over vectors, without a body so far.
    fn counted(&mut self, t: &Tile, vectors: &Vectors) -> Counted {
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
        let value = Value::Lanes(self.access(&panel.from, &map), t.p.width, t.p.width);
        let place = Place::Lanes(self.access(&panel.access, &map), 0..t.p.width);
        each.body.push(Node::Update { place, how: Update::Set, value });
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), vec![each.turned()])
    }

    /// A vector's part of a panel's rows gathered element by element.
    fn copy(&mut self, t: &Tile, panel: &Panel, mut map: Map, lanes: usize) -> Vec<Node> {
        let loops = self.rows_of(t, panel, None, &mut map);
        let lane = self.var("lane", lanes);
        map[t.p.lane] = add(&map[t.p.lane], &Linear::var(lane));
        map[t.lane_in] = add(&map[t.lane_in], &Linear::var(lane));
        let value = Value::Load(self.access(&panel.from, &map));
        let place = Place::Element(self.access(&panel.access, &map));
        let node = Node::Loop { var: lane, body: vec![Node::Update { place, how: Update::Set, value }] };
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), vec![node])
    }

    /// A panel turned in square blocks: rows of the operand become columns.
    fn turn(&mut self, t: &Tile, panel: &Panel, along: usize, mut map: Map) -> Vec<Node> {
        let side = t.p.width.min(if self.space.kernel.dtype == crate::spec::DType::F32 { 8 } else { 4 });
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
            let from = this.access(&panel.from, &at(&base, &Linear::var(row)));
            let to = this.access(&panel.access, &at(&add(&base, &Linear::var(column)), &Linear::default()));
            vec![Node::Transpose(Turned { row, from, column, to })]
        });
        nest(&loops, Vec::new(), &bound_outside(&map, &loops), body)
    }

    /// The other free variables: plain loops, then the rows of the tile.
    fn others(&mut self, t: &Tile, mut map: Map, vectors: &Vectors, range: &Range, from: usize) -> Vec<Node> {
        let plain: Vec<usize> = t.outer_vars().into_iter().filter(|v| !t.packed(*v)).collect();
        if let Some(v) = plain.get(from) {
            let var = self.var(t.name(*v), t.g.extent(*v));
            map[*v] = Linear::var(var);
            let body = self.others(t, map, vectors, range, from + 1);
            return vec![Node::Loop { var, body }];
        }
        self.rows(t, map, range, &|_| true, &mut Vec::new(), &mut |this, map, sizes| {
            this.body(t, map, vectors, range.block, sizes)
        })
    }

    /// Loops over the tiles of the rows; a variable that is not `wanted` stands still.
    fn rows(
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

    /// One tile: accumulators, the reduction, the results.
    fn body(&mut self, t: &Tile, map: Map, vectors: &Vectors, block: Option<VarId>, sizes: &[usize]) -> Vec<Node> {
        let lane = t.p.lane;
        let mut map = map;
        if t.free() {
            map[lane] = vectors.first.clone();
        }
        // What the tile is given: where it is.
        let mut params: Vec<(VarId, Linear)> = Vec::new();
        let mut given = Map::new();
        for (v, place) in map.iter().enumerate() {
            let tile_of = (0..t.p.rows.len()).find(|q| tile_in(t.g, *q) == v && !t.row_panels.is_empty());
            let own = t.is_row(v) || v == lane && t.free() || tile_of.is_some();
            if !own && place.terms.is_empty() {
                given.push(place.clone());
                continue;
            }
            let name = match tile_of {
                Some(q) => format!("{}_tile", t.name(t.p.rows[q].0)),
                None if t.p.is_split(v) => format!("{}_block", t.name(v)),
                None => t.stmts[0].vars[v].name.clone(),
            };
            let var = self.given(&name, place, &mut params);
            given.push(Linear::var(var));
        }
        let block = block.map(|b| {
            let at = t.p.block.map_or_else(Linear::default, |(v, _)| given[v].clone());
            if at.terms.is_empty() { Linear::var(self.given("block", &Linear::var(b), &mut params)) } else { at }
        });
        let rows: Vec<VarId> =
            sizes.iter().zip(["r", "s"]).map(|(n, name)| self.counting(Counts::Rows, name, *n)).collect();
        // Of the rows at so many coordinates from the first.
        let at_rows = |at: &[Linear]| -> Map {
            let mut m = given.clone();
            for (q, at) in at.iter().enumerate() {
                let v = t.p.rows[q].0;
                m[v] = add(&m[v], at);
                m[scalar_in(t.g, q)] = at.clone();
            }
            m
        };
        let own: Vec<Linear> = rows.iter().map(|v| Linear::var(*v)).collect();
        let inside = at_rows(&own);
        let mut out: Vec<Node> = Vec::new();
        let first = if t.free() { given[lane].clone() } else { Linear::default() };
        let each = self.counted(t, &Vectors { first, ..*vectors });
        let vector = each.var;
        // An array by row and vector for each statement.
        let dims: Vec<VarId> = rows.iter().copied().chain([vector]).collect();
        let identity = Value::Splat(Box::new(Value::Const(t.g.op.identity())), t.p.width);
        let accs: Vec<RegisterId> =
            t.stmts.iter().map(|_| self.register("acc", Some(t.p.width), dims.clone())).collect();
        out.extend(accs.iter().map(|acc| Node::Init { register: *acc, value: identity.clone() }));
        // The loops of the reduction.
        let mut loops = Vec::new();
        let mut turn = inside.clone();
        for v in t.g.own.iter().copied().filter(|v| !t.g.is_free(*v) && *v != lane) {
            let split = t.p.block.filter(|(b, _)| *b == v);
            let var = self.var(t.name(v), split.map_or(t.g.extent(v), |(_, n)| n));
            loops.push(var);
            match split {
                Some(_) => {
                    turn[v] = add(&turn[v], &Linear::var(var));
                    turn[t.row_in] = Linear::var(var);
                }
                None => turn[v] = Linear::var(var),
            }
        }
        if t.free() {
            let partial = match vectors.ends {
                Ends::Part(lanes) => Some(lanes),
                _ => None,
            };
            let (tests, updates) = self.updates(t, &turn, &rows, &each, partial, &accs);
            out.extend(nest(&loops, tests, &bound_outside(&turn, &loops), updates));
            // Lanes that two vectors have are added once. What adds and what stores are one body where they differ in that alone.
            let adds = block.is_some()
                || t.stmts.iter().any(|s| s.accumulate)
                || matches!(self.nest.kind, crate::plain::Kind::Vjp { .. });
            let width = t.p.width;
            let all = match vectors.ends {
                Ends::Part(lanes) => self.stored(t, &inside, &own, &accs, &each, (0..lanes, partial), block.as_ref()),
                Ends::Shared(shared) if adds => {
                    let first = Counted::fixed(&each, 0, add(&given[lane], &Linear::default()));
                    let rest = self.others_of(&each, 1);
                    let mut out = self.stored(t, &inside, &own, &accs, &first, (shared..width, None), block.as_ref());
                    if vectors.count > 1 {
                        out.extend(self.stored(t, &inside, &own, &accs, &rest, (0..width, None), block.as_ref()));
                    }
                    out
                }
                Ends::Moved { most, shared } if adds => {
                    let last = Counted::fixed(&each, vectors.count - 1, Linear::constant(most as i64));
                    let rest = self.others_of(&Counted { at: add(&given[lane], &each.lane), ..each.clone() }, 0);
                    let mut out = self.stored(t, &inside, &own, &accs, &rest, (0..width, None), block.as_ref());
                    out.extend(self.stored(t, &inside, &own, &accs, &last, (shared..width, None), block.as_ref()));
                    out
                }
                _ => self.stored(t, &inside, &own, &accs, &each, (0..width, None), block.as_ref()),
            };
            out.extend(looped(&rows, all));
        } else {
            let sums = self.dot(t, &mut out, &loops, &turn, &rows, vector, &accs);
            let at_row = |this: &mut Self, at: &[Linear]| {
                let mut all = Vec::new();
                for (n, (s, acc)) in t.stmts.iter().zip(&accs).enumerate() {
                    let m = at_rows(at);
                    let from = Slot { register: *acc, at: at.iter().cloned().chain([Linear::default()]).collect() };
                    let into = match sums.get(n) {
                        Some(sum) => Slot { register: *sum, at: at.to_vec() },
                        None => this.init("sum", None, Value::Const(t.g.op.identity()), &mut all).into(),
                    };
                    all.push(Node::Fold { into: into.clone(), from, op: t.g.op });
                    let target = this.access(&s.target, &m);
                    all.extend(results(s, Place::Element(target), Value::Register(into), block.as_ref()));
                }
                all
            };
            // Rows that follow each other in the targets are folded together, as many as make lanes.
            let together = t.p.width.min(if self.space.kernel.dtype == crate::spec::DType::F32 { 8 } else { 4 });
            let last =
                t.p.rows.last().filter(|(v, _)| t.stmts.iter().all(|s| along(&s.target, *v) == Along::Contiguous));
            let size = sizes.last().copied().unwrap_or(1);
            if last.is_none() || !sums.is_empty() || t.g.op != ReduceOp::Sum || size < together {
                let all = at_row(self, &own);
                out.extend(looped(&rows, all));
            } else {
                let (outer, rest) = (&rows[..rows.len() - 1], size % together);
                let part = self.counting(Counts::Rows, "part", size / together);
                let row = |l: usize| -> Vec<Linear> {
                    let last = Linear::new([(part, together as i64)], l as i64);
                    outer.iter().map(|v| Linear::var(*v)).chain([last]).collect()
                };
                let mut all = Vec::new();
                for (s, acc) in t.stmts.iter().zip(&accs) {
                    let slot =
                        |l: usize| Slot { register: *acc, at: row(l).into_iter().chain([Linear::default()]).collect() };
                    let into = self.register("sums", Some(together), Vec::new());
                    all.push(Node::Sums { into, from: (0..together).map(slot).collect() });
                    let target = self.access(&s.target, &at_rows(&row(0)));
                    all.extend(results(s, Place::Lanes(target, 0..together), Value::register(into), block.as_ref()));
                }
                let mut parts = vec![Node::Loop { var: part, body: all }];
                if rest > 0 {
                    let var = self.counting(Counts::Rows, "s", rest);
                    let last = Linear::new([(var, 1)], (size - rest) as i64);
                    let at: Vec<Linear> = outer.iter().map(|v| Linear::var(*v)).chain([last]).collect();
                    let all = at_row(self, &at);
                    parts.push(Node::Loop { var, body: all });
                }
                out.extend(looped(outer, parts));
            }
        }
        let mut used = BTreeSet::new();
        inline::vars(&out, &mut |v| _ = used.insert(v));
        params.retain(|(v, _)| used.contains(v));
        vec![Node::Tile(super::Tile { params, width: t.p.width, vector, rows, body: out })]
    }

    /// A variable of a tile that is given a value.
    fn given(&mut self, name: &str, value: &Linear, params: &mut Vec<(VarId, Linear)>) -> VarId {
        let most = value.range(&|v| self.nest.vars[v].extent).1;
        let var = self.var(name, usize::try_from(most).expect("coordinates are not negative") + 1);
        params.push((var, value.clone()));
        var
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

    /// The results of vectors of a row: the lanes of the range are written, and of a vector that is not whole so many are read.
    #[allow(clippy::too_many_arguments)]
    fn stored(
        &mut self,
        t: &Tile,
        map: &Map,
        rows: &[Linear],
        accs: &[RegisterId],
        each: &Counted,
        (lanes, partial): (std::ops::Range<usize>, Option<usize>),
        block: Option<&Linear>,
    ) -> Vec<Node> {
        let mut all = each.body.clone();
        for (s, acc) in t.stmts.iter().zip(accs) {
            let mut m = map.clone();
            m[t.p.lane] = each.at.clone();
            let slot = Slot { register: *acc, at: rows.iter().cloned().chain([each.number.clone()]).collect() };
            let target = self.access(&s.target, &m);
            if !self.inner(target.tensor) {
                let place = Place::Lanes(target.clone(), lanes.clone());
                all.extend(results(s, place, Value::Register(slot.clone()), block));
            }
            self.finish(t, &m, partial, (target.tensor, slot), &mut all);
        }
        if each.loops { vec![Node::Loop { var: each.var, body: all }] } else { all }
    }

    /// Whether a tensor is nothing but a register of an epilogue.
    fn inner(&self, t: TensorId) -> bool {
        self.epilogues.iter().any(|e| e.inner.contains(&t))
    }

    /// The epilogue of one vector of results, at the places of `map`.
    fn finish(&mut self, t: &Tile, map: &Map, partial: Option<usize>, result: (TensorId, Slot), out: &mut Vec<Node>) {
        let mut known = BTreeMap::from([result]);
        let mut moving = map.clone();
        moving[t.p.lane] = add(&map[t.p.lane], &Linear::var(LANE));
        for s in &t.g.epilogue {
            let (tests, value) = self.lower(&s.value, &moving);
            assert!(tests.is_empty(), "an epilogue reads nothing that a guard keeps");
            let value = value.replaced(&|a| known.get(&a.tensor).map(|slot| Value::Register(slot.clone())));
            let value = self.lanes(value, t.p.width, partial, None);
            let register = self.init("e", Some(t.p.width), value, out);
            let target = self.access(&s.target, map);
            known.insert(target.tensor, register.into());
            if !self.inner(target.tensor) {
                let place = Place::Lanes(target, 0..partial.unwrap_or(t.p.width));
                out.push(Node::Update { place, how: Update::Set, value: Value::register(register) });
            }
        }
    }

    /// The reduction of a dot product: groups of vectors, then single vectors, then single elements. Gives the sums of the single elements, if there
    /// are any, by statement; what a row has in several vectors is added to the first of them.
    #[allow(clippy::too_many_arguments)]
    fn dot(
        &mut self,
        t: &Tile,
        out: &mut Vec<Node>,
        loops: &[VarId],
        turn: &Map,
        rows: &[VarId],
        vector: VarId,
        accs: &[RegisterId],
    ) -> Vec<RegisterId> {
        let lane = t.p.lane;
        let (extent, width, per) = (t.g.extent(lane), t.p.width, self.nest.vars[vector].extent);
        let (groups, rest, tail) = (extent / width / per, extent / width % per, extent % width);
        let name = t.name(lane).to_string();
        let own: Vec<Linear> = rows.iter().map(|v| Linear::var(*v)).collect();
        let mut body = Vec::new();
        let mut tests = Vec::new();
        for (first, count, vectors) in [(0, groups, per), (groups * per * width, usize::from(rest > 0), rest)] {
            let piece = Piece { first, count, size: vectors * width };
            if count == 0 {
                continue;
            }
            body.extend(self.over(&name, &[piece], |this, base, _| {
                let var = if vectors == per { vector } else { this.counting(Counts::Vectors, "v", vectors) };
                let lane = Linear::new([(var, width as i64)], 0);
                let number = Linear::var(var);
                let each = Counted { var, number, at: add(&base, &lane), lane, body: Vec::new(), loops: true };
                let (found, updates) = this.updates(t, turn, rows, &each, None, accs);
                tests = found;
                updates
            }));
        }
        let mut sums = Vec::new();
        if tail > 0 {
            let var = self.var(&name, tail);
            let mut m = turn.clone();
            m[lane] = Linear::new([(var, 1)], (extent - tail) as i64);
            let mut updates = Vec::new();
            for s in &t.stmts {
                let sum = self.register("sum", None, rows.to_vec());
                out.push(Node::Init { register: sum, value: Value::Const(t.g.op.identity()) });
                let (_, value) = self.lower_reduced(s, t.g.op, &m);
                let place = Place::Register(Slot { register: sum, at: own.clone() });
                updates.push(Node::Update { place, how: Update::Reduce(t.g.op), value });
                sums.push(sum);
            }
            body.push(Node::Loop { var, body: looped(rows, updates) });
        }
        out.extend(nest(loops, tests, &bound_outside(turn, loops), body));
        if per > 1 {
            let var = self.counting(Counts::Rows, "v", per - 1);
            let add = |acc: &RegisterId| {
                let slot = |at: Linear| Slot { register: *acc, at: own.iter().cloned().chain([at]).collect() };
                let value = Value::Register(slot(Linear::new([(var, 1)], 1)));
                Node::Update { place: Place::Register(slot(Linear::default())), how: Update::Reduce(t.g.op), value }
            };
            let folds = vec![Node::Loop { var, body: accs.iter().map(add).collect() }];
            out.extend(looped(rows, folds));
        }
        sums
    }

    /// One step of the reduction: every read once, then every accumulator.
    fn updates(
        &mut self,
        t: &Tile,
        map: &Map,
        rows: &[VarId],
        each: &Counted,
        partial: Option<usize>,
        accs: &[RegisterId],
    ) -> (Vec<Test>, Vec<Node>) {
        let loops = rows.iter().map(|v| (*v, Vec::new())).chain([(each.var, each.body.clone())]);
        let mut step = Turn::new(loops.collect());
        let at: Vec<Linear> = rows.iter().chain([&each.var]).map(|v| Linear::var(*v)).collect();
        let mut m = map.clone();
        m[t.p.lane] = add(&each.at, &Linear::var(LANE));
        m[t.lane_in] = add(&each.lane, &Linear::var(LANE));
        let mut tests: Vec<Test> = Vec::new();
        for (s, acc) in t.stmts.iter().zip(accs) {
            let (found, value) = self.lower_reduced(s, t.g.op, &m);
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

/// Loops around nodes, the first outermost.
fn looped(vars: &[VarId], body: Vec<Node>) -> Vec<Node> {
    vars.iter().rev().fold(body, |body, var| vec![Node::Loop { var: *var, body }])
}

/// A packed read: where it is now.
struct Panel {
    from: plain::Access,
    bound: Vec<usize>,
    access: plain::Access,
}

/// The vectors of a tile that stand beside each other.
struct Vectors {
    /// Where the lanes of the first start.
    first: Linear,
    count: usize,
    ends: Ends,
}

/// How vectors end with the extent of their variable.
#[derive(Clone, Copy)]
enum Ends {
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
struct Counted {
    var: VarId,
    /// The number of each.
    number: Linear,
    /// Where the lanes of each start, in their variable and in a panel.
    at: Linear,
    lane: Linear,
    body: Vec<Node>,
    /// It is no single vector.
    loops: bool,
}

impl Counted {
    /// One vector of a loop, and where its lanes start.
    fn fixed(each: &Counted, number: usize, at: Linear) -> Self {
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
    fn turned(self) -> Node {
        Node::Loop { var: self.var, body: self.body }
    }
}

/// A plan being carried out.
struct Tile<'a> {
    g: &'a Group<'a>,
    p: &'a Plan,
    stmts: Vec<Stmt>,
    panels: Vec<Panel>,
    row_panels: Vec<Panel>,
    lane_in: usize,
    row_in: usize,
}

// Variables beside the statement's: of panels, and of tiles.

/// The lane within a panel.
fn lane_in(g: &Group) -> usize {
    g.first().vars.len()
}
/// The split variable within its block.
fn row_in(g: &Group) -> usize {
    lane_in(g) + 1
}
/// The number of the tile along the rows `q`.
fn tile_in(g: &Group, q: usize) -> usize {
    row_in(g) + 1 + 2 * q
}
/// The scalar within a tile along the rows `q`.
fn scalar_in(g: &Group, q: usize) -> usize {
    row_in(g) + 2 + 2 * q
}

/// The variables of the reduction that move a read.
fn bound(g: &Group, a: &plain::Access) -> Vec<usize> {
    g.own.iter().copied().filter(|v| !g.is_free(*v) && a.vars().any(|w| w == *v)).collect()
}

/// What a tile runs within: the block of the reduction, and the rows of the first variable.
struct Range {
    block: Option<VarId>,
    first: Linear,
    count: usize,
}

impl Plan {
    /// The order in which elements are summed.
    fn order(&self, g: &Group) -> Order {
        let name = |v: usize| g.first().vars[v].name.clone();
        match self.block {
            _ if !g.is_free(self.lane) => Order::Dot(name(self.lane), self.width, self.vectors),
            Some((v, size)) => Order::Blocks(name(v), size),
            None => Order::Loops,
        }
    }

    /// The variables of the tile.
    fn tile(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|(v, _)| *v).chain([self.lane])
    }

    /// Whether each element is summed in the same order.
    fn in_order_of(&self, other: &Plan, g: &Group) -> bool {
        let order = |p: &Plan| (p.lane, p.width, p.vectors);
        let free = g.is_free(other.lane);
        self.block == other.block && if free { g.is_free(self.lane) } else { order(self) == order(other) }
    }

    /// Whether each element is summed in the same order, in tiles that are cut by the same guards.
    fn adds_as(&self, other: &Plan, g: &Group) -> bool {
        let cut = |p: &Plan| p.tile().find(|v| g.guarded_in(*v));
        cut(self) == cut(other) && self.in_order_of(other, g)
    }

    /// About how many accumulators its text has: those of the tile, and of the smaller ones where it does not divide the extents, in each segment.
    fn text(&self, g: &Group) -> usize {
        let sizes = |extent: usize, most: usize| pieces(extent, most).iter().map(|p| p.size).sum::<usize>();
        let lanes = if g.is_free(self.lane) {
            sizes(g.extent(self.lane).div_ceil(self.width), self.vectors)
        } else {
            self.vectors
        };
        let segments = self.tile().find(|v| g.guarded_in(*v)).map_or(1, |v| g.segments[&v].all.len());
        segments * lanes * self.rows.iter().map(|(v, n)| sizes(g.extent(*v), *n)).product::<usize>()
    }

    fn is_split(&self, v: usize) -> bool {
        self.block.is_some_and(|(b, _)| b == v)
    }
    /// The extent of a bound variable, or of its block.
    fn rows_in(&self, g: &Group, v: usize) -> usize {
        self.block.filter(|(b, _)| *b == v).map_or(g.extent(v), |(_, n)| n)
    }
    /// The dimensions of the local in the place of a packed read: variables and extents. Scalars of a tile's rows stand beside each other.
    fn panel_dims(&self, g: &Group, a: &plain::Access) -> Vec<(usize, usize)> {
        let inner = bound(g, a).into_iter().map(|v| (if self.is_split(v) { row_in(g) } else { v }, self.rows_in(g, v)));
        if !self.row_pack.contains(a) {
            return inner.chain([(lane_in(g), self.vectors * self.width)]).collect();
        }
        let rows: Vec<usize> = (0..self.rows.len()).filter(|q| a.vars().any(|w| w == self.rows[*q].0)).collect();
        let tiles = rows.iter().map(|q| (tile_in(g, *q), self.tiles(g, *q)));
        let scalars = rows.iter().map(|q| (scalar_in(g, *q), self.rows[*q].1));
        tiles.chain(inner).chain(scalars).collect()
    }

    /// How many tiles a panel of scalars has along one of the variables of the rows.
    fn tiles(&self, g: &Group, q: usize) -> usize {
        let (v, n) = self.rows[q];
        let extent = if q == 0 && !self.row_pack.is_empty() { self.row_block } else { g.extent(v) };
        extent.div_ceil(n)
    }
}

impl Tile<'_> {
    fn free(&self) -> bool {
        self.g.is_free(self.p.lane)
    }
    fn name(&self, v: usize) -> &str {
        &self.g.first().vars[v].name
    }
    fn is_row(&self, v: usize) -> bool {
        self.p.rows.iter().any(|(w, _)| *w == v)
    }
    /// Free variables that are neither lanes nor rows, in the order of the target's storage.
    fn outer_vars(&self) -> Vec<usize> {
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
    /// Whether a panel depends on it.
    fn packed(&self, v: usize) -> bool {
        self.panels.iter().chain(&self.row_panels).any(|p| p.from.vars().any(|w| w == v))
    }
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

pub(super) fn add(a: &Linear, b: &Linear) -> Linear {
    Linear::new(a.terms.iter().chain(&b.terms).copied(), a.constant + b.constant)
}
