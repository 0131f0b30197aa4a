//! The goals: takes the measured rows, says which are met. They are data: a row, what is measured of it, the bound.

use crate::report::Row;

/// What a goal is about.
enum Goal {
    /// Time over that of `forward`, at most.
    Forward(f64),
    /// Percent of the core's fused multiply-adds in products, at least.
    Peak(f64),
    /// Core cycles of a call, at most.
    Cycles(f64),
}
use Goal::*;

const GOALS: &[(&str, Goal)] = &[
    ("mlp::mnist/value_and_grad", Forward(3.2)),
    ("cnn::mnist/value_and_grad", Forward(3.2)),
    ("mlp::mnist/value_and_grad", Peak(80.0)),
    ("cnn::mnist/value_and_grad", Peak(60.0)),
    ("quadrotor::double/jacobian", Cycles(270.0)),
    ("quadrotor::single/jacobian", Cycles(180.0)),
    ("mlp_tiny::single/forward", Cycles(385.0)),
    ("mlp_tiny::single/vjp_store", Cycles(1500.0)),
    ("mlp_tiny_input::single/jacobian", Cycles(1170.0)),
];

/// Prints every goal: `met`, `missed`, or that its row was not measured.
pub fn print(rows: &[Row]) {
    println!("\ngoals");
    let (mut met, mut missed) = (0, 0);
    for (name, goal) in GOALS {
        let row = rows.iter().find(|row| row.name() == *name);
        let measured = row.and_then(|row| match goal {
            Forward(bound) => row.over_forward().map(|x| (x <= *bound, format!("{x:.2} x forward, at most {bound}"))),
            Peak(bound) => row.percent().map(|x| (x >= *bound, format!("{x:.1}% of the FMA peak, at least {bound}%"))),
            Cycles(bound) => row.cycles().map(|x| (x <= *bound, format!("{x:.0} cycles, at most {bound}"))),
        });
        match measured {
            Some((true, text)) => {
                met += 1;
                println!("  met    {name:<34} {text}");
            }
            Some((false, text)) => {
                missed += 1;
                println!("  missed {name:<34} {text}");
            }
            None => println!("  -      {name:<34} not measured"),
        }
    }
    println!("  {met} met, {missed} missed");
}
