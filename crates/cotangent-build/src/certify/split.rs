//! Splits: takes an op and its instances that are split along an axis, gives how the results of the parts make those of
//! the whole, or an error with a shape at which they do not.
//!
//! Compared is what every function computes, in the whole and part by part, as rules are: rational formulas exactly, in
//! the integers modulo 2^61 - 1, the others in `f64`; at small shapes in two and three parts, and at the instance's own
//! number of coordinates and parts, so that a number in a formula that parts would never reach shows.

use super::field::M61;
use super::{Close, Draw, Sampler, describe, element_name, rational, shapes};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use crate::index::bind::Binding;
use crate::index::eval::Interpreter;
use crate::index::*;
use crate::types::{self, InstanceSpec};
use std::collections::{BTreeMap, BTreeSet};

/// The most terms of a shape, and the most shapes: a certificate takes milliseconds.
const MAX_WORK: usize = 1 << 17;
const MAX_SHAPES: usize = 8;

/// How an instance is split.
#[derive(Clone, Debug)]
pub struct Split {
    pub axis: AxisId,
    /// Of each result: an output, a tangent of one, a cotangent of an input, a tangent of that.
    pub weights: BTreeMap<TensorId, Weight>,
}

impl Split {
    /// Whether a part of the tensor is what a part of the instance has of it; else all parts have the whole.
    pub fn slices(&self, op: &Op, t: TensorId) -> bool {
        sliced(op, self.axis, t)
    }
}

/// Whether a tensor has the axis: then it stands first, and each part has its own piece.
fn sliced(op: &Op, axis: AxisId, t: TensorId) -> bool {
    op.tensor(t).axes.first() == Some(&axis)
}

/// By what the parts, or the sum over them, are multiplied to give the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    One,
    /// By one over the number of parts.
    Mean,
}

/// The splits of an op's instances, by name. Errors go to `out`.
pub fn certify(op: &Op, instances: &[InstanceSpec], out: &mut Diagnostics) -> BTreeMap<String, Split> {
    let split = |i: &InstanceSpec| Some((i.name.value.clone(), certified(op, i, i.split.as_ref()?, out)?));
    instances.iter().filter_map(split).collect()
}

fn certified(op: &Op, instance: &InstanceSpec, split: &types::Split, out: &mut Diagnostics) -> Option<Split> {
    let Some(axis) = op.axes.iter().position(|a| a.name == split.axis.value).map(AxisId) else {
        let message = format!("`{}` is no axis of `{}`", split.axis.value.escape_debug(), op.name);
        let d = Diagnostic::error(Code::BadSplit, split.axis.span, message, "is to be split");
        let given = op.axes.iter().filter(|a| a.size.is_none()).map(|a| a.name.as_str());
        out.push(match did_you_mean(&split.axis, given.clone()) {
            Some(word) => d.help(format!("did you mean `{word}`?")).suggest(split.axis.span, word),
            None => d.help(format!("its axes are {}", given.collect::<Vec<_>>().join(", "))),
        });
        return None;
    };
    if op.axis(axis).size.is_some() {
        let message = format!("the size of `{}` follows from others", op.axis(axis).name);
        let d = Diagnostic::error(Code::BadSplit, split.axis.span, message, "is to be split");
        out.push(d.label(op.axis(axis).span, "it is derived").help("split along an axis whose size is given"));
        return None;
    }
    let errors = out.errors();
    first_in_memory(op, axis, instance, split, out);
    if out.errors() > errors {
        return None;
    }
    let mut weights: BTreeMap<TensorId, Vec<Weight>> = BTreeMap::new();
    let mut compared = 0;
    for (whole, parts) in wholes(op, axis, split) {
        let Some(part) = resized(op, &whole, axis, whole.extents[axis.0][0] / parts) else { continue };
        let interface = op.inputs().into_iter().chain(op.outputs()).flat_map(|t| op.tensor(t).axes.clone());
        let differs = |a: &AxisId| *a != axis && whole.extents[a.0] != part.extents[a.0];
        if let Some(other) = interface.collect::<BTreeSet<_>>().into_iter().find(differs) {
            let (axis, other) = (op.axis(axis), op.axis(other));
            let message = format!("the size of `{}` depends on that of `{}`", other.name, axis.name);
            let d = Diagnostic::error(Code::BadSplit, split.axis.span, message, "is to be split");
            out.push(
                d.label(other.span, "no part has this size").help("leave `split` out, or split along another axis"),
            );
            return None;
        }
        compared += 1;
        let comparison = Comparison { op, axis, whole: &whole, part: &part, parts };
        if let Some(wrong) = comparison.run(&mut weights) {
            out.push(comparison.told(split, &wrong));
            return None;
        }
    }
    if compared == 0 {
        let message =
            format!("no small sizes were found at which parts along `{}` could be compared", split.axis.value);
        let d = Diagnostic::error(Code::BadSplit, split.axis.span, message, "is to be split");
        out.push(d.help("leave `split` out"));
        return None;
    }
    Some(Split { axis, weights: weights.into_iter().map(|(t, weights)| (t, weights[0])).collect() })
}

