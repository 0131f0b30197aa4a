//! The functions of a kernel that run in parts: takes the kernel, that of a part and how the parts make the whole, gives
//! what the template needs to call the one for the other.
//!
//! Holds after it: a function is there if both kernels have it and it stores what it computes; each of its tensors is
//! cut along the axis, or every part has the whole.

use super::context::{ArgumentContext, FunctionContext, SplitArgumentContext, SplitContext, SplitFunctionContext};
use super::{body, names};
use crate::certify::split::{Split, Weight};
use crate::compiled::Compiled;
use crate::index::TensorId;
use crate::plain::{Function, Kind};

/// What runs in parts of an instance that is split.
pub(super) fn split_context(c: &Compiled, all: &[Compiled], functions: &[FunctionContext]) -> Option<SplitContext> {
    let (op, split) = (&c.certified.op, c.instance.split.as_ref()?);
    let proved = c.certified.splits.get(&c.kernel.name)?;
    let part = all.iter().find(|k| k.kernel.name == split.part)?;
    let entries = c.kernel.functions.iter().filter(|f| f.kind != Kind::Stage).zip(functions);
    let functions = entries.filter_map(|(f, context)| function(c, part, proved, f, context));
    Some(SplitContext {
        axis: op.axis(proved.axis).name.clone(),
        parts: split.parts.value,
        others: split.parts.value - 1,
        size: split.size,
        part: split.part.clone(),
        functions: functions.collect(),
    })
}

fn function(
    c: &Compiled,
    part: &Compiled,
    split: &Split,
    f: &Function,
    context: &FunctionContext,
) -> Option<SplitFunctionContext> {
    let op = &c.certified.op;
    // What adds would add what the first part starts from to all parts.
    if f.accumulates() || matches!(f.kind, Kind::Jacobian | Kind::Hessian) {
        return None;
    }
    let n = part.kernel.functions.iter().position(|g| g.name == f.name)?;
    let weight = |t: &TensorId| match split.weights.get(t) {
        Some(Weight::Mean) => {
            let one_over = 1.0 / c.instance.split.as_ref().map_or(1.0, |s| s.parts.value as f64);
            format!("{one_over:?}_{}", body::scalar(c.kernel.dtype))
        }
        _ => format!("1.0_{}", body::scalar(c.kernel.dtype)),
    };
    let argument = |(t, a): (&TensorId, &ArgumentContext)| SplitArgumentContext {
        name: a.name.clone(),
        alias: a.alias.clone(),
        sliced: split.slices(op, *t),
        weight: weight(t),
    };
    let reads: Vec<_> = f.reads.iter().zip(&context.reads).map(argument).collect();
    let writes: Vec<_> = f.writes.iter().zip(&context.writes).map(argument).collect();
    let workspace = part.plans[n].workspace().is_some();
    let taken = || reads.iter().chain(&writes).map(|a| a.name.as_str());
    Some(SplitFunctionContext {
        name: f.name.clone(),
        works: workspace,
        own: workspace || writes.iter().any(|a| !a.sliced),
        workspace: names::argument("workspace", taken()),
        pool: names::argument("pool", taken()),
        reads,
        writes,
    })
}
