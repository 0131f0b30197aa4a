//! Scatter to gather: takes `x_bar[n, o + t - lo] += Σ e`, gives `x_bar[n, s] += Σ e` with the reads shifted, where a
//! position can be solved for one of its variables; of a stride, `x_bar[n, 2*o + t - lo] += Σ e`, one statement for
//! each phase of the target, `x_bar[n, 2*s + p]`.
//!
//! Holds after it: every target position is in bounds and affine in at most one variable, which no other position has;
//! the statements write different elements, each once; no position that had no divisor has one. Registers want targets
//! that stand still.

use super::*;

/// The most statements that one scatter becomes.
const MAX_PHASES: usize = 16;

/// The gather form; `None` where no solution keeps the iteration domain implicit in the reads, or where it would loop
/// much longer. `iteration` is the variable that is the number of a recurrence's iteration: it stays, and so does the
/// position that it has alone.
pub fn gather(s: &Stmt, iteration: Option<usize>, tensors: &[Tensor]) -> Option<Vec<Stmt>> {
    if s.reduce.is_some_and(|r| r != ReduceOp::Sum) || !s.accumulate {
        return None;
    }
    let all = match shifted(s, iteration, tensors) {
        Some(whole) => vec![whole],
        None => phases(s, iteration, tensors)?,
    };
    // A position without a variable is a fixed coordinate: it must be inside. Two positions with the same variable
    // would write a diagonal: fine, but not a gather.
    let guarded = |s: &Stmt| s.target.positions.iter().any(|p| p.guard.any() && !still(p, iteration));
    all.iter()
        .all(|s| !guarded(s) && s.target.vars().all(|v| once(s, v)))
        .then(|| all.into_iter().map(reorder).collect())
}

/// Whether a position moves with the iterations of a recurrence alone.
fn still(p: &Position, iteration: Option<usize>) -> bool {
    p.divisor == 1 && matches!(p.numerator.terms.as_slice(), [(v, _)] if Some(*v) == iteration)
}

/// Every target position solved for one variable.
fn shifted(s: &Stmt, iteration: Option<usize>, tensors: &[Tensor]) -> Option<Stmt> {
    let mut s = s.clone();
    let moves = |p: &Position| p.as_var().is_none() && !p.numerator.terms.is_empty() && !still(p, iteration);
    while let Some(at) = s.target.positions.iter().position(moves) {
        s = solve(&s, at, iteration, tensors)?;
    }
    Some(s)
}

/// One statement for each combination of the phases of the target's positions.
fn phases(s: &Stmt, iteration: Option<usize>, tensors: &[Tensor]) -> Option<Vec<Stmt>> {
    let mut all = vec![s.clone()];
    for (at, position) in s.target.positions.iter().enumerate() {
        if position.divisor != 1 {
            return None;
        }
        // What happens at one position changes no other: each of its variables stands there alone.
        let split = |s: &Stmt| match position.numerator.terms.as_slice() {
            [] => Some(vec![s.clone()]),
            [_] if still(position, iteration) => Some(vec![s.clone()]),
            [_] if !position.guard.any() => Some(vec![s.clone()]),
            [(v, c)] => narrow(s, at, (*v, *c), tensors),
            _ => solve(s, at, iteration, tensors).map(|s| vec![s]).or_else(|| stride(s, at, iteration, tensors)),
        };
        all = all.iter().map(split).collect::<Option<Vec<_>>>()?.concat();
        if all.len() > MAX_PHASES {
            return None;
        }
    }
    // Phases that nothing reaches cost nothing; iterations at the border at which nothing arrives may cost as much
    // again as the scatter.
    (!all.is_empty() && iterations(&all) <= 2 * iterations(std::slice::from_ref(s))).then_some(all)
}

/// How often the innermost loops run.
fn iterations(all: &[Stmt]) -> u128 {
    all.iter().map(|s| s.vars.iter().map(|v| v.extent as u128).product::<u128>()).sum()
}

/// Whether a variable stands in one target position only.
fn once(s: &Stmt, v: usize) -> bool {
    s.target.vars().filter(|w| *w == v).count() == 1
}

