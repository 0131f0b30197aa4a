//! What the benchmarks measure with: takes contestants, gives their times, measured in turns with those of the core's
//! limits.
//!
//! Holds: nothing here knows an op, a program or a library that kernels are compared with.
#![warn(missing_docs)]

mod aligned;
pub mod machine;
mod rounds;

pub use aligned::{Aligned, Number, Places, fill};
pub use rounds::{Contestant, Core, Plan, Samples, Time, core_contestants, core_of, fastest, rounds};
