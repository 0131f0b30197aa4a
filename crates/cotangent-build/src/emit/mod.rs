//! Emission: takes certified ops and the nests of their kernels, gives Rust source through the templates.
//!
//! What a person would restyle (modules, documentation, signatures, calls, the enumerating macro) stands in
//! `templates/*.tera`. Bodies and tiles are written by `body`, the loops of tests by `reference`, the runtime of
//! self-contained output by `vendor`; the rest here makes the data that templates see. Output depends on specs,
//! templates and options alone.

mod body;
pub(crate) mod c;
pub(crate) mod cost;
pub mod names;
mod ndarray;
mod reference;
mod rust;
mod shared;
mod text;
mod vendor;

use crate::certify::Certified;
use crate::compiled::Compiled;
use crate::index::{self, Entry, Op, ReduceOp, Role, TensorId};
use crate::instructions::InstructionSet;
use crate::nest::machine::{self, Machine};
use crate::nest::plan::{Plan, Workspace};
use crate::nest::{Nest, Node, Place, Update, Value};
use crate::options::Options;
use crate::plain::{Function, Kernel, Kind};
use crate::shipped;
use crate::source::{Sources, Span};
use crate::types::{DType, Domain};
use names::{Names, REST};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tera::{Context, Tera};

/// The file that a crate includes. No op can be called so: `mod` is a keyword.
pub const ROOT: &str = "mod.rs";

/// The file that its tests include. Nor can one be called so: see [`ROOT`].
pub const REFERENCE: &str = "test.mod.rs";

/// What a build makes: file names within the output folder, and their text.
pub type Files = BTreeMap<String, String>;

/// What generated files hold of one op.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Piece {
    /// The module: the name behind the prefix.
    pub module: String,
    /// The file of the op: a module for each kernel, with the marks of `shared.rs`.
    pub file: String,
    /// Its declaration in the root file, with the file itself where the root holds it.
    pub declaration: String,
    /// Its part of the list of kernels.
    pub list: String,
    /// Its part of the macro that calls another one with every kernel.
    pub callback: String,
    /// The tests of its kernels.
    pub tests: String,
    /// What the header for C says of it, where there is one.
    #[serde(skip)]
    pub header: Vec<c::HeaderKernel>,
}

/// What `kernels.rs.tera` sees.
#[derive(Serialize)]
struct RootContext<'a> {
    /// The path of the crate `cotangent`, or of the module that stands for it.
    runtime: String,
    /// What the names of the ops' modules begin with.
    prefix: String,
    /// The architecture that the kernels are for, where it is one.
    target_arch: Option<&'a str>,
    /// A word that tells the macros of several sets of kernels in one crate apart.
    set: String,
    ops: &'a [Piece],
    /// What stands for the crate `cotangent`, where this file shall need none.
    vendored: Option<VendoredContext>,
    /// The header for C, where one is wanted.
    c: Option<c::HeaderContext>,
}

#[derive(Serialize)]
struct VendoredContext {
    /// Version of the compiler.
    version: &'static str,
    /// The module that the file is.
    place: String,
    /// What stands inside the module.
    text: String,
    /// No unsafe code is in it.
    portable: bool,
}

/// What `op.rs.tera` sees, and the templates of what the root file says of an op.
#[derive(Serialize)]
struct OpContext {
    /// As in [`RootContext`].
    runtime: String,
    name: String,
    /// The path of the module that includes the root file, from the crate's root, with a final `::` unless empty.
    place: String,
    /// The module: the name behind the prefix.
    module: String,
    doc: Vec<String>,
    steps: StepsContext,
    /// How the adjoint is known to be right.
    certificate: String,
    kernels: Vec<KernelContext>,
    /// The module's own text, where the root holds it.
    text: Option<String>,
}

