//! Instruction sets: takes work written once, generic over [`Isa`], and runs it with the best instructions of the
//! machine.
//!
//! With `std` on x86-64 the choice is made at run time, once: a byte is read on every later call. Elsewhere, and where
//! the build already enables the best set (`-C target-cpu=native`), it is made by the compiler. The environment
//! variable `COTANGENT_ISA` (`portable`, `avx2`, `avx512`) caps the choice at run time, to compare and to test. Any
//! other value is said to be unknown, once, on standard error.
//!
//! A generated function `forward` asks for the instruction set itself, or, where it is small, uses what the build
//! enables. `forward_with` beside it takes the instruction set as its first argument, and is inlined into its caller. So
//! a loop over small kernels asks once: it is a [`Body`], which [`dispatch`] gives what the machine has. The crate's page
//! has an example. Write loops there, and no closures: a closure is a function without the instructions until it is
//! inlined.
//!
//! This module holds all unsafe code of the crate: loads, stores and arithmetic of vector registers, and the one call
//! from a function without an instruction set into one with it. The types that stand for instruction sets beyond the
//! baseline are private: code that is generic over [`Isa`] gets hold of one only from [`dispatch`] and its siblings,
//! which have checked the machine, through [`avx2`] and [`avx512`], which only functions with these instructions can
//! call, and as [`Native`].

use crate::lanes::Lanes;
use crate::real::{Real, sealed::Sealed};
use crate::tensor::Tensor;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod sse2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub use x86::{avx2, avx512};

/// A class of machines that share a schedule: how wide and how many its vector registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Registers of 16 bytes, 16 or more of them.
    Narrow,
    /// 16 registers of 32 bytes.
    Wide,
    /// 32 registers of 64 bytes.
    Widest,
    /// Registers of one scalar, 32 of them.
    Scalar,
}

/// The class of the target's baseline, by the conditions under which generated code holds its schedules. Both have the
/// same bits.
const BASELINE: Machine =
    if cfg!(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64", target_feature = "simd128")) {
        Machine::Narrow
    } else {
        Machine::Scalar
    };

