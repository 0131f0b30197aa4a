//! Formula text to syntax tree.
//!
//! Takes a [`Formula`] (`z[i,k] = sum(j) x[i,j] * y[j,k]`), gives a [`Step`] or an [`Expr`] with the span of every
//! part. What holds after it: the text is a sentence of the grammar; no name has a meaning yet. Printing a tree gives
//! text that parses to the same tree.
//!
//! ```text
//! step    = target ("=" | "+=") expr          target = name [ "[" {name "in" Axis | expr} "]" ]
//! expr    = and {"or" and}                    and    = not {"and" not}
//! not     = "not" not | cmp                   cmp    = sum [("<"|"<="|">"|">="|"=="|"!=") sum]
//! sum     = product {("+"|"-") product}       product = unary {("*"|"/") unary}
//! unary   = "-" unary | power                 power  = primary ["^" ["-"] primary]
//! primary = number | name | name "[" exprs "]" | name "(" exprs [";" given {"," given}] ")" | "(" expr ")" | reduction
//! given   = name "=" ("[" names "]" | expr)
//! reduction = ("sum"|"prod"|"max"|"min"|"mean") "(" name ["in" Axis] {"," ..} ")" product
//! ```

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::source::{At, Span};
use crate::spec::Formula;
use std::fmt;

/// `target = value` or `target += value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is written.
    pub target: Access,
    /// How.
    pub assign: At<Assign>,
    /// The right-hand side.
    pub value: Expr,
    /// The whole formula.
    pub span: Span,
}

/// How a step writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assign {
    /// `=`
    Set,
    /// `+=`
    Add,
}

/// A tensor and the positions at which it is read or written.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The tensor.
    pub name: At<String>,
    /// One entry a position.
    pub index: Vec<IndexArg>,
    /// Whether brackets were written: `y[]` and `y` are both of no positions.
    pub brackets: bool,
    /// Name and brackets.
    pub span: Span,
}

/// One position of an access.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexArg {
    /// The index expression.
    pub expr: Expr,
    /// `m in L` in a target binds a second index of axis `L`; `0 in L` says that the axis of a new local is `L`.
    pub axis: Option<At<String>>,
}

/// An expression and where it stands, parentheses around it included.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
}

/// The forms of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A literal, finite and not negative.
    Number(f64),
    /// A name without brackets.
    Name(String),
    /// A name with brackets.
    Access(Access),
    /// `-e`
    Neg(Box<Expr>),
    /// `not e`
    Not(Box<Expr>),
    /// `a + b` and the like.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `f(a, b; stride = 2)`
    Call(At<String>, Vec<Expr>, Vec<Given>),
    /// `sum(j, k in I) body`
    Reduce {
        /// Which reduction.
        op: At<ReduceOp>,
        /// Over what; at least one.
        binders: Vec<Binder>,
        /// What is reduced.
        body: Box<Expr>,
    },
}

/// What a call says of an axis or a parameter of the op that it calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The axis or parameter.
    pub name: At<String>,
    /// What stands for it.
    pub value: GivenValue,
    /// Both.
    pub span: Span,
}

/// What stands for an axis or a parameter of an op that is called.
#[derive(Clone, Debug, PartialEq)]
pub enum GivenValue {
    /// `[B, D]`: axes.
    Axes(Vec<At<String>>),
    /// One axis, a parameter, or a number.
    Value(Expr),
}

/// The operators of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `^`
    Pow,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `and`
    And,
    /// `or`
    Or,
}

impl BinaryOp {
    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Pow => "^",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
        }
    }

    fn level(self) -> u8 {
        match self {
            BinaryOp::Or => OR,
            BinaryOp::And => AND,
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::Eq | BinaryOp::Ne => COMPARE,
            BinaryOp::Add | BinaryOp::Sub => SUM,
            BinaryOp::Mul | BinaryOp::Div => PRODUCT,
            BinaryOp::Pow => POWER,
        }
    }
}

/// The reductions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ReduceOp {
    /// Σ
    Sum,
    /// Π
    Prod,
    /// Greatest.
    Max,
    /// Least.
    Min,
    /// Σ over the number of elements.
    Mean,
}

impl ReduceOp {
    /// The reduction as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
            ReduceOp::Mean => "mean",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "sum" => ReduceOp::Sum,
            "prod" => ReduceOp::Prod,
            "max" => ReduceOp::Max,
            "min" => ReduceOp::Min,
            "mean" => ReduceOp::Mean,
            _ => return None,
        })
    }
}

/// An index that a reduction binds: `j` (axis `J`), or `k in I`.
#[derive(Clone, Debug, PartialEq)]
pub struct Binder {
    /// The index.
    pub name: At<String>,
    /// Its axis, where it is written.
    pub axis: Option<At<String>>,
}

