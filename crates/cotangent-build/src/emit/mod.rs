//! Emission: takes certified ops and the nests of their kernels, gives Rust source through the templates.
//!
//! What a person would restyle (modules, documentation, signatures, the enumerating macro) stands in `templates/*.tera`; only the bodies are
//! written here. Output depends on specs, templates and options alone.

mod body;
mod cost;
pub mod names;

use crate::certify::Certified;
use crate::index::{self, Op, Role, TensorId};
use crate::nest::Nest;
use crate::plain::{Kernel, Kind};
use crate::source::{Sources, Span};
use crate::spec::InstanceSpec;
use serde::Serialize;
use tera::{Context, Tera};

/// The shipped templates, by name.
pub const TEMPLATES: &[(&str, &str)] = &[
    ("kernels.rs.tera", include_str!("../../templates/kernels.rs.tera")),
    ("op.rs.tera", include_str!("../../templates/op.rs.tera")),
];

/// A kernel ready to be written down.
pub struct Compiled<'a> {
    pub certified: &'a Certified,
    pub instance: &'a InstanceSpec,
    pub kernel: Kernel,
    pub nests: Vec<Nest>,
}

#[derive(Serialize)]
struct OpContext {
    name: String,
    doc: Vec<String>,
    kernels: Vec<KernelContext>,
}

#[derive(Serialize)]
struct KernelContext {
    op: String,
    name: String,
    dtype: &'static str,
    doc: Vec<String>,
    source: String,
    forward: Vec<StepContext>,
    adjoint: Vec<StepContext>,
    tangent: Vec<StepContext>,
    certificate: String,
    axes: Vec<AxisContext>,
    types: Vec<TypeContext>,
    functions: Vec<FunctionContext>,
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
    role: &'static str,
    lo: String,
    lo_closed: bool,
    hi: String,
    hi_closed: bool,
}

#[derive(Serialize)]
struct FunctionContext {
    name: String,
    kind: &'static str,
    rule: Vec<String>,
    reads: Vec<ArgumentContext>,
    writes: Vec<ArgumentContext>,
    accumulates: bool,
    inline: bool,
    flops: u64,
    bytes: u64,
    scratch: u64,
    body: String,
}

#[derive(Serialize)]
struct ArgumentContext {
    name: String,
    alias: String,
}

/// A function of at most this many operations is worth inlining: a call would cost as much.
const INLINE_FLOPS: u64 = 512;

/// The templates, those of a folder over the shipped ones.
pub fn templates(own: &[(String, String)]) -> Result<Tera, String> {
    let mut tera = Tera::new();
    let shipped = TEMPLATES.iter().map(|(n, t)| ((*n).to_string(), (*t).to_string()));
    let all: std::collections::BTreeMap<String, String> = shipped.chain(own.iter().cloned()).collect();
    tera.add_raw_templates(all.iter().map(|(n, t)| (n.as_str(), t.as_str()))).map_err(|e| e.to_string())?;
    Ok(tera)
}

/// The file of one op: a module for each kernel.
pub fn op_file(tera: &Tera, sources: &Sources, certified: &Certified, kernels: &[Compiled]) -> Result<String, String> {
    let context = OpContext {
        name: certified.op.name.clone(),
        doc: paragraphs(&certified.op.doc),
        kernels: kernels.iter().map(|k| kernel_context(sources, k)).collect(),
    };
    render(tera, "op.rs.tera", &context)
}

/// The root file: a module for each op, the list of kernels and the macro that enumerates them.
pub fn root_file(
    tera: &Tera,
    sources: &Sources,
    ops: &[(&Certified, Vec<Compiled>)],
    module: &str,
) -> Result<String, String> {
    #[derive(Serialize)]
    struct Root<'a> {
        /// The path of the module that includes the file, from the crate's root, with a final `::` unless empty.
        module: &'a str,
        ops: Vec<OpContext>,
    }
    let ops = ops
        .iter()
        .map(|(c, kernels)| OpContext {
            name: c.op.name.clone(),
            doc: paragraphs(&c.op.doc),
            kernels: kernels.iter().map(|k| kernel_context(sources, k)).collect(),
        })
        .collect();
    let path = if module.is_empty() { String::new() } else { format!("{module}::") };
    render(tera, "kernels.rs.tera", &Root { module: &path, ops })
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

fn paragraphs(doc: &str) -> Vec<String> {
    doc.lines().map(|l| l.trim().to_string()).collect()
}

fn place(sources: &Sources, span: Span) -> String {
    format!("{}:{}", sources.path(span.source), sources.line(span))
}

