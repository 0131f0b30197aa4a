//! Points that random ones never meet: takes a declared rule, solves for inputs at which it or `forward` bends (a
//! comparison holds with equality, an extremum ties) or is singular (a denominator, the base of a power, the argument
//! of a logarithm is zero), gives the first point at which the rule is wrong, and the branches that no point took.
//!
//! What bends is a number `g` that depends on the inputs. Inputs run along lines over all magnitudes; where `g` changes
//! its sign between two points of a line, bisection finds neighbours among the floating point numbers with the change
//! between them. Every point on the way is compared, so large and small inputs are too.

use super::kinks::{Disagreement, MAX_INPUTS, Point, Rules, What, within};
use super::{Sampler, Side, Wrong};
use crate::functions::Bends;
use crate::index::bind::Binding;
use crate::index::eval::Prepared;
use crate::index::*;
use crate::source::Span;
use crate::types::Domain;
use std::collections::{BTreeMap, BTreeSet};

/// Values along a line, of both signs, and zero. Numbers of the formula come besides.
const LADDER: [f64; 12] = [1e-8, 1e-4, 1e-2, 0.5, 1.0, 3.0, 10.0, 40.0, 1e2, 1e3, 1e5, 1e8];
/// Inputs nearer to zero are not compared, as their squares and cubes underflow.
const TINY: f64 = 1e-90;
/// The values of a parameter: what it may be is written nowhere, so neither zero nor below.
const PARAMETER: Domain = Domain { lo: 1e-3, lo_closed: true, hi: 1e3, hi_closed: true };
/// Points that are the start of further lines, where a branch needs several bends at once.
const MAX_BASES: usize = 16;
/// Changes of sign followed on one line.
const MAX_BRACKETS: usize = 4;

/// Where something bends or is singular: the statement that computes `g` for each of its coordinates.
struct Site {
    values: TensorId,
    stmt: Stmt,
    /// Zero is where the rule may be infinite.
    pole: bool,
}

/// A choice of the rule or of `forward`.
struct Branch {
    span: Span,
    condition: String,
    /// For each coordinate 0 where it is not reached, 1 where the condition holds, 2 where not.
    values: TensorId,
    seen: [bool; 2],
}

/// A rule with everything in it that bends.
pub(super) struct Probe {
    /// With tensors for what is watched, and for real parameters, which are moved like inputs.
    op: Op,
    side: Side,
    forward: Vec<Stmt>,
    declared: Vec<Stmt>,
    derived: Vec<Stmt>,
    params: BTreeMap<ParamId, TensorId>,
    sites: Vec<Site>,
    branches: Vec<Branch>,
    /// What computes the values of sites and branches.
    watch: Vec<Stmt>,
    /// Numbers that stand in what bends.
    literals: Vec<f64>,
}

/// A point at which a rule is wrong.
pub(super) struct Found {
    point: Point,
    pub disagreement: Disagreement,
    params: Vec<(ParamId, f64)>,
}

impl Found {
    /// For a message.
    pub fn wrong(self, op: &Op) -> Wrong {
        Wrong { params: self.params, ..Wrong::at(op, &self.point, &self.disagreement) }
    }
}

/// A branch that is never taken: its step, its condition, and whether it is the one for a condition that holds.
pub(super) struct Unseen {
    pub span: Span,
    pub condition: String,
    pub holds: bool,
}

