//! The controller allocates nothing: takes that of the example, flies under an allocator that counts, and finds zero
//! allocations.

#[path = "../../../tests/support/counting.rs"]
mod counting;

use counting::counted;
use quadrotor_mpc::{controller, flight};

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
