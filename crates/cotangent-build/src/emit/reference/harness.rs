//! What compares kernels with plain loops: takes a kernel's functions, the loops that its spec says, and seeded points;
//! gives a panic that tells each difference. It stands in the generated tests as it is, and needs `std` alone.
//!
//! The loops compute with [`Near`]: a value in `f64`, and how far a kernel of type `S` may be from it. Each operation
//! adds what it rounds and passes on what its arguments have, so the tolerance of each element follows from its own
//! terms: none is chosen. Where the way that a kernel may go about it decides the result (an overflow on the way, a
//! division by zero, a comparison of what only rounding tells apart) any result is right.
//!
//! Absent zeros are those of the language: a product with one is absent, a sum passes over it, everything else sees 0.

// For tests within a crate that is `no_std`.
pub extern crate std;
use std::cell::Cell;
use std::fmt::Write;
use std::marker::PhantomData;
use std::prelude::rust_2021::*;
use std::{format, vec};

/// A scalar of kernels.
pub trait Scalar: Copy + PartialEq + std::fmt::Debug + 'static {
    /// Half the distance from 1 to the next.
    const UNIT: f64;
    /// The largest.
    const MAX: f64;
    /// The smallest normal number.
    const NORMAL: f64;
    const NAN: Self;
    fn of(value: f64) -> Self;
    fn get(self) -> f64;
}

impl Scalar for f32 {
    const UNIT: f64 = 1.0 / (1u64 << 24) as f64;
    const MAX: f64 = f32::MAX as f64;
    const NORMAL: f64 = f32::MIN_POSITIVE as f64;
    const NAN: f32 = f32::NAN;
    fn of(value: f64) -> f32 {
        value as f32
    }
    fn get(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
    const MAX: f64 = f64::MAX;
    const NORMAL: f64 = f64::MIN_POSITIVE;
    const NAN: f64 = f64::NAN;
    fn of(value: f64) -> f64 {
        value
    }
    fn get(self) -> f64 {
        self
    }
}

/// A value, and how far a kernel's may be from it. NaN without an error comes from a NaN that went in.
#[derive(Clone, Copy, Debug)]
pub struct Near<S> {
    pub value: f64,
    /// Infinite where any value is right.
    pub error: f64,
    /// A read outside a tensor, or what that makes absent.
    pub absent: bool,
    pub scalar: PhantomData<S>,
}

impl<S: Scalar> Near<S> {
    const fn raw(value: f64, error: f64) -> Self {
        Near { value, error, absent: false, scalar: PhantomData }
    }

    /// What a kernel has exactly.
    pub const fn exact(value: f64) -> Self {
        Self::raw(value, 0.0)
    }

    /// A number of a formula, to the nearest of the type.
    pub fn number(value: f64) -> Self {
        Self::raw(value, (S::of(value).get() - value).abs())
    }

    const fn outside() -> Self {
        Near { absent: true, ..Self::exact(0.0) }
    }

    fn unknown(value: f64) -> Self {
        Self::raw(value, f64::INFINITY)
    }

    fn is_unknown(self) -> bool {
        self.error == f64::INFINITY
    }

    /// Finite arithmetic gave it: beyond the range of the type the order of operations decides.
    fn within(value: f64, error: f64) -> Self {
        if value.abs() + error < 0.25 * S::MAX { Self::raw(value, error) } else { Self::unknown(value) }
    }

    /// What arithmetic on numbers that are not all finite gives: a NaN that was there, an infinity.
    fn special(value: f64, arguments: &[Self]) -> Self {
        if arguments.iter().any(|a| a.is_unknown()) || value.is_nan() && !arguments.iter().any(|a| a.value.is_nan()) {
            return Self::unknown(value);
        }
        Self::exact(value)
    }

    fn is_plain(self) -> bool {
        self.value.is_finite() && !self.is_unknown()
    }

    fn step(value: f64) -> f64 {
        // Results below the normal numbers lose digits.
        S::UNIT * value.abs() + 2.0 * S::UNIT * S::NORMAL
    }

    pub fn add(self, b: Self) -> Self {
        if self.absent || b.absent {
            return if self.absent { b } else { self };
        }
        let value = self.value + b.value;
        if !(self.is_plain() && b.is_plain()) {
            return Self::special(value, &[self, b]);
        }
        Self::within(value, self.error + b.error + Self::step(value))
    }

    pub fn sub(self, b: Self) -> Self {
        self.add(b.neg())
    }

    pub fn neg(self) -> Self {
        Near { value: -self.value, ..self }
    }

    pub fn mul(self, b: Self) -> Self {
        if self.absent || b.absent {
            return Self::outside();
        }
        let value = self.value * b.value;
        if !(self.is_plain() && b.is_plain()) {
            // The sign of what is zero but for rounding decides that of the infinity.
            let vague = |x: Self| x.error > 0.0 && x.error >= x.value.abs();
            return if vague(self) || vague(b) { Self::unknown(value) } else { Self::special(value, &[self, b]) };
        }
        let error = self.value.abs() * b.error + b.value.abs() * self.error + self.error * b.error;
        Self::within(value, error + Self::step(value))
    }

    pub fn div(self, b: Self) -> Self {
        if self.absent {
            return Self::outside();
        }
        let value = self.value / b.value;
        if b.value.abs() <= b.error {
            return Self::unknown(value);
        }
        if !(self.is_plain() && b.is_plain()) {
            return Self::special(value, &[self, b]);
        }
        let error = (self.error + value.abs() * b.error) / (b.value.abs() - b.error);
        // Twice, as the product with the reciprocal is rounded so.
        Self::within(value, error + 2.0 * Self::step(value))
    }

