//! The loss of `cnn_logits`.

use super::layers::loss;
use super::{Number, Outputs, Point, cnn_logits};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let z = cnn_logits::logits(p);
    Outputs::from([("loss", vec![loss(&z, p.get("t"), p.size("C"))])])
}
