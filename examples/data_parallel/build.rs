//! Compiles the specs of `ops/`: the kernels that this example calls, and no others.

fn main() {
    cotangent_build::Build::new().ops("ops").compile();
}
