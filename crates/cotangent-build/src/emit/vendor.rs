//! The runtime as one text: takes the sources of the crate `cotangent` as they ship with the compiler, gives what
//! stands inside one module of a crate that does not depend on it.
//!
//! Holds after it: no file is named, every path starts at the module, nothing depends on a feature, and what belongs to
//! instruction sets that were left out is gone; without any but the portable one no unsafe code is left. The sources
//! are ours, so this is no parser of Rust: it knows tokens, brackets and where an item ends.

use crate::instructions::InstructionSet;
use crate::options::Options;
use crate::shipped;

/// The modules of the runtime, each with its text. `path` is that of the module which they go to, from the crate's
/// root.
pub fn runtime(options: &Options, path: &str) -> String {
    let source = |file: &str| shipped::RUNTIME.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
    let vendor = Vendor { options, path, source: &source };
    let root = vendor.text(source("lib.rs").unwrap_or_default(), None);
    let mut out = String::new();
    // Of the root only its files and the names that it hands on: the rest makes it a crate.
    let tokens = tokens(&root);
    let mut at = 0;
    while at < tokens.len() {
        let start = solid(&tokens, at);
        if tokens.get(start).is_some_and(|t| t.text == "#") {
            let open = tokens[start..].iter().position(|t| t.text == "[").unwrap_or(0);
            at = closing(&tokens, start + open) + 1;
            continue;
        }
        at = item_end(&tokens, start).max(start + 1);
        let item: String = tokens[start.min(tokens.len())..at.min(tokens.len())].iter().map(|t| t.text).collect();
        let words: Vec<&str> = item.split([' ', ';']).collect();
        match words.as_slice() {
            ["mod", name, ""] => out.push_str(&vendor.module("", "", name)),
            ["pub", "mod", name, ""] => out.push_str(&vendor.module("pub ", "", name)),
            ["pub", "use", ..] => out.push_str(&(item + "\n")),
            _ => {}
        }
    }
    tidy(&out)
}

/// No spaces at ends of lines, never two empty lines.
fn tidy(text: &str) -> String {
    let mut out = String::new();
    let mut empty = true;
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && empty) {
            out.push_str(line);
            out.push('\n');
        }
        empty = line.is_empty();
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Space,
    Comment,
    /// A string, a character or a lifetime.
    Quoted,
    /// Letters, digits and `_`.
    Word,
    /// One character.
    Sign,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

/// Every byte of the text is in one token.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let until = |end: Option<usize>| end.unwrap_or(rest.len());
        let (kind, len) = if first.is_whitespace() {
            (Kind::Space, until(rest.find(|c: char| !c.is_whitespace())))
        } else if rest.starts_with("//") {
            (Kind::Comment, until(rest.find('\n')))
        } else if rest.starts_with("/*") {
            (Kind::Comment, until(rest.find("*/").map(|at| at + 2)))
        } else if first == '"' {
            (Kind::Quoted, string(rest))
        } else if first == '\'' {
            (Kind::Quoted, character(rest))
        } else if first.is_alphanumeric() || first == '_' {
            (Kind::Word, until(rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))))
        } else {
            (Kind::Sign, first.len_utf8())
        };
        let (token, after) = rest.split_at(len);
        all.push(Token { kind, text: token });
        rest = after;
    }
    all
}

/// The length of a string with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character with its quotes, or of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let first = chars.next().map(|(_, c)| c);
    if first == Some('\\') {
        return text[2..].find('\'').map_or(text.len(), |at| at + 3);
    }
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => text[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(text.len(), |at| at + 1),
    }
}

/// The token that closes the bracket at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// The first token from `at` on that is neither space nor comment.
fn solid(tokens: &[Token], at: usize) -> usize {
    let skipped = tokens[at..].iter().take_while(|t| matches!(t.kind, Kind::Space | Kind::Comment)).count();
    at + skipped
}

