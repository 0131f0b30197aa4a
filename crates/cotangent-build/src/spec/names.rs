//! Names: takes those that a spec declares, gives an error for each that is not well formed or stands twice, with a
//! name near it that would do.
//!
//! Holds after it: tensors, parameters, ops and instances have lower-case names, axes begin with a capital letter; no
//! name is a keyword of Rust or a word of formulas; no two axes have one index.

use super::Spec;
use super::decode::Decoder;
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{At, SourceId, Span};
use crate::words::is_keyword;
use std::collections::HashMap;
use std::path::Path;

/// Words of the formula language that no tensor, parameter or index may take.
const FORMULA_WORDS: [&str; 11] = ["and", "or", "not", "in", "sum", "prod", "mean", "max", "min", "pi", "inf"];

/// Why a lower-case name cannot be one, and what to write; `reserved`: it is used in formulas too.
pub(crate) fn misnamed(name: &str, reserved: bool) -> Option<(&'static str, String)> {
    let form = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'));
    if !form {
        Some(("lower-case letters, digits and `_`, a letter first", format!("for example `{}`", repaired(name))))
    } else if is_keyword(name) {
        Some(("a keyword of Rust", format!("for example `{name}_`")))
    } else if reserved && FORMULA_WORDS.contains(&name) {
        Some(("a word of the formula language", format!("for example `{name}_`")))
    } else if reserved && (name.ends_with("_bar") || name.ends_with("_dot")) {
        let stem = &name[..name.len() - 4];
        Some(("`_bar` and `_dot` mark cotangents and tangents", format!("for example `{stem}`")))
    } else {
        None
    }
}

impl Decoder<'_> {
    fn bad_name(&mut self, name: &At<String>, kind: &str, why: String, help: String) {
        // Formulas that use the name would only repeat the complaint.
        self.broken |= !matches!(kind, "an op" | "an instance");
        self.error(
            Diagnostic::error(
                Code::BadName,
                name.span,
                format!("`{}` cannot name {kind}", name.value.escape_debug()),
                why,
            )
            .help(help),
        );
    }

    /// Checks a lower-case name; `reserved`: it is used in formulas too.
    pub(super) fn lower_name(&mut self, name: &At<String>, kind: &str, reserved: bool) {
        if let Some((why, help)) = misnamed(name, reserved) {
            self.bad_name(name, kind, why.to_owned(), help);
        }
    }

    pub(super) fn axis_name(&mut self, name: &At<String>) {
        let form =
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric());
        let index = name.to_ascii_lowercase();
        if !form {
            let why = "a capital letter, then letters and digits".to_owned();
            let repaired: String = repaired(name)
                .split('_')
                .filter_map(|part| {
                    let first = part.chars().next()?;
                    Some(first.to_ascii_uppercase().to_string() + &part[first.len_utf8()..])
                })
                .collect();
            let help = if !name.is_empty() && name.chars().all(|c| c.is_ascii_digit()) {
                format!(
                    "give the axis a name, for example `{repaired}`, and the number as its size: `sizes: {{{repaired}: {}}}`",
                    name.value
                )
            } else {
                format!("for example `{repaired}`; its index is the same in lower case")
            };
            self.bad_name(name, "an axis", why, help);
        } else if FORMULA_WORDS.contains(&index.as_str()) {
            let why = format!("its index would be `{index}`, a word of the formula language");
            self.bad_name(name, "an axis", why, format!("for example `{}0`", name.value));
        }
    }

    pub(super) fn op_name(&mut self, source: SourceId, op: &At<String>) {
        self.lower_name(op, "an op", false);
        let path = Path::new(self.sources.path(source));
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        if stem != op.value {
            let help = format!("rename the file to `{}.yaml`, or write `op: {stem}`", op.value);
            self.error(
                Diagnostic::error(
                    Code::BadName,
                    op.span,
                    format!("the op `{}` is in a file named `{stem}`", op.value),
                    "an op and its file have one name",
                )
                .help(help),
            );
        }
    }

    /// Tensors and parameters share one set of names.
    pub(super) fn names_differ(&mut self, spec: &Spec) {
        let inputs = spec.inputs.iter().map(|t| ("an input", &t.name));
        let outputs = spec.outputs.iter().map(|t| ("an output", &t.name));
        let params = spec.params.iter().map(|(name, _)| ("a parameter", name));
        let mut seen: HashMap<&str, (&str, Span)> = HashMap::new();
        for (kind, name) in inputs.chain(outputs).chain(params) {
            let Some((first, span)) = seen.insert(&name.value, (kind, name.span)) else {
                continue;
            };
            self.broken = true;
            self.error(
                Diagnostic::error(
                    Code::Duplicate,
                    name.span,
                    format!("`{}` is declared twice", name.value),
                    format!("{kind} here"),
                )
                .label(span, format!("{first} here")),
            );
        }
    }

    /// The index of an axis is its lower-case name, so axes may not differ in case alone.
    pub(super) fn axes_differ(&mut self, spec: &Spec) {
        let tensors = spec.inputs.iter().chain(&spec.outputs);
        let axes = tensors.flat_map(|t| &t.axes).chain(spec.sizes.iter().map(|(axis, _)| axis));
        let mut seen: HashMap<String, &At<String>> = HashMap::new();
        let mut told: Vec<&str> = Vec::new();
        for axis in axes {
            let index = axis.to_ascii_lowercase();
            let first = *seen.entry(index.clone()).or_insert(axis);
            if first.value == axis.value || told.contains(&axis.as_str()) {
                continue;
            }
            told.push(axis);
            self.broken = true;
            self.error(
                Diagnostic::error(
                    Code::Duplicate,
                    axis.span,
                    format!("the axes `{}` and `{}` have one index", first.value, axis.value),
                    format!("its index is `{index}`"),
                )
                .label(first.span, format!("its index is `{index}` too")),
            );
        }
    }
}

/// A name near `name` that has the right form.
fn repaired(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(40) {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    let out = out.trim_end_matches('_');
    if out.starts_with(|c: char| c.is_ascii_lowercase()) { out.to_owned() } else { format!("x{out}") }
}