/// An instruction set: how scalars and lanes are computed. Implemented by this crate's types only. Whoever has a value
/// of one runs on a machine that has the instructions; it takes no room.
#[allow(
    clippy::needless_range_loop,
    reason = "an iterator over vectors is not always unrolled, and then keeps them in memory"
)]
pub trait Isa: Sealed + Copy + 'static {
    /// What `COTANGENT_ISA` calls it.
    const NAME: &'static str;
    /// Which schedule suits it.
    const MACHINE: Machine;
    /// Its bit in [`sets`]; the portable one has none.
    const SET: u8;
    /// Whether [`Isa::mul_add`] rounds once.
    const FUSED: bool;
    /// Whether the schedule is that of [`Machine::Narrow`].
    const NARROW: bool = matches!(Self::MACHINE, Machine::Narrow);
    /// Whether it is that of [`Machine::Wide`].
    const WIDE: bool = matches!(Self::MACHINE, Machine::Wide);
    /// Whether it is that of [`Machine::Widest`].
    const WIDEST: bool = matches!(Self::MACHINE, Machine::Widest);
    /// Whether it is that of [`Machine::Scalar`].
    const SCALAR: bool = matches!(Self::MACHINE, Machine::Scalar);

    /// `a * b + c`, rounded once where the instruction set has a fused instruction, else twice.
    #[inline(always)]
    fn mul_add<T: Real>(a: T, b: T, c: T) -> T {
        a * b + c
    }
    /// The square root, correctly rounded.
    #[inline(always)]
    fn sqrt<T: Real>(x: T) -> T {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        return sse2::sqrt(x);
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
        T::sqrt_baseline(x)
    }

    /// The same value in every lane.
    #[inline(always)]
    fn splat<T: Real, const N: usize>(x: T) -> Lanes<T, N> {
        Lanes::splat(x)
    }
    /// The lanes of an array.
    #[inline(always)]
    fn load<T: Real, const N: usize>(from: &[T; N]) -> Lanes<T, N> {
        Lanes::from_array(*from)
    }
    /// Into an array.
    #[inline(always)]
    fn store<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T; N]) {
        *to = x.to_array();
    }
    /// The lanes `from[at..at + N]`.
    ///
    /// # Panics
    /// If the slice ends before, as the other functions on slices; with constant bounds the check folds away.
    #[inline(always)]
    fn read<T: Real, const N: usize>(from: &[T], at: usize) -> Lanes<T, N> {
        Self::load(row(from, at))
    }
    /// The lanes `from[at..at + count]`, the others zero.
    #[inline(always)]
    fn read_part<T: Real, const N: usize>(from: &[T], at: usize, count: usize) -> Lanes<T, N> {
        let mut out = [T::ZERO; N];
        out[..count].copy_from_slice(&from[at..at + count]);
        Self::load(&out)
    }
    /// Writes `to[at..at + N]`.
    #[inline(always)]
    fn write<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T], at: usize) {
        Self::store(x, row_mut(to, at));
    }
    /// Writes `to[at + start..at + end]`, the lanes of that range.
    #[inline(always)]
    fn write_part<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T], at: usize, start: usize, end: usize) {
        to[at + start..at + end].copy_from_slice(&x.to_array()[start..end]);
    }
    /// Adds to `to[at..at + N]`.
    #[inline(always)]
    fn add_to<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T], at: usize) {
        let to = row_mut(to, at);
        Self::store(Self::lanes_add(Self::load(to), x), to);
    }
    /// Adds to `to[at + start..at + end]`, the lanes of that range.
    #[inline(always)]
    fn add_part<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T], at: usize, start: usize, end: usize) {
        for (to, x) in to[at + start..at + end].iter_mut().zip(&x.to_array()[start..end]) {
            *to += *x;
        }
    }
    /// Adds to `to[at..at + N]`, or writes it.
    #[inline(always)]
    fn update<T: Real, const N: usize>(x: Lanes<T, N>, to: &mut [T], at: usize, adds: bool) {
        if adds { Self::add_to(x, to, at) } else { Self::write(x, to, at) }
    }
    /// Adds to `to[at + start..at + end]`, or writes it.
    #[inline(always)]
    fn update_part<T: Real, const N: usize>(
        x: Lanes<T, N>,
        to: &mut [T],
        at: usize,
        start: usize,
        end: usize,
        adds: bool,
    ) {
        if adds { Self::add_part(x, to, at, start, end) } else { Self::write_part(x, to, at, start, end) }
    }
    /// `V` vectors that follow each other, the first at `from[at..at + N]`.
    #[inline(always)]
    fn read_all<T: Real, const N: usize, const V: usize>(from: &[T], at: usize) -> [Lanes<T, N>; V] {
        let mut out = [Lanes::ZERO; V];
        for v in 0..V {
            out[v] = Self::read(from, at + v * N);
        }
        out
    }
    /// Writes vectors that follow each other, the first to `to[at..at + N]`.
    #[inline(always)]
    fn write_all<T: Real, const N: usize, const V: usize>(all: [Lanes<T, N>; V], to: &mut [T], at: usize) {
        for v in 0..V {
            Self::write(all[v], to, at + v * N);
        }
    }
    /// Adds them.
    #[inline(always)]
    fn add_all<T: Real, const N: usize, const V: usize>(all: [Lanes<T, N>; V], to: &mut [T], at: usize) {
        for v in 0..V {
            Self::add_to(all[v], to, at + v * N);
        }
    }
    /// Adds them, or writes them.
    #[inline(always)]
    fn update_all<T: Real, const N: usize, const V: usize>(all: [Lanes<T, N>; V], to: &mut [T], at: usize, adds: bool) {
        for v in 0..V {
            Self::update(all[v], to, at + v * N, adds);
        }
    }
    /// `a * b + c` for every vector `b` and its `c`, rounded as [`Isa::mul_add`].
    #[inline(always)]
    fn mul_add_all<T: Real, const N: usize, const V: usize>(
        a: Lanes<T, N>,
        b: [Lanes<T, N>; V],
        mut c: [Lanes<T, N>; V],
    ) -> [Lanes<T, N>; V] {
        for v in 0..V {
            c[v] = Self::lanes_mul_add(a, b[v], c[v]);
        }
        c
    }
    /// `a * b + c` in each lane, rounded as [`Isa::mul_add`].
    #[inline(always)]
    fn lanes_mul_add<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>, c: Lanes<T, N>) -> Lanes<T, N> {
        // No closure: one that is not inlined has bounds to check.
        let mut out = c.to_array();
        for ((c, a), b) in out.iter_mut().zip(&a.to_array()).zip(&b.to_array()) {
            *c = Self::mul_add(*a, *b, *c);
        }
        Lanes::from_array(out)
    }
    /// Sums.
    #[inline(always)]
    fn lanes_add<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
        a + b
    }
    /// Differences.
    #[inline(always)]
    fn lanes_sub<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
        a - b
    }
    /// Products.
    #[inline(always)]
    fn lanes_mul<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
        a * b
    }
    /// The larger of each pair; NaN if either is NaN.
    #[inline(always)]
    fn lanes_max<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
        let mut out = a.to_array();
        for (a, b) in out.iter_mut().zip(&b.to_array()) {
            *a = T::max::<Self>(*a, *b);
        }
        Lanes::from_array(out)
    }
    /// The smaller of each pair; NaN if either is NaN.
    #[inline(always)]
    fn lanes_min<T: Real, const N: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, N> {
        let mut out = a.to_array();
        for (a, b) in out.iter_mut().zip(&b.to_array()) {
            *a = T::min::<Self>(*a, *b);
        }
        Lanes::from_array(out)
    }
    /// The sum of the lanes: lane `i + N/2` is added to lane `i`, then again with half as many, until one is left.
    #[inline(always)]
    fn sum<T: Real, const N: usize>(x: Lanes<T, N>) -> T {
        fold(x, |a, b| a + b)
    }
    /// The lanes of `a`, then those of `b`; `M` is twice `N`.
    #[inline(always)]
    fn join<T: Real, const N: usize, const M: usize>(a: Lanes<T, N>, b: Lanes<T, N>) -> Lanes<T, M> {
        const { assert!(M == 2 * N) };
        Lanes::from_fn(|l| if l < N { a[l] } else { b[l - N] })
    }
    /// The sums of the lanes of each row, as [`Isa::sum`] adds them.
    #[inline(always)]
    fn sums<T: Real, const N: usize, const R: usize>(rows: [Lanes<T, N>; R]) -> Lanes<T, R> {
        Lanes::from_array(rows.map(|row| Self::sum(row)))
    }
    /// Row `i` of the result is column `i` of the arguments.
    #[inline(always)]
    fn transpose<T: Real, const N: usize>(rows: [&[T; N]; N]) -> [Lanes<T, N>; N] {
        transposed(rows)
    }
    /// Row `i` of the result is column `i` of two blocks below each other: `M` is twice `N`.
    #[inline(always)]
    fn transpose_both<T: Real, const N: usize, const M: usize>(
        upper: [&[T; N]; N],
        lower: [&[T; N]; N],
    ) -> [Lanes<T, M>; N] {
        both_transposed::<Self, T, N, M>(upper, lower)
    }
    /// Writes a block transposed: to the rows from `at` on, from `column` on.
    #[inline(always)]
    fn transpose_to<T: Real, const N: usize, const C: usize>(
        rows: [&[T; N]; N],
        to: &mut [[T; C]],
        at: usize,
        column: usize,
    ) {
        let columns = Self::transpose(rows);
        for n in 0..N {
            Self::write(columns[n], &mut to[at + n], column);
        }
    }
    /// The same of two blocks below each other: `M` is twice `N`.
    #[inline(always)]
    fn transpose_both_to<T: Real, const N: usize, const M: usize, const C: usize>(
        upper: [&[T; N]; N],
        lower: [&[T; N]; N],
        to: &mut [[T; C]],
        at: usize,
        column: usize,
    ) {
        let columns = Self::transpose_both::<T, N, M>(upper, lower);
        for n in 0..N {
            Self::write(columns[n], &mut to[at + n], column);
        }
    }
}