fn kernel_context(sources: &Sources, c: &Compiled) -> KernelContext {
    let (op, kernel) = (&c.certified.op, &c.kernel);
    // As written, else as derived.
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
    let interface = |t: &TensorId| matches!(op.tensor(*t).role, Role::Input | Role::Output);
    let types = (0..op.tensors.len()).map(TensorId).filter(interface).map(|t| type_context(op, kernel, t)).collect();
    let functions = c.nests.iter().map(|n| function_context(sources, op, kernel, n, &c.nests)).collect();
    let scalar = body::scalar(kernel.dtype);
    KernelContext {
        op: op.name.clone(),
        name: kernel.name.clone(),
        dtype: scalar,
        doc: paragraphs(&op.doc),
        source: place(sources, c.instance.name.span),
        forward: steps(&op.written.forward, &op.forward),
        adjoint: steps(&op.written.adjoint, &op.adjoint.stmts),
        tangent: steps(&op.written.tangent, &op.tangent.stmts),
        certificate: c.certified.certificate.adjoint.to_string(),
        axes: op
            .axes
            .iter()
            .zip(&kernel.extents)
            .map(|(a, e)| AxisContext { name: a.name.clone(), extents: e.clone() })
            .collect(),
        types,
        functions,
    }
}

fn type_context(op: &Op, kernel: &Kernel, t: TensorId) -> TypeContext {
    let tensor = kernel.tensor(t);
    let domain = op.tensor(t).domain;
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
        alias: names::alias(&tensor.name),
        rust: body::nested(body::scalar(kernel.dtype), &tensor.shape),
        dims: tensor.dims.clone(),
        shape: tensor.shape.clone(),
        role: if tensor.role == Role::Input { "Input" } else { "Output" },
        lo: bound(domain.map_or(f64::NEG_INFINITY, |d| d.lo)),
        lo_closed: domain.is_some_and(|d| d.lo_closed),
        hi: bound(domain.map_or(f64::INFINITY, |d| d.hi)),
        hi_closed: domain.is_some_and(|d| d.hi_closed),
    }
}

fn function_context(sources: &Sources, op: &Op, kernel: &Kernel, n: &Nest, all: &[Nest]) -> FunctionContext {
    let argument = |t: &TensorId| {
        let of = match op.tensor(*t).role {
            Role::Tangent(of) | Role::Cotangent(of) => of,
            _ => *t,
        };
        ArgumentContext { name: kernel.tensor(*t).name.clone(), alias: names::alias(&kernel.tensor(of).name) }
    };
    let (kind, rule) = match n.kind {
        Kind::Forward => ("Forward", &op.forward),
        Kind::Jvp => ("Jvp", &op.tangent.stmts),
        Kind::Vjp { .. } => ("Vjp", &op.adjoint.stmts),
    };
    let wanted = n.writes.iter().copied().collect();
    let rule = crate::derive::live(rule, &wanted).iter().map(|s| index::print::stmt(op, s)).collect();
    let names = names::Names::new(kernel, n);
    let cost = cost::cost(kernel, n);
    FunctionContext {
        name: n.name.clone(),
        kind,
        rule,
        reads: n.reads.iter().map(argument).collect(),
        writes: n.writes.iter().map(argument).collect(),
        accumulates: matches!(n.kind, Kind::Vjp { store: false, .. }),
        inline: cost.flops <= INLINE_FLOPS || same_as(kernel, n, all).is_some(),
        flops: cost.flops,
        bytes: cost.bytes,
        scratch: cost.scratch,
        body: match same_as(kernel, n, all) {
            Some(whole) => {
                let arguments: Vec<_> =
                    n.reads.iter().chain(&n.writes).map(|t| kernel.tensor(*t).name.as_str()).collect();
                format!("        {}({});\n", whole.name, arguments.join(", "))
            }
            None => body::lines(sources, kernel, n, &names, 2),
        },
    }
}

/// With one input that has a derivative, its own function is the whole `vjp` again.
fn same_as<'a>(kernel: &Kernel, n: &Nest, all: &'a [Nest]) -> Option<&'a Nest> {
    let Kind::Vjp { input: Some(_), store } = n.kind else { return None };
    let named = |t: &TensorId| &kernel.tensor(*t).name;
    all.iter().find(|w| {
        w.kind == Kind::Vjp { input: None, store }
            && w.reads.iter().map(named).eq(n.reads.iter().map(named))
            && w.writes.iter().map(named).eq(n.writes.iter().map(named))
    })
}