#[derive(Serialize)]
struct KernelContext {
    name: String,
    #[serde(skip)]
    scalar: DType,
    dtype: &'static str,
    /// The variant of the runtime's `Scalar`.
    runtime: &'static str,
    source: String,
    /// How what runs was compared with what was certified; nothing where it was not.
    validation: Option<String>,
    /// The entry points that nobody asks for, if there are some.
    left_out: Option<LeftOutContext>,
    axes: Vec<AxisContext>,
    types: Vec<TypeContext>,
    /// The types of dense derivatives.
    partials: Vec<TypeContext>,
    functions: Vec<FunctionContext>,
    /// What a program is differentiated by, in one struct.
    parameters: Option<ParametersContext>,
    /// Private functions that others are made of.
    stages: Vec<FunctionContext>,
    /// Private functions with a flag: whether they add or store.
    either: Vec<FunctionContext>,
    /// What the bodies of all of these call.
    tiles: Vec<body::TileContext>,
    /// Whether there are wrappers for `ndarray`.
    nd: bool,
    /// What wrappers for C need, where they are wanted.
    c: Option<c::WrapperContext>,
}

/// What a spec says, step by step: as written, else as derived.
#[derive(Serialize)]
struct StepsContext {
    forward: Vec<StepContext>,
    adjoint: Vec<StepContext>,
    tangent: Vec<StepContext>,
}

#[derive(Serialize)]
struct StepContext {
    formula: String,
    /// File and line; empty for a derived step.
    source: String,
    /// Both, in columns.
    line: String,
}

#[derive(Serialize)]
struct LeftOutContext {
    /// Each with what is too much of it.
    entries: Vec<String>,
    /// What the kernel has, and the first of these.
    functions: Vec<String>,
}

#[derive(Serialize)]
struct AxisContext {
    name: String,
    extents: Vec<usize>,
}

#[derive(Serialize)]
struct TypeContext {
    tensor: String,
    alias: String,
    rust: String,
    dims: Vec<String>,
    shape: Vec<usize>,
    /// The type of its dimension in `ndarray`.
    dimension: String,
    role: &'static str,
    /// The fields of its domain; nothing where any number will do.
    domain: Option<String>,
}

#[derive(Serialize)]
struct FunctionContext {
    name: String,
    kind: &'static str,
    /// The statements of its rule, for the header.
    #[serde(skip)]
    rule: Vec<String>,
    reads: Vec<ArgumentContext>,
    writes: Vec<ArgumentContext>,
    /// Reads and writes with the types of their references.
    arguments: Vec<ReferenceContext>,
    /// Their names alone, and as many `_` for types that are inferred.
    passed: Vec<String>,
    holes: Vec<&'static str>,
    /// The last of them, of a function that adds or stores as it says.
    flag: Option<&'static str>,
    /// They are few enough to travel in registers.
    registers: bool,
    /// Which instructions the body is run with.
    dispatch: Dispatch,
    accumulates: bool,
    /// The instruction sets to choose among, where they are not all; names of constants.
    sets: Option<Vec<&'static str>>,
    flops: u64,
    bytes: u64,
    /// Bytes by class of machines.
    scratch: BTreeMap<String, u64>,
    most_scratch: u64,
    /// Calls that do the same; else the bodies say it.
    calls: Vec<CallContext>,
    body: Option<String>,
    /// What the caller provides besides.
    workspace: Option<WorkspaceContext>,
    /// The lines around it, where other kernels may have it too: see [`shared`].
    begin: String,
    end: &'static str,
}

/// How a body gets its instructions.
#[derive(Clone, Copy, Debug, Serialize)]
enum Dispatch {
    /// The portable ones, whatever the machine has.
    Portable,
    /// All that the crate is compiled for.
    Native,
    /// Those of the sets that the crate is compiled for, where not all sets are wanted.
    NativeOfSets,
    /// The best that the machine has, found out at run time.
    Dynamic,
}

