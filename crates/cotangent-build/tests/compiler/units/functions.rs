//! The rows of the functions: takes each with numbers, gives a panic where a slope, a range, a sign or a bound of the row
//! is not that of the function.

use cotangent_build::functions::{Algebra, Bends, Binary, Compare, Notation, Parity, Range, Sign, Unary};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number, for derivatives to be written in.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Value(f64);

macro_rules! operators {
    ($($Trait:ident $method:ident),*) => {
        $(impl $Trait for Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                Value($Trait::$method(self.0, other.0))
            }
        })*
    };
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl Neg for Value {
    type Output = Value;
    fn neg(self) -> Value {
        Value(-self.0)
    }
}

impl Algebra for Value {
    fn number(value: f64) -> Value {
        Value(value)
    }
    fn call(f: Unary, a: Value) -> Value {
        Value((f.row().value)(a.0))
    }
    fn powf(self, n: f64) -> Value {
        Value(self.0.powf(n))
    }
    fn is_zero(&self) -> bool {
        self.0 == 0.0
    }
    fn choose(tests: [Option<(Compare, Value, Value)>; 2], yes: Value, no: Value) -> Value {
        if tests.into_iter().flatten().all(|(op, a, b)| op.holds(&a, &b)) { yes } else { no }
    }
}

/// Central differences of three widths, extrapolated to the sixth order.
fn measured(f: impl Fn(f64) -> f64, at: f64) -> f64 {
    let central = |h: f64| (f(at + h) - f(at - h)) / (2.0 * h);
    1.5 * central(1e-3) - 0.6 * central(2e-3) + 0.1 * central(3e-3)
}

/// Points of an interval, none of them a whole number.
fn points((lo, hi): (f64, f64)) -> impl Iterator<Item = f64> {
    (0..37).map(move |n| lo + (hi - lo) * (n as f64 + 0.5) / 37.3)
}

#[test]
fn rows_are_true() {
    for f in Unary::ALL {
        let row = f.row();
        assert_eq!(Unary::from_name(row.name), Some(*f));
        let range = (row.range)(Range::new(row.samples.0, row.samples.1));
        for x in points(row.samples) {
            let y = (row.value)(x);
            let (got, want) = (f.slope(&Value(x), Value(1.0)).0, measured(row.value, x));
            assert!((got - want).abs() <= 1e-7 * want.abs().max(1.0), "{}'({x}) is {want}, not {got}", row.name);
            assert!(range.finite && range.lo <= y && y <= range.hi, "{}({x}) = {y} is not in {range:?}", row.name);
            let (near, sign) = ((row.value)(-x), row.sign);
            assert!(y > 0.0 || sign != Sign::Positive, "{}({x}) = {y}", row.name);
            assert!(y >= 0.0 || sign != Sign::NeverNegative, "{}({x}) = {y}", row.name);
            assert!(y >= 0.0 || x < 0.0 || sign != Sign::AsArgument, "{}({x}) = {y}", row.name);
            match row.parity {
                Parity::Odd => assert!(near == -y || near.is_nan(), "{}", row.name),
                Parity::Even => assert!(near == y, "{}", row.name),
                Parity::Neither => {}
            }
            if let Bends::Ends(ends) = row.bends {
                assert!(ends.iter().all(|end| x != *end));
            }
        }
        assert!(
            !row.root || (row.value)(0.0) == 0.0 && f.slope(&Value(0.0), Value(1.0)).0 == f64::INFINITY,
            "{}",
            row.name
        );
    }
    for f in Binary::ALL.iter().filter(|f| **f != Binary::Pow) {
        let value = f.row().value;
        // Not near zero, where a quotient is too steep for differences, nor near each other, where maxima bend.
        let pairs = [(-1.9, -0.4), (0.4, 1.7)].map(|second| points((0.3, 2.0)).zip(points(second)));
        for (a, b) in pairs.into_iter().flatten().filter(|(a, b)| (a - b).abs() > 0.01) {
            let want = 0.7 * measured(|x| value(x, b), a) - 0.3 * measured(|y| value(a, y), b);
            let got = f.slope(&Value(a), &Value(b), Value(0.7), Value(-0.3)).0;
            assert!((got - want).abs() <= 1e-7 * want.abs().max(1.0), "{} at {a}, {b}: {want}, not {got}", f.name());
        }
    }
}

/// `name` and the bound of each public function of a source of the runtime.
fn stated(file: &str) -> Vec<(String, Option<f64>)> {
    let (_, text) = cotangent_build::shipped::RUNTIME.iter().find(|(name, _)| *name == file).expect("a source");
    let mut all = Vec::new();
    let mut doc = String::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("/// ") {
            doc.push_str(said);
            continue;
        }
        if let Some(rest) = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub const fn ")) {
            let name = rest.split(['<', '(']).next().expect("a name");
            let bound = doc.split("Error at most ").nth(1).and_then(|s| s.split(' ').next()?.parse().ok());
            let bound = bound.or_else(|| doc.contains("correctly rounded").then_some(0.5));
            let choice = doc.contains("Exact") || doc.starts_with("-1, 0 or 1");
            all.push((name.to_string(), bound.or_else(|| choice.then_some(0.0))));
        }
        if !line.starts_with('#') {
            doc.clear();
        }
    }
    all
}

#[test]
fn bounds_are_those_of_the_runtime() {
    for (n, file) in ["math/f32.rs", "math/f64.rs"].into_iter().enumerate() {
        let stated = stated(file);
        for f in Unary::ALL.iter().filter(|f| **f != Unary::Neg) {
            let row = f.row();
            let found = stated.iter().find(|(name, _)| name == row.name);
            assert_eq!(found.and_then(|(_, bound)| *bound), Some(row.ulp[n]), "{} in {file}", row.name);
        }
    }
}

#[test]
fn the_language_reference_names_every_function() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/language.md");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let table = text.split("## Functions").nth(1).and_then(|t| t.split("## ").next()).expect("the section");
    let words: Vec<&str> = table.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let unary = Unary::ALL.iter().map(|f| f.name());
    let calls = Binary::ALL.iter().filter(|f| f.row().notation != Notation::Operator).map(|f| f.name());
    unary.chain(calls).for_each(|name| assert!(words.contains(&name), "`{name}`"));
}
