//! Syntax to index notation: takes a [`Spec`] and the syntax of its formulas, gives an [`Op`] with names resolved.
//!
//! Holds after it: see [`crate::index`]. Errors are collected; `None` only when some were found.

use super::*;
use crate::derive::hoist;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use crate::source::At;
use crate::spec::{Adjoint, Formula, Spec};
use crate::syntax::{self, Assign, BinaryOp, ExprKind};
use std::ops::{Div, Mul, Neg};

/// Functions as other languages call them.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("sigmoid", "logistic"),
    ("ln", "log"),
    ("arcsin", "asin"),
    ("arccos", "acos"),
    ("arctan", "atan"),
    ("arcsinh", "asinh"),
    ("arccosh", "acosh"),
    ("arctanh", "atanh"),
    ("fabs", "abs"),
    ("power", "pow"),
    ("maximum", "max"),
    ("minimum", "min"),
    ("select", "where"),
    ("if", "where"),
];

/// Which formulas are being read: it decides what may be read and written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Forward,
    Adjoint,
    Tangent,
}

struct Resolver<'a> {
    op: Op,
    out: &'a mut Diagnostics,
    section: Section,
    /// Locals that the current section may read: of the forward formula always, of a rule while in it.
    locals: BTreeMap<String, TensorId>,
    /// What happened to each tensor so far in this section.
    history: BTreeMap<TensorId, History>,
    /// Union-find over axes that meet in an index expression.
    ranks: Vec<usize>,
    used: Vec<TensorId>,
    /// Axes that stand in no tensor, only under `sizes:`.
    free_axes: std::ops::Range<usize>,
    /// Axes whose size is derived.
    derived: Vec<String>,
    /// Targets of the steps of this section, in order.
    targets: Vec<At<String>>,
    /// Names whose step is in error: what follows from that is not said.
    failed: Vec<String>,
}

#[derive(Default)]
struct History {
    set: Option<Span>,
    added: Option<Span>,
    read: Option<Span>,
}

/// The index variables in scope while one statement is read.
#[derive(Default)]
struct Scope {
    vars: Vec<Var>,
    /// Innermost last.
    names: Vec<(String, VarId)>,
    /// Indices without a binding, each reported once.
    unbound: Vec<String>,
}

/// Resolves a spec. Errors go to `out`.
pub fn resolve(spec: &Spec, out: &mut Diagnostics) -> Option<Op> {
    let errors = out.errors();
    let op = Op {
        name: spec.op.value.clone(),
        doc: spec.doc.as_ref().map(|d| d.value.clone()).unwrap_or_default(),
        source: spec.source,
        axes: Vec::new(),
        params: Vec::new(),
        tensors: Vec::new(),
        forward: Vec::new(),
        adjoint: Rule::default(),
        tangent: Rule::default(),
        written: Written::default(),
    };
    let mut r = Resolver {
        op,
        out,
        section: Section::Forward,
        locals: BTreeMap::new(),
        history: BTreeMap::new(),
        ranks: Vec::new(),
        used: Vec::new(),
        free_axes: 0..0,
        derived: spec.sizes.iter().map(|(axis, _)| axis.value.clone()).collect(),
        targets: Vec::new(),
        failed: Vec::new(),
    };
    r.declare(spec);
    let (forward, written) = r.section(Section::Forward, &spec.forward);
    r.op.forward = forward;
    r.op.written.forward = written;
    r.check_forward_complete(spec);
    r.check_free_axes();
    if let Adjoint::Declared(formulas) = &spec.adjoint {
        let (stmts, written) = r.section(Section::Adjoint, formulas);
        r.op.adjoint = Rule { stmts, declared: true };
        r.op.written.adjoint = written;
    }
    if let Some(formulas) = &spec.tangent {
        let (stmts, written) = r.section(Section::Tangent, formulas);
        r.op.tangent = Rule { stmts, declared: true };
        r.op.written.tangent = written;
    }
    for a in 0..r.op.axes.len() {
        r.op.axes[a].rank_class = r.find_rank(a);
    }
    let Resolver { op, out, .. } = r;
    (out.errors() == errors).then_some(op)
}

