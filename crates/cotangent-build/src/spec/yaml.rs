//! YAML to a tree: takes the text of a file, gives its nodes with the bytes that they came from, or one error in words
//! of YAML.
//!
//! Holds after it: each scalar has its text as YAML reads it, and the place of every byte of it in the file; lists and
//! mappings span what stands in them. Aliases, tags and second documents are refused. Nothing else knows YAML.

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::source::{SourceId, Sources, Span};
use crate::types::Domain;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use std::fmt;

/// Largest file that is read, in bytes: far above any spec, far below what strains the parser.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of YAML that is read. A spec needs 4.
const MAX_DEPTH: usize = 32;

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
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

pub(super) struct Scalar {
    pub(super) text: String,
    /// As in [`super::Formula`].
    pub(super) map: Vec<(u32, u32)>,
    /// Unquoted and on one line, so that it may be a number.
    pub(super) plain: bool,
}

impl Node {
    /// What it is, for messages.
    pub(super) fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(s) if s.plain && is_null(&s.text) => "nothing",
            Kind::Scalar(s) if s.plain && number(&s.text).is_some() => "a number",
            Kind::Scalar(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.noun() == "nothing"
    }

    /// The value of a key, if this is a mapping that has it.
    pub(super) fn key(&self, name: &str) -> Option<&Node> {
        let Kind::Map(map) = &self.kind else { return None };
        let named = |key: &Node| matches!(&key.kind, Kind::Scalar(s) if s.text == name);
        map.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
    }

    /// Inside `{..}` YAML splits `x: (0, inf)` at the comma, into `x: (0` and a key `inf)` without value. Joins them.
    pub(super) fn rejoined(self, sources: &Sources) -> Node {
        let Kind::Map(map) = self.kind else {
            return self;
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
                head.text = sources.snippet(last.span).to_owned();
                head.map = identity(&head.text, last.span.start);
            } else {
                joined.push((key, value));
            }
        }
        Node { kind: Kind::Map(joined), span: self.span }
    }
}

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Parses the YAML and gives its tree.
pub(super) fn read(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Node> {
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

pub(super) fn identity(text: &str, start: u32) -> Vec<(u32, u32)> {
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

/// The number that a plain scalar is.
pub(super) fn bound_of(node: &Node) -> Option<f64> {
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
pub(super) fn interval(text: &str) -> Option<Domain> {
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