/// A call of another function of the kernel.
#[derive(Serialize)]
struct CallContext {
    /// Its path.
    function: String,
    /// What is taken from the workspace before it: for it and for the calls behind it, until one takes what meets
    /// these.
    takes: Vec<TakeContext>,
    /// Names, and perhaps a flag.
    arguments: Vec<String>,
}

/// Tensors that are taken from the workspace at once.
#[derive(Serialize)]
struct TakeContext {
    names: Vec<String>,
    /// For each the scalars between it and what was taken before.
    skips: Vec<usize>,
    /// What they are taken from: the workspace, or what others before them left of it.
    from: String,
    /// The name of what they leave, if others follow.
    rest: &'static str,
}

/// A struct with a field for each input that derivatives are taken by.
#[derive(Serialize)]
struct ParametersContext {
    alias: String,
    fields: Vec<ArgumentContext>,
    methods: Vec<MethodContext>,
}

/// A function on the struct, and on the like for tangents and cotangents.
#[derive(Serialize)]
struct MethodContext {
    name: String,
    reads: Vec<ArgumentContext>,
    /// Read besides `self`: the names.
    read_structs: Vec<String>,
    writes: Vec<ArgumentContext>,
    written_structs: Vec<String>,
    /// What the function itself takes.
    arguments: Vec<PassedContext>,
    workspace: Option<String>,
}

/// An argument, or a field of one.
#[derive(Serialize)]
struct PassedContext {
    name: String,
    /// The struct that it is a field of.
    of: Option<String>,
    written: bool,
}

#[derive(Serialize)]
struct WorkspaceContext {
    /// The name of the argument.
    name: String,
    scalars: usize,
    bytes: usize,
    /// Bytes of the tensors that are needed at the same time, where these are most.
    needed: usize,
    places: Vec<PlaceContext>,
}

#[derive(Serialize)]
struct PlaceContext {
    /// One after the other.
    tensors: Vec<String>,
    shape: Vec<usize>,
    offset: usize,
    bytes: usize,
    first: usize,
    last: usize,
}

#[derive(Clone, PartialEq, Serialize)]
struct ReferenceContext {
    name: String,
    ty: String,
}

#[derive(Serialize)]
struct ArgumentContext {
    name: String,
    alias: String,
    /// The number of its dimensions; 0 for a number.
    rank: usize,
}

/// What `reference.rs.tera` sees.
#[derive(Serialize)]
struct TestsContext<'a> {
    /// As in [`RootContext`].
    vendored: bool,
    harness: String,
    ops: &'a [Piece],
}

#[derive(Serialize)]
struct TestedContext<'a> {
    name: &'a str,
    module: &'a str,
    kernels: Vec<reference::ReferenceContext>,
}

/// As many pointers go to a function in registers on common machines; the runtime's `isa` has a dispatch for each
/// number up to it.
const MOST_REGISTERS: usize = 6;
/// The longest tuple of `workspace::Places` in the runtime.
const MOST_PLACES: usize = 16;

/// The name of the module that stands for the crate `cotangent` in self-contained output.
pub const RUNTIME: &str = "cotangent";

/// What generated files hold of an op.
pub fn piece(
    certified: &Certified,
    kernels: &[Compiled],
    sources: &Sources,
    options: &Options,
) -> Result<Piece, String> {
    let tera = templates(&options.templates)?;
    let mut op = op_context(sources, certified, kernels, options);
    let file = render(&tera, "op.rs.tera", &op)?;
    let list = render(&tera, "list.rs.tera", &op)?;
    let callback = render(&tera, "callback.rs.tera", &op)?;
    let tests = render(&tera, "tested.rs.tera", &tested_context(kernels, &op, sources))?;
    let header = if options.c_header.is_some() { c::kernels(&op, options) } else { Vec::new() };
    let module = op.module.clone();
    op.text = options.self_contained.then(|| file.clone());
    Ok(Piece { module, file, declaration: render(&tera, "module.rs.tera", &op)?, list, callback, tests, header })
}

