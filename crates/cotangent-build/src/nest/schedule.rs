//! The scheduler: takes the functions of a kernel, gives a [`Nest`] for each and each class of machines: loop order, tiles of accumulators,
//! joined loops, tests as far out as their variables allow.
//!
//! Order of summation, part of a kernel's contract for a class of machines: an element of a tile adds in the order of the reduction's loops,
//! blocks of a split reduction one after the other; a dot product adds element n to lane n mod w, vectors in turn to several accumulators,
//! which are added in order before their lanes are folded as a tree; then come the elements beyond the last whole vector.

use super::coalesce::{Space, coalesce, rewrite};
use super::decide::decide;
use super::epilogue::{self, Epilogue};
use super::fuse::{Tree, fuse};
use super::lower::{or_zero, tests_of};
use super::machine::{MACHINES, Machine};
use super::tile::{Order, Orders, Plan};
use super::*;
use crate::plain::{self, Function, Step, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// The nests of a kernel.
pub struct Scheduled {
    /// For each function its nests, a class of machines in one of them each.
    pub nests: Vec<Vec<Nest>>,
    /// The functions whose schedule the instance asks for and no statement can have, with what they can.
    pub unmet: Vec<(String, Vec<String>)>,
}

/// What schedules are made for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The classes of machines that get a nest.
    pub machines: Vec<&'static Machine>,
    /// The most bytes of panels that a function may have on the stack.
    pub scratch_limit: usize,
}

impl Default for Target {
    /// Every class, and as much scratch as pays.
    fn default() -> Self {
        Target { machines: MACHINES.to_vec(), scratch_limit: usize::MAX }
    }
}

/// Schedules every function of a kernel.
pub fn schedule(kernel: &Kernel, target: &Target) -> Scheduled {
    let mut unmet = Vec::new();
    if let Some(graphs) = straight::graphs(kernel) {
        let nests = graphs.iter().zip(&kernel.functions).map(|(g, f)| match f.stages.is_empty() {
            true => distinct(target.machines.iter().map(|m| g.nest(m))),
            // Its stages have nests of their own.
            false => Vec::new(),
        });
        return Scheduled { nests: nests.collect(), unmet };
    }
    let straight: Vec<_> = kernel.functions.iter().map(|f| straight::dense(kernel, f)).collect();
    let looped = |(f, g): (&Function, &Option<_>)| g.is_none() && f.stages.is_empty();
    let prepared: Vec<Option<Prepared>> = kernel
        .functions
        .iter()
        .zip(&straight)
        .map(|(f, g)| looped((f, g)).then(|| Prepared::new(kernel, f, f.tiled)))
        .collect();
    let mut classes = schedules(&prepared, target);
    let nests = kernel.functions.iter().zip(straight).enumerate().map(|(n, (f, graph))| match graph {
        _ if !f.stages.is_empty() => Vec::new(),
        Some(g) => distinct(target.machines.iter().map(|m| g.nest(m))),
        None => {
            let own = classes.iter_mut().map(|class| class[n].take().expect("scheduled for each class")).collect();
            variants(kernel, f, own, &mut unmet)
        }
    });
    let nests = nests.collect();
    Scheduled { nests, unmet }
}

/// Nests that do not differ are one.
fn distinct(nests: impl Iterator<Item = Nest>) -> Vec<Nest> {
    let mut out: Vec<Nest> = Vec::new();
    for nest in nests {
        match out.iter_mut().find(|n| n.body == nest.body && n.registers == nest.registers && n.vars == nest.vars) {
            Some(same) => same.machines.extend(nest.machines),
            None => out.push(nest),
        }
    }
    out
}

/// The nests of a function, scheduled for each class.
fn variants(
    kernel: &Kernel,
    f: &Function,
    schedules: Vec<Scheduler>,
    unmet: &mut Vec<(String, Vec<String>)>,
) -> Vec<Nest> {
    let mut all: Vec<Nest> = Vec::new();
    let asked = kernel.schedule.contains_key(&f.name);
    let (mut met, mut missing) = (!asked, false);
    for Scheduler { mut nest, as_asked, missed, .. } in schedules {
        missing |= missed;
        distinct_names(&nest.body, &mut nest.vars, &mut Vec::new());
        met |= as_asked;
        all.push(nest);
    }
    let out = distinct(all.into_iter());
    // What was planned with an epilogue has one, but for a class that keeps the order of a schedule asked for.
    assert!(asked || !missing, "{}::{}::{}: a tile does not run its epilogue", kernel.op, kernel.name, f.name);
    if !met || missing {
        let mut candidates: Vec<String> = out.iter().flat_map(|n| n.notes.iter()).map(|n| text_of(n)).collect();
        candidates.dedup();
        unmet.push((f.name.clone(), candidates));
    }
    out
}

