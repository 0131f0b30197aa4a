//! Binding: an op and the numbers of an instance or a sample, to the extents of every axis and the value of every
//! parameter.
//!
//! Holds after it: every axis has its extents, derived ones computed, all at least 1; axes of one rank class have one
//! rank; recurrences run along axes of one dimension and read what was written before; parameters per dimension have
//! that many numbers.

use super::*;

/// An extent above this is taken for a slip: products of a few would not fit an address space.
pub const MAX_EXTENT: i64 = 1 << 31;
/// The most elements that a tensor may have.
pub const MAX_ELEMENTS: usize = 1 << 31;

#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    Ints(Vec<i64>),
    Int(i64),
    Real(f64),
}

/// Why an index cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Beyond 64 bits.
    Overflow,
    /// Divided by this number.
    Divisor(i64),
}

/// The numbers of an instance.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Of each axis, by dimension.
    pub extents: Vec<Vec<usize>>,
    pub params: Vec<ParamValue>,
}

/// Why numbers do not bind. Positions are of the op's tables.
#[derive(Clone, Debug, PartialEq)]
pub enum BindError {
    Missing(AxisId),
    /// Two axes that meet in an index differ in rank.
    Ranks(AxisId, AxisId),
    /// A parameter has not one number for each dimension of its axis.
    ParamRank(ParamId, AxisId),
    /// An extent that is not in `1..=MAX_EXTENT`, or overflows (`None`).
    Extent(AxisId, usize, Option<i64>),
    /// An extent that is divided by zero.
    Zero(AxisId, usize),
    /// A tensor with more than [`MAX_ELEMENTS`] elements.
    TooLarge(TensorId),
    /// A recurrence along an axis that has not one dimension.
    Iterations(AxisId, Span),
    /// A recurrence that reads a tensor at this distance, which is in the other direction or nowhere.
    Distance(TensorId, Span, i64),
}

