//! Steps: takes the syntax of a section, gives its statements, with targets, locals and the order of writes and reads
//! checked.

use super::recurrence::StepRange;
use super::*;

impl Resolver<'_> {
    pub(super) fn section(&mut self, section: Section, formulas: &[Formula]) -> (Vec<Stmt>, Vec<(String, Span)>) {
        self.section = section;
        self.history.clear();
        if section != Section::Forward {
            self.locals.retain(|_, t| self.op.tensor(*t).role == Role::Local);
        }
        let mut stmts = Vec::new();
        let mut written = Vec::new();
        let mut steps = Vec::new();
        self.targets.clear();
        if let Some(f) = formulas.get(MOST_STATEMENTS) {
            let message = format!("`{}` is too large: it has {} steps", self.op.name, formulas.len());
            let label = format!("from here on more than {MOST_STATEMENTS}");
            self.out.push(Diagnostic::error(Code::TooLarge, f.whole(), message, label));
            self.failed.extend(self.op.outputs().into_iter().map(|t| self.op.tensor(t).name.clone()));
            return (Vec::new(), Vec::new());
        }
        for f in formulas {
            match syntax::step(f, self.out) {
                Some(step) => {
                    written.push((f.text.split_whitespace().collect::<Vec<_>>().join(" "), f.whole()));
                    self.targets.push(step.target.name.clone());
                    steps.push(step);
                }
                None => {
                    // Which output it was to write is not known either.
                    let name = f.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
                    self.failed.extend(name.map(str::to_owned));
                    self.failed.extend(self.op.outputs().into_iter().map(|t| self.op.tensor(t).name.clone()));
                }
            }
        }
        self.local_names();
        self.ahead = steps.iter().map(|s| self.target_axes(s)).collect();
        let call = |s: &syntax::Step| (section == Section::Forward && self.is_call(s)).then_some(s.value.span);
        self.called = steps.iter().map(call).collect();
        self.early.clear();
        let mut parts = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            self.current = n;
            let first = stmts.len();
            let call = section == Section::Forward && self.is_call(step);
            self.resolved(step, call, &mut stmts);
            parts.push(StepRange { span: step.span, stmts: first..stmts.len(), call });
        }
        self.recurrences(&parts, &mut stmts);
        (stmts, written)
    }

    /// Appends the statements of one step.
    fn resolved(&mut self, step: &syntax::Step, call: bool, stmts: &mut Vec<Stmt>) {
        if call {
            if self.call_step(step, stmts).is_none() {
                self.failed.push(step.target.name.value.clone());
            }
            return;
        }
        match self.step(step) {
            Some(raw) => {
                let role = if self.section == Section::Forward { Role::Local } else { Role::RuleLocal };
                hoist(&mut self.op, raw, role, stmts);
            }
            None => self.failed.push(step.target.name.value.clone()),
        }
    }

    pub(super) fn check_forward_complete(&mut self, spec: &Spec) {
        for t in self.op.outputs() {
            let Tensor { name, span, .. } = self.op.tensor(t);
            if !self.failed.contains(name) && !self.targets.iter().any(|target| target.value == *name) {
                self.out.push(
                    Diagnostic::error(
                        Code::NeverWritten,
                        *span,
                        format!("no forward step writes the output `{name}`"),
                        "never written",
                    )
                    .help("write it in a step of `forward`, or leave it out"),
                );
            }
        }
        // A step that could not be read may have read anything.
        let inputs = if self.failed.is_empty() { spec.inputs.as_slice() } else { &[] };
        for decl in inputs {
            if self.op.find(&decl.name.value).is_some_and(|t| !self.used.contains(&t)) {
                let d = Diagnostic::warning(
                    Code::UnusedInput,
                    decl.name.span,
                    format!("no forward step reads the input `{}`", decl.name.value),
                    "never read",
                );
                self.out.push(d);
            }
        }
    }

    pub(super) fn step(&mut self, step: &syntax::Step) -> Option<Stmt> {
        if !step.target.brackets
            && let Some((f, span)) = self.op_within(&step.value)
        {
            self.not_in_a_formula(f, span);
            return None;
        }
        let mut scope = Scope::default();
        let name = &step.target.name;
        let existing = self.writable(name)?;
        // The positions on the left bring the free indices into scope.
        let mut index = Vec::new();
        let mut failed = false;
        for arg in &step.target.index {
            match self.target_position(arg, &mut scope) {
                Some(a) => index.push(a),
                None => failed = true,
            }
        }
        let free = scope.vars.len();
        scope.free = free;
        let target = match existing {
            Some(t) => {
                if step.target.index.len() == index.len() {
                    failed |= !self.own_sizes(t, &index, &step.target.index);
                }
                self.check_arity(t, index.len(), step.target.index.len(), step.target.span)?;
                let axes = self.op.tensor(t).axes.clone();
                for ((axis, a), arg) in axes.into_iter().zip(&index).zip(&step.target.index) {
                    self.unify(axis, a, &scope);
                    let name = &self.op.axis(axis).name;
                    if let Some(other) = arg.axis.as_ref().filter(|other| a.as_int().is_some() && other.value != *name)
                    {
                        let message = format!("the axis of `{}` is `{name}` here", step.target.name.value);
                        let d = Diagnostic::error(Code::UnknownAxis, other.span, message, "another axis");
                        self.out.push(d.help("an axis stands beside a number where a local is first written"));
                        failed = true;
                    }
                }
                Some(t)
            }
            None if failed => None,
            None => self.new_local(step, &index, &scope),
        };
        for v in 0..free {
            if !failed && !index.iter().any(|a| a.vars().any(|w| w.0 == v)) {
                let d = Diagnostic::error(
                    Code::NotAffine,
                    step.target.span,
                    format!("index `{}` has the coefficient zero", scope.vars[v].name),
                    "does not move the target",
                );
                self.out.push(d);
                failed = true;
            }
        }
        let value = self.value(&step.value, &mut scope);
        let target = target?;
        self.record_write(target, &step.assign, Touch { span: step.target.span, index: index.clone() })?;
        let value = value?;
        if failed {
            return None;
        }
        let accumulate = step.assign.value == Assign::Add;
        Some(Stmt {
            target,
            index,
            accumulate,
            vars: scope.vars,
            free,
            reduce: None,
            value,
            span: step.span,
            scan: None,
        })
    }

    /// The tensor that a step may write: `Some(None)` for a new local, `None` after an error.
    pub(super) fn writable(&mut self, name: &At<String>) -> Option<Option<TensorId>> {
        let known = self.visible(&name.value);
        let role = known.map(|t| self.op.tensor(t).role);
        let allowed = match (self.section, role) {
            (Section::Forward, Some(Role::Output | Role::Local)) => known,
            (Section::Adjoint, Some(Role::Cotangent(t))) if self.op.tensor(t).role == Role::Input => known,
            (Section::Tangent, Some(Role::Tangent(t))) if self.op.tensor(t).role == Role::Output => known,
            (Section::Adjoint | Section::Tangent, Some(Role::RuleLocal)) => known,
            _ => None,
        };
        if allowed.is_some() {
            return Some(allowed);
        }
        // The cotangent of a local is a local of the adjoint, so that a derived rule can be pasted; of one that a
        // reduction made, too.
        let of_local = |suffix: &str| {
            let stem = name.value.strip_suffix(suffix);
            let stem = stem.and_then(|stem| self.visible(stem).or_else(|| self.op.find(stem)));
            stem.is_some_and(|t| matches!(self.op.tensor(t).role, Role::Local | Role::RuleLocal))
        };
        let free_name = match self.section {
            Section::Adjoint if of_local("_bar") => true,
            Section::Tangent if of_local("_dot") => true,
            _ => !name.value.ends_with("_bar") && !name.value.ends_with("_dot"),
        };
        let mut near: Vec<String> = Vec::new();
        let (what, help) = match (self.section, role) {
            (_, None) if free_name => {
                if self.op.params.iter().any(|p| p.name == name.value) {
                    ("a parameter cannot be written", "choose another name for the local".to_string())
                } else {
                    return Some(None);
                }
            }
            (Section::Forward, Some(Role::Input)) => {
                ("an input cannot be written", "write an output or a new local".into())
            }
            (Section::Adjoint, Some(Role::Input | Role::Output | Role::Cotangent(_) | Role::Tangent(_))) => {
                let inputs = self.op.inputs();
                let bars: Vec<_> = inputs.iter().map(|t| format!("`{}_bar`", self.op.tensor(*t).name)).collect();
                (
                    "an adjoint rule writes cotangents of inputs",
                    format!("targets are {} and new locals", bars.join(", ")),
                )
            }
            (Section::Adjoint, _) => {
                let bars: Vec<_> =
                    self.op.inputs().iter().map(|t| format!("{}_bar", self.op.tensor(*t).name)).collect();
                let bars: Vec<_> = bars.iter().map(String::as_str).collect();
                near = bars.iter().map(|b| (*b).to_owned()).collect();
                ("not a target of an adjoint rule", String::new())
            }
            (Section::Tangent, Some(_)) => {
                let outputs = self.op.outputs();
                let dots: Vec<_> = outputs.iter().map(|t| format!("`{}_dot`", self.op.tensor(*t).name)).collect();
                ("a tangent rule writes tangents of outputs", format!("targets are {} and new locals", dots.join(", ")))
            }
            (Section::Tangent, _) => {
                let dots: Vec<_> =
                    self.op.outputs().iter().map(|t| format!("{}_dot", self.op.tensor(*t).name)).collect();
                let dots: Vec<_> = dots.iter().map(String::as_str).collect();
                near = dots.iter().map(|b| (*b).to_owned()).collect();
                ("not a target of a tangent rule", String::new())
            }
            (Section::Forward, _) => (
                "not a target of a forward step",
                "write an output or a new local; names ending in `_bar` or `_dot` belong to derivatives".into(),
            ),
        };
        let d = Diagnostic::error(
            Code::AssignMode,
            name.span,
            format!("`{}`: {what}", name.value),
            "cannot be written here",
        );
        let near: Vec<_> = near.iter().map(String::as_str).collect();
        self.out.push(match help.is_empty() {
            true => d.did_you_mean(name, name.span, &near, "targets"),
            false => d.help(help),
        });
        None
    }

    /// The locals of a section are named as other tensors are.
    fn local_names(&mut self) {
        let mut seen = BTreeSet::new();
        for name in &self.targets {
            // Names of derivatives are no locals: their steps say so.
            let derivative = name.ends_with("_bar") || name.ends_with("_dot");
            if derivative || self.op.find(name).is_some() || !seen.insert(name.value.as_str()) {
                continue;
            }
            if let Some((why, help)) = misnamed(name, true) {
                let message = format!("`{}` cannot name a local", name.value.escape_debug());
                self.out.push(Diagnostic::error(Code::BadName, name.span, message, why).help(help));
            }
        }
    }

    pub(super) fn new_local(&mut self, step: &syntax::Step, index: &[Affine], scope: &Scope) -> Option<TensorId> {
        let mut axes = Vec::new();
        let mut seen = Vec::new();
        for (a, arg) in index.iter().zip(&step.target.index) {
            let numbered =
                arg.axis.as_ref().filter(|_| a.as_int().is_some()).and_then(|axis| self.axis_named(&axis.value));
            if let Some(axis) = numbered {
                axes.push(axis);
                continue;
            }
            match a.as_var().filter(|v| !seen.contains(v)) {
                Some(v) => {
                    seen.push(v);
                    axes.push(scope.vars[v.0].axis);
                }
                None => {
                    let name = &step.target.name.value;
                    let d = Diagnostic::error(
                        Code::NotAffine,
                        arg.expr.span,
                        format!("the axes of the local `{name}` are those of its indices"),
                        "must be one plain index, each once",
                    );
                    let help = match (a.as_int(), self.op.axes.first()) {
                        (Some(n), Some(axis)) => format!("name the axis: `{name}[{n} in {}]`", axis.name),
                        _ => format!(
                            "`{name}` is neither an output nor an earlier local: check its name, or write it over plain indices"
                        ),
                    };
                    self.out.push(d.help(help));
                    return None;
                }
            }
        }
        let role = if self.section == Section::Forward { Role::Local } else { Role::RuleLocal };
        // Another section, or a reduction made a local of its own, may have the name; `add_tensor` then numbers this
        // one.
        let name = &step.target.name.value;
        let t = self.op.add_tensor(name, axes, role, step.target.name.span);
        self.locals.insert(name.clone(), t);
        Some(t)
    }

    /// The tensor that a name means in this section: locals by the name that was written, others by their own.
    pub(super) fn visible(&self, name: &str) -> Option<TensorId> {
        // Tangents of locals are there where calls propagate them.
        let declared = |t: &TensorId| match self.op.tensor(*t).role {
            Role::Local | Role::RuleLocal | Role::Partial(..) => false,
            Role::Tangent(of) | Role::Cotangent(of) => self.op.tensor(of).role != Role::Local,
            Role::Input | Role::Output => true,
        };
        self.locals.get(name).copied().or_else(|| self.op.find(name).filter(declared))
    }

    pub(super) fn record_write(&mut self, t: TensorId, assign: &At<Assign>, touch: Touch) -> Option<()> {
        let name = self.op.tensor(t).name.clone();
        let h = self.history.entry(t).or_default();
        let before = h.writes.iter().find(|w| !apart(&w.index, &touch.index));
        let error = match (assign.value, self.op.tensors[t.0].role, before) {
            (Assign::Set, Role::Cotangent(_), _) => Some(
                Diagnostic::error(
                    Code::AssignMode,
                    assign.span,
                    format!("`{name}` accumulates: several uses of a tensor add up"),
                    "`=` would lose what is there",
                )
                .help("write `+=`")
                .suggest(assign.span, "+="),
            ),
            (Assign::Set, _, Some(first)) => {
                let numbers = |w: &Touch| w.index.iter().any(|a| a.as_int().is_some());
                // The reads of a step are known before its write.
                let updates = h.reads.iter().any(|r| r.span.start > touch.span.start);
                let (what, help) = if numbers(first) && numbers(&touch) {
                    ("an element of ", "write `+=` to add to it, or correct the position")
                } else if updates {
                    (
                        "",
                        "a tensor is no variable that changes: give the result of this step a name of its own, and read that from here on",
                    )
                } else {
                    ("", "write `+=` to add to it, or a new local")
                };
                let message = format!("{what}`{name}` is written twice");
                let d = Diagnostic::error(Code::DoubleWrite, touch.span, message, "second write");
                Some(d.label(first.span, "first write").help(help))
            }
            _ => None,
        };
        let error = error.or_else(|| {
            h.reads.iter().find(|r| !apart(&r.index, &touch.index)).map(|read| {
                Diagnostic::error(
                    Code::ReadBeforeWrite,
                    read.span,
                    format!("`{name}` is read before its last write"),
                    "read here",
                )
                .label(touch.span, "written after that")
            })
        });
        h.writes.push(touch);
        error.is_none().then_some(()).or_else(|| {
            self.out.extend(error);
            None
        })
    }
}
