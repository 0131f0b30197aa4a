//! Source files and places in them.
//!
//! Takes paths and texts, gives a [`SourceId`] for each; a [`Span`] is a range of bytes in one of them. What holds
//! after it: every later stage can say where a thing stands with 12 bytes, and only this module turns that into lines.

use crate::shipped;
use std::ops::Deref;
use std::sync::LazyLock;

/// One file among [`Sources`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// Ids from here on are of the specs that ship with the compiler, which every [`Sources`] has.
const SHIPPED: u32 = 1 << 31;

impl SourceId {
    /// The spec that ships with the compiler for the op of this name.
    #[must_use]
    pub fn shipped(op: &str) -> Option<SourceId> {
        let at = shipped_ops().position(|name| name == op)?;
        Some(SourceId(SHIPPED + at as u32))
    }

    /// Whether it is a spec that ships with the compiler.
    #[must_use]
    pub fn is_shipped(self) -> bool {
        self.0 >= SHIPPED
    }
}

/// The names of the ops and programs that ship with the compiler.
pub fn shipped_ops() -> impl Iterator<Item = &'static str> {
    shipped_files().map(|(_, path, _)| path.strip_suffix(".yaml").unwrap_or(path))
}

/// The folder, the path in it and the text of each.
fn shipped_files() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let folders = [("ops", shipped::OPS), ("programs", shipped::PROGRAMS)];
    folders.into_iter().flat_map(|(folder, files)| files.iter().map(move |(path, text)| (folder, *path, *text)))
}

/// The bytes `start..end` of a source file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// From the start of `self` to the end of `other`; both are of one file.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span { source: self.source, start: self.start, end: other.end.max(self.start) }
    }

    /// The place before it.
    #[must_use]
    pub fn before(self) -> Span {
        Span { end: self.start, ..self }
    }

    /// The place behind it.
    #[must_use]
    pub fn behind(self) -> Span {
        Span { start: self.end, ..self }
    }

    /// The place before its last byte, a closing bracket.
    #[must_use]
    pub fn inside_end(self) -> Span {
        let at = self.end.saturating_sub(1).max(self.start);
        Span { start: at, end: at, ..self }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> At<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        At { value, span }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[derive(Debug)]
struct File {
    path: String,
    text: String,
    /// Byte at which each line starts; the first is 0.
    lines: Vec<usize>,
}

/// Whether a character shows nothing, breaks a line or turns the direction of what follows: in a path, a comment or a
/// string it would make them look like something else, or be that.
#[must_use]
pub fn hidden(c: char) -> bool {
    let directions = '\u{202a}'..='\u{202e}';
    let isolates = '\u{2066}'..='\u{2069}';
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
        || directions.contains(&c)
        || isolates.contains(&c)
}

/// The text on one line, [`hidden`] characters written out.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

impl File {
    fn new(path: &str, text: String) -> Self {
        let mut lines = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        File { path: visible(path), text, lines }
    }
}

static SHIPPED_FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    shipped_files()
        .map(|(folder, path, text)| File::new(&format!("<cotangent>/{folder}/{path}"), text.to_owned()))
        .collect()
});

/// All source files of a build. An id is valid for the `Sources` that gave it.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<File>,
}

impl Sources {
    /// Adds a file. The path is what diagnostics and comments print, [`visible`].
    pub fn add(&mut self, path: &str, text: String) -> SourceId {
        self.files.push(File::new(path, text));
        SourceId((self.files.len() - 1) as u32)
    }

    fn file(&self, id: SourceId) -> &File {
        match id.0.checked_sub(SHIPPED) {
            Some(at) => &SHIPPED_FILES[at as usize],
            None => &self.files[id.0 as usize],
        }
    }

    /// The path given to [`Sources::add`].
    #[must_use]
    pub fn path(&self, id: SourceId) -> &str {
        &self.file(id).path
    }

    /// The whole text of a file.
    #[must_use]
    pub fn text(&self, id: SourceId) -> &str {
        &self.file(id).text
    }

    /// Line and column of the start of a span, both from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let file = self.file(span.source);
        let start = file.text.floor_char_boundary(span.start as usize);
        let line = file.lines.partition_point(|&at| at <= start);
        let column = file.text[file.lines[line - 1]..start].chars().count();
        (line, column + 1)
    }

    /// Line of the start of a span, from 1.
    #[must_use]
    pub fn line(&self, span: Span) -> usize {
        self.line_column(span).0
    }

    /// The text under a span.
    #[must_use]
    pub fn snippet(&self, span: Span) -> &str {
        let range = self.range(span);
        &self.text(span.source)[range]
    }

    /// The span as a range of bytes that lies in the text and splits no character.
    pub(crate) fn range(&self, span: Span) -> std::ops::Range<usize> {
        let text = self.text(span.source);
        let start = text.floor_char_boundary(span.start as usize);
        let end = text.ceil_char_boundary((span.end as usize).min(text.len()));
        start..end.max(start)
    }

    /// The bytes of the lines in which the ranges lie, with two lines more on each side, and the number of the first,
    /// from 1.
    pub(crate) fn lines_around(
        &self,
        id: SourceId,
        ranges: &[std::ops::Range<usize>],
    ) -> (std::ops::Range<usize>, usize) {
        let file = self.file(id);
        let line = |at: usize| file.lines.partition_point(|&start| start <= at) - 1;
        let first = ranges.iter().map(|r| line(r.start)).min().unwrap_or(0).saturating_sub(2);
        let last = ranges.iter().map(|r| line(r.end)).max().unwrap_or(0) + 3;
        let end = file.lines.get(last).copied().unwrap_or(file.text.len());
        (file.lines[first]..end, first + 1)
    }

    /// The place of a line and column as a parser reports them (both from 1, column in characters), one character long.
    #[must_use]
    pub fn place(&self, id: SourceId, line: usize, column: usize) -> Span {
        let file = self.file(id);
        let line = line.clamp(1, file.lines.len());
        let from = file.lines[line - 1];
        let text = file.text[from..].split('\n').next().unwrap_or("");
        let text = text.trim_end_matches('\r');
        let mut chars = text.char_indices().skip(column.saturating_sub(1));
        let (at, len) = chars.next().map_or((text.len(), 0), |(at, c)| (at, c.len_utf8()));
        Span { source: id, start: (from + at) as u32, end: (from + at + len) as u32 }
    }
}
