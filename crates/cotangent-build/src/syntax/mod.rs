//! Formula text to syntax tree.
//!
//! Takes a [`Formula`](crate::spec::Formula) (`z[i,k] = sum(j) x[i,j] * y[j,k]`), gives a [`Step`] or an [`Expr`] with
//! the span of every part. What holds after it: the text is a sentence of the grammar; no name has a meaning yet.
//! Printing a tree gives text that parses to the same tree. The tree stands here; `lex.rs` and `parse.rs` make it,
//! `print.rs` writes it.
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

mod lex;
mod parse;
mod print;

pub use parse::{expression, step};

use crate::source::{At, Span};

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
