//! Compiles the bundled specs and the tests' lists once more, for the tests that a build writes beside its kernels:
//! they are read from the folder of the package under test.

use cotangent_build::Build;
use std::path::Path;

fn main() {
    Build::new().ops("../../ops").templates("../../templates").compile();

    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    Build::new()
        .ops("../../tests/reference/instances")
        .module("instances")
        .out_dir(out.join("instances"))
        .cache(out.join("instances.cache"))
        .compile();
}
