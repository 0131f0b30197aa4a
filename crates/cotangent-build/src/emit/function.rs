//! A function for its templates: takes its nests and what of the kernel it calls, gives its arguments, its body or its
//! calls, and what it costs.
//!
//! Holds after it: a function has a body or calls, never both; what stages take from the workspace together does not
//! meet in memory; functions that are told to be alike do the same with tensors of the same shapes.

use super::context::{
    ArgumentContext, CallContext, Dispatch, FunctionContext, PlaceContext, ReferenceContext, TakeContext,
    WorkspaceContext,
};
use super::names::{self, Names, REST};
use super::{body, cost, rust};
use crate::compiled::Compiled;
use crate::index::{self, Entry, Op, ReduceOp, Role, TensorId};
use crate::instructions::InstructionSet;
use crate::nest::machine::{self, Machine};
use crate::nest::plan::{Plan, Workspace};
use crate::nest::{Nest, Node, Place, Update, Value};
use crate::options::Options;
use crate::plain::{Function, Kernel, Kind};
use crate::source::Sources;
use std::collections::{BTreeMap, BTreeSet};

/// As many pointers go to a function in registers on common machines; the runtime's `isa` has a dispatch for each
/// number up to it.
const MOST_REGISTERS: usize = 6;
/// The longest tuple of `workspace::Places` in the runtime.
const MOST_PLACES: usize = 16;

/// How a function is made.
pub(super) struct Manner<'a> {
    /// Into its caller.
    pub(super) inline: bool,
    /// Without wider instructions.
    pub(super) portable: bool,
    /// As one body for what adds and what stores.
    pub(super) either: bool,
    /// By a call of that body.
    pub(super) call: Option<CallContext>,
    /// For each stage the first that does the same.
    pub(super) alike: &'a BTreeMap<usize, usize>,
}

pub(super) fn function_context(
    sources: &Sources,
    op: &Op,
    c: &Compiled,
    n: usize,
    manner: Manner<'_>,
    options: &Options,
    tiles: &mut Vec<body::TileContext>,
) -> FunctionContext {
    let (kernel, f, plan) = (&c.kernel, &c.kernel.functions[n], &c.plans[n]);
    let Manner { inline, portable, either, call, alike } = manner;
    let argument = |t: &TensorId| argument(op, kernel, *t);
    let (kind, rule) = kind_and_rule(op, f);
    let wanted = f.writes.iter().copied().collect();
    let live = |stmts: &Vec<index::Stmt>| -> Vec<String> {
        crate::derive::live(stmts, &wanted).iter().map(|s| index::print::stmt(op, s)).collect()
    };
    let rule = rule.filter(|_| options.c_header.is_some()).map_or(Vec::new(), live);
    let parts = same_as(kernel, f);
    let cost = cost_with_calls(c, n, &parts);
    // A tensor may have the name of a function.
    let same = |g: &&Function| CallContext {
        function: format!("self::{}", g.name),
        takes: Vec::new(),
        arguments: arguments(kernel, g),
    };
    let mut calls: Vec<CallContext> = parts.iter().map(same).chain(call).collect();
    let mut workspace = None;
    if let Plan::Stages { stages, workspace: w } = plan {
        let (context, run) = staged(kernel, f, stages, w, alike);
        workspace = (w.bytes > 0).then_some(context);
        calls.extend(run);
    }
    let types = f.reads.iter().chain(&f.writes).map(|t| (*t, argument(t).alias)).collect();
    let body = calls.is_empty().then(|| body_text(sources, c, n, either, &types, options, tiles));
    let reference = |t: &TensorId, how: &str| {
        let a = argument(t);
        ReferenceContext { name: a.name, ty: format!("{how}{}", a.alias) }
    };
    let flag = either.then_some(names::FLAG);
    let references: Vec<_> = (f.reads.iter().map(|t| reference(t, "&'a ")))
        .chain(f.writes.iter().map(|t| reference(t, "&'a mut ")))
        .chain(flag.map(|flag| ReferenceContext { name: flag.into(), ty: "bool".into() }))
        .collect();
    let sets = (!options.portable() && InstructionSet::ALL.iter().any(|s| !options.has(*s)))
        .then(|| InstructionSet::ALL.iter().filter(|s| options.has(**s)).filter_map(|s| s.row().constant).collect());
    let dispatch = match (portable, inline, &sets) {
        (true, ..) => Dispatch::Portable,
        (_, true, None) => Dispatch::Native,
        (_, true, Some(_)) => Dispatch::NativeOfSets,
        (_, false, _) => Dispatch::Dynamic,
    };
    FunctionContext {
        name: f.name.clone(),
        kind,
        rule,
        reads: f.reads.iter().map(argument).collect(),
        writes: f.writes.iter().map(argument).collect(),
        registers: references.len() <= MOST_REGISTERS,
        passed: references.iter().map(|a| a.name.clone()).collect(),
        holes: vec!["_"; references.len()],
        arguments: references,
        flag,
        accumulates: f.accumulates(),
        dispatch,
        sets,
        flops: cost.flops,
        bytes: cost.bytes,
        most_scratch: cost.scratch.values().copied().max().unwrap_or(0),
        scratch: cost.scratch,
        body,
        calls,
        with: !matches!(plan, Plan::Stages { .. }),
        workspace,
        begin: String::new(),
        end: "",
    }
}