/// Solves one position for a variable with the coefficient ±1 that no other position has.
fn solve(s: &Stmt, at: usize, iteration: Option<usize>, tensors: &[Tensor]) -> Option<Stmt> {
    let position = &s.target.positions[at];
    if position.divisor != 1 {
        return None;
    }
    let candidates = position
        .numerator
        .terms
        .iter()
        .filter(|(v, c)| c.abs() == 1 && *v < s.free && once(s, *v) && Some(*v) != iteration);
    let size = tensors[s.target.tensor.0].shape[at];
    // A target of one element there leaves no loop to gather over.
    if size < 2 {
        return None;
    }
    // The variable that the new one replaces should have about its range: a stride's or a small window's would make the
    // nest several times as large as the scatter.
    let (v, c) = candidates
        .copied()
        .filter(|(v, _)| size <= 2 * s.vars[*v].extent && bounded(&s.value, *v, s.vars[*v].extent, tensors))
        .max_by_key(|(v, _)| s.vars[*v].extent)?;
    // v = (q - rest) / c, q the new variable in v's place.
    let rest: Vec<(usize, i64)> =
        position.numerator.terms.iter().filter(|(w, _)| *w != v).map(|(w, k)| (*w, -k * c)).collect();
    let solution = Linear::new(rest.into_iter().chain([(v, c)]), -position.numerator.constant * c);
    let mut vars = s.vars.clone();
    vars[v] = Var { name: coordinate(s, at, v, tensors), extent: size };
    let replace = |w: usize| if w == v { solution.clone() } else { Linear::var(w) };
    Some(replaced(s, vars, &replace, at, Linear::var(v), tensors))
}

/// Of a position with one variable, `c * v` and a constant: the coordinates that are inside.
fn narrow(s: &Stmt, at: usize, (v, c): (usize, i64), tensors: &[Tensor]) -> Option<Vec<Stmt>> {
    if !once(s, v) {
        return None;
    }
    let constant = s.target.positions[at].numerator.constant;
    let last = tensors[s.target.tensor.0].shape[at] as i64 - 1;
    // How far the constant is from the end at which the coordinate 0 of v lies, and from the other.
    let (before, after) = if c > 0 { (constant, last - constant) } else { (last - constant, constant) };
    let first = (-before.div_euclid(c.abs())).max(0);
    let end = (after.div_euclid(c.abs()) + 1).min(s.vars[v].extent as i64);
    if first >= end {
        return Some(Vec::new());
    }
    let mut vars = s.vars.clone();
    vars[v].extent = (end - first) as usize;
    let inside = line(&[(&turning(&vars, v), 1)], first);
    let target = line(&[(&inside, c)], constant);
    let replace = |w: usize| if w == v { inside.clone() } else { Linear::var(w) };
    Some(vec![replaced(s, vars, &replace, at, target, tensors)])
}

/// One statement for each phase of a position `stride * v + d * t` and a constant that something reaches; `v` the
/// variable that makes the loops shortest.
fn stride(s: &Stmt, at: usize, iteration: Option<usize>, tensors: &[Tensor]) -> Option<Vec<Stmt>> {
    let [a, b] = s.target.positions[at].numerator.terms.as_slice() else { return None };
    if !once(s, a.0) || !once(s, b.0) || iteration.is_some_and(|t| t == a.0 || t == b.0) {
        return None;
    }
    [(a, b), (b, a)]
        .into_iter()
        .filter(|((v, c), _)| c.abs() > 1 && bounded(&s.value, *v, s.vars[*v].extent, tensors))
        .filter_map(|(v, t)| Some((s.vars[v.0].extent, split(s, at, *v, *t, tensors)?)))
        .min_by_key(|(extent, all)| (iterations(all), std::cmp::Reverse(*extent)))
        .map(|(_, all)| all)
}

/// The phases of a position along `v`. The coordinate `m*q + p` of the target, m the size of the stride, is met where
/// `m` divides `p - constant - d*t`; with g their common divisor that is at `t = first + m/g * u`, where `v = ±(q + (p
/// - constant - d*first)/m - d/g * u)`.
fn split(s: &Stmt, at: usize, (v, c): (usize, i64), (t, d): (usize, i64), tensors: &[Tensor]) -> Option<Vec<Stmt>> {
    let constant = s.target.positions[at].numerator.constant;
    let size = tensors[s.target.tensor.0].shape[at] as i64;
    let (m, sign) = (c.abs(), c.signum());
    let g = gcd(m, d.abs());
    let window = s.vars[t].extent as i64;
    // Each phase that something reaches has its first t below m/g; p is the remainder there.
    let mut reached = Vec::new();
    let mut from = 0;
    while let Some(first) = next_within(constant + d * from, d, m, size).map(|n| from + n) {
        if first >= window.min(m / g) {
            break;
        }
        reached.push(((constant + d * first).rem_euclid(m), first));
        if reached.len() > MAX_PHASES {
            return None;
        }
        from = first + 1;
    }
    reached.sort_unstable();
    let counted = |from: i64, to: i64, by: i64| ((to - from) as usize).div_ceil(by as usize);
    let mut all = Vec::new();
    for (p, first) in reached {
        let mut vars = s.vars.clone();
        vars[v] = Var { name: coordinate(s, at, v, tensors), extent: counted(p, size, m) };
        vars[t].extent = counted(first, window, m / g);
        let (q, u) = (turning(&vars, v), turning(&vars, t));
        let solution = line(&[(&q, sign), (&u, -sign * d / g)], sign * (p - constant - d * first) / m);
        let (lo, hi) = solution.range(&|w| vars[w].extent);
        if hi < 0 || lo >= s.vars[v].extent as i64 {
            continue;
        }
        let tap = line(&[(&u, m / g)], first);
        let replace = |w: usize| match w {
            w if w == v => solution.clone(),
            w if w == t => tap.clone(),
            w => Linear::var(w),
        };
        all.push(replaced(s, vars.clone(), &replace, at, line(&[(&q, m)], p), tensors));
    }
    Some(all)
}