/// A part of a tensor is one piece of memory: the axis stands first where it stands.
fn first_in_memory(op: &Op, axis: AxisId, instance: &InstanceSpec, split: &types::Split, out: &mut Diagnostics) {
    for t in op.inputs().into_iter().chain(op.outputs()) {
        let tensor = op.tensor(t);
        let name = &op.axis(axis).name;
        if tensor.axes.iter().skip(1).any(|a| *a == axis) {
            let message =
                format!("`{}` has `{name}` behind another axis, so that a part of it is not in one piece", tensor.name);
            let d = Diagnostic::error(Code::BadSplit, split.axis.span, message, "is to be split");
            out.push(d.label(tensor.span, format!("`{name}` is not the first here")).help(format!(
                "leave `split` out, or split along an axis that stands first in each tensor that has it, as `{}`",
                tensor.axes.first().map_or(name, |a| &op.axis(*a).name)
            )));
        } else if tensor.axes.first() == Some(&axis)
            && let Some((_, dims)) = instance.layout.iter().find(|(of, _)| of.value == tensor.name)
            && let Some(first) = dims.first()
            && first.value != *name
            && first.value != format!("{name}.0")
        {
            let message = format!("`{}` is stored with `{name}` behind another dimension", tensor.name);
            let d = Diagnostic::error(Code::BadSplit, first.span, message, format!("`{name}` has to stand here"));
            let others = dims.iter().map(|d| d.as_str()).filter(|d| *d != name && **d != format!("{name}.0"));
            let right = std::iter::once(name.as_str()).chain(others).collect::<Vec<_>>().join(", ");
            let d = d.label(split.axis.span, "is to be split").help(format!("write `[{right}]`"));
            out.push(d.suggest(dims.span, format!("[{right}]")));
        }
    }
}

/// Shapes of a whole, each with a number of parts.
fn wholes(op: &Op, axis: AxisId, split: &types::Split) -> Vec<(Binding, usize)> {
    let shapes = shapes::sample(op);
    let usable = shapes.iter().filter(|b| b.rank(axis) == 1);
    let small = usable.clone().zip([2, 3].into_iter().cycle());
    let small = small.filter_map(|(b, parts)| Some((resized(op, b, axis, b.extents[axis.0][0] * parts)?, parts)));
    let own = (split.parts.value, split.parts.value * split.size);
    let own = usable.clone().find_map(|b| Some((resized(op, b, axis, own.1)?, own.0)));
    let small = small.filter(|(b, _)| work(op, b) <= MAX_WORK).take(MAX_SHAPES);
    // The instance's own is wanted more than others.
    small.chain(own.filter(|(b, _)| work(op, b) <= 8 * MAX_WORK)).collect()
}

