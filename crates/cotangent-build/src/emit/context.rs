//! What templates see: the data of files, ops, kernels and functions, as `templates/*.tera` name them.
//!
//! Holds for them: names and types are text already; every choice is made, so that a template only tests flags, and
//! whether something is there.

use super::{Piece, body, c, reference};
use crate::types::DType;
use serde::Serialize;
use std::collections::BTreeMap;

/// What `kernels.rs.tera` sees.
#[derive(Serialize)]
pub(super) struct RootContext<'a> {
    /// The path of the crate `cotangent`, or of the module that stands for it.
    pub(super) runtime: String,
    /// What the names of the ops' modules begin with.
    pub(super) prefix: String,
    /// The architecture that the kernels are for, where it is one.
    pub(super) target_arch: Option<&'a str>,
    /// A word that tells the macros of several sets of kernels in one crate apart.
    pub(super) set: String,
    pub(super) ops: &'a [Piece],
    /// What stands for the crate `cotangent`, where this file shall need none.
    pub(super) vendored: Option<VendoredContext>,
    /// The header for C, where one is wanted.
    pub(super) c: Option<c::HeaderContext>,
}

#[derive(Serialize)]
pub(super) struct VendoredContext {
    /// Version of the compiler.
    pub(super) version: &'static str,
    /// The module that the file is.
    pub(super) place: String,
    /// What stands inside the module.
    pub(super) text: String,
    /// No unsafe code is in it.
    pub(super) portable: bool,
}

/// What `op.rs.tera` sees, and the templates of what the root file says of an op.
#[derive(Serialize)]
pub(super) struct OpContext {
    /// As in [`RootContext`].
    pub(super) runtime: String,
    pub(super) name: String,
    /// The path of the module that includes the root file, from the crate's root, with a final `::` unless empty.
    pub(super) place: String,
    /// The module: the name behind the prefix.
    pub(super) module: String,
    pub(super) doc: Vec<String>,
    pub(super) steps: StepsContext,
    /// How the adjoint is known to be right.
    pub(super) certificate: String,
    pub(super) kernels: Vec<KernelContext>,
    /// The module's own text, where the root holds it.
    pub(super) text: Option<String>,
}

#[derive(Serialize)]
pub(super) struct KernelContext {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) scalar: DType,
    pub(super) dtype: &'static str,
    /// The variant of the runtime's `Scalar`.
    pub(super) runtime: &'static str,
    pub(super) source: String,
    /// How what runs was compared with what was certified; nothing where it was not.
    pub(super) validation: Option<String>,
    /// The entry points that nobody asks for, if there are some.
    pub(super) left_out: Option<LeftOutContext>,
    pub(super) axes: Vec<AxisContext>,
    pub(super) types: Vec<TypeContext>,
    /// The types of dense derivatives.
    pub(super) partials: Vec<TypeContext>,
    pub(super) functions: Vec<FunctionContext>,
    /// What a program is differentiated by, in one struct.
    pub(super) parameters: Option<ParametersContext>,
    /// Functions that run in parts.
    pub(super) split: Option<SplitContext>,
    /// Private functions that others are made of.
    pub(super) stages: Vec<FunctionContext>,
    /// Private functions with a flag: whether they add or store.
    pub(super) either: Vec<FunctionContext>,
    /// What the bodies of all of these call.
    pub(super) tiles: Vec<body::TileContext>,
    /// Whether there are wrappers for `ndarray`.
    pub(super) nd: bool,
    /// What wrappers for C need, where they are wanted.
    pub(super) c: Option<c::WrapperContext>,
}

/// What a spec says, step by step: as written, else as derived.
#[derive(Serialize)]
pub(super) struct StepsContext {
    pub(super) forward: Vec<StepContext>,
    pub(super) adjoint: Vec<StepContext>,
    pub(super) tangent: Vec<StepContext>,
}

#[derive(Serialize)]
pub(super) struct StepContext {
    pub(super) formula: String,
    /// File and line; empty for a derived step.
    pub(super) source: String,
    /// Both, in columns.
    pub(super) line: String,
}

