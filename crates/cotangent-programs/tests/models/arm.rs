//! Products of the homogeneous transforms of Denavit and Hartenberg, with the lengths and angles of the UR5.

use super::{Number, Outputs, Point, real};

/// Of each joint `a`, `d` (metres) and `alpha` in quarter turns.
const JOINTS: [(f64, f64, i32); 6] =
    [(0.0, 0.089159, 1), (-0.425, 0.0, 0), (-0.39225, 0.0, 0), (0.0, 0.10915, 1), (0.0, 0.09465, -1), (0.0, 0.0823, 0)];

type Matrix<D> = [[D; 4]; 4];

fn product<D: Number>(a: &Matrix<D>, b: &Matrix<D>) -> Matrix<D> {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..4).map(|k| a[i][k] * b[k][j]).sum()))
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let number = |v: f64| real::<D>(v);
    let (o, l) = (number(0.0), number(1.0));
    let mut frame = [[l, o, o, o], [o, l, o, o], [o, o, l, o], [o, o, o, l]];
    for ((a, d, quarters), q) in JOINTS.into_iter().zip(p.get("q")) {
        let (c, s) = (q.cos(), q.sin());
        let turn = [[c, -s, o, o], [s, c, o, o], [o, o, l, number(d)], [o, o, o, l]];
        // Cosine and sine of quarter turns are whole.
        let (ca, sa) = (number(f64::from(i32::from(quarters == 0))), number(f64::from(quarters)));
        let twist = [[l, o, o, number(a)], [o, ca, -sa, o], [o, sa, ca, o], [o, o, o, l]];
        frame = product(&product(&frame, &turn), &twist);
    }
    let position = (0..3).map(|i| frame[i][3]).collect();
    let rotation = (0..9).map(|n| frame[n / 3][n % 3]).collect();
    Outputs::from([("position", position), ("rotation", rotation)])
}
