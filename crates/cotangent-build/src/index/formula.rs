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

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::diagnostic::Diagnostics;
    use crate::source::Sources;
    use crate::syntax::{self, BinaryOp, ExprKind};

    /// A tree without brackets for the reader, and of products of one kind.
    pub fn bare(f: &Formula) -> Formula {
        let boxed = |f: &Formula| Box::new(bare(f));
        let all = |fs: &[Formula]| fs.iter().map(bare).collect();
        match f {
            Formula::Atom(text) => Formula::Atom(text.parse::<f64>().map_or(text.clone(), |v| format!("{v:?}"))),
            Formula::Access(name, index) => Formula::Access(name.clone(), all(index)),
            Formula::Call(name, arguments) => Formula::Call(name.clone(), all(arguments)),
            Formula::Neg(a) => Formula::Neg(boxed(a)),
            Formula::Not(a) => Formula::Not(boxed(a)),
            Formula::Binary(Op::Times, a, b) => Formula::Binary(Op::Mul, boxed(a), boxed(b)),
            Formula::Binary(Op::Per, a, b) => Formula::Binary(Op::Div, boxed(a), boxed(b)),
            Formula::Binary(op, a, b) => Formula::Binary(*op, boxed(a), boxed(b)),
            Formula::Power(a, n) => Formula::Power(boxed(a), boxed(n)),
            Formula::Reduce(op, over, body) => Formula::Reduce(*op, over.clone(), boxed(body)),
            Formula::Bracket(a) => bare(a),
            other => panic!("the language has no {other}"),
        }
    }

    /// What the parser of the language makes of a text.
    pub fn parsed(text: &str) -> Formula {
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let id = sources.add("formula", text.to_owned());
        let e = syntax::expression(&crate::spec::Formula::verbatim(id, 0, text), &mut out);
        read(&e.unwrap_or_else(|| panic!("{}", out.render(&sources))))
    }

    fn read(e: &syntax::Expr) -> Formula {
        let boxed = |e: &syntax::Expr| Box::new(read(e));
        match &e.kind {
            ExprKind::Number(v) => Formula::Atom(format!("{v:?}")),
            ExprKind::Name(name) => Formula::Atom(name.clone()),
            ExprKind::Access(a) => {
                Formula::Access(a.name.value.clone(), a.index.iter().map(|i| read(&i.expr)).collect())
            }
            ExprKind::Neg(a) => Formula::Neg(boxed(a)),
            ExprKind::Not(a) => Formula::Not(boxed(a)),
            ExprKind::Binary(BinaryOp::Pow, a, b) => Formula::Power(boxed(a), boxed(b)),
            ExprKind::Binary(op, a, b) => {
                let op = match op {
                    BinaryOp::Add => Op::Add,
                    BinaryOp::Sub => Op::Sub,
                    BinaryOp::Mul => Op::Mul,
                    BinaryOp::Div => Op::Div,
                    BinaryOp::Lt => Op::Lt,
                    BinaryOp::Le => Op::Le,
                    BinaryOp::Gt => Op::Gt,
                    BinaryOp::Ge => Op::Ge,
                    BinaryOp::Eq => Op::Eq,
                    BinaryOp::Ne => Op::Ne,
                    BinaryOp::And => Op::And,
                    BinaryOp::Or => Op::Or,
                    BinaryOp::Pow => unreachable!("above"),
                };
                Formula::Binary(op, boxed(a), boxed(b))
            }
            ExprKind::Call(name, arguments, _) => {
                Formula::Call(name.value.clone(), arguments.iter().map(read).collect())
            }
            ExprKind::Reduce { op, binders, body } => {
                let op = match op.value {
                    syntax::ReduceOp::Sum => ReduceOp::Sum,
                    syntax::ReduceOp::Prod => ReduceOp::Prod,
                    syntax::ReduceOp::Max => ReduceOp::Max,
                    syntax::ReduceOp::Min => ReduceOp::Min,
                    syntax::ReduceOp::Mean => panic!("no printer writes `mean`"),
                };
                let binder = |b: &syntax::Binder| match &b.axis {
                    Some(axis) => format!("{} in {}", b.name.value, axis.value),
                    None => b.name.value.clone(),
                };
                let over: Vec<_> = binders.iter().map(binder).collect();
                Formula::Reduce(op, over.join(","), boxed(body))
            }
        }
    }

    /// Formulas at random, of what the language has text for.
    fn random(next: &mut impl FnMut(usize) -> usize, depth: usize) -> Formula {
        let kind = if depth == 0 { next(3) } else { next(18) };
        let mut inner = || Box::new(random(next, depth.saturating_sub(1)));
        match kind {
            0 => Formula::atom("x"),
            1 => Formula::atom([0.5, 1e-7, 1e300, 3.0][depth % 4]),
            2 => Formula::Access("t".into(), vec![Formula::atom("i"), Formula::atom("j")]),
            3 | 4 => Formula::Neg(inner()),
            5 => Formula::Not(inner()),
            6..=12 => {
                let (a, b) = (inner(), inner());
                use Op::{Add, And, Div, Eq, Ge, Gt, Le, Lt, Mul, Ne, Or, Per, Sub, Times};
                let op =
                    [Or, And, Lt, Le, Gt, Ge, Eq, Ne, Add, Sub, Mul, Div, Times, Per, Add, Sub, Mul, Div][next(18)];
                Formula::Binary(op, a, b)
            }
            13 => {
                let a = inner();
                Formula::Power(a, Box::new(Formula::atom(2.5).signed(next(2) == 0)))
            }
            14 => Formula::call(["exp", "max", "where"][depth % 3], [*inner(), *inner()]),
            15 => Formula::Access("t".into(), vec![*inner()]),
            16 => {
                let body = inner();
                let op = [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min][next(4)];
                Formula::Reduce(op, ["i", "i,j in J"][next(2)].into(), body)
            }
            _ => inner().bracketed(),
        }
    }

    #[test]
    fn what_is_printed_parses_to_what_it_was() {
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for round in 0..5_000 {
            let f = random(&mut next, 1 + round % 5);
            let text = f.to_string();
            assert_eq!(parsed(&text), bare(&f), "{text}");
        }
    }

    #[test]
    fn what_the_language_has_not_is_delimited() {
        let [a, b] = ["a", "b"].map(Formula::atom);
        let product = a.clone().binary(Op::Mul, b.clone());
        let lanes = |f: Formula| Formula::Lanes(Box::new(f), "all 8".into());
        let all = [
            (lanes(product.clone()), "(a * b)<all 8>"),
            (lanes(a.clone().signed(true)), "(-a)<all 8>"),
            (
                lanes(a.clone()).binary(Op::Div, lanes(b.clone()).binary(Op::Mul, a.clone())),
                "a<all 8> / (b<all 8> * a)",
            ),
            (
                Formula::Each("sin".into(), vec![product.clone(), b.clone()]).binary(Op::Mul, a.clone()),
                "sin<a * b, b> * a",
            ),
            (
                a.clone().binary(
                    Op::Mul,
                    Formula::Choice(Box::new([a.clone().binary(Op::Lt, b.clone()), product, b.clone()])),
                ),
                "a * (a < b ? a * b : b)",
            ),
            (Formula::Access("t".into(), vec![Formula::Guarded(Box::new(a.binary(Op::Add, b)))]), "t[a + b?]"),
        ];
        for (f, text) in all {
            assert_eq!(f.to_string(), text);
        }
    }
}
