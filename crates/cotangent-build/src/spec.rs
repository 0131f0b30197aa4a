//! File text to [`Spec`].
//!
//! Takes a YAML file, gives the declarations in it with the bytes they came from, and all errors at once. What holds
//! after it: every key is known, every required key is there, every name is well formed and every text that a later
//! stage reads as a formula maps byte by byte into the file. This is the only stage that knows YAML; it knows nothing
//! of formulas.

use crate::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use crate::source::{At, SourceId, Sources, Span, shipped_ops};
use crate::types::{DType, Domain, InstanceSpec, Layout, Numbers};
use crate::words::is_keyword;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use std::collections::HashMap;
use std::fmt;
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
        Formula { text: text.to_owned(), source, map: identity(text, start), at: start }
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

const KEYS: [&str; 16] = [
    "op",
    "program",
    "use",
    "doc",
    "params",
    "inputs",
    "outputs",
    "sizes",
    "domain",
    "forward",
    "adjoint",
    "tangent",
    "wrt",
    "checkpoint",
    "functions",
    "instances",
];
/// The keys that only a program has.
const PROGRAM_KEYS: [&str; 3] = ["wrt", "checkpoint", "functions"];
/// The keys of a file that uses an op.
const USE_KEYS: [&str; 2] = ["use", "instances"];
/// Words of the formula language that no tensor, parameter or index may take.
const FORMULA_WORDS: [&str; 11] = ["and", "or", "not", "in", "sum", "prod", "mean", "max", "min", "pi", "inf"];

/// Why a lower-case name cannot be one, and what to write; `reserved`: it is used in formulas too.
pub(crate) fn misnamed(name: &str, reserved: bool) -> Option<(&'static str, String)> {
    let form = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'));
    if !form {
        Some(("lower-case letters, digits and `_`, a letter first", format!("for example `{}`", repaired(name))))
    } else if is_keyword(name) {
        Some(("a keyword of Rust", format!("for example `{name}_`")))
    } else if reserved && FORMULA_WORDS.contains(&name) {
        Some(("a word of the formula language", format!("for example `{name}_`")))
    } else if reserved && (name.ends_with("_bar") || name.ends_with("_dot")) {
        let stem = &name[..name.len() - 4];
        Some(("`_bar` and `_dot` mark cotangents and tangents", format!("for example `{stem}`")))
    } else {
        None
    }
}

/// Largest file that is read, in bytes: far above any spec, far below what strains the parser.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Most instances of an op in a file.
const MAX_INSTANCES: usize = 1000;
/// Deepest nesting of YAML that is read. A spec needs 4.
const MAX_DEPTH: usize = 32;

