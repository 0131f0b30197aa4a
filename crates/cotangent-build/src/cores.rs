//! The cores that schedules are weighed on: takes nothing, gives for each what it can start in a cycle, and its caches.
//! Figures choose among schedules that are all right; none decides what a kernel computes.
//!
//! Each core names its source: the makers' optimisation manuals, measurements of instructions (uops.info), and the
//! scheduling models of LLVM. Rates count whole registers in a cycle.

/// A core that kernels can be tuned for, with [`Build::tune`](crate::Build::tune).
#[derive(Debug, PartialEq)]
pub struct Core {
    /// The name in options and notes.
    pub(crate) name: &'static str,
    /// Registers as wide as the class of machines has them.
    pub(crate) full: Rates,
    /// Registers of half the width and less.
    pub(crate) half: Rates,
    /// Scalars that are loaded into every lane of a register in a cycle.
    pub(crate) broadcasts: f64,
    /// Cycles between one multiply-add and the next that depends on it.
    pub(crate) latency: f64,
    /// Instructions that start in a cycle.
    pub(crate) issue: f64,
    /// Instructions take their cycles one after the other: what each unit takes is added, where elsewhere the busiest
    /// unit counts.
    pub(crate) in_order: bool,
    /// The first- and the second-level cache.
    pub(crate) caches: [Cache; 2],
    /// Other names: LLVM's, and those of cores that the model does not tell from it.
    pub(crate) aliases: &'static [&'static str],
}

/// Registers in a cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub multiply_adds: f64,
    pub loads: f64,
    pub stores: f64,
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cache {
    pub bytes: usize,
    pub ways: usize,
    /// Cycles that a line from the next level takes.
    pub cycles: f64,
}

/// A cache of so many KiB.
const fn cache(kib: usize, ways: usize, cycles: f64) -> Cache {
    Cache { bytes: kib * 1024, ways, cycles }
}

const fn rates(multiply_adds: f64, loads: f64, stores: f64) -> Rates {
    Rates { multiply_adds, loads, stores }
}