impl Probe {
    pub fn new(op: &Op, side: Side, declared: &[Stmt], derived: &[Stmt]) -> Self {
        let mut wide = op.clone();
        let real = |p: &ParamId| matches!(op.params[p.0].kind, ParamKind::Real);
        let span = Span { source: op.source, start: 0, end: 0 };
        let params: BTreeMap<ParamId, TensorId> = (0..op.params.len())
            .map(ParamId)
            .filter(real)
            .map(|p| {
                let t = wide.add_tensor(&op.params[p.0].name, Vec::new(), Role::Input, span);
                wide.tensors[t.0].domain = Some(PARAMETER);
                (p, t)
            })
            .collect();
        let moved = |stmts: &[Stmt]| -> Vec<Stmt> {
            let read = |e| match e {
                Expr::Param(p) => params.get(&p).map_or(Expr::Param(p), |t| Expr::Read(*t, Vec::new())),
                e => e,
            };
            let with = |s: &Stmt| Stmt { value: s.value.map(&mut { read }), ..s.clone() };
            stmts.iter().map(with).collect()
        };
        let (forward, declared, derived) = (moved(&op.forward), moved(declared), moved(derived));
        let mut probe = Probe {
            op: wide,
            side,
            params,
            sites: Vec::new(),
            branches: Vec::new(),
            watch: Vec::new(),
            literals: Vec::new(),
            forward: Vec::new(),
            declared: Vec::new(),
            derived,
        };
        for (stmts, own) in [(&declared, true), (&forward, false)] {
            for s in stmts {
                let reached = Cond::Inside(s.target, s.index.clone());
                probe.expr(s, &s.value, &reached, own);
            }
        }
        Probe { forward, declared, ..probe }
    }

    /// Whether there is nothing to look for but magnitudes.
    pub fn is_smooth(&self) -> bool {
        self.sites.is_empty() && self.branches.is_empty()
    }

    fn site(&mut self, s: &Stmt, g: Expr, reached: &Cond, pole: bool) {
        if !g.any(&|e| matches!(e, Expr::Read(..))) {
            return;
        }
        g.visit(&mut |e| {
            if let Expr::Const(c) = e
                && c.is_finite()
                && *c != 0.0
            {
                self.literals.push(c.abs());
            }
        });
        let value = Expr::Where(Box::new(reached.clone()), Box::new(g), Box::new(Expr::Const(f64::NAN)));
        // The same stands in the rule and in `forward` at times.
        let alike = |site: &&mut Site| site.stmt.value == value && site.stmt.vars == s.vars;
        if let Some(site) = self.sites.iter_mut().find(alike) {
            site.pole |= pole;
            return;
        }
        let (values, stmt) = self.watched(s, value);
        self.sites.push(Site { values, stmt, pole });
    }

    /// A statement that computes a value for each coordinate of another, and its target.
    fn watched(&mut self, s: &Stmt, value: Expr) -> (TensorId, Stmt) {
        let axes = s.vars.iter().map(|v| v.axis).collect();
        let values = self.op.add_tensor("watched", axes, Role::RuleLocal, s.span);
        let index = (0..s.vars.len()).map(|v| Affine::var(VarId(v))).collect();
        let (free, vars) = (s.vars.len(), s.vars.clone());
        let stmt = Stmt {
            target: values,
            index,
            accumulate: false,
            vars,
            free,
            reduce: None,
            value,
            span: s.span,
            scan: None,
        };
        self.watch.push(stmt.clone());
        (values, stmt)
    }

