//! Decided tests: takes a loop with a test around its body, gives a panic where what is left is not what can run.

use cotangent_build::nest::decide::decide;
use cotangent_build::nest::{Node, Test, Var};
use cotangent_build::plain::Linear;

/// A node under the test that `i + by` is in `0..4`, in a loop over `i` of four iterations.
fn decided_at(by: i64) -> Vec<Node> {
    let numerator = Linear::new([(0, 1)], by);
    let inner = vec![Node::Fill(cotangent_build::index::TensorId(0))];
    let test = Node::If { tests: vec![Test::Within { numerator, divisor: 1, extent: 4 }], body: inner };
    decide(vec![Node::Loop { var: 0, body: vec![test] }], &[Var { name: "i".into(), extent: 4, counts: None }])
}

#[test]
fn what_never_runs_goes_and_what_always_does_has_no_test() {
    assert!(decided_at(4).is_empty() && decided_at(-4).is_empty());
    let bodies = |by| match decided_at(by).as_slice() {
        [Node::Loop { body, .. }] => body.clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(bodies(0).as_slice(), [Node::Fill(_)]));
    assert!(matches!(bodies(1).as_slice(), [Node::If { .. }]) && matches!(bodies(-3).as_slice(), [Node::If { .. }]));
}