impl Resolver<'_> {
    // ---- declarations ----

    fn declare(&mut self, spec: &Spec) {
        for decl in spec.inputs.iter().chain(&spec.outputs) {
            for axis in &decl.axes {
                self.declare_axis(axis);
            }
        }
        let declared = self.op.axes.len();
        // A size may name an axis that no tensor has: a pooling window.
        let sizes: Vec<_> =
            spec.sizes.iter().filter_map(|(axis, f)| Some((axis, f, syntax::expression(f, self.out)?))).collect();
        for (axis, _, _) in &sizes {
            self.declare_axis(axis);
        }
        for (_, _, tree) in &sizes {
            self.declare_axes_of(tree);
        }
        self.free_axes = declared..self.op.axes.len();
        for (name, kind) in &spec.params {
            let resolved = match kind.value.as_str() {
                "int" => ParamKind::Int,
                "real" => ParamKind::Real,
                axis => match self.axis_named(axis) {
                    Some(a) => ParamKind::PerDim(a),
                    None => {
                        let mut d = Diagnostic::error(
                            Code::UnknownAxis,
                            kind.span,
                            format!("parameter `{}` is per dimension of an unknown axis `{axis}`", name.value),
                            "not an axis",
                        );
                        d = d.help("write an axis of the op (one integer for each of its dimensions), `int` (one integer) or `real` (one number)");
                        self.out.push(d);
                        // A guess, so that its uses are not reported too.
                        ParamKind::Int
                    }
                },
            };
            if let Some(a) = self.op.axes.iter().find(|a| a.index == name.value) {
                let d = Diagnostic::error(
                    Code::Duplicate,
                    name.span,
                    format!("`{}` is both a parameter and the index of axis `{}`", name.value, a.name),
                    "parameter",
                );
                self.out.push(d.label(a.span, "its index is this name in lower case"));
            }
            self.op.params.push(Param { name: name.value.clone(), kind: resolved, span: name.span });
        }
        for (decls, role) in [(&spec.inputs, Role::Input), (&spec.outputs, Role::Output)] {
            for decl in decls {
                let axes = decl.axes.iter().filter_map(|a| self.axis_named(&a.value)).collect();
                self.op.tensors.push(Tensor {
                    name: decl.name.value.clone(),
                    axes,
                    role,
                    span: decl.name.span,
                    domain: None,
                });
            }
        }
        for (name, domain) in &spec.domain {
            match self.op.find(&name.value).filter(|t| self.op.tensor(*t).role == Role::Input) {
                Some(t) => self.op.tensors[t.0].domain = Some(domain.value),
                None => {
                    let inputs: Vec<_> = spec.inputs.iter().map(|d| d.name.value.as_str()).collect();
                    let d = Diagnostic::error(
                        Code::BadDomain,
                        name.span,
                        format!("`{}` is not an input", name.value),
                        "no such input",
                    );
                    self.out.push(d.help(suggestion(&name.value, &inputs, "inputs")));
                }
            }
        }
        for t in self.op.inputs().into_iter().chain(self.op.outputs()) {
            self.op.dual(t, Role::Tangent);
            self.op.dual(t, Role::Cotangent);
        }
        for (axis, formula, tree) in sizes {
            let Some(id) = self.axis_named(&axis.value) else { continue };
            if let Some(size) = self.size(&tree) {
                let mut bad = None;
                size.visit_atoms(&mut |atom| match atom {
                    Atom::Axis(a) if a == id || self.op.axis(a).size.is_some() => bad = Some(a),
                    Atom::Axis(a) => {
                        let (x, y) = (find(&mut self.ranks, id.0), find(&mut self.ranks, a.0));
                        self.ranks[x] = y;
                    }
                    Atom::Param(p) => {
                        if let ParamKind::PerDim(a) = self.op.params[p.0].kind {
                            let (x, y) = (find(&mut self.ranks, id.0), find(&mut self.ranks, a.0));
                            self.ranks[x] = y;
                        }
                    }
                });
                if let Some(a) = bad {
                    let d = Diagnostic::error(
                        Code::UnknownAxis,
                        formula.whole(),
                        format!(
                            "the size of `{}` is derived from `{}`, which is derived itself",
                            axis.value,
                            self.op.axis(a).name
                        ),
                        "may name given sizes and parameters only",
                    );
                    self.out.push(d.help("write the formula out in sizes that the instance gives"));
                }
                self.op.axes[id.0].size = Some(size);
            }
        }
    }

    fn declare_axis(&mut self, axis: &At<String>) {
        if self.axis_named(&axis.value).is_some() {
            return;
        }
        let index = axis.value.to_lowercase();
        if let Some(other) = self.op.axes.iter().find(|a| a.index == index) {
            let d = Diagnostic::error(
                Code::Duplicate,
                axis.span,
                format!("axes `{}` and `{}` would have the same index `{index}`", other.name, axis.value),
                "differs in case only",
            );
            self.out.push(d.label(other.span, "first axis"));
            return;
        }
        self.op.axes.push(Axis { name: axis.value.clone(), index, span: axis.span, rank_class: 0, size: None });
        self.ranks.push(self.op.axes.len() - 1);
    }

    fn declare_axes_of(&mut self, e: &syntax::Expr) {
        match &e.kind {
            ExprKind::Name(name) if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
                self.declare_axis(&At { value: name.clone(), span: e.span })
            }
            ExprKind::Neg(a) => self.declare_axes_of(a),
            ExprKind::Binary(_, a, b) => {
                self.declare_axes_of(a);
                self.declare_axes_of(b);
            }
            _ => {}
        }
    }

    /// An axis that stands in sizes only must at least be iterated over or counted: otherwise it is a slip of the pen.
    fn check_free_axes(&mut self) {
        for a in self.free_axes.clone() {
            let id = AxisId(a);
            let counted = |e: &Expr| {
                let mut found = false;
                e.visit(&mut |e| found |= *e == Expr::Extent(id));
                found
            };
            if self.op.forward.iter().any(|s| s.vars.iter().any(|v| v.axis == id) || counted(&s.value)) {
                continue;
            }
            let Axis { name, span, .. } = self.op.axis(id).clone();
            let others: Vec<_> = self.op.axes.iter().map(|a| a.name.as_str()).filter(|n| *n != name).collect();
            let help = suggestion(&name, &others, "axes");
            self.out.push(
                Diagnostic::error(
                    Code::UnknownAxis,
                    span,
                    format!("no tensor and no step has an axis `{name}`"),
                    "unknown axis",
                )
                .help(help),
            );
        }
    }

    fn axis_named(&self, name: &str) -> Option<AxisId> {
        self.op.axes.iter().position(|a| a.name == name).map(AxisId)
    }

    fn find_rank(&mut self, a: usize) -> usize {
        find(&mut self.ranks, a)
    }

    fn same_rank(&mut self, a: AxisId, b: AxisId) {
        let (x, y) = (self.find_rank(a.0), self.find_rank(b.0));
        self.ranks[x] = y;
    }

    fn size(&mut self, e: &syntax::Expr) -> Option<Size> {
        Some(match &e.kind {
            ExprKind::Number(n) => Size::Poly(Poly::int(self.integer(*n, e.span)?)),
            ExprKind::Name(name) => Size::Poly(Poly::atom(self.size_atom(name, e.span)?)),
            ExprKind::Neg(a) => Size::Sub(Box::new(Size::Poly(Poly::int(0))), Box::new(self.size(a)?)),
            ExprKind::Binary(op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div), a, b) => {
                let (a, b) = (self.size(a), self.size(b));
                let (a, b) = (Box::new(a?), Box::new(b?));
                match op {
                    BinaryOp::Add => Size::Add(a, b),
                    BinaryOp::Sub => Size::Sub(a, b),
                    BinaryOp::Mul => Size::Mul(a, b),
                    _ => Size::Div(a, b),
                }
            }
            _ => {
                let d = Diagnostic::error(
                    Code::NotAffine,
                    e.span,
                    "a size is made of sizes, parameters and integers with `+ - * /`",
                    "not allowed in a size",
                );
                self.out.push(d);
                return None;
            }
        })
    }

    fn size_atom(&mut self, name: &str, span: Span) -> Option<Atom> {
        if let Some(a) = self.axis_named(name) {
            return Some(Atom::Axis(a));
        }
        match self.op.params.iter().position(|p| p.name == name) {
            Some(p) if self.op.params[p].kind != ParamKind::Real => Some(Atom::Param(ParamId(p))),
            Some(_) => {
                self.out.push(Diagnostic::error(
                    Code::NotAffine,
                    span,
                    format!("`{name}` is a real number: it cannot stand in a size or an index"),
                    "a real parameter",
                ));
                None
            }
            None => {
                let given =
                    self.op.axes.iter().map(|a| a.name.as_str()).filter(|n| !self.derived.iter().any(|d| d == n));
                let candidates: Vec<_> = given.chain(self.op.params.iter().map(|p| p.name.as_str())).collect();
                let help = suggestion(name, &candidates, "sizes and parameters");
                self.out.push(
                    Diagnostic::error(
                        Code::UnknownName,
                        span,
                        format!("`{name}` is neither an axis nor a parameter"),
                        "unknown size",
                    )
                    .help(help),
                );
                None
            }
        }
    }

    fn integer(&mut self, n: f64, span: Span) -> Option<i64> {
        // Far below where products of sizes would overflow.
        if n.fract() == 0.0 && n.abs() < 2f64.powi(40) {
            return Some(n as i64);
        }
        self.out.push(Diagnostic::error(
            Code::NotAffine,
            span,
            "an index or a size takes whole numbers",
            "not a whole number",
        ));
        None
    }

    // ---- sections and statements ----

    fn section(&mut self, section: Section, formulas: &[Formula]) -> (Vec<Stmt>, Vec<(String, Span)>) {
        self.section = section;
        self.history.clear();
        if section != Section::Forward {
            self.locals.retain(|_, t| self.op.tensor(*t).role == Role::Local);
        }
        let mut stmts = Vec::new();
        let mut written = Vec::new();
        let mut steps = Vec::new();
        self.targets.clear();
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
        for step in &steps {
            match self.step(step) {
                Some(raw) => {
                    let role = if section == Section::Forward { Role::Local } else { Role::RuleLocal };
                    hoist(&mut self.op, raw, role, &mut stmts);
                }
                None => self.failed.push(step.target.name.value.clone()),
            }
        }
        (stmts, written)
    }

    fn check_forward_complete(&mut self, spec: &Spec) {
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

    fn step(&mut self, step: &syntax::Step) -> Option<Stmt> {
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
        let target = match existing {
            Some(t) => {
                if step.target.index.len() == index.len() {
                    failed |= !self.own_sizes(t, &index, &step.target.index);
                }
                self.check_arity(t, index.len(), step.target.index.len(), step.target.span)?;
                for (axis, a) in self.op.tensor(t).axes.clone().into_iter().zip(&index) {
                    self.unify(axis, a, &scope);
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
        self.record_write(target, &step.assign, step.target.span)?;
        let value = value?;
        if failed {
            return None;
        }
        let accumulate = step.assign.value == Assign::Add;
        Some(Stmt { target, index, accumulate, vars: scope.vars, free, reduce: None, value, span: step.span })
    }

    /// The tensor that a step may write: `Some(None)` for a new local, `None` after an error.
    fn writable(&mut self, name: &At<String>) -> Option<Option<TensorId>> {
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
        // The cotangent of a local is a local of the adjoint, so that a derived rule can be pasted; of one that a reduction made, too.
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
                ("not a target of an adjoint rule", suggestion(&name.value, &bars, "targets"))
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
                ("not a target of a tangent rule", suggestion(&name.value, &dots, "targets"))
            }
            (Section::Forward, _) => (
                "not a target of a forward step",
                "write an output or a new local; names ending in `_bar` or `_dot` belong to derivatives".into(),
            ),
        };
        self.out.push(
            Diagnostic::error(
                Code::AssignMode,
                name.span,
                format!("`{}`: {what}", name.value),
                "cannot be written here",
            )
            .help(help),
        );
        None
    }

    fn new_local(&mut self, step: &syntax::Step, index: &[Affine], scope: &Scope) -> Option<TensorId> {
        let mut axes = Vec::new();
        let mut seen = Vec::new();
        for (a, arg) in index.iter().zip(&step.target.index) {
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
                    self.out.push(d.help(format!("`{name}` is neither an output nor an earlier local: check its name, or write it over plain indices")));
                    return None;
                }
            }
        }
        let role = if self.section == Section::Forward { Role::Local } else { Role::RuleLocal };
        // Another section, or a reduction made a local of its own, may have the name; `add_tensor` then numbers this one.
        let name = &step.target.name.value;
        let t = self.op.add_tensor(name, axes, role, step.target.name.span);
        self.locals.insert(name.clone(), t);
        Some(t)
    }

    /// The tensor that a name means in this section: locals by the name that was written, others by their own.
    fn visible(&self, name: &str) -> Option<TensorId> {
        let declared = |t: &TensorId| !matches!(self.op.tensor(*t).role, Role::Local | Role::RuleLocal);
        self.locals.get(name).copied().or_else(|| self.op.find(name).filter(declared))
    }

    fn record_write(&mut self, t: TensorId, assign: &At<Assign>, span: Span) -> Option<()> {
        let name = self.op.tensor(t).name.clone();
        let h = self.history.entry(t).or_default();
        let error = match (assign.value, self.op.tensors[t.0].role) {
            (Assign::Set, Role::Cotangent(_)) => Some(
                Diagnostic::error(
                    Code::AssignMode,
                    assign.span,
                    format!("`{name}` accumulates: several uses of a tensor add up"),
                    "`=` would lose what is there",
                )
                .help("write `+=`"),
            ),
            (Assign::Set, _) if h.set.is_some() || h.added.is_some() => {
                let first = h.set.or(h.added).unwrap_or(span);
                Some(
                    Diagnostic::error(Code::DoubleWrite, span, format!("`{name}` is written twice"), "second write")
                        .label(first, "first write")
                        .help("write `+=` to add to it, or a new local"),
                )
            }
            _ => None,
        };
        let error = error.or_else(|| {
            h.read.map(|read| {
                Diagnostic::error(
                    Code::ReadBeforeWrite,
                    read,
                    format!("`{name}` is read before its last write"),
                    "read here",
                )
                .label(span, "written after that")
            })
        });
        match assign.value {
            Assign::Set => h.set = Some(span),
            Assign::Add => h.added = Some(span),
        }
        error.is_none().then_some(()).or_else(|| {
            self.out.extend(error);
            None
        })
    }

    // ---- index positions ----

    fn target_position(&mut self, arg: &syntax::IndexArg, scope: &mut Scope) -> Option<Affine> {
        if let Some(axis) = &arg.axis {
            let ExprKind::Name(name) = &arg.expr.kind else {
                self.out.push(Diagnostic::error(
                    Code::Syntax,
                    arg.expr.span,
                    "`in` follows an index name",
                    "not a name",
                ));
                return None;
            };
            let v = self.bind(name, arg.expr.span, Some(axis), scope)?;
            return Some(Affine::var(v));
        }
        self.affine(&arg.expr, scope, true)
    }

    /// Brings a new index into scope.
    fn bind(&mut self, name: &str, span: Span, axis: Option<&At<String>>, scope: &mut Scope) -> Option<VarId> {
        if scope.names.iter().any(|(n, _)| n == name) {
            self.out.push(
                Diagnostic::error(Code::Duplicate, span, format!("index `{name}` is bound already"), "bound twice")
                    .help(format!("bind another index of the axis: `{name}2 in {}`", self.an_axis(name))),
            );
            return None;
        }
        let id = match axis {
            Some(axis) => match self.axis_named(&axis.value) {
                Some(a) => a,
                None => {
                    let axes: Vec<_> = self.op.axes.iter().map(|a| a.name.as_str()).collect();
                    let help = suggestion(&axis.value, &axes, "axes");
                    self.out.push(
                        Diagnostic::error(
                            Code::UnknownAxis,
                            axis.span,
                            format!("no axis `{}`", axis.value),
                            "unknown axis",
                        )
                        .help(help),
                    );
                    return None;
                }
            },
            None => match self.op.axes.iter().position(|a| a.index == name) {
                Some(a) => AxisId(a),
                None => {
                    self.unknown_index(name, span, scope);
                    return None;
                }
            },
        };
        let v = VarId(scope.vars.len());
        scope.vars.push(Var { name: name.to_string(), axis: id });
        scope.names.push((name.to_string(), v));
        Some(v)
    }

    /// The axis whose index has the name, else the first: for messages.
    fn an_axis(&self, index: &str) -> &str {
        let axes = &self.op.axes;
        axes.iter().find(|a| a.index == index).or(axes.first()).map_or("I", |a| a.name.as_str())
    }

    /// `x[I]` reads beyond the end, always: a slip for `x[i]`. Says so and gives `false`.
    fn own_sizes(&mut self, t: TensorId, index: &[Affine], args: &[syntax::IndexArg]) -> bool {
        let mut fine = true;
        for ((axis, a), arg) in self.op.tensor(t).axes.clone().into_iter().zip(index).zip(args) {
            if *a != Affine::constant(Poly::atom(Atom::Axis(axis))) {
                continue;
            }
            fine = false;
            let Axis { name, index, .. } = self.op.axis(axis).clone();
            self.out.push(
                Diagnostic::error(
                    Code::UnknownIndex,
                    arg.expr.span,
                    format!("`{name}` is the size of the axis: no element stands there"),
                    "not an index",
                )
                .help(format!("the index of the axis is `{index}`")),
            );
        }
        fine
    }

    fn unknown_index(&mut self, name: &str, span: Span, scope: &Scope) {
        let indices: Vec<_> = self.op.axes.iter().map(|a| a.index.as_str()).collect();
        let in_scope = scope.names.iter().map(|(n, _)| n.as_str());
        let help = did_you_mean(
            name,
            indices.iter().copied().chain(in_scope).chain(self.op.params.iter().map(|p| p.name.as_str())),
        )
        .map_or_else(
            || {
                format!(
                    "the axes are {}; a further index of an axis is bound by a reduction or on the left: `{name} in {}`",
                    list(self.op.axes.iter().map(|a| a.name.as_str())),
                    self.an_axis(name)
                )
            },
            |m| format!("did you mean `{m}`?"),
        );
        let mut d = Diagnostic::error(
            Code::UnknownIndex,
            span,
            format!("index `{name}` has no axis here"),
            "not an index of any axis",
        )
        .help(help);
        if let Some(first) = self.op.axes.first() {
            d = d.label(
                first.span,
                format!(
                    "axes in scope: {}",
                    self.op.axes.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            );
        }
        self.out.push(d);
    }

    /// An index expression. `declare`: names of free indices are bound by standing here (a left side).
    fn affine(&mut self, e: &syntax::Expr, scope: &mut Scope, declare: bool) -> Option<Affine> {
        let overflow = |r: &mut Self| {
            r.out.push(Diagnostic::error(
                Code::NotAffine,
                e.span,
                "the coefficients of this index are too large",
                "overflows",
            ));
        };
        match &e.kind {
            ExprKind::Number(n) => Some(Affine::constant(Poly::int(self.integer(*n, e.span)?))),
            ExprKind::Name(name) => {
                if let Some((_, v)) = scope.names.iter().rev().find(|(n, _)| n == name) {
                    return Some(Affine::var(*v));
                }
                let is_index = self.op.axes.iter().any(|a| a.index == *name);
                if is_index && declare {
                    return self.bind(name, e.span, None, scope).map(Affine::var);
                }
                if is_index {
                    if scope.unbound.contains(name) {
                        return None;
                    }
                    scope.unbound.push(name.clone());
                    let d = Diagnostic::error(
                        Code::UnboundIndex,
                        e.span,
                        format!("index `{name}` stands on the right only"),
                        "bound by neither the left side nor a reduction",
                    );
                    let was_bound = scope.vars.iter().any(|v| v.name == *name);
                    self.out.push(d.help(match was_bound {
                        true => format!(
                            "a reduction extends over products, not over `+` and `-`: write `sum({name}) (...)` if it is meant to"
                        ),
                        false => format!("to reduce over it, write `sum({name}) ...`"),
                    }));
                    return None;
                }
                if self.axis_named(name).is_some() || self.op.params.iter().any(|p| p.name == *name) {
                    return self.size_atom(name, e.span).map(|a| Affine::constant(Poly::atom(a)));
                }
                self.unknown_index(name, e.span, scope);
                None
            }
            ExprKind::Neg(a) => {
                let a = self.affine(a, scope, declare)?;
                scale(&a, &Poly::int(-1)).or_else(|| {
                    overflow(self);
                    None
                })
            }
            ExprKind::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
                let (a, b) = (self.affine(a, scope, declare), self.affine(b, scope, declare));
                let (a, b) = (a?, b?);
                if !a.divided_by_one() && !b.divided_by_one() {
                    self.out.push(
                        Diagnostic::error(
                            Code::BadDivision,
                            e.span,
                            "an index position takes one division",
                            "two divisions",
                        )
                        .help("bring both under one denominator"),
                    );
                    return None;
                }
                let b = if *op == BinaryOp::Sub { scale(&b, &Poly::int(-1)) } else { Some(b) };
                b.and_then(|b| sum(&a, &b)).or_else(|| {
                    overflow(self);
                    None
                })
            }
            ExprKind::Binary(BinaryOp::Mul, a, b) => {
                let (x, y) = (self.affine(a, scope, declare), self.affine(b, scope, declare));
                let (x, y) = (x?, y?);
                let (map, factor) = if y.terms.is_empty() { (x, y) } else { (y, x) };
                if !factor.terms.is_empty() {
                    self.out.push(
                        Diagnostic::error(
                            Code::NotAffine,
                            e.span,
                            "a product of two indices is not affine",
                            "index times index",
                        )
                        .help("an index may be multiplied by integers, parameters and sizes"),
                    );
                    return None;
                }
                if !map.divided_by_one() || !factor.divided_by_one() {
                    self.out.push(
                        Diagnostic::error(
                            Code::BadDivision,
                            e.span,
                            "a division in an index stands outermost",
                            "multiplies a quotient",
                        )
                        .help("multiply the numerator instead"),
                    );
                    return None;
                }
                scale(&map, &factor.constant).or_else(|| {
                    overflow(self);
                    None
                })
            }
            ExprKind::Binary(BinaryOp::Div, a, b) => {
                let (x, y) = (self.affine(a, scope, declare), self.affine(b, scope, declare));
                let (x, y) = (x?, y?);
                let why = match () {
                    () if !y.terms.is_empty() => Some("an index"),
                    () if !y.divided_by_one() => Some("a quotient"),
                    () if y.constant.as_int().is_some_and(|n| n <= 0) => Some("not above zero"),
                    () => None,
                };
                if let Some(why) = why {
                    self.out.push(Diagnostic::error(
                        Code::BadDivision,
                        b.span,
                        "an index is divided by a whole number above zero, a parameter or a size",
                        why,
                    ));
                    return None;
                }
                let divisor = x.divisor.mul(&y.constant);
                divisor.and_then(|divisor| bounded(Affine { divisor, ..x })).or_else(|| {
                    overflow(self);
                    None
                })
            }
            _ => {
                let help = "an index is a sum of indices with integers, parameters and sizes as coefficients";
                self.out.push(
                    Diagnostic::error(Code::NotAffine, e.span, "this index is not affine", "not allowed in an index")
                        .help(help),
                );
                None
            }
        }
    }

    /// Every axis that meets in a position has the same rank.
    fn unify(&mut self, axis: AxisId, a: &Affine, scope: &Scope) {
        let mut others: Vec<AxisId> = a.vars().map(|v| scope.vars[v.0].axis).collect();
        for p in a.terms.iter().map(|(_, c)| c).chain([&a.constant, &a.divisor]) {
            for atom in p.atoms() {
                match atom {
                    Atom::Axis(a) => others.push(a),
                    Atom::Param(p) => {
                        if let ParamKind::PerDim(a) = self.op.params[p.0].kind {
                            others.push(a);
                        }
                    }
                }
            }
        }
        for other in others {
            self.same_rank(axis, other);
        }
    }

    fn check_arity(&mut self, t: TensorId, resolved: usize, given: usize, span: Span) -> Option<()> {
        let tensor = self.op.tensor(t);
        if tensor.axes.len() == given {
            return (resolved == given).then_some(());
        }
        let axes: Vec<_> = tensor.axes.iter().map(|a| self.op.axis(*a).name.as_str()).collect();
        let name = &tensor.name;
        let mut d = Diagnostic::error(
            Code::Arity,
            span,
            format!(
                "`{name}` has {} {}, here it is given {given} {}",
                axes.len(),
                plural(axes.len(), "axis", "axes"),
                plural(given, "index", "indices")
            ),
            format!("takes {}", axes.len()),
        );
        let (declared, example) = match tensor.axes.as_slice() {
            [] => (format!("`{name}` has no axes"), name.clone()),
            ids => {
                let index: Vec<_> = ids.iter().map(|a| self.op.axis(*a).index.as_str()).collect();
                (format!("declared as {name}[{}]", axes.join(", ")), format!("{name}[{}]", index.join(",")))
            }
        };
        d = d.label(tensor.span, declared).help(format!("for example `{example}`"));
        self.out.push(d);
        None
    }

    // ---- values ----

    fn read(
        &mut self,
        name: &str,
        name_span: Span,
        index: &[syntax::IndexArg],
        span: Span,
        scope: &mut Scope,
    ) -> Option<(TensorId, Vec<Affine>)> {
        let t = self.readable(name, name_span)?;
        let mut positions = Vec::new();
        for arg in index {
            if let Some(axis) = &arg.axis {
                self.out.push(Diagnostic::error(
                    Code::Syntax,
                    axis.span,
                    "`in` binds an index on the left side or in a reduction",
                    "not here",
                ));
                continue;
            }
            positions.extend(self.affine(&arg.expr, scope, false));
        }
        self.check_arity(t, positions.len(), index.len(), span)?;
        if !self.own_sizes(t, &positions, index) {
            return None;
        }
        for (axis, a) in self.op.tensor(t).axes.clone().into_iter().zip(&positions) {
            self.unify(axis, a, scope);
        }
        self.history.entry(t).or_default().read.get_or_insert(span);
        self.used.push(t);
        Some((t, positions))
    }

    fn readable(&mut self, name: &str, span: Span) -> Option<TensorId> {
        // Only the first of a row of errors says something.
        if self.failed.iter().any(|f| f == name) && !self.visible(name).is_some_and(|t| self.written(t)) {
            return None;
        }
        let allowed = |r: &Self, t: TensorId| {
            let of_role = |u: TensorId, role: Role| r.op.tensor(u).role == role;
            match (r.section, r.op.tensor(t).role) {
                (_, Role::Input | Role::Output | Role::Local | Role::RuleLocal) => true,
                (Section::Adjoint, Role::Cotangent(u)) => of_role(u, Role::Output),
                // Of an output too, once it is written: outputs may be made from one another.
                (Section::Tangent, Role::Tangent(u)) => of_role(u, Role::Input) || r.written(t),
                _ => false,
            }
        };
        match self.visible(name) {
            Some(t) if allowed(self, t) => {
                let own = match self.section {
                    Section::Forward => matches!(self.op.tensor(t).role, Role::Output | Role::Local),
                    _ => self.op.tensor(t).role == Role::RuleLocal,
                };
                if own && !self.written(t) {
                    self.read_too_early(name, span);
                    return None;
                }
                Some(t)
            }
            Some(t) => {
                let tensor = self.op.tensor(t);
                let why = match (self.section, tensor.role) {
                    (Section::Adjoint, Role::Cotangent(_)) => "an adjoint rule reads cotangents of outputs only",
                    (Section::Tangent, Role::Tangent(_)) => {
                        "a tangent rule reads tangents of inputs, and of outputs written before"
                    }
                    (Section::Forward, _) => "a forward step reads inputs, and locals and outputs written before",
                    _ => "it belongs to another rule",
                };
                self.out.push(Diagnostic::error(
                    Code::UnknownName,
                    span,
                    format!("`{name}` cannot be read here: {why}"),
                    "cannot be read here",
                ));
                None
            }
            None if self.targets.iter().any(|t| t.value == name) => {
                self.read_too_early(name, span);
                None
            }
            None => {
                let tensors = self.op.tensors.iter().map(|t| t.name.as_str());
                let tensors = tensors
                    .filter(|n| !self.locals.contains_key(*n) && self.visible(n).is_some_and(|t| allowed(self, t)));
                let locals = self.locals.keys().map(String::as_str);
                let params = self.op.params.iter().map(|p| p.name.as_str());
                let names: Vec<_> = tensors.chain(locals).chain(params).collect();
                let help = suggestion(name, &names, "names in scope");
                self.out.push(
                    Diagnostic::error(
                        Code::UnknownName,
                        span,
                        format!("no tensor or parameter `{name}`"),
                        "unknown name",
                    )
                    .help(help),
                );
                None
            }
        }
    }

    /// Whether a step of this section has written it.
    fn written(&self, t: TensorId) -> bool {
        self.history.get(&t).is_some_and(|h| h.set.is_some() || h.added.is_some())
    }

    fn read_too_early(&mut self, name: &str, span: Span) {
        let message = format!("`{name}` is read before it is written");
        let mut d = Diagnostic::error(Code::ReadBeforeWrite, span, message, "not written yet");
        if let Some(target) = self.targets.iter().find(|t| t.value == name) {
            // A step that reads its own target has both on one line.
            d = d.label(target.span, "written here").help(match target.span.start < span.start {
                true => {
                    "a step cannot read its own target: write a new local, or the sum that the recurrence stands for"
                }
                false => "move the step that writes it up",
            });
        }
        self.out.push(d);
    }

    fn value(&mut self, e: &syntax::Expr, scope: &mut Scope) -> Option<Expr> {
        match &e.kind {
            ExprKind::Number(n) => Some(Expr::Const(*n)),
            ExprKind::Name(name) => self.name_value(name, e.span, scope),
            ExprKind::Access(a) => {
                if a.index.is_empty()
                    && a.brackets
                    && self.visible(&a.name.value).is_some_and(|t| !self.op.tensor(t).axes.is_empty())
                {
                    let t = self.visible(&a.name.value)?;
                    self.check_arity(t, 0, 0, a.span)?;
                }
                self.read(&a.name.value, a.name.span, &a.index, a.span, scope).map(|(t, i)| Expr::Read(t, i))
            }
            ExprKind::Neg(a) => Some(self.value(a, scope)?.neg()),
            ExprKind::Binary(op, a, b) => match op {
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div => {
                    let (a, b) = (self.value(a, scope), self.value(b, scope));
                    let (a, b) = (Box::new(a?), Box::new(b?));
                    let f = match op {
                        BinaryOp::Add => Binary::Add,
                        BinaryOp::Sub => Binary::Sub,
                        BinaryOp::Mul => Binary::Mul,
                        _ => Binary::Div,
                    };
                    // As written: simplification would hide what an author's rule says from its certificate.
                    Some(Expr::Binary(f, a, b))
                }
                BinaryOp::Pow => {
                    let base = self.value(a, scope);
                    let exponent = match &b.kind {
                        ExprKind::Number(n) => Some(*n),
                        ExprKind::Neg(n) => match n.kind {
                            ExprKind::Number(n) => Some(-n),
                            _ => None,
                        },
                        _ => None,
                    };
                    match exponent {
                        Some(n) => Some(Expr::Powf(Box::new(base?), n)),
                        None => {
                            self.out.push(
                                Diagnostic::error(
                                    Code::Unsupported,
                                    b.span,
                                    "the exponent of `^` is a literal number",
                                    "not a literal",
                                )
                                .help("for any other exponent write `pow(a, b)`"),
                            );
                            None
                        }
                    }
                }
                _ => Some(Expr::Where(Box::new(self.cond(e, scope)?), Box::new(Expr::one()), Box::new(Expr::zero()))),
            },
            ExprKind::Not(_) => {
                Some(Expr::Where(Box::new(self.cond(e, scope)?), Box::new(Expr::one()), Box::new(Expr::zero())))
            }
            ExprKind::Call(f, args) => self.call(f, args, e.span, scope),
            ExprKind::Reduce { op, binders, body } => self.reduce(op, binders, body, scope),
        }
    }

    fn name_value(&mut self, name: &str, span: Span, scope: &mut Scope) -> Option<Expr> {
        if let Some(p) = self.op.params.iter().position(|p| p.name == name) {
            if let ParamKind::PerDim(a) = self.op.params[p].kind {
                let d = Diagnostic::error(
                    Code::NotAValue,
                    span,
                    format!("`{name}` has a number for each dimension of `{}`", self.op.axis(a).name),
                    "not one value",
                );
                self.out.push(d.help("declare it `int` or `real` to use it as a value"));
                return None;
            }
            return Some(Expr::Param(ParamId(p)));
        }
        if let Some(a) = self.axis_named(name) {
            return Some(Expr::Extent(a));
        }
        if self.visible(name).is_none() {
            match name {
                "pi" => return Some(Expr::Const(std::f64::consts::PI)),
                "inf" => return Some(Expr::Const(f64::INFINITY)),
                _ => {}
            }
            if scope.names.iter().any(|(n, _)| n == name) || self.op.axes.iter().any(|a| a.index == name) {
                let d = Diagnostic::error(
                    Code::NotAValue,
                    span,
                    format!("index `{name}` is a coordinate, not a value"),
                    "an index",
                );
                self.out.push(d.help("indices may be compared with each other: `where(i <= j, a, b)`"));
                return None;
            }
        }
        self.read(name, span, &[], span, scope).map(|(t, i)| Expr::Read(t, i))
    }

    fn call(&mut self, f: &At<String>, args: &[syntax::Expr], span: Span, scope: &mut Scope) -> Option<Expr> {
        let name = f.value.as_str();
        let expect = |r: &mut Self, n: usize| {
            if args.len() == n {
                return Some(());
            }
            r.out.push(Diagnostic::error(
                Code::Arity,
                span,
                format!("`{name}` takes {n} {}, here it has {}", plural(n, "argument", "arguments"), args.len()),
                format!("takes {n}"),
            ));
            None
        };
        if name == "where" {
            expect(self, 3)?;
            let (c, a, b) = (self.cond(&args[0], scope), self.value(&args[1], scope), self.value(&args[2], scope));
            return Some(Expr::Where(Box::new(c?), Box::new(a?), Box::new(b?)));
        }
        if let Some(u) = Unary::from_name(name) {
            expect(self, 1)?;
            return Some(Expr::unary(u, self.value(&args[0], scope)?));
        }
        match Binary::from_name(name) {
            Some(b @ (Binary::Pow | Binary::Atan2)) => {
                expect(self, 2)?;
                let (x, y) = (self.value(&args[0], scope), self.value(&args[1], scope));
                Some(Expr::Binary(b, Box::new(x?), Box::new(y?)))
            }
            Some(b @ (Binary::Min | Binary::Max)) => {
                if args.len() < 2 {
                    self.out.push(
                        Diagnostic::error(
                            Code::Arity,
                            span,
                            format!("`{name}` takes two arguments or more"),
                            "too few",
                        )
                        .help(format!("to reduce over an index, write `{name}(j) x[i,j]`")),
                    );
                    return None;
                }
                let values: Vec<_> = args.iter().map(|a| self.value(a, scope)).collect();
                let values: Option<Vec<_>> = values.into_iter().collect();
                values?.into_iter().reduce(|a, c| Expr::Binary(b, Box::new(a), Box::new(c)))
            }
            _ => {
                let mut names: Vec<_> = Unary::ALL.iter().map(|u| u.name()).collect();
                names.extend(["pow", "atan2", "min", "max", "where", "sum", "prod", "mean"]);
                let d =
                    Diagnostic::error(Code::UnknownName, f.span, format!("no function `{name}`"), "unknown function");
                let known = OTHER_NAMES.iter().find(|(other, _)| *other == name);
                self.out.push(d.help(match known {
                    Some((_, own)) => format!("it is called `{own}` here"),
                    None => suggestion(name, &names, "functions"),
                }));
                None
            }
        }
    }

    fn reduce(
        &mut self,
        op: &At<syntax::ReduceOp>,
        binders: &[syntax::Binder],
        body: &syntax::Expr,
        scope: &mut Scope,
    ) -> Option<Expr> {
        let depth = scope.names.len();
        let bound: Vec<_> =
            binders.iter().map(|b| self.bind(&b.name.value, b.name.span, b.axis.as_ref(), scope)).collect();
        let body = if bound.iter().all(Option::is_some) { self.value(body, scope) } else { None };
        scope.names.truncate(depth);
        let vars: Vec<VarId> = bound.into_iter().flatten().collect();
        let body = body?;
        let kind = match op.value {
            syntax::ReduceOp::Sum | syntax::ReduceOp::Mean => ReduceOp::Sum,
            syntax::ReduceOp::Prod => ReduceOp::Prod,
            syntax::ReduceOp::Max => ReduceOp::Max,
            syntax::ReduceOp::Min => ReduceOp::Min,
        };
        let count = vars.iter().map(|v| Expr::Extent(scope.vars[v.0].axis)).fold(Expr::one(), Expr::mul);
        let reduced = Expr::Reduce(kind, vars, Box::new(body));
        Some(if op.value == syntax::ReduceOp::Mean { reduced.div(count) } else { reduced })
    }

    fn cond(&mut self, e: &syntax::Expr, scope: &mut Scope) -> Option<Cond> {
        let compare = |op: BinaryOp| {
            Some(match op {
                BinaryOp::Lt => Compare::Lt,
                BinaryOp::Le => Compare::Le,
                BinaryOp::Gt => Compare::Gt,
                BinaryOp::Ge => Compare::Ge,
                BinaryOp::Eq => Compare::Eq,
                BinaryOp::Ne => Compare::Ne,
                _ => return None,
            })
        };
        match &e.kind {
            ExprKind::Not(a) => Some(Cond::Not(Box::new(self.cond(a, scope)?))),
            ExprKind::Binary(BinaryOp::And, a, b) => {
                let (a, b) = (self.cond(a, scope), self.cond(b, scope));
                Some(Cond::And(Box::new(a?), Box::new(b?)))
            }
            ExprKind::Binary(BinaryOp::Or, a, b) => {
                let (a, b) = (self.cond(a, scope), self.cond(b, scope));
                Some(Cond::Or(Box::new(a?), Box::new(b?)))
            }
            ExprKind::Call(f, args) if f.value == "inside" => match args.as_slice() {
                [syntax::Expr { kind: ExprKind::Access(a), .. }] => {
                    self.read(&a.name.value, a.name.span, &a.index, a.span, scope).map(|(t, i)| Cond::Inside(t, i))
                }
                _ => {
                    self.out.push(
                        Diagnostic::error(
                            Code::Arity,
                            e.span,
                            "`inside` takes one element of a tensor",
                            "not an element",
                        )
                        .help("write `inside(x[i - 1])`"),
                    );
                    None
                }
            },
            ExprKind::Binary(op, a, b) if compare(*op).is_some() => {
                let op = compare(*op)?;
                if self.mentions_index(a, scope) || self.mentions_index(b, scope) {
                    let (x, y) = (self.affine(a, scope, false), self.affine(b, scope, false));
                    let (x, y) = (x?, y?);
                    if !x.divided_by_one() || !y.divided_by_one() {
                        self.out.push(
                            Diagnostic::error(
                                Code::BadDivision,
                                e.span,
                                "compared indices take no division",
                                "a quotient",
                            )
                            .help("multiply both sides instead"),
                        );
                        return None;
                    }
                    let Some(v) = x.vars().chain(y.vars()).next() else {
                        let message = "the indices of this comparison cancel";
                        let d = Diagnostic::error(Code::NotAffine, e.span, message, "does not depend on an index");
                        self.out.push(d.help("write what it compares without them"));
                        return None;
                    };
                    let axis = scope.vars[v.0].axis;
                    self.unify(axis, &x, scope);
                    self.unify(axis, &y, scope);
                    return Some(Cond::Index(op, x, y));
                }
                let (x, y) = (self.value(a, scope), self.value(b, scope));
                Some(Cond::Value(op, x?, y?))
            }
            _ => {
                let d = Diagnostic::error(Code::NotAValue, e.span, "a condition is a comparison", "not a condition");
                self.out.push(d.help("write a comparison (`x[i] > 0`, `i <= j`), joined by `and`, `or`, `not`"));
                None
            }
        }
    }

    /// Whether a side of a comparison speaks of coordinates. Not so inside an access: there they only select an element.
    fn mentions_index(&self, e: &syntax::Expr, scope: &Scope) -> bool {
        match &e.kind {
            ExprKind::Name(n) => {
                let scalar = self.visible(n).is_some_and(|t| self.op.tensor(t).axes.is_empty());
                !scalar && (scope.names.iter().any(|(s, _)| s == n) || self.op.axes.iter().any(|a| a.index == *n))
            }
            ExprKind::Neg(a) | ExprKind::Not(a) => self.mentions_index(a, scope),
            ExprKind::Binary(_, a, b) => self.mentions_index(a, scope) || self.mentions_index(b, scope),
            ExprKind::Number(_) | ExprKind::Access(_) | ExprKind::Call(..) | ExprKind::Reduce { .. } => false,
        }
    }
}

