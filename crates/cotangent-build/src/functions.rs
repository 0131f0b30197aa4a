//! The scalar functions and operators. Takes nothing; gives a row for each, with all that any stage asks of it: a new
//! function is a row here, and a row and two bodies in the runtime (`src/functions.rs` there).
//!
//! Holds after it: the derivative of a row is the slope of its value, and ranges, signs and parities are true
//! (`tests/compiler/units/functions.rs`); its bounds of accuracy are those that the runtime's documentation states.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_4};
use std::ops::{Add, Div, Mul, Neg, Sub};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

/// What derivatives are written in: formulas, or numbers to test them.
pub trait Algebra:
    Clone + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    fn number(value: f64) -> Self;
    fn call(f: Unary, a: Self) -> Self;
    fn powf(self, n: f64) -> Self;
    fn is_zero(&self) -> bool;
    /// `yes` where every comparison holds.
    fn choose(tests: [Option<(Compare, Self, Self)>; 2], yes: Self, no: Self) -> Self;
}

/// What an operation costs, the cheapest first. Each stage that asks draws its own line, for its own reason, between
/// these classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// A sign, which most instructions take for nothing.
    Sign,
    /// A mask over the bits.
    Mask,
    /// An addition, a subtraction, a multiplication.
    Arithmetic,
    /// A minimum or a maximum, with what it does at NaN.
    Extremum,
    /// A few of these.
    Few,
    /// A division.
    Division,
    /// A square root, or one and a division.
    Root,
    /// A polynomial, tens of instructions.
    Call,
}

/// Where a function is not smooth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bends {
    Nowhere,
    /// At 0, where its value or its slope jumps.
    AtZero,
    /// At every whole number, where its value jumps.
    AtWhole,
    /// At these arguments it ends, or is infinite, or has an infinite slope.
    Ends(&'static [f64]),
}

impl Bends {
    /// Whether a slope on one side is not that on the other: the derivative is a convention there.
    pub fn breaks(self) -> bool {
        match self {
            Bends::AtZero | Bends::AtWhole => true,
            Bends::Nowhere | Bends::Ends(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    Even,
    Odd,
    Neither,
}

/// What is known of the sign of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Above zero, whatever the argument.
    Positive,
    NeverNegative,
    /// Not negative where the argument is not; where it is defined on one side of its zeros only, that side.
    AsArgument,
    Any,
}

/// Where values lie. NaN lies nowhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub lo: f64,
    pub hi: f64,
    /// Whether a function makes an infinity or a NaN somewhere in it.
    pub finite: bool,
}

/// Beyond this an exponential may be too large for `f32`.
const EXP: f64 = 88.0;
const INF: f64 = f64::INFINITY;

impl Range {
    pub const ALL: Range = Range { lo: f64::NEG_INFINITY, hi: f64::INFINITY, finite: true };

    pub fn new(lo: f64, hi: f64) -> Self {
        Range { lo, hi, finite: true }
    }
    /// The same numbers, and infinities or NaN where the argument is not in `domain`.
    pub fn within(self, arg: Range, domain: bool) -> Self {
        Range { finite: self.finite && arg.finite && domain, ..self }
    }
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Range { lo: f(self.lo), hi: f(self.hi), ..self }
    }
}

/// A function of one argument.
pub struct Function {
    /// In formulas, and of the runtime's function.
    pub name: &'static str,
    pub value: fn(f64) -> f64,
    pub cost: Cost,
    pub bends: Bends,
    pub parity: Parity,
    pub sign: Sign,
    /// Zero where its argument is, with an infinite slope.
    pub root: bool,
    /// The runtime's function has a branch for rare arguments, and a form without it for all others.
    pub branches: bool,
    /// How far apart the values are within a turn, of a function that swings; else zero.
    pub swing: f64,
    /// The most that the runtime's function is off, in units in the last place, for `f32` and `f64`.
    pub ulp: [f64; 2],
    pub range: fn(Range) -> Range,
    /// Arguments at which tests try it.
    pub samples: (f64, f64),
}

/// Most functions.
const SMOOTH: Function = Function {
    name: "",
    value: |x| x,
    cost: Cost::Call,
    bends: Bends::Nowhere,
    parity: Parity::Neither,
    sign: Sign::Any,
    root: false,
    branches: false,
    swing: 0.0,
    ulp: [1.0, 1.0],
    range: |a| Range::ALL.within(a, true),
    samples: (-2.0, 2.0),
};

