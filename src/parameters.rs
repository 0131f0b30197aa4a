//! Parameters: takes what a program is differentiated by, several tensors in one struct, gives their scalars slice by
//! slice, so that an optimiser is written once for every program.
//!
//! Holds: the slices come in the order of the fields, and hold each scalar once.

use crate::real::Real;

/// A struct of tensors of one scalar type; generated for each program whose gradient there is.
pub trait Parameters: Copy + 'static {
    /// The type of the elements.
    type Scalar: Real;
    /// Zero everywhere.
    const ZERO: Self;
    /// The number of scalars.
    const LEN: usize;

    /// The scalars of each tensor.
    fn slices(&self) -> impl Iterator<Item = &[Self::Scalar]>;

    /// The scalars of each tensor, to be changed in place.
    fn slices_mut(&mut self) -> impl Iterator<Item = &mut [Self::Scalar]>;
}