/// A tensor that a function takes.
fn argument(op: &Op, kernel: &Kernel, t: TensorId) -> ArgumentContext {
    let primal = op.primal(t);
    let (tensor, of) = (kernel.tensor(t), kernel.tensor(primal));
    let alias = match of.role {
        Role::Input | Role::Output | Role::Partial(..) => names::alias(op, primal),
        // Between stages.
        _ => body::array(kernel.dtype, &of.shape),
    };
    ArgumentContext { name: tensor.name.clone(), alias, rank: of.shape.len() }
}

/// What the runtime calls the kind of a function, and the statements of its rule.
fn kind_and_rule<'a>(op: &'a Op, f: &Function) -> (&'static str, Option<&'a Vec<index::Stmt>>) {
    let entry =
        |entry: Entry| op.program.iter().flat_map(|p| &p.functions).find(|e| e.entry == entry).map(|e| &e.stmts);
    match f.kind {
        Kind::Forward => ("Forward", Some(&op.forward)),
        Kind::Jvp => ("Jvp", Some(&op.tangent.stmts)),
        Kind::Vjp { .. } => ("Vjp", Some(&op.adjoint.stmts)),
        Kind::ValueAndGrad => ("ValueAndGrad", entry(Entry::ValueAndGrad)),
        Kind::Hvp => ("Hvp", entry(Entry::Hvp)),
        Kind::ValueGradAndHvp => ("ValueGradAndHvp", entry(Entry::ValueGradAndHvp)),
        Kind::Jacobian => ("Jacobian", entry(Entry::Jacobian)),
        Kind::Hessian => ("Hessian", entry(Entry::Hessian)),
        Kind::Stage => ("Stage", None),
    }
}

/// What a function costs. Its scratch is the most of its own and that of all that it calls.
fn cost_with_calls(c: &Compiled, n: usize, parts: &[&Function]) -> cost::Cost {
    let (kernel, f) = (&c.kernel, &c.kernel.functions[n]);
    let mut cost = cost::cost(kernel, f, &c.nests[n]);
    if !parts.is_empty() {
        // It does nothing itself.
        cost.scratch.values_mut().for_each(|n| *n = 0);
    }
    let called = kernel.functions.iter().enumerate().filter(|(_, g)| parts.iter().any(|p| std::ptr::eq(*p, *g)));
    for stage in called.map(|(n, _)| n).chain(c.plans[n].stages().iter().copied()) {
        let own = cost::cost(kernel, &kernel.functions[stage], &c.nests[stage]);
        own.scratch.into_iter().for_each(|(m, n)| _ = cost.scratch.entry(m).and_modify(|most| *most = n.max(*most)));
    }
    cost
}

/// The body of a function: what the nests of all classes of machines do, in one. Tiles that it calls are added to
/// `tiles`.
fn body_text(
    sources: &Sources,
    c: &Compiled,
    n: usize,
    either: bool,
    types: &BTreeMap<TensorId, String>,
    options: &Options,
    tiles: &mut Vec<body::TileContext>,
) -> String {
    let (kernel, nests) = (&c.kernel, &c.nests[n]);
    // Machines without a nest of their own take that of the widest which have one.
    let widest = nests.iter().max_by_key(|n| n.machines.iter().map(|m| m.bytes).max());
    let mut left_out = machine::of(options.target_arch.as_deref());
    left_out.retain(|m| !nests.iter().any(|n| n.machines.contains(m)));
    let mut body = |n: &Nest| {
        let mut all: Vec<&Machine> = n.machines.clone();
        if widest.is_some_and(|w| std::ptr::eq(w, n)) {
            all.extend(&left_out);
        }
        let form = body::Form { either, types, spec: Some(c.instance.name.span.source) };
        let text = body::stmts(sources, kernel, n, &Names::new(kernel, n), form, tiles);
        (all.iter().map(|m| m.name).collect(), text)
    };
    let own: Vec<(Vec<&str>, Vec<rust::Stmt>)> = nests.iter().map(&mut body).collect();
    rust::lines(&body::merged(&own), 1)
}

