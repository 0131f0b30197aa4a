//! The classical method of Runge and Kutta over the model of `quadrotor`, 50 ms.

use super::quadrotor::rate;
use super::{Number, Outputs, Point};

const STEP: f64 = 0.05;

/// Inputs so small that no pitch comes near a quarter turn.
pub fn range(tensor: &str) -> (f64, f64) {
    match tensor {
        "u" => (-0.1, 0.1),
        _ => (-0.5, 0.5),
    }
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (x, u) = (p.get("x"), p.get("u"));
    let moved = |by: f64, k: &[D]| -> Vec<D> { x.iter().zip(k).map(|(x, k)| *x + *k * by).collect() };
    let k1 = rate(x, u);
    let k2 = rate(&moved(STEP / 2.0, &k1), u);
    let k3 = rate(&moved(STEP / 2.0, &k2), u);
    let k4 = rate(&moved(STEP, &k3), u);
    let mean: Vec<D> = (0..x.len()).map(|s| (k1[s] + (k2[s] + k3[s]) * 2.0 + k4[s]) / 6.0).collect();
    Outputs::from([("x_next", moved(STEP, &mean))])
}
