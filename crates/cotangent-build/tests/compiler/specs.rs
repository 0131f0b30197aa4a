//! Specs made at random: takes a seed, gives documents of one or two specs as trees, their text, and smaller ones like
//! them. A spec need not be right (a tensor may be read before its last write); most are.

use cotangent_build::certify::Sampler;
use cotangent_build::functions::Unary;
use std::collections::BTreeSet;
use std::fmt::Write;

/// A formula as a tree: text with other formulas in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Leaf(String),
    /// One part more than there are inner formulas.
    Node(Vec<String>, Vec<Value>),
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub target: String,
    pub adds: bool,
    pub value: Value,
}

/// An instance: the extents of each axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub name: String,
    pub extents: Vec<(String, Vec<usize>)>,
    pub double: bool,
    /// A tensor, and its dimensions in storage order.
    pub layout: Vec<(String, Vec<String>)>,
}

/// A tensor and its axes.
pub type Declared = (String, Vec<String>);

/// A spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub program: bool,
    pub name: String,
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
    pub wrt: Option<Vec<String>>,
    pub functions: Option<Vec<String>>,
    pub steps: Vec<Step>,
    pub instances: Vec<Instance>,
}

/// Specs of one build; the first ones are called by the later ones, or by none.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(pub Vec<Spec>);

fn leaf(text: impl Into<String>) -> Value {
    Value::Leaf(text.into())
}

/// `node("(# + #)", [a, b])`: each `#` is an inner formula.
fn node(text: &str, kids: impl IntoIterator<Item = Value>) -> Value {
    let kids: Vec<Value> = kids.into_iter().collect();
    let parts: Vec<String> = text.split('#').map(str::to_owned).collect();
    assert_eq!(parts.len(), kids.len() + 1, "{text}");
    Value::Node(parts, kids)
}

impl Value {
    fn write(&self, out: &mut String) {
        match self {
            Value::Leaf(text) => out.push_str(text),
            Value::Node(parts, kids) => {
                for (n, part) in parts.iter().enumerate() {
                    out.push_str(part);
                    if let Some(kid) = kids.get(n) {
                        kid.write(out);
                    }
                }
            }
        }
    }
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
    fn size(&self) -> usize {
        match self {
            Value::Leaf(_) => 1,
            Value::Node(_, kids) => 1 + kids.iter().map(Value::size).sum::<usize>(),
        }
    }
    /// Each with one node less: an inner formula, or a leaf, in its place. Large pieces go first.
    fn smaller(&self) -> Vec<Value> {
        let Value::Node(parts, kids) = self else {
            return if self.text() == "1" { Vec::new() } else { vec![leaf("1")] };
        };
        let mut all = vec![leaf("1")];
        all.extend(kids.iter().cloned());
        for (n, kid) in kids.iter().enumerate() {
            for less in kid.smaller() {
                let mut kids = kids.clone();
                kids[n] = less;
                all.push(Value::Node(parts.clone(), kids));
            }
        }
        all
    }
}

impl Step {
    fn text(&self) -> String {
        format!("{} {} {}", self.target, if self.adds { "+=" } else { "=" }, self.value.text())
    }
}