/// The least `n`, not negative, with `start + step * n` in `0..size` modulo `m`; `None` where there is none. As many
/// steps as digits.
pub fn next_within(start: i64, step: i64, m: i64, size: i64) -> Option<i64> {
    let (start, step) = (start.rem_euclid(m), step.rem_euclid(m));
    if start < size {
        return Some(0);
    }
    // `step * n` in `low..=high` modulo m, where low is above 0.
    let (low, high) = (m - start, m - start + size - 1);
    fn least(step: i64, m: i64, low: i64, high: i64) -> Option<i64> {
        if step == 0 {
            return None;
        }
        let n = (low + step - 1) / step;
        if n * step <= high {
            return Some(n);
        }
        // No multiple lies within before the first iteration: after k iterations, `m * k` modulo step has to.
        let k = least(m % step, step, (-high).rem_euclid(step), (-low).rem_euclid(step))?;
        Some((low + m * k + step - 1) / step)
    }
    least(step, m, low, high)
}

/// A variable, or its only coordinate.
fn turning(vars: &[Var], v: usize) -> Linear {
    if vars[v].extent > 1 { Linear::var(v) } else { Linear::default() }
}

/// A sum of multiples, and a constant.
fn line(sum: &[(&Linear, i64)], constant: i64) -> Linear {
    let terms = sum.iter().flat_map(|(l, k)| l.terms.iter().map(move |(v, c)| (*v, c * k)));
    Linear::new(terms, constant + sum.iter().map(|(l, k)| l.constant * k).sum::<i64>())
}

/// A name for the coordinate of a target position, to stand in the place of `v`.
fn coordinate(s: &Stmt, at: usize, v: usize, tensors: &[Tensor]) -> String {
    let base = tensors[s.target.tensor.0].dims[at].to_lowercase().replace('.', "");
    let name = (0..)
        .map(|k| if k == 0 { base.clone() } else { format!("{base}_{k}") })
        .find(|n| s.vars.iter().enumerate().all(|(w, var)| w == v || var.name != *n));
    name.expect("numbers do not run out")
}

/// The statement over other variables, each old one a linear map of them, with `target` at one position.
fn replaced(
    s: &Stmt,
    vars: Vec<Var>,
    replace: &impl Fn(usize) -> Linear,
    at: usize,
    target: Linear,
    tensors: &[Tensor],
) -> Stmt {
    let extent = |w: usize| vars[w].extent;
    let access = |a: &Access| {
        let shape = &tensors[a.tensor.0].shape;
        let positions = a
            .positions
            .iter()
            .zip(shape)
            .map(|(p, size)| Position::new(p.numerator.substitute(replace), p.divisor, *size, &extent))
            .collect();
        Access { tensor: a.tensor, positions }
    };
    let value = s.value.moved(&access, &|l| l.substitute(replace));
    let mut moved = access(&s.target);
    moved.positions[at] = Position::new(target, 1, tensors[s.target.tensor.0].shape[at], &extent);
    Stmt { target: moved, value, vars, ..s.clone() }
}

/// Whether a factor of every term reads a tensor at `v` itself, in a dimension of v's extent: then no value arises
/// outside v's range.
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

/// Free variables are those of the target; the others join the sum, those of one iteration go.
fn reorder(s: Stmt) -> Stmt {
    let mut order: Vec<usize> = s.target.vars().collect();
    let free = order.len();
    order.extend((0..s.vars.len()).filter(|v| !order.contains(v) && s.vars[*v].extent > 1).collect::<Vec<_>>());
    let number = |v: usize| order.iter().position(|w| *w == v).expect("a permutation");
    Stmt {
        target: s.target.renamed(&number),
        vars: order.iter().map(|v| s.vars[*v].clone()).collect(),
        free,
        reduce: (order.len() > free).then_some(ReduceOp::Sum),
        value: s.value.renamed(&number),
        ..s
    }
}
