//! Derivation against numbers: takes every op of the library, at groups of rank 0, 1 and 2, and compares its rules with
//! arithmetic that knows no rules. What holds after it: tangents are what dual numbers give, adjoints are their
//! transposes, and the tangent of an adjoint is what dual numbers give for it, so derivatives can be derived again.

use cotangent_build::certify::Sampler;
use cotangent_build::derive::{self, Derived};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::{Binding, ParamValue};
use cotangent_build::index::eval::{Interpreter, Number};
use cotangent_build::index::{Binary, Compare, Op, ParamKind, Role, Stmt, TensorId, Unary, resolve};
use cotangent_build::library::Library;
use cotangent_build::source::Sources;
use cotangent_build::spec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A value and its derivative in one direction (Clifford 1873). The derivative of a function of one variable is
/// measured, not known: else this would repeat the rules that it checks.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Dual {
    value: f64,
    dot: f64,
}

/// Central differences of three widths, extrapolated to the sixth order (Richardson 1911).
fn slope(f: impl Fn(f64) -> f64, at: f64) -> f64 {
    let step = 3e-4 * at.abs().max(0.3);
    let central = |h: f64| (f(at + h) - f(at - h)) / (2.0 * h);
    let (a, b, c) = (central(step), central(2.0 * step), central(3.0 * step));
    1.5 * a - 0.6 * b + 0.1 * c
}

impl Number for Dual {
    fn from_f64(value: f64) -> Self {
        Dual { value, dot: 0.0 }
    }
    fn add(self, other: Self) -> Self {
        Dual { value: self.value + other.value, dot: self.dot + other.dot }
    }
    fn sub(self, other: Self) -> Self {
        Dual { value: self.value - other.value, dot: self.dot - other.dot }
    }
    fn mul(self, other: Self) -> Self {
        Dual { value: self.value * other.value, dot: self.dot * other.value + self.value * other.dot }
    }
    fn unary(f: Unary, a: Self) -> Self {
        let value = f64::unary(f, a.value);
        let slope = match f {
            // A difference must not reach over the corner or the jump.
            Unary::Abs => 1f64.copysign(a.value),
            Unary::Sign | Unary::Floor => 0.0,
            _ => slope(|x| f64::unary(f, x), a.value),
        };
        // What does not move has no slope to measure: it may stand at the edge of its domain.
        Dual { value, dot: if a.dot == 0.0 { 0.0 } else { slope * a.dot } }
    }
    fn binary(f: Binary, a: Self, b: Self) -> Self {
        let value = f64::binary(f, a.value, b.value);
        let first = a.value == value;
        let dot = match f {
            Binary::Min | Binary::Max => {
                if first {
                    a.dot
                } else {
                    b.dot
                }
            }
            Binary::Add => a.dot + b.dot,
            Binary::Sub => a.dot - b.dot,
            Binary::Mul => return a.mul(b),
            Binary::Div => (a.dot - value * b.dot) / b.value,
            Binary::Pow | Binary::Atan2 => {
                let x = if a.dot == 0.0 { 0.0 } else { a.dot * slope(|x| f64::binary(f, x, b.value), a.value) };
                let y = if b.dot == 0.0 { 0.0 } else { b.dot * slope(|y| f64::binary(f, a.value, y), b.value) };
                x + y
            }
        };
        Dual { value, dot }
    }
    fn powf(self, n: f64) -> Self {
        Dual { value: Number::powf(self.value, n), dot: self.dot * slope(|x| Number::powf(x, n), self.value) }
    }
    fn compare(op: Compare, a: Self, b: Self) -> bool {
        f64::compare(op, a.value, b.value)
    }
}

struct Case {
    name: String,
    op: Op,
    derived: Derived,
}

fn cases() -> Vec<Case> {
    let folders = ["../../ops", "../../tests/reference/ops", "../../programs"]
        .map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f));
    let entries = folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap_or_else(|e| panic!("{}: {e}", f.display())));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    assert!(paths.len() > 80, "the library is there");
    let read = |path: &PathBuf| {
        let name = path.file_stem().expect("a stem").to_string_lossy().into_owned();
        let mut sources = Sources::default();
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let id = sources.add(&format!("{name}.yaml"), text);
        let mut out = Diagnostics::default();
        let spec = spec::parse(id, &sources, &mut out);
        let op = spec.and_then(|spec| resolve::resolve(&spec, &Library::new(&[], &sources), &mut out));
        let mut op = op.unwrap_or_else(|| panic!("{}", out.render(&sources)));
        let derived = derive::complete(&mut op, &mut out);
        assert!(!out.has_errors(), "{}", out.render(&sources));
        Case { name, op, derived }
    };
    paths.iter().map(read).collect()
}

