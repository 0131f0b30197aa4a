//! Calls: takes a step `h = matmul(x, w)` and the op that it names, gives the op's statements over the caller's axes
//! and tensors.
//!
//! Axes are matched by where they stand: an axis that the first and the third argument have stands for one that the
//! op's first and third input have. An axis of the op stands for any number of the caller's; of one that a tensor has
//! twice the first stands for the first. What no axis of the op stands for is kept: the op runs for each of its values.
//!
//! Holds after it: statements as the author could have written them; the op's tangent rule besides, so that what it
//! declares holds for the call.

use super::*;
use crate::index::normal::{build, part};
use crate::syntax::{Given, GivenValue};
use std::collections::BTreeSet;

/// What stands for an op's axes and parameters.
struct Binding {
    /// The name of what the call makes: the op's locals begin with it.
    result: String,
    /// For each axis the caller's that it stands for.
    axes: Vec<Option<Vec<AxisId>>>,
    /// The caller's axes that no axis of the op stands for.
    kept: Vec<AxisId>,
    params: Vec<Option<Value>>,
    /// What axes of derived sizes are to be called.
    named: BTreeMap<AxisId, Vec<At<String>>>,
}

/// What stands for a parameter.
#[derive(Clone)]
enum Value {
    /// In sizes and indices.
    Whole(Poly),
    Real(Expr),
}

/// A tensor of the op in the caller: which, and what each of its positions is.
struct Place {
    tensor: TensorId,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
enum Slot {
    /// A kept axis, by its place among them.
    Kept(usize),
    /// A position of the op's access, and which of the axes that its axis stands for.
    Position(usize, usize),
}

/// Choices that a help lists at most: one that reads more gives up.
const MOST_CHOICES: usize = 8;

/// Where a call may say more.
struct SaidSoFar<'a> {
    f: &'a At<String>,
    call: Span,
    /// It says something already.
    any: bool,
}

