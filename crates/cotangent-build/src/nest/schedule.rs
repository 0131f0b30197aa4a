//! The scheduler: takes the functions of a kernel, gives a [`Nest`] for each: loop order, accumulators, flattened blocks, tests as far out as
//! their variables allow.
//!
//! Order of summation, part of a kernel's contract: a sum with a row of accumulators or a single one adds in the order of its loops; a dot
//! product adds element n to lane n mod 8, then folds the lanes as a tree.

use super::fuse::{Tree, fuse};
use super::*;
use crate::index::ReduceOp;
use crate::plain::{self, Cond, Expr, Function, Kernel, Step, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// The longest row of accumulators; a longer one is worked off in pieces of this length. 4 KiB of f32: a quarter of a first-level cache.
const ROW: usize = 1024;
/// Lanes of a dot product.
const LANES: usize = 8;

/// Schedules every function of a kernel.
pub fn schedule(kernel: &Kernel) -> Vec<Nest> {
    kernel.functions.iter().map(|f| function(kernel, f)).collect()
}

fn function(kernel: &Kernel, f: &Function) -> Nest {
    let fused = fuse(&f.steps, &f.locals);
    let locals = f
        .locals
        .iter()
        .map(|t| {
            let tensor = kernel.tensor(*t);
            let keep: Vec<usize> =
                (0..tensor.shape.len()).filter(|d| !fused.dropped.get(t).is_some_and(|s| s.contains(d))).collect();
            let shape = keep.iter().map(|d| tensor.shape[*d]).collect();
            Local { tensor: *t, name: tensor.name.clone(), keep, shape }
        })
        .collect();
    let nest = Nest {
        name: f.name.clone(),
        kind: f.kind,
        reads: f.reads.clone(),
        writes: f.writes.clone(),
        locals,
        vars: Vec::new(),
        registers: Vec::new(),
        body: Vec::new(),
    };
    let mut s = Scheduler { kernel, nest, loops: BTreeMap::new() };
    s.nest.body = s.trees(&fused.trees);
    let mut nest = s.nest;
    distinct_names(&nest.body, &mut nest.vars, &mut Vec::new());
    nest
}

/// A loop inside another of the same name is numbered.
fn distinct_names(nodes: &[Node], vars: &mut [Var], outer: &mut Vec<String>) {
    for node in nodes {
        match node {
            Node::Loop { var, body } => {
                let base = vars[*var].name.clone();
                let mut n = 1;
                while outer.contains(&vars[*var].name) {
                    n += 1;
                    vars[*var].name = format!("{base}_{n}");
                }
                outer.push(vars[*var].name.clone());
                distinct_names(body, vars, outer);
                outer.pop();
            }
            Node::If { body, .. } => distinct_names(body, vars, outer),
            _ => {}
        }
    }
}

struct Scheduler<'a> {
    kernel: &'a Kernel,
    nest: Nest,
    /// The nest variable of each fused loop.
    loops: BTreeMap<usize, VarId>,
}

/// A statement's variables as linear maps of nest variables: a loop of its own, a fused one, or a piece of one.
type Map = Vec<Linear>;

