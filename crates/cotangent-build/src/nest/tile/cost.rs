//! The cost model: takes a group, a core and a candidate, gives cycles, roughly. They only choose among candidates that
//! are all right.
//!
//! The model: a tile's iteration takes as long as the busiest of the units for arithmetic and for loads, the front end
//! and the chain of additions (of a core that runs in order, the sum of what its units take); iterations are multiplied
//! by the loops around them, and what a tile, a loop or a panel costs besides is added. Its figures are of two sources,
//! and each says which. *Machine*: properties of common cores, as manuals and `benches/roofline` have them. *Fitted*:
//! set by hand so that candidates rank as they run; no figure of these is measured alone, but the ranking as a whole
//! is, by `cargo bench -p cotangent-candidates`, which runs each candidate of the products and convolutions of the
//! roofline.

use super::super::epilogue;
use super::super::lanes::{Along, along};
use super::super::machine::Machine;
use super::candidates::Candidate;
use super::group::Group;
use super::{Piece, accumulate, pieces};
use crate::cores::{Cache, Core, Rates};
use crate::functions::Cost;
use crate::index::{Binary, ReduceOp};
use crate::plain::{Access, Cond, Expr, Position};

/// Panels of at most so many bytes are kept in registers by the compiler. Machine: four vectors of 16 bytes, or a cache
/// line.
pub const IN_REGISTERS: usize = 64;
/// Bytes of a cache line. Machine.
const LINE: usize = 64;
/// Loops of at most so many iterations are unrolled by the compiler. Fitted.
const UNROLLED: usize = 8;
/// Several loops of at most so many iterations together, too. Fitted.
const UNROLLED_TOGETHER: usize = 9;
/// The most instructions of a loop, all its iterations taken together, that the compiler unrolls: the accumulators of a
/// tile are registers only where the loops over its rows are gone. Machine: LLVM's threshold at level 3.
const UNROLLED_INSTRUCTIONS: usize = 300;
/// Those of a read in a row: two tests of bounds and a load. Fitted, as the next.
const READ_INSTRUCTIONS: usize = 3;
/// Those of a row besides: its accumulator is read and written, addresses are computed, its loop counts and branches.
const ROW_INSTRUCTIONS: usize = 7;
/// The most rows of a block that is transposed in registers: of wider vectors two blocks beside each other. Machine.
pub const TRANSPOSED_ROWS: usize = 8;

/// Operations in place of a maximum or a minimum: a comparison, and a choice that minds NaN. Machine: its instructions.
const EXTREMUM: usize = 3;
/// Operations in place of a division. Machine: its throughput on common cores.
const DIVISION: usize = 8;
/// Operations in place of a comparison and the choice by it. Machine: its instructions.
const COMPARISON: usize = 2;
/// Operations in place of a function. Fitted.
const CALL: f64 = 10.0;

/// Instructions of an iteration besides loads and arithmetic: count, compare, branch. Machine: what is emitted.
const LOOP_INSTRUCTIONS: f64 = 3.0;
/// Cycles of a scalar that is spilled and read again. Fitted.
const SPILL: f64 = 1.0;
/// The part of what missing lines cost that is waited for, however much there is to do meanwhile. Fitted.
const WAIT: f64 = 0.1;

/// The part of what each unit takes that is not hidden behind the busiest one: of two tiles that keep that one as busy
/// the one is faster that does less beside it. Fitted.
const BESIDE: f64 = 0.01;

/// Cycles that an accumulator takes to be set to its identity. Fitted.
const INIT: f64 = 0.25;
/// Cycles of an accumulator that is added to what is there, or folded before, besides its store. Fitted: a load, an
/// addition and a store overlap in part.
const ADD: f64 = 0.5;
/// Cycles of each step that folds lanes in half, and of what is done before and behind all steps. Fitted.
const FOLD_STEP: f64 = 2.0;
/// Cycles of each row that is folded together with others, whatever the lanes. Machine: two shuffles and an addition for
/// each pair, half as many in each step, on one unit for shuffles.
const FOLD_TOGETHER: f64 = 3.0;
/// Cycles of a vector's row that is not whole, or moved back: it shares lanes. Fitted.
const PARTIAL: f64 = 3.0;
/// Cycles until a tile's loops run. Fitted: its call and the addresses of its operands.
const TILE_START: f64 = 10.0;
/// Cycles until a loop runs, and after it. Fitted: a branch that is mispredicted now and then.
const LOOP_START: f64 = 4.0;
/// Cycles of an element beyond the last whole vector of a dot product. Machine: its chain of scalar additions.
const TAIL_ELEMENT: f64 = 4.0;
/// Cycles that adding the accumulators of a dot product takes, for each. Fitted.
const ADD_ACCUMULATORS: f64 = 2.0;
/// The part by which each further segment makes all slower, and of a core that runs in order each further size of tile:
/// it is text of its own, and borders run worse than the model says. Fitted by `ci/embedded.sh`: on a Cortex-M4F a
/// product takes 116,175 instructions in tiles of one size, and 127,929 in those of four sizes that the model without
/// this finds as fast.
const FURTHER: f64 = 0.004;

