//! Every shipped program against a model of it that is written by hand over dual numbers: takes
//! `cotangent_programs::for_each_kernel!`, finds the model of each kernel by the program's name, gives a failure for
//! each function and tensor that differs. A program without a model fails.
//!
//! The model gives the value; its tangent, by one direction or by one coordinate after the other, is the truth for
//! `jvp`, `vjp`, `value_and_grad` and `jacobian`; its mixed second derivatives for `hvp` and `hessian`; each of these
//! for `value_grad_and_hvp`. Models compute in `f64` from what the kernel gets. Tolerances, relative to the largest
//! element of the tensor, stand at the checks.

mod models;
#[path = "../../../tests/support/mod.rs"]
#[allow(dead_code, reason = "the tests of the bundled kernels use the rest")]
mod support;

use cotangent::Role;
use models::{MODELS, Model, Point};
use num_dual::{Dual64, HyperDual64};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use support::{Buffers, Kernel, Random, difference, largest, say};

cotangent_programs::for_each_kernel!(kernel_list);

/// Derivatives along so many coordinates are compared one by one, if a program has more; a random choice of them.
const COORDINATES: usize = 48;

/// Operations for which the model of a kernel is evaluated at most, as a value has them; once at least.
const WORK: u64 = 20_000_000;

/// What is less is compared as if it were this.
const TINY: f64 = 1e-3;

/// One element of an input that derivatives are taken by.
#[derive(Clone)]
struct Coordinate {
    input: &'static str,
    at: usize,
}

/// A kernel with its model, at a point.
struct Trial<'a> {
    k: &'a Kernel,
    model: &'a Model,
    point: BTreeMap<&'static str, Vec<f64>>,
    /// The inputs that derivatives are taken by.
    wrt: Vec<&'static str>,
    outputs: Vec<&'static str>,
    failures: Vec<String>,
    compared: usize,
    /// The functions that were called.
    called: RefCell<BTreeSet<String>>,
}

/// What gives second derivatives times a direction.
struct Second<'a> {
    v: &'a Direction,
    hvp: Option<&'a Buffers>,
    all: Option<&'a Buffers>,
}

/// By input.
type Direction = BTreeMap<&'static str, Vec<f64>>;

impl<'a> Trial<'a> {
    fn new(k: &'a Kernel, model: &'a Model, draw: usize) -> Self {
        let mut random = Random::new(&format!("{}/{draw}", k.path()));
        let mut point = BTreeMap::new();
        for t in k.tensors(Role::Input) {
            let (lo, hi) = (model.range)(t.name);
            let mut values: Vec<f64> = (0..support::elements(t)).map(|_| random.uniform(lo, hi)).collect();
            (model.at)(draw, t.name, &mut values);
            // What the kernel gets.
            values.iter_mut().for_each(|v| *v = k.pick(f64::from(*v as f32), *v));
            point.insert(t.name, values);
        }
        // A program without tangents has its inputs in no function's results either.
        let dots = k.info.function("jvp").map_or(&[][..], |f| f.reads);
        let wrt = k.tensors(Role::Input).map(|t| t.name).filter(|n| dots.contains(&format!("{n}_dot").as_str()));
        let (wrt, outputs) = (wrt.collect(), k.tensors(Role::Output).map(|t| t.name).collect());
        let called = RefCell::default();
        Trial { k, model, point, wrt, outputs, failures: Vec::new(), compared: 0, called }
    }

    /// Within `f32` or `f64` of the largest element, if it is not tiny.
    fn near(&mut self, what: &str, got: &[f64], wanted: &[f64], f32: f64, f64: f64) {
        self.compared += 1;
        let tolerance = self.k.pick(f32, f64) * largest(wanted).max(TINY);
        if let Some((at, got, wanted)) = difference(got, wanted, tolerance) {
            let path = self.k.path();
            self.failures.push(format!("  {path}: {what}[{at}] is {got:e}, not {wanted:e} (tolerance {tolerance:e})"));
        }
    }

