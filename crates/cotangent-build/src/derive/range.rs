//! Ranges: takes statements, the domains of inputs and the values of parameters, gives the range of each tensor, and
//! whether a function makes it infinite or NaN somewhere in it.
//!
//! Inputs count as finite, sums and products of finite numbers too. Holds after it: what is `finite` has no infinity or
//! NaN but such as come in, or from numbers too large for their type.

pub use crate::functions::Range;
use crate::index::*;
use std::collections::BTreeMap;

impl Range {
    pub fn or(self, other: Range) -> Self {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), finite: self.finite && other.finite }
    }
    pub fn has_zero(self) -> bool {
        self.lo <= 0.0 && 0.0 <= self.hi
    }
}

/// The ranges of tensors: of those that no statement writes, what they were given.
pub struct Ranges<'a> {
    pub params: &'a BTreeMap<ParamId, Range>,
    pub tensors: BTreeMap<TensorId, Range>,
}

impl Ranges<'_> {
    /// Those of what the statements write.
    pub fn run(&mut self, stmts: &[Stmt]) {
        // Whether each is finite is found by repetition; the ends of what a recurrence makes are not.
        let mut written: BTreeMap<TensorId, Range> = BTreeMap::new();
        loop {
            let mut next: BTreeMap<TensorId, Range> = BTreeMap::new();
            for s in stmts {
                let mut r = self.expr(&s.value);
                if s.scan.is_some() {
                    r = Range { finite: r.finite, ..Range::ALL };
                }
                r = match s.reduce {
                    None => r,
                    Some(ReduceOp::Sum) => sums(r),
                    Some(ReduceOp::Max | ReduceOp::Min) => r,
                    Some(ReduceOp::Prod) => {
                        Range { lo: if r.lo >= 0.0 { 0.0 } else { f64::NEG_INFINITY }, hi: f64::INFINITY, ..r }
                    }
                };
                let before = next.get(&s.target).copied();
                let r = match before {
                    Some(before) if s.accumulate => sums(before.or(r)),
                    Some(before) => before.or(r),
                    None => r,
                };
                next.insert(s.target, r);
                self.tensors.insert(s.target, r);
            }
            let finite = |m: &BTreeMap<TensorId, Range>| m.values().filter(|r| r.finite).count();
            let done = written.len() == next.len() && finite(&written) == finite(&next);
            written = next;
            if done {
                return;
            }
        }
    }

    pub fn expr(&self, e: &Expr) -> Range {
        match e {
            Expr::Const(c) => Range { lo: *c, hi: *c, finite: c.is_finite() },
            Expr::Param(p) => self.params.get(p).copied().unwrap_or(Range::ALL),
            Expr::Extent(_) => Range::new(1.0, f64::INFINITY),
            Expr::Read(t, index) => {
                let r = self.tensors.get(t).copied().unwrap_or(Range::ALL);
                // Outside there is zero.
                if index.iter().all(|a| a.as_var().is_some()) { r } else { r.or(Range::new(0.0, 0.0)) }
            }
            Expr::Reduce(_, _, a) => Range { finite: self.expr(a).finite, ..Range::ALL },
            Expr::Where(_, a, b) => self.expr(a).or(self.expr(b)),
            Expr::Unary(f, a) => (f.row().range)(self.expr(a)),
            Expr::Powf(a, n) => {
                let (a, whole) = (self.expr(a), n.fract() == 0.0);
                let lo = if n.rem_euclid(2.0) == 0.0 || a.lo >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
                let defined =
                    if *n < 0.0 { if whole { !a.has_zero() } else { a.lo > 0.0 } } else { whole || a.lo >= 0.0 };
                Range::new(lo, f64::INFINITY).within(a, defined)
            }
            Expr::Binary(f, a, b) => {
                if *f == Binary::Mul && a == b {
                    return Range { lo: 0.0, hi: f64::INFINITY, ..self.expr(a) };
                }
                binary(*f, self.expr(a), self.expr(b))
            }
        }
    }
}

/// The range of a sum of some, at least one.
fn sums(r: Range) -> Range {
    Range {
        lo: if r.lo >= 0.0 { r.lo } else { f64::NEG_INFINITY },
        hi: if r.hi <= 0.0 { r.hi } else { f64::INFINITY },
        ..r
    }
}

fn binary(f: Binary, a: Range, b: Range) -> Range {
    // Ends that are not told apart.
    let or = |v: f64, end: f64| if v.is_nan() { end } else { v };
    let finite = a.finite && b.finite;
    let (lo, hi) = match f {
        Binary::Add => (or(a.lo + b.lo, f64::NEG_INFINITY), or(a.hi + b.hi, f64::INFINITY)),
        Binary::Sub => (or(a.lo - b.hi, f64::NEG_INFINITY), or(a.hi - b.lo, f64::INFINITY)),
        Binary::Mul if a.lo >= 0.0 && b.lo >= 0.0 => (a.lo * b.lo, or(a.hi * b.hi, f64::INFINITY)),
        Binary::Div if a.lo >= 0.0 && b.lo >= 0.0 => (0.0, f64::INFINITY),
        Binary::Max => (a.lo.max(b.lo), a.hi.max(b.hi)),
        Binary::Min => (a.lo.min(b.lo), a.hi.min(b.hi)),
        Binary::Pow if a.lo >= 0.0 => (0.0, f64::INFINITY),
        Binary::Atan2 => (-4.0, 4.0),
        Binary::Mul | Binary::Div | Binary::Pow => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let defined = match f {
        Binary::Div => !b.has_zero(),
        Binary::Pow => a.lo > 0.0,
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Max | Binary::Min | Binary::Atan2 => true,
    };
    Range { lo, hi, finite: finite && defined }
}