/// The rows of a square block: `N` elements from `column` on, of the rows from `at` on.
///
/// # Panics
/// If there is no such block; with constant bounds the checks fold away.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "as in `Isa`")]
pub fn block<T, const N: usize, const C: usize>(from: &[[T; C]], at: usize, column: usize) -> [&[T; N]; N] {
    let mut rows = [row(&from[at], column); N];
    for n in 0..N {
        rows[n] = row(&from[at + n], column);
    }
    rows
}

/// As [`Isa::transpose`]. Loops, as a closure is inlined too late at the levels for size, with its bounds checks left
/// in.
#[inline(always)]
fn transposed<T: Real, const N: usize>(rows: [&[T; N]; N]) -> [Lanes<T, N>; N] {
    let mut columns = [Lanes::ZERO; N];
    for (i, column) in columns.iter_mut().enumerate() {
        let mut lanes = [T::ZERO; N];
        for (lane, row) in lanes.iter_mut().zip(rows) {
            *lane = row[i];
        }
        *column = Lanes::from_array(lanes);
    }
    columns
}

/// As [`Isa::transpose_both`], each block by itself.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "as in `Isa`")]
fn both_transposed<S: Isa, T: Real, const N: usize, const M: usize>(
    upper: [&[T; N]; N],
    lower: [&[T; N]; N],
) -> [Lanes<T, M>; N] {
    let (upper, lower) = (S::transpose(upper), S::transpose(lower));
    let mut columns = [Lanes::ZERO; N];
    for n in 0..N {
        columns[n] = S::join(upper[n], lower[n]);
    }
    columns
}

