//! The loss of `lenet_logits`.

use super::layers::loss;
use super::{Number, Outputs, Point, lenet_logits};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let z = lenet_logits::logits(p);
    Outputs::from([("loss", vec![loss(&z, p.get("t"), p.size("C"))])])
}
