//! A kernel for its templates: takes its nests and the op, gives its types, its functions and the tiles that they call.
//!
//! Holds after it: of stages that do the same one is there, of what adds and what stores one body; what other kernels
//! may have too stands between marks.

use super::context::{
    ArgumentContext, AxisContext, CallContext, FunctionContext, KernelContext, LeftOutContext, MethodContext,
    ParametersContext, PassedContext, SplitContext, TypeContext,
};
use super::function::{Manner, alike, arguments, function_context, pairs};
use super::{body, c, cost, names, ndarray, place, shared, split};
use crate::compiled::Compiled;
use crate::index::{Op, Role, TensorId};
use crate::nest::Nest;
use crate::options::Options;
use crate::plain::{Function, Kernel, Kind};
use crate::source::Sources;
use crate::types::Domain;
use std::collections::BTreeMap;

/// `all`: the kernels of the op.
pub(super) fn kernel_context(sources: &Sources, c: &Compiled, all: &[Compiled], options: &Options) -> KernelContext {
    let (op, kernel) = (&c.certified.op, &c.kernel);
    let interface = |t: &TensorId| matches!(op.tensor(*t).role, Role::Input | Role::Output);
    let types = (0..op.tensors.len()).map(TensorId).filter(interface).map(|t| type_context(op, kernel, t)).collect();
    let flops = |f: &Function, nests: &Vec<Nest>| cost::cost(kernel, f, nests).flops;
    let partial = |t: &TensorId| matches!(op.tensor(*t).role, Role::Partial(..));
    let written = |t: &TensorId| kernel.functions.iter().any(|f| f.kind != Kind::Stage && f.writes.contains(t));
    let tensors = (0..op.tensors.len()).map(TensorId);
    let partials = tensors.filter(partial).filter(written).map(|t| type_context(op, kernel, t)).collect();
    let inline = kernel.functions.iter().zip(&c.nests).all(|(f, n)| flops(f, n) <= options.inline_limit);
    let portable = options.portable() || cost::streams(kernel, &c.nests);
    let mut tiles = Vec::new();
    let (stages, entries): (Vec<usize>, Vec<usize>) =
        (0..kernel.functions.len()).partition(|n| kernel.functions[*n].kind == Kind::Stage);
    let (alike, texts) = alike(sources, kernel, &c.nests, &stages);
    let mut context = |n: usize, either, call| {
        let manner = Manner { inline, portable, either, call, alike: &alike };
        function_context(sources, op, c, n, manner, options, &mut tiles)
    };
    // A kernel that is not inlined has one body for what adds and what stores: half the machine code.
    let pairs = if inline { Vec::new() } else { pairs(kernel, &c.nests) };
    let both = |n: usize| {
        let is_store = |p: &&(usize, usize)| p.1 == n;
        pairs.iter().find(|p| p.0 == n).map(|p| (p.0, true)).or(pairs.iter().find(is_store).map(|p| (p.0, false)))
    };
    let made = stages.into_iter().filter(|n| alike[n] == *n).map(|n| (n, context(n, false, None)));
    let made: Vec<(usize, FunctionContext)> = made.collect();
    let functions = entries
        .into_iter()
        .map(|n| match both(n) {
            Some((adds, flag)) => {
                let f = &kernel.functions[n];
                let mut arguments = arguments(kernel, f);
                arguments.push(flag.to_string());
                let function = format!("either::{}", kernel.functions[adds].name);
                context(n, false, Some(CallContext { function, takes: Vec::new(), arguments }))
            }
            None => context(n, false, None),
        })
        .collect();
    let either = pairs.iter().map(|(adds, _)| context(*adds, true, None)).collect();
    let functions: Vec<FunctionContext> = functions;
    let either: Vec<FunctionContext> = either;
    let module = format!("{}{}::{}", options.prefix, op.name, kernel.name);
    let others: Vec<&FunctionContext> = functions.iter().chain(&either).collect();
    let stages = marked(&module, made, &texts, &others, &mut tiles);
    let split = split::split_context(c, all, &functions);
    let parameters = parameters(op, kernel, &functions, split.as_ref());
    let scalar = body::scalar(kernel.dtype);
    KernelContext {
        name: kernel.name.clone(),
        scalar: kernel.dtype,
        dtype: scalar,
        runtime: kernel.dtype.runtime(),
        source: place(sources, c.instance.name.span),
        validation: c.validation.map(|v| v.to_string()),
        left_out: left_out(kernel),
        axes: op
            .axes
            .iter()
            .zip(&kernel.extents)
            .map(|(a, e)| AxisContext { name: a.name.clone(), extents: e.clone() })
            .collect(),
        types,
        partials,
        functions,
        parameters,
        split,
        stages,
        either,
        tiles,
        nd: options.ndarray,
        c: c::wrappers(&op.name, &kernel.name, kernel.dtype, options),
    }
}