/// An array that starts where a cache line does.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Aligned<T>(pub T);

impl<T: Real, const N: usize> Aligned<[T; N]> {
    /// The tensor that it begins with, of the type of another. What is behind it fills the last cache line with zeros:
    /// whoever reads the line as whole vectors computes with what is there, so it must not be what the stack held.
    ///
    /// # Panics
    /// If the array is shorter; its length is constant, so the check folds away.
    #[inline(always)]
    pub fn like<V: Tensor<Scalar = T>>(&mut self, _: &V) -> &mut V {
        V::nested_slice_mut(&mut self.0).first_mut().expect("the array holds the tensor")
    }
}

/// Adds to a number, or sets it.
#[inline(always)]
pub fn update<T: Real>(to: &mut T, x: T, adds: bool) {
    if adds { *to += x } else { *to = x }
}

/// The array of `N` elements from `at` on.
///
/// # Panics
/// If the slice ends before; with constant bounds the check folds away.
#[inline(always)]
pub fn row<T, const N: usize>(from: &[T], at: usize) -> &[T; N] {
    from[at..at + N].as_array().expect("a range of N elements")
}

#[inline(always)]
fn row_mut<T, const N: usize>(from: &mut [T], at: usize) -> &mut [T; N] {
    from[at..at + N].as_mut_array().expect("a range of N elements")
}

/// Folds the upper half of the lanes onto the lower until one is left.
#[inline(always)]
pub fn fold<T: Real, const N: usize>(x: Lanes<T, N>, f: impl Fn(T, T) -> T) -> T {
    let mut x = x.to_array();
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            x[i] = f(x[i], x[i + half]);
        }
        half /= 2;
    }
    x[0]
}

/// The instructions that every machine of the target has, arithmetic rounded after each operation: the same bits
/// everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Sealed for Portable {}
impl Isa for Portable {
    const NAME: &'static str = "portable";
    const MACHINE: Machine = BASELINE;
    const SET: u8 = 0;
    const FUSED: bool = false;
}

/// A body and its dispatch for each number of arguments that travel in registers.
macro_rules! bodies {
    ($($body:ident $dispatch:ident $native:ident($($a:ident: $A:ident),+);)+) => {$(
        /// Work on arguments of these types, written for any instruction set. `run` must be `#[inline(always)]`, else
        /// its instructions are the baseline's.
        pub trait $body<$($A),+> {
            /// For which of [`sets`] it may be run, besides the portable one.
            const SETS: u8 = sets::ALL;
            /// Does it.
            fn run<S: Isa>(isa: S, $($a: $A),+);

            // Methods, not functions beside the trait: the compiler places a method in the module of the type that it
            // is of. So the kernels of a crate are compiled where they stand, several modules at a time, not all in one
            // piece where the function is.
            /// # Safety
            /// The machine has AVX2 and FMA.
            #[doc(hidden)]
            #[cfg(all(target_arch = "x86_64", feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($a: $A),+) {
                Self::run(x86::Avx2, $($a),+);
            }
            /// # Safety
            /// The machine has AVX-512F, VL, BW and DQ, and what comes with them.
            #[doc(hidden)]
            #[cfg(all(target_arch = "x86_64", feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            unsafe fn avx512($($a: $A),+) {
                Self::run(x86::Avx512, $($a),+);
            }
            // A function of its own as well, so that the choice is a load, a comparison and a jump.
            #[doc(hidden)]
            #[cfg(all(target_arch = "x86_64", feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
            #[inline(never)]
            fn portable($($a: $A),+) {
                Self::run(Portable, $($a),+);
            }
            #[doc(hidden)]
            #[cfg(all(target_arch = "x86_64", feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
            #[cold]
            #[inline(never)]
            fn first($($a: $A),+)
            where
                Self: Sized,
            {
                x86::choose();
                $dispatch::<Self, $($A),+>($($a),+);
            }
        }

        /// Runs a body with the best instruction set of the machine.
        #[inline(always)]
        pub fn $dispatch<B: $body<$($A),+>, $($A),+>($($a: $A),+) {
            #[cfg(all(target_arch = "x86_64", feature = "std", not(all(target_feature = "avx2", target_feature = "fma"))))]
            match x86::chosen() {
                // SAFETY: the machine was found to have the instructions.
                x86::AVX512 if const { B::SETS & sets::AVX512 != 0 } => unsafe { B::avx512($($a),+) },
                // SAFETY: as above; what has AVX-512 has these.
                x86::AVX512 | x86::AVX2 if const { B::SETS & sets::AVX2 != 0 } => unsafe { B::avx2($($a),+) },
                x86::UNKNOWN => B::first($($a),+),
                _ => B::portable($($a),+),
            }
            #[cfg(not(all(target_arch = "x86_64", feature = "std", not(all(target_feature = "avx2", target_feature = "fma")))))]
            $native::<B, $($A),+>($($a),+);
        }

        /// Runs a body with the best instruction set that the build enables.
        #[inline(always)]
        pub fn $native<B: $body<$($A),+>, $($A),+>($($a: $A),+) {
            if const { native_is_of(B::SETS) } {
                B::run(Native, $($a),+);
            } else {
                B::run(Portable, $($a),+);
            }
        }
    )+};
}
bodies! {
    Body1 dispatch1 native1(a: A);
    Body2 dispatch2 native2(a: A, b: A2);
    Body3 dispatch3 native3(a: A, b: A2, c: A3);
    Body4 dispatch4 native4(a: A, b: A2, c: A3, d: A4);
    Body5 dispatch5 native5(a: A, b: A2, c: A3, d: A4, e: A5);
    Body6 dispatch6 native6(a: A, b: A2, c: A3, d: A4, e: A5, f: A6);
}