/// Nesting of parentheses, calls, signs and reductions beyond which a formula is refused.
const MAX_DEPTH: usize = 64;
/// Tokens beyond which a formula is refused; bounds the depth of any tree, so later stages may recurse.
const MAX_TOKENS: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Number(f64),
    Name,
    /// `and`, `or`, `not`, `in`.
    Word(&'static str),
    Sign(&'static str),
    End,
}

#[derive(Clone, Copy, Debug)]
struct Lexeme {
    token: Token,
    start: usize,
    end: usize,
}

/// Longest first. Those that are not of the language are here to be named in messages.
const SIGNS: [&str; 32] = [
    "**", "+=", "-=", "*=", "/=", "^=", ":=", "<=", ">=", "==", "!=", "<-", "&&", "||", "+", "-", "*", "/", "^", "<",
    ">", "=", "(", ")", "[", "]", ",", ";", "!", "%", "{", "}",
];
const WORDS: [&str; 4] = ["and", "or", "not", "in"];

/// Reads one step. On an error, one diagnostic and `None`.
pub fn step(f: &Formula, out: &mut Diagnostics) -> Option<Step> {
    run(f, out, |p| p.step())
}

/// Reads one expression, as under `sizes:`. On an error, one diagnostic and `None`.
pub fn expression(f: &Formula, out: &mut Diagnostics) -> Option<Expr> {
    run(f, out, |p| {
        let e = p.expr()?;
        if matches!(p.peek(), Token::Sign("=" | "+=" | ":=")) {
            return Err(p
                .unexpected("the end of the expression")
                .help("this place holds a value, not an assignment: write the right-hand side alone"));
        }
        p.end()?;
        Ok(e)
    })
}

type Parsed<T> = Result<T, Failure>;

/// A diagnostic under way; boxed, so that results stay small.
struct Failure(Box<Diagnostic>);

impl Failure {
    fn help(self, text: impl Into<String>) -> Self {
        Failure(Box::new(self.0.help(text)))
    }
}

fn run<T>(f: &Formula, out: &mut Diagnostics, rule: impl FnOnce(&mut Parser) -> Parsed<T>) -> Option<T> {
    let parsed = lex(f).and_then(|tokens| rule(&mut Parser { formula: f, tokens, at: 0, depth: 0 }));
    match parsed {
        Ok(tree) => Some(tree),
        Err(failure) => {
            out.push(*failure.0);
            None
        }
    }
}

fn fail(span: Span, message: impl Into<String>, label: impl Into<String>) -> Failure {
    Failure(Box::new(Diagnostic::error(Code::Syntax, span, message, label)))
}

fn lex(f: &Formula) -> Parsed<Vec<Lexeme>> {
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

struct Parser<'a> {
    formula: &'a Formula,
    tokens: Vec<Lexeme>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn lexeme(&self) -> Lexeme {
        self.tokens[self.at]
    }

    fn peek(&self) -> Token {
        self.lexeme().token
    }

    fn peek_after(&self, n: usize) -> Token {
        self.tokens.get(self.at + n).map_or(Token::End, |l| l.token)
    }

    fn advance(&mut self) -> Lexeme {
        let lexeme = self.lexeme();
        if lexeme.token != Token::End {
            self.at += 1;
        }
        lexeme
    }

    fn span(&self, l: Lexeme) -> Span {
        self.formula.span(l.start, l.end)
    }

    fn text(&self, l: Lexeme) -> &str {
        &self.formula.text[l.start..l.end]
    }

    fn name_at(&self, l: Lexeme) -> At<String> {
        At::new(self.text(l).to_owned(), self.span(l))
    }

    fn accept(&mut self, sign: &'static str) -> Option<Lexeme> {
        (self.peek() == Token::Sign(sign)).then(|| self.advance())
    }

    fn unexpected(&self, expected: &str) -> Failure {
        let l = self.lexeme();
        let found = match l.token {
            Token::End => "the end of the formula".to_owned(),
            _ => format!("`{}`", self.text(l)),
        };
        let failure = fail(self.span(l), format!("expected {expected}, found {found}"), format!("expected {expected}"));
        match l.token {
            Token::Sign("**") => failure.help("a power is written `x^2`"),
            Token::Sign("&&") => failure.help("write `and`"),
            Token::Sign("||") => failure.help("write `or`"),
            Token::Sign("!") => failure.help("write `not`"),
            Token::Sign("%") => failure.help(
                "there is no remainder; to flatten an index, write the position on the left: `y[i*J + j] = x[i,j]`",
            ),
            Token::Sign("{" | "}") => failure.help("group with `(` and `)`"),
            Token::Name | Token::Number(_) if self.ends_operand() => failure.help("a product is written with `*`"),
            Token::Sign("(") if self.ends_operand() => failure.help("a product is written with `*`"),
            _ => failure,
        }
    }

    /// Whether the token before this one ends an operand, so that a name here looks like a product without `*`.
    fn ends_operand(&self) -> bool {
        self.at.checked_sub(1).is_some_and(|before| {
            matches!(self.tokens[before].token, Token::Name | Token::Number(_) | Token::Sign(")" | "]"))
        })
    }

    fn end(&self) -> Parsed<()> {
        match self.peek() {
            Token::End => Ok(()),
            Token::Sign("=" | "+=" | ":=" | "-=" | "*=" | "/=" | "^=" | "<-") => {
                let failure = self.unexpected("an operator or the end of the formula");
                Err(failure.help("one assignment a step; a comparison is written `==`"))
            }
            Token::Sign(")" | "]") => Err(self
                .unexpected("an operator or the end of the formula")
                .help("nothing is open that this could close")),
            Token::Sign("<" | "<=" | ">" | ">=" | "==" | "!=") => Err(self
                .unexpected("`and`, `or` or the end of the formula")
                .help("comparisons do not chain: write `a < b and b < c`")),
            Token::Sign("[") => Err(self
                .unexpected("an operator or the end of the formula")
                .help("elements are read of tensors by name: make what stands before a step of its own, `h = ...`, and read `h[...]` here")),
            _ => Err(self.unexpected("an operator or the end of the formula")),
        }
    }

    /// Runs a rule one level deeper, or refuses.
    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return Err(fail(
                self.span(self.lexeme()),
                "the formula is nested too deeply",
                format!("more than {MAX_DEPTH} levels here"),
            )
            .help("write it as several steps"));
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    fn step(&mut self) -> Parsed<Step> {
        if self.peek() != Token::Name {
            return Err(self.unexpected("the name of a tensor to write"));
        }
        let target = self.access(true)?;
        let l = self.lexeme();
        let assign = match l.token {
            Token::Sign("=") => Assign::Set,
            Token::Sign("+=") => Assign::Add,
            other => {
                let failure = self.unexpected("`=` or `+=`");
                return Err(match other {
                    Token::Sign(":=" | "==" | "<-") => failure.help("an assignment is written `=`"),
                    Token::Sign("-=") => failure.help("write `+= -(...)`"),
                    Token::Sign("*=" | "/=" | "^=") => {
                        failure.help("only `=` and `+=` write; name the result of the product in a new step")
                    }
                    Token::Sign("(") => failure.help("a tensor takes its indices in brackets: `y[i] = ...`"),
                    _ => failure.help("a step is `target[i,j] = value` or `target[i,j] += value`"),
                });
            }
        };
        self.advance();
        let value = self.expr()?;
        self.end()?;
        Ok(Step { span: target.span.to(value.span), target, assign: At::new(assign, self.span(l)), value })
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.nested(|p| p.binary_chain(&[("or", BinaryOp::Or)], Self::and))
    }

    fn and(&mut self) -> Parsed<Expr> {
        self.binary_chain(&[("and", BinaryOp::And)], Self::not)
    }

    fn not(&mut self) -> Parsed<Expr> {
        if self.peek() != Token::Word("not") {
            return self.compare();
        }
        let l = self.advance();
        let e = self.nested(Self::not)?;
        Ok(Expr { span: self.span(l).to(e.span), kind: ExprKind::Not(Box::new(e)) })
    }

    fn compare(&mut self) -> Parsed<Expr> {
        let left = self.sum()?;
        let op = match self.peek() {
            Token::Sign("<") => BinaryOp::Lt,
            Token::Sign("<=") => BinaryOp::Le,
            Token::Sign(">") => BinaryOp::Gt,
            Token::Sign(">=") => BinaryOp::Ge,
            Token::Sign("==") => BinaryOp::Eq,
            Token::Sign("!=") => BinaryOp::Ne,
            _ => return Ok(left),
        };
        self.advance();
        let right = self.sum()?;
        Ok(binary(op, left, right))
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.binary_chain(&[("+", BinaryOp::Add), ("-", BinaryOp::Sub)], Self::product)
    }

    fn product(&mut self) -> Parsed<Expr> {
        self.binary_chain(&[("*", BinaryOp::Mul), ("/", BinaryOp::Div)], Self::unary)
    }

    /// Left-associative operators over operands of one rule.
    fn binary_chain(&mut self, ops: &[(&str, BinaryOp)], operand: fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        let mut left = operand(self)?;
        while let Token::Sign(s) | Token::Word(s) = self.peek() {
            let Some(&(_, op)) = ops.iter().find(|(symbol, _)| *symbol == s) else {
                break;
            };
            self.advance();
            let right = operand(self)?;
            left = binary(op, left, right);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let Some(l) = self.accept("-") else {
            return self.power();
        };
        let e = self.nested(Self::unary)?;
        Ok(self.negated(l, e))
    }

    fn negated(&self, sign: Lexeme, e: Expr) -> Expr {
        Expr { span: self.span(sign).to(e.span), kind: ExprKind::Neg(Box::new(e)) }
    }

    fn power(&mut self) -> Parsed<Expr> {
        let base = self.primary()?;
        if self.accept("^").is_none() {
            return Ok(base);
        }
        let minus = self.accept("-");
        let mut exponent = self.primary()?;
        if let Some(l) = minus {
            exponent = self.negated(l, exponent);
        }
        if self.peek() == Token::Sign("^") {
            return Err(self
                .unexpected("an operator other than `^`")
                .help("powers do not chain: write `(a^b)^c` or `a^(b^c)`"));
        }
        Ok(binary(BinaryOp::Pow, base, exponent))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let l = self.lexeme();
        match l.token {
            Token::Number(value) => {
                self.advance();
                Ok(Expr { kind: ExprKind::Number(value), span: self.span(l) })
            }
            Token::Name => self.name(),
            Token::Sign("(") => {
                self.advance();
                let e = self.expr()?;
                let close = self.close(l, ")")?;
                Ok(Expr { span: self.formula.span(l.start, close.end), kind: e.kind })
            }
            _ => {
                let failure = self.unexpected("a value");
                Err(match l.token {
                    Token::Sign("+") => failure.help("there is no unary `+`: leave it out"),
                    Token::Word("not") => failure.help("put it in parentheses: `(not a)`"),
                    _ => failure,
                })
            }
        }
    }

    /// The bracket that closes `open`, or an error that shows both.
    fn close(&mut self, open: Lexeme, sign: &'static str) -> Parsed<Lexeme> {
        if let Some(l) = self.accept(sign) {
            return Ok(l);
        }
        let expected = match self.peek() {
            Token::End => format!("`{sign}`"),
            _ => format!("an operator or `{sign}`"),
        };
        let failure = self.unexpected(&expected);
        let failure = match self.peek() {
            Token::Sign("<" | "<=" | ">" | ">=" | "==" | "!=") => {
                failure.0.help("comparisons do not chain: write `a < b and b < c`")
            }
            Token::Sign("=") => failure.0.help("a comparison is written `==`"),
            _ => *failure.0,
        };
        Err(Failure(Box::new(failure.label(self.span(open), "opened here"))))
    }

    fn name(&mut self) -> Parsed<Expr> {
        let l = self.lexeme();
        match self.peek_after(1) {
            Token::Sign("[") => {
                let access = self.access(false)?;
                Ok(Expr { span: access.span, kind: ExprKind::Access(access) })
            }
            Token::Sign("(") => match ReduceOp::of(self.text(l)) {
                Some(op) if self.is_reduction(op) => self.reduction(op),
                _ => self.call(),
            },
            _ if matches!(self.text(l), "sum" | "prod" | "mean") => {
                self.advance();
                let word = self.text(l);
                let help = format!("a reduction names its indices: `{word}(j) x[j]`");
                let next = self.span(self.lexeme());
                Err(fail(next, format!("`{word}` does not say over which indices"), "expected `(`").help(help))
            }
            _ => {
                self.advance();
                Ok(Expr { kind: ExprKind::Name(self.text(l).to_owned()), span: self.span(l) })
            }
        }
    }

    /// Whether the name and parenthesis here begin a reduction. `max` and `min` are functions too: they reduce where
    /// only indices stand in the parentheses and an operand follows.
    fn is_reduction(&self, op: ReduceOp) -> bool {
        if !matches!(op, ReduceOp::Max | ReduceOp::Min) {
            return true;
        }
        let mut n = 2;
        loop {
            if self.peek_after(n) != Token::Name {
                return false;
            }
            n += 1;
            if self.peek_after(n) == Token::Word("in") {
                if self.peek_after(n + 1) != Token::Name {
                    return false;
                }
                n += 2;
            }
            match self.peek_after(n) {
                Token::Sign(",") => n += 1,
                Token::Sign(")") => {
                    return matches!(self.peek_after(n + 1), Token::Name | Token::Number(_) | Token::Sign("("));
                }
                _ => return false,
            }
        }
    }

    fn reduction(&mut self, op: ReduceOp) -> Parsed<Expr> {
        let word = self.advance();
        let open = self.advance();
        let mut binders = Vec::new();
        loop {
            if self.peek() != Token::Name {
                return Err(self
                    .unexpected("an index")
                    .help(format!("write `{0}(j) ...` or `{0}(k in I) ...`", op.symbol())));
            }
            let l = self.advance();
            let name = self.name_at(l);
            let axis = self.in_axis()?;
            binders.push(Binder { name, axis });
            if self.accept(",").is_some() {
                continue;
            }
            if self.accept(")").is_some() {
                break;
            }
            let failure = self.unexpected("`,` or `)`");
            let failure = failure
                .0
                .label(self.span(open), "opened here")
                .help(format!("only indices stand in the parentheses, the operand follows: `{}(j) x[j]`", op.symbol()));
            return Err(Failure(Box::new(failure)));
        }
        let body = self.nested(Self::product)?;
        let head = self.span(word);
        Ok(Expr {
            span: head.to(body.span),
            kind: ExprKind::Reduce { op: At::new(op, head), binders, body: Box::new(body) },
        })
    }

    /// `in I`, if it stands here.
    fn in_axis(&mut self) -> Parsed<Option<At<String>>> {
        if self.peek() != Token::Word("in") {
            return Ok(None);
        }
        self.advance();
        if self.peek() != Token::Name {
            return Err(self.unexpected("the name of an axis"));
        }
        let l = self.advance();
        Ok(Some(self.name_at(l)))
    }

    fn call(&mut self) -> Parsed<Expr> {
        let word = self.advance();
        let open = self.advance();
        let mut args = Vec::new();
        if !matches!(self.peek(), Token::Sign(")" | ";")) {
            args.push(self.expr()?);
            while let Some(comma) = self.accept(",") {
                args.push(self.expr()?);
                let named = matches!(args.last(), Some(Expr { kind: ExprKind::Name(_), .. }));
                if named && self.peek() == Token::Sign("=") {
                    let help = "axes and parameters of an op stand after `;`: write `;` for the comma before the first of them; \
                                a comparison is written `==`";
                    let equals = self.span(self.lexeme());
                    let failure = self.unexpected("an operator or `)`").0;
                    return Err(Failure(Box::new(
                        failure.help(help).suggest(self.span(comma), ";").suggest(equals, "=="),
                    )));
                }
            }
        }
        let mut given = Vec::new();
        if self.accept(";").is_some() {
            given.push(self.given()?);
            while self.accept(",").is_some() {
                given.push(self.given()?);
            }
        }
        let close = self.close(open, ")")?;
        Ok(Expr {
            span: self.formula.span(word.start, close.end),
            kind: ExprKind::Call(self.name_at(word), args, given),
        })
    }

    /// `stride = 2` or `J = [B, D]`.
    fn given(&mut self) -> Parsed<Given> {
        let example = "after `;` stand axes and parameters of the op: `J = [D]`, `stride = 2`";
        if self.peek() != Token::Name {
            return Err(self.unexpected("an axis or a parameter").help(example));
        }
        let word = self.advance();
        if self.accept("=").is_none() {
            return Err(self.unexpected("`=`").help(example));
        }
        let Some(open) = self.accept("[") else {
            let value = self.expr()?;
            let span = self.span(word).to(value.span);
            return Ok(Given { name: self.name_at(word), value: GivenValue::Value(value), span });
        };
        let mut axes = Vec::new();
        while self.peek() == Token::Name {
            let l = self.advance();
            axes.push(self.name_at(l));
            if self.accept(",").is_none() {
                break;
            }
        }
        let close = self.close(open, "]")?;
        let span = self.formula.span(word.start, close.end);
        Ok(Given { name: self.name_at(word), value: GivenValue::Axes(axes), span })
    }

    /// A name and its brackets, if any. A target may bind indices with `in`.
    fn access(&mut self, target: bool) -> Parsed<Access> {
        let word = self.advance();
        let mut access = Access { name: self.name_at(word), index: Vec::new(), brackets: false, span: self.span(word) };
        let Some(open) = self.accept("[") else {
            return Ok(access);
        };
        access.brackets = true;
        if self.peek() != Token::Sign("]") {
            loop {
                let expr = self.expr()?;
                let here = self.lexeme();
                let axis = self.in_axis()?;
                if axis.is_some() && !(target && matches!(expr.kind, ExprKind::Name(_) | ExprKind::Number(_))) {
                    return Err(if target {
                        fail(self.span(here), "`in` binds one plain index", "behind more than an index").help(
                            "an output needs no `in` there, its axes are declared; a local has an axis for each index: `f[a, b]` for `f[a*B + b in F]`",
                        )
                    } else {
                        fail(self.span(here), "`in` binds an index in a target or a reduction only", "not here")
                            .help("write `sum(k in I) x[k]`, or `s[l, m in L] = ...`")
                    });
                }
                access.index.push(IndexArg { expr, axis });
                if self.accept(",").is_none() {
                    break;
                }
            }
        }
        let close = self.close(open, "]")?;
        access.span = self.formula.span(word.start, close.end);
        Ok(access)
    }
}

fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr { span: left.span.to(right.span), kind: ExprKind::Binary(op, Box::new(left), Box::new(right)) }
}

// Levels of binding, loosest first.
const OR: u8 = 0;
const AND: u8 = 1;
const NOT: u8 = 2;
const COMPARE: u8 = 3;
const SUM: u8 = 4;
const PRODUCT: u8 = 5;
const UNARY: u8 = 6;
const POWER: u8 = 7;
const PRIMARY: u8 = 8;

impl Expr {
    /// Level of the form itself. A reduction counts as a primary; `followed` in [`Expr::print`] cares for its open end.
    fn level(&self) -> u8 {
        match &self.kind {
            ExprKind::Number(v) if v.is_sign_negative() => UNARY,
            ExprKind::Neg(_) => UNARY,
            ExprKind::Not(_) => NOT,
            ExprKind::Binary(op, ..) => op.level(),
            _ => PRIMARY,
        }
    }

    /// Prints where only forms of `level` or tighter may stand. `followed`: a `*`, `/` or `^` comes right after, which
    /// a reduction without parentheses would swallow. `tight`: in an index, where products have no spaces.
    fn print(&self, out: &mut String, level: u8, followed: bool, tight: bool) {
        let open_end = followed && matches!(self.kind, ExprKind::Reduce { .. });
        if self.level() < level || open_end {
            out.push('(');
            self.print(out, OR, false, tight);
            out.push(')');
            return;
        }
        match &self.kind {
            ExprKind::Number(v) => {
                if *v == v.trunc() && v.abs() < 1e15 {
                    out.push_str(&format!("{v}"));
                } else {
                    out.push_str(&format!("{v:?}"));
                }
            }
            ExprKind::Name(name) => out.push_str(name),
            ExprKind::Access(access) => access.print(out),
            ExprKind::Neg(e) => {
                out.push('-');
                e.print(out, UNARY, followed, tight);
            }
            ExprKind::Not(e) => {
                out.push_str("not ");
                e.print(out, NOT, false, tight);
            }
            ExprKind::Binary(BinaryOp::Pow, base, exponent) => {
                base.print(out, PRIMARY, true, tight);
                out.push('^');
                match &exponent.kind {
                    ExprKind::Neg(e) => {
                        out.push('-');
                        e.print(out, PRIMARY, followed, tight);
                    }
                    _ => exponent.print(out, PRIMARY, followed, tight),
                }
            }
            ExprKind::Binary(op, left, right) => {
                let level = op.level();
                let product = level == PRODUCT;
                // Comparisons do not chain, so both sides must bind tighter.
                let left_level = if level == COMPARE { SUM } else { level };
                left.print(out, left_level, product, tight);
                let gap = if product && tight { "" } else { " " };
                for part in [gap, op.symbol(), gap] {
                    out.push_str(part);
                }
                right.print(out, level + 1, product && followed, tight);
            }
            ExprKind::Call(name, args, given) => {
                out.push_str(name);
                out.push('(');
                separated(out, args, ", ", |out, e| e.print(out, OR, false, tight));
                out.push_str(if given.is_empty() { "" } else { "; " });
                separated(out, given, ", ", |out, g| {
                    out.push_str(&g.name);
                    out.push_str(" = ");
                    match &g.value {
                        GivenValue::Axes(axes) => {
                            out.push('[');
                            separated(out, axes, ", ", |out, a| out.push_str(a));
                            out.push(']');
                        }
                        GivenValue::Value(e) => e.print(out, OR, false, tight),
                    }
                });
                out.push(')');
            }
            ExprKind::Reduce { op, binders, body } => {
                out.push_str(op.symbol());
                out.push('(');
                separated(out, binders, ",", |out, b| {
                    out.push_str(&b.name);
                    print_axis(out, b.axis.as_ref());
                });
                out.push_str(") ");
                let from = out.len();
                body.print(out, PRODUCT, false, tight);
                // `max(j) -x` would read as a call less `x`.
                if out[from..].starts_with('-') && matches!(op.value, ReduceOp::Max | ReduceOp::Min) {
                    out.insert(from, '(');
                    out.push(')');
                }
            }
        }
    }
}

impl Access {
    fn print(&self, out: &mut String) {
        out.push_str(&self.name);
        if self.brackets {
            out.push('[');
            let short = |arg: &IndexArg| matches!(arg.expr.kind, ExprKind::Name(_));
            let by = if self.index.iter().all(short) { "," } else { ", " };
            separated(out, &self.index, by, |out, arg| {
                arg.expr.print(out, OR, false, true);
                print_axis(out, arg.axis.as_ref());
            });
            out.push(']');
        }
    }
}

fn print_axis(out: &mut String, axis: Option<&At<String>>) {
    if let Some(axis) = axis {
        out.push_str(" in ");
        out.push_str(axis);
    }
}

fn separated<T>(out: &mut String, items: &[T], by: &str, mut print: impl FnMut(&mut String, &T)) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(by);
        }
        print(out, item);
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.print(&mut out, OR, false, false);
        f.write_str(&out)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.print(&mut out);
        f.write_str(&out)
    }
}