impl Spec {
    /// As YAML.
    pub fn text(&self) -> String {
        let declared = |all: &[Declared]| {
            let all: Vec<_> = all.iter().map(|(n, axes)| format!("{n}: [{}]", axes.join(", "))).collect();
            all.join(", ")
        };
        let mut out = String::new();
        let _ = writeln!(out, "{}: {}", if self.program { "program" } else { "op" }, self.name);
        let _ = writeln!(out, "inputs: {{{}}}\noutputs: {{{}}}", declared(&self.inputs), declared(&self.outputs));
        if let Some(wrt) = &self.wrt {
            let _ = writeln!(out, "wrt: [{}]", wrt.join(", "));
        }
        if let Some(functions) = &self.functions {
            let _ = writeln!(out, "functions: [{}]", functions.join(", "));
        }
        out.push_str("forward:\n");
        for step in &self.steps {
            let _ = writeln!(out, "  - {}", step.text());
        }
        if !self.program {
            out.push_str("adjoint: derived\n");
        }
        out.push_str(if self.instances.is_empty() { "instances: []\n" } else { "instances:\n" });
        for i in &self.instances {
            let numbers = |n: &[usize]| n.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let extents: Vec<_> = i.extents.iter().map(|(a, n)| format!("{a}: [{}]", numbers(n))).collect();
            let dtype = if i.double { "f64" } else { "f32" };
            let _ = write!(out, "  - {{name: {}, {}, dtype: {dtype}", i.name, extents.join(", "));
            if !i.layout.is_empty() {
                let all: Vec<_> = i.layout.iter().map(|(t, dims)| format!("{t}: [{}]", dims.join(", "))).collect();
                let _ = write!(out, ", layout: {{{}}}", all.join(", "));
            }
            out.push_str("}\n");
        }
        out
    }

    /// A number that falls as a spec gets simpler.
    fn size(&self) -> usize {
        let steps: usize = self.steps.iter().map(|s| 8 + s.value.size() * 2 + s.value.text().len() / 4).sum();
        let instance = |i: &Instance| {
            let extents: usize =
                i.extents.iter().map(|(_, n)| n.iter().map(|n| n.ilog2() as usize + n).sum::<usize>()).sum();
            20 + extents + i.layout.iter().map(|(_, d)| 3 + d.len()).sum::<usize>() + usize::from(!i.double)
        };
        let lists = 10 * self.inputs.len() + 10 * self.outputs.len() + 4 * usize::from(self.wrt.is_some());
        steps + lists + self.instances.iter().map(instance).sum::<usize>() + 20
    }

    /// Each with one thing less.
    fn smaller(&self) -> Vec<Spec> {
        let mut all = Vec::new();
        let mut push = |change: &dyn Fn(&mut Spec)| {
            let mut spec = self.clone();
            change(&mut spec);
            if spec != *self {
                all.push(spec);
            }
        };
        if self.instances.len() > 1 {
            for n in 0..self.instances.len() {
                push(&|s| s.instances = vec![s.instances[n].clone()]);
            }
        }
        for n in 0..self.outputs.len() {
            if self.outputs.len() > 1 {
                // With the steps that write it.
                push(&|s| {
                    let (name, _) = s.outputs.remove(n);
                    s.steps.retain(|step| head(&step.target) != name);
                });
                // Or as a local.
                push(&|s| _ = s.outputs.remove(n));
            }
        }
        for n in 0..self.steps.len() {
            push(&|s| _ = s.steps.remove(n));
        }
        for n in 0..self.inputs.len() {
            push(&|s| {
                let (name, _) = s.inputs.remove(n);
                if let Some(wrt) = &mut s.wrt {
                    wrt.retain(|x| *x != name);
                }
                s.instances.iter_mut().for_each(|i| i.layout.retain(|(t, _)| *t != name));
            });
        }
        push(&|s| s.wrt = None);
        for n in 0..self.wrt.as_ref().map_or(0, Vec::len) {
            push(&|s| s.wrt = Some(vec![s.wrt.as_ref().expect("a list")[n].clone()]));
        }
        if self.program {
            push(&|s| s.program = false);
        }
        for n in 0..self.steps.len() {
            for value in self.steps[n].value.smaller() {
                push(&|s| s.steps[n].value = value.clone());
            }
        }
        for i in 0..self.instances.len() {
            push(&|s| s.instances[i].layout.clear());
            push(&|s| s.instances[i].double = true);
            for a in 0..self.instances[i].extents.len() {
                let own = self.instances[i].extents[a].1.clone();
                if own.len() > 1 {
                    // One rank less, of all axes.
                    push(&|s| {
                        s.instances[i].layout.clear();
                        s.instances[i].extents.iter_mut().for_each(|(_, n)| n.truncate(1));
                    });
                }
                for (d, &n) in own.iter().enumerate() {
                    for less in [1, n / 2, n.saturating_sub(1)] {
                        if less > 0 && less < n {
                            push(&|s| s.instances[i].extents[a].1[d] = less);
                        }
                    }
                }
            }
        }
        // An axis that nothing names.
        let named: BTreeSet<&str> =
            self.inputs.iter().chain(&self.outputs).flat_map(|(_, a)| a).map(String::as_str).collect();
        let text: String = self.steps.iter().map(|s| s.text() + "\n").collect();
        for a in self.instances.iter().flat_map(|i| &i.extents).map(|(a, _)| a.clone()).collect::<BTreeSet<_>>() {
            if !named.contains(a.as_str()) && !text.contains(&a) {
                push(&|s| s.instances.iter_mut().for_each(|i| i.extents.retain(|(b, _)| *b != a)));
            }
        }
        all
    }
}

