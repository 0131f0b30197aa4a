//! The interpreters: takes the specs that the build script wrote, gives for each kernel what the compiler's three
//! interpreters make of it, in the buffers of the harness.

use crate::support::Buffers;
use cotangent_build::Options;
use cotangent_build::certify::Certified;
use cotangent_build::compiled::Compiled;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::bind::{Binding, ParamValue};
use cotangent_build::index::eval::Interpreter;
use cotangent_build::index::{Op, ParamKind, Role, TensorId};
use cotangent_build::nest::machine::Machine;
use cotangent_build::pipeline;
use cotangent_build::source::Sources;
use cotangent_build::{nest, plain};
use std::collections::BTreeMap;
use std::path::Path;

/// Every op of the specs, certified.
pub fn ops() -> Vec<Certified> {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let folder = Path::new(concat!(env!("OUT_DIR"), "/specs"));
    let ids = cotangent_build::load(folder, &mut sources, &mut out);
    let ops = ids.into_iter().filter_map(|id| pipeline::certified(id, &sources, &mut out)).collect();
    assert!(!out.has_errors(), "{}", out.render(&sources));
    ops
}

/// What kernels mean, by op and name.
pub type Meanings<'a> = BTreeMap<(String, String), Meaning<'a>>;

/// Every instance of the ops.
pub fn meanings(ops: &[Certified]) -> Meanings<'_> {
    let mut all = BTreeMap::new();
    for c in ops {
        let mut out = Diagnostics::default();
        let kernels = pipeline::kernels(c, &Options::default(), &mut out);
        assert!(!out.has_errors(), "{} is built, so its instances are right", c.op.name);
        for compiled in pipeline::schedule(c, kernels, &Options::default(), &mut out) {
            let binding = binding(&compiled);
            all.insert((c.op.name.clone(), compiled.kernel.name.clone()), Meaning { op: &c.op, binding, compiled });
        }
    }
    all
}

fn binding(c: &Compiled) -> Binding {
    let op = &c.certified.op;
    let extents = |n: usize| c.kernel.extents[n].iter().map(|e| *e as i64).collect();
    let given: Vec<Option<Vec<i64>>> =
        op.axes.iter().enumerate().map(|(n, a)| a.size.is_none().then(|| extents(n))).collect();
    let params = op.params.iter().map(|p| {
        let stated = c.instance.values.iter().find(|(key, _)| key.value == p.name);
        let (_, numbers) = stated.unwrap_or_else(|| panic!("{}::{} has no {}", op.name, c.kernel.name, p.name));
        let (list, values) = (numbers.value.list, &numbers.value.values);
        let whole = || values.iter().map(|v| v.value as i64).collect::<Vec<_>>();
        match p.kind {
            ParamKind::Real => ParamValue::Real(values[0].value),
            ParamKind::Int => ParamValue::Int(whole()[0]),
            ParamKind::PerDim(_) if list => ParamValue::Ints(whole()),
            ParamKind::PerDim(a) => ParamValue::Ints(vec![whole()[0]; c.kernel.extents[a.0].len()]),
        }
    });
    Binding::new(op, &given, params.collect()).expect("the instance is built, so it binds")
}

/// One kernel to the interpreters.
pub struct Meaning<'a> {
    op: &'a Op,
    binding: Binding,
    compiled: Compiled<'a>,
}