/// The shape with another extent of the axis.
fn resized(op: &Op, b: &Binding, axis: AxisId, extent: usize) -> Option<Binding> {
    let given = |(n, e): (usize, &Vec<usize>)| match n == axis.0 {
        true => Some(vec![extent as i64]),
        false => op.axes[n].size.is_none().then(|| e.iter().map(|n| *n as i64).collect()),
    };
    let given: Vec<_> = b.extents.iter().enumerate().map(given).collect();
    Binding::new(op, &given, b.params.clone()).ok().filter(|b| b.unusable(op).is_none())
}

fn work(op: &Op, b: &Binding) -> usize {
    functions(op).iter().fold(0, |n, (lists, _)| lists.iter().fold(n, |n, s| n.saturating_add(shapes::terms(s, b))))
}

/// What functions compute: the statements, and their results.
fn functions(op: &Op) -> Vec<(Vec<&[Stmt]>, Vec<TensorId>)> {
    let of_interface = |t: &TensorId| match op.tensor(*t).role {
        Role::Output => true,
        Role::Tangent(of) => op.tensor(of).role == Role::Output,
        Role::Cotangent(of) => op.tensor(of).role == Role::Input,
        _ => false,
    };
    let Some(program) = &op.program else {
        let results = (0..op.tensors.len()).map(TensorId).filter(of_interface).collect();
        return vec![(vec![&op.forward, &op.tangent.stmts, &op.adjoint.stmts], results)];
    };
    let dense = |t: &TensorId| matches!(op.tensor(*t).role, Role::Partial(..));
    let whole = program.functions.iter().filter(|f| !f.results.iter().any(dense));
    whole.map(|f| (vec![f.stmts.as_slice()], f.results.clone())).collect()
}

struct Comparison<'a> {
    op: &'a Op,
    axis: AxisId,
    whole: &'a Binding,
    part: &'a Binding,
    parts: usize,
}

/// An element that the parts do not give.
struct Wrong {
    tensor: TensorId,
    element: usize,
    whole: String,
    parts: Vec<String>,
}

