//! The loss of `mlp_logits`.

use super::layers::loss;
use super::{Number, Outputs, Point, mlp_logits};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let z = mlp_logits::logits(p);
    Outputs::from([("loss", vec![loss(&z, p.get("t"), p.size("C"))])])
}
