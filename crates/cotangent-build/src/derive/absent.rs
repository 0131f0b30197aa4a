//! Branches not taken: takes the statements of derived rules, gives them with the products in which a zero of a
//! cotangent or a tangent may meet an infinity put under a condition.
//!
//! `r = sqrt(x)`, `y = where(x > 0, r, 0)`: where the branch is not taken, the cotangent of `r` is an absent zero, and
//! its product with the slope of the root is zero, though that is infinite. Holds after it: such a product is zero
//!
//! - where the cotangent is zero as no branch takes it, and the other factor can be infinite or NaN. In a contraction,
//!   whose factors are each read many times, that is decided by the functions they come from, inputs taken to be
//!   finite; elsewhere any factor that is read counts;
//! - where a factor is zero and another the slope of a root at zero, which is infinite though the value is finite; not
//!   in contractions.
//!
//! What no branch and no root has to do with stays as it is. The result is not to be differentiated again: a product of
//! which a factor happens to be zero has a slope.

use super::range::{Range, Ranges};
use super::tangent::excludes_zero;
use crate::index::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Neg;

/// Puts products of the rules that are derived under conditions. `params`: what the instances give.
pub fn absorb(op: &mut Op, params: &BTreeMap<ParamId, Range>) {
    // The tangent that is the transpose of a declared adjoint is as that says.
    if op.adjoint.declared {
        return;
    }
    op.adjoint.stmts = absorbed(op, params, &op.forward, &op.adjoint.stmts);
    if !op.tangent.declared {
        op.tangent.stmts = absorbed(op, params, &op.forward, &op.tangent.stmts);
    }
}

/// The statements, which stand behind `before`.
pub fn absorbed(op: &Op, params: &BTreeMap<ParamId, Range>, before: &[Stmt], stmts: &[Stmt]) -> Vec<Stmt> {
    let all: Vec<Stmt> = before.iter().chain(stmts).cloned().collect();
    let sides = sides(op, &all);
    if sides.is_empty() {
        return stmts.to_vec();
    }
    let tensors = (0..op.tensors.len()).map(|t| (TensorId(t), domain(&op.tensors[t]))).collect();
    let mut ranges = Ranges { params, tensors };
    ranges.run(&all);
    let (zeros, steep) = (BTreeMap::new(), BTreeSet::new());
    let mut facts = Facts { op, ranges, sides, zeros, steep, roots: roots(&all), counts: counts(&all) };
    facts.find(&all);
    stmts.iter().map(|s| Stmt { value: facts.guarded(s), ..s.clone() }).collect()
}

fn domain(t: &Tensor) -> Range {
    t.domain.map_or(Range::ALL, |d| Range::new(above(d.lo, d.lo_closed), below(d.hi, d.hi_closed)))
}

/// The end of an interval that does not have it.
fn above(lo: f64, closed: bool) -> f64 {
    if closed || !lo.is_finite() { lo } else { lo.next_up() }
}
fn below(hi: f64, closed: bool) -> f64 {
    if closed || !hi.is_finite() { hi } else { hi.next_down() }
}

/// Which way what a tensor holds goes.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Tangent,
    Cotangent,
}

/// Tangents, cotangents and what is linear in them.
fn sides(op: &Op, stmts: &[Stmt]) -> BTreeMap<TensorId, Side> {
    fn role(op: &Op, t: TensorId) -> Option<Side> {
        match op.tensor(t).role {
            Role::Cotangent(_) => Some(Side::Cotangent),
            Role::Tangent(u) => role(op, u).or(Some(Side::Tangent)),
            _ => op.batches.get(&t).map(|of| role(op, *of).unwrap_or(Side::Tangent)),
        }
    }
    let mut sides: BTreeMap<TensorId, Side> =
        (0..op.tensors.len()).map(TensorId).filter_map(|t| Some((t, role(op, t)?))).collect();
    loop {
        let known = sides.len();
        for s in stmts {
            let read = s.reads();
            let mut of = read.iter().filter_map(|t| sides.get(t).copied());
            if let Some(first) = of.next().filter(|_| !sides.contains_key(&s.target)) {
                let back = first == Side::Cotangent || of.any(|o| o == Side::Cotangent);
                sides.insert(s.target, if back { Side::Cotangent } else { Side::Tangent });
            }
        }
        if sides.len() == known {
            let here: BTreeSet<TensorId> = stmts.iter().flat_map(|s| s.reads().into_iter().chain([s.target])).collect();
            sides.retain(|t, _| here.contains(t));
            return sides;
        }
    }
}