/// Reads a file. Errors go to `out`. `None` when the file is not YAML or a declaration that later stages need could not
/// be read, so that they would only report what follows from that.
pub fn declaration(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Declaration> {
    let root = read(source, sources, out)?;
    let mut decoder = Decoder { sources, out, broken: false };
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

// ---- YAML to a tree with byte spans ----

/// What serde sees of a node. A scalar that YAML would type (`3`, `true`, nothing) has no text here: its text is what
/// stands in the file.
enum Shape {
    Scalar(Option<String>),
    List(Vec<Spanned<Shape>>),
    Map(Vec<(Spanned<Shape>, Spanned<Shape>)>),
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a mapping")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Scalar(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar(Some(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Shape::Map(map))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

/// A YAML node and the bytes it came from.
struct Node {
    kind: Kind,
    span: Span,
}

enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

struct Scalar {
    text: String,
    /// As in [`Formula`].
    map: Vec<(u32, u32)>,
    /// Unquoted and on one line, so that it may be a number.
    plain: bool,
}

impl Node {
    /// What it is, for messages.
    fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(s) if s.plain && is_null(&s.text) => "nothing",
            Kind::Scalar(s) if s.plain && number(&s.text).is_some() => "a number",
            Kind::Scalar(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    fn is_nothing(&self) -> bool {
        self.noun() == "nothing"
    }

    /// The value of a key, if this is a mapping that has it.
    fn key(&self, name: &str) -> Option<&Node> {
        let Kind::Map(map) = &self.kind else { return None };
        let named = |key: &Node| matches!(&key.kind, Kind::Scalar(s) if s.text == name);
        map.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Parses the YAML and gives its tree.
fn read(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Node> {
    let text = sources.text(source);
    let start = Span { source, start: 0, end: 0 };
    if text.len() > MAX_BYTES {
        out.push(too_large(source));
        return None;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_anchors: 0,
            max_aliases: 0,
            max_documents: 1,
            max_depth: MAX_DEPTH,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Shape>>(text, options) {
        Ok(root) => {
            let root = node(source, text, root);
            if root.is_nothing() {
                out.push(
                    Diagnostic::error(Code::Yaml, start, "the file is empty", "nothing declared")
                        .help("a spec begins with `op: name`"),
                );
                return None;
            }
            Some(root)
        }
        Err(error) => {
            out.push(yaml_error(source, sources, &error));
            None
        }
    }
}

/// Said of a file of more than [`MAX_BYTES`].
pub(crate) fn too_large(source: SourceId) -> Diagnostic {
    let message = format!("the file is too large: a spec has at most {MAX_BYTES} bytes");
    Diagnostic::error(Code::TooLarge, Span { source, start: 0, end: 0 }, message, "of this file")
}

fn yaml_error(source: SourceId, sources: &Sources, error: &serde_saphyr::Error) -> Diagnostic {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;

    let place = error.location().map_or((1, 1), |l| (l.line(), l.column()));
    let mut span = sources.place(source, place.0 as usize, place.1 as usize);
    let (message, label) = match error.without_snippet() {
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. } => {
                // The reader names the value that the anchor `&a` stands before.
                let before = &sources.text(source)[..span.start as usize];
                let line = before.rfind('\n').map_or(0, |at| at + 1);
                if let Some(at) = before[line..].rfind('&').filter(|_| !sources.snippet(span).starts_with('*')) {
                    span.end = span.start;
                    span.start = (line + at) as u32;
                    span.end -= (before.len() - before.trim_end().len()) as u32;
                }
                ("anchors and aliases are not part of the spec language".to_owned(), "write the value out".to_owned())
            }
            BudgetBreach::Documents { .. } => {
                ("one file holds one spec".to_owned(), "a second document begins here".to_owned())
            }
            BudgetBreach::Depth { .. } => {
                ("the YAML is nested too deeply".to_owned(), format!("more than {MAX_DEPTH} levels"))
            }
            _ => ("the YAML is too large".to_owned(), "up to here is too much".to_owned()),
        },
        other => {
            let text = other.to_string();
            let text = text.split(" at line ").next().unwrap_or("").trim();
            let text = text.lines().next().unwrap_or("").to_owned();
            (format!("not valid YAML: {text}"), String::new())
        }
    };
    let text = sources.text(source);
    // The reader stumbles only after such an interval, often lines below: the interval is what to show.
    for (n, line) in text.lines().enumerate() {
        if let Some((start, end)) = half_open_interval(line) {
            let column = line[..start].chars().count() + 1;
            let at = sources.place(source, n + 1, column);
            let interval = &line[start..end];
            let at = Span { end: at.start + interval.len() as u32, ..at };
            let message = "not valid YAML: an interval whose brackets differ";
            return Diagnostic::error(Code::Yaml, at, message, "YAML reads these brackets as lists")
                .help(format!("quote it: `\"{interval}\"`"))
                .suggest(at, format!("\"{interval}\""));
        }
    }
    let message_of_mapping = message.contains("mapping values");
    let mut diagnostic = Diagnostic::error(Code::Yaml, span, message, label);
    let line = text.lines().nth((place.0 as usize).saturating_sub(1)).unwrap_or("");
    let item = line.trim_start();
    if line.starts_with('\t') || line.trim_start_matches(' ').starts_with('\t') {
        diagnostic = diagnostic.help("indent with spaces: YAML allows no tabs there");
    } else if ["forward:", "adjoint:", "tangent:"].iter().any(|key| item.starts_with(key) && item.contains('[')) {
        diagnostic = diagnostic.help("formulas stand one on a line, each after `- `");
    } else if item.starts_with("- ") && item.contains(": ") && item.contains('=') {
        diagnostic = diagnostic.help("quote a formula in which `: ` stands");
    } else if let Some(at) = text_with_colon(line) {
        let text = &line[at.clone()];
        let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let from = sources.place(source, place.0 as usize, line[..at.start].chars().count() + 1);
        let whole = Span { end: from.start + text.len() as u32, ..from };
        diagnostic = diagnostic.help(format!("quote text in which `: ` stands: `{quoted}`")).suggest(whole, quoted);
    } else if message_of_mapping && item.contains(": ") {
        diagnostic = diagnostic.help("text of several lines in which `: ` stands begins with `|` behind its key");
    }
    diagnostic
}

/// The bytes of a line at which the unquoted text of a key has a `: ` of its own.
fn text_with_colon(line: &str) -> Option<std::ops::Range<usize>> {
    let (key, rest) = line.split_once(": ")?;
    let named = key.trim_start().trim_start_matches("- ");
    let plain = !rest.trim_start().starts_with(['"', '\'', '[', '{', '|', '>', '&', '*', '!', '#']);
    let start = line.len() - rest.trim_start().len();
    let text = line[start..].split(" #").next()?.trim_end();
    let key = !named.is_empty() && named.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (key && plain && text.contains(": ")).then_some(start..start + text.len())
}

/// The bytes of a line at which an unquoted `[0, inf)` or, inside a flow mapping, `(-1, 1]` stands.
fn half_open_interval(line: &str) -> Option<(usize, usize)> {
    for (start, open) in line.match_indices(['[', '(']) {
        let quoted = line[..start].ends_with(['"', '\'']);
        let Some(len) = line[start + 1..].find(['[', '(', ']', ')']) else {
            continue;
        };
        let end = start + 1 + len + 1;
        let mixed = (open == "[") != line[..end].ends_with(']');
        // A plain scalar may begin with `(`; in braces its `]` closes what nothing opened.
        let stumbles = open == "[" || line[..start].contains(['{', '[']);
        if mixed && stumbles && !quoted && interval(&line[start..end]).is_some() {
            return Some((start, end));
        }
    }
    None
}

/// Gives the tree its spans. The YAML reader gives exact bytes for scalars, first bytes for lists and mappings.
fn node(source: SourceId, text: &str, raw: Spanned<Shape>) -> Node {
    let place = raw.referenced.span();
    let start = (place.byte_offset().unwrap_or(0) as usize).min(text.len());
    let start = text.floor_char_boundary(start);
    let len = place.byte_len().unwrap_or(0) as usize;
    let end = text.ceil_char_boundary((start + len).min(text.len()));
    let span = |start: usize, end: usize| Span { source, start: start as u32, end: end as u32 };
    match raw.value {
        Shape::Scalar(read) => {
            let (scalar, end) = scalar(read, &text[start..end], start as u32);
            Node { kind: Kind::Scalar(scalar), span: span(start, end as usize) }
        }
        Shape::List(items) => {
            let items: Vec<Node> = items.into_iter().map(|item| node(source, text, item)).collect();
            let inner = items.first().zip(items.last());
            let inner = inner.map(|(a, b)| (a.span.start as usize, b.span.end as usize));
            let (start, end) = extent(text, start, '[', ']', inner);
            Node { kind: Kind::List(items), span: span(start, end) }
        }
        Shape::Map(entries) => {
            let entries: Vec<(Node, Node)> =
                entries.into_iter().map(|(k, v)| (node(source, text, k), node(source, text, v))).collect();
            let inner = entries.first().zip(entries.last());
            let inner = inner.map(|((a, _), (_, b))| (a.span.start as usize, b.span.end as usize));
            let (start, end) = extent(text, start, '{', '}', inner);
            Node { kind: Kind::Map(entries), span: span(start, end) }
        }
    }
}

/// First and last byte of a list or mapping: its brackets in flow style, its first and last part in block style.
fn extent(text: &str, start: usize, open: char, close: char, inner: Option<(usize, usize)>) -> (usize, usize) {
    if !text[start..].starts_with(open) {
        return inner.map_or((start, start), |(from, to)| (from, to.max(from)));
    }
    let after = inner.map_or(start + 1, |(_, to)| to.max(start + 1));
    let mut comment = false;
    for (at, c) in text[after..].char_indices() {
        match c {
            '\n' => comment = false,
            _ if comment => {}
            '#' => comment = true,
            c if c == close => return (start, after + at + 1),
            c if c.is_whitespace() || c == ',' => {}
            _ => break,
        }
    }
    (start, after)
}

/// A scalar from the text that YAML read (none for a typed one) and its bytes in the file; also the end of its span.
fn scalar(read: Option<String>, raw: &str, start: u32) -> (Scalar, u32) {
    let end = start + raw.len() as u32;
    if !raw.contains('\n') && !raw.starts_with(['"', '\'']) {
        // A plain scalar is what stands there. A canonical spelling (`.inf` of `1e999`) is not what was written.
        if read.as_deref().is_none_or(|read| !read.ends_with('\n')) {
            let scalar = Scalar { text: raw.to_owned(), map: identity(raw, start), plain: true };
            return (scalar, end);
        }
    }
    let text = read.unwrap_or_else(|| raw.to_owned());
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''));
    let quoted = quote.and_then(|_| align(&text, raw, start, quote));
    let trimmed = start + raw.trim_end().len() as u32;
    let (map, end) = match quoted {
        Some(map) => (map, end),
        None => {
            let whole = || vec![(start, trimmed); text.len()];
            let map = align(&text, raw, start, None).unwrap_or_else(whole);
            (map, trimmed)
        }
    };
    let scalar = Scalar { text, map, plain: false };
    (scalar, end)
}

fn identity(text: &str, start: u32) -> Vec<(u32, u32)> {
    let mut map = Vec::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let from = start + at as u32;
        map.extend(std::iter::repeat_n((from, from + c.len_utf8() as u32), c.len_utf8()));
    }
    map
}

/// Finds each character of a scalar's text in its bytes. YAML only folds white space and, in quotes, reads escapes;
/// everything else stands in the same order. `None` if the text does not fit the bytes in this style.
fn align(text: &str, raw: &str, base: u32, quote: Option<char>) -> Option<Vec<(u32, u32)>> {
    let mut map = Vec::with_capacity(text.len());
    let mut at = usize::from(quote.is_some());
    for c in text.chars() {
        let (from, to) = loop {
            let rest = &raw[at..];
            let next = rest.chars().next();
            if quote == Some('"') && next == Some('\\') {
                let (read, len) = escape(rest)?;
                if read.is_none() {
                    at += len;
                    continue;
                }
                if read != Some(c) {
                    return None;
                }
                break (at, at + len);
            }
            match next {
                Some(n) if n.is_whitespace() && c.is_whitespace() => break (at, at + n.len_utf8()),
                Some(n) if n.is_whitespace() => at += n.len_utf8(),
                _ if c.is_whitespace() => break (at, at),
                Some('\'') if quote == Some('\'') && c == '\'' => {
                    if !rest.starts_with("''") {
                        return None;
                    }
                    break (at, at + 2);
                }
                Some(n) if n == c && quote != Some(c) => break (at, at + n.len_utf8()),
                _ => return None,
            }
        };
        let place = (base + from as u32, base + to as u32);
        map.extend(std::iter::repeat_n(place, c.len_utf8()));
        at = to;
    }
    let rest = raw[at..].trim_start();
    let closed = match quote {
        Some(quote) => rest.chars().eq([quote]),
        None => rest.is_empty(),
    };
    closed.then_some(map)
}

/// A double-quoted escape at the start of `rest`: its character (none for a line break) and its length in bytes.
fn escape(rest: &str) -> Option<(Option<char>, usize)> {
    let kind = rest[1..].chars().next()?;
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        '\n' | '\r' => {
            let after = rest[1..].trim_start();
            return Some((None, rest.len() - after.len()));
        }
        _ => 0,
    };
    if digits > 0 {
        let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
        return Some((Some(char::from_u32(code)?), 2 + digits));
    }
    let read = match kind {
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        't' | '\t' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        other => other,
    };
    Some((Some(read), 1 + kind.len_utf8()))
}

// ---- tree to Spec ----

struct Decoder<'a> {
    sources: &'a Sources,
    out: &'a mut Diagnostics,
    /// Whether something was dropped that later stages would miss.
    broken: bool,
}

/// The entries of a mapping, in order, with keys as texts.
type Entries = Vec<(At<String>, Node)>;

impl Decoder<'_> {
    fn error(&mut self, d: Diagnostic) {
        self.out.push(d);
    }

    fn wrong_type(&mut self, what: &str, expected: &str, found: &Node) -> Diagnostic {
        self.broken = true;
        let message = format!("expected {expected} for {what}, found {}", found.noun());
        Diagnostic::error(Code::WrongType, found.span, message, format!("expected {expected}"))
    }

    /// The entries of a mapping; keys that stand twice are reported and dropped.
    fn entries(&mut self, what: &str, help: &str, node: Node) -> Option<Entries> {
        let Kind::Map(map) = node.kind else {
            let d = self.wrong_type(what, "a mapping", &node).help(help);
            self.error(d);
            return None;
        };
        let mut entries = Entries::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        for (key, value) in map {
            let span = key.span;
            let Kind::Scalar(Scalar { text, .. }) = key.kind else {
                let d = self.wrong_type("a key", "a name", &key);
                self.error(d);
                continue;
            };
            if let Some(&first) = seen.get(&text) {
                self.error(
                    Diagnostic::error(
                        Code::Yaml,
                        span,
                        format!("the key `{text}` stands twice in {what}"),
                        "again here",
                    )
                    .label(first, "first here"),
                );
                self.broken = true;
                continue;
            }
            seen.insert(text.clone(), span);
            entries.push((At::new(text, span), value));
        }
        Some(entries)
    }

    fn list(&mut self, what: &str, help: &str, node: Node) -> Option<At<Vec<Node>>> {
        let span = node.span;
        match node.kind {
            Kind::List(items) => Some(At::new(items, span)),
            _ => {
                let d = self.wrong_type(what, "a list", &node).help(help);
                self.error(d);
                None
            }
        }
    }

    fn text(&mut self, what: &str, expected: &str, node: Node) -> Option<At<String>> {
        if node.is_nothing() || !matches!(node.kind, Kind::Scalar(_)) {
            let d = self.wrong_type(what, expected, &node);
            self.error(d);
            return None;
        }
        match node.kind {
            Kind::Scalar(s) => Some(At::new(s.text, node.span)),
            _ => None,
        }
    }

    fn formula(&mut self, what: &str, node: Node) -> Option<Formula> {
        let span = node.span;
        let scalar = match node.kind {
            Kind::Scalar(s) if !(s.text.trim().is_empty() || s.plain && is_null(&s.text)) => s,
            _ => {
                let d = self.wrong_type(what, "a formula", &node);
                let d = match node.kind {
                    Kind::Map(_) => d.help("YAML reads `: ` as a mapping: quote the formula"),
                    Kind::List(_) => d.help("one formula after each `- `"),
                    Kind::Scalar(_) => d,
                };
                self.error(d);
                return None;
            }
        };
        let from = scalar.text.len() - scalar.text.trim_start().len();
        let text = scalar.text.trim().to_owned();
        let map = scalar.map[from..from + text.len()].to_vec();
        Some(Formula { text, source: span.source, map, at: span.start })
    }

    fn formulas(&mut self, key: &str, node: Node) -> Option<At<Vec<Formula>>> {
        let what = format!("`{key}`");
        let help = "write one formula a line, each after `- `";
        let list = self.list(&what, help, node)?;
        let what = format!("a step of `{key}`");
        let formulas = list.value.into_iter().filter_map(|item| self.formula(&what, item)).collect();
        Some(At::new(formulas, list.span))
    }

    fn names(&mut self, what: &str, help: &str, node: Node) -> Option<At<Vec<At<String>>>> {
        let list = self.list(what, help, node)?;
        let names = list.value.into_iter().filter_map(|item| self.text(what, "a name", item)).collect();
        Some(At::new(names, list.span))
    }

    fn bad_name(&mut self, name: &At<String>, kind: &str, why: String, help: String) {
        // Formulas that use the name would only repeat the complaint.
        self.broken |= !matches!(kind, "an op" | "an instance");
        self.error(
            Diagnostic::error(
                Code::BadName,
                name.span,
                format!("`{}` cannot name {kind}", name.value.escape_debug()),
                why,
            )
            .help(help),
        );
    }

    /// Checks a lower-case name; `reserved`: it is used in formulas too.
    fn lower_name(&mut self, name: &At<String>, kind: &str, reserved: bool) {
        if let Some((why, help)) = misnamed(name, reserved) {
            self.bad_name(name, kind, why.to_owned(), help);
        }
    }

    fn axis_name(&mut self, name: &At<String>) {
        let form =
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric());
        let index = name.to_ascii_lowercase();
        if !form {
            let why = "a capital letter, then letters and digits".to_owned();
            let repaired: String = repaired(name)
                .split('_')
                .filter_map(|part| {
                    let first = part.chars().next()?;
                    Some(first.to_ascii_uppercase().to_string() + &part[first.len_utf8()..])
                })
                .collect();
            let help = if !name.is_empty() && name.chars().all(|c| c.is_ascii_digit()) {
                format!(
                    "give the axis a name, for example `{repaired}`, and the number as its size: `sizes: {{{repaired}: {}}}`",
                    name.value
                )
            } else {
                format!("for example `{repaired}`; its index is the same in lower case")
            };
            self.bad_name(name, "an axis", why, help);
        } else if FORMULA_WORDS.contains(&index.as_str()) {
            let why = format!("its index would be `{index}`, a word of the formula language");
            self.bad_name(name, "an axis", why, format!("for example `{}0`", name.value));
        }
    }

    fn spec(&mut self, source: SourceId, root: Node) -> Option<Spec> {
        let help = "a spec is a mapping that begins with `op: name`";
        let entries = self.entries("a spec", help, root)?;
        let start = entries.first().map_or(Span { source, start: 0, end: 0 }, |(key, _)| key.span);
        let mut op = None;
        let mut op_span = start;
        let mut doc = None;
        let mut params = Vec::new();
        let mut inputs = None;
        let mut outputs = None;
        let mut sizes = Vec::new();
        let mut domain = Vec::new();
        let mut forward = None;
        let mut adjoint = Adjoint::Derived;
        let mut tangent = None;
        let mut instances = None;
        let mut program = entries.iter().any(|(key, _)| key.as_str() == "program").then(ProgramSpec::default);
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in entries {
            seen.push(key.value.clone());
            match key.as_str() {
                head @ ("op" | "program") => {
                    if op.is_some() {
                        let message = "a spec declares an op or a program, not both";
                        let d = Diagnostic::error(Code::Duplicate, key.span, message, "the second");
                        self.error(d.label(op_span, "the first").help("leave one of them out"));
                    }
                    op_span = key.span.to(value.span);
                    op = self.text(&format!("`{head}`"), "a name", value);
                    seen.push("op".into());
                }
                word if PROGRAM_KEYS.contains(&word) && program.is_none() => {
                    let message = format!("an op has no key `{word}`");
                    let d = Diagnostic::error(Code::UnknownKey, key.span, message, "only a program has it");
                    self.error(d.help("begin the spec with `program: name` instead of `op: name`"));
                }
                "wrt" => {
                    let names = self.names("`wrt`", "the inputs to derive by: `wrt: [w, b]`", value);
                    program.as_mut().expect("a program has it").wrt = names;
                }
                "functions" => {
                    let names = self.names("`functions`", "their names: `functions: [forward, value_and_grad]`", value);
                    program.as_mut().expect("a program has it").functions = names;
                }
                "checkpoint" => {
                    let help = "a local and what becomes of it: `checkpoint: {h: recompute}`";
                    for (local, how) in self.entries("`checkpoint`", help, value).unwrap_or_default() {
                        let Some(how) = self.text(&format!("`{}`", local.value), "`save` or `recompute`", how) else {
                            continue;
                        };
                        program.as_mut().expect("a program has it").checkpoint.push((local, how));
                    }
                }
                "doc" => doc = self.text("`doc`", "a text", value),
                "params" => params = self.params(value),
                "inputs" => inputs = self.tensors(&key, value),
                "outputs" => outputs = self.tensors(&key, value),
                "sizes" => sizes = self.sizes(value),
                "domain" => domain = self.domains(value),
                "forward" => forward = self.steps(&key, value),
                "adjoint" | "tangent" if program.is_some() && !is_derived(&value) => {
                    let message = format!("a program has no `{}` of its own", key.value);
                    let d = Diagnostic::error(Code::BadProgram, key.span, message, "its rules are derived");
                    self.error(d.help("leave it out, or declare the rule in an op that the program calls"));
                }
                "adjoint" if is_derived(&value) => {}
                "adjoint" => {
                    if let Some(steps) = self.formulas("adjoint", value) {
                        adjoint = Adjoint::Declared(steps);
                    }
                }
                "tangent" if is_derived(&value) => {}
                "tangent" => tangent = self.formulas("tangent", value).map(|steps| steps.value),
                "instances" => instances = self.instances(value),
                _ => {
                    let slip = did_you_mean(&key, KEYS);
                    self.unknown_key(&key, "a spec", &KEYS);
                    // What is misspelt is not missing too.
                    self.broken |= slip.is_some();
                    seen.extend(slip);
                }
            }
        }
        for (name, example) in [
            ("op", "op: matmul"),
            ("inputs", "inputs: {x: [I, J]}"),
            ("outputs", "outputs: {y: [I]}"),
            ("forward", "forward:\n  - y[i] = sum(j) x[i,j]"),
            ("instances", "instances: []"),
        ] {
            if !seen.iter().any(|key| key == name) {
                self.broken |= name != "instances";
                self.error(
                    Diagnostic::error(
                        Code::MissingKey,
                        op_span,
                        format!("the key `{name}` is missing"),
                        "this spec needs it",
                    )
                    .help(format!("for example:\n{example}")),
                );
            }
        }
        if let Some(op) = &op {
            self.op_name(source, op);
        }
        let spec = Spec {
            source,
            op: op?,
            doc,
            params,
            inputs: inputs?,
            outputs: outputs?,
            sizes,
            domain,
            forward: forward?,
            adjoint,
            tangent,
            program,
            instances: instances.unwrap_or_default(),
            span: op_span,
        };
        self.names_differ(&spec);
        self.axes_differ(&spec);
        (!self.broken).then_some(spec)
    }

    fn used(&mut self, root: Node) -> Option<Use> {
        let entries = self.entries("a spec", "", root)?;
        let (mut op, mut span, mut instances) = (None, None, None);
        for (key, value) in entries {
            match key.as_str() {
                "use" => {
                    span = Some(key.span.to(value.span));
                    op = self.text("`use`", "the name of an op", value);
                }
                "instances" => instances = Some(self.instances(value)),
                other if KEYS.contains(&other) => {
                    self.broken = true;
                    let message = format!("a spec with `use` has no key `{other}`");
                    let label = "comes from the op that is used";
                    let help =
                        "leave it out: a spec with `use` states instances alone; one that declares an op has no `use`";
                    self.error(Diagnostic::error(Code::UnknownKey, key.span, message, label).help(help));
                }
                _ => {
                    // What is misspelt is not missing too.
                    self.broken |= did_you_mean(&key, USE_KEYS).is_some();
                    self.unknown_key(&key, "a spec with `use`", &USE_KEYS);
                }
            }
        }
        if instances.is_none()
            && !self.broken
            && let Some(span) = span
        {
            let message = "the key `instances` is missing";
            let d = Diagnostic::error(Code::MissingKey, span, message, "no kernel is asked for");
            self.error(d.help("for example:\ninstances:\n  - {name: small, I: 8}"));
            return None;
        }
        (!self.broken).then_some(Use { op: op?, instances: instances?? })
    }

    fn unknown_key(&mut self, key: &At<String>, what: &str, known: &[&str]) {
        let d = Diagnostic::error(
            Code::UnknownKey,
            key.span,
            format!("{what} has no key `{}`", key.value.escape_debug()),
            "unknown key",
        );
        let d = match did_you_mean(&key.value, known.iter().copied()) {
            Some(word) => d.help(format!("did you mean `{word}`?")).suggest(key.span, word),
            None => d.help(format!("the keys are {}", known.join(", "))),
        };
        self.error(d);
    }

    fn op_name(&mut self, source: SourceId, op: &At<String>) {
        self.lower_name(op, "an op", false);
        let path = Path::new(self.sources.path(source));
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        if stem != op.value {
            let help = format!("rename the file to `{}.yaml`, or write `op: {stem}`", op.value);
            self.error(
                Diagnostic::error(
                    Code::BadName,
                    op.span,
                    format!("the op `{}` is in a file named `{stem}`", op.value),
                    "an op and its file have one name",
                )
                .help(help),
            );
        }
    }

    /// A number where the kind of a parameter stands: it is a value, which instances state.
    fn value_for_kind(&mut self, name: &At<String>, value: &Node) -> bool {
        let Kind::Scalar(scalar) = &value.kind else { return false };
        let text = scalar.text.trim();
        let Ok(number) = text.parse::<f64>() else { return false };
        let kind = if number.fract() == 0.0 && !text.contains(['.', 'e', 'E']) { "`int` or `real`" } else { "`real`" };
        self.broken = true;
        let message = format!("the parameter `{}` is declared by its kind, not by a value", name.value.escape_debug());
        let help = format!(
            "here stands its kind, {kind}, and in each entry of `instances` `{}: {}`; a number that never changes may stand in the formula itself",
            name.value.escape_debug(),
            text.escape_debug()
        );
        self.error(Diagnostic::error(Code::WrongType, value.span, message, "a value").help(help));
        true
    }

    fn params(&mut self, node: Node) -> Vec<(At<String>, At<String>)> {
        let help = "for example `params: {stride: S}`: one number per dimension of S";
        let Some(entries) = self.entries("`params`", help, node) else {
            return Vec::new();
        };
        let mut params = Vec::new();
        for (name, value) in entries {
            self.lower_name(&name, "a parameter", true);
            if self.value_for_kind(&name, &value) {
                continue;
            }
            let what = format!("the parameter `{}`", name.value);
            if let Some(axis) = self.text(&what, "an axis, `int` or `real`", value) {
                if !matches!(axis.as_str(), "int" | "real") {
                    self.axis_name(&axis);
                }
                params.push((name, axis));
            }
        }
        params
    }

    fn tensors(&mut self, key: &At<String>, node: Node) -> Option<Vec<TensorDecl>> {
        let what = format!("`{}`", key.value);
        let help = format!("for example `{}: {{x: [I, J]}}`", key.value);
        let span = node.span;
        let entries = self.entries(&what, &help, node)?;
        if entries.is_empty() {
            let message = format!("{what} declares no tensor");
            let d = Diagnostic::error(Code::MissingKey, key.span.to(span), message, "at least one");
            self.error(d.help(help));
            return None;
        }
        let mut tensors = Vec::new();
        for (name, value) in entries {
            self.lower_name(&name, "a tensor", true);
            let what = format!("the axes of `{}`", name.value);
            if let Kind::Scalar(s) = &value.kind
                && !value.is_nothing()
            {
                let list = format!("[{}]", s.text.trim());
                let d = self.wrong_type(&what, "a list", &value).help(format!("write `{}: {list}`", name.value));
                self.error(d.suggest(value.span, list));
                continue;
            }
            let help = format!("a scalar has no axes: write `{}: []`", name.value);
            let Some(items) = self.list(&what, &help, value) else {
                continue;
            };
            let mut axes = Vec::new();
            for item in items.value {
                if let Some(axis) = self.text("an axis", "a name", item) {
                    self.axis_name(&axis);
                    axes.push(axis);
                }
            }
            tensors.push(TensorDecl { name, axes });
        }
        Some(tensors)
    }

    fn sizes(&mut self, node: Node) -> Vec<(At<String>, Formula)> {
        let help = "for example `sizes: {O: S + lo + hi}`";
        let Some(entries) = self.entries("`sizes`", help, node) else {
            return Vec::new();
        };
        let mut sizes = Vec::new();
        for (axis, value) in entries {
            self.axis_name(&axis);
            let what = format!("the size of `{}`", axis.value);
            if let Some(formula) = self.formula(&what, value) {
                sizes.push((axis, formula));
            }
        }
        sizes
    }

    fn domains(&mut self, node: Node) -> Vec<(At<String>, At<Domain>)> {
        let help = "for example `domain: {x: \"(0, inf)\"}`";
        let Some(entries) = self.entries("`domain`", help, self.rejoined(node)) else {
            return Vec::new();
        };
        let mut domains = Vec::new();
        for (name, value) in entries {
            let span = value.span;
            let read = match &value.kind {
                Kind::Scalar(s) => interval(&s.text),
                Kind::List(items) => match items.as_slice() {
                    [lo, hi] => bound_of(lo).zip(bound_of(hi)).map(|(lo, hi)| Domain {
                        lo,
                        lo_closed: true,
                        hi,
                        hi_closed: true,
                    }),
                    _ => None,
                },
                Kind::Map(_) => None,
            };
            let Some(domain) = read else {
                let message = format!("the domain of `{}` is not an interval", name.value);
                let label = "expected two bounds in brackets";
                let help = "for example `(0, inf)`, `\"[0, inf)\"`, `(-1, 1]` or `[-1, 1]`";
                self.error(Diagnostic::error(Code::BadDomain, span, message, label).help(help));
                continue;
            };
            let point = domain.lo == domain.hi && domain.lo_closed && domain.hi_closed;
            if !(domain.lo < domain.hi || point) {
                let message = format!("the domain of `{}` is empty", name.value);
                let label = "the lower bound is not below the upper";
                self.error(Diagnostic::error(Code::BadDomain, span, message, label));
                continue;
            }
            if domain.lo_closed && domain.lo.is_infinite() || domain.hi_closed && domain.hi.is_infinite() {
                let message = format!("the domain of `{}` includes infinity", name.value);
                let help = "write `(` or `)` at an infinite end";
                let label = "an infinite end is open";
                self.error(Diagnostic::error(Code::BadDomain, span, message, label).help(help));
                continue;
            }
            domains.push((name, At::new(domain, span)));
        }
        domains
    }

    /// Inside `{..}` YAML splits `x: (0, inf)` at the comma, into `x: (0` and a key `inf)` without value. Joins them.
    fn rejoined(&self, node: Node) -> Node {
        let Kind::Map(map) = node.kind else {
            return node;
        };
        let mut joined: Vec<(Node, Node)> = Vec::new();
        for (key, value) in map {
            if let (Kind::Scalar(tail), Some((_, last))) = (&key.kind, joined.last_mut())
                && value.is_nothing()
                && tail.plain
                && tail.text.ends_with(')')
                && let Kind::Scalar(head) = &mut last.kind
                && head.plain
                && head.text.starts_with('(')
            {
                last.span = last.span.to(key.span);
                head.text = self.sources.snippet(last.span).to_owned();
                head.map = identity(&head.text, last.span.start);
            } else {
                joined.push((key, value));
            }
        }
        Node { kind: Kind::Map(joined), span: node.span }
    }

    fn steps(&mut self, key: &At<String>, node: Node) -> Option<Vec<Formula>> {
        let empty = matches!(&node.kind, Kind::List(items) if items.is_empty());
        if empty {
            let message = format!("`{}` has no step", key.value);
            let span = key.span.to(node.span);
            let d = Diagnostic::error(Code::MissingKey, span, message, "at least one");
            self.error(d.help("for example:\nforward:\n  - y[i] = 2 * x[i]"));
            return None;
        }
        self.formulas(&key.value, node).map(|steps| steps.value)
    }

    fn instances(&mut self, node: Node) -> Option<Vec<InstanceSpec>> {
        let help = "for example `- {name: small, I: 8, J: [2, 3]}`, or `instances: []`";
        let items = self.list("`instances`", help, node)?;
        let mut instances: Vec<InstanceSpec> = Vec::new();
        if let Some(item) = items.value.get(MAX_INSTANCES) {
            let message = format!("there are too many instances: {}", items.value.len());
            let label = format!("from here on more than {MAX_INSTANCES}");
            self.error(Diagnostic::error(Code::TooLarge, item.span, message, label));
            return None;
        }
        for item in items.value {
            let Some(instance) = self.instance(help, item) else {
                continue;
            };
            distinct(&instances, &instance, self.out);
            instances.push(instance);
        }
        Some(instances)
    }

    fn instance(&mut self, help: &str, node: Node) -> Option<InstanceSpec> {
        let span = node.span;
        let entries = self.entries("an instance", help, node)?;
        let mut name = None;
        let mut named = false;
        let mut dtype = None;
        let mut values = Vec::new();
        let mut layout = Vec::new();
        let mut schedule = Vec::new();
        let mut functions = None;
        for (key, value) in entries {
            match key.as_str() {
                "name" => {
                    named = true;
                    name = self.text("the name of an instance", "a name", value);
                }
                "dtype" => {
                    let Some(word) = self.text("`dtype`", &DType::choice("`"), value) else {
                        continue;
                    };
                    match word.parse() {
                        Ok(known) => dtype = Some(known),
                        Err(_) => {
                            let message = format!("there is no scalar type `{}`", word.value);
                            let label = format!("expected {}", DType::choice("`"));
                            self.error(Diagnostic::error(Code::WrongType, word.span, message, label));
                        }
                    }
                }
                "layout" => layout = self.layout(value),
                "schedule" => schedule = self.schedule(value),
                "functions" => {
                    functions = self.names("`functions`", "their names: `functions: [forward, vjp_x]`", value);
                }
                _ => {
                    if let Some(numbers) = self.numbers(&key, value) {
                        values.push((key, numbers));
                    }
                }
            }
        }
        let Some(name) = name else {
            if !named {
                self.broken = true;
                let message = "an instance has no name";
                let d = Diagnostic::error(Code::MissingKey, span, message, "`name:` is missing");
                self.error(d.help("for example `name: small`: it names the kernel's module"));
            }
            return None;
        };
        self.lower_name(&name, "an instance", false);
        Some(InstanceSpec { name, dtype, values, layout, functions, schedule, span })
    }

    fn schedule(&mut self, node: Node) -> Vec<(At<String>, At<String>)> {
        let help = "for example `schedule: {forward: \"lanes k 2x8, rows i 6\"}`";
        let entries = self.entries("`schedule`", help, node).unwrap_or_default();
        let mut out = Vec::new();
        for (function, value) in entries {
            let what = format!("the schedule of `{}`", function.value);
            out.extend(
                self.text(&what, "a schedule as `cotangent show` prints it", value).map(|text| (function, text)),
            );
        }
        out
    }

    fn layout(&mut self, node: Node) -> Vec<Layout> {
        let help = "for example `layout: {x: [N, Cx, S.0, S.1]}`";
        let Some(entries) = self.entries("`layout`", help, node) else {
            return Vec::new();
        };
        let mut layout = Vec::new();
        for (tensor, value) in entries {
            let what = format!("the layout of `{}`", tensor.value);
            let Some(items) = self.list(&what, help, value) else {
                continue;
            };
            let mut dims = Vec::new();
            for item in items.value {
                dims.extend(self.text("a dimension of a layout", "an axis or `S.0`", item));
            }
            layout.push((tensor, At::new(dims, items.span)));
        }
        layout
    }

    fn numbers(&mut self, key: &At<String>, node: Node) -> Option<At<Numbers>> {
        let what = format!("`{}`", key.value.escape_debug());
        let expected = "a number or a list of numbers";
        let span = node.span;
        let (items, list) = match node.kind {
            Kind::List(items) => (items, true),
            _ => (vec![node], false),
        };
        let mut values = Vec::new();
        for item in items {
            match bound_of(&item) {
                Some(value) => values.push(At::new(value, item.span)),
                None => {
                    let d = self.wrong_type(&what, expected, &item);
                    self.error(d);
                    return None;
                }
            }
        }
        Some(At::new(Numbers { values, list }, span))
    }

    /// Tensors and parameters share one set of names.
    fn names_differ(&mut self, spec: &Spec) {
        let inputs = spec.inputs.iter().map(|t| ("an input", &t.name));
        let outputs = spec.outputs.iter().map(|t| ("an output", &t.name));
        let params = spec.params.iter().map(|(name, _)| ("a parameter", name));
        let mut seen: HashMap<&str, (&str, Span)> = HashMap::new();
        for (kind, name) in inputs.chain(outputs).chain(params) {
            let Some((first, span)) = seen.insert(&name.value, (kind, name.span)) else {
                continue;
            };
            self.broken = true;
            self.error(
                Diagnostic::error(
                    Code::Duplicate,
                    name.span,
                    format!("`{}` is declared twice", name.value),
                    format!("{kind} here"),
                )
                .label(span, format!("{first} here")),
            );
        }
    }

    /// The index of an axis is its lower-case name, so axes may not differ in case alone.
    fn axes_differ(&mut self, spec: &Spec) {
        let tensors = spec.inputs.iter().chain(&spec.outputs);
        let axes = tensors.flat_map(|t| &t.axes).chain(spec.sizes.iter().map(|(axis, _)| axis));
        let mut seen: HashMap<String, &At<String>> = HashMap::new();
        let mut told: Vec<&str> = Vec::new();
        for axis in axes {
            let index = axis.to_ascii_lowercase();
            let first = *seen.entry(index.clone()).or_insert(axis);
            if first.value == axis.value || told.contains(&axis.as_str()) {
                continue;
            }
            told.push(axis);
            self.broken = true;
            self.error(
                Diagnostic::error(
                    Code::Duplicate,
                    axis.span,
                    format!("the axes `{}` and `{}` have one index", first.value, axis.value),
                    format!("its index is `{index}`"),
                )
                .label(first.span, format!("its index is `{index}` too")),
            );
        }
    }
}

