//! Compiles the specs of `ops/`.

fn main() {
    cotangent_build::Build::new().ops("ops").compile();
}