    /// A function that is monotone on either side of `turns`, with an error of `units` half units in the last place.
    fn function(self, f: impl Fn(f64) -> f64, turns: &[f64], units: f64) -> Self {
        let value = f(self.value);
        if self.is_unknown() || self.value.is_nan() {
            return Self::special(value, &[self]);
        }
        let mut error = 0.0_f64;
        if self.error > 0.0 {
            let (low, high) = (self.value - self.error, self.value + self.error);
            for x in [low, high].into_iter().chain(turns.iter().copied().filter(|x| (low..=high).contains(x))) {
                let off = (f(x) - value).abs();
                error = if off >= 0.0 { error.max(off) } else { f64::INFINITY };
            }
        }
        if value.is_nan() {
            return Self::unknown(value);
        }
        if value.is_infinite() || value.abs() > S::MAX {
            // Functions overflow where their values do.
            let sure = value.abs() - error > 1.001 * S::MAX || value.is_infinite() && error == 0.0;
            return if sure { Self::exact(f64::INFINITY.copysign(value)) } else { Self::unknown(value) };
        }
        Self::raw(value, error + units * Self::step(value))
    }

    /// A function that moves no more than its argument, as sine and cosine.
    fn wave(self, f: impl Fn(f64) -> f64) -> Self {
        let value = f(self.value);
        if !self.is_plain() {
            return if self.value.is_infinite() { Self::unknown(value) } else { Self::special(value, &[self]) };
        }
        Self::raw(value, self.error.min(2.0) + 4.0 * Self::step(value))
    }

    pub fn abs(self) -> Self {
        if self.is_plain() { Self::raw(self.value.abs(), self.error) } else { Self::special(self.value.abs(), &[self]) }
    }
    pub fn sign(self) -> Self {
        self.function(|x| if x == 0.0 || x.is_nan() { x } else { 1f64.copysign(x) }, &[0.0], 0.0)
    }
    pub fn floor(self) -> Self {
        self.function(f64::floor, &[], 0.0)
    }
    pub fn exp(self) -> Self {
        self.function(f64::exp, &[], 4.0)
    }
    pub fn expm1(self) -> Self {
        self.function(f64::exp_m1, &[], 4.0)
    }
    pub fn log(self) -> Self {
        self.function(f64::ln, &[], 4.0)
    }
    pub fn log1p(self) -> Self {
        self.function(f64::ln_1p, &[], 4.0)
    }
    pub fn sqrt(self) -> Self {
        self.function(f64::sqrt, &[], 4.0)
    }
    pub fn rsqrt(self) -> Self {
        self.function(|x| 1.0 / x.sqrt(), &[], 4.0)
    }
    pub fn cbrt(self) -> Self {
        self.function(f64::cbrt, &[], 4.0)
    }
    pub fn sin(self) -> Self {
        self.wave(f64::sin)
    }
    pub fn cos(self) -> Self {
        self.wave(f64::cos)
    }
    pub fn tan(self) -> Self {
        // Beyond a pole the values at both ends say nothing.
        if self.error > 0.1 && self.is_plain() {
            Self::unknown(self.value.tan())
        } else {
            self.function(f64::tan, &[], 4.0)
        }
    }
    pub fn asin(self) -> Self {
        self.function(f64::asin, &[], 4.0)
    }
    pub fn acos(self) -> Self {
        self.function(f64::acos, &[], 4.0)
    }
    pub fn atan(self) -> Self {
        self.function(f64::atan, &[], 4.0)
    }
    pub fn sinh(self) -> Self {
        self.function(f64::sinh, &[], 4.0)
    }
    pub fn cosh(self) -> Self {
        self.function(f64::cosh, &[0.0], 4.0)
    }
    pub fn tanh(self) -> Self {
        self.function(f64::tanh, &[], 4.0)
    }
    pub fn asinh(self) -> Self {
        self.function(asinh, &[], 4.0)
    }
    pub fn acosh(self) -> Self {
        self.function(acosh, &[], 4.0)
    }
    pub fn atanh(self) -> Self {
        self.function(|x| 0.5 * (2.0 * x / (1.0 - x)).ln_1p(), &[], 4.0)
    }
    pub fn logistic(self) -> Self {
        self.function(|x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }, &[], 4.0)
    }
    pub fn softplus(self) -> Self {
        self.function(|x| x.max(0.0) + (-x.abs()).exp().ln_1p(), &[], 4.0)
    }
    pub fn erf(self) -> Self {
        self.function(erf, &[], 4.0)
    }
    pub fn erfc(self) -> Self {
        self.function(erfc, &[], 8.0)
    }

    /// A literal power.
    pub fn powf(self, n: f64) -> Self {
        let whole = n.fract() == 0.0 && n.abs() < 64.0;
        if n < 0.0 && self.value.abs() <= self.error {
            return Self::unknown(self.value);
        }
        // A power of a zero or an infinity may be one.
        let raised = self.function(|x| if whole { x.powi(n as i32) } else { x.powf(n) }, &[0.0], 4.0 + n.abs());
        if self.is_plain() && raised.value.is_infinite() { Self::unknown(raised.value) } else { raised }
    }

    pub fn pow(self, b: Self) -> Self {
        self.corners(b, f64::powf)
    }

