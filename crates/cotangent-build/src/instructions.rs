//! The instruction sets that kernels may be compiled for: takes nothing, gives a row for each. The options, the choice
//! of classes to schedule, the emitter and the runtime that is written into a file ask the row.
//!
//! Holds after it: the rows are those of the runtime's `isa` (test below), and of `nest::machine` by name.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nest::machine::MACHINES;
    use std::collections::BTreeSet;

    /// `(constant, name, class)` of each implementation in the runtime's sources but the portable one.
    fn implemented() -> BTreeSet<(String, String, String)> {
        let mut all = BTreeSet::new();
        for (file, text) in crate::shipped::RUNTIME.iter().filter(|(file, _)| file.starts_with("isa/")) {
            // By a macro: `isa!(Avx2, AVX2, "avx2", Wide, false);`.
            for line in text.lines().filter_map(|l| l.strip_prefix("isa!(")) {
                let parts: Vec<_> = line.split(", ").map(|p| p.trim_matches('"')).collect();
                all.insert((parts[1].into(), parts[2].into(), parts[3].into()));
            }
            let said = |what: &str| {
                let rest = text.split(what).nth(1)?;
                Some(rest[..rest.find(';')?].trim_matches('"').to_string())
            };
            if let (Some(set), Some(name), Some(class)) = (
                said("const SET: u8 = sets::").filter(|s| !s.starts_with('$')),
                said("const NAME: &'static str = "),
                said("const MACHINE: Machine = Machine::"),
            ) {
                assert!(!file.ends_with("mod.rs"));
                all.insert((set, name, class));
            }
        }
        all
    }

    #[test]
    fn the_runtime_has_these_and_no_others() {
        let rows = InstructionSet::ALL.iter().map(|s| s.row()).filter(|row| row.constant.is_some());
        let rows: Vec<&Row> = rows.collect();
        let own: BTreeSet<_> = rows
            .iter()
            .map(|row| (row.constant.unwrap_or_default().into(), row.name.into(), row.machines[0].into()))
            .collect();
        assert_eq!(implemented(), own);
        let text = |file: &str| crate::shipped::RUNTIME.iter().find(|(name, _)| *name == file).expect("a source").1;
        let sets = text("isa/mod.rs").split("pub mod sets {").nth(1).and_then(|t| t.split("\n}").next()).expect("bits");
        let bits: BTreeSet<_> = sets.split("pub const ").skip(1).filter_map(|t| t.split(':').next()).collect();
        let named: BTreeSet<_> = rows.iter().filter_map(|row| row.constant).chain(["ALL"]).collect();
        assert_eq!(bits, named);
        for row in rows.iter().filter(|row| !row.features.is_empty()) {
            let entry =
                format!("#[target_feature(enable = \"{}\")]\n            unsafe fn {}(", row.features, row.name);
            assert!(text("isa/mod.rs").contains(&entry), "{} is not entered with {}", row.name, row.features);
            for feature in row.features.split(',') {
                assert!(text("isa/x86.rs").contains(&format!("has!(\"{feature}\")")), "{feature} is not looked for");
            }
        }
    }

    #[test]
    fn every_class_runs_some_set_of_its_architectures() {
        for machine in MACHINES {
            let runs = |s: &&InstructionSet| s.row().machines.contains(&machine.name);
            let sets: Vec<_> = InstructionSet::ALL.iter().filter(runs).collect();
            assert!(!sets.is_empty(), "{}", machine.name);
            for arch in sets.iter().filter_map(|s| s.row().arch) {
                assert!(machine.archs.contains(&arch), "{} on {arch}", machine.name);
            }
        }
        let known = |name: &&str| MACHINES.iter().any(|m| m.name == *name);
        assert!(InstructionSet::ALL.iter().all(|s| s.row().machines.iter().all(&known)));
    }
}
