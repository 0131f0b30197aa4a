//! How good the certificate is: takes every declared adjoint of the library, and every short tangent as it is derived,
//! breaks it in every systematic way, gives the breakages that still build. What holds after it: each of those means
//! the same as the rule it was made from, with the reason beside it in `tests/mutants.txt`; and every derived rule,
//! pasted into its spec as it prints, is certified. `BLESS=1 cargo test --test compiler mutants` rewrites that file,
//! new lines without a reason, which fail until somebody writes one.

use cotangent_build::certify::{certify, writable};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::library::Library;
use cotangent_build::source::{At, Sources};
use cotangent_build::spec::{Adjoint, Formula, Spec};
use cotangent_build::syntax::{Access, Assign, BinaryOp, Binder, Expr, ExprKind, IndexArg, ReduceOp, Step};
use cotangent_build::{derive, index, spec, syntax};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A way of breaking a rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    DropRule,
    DropTerm,
    FlipSign,
    DropFactor,
    ExchangeOperands,
    OtherOperator,
    ChangeConstant,
    ChangeExponent,
    WrongTensor,
    ExchangeTensors,
    SwapIndices,
    OtherIndex,
    ShiftOffset,
    DropCoefficient,
    DropIndexTerm,
    DropReduction,
    AddReduction,
    OtherReduction,
    DropFunction,
    OtherFunction,
    DropBranch,
    OtherComparison,
}

/// What a mutation may put in place of what is there.
struct Scope {
    /// Tensors that the rule may read, with their number of axes.
    tensors: Vec<(String, usize)>,
    /// Axes and their indices.
    axes: Vec<(String, String)>,
    /// Indices that the step uses.
    indices: BTreeSet<String>,
}

type Mutants<T> = Vec<(Kind, T)>;

fn like(e: &Expr, kind: ExprKind) -> Expr {
    Expr { kind, span: e.span }
}

fn number(e: &Expr, value: f64) -> Expr {
    let positive = like(e, ExprKind::Number(value.abs()));
    if value < 0.0 { like(e, ExprKind::Neg(Box::new(positive))) } else { positive }
}

fn binary(op: BinaryOp, a: &Expr, b: &Expr) -> Expr {
    like(a, ExprKind::Binary(op, Box::new(a.clone()), Box::new(b.clone())))
}

/// Other operators, and one operand alone.
fn other_operators(op: BinaryOp, a: &Expr, b: &Expr) -> Mutants<Expr> {
    use BinaryOp::{Add, Div, Ge, Gt, Le, Lt, Mul, Ne, Pow, Sub};
    let mut out = Vec::new();
    let mut push = |kind, e: Expr| out.push((kind, e));
    match op {
        Add | Sub => {
            push(Kind::DropTerm, a.clone());
            push(Kind::DropTerm, if op == Add { b.clone() } else { like(b, ExprKind::Neg(Box::new(b.clone()))) });
            push(Kind::FlipSign, binary(if op == Add { Sub } else { Add }, a, b));
            push(Kind::OtherOperator, binary(Mul, a, b));
            push(Kind::ExchangeOperands, binary(op, b, a));
        }
        Mul => {
            push(Kind::DropFactor, a.clone());
            push(Kind::DropFactor, b.clone());
            push(Kind::OtherOperator, binary(Div, a, b));
            push(Kind::OtherOperator, binary(Div, b, a));
            push(Kind::OtherOperator, binary(Add, a, b));
        }
        Div => {
            push(Kind::DropFactor, a.clone());
            push(Kind::DropFactor, binary(Div, &number(a, 1.0), b));
            push(Kind::OtherOperator, binary(Mul, a, b));
            push(Kind::ExchangeOperands, binary(Div, b, a));
        }
        Pow => {
            push(Kind::DropFactor, a.clone());
            if let ExprKind::Number(n) = b.kind {
                for n in [n + 1.0, n - 1.0, -n] {
                    push(Kind::ChangeExponent, binary(Pow, a, &number(b, n)));
                }
            }
        }
        _ => {
            let others = [Lt, Le, Gt, Ge, BinaryOp::Eq, Ne];
            for other in others.into_iter().filter(|o| *o != op && others.contains(&op)) {
                push(Kind::OtherComparison, binary(other, a, b));
            }
            push(Kind::ExchangeOperands, binary(op, b, a));
        }
    }
    out
}