/// Whether reductions of the function have epilogues, and tiles on every class of machines run them. All classes run the same tiles, so that those
/// which keep another's order of summation find them.
pub fn takes_epilogues(kernel: &Kernel, f: &Function, scratch_limit: usize) -> bool {
    let target = Target { scratch_limit, ..Default::default() };
    if epilogue::split(&f.steps, &f.locals).1.is_empty() {
        return false;
    }
    let classes = schedules(&[Some(Prepared::new(kernel, f, true))], &target);
    classes.iter().flatten().flatten().all(|s| !s.missed)
}

/// The function that keeps most bytes of its own tensors on the stack, where that is more than `limit`.
pub fn most_on_stack(kernel: &Kernel, limit: usize) -> Option<(&str, usize)> {
    let size = if kernel.dtype == crate::spec::DType::F32 { 4 } else { 8 };
    let whole = |f: &&Function| f.locals.iter().map(|t| kernel.tensor(*t).elements() * size).sum::<usize>() > limit;
    let large: Vec<&Function> = kernel.functions.iter().filter(whole).collect();
    // Straight lines keep numbers, no tensors.
    if large.is_empty() || straight::graphs(kernel).is_some() {
        return None;
    }
    let kept = |f: &&Function| {
        let own = Prepared::new(kernel, f, f.tiled).nest.locals;
        own.iter().map(|l| l.shape.iter().product::<usize>() * size).sum::<usize>()
    };
    let each = large.into_iter().map(|f| (f.name.as_str(), kept(&f)));
    each.filter(|(_, bytes)| *bytes > limit).max_by_key(|(_, bytes)| *bytes)
}

/// The functions for each class of machines.
fn schedules<'a>(functions: &[Option<Prepared<'a>>], target: &Target) -> Vec<Vec<Option<Scheduler<'a>>>> {
    let mut out: Vec<Vec<Option<Scheduler>>> = Vec::new();
    for (n, machine) in target.machines.iter().copied().enumerate() {
        let class = match machine.keeps {
            None => agreed(functions, machine, target.scratch_limit),
            Some(model) => {
                // What is taken for the class whose order of summation this one keeps.
                let known = target.machines[..n].iter().position(|m| *m == model);
                let own = if known.is_none() { agreed(functions, model, target.scratch_limit) } else { Vec::new() };
                let models = known.map_or(&own, |n| &out[n]);
                let like = |(f, m): (&Option<Prepared<'a>>, &Option<Scheduler>)| {
                    let (f, m) = (f.as_ref()?, m.as_ref()?);
                    Some(f.scheduled(machine, target.scratch_limit, Some(m.chosen.clone()), &m.demands))
                };
                functions.iter().zip(models).map(like).collect()
            }
        };
        out.push(class);
    }
    out
}

