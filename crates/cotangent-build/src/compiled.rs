//! A kernel as the schedule leaves it: takes what the stages made of an instance, gives it to validation and emission.
//!
//! Holds after it: `plans` and `nests` have one entry for each function of the kernel; nests have the functions that
//! are not carried out in stages.

use crate::certify::Certified;
use crate::nest::Nest;
use crate::nest::plan::Plan;
use crate::plain::Kernel;
use crate::types::InstanceSpec;
use std::fmt;

/// A kernel with its nests, ready to be written down.
pub struct Compiled<'a> {
    pub certified: &'a Certified,
    pub instance: &'a InstanceSpec,
    pub kernel: Kernel,
    /// Of each function.
    pub plans: Vec<Plan>,
    /// The nests of each function, for different machines.
    pub nests: Vec<Vec<Nest>>,
    /// How the nests were validated, if they were.
    pub validation: Option<Validation>,
}

/// What was validated of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validation {
    /// Functions of which all that the nests write was compared.
    pub whole: usize,
    /// Functions of which the corners of each piece were compared.
    pub pieces: usize,
    /// Functions that are too large for either.
    pub none: usize,
    /// In integers modulo 2^61 - 1.
    pub exact: usize,
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Validation { whole, pieces, none, exact } = self;
        let all = whole + pieces + none;
        write!(f, "the loops of {} of {all} functions", whole + pieces)?;
        if *pieces > 0 {
            write!(f, ", {whole} at every element and {pieces} at the corners of each piece")?;
        }
        write!(f, ", {exact} of them in the integers modulo 2^61 - 1")
    }
}