/// The stages of a kernel and its tiles between marks: other kernels may have the same.
fn marked(
    kernel: &str,
    mut stages: Vec<(usize, FunctionContext)>,
    texts: &BTreeMap<usize, String>,
    others: &[&FunctionContext],
    tiles: &mut [body::TileContext],
) -> Vec<FunctionContext> {
    if stages.is_empty() {
        return Vec::new();
    }
    let calls = |f: &FunctionContext, t: &body::TileContext| f.body.as_ref().is_some_and(|b| t.is_called_in(b));
    for (n, f) in &mut stages {
        let key = shared::key(&format!("{:?} {:?}\n{}", f.dispatch, f.sets, texts[n]));
        (f.begin, f.end) = (shared::stage(&key, kernel, &f.name), shared::END);
    }
    for t in tiles {
        let callers: Vec<&str> =
            stages.iter().filter(|(_, f)| calls(f, t)).map(|(_, f)| shared::key_of(&f.begin)).collect();
        (t.begin, t.end) = (shared::tile(kernel, &callers, others.iter().any(|f| calls(f, t))), shared::END);
    }
    stages.into_iter().map(|(_, f)| f).collect()
}

/// What a kernel has not as nobody asks for it, and how to ask.
fn left_out(kernel: &Kernel) -> Option<LeftOutContext> {
    let first = kernel.left_out.first()?;
    let made = kernel.functions.iter().filter(|f| f.kind != Kind::Stage).map(|f| f.name.clone());
    Some(LeftOutContext {
        entries: kernel.left_out.iter().map(|l| format!("`{}` ({})", l.name, l.why)).collect(),
        functions: made.chain([first.name.into()]).collect(),
    })
}

