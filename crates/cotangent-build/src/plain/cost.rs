//! The arithmetic of the plain IR: takes steps, gives their operations: additions, multiplications, divisions,
//! comparisons of values and calls of functions, guards taken to hold. It is the same for every schedule.

use super::{Cond, Expr, Step, Stmt};

/// The operations of steps.
pub fn steps(all: &[Step]) -> u64 {
    all.iter().flat_map(Step::stmts).map(stmt).fold(0, u64::saturating_add)
}

fn stmt(s: &Stmt) -> u64 {
    let iterations =
        |from: usize, to: usize| s.vars[from..to].iter().fold(1u64, |n, v| n.saturating_mul(v.extent as u64));
    let reduced = if s.reduce.is_some() { iterations(0, s.vars.len()) } else { 0 };
    let added = if s.accumulate { iterations(0, s.free) } else { 0 };
    iterations(0, s.vars.len()).saturating_mul(value(&s.value)).saturating_add(reduced).saturating_add(added)
}

fn value(e: &Expr) -> u64 {
    match e {
        Expr::Const(_) | Expr::Read(_) => 0,
        Expr::Masked(_, a) => value(a),
        Expr::Unary(_, a) | Expr::Powf(a, _) => 1 + value(a),
        Expr::Binary(_, a, b) => 1 + value(a) + value(b),
        // One side runs: the dearer one is counted.
        Expr::Where(c, a, b) => test(c) + value(a).max(value(b)),
    }
}

fn test(c: &Cond) -> u64 {
    match c {
        Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => 0,
        Cond::Value(_, a, b) => 1 + value(a) + value(b),
        Cond::And(a, b) | Cond::Or(a, b) => test(a) + test(b),
        Cond::Not(a) => test(a),
    }
}
