//! Self-attention of several heads: Vaswani and others, 2017, one query after the other.

use super::layers::logsumexp;
use super::{Number, Outputs, Point, zeros};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (t, d, heads, e) = (p.size("T"), p.size("D"), p.size("H"), p.size("E"));
    let (wq, wk, wv, wo) = (p.get("wq"), p.get("wk"), p.get("wv"), p.get("wo"));
    let mut y = Vec::new();
    for x in p.get("x").chunks(t * d) {
        let mut sequence: Vec<D> = zeros(t * d);
        for h in 0..heads {
            let project = |w: &[D], row: &[D]| -> Vec<D> {
                (0..e).map(|k| (0..d).map(|j| row[j] * w[(j * heads + h) * e + k]).sum()).collect()
            };
            let keys: Vec<Vec<D>> = x.chunks(d).map(|row| project(wk, row)).collect();
            let values: Vec<Vec<D>> = x.chunks(d).map(|row| project(wv, row)).collect();
            for (row, out) in x.chunks(d).zip(sequence.chunks_mut(d)) {
                let query = project(wq, row);
                let score = |key: &Vec<D>| query.iter().zip(key).map(|(q, k)| *q * *k).sum::<D>() / (e as f64).sqrt();
                let scores: Vec<D> = keys.iter().map(score).collect();
                let total = logsumexp(&scores);
                for k in 0..e {
                    let head: D = scores.iter().zip(&values).map(|(s, v)| (*s - total).exp() * v[k]).sum();
                    for (j, out) in out.iter_mut().enumerate() {
                        *out += head * wo[(h * e + k) * d + j];
                    }
                }
            }
        }
        y.extend(sequence);
    }
    Outputs::from([("y", y)])
}
