//! Rust as trees: takes expressions and statements, gives their text.
//!
//! Holds after it: the text parses to the tree that it is of, brackets aside. The printer alone knows precedence, and
//! no part of a tree is text: names and numbers are checked where they are made, so that whoever builds a body cannot
//! lose a bracket.

use crate::index::Compare;
use std::fmt::{self, Display, Formatter};

/// An expression. It is made by the functions of its kind, which check names and numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Path(Path),
    /// Not negative: a sign is a [`Unary::Neg`].
    Number(Number),
    Bool(bool),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Expr>),
    Method(Box<Expr>, Path, Vec<Expr>),
    Field(Box<Expr>, usize),
    Index(Box<Expr>, Box<Expr>),
    /// `a[..]`
    Whole(Box<Expr>),
    Array(Vec<Expr>),
    /// `[x; 3]`; the length is a number or a name.
    Repeat(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Block>, Box<Block>),
    Block(Box<Block>),
    /// `const { x }`
    Const(Box<Expr>),
    /// `|a, b| a + b`
    Closure(Vec<Path>, Box<Expr>),
    /// Brackets for the reader, where precedence asks for none.
    Bracket(Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Neg,
    Not,
    Deref,
    Ref,
    RefMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Or,
    And,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// `math::sin::<Isa_>`: names, and the arguments of the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    names: Vec<String>,
    arguments: Vec<String>,
}

/// `2.0_f32`, `3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(String);

/// Statements, and the value after them if there is one. It stands in one line.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Block {
    pub stmts: Vec<Stmt>,
    pub value: Option<Expr>,
}

/// What a `let` names.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    Name(Path),
    Tuple(Vec<Pattern>),
    Array(Vec<Pattern>),
    /// `_`
    Unnamed,
    /// `..`: elements of an array, as many as are left.
    Rest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// A line for the reader: it stands in no line that goes on.
    Comment(String),
    /// One name is mutable, a pattern is not.
    Let {
        pattern: Pattern,
        mutable: bool,
        value: Expr,
    },
    Assign(Expr, Expr),
    /// `a += b`
    Change(Expr, Binary, Expr),
    Expr(Expr),
    /// From 0 to the extent, a number or a name.
    For {
        var: Path,
        extent: Expr,
        body: Vec<Stmt>,
    },
    /// Without statements in `otherwise` there is no `else`.
    If {
        test: Expr,
        body: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
}

/// Binding strength, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// What ends where its surroundings end.
    Open,
    Or,
    And,
    Compare,
    Sum,
    Product,
    Unary,
    Postfix,
}

impl Level {
    /// Of what binds closer than anything of this level.
    fn closer(self) -> Level {
        match self {
            Level::Open => Level::Or,
            Level::Or => Level::And,
            Level::And => Level::Compare,
            Level::Compare => Level::Sum,
            Level::Sum => Level::Product,
            Level::Product => Level::Unary,
            Level::Unary | Level::Postfix => Level::Postfix,
        }
    }
}

/// Whether this is one name, which no text around it can change.
fn is_name(text: &str) -> bool {
    let letter = |c: char| c == '_' || c.is_alphabetic();
    text.chars().next().is_some_and(letter) && text.chars().all(|c| letter(c) || c.is_numeric())
}

impl Path {
    /// One name.
    pub fn name(name: &str) -> Self {
        Path::new(&[name])
    }
    /// Names joined by `::`; the first may be a path itself.
    pub fn new(names: &[&str]) -> Self {
        let (first, rest) = names.split_first().expect("a path has a name");
        // A path from the root begins with an empty name.
        let names: Vec<String> = first.split("::").chain(rest.iter().copied()).map(str::to_string).collect();
        let inner = names.iter().skip(usize::from(names.len() > 1 && names[0].is_empty()));
        inner.for_each(|n| assert!(is_name(n), "`{n}` is no name"));
        Path { names, arguments: Vec::new() }
    }
    /// With generic arguments: names and numbers.
    pub fn of(mut self, arguments: &[&dyn Display]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        let number = |a: &String| a.chars().all(|c| c.is_ascii_digit());
        // `_` is a name too: what the compiler finds out.
        self.arguments.iter().for_each(|a| assert!(is_name(a) || number(a), "`{a}` is no generic argument"));
        self
    }
    /// Called.
    pub fn call(self, arguments: impl Into<Vec<Expr>>) -> Expr {
        Expr::Call(Box::new(Expr::Path(self)), arguments.into())
    }
}

