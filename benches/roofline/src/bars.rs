//! The goals: takes the measured rows, gives a check list. The goals are data: a row, what is measured of it, the
//! bound.

use crate::harness::{Group, Row};
use crate::report::{NOISE, Roofs, best_ratios, mean};

/// What a goal is about.
#[derive(Clone, Copy)]
enum Goal {
    /// Percent of what bounds the row ([`Row::roof`]), at least.
    Peak(f64),
    /// Percent of the stream over the same arrays, at least.
    Bandwidth(f64),
    /// Core cycles for each element, at most.
    Cycles(f64),
    /// Our time over the faster of the hand-written loops and static matrices, at most 1 and noise.
    Small,
    /// Nanoseconds of the best peer on a core of [`REFERENCE_PEAK`]: to be beaten, measured in multiples of the core's
    /// peak.
    Reference(f64),
}

/// GFLOP/s of the core on which the reference times were measured.
const REFERENCE_PEAK: f64 = 103.7;

/// The goals of single rows.
const GOALS: &[(&str, Goal)] = &[
    ("matmul/4x4x4/forward", Goal::Small),
    ("matmul/4x4x4/vjp_x", Goal::Small),
    ("matmul/4x4x4/vjp_y", Goal::Small),
    ("matmul/12x7x5/forward", Goal::Small),
    ("matmul/12x7x5/vjp_x", Goal::Small),
    ("matmul/12x7x5/vjp_y", Goal::Small),
    ("matmul/8x8x8/forward", Goal::Peak(75.0)),
    ("matmul/16x16x16/forward", Goal::Peak(93.0)),
    ("matmul/32x32x32/forward", Goal::Peak(93.0)),
    ("matmul/64x64x64/forward", Goal::Peak(93.0)),
    ("matmul/128x128x128/forward", Goal::Peak(90.0)),
    ("matmul/256x256x256/forward", Goal::Peak(90.0)),
    ("matmul/512x512x512/forward", Goal::Peak(90.0)),
    ("matmul/32x784x128/forward", Goal::Peak(88.0)),
    ("matmul/8x8x8/vjp_y", Goal::Peak(75.0)),
    ("matmul/16x16x16/vjp_y", Goal::Peak(93.0)),
    ("matmul/32x32x32/vjp_y", Goal::Peak(93.0)),
    ("matmul/64x64x64/vjp_y", Goal::Peak(93.0)),
    ("matmul/128x128x128/vjp_y", Goal::Peak(90.0)),
    ("matmul/256x256x256/vjp_y", Goal::Peak(90.0)),
    ("matmul/512x512x512/vjp_y", Goal::Peak(90.0)),
    ("matmul/32x784x128/vjp_y", Goal::Peak(88.0)),
    ("matmul/8x8x8/vjp_x", Goal::Peak(60.0)),
    ("matmul/16x16x16/vjp_x", Goal::Peak(82.0)),
    ("matmul/32x32x32/vjp_x", Goal::Peak(84.0)),
    ("matmul/64x64x64/vjp_x", Goal::Peak(88.0)),
    ("matmul/128x128x128/vjp_x", Goal::Peak(88.0)),
    ("matmul/256x256x256/vjp_x", Goal::Peak(88.0)),
    ("matmul/512x512x512/vjp_x", Goal::Peak(88.0)),
    ("matmul/16x16x16-f64/forward", Goal::Peak(90.0)),
    ("matmul/32x32x32-f64/forward", Goal::Peak(90.0)),
    ("matmul/64x64x64-f64/forward", Goal::Peak(90.0)),
    ("matmul/128x128x128-f64/forward", Goal::Peak(90.0)),
    ("matmul/256x256x256-f64/forward", Goal::Peak(90.0)),
    ("conv/28x28x1-3x3x8/forward", Goal::Peak(65.0)),
    ("conv/28x28x8-3x3x16-pad1/forward", Goal::Peak(88.0)),
    ("conv/56x56x64-3x3x64-pad1/forward", Goal::Peak(90.0)),
    ("conv/56x56x64-3x3x128-pad1-stride2/forward", Goal::Peak(90.0)),
    ("conv/14x14x256-1x1x256/forward", Goal::Peak(88.0)),
    ("conv/8x32x32x3-5x5x16/forward", Goal::Peak(92.0)),
    ("conv/28x28x1-3x3x8/vjp_x", Goal::Peak(50.0)),
    ("conv/28x28x8-3x3x16-pad1/vjp_x", Goal::Peak(85.0)),
    ("conv/56x56x64-3x3x64-pad1/vjp_x", Goal::Peak(85.0)),
    ("conv/56x56x64-3x3x128-pad1-stride2/vjp_x", Goal::Peak(85.0)),
    ("conv/14x14x256-1x1x256/vjp_x", Goal::Peak(85.0)),
    ("conv/8x32x32x3-5x5x16/vjp_x", Goal::Peak(50.0)),
    ("conv/28x28x1-3x3x8/vjp_k", Goal::Peak(50.0)),
    ("conv/28x28x8-3x3x16-pad1/vjp_k", Goal::Peak(85.0)),
    ("conv/56x56x64-3x3x64-pad1/vjp_k", Goal::Peak(85.0)),
    ("conv/56x56x64-3x3x128-pad1-stride2/vjp_k", Goal::Peak(85.0)),
    ("conv/14x14x256-1x1x256/vjp_k", Goal::Peak(85.0)),
    ("conv/8x32x32x3-5x5x16/vjp_k", Goal::Peak(50.0)),
    ("add/1024/forward", Goal::Bandwidth(90.0)),
    ("add/65536/forward", Goal::Bandwidth(90.0)),
    ("add/1048576/forward", Goal::Bandwidth(90.0)),
    ("mul/1024/forward", Goal::Bandwidth(90.0)),
    ("mul/65536/forward", Goal::Bandwidth(90.0)),
    ("mul/1048576/forward", Goal::Bandwidth(90.0)),
    ("relu/1024/forward", Goal::Bandwidth(90.0)),
    ("relu/65536/forward", Goal::Bandwidth(90.0)),
    ("relu/1048576/forward", Goal::Bandwidth(90.0)),
    ("reduce_sum/1024/forward", Goal::Bandwidth(90.0)),
    ("reduce_sum/65536/forward", Goal::Bandwidth(90.0)),
    ("reduce_sum/1048576/forward", Goal::Bandwidth(90.0)),
    ("exp/65536/forward", Goal::Cycles(1.2)),
    ("logistic/65536/forward", Goal::Cycles(1.6)),
    ("tanh/65536/forward", Goal::Cycles(2.4)),
    ("softmax/32x1000/forward", Goal::Reference(20_200.0)),
    ("softmax/32x1000/vjp", Goal::Reference(11_600.0)),
    ("layer_norm/32x512/forward", Goal::Reference(3_860.0)),
    ("layer_norm/32x512/vjp", Goal::Reference(15_300.0)),
];

