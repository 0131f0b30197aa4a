//! The index-notation IR: what a spec means. Takes nothing from YAML or formula text but spans; later stages see only
//! this.
//!
//! Holds after [`resolve`]: every name is an id; every index variable has one axis group; every access position is an
//! affine map (with at most one exact division, outermost); a reduction stands only at the root of a statement's value;
//! tensors are written before they are read. Derivatives are statements of the same IR, so they can be differentiated
//! again.

pub mod bind;
pub mod bounds;
pub mod check;
pub mod element;
pub mod eval;
pub mod formula;
pub mod normal;
pub mod print;
pub mod resolve;
pub mod scan;
pub mod walk;

use crate::functions::Algebra;
pub use crate::functions::{Binary, Compare, Unary};
use crate::source::{SourceId, Span};
use crate::types::Domain;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, Div, Mul, Neg, Sub};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub usize);
    )*};
}
ids!(
    /// An axis group of an op.
    AxisId,
    /// A parameter of an op.
    ParamId,
    /// A tensor of an op: input, output, local, or the tangent or cotangent of one.
    TensorId,
    /// An index variable of one statement.
    VarId
);

/// An op: a declaration over named axes, no sizes yet.
#[derive(Clone, Debug)]
pub struct Op {
    pub name: String,
    pub doc: String,
    pub source: SourceId,
    pub axes: Vec<Axis>,
    pub params: Vec<Param>,
    pub tensors: Vec<Tensor>,
    /// How many recurrences have been numbered.
    pub scans: usize,
    pub forward: Vec<Stmt>,
    /// The statements of `forward` that come from calls of other ops.
    pub calls: Vec<Call>,
    /// `x_bar` from `z_bar`; empty until derived when the spec does not declare it.
    pub adjoint: Rule,
    /// `z_dot` from `x_dot`; empty until derived when the spec does not declare it.
    pub tangent: Rule,
    /// The formulas as written, for documentation: text and span of each step of `forward` and of `adjoint`.
    pub written: Written,
    /// What makes it a program.
    pub program: Option<Program>,
    /// Tensors that hold a tangent or a cotangent for each seed of a batch, and the one that each is a batch of.
    pub batches: BTreeMap<TensorId, TensorId>,
}

/// A whole function, with entry points of its own and a workspace that the caller provides.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The inputs that derivatives are taken by.
    pub wrt: Vec<TensorId>,
    /// Locals of the forward formula of which the author says whether the way back reads them or computes them again.
    pub checkpoints: BTreeMap<TensorId, Checkpoint>,
    /// The entry points asked for; `None`: those that every program has.
    pub asked: Option<Vec<Entry>>,
    /// The statements of each entry point. Empty before [`crate::program::complete`].
    pub functions: Vec<ProgramFunction>,
}

/// What becomes of a local between the way forward and the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    Save,
    Recompute,
}

/// An entry point of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    Forward,
    Jvp,
    Vjp,
    ValueAndGrad,
    Hvp,
    ValueGradAndHvp,
    Jacobian,
    Hessian,
}

impl Entry {
    pub const ALL: [Entry; 8] = [
        Entry::Forward,
        Entry::Jvp,
        Entry::Vjp,
        Entry::ValueAndGrad,
        Entry::Hvp,
        Entry::ValueGradAndHvp,
        Entry::Jacobian,
        Entry::Hessian,
    ];
    pub fn name(self) -> &'static str {
        match self {
            Entry::Forward => "forward",
            Entry::Jvp => "jvp",
            Entry::Vjp => "vjp",
            Entry::ValueAndGrad => "value_and_grad",
            Entry::Hvp => "hvp",
            Entry::ValueGradAndHvp => "value_grad_and_hvp",
            Entry::Jacobian => "jacobian",
            Entry::Hessian => "hessian",
        }
    }
    /// Whether it is of a single number.
    pub fn of_number(self) -> bool {
        matches!(self, Entry::ValueAndGrad | Entry::Hvp | Entry::ValueGradAndHvp | Entry::Hessian)
    }
    /// Whether it is made for those alone who name it: it is a tenth of a program's text, and gives what others give.
    pub fn is_asked_for(self) -> bool {
        self == Entry::ValueGradAndHvp
    }
    /// Whether a program can have it.
    pub fn is_of(self, op: &Op) -> bool {
        !self.of_number() || matches!(op.outputs().as_slice(), [z] if op.tensor(*z).axes.is_empty())
    }
}