/// Other functions, and one argument alone.
fn other_calls(e: &Expr, f: &At<String>, args: &[Expr]) -> Mutants<Expr> {
    let mut out = Vec::new();
    let mut push = |kind, e: Expr| out.push((kind, e));
    let call =
        |name: &str, args: Vec<Expr>| like(e, ExprKind::Call(At::new(name.to_owned(), f.span), args, Vec::new()));
    match (f.value.as_str(), args) {
        ("where", [c, a, b]) => {
            push(Kind::DropBranch, a.clone());
            push(Kind::DropBranch, b.clone());
            push(Kind::ExchangeOperands, call("where", vec![c.clone(), b.clone(), a.clone()]));
        }
        (_, [a]) => {
            push(Kind::DropFunction, a.clone());
            for other in ["exp", "log", "sqrt", "rsqrt", "sin", "cos", "sinh", "cosh", "tanh", "logistic", "sign"] {
                if other != f.value {
                    push(Kind::OtherFunction, call(other, vec![a.clone()]));
                }
            }
        }
        (name, [a, b]) => {
            push(Kind::DropFunction, a.clone());
            push(Kind::DropFunction, b.clone());
            push(Kind::ExchangeOperands, call(name, vec![b.clone(), a.clone()]));
        }
        _ => {}
    }
    out
}

impl Scope {
    /// Every expression that differs from `e` in one place, as a value.
    fn value(&self, e: &Expr) -> Mutants<Expr> {
        let mut out = self.value_here(e);
        let mut inner = |mutants: Mutants<Expr>, build: &dyn Fn(Expr) -> ExprKind| {
            out.extend(mutants.into_iter().map(|(k, m)| (k, like(e, build(m)))));
        };
        match &e.kind {
            ExprKind::Number(_) | ExprKind::Name(_) | ExprKind::Access(_) => {}
            ExprKind::Neg(a) => inner(self.value(a), &|m| ExprKind::Neg(Box::new(m))),
            ExprKind::Not(a) => inner(self.value(a), &|m| ExprKind::Not(Box::new(m))),
            // An exponent is a literal, changed as such.
            ExprKind::Binary(op @ BinaryOp::Pow, a, b) => {
                inner(self.value(a), &|m| ExprKind::Binary(*op, Box::new(m), b.clone()));
            }
            ExprKind::Binary(op, a, b) => {
                let compares = matches!(
                    op,
                    BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::Eq | BinaryOp::Ne
                );
                // Sides of a comparison of indices are indices.
                let of_indices = compares && [a, b].iter().any(|side| self.is_index(side));
                let side = |e: &Expr| if of_indices { self.index(e) } else { self.value(e) };
                inner(side(a), &|m| ExprKind::Binary(*op, Box::new(m), b.clone()));
                inner(side(b), &|m| ExprKind::Binary(*op, a.clone(), Box::new(m)));
            }
            ExprKind::Call(f, args, given) => {
                for n in 0..args.len() {
                    inner(self.value(&args[n]), &|m| {
                        let mut args = args.clone();
                        args[n] = m;
                        ExprKind::Call(f.clone(), args, given.clone())
                    });
                }
            }
            ExprKind::Reduce { op, binders, body } => inner(self.value(body), &|m| ExprKind::Reduce {
                op: op.clone(),
                binders: binders.clone(),
                body: Box::new(m),
            }),
        }
        out
    }

    fn is_index(&self, e: &Expr) -> bool {
        matches!(&e.kind, ExprKind::Name(n) if self.axes.iter().any(|(_, i)| i == n) || self.indices.contains(n))
    }

    fn value_here(&self, e: &Expr) -> Mutants<Expr> {
        let mut out = Vec::new();
        let mut push = |kind, e: Expr| out.push((kind, e));
        match &e.kind {
            ExprKind::Number(n) => {
                for changed in [n + 1.0, n - 1.0, 2.0 * n, 0.5 * n, -n] {
                    push(Kind::ChangeConstant, number(e, changed));
                }
            }
            ExprKind::Name(name) => {
                for (other, axes) in &self.tensors {
                    if *axes == 0 && other != name {
                        push(Kind::WrongTensor, like(e, ExprKind::Name(other.clone())));
                    }
                }
                push(Kind::FlipSign, like(e, ExprKind::Neg(Box::new(e.clone()))));
            }
            ExprKind::Access(access) => {
                for (kind, access) in self.access(access, true) {
                    push(kind, like(e, ExprKind::Access(access)));
                }
                push(Kind::FlipSign, like(e, ExprKind::Neg(Box::new(e.clone()))));
            }
            ExprKind::Neg(a) => push(Kind::FlipSign, a.as_ref().clone()),
            ExprKind::Binary(op, a, b) => out.extend(other_operators(*op, a, b)),
            ExprKind::Not(a) => push(Kind::OtherComparison, a.as_ref().clone()),
            ExprKind::Call(f, args, _) => out.extend(other_calls(e, f, args)),
            ExprKind::Reduce { op, binders, body } => out.extend(self.other_reductions(e, op, binders, body)),
        }
        out
    }

