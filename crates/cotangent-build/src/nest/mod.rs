//! The loop nest: what runs, in which order, with which registers; still no Rust text. Takes plain statements ([`schedule`]).
//!
//! Holds after it: every loop runs from 0 to a constant; every access is in bounds where it stands, by its loops or by the tests
//! around it; registers are set before they are read.

pub mod check;
pub mod eval;
pub mod fuse;
pub mod print;
pub mod schedule;

use crate::index::{Binary, Compare, ReduceOp, TensorId, Unary};
use crate::plain::{Kind, Linear};
use crate::source::Span;

/// One function as a nest.
#[derive(Clone, Debug, PartialEq)]
pub struct Nest {
    pub name: String,
    pub kind: Kind,
    pub reads: Vec<TensorId>,
    pub writes: Vec<TensorId>,
    pub locals: Vec<Local>,
    pub vars: Vec<Var>,
    pub registers: Vec<Register>,
    pub body: Vec<Node>,
}

/// A scratch tensor on the stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    pub tensor: TensorId,
    pub name: String,
    /// Storage dimensions that remain: the others are those of the loop that it lives in.
    pub keep: Vec<usize>,
    pub shape: Vec<usize>,
}

/// A loop variable, from 0 to its extent.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    pub name: String,
    pub extent: usize,
}

/// Accumulators: one, or a row of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    pub name: String,
    pub lanes: Option<usize>,
}

pub type VarId = usize;
pub type RegisterId = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The statement that the nodes after it carry out, and the step of the spec that it comes from.
    Comment(String, Option<Span>),
    Loop {
        var: VarId,
        body: Vec<Node>,
    },
    /// Where every test holds.
    If {
        tests: Vec<Test>,
        body: Vec<Node>,
    },
    /// Sets every lane of a register.
    Init {
        register: RegisterId,
        value: f64,
    },
    Update {
        place: Place,
        how: Update,
        value: Value,
    },
    /// Folds the lanes of `from` into `into`, first with last half, then halves of that: a fixed tree.
    Fold {
        into: RegisterId,
        from: RegisterId,
        op: ReduceOp,
    },
    /// Sets every element to zero.
    Fill(TensorId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    Set,
    Reduce(ReduceOp),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Element(Access),
    Register(RegisterId, Option<Linear>),
}

/// One element of an argument or a local.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    pub tensor: TensorId,
    /// One position into the flat elements, or one for each storage dimension.
    pub flat: bool,
    pub positions: Vec<Position>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    pub numerator: Linear,
    pub divisor: i64,
    /// Only the tests around it keep it in bounds.
    pub guarded: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Const(f64),
    Load(Access),
    Register(RegisterId, Option<Linear>),
    Unary(Unary, Box<Value>),
    Binary(Binary, Box<Value>, Box<Value>),
    Powf(Box<Value>, f64),
    /// Only the taken side is evaluated.
    Select(Box<Test>, Box<Value>, Box<Value>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `numerator / divisor` is whole and in `0..extent`.
    Within {
        numerator: Linear,
        divisor: i64,
        extent: usize,
    },
    Index(Compare, Linear, Linear),
    Value(Compare, Value, Value),
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
}

impl Value {
    /// Every access of an element, tests included.
    pub fn loads<'a>(&'a self, f: &mut impl FnMut(&'a Access)) {
        match self {
            Value::Const(_) | Value::Register(..) => {}
            Value::Load(a) => f(a),
            Value::Unary(_, a) | Value::Powf(a, _) => a.loads(f),
            Value::Binary(_, a, b) => {
                a.loads(f);
                b.loads(f);
            }
            Value::Select(t, a, b) => {
                t.loads(f);
                a.loads(f);
                b.loads(f);
            }
        }
    }
    /// Every variable that it depends on.
    pub fn vars(&self, f: &mut impl FnMut(VarId)) {
        match self {
            Value::Const(_) => {}
            Value::Load(a) => a.vars(f),
            Value::Register(_, lane) => lane.iter().for_each(|l| l.terms.iter().for_each(|(v, _)| f(*v))),
            Value::Unary(_, a) | Value::Powf(a, _) => a.vars(f),
            Value::Binary(_, a, b) => {
                a.vars(f);
                b.vars(f);
            }
            Value::Select(t, a, b) => {
                t.vars(f);
                a.vars(f);
                b.vars(f);
            }
        }
    }
}

impl Test {
    pub fn loads<'a>(&'a self, f: &mut impl FnMut(&'a Access)) {
        match self {
            Test::Within { .. } | Test::Index(..) => {}
            Test::Value(_, a, b) => {
                a.loads(f);
                b.loads(f);
            }
            Test::And(ts) | Test::Or(ts) => ts.iter().for_each(|t| t.loads(f)),
            Test::Not(t) => t.loads(f),
        }
    }
    pub fn vars(&self, f: &mut impl FnMut(VarId)) {
        let mut linear = |l: &Linear| l.terms.iter().for_each(|(v, _)| f(*v));
        match self {
            Test::Within { numerator, .. } => linear(numerator),
            Test::Index(_, a, b) => {
                linear(a);
                linear(b);
            }
            Test::Value(_, a, b) => {
                a.vars(f);
                b.vars(f);
            }
            Test::And(ts) | Test::Or(ts) => ts.iter().for_each(|t| t.vars(f)),
            Test::Not(t) => t.vars(f),
        }
    }
    /// All of them as one test.
    pub fn all(mut tests: Vec<Test>) -> Test {
        if tests.len() == 1 { tests.remove(0) } else { Test::And(tests) }
    }
}

impl Access {
    pub fn vars(&self, f: &mut impl FnMut(VarId)) {
        self.positions.iter().for_each(|p| p.numerator.terms.iter().for_each(|(v, _)| f(*v)));
    }
}