    /// Everything in an expression that bends, under the conditions at which it is reached.
    fn expr(&mut self, s: &Stmt, e: &Expr, reached: &Cond, own: bool) {
        let minus = |a: &Expr, b: f64| a.clone() - Expr::Const(b);
        match e {
            Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) | Expr::Read(..) => {}
            Expr::Unary(f, a) => {
                let (corner, pole) = (false, own);
                match f.row().bends {
                    Bends::Nowhere => {}
                    Bends::AtZero => self.site(s, (**a).clone(), reached, corner),
                    // Zero at every whole number.
                    Bends::AtWhole => {
                        let angle = (**a).clone() * Expr::Const(std::f64::consts::PI);
                        self.site(s, Expr::unary(Unary::Sin, angle), reached, corner);
                    }
                    Bends::Ends(ends) => ends.iter().for_each(|end| self.site(s, minus(a, *end), reached, pole)),
                }
                self.expr(s, a, reached, own);
            }
            Expr::Powf(a, n) => {
                // An even power touches zero where its base crosses it.
                self.site(s, (**a).clone(), reached, own && (*n < 0.0 || n.fract() != 0.0));
                self.expr(s, a, reached, own);
            }
            Expr::Binary(f, a, b) => {
                match f {
                    Binary::Div => self.site(s, (**b).clone(), reached, own),
                    Binary::Pow => self.site(s, (**a).clone(), reached, own),
                    Binary::Atan2 => {
                        self.site(s, (**a).clone(), reached, own);
                        self.site(s, (**b).clone(), reached, own);
                    }
                    Binary::Min | Binary::Max => self.site(s, (**a).clone() - (**b).clone(), reached, false),
                    Binary::Add | Binary::Sub | Binary::Mul => {}
                }
                self.expr(s, a, reached, own);
                self.expr(s, b, reached, own);
            }
            Expr::Where(c, a, b) => {
                self.cond(s, c, reached, own);
                let number = |n: f64| Box::new(Expr::Const(n));
                let taken = Expr::Where(c.clone(), number(1.0), number(2.0));
                let value = Expr::Where(Box::new(reached.clone()), Box::new(taken), number(0.0));
                let condition = print::condition(&self.op, &s.vars, c);
                let span = s.span;
                // Inputs are finite here: a branch for what is not is none that is looked for.
                let mut finite = true;
                c.visit(&mut |e| finite &= !matches!(e, Expr::Const(c) if !c.is_finite()));
                if finite && !self.branches.iter().any(|b| b.span == span && b.condition == condition) {
                    let values = self.watched(s, value).0;
                    // Points are finite: of a comparison with infinity one side is met by none.
                    let seen = [with_infinity(c); 2];
                    self.branches.push(Branch { span, condition, values, seen });
                }
                self.expr(s, a, &reached.clone().and((**c).clone()), own);
                self.expr(s, b, &reached.clone().and(Cond::Not(c.clone())), own);
            }
            Expr::Reduce(_, _, a) => self.expr(s, a, reached, own),
        }
    }

    fn cond(&mut self, s: &Stmt, c: &Cond, reached: &Cond, own: bool) {
        match c {
            Cond::Index(..) | Cond::Inside(..) => {}
            Cond::Value(_, a, b) => {
                self.site(s, a.clone() - b.clone(), reached, false);
                self.expr(s, a, reached, own);
                self.expr(s, b, reached, own);
            }
            Cond::And(a, b) | Cond::Or(a, b) => {
                self.cond(s, a, reached, own);
                self.cond(s, b, reached, own);
            }
            Cond::Not(a) => self.cond(s, a, reached, own),
        }
    }

    /// Looks for a point of a shape at which the rule is wrong, the first found, made simple. What is not finite
    /// without being wrong counts where nothing else does.
    pub fn search(&mut self, binding: &Binding) -> Option<Found> {
        let found = Search::new(self, binding).run();
        let (seen, found) = (found.0, found.1);
        for (b, seen) in self.branches.iter_mut().zip(seen) {
            b.seen = [b.seen[0] | seen[0], b.seen[1] | seen[1]];
        }
        found
    }

    /// Takes notice of the branches that an ordinary point of a shape takes.
    pub fn visit(&mut self, binding: &Binding) {
        let mut search = Search::new(self, binding);
        let point = search.ordinary(1);
        search.eval(&point);
        let seen = search.seen;
        for (b, seen) in self.branches.iter_mut().zip(seen) {
            b.seen = [b.seen[0] | seen[0], b.seen[1] | seen[1]];
        }
    }

    /// Whether every branch has been taken.
    pub fn all_seen(&self) -> bool {
        self.branches.iter().all(|b| b.seen == [true; 2])
    }

    /// The branches that were not. Within one that was not, nothing else is told.
    pub fn unseen(&self) -> Vec<Unseen> {
        let of = |b: &Branch, holds: bool| Unseen { span: b.span, condition: b.condition.clone(), holds };
        self.branches.iter().filter(|b| b.seen[0] != b.seen[1]).map(|b| of(b, !b.seen[0])).collect()
    }
}

