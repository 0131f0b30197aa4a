//! Emission: takes certified ops and the nests of their kernels, gives Rust source through the templates.
//!
//! What a person would restyle (modules, documentation, signatures, calls, the enumerating macro) stands in
//! `templates/*.tera`. Bodies and tiles are written by `body`, the loops of tests by `reference`, the runtime of
//! self-contained output by `vendor`; `kernel` and `function` make the data that templates see, which `context` declares.
//! Output depends on specs, templates and options alone.

mod body;
pub(crate) mod c;
mod context;
pub(crate) mod cost;
mod elements;
mod function;
mod kernel;
pub mod names;
mod ndarray;
mod reference;
pub mod rust;
pub mod shared;
mod split;
pub mod text;
mod vendor;

use crate::certify::Certified;
use crate::compiled::Compiled;
use crate::index;
use crate::options::Options;
use crate::shipped;
use crate::source::{Sources, Span};
use context::{
    Dispatch, KernelContext, OpContext, RootContext, StepContext, StepsContext, TestedContext, TestsContext,
    VendoredContext,
};
use kernel::kernel_context;
use serde::Serialize;
use std::collections::BTreeMap;
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

/// The name of the module that stands for the crate `cotangent` in self-contained output.
pub const RUNTIME: &str = "cotangent";

/// What text is rendered from, parsed.
pub struct Templates(Tera);

impl Templates {
    /// The templates, those of a build's own over the shipped ones. The error says what does not parse.
    pub fn new(options: &Options) -> Result<Self, String> {
        let mut tera = Tera::new();
        text::install(&mut tera);
        let shipped = shipped::TEMPLATES.iter().map(|(n, t)| ((*n).to_string(), (*t).to_string()));
        let all: BTreeMap<String, String> = shipped.chain(options.templates.iter().cloned()).collect();
        tera.add_raw_templates(all.iter().map(|(n, t)| (n.as_str(), t.as_str()))).map_err(|e| e.to_string())?;
        Ok(Templates(tera))
    }
}

/// What generated files hold of an op.
pub fn piece(
    Templates(tera): &Templates,
    certified: &Certified,
    kernels: &[Compiled],
    sources: &Sources,
    options: &Options,
) -> Result<Piece, String> {
    let mut op = op_context(sources, certified, kernels, options);
    let file = render(tera, "op.rs.tera", &op)?;
    let list = render(tera, "list.rs.tera", &op)?;
    let callback = render(tera, "callback.rs.tera", &op)?;
    let tests = render(tera, "tested.rs.tera", &tested_context(kernels, &op, sources))?;
    let header = if options.c_header.is_some() { c::kernels(&op, options) } else { Vec::new() };
    let module = op.module.clone();
    op.text = options.self_contained.then(|| file.clone());
    Ok(Piece { module, file, declaration: render(tera, "module.rs.tera", &op)?, list, callback, tests, header })
}

/// The generated files. Those of ops stand beside the root file, or within it where it shall be self-contained.
pub fn files(Templates(tera): &Templates, pieces: &[Piece], options: &Options) -> Result<Files, String> {
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
    files.insert(REFERENCE.into(), render(tera, "reference.rs.tera", &tests)?);
    files.insert(ROOT.into(), render(tera, "kernels.rs.tera", &root)?);
    if let Some(header) = &options.c_header {
        files.insert(header.clone(), render(tera, "header.h.tera", &root)?);
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
    let Templates(tera) = Templates::new(options)?;
    let text = render(&tera, "op.rs.tera", &op_context(sources, certified, kernels, options))?;
    Ok(shared::unmarked(&[&text], in_place(options)).concat())
}

/// Whether modules stand where the shipped templates put them, so that one finds another.
fn in_place(options: &Options) -> bool {
    let own = |name: &str| options.templates.iter().any(|(n, _)| n == name);
    !["kernels.rs.tera", "module.rs.tera", "op.rs.tera"].into_iter().any(own)
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
    let kernels =
        kernels.iter().zip(&op.kernels).map(|(c, k)| reference::context(sources, c, k.split.as_ref(), chosen(k)));
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
        kernels: kernels.iter().map(|k| kernel_context(sources, k, kernels, options)).collect(),
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
