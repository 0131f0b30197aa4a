//! Merging: takes two statements that follow each other, `y_dot[i] = sum(j) A` and `y_dot[i] += sum(q) B`, gives
//! `y_dot[i] = sum(j) (A + B)`: the tangent of a product walks its loops once, into one accumulator.
//!
//! Holds after it: the value added up is the same, another order of summation aside. Terms that are absent stay so: `A
//! + B` is absent where both are, and counts one of them alone where the other is.

use super::*;

/// The most ways to match the variables of two statements that are compared.
const MAX_MATCHINGS: usize = 1000;

/// Terms of more nodes than this stay apart: who reads the output, and who compiles it, goes in as deep as a sum is
/// long.
const LARGEST: usize = 200;

/// Both statements as one; `None` where their loops differ, or where one reads what the other writes.
///
/// Only tangents and cotangents: a rule may compare a value that it computes again with the one that the forward
/// function returned (which element was the maximum?), so these are rounded alike, whatever stands between their steps
/// in a function.
pub fn merge(a: &Stmt, b: &Stmt, tensors: &[Tensor]) -> Option<Stmt> {
    let target = a.target.tensor;
    let derivative = matches!(tensors[target.0].role, Role::Tangent(_) | Role::Cotangent(_));
    let sums = a.reduce == b.reduce && a.reduce.is_none_or(|r| r == ReduceOp::Sum);
    let loops = a.free == b.free && a.vars.len() == b.vars.len();
    if nodes(&a.value) + nodes(&b.value) > LARGEST {
        return None;
    }
    if !derivative || !b.accumulate || !sums || !loops || b.target.tensor != target {
        return None;
    }
    let mut meets = false;
    a.value.reads(&mut |r| meets |= r.tensor == target);
    b.value.reads(&mut |r| meets |= r.tensor == target);
    if meets {
        return None;
    }
    let mut m = Matcher { a, b, known: Vec::new(), best: None, left: MAX_MATCHINGS };
    a.value.accesses(&mut |r| m.known.push(r));
    m.extend(&mut Vec::new());
    let (_, names) = m.best?;
    let value = b.value.renamed(&|v| names[v]);
    // A condition is asked outside the loops that do not change it, if it is asked of the whole term.
    let value = match (&a.value, value) {
        (Expr::Where(c, x, none), Expr::Where(d, y, nothing)) if is_zero(none) && is_zero(&nothing) && *c == d => {
            Expr::Where(d, Box::new(add(x, *y)), nothing)
        }
        (x, y) if conditional(x) || conditional(&y) => return None,
        (x, y) => add(x, y),
    };
    Some(Stmt { value, ..a.clone() })
}

fn add(a: &Expr, b: Expr) -> Expr {
    Expr::Binary(Binary::Add, Box::new(a.clone()), Box::new(b))
}

fn nodes(e: &Expr) -> usize {
    let mut count = 1;
    e.operands(&mut |e| count += nodes(e));
    count
}

fn is_zero(e: &Expr) -> bool {
    *e == Expr::Const(0.0)
}

fn conditional(e: &Expr) -> bool {
    matches!(e, Expr::Where(_, _, none) if is_zero(none))
}

/// Matches the variables of `b` one to one with those of `a`, so that the targets are the same element.
struct Matcher<'a> {
    a: &'a Stmt,
    b: &'a Stmt,
    /// The accesses of `a`.
    known: Vec<&'a Access>,
    /// The matching under which most accesses are equal, or walk alike, and how many.
    best: Option<(usize, Vec<usize>)>,
    left: usize,
}

impl Matcher<'_> {
    /// `names`: the variables of `a` that the first ones of `b` are.
    fn extend(&mut self, names: &mut Vec<usize>) {
        let (a, b, v) = (self.a, self.b, names.len());
        if v == b.free && self.b.target.renamed(&|w| names[w]) != self.a.target {
            return;
        }
        if v == b.vars.len() {
            self.left -= 1;
            let score = self.score(names);
            if self.best.as_ref().is_none_or(|(most, _)| score > *most) {
                self.best = Some((score, names.clone()));
            }
            return;
        }
        let range = if v < b.free { 0..a.free } else { a.free..a.vars.len() };
        // What free variables do in the target says most of them apart.
        let strides = |s: &Stmt, v: usize| -> Vec<i64> {
            s.target.positions.iter().map(|p| p.numerator.coefficient(v)).collect()
        };
        let own = strides(b, v);
        let mut alike: Vec<usize> = range
            .filter(|w| !names.contains(w) && a.vars[*w].extent == b.vars[v].extent && strides(a, *w) == own)
            .collect();
        // Of matchings that are as good, the one of equal names comes first.
        alike.sort_by_key(|w| a.vars[*w].name != b.vars[v].name);
        for w in alike {
            if self.left == 0 {
                return;
            }
            names.push(w);
            self.extend(names);
            names.pop();
        }
    }

    fn score(&self, names: &[usize]) -> usize {
        let mut score = 0;
        self.b.value.accesses(&mut |r| {
            let r = r.renamed(&|w| names[w]);
            if self.known.contains(&&r) {
                score += 2;
            } else if self.known.iter().any(|k| k.positions == r.positions) {
                score += 1;
            }
        });
        score
    }
}