impl Binding {
    /// Binds the given sizes (`None` where derived or not given) and parameters.
    pub fn new(op: &Op, given: &[Option<Vec<i64>>], params: Vec<ParamValue>) -> Result<Self, Vec<BindError>> {
        let mut errors = Vec::new();
        let mut sizes: Vec<Option<Vec<i64>>> = given.to_vec();
        for (a, axis) in op.axes.iter().enumerate() {
            if axis.size.is_none() && sizes[a].is_none() {
                errors.push(BindError::Missing(AxisId(a)));
            }
        }
        // Given axes of a class agree in rank; so do parameters with their axes.
        let mut rank_of: Vec<Option<(usize, usize)>> = vec![None; op.axes.len()];
        for (a, size) in sizes.iter().enumerate() {
            let Some(size) = size else { continue };
            let class = op.axes[a].rank_class;
            match rank_of[class] {
                None => rank_of[class] = Some((size.len(), a)),
                Some((rank, first)) if rank != size.len() => errors.push(BindError::Ranks(AxisId(first), AxisId(a))),
                Some(_) => {}
            }
        }
        for (p, value) in params.iter().enumerate() {
            if let (ParamKind::PerDim(a), ParamValue::Ints(v)) = (op.params[p].kind, value) {
                let class = op.axes[a.0].rank_class;
                match rank_of[class] {
                    Some((rank, _)) if rank != v.len() => errors.push(BindError::ParamRank(ParamId(p), a)),
                    _ => {}
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for (a, axis) in op.axes.iter().enumerate() {
            let Some(size) = &axis.size else { continue };
            let rank = rank_of[axis.rank_class].map_or(1, |(rank, _)| rank);
            let computed: Vec<Option<i64>> =
                (0..rank).map(|d| size.eval(&|atom| value_of(atom, d, &sizes, &params))).collect();
            if let Some(d) = computed.iter().position(Option::is_none) {
                let zero = size.divides_by_zero(&|atom| value_of(atom, d, &sizes, &params));
                errors.push(if zero { BindError::Zero(AxisId(a), d) } else { BindError::Extent(AxisId(a), d, None) });
            }
            let computed: Vec<i64> = computed.into_iter().flatten().collect();
            // A derived size may be stated too: then it must agree, which the caller checks against the binding.
            sizes[a] = Some(computed);
        }
        for (a, size) in sizes.iter().enumerate() {
            for (d, n) in size.iter().flatten().enumerate() {
                if !(1..=MAX_EXTENT).contains(n) {
                    errors.push(BindError::Extent(AxisId(a), d, Some(*n)));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let extents =
            sizes.into_iter().map(|s| s.unwrap_or_default().into_iter().map(|n| n as usize).collect()).collect();
        let binding = Binding { extents, params };
        for stmts in [&op.forward, &op.adjoint.stmts, &op.tangent.stmts] {
            // What is wrong with the formula is wrong with its derivatives too.
            let units = scan::units(stmts).into_iter().filter(|_| errors.is_empty()).collect::<Vec<_>>();
            units.into_iter().for_each(|unit| binding.recurrence(op, &stmts[unit], &mut errors));
        }
        // What a program's dense derivatives take is looked at where they are made.
        let dense = op.dense();
        for t in (0..op.tensors.len()).map(TensorId).filter(|t| !dense.contains(t)) {
            if binding.too_large(op, t) {
                errors.push(BindError::TooLarge(t));
            }
        }
        if errors.is_empty() { Ok(binding) } else { Err(errors) }
    }

    /// What stands against running a recurrence iteration by iteration at these numbers.
    fn recurrence(&self, op: &Op, unit: &[Stmt], errors: &mut Vec<BindError>) {
        let Some(recurrence) = unit[0].scan else { return };
        let axis = unit[0].vars[recurrence.var.0].axis;
        if self.rank(axis) != 1 {
            let error = BindError::Iterations(axis, unit[0].span);
            if !errors.contains(&error) {
                errors.push(error);
            }
            return;
        }
        for shift in scan::shifts(op, unit).into_iter().flatten() {
            let number = shift.distance.eval(&|atom| self.atom(atom, 0));
            if number.is_none_or(|n| Some(n.cmp(&0)) != scan::sign(&shift.distance)) {
                errors.push(BindError::Distance(shift.tensor, shift.span, number.unwrap_or(i64::MAX)));
            }
        }
    }

    /// The extents of a tensor, its groups one after the other.
    pub fn shape(&self, op: &Op, t: TensorId) -> Vec<usize> {
        op.tensor(t).axes.iter().flat_map(|a| self.extents[a.0].iter().copied()).collect()
    }

    /// Whether a tensor has more elements than any may have.
    pub fn too_large(&self, op: &Op, t: TensorId) -> bool {
        let elements = self.shape(op, t).iter().try_fold(1usize, |p, n| p.checked_mul(*n));
        elements.is_none_or(|n| n > MAX_ELEMENTS)
    }

    /// The number of elements of a tensor.
    pub fn elements(&self, op: &Op, t: TensorId) -> usize {
        self.shape(op, t).iter().product()
    }

    pub fn rank(&self, a: AxisId) -> usize {
        self.extents[a.0].len()
    }

    /// A size or parameter in one dimension.
    pub fn atom(&self, atom: Atom, dim: usize) -> i64 {
        match atom {
            Atom::Axis(a) => self.extents[a.0][dim] as i64,
            Atom::Param(p) => param_in(&self.params[p.0], dim),
        }
    }

    /// A coefficient in one dimension. Checked for overflow where instances are bound, so a failure here is a bug.
    pub fn poly(&self, p: &Poly, dim: usize) -> i64 {
        p.eval(&|a| self.atom(a, dim)).expect("coefficients of a bound op fit")
    }

    /// The first statement with an index or a coefficient beyond 2^62, or with a divisor that is not above zero.
    /// Without one, every index of a statement can be computed in `i64`.
    pub fn unusable(&self, op: &Op) -> Option<(Span, Unusable)> {
        op.forward.iter().chain(&op.adjoint.stmts).chain(&op.tangent.stmts).find_map(|s| {
            let mut found = None;
            let mut see = |a: &Affine| found = found.or_else(|| self.unusable_index(s, a));
            s.index.iter().for_each(&mut see);
            s.value.positions(&mut see);
            found.map(|why| (s.span, why))
        })
    }

    fn unusable_index(&self, s: &Stmt, a: &Affine) -> Option<Unusable> {
        let limit = 1i128 << 62;
        let rank = a.vars().map(|v| self.rank(s.vars[v.0].axis)).max();
        // A position without variables: its atoms say how many dimensions there are, and none of them says one.
        let atoms = || a.constant.atoms().chain(a.divisor.atoms());
        let rank = rank.or_else(|| atoms().filter_map(|atom| self.rank_of(atom)).max()).unwrap_or(1);
        (0..rank).find_map(|dim| {
            let number = |p: &Poly| p.eval(&|atom| self.atom(atom, dim)).map(i128::from);
            let (Some(mut total), Some(divisor)) = (number(&a.constant).map(i128::abs), number(&a.divisor)) else {
                return Some(Unusable::Overflow);
            };
            if divisor < 1 {
                return Some(Unusable::Divisor(divisor as i64));
            }
            for (v, c) in &a.terms {
                let Some(c) = number(c) else { return Some(Unusable::Overflow) };
                total = total.saturating_add(c.abs().saturating_mul(self.extents[s.vars[v.0].axis.0][dim] as i128));
            }
            (total > limit).then_some(Unusable::Overflow)
        })
    }

    /// The number of dimensions of a size or parameter, where it has one.
    fn rank_of(&self, atom: Atom) -> Option<usize> {
        match atom {
            Atom::Axis(a) => Some(self.rank(a)),
            Atom::Param(p) => match &self.params[p.0] {
                ParamValue::Ints(v) => Some(v.len()),
                ParamValue::Int(_) | ParamValue::Real(_) => None,
            },
        }
    }

    /// A parameter as a value.
    pub fn real(&self, p: ParamId) -> f64 {
        match &self.params[p.0] {
            ParamValue::Real(v) => *v,
            ParamValue::Int(n) => *n as f64,
            ParamValue::Ints(_) => unreachable!("parameters per dimension are not values"),
        }
    }

    /// The number of elements of a group.
    pub fn count(&self, a: AxisId) -> usize {
        self.extents[a.0].iter().product()
    }
}

fn value_of(atom: Atom, dim: usize, sizes: &[Option<Vec<i64>>], params: &[ParamValue]) -> i64 {
    match atom {
        Atom::Axis(a) => sizes[a.0].as_ref().and_then(|s| s.get(dim)).copied().unwrap_or(0),
        Atom::Param(p) => param_in(&params[p.0], dim),
    }
}

fn param_in(value: &ParamValue, dim: usize) -> i64 {
    match value {
        ParamValue::Ints(v) => v.get(dim).copied().unwrap_or(0),
        ParamValue::Int(n) => *n,
        ParamValue::Real(_) => unreachable!("real parameters do not stand in sizes"),
    }
}