/// The statements of an entry point, and what they write for the caller.
#[derive(Clone, Debug)]
pub struct ProgramFunction {
    pub entry: Entry,
    pub stmts: Vec<Stmt>,
    /// In the order of the arguments.
    pub results: Vec<TensorId>,
    /// For a Jacobian: it was made by going back from the outputs.
    pub reverse: bool,
}

/// A call of another op: its statements stand in the caller's, over the caller's axes and tensors.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which of the caller's forward statements.
    pub stmts: std::ops::Range<usize>,
    /// The callee's tangent rule over the caller's tensors: so that what the callee declares holds here too.
    pub tangent: Vec<Stmt>,
}

/// Formula text as the author wrote it.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub forward: Vec<(String, Span)>,
    pub adjoint: Vec<(String, Span)>,
    pub tangent: Vec<(String, Span)>,
}

/// Derivative statements and where they came from.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub stmts: Vec<Stmt>,
    pub declared: bool,
}

/// A named group of zero or more dimensions.
#[derive(Clone, Debug)]
pub struct Axis {
    pub name: String,
    /// The name of its index: the axis name in lower case.
    pub index: String,
    pub span: Span,
    /// Axes of one class have the same rank in every instance (they meet in an index expression).
    pub rank_class: usize,
    /// `None`: given by the instance; otherwise computed per dimension.
    pub size: Option<Size>,
}

/// A derived size, per dimension.
#[derive(Clone, Debug, PartialEq)]
pub enum Size {
    Poly(Poly),
    Add(Box<Size>, Box<Size>),
    Sub(Box<Size>, Box<Size>),
    Mul(Box<Size>, Box<Size>),
    /// Rounds down.
    Div(Box<Size>, Box<Size>),
}

#[derive(Clone, Debug)]
pub struct Param {
    pub name: String,
    pub kind: ParamKind,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// One integer per dimension of the axis.
    PerDim(AxisId),
    /// One integer, the same for every dimension.
    Int,
    /// One real number, a value only.
    Real,
}

#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub axes: Vec<AxisId>,
    pub role: Role,
    pub span: Span,
    /// Where the values of an input lie.
    pub domain: Option<Domain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Input,
    Output,
    /// Written and read by steps of the forward formula.
    Local,
    /// The tangent of a tensor.
    Tangent(TensorId),
    /// The cotangent of a tensor.
    Cotangent(TensorId),
    /// A local of an adjoint or tangent rule.
    RuleLocal,
    /// The derivatives of each element of the first by each of the second: the axes of both.
    Partial(TensorId, TensorId),
}

/// An index variable of a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    pub name: String,
    pub axis: AxisId,
}

/// `target[index] = value` or `+= value`, for every coordinate of the free variables (those in `index`).
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    pub target: TensorId,
    pub index: Vec<Affine>,
    pub accumulate: bool,
    /// Free variables first (`free` of them), then the variables bound by the reduction.
    pub vars: Vec<Var>,
    pub free: usize,
    pub reduce: Option<ReduceOp>,
    /// Free of reductions.
    pub value: Expr,
    pub span: Span,
    /// The recurrence that it stands in.
    pub scan: Option<Recurrence>,
}

impl Stmt {
    /// The tensors that it reads.
    pub fn reads(&self) -> BTreeSet<TensorId> {
        let mut set = BTreeSet::new();
        self.value.reads(&mut |t, _| _ = set.insert(t));
        set
    }
}

/// A statement's part in a recurrence: statements that follow each other with one number run in turn for each
/// coordinate along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// The number of the recurrence, in no other list of statements that may come to stand beside this one.
    pub scan: usize,
    /// The variable of the statement that stands still in each iteration: a free one, of an axis of one dimension.
    pub var: VarId,
    /// From the last coordinate to the first.
    pub backwards: bool,
}

/// One position of an access: `(terms + constant) / divisor`, per dimension; where the division has a remainder there
/// is no element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affine {
    /// Sorted by variable, no zero coefficients.
    pub terms: Vec<(VarId, Poly)>,
    pub constant: Poly,
    pub divisor: Poly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    Param(ParamId),
    Axis(AxisId),
}

/// A polynomial with integer coefficients over parameters and axis sizes, taken per dimension: monomials sorted, none
/// zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Poly(pub BTreeMap<Vec<Atom>, i64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Prod,
    Max,
    Min,
}

