//! The machines that schedules are made for: takes nothing, gives what a cost model needs to know of each.
//!
//! A class stands for many processors; the figures are those of common cores, and only choose among schedules that are
//! all right.

/// A class of machines, as `cotangent::isa::Machine`.
#[derive(Debug, PartialEq)]
pub struct Machine {
    /// The variant's name in the runtime.
    pub name: &'static str,
    /// Bytes of a register: of a vector's, or of a scalar's where there are no vectors.
    pub bytes: usize,
    /// Such registers.
    pub registers: usize,
    /// Cycles between one fused multiply-add of a full register and the next that depends on it.
    pub latency: f64,
    /// Cycles that a full register's multiply-add or load takes of its units.
    pub full: f64,
    /// Instructions that start in a cycle.
    pub issue: f64,
    /// The first- and the second-level cache.
    pub caches: [Cache; 2],
    /// A statement with fewer iterations packs at most 64 bytes, which fit in registers. So its kernel needs no scratch
    /// where memory is scarce.
    pub packs_from: usize,
    /// The class whose order of summation it has, so that the two give the same bits.
    pub same_order_as: Option<&'static Machine>,
    /// The architectures that have it, as `CARGO_CFG_TARGET_ARCH` calls them; empty for all but those of other classes.
    /// The runtime chooses by the same (`cotangent::isa::Portable`).
    pub archs: &'static [&'static str],
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cache {
    pub bytes: usize,
    pub ways: usize,
    /// Cycles that a line from the next level takes.
    pub cycles: f64,
}

/// What most cores have at least.
const CACHES: [Cache; 2] =
    [Cache { bytes: 32 * 1024, ways: 8, cycles: 1.0 }, Cache { bytes: 512 * 1024, ways: 8, cycles: 4.0 }];

/// SSE2, NEON, SIMD128.
pub const NARROW: Machine = Machine {
    name: "Narrow",
    bytes: 16,
    registers: 16,
    latency: 8.0,
    full: 0.5,
    issue: 5.0,
    caches: CACHES,
    packs_from: 4097,
    same_order_as: None,
    archs: &["x86", "x86_64", "aarch64", "wasm32", "wasm64"],
};
/// AVX2 with FMA.
pub const WIDE: Machine =
    Machine { name: "Wide", bytes: 32, latency: 4.0, packs_from: 0, archs: &["x86_64"], ..NARROW };
/// AVX-512. Its full registers take two of the units that half of them take.
pub const WIDEST: Machine = Machine { name: "Widest", bytes: 64, registers: 32, full: 1.0, ..WIDE };
/// No vectors: one scalar a register, one instruction a cycle, as a Cortex-M4F. Of its 32 registers a tile leaves some
/// to the compiler: measured, tiles of 24 accumulators spill and move more than they save. Its tiles add in the order
/// of `Narrow`, and so have its bits.
pub const SCALAR: Machine = Machine {
    name: "Scalar",
    bytes: 4,
    registers: 24,
    latency: 1.0,
    full: 1.0,
    issue: 1.0,
    same_order_as: Some(&NARROW),
    archs: &[],
    ..NARROW
};

/// Every class.
pub const MACHINES: [&Machine; 4] = [&NARROW, &WIDE, &WIDEST, &SCALAR];

/// The classes that an architecture may be of; every one where none is named. Whether WebAssembly has vectors is a
/// feature of the target.
pub fn of(arch: Option<&str>) -> Vec<&'static Machine> {
    let Some(arch) = arch else { return MACHINES.to_vec() };
    let vectors = |m: &&Machine| m.archs.contains(&arch);
    let scalar = |m: &&Machine| m.archs.is_empty() && (arch.starts_with("wasm") || !MACHINES.iter().any(vectors));
    MACHINES.into_iter().filter(|m| vectors(m) || scalar(m)).collect()
}

impl Machine {
    /// How many registers so many scalars take.
    pub fn parts(&self, scalars: usize, size: usize) -> usize {
        (scalars * size).div_ceil(self.bytes)
    }

    /// The most bytes of a panel of lanes: what the second-level cache holds besides other data.
    pub fn panel(&self) -> usize {
        self.caches[1].bytes / 16 * 3
    }

    /// The most bytes of the scalars of a block of rows: they stay in the second-level cache while every panel of lanes
    /// passes by.
    pub fn row_panel(&self) -> usize {
        self.caches[1].bytes / 2
    }

    /// A reduction over more bytes of scalars than this is split: the panel of it falls out of the first-level cache.
    pub fn block(&self) -> usize {
        self.caches[0].bytes / 128 * 5
    }
}
