//! Single statements: takes one that no tile computes, gives its loops: elementwise, or a sum with one accumulator.
//!
//! Holds after it: each test stands as far out as its variables are bound.

use super::builder::{Builder, bound_outside, nest};
use super::coalesce::coalesce;
use super::lower::or_zero;
use super::*;
use crate::plain::Stmt;
use std::collections::{BTreeMap, BTreeSet};

impl Builder<'_> {
    /// A statement without a reduction: loops joined as far as possible, the innermost for the compiler to run in
    /// lanes.
    pub fn elementwise(&mut self, s: &Stmt, fixed: &BTreeMap<usize, usize>) -> Vec<Node> {
        let mut stmts = [s.clone()];
        coalesce(&mut self.space, &mut stmts, &fixed.keys().copied().collect::<BTreeSet<_>>());
        let [s] = &stmts;
        if let Some(nodes) = self.elementwise_lanes(s, fixed) {
            return nodes;
        }
        let mut map = self.fixed_map(s, fixed);
        let own = (0..s.vars.len()).filter(|v| s.vars[*v].extent > 1 && !fixed.contains_key(v));
        let free = self.loops_of(s, own, &mut map);
        let lowering = self.lowering();
        let target = lowering.access(&s.target, &map);
        let target_tests = lowering.tests_of(&s.target, &map);
        let (guards, value) = lowering.lower_term(&s.value, &map);
        let (tests, value) = if s.accumulate {
            ([target_tests, guards].concat(), value)
        } else {
            (target_tests, or_zero(guards, value))
        };
        let update = Node::Update { place: Place::Element(target), how: stored(s), value };
        nest(&free, tests, &bound_outside(&map, &free), vec![update])
    }

    /// A reduction with one accumulator: what has no better.
    pub fn sum(&mut self, s: &Stmt, r: ReduceOp, fixed: &BTreeMap<usize, usize>) -> Vec<Node> {
        let mut map = self.fixed_map(s, fixed);
        let own: Vec<usize> = (0..s.vars.len()).filter(|v| s.vars[*v].extent > 1 && !fixed.contains_key(v)).collect();
        let free = self.loops_of(s, own.iter().copied().filter(|v| *v < s.free), &mut map);
        let target = self.lowering().access(&s.target, &map);
        let target_tests = self.lowering().tests_of(&s.target, &map);
        let total = self.register("acc", None, Vec::new());
        let outer = map.clone();
        let loops = self.loops_of(s, own.iter().copied().filter(|v| *v >= s.free), &mut map);
        let (guards, value) = self.lowering().lower_reduced(&s.value, r, &map);
        let update = Node::Update { place: Place::Register(total.into()), how: Update::Reduce(r), value };
        let mut body = vec![Node::Init { register: total, value: Value::Const(r.identity()) }];
        body.extend(nest(&loops, guards, &bound_outside(&map, &loops), vec![update]));
        body.push(Node::Update { place: Place::Element(target), how: stored(s), value: Value::register(total) });
        nest(&free, target_tests, &bound_outside(&outer, &free), body)
    }
}

/// How a statement's value comes to its target.
fn stored(s: &Stmt) -> Update {
    if s.accumulate { Update::Reduce(ReduceOp::Sum) } else { Update::Set }
}