/// The names of what a function takes.
pub(super) fn arguments(kernel: &Kernel, f: &Function) -> Vec<String> {
    f.reads.iter().chain(&f.writes).map(|t| kernel.tensor(*t).name.clone()).collect()
}

/// The workspace of a function that is made of stages, and the calls of these.
fn staged(
    kernel: &Kernel,
    f: &Function,
    stages: &[usize],
    workspace: &Workspace,
    alike: &BTreeMap<usize, usize>,
) -> (WorkspaceContext, Vec<CallContext>) {
    let size = kernel.dtype.bytes();
    let place = |(t, at): (&TensorId, &usize)| {
        let (tensor, (first, last)) = (kernel.tensor(*t), workspace.lives[t]);
        let bytes = tensor.elements() * size;
        let over =
            workspace.over.iter().filter(|(_, old, _)| old == t).map(|(new, ..)| kernel.tensor(*new).name.clone());
        let tensors = std::iter::once(tensor.name.clone()).chain(over).collect();
        PlaceContext { tensors, shape: tensor.shape.clone(), offset: *at, bytes, first, last }
    };
    let mut places: Vec<PlaceContext> = workspace.places.iter().map(place).collect();
    places.sort_by_key(|p| (p.first, p.offset));
    let tensors = f.reads.iter().chain(&f.writes).chain(workspace.places.keys());
    let name = names::argument("workspace", tensors.map(|t| kernel.tensor(*t).name.as_str()));
    let calls = stages.iter().zip(takes(kernel, stages, workspace, &name)).map(|(n, takes)| CallContext {
        function: format!("stages::{}", kernel.functions[alike[n]].name),
        takes,
        arguments: arguments(kernel, &kernel.functions[*n]),
    });
    let calls = calls.collect();
    let Workspace { bytes, needed, .. } = *workspace;
    (WorkspaceContext { name, scalars: bytes / size, bytes, needed, places }, calls)
}

/// What is taken from the workspace before each call of a stage. Calls one after the other take together what does not
/// meet in memory.
fn takes(kernel: &Kernel, stages: &[usize], workspace: &Workspace, name: &str) -> Vec<Vec<TakeContext>> {
    // The scalars that a tensor has there: the first, and the one behind the last.
    type Place = (usize, usize, TensorId);
    let place = |t: TensorId| -> Option<Place> {
        let at = *workspace.places.get(&t)? / kernel.dtype.bytes();
        Some((at, at + kernel.tensor(t).elements(), t))
    };
    let apart = |a: &Place, b: &Place| a == b || a.1 <= b.0 || b.1 <= a.0;
    let mut out = Vec::new();
    let mut rest = stages;
    while !rest.is_empty() {
        let mut taken: BTreeSet<Place> = BTreeSet::new();
        let mut calls = 0;
        for n in rest {
            let stage = &kernel.functions[*n];
            let own: Vec<Place> = stage.reads.iter().chain(&stage.writes).filter_map(|t| place(*t)).collect();
            if calls > 0 && own.iter().any(|a| taken.iter().any(|b| !apart(a, b))) {
                break;
            }
            taken.extend(own);
            calls += 1;
        }
        rest = &rest[calls..];
        let ends = std::iter::once(0).chain(taken.iter().map(|(_, end, _)| *end));
        let skips: Vec<usize> = taken.iter().zip(ends).map(|((at, ..), end)| at - end).collect();
        let names: Vec<String> = taken.iter().map(|(.., t)| kernel.tensor(*t).name.clone()).collect();
        let last = names.len().div_ceil(MOST_PLACES);
        let chunks = names.chunks(MOST_PLACES).zip(skips.chunks(MOST_PLACES)).enumerate();
        let takes = chunks.map(|(n, (names, skips))| TakeContext {
            names: names.to_vec(),
            skips: skips.to_vec(),
            from: if n == 0 { format!("{name}.scalars()") } else { REST.into() },
            rest: if n + 1 == last { "_" } else { REST },
        });
        out.push(takes.collect());
        out.extend((1..calls).map(|_| Vec::new()));
    }
    out
}

