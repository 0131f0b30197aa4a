//! The pipeline: takes spec files, gives the generated files, stage by stage. Every stage's postcondition stands behind
//! it.

use crate::cache::Cache;
use crate::certify::{Certified, certify, split};
use crate::compiled::Compiled;
use crate::derive;
use crate::derive::range::Range;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::emit::{self, Files, Piece};
use crate::index;
use crate::instructions::InstructionSet;
use crate::library::Library;
use crate::nest::machine::{MACHINES, Machine};
use crate::nest::plan::{Limits, Planned};
use crate::nest::{self, Nest, Tuning};
pub use crate::options::Options;
use crate::plain::passes::Pass;
use crate::plain::{self, Kernel};
use crate::program;
use crate::source::{SourceId, Sources};
use crate::spec::{self, Spec};
use crate::types::InstanceSpec;
use crate::validate;
use crate::words::is_keyword;
use std::collections::BTreeMap;
use std::path::Path;

/// What to do with a schedule that is asked for where there is none to choose.
const NOTHING_TILED: &str = "nothing in it is computed in tiles, so that it has no schedule to choose: leave this out";

/// Specs to generated files. Errors are collected over all files in `out`; `None` when there were some. What the folder
/// of a cache holds is not made again.
pub fn compile(
    specs: &[SourceId],
    sources: &Sources,
    options: &Options,
    cache: Option<&Path>,
    out: &mut Diagnostics,
) -> Option<Files> {
    options.check(out);
    let specs = spec::all(specs, sources, out);
    // after this: each op stands with the instances of every file that uses it
    named(&specs, options, out);
    let specs: Vec<Spec> = specs.into_iter().map(|spec| with_dtype(spec, options)).collect();
    let library = Library::new(&specs, sources);
    // A header for C says something of every op.
    let cache = cache.filter(|_| options.c_header.is_none() && !options.self_contained);
    let cache = cache.and_then(|folder| Cache::new(folder, &specs, &library, sources, options));
    let known = |spec: &Spec| cache.as_ref().and_then(|cache| cache.get(&spec.op.value));
    let known: BTreeMap<&str, Piece> = specs.iter().filter_map(|s| Some((s.op.value.as_str(), known(s)?))).collect();
    // after this: what has changed is compiled, the rest is known
    let changed = specs.iter().filter(|spec| !known.contains_key(spec.op.value.as_str()));
    let ops: Vec<Certified> = changed.filter_map(|spec| certified_spec(spec.clone(), &library, out)).collect();
    // after this: each op is checked and its rules are proved
    ops.iter().filter(|c| c.spec.instances.is_empty()).for_each(|c| out.push(no_instances(c)));
    let kernels: Vec<Vec<Planned>> = ops.iter().map(|c| kernels(c, options, out)).collect();
    // after this: every extent, stride and offset is a number; what a function keeps on the stack has a limit
    if out.has_errors() {
        ops.iter().zip(kernels).for_each(|(c, kernels)| check_schedules(c, kernels, options, out));
        return None;
    }
    let scheduled = ops.iter().zip(kernels).map(|(c, kernels)| (c, schedule(c, kernels, options, out)));
    let mut compiled: Vec<(&Certified, Vec<Compiled>)> = scheduled.collect();
    // after this: order, accumulators and scratch of every function are decided
    if options.validate && !out.has_errors() {
        validate::all(&mut compiled);
        // after this: what is decided computes what was certified
    }
    emit::c::distinct(compiled.iter().map(|(_, kernels)| kernels.as_slice()), options, out);
    if out.has_errors() {
        return None;
    }
    let files = emit::Templates::new(options).and_then(|templates| {
        let piece = |c: &Certified, kernels| emit::piece(&templates, c, kernels, sources, options);
        let made = compiled.iter().map(|(c, kernels)| Ok((c.op.name.clone(), piece(c, kernels)?)));
        let made = made.collect::<Result<BTreeMap<String, Piece>, String>>()?;
        if let Some(cache) = &cache {
            made.iter().for_each(|(op, piece)| cache.put(op, piece, out));
        }
        let of = |spec: &Spec| made.get(&spec.op.value).or_else(|| known.get(spec.op.value.as_str())).cloned();
        emit::files(&templates, &specs.iter().filter_map(of).collect::<Vec<_>>(), options)
    });
    files.inspect_err(|message| out.push(Diagnostic::general(Code::Template, message.clone()))).ok()
}

