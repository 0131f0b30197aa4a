//! Newton's and Euler's equations by rotation matrices, of a quadrotor of 0.5 kg.

use super::{Number, Outputs, Point, real, zeros};

const MASS: f64 = 0.5;
const INERTIA: [f64; 3] = [0.0023, 0.0023, 0.004];
const GRAVITY: f64 = 9.81;

type Matrix<D> = [[D; 3]; 3];

fn product<D: Number>(a: &Matrix<D>, b: &Matrix<D>) -> Matrix<D> {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// A rotation about a coordinate axis.
fn rotation<D: Number>(axis: usize, angle: D) -> Matrix<D> {
    let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut m = [[real::<D>(0.0); 3]; 3];
    m[axis][axis] = real(1.0);
    (m[i][i], m[j][j]) = (angle.cos(), angle.cos());
    (m[i][j], m[j][i]) = (-angle.sin(), angle.sin());
    m
}

fn determinant<D: Number>(m: &Matrix<D>) -> D {
    (0..3).map(|i| m[0][i] * (m[1][(i + 1) % 3] * m[2][(i + 2) % 3] - m[1][(i + 2) % 3] * m[2][(i + 1) % 3])).sum()
}

/// The time derivative of the state.
pub fn rate<D: Number>(x: &[D], u: &[D]) -> Vec<D> {
    let (roll, pitch, yaw, rates) = (x[6], x[7], x[8], [x[9], x[10], x[11]]);
    let body = product(&product(&rotation(2, yaw), &rotation(1, pitch)), &rotation(0, roll));
    let mut rate = zeros(12);
    for i in 0..3 {
        rate[i] = x[3 + i];
        rate[3 + i] = body[i][2] * u[0] / MASS;
        // Euler: the moment of inertia times the angular acceleration is the torque less the gyroscopic moment.
        let (j, k) = ((i + 1) % 3, (i + 2) % 3);
        let gyroscopic = rates[j] * rates[k] * (INERTIA[k] - INERTIA[j]);
        rate[9 + i] = (u[1 + i] - gyroscopic) / INERTIA[i];
    }
    rate[5] -= GRAVITY;
    // The body turns by the rate of roll about x, by that of pitch about y before roll, by that of yaw about z before
    // both: three columns times the rates of the angles are its own rates. Cramer's rule.
    let (by_roll, by_pitch) = (rotation(0, roll), rotation(1, pitch));
    let about_z = std::array::from_fn(|i| (0..3).map(|k| by_roll[k][i] * by_pitch[2][k]).sum());
    let columns = [[real(1.0), real(0.0), real(0.0)], by_roll[1], about_z];
    for i in 0..3 {
        let mut replaced = columns;
        replaced[i] = rates;
        rate[6 + i] = determinant(&replaced) / determinant(&columns);
    }
    rate
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    Outputs::from([("x_rate", rate(p.get("x"), p.get("u")))])
}
