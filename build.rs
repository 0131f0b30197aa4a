//! Compiles the op specs of `ops/` into the bundled kernels, if they are wanted.

fn main() {
    #[cfg(feature = "bundled")]
    cotangent_build::Build::new().ops("ops").templates("templates").ndarray(cfg!(feature = "ndarray")).compile();
    #[cfg(not(feature = "bundled"))]
    println!("cargo::rerun-if-changed=build.rs");
}