/// Where tensors are zero beyond what their elements come to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Zero {
    Nowhere,
    /// Elements that nothing reads.
    Unread,
    /// Elements of a branch that is not taken.
    Untaken,
}

/// Where an access stands along an axis of its tensor.
#[derive(Clone, Copy, PartialEq)]
enum Coordinate {
    Every,
    /// As far as another axis goes.
    Along(AxisId),
    Number(i64),
    Some,
}

impl Coordinate {
    /// Whether what is written here is read there. An element by number counts as within an axis that shares its
    /// tensor's.
    fn reaches(self, read: Coordinate) -> bool {
        match (self, read) {
            (_, Coordinate::Some) | (Coordinate::Some, _) => false,
            (Coordinate::Every, _) | (Coordinate::Along(_), Coordinate::Number(_)) => true,
            (w, r) => w == r,
        }
    }
}

/// The steps that are a root, by what they write.
fn roots(stmts: &[Stmt]) -> BTreeMap<TensorId, Expr> {
    let mut found = BTreeMap::new();
    let mut written = BTreeSet::new();
    for s in stmts {
        if !written.insert(s.target) {
            found.remove(&s.target);
        } else if s.reduce.is_none() && is_root(&s.value) {
            found.insert(s.target, s.value.clone());
        }
    }
    found
}

fn is_root(e: &Expr) -> bool {
    matches!(e, Expr::Unary(f, _) if f.row().root) || matches!(e, Expr::Powf(_, n) if 0.0 < *n && *n < 1.0)
}

struct Facts<'a> {
    op: &'a Op,
    ranges: Ranges<'a>,
    sides: BTreeMap<TensorId, Side>,
    /// What is added to each, statement by statement, and where it is zero.
    zeros: BTreeMap<TensorId, Vec<(Vec<Coordinate>, Zero)>>,
    /// Tangents and cotangents with the slope of a root in them.
    steep: BTreeSet<TensorId>,
    roots: BTreeMap<TensorId, Expr>,
    counts: BTreeSet<TensorId>,
}

type Known = Vec<(Cond, bool)>;

