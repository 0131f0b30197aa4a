//! Declarations: takes the axes, parameters, tensors, sizes and domains of a spec, gives the tables of the op, names
//! checked.

use super::*;

impl Resolver<'_> {
    pub(super) fn declare(&mut self, spec: &Spec) {
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
        self.declare_params(spec);
        self.declare_tensors(spec);
        for (axis, formula, tree) in sizes {
            self.declare_size(axis, formula, &tree);
        }
    }

    fn declare_params(&mut self, spec: &Spec) {
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
    }

    /// Tensors with their domains, and the duals of each.
    fn declare_tensors(&mut self, spec: &Spec) {
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
                    self.out.push(d.did_you_mean(&name.value, name.span, &inputs, "inputs"));
                }
            }
        }
        for t in self.op.inputs().into_iter().chain(self.op.outputs()) {
            self.op.dual(t, Role::Tangent);
            self.op.dual(t, Role::Cotangent);
        }
    }

    /// The size of an axis. It meets the axes that it is derived from in one rank.
    fn declare_size(&mut self, axis: &At<String>, formula: &Formula, tree: &syntax::Expr) {
        let Some(id) = self.axis_named(&axis.value) else { return };
        if let Some(size) = self.size(tree) {
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

    pub(super) fn declare_axis(&mut self, axis: &At<String>) {
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

    pub(super) fn declare_axes_of(&mut self, e: &syntax::Expr) {
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
    pub(super) fn check_free_axes(&mut self) {
        // A step that could not be read may be over any axis.
        if !self.failed.is_empty() {
            return;
        }
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
            let message = format!("no tensor and no step has an axis `{name}`");
            let d = Diagnostic::error(Code::UnknownAxis, span, message, "unknown axis");
            self.out.push(d.did_you_mean(&name, span, &others, "axes"));
        }
    }

    pub(super) fn axis_named(&self, name: &str) -> Option<AxisId> {
        self.op.axes.iter().position(|a| a.name == name).map(AxisId)
    }

    pub(super) fn find_rank(&mut self, a: usize) -> usize {
        find(&mut self.ranks, a)
    }

    pub(super) fn same_rank(&mut self, a: AxisId, b: AxisId) {
        let (x, y) = (self.find_rank(a.0), self.find_rank(b.0));
        self.ranks[x] = y;
    }

    pub(super) fn size(&mut self, e: &syntax::Expr) -> Option<Size> {
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
                    BinaryOp::Div => Size::Div(a, b),
                    _ => unreachable!("one of these four"),
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

    pub(super) fn size_atom(&mut self, name: &str, span: Span) -> Option<Atom> {
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
                let message = format!("`{name}` is neither an axis nor a parameter");
                let d = Diagnostic::error(Code::UnknownName, span, message, "unknown size");
                self.out.push(d.did_you_mean(name, span, &candidates, "sizes and parameters"));
                None
            }
        }
    }

    pub(super) fn integer(&mut self, n: f64, span: Span) -> Option<i64> {
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
}
