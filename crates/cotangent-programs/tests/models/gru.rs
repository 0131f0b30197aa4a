//! A gated recurrent unit: Cho and others, 2014, with the reset gate behind the product as in cuDNN.

use super::layers::dense;
use super::{Number, Outputs, Point, real, zeros};

/// The logistic function.
pub fn logistic<D: Number>(a: D) -> D {
    ((-a).exp() + 1.0).recip()
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let mut state = p.get("h0").to_vec();
    let none = zeros(state.len());
    let mut all = Vec::new();
    for x in p.get("x").chunks(p.size("D")) {
        let gate = |w: &str, u: &str, b: &str| -> Vec<D> {
            let (a, s) = (dense(x, p.get(w), p.get(b)), dense(&state, p.get(u), &none));
            a.iter().zip(s).map(|(a, s)| logistic(*a + s)).collect()
        };
        let (update, reset) = (gate("wz", "uz", "bz"), gate("wr", "ur", "br"));
        let (a, s) = (dense(x, p.get("wn"), p.get("bn")), dense(&state, p.get("un"), p.get("cn")));
        for k in 0..state.len() {
            let candidate = (a[k] + reset[k] * s[k]).tanh();
            state[k] = (real::<D>(1.0) - update[k]) * candidate + update[k] * state[k];
        }
        all.extend_from_slice(&state);
    }
    Outputs::from([("h", all)])
}
