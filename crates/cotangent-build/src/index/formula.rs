//! Formulas as trees: takes what the printers of the IRs make of values, conditions and coordinates, gives their text.
//!
//! Holds after it: the text parses to the tree that it is of, brackets aside, by the grammar of the spec language; what
//! that has no text for (lanes, guards, choices) is delimited. The printer alone knows precedence.

use super::{Binary, Compare, ReduceOp};
use std::fmt::{self, Display, Formatter};

#[derive(Clone, Debug, PartialEq)]
pub enum Formula {
    /// A name, or a number without its sign.
    Atom(String),
    /// `x[i, j]`
    Access(String, Vec<Formula>),
    /// `f(a, b)`
    Call(String, Vec<Formula>),
    Neg(Box<Formula>),
    Not(Box<Formula>),
    Binary(Op, Box<Formula>, Box<Formula>),
    /// By a literal, perhaps with a sign.
    Power(Box<Formula>, Box<Formula>),
    /// How, over what, and the body: `sum(j,k) x[j,k]`.
    Reduce(ReduceOp, String, Box<Formula>),
    /// `x<8>`: of so many lanes.
    Lanes(Box<Formula>, String),
    /// `sin<a, b>`: of scalars, a lane each.
    Each(String, Vec<Formula>),
    /// `(a ? b : c)`
    Choice(Box<[Formula; 3]>),
    /// `i?`: a position that only a test keeps in bounds.
    Guarded(Box<Formula>),
    /// `_ _ i`: a position that runs over so many dimensions besides its own.
    Over(usize, Box<Formula>),
    /// Brackets for the reader, where precedence asks for none.
    Bracket(Box<Formula>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Or,
    And,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    /// `i in 0..3`
    In,
    Add,
    Sub,
    Mul,
    Div,
    /// `2*i`: a product of coordinates and sizes.
    Times,
    /// `(i + 1)/2`
    Per,
}

/// Binding strength, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Not,
    Compare,
    Sum,
    Product,
    Negation,
    Power,
    Primary,
}

impl Op {
    fn text(self) -> &'static str {
        match self {
            Op::Or => " or ",
            Op::And => " and ",
            Op::Lt => " < ",
            Op::Le => " <= ",
            Op::Gt => " > ",
            Op::Ge => " >= ",
            Op::Eq => " == ",
            Op::Ne => " != ",
            Op::In => " in ",
            Op::Add => " + ",
            Op::Sub => " - ",
            Op::Mul => " * ",
            Op::Div => " / ",
            Op::Times => "*",
            Op::Per => "/",
        }
    }
    /// Its own level, and those of its operands.
    fn levels(self) -> (Level, Level, Level) {
        match self {
            Op::Or => (Level::Or, Level::Or, Level::And),
            Op::And => (Level::And, Level::And, Level::Not),
            Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::In => (Level::Compare, Level::Sum, Level::Sum),
            Op::Add | Op::Sub => (Level::Sum, Level::Sum, Level::Product),
            // A sign in the middle of a product is easily read past.
            Op::Mul | Op::Div | Op::Times | Op::Per => (Level::Product, Level::Product, Level::Power),
        }
    }
}

impl From<Compare> for Op {
    fn from(op: Compare) -> Self {
        match op {
            Compare::Lt => Op::Lt,
            Compare::Le => Op::Le,
            Compare::Gt => Op::Gt,
            Compare::Ge => Op::Ge,
            Compare::Eq => Op::Eq,
            Compare::Ne => Op::Ne,
        }
    }
}

impl Op {
    /// The operator of a function that has one.
    pub fn of(f: Binary) -> Option<Self> {
        match f {
            Binary::Add => Some(Op::Add),
            Binary::Sub => Some(Op::Sub),
            Binary::Mul => Some(Op::Mul),
            Binary::Div => Some(Op::Div),
            _ => None,
        }
    }
}