/// The generated files. Those of ops stand beside the root file, or within it where it shall be self-contained.
pub fn files(pieces: &[Piece], options: &Options) -> Result<Files, String> {
    let tera = templates(&options.templates)?;
    let mut files = Files::new();
    let mut pieces = pieces.to_vec();
    let text = |p: &Piece| if options.self_contained { p.declaration.clone() } else { p.file.clone() };
    let marked: Vec<String> = pieces.iter().map(text).collect();
    let marked: Vec<&str> = marked.iter().map(String::as_str).collect();
    for (op, text) in pieces.iter_mut().zip(shared::unmarked(&marked, in_place(options))) {
        if options.self_contained {
            op.declaration = text;
        } else {
            files.insert(format!("{}.rs", op.module), text);
        }
    }
    let root = root_context(&pieces, options);
    let tests = TestsContext { vendored: options.self_contained, harness: reference::harness_text(), ops: &pieces };
    files.insert(REFERENCE.into(), render(&tera, "reference.rs.tera", &tests)?);
    files.insert(ROOT.into(), render(&tera, "kernels.rs.tera", &root)?);
    if let Some(header) = &options.c_header {
        files.insert(header.clone(), render(&tera, "header.h.tera", &root)?);
    }
    Ok(files)
}

/// The file of one op: a module for each kernel.
pub fn op_file(
    sources: &Sources,
    certified: &Certified,
    kernels: &[Compiled],
    options: &Options,
) -> Result<String, String> {
    let text =
        render(&templates(&options.templates)?, "op.rs.tera", &op_context(sources, certified, kernels, options))?;
    Ok(shared::unmarked(&[&text], in_place(options)).concat())
}

/// Whether modules stand where the shipped templates put them, so that one finds another.
fn in_place(options: &Options) -> bool {
    let own = |name: &str| options.templates.iter().any(|(n, _)| n == name);
    !["kernels.rs.tera", "module.rs.tera", "op.rs.tera"].into_iter().any(own)
}

/// The templates, those of a folder over the shipped ones.
fn templates(own: &[(String, String)]) -> Result<Tera, String> {
    let mut tera = Tera::new();
    text::install(&mut tera);
    let shipped = shipped::TEMPLATES.iter().map(|(n, t)| ((*n).to_string(), (*t).to_string()));
    let all: BTreeMap<String, String> = shipped.chain(own.iter().cloned()).collect();
    tera.add_raw_templates(all.iter().map(|(n, t)| (n.as_str(), t.as_str()))).map_err(|e| e.to_string())?;
    Ok(tera)
}

/// The module that includes the root file, with a final `::` unless it is the crate's root.
fn module(options: &Options) -> String {
    if options.module.is_empty() { String::new() } else { format!("{}::", options.module) }
}

/// The path of what generated code stands on.
fn runtime(options: &Options) -> String {
    match options.self_contained {
        true => format!("crate::{}{RUNTIME}", module(options)),
        false => format!("::{RUNTIME}"),
    }
}

fn root_context<'a>(ops: &'a [Piece], options: &'a Options) -> RootContext<'a> {
    let vendored = options.self_contained.then(|| VendoredContext {
        version: env!("CARGO_PKG_VERSION"),
        place: format!("crate::{}", options.module).trim_end_matches("::").into(),
        text: vendor::runtime(options, &runtime(options)),
        portable: options.portable(),
    });
    RootContext {
        runtime: runtime(options),
        prefix: options.prefix.clone(),
        target_arch: options.target_arch.as_deref(),
        c: options.c_header.as_ref().map(|header| c::header(ops.iter().flat_map(|op| &op.header), header, options)),
        set: format!("{}{}", module(options).replace("::", "_"), options.prefix),
        ops,
        vendored,
    }
}

