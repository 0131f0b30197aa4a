//! Turns: takes the statements of a recurrence over all coordinates along its axis, gives its segments: turns in which every sum has the same guards and
//! conditions, so that its loops ask for none.
//!
//! Holds after it: the turns of a segment count upwards from zero; the segments follow each other as the recurrence runs.

use super::*;
use std::collections::BTreeSet;

/// The most segments: where conditions cut off more, they are asked in each turn.
const MAX_SEGMENTS: usize = 4;

/// The segments of statements that run for `turns` coordinates, each with the variable that is one; none if there is one coordinate.
pub fn segments(body: &[(Option<usize>, Stmt)], turns: usize, backwards: bool, tensors: &[Tensor]) -> Vec<Segment> {
    let mut cuts: BTreeSet<i64> = BTreeSet::new();
    // What is no sum asks once a turn or an element, which is cheaper than a second body.
    let sums = body.iter().filter(|(_, s)| s.reduce.is_some());
    sums.for_each(|(v, s)| v.iter().for_each(|v| boundaries(s, *v, tensors, &mut cuts)));
    cuts.retain(|at| (1..turns as i64).contains(at));
    if cuts.len() >= MAX_SEGMENTS {
        cuts.clear();
    }
    let starts: Vec<usize> = std::iter::once(0).chain(cuts.into_iter().map(|at| at as usize)).collect();
    let ends = starts[1..].iter().copied().chain([turns]);
    let mut all: Vec<Segment> = starts
        .iter()
        .zip(ends)
        .map(|(from, end)| {
            let count = end - from;
            let part = |(v, s): &(Option<usize>, Stmt)| match v {
                Some(v) => restricted(s, *v, *from, count, backwards, tensors),
                None => Part { turn: None, stmt: s.clone() },
            };
            Segment { turns: count, body: body.iter().map(part).collect() }
        })
        .collect();
    if backwards {
        all.reverse();
    }
    all
}

/// The coordinates at which a guard or a condition that depends on the variable alone changes.
fn boundaries(s: &Stmt, v: usize, tensors: &[Tensor], cuts: &mut BTreeSet<i64>) {
    // The first coordinates at which c*v + k is at least `n`, or no longer.
    let mut crosses = |l: &Linear, n: i64| {
        if let [(w, c)] = l.terms.as_slice()
            && *w == v
        {
            let gap = n - l.constant;
            cuts.insert(if *c > 0 { -(-gap).div_euclid(*c) } else { gap.div_euclid(*c) + 1 });
        }
    };
    let mut guarded = |a: &Access| {
        for (p, size) in a.positions.iter().zip(&tensors[a.tensor.0].shape) {
            if p.divisor == 1 && p.guard.any() {
                crosses(&p.numerator, 0);
                crosses(&p.numerator, *size as i64);
            }
        }
    };
    guarded(&s.target);
    s.value.accesses(&mut guarded);
    comparisons(&s.value, &mut |a, b| {
        let difference =
            Linear::new(a.terms.iter().copied().chain(b.terms.iter().map(|(v, c)| (*v, -c))), a.constant - b.constant);
        crosses(&difference, 0);
        crosses(&difference, 1);
    });
}

/// Every pair of coordinates that are compared.
fn comparisons(e: &Expr, f: &mut dyn FnMut(&Linear, &Linear)) {
    match e {
        Expr::Const(_) | Expr::Read(_) => {}
        Expr::Unary(_, a) | Expr::Powf(a, _) => comparisons(a, f),
        Expr::Binary(_, a, b) => {
            comparisons(a, f);
            comparisons(b, f);
        }
        Expr::Where(c, a, b) => {
            in_condition(c, f);
            comparisons(a, f);
            comparisons(b, f);
        }
    }
}

fn in_condition(c: &Cond, f: &mut dyn FnMut(&Linear, &Linear)) {
    match c {
        Cond::Const(_) | Cond::Inside(_) => {}
        Cond::Index(_, a, b) => f(a, b),
        Cond::Value(_, a, b) => {
            comparisons(a, f);
            comparisons(b, f);
        }
        Cond::And(a, b) | Cond::Or(a, b) => {
            in_condition(a, f);
            in_condition(b, f);
        }
        Cond::Not(a) => in_condition(a, f),
    }
}

/// A statement where `v` takes `count` coordinates from `from` on, in the order of the turns.
fn restricted(s: &Stmt, v: usize, from: usize, count: usize, backwards: bool, tensors: &[Tensor]) -> Part {
    let mut vars = s.vars.clone();
    let (coordinate, gone) = match (count, backwards) {
        (1, _) => (Linear::constant(from as i64), 1),
        (_, false) => (Linear::new([(v, 1)], from as i64), 0),
        (_, true) => (Linear::new([(v, -1)], (from + count - 1) as i64), 0),
    };
    if gone == 1 {
        vars.remove(v);
    } else {
        vars[v].extent = count;
    }
    let replace = |w: usize| if w == v { coordinate.clone() } else { Linear::var(if w > v { w - gone } else { w }) };
    let over = Over { replace: &replace, vars: &vars, tensors };
    let (target, value) = (over.access(&s.target), over.expr(&s.value));
    let stmt = Stmt { target, value, free: s.free - gone, vars: vars.clone(), ..s.clone() };
    Part { turn: (gone == 0).then_some(v), stmt }
}

/// A statement's parts over other variables, conditions decided where their ranges decide them.
struct Over<'a, F> {
    replace: &'a F,
    vars: &'a [Var],
    tensors: &'a [Tensor],
}

impl<F: Fn(usize) -> Linear> Over<'_, F> {
    fn access(&self, a: &Access) -> Access {
        let extent = |w: usize| self.vars[w].extent;
        let shape = &self.tensors[a.tensor.0].shape;
        let moved = |(p, size): (&Position, &usize)| {
            Position::new(p.numerator.substitute(self.replace), p.divisor, *size, &extent)
        };
        Access { tensor: a.tensor, positions: a.positions.iter().zip(shape).map(moved).collect() }
    }
    fn expr(&self, e: &Expr) -> Expr {
        let go = |e: &Expr| Box::new(self.expr(e));
        match e {
            Expr::Const(c) => Expr::Const(*c),
            Expr::Read(a) => Expr::Read(self.access(a)),
            Expr::Unary(f, a) => Expr::Unary(*f, go(a)),
            Expr::Binary(f, a, b) => Expr::Binary(*f, go(a), go(b)),
            Expr::Powf(a, n) => Expr::Powf(go(a), *n),
            Expr::Where(c, a, b) => Expr::choose(self.cond(c), self.expr(a), self.expr(b)),
        }
    }
    fn cond(&self, c: &Cond) -> Cond {
        match c {
            Cond::Const(b) => Cond::Const(*b),
            Cond::Index(op, a, b) => {
                let moved = |l: &Linear| l.substitute(self.replace);
                Cond::compare(*op, moved(a), moved(b), &|w| self.vars[w].extent)
            }
            Cond::Value(op, a, b) => Cond::Value(*op, self.expr(a), self.expr(b)),
            Cond::Inside(a) => {
                let access = self.access(a);
                if access.guarded() { Cond::Inside(access) } else { Cond::Const(true) }
            }
            Cond::And(a, b) => self.cond(a).and(self.cond(b)),
            Cond::Or(a, b) => self.cond(a).or(self.cond(b)),
            Cond::Not(a) => self.cond(a).negated(),
        }
    }
}
