//! Rosenbrock's function.

use super::{Number, Outputs, Point, real};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let term = |w: &[D]| (w[1] - w[0] * w[0]).powi(2) * 100.0 + (real::<D>(1.0) - w[0]).powi(2);
    Outputs::from([("y", vec![p.get("x").windows(2).map(term).sum()])])
}
