//! Compiles the op specs of `ops/` into the bundled kernels.

fn main() {
    cotangent_build::Build::new().ops("ops").templates("templates").compile();
}
