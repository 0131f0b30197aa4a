//! Properties of every bundled kernel: takes `cotangent::kernels::for_each_kernel!`, so a new spec is covered untouched; gives a failure
//! for each kernel, function and tensor that breaks one.
//!
//! Numbers are drawn inside the declared domains, seeded by the kernel's name. Tolerances stand at the checks, `f32` and `f64` apart.

mod support;

use cotangent::{FunctionInfo, Kind, Role, TensorInfo};
use support::{Buffers, Kernel, Random, difference, elements, largest, say};

cotangent::kernels::for_each_kernel!(kernel_list);

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

    fn equal(&mut self, k: &Kernel, what: &str, got: &[f64], wanted: &[f64], tolerance: f64) {
        if let Some((at, got, wanted)) = difference(got, wanted, tolerance) {
            self.check(k, false, || format!("{what}[{at}] is {got:e}, not {wanted:e} (tolerance {tolerance:e})"));
        }
    }
}

/// Where inputs are drawn.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    /// Off the bounds of the domain, with room for finite differences.
    Inside,
    /// Some of them on the bounds that belong to the domain.
    Bounds,
    /// Few different values, where kinks and ties are.
    Kinks,
}

fn input(t: &TensorInfo, at: Where, random: &mut Random) -> Vec<f64> {
    let d = t.domain;
    let (lo, hi) = match (d.lo.is_finite(), d.hi.is_finite()) {
        (true, true) => (d.lo, d.hi),
        (true, false) => (d.lo, d.lo + 3.0),
        (false, true) => (d.hi - 3.0, d.hi),
        (false, false) => (-2.0, 2.0),
    };
    let margin = 0.1 * (hi - lo);
    let bounds: Vec<f64> = [(d.lo, d.lo_closed), (d.hi, d.hi_closed)].iter().filter(|b| b.1).map(|b| b.0).collect();
    let inside = |v: &f64| (*v > d.lo || d.lo_closed && *v == d.lo) && (*v < d.hi || d.hi_closed && *v == d.hi);
    let mut few: Vec<f64> = [-1.0, 0.0, 1.0].into_iter().filter(inside).collect();
    if few.len() < 2 {
        few.extend([lo + margin, hi - margin]);
    }
    (0..elements(t))
        .map(|_| match at {
            Where::Kinks => random.of(&few),
            Where::Bounds if !bounds.is_empty() && random.uniform(0.0, 1.0) < 0.25 => random.of(&bounds),
            // Poles and kinks of formulas that are defined everywhere else stand at zero.
            _ if d.lo == f64::NEG_INFINITY && d.hi == f64::INFINITY => {
                random.of(&[-1.0, 1.0]) * random.uniform(margin, hi)
            }
            _ => random.uniform(lo + margin, hi - margin),
        })
        .collect()
}

