//! Specs made at random, step by step: takes a seed, gives a document. The same seed gives the same document.

use super::words::{WIDTHS, WORDS};
use super::{Declared, Document, Instance, Spec, Step, Value, leaf, node};
use cotangent_build::certify::Sampler;
use std::collections::BTreeSet;

/// What specs shall be like.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    /// Small extents and no words that collide: what interpreters run in a moment. Slopes exist.
    Small,
    /// Everything.
    Full,
}

#[derive(Clone)]
pub(super) struct Axis {
    pub(super) name: String,
    index: String,
    /// Recurrences run along it.
    pub(super) iterations: bool,
}

pub(super) type Scope = Vec<(String, usize)>;

pub(super) struct Generator {
    random: Sampler,
    pub(super) style: Style,
    pub(super) axes: Vec<Axis>,
    /// Positions meet other axes, so all have one rank.
    pub(super) mixed: bool,
    /// Tensors that may be read, with their axes.
    pub(super) readable: Vec<(String, Vec<usize>)>,
    taken: BTreeSet<String>,
    fresh: usize,
    /// How often names are words that collide, of 8.
    odd: usize,
}

/// The specs of a seed. Names of ops end in the seed, so that many stand in one crate.
pub fn document(seed: u64, style: Style) -> Document {
    let mut first = Generator::new(seed, style);
    let called = match style {
        Style::Full if first.below(6) == 0 => Some(first.spec(&format!("called{seed}"), false, None)),
        _ => None,
    };
    let program = style == Style::Full && first.below(2) == 0;
    let spec = first.spec(&format!("spec{seed}"), program, called.as_ref());
    Document(called.into_iter().chain([spec]).collect())
}

