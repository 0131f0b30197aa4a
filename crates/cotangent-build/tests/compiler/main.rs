//! The tests of the compiler, in one program: it is linked once, and its tests run beside each other. What takes times
//! stands alone (`scale.rs`).

mod arrows;
mod branches;
mod build;
mod builder;
mod c;
mod calls;
mod certificate;
mod conditions;
mod derive;
mod emitted;
mod formulas;
mod generated;
mod golden;
mod hostile;
mod layouts;
mod mutants;
mod names;
mod order;
mod panics;
mod passes;
mod presence;
mod programs;
mod random;
mod recurrences;
mod reference;
mod render;
mod specs;
mod stack;
mod text;
mod tiles;
mod ui;
mod unasked;
mod units;
mod unrolled;
mod validate;

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::source::{SourceId, Sources};
use std::path::Path;

/// The ops that ship, and the lists of further instances of them that tests have.
fn ops_and_lists(sources: &mut Sources, out: &mut Diagnostics) -> Vec<SourceId> {
    let folders = ["../../ops", "../../tests/reference/instances"];
    folders.iter().flat_map(|folder| cotangent_build::load(Path::new(folder), sources, out)).collect()
}