    /// Other reductions, over fewer axes or others, and what is reduced alone.
    fn other_reductions(&self, e: &Expr, op: &At<ReduceOp>, binders: &[Binder], body: &Expr) -> Mutants<Expr> {
        let mut out = Vec::new();
        let mut push = |kind, e: Expr| out.push((kind, e));
        push(Kind::DropReduction, body.clone());
        let reduce = |op: ReduceOp, binders: Vec<Binder>| {
            let op = At::new(op, e.span);
            like(e, ExprKind::Reduce { op, binders, body: Box::new(body.clone()) })
        };
        for n in (0..binders.len()).filter(|_| binders.len() > 1) {
            let mut fewer = binders.to_vec();
            fewer.remove(n);
            push(Kind::DropReduction, reduce(op.value, fewer));
        }
        for other in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min, ReduceOp::Mean] {
            if other != op.value {
                push(Kind::OtherReduction, reduce(other, binders.to_vec()));
            }
        }
        for (n, (axis, _)) in binders.iter().flat_map(|_| &self.axes).enumerate() {
            let at = n / self.axes.len();
            let mut others = binders.to_vec();
            others[at].axis = Some(At::new(axis.clone(), e.span));
            push(Kind::OtherReduction, reduce(op.value, others));
        }
        out
    }

    /// Every access that differs in one place. `names`: the tensor itself too.
    fn access(&self, access: &Access, names: bool) -> Mutants<Access> {
        let mut out = Vec::new();
        let with = |index: Vec<IndexArg>| Access { index, ..access.clone() };
        for (other, axes) in self.tensors.iter().filter(|_| names) {
            if *axes == access.index.len() && *other != access.name.value {
                let name = At::new(other.clone(), access.name.span);
                out.push((Kind::WrongTensor, Access { name, ..access.clone() }));
            }
        }
        for (p, arg) in access.index.iter().enumerate() {
            for q in p + 1..access.index.len() {
                let mut index = access.index.clone();
                index.swap(p, q);
                out.push((Kind::SwapIndices, with(index)));
            }
            if arg.axis.is_some() {
                continue;
            }
            for (kind, expr) in self.index(&arg.expr) {
                let mut index = access.index.clone();
                index[p].expr = expr;
                out.push((kind, with(index)));
            }
        }
        out
    }

    /// Every index expression that differs in one place.
    fn index(&self, e: &Expr) -> Mutants<Expr> {
        let mut out = self.index_inside(e);
        for op in [BinaryOp::Add, BinaryOp::Sub] {
            out.push((Kind::ShiftOffset, binary(op, e, &number(e, 1.0))));
        }
        out
    }

    fn index_inside(&self, e: &Expr) -> Mutants<Expr> {
        let mut out = Vec::new();
        match &e.kind {
            ExprKind::Name(name) => {
                for other in self.indices.iter().filter(|i| *i != name) {
                    out.push((Kind::OtherIndex, like(e, ExprKind::Name(other.clone()))));
                }
            }
            ExprKind::Number(n) => {
                for changed in [n + 1.0, n - 1.0] {
                    out.push((Kind::ShiftOffset, number(e, changed)));
                }
            }
            ExprKind::Neg(a) => out.push((Kind::FlipSign, a.as_ref().clone())),
            ExprKind::Binary(op, a, b) => {
                let dropped = match op {
                    BinaryOp::Add | BinaryOp::Sub => Kind::DropIndexTerm,
                    _ => Kind::DropCoefficient,
                };
                out.push((dropped, a.as_ref().clone()));
                out.push((dropped, b.as_ref().clone()));
                let other = match op {
                    BinaryOp::Add => BinaryOp::Sub,
                    BinaryOp::Sub => BinaryOp::Add,
                    BinaryOp::Mul => BinaryOp::Div,
                    _ => BinaryOp::Mul,
                };
                out.push((
                    if dropped == Kind::DropIndexTerm { Kind::FlipSign } else { Kind::OtherOperator },
                    binary(other, a, b),
                ));
                out.push((Kind::ExchangeOperands, binary(*op, b, a)));
                out.extend(self.index_inside(a).into_iter().map(|(k, m)| (k, binary(*op, &m, b))));
                out.extend(self.index_inside(b).into_iter().map(|(k, m)| (k, binary(*op, a, &m))));
            }
            _ => {}
        }
        out
    }

    /// Every step that differs in one place.
    fn step(&self, step: &Step) -> Mutants<Step> {
        let mut out: Mutants<Step> = Vec::new();
        for (kind, value) in self.value(&step.value) {
            out.push((kind, Step { value, ..step.clone() }));
        }
        for (kind, target) in self.access(&step.target, false) {
            out.push((kind, Step { target, ..step.clone() }));
        }
        let duals = self.tensors.iter().filter(|(name, _)| *name != step.target.name.value);
        for (other, _) in duals.filter(|(_, axes)| *axes == step.target.index.len()) {
            let mut target = step.target.clone();
            target.name.value = other.clone();
            out.push((Kind::WrongTensor, Step { target, ..step.clone() }));
        }
        // Two accesses of the value exchange their tensors.
        let mut names = Vec::new();
        collect(&step.value, &mut |a| names.push(a.name.value.clone()));
        for p in 0..names.len() {
            for q in (p + 1..names.len()).filter(|q| names[*q] != names[p]) {
                let mut order = names.clone();
                order.swap(p, q);
                let mut next = order.into_iter();
                let value = renamed(&step.value, &mut || next.next().unwrap_or_default());
                out.push((Kind::ExchangeTensors, Step { value, ..step.clone() }));
            }
        }
        for (axis, _) in &self.axes {
            let binder =
                Binder { name: At::new("q".to_owned(), step.span), axis: Some(At::new(axis.clone(), step.span)) };
            let op = At::new(ReduceOp::Sum, step.span);
            let value = ExprKind::Reduce { op, binders: vec![binder], body: Box::new(step.value.clone()) };
            out.push((Kind::AddReduction, Step { value: like(&step.value, value), ..step.clone() }));
        }
        out
    }
}