/// A binding in which every group has this rank, one that a recurrence runs along the rank 1, at random extents from 1
/// to 4, or above the greatest number that stands as a position.
fn binding(op: &Op, rank: usize, sampler: &mut Sampler) -> Binding {
    let along = |s: &Stmt| s.scan.map(|t| op.axis(s.vars[t.var.0].axis).rank_class);
    let sequences: BTreeSet<usize> = op.forward.iter().filter_map(along).collect();
    let ranked = |class: usize| if sequences.contains(&class) { 1 } else { rank };
    for _ in 0..2000 {
        let mut draw = |n: u64| 1 + (sampler.bits() % n) as i64;
        let given: Vec<_> = op
            .axes
            .iter()
            .zip(op.numbered())
            .map(|(a, n)| {
                a.size.is_none().then(|| (0..ranked(a.rank_class)).map(|_| n.unwrap_or(0) + draw(4)).collect())
            })
            .collect();
        let params = op.params.iter().map(|p| match p.kind {
            ParamKind::PerDim(a) => ParamValue::Ints((0..ranked(op.axis(a).rank_class)).map(|_| draw(2)).collect()),
            ParamKind::Int => ParamValue::Int(draw(2)),
            ParamKind::Real => ParamValue::Real(0.5),
        });
        if let Ok(binding) = Binding::new(op, &given, params.collect()) {
            return binding;
        }
    }
    panic!("{} has no small shape of rank {rank}", op.name)
}

type Values<N> = BTreeMap<TensorId, Vec<N>>;

fn dual_of(op: &Op, role: Role) -> Option<TensorId> {
    (0..op.tensors.len()).map(TensorId).find(|t| op.tensor(*t).role == role)
}

/// Values of the tensors that `of` gives for each of `primals`.
fn draw(
    op: &Op,
    binding: &Binding,
    primals: &[TensorId],
    of: impl Fn(TensorId) -> Option<TensorId>,
    sampler: &mut Sampler,
) -> Values<f64> {
    let mut values = Values::new();
    for t in primals.iter().filter_map(|t| of(*t)) {
        let domain = op.tensor(t).domain;
        values.insert(t, (0..binding.elements(op, t)).map(|_| sampler.ordinary(domain)).collect());
    }
    values
}

fn run<N: Number>(op: &Op, binding: &Binding, values: &Values<N>, rules: &[&[Stmt]]) -> Values<N> {
    let mut interpreter = Interpreter::new(op, binding);
    interpreter.tensors = values.clone();
    for rule in rules {
        interpreter.run(rule).expect("no double write");
    }
    interpreter.tensors
}

/// `None` where a tensor of the op has no value, which is zero.
fn of<N: Number>(values: &Values<N>, op: &Op, binding: &Binding, t: TensorId) -> Vec<N> {
    values.get(&t).cloned().unwrap_or_else(|| vec![N::from_f64(0.0); binding.elements(op, t)])
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    // A window of padding alone has an infinite maximum, of which nothing is said.
    (!a.is_finite() && !b.is_finite()) || (a - b).abs() <= 1e-7 * (1.0 + scale)
}

/// Counts what is compared: a test of undefined numbers would prove nothing.
#[derive(Default)]
struct Seen {
    finite: usize,
    other: usize,
}

impl Seen {
    fn compare(&mut self, found: &[f64], expected: &[f64], scale: f64, what: &dyn Fn() -> String) {
        assert_eq!(found.len(), expected.len(), "{}", what());
        for (n, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!(close(*a, *b, scale), "{}: element {n}: {a} is not {b}", what());
            let count = if b.is_finite() { &mut self.finite } else { &mut self.other };
            *count += 1;
        }
    }

    fn finish(self) {
        println!("{} numbers compared, {} undefined", self.finite, self.other);
        assert!(self.finite > 500 && self.other * 50 < self.finite, "{} finite, {} not", self.finite, self.other);
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.0, |m, v| m.max(v.abs()))
}

/// Values and directions as dual numbers.
fn paired(op: &Op, x: &Values<f64>, dots: &Values<f64>) -> Values<Dual> {
    let pair = |(t, v): (&TensorId, &Vec<f64>)| {
        let dot = dual_of(op, Role::Tangent(*t)).and_then(|d| dots.get(&d));
        let zip = |(n, value): (usize, &f64)| Dual { value: *value, dot: dot.map_or(0.0, |d| d[n]) };
        (*t, v.iter().enumerate().map(zip).collect())
    };
    x.iter().map(pair).collect()
}

