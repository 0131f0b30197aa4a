//! The controller: takes the state of the quadrotor and the states that are wanted over the horizon, gives the inputs
//! for the next step.
//!
//! It minimises the sum of weighted squares of what differs from the reference, over the states and inputs of the
//! horizon, by the iterative linear-quadratic regulator in its Gauss-Newton form (Li and Todorov, 2004; Tassa et al.,
//! 2012): linearise the steps along the plan, solve the linear problem by Riccati's recursion from the horizon's end,
//! roll its feedback out through the dynamics, and repeat. Each solution begins with the last one, moved on by a step.
//!
//! The step and its derivatives by state and input are generated functions, of a program that calls the dynamics four
//! times (`programs/quadrotor_step.yaml`).
//!
//! Holds after it: the plan's inputs lie within [`LEAST`] and [`MOST`], its states are what the model makes of them,
//! and its cost is not above that of the plan before. Nothing is allocated (`tests/no_alloc.rs` counts).

use crate::kernels::quadrotor_step::ms50 as model;
use nalgebra::{SMatrix, SVector};

/// Position, velocity, angles and rates, as `programs/quadrotor.yaml` has them.
pub type State = model::X;
/// Thrust and torques.
pub type Input = model::U;

/// The length of a step, for which the inputs are held, in seconds: that of the model.
pub const STEP: f64 = 0.05;
/// Steps that the controller looks ahead.
pub const HORIZON: usize = 20;
/// The input at which the quadrotor hovers (newtons, newton metres): its weight.
pub const HOVER: Input = [0.5 * 9.81, 0.0, 0.0, 0.0];
/// The least inputs.
pub const LEAST: Input = [0.0, -0.1, -0.1, -0.05];
/// The greatest inputs: twice the weight, and what moves the thrust between the rotors.
pub const MOST: Input = [9.81, 0.1, 0.1, 0.05];

/// What a difference from the reference costs, squared, in each step: position, velocity, angles, rates.
const STATE_COST: State = [20.0, 20.0, 20.0, 2.0, 2.0, 2.0, 0.2, 0.2, 2.0, 0.05, 0.05, 0.05];
/// How much more it costs at the end of the horizon.
const END: f64 = 5.0;
/// What a difference from hovering costs.
const INPUT_COST: Input = [0.02, 4.0, 4.0, 4.0];
/// Most linearisations of one solution.
const MOST_ITERATIONS: usize = 10;
/// A plan that is better by less than this part is the solution.
const ENOUGH: f64 = 1e-4;
/// The parts of a step that are tried.
const LENGTHS: [f64; 5] = [1.0, 0.5, 0.25, 0.125, 0.0625];

type StateVector = SVector<f64, 12>;
type InputVector = SVector<f64, 4>;
type Feedback = SMatrix<f64, 4, 12>;

/// What a solution took.
#[derive(Clone, Copy, Debug)]
pub struct Solution {
    /// What to do in the next step.
    pub input: Input,
    /// Linearisations along the whole horizon.
    pub iterations: usize,
}

/// Inputs, and the states that the model makes of them.
#[derive(Clone)]
struct Plan {
    states: [State; HORIZON + 1],
    inputs: [Input; HORIZON],
}

/// The plan, and the memory to make a better one.
pub struct Controller {
    plan: Plan,
    trial: Plan,
    /// What each input changes by, and by how much more for each state's difference from the plan.
    change: [InputVector; HORIZON],
    feedback: [Feedback; HORIZON],
    workspace: model::jacobian::Workspace,
}

impl Default for Controller {
    fn default() -> Self {
        Controller::new()
    }
}

impl Controller {
    /// A controller whose plan is to hover.
    pub fn new() -> Self {
        let plan = Plan { states: [[0.0; 12]; HORIZON + 1], inputs: [HOVER; HORIZON] };
        Controller {
            trial: plan.clone(),
            plan,
            change: [InputVector::zeros(); HORIZON],
            feedback: [Feedback::zeros(); HORIZON],
            workspace: model::jacobian::Workspace::new(),
        }
    }

    /// What to do at state `x` in order to follow `reference`, which begins with what is wanted now. A step later the
    /// next call is due.
    pub fn solve(&mut self, x: &State, reference: &[State; HORIZON + 1]) -> Solution {
        self.plan.states[0] = *x;
        let mut cost = self.plan.roll_out(reference, |_, _, input| input);
        let mut iterations = 0;
        while iterations < MOST_ITERATIONS {
            iterations += 1;
            if !self.linearise(reference) {
                break;
            }
            let Some(better) = self.step(reference, cost) else { break };
            let enough = cost - better <= ENOUGH * cost;
            cost = better;
            if enough {
                break;
            }
        }
        let input = self.plan.inputs[0];
        self.plan.inputs.copy_within(1.., 0);
        Solution { input, iterations }
    }

