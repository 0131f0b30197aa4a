//! A quadrotor flies an eight under model-predictive control: takes the path of a picture, gives the tracking error,
//! the time of each solution, and the picture, as SVG.
//!
//! ```text
//! cargo run --release -p quadrotor_mpc
//! ```
//!
//! `controller.rs` is the part to read: the derivatives of the dynamics are generated (`programs/quadrotor_step.yaml`).
//! `flight.rs` is what the controller meets, `picture.rs` draws.
//!
//! Holds after it: in the last two seconds the quadrotor was never farther than [`BOUND`] from its path, else the exit
//! code is 1.

mod picture;

use quadrotor_mpc::controller::{Controller, HORIZON, STEP, State};
use quadrotor_mpc::flight;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
Flies a quadrotor along an eight, through a gust of wind, by model-predictive control.

Usage: quadrotor_mpc [--output FILE]

  --output FILE    where to draw the flight [default: target/quadrotor.svg]
  -h, --help       this text
";

/// How long the flight takes, in steps of the controller.
const STEPS: usize = 200;
/// How far from its path the quadrotor may be in the last two seconds, in metres.
const BOUND: f64 = 0.05;
/// Those two seconds, in steps.
const LAST: usize = 40;

/// A moment of the flight.
#[derive(Clone, Copy)]
struct Moment {
    time: f64,
    flown: State,
    wanted: State,
}

impl Moment {
    /// At the start.
    const START: Self = Moment { time: 0.0, flown: flight::START, wanted: [0.0; 12] };

    fn error(&self) -> f64 {
        flight::error(&self.flown, &self.wanted)
    }
}

fn main() -> ExitCode {
    let output = match arguments() {
        Ok(Some(output)) => output,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("error: {e}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut moments = [Moment::START; STEPS + 1];
    let mut times = [Duration::ZERO; STEPS];
    let iterations = fly(&mut moments, &mut times);
    report(&moments, &times, iterations);
    let folder = output.parent().map_or(Ok(()), std::fs::create_dir_all);
    if let Err(e) = folder.and_then(|()| std::fs::write(&output, picture::svg(&moments))) {
        eprintln!("error: cannot write {}: {e}", output.display());
        return ExitCode::FAILURE;
    }
    println!("drawn to {}", output.display());
    let last = worst(&moments[moments.len() - LAST..]);
    if last <= BOUND {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: {last:.3} m from the path in the last {} s, more than {BOUND} m", LAST as f64 * STEP);
        ExitCode::FAILURE
    }
}

/// The path of the picture, or nothing where help is asked for.
fn arguments() -> Result<Option<PathBuf>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut output = PathBuf::from("target/quadrotor.svg");
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("output") => output = parser.value()?.into(),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(output))
}

/// The closed loop: the controller sees the state, the quadrotor flies its input for a step. How often the controller
/// has linearised.
fn fly(moments: &mut [Moment; STEPS + 1], times: &mut [Duration; STEPS]) -> usize {
    let mut controller = Controller::new();
    let mut iterations = 0;
    let mut x = flight::START;
    for (n, moment) in moments.iter_mut().enumerate() {
        let time = n as f64 * STEP;
        let reference: [State; HORIZON + 1] = std::array::from_fn(|t| flight::reference(time + t as f64 * STEP));
        *moment = Moment { time, flown: x, wanted: reference[0] };
        let Some(took) = times.get_mut(n) else { break };
        let start = Instant::now();
        let solution = controller.solve(&x, &reference);
        *took = start.elapsed();
        iterations += solution.iterations;
        x = flight::fly(x, &solution.input, time);
    }
    iterations
}

/// The greatest distance from the path.
fn worst(moments: &[Moment]) -> f64 {
    moments.iter().map(Moment::error).fold(0.0, f64::max)
}

fn report(moments: &[Moment], times: &[Duration], iterations: usize) {
    println!("{} s of flight, {} solutions, {HORIZON} steps of {STEP} s ahead", times.len() as f64 * STEP, times.len());
    println!("      time   root mean square   greatest distance from the path");
    for from in (0..times.len()).step_by(LAST) {
        let part = &moments[from + 1..=(from + LAST).min(times.len())];
        let square = part.iter().map(|m| m.error().powi(2)).sum::<f64>() / part.len() as f64;
        let (first, last) = (moments[from].time, part[part.len() - 1].time);
        let wind = if first < flight::GUST.end && flight::GUST.start < last { "   wind" } else { "" };
        println!("{first:4.1}-{last:4.1} s          {:.4} m            {:.4} m{wind}", square.sqrt(), worst(part));
    }
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let part = |part: f64| 1e6 * sorted[(part * (sorted.len() - 1) as f64) as usize].as_secs_f64();
    println!(
        "a solution: median {:.0} us, 95 in 100 within {:.0} us; {:.1} linearisations",
        part(0.5),
        part(0.95),
        iterations as f64 / times.len() as f64
    );
}