impl Number {
    /// A whole number.
    pub fn whole(n: usize) -> Self {
        Number(n.to_string())
    }
    /// A whole number of a type.
    pub fn integer(n: u64, ty: &str) -> Self {
        assert!(is_name(ty), "{ty} is no type");
        Number(format!("{n}_{ty}"))
    }
    /// Of the type that its place has.
    pub fn zero() -> Self {
        Number("0.0".into())
    }
    /// A finite number of a scalar type, without its sign.
    pub fn real(c: f64, ty: &str) -> Self {
        assert!(c.is_finite() && is_name(ty), "no literal says {c} of type {ty}");
        Number(format!("{:?}_{ty}", c.abs()))
    }
}

impl Expr {
    /// One name.
    pub fn name(name: &str) -> Self {
        Expr::Path(Path::name(name))
    }
    pub fn whole(n: usize) -> Self {
        Expr::Number(Number::whole(n))
    }
    pub fn unary(self, op: Unary) -> Self {
        Expr::Unary(op, Box::new(self))
    }
    pub fn binary(self, op: Binary, other: Expr) -> Self {
        Expr::Binary(op, Box::new(self), Box::new(other))
    }
    pub fn method(self, name: Path, arguments: impl Into<Vec<Expr>>) -> Self {
        Expr::Method(Box::new(self), name, arguments.into())
    }
    pub fn at(self, index: Expr) -> Self {
        Expr::Index(Box::new(self), Box::new(index))
    }
    pub fn field(self, n: usize) -> Self {
        Expr::Field(Box::new(self), n)
    }
    pub fn bracketed(self) -> Self {
        Expr::Bracket(Box::new(self))
    }
    pub fn repeat(self, length: Expr) -> Self {
        assert!(matches!(length, Expr::Number(_) | Expr::Path(_)), "{length} is no length");
        Expr::Repeat(Box::new(self), Box::new(length))
    }
    pub fn when(test: Expr, yes: impl Into<Block>, no: impl Into<Block>) -> Self {
        Expr::If(Box::new(test), Box::new(yes.into()), Box::new(no.into()))
    }
    pub fn closure(names: &[&str], body: Expr) -> Self {
        Expr::Closure(names.iter().map(|n| Path::name(n)).collect(), Box::new(body))
    }
    /// The value of `body`, in which `name` stands for `value`.
    pub fn binding(name: &str, value: Expr, body: Expr) -> Self {
        let stmts = vec![Stmt::Let { pattern: Pattern::name(name), mutable: false, value }];
        Expr::Block(Box::new(Block { stmts, value: Some(body) }))
    }
    /// All of them joined by one operator, from the left; `None` of none.
    pub fn joined(op: Binary, all: impl IntoIterator<Item = Expr>) -> Option<Self> {
        all.into_iter().reduce(|a, b| a.join(op, b))
    }
    /// Tests within tests of the same kind are one list: unlike sums of numbers it does not matter how they are
    /// grouped.
    fn join(self, op: Binary, other: Expr) -> Self {
        match other {
            Expr::Binary(inner, a, b) if inner == op && matches!(op, Binary::And | Binary::Or) => {
                self.join(op, *a).join(op, *b)
            }
            other => self.binary(op, other),
        }
    }

    fn level(&self) -> Level {
        match self {
            Expr::If(..) | Expr::Block(_) | Expr::Const(_) | Expr::Closure(..) => Level::Open,
            Expr::Binary(op, ..) => op.level(),
            Expr::Unary(..) => Level::Unary,
            Expr::Path(_) | Expr::Number(_) | Expr::Bool(_) | Expr::Call(..) | Expr::Method(..) => Level::Postfix,
            Expr::Field(..) | Expr::Index(..) | Expr::Whole(_) | Expr::Array(_) | Expr::Repeat(..) => Level::Postfix,
            Expr::Bracket(_) => Level::Postfix,
        }
    }
}