/// `Variant "name" slope |x, y, d| (f'(x) d, y the value) { what is not as in SMOOTH }`.
macro_rules! unary {
    ($($(#[$doc:meta])* $variant:ident $name:literal |$x:ident, $y:ident, $d:ident| $slope:expr; {$($row:tt)*})*) => {
        /// A function of one argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Unary { $($(#[$doc])* $variant),* }

        impl Unary {
            pub const ALL: &[Unary] = &[$(Unary::$variant),*];
            const ROWS: &[Function] = &[$(Function { name: $name, $($row)*, ..SMOOTH }),*];

            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Unary::$variant),)* _ => None }
            }

            /// `f'(x) d`.
            #[allow(unused_variables, reason = "a slope by the argument or by the value alone")]
            pub fn slope<E: Algebra>(self, x: &E, d: E) -> E {
                let value = || E::call(self, x.clone());
                match self { $(Unary::$variant => {
                    let ($x, $y, $d) = (|| x.clone(), value, d);
                    $slope
                })* }
            }
        }
    };
}

fn c<E: Algebra>(value: f64) -> E {
    E::number(value)
}
fn one<E: Algebra>() -> E {
    E::number(1.0)
}
fn zero<E: Algebra>() -> E {
    E::number(0.0)
}
fn call<E: Algebra>(f: Unary, a: E) -> E {
    E::call(f, a)
}