    /// Riccati's recursion along the plan, from the end of the horizon: the best change and feedback of the linear
    /// problem. False where the plan is not finite.
    fn linearise(&mut self, reference: &[State; HORIZON + 1]) -> bool {
        let (state_cost, input_cost) = (StateVector::from(STATE_COST), InputVector::from(INPUT_COST));
        let last = state_cost * END;
        // The cost from here on is `value_x . d + d . value_xx d / 2` for a difference `d` of the state from the plan.
        let mut value_x = last.component_mul(&difference(&self.plan.states[HORIZON], &reference[HORIZON]));
        let mut value_xx = SMatrix::from_diagonal(&last);
        for t in (0..HORIZON).rev() {
            let (x, u) = (&self.plan.states[t], &self.plan.inputs[t]);
            let (mut next, mut next_x, mut next_u) = ([0.0; 12], [[0.0; 12]; 12], [[0.0; 4]; 12]);
            model::jacobian(x, u, &mut next, &mut next_x, &mut next_u, &mut self.workspace);
            // Rows of the arrays are columns of the matrices: these are the transposes.
            let (a, b) = (SMatrix::<f64, 12, 12>::from(next_x), SMatrix::<f64, 4, 12>::from(next_u));
            let (by_a, by_b) = (a * value_xx, b * value_xx);
            let cost_x = state_cost.component_mul(&difference(x, &reference[t])) + a * value_x;
            let cost_u = input_cost.component_mul(&difference(u, &HOVER)) + b * value_x;
            let cost_xx = SMatrix::from_diagonal(&state_cost) + by_a * a.transpose();
            let cost_ux = by_b * a.transpose();
            let cost_uu = SMatrix::from_diagonal(&input_cost) + by_b * b.transpose();
            let Some(factors) = cost_uu.cholesky() else { return false };
            self.change[t] = -factors.solve(&cost_u);
            self.feedback[t] = -factors.solve(&cost_ux);
            value_x = cost_x + cost_ux.transpose() * self.change[t];
            value_xx = cost_xx + cost_ux.transpose() * self.feedback[t];
        }
        true
    }

    /// Rolls the change out, shorter until it is better than `cost`; the cost that it then has, or nothing where none
    /// is.
    fn step(&mut self, reference: &[State; HORIZON + 1], cost: f64) -> Option<f64> {
        let Controller { plan, trial, change, feedback, .. } = self;
        for length in LENGTHS {
            trial.states[0] = plan.states[0];
            let better = trial.roll_out(reference, |t, x, _| {
                let change = change[t] * length + feedback[t] * difference(x, &plan.states[t]);
                let bounded = |n: usize| (plan.inputs[t][n] + change[n]).clamp(LEAST[n], MOST[n]);
                std::array::from_fn(bounded)
            });
            if better < cost {
                std::mem::swap(plan, trial);
                return Some(better);
            }
        }
        None
    }
}

impl Plan {
    /// Follows the model from the first state, each input chosen by step, state and what it was; the cost of that.
    fn roll_out(&mut self, reference: &[State; HORIZON + 1], input: impl Fn(usize, &State, Input) -> Input) -> f64 {
        let mut cost = 0.0;
        let [wanted @ .., last] = reference;
        for (t, wanted) in wanted.iter().enumerate() {
            let x = self.states[t];
            let u = input(t, &x, self.inputs[t]);
            cost += weighted(&STATE_COST, &x, wanted) + weighted(&INPUT_COST, &u, &HOVER);
            model::forward(&x, &u, &mut self.states[t + 1]);
            self.inputs[t] = u;
        }
        cost + END * weighted(&STATE_COST, &self.states[HORIZON], last)
    }
}

fn difference<const N: usize>(a: &[f64; N], b: &[f64; N]) -> SVector<f64, N> {
    SVector::from(*a) - SVector::from(*b)
}

/// Half the weighted square of the difference.
fn weighted<const N: usize>(weights: &[f64; N], a: &[f64; N], b: &[f64; N]) -> f64 {
    let difference = difference(a, b);
    0.5 * difference.component_mul(&difference).dot(&SVector::from(*weights))
}
