//! Decisions: takes reductions over the same variables, gives how they are run: as one tile, in parts, or with one
//! accumulator each. No node is made here, so that it can be asked whether a tile runs an epilogue without building it.
//!
//! Holds after it: each statement stands in the tiles or sums of the decision once for each element that it writes.

use super::super::coalesce::{Space, coalesce, restrict};
use super::super::machine::Machine;
use super::candidates::{Budget, Candidate, candidates, least_cycles, weigh};
use super::group::Group;
use super::{Order, Orders};
use crate::cores::Core;
use crate::index::ReduceOp;
use crate::plain::Stmt;
use std::collections::{BTreeMap, BTreeSet};

/// A tile runs the epilogue if it costs at most this many times the best tile without one: loops for the epilogue alone
/// cost more.
const WITHOUT_EPILOGUE: f64 = 1.05;
/// Of how many kinds of candidates the notes tell, the chosen one included.
const TOLD: usize = 4;

/// What a function's reductions are decided for.
pub(in crate::nest) struct Request<'a> {
    pub machine: &'static Machine,
    /// The cores on which candidates are weighed.
    pub cores: Vec<&'static Core>,
    /// The schedule that the instance asks for.
    pub asked: Option<&'a str>,
    /// What the class whose order of summation this one keeps takes for each group of reductions.
    pub model: Option<&'a [Option<Candidate>]>,
    /// The orders in which statements are to be summed.
    pub demands: &'a BTreeMap<usize, Order>,
}

/// How reductions are run.
pub(in crate::nest) enum Decision<'a> {
    Tile(Box<Group<'a>>, Candidate),
    /// One accumulator, term by term.
    Sum(Stmt, ReduceOp),
    /// One after the other.
    Several(Vec<Decision<'a>>),
}

/// What was decided of reductions, besides how they are run. Of a function it is that of its reductions in order.
#[derive(Clone, Default)]
pub(in crate::nest) struct Decided {
    /// What is taken for each group of reductions: nothing where each sum has an accumulator of its own.
    pub chosen: Vec<Option<Candidate>>,
    /// The orders in which statements are summed.
    pub orders: Orders,
    /// The statements whose tiles run epilogues.
    pub finished: BTreeSet<usize>,
    /// The cycles of each tile or sum.
    pub costs: Vec<f64>,
    /// What was chosen, and against what.
    pub notes: Vec<String>,
    /// Some statement has the schedule that the instance asks for.
    pub as_asked: bool,
    /// Some tile does not run its epilogue.
    pub missed: bool,
}

impl Decided {
    /// With what was decided of later reductions, orders aside.
    fn extend_but_orders(&mut self, later: Decided) -> Orders {
        self.chosen.extend(later.chosen);
        self.finished.extend(later.finished);
        self.costs.extend(later.costs);
        self.notes.extend(later.notes);
        self.as_asked |= later.as_asked;
        self.missed |= later.missed;
        later.orders
    }
    /// With what was decided of later reductions.
    pub fn extend(&mut self, later: Decided) {
        for (number, orders) in self.extend_but_orders(later) {
            orders.into_iter().for_each(|order| self.sums_in(number, order));
        }
    }
    fn sums_in(&mut self, number: usize, order: Order) {
        let own = self.orders.entry(number).or_default();
        if !own.contains(&order) {
            own.push(order);
        }
    }
    /// Notes the order of a sum; extrema are the same in any.
    fn sums(&mut self, s: &Stmt, order: Order) {
        if matches!(s.reduce, Some(ReduceOp::Sum | ReduceOp::Prod)) {
            self.sums_in(s.number, order);
        }
    }
}

/// What is taken for a group.
#[derive(Default)]
struct Choice {
    plan: Option<Candidate>,
    notes: Vec<String>,
    as_asked: bool,
    missed: bool,
}

/// Whether tiles may run the epilogue of a reduction, as far as its statement and theirs say it for all machines: no
/// candidate is looked at, so `true` says little.
pub(in crate::nest) fn may_finish(space: &mut Space, stmts: &[Stmt], epilogue: &[Stmt]) -> bool {
    let fixed = BTreeMap::new();
    let group = joined(space, stmts, epilogue, &fixed, 0);
    group.inner_part().is_none() && group.own.iter().any(|v| group.finishes_along(*v))
}

/// A group with its dimensions joined as far as possible.
fn joined<'f>(
    space: &mut Space,
    stmts: &[Stmt],
    epilogue: &[Stmt],
    fixed: &'f BTreeMap<usize, usize>,
    cuts: usize,
) -> Group<'f> {
    let mut all = [stmts, epilogue].concat();
    coalesce(space, &mut all, &fixed.keys().copied().collect::<BTreeSet<_>>());
    let epilogue = all.split_off(stmts.len());
    Group::new(space, all, epilogue, fixed, cuts)
}