fn find(ranks: &mut [usize], mut a: usize) -> usize {
    while ranks[a] != a {
        ranks[a] = ranks[ranks[a]];
        a = ranks[a];
    }
    a
}

/// `a + b`; at most one of the two is divided.
fn sum(a: &Affine, b: &Affine) -> Option<Affine> {
    let divisor = a.divisor.mul(&b.divisor)?;
    let (a, b) = (scale(a, &b.divisor)?, scale(b, &a.divisor)?);
    let mut terms: BTreeMap<VarId, Poly> = a.terms.into_iter().collect();
    for (v, c) in b.terms {
        let slot = terms.entry(v).or_default();
        *slot = slot.add(&c)?;
    }
    terms.retain(|_, c| !c.is_zero());
    bounded(Affine { terms: terms.into_iter().collect(), constant: a.constant.add(&b.constant)?, divisor })
}

/// `None` for coefficients that no spec needs: they would overflow at small shapes already, or take long to multiply out.
fn bounded(a: Affine) -> Option<Affine> {
    let fits = |p: &Poly| p.0.len() <= 64 && p.0.iter().all(|(m, c)| m.len() <= 4 && c.unsigned_abs() <= 1 << 32);
    let all = a.terms.iter().map(|(_, c)| c).chain([&a.constant, &a.divisor]).all(fits);
    all.then_some(a)
}

/// The numerator times `c`.
fn scale(a: &Affine, c: &Poly) -> Option<Affine> {
    if c.is_zero() {
        return Some(Affine::constant(Poly::default()));
    }
    let terms = a.terms.iter().map(|(v, p)| Some((*v, p.mul(c)?))).collect::<Option<_>>()?;
    bounded(Affine { terms, constant: a.constant.mul(c)?, divisor: a.divisor.clone() })
}

fn plural<'a>(n: usize, one: &'a str, many: &'a str) -> &'a str {
    if n == 1 { one } else { many }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// "did you mean" when a candidate is near, else all of them.
fn suggestion(word: &str, candidates: &[&str], what: &str) -> String {
    did_you_mean(word, candidates.iter().copied()).map_or_else(
        || format!("the {what} are {}", list(candidates.iter().copied())),
        |m| format!("did you mean `{m}`?"),
    )
}