/// Calls `f` for every op and rank with random inputs, tangents of inputs and cotangents of outputs.
fn at_every_rank(mut f: impl FnMut(&Case, &Binding, &Values<f64>, &Values<f64>, &Values<f64>)) {
    for case in cases() {
        let op = &case.op;
        let mut sampler = Sampler::new(case.name.bytes().map(u64::from).sum());
        let numbered = op.numbered().iter().any(Option::is_some);
        for rank in if op.axes.is_empty() {
            0..1
        } else if numbered {
            1..2
        } else {
            0..3
        } {
            for _ in 0..2 {
                let binding = binding(op, rank, &mut sampler);
                let x = draw(op, &binding, &op.inputs(), Some, &mut sampler);
                let dots = draw(op, &binding, &op.inputs(), |t| dual_of(op, Role::Tangent(t)), &mut sampler);
                let bars = draw(op, &binding, &op.outputs(), |t| dual_of(op, Role::Cotangent(t)), &mut sampler);
                f(&case, &binding, &x, &dots, &bars);
            }
        }
    }
}

fn joined(parts: &[&Values<f64>]) -> Values<f64> {
    parts.iter().flat_map(|p| p.iter().map(|(t, v)| (*t, v.clone()))).collect()
}

#[test]
fn tangents_are_what_dual_numbers_give() {
    let mut seen = Seen::default();
    at_every_rank(|case, binding, x, dots, _| {
        let op = &case.op;
        let dual = run(op, binding, &paired(op, x, dots), &[&op.forward]);
        for (what, rule) in [("derived", &case.derived.tangent), ("own", &op.tangent.stmts)] {
            let values = run(op, binding, &joined(&[x, dots]), &[&op.forward, rule]);
            for output in op.outputs() {
                let expected: Vec<f64> = of(&dual, op, binding, output).iter().map(|d| d.dot).collect();
                let Some(dot) = dual_of(op, Role::Tangent(output)) else { continue };
                let found = of(&values, op, binding, dot);
                let scale = largest(&expected);
                let place = || format!("{} {what}, {:?}", case.name, binding.extents);
                seen.compare(&found, &expected, scale, &place);
            }
        }
    });
    seen.finish();
}

#[test]
fn adjoints_are_the_transposes_of_tangents() {
    let mut seen = Seen::default();
    at_every_rank(|case, binding, x, dots, bars| {
        let op = &case.op;
        let rules = [
            ("derived", &case.derived.tangent, &case.derived.adjoint),
            ("own", &op.tangent.stmts, &op.adjoint.stmts),
            ("own tangent", &op.tangent.stmts, &case.derived.adjoint),
        ];
        for (what, tangent, adjoint) in rules {
            let forward = run(op, binding, &joined(&[x, dots]), &[&op.forward, tangent]);
            let back = run(op, binding, &joined(&[x, bars]), &[&op.forward, adjoint]);
            let product = |primals: &[TensorId]| -> f64 {
                let pairs = primals
                    .iter()
                    .filter_map(|t| Some((dual_of(op, Role::Tangent(*t))?, dual_of(op, Role::Cotangent(*t))?)));
                let terms = pairs.map(|(dot, bar)| {
                    let (a, b) = (of(&forward, op, binding, dot), of(&back, op, binding, bar));
                    a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>()
                });
                terms.sum()
            };
            let (a, b) = (product(&op.outputs()), product(&op.inputs()));
            let place = || format!("{} {what}, {:?}", case.name, binding.extents);
            seen.compare(&[a], &[b], a.abs(), &place);
        }
    });
    seen.finish();
}

/// The tangent of an adjoint is a product with the second derivative.
#[test]
fn adjoints_can_be_differentiated() {
    let mut seen = Seen::default();
    at_every_rank(|case, binding, x, dots, bars| {
        for (what, adjoint) in [("derived", &case.derived.adjoint), ("own", &case.op.adjoint.stmts)] {
            let mut op = case.op.clone();
            let inputs = op.inputs();
            let both: Vec<Stmt> = op.forward.iter().chain(adjoint).cloned().collect();
            let second = derive::tangent(&mut op, &both, &inputs);
            let dual = run(&op, binding, &paired(&op, &joined(&[x, bars]), dots), &[&both]);
            let values = run(&op, binding, &joined(&[x, dots, bars]), &[&both, &second]);
            for input in &inputs {
                let Some(bar) = dual_of(&op, Role::Cotangent(*input)) else { continue };
                let expected: Vec<f64> = of(&dual, &op, binding, bar).iter().map(|d| d.dot).collect();
                let found = match dual_of(&op, Role::Tangent(bar)) {
                    Some(t) => of(&values, &op, binding, t),
                    None => vec![0.0; expected.len()],
                };
                let scale = largest(&expected);
                let place = || format!("{} {what}, {:?}", case.name, binding.extents);
                seen.compare(&found, &expected, scale, &place);
            }
        }
    });
    seen.finish();
}
