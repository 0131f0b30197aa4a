//! The reader of specs: bytes to declarations. It ends, with a declaration or an error; every span can be shown.
#![no_main]

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::spec::{self, Declaration};
use cotangent_fuzz::{mutator, say, source};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| { mutator(data, size, max, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (id, sources) = source(text);
    let mut out = Diagnostics::default();
    let read = spec::declaration(id, &sources, &mut out);
    assert!(read.is_some() || out.has_errors(), "nothing read, and nothing said");
    if let Some(Declaration::Op(spec)) = &read {
        for formula in &spec.forward {
            for (at, c) in formula.text.char_indices() {
                let _ = sources.snippet(formula.span(at, at + c.len_utf8()));
            }
        }
    }
    say(&out, &sources);
});
