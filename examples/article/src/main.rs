//! The scalar example of an article on automatic differentiation, computed by generated kernels: takes nothing, prints
//! the derivatives of `f(x) = (x + a)(x + b)` three ways, step by step.
//!
//! ```text
//! cargo run --release -p article
//! ```
//!
//! The steps are kernels of rank 0: `add::scalar_f64` is `y = u + v` on plain numbers. Its `jvp` is a step of forward
//! propagation, its `vjp` one of the backward sweep. The same formula written as one op, `quadratic_scalar`, gives the
//! same numbers in one call.
//!
//! Holds after it: all ways agreed, or the program stopped.

mod kernels {
    cotangent::include_kernels!();
}

use kernels::{add::scalar_f64 as add, mul::scalar_f64 as mul, quadratic_scalar::scalar_f64 as whole};

fn main() {
    let (x, a, b) = (3.0, 2.0, 5.0);
    println!("f(x) = (x + a)(x + b) at x = {x}, a = {a}, b = {b}\n");
    let mut text = String::new();
    let forward = forward(x, a, b, &mut text);
    let backward = backward(x, a, b, &mut text);
    let whole = whole_op(x, a, b, &mut text);
    print!("{text}");
    assert_eq!(forward, whole);
    assert_eq!(backward, whole);
    println!("All three agree.");
}

/// The value of `f` and its derivatives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Derivatives {
    pub y: f64,
    pub dx: f64,
    pub da: f64,
    pub db: f64,
}

/// A step's value and its derivatives: what forward propagation carries along. A call of `jvp` carries one direction,
/// so each step is called three times, once for each argument.
type Step = Derivatives;

/// `y = u + v`, and `dy = du + dv`.
fn add(u: Step, v: Step) -> Step {
    let mut y = Step::default();
    add::jvp(&u.y, &v.y, &u.dx, &v.dx, &mut y.y, &mut y.dx);
    add::jvp(&u.y, &v.y, &u.da, &v.da, &mut y.y, &mut y.da);
    add::jvp(&u.y, &v.y, &u.db, &v.db, &mut y.y, &mut y.db);
    y
}

/// `y = u * v`, and `dy = u dv + v du`.
fn mul(u: Step, v: Step) -> Step {
    let mut y = Step::default();
    mul::jvp(&u.y, &v.y, &u.dx, &v.dx, &mut y.y, &mut y.dx);
    mul::jvp(&u.y, &v.y, &u.da, &v.da, &mut y.y, &mut y.da);
    mul::jvp(&u.y, &v.y, &u.db, &v.db, &mut y.y, &mut y.db);
    y
}

/// Forward propagation: the steps in order, each with its derivatives. `load` is the argument itself: its derivative by
/// itself is 1.
pub fn forward(x: f64, a: f64, b: f64, text: &mut String) -> Derivatives {
    let t0 = Step { y: x, dx: 1.0, ..Step::default() };
    let t1 = Step { y: a, da: 1.0, ..Step::default() };
    let t2 = add(t0, t1);
    let t3 = Step { y: b, db: 1.0, ..Step::default() };
    let t4 = add(t0, t3);
    let t5 = mul(t2, t4);

    *text += "Forward propagation: each step by `jvp`, first step first\n\n";
    *text +=
        &format!("    {:<14}  {:>18}  {:>7}  {:>7}  {:>7}  {:>7}\n", "step", "", "value", "dt/da", "dt/db", "dt/dx");
    for (step, meaning, t) in [
        ("t0 = load('x')", "x", t0),
        ("t1 = load('a')", "a", t1),
        ("t2 = t0 + t1", "x + a", t2),
        ("t3 = load('b')", "b", t3),
        ("t4 = t0 + t3", "x + b", t4),
        ("t5 = t2 * t4", "(x + a) * (x + b)", t5),
    ] {
        *text += &format!("    {step:<14}  {meaning:>18}  {:>7}  {:>7}  {:>7}  {:>7}\n", t.y, t.da, t.db, t.dx);
    }
    *text += &format!("\n    dy/da = x + b = {},  dy/db = x + a = {}\n\n", t5.da, t5.db);
    t5
}

