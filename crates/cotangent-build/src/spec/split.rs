//! Splits: takes the key `split` of an instance, gives the parts that it is cut into and the instance of one of them.
//!
//! Holds after it: the instance states the size of the axis, in one dimension, and the parts divide it. What the op
//! makes of it is proved later (`certify/split.rs`).

use super::decode::Decoder;
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::source::At;
use crate::types::{InstanceSpec, Numbers, Split};

/// Most parts of an instance.
const MAX_PARTS: usize = 1000;
/// Most numbers of parts that a diagnostic names.
const MOST_NAMED: usize = 6;

impl Decoder<'_> {
    /// The axis of a `split`, and the number of parts.
    pub(super) fn split(&mut self, node: Node) -> Option<(At<String>, At<f64>)> {
        let help = "an axis and the number of parts: `split: {B: 4}`";
        let span = node.span;
        let mut entries = self.entries("`split`", help, node)?;
        if let [_, (second, _), ..] = entries.as_slice() {
            let message = "an instance is split along one axis";
            let d = Diagnostic::error(Code::BadSplit, second.span, message, "a second one").help("leave it out");
            self.error(d);
            return None;
        }
        let Some((axis, value)) = entries.pop() else {
            let message = "`split` names no axis";
            self.error(Diagnostic::error(Code::BadSplit, span, message, "along which?").help(help));
            return None;
        };
        let parts = self.numbers(&axis, value)?;
        match parts.value.values.as_slice() {
            [one] if !parts.value.list => Some((axis, one.clone())),
            _ => {
                let message = "the number of parts is one number";
                self.error(Diagnostic::error(Code::BadSplit, parts.span, message, "a list").help(help));
                None
            }
        }
    }

    /// The parts of an instance, and the instance of one of them.
    pub(super) fn parts(
        &mut self,
        whole: &InstanceSpec,
        (axis, parts): (At<String>, At<f64>),
    ) -> Option<(Split, InstanceSpec)> {
        let Some((_, size)) = whole.values.iter().find(|(key, _)| key.value == axis.value) else {
            let message = format!("the instance states no size of `{}`", axis.value.escape_debug());
            let d = Diagnostic::error(Code::BadSplit, axis.span, message, "is to be split");
            self.error(match did_you_mean(&axis, whole.values.iter().map(|(key, _)| key.as_str())) {
                Some(word) => d.help(format!("did you mean `{word}`?")).suggest(axis.span, word),
                None => d.help("split along an axis whose size stands in this instance"),
            });
            return None;
        };
        let [total] = size.values.as_slice() else {
            let message = format!("`{}` has not one dimension", axis.value);
            let d = Diagnostic::error(Code::BadSplit, axis.span, message, "is to be split");
            self.error(d.label(size.span, "its size").help("split along an axis of one dimension"));
            return None;
        };
        let whole_number = |v: f64| (1.0..=2f64.powi(40)).contains(&v) && v.fract() == 0.0;
        if !whole_number(total.value) {
            // Told where sizes are read.
            return None;
        }
        let n = total.value as usize;
        let divides = |p: usize| n.is_multiple_of(p);
        if !whole_number(parts.value)
            || !divides(parts.value as usize)
            || !(2..=MAX_PARTS).contains(&(parts.value as usize))
        {
            let mut possible: Vec<usize> = (2..=n.min(MAX_PARTS)).filter(|p| divides(*p)).collect();
            possible.sort_by_key(|p| ((*p as f64).ln() - parts.value.max(1.0).ln()).abs().to_bits());
            possible.truncate(MOST_NAMED);
            possible.sort_unstable();
            let message = format!("`{}` of size {n} cannot be cut into that many equal parts", axis.value);
            let d = Diagnostic::error(
                Code::BadSplit,
                parts.span,
                message,
                format!("2 to {MAX_PARTS} parts, without a rest"),
            );
            let list: Vec<String> = possible.iter().map(usize::to_string).collect();
            self.error(d.label(size.span, "its size").help(match list.as_slice() {
                [] => format!("leave `split` out, or choose another size of `{}`", axis.value),
                [one] => format!("it can be cut into {one}"),
                [more @ .., last] => format!("it can be cut into {} or {last}", more.join(", ")),
            }));
            return None;
        }
        let parts = At::new(parts.value as usize, parts.span);
        let (size, name) = (n / parts.value, format!("{}_part", whole.name.value));
        let of_part = |(key, numbers): &(At<String>, At<Numbers>)| {
            let mut numbers = numbers.clone();
            if key.value == axis.value {
                numbers.value.values.iter_mut().for_each(|v| v.value = size as f64);
            }
            (key.clone(), numbers)
        };
        let part = InstanceSpec {
            name: At::new(name.clone(), whole.name.span),
            values: whole.values.iter().map(of_part).collect(),
            // A schedule is of a size.
            schedule: Vec::new(),
            ..whole.clone()
        };
        Some((Split { axis, parts, size, part: name }, part))
    }
}
