//! The printer of formulas: takes trees at random and every rule of what ships, gives a panic where the parser of the
//! language reads other trees from their text, brackets aside.

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::ReduceOp;
use cotangent_build::index::formula::{Formula, Op};
use cotangent_build::index::print;
use cotangent_build::source::{SourceId, Sources, shipped_ops};
use cotangent_build::syntax::{self, BinaryOp, ExprKind};

/// A tree without brackets for the reader, and of products of one kind.
fn bare(f: &Formula) -> Formula {
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
fn parsed(text: &str) -> Formula {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("formula", text.to_owned());
    let e = syntax::expression(&cotangent_build::spec::Formula::verbatim(id, 0, text), &mut out);
    read(&e.unwrap_or_else(|| panic!("{}", out.render(&sources))))
}

fn read(e: &syntax::Expr) -> Formula {
    let boxed = |e: &syntax::Expr| Box::new(read(e));
    match &e.kind {
        ExprKind::Number(v) => Formula::Atom(format!("{v:?}")),
        ExprKind::Name(name) => Formula::Atom(name.clone()),
        ExprKind::Access(a) => Formula::Access(a.name.value.clone(), a.index.iter().map(|i| read(&i.expr)).collect()),
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
        ExprKind::Call(name, arguments, _) => Formula::Call(name.value.clone(), arguments.iter().map(read).collect()),
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
            let op = [Or, And, Lt, Le, Gt, Ge, Eq, Ne, Add, Sub, Mul, Div, Times, Per, Add, Sub, Mul, Div][next(18)];
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
        (lanes(a.clone()).binary(Op::Div, lanes(b.clone()).binary(Op::Mul, a.clone())), "a<all 8> / (b<all 8> * a)"),
        (Formula::Each("sin".into(), vec![product.clone(), b.clone()]).binary(Op::Mul, a.clone()), "sin<a * b, b> * a"),
        (
            a.clone()
                .binary(Op::Mul, Formula::Choice(Box::new([a.clone().binary(Op::Lt, b.clone()), product, b.clone()]))),
            "a * (a < b ? a * b : b)",
        ),
        (Formula::Access("t".into(), vec![Formula::Guarded(Box::new(a.binary(Op::Add, b)))]), "t[a + b?]"),
    ];
    for (f, text) in all {
        assert_eq!(f.to_string(), text);
    }
}

/// Every statement of every rule of what ships, declared and derived.
#[test]
fn shipped_rules_parse_to_what_they_are() {
    let (mut statements, sources) = (0, Sources::default());
    for name in shipped_ops() {
        let mut out = Diagnostics::default();
        let source = SourceId::shipped(name).expect("it ships");
        let certified = cotangent_build::pipeline::certified(source, &sources, &mut out);
        let c = certified.unwrap_or_else(|| panic!("{}", out.render(&sources)));
        let rules = [&c.op.forward, &c.op.adjoint.stmts, &c.op.tangent.stmts, &c.derived.adjoint, &c.derived.tangent];
        let entries = c.op.program.iter().flat_map(|p| p.functions.iter().map(|f| &f.stmts));
        for s in rules.into_iter().chain(entries).flatten() {
            let text = print::value(&c.op, s).to_string();
            assert!(print::stmt(&c.op, s).ends_with(&text));
            assert_eq!(parsed(&text), bare(&print::value(&c.op, s)), "{name}: {text}");
            statements += 1;
        }
    }
    assert!(statements > 1000, "{statements}");
}