impl Scheduler<'_> {
    fn trees(&mut self, trees: &[Tree]) -> Vec<Node> {
        let mut out = Vec::new();
        for tree in trees {
            match tree {
                Tree::Loop { id, name, extent, body } => {
                    let var = self.var(name, *extent);
                    self.loops.insert(*id, var);
                    let body = self.trees(body);
                    out.push(Node::Loop { var, body });
                }
                Tree::Step { step: Step::Fill(t), .. } => {
                    out.push(Node::Comment(format!("{} = 0", self.kernel.tensor(*t).name), None));
                    out.push(Node::Fill(*t));
                }
                Tree::Step { step: Step::Stmt(s), fixed } => {
                    out.push(Node::Comment(plain::print::stmt(&self.kernel.tensors, s), Some(s.span)));
                    out.extend(self.stmt(s, fixed));
                }
            }
        }
        out
    }

    fn var(&mut self, name: &str, extent: usize) -> VarId {
        self.nest.vars.push(Var { name: name.to_string(), extent });
        self.nest.vars.len() - 1
    }

    fn register(&mut self, name: &str, lanes: Option<usize>) -> RegisterId {
        let name = format!("{name}{}", self.nest.registers.len());
        self.nest.registers.push(Register { name, lanes });
        self.nest.registers.len() - 1
    }

    fn stmt(&mut self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Vec<Node> {
        if fixed.is_empty() && s.reduce.is_none() && flattens(self.kernel, s) {
            return self.flat(s);
        }
        let own: Vec<usize> = (0..s.vars.len()).filter(|v| !fixed.contains_key(v)).collect();
        // The row: the free variable along which the target is contiguous, if every read is contiguous along it or does not move.
        if let Some(r) = s.reduce
            && let Some(lane) = lane(self.kernel, s, self.free_lane(s, fixed))
        {
            let extent = s.vars[lane].extent;
            let (whole, rest) = if extent > ROW { (extent / ROW, extent % ROW) } else { (0, extent) };
            let mut out = Vec::new();
            if whole > 0 {
                let piece = self.var(&format!("{}_row", s.vars[lane].name), whole);
                let base = Linear::new([(piece, ROW as i64)], 0);
                let body = self.row(s, r, fixed, &own, lane, base, ROW);
                out.push(Node::Loop { var: piece, body });
            }
            if rest > 0 {
                out.extend(self.row(s, r, fixed, &own, lane, Linear::constant((whole * ROW) as i64), rest));
            }
            return out;
        }
        let mut map = self.fixed_map(s, fixed);
        let free = self.loops_of(s, own.iter().copied().filter(|v| *v < s.free), &mut map);
        let target = self.access(&s.target, &map);
        let target_tests = tests_of(self.kernel, &s.target, &map);
        match s.reduce {
            None => {
                let (guards, value) = self.lower_term(&s.value, &map);
                let (tests, value) = if s.accumulate {
                    ([target_tests, guards].concat(), value)
                } else {
                    (target_tests, or_zero(guards, value))
                };
                let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
                nest(
                    &free,
                    tests,
                    &bound_outside(&map, &free),
                    vec![Node::Update { place: Place::Element(target), how, value }],
                )
            }
            Some(r) => {
                let bound: Vec<usize> = own.iter().copied().filter(|v| *v >= s.free).collect();
                let mut body = Vec::new();
                let total = self.register("acc", None);
                body.push(Node::Init { register: total, value: r.identity() });
                let dot = bound
                    .last()
                    .copied()
                    .filter(|v| r == ReduceOp::Sum && s.vars[*v].extent >= 2 * LANES)
                    .and_then(|v| lane(self.kernel, s, Some(v)));
                body.extend(match dot {
                    Some(v) => self.dot(s, &bound, v, &map, total),
                    None => self.reduction(s, r, &bound, map.clone(), Place::Register(total, None)),
                });
                let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
                body.push(Node::Update { place: Place::Element(target), how, value: Value::Register(total, None) });
                nest(&free, target_tests, &bound_outside(&map, &free), body)
            }
        }
    }

    /// The free variable in the last storage dimension of the target, if the target is otherwise plain in it and it is not fixed.
    fn free_lane(&self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Option<usize> {
        let v = s.target.positions.last()?.as_var()?;
        (v < s.free && !fixed.contains_key(&v) && !s.target.guarded()).then_some(v)
    }

    fn fixed_map(&self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Map {
        (0..s.vars.len())
            .map(|v| fixed.get(&v).map_or_else(Linear::default, |id| Linear::var(self.loops[id])))
            .collect()
    }

    /// Loops of their own for variables, outermost first in the order of the target's storage.
    fn loops_of(&mut self, s: &Stmt, vars: impl Iterator<Item = usize>, map: &mut Map) -> Vec<VarId> {
        let mut vars: Vec<usize> = vars.collect();
        let place =
            |v: &usize| s.target.positions.iter().position(|p| p.numerator.coefficient(*v) != 0).unwrap_or(usize::MAX);
        vars.sort_by_key(place);
        vars.into_iter()
            .map(|v| {
                let var = self.var(&s.vars[v].name, s.vars[v].extent);
                map[v] = Linear::var(var);
                var
            })
            .collect()
    }

    /// A row of accumulators along `lane`, the reduction loops around the row.
    #[allow(clippy::too_many_arguments)]
    fn row(
        &mut self,
        s: &Stmt,
        r: ReduceOp,
        fixed: &BTreeMap<usize, usize>,
        own: &[usize],
        lane: usize,
        base: Linear,
        width: usize,
    ) -> Vec<Node> {
        let mut map = self.fixed_map(s, fixed);
        let free = self.loops_of(s, own.iter().copied().filter(|v| *v < s.free && *v != lane), &mut map);
        let acc = self.register("row", Some(width));
        let along = |v: VarId| Linear::new([(v, 1)].into_iter().chain(base.terms.clone()), base.constant);
        let mut body = vec![Node::Init { register: acc, value: r.identity() }];
        let inner = self.var(&s.vars[lane].name, width);
        map[lane] = along(inner);
        let mut reduction_map = map.clone();
        let bound = self.loops_of(s, own.iter().copied().filter(|v| *v >= s.free), &mut reduction_map);
        let (guards, value) = self.lower_reduced(s, r, &reduction_map);
        let update =
            Node::Update { place: Place::Register(acc, Some(Linear::var(inner))), how: Update::Reduce(r), value };
        let order: Vec<VarId> = bound.iter().copied().chain([inner]).collect();
        body.extend(nest(&order, guards, &bound_outside(&reduction_map, &order), vec![update]));
        let last = self.var(&s.vars[lane].name, width);
        map[lane] = along(last);
        let target = self.access(&s.target, &map);
        let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
        let value = Value::Register(acc, Some(Linear::var(last)));
        body.push(Node::Loop { var: last, body: vec![Node::Update { place: Place::Element(target), how, value }] });
        nest(&free, Vec::new(), &[], body)
    }

    /// The reduction loops around one update of `place`.
    fn reduction(&mut self, s: &Stmt, r: ReduceOp, bound: &[usize], mut map: Map, place: Place) -> Vec<Node> {
        let loops = self.loops_of(s, bound.iter().copied(), &mut map);
        let (guards, value) = self.lower_reduced(s, r, &map);
        let outside = bound_outside(&map, &loops);
        nest(&loops, guards, &outside, vec![Node::Update { place, how: Update::Reduce(r), value }])
    }

    /// A sum along `v` in lanes: the whole groups of lanes, then what is left.
    fn dot(&mut self, s: &Stmt, bound: &[usize], v: usize, map: &Map, total: RegisterId) -> Vec<Node> {
        let extent = s.vars[v].extent;
        let lanes = self.register("lanes", Some(LANES));
        let mut out = vec![Node::Init { register: lanes, value: 0.0 }];
        let mut outer_map = map.clone();
        let outer = self.loops_of(s, bound.iter().copied().filter(|w| *w != v), &mut outer_map);
        let mut body = Vec::new();
        let mut tests = Vec::new();
        for (first, groups, width) in [(0, extent / LANES, LANES), (extent - extent % LANES, 1, extent % LANES)] {
            if width == 0 {
                continue;
            }
            let mut own = outer_map.clone();
            let lane = self.var("lane", width);
            let group = (groups > 1).then(|| self.var(&s.vars[v].name, groups));
            own[v] = Linear::new(group.map(|g| (g, LANES as i64)).into_iter().chain([(lane, 1)]), first as i64);
            let (guards, value) = self.lower_reduced(s, ReduceOp::Sum, &own);
            let update = Node::Update {
                place: Place::Register(lanes, Some(Linear::var(lane))),
                how: Update::Reduce(ReduceOp::Sum),
                value,
            };
            let order: Vec<VarId> = group.into_iter().chain([lane]).collect();
            let (inside, hoisted): (Vec<Test>, Vec<Test>) = guards.into_iter().partition(|t| depends(t, &order));
            tests = hoisted;
            body.extend(nest(&order, inside, &bound_outside(&own, &order), vec![update]));
        }
        out.extend(nest(&outer, tests, &bound_outside(&outer_map, &outer), body));
        out.push(Node::Fold { into: total, from: lanes, op: ReduceOp::Sum });
        out
    }

    /// An elementwise statement over the whole of its tensors: one loop over the flat elements.
    fn flat(&mut self, s: &Stmt) -> Vec<Node> {
        let size = self.kernel.tensor(s.target.tensor).elements();
        let one = |map: &Map, this: &Self| {
            let (_, value) = this.lower(&s.value, map);
            let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
            (how, value)
        };
        let var = self.var("n", size);
        let (how, value) = one(&vec![Linear::default(); s.vars.len()], self);
        let at = vec![Position { numerator: Linear::var(var), divisor: 1, guarded: false }];
        let place = Place::Element(Access { tensor: s.target.tensor, flat: true, positions: at.clone() });
        let value = flatten(value, &at);
        vec![Node::Loop { var, body: vec![Node::Update { place, how, value }] }]
    }

    // ---- values ----

    fn access(&self, a: &plain::Access, map: &Map) -> Access {
        let keep = self.nest.locals.iter().find(|l| l.tensor == a.tensor).map(|l| l.keep.clone());
        let position = |p: &plain::Position| Position {
            numerator: p.numerator.substitute(&|v| map[v].clone()),
            divisor: p.divisor,
            guarded: p.guard.any(),
        };
        let positions = match keep {
            None => a.positions.iter().map(position).collect(),
            Some(keep) => keep.iter().map(|d| position(&a.positions[*d])).collect(),
        };
        Access { tensor: a.tensor, flat: false, positions }
    }

    /// A value that a reduction takes: the tests under which the coordinate counts, and the value.
    fn lower_reduced(&self, s: &Stmt, r: ReduceOp, map: &Map) -> (Vec<Test>, Value) {
        if r == ReduceOp::Sum {
            return self.lower_term(&s.value, map);
        }
        let (mut guards, value) = self.lower(&s.value, map);
        if r.skips_outside() {
            // These pass over coordinates where any read that is met falls outside, not just a factor.
            for t in self.met_inside(&s.value, map) {
                if !guards.contains(&t) {
                    guards.push(t);
                }
            }
        }
        (guards, value)
    }

    /// The tests under which no read that the evaluation meets falls outside.
    fn met_inside(&self, e: &Expr, map: &Map) -> Vec<Test> {
        match e {
            Expr::Const(_) => Vec::new(),
            Expr::Read(a) => tests_of(self.kernel, a, map),
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.met_inside(a, map),
            Expr::Binary(_, a, b) => [self.met_inside(a, map), self.met_inside(b, map)].concat(),
            Expr::Where(c, a, b) => {
                let mut all = self.met_in_test(c, map);
                let (yes, no) = (self.met_inside(a, map), self.met_inside(b, map));
                if !yes.is_empty() || !no.is_empty() {
                    let taken = self.test(c, map);
                    let left = Test::And([vec![taken.clone()], yes].concat());
                    let right = Test::And([vec![Test::Not(Box::new(taken))], no].concat());
                    all.push(Test::Or(vec![left, right]));
                }
                all
            }
        }
    }

    /// As [`Self::met_inside`], of a condition: its second side is met only where the first does not decide, `inside` is no read.
    fn met_in_test(&self, c: &Cond, map: &Map) -> Vec<Test> {
        let unless = |decided: Test, rest: Vec<Test>| {
            if rest.is_empty() { Vec::new() } else { vec![Test::Or(vec![decided, Test::all(rest)])] }
        };
        match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => Vec::new(),
            Cond::Value(_, a, b) => [self.met_inside(a, map), self.met_inside(b, map)].concat(),
            Cond::And(a, b) => {
                let decided = Test::Not(Box::new(self.test(a, map)));
                [self.met_in_test(a, map), unless(decided, self.met_in_test(b, map))].concat()
            }
            Cond::Or(a, b) => [self.met_in_test(a, map), unless(self.test(a, map), self.met_in_test(b, map))].concat(),
            Cond::Not(a) => self.met_in_test(a, map),
        }
    }

    /// The tests under which the value is present (an absent one is zero), and the value there.
    fn lower(&self, e: &Expr, map: &Map) -> (Vec<Test>, Value) {
        let number = |e: &Expr| {
            let (tests, v) = self.lower(e, map);
            or_zero(tests, v)
        };
        match e {
            Expr::Const(c) => (Vec::new(), Value::Const(*c)),
            Expr::Read(a) => (tests_of(self.kernel, a, map), Value::Load(self.access(a, map))),
            Expr::Unary(Unary::Neg, a) => {
                let (tests, a) = self.lower(a, map);
                (tests, Value::Unary(Unary::Neg, Box::new(a)))
            }
            Expr::Unary(f, a) => (Vec::new(), Value::Unary(*f, Box::new(number(a)))),
            Expr::Powf(a, n) => (Vec::new(), Value::Powf(Box::new(number(a)), *n)),
            Expr::Binary(Binary::Mul, a, b) => {
                let ((mut tests, a), (more, b)) = (self.lower(a, map), self.lower(b, map));
                for t in more {
                    if !tests.contains(&t) {
                        tests.push(t);
                    }
                }
                (tests, Value::Binary(Binary::Mul, Box::new(a), Box::new(b)))
            }
            Expr::Binary(Binary::Div, a, b) => {
                let (tests, a) = self.lower(a, map);
                (tests, Value::Binary(Binary::Div, Box::new(a), Box::new(number(b))))
            }
            Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) => {
                let ((ta, va), (tb, vb)) = (self.lower(a, map), self.lower(b, map));
                if ta == tb {
                    return (ta, Value::Binary(*f, Box::new(va), Box::new(vb)));
                }
                // Present where one of the two is.
                let tests = if ta.is_empty() || tb.is_empty() {
                    Vec::new()
                } else {
                    vec![Test::Or(vec![Test::all(ta.clone()), Test::all(tb.clone())])]
                };
                (tests, Value::Binary(*f, Box::new(or_zero(ta, va)), Box::new(or_zero(tb, vb))))
            }
            Expr::Binary(f, a, b) => (Vec::new(), Value::Binary(*f, Box::new(number(a)), Box::new(number(b)))),
            Expr::Where(c, a, b) => {
                let test = self.test(c, map);
                let ((ta, va), (tb, vb)) = (self.lower(a, map), self.lower(b, map));
                let mut tests = Vec::new();
                if !ta.is_empty() || !tb.is_empty() {
                    // Present where the taken branch is.
                    let left = Test::And([vec![test.clone()], ta.clone()].concat());
                    let right = Test::And([vec![Test::Not(Box::new(test.clone()))], tb.clone()].concat());
                    tests.push(Test::Or(vec![left, right]));
                }
                // Each branch keeps its own tests: the one on the whole does not say which of them holds.
                (tests, Value::Select(Box::new(test), Box::new(or_zero(ta, va)), Box::new(or_zero(tb, vb))))
            }
        }
    }

    /// A term that is added or stored: besides, `where(c, e, 0)` on coordinates is `e` under the test `c`.
    fn lower_term(&self, e: &Expr, map: &Map) -> (Vec<Test>, Value) {
        match e {
            Expr::Where(c, a, b) if **b == Expr::Const(0.0) => {
                let test = self.test(c, map);
                if has_loads(&test) {
                    return self.lower(e, map);
                }
                let (mut tests, value) = self.lower_term(a, map);
                tests.insert(0, test);
                (tests, value)
            }
            e => self.lower(e, map),
        }
    }

    fn test(&self, c: &Cond, map: &Map) -> Test {
        let linear = |l: &Linear| l.substitute(&|v| map[v].clone());
        let number = |e: &Expr| {
            let (tests, v) = self.lower(e, map);
            or_zero(tests, v)
        };
        match c {
            Cond::Const(true) => Test::And(Vec::new()),
            Cond::Const(false) => Test::Or(Vec::new()),
            Cond::Index(op, a, b) => Test::Index(*op, linear(a), linear(b)),
            Cond::Value(op, a, b) => Test::Value(*op, number(a), number(b)),
            Cond::Inside(a) => Test::all(tests_of(self.kernel, a, map)),
            Cond::And(a, b) => Test::And(vec![self.test(a, map), self.test(b, map)]),
            Cond::Or(a, b) => Test::Or(vec![self.test(a, map), self.test(b, map)]),
            Cond::Not(a) => Test::Not(Box::new(self.test(a, map))),
        }
    }
}