/// Backward propagation: the steps forward, values only; then last step first, each giving contributions to the
/// cotangents of what it read.
pub fn backward(x: f64, a: f64, b: f64, text: &mut String) -> Derivatives {
    let (t0, t1, t3) = (x, a, b);
    let (mut t2, mut t4, mut t5) = (0.0, 0.0, 0.0);
    add::forward(&t0, &t1, &mut t2);
    add::forward(&t0, &t3, &mut t4);
    mul::forward(&t2, &t4, &mut t5);

    *text += "Backward propagation: each step by `vjp`, last step first\n\n";
    *text += &format!("    {:<15}  {:>12}  {:>7}   {}\n", "contribution", "amount", "sum", "which is");
    // Every cotangent begins at zero. `vjp_u` and `vjp_v` add the contribution to one operand; `vjp` would add both at
    // once.
    let (mut dt0, mut dt1, mut dt2, mut dt3, mut dt4, mut dt5) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let mut line = |rule: &str, to: &mut f64, meaning: &str, contribute: &dyn Fn(&mut f64)| {
        let before = *to;
        contribute(to);
        *text += &format!("    {rule:<15}  {:>12}  {to:>7}   {meaning}\n", *to - before);
    };
    line("dt5 += dy", &mut dt5, "1", &|dt5| *dt5 += 1.0);
    line("dt4 += dt5 * t2", &mut dt4, "x + a", &|dt4| mul::vjp_v(&t2, &dt5, dt4));
    line("dt2 += dt5 * t4", &mut dt2, "x + b", &|dt2| mul::vjp_u(&t4, &dt5, dt2));
    line("dt0 += dt4", &mut dt0, "x + a", &|dt0| add::vjp_u(&dt4, dt0));
    line("dt3 += dt4", &mut dt3, "x + a  (dy/db)", &|dt3| add::vjp_v(&dt4, dt3));
    line("dt0 += dt2", &mut dt0, "2 * x + a + b  (dy/dx)", &|dt0| add::vjp_u(&dt2, dt0));
    line("dt1 += dt2", &mut dt1, "x + b  (dy/da)", &|dt1| add::vjp_v(&dt2, dt1));
    *text += &format!("\n    dy/da = x + b = {dt1},  dy/db = x + a = {dt3}\n\n");
    Derivatives { y: t5, dx: dt0, da: dt1, db: dt3 }
}

/// The formula as one op: its `jvp` in the direction of each argument, its `vjp` for all of them at once.
pub fn whole_op(x: f64, a: f64, b: f64, text: &mut String) -> Derivatives {
    let mut value = 0.0;
    whole::forward(&x, &a, &b, &mut value);
    let mut y = 0.0;
    let mut along = |x_dot: f64, a_dot: f64, b_dot: f64| {
        let mut y_dot = 0.0;
        whole::jvp(&x, &a, &b, &x_dot, &a_dot, &b_dot, &mut y, &mut y_dot);
        y_dot
    };
    let forward = [along(1.0, 0.0, 0.0), along(0.0, 1.0, 0.0), along(0.0, 0.0, 1.0)];
    assert_eq!(y, value);
    let mut all = Derivatives { y: value, ..Derivatives::default() };
    whole::vjp(&x, &a, &b, &1.0, &mut all.dx, &mut all.da, &mut all.db);

    *text += "The formula as one op, `quadratic_scalar`\n\n";
    for step in whole::KERNEL.forward.iter().chain(whole::KERNEL.adjoint) {
        *text += &format!("    {:<40} {}\n", step.formula, step.source);
    }
    *text += &format!("\n    {:<26}  {:>7}  {:>7}  {:>7}\n", "", "dy/da", "dy/db", "dy/dx");
    *text +=
        &format!("    {:<26}  {:>7}  {:>7}  {:>7}\n", "jvp, a call a direction", forward[1], forward[2], forward[0]);
    *text += &format!("    {:<26}  {:>7}  {:>7}  {:>7}\n\n", "vjp, one call for all", all.da, all.db, all.dx);
    assert_eq!(forward, [all.dx, all.da, all.db]);
    all
}
