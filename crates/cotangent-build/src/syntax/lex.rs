//! Formula text to tokens: takes a [`Formula`], gives its tokens with their bytes in the text.
//!
//! Holds after it: every character is part of a token or white space; numbers are finite; there is an end, and there
//! are not too many tokens. What is no sign of the language may be a token, so that the parser can name it.

use crate::diagnostic::{Code, Diagnostic};
use crate::source::Span;
use crate::spec::Formula;

/// Tokens beyond which a formula is refused; bounds the depth of any tree, so later stages may recurse.
const MAX_TOKENS: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Name,
    /// `and`, `or`, `not`, `in`.
    Word(&'static str),
    Sign(&'static str),
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Longest first. Those that are not of the language are here to be named in messages.
const SIGNS: [&str; 32] = [
    "**", "+=", "-=", "*=", "/=", "^=", ":=", "<=", ">=", "==", "!=", "<-", "&&", "||", "+", "-", "*", "/", "^", "<",
    ">", "=", "(", ")", "[", "]", ",", ";", "!", "%", "{", "}",
];
const WORDS: [&str; 4] = ["and", "or", "not", "in"];

pub(super) type Parsed<T> = Result<T, Failure>;

/// A diagnostic under way; boxed, so that results stay small.
pub(super) struct Failure(pub(super) Box<Diagnostic>);

impl Failure {
    pub(super) fn help(self, text: impl Into<String>) -> Self {
        Failure(Box::new(self.0.help(text)))
    }
}

pub(super) fn fail(span: Span, message: impl Into<String>, label: impl Into<String>) -> Failure {
    Failure(Box::new(Diagnostic::error(Code::Syntax, span, message, label)))
}

pub(super) fn lex(f: &Formula) -> Parsed<Vec<Lexeme>> {
    let text = f.text.as_str();
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else {
            break;
        };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, len) = if first.is_ascii_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = WORDS.iter().find(|w| **w == &rest[..len]);
            (word.map_or(Token::Name, |w| Token::Word(w)), len)
        } else if first.is_ascii_digit() || first == '.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            let len = number_len(rest.as_bytes());
            let value = rest[..len].parse::<f64>().unwrap_or(f64::INFINITY);
            if !value.is_finite() {
                return Err(fail(
                    f.span(at, at + len),
                    format!("the number `{}` is too large", &rest[..len]),
                    "beyond the range of f64",
                ));
            }
            (Token::Number(value), len)
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            (Token::Sign(sign), sign.len())
        } else {
            let span = f.span(at, at + first.len_utf8());
            let failure = fail(
                span,
                format!("`{}` is not part of the formula language", first.escape_debug()),
                "unknown character",
            );
            let instead = match first {
                '×' | '·' | '∙' | '⋅' => "*",
                '÷' => "/",
                '−' | '–' | '—' => "-",
                '≤' => "<=",
                '≥' => ">=",
                '≠' => "!=",
                'Σ' | '∑' => return Err(failure.help("a sum over an index is written `sum(j) x[j]`")),
                'Π' | '∏' => return Err(failure.help("a product over an index is written `prod(j) x[j]`")),
                '√' => return Err(failure.help("a root is written `sqrt(x)`")),
                '?' => return Err(failure.help("`c ? a : b` is written `where(c, a, b)`")),
                'π' => "pi",
                '∞' => "inf",
                '²' => "^2",
                '³' => "^3",
                c if c.is_alphabetic() => {
                    return Err(failure.help("names are of the letters a to z, digits and `_`: spell it out"));
                }
                _ => return Err(failure),
            };
            return Err(Failure(Box::new(failure.0.help(format!("write `{instead}`")).suggest(span, instead))));
        };
        tokens.push(Lexeme { token, start: at, end: at + len });
        if tokens.len() > MAX_TOKENS {
            return Err(fail(
                f.span(at, at + len),
                "the formula is too long",
                format!("more than {MAX_TOKENS} tokens up to here"),
            )
            .help("write it as several steps"));
        }
        at += len;
    }
    tokens.push(Lexeme { token: Token::End, start: text.len(), end: text.len() });
    Ok(tokens)
}

/// Length of `12`, `.5`, `1.`, `1.5e-3` at the start of the bytes.
fn number_len(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut len = digits(0);
    if bytes.get(len) == Some(&b'.') {
        len += 1 + digits(len + 1);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let power = digits((len + 1 + sign).min(bytes.len()));
        if power > 0 {
            len += 1 + sign + power;
        }
    }
    len
}