    pub fn atan2(self, b: Self) -> Self {
        self.corners(b, f64::atan2)
    }

    /// A function of two arguments, monotone in each.
    fn corners(self, b: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let value = f(self.value, b.value);
        if self.is_unknown() || b.is_unknown() || value.is_nan() {
            return Self::special(value, &[self, b]);
        }
        let mut error = 0.0_f64;
        for x in [self.value - self.error, self.value + self.error] {
            for y in [b.value - b.error, b.value + b.error] {
                let off = if (x, y) == (self.value, b.value) { 0.0 } else { (f(x, y) - value).abs() };
                error = if off >= 0.0 { error.max(off) } else { f64::INFINITY };
            }
        }
        if value.is_infinite() || value.abs() > S::MAX {
            return Self::unknown(value);
        }
        Self::raw(value, error + 8.0 * Self::step(value))
    }

    pub fn max(self, b: Self) -> Self {
        let nan = self.value.is_nan() || b.value.is_nan();
        if nan || self.is_unknown() || b.is_unknown() {
            return Self::special(if nan { f64::NAN } else { self.value.max(b.value) }, &[self, b]);
        }
        let (low, high) = if self.value < b.value { (self, b) } else { (b, self) };
        let apart = high.value - low.value > 2.0 * (high.error + low.error);
        Self::raw(high.value, if apart { high.error } else { high.error.max(low.error) })
    }

    pub fn min(self, b: Self) -> Self {
        self.neg().max(b.neg()).neg()
    }

    /// Which of three: the values, whether rounding may turn it round.
    fn compare(self, b: Self, holds: impl Fn(f64, f64) -> bool) -> Truth {
        // Equal values come from the same numbers in the same way: a kernel's are equal too.
        let known = !self.is_unknown() && !b.is_unknown();
        let close = (self.value - b.value).abs() <= 2.0 * (self.error + b.error);
        Truth { holds: holds(self.value, b.value), sure: known && (self.value == b.value || !close) }
    }
    pub fn lt(self, b: Self) -> Truth {
        self.compare(b, |a, b| a < b)
    }
    pub fn le(self, b: Self) -> Truth {
        self.compare(b, |a, b| a <= b)
    }
    pub fn gt(self, b: Self) -> Truth {
        self.compare(b, |a, b| a > b)
    }
    pub fn ge(self, b: Self) -> Truth {
        self.compare(b, |a, b| a >= b)
    }
    pub fn eq(self, b: Self) -> Truth {
        self.compare(b, |a, b| a == b)
    }
    pub fn ne(self, b: Self) -> Truth {
        self.compare(b, |a, b| a != b)
    }
}

fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let b = if a > 1e8 { a.ln() + std::f64::consts::LN_2 } else { (a + a * a / (1.0 + (1.0 + a * a).sqrt())).ln_1p() };
    b.copysign(x)
}

fn acosh(x: f64) -> f64 {
    let t = x - 1.0;
    if x > 1e8 { x.ln() + std::f64::consts::LN_2 } else { (t + (2.0 * t + t * t).sqrt()).ln_1p() }
}

/// `2/sqrt(pi) exp(-x²)` times the sum of `2^n x^(2n+1) / (1 3 5 ... (2n+1))`, whose terms have one sign.
fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { 1f64.copysign(x) };
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// From 1/2 on `exp(-x²)/sqrt(pi)` over `x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...)))`, with as many terms as matter.
fn erfc(x: f64) -> f64 {
    if x.is_nan() || x < 0.5 {
        return 1.0 - erf(x);
    }
    let terms = 20 + (180.0 / (x * x)) as u32;
    let below = (1..=terms).rev().fold(x, |below, k| x + 0.5 * f64::from(k) / below);
    // The square of the first part is exact.
    let part = f64::from(x.min(30.0) as f32);
    let rest = x.min(30.0) - part;
    let exp = (-part * part).exp() * (-rest * (rest + 2.0 * part)).exp();
    0.5 * std::f64::consts::FRAC_2_SQRT_PI * exp / below
}

/// Whether a condition holds, and whether rounding leaves no doubt.
#[derive(Clone, Copy)]
pub struct Truth {
    holds: bool,
    sure: bool,
}

impl Truth {
    /// Of coordinates.
    pub fn of(holds: bool) -> Self {
        Truth { holds, sure: true }
    }
    pub fn not(self) -> Self {
        Truth { holds: !self.holds, ..self }
    }
    pub fn and(self, other: impl FnOnce() -> Truth) -> Self {
        if !self.holds && self.sure {
            return self;
        }
        let other = other();
        let sure = other.sure && (self.sure || !other.holds);
        Truth { holds: self.holds && other.holds, sure }
    }
    pub fn or(self, other: impl FnOnce() -> Truth) -> Self {
        self.not().and(|| other().not()).not()
    }
    /// The branch that is taken; where that is in doubt, both.
    pub fn choose<S: Scalar>(self, yes: impl FnOnce() -> Near<S>, no: impl FnOnce() -> Near<S>) -> Near<S> {
        if self.sure {
            return if self.holds { yes() } else { no() };
        }
        let (yes, no) = (yes(), no());
        let (taken, other) = if self.holds { (yes, no) } else { (no, yes) };
        if !(taken.is_plain() && other.is_plain()) {
            return Near::unknown(taken.value);
        }
        let error = taken.error.max((taken.value - other.value).abs() + other.error);
        Near { absent: yes.absent && no.absent, ..Near::raw(taken.value, error) }
    }
}

