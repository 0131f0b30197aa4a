//! What stands for an op's axes and parameters: takes a call and the tensors in it, gives a [`Actuals`], or says what
//! the call must say besides.
//!
//! Holds after it: every axis and parameter of the op has something that stands for it; axes that meet in an index
//! stand for equally many. What only the author can decide is asked for, with each choice and what it would mean.

use super::*;
use crate::syntax::{Given, GivenValue};
use std::collections::BTreeSet;

/// Choices that a help lists at most: one that reads more gives up.
const MOST_CHOICES: usize = 8;

/// What an op does along an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The same for each of its indices.
    Apart,
    /// Reduces over it; the result has it or not.
    Reduces,
    /// Reads it elsewhere, as a window or a recurrence does.
    Mixes,
}

impl Effect {
    /// Before the name of an axis.
    fn of(self) -> &'static str {
        match self {
            Effect::Apart => "for each",
            Effect::Reduces => "reduces over",
            Effect::Mixes => "runs along",
        }
    }
}

fn effect(callee: &Op, a: AxisId) -> Effect {
    let is = |s: &Stmt, v: usize| s.vars[v].axis == a;
    let reduced = callee.forward.iter().any(|s| (s.free..s.vars.len()).any(|v| is(s, v)));
    let runs = callee.forward.iter().any(|s| s.scan.is_some_and(|recurrence| is(s, recurrence.var.0)));
    let mut moved = false;
    for s in &callee.forward {
        s.value.reads(&mut |_, index| {
            moved |= index.iter().any(|i| i.as_var().is_none() && i.vars().any(|v| is(s, v.0)));
        });
    }
    match (reduced, runs || moved) {
        (_, true) => Effect::Mixes,
        (true, _) => Effect::Reduces,
        _ => Effect::Apart,
    }
}

