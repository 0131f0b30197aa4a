//! Values: takes the syntax of a right side, gives the value, its conditions and its reductions.

use super::*;
use crate::functions::Notation;

impl Resolver<'_> {
    pub(super) fn read(
        &mut self,
        name: &str,
        name_span: Span,
        index: &[syntax::IndexArg],
        span: Span,
        scope: &mut Scope,
    ) -> Option<(TensorId, Vec<Affine>)> {
        if let Some(call) = self.call_ahead(name, index) {
            self.call_within(call, span, "reads what the call makes later");
            self.failed.push(name.to_owned());
            return None;
        }
        let ahead = self.written_ahead(name, index);
        let t = match ahead {
            Some(t) => t,
            None => self.readable(name, name_span)?,
        };
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
            if mentions_value(&arg.expr) {
                self.position_by_value(t, index, &arg.expr, scope);
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
        self.used.push(t);
        if ahead.is_some() && self.early(t, &positions, index, span, scope)? {
            return Some((t, positions));
        }
        self.readable(name, name_span)?;
        let own = self.own(t);
        let h = self.history.entry(t).or_default();
        if own && h.writes.iter().all(|w| apart(&w.index, &positions)) {
            // Of the steps before, each writes another element.
            let written = h.writes.last().map(|w| w.span);
            let message = format!("this element of `{name}` is read before it is written");
            let mut d = Diagnostic::error(Code::ReadBeforeWrite, span, message, "not written yet");
            if let Some(written) = written {
                d = d.label(written, "only other elements are");
            }
            self.out.push(d.help("move the step that writes it up"));
            return None;
        }
        h.reads.push(Touch { span, index: positions.clone() });
        Some((t, positions))
    }

    pub(super) fn readable(&mut self, name: &str, span: Span) -> Option<TensorId> {
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
                if self.own(t) && !self.written(t) {
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
                let message = format!("no tensor or parameter `{name}`");
                let d = Diagnostic::error(Code::UnknownName, span, message, "unknown name");
                let local = |suffix: &str| name.strip_suffix(suffix).filter(|stem| self.locals.contains_key(*stem));
                let d = match (self.section, local("_bar"), local("_dot")) {
                    (Section::Adjoint, Some(stem), _) => d.help(format!(
                        "nothing declares the cotangent of the local `{stem}`: a step of the adjoint makes it, \
                         `{name}[..] = ...`, or leave `adjoint` out, and it is derived"
                    )),
                    (Section::Tangent, _, Some(stem)) => d.help(format!(
                        "nothing declares the tangent of the local `{stem}`: a step of the tangent makes it, \
                         `{name}[..] = ...`, or leave `tangent` out, and it is derived"
                    )),
                    _ => d.did_you_mean(name, span, &names, "names in scope"),
                };
                self.told_once(name, d);
                None
            }
        }
    }

    /// Whether a step of this section has written it.
    pub(super) fn written(&self, t: TensorId) -> bool {
        self.history.get(&t).is_some_and(|h| !h.writes.is_empty())
    }

    /// Whether the steps of this section make it.
    fn own(&self, t: TensorId) -> bool {
        match self.section {
            Section::Forward => matches!(self.op.tensor(t).role, Role::Output | Role::Local),
            _ => self.op.tensor(t).role == Role::RuleLocal,
        }
    }

    /// A position that is computed from elements: there are none such, but products with ones and zeros say the same.
    fn position_by_value(&mut self, t: TensorId, index: &[syntax::IndexArg], e: &syntax::Expr, scope: &Scope) {
        let message = "a position is a sum of indices, not a value of a tensor";
        let d = Diagnostic::error(Code::NotAffine, e.span, message, "a value");
        let tensor = self.op.tensor(t);
        let place = index.iter().position(|arg| arg.expr.span == e.span);
        let axis = place.and_then(|p| tensor.axes.get(p)).map(|a| self.op.axis(*a));
        let (ExprKind::Access(by), Some(place), Some(axis)) = (&e.kind, place, axis) else {
            self.out.push(d.help("a position is affine: integers, parameters and sizes times indices, in sum"));
            return;
        };
        // The index of the axis, under another name where this one is taken.
        let taken = scope.names.iter().any(|(n, _)| *n == axis.index);
        let (v, bound) = match taken {
            false => (axis.index.clone(), axis.index.clone()),
            true => (format!("{}2", axis.index), format!("{0}2 in {1}", axis.index, axis.name)),
        };
        let name = |arg: &syntax::IndexArg| match &arg.expr.kind {
            ExprKind::Name(n) => n.clone(),
            ExprKind::Number(n) => n.to_string(),
            _ => "..".to_string(),
        };
        let own: Vec<String> =
            index.iter().enumerate().map(|(p, arg)| if p == place { v.clone() } else { name(arg) }).collect();
        let mut hot: Vec<String> = by.index.iter().map(name).collect();
        hot.push(v.clone());
        let (at, of) = (by.name.value.as_str(), &tensor.name);
        self.out.push(d.help(format!(
            "let the caller give `{at}` as an input of ones and zeros, `hot`, with the axis `{}` besides, and sum over that: \
             `sum({bound}) hot[{}] * {of}[{}]`",
            axis.name,
            hot.join(","),
            own.join(",")
        )));
    }

    pub(super) fn read_too_early(&mut self, name: &str, span: Span) {
        let message = format!("`{name}` is read before it is written");
        let mut d = Diagnostic::error(Code::ReadBeforeWrite, span, message, "not written yet");
        if let Some(target) = self.targets.iter().find(|t| t.value == name) {
            d = d.label(target.span, "written here");
            let own = self.targets.get(self.current).is_some_and(|t| t.value == name);
            d = if own {
                d.help(format!(
                    "a step reads its own target only at a constant distance along an axis, as in `{name}[t - 1]`"
                ))
                .help(format!(
                    "to read all elements before, write one step an element, for a size that does not change: \
                     `{name}[0] = ..`, `{name}[1] = .. {name}[0] ..`"
                ))
                .help("a sum over them whose terms are the same for all that read it is a running sum: `s[t] = s[t - 1] + ..`")
            } else if target.span.start < span.start {
                d.help("a step reads what comes before it: move this one behind")
            } else {
                d.help("move the step that writes it up")
            };
        }
        self.out.push(d);
    }

    pub(super) fn value(&mut self, e: &syntax::Expr, scope: &mut Scope) -> Option<Expr> {
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
                BinaryOp::Add => self.operation(Binary::Add, a, b, scope),
                BinaryOp::Sub => self.operation(Binary::Sub, a, b, scope),
                BinaryOp::Mul => self.operation(Binary::Mul, a, b, scope),
                BinaryOp::Div => self.operation(Binary::Div, a, b, scope),
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
            ExprKind::Call(f, args, given) => self.function(f, args, given, e.span, scope),
            ExprKind::Reduce { op, binders, body } => self.reduce(op, binders, body, scope),
        }
    }

    pub(super) fn name_value(&mut self, name: &str, span: Span, scope: &mut Scope) -> Option<Expr> {
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
                self.out.push(d.help(format!(
                    "a running sum of ones is a tensor of coordinates: after the step `at[{name}] = 1 + at[{name} - 1]`, \
                     `at[{name}]` is {name} + 1; indices may also be compared with each other: `where(i <= j, a, b)`"
                )));
                return None;
            }
        }
        self.read(name, span, &[], span, scope).map(|(t, i)| Expr::Read(t, i))
    }

    pub(super) fn function(
        &mut self,
        f: &At<String>,
        args: &[syntax::Expr],
        given: &[syntax::Given],
        span: Span,
        scope: &mut Scope,
    ) -> Option<Expr> {
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
        let known = Unary::from_name(name).is_some() || Binary::from_name(name).is_some() || name == "where";
        if let Some(first) = given.first().filter(|_| known || !self.library.has(name)) {
            let message = format!("`{name}` is a function, which has no axes and no parameters");
            self.out.push(Diagnostic::error(Code::BadCall, first.span, message, "only calls of ops say this"));
            return None;
        }
        if name == "where" {
            expect(self, 3)?;
            let (c, a, b) = (self.cond(&args[0], scope), self.value(&args[1], scope), self.value(&args[2], scope));
            return Some(Expr::Where(Box::new(c?), Box::new(a?), Box::new(b?)));
        }
        if let Some(u) = Unary::from_name(name) {
            expect(self, 1)?;
            return Some(Expr::unary(u, self.value(&args[0], scope)?));
        }
        match Binary::from_name(name).map(|f| (f, f.row().notation)) {
            Some((b, Notation::Two)) => {
                expect(self, 2)?;
                let (x, y) = (self.value(&args[0], scope), self.value(&args[1], scope));
                Some(Expr::Binary(b, Box::new(x?), Box::new(y?)))
            }
            Some((b, Notation::TwoOrMore)) => {
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
            Some((_, Notation::Operator)) | None if self.library.has(name) => {
                self.not_in_a_formula(f, span);
                None
            }
            Some((_, Notation::Operator)) | None => {
                let mut names: Vec<_> = Unary::ALL.iter().map(|u| u.name()).collect();
                let calls = Binary::ALL.iter().filter(|f| f.row().notation != Notation::Operator);
                names.extend(calls.map(|f| f.name()));
                names.extend(["where", "sum", "prod", "mean"]);
                let d =
                    Diagnostic::error(Code::UnknownName, f.span, format!("no function `{name}`"), "unknown function");
                let known = OTHER_NAMES.iter().find(|(other, _)| *other == name);
                let d = match known {
                    Some((_, own)) => d.help(format!("it is called `{own}` here")).suggest(f.span, *own),
                    None if matches!(name, "stop_gradient" | "stop_grad" | "detach") => d.help(
                        "make what has no derivative an input of its own, and leave it out of the `wrt:` of a program",
                    ),
                    None => d.did_you_mean(name, f.span, &names, "functions"),
                };
                self.told_once(name, d);
                None
            }
        }
    }

    /// As written: simplification would hide what an author's rule says from its certificate.
    fn operation(&mut self, f: Binary, a: &syntax::Expr, b: &syntax::Expr, scope: &mut Scope) -> Option<Expr> {
        let (a, b) = (self.value(a, scope), self.value(b, scope));
        Some(Expr::Binary(f, Box::new(a?), Box::new(b?)))
    }

    pub(super) fn not_in_a_formula(&mut self, f: &At<String>, span: Span) {
        let name = &f.value;
        let message = format!("`{name}` is an op: it takes whole tensors and makes one");
        let d = Diagnostic::error(Code::BadCall, span, message, "not within a formula");
        let help = format!(
            "call it in a step of its own, `h = {name}(...)`, and read elements of `h` here, as in `y[i] = h[i] + b[i]`"
        );
        self.out.push(d.help(help));
    }

    /// An op that is called within a formula.
    pub(super) fn op_within<'e>(&self, e: &'e syntax::Expr) -> Option<(&'e At<String>, Span)> {
        match &e.kind {
            ExprKind::Call(f, args, _) => {
                let function = Unary::from_name(f).is_some() || Binary::from_name(f).is_some() || f.value == "where";
                let own = (!function && self.library.has(f)).then_some((f, e.span));
                own.or_else(|| args.iter().find_map(|a| self.op_within(a)))
            }
            ExprKind::Neg(a) | ExprKind::Not(a) => self.op_within(a),
            ExprKind::Binary(_, a, b) => self.op_within(a).or_else(|| self.op_within(b)),
            ExprKind::Reduce { body, .. } => self.op_within(body),
            ExprKind::Number(_) | ExprKind::Name(_) | ExprKind::Access(_) => None,
        }
    }

    pub(super) fn reduce(
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

    pub(super) fn cond(&mut self, e: &syntax::Expr, scope: &mut Scope) -> Option<Cond> {
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
            ExprKind::Call(f, args, _) if f.value == "inside" => match args.as_slice() {
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
                    if let Some(value) = [a, b].into_iter().find(|side| mentions_value(side)) {
                        let message = "an index is compared with indices, not with values";
                        let d = Diagnostic::error(Code::NotAffine, value.span, message, "a value");
                        self.out.push(d.help(
                            "let the caller give what this tells as an input of ones and zeros, and multiply by it",
                        ));
                        return None;
                    }
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

    /// Whether a side of a comparison speaks of coordinates. Not so inside an access: there they only select an
    /// element.
    pub(super) fn mentions_index(&self, e: &syntax::Expr, scope: &Scope) -> bool {
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

/// Whether elements of tensors, functions or reductions stand in what is to be an index.
fn mentions_value(e: &syntax::Expr) -> bool {
    match &e.kind {
        ExprKind::Access(_) | ExprKind::Call(..) | ExprKind::Reduce { .. } => true,
        ExprKind::Neg(a) => mentions_value(a),
        ExprKind::Binary(_, a, b) => mentions_value(a) || mentions_value(b),
        ExprKind::Name(_) | ExprKind::Number(_) | ExprKind::Not(_) => false,
    }
}
