//! Whole ops made at random: takes a generator of specs, demands that every stage means the same. What the index interpreter computes, the plain
//! and the nest interpreters compute; derived tangents are slopes; derived adjoints are their transposes.

use cotangent_build::Options;
use cotangent_build::certify::rounded::Rounded;
use cotangent_build::certify::{Certified, Sampler};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::{Machine, Number};
use cotangent_build::index::{Role, TensorId};
use cotangent_build::source::Sources;
use cotangent_build::{nest, pipeline, plain};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Specs made, unless `RANDOM_OPS` says otherwise: a number, or a range of seeds such as `2313..2314`. Some do not resolve (a tensor read before its last write): they count for nothing.
const ROUNDS: u64 = 200;

struct Generator {
    random: Sampler,
    /// Tensors that may be read, with their axes.
    readable: Vec<(&'static str, &'static [char])>,
    fresh: usize,
}

type Scope = Vec<(String, char)>;

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        (self.random.bits() % n as u64) as usize
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A position of an axis: mostly its own index, now and then moved, spread, mirrored or another's.
    fn position(&mut self, axis: char, scope: &Scope) -> String {
        let own: Scope = scope.iter().filter(|(_, a)| *a == axis).cloned().collect();
        let foreign = own.is_empty() || self.below(6) == 0;
        let (index, _) = if foreign { self.pick(scope) } else { self.pick(&own) };
        match self.below(17) {
            0 => format!("{index} + 1"),
            1 => format!("{index} - 1"),
            2 => format!("2*{index}"),
            3 => format!("{axis} - 1 - {index}"),
            4 => format!("{index} / 2"),
            5 => format!("{index} + {} - 1", self.pick(scope).0),
            6 => format!("2*{index} + {} - 1", self.pick(scope).0),
            7 => {
                let (stride, dilation) = (self.pick(&["2", "3", "-2", "4"]), self.pick(&["2*", "3*", "-", "6*"]));
                let other = self.pick(scope).0;
                format!("{stride}*{index} + {dilation}{other} + {}", self.pick(&["0", "1", "-2", "3"]))
            }
            _ => index,
        }
    }

    fn read(&mut self, scope: &Scope) -> String {
        let (name, axes) = self.pick(&self.readable.clone());
        if axes.is_empty() {
            return name.to_string();
        }
        if scope.is_empty() {
            return "s".to_string();
        }
        let positions: Vec<_> = axes.iter().map(|a| self.position(*a, scope)).collect();
        format!("{name}[{}]", positions.join(", "))
    }

    fn value(&mut self, scope: &Scope, depth: usize) -> String {
        if depth == 0 {
            return if self.below(8) == 0 { self.pick(&["0.5", "2"]).to_string() } else { self.read(scope) };
        }
        let d = depth - 1;
        match self.below(12) {
            0 | 1 => format!("({} + {})", self.value(scope, d), self.value(scope, d)),
            2 => format!("({} - {})", self.value(scope, d), self.value(scope, d)),
            3 | 4 => format!("({} * {})", self.value(scope, d), self.value(scope, d)),
            5 => format!("{}({})", self.pick(&["tanh", "sin", "neg"]), self.value(scope, d)),
            6 => format!("max({}, {})", self.value(scope, d), self.value(scope, d)),
            7 => format!("where({}, {}, {})", self.cond(scope, d), self.value(scope, d), self.value(scope, d)),
            8..=10 => {
                let axis = self.pick(&['I', 'J', 'K']);
                self.fresh += 1;
                let index = format!("q{}", self.fresh);
                let mut inner = scope.clone();
                inner.push((index.clone(), axis));
                let reduction = self.pick(&["sum", "sum", "sum", "mean", "prod", "max", "min"]);
                format!("({reduction}({index} in {axis}) {})", self.value(&inner, d))
            }
            _ => self.read(scope),
        }
    }

    fn cond(&mut self, scope: &Scope, depth: usize) -> String {
        let read = self.read(scope);
        match self.below(7) {
            0 if read.contains('[') => format!("inside({read})"),
            1 if !scope.is_empty() => format!("{} <= {}", self.pick(scope).0, self.pick(scope).0),
            2 if !scope.is_empty() => format!("{} == {}", self.pick(scope).0, self.pick(scope).0),
            3 if depth > 0 => format!("{} and {}", self.cond(scope, depth - 1), self.cond(scope, 0)),
            4 if depth > 0 => format!("({} or {})", self.cond(scope, depth - 1), self.cond(scope, 0)),
            5 if depth > 0 => format!("not ({})", self.cond(scope, depth - 1)),
            _ => format!("{read} > 0.25"),
        }
    }

    fn spec(&mut self) -> String {
        self.readable = vec![("u", &['I']), ("v", &['I', 'J']), ("w", &['J', 'K']), ("s", &[])];
        let scope = |axes: &[char]| -> Scope { axes.iter().map(|a| (a.to_lowercase().to_string(), *a)).collect() };
        let mut text = String::from(
            "op: random\ninputs: {u: [I], v: [I, J], w: [J, K], s: []}\noutputs: {y: [I, J], z: [K]}\nforward:\n",
        );
        for name in ["a", "b", "c"].into_iter().take(self.below(4)) {
            let shapes: [&[char]; 5] = [&['I'], &['I', 'J'], &['K', 'I'], &[], &['J']];
            let axes = self.pick(&shapes);
            let indices: Vec<_> = axes.iter().map(|a| a.to_lowercase().to_string()).collect();
            let target = if axes.is_empty() { name.to_string() } else { format!("{name}[{}]", indices.join(",")) };
            let value = self.value(&scope(axes), 3);
            let _ = writeln!(text, "  - {target} = {value}");
            if self.below(4) == 0 {
                let value = self.value(&scope(axes), 2);
                let _ = writeln!(text, "  - {target} += {value}");
            }
            self.readable.push((name, axes));
        }
        let value = self.value(&scope(&['I', 'J']), 3);
        let _ = writeln!(text, "  - y[i,j] = {value}");
        if self.below(2) == 0 {
            let left = self.pick(&[
                "i,j",
                "i, j - 1",
                "2*i, j",
                "i, i",
                "i + j - 1, j",
                "j, i",
                "2*i + j - 1, 0",
                "2 - 2*i, 1 + 3*j",
            ]);
            let axes: &[char] = if left.contains('j') { &['I', 'J'] } else { &['I'] };
            let value = self.value(&scope(axes), 2);
            let _ = writeln!(text, "  - y[{left}] += {value}");
        }
        self.readable.push(("y", &['I', 'J']));
        let value = self.value(&scope(&['K']), 3);
        let _ = writeln!(text, "  - z[k] = {value}");
        text.push_str("adjoint: derived\ninstances:\n");
        for (n, rank) in [1, 1, 2, 0].into_iter().enumerate() {
            let mut extents =
                || (0..rank).map(|_| (1 + self.below(5 - rank)).to_string()).collect::<Vec<_>>().join(", ");
            let (i, j, k) = (extents(), extents(), extents());
            let _ = writeln!(text, "  - {{name: n{n}, I: [{i}], J: [{j}], K: [{k}], dtype: f64}}");
        }
        text
    }
}