unary! {
    /// The negative.
    Neg "neg" |x, y, d| -d; {
        value: |x| -x, cost: Cost::Sign, parity: Parity::Odd, ulp: [0.0, 0.0],
        range: |a| Range { lo: -a.hi, hi: -a.lo, ..a }
    }
    /// The magnitude.
    Abs "abs" |x, y, d| call(Unary::Sign, x()) * d; {
        value: f64::abs, cost: Cost::Mask, bends: Bends::AtZero, parity: Parity::Even,
        sign: Sign::NeverNegative, ulp: [0.0, 0.0],
        range: |a| match a.lo >= 0.0 {
            true => a,
            false => Range { lo: if a.hi < 0.0 { -a.hi } else { 0.0 }, hi: a.hi.abs().max(a.lo.abs()), ..a },
        }
    }
    /// -1 or 1; of a zero that zero.
    Sign "sign" |x, y, d| zero(); {
        value: |x| if x == 0.0 || x.is_nan() { x } else { 1f64.copysign(x) },
        cost: Cost::Few, bends: Bends::AtZero, parity: Parity::Odd, sign: Sign::AsArgument, ulp: [0.0, 0.0],
        range: |a| Range::new(if a.lo >= 0.0 { 0.0 } else { -1.0 }, if a.hi <= 0.0 { 0.0 } else { 1.0 }).within(a, true)
    }
    Exp "exp" |x, y, d| y() * d; {
        value: f64::exp, sign: Sign::NeverNegative,
        // It underflows to zero.
        range: |a| Range::new(if a.lo > -EXP { a.lo.exp() } else { 0.0 }, a.hi.exp()).within(a, a.hi <= EXP)
    }
    /// `exp(x) - 1`.
    Expm1 "expm1" |x, y, d| (y() + one::<E>()) * d; {
        value: f64::exp_m1, sign: Sign::AsArgument, ulp: [2.0, 2.0],
        range: |a| a.map(f64::exp_m1).within(a, a.hi <= EXP)
    }
    Log "log" |x, y, d| d / x(); {
        value: f64::ln, bends: Bends::Ends(&[0.0]), samples: (0.1, 5.0),
        range: |a| Range::ALL.within(a, a.lo > 0.0)
    }
    /// `log(1 + x)`.
    Log1p "log1p" |x, y, d| d / (one::<E>() + x()); {
        value: f64::ln_1p, bends: Bends::Ends(&[-1.0]), sign: Sign::AsArgument, ulp: [2.0, 1.0], samples: (-0.9, 4.0),
        range: |a| Range::new(if a.lo >= 0.0 { 0.0 } else { -INF }, INF).within(a, a.lo > -1.0)
    }
    Sqrt "sqrt" |x, y, d| c::<E>(0.5) * d / y(); {
        value: f64::sqrt, cost: Cost::Root, bends: Bends::Ends(&[0.0]), sign: Sign::AsArgument, root: true,
        ulp: [0.5, 0.5], samples: (0.1, 5.0),
        range: |a| Range::new(a.lo.max(0.0).sqrt(), a.hi.max(0.0).sqrt()).within(a, a.lo >= 0.0)
    }
    /// `1 / sqrt(x)`.
    Rsqrt "rsqrt" |x, y, d| c::<E>(-0.5) * y() * d / x(); {
        value: |x| 1.0 / x.sqrt(), cost: Cost::Root, bends: Bends::Ends(&[0.0]), sign: Sign::AsArgument,
        ulp: [2.0, 2.0], samples: (0.1, 5.0),
        range: |a| Range::new(0.0, INF).within(a, a.lo > 0.0)
    }
    Cbrt "cbrt" |x, y, d| d / (c::<E>(3.0) * y().powf(2.0)); {
        value: f64::cbrt, bends: Bends::Ends(&[0.0]), parity: Parity::Odd, sign: Sign::AsArgument,
        root: true, samples: (0.1, 5.0),
        range: |a| a.map(f64::cbrt)
    }
    Sin "sin" |x, y, d| call(Unary::Cos, x()) * d; {
        value: f64::sin, parity: Parity::Odd, branches: true, swing: 2.0, ulp: [2.0, 1.0],
        range: |a| Range::new(-1.0, 1.0).within(a, true)
    }
    Cos "cos" |x, y, d| -(call(Unary::Sin, x()) * d); {
        value: f64::cos, parity: Parity::Even, branches: true, swing: 2.0, ulp: [2.0, 1.0],
        range: |a| Range::new(-1.0, 1.0).within(a, true)
    }
    Tan "tan" |x, y, d| (one::<E>() + y().powf(2.0)) * d; {
        value: f64::tan, parity: Parity::Odd, branches: true, swing: INF, samples: (-1.3, 1.3)
    }
    Asin "asin" |x, y, d| d / call(Unary::Sqrt, (one::<E>() - x()) * (one::<E>() + x())); {
        value: f64::asin, bends: Bends::Ends(&[1.0, -1.0]), parity: Parity::Odd, samples: (-0.9, 0.9),
        range: |a| Range::new(-2.0, 2.0).within(a, a.lo >= -1.0 && a.hi <= 1.0)
    }
    Acos "acos" |x, y, d| -(d / call(Unary::Sqrt, (one::<E>() - x()) * (one::<E>() + x()))); {
        value: f64::acos, bends: Bends::Ends(&[1.0, -1.0]), samples: (-0.9, 0.9),
        range: |a| Range::new(0.0, 4.0).within(a, a.lo >= -1.0 && a.hi <= 1.0)
    }
    Atan "atan" |x, y, d| d / (one::<E>() + x().powf(2.0)); {
        value: f64::atan, parity: Parity::Odd, sign: Sign::AsArgument, ulp: [2.0, 1.0],
        range: |a| a.map(f64::atan)
    }
    Sinh "sinh" |x, y, d| call(Unary::Cosh, x()) * d; {
        value: f64::sinh, parity: Parity::Odd, sign: Sign::AsArgument, ulp: [2.0, 2.0],
        range: |a| a.map(f64::sinh).within(a, a.lo >= -EXP && a.hi <= EXP)
    }
    Cosh "cosh" |x, y, d| call(Unary::Sinh, x()) * d; {
        value: f64::cosh, parity: Parity::Even, sign: Sign::Positive, ulp: [2.0, 2.0],
        range: |a| Range::new(1.0, INF).within(a, a.lo >= -EXP && a.hi <= EXP)
    }
    Tanh "tanh" |x, y, d| (one::<E>() - y().powf(2.0)) * d; {
        value: f64::tanh, parity: Parity::Odd, sign: Sign::AsArgument, ulp: [2.0, 2.0],
        range: |a| a.map(f64::tanh)
    }
    Asinh "asinh" |x, y, d| d / call(Unary::Sqrt, x().powf(2.0) + one::<E>()); {
        value: libm::asinh, parity: Parity::Odd, sign: Sign::AsArgument, ulp: [1.0, 2.0],
        range: |a| a.map(f64::asinh)
    }
    Acosh "acosh" |x, y, d| d / call(Unary::Sqrt, (x() - one::<E>()) * (x() + one::<E>())); {
        value: libm::acosh, bends: Bends::Ends(&[1.0]), ulp: [1.0, 2.0], samples: (1.1, 5.0),
        range: |a| Range::new(0.0, INF).within(a, a.lo >= 1.0)
    }
    Atanh "atanh" |x, y, d| d / ((one::<E>() - x()) * (one::<E>() + x())); {
        value: libm::atanh, bends: Bends::Ends(&[1.0, -1.0]), parity: Parity::Odd, ulp: [1.0, 2.0], samples: (-0.9, 0.9),
        range: |a| Range::ALL.within(a, a.lo > -1.0 && a.hi < 1.0)
    }
    /// `1 / (1 + exp(-x))`.
    Logistic "logistic" |x, y, d| y() * (one::<E>() - y()) * d; {
        // The side that does not overflow.
        value: |x| if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) },
        sign: Sign::NeverNegative, ulp: [2.0, 2.0],
        range: |a| Range::new(0.0, 1.0).within(a, true)
    }
    /// `log(1 + exp(x))`.
    Softplus "softplus" |x, y, d| call(Unary::Logistic, x()) * d; {
        value: |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), sign: Sign::NeverNegative, ulp: [2.0, 2.0],
        range: |a| Range::new(0.0, INF).within(a, true)
    }
    /// `2/sqrt(pi)` times the integral of `exp(-t^2)` from 0 to x.
    Erf "erf" |x, y, d| c::<E>(FRAC_2_SQRT_PI) * call(Unary::Exp, -x().powf(2.0)) * d; {
        value: libm::erf, parity: Parity::Odd, sign: Sign::AsArgument, ulp: [2.0, 2.0],
        range: |a| Range::new(-1.0, 1.0).within(a, true)
    }
    /// `1 - erf(x)`, accurate where that is tiny.
    Erfc "erfc" |x, y, d| c::<E>(-FRAC_2_SQRT_PI) * call(Unary::Exp, -x().powf(2.0)) * d; {
        value: libm::erfc, sign: Sign::NeverNegative, ulp: [1.0, 4.0],
        range: |a| Range::new(0.0, 2.0).within(a, true)
    }
    /// The largest whole number not above x.
    Floor "floor" |x, y, d| zero(); {
        value: f64::floor, cost: Cost::Few, bends: Bends::AtWhole, sign: Sign::AsArgument, ulp: [0.0, 0.0],
        range: |a| a.map(f64::floor)
    }
}

