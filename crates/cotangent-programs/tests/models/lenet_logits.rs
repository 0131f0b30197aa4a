//! Two convolutions, the first padded by half a kernel, each with the maximum of 2 by 2 pixels behind it, and three
//! dense layers.

use super::layers::{Images, dense, relu};
use super::{Number, Outputs, Point};

pub fn logits<D: Number>(p: &Point<D>) -> Vec<D> {
    let t = p.extents("T")[0];
    let (images, a) = Images::of(p).conv(p.get("x"), p.get("k1"), p.get("b1"), t, 1, t / 2);
    let (images, a) = images.largest(&relu(&a), 2);
    let (images, a) = images.conv(&a, p.get("k2"), p.get("b2"), t, 1, 0);
    let (_, a) = images.largest(&relu(&a), 2);
    let a = relu(&dense(&a, p.get("w3"), p.get("b3")));
    let a = relu(&dense(&a, p.get("w4"), p.get("b4")));
    dense(&a, p.get("w5"), p.get("b5"))
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    Outputs::from([("z", logits(p))])
}
