//! Instances: takes what an instance states, gives the binding of the op to numbers and the storage of every tensor;
//! what is missing, unknown or out of range is reported at the instance.

use super::*;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::bind::{BindError, Binding, ParamValue, Unusable};
use crate::index::{self, Affine, AxisId, Op, ParamKind};
use crate::source::At;
use crate::types::{InstanceSpec, Numbers};
use std::collections::{BTreeMap, BTreeSet};

/// The numbers of an instance bound to the op. Errors go to `out`.
pub fn bind(op: &Op, instance: &InstanceSpec, out: &mut Diagnostics) -> Option<Binding> {
    let errors = out.errors();
    let mut r = Reader::new(op, instance, out);
    r.read();
    r.missing_params();
    r.divisors();
    r.spread();
    if r.out.errors() > errors {
        // Still say which sizes are missing.
        r.missing_sizes();
        return None;
    }
    let params: Vec<ParamValue> = std::mem::take(&mut r.params).into_iter().flatten().collect();
    let binding = match Binding::new(op, &r.given, params) {
        Ok(binding) => binding,
        Err(problems) => {
            if problems.iter().any(|p| matches!(p, BindError::Missing(_))) {
                r.missing_sizes();
            }
            problems.into_iter().for_each(|p| r.report(p));
            return None;
        }
    };
    r.restated(&binding);
    r.unusable(&binding);
    (r.out.errors() == errors).then_some(binding)
}

/// Dimensions of one axis.
const MOST_DIMENSIONS: usize = 64;

/// What an instance states, key by key.
struct Reader<'a> {
    op: &'a Op,
    instance: &'a InstanceSpec,
    out: &'a mut Diagnostics,
    /// By axis.
    given: Vec<Option<Vec<i64>>>,
    /// By parameter.
    params: Vec<Option<ParamValue>>,
    /// Where each axis, then each parameter, is stated.
    spans: Vec<Option<Span>>,
    /// Parameters per dimension that are stated as a plain number.
    plain: Vec<(usize, AxisId)>,
}

impl<'a> Reader<'a> {
    fn new(op: &'a Op, instance: &'a InstanceSpec, out: &'a mut Diagnostics) -> Self {
        let (axes, params) = (op.axes.len(), op.params.len());
        Reader {
            op,
            instance,
            out,
            given: vec![None; axes],
            params: vec![None; params],
            spans: vec![None; axes + params],
            plain: Vec::new(),
        }
    }

    fn rank(&self, a: AxisId) -> usize {
        self.given[a.0].as_ref().map_or(0, Vec::len)
    }

    fn param_span(&mut self, p: usize) -> &mut Option<Span> {
        &mut self.spans[self.op.axes.len() + p]
    }

    fn read(&mut self) {
        for (key, numbers) in &self.instance.values {
            if let Some(a) = self.op.axes.iter().position(|a| a.name == key.value) {
                self.given[a] = self.whole(key, numbers, Code::BadSize);
                self.spans[a] = Some(numbers.span);
            } else if let Some(p) = self.op.params.iter().position(|p| p.name == key.value) {
                *self.param_span(p) = Some(numbers.span);
                self.param(p, key, numbers);
            } else {
                self.unknown(key, numbers.span);
            }
        }
    }

    fn whole(&mut self, key: &At<String>, numbers: &Numbers, code: Code) -> Option<Vec<i64>> {
        let mut all = Vec::new();
        if let Some(v) = numbers.values.get(MOST_DIMENSIONS) {
            let message = format!("`{}` has too many dimensions: {}", key.value, numbers.values.len());
            let label = format!("from here on more than {MOST_DIMENSIONS}");
            self.out.push(Diagnostic::error(Code::TooLarge, v.span, message, label));
            return None;
        }
        for v in &numbers.values {
            if v.value.abs() > 2f64.powi(40) {
                let message = format!("`{}` is too large", key.value);
                self.out.push(Diagnostic::error(code, v.span, message, "beyond 2^40"));
                return None;
            }
            if v.value.fract() != 0.0 {
                let message = format!("`{}` takes whole numbers", key.value);
                self.out.push(Diagnostic::error(code, v.span, message, "not a whole number"));
                return None;
            }
            all.push(v.value as i64);
        }
        Some(all)
    }

