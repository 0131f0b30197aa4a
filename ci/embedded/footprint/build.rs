//! Compiles what the fixture has beside the bundled kernels: what they publish is in the report.

use std::path::Path;

fn main() {
    cotangent_build::Build::new().ops("../fixture/shapes").compile();
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    cotangent_build::Build::new()
        .ops("../../../tests/reference/instances")
        .module("instances")
        .out_dir(out.join("instances"))
        .cache(out.join("instances.cache"))
        .compile();
}