impl Resolver<'_> {
    /// What stands for the op's axes that its inputs have, and for its parameters.
    pub(super) fn binding(
        &mut self,
        callee: &Op,
        said_so_far: &SaidSoFar,
        given: &[Given],
        args: &[TensorId],
        known: Option<TensorId>,
    ) -> Option<Actuals> {
        let f = said_so_far.f;
        let mut b = Actuals {
            result: String::new(),
            axes: vec![None; callee.axes.len()],
            kept: Vec::new(),
            params: vec![None; callee.params.len()],
            named: BTreeMap::new(),
        };
        for g in given {
            self.given(callee, f, g, &mut b)?;
        }
        let missing: Vec<_> =
            callee.params.iter().zip(&b.params).filter(|(_, v)| v.is_none()).map(|(p, _)| p).collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|p| p.name.as_str()).collect();
            let message = format!("the call does not say {} of `{}`", list(names.into_iter()), f.value);
            let label = format!("{} missing", plural(missing.len(), "a parameter is", "parameters are"));
            let d = Diagnostic::error(Code::BadCall, f.span, message, label);
            let all: Vec<_> = missing.iter().map(|p| format!("{} = ..", p.name)).collect();
            let kind = |real: bool| {
                let of: Vec<_> = missing.iter().filter(|p| (p.kind == ParamKind::Real) == real).collect();
                let what = if real { "a number" } else { "a whole number" };
                (!of.is_empty()).then(|| format!("{} {what}", list(of.iter().map(|p| p.name.as_str()))))
            };
            let kinds: Vec<_> = [kind(false), kind(true)].into_iter().flatten().collect();
            let help = format!(
                "say {} after the tensors: `{}(...; {})`; {}, or a parameter of this op",
                plural(missing.len(), "it", "all of them"),
                f.value,
                all.join(", "),
                kinds.join(", ")
            );
            self.out.push(d.help(help));
            return None;
        }
        let inputs = callee.inputs();
        let has = |axes: &[&[AxisId]], a: AxisId| -> Vec<bool> { axes.iter().map(|x| x.contains(&a)).collect() };
        let of_inputs: Vec<&[AxisId]> = inputs.iter().map(|t| callee.tensor(*t).axes.as_slice()).collect();
        let own: Vec<Vec<AxisId>> = args.iter().map(|t| self.op.tensor(*t).axes.clone()).collect();
        let of_args: Vec<&[AxisId]> = own.iter().map(Vec::as_slice).collect();
        let kept: Option<Vec<AxisId>> = known.map(|t| self.op.tensor(t).axes.clone());
        let of_output = &callee.tensor(callee.outputs()[0]).axes;
        let mut seen = BTreeSet::new();
        let own: Vec<AxisId> = own.iter().flatten().copied().filter(|c| seen.insert(*c)).collect();
        let said = b.axes.clone();
        // Those of the same name first.
        let named = |c: AxisId| callee.axes.iter().position(|a| a.name == self.op.axis(c).name).map(AxisId);
        for c in own.iter().copied() {
            let taken = said.iter().flatten().any(|axes| axes.contains(&c));
            if let Some(a) = named(c).filter(|a| !taken && said[a.0].is_none()) {
                let kept = of_output.contains(&a) || !kept.as_ref().is_some_and(|k| k.contains(&c));
                if kept && has(&of_inputs, a) == has(&of_args, c) {
                    b.axes[a.0] = Some(vec![c]);
                }
            }
        }
        let first = b.axes.clone();
        let mut undecided: Vec<(AxisId, Vec<AxisId>)> = Vec::new();
        for c in own {
            if first.iter().flatten().any(|axes| axes.contains(&c)) {
                continue;
            }
            let stands = |a: &AxisId| {
                said[a.0].is_none()
                    && has(&of_inputs, *a) == has(&of_args, c)
                    // What the result keeps is not summed over.
                    && (of_output.contains(a) || !kept.as_ref().is_some_and(|k| k.contains(&c)))
            };
            let mut candidates: Vec<AxisId> = (0..callee.axes.len()).map(AxisId).filter(stands).collect();
            if candidates.len() > 1 {
                candidates.retain(|a| first[a.0].is_none());
            }
            match candidates.as_slice() {
                &[a] => b.axes[a.0].get_or_insert_default().push(c),
                [] => b.kept.push(c),
                _ => undecided.push((c, candidates)),
            }
        }
        if !undecided.is_empty() {
            self.undecided(callee, said_so_far, args, &undecided);
            return None;
        }
        // An axis of the inputs that nothing stands for has no dimensions.
        for a in (0..callee.axes.len()).map(AxisId) {
            if has(&of_inputs, a).contains(&true) {
                b.axes[a.0].get_or_insert_default();
            }
        }
        Some(b)
    }

    /// Axes that may stand for several of the op's, which the user alone can decide: lists what could be said, and what
    /// it would mean.
    fn undecided(&mut self, callee: &Op, said: &SaidSoFar, args: &[TensorId], undecided: &[(AxisId, Vec<AxisId>)]) {
        let f = said.f;
        let (c, candidates) = &undecided[0];
        let names: Vec<_> = candidates.iter().map(|a| callee.axis(*a).name.as_str()).collect();
        let message = format!("`{}` may stand for {} of `{}`", self.op.axis(*c).name, either(&names), f.value);
        let mut d = Diagnostic::error(Code::BadCall, f.span, message, "the names do not decide");
        let open: Vec<AxisId> = undecided.iter().filter(|(_, all)| all == candidates).map(|(c, _)| *c).collect();
        let effects: Vec<Effect> = candidates.iter().map(|a| effect(callee, *a)).collect();
        // For each of the undecided axes the place of its candidate; as many ways as the candidates to the power of the
        // axes.
        let count = u32::try_from(open.len()).ok().and_then(|n| candidates.len().checked_pow(n));
        let ways = count.filter(|n| *n <= MOST_CHOICES * MOST_CHOICES).unwrap_or(0);
        let mut ways: Vec<Vec<usize>> = (0..ways)
            .map(|n| (0..open.len()).map(|d| n / candidates.len().pow(d as u32) % candidates.len()).collect())
            .collect();
        let works = |way: &Vec<usize>| (0..effects.len()).all(|e| effects[e] == Effect::Apart || way.contains(&e));
        if ways.iter().filter(|w| works(w)).count() > 1 {
            // An op that reduces over nothing is not what a call is for.
            ways.retain(works);
        }
        // Those that work over the fewest first, of them those that do so over the last axis.
        let working = |way: &[usize]| way.iter().filter(|e| effects[**e] != Effect::Apart).count();
        ways.sort_by_key(|way| {
            (working(way), std::cmp::Reverse(way.iter().rposition(|e| effects[*e] != Effect::Apart)))
        });
        let args: Vec<_> = args.iter().map(|t| self.op.tensor(*t).name.as_str()).collect();
        if ways.is_empty() || ways.len() > MOST_CHOICES {
            let all: Vec<_> = open.iter().map(|c| self.op.axis(*c).name.as_str()).collect();
            let all = list(all.into_iter());
            let given: Vec<_> = names.iter().map(|n| format!("{n} = [..]")).collect();
            d = d.help(format!(
                "say for which {all} stand, after the tensors: `{}(...; {})`",
                f.value,
                given.join(", ")
            ));
            for (name, effect) in names.iter().zip(&effects) {
                d = d.note(format!("`{}` {} `{name}`", f.value, effect.of()));
            }
            self.out.push(d);
            return;
        }
        let mut lines = Vec::new();
        for way in &ways {
            let of = |e: usize| -> Vec<&str> {
                let own = open.iter().zip(way).filter(|(_, w)| **w == e);
                own.map(|(c, _)| self.op.axis(*c).name.as_str()).collect()
            };
            // The last one that is not said is decided by the others.
            let untold = effects.iter().position(|e| *e == Effect::Apart).unwrap_or(0);
            let told = (0..names.len()).filter(|e| *e != untold || names.len() == 1);
            let given: Vec<_> = told.map(|e| format!("{} = [{}]", names[e], of(e).join(", "))).collect();
            let given = given.join(", ");
            let meaning: Vec<_> = effects
                .iter()
                .enumerate()
                .filter(|(e, _)| !of(*e).is_empty())
                .map(|(e, effect)| {
                    (*effect, format!("{} {}", effect.of(), list(of(e).into_iter()).replace(", ", " and ")))
                })
                .collect();
            let (apart, over): (Vec<_>, Vec<_>) = meaning.into_iter().partition(|(e, _)| *e == Effect::Apart);
            let meaning: Vec<_> = over.into_iter().chain(apart).map(|(_, text)| text).collect();
            lines.push(format!("`{}({}; {given})` {}", f.value, args.join(", "), meaning.join(", ")));
            d = said.insert(d, &given);
        }
        self.out.push(d.help(format!("say which, after the tensors:\n{}", lines.join("\n"))));
    }

    fn given(&mut self, callee: &Op, f: &At<String>, g: &Given, b: &mut Actuals) -> Option<()> {
        if let Some(a) = callee.axes.iter().position(|a| a.name == g.name.value) {
            let axes: Vec<At<String>> = match &g.value {
                GivenValue::Axes(axes) => axes.clone(),
                GivenValue::Value(syntax::Expr { kind: ExprKind::Name(name), span }) => {
                    vec![At { value: name.clone(), span: *span }]
                }
                GivenValue::Value(e) => {
                    let message = format!("`{}` is an axis of `{}`: axes stand for it", g.name.value, f.value);
                    let d = Diagnostic::error(Code::BadCall, e.span, message, "not an axis");
                    let names = self.axis_names();
                    self.out.push(d.help(format!(
                        "`{} = [..]` lists axes of this op, which are {names}; `[]` is none",
                        g.name.value
                    )));
                    return None;
                }
            };
            if callee.axes[a].size.is_some() {
                b.named.insert(AxisId(a), axes);
                return Some(());
            }
            let mut ids = Vec::new();
            for axis in &axes {
                let Some(id) = self.axis_named(&axis.value) else {
                    let names: Vec<_> = self.op.axes.iter().map(|a| a.name.as_str()).collect();
                    let message = format!("there is no axis `{}` here", axis.value);
                    let d = Diagnostic::error(Code::UnknownAxis, axis.span, message, "unknown axis");
                    let d = d.did_you_mean(&axis.value, axis.span, &names, "axes");
                    self.out.push(d);
                    return None;
                };
                ids.push(id);
            }
            b.axes[a] = Some(ids);
            return Some(());
        }
        let Some(p) = callee.params.iter().position(|p| p.name == g.name.value) else {
            let axes = callee.axes.iter().map(|a| a.name.as_str());
            let names: Vec<_> = axes.chain(callee.params.iter().map(|p| p.name.as_str())).collect();
            let message = format!("`{}` has no axis and no parameter `{}`", f.value, g.name.value);
            let d = Diagnostic::error(Code::BadCall, g.name.span, message, "unknown");
            self.out.push(d.did_you_mean(&g.name.value, g.name.span, &names, "axes and parameters"));
            return None;
        };
        let real = callee.params[p].kind == ParamKind::Real;
        let value = match &g.value {
            GivenValue::Value(e) => self.number(e, real),
            GivenValue::Axes(_) => None,
        };
        if value.is_none() {
            let kind = if real { "a number" } else { "a whole number" };
            let message = format!("the parameter `{}` of `{}` is {kind}", g.name.value, f.value);
            let d = Diagnostic::error(Code::BadCall, g.span, message, "neither a number nor a parameter");
            self.out.push(d.help("write a number, or a parameter of this op"));
        }
        b.params[p] = Some(value?);
        Some(())
    }

    /// What stands for a parameter: a number or a parameter of the caller.
    fn number(&self, e: &syntax::Expr, real: bool) -> Option<Value> {
        match &e.kind {
            ExprKind::Number(n) if real => Some(Value::Real(Expr::Const(*n))),
            ExprKind::Number(n) => {
                (n.fract() == 0.0 && n.abs() < 2f64.powi(40)).then(|| Value::Whole(Poly::int(*n as i64)))
            }
            ExprKind::Neg(a) => Some(match self.number(a, real)? {
                Value::Whole(p) => Value::Whole(p.neg()?),
                Value::Real(e) => Value::Real(e.neg()),
            }),
            ExprKind::Name(name) => {
                let p = self.op.params.iter().position(|p| p.name == *name)?;
                match (self.op.params[p].kind, real) {
                    (ParamKind::Real, true) => Some(Value::Real(Expr::Param(ParamId(p)))),
                    (ParamKind::Int | ParamKind::PerDim(_), false) => {
                        Some(Value::Whole(Poly::atom(Atom::Param(ParamId(p)))))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Axes of the op that no input has: a derived size makes a new axis, or is that of the result's; any other must be
    /// said or have the same name here.
    pub(super) fn complete(
        &mut self,
        callee: &Op,
        f: &At<String>,
        b: &mut Actuals,
        known: Option<TensorId>,
    ) -> Option<()> {
        for a in (0..callee.axes.len()).map(AxisId) {
            if b.axes[a.0].is_some() || callee.axis(a).size.is_some() {
                continue;
            }
            let axis = callee.axis(a);
            let Some(own) = self.axis_named(&axis.name) else {
                let message =
                    format!("the call does not say what stands for the axis `{}` of `{}`", axis.name, f.value);
                let d = Diagnostic::error(Code::BadCall, f.span, message, "no input has it");
                let names = self.axis_names();
                let help = format!(
                    "say it after the tensors: `{}(...; {} = [..])`; the axes here are {names}",
                    f.value, axis.name
                );
                self.out.push(d.help(help));
                return None;
            };
            b.axes[a.0] = Some(vec![own]);
        }
        for a in (0..callee.axes.len()).map(AxisId) {
            let axis = callee.axis(a);
            let Some(size) = &axis.size else { continue };
            if let Some(own) = b.axes[a.0].clone() {
                self.follows(f, b, size, &own)?;
                continue;
            }
            let alike = |o: &AxisId| b.axes[o.0].is_some() && callee.axis(*o).rank_class == axis.rank_class;
            let class = (0..callee.axes.len()).map(AxisId).find(alike);
            let parts = class.map_or(1, |o| b.axes[o.0].as_ref().map_or(1, Vec::len));
            // Of a result that is declared, its axes that nothing else stands for.
            let taken: Vec<AxisId> = b.axes.iter().flatten().flatten().chain(&b.kept).copied().collect();
            let declared: Option<Vec<AxisId>> = known
                .filter(|_| callee.tensor(callee.outputs()[0]).axes.contains(&a))
                .map(|t| self.op.tensor(t).axes.iter().copied().filter(|c| !taken.contains(c)).collect());
            let mut ids = Vec::new();
            for d in 0..parts {
                let Some(size) = self.size_over(b, size, d) else {
                    self.too_large(f.span);
                    return None;
                };
                let called = b.named.get(&a).and_then(|names| names.get(d));
                let same = self.op.axes.iter().position(|x| x.size.as_ref() == Some(&size)).map(AxisId);
                let same = same.filter(|same| called.is_none_or(|n| self.op.axis(*same).name == n.value));
                let own = called.and_then(|n| self.axis_named(&n.value));
                let own = own.or_else(|| declared.as_ref().and_then(|axes| axes.get(d)).copied());
                let id = match own {
                    Some(own) => {
                        let axis = &mut self.op.axes[own.0];
                        if axis.size.as_ref().is_some_and(|s| *s != size) {
                            let message = format!("the size of `{}` follows from the call of `{}`", axis.name, f.value);
                            let d = Diagnostic::error(Code::BadCall, axis.span, message, "has another size");
                            self.out.push(d.help("leave it out under `sizes:`"));
                            return None;
                        }
                        axis.size = Some(size);
                        own
                    }
                    None => same.unwrap_or_else(|| {
                        let (name, span) = called.map_or((&axis.name, f.span), |n| (&n.value, n.span));
                        self.new_axis(name, size, span)
                    }),
                };
                ids.push(id);
            }
            b.axes[a.0] = Some(ids);
        }
        self.meet(callee, f, b)
    }

    /// Axes that meet in an index of the op stand for equally many, which meet one by one.
    fn meet(&mut self, callee: &Op, f: &At<String>, b: &Actuals) -> Option<()> {
        for a in 0..callee.axes.len() {
            for o in 0..a {
                if callee.axes[a].rank_class != callee.axes[o].rank_class {
                    continue;
                }
                let (x, y) = (b.of(AxisId(a)).to_vec(), b.of(AxisId(o)).to_vec());
                if x.len() != y.len() {
                    let (a, o) = (&callee.axes[a].name, &callee.axes[o].name);
                    let message = format!(
                        "`{a}` and `{o}` of `{}` meet in an index, but {} and {} axes stand for them",
                        f.value,
                        x.len(),
                        y.len()
                    );
                    let d = Diagnostic::error(Code::BadCall, f.span, message, "as many must stand for both");
                    let names = self.axis_names();
                    self.out.push(d.help(format!(
                        "say what stands for each after the tensors: `{}(...; {a} = [..], {o} = [..])`; the axes here are {names}",
                        f.value
                    )));
                    return None;
                }
                x.into_iter().zip(y).for_each(|(x, y)| self.same_rank(x, y));
            }
        }
        Some(())
    }

    /// Axes of an argument whose sizes the op derives have these sizes, where the caller derives none itself.
    fn follows(&mut self, f: &At<String>, b: &Actuals, size: &Size, own: &[AxisId]) -> Option<()> {
        for (d, axis) in own.iter().enumerate() {
            let Some(size) = self.size_over(b, size, d) else {
                self.too_large(f.span);
                return None;
            };
            let mut itself = false;
            size.visit_atoms(&mut |atom| itself |= atom == Atom::Axis(*axis));
            if !itself {
                self.op.axes[axis.0].size.get_or_insert(size);
            }
        }
        Some(())
    }

    fn new_axis(&mut self, name: &str, size: Size, span: Span) -> AxisId {
        let free = |n: &String| {
            let index = n.to_lowercase();
            self.axis_named(n).is_none()
                && self.op.axes.iter().all(|a| a.index != index)
                && self.op.params.iter().all(|p| p.name != index)
        };
        let fresh = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}{n}"))).find(free);
        let name = fresh.expect("numbers do not run out");
        self.op.axes.push(Axis { index: name.to_lowercase(), name, span, rank_class: 0, size: Some(size) });
        self.ranks.push(self.op.axes.len() - 1);
        AxisId(self.op.axes.len() - 1)
    }
}

/// `I`, `J` or `K`.
fn either(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|n| format!("`{n}`")).collect();
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}