    fn param(&mut self, p: usize, key: &At<String>, numbers: &At<Numbers>) {
        let single = numbers.value.values.first().filter(|_| !numbers.value.list);
        self.params[p] = match self.op.params[p].kind {
            ParamKind::PerDim(a) => {
                if single.is_some() {
                    self.plain.push((p, a));
                }
                self.whole(key, numbers, Code::BadParam).map(ParamValue::Ints)
            }
            ParamKind::Int => match (single, self.whole(key, numbers, Code::BadParam)) {
                (Some(_), Some(v)) => Some(ParamValue::Int(v[0])),
                _ => None,
            },
            ParamKind::Real => single.map(|v| ParamValue::Real(v.value)),
        };
        if self.params[p].is_none() && numbers.value.list {
            let message = format!("`{}` is one number", key.value);
            self.out.push(Diagnostic::error(Code::BadParam, numbers.span, message, "a list"));
        }
    }

    fn unknown(&mut self, key: &At<String>, stated: Span) {
        let op = self.op;
        let axes = op.axes.iter().filter(|a| a.size.is_none()).map(|a| a.name.as_str());
        let names: Vec<&str> = axes.chain(op.params.iter().map(|p| p.name.as_str())).collect();
        // What stands there already is not what was meant.
        let open = names.iter().copied().filter(|n| !self.instance.values.iter().any(|(key, _)| key.value == *n));
        let near = crate::diagnostic::did_you_mean(&key.value, open);
        // What is misspelt is not missing too.
        let slot = op.axes.iter().position(|a| Some(&a.name) == near.as_ref());
        let slot = slot.or(op.params.iter().position(|p| Some(&p.name) == near.as_ref()).map(|p| op.axes.len() + p));
        if let Some(slot) = slot {
            self.spans[slot] = Some(stated);
        }
        let all = || names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let message = format!("`{}` is neither an axis nor a parameter of `{}`", key.value, op.name);
        let d = Diagnostic::error(Code::UnknownInstanceKey, key.span, message, "unknown key");
        self.out.push(match near {
            Some(m) => d.help(format!("did you mean `{m}`?")).suggest(key.span, m),
            None => d.help(format!("an instance states `name`, `dtype`, `layout`, `schedule` and {}", all())),
        });
    }

    fn missing_params(&mut self) {
        for (p, param) in self.op.params.iter().enumerate() {
            if self.params[p].is_some() || self.param_span(p).is_some() {
                continue;
            }
            let name = &param.name;
            let message = format!("instance `{}` does not state the parameter `{name}`", self.instance.name.value);
            let d = Diagnostic::error(Code::MissingSize, self.instance.name.span, message, "incomplete");
            let example = match param.kind {
                ParamKind::PerDim(a) => {
                    let axis = &self.op.axis(a).name;
                    format!("state it, as in `{name}: 1` (or a list, one number for each dimension of {axis})")
                }
                ParamKind::Int => format!("state it, as in `{name}: 1`"),
                ParamKind::Real => format!("state it, as in `{name}: 0.5`"),
            };
            self.out.push(d.label(param.span, "declared here").help(example));
        }
    }

    fn missing_sizes(&mut self) {
        let open = |a: &usize| self.op.axes[*a].size.is_none() && self.given[*a].is_none() && self.spans[*a].is_none();
        let names: Vec<&index::Axis> = (0..self.op.axes.len()).filter(open).map(|a| &self.op.axes[a]).collect();
        let Some(first) = names.first() else { return };
        let list = names.iter().map(|a| format!("`{}`", a.name)).collect::<Vec<_>>().join(", ");
        let d = Diagnostic::error(
            Code::MissingSize,
            self.instance.name.span,
            format!("instance `{}` does not state the size of {list}", self.instance.name.value),
            "incomplete",
        );
        let mut d = d;
        for axis in &names {
            d = d.label(axis.span, "an axis of the op");
        }
        let example = names.iter().map(|a| format!("{}: 8", a.name)).collect::<Vec<_>>().join(", ");
        let s = if first.name == names[names.len() - 1].name {
            "a list for several dimensions"
        } else {
            "each a number, or a list for several dimensions"
        };
        self.out.push(d.help(format!(
            "state {}, as in `{example}` ({s}, `[]` for none)",
            if names.len() == 1 { "it" } else { "them" }
        )));
    }

    /// Parameters that divide are above zero.
    fn divisors(&mut self) {
        for p in divisors(self.op) {
            let name = &self.op.params[p.0].name;
            let numbers = self.instance.values.iter().find(|(key, _)| key.value == *name);
            let not_above = |n: &&At<f64>| n.value < 1.0 && n.value.fract() == 0.0;
            if let Some(bad) = numbers.and_then(|(_, numbers)| numbers.value.values.iter().find(not_above)) {
                let message = format!("`{name}` divides, so it is above zero");
                self.out.push(Diagnostic::error(Code::BadParam, bad.span, message, "not above zero"));
            }
        }
    }