    /// A sum against another, relative to the magnitudes of its terms.
    fn same_sum(&mut self, what: &str, got: f64, wanted: f64, magnitude: f64, f32: f64, f64: f64) {
        self.compared += 1;
        let tolerance = self.k.pick(f32, f64) * magnitude.max(TINY);
        // A NaN is no agreement.
        if (got - wanted).abs() <= tolerance {
            return;
        }
        let path = self.k.path();
        self.failures.push(format!("  {path}: {what} is {got:e}, not {wanted:e} (tolerance {tolerance:e})"));
    }

    fn has(&self, function: &str) -> bool {
        self.k.info.function(function).is_some()
    }

    /// Runs a function at the point with further arguments, which may be what its results start from.
    fn call(&self, function: &str, more: &Direction, suffix: &str) -> Buffers {
        let mut b: Buffers = self.point.iter().map(|(n, v)| ((*n).to_string(), v.clone())).collect();
        b.extend(more.iter().map(|(n, v)| (format!("{n}{suffix}"), v.clone())));
        self.called.borrow_mut().insert(function.to_string());
        self.k.call(function, &mut b);
        b
    }

    /// The values and first derivatives along `u` by `Dual64`.
    fn tangent(&self, u: &Direction) -> (Direction, Direction) {
        let point = Point::new(&self.k.info, |name| {
            let dots = u.get(name);
            let dual = |(n, x): (usize, &f64)| Dual64::new(*x, dots.map_or(0.0, |d| d[n]));
            self.point[name].iter().enumerate().map(dual).collect()
        });
        let out = (self.model.dual)(&point);
        let part = |f: fn(&Dual64) -> f64| out.iter().map(|(n, v)| (*n, v.iter().map(f).collect())).collect();
        (part(|d| d.re), part(|d| d.eps))
    }

    /// The derivatives along `u`, and the second derivatives along `u` and `v`.
    fn second(&self, u: &Direction, v: &Direction) -> (Direction, Direction) {
        let point = Point::new(&self.k.info, |name| {
            let (us, vs) = (u.get(name), v.get(name));
            let part = |d: Option<&Vec<f64>>, n: usize| d.map_or(0.0, |d| d[n]);
            let dual = |(n, x): (usize, &f64)| HyperDual64::new(*x, part(us, n), part(vs, n), 0.0);
            self.point[name].iter().enumerate().map(dual).collect()
        });
        let out = (self.model.hyper)(&point);
        let part = |f: fn(&HyperDual64) -> f64| out.iter().map(|(n, v)| (*n, v.iter().map(f).collect())).collect();
        (part(|d| d.eps1), part(|d| d.eps1eps2))
    }

    /// The derivatives along `u` that the kernel itself gives.
    fn slope(&self, u: &Direction) -> Direction {
        let jvp = self.call("jvp", u, "_dot");
        self.outputs.iter().map(|z| (*z, jvp[&format!("{z}_dot")].clone())).collect()
    }

    fn value(&self) -> Direction {
        (self.model.real)(&Point::new(&self.k.info, |name| self.point[name].clone()))
    }

