//! Instances: takes what an instance states, gives the binding of the op to numbers and the storage of every tensor; what is missing, unknown or
//! out of range is reported at the instance.

use super::*;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::bind::{BindError, Binding, ParamValue, Unusable};
use crate::index::{self, Affine, AxisId, Op, ParamKind};
use crate::spec::InstanceSpec;
use std::collections::BTreeSet;

/// The numbers of an instance bound to the op. Errors go to `out`.
pub(super) fn bind(op: &Op, instance: &InstanceSpec, out: &mut Diagnostics) -> Option<Binding> {
    let errors = out.errors();
    let mut given: Vec<Option<Vec<i64>>> = vec![None; op.axes.len()];
    let mut params: Vec<Option<ParamValue>> = vec![None; op.params.len()];
    let mut spans: Vec<Option<Span>> = vec![None; op.axes.len() + op.params.len()];
    let mut plain_numbers = Vec::new();
    for (key, numbers) in &instance.values {
        let whole = |out: &mut Diagnostics, code: Code| -> Option<Vec<i64>> {
            let mut all = Vec::new();
            for v in &numbers.value.values {
                if v.value.abs() > 2f64.powi(40) {
                    let message = format!("`{}` is too large", key.value);
                    out.push(Diagnostic::error(code, v.span, message, "beyond 2^40"));
                    return None;
                }
                if v.value.fract() != 0.0 {
                    let message = format!("`{}` takes whole numbers", key.value);
                    out.push(Diagnostic::error(code, v.span, message, "not a whole number"));
                    return None;
                }
                all.push(v.value as i64);
            }
            Some(all)
        };
        if let Some(a) = op.axes.iter().position(|a| a.name == key.value) {
            given[a] = whole(out, Code::BadSize);
            spans[a] = Some(numbers.span);
        } else if let Some(p) = op.params.iter().position(|p| p.name == key.value) {
            spans[op.axes.len() + p] = Some(numbers.span);
            let single = numbers.value.values.first().filter(|_| !numbers.value.list);
            params[p] = match op.params[p].kind {
                ParamKind::PerDim(a) if single.is_some() => {
                    plain_numbers.push((p, a));
                    whole(out, Code::BadParam).map(ParamValue::Ints)
                }
                ParamKind::PerDim(_) => whole(out, Code::BadParam).map(ParamValue::Ints),
                ParamKind::Int => match (single, whole(out, Code::BadParam)) {
                    (Some(_), Some(v)) => Some(ParamValue::Int(v[0])),
                    _ => None,
                },
                ParamKind::Real => single.map(|v| ParamValue::Real(v.value)),
            };
            if params[p].is_none() && numbers.value.list {
                out.push(Diagnostic::error(
                    Code::BadParam,
                    numbers.span,
                    format!("`{}` is one number", key.value),
                    "a list",
                ));
            }
        } else {
            let names: Vec<&str> = op
                .axes
                .iter()
                .filter(|a| a.size.is_none())
                .map(|a| a.name.as_str())
                .chain(op.params.iter().map(|p| p.name.as_str()))
                .collect();
            // What stands there already is not what was meant.
            let open = names.iter().copied().filter(|n| !instance.values.iter().any(|(key, _)| key.value == *n));
            let near = crate::diagnostic::did_you_mean(&key.value, open);
            // What is misspelt is not missing too.
            let slot = op.axes.iter().position(|a| Some(&a.name) == near.as_ref());
            let slot =
                slot.or(op.params.iter().position(|p| Some(&p.name) == near.as_ref()).map(|p| op.axes.len() + p));
            if let Some(slot) = slot {
                spans[slot] = Some(numbers.span);
            }
            let help = near.map_or_else(
                || {
                    format!(
                        "an instance states `name`, `dtype`, `layout` and {}",
                        names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
                    )
                },
                |m| format!("did you mean `{m}`?"),
            );
            out.push(
                Diagnostic::error(
                    Code::UnknownInstanceKey,
                    key.span,
                    format!("`{}` is neither an axis nor a parameter of `{}`", key.value, op.name),
                    "unknown key",
                )
                .help(help),
            );
        }
    }
    for (p, value) in params.iter().enumerate() {
        if value.is_none() && spans[op.axes.len() + p].is_none() {
            let d = Diagnostic::error(
                Code::MissingSize,
                instance.name.span,
                format!("instance `{}` does not state the parameter `{}`", instance.name.value, op.params[p].name),
                "incomplete",
            );
            let example = match op.params[p].kind {
                ParamKind::PerDim(a) => {
                    format!(
                        "add `{}: 1` (or a list, one number for each dimension of {})",
                        op.params[p].name,
                        op.axis(a).name
                    )
                }
                ParamKind::Int => format!("add `{}: 1`", op.params[p].name),
                ParamKind::Real => format!("add `{}: 0.5`", op.params[p].name),
            };
            out.push(d.label(op.params[p].span, "declared here").help(example));
        }
    }
    for p in divisors(op) {
        let numbers = instance.values.iter().find(|(key, _)| key.value == op.params[p.0].name);
        let bad = numbers
            .and_then(|(_, numbers)| numbers.value.values.iter().find(|n| n.value < 1.0 && n.value.fract() == 0.0));
        if let Some(bad) = bad {
            let message = format!("`{}` divides, so it is above zero", op.params[p.0].name);
            out.push(Diagnostic::error(Code::BadParam, bad.span, message, "not above zero"));
        }
    }
    // A plain number serves every dimension; its axis knows how many there are.
    for (p, a) in plain_numbers {
        let class = op.axis(a).rank_class;
        let rank = op
            .axes
            .iter()
            .zip(&given)
            .filter(|(x, _)| x.rank_class == class)
            .find_map(|(_, g)| g.as_ref().map(Vec::len));
        if let (Some(ParamValue::Ints(v)), Some(rank)) = (&mut params[p], rank) {
            *v = vec![v[0]; rank];
        }
    }
    if out.errors() > errors {
        // Still say which sizes are missing.
        missing(op, instance, &given, &spans, out);
        return None;
    }
    let params: Vec<ParamValue> = params.into_iter().flatten().collect();
    let binding = match Binding::new(op, &given, params) {
        Ok(b) => b,
        Err(problems) => {
            let mut said_missing = false;
            for problem in problems {
                match problem {
                    BindError::Missing(_) if !said_missing => {
                        said_missing = true;
                        missing(op, instance, &given, &spans, out);
                    }
                    BindError::Missing(_) => {}
                    BindError::Ranks(a, b) => {
                        let (ra, rb) = (rank(&given, a), rank(&given, b));
                        let (na, nb) = (&op.axis(a).name, &op.axis(b).name);
                        let span = spans[b.0].unwrap_or(instance.name.span);
                        let mut d = Diagnostic::error(
                            Code::RankMismatch,
                            span,
                            format!("`{na}` and `{nb}` meet in an index and must have the same number of dimensions"),
                            format!("{rb} here"),
                        );
                        if let Some(first) = spans[a.0] {
                            d = d.label(first, format!("{ra} here"));
                        }
                        out.push(d);
                    }
                    BindError::ParamRank(p, a) => {
                        let span = spans[op.axes.len() + p.0].unwrap_or(instance.name.span);
                        let mut d = Diagnostic::error(
                            Code::RankMismatch,
                            span,
                            format!(
                                "`{}` takes one number for each dimension of `{}`",
                                op.params[p.0].name,
                                op.axis(a).name
                            ),
                            "another number of dimensions",
                        );
                        if let Some(s) = spans[a.0] {
                            d = d.label(s, format!("{} here", rank(&given, a)));
                        }
                        out.push(d.help("a plain number serves every dimension"));
                    }
                    BindError::Extent(a, dim, value) => {
                        let axis = op.axis(a);
                        let what = value.map_or_else(|| "does not fit 64 bits".to_string(), |v| format!("is {v}"));
                        let numbers = instance.values.iter().find(|(key, _)| key.value == axis.name);
                        let place = numbers.and_then(|(_, n)| n.value.values.get(dim));
                        let span = place.filter(|_| axis.size.is_none()).map_or(instance.name.span, |n| n.span);
                        let several = match &axis.size {
                            None => numbers.is_some_and(|(_, n)| n.value.list),
                            Some(_) => op.axes.iter().zip(&given).any(|(x, g)| {
                                x.rank_class == axis.rank_class && g.as_ref().is_some_and(|g| g.len() > 1)
                            }),
                        };
                        let which = if several { format!(" in dimension {dim}") } else { String::new() };
                        let mut d = Diagnostic::error(
                            Code::BadSize,
                            span,
                            format!("the size `{}` {what}{which}", axis.name),
                            "sizes are at least 1 and at most 2^31",
                        );
                        if let Some(size) = &axis.size {
                            let size = index::print::size(op, size);
                            d = d.label(axis.span, format!("derived: {} = {size}", axis.name));
                        } else if value == Some(0) {
                            d = d.help(format!("a group without dimensions is written `{}: []`", axis.name));
                        }
                        out.push(d);
                    }
                    BindError::TooLarge(t) => {
                        if matches!(op.tensor(t).role, Role::Input | Role::Output | Role::Local | Role::RuleLocal) {
                            let name = &op.tensor(t).name;
                            out.push(Diagnostic::error(
                                Code::BadSize,
                                instance.name.span,
                                format!("`{name}` would have more than 2^31 elements"),
                                "too large",
                            ));
                        }
                    }
                }
            }
            return None;
        }
    };
    // A derived size may be restated, but not otherwise than it is.
    for (a, axis) in op.axes.iter().enumerate() {
        if let (Some(size), Some(stated)) = (&axis.size, &given[a]) {
            let derived: Vec<i64> = binding.extents[a].iter().map(|n| *n as i64).collect();
            if *stated != derived {
                let span = spans[a].unwrap_or(instance.name.span);
                let text = |n: &[i64]| if let [n] = n { n.to_string() } else { format!("{n:?}") };
                let d = Diagnostic::error(
                    Code::BadSize,
                    span,
                    format!("the size `{}` is derived: it is {}", axis.name, text(&derived)),
                    format!("{} here", text(stated)),
                );
                out.push(
                    d.label(axis.span, format!("{} = {}", axis.name, index::print::size(op, size)))
                        .help("leave it out"),
                );
            }
        }
    }
    let Some((place, why)) = binding.unusable(op) else { return (out.errors() == errors).then_some(binding) };
    let at = instance.name.span;
    let d = match why {
        Unusable::Overflow => {
            Diagnostic::error(Code::BadSize, at, "an index of this instance does not fit 64 bits", "too large")
        }
        Unusable::Divisor(n) => {
            let message = format!("an index of this instance is divided by {n}");
            Diagnostic::error(Code::BadParam, at, message, "a divisor is above zero")
        }
    };
    out.push(d.label(place, "in this step"));
    None
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
        s.value.visit_affines(&mut see);
    }
    let param = |atom| if let index::Atom::Param(p) = atom { Some(p) } else { None };
    atoms.into_iter().filter_map(param).collect()
}

