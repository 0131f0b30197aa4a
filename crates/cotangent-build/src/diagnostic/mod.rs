//! What is wrong in a spec, and how it is said.
//!
//! Takes diagnostics from all stages, gives one text in the style of rustc. What holds after it: errors are collected,
//! each has one stable [`Code`] with an explanation, and the text is the same whatever the order in which they came.

mod code;

pub use code::{Code, UnknownCode};

use crate::source::{self, SourceId, Sources, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

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
    let length = word.chars().count();
    let limit = length.max(3) / 3;
    let mut nearest: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().filter(|candidate| *candidate != word) {
        // A slip of case alone is the nearest of all.
        let distance = if word.eq_ignore_ascii_case(candidate) {
            0
        } else {
            // Where it cannot be nearer than another it is not measured: a file may have thousands of names.
            let most = nearest.map_or(limit, |(distance, _)| limit.min(distance.saturating_sub(1)));
            if most == 0 || candidate.chars().count().abs_diff(length) > most {
                continue;
            }
            strsim::osa_distance(word, candidate)
        };
        let near = distance <= limit && (distance < length || candidate.starts_with(word));
        if near && nearest.is_none_or(|(least, _)| distance < least) {
            nearest = Some((distance, candidate));
        }
    }
    nearest.map(|(_, candidate)| candidate.to_owned())
}