impl Facts<'_> {
    fn find(&mut self, stmts: &[Stmt]) {
        for s in stmts.iter().filter(|s| self.sides.contains_key(&s.target)) {
            let places = self.places(s.target, &s.index, &s.vars);
            self.zeros.entry(s.target).or_default().push((places, Zero::Untaken));
        }
        // Both move one way only; statements stand behind what they read, so two passes do where there is no
        // recurrence.
        loop {
            let mut moved = false;
            let mut nth: BTreeMap<TensorId, usize> = BTreeMap::new();
            for s in stmts.iter().filter(|s| self.sides.contains_key(&s.target)) {
                let n = nth.entry(s.target).or_insert(0);
                let zero = self.zero(&s.value, s);
                let known = &mut self.zeros.get_mut(&s.target).expect("it is written")[*n].1;
                moved |= zero < *known;
                *known = zero;
                *n += 1;
                let mut found = false;
                self.products(&s.value, true, &mut Vec::new(), &mut |factors, known| {
                    found |= factors.iter().any(|(f, below)| self.steep(f, *below, known));
                });
                moved |= found && self.steep.insert(s.target);
            }
            if !moved {
                return;
            }
        }
    }

    /// Where an access stands along each axis; along those of a batch, in every row: what a row does not depend on is
    /// zero there as it would be alone.
    fn places(&self, t: TensorId, index: &[Affine], vars: &[Var]) -> Vec<Coordinate> {
        let axes = &self.op.tensor(t).axes;
        let own = match self.op.batches.get(&t).map(|of| &self.op.tensor(*of).axes) {
            Some(of) if axes.starts_with(of) => 0..of.len(),
            Some(of) => axes.len() - of.len()..axes.len(),
            None => 0..axes.len(),
        };
        let vars_of = || index[own.clone()].iter().filter_map(Affine::as_var);
        if vars_of().collect::<BTreeSet<_>>().len() < vars_of().count() {
            // A diagonal.
            return vec![Coordinate::Some; own.len()];
        }
        let place = |(a, own): (&Affine, &AxisId)| match (a.as_var(), a.as_int()) {
            (Some(v), _) if vars[v.0].axis == *own => Coordinate::Every,
            (Some(v), _) => Coordinate::Along(vars[v.0].axis),
            (_, Some(n)) => Coordinate::Number(n),
            _ => Coordinate::Some,
        };
        index[own.clone()].iter().zip(&axes[own.clone()]).map(place).collect()
    }

    /// Where a tangent or a cotangent that is read is zero: what was added to it there.
    fn read(&self, t: TensorId, index: &[Affine], vars: &[Var]) -> Zero {
        let Some(written) = self.zeros.get(&t) else { return Zero::Nowhere };
        let places = self.places(t, index, vars);
        let reached = |w: &[Coordinate]| w.iter().zip(&places).all(|(w, r)| w.reaches(*r));
        written
            .iter()
            .map(|(w, zero)| if reached(w) { *zero } else { Zero::Unread.max(*zero) })
            .min()
            .unwrap_or(Zero::Nowhere)
    }

    fn is_dual(&self, e: &Expr) -> bool {
        let mut found = false;
        e.reads(&mut |t, _| found |= self.sides.contains_key(&t));
        found
    }

    fn is_cotangent(&self, e: &Expr) -> bool {
        let mut found = false;
        e.reads(&mut |t, _| found |= self.sides.get(&t) == Some(&Side::Cotangent));
        found
    }

    /// Where an expression that is linear in tangents or cotangents is zero, as far as its factors do not say.
    fn zero(&self, e: &Expr, s: &Stmt) -> Zero {
        let zero = |e: &Expr| self.zero(e, s);
        match e {
            Expr::Read(t, index) => self.read(*t, index, &s.vars),
            Expr::Unary(Unary::Neg, a) | Expr::Reduce(_, _, a) => zero(a),
            Expr::Binary(Binary::Add | Binary::Sub, a, b) => zero(a).min(zero(b)),
            Expr::Binary(Binary::Mul, a, b) => match (self.is_dual(a), self.is_dual(b)) {
                (true, false) => zero(a),
                (false, true) => zero(b),
                _ => zero(a).max(zero(b)),
            },
            Expr::Binary(Binary::Div, a, _) => zero(a),
            Expr::Where(_, a, b) if a.is_zero() || b.is_zero() => Zero::Untaken,
            Expr::Where(_, a, b) => zero(a).max(zero(b)),
            Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) => Zero::Nowhere,
            // Nothing that is linear stands in a function.
            Expr::Unary(..) | Expr::Powf(..) | Expr::Binary(..) => Zero::Nowhere,
        }
    }

    /// Every product of the expression that has a tangent or a cotangent in it: its factors, those below the line
    /// marked. `linear`: also where the one that it is linear in has been put in, as 1.
    fn products<'e>(
        &self,
        e: &'e Expr,
        linear: bool,
        known: &mut Known,
        f: &mut impl FnMut(&[(&'e Expr, bool)], &Known),
    ) {
        match e {
            _ if !linear && !self.is_dual(e) => {}
            Expr::Unary(Unary::Neg, a) => self.products(a, linear, known, f),
            Expr::Binary(Binary::Add | Binary::Sub, a, b) => {
                self.products(a, linear, known, f);
                self.products(b, linear, known, f);
            }
            Expr::Where(c, a, b) => {
                for (holds, branch) in [(true, a), (false, b)] {
                    known.push((c.as_ref().clone(), holds));
                    self.products(branch, linear, known, f);
                    known.pop();
                }
            }
            e => {
                let mut all = Vec::new();
                factors(e, false, &mut all);
                for (factor, _) in all.iter().filter(|(a, _)| *a != e) {
                    self.products(factor, false, known, f);
                }
                f(&all, known);
            }
        }
    }

    /// Whether a factor is the slope of a root, or has one in it.
    fn steep(&self, e: &Expr, below: bool, known: &Known) -> bool {
        let zero = |e: &Expr| self.ranges.expr(e).has_zero() && !excluded(known, e);
        match e {
            Expr::Read(t, _) if !below => self.steep.contains(t),
            Expr::Read(t, _) => zero(e) && self.roots.get(t).is_some_and(|root| self.steep(root, true, known)),
            Expr::Unary(f, a) if below && f.row().root => zero(a) && !excluded(known, e),
            Expr::Powf(a, n) if below && *n > 0.0 => self.steep(a, true, known) || *n < 1.0 && zero(a),
            Expr::Powf(a, n) if !below => n.fract() != 0.0 && *n < 0.0 && zero(a),
            Expr::Binary(Binary::Pow, a, n) if !below => self.ranges.expr(n).lo < 0.0 && zero(a),
            Expr::Binary(Binary::Mul, a, b) if below => self.steep(a, true, known) || self.steep(b, true, known),
            Expr::Binary(Binary::Add | Binary::Sub, a, b) if !below => {
                self.steep(a, false, known) || self.steep(b, false, known)
            }
            Expr::Where(c, a, b) if !below => [(true, a), (false, b)].into_iter().any(|(holds, e)| {
                let known = known.iter().cloned().chain([(c.as_ref().clone(), holds)]).collect();
                self.steep(e, false, &known)
            }),
            Expr::Unary(Unary::Neg, a) => self.steep(a, below, known),
            Expr::Binary(Binary::Mul | Binary::Div, ..) if !below => {
                let mut all = Vec::new();
                factors(e, false, &mut all);
                all.iter().any(|(f, below)| self.steep(f, *below, known))
            }
            _ => false,
        }
    }

    /// Whether a factor may be infinite or NaN by the functions in it.
    fn infinite(&self, e: &Expr, below: bool, known: &Known) -> bool {
        let r = self.ranges.expr(e);
        let zero = || match e {
            Expr::Unary(Unary::Sqrt, a) => !excluded(known, a) && !excluded(known, e),
            _ => !excluded(known, e),
        };
        !r.finite || below && r.has_zero() && zero()
    }

    fn guarded(&self, s: &Stmt) -> Expr {
        self.guard(s, &s.value, self.sides.contains_key(&s.target), &mut Vec::new())
    }

    /// `linear` as in [`Self::products`].
    fn guard(&self, s: &Stmt, e: &Expr, linear: bool, known: &mut Known) -> Expr {
        let mut under = |this: &Self, c: &Cond, holds: bool, e: &Expr| {
            known.push((c.clone(), holds));
            let e = this.guard(s, e, linear, known);
            known.pop();
            Box::new(e)
        };
        match e {
            _ if !linear && !self.is_dual(e) => e.clone(),
            Expr::Unary(Unary::Neg, a) => self.guard(s, a, linear, known).neg(),
            Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) => {
                let (a, b) = (self.guard(s, a, linear, known), self.guard(s, b, linear, known));
                Expr::Binary(*f, Box::new(a), Box::new(b))
            }
            Expr::Where(c, a, b) => Expr::Where(c.clone(), under(self, c, true, a), under(self, c, false, b)),
            Expr::Binary(Binary::Mul | Binary::Div, ..) => self.product(s, e, known),
            e => e.clone(),
        }
    }

    fn product(&self, s: &Stmt, e: &Expr, known: &mut Known) -> Expr {
        let mut all = Vec::new();
        factors(e, false, &mut all);
        let vars = |e: &Expr| e.vars();
        let used: BTreeSet<VarId> = all.iter().flat_map(|(f, _)| vars(f)).collect();
        // Where no factor is a tangent or a cotangent, it is 1: what it went through stands here.
        let seeded = !all.iter().any(|(f, _)| self.is_dual(f));
        let back = |f: &Expr| match seeded {
            true => self.sides.get(&s.target) == Some(&Side::Cotangent),
            false => self.is_cotangent(f),
        };
        let contraction = s.reduce.is_some() && all.iter().all(|(f, _)| vars(f) != used);
        let mut tests: Vec<Cond> = Vec::new();
        for (n, (f, below)) in all.iter().enumerate() {
            if *below || matches!(f, Expr::Const(_) | Expr::Param(_) | Expr::Extent(_)) {
                continue;
            }
            let others = || all.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, f)| f);
            // The logarithm that a power has by its exponent is NaN where the power may be a number.
            let of_power =
                |e: &Expr| matches!(e, Expr::Unary(Unary::Log, a) if all.iter().any(|(f, _)| power_of(f, a)));
            let steep =
                !contraction && others().any(|(f, below)| self.steep(f, *below, known) || !below && of_power(f));
            let infinite = || others().any(|(f, below)| self.infinite(f, *below, known));
            let read = || others().any(|(f, _)| !is_number(f, &self.counts));
            let absent = back(f)
                && match self.zero(f, s) {
                    Zero::Nowhere => false,
                    Zero::Unread => infinite(),
                    Zero::Untaken => infinite() || !contraction && read(),
                };
            if !(absent || steep && (self.is_dual(f) || self.ranges.expr(f).has_zero() && !excluded(known, f))) {
                continue;
            }
            // A branch is taken, or not, for the whole product.
            if let Expr::Where(c, a, b) = f
                && (a.is_zero() || b.is_zero())
            {
                let (taken, holds) = if b.is_zero() { (a, true) } else { (b, false) };
                let inner = replaced(e, f, taken);
                known.push((c.as_ref().clone(), holds));
                let inner = self.guard(s, &inner, seeded, known);
                known.pop();
                return if holds {
                    Expr::select(c.as_ref().clone(), inner, Expr::zero())
                } else {
                    Expr::select(c.as_ref().clone(), Expr::zero(), inner)
                };
            }
            tests.push(Cond::Value(Compare::Eq, (*f).clone(), Expr::zero()));
        }
        // Sums of products may stand as factors.
        let inner = rebuilt(e, &mut |f| self.guard(s, f, false, known));
        match tests.into_iter().reduce(|a, b| Cond::Or(Box::new(a), Box::new(b))) {
            Some(zero) => Expr::select(zero, Expr::zero(), inner),
            None => inner,
        }
    }
}