/// Whether a condition is that a value is infinite, or that it is not.
fn with_infinity(c: &Cond) -> bool {
    let infinite = |e: &Expr| match e {
        Expr::Const(c) => c.is_infinite(),
        Expr::Unary(Unary::Neg, a) => matches!(a.as_ref(), Expr::Const(c) if c.is_infinite()),
        _ => false,
    };
    match c {
        Cond::Value(_, a, b) => infinite(a) || infinite(b),
        Cond::Not(a) => with_infinity(a),
        Cond::And(..) | Cond::Or(..) | Cond::Index(..) | Cond::Inside(..) => false,
    }
}

/// A line through a point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    /// One element runs.
    Element(TensorId, usize),
    /// All elements of a tensor are one value.
    Fill(TensorId),
    /// All elements of all inputs are multiplied.
    Scale,
}

/// A point of a line, what `g` is of each site there.
struct Mark {
    at: f64,
    g: Vec<Vec<f64>>,
}

/// One search at one shape.
struct Search<'a> {
    probe: &'a Probe,
    rules: Rules<'a>,
    watch: Prepared<f64>,
    solved: Vec<bool>,
    seen: Vec<[bool; 2]>,
    found: Option<Found>,
    doubtful: Option<Found>,
    /// Whether `g` of each site was below zero, zero, above.
    signs: Vec<[bool; 3]>,
    /// Points at which a branch was taken, or `g` had a sign, for the first time.
    bases: Vec<Point>,
}

impl<'a> Search<'a> {
    fn new(probe: &'a Probe, binding: &'a Binding) -> Self {
        let stmts = [probe.forward.as_slice(), &probe.declared, &probe.derived];
        Search {
            probe,
            rules: Rules::new(&probe.op, probe.side, stmts, binding),
            watch: Prepared::new(&probe.op, binding, &probe.watch),
            solved: vec![false; probe.sites.len()],
            seen: vec![[false; 2]; probe.branches.len()],
            found: None,
            doubtful: None,
            signs: vec![[false; 3]; probe.sites.len()],
            bases: Vec::new(),
        }
    }

    /// A random point, parameters as the shape has them.
    fn ordinary(&self, seed: u64) -> Point {
        let op = &self.probe.op;
        let param = |t: TensorId| self.probe.params.iter().find(|(_, u)| **u == t).map(|(p, _)| *p);
        Point::new(op, &[self.probe.side], self.rules.binding, &mut Sampler::new(20 + seed), &mut |sampler, t| {
            match param(t) {
                Some(p) => self.rules.binding.real(p),
                None => sampler.ordinary(op.tensor(t).domain),
            }
        })
    }

    fn run(mut self) -> (Vec<[bool; 2]>, Option<Found>) {
        let points = [self.ordinary(1), self.ordinary(2)];
        for p in &points {
            let run = self.rules.run(p, None).0;
            self.rules.measure(&run);
        }
        points.iter().for_each(|p| _ = self.eval(p));
        let base = &points[0];
        let lines = self.lines(base);
        // Every input and all together, for the magnitudes; the others as long as something is not found.
        let mut first = BTreeSet::new();
        for line in lines {
            let fresh = match line {
                Line::Element(t, _) => first.insert(t),
                Line::Scale => true,
                Line::Fill(_) => false,
            };
            if self.found.is_none() && (fresh || self.solved.contains(&false)) {
                self.along(base, line);
            }
        }
        // A branch that needs several bends at once: on from points that meet one.
        let mut n = 0;
        while n < self.bases.len().min(MAX_BASES) && self.found.is_none() && self.missing() {
            let base = self.bases[n].clone();
            for line in self.lines(&base) {
                if self.found.is_none() && self.missing() && matches!(line, Line::Element(..)) {
                    self.solved.fill(false);
                    self.along(&base, line);
                }
            }
            n += 1;
        }
        let found = self.found.take().or_else(|| self.doubtful.take()).map(|found| self.simple(found));
        (self.seen, found)
    }

