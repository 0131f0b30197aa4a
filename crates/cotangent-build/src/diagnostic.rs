//! What is wrong in a spec, and how it is said.
//!
//! Takes diagnostics from all stages, gives one text in the style of rustc. What holds after it: errors are collected,
//! each has one stable [`Code`] with an explanation, and the text is the same whatever the order in which they came.

use crate::source::{self, SourceId, Sources, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// Built all the same.
    Warning,
}

/// A place that a diagnostic underlines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What to say there; may be empty.
    pub text: String,
    /// The place the diagnostic is about, as against one that explains it.
    pub primary: bool,
}

/// What a help would have written in the spec. The help itself says it to the reader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suggestion {
    /// What is replaced; empty where the text is inserted.
    pub span: Span,
    /// By what.
    pub text: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Which kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// One line.
    pub message: String,
    /// The first is primary.
    pub labels: Vec<Label>,
    /// Facts, after the source.
    pub notes: Vec<String>,
    /// What to write instead.
    pub helps: Vec<String>,
    /// The edits that the helps name, each for itself: whoever applies one to the letter is rid of this finding.
    pub suggestions: Vec<Suggestion>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: Code, span: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: vec![Label { span, text: label.into(), primary: true }],
            notes: Vec::new(),
            helps: Vec::new(),
            suggestions: Vec::new(),
        }
    }

    /// An error that has no place in a spec.
    pub fn general(code: Code, message: impl Into<String>) -> Self {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
            suggestions: Vec::new(),
        }
    }

    /// A warning at `span`.
    pub fn warning(code: Code, span: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(code, span, message, label) }
    }

    /// Adds a place that explains.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: false });
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.helps.push(text.into());
        self
    }

    /// Adds an edit that a help names. Of several a user chooses one.
    #[must_use]
    pub fn suggest(mut self, span: Span, text: impl Into<String>) -> Self {
        self.suggestions.push(Suggestion { span, text: text.into() });
        self
    }

    /// Adds "did you mean" for a name, with the edit, when a candidate is near; else says which there are.
    #[must_use]
    pub fn did_you_mean(self, word: &str, span: Span, candidates: &[&str], what: &str) -> Self {
        match did_you_mean(word, candidates.iter().copied()) {
            Some(m) => self.help(format!("did you mean `{m}`?")).suggest(span, m),
            None => {
                let all: Vec<_> = candidates.iter().map(|n| format!("`{n}`")).collect();
                match all.as_slice() {
                    [] => self.help(format!("there are no {what}")),
                    _ => self.help(format!("the {what} are {}", all.join(", "))),
                }
            }
        }
    }

    /// File and byte by which diagnostics are sorted.
    fn place(&self) -> Option<(SourceId, u32)> {
        let label = self.labels.iter().find(|l| l.primary);
        let label = label.or_else(|| self.labels.first())?;
        Some((label.span.source, label.span.start))
    }

    /// The diagnostic as text, without a line break at its end.
    fn render(&self, sources: &Sources) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level
            .primary_title(visible(&self.message))
            .id(self.code.as_str())
            .elements(Vec::<Snippet<annotate_snippets::Annotation>>::new());
        let mut files: Vec<SourceId> = self.place().map(|(id, _)| id).into_iter().collect();
        for label in &self.labels {
            if !files.contains(&label.span.source) {
                files.push(label.span.source);
            }
        }
        for file in files {
            // A file that could not be read has no line to show.
            if sources.text(file).is_empty() {
                group = group.element(Origin::path(sources.path(file)));
                continue;
            }
            for labels in near(self.labels.iter().filter(|l| l.span.source == file), sources) {
                let spans: Vec<Range<usize>> = labels.iter().map(|l| sources.range(l.span)).collect();
                // Only the lines around: a file may be large, and findings many.
                let (lines, first) = sources.lines_around(file, &spans);
                let snippet =
                    Snippet::source(&sources.text(file)[lines.clone()]).path(sources.path(file)).line_start(first);
                let annotations = labels.iter().zip(spans).map(|(label, span)| {
                    let kind = match label.primary {
                        true => AnnotationKind::Primary,
                        false => AnnotationKind::Context,
                    };
                    let text = (!label.text.is_empty()).then(|| visible(&label.text));
                    kind.span(span.start - lines.start..span.end - lines.start).label(text)
                });
                group = group.element(snippet.annotations(annotations));
            }
        }
        for note in &self.notes {
            group = group.element(Level::NOTE.message(visible(note)));
        }
        let mut report = vec![group];
        for help in &self.helps {
            report.push(Group::with_title(Level::HELP.secondary_title(visible(help))));
        }
        Renderer::plain().render(&report)
    }
}

