//! Accuracy and special values of the elementary functions: takes every function of `cotangent::math`, gives the
//! worst error found and where, and fails if it is above the bound that the function states.
//!
//! Everything is checked twice: under the portable instruction set, and under the machine's through `dispatch1`
//! (`COTANGENT_ISA` chooses it). `f32` is compared with the `f64` functions of the standard library (`libm` for some)
//! over a stride of all bit patterns; the ignored tests take every one: `cargo test --release --test math
//! f32_exhaustive -- --ignored --nocapture --test-threads 1`, some ten minutes on two idle cores. There the value to
//! compare with comes from the `f64` functions of this crate, in vectors, but for those of angles; the reference
//! confirms a sample of them and every one that sets a record. `f64` is compared with double-double arithmetic of this
//! file (about 100 bits), on random arguments: `SAMPLES` for each range, 100 times as many in the ignored test. Worst
//! errors are printed: `cargo test --test math -- --nocapture`.

use cotangent::isa::{self, Body1, Isa, Portable};
use cotangent::lanes::{F32x4, F32x8, F32x16, F64x2, F64x4, Lanes};
use cotangent::math::f64 as m64;
use cotangent::real::Real;
#[cfg(feature = "std")]
use cotangent::tensor::Tensor;
use std::sync::atomic::{AtomicU64, Ordering};

// The list that the functions of the crate are made from: what is new there has no test yet, and fails below.
#[path = "../src/functions.rs"]
mod functions;
use functions::for_each_function;

/// Work that is its own argument.
trait Body {
    fn run<S: Isa>(self);
}

struct Work;

impl<B: Body> Body1<B> for Work {
    #[inline(always)]
    fn run<S: Isa>(_: S, body: B) {
        body.run::<S>();
    }
}

/// The portable functions, compiled with the machine's instructions: the same bits, sooner.
struct Unfused;

impl<B: Body> Body1<B> for Unfused {
    #[inline(always)]
    fn run<S: Isa>(_: S, body: B) {
        body.run::<Portable>();
    }
}

/// What to compute with.
#[derive(Clone, Copy, Debug)]
enum Set {
    Portable,
    Unfused,
    /// What `dispatch1` chooses.
    Machine,
}

const SETS: [Set; 2] = [Set::Portable, Set::Machine];

impl Set {
    fn run(self, body: impl Body) {
        match self {
            Set::Portable => body.run::<Portable>(),
            Set::Unfused => isa::dispatch1::<Unfused, _>(body),
            Set::Machine => isa::dispatch1::<Work, _>(body),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Set::Portable | Set::Unfused => Portable::NAME,
            Set::Machine => isa::name(),
        }
    }
}

/// A function over slices of arguments, written to the last slice.
type Map<T> = fn(Set, &[T], &mut [T]);
type Map2<T> = fn(Set, &[T], &[T], &mut [T]);