    fn random(&self, names: &[&'static str], seed: &str) -> Direction {
        let mut random = Random::new(&format!("{}/{seed}", self.k.path()));
        let mut tensor = |name: &str| {
            let n = support::elements(self.k.info.tensor(name).expect("a tensor"));
            random.tensor(n).iter().map(|v| self.k.pick(f64::from(*v as f32), *v)).collect()
        };
        names.iter().map(|n| (*n, tensor(n))).collect()
    }

    fn unit(&self, c: &Coordinate) -> Direction {
        let mut v = vec![0.0; self.point[c.input].len()];
        v[c.at] = 1.0;
        Direction::from([(c.input, v)])
    }

    /// All coordinates, or so many of them: of each input some.
    fn coordinates(&self, most: usize) -> Vec<Coordinate> {
        let len = |input: &str| self.point[input].len();
        let total: usize = self.wrt.iter().map(|x| len(x)).sum();
        let mut random = Random::new(&self.k.path());
        let mut all = Vec::new();
        for input in &self.wrt {
            let n = len(input);
            let chosen: BTreeSet<usize> = if total <= most {
                (0..n).collect()
            } else {
                (0..most.div_ceil(self.wrt.len())).map(|_| random.uniform(0.0, n as f64) as usize).collect()
            };
            all.extend(chosen.into_iter().map(|at| Coordinate { input, at }));
        }
        all
    }

    /// Everything: along `directions` random ones, and at most so many coordinates.
    fn run(&mut self, directions: usize, coordinates: usize) {
        let value = self.value();
        let forward = self.call("forward", &Direction::new(), "");
        for z in self.outputs.clone() {
            self.near(&format!("forward {z}"), &forward[z], &value[z], 1e-5, 1e-12);
        }
        if self.wrt.is_empty() {
            assert!(self.k.info.functions.len() == 1, "{}: derivatives by nothing", self.k.path());
            return;
        }
        let outputs = self.outputs.clone();
        let weights = self.random(&outputs, "weights");
        let back = self.call("vjp_store", &weights, "_bar");
        self.accumulation(&weights, &back);
        let v = self.random(&self.wrt, "v");
        let hvp = self.has("hvp").then(|| self.call("hvp", &v, "_dot"));
        let gradient = self.has("value_and_grad").then(|| self.call("value_and_grad", &Direction::new(), ""));
        let all = self.has("value_grad_and_hvp").then(|| self.call("value_grad_and_hvp", &v, "_dot"));
        for (name, results) in [("value_and_grad", &gradient), ("value_grad_and_hvp", &all)] {
            let Some(results) = results else { continue };
            let z = outputs[0];
            self.near(&format!("{name}'s value"), &results[z], &value[z], 1e-5, 1e-12);
        }
        self.together(all.as_ref(), gradient.as_ref(), hvp.as_ref());
        for n in 0..directions.max(1) {
            let u = self.random(&self.wrt, &format!("u{n}"));
            // Without a model `jvp` is compared with nothing, and what goes back with `jvp`.
            let (slope, curve) = match (directions, &hvp) {
                (0, _) => (self.slope(&u), None),
                (_, Some(_)) => {
                    let (slope, curve) = self.second(&u, &v);
                    (slope, Some(curve[outputs[0]][0]))
                }
                _ => (self.tangent(&u).1, None),
            };
            self.along(&u, &slope, &value, &weights, &back, gradient.as_ref());
            if let Some(hvp) = &hvp {
                let (sum, magnitude) = pairing(&u, hvp, "_bar_dot");
                // Second derivatives are symmetric.
                let other = |own: &Self| pairing(&v, &own.call("hvp", &u, "_dot"), "_bar_dot").0;
                let wanted = curve.unwrap_or_else(|| other(self));
                self.same_sum("u' H v", sum, wanted, magnitude, 1e-4, 1e-11);
            }
        }
        let second = Second { v: &v, hvp: hvp.as_ref(), all: all.as_ref() };
        self.coordinate_by_coordinate(coordinates, &weights, &back, &second, gradient.as_ref());
        self.hessian(coordinates, &value);
        for f in self.k.info.functions {
            assert!(self.called.borrow().contains(f.name), "{}: {} is compared with nothing", self.k.path(), f.name);
        }
    }

    /// `jvp` along a direction, and what goes back against it.
    fn along(
        &mut self,
        u: &Direction,
        slope: &Direction,
        value: &Direction,
        weights: &Direction,
        back: &Buffers,
        gradient: Option<&Buffers>,
    ) {
        let jvp = self.call("jvp", u, "_dot");
        for z in self.outputs.clone() {
            self.near(&format!("jvp {z}"), &jvp[z], &value[z], 1e-5, 1e-12);
            self.near(&format!("jvp {z}_dot"), &jvp[&format!("{z}_dot")], &slope[z], 1e-4, 1e-12);
        }
        let wanted: f64 = weights.iter().map(|(z, w)| dot(w, &slope[z]).0).sum();
        let (sum, magnitude) = pairing(u, back, "_bar");
        self.same_sum("<x_bar, u>", sum, wanted, magnitude, 1e-5, 1e-13);
        if let Some(gradient) = gradient {
            let (sum, magnitude) = pairing(u, gradient, "_bar");
            self.same_sum("<gradient, u>", sum, slope[self.outputs[0]][0], magnitude, 1e-5, 1e-13);
        }
    }

    /// Gradient and product together are those of the functions that give one of them.
    fn together(&mut self, all: Option<&Buffers>, gradient: Option<&Buffers>, hvp: Option<&Buffers>) {
        for x in self.wrt.clone() {
            for (one, name) in [(gradient, format!("{x}_bar")), (hvp, format!("{x}_bar_dot"))] {
                if let (Some(all), Some(one)) = (all, one) {
                    self.near(&format!("value_grad_and_hvp {name}"), &all[&name], &one[&name], 1e-5, 1e-12);
                }
            }
        }
    }

    /// `vjp` adds what `vjp_store` stores.
    fn accumulation(&mut self, weights: &Direction, back: &Buffers) {
        let start = self.random(&self.wrt, "start");
        let both = weights.iter().chain(&start).map(|(n, v)| (*n, v.clone())).collect();
        let added = self.call("vjp", &both, "_bar");
        for x in self.wrt.clone() {
            let bar = format!("{x}_bar");
            let wanted: Vec<f64> = back[&bar].iter().zip(&start[x]).map(|(b, s)| b + s).collect();
            self.near(&format!("vjp {bar}"), &added[&bar], &wanted, 1e-5, 1e-13);
        }
    }

    fn coordinate_by_coordinate(
        &mut self,
        most: usize,
        weights: &Direction,
        back: &Buffers,
        second: &Second,
        gradient: Option<&Buffers>,
    ) {
        let jacobian = self.has("jacobian").then(|| self.call("jacobian", &Direction::new(), ""));
        let outputs = self.outputs.clone();
        // What was computed and what should have been, at the coordinates of each input.
        let mut pairs: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        let mut put = |name: String, got: f64, wanted: f64| {
            let (g, w) = pairs.entry(name).or_default();
            g.push(got);
            w.push(wanted);
        };
        for c in self.coordinates(most) {
            let e = self.unit(&c);
            let (slope, curve) = match second.hvp.or(second.all) {
                Some(_) => self.second(&e, second.v),
                None => (self.tangent(&e).1, Direction::new()),
            };
            let bar = format!("{}_bar", c.input);
            let wanted: f64 = weights.iter().map(|(z, w)| dot(w, &slope[z]).0).sum();
            put(format!("vjp_store {bar}"), back[&bar][c.at], wanted);
            if let Some(gradient) = gradient {
                put(format!("value_and_grad {bar}"), gradient[&bar][c.at], slope[outputs[0]][0]);
            }
            if let Some(hvp) = second.hvp {
                put(format!("hvp {bar}_dot"), hvp[&format!("{bar}_dot")][c.at], curve[outputs[0]][0]);
            }
            if let Some(all) = second.all {
                put(format!("value_grad_and_hvp {bar}"), all[&bar][c.at], slope[outputs[0]][0]);
                put(format!("value_grad_and_hvp {bar}_dot"), all[&format!("{bar}_dot")][c.at], curve[outputs[0]][0]);
            }
            let Some(jacobian) = &jacobian else { continue };
            for z in &outputs {
                let columns = self.point[c.input].len();
                let dense = &jacobian[&format!("{z}_{}", c.input)];
                for (row, wanted) in slope[z].iter().enumerate() {
                    put(format!("jacobian {z}_{}", c.input), dense[row * columns + c.at], *wanted);
                }
            }
        }
        for (name, (got, wanted)) in pairs {
            // Second derivatives are sums of more terms.
            let (f32, f64) = if name.ends_with("_bar_dot") { (1e-3, 1e-11) } else { (2e-4, 1e-12) };
            self.near(&name, &got, &wanted, f32, f64);
        }
        if let Some(jacobian) = jacobian {
            let value = self.value();
            for z in outputs {
                self.near(&format!("jacobian's {z}"), &jacobian[z], &value[z], 1e-5, 1e-12);
            }
        }
    }

    /// All second derivatives by pairs of the coordinates.
    fn hessian(&mut self, most: usize, value: &Direction) {
        if !self.has("hessian") {
            return;
        }
        let z = self.outputs[0];
        let hessian = self.call("hessian", &Direction::new(), "");
        self.near("hessian's value", &hessian[z], &value[z], 1e-5, 1e-12);
        let gradient = self.call("value_and_grad", &Direction::new(), "");
        for x in self.wrt.clone() {
            let bar = format!("{x}_bar");
            self.near(&format!("hessian's {bar}"), &hessian[&bar], &gradient[&bar], 1e-5, 1e-12);
        }
        let coordinates = self.coordinates(most);
        let mut pairs: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for (n, a) in coordinates.iter().enumerate() {
            for b in &coordinates[n..] {
                let (_, curve) = self.second(&self.unit(a), &self.unit(b));
                for (a, b) in [(a, b), (b, a)] {
                    let name = format!("{z}_{}_{}", a.input, b.input);
                    let got = hessian[&name][a.at * self.point[b.input].len() + b.at];
                    let (g, w) = pairs.entry(name).or_default();
                    g.push(got);
                    w.push(curve[z][0]);
                }
            }
        }
        for (name, (got, wanted)) in pairs {
            self.near(&format!("hessian {name}"), &got, &wanted, 1e-3, 1e-11);
        }
    }
}

/// A sum of products, and that of their magnitudes.
fn dot(a: &[f64], b: &[f64]) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (a, b)| (sum + a * b, size + (a * b).abs()))
}