impl fmt::Display for Assign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Assign::Set => "=",
            Assign::Add => "+=",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.target, self.assign.value, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SourceId, Sources};

    fn read<T>(text: &str, rule: fn(&Formula, &mut Diagnostics) -> Option<T>) -> Result<T, String> {
        let mut sources = Sources::default();
        let id = sources.add("f", text.to_owned());
        let mut out = Diagnostics::default();
        let tree = rule(&Formula::verbatim(id, 0, text), &mut out);
        tree.ok_or_else(|| out.render(&sources))
    }

    fn expr(text: &str) -> Expr {
        read(text, expression).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The tree with every operation in parentheses.
    fn full(e: &Expr) -> String {
        match &e.kind {
            ExprKind::Neg(a) => format!("(-{})", full(a)),
            ExprKind::Not(a) => format!("(not {})", full(a)),
            ExprKind::Binary(op, a, b) => format!("({} {} {})", full(a), op.symbol(), full(b)),
            ExprKind::Call(f, args, _) => {
                let args: Vec<String> = args.iter().map(full).collect();
                format!("{}({})", f.value, args.join(", "))
            }
            ExprKind::Reduce { op, binders, body } => {
                let names: Vec<&str> = binders.iter().map(|b| b.name.as_str()).collect();
                format!("{}[{}]({})", op.symbol(), names.join(","), full(body))
            }
            _ => e.to_string(),
        }
    }

    #[test]
    fn operators_bind_as_the_grammar_says() {
        for (text, expected) in [
            ("a + b*c - d", "((a + (b * c)) - d)"),
            ("a/b/c*d", "(((a / b) / c) * d)"),
            ("-a^2", "(-(a ^ 2))"),
            ("a^-b*c", "((a ^ (-b)) * c)"),
            ("-a*b", "((-a) * b)"),
            ("a - -b", "(a - (-b))"),
            ("a < b and not c == d or e", "(((a < b) and (not (c == d))) or e)"),
            ("sum(j) a*b + c", "(sum[j]((a * b)) + c)"),
            ("2 * sum(j) a*b/c - d", "((2 * sum[j](((a * b) / c))) - d)"),
            ("sum(j,k in I) sum(m) a * b", "sum[j,k](sum[m]((a * b)))"),
            ("-sum(j) -a * b", "(-sum[j](((-a) * b)))"),
            ("max(a, b) - c", "(max(a, b) - c)"),
            ("max(j) a[j] - c", "(max[j](a[j]) - c)"),
            ("max(j) -a", "(max(j) - a)"),
            ("max(j) (-a)", "max[j]((-a))"),
            ("min(i, k in J) 2*x[i]", "min[i,k]((2 * x[i]))"),
            ("max(a, 0)", "max(a, 0)"),
            ("max(x[i], y)", "max(x[i], y)"),
            ("max(a,b) and c", "(max(a, b) and c)"),
            ("(a+b)*(c+d)", "((a + b) * (c + d))"),
            ("1.5e-3 + .5 + 2. + 1e3", "(((0.0015 + 0.5) + 2) + 1000)"),
            ("x[]", "x[]"),
            ("f()", "f()"),
        ] {
            assert_eq!(full(&expr(text)), expected, "{text}");
        }
    }

    #[test]
    fn steps_keep_every_span() {
        let text = "s[l, m in L] += (a + bb)*x[l]";
        let step = read(text, step).unwrap_or_else(|e| panic!("{e}"));
        let at = |span: Span| &text[span.start as usize..span.end as usize];
        assert_eq!(at(step.span), text);
        assert_eq!(at(step.target.span), "s[l, m in L]");
        assert_eq!((step.assign.value, at(step.assign.span)), (Assign::Add, "+="));
        let axis = step.target.index[1].axis.as_ref().expect("an axis");
        assert_eq!((axis.as_str(), at(axis.span)), ("L", "L"));
        let ExprKind::Binary(BinaryOp::Mul, a, x) = &step.value.kind else {
            panic!("a product: {step}");
        };
        assert_eq!((at(a.span), at(x.span)), ("(a + bb)", "x[l]"));
        assert_eq!(at(step.value.span), "(a + bb)*x[l]");
        assert_eq!(step.to_string(), "s[l,m in L] += (a + bb) * x[l]");
    }

    #[test]
    fn errors_say_what_was_expected_and_what_to_write() {
        for (text, parts) in [
            ("", &["the name of a tensor to write, found the end"][..]),
            ("y[i] := x", &["expected `=` or `+=`, found `:=`", "written `=`"]),
            ("y[i] -= x", &["found `-=`", "`+= -(...)`"]),
            ("y[i] == x", &["found `==`", "an assignment is written `=`"]),
            ("y[i] *= x", &["only `=` and `+=` write"]),
            ("y(i) = x", &["indices in brackets"]),
            ("y = 2 x", &["found `x`", "a product is written with `*`"]),
            ("y = (a)(b)", &["found `(`", "a product is written with `*`"]),
            ("y = a**2", &["found `**`", "`x^2`"]),
            ("y = a^b^c", &["powers do not chain"]),
            ("y = a < b < c", &["comparisons do not chain"]),
            ("y = where(a = b, c, d)", &["a comparison is written `==`", "opened here"]),
            ("y = (a + b", &["expected `)`, found the end", "opened here"]),
            ("y = a)", &["nothing is open"]),
            ("y = x[i", &["expected `]`", "opened here"]),
            ("y = sum x[i]", &["`sum(j) x[j]`"]),
            ("y = sum() x", &["expected an index, found `)`"]),
            ("y = sum(x[i])", &["expected `,` or `)`", "only indices stand"]),
            ("y = sum(j)", &["expected a value, found the end"]),
            ("y = x[k in I]", &["in a target or a reduction only"]),
            ("y = sum(k in 3) x", &["expected the name of an axis, found `3`"]),
            ("y = a × b", &["`×` is not part", "write `*`"]),
            ("y = a && b", &["write `and`"]),
            ("y = +a", &["no unary `+`"]),
            ("y = a = b", &["one assignment a step"]),
            ("y = 1e999", &["too large"]),
            ("y = \u{1b}", &["`\\u{1b}` is not part"]),
            ("y = a +", &["expected a value, found the end of the formula"]),
            ("1 = a", &["expected the name of a tensor to write, found `1`"]),
        ] {
            let error = read(text, step).expect_err(text);
            assert!(error.starts_with("error[E007]: "), "{error}");
            for part in parts {
                assert!(error.contains(part), "{text}: {part} is not in\n{error}");
            }
        }
        let error = read("z = a + 1", expression).expect_err("an assignment");
        assert!(error.contains("write the right-hand side alone"), "{error}");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        for text in [
            "(".repeat(100_000),
            "-".repeat(100_000) + "a",
            "not ".repeat(100_000) + "a",
            "sum(j) ".repeat(100_000) + "a",
            "f(".repeat(500),
            "x[".repeat(500),
            "-".repeat(500) + "a",
            "not ".repeat(500) + "a",
            "sum(j)".repeat(150) + "a",
            "a+".repeat(100_000) + "a",
            "a^-".repeat(100_000) + "a",
        ] {
            let error = read(&text, expression).expect_err("too deep or too long");
            let head = error.lines().next().unwrap_or("").to_owned();
            assert!(head.contains("too") || head.contains("other than"), "{head}");
        }
        let long = "a+".repeat(400) + "a";
        assert_eq!(expr(&long).to_string(), long.replace('+', " + "));
        expr(&("(".repeat(60) + "a" + &")".repeat(60)));
    }

    /// A linear congruential generator (Knuth, MMIX): enough to vary trees.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005);
            self.0 = self.0.wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % sides
        }

        fn word(&mut self, words: &[&str]) -> At<String> {
            At::new(words[self.roll(words.len())].to_owned(), NOWHERE)
        }

        fn given(&mut self, depth: usize) -> Given {
            let value = match self.roll(2) {
                0 => GivenValue::Axes((0..self.roll(3)).map(|_| self.word(&["B", "D"])).collect()),
                _ => GivenValue::Value(self.expr(depth - 1)),
            };
            Given { name: self.word(&["J", "stride"]), value, span: NOWHERE }
        }

        fn axis(&mut self) -> Option<At<String>> {
            (self.roll(4) == 0).then(|| self.word(&["I", "Cx"]))
        }

        fn expr(&mut self, depth: usize) -> Expr {
            let forms = if depth == 0 { 3 } else { 14 };
            let kind = match self.roll(forms) {
                0 => ExprKind::Number([0.0, 2.0, 0.5, 1e-9, 3e20, 0.1][self.roll(6)]),
                1 => ExprKind::Name(self.word(&["a", "max", "pi", "I"]).value),
                2 => {
                    let n = self.roll(3);
                    let index = (0..n).map(|_| IndexArg { expr: self.expr(depth.saturating_sub(1)), axis: None });
                    ExprKind::Access(Access {
                        index: index.collect(),
                        name: self.word(&["x", "y_bar"]),
                        brackets: true,
                        span: NOWHERE,
                    })
                }
                3 => ExprKind::Neg(self.boxed(depth)),
                4 => ExprKind::Not(self.boxed(depth)),
                5 => {
                    let name = self.word(&["exp", "max", "min", "where"]);
                    let n = self.roll(4);
                    let args = (0..n).map(|_| self.expr(depth - 1)).collect();
                    ExprKind::Call(name, args, (0..self.roll(3)).map(|_| self.given(depth)).collect())
                }
                6..=8 => {
                    let ops = ["sum", "prod", "max", "min", "mean"];
                    let op = ReduceOp::of(&self.word(&ops)).expect("a reduction");
                    let binders =
                        (0..=self.roll(2)).map(|_| Binder { name: self.word(&["i", "j", "cx"]), axis: self.axis() });
                    ExprKind::Reduce { binders: binders.collect(), op: At::new(op, NOWHERE), body: self.boxed(depth) }
                }
                _ => {
                    use BinaryOp::*;
                    let ops = [Add, Sub, Mul, Div, Pow, Lt, Le, Gt, Ge, Eq, Ne, And, Or];
                    let op = ops[self.roll(ops.len())];
                    ExprKind::Binary(op, self.boxed(depth), self.boxed(depth))
                }
            };
            Expr { kind, span: NOWHERE }
        }

        fn boxed(&mut self, depth: usize) -> Box<Expr> {
            Box::new(self.expr(depth - 1))
        }
    }

    const NOWHERE: Span = Span { source: SourceId(0), start: 0, end: 0 };

    /// Debug text without spans and what holds them.
    fn shape(tree: &impl fmt::Debug) -> String {
        let text = format!("{tree:?}");
        let mut parts = text.split("Span { source: SourceId(0), start: ");
        let mut out = parts.next().unwrap_or("").to_owned();
        for part in parts {
            out.push_str(part.split_once('}').map_or("", |(_, rest)| rest));
        }
        out
    }

    #[test]
    fn what_is_printed_reads_as_the_same_tree() {
        let mut dice = Dice(7);
        for round in 0..6000 {
            let value = dice.expr(round % 6);
            let printed = value.to_string();
            assert_eq!(shape(&expr(&printed)), shape(&value), "{printed}");
            let index =
                IndexArg { expr: Expr { kind: ExprKind::Name("m".to_owned()), span: NOWHERE }, axis: dice.axis() };
            let tree = Step {
                target: Access { name: dice.word(&["x", "y_bar"]), brackets: true, index: vec![index], span: NOWHERE },
                assign: At::new([Assign::Set, Assign::Add][dice.roll(2)], NOWHERE),
                value,
                span: NOWHERE,
            };
            let again = read(&tree.to_string(), step).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(shape(&again), shape(&tree), "{tree}");
        }
    }

    #[test]
    fn printing_adds_no_needless_parentheses() {
        for text in [
            "sum(j) a * b + c",
            "2 * sum(j) a * b / c",
            "-(sum(j) a) * b",
            "(sum(j) a)^2",
            "a^-b * c^2",
            "a - (b - c) - d",
            "a / (b * c)",
            "not a < b and (c or d)",
            "(-a)^2 - -a^2",
            "where(i <= j, max(i) (-x), 0.5)",
            "a[i,j] / x[n, o*stride + (t + 1)*dilation - lo, cx]",
        ] {
            assert_eq!(expr(text).to_string(), text);
        }
    }
}