fn has_loads(t: &Test) -> bool {
    let mut found = false;
    t.loads(&mut |_| found = true);
    found
}

fn or_zero(tests: Vec<Test>, v: Value) -> Value {
    if tests.is_empty() {
        v
    } else {
        Value::Select(Box::new(Test::all(tests)), Box::new(v), Box::new(Value::Const(0.0)))
    }
}

/// The guards of an access as tests.
fn tests_of(kernel: &Kernel, a: &plain::Access, map: &Map) -> Vec<Test> {
    let mut tests = Vec::new();
    for (p, extent) in a.positions.iter().zip(&kernel.tensor(a.tensor).shape) {
        if p.guard.any() {
            let test = Test::Within {
                numerator: p.numerator.substitute(&|v| map[v].clone()),
                divisor: p.divisor,
                extent: *extent,
            };
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
    }
    tests
}

/// The nest variables that the map uses and `loops` does not run: enclosing ones.
fn bound_outside(map: &Map, loops: &[VarId]) -> Vec<VarId> {
    map.iter().flat_map(|l| l.terms.iter().map(|(v, _)| *v)).filter(|v| !loops.contains(v)).collect()
}

fn depends(t: &Test, vars: &[VarId]) -> bool {
    let mut found = false;
    t.vars(&mut |v| found |= vars.contains(&v));
    found
}

/// Loops around `body`, outermost first, each test as far out as its variables are bound.
fn nest(loops: &[VarId], tests: Vec<Test>, outside: &[VarId], body: Vec<Node>) -> Vec<Node> {
    let bound: BTreeSet<VarId> = outside.iter().copied().collect();
    let missing = |t: &Test, bound: &BTreeSet<VarId>| {
        let mut missing = false;
        t.vars(&mut |v| missing |= loops.contains(&v) && !bound.contains(&v));
        missing
    };
    let (later, now): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(|t| missing(t, &bound));
    let inner = match loops.split_first() {
        None => body,
        Some((var, rest)) => vec![Node::Loop { var: *var, body: nest_in(rest, later, bound, *var, body) }],
    };
    if now.is_empty() { inner } else { vec![Node::If { tests: now, body: inner }] }
}

fn nest_in(loops: &[VarId], tests: Vec<Test>, bound: BTreeSet<VarId>, var: VarId, body: Vec<Node>) -> Vec<Node> {
    let outside: Vec<VarId> = bound.into_iter().chain([var]).collect();
    nest(loops, tests, &outside, body)
}

/// Whether a lane can run along `v`: every read contiguous in it or independent of it, and no test on it.
fn lane(kernel: &Kernel, s: &Stmt, v: Option<usize>) -> Option<usize> {
    let v = v?;
    let mut ok = true;
    s.value.accesses(&mut |a| {
        let last = kernel.tensor(a.tensor).shape.len().wrapping_sub(1);
        for (d, p) in a.positions.iter().enumerate() {
            let c = p.numerator.coefficient(v);
            ok &= c == 0 || (d == last && c == 1 && !p.guard.any());
        }
    });
    ok.then_some(v)
}

/// Whether every access runs over the whole of one shape in the same order, scalars aside.
fn flattens(kernel: &Kernel, s: &Stmt) -> bool {
    let shape = &kernel.tensor(s.target.tensor).shape;
    if shape.len() < 2 || !s.covers(shape) {
        return false;
    }
    let whole = |a: &plain::Access| {
        let own = &kernel.tensor(a.tensor).shape;
        own.is_empty()
            || (own == shape
                && a.positions
                    .iter()
                    .zip(&s.target.positions)
                    .all(|(p, q)| p.numerator == q.numerator && p.divisor == 1 && !p.guard.any()))
    };
    let mut ok = true;
    s.value.accesses(&mut |a| ok &= whole(a));
    ok && !has_index_test(&s.value)
}

/// Whether coordinates are compared anywhere, conditions of compared values included.
fn has_index_test(e: &Expr) -> bool {
    match e {
        Expr::Const(_) | Expr::Read(_) => false,
        Expr::Unary(_, a) | Expr::Powf(a, _) => has_index_test(a),
        Expr::Binary(_, a, b) => has_index_test(a) || has_index_test(b),
        Expr::Where(c, a, b) => compares_indices(c) || has_index_test(a) || has_index_test(b),
    }
}

fn compares_indices(c: &Cond) -> bool {
    match c {
        Cond::Const(_) | Cond::Inside(_) => false,
        Cond::Index(..) => true,
        Cond::Value(_, a, b) => has_index_test(a) || has_index_test(b),
        Cond::And(a, b) | Cond::Or(a, b) => compares_indices(a) || compares_indices(b),
        Cond::Not(a) => compares_indices(a),
    }
}

/// Every load of a whole tensor becomes the flat element `at`.
fn flatten(v: Value, at: &[Position]) -> Value {
    let go = |v: Box<Value>| Box::new(flatten(*v, at));
    match v {
        Value::Load(a) if a.positions.is_empty() => Value::Load(a),
        Value::Load(a) => Value::Load(Access { tensor: a.tensor, flat: true, positions: at.to_vec() }),
        Value::Unary(f, a) => Value::Unary(f, go(a)),
        Value::Binary(f, a, b) => Value::Binary(f, go(a), go(b)),
        Value::Powf(a, n) => Value::Powf(go(a), n),
        Value::Select(t, a, b) => Value::Select(Box::new(flatten_test(*t, at)), go(a), go(b)),
        v @ (Value::Const(_) | Value::Register(..)) => v,
    }
}

fn flatten_test(t: Test, at: &[Position]) -> Test {
    let all = |ts: Vec<Test>| ts.into_iter().map(|t| flatten_test(t, at)).collect();
    match t {
        Test::Value(op, a, b) => Test::Value(op, flatten(a, at), flatten(b, at)),
        Test::And(ts) => Test::And(all(ts)),
        Test::Or(ts) => Test::Or(all(ts)),
        Test::Not(t) => Test::Not(Box::new(flatten_test(*t, at))),
        t @ (Test::Within { .. } | Test::Index(..)) => t,
    }
}