    fn missing(&self) -> bool {
        self.seen.iter().zip(&self.probe.branches).any(|(now, before)| (0..2).any(|n| !now[n] && !before.seen[n]))
    }

    /// The lines through a point: those that move one element, of each input a few, then those that move many.
    fn lines(&self, base: &Point) -> Vec<Line> {
        let op = &self.probe.op;
        let numbered = op.numbered();
        let mut lines = Vec::new();
        for (t, v) in &base.inputs {
            let all = op.tensor(*t).axes.iter().any(|a| numbered[a.0].is_some());
            let count = v.len();
            let some: Vec<usize> = match all || count <= 3 {
                true => (0..count.min(MAX_INPUTS)).collect(),
                false => vec![0, count - 1, count / 2],
            };
            lines.extend(some.into_iter().map(|e| Line::Element(*t, e)));
        }
        lines.push(Line::Scale);
        lines.extend(base.inputs.iter().filter(|(_, v)| v.len() > 1).map(|(t, _)| Line::Fill(*t)));
        lines
    }

    /// The values that a line takes, in order.
    fn ladder(&self, line: Line) -> Vec<f64> {
        let literals = self.probe.literals.iter().flat_map(|c| [0.5 * c, *c, 2.0 * c]);
        let mut values: Vec<f64> = LADDER.iter().copied().chain(literals).flat_map(|v| [v, -v]).chain([0.0]).collect();
        if let Line::Element(t, _) | Line::Fill(t) = line
            && let Some(d) = self.probe.op.tensor(t).domain
        {
            let width = d.hi - d.lo;
            if width.is_finite() {
                values.extend([1e-9, 1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9].iter().map(|u| d.lo + width * u));
                values.extend([1e-9, 1e-6, 1e-3].iter().map(|u| d.hi - width * u));
            }
            values.extend([d.lo, d.hi]);
            values.retain(|v| within(&d, *v));
        }
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }

    /// The point of a line; `None` outside of the domain.
    fn at(&self, base: &Point, line: Line, value: f64) -> Option<Point> {
        let mut point = base.clone();
        let op = &self.probe.op;
        match line {
            Line::Element(t, e) => point.inputs.get_mut(&t)?[e] = value,
            Line::Fill(t) => point.inputs.get_mut(&t)?.fill(value),
            Line::Scale => {
                let movable = |t: &TensorId| !self.probe.params.values().any(|p| p == t);
                for (_, v) in point.inputs.iter_mut().filter(|(t, _)| movable(t)) {
                    v.iter_mut().for_each(|v| *v *= value);
                }
            }
        }
        let inside =
            |(t, v): (&TensorId, &Vec<f64>)| op.tensor(*t).domain.is_none_or(|d| v.iter().all(|v| within(&d, *v)));
        point.inputs.iter().all(inside).then_some(point)
    }

    /// Runs a point, compares the rules there, and gives `g` of each site.
    fn eval(&mut self, point: &Point) -> Vec<Vec<f64>> {
        let (run, mut machine) = self.rules.run(point, Some(&self.watch));
        let mut take = |t: TensorId| machine.tensors.remove(&t).unwrap_or_default();
        let mut new = false;
        let mut note = |seen: &mut bool, now: bool| {
            new |= now && !*seen;
            *seen |= now;
        };
        for (b, seen) in self.probe.branches.iter().zip(&mut self.seen) {
            for v in take(b.values) {
                note(&mut seen[0], v == 1.0);
                note(&mut seen[1], v == 2.0);
            }
        }
        let g: Vec<Vec<f64>> = self.probe.sites.iter().map(|s| take(s.values)).collect();
        for (g, signs) in g.iter().zip(&mut self.signs) {
            for v in g {
                note(&mut signs[0], *v < 0.0);
                note(&mut signs[1], *v == 0.0);
                note(&mut signs[2], *v > 0.0);
            }
        }
        if new && self.bases.len() < MAX_BASES {
            self.bases.push(point.clone());
        }
        // Products of what is smaller are no numbers any more.
        let tiny = point.inputs.values().flatten().any(|v| *v != 0.0 && v.abs() < TINY);
        if self.found.is_none() && !tiny {
            let pole = self.probe.sites.iter().zip(&g).any(|(s, g)| s.pole && g.contains(&0.0));
            if let Some(disagreement) = self.rules.judge(point, &run, pole) {
                let found = Found { point: point.clone(), disagreement, params: Vec::new() };
                match found.disagreement.what {
                    What::NotFinite => self.doubtful = self.doubtful.take().or(Some(found)),
                    _ => self.found = Some(found),
                }
            }
        }
        g
    }

