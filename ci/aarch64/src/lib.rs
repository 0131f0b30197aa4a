//! What the tests are of, besides the crate itself.

/// The instances of bundled ops that only tests use: the lists of `tests/reference/instances`.
pub mod instances {
    include!(concat!(env!("OUT_DIR"), "/instances/mod.rs"));
}