impl Unary {
    /// All that is known of it.
    pub fn row(self) -> &'static Function {
        &Unary::ROWS[self as usize]
    }
    /// In formulas, and of the runtime's function.
    pub fn name(self) -> &'static str {
        self.row().name
    }
    /// Whether the runtime's function has a branch for rare arguments, and a form without it for all others.
    pub fn branches(self) -> bool {
        self.row().branches
    }
    pub fn cost(self) -> Cost {
        self.row().cost
    }
    /// How far the value at `x` may be from those of arguments up to `way` apart, where the values at both ends do not
    /// tell: the function may have swung there and back, or have a pole between. `None` where the ends tell.
    pub fn swing(self, x: f64, way: f64) -> Option<f64> {
        let Function { swing, value, .. } = *self.row();
        // Between poles it grows.
        let pole = || swing.is_infinite() && !(value(x - way) <= value(x) && value(x) <= value(x + way));
        (swing > 0.0 && (way > FRAC_PI_4 || pole())).then_some(swing)
    }
    /// Where its domain ends.
    pub fn ends(self) -> &'static [f64] {
        match self.row().bends {
            Bends::Ends(ends) => ends,
            _ => &[],
        }
    }
    /// Whether nothing is rounded.
    pub fn exact(self) -> bool {
        self.row().ulp == [0.0, 0.0]
    }
    /// Whether the result is the nearest number, so that it is the same however it is computed.
    pub fn correctly_rounded(self) -> bool {
        self.row().ulp.iter().all(|u| *u <= 0.5)
    }
}

