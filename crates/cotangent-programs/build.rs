//! Compiles the specs of `programs/` into functions with their derivatives.

fn main() {
    cotangent_build::Build::new().ops("programs").module("").compile();
}
