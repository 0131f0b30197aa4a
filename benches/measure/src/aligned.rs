//! Tensors to measure with: takes a seed, gives memory whose place and content are the same in every run.

use cotangent::Tensor;
use std::ops::{Deref, DerefMut};

/// A scalar that is made from `f64` and compared in it.
pub trait Number: Tensor<Scalar = Self> {
    /// The nearest number of this type.
    fn of(x: f64) -> Self;
    /// The same number.
    fn wide(self) -> f64;
}

impl Number for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Number for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

/// A tensor at the start of a page.
///
/// Not only of a cache line: where a store precedes a load of the same offset in another page by a few lines, the core
/// takes the load for one of what was stored, and waits, in some processes and not in others. The allocator's own
/// layout puts tensors of 4 KiB just so; the sum of 1,024 numbers then took 2 to 10 times as long.
#[repr(align(4096))]
pub struct Aligned<T>(T);

impl<T: Tensor<Scalar: Number>> Aligned<T> {
    /// Zeros, on the heap.
    pub fn zeros() -> Box<Self> {
        Box::new(Aligned(T::ZERO))
    }

    /// Numbers between `-range` and `range`, the same in every run, different for every seed.
    pub fn filled(seed: u32, range: f64) -> Box<Self> {
        let mut tensor = Self::zeros();
        fill(tensor.flat_mut(), seed, -range, range);
        tensor
    }
}

/// Numbers between `lo` and `hi`, the same in every run, different for every seed.
pub fn fill<S: Number>(scalars: &mut [S], seed: u32, lo: f64, hi: f64) {
    let (middle, range) = ((lo + hi) / 2.0, (hi - lo) / 2.0);
    let mut state = seed;
    for x in scalars {
        // Numerical Recipes' generator; its upper bits are good enough for data.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *x = S::of(middle + range * (f64::from(state >> 8) / f64::from(1 << 23) - 1.0));
    }
}

/// Places for the tensors of one function: large ones at the start of a page, as [`Aligned`], small ones at cache lines
/// of their own whatever the page. Were they all at the start of one, each call would load from the offsets that the
/// call before stored to, and wait, in some processes and not in others: functions of a few nanoseconds then took twice
/// as long.
#[derive(Debug, Default)]
pub struct Places {
    /// Where in a page the next small one stands.
    offset: usize,
}

const PAGE: usize = 4096;
const LINE: usize = 64;

impl Places {
    /// Zeros, which stay to the end of the process.
    pub fn take<T: Tensor<Scalar: Number>>(&mut self) -> &'static mut T {
        let (scalar, bytes) = (size_of::<T::Scalar>(), size_of::<T>());
        let mut at = 0;
        if bytes < PAGE {
            at = self.offset;
            self.offset = (self.offset + bytes.next_multiple_of(LINE)) % PAGE;
        }
        let memory = vec![T::Scalar::of(0.0); T::LEN + 2 * PAGE / scalar].leak();
        let first = memory.as_ptr().align_offset(PAGE) + at / scalar;
        &mut T::nested_slice_mut(&mut memory[first..first + T::LEN])[0]
    }
}

impl<T> Deref for Aligned<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