/// The name in `name[i, j]`.
fn head(target: &str) -> &str {
    target.split('[').next().unwrap_or(target).trim()
}

impl Document {
    /// The texts, one a spec, divided by lines that name their files.
    pub fn text(&self) -> String {
        self.0.iter().map(|s| format!("# {}.yaml\n{}", s.name, s.text())).collect()
    }
    pub fn size(&self) -> usize {
        self.0.iter().map(Spec::size).sum()
    }
    /// The same with the longest extent of each instance halved.
    #[must_use]
    pub fn halved(&self) -> Document {
        let mut specs = self.0.clone();
        for instance in specs.iter_mut().flat_map(|s| &mut s.instances) {
            let extents = instance.extents.iter_mut().flat_map(|(_, n)| n);
            if let Some(longest) = extents.max() {
                *longest = longest.div_ceil(2);
            }
        }
        Document(specs)
    }
    /// The same under other names of its specs.
    #[must_use]
    pub fn renamed(&self, suffix: &str) -> Document {
        let mut specs = self.0.clone();
        for spec in &self.0 {
            let (old, new) = (format!("{}(", spec.name), format!("{}{suffix}(", spec.name));
            for step in specs.iter_mut().flat_map(|s| &mut s.steps) {
                if let Value::Leaf(text) = &mut step.value {
                    *text = text.replace(&old, &new);
                }
            }
        }
        specs.iter_mut().for_each(|s| s.name.push_str(suffix));
        Document(specs)
    }
    /// Each with one thing less, the smallest first.
    pub fn smaller(&self) -> Vec<Document> {
        let mut all = Vec::new();
        if self.0.len() > 1 {
            for n in 0..self.0.len() {
                let mut specs = self.0.clone();
                specs.remove(n);
                all.push(Document(specs));
            }
        }
        for (n, spec) in self.0.iter().enumerate() {
            for less in spec.smaller() {
                let mut specs = self.0.clone();
                specs[n] = less;
                all.push(Document(specs));
            }
        }
        let size = self.size();
        all.retain(|d| d.size() < size && d.0.iter().any(|s| !s.instances.is_empty()));
        all.sort_by_key(Document::size);
        all.dedup();
        all
    }
}

