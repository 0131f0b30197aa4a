//! Workspaces: takes a number of scalars, gives memory that the caller of a program provides, and places in it. Nothing is allocated.
//!
//! Holds for a place: it is a tensor of the workspace's own memory, and no other place that is taken from what it left meets it.

use crate::real::Real;
use crate::tensor::Tensor;

/// What a program keeps between its steps: `N` scalars, of whatever value. It may stand in a `static`, on the heap or on the stack, and be used
/// again by any call; one that two calls use at the same time there cannot be.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Workspace<T, const N: usize>([T; N]);

impl<T: Real, const N: usize> Workspace<T, N> {
    /// The number of bytes.
    pub const BYTES: usize = size_of::<Self>();

    /// Zeros.
    #[must_use]
    pub const fn new() -> Self {
        Workspace([T::ZERO; N])
    }

    /// Its scalars, to take places from.
    #[doc(hidden)]
    #[inline(always)]
    pub fn scalars(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Real, const N: usize> Default for Workspace<T, N> {
    fn default() -> Self {
        Workspace::new()
    }
}

/// The tensor that begins so many scalars further on, and what is behind it; `None` where that is too little.
#[doc(hidden)]
#[inline(always)]
pub fn take<V: Tensor>(rest: &mut [V::Scalar], skip: usize) -> Option<(&mut V, &mut [V::Scalar])> {
    let (own, rest) = rest.get_mut(skip..)?.split_at_mut_checked(V::LEN)?;
    Some((V::nested_slice_mut(own).first_mut()?, rest))
}
