//! The harness of generated tests, which is compiled here as it stands: takes values with errors, gives a panic where an
//! operation carries them on wrongly.

use cotangent_build::Build;
use cotangent_build::emit::REFERENCE;
use cotangent_build::functions::{Binary, Unary};
use harness::{Fold, Near, Sum, Truth};
use std::path::Path;

#[path = "../../../src/emit/reference/harness/mod.rs"]
#[allow(dead_code, reason = "generated tests use the rest")]
mod harness;

type Single = Near<f32>;

/// `(value, error)` of what a formula gives for an argument with an error.
fn of(value: f64, error: f64, f: impl Fn(Single) -> Single) -> (f64, f64) {
    let near = f(Near { error, ..Single::exact(value) });
    (near.value, near.error)
}

#[test]
fn functions_that_std_lacks_are_those_of_libm() {
    for n in -700..=700 {
        let x = f64::from(n) / 100.0;
        let near = |ours: f64, theirs: f64| {
            assert!(ours == theirs || (ours - theirs).abs() <= 1e-14 * theirs.abs(), "{x}: {ours} is not {theirs}");
        };
        near(Near::<f64>::exact(x).erf().value, libm::erf(x));
        near(Near::<f64>::exact(x).erfc().value, libm::erfc(x));
        near(Near::<f64>::exact(3.0 * x).erfc().value, libm::erfc(3.0 * x));
        near(Near::<f64>::exact(x).asinh().value, libm::asinh(x));
        near(Near::<f64>::exact(x.exp() + 1.0).acosh().value, libm::acosh(x.exp() + 1.0));
        near(Near::<f64>::exact(x / 7.1).atanh().value, libm::atanh(x / 7.1));
        near(Near::<f64>::exact(1e300_f64.copysign(x)).asinh().value, libm::asinh(1e300_f64.copysign(x)));
    }
}

#[test]
fn every_function_is_there() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops");
    let output = Build::new().ops(ops.join("bias_add.yaml")).render().unwrap_or_else(|e| panic!("{e}"));
    let text = &output.files[REFERENCE];
    for name in Unary::ALL.iter().map(|f| f.name()) {
        assert!(text.contains(&format!("pub fn {name}(self) -> Self")), "{name}");
    }
    for name in Binary::ALL.iter().map(|f| f.name()) {
        assert!(text.contains(&format!("pub fn {name}(self, b: Self) -> Self")), "{name}");
    }
}

#[test]
fn errors_are_carried_on() {
    let unit = f64::from(f32::EPSILON) / 2.0;
    // The slope times the error, what curves it, and two units of the last place.
    let (value, error) = of(2.0, 1e-3, Single::exp);
    assert!((1e-3..1.1e-3).contains(&(error / value)), "{error}");
    let (value, error) = of(3.0, 0.0, Single::exp);
    assert!((4.0..4.1).contains(&(error / value / unit)), "{error}");
    let (_, error) = of(0.0, 1e-3, Single::cosh);
    assert!(error < 1e-6, "even where it turns: {error}");
    // What only rounding keeps from a pole, a step or an overflow is not known.
    for (value, error, f) in [
        (1e-4, 1e-3, Single::log as fn(Single) -> Single),
        (0.0, 1e-3, |x| Single::exact(1.0).div(x)),
        (0.0, 0.0, |x| Single::exact(1.0).div(x)),
        (1e20, 0.0, |x| x.mul(x)),
        (f64::INFINITY, 0.0, |x| x.sub(x)),
        (-1.0, 0.0, Single::sqrt),
    ] {
        assert_eq!(of(value, error, f).1, f64::INFINITY);
    }
    assert!(of(2.9999, 1e-3, Single::floor).1 >= 1.0);
    // What overflows for sure, and what NaN and infinities make, is known.
    assert_eq!(of(100.0, 0.0, Single::exp), (f64::INFINITY, 0.0));
    assert_eq!(of(f64::INFINITY, 0.0, |x| x.add(Single::exact(1.0))), (f64::INFINITY, 0.0));
    assert_eq!(of(f64::NEG_INFINITY, 0.0, |x| x.max(Single::exact(1.0))), (1.0, 0.0));
    let (value, error) = of(f64::NAN, 0.0, |x| x.max(Single::exact(1.0)));
    assert!(value.is_nan() && error == 0.0);
}

#[test]
fn what_comparisons_cannot_tell_is_either() {
    let x = |value, error| Near { error, ..Single::exact(value) };
    let chosen = |t: Truth| {
        let near = t.choose(|| Single::exact(3.0), || Single::exact(5.0));
        (near.value, near.error)
    };
    assert_eq!(chosen(x(1.0, 1e-3).lt(x(2.0, 1e-3))), (3.0, 0.0));
    assert_eq!(chosen(x(1.0, 1e-3).gt(x(2.0, 1e-3))), (5.0, 0.0));
    assert_eq!(chosen(x(1.0, 1e-3).lt(x(1.0001, 1e-3))), (3.0, 2.0));
    // The same value twice is the same in a kernel.
    assert_eq!(chosen(x(1.0, 1e-3).eq(x(1.0, 1e-3))), (3.0, 0.0));
    let unsure = x(1.0, 1e-3).lt(x(1.0001, 1e-3));
    assert_eq!(chosen(unsure.and(|| Truth::of(false))), (5.0, 0.0));
    assert_eq!(chosen(unsure.and(|| Truth::of(true))), (3.0, 2.0));
    assert_eq!(chosen(unsure.or(|| Truth::of(true))), (3.0, 0.0));
    // A branch that is not taken is not looked at.
    let safe = Truth::of(false).choose(|| Single::exact(0.0).log(), || Single::exact(5.0));
    assert_eq!((safe.value, safe.error), (5.0, 0.0));
}

#[test]
fn sums_are_of_their_own_terms() {
    let mut sum = Sum::<f32>::new();
    assert_eq!(sum.total().value, 0.0);
    (0..100).for_each(|_| sum.take(Single::exact(1.0)));
    sum.take(Single::exact(-99.0));
    let total = sum.total();
    assert_eq!(total.value, 1.0);
    // Of 199 in all, 101 terms; far from a term's worth.
    assert!((1e-5..2e-4).contains(&total.error), "{}", total.error);
    // One term is itself.
    let mut one = Sum::<f32>::new();
    one.take(Single::exact(3.0));
    assert_eq!((one.total().value, one.total().error), (3.0, 0.0));
    // An infinity is one, two that cancel may be anything.
    one.take(Single::exact(f64::INFINITY));
    assert_eq!((one.total().value, one.total().error), (f64::INFINITY, 0.0));
    one.take(Single::exact(f64::NEG_INFINITY));
    assert_eq!(one.total().error, f64::INFINITY);
    let fold = Fold::<f32>::new(f64::NEG_INFINITY, Near::max);
    assert_eq!(fold.total().value, f64::NEG_INFINITY);
}