    /// Follows a line, and what changes its sign on it.
    fn along(&mut self, base: &Point, line: Line) {
        let mut marks: Vec<Mark> = Vec::new();
        for value in self.ladder(line) {
            let Some(point) = self.at(base, line, value) else { continue };
            let g = self.eval(&point);
            if self.found.is_some() {
                return;
            }
            marks.push(Mark { at: value, g });
        }
        for site in 0..self.probe.sites.len() {
            if self.solved[site] || self.found.is_some() {
                continue;
            }
            let coordinates = marks.first().map_or(0, |m| m.g[site].len());
            let brackets = |c: usize| {
                let g = |m: &Mark| m.g[site][c];
                let changes =
                    marks.windows(2).filter(|w| g(&w[0]) < 0.0 && g(&w[1]) > 0.0 || g(&w[0]) > 0.0 && g(&w[1]) < 0.0);
                changes.map(|w| (w[0].at, w[1].at)).take(MAX_BRACKETS).collect::<Vec<_>>()
            };
            let touched = marks.iter().filter(|m| m.g[site].contains(&0.0)).map(|m| m.at).collect::<Vec<_>>();
            // On it everywhere, as a maximum that is compared with what it is the maximum of.
            let always = touched.len() == marks.len();
            let found = (0..coordinates).map(|c| (c, brackets(c))).find(|(_, b)| !b.is_empty());
            if let Some((c, brackets)) = found {
                touched.iter().take(MAX_BRACKETS).for_each(|v| self.beside(base, line, *v));
                for (a, b) in brackets {
                    self.bisect(base, line, site, c, a, b);
                }
                self.solved[site] = true;
            } else if always {
                self.solved[site] = true;
            } else if !touched.is_empty() {
                touched.iter().take(MAX_BRACKETS).for_each(|v| self.beside(base, line, *v));
                self.solved[site] = true;
            } else if let Some((c, a, b)) = dip(&marks, site, coordinates) {
                self.descend(base, line, site, c, a, b);
            }
        }
    }

    /// `g` of a site at a coordinate, at a value of a line; `None` where it is not defined.
    fn g(&mut self, base: &Point, line: Line, site: usize, c: usize, value: f64) -> Option<f64> {
        let point = self.at(base, line, value)?;
        let g = self.eval(&point)[site][c];
        (!g.is_nan()).then_some(g)
    }

    /// Between two values with `g` of unlike signs, to neighbours among the numbers of `f64`, and the ones behind them.
    fn bisect(&mut self, base: &Point, line: Line, site: usize, c: usize, a: f64, b: f64) {
        let (mut a, mut b) = (ordered(a), ordered(b));
        let Some(start) = self.g(base, line, site, c, unordered(a)) else { return };
        while b - a > 1 && self.found.is_none() {
            let middle = a + (b - a) / 2;
            let Some(g) = self.g(base, line, site, c, unordered(middle)) else { return };
            if (g < 0.0) == (start < 0.0) && g != 0.0 { a = middle } else { b = middle }
        }
        self.beside(base, line, unordered(b));
    }

