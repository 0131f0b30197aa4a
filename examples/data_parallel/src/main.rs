//! Trains a network on several processes: takes images of digits, gives the loss of each epoch. Each rank computes the
//! gradient of its share of the batch; one message adds them, with the loss; then every rank takes the same step.
//!
//! ```text
//! cargo run --release --manifest-path examples/data_parallel/Cargo.toml -- --ranks 4
//! ```
//!
//! Started so, the program starts its ranks by `mpirun`; under `mpirun`, on one machine or many, it is a rank. The batch
//! is four parts whatever the number of ranks: `split: {B: 4}` in `ops/mlp.yaml` makes the kernel of a part, and the
//! compiler has proved that the loss is the mean over parts.

use cotangent::{Parameters, Tensor};
use mpi::collective::SystemOperation;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::process::{Command, ExitCode};
use std::time::Instant;
use train_digits::data::{self, CLASSES, Digits, PIXELS, Random};

mod kernels {
    cotangent::include_kernels!();
}
use kernels::mlp::{mnist as whole, mnist_part as part};

const USAGE: &str = "\
Trains 784, 128 and 10 neurons on images of digits, on several processes that add their gradients over MPI.

Usage: data_parallel [--ranks 1|2|4] [--epochs N] [--check]

  --ranks N     processes; each has as many parts of the batch [default: 2]
  --epochs N    how often each image is shown [default: 20]
  --check       the first rank also trains alone, with the kernel of the whole batch, and compares the losses
  -h, --help    this text
";

/// Images of a batch, and of a part of it.
const BATCH: usize = 128;
const PART: usize = 32;
const PARTS: usize = BATCH / PART;
/// The step size.
const RATE: f32 = 0.2;
/// How far losses may be from those of the run of one process, relative: sums are rounded in another order.
const ROUNDING: f32 = 1e-5;

struct Options {
    ranks: usize,
    epochs: u32,
    check: bool,
}

fn main() -> ExitCode {
    let result = arguments().and_then(|given| match given {
        None => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        // Open MPI tells its ranks so.
        Some(options) if std::env::var_os("OMPI_COMM_WORLD_SIZE").is_none() => started(&options),
        Some(options) => train(&options),
    });
    result.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::FAILURE
    })
}

