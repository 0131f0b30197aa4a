//! The pipeline: takes spec text, gives certified ops and their kernels, stage by stage.

use crate::certify::{Certificate, certify};
use crate::derive::{self, Derived};
use crate::diagnostic::Diagnostics;
use crate::index::{self, Op};
use crate::plain::{self, Kernel};
use crate::source::{SourceId, Sources};
use crate::spec::{self, Spec};

/// A spec that passed the front of the pipeline.
pub struct Certified {
    pub spec: Spec,
    pub op: Op,
    pub derived: Derived,
    pub certificate: Certificate,
}

/// Source to certified op. Errors go to `out`; `None` when there were some.
pub fn certified(source: SourceId, sources: &Sources, out: &mut Diagnostics) -> Option<Certified> {
    let errors = out.errors();
    let spec = spec::parse(source, sources, out)?;
    // after this: keys, kinds of values and names are right; every scalar knows its bytes in the file
    let mut op = index::resolve::resolve(&spec, out)?;
    // after this: names are ids, every access is affine, reductions stand at the root of a statement
    if out.errors() > errors {
        return None;
    }
    let derived = derive::complete(&mut op, out);
    // after this: both rules are there, declared, derived, or transposed from the other
    if out.errors() > errors {
        return None;
    }
    index::check::check(&op).unwrap_or_else(|broken| panic!("the index IR is broken: {broken}"));
    let certificate = certify(&op, &derived, out)?;
    // after this: each declared rule equals the derived one
    Some(Certified { spec, op, derived, certificate })
}

/// Certified op to kernels, one an instance.
pub fn kernels(c: &Certified, out: &mut Diagnostics) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for instance in &c.spec.instances {
        let Some((kernel, _)) = plain::specialise::specialise(&c.op, instance, out) else { continue };
        // after this: every extent, stride and offset is a number; every access is proven in bounds or guarded
        plain::check::check(&kernel).unwrap_or_else(|broken| panic!("the plain IR is broken: {broken}"));
        kernels.push(kernel);
    }
    kernels
}
