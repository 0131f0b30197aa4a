//! The loop nest: what runs, in which order, with which registers; still no Rust text. Takes plain statements
//! ([`schedule`]).
//!
//! Holds after it: every loop runs from 0 to a constant; every access is in bounds where it stands, by its loops or by
//! the tests around it; registers are set before they are read; scalars and lanes do not mix.

mod builder;
pub mod check;
mod coalesce;
pub mod decide;
pub mod epilogue;
pub mod eval;
mod function;
pub mod fuse;
pub mod inline;
pub(crate) mod lanes;
mod lower;
pub mod machine;
pub mod plan;
mod prepare;
pub mod print;
mod rows;
pub mod schedule;
pub(crate) mod speculate;
mod statement;
mod tile;
pub mod unrolled;
pub mod walk;

use crate::index::{Binary, Compare, ReduceOp, TensorId, Unary};
use crate::plain::{Kernel, Kind, Linear};
use crate::source::Span;
use machine::Machine;
pub use tile::Tuning;

/// One function as a nest, for the machines that it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Nest {
    pub name: String,
    pub kind: Kind,
    pub machines: Vec<&'static Machine>,
    /// Why it is as it is: what the schedule chose, and against what.
    pub notes: Vec<String>,
    pub reads: Vec<TensorId>,
    pub writes: Vec<TensorId>,
    pub locals: Vec<Local>,
    pub vars: Vec<Var>,
    pub registers: Vec<Register>,
    pub body: Vec<Node>,
}

/// A scratch tensor on the stack: one of the kernel, without the dimensions of the loop that it lives in, or a panel of
/// packed operands, whose id is none of the kernel's.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    pub tensor: TensorId,
    pub name: String,
    pub shape: Vec<usize>,
}

/// A variable, from 0 to its extent: of a loop, or what a tile is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    pub name: String,
    pub extent: usize,
    /// What of a tile's registers its loop counts: the compiler unrolls it.
    pub counts: Option<Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Rows,
    Vectors,
}

/// A scalar, or lanes: as many scalars as fill one register of the machine, or fewer. Or an array of such.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    pub name: String,
    pub lanes: Option<usize>,
    /// The variables that count an array of them; none of a single one.
    pub dims: Vec<VarId>,
}

pub type VarId = usize;
pub type RegisterId = usize;

/// A register, or one of an array of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    pub register: RegisterId,
    pub at: Vec<Linear>,
}

/// Work of a fixed shape that stands in a function of its own and is called with where it is. Registers that it sets
/// are its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The variables that it is given, and their values where it is called.
    pub params: Vec<(VarId, Linear)>,
    /// The lanes of its vectors.
    pub width: usize,
    /// The variable that counts its vectors.
    pub vector: VarId,
    /// Those that count its rows.
    pub rows: Vec<VarId>,
    pub body: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The statement that the nodes after it carry out, and the step of the spec that it comes from.
    Comment(String, Option<Span>),
    Loop {
        var: VarId,
        body: Vec<Node>,
    },
    Tile(Tile),
    /// The variable is the value, or `most` where that is less.
    Let {
        var: VarId,
        value: Linear,
        most: usize,
    },
    /// Where every test holds.
    If {
        tests: Vec<Test>,
        body: Vec<Node>,
    },
    /// Runs without the branches that functions have for rare arguments, and again with them if one of the arguments
    /// was rare.
    Speculative {
        body: Vec<Node>,
    },
    /// A register's first value, of its width: of every one of an array, whose variables the value may depend on.
    Init {
        register: RegisterId,
        value: Value,
    },
    Update {
        place: Place,
        how: Update,
        value: Value,
    },
    /// Folds the lanes of `from` onto the scalar `into`: first with last half, then halves of that: a fixed tree.
    Fold {
        into: Slot,
        from: Slot,
        op: ReduceOp,
    },
    /// Lane i of `into` becomes the sum of the lanes of register i, in the order of a fold.
    Sums {
        into: RegisterId,
        from: Vec<Slot>,
    },
    /// Transposes a block: column `i` of the rows that are read goes to the place `i`. As many rows as columns, or
    /// twice as many.
    Transpose(BlockTranspose),
    /// Sets every element to zero.
    Fill(TensorId),
}