/// Values of tensors by id, and a place for complaints.
type Values = BTreeMap<TensorId, Vec<f64>>;

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    let scale = a.iter().chain(b).filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= tolerance * scale || a == b || !a.is_finite() && !b.is_finite())
}

/// The same, where each element of `b` may be off by what rounding did to it besides.
fn near(a: &[f64], b: &[f64], rounding: &[Rounded]) -> bool {
    let slack = |n: usize| rounding.get(n).map_or(0.0, |r| 16.0 * r.error);
    let scale = a.iter().chain(b).filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .enumerate()
            .all(|(n, (a, b))| (a - b).abs() <= 1e-9 * scale + slack(n) || a == b || !a.is_finite() && !b.is_finite())
}

/// Runs every stage of every instance on random tensors; gives the number of comparisons. `straight` counts those of code without loops.
fn check(c: &Certified, seed: u64, out: &mut Diagnostics, straight: &mut usize) -> Result<usize, String> {
    let op = &c.op;
    let mut compared = 0;
    let kernels = pipeline::kernels(c, &Options::default(), out);
    for compiled in pipeline::schedule(c, kernels, &Options::default(), out) {
        let kernel = &compiled.kernel;
        let binding = Binding { extents: kernel.extents.clone(), params: Vec::new() };
        let mut random = Sampler::new(seed);
        let mut draw = |wanted: &dyn Fn(Role) -> bool| -> Values {
            let ids = (0..op.tensors.len()).map(TensorId).filter(|t| wanted(op.tensor(*t).role));
            let fill =
                |t: TensorId, r: &mut Sampler| (t, (0..binding.elements(op, t)).map(|_| r.ordinary(None)).collect());
            ids.map(|t| fill(t, &mut random)).collect()
        };
        let role = |t: TensorId| op.tensor(t).role;
        let inputs = draw(&|r| r == Role::Input);
        let dots = draw(&|r| matches!(r, Role::Tangent(t) if role(t) == Role::Input));
        let bars = draw(&|r| matches!(r, Role::Cotangent(t) if role(t) == Role::Output));
        let run = |given: Values, rules: &[&[cotangent_build::index::Stmt]]| {
            let mut m = Machine::new(op, &binding);
            m.tensors = given;
            rules.iter().try_for_each(|r| m.run(r)).map(|()| m.tensors)
        };
        let all: Values = inputs.iter().chain(&dots).chain(&bars).map(|(t, v)| (*t, v.clone())).collect();
        // A sine of something large is off by more than a billionth, whoever computes it.
        let mut rounding = Machine::<Rounded>::new(op, &binding);
        let of = |v: &Vec<f64>| v.iter().map(|v| Rounded::from_f64(*v)).collect();
        rounding.tensors = all.iter().map(|(t, v)| (*t, of(v))).collect();
        let _ = [&op.forward, &op.tangent.stmts, &op.adjoint.stmts].map(|r| rounding.run(r));
        let rounding = |t: &TensorId| rounding.tensors.get(t).map_or(&[][..], Vec::as_slice);
        let Ok(meaning) = run(all, &[&op.forward, &op.tangent.stmts, &op.adjoint.stmts]) else { continue };
        let zeros = |t: &TensorId| vec![0.0; binding.elements(op, *t)];
        let value = |t: &TensorId| meaning.get(t).cloned().unwrap_or_else(|| zeros(t));
        let place = |what: &str| format!("{} at {:?}: {what}", kernel.name, kernel.extents);

        // The stages below mean the same.
        for (f, nests) in kernel.functions.iter().zip(&compiled.nests) {
            if matches!(f.kind, plain::Kind::Vjp { store: false, .. }) {
                continue;
            }
            let given: Values = f.reads.iter().map(|t| (*t, value(t))).collect();
            let mut runs = Vec::new();
            let mut by_plain = given.clone();
            plain::eval::run(kernel, f, &mut by_plain);
            runs.push(("plain", by_plain));
            for n in nests {
                let mut by_nest = given.clone();
                nest::eval::run(kernel, n, &mut by_nest);
                runs.push((n.machines[0].name, by_nest));
            }
            // Without loops too, whether that pays or not. What is not finite may differ there.
            if let Some(graph) = nest::straight::Graph::of(kernel, f) {
                for machine in nest::machine::MACHINES {
                    let n = graph.nest(machine);
                    nest::check::check(kernel, &n).map_err(|what| place(&what))?;
                    let mut got = given.clone();
                    nest::eval::run(kernel, &n, &mut got);
                    for t in &f.writes {
                        *straight += 1;
                        let wanted = value(t);
                        let finite = |v: &[f64]| -> Vec<f64> {
                            v.iter().zip(&wanted).map(|(v, w)| if w.is_finite() { *v } else { 0.0 }).collect()
                        };
                        if !near(&finite(&got[t]), &finite(&wanted), rounding(t)) {
                            let (name, got) = (&op.tensor(*t).name, &got[t]);
                            return Err(place(&format!("without loops {}: {name} is {got:?}, not {wanted:?}", f.name)));
                        }
                    }
                }
            }
            for t in &f.writes {
                for (stage, got) in &runs {
                    compared += 1;
                    if !near(&got[t], &value(t), rounding(t)) {
                        let got = &got[t];
                        let name = &op.tensor(*t).name;
                        return Err(place(&format!("{stage} {}: {name} is {got:?}, not {:?}", f.name, value(t))));
                    }
                }
            }
        }

        // Where a step is infinite (an extremum over nothing) or huge, neither slopes nor sums say much.
        let tame = |v: &f64| v.abs() < 1e3;
        if !op.forward.iter().all(|s| value(&s.target).iter().all(tame)) {
            continue;
        }
        // Tangents are slopes, adjoints their transposes.
        let pair =
            |a: &dyn Fn(TensorId) -> Option<TensorId>, of: &dyn Fn(Role) -> bool, duals: &Values| -> (f64, f64) {
                let ids = (0..op.tensors.len()).map(TensorId).filter(|t| of(op.tensor(*t).role));
                let terms: Vec<f64> = ids
                    .filter_map(|t| Some(value(&a(t)?).iter().zip(&duals[&t]).map(|(x, y)| x * y).collect::<Vec<_>>()))
                    .flatten()
                    .collect();
                (terms.iter().sum(), terms.iter().map(|t| t.abs()).sum())
            };
        let find = |r: Role| (0..op.tensors.len()).map(TensorId).find(|t| op.tensor(*t).role == r);
        let through = |dual: fn(TensorId) -> Role| {
            move |t: TensorId| match op.tensor(t).role {
                Role::Tangent(p) | Role::Cotangent(p) => find(dual(p)),
                _ => None,
            }
        };
        let (a, size_a) =
            pair(&through(Role::Tangent), &|r| matches!(r, Role::Cotangent(t) if role(t) == Role::Output), &bars);
        let (b, size_b) =
            pair(&through(Role::Cotangent), &|r| matches!(r, Role::Tangent(t) if role(t) == Role::Input), &dots);
        if a.is_finite() && b.is_finite() {
            compared += 1;
            if (a - b).abs() > 1e-9 * (1.0 + size_a + size_b) {
                return Err(place(&format!("the adjoint identity fails: {a} and {b}")));
            }
        }
        let moved = |step: f64| {
            let shifted = |(t, v): (&TensorId, &Vec<f64>)| {
                let dot = find(Role::Tangent(*t)).and_then(|d| dots.get(&d));
                (*t, v.iter().enumerate().map(|(n, x)| x + step * dot.map_or(0.0, |d| d[n])).collect())
            };
            run(inputs.iter().map(shifted).collect(), &[&op.forward])
        };
        let step = 1e-6;
        let (Ok(up), Ok(down)) = (moved(step), moved(-step)) else { continue };
        for z in op.outputs() {
            let Some(dot) = find(Role::Tangent(z)) else { continue };
            let slope: Vec<f64> = up[&z].iter().zip(&down[&z]).map(|(a, b)| (a - b) / (2.0 * step)).collect();
            if slope.iter().any(|v| !v.is_finite()) {
                continue;
            }
            compared += 1;
            if !close(&value(&dot), &slope, 1e-4) {
                return Err(place(&format!("{} is {:?}, the slope is {slope:?}", op.tensor(dot).name, value(&dot))));
            }
        }
    }
    Ok(compared)
}