/// `derived`.
fn is_derived(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(s) if s.text == "derived")
}

/// A name near `name` that has the right form.
fn repaired(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(40) {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    let out = out.trim_end_matches('_');
    if out.starts_with(|c: char| c.is_ascii_lowercase()) { out.to_owned() } else { format!("x{out}") }
}

/// The number that a plain scalar is.
fn bound_of(node: &Node) -> Option<f64> {
    match &node.kind {
        Kind::Scalar(s) if s.plain => number(&s.text),
        _ => None,
    }
}

/// A decimal number, or `inf` with an optional sign and dot. Not a NaN, nor one that is finite but too large.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(digits, "inf" | ".inf" | ".Inf" | ".INF") {
        return Some(sign * f64::INFINITY);
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    value.is_finite().then_some(sign * value)
}

/// `(lo, hi]` and the like.
fn interval(text: &str) -> Option<Domain> {
    let text = text.trim();
    let (lo_closed, rest) = match text.strip_prefix('(') {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix('[')?),
    };
    let (hi_closed, rest) = match rest.strip_suffix(')') {
        Some(rest) => (false, rest),
        None => (true, rest.strip_suffix(']')?),
    };
    let (lo, hi) = rest.split_once(',')?;
    Some(Domain { lo: number(lo)?, lo_closed, hi: number(hi)?, hi_closed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax;

    const CONV: &str = "\
op: conv
doc: >-
  Cross-correlation
  with stride.
params: {stride: S, lo: S, eps: real}
inputs:
  x: [N, S, Cx]
  k: [T, Cx, Cy]
outputs:
  y: [N, O, Cy]
sizes:
  O: (S + lo - T) / stride + 1
domain: {x: (0, inf), k: [-1, 1]}
forward:
  - y[n,o,cy] = sum(t,cx) x[n, o*stride + t - lo, cx] * k[t,cx,cy]
adjoint:
  - x_bar[n,s,cx] += y_bar[n,s,cy]   # a comment
instances:
  - {name: conv3x3, N: 1, S: [28, 28], T: [3, 3], Cx: 1, Cy: 8, stride: 2, lo: 1, eps: 1e-5, layout: {x: [N, Cx, S.0, S.1]}}
  - name: empty
    dtype: f64
    S: []
";

    /// The spec, and what was reported.
    fn read(path: &str, text: &str) -> (Option<Spec>, String, Sources) {
        let mut sources = Sources::default();
        let id = sources.add(path, text.to_owned());
        let mut out = Diagnostics::default();
        let spec = parse(id, &sources, &mut out);
        let text = out.render(&sources);
        (spec, text, sources)
    }

    fn good(path: &str, text: &str) -> (Spec, Sources) {
        let (spec, errors, sources) = read(path, text);
        assert_eq!(errors, "");
        (spec.expect("a spec"), sources)
    }

    #[test]
    fn reads_every_key_in_order() {
        let (spec, sources) = good("ops/conv.yaml", CONV);
        assert_eq!(spec.op.as_str(), "conv");
        assert_eq!(sources.snippet(spec.span), "op: conv");
        assert_eq!(spec.doc.map(|d| d.value).as_deref(), Some("Cross-correlation with stride."));
        let params: Vec<_> = spec.params.iter().map(|(p, a)| (p.as_str(), a.as_str())).collect();
        assert_eq!(params, [("stride", "S"), ("lo", "S"), ("eps", "real")]);
        assert_eq!(spec.inputs[1].name.as_str(), "k");
        assert_eq!(sources.snippet(spec.inputs[1].axes[2].span), "Cy");
        assert_eq!(spec.sizes[0].1.text, "(S + lo - T) / stride + 1");
        let (name, domain) = &spec.domain[0];
        assert_eq!((name.as_str(), sources.snippet(domain.span)), ("x", "(0, inf)"));
        assert_eq!((domain.lo, domain.lo_closed, domain.hi, domain.hi_closed), (0.0, false, f64::INFINITY, false));
        let domain = spec.domain[1].1.value;
        assert_eq!((domain.lo, domain.lo_closed, domain.hi, domain.hi_closed), (-1.0, true, 1.0, true));
        let Adjoint::Declared(rules) = &spec.adjoint else {
            panic!("declared");
        };
        assert_eq!(rules[0].text, "x_bar[n,s,cx] += y_bar[n,s,cy]");
        let [conv, empty] = spec.instances.as_slice() else {
            panic!("two instances");
        };
        assert!(sources.snippet(conv.span).starts_with("{name: conv3x3"));
        assert!(sources.snippet(conv.span).ends_with("S.1]}}"));
        let (key, size) = &conv.values[1];
        let sizes: Vec<f64> = size.values.iter().map(|n| n.value).collect();
        assert_eq!((key.as_str(), size.list, sizes), ("S", true, vec![28.0, 28.0]));
        assert_eq!(sources.snippet(size.span), "[28, 28]");
        assert_eq!((conv.values[0].1.list, conv.values[7].1.values[0].value), (false, 1e-5));
        let dims: Vec<&str> = conv.layout[0].1.iter().map(|d| d.as_str()).collect();
        assert_eq!(dims, ["N", "Cx", "S.0", "S.1"]);
        assert_eq!((conv.dtype, empty.dtype), (None, Some(DType::F64)));
        assert!(empty.values[0].1.list && empty.values[0].1.values.is_empty());
        assert_eq!(spec.tangent, None);
    }

    #[test]
    fn keys_that_yaml_1_1_would_type_are_names() {
        let text = "op: y\ninputs: {n: [N], y: [No, On], no: [], on: []}\noutputs: {null: [Y], off: []}\nadjoint: derived\nforward: [y]\ninstances: [{name: n, N: 3, Y: 1}]\n";
        let (spec, _) = good("y.yaml", text);
        let names = |list: &[TensorDecl]| -> Vec<String> { list.iter().map(|t| t.name.value.clone()).collect() };
        assert_eq!(names(&spec.inputs), ["n", "y", "no", "on"]);
        assert_eq!(names(&spec.outputs), ["null", "off"]);
        assert_eq!(spec.instances[0].values[1].0.as_str(), "Y");
        assert_eq!(spec.adjoint, Adjoint::Derived);
    }

    #[test]
    fn every_byte_of_a_formula_is_found_in_the_file() {
        let head = "op: f\ninputs: {x: [I]}\noutputs: {y: [I]}\ninstances: []\nforward:\n";
        let step = "y[i] = éx[i] + it's + \"zz\" * x[i]";
        for scalar in [
            "  - y[i] = éx[i] + it's + \"zz\" * x[i] # comment\n",
            "  - y[i] =\n     éx[i]  + it's\n\n     + \"zz\" *\n     x[i]\n",
            "  - 'y[i] = éx[i] + it''s\n     + \"zz\" * x[i]'\n",
            "  - \"y[i] = \\u00e9x[i] \\\n     + it's + \\\"zz\\\"\\t*\n     x[i]\"\n",
            "  - |\n    y[i] = éx[i]\n       + it's + \"zz\"\n     * x[i]\n",
            "  - >-\n\n    y[i] = éx[i]\n    + it's + \"zz\"\n\n    * x[i]\n\n",
            "  - |2-\n      y[i] = éx[i] + it's\r\n      + \"zz\" * x[i]",
            "  - >+\r\n    y[i] = éx[i] +\r\n    it's + \"zz\" * x[i]\r\n",
        ] {
            let (spec, sources) = good("f.yaml", &format!("{head}{scalar}"));
            let f = &spec.forward[0];
            let words = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words(&f.text), step, "{scalar}");
            for (at, c) in f.text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
                let place = sources.snippet(f.span(at, at + c.len_utf8()));
                let read = match place {
                    "''" => "'",
                    "\\\"" => "\"",
                    "\\u00e9" => "é",
                    plain => plain,
                };
                assert_eq!(read, c.to_string(), "{scalar}");
            }
            let end = f.text.len();
            let x = f.text.rfind('x').expect("x");
            assert_eq!(sources.snippet(f.span(x, end)), "x[i]", "{scalar}");
            assert!(sources.snippet(f.whole()).starts_with("y[i]"));
            assert!(sources.snippet(f.whole()).ends_with("x[i]"));
            assert_eq!(sources.snippet(f.span(end, end)), "");
            assert_eq!(f.span(end, end).start, f.whole().end);
        }
    }

    #[test]
    fn block_scalars_that_look_quoted_keep_their_quotes() {
        let text = "op: f\ndoc: |\n  \"a\"\ninputs: {x: []}\noutputs: {y: []}\nforward:\n  - \"y = 1\"\n  - '3'\ninstances: []\n";
        let (spec, _) = good("f.yaml", text);
        assert_eq!(spec.doc.map(|d| d.value).as_deref(), Some("\"a\"\n"));
        assert_eq!(spec.forward[1].text, "3");
    }

    #[test]
    fn all_errors_come_at_once() {
        let text = "\
op: con
params: {self: s, p: [S]}
input: {x: [N]}
inputs:
  x: N
  w_bar: [N, n]
  Z: []
  sum: [Sum]
  x: [N]
  e:
outputs: {w: [N], x: [2]}
domain: {x: (1, 0), w: nowhere, e: [0], q: \"[0, inf]\"}
forward:
  - a: b
  -
  - [y]
adjoint: y[i] = x[i]
instances:
  - {name: a, N: x, dtype: f61}
  - {name: a, name: b}
  - {N: 1}
  - {name: fn, layout: [N]}
  - {name: q, N: \"3\", M: 1e999, K: .nan}
  - 3
";
        let (spec, errors, _) = read("conv.yaml", text);
        assert_eq!(spec, None);
        for part in [
            "error[E005]: the op `con` is in a file named `conv`",
            "rename the file to `con.yaml`, or write `op: conv`",
            "error[E005]: `self` cannot name a parameter",
            "error[E005]: `s` cannot name an axis",
            "error[E004]: expected an axis, `int` or `real` for the parameter `p`, found a list",
            "error[E002]: a spec has no key `input`",
            "did you mean `inputs`?",
            "error[E004]: expected a list for the axes of `x`, found a text",
            "write `x: [N]`",
            "`_bar` and `_dot` mark cotangents and tangents",
            "error[E005]: `Z` cannot name a tensor",
            "error[E005]: `sum` cannot name a tensor",
            "its index would be `sum`",
            "error[E001]: the key `x` stands twice in `inputs`",
            "write `e: []`",
            "error[E005]: `2` cannot name an axis",
            "error[E028]: the domain of `x` is empty",
            "error[E028]: the domain of `w` is not an interval",
            "error[E028]: the domain of `e` is not an interval",
            "error[E028]: the domain of `q` includes infinity",
            "YAML reads `: ` as a mapping: quote the formula",
            "expected a formula for a step of `forward`, found nothing",
            "expected a formula for a step of `forward`, found a list",
            "expected a list for `adjoint`, found a text",
            "for `N`, found a text",
            "there is no scalar type `f61`",
            "the key `name` stands twice in an instance",
            "error[E006]: two instances are named `a`",
            "error[E003]: an instance has no name",
            "error[E005]: `fn` cannot name an instance",
            "expected a mapping for `layout`, found a list",
            "for `M`, found a text",
            "expected a mapping for an instance, found a number",
        ] {
            assert!(errors.contains(part), "{part} is not in\n{errors}");
        }
    }

    #[test]
    fn missing_keys_and_clashing_names() {
        let (spec, errors, _) = read("a.yaml", "doc: nothing else\n");
        assert_eq!(spec, None);
        for key in ["op", "inputs", "outputs", "forward", "instances"] {
            assert!(errors.contains(&format!("error[E003]: the key `{key}` is missing")));
        }
        let text = "op: a\nparams: {y: I}\ninputs: {x: [Cx]}\noutputs: {y: [CX], x: []}\nsizes: {cX: 1}\nforward: [a]\ninstances: []\n";
        let (_, errors, _) = read("a.yaml", text);
        for part in [
            "error[E006]: `x` is declared twice",
            "error[E006]: `y` is declared twice",
            "an output here",
            "error[E006]: the axes `Cx` and `CX` have one index",
            "error[E005]: `cX` cannot name an axis",
        ] {
            assert!(errors.contains(part), "{part} is not in\n{errors}");
        }
        let text = "op: a\ninputs: {}\noutputs: {y: []}\nforward: []\ninstances: []\n";
        let (spec, errors, _) = read("a.yaml", text);
        assert_eq!((spec, errors.matches("error[E003]").count()), (None, 2));
    }

    #[test]
    fn hostile_yaml_is_reported() {
        let deep = "op: ".to_owned() + &"[".repeat(40) + &"]".repeat(40) + "\n";
        let blocks: String = (0..50).map(|n| " ".repeat(n) + "a:\n").collect();
        for (text, part) in [
            ("", "the file is empty"),
            ("# nothing\n", "the file is empty"),
            ("\u{feff}", "the file is empty"),
            ("- a\n- b\n", "expected a mapping for a spec, found a list"),
            ("text", "expected a mapping for a spec, found a text"),
            ("op: a\n\tdoc: b\n", "error[E001]"),
            ("op:\n\t- a\n", "YAML allows no tabs there"),
            ("op: &x a\ndoc: *x\n", "anchors and aliases are not part"),
            ("op: *x\n", "error[E001]"),
            ("op: a\n---\nop: b\n", "one file holds one spec"),
            ("op: !secret a\n", "error[E001]"),
            ("<<: {op: a}\n", "a spec has no key `<<`"),
            ("op: [a, b\ndoc: c\n", "error[E001]: not valid YAML"),
            ("op: a: b\n", "error[E001]: not valid YAML"),
            ("op: \"a\n", "error[E001]: not valid YAML"),
            ("op: a\0b\n", "error[E001]"),
            ("? [a]\n: b\n", "expected a name for a key, found a list"),
            ("? {a: b}\n: b\n", "expected a name for a key, found a mapping"),
            ("forward: [y[i] = x[i]]\n", "formulas stand one on a line"),
            ("domain:\n  x: [0, inf)\nop: a\n", "quote it: `\"[0, inf)\"`"),
            ("domain: {x: (-1, 1]}\n", "quote it: `\"(-1, 1]\"`"),
            (&deep, "nested too deeply"),
            (&blocks, "nested too deeply"),
            (&"[".repeat(200_000), "error[E001]"),
            (&"{a: ".repeat(100_000), "error[E001]"),
            (&"- ".repeat(100_000), "error[E001]"),
            (&"a".repeat(2_000_000), "error[E044]: the file is too large"),
            (&("op: ".to_owned() + &"a".repeat(500_000)), "error[E005]"),
        ] {
            let (spec, errors, _) = read("a.yaml", text);
            let head: String = text.chars().take(60).collect();
            assert_eq!(spec, None, "{head}");
            assert!(errors.contains(part), "{head}: {part} is not in\n{errors:.2000}");
        }
    }

    #[test]
    fn byte_order_mark_and_crlf_are_read() {
        let text = "\u{feff}".to_owned() + &CONV.replace('\n', "\r\n");
        let (spec, sources) = good("conv.yaml", &text);
        assert_eq!(sources.snippet(spec.op.span), "conv");
        assert_eq!(sources.line_column(spec.forward[0].whole()), (15, 5));
        let (_, errors, _) = read("a.yaml", "\u{feff}op: a: b\r\n");
        assert!(errors.contains("a.yaml:1:"), "{errors}");
    }

    #[test]
    fn half_open_domains_outside_braces_need_no_quotes() {
        let text = CONV.replace("{x: (0, inf), k: [-1, 1]}", "\n  x: (-1, 1]\n  k: '[0, inf)'");
        let (spec, _) = good("conv.yaml", &text);
        let ends = |n: usize| (spec.domain[n].1.lo_closed, spec.domain[n].1.hi_closed);
        assert_eq!((ends(0), ends(1)), ((false, true), (true, false)));
    }

    /// No file, however damaged, makes the front end panic.
    #[test]
    fn damaged_files_are_survived() {
        let pieces = [
            "\"", "'", "[", "]", "{", "}", ":", ": ", "\n", "\n  ", "- ", "#", " #", "|", ">", "&a", "*a", "!", "\t",
            "\r", "é", "\u{feff}", "\0", "(", ")", ",", "1e999", "\\", "%", "@", "---\n", "? ", "~", "<<", "\u{2028}",
            "\u{85}",
        ];
        let mut state = 1_u64;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % sides
        };
        for _ in 0..3000 {
            let mut text = CONV.to_owned();
            for _ in 0..=roll(4) {
                let at = text.floor_char_boundary(roll(text.len() + 1));
                let end = text.ceil_char_boundary((at + roll(6)).min(text.len()));
                text.replace_range(at..end, pieces[roll(pieces.len())]);
            }
            let mut sources = Sources::default();
            let id = sources.add("conv.yaml", text);
            let mut out = Diagnostics::default();
            let spec = parse(id, &sources, &mut out);
            assert!(spec.is_some() || out.has_errors());
            for f in spec.iter().flat_map(|spec| &spec.forward) {
                syntax::step(f, &mut out);
            }
            let _ = out.render(&sources);
        }
    }
}
