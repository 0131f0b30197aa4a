//! Newton's method with conjugate gradients: fits a softmax regression to images of digits and asks for second
//! derivatives only as products with a direction, `hvp`. Takes nothing, gives the gradient's norm of each iteration,
//! and what plain gradient descent needs to come as near.
//!
//! ```text
//! cargo run --release -p newton_cg
//! ```
//!
//! The loss is `programs/softmax_regression.yaml`: strictly convex, so that there is one minimum and Newton's method
//! converges to it quadratically. Its Hessian has 650 rows, and is never made. `newton.rs` is the method, for any
//! program; `regression.rs` is this one.
//!
//! Holds after it: the gradient's norm is below [`TOLERANCE`], else the exit code is 1. Nothing is allocated in the
//! methods (`tests/no_alloc.rs` counts).

use cotangent::Parameters;
use newton_cg::data;
use newton_cg::data::{CLASSES, Digits};
use newton_cg::newton::{self, TOLERANCE, Work};
use newton_cg::regression::{Regression, Weights};
use std::process::ExitCode;
use std::time::Instant;

/// The gradient's norm at which both methods are compared: plain descent gets no further in a second or so.
const COMPARED: f64 = 1e-6;
/// Plain descent gives up after so many gradients.
const MOST_GRADIENTS: usize = 20_000;

/// The part of the images whose greatest logit is at the digit.
fn accuracy(p: &Weights, digits: &Digits) -> f64 {
    let logit =
        |image: &[f32], c: usize| p.b[c] + image.iter().zip(&p.w).map(|(x, w)| f64::from(*x) * w[c]).sum::<f64>();
    let best = |image: &[f32]| (0..CLASSES).max_by(|a, b| logit(image, *a).total_cmp(&logit(image, *b)));
    let hits = digits
        .images
        .iter()
        .zip(&digits.labels)
        .filter(|(image, label)| best(&image[..]) == Some(usize::from(**label)));
    hits.count() as f64 / digits.len() as f64
}

fn main() -> ExitCode {
    let (train, held_out) = match data::load(1) {
        Ok(sets) => sets,
        Err(e) => {
            eprintln!("error: cannot unpack the images: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut regression = Regression::new(&train);
    let mut weights = Weights::ZERO;
    println!("softmax regression: {} parameters, {} images, all at once", Weights::LEN, train.len());
    println!("iteration        loss   gradient norm   step   gradients     hvps");
    let start = Instant::now();
    let mut compared = None;
    let newton = newton::minimise(&mut regression, &mut weights, |iteration, loss, step, work| {
        let Work { gradients, products, norm } = work;
        println!("{iteration:9}   {loss:.7}   {norm:13.3e}   {step:4.2}   {gradients:9}   {products:6}");
        if norm < COMPARED && compared.is_none() {
            compared = Some((work, start.elapsed()));
        }
    });
    if let Some((Work { gradients, products, .. }, time)) = compared {
        println!("to {COMPARED:.0e} by Newton-CG: {gradients} gradients, {products} hvps, {:.2} s", time.as_secs_f64());
    }
    let start = Instant::now();
    let mut other = Weights::ZERO;
    let plain = newton::descend(&mut regression, &mut other, COMPARED, MOST_GRADIENTS);
    let reached = if plain.norm < COMPARED { "to" } else { "not to" };
    println!(
        "{reached} {COMPARED:.0e} by gradient descent: {} gradients, {:.2} s",
        plain.gradients,
        start.elapsed().as_secs_f64()
    );
    println!("accuracy on the {} images held out: {:.2}%", held_out.len(), 100.0 * accuracy(&weights, &held_out));

    if newton.norm < TOLERANCE {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: the gradient's norm is {:.3e}, not below {TOLERANCE:.0e}", newton.norm);
        ExitCode::FAILURE
    }
}
