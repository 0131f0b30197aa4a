//! The loops of the examples allocate nothing: takes their networks, their regression and their controller, runs each under an allocator that counts,
//! and finds zero allocations.

#[path = "../examples/quadrotor_mpc/controller.rs"]
mod controller;
#[path = "support/counting.rs"]
mod counting;
#[path = "../examples/train_digits/data.rs"]
mod data;
#[path = "../examples/quadrotor_mpc/flight.rs"]
mod flight;
#[path = "../examples/train_digits/model.rs"]
#[expect(dead_code, reason = "the accuracy on other images is the example's")]
mod model;
#[path = "../examples/newton_cg/newton.rs"]
mod newton;
#[path = "../examples/newton_cg/regression.rs"]
mod regression;

use cotangent::Parameters;
use counting::counted;
use model::{Cnn, Mlp, Network, Optimizer, Trainer};

#[test]
fn the_allocator_counts() {
    let (calls, numbers) = counted(|| vec![1, 2, 3]);
    assert_eq!((calls, numbers.len()), (1, 3));
}

/// Two epochs of a network, by an optimizer.
fn learns<N: Network>(name: &str, optimizer: Optimizer<N::Parameters>, rate: f32) {
    let (train, _) = data::load(1).expect("the images unpack");
    let mut trainer = Box::new(Trainer::<N>::new(optimizer, 1));
    let mut seen = 0;
    let (calls, [first, second]) = counted(|| [0, 1].map(|_| trainer.epoch(&train, rate, |images| seen += images)));
    println!(
        "{name}: {calls} allocations in 2 epochs of {} images; loss {:.4}, then {:.4}",
        train.len(),
        first.loss,
        second.loss
    );
    assert_eq!(calls, 0, "{name}");
    assert_eq!(seen, 2 * train.len(), "{name}");
    assert!(first.loss.is_finite() && second.loss < first.loss, "{name}");
    assert!(second.accuracy > first.accuracy, "{name}");
}

#[test]
fn two_epochs_allocate_nothing_and_learn() {
    learns::<Mlp>("mlp, Adam", Optimizer::adam(), 0.005);
    learns::<Mlp>("mlp, SGD", Optimizer::sgd(), 0.05);
    learns::<Cnn>("cnn, Adam", Optimizer::adam(), 0.005);
    learns::<Cnn>("cnn, SGD", Optimizer::sgd(), 0.05);
}

#[test]
fn newton_and_descent_allocate_nothing() {
    let (train, _) = data::load(1).expect("the images unpack");
    let mut regression = regression::Regression::new(&train);
    let mut weights = regression::Weights::ZERO;
    let mut first = None;
    let (calls, (newton, plain)) = counted(|| {
        let work = newton::minimise(&mut regression, &mut weights, |_, _, _, work| first = first.or(Some(work.norm)));
        let mut other = regression::Weights::ZERO;
        (work, newton::descend(&mut regression, &mut other, newton::TOLERANCE, 10))
    });
    println!("{calls} allocations; from {first:?} to {} and {}", newton.norm, plain.norm);
    assert_eq!(calls, 0);
    assert!(newton.norm < newton::TOLERANCE);
    assert_eq!(plain.gradients, 10);
    assert!(first.is_some_and(|first| plain.norm < first));
}

#[test]
fn control_allocates_nothing_and_reaches_the_path() {
    const STEPS: usize = 60;
    let mut controller = controller::Controller::new();
    let mut iterations = 0;
    let (calls, x) = counted(|| {
        (0..STEPS).fold(flight::START, |x, n| {
            let reference = std::array::from_fn(|t| flight::reference((n + t) as f64 * controller::STEP));
            let solution = controller.solve(&x, &reference);
            iterations += solution.iterations;
            flight::fly(x, &solution.input, n as f64 * controller::STEP)
        })
    });
    let error = flight::error(&x, &flight::reference(STEPS as f64 * controller::STEP));
    println!("{calls} allocations in {iterations} linearisations; {error:.4} m from the path after {STEPS} steps");
    assert_eq!(calls, 0);
    assert!(error < 0.1);
}