/// A value. Derivation builds these; its operators keep them free of trivial zeros and ones.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Const(f64),
    /// A real or integer parameter.
    Param(ParamId),
    /// The number of elements of an axis group.
    Extent(AxisId),
    Read(TensorId, Vec<Affine>),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// A literal power.
    Powf(Box<Expr>, f64),
    /// Only the taken branch is evaluated.
    Where(Box<Cond>, Box<Expr>, Box<Expr>),
    /// Present only before normalisation: see [`normal::hoist`].
    Reduce(ReduceOp, Vec<VarId>, Box<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cond {
    /// Coordinates; of a group: in every dimension (`!=`: in some).
    Index(Compare, Affine, Affine),
    Value(Compare, Expr, Expr),
    /// The element exists: no position falls outside the tensor.
    Inside(TensorId, Vec<Affine>),
    And(Box<Cond>, Box<Cond>),
    Or(Box<Cond>, Box<Cond>),
    Not(Box<Cond>),
}

impl Poly {
    pub fn int(value: i64) -> Self {
        let mut terms = BTreeMap::new();
        if value != 0 {
            terms.insert(Vec::new(), value);
        }
        Poly(terms)
    }
    pub fn atom(atom: Atom) -> Self {
        Poly(BTreeMap::from([(vec![atom], 1)]))
    }
    pub fn as_int(&self) -> Option<i64> {
        match self.0.len() {
            0 => Some(0),
            1 => self.0.get(&Vec::new()).copied(),
            _ => None,
        }
    }
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
    /// `None` on integer overflow, as in every operation here: sizes come from users.
    pub fn add(&self, other: &Poly) -> Option<Poly> {
        let mut sum = self.clone();
        for (monomial, c) in &other.0 {
            let slot = sum.0.entry(monomial.clone()).or_insert(0);
            *slot = slot.checked_add(*c)?;
            if *slot == 0 {
                sum.0.remove(monomial);
            }
        }
        Some(sum)
    }
    pub fn neg(&self) -> Option<Poly> {
        self.mul(&Poly::int(-1))
    }
    pub fn mul(&self, other: &Poly) -> Option<Poly> {
        let mut product = Poly::default();
        for (a, ca) in &self.0 {
            for (b, cb) in &other.0 {
                let mut monomial = [a.as_slice(), b.as_slice()].concat();
                monomial.sort();
                let one = Poly(BTreeMap::from([(monomial, ca.checked_mul(*cb)?)]));
                product = product.add(&one)?;
            }
        }
        Some(product)
    }
    pub fn atoms(&self) -> impl Iterator<Item = Atom> + '_ {
        self.0.keys().flatten().copied()
    }
    /// Its value, the atoms given.
    pub fn eval(&self, atom: &impl Fn(Atom) -> i64) -> Option<i64> {
        self.0.iter().try_fold(0i64, |sum, (monomial, c)| {
            let product = monomial.iter().try_fold(*c, |p, a| p.checked_mul(atom(*a)))?;
            sum.checked_add(product)
        })
    }
}

impl Size {
    pub fn visit_atoms(&self, f: &mut impl FnMut(Atom)) {
        match self {
            Size::Poly(p) => p.atoms().for_each(f),
            Size::Add(a, b) | Size::Sub(a, b) | Size::Mul(a, b) | Size::Div(a, b) => {
                a.visit_atoms(f);
                b.visit_atoms(f);
            }
        }
    }
    /// Whether a divisor in it is zero in one dimension.
    pub fn divides_by_zero(&self, atom: &impl Fn(Atom) -> i64) -> bool {
        match self {
            Size::Poly(_) => false,
            Size::Add(a, b) | Size::Sub(a, b) | Size::Mul(a, b) => a.divides_by_zero(atom) || b.divides_by_zero(atom),
            Size::Div(a, b) => a.divides_by_zero(atom) || b.divides_by_zero(atom) || b.eval(atom) == Some(0),
        }
    }
    /// Its value in one dimension; `None` on overflow or division by zero.
    pub fn eval(&self, atom: &impl Fn(Atom) -> i64) -> Option<i64> {
        let both = |a: &Size, b: &Size| Some((a.eval(atom)?, b.eval(atom)?));
        match self {
            Size::Poly(p) => p.eval(atom),
            Size::Add(a, b) => both(a, b).and_then(|(a, b)| a.checked_add(b)),
            Size::Sub(a, b) => both(a, b).and_then(|(a, b)| a.checked_sub(b)),
            Size::Mul(a, b) => both(a, b).and_then(|(a, b)| a.checked_mul(b)),
            Size::Div(a, b) => both(a, b).and_then(|(a, b)| {
                let (q, r) = (a.checked_div(b)?, a.checked_rem(b)?);
                Some(if r != 0 && (r < 0) != (b < 0) { q - 1 } else { q })
            }),
        }
    }
}