/// Functions over slices, in the plain loop that callers write; `<S>` after those that depend on the instruction set.
macro_rules! map {
    ($T:ident: $($name:ident $(<$S:ident>)?)*) => {$(
        pub fn $name(set: Set, x: &[$T], y: &mut [$T]) {
            struct Run<'a>(&'a [$T], &'a mut [$T]);
            impl Body for Run<'_> {
                #[inline(always)]
                fn run<S: Isa>(self) {
                    for (y, &x) in self.1.iter_mut().zip(self.0) {
                        *y = cotangent::math::$T::$name $(::<$S>)? (x);
                    }
                }
            }
            set.run(Run(x, y));
        }
    )*};
}
/// The same for functions with a branch for rare arguments, as generated loops call them: in blocks, tried without it.
macro_rules! tried {
    ($T:ident: $($name:ident)*) => {$(
        pub fn $name(set: Set, x: &[$T], y: &mut [$T]) {
            struct Run<'a>(&'a [$T], &'a mut [$T]);
            impl Body for Run<'_> {
                #[inline(always)]
                fn run<S: Isa>(self) {
                    for (x, y) in self.0.chunks(256).zip(self.1.chunks_mut(256)) {
                        let mut speculation = cotangent::math::$T::Speculation::new();
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = speculation.$name::<S>(x);
                        }
                        if speculation.failed() {
                            for (y, &x) in y.iter_mut().zip(x) {
                                *y = cotangent::math::$T::$name::<S>(x);
                            }
                        }
                    }
                }
            }
            set.run(Run(x, y));
        }
    )*};
}
macro_rules! map2 {
    ($T:ident: $($name:ident)*) => {$(
        pub fn $name(set: Set, a: &[$T], b: &[$T], y: &mut [$T]) {
            struct Run<'a>(&'a [$T], &'a [$T], &'a mut [$T]);
            impl Body for Run<'_> {
                #[inline(always)]
                fn run<S: Isa>(self) {
                    for ((y, &a), &b) in self.2.iter_mut().zip(self.0).zip(self.1) {
                        *y = cotangent::math::$T::$name::<S>(a, b);
                    }
                }
            }
            set.run(Run(a, b, y));
        }
    )*};
}
macro_rules! maps {
    (
        $module:ident $T:ident
        {$($(#[$doc:meta])* $unary:ident)*}
        {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
        {$($(#[$binary_doc:meta])* $binary:ident($a:ident, $b:ident))*}
    ) => {
        mod $module {
            use super::{Body, Isa, Set};
            map! { $T: $($unary<S>)* sqrt_portable }
            tried! { $T: $($tried)* }
            map2! { $T: $($binary)* }

            pub fn powi(set: Set, x: &[$T], n: i32, y: &mut [$T]) {
                struct Run<'a>(&'a [$T], i32, &'a mut [$T]);
                impl Body for Run<'_> {
                    #[inline(always)]
                    fn run<S: Isa>(self) {
                        for (y, &x) in self.2.iter_mut().zip(self.0) {
                            *y = cotangent::math::$T::powi::<S>(x, self.1);
                        }
                    }
                }
                set.run(Run(x, n, y));
            }
        }
    };
}
for_each_function! { maps! { over32 f32 } }
for_each_function! { maps! { over64 f64 } }

/// How many copies of a value a function gets at once: a few vectors of any width and a rest.
const COPIES: usize = 37;

/// The function at one value, the same in vectors and in what is left of them.
fn at<T: Real + std::fmt::Debug>(f: Map<T>, set: Set, x: T) -> T {
    let mut y = [T::ZERO; COPIES];
    f(set, &[x; COPIES], &mut y);
    agreed(y)
}

fn at2<T: Real + std::fmt::Debug>(f: Map2<T>, set: Set, a: T, b: T) -> T {
    let mut y = [T::ZERO; COPIES];
    f(set, &[a; COPIES], &[b; COPIES], &mut y);
    agreed(y)
}

fn agreed<T: Real + std::fmt::Debug>(y: [T; COPIES]) -> T {
    #[allow(clippy::eq_op, reason = "NaN")]
    let nan = |v: T| v != v;
    assert!(y.iter().all(|&v| v == y[0] || (nan(v) && nan(y[0]))), "{y:?}");
    y[0]
}

/// The greatest error so far, and where.
#[derive(Clone, Copy)]
struct Worst<T>(f64, T);

impl<T: Copy> Worst<T> {
    fn note(&mut self, error: f64, at: T) {
        if error > self.0 {
            *self = Worst(error, at);
        }
    }
}

// ---------------------------------------------------------------- f32

/// What holds of the function at the negative of an argument.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Odd,
    Even,
    Neither,
}
use Sign::{Even, Neither, Odd};

/// A function, what it is compared with, its symmetry, and the ulp it may be off.
type Row32 = (&'static str, Map<f32>, Want, Sign, f64);

/// What is right: by the reference, or by the quick function in `f64`, which the reference confirms.
#[derive(Clone, Copy)]
struct Want {
    quick: Option<Map<f64>>,
    reference: fn(f64) -> f64,
}

/// By the function of this crate in `f64`, which shares no code with that in `f32` that could make both wrong.
const fn quick(f: Map<f64>, reference: fn(f64) -> f64) -> Want {
    Want { quick: Some(f), reference }
}

/// By the reference alone.
const fn slow(reference: fn(f64) -> f64) -> Want {
    Want { quick: None, reference }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

fn rsqrt(x: f64) -> f64 {
    1.0 / x.sqrt()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The references are the standard library's, or `libm`'s, and good to a few ulp of `f64`: to 2^-26 ulp of `f32`.
const F32: &[Row32] = &[
    ("abs", over32::abs, slow(f64::abs), Even, 0.5),
    ("sign", over32::sign, slow(sign), Odd, 0.5),
    ("floor", over32::floor, slow(f64::floor), Neither, 0.5),
    ("exp", over32::exp, quick(over64::exp, f64::exp), Neither, 1.0),
    ("expm1", over32::expm1, quick(over64::expm1, f64::exp_m1), Neither, 2.0),
    ("log", over32::log, quick(over64::log, f64::ln), Neither, 1.0),
    ("log1p", over32::log1p, quick(over64::log1p, f64::ln_1p), Neither, 2.0),
    ("sqrt", over32::sqrt, quick(over64::sqrt, f64::sqrt), Neither, 0.5),
    ("sqrt_portable", over32::sqrt_portable, quick(over64::sqrt, f64::sqrt), Neither, 0.5),
    ("rsqrt", over32::rsqrt, quick(over64::rsqrt, rsqrt), Neither, 2.0),
    ("cbrt", over32::cbrt, quick(over64::cbrt, f64::cbrt), Odd, 1.0),
    ("sin", over32::sin, slow(f64::sin), Odd, 2.0),
    ("cos", over32::cos, slow(f64::cos), Even, 2.0),
    ("tan", over32::tan, slow(f64::tan), Odd, 1.0),
    ("asin", over32::asin, quick(over64::asin, f64::asin), Odd, 1.0),
    ("acos", over32::acos, quick(over64::acos, f64::acos), Neither, 1.0),
    ("atan", over32::atan, quick(over64::atan, f64::atan), Odd, 2.0),
    ("sinh", over32::sinh, quick(over64::sinh, f64::sinh), Odd, 2.0),
    ("cosh", over32::cosh, quick(over64::cosh, f64::cosh), Even, 2.0),
    ("tanh", over32::tanh, quick(over64::tanh, f64::tanh), Odd, 2.0),
    ("asinh", over32::asinh, quick(over64::asinh, libm::asinh), Odd, 1.0),
    ("acosh", over32::acosh, quick(over64::acosh, f64::acosh), Neither, 1.0),
    ("atanh", over32::atanh, quick(over64::atanh, libm::atanh), Odd, 1.0),
    ("logistic", over32::logistic, quick(over64::logistic, logistic), Neither, 2.0),
    ("softplus", over32::softplus, quick(over64::softplus, softplus), Neither, 2.0),
    ("erf", over32::erf, quick(over64::erf, libm::erf), Odd, 2.0),
    ("erfc", over32::erfc, quick(over64::erfc, libm::erfc), Neither, 1.0),
];

/// The same value, or a NaN each.
fn agree32(a: f32, b: f32) -> bool {
    (a.to_bits() == b.to_bits()) | (a.is_nan() & b.is_nan())
}

/// The distance of `got` from `want` in units in the last place of `want`; NaN or infinite where one of the two is.
fn distance32(got: f32, want: f64) -> f64 {
    let exponent = ((want.abs().to_bits() >> 52) as i32).clamp(1023 - 126, 1023 + 127);
    let ulps = f64::from_bits(((2 * 1023 + 23 - exponent) as u64) << 52);
    (f64::from(got) - want).abs() * ulps
}

/// The distance, where the nearest value has at most half of one; infinite where the two differ in being a NaN or in
/// the sign of zero.
fn ulps32(got: f32, want: f64) -> f64 {
    if agree32(got, want as f32) {
        return 0.5;
    }
    let distance = distance32(got, want);
    if distance.is_nan() || (got == 0.0 && want == 0.0) { f64::INFINITY } else { distance }
}

/// Whether every value is within `most`, at least 0.5, of what it should be.
fn within32(got: &[f32], want: &[f64], most: f64) -> bool {
    struct Run<'a>(&'a [f32], &'a [f64], f64, &'a mut bool);
    impl Body for Run<'_> {
        #[inline(always)]
        fn run<S: Isa>(self) {
            let mut far = 0u32;
            for (&got, &want) in self.0.iter().zip(self.1) {
                let near = (distance32(got, want) <= self.2) & !((got == 0.0) & (want == 0.0));
                far |= u32::from(!(near | agree32(got, want as f32)));
            }
            *self.3 = far == 0;
        }
    }
    let mut all = false;
    Set::Machine.run(Run(got, want, most, &mut all));
    all
}

/// Every `stride`th argument under both sets, on all threads; what is above the bound. At negative arguments of an odd
/// or even function the value is compared with that at the positive one, bit by bit.
fn sweep32(stride: u32, &(name, f, Want { quick, reference }, sign, bound): &Row32) -> Vec<String> {
    const CHUNK: u64 = 1 << 9;
    /// How far the quick function may be from the reference, relatively; one argument in so many is tried, and each
    /// that sets a record.
    const MARGIN: f64 = 1e-13;
    const TRIED: usize = 509;
    /// Far below the smallest `f32`.
    const TINY: f64 = 1e-300;
    let quick = quick.filter(|_| stride == 1);
    let sets = if stride == 1 { [Set::Unfused, Set::Machine] } else { SETS };
    let confirmed = |x: f32, want: f64| {
        let exact = reference(f64::from(x));
        (want - exact).abs() <= MARGIN * exact.abs() + TINY || want == exact || (want.is_nan() && exact.is_nan())
    };
    let count = (1u64 << if sign == Neither { 32 } else { 31 }).div_ceil(u64::from(stride));
    let next = AtomicU64::new(0);
    let sweep = || {
        let mut worst = [Worst(0.5, 0.0f32); 2];
        let (mut x, mut negative, mut double, mut want) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut y, mut mirrored) = (Vec::new(), Vec::new());
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= count {
                return worst;
            }
            x.clear();
            x.extend((start..count.min(start + CHUNK)).map(|n| f32::from_bits((n * u64::from(stride)) as u32)));
            want.clear();
            match quick {
                None => want.extend(x.iter().map(|&x| reference(f64::from(x)))),
                Some(quick) => {
                    double.clear();
                    double.extend(x.iter().map(|&x| f64::from(x)));
                    want.resize(x.len(), 0.0);
                    quick(Set::Machine, &double, &mut want);
                    let tried = x.iter().zip(&want).skip(start as usize % TRIED).step_by(TRIED);
                    let other = tried.map(|(&x, &want)| (x, want)).find(|&(x, want)| !confirmed(x, want));
                    assert!(other.is_none(), "{name} in f64: {other:?}");
                }
            }
            y.resize(x.len(), 0.0);
            mirrored.resize(x.len(), 0.0);
            negative.clear();
            negative.extend(x.iter().map(|&x| -x));
            for (worst, set) in worst.iter_mut().zip(sets) {
                f(set, &x, &mut y);
                if !within32(&y, &want, worst.0) {
                    for ((&x, &y), &want) in x.iter().zip(&y).zip(&want) {
                        if ulps32(y, want) > worst.0 {
                            worst.note(ulps32(y, reference(f64::from(x))), x);
                        }
                    }
                }
                if sign != Neither {
                    f(set, &negative, &mut mirrored);
                    let turned = if sign == Odd { 1 << 31 } else { 0 };
                    let same = |(&y, &m): (&f32, &f32)| agree32(m, f32::from_bits(y.to_bits() ^ turned));
                    if !y.iter().zip(&mirrored).fold(true, |all, pair| all & same(pair)) {
                        let at = y.iter().zip(&mirrored).position(|pair| !same(pair)).expect("one of them");
                        worst.note(f64::INFINITY, negative[at]);
                    }
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(sweep)).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut bad = Vec::new();
    for (n, set) in sets.into_iter().enumerate() {
        let mut worst = Worst(0.5, 0.0);
        found.iter().for_each(|each| worst.note(each[n].0, each[n].1));
        let Worst(error, x) = worst;
        println!("f32 {name:14} {:8} {error:6.3} ulp at {x:e} ({:#010x})", set.name(), x.to_bits());
        if error > bound {
            let (got, exact) = (at(f, set, x), reference(f64::from(x)));
            bad.push(format!("f32 {name}, {set:?}: {error} ulp at {x:e}, got {got:e}, exact {exact:e}"));
        }
    }
    bad
}

#[test]
fn f32_strided() {
    let bad: Vec<_> = F32.iter().flat_map(|row| sweep32(9_973, row)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Every one of the 2^32 arguments, one test for each function.
mod f32_exhaustive {
    macro_rules! exhaustive {
        (
            {$($(#[$doc:meta])* $unary:ident)*}
            {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
            $binary:tt
        ) => {
            exhaustive! { $($unary)* $($tried)* sqrt_portable }
        };
        ($($name:ident)*) => {
            $(
                #[test]
                #[ignore = "takes a minute"]
                fn $name() {
                    let row = super::F32.iter().find(|row| row.0 == stringify!($name));
                    let bad = super::sweep32(1, row.expect("a function of the table"));
                    assert!(bad.is_empty(), "{bad:#?}");
                }
            )*
        };
    }

    super::for_each_function! { exhaustive! {} }
}

// ---------------------------------------------------------------- double-double

/// The unevaluated sum of two doubles, the second below half an ulp of the first.
#[derive(Clone, Copy, Debug)]
struct D(f64, f64);

const LN2: D = D(std::f64::consts::LN_2, 2.3190468138462996e-17);
const PIO2: D = D(std::f64::consts::FRAC_PI_2, 6.123233995736766e-17);
/// What `PIO2` lacks.
const PIO2_REST: f64 = -1.4973849048591833e-33;

fn two_sum(a: f64, b: f64) -> D {
    let s = a + b;
    let t = s - a;
    D(s, (a - (s - t)) + (b - t))
}

fn two_prod(a: f64, b: f64) -> D {
    let p = a * b;
    D(p, a.mul_add(b, -p))
}

impl From<f64> for D {
    fn from(x: f64) -> D {
        D(x, 0.0)
    }
}

impl std::ops::Add for D {
    type Output = D;
    fn add(self, o: D) -> D {
        let s = two_sum(self.0, o.0);
        let t = two_sum(self.1, o.1);
        let u = two_sum(s.0, s.1 + t.0);
        two_sum(u.0, u.1 + t.1)
    }
}

impl std::ops::Neg for D {
    type Output = D;
    fn neg(self) -> D {
        D(-self.0, -self.1)
    }
}

impl std::ops::Sub for D {
    type Output = D;
    fn sub(self, o: D) -> D {
        self + -o
    }
}

impl std::ops::Mul for D {
    type Output = D;
    fn mul(self, o: D) -> D {
        let p = two_prod(self.0, o.0);
        two_sum(p.0, p.1 + (self.0 * o.1 + self.1 * o.0))
    }
}

impl std::ops::Div for D {
    type Output = D;
    fn div(self, o: D) -> D {
        let q = self.0 / o.0;
        let r = self - o * D(q, 0.0);
        let q1 = r.0 / o.0;
        let r = r - o * D(q1, 0.0);
        two_sum(q, q1) + D(r.0 / o.0, 0.0)
    }
}

impl D {
    fn times(self, k: f64) -> D {
        self * D(k, 0.0)
    }

    /// Times a power of two.
    fn scaled(self, k: f64) -> D {
        D(self.0 * k, self.1 * k)
    }

    fn abs(self) -> D {
        if self.0 < 0.0 { -self } else { self }
    }

    fn sqrt(self) -> D {
        if self.0 == 0.0 {
            return self;
        }
        let y = D(self.0.sqrt(), 0.0);
        let y = y + (self - y * y) / y.times(2.0);
        y + (self - y * y) / y.times(2.0)
    }

    /// `(n, p)` with `exp(self) = 2^n (1 + p)`.
    fn exp_parts(self) -> (i32, D) {
        let n = if self.0.abs() < 0.35 { 0.0 } else { (self.0 / LN2.0).round() };
        let r = (self - LN2.times(n)).scaled(1.0 / 512.0);
        let mut p = D(0.0, 0.0);
        for k in (1..=11).rev() {
            // r (1 + p) / k from the innermost term outwards
            p = r * (D(1.0, 0.0) + p) / D(k as f64, 0.0);
        }
        for _ in 0..9 {
            p = p.scaled(2.0) + p * p;
        }
        (n as i32, p)
    }

    fn exp(self) -> D {
        let (n, p) = self.exp_parts();
        let e = D(1.0, 0.0) + p;
        e.scaled(2f64.powi(n / 2)).scaled(2f64.powi(n - n / 2))
    }

    fn expm1(self) -> D {
        let (n, p) = self.exp_parts();
        if n == 0 { p } else { self.exp() - D(1.0, 0.0) }
    }

    fn log1p(self) -> D {
        let y = D(self.0.ln_1p(), 0.0);
        let e = y.expm1();
        y + (self - e) / (D(1.0, 0.0) + e)
    }

    fn log(self) -> D {
        if (self.0 - 1.0).abs() < 0.5 {
            return (self - D(1.0, 0.0)).log1p();
        }
        let y = D(self.0.ln(), 0.0);
        let e = y.exp();
        y + ((self - e) / (self + e)).scaled(2.0)
    }

    /// The sine and the cosine, for arguments up to 10^6.
    fn sin_cos(self) -> (D, D) {
        let n = (self.0 / PIO2.0).round();
        // n pi/2 needs more than two doubles where the difference is small.
        let first = two_prod(n, PIO2.0);
        let second = two_prod(n, PIO2.1);
        let r =
            ((D(self.0, 0.0) - D(first.0, 0.0)) - D(first.1, 0.0)) - second + D(self.1, 0.0) - D(n * PIO2_REST, 0.0);
        let z = r * r;
        let (mut s, mut c) = (D(0.0, 0.0), D(0.0, 0.0));
        for k in (1..=15).rev() {
            let k = 2.0 * k as f64;
            c = -(z * (D(1.0, 0.0) + c)) / D(k * (k - 1.0), 0.0);
            s = -(z * (D(1.0, 0.0) + s)) / D(k * (k + 1.0), 0.0);
        }
        let (s, c) = (r + r * s, D(1.0, 0.0) + c);
        match (n as i64) & 3 {
            0 => (s, c),
            1 => (c, -s),
            2 => (-s, -c),
            _ => (-c, s),
        }
    }

    fn atan(self) -> D {
        let y = D(self.0.atan(), 0.0);
        let (s, c) = y.sin_cos();
        y + (self * c - s) / (c + self * s)
    }

    fn asin(self) -> D {
        let y = D(self.0.asin(), 0.0);
        let (s, c) = y.sin_cos();
        y + (self - s) / c
    }

    fn acos(self) -> D {
        if self.0 > 0.5 {
            (D(1.0, 0.0) - self).scaled(0.5).sqrt().asin().scaled(2.0)
        } else if self.0 < -0.5 {
            PIO2.scaled(2.0) - (-self).acos()
        } else {
            PIO2 - self.asin()
        }
    }

    fn asinh(self) -> D {
        let one = D(1.0, 0.0);
        let a = self.abs();
        let z = a * a;
        let y = (a + z / (one + (z + one).sqrt())).log1p();
        if self.0 < 0.0 { -y } else { y }
    }

    fn erf(self) -> D {
        // 2/sqrt(pi) exp(-x²) sum of 2^n x^(2n+1) / (2n+1)!!: every term positive
        let z = self * self;
        let (mut sum, mut term) = (self, self);
        let mut k = 1.0;
        while term.0.abs() > 1e-34 * sum.0.abs() {
            k += 2.0;
            term = term * z.scaled(2.0) / D(k, 0.0);
            sum = sum + term;
        }
        sum.scaled(2.0) * (-z).exp() / PIO2.scaled(2.0).sqrt()
    }

    /// `exp(x²) (1 - erf(x))`, for arguments from 2 on: `1/sqrt(pi)` over `x + (1/2)/(x + (2/2)/(x + (3/2)/(x +
    /// ...)))`.
    fn erfcx(self) -> D {
        let below = (1..=300).rev().fold(self, |below, k| self + D(0.5 * k as f64, 0.0) / below);
        D(1.0, 0.0) / (below * PIO2.scaled(2.0).sqrt())
    }

    fn erfc(self) -> D {
        // A difference of two is good enough as long as it is not small.
        if self.0 < 2.0 { D(1.0, 0.0) - self.erf() } else { self.erfcx() * (-(self * self)).exp() }
    }
}

// ---------------------------------------------------------------- f64

/// A function, its reference, the ulp it may be off, and the ranges to sample.
type Row64 = (&'static str, Map<f64>, fn(D) -> D, f64, &'static [(f64, f64)]);

const ONE: D = D(1.0, 0.0);

const F64: &[Row64] = &[
    ("abs", over64::abs, D::abs, 0.0, &[(-2.0, 2.0)]),
    ("sign", over64::sign, |x| D(sign(x.0), 0.0), 0.0, &[(-2.0, 2.0)]),
    ("floor", over64::floor, |x| D(x.0.floor(), 0.0), 0.0, &[(-1e3, 1e3), (-2.0, 2.0), (-1e17, -1e12)]),
    ("exp", over64::exp, D::exp, 1.0, &[(-700.0, 709.7), (-1.0, 1.0), (1e-12, 1.0)]),
    ("expm1", over64::expm1, D::expm1, 2.0, &[(-40.0, 709.7), (-1.0, 1.0), (1e-30, 1.0), (-1.0, -1e-30)]),
    ("log", over64::log, D::log, 1.0, &[(1e-280, 1e300), (0.5, 2.0), (0.9, 1.1), (0.999999, 1.000001)]),
    ("log1p", over64::log1p, D::log1p, 1.0, &[(1e-30, 1e300), (-1.0, 2.0), (-1.0, -1e-30), (-0.4, 0.6)]),
    ("sqrt", over64::sqrt, D::sqrt, 0.5, &[(1e-280, 1e300), (1.0, 4.0)]),
    ("sqrt_portable", over64::sqrt_portable, D::sqrt, 0.5, &[(1e-280, 1e300), (1.0, 4.0)]),
    ("rsqrt", over64::rsqrt, |x| ONE / x.sqrt(), 2.0, &[(1e-280, 1e290), (1.0, 4.0)]),
    (
        "cbrt",
        over64::cbrt,
        |x| {
            let y = D(x.0.cbrt(), 0.0);
            let y = y - (y * y * y - x) / (y * y).times(3.0);
            y - (y * y * y - x) / (y * y).times(3.0)
        },
        1.0,
        &[(1e-280, 1e290), (1.0, 8.0), (-8.0, -1.0)],
    ),
    ("sin", over64::sin, |x| x.sin_cos().0, 1.0, &[(-10.0, 10.0), (1e-30, 1.0), (0.0, 9e5)]),
    ("cos", over64::cos, |x| x.sin_cos().1, 1.0, &[(-10.0, 10.0), (1e-30, 1.0), (0.0, 9e5)]),
    (
        "tan",
        over64::tan,
        |x| {
            let (s, c) = x.sin_cos();
            s / c
        },
        1.0,
        &[(-10.0, 10.0), (1e-30, 1.0), (0.0, 9e5)],
    ),
    ("asin", over64::asin, D::asin, 1.0, &[(-1.0, 1.0), (1e-30, 1.0), (0.49, 0.51), (0.999, 1.0)]),
    ("acos", over64::acos, D::acos, 1.0, &[(-1.0, 1.0), (1e-30, 1.0), (0.49, 0.51), (0.999, 1.0), (-0.51, -0.49)]),
    ("atan", over64::atan, D::atan, 1.0, &[(-10.0, 10.0), (1e-30, 1.0), (0.3, 3.0), (1.0, 1e30)]),
    (
        "sinh",
        over64::sinh,
        |x| {
            let e = x.abs().expm1();
            let y = (e + e / (e + ONE)).scaled(0.5);
            if x.0 < 0.0 { -y } else { y }
        },
        2.0,
        &[(-2.0, 2.0), (1e-30, 1.0), (1.0, 709.0)],
    ),
    (
        "cosh",
        over64::cosh,
        |x| {
            let e = x.abs().exp();
            (e + ONE / e).scaled(0.5)
        },
        2.0,
        &[(-2.0, 2.0), (1e-30, 1.0), (1.0, 709.0)],
    ),
    (
        "tanh",
        over64::tanh,
        |x| {
            let e = x.abs().scaled(2.0).expm1();
            let y = e / (e + D(2.0, 0.0));
            if x.0 < 0.0 { -y } else { y }
        },
        2.0,
        &[(-2.0, 2.0), (1e-30, 1.0), (1.0, 30.0), (0.0, 0.6)],
    ),
    ("asinh", over64::asinh, D::asinh, 2.0, &[(-2.0, 2.0), (1e-30, 1.0), (1.0, 1e12), (0.1, 1.5)]),
    (
        "acosh",
        over64::acosh,
        |x| {
            let t = x - ONE;
            (t + (t * (x + ONE)).sqrt()).log1p()
        },
        2.0,
        &[(1.0, 2.0), (1.0, 1e12), (1.0, 1.001), (1.0, 10.0)],
    ),
    (
        "atanh",
        over64::atanh,
        |x| {
            let a = x.abs();
            let y = (a.scaled(2.0) / (ONE - a)).log1p().scaled(0.5);
            if x.0 < 0.0 { -y } else { y }
        },
        2.0,
        &[(-1.0, 1.0), (1e-30, 1.0), (0.99, 1.0), (0.0, 0.4)],
    ),
    ("logistic", over64::logistic, |x| ONE / (ONE + (-x).exp()), 2.0, &[(-700.0, 100.0), (-40.0, 40.0), (-2.0, 2.0)]),
    (
        "softplus",
        over64::softplus,
        |x| {
            if x.0 > 0.0 { x + (-x).exp().log1p() } else { x.exp().log1p() }
        },
        2.0,
        &[(-700.0, 100.0), (-40.0, 40.0), (-2.0, 2.0)],
    ),
    ("erf", over64::erf, D::erf, 2.0, &[(-1.0, 1.0), (1e-30, 1.0), (0.9, 6.5), (0.5, 1.5)]),
    (
        "erfc",
        over64::erfc,
        D::erfc,
        4.0,
        &[(-6.5, 2.0), (-1.0, 1.0), (1e-30, 1.0), (0.7, 0.8), (0.2, 0.3), (0.75, 3.0), (2.0, 26.5)],
    ),
];

/// Random numbers, the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 2f64.powi(53)
    }

    /// Between the bounds, both included: evenly if zero lies between or the range is short, else by the logarithm.
    fn within(&mut self, (lo, hi): (f64, f64)) -> f64 {
        if lo * hi > 0.0 && (hi / lo).max(lo / hi) > 100.0 {
            let (a, b) = (lo.abs().ln(), hi.abs().ln());
            let x = (a + (b - a) * self.unit()).exp() * lo.signum();
            x.clamp(lo, hi)
        } else {
            lo + (hi - lo) * self.unit()
        }
    }
}

/// 2^n, subnormals included.
fn pow2(n: i32) -> f64 {
    if n < -1022 { f64::from_bits(1 << (n + 1074)) } else { f64::from_bits(((n + 1023) as u64) << 52) }
}

fn ulps64(got: f64, want: D) -> f64 {
    let exponent = (want.0.abs().to_bits() >> 52) as i32 - 1023;
    let ulp = pow2(exponent.clamp(-1022, 1023) - 52);
    let e = ((got - want.0) - want.1).abs() / ulp;
    if e.is_nan() { f64::INFINITY } else { e }
}

const SAMPLES: usize = 5_000;

fn sweep64(samples: usize) -> Vec<String> {
    let mut bad = Vec::new();
    for &(name, f, reference, bound, ranges) in F64 {
        let mut random = Random(1);
        let mut worst = [Worst(0.0, 0.0); 2];
        for &range in ranges {
            // The ends of the ranges are in the table of special values.
            let x: Vec<f64> = (0..samples).map(|_| random.within(range)).filter(|x| x.abs() != 1.0).collect();
            let want: Vec<D> = x.iter().map(|&x| reference(D(x, 0.0))).collect();
            for (worst, set) in worst.iter_mut().zip(SETS) {
                let mut y = vec![0.0; x.len()];
                f(set, &x, &mut y);
                for ((&x, &y), &want) in x.iter().zip(&y).zip(&want) {
                    worst.note(ulps64(y, want), x);
                }
            }
        }
        for (set, Worst(error, x)) in SETS.into_iter().zip(worst) {
            println!("f64 {name:14} {:8} {error:6.3} ulp at {x:e}", set.name());
            if error > bound {
                let (got, exact) = (at(f, set, x), reference(D(x, 0.0)).0);
                bad.push(format!("f64 {name}, {set:?}: {error} ulp at {x:e}: got {got:e}, exact {exact:e}"));
            }
        }
    }
    bad
}

#[test]
fn f64_sampled() {
    let bad = sweep64(SAMPLES);
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
#[ignore = "takes minutes"]
fn f64_densely_sampled() {
    let bad = sweep64(100 * SAMPLES);
    assert!(bad.is_empty(), "{bad:#?}");
}

// ---------------------------------------------------------------- functions of two arguments

/// Arguments of a power: the base by its logarithm, the exponent so that the result stays within the range.
fn power(random: &mut Random, most: f64) -> (f64, f64) {
    let x = match random.bits() % 3 {
        0 => random.within((0.5, 2.0)),
        1 => random.within((0.999, 1.001)),
        _ => random.within((1e-30, 1e30)),
    };
    (x, random.within((-1.0, 1.0)) * most / x.ln().abs().max(1e-6))
}

/// The worst error of a function of two arguments.
fn worst_of_two<T: Real>(set: Set, f: Map2<T>, args: &[(T, T)], error: impl Fn(T, T, T) -> f64) -> Worst<(T, T)> {
    let (a, b): (Vec<T>, Vec<T>) = args.iter().copied().unzip();
    let mut y = vec![T::ZERO; args.len()];
    f(set, &a, &b, &mut y);
    let mut worst = Worst(0.0, (T::ZERO, T::ZERO));
    for (&(a, b), &y) in args.iter().zip(&y) {
        worst.note(error(a, b, y), (a, b));
    }
    worst
}

#[test]
fn f32_of_two() {
    let mut random = Random(2);
    let mut powers = Vec::new();
    let mut points = Vec::new();
    for _ in 0..400_000 {
        let (x, y) = power(&mut random, 110.0);
        powers.push((x as f32, y as f32));
        points.push((f32::from_bits(random.bits() as u32), f32::from_bits(random.bits() as u32)));
    }
    for set in SETS {
        let pow = worst_of_two(set, over32::pow, &powers, |x, y, z| ulps32(z, f64::from(x).powf(f64::from(y))));
        let atan2 = worst_of_two(set, over32::atan2, &points, |y, x, z| ulps32(z, f64::from(y).atan2(f64::from(x))));
        println!("f32 pow            {:8} {:6.3} ulp at {:?}", set.name(), pow.0, pow.1);
        println!("f32 atan2          {:8} {:6.3} ulp at {:?}", set.name(), atan2.0, atan2.1);
        assert!(pow.0 <= 1.0 && atan2.0 <= 1.0);
    }
}

#[test]
fn f64_of_two() {
    let mut random = Random(3);
    let mut powers = Vec::new();
    let mut points = Vec::new();
    for _ in 0..40_000 {
        powers.push(power(&mut random, 690.0));
        points.push((random.within((1e-3, 1e3)), random.within((-1e2, 1e2))));
    }
    for set in SETS {
        let pow = worst_of_two(set, over64::pow, &powers, |x, y, z| ulps64(z, (D(x, 0.0).log() * D(y, 0.0)).exp()));
        let atan2 = worst_of_two(set, over64::atan2, &points, |y, x, z| {
            let turn = if x < 0.0 { PIO2.scaled(2.0) } else { D(0.0, 0.0) };
            ulps64(z, (D(y, 0.0) / D(x, 0.0)).atan() + turn)
        });
        println!("f64 pow            {:8} {:6.3} ulp at {:?}", set.name(), pow.0, pow.1);
        println!("f64 atan2          {:8} {:6.3} ulp at {:?}", set.name(), atan2.0, atan2.1);
        assert!(pow.0 <= 1.0 && atan2.0 <= 1.0);
    }
}

#[test]
fn whole_powers() {
    for set in SETS {
        let mut random = Random(4);
        let (mut worst32, mut worst64) = (0.0f64, 0.0f64);
        for n in -40..=40 {
            let sign = |random: &mut Random| if random.bits() & 1 == 0 { 1.0 } else { -1.0 };
            let x: Vec<f64> = (0..1_000).map(|_| random.within((0.2, 5.0)) * sign(&mut random)).collect();
            let x32: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            let (mut y, mut y32) = ([0.0; 1_000], [0.0; 1_000]);
            over64::powi(set, &x, n, &mut y);
            over32::powi(set, &x32, n, &mut y32);
            for i in 0..1_000 {
                let want = (D(x[i].abs(), 0.0).log() * D(n as f64, 0.0)).exp();
                let want = if x[i] < 0.0 && n % 2 != 0 { -want } else { want };
                worst64 = worst64.max(ulps64(y[i], want));
                worst32 = worst32.max(ulps32(y32[i], f64::from(x32[i]).powi(n)));
            }
        }
        println!("f32 powi           {:8} {worst32:6.3} ulp", set.name());
        println!("f64 powi           {:8} {worst64:6.3} ulp", set.name());
        assert!(worst32 <= 2.0 && worst64 <= 2.0);
        let powi = |x: f64, n: i32| {
            let mut y = [0.0];
            over64::powi(set, &[x], n, &mut y);
            y[0]
        };
        assert_eq!(powi(-2.0, i32::MIN), 0.0);
        assert_eq!(powi(f64::NAN, 0), 1.0);
        let mut y = [0.0];
        over32::powi(set, &[0.5], -140, &mut y);
        assert_eq!(y, [f32::INFINITY]);
    }
}

// ---------------------------------------------------------------- special values

/// The same value: NaN equals NaN, zeros differ by sign.
fn same(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a.to_bits() == b.to_bits()
}

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// A function in both precisions and pairs of argument and value that hold in both.
type Special = (&'static str, Map<f32>, Map<f64>, &'static [(f64, f64)]);

macro_rules! special {
    ($($name:ident: $($x:expr => $y:expr),*;)*) => {
        [$((stringify!($name), over32::$name as Map<f32>, over64::$name as Map<f64>, &[$(($x, $y)),*] as &[(f64, f64)])),*]
    };
}

/// The names of all functions: of one argument, and of two.
macro_rules! names {
    (
        {$($(#[$doc:meta])* $unary:ident)*}
        {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
        {$($(#[$binary_doc:meta])* $binary:ident($a:ident, $b:ident))*}
    ) => {
        (&[$(stringify!($unary),)* $(stringify!($tried)),*], &[$(stringify!($binary)),*])
    };
}
const NAMES: (&[&str], &[&str]) = for_each_function! { names! {} };

/// A function without ranges to sample, a bound and special values is one without tests.
#[test]
fn every_function_has_tests() {
    let (unary, binary) = NAMES;
    for name in unary {
        assert!(F32.iter().any(|row| row.0 == *name), "{name} in f32 has no row");
        assert!(F64.iter().any(|row| row.0 == *name), "{name} in f64 has no row");
        assert!(SPECIAL.iter().any(|row| row.0 == *name), "{name} has no special values");
    }
    // These have tests of their own: `f32_of_two`, `f64_of_two`, `special_values_of_two`.
    assert_eq!(binary, ["pow", "atan2", "min", "max"]);
}

const SPECIAL: &[Special] = &special! {
    abs: -0.0 => 0.0, -INF => INF, NAN => NAN, -2.5 => 2.5;
    sign: 0.0 => 0.0, -0.0 => -0.0, 3.0 => 1.0, -INF => -1.0, NAN => NAN;
    floor: 0.0 => 0.0, -0.0 => -0.0, 0.7 => 0.0, -0.7 => -1.0, -2.0 => -2.0, 2.5 => 2.0, 1e30f32 as f64 => 1e30f32 as f64, -INF => -INF, NAN => NAN;
    exp: 0.0 => 1.0, -0.0 => 1.0, INF => INF, -INF => 0.0, NAN => NAN, 1e30f32 as f64 => INF, -1e30f32 as f64 => 0.0;
    expm1: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -1.0, NAN => NAN, -1000.0 => -1.0, 1000.0 => INF;
    log: 1.0 => 0.0, 0.0 => -INF, -0.0 => -INF, INF => INF, -1.0 => NAN, -INF => NAN, NAN => NAN;
    log1p: 0.0 => 0.0, -0.0 => -0.0, -1.0 => -INF, INF => INF, -2.0 => NAN, -INF => NAN, NAN => NAN;
    sqrt: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -1.0 => NAN, -INF => NAN, NAN => NAN, 9.0 => 3.0, 2.25 => 1.5;
    sqrt_portable: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -1.0 => NAN, -INF => NAN, NAN => NAN, 9.0 => 3.0, 2.25 => 1.5;
    rsqrt: 0.0 => INF, -0.0 => -INF, INF => 0.0, -1.0 => NAN, NAN => NAN, 4.0 => 0.5;
    cbrt: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -INF, NAN => NAN, 27.0 => 3.0, -8.0 => -2.0;
    sin: 0.0 => 0.0, -0.0 => -0.0, INF => NAN, -INF => NAN, NAN => NAN;
    cos: 0.0 => 1.0, -0.0 => 1.0, INF => NAN, -INF => NAN, NAN => NAN;
    tan: 0.0 => 0.0, -0.0 => -0.0, INF => NAN, -INF => NAN, NAN => NAN;
    asin: 0.0 => 0.0, -0.0 => -0.0, 1.5 => NAN, -INF => NAN, NAN => NAN;
    acos: 1.0 => 0.0, 1.5 => NAN, -1.5 => NAN, INF => NAN, NAN => NAN;
    atan: 0.0 => 0.0, -0.0 => -0.0, NAN => NAN;
    sinh: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -INF, NAN => NAN, 1e4 => INF;
    cosh: 0.0 => 1.0, -0.0 => 1.0, INF => INF, -INF => INF, NAN => NAN, -1e4 => INF;
    tanh: 0.0 => 0.0, -0.0 => -0.0, INF => 1.0, -INF => -1.0, NAN => NAN, 50.0 => 1.0;
    asinh: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -INF, NAN => NAN;
    acosh: 1.0 => 0.0, INF => INF, 0.5 => NAN, -INF => NAN, NAN => NAN;
    atanh: 0.0 => 0.0, -0.0 => -0.0, 1.0 => INF, -1.0 => -INF, 1.5 => NAN, INF => NAN, NAN => NAN;
    logistic: 0.0 => 0.5, -0.0 => 0.5, INF => 1.0, -INF => 0.0, NAN => NAN, -1e4 => 0.0, 1e4 => 1.0;
    softplus: INF => INF, -INF => 0.0, NAN => NAN, 1e4 => 1e4, -1e4 => 0.0;
    erfc: 0.0 => 1.0, -0.0 => 1.0, INF => 0.0, -INF => 2.0, NAN => NAN, 1e4 => 0.0, -1e4 => 2.0, 28.0 => 0.0;
    erf: 0.0 => 0.0, -0.0 => -0.0, INF => 1.0, -INF => -1.0, NAN => NAN, 10.0 => 1.0;
};

#[test]
fn special_values() {
    use std::f64::consts::{FRAC_PI_2, LN_2, PI};
    for set in SETS {
        for &(name, f, g, pairs) in SPECIAL {
            for &(x, y) in pairs {
                let got = at(g, set, x);
                assert!(same(got, y), "{set:?}: f64 {name}({x}) = {got}, not {y}");
                let got = f64::from(at(f, set, x as f32));
                assert!(same(got, y), "{set:?}: f32 {name}({x}) = {got}, not {y}");
            }
        }
        // Values at the ends, as the standard library rounds them.
        for (f, x, want) in [
            (over64::asin as Map<f64>, 1.0, FRAC_PI_2),
            (over64::asin, -1.0, -FRAC_PI_2),
            (over64::acos, -1.0, PI),
            (over64::acos, 0.0, FRAC_PI_2),
            (over64::atan, INF, FRAC_PI_2),
            (over64::atan, -INF, -FRAC_PI_2),
            (over64::softplus, 0.0, LN_2),
        ] {
            assert_eq!(at(f, set, x), want);
        }
        for (f, x, want) in [
            (over32::asin as Map<f32>, 1.0, std::f32::consts::FRAC_PI_2),
            (over32::acos, -1.0, std::f32::consts::PI),
            (over32::atan, f32::INFINITY, std::f32::consts::FRAC_PI_2),
        ] {
            assert_eq!(at(f, set, x), want);
        }
    }
}

#[test]
fn special_values_of_two() {
    for set in SETS {
        special_of_two(set);
    }
}

fn special_of_two(set: Set) {
    // C99, F.9.4.4: pow
    for (x, y, z) in [
        (0.0, -3.0, INF),
        (-0.0, -3.0, -INF),
        (-0.0, -2.0, INF),
        (0.0, -2.5, INF),
        (0.0, 3.0, 0.0),
        (-0.0, 3.0, -0.0),
        (-0.0, 2.0, 0.0),
        (-0.0, 0.5, 0.0),
        (-1.0, INF, 1.0),
        (-1.0, -INF, 1.0),
        (1.0, NAN, 1.0),
        (1.0, INF, 1.0),
        (NAN, 0.0, 1.0),
        (INF, -0.0, 1.0),
        (-2.0, 0.5, NAN),
        (NAN, 2.0, NAN),
        (2.0, NAN, NAN),
        (-1.0, NAN, NAN),
        (0.5, -INF, INF),
        (1.5, -INF, 0.0),
        (0.5, INF, 0.0),
        (1.5, INF, INF),
        (-INF, -3.0, -0.0),
        (-INF, -2.0, 0.0),
        (-INF, 3.0, -INF),
        (-INF, 2.5, INF),
        (INF, -1.0, 0.0),
        (INF, 0.1, INF),
        (-2.0, 3.0, -8.0),
        (-2.0, -2.0, 0.25),
        (-1.0, 16777217.0, 1.0 - 2.0),
        (2.0, 1e30, INF),
        (-2.0, -1e30, 0.0),
    ] {
        let got = at2(over64::pow, set, x, y);
        assert!(same(got, z), "f64 pow({x}, {y}) = {got}, not {z}");
        if y != 16777217.0 {
            let got = at2(over32::pow, set, x as f32, y as f32) as f64;
            assert!(same(got, z), "f32 pow({x}, {y}) = {got}, not {z}");
        }
    }
    // C99, F.9.1.4: atan2, by the standard library
    let values = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 1e300, 1e-300, 5e-324, -1e-310, 3.0];
    for y in values {
        for x in values {
            let (got, want) = (at2(over64::atan2, set, y, x), y.atan2(x));
            assert!(same(got, want) || (got - want).abs() <= 1e-15 * want.abs(), "atan2({y}, {x}) = {got}, not {want}");
            let (y, x) = (y as f32, x as f32);
            let (got, want) = (at2(over32::atan2, set, y, x), y.atan2(x));
            assert!(ulps32(got, want as f64) <= 1.0, "atan2({y}, {x}) = {got}, not {want}");
        }
    }
    // NaN on either side, and order.
    for (a, b) in [(1.0, NAN), (NAN, 1.0), (NAN, NAN)] {
        assert!(at2(over64::min, set, a, b).is_nan() && at2(over64::max, set, a, b).is_nan());
        assert!(
            at2(over32::min, set, a as f32, b as f32).is_nan() && at2(over32::max, set, a as f32, b as f32).is_nan()
        );
    }
    assert_eq!((at2(over64::min, set, -1.0, 2.0), at2(over64::max, set, -1.0, 2.0)), (-1.0, 2.0));
    assert_eq!(
        (at2(over32::min, set, 3.0, -INF as f32), at2(over32::max, set, 3.0, INF as f32)),
        (-INF as f32, INF as f32)
    );
}

/// Results that are subnormal, and arguments that are.
#[test]
fn subnormals() {
    for set in SETS {
        subnormals_of(set);
    }
}

fn subnormals_of(set: Set) {
    // exp, logistic and softplus agree far below zero; the reference is scaled by 2^1074.
    for k in 0..370 {
        let x = -708.0 - 0.1 * k as f64;
        let (n, p) = D(x, 0.0).exp_parts();
        let y = (D(1.0, 0.0) + p).scaled(2f64.powi(n + 1074)).0;
        // The logistic function is a quotient of sums that are rounded before.
        for (name, f, bound) in [
            ("exp", over64::exp as Map<f64>, 0.51),
            ("logistic", over64::logistic, 1.0),
            ("softplus", over64::softplus, 0.51),
        ] {
            let got = at(f, set, x);
            if got < f64::MIN_POSITIVE {
                let got = got.to_bits() as f64;
                assert!((got - y).abs() <= bound, "{name}({x}) is {got} and not {y} times 2^-1074");
            }
        }
    }
    for k in 0..70 {
        // erfc(26.544) is below the least normal number.
        let x = 26.55 + 0.01 * k as f64;
        let (n, p) = (-(D(x, 0.0) * D(x, 0.0))).exp_parts();
        let y = ((D(1.0, 0.0) + p) * D(x, 0.0).erfcx()).scaled(2f64.powi(n + 1074)).0;
        let got = at(over64::erfc, set, x);
        assert!(got < f64::MIN_POSITIVE, "erfc({x}) is subnormal");
        let bound = 0.51 + y * 2f64.powi(-51);
        assert!((got.to_bits() as f64 - y).abs() <= bound, "erfc({x}) is {got:e} and not {y} times 2^-1074");
    }
    let tiny = f64::from_bits(3);
    for f in [
        over64::sin as Map<f64>,
        over64::tan,
        over64::asin,
        over64::atan,
        over64::sinh,
        over64::tanh,
        over64::asinh,
        over64::atanh,
        over64::expm1,
        over64::log1p,
    ] {
        assert_eq!(at(f, set, tiny), tiny);
        assert_eq!(at(f, set, -1e-310), -1e-310);
    }
    assert!((at(over64::log, set, tiny) - tiny.ln()).abs() < 1e-12);
    assert!(
        (at(over64::cbrt, set, 8.0 * f64::from_bits(1 << 20)) / f64::from_bits(1 << 20).cbrt() - 2.0).abs() < 1e-15
    );
    assert_eq!(m64::sqrt_portable(tiny), tiny.sqrt());
    assert_eq!(at2(over64::pow, set, 2.0, -1074.0), f64::from_bits(1));
    assert_eq!(at2(over64::pow, set, f64::from_bits(1), 0.5), 2f64.powi(-537));
    assert_eq!(at2(over32::pow, set, 2.0, -149.0), f32::from_bits(1));
}

/// Angles beyond the plain reduction, against the standard library, which is off by an ulp or so itself.
#[test]
fn huge_angles() {
    for set in SETS {
        huge_angles_of(set);
    }
}

fn huge_angles_of(set: Set) {
    let mut random = Random(5);
    let table = [
        ("sin", over64::sin as Map<f64>, f64::sin as fn(f64) -> f64),
        ("cos", over64::cos, f64::cos),
        ("tan", over64::tan, f64::tan),
    ];
    let x: Vec<f64> = (0..60_000).map(|_| random.within((9e5, 1.7e308))).collect();
    for (name, f, reference) in table {
        let mut y = vec![0.0; x.len()];
        f(set, &x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let want = reference(x);
            assert!(ulps64(y, D(want, 0.0)) <= 2.0, "{name}({x:e}) = {y:e}, not {want:e}");
        }
    }
    // The double that comes closest to a multiple of pi/2 (Muller et al., Handbook of Floating-Point Arithmetic);
    // its cosine from 400-digit arithmetic. Some system libraries miss it by 79 ulp.
    let x = 6381956970095103.0 * 2f64.powi(797);
    assert_eq!(at(over64::cos, set, x), -4.687165924254628e-19);
    assert_eq!(at(over64::sin, set, -x), -at(over64::sin, set, x));
    assert_eq!(at(over64::sin, set, x).abs(), 1.0);
}

// ---------------------------------------------------------------- lanes, generic code, tensors

/// Every mapped function gives what the scalar one gives, lane by lane, in any company.
#[test]
fn lanes_map_the_scalars() {
    #[inline(always)]
    fn check<S: Isa, T: Real + std::fmt::Debug, const N: usize>(from: fn(f64) -> T, bits: fn(T) -> u64) {
        let values = [0.5, -0.25, 0.0, 2.0, -3.0, 1e5, 7.5, 0.875, 1e7, INF, 0.1, 1.0, -0.5, 4.0, NAN, 0.3].map(from);
        macro_rules! unary {
            (
                {$($(#[$doc:meta])* $unary:ident)*}
                {$($(#[$tried_doc:meta])* $tried:ident $moderate:ident)*}
                $binary:tt
            ) => {
                unary! { $($unary)* $($tried)* }
            };
            ($($f:ident)*) => {
                $(
                    for start in 0..16 {
                        let x: [T; N] = std::array::from_fn(|i| values[(start + i) % 16]);
                        let y = Lanes::from_array(x).$f::<S>().to_array();
                        for i in 0..N {
                            let want = T::$f::<S>(x[i]);
                            let nan = y[i] != y[i] && want != want;
                            assert!(nan || bits(y[i]) == bits(want), "{}({:?}) = {:?}", stringify!($f), x[i], y[i]);
                        }
                    }
                )*
            };
        }
        for_each_function! { unary! {} }
    }
    struct Check;
    impl Body for Check {
        #[inline(always)]
        fn run<S: Isa>(self) {
            check::<S, f32, 4>(|x| x as f32, |x| x.to_bits() as u64);
            check::<S, f32, 8>(|x| x as f32, |x| x.to_bits() as u64);
            check::<S, f32, 16>(|x| x as f32, |x| x.to_bits() as u64);
            check::<S, f64, 2>(|x| x, f64::to_bits);
            check::<S, f64, 4>(|x| x, f64::to_bits);
            check::<S, f64, 8>(|x| x, f64::to_bits);
        }
    }
    // Without optimisation, all these functions inlined into one need more than a test's stack.
    let all = || SETS.into_iter().for_each(|set| set.run(Check));
    std::thread::Builder::new().stack_size(1 << 26).spawn(all).expect("a thread").join().expect("no panic");
}

#[test]
fn lanes_compute() {
    let from = [9.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let x = F32x8::load(&from, 1);
    let mut to = [0.0; 10];
    (x + F32x8::splat(1.0)).store(&mut to, 2);
    assert_eq!(to, [0.0, 0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!((x.reduce_sum(), x.reduce_max::<Portable>(), x.reduce_min::<Portable>()), (36.0, 8.0, 1.0));
    // The order of the sum is part of the contract: 1e8 and -1e8 are four lanes apart, so nothing is lost.
    let wide = F32x8::from_array([1e8, 1.0, 1.0, 1.0, -1e8, 1.0, 1.0, 1.0]);
    assert_eq!(wide.reduce_sum(), 6.0);
    assert_eq!(F32x4::from_array([1e8, -1e8, 1.0, 1.0]).reduce_sum(), 0.0);
    let y = F64x2::from_array([3.0, -4.0]);
    assert_eq!((y * y - y / y).to_array(), [8.0, 15.0]);
    assert_eq!((-y).mul_add(y, F64x2::splat(1.0)).to_array(), [-8.0, -15.0]);
    assert_eq!(y.max::<Portable>(F64x2::ZERO).to_array(), [3.0, 0.0]);
    assert_eq!(y.min::<Portable>(F64x2::splat(NAN)).to_array().map(f64::is_nan), [true, true]);
    assert_eq!(y.select_lt(F64x2::ZERO, -y, y).to_array(), [3.0, 4.0]);
    assert_eq!(y.select_le(F64x2::splat(3.0), F64x2::ZERO, y).to_array(), [0.0, 0.0]);
    assert_eq!(y.select_eq(F64x2::splat(3.0), F64x2::ZERO, y).to_array(), [0.0, -4.0]);
    assert_eq!(y.map(|v| v + 1.0).zip(y, |a, b| a * b).to_array(), [12.0, 12.0]);
    assert_eq!(y.powi::<Portable>(3).to_array(), [27.0, -64.0]);
    assert_eq!(
        F64x4::splat(2.0).pow::<Portable>(F64x4::from_array([1.0, 2.0, -1.0, 0.5])).to_array()[..3],
        [2.0, 4.0, 0.5]
    );
    assert_eq!(
        y.atan2::<Portable>(F64x2::ZERO).to_array(),
        [std::f64::consts::FRAC_PI_2, -std::f64::consts::FRAC_PI_2]
    );
    let mut sum = F32x16::splat(1.0);
    sum += F32x16::splat(2.0);
    sum *= F32x16::splat(0.5);
    assert_eq!(sum, F32x16::splat(1.5));
}

#[cfg(feature = "std")]
#[test]
fn tensors_are_flat() {
    fn check<T: Tensor>(len: usize) {
        assert_eq!(T::LEN, len);
        let mut x = T::zeros();
        assert_eq!(x.flat().len(), len);
        assert!(x.flat().iter().all(|&v| v == T::Scalar::ZERO));
        for v in x.flat_mut() {
            *v = T::Scalar::ONE;
        }
        assert!(x.flat().iter().all(|&v| v == T::Scalar::ONE));
        assert!(T::ZERO.flat().iter().all(|&v| v == T::Scalar::ZERO));
    }
    check::<f32>(1);
    check::<f64>(1);
    check::<[f32; 7]>(7);
    check::<[[[f64; 2]; 3]; 4]>(24);
    check::<[[f32; 5]; 0]>(0);
    check::<[[f32; 0]; 5]>(0);
    let x = [[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
    assert_eq!(x.flat(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// 64 MB, far beyond a thread's stack.
#[cfg(feature = "std")]
#[test]
fn big_tensors_stay_off_the_stack() {
    let mut x = <[[f32; 4096]; 4096]>::zeros();
    x[4095][4095] = 1.0;
    assert_eq!(x.flat()[4096 * 4096 - 1], 1.0);
}

/// A loop that is tried without branches gives what the functions give one by one, wherever an argument is rare.
#[test]
fn kernels_take_rare_arguments() {
    use cotangent::kernels::sin::i1000 as kernel;
    struct Each<'a>(&'a kernel::X, &'a kernel::Y, &'a mut [[f32; 3]; 1000]);
    impl Body for Each<'_> {
        #[inline(always)]
        fn run<S: Isa>(self) {
            for i in 0..1000 {
                let (sin, cos) = (cotangent::math::f32::sin::<S>(self.0[i]), cotangent::math::f32::cos::<S>(self.0[i]));
                self.2[i] = [sin, self.1[i] * cos, S::mul_add(self.1[i], cos, 0.25)];
            }
        }
    }
    // In the first block, in a later one, in the rest, and in none.
    for at in [Some(0), Some(300), Some(511), Some(999), None] {
        for rare in [1e30, f32::INFINITY, f32::NAN, -6001.0] {
            let mut x: kernel::X = std::array::from_fn(|i| (i as f32 - 500.0) * 0.37);
            if let Some(at) = at {
                x[at] = rare;
            }
            let y_bar: kernel::Y = std::array::from_fn(|i| 1.0 + i as f32 * 0.01);
            let (mut y, mut y_dot, mut again) = ([f32::NAN; 1000], [f32::NAN; 1000], [f32::NAN; 1000]);
            let (mut added, mut stored, mut want) = ([0.25; 1000], [f32::NAN; 1000], [[0.0; 3]; 1000]);
            kernel::forward(&x, &mut y);
            kernel::jvp(&x, &y_bar, &mut again, &mut y_dot);
            kernel::vjp(&x, &y_bar, &mut added);
            kernel::vjp_store(&x, &y_bar, &mut stored);
            Set::Machine.run(Each(&x, &y_bar, &mut want));
            for (i, &[sin, slope, sum]) in want.iter().enumerate() {
                for (got, want) in
                    [(y[i], sin), (again[i], sin), (y_dot[i], slope), (stored[i], slope), (added[i], sum)]
                {
                    assert!(agree32(got, want), "{got} and not {want} at {i}, {rare} at {at:?}");
                }
            }
        }
    }
}