/// Decides the reductions of a function, in order.
pub(in crate::nest) struct Decider<'a> {
    pub request: &'a Request<'a>,
    /// Joined dimensions become tensors of their own here.
    pub space: &'a mut Space,
    /// What panels later reductions may have.
    pub budget: Budget,
}

impl Decider<'_> {
    /// A reduction, or several over the same variables, none of which reads what another writes. `epilogue` is what its
    /// tiles run on their accumulators besides; `from` is how many groups of the function are decided before.
    pub fn reduction<'f>(
        &mut self,
        stmts: &[Stmt],
        epilogue: &[Stmt],
        fixed: &'f BTreeMap<usize, usize>,
        from: usize,
    ) -> (Decision<'f>, Decided) {
        self.region(stmts, epilogue, fixed, 0, from)
    }

    fn region<'f>(
        &mut self,
        stmts: &[Stmt],
        epilogue: &[Stmt],
        fixed: &'f BTreeMap<usize, usize>,
        cuts: usize,
        from: usize,
    ) -> (Decision<'f>, Decided) {
        let group = joined(self.space, stmts, epilogue, fixed, cuts);
        let asked = stmts.iter().any(|s| self.request.demands.contains_key(&s.number));
        if let Some((v, parts)) = group.inner_part().filter(|_| !asked) {
            return self.parts(stmts, &group, v, &parts, from);
        }
        let Choice { plan, notes, as_asked, missed } = self.choose(&group, from);
        let chosen = vec![plan.clone()];
        let mut out = Decided { chosen, notes, as_asked, missed, ..Decided::default() };
        let Some(plan) = plan else {
            out.missed |= !group.epilogue.is_empty();
            return self.without_tile(stmts, &group, out, from);
        };
        let Some(v) = plan.tile().find(|v| group.guarded_in(*v)) else {
            stmts.iter().for_each(|s| out.sums(s, plan.order(&group)));
            out.costs.push(plan.cost);
            if !group.epilogue.is_empty() {
                out.finished.extend(stmts.iter().map(|s| s.number));
            }
            self.budget.spend(&group, &plan);
            return (Decision::Tile(Box::new(group), plan), out);
        };
        // Each segment is a problem of its own: at a border another tile may fit better.
        let segments = &group.segments[&v].all;
        let mut all = Vec::new();
        for (first, extent) in segments {
            let [stmts, epilogue]: [Vec<Stmt>; 2] = [&group.stmts, &group.epilogue]
                .map(|all| all.iter().map(|s| restrict(&self.space.kernel, s, v, *first, *extent)).collect());
            let (decision, decided) = self.region(&stmts, &epilogue, fixed, cuts + 1, from + out.chosen.len());
            out.extend(decided);
            all.push(decision);
        }
        (Decision::Several(all), out)
    }

    /// A group whose range of a bound variable is cut into parts, each of which adds to what the others left.
    fn parts<'f>(
        &mut self,
        stmts: &[Stmt],
        group: &Group<'f>,
        v: usize,
        parts: &[(usize, usize)],
        from: usize,
    ) -> (Decision<'f>, Decided) {
        let mut out = Decided { missed: !group.epilogue.is_empty(), ..Decided::default() };
        let mut of_parts: Vec<(usize, usize, Orders)> = Vec::new();
        let mut all = Vec::new();
        for (n, (first, extent)) in parts.iter().copied().enumerate() {
            let mut stmts: Vec<Stmt> =
                group.stmts.iter().map(|s| restrict(&self.space.kernel, s, v, first, extent)).collect();
            stmts.iter_mut().for_each(|s| s.accumulate |= n > 0);
            let (decision, decided) = self.region(&stmts, &[], group.fixed, group.cuts + 1, from + out.chosen.len());
            all.push(decision);
            of_parts.push((first, extent, out.extend_but_orders(decided)));
        }
        for s in stmts {
            // Parts that differ along free variables are not told apart here: the first stands for all.
            let order = |(first, extent, orders): &(usize, usize, Orders)| {
                Some((*first, *extent, orders.get(&s.number)?[0].clone()))
            };
            let orders = of_parts.iter().filter_map(order).collect();
            out.sums(s, Order::Parts(group.var(v).to_string(), orders));
        }
        (Decision::Several(all), out)
    }

    /// A group that no tile computes: its statements one by one, and a single one with one accumulator.
    fn without_tile<'f>(
        &mut self,
        stmts: &[Stmt],
        group: &Group<'f>,
        mut out: Decided,
        from: usize,
    ) -> (Decision<'f>, Decided) {
        if let [one] = stmts {
            out.sums(one, Order::Loops);
            // Each term waits for the one before.
            let iterations = group.own.iter().map(|v| group.extent(*v) as f64).product::<f64>();
            let latency = self.request.cores[0].latency;
            out.costs.push(iterations * latency);
            return (Decision::Sum(one.clone(), group.op), out);
        }
        let mut all = Vec::new();
        for s in stmts {
            let at = from + out.chosen.len();
            let (decision, decided) = self.region(std::slice::from_ref(s), &[], group.fixed, group.cuts, at);
            out.extend(decided);
            all.push(decision);
        }
        (Decision::Several(all), out)
    }

    /// What is taken for a group, if there is any tile; of a class that keeps another's order of summation, one that
    /// adds as that other's.
    fn choose(&self, g: &Group, from: usize) -> Choice {
        let like = self.request.model.map(|model| model.get(from).expect("the same groups for both classes"));
        match like {
            Some(None) => Choice::default(),
            like => self.ranked(g, like.and_then(Option::as_ref)).unwrap_or_default(),
        }
    }

    fn ranked(&self, g: &Group, like: Option<&Candidate>) -> Option<Choice> {
        let Request { machine, cores, .. } = self.request;
        let mut plans = candidates(g, machine, cores, &self.budget);
        if let Some(like) = like {
            let same = |p: &Candidate| p.adds_as(like, g);
            plans.retain(same);
            if let Some(model) = machine.same_order_as.filter(|_| plans.is_empty()) {
                // A tile of its own does not add so.
                plans.extend(candidates(g, model, cores, &self.budget).into_iter().filter(same));
            }
        } else {
            for s in &g.stmts {
                if let Some(demand) = self.request.demands.get(&s.number) {
                    plans.retain(|p| p.order(g) == *demand);
                    continue;
                }
                if g.stmts.len() == 1 {
                    continue;
                }
                // What runs beside others is best summed in the same order as alone, as it is in the functions where it
                // stands alone.
                let alone = Group::new(self.space, vec![s.clone()], Vec::new(), g.fixed, g.cuts);
                let mut own = candidates(&alone, machine, cores, &self.budget);
                weigh(&mut own);
                let like = own.into_iter().next()?;
                plans.retain(|p| p.in_order_of(&like, g));
            }
        }
        weigh(&mut plans);
        let least = |plans: &[Candidate]| plans.iter().map(|p| p.cost).fold(f64::INFINITY, f64::min);
        let alone = least(&plans);
        plans.retain(|p| g.finishes(p));
        let missed = least(&plans) > WITHOUT_EPILOGUE * alone;
        let asked = self.request.asked.and_then(|text| plans.iter().position(|p| p.describe(g) == *text));
        if let Some(at) = asked {
            let plan = plans.remove(at);
            plans.insert(0, plan);
        }
        let notes = notes(g, &plans, cores);
        Some(Choice { plan: plans.into_iter().next(), notes, as_asked: asked.is_some(), missed })
    }
}

/// The chosen candidate, what it loses on each core against the best there, and the best of other kinds: those that
/// differ in rows only say little.
fn notes(g: &Group, ranked: &[Candidate], cores: &[&Core]) -> Vec<String> {
    let kind = |p: &Candidate| (p.lane, p.width, p.vectors, p.pack.len(), p.row_pack.len(), p.block);
    let mut told: Vec<&Candidate> = Vec::new();
    for p in ranked {
        if told.len() < TOLD && told.iter().all(|q| kind(q) != kind(p)) {
            told.push(p);
        }
    }
    let least = least_cycles(ranked);
    let losses = |p: &Candidate| -> String {
        let each = cores.iter().zip(p.cycles.iter().zip(&least));
        each.map(|(core, (own, least))| format!(", {} {:.2}", core.name, own / least)).collect()
    };
    let note = |(n, p): (usize, &Candidate)| {
        let verdict = if n == 0 { "chosen:" } else { "  next:" };
        format!("{verdict} {}: {:.0} cycles{}", p.describe(g), p.cost, losses(p))
    };
    told.into_iter().enumerate().map(note).collect()
}
