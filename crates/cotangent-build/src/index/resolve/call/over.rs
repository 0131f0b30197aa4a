//! Statements over the caller's axes: takes those of an op and what stands for its axes, gives them as the caller could
//! have written them.
//!
//! Holds after it: every tensor of the op has a place in the caller, its locals as new ones; sizes and indices are in
//! the caller's axes and parameters, and fit 64 bits.

use super::*;
use crate::index::normal::{build, part};

impl Resolver<'_> {
    /// Where the positions of an access to one of the op's tensors stand in the caller's.
    pub(super) fn place(
        &mut self,
        callee: &Op,
        said: &SaidSoFar,
        b: &Actuals,
        of: TensorId,
        tensor: TensorId,
    ) -> Option<Mapped> {
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
            return Some(Mapped { tensor, slots: slots.into_iter().flatten().collect() });
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
    pub(super) fn over(
        &mut self,
        callee: &Op,
        b: &Actuals,
        places: &mut BTreeMap<TensorId, Mapped>,
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
        let over = Instance { b, places, kept, parts };
        let (target, index) = over.access(s.target, &s.index)?;
        let value = over.expr(&s.value)?;
        let bound = (s.free..s.vars.len()).flat_map(|v| over.parts[v].clone()).collect();
        let recurrence = s.scan.map(|t| Recurrence { var: over.parts[t.var.0][0], ..t });
        let scan = part(recurrence, &index);
        Some(Stmt { scan, ..build(target, index, s.accumulate, &vars, s.reduce.map(|r| (r, bound)), value, span) })
    }

    /// One axis stands for each along which the op has a recurrence.
    pub(super) fn iterations(&mut self, callee: &Op, f: &At<String>, b: &Actuals) -> Option<()> {
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
        b: &Actuals,
        places: &mut BTreeMap<TensorId, Mapped>,
        t: TensorId,
        span: Span,
    ) {
        if places.contains_key(&t) {
            return;
        }
        let place = match callee.tensor(t).role {
            Role::Tangent(of) => {
                self.local_place(callee, b, places, of, span);
                let Mapped { tensor, slots } = &places[&of];
                let slots = slots.clone();
                Mapped { tensor: self.op.dual(*tensor, Role::Tangent), slots }
            }
            role => {
                let Tensor { name, axes, .. } = callee.tensor(t);
                let name = format!("{}_{name}", b.result);
                let tensor = self.op.add_tensor(&name, b.all(callee, t), role, span);
                let kept = (0..b.kept.len()).map(Slot::Kept);
                let own =
                    axes.iter().enumerate().flat_map(|(p, a)| (0..b.of(*a).len()).map(move |d| Slot::Position(p, d)));
                Mapped { tensor, slots: kept.chain(own).collect() }
            }
        };
        places.insert(t, place);
    }

    pub(super) fn sized<T>(&mut self, value: Option<T>, span: Span) -> Option<T> {
        if value.is_none() {
            self.too_large(span);
        }
        value
    }

    pub(super) fn too_large(&mut self, span: Span) {
        let message = "an index or a size of this call exceeds 64 bits, or is divided by zero";
        self.out.push(Diagnostic::error(Code::BadCall, span, message, "cannot be computed"));
    }

    /// A derived size of the op in one of the dimensions that its axis stands for. Derived sizes within are written
    /// out.
    pub(super) fn size_over(&self, b: &Actuals, size: &Size, d: usize) -> Option<Size> {
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

/// One statement on its way.
struct Instance<'a> {
    b: &'a Actuals,
    places: &'a BTreeMap<TensorId, Mapped>,
    /// The variables of the kept axes.
    kept: Vec<VarId>,
    /// For each variable of the op's statement those that stand for it.
    parts: Vec<Vec<VarId>>,
}

impl Instance<'_> {
    fn access(&self, t: TensorId, index: &[Affine]) -> Option<(TensorId, Vec<Affine>)> {
        let Mapped { tensor, slots } = &self.places[&t];
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
                // Instance no dimension all are equal.
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