    /// A plain number serves every dimension; its axis knows how many there are.
    fn spread(&mut self) {
        for (p, a) in &self.plain {
            let class = self.op.axis(*a).rank_class;
            let same = self.op.axes.iter().zip(&self.given).filter(|(x, _)| x.rank_class == class);
            let rank = same.into_iter().find_map(|(_, g)| g.as_ref().map(Vec::len));
            if let (Some(ParamValue::Ints(v)), Some(rank)) = (&mut self.params[*p], rank) {
                *v = vec![v[0]; rank];
            }
        }
    }

    fn report(&mut self, problem: BindError) {
        let (op, at) = (self.op, self.instance.name.span);
        match problem {
            // Told for all axes at once.
            BindError::Missing(_) => {}
            BindError::Ranks(a, b) => {
                let (na, nb) = (&op.axis(a).name, &op.axis(b).name);
                let message = format!("`{na}` and `{nb}` meet in an index and must have the same number of dimensions");
                let span = self.spans[b.0].unwrap_or(at);
                let mut d = Diagnostic::error(Code::RankMismatch, span, message, format!("{} here", self.rank(b)));
                if let Some(first) = self.spans[a.0] {
                    d = d.label(first, format!("{} here", self.rank(a)));
                }
                self.out.push(d);
            }
            BindError::ParamRank(p, a) => {
                let (param, axis) = (&op.params[p.0].name, &op.axis(a).name);
                let message = format!("`{param}` takes one number for each dimension of `{axis}`");
                let span = self.param_span(p.0).unwrap_or(at);
                let mut d = Diagnostic::error(Code::RankMismatch, span, message, "another number of dimensions");
                if let Some(s) = self.spans[a.0] {
                    d = d.label(s, format!("{} here", self.rank(a)));
                }
                self.out.push(d.help("a plain number serves every dimension"));
            }
            BindError::Extent(a, dim, value) => {
                let what = value.map_or_else(|| "does not fit 64 bits".to_string(), |v| format!("is {v}"));
                self.bad_extent(a, dim, value, &what);
            }
            BindError::Zero(a, dim) => self.bad_extent(a, dim, None, "is a division by zero"),
            BindError::Iterations(a, place) => {
                let axis = &op.axis(a).name;
                let message = format!("a recurrence runs along `{axis}`, which has one dimension then");
                let span = self.spans[a.0].unwrap_or(at);
                let d = Diagnostic::error(Code::RankMismatch, span, message, format!("{} here", self.rank(a)));
                self.out.push(d.label(place, "the recurrence"));
            }
            BindError::Distance(t, place, n) => {
                let name = &op.tensor(t).name;
                let what = if n == 0 { "in the same iteration".to_string() } else { format!("{} further on", n.abs()) };
                let message = format!("a recurrence of this instance reads `{name}` {what}, before it is written");
                let d = Diagnostic::error(Code::BadParam, at, message, "at the numbers of this instance");
                self.out.push(d.label(place, "in this step").help("the distance of a recurrence is above zero"));
            }
            BindError::TooLarge(t) => {
                if matches!(op.tensor(t).role, Role::Input | Role::Output | Role::Local | Role::RuleLocal) {
                    let message = format!("`{}` would have more than 2^31 elements", op.tensor(t).name);
                    self.out.push(Diagnostic::error(Code::BadSize, at, message, "too large"));
                }
            }
        }
    }

    fn bad_extent(&mut self, a: AxisId, dim: usize, value: Option<i64>, what: &str) {
        let axis = self.op.axis(a);
        let numbers = self.instance.values.iter().find(|(key, _)| key.value == axis.name);
        let place = numbers.and_then(|(_, n)| n.value.values.get(dim));
        let span = place.filter(|_| axis.size.is_none()).map_or(self.instance.name.span, |n| n.span);
        let several = match &axis.size {
            None => numbers.is_some_and(|(_, n)| n.value.list),
            Some(_) => self
                .op
                .axes
                .iter()
                .zip(&self.given)
                .any(|(x, g)| x.rank_class == axis.rank_class && g.as_ref().is_some_and(|g| g.len() > 1)),
        };
        let which = if several { format!(" in dimension {dim}") } else { String::new() };
        let message = format!("the size `{}` {what}{which}", axis.name);
        let mut d = Diagnostic::error(Code::BadSize, span, message, "sizes are at least 1 and at most 2^31");
        if let Some(size) = &axis.size {
            let size = index::print::size(self.op, size);
            d = d.label(axis.span, format!("derived: {} = {size}", axis.name));
        } else if value == Some(0) {
            d = d.help(format!("a group without dimensions is written `{}: []`", axis.name));
        }
        self.out.push(d);
    }