    /// Both sides of a value, and a little further off, where what is wrong is not lost in rounding.
    fn beside(&mut self, base: &Point, line: Line, value: f64) {
        let place = ordered(value);
        let width = (value.abs() * 1e-6).max(1e-12);
        for v in [unordered(place - 1), unordered(place + 1), value - width, value + width] {
            if let Some(point) = self.at(base, line, v) {
                self.eval(&point);
            }
        }
    }

    /// Looks for the least of `|g|` between two values (golden section, Kiefer 1953), as `g` may touch zero without
    /// changing its sign, or cross it in between. What is found is tried with fewer digits.
    fn descend(&mut self, base: &Point, line: Line, site: usize, c: usize, a: f64, b: f64) {
        let sign = self.g(base, line, site, c, a).map(f64::signum);
        let Some(sign) = sign else { return };
        let ratio = 0.5 * (5f64.sqrt() - 1.0);
        let (mut a, mut b) = (a, b);
        let (mut x, mut y) = (b - ratio * (b - a), a + ratio * (b - a));
        let (Some(mut u), Some(mut v)) = (self.g(base, line, site, c, x), self.g(base, line, site, c, y)) else {
            return;
        };
        let start = a;
        for _ in 0..60 {
            if self.found.is_some() {
                return;
            }
            // The other side: a change of sign after all.
            if let Some((at, _)) = [(x, u), (y, v)].into_iter().find(|(_, g)| g * sign <= 0.0) {
                self.solved[site] = true;
                return self.bisect(base, line, site, c, start, at);
            }
            if u.abs() <= v.abs() {
                (b, y, v) = (y, x, u);
                x = b - ratio * (b - a);
                let Some(g) = self.g(base, line, site, c, x) else { return };
                u = g;
            } else {
                (a, x, u) = (x, y, v);
                y = a + ratio * (b - a);
                let Some(g) = self.g(base, line, site, c, y) else { return };
                v = g;
            }
        }
        for digits in 0..9 {
            let rounded = format!("{:.*e}", digits, 0.5 * (a + b)).parse().unwrap_or(a);
            if self.g(base, line, site, c, rounded).is_some_and(|g| g * sign <= 0.0) {
                self.solved[site] = true;
                return;
            }
        }
    }

    /// The same fault at a point of simpler numbers.
    fn simple(&self, found: Found) -> Found {
        let again = |point: &Point| {
            let (run, mut machine) = self.rules.run(point, Some(&self.watch));
            let mut zero = |s: &Site| s.pole && machine.tensors.remove(&s.values).is_some_and(|g| g.contains(&0.0));
            let pole = self.probe.sites.iter().any(&mut zero);
            self.rules.judge(point, &run, pole)
        };
        let (point, disagreement) = self.rules.simple(found.point, found.disagreement, &again);
        let real = |(p, t): (&ParamId, &TensorId)| Some((*p, *point.inputs.get(t)?.first()?));
        let params = self.probe.params.iter().filter_map(real).collect();
        Found { point, disagreement, params }
    }
}

/// Where `|g|` of a site is less than on both sides, without a change of sign: a coordinate, and the values around.
fn dip(marks: &[Mark], site: usize, coordinates: usize) -> Option<(usize, f64, f64)> {
    let at = |c: usize| {
        let lower = |w: &&[Mark]| {
            let g = |n: usize| w[n].g[site][c].abs();
            g(1).is_finite() && g(1) < g(0) && g(1) < g(2)
        };
        marks.windows(3).filter(lower).min_by(|v, w| v[1].g[site][c].abs().total_cmp(&w[1].g[site][c].abs()))
    };
    (0..coordinates).find_map(|c| at(c).map(|w| (c, w[0].at, w[2].at)))
}

/// The place of a number among all of `f64`, in order.
fn ordered(v: f64) -> i64 {
    let bits = v.to_bits() as i64;
    if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits }
}

fn unordered(place: i64) -> f64 {
    f64::from_bits(if place < 0 { i64::MIN.wrapping_sub(place) } else { place } as u64)
}