/// Terms that are added in any order.
#[derive(Clone, Copy)]
pub struct Sum<S> {
    value: Near<S>,
    /// The sum of the squares of the terms' errors.
    squares: f64,
    /// The sum of their magnitudes, and how many are not zero.
    magnitude: f64,
    terms: f64,
}

impl<S: Scalar> Sum<S> {
    pub fn new() -> Self {
        Sum { value: Near::outside(), squares: 0.0, magnitude: 0.0, terms: 0.0 }
    }

    pub fn take(&mut self, term: Near<S>) {
        if term.absent {
            return;
        }
        if self.value.absent || !self.value.is_plain() || !term.is_plain() {
            self.value = self.value.add(term);
        } else {
            self.value.value += term.value;
        }
        self.squares += term.error * term.error;
        if term.value != 0.0 && term.value.is_finite() {
            self.magnitude += term.value.abs();
            self.terms += 1.0;
        }
    }

    pub fn total(&self) -> Near<S> {
        let value = self.value;
        if value.absent {
            return Near::exact(0.0);
        }
        if self.magnitude > 0.25 * S::MAX {
            return Near::unknown(value.value);
        }
        if !value.is_plain() {
            return value;
        }
        // Errors of many terms point in all directions; so does what each addition rounds.
        let passed = self.squares.sqrt();
        let rounded = if self.terms > 1.0 { S::UNIT * self.magnitude * (1.0 + self.terms.sqrt()) } else { 0.0 };
        Near::within(value.value, passed + rounded)
    }
}

/// Another reduction, which passes over coordinates where a read falls outside.
pub struct Fold<S> {
    value: Near<S>,
    f: fn(Near<S>, Near<S>) -> Near<S>,
}

impl<S: Scalar> Fold<S> {
    pub fn new(start: f64, f: fn(Near<S>, Near<S>) -> Near<S>) -> Self {
        Fold { value: Near::exact(start), f }
    }
    pub fn take(&mut self, r: &Run<S>, term: Near<S>) {
        if !r.outside.replace(false) {
            self.value = (self.f)(self.value, term);
        }
    }
    pub fn total(&self) -> Near<S> {
        self.value
    }
}

/// The tensors of one run of loops. Elements stand in the order of the declaration, whatever the layout.
pub struct Run<S> {
    arrays: Vec<Array<S>>,
    /// A read fell outside.
    outside: Cell<bool>,
}

struct Array<S> {
    shape: &'static [usize],
    values: Vec<Near<S>>,
    /// In place of the values, once something was added.
    sums: Vec<Sum<S>>,
}

impl<S: Scalar> Array<S> {
    fn locate<const R: usize>(&self, index: [i64; R]) -> Option<usize> {
        let mut at = 0;
        for (n, extent) in index.into_iter().zip(self.shape) {
            if n < 0 || n >= *extent as i64 {
                return None;
            }
            at = at * extent + n as usize;
        }
        Some(at)
    }
    fn get(&self, at: usize) -> Near<S> {
        if self.sums.is_empty() { self.values[at] } else { self.sums[at].total() }
    }
    /// Room for its elements, zero.
    fn make(&mut self) {
        if self.values.is_empty() {
            self.values = vec![Near::exact(0.0); self.shape.iter().product()];
        }
    }
}

/// A position that is divided; outside where there is a remainder.
pub fn exactly(n: i64, divisor: i64) -> i64 {
    if n % divisor == 0 { n / divisor } else { i64::MIN }
}

impl<S: Scalar> Run<S> {
    fn new(tensors: &[Tensor]) -> Self {
        let array = |t: &Tensor| Array { shape: t.shape, values: Vec::new(), sums: Vec::new() };
        Run { arrays: tensors.iter().map(array).collect(), outside: Cell::new(false) }
    }

    pub fn at<const R: usize>(&self, t: usize, index: [i64; R]) -> Near<S> {
        let array = &self.arrays[t];
        match array.locate(index) {
            Some(_) if array.values.is_empty() => Near::exact(0.0),
            Some(at) => array.get(at),
            None => {
                self.outside.set(true);
                Near::outside()
            }
        }
    }

    pub fn inside<const R: usize>(&self, t: usize, index: [i64; R]) -> Truth {
        Truth::of(self.arrays[t].locate(index).is_some())
    }

    pub fn set<const R: usize>(&mut self, t: usize, index: [i64; R], value: Near<S>) {
        let array = &mut self.arrays[t];
        array.make();
        let Some(at) = array.locate(index) else { return };
        let value = Near { absent: false, ..value };
        match array.sums.get_mut(at) {
            Some(sum) => {
                *sum = Sum::new();
                sum.take(value);
            }
            None => array.values[at] = value,
        }
    }

    pub fn add<const R: usize>(&mut self, t: usize, index: [i64; R], value: Near<S>) {
        let array = &mut self.arrays[t];
        array.make();
        if array.sums.is_empty() {
            let begun = |v: &Near<S>| {
                let mut sum = Sum::new();
                sum.take(*v);
                sum
            };
            array.sums = array.values.iter().map(begun).collect();
        }
        if let Some(at) = array.locate(index) {
            array.sums[at].take(value);
        }
    }

    /// Before a term of a [`Fold`].
    pub fn begin(&self) {
        self.outside.set(false);
    }
}