    /// A derived size may be restated, but not otherwise than it is.
    fn restated(&mut self, binding: &Binding) {
        for (a, axis) in self.op.axes.iter().enumerate() {
            let (Some(size), Some(stated)) = (&axis.size, &self.given[a]) else { continue };
            let derived: Vec<i64> = binding.extents[a].iter().map(|n| *n as i64).collect();
            if *stated == derived {
                continue;
            }
            let span = self.spans[a].unwrap_or(self.instance.name.span);
            let text = |n: &[i64]| if let [n] = n { n.to_string() } else { format!("{n:?}") };
            let message = format!("the size `{}` is derived: it is {}", axis.name, text(&derived));
            let d = Diagnostic::error(Code::BadSize, span, message, format!("{} here", text(stated)));
            let formula = format!("{} = {}", axis.name, index::print::size(self.op, size));
            self.out.push(d.label(axis.span, formula).help("leave it out"));
        }
    }

    /// Every index can be computed.
    fn unusable(&mut self, binding: &Binding) {
        let Some((place, why)) = binding.unusable(self.op) else { return };
        let at = self.instance.name.span;
        let d = match why {
            Unusable::Overflow => {
                Diagnostic::error(Code::BadSize, at, "an index of this instance does not fit 64 bits", "too large")
            }
            Unusable::Divisor(n) => {
                let message = format!("an index of this instance is divided by {n}");
                Diagnostic::error(Code::BadParam, at, message, "a divisor is above zero")
            }
        };
        self.out.push(d.label(place, "in this step"));
    }
}

/// Parameters that divide, in a size or an index.
fn divisors(op: &Op) -> BTreeSet<index::ParamId> {
    fn sizes(s: &index::Size, out: &mut Vec<index::Atom>) {
        match s {
            index::Size::Poly(_) => {}
            index::Size::Add(a, b) | index::Size::Sub(a, b) | index::Size::Mul(a, b) => {
                sizes(a, out);
                sizes(b, out);
            }
            index::Size::Div(a, b) => {
                sizes(a, out);
                // A divisor such as `rate - 1` has its own ways to be zero: only a parameter alone is judged by itself.
                if let index::Size::Poly(p) = b.as_ref() {
                    out.extend(p.atoms());
                }
            }
        }
    }
    let mut atoms = Vec::new();
    op.axes.iter().filter_map(|a| a.size.as_ref()).for_each(|s| sizes(s, &mut atoms));
    let single = |p: &index::Poly| p.0.len() == 1;
    for s in op.forward.iter().chain(&op.adjoint.stmts).chain(&op.tangent.stmts) {
        let mut see = |a: &Affine| atoms.extend(a.divisor.atoms().filter(|_| single(&a.divisor)));
        s.index.iter().for_each(&mut see);
        s.value.positions(&mut see);
    }
    let param = |atom| if let index::Atom::Param(p) = atom { Some(p) } else { None };
    atoms.into_iter().filter_map(param).collect()
}

/// Every tensor in the order of its declaration.
fn declared(op: &Op, binding: &Binding) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for t in &op.tensors {
        let mut dims = Vec::new();
        let mut shape = Vec::new();
        for a in &t.axes {
            let axis = op.axis(*a);
            let extents = &binding.extents[a.0];
            for (d, n) in extents.iter().enumerate() {
                dims.push(if extents.len() == 1 { axis.name.clone() } else { format!("{}.{d}", axis.name) });
                shape.push(*n);
            }
        }
        let order = (0..dims.len()).collect();
        tensors.push(Tensor { name: t.name.clone(), role: t.role, shape, dims, order });
    }
    tensors
}