/// Inputs, tangents of inputs, cotangents of outputs; outputs and their tangents poisoned.
fn sample(k: &Kernel, at: Where, draw: usize) -> Buffers {
    let mut random = Random::new(&format!("{} {draw}", k.path()));
    let mut b = Buffers::new();
    for t in k.info.tensors {
        let n = elements(t);
        let poison = vec![f64::NAN; n];
        let (value, dot, bar) = match t.role {
            Role::Input => (input(t, at, &mut random), random.tensor(n), poison),
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
fn evaluated(k: &Kernel, at: Where, draw: usize) -> Buffers {
    let mut b = sample(k, at, draw);
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

fn poison(n: usize) -> Vec<f64> {
    vec![f64::NAN; n]
}

/// Whether every output and tangent is finite.
fn finite(k: &Kernel, b: &Buffers) -> bool {
    k.tensors(Role::Output).all(|t| {
        [t.name.to_string(), format!("{}_dot", t.name)].iter().all(|name| b[name].iter().all(|v| v.is_finite()))
    })
}

/// `<z_bar, z_dot>`, `<x_bar, x_dot>`, and the sum of the magnitudes of all their terms.
fn pairing(k: &Kernel, b: &Buffers) -> (f64, f64, f64) {
    let vjp = k.function("vjp");
    let bars = results(k, vjp, b, zeros);
    let mut scale = 0.0;
    let mut dot = |bar: &[f64], dot: &[f64]| -> f64 {
        scale += bar.iter().zip(dot).map(|(b, d)| (b * d).abs()).sum::<f64>();
        bar.iter().zip(dot).map(|(b, d)| b * d).sum()
    };
    let forward: f64 =
        k.tensors(Role::Output).map(|t| dot(&b[&format!("{}_bar", t.name)], &b[&format!("{}_dot", t.name)])).sum();
    let reverse: f64 = vjp.writes.iter().zip(&bars).map(|(w, bar)| dot(bar, &b[&w.replace("_bar", "_dot")])).sum();
    (forward, reverse, scale)
}

/// The tangent and the adjoint are each other's transpose: relative to the sum of the magnitudes of the products, 1e-5 in f32 and
/// 1e-13 in f64.
fn adjoint_identity(k: &Kernel, b: &Buffers, failures: &mut Failures) {
    let (forward, reverse, scale) = pairing(k, b);
    let tolerance = k.pick(1e-5, 1e-13) * scale;
    failures.check(k, (forward - reverse).abs() <= tolerance, || {
        format!("<z_bar, z_dot> = {forward:e}, <x_bar, x_dot> = {reverse:e} (tolerance {tolerance:e})")
    });
}

#[test]
fn adjoint_is_the_transpose_of_the_tangent() {
    every_kernel("adjoint identity", |k, failures| {
        for draw in 0..3 {
            // On the bounds where the derivative is finite there.
            let mut b = evaluated(k, Where::Bounds, draw);
            if !finite(k, &b) {
                b = evaluated(k, Where::Inside, draw);
            }
            adjoint_identity(k, &b, failures);
        }
        3
    });
}

#[test]
fn tangent_and_adjoint_agree_at_kinks() {
    let skipped = std::cell::Cell::new(0);
    every_kernel("adjoint identity at kinks", |k, failures| {
        let finite: Vec<Buffers> =
            (0..3).map(|draw| evaluated(k, Where::Kinks, draw)).filter(|b| finite(k, b)).collect();
        finite.iter().for_each(|b| adjoint_identity(k, b, failures));
        skipped.set(skipped.get() + 3 - finite.len());
        finite.len()
    });
    say(format!("{} draws at kinks were not finite (a division by zero)", skipped.get()));
}

/// Central differences of `forward` along `x_dot`: step 2^-18 and tolerance 1e-8 in f64, 2^-9 and 2e-3 in f32, relative to the largest
/// of the outputs and tangents.
///
/// An output whose path crosses a kink has a tangent that is the slope on one side. So a few outputs may instead lie between the two
/// one-sided differences.
#[test]
fn tangent_is_the_limit_of_differences() {
    let crossings = std::cell::Cell::new(0);
    every_kernel("differences", |k, failures| {
        let b = evaluated(k, Where::Inside, 0);
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
fn value_within_the_tangent_is_the_value_to_the_bit() {
    every_kernel("value in jvp", |k, failures| {
        let both = evaluated(k, Where::Inside, 0);
        let mut alone = sample(k, Where::Inside, 0);
        k.call("forward", &mut alone);
        k.tensors(Role::Output)
            .map(|t| {
                let bits = |b: &Buffers| b[t.name].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                failures
                    .check(k, bits(&both) == bits(&alone), || format!("`{}` differs between forward and jvp", t.name));
            })
            .count()
    });
}

#[test]
fn results_replace_what_was_there() {
    // Forward, jvp and the storing vjps start from NaN; a storing vjp gives what its accumulating twin adds to zeros, but for
    // rounding: 1e-5 of the largest element in f32, 1e-13 in f64.
    every_kernel("stored results", |k, failures| {
        let b = evaluated(k, Where::Inside, 0);
        let mut compared = 0;
        for f in k.info.functions.iter().filter(|f| !f.accumulates) {
            let stored = results(k, f, &b, poison);
            for (w, r) in f.writes.iter().zip(&stored) {
                compared += 1;
                let bad = r.iter().position(|v| !v.is_finite());
                failures.check(k, bad.is_none(), || {
                    format!("{} leaves {w}[{}] not finite", f.name, bad.unwrap_or_default())
                });
            }
            if let Some(twin) = f.name.strip_suffix("_store").filter(|_| f.kind == Kind::Vjp) {
                let twin = k.function(twin);
                assert_eq!((f.reads, f.writes), (twin.reads, twin.writes), "{}::{}", k.path(), f.name);
                for ((w, r), a) in f.writes.iter().zip(&stored).zip(results(k, twin, &b, zeros)) {
                    let tolerance = k.pick(1e-5, 1e-13) * largest(&a);
                    failures.equal(k, &format!("{} {w}", f.name), r, &a, tolerance);
                }
            }
        }
        compared
    });
}

#[test]
fn accumulating_functions_add() {
    // Start and contribution together against their sum: 1e-5 of the largest in f32, 1e-13 in f64.
    every_kernel("accumulation", |k, failures| {
        let b = evaluated(k, Where::Inside, 0);
        let mut compared = 0;
        for f in k.info.functions.iter().filter(|f| f.accumulates) {
            let mut random = Random::new(f.name);
            let mut starts = Vec::new();
            let added = results(k, f, &b, |n| {
                let start: Vec<f64> = random.tensor(n).iter().map(|v| f64::from(*v as f32)).collect();
                starts.push(start.clone());
                start
            });
            for (((w, a), start), alone) in f.writes.iter().zip(&added).zip(starts).zip(results(k, f, &b, zeros)) {
                let sum: Vec<f64> = start.iter().zip(&alone).map(|(s, a)| s + a).collect();
                let tolerance = k.pick(1e-5, 1e-13) * largest(&alone).max(1.0);
                failures.equal(k, &format!("{} {w}", f.name), a, &sum, tolerance);
                compared += 1;
            }
        }
        compared
    });
}

#[test]
fn each_input_alone_equals_its_part() {
    // 1e-5 of the largest element in f32, 1e-13 in f64.
    every_kernel("vjp of one input", |k, failures| {
        let b = evaluated(k, Where::Inside, 0);
        let whole = k.function("vjp");
        let parts = results(k, whole, &b, zeros);
        let mut compared = 0;
        for (w, part) in whole.writes.iter().zip(&parts) {
            let one = k.function(&format!("vjp_{}", w.trim_end_matches("_bar")));
            failures.check(k, one.writes == [*w], || format!("{} writes {:?}", one.name, one.writes));
            let extra = one.reads.iter().find(|r| !whole.reads.contains(r));
            failures.check(k, extra.is_none(), || format!("{} reads {extra:?}, which vjp does not", one.name));
            let alone = results(k, one, &b, zeros);
            failures.equal(k, &format!("{} {w}", one.name), &alone[0], part, k.pick(1e-5, 1e-13) * largest(part));
            compared += 1;
        }
        // What no part reads the whole does not either.
        for r in whole.reads {
            let used =
                k.info.functions.iter().any(|f| f.kind == Kind::Vjp && f.writes.len() == 1 && f.reads.contains(r));
            failures.check(k, used, || format!("vjp reads `{r}`, which no input's own vjp reads"));
        }
        compared
    });
}

#[test]
fn every_argument_matters() {
    // A NaN in what a function reads must show in some result: a signature asks for nothing that is not used. A branch may hide it at
    // one point (`where(x > 0, y_bar, 0)` of one negative element), so there are several.
    const DRAWS: usize = 16;
    every_kernel("arguments read", |k, failures| {
        let mut compared = 0;
        for f in k.info.functions {
            for r in f.reads {
                let of = r.trim_end_matches("_dot").trim_end_matches("_bar");
                failures.check(k, k.info.tensor(of).is_some(), || format!("{} reads `{r}`, no tensor", f.name));
                let changed = (0..DRAWS).any(|draw| {
                    let mut b = evaluated(k, Where::Inside, draw);
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

#[test]
fn every_instruction_set() {
    if std::env::var_os("COTANGENT_ISA").is_none() {
        support::on_every_instruction_set("every_instruction_set");
    }
}