/// What a tensor is.
#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Input,
    Output,
    /// The tangent, or the cotangent, of the tensor of this number.
    Dot(usize),
    Bar(usize),
    Other,
}

pub struct Tensor {
    pub name: &'static str,
    pub role: Role,
    /// In the order of the declaration.
    pub shape: &'static [usize],
    /// The dimensions in the order of storage.
    pub order: &'static [usize],
    /// Where an input is defined: each end, and whether it belongs to it.
    pub domain: [(f64, bool); 2],
}

pub struct Function {
    pub name: &'static str,
    pub reads: &'static [usize],
    pub writes: &'static [usize],
    /// It adds to what it writes.
    pub adds: bool,
    /// Where a NaN goes in and the loops have one there is one: not in straight lines, where factors that are zero by
    /// the formula are left out.
    pub nan: bool,
    /// Which loops say what it computes.
    pub loops: usize,
}

type Loops<S> = (fn(&mut Run<S>), &'static [usize], u64);
type Call<S> = fn(usize, &mut [Vec<S>], &mut [Vec<S>]);

/// A kernel, and the loops that its spec says.
pub struct Kernel<S: 'static> {
    pub name: &'static str,
    /// File and line of the instance.
    pub place: &'static str,
    pub tensors: &'static [Tensor],
    pub functions: &'static [Function],
    /// Each with the tensors that are given to it besides inputs and seeds, and about how many operations it has.
    pub loops: &'static [Loops<S>],
    /// Calls a function by its number, with what it reads and what it writes, elements in the order of storage.
    pub call: Call<S>,
    /// Numbers of the formulas, where branches may part.
    pub kinks: &'static [f64],
    /// `forward` and `jvp` add in one order.
    pub one_order: bool,
    /// The instruction sets that a function may be run with: the one of this process, and all.
    pub set: fn() -> &'static str,
    pub sets: fn() -> &'static [&'static str],
    /// The module of the test.
    pub module: &'static str,
}

/// Numbers that are the same on every run: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn new(seed: &str) -> Self {
        Random(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn of(&mut self, choices: &[f64]) -> f64 {
        choices[self.below(choices.len())]
    }
}

/// Where the functions are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    /// As random, but so small that products with it of as many terms as a square matrix has rows stay about what they
    /// were.
    Gentle,
    Random,
    /// Few different values: kinks, ties, exact sums.
    Kinks,
    /// Zeros of both signs, subnormal numbers, the least normal ones.
    Small,
    /// A few huge numbers among others.
    Huge,
    /// An infinity in some inputs.
    Infinite,
    /// A NaN in one input.
    Nan,
}

/// In the order in which they are taken where work is bounded.
const POINTS: [Where; 9] = [
    Where::Gentle,
    Where::Kinks,
    Where::Random,
    Where::Small,
    Where::Huge,
    Where::Infinite,
    Where::Nan,
    Where::Random,
    Where::Kinks,
];

/// At most so many operations of loops for a kernel, at least one point.
const WORK: u64 = 12_000_000;

/// Set in a process that only writes down what the kernel computes.
const RESULTS: &str = "COTANGENT_TEST_RESULTS";

/// Another number draws other points.
const SEED: &str = "COTANGENT_TEST_SEED";

/// Values of inputs and seeds by tensor, in the order of the declaration.
struct Point {
    at: Where,
    seed: String,
    values: Vec<Vec<f64>>,
}

impl<S: Scalar> Kernel<S> {
    fn points(&self) -> Vec<Point> {
        let work: u64 = self.loops.iter().map(|l| l.2.max(1)).sum();
        let count = (WORK / work).clamp(1, POINTS.len() as u64) as usize;
        let base = std::env::var(SEED).unwrap_or_else(|_| "0".into());
        let point = |(n, at): (usize, &Where)| {
            let seed = format!("{base}/{}/{n}", self.name);
            let mut random = Random::new(&seed);
            let broken = random.below(self.tensors.iter().filter(|t| t.role == Role::Input).count());
            let mut inputs = 0;
            let mut value = |t: &Tensor| {
                let count = t.shape.iter().product();
                match t.role {
                    Role::Input => {
                        inputs += 1;
                        self.input(t, count, *at, inputs - 1 == broken, &mut random)
                    }
                    Role::Dot(of) if self.tensors[of].role == Role::Input => seeds::<S>(count, *at, &mut random),
                    Role::Bar(of) if self.tensors[of].role == Role::Output => seeds::<S>(count, *at, &mut random),
                    _ => Vec::new(),
                }
            };
            Point { at: *at, values: self.tensors.iter().map(&mut value).collect(), seed }
        };
        POINTS[..count].iter().enumerate().map(point).collect()
    }