/// One past the item, statement or last expression of a block that begins at `at`, further attributes included.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        at = solid(tokens, at);
        match tokens.get(at).map(|t| t.text) {
            Some("{") => {
                at = closing(tokens, at) + 1;
                // A list of imports in braces goes on.
                if tokens.get(solid(tokens, at)).is_none_or(|t| t.text != ";") {
                    return at;
                }
            }
            Some("(" | "[") => at = closing(tokens, at) + 1,
            Some(";") => return at + 1,
            Some(")" | "]" | "}") => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

/// What a `cfg` asks.
#[derive(Clone, Debug, PartialEq)]
enum Predicate {
    Known(bool),
    Atom(String),
    Not(Box<Predicate>),
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
}

impl std::fmt::Display for Predicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |parts: &[Predicate]| parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Predicate::Known(value) => write!(f, "{value}"),
            Predicate::Atom(text) => f.write_str(text),
            Predicate::Not(p) => write!(f, "not({p})"),
            Predicate::All(parts) => write!(f, "all({})", list(parts)),
            Predicate::Any(parts) => write!(f, "any({})", list(parts)),
        }
    }
}

struct Vendor<'a> {
    options: &'a Options,
    path: &'a str,
    source: &'a dyn Fn(&str) -> Option<&'static str>,
}