/// A direction times cotangents.
fn pairing(u: &Direction, bars: &Buffers, suffix: &str) -> (f64, f64) {
    let parts = u.iter().map(|(x, u)| dot(u, &bars[&format!("{x}{suffix}")]));
    parts.fold((0.0, 0.0), |(sum, size), (s, m)| (sum + s, size + m))
}

/// Every kernel of some programs.
fn compare(chosen: impl Fn(&str) -> bool) {
    let (mut failures, mut compared) = (Vec::new(), 0);
    let again = std::env::var_os("COTANGENT_ISA").is_some();
    for k in kernels().iter().filter(|k| chosen(k.info.op)) {
        let model = MODELS.iter().find(|m| m.program == k.info.op);
        let model = model.unwrap_or_else(|| panic!("{} has no model: see tests/models/mod.rs", k.info.op));
        // Dual numbers are slow without optimisation, and kernels too, under further instruction sets.
        let flops = k.function("forward").flops.max(1);
        if again && cfg!(debug_assertions) && flops > WORK / 2 {
            say(format!("{}: left out", k.path()));
            continue;
        }
        let evaluations = COORDINATES.min((if again { WORK / 10 } else { WORK } / flops) as usize);
        let directions = if again && evaluations == 0 { 0 } else { (evaluations / 4).clamp(1, 3) };
        let start = std::time::Instant::now();
        for draw in 0..if evaluations < COORDINATES { 1 } else { model.draws } {
            let mut trial = Trial::new(k, model, draw);
            trial.run(directions, evaluations);
            compared += trial.compared;
            failures.extend(trial.failures);
        }
        say(format!("{}: {:.2} s", k.path(), start.elapsed().as_secs_f64()));
    }
    say(format!("{compared} tensors and sums compared"));
    assert!(compared > 0, "nothing compared");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

// Apart, so that they run at the same time.

#[test]
fn convolutional() {
    compare(|p| p.starts_with("cnn"));
}

#[test]
fn pooled() {
    compare(|p| p.starts_with("lenet"));
}

#[test]
fn all_others() {
    compare(|p| !p.starts_with("cnn") && !p.starts_with("lenet"));
}

#[test]
fn every_model_has_a_program() {
    let kernels = kernels();
    for m in MODELS {
        assert!(kernels.iter().any(|k| k.info.op == m.program), "there is no program {}", m.program);
    }
}

/// `docs/programs.md` ends in a table of all kernels.
#[test]
fn the_list_is_complete() {
    let docs = include_str!("../../../docs/programs.md");
    let row = |k: &Kernel| {
        let functions: Vec<_> = k.info.functions.iter().map(|f| format!("`{}`", f.name)).collect();
        let scalar = k.pick(32.0, 64.0);
        format!("| `{}` | f{scalar} | {} |\n", k.path(), functions.join(" "))
    };
    let table: String = kernels().iter().map(row).collect();
    assert!(docs.ends_with(&format!("| --- | --- | --- |\n{table}")), "docs/programs.md should end in\n{table}");
}

#[test]
fn every_instruction_set() {
    if std::env::var_os("COTANGENT_ISA").is_none() {
        support::on_every_instruction_set("every_instruction_set");
    }
}