/// Labels that are shown with what stands between them, in parts that are not: the first has the first label, what else
/// is far from it follows.
fn near<'a>(labels: impl Iterator<Item = &'a Label>, sources: &Sources) -> Vec<Vec<&'a Label>> {
    let mut parts: Vec<(usize, Vec<&Label>)> = Vec::new();
    for label in labels {
        let line = sources.line(label.span);
        match parts.iter_mut().find(|(of, _)| of.abs_diff(line) <= FAR) {
            Some((_, part)) => part.push(label),
            None => parts.push((line, vec![label])),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Characters of a line of a message beyond which it is cut: a name may be as long as its file.
const MOST_CHARACTERS: usize = 2000;

/// Lines between two labels beyond which they are shown as if of two files.
const FAR: usize = 500;

/// Findings beyond this number are counted, not printed.
pub const MOST_SHOWN: usize = 100;

/// The text with control characters made visible, line breaks kept: a spec may quote anything.
fn visible(text: &str) -> String {
    let line = |line: &str| match line.char_indices().nth(MOST_CHARACTERS) {
        Some((at, _)) => source::visible(&normalize_untrusted_str(&line[..at])) + " ...",
        None => source::visible(&normalize_untrusted_str(line)),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// All findings of a build.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    seen: HashSet<Diagnostic>,
    /// Number of different errors.
    errors: usize,
}

impl Diagnostics {
    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert(diagnostic.clone()) {
            self.errors += usize::from(diagnostic.severity == Severity::Error);
            self.list.push(diagnostic);
        }
    }

    /// Adds several.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics.into_iter().for_each(|d| self.push(d));
    }

    /// Whether there is neither error nor warning.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the build must fail.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Number of different errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// In the order they came, each once.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// By file and place.
    fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.list.iter().collect();
        sorted.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.place(), d.code);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        sorted
    }

    /// The text of all, sorted by file and place, an empty line between two. Of more than [`MOST_SHOWN`] the first are
    /// shown, errors before warnings, and the others counted.
    #[must_use]
    pub fn render(&self, sources: &Sources) -> String {
        let mut shown = self.sorted();
        let mut more = String::new();
        if shown.len() > MOST_SHOWN {
            let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
            let errors = self.errors.min(MOST_SHOWN);
            let mut left = [errors, MOST_SHOWN - errors];
            shown.retain(|d| {
                let left = &mut left[usize::from(!is_error(d))];
                let keep = *left > 0;
                *left -= usize::from(keep);
                keep
            });
            let (errors, all) = (self.errors - errors, self.list.len() - MOST_SHOWN);
            let count = |n: usize, what: &str| match n {
                0 => None,
                1 => Some(format!("1 more {what}")),
                n => Some(format!("{n} more {what}s")),
            };
            let counts: Vec<_> =
                [count(errors, "error"), count(all - errors, "warning")].into_iter().flatten().collect();
            more = format!("\nnot shown: {}\n", counts.join(", "));
        }
        let mut out = String::new();
        for diagnostic in shown {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(diagnostic.render(sources).trim_end());
            out.push('\n');
        }
        out + &more
    }
}

/// Errors and warnings of a build, with the texts that they point into. Displayed, each finding stands above its lines
/// of source.
#[deny(missing_docs)]
#[derive(Debug, Default)]
pub struct Report {
    diagnostics: Diagnostics,
    sources: Sources,
}

#[deny(missing_docs)]
impl Report {
    /// Findings in these texts.
    #[doc(hidden)]
    #[must_use]
    pub fn new(diagnostics: Diagnostics, sources: Sources) -> Self {
        Report { diagnostics, sources }
    }

    /// A single error without a place.
    #[doc(hidden)]
    #[must_use]
    pub fn general(code: Code, message: impl Into<String>) -> Self {
        let mut diagnostics = Diagnostics::default();
        diagnostics.push(Diagnostic::general(code, message));
        Report::new(diagnostics, Sources::default())
    }

    /// The number of errors. Other findings are warnings.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.errors()
    }

    /// The findings, one by one.
    #[doc(hidden)]
    #[must_use]
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }

    /// The texts that their spans are of.
    #[doc(hidden)]
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}

/// Every finding with its lines of source, as [`Diagnostics::render`].
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostics.render(&self.sources))
    }
}

