//! The scheduler: takes the functions of a kernel, gives a [`Nest`] for each and each class of machines: loop order,
//! tiles of accumulators, joined loops, tests as far out as their variables allow.
//!
//! Order of summation, part of a kernel's contract for a class of machines: an element of a tile adds in the order of
//! the reduction's loops, blocks of a split reduction one after the other; a dot product adds element n to lane n mod
//! w, vectors in turn to several accumulators, which are added in order before their lanes are folded as a tree; then
//! come the elements beyond the last whole vector.

use super::function::Schedule;
use super::machine::{MACHINES, Machine};
use super::plan::{Plan, Planned};
use super::prepare::Prepared;
use super::tile::{Order, Tuning};
use super::*;
use crate::plain::Function;
use std::collections::BTreeMap;

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
    pub tuning: Tuning,
}

impl Default for Target {
    /// Every class.
    fn default() -> Self {
        Target { machines: MACHINES.to_vec(), tuning: Tuning::default() }
    }
}

/// Schedules every function of a kernel. Those that are carried out in stages have no nests: their stages have.
pub fn schedule(planned: &Planned, target: &Target) -> Scheduled {
    let Planned { kernel, plans } = planned;
    let functions = || kernel.functions.iter().zip(plans);
    let mut unmet = Vec::new();
    if let Some(graphs) = unrolled::graphs(kernel) {
        let nests = graphs.iter().zip(plans).map(|(g, plan)| match plan {
            Plan::Nest { .. } => distinct(target.machines.iter().map(|m| g.nest(m))),
            Plan::Stages { .. } => Vec::new(),
        });
        return Scheduled { nests: nests.collect(), unmet };
    }
    let unrolled: Vec<_> = kernel.functions.iter().map(|f| unrolled::dense(kernel, f)).collect();
    let looped = functions().zip(&unrolled).map(|((f, plan), graph)| match plan {
        Plan::Nest { tiled } if graph.is_none() => Some(Prepared::new(kernel, f, *tiled)),
        _ => None,
    });
    let looped: Vec<Option<Prepared>> = looped.collect();
    let mut classes = schedules(&looped, target);
    let nests = functions().zip(unrolled).enumerate().map(|(n, ((f, plan), graph))| match (plan, graph) {
        (Plan::Stages { .. }, _) => Vec::new(),
        (Plan::Nest { .. }, Some(g)) => distinct(target.machines.iter().map(|m| g.nest(m))),
        (Plan::Nest { .. }, None) => {
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
    schedules: Vec<Schedule>,
    unmet: &mut Vec<(String, Vec<String>)>,
) -> Vec<Nest> {
    let asked = kernel.schedule.contains_key(&f.name);
    let met = !asked || schedules.iter().any(|s| s.decided.as_asked);
    let missing = schedules.iter().any(|s| s.decided.missed);
    let out = distinct(schedules.into_iter().map(|s| {
        let mut nest = s.nest();
        distinct_names(&nest.body, &mut nest.vars, &mut Vec::new());
        nest
    }));
    // A planned epilogue is run on every class, unless `schedule:` asks for another tile.
    assert!(asked || !missing, "{}::{}::{}: a tile does not run its epilogue", kernel.op, kernel.name, f.name);
    if !met || missing {
        let mut candidates: Vec<String> = out.iter().flat_map(|n| n.notes.iter()).map(|n| text_of(n)).collect();
        candidates.dedup();
        unmet.push((f.name.clone(), candidates));
    }
    out
}

/// The function that keeps most bytes of its own tensors on the stack if each is carried out whole, where that is more
/// than `limit`.
pub fn most_on_stack(kernel: &Kernel, limit: usize) -> Option<(&str, usize)> {
    let size = kernel.dtype.bytes();
    let whole = |f: &&Function| f.locals.iter().map(|t| kernel.tensor(*t).elements() * size).sum::<usize>() > limit;
    let large: Vec<&Function> = kernel.functions.iter().filter(whole).collect();
    // Unrolled graphs keep numbers, no tensors.
    if large.is_empty() || unrolled::graphs(kernel).is_some() {
        return None;
    }
    let kept = |f: &&Function| {
        let own = Prepared::new(kernel, f, false).nest.locals;
        own.iter().map(|l| l.shape.iter().product::<usize>() * size).sum::<usize>()
    };
    let each = large.into_iter().map(|f| (f.name.as_str(), kept(&f)));
    each.filter(|(_, bytes)| *bytes > limit).max_by_key(|(_, bytes)| *bytes)
}

/// The functions for each class of machines.
fn schedules<'p>(functions: &'p [Option<Prepared<'p>>], target: &Target) -> Vec<Vec<Option<Schedule<'p>>>> {
    let mut out: Vec<Vec<Option<Schedule>>> = Vec::new();
    for (n, machine) in target.machines.iter().copied().enumerate() {
        let class = match machine.same_order_as {
            None => agreed(functions, machine, target.tuning),
            Some(model) => {
                // The schedules of the class whose order of summation this one keeps.
                let known = target.machines[..n].iter().position(|m| *m == model);
                let own = if known.is_none() { agreed(functions, model, target.tuning) } else { Vec::new() };
                let models = known.map_or(&own, |n| &out[n]);
                let like = |(f, m): (&'p Option<Prepared<'p>>, &Option<Schedule<'p>>)| {
                    let (f, m) = (f.as_ref()?, m.as_ref()?);
                    let chosen = Some(m.decided.chosen.as_slice());
                    Some(Schedule::new(f, machine, target.tuning, chosen, m.demands.clone()))
                };
                functions.iter().zip(models).map(like).collect()
            }
        };
        out.push(class);
    }
    out
}

/// The functions of a kernel for one class of machines. A statement that stands in several is summed in one order in
/// all of them: where their schedules differ, in the one of theirs that costs all of them least, or term by term, which
/// all can. A schedule that is asked for stands aside.
fn agreed<'p>(
    functions: &'p [Option<Prepared<'p>>],
    machine: &'static Machine,
    tuning: Tuning,
) -> Vec<Option<Schedule<'p>>> {
    let asked = |n: usize| functions[n].as_ref().is_some_and(|f| f.asked().is_some());
    let scheduled = |n: usize, demands: &BTreeMap<usize, Order>| {
        let f = functions[n].as_ref()?;
        let demands = if asked(n) { BTreeMap::new() } else { demands.clone() };
        Some(Schedule::new(f, machine, tuning, None, demands))
    };
    let mut demands: BTreeMap<usize, Order> = BTreeMap::new();
    let mut out: Vec<Option<Schedule>> = (0..functions.len()).map(|n| scheduled(n, &demands)).collect();
    loop {
        // The orders of each statement, in each function where it stands.
        let mut all: BTreeMap<usize, Vec<(usize, &Vec<Order>)>> = BTreeMap::new();
        for (n, s) in out.iter().enumerate().filter(|(n, _)| !asked(*n)) {
            let orders = s.iter().flat_map(|s| &s.decided.orders);
            orders.for_each(|(number, own)| all.entry(*number).or_default().push((n, own)));
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
        let finished = out.iter().flatten().any(|s| s.decided.finished.contains(&number));
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
            let made: Vec<Schedule> = concerned.iter().filter_map(|n| scheduled(*n, &demands)).collect();
            let order_of = |s: &Schedule| s.decided.orders.get(&number).cloned();
            let all = made.iter().all(|s| order_of(s).is_some_and(|own| own == std::slice::from_ref(&order)));
            let cycles = made.iter().map(Schedule::cycles).sum::<f64>();
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
            Node::If { body, .. } | Node::Speculative { body } => distinct_names(body, vars, outer),
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
