//! The goals: takes the measured rows, says which are met. They are data: a row, what is measured of it, the bound.

use crate::report::Row;
use crate::variants::STACKS;

/// What a goal is about.
enum Goal {
    /// Time over that of `forward`, at most.
    Forward(f64),
    /// Percent of the core's fused multiply-adds in products, at least.
    Peak(f64),
    /// Core cycles of a call, at most.
    Cycles(f64),
    /// Time over that of a peer or a variant, at most.
    Peer(&'static str, f64),
    /// Time after subnormal numbers on the stack over that after zeros, at most.
    Stack(f64),
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
    ("gmm::n1000_d2_k5/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d2_k25/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d2_k50/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d10_k5/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d10_k25/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d10_k50/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d20_k5/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d20_k25/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d20_k50/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d32_k5/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d32_k25/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d32_k50/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d64_k5/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d64_k25/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d64_k50/value_and_grad", Forward(5.0)),
    ("gmm::n1000_d2_k25/forward", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d2_k25/value_and_grad", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d10_k25/forward", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d10_k25/value_and_grad", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d10_k50/forward", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d10_k50/value_and_grad", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d20_k25/forward", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d20_k25/value_and_grad", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d32_k25/forward", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d32_k25/value_and_grad", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d64_k25/forward", Peer("by hand, a local", 1.03)),
    ("gmm::n1000_d64_k25/value_and_grad", Peer("by hand, a local", 1.03)),
    ("llsq::n1024/forward", Peer("axes swapped", 1.03)),
    ("llsq::n1024/value_and_grad", Peer("axes swapped", 1.03)),
    ("llsq::n16392/forward", Peer("axes swapped", 1.03)),
    ("llsq::n16392/value_and_grad", Peer("axes swapped", 1.03)),
    ("lstm_loss::l2_c1024_b14/forward", Stack(1.05)),
    ("lstm_loss::l2_c1024_b14/value_and_grad", Stack(1.05)),
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
            Peer(name, bound) => row.over(name).map(|x| (x <= *bound, format!("{x:.2} x {name}, at most {bound}"))),
            Stack(bound) => {
                let [zeros, subnormals] = STACKS.map(|(name, _)| row.over(name));
                let ratio = zeros.zip(subnormals).map(|(zeros, subnormals)| zeros / subnormals);
                ratio.map(|x| (x <= *bound, format!("{x:.2} x after zeros on the stack, at most {bound}")))
            }
            Cycles(bound) => row.cycles().map(|x| (x <= *bound, format!("{x:.0} cycles, at most {bound}"))),
        });
        match measured {
            Some((true, text)) => {
                met += 1;
                println!("  met    {name:<40} {text}");
            }
            Some((false, text)) => {
                missed += 1;
                println!("  missed {name:<40} {text}");
            }
            None => println!("  -      {name:<40} not measured"),
        }
    }
    println!("  {met} met, {missed} missed");
}