/// Words that generated code uses, or might: as names of tensors, axes, instances.
const WORDS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "q",
    "r",
    "t",
    "v",
    "w",
    "x",
    "y",
    "z",
    "acc",
    "adds",
    "alone",
    "area",
    "array",
    "at",
    "beside",
    "bits",
    "block",
    "body",
    "bool",
    "bytes",
    "call",
    "clone",
    "common",
    "copy",
    "core",
    "cotangent_",
    "default",
    "dispatch",
    "done",
    "dot",
    "element",
    "err",
    "f32",
    "f64",
    "flag",
    "flat",
    "fold",
    "from",
    "function",
    "get",
    "give",
    "index",
    "init",
    "into",
    "isa",
    "iter",
    "kernel",
    "lane",
    "lanes",
    "last",
    "left",
    "len",
    "load",
    "machine",
    "main",
    "map",
    "math",
    "mask",
    "max_",
    "more",
    "name",
    "native",
    "nd",
    "next",
    "none",
    "number",
    "ok",
    "one",
    "option",
    "out",
    "own",
    "pack",
    "panel",
    "part",
    "place",
    "places",
    "ptr",
    "read",
    "real",
    "rest",
    "rest_",
    "result",
    "right",
    "row",
    "rows",
    "run",
    "s",
    "s_",
    "scalar",
    "scalars",
    "scratch",
    "segment",
    "self_",
    "set",
    "sin_",
    "size",
    "skip",
    "slice",
    "some",
    "splat",
    "stage",
    "stages",
    "stage_0",
    "std",
    "step",
    "store",
    "str_",
    "sum_",
    "swap",
    "take",
    "tensor",
    "tile",
    "to",
    "token",
    "total",
    "trial",
    "turn",
    "turned",
    "types",
    "u8",
    "unit",
    "usize",
    "value",
    "vec",
    "width",
    "workspace",
    "workspace_",
    "write",
    "x_0",
    "zero",
    "either",
    "parameters",
    "forward",
    "jvp",
    "vjp",
    "hvp",
    "hessian",
    "jacobian",
    "vjp_store",
    "value_and_grad",
    "gradient",
    "direction",
    "body0",
    "fma",
    "mul_add",
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "exp",
    "sin",
    "tanh",
    "log",
    "sqrt",
    "i",
    "j",
    "o",
    "u",
    "b0",
    "b1",
    "a0",
    "t0",
    "l0",
    "r0",
    "p0",
    "s0",
    "v0",
    "i0",
    "j0",
    "i_0",
    "j_1",
    "x0",
    "x1",
    "q0",
    "q1",
];

/// Extents around the widths of vectors and tiles.
const WIDTHS: &[usize] = &[
    2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 49, 63, 64, 65, 66, 70, 96, 100, 128,
    130,
];

/// What specs shall be like.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    /// Small extents and no words that collide: what interpreters run in a moment. Slopes exist.
    Small,
    /// Everything.
    Full,
}

#[derive(Clone)]
struct Axis {
    name: String,
    index: String,
    /// Recurrences run along it.
    turns: bool,
}

type Scope = Vec<(String, usize)>;

struct Generator {
    random: Sampler,
    style: Style,
    axes: Vec<Axis>,
    /// Positions meet other axes, so all have one rank.
    mixed: bool,
    /// Tensors that may be read, with their axes.
    readable: Vec<(String, Vec<usize>)>,
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

