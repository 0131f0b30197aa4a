//! Variants: takes a kernel, gives what must be as fast as it: the same program written in another way, and the same
//! calls after other contents of the stack. They stand beside its functions as peers do.

use crate::peers::Peer;
use crate::subject::{Entry, Subject};
use cotangent_measure::Contestant;
use std::hint::black_box;

/// A program, the same written in another way at sizes of the same names, and what the output calls that.
const VARIANTS: &[(&str, &str, &str)] =
    &[("gmm", "gmm_local", "by hand, a local"), ("llsq", "llsq_swapped", "axes swapped")];

/// Programs whose time must not depend on what the stack held.
const ON_ANY_STACK: &[&str] = &["lstm_loss"];

/// What the output calls a call on a stack that held zeros, and one that held subnormal numbers.
pub const STACKS: [(&str, f64); 2] = [("stack of zeros", 0.0), ("stack of subnormals", 1e-310)];

/// Whether a program is there to be beside another.
pub fn is_one(program: &str) -> bool {
    VARIANTS.iter().any(|(_, variant, _)| *variant == program)
}

/// The variants of a kernel's functions, each with the function's name.
pub fn of(entry: &Entry, all: &[Entry]) -> Vec<(&'static str, Peer)> {
    let (op, name) = (entry.kernel.op, entry.kernel.name);
    let mut found = Vec::new();
    let mut add = |subjects: Vec<Subject>, rename: &dyn Fn(Contestant<'static, ()>) -> Contestant<'static, ()>| {
        for Subject { info, results, contestant, .. } in subjects {
            let results = results.into_iter().map(|(name, elements)| (name.to_string(), elements)).collect();
            found.push((info.name, Peer { results, contestant: rename(contestant) }));
        }
    };
    for (_, variant, called) in VARIANTS.iter().filter(|(program, ..)| *program == op) {
        for other in all.iter().filter(|other| other.kernel.op == *variant && other.kernel.name == name) {
            add((other.subjects)(), &|contestant| contestant.named(called));
        }
    }
    if ON_ANY_STACK.contains(&op) {
        for (called, x) in STACKS {
            add((entry.subjects)(), &|contestant| contestant.after(called, move || stain(x)));
        }
    }
    found
}

/// Leaves a number all over the stack that the next call will use.
#[inline(never)]
fn stain(x: f64) {
    black_box(&mut [black_box(x); 32 << 10]);
}
