//! Two dense layers, tanh between them.

use super::layers::dense;
use super::{Number, Outputs, Point};

pub fn logits<D: Number>(p: &Point<D>) -> Vec<D> {
    let h: Vec<D> = dense(p.get("x"), p.get("w1"), p.get("b1")).iter().map(|a| a.tanh()).collect();
    dense(&h, p.get("w2"), p.get("b2"))
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    Outputs::from([("z", logits(p))])
}
