//! Two sets of kernels: one for the machine, one whose results are the same bits everywhere.

use cotangent_build::{Build, InstructionSet};
use std::path::Path;

fn main() {
    Build::new().ops("ops").compile();

    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    Build::new()
        .ops("vendor")
        .module("portable")
        .out_dir(Path::new(&out).join("portable"))
        .instruction_sets([InstructionSet::Portable])
        .compile();
}