/// One file to a certified op; with `use:` it is the shipped one. Errors go to `out`; `None` when there were some.
pub fn certified(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Certified> {
    certified_spec(spec::parse(source, sources, out)?, &Library::new(&[], sources), out)
}

/// Spec to certified op. Errors go to `out`; `None` when there were some.
pub fn certified_spec(spec: Spec, library: &Library, out: &mut Diagnostics) -> Option<Certified> {
    let errors = out.errors();
    // before this: keys and kinds of values are right; every scalar knows its bytes in the file
    let mut op = library.resolve(&spec, out)?;
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
    let params = params(&spec, &op);
    let never = plain::specialise::never_made(&op, &spec.instances);
    program::complete(&mut op, &params, &never);
    // after this: a program has the statements of each entry point that an instance may have
    index::check::check(&op).unwrap_or_else(|broken| panic!("the index IR is broken: {broken}"));
    let certificate = certify(&op, &derived, out)?;
    // after this: each declared rule equals the derived one
    let splits = split::certify(&op, &spec.instances, out);
    // after this: the parts of each instance that is split make the whole
    if out.errors() > errors {
        return None;
    }
    derive::absent::absorb(&mut op, &params);
    // after this: in derived rules no zero of a branch that is not taken meets an infinity
    index::check::check(&op).unwrap_or_else(|broken| panic!("the index IR is broken: {broken}"));
    Some(Certified { spec, op, derived, certificate, splits })
}

/// The ranges of parameters over the instances.
fn params(spec: &Spec, op: &index::Op) -> BTreeMap<index::ParamId, Range> {
    let given = |name: &str| {
        let values = spec.instances.iter().flat_map(|i| &i.values).filter(|(n, _)| n.value == *name);
        let values = values.flat_map(|(_, v)| &v.values).map(|v| Range::new(v.value, v.value));
        values.reduce(Range::or)
    };
    let all = op.params.iter().enumerate();
    all.filter_map(|(n, p)| Some((index::ParamId(n), given(&p.name)?))).collect()
}

/// Certified op to planned kernels, one an instance. Errors go to `out`.
pub fn kernels(c: &Certified, options: &Options, out: &mut Diagnostics) -> Vec<Planned> {
    let mut kernel = |instance| {
        let kernel = plain::specialise::specialise(&c.op, instance, out)?;
        // after this: every extent, stride and offset is a number; every access is proven in bounds or guarded
        let planned = if c.op.program.is_some() {
            nest::plan::plan(kernel, Limits { tuning: tuning(options), ..Limits::default() })
            // after this: a large program is stages that hand tensors on in a workspace
        } else {
            stands_whole(&kernel, instance, options, out)?;
            Planned::whole(kernel)
        };
        // after this: what a function keeps on the stack has a limit
        nest::plan::check::check(&planned).unwrap_or_else(|broken| panic!("the plan is broken: {broken}"));
        Some(planned)
    };
    let mut made: Vec<Planned> = Vec::new();
    for instance in &c.spec.instances {
        let whole = c.spec.instances.iter().find(|whole| instance.is_part_of(whole));
        // What is wrong with a part is told of the whole.
        if whole.is_none_or(|whole| made.iter().any(|planned| planned.kernel.name == *whole.name)) {
            made.extend(kernel(instance));
        }
    }
    made
}

/// The kernels of a certified op as they are after a pass of the plain IR: to be printed, no later stage takes them.
/// Errors go to `out`.
pub fn plain_after(c: &Certified, pass: &Pass, out: &mut Diagnostics) -> Vec<Kernel> {
    let specialised = |i| plain::specialise::specialise_until(&c.op, i, Some(pass), out);
    c.spec.instances.iter().filter_map(specialised).collect()
}

/// The instance that a kernel is of. Those in error have none, so that its place among the kernels says nothing.
fn instance<'a>(c: &'a Certified, kernel: &Kernel) -> &'a InstanceSpec {
    let found = c.spec.instances.iter().find(|i| i.name.value == kernel.name);
    found.unwrap_or_else(|| panic!("the kernel `{}` is of no instance", kernel.name))
}

/// Looks at the schedules that instances ask for, and makes no other nests: for when nothing is to be generated. Errors
/// go to `out`.
pub fn check_schedules(c: &Certified, kernels: Vec<Planned>, options: &Options, out: &mut Diagnostics) {
    let asked = kernels.into_iter().filter(|k| !instance(c, &k.kernel).schedule.is_empty()).collect();
    schedule(c, asked, options, out);
}