impl std::error::Error for Report {}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

/// The candidate nearest to a word by edit distance, if it is near enough to be a slip: one edit in three letters. Of a
/// word of one letter, only what begins with it: any other letter is one edit away.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A word longer than any name would only cost time.
    if word.is_empty() || word.len() > 100 {
        return None;
    }
    let limit = word.chars().count().max(3) / 3;
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| {
            let exact = strsim::damerau_levenshtein(word, candidate);
            // A slip of case alone is the nearest of all.
            let case = word.eq_ignore_ascii_case(candidate);
            (if case { 0 } else { exact }, candidate)
        })
        .filter(|(distance, candidate)| {
            *distance <= limit && (*distance < word.chars().count() || candidate.starts_with(word))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// No diagnostic has this code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCode(pub String);

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = Code::ALL[Code::ALL.len() - 1];
        write!(f, "there is no code `{}`; codes run from E001 to {}", self.0, last.as_str())
    }
}

impl std::error::Error for UnknownCode {}

macro_rules! codes {
    ($($variant:ident $code:literal $title:literal $explanation:literal)*) => {
        /// The kinds of findings. Codes are stable: a number never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// `E001` and so on.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// A few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// A few sentences, with a wrong and a right example.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Code::$variant => $explanation,)* }
            }
        }
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// Reads `E012`, in either case.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let code = Code::ALL.iter().find(|c| c.as_str().eq_ignore_ascii_case(text));
        code.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

