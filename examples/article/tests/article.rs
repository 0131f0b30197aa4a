//! The article's numbers: takes the functions of `src/main.rs`, compares what generated kernels give with the closed
//! forms.

#[path = "../src/main.rs"]
#[expect(dead_code, reason = "`main` is the example's")]
mod article;

use article::Derivatives;

/// By hand: `f = (x + a)(x + b)`.
fn closed(x: f64, a: f64, b: f64) -> Derivatives {
    Derivatives { y: (x + a) * (x + b), dx: 2.0 * x + a + b, da: x + b, db: x + a }
}

/// Small whole numbers are exact in every order of the sums.
#[test]
fn steps_and_whole_op_equal_the_closed_forms() {
    for n in 0..343_i32 {
        let [x, a, b] = [n % 7, n / 7 % 7, n / 49].map(|k| f64::from(k - 3));
        let mut text = String::new();
        for way in [article::forward, article::backward, article::whole_op] {
            assert_eq!(way(x, a, b, &mut text), closed(x, a, b), "x = {x}, a = {a}, b = {b}");
        }
    }
}

/// What the article prints for each step is what the example prints.
#[test]
fn the_printed_tables_show_every_step() {
    let mut text = String::new();
    article::forward(3.0, 2.0, 5.0, &mut text);
    article::backward(3.0, 2.0, 5.0, &mut text);
    let rows: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in [
        // step, meaning, value, dt/da, dt/db, dt/dx
        "t0 = load('x') x 3 0 0 1",
        "t1 = load('a') a 2 1 0 0",
        "t2 = t0 + t1 x + a 5 1 0 1",
        "t3 = load('b') b 5 0 1 0",
        "t4 = t0 + t3 x + b 8 0 1 1",
        "t5 = t2 * t4 (x + a) * (x + b) 40 8 5 13",
        // contribution, amount, sum, meaning
        "dt5 += dy 1 1 1",
        "dt4 += dt5 * t2 5 5 x + a",
        "dt2 += dt5 * t4 8 8 x + b",
        "dt0 += dt4 5 5 x + a",
        "dt3 += dt4 5 5 x + a (dy/db)",
        "dt0 += dt2 8 13 2 * x + a + b (dy/dx)",
        "dt1 += dt2 8 8 x + b (dy/da)",
    ] {
        assert!(rows.iter().any(|r| r == row), "{row} is not in\n{text}");
    }
}