/// A block that is transposed.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockTranspose {
    /// The variable that counts the rows, and the first of each row.
    pub row: VarId,
    pub from: Access,
    /// The variable that counts the columns, and where each goes.
    pub column: VarId,
    pub to: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    Set,
    Reduce(ReduceOp),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Element(Access),
    Register(Slot),
    /// Elements that follow each other, from the access on, one a lane; only the lanes of the range are written.
    Lanes(Access, std::ops::Range<usize>),
}

/// One element of an argument or a local, or the first of its lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    pub tensor: TensorId,
    pub positions: Vec<Position>,
    /// How many storage dimensions, joined to one, each position runs over.
    pub joined: Vec<usize>,
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
    /// First element, lanes, count: a vector whose first `count` lanes are elements that follow each other, the rest
    /// zeros.
    Lanes(Access, usize, usize),
    /// A scalar in every one of so many lanes.
    Splat(Box<Value>, usize),
    Register(Slot),
    Unary(Unary, Box<Value>),
    Binary(Binary, Box<Value>, Box<Value>),
    Powf(Box<Value>, f64),
    /// `a * b + c` of scalars, rounded once where the instruction set does that.
    Fused(Box<Value>, Box<Value>, Box<Value>),
    /// A function applied to several scalars at once, one a lane. [`Value::Lane`] reads the results.
    Each(Unary, Vec<Value>),
    /// One lane of a register.
    Lane(Slot, usize),
    /// Only the taken side is evaluated.
    Select(Box<Test>, Box<Value>, Box<Value>),
    /// Lane by lane: where the first two compare so, the third, else the fourth. All are evaluated.
    Choose(Compare, Box<[Value; 4]>),
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

impl From<RegisterId> for Slot {
    fn from(register: RegisterId) -> Self {
        Slot { register, at: Vec::new() }
    }
}

impl Value {
    /// A register that is no array.
    pub fn register(r: RegisterId) -> Self {
        Value::Register(r.into())
    }
    /// The number of lanes; `None` for a scalar.
    pub fn lanes(&self, registers: &[Register]) -> Option<usize> {
        match self {
            Value::Const(_) | Value::Load(_) | Value::Fused(..) | Value::Lane(..) => None,
            Value::Each(_, all) => Some(all.len()),
            Value::Lanes(_, n, _) | Value::Splat(_, n) => Some(*n),
            Value::Register(slot) => registers[slot.register].lanes,
            Value::Choose(_, all) => all[0].lanes(registers),
            Value::Unary(_, a) | Value::Powf(a, _) | Value::Binary(_, a, _) | Value::Select(_, a, _) => {
                a.lanes(registers)
            }
        }
    }
}

impl Test {
    /// All of them as one test.
    pub fn all(mut tests: Vec<Test>) -> Test {
        if tests.len() == 1 { tests.remove(0) } else { Test::And(tests) }
    }
}

impl Local {
    /// Whether it holds packed operands.
    pub fn is_panel(&self, k: &Kernel) -> bool {
        self.tensor.0 >= k.tensors.len()
    }
}

impl Nest {
    /// The shape that accesses see, dimensions in storage order.
    pub fn shape<'a>(&'a self, k: &'a Kernel, t: TensorId) -> &'a [usize] {
        self.local(t).map_or_else(|| &k.tensor(t).shape, |l| &l.shape)
    }
    pub fn tensor<'a>(&'a self, k: &'a Kernel, t: TensorId) -> &'a str {
        self.local(t).map_or_else(|| &k.tensor(t).name, |l| &l.name)
    }
    pub fn local(&self, t: TensorId) -> Option<&Local> {
        self.locals.iter().find(|l| l.tensor == t)
    }
}

impl Access {
    /// The extent of each position, dimensions joined.
    pub fn extents(&self, shape: &[usize]) -> Vec<usize> {
        let mut rest = shape;
        self.joined
            .iter()
            .map(|n| {
                let (these, after) = rest.split_at(*n);
                rest = after;
                these.iter().product()
            })
            .collect()
    }
}