/// Every access in an expression, in order.
fn collect(e: &Expr, f: &mut impl FnMut(&Access)) {
    match &e.kind {
        ExprKind::Number(_) | ExprKind::Name(_) => {}
        ExprKind::Access(a) => f(a),
        ExprKind::Neg(a) | ExprKind::Not(a) => collect(a, f),
        ExprKind::Binary(_, a, b) => {
            collect(a, f);
            collect(b, f);
        }
        ExprKind::Call(_, args, _) => args.iter().for_each(|a| collect(a, f)),
        ExprKind::Reduce { body, .. } => collect(body, f),
    }
}

/// The expression with the names of its accesses replaced, in order.
fn renamed(e: &Expr, next: &mut impl FnMut() -> String) -> Expr {
    let kind = match &e.kind {
        ExprKind::Number(_) | ExprKind::Name(_) => return e.clone(),
        ExprKind::Access(a) => ExprKind::Access(Access { name: At::new(next(), a.name.span), ..a.clone() }),
        ExprKind::Neg(a) => ExprKind::Neg(Box::new(renamed(a, next))),
        ExprKind::Not(a) => ExprKind::Not(Box::new(renamed(a, next))),
        ExprKind::Binary(op, a, b) => {
            let a = renamed(a, next);
            ExprKind::Binary(*op, Box::new(a), Box::new(renamed(b, next)))
        }
        ExprKind::Call(f, args, given) => {
            ExprKind::Call(f.clone(), args.iter().map(|a| renamed(a, next)).collect(), given.clone())
        }
        ExprKind::Reduce { op, binders, body } => {
            ExprKind::Reduce { op: op.clone(), binders: binders.clone(), body: Box::new(renamed(body, next)) }
        }
    };
    like(e, kind)
}

