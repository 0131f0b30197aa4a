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

    /// A function that is monotone on either side of `bends`, with an error of `units` half units in the last place.
    fn function(self, f: impl Fn(f64) -> f64, bends: &[f64], units: f64) -> Self {
        let value = f(self.value);
        if self.is_unknown() || self.value.is_nan() {
            return Self::special(value, &[self]);
        }
        let mut error = 0.0_f64;
        if self.error > 0.0 {
            let (low, high) = (self.value - self.error, self.value + self.error);
            for x in [low, high].into_iter().chain(bends.iter().copied().filter(|x| (low..=high).contains(x))) {
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

// Behind it in the generated file: what is in `check.rs`.
mod check;
