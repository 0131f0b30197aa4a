//! Checks of kernels that hold whatever the spec: takes `kernels()` of the crate that includes it; tangents are the
//! limits of differences, and every argument matters. It is what the loops of a spec cannot tell, as they come from the
//! same rules.
//!
//! Numbers are drawn inside the declared domains, seeded by the kernel's name. Tolerances stand at the checks, `f32`
//! and `f64` apart.

use crate::kernels;
use crate::support::{Buffers, Kernel, Random, difference, elements, input, largest, say};
use cotangent::{FunctionInfo, Role};

/// Runs a check on every kernel; it gives the number of things that it compared. All failures are told at once.
fn every_kernel(what: &str, check: impl Fn(&Kernel, &mut Failures) -> usize) {
    let kernels = kernels();
    let mut failures = Failures::default();
    let compared: usize = kernels.iter().map(|k| check(k, &mut failures)).sum();
    let functions: usize = kernels.iter().map(|k| k.info.functions.len()).sum();
    say(format!("{what}: {compared} comparisons over {} kernels with {functions} functions", kernels.len()));
    assert!(!kernels.is_empty() && compared > 0, "nothing to check");
    assert!(failures.0.is_empty(), "{what}: {} failures\n{}", failures.0.len(), failures.0.join("\n"));
}

#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn check(&mut self, k: &Kernel, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(format!("  {}: {}", k.path(), message()));
        }
    }
}

/// Inputs, tangents of inputs, cotangents of outputs; outputs and their tangents poisoned.
fn sample(k: &Kernel, draw: usize) -> Buffers {
    let mut random = Random::new(&format!("{} {draw}", k.path()));
    let mut b = Buffers::new();
    for t in k.info.tensors {
        let n = elements(t);
        let poison = vec![f64::NAN; n];
        let (value, dot, bar) = match t.role {
            Role::Input => (input(t, &mut random), random.tensor(n), poison),
            Role::Output => (poison.clone(), poison, random.tensor(n)),
        };
        b.extend([(t.name.into(), value), (format!("{}_dot", t.name), dot), (format!("{}_bar", t.name), bar)]);
    }
    // What a kernel of f32 sees is what the comparisons must start from.
    if k.pick(1.0, 0.0) == 1.0 {
        b.values_mut().flatten().for_each(|v| *v = f64::from(*v as f32));
    }
    b
}

/// A sample with the values of outputs, which a `vjp` may read, and their tangents.
fn evaluated(k: &Kernel, draw: usize) -> Buffers {
    let mut b = sample(k, draw);
    k.call("jvp", &mut b);
    b
}

/// Runs a function on a copy whose results start from `start`; gives the results in order.
fn results(k: &Kernel, f: &FunctionInfo, b: &Buffers, mut start: impl FnMut(usize) -> Vec<f64>) -> Vec<Vec<f64>> {
    let mut b = b.clone();
    for w in f.writes {
        let slot = b.get_mut(*w).expect("results are tensors of the kernel");
        *slot = start(slot.len());
    }
    k.call(f.name, &mut b);
    f.writes.iter().map(|w| b[*w].clone()).collect()
}

fn zeros(n: usize) -> Vec<f64> {
    vec![0.0; n]
}

/// Central differences of `forward` along `x_dot`: step 2^-18 and tolerance 1e-8 in f64, 2^-9 and 2e-3 in f32, relative
/// to the largest of the outputs and tangents.
///
/// An output whose path crosses a kink has a tangent that is the slope on one side. So a few outputs may instead lie
/// between the two one-sided differences.
#[test]
fn tangent_is_the_limit_of_differences() {
    let crossings = std::cell::Cell::new(0);
    every_kernel("differences", |k, failures| {
        let b = evaluated(k, 0);
        let h = k.pick(2f64.powi(-9), 2f64.powi(-18));
        let shifted = |h: f64| {
            let mut s = b.clone();
            for t in k.tensors(Role::Input) {
                let dot = &b[&format!("{}_dot", t.name)];
                s.get_mut(t.name).expect("sampled").iter_mut().zip(dot).for_each(|(x, d)| *x += h * d);
            }
            k.call("forward", &mut s);
            s
        };
        let (above, below) = (shifted(h), shifted(-h));
        let mut compared = 0;
        for t in k.tensors(Role::Output) {
            let (value, dot) = (&b[t.name], &b[&format!("{}_dot", t.name)]);
            let (above, below) = (&above[t.name], &below[t.name]);
            let tolerance = k.pick(2e-3, 1e-8) * largest(value).max(largest(dot)).max(1.0);
            let mut crossed = 0;
            for i in 0..dot.len() {
                let (right, left) = ((above[i] - value[i]) / h, (value[i] - below[i]) / h);
                let central = 0.5 * (right + left);
                if (central - dot[i]).abs() <= tolerance {
                    continue;
                }
                let (low, high) = (right.min(left) - tolerance, right.max(left) + tolerance);
                crossed += usize::from((low..=high).contains(&dot[i]));
                failures.check(k, (low..=high).contains(&dot[i]), || {
                    format!(
                        "{}_dot[{i}] is {:e}, differences give {central:e} (tolerance {tolerance:e})",
                        t.name, dot[i]
                    )
                });
            }
            failures.check(k, crossed <= 1 + dot.len() / 50, || {
                format!("{crossed} of {} elements of {}_dot are off the central difference", dot.len(), t.name)
            });
            crossings.set(crossings.get() + crossed);
            compared += dot.len();
        }
        compared
    });
    say(format!("{} elements crossed a kink", crossings.get()));
}

#[test]
fn every_argument_matters() {
    // A NaN in what a function reads must show in some result: a signature asks for nothing that is not used. A branch
    // may hide it at one point (`where(x > 0, y_bar, 0)` of one negative element), so there are several.
    const DRAWS: usize = 16;
    every_kernel("arguments read", |k, failures| {
        let mut compared = 0;
        for f in k.info.functions {
            for r in f.reads {
                let of = r.trim_end_matches("_dot").trim_end_matches("_bar");
                failures.check(k, k.info.tensor(of).is_some(), || format!("{} reads `{r}`, no tensor", f.name));
                let changed = (0..DRAWS).any(|draw| {
                    let mut b = evaluated(k, draw);
                    let before = results(k, f, &b, zeros);
                    b.get_mut(*r).expect("a tensor of the kernel").fill(f64::NAN);
                    let after = results(k, f, &b, zeros);
                    before.iter().zip(&after).any(|(b, a)| difference(b, a, 0.0).is_some())
                });
                failures.check(k, changed, || format!("{} does not depend on `{r}`", f.name));
                compared += 1;
            }
        }
        compared
    });
}