/// The text of an expression that does not depend on the order of terms and factors, nor on where a sign stands.
fn normal(e: &Expr) -> String {
    fn terms(e: &Expr, negative: bool, out: &mut Vec<String>) {
        match &e.kind {
            ExprKind::Binary(BinaryOp::Add, a, b) => {
                terms(a, negative, out);
                terms(b, negative, out);
            }
            ExprKind::Binary(BinaryOp::Sub, a, b) => {
                terms(a, negative, out);
                terms(b, !negative, out);
            }
            ExprKind::Neg(a) => terms(a, !negative, out),
            _ => {
                let (mut sign, mut above, mut below) = (negative, Vec::new(), Vec::new());
                factors(e, &mut sign, &mut above, &mut below);
                above.retain(|f| f != "1");
                above.sort();
                below.sort();
                let sign = if sign { "-" } else { "+" };
                out.push(format!("{sign}{} / {}", above.join(" * "), below.join(" * ")));
            }
        }
    }
    fn factors(e: &Expr, sign: &mut bool, above: &mut Vec<String>, below: &mut Vec<String>) {
        match &e.kind {
            ExprKind::Binary(BinaryOp::Mul, a, b) => {
                factors(a, sign, above, below);
                factors(b, sign, above, below);
            }
            ExprKind::Binary(BinaryOp::Div, a, b) => {
                factors(a, sign, above, below);
                factors(b, sign, below, above);
            }
            ExprKind::Neg(a) => {
                *sign = !*sign;
                factors(a, sign, above, below);
            }
            ExprKind::Reduce { op, binders, body } => {
                let mut bound: Vec<String> = binders
                    .iter()
                    // `j` and `j in J` are one binder.
                    .map(|b| format!("{} in {}", b.name.value, b.axis.as_ref().map_or("", |a| &a.value).to_lowercase()))
                    .map(|b| b.strip_suffix(" in ").map_or(b.clone(), |n| format!("{n} in {n}")))
                    .collect();
                bound.sort();
                above.push(format!("{}({}) ({})", op.value.symbol(), bound.join(","), normal(body)));
            }
            ExprKind::Binary(BinaryOp::Add | BinaryOp::Sub, ..) => above.push(format!("({})", normal(e))),
            ExprKind::Binary(op, a, b) => {
                let mut sides = [normal(a), normal(b)];
                if matches!(op, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::And | BinaryOp::Or) {
                    sides.sort();
                }
                let (symbol, sides) = match op {
                    BinaryOp::Gt => ("<", [sides[1].clone(), sides[0].clone()]),
                    BinaryOp::Ge => ("<=", [sides[1].clone(), sides[0].clone()]),
                    op => (op.symbol(), sides),
                };
                above.push(format!("({} {symbol} {})", sides[0], sides[1]));
            }
            ExprKind::Call(f, args, _) => {
                let args: Vec<String> = args.iter().map(normal).collect();
                above.push(format!("{}({})", f.value, args.join(", ")));
            }
            ExprKind::Access(a) => {
                let index: Vec<String> = a.index.iter().map(|i| normal(&i.expr)).collect();
                above.push(format!("{}[{}]", a.name.value, index.join(", ")));
            }
            _ => above.push(e.to_string()),
        }
    }
    let mut out = Vec::new();
    terms(e, false, &mut out);
    out.sort();
    out.join(" ")
}

fn normal_step(s: &Step) -> String {
    let index: Vec<String> = s.target.index.iter().map(|i| normal(&i.expr)).collect();
    format!("{}[{}] {} {}", s.target.name.value, index.join(", "), s.assign.value, normal(&s.value))
}

/// Which rule of an op is broken.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Adjoint,
    Tangent,
}

/// What became of a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Not a rule: names, arity, linearity.
    Refused,
    /// Not the derivative.
    Disproved,
    Survived,
}

struct Subject {
    name: String,
    spec: Spec,
    op: index::Op,
}

