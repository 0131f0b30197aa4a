//! Compiles the bundled specs once more, for the tests that a build writes beside its kernels: they are read from the folder of the package under test.

fn main() {
    cotangent_build::Build::new().ops("../../ops").templates("../../templates").compile();
}