fn rank(given: &[Option<Vec<i64>>], a: AxisId) -> usize {
    given[a.0].as_ref().map_or(0, Vec::len)
}

fn missing(
    op: &Op,
    instance: &InstanceSpec,
    given: &[Option<Vec<i64>>],
    spans: &[Option<Span>],
    out: &mut Diagnostics,
) {
    let names: Vec<&index::Axis> = op
        .axes
        .iter()
        .enumerate()
        .filter(|(a, axis)| axis.size.is_none() && given[*a].is_none() && spans[*a].is_none())
        .map(|(_, axis)| axis)
        .collect();
    let Some(first) = names.first() else { return };
    let list = names.iter().map(|a| format!("`{}`", a.name)).collect::<Vec<_>>().join(", ");
    let d = Diagnostic::error(
        Code::MissingSize,
        instance.name.span,
        format!("instance `{}` does not state the size of {list}", instance.name.value),
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
    out.push(d.help(format!("add `{example}` ({s}, `[]` for none)")));
}

/// Every tensor in its storage order: as declared, or as the instance lays it out. Tangents and cotangents are stored as their primals.
pub(super) fn layout(
    op: &Op,
    instance: &InstanceSpec,
    binding: &Binding,
    out: &mut Diagnostics,
) -> Option<Vec<Tensor>> {
    let errors = out.errors();
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
        // Tangent and cotangent are stored as their primal.
        for (u, other) in tensors.iter_mut().enumerate() {
            if TensorId(u) == t || matches!(op.tensors[u].role, Role::Tangent(p) | Role::Cotangent(p) if p == t) {
                other.shape = from.iter().map(|n| tensor.shape[*n]).collect();
                other.dims = from.iter().map(|n| tensor.dims[*n].clone()).collect();
                other.order =
                    (0..from.len()).map(|n| from.iter().position(|m| *m == n).expect("a permutation")).collect();
            }
        }
    }
    (out.errors() == errors).then_some(tensors)
}
