//! The objective GMM of ADBench, as its C++ version computes it: in ten dimensions at its own prior, `gamma` 1 and `m`
//! 0; in two at another.

use super::layers::logsumexp;
use super::{Number, Outputs, Point, real};
use std::f64::consts::PI;

/// The logarithm of the gamma function at a positive multiple of a half, by its recurrence.
fn log_gamma(halves: usize) -> f64 {
    match halves {
        1 => 0.5 * PI.ln(),
        2 => 0.0,
        n => log_gamma(n - 2) + ((n - 2) as f64 / 2.0).ln(),
    }
}

pub fn model<D: Number>(p: &Point<D>) -> Outputs<D> {
    let (n, d, k) = (p.size("N"), p.size("D"), p.size("K"));
    let (gamma, m): (f64, usize) = if d == 2 { (0.5, 2) } else { (1.0, 0) };
    let (alphas, means, diagonal, lower) = (p.get("alphas"), p.get("means"), p.get("logdiag"), p.get("lower"));
    let mut y = real::<D>(-0.5 * (n * d) as f64 * (2.0 * PI).ln());
    for x in p.get("x").chunks(d) {
        let mut terms = Vec::new();
        for c in 0..k {
            let shifted: Vec<D> = (0..d).map(|i| x[i] - means[c * d + i]).collect();
            let mut square = real::<D>(0.0);
            let mut trace = real::<D>(0.0);
            for i in 0..d {
                let mut q = diagonal[c * d + i].exp() * shifted[i];
                for j in 0..i {
                    q += lower[(c * d + i) * d + j] * shifted[j];
                }
                square += q * q;
                trace += diagonal[c * d + i];
            }
            terms.push(alphas[c] + trace - square * 0.5);
        }
        y += logsumexp(&terms);
    }
    y -= logsumexp(alphas) * n as f64;
    // The prior.
    let freedom = d + m + 1;
    let multivariate = 0.25 * (d * (d - 1)) as f64 * PI.ln() + (0..d).map(|j| log_gamma(freedom - j)).sum::<f64>();
    let constant = (freedom * d) as f64 * (gamma.ln() - 0.5 * 2f64.ln()) - multivariate;
    for c in 0..k {
        let mut square = real::<D>(0.0);
        let mut trace = real::<D>(0.0);
        for i in 0..d {
            square += diagonal[c * d + i].exp().powi(2);
            trace += diagonal[c * d + i];
            for j in 0..i {
                square += lower[(c * d + i) * d + j].powi(2);
            }
        }
        y += square * (0.5 * gamma * gamma) - trace * m as f64 - constant;
    }
    Outputs::from([("y", vec![y])])
}
