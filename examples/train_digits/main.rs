//! Trains a small network on real images of digits: takes the number of epochs, gives the loss of each and the accuracy on images held out.
//!
//! ```text
//! cargo run --release --example train_digits
//! ```
//!
//! `model.rs` is the part to read: a network, forward and backward, by calls of generated kernels. `data.rs` unpacks the images.

mod data;
mod model;

use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
Trains a network of 64, 32 and 10 neurons on images of handwritten digits.

Usage: train_digits [--epochs N] [--seed N]

  --epochs N    how often each image is shown, 1 to 10000 [default: 30]
  --seed N      chooses the split, the first weights and the order [default: 1]
  -h, --help    this text
";

/// The step size of the first epoch; it falls evenly to nothing.
const RATE: f32 = 0.01;

fn main() -> ExitCode {
    let (epochs, seed) = match arguments() {
        Ok(Some(given)) => given,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("error: {e}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match train(epochs, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: cannot unpack the images: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The number of epochs and the seed, or nothing where help is asked for.
fn arguments() -> Result<Option<(u32, u64)>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut epochs, mut seed) = (30, 1);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("epochs") => epochs = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    if !(1..=10_000).contains(&epochs) {
        return Err("--epochs takes 1 to 10000".into());
    }
    Ok(Some((epochs, seed)))
}

fn train(epochs: u32, seed: u64) -> std::io::Result<()> {
    let (train, held_out) = data::load(seed)?;
    println!("{} images to learn from, {} held out", train.len(), held_out.len());
    let mut trainer = model::Trainer::new(seed);
    let bar = ProgressBar::new(u64::from(epochs) * train.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} images, {per_sec}, {eta} left {msg}");
    bar.set_style(style.expect("the template is right"));
    let start = Instant::now();
    let width = epochs.to_string().len();
    for n in 0..epochs {
        let rate = RATE * (epochs - n) as f32 / epochs as f32;
        let epoch = trainer.epoch(&train, rate, |images| bar.inc(images as u64));
        let line =
            format!("epoch {:width$}   loss {:.4}   accuracy {:6.2}%", n + 1, epoch.loss, 100.0 * epoch.accuracy);
        // Where standard error is no terminal the bar shows nothing, so the lines go to standard output.
        bar.suspend(|| println!("{line}"));
    }
    bar.finish_and_clear();
    println!("trained in {:.2} s", start.elapsed().as_secs_f64());
    println!("accuracy on the images held out: {:.2}%", 100.0 * trainer.accuracy(&held_out));
    Ok(())
}