/// What is asked for, or nothing where help is.
fn arguments() -> Result<Option<Options>, Box<dyn std::error::Error>> {
    use lexopt::prelude::*;
    let mut options = Options { ranks: 2, epochs: 20, check: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("ranks") => options.ranks = parser.value()?.parse()?,
            Long("epochs") => options.epochs = parser.value()?.parse()?,
            Long("check") => options.check = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if !matches!(options.ranks, 1 | 2 | 4) {
        return Err("--ranks takes 1, 2 or 4".into());
    }
    Ok(Some(options))
}

/// Starts the ranks, and waits for them.
fn started(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    // More ranks than cores are slow, and right.
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--oversubscribe", "-n", &options.ranks.to_string()]);
    mpirun.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let status = mpirun.status().map_err(|e| format!("cannot start `mpirun`: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An image of 8 by 8 as one of 28 by 28: each pixel 3 by 3, and a border of two.
fn enlarged(image: &[f32; PIXELS]) -> [f32; 784] {
    let pixel = |at: usize| (2..26).contains(&at).then(|| (at - 2) / 3);
    std::array::from_fn(|n| match (pixel(n / 28), pixel(n % 28)) {
        (Some(row), Some(column)) => image[8 * row + column],
        _ => 0.0,
    })
}

/// Some images, and 1 at the class of each.
fn fill(x: &mut [[f32; 784]], t: &mut [[f32; CLASSES]], digits: &Digits, chosen: &[usize]) {
    for ((x, t), n) in x.iter_mut().zip(t).zip(chosen) {
        *x = enlarged(&digits.images[*n]);
        *t = [0.0; CLASSES];
        t[usize::from(digits.labels[*n])] = 1.0;
    }
}

/// A step against the gradient.
fn step<P: Parameters<Scalar = f32>>(parameters: &mut P, gradient: &P) {
    for (p, g) in parameters.slices_mut().zip(gradient.slices()) {
        p.iter_mut().zip(g).for_each(|(p, g)| *p -= RATE * g);
    }
}

/// What a rank works with. Nothing is allocated once it stands.
struct Rank {
    parameters: Box<part::Parameters>,
    /// Of the parts so far, and of one.
    gradient: Box<part::Parameters>,
    own: Box<part::Parameters>,
    workspace: Box<part::value_and_grad::Workspace>,
    x: Box<part::X>,
    t: Box<part::T>,
    /// The loss, then the gradient: of this rank, of all.
    message: [Vec<f32>; 2],
}

impl Rank {
    fn new() -> Self {
        let new = || Box::new(part::Parameters::ZERO);
        let mut rank = Rank {
            parameters: new(),
            gradient: new(),
            own: new(),
            workspace: Box::default(),
            x: part::X::zeros(),
            t: part::T::zeros(),
            message: [vec![0.0; 1 + part::Parameters::LEN], vec![0.0; 1 + part::Parameters::LEN]],
        };
        // Every rank starts from the same numbers.
        let mut random = Random::new(1);
        random.fill(rank.parameters.w1.flat_mut(), (6.0_f32 / (784 + 128) as f32).sqrt());
        random.fill(rank.parameters.w2.flat_mut(), (6.0_f32 / (128 + 10) as f32).sqrt());
        rank
    }

    /// The mean loss of a batch, and a step against its gradient.
    fn learn(&mut self, world: &impl Communicator, digits: &Digits, batch: &[usize]) -> f32 {
        let Rank { parameters, gradient, own, workspace, x, t, message: [sent, received] } = self;
        let share = PARTS / world.size() as usize;
        let first = share * world.rank() as usize;
        let mut sum = 0.0;
        gradient.slices_mut().for_each(|slice| slice.fill(0.0));
        for chosen in batch.chunks(PART).skip(first).take(share) {
            fill(&mut **x, &mut **t, digits, chosen);
            let mut loss = 0.0;
            parameters.value_and_grad(x, t, &mut loss, own, workspace);
            sum += loss;
            for (sum, own) in gradient.slices_mut().zip(own.slices()) {
                sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
        }
        // One message: the loss, and behind it the gradient, slice by slice.
        sent[0] = sum;
        let mut rest = &mut sent[1..];
        for slice in gradient.slices() {
            let (own, behind) = rest.split_at_mut(slice.len());
            own.copy_from_slice(slice);
            rest = behind;
        }
        world.all_reduce_into(&sent[..], &mut received[..], SystemOperation::sum());
        // The whole is the mean over its parts.
        received.iter_mut().for_each(|v| *v /= PARTS as f32);
        let mut rest = &received[1..];
        for slice in gradient.slices_mut() {
            let (own, behind) = rest.split_at(slice.len());
            slice.copy_from_slice(own);
            rest = behind;
        }
        step(&mut **parameters, gradient);
        received[0]
    }
}

/// The same by one process, with the kernel of the whole batch.
struct Alone {
    parameters: Box<whole::Parameters>,
    gradient: Box<whole::Parameters>,
    workspace: Box<whole::value_and_grad::Workspace>,
    x: Box<whole::X>,
    t: Box<whole::T>,
}

impl Alone {
    fn new(start: &part::Parameters) -> Self {
        let mut parameters = Box::new(whole::Parameters::ZERO);
        parameters.slices_mut().zip(start.slices()).for_each(|(to, from)| to.copy_from_slice(from));
        let gradient = Box::new(whole::Parameters::ZERO);
        Alone { parameters, gradient, workspace: Box::default(), x: whole::X::zeros(), t: whole::T::zeros() }
    }

    fn learn(&mut self, digits: &Digits, batch: &[usize]) -> f32 {
        fill(&mut *self.x, &mut *self.t, digits, batch);
        let mut loss = 0.0;
        self.parameters.value_and_grad(&self.x, &self.t, &mut loss, &mut self.gradient, &mut self.workspace);
        step(&mut *self.parameters, &self.gradient);
        loss
    }
}

/// A rank: trains with the others.
fn train(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let universe = mpi::initialize().ok_or("MPI has been started before")?;
    let world = universe.world();
    if !PARTS.is_multiple_of(world.size() as usize) {
        return Err("1, 2 or 4 ranks share four parts out".into());
    }
    let (digits, _) = data::load(1)?;
    let first = world.rank() == 0;
    let mut rank = Rank::new();
    let mut alone = (first && options.check).then(|| Alone::new(&rank.parameters));
    let mut order: Vec<usize> = (0..digits.len()).collect();
    let mut random = Random::new(2);
    let (start, mut furthest, mut losses) = (Instant::now(), 0.0_f32, Vec::new());
    for epoch in 1..=options.epochs {
        random.shuffle(&mut order);
        let mut sum = 0.0;
        let batches = order.chunks_exact(BATCH);
        let count = batches.len();
        for batch in batches {
            let loss = rank.learn(&world, &digits, batch);
            if let Some(alone) = &mut alone {
                let right = alone.learn(&digits, batch);
                furthest = furthest.max((loss - right).abs() / right);
            }
            sum += loss;
        }
        losses.push(sum / count as f32);
        if first {
            println!("epoch {epoch:3}   loss {:.4}", sum / count as f32);
        }
    }
    if first {
        let images = (digits.len() / BATCH * BATCH) as f64 * f64::from(options.epochs);
        println!("{} ranks: {:.0} images a second", world.size(), images / start.elapsed().as_secs_f64());
    }
    if alone.is_some() {
        println!("losses are within {furthest:.1e} of those of one process, relative");
    }
    let learnt = losses.first().zip(losses.last()).is_some_and(|(first, last)| losses.len() < 2 || last < first);
    let right = furthest <= ROUNDING && learnt;
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
