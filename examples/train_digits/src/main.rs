//! Trains a small network on real images of digits: takes a model, an optimizer and the number of epochs, gives the
//! loss of each epoch and the accuracy on images held out.
//!
//! ```text
//! cargo run --release -p train_digits
//! cargo run --release -p train_digits -- --model cnn --optimizer sgd
//! ```
//!
//! `model.rs` is the part to read: two networks, whose gradients are generated, and what trains them. `data.rs` unpacks
//! the images.

use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::Instant;
use train_digits::data;
use train_digits::model::{Cnn, Mlp, Network, Optimizer, Trainer};

const USAGE: &str = "\
Trains a network on images of handwritten digits: 64, 32 and 10 neurons, or two convolutions and a dense layer.

Usage: train_digits [--model mlp|cnn] [--optimizer adam|sgd] [--epochs N] [--seed N] [--least P]

  --model M        the network, `mlp` or `cnn` [default: mlp]
  --optimizer O    how it follows the gradient, `adam` or `sgd` with momentum [default: adam]
  --epochs N       how often each image is shown, 1 to 10000 [default: 30]
  --seed N         chooses the split, the first weights and the order [default: 1]
  --least P        the accuracy on images held out, in percent, below which the exit code is 1 [default: 0]
  -h, --help       this text
";

#[derive(Clone, Copy)]
enum Model {
    Mlp,
    Cnn,
}

#[derive(Clone, Copy)]
enum Method {
    Adam,
    Sgd,
}

impl Method {
    /// The step size of the first epoch; it falls evenly to nothing.
    fn rate(self) -> f32 {
        match self {
            Method::Adam => 0.02,
            Method::Sgd => 0.1,
        }
    }
}

struct Options {
    model: Model,
    method: Method,
    epochs: u32,
    seed: u64,
    least: f32,
}

fn main() -> ExitCode {
    let options = match arguments() {
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
    let trained = match options.model {
        Model::Mlp => train::<Mlp>(&options),
        Model::Cnn => train::<Cnn>(&options),
    };
    match trained {
        Ok(accuracy) if accuracy >= options.least => ExitCode::SUCCESS,
        Ok(accuracy) => {
            eprintln!("error: {accuracy:.2}% is less than {}%", options.least);
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("error: cannot unpack the images: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What is asked for, or nothing where help is.
fn arguments() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options { model: Model::Mlp, method: Method::Adam, epochs: 30, seed: 1, least: 0.0 };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("model") => {
                options.model = match parser.value()?.string()?.as_str() {
                    "mlp" => Model::Mlp,
                    "cnn" => Model::Cnn,
                    _ => return Err("--model takes `mlp` or `cnn`".into()),
                }
            }
            Long("optimizer") => {
                options.method = match parser.value()?.string()?.as_str() {
                    "adam" => Method::Adam,
                    "sgd" => Method::Sgd,
                    _ => return Err("--optimizer takes `adam` or `sgd`".into()),
                }
            }
            Long("epochs") => options.epochs = parser.value()?.parse()?,
            Long("least") => options.least = parser.value()?.parse()?,
            Long("seed") => options.seed = parser.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    if !(1..=10_000).contains(&options.epochs) {
        return Err("--epochs takes 1 to 10000".into());
    }
    Ok(Some(options))
}

/// Trains a network; its accuracy on the images held out, in percent.
fn train<N: Network>(&Options { method, epochs, seed, .. }: &Options) -> std::io::Result<f32> {
    let (train, held_out) = data::load(seed)?;
    println!("{} images to learn from, {} held out", train.len(), held_out.len());
    let optimizer = match method {
        Method::Adam => Optimizer::adam(),
        Method::Sgd => Optimizer::sgd(),
    };
    let mut trainer = Box::new(Trainer::<N>::new(optimizer, seed));
    let bar = ProgressBar::new(u64::from(epochs) * train.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} images, {per_sec}, {eta} left {msg}");
    bar.set_style(style.expect("the template is right"));
    let start = Instant::now();
    let width = epochs.to_string().len();
    for n in 0..epochs {
        let rate = method.rate() * (epochs - n) as f32 / epochs as f32;
        let epoch = trainer.epoch(&train, rate, |images| bar.inc(images as u64));
        let line =
            format!("epoch {:width$}   loss {:.4}   accuracy {:6.2}%", n + 1, epoch.loss, 100.0 * epoch.accuracy);
        // Where standard error is no terminal the bar shows nothing, so the lines go to standard output.
        bar.suspend(|| println!("{line}"));
    }
    bar.finish_and_clear();
    println!("trained in {:.2} s", start.elapsed().as_secs_f64());
    let accuracy = 100.0 * trainer.accuracy(&held_out);
    println!("accuracy on the images held out: {accuracy:.2}%");
    Ok(accuracy)
}
