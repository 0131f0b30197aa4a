//! Long short-term memory: Hochreiter and Schmidhuber, 1997, with the forget gate of Gers and others, 2000.

use super::gru::logistic;
use super::layers::dense;
use super::{Number, Outputs, Point, zeros};

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (mut state, mut cell) = (p.get("h0").to_vec(), p.get("c0").to_vec());
    let none = zeros(state.len());
    let (mut states, mut cells) = (Vec::new(), Vec::new());
    for x in p.get("x").chunks(p.size("D")) {
        let gate = |g: &str| -> Vec<D> {
            let own = dense(x, p.get(&format!("w{g}")), p.get(&format!("b{g}")));
            let past = dense(&state, p.get(&format!("u{g}")), &none);
            own.iter().zip(past).map(|(a, s)| *a + s).collect()
        };
        let (input, forget, candidate, output) = (gate("i"), gate("f"), gate("g"), gate("o"));
        for k in 0..state.len() {
            cell[k] = logistic(forget[k]) * cell[k] + logistic(input[k]) * candidate[k].tanh();
            state[k] = logistic(output[k]) * cell[k].tanh();
        }
        states.extend_from_slice(&state);
        cells.extend_from_slice(&cell);
    }
    Outputs::from([("h", states), ("c", cells)])
}
