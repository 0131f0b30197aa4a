//! The instruction sets that kernels may be compiled for: takes nothing, gives a row for each. The options, the choice
//! of classes to schedule, the emitter and the runtime that is written into a file ask the row.
//!
//! Holds after it: the rows are those of the runtime's `isa` (`tests/compiler/units/instructions.rs`), and of
//! `nest::machine` by name.

use std::fmt;
use std::str::FromStr;

/// What is known of an instruction set.
pub struct Row {
    /// What the command line and `COTANGENT_ISA` call it.
    pub name: &'static str,
    /// The constant of the runtime's `isa::sets`; the portable one has none, as it is always there.
    pub constant: Option<&'static str>,
    /// The architecture that has it, as cargo names it; every one where none is named.
    pub arch: Option<&'static str>,
    /// The target features that it stands for, as `#[target_feature]` takes them; of an architecture's own none.
    pub features: &'static str,
    /// The classes of machines whose schedules it runs, by their names.
    pub machines: &'static [&'static str],
}

macro_rules! instruction_sets {
    ($($(#[$doc:meta])* $variant:ident {$($row:tt)*})*) => {
        /// Instructions that kernels may be compiled for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum InstructionSet { $($(#[$doc])* $variant),* }

        impl InstructionSet {
            const ROWS: &[Row] = &[$(Row { $($row)* }),*];
            /// Every one.
            pub const ALL: [InstructionSet; InstructionSet::ROWS.len()] = [$(InstructionSet::$variant),*];
        }
    };
}

instruction_sets! {
    /// What every machine of the target has, rounded after each operation: the same bits everywhere.
    Portable { name: "portable", constant: None, arch: None, features: "", machines: &["Narrow", "Scalar"] }
    /// AVX2 with FMA, on x86-64.
    Avx2 { name: "avx2", constant: Some("AVX2"), arch: Some("x86_64"), features: "avx2,fma", machines: &["Wide"] }
    /// AVX-512 F, VL, BW and DQ, on x86-64.
    Avx512 {
        name: "avx512", constant: Some("AVX512"), arch: Some("x86_64"),
        features: "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", machines: &["Widest"]
    }
    /// On 64-bit ARM.
    Neon { name: "neon", constant: Some("NEON"), arch: Some("aarch64"), features: "", machines: &["Narrow"] }
}

impl InstructionSet {
    /// All that is known of it.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &InstructionSet::ROWS[self as usize]
    }

    /// What the command line and `COTANGENT_ISA` call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for InstructionSet {
    type Err = String;

    /// Reads a [`InstructionSet::name`].
    fn from_str(text: &str) -> Result<Self, String> {
        InstructionSet::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| {
            format!(
                "no instruction set `{text}`: there are {}",
                InstructionSet::ALL.map(InstructionSet::name).join(", ")
            )
        })
    }
}
