//! What the targets share: bytes to a spec file, and mutations that know what a spec is made of.
//!
//! Bytes alone seldom pass the reader. So half of the mutations exchange what stands between two others: lines, words
//! and numbers.

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::source::{SourceId, Sources};

/// The name that a spec's file has to have: that of its op.
#[must_use]
pub fn path(text: &str) -> String {
    let head = text.lines().find_map(|line| line.strip_prefix("op: ").or_else(|| line.strip_prefix("program: ")));
    format!("{}.yaml", head.unwrap_or("op").trim())
}

/// The file alone among sources.
#[must_use]
pub fn source(text: &str) -> (SourceId, Sources) {
    let mut sources = Sources::default();
    let id = sources.add(&path(text), text.to_owned());
    (id, sources)
}

/// What is to be said can be said.
pub fn say(out: &Diagnostics, sources: &Sources) {
    assert_eq!(out.is_empty(), out.render(sources).is_empty());
}

/// Words of the language, each of which may stand where another one does.
const WORDS: &[&str] = &[
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
    "name",
    "dtype",
    "layout",
    "schedule",
    "derived",
    "save",
    "recompute",
    "int",
    "real",
    "f32",
    "f64",
    "sum",
    "prod",
    "mean",
    "max",
    "min",
    "where",
    "exp",
    "log",
    "sqrt",
    "tanh",
    "sin",
    "cos",
    "abs",
    "erf",
    "sigmoid",
    "and",
    "or",
    "not",
    "in",
    "pi",
    "inf",
    "scan",
    "forward",
    "jvp",
    "vjp",
    "hvp",
    "value_grad_and_hvp",
    "jacobian",
    "hessian",
    "value_and_grad",
    "x",
    "y",
    "z",
    "I",
    "J",
    "K",
    "i",
    "j",
    "k",
    "x_bar",
    "y_bar",
    "x_dot",
    "y_dot",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "16",
    "17",
    "64",
    "1000",
    "100000",
    "1000000000",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e-300",
    "1e300",
    "0.5",
    "-1",
    ".inf",
];

const SIGNS: &[&str] = &[
    "+", "-", "*", "/", "^", "<", "<=", "==", "!=", ">", ">=", "=", "+=", "(", ")", "[", "]", ",", ";", ":", ": ", "- ",
];

/// A generator of Knuth's (MMIX), from the engine's seed.
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Dice(u64::from(seed) << 1 | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides.max(1)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
}

/// The text with some lines, words, numbers or signs exchanged, moved, doubled or left out.
#[must_use]
pub fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut text = text.to_owned();
    for _ in 0..=dice.roll(3) {
        text = if dice.roll(4) == 0 { lines(&text, dice) } else { tokens(&text, dice) };
    }
    text
}

fn lines(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return WORDS[dice.roll(WORDS.len())].to_owned();
    }
    let at = dice.roll(lines.len());
    let to = dice.roll(lines.len());
    match dice.roll(3) {
        0 => lines.swap(at, to),
        1 => lines.insert(to, lines[at]),
        _ => drop(lines.remove(at)),
    }
    lines.join("\n") + "\n"
}

/// Where words, numbers and signs begin and end.
fn split(text: &str) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((from, c)) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut to = from + c.len_utf8();
        if c.is_ascii_alphanumeric() {
            while let Some((at, c)) = chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_') {
                to = at + c.len_utf8();
            }
        }
        parts.push((from, to));
    }
    parts
}

fn tokens(text: &str, dice: &mut Dice) -> String {
    let parts = split(text);
    let Some(&(from, to)) = parts.get(dice.roll(parts.len())) else { return text.to_owned() };
    let part = &text[from..to];
    let other = parts[dice.roll(parts.len())];
    let other = &text[other.0..other.1];
    // Half of the time of the same file: a name is then declared.
    let same = |a: &str, b: &str| {
        let class =
            |s: &str| s.chars().next().map(|c| (c.is_ascii_digit(), c.is_ascii_alphabetic(), c.is_ascii_uppercase()));
        class(a) == class(b)
    };
    let new = match part.chars().next() {
        _ if dice.roll(2) == 0 && same(part, other) => other.to_owned(),
        _ if dice.roll(8) == 0 => String::new(),
        _ if dice.roll(8) == 0 => format!("{part} {part}"),
        _ if dice.roll(8) == 0 => format!("{}({part})", dice.of(WORDS)),
        _ if dice.roll(8) == 0 => format!("{part} {} {other}", dice.of(SIGNS)),
        Some(c) if c.is_ascii_digit() => dice.of(NUMBERS).to_owned(),
        Some(c) if c.is_ascii_alphabetic() => dice.of(WORDS).to_owned(),
        _ => dice.of(SIGNS).to_owned(),
    };
    format!("{}{new}{}", &text[..from], &text[to..])
}

/// Half of the mutations are ours, half the engine's: for `fuzz_mutator!`.
pub fn mutator(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    match std::str::from_utf8(&data[..size]) {
        Ok(text) if dice.roll(4) > 0 => {
            let new = mutate(text, &mut dice);
            let len = new.floor_char_boundary(new.len().min(max));
            data[..len].copy_from_slice(&new.as_bytes()[..len]);
            len
        }
        _ => libfuzzer_sys::fuzzer_mutate(data, size, max),
    }
}