    /// An input. `broken`: the one that is to hold what is no number.
    fn input(&self, t: &Tensor, count: usize, at: Where, broken: bool, random: &mut Random) -> Vec<f64> {
        let [(lo, lo_in), (hi, hi_in)] = t.domain;
        let (low, high) = match (lo.is_finite(), hi.is_finite()) {
            (true, true) => (lo, hi),
            (true, false) => (lo, lo + 3.0),
            (false, true) => (hi - 3.0, hi),
            (false, false) => (-2.0, 2.0),
        };
        let inside = |v: f64| (v > lo || lo_in && v == lo) && (v < hi || hi_in && v == hi);
        let whole = lo == f64::NEG_INFINITY && hi == f64::INFINITY;
        let margin = 0.05 * (high - low);
        let scale = if at == Where::Gentle && t.shape.len() > 1 { (count as f64).powf(-0.25) } else { 1.0 };
        let usual = |random: &mut Random| {
            // Poles of formulas that are defined everywhere else stand at zero.
            let v = if whole {
                scale * random.of(&[-1.0, 1.0]) * random.uniform(margin, high)
            } else {
                random.uniform(low + margin, high - margin)
            };
            S::of(v).get()
        };
        let rounded = |v: &f64| S::of(*v).get();
        let kept = |list: &[f64]| list.iter().map(rounded).filter(|v| inside(*v)).collect::<Vec<f64>>();
        let mut few = kept(&[self.kinks, &[-1.0, 0.0, 1.0]].concat());
        if few.len() < 2 {
            few.extend(kept(&[low + margin, high - margin, 0.5 * (low + high)]));
        }
        let n = S::NORMAL;
        let ends = [lo, hi].map(|end| if end.is_finite() { end } else { 0.0 });
        let small = kept(&[0.0, -0.0, 0.0, -0.0, n, -n, 0.25 * n, -0.25 * n, S::UNIT, -S::UNIT, ends[0], ends[1]]);
        let root = S::MAX.sqrt();
        let huge = kept(&[root, -root, 0.2 * S::MAX, -0.2 * S::MAX, 1e9, -1e9, 0.9 * hi.min(S::MAX)]);
        // One in so many, of all tensors of some size at least one.
        let rare = 1 + count / 40;
        let mut all: Vec<f64> = (0..count)
            .map(|_| match at {
                Where::Kinks => random.of(&few),
                Where::Small if !small.is_empty() && random.below(2) == 0 => random.of(&small),
                _ => usual(random),
            })
            .collect();
        let special: &[f64] = match at {
            Where::Huge => &huge,
            Where::Infinite if whole && random.below(2) == 0 => &[f64::INFINITY, f64::NEG_INFINITY],
            Where::Nan if whole && broken => &[f64::NAN],
            _ => &[],
        };
        if !special.is_empty() {
            (0..if at == Where::Huge { rare } else { 1 }).for_each(|_| all[random.below(count)] = random.of(special));
        }
        all
    }

    /// Elements as they are stored.
    fn stored(&self, t: usize, values: &[f64]) -> Vec<S> {
        self.places(t).map(|at| S::of(values[at])).collect()
    }

    /// The place in the order of the declaration of each stored element.
    fn places(&self, t: usize) -> impl Iterator<Item = usize> {
        let Tensor { shape, order, .. } = self.tensors[t];
        let count: usize = shape.iter().product();
        (0..count).map(move |n| {
            let (mut rest, mut index) = (n, vec![0; shape.len()]);
            for d in order.iter().rev() {
                index[*d] = rest % shape[*d];
                rest /= shape[*d];
            }
            index.iter().zip(shape).fold(0, |at, (n, extent)| at * extent + n)
        })
    }

    /// What each function writes at a point, as it is stored.
    fn results(&self, p: &Point) -> Vec<Vec<Vec<S>>> {
        let mut outputs: Vec<Option<Vec<S>>> = vec![None; self.tensors.len()];
        // Where no function makes what another is given, the loops do.
        let made = |t: usize| self.functions[0].writes.contains(&t);
        for t in self.functions.iter().flat_map(|f| f.reads).copied() {
            if self.tensors[t].role == Role::Output && !made(t) && outputs[t].is_none() {
                let r = self.run(self.loops[0].0, p);
                let values: Vec<f64> = (0..r.arrays[t].values.len()).map(|at| r.arrays[t].get(at).value).collect();
                outputs[t] = Some(self.stored(t, &values));
            }
        }
        let mut all = Vec::new();
        for (n, f) in self.functions.iter().enumerate() {
            let argument = |t: &usize| match &outputs[*t] {
                Some(made) if self.tensors[*t].role == Role::Output => made.clone(),
                _ => self.stored(*t, &p.values[*t]),
            };
            let mut reads: Vec<Vec<S>> = f.reads.iter().map(argument).collect();
            let start = |t: &usize| match f.adds {
                true => self.stored(*t, &self.start(f, *t, p)),
                // Whatever was there.
                false => vec![S::NAN; self.tensors[*t].shape.iter().product()],
            };
            let mut writes: Vec<Vec<S>> = f.writes.iter().map(start).collect();
            (self.call)(n, &mut reads, &mut writes);
            if n == 0 {
                f.writes.iter().zip(&writes).for_each(|(t, v)| outputs[*t] = Some(v.clone()));
            }
            all.push(writes);
        }
        all
    }

    /// What a function that adds starts from.
    fn start(&self, f: &Function, t: usize, p: &Point) -> Vec<f64> {
        let tensor = &self.tensors[t];
        let at = if p.at == Where::Kinks { Where::Kinks } else { Where::Random };
        seeds::<S>(
            tensor.shape.iter().product(),
            at,
            &mut Random::new(&format!("{}/{}/{}", p.seed, f.name, tensor.name)),
        )
    }

    /// What loops start from at a point.
    fn given(&self, p: &Point) -> Run<S> {
        let mut r = Run::new(self.tensors);
        for (t, values) in p.values.iter().enumerate() {
            r.arrays[t].values = values.iter().map(|v| Near::exact(S::of(*v).get())).collect();
        }
        r
    }

    /// What loops give at a point that need nothing of others.
    fn run(&self, loops: fn(&mut Run<S>), p: &Point) -> Run<S> {
        let mut r = self.given(p);
        loops(&mut r);
        r
    }