/// The struct of what a program with a gradient is differentiated by.
fn parameters(
    op: &Op,
    kernel: &Kernel,
    functions: &[FunctionContext],
    split: Option<&SplitContext>,
) -> Option<ParametersContext> {
    let gives = |f: &Function| matches!(f.kind, Kind::ValueAndGrad | Kind::ValueGradAndHvp);
    let wrt = &op.program.as_ref().filter(|_| kernel.functions.iter().any(gives))?.wrt;
    let interface = op.inputs().into_iter().chain(op.outputs());
    let taken: Vec<String> = interface.map(|t| names::alias(op, t)).collect();
    let mut alias = "Parameters".to_string();
    while taken.contains(&alias) {
        alias.push('_');
    }
    let named = |t: TensorId| ArgumentContext {
        name: op.tensor(t).name.clone(),
        alias: names::alias(op, t),
        rank: op.tensor(t).axes.len(),
    };
    let method = |(f, context): (&Function, &FunctionContext)| {
        let arguments: Vec<TensorId> = f.reads.iter().chain(&f.writes).copied().collect();
        let names: Vec<&str> = arguments.iter().map(|t| kernel.tensor(*t).name.as_str()).collect();
        // What each struct holds of the inputs, its name, and whether it is written.
        let mut structs: Vec<(String, String, bool)> = Vec::new();
        let mut name_of = |what: String, written: bool| -> String {
            if what.is_empty() {
                return "self".into();
            }
            if let Some((_, name, _)) = structs.iter().find(|(of, _, w)| *of == what && *w == written) {
                return name.clone();
            }
            let others = names.iter().copied().chain(structs.iter().map(|s| s.1.as_str()));
            let name = names::argument(&what, others);
            structs.push((what, name.clone(), written));
            name
        };
        let (mut reads, mut writes, mut passed) = (Vec::new(), Vec::new(), Vec::new());
        for (t, argument) in arguments.iter().zip(context.reads.iter().chain(&context.writes)) {
            let (name, of, written) = (&kernel.tensor(*t).name, op.primal(*t), f.writes.contains(t));
            if wrt.contains(&of) {
                let owner = Some(name_of(derivative(op, *t), written));
                passed.push(PassedContext { name: op.tensor(of).name.clone(), of: owner, written });
            } else {
                passed.push(PassedContext { name: name.clone(), of: None, written });
                let list = if written { &mut writes } else { &mut reads };
                list.push(ArgumentContext { name: name.clone(), alias: argument.alias.clone(), rank: argument.rank });
            }
        }
        let list = |w: bool| structs.iter().filter(|s| s.2 == w).map(|s| s.1.clone()).collect();
        let others = || names.iter().copied().chain(structs.iter().map(|s| s.1.as_str()));
        let own = |name: &str| names::argument(name, others());
        let in_parts = split.and_then(|s| s.functions.iter().find(|g| g.name == f.name));
        let workspace = context.workspace.as_ref().map(|w| w.name.clone());
        MethodContext {
            name: f.name.clone(),
            reads,
            read_structs: list(false),
            writes,
            written_structs: list(true),
            arguments: passed,
            workspace,
            split: in_parts.map(|g| [if g.own { own("workspace") } else { String::new() }, own("pool")]),
        }
    };
    let of_all = |(f, _): &(&Function, &FunctionContext)| {
        !matches!(f.kind, Kind::Jacobian | Kind::Hessian | Kind::Vjp { input: Some(_), .. })
    };
    let entries = kernel.functions.iter().filter(|f| f.kind != Kind::Stage).zip(functions);
    Some(ParametersContext {
        alias,
        fields: wrt.iter().map(|t| named(*t)).collect(),
        methods: entries.filter(of_all).map(method).collect(),
    })
}

fn type_context(op: &Op, kernel: &Kernel, t: TensorId) -> TypeContext {
    let tensor = kernel.tensor(t);
    let bound = |v: f64| {
        if v.is_finite() {
            format!("{v:?}")
        } else if v > 0.0 {
            "f64::INFINITY".into()
        } else {
            "f64::NEG_INFINITY".into()
        }
    };
    TypeContext {
        tensor: tensor.name.clone(),
        alias: names::alias(op, t),
        rust: body::array(kernel.dtype, &tensor.shape),
        dims: tensor.dims.clone(),
        shape: tensor.shape.clone(),
        dimension: ndarray::dimension(&tensor.shape),
        role: if tensor.role == Role::Input { "Input" } else { "Output" },
        domain: op.tensor(t).domain.map(|Domain { lo, lo_closed, hi, hi_closed }| {
            let (lo, hi) = (bound(lo), bound(hi));
            format!("lo: {lo}, lo_closed: {lo_closed}, hi: {hi}, hi_closed: {hi_closed}")
        }),
    }
}

/// What a tensor is to its base: nothing for that itself, `dot`, `bar`, `bar_dot`.
fn derivative(op: &Op, t: TensorId) -> String {
    let (of, how) = match op.tensor(t).role {
        Role::Tangent(of) => (of, "dot"),
        Role::Cotangent(of) => (of, "bar"),
        _ => return String::new(),
    };
    let inner = derivative(op, of);
    if inner.is_empty() { how.into() } else { format!("{inner}_{how}") }
}