impl Comparison<'_> {
    /// Drops the weights that do not hold at these shapes; gives a result that then has none.
    fn run(&self, weights: &mut BTreeMap<TensorId, Vec<Weight>>) -> Option<Wrong> {
        for (lists, results) in functions(self.op) {
            let exact = lists.iter().all(|s| rational(s));
            for seed in [11, 12] {
                let wrong = if exact {
                    self.compare::<M61>(&lists, &results, weights, seed, &mut Sampler::field)
                } else {
                    self.compare::<f64>(&lists, &results, weights, seed, &mut Sampler::ordinary)
                };
                if wrong.is_some() {
                    // Small numbers read better than elements of the field.
                    let small = |t| self.compare::<f64>(&lists, &[t], &mut BTreeMap::new(), seed, &mut Sampler::small);
                    return wrong.map(|w| if exact { small(w.tensor).unwrap_or(w) } else { w });
                }
            }
        }
        None
    }

    fn compare<N: Close>(
        &self,
        lists: &[&[Stmt]],
        results: &[TensorId],
        weights: &mut BTreeMap<TensorId, Vec<Weight>>,
        seed: u64,
        draw: Draw<N>,
    ) -> Option<Wrong> {
        let Comparison { op, parts, .. } = *self;
        let mut sampler = Sampler::new(seed);
        let mut given: BTreeMap<TensorId, Vec<N>> = BTreeMap::new();
        for t in (0..op.tensors.len()).map(TensorId) {
            let domain = match op.tensor(t).role {
                Role::Input => op.tensor(t).domain,
                Role::Tangent(of) if op.tensor(of).role == Role::Input => None,
                Role::Cotangent(of) if op.tensor(of).role == Role::Output => None,
                _ => continue,
            };
            given.insert(t, (0..self.whole.elements(op, t)).map(|_| draw(&mut sampler, domain)).collect());
        }
        let run = |binding: &Binding, given: BTreeMap<TensorId, Vec<N>>| {
            let mut interpreter = Interpreter::new(op, binding);
            interpreter.tensors = given;
            // Double writes are reported before.
            lists.iter().for_each(|stmts| _ = interpreter.run(stmts));
            let value = |t: &TensorId| {
                let zeros = || vec![N::from_f64(0.0); binding.elements(op, *t)];
                interpreter.tensors.get(t).cloned().unwrap_or_else(zeros)
            };
            results.iter().map(value).collect::<Vec<_>>()
        };
        let cut = |n: usize| {
            let own = |(t, v): (&TensorId, &Vec<N>)| (*t, self.cut(*t, v, n).to_vec());
            given.iter().map(own).collect()
        };
        let of_parts: Vec<Vec<Vec<N>>> = (0..parts).map(|n| run(self.part, cut(n))).collect();
        let whole = run(self.whole, given);
        for (r, t) in results.iter().enumerate() {
            let count = N::from_f64(parts as f64);
            let sliced = self.slices(*t);
            let length = whole[r].len() / if sliced { parts } else { 1 };
            // What the parts make of an element, and the largest number in it.
            let made = |element: usize| -> (N, f64) {
                if sliced {
                    let v = of_parts[element / length][r][element % length];
                    return (v, v.magnitude());
                }
                let terms = of_parts.iter().map(|p| p[r][element]);
                terms.fold((N::from_f64(0.0), 0.0), |(sum, most), v| (sum.add(v), v.magnitude().max(most)))
            };
            let scale = whole[r].iter().map(|v| v.magnitude()).fold(0.0, f64::max);
            let holds = |w: Weight, element: usize| {
                let (of_parts, most) = made(element);
                let whole = whole[r][element];
                match w {
                    Weight::One => whole.close(of_parts, scale.max(most)),
                    Weight::Mean => whole.mul(count).close(of_parts, (scale * parts as f64).max(most)),
                }
            };
            let left = weights.entry(*t).or_insert_with(|| vec![Weight::One, Weight::Mean]);
            let off = |w: &Weight| (0..whole[r].len()).find(|element| !holds(*w, *element));
            let element = left.iter().find_map(off).unwrap_or(0);
            left.retain(|w| off(w).is_none());
            if left.is_empty() {
                let at =
                    |n: usize| if sliced { of_parts[n][r].get(element % length) } else { of_parts[n][r].get(element) };
                let numbers = if sliced { element / length..element / length + 1 } else { 0..parts };
                let parts = numbers.take(MOST_TOLD).filter_map(at).map(|v| v.show()).collect();
                return Some(Wrong { tensor: *t, element, whole: whole[r][element].show(), parts });
            }
        }
        None
    }

    fn slices(&self, t: TensorId) -> bool {
        sliced(self.op, self.axis, t)
    }

    /// What the part of a number has of a tensor.
    fn cut<'v, N>(&self, t: TensorId, v: &'v [N], n: usize) -> &'v [N] {
        let length = v.len() / self.parts;
        if self.slices(t) { &v[n * length..(n + 1) * length] } else { v }
    }

    fn told(&self, split: &types::Split, wrong: &Wrong) -> Diagnostic {
        let (op, axis) = (self.op, &split.axis.value);
        let name = &op.tensor(wrong.tensor).name;
        let element = element_name(op, self.whole, wrong.tensor, wrong.element);
        let of_parts = wrong.parts.join(", ");
        let (message, note) = if self.slices(wrong.tensor) {
            let message = format!("a part of `{name}` along `{axis}` needs more than its part of the inputs");
            (message, format!("{element} is {}, of its part alone {of_parts}", wrong.whole))
        } else {
            let message = format!("`{name}` is neither the sum nor the mean over parts of `{axis}`");
            let more = if wrong.parts.len() < self.parts { ", .." } else { "" };
            (message, format!("{element} is {}, of the parts {of_parts}{more}", wrong.whole))
        };
        let shape = describe(op, self.whole);
        Diagnostic::error(Code::BadSplit, split.axis.span, message, "is to be split")
            .note(format!("in {} parts at {shape}: {note}", self.parts))
            .help("leave `split` out: no coordinate of a split axis may meet another one but in a sum or a mean of results")
    }
}

/// The most parts whose values a message tells.
const MOST_TOLD: usize = 4;
