//! Tokens to syntax tree: takes a [`Formula`], gives a [`Step`] or an [`Expr`], or one diagnostic.
//!
//! Holds after it: the text is a sentence of the grammar; the tree is nested no deeper than later stages may recurse.

use super::lex::{Failure, Lexeme, Parsed, Token, fail, lex};
use super::{Access, Assign, BinaryOp, Binder, Expr, ExprKind, Given, GivenValue, IndexArg, ReduceOp, Step};
use crate::diagnostic::Diagnostics;
use crate::source::{At, Span};
use crate::spec::Formula;

/// Nesting of parentheses, calls, signs and reductions beyond which a formula is refused.
const MAX_DEPTH: usize = 64;

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