fn tested_context<'a>(kernels: &[Compiled], op: &'a OpContext, sources: &Sources) -> TestedContext<'a> {
    let chosen = |k: &KernelContext| {
        let mut functions = k.functions.iter().chain(&k.stages).chain(&k.either);
        functions.any(|f| f.body.is_some() && matches!(f.dispatch, Dispatch::Dynamic))
    };
    let kernels = kernels.iter().zip(&op.kernels).map(|(c, k)| reference::context(sources, c, chosen(k)));
    TestedContext { name: &op.name, module: &op.module, kernels: kernels.collect() }
}

fn op_context(sources: &Sources, certified: &Certified, kernels: &[Compiled], options: &Options) -> OpContext {
    let op = &certified.op;
    let steps = |written: &[(String, Span)], stmts: &[index::Stmt]| -> Vec<StepContext> {
        let step = |formula: String, source: String| {
            let line = format!("{formula:<60} {source}").trim_end().to_string();
            StepContext { formula, source, line }
        };
        if written.is_empty() {
            stmts.iter().map(|s| step(index::print::stmt(op, s), String::new())).collect()
        } else {
            written.iter().map(|(text, span)| step(text.clone(), place(sources, *span))).collect()
        }
    };
    OpContext {
        runtime: runtime(options),
        place: module(options),
        name: op.name.clone(),
        module: format!("{}{}", options.prefix, op.name),
        doc: text::lines(&op.doc),
        steps: StepsContext {
            forward: steps(&op.written.forward, &op.forward),
            adjoint: steps(&op.written.adjoint, &op.adjoint.stmts),
            tangent: steps(&op.written.tangent, &op.tangent.stmts),
        },
        certificate: certified.certificate.adjoint.to_string(),
        kernels: kernels.iter().map(|k| kernel_context(sources, k, options)).collect(),
        text: None,
    }
}