impl Affine {
    pub fn constant(c: Poly) -> Self {
        Affine { terms: Vec::new(), constant: c, divisor: Poly::int(1) }
    }
    pub fn var(v: VarId) -> Self {
        Affine { terms: vec![(v, Poly::int(1))], constant: Poly::default(), divisor: Poly::int(1) }
    }
    /// `Some(v)` when the position is the variable itself.
    pub fn as_var(&self) -> Option<VarId> {
        match self.terms.as_slice() {
            [(v, c)] if c.as_int() == Some(1) && self.constant.is_zero() && self.divided_by_one() => Some(*v),
            _ => None,
        }
    }
    /// `Some(n)` when the position is a number, the same in every dimension.
    pub fn as_int(&self) -> Option<i64> {
        if self.terms.is_empty() && self.divided_by_one() { self.constant.as_int() } else { None }
    }
    pub fn divided_by_one(&self) -> bool {
        self.divisor.as_int() == Some(1)
    }
    pub fn vars(&self) -> impl Iterator<Item = VarId> + '_ {
        self.terms.iter().map(|(v, _)| *v)
    }
    /// The same map over other variables.
    pub fn rename(&self, f: &impl Fn(VarId) -> VarId) -> Self {
        let mut terms: Vec<_> = self.terms.iter().map(|(v, c)| (f(*v), c.clone())).collect();
        terms.sort();
        Affine { terms, constant: self.constant.clone(), divisor: self.divisor.clone() }
    }
}

/// Whether two accesses of one tensor never meet: at some position both are numbers that differ. That holds at every
/// rank but 0.
pub fn apart(a: &[Affine], b: &[Affine]) -> bool {
    a.iter().zip(b).any(|(a, b)| differ(a, b))
}

fn differ(a: &Affine, b: &Affine) -> bool {
    matches!((a.as_int(), b.as_int()), (Some(a), Some(b)) if a != b)
}

impl Expr {
    pub fn zero() -> Self {
        Expr::Const(0.0)
    }
    pub fn one() -> Self {
        Expr::Const(1.0)
    }
    pub fn is_zero(&self) -> bool {
        matches!(self, Expr::Const(c) if *c == 0.0)
    }
    pub fn is_one(&self) -> bool {
        matches!(self, Expr::Const(c) if *c == 1.0)
    }
    pub fn unary(f: Unary, a: Self) -> Self {
        match f {
            Unary::Neg => a.neg(),
            _ => Expr::Unary(f, Box::new(a)),
        }
    }
    pub fn powf(self, n: f64) -> Self {
        match n {
            0.0 => Expr::one(),
            1.0 => self,
            _ => Expr::Powf(Box::new(self), n),
        }
    }
    pub fn select(cond: Cond, a: Self, b: Self) -> Self {
        if a == b { a } else { Expr::Where(Box::new(cond), Box::new(a), Box::new(b)) }
    }
    /// What zeros, ones and double signs leave of the outermost operation.
    pub fn settled(self) -> Self {
        match self {
            Expr::Unary(Unary::Neg, a) => a.neg(),
            Expr::Binary(Binary::Add, a, b) => a.add(*b),
            Expr::Binary(Binary::Sub, a, b) => a.sub(*b),
            Expr::Binary(Binary::Mul, a, b) => a.mul(*b),
            Expr::Binary(Binary::Div, a, b) => a.div(*b),
            Expr::Where(_, a, b) if a == b => *a,
            e => e,
        }
    }
}

impl Algebra for Expr {
    fn number(value: f64) -> Self {
        Expr::Const(value)
    }
    fn call(f: Unary, a: Self) -> Self {
        Expr::unary(f, a)
    }
    fn powf(self, n: f64) -> Self {
        Expr::powf(self, n)
    }
    fn is_zero(&self) -> bool {
        Expr::is_zero(self)
    }
    fn choose(tests: [Option<(Compare, Self, Self)>; 2], yes: Self, no: Self) -> Self {
        let tests = tests.into_iter().flatten().map(|(op, a, b)| Cond::Value(op, a, b));
        let test = tests.reduce(Cond::and).expect("a comparison");
        Expr::select(test, yes, no)
    }
}

// Derivation builds with these; they leave out zeros, ones and double signs.

