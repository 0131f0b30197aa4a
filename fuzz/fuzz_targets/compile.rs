//! The whole compiler: a spec in, Rust out that parses, or an error with a place. With wrappers for C and in one file,
//! so that every template runs.
#![no_main]

use cotangent_build::Options;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::pipeline;
use cotangent_fuzz::{mutator, say, source};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| { mutator(data, size, max, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (id, sources) = source(text);
    let options = Options { c_header: Some("kernels.h".into()), ..Options::default() };
    let mut out = Diagnostics::default();
    let files = pipeline::compile(&[id], &sources, &options, None, &mut out);
    assert_eq!(files.is_none(), out.has_errors());
    say(&out, &sources);
    for (name, text) in files.iter().flatten().filter(|(name, _)| name.ends_with(".rs")) {
        if let Err(e) = syn::parse_file(text) {
            panic!("{name}: {e}\n{text}");
        }
    }
});
