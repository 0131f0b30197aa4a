//! Compiles the specs of `ops/`, programs at sizes that only the benchmark wants and their variants; with the feature
//! `sizes` those of `sizes/` too, which take minutes.

fn main() {
    let build = cotangent_build::Build::new().ops("ops");
    let build = if std::env::var_os("CARGO_FEATURE_SIZES").is_some() { build.ops("sizes") } else { build };
    build.compile();
}
