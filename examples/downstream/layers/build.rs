//! Every option at once: another module, a prefix, `f64`, arrays of `ndarray`, documentation of our own.

use cotangent_build::{Build, DType, InstructionSet};

fn main() {
    let build = Build::new()
        .ops("ops/matmul.yaml")
        .ops("ops/scale_shift.yaml")
        .templates("templates")
        .module("nn")
        .prefix("my_")
        .dtype(DType::F64)
        .instruction_sets([InstructionSet::Portable, InstructionSet::Avx2])
        .inline_limit(0)
        .ndarray(true);
    // What `compile` does, with a word of our own.
    if let Err(report) = build.try_compile() {
        eprintln!("{} errors in the layers:\n{report}", report.errors());
        std::process::exit(1);
    }
}
