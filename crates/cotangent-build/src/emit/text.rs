//! What people write, made harmless where it stands: takes text of specs, paths and options, gives text for a place in
//! a generated file.
//!
//! Every `{{ value }}` of a template goes through [`escaped`] unless a filter says what place it is, or `safe` that it
//! is code. What holds after it: whatever a text holds, it ends neither its line nor its string nor its comment, opens
//! none, and no compiler refuses it.

use crate::source::hidden;
use tera::{Kwargs, State, Tera, Value};

/// Gives templates the rule and the filters: `doc` for a line of Markdown, `code` for what stands there as it is,
/// `remark` for a comment in C.
pub fn install(tera: &mut Tera) {
    tera.set_escape_fn(|text, out| out.write_all(escaped(text).as_bytes()));
    tera.autoescape_on([".tera"]);
    tera.register_filter("doc", |text: &str, _: Kwargs, _: &State| Value::safe_string(&doc(text)));
    tera.register_filter("code", |text: &str, _: Kwargs, _: &State| Value::safe_string(&code(text)));
    tera.register_filter("remark", |text: &str, _: Kwargs, _: &State| Value::safe_string(&remark(text)));
}

/// The lines of a text, whatever breaks them, without space around them.
pub fn lines(text: &str) -> Vec<String> {
    let breaks = ['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    text.replace("\r\n", "\n").replace(breaks, "\n").lines().map(|l| l.trim().to_owned()).collect()
}

fn unicode(c: char) -> String {
    c.escape_unicode().to_string()
}

/// For anywhere: right within a string of Rust, and without an end in a comment of Rust or C.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        match (before, c) {
            (_, '"' | '\\') => out.extend(['\\', c]),
            ('*', '/') | ('/', '*') | ('?', '?') => out.push_str(&unicode(c)),
            _ if hidden(c) => out.push_str(&unicode(c)),
            _ => out.push(c),
        }
        before = c;
    }
    out
}

/// A line of Markdown in a comment that `rustdoc` reads: words, lists and links stay; it opens no block of code, which
/// would be a test, and no HTML.
pub fn doc(text: &str) -> String {
    // What is indented in a list would be code.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut quoted = false;
    for (at, &c) in chars.iter().enumerate() {
        let next = chars.get(at + 1);
        let run = || {
            let before = chars[..at].iter().rev().take_while(|b| **b == c).count();
            before + chars[at..].iter().take_while(|b| **b == c).count()
        };
        let opens = match c {
            '`' | '~' => run() >= 3,
            '<' => next.is_some_and(|n| n.is_ascii_alphabetic() || matches!(n, '/' | '!' | '?')),
            _ => false,
        };
        if hidden(c) {
            out.push_str(&unicode(c));
        } else {
            out.extend((opens && !quoted).then_some('\\'));
            out.push(c);
        }
        quoted = c == '\\' && !quoted;
    }
    out
}

/// Between backticks, or in a block of them: as it stands.
pub fn code(text: &str) -> String {
    text.chars().map(|c| if hidden(c) || c == '`' { unicode(c) } else { c.to_string() }).collect()
}

/// A line in a comment of C, which neither ends nor looks like the start of another, and goes on in no next line.
pub fn remark(text: &str) -> String {
    let text: String = text.chars().map(|c| if hidden(c) { unicode(c) } else { c.to_string() }).collect();
    // Of three such signs the middle one belongs to two pairs: hence twice.
    let pairs = [("*/", "* /"), ("/*", "/ *"), ("??", "? ?")];
    let apart = |text: String| pairs.iter().fold(text, |text, (pair, with)| text.replace(pair, with));
    let text = apart(apart(text)).trim_end().to_owned();
    match text.strip_suffix('\\') {
        Some(rest) => format!("{rest}{}", unicode('\\')),
        None => text,
    }
}