impl Pattern {
    /// One name.
    pub fn name(name: &str) -> Self {
        Pattern::Name(Path::name(name))
    }
    /// An array of such elements: the longest run of them that have no name is `..`, and an array without names is one
    /// without a name.
    pub fn array(elements: Vec<Pattern>) -> Self {
        let (mut longest, mut run) = (0..0, 0..0);
        for (n, e) in elements.iter().enumerate() {
            run = if *e == Pattern::Unnamed { run.start..n + 1 } else { n + 1..n + 1 };
            if run.len() > longest.len() {
                longest = run.clone();
            }
        }
        if longest.len() == elements.len() {
            return Pattern::Unnamed;
        }
        let mut all = elements;
        if longest.len() > 1 {
            all.splice(longest, [Pattern::Rest]);
        }
        Pattern::Array(all)
    }
}

impl From<Expr> for Block {
    fn from(value: Expr) -> Self {
        Block { stmts: Vec::new(), value: Some(value) }
    }
}

impl From<Stmt> for Block {
    fn from(stmt: Stmt) -> Self {
        Block { stmts: vec![stmt], value: None }
    }
}

impl From<Compare> for Binary {
    fn from(op: Compare) -> Self {
        match op {
            Compare::Lt => Binary::Lt,
            Compare::Le => Binary::Le,
            Compare::Gt => Binary::Gt,
            Compare::Ge => Binary::Ge,
            Compare::Eq => Binary::Eq,
            Compare::Ne => Binary::Ne,
        }
    }
}

impl Unary {
    fn symbol(self) -> &'static str {
        match self {
            Unary::Neg => "-",
            Unary::Not => "!",
            Unary::Deref => "*",
            Unary::Ref => "&",
            Unary::RefMut => "&mut ",
        }
    }
}

impl Binary {
    fn symbol(self) -> &'static str {
        match self {
            Binary::Or => "||",
            Binary::And => "&&",
            Binary::Lt => "<",
            Binary::Le => "<=",
            Binary::Gt => ">",
            Binary::Ge => ">=",
            Binary::Eq => "==",
            Binary::Ne => "!=",
            Binary::Add => "+",
            Binary::Sub => "-",
            Binary::Mul => "*",
            Binary::Div => "/",
            Binary::Rem => "%",
        }
    }
    fn level(self) -> Level {
        match self {
            Binary::Or => Level::Or,
            Binary::And => Level::And,
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => Level::Compare,
            Binary::Add | Binary::Sub => Level::Sum,
            Binary::Mul | Binary::Div | Binary::Rem => Level::Product,
        }
    }
}

/// An expression where one of a level, or closer, may stand.
struct At<'a>(&'a Expr, Level);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if self.0.level() < self.1 { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

/// With commas between.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, x)| write!(f, "{}{x}", if n > 0 { ", " } else { "" }))
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&self.names.join("::"))?;
        if self.arguments.is_empty() { Ok(()) } else { write!(f, "::<{}>", List(&self.arguments)) }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Expr::Path(path) => path.fmt(f),
            Expr::Number(n) => f.write_str(&n.0),
            Expr::Bool(b) => b.fmt(f),
            Expr::Unary(op, a) => {
                // Twice the same sign would be another token, or read like one.
                let twice = match **a {
                    Expr::Unary(inner, _) => op.symbol().chars().next() == inner.symbol().chars().next(),
                    _ => false,
                };
                write!(f, "{}{}", op.symbol(), At(a, if twice { Level::Postfix } else { Level::Unary }))
            }
            Expr::Binary(op, a, b) => {
                let level = op.level();
                // A comparison is no operand of another.
                let left = if level == Level::Compare { level.closer() } else { level };
                write!(f, "{} {} {}", At(a, left), op.symbol(), At(b, level.closer()))
            }
            Expr::Call(callee, arguments) => {
                // `x.0(y)` is no call of a field to every reader.
                let bare = matches!(**callee, Expr::Path(_));
                match bare {
                    true => write!(f, "{callee}({})", List(arguments)),
                    false => write!(f, "({callee})({})", List(arguments)),
                }
            }
            Expr::Method(a, name, arguments) => write!(f, "{}.{name}({})", At(a, Level::Postfix), List(arguments)),
            Expr::Field(a, n) => match **a {
                // `1.0` and `x.0.1` have numbers in them.
                Expr::Number(_) | Expr::Field(..) => write!(f, "({a}).{n}"),
                _ => write!(f, "{}.{n}", At(a, Level::Postfix)),
            },
            Expr::Index(a, i) => write!(f, "{}[{i}]", At(a, Level::Postfix)),
            Expr::Whole(a) => write!(f, "{}[..]", At(a, Level::Postfix)),
            Expr::Array(all) => write!(f, "[{}]", List(all)),
            Expr::Repeat(a, n) => write!(f, "[{a}; {n}]"),
            Expr::If(test, yes, no) => write!(f, "if {} {yes} else {no}", At(test, Level::Or)),
            Expr::Block(block) => block.fmt(f),
            Expr::Const(a) => write!(f, "const {{ {a} }}"),
            Expr::Closure(names, body) => write!(f, "|{}| {body}", List(names)),
            Expr::Bracket(a) => write!(f, "({a})"),
        }
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Pattern::Name(name) => name.fmt(f),
            Pattern::Tuple(all) => write!(f, "({})", List(all)),
            Pattern::Array(all) => write!(f, "[{}]", List(all)),
            Pattern::Unnamed => f.write_str("_"),
            Pattern::Rest => f.write_str(".."),
        }
    }
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("{ ")?;
        for s in &self.stmts {
            write!(f, "{s} ")?;
        }
        match &self.value {
            // As the last of a block an expression ends where it ends, and as its first it begins no statement: unless
            // it is one itself.
            Some(value) => write!(f, "{value} }}"),
            None => f.write_str("}"),
        }
    }
}

