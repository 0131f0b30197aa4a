//! Tensors: takes nested arrays as they are, gives their scalars as one flat slice, in row-major order.
//!
//! A scalar is the tensor of rank 0; `[T; N]` is one of a rank more than `T`. Nothing else is a tensor.

use crate::real::{Real, sealed::Sealed};

/// A scalar or a nested array of scalars.
///
/// ```
/// use cotangent::tensor::Tensor;
/// let mut x = [[1.0f32, 2.0], [3.0, 4.0]];
/// assert_eq!(x.flat(), [1.0, 2.0, 3.0, 4.0]);
/// x.flat_mut()[2] = 0.0;
/// assert_eq!(x[1][0], 0.0);
/// assert_eq!(<[[f64; 5]; 3]>::LEN, 15);
/// ```
pub trait Tensor: Sealed + Copy + 'static {
    /// The type of the elements.
    type Scalar: Real;
    /// Zero everywhere.
    const ZERO: Self;
    /// The number of elements.
    const LEN: usize;

    /// The elements, the last index running fastest.
    #[inline(always)]
    fn flat(&self) -> &[Self::Scalar] {
        Self::flat_slice(core::slice::from_ref(self))
    }

    /// The elements, to be changed in place.
    #[inline(always)]
    fn flat_mut(&mut self) -> &mut [Self::Scalar] {
        Self::flat_slice_mut(core::slice::from_mut(self))
    }

    /// The elements of several tensors, one after the other.
    #[doc(hidden)]
    fn flat_slice(all: &[Self]) -> &[Self::Scalar];

    #[doc(hidden)]
    fn flat_slice_mut(all: &mut [Self]) -> &mut [Self::Scalar];

    /// The tensors that scalars make, one after the other; what is too few for one more is left out.
    #[doc(hidden)]
    fn nested_slice(flat: &[Self::Scalar]) -> &[Self];

    #[doc(hidden)]
    fn nested_slice_mut(flat: &mut [Self::Scalar]) -> &mut [Self];

    /// Zero everywhere, on the heap. The whole never stands on the stack, only one row of the outermost axis.
    #[cfg(feature = "std")]
    fn zeros() -> std::boxed::Box<Self>;
}

macro_rules! scalar {
    ($($t:ident)*) => {
        $(impl Tensor for $t {
            type Scalar = $t;
            const ZERO: Self = 0.0;
            const LEN: usize = 1;

            #[inline(always)]
            fn flat_slice(all: &[Self]) -> &[$t] {
                all
            }

            #[inline(always)]
            fn flat_slice_mut(all: &mut [Self]) -> &mut [$t] {
                all
            }

            #[inline(always)]
            fn nested_slice(flat: &[$t]) -> &[Self] {
                flat
            }

            #[inline(always)]
            fn nested_slice_mut(flat: &mut [$t]) -> &mut [Self] {
                flat
            }

            #[cfg(feature = "std")]
            fn zeros() -> std::boxed::Box<Self> {
                std::boxed::Box::new(0.0)
            }
        })*
    };
}

scalar! { f32 f64 }

impl<T: Tensor, const N: usize> Tensor for [T; N] {
    type Scalar = T::Scalar;
    const ZERO: Self = [T::ZERO; N];
    const LEN: usize = N * T::LEN;

    #[inline(always)]
    fn flat_slice(all: &[Self]) -> &[T::Scalar] {
        T::flat_slice(all.as_flattened())
    }

    #[inline(always)]
    fn flat_slice_mut(all: &mut [Self]) -> &mut [T::Scalar] {
        T::flat_slice_mut(all.as_flattened_mut())
    }

    #[inline(always)]
    fn nested_slice(flat: &[T::Scalar]) -> &[Self] {
        T::nested_slice(flat).as_chunks::<N>().0
    }

    #[inline(always)]
    fn nested_slice_mut(flat: &mut [T::Scalar]) -> &mut [Self] {
        T::nested_slice_mut(flat).as_chunks_mut::<N>().0
    }

    #[cfg(feature = "std")]
    fn zeros() -> std::boxed::Box<Self> {
        match std::vec![T::ZERO; N].into_boxed_slice().try_into() {
            Ok(all) => all,
            Err(_) => unreachable!("the vector has N rows"),
        }
    }
}
