//! One dense layer, the loss of its logits, and half a thousandth of the squares of its parameters.

use super::layers::{dense, loss};
use super::{Number, Outputs, Point};

const RIDGE: f64 = 1e-3;

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (w, b) = (p.get("w"), p.get("b"));
    let squares: D = w.iter().chain(b).map(|v| *v * *v).sum();
    let z = dense(p.get("x"), w, b);
    Outputs::from([("loss", vec![loss(&z, p.get("t"), p.size("C")) + squares * (RIDGE / 2.0)])])
}