/// The groups whose rows are all products.
const PRODUCTS: &[Group] =
    &[Group::ProductNn, Group::ProductNt, Group::ProductTn, Group::ProductF64, Group::ProductJvp, Group::Batch];
/// The geometric mean of all products against the best peer, at most.
const PRODUCTS_MEAN: f64 = 0.80;

/// Whether a row reaches its goal, and what was reached of what. `loads`: GB/s from the first-level cache.
fn check(row: &Row, goal: Goal, loads: f64) -> Option<(bool, String)> {
    let at_least =
        |value: f64, bound: f64, of: &str| (value >= bound, format!("{value:.1}% of {of}, at least {bound}%"));
    Some(match goal {
        Goal::Peak(bound) => {
            let (roof, name) = row.roof(loads);
            at_least(100.0 * row.gflops() / roof, bound, name)
        }
        Goal::Bandwidth(bound) => at_least(row.bandwidth_percent()?, bound, "bandwidth"),
        Goal::Cycles(bound) => {
            let cycles = row.cycles_per_element()?;
            (cycles <= bound, format!("{cycles:.2} cycles an element, at most {bound}"))
        }
        Goal::Small => {
            let peers = ["plain", "nalgebra"].iter().filter_map(|peer| row.ratio(peer));
            let ratio = peers.reduce(f64::max)?;
            (ratio <= NOISE, format!("{ratio:.2} of plain loops or nalgebra, at most {NOISE}"))
        }
        Goal::Reference(nanoseconds) => {
            let ratio = row.ours.min * row.peak / (nanoseconds * REFERENCE_PEAK);
            (ratio <= 1.0, format!("{ratio:.2} of the reference at equal peak, at most 1"))
        }
    })
}

/// Prints every goal whose row was measured.
pub fn print(rows: &[Row], roofs: &Roofs) {
    let loads = roofs.loads();
    println!("\ngoals");
    let (mut passed, mut failed) = (0, 0);
    let mut line = |name: &str, (pass, text): (bool, String)| {
        println!("  {} {name:<44} {text}", if pass { "pass" } else { "FAIL" });
        *(if pass { &mut passed } else { &mut failed }) += 1;
    };
    for (id, goal) in GOALS {
        let row = rows.iter().find(|row| row.spec.id() == *id);
        if let Some(result) = row.and_then(|row| check(row, *goal, loads)) {
            line(id, result);
        }
    }
    let ratios = best_ratios(rows, PRODUCTS);
    if let Some(mean) = mean(&ratios) {
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        line("every product", (worst <= NOISE, format!("{worst:.2} of the best peer at worst, at most {NOISE}")));
        let text = format!("{mean:.2} of the best peer, at most {PRODUCTS_MEAN}");
        line("geometric mean of the products", (mean <= PRODUCTS_MEAN, text));
    }
    println!("  {passed} pass, {failed} fail");
}