codes! {
Yaml "E001" "the file is not YAML, or a key stands twice"
"A spec is one YAML 1.2 document without anchors, aliases and tags. In a mapping every key stands once: \
the second would silently win over the first.

Wrong:
    inputs:
      x: [I]
      x: [J]
Right:
    inputs:
      x: [I]
      y: [J]

An interval whose brackets differ is not YAML unless quoted: `domain: {x: \"[0, inf)\"}`."

UnknownKey "E002" "a key that the spec language does not have"
"The keys of a spec are op, doc, params, inputs, outputs, sizes, domain, forward, adjoint, tangent and instances; \
beside `use` stands instances alone. \
A key that is not known would be ignored, and what it says with it.

Wrong:
    input: {x: [I]}
Right:
    inputs: {x: [I]}"

MissingKey "E003" "a required key is missing"
"A spec has at least op, inputs, outputs, forward and instances; inputs, outputs and forward are not empty. \
An instance has a name. Where no kernel is wanted, say so with an empty list.

Wrong:
    op: exp
    inputs: {x: [I]}
    forward:
      - y[i] = exp(x[i])
Right:
    op: exp
    inputs: {x: [I]}
    outputs: {y: [I]}
    forward:
      - y[i] = exp(x[i])
    instances: []"

WrongType "E004" "a value of the wrong kind"
"Each key takes one kind of value: a text, a number, a list or a mapping. Axes are a list, also when there is one \
or none; steps are a list of formulas, each after `- `. A formula in which `: ` stands must be quoted.

Wrong:
    inputs: {x: I}
    forward: y[i] = x[i]
Right:
    inputs: {x: [I]}
    forward:
      - y[i] = x[i]"

BadName "E005" "a name of the wrong form"
"Ops, tensors, locals, parameters and instances are named with lower-case letters, digits and `_`, a letter first; they \
become names in Rust, so no keyword of Rust. Axes begin with a capital letter and have no `_`. Words of the \
formula language (sum, max, pi, ...) name no tensor, and `_bar` and `_dot` end no tensor's name. \
An op has the name of its file.

Wrong:
    inputs: {X: [rows], in: [rows]}
Right:
    inputs: {x: [Rows], u: [Rows]}"

Duplicate "E006" "two things of the same name"
"Inputs, outputs, parameters and locals share one set of names; so do the instances of an op. The index of an axis \
is its name in lower case, so two axes may not differ in case alone. In a C header the names of op and instance join \
by `_`: the instance `b_c` of an op `a` and `c` of `a_b` are one there.

Wrong:
    inputs: {x: [Cx, CX]}
    outputs: {x: [Cx]}
Right:
    inputs: {x: [Cx, Cy]}
    outputs: {y: [Cx]}"

Syntax "E007" "a formula that cannot be read"
"One error is reported for each formula, at the first place that does not fit. A step is `target[i,j] = value` or `target[i,j] += value`. Products are written with `*`, powers with `^`, \
conditions with `and`, `or`, `not`; comparisons and powers do not chain. A reduction names its indices: `sum(j)`.

Wrong:
    - y[i] = 2 x[i]**2
Right:
    - y[i] = 2 * x[i]^2"

UnknownName "E008" "a name that nothing declares"
"A formula may read inputs, outputs and locals of earlier steps, parameters, and axes as their sizes. The adjoint \
may also read the cotangents of outputs (`y_bar`) and its own locals, the tangent the tangents of inputs (`x_dot`). \
A size under `sizes:` may name axes that the instance gives, and parameters. Functions have one name each.

Wrong:
    inputs: {x: [I]}
    forward:
      - y[i] = w * x[i]
Right:
    inputs: {x: [I], w: []}
    forward:
      - y[i] = w * x[i]"

UnknownIndex "E009" "an index that belongs to no axis"
"The index of an axis is the axis' whole name in lower case: `i` of `I`, `cx` of `Cx`. The name in capitals is its \
size, one more than the last index. A second index of an axis is bound with `in`.

Wrong:
    inputs: {x: [Cx]}
    forward:
      - y = sum(c) x[c]
Right:
    inputs: {x: [Cx]}
    forward:
      - y = sum(cx) x[cx]"

UnknownAxis "E010" "an axis that nothing declares"
"Axes are declared by the inputs and outputs that have them, and by `sizes:`, where a step iterates over them \
(the window of a pooling). `k in I` and `params:` may name only those; a size is derived from sizes that the instance \
gives, not from derived ones.

Wrong:
    inputs: {x: [I]}
    forward:
      - y[i] = sum(k in J) x[i - k]
Right:
    inputs: {x: [I]}
    forward:
      - y[i] = sum(k in I) x[i - k]"

UnboundIndex "E011" "an index that stands on the right alone"
"An index on the right stands on the left too, or under a reduction. There is no silent summation: say over what. \
A reduction extends over products, not over `+`: `sum(j) a[j] + b[j]` ends before the `+`.

Wrong:
    - z[i] = x[i,j] * y[j]
Right:
    - z[i] = sum(j) x[i,j] * y[j]"

Arity "E012" "a wrong number of indices or arguments"
"An access has one position for each axis of its tensor, a function its fixed number of arguments. \
A tensor without axes is written without brackets.

Wrong (x is [I, J]):
    - y[i] = sum(j) pow(x[i])
Right:
    - y[i] = sum(j) pow(x[i,j], 2)"

NotAffine "E013" "an index expression that is not affine"
"A position of an access is a sum of indices, numbers, parameters and sizes; an index may be multiplied or divided \
by what is constant, not by another index, and no tensor element may stand in it. So every access is known when \
the kernel is built. A local has the axes of its indices, so it is first written over plain ones; \
a size is made of sizes, whole numbers and parameters with `+ - * /`.

Wrong:
    - y[i] = x[i * i]
Right:
    - y[i] = x[i * stride]"

RankMismatch "E014" "groups of different rank in one expression"
"An axis is a group of dimensions, and index arithmetic is per dimension. All groups in one index expression, \
the parameters in it included, have the same number of dimensions.

Wrong:
    instances: [{name: a, S: [28, 28], T: [3]}]      # x[s + t]
Right:
    instances: [{name: a, S: [28, 28], T: [3, 3]}]"

BadDivision "E015" "a division that an index cannot have"
"In an index `p / d` is exact division: where it does not divide, the read is zero. `d` is a whole number above \
zero: a literal, a parameter or a size, not an index. Under `sizes:` the division rounds down.

Wrong:
    - y[i] = x[rate / i]
Right:
    - y[i] = x[i / rate]"

AssignMode "E016" "a target that cannot be written so, or not here"
"A cotangent is a sum over all uses of its tensor, so an adjoint rule adds: `x_bar[i] += ...`. \
A step of forward writes outputs and locals, an adjoint rule the cotangents of inputs and locals, a tangent rule the \
tangents of outputs and locals; none of them writes an input or a parameter.

Wrong:
    adjoint:
      - x_bar[i] = y_bar[i]
Right:
    adjoint:
      - x_bar[i] += y_bar[i]"

DoubleWrite "E017" "an element that is written twice"
"A step with `=` writes each element at most once, and none that another step has written: steps that write one tensor \
name their elements by different numbers (`y[0] = ...`, `y[1] = ...`). Where several values belong \
to one element, add them with `+=` or reduce them. Affine targets (`y[i*step + t]`) are tried at small shapes and at the \
sizes of each instance.

Wrong:
    - y[i] = x[i]
    - y[i] = 2 * x[i]
Right:
    - h[i] = x[i]
    - y[i] = 2 * h[i]"

ReadBeforeWrite "E018" "a tensor that is read before it is written"
"Steps run in the order they are written. A step reads what earlier steps have written, not what later ones will, \
and not its own target. Where steps write elements by number, each element may be read once it is written.

Wrong:
    - y[i] = e[i] * 2
    - e[i] = exp(x[i])
Right:
    - e[i] = exp(x[i])
    - y[i] = e[i] * 2"

NeverWritten "E019" "an output that no step writes"
"Every output is written by a step of forward. An output that should be zero is set to zero.

Wrong:
    outputs: {y: [I], z: [I]}
    forward:
      - y[i] = x[i]
Right:
    outputs: {y: [I], z: [I]}
    forward:
      - y[i] = x[i]
      - z[i] = 2 * x[i]"

NotLinear "E020" "a rule that is not linear"
"A derivative is a linear map. An adjoint rule is linear in the cotangents, a tangent rule in the tangents: every \
term has exactly one of them as a factor, and none stands in another factor, a denominator, a condition or a reduction \
other than a sum.

Wrong:
    - x_bar[i] += y_bar[i] * y_bar[i]
Right:
    - x_bar[i] += y_bar[i] * y[i]"

WrongAdjoint "E021" "an adjoint that is not the transpose of the derivative"
"The declared adjoint is compared with the one derived from forward, and they differ. The message shows a small \
shape and an element at which they do, both values, and the derived rule. At a tie or a kink, where forward has no \
derivative, the declared rule is the convention: there it lies between the values around the point, \
and shares out as much as they do.

Wrong:
    forward: [\"z[i] = x[i] * y[i]\"]
    adjoint: [\"x_bar[i] += z_bar[i]\", \"y_bar[i] += x[i] * z_bar[i]\"]
Right:
    forward: [\"z[i] = x[i] * y[i]\"]
    adjoint: [\"x_bar[i] += y[i] * z_bar[i]\", \"y_bar[i] += x[i] * z_bar[i]\"]"

WrongTangent "E022" "a tangent that is not the derivative"
"The declared tangent is compared with the one derived from forward, and they differ; or, at a tie or a kink, it \
follows another convention than the declared adjoint. Leave the key out to have it derived.

Wrong:
    forward: [\"y[i] = sin(x[i])\"]
    tangent: [\"y_dot[i] = -cos(x[i]) * x_dot[i]\"]
Right:
    forward: [\"y[i] = sin(x[i])\"]
    tangent: [\"y_dot[i] = cos(x[i]) * x_dot[i]\"]"

MissingSize "E023" "an axis or parameter without a value"
"An instance gives a size to every axis that `sizes:` does not derive, and a value to every parameter. \
A group of no dimensions has the size `[]`.

Wrong:
    inputs: {x: [I, J]}
    instances: [{name: a, I: 4}]
Right:
    inputs: {x: [I, J]}
    instances: [{name: a, I: 4, J: []}]"

UnknownInstanceKey "E024" "an instance key that is no axis or parameter"
"The keys of an instance are name, dtype, layout, the axes of the op and its parameters. Axes that `sizes:` \
derives are left out.

Wrong:
    params: {stride: S}
    instances: [{name: a, S: 28, strid: 2}]
Right:
    params: {stride: S}
    instances: [{name: a, S: 28, stride: 2}]"

BadSize "E025" "a size that no tensor can have"
"A size is a whole number from 1 to 2^31, and so is the number of elements of a tensor. A group of no dimensions has \
the size `[]`. A derived size may come out wrong too: a window wider than its padded input leaves nothing. One that is \
given all the same has the value that is derived.

Wrong:
    instances: [{name: a, I: 0}]
Right:
    instances: [{name: a, I: 1}]"

BadParam "E026" "a parameter value that does not fit"
"A parameter of an axis is a whole number, or a list of one for each dimension of that axis; an `int` is one whole \
number, a `real` one number. A divisor is above zero.

Wrong:
    params: {stride: S}
    instances: [{name: a, S: [28, 28], stride: [2, 2, 2]}]
Right:
    params: {stride: S}
    instances: [{name: a, S: [28, 28], stride: [2, 2]}]"

BadLayout "E027" "a layout that is no order of the dimensions"
"A layout lists every dimension of a tensor once, outermost first: an axis by its name, or its dimensions one by \
one (`S.0`, `S.1`).

Wrong (x is [N, S, Cx], S of rank 2):
    layout: {x: [N, Cx, S.0]}
Right:
    layout: {x: [N, Cx, S.0, S.1]}"

BadDomain "E028" "a domain that is no interval"
"A domain is an interval with two ends, the lower first; `(` and `)` leave the end out, `[` and `]` take it in. \
An infinite end is left out. Quote it where the brackets differ.

Wrong:
    domain: {x: positive}
Right:
    domain: {x: \"[0, inf)\"}"

NoInstances "E029" "an op of which no kernel is made"
"An op with an empty list of instances is checked, but gives no code. Where that is not meant, state sizes.

Gives nothing:
    instances: []
Gives a kernel:
    instances: [{name: small, I: 8}]"

NotAValue "E030" "no value where a value is due, or no condition where a condition is"
"An index stands for a tuple of coordinates, and a parameter of an axis for one number per dimension; neither is a \
number. Both may stand in positions of an access, and indices in conditions. The name of an axis is a value: its \
number of elements. The first argument of `where` is a comparison, not a number.

Wrong:
    - y[i] = x[i] * i
Right:
    - y[i] = x[i] / I"

UnusedInput "E031" "an input that no step reads"
"An input that forward never reads has no influence and a zero derivative. Remove it, or read it.

Warned of:
    inputs: {x: [I], w: [I]}
    forward: [\"y[i] = 2 * x[i]\"]
Right:
    inputs: {x: [I]}
    forward: [\"y[i] = 2 * x[i]\"]"

Unsupported "E032" "something that the compiler does not do"
"The spec means something, but the compiler cannot make it, or cannot check it. The message says what, and what to \
write instead if there is a way.

Not done:
    - y[i] = u[i]^v[i]                  # `^` takes a literal exponent
Done:
    - y[i] = pow(u[i], v[i])"

Io "E033" "a file that cannot be read or written"
"The folder of specs, a spec or the output could not be read or written. The message holds what the system said. \
Paths are relative to the folder of Cargo.toml, and specs are UTF-8.

Wrong:
    Build::new().ops(\"op\").compile()       // the folder is `ops`
Right:
    Build::new().ops(\"ops\").compile()"

BadSchedule "E034" "a schedule that no statement can have"
"`schedule` names a function of the kernel and one of the candidates of its statements, written as `cotangent show PATH \
--stage nest` prints it, without the cost. It is taken on the classes of machines that have this candidate.

Wrong (16 rows need more registers than there are):
    schedule: {forward: \"lanes k 4x8, rows i 16\"}
Right:
    schedule: {forward: \"lanes k 2x8, rows i 6\"}"

UnknownOp "E035" "an op that cannot be used, as there is none of that name"
"`use: name` makes kernels of an op of the same build or, where it has none of that name, of one that ships with the \
compiler. The help lists those that ship.

Wrong:
    use: convolution
    instances: [{name: edge, N: 1, S: 28, T: 3, Cx: 1, Cy: 8, stride: 1, lo: 1, hi: 1, dilation: 1}]
Right:
    use: conv
    instances: [{name: edge, N: 1, S: 28, T: 3, Cx: 1, Cy: 8, stride: 1, lo: 1, hi: 1, dilation: 1}]"

OwnOpUsed "E036" "an op of your own that hides a shipped one"
"`use: name` takes an op of the same build before the shipped one of that name. That is easily overlooked, so it is \
warned of. Where your own op is meant, write the instances in its file; else give it another name.

Warned of:
    ops/relu.yaml                 op: relu, a rule of your own
    ops/sizes.yaml                use: relu
Right:
    ops/my_relu.yaml              op: my_relu
    ops/sizes.yaml                use: relu"

BadOption "E037" "an option that no build can have"
"The module and the prefix become names in Rust: the module is a path from the crate's root, the prefix begins the \
names of the ops' modules, in lower case. `std` belongs to self-contained output: elsewhere the crate `cotangent` has a \
feature of that name. A C header is a file ending in `.h`, and its prefix a word of C. Wrappers for `ndarray` stand on \
the crate `cotangent`, so self-contained output has none.

Wrong:
    Build::new().ops(\"ops\").module(\"crate::kernels\").compile()
Right:
    Build::new().ops(\"ops\").module(\"kernels\").compile()"

Template "E038" "a template that cannot be rendered"
"A template of your own folder has a fault, or reads what the compiler does not give it. The message holds what the \
template engine (Tera) said. What a template may read is what the shipped one of the same name reads.

Wrong:
    pub mod {{ kernel.nam }} {
Right:
    pub mod {{ kernel.name }} {"

BadCall "E039" "a call of an op that does not fit"
"A step `h = matmul(x, w)` calls an op with whole tensors. The op's axes stand for those of the arguments: an axis that several arguments share \
stands for one that the op's inputs share in the same way. Where that leaves a choice, the call says it, as it says the op's parameters: \
`softmax(x; J = [D])`, `conv(x, k; stride = 1, lo = 0, hi = 0, dilation = 1)`.

Wrong:
    inputs: {x: [B, D]}
    forward: [\"y = softmax(x)\"]
Right:
    inputs: {x: [B, D]}
    forward: [\"y = softmax(x; J = [D])\"]"

BadRecurrence "E040" "steps that need each other and cannot run in turns"
"A step may read what it writes itself, or a later step writes, at a constant distance along an axis: `h[t - 1]`. The steps from there to the one that \
writes are a recurrence: they run in turn for each `t`. So each has `t` on its left, all read in one direction, and none reads what is not there \
yet, such as a sum over all `t`.

Wrong:
    forward:
      - s[i] = s[i - 1] + s[i + 1] + x[i]
Right:
    forward:
      - s[i] = s[i - 1] + x[i]"

BadProgram "E041" "a key of a program that does not fit"
"`wrt` lists inputs, those that derivatives are taken by. `checkpoint` maps locals of `forward` to `save` or `recompute`. `functions` lists \
entry points: `forward`, `jvp`, `vjp`, `jacobian`, and for a single output without axes `value_and_grad`, `hvp` and `hessian`. The rules of a program \
are derived, so it declares none.

Wrong:
    program: net
    inputs: {x: [B, D], w: [D, H]}
    wrt: [weights]
Right:
    program: net
    inputs: {x: [B, D], w: [D, H]}
    wrt: [w]"
NotTaken "E042" "a branch of a declared rule that no point took"
"A declared rule is compared at points on both sides of each of its comparisons, and of those of `forward`: inputs are solved for. Where \
no point is found at which a condition holds, or none at which it fails, the branch behind it is not compared. It is a warning.

Wrong:
    forward:
      - y[i] = x[i]^2
    adjoint:
      - x_bar[i] += where(x[i]^2 < 0, 0, 2 * x[i] * y_bar[i])
Right:
    adjoint:
      - x_bar[i] += 2 * x[i] * y_bar[i]"
NotFinite "E043" "a declared rule that is infinite or NaN where the derivative is not"
"A declared rule is the derivative as a formula, but not as a computation: it overflows, or divides zero by zero, at a point where `forward` and \
the derived rule are finite. It is a warning where the formula has no pole, or where `forward` has no derivative, as a norm at zero; at a \
pole of the rule alone it is error E021 or E022.

Wrong:
    forward:
      - y[i] = softplus(x[i])
    adjoint:
      - x_bar[i] += y_bar[i] * exp(x[i]) / (1 + exp(x[i]))
Right:
    adjoint:
      - x_bar[i] += y_bar[i] * logistic(x[i])"

TooLarge "E044" "a spec that is larger than any that is meant"
"What a spec asks for is bounded, so that each is refused or compiled in time: a file has at most 1 MiB, an op at most \
1,000 instances in a file, 200 axes of at most 64 dimensions each, 2,000 tensors and parameters and, with what the ops that it calls add, \
4,000 steps that read tensors 10,000 times. Calls go at most 32 ops deep; they grow fast: an op that calls twice what calls twice has \
four times the steps. Numbers of elements have their own bounds (E025).

Wrong:
    - a = power(x)          power has 3,000 steps
    - y = power(a)
Right:
    - y = power(x)"
TooMuchStack "E045" "locals that are too large for the stack"
"A function of an op keeps the locals of its formulas on the stack, which a thread has little of. Loops that share a local keep a part of it only; \
the others keep it whole, 64 KiB in all unless the build allows more. A function of a `program:` keeps at most 4 KiB, and works \
in a workspace that its caller provides: it may call the op.

Wrong:
    op: mix
    forward: [\"h[i,j] = tanh(x[i,j])\", \"y[i,k] = sum(j) h[i,j] * w[j,k]\"]
    instances: [{name: large, I: 1024, J: 1024, K: 64}]
Right:
    program: mix
    forward: [\"h[i,j] = tanh(x[i,j])\", \"y[i,k] = sum(j) h[i,j] * w[j,k]\"]
    instances: [{name: large, I: 1024, J: 1024, K: 64}]"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "op: layer_norm
doc: d
inputs:
  x: [B, D]
  g: [D]
outputs:
  y: [B, D]
forward:
  - y[b,d] = g[d] * (x[b,q] - mu[b])
";

    fn sources() -> Sources {
        let mut sources = Sources::default();
        sources.add("ops/layer_norm.yaml", TEXT.to_owned());
        sources
    }

    fn span(of: &str, n: usize) -> Span {
        let start = TEXT.match_indices(of).nth(n).expect("text is there").0 as u32;
        Span { source: SourceId(0), start, end: start + of.len() as u32 }
    }

    fn unknown_index() -> Diagnostic {
        let at = span("q", 0);
        let message = "index `q` has no axis here";
        Diagnostic::error(Code::UnknownIndex, at, message, "not an index of any axis")
            .label(span("[B, D]", 0), "axes in scope: B, D")
            .help("did you mean `d`?")
    }

    #[test]
    fn renders_in_the_style_of_rustc() {
        let mut all = Diagnostics::default();
        all.push(unknown_index());
        let expected = "\
error[E009]: index `q` has no axis here
 --> ops/layer_norm.yaml:9:26
  |
4 |   x: [B, D]
  |      ------ axes in scope: B, D
...
9 |   - y[b,d] = g[d] * (x[b,q] - mu[b])
  |                          ^ not an index of any axis
  |
help: did you mean `d`?
";
        assert_eq!(all.render(&sources()), expected);
    }

    #[test]
    fn sorts_drops_repeats_and_counts_errors() {
        let mut all = Diagnostics::default();
        assert!(all.is_empty() && !all.has_errors());
        all.push(unknown_index());
        let early = Diagnostic::warning(Code::UnusedInput, span("x", 0), "unread", "").note("a");
        all.extend([early, unknown_index()]);
        assert_eq!((all.errors(), all.iter().count()), (1, 2));
        let text = all.render(&sources());
        assert!(text.starts_with("warning[E031]: unread\n"), "{text}");
        assert!(text.contains("= note: a\n\nerror[E009]"), "{text}");
        assert_eq!(text.matches("error[E009]").count(), 1);
    }

    #[test]
    fn spans_at_odd_places_render() {
        let mut sources = sources();
        let empty = sources.add("ops/none.yaml", String::new());
        let crlf = sources.add("ops/crlf.yaml", "\u{feff}é: x\r\n\tb: y\r\n".to_owned());
        for (source, start, end) in [
            (empty, 0, 0),
            (empty, 5, 9),
            (crlf, 0, 1),
            (crlf, 4, 5),
            (crlf, 8, 9),
            (crlf, 9, 10),
            (crlf, 15, 17),
            (crlf, 17, 17),
            (crlf, 0, 900),
        ] {
            let span = Span { source, start, end };
            let mut all = Diagnostics::default();
            all.push(unknown_index().label(span, "there"));
            all.push(Diagnostic::error(Code::Io, span, "a\u{1b}[31m\tb\nc", "d\ne"));
            let text = all.render(&sources);
            assert!(text.contains("error[E033]") && !text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn every_code_is_numbered_and_explained() {
        for (n, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str(), format!("E{:03}", n + 1));
            assert_eq!(code.as_str().to_lowercase().parse(), Ok(*code));
            assert!(!code.title().is_empty());
            let text = code.explanation();
            assert!(text.lines().any(|line| line.starts_with("    ")), "{code}");
            assert!(text.matches(":\n").count() >= 2, "{code}: two examples");
        }
        assert_eq!(Code::ALL.len(), 45);
        let message = "E046".parse::<Code>().map_err(|e| e.to_string());
        let expected = "there is no code `E046`; codes run from E001 to E045";
        assert_eq!(message, Err(expected.to_owned()));
    }

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["op", "inputs", "outputs", "forward"];
        let near = |word| did_you_mean(word, keys);
        assert_eq!(near("forwrad").as_deref(), Some("forward"));
        assert_eq!(near("input").as_deref(), Some("inputs"));
        assert_eq!(near("OUTPUTS").as_deref(), Some("outputs"));
        assert_eq!(near("backward"), None);
        assert_eq!(near(""), None);
        assert_eq!(did_you_mean("op", ["op"]), None);
    }
}
