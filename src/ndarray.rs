//! Kernels on arrays of the crate `ndarray`: takes arrays and views of any layout, gives the nested arrays that kernels
//! work on.
//!
//! Generated wrappers (`nd` in each kernel's module) stand on this. After it: shapes fit, what is in standard layout
//! has not been copied, and no array was written unless all of them fit.
//!
//! An argument is an [`ArrayRef`], which `Array`, `ArrayView` and `ArrayViewMut` all are by themselves, as a `Vec` is a
//! slice: `forward(&x, &y.slice(s![..32, ..]), &mut z)`.

use crate::real::Real;
use crate::tensor::Tensor;
use alloc::vec::Vec;
use core::fmt;

/// The crate itself, of the version that the wrappers take arrays of.
pub use ::ndarray;
pub use ::ndarray::{ArrayRef, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn};

/// A tensor as an array: the number of its dimensions is known to the compiler, up to six of them.
///
/// ```
/// use cotangent::ndarray::{Dimension, Ix2, Shaped};
/// fn rank<T: Shaped>() -> Option<usize> {
///     T::Dim::NDIM
/// }
/// assert_eq!(rank::<[[f32; 3]; 2]>(), Some(2));
/// assert_eq!(<[[f32; 3]; 2]>::shape(), [2, 3]);
/// ```
pub trait Shaped: Tensor {
    /// The type of the array's dimension.
    type Dim: Dimension;

    /// Whether these are the extents.
    fn has_shape(shape: &[usize]) -> bool;

    /// The extents, the outermost first.
    #[must_use]
    fn shape() -> Vec<usize> {
        let mut shape = Vec::new();
        Self::extents(&mut shape);
        shape
    }

    #[doc(hidden)]
    fn extents(to: &mut Vec<usize>);

    /// As many tensors as lie in the elements, one after the other.
    #[doc(hidden)]
    fn all(flat: &[Self::Scalar]) -> &[Self];

    #[doc(hidden)]
    fn all_mut(flat: &mut [Self::Scalar]) -> &mut [Self];
}

macro_rules! scalar {
    ($($t:ident)*) => {
        $(impl Shaped for $t {
            type Dim = Ix0;

            #[inline(always)]
            fn has_shape(shape: &[usize]) -> bool {
                shape.is_empty()
            }

            fn extents(_: &mut Vec<usize>) {}

            #[inline(always)]
            fn all(flat: &[$t]) -> &[$t] {
                flat
            }

            #[inline(always)]
            fn all_mut(flat: &mut [$t]) -> &mut [$t] {
                flat
            }
        })*
    };
}

scalar! { f32 f64 }

impl<T: Shaped, const N: usize> Shaped for [T; N] {
    type Dim = <T::Dim as Dimension>::Larger;

    #[inline(always)]
    fn has_shape(shape: &[usize]) -> bool {
        matches!(shape, [n, inner @ ..] if *n == N && T::has_shape(inner))
    }

    fn extents(to: &mut Vec<usize>) {
        to.push(N);
        T::extents(to);
    }

    #[inline(always)]
    fn all(flat: &[T::Scalar]) -> &[Self] {
        T::all(flat).as_chunks().0
    }

    #[inline(always)]
    fn all_mut(flat: &mut [T::Scalar]) -> &mut [Self] {
        T::all_mut(flat).as_chunks_mut().0
    }
}

/// An array that a kernel cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// It has another shape.
    Shape {
        /// Which argument it is.
        argument: &'static str,
        /// The tensor's extents.
        expected: Vec<usize>,
        /// The array's.
        found: Vec<usize>,
    },
    /// It does not lie row after row without gaps, and copies were not wanted.
    Layout {
        /// Which argument it is.
        argument: &'static str,
        /// Its extents, which fit.
        shape: Vec<usize>,
        /// Its strides, in elements.
        strides: Vec<isize>,
    },
}

impl Misfit {
    /// The name of the argument, as the kernel has it.
    #[must_use]
    pub fn argument(&self) -> &'static str {
        match self {
            Misfit::Shape { argument, .. } | Misfit::Layout { argument, .. } => argument,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Shape { argument, expected, found } => {
                write!(f, "`{argument}` has the shape {found:?}, not {expected:?}")
            }
            Misfit::Layout { argument, shape, strides } => {
                write!(
                    f,
                    "`{argument}` of the shape {shape:?} has the strides {strides:?}, not those of standard layout"
                )
            }
        }
    }
}

impl core::error::Error for Misfit {}

/// The array of a tensor.
type Array<T> = ArrayRef<<T as Tensor>::Scalar, <T as Shaped>::Dim>;

#[inline(always)]
fn check<T: Shaped>(argument: &'static str, array: &Array<T>) -> Result<(), Misfit> {
    if T::has_shape(array.shape()) { Ok(()) } else { Err(other_shape::<T>(argument, array.shape())) }
}