fn power_of(e: &Expr, base: &Expr) -> bool {
    matches!(e, Expr::Binary(Binary::Pow, a, _) if **a == *base)
}

fn excluded(known: &Known, e: &Expr) -> bool {
    known.iter().any(|(c, holds)| excludes_zero(c, *holds, e))
}

/// The tensors that only conditions make, such as the number of ties: they hold numbers whatever is compared.
fn counts(stmts: &[Stmt]) -> BTreeSet<TensorId> {
    let mut counts: BTreeSet<TensorId> = stmts.iter().map(|s| s.target).collect();
    let mut known = usize::MAX;
    while known != counts.len() {
        known = counts.len();
        for s in stmts {
            if !is_number(&s.value, &counts) {
                counts.remove(&s.target);
            }
        }
    }
    counts
}

fn is_number(e: &Expr, counts: &BTreeSet<TensorId>) -> bool {
    match e {
        Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) => true,
        Expr::Read(t, _) => counts.contains(t),
        Expr::Unary(_, a) | Expr::Powf(a, _) | Expr::Reduce(_, _, a) => is_number(a, counts),
        Expr::Binary(_, a, b) | Expr::Where(_, a, b) => is_number(a, counts) && is_number(b, counts),
    }
}

/// The factors of a product, those below the line marked.
fn factors<'e>(e: &'e Expr, below: bool, out: &mut Vec<(&'e Expr, bool)>) {
    match e {
        Expr::Unary(Unary::Neg, a) => factors(a, below, out),
        Expr::Binary(Binary::Mul, a, b) => {
            factors(a, below, out);
            factors(b, below, out);
        }
        Expr::Binary(Binary::Div, a, b) if !below => {
            factors(a, false, out);
            factors(b, true, out);
        }
        e => out.push((e, below)),
    }
}

/// The product with the factors above the line through `f`.
fn rebuilt(e: &Expr, f: &mut impl FnMut(&Expr) -> Expr) -> Expr {
    match e {
        Expr::Unary(Unary::Neg, a) => rebuilt(a, f).neg(),
        Expr::Binary(Binary::Mul, a, b) => Expr::Binary(Binary::Mul, Box::new(rebuilt(a, f)), Box::new(rebuilt(b, f))),
        Expr::Binary(Binary::Div, a, b) => Expr::Binary(Binary::Div, Box::new(rebuilt(a, f)), b.clone()),
        e => f(e),
    }
}

/// The product with one factor replaced.
fn replaced(e: &Expr, factor: &Expr, by: &Expr) -> Expr {
    rebuilt(e, &mut |f| if std::ptr::eq(f, factor) { by.clone() } else { f.clone() })
}