/// The functions of a kernel for one class of machines. A statement that stands in several is summed in one order in all of them: where their
/// schedules differ, in the one of theirs that costs all of them least, or term by term, which all can. A schedule that is asked for stands aside.
fn agreed<'a>(
    functions: &[Option<Prepared<'a>>],
    machine: &'static Machine,
    scratch: usize,
) -> Vec<Option<Scheduler<'a>>> {
    let scheduled = |n: usize, demands: &BTreeMap<usize, Order>| {
        let f = functions[n].as_ref()?;
        let none = BTreeMap::new();
        Some(f.scheduled(machine, scratch, None, if f.asked() { &none } else { demands }))
    };
    let mut demands: BTreeMap<usize, Order> = BTreeMap::new();
    let mut out: Vec<Option<Scheduler>> = (0..functions.len()).map(|n| scheduled(n, &demands)).collect();
    loop {
        // The orders of each statement, in each function where it stands.
        let mut all: BTreeMap<usize, Vec<(usize, &Vec<Order>)>> = BTreeMap::new();
        let asked = |n: usize| functions[n].as_ref().is_some_and(Prepared::asked);
        for (n, s) in out.iter().enumerate().filter(|(n, _)| !asked(*n)) {
            s.iter().flat_map(|s| &s.orders).for_each(|(number, own)| all.entry(*number).or_default().push((n, own)));
        }
        let same = |a: &Vec<Order>, b: &Vec<Order>| a.len() == b.len() && a.iter().all(|o| b.contains(o));
        let met = |number: usize, own: &Vec<Order>| demands.get(&number).is_none_or(|d| own == std::slice::from_ref(d));
        let Some((number, own)) =
            all.into_iter().find(|(n, own)| own.iter().any(|(_, o)| !same(o, own[0].1) || !met(*n, o)))
        else {
            return out;
        };
        let concerned: Vec<usize> = own.iter().map(|(n, _)| *n).collect();
        let mut orders: Vec<Order> = Vec::new();
        // An epilogue runs on what is summed term by term; and what was demanded before and is not met cannot be.
        let finished = out.iter().flatten().any(|s| s.finished.contains(&number));
        for (_, own) in own.iter().filter(|_| !finished && !demands.contains_key(&number)) {
            if let [order @ (Order::Dot(..) | Order::Blocks(..))] = own.as_slice()
                && !orders.contains(order)
            {
                orders.push(order.clone());
            }
        }
        assert!(demands.get(&number) != Some(&Order::Loops), "a sum that cannot run term by term");
        orders.push(Order::Loops);
        let tried = orders.into_iter().filter_map(|order| {
            let demands: BTreeMap<_, _> = demands.clone().into_iter().chain([(number, order.clone())]).collect();
            let made: Vec<Scheduler> = concerned.iter().filter_map(|n| scheduled(*n, &demands)).collect();
            let all = made.iter().all(|s| s.orders.get(&number).is_some_and(|own| own == std::slice::from_ref(&order)));
            let cycles = made.iter().map(|s| s.cycles).sum::<f64>();
            all.then_some((cycles, order, made))
        });
        let best = tried.min_by(|a, b| a.0.total_cmp(&b.0)).expect("all functions can sum term by term");
        demands.insert(number, best.1);
        for (n, made) in concerned.into_iter().zip(best.2) {
            out[n] = Some(made);
        }
    }
}

/// The schedule of a note, without the verdict before and the cost behind.
fn text_of(note: &str) -> String {
    let text = note.split_once(": ").map_or(note, |(_, text)| text);
    text.rsplit_once(": ").map_or(text, |(text, _)| text).to_string()
}

/// A function as every class of machines has it: loops joined, locals without the dimensions that these took over.
struct Prepared<'a> {
    source: &'a Kernel,
    trees: Vec<Tree>,
    space: Space,
    epilogues: Vec<Epilogue>,
    /// Without a body, and for no machine yet.
    nest: Nest,
}

impl<'a> Prepared<'a> {
    fn new(kernel: &'a Kernel, f: &Function, epilogues: bool) -> Self {
        let (steps, epilogues) =
            if epilogues { epilogue::split(&f.steps, &f.locals) } else { (f.steps.clone(), Vec::new()) };
        // What an epilogue touches keeps its dimensions.
        let touched: BTreeSet<TensorId> =
            epilogues.iter().flat_map(|e| &e.stmts).flat_map(super::coalesce::accesses).map(|a| a.tensor).collect();
        let free: Vec<TensorId> = f.locals.iter().copied().filter(|t| !touched.contains(t)).collect();
        let mut fused = fuse(&steps, &free);
        // A condition may ask for a place in a tensor that is no argument.
        let own = f.reads.iter().chain(&f.writes).chain(&f.locals).copied();
        let mut space = Space::new(kernel, own.chain(f.steps.iter().flat_map(Step::tensors)));
        let mut locals = Vec::new();
        let inner: BTreeSet<TensorId> = epilogues.iter().flat_map(|e| e.inner.iter().copied()).collect();
        let mut kept: BTreeMap<TensorId, Vec<usize>> = BTreeMap::new();
        for t in f.locals.iter().filter(|t| !inner.contains(t)) {
            let tensor = &mut space.kernel.tensors[t.0];
            if let Some(dropped) = fused.dropped.get(t) {
                let keep: Vec<usize> = (0..tensor.shape.len()).filter(|d| !dropped.contains(d)).collect();
                tensor.shape = keep.iter().map(|d| tensor.shape[*d]).collect();
                kept.insert(*t, keep);
            }
            locals.push(Local { tensor: *t, name: tensor.name.clone(), shape: tensor.shape.clone() });
        }
        fused.trees.iter_mut().for_each(|tree| drop_dimensions(tree, &kept));
        // after this: locals have the dimensions that they are stored with
        let nest = Nest {
            name: f.name.clone(),
            kind: f.kind,
            machines: Vec::new(),
            notes: Vec::new(),
            reads: f.reads.clone(),
            writes: f.writes.clone(),
            locals,
            vars: Vec::new(),
            registers: Vec::new(),
            body: Vec::new(),
        };
        Prepared { source: kernel, trees: fused.trees, space, epilogues, nest }
    }