/// Work written for any instruction set, with what it works on. `run` must be `#[inline(always)]`, else its
/// instructions are the baseline's.
pub trait Body {
    /// For which of [`sets`] it may be run, besides the portable one.
    const SETS: u8 = sets::ALL;
    /// Does it, `isa` being what the machine was found to have.
    fn run<S: Isa>(self, isa: S);
}

/// A [`Body`] as one argument: an array of it, so that the compiler places what is compiled where the body stands. It
/// stays where it was made: a copy would wait for all that is written into it, and so for every call before.
impl<B: Body> Body1<&mut Option<B>> for [B; 0] {
    const SETS: u8 = B::SETS;
    #[inline(always)]
    fn run<S: Isa>(isa: S, body: &mut Option<B>) {
        if let Some(body) = body.take() {
            body.run(isa);
        }
    }
}

/// Runs a body with the best instruction set of the machine.
#[inline(always)]
pub fn dispatch<B: Body>(body: B) {
    dispatch1::<[B; 0], &mut Option<B>>(&mut Some(body));
}

/// Runs a body with the best instruction set that the build enables.
#[inline(always)]
pub fn native<B: Body>(body: B) {
    native1::<[B; 0], &mut Option<B>>(&mut Some(body));
}

/// Instruction sets as bits: for which of them a body is written.
pub mod sets {
    /// AVX2 with FMA.
    pub const AVX2: u8 = 1;
    /// AVX-512.
    pub const AVX512: u8 = 2;
    /// NEON.
    pub const NEON: u8 = 4;
    /// Every one.
    pub const ALL: u8 = AVX2 | AVX512 | NEON;
}

/// Whether what the build enables is among these sets; the portable one always is.
#[allow(clippy::bad_bit_mask, reason = "the portable set has no bit; it is asked for first")]
const fn native_is_of(sets: u8) -> bool {
    Native::SET == Portable::SET || sets & Native::SET != 0
}

/// The best instruction set that the build enables: what code uses that is too small to be dispatched.
#[cfg(not(any(
    target_arch = "aarch64",
    all(target_arch = "x86_64", target_feature = "avx2", target_feature = "fma")
)))]
pub use Portable as Native;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon as Native;
#[cfg(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "fma"))]
pub use x86::Native;

/// The name of the instruction set that [`dispatch1`] uses here.
pub fn name() -> &'static str {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    return x86::name();
    #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
    Native::NAME
}

/// The names of the instruction sets that [`dispatch1`] can be made to use here by `COTANGENT_ISA`, the best first.
pub fn names() -> &'static [&'static str] {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    return x86::names();
    #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
    &[Native::NAME]
}