/// Cycles of an element that is packed beside its neighbours into a panel of scalars. Fitted.
const PACK_SCALARS_TOGETHER: f64 = 0.6;
/// Cycles of one that is packed from anywhere. Fitted.
const PACK_SCALARS_APART: f64 = 1.2;
/// Cycles of a vector that is copied into a panel, or of an element that is gathered into one. Fitted.
const PACK: f64 = 1.5;
/// Cycles of a row of a block that is transposed into a panel. Fitted: loads, shuffles and stores of a block, by its
/// rows.
const PACK_TRANSPOSED: f64 = 4.0;
/// Cycles of each element of the first panel, which tiles wait for; others are filled while tiles run. Fitted.
const FIRST_PANEL: f64 = 0.05;

/// The part of a cache, as a fraction, that an operand may fill before its lines are pushed out: the rest is other
/// operands'. Fitted.
const CACHE_SHARE: (usize, usize) = (3, 4);
/// Cycles that a scalar costs whose line was pushed out before it was used up. Machine: the second-level cache,
/// overlapped.
const COLLISION: f64 = 1.0;
/// Cycles that each stream of lines costs: many are more than the prefetchers follow. Fitted.
const STREAM: f64 = 0.002;
/// Scalars of rows that cost more cycles than this by colliding are worth packing. Fitted: half of a [`COLLISION`].
pub const COLLISION_WORTH_PACKING: f64 = 0.5;

/// Arithmetic of one term: multiply-adds, other operations, calls of functions.
#[derive(Clone, Copy, Default)]
pub struct Work {
    fused: usize,
    plain: usize,
    calls: usize,
}

impl Work {
    /// Instructions of arithmetic, calls aside.
    pub fn operations(&self) -> usize {
        self.fused + self.plain
    }
}