    /// Whether the instance asks for a schedule.
    fn asked(&self) -> bool {
        self.source.schedule.contains_key(&self.nest.name)
    }

    /// The function for one class of machines; `model` is what the class takes whose order of summation it keeps.
    fn scheduled(
        &self,
        machine: &'static Machine,
        scratch_limit: usize,
        model: Option<Vec<Option<Plan>>>,
        demands: &BTreeMap<usize, Order>,
    ) -> Scheduler<'a> {
        let mut s = Scheduler {
            source: self.source,
            space: self.space.clone(),
            machine,
            scratch: scratch_limit,
            taken: Vec::new(),
            model: model.map(Vec::into_iter),
            chosen: Vec::new(),
            nest: Nest { machines: vec![machine], ..self.nest.clone() },
            loops: BTreeMap::new(),
            as_asked: false,
            epilogues: self.epilogues.clone(),
            missed: false,
            demands: demands.clone(),
            orders: Orders::new(),
            finished: BTreeSet::new(),
            cycles: 0.0,
        };
        let body = s.trees(&self.trees);
        let body = decide(body, &s.nest.vars);
        // after this: what stands there runs
        s.nest.body = s.trials(body);
        s
    }
}

/// `kept`: the dimensions that are left of each tensor that lost some.
fn drop_dimensions(tree: &mut Tree, kept: &BTreeMap<TensorId, Vec<usize>>) {
    match tree {
        Tree::Loop { body, .. } => body.iter_mut().for_each(|b| drop_dimensions(b, kept)),
        Tree::Step { step: Step::Stmt(s), .. } => rewrite(s, &mut |a| {
            let Some(keep) = kept.get(&a.tensor) else { return a.clone() };
            plain::Access { tensor: a.tensor, positions: keep.iter().map(|d| a.positions[*d].clone()).collect() }
        }),
        Tree::Step { .. } => {}
    }
}

/// A variable that `outer` has the name of is numbered.
fn numbered(var: VarId, vars: &mut [Var], outer: &[String]) {
    let base = vars[var].name.clone();
    let mut n = 1;
    while outer.contains(&vars[var].name) {
        n += 1;
        vars[var].name = format!("{base}_{n}");
    }
}

/// A loop inside another of the same name is numbered.
fn distinct_names(nodes: &[Node], vars: &mut [Var], outer: &mut Vec<String>) {
    let around = outer.len();
    for node in nodes {
        match node {
            Node::Loop { var, body } => {
                numbered(*var, vars, outer);
                outer.push(vars[*var].name.clone());
                distinct_names(body, vars, outer);
                outer.pop();
            }
            Node::If { body, .. } | Node::Trial { body } => distinct_names(body, vars, outer),
            // A function of its own.
            Node::Tile(t) => {
                let mut own = Vec::new();
                for (var, _) in &t.params {
                    numbered(*var, vars, &own);
                    own.push(vars[*var].name.clone());
                }
                distinct_names(&t.body, vars, &mut own);
            }
            Node::Let { var, .. } => {
                numbered(*var, vars, outer);
                outer.push(vars[*var].name.clone());
            }
            Node::Transpose(t) => [t.row, t.column].into_iter().for_each(|v| numbered(v, vars, outer)),
            _ => {}
        }
    }
    outer.truncate(around);
}

