//! Three dense layers, tanh between them.

use super::layers::dense;
use super::{Number, Outputs, Point};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let tanh = |a: Vec<D>| -> Vec<D> { a.iter().map(|a| a.tanh()).collect() };
    let h = tanh(dense(p.get("x"), p.get("w1"), p.get("b1")));
    let h = tanh(dense(&h, p.get("w2"), p.get("b2")));
    Outputs::from([("y", dense(&h, p.get("w3"), p.get("b3")))])
}
