//! Specs made at random: takes a seed, gives documents of one or two specs as trees, their text, and smaller ones like
//! them. A spec need not be right (a tensor may be read before its last write); most are.

mod formulas;
mod generator;
mod words;

pub use generator::{Style, document};

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
