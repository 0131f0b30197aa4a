//! What the controller meets: the path that is wanted, the wind that nobody tells it of, and the quadrotor itself.
//!
//! Holds after it: the quadrotor is simulated in steps ten times as short as those of the controller's model, and with
//! a force that the model lacks.

use crate::controller::{Input, STEP, State};
use crate::kernels::quadrotor::double as dynamics;
use std::f64::consts::TAU;
use std::ops::Range;

/// Steps of the simulation in one of the controller.
const PARTS: usize = 10;
/// The time of one round, in seconds.
const ROUND: f64 = 5.0;
/// When the wind blows, in seconds.
pub const GUST: Range<f64> = 4.0..5.0;
/// How the wind speeds the quadrotor up meanwhile, in metres per second squared.
pub const PUSH: [f64; 3] = [1.5, -2.0, -1.0];

/// Where the quadrotor begins: at rest, on the ground.
pub const START: State = [0.0; 12];

/// What is wanted at a time: an eight, 3 metres by 1.5 (Gerono's lemniscate), that rises and falls; position and
/// velocity. Yaw stays.
pub fn reference(time: f64) -> State {
    let (sin, cos) = (TAU * time / ROUND).sin_cos();
    let rate = TAU / ROUND;
    let mut x = [0.0; 12];
    x[..3].copy_from_slice(&[1.5 * sin, 1.5 * sin * cos, 1.0 + 0.4 * cos]);
    x[3..6].copy_from_slice(&[1.5 * rate * cos, 1.5 * rate * (cos * cos - sin * sin), -0.4 * rate * sin]);
    x
}

/// The state a step of the controller later, inputs held: Runge and Kutta's method with the dynamics and the wind.
pub fn fly(mut x: State, u: &Input, time: f64) -> State {
    let part = STEP / PARTS as f64;
    for n in 0..PARTS {
        let now = time + part * n as f64;
        let wind = GUST.contains(&now);
        let rate = |x: &State| {
            let mut rate = [0.0; 12];
            dynamics::forward(x, u, &mut rate);
            if wind {
                rate[3..6].iter_mut().zip(PUSH).for_each(|(rate, push)| *rate += push);
            }
            rate
        };
        let moved = |by: f64, k: &State| -> State { std::array::from_fn(|s| x[s] + by * k[s]) };
        let k1 = rate(&x);
        let k2 = rate(&moved(part / 2.0, &k1));
        let k3 = rate(&moved(part / 2.0, &k2));
        let k4 = rate(&moved(part, &k3));
        x = std::array::from_fn(|s| x[s] + part / 6.0 * (k1[s] + 2.0 * k2[s] + 2.0 * k3[s] + k4[s]));
    }
    x
}

/// How far the quadrotor is from where it should be, in metres.
pub fn error(x: &State, reference: &State) -> f64 {
    x[..3].iter().zip(reference).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}
