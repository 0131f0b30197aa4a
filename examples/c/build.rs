//! Compiles the specs to kernels with wrappers for C, and writes the header beside the sources, where C programs look
//! for it.

fn main() {
    cotangent_build::Build::new()
        .ops("ops")
        .c_header(concat!(env!("CARGO_MANIFEST_DIR"), "/include/layer.h"))
        .c_prefix("layer_")
        .compile();
}
