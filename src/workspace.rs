//! Workspaces: takes a number of scalars, gives memory that the caller of a program provides, and places in it. Nothing
//! is allocated.
//!
//! Holds for a place: it is a tensor of the workspace's own memory, and no other place that is taken from what it left
//! meets it.

use crate::real::Real;
use crate::tensor::Tensor;

/// What a program keeps between its steps: `N` scalars, of whatever value. It may stand in a `static`, on the heap or
/// on the stack, and be used again by any call. Two calls cannot share one at the same time: each borrows it mutably.
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

/// Tensors in a row of scalars: a tuple of one to sixteen.
#[doc(hidden)]
pub trait Places<'a>: Sized {
    type Scalar: Real;
    /// For each tensor the scalars between it and the one before.
    type Skips;
    fn take(rest: &'a mut [Self::Scalar], skips: Self::Skips) -> Option<(Self, &'a mut [Self::Scalar])>;
}

macro_rules! places {
    () => {};
    ($last:ident $($others:ident)*) => {
        places!(@ $last $($others)*);
        places!($($others)*);
    };
    (@ $($one:ident)*) => {
        impl<'a, S: Real, $($one: Tensor<Scalar = S>),*> Places<'a> for ($(&'a mut $one,)*) {
            type Scalar = S;
            type Skips = [usize; [$(stringify!($one)),*].len()];

            #[inline(always)]
            #[allow(non_snake_case)]
            fn take(rest: &'a mut [S], skips: Self::Skips) -> Option<(Self, &'a mut [S])> {
                let [$($one),*] = skips;
                $(let ($one, rest) = place(rest, $one)?;)*
                Some((($($one,)*), rest))
            }
        }
    };
}
places!(A B C D E F G H I J K L M N O P);

/// The tensor that begins so many scalars further on, and what is behind it; `None` where that is too little.
#[inline(always)]
fn place<V: Tensor>(rest: &mut [V::Scalar], skip: usize) -> Option<(&mut V, &mut [V::Scalar])> {
    let (own, rest) = rest.get_mut(skip..)?.split_at_mut_checked(V::LEN)?;
    Some((V::nested_slice_mut(own).first_mut()?, rest))
}

/// The tensors, each so many scalars behind the one before, and what is behind the last; `None` where that is too
/// little.
#[doc(hidden)]
#[inline(always)]
pub fn take<'a, V: Places<'a>>(rest: &'a mut [V::Scalar], skips: V::Skips) -> Option<(V, &'a mut [V::Scalar])> {
    V::take(rest, skips)
}