impl Formula {
    pub fn atom(text: impl ToString) -> Self {
        Formula::Atom(text.to_string())
    }
    pub fn call(name: &str, arguments: impl Into<Vec<Formula>>) -> Self {
        Formula::Call(name.into(), arguments.into())
    }
    pub fn binary(self, op: Op, other: Formula) -> Self {
        Formula::Binary(op, Box::new(self), Box::new(other))
    }
    /// Behind a sign, if it has one.
    pub fn signed(self, negative: bool) -> Self {
        if negative { Formula::Neg(Box::new(self)) } else { self }
    }
    /// Between brackets, once.
    pub fn bracketed(self) -> Self {
        match self {
            Formula::Bracket(_) => self,
            other => Formula::Bracket(Box::new(other)),
        }
    }
    /// Terms with their signs; zero of none. A sign in front is that of the first factor.
    pub fn total(terms: impl IntoIterator<Item = (bool, Formula)>) -> Self {
        fn negated(f: Formula) -> Formula {
            match f {
                Formula::Binary(op @ (Op::Times | Op::Per), a, b) => Formula::Binary(op, Box::new(negated(*a)), b),
                f => f.signed(true),
            }
        }
        let sum = terms.into_iter().fold(None, |sum, (negative, term)| {
            Some(match sum {
                None if negative => negated(term),
                None => term,
                Some(sum) => Formula::binary(sum, if negative { Op::Sub } else { Op::Add }, term),
            })
        });
        sum.unwrap_or_else(|| Formula::atom(0))
    }

    fn level(&self) -> Level {
        match self {
            Formula::Binary(op, ..) => op.levels().0,
            Formula::Not(_) => Level::Not,
            // It goes on over the products to its right.
            Formula::Reduce(..) => Level::Sum,
            Formula::Neg(_) => Level::Negation,
            Formula::Power(..) => Level::Power,
            // Where they stand nothing follows.
            Formula::Guarded(_) | Formula::Over(..) => Level::Or,
            Formula::Atom(_) | Formula::Access(..) | Formula::Call(..) | Formula::Bracket(_) => Level::Primary,
            Formula::Lanes(..) | Formula::Each(..) | Formula::Choice(_) => Level::Primary,
        }
    }

    /// Whether its text begins with a sign.
    fn leads_with_sign(&self) -> bool {
        match self {
            Formula::Neg(_) => true,
            Formula::Binary(op, a, _) => a.level() >= op.levels().1 && a.leads_with_sign(),
            _ => false,
        }
    }
}

/// A formula where one of a level, or closer, may stand.
struct At<'a>(&'a Formula, Level);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if self.0.level() < self.1 { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

struct List<'a>(&'a [Formula]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, x)| write!(f, "{}{x}", if n > 0 { ", " } else { "" }))
    }
}

impl Display for Formula {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Formula::Atom(text) => f.write_str(text),
            Formula::Access(name, index) => write!(f, "{name}[{}]", List(index)),
            Formula::Call(name, arguments) => write!(f, "{name}({})", List(arguments)),
            Formula::Neg(a) => write!(f, "-{}", At(a, Level::Power)),
            Formula::Not(a) => write!(f, "not {}", At(a, Level::Compare)),
            Formula::Binary(op, a, b) => {
                let (_, left, right) = op.levels();
                write!(f, "{}{}{}", At(a, left), op.text(), At(b, right))
            }
            Formula::Power(a, n) => write!(f, "{}^{n}", At(a, Level::Primary)),
            Formula::Reduce(op, over, body) => {
                write!(f, "{}({over}) ", op.name())?;
                // `max(j) - x` would be a difference of a call.
                let difference = matches!(op, ReduceOp::Max | ReduceOp::Min) && body.leads_with_sign();
                At(body, if difference { Level::Primary } else { Level::Product }).fmt(f)
            }
            Formula::Lanes(a, lanes) => write!(f, "{}<{lanes}>", At(a, Level::Primary)),
            Formula::Each(name, all) => write!(f, "{name}<{}>", List(all)),
            Formula::Choice(all) => {
                let [test, yes, no] = &**all;
                write!(f, "({test} ? {yes} : {no})")
            }
            Formula::Guarded(a) => write!(f, "{}?", At(a, Level::Sum)),
            Formula::Over(n, a) => write!(f, "{}{a}", "_ ".repeat(*n)),
            Formula::Bracket(a) => write!(f, "({a})"),
        }
    }
}
