//! File text to [`Spec`].
//!
//! Takes a YAML file, gives the declarations in it with the bytes they came from, and all errors at once. What holds
//! after it: every key is known, every required key is there, every name is well formed and every text that a later
//! stage reads as a formula maps byte by byte into the file. This is the only stage that knows YAML (`yaml.rs`); it
//! knows nothing of formulas.

mod decode;
mod names;
mod split;
mod yaml;

pub(crate) use names::misnamed;
pub(crate) use yaml::{MAX_BYTES, too_large};

use crate::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use crate::source::{At, SourceId, Sources, Span, shipped_ops};
use crate::types::{Domain, InstanceSpec};
use decode::Decoder;
use std::path::Path;

/// One op file.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The file.
    pub source: SourceId,
    /// Name of the op; equals the stem of the file name.
    pub op: At<String>,
    /// What the op is, for people.
    pub doc: Option<At<String>>,
    /// Parameter and its axis, or `int` or `real`.
    pub params: Vec<(At<String>, At<String>)>,
    /// At least one.
    pub inputs: Vec<TensorDecl>,
    /// At least one.
    pub outputs: Vec<TensorDecl>,
    /// Axis and the formula of its size.
    pub sizes: Vec<(At<String>, Formula)>,
    /// Input and where it is defined.
    pub domain: Vec<(At<String>, At<Domain>)>,
    /// The steps; at least one.
    pub forward: Vec<Formula>,
    /// The declared rules, if any.
    pub adjoint: Adjoint,
    /// The declared tangent rules, if any.
    pub tangent: Option<Vec<Formula>>,
    /// What only a program says; of an op, nothing.
    pub program: Option<ProgramSpec>,
    /// The kernels to make.
    pub instances: Vec<InstanceSpec>,
    /// The line `op: name`, which stands for the whole in diagnostics.
    pub span: Span,
}

/// What a spec with `program: name` says besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgramSpec {
    /// The inputs that derivatives are taken by; all, where it does not say.
    pub wrt: Option<At<Vec<At<String>>>>,
    /// Locals of the forward formula, and whether they are kept for the way back: `save` or `recompute`.
    pub checkpoint: Vec<(At<String>, At<String>)>,
    /// The functions to make.
    pub functions: Option<At<Vec<At<String>>>>,
}

/// Kernels of an op that is declared elsewhere: a file with `use:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// The op.
    pub op: At<String>,
    /// The kernels to make.
    pub instances: Vec<InstanceSpec>,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub enum Declaration {
    /// An op.
    Op(Box<Spec>),
    /// Kernels of an op that is declared elsewhere.
    Use(Use),
}

/// A tensor and its axes, outermost first; no axes is a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDecl {
    /// The tensor.
    pub name: At<String>,
    /// Its axes.
    pub axes: Vec<At<String>>,
}

/// Where the adjoint comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Adjoint {
    /// Left out, or `adjoint: derived`.
    Derived,
    /// The rules as written.
    Declared(At<Vec<Formula>>),
}

/// The text of a formula, with the place of each of its bytes in the file: right for plain, quoted, folded and literal
/// scalars alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    /// The text as YAML reads it, without space around it.
    pub text: String,
    source: SourceId,
    /// For each byte of `text`, the bytes of the file that its character was read from.
    map: Vec<(u32, u32)>,
    /// The place of an empty text.
    at: u32,
}

impl Formula {
    /// A text that stands in the file as it is, from byte `start` on.
    #[must_use]
    pub fn verbatim(source: SourceId, start: u32, text: &str) -> Self {
        Formula { text: text.to_owned(), source, map: yaml::identity(text, start), at: start }
    }

    /// The place in the file of the bytes `start..end` of the text.
    #[must_use]
    pub fn span(&self, start: usize, end: usize) -> Span {
        let last = self.map.last().map_or(self.at, |&(_, end)| end);
        let from = self.map.get(start).map_or(last, |&(from, _)| from);
        let to = match end.min(self.map.len()) {
            n if n > start => self.map[n - 1].1,
            _ => from,
        };
        Span { source: self.source, start: from, end: to.max(from) }
    }

