//! Costs that a kernel publishes: takes a nest, gives arithmetic, traffic and stack, counted, not measured.

use crate::nest::{Nest, Node, Test, Update, Value};
use crate::plain::Kernel;
use crate::spec::DType;

/// Of one call.
pub struct Cost {
    /// Additions, multiplications, divisions, comparisons of values and calls of functions, guards taken to hold.
    pub flops: u64,
    /// Bytes of the arguments, each read once and written once.
    pub bytes: u64,
    /// Bytes of locals and rows of accumulators.
    pub scratch: u64,
}

/// Counts a function.
pub fn cost(k: &Kernel, n: &Nest) -> Cost {
    let size: u64 = if k.dtype == DType::F32 { 4 } else { 8 };
    let elements = |t: &crate::index::TensorId| k.tensor(*t).elements() as u64;
    let read: u64 = n.reads.iter().map(elements).sum();
    let written: u64 = n.writes.iter().map(elements).sum();
    let accumulates = matches!(n.kind, crate::plain::Kind::Vjp { store: false, .. });
    let locals: u64 = n.locals.iter().map(|l| l.shape.iter().product::<usize>() as u64).sum();
    let rows: u64 = n.registers.iter().filter_map(|r| r.lanes).map(|l| l as u64).sum();
    Cost {
        flops: nodes(n, &n.body),
        bytes: size * (read + written * if accumulates { 2 } else { 1 }),
        scratch: size * (locals + rows),
    }
}

fn nodes(n: &Nest, body: &[Node]) -> u64 {
    body.iter()
        .map(|node| match node {
            Node::Loop { var, body } => n.vars[*var].extent as u64 * nodes(n, body),
            Node::If { tests, body } => tests.iter().map(test).sum::<u64>() + nodes(n, body),
            Node::Update { how, value: v, .. } => value(v) + u64::from(matches!(how, Update::Reduce(_))),
            Node::Fold { from, .. } => n.registers[*from].lanes.unwrap_or(1) as u64,
            Node::Comment(..) | Node::Init { .. } | Node::Fill(_) => 0,
        })
        .sum()
}

fn value(v: &Value) -> u64 {
    match v {
        Value::Const(_) | Value::Load(_) | Value::Register(..) => 0,
        Value::Unary(_, a) | Value::Powf(a, _) => 1 + value(a),
        Value::Binary(_, a, b) => 1 + value(a) + value(b),
        // One side runs: the dearer one is counted.
        Value::Select(t, a, b) => test(t) + value(a).max(value(b)),
    }
}

fn test(t: &Test) -> u64 {
    match t {
        Test::Within { .. } | Test::Index(..) => 0,
        Test::Value(_, a, b) => 1 + value(a) + value(b),
        Test::And(ts) | Test::Or(ts) => ts.iter().map(test).sum(),
        Test::Not(t) => test(t),
    }
}
