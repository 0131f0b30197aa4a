//! Newton's method with conjugate gradients, and plain gradient descent beside it: takes a function of a struct of
//! parameters with its gradient and its Hessian's products, gives better parameters.
//!
//! Holds after it: the function's value has not grown, its rounding aside. Nothing is allocated; what the methods keep
//! are a few structs of parameters on the stack.

use cotangent::Parameters;

/// The gradient's norm at which a minimum is found.
pub const TOLERANCE: f64 = 1e-10;
/// Newton's method that needs more iterations has failed.
const MOST_ITERATIONS: usize = 50;
/// The part of the expected decrease that a step must bring (Armijo).
const ARMIJO: f64 = 1e-4;
/// A shorter part of a step is not tried.
const SHORTEST: f64 = 1e-9;

/// A function of parameters, with its derivatives.
pub trait Objective {
    /// What it is a function of.
    type Parameters: Parameters<Scalar = f64>;

    /// The value and the gradient.
    fn value_and_grad(&mut self, p: &Self::Parameters, p_bar: &mut Self::Parameters) -> f64;

    /// The Hessian times a direction.
    fn hvp(&mut self, p: &Self::Parameters, p_dot: &Self::Parameters, p_bar_dot: &mut Self::Parameters);
}

/// The inner product.
fn dot<P: Parameters<Scalar = f64>>(a: &P, b: &P) -> f64 {
    a.slices().zip(b.slices()).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>()).sum()
}

/// `y = scale * y + factor * x`.
fn combine<P: Parameters<Scalar = f64>>(y: &mut P, scale: f64, x: &P, factor: f64) {
    for (y, x) in y.slices_mut().zip(x.slices()) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = scale * *y + factor * x);
    }
}

/// What a method has done.
#[derive(Clone, Copy, Default)]
pub struct Work {
    /// Values with gradients that it has asked for.
    pub gradients: usize,
    /// Products of the Hessian with a direction.
    pub products: usize,
    /// The gradient's norm where it stands.
    pub norm: f64,
}

/// Newton's method: solves `H d = -g` for the step by conjugate gradients, no better than the gradient asks for, and
/// halves the step until it brings enough (Nocedal and Wright, Numerical Optimization, algorithm 7.1). `seen` is told
/// the iteration, the value, the part of the step that was taken, and the work so far.
pub fn minimise<O: Objective>(f: &mut O, p: &mut O::Parameters, mut seen: impl FnMut(usize, f64, f64, Work)) -> Work {
    let mut work = Work::default();
    let mut g = Parameters::ZERO;
    let mut value = f.value_and_grad(p, &mut g);
    work.gradients += 1;
    work.norm = dot(&g, &g).sqrt();
    seen(0, value, 0.0, work);
    let mut forcing = 0.5;
    for iteration in 1..=MOST_ITERATIONS {
        if work.norm < TOLERANCE {
            break;
        }
        let step = conjugate_gradients(f, p, &g, forcing * work.norm, &mut work.products);
        let slope = dot(&g, &step);
        let mut length = 1.0;
        let (next, reached) = loop {
            let mut next = *p;
            combine(&mut next, 1.0, &step, length);
            let reached = f.value_and_grad(&next, &mut g);
            work.gradients += 1;
            // Near the minimum the decrease is below the rounding of the value itself.
            if reached <= value + ARMIJO * length * slope + f64::EPSILON * value.abs() {
                break (next, reached);
            }
            length /= 2.0;
            if length < SHORTEST {
                return work;
            }
        };
        (*p, value) = (next, reached);
        let before = work.norm;
        work.norm = dot(&g, &g).sqrt();
        seen(iteration, value, length, work);
        forcing = eisenstat_walker(forcing, work.norm / before);
    }
    work
}

/// How small the residual of the next step's equation has to be, as a part of the gradient, after one that brought the
/// gradient's norm down to `ratio` of what it was: the second choice of Eisenstat and Walker (1996), with their
/// safeguard.
fn eisenstat_walker(last: f64, ratio: f64) -> f64 {
    let (chosen, guard) = (0.9 * ratio * ratio, 0.9 * last * last);
    (if guard > 0.1 { chosen.max(guard) } else { chosen }).min(0.5)
}

/// A step `d` with the residual `|H d + g| <= tolerance`, or as far as the function curves upwards (Steihaug, 1983).
fn conjugate_gradients<O: Objective>(
    f: &mut O,
    p: &O::Parameters,
    g: &O::Parameters,
    tolerance: f64,
    products: &mut usize,
) -> O::Parameters {
    let mut step = O::Parameters::ZERO;
    // The residual is `-g - H step`.
    let mut residual = O::Parameters::ZERO;
    combine(&mut residual, 0.0, g, -1.0);
    let mut direction = residual;
    let mut product = O::Parameters::ZERO;
    let mut square = dot(&residual, &residual);
    // In exact arithmetic as many turns as there are parameters would do.
    for turn in 0..O::Parameters::LEN {
        f.hvp(p, &direction, &mut product);
        *products += 1;
        let curvature = dot(&direction, &product);
        if curvature <= 0.0 {
            // Downhill without end, says the model: then down the gradient, or as far as it is known.
            return if turn == 0 { direction } else { step };
        }
        let length = square / curvature;
        combine(&mut step, 1.0, &direction, length);
        combine(&mut residual, 1.0, &product, -length);
        let before = square;
        square = dot(&residual, &residual);
        if square.sqrt() <= tolerance {
            break;
        }
        combine(&mut direction, square / before, &residual, 1.0);
    }
    step
}

/// Plain gradient descent: steps that are halved until they bring enough, each of which begins half as long again as
/// the last. It ends below a norm, or after so many gradients.
pub fn descend<O: Objective>(f: &mut O, p: &mut O::Parameters, norm: f64, gradients: usize) -> Work {
    let mut work = Work::default();
    let (mut g, mut trial) = (O::Parameters::ZERO, O::Parameters::ZERO);
    let mut value = f.value_and_grad(p, &mut g);
    work.gradients += 1;
    work.norm = dot(&g, &g).sqrt();
    let mut length = 1.0;
    while work.norm >= norm && work.gradients < gradients {
        let mut next = *p;
        combine(&mut next, 1.0, &g, -length);
        let reached = f.value_and_grad(&next, &mut trial);
        work.gradients += 1;
        if reached <= value - ARMIJO * length * work.norm * work.norm + f64::EPSILON * value.abs() {
            (*p, value, g) = (next, reached, trial);
            work.norm = dot(&g, &g).sqrt();
            length *= 1.5;
        } else {
            length /= 2.0;
        }
    }
    work
}