    /// The place of the whole text.
    #[must_use]
    pub fn whole(&self) -> Span {
        self.span(0, self.text.len())
    }
}

/// Reads a file. Errors go to `out`. `None` when the file is not YAML or a declaration that later stages need could not
/// be read, so that they would only report what follows from that.
pub fn declaration(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Declaration> {
    let root = yaml::read(source, sources, out)?;
    let mut decoder = Decoder::new(sources, out);
    if root.key("use").is_some() {
        return decoder.used(root).map(Declaration::Use);
    }
    decoder.spec(source, root).map(Box::new).map(Declaration::Op)
}

/// The op of one file, as [`declaration`] reads it; with `use:` the shipped one, with the instances of this file.
pub fn parse(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Spec> {
    all(&[source], sources, out).pop()
}

/// The ops of several files, in their order. Files with `use:` add their instances to the op: to that of another file,
/// which they are warned of, else to the shipped one, which then stands where it is first used.
pub fn all(files: &[SourceId], sources: &Sources, out: &mut Diagnostics) -> Vec<Spec> {
    let mut uses: Vec<(usize, Use)> = Vec::new();
    let mut ops: Vec<(usize, Spec)> = Vec::new();
    let mut broken: Vec<&str> = Vec::new();
    for (at, file) in files.iter().enumerate() {
        match declaration(*file, sources, out) {
            Some(Declaration::Op(spec)) => ops.push((at, *spec)),
            Some(Declaration::Use(used)) => uses.push((at, used)),
            // An op and its file have one name.
            None => broken.extend(Path::new(sources.path(*file)).file_stem().and_then(|s| s.to_str())),
        }
    }
    for (at, used) in uses {
        let name = used.op.as_str();
        if let Some((_, spec)) = ops.iter_mut().find(|(_, spec)| spec.op.value == name) {
            if !spec.source.is_shipped() && SourceId::shipped(name).is_some() {
                let message = format!("`use: {name}` takes the op `{name}` of this build, not the shipped one");
                let d = Diagnostic::warning(Code::OwnOpUsed, used.op.span, message, "two ops have this name");
                let help = "rename that op to use the shipped one, or write the instances in its file";
                out.push(d.label(spec.op.span, "taken").help(help));
            }
            for instance in used.instances {
                distinct(&spec.instances, &instance, out);
                spec.instances.push(instance);
            }
        } else if broken.contains(&name) {
            // Its errors are told; with the shipped op in its place there would be more.
        } else if let Some(shipped) = SourceId::shipped(name) {
            let Some(Declaration::Op(spec)) = declaration(shipped, sources, out) else { continue };
            ops.push((at, Spec { instances: used.instances, ..*spec }));
        } else {
            let message = format!("there is no op `{}` to use", used.op.value.escape_debug());
            let d = Diagnostic::error(Code::UnknownOp, used.op.span, message, "neither in this build nor shipped");
            let mut shipped: Vec<&str> = shipped_ops().collect();
            shipped.sort_unstable();
            let own = ops.iter().map(|(_, spec)| spec.op.as_str());
            out.push(match did_you_mean(name, own.chain(shipped.iter().copied())) {
                Some(word) => d.help(format!("did you mean `{word}`?")).suggest(used.op.span, word),
                None => d.help(format!("the shipped ops are {}", shipped.join(", "))),
            });
        }
    }
    ops.sort_by_key(|(at, _)| *at);
    ops.into_iter().map(|(_, spec)| spec).collect()
}

/// An instance of a name that is taken is an error.
fn distinct(earlier: &[InstanceSpec], instance: &InstanceSpec, out: &mut Diagnostics) {
    if let Some(first) = earlier.iter().find(|i| *i.name == *instance.name) {
        let message = format!("two instances are named `{}`", instance.name.value);
        let d = Diagnostic::error(Code::Duplicate, instance.name.span, message, "again here");
        out.push(d.label(first.name.span, "first here"));
    }
}
