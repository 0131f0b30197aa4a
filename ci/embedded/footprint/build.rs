//! Compiles the fixture's shapes beside the bundled kernels: what they publish is in the report.

fn main() {
    cotangent_build::Build::new().ops("../fixture/shapes").compile();
}