impl Core {
    /// AMD, Software Optimization Guide for the Zen 5 Microarchitecture (58455): two multiply-adds and two loads of 512
    /// bits, one store; 48 KiB in 12 ways. Cycles of lines as `benches/roofline` measures them: 61 bytes a cycle from
    /// the second level, 29 from the third.
    pub const ZEN_5: Core = Core {
        name: "zen5",
        full: rates(2.0, 2.0, 1.0),
        half: rates(2.0, 2.0, 2.0),
        broadcasts: 2.0,
        latency: 4.0,
        issue: 8.0,
        in_order: false,
        caches: [cache(48, 12, 1.0), cache(1024, 16, 2.2)],
        aliases: &["znver5"],
    };
    /// AMD, Software Optimization Guide for the Zen 4 Microarchitecture (57647): registers of 512 bits take two of the
    /// units that 256 bits take; 32 bytes a cycle from the second level.
    pub const ZEN_4: Core = Core {
        name: "zen4",
        full: rates(1.0, 1.0, 0.5),
        half: rates(2.0, 2.0, 1.0),
        issue: 6.0,
        caches: [cache(32, 8, 2.0), cache(1024, 8, 4.0)],
        aliases: &["znver4"],
        ..Core::ZEN_5
    };
    /// Intel, Optimization Reference Manual (248966), Golden Cove; uops.info: two multiply-adds of either width, two
    /// loads of 512 bits or three of 256. Cycles of lines as `benches/roofline` measures them: 45 bytes a cycle from
    /// the second level, 7 from the third.
    pub const SAPPHIRE_RAPIDS: Core = Core {
        name: "sapphirerapids",
        full: rates(2.0, 2.0, 1.0),
        half: rates(2.0, 3.0, 2.0),
        issue: 6.0,
        caches: [cache(48, 12, 1.4), cache(2048, 16, 9.0)],
        aliases: &["emeraldrapids", "graniterapids"],
        ..Core::ZEN_5
    };
    /// AMD, Software Optimization Guide for the Zen 3 Microarchitecture (56665).
    pub const ZEN_3: Core = Core {
        name: "zen3",
        full: rates(2.0, 2.0, 1.0),
        half: rates(2.0, 2.0, 1.0),
        issue: 6.0,
        caches: [cache(32, 8, 2.0), cache(512, 8, 4.0)],
        aliases: &["znver3"],
        ..Core::ZEN_5
    };
    /// Intel, Optimization Reference Manual (248966); uops.info.
    pub const HASWELL: Core = Core {
        name: "haswell",
        latency: 5.0,
        issue: 4.0,
        caches: [cache(32, 8, 1.0), cache(256, 8, 4.0)],
        aliases: &["broadwell"],
        ..Core::ZEN_3
    };
    /// Intel, Optimization Reference Manual (248966); uops.info.
    pub const SKYLAKE: Core = Core {
        name: "skylake",
        latency: 4.0,
        caches: [cache(32, 8, 1.0), cache(256, 4, 4.0)],
        aliases: &["kabylake", "cometlake"],
        ..Core::HASWELL
    };
    /// Intel, Optimization Reference Manual (248966), Golden Cove without AVX-512; uops.info.
    pub const ALDER_LAKE: Core = Core {
        name: "alderlake",
        full: rates(2.0, 3.0, 2.0),
        half: rates(2.0, 3.0, 2.0),
        broadcasts: 3.0,
        issue: 6.0,
        caches: [cache(48, 12, 1.0), cache(1280, 10, 4.0)],
        aliases: &["raptorlake"],
        ..Core::SKYLAKE
    };
    /// The instructions of every x86-64 on the units of [`Core::SKYLAKE`]: a multiplication and an addition take the
    /// two units that a multiply-add takes one of.
    pub const X86_64: Core =
        Core { name: "x86-64", full: rates(1.0, 2.0, 1.0), half: rates(1.0, 2.0, 1.0), aliases: &[], ..Core::SKYLAKE };
    /// Arm, Neoverse N1 Software Optimization Guide (109896).
    pub const NEOVERSE_N1: Core = Core {
        name: "neoverse-n1",
        full: rates(2.0, 2.0, 1.0),
        half: rates(2.0, 2.0, 2.0),
        issue: 4.0,
        caches: [cache(64, 4, 2.0), cache(1024, 8, 4.0)],
        aliases: &["cortex-a76"],
        ..Core::SKYLAKE
    };
    /// Arm, Neoverse V2 Core Software Optimization Guide (109898).
    pub const NEOVERSE_V2: Core = Core {
        name: "neoverse-v2",
        full: rates(4.0, 3.0, 2.0),
        half: rates(4.0, 3.0, 2.0),
        broadcasts: 3.0,
        issue: 8.0,
        caches: [cache(64, 4, 2.0), cache(2048, 8, 4.0)],
        aliases: &["neoverse-v3"],
        ..Core::NEOVERSE_N1
    };
    /// Arm, Cortex-A72 Software Optimization Guide; LLVM schedules it as a Cortex-A57: a register of 128 bits takes
    /// both units.
    pub const CORTEX_A72: Core = Core {
        name: "cortex-a72",
        full: rates(1.0, 1.0, 1.0),
        half: rates(2.0, 1.0, 1.0),
        broadcasts: 1.0,
        latency: 7.0,
        issue: 3.0,
        caches: [cache(32, 2, 2.0), cache(1024, 16, 4.0)],
        aliases: &["cortex-a57"],
        ..Core::NEOVERSE_N1
    };
    /// D. Johnson's measurements of Apple's M1; LLVM's model of A14.
    pub const APPLE_M1: Core = Core {
        name: "apple-m1",
        full: rates(4.0, 3.0, 2.0),
        half: rates(4.0, 3.0, 2.0),
        broadcasts: 3.0,
        issue: 8.0,
        caches: [cache(128, 8, 2.0), cache(12 * 1024, 12, 4.0)],
        aliases: &["apple-a14", "apple-m2"],
        ..Core::NEOVERSE_N1
    };
    /// Arm, Cortex-M4 Technical Reference Manual (100166): `vfma` takes three cycles, loads and stores two at first and
    /// one each after it.
    pub const CORTEX_M4: Core = Core {
        name: "cortex-m4",
        full: rates(1.0 / 3.0, 1.0, 1.0),
        half: rates(1.0 / 3.0, 1.0, 1.0),
        broadcasts: 1.0,
        latency: 1.0,
        issue: 1.0,
        in_order: true,
        aliases: &["cortex-m33"],
        ..Core::SKYLAKE
    };
    /// Arm, Cortex-M7 Technical Reference Manual (DDI 0489): two instructions start in a cycle, one of them a
    /// multiply-add.
    pub const CORTEX_M7: Core = Core {
        name: "cortex-m7",
        full: rates(1.0, 1.0, 1.0),
        half: rates(1.0, 1.0, 1.0),
        latency: 3.0,
        issue: 2.0,
        in_order: false,
        aliases: &["cortex-m55"],
        ..Core::CORTEX_M4
    };
    /// Arm, Cortex-M0+ Technical Reference Manual (DDI 0484): no unit for floats, so a multiply-add calls two routines,
    /// some hundred cycles.
    pub const CORTEX_M0_PLUS: Core = Core {
        name: "cortex-m0plus",
        full: rates(0.01, 0.5, 0.5),
        half: rates(0.01, 0.5, 0.5),
        broadcasts: 0.5,
        aliases: &[],
        ..Core::CORTEX_M4
    };
    /// A core of RV32IMC in order, without a unit for floats.
    pub const RV32: Core = Core { name: "rv32imc", ..Core::CORTEX_M0_PLUS };

    /// The name in options and notes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The same with other caches: small ones show every way to pack.
    #[doc(hidden)]
    #[must_use]
    pub fn with_caches(&self, caches: [Cache; 2]) -> Core {
        Core { caches, ..*self }
    }

    /// What names it besides its name.
    #[doc(hidden)]
    #[must_use]
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// The core of a name, or of one of its aliases.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Core> {
        CORES.into_iter().find(|c| c.name == name || c.aliases.contains(&name))
    }
}

/// Every core.
pub const CORES: [&Core; 16] = [
    &Core::ZEN_5,
    &Core::ZEN_4,
    &Core::SAPPHIRE_RAPIDS,
    &Core::ZEN_3,
    &Core::HASWELL,
    &Core::SKYLAKE,
    &Core::ALDER_LAKE,
    &Core::X86_64,
    &Core::NEOVERSE_N1,
    &Core::NEOVERSE_V2,
    &Core::CORTEX_A72,
    &Core::APPLE_M1,
    &Core::CORTEX_M4,
    &Core::CORTEX_M7,
    &Core::CORTEX_M0_PLUS,
    &Core::RV32,
];