impl SaidSoFar<'_> {
    /// The edit that lets the call say so.
    fn insert(&self, d: Diagnostic, given: &str) -> Diagnostic {
        let comma = if self.any { "," } else { ";" };
        d.suggest(self.call.inside_end(), format!("{comma} {given}"))
    }
}

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
    let runs = callee.forward.iter().any(|s| s.scan.is_some_and(|turn| is(s, turn.var.0)));
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
    /// Whether a step calls an op; scalars in the arguments of what is a function too mean the function.
    pub(super) fn is_call(&self, step: &syntax::Step) -> bool {
        !step.target.brackets && self.calls_op(&step.value)
    }

    fn calls_op(&self, e: &syntax::Expr) -> bool {
        let ExprKind::Call(f, args, given) = &e.kind else { return false };
        let function = Unary::from_name(f).is_some() || Binary::from_name(f).is_some() || f.value == "where";
        let whole = |e: &syntax::Expr| match &e.kind {
            ExprKind::Name(name) => self.visible(name).is_some_and(|t| !self.op.tensor(t).axes.is_empty()),
            _ => self.calls_op(e),
        };
        let known = self.library.has(f) && (!function || !given.is_empty());
        known || !OTHER_NAMES.iter().any(|(other, _)| *other == f.value) && args.iter().any(whole)
    }

    /// A step that calls an op.
    pub(super) fn call_step(&mut self, step: &syntax::Step, stmts: &mut Vec<Stmt>) -> Option<TensorId> {
        if step.assign.value == Assign::Add {
            let d = Diagnostic::error(Code::BadCall, step.assign.span, "a call does not add", "writes its result");
            self.out.push(d.help("call it into a new local, and add that in a step of its own"));
            return None;
        }
        let name = &step.target.name;
        let known = self.writable(name)?;
        let target = self.apply(&step.value, known, name, stmts)?;
        if known.is_none() {
            self.locals.insert(name.value.clone(), target);
        }
        self.record_write(target, &step.assign, Touch { span: step.target.span, index: Vec::new() })?;
        Some(target)
    }

    /// Appends the statements of a call; the result goes to `known`, or to a new local called `name`.
    fn apply(
        &mut self,
        call: &syntax::Expr,
        known: Option<TensorId>,
        name: &At<String>,
        stmts: &mut Vec<Stmt>,
    ) -> Option<TensorId> {
        let ExprKind::Call(f, args, given) = &call.kind else { unreachable!("a call") };
        let callee = self.callee(f)?;
        let (inputs, outputs) = (callee.inputs(), callee.outputs());
        let args: Vec<Option<TensorId>> = args.iter().map(|a| self.argument(a, stmts)).collect();
        if args.len() != inputs.len() {
            let names: Vec<_> = inputs.iter().map(|t| callee.tensor(*t).name.as_str()).collect();
            let n = inputs.len();
            let message =
                format!("`{}` takes {n} {}, here it has {}", f.value, plural(n, "tensor", "tensors"), args.len());
            let d = Diagnostic::error(Code::Arity, call.span, message, format!("takes {n}"));
            self.out.push(d.help(format!("its inputs are {}", list(names.into_iter()))));
            return None;
        }
        let args: Vec<TensorId> = args.into_iter().collect::<Option<_>>()?;
        let &[output] = outputs.as_slice() else {
            let message = format!("`{}` has {} outputs: a step writes one", f.value, outputs.len());
            self.out.push(Diagnostic::error(Code::BadCall, f.span, message, "cannot be called"));
            return None;
        };
        if stmts.len() + callee.forward.len() > MOST_STATEMENTS {
            let message =
                format!("`{}` is too large: with this call it has more than {MOST_STATEMENTS} steps", self.op.name);
            let label = format!("`{}` has {}", f.value, callee.forward.len());
            self.out.push(Diagnostic::error(Code::TooLarge, f.span, message, label));
            return None;
        }
        let said = SaidSoFar { f, call: call.span, any: !given.is_empty() };
        let mut binding = self.binding(&callee, &said, given, &args, known)?;
        binding.result.clone_from(&name.value);
        self.complete(&callee, f, &mut binding, known)?;
        // after this: every axis and parameter of the op has something that stands for it
        let mut places: BTreeMap<TensorId, Place> = BTreeMap::new();
        for (input, arg) in inputs.iter().zip(&args) {
            let place = self.place(&callee, &said, &binding, *input, *arg)?;
            places.insert(*input, place);
        }
        let target = known.unwrap_or_else(|| {
            let axes = binding.all(&callee, output);
            self.op.add_tensor(&name.value, axes, Role::Local, name.span)
        });
        let place = self.place(&callee, &said, &binding, output, target)?;
        places.insert(output, place);
        self.turns(&callee, f, &binding)?;
        // after this: recurrences run along one axis
        let from = stmts.len();
        for s in &callee.forward {
            let s = self.over(&callee, &binding, &mut places, s, call.span);
            stmts.push(self.sized(s, call.span)?);
        }
        let mut tangent = Vec::new();
        for s in &callee.tangent.stmts {
            let s = self.over(&callee, &binding, &mut places, s, call.span);
            tangent.push(self.sized(s, call.span)?);
        }
        scan::renumber(&mut self.op, &mut stmts[from..]);
        scan::renumber(&mut self.op, &mut tangent);
        self.op.calls.push(Call { stmts: from..stmts.len(), tangent });
        Some(target)
    }

    fn callee(&mut self, f: &At<String>) -> Option<Rc<Op>> {
        match self.library.op(&f.value) {
            Ok(op) => return Some(op),
            // Its errors are told where it stands.
            Err(Missing::Broken) => {}
            Err(Missing::Unknown) => {
                let names = self.library.names();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let message = format!("there is no op `{}` to call", f.value);
                let d = Diagnostic::error(Code::UnknownOp, f.span, message, "neither in this build nor shipped");
                let function = Unary::from_name(&f.value).is_some() || Binary::from_name(&f.value).is_some();
                self.out.push(if function {
                    let of = "it is a function of elements: make its argument a step of its own, `h = ...`, and write";
                    d.help(format!("{of} `y[i] = {}(h[i])`", f.value))
                } else {
                    d.did_you_mean(&f.value, f.span, &names, "ops")
                });
            }
            Err(Missing::Deep(depth)) => {
                let message = format!("`{}` is too large: its calls go more than {depth} ops deep", self.op.name);
                self.out.push(Diagnostic::error(Code::TooLarge, f.span, message, "calls what calls what calls"));
            }
            Err(Missing::Cycle(path)) => {
                let way: Vec<_> = path.iter().chain(path.first()).map(|n| format!("`{n}`")).collect();
                let message = format!("`{}` is made of itself: {}", path[0], way.join(" calls "));
                self.out.push(Diagnostic::error(Code::BadCall, f.span, message, "calls itself"));
            }
        }
        None
    }

    /// An argument: a tensor, or a call that makes one.
    fn argument(&mut self, e: &syntax::Expr, stmts: &mut Vec<Stmt>) -> Option<TensorId> {
        match &e.kind {
            ExprKind::Name(name) => {
                let t = self.readable(name, e.span)?;
                self.history.entry(t).or_default().reads.push(Touch { span: e.span, index: Vec::new() });
                self.used.push(t);
                Some(t)
            }
            ExprKind::Call(f, ..) if self.calls_op(e) => {
                self.apply(e, None, &At { value: f.value.clone(), span: e.span }, stmts)
            }
            ExprKind::Access(a) if self.targets.iter().skip(self.current).any(|t| t.value == a.name.value) => {
                self.call_within(e.span, e.span, "");
                None
            }
            _ => {
                let message = "an argument of a call is a whole tensor";
                let d = Diagnostic::error(Code::BadCall, e.span, message, "not the name of a tensor");
                self.out.push(d.help("write this as a step of its own, and its name here, without indices"));
                None
            }
        }
    }

    /// What stands for the op's axes that its inputs have, and for its parameters.
    fn binding(
        &mut self,
        callee: &Op,
        said_so_far: &SaidSoFar,
        given: &[Given],
        args: &[TensorId],
        known: Option<TensorId>,
    ) -> Option<Binding> {
        let f = said_so_far.f;
        let mut b = Binding {
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

    fn given(&mut self, callee: &Op, f: &At<String>, g: &Given, b: &mut Binding) -> Option<()> {
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
    fn complete(&mut self, callee: &Op, f: &At<String>, b: &mut Binding, known: Option<TensorId>) -> Option<()> {
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
        // Axes that meet in an index of the op stand for equally many, which meet one by one.
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
    fn follows(&mut self, f: &At<String>, b: &Binding, size: &Size, own: &[AxisId]) -> Option<()> {
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

    /// All axes, for a message.
    pub(super) fn axis_names(&self) -> String {
        list(self.op.axes.iter().map(|a| a.name.as_str()))
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

    /// Where the positions of an access to one of the op's tensors stand in the caller's.
    fn place(&mut self, callee: &Op, said: &SaidSoFar, b: &Binding, of: TensorId, tensor: TensorId) -> Option<Place> {
        let f = said.f;
        let axes = &callee.tensor(of).axes;
        let own = self.op.tensor(tensor);
        // Each stands for one axis of the tensor: of an axis that the tensor has twice the first for the first.
        let kept = b.kept.iter().enumerate().map(|(k, c)| (*c, Slot::Kept(k)));
        let parts = axes.iter().enumerate();
        let parts = parts.flat_map(|(p, a)| b.of(*a).iter().enumerate().map(move |(d, c)| (*c, Slot::Position(p, d))));
        let mut open: Vec<(AxisId, Slot)> = kept.chain(parts).collect();
        let mut slots: Vec<Option<Slot>> = Vec::new();
        for c in &own.axes {
            let at = open.iter().position(|(of, _)| of == c);
            slots.push(at.map(|at| open.remove(at).1));
        }
        let wanted: usize = axes.iter().map(|a| b.of(*a).len()).sum();
        let found = slots.iter().flatten().filter(|s| matches!(s, Slot::Position(..))).count();
        let stray = own.axes.iter().zip(&slots).find(|(_, s)| s.is_none()).map(|(c, _)| *c);
        if stray.is_none() && found == wanted {
            return Some(Place { tensor, slots: slots.into_iter().flatten().collect() });
        }
        let part = &callee.tensor(of).name;
        let message = match stray {
            Some(c) => {
                format!("`{}` of `{}` stands for no axis of `{part}` of `{}`", self.op.axis(c).name, own.name, f.value)
            }
            None => {
                let lacks = axes.iter().flat_map(|a| b.of(*a)).find(|c| !own.axes.contains(c));
                let lacks = lacks.map_or("one", |c| self.op.axis(*c).name.as_str());
                format!("`{}` lacks the axis `{lacks}` of `{part}` of `{}`", own.name, f.value)
            }
        };
        let d = Diagnostic::error(Code::BadCall, f.span, message, "the axes do not fit");
        let axes: Vec<_> = axes.iter().map(|a| callee.axis(*a).name.as_str()).collect();
        let twice = own.axes.iter().enumerate().find(|(n, c)| own.axes[..*n].contains(c)).map(|(_, c)| *c);
        let mut help = format!("`{part}` of `{}` has the axes [{}]", f.value, axes.join(", "));
        let mut edit = None;
        if let Some(c) = twice {
            let name = &self.op.axis(c).name;
            let count = own.axes.iter().filter(|o| **o == c).count();
            help += &format!("; say after the tensors for which `{name}` stands: ");
            // One axis of the op takes all, as many as there are one each; which of others is the user's to say.
            let list = match axes.len() {
                1 if count == own.axes.len() => vec![name.as_str(); count].join(", "),
                n if n == count && count == own.axes.len() => name.clone(),
                _ => "..".into(),
            };
            let given: Vec<_> = axes.iter().map(|a| format!("{a} = [{list}]")).collect();
            help += &format!("`{}(...; {})`", f.value, given.join(", "));
            edit = (list != "..").then(|| given.join(", "));
        }
        let d = match edit.filter(|_| !said.any) {
            Some(edit) => said.insert(d, &edit),
            None => d,
        };
        self.out.push(d.help(help));
        None
    }

    /// A statement of the op over the caller's axes and tensors; `None` where a number is too large.
    fn over(
        &mut self,
        callee: &Op,
        b: &Binding,
        places: &mut BTreeMap<TensorId, Place>,
        s: &Stmt,
        span: Span,
    ) -> Option<Stmt> {
        let mut needed = vec![s.target];
        s.value.reads(&mut |t, _| needed.push(t));
        s.value.insides(&mut |t| needed.push(t));
        needed.into_iter().for_each(|t| self.local_place(callee, b, places, t, span));
        let mut vars: Vec<Var> = Vec::new();
        let mut fresh = |op: &Op, axis: AxisId| {
            let base = &op.axis(axis).index;
            let names = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}{n}")));
            let name = names.into_iter().find(|n| vars.iter().all(|v| v.name != *n)).expect("numbers do not run out");
            vars.push(Var { name, axis });
            VarId(vars.len() - 1)
        };
        let kept: Vec<VarId> = b.kept.iter().map(|c| fresh(&self.op, *c)).collect();
        let parts: Vec<Vec<VarId>> =
            s.vars.iter().map(|v| b.of(v.axis).iter().map(|c| fresh(&self.op, *c)).collect()).collect();
        let over = Over { b, places, kept, parts };
        let (target, index) = over.access(s.target, &s.index)?;
        let value = over.expr(&s.value)?;
        let bound = (s.free..s.vars.len()).flat_map(|v| over.parts[v].clone()).collect();
        let turn = s.scan.map(|t| Turn { var: over.parts[t.var.0][0], ..t });
        let scan = part(turn, &index);
        Some(Stmt { scan, ..build(target, index, s.accumulate, &vars, s.reduce.map(|r| (r, bound)), value, span) })
    }

    /// One axis stands for each along which the op has a recurrence.
    fn turns(&mut self, callee: &Op, f: &At<String>, b: &Binding) -> Option<()> {
        let axes = callee.forward.iter().chain(&callee.tangent.stmts).filter_map(|s| Some(s.vars[s.scan?.var.0].axis));
        let axis = axes.into_iter().find(|a| b.of(*a).len() != 1);
        let Some(a) = axis else { return Some(()) };
        let name = &callee.axis(a).name;
        let message = format!("`{}` runs along `{name}`: one axis stands for it", f.value);
        let label = match b.of(a).len() {
            0 => "none does".to_string(),
            _ => format!("{} do", list(b.of(a).iter().map(|c| self.op.axis(*c).name.as_str()))),
        };
        self.out.push(Diagnostic::error(Code::BadCall, f.span, message, label));
        None
    }

    /// A local of the op, or a tangent, becomes one here when it is first met: it has no name in the spec, so it stands
    /// where the call does.
    fn local_place(
        &mut self,
        callee: &Op,
        b: &Binding,
        places: &mut BTreeMap<TensorId, Place>,
        t: TensorId,
        span: Span,
    ) {
        if places.contains_key(&t) {
            return;
        }
        let place = match callee.tensor(t).role {
            Role::Tangent(of) => {
                self.local_place(callee, b, places, of, span);
                let Place { tensor, slots } = &places[&of];
                let slots = slots.clone();
                Place { tensor: self.op.dual(*tensor, Role::Tangent), slots }
            }
            role => {
                let Tensor { name, axes, .. } = callee.tensor(t);
                let name = format!("{}_{name}", b.result);
                let tensor = self.op.add_tensor(&name, b.all(callee, t), role, span);
                let kept = (0..b.kept.len()).map(Slot::Kept);
                let own =
                    axes.iter().enumerate().flat_map(|(p, a)| (0..b.of(*a).len()).map(move |d| Slot::Position(p, d)));
                Place { tensor, slots: kept.chain(own).collect() }
            }
        };
        places.insert(t, place);
    }

    fn sized<T>(&mut self, value: Option<T>, span: Span) -> Option<T> {
        if value.is_none() {
            self.too_large(span);
        }
        value
    }

    fn too_large(&mut self, span: Span) {
        let message = "an index or a size of this call exceeds 64 bits, or is divided by zero";
        self.out.push(Diagnostic::error(Code::BadCall, span, message, "cannot be computed"));
    }

    /// A derived size of the op in one of the dimensions that its axis stands for. Derived sizes within are written
    /// out.
    fn size_over(&self, b: &Binding, size: &Size, d: usize) -> Option<Size> {
        let both = |x: &Size, y: &Size| Some((Box::new(self.size_over(b, x, d)?), Box::new(self.size_over(b, y, d)?)));
        Some(match size {
            Size::Add(x, y) => both(x, y).map(|(x, y)| Size::Add(x, y))?,
            Size::Sub(x, y) => both(x, y).map(|(x, y)| Size::Sub(x, y))?,
            Size::Mul(x, y) => both(x, y).map(|(x, y)| Size::Mul(x, y))?,
            Size::Div(x, y) => both(x, y).map(|(x, y)| Size::Div(x, y))?,
            Size::Poly(p) => {
                let p = b.poly(p, d)?;
                let derived = |atom: Atom| match atom {
                    Atom::Axis(a) => self.op.axis(a).size.clone(),
                    Atom::Param(_) => None,
                };
                if p.atoms().all(|atom| derived(atom).is_none()) {
                    return Some(Size::Poly(p));
                }
                let of = |atom: &Atom| derived(*atom).unwrap_or_else(|| Size::Poly(Poly::atom(*atom)));
                let product = |(atoms, c): (&Vec<Atom>, &i64)| {
                    let whole = Size::Poly(Poly::int(*c));
                    atoms.iter().map(of).fold(whole, |x, y| Size::Mul(Box::new(x), Box::new(y)))
                };
                let sum = |x, y| Size::Add(Box::new(x), Box::new(y));
                p.0.iter().map(product).reduce(sum).unwrap_or_else(|| Size::Poly(Poly::int(0)))
            }
        })
    }
}

impl Binding {
    fn of(&self, a: AxisId) -> &[AxisId] {
        self.axes[a.0].as_deref().unwrap_or_default()
    }

    /// The caller's axes of one of the op's tensors, kept ones first.
    fn all(&self, callee: &Op, t: TensorId) -> Vec<AxisId> {
        let own = callee.tensor(t).axes.iter().flat_map(|a| self.of(*a));
        self.kept.iter().chain(own).copied().collect()
    }

    /// A polynomial of the op in one of the dimensions that its axes stand for.
    fn poly(&self, p: &Poly, d: usize) -> Option<Poly> {
        let atom = |a: &Atom| -> Option<Poly> {
            match a {
                Atom::Axis(a) => {
                    let axes = self.of(*a);
                    axes.get(d).or(axes.first()).map(|c| Poly::atom(Atom::Axis(*c)))
                }
                Atom::Param(p) => match &self.params[p.0] {
                    Some(Value::Whole(p)) => Some(p.clone()),
                    _ => None,
                },
            }
        };
        p.0.iter().try_fold(Poly::default(), |sum, (atoms, c)| {
            let product = atoms.iter().try_fold(Poly::int(*c), |x, a| x.mul(&atom(a)?))?;
            sum.add(&product)
        })
    }
}

/// One statement on its way.
struct Over<'a> {
    b: &'a Binding,
    places: &'a BTreeMap<TensorId, Place>,
    /// The variables of the kept axes.
    kept: Vec<VarId>,
    /// For each variable of the op's statement those that stand for it.
    parts: Vec<Vec<VarId>>,
}

impl Over<'_> {
    fn access(&self, t: TensorId, index: &[Affine]) -> Option<(TensorId, Vec<Affine>)> {
        let Place { tensor, slots } = &self.places[&t];
        let position = |s: &Slot| match *s {
            Slot::Kept(n) => Some(Affine::var(self.kept[n])),
            Slot::Position(p, d) => self.affine(&index[p], d),
        };
        Some((*tensor, slots.iter().map(position).collect::<Option<_>>()?))
    }

    fn affine(&self, a: &Affine, d: usize) -> Option<Affine> {
        let term = |(v, c): &(VarId, Poly)| Some((self.parts[v.0][d], self.b.poly(c, d)?));
        let mut terms: Vec<_> = a.terms.iter().map(term).collect::<Option<_>>()?;
        terms.sort();
        terms.retain(|(_, c)| !c.is_zero());
        // after this: as the caller could have written it, also where a parameter is zero
        let divisor = self.b.poly(&a.divisor, d)?;
        if divisor.is_zero() {
            return None;
        }
        Some(Affine { terms, constant: self.b.poly(&a.constant, d)?, divisor })
    }

    fn expr(&self, e: &Expr) -> Option<Expr> {
        let go = |e: &Expr| self.expr(e).map(Box::new);
        Some(match e {
            Expr::Const(c) => Expr::Const(*c),
            Expr::Param(p) => match self.b.params[p.0].as_ref()? {
                Value::Real(e) => e.clone(),
                Value::Whole(p) => match (p.as_int(), p.atoms().next()) {
                    (Some(n), _) => Expr::Const(n as f64),
                    (None, Some(Atom::Param(p))) => Expr::Param(p),
                    _ => return None,
                },
            },
            Expr::Extent(a) => self.b.of(*a).iter().map(|c| Expr::Extent(*c)).fold(Expr::one(), Expr::mul),
            Expr::Read(t, index) => {
                let (t, index) = self.access(*t, index)?;
                Expr::Read(t, index)
            }
            Expr::Unary(f, a) => Expr::Unary(*f, go(a)?),
            Expr::Binary(f, a, b) => Expr::Binary(*f, go(a)?, go(b)?),
            Expr::Powf(a, n) => Expr::Powf(go(a)?, *n),
            Expr::Where(c, a, b) => Expr::Where(Box::new(self.cond(c)?), go(a)?, go(b)?),
            Expr::Reduce(..) => unreachable!("reductions stand at the root"),
        })
    }

    fn cond(&self, c: &Cond) -> Option<Cond> {
        let go = |c: &Cond| self.cond(c).map(Box::new);
        Some(match c {
            Cond::Index(op, x, y) => {
                let parts = x.vars().chain(y.vars()).map(|v| self.parts[v.0].len()).next().unwrap_or(1);
                let one = |d| Some(Cond::Index(*op, self.affine(x, d)?, self.affine(y, d)?));
                let all: Vec<Cond> = (0..parts).map(one).collect::<Option<_>>()?;
                // Of a group: in every dimension, but `!=` in some.
                let join = |a: Cond, b: Cond| match op {
                    Compare::Ne => Cond::Or(Box::new(a), Box::new(b)),
                    _ => a.and(b),
                };
                // Over no dimension all are equal.
                let none = Cond::Value(*op, Expr::zero(), Expr::zero());
                all.into_iter().reduce(join).unwrap_or(none)
            }
            Cond::Value(op, a, b) => Cond::Value(*op, self.expr(a)?, self.expr(b)?),
            Cond::Inside(t, index) => {
                let (t, index) = self.access(*t, index)?;
                Cond::Inside(t, index)
            }
            Cond::And(a, b) => Cond::And(go(a)?, go(b)?),
            Cond::Or(a, b) => Cond::Or(go(a)?, go(b)?),
            Cond::Not(a) => Cond::Not(go(a)?),
        })
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