/// For each stage the first that does the same with tensors of the same shapes, and of each of these a text that says
/// all that it does, and nothing of the spec.
pub(super) fn alike(
    sources: &Sources,
    kernel: &Kernel,
    nests: &[Vec<Nest>],
    stages: &[usize],
) -> (BTreeMap<usize, usize>, BTreeMap<usize, String>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = BTreeMap::new();
    for n in stages {
        let f = &kernel.functions[*n];
        let arguments = || f.reads.iter().chain(&f.writes);
        let types: BTreeMap<TensorId, String> =
            arguments().map(|t| (*t, body::array(kernel.dtype, &kernel.tensor(*t).shape))).collect();
        let mut text = format!("{} {:?}\n", f.reads.len(), arguments().map(|t| &types[t]).collect::<Vec<_>>());
        let mut tiles = Vec::new();
        for nest in &nests[*n] {
            let form = body::Form { either: false, types: &types, spec: None };
            let body = body::stmts(sources, kernel, nest, &Names::anonymous(kernel, nest), form, &mut tiles);
            text +=
                &format!("{:?}\n{}", nest.machines.iter().map(|m| m.name).collect::<Vec<_>>(), rust::lines(&body, 0));
        }
        for t in &tiles {
            text += &format!("{}{:?}\n{}", t.name, t.sizes, t.text);
            t.arguments.iter().for_each(|a| text += &format!("{}: {}\n", a.name, a.ty));
        }
        // Comments say the statements with the names of the spec.
        let text = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        out.insert(*n, *seen.entry(text).or_insert(*n));
    }
    (out, seen.into_iter().map(|(text, n)| (n, text)).collect())
}

/// The functions that add and those that store the same, where their nests differ in that alone: every result is a
/// register, added or stored when it is done, so that one body with a flag serves both.
pub(super) fn pairs(kernel: &Kernel, nests: &[Vec<Nest>]) -> Vec<(usize, usize)> {
    let functions = || kernel.functions.iter().enumerate();
    let same = |adds: usize, stores: usize| {
        let writes = &kernel.functions[adds].writes;
        nests[adds].len() == nests[stores].len()
            && nests[adds].iter().zip(&nests[stores]).all(|(a, s)| {
                (&a.machines, &a.locals, &a.vars, &a.registers) == (&s.machines, &s.locals, &s.vars, &s.registers)
                    && stored(&a.body, writes, Update::Reduce(ReduceOp::Sum))
                        .is_some_and(|adds| stored(&s.body, writes, Update::Set).is_some_and(|stores| adds == stores))
            })
    };
    let mut out = Vec::new();
    for (n, f) in functions() {
        let Kind::Vjp { input, store: false } = f.kind else { continue };
        let stores = functions().find(|(_, s)| s.kind == Kind::Vjp { input, store: true }).map(|(m, _)| m);
        let own = |n: usize| same_as(kernel, &kernel.functions[n]).is_empty() && !nests[n].is_empty();
        out.extend(stores.filter(|m| own(n) && own(*m) && same(n, *m)).map(|m| (n, m)));
    }
    out
}

/// The nodes as they are where results are stored; `None` if one is not a register that is written by `by`. So what is
/// stored first and added to later is no half of a pair.
fn stored(nodes: &[Node], writes: &[TensorId], by: Update) -> Option<Vec<Node>> {
    let mut out = Vec::new();
    for node in nodes {
        out.push(match node {
            Node::Comment(..) => continue,
            Node::Fill(t) if writes.contains(t) => return None,
            Node::Update { place: place @ (Place::Element(a) | Place::Lanes(a, _)), how, value }
                if writes.contains(&a.tensor) =>
            {
                if !matches!(value, Value::Register(_)) || *how != by {
                    return None;
                }
                Node::Update { place: place.clone(), how: Update::Set, value: value.clone() }
            }
            other => {
                let mut other = other.clone();
                if let Some(body) = other.body_mut() {
                    *body = stored(body, writes, by)?;
                }
                other
            }
        });
    }
    Some(out)
}

/// The functions that an adjoint can forward to: if one input alone has a derivative, the one of that input; if several
/// have, and share no step, the one of each.
fn same_as<'a>(kernel: &'a Kernel, f: &Function) -> Vec<&'a Function> {
    let Kind::Vjp { input, store } = f.kind else { return Vec::new() };
    let is_part = |g: &&Function| matches!(g.kind, Kind::Vjp { input: Some(_), store: s } if s == store);
    let parts: Vec<&Function> = kernel.functions.iter().filter(is_part).collect();
    let named = |t: &TensorId| &kernel.tensor(*t).name;
    match (input, parts.as_slice()) {
        (None, [_, _, ..]) => {
            let steps: usize = parts.iter().map(|g| g.steps.len()).sum();
            let all = parts.iter().flat_map(|g| &g.steps).all(|s| f.steps.contains(s));
            if steps == f.steps.len() && all { parts } else { Vec::new() }
        }
        (Some(_), [_]) => {
            let whole = kernel.functions.iter().find(|w| {
                w.kind == Kind::Vjp { input: None, store }
                    && w.reads.iter().map(named).eq(f.reads.iter().map(named))
                    && w.writes.iter().map(named).eq(f.writes.iter().map(named))
            });
            whole.into_iter().collect()
        }
        _ => Vec::new(),
    }
}