/// The work of a term; `None` where a lane's value decides what is read.
pub fn work(e: &Expr) -> Option<Work> {
    fn inside(e: &Expr, w: &mut Work) -> bool {
        match e {
            Expr::Const(_) | Expr::Read(_) => true,
            Expr::Masked(_, a) => inside(a, w),
            Expr::Unary(f, a) => {
                operation(f.cost(), w);
                inside(a, w)
            }
            Expr::Powf(a, n) => {
                operation(if *n == 2.0 { Cost::Arithmetic } else { Cost::Call }, w);
                inside(a, w)
            }
            Expr::Binary(f, a, b) => {
                operation(f.cost(), w);
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
    // What lanes have no instruction for runs lane by lane, as calls do, however short it is.
    fn operation(cost: Cost, w: &mut Work) {
        match cost {
            Cost::Sign | Cost::Arithmetic => w.plain += 1,
            Cost::Extremum => w.plain += EXTREMUM,
            Cost::Division => w.plain += DIVISION,
            Cost::Mask | Cost::Few | Cost::Root | Cost::Call => w.calls += 1,
        }
    }
    fn condition(c: &Cond, w: &mut Work) -> bool {
        match c {
            Cond::Const(_) => true,
            Cond::Value(_, a, b) => {
                w.plain += COMPARISON;
                inside(a, w) && inside(b, w)
            }
            Cond::And(a, b) | Cond::Or(a, b) => condition(a, w) && condition(b, w),
            Cond::Not(a) => condition(a, w),
            Cond::Index(..) | Cond::Inside(_) => false,
        }
    }
    fn term(e: &Expr, w: &mut Work) -> bool {
        match e {
            Expr::Masked(_, a) => term(a, w),
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

/// Whether the compiler unrolls the loops over the rows of a tile; `work` is that of each statement's term. Where it
/// does not, it unrolls the loops around them or none: accumulators stay in memory.
pub fn unrolls(g: &Group, p: &Candidate, work: &[Work]) -> bool {
    let Some((_, inner)) = p.rows.last() else { return true };
    let rows: usize = p.rows.iter().map(|(_, n)| n).product();
    let moves = |a: &&Access| p.rows.iter().any(|(v, _)| a.vars().any(|w| w == *v));
    let each = |a: &Access| match along(a, p.lane) {
        Along::Still => 1,
        Along::Contiguous | Along::Strided => p.vectors,
    };
    let reads: usize = g.reads.iter().filter(moves).map(each).sum();
    let arithmetic: usize = work.iter().map(|w| p.vectors * (w.fused + w.plain)).sum();
    // Once the inner loop is gone, loads and arithmetic are left of it.
    inner * (reads * READ_INSTRUCTIONS + arithmetic + ROW_INSTRUCTIONS) <= UNROLLED_INSTRUCTIONS
        && rows * (reads + arithmetic) <= UNROLLED_INSTRUCTIONS
}

/// Whether the registers hold the accumulators of rows of two variables, the scalars that all rows of the outer one
/// share, and the vectors that a row of it reads. Where they do not fit, accumulators are read and written in memory, and
/// the others are moved around.
pub fn fits(g: &Group, m: &Machine, p: &Candidate) -> bool {
    let [(outer, n), (inner, k)] = p.rows[..] else { return true };
    let moves = |a: &Access, v: usize| a.vars().any(|w| w == v);
    let is_scalar = |a: &&Access| along(a, p.lane) == Along::Still;
    let scalars = g.reads.iter().filter(|a| is_scalar(a) && moves(a, inner) && !moves(a, outer)).count() * k;
    let read = g.reads.iter().filter(|a| !is_scalar(a) && !moves(a, inner)).count();
    let vectors = m.parts(p.width, g.size) * p.vectors;
    scalars == 0 || (n * k * g.stmts.len() + read) * vectors + scalars <= m.registers
}

/// The cycles of a candidate on a core of the machine; `work` is that of each statement's term.
pub fn cost(g: &Group, m: &Machine, core: &Core, p: &Candidate, work: &[Work]) -> f64 {
    Model { g, m, core, p, work }.total()
}

struct Model<'a> {
    g: &'a Group<'a>,
    m: &'a Machine,
    core: &'a Core,
    p: &'a Candidate,
    work: &'a [Work],
}

impl Model<'_> {
    fn total(&self) -> f64 {
        let mut total = 0.0;
        for (count, rows) in self.row_pieces() {
            total += count * if self.free() { self.lanes(&rows) } else { self.dot(&rows) };
        }
        let others = self.extents(&|v| self.g.is_free(v) && !self.p.tile().any(|w| w == v));
        total *= others * self.borders();
        for a in &self.p.row_pack {
            total += self.packed_scalars(a);
        }
        for a in &self.p.pack {
            total += self.packed_lanes(a);
        }
        total
    }

    fn free(&self) -> bool {
        self.g.is_free(self.p.lane)
    }

    fn stmts(&self) -> f64 {
        self.g.stmts.len() as f64
    }

    /// The product of the extents of variables.
    fn extents(&self, of: &dyn Fn(usize) -> bool) -> f64 {
        self.g.own.iter().copied().filter(|v| of(*v)).map(|v| self.g.extent(v) as f64).product()
    }

    /// The iterations of the reduction's loops, lanes aside.
    fn iterations(&self) -> f64 {
        self.extents(&|v| !self.g.is_free(v) && v != self.p.lane)
    }

    /// How often the innermost loop of the reduction starts.
    fn starts(&self) -> f64 {
        self.iterations() / self.innermost().map_or(1.0, |v| self.g.extent(v) as f64)
    }

    /// The variable of the innermost loop of the reduction.
    fn innermost(&self) -> Option<usize> {
        innermost(self.g, self.p)
    }

    /// Registers of a vector.
    fn registers(&self) -> f64 {
        self.m.parts(self.p.width, self.g.size) as f64
    }

    /// What the core can start in a cycle on a vector's registers.
    fn rates(&self) -> Rates {
        if self.p.width * self.g.size * 2 > self.m.bytes { self.core.full } else { self.core.half }
    }

    /// Every combination of the sizes of pieces that the rows are cut into, and how many tiles have it.
    fn row_pieces(&self) -> Vec<(f64, Vec<usize>)> {
        let pieces = self.p.rows.iter().map(|(v, n)| pieces(self.g.extent(*v), *n));
        pieces.fold(vec![(1.0, Vec::new())], |all, pieces: Vec<Piece>| {
            let with = |(count, sizes): (f64, Vec<usize>)| {
                let one = move |x: &Piece| (count * x.count as f64, [sizes.clone(), vec![x.size]].concat());
                pieces.iter().map(one).collect::<Vec<_>>()
            };
            all.into_iter().flat_map(with).collect()
        })
    }

    /// Tiles of so many rows, with lanes along a free variable.
    fn lanes(&self, rows: &[usize]) -> f64 {
        let (g, p) = (self.g, self.p);
        let extent = g.extent(p.lane);
        let (iterations, starts) = (self.iterations(), self.starts());
        let blocks = p.block.map_or(1.0, |(v, n)| (g.extent(v) / n) as f64);
        let count = rows.iter().product::<usize>() as f64;
        let partial = if extent.is_multiple_of(p.width) { 0.0 } else { PARTIAL * count };
        let each = |piece: &Piece| {
            let accs = count * piece.size as f64 * self.stmts();
            piece.count as f64
                * (iterations * self.iteration(rows, piece.size as f64, accs)
                    + blocks * (self.stores(accs) + TILE_START)
                    + starts * LOOP_START
                    + partial)
        };
        pieces(extent.div_ceil(p.width), p.vectors).iter().map(each).sum()
    }

    /// A tile of so many rows, with lanes along the reduction.
    fn dot(&self, rows: &[usize]) -> f64 {
        let (g, p) = (self.g, self.p);
        let extent = g.extent(p.lane);
        let (groups, rest, tail) = (extent / p.width / p.vectors, extent / p.width % p.vectors, extent % p.width);
        let count = rows.iter().product::<usize>() as f64;
        let accs = count * p.vectors as f64 * self.stmts();
        let vectors = |n: usize| match n {
            0 => 0.0,
            n => self.iteration(rows, n as f64, count * n as f64 * self.stmts()),
        };
        let tail = match accumulate::ends_in_vector(g.op, tail) {
            true => vectors(1),
            false => tail as f64 * count * TAIL_ELEMENT,
        };
        self.iterations()
            * (groups as f64 * self.iteration(rows, p.vectors as f64, accs) + vectors(rest) + tail + LOOP_START)
            + self.stores(count * self.stmts())
            + self.folds(rows) * self.stmts()
            + accs * ADD_ACCUMULATORS
            + TILE_START
    }

    /// One iteration of a tile: the longest of arithmetic, loads, instructions and the chain of additions.
    fn iteration(&self, rows: &[usize], vectors: f64, accs: f64) -> f64 {
        let (p, m, core) = (self.p, self.m, self.core);
        let (rates, registers) = (self.rates(), self.registers());
        let of = |a: &Access| -> f64 {
            let moves = p.rows.iter().zip(rows).filter(|((v, _), _)| a.vars().any(|w| w == *v));
            moves.map(|(_, n)| *n as f64).product()
        };
        let (mut load, mut instructions, mut missing) = (0.0, LOOP_INSTRUCTIONS, 0.0);
        for a in &self.g.reads {
            match along(a, p.lane) {
                Along::Still => {
                    let misses = misses(self.g, core, p, a, of(a) as usize);
                    let collide = match p.row_pack.contains(a) {
                        true => 0.0,
                        false => rows_collide(self.g, core, p, rows, a),
                    };
                    let shared = shared_scalars(self.g, p, a, of(a));
                    let spills = |n: f64| accs + n + vectors > m.registers as f64;
                    let spilled = if shared.is_some_and(spills) { SPILL } else { 0.0 };
                    load += of(a) * (1.0 / core.broadcasts + collide + spilled) + misses;
                    missing += misses;
                    instructions += of(a);
                }
                _ => {
                    let loads = vectors * of(a) * registers;
                    let misses = misses(self.g, core, p, a, p.vectors * p.width);
                    load += loads / rates.loads + misses;
                    missing += misses;
                    instructions += loads;
                }
            }
        }
        let sum = |(f, q, c): (usize, usize, usize), w: &Work| (f + w.fused, q + w.plain, c + w.calls);
        let (fused, plain, calls) = self.work.iter().fold((0, 0, 0), sum);
        let chain = self.work.iter().map(|w| w.fused + w.plain.min(1)).max().unwrap_or(1) as f64;
        let each = fused as f64 + plain as f64 + CALL * calls as f64;
        let arithmetic = accs * registers / self.stmts() * each;
        let (arithmetic, instructions) = (arithmetic / rates.multiply_adds, instructions + arithmetic);
        let units = if core.in_order { arithmetic + load + LOOP_INSTRUCTIONS } else { arithmetic.max(load) };
        // Lines from further away are waited for now and then, however much there is to do.
        units.max(instructions / core.issue).max(chain * core.latency) + BESIDE * (arithmetic + load) + WAIT * missing
    }

    /// What accumulators cost before and after the reduction.
    fn stores(&self, accs: f64) -> f64 {
        let accumulate = self.g.stmts.iter().any(|s| s.accumulate) || self.p.block.is_some();
        let add = if self.free() && !accumulate { 0.0 } else { ADD };
        accs * (INIT + self.registers() / self.rates().stores + add)
    }

    /// What folding the lanes of a dot product's rows costs.
    fn folds(&self, rows: &[usize]) -> f64 {
        let (g, p) = (self.g, self.p);
        let alone = (p.width as f64).log2() * FOLD_STEP + FOLD_STEP;
        let count = rows.iter().product::<usize>() as f64;
        let together = accumulate::together(p.width, g.size);
        let follow = |v: usize| g.stmts.iter().all(|s| along(&s.target, v) == Along::Contiguous);
        let Some((v, size)) = p.rows.last().map(|(v, _)| *v).zip(rows.last().copied()) else { return count * alone };
        if together == 1 || !follow(v) || g.op != ReduceOp::Sum || !g.extent(p.lane).is_multiple_of(p.width) {
            return count * alone;
        }
        let rest = size % together;
        let padded = if accumulate::folds_partly(rest, together) { together } else { 0 };
        let each =
            (size - rest + padded) as f64 * FOLD_TOGETHER + if padded > 0 { PARTIAL } else { rest as f64 * alone };
        count / size as f64 * each
    }

    /// What segments make of the cycles; of a core that runs in order, tiles of several sizes too.
    fn borders(&self) -> f64 {
        let (g, p) = (self.g, self.p);
        let cut = p.tile().filter(|v| g.guarded_in(*v));
        let segments: usize = cut.map(|v| g.segments[&v].all.len()).product();
        let vectors = pieces(g.extent(p.lane).div_ceil(p.width), p.vectors).len();
        let sizes = self.row_pieces().len() * if self.free() { vectors } else { 1 };
        let further = segments - 1 + if self.core.in_order { sizes - 1 } else { 0 };
        1.0 + FURTHER * further as f64
    }

    /// How often a panel is filled again, for what other panels depend on.
    fn fills(&self, a: &Access) -> f64 {
        let moves = |v: usize| self.p.packed().any(|b| b.vars().any(|w| w == v));
        let row = |v: usize| self.p.rows.iter().any(|(w, _)| *w == v);
        self.extents(&|v| v != self.p.lane && self.g.is_free(v) && moves(v) && !a.vars().any(|w| w == v) && !row(v))
    }

    /// The elements of a packed read, lanes aside.
    fn elements(&self, a: &Access) -> f64 {
        self.extents(&|v| v != self.p.lane && a.vars().any(|w| w == v))
    }

    /// Filling a panel of scalars.
    fn packed_scalars(&self, a: &Access) -> f64 {
        let together = self.p.rows.iter().any(|(v, _)| along(a, *v) == Along::Contiguous);
        let each = if together { PACK_SCALARS_TOGETHER } else { PACK_SCALARS_APART };
        self.elements(a) * self.fills(a) * each
    }

    /// Filling a panel of lanes.
    fn packed_lanes(&self, a: &Access) -> f64 {
        let (g, p) = (self.g, self.p);
        let row_blocks = match p.row_pack.is_empty() {
            true => 1,
            false => g.extent(p.rows[0].0).div_ceil(p.row_block),
        };
        let lanes = g.extent(p.lane).div_ceil(p.width) * p.width;
        let elements = self.elements(a);
        let fills = self.fills(a) * row_blocks as f64;
        let each = match along(a, p.lane) {
            Along::Contiguous => PACK / p.width as f64,
            _ if p.transposed(g, a).is_some() => PACK_TRANSPOSED / p.width.min(TRANSPOSED_ROWS) as f64,
            _ => PACK,
        };
        lanes as f64 * elements * fills * each + FIRST_PANEL * (p.vectors * p.width) as f64 * elements
    }
}

/// The variable of the innermost loop of a tile's reduction.
fn innermost(g: &Group, p: &Candidate) -> Option<usize> {
    g.own.iter().copied().rfind(|v| !g.is_free(*v) && *v != p.lane)
}

/// How many of the sets of a cache rows so many bytes apart fall into.
fn sets_apart(step: usize, sets: usize) -> usize {
    let apart = (step / LINE).max(1);
    let gcd = std::iter::successors(Some((sets, apart)), |(a, b)| (*b > 0).then(|| (*b, a % b))).last();
    sets / gcd.map_or(1, |(gcd, _)| gcd)
}

/// Cycles that the lines of `elements` beside each other cost beyond loads from the first-level cache, as each tile
/// reads them again.
pub fn misses(g: &Group, core: &Core, p: &Candidate, a: &Access, elements: usize) -> f64 {
    if !g.is_free(p.lane) {
        return 0.0;
    }
    let size = g.size;
    let lanes = (elements * size).div_ceil(LINE).max(1);
    let over = g.bound(a);
    let count: usize = over.iter().map(|v| p.rows_in(g, *v)).product();
    let together = p.row_pack.contains(a);
    let step = over.iter().map(|v| g.stride(a, *v)).filter(|s| *s > 0).min().unwrap_or(size);
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
        if lines * CACHE_SHARE.1 > holds * CACHE_SHARE.0 { touched * cycles } else { 0.0 }
    };
    // A line that lasts for several iterations is fetched once in them.
    let iterations = (LINE / step.min(LINE)) as f64;
    core.caches.iter().map(cost).sum::<f64>() / iterations
}

/// How many different scalars a read of a tile's rows has in loops of the reduction that share some, where there are so
/// few iterations that the compiler unrolls these loops: then it keeps the scalars that several iterations share in
/// registers, with those of the loops inside, and spills accumulators for it. For rows of two variables only the
/// innermost loop counts: what they do in more loops has not been measured.
fn shared_scalars(g: &Group, p: &Candidate, a: &Access, rows: f64) -> Option<f64> {
    let moves = |q: &Position, v: usize| q.numerator.coefficient(v) != 0;
    let shares = |q: &Position, v: usize| moves(q, v) && p.rows.iter().any(|(r, _)| moves(q, *r));
    let (mut iterations, mut inside, mut most) = (1, 1.0, None);
    for v in g.own.iter().copied().rev().filter(|v| !g.is_free(*v) && *v != p.lane) {
        let extent = g.extent(v);
        iterations *= extent;
        let outer = iterations > extent;
        if extent > UNROLLED || outer && (iterations > UNROLLED_TOGETHER || p.rows.len() > 1) {
            break;
        }
        if a.positions.iter().any(|q| shares(q, v)) {
            most = Some((rows + extent as f64 - 1.0) * inside);
        }
        if a.positions.iter().any(|q| moves(q, v)) {
            inside *= extent as f64;
        }
    }
    most
}

/// Cycles that a scalar of each row costs beyond its load, where the rows' lines push each other out of the cache
/// before they are used up.
pub fn rows_collide(g: &Group, core: &Core, p: &Candidate, rows: &[usize], a: &Access) -> f64 {
    let Cache { bytes, ways, .. } = core.caches[0];
    let sets = (bytes / ways / LINE).max(1);
    let moved: Vec<(usize, usize)> = p
        .rows
        .iter()
        .zip(rows)
        .map(|((v, _), n)| (g.stride(a, *v), *n))
        .filter(|(step, n)| *step >= LINE && *n > 1)
        .collect();
    let lines: usize = moved.iter().map(|(_, n)| n).product();
    let room = moved.iter().map(|(step, n)| sets_apart(*step, sets).min(*n)).product::<usize>() * ways;
    // Half of the room is others'.
    let pushed = if moved.iter().any(|(_, n)| *n > 1) && lines * 2 > room { COLLISION } else { 0.0 };
    pushed + STREAM * lines as f64
}
