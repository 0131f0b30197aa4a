//! What certificates compute with (the field, numbers with errors), and that entry points which are broken show.

use cotangent_build::certify::entries::check;
use cotangent_build::certify::field::M61;
use cotangent_build::certify::rounded::Rounded;
use cotangent_build::certify::shapes;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bounds::Bounded;
use cotangent_build::index::eval::Number;
use cotangent_build::index::{Binary, Expr, Op, Unary, print};
use cotangent_build::pipeline;
use cotangent_build::source::Sources;

/// The modulus of the field.
const P: u64 = (1 << 61) - 1;

#[test]
fn field_laws() {
    let values: Vec<M61> = [0u64, 1, 2, P - 1, 12345678901234567, 1 << 60].into_iter().map(M61::new).collect();
    for a in &values {
        for b in &values {
            assert_eq!(a.mul(*b), b.mul(*a));
            assert_eq!(a.add(*b).sub(*b), *a);
            if *b != M61::new(0) {
                assert_eq!(M61::binary(Binary::Div, a.mul(*b), *b), *a);
            }
        }
    }
}

#[test]
fn floats_are_exact() {
    assert_eq!(M61::from_f64(0.5).add(M61::from_f64(0.5)), M61::new(1));
    assert_eq!(M61::from_f64(-3.0).signed(), -3);
    assert_eq!(M61::from_f64(0.1).mul(M61::from_f64(2f64.powi(60))), M61::from_f64(0.1 * 2f64.powi(60)));
}

fn of(value: f64) -> Rounded {
    Rounded::from_f64(value)
}

/// Exact values by hand: what is representable has no error, what is not has one that covers it and little more.
#[test]
fn errors_cover_what_rounding_does() {
    assert_eq!(of(3.0).add(of(4.5)).mul(of(2.0)), of(15.0));
    // 1e16 + 1 rounds the one away; taken off again, zero is left where one is right.
    let r = of(1e16).add(of(1.0)).sub(of(1e16));
    assert_eq!((r.value, r.error), (0.0, 1.0));
    // A third of one: three of it are one within the bound, and the bound is small.
    let r = Rounded::binary(Binary::Div, of(1.0), of(3.0)).mul(of(3.0)).sub(of(1.0));
    assert!(r.value.abs() <= r.error && r.error < 1e-15, "{r:?}");
    // The sine of a rounded argument of 1e10 is off by what the argument is.
    let r = Rounded::unary(Unary::Sin, of(1e10).mul(of(std::f64::consts::PI)));
    assert!(r.value.abs() <= 1e-5 && (1e-7..1e-5).contains(&r.error), "{r:?}");
    // A root of what may be below zero: the other side says.
    let r = Rounded::unary(Unary::Sqrt, Rounded { value: 0.0, error: 1e-16 });
    assert!((1e-9..1e-7).contains(&r.error), "{r:?}");
    // By what may be zero: nothing is known.
    let b = Rounded { value: 1e-17, error: 1e-16 };
    assert_eq!(
        Rounded::binary(Binary::Div, of(1e-17).add(Rounded { value: 0.0, error: 1e-18 }), b).error,
        f64::INFINITY
    );
}

/// Whatever stands within the error of an argument, the function's value there is within the error of the result.
#[test]
fn bounds_hold_between_the_ends() {
    let arguments: Vec<(f64, f64)> =
        (0..2000).map(|n| f64::from(n) * 0.618).map(|x| ((x - 600.0) / 97.0, 10f64.powf(x % 5.0 - 3.0))).collect();
    let mut compared = 0;
    let mut hold = |what: &str, f: &dyn Fn(f64) -> f64, x: f64, e: f64, bounds: [f64; 2]| {
        for at in (-50..=50).map(|n| x + e * f64::from(n) / 50.0) {
            let apart = (f(at) - f(x)).abs();
            if f(x).is_finite() && apart.is_finite() {
                compared += 1;
                assert!(
                    bounds.iter().all(|b| apart <= b * (1.0 + 1e-12)),
                    "{what} of {x} or {at}: {apart}, {bounds:?}"
                );
            }
        }
    };
    for (x, e) in arguments {
        let (rounded, bounded) = (Rounded { value: x, error: e }, Bounded { value: x, error: e, size: x.abs() });
        for f in Unary::ALL {
            let bounds = [Rounded::unary(*f, rounded).error, Bounded::unary(*f, bounded).error];
            hold(f.name(), &|x| f64::unary(*f, x), x, e, bounds);
        }
        for n in [-2.0, -1.0, -0.5, 0.5, 2.0, 3.0] {
            hold("a power", &|x| x.powf(n), x, e, [rounded.powf(n).error, bounded.powf(n).error]);
            let ours = Rounded::binary(Binary::Pow, rounded, Rounded::from_f64(n)).error;
            let other = Bounded::binary(Binary::Pow, bounded, Bounded::exact(n)).error;
            hold("a power of a tensor", &|x| x.powf(n), x, e, [ours, other]);
        }
    }
    assert!(compared > 1_000_000, "{compared}");
}

fn program(text: &str) -> Op {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let id = sources.add("net.yaml", text.to_string());
    let c = pipeline::certified(id, &sources, &mut out);
    c.unwrap_or_else(|| panic!("{}", out.render(&sources))).op
}

/// Every statement of every entry point, left out or with the opposite sign, shows.
#[test]
fn broken_entry_points_show() {
    let one = program(
        "program: net\ninputs: {x: [B, D], w: [D], v: [D]}\noutputs: {loss: []}\nwrt: [w, v]\nforward:\n  - h[b] = tanh(sum(d) x[b,d] * w[d])\n  \
         - s = sum(d) v[d]^2 * w[d]\n  - loss = mean(b) (h[b] * s)^2\nfunctions: [forward, jvp, vjp, value_and_grad, hvp, value_grad_and_hvp, jacobian, hessian]\ninstances: []\n",
    );
    let several = program(
        "program: net\ninputs: {x: [D], w: [D]}\noutputs: {y: [D], z: []}\nforward:\n  - t[d] = exp(x[d]) * w[d]\n  - y[d] = sin(t[d])\n  \
         - z = sum(d) t[d] * x[d]^2\nfunctions: [forward, jvp, vjp, jacobian]\ninstances: []\n",
    );
    let mut broken = 0;
    for op in [one, several] {
        let shapes = shapes::sample(&op);
        assert!(check(&op, &shapes).is_none());
        let functions = op.program.as_ref().map(|p| p.functions.clone()).unwrap_or_default();
        for (n, f) in functions.iter().enumerate() {
            for s in 0..f.stmts.len() {
                let mut dropped = f.clone();
                dropped.stmts.remove(s);
                let mut flipped = f.clone();
                let value = flipped.stmts[s].value.clone();
                // Of a product the opposite sign may be none.
                flipped.stmts[s].value = Expr::Binary(Binary::Mul, Box::new(Expr::Const(-1.25)), Box::new(value));
                for wrong in [dropped, flipped] {
                    let mut op = op.clone();
                    let text = print::stmt(&op, &f.stmts[s]);
                    if let Some(p) = &mut op.program {
                        p.functions[n] = wrong;
                    }
                    let found = check(&op, &shapes);
                    assert!(found.is_some_and(|b| b.entry == f.entry), "{}: {text}", f.entry.name());
                    broken += 1;
                }
            }
        }
    }
    assert!(broken > 100, "{broken}");
}
