//! The residuals BA of ADBench, as its C++ version computes them.

use super::{Number, Outputs, Point, real};

/// Cameras turn by an eighth at most.
pub fn range(tensor: &str) -> (f64, f64) {
    if tensor == "camera" { (-0.45, 0.45) } else { (-1.0, 1.0) }
}

/// Points lie before the camera. Of every second draw it is not turned at all.
pub fn at(draw: usize, tensor: &str, values: &mut [f64]) {
    match tensor {
        "point" => values.chunks_mut(3).for_each(|point| point[2] += 6.0),
        "camera" if draw % 2 == 1 => values.chunks_mut(11).for_each(|camera| camera[..3].fill(0.0)),
        _ => {}
    }
}

fn cross<D: Number>(a: [D; 3], b: [D; 3]) -> [D; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot<D: Number>(a: [D; 3], b: [D; 3]) -> D {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Rodrigues' formula about the unit vector along `turn`.
fn rotated<D: Number>(turn: [D; 3], v: [D; 3]) -> [D; 3] {
    let square = dot(turn, turn);
    if square.re() == 0.0 {
        let c = cross(turn, v);
        return [0, 1, 2].map(|i| v[i] + c[i]);
    }
    let angle = square.sqrt();
    let axis = turn.map(|t| t / angle);
    let (c, along) = (cross(axis, v), dot(axis, v) * (real::<D>(1.0) - angle.cos()));
    [0, 1, 2].map(|i| v[i] * angle.cos() + c[i] * angle.sin() + axis[i] * along)
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (mut errors, mut weight_errors) = (Vec::new(), Vec::new());
    let observed = p.get("camera").chunks(11).zip(p.get("point").chunks(3)).zip(p.get("weight"));
    for (((camera, point), weight), feature) in observed.zip(p.get("feature").chunks(2)) {
        let seen = rotated([camera[0], camera[1], camera[2]], [0, 1, 2].map(|i| point[i] - camera[3 + i]));
        let (u, v) = (seen[0] / seen[2], seen[1] / seen[2]);
        let square = u * u + v * v;
        let distortion = camera[9] * square + camera[10] * square * square + 1.0;
        for (i, plane) in [u, v].into_iter().enumerate() {
            errors.push(*weight * (plane * distortion * camera[6] + camera[7 + i] - feature[i]));
        }
        weight_errors.push(real::<D>(1.0) - *weight * *weight);
    }
    Outputs::from([("error", errors), ("weight_error", weight_errors)])
}
