//! Index positions: takes the syntax of an index expression, gives an affine map, its indices bound and its axes of one
//! rank.

use super::*;

impl Resolver<'_> {
    pub(super) fn target_position(&mut self, arg: &syntax::IndexArg, scope: &mut Scope) -> Option<Affine> {
        if let Some(axis) = &arg.axis {
            if let ExprKind::Number(_) = &arg.expr.kind {
                self.axis_at(axis)?;
                return self.affine(&arg.expr, scope, true);
            }
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
    pub(super) fn bind(
        &mut self,
        name: &str,
        span: Span,
        axis: Option<&At<String>>,
        scope: &mut Scope,
    ) -> Option<VarId> {
        if scope.names.iter().any(|(n, _)| n == name) {
            self.out.push(
                Diagnostic::error(Code::Duplicate, span, format!("index `{name}` is bound already"), "bound twice")
                    .help(format!("bind another index of the axis: `{name}2 in {}`", self.an_axis(name))),
            );
            return None;
        }
        let id = match axis {
            Some(axis) => self.axis_at(axis)?,
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

    /// The axis that is named here.
    fn axis_at(&mut self, axis: &At<String>) -> Option<AxisId> {
        let known = self.axis_named(&axis.value);
        if known.is_none() {
            let axes: Vec<_> = self.op.axes.iter().map(|a| a.name.as_str()).collect();
            let message = format!("no axis `{}`", axis.value);
            let d = Diagnostic::error(Code::UnknownAxis, axis.span, message, "unknown axis");
            let d = d.did_you_mean(&axis.value, axis.span, &axes, "axes");
            self.told_once(&axis.value, d);
        }
        known
    }

    /// The axis whose index has the name, else the first: for messages.
    pub(super) fn an_axis(&self, index: &str) -> &str {
        let axes = &self.op.axes;
        axes.iter().find(|a| a.index == index).or(axes.first()).map_or("I", |a| a.name.as_str())
    }

    /// `x[I]` reads beyond the end, always: a slip for `x[i]`. Says so and gives `false`.
    pub(super) fn own_sizes(&mut self, t: TensorId, index: &[Affine], args: &[syntax::IndexArg]) -> bool {
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
                .help(format!("the index of the axis is `{index}`"))
                .suggest(arg.expr.span, index.clone()),
            );
        }
        fine
    }

    pub(super) fn unknown_index(&mut self, name: &str, span: Span, scope: &Scope) {
        let indices: Vec<_> = self.op.axes.iter().map(|a| a.index.as_str()).collect();
        let in_scope = scope.names.iter().map(|(n, _)| n.as_str());
        let near = did_you_mean(
            name,
            indices.iter().copied().chain(in_scope).chain(self.op.params.iter().map(|p| p.name.as_str())),
        );
        let mut d = Diagnostic::error(
            Code::UnknownIndex,
            span,
            format!("index `{name}` has no axis here"),
            "not an index of any axis",
        );
        d = match near {
            Some(near) => d.help(format!("did you mean `{near}`?")).suggest(span, near),
            None => {
                // Which axis it is of, the author alone knows.
                let own = match name {
                    // What only a slip of the shift key or a letter that no axis begins with could be.
                    name if name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                        let mut axis = name.to_string();
                        axis[..1].make_ascii_uppercase();
                        format!("; for an axis of its own declare `{axis}` under `sizes:` or in a tensor")
                    }
                    _ => String::new(),
                };
                d.help(format!(
                    "the axes are {}; a further index of one of them is bound on the left or by a reduction, `{name} in ..`{own}",
                    self.axis_names()
                ))
            }
        };
        if let Some(first) = self.op.axes.first() {
            d = d.label(
                first.span,
                format!(
                    "axes in scope: {}",
                    self.op.axes.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            );
        }
        self.told_once(name, d);
    }

    /// Of a name that nothing has only the first place is shown, unless the error says what to write at each.
    pub(super) fn told_once(&mut self, name: &str, d: Diagnostic) {
        if !d.suggestions.is_empty() || self.told.insert((d.code, name.to_owned())) {
            self.out.push(d);
        }
    }

    /// An index expression. `declare`: names of free indices are bound by standing here (a left side).
    pub(super) fn affine(&mut self, e: &syntax::Expr, scope: &mut Scope, declare: bool) -> Option<Affine> {
        match &e.kind {
            ExprKind::Number(n) => Some(Affine::constant(Poly::int(self.integer(*n, e.span)?))),
            ExprKind::Name(name) => self.affine_name(name, e.span, scope, declare),
            ExprKind::Neg(a) => {
                let a = self.affine(a, scope, declare)?;
                self.fitting(scale(&a, &Poly::int(-1)), e.span)
            }
            ExprKind::Binary(op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div), a, b) => {
                let (x, y) = (self.affine(a, scope, declare), self.affine(b, scope, declare));
                let (x, y) = (x?, y?);
                match op {
                    BinaryOp::Mul => self.affine_product(x, y, e.span),
                    BinaryOp::Div => self.affine_quotient(x, y, e.span, b.span),
                    _ => self.affine_sum(x, y, *op, e.span),
                }
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

    /// A map that was computed. `None` is told: its coefficients do not fit.
    fn fitting(&mut self, map: Option<Affine>, span: Span) -> Option<Affine> {
        if map.is_none() {
            self.out.push(Diagnostic::error(
                Code::NotAffine,
                span,
                "the coefficients of this index are too large",
                "overflows",
            ));
        }
        map
    }

    /// A name in an index: an index that is bound, one that is bound by standing here, or a size.
    fn affine_name(&mut self, name: &str, span: Span, scope: &mut Scope, declare: bool) -> Option<Affine> {
        if let Some((_, v)) = scope.names.iter().rev().find(|(n, _)| n == name) {
            return Some(Affine::var(*v));
        }
        let is_index = self.op.axes.iter().any(|a| a.index == *name);
        if is_index && declare {
            return self.bind(name, span, None, scope).map(Affine::var);
        }
        if is_index {
            if scope.unbound.iter().any(|n| n == name) {
                return None;
            }
            scope.unbound.push(name.to_owned());
            let d = Diagnostic::error(
                Code::UnboundIndex,
                span,
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
            return self.size_atom(name, span).map(|a| Affine::constant(Poly::atom(a)));
        }
        self.unknown_index(name, span, scope);
        None
    }

    fn affine_sum(&mut self, a: Affine, b: Affine, op: BinaryOp, span: Span) -> Option<Affine> {
        if !a.divided_by_one() && !b.divided_by_one() {
            self.out.push(
                Diagnostic::error(Code::BadDivision, span, "an index position takes one division", "two divisions")
                    .help("bring both under one denominator"),
            );
            return None;
        }
        let b = if op == BinaryOp::Sub { scale(&b, &Poly::int(-1)) } else { Some(b) };
        self.fitting(b.and_then(|b| sum(&a, &b)), span)
    }

    fn affine_product(&mut self, x: Affine, y: Affine, span: Span) -> Option<Affine> {
        let (map, factor) = if y.terms.is_empty() { (x, y) } else { (y, x) };
        if !factor.terms.is_empty() {
            self.out.push(
                Diagnostic::error(Code::NotAffine, span, "a product of two indices is not affine", "index times index")
                    .help("an index may be multiplied by integers, parameters and sizes"),
            );
            return None;
        }
        if !map.divided_by_one() || !factor.divided_by_one() {
            self.out.push(
                Diagnostic::error(
                    Code::BadDivision,
                    span,
                    "a division in an index stands outermost",
                    "multiplies a quotient",
                )
                .help("multiply the numerator instead"),
            );
            return None;
        }
        self.fitting(scale(&map, &factor.constant), span)
    }

    /// `by`: where the divisor stands.
    fn affine_quotient(&mut self, x: Affine, y: Affine, span: Span, by: Span) -> Option<Affine> {
        let why = match () {
            () if !y.terms.is_empty() => Some("an index"),
            () if !y.divided_by_one() => Some("a quotient"),
            () if y.constant.as_int().is_some_and(|n| n <= 0) => Some("not above zero"),
            () => None,
        };
        if let Some(why) = why {
            self.out.push(Diagnostic::error(
                Code::BadDivision,
                by,
                "an index is divided by a whole number above zero, a parameter or a size",
                why,
            ));
            return None;
        }
        let divisor = x.divisor.mul(&y.constant);
        self.fitting(divisor.and_then(|divisor| bounded(Affine { divisor, ..x })), span)
    }

    /// Every axis that meets in a position has the same rank.
    pub(super) fn unify(&mut self, axis: AxisId, a: &Affine, scope: &Scope) {
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

    pub(super) fn check_arity(&mut self, t: TensorId, resolved: usize, given: usize, span: Span) -> Option<()> {
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

/// `None` for coefficients that no spec needs: they would overflow at small shapes already, or take long to multiply
/// out.
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
