//! Two convolutions of stride 2, padded by half a kernel, and a dense layer.

use super::layers::{Images, dense, relu};
use super::{Number, Outputs, Point};

pub fn logits<D: Number>(p: &Point<D>) -> Vec<D> {
    let t = p.extents("T")[0];
    let (images, a) = Images::of(p).conv(p.get("x"), p.get("k1"), p.get("b1"), t, 2, t / 2);
    let (_, a) = images.conv(&relu(&a), p.get("k2"), p.get("b2"), t, 2, t / 2);
    dense(&relu(&a), p.get("w3"), p.get("b3"))
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    Outputs::from([("z", logits(p))])
}