impl Meaning<'_> {
    /// A tensor in the declared order, in storage order.
    pub fn stored(&self, name: &str, declared: &[f64]) -> Vec<f64> {
        let mut stored = vec![f64::NAN; declared.len()];
        self.places(name).into_iter().zip(declared).for_each(|(at, v)| stored[at] = *v);
        stored
    }

    fn declared(&self, name: &str, stored: &[f64]) -> Vec<f64> {
        self.places(name).into_iter().map(|at| stored[at]).collect()
    }

    /// The place in storage of each element in the declared order.
    fn places(&self, name: &str) -> Vec<usize> {
        let tensor = self.compiled.kernel.tensor(self.id(name));
        // Of a declared dimension: its extent, and how far apart its neighbours are stored.
        let dims: Vec<(usize, usize)> =
            tensor.order.iter().map(|d| (tensor.shape[*d], tensor.shape[d + 1..].iter().product())).collect();
        dims.iter().fold(vec![0], |places, (extent, apart)| {
            places.iter().flat_map(|p| (0..*extent).map(move |n| p + n * apart)).collect()
        })
    }

    fn id(&self, name: &str) -> TensorId {
        self.op.find(name).unwrap_or_else(|| panic!("{} has no tensor {name}", self.op.name))
    }

    /// Values, tangents and cotangents by the index IR: adds the outputs, `y_dot` and `x_bar` to inputs, `x_dot` and
    /// `y_bar`.
    pub fn index(&self, b: &mut Buffers) {
        let mut machine = Interpreter::new(self.op, &self.binding);
        let interface: Vec<(TensorId, String)> = self.interface();
        for (t, name) in &interface {
            let given = match self.op.tensor(*t).role {
                Role::Input => true,
                Role::Tangent(of) => self.op.tensor(of).role == Role::Input,
                Role::Cotangent(of) => self.op.tensor(of).role == Role::Output,
                _ => false,
            };
            if given {
                machine.tensors.insert(*t, self.declared(name, &b[name]));
            }
        }
        for rule in [&self.op.forward, &self.op.tangent.stmts, &self.op.adjoint.stmts] {
            machine.run(rule).unwrap_or_else(|e| panic!("{}: element {} is written twice", self.op.name, e.element));
        }
        for (t, name) in &interface {
            // What no rule writes is zero: an input without a derivative.
            let zeros = || vec![0.0; self.binding.elements(self.op, *t)];
            let value = machine.tensors.remove(t).unwrap_or_else(zeros);
            b.insert(name.clone(), self.stored(name, &value));
        }
    }

    /// Inputs and outputs, their tangents and cotangents.
    fn interface(&self) -> Vec<(TensorId, String)> {
        let outer = |t: TensorId| matches!(self.op.tensor(t).role, Role::Input | Role::Output);
        (0..self.op.tensors.len())
            .map(TensorId)
            .filter(|t| match self.op.tensor(*t).role {
                Role::Tangent(of) | Role::Cotangent(of) => outer(of),
                _ => outer(*t),
            })
            .map(|t| (t, self.op.tensor(t).name.clone()))
            .collect()
    }

    /// A function by the plain IR.
    pub fn plain(&self, function: &str, b: &mut Buffers) {
        let k = &self.compiled.kernel;
        self.parts(function, b, |n, tensors| plain::eval::run(k, &k.functions[n], tensors));
    }

    /// A function by its loop nest for a class of machines.
    pub fn nest(&self, machine: &Machine, function: &str, b: &mut Buffers) {
        let c = &self.compiled;
        self.parts(function, b, |n, tensors| {
            let mut nests = c.nests[n].iter();
            let nest = nests.find(|n| n.machines.contains(&machine)).expect("every class of machines has its nest");
            nest::eval::run(&c.kernel, nest, tensors);
        });
    }

    /// Runs a function by its number: itself, or the stages that it is cut into, one after another; what these hand on
    /// has no value before.
    fn parts(&self, function: &str, b: &mut Buffers, run: impl Fn(usize, &mut BTreeMap<TensorId, Vec<f64>>)) {
        let k = &self.compiled.kernel;
        let at = k.functions.iter().position(|f| f.name == function).expect("functions of all stages are the same");
        let f = &k.functions[at];
        self.on(&[&f.reads, &f.writes], b, |tensors| {
            for n in self.compiled.plans[at].parts(at) {
                let part = &k.functions[n];
                for t in part.reads.iter().chain(&part.writes) {
                    tensors.entry(*t).or_insert_with(|| vec![f64::NAN; k.tensor(*t).elements()]);
                }
                run(n, tensors);
            }
        });
    }

    fn on(&self, arguments: &[&Vec<TensorId>], b: &mut Buffers, run: impl FnOnce(&mut BTreeMap<TensorId, Vec<f64>>)) {
        let name = |t: &TensorId| &self.compiled.kernel.tensor(*t).name;
        let arguments: Vec<TensorId> = arguments.iter().copied().flatten().copied().collect();
        let mut tensors = arguments.iter().map(|t| (*t, b[name(t)].clone())).collect();
        run(&mut tensors);
        for t in &arguments {
            b.insert(name(t).clone(), tensors.remove(t).expect("arguments stay"));
        }
    }
}