impl Generator {
    fn new(seed: u64, style: Style) -> Self {
        let mut g = Generator {
            random: Sampler::new(seed + 1),
            style,
            axes: Vec::new(),
            mixed: false,
            readable: Vec::new(),
            taken: BTreeSet::new(),
            fresh: 0,
            odd: 0,
        };
        g.below(2);
        g
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.random.bits() % n as u64) as usize
    }

    pub(super) fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A name that nothing has.
    pub(super) fn name(&mut self, plain: &str) -> String {
        let mut name = plain.to_owned();
        if self.below(8) < self.odd {
            name = self.pick(WORDS).to_owned();
        }
        while !self.taken.insert(name.replace('_', "")) {
            name = match self.below(3) {
                0 if self.odd > 0 => self.pick(WORDS).to_owned(),
                _ => {
                    self.fresh += 1;
                    format!("{plain}{}", self.fresh)
                }
            };
        }
        name
    }

    fn declare_axes(&mut self) {
        self.axes.clear();
        let iterations = self.style == Style::Full && self.below(4) == 0;
        let count = 3 + usize::from(iterations);
        for n in 0..count {
            let plain = ["i", "j", "k", "t"][n];
            let mut index = self.name(plain);
            // An axis is a letter and letters and digits.
            while index.contains('_') {
                index = self.name(plain);
            }
            let name = index[..1].to_uppercase() + &index[1..];
            self.axes.push(Axis { name, index, iterations: n == 3 });
        }
    }

    /// `name[i, j]`, each of its axes once, and the scope that this makes.
    fn target(&mut self, name: &str, axes: &[usize]) -> (String, Scope) {
        let mut scope = Scope::new();
        let mut positions = Vec::new();
        for a in axes {
            let axis = self.axes[*a].clone();
            if scope.iter().any(|(i, _)| *i == axis.index) {
                let index = self.name("o");
                positions.push(format!("{index} in {}", axis.name));
                scope.push((index, *a));
            } else {
                positions.push(axis.index.clone());
                scope.push((axis.index, *a));
            }
        }
        let text = if axes.is_empty() { name.to_owned() } else { format!("{name}[{}]", positions.join(", ")) };
        (text, scope)
    }

    fn shape(&mut self) -> Vec<usize> {
        let shapes: [&[usize]; 9] = [&[0], &[0, 1], &[1, 0], &[2, 0], &[], &[1], &[1, 2], &[0, 2], &[0, 1, 2]];
        let mut axes = self.pick(&shapes).to_vec();
        if self.axes.len() > 3 && self.below(3) == 0 {
            let at = self.below(axes.len() + 1);
            axes.insert(at, 3);
        }
        axes
    }

    /// A step along the axis of iterations, which reads itself; and perhaps one more in the same recurrence.
    fn recurrence(&mut self, steps: &mut Vec<Step>) {
        let shapes: [&[usize]; 4] = [&[3], &[3, 0], &[0, 3], &[3, 1]];
        let axes = self.pick(&shapes).to_vec();
        let name = self.name("h");
        let (target, scope) = self.target(&name, &axes);
        let t = self.axes[3].index.clone();
        let shift = self.pick(&["- 1", "- 1", "- 2", "+ 1", "+ 3"]);
        let earlier = target
            .replace(&format!("[{t}"), &format!("[{t} {shift}"))
            .replace(&format!(", {t}]"), &format!(", {t} {shift}]"));
        let before = if self.below(3) == 0 {
            // A sum over what the iteration before wrote.
            match axes.iter().find(|a| **a != 3) {
                Some(a) => {
                    let index = self.name("q");
                    let own = self.axes[*a].clone();
                    let read = earlier.replace(&own.index, &index);
                    // A name may hold another.
                    if read.matches(&index).count() == 1 {
                        node(&format!("(sum({index} in {}) # * #)", own.name), {
                            let mut inner = scope.clone();
                            inner.push((index, *a));
                            [leaf(read), self.read(&inner)]
                        })
                    } else {
                        leaf(earlier)
                    }
                }
                None => leaf(earlier),
            }
        } else if self.below(3) == 0 {
            node(&format!("where({t} == 0, #, #)"), [self.read(&scope), leaf(earlier)])
        } else {
            leaf(earlier)
        };
        let value = match self.below(4) {
            0 => node("tanh(# + #)", [self.value(&scope, 1), before]),
            1 => node("# + 0.5 * #", [self.value(&scope, 2), before]),
            2 => node("where(#, #, sin(#))", [self.cond(&scope, 1), self.value(&scope, 1), before]),
            _ => node("logistic(#) * # + #", [self.value(&scope, 1), before, self.read(&scope)]),
        };
        steps.push(Step { target, adds: false, value });
        self.readable.push((name, axes));
    }

    /// Sums of products, and steps that compute one element from each of theirs: a layer with what follows it.
    fn layer(&mut self, steps: &mut Vec<Step>) {
        let axes = self.pick(&[[0, 1], [1, 2], [0, 2], [2, 1]]).to_vec();
        let bound = (0..3).find(|a| !axes.contains(a)).expect("two of three");
        let name = self.name("h");
        let (target, scope) = self.target(&name, &axes);
        let index = self.name("q");
        let mut inner = scope.clone();
        inner.push((index.clone(), bound));
        let factors = [self.touching(&inner, &index, 0), self.touching(&inner, &index, 0)];
        let binder = format!("sum({index} in {}) # * #", self.axes[bound].name);
        steps.push(Step { target: target.clone(), adds: false, value: node(&binder, factors) });
        let mut known = vec![target.clone()];
        for _ in 0..1 + self.below(3) {
            let last = known.last().cloned().expect("there is one");
            // The sums are read again, and so is what was made of them.
            let other = self.pick(&known);
            let value = match self.below(8) {
                0 => node("tanh(#)", [leaf(last)]),
                1 => node("# * #", [leaf(last), leaf(other)]),
                2 => node("where(# > 0, #, 0.1 * #)", [leaf(last.clone()), leaf(other), leaf(last)]),
                3 => node("max(#, 0) + #", [leaf(last), leaf(other)]),
                5 => node("# - 0.5 * #", [leaf(other), leaf(last)]),
                6 | 7 => node("# + # * #", [leaf(target.clone()), leaf(last), leaf(other)]),
                _ => node("# + #", [leaf(last), self.read(&scope)]),
            };
            let made = self.name("a");
            known.push(target.replacen(&name, &made, 1));
            steps.push(Step { target: target.replacen(&name, &made, 1), adds: false, value });
            self.readable.push((made, axes.clone()));
        }
        if self.below(2) == 0 {
            self.readable.push((name, axes.clone()));
        }
        if self.below(3) > 0 {
            // What is read here too stays a step of its own.
            let (kept, to) = (self.pick(&known[1..]), self.name("r"));
            let (target, _) = self.target(&to, &axes[..1]);
            let last = known.last().cloned().expect("there is one");
            let binder = format!("sum({}) # * #", self.axes[axes[1]].index);
            steps.push(Step { target, adds: false, value: node(&binder, [leaf(kept), leaf(last)]) });
            self.readable.push((to, axes[..1].to_vec()));
        }
    }

    /// A call of a shipped op.
    fn call(&mut self, steps: &mut Vec<Step>) {
        let tensors: Vec<_> = self.readable.iter().filter(|(_, axes)| !axes.is_empty()).cloned().collect();
        let (x, axes) = self.pick(&tensors);
        let name = self.name("c");
        let (value, result) = match self.below(4) {
            0 | 1 => (
                format!("{}({x})", self.pick(&["tanh", "relu", "sin", "cos", "logistic", "square", "neg", "exp"])),
                axes,
            ),
            2 => {
                let alike: Vec<_> = tensors.iter().filter(|(_, b)| *b == axes).cloned().collect();
                let y = self.pick(&alike).0;
                let list: Vec<_> = axes.iter().map(|a| self.axes[*a].name.clone()).collect();
                (
                    format!("{}({x}, {y}; I = [{}])", self.pick(&["add", "sub", "mul", "max", "min"]), list.join(", ")),
                    axes,
                )
            }
            _ => {
                let fits = |b: &[usize]| {
                    axes.len() == 2
                        && b.len() == 2
                        && axes[1] == b[0]
                        && axes[0] != b[1]
                        && axes[0] != axes[1]
                        && b[0] != b[1]
                };
                let other: Vec<_> = tensors.iter().filter(|(_, b)| fits(b)).cloned().collect();
                if other.is_empty() {
                    let (last, rest) = axes.split_last().expect("an axis");
                    if rest.is_empty() || rest.contains(last) {
                        (format!("square({x})"), axes)
                    } else {
                        (format!("softmax({x}; J = [{}])", self.axes[*last].name), axes)
                    }
                } else {
                    let (y, b) = self.pick(&other);
                    (format!("matmul({x}, {y})"), vec![axes[0], b[1]])
                }
            }
        };
        steps.push(Step { target: name.clone(), adds: false, value: leaf(value) });
        self.readable.push((name, result));
    }

    fn spec(&mut self, op: &str, program: bool, called: Option<&Spec>) -> Spec {
        self.taken = ["pi", "inf", "sum", "prod", "mean", "max", "min"].map(str::to_owned).into();
        self.fresh = 0;
        self.odd = if self.style == Style::Full { self.pick(&[0, 0, 3, 7]) } else { 0 };
        self.mixed = self.style == Style::Small || self.below(2) == 0;
        self.declare_axes();
        self.readable.clear();
        let inputs = self.inputs();
        let mut steps = Vec::new();
        // Every axis is known from the start.
        if let Some(called) = called {
            self.call_of(called, &mut steps);
        }
        let locals = self.below(4);
        for _ in 0..locals {
            match self.below(8) {
                0 if self.style == Style::Full => self.call(&mut steps),
                1 | 2 if self.axes.len() > 3 => self.recurrence(&mut steps),
                3 | 4 if self.style == Style::Full => self.layer(&mut steps),
                _ => {
                    let axes = self.shape();
                    let name = self.name("a");
                    let (target, scope) = self.target(&name, &axes);
                    steps.push(Step { target: target.clone(), adds: false, value: self.formula(&scope, true) });
                    if self.below(5) == 0 {
                        steps.push(Step { target, adds: true, value: self.value(&scope, 2) });
                    }
                    self.readable.push((name, axes));
                }
            }
        }
        if self.axes.len() > 3 && self.below(2) == 0 {
            self.recurrence(&mut steps);
        }
        let outputs = self.outputs(program, &mut steps);
        let wrt = (program && self.below(3) == 0).then(|| {
            let first = self.pick(&inputs).0;
            let second = self.pick(&inputs).0;
            if first == second || self.below(2) == 0 { vec![first] } else { vec![first, second] }
        });
        let mut spec =
            Spec { program, name: op.into(), inputs, outputs, wrt, functions: None, steps, instances: Vec::new() };
        let count = if self.style == Style::Small { 4 } else { 1 + usize::from(self.below(6) == 0) };
        for n in 0..count {
            let instance = self.instance(n, &spec);
            spec.instances.push(instance);
        }
        spec
    }

    /// The inputs, each with its axes.
    fn inputs(&mut self) -> Vec<Declared> {
        let mut inputs: Vec<Declared> = Vec::new();
        let mut shapes: Vec<Vec<usize>> = vec![vec![0], vec![0, 1], vec![1, 2], vec![]];
        if self.style == Style::Full {
            // Each axis stands in one of them, so that steps may name it. An op has functions for each input: few.
            shapes = self.pick(&[
                vec![vec![0, 1], vec![1, 2]],
                vec![vec![1, 0], vec![0, 2]],
                vec![vec![0, 1], vec![2]],
                vec![vec![0, 1, 2]],
                vec![vec![2, 1], vec![0, 1]],
            ]);
            if self.axes.len() > 3 {
                shapes.push(self.pick(&[vec![3], vec![3, 0], vec![1, 3]]));
            }
            if self.below(3) == 0 {
                shapes.push(self.pick(&[vec![], vec![0], vec![1], vec![0, 1], vec![1, 2]]));
            }
        }
        for (n, axes) in shapes.into_iter().enumerate() {
            let name = self.name(["u", "v", "w", "s", "p", "g"][n]);
            inputs.push((name.clone(), axes.iter().map(|a| self.axes[*a].name.clone()).collect()));
            self.readable.push((name, axes));
        }
        inputs
    }

    /// The outputs, each with its axes; their steps go to `steps`.
    fn outputs(&mut self, program: bool, steps: &mut Vec<Step>) -> Vec<Declared> {
        let mut outputs: Vec<Declared> = Vec::new();
        let mut shapes: Vec<Vec<usize>> = match self.below(4) {
            _ if self.style == Style::Small => vec![vec![0, 1], vec![2]],
            0 | 1 if program => vec![vec![]],
            0 => vec![self.shape()],
            1 => vec![vec![0, 1]],
            _ => vec![self.shape(), self.shape()],
        };
        if program && self.below(8) == 0 {
            shapes.push(self.shape());
        }
        for axes in shapes {
            let name = self.name("y");
            let (target, scope) = self.target(&name, &axes);
            outputs.push((name.clone(), axes.iter().map(|a| self.axes[*a].name.clone()).collect()));
            let twice = axes.iter().collect::<BTreeSet<_>>().len() < axes.len();
            let kind = self.below(if axes.is_empty() { 3 } else { 6 });
            let value = if axes.is_empty() && kind > 0 {
                // One number of everything.
                self.total()
            } else {
                self.formula(&scope, false)
            };
            let set = match (kind, axes.as_slice()) {
                // Spread, or moved.
                (4, [a, ..]) if !twice && !self.axes[*a].iterations => {
                    let index = self.axes[*a].index.clone();
                    target.replacen(
                        &index,
                        &self.pick(&[format!("2*{index}"), format!("{index} - 1"), format!("2*{index} + 1")]),
                        1,
                    )
                }
                _ => target.clone(),
            };
            steps.push(Step { target: set, adds: false, value });
            if kind == 5 {
                let positions: Vec<_> = axes.iter().map(|a| self.position(*a, &scope)).collect();
                let target = format!("{name}[{}]", positions.join(", "));
                let text = target.clone();
                let named = |i: &String| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == i);
                let left: Scope = scope.iter().filter(|(i, _)| named(i)).cloned().collect();
                steps.push(Step { target, adds: true, value: self.value(&left, 2) });
            }
            self.readable.push((name, axes));
        }
        outputs
    }

    /// A sum over all axes of something.
    fn total(&mut self) -> Value {
        let all: Vec<_> = self.readable.iter().filter(|(_, axes)| !axes.is_empty()).cloned().collect();
        let (name, axes) = if self.below(2) == 0 { all.last().cloned().expect("a tensor") } else { self.pick(&all) };
        let mut inner = Scope::new();
        let mut binders = Vec::new();
        for a in &axes {
            let index = self.name("q");
            binders.push(format!("{index} in {}", self.axes[*a].name));
            inner.push((index, *a));
        }
        let read = leaf(format!("{name}[{}]", inner.iter().map(|(i, _)| i.clone()).collect::<Vec<_>>().join(", ")));
        let around = self.pick(&["#^2", "sin(#)", "exp(-#)", "log(1 + #^2)", "# * #"]);
        let mut kids = vec![read.clone()];
        if around.matches('#').count() > 1 {
            kids.push(self.value(&inner, 1));
        }
        let kind = self.pick(&["sum", "sum", "mean"]);
        node(&format!("({kind}({}) #)", binders.join(", ")), [node(around, kids)])
    }

    /// A call of an op of the same build: its inputs are inputs here, under the same names of axes.
    fn call_of(&mut self, called: &Spec, steps: &mut Vec<Step>) {
        if called.outputs.len() != 1 {
            return;
        }
        let numbers = |axes: &[String]| -> Option<Vec<usize>> {
            axes.iter().map(|a| self.axes.iter().position(|b| b.name == *a)).collect()
        };
        let Some(result) = numbers(&called.outputs[0].1) else { return };
        let mut arguments = Vec::new();
        for (_, axes) in &called.inputs {
            let Some(axes) = numbers(axes) else { return };
            let Some((name, _)) = self.readable.iter().find(|(_, own)| *own == axes) else { return };
            arguments.push(name.clone());
        }
        let name = self.name("d");
        steps.push(Step {
            target: name.clone(),
            adds: false,
            value: leaf(format!("{}({})", called.name, arguments.join(", "))),
        });
        self.readable.push((name, result));
    }

    fn instance(&mut self, n: usize, spec: &Spec) -> Instance {
        let small = self.style == Style::Small;
        let uniform = if small { [1, 1, 2, 0][n] } else { self.pick(&[1, 1, 1, 2, 0]) };
        let ranks: Vec<usize> = (0..self.axes.len())
            .map(|a| match () {
                () if self.axes[a].iterations => 1,
                () if self.mixed => uniform,
                () => self.pick(&[1, 1, 1, 1, 2, 0]),
            })
            .collect();
        let mut budget = if small { usize::MAX } else { self.pick(&[200, 600, 2000, 5000]) };
        // The longest first gets the budget: any of them.
        let mut order: Vec<usize> = (0..self.axes.len()).collect();
        for n in (1..order.len()).rev() {
            let other = self.below(n + 1);
            order.swap(n, other);
        }
        let mut extents: Vec<(String, Vec<usize>)> = self.axes.iter().map(|a| (a.name.clone(), Vec::new())).collect();
        for (place, a) in order.into_iter().enumerate() {
            for _ in 0..ranks[a] {
                let wanted = match () {
                    () if small => 1 + self.below(5 - uniform),
                    () if place < 2 && self.below(3) > 0 => self.pick(WIDTHS),
                    () => 1 + self.below(5),
                };
                let extent = wanted.min(budget).max(1);
                budget /= extent;
                extents[a].1.push(extent);
            }
        }
        let mut layout = Vec::new();
        if !small && self.below(4) == 0 {
            for (tensor, axes) in spec.inputs.iter().chain(&spec.outputs) {
                let mut dims = Vec::new();
                for a in axes {
                    let (_, own) = extents.iter().find(|(b, _)| a == b).expect("an axis");
                    match own.len() {
                        1 => dims.push(a.clone()),
                        n => dims.extend((0..n).map(|d| format!("{a}.{d}"))),
                    }
                }
                for n in (1..dims.len()).rev() {
                    let other = self.below(n + 1);
                    dims.swap(n, other);
                }
                let distinct = dims.iter().collect::<BTreeSet<_>>().len() == dims.len();
                if dims.len() > 1 && distinct && self.below(3) > 0 {
                    layout.push((tensor.clone(), dims));
                }
            }
        }
        let taken = std::mem::take(&mut self.taken);
        let name = self.name(if n == 0 { "first" } else { "second" });
        self.taken = taken;
        let name = if spec.instances.iter().any(|i| i.name == name) { format!("{name}{n}") } else { name };
        Instance { name, extents, double: small || self.below(2) == 0, layout }
    }
}