    fn below(&mut self, n: usize) -> usize {
        (self.random.bits() % n as u64) as usize
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A name that nothing has.
    fn name(&mut self, plain: &str) -> String {
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
        let turns = self.style == Style::Full && self.below(4) == 0;
        let count = 3 + usize::from(turns);
        for n in 0..count {
            let plain = ["i", "j", "k", "t"][n];
            let mut index = self.name(plain);
            // An axis is a letter and letters and digits.
            while index.contains('_') {
                index = self.name(plain);
            }
            let name = index[..1].to_uppercase() + &index[1..];
            self.axes.push(Axis { name, index, turns: n == 3 });
        }
    }

    /// A position of an axis: mostly its own index, now and then moved, spread, mirrored or another's.
    fn position(&mut self, axis: usize, scope: &Scope) -> String {
        let own: Scope = scope.iter().filter(|(_, a)| *a == axis).cloned().collect();
        let foreign: Scope = scope.iter().filter(|(_, a)| !self.axes[*a].turns).cloned().collect();
        let still = self.axes[axis].turns || !self.mixed || foreign.is_empty();
        let Some((mut index, _)) = (!own.is_empty()).then(|| self.pick(&own)) else {
            return if still { "0".into() } else { self.pick(&foreign).0 };
        };
        if !still && self.below(8) == 0 {
            index = self.pick(&foreign).0;
        }
        let a = self.axes[axis].name.clone();
        match self.below(28) {
            0 => format!("{index} + 1"),
            1 => format!("{index} - 1"),
            2 => format!("2*{index}"),
            3 => format!("{a} - 1 - {index}"),
            4 => format!("{index} / 2"),
            5 if !still => format!("{index} + {} - 1", self.pick(&foreign).0),
            6 if !still => format!("2*{index} + {} - 1", self.pick(&foreign).0),
            7 if !still => {
                let (stride, dilation) = (self.pick(&["2", "3", "-2", "4"]), self.pick(&["2*", "3*", "-", "6*"]));
                let other = self.pick(&foreign).0;
                format!("{stride}*{index} + {dilation}{other} + {}", self.pick(&["0", "1", "-2", "3"]))
            }
            8 => format!("({index} - 1) / 3"),
            _ => index,
        }
    }

    fn read(&mut self, scope: &Scope) -> Value {
        let readable = self.readable.clone();
        // Mostly of axes that are there.
        let within = |axes: &[usize]| axes.iter().all(|a| scope.iter().any(|(_, b)| a == b));
        let near: Vec<_> = readable.iter().filter(|(_, axes)| within(axes)).cloned().collect();
        let (name, axes) = if !near.is_empty() && self.below(5) > 0 { self.pick(&near) } else { self.pick(&readable) };
        if axes.is_empty() {
            return leaf(name);
        }
        if scope.is_empty() {
            let scalars: Vec<_> = readable.into_iter().filter(|(_, axes)| axes.is_empty()).collect();
            return leaf(if scalars.is_empty() { "0.75".to_owned() } else { self.pick(&scalars).0 });
        }
        // As often as not a plain access: that is what tiles are made of.
        let plain = self.below(3) > 0 && within(&axes);
        let positions: Vec<_> = axes
            .iter()
            .map(|a| {
                let own: Scope = scope.iter().filter(|(_, b)| a == b).cloned().collect();
                if plain { self.pick(&own).0 } else { self.position(*a, scope) }
            })
            .collect();
        leaf(format!("{name}[{}]", positions.join(", ")))
    }

    fn value(&mut self, scope: &Scope, depth: usize) -> Value {
        if depth == 0 {
            return if self.below(8) == 0 { leaf(self.pick(&["0.5", "2", "-1.25", "3"])) } else { self.read(scope) };
        }
        let d = depth - 1;
        match self.below(20) {
            0 | 1 => node("(# + #)", [self.value(scope, d), self.value(scope, d)]),
            2 | 3 => node("(# - #)", [self.value(scope, d), self.value(scope, d)]),
            4..=6 => node("(# * #)", [self.value(scope, d), self.value(scope, d)]),
            7 | 8 => self.function(scope, d),
            9 => {
                // Never near zero below the line.
                let below = self.pick(&[
                    "(2 + tanh(#))",
                    "(1.5 + #^2)",
                    "(3 - sin(#))",
                    "(0.5 + exp(#))",
                    "sqrt(1 + #^2)",
                    "-(1 + abs(#))",
                ]);
                let below = node(below, [self.value(scope, d.min(1))]);
                node("(# / #)", [self.value(scope, d), below])
            }
            10 => {
                let f = self.pick(&["max(#, #)", "min(#, #)", "atan2(#, 3 + tanh(#))", "pow(1.5 + tanh(#), tanh(#))"]);
                node(f, [self.value(scope, d), self.value(scope, d)])
            }
            11 | 12 => node("where(#, #, #)", [self.cond(scope, d), self.value(scope, d), self.value(scope, d)]),
            13..=17 => self.reduction(scope, d),
            _ => self.read(scope),
        }
    }

    fn function(&mut self, scope: &Scope, d: usize) -> Value {
        let smooth = [
            "tanh(#)",
            "sin(#)",
            "cos(#)",
            "neg(#)",
            "-#",
            "exp(-#)",
            "exp(tanh(#))",
            "log(1 + #^2)",
            "sqrt(1 + #^2)",
            "logistic(#)",
            "softplus(#)",
            "erf(#)",
            "atan(#)",
            "rsqrt(2 + #^2)",
            "#^2",
            "#^3",
            "cbrt(3 + tanh(#))",
            "sin(cos(#))",
            "sin(sin(#))",
            "tan(tanh(#))",
            "(2 + sin(#))^-1",
            "(2 + cos(#))^0.5",
            "expm1(tanh(#))",
            "log1p(#^2)",
            "asinh(#)",
            "acosh(2 + #^2)",
            "atanh(tanh(#) / 2)",
            "sinh(tanh(#))",
            "cosh(tanh(#))",
            "asin(sin(#) / 2)",
            "acos(cos(#) / 2)",
            "cos(-#)",
            "-sin(-#)",
            "1 / (1 + exp(-#))",
            "abs(#)",
            "(abs(#) + 1)^1.5",
        ];
        // And every other function that has a slope everywhere, where it has values.
        let mut all = smooth.map(str::to_owned).to_vec();
        for row in Unary::ALL.iter().map(|f| f.row()).filter(|row| !row.bends.breaks()) {
            if !smooth.iter().any(|f| f.contains(&format!("{}(", row.name))) {
                let (low, high) = row.samples;
                all.push(format!("{}({} + {} * tanh(#))", row.name, 0.5 * (low + high), 0.5 * (high - low)));
            }
        }
        let f = self.pick(&all);
        node(&format!("({f})"), [self.value(scope, d)])
    }

    fn reduction(&mut self, scope: &Scope, d: usize) -> Value {
        let count = if self.below(5) == 0 { 2 } else { 1 };
        let mut inner = scope.clone();
        let mut binders = Vec::new();
        for _ in 0..count {
            let axis = self.below(self.axes.len());
            let index = self.name("q");
            binders.push(format!("{index} in {}", self.axes[axis].name));
            inner.push((index, axis));
        }
        let kind = self.pick(&["sum", "sum", "sum", "sum", "sum", "mean", "prod", "max", "min"]);
        let body = match (kind, self.below(3)) {
            // What fills tiles: a product.
            ("sum", 0) => node("# * #", [self.value(&inner, d.min(1)), self.value(&inner, d.min(1))]),
            // Products of many would be huge or nothing.
            ("prod", _) => node("(1 + # / 16)", [node("tanh(#)", [self.value(&inner, d)])]),
            _ => self.value(&inner, d),
        };
        node(&format!("({kind}({}) #)", binders.join(", ")), [body])
    }

    fn cond(&mut self, scope: &Scope, depth: usize) -> Value {
        let read = self.read(scope);
        let same: Vec<(String, String)> = scope
            .iter()
            .flat_map(|(i, a)| scope.iter().map(move |(j, b)| (i, a, j, b)))
            .filter(|(i, a, j, b)| i != j && (a == b || self.mixed && !self.axes[**a].turns && !self.axes[**b].turns))
            .map(|(i, _, j, _)| (i.clone(), j.clone()))
            .collect();
        match self.below(8) {
            0 if read.text().contains('[') => node("inside(#)", [read]),
            1 if !same.is_empty() => {
                let (i, j) = self.pick(&same);
                leaf(format!("{i} {} {j}", self.pick(&["<=", "<", "==", "!=", ">"])))
            }
            2 if !scope.is_empty() => leaf(format!("{} {} 1", self.pick(scope).0, self.pick(&["<=", "==", ">", "!="]))),
            3 if depth > 0 => node("# and #", [self.cond(scope, depth - 1), self.cond(scope, 0)]),
            4 if depth > 0 => node("(# or #)", [self.cond(scope, depth - 1), self.cond(scope, 0)]),
            5 if depth > 0 => node("not (#)", [self.cond(scope, depth - 1)]),
            6 => node("# < #", [read, self.read(scope)]),
            _ => node("# > 0.25", [read]),
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

    /// A step for a local or an output: a formula of any kind, or one of those that schedules are made for.
    fn formula(&mut self, scope: &Scope, local: bool) -> Value {
        let depth = if self.style == Style::Small { 3 } else { 1 + self.below(3) };
        match self.below(10) {
            // A product with something around each factor.
            0..=2 if !scope.is_empty() => {
                let axis = self.below(3);
                let index = self.name("q");
                let mut inner = scope.clone();
                inner.push((index.clone(), axis));
                let body = [self.touching(&inner, &index, 1), self.touching(&inner, &index, 1)];
                let sum = node(&format!("(sum({index} in {}) # * #)", self.axes[axis].name), body);
                match self.below(3) {
                    0 => node("max(#, 0)", [sum]),
                    1 => node("(# + #)", [sum, self.value(scope, 1)]),
                    _ => sum,
                }
            }
            // Functions of what moves with every index, under a sum: nothing of it can be computed before.
            5 if !scope.is_empty() => {
                let axis = self.below(3);
                let index = self.name("q");
                let mut inner = scope.clone();
                inner.push((index.clone(), axis));
                let pair = self.pick(&["# * #", "# - #", "# + #", "# / (2 + #^2)", "# - # / 2", "-# * #"]);
                let pair = node(pair, [self.touching(&inner, &index, 0), self.touching(&inner, &index, 0)]);
                let around = self.pick(&[
                    "exp(-(#)^2)",
                    "tanh(-(#))",
                    "logistic(-(#))",
                    "-exp(-abs(#))",
                    "sqrt(1 + (#)^2)",
                    "sin(-(#))",
                    "1 / (1 + exp(-(#)))",
                    "max(-(#), 0)",
                    "log(1 + (#)^2) / 3",
                    "(#)^2",
                    "(1.5 - tanh(#)) * (#)",
                    "softplus(-(#))",
                ]);
                let kids = vec![pair; around.matches('#').count()];
                let kind = self.pick(&["sum", "sum", "sum", "mean", "max"]);
                node(&format!("({kind}({index} in {}) #)", self.axes[axis].name), [node(around, kids)])
            }
            // Elementwise steps behind what is there.
            3 | 4 => {
                let read = self.plain(scope);
                match self.below(4) {
                    0 => node("max(#, 0)", [read]),
                    1 => {
                        node("where(# < #, 2 * #, #)", [read.clone(), self.value(scope, 0), read, self.value(scope, 0)])
                    }
                    2 => node("(# + #)", [read, self.value(scope, 0)]),
                    _ => node("(# * # - #)", [read.clone(), self.value(scope, 0), read]),
                }
            }
            _ if local => self.value(scope, depth),
            _ => self.value(scope, depth.max(2)),
        }
    }

    /// A read of a tensor at the plain indices of the scope, the last made first.
    fn plain(&mut self, scope: &Scope) -> Value {
        let fits = |axes: &[usize]| !axes.is_empty() && axes.iter().all(|a| scope.iter().any(|(_, b)| a == b));
        let all: Vec<_> = self.readable.iter().filter(|(_, axes)| fits(axes)).cloned().collect();
        let Some((name, axes)) = all.last().cloned() else { return self.value(scope, 1) };
        let (name, axes) = if self.below(3) == 0 { self.pick(&all) } else { (name, axes) };
        let index = |a: &usize| scope.iter().find(|(_, b)| a == b).map(|(i, _)| i.clone());
        leaf(format!("{name}[{}]", axes.iter().filter_map(index).collect::<Vec<_>>().join(", ")))
    }

    /// A factor that moves with an index, where a tensor does.
    fn touching(&mut self, scope: &Scope, index: &str, depth: usize) -> Value {
        for _ in 0..6 {
            let value = match self.below(3) {
                0 => self.value(scope, depth),
                _ => self.read(scope),
            };
            if value.text().contains(index) {
                return if self.below(3) == 0 {
                    node(self.pick(&["exp(-#)", "sin(#)", "tanh(#)", "(1 - #)", "-#", "(# / 2)"]), [value])
                } else {
                    value
                };
            }
        }
        self.value(scope, depth)
    }

    /// A step along the axis of turns, which reads itself; and perhaps one more in the same recurrence.
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
            // A sum over what the turn before wrote.
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
                (4, [a, ..]) if !twice && !self.axes[*a].turns => {
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
                () if self.axes[a].turns => 1,
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