impl Vendor<'_> {
    /// The module of a file in `folder`.
    fn module(&self, public: &str, folder: &str, name: &str) -> String {
        let inner = format!("{folder}{name}/");
        let text = (self.source)(&format!("{folder}{name}.rs")).or_else(|| (self.source)(&format!("{inner}mod.rs")));
        format!("{public}mod {name} {{\n{}}}\n", self.text(text.unwrap_or_default(), Some(&inner)))
    }

    /// The text of one file, whose modules are in `folder`; of the root, without one, they are left as they are.
    fn text(&self, text: &str, folder: Option<&str>) -> String {
        let tokens = tokens(text);
        let mut out = String::new();
        // Where the comments and attributes before an item begin, which go with it.
        let mut before: Option<usize> = None;
        let mut fenced = false;
        let mut at = 0;
        while at < tokens.len() {
            let token = tokens[at];
            match token.kind {
                Kind::Space => out.push_str(token.text),
                Kind::Comment => {
                    // What a module says of itself is of the crate: of its parts, some are gone.
                    if !token.text.starts_with("//!") {
                        before.get_or_insert(out.len());
                        out.push_str(&self.comment(token.text, &mut fenced));
                    }
                }
                Kind::Sign if token.text == "#" && tokens.get(at + 1).is_some_and(|t| t.text == "[") => {
                    before.get_or_insert(out.len());
                    let end = closing(&tokens, at + 1);
                    let content = &tokens[at + 2..end];
                    match content.first().map(|t| t.text) {
                        Some("cfg") => match self.predicate(&content[2..content.len() - 1], true) {
                            Predicate::Known(true) => at = solid(&tokens, end + 1) - 1,
                            Predicate::Known(false) => {
                                out.truncate(before.take().unwrap_or(out.len()));
                                at = item_end(&tokens, end + 1) - 1;
                            }
                            p => {
                                out.push_str(&format!("#[cfg({p})]"));
                                at = end;
                            }
                        },
                        Some("cfg_attr") => {
                            let inside = &content[2..content.len() - 1];
                            let comma = split(inside).first().map_or(0, |part| part.len());
                            let attribute: String =
                                inside[(comma + 1).min(inside.len())..].iter().map(|t| t.text).collect();
                            let attribute = attribute.trim();
                            match self.predicate(&inside[..comma], true) {
                                Predicate::Known(true) => out.push_str(&format!("#[{attribute}]")),
                                Predicate::Known(false) => {}
                                p => out.push_str(&format!("#[cfg_attr({p}, {attribute})]")),
                            }
                            at = end;
                        }
                        _ => {
                            out.extend(tokens[at..=end].iter().map(|t| t.text));
                            at = end;
                        }
                    }
                }
                _ => {
                    before = None;
                    let next = |n: usize| tokens.get(at + n).map_or("", |t| t.text);
                    let declared = token.text == "mod" && next(3) == ";";
                    if let Some(folder) = folder.filter(|_| declared) {
                        out.push_str(&self.module("", folder, next(2)));
                        at += 3;
                    } else if token.text == "crate" && next(1) == ":" && next(2) == ":" {
                        out.push_str(self.path);
                    } else if token.text == "$" && next(1) == "crate" {
                        out.push_str(&format!("${}", self.path));
                        at += 1;
                    } else if token.text == "cfg" && next(1) == "!" && next(2) == "(" {
                        let end = closing(&tokens, at + 2);
                        match self.predicate(&tokens[at + 3..end], false) {
                            Predicate::Known(value) => out.push_str(&value.to_string()),
                            p => out.push_str(&format!("cfg!({p})")),
                        }
                        at = end;
                    } else {
                        out.push_str(token.text);
                    }
                }
            }
            at += 1;
        }
        out
    }

    /// A comment with its paths, examples made plain text: they are the crate's own tests.
    fn comment(&self, text: &str, fenced: &mut bool) -> String {
        let text = text.replace("crate::", &format!("{}::", self.path));
        let inner = text.trim_start_matches(['/', '!']).trim_start();
        if !inner.starts_with("```") {
            return text;
        }
        *fenced = !*fenced;
        if *fenced && inner == "```" { format!("{text}text") } else { text }
    }

    /// What is known of a predicate. `code`: it stands before code, which goes if it is for instruction sets that were
    /// left out; else it asks what the target is, which only the target's compiler knows.
    fn predicate(&self, tokens: &[Token], code: bool) -> Predicate {
        let tokens: Vec<Token> = tokens.iter().copied().filter(|t| t.kind != Kind::Space).collect();
        let text = |tokens: &[Token]| tokens.iter().map(|t| t.text).collect::<Vec<_>>().join(" ");
        let parts = || -> Vec<Predicate> {
            split(&tokens[2..tokens.len() - 1]).into_iter().map(|part| self.predicate(part, code)).collect()
        };
        // A list with what is known taken out: `decided` decides it alone.
        let list = |decided: bool| {
            let mut unknown = parts();
            if unknown.contains(&Predicate::Known(decided)) {
                return Err(Predicate::Known(decided));
            }
            unknown.retain(|p| *p != Predicate::Known(!decided));
            match unknown.len() {
                0 => Err(Predicate::Known(!decided)),
                1 => Err(unknown.remove(0)),
                _ => Ok(unknown),
            }
        };
        let has = |set| self.options.has(set);
        // Of an architecture that is named for the sake of its sets, whether one of them is wanted.
        let wanted = |arch: Option<&Token>| {
            let arch = arch.map_or("", |t| t.text.trim_matches('"'));
            let mut of = InstructionSet::ALL.into_iter().filter(|set| set.row().arch == Some(arch)).peekable();
            of.peek().is_none() || of.any(has)
        };
        match tokens.first().map_or("", |t| t.text) {
            "all" => list(false).map_or_else(|p| p, Predicate::All),
            "any" => list(true).map_or_else(|p| p, Predicate::Any),
            "not" => match parts().pop() {
                Some(Predicate::Known(value)) => Predicate::Known(!value),
                Some(p) => Predicate::Not(Box::new(p)),
                None => Predicate::Known(true),
            },
            "test" => Predicate::Known(false),
            "feature" => Predicate::Known(self.options.std && tokens.last().is_some_and(|t| t.text == "\"std\"")),
            "target_arch" if code && !wanted(tokens.last()) => Predicate::Known(false),
            _ => Predicate::Atom(text(&tokens)),
        }
    }
}

/// The parts between commas outside of brackets; a last comma ends nothing.
fn split<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < tokens.len() {
        match tokens[at].text {
            "(" | "[" | "{" => at = closing(tokens, at),
            "," => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if tokens[start.min(tokens.len())..].iter().any(|t| t.kind != Kind::Space) {
        parts.push(&tokens[start..]);
    }
    parts
}