impl Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        match self {
            Expr::Const(c) => Expr::Const(if c == 0.0 { 0.0 } else { -c }),
            Expr::Unary(Unary::Neg, a) => *a,
            e => Expr::Unary(Unary::Neg, Box::new(e)),
        }
    }
}

impl Add for Expr {
    type Output = Expr;
    fn add(self, other: Expr) -> Expr {
        match (self, other) {
            (a, b) if a.is_zero() => b,
            (a, b) if b.is_zero() => a,
            (a, Expr::Unary(Unary::Neg, b)) => a.sub(*b),
            (Expr::Const(a), Expr::Const(b)) => Expr::Const(a + b),
            (a, b) => Expr::Binary(Binary::Add, Box::new(a), Box::new(b)),
        }
    }
}

impl Sub for Expr {
    type Output = Expr;
    fn sub(self, other: Expr) -> Expr {
        match (self, other) {
            (a, b) if b.is_zero() => a,
            (a, b) if a.is_zero() => b.neg(),
            (a, Expr::Unary(Unary::Neg, b)) => a.add(*b),
            (Expr::Const(a), Expr::Const(b)) => Expr::Const(a - b),
            (a, b) => Expr::Binary(Binary::Sub, Box::new(a), Box::new(b)),
        }
    }
}

impl Mul for Expr {
    type Output = Expr;
    fn mul(self, other: Expr) -> Expr {
        match (self, other) {
            (a, b) if a.is_zero() || b.is_zero() => Expr::zero(),
            (a, b) if a.is_one() => b,
            (a, b) if b.is_one() => a,
            (Expr::Const(a), Expr::Const(b)) => Expr::Const(a * b),
            (Expr::Unary(Unary::Neg, a), Expr::Unary(Unary::Neg, b)) => a.mul(*b),
            (Expr::Unary(Unary::Neg, a), b) => a.mul(b).neg(),
            (a, Expr::Unary(Unary::Neg, b)) => a.mul(*b).neg(),
            (a, b) => Expr::Binary(Binary::Mul, Box::new(a), Box::new(b)),
        }
    }
}

impl Div for Expr {
    type Output = Expr;
    fn div(self, other: Expr) -> Expr {
        match (self, other) {
            (a, _) if a.is_zero() => Expr::zero(),
            (a, b) if b.is_one() => a,
            (Expr::Unary(Unary::Neg, a), b) => a.div(b).neg(),
            (a, b) => Expr::Binary(Binary::Div, Box::new(a), Box::new(b)),
        }
    }
}

impl Cond {
    pub fn and(self, other: Cond) -> Cond {
        Cond::And(Box::new(self), Box::new(other))
    }
}

impl Compare {
    pub fn symbol(self) -> &'static str {
        match self {
            Compare::Lt => "<",
            Compare::Le => "<=",
            Compare::Gt => ">",
            Compare::Ge => ">=",
            Compare::Eq => "==",
            Compare::Ne => "!=",
        }
    }
    pub fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        match self {
            Compare::Lt => a < b,
            Compare::Le => a <= b,
            Compare::Gt => a > b,
            Compare::Ge => a >= b,
            Compare::Eq => a == b,
            Compare::Ne => a != b,
        }
    }
}

impl ReduceOp {
    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
        }
    }
    /// `prod`, `max` and `min` pass over the coordinates at which a read falls outside.
    pub fn skips_outside(self) -> bool {
        match self {
            ReduceOp::Sum => false,
            ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min => true,
        }
    }
    /// The value over no coordinates.
    pub fn identity(self) -> f64 {
        match self {
            ReduceOp::Sum => 0.0,
            ReduceOp::Prod => 1.0,
            ReduceOp::Max => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        }
    }
}