#[derive(Serialize)]
pub(super) struct LeftOutContext {
    /// Each with what is too much of it.
    pub(super) entries: Vec<String>,
    /// What the kernel has, and the first of these.
    pub(super) functions: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct AxisContext {
    pub(super) name: String,
    pub(super) extents: Vec<usize>,
}

#[derive(Serialize)]
pub(super) struct TypeContext {
    pub(super) tensor: String,
    pub(super) alias: String,
    pub(super) rust: String,
    pub(super) dims: Vec<String>,
    pub(super) shape: Vec<usize>,
    /// The type of its dimension in `ndarray`.
    pub(super) dimension: String,
    pub(super) role: &'static str,
    /// The fields of its domain; nothing where any number will do.
    pub(super) domain: Option<String>,
}

#[derive(Serialize)]
pub(super) struct FunctionContext {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// The statements of its rule, for the header.
    #[serde(skip)]
    pub(super) rule: Vec<String>,
    pub(super) reads: Vec<ArgumentContext>,
    pub(super) writes: Vec<ArgumentContext>,
    /// Reads and writes with the types of their references.
    pub(super) arguments: Vec<ReferenceContext>,
    /// Their names alone, and as many `_` for types that are inferred.
    pub(super) passed: Vec<String>,
    pub(super) holes: Vec<&'static str>,
    /// The name of the last argument, if it says whether the function adds or stores.
    pub(super) flag: Option<&'static str>,
    /// They are few enough to travel in registers.
    pub(super) registers: bool,
    /// Which instructions the body is run with.
    pub(super) dispatch: Dispatch,
    pub(super) accumulates: bool,
    /// The instruction sets to choose among, where they are not all; names of constants.
    pub(super) sets: Option<Vec<&'static str>>,
    pub(super) flops: u64,
    pub(super) bytes: u64,
    /// Bytes by class of machines.
    pub(super) scratch: BTreeMap<String, u64>,
    pub(super) most_scratch: u64,
    /// Calls that do the same; else the bodies say it.
    pub(super) calls: Vec<CallContext>,
    /// Whether a caller may give it instructions: whoever is made of stages has each of them dispatched.
    pub(super) with: bool,
    pub(super) body: Option<String>,
    /// What the caller provides besides.
    pub(super) workspace: Option<WorkspaceContext>,
    /// The lines around it, where other kernels may have it too: see [`super::shared`].
    pub(super) begin: String,
    pub(super) end: &'static str,
}

/// How a body gets its instructions.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Dispatch {
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
pub(super) struct CallContext {
    /// Its path.
    pub(super) function: String,
    /// What is taken from the workspace before it: for it and for the calls behind it, until one takes what meets
    /// these.
    pub(super) takes: Vec<TakeContext>,
    /// Names, and perhaps a flag.
    pub(super) arguments: Vec<String>,
}

/// Tensors that are taken from the workspace at once.
#[derive(Serialize)]
pub(super) struct TakeContext {
    pub(super) names: Vec<String>,
    /// For each the scalars between it and what was taken before.
    pub(super) skips: Vec<usize>,
    /// What they are taken from: the workspace, or what others before them left of it.
    pub(super) from: String,
    /// The name of what they leave, if others follow.
    pub(super) rest: &'static str,
}

/// A struct with a field for each input that derivatives are taken by.
#[derive(Serialize)]
pub(super) struct ParametersContext {
    pub(super) alias: String,
    pub(super) fields: Vec<ArgumentContext>,
    pub(super) methods: Vec<MethodContext>,
}

/// A function on the struct, and on the like for tangents and cotangents.
#[derive(Serialize)]
pub(super) struct MethodContext {
    pub(super) name: String,
    pub(super) reads: Vec<ArgumentContext>,
    /// Read besides `self`: the names.
    pub(super) read_structs: Vec<String>,
    pub(super) writes: Vec<ArgumentContext>,
    pub(super) written_structs: Vec<String>,
    /// What the function itself takes.
    pub(super) arguments: Vec<PassedContext>,
    pub(super) workspace: Option<String>,
    /// The names of workspace and pool of the function in parts, where there is one.
    pub(super) split: Option<[String; 2]>,
}

/// An argument, or a field of one.
#[derive(Serialize)]
pub(super) struct PassedContext {
    pub(super) name: String,
    /// The struct that it is a field of.
    pub(super) of: Option<String>,
    pub(super) written: bool,
}

/// The functions of a kernel that call that of a part.
#[derive(Serialize)]
pub(super) struct SplitContext {
    pub(super) axis: String,
    pub(super) parts: usize,
    /// All parts but the first.
    pub(super) others: usize,
    /// Coordinates of a part.
    pub(super) size: usize,
    /// The kernel of a part.
    pub(super) part: String,
    pub(super) functions: Vec<SplitFunctionContext>,
}

#[derive(Serialize)]
pub(super) struct SplitFunctionContext {
    pub(super) name: String,
    pub(super) reads: Vec<SplitArgumentContext>,
    pub(super) writes: Vec<SplitArgumentContext>,
    /// A part takes a workspace.
    pub(super) works: bool,
    /// So does the whole: for those of the parts, and for what is added up.
    pub(super) own: bool,
    /// The names of the last arguments.
    pub(super) workspace: String,
    pub(super) pool: String,
}

#[derive(Serialize)]
pub(super) struct SplitArgumentContext {
    pub(super) name: String,
    pub(super) alias: String,
    /// A part has a part of it.
    pub(super) sliced: bool,
    /// By what the sum of the parts is multiplied, or each of them.
    pub(super) weight: String,
}

#[derive(Serialize)]
pub(super) struct WorkspaceContext {
    /// The name of the argument.
    pub(super) name: String,
    pub(super) scalars: usize,
    pub(super) bytes: usize,
    /// Bytes of the tensors that are needed at the same time, where these are most.
    pub(super) needed: usize,
    pub(super) places: Vec<PlaceContext>,
}

#[derive(Serialize)]
pub(super) struct PlaceContext {
    /// One after the other.
    pub(super) tensors: Vec<String>,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
    pub(super) bytes: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

#[derive(Clone, PartialEq, Serialize)]
pub(super) struct ReferenceContext {
    pub(super) name: String,
    pub(super) ty: String,
}

#[derive(Serialize)]
pub(super) struct ArgumentContext {
    pub(super) name: String,
    pub(super) alias: String,
    /// The number of its dimensions; 0 for a number.
    pub(super) rank: usize,
}

/// What `reference.rs.tera` sees.
#[derive(Serialize)]
pub(super) struct TestsContext<'a> {
    /// As in [`RootContext`].
    pub(super) vendored: bool,
    pub(super) harness: String,
    pub(super) ops: &'a [Piece],
}

#[derive(Serialize)]
pub(super) struct TestedContext<'a> {
    pub(super) name: &'a str,
    pub(super) module: &'a str,
    pub(super) kernels: Vec<reference::ReferenceContext>,
}
