//! The parser of formulas: text to tree. What is read prints as a text that reads as the same tree.
#![no_main]

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::source::Sources;
use cotangent_build::spec::Formula;
use cotangent_build::syntax;
use cotangent_fuzz::{mutator, say};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| { mutator(data, size, max, seed) });

/// The tree as text, or nothing.
fn read<T: std::fmt::Display>(text: &str, rule: fn(&Formula, &mut Diagnostics) -> Option<T>) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("f", text.to_owned());
    let mut out = Diagnostics::default();
    let tree = rule(&Formula::verbatim(id, 0, text), &mut out);
    assert_eq!(tree.is_none(), out.has_errors());
    say(&out, &sources);
    tree.map(|tree| tree.to_string())
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (step, value) = (read(text, syntax::step), read(text, syntax::expression));
    // Brackets may be added, which are tokens: at the limit of them the text need not be read again.
    if let Some(step) = step.filter(|text| text.len() < 500) {
        assert_eq!(read(&step, syntax::step).as_ref(), Some(&step), "{text}");
    }
    if let Some(value) = value.filter(|text| text.len() < 500) {
        assert_eq!(read(&value, syntax::expression).as_ref(), Some(&value), "{text}");
    }
});