impl Op {
    /// An op of nothing yet.
    pub fn new(name: &str, doc: &str, source: SourceId) -> Self {
        Op {
            name: name.into(),
            doc: doc.into(),
            source,
            axes: Vec::new(),
            params: Vec::new(),
            tensors: Vec::new(),
            scans: 0,
            forward: Vec::new(),
            calls: Vec::new(),
            adjoint: Rule::default(),
            tangent: Rule::default(),
            written: Written::default(),
            program: None,
            batches: BTreeMap::new(),
        }
    }
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }
    pub fn axis(&self, id: AxisId) -> &Axis {
        &self.axes[id.0]
    }
    pub fn find(&self, name: &str) -> Option<TensorId> {
        self.tensors.iter().position(|t| t.name == name).map(TensorId)
    }
    pub fn with_role(&self, role: Role) -> Vec<TensorId> {
        (0..self.tensors.len()).map(TensorId).filter(|t| self.tensor(*t).role == role).collect()
    }
    pub fn inputs(&self) -> Vec<TensorId> {
        self.with_role(Role::Input)
    }
    pub fn outputs(&self) -> Vec<TensorId> {
        self.with_role(Role::Output)
    }
    /// Adds a tensor; the name is made fresh by a number if taken.
    pub fn add_tensor(&mut self, name: &str, axes: Vec<AxisId>, role: Role, span: Span) -> TensorId {
        let mut fresh = name.to_string();
        let mut n = 2;
        while self.find(&fresh).is_some() {
            fresh = format!("{name}{n}");
            n += 1;
        }
        self.tensors.push(Tensor { name: fresh, axes, role, span, domain: None });
        TensorId(self.tensors.len() - 1)
    }
    /// The greatest number that stands as a position of each axis, in any rule: its elements are told apart by number.
    pub fn numbered(&self) -> Vec<Option<i64>> {
        let mut greatest: Vec<Option<i64>> = vec![None; self.axes.len()];
        let mut see = |t: TensorId, index: &[Affine]| {
            for (axis, a) in self.tensor(t).axes.iter().zip(index) {
                greatest[axis.0] = greatest[axis.0].max(a.as_int().filter(|n| *n >= 0));
            }
        };
        for s in self.forward.iter().chain(&self.adjoint.stmts).chain(&self.tangent.stmts) {
            see(s.target, &s.index);
            s.value.reads(&mut see);
        }
        greatest
    }
    /// The tensors that only a program's dense derivatives make, or made before they were simplified.
    pub fn dense(&self) -> BTreeSet<TensorId> {
        let functions = || self.program.iter().flat_map(|p| &p.functions);
        let is_dense = |f: &&ProgramFunction| matches!(f.entry, Entry::Jacobian | Entry::Hessian);
        let targets =
            |f: &ProgramFunction| f.stmts.iter().map(|s| s.target).chain(f.results.clone()).collect::<Vec<_>>();
        let steps = (0..self.tensors.len()).map(TensorId).filter(|t| self.tensor(*t).role == Role::RuleLocal);
        let steps = steps.filter(|_| self.program.is_some());
        let mut dense: BTreeSet<TensorId> = functions().filter(is_dense).flat_map(targets).chain(steps).collect();
        let rules = self.forward.iter().chain(&self.adjoint.stmts).chain(&self.tangent.stmts).map(|s| s.target);
        let others = functions().filter(|f| !is_dense(f)).flat_map(targets);
        rules.chain(others).for_each(|t| _ = dense.remove(&t));
        dense
    }
    /// Two statements of a rule that store the same element at this binding, though they are told apart by number:
    /// there is just one.
    pub fn stored_twice<'a>(&self, stmts: &'a [Stmt], b: &bind::Binding) -> Option<(&'a Stmt, &'a Stmt)> {
        let meet = |a: &Stmt, s: &Stmt| {
            let axes = self.tensor(a.target).axes.iter();
            a.target == s.target
                && axes.zip(a.index.iter().zip(&s.index)).all(|(t, (a, s))| b.rank(*t) == 0 || !differ(a, s))
        };
        let sets: Vec<&Stmt> = stmts.iter().filter(|s| !s.accumulate).collect();
        sets.iter().enumerate().find_map(|(n, s)| sets[..n].iter().find(|a| meet(a, s)).map(|a| (*a, *s)))
    }
    /// What a tangent or cotangent is of, and theirs; any other tensor is its own.
    pub fn primal(&self, t: TensorId) -> TensorId {
        match self.tensor(t).role {
            Role::Tangent(of) | Role::Cotangent(of) => self.primal(of),
            _ => t,
        }
    }
    /// The tangent (`_dot`) or cotangent (`_bar`) of a tensor, made on first use.
    pub fn dual(&mut self, of: TensorId, role: fn(TensorId) -> Role) -> TensorId {
        if let Some(t) = self.tensors.iter().position(|t| t.role == role(of)) {
            return TensorId(t);
        }
        let suffix = if matches!(role(of), Role::Tangent(_)) { "dot" } else { "bar" };
        let Tensor { name, axes, span, .. } = self.tensor(of).clone();
        self.add_tensor(&format!("{name}_{suffix}"), axes, role(of), span)
    }
}
