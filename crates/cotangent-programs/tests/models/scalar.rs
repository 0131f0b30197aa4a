//! `(x + a) (x + b)`.

use super::{Number, Outputs, Point};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (x, a, b) = (p.one("x"), p.one("a"), p.one("b"));
    Outputs::from([("y", vec![(x + a) * (x + b)])])
}