/// How an operation of two arguments is written in formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `a + b`.
    Operator,
    /// `f(a, b)`.
    Two,
    /// `f(a, b, ...)`.
    TwoOrMore,
}

/// A function of two arguments, or an operator.
pub struct Function2 {
    pub name: &'static str,
    pub value: fn(f64, f64) -> f64,
    pub notation: Notation,
    pub cost: Cost,
    /// Whether it chooses one of its arguments: its slope jumps where they are equal.
    pub chooses: bool,
}

const OPERATOR: Function2 =
    Function2 { name: "", value: |a, _| a, notation: Notation::Operator, cost: Cost::Arithmetic, chooses: false };

/// `Variant "name" |x, y, da, db| (∂f/∂x da + ∂f/∂y db) { what is not as in OPERATOR }`.
macro_rules! binary {
    ($($(#[$doc:meta])* $variant:ident $name:literal |$x:ident, $y:ident, $da:ident, $db:ident| $slope:expr;
        {$($row:tt)*})*) => {
        /// A function of two arguments, or an operator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Binary { $($(#[$doc])* $variant),* }

        impl Binary {
            pub const ALL: &[Binary] = &[$(Binary::$variant),*];
            #[allow(clippy::needless_update, reason = "a row may state every field")]
            const ROWS: &[Function2] = &[$(Function2 { name: $name, $($row)*, ..OPERATOR }),*];

            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Binary::$variant),)* _ => None }
            }

            /// `∂f/∂x da + ∂f/∂y db`; at a tie of max or min, half of each.
            #[allow(unused_variables, reason = "slopes of operators do without values")]
            pub fn slope<E: Algebra>(self, x: &E, y: &E, da: E, db: E) -> E {
                match self { $(Binary::$variant => {
                    let ($x, $y, $da, $db) = (|| x.clone(), || y.clone(), da, db);
                    $slope
                })* }
            }
        }
    };
}

/// What moves with the argument that wins; of both at a tie half.
fn pick<E: Algebra>(win: Compare, x: impl Fn() -> E, y: impl Fn() -> E, da: E, db: E) -> E {
    let tie = c::<E>(0.5) * (da.clone() + db.clone());
    let lose = E::choose([Some((win, y(), x())), None], db, tie);
    E::choose([Some((win, x(), y())), None], da, lose)
}

binary! {
    Add "add" |x, y, da, db| da + db; { value: |a, b| a + b }
    Sub "sub" |x, y, da, db| da - db; { value: |a, b| a - b }
    Mul "mul" |x, y, da, db| da * y() + x() * db; { value: |a, b| a * b }
    Div "div" |x, y, da, db| if db.is_zero() { da / y() } else { da / y() - x() / y() * db / y() }; {
        value: |a, b| a / b, cost: Cost::Division
    }
    Pow "pow" |x, y, da, db| unreachable!("`derive::tangent` takes the base and the exponent apart"); {
        value: f64::powf, notation: Notation::Two, cost: Cost::Call
    }
    /// The angle of the point `(b, a)`.
    Atan2 "atan2" |x, y, da, db| {
        let slope = -(x() * db - y() * da) / (x().powf(2.0) + y().powf(2.0));
        E::choose([Some((Compare::Eq, x(), zero())), Some((Compare::Eq, y(), zero()))], zero(), slope)
    }; {
        value: f64::atan2, notation: Notation::Two, cost: Cost::Call
    }
    Min "min" |x, y, da, db| pick(Compare::Lt, x, y, da, db); {
        // NaN wins, unlike `f64::min`.
        value: |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) },
        notation: Notation::TwoOrMore, cost: Cost::Extremum, chooses: true
    }
    Max "max" |x, y, da, db| pick(Compare::Gt, x, y, da, db); {
        value: |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) },
        notation: Notation::TwoOrMore, cost: Cost::Extremum, chooses: true
    }
}

impl Binary {
    /// All that is known of it.
    pub fn row(self) -> &'static Function2 {
        &Binary::ROWS[self as usize]
    }
    /// Of the runtime's function, and in formulas but for operators.
    pub fn name(self) -> &'static str {
        self.row().name
    }
    pub fn cost(self) -> Cost {
        self.row().cost
    }
}