    /// What the loops give at a point, by loops and tensor.
    fn expected(&self, p: &Point) -> Vec<Run<S>> {
        let mut runs: Vec<Run<S>> = Vec::new();
        for (run, given, _) in self.loops {
            let mut r = self.given(p);
            for t in *given {
                let made = &runs[0].arrays[*t];
                let round = |v: Near<S>| Near { error: v.error + Near::<S>::step(v.value), ..v };
                r.arrays[*t].values = (0..made.values.len()).map(|at| round(made.get(at))).collect();
            }
            run(&mut r);
            runs.push(r);
        }
        runs
    }
}

/// A tangent, a cotangent, or what is added to.
fn seeds<S: Scalar>(count: usize, at: Where, random: &mut Random) -> Vec<f64> {
    let draw = |_| match at {
        Where::Kinks => random.of(&[-1.0, 0.0, 1.0, 2.0]),
        Where::Small if random.below(4) == 0 => random.of(&[0.0, -0.0]),
        _ => S::of(random.uniform(-1.0, 1.0)).get(),
    };
    (0..count).map(draw).collect()
}

/// Compares every function of a kernel with its loops, under every instruction set of the machine.
pub fn check<S: Scalar>(k: &Kernel<S>) {
    let points = k.points();
    if let Some(path) = std::env::var_os(RESULTS) {
        let all = points.iter().flat_map(|p| k.results(p)).flatten().flatten();
        let bytes: Vec<u8> = all.flat_map(|v| v.get().to_bits().to_le_bytes()).collect();
        return std::fs::write(path, bytes).expect("the folder for temporary files can be written");
    }
    // The others in processes of their own: a process chooses once.
    let own = (k.set)();
    let others: Vec<_> = (k.sets)().iter().filter(|set| **set != own).map(|set| (*set, elsewhere(k, set))).collect();
    let mut failures = Failures { text: String::new(), count: 0 };
    let mut theirs: Vec<(&str, std::vec::IntoIter<f64>)> = Vec::new();
    let mut told: Vec<Vec<bool>> = k.functions.iter().map(|f| vec![false; f.writes.len()]).collect();
    let expected: Vec<Vec<Run<S>>> = points.iter().map(|p| k.expected(p)).collect();
    let mine: Vec<Vec<Vec<Vec<S>>>> = points.iter().map(|p| k.results(p)).collect();
    for (set, process) in others {
        match process.results() {
            Ok(values) => theirs.push((set, values.into_iter())),
            Err(message) => failures.tell(|text| _ = writeln!(text, "  under {set}: {message}")),
        }
    }
    for ((p, runs), mine) in points.iter().zip(&expected).zip(mine) {
        compare(k, p, runs, own, &mine, &mut told, &mut failures);
        for (set, values) in &mut theirs {
            let mut next = |v: &Vec<S>| values.by_ref().take(v.len()).map(S::of).collect();
            let results: Vec<Vec<Vec<S>>> = mine.iter().map(|f| f.iter().map(&mut next).collect()).collect();
            compare(k, p, runs, set, &results, &mut told, &mut failures);
        }
    }
    for (f, told) in k.functions.iter().zip(&told) {
        for (t, _) in f.writes.iter().zip(told).filter(|(_, told)| !**told) {
            failures.tell(|text| {
                let name = k.tensors[*t].name;
                let _ = writeln!(
                    text,
                    "  {}: at no point two digits of an element of {name} are certain, so none is tested",
                    f.name
                );
            });
        }
    }
    assert!(
        failures.count == 0,
        "{} of {} is not what its spec says, at {} elements\n{}  {SEED}=N draws other points\n",
        k.name,
        k.place,
        failures.count,
        failures.text
    );
}

/// So many differences of a kernel are printed.
const PRINTED: usize = 8;

struct Failures {
    text: String,
    count: usize,
}

impl Failures {
    fn tell(&mut self, print: impl FnOnce(&mut String)) {
        self.count += 1;
        if self.count <= PRINTED {
            print(&mut self.text);
        }
    }
}

/// What a kernel computes at a point against what its loops give.
fn compare<S: Scalar>(
    k: &Kernel<S>,
    p: &Point,
    runs: &[Run<S>],
    set: &str,
    results: &[Vec<Vec<S>>],
    told: &mut [Vec<bool>],
    failures: &mut Failures,
) {
    for (n, f) in k.functions.iter().enumerate() {
        for (w, t) in f.writes.iter().enumerate() {
            let (tensor, array) = (&k.tensors[*t], &runs[f.loops].arrays[*t]);
            let start = if f.adds { k.start(f, *t, p) } else { Vec::new() };
            for (at, got) in k.places(*t).zip(&results[n][w]) {
                let of_loops = if array.values.is_empty() { Near::exact(0.0) } else { array.get(at) };
                let near = start.get(at).map_or(of_loops, |s| Near::exact(*s).add(of_loops));
                told[n][w] |= near.is_plain() && allowed(near) <= 0.01 * near.value.abs().max(S::NORMAL);
                if agrees(got.get(), near) || near.value.is_nan() && !f.nan {
                    continue;
                }
                failures.tell(|text| {
                    let _ = writeln!(
                        text,
                        "  {}, under {set}: {}{} is {:?}, not {:?} (within {:.1e}); {:?} point, seed {}",
                        f.name,
                        tensor.name,
                        index(at, tensor.shape),
                        got,
                        near.value,
                        allowed(near),
                        p.at,
                        p.seed
                    );
                });
            }
        }
    }
    let function = |name: &str| k.functions.iter().position(|f| f.name == name);
    let Some(jvp) = function("jvp") else { return };
    if let Some(forward) = function("forward").filter(|_| k.one_order) {
        for (w, t) in k.functions[forward].writes.iter().enumerate() {
            let other = k.functions[jvp].writes.iter().position(|u| u == t).map(|v| &results[jvp][v]);
            let same =
                |(a, b): (&S, &S)| a.get().to_bits() == b.get().to_bits() || a.get().is_nan() && b.get().is_nan();
            if let Some(n) = other.and_then(|other| results[forward][w].iter().zip(other).position(|pair| !same(pair)))
            {
                let name = k.tensors[*t].name;
                failures.tell(|text| {
                    let _ = writeln!(text, "  under {set}: stored element {n} of {name} has other bits in jvp than in forward; {:?} point, seed {}", p.at, p.seed);
                });
            }
        }
    }
    if let Some(vjp) = function("vjp_store") {
        pairing(k, p, runs, set, [jvp, vjp], results, failures);
    }
}

