//! Costs that a kernel publishes: takes a function and its nests, gives arithmetic (`plain/cost.rs` counts it), traffic
//! and stack, none of them measured.

use crate::functions::Cost as Class;
use crate::nest::Nest;
use crate::nest::machine::{MACHINES, Machine};
use crate::plain::{self, Cond, Expr, Function, Kernel, Step};
use std::collections::BTreeMap;

/// Of one call.
pub struct Cost {
    /// Additions, multiplications, divisions, comparisons of values and calls of functions, guards taken to hold.
    pub flops: u64,
    /// Bytes of the arguments, each read once and written once.
    pub bytes: u64,
    /// Bytes of locals and packed operands, by the name of a class of machines in lower case.
    pub scratch: BTreeMap<String, u64>,
}

/// Counts a function of a kernel, scheduled as `nests`.
pub fn cost(k: &Kernel, f: &Function, nests: &[Nest]) -> Cost {
    let size = k.dtype.bytes() as u64;
    let elements = |t: &crate::index::TensorId| k.tensor(*t).elements() as u64;
    let read: u64 = f.reads.iter().map(elements).sum();
    let written: u64 = f.writes.iter().map(elements).sum();
    let scratch = |n: &Nest| size * n.locals.iter().map(|l| l.shape.iter().product::<usize>() as u64).sum::<u64>();
    // As the bodies: a class without a nest of its own takes that of the widest which have one.
    let widest = nests.iter().max_by_key(|n| n.machines.iter().map(|m| m.bytes).max());
    let of = |m: &&Machine| nests.iter().find(|n| n.machines.contains(m)).or(widest).map_or(0, scratch);
    Cost {
        flops: plain::cost::steps(&f.steps),
        bytes: size * (read + written * if f.accumulates() { 2 } else { 1 }),
        scratch: MACHINES.iter().map(|m| (m.name.to_lowercase(), of(m))).collect(),
    }
}

/// The second-level cache of large cores, in bytes.
const BEYOND: u64 = 1 << 20;

/// Whether memory alone decides how long the kernel takes: each function reads and writes more than a large
/// second-level cache holds, with no reduction and at most one cheap operation for each element that it moves. Such a
/// kernel gains nothing from wide vectors, and on some cores loses.
pub fn streams(k: &Kernel, nests: &[Vec<Nest>]) -> bool {
    k.functions.iter().zip(nests).all(|(f, nests)| {
        let cost = cost(k, f, nests);
        let size = k.dtype.bytes() as u64;
        let cheap = f.steps.iter().all(|s| matches!(s, Step::Stmt(s) if s.reduce.is_none() && cheap(&s.value)));
        cheap && cost.bytes > BEYOND && cost.flops * size <= cost.bytes
    })
}

/// A few instructions an operation, each with a throughput of one a cycle or more.
fn cheap(e: &Expr) -> bool {
    match e {
        Expr::Const(_) | Expr::Read(_) => true,
        Expr::Masked(_, a) => cheap(a),
        // Up to here each hides behind a load.
        Expr::Unary(f, a) => f.cost() <= Class::Extremum && cheap(a),
        Expr::Binary(f, a, b) => f.cost() <= Class::Extremum && cheap(a) && cheap(b),
        Expr::Powf(..) => false,
        Expr::Where(c, a, b) => matches!(&**c, Cond::Value(_, l, r) if cheap(l) && cheap(r)) && cheap(a) && cheap(b),
    }
}
