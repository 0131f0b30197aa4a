//! C: takes what the templates see of the kernels, gives what those of the wrappers and of the header see.
//!
//! Holds after it: every name in the header is C's and C++'s and, by [`distinct`], the only one of its kind.

use super::context::{ArgumentContext, FunctionContext, KernelContext, LeftOutContext, OpContext};
use super::{Compiled, names};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::{Op, Role, TensorId};
use crate::options::Options;
use crate::source::Span;
use crate::types::DType;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What `c.rs.tera` sees of a kernel, besides the kernel.
#[derive(Serialize)]
pub struct WrapperContext {
    /// The header's file name.
    header: String,
    /// What the names of the kernel's functions begin with; `_` and their own name follow.
    stem: String,
    /// Bytes to which arguments are aligned.
    alignment: usize,
}

/// What `header.h.tera` sees, as `c`.
#[derive(Serialize)]
pub struct HeaderContext {
    prefix: String,
    guard: String,
    /// The macro that stands for `restrict`.
    restrict: String,
    /// The macro that aligns a workspace.
    aligned: String,
    /// Whether there is a workspace.
    workspaces: bool,
    /// The scalar types that are used.
    scalars: Vec<ScalarContext>,
    kernels: Vec<HeaderKernel>,
}

#[derive(Serialize)]
struct ScalarContext {
    name: &'static str,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeaderKernel {
    name: String,
    #[serde(skip)]
    dtype: DType,
    doc: Vec<String>,
    scalar: &'static str,
    forward: Vec<String>,
    adjoint: Vec<String>,
    types: Vec<HeaderType>,
    functions: Vec<HeaderFunction>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeaderType {
    name: String,
    /// The tensor and its dimensions, as in the formula.
    formula: String,
    shape: Vec<usize>,
    elements: u128,
    bytes: u128,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeaderFunction {
    /// The scalars of the workspace that it takes.
    workspace: Option<usize>,
    /// The name of that argument.
    workspace_name: String,
    name: String,
    what: &'static str,
    rule: Vec<String>,
    arguments: Vec<HeaderArgument>,
    flops: u64,
    scratch: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeaderArgument {
    name: String,
    ty: String,
    constant: bool,
}

/// What the names of a kernel begin with in C.
fn stem(op: &str, kernel: &str, options: &Options) -> String {
    format!("{}{}{op}_{kernel}", options.c_prefix, options.prefix)
}

/// The file name of the header.
fn file_name(header: &str) -> &str {
    header.rsplit(['/', '\\']).next().unwrap_or(header)
}

/// The macros of the header itself: what keeps it from being read twice, what stands for `restrict`, and what aligns.
fn macros(header: &str, options: &Options) -> [String; 3] {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let prefix = options.c_prefix.to_uppercase();
    let guard: String = file_name(header).chars().map(word).collect();
    [format!("{prefix}{guard}"), format!("{prefix}RESTRICT"), format!("{prefix}ALIGNED")]
}

/// C's name and size of a scalar type.
fn scalar(dtype: DType) -> ScalarContext {
    ScalarContext { name: dtype.c(), bytes: dtype.bytes() }
}

/// The wrappers of a kernel, where a header is wanted.
pub(super) fn wrappers(op: &str, kernel: &str, dtype: DType, options: &Options) -> Option<WrapperContext> {
    let header = options.c_header.as_ref()?;
    Some(WrapperContext {
        header: file_name(header).into(),
        stem: stem(op, kernel, options),
        alignment: scalar(dtype).bytes,
    })
}

/// The header of all kernels.
pub(super) fn header<'a>(
    kernels: impl Iterator<Item = &'a HeaderKernel> + Clone,
    path: &str,
    options: &Options,
) -> HeaderContext {
    let [guard, restrict, aligned] = macros(path, options);
    let used = |dtype: &DType| kernels.clone().any(|k| k.dtype == *dtype);
    HeaderContext {
        prefix: options.c_prefix.clone(),
        guard,
        restrict,
        aligned,
        workspaces: kernels.clone().any(|k| k.functions.iter().any(|f| f.workspace.is_some())),
        scalars: DType::ALL.iter().copied().filter(used).map(scalar).collect(),
        kernels: kernels.clone().cloned().collect(),
    }
}

/// What the header says of the kernels of an op.
pub(super) fn kernels(op: &OpContext, options: &Options) -> Vec<HeaderKernel> {
    op.kernels.iter().map(|k| kernel(op, k, options)).collect()
}

fn kernel(op: &OpContext, k: &KernelContext, options: &Options) -> HeaderKernel {
    let stem = stem(&op.name, &k.name, options);
    let ScalarContext { name, bytes } = scalar(k.scalar);
    let types = k.types.iter().chain(&k.partials).map(|t| {
        let elements: u128 = t.shape.iter().map(|n| *n as u128).product();
        HeaderType {
            name: format!("{stem}_{}", t.alias),
            formula: match t.dims.as_slice() {
                [] => format!("{}, a number", t.tensor),
                dims => format!("{}[{}]", t.tensor, dims.join(", ")),
            },
            shape: t.shape.clone(),
            elements,
            bytes: elements * bytes as u128,
        }
    });
    HeaderKernel {
        name: format!("{}::{}, made at {}", op.name, k.name, k.source),
        dtype: k.scalar,
        doc: op.doc.iter().cloned().chain(left_out(k)).collect(),
        scalar: name,
        forward: op.steps.forward.iter().map(|s| s.line.clone()).collect(),
        adjoint: op.steps.adjoint.iter().map(|s| s.line.clone()).collect(),
        types: types.collect(),
        functions: k.functions.iter().map(|f| function(f, &stem)).collect(),
    }
}

/// What the kernel lacks, a paragraph; nothing where it lacks nothing.
fn left_out(k: &KernelContext) -> Vec<String> {
    let line = |l: &LeftOutContext| format!("Left out, as no `functions` ask for it: {}.", l.entries.join(", "));
    k.left_out.iter().flat_map(|l| [String::new(), line(l)]).collect()
}

fn function(f: &FunctionContext, stem: &str) -> HeaderFunction {
    let all = || f.reads.iter().chain(&f.writes).map(|a| a.name.as_str());
    let argument = |a: &ArgumentContext, constant: bool| HeaderArgument {
        name: variable(&a.name, all()),
        ty: format!("{stem}_{}", a.alias),
        constant,
    };
    let reads = f.reads.iter().map(|a| argument(a, true));
    HeaderFunction {
        // It is no tensor's, and no word of C.
        workspace_name: f.workspace.as_ref().map_or(String::new(), |w| w.name.clone()),
        name: format!("{stem}_{}", f.name),
        workspace: f.workspace.as_ref().map(|w| w.scalars),
        what: match (f.kind, f.accumulates) {
            ("Forward", _) => "The value.",
            ("Jvp", _) => "The value and its tangent.",
            ("ValueAndGrad", _) => "The value and the gradient.",
            ("Hvp", _) => "The tangent of the gradient.",
            ("ValueGradAndHvp", _) => "The value, the gradient, and its tangent.",
            ("Jacobian", _) => "The outputs and their derivatives by each input.",
            ("Hessian", _) => "The value, the gradient, and the second derivatives.",
            (_, true) => "Adds the cotangents to what is there.",
            (_, false) => "Stores the cotangents, whatever was there.",
        },
        rule: f.rule.clone(),
        arguments: reads.chain(f.writes.iter().map(|a| argument(a, false))).collect(),
        flops: f.flops,
        scratch: f.most_scratch,
    }
}

/// Words of C23 and C++23 (those of Rust no tensor can have), and what compilers and standard headers define as macros.
const RESERVED: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "case",
    "catch",
    "cdecl",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "complex",
    "concept",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "decltype",
    "default",
    "delete",
    "double",
    "dynamic_cast",
    "errno",
    "explicit",
    "export",
    "far",
    "float",
    "fortran",
    "friend",
    "goto",
    "huge",
    "i386",
    "imaginary",
    "inline",
    "int",
    "interface",
    "linux",
    "long",
    "mips",
    "mutable",
    "namespace",
    "near",
    "new",
    "noexcept",
    "noreturn",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "pascal",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "short",
    "signed",
    "sizeof",
    "small",
    "sparc",
    "static_assert",
    "static_cast",
    "stderr",
    "stdin",
    "stdout",
    "sun",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "typedef",
    "typeid",
    "typename",
    "typeof_unqual",
    "union",
    "unix",
    "unsigned",
    "using",
    "vax",
    "void",
    "volatile",
    "wchar_t",
    "xor",
    "xor_eq",
];

/// A name for an argument, which `others` are too.
fn variable<'a>(name: &str, others: impl Iterator<Item = &'a str>) -> String {
    let others: BTreeSet<&str> = others.collect();
    let mut free = name.to_string();
    while RESERVED.contains(&free.as_str()) || free != name && others.contains(free.as_str()) {
        free.push('_');
    }
    free
}