pub(super) struct Scheduler<'a> {
    /// As it came, to print statements from.
    pub source: &'a Kernel,
    pub space: Space,
    pub machine: &'static Machine,
    /// Bytes of panels that may still be added.
    pub scratch: usize,
    /// The panels of the tile at hand.
    pub taken: Vec<TensorId>,
    /// What the class whose order of summation this one keeps takes for each group of reductions.
    pub model: Option<std::vec::IntoIter<Option<Plan>>>,
    /// What is taken for each.
    pub chosen: Vec<Option<Plan>>,
    pub nest: Nest,
    /// The nest variable of each fused loop.
    loops: BTreeMap<usize, VarId>,
    /// Some statement has the schedule that the instance asks for.
    pub as_asked: bool,
    /// What tiles run on their accumulators.
    pub epilogues: Vec<Epilogue>,
    /// Some tile does not run its epilogue.
    pub missed: bool,
    /// The orders in which statements are to be summed.
    pub demands: BTreeMap<usize, Order>,
    /// Those in which they are.
    pub orders: Orders,
    /// The statements whose tiles run epilogues.
    pub finished: BTreeSet<usize>,
    /// What the reductions cost.
    pub cycles: f64,
}

/// A statement's variables as linear maps of nest variables: a loop of its own, a fused one, or a piece of one.
pub(super) type Map = Vec<Linear>;

