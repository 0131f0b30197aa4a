//! Lanes: takes and gives fixed-width groups of scalars that the compiler keeps in one SIMD register.
//!
//! Every operation here is lane by lane and inlined into its caller, so the caller's `#[target_feature]` decides the
//! instructions. Those that generated tiles are made of are in [`crate::isa`], an instruction each.

use crate::functions::for_each_function;
use crate::isa::Isa;
use crate::real::Real;
use core::hint::{black_box, select_unpredictable};
use core::ops::{Add, AddAssign, Div, Index, Mul, MulAssign, Neg, Sub};

/// `N` scalars side by side. `N` is a power of two.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub struct Lanes<T, const N: usize>([T; N]);

/// Four `f32`.
pub type F32x4 = Lanes<f32, 4>;
/// Eight `f32`.
pub type F32x8 = Lanes<f32, 8>;
/// Sixteen `f32`.
pub type F32x16 = Lanes<f32, 16>;
/// Two `f64`.
pub type F64x2 = Lanes<f64, 2>;
/// Four `f64`.
pub type F64x4 = Lanes<f64, 4>;
/// Eight `f64`.
pub type F64x8 = Lanes<f64, 8>;

/// Lane-wise functions of the scalar type, by name.
macro_rules! mapped {
    (
        {$($(#[$doc:meta])* $name:ident)*}
        {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
        $binary:tt
    ) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name<S: Isa>(self) -> Self {
                let mut out = self.0;
                for x in &mut out {
                    *x = T::$name::<S>(*x);
                }
                Lanes(out)
            }
        )*
        // The slow path is taken for all lanes if one needs it.
        $(
            $(#[$tried_doc])*
            #[inline(always)]
            pub fn $tried<S: Isa>(self) -> Self {
                if !self.moderate::<S>() {
                    return self.rarely(T::$tried::<S>);
                }
                // A loop, not `map`: the shim of a function that is passed on may stay a call, compiled without the
                // caller's instructions (measured: 14 times slower).
                let mut out = self.0;
                for x in &mut out {
                    *x = T::$moderate::<S>(*x);
                }
                Lanes(out)
            }
        )*
    };
}

impl<T: Real, const N: usize> Lanes<T, N> {
    /// The number of lanes.
    pub const LEN: usize = {
        assert!(N.is_power_of_two());
        N
    };
    /// Zero in every lane.
    pub const ZERO: Self = Lanes([T::ZERO; N]);

    /// The same value in every lane.
    #[inline(always)]
    pub const fn splat(x: T) -> Self {
        Lanes([x; N])
    }

    /// The lanes of an array, in order.
    #[inline(always)]
    pub const fn from_array(x: [T; N]) -> Self {
        Lanes(x)
    }

    /// The value of `f` at each lane's number.
    #[inline(always)]
    pub fn from_fn(f: impl Fn(usize) -> T) -> Self {
        let mut out = [T::ZERO; N];
        for (l, x) in out.iter_mut().enumerate() {
            *x = f(l);
        }
        Lanes(out)
    }

    /// The lanes as an array, in order.
    #[inline(always)]
    pub const fn to_array(self) -> [T; N] {
        self.0
    }

    /// Reads `from[at..at + N]`.
    ///
    /// # Panics
    /// If the slice ends before; with constant bounds the check folds away.
    #[inline(always)]
    pub fn load(from: &[T], at: usize) -> Self {
        let mut out = [T::ZERO; N];
        out.copy_from_slice(&from[at..at + N]);
        Lanes(out)
    }

    /// Writes `to[at..at + N]`.
    ///
    /// # Panics
    /// If the slice ends before; with constant bounds the check folds away.
    #[inline(always)]
    pub fn store(self, to: &mut [T], at: usize) {
        // Costs nothing at run time. It keeps the compiler from vectorising a surrounding loop across its iterations
        // instead of across the lanes, which would transpose every operand (measured: up to seven times slower).
        black_box(());
        to[at..at + N].copy_from_slice(&self.0);
    }

    /// The scalars, passed through `black_box`. It is for lanes that are read one by one afterwards: without it, LLVM
    /// computes them one by one as well.
    #[inline(always)]
    pub fn apart(self) -> [T; N] {
        black_box(self.0)
    }

    /// The sine and the cosine of each lane, which share most of their work. The results pass through `black_box`, as
    /// those of [`Lanes::apart`].
    #[inline(always)]
    pub fn sin_cos<S: Isa>(self) -> ([T; N], [T; N]) {
        if !self.moderate::<S>() {
            return (self.rarely(T::sin::<S>).apart(), self.rarely(T::cos::<S>).apart());
        }
        let (mut sin, mut cos) = (self.0, self.0);
        for (s, c) in sin.iter_mut().zip(&mut cos) {
            (*s, *c) = (T::sin_moderate::<S>(*s), T::cos_moderate::<S>(*c));
        }
        black_box((sin, cos))
    }

    /// Applies `f` to each lane.
    #[inline(always)]
    pub fn map(self, f: impl Fn(T) -> T) -> Self {
        let mut out = self.0;
        for x in &mut out {
            *x = f(*x);
        }
        Lanes(out)
    }

    /// [`Lanes::map`], never inlined: the slow path leaves callers small, and their registers alone.
    #[cold]
    #[inline(never)]
    fn rarely(self, f: impl Fn(T) -> T) -> Self {
        self.map(f)
    }

    /// Applies `f` to each pair of lanes.
    #[inline(always)]
    pub fn zip(self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        let mut out = self.0;
        for (x, y) in out.iter_mut().zip(other.0) {
            *x = f(*x, y);
        }
        Lanes(out)
    }

    /// Where lanes of `a` and `b` pass the test, those of `yes`, else those of `no`.
    #[inline(always)]
    pub fn choose(test: impl Fn(T, T) -> bool, a: Self, b: Self, yes: Self, no: Self) -> Self {
        let mut out = no.0;
        for (((out, yes), a), b) in out.iter_mut().zip(yes.0).zip(a.0).zip(b.0) {
            *out = if test(a, b) { yes } else { *out };
        }
        Lanes(out)
    }

    /// `self * b + c`, rounded after the product and after the sum.
    #[inline(always)]
    pub fn mul_add(self, b: Self, c: Self) -> Self {
        self * b + c
    }

    /// The smaller of each pair; NaN if either is NaN.
    #[inline(always)]
    pub fn min<S: Isa>(self, other: Self) -> Self {
        self.zip(other, T::min::<S>)
    }

    /// The larger of each pair; NaN if either is NaN.
    #[inline(always)]
    pub fn max<S: Isa>(self, other: Self) -> Self {
        self.zip(other, T::max::<S>)
    }

    /// `self` to the power `y`.
    #[inline(always)]
    pub fn pow<S: Isa>(self, y: Self) -> Self {
        let mut out = self.0;
        for (x, y) in out.iter_mut().zip(y.0) {
            *x = T::pow::<S>(*x, y);
        }
        Lanes(out)
    }

    /// The angle of the point `(x, self)`.
    #[inline(always)]
    pub fn atan2<S: Isa>(self, x: Self) -> Self {
        let mut out = self.0;
        for (y, x) in out.iter_mut().zip(x.0) {
            *y = T::atan2::<S>(*y, x);
        }
        Lanes(out)
    }

    /// Each lane to the whole power `n`.
    #[inline(always)]
    pub fn powi<S: Isa>(self, n: i32) -> Self {
        let mut out = self.0;
        for x in &mut out {
            *x = T::powi::<S>(*x, n);
        }
        Lanes(out)
    }

    /// Where `test(self, other)` holds the lane of `yes`, elsewhere that of `no`.
    #[inline(always)]
    pub fn select(self, other: Self, test: impl Fn(T, T) -> bool, yes: Self, no: Self) -> Self {
        let mut out = no.0;
        for (((x, yes), a), b) in out.iter_mut().zip(yes.0).zip(self.0).zip(other.0) {
            *x = select_unpredictable(test(a, b), yes, *x);
        }
        Lanes(out)
    }

    /// Where `self < other` the lane of `yes`, elsewhere (NaN included) that of `no`.
    #[inline(always)]
    pub fn select_lt(self, other: Self, yes: Self, no: Self) -> Self {
        self.select(other, |a, b| a < b, yes, no)
    }

    /// Where `self <= other` the lane of `yes`, elsewhere (NaN included) that of `no`.
    #[inline(always)]
    pub fn select_le(self, other: Self, yes: Self, no: Self) -> Self {
        self.select(other, |a, b| a <= b, yes, no)
    }

    /// Where `self == other` the lane of `yes`, elsewhere (NaN included) that of `no`.
    #[inline(always)]
    pub fn select_eq(self, other: Self, yes: Self, no: Self) -> Self {
        self.select(other, |a, b| a == b, yes, no)
    }

    /// Folds the upper half of the lanes onto the lower, `f(x[i], x[i + n/2])`, until one is left.
    #[inline(always)]
    fn reduce(self, f: impl Fn(T, T) -> T) -> T {
        // Through memory, once: else the narrow end of this tree decides how wide the accumulators before it are kept
        // (measured: a sum of exponentials fell to two lanes, a quarter of the speed).
        let mut x = black_box(self.0);
        let mut half = Self::LEN / 2;
        while half > 0 {
            for i in 0..half {
                x[i] = f(x[i], x[i + half]);
            }
            half /= 2;
        }
        x[0]
    }

    /// The sum of the lanes in a fixed order: lane `i + N/2` is added to lane `i`, then again with half as many,
    /// until one is left. For eight lanes `((x0+x4)+(x2+x6)) + ((x1+x5)+(x3+x7))`.
    #[inline(always)]
    pub fn reduce_sum(self) -> T {
        self.reduce(|a, b| a + b)
    }

    /// The largest lane; NaN if one is NaN.
    #[inline(always)]
    pub fn reduce_max<S: Isa>(self) -> T {
        self.reduce(T::max::<S>)
    }

    /// The smallest lane; NaN if one is NaN.
    #[inline(always)]
    pub fn reduce_min<S: Isa>(self) -> T {
        self.reduce(T::min::<S>)
    }

    /// Whether every lane is within the range of the plain reduction of angles.
    #[inline(always)]
    fn moderate<S: Isa>(self) -> bool {
        let mut all = true;
        for x in self.0 {
            all &= T::abs::<S>(x) <= T::TRIG_LIMIT;
        }
        all
    }

    for_each_function! { mapped! {} }
}

impl<T, const N: usize> Index<usize> for Lanes<T, N> {
    type Output = T;
    #[inline(always)]
    fn index(&self, lane: usize) -> &T {
        &self.0[lane]
    }
}

/// The operators, lane by lane.
macro_rules! operators {
    ($($trait:ident $name:ident )*) => {
        $(
            impl<T: Real, const N: usize> $trait for Lanes<T, N> {
                type Output = Self;
                #[inline(always)]
                fn $name(self, other: Self) -> Self {
                    let mut out = self.0;
                    for (x, y) in out.iter_mut().zip(other.0) {
                        *x = $trait::$name(*x, y);
                    }
                    Lanes(out)
                }
            }
        )*
    };
}

operators! { Add add Sub sub Mul mul Div div }

impl<T: Real, const N: usize> Neg for Lanes<T, N> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.map(|x| -x)
    }
}

impl<T: Real, const N: usize> AddAssign for Lanes<T, N> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        for (x, y) in self.0.iter_mut().zip(other.0) {
            *x += y;
        }
    }
}

impl<T: Real, const N: usize> MulAssign for Lanes<T, N> {
    #[inline(always)]
    fn mul_assign(&mut self, other: Self) {
        for (x, y) in self.0.iter_mut().zip(other.0) {
            *x *= y;
        }
    }
}