/// Names join by `_`, which they may hold themselves: kernels that would have a name in common in the header are
/// errors.
pub fn distinct<'a>(ops: impl IntoIterator<Item = &'a [Compiled<'a>]>, options: &Options, out: &mut Diagnostics) {
    let Some(header) = &options.c_header else { return };
    // The header's own names have no place in a spec.
    let mut seen: BTreeMap<String, Option<Span>> =
        macros(header, options).into_iter().map(|name| (name, None)).collect();
    for c in ops.into_iter().flatten() {
        let span = c.instance.name.span;
        let clash = identifiers(c, options).into_iter().find_map(|name| match seen.insert(name.clone(), Some(span)) {
            Some(first) if first != Some(span) => Some((name, first)),
            _ => None,
        });
        if let Some((name, first)) = clash {
            let message = format!("`{name}` would stand in the C header twice");
            let d = Diagnostic::error(Code::Duplicate, span, message, "choose another name");
            out.push(match first {
                Some(first) => d.label(first, "this makes it first"),
                None => d.note("it is a macro of the header itself"),
            });
        }
    }
}

/// Everything that the header names of a kernel.
fn identifiers(c: &Compiled, options: &Options) -> Vec<String> {
    let op: &Op = &c.certified.op;
    let stem = stem(&op.name, &c.kernel.name, options);
    let mut all = Vec::new();
    let interface = |t: &TensorId| matches!(op.tensor(*t).role, Role::Input | Role::Output | Role::Partial(..));
    for t in (0..op.tensors.len()).map(TensorId).filter(interface) {
        let name = format!("{stem}_{}", names::alias(op, t));
        all.extend(["LEN", "BYTES"].map(|what| format!("{name}_{what}")));
        all.extend((0..c.kernel.tensor(t).shape.len()).map(|i| format!("{name}_DIM_{i}")));
        all.push(name);
    }
    let functions = c.kernel.functions.iter().zip(&c.plans);
    for (f, plan) in functions.filter(|(f, _)| f.kind != crate::plain::Kind::Stage) {
        let own = ["", "_SCRATCH", "_Workspace"].map(|what| format!("{stem}_{}{what}", f.name));
        all.extend(own.into_iter().take(if plan.workspace().is_some() { 3 } else { 2 }));
    }
    all
}