impl Subject {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().expect("a stem").to_string_lossy().into_owned();
        let mut sources = Sources::default();
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let id = sources.add(&format!("{name}.yaml"), text);
        let mut out = Diagnostics::default();
        let spec = spec::parse(id, &sources, &mut out);
        let op = spec.as_ref().and_then(|spec| index::resolve::resolve(spec, &Library::new(&[], &sources), &mut out));
        let (Some(spec), Some(mut op)) = (spec, op) else { panic!("{}", out.render(&sources)) };
        derive::complete(&mut op, &mut out);
        assert!(!out.has_errors(), "{}", out.render(&sources));
        Subject { name, spec, op }
    }

    /// The rule's steps as they are declared, or as the derived ones print.
    fn steps(&self, side: Side) -> Vec<Step> {
        let derived = |stmts: &[index::Stmt]| -> Vec<String> {
            derive::with_definitions(&self.op, stmts).iter().map(|s| index::print::stmt(&self.op, s)).collect()
        };
        let texts: Vec<String> = match (side, &self.spec.adjoint, &self.spec.tangent) {
            (Side::Adjoint, Adjoint::Declared(rules), _) => rules.iter().map(|f| f.text.clone()).collect(),
            (Side::Tangent, _, Some(rules)) => rules.iter().map(|f| f.text.clone()).collect(),
            (Side::Adjoint, ..) => derived(&self.op.adjoint.stmts),
            (Side::Tangent, ..) => derived(&self.op.tangent.stmts),
        };
        let mut out = Diagnostics::default();
        let parsed = |text: &String| syntax::step(&Formula::verbatim(self.spec.source, 0, text), &mut out);
        let steps: Vec<Option<Step>> = texts.iter().map(parsed).collect();
        steps.into_iter().map(|s| s.expect("printed rules parse")).collect()
    }

    /// Runs a rule through the compiler.
    fn fate(&self, side: Side, rules: &[String]) -> Fate {
        self.run(side, rules, &mut Diagnostics::default())
    }

    fn run(&self, side: Side, rules: &[String], out: &mut Diagnostics) -> Fate {
        let formulas: Vec<Formula> = rules.iter().map(|r| Formula::verbatim(self.spec.source, 0, r)).collect();
        let mut spec = self.spec.clone();
        match side {
            Side::Adjoint => spec.adjoint = Adjoint::Declared(At::new(formulas, spec.span)),
            Side::Tangent => spec.tangent = Some(formulas),
        }
        let Some(mut op) = index::resolve::resolve(&spec, &Library::new(&[], &Sources::default()), out) else {
            return Fate::Refused;
        };
        let derived = derive::complete(&mut op, out);
        if out.has_errors() {
            return Fate::Refused;
        }
        match certify(&op, &derived, out) {
            Some(_) => Fate::Survived,
            None => Fate::Disproved,
        }
    }

    fn scope(&self, steps: &[Step], n: usize) -> Scope {
        let op = &self.op;
        let mut tensors: BTreeMap<String, usize> = op.tensors.iter().map(|t| (t.name.clone(), t.axes.len())).collect();
        // Locals that later steps write are refused: only those before count.
        tensors.extend(steps[..n].iter().map(|s| (s.target.name.value.clone(), s.target.index.len())));
        let mut indices = BTreeSet::new();
        let step = &steps[n];
        let names = |e: &Expr, out: &mut BTreeSet<String>| {
            let mut all = vec![e.clone()];
            while let Some(e) = all.pop() {
                match e.kind {
                    ExprKind::Name(name) => {
                        out.insert(name);
                    }
                    ExprKind::Neg(a) => all.push(*a),
                    ExprKind::Binary(_, a, b) => all.extend([*a, *b]),
                    _ => {}
                }
            }
        };
        step.target.index.iter().for_each(|i| names(&i.expr, &mut indices));
        collect(&step.value, &mut |a| a.index.iter().for_each(|i| names(&i.expr, &mut indices)));
        indices.retain(|name| !op.params.iter().any(|p| p.name == *name) && !op.axes.iter().any(|a| a.name == *name));
        Scope {
            tensors: tensors.into_iter().collect(),
            axes: op.axes.iter().map(|a| (a.name.clone(), a.index.clone())).collect(),
            indices,
        }
    }

    /// Every mutant of a rule: what was done, and the whole rule then. Those that are the rule in another order are
    /// left out.
    fn mutants(&self, side: Side) -> Vec<(Kind, usize, Vec<String>)> {
        let steps = self.steps(side);
        let texts: Vec<String> = steps.iter().map(Step::to_string).collect();
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            let mut without = texts.clone();
            without.remove(n);
            all.push((Kind::DropRule, n, without));
            seen.insert((n, normal_step(step)));
            for (kind, mutant) in self.scope(&steps, n).step(step) {
                if !seen.insert((n, normal_step(&mutant))) {
                    continue;
                }
                let mut rules = texts.clone();
                rules[n] = mutant.to_string();
                all.push((kind, n, rules));
            }
            // `+=` of the same again.
            if step.assign.value == Assign::Add {
                let mut twice = texts.clone();
                twice.push(texts[n].clone());
                all.push((Kind::ChangeConstant, n, twice));
            }
        }
        all
    }
}