/// Every tensor in its storage order: as declared, or as the instance lays it out. Tangents and cotangents, and theirs,
/// are stored as their primals; dense derivatives have the declared order of both their tensors.
pub(super) fn layout(
    op: &Op,
    instance: &InstanceSpec,
    binding: &Binding,
    out: &mut Diagnostics,
) -> Option<Vec<Tensor>> {
    let errors = out.errors();
    let mut tensors = declared(op, binding);
    for (name, dims) in &instance.layout {
        let Some(t) = op.find(&name.value).filter(|t| matches!(op.tensor(*t).role, Role::Input | Role::Output)) else {
            let names: Vec<&str> =
                op.inputs().into_iter().chain(op.outputs()).map(|t| op.tensor(t).name.as_str()).collect();
            let help = format!("layouts are of {}", names.join(", "));
            out.push(
                Diagnostic::error(
                    Code::BadLayout,
                    name.span,
                    format!("`{}` is neither an input nor an output", name.value),
                    "unknown tensor",
                )
                .help(help),
            );
            continue;
        };
        let tensor = tensors[t.0].clone();
        let mut free: Vec<bool> = vec![true; tensor.dims.len()];
        let mut from = Vec::new();
        for d in &dims.value {
            // `S` alone stands for every dimension of the group, in order; `S.0` for one.
            let matches: Vec<usize> = (0..free.len())
                .filter(|n| {
                    let own = &tensor.dims[*n];
                    own == &d.value
                        || own.split_once('.').is_some_and(|(group, _)| group == d.value)
                        || format!("{own}.0") == d.value
                })
                .collect();
            // A repeated axis: each mention takes the next dimension of that name.
            let take: Vec<usize> = if matches.iter().all(|n| tensor.dims[*n] == d.value) {
                matches.iter().copied().filter(|n| free[*n]).take(1).collect()
            } else {
                matches
            };
            let known_group = op.tensor(t).axes.iter().any(|a| op.axis(*a).name == d.value);
            if (take.is_empty() && !known_group)
                || take.iter().any(|n| !free[*n])
                || (take.is_empty() && tensor.dims.contains(&d.value))
            {
                out.push(
                    Diagnostic::error(
                        Code::BadLayout,
                        d.span,
                        format!("`{}` is not a dimension of `{}` that is left", d.value, name.value),
                        "unknown or repeated",
                    )
                    .help(format!("its dimensions are {}", tensor.dims.join(", "))),
                );
                continue;
            }
            for n in take {
                free[n] = false;
                from.push(n);
            }
        }
        let left: Vec<&str> = (0..free.len()).filter(|n| free[*n]).map(|n| tensor.dims[n].as_str()).collect();
        if !left.is_empty() && out.errors() == errors {
            out.push(
                Diagnostic::error(
                    Code::BadLayout,
                    dims.span,
                    format!("the layout of `{}` leaves out {}", name.value, left.join(", ")),
                    "incomplete",
                )
                .help(format!("its dimensions are {}, in any order", tensor.dims.join(", "))),
            );
        }
        if out.errors() > errors {
            continue;
        }
        for (u, other) in tensors.iter_mut().enumerate() {
            if op.primal(TensorId(u)) == t {
                stored(other, &from);
            }
        }
    }
    iterations_outermost(op, binding, &mut tensors);
    (out.errors() == errors).then_some(tensors)
}

/// Stores locals that recurrences write with the iterations outermost: what an iteration writes, and what the next one
/// reads of it, then lies together, whatever the order of the declaration. Nobody else sees how a local is stored.
fn iterations_outermost(op: &Op, binding: &Binding, tensors: &mut [Tensor]) {
    let entries = op.program.iter().flat_map(|p| &p.functions).flat_map(|f| &f.stmts);
    let rules = op.forward.iter().chain(&op.adjoint.stmts).chain(&op.tangent.stmts);
    // The axis along which each is written, a local's derivatives as itself.
    let mut along: BTreeMap<TensorId, usize> = BTreeMap::new();
    for s in rules.chain(entries) {
        let own = |var| s.index.iter().position(|a| a.vars().any(|v| v == var));
        if let Some(at) = s.scan.and_then(|recurrence| own(recurrence.var)) {
            along.entry(op.primal(s.target)).or_insert(at);
        }
    }
    for (t, tensor) in tensors.iter_mut().enumerate() {
        let primal = op.primal(TensorId(t));
        let Some(at) = along.get(&primal) else { continue };
        if !matches!(op.tensor(primal).role, Role::Local | Role::RuleLocal) {
            continue;
        }
        let axes = &op.tensor(TensorId(t)).axes;
        let before: usize = axes[..*at].iter().map(|a| binding.rank(*a)).sum();
        if binding.rank(axes[*at]) == 1 {
            let from: Vec<usize> =
                [before].into_iter().chain((0..tensor.dims.len()).filter(|d| *d != before)).collect();
            stored(tensor, &from);
        }
    }
}

/// Puts the dimensions of a tensor that is stored as declared into another order.
fn stored(tensor: &mut Tensor, from: &[usize]) {
    tensor.shape = from.iter().map(|n| tensor.shape[*n]).collect();
    tensor.dims = from.iter().map(|n| tensor.dims[*n].clone()).collect();
    tensor.order = (0..from.len()).map(|n| from.iter().position(|m| *m == n).expect("a permutation")).collect();
}
