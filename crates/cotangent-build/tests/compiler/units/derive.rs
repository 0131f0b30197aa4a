//! What derivation knows of values (what is finite, what is never negative), and the tangent of what does not move.

use cotangent_build::derive::least::Least;
use cotangent_build::derive::range::Ranges;
use cotangent_build::derive::tangent;
use cotangent_build::functions::Range;
use cotangent_build::index::normal::build;
use cotangent_build::index::{Binary, Expr, Op, ParamId, Role, TensorId, Unary};
use cotangent_build::source::{SourceId, Span};
use std::collections::BTreeMap;

#[test]
fn what_functions_make_infinite_is_found() {
    let params = BTreeMap::from([(ParamId(0), Range::new(1e-5, 1e-3))]);
    let ranges = Ranges { params: &params, tensors: BTreeMap::new() };
    let x = || Expr::Read(TensorId(0), Vec::new());
    let eps = || Expr::Param(ParamId(0));
    let finite = |e: Expr| ranges.expr(&e).finite;
    assert!(finite(Expr::unary(Unary::Tanh, x()) * x()));
    assert!(finite(Expr::unary(Unary::Log, x().powf(2.0) + eps())));
    assert!(finite(Expr::one() / (Expr::unary(Unary::Abs, x()) + Expr::one())));
    for f in [Unary::Log, Unary::Exp, Unary::Sqrt, Unary::Rsqrt, Unary::Acosh, Unary::Asin] {
        assert!(!finite(Expr::unary(f, x())), "{f:?}");
    }
    assert!(!finite(Expr::one() / x()));
    assert!(!finite(x().powf(-1.0)));
}

fn read(t: usize) -> Expr {
    Expr::Read(TensorId(t), Vec::new())
}

#[test]
fn squares_and_their_sums_are_never_negative() {
    let least = Least::new(&[]);
    let square = || read(0).powf(2.0);
    let product = |a, b| Expr::Binary(Binary::Mul, Box::new(a), Box::new(b));
    assert!(least.touches_zero(&square()));
    assert!(least.touches_zero(&(square() + product(read(1), read(1)))));
    assert!(!least.touches_zero(&(square() + Expr::one())), "it is not zero");
    for e in [read(0), product(read(0), read(1)), read(0).powf(3.0), square() - read(1).powf(2.0)] {
        assert!(!least.never_negative(&e), "{e:?}");
    }
    // The root of an input is not defined around zero.
    assert!(!least.never_negative(&Expr::unary(Unary::Sqrt, read(0))));
    assert!(least.never_negative(&Expr::unary(Unary::Sqrt, square())));
}

#[test]
fn a_statement_of_constants_has_no_tangent() {
    let span = Span { source: SourceId(0), start: 0, end: 0 };
    let mut op = Op::new("c", "", SourceId(0));
    let y = op.add_tensor("y", Vec::new(), Role::Output, span);
    let s = build(y, Vec::new(), false, &[], None, Expr::Const(3.0), span);
    assert!(tangent(&mut op, &[s], &[]).is_empty());
}