/// Planned kernels to loop nests, each with the instance of its name. Errors go to `out`.
pub fn schedule<'a>(
    c: &'a Certified,
    kernels: Vec<Planned>,
    options: &Options,
    out: &mut Diagnostics,
) -> Vec<Compiled<'a>> {
    kernels
        .into_iter()
        .map(|planned| {
            let kernel = &planned.kernel;
            let instance = instance(c, kernel);
            // A schedule that is asked for is found whatever the build wants.
            let all = !instance.schedule.is_empty();
            let machines = MACHINES.into_iter().filter(|m| all || wanted(m, options)).collect();
            let target = nest::schedule::Target { machines, tuning: tuning(options) };
            let mut scheduled = nest::schedule::schedule(&planned, &target);
            scheduled.nests.iter().flatten().for_each(|n| check(kernel, n));
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
                    out.push(d.help(match some.as_slice() {
                        [] => NOTHING_TILED.into(),
                        some => format!("the best candidates of each class of machines are {}", some.join(", ")),
                    }));
                }
            }
            for nests in &mut scheduled.nests {
                nests.iter_mut().for_each(|n| n.machines.retain(|m| wanted(m, options)));
                nests.retain(|n| !n.machines.is_empty());
            }
            let Planned { kernel, plans } = planned;
            Compiled { certified: c, instance, kernel, plans, nests: scheduled.nests, validation: None }
        })
        .collect()
}

fn check(kernel: &Kernel, n: &Nest) {
    nest::check::check(kernel, n).unwrap_or_else(|broken| panic!("the loop nest is broken: {broken}"));
}

/// What schedules are made with.
fn tuning(options: &Options) -> Tuning {
    Tuning { scratch: options.scratch(), core: options.tune }
}

/// Whether the target may be of this class of machines, and an instruction set that kernels are made for runs on it.
fn wanted(machine: &Machine, options: &Options) -> bool {
    let possible = nest::machine::of(options.target_arch.as_deref()).contains(&machine);
    let runs = |s: &InstructionSet| options.has(*s) && s.row().machines.contains(&machine.name);
    possible && InstructionSet::ALL.iter().any(runs)
}

/// No function of an op, which is not cut into stages, has locals that take more of the stack than a thread may have.
fn stands_whole(kernel: &Kernel, instance: &InstanceSpec, options: &Options, out: &mut Diagnostics) -> Option<()> {
    let Some((function, bytes)) = nest::schedule::most_on_stack(kernel, options.stack_limit) else { return Some(()) };
    let name = &kernel.name;
    let message = format!("`{function}` of `{name}` would keep {bytes} bytes of locals on the stack");
    let label = format!("at these sizes; the limit is {} bytes", options.stack_limit);
    out.push(Diagnostic::error(Code::TooMuchStack, instance.name.span, message, label).help(
        "functions of a `program:` work in memory that their caller provides, and a program can call this op; \
         `Build::stack_limit` (`--stack-limit`) allows more",
    ));
    None
}

fn with_dtype(mut spec: Spec, options: &Options) -> Spec {
    for instance in &mut spec.instances {
        instance.dtype.get_or_insert(options.dtype);
    }
    spec
}

/// In a build an op without instances is most likely one that is not finished.
fn no_instances(c: &Certified) -> Diagnostic {
    let message = format!("no kernel is made of the op `{}`", c.op.name);
    Diagnostic::warning(Code::NoInstances, c.spec.op.span, message, "has no instances")
        .help("state sizes: `instances: [{name: small, ...}]`")
}

/// No two ops of one name: their modules would collide. And no module of a name that Rust or the runtime has.
fn named(specs: &[Spec], options: &Options, out: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, &Spec> = BTreeMap::new();
    for spec in specs {
        if let Some(first) = seen.insert(&spec.op, spec) {
            let message = format!("two ops are called `{}`", spec.op.value);
            out.push(Diagnostic::error(Code::Duplicate, spec.op.span, message, "second").label(first.op.span, "first"));
        }
        let module = format!("{}{}", options.prefix, spec.op.value);
        let taken = if options.self_contained && module == emit::RUNTIME {
            Some("so is that of the runtime")
        } else if module == "rustfmt" {
            Some("generated attributes name the tool")
        } else if is_keyword(&module) && !options.prefix.is_empty() {
            Some("a keyword of Rust")
        } else {
            None
        };
        if let Some(label) = taken {
            let message = format!("the module of this op would be called `{module}`");
            out.push(Diagnostic::error(Code::BadOption, spec.op.span, message, label).help("choose another prefix"));
        }
    }
}
