//! The machines that schedules are made for: takes nothing, gives what a cost model needs to know of each.
//!
//! A class stands for many processors. Its [`Core`]s are those on which schedules are weighed: the one is taken that
//! loses least on the core where it loses most.

use crate::cores::{Cache, Core};

/// A class of machines, as `cotangent::isa::Machine`.
#[derive(Debug, PartialEq)]
pub struct Machine {
    /// The variant's name in the runtime.
    pub name: &'static str,
    /// Bytes of a register: of a vector's, or of a scalar's where there are no vectors.
    pub bytes: usize,
    /// Such registers.
    pub registers: usize,
    /// The cores on which schedules are weighed. Costs are in cycles of the first.
    pub cores: &'static [&'static Core],
    /// The first- and the second-level cache that a core of the class has at least: they bound panels and blocks.
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

/// What most cores have at least.
const CACHES: [Cache; 2] =
    [Cache { bytes: 32 * 1024, ways: 8, cycles: 1.0 }, Cache { bytes: 512 * 1024, ways: 8, cycles: 4.0 }];

/// SSE2, NEON, SIMD128.
pub const NARROW: Machine = Machine {
    name: "Narrow",
    bytes: 16,
    registers: 16,
    cores: &[&Core::X86_64, &Core::NEOVERSE_N1, &Core::NEOVERSE_V2, &Core::CORTEX_A72, &Core::APPLE_M1],
    caches: CACHES,
    packs_from: 4097,
    same_order_as: None,
    archs: &["x86", "x86_64", "aarch64", "wasm32", "wasm64"],
};
/// AVX2 with FMA.
pub const WIDE: Machine = Machine {
    name: "Wide",
    bytes: 32,
    cores: &[&Core::SKYLAKE, &Core::HASWELL, &Core::ALDER_LAKE, &Core::ZEN_3],
    packs_from: 0,
    archs: &["x86_64"],
    ..NARROW
};
/// AVX-512.
pub const WIDEST: Machine = Machine {
    name: "Widest",
    bytes: 64,
    registers: 32,
    cores: &[&Core::ZEN_4, &Core::ZEN_5, &Core::SAPPHIRE_RAPIDS],
    ..WIDE
};
/// No vectors: one scalar a register. Of the 32 registers of a Cortex-M4F a tile leaves some to the compiler: measured,
/// tiles of 24 accumulators spill and move more than they save. Its tiles add in the order of `Narrow`, and so have its
/// bits.
pub const SCALAR: Machine = Machine {
    name: "Scalar",
    bytes: 4,
    registers: 24,
    cores: &[&Core::CORTEX_M4, &Core::CORTEX_M7, &Core::CORTEX_M0_PLUS, &Core::RV32],
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
