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

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (x, u) = (p.get("x"), p.get("u"));
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
    // The rates of the body are `E` times those of the angles; solved by hand, since `E` is triangular but for a rotation.
    let turn = rates[1] * roll.sin() + rates[2] * roll.cos();
    rate[8] = turn / pitch.cos();
    rate[7] = rates[1] * roll.cos() - rates[2] * roll.sin();
    rate[6] = rates[0] + rate[8] * pitch.sin();
    Outputs::from([("x_rate", rate)])
}
