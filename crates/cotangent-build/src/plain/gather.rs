//! Scatter to gather: takes `x_bar[n, o + t - lo] += Σ e`, gives `x_bar[n, s] += Σ e` with the reads shifted, where a position can be solved
//! for one of its variables. Registers want targets that stand still.

use super::*;

/// The gather form, every target position one plain variable; `None` where no solution keeps the iteration domain implicit in the reads.
pub fn gather(s: &Stmt, tensors: &[Tensor]) -> Option<Stmt> {
    if s.reduce.is_some_and(|r| r != ReduceOp::Sum) || !s.accumulate {
        return None;
    }
    let mut s = s.clone();
    while let Some(at) = s.target.positions.iter().position(|p| p.as_var().is_none() && !p.numerator.terms.is_empty()) {
        s = solve(&s, at, tensors)?;
    }
    // A position without a variable is a fixed coordinate: it must be inside.
    if s.target.guarded() {
        return None;
    }
    // Two positions with the same variable would write a diagonal: fine, but not a gather.
    let vars: Vec<usize> = s.target.vars().collect();
    let distinct = vars.iter().enumerate().all(|(n, v)| !vars[..n].contains(v));
    distinct.then(|| reorder(s))
}

/// Solves one position for a variable with the coefficient ±1 that no other position has.
fn solve(s: &Stmt, at: usize, tensors: &[Tensor]) -> Option<Stmt> {
    let position = &s.target.positions[at];
    if position.divisor != 1 {
        return None;
    }
    let candidates = position
        .numerator
        .terms
        .iter()
        .filter(|(v, c)| c.abs() == 1 && *v < s.free && s.target.vars().filter(|w| w == v).count() == 1);
    let size = tensors[s.target.tensor.0].shape[at];
    // A target of one element there leaves no loop to gather over.
    if size < 2 {
        return None;
    }
    // The variable that the new one replaces should have about its range: a stride's or a small window's would make the nest several times
    // as large as the scatter.
    let (v, c) = candidates
        .copied()
        .filter(|(v, _)| size <= 2 * s.vars[*v].extent && bounded(&s.value, *v, s.vars[*v].extent, tensors))
        .max_by_key(|(v, _)| s.vars[*v].extent)?;
    // v = (q - rest) / c, q the new variable in v's place.
    let rest: Vec<(usize, i64)> =
        position.numerator.terms.iter().filter(|(w, _)| *w != v).map(|(w, k)| (*w, -k * c)).collect();
    let solution = Linear::new(rest.into_iter().chain([(v, c)]), -position.numerator.constant * c);
    let mut vars = s.vars.clone();
    let base = tensors[s.target.tensor.0].dims[at].to_lowercase().replace('.', "");
    let name = (0..)
        .map(|k| if k == 0 { base.clone() } else { format!("{base}_{k}") })
        .find(|n| vars.iter().enumerate().all(|(w, var)| w == v || var.name != *n));
    vars[v] = Var { name: name.expect("numbers do not run out"), extent: size };
    let replace = |w: usize| if w == v { solution.clone() } else { Linear::var(w) };
    let access = |a: &Access| {
        let shape = &tensors[a.tensor.0].shape;
        let positions = a
            .positions
            .iter()
            .zip(shape)
            .map(|(p, size)| Position::new(p.numerator.substitute(&replace), p.divisor, *size, &|w| vars[w].extent))
            .collect();
        Access { tensor: a.tensor, positions }
    };
    let value = s.value.map(&access, &|l| l.substitute(&replace));
    let mut target = access(&s.target);
    target.positions[at] = Position::new(Linear::var(v), 1, size, &|w| vars[w].extent);
    Some(Stmt { target, value, vars, ..s.clone() })
}

/// Whether a factor of every term reads a tensor at `v` itself, in a dimension of v's extent: then no value arises outside v's range.
fn bounded(e: &Expr, v: usize, extent: usize, tensors: &[Tensor]) -> bool {
    match e {
        Expr::Read(a) => {
            a.positions.iter().zip(&tensors[a.tensor.0].shape).any(|(p, size)| p.as_var() == Some(v) && *size == extent)
        }
        Expr::Unary(Unary::Neg, a) => bounded(a, v, extent, tensors),
        Expr::Binary(Binary::Mul, a, b) => bounded(a, v, extent, tensors) || bounded(b, v, extent, tensors),
        Expr::Binary(Binary::Div, a, _) => bounded(a, v, extent, tensors),
        Expr::Binary(Binary::Add | Binary::Sub, a, b) => {
            bounded(a, v, extent, tensors) && bounded(b, v, extent, tensors)
        }
        _ => false,
    }
}

/// Free variables are those of the target; the others join the sum.
fn reorder(s: Stmt) -> Stmt {
    let mut order: Vec<usize> = s.target.vars().collect();
    let free = order.len();
    order.extend((0..s.vars.len()).filter(|v| !order.contains(v)).collect::<Vec<_>>());
    let number = |v: usize| order.iter().position(|w| *w == v).expect("a permutation");
    let rename = |l: &Linear| l.substitute(&|v| Linear::var(number(v)));
    let access = |a: &Access| Access {
        tensor: a.tensor,
        positions: a.positions.iter().map(|p| Position { numerator: rename(&p.numerator), ..p.clone() }).collect(),
    };
    Stmt {
        target: access(&s.target),
        vars: order.iter().map(|v| s.vars[*v].clone()).collect(),
        free,
        reduce: (order.len() > free).then_some(ReduceOp::Sum),
        value: s.value.map(&access, &rename),
        ..s
    }
}