#[cold]
fn other_shape<T: Shaped>(argument: &'static str, found: &[usize]) -> Misfit {
    Misfit::Shape { argument, expected: T::shape(), found: found.to_vec() }
}

#[cold]
fn other_layout<S: Real, D: Dimension>(argument: &'static str, array: &ArrayRef<S, D>) -> Misfit {
    Misfit::Layout { argument, shape: array.shape().to_vec(), strides: array.strides().to_vec() }
}

/// The one tensor that lies in the elements.
#[inline(always)]
fn tensor<T: Shaped>(flat: &[T::Scalar]) -> &T {
    &T::all(flat)[0]
}

#[inline(always)]
fn tensor_mut<T: Shaped>(flat: &mut [T::Scalar]) -> &mut T {
    &mut T::all_mut(flat)[0]
}

/// The tensor where the array is.
///
/// # Errors
/// Another shape, or a layout other than the standard one.
#[inline(always)]
pub fn borrow<'a, T: Shaped>(argument: &'static str, array: &'a Array<T>) -> Result<&'a T, Misfit> {
    check::<T>(argument, array)?;
    array.as_slice().map(tensor).ok_or_else(|| other_layout(argument, array))
}

/// The tensor where the array is, to be written.
///
/// # Errors
/// Another shape, or a layout other than the standard one.
#[inline(always)]
pub fn borrow_mut<'a, T: Shaped>(argument: &'static str, array: &'a mut Array<T>) -> Result<&'a mut T, Misfit> {
    check::<T>(argument, array)?;
    if !array.is_standard_layout() {
        return Err(other_layout(argument, array));
    }
    Ok(tensor_mut(array.as_slice_mut().unwrap_or_default()))
}

/// A tensor that a kernel reads.
pub enum Read<'a, T: Shaped> {
    /// Where the array is.
    Borrowed(&'a T),
    /// A copy of its elements.
    Copied(Vec<T::Scalar>),
}

impl<T: Shaped> Read<'_, T> {
    /// The tensor.
    #[inline(always)]
    pub fn tensor(&self) -> &T {
        match self {
            Read::Borrowed(t) => t,
            Read::Copied(flat) => tensor(flat),
        }
    }
}

/// The tensor where the array is, or a copy of it.
///
/// # Errors
/// Another shape.
#[inline(always)]
pub fn read<'a, T: Shaped>(argument: &'static str, array: &'a Array<T>) -> Result<Read<'a, T>, Misfit> {
    check::<T>(argument, array)?;
    Ok(array.as_slice().map_or_else(|| Read::Copied(elements(array)), |flat| Read::Borrowed(tensor(flat))))
}

/// The elements in standard order.
#[cold]
fn elements<S: Real, D: Dimension>(array: &ArrayRef<S, D>) -> Vec<S> {
    array.iter().copied().collect()
}

/// A tensor that a kernel writes.
pub enum Write<'a, T: Shaped> {
    /// Where the array is.
    Borrowed(&'a mut T),
    /// Elements that go into the array when they are [stored](Write::store).
    Copied(Vec<T::Scalar>, &'a mut Array<T>),
}

impl<T: Shaped> Write<'_, T> {
    /// The tensor.
    #[inline(always)]
    pub fn tensor(&mut self) -> &mut T {
        match self {
            Write::Borrowed(t) => t,
            Write::Copied(flat, _) => tensor_mut(flat),
        }
    }

    /// Brings what was written to where it belongs.
    #[inline(always)]
    pub fn store(self) {
        if let Write::Copied(flat, array) = self {
            scatter(&flat, array);
        }
    }
}

#[cold]
fn scatter<S: Real, D: Dimension>(flat: &[S], array: &mut ArrayRef<S, D>) {
    array.iter_mut().zip(flat).for_each(|(to, from)| *to = *from);
}

/// The tensor where the array is, or zeros that take its place until they are stored: for what is written as a whole.
///
/// # Errors
/// Another shape.
#[inline(always)]
pub fn write<'a, T: Shaped>(argument: &'static str, array: &'a mut Array<T>) -> Result<Write<'a, T>, Misfit> {
    start::<T>(argument, array, |_| alloc::vec![T::Scalar::ZERO; T::LEN])
}

/// The tensor where the array is, or a copy that takes its place until it is stored: for what is added to.
///
/// # Errors
/// Another shape.
#[inline(always)]
pub fn update<'a, T: Shaped>(argument: &'static str, array: &'a mut Array<T>) -> Result<Write<'a, T>, Misfit> {
    start::<T>(argument, array, elements)
}

#[inline(always)]
fn start<'a, T: Shaped>(
    argument: &'static str,
    array: &'a mut Array<T>,
    copy: impl FnOnce(&Array<T>) -> Vec<T::Scalar>,
) -> Result<Write<'a, T>, Misfit> {
    check::<T>(argument, array)?;
    if array.is_standard_layout() {
        return Ok(Write::Borrowed(tensor_mut(array.as_slice_mut().unwrap_or_default())));
    }
    Ok(Write::Copied(copy(array), array))
}