/// The tangent and the adjoint are each other's transpose, within what their elements may be off.
fn pairing<S: Scalar>(
    k: &Kernel<S>,
    p: &Point,
    runs: &[Run<S>],
    set: &str,
    [jvp, vjp]: [usize; 2],
    results: &[Vec<Vec<S>>],
    failures: &mut Failures,
) {
    // Of a function's results those that the role gives with the seed that each is paired with; the sum, and how far it
    // may be off.
    let paired = |n: usize, other: fn(Role) -> Option<(usize, bool)>| {
        let (mut sum, mut off) = (0.0, 0.0);
        for (w, t) in k.functions[n].writes.iter().enumerate() {
            let Some((of, bar)) = other(k.tensors[*t].role) else { continue };
            let seed = if bar { Role::Bar(of) } else { Role::Dot(of) };
            let Some(seed) = k.tensors.iter().position(|t| t.role == seed) else { continue };
            let array = &runs[k.functions[n].loops].arrays[*t];
            for (at, got) in k.places(*t).zip(&results[n][w]) {
                let (got, by) = (got.get(), p.values[seed][at]);
                let near = if array.values.is_empty() { Near::exact(0.0) } else { array.get(at) };
                sum += got * by;
                off += (allowed(near) + 1e-15 * got.abs()) * by.abs();
            }
        }
        (sum, off)
    };
    let (forward, a) = paired(jvp, |r| if let Role::Dot(of) = r { Some((of, true)) } else { None });
    let (back, b) = paired(vjp, |r| if let Role::Bar(of) = r { Some((of, false)) } else { None });
    // Where an element is not known nothing is.
    if (a + b).is_finite() && (forward - back).is_finite() && (forward - back).abs() > a + b {
        failures.tell(|text| {
            let _ = writeln!(
                text,
                "  under {set}: <z_bar, z_dot> is {forward:e}, <x_bar, x_dot> {back:e} (within {:.1e}); {:?} point, seed {}",
                a + b,
                p.at,
                p.seed
            );
        });
    }
}

/// How far a kernel's result may be from the value.
fn allowed<S: Scalar>(near: Near<S>) -> f64 {
    4.0 * near.error + Near::<S>::step(near.value)
}

fn agrees<S: Scalar>(got: f64, near: Near<S>) -> bool {
    if near.is_unknown() {
        return true;
    }
    if near.value.is_nan() {
        return got.is_nan();
    }
    got == near.value || (got - near.value).abs() <= allowed(near)
}

/// An element's index as it is written.
fn index(at: usize, shape: &[usize]) -> String {
    let mut rest = at;
    let mut all: Vec<String> = Vec::new();
    for extent in shape.iter().rev() {
        all.push(format!("[{}]", rest % extent));
        rest /= extent;
    }
    all.reverse();
    all.concat()
}

/// A process that runs one kernel under one instruction set.
struct Elsewhere {
    started: std::io::Result<std::process::Child>,
    file: std::path::PathBuf,
}

fn elsewhere<S: Scalar>(k: &Kernel<S>, set: &str) -> Elsewhere {
    // The test's name: its path without the crate.
    let name = format!("{}::agrees", k.module.split_once("::").map_or("", |(_, rest)| rest));
    let file = std::env::temp_dir().join(format!("cotangent-{}-{}-{set}", std::process::id(), name.replace("::", "-")));
    let run = |this| {
        std::process::Command::new::<std::path::PathBuf>(this)
            .args([&name, "--exact"])
            .env("COTANGENT_ISA", set)
            .env(RESULTS, &file)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
    };
    Elsewhere { started: std::env::current_exe().and_then(run), file }
}

impl Elsewhere {
    fn results(self) -> Result<Vec<f64>, String> {
        let output = self.started.and_then(|child| child.wait_with_output()).map_err(|e| e.to_string())?;
        let bytes = std::fs::read(&self.file);
        let _ = std::fs::remove_file(&self.file);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match bytes {
            Ok(bytes) if output.status.success() => {
                Ok(bytes.as_chunks().0.iter().map(|b| f64::from_bits(u64::from_le_bytes(*b))).collect())
            }
            _ => Err(format!("the process failed\n{}{}", text(&output.stdout), text(&output.stderr))),
        }
    }
}