#[test]
fn every_stage_means_the_same() {
    let (mut built, mut compared, mut straight) = (0, 0, 0);
    let mut failures = Vec::new();
    let asked = std::env::var("RANDOM_OPS").unwrap_or_default();
    let (first, last) = asked.split_once("..").unwrap_or(("0", &asked));
    let seeds = first.parse().unwrap_or(0)..last.parse().unwrap_or(ROUNDS);
    let rounds = seeds.end - seeds.start;
    for seed in seeds {
        let mut g = Generator { random: Sampler::new(seed + 1), readable: Vec::new(), fresh: 0 };
        let text = g.spec();
        // A panic of the compiler is a failure like any other, told with its spec.
        let result = std::panic::catch_unwind(|| {
            let mut sources = Sources::default();
            let mut out = Diagnostics::default();
            let mut straight = 0;
            let id = sources.add("random.yaml", text.clone());
            let checked = pipeline::certified(id, &sources, &mut out).map(|c| check(&c, seed, &mut out, &mut straight));
            (checked, straight)
        });
        let result = result.map(|(checked, n)| {
            straight += n;
            checked
        });
        match result {
            Ok(None) => continue,
            Ok(Some(Ok(n))) => compared += n,
            Ok(Some(Err(what))) => failures.push(format!("seed {seed}: {what}\n{text}")),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                failures.push(format!("seed {seed}: panic: {what}\n{text}"));
            }
        }
        built += 1;
    }
    let count = failures.len();
    failures.truncate(5);
    assert!(failures.is_empty(), "{count} failures\n{}", failures.join("\n"));
    println!("{built} of {rounds} random ops built, {compared} comparisons, {straight} without loops");
    // A few seeds say nothing of the generator.
    assert!(rounds < ROUNDS || built * 2 > rounds as usize && compared > 0 && straight > 1000);
}