#[derive(Default)]
struct Tally {
    mutants: usize,
    refused: usize,
    disproved: usize,
    survivors: BTreeSet<String>,
    by_kind: BTreeMap<Kind, (usize, usize)>,
}

/// The longest derived tangent that is broken: a test is to take seconds.
const MAX_STEPS: usize = 1;

fn examine(subject: &Subject, side: Side, tally: &mut Tally) {
    let stmts = if side == Side::Adjoint { &subject.op.adjoint.stmts } else { &subject.op.tangent.stmts };
    if !stmts.iter().all(|s| writable(&subject.op, s)) {
        return;
    }
    let rules: Vec<String> = subject.steps(side).iter().map(Step::to_string).collect();
    let what = if side == Side::Adjoint { "adjoint" } else { "tangent" };
    let mut out = Diagnostics::default();
    let whole = subject.run(side, &rules, &mut out);
    assert_eq!(whole, Fate::Survived, "the {what} of {} itself: {rules:#?}\n{out:#?}", subject.name);
    let declared = matches!(subject.spec.adjoint, Adjoint::Declared(_));
    if !(if side == Side::Adjoint { declared } else { rules.len() <= MAX_STEPS }) {
        return;
    }
    for (kind, n, mutant) in subject.mutants(side) {
        let fate = subject.fate(side, &mutant);
        tally.mutants += 1;
        let entry = tally.by_kind.entry(kind).or_default();
        entry.0 += 1;
        match fate {
            Fate::Refused => tally.refused += 1,
            Fate::Disproved => tally.disproved += 1,
            Fate::Survived => {
                entry.1 += 1;
                let shown = match kind {
                    Kind::DropRule => format!("without `{}`", rules[n]),
                    _ if mutant.len() > rules.len() => format!("twice `{}`", rules[n]),
                    _ => format!("`{}`", mutant[n]),
                };
                tally.survivors.insert(format!("{} {what} {kind:?}: {shown}", subject.name));
            }
        }
    }
}

fn specs(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut specs: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    specs.sort();
    specs
}

#[test]
fn only_equivalent_mutants_build() {
    let subjects: Vec<Subject> = ["../../ops", "../../tests/reference/ops"]
        .iter()
        .flat_map(|folder| specs(folder))
        .map(|path| Subject::read(&path))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        while let Some(subject) = subjects.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let start = std::time::Instant::now();
            examine(subject, Side::Adjoint, &mut tally);
            examine(subject, Side::Tangent, &mut tally);
            if std::env::var_os("TIMES").is_some() {
                println!("{} {:?}", subject.name, start.elapsed());
            }
        }
        tally
    };
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let tally = thread.join().expect("a thread finishes");
            total.mutants += tally.mutants;
            total.refused += tally.refused;
            total.disproved += tally.disproved;
            total.survivors.extend(tally.survivors);
            for (kind, (all, alive)) in tally.by_kind {
                let entry = total.by_kind.entry(kind).or_default();
                *entry = (entry.0 + all, entry.1 + alive);
            }
        }
    });
    println!(
        "{} mutants: {} refused as no rule, {} disproved, {} equivalent",
        total.mutants,
        total.refused,
        total.disproved,
        total.survivors.len()
    );
    for (kind, (all, alive)) in &total.by_kind {
        println!("  {kind:?}: {all}, equivalent {alive}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants.txt");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeMap<&str, &str> = known.lines().filter_map(|line| line.split_once("  # ")).collect();
    if std::env::var_os("BLESS").is_some() {
        let lines = total.survivors.iter().map(|s| format!("{s}  # {}\n", known.get(s.as_str()).unwrap_or(&"?")));
        std::fs::write(&path, lines.collect::<String>()).expect("the list is written");
        return;
    }
    let new: Vec<&String> =
        total.survivors.iter().filter(|s| known.get(s.as_str()).is_none_or(|why| *why == "?")).collect();
    assert!(new.is_empty(), "mutants that build, without a reason in tests/mutants.txt:\n{new:#?}");
    let gone: Vec<&&str> = known.keys().filter(|s| !total.survivors.contains(**s)).collect();
    assert!(gone.is_empty(), "listed in tests/mutants.txt, but no longer building:\n{gone:#?}");
}
