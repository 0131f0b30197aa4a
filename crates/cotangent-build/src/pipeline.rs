//! The pipeline: takes spec files, gives the generated files, stage by stage. Every stage's postcondition stands behind it.

use crate::certify::{Certified, certify};
use crate::derive;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::emit::{self, Compiled};
use crate::index;
use crate::nest::{self, Nest};
use crate::plain::{self, Kernel};
use crate::source::{SourceId, Sources};
use crate::spec;
use std::collections::BTreeMap;

/// The file that a crate includes. No op can be called so: `mod` is a keyword.
pub const ROOT: &str = "mod.rs";

/// What a build makes: file names within the output folder, and their text.
pub type Files = BTreeMap<String, String>;

/// Specs to generated files. Errors are collected over all files in `out`; `None` when there were some.
pub fn compile(specs: &[SourceId], sources: &Sources, options: &Options, out: &mut Diagnostics) -> Option<Files> {
    let ops: Vec<Certified> = specs.iter().filter_map(|s| certified(*s, sources, out)).collect();
    // after this: each op is checked and its rules are proved
    distinct(&ops, out);
    ops.iter().filter(|c| c.spec.instances.is_empty()).for_each(|c| out.push(no_instances(c)));
    let kernels: Vec<Vec<Kernel>> = ops.iter().map(|c| kernels(c, out)).collect();
    // after this: every extent, stride and offset is a number; every access is proven in bounds or guarded
    if out.has_errors() {
        return None;
    }
    let compiled = ops.iter().zip(kernels).map(|(c, kernels)| (c, schedule(c, kernels, out))).collect();
    // after this: order, accumulators and scratch of every function are decided
    if out.has_errors() {
        return None;
    }
    emitted(compiled, sources, options, out)
}

/// What a build chooses besides its specs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The module, from the crate's root, that includes the kernels: `kernels`, or empty for the root itself.
    pub module: String,
    /// Templates that replace shipped ones, name and text.
    pub templates: Vec<(String, String)>,
}

/// Source to certified op. Errors go to `out`; `None` when there were some.
pub fn certified(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Certified> {
    let errors = out.errors();
    let spec = spec::parse(source, sources, out)?;
    // after this: keys and kinds of values are right; every scalar knows its bytes in the file
    let mut op = index::resolve::resolve(&spec, out)?;
    // after this: names are ids, every access is affine, reductions stand at the root of a statement
    emit::names::distinct(&op, out);
    // after this: what is generated can be named
    if out.errors() > errors {
        return None;
    }
    let derived = derive::complete(&mut op, out);
    // after this: both rules are there, declared, derived, or transposed from the other
    if out.errors() > errors {
        return None;
    }
    index::check::check(&op).unwrap_or_else(|broken| panic!("the index IR is broken: {broken}"));
    let certificate = certify(&op, &derived, out)?;
    // after this: each declared rule equals the derived one
    Some(Certified { spec, op, derived, certificate })
}

/// Certified op to kernels, one an instance. Errors go to `out`.
pub fn kernels(c: &Certified, out: &mut Diagnostics) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for instance in &c.spec.instances {
        let Some(kernel) = plain::specialise::specialise(&c.op, instance, out) else { continue };
        plain::check::check(&kernel).unwrap_or_else(|broken| panic!("the plain IR is broken: {broken}"));
        kernels.push(kernel);
    }
    kernels
}

/// Kernels to loop nests. Each kernel is the instance of the same place in the spec. Errors go to `out`.
pub fn schedule<'a>(c: &'a Certified, kernels: Vec<Kernel>, out: &mut Diagnostics) -> Vec<Compiled<'a>> {
    c.spec
        .instances
        .iter()
        .zip(kernels)
        .map(|(instance, kernel)| {
            let scheduled = nest::schedule::schedule(&kernel, &nest::schedule::Target::default());
            scheduled.nests.iter().flatten().for_each(|n| check(&kernel, n));
            for (function, text) in &instance.schedule {
                let known = kernel.functions.iter().any(|f| f.name == function.value);
                let unmet = scheduled.unmet.iter().find(|(f, _)| *f == function.value);
                if !known {
                    let names: Vec<_> = kernel.functions.iter().map(|f| format!("`{}`", f.name)).collect();
                    let message = format!("the kernel has no function `{}`", function.value);
                    let d = Diagnostic::error(Code::BadSchedule, function.span, message, "unknown function");
                    out.push(d.help(format!("its functions are {}", names.join(", "))));
                } else if let Some((_, candidates)) = unmet {
                    let message = format!("no statement of `{}` can have this schedule", function.value);
                    let d = Diagnostic::error(Code::BadSchedule, text.span, message, "no candidate");
                    let some: Vec<_> = candidates.iter().map(|c| format!("`{c}`")).collect();
                    let list = if some.is_empty() { "none".to_string() } else { some.join(", ") };
                    out.push(d.help(format!("the best candidates of each class of machines are {list}")));
                }
            }
            Compiled { certified: c, instance, kernel, nests: scheduled.nests }
        })
        .collect()
}

fn check(kernel: &Kernel, n: &Nest) {
    nest::check::check(kernel, n).unwrap_or_else(|broken| panic!("the loop nest is broken: {broken}"));
}

fn emitted(
    ops: Vec<(&Certified, Vec<Compiled>)>,
    sources: &Sources,
    options: &Options,
    out: &mut Diagnostics,
) -> Option<Files> {
    let result = emit::templates(&options.templates).and_then(|tera| {
        let mut files = Files::new();
        for (c, kernels) in &ops {
            files.insert(format!("{}.rs", c.op.name), emit::op_file(&tera, sources, c, kernels)?);
        }
        files.insert(ROOT.into(), emit::root_file(&tera, sources, &ops, &options.module)?);
        Ok(files)
    });
    result.inspect_err(|message| out.push(Diagnostic::general(Code::Io, message.clone()))).ok()
}

/// In a build an op without instances is most likely one that is not finished.
fn no_instances(c: &Certified) -> Diagnostic {
    let message = format!("no kernel is made of the op `{}`", c.op.name);
    Diagnostic::warning(Code::NoInstances, c.spec.op.span, message, "has no instances")
        .help("state sizes: `instances: [{name: small, ...}]`")
}

/// No two ops of one name: their modules would collide.
fn distinct(ops: &[Certified], out: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, &Certified> = BTreeMap::new();
    for c in ops {
        if let Some(first) = seen.insert(&c.op.name, c) {
            let message = format!("two ops are called `{}`", c.op.name);
            out.push(
                Diagnostic::error(Code::Duplicate, c.spec.op.span, message, "second")
                    .label(first.spec.op.span, "first"),
            );
        }
    }
}