fn render(tera: &Tera, name: &str, context: &impl Serialize) -> Result<String, String> {
    let context = Context::from_serialize(context).map_err(|e| e.to_string())?;
    tera.render(name, &context).map_err(|e| {
        let mut text = format!("template {name}: {e}");
        let mut source = std::error::Error::source(&e);
        while let Some(inner) = source {
            text.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        text
    })
}

fn place(sources: &Sources, span: Span) -> String {
    format!("{}:{}", sources.path(span.source), sources.line(span))
}

fn kernel_context(sources: &Sources, c: &Compiled, options: &Options) -> KernelContext {
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
    let parameters = parameters(op, kernel, &functions);
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
fn parameters(op: &Op, kernel: &Kernel, functions: &[FunctionContext]) -> Option<ParametersContext> {
    let wrt = &op.program.as_ref().filter(|_| kernel.functions.iter().any(|f| f.kind == Kind::ValueAndGrad))?.wrt;
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
        let workspace = context.workspace.as_ref().map(|w| w.name.clone());
        MethodContext {
            name: f.name.clone(),
            reads,
            read_structs: list(false),
            writes,
            written_structs: list(true),
            arguments: passed,
            workspace,
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

/// How a function is made.
struct Manner<'a> {
    /// Into its caller.
    inline: bool,
    /// Without wider instructions.
    portable: bool,
    /// As one body for what adds and what stores.
    either: bool,
    /// By a call of that body.
    call: Option<CallContext>,
    /// For each stage the first that does the same.
    alike: &'a BTreeMap<usize, usize>,
}

fn function_context(
    sources: &Sources,
    op: &Op,
    c: &Compiled,
    n: usize,
    manner: Manner<'_>,
    options: &Options,
    tiles: &mut Vec<body::TileContext>,
) -> FunctionContext {
    let (kernel, f, plan, nests) = (&c.kernel, &c.kernel.functions[n], &c.plans[n], &c.nests[n]);
    let Manner { inline, portable, either, call, alike } = manner;
    let argument = |t: &TensorId| {
        let primal = op.primal(*t);
        let (tensor, of) = (kernel.tensor(*t), kernel.tensor(primal));
        let alias = match of.role {
            Role::Input | Role::Output | Role::Partial(..) => names::alias(op, primal),
            // Between stages.
            _ => body::array(kernel.dtype, &of.shape),
        };
        ArgumentContext { name: tensor.name.clone(), alias, rank: of.shape.len() }
    };
    let entry =
        |entry: Entry| op.program.iter().flat_map(|p| &p.functions).find(|e| e.entry == entry).map(|e| &e.stmts);
    let (kind, rule) = match f.kind {
        Kind::Forward => ("Forward", Some(&op.forward)),
        Kind::Jvp => ("Jvp", Some(&op.tangent.stmts)),
        Kind::Vjp { .. } => ("Vjp", Some(&op.adjoint.stmts)),
        Kind::ValueAndGrad => ("ValueAndGrad", entry(Entry::ValueAndGrad)),
        Kind::Hvp => ("Hvp", entry(Entry::Hvp)),
        Kind::Jacobian => ("Jacobian", entry(Entry::Jacobian)),
        Kind::Hessian => ("Hessian", entry(Entry::Hessian)),
        Kind::Stage => ("Stage", None),
    };
    let wanted = f.writes.iter().copied().collect();
    let live = |stmts: &Vec<index::Stmt>| -> Vec<String> {
        crate::derive::live(stmts, &wanted).iter().map(|s| index::print::stmt(op, s)).collect()
    };
    let rule = rule.filter(|_| options.c_header.is_some()).map_or(Vec::new(), live);
    let mut cost = cost::cost(kernel, f, nests);
    let parts = same_as(kernel, f);
    if !parts.is_empty() {
        // It does nothing itself.
        cost.scratch.values_mut().for_each(|n| *n = 0);
    }
    let called = kernel.functions.iter().enumerate().filter(|(_, g)| parts.iter().any(|p| std::ptr::eq(*p, *g)));
    for stage in called.map(|(n, _)| n).chain(plan.stages().iter().copied()) {
        let own = cost::cost(kernel, &kernel.functions[stage], &c.nests[stage]);
        own.scratch.into_iter().for_each(|(m, n)| _ = cost.scratch.entry(m).and_modify(|most| *most = n.max(*most)));
    }
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
    // Machines without a nest of their own take that of the widest which have one.
    let widest = nests.iter().max_by_key(|n| n.machines.iter().map(|m| m.bytes).max());
    let mut left_out = machine::of(options.target_arch.as_deref());
    left_out.retain(|m| !nests.iter().any(|n| n.machines.contains(m)));
    let types = f.reads.iter().chain(&f.writes).map(|t| (*t, argument(t).alias)).collect();
    let mut body = |n: &Nest| {
        let mut all: Vec<&Machine> = n.machines.clone();
        if widest.is_some_and(|w| std::ptr::eq(w, n)) {
            all.extend(&left_out);
        }
        let form = body::Form { either, types: &types, spec: Some(c.instance.name.span.source) };
        let text = body::stmts(sources, kernel, n, &Names::new(kernel, n), form, tiles);
        (all.iter().map(|m| m.name).collect(), text)
    };
    let own: Vec<(Vec<&str>, Vec<rust::Stmt>)> =
        if calls.is_empty() { nests.iter().map(&mut body).collect() } else { Vec::new() };
    let text = calls.is_empty().then(|| rust::lines(&body::merged(&own), 2));
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
        body: text,
        calls,
        workspace,
        begin: String::new(),
        end: "",
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

/// The names of what a function takes.
fn arguments(kernel: &Kernel, f: &Function) -> Vec<String> {
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
fn alike(
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
fn pairs(kernel: &Kernel, nests: &[Vec<Nest>]) -> Vec<(usize, usize)> {
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

/// The functions that do the same together: with one input that has a derivative, the whole `vjp` is its own; with
/// several that share no step, each of theirs in turn.
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
