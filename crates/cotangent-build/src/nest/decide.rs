//! Decided tests: takes nodes, gives them without the tests that the ranges of their variables decide, and without what
//! never runs: at a border a read may be outside for every iteration.
//!
//! Holds after it: no test around nodes is decided by the loops that it stands in; no loop is empty.

use super::*;
use crate::plain::Cond;

/// The nodes without what is decided.
pub fn decide(nodes: Vec<Node>, vars: &[Var]) -> Vec<Node> {
    let mut out = Vec::new();
    for node in nodes {
        match node {
            Node::Loop { var, body } => {
                let body = decide(body, vars);
                if body.iter().any(runs) {
                    out.push(Node::Loop { var, body });
                }
            }
            Node::If { tests, body } => {
                let (open, body): (Vec<Test>, _) =
                    (tests.into_iter().filter(|t| decided(t, vars) != Some(true)).collect(), decide(body, vars));
                let never = open.iter().any(|t| decided(t, vars) == Some(false));
                match open.is_empty() {
                    _ if never || !body.iter().any(runs) => {}
                    true => out.extend(body),
                    false => out.push(Node::If { tests: open, body }),
                }
            }
            Node::Tile(t) => {
                let t = Tile { body: decide(t.body, vars), ..t };
                if t.body.iter().any(runs) {
                    out.push(Node::Tile(t));
                }
            }
            node => out.push(node),
        }
    }
    out
}

fn runs(node: &Node) -> bool {
    !matches!(node, Node::Comment(..))
}

/// What a test says of all coordinates, where it says the same of all.
pub(super) fn decided(test: &Test, vars: &[Var]) -> Option<bool> {
    let range = |l: &Linear| l.range(&|v| vars[v].extent);
    match test {
        Test::Within { numerator, divisor, extent } => {
            let (lo, hi) = range(numerator);
            if hi < 0 || lo > (*extent as i64 - 1) * divisor {
                return Some(false);
            }
            (*divisor == 1 && lo >= 0 && hi < *extent as i64).then_some(true)
        }
        Test::Index(op, a, b) => match Cond::compare(*op, a.clone(), b.clone(), &|v| vars[v].extent) {
            Cond::Const(known) => Some(known),
            _ => None,
        },
        Test::Value(..) => None,
        Test::And(all) => several(all, vars, false),
        Test::Or(all) => several(all, vars, true),
        Test::Not(t) => decided(t, vars).map(|known| !known),
    }
}

/// One that is `decisive` decides all.
fn several(all: &[Test], vars: &[Var], decisive: bool) -> Option<bool> {
    let each: Vec<Option<bool>> = all.iter().map(|t| decided(t, vars)).collect();
    if each.contains(&Some(decisive)) {
        return Some(decisive);
    }
    each.iter().all(Option::is_some).then_some(!decisive)
}
