//! The machines that schedules are made for: takes nothing, gives what a cost model needs to know of each.
//!
//! A class stands for many processors; the figures are those of common cores, and only choose among schedules that are all right.

/// A class of machines, as `cotangent::isa::Machine`.
#[derive(Debug, PartialEq)]
pub struct Machine {
    /// The variant's name in the runtime.
    pub name: &'static str,
    /// Bytes of a vector register.
    pub bytes: usize,
    /// Vector registers.
    pub registers: usize,
    /// Cycles between one fused multiply-add of a full register and the next that depends on it.
    pub latency: f64,
    /// Cycles that a full register's multiply-add or load takes of its units.
    pub full: f64,
}

/// SSE2, NEON, and what has no vectors: registers of 16 bytes.
pub const NARROW: Machine = Machine { name: "Narrow", bytes: 16, registers: 16, latency: 8.0, full: 0.5 };
/// AVX2 with FMA.
pub const WIDE: Machine = Machine { name: "Wide", bytes: 32, registers: 16, latency: 4.0, full: 0.5 };
/// AVX-512. Its full registers take two of the units that half of them take.
pub const WIDEST: Machine = Machine { name: "Widest", bytes: 64, registers: 32, latency: 4.0, full: 1.0 };

/// Every class.
pub const MACHINES: [&Machine; 3] = [&NARROW, &WIDE, &WIDEST];
