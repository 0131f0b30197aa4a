//! The rows of the instruction sets: takes them, gives a panic where they are not those of the runtime and of the
//! classes of machines.

use cotangent_build::InstructionSet;
use cotangent_build::instructions::Row;
use cotangent_build::nest::machine::MACHINES;
use std::collections::BTreeSet;

/// `(constant, name, class)` of each implementation in the runtime's sources but the portable one.
fn implemented() -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for (file, text) in cotangent_build::shipped::RUNTIME.iter().filter(|(file, _)| file.starts_with("isa/")) {
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
    let text =
        |file: &str| cotangent_build::shipped::RUNTIME.iter().find(|(name, _)| *name == file).expect("a source").1;
    let sets = text("isa/mod.rs").split("pub mod sets {").nth(1).and_then(|t| t.split("\n}").next()).expect("bits");
    let bits: BTreeSet<_> = sets.split("pub const ").skip(1).filter_map(|t| t.split(':').next()).collect();
    let named: BTreeSet<_> = rows.iter().filter_map(|row| row.constant).chain(["ALL"]).collect();
    assert_eq!(bits, named);
    for row in rows.iter().filter(|row| !row.features.is_empty()) {
        let entry = format!("#[target_feature(enable = \"{}\")]\n            unsafe fn {}(", row.features, row.name);
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