impl Display for Stmt {
    /// In one line.
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let inner = |f: &mut Formatter, body: &[Stmt]| {
            f.write_str("{ ")?;
            body.iter().try_for_each(|s| write!(f, "{s} "))?;
            f.write_str("}")
        };
        match self {
            Stmt::For { body, .. } | Stmt::If { body, .. } => {
                self.head(f)?;
                inner(f, body)?;
                match self.otherwise() {
                    [] => Ok(()),
                    [chained @ Stmt::If { .. }] => write!(f, " else {chained}"),
                    others => {
                        f.write_str(" else ")?;
                        inner(f, others)
                    }
                }
            }
            Stmt::Comment(_) => unreachable!("a comment ends its line"),
            Stmt::Let { pattern, mutable, value } => {
                assert!(!mutable || matches!(pattern, Pattern::Name(_)), "a mutable pattern");
                write!(f, "let {}{pattern} = {value};", if *mutable { "mut " } else { "" })
            }
            Stmt::Assign(place, value) => write!(f, "{} = {value};", At(place, Level::Unary)),
            Stmt::Change(place, op, value) => write!(f, "{} {}= {value};", At(place, Level::Unary), op.symbol()),
            Stmt::Expr(e @ (Expr::If(..) | Expr::Block(_))) => e.fmt(f),
            Stmt::Expr(e) => write!(f, "{e};"),
        }
    }
}

impl Stmt {
    /// What stands before the braces.
    fn head(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Stmt::For { var, extent, .. } => write!(f, "for {var} in 0..{extent} "),
            Stmt::If { test, .. } => write!(f, "if {} ", At(test, Level::Or)),
            _ => Ok(()),
        }
    }

    /// What is done where the test does not hold.
    fn otherwise(&self) -> &[Stmt] {
        if let Stmt::If { otherwise, .. } = self { otherwise } else { &[] }
    }
}

/// Statements one a line, `depth` steps of four spaces from the margin.
pub fn lines(stmts: &[Stmt], depth: usize) -> String {
    let mut out = String::new();
    write_lines(stmts, depth, &mut out).expect("a string takes all text");
    out
}

fn write_lines(stmts: &[Stmt], depth: usize, out: &mut String) -> fmt::Result {
    use fmt::Write;
    let margin = "    ".repeat(depth);
    for s in stmts {
        match s {
            Stmt::Comment(text) => text.lines().try_for_each(|line| writeln!(out, "{margin}// {line}"))?,
            Stmt::For { body, .. } | Stmt::If { body, .. } => {
                out.push_str(&margin);
                s.head(out)?;
                out.push_str("{\n");
                write_lines(body, depth + 1, out)?;
                let mut rest = s.otherwise();
                while !rest.is_empty() {
                    write!(out, "{margin}}} else ")?;
                    let mut body = rest;
                    rest = &[];
                    if let [chained @ Stmt::If { body: inner, .. }] = body {
                        chained.head(out)?;
                        (body, rest) = (inner, chained.otherwise());
                    }
                    out.push_str("{\n");
                    write_lines(body, depth + 1, out)?;
                }
                writeln!(out, "{margin}}}")?;
            }
            s => writeln!(out, "{margin}{s}")?,
        }
    }
    Ok(())
}