impl Scheduler<'_> {
    fn trees(&mut self, trees: &[Tree]) -> Vec<Node> {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(tree) = trees.get(at) {
            at += 1;
            match tree {
                Tree::Loop { id, name, extent, body } => {
                    let var = self.var(name, *extent);
                    self.loops.insert(*id, var);
                    let body = self.trees(body);
                    out.push(Node::Loop { var, body });
                }
                Tree::Step { step: Step::Fill(t), .. } => {
                    out.push(Node::Comment(format!("{} = 0", self.source.tensor(*t).name), None));
                    out.push(Node::Fill(*t));
                }
                Tree::Step { step: Step::Scan(_), .. } => unreachable!("recurrences are loops of the tree"),
                Tree::Step { step: Step::Stmt(s), fixed } => {
                    // Reductions over the same variables share their loads: a value and its tangent.
                    let mut group = vec![s.clone()];
                    let epilogue =
                        self.epilogues.iter().find(|e| e.of == s.target.tensor && s.reduce.is_some()).cloned();
                    while let Some(Tree::Step { step: Step::Stmt(next), fixed: others }) = trees.get(at)
                        && others == fixed
                        && epilogue.is_none()
                        && self.epilogues.iter().all(|e| e.of != next.target.tensor)
                        && self.joins(&group, next)
                    {
                        group.push(next.clone());
                        at += 1;
                    }
                    self.missed |= epilogue.is_some() && !fixed.is_empty();
                    let epilogue = epilogue.map(|e| e.stmts).unwrap_or_default();
                    let tensors = &self.space.kernel.tensors;
                    let said = |s: &Stmt| Node::Comment(plain::print::stmt(tensors, s), Some(s.span));
                    out.extend(group.iter().chain(&epilogue).map(said));
                    out.extend(match s.reduce {
                        Some(_) => self.reduction(&group, &epilogue, fixed),
                        None => self.elementwise(s, fixed),
                    });
                }
            }
        }
        out
    }

    /// Whether a reduction can run in the same loops: the same variables, targets' positions and guards, and nothing read that the others write.
    fn joins(&self, group: &[Stmt], next: &Stmt) -> bool {
        let first = &group[0];
        let same: Map = (0..first.vars.len()).map(Linear::var).collect();
        let tests = |s: &Stmt| self.lower_reduced(s, s.reduce.expect("reductions"), &same).0;
        first.reduce.is_some()
            && first.reduce == next.reduce
            && first.vars == next.vars
            && first.free == next.free
            && first.target.positions == next.target.positions
            && tests(first) == tests(next)
            && group.iter().all(|s| {
                s.target.tensor != next.target.tensor && !next.takes(s.target.tensor) && !s.takes(next.target.tensor)
            })
    }

    pub(super) fn var(&mut self, name: &str, extent: usize) -> VarId {
        self.nest.vars.push(Var { name: name.to_string(), extent, counts: None });
        self.nest.vars.len() - 1
    }

    /// A variable that counts registers.
    pub(super) fn counting(&mut self, counts: Counts, name: &str, extent: usize) -> VarId {
        self.nest.vars.push(Var { name: name.to_string(), extent, counts: Some(counts) });
        self.nest.vars.len() - 1
    }

    pub(super) fn register(&mut self, name: &str, lanes: Option<usize>, dims: Vec<usize>) -> RegisterId {
        self.nest.registers.push(Register { name: name.to_string(), lanes, dims });
        self.nest.registers.len() - 1
    }

    /// A statement without a reduction: loops joined as far as possible, the innermost for the compiler to run in lanes.
    fn elementwise(&mut self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Vec<Node> {
        let mut stmts = [s.clone()];
        coalesce(&mut self.space, &mut stmts, &fixed.keys().copied().collect::<BTreeSet<_>>());
        let [s] = &stmts;
        if let Some(nodes) = self.chosen(s, fixed) {
            return nodes;
        }
        let mut map = self.fixed_map(s, fixed);
        let own = (0..s.vars.len()).filter(|v| s.vars[*v].extent > 1 && !fixed.contains_key(v));
        let free = self.loops_of(s, own, &mut map);
        let target = self.access(&s.target, &map);
        let target_tests = tests_of(&self.space.kernel, &s.target, &map);
        let (guards, value) = self.lower_term(&s.value, &map);
        let (tests, value) = if s.accumulate {
            ([target_tests, guards].concat(), value)
        } else {
            (target_tests, or_zero(guards, value))
        };
        let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
        let update = Node::Update { place: Place::Element(target), how, value };
        nest(&free, tests, &bound_outside(&map, &free), vec![update])
    }

    /// A reduction with one accumulator: what has no better.
    pub(super) fn scalar(&mut self, s: &Stmt, r: ReduceOp, fixed: &BTreeMap<usize, usize>) -> Vec<Node> {
        let mut map = self.fixed_map(s, fixed);
        let own: Vec<usize> = (0..s.vars.len()).filter(|v| s.vars[*v].extent > 1 && !fixed.contains_key(v)).collect();
        let free = self.loops_of(s, own.iter().copied().filter(|v| *v < s.free), &mut map);
        let target = self.access(&s.target, &map);
        let target_tests = tests_of(&self.space.kernel, &s.target, &map);
        let total = self.register("acc", None, Vec::new());
        let outer = map.clone();
        let loops = self.loops_of(s, own.iter().copied().filter(|v| *v >= s.free), &mut map);
        let (guards, value) = self.lower_reduced(s, r, &map);
        let update = Node::Update { place: Place::Register(total.into()), how: Update::Reduce(r), value };
        let how = if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
        let mut body = vec![Node::Init { register: total, value: Value::Const(r.identity()) }];
        body.extend(nest(&loops, guards, &bound_outside(&map, &loops), vec![update]));
        body.push(Node::Update { place: Place::Element(target), how, value: Value::register(total) });
        nest(&free, target_tests, &bound_outside(&outer, &free), body)
    }

    pub(super) fn fixed_map(&self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Map {
        (0..s.vars.len())
            .map(|v| fixed.get(&v).map_or_else(Linear::default, |id| Linear::var(self.loops[id])))
            .collect()
    }

    /// Loops of their own for variables, outermost first in the order of the target's storage.
    pub(super) fn loops_of(&mut self, s: &Stmt, vars: impl Iterator<Item = usize>, map: &mut Map) -> Vec<VarId> {
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
}

/// The nest variables that the map uses and `loops` does not run: enclosing ones.
pub(super) fn bound_outside(map: &Map, loops: &[VarId]) -> Vec<VarId> {
    map.iter().flat_map(|l| l.terms.iter().map(|(v, _)| *v)).filter(|v| !loops.contains(v)).collect()
}

/// Loops around `body`, outermost first, each test as far out as its variables are bound.
pub(super) fn nest(loops: &[VarId], tests: Vec<Test>, outside: &[VarId], body: Vec<Node>) -> Vec<Node> {
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
