//! What each kernel takes on a target.
//!
//! `footprint table PROGRAM` gives the addresses of the functions to count in an ELF program, as `instructions.c` reads
//! them.
//!
//! `footprint count PROGRAM TO` takes a WebAssembly module and writes one that counts the instructions of each call,
//! for `run.mjs`.
//!
//! `footprint report COUNTS FILE...` takes the instructions counted and the objects and archives that the program was
//! linked from, ELF ones compiled with `-Zemit-stack-sizes`; gives a line for each function of each kernel, all in
//! bytes but the last: its code and its constants, with all that it reaches of the crate; the deepest stack on any path
//! of calls, its own frame and those of the compiler's runtime included (a call that ends its caller counts as any, so
//! it is at most this); the workspace that the kernel publishes, of the class of machines that have no vectors, or `-`
//! for a loop of `hand.c`; instructions of one call. What is counted of `core` and the compiler's runtime (copies of
//! memory, arithmetic in software) is shared by a whole program and not in the first two.

mod count;
mod elf;
mod parts;
mod wasm;

use object::read::archive::ArchiveFile;
use parts::{Part, Parts};
use std::collections::BTreeMap;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

/// Before the name of a kernel's function in the fixture.
const KERNEL: &str = "kernel ";
/// Before that of a loop of `hand.c`.
const HAND: &str = "hand_";

/// The fixture's kernels beside the bundled ones.
mod shapes {
    cotangent::include_kernels!();
}

/// Those of the tests.
mod instances {
    include!(concat!(env!("OUT_DIR"), "/instances/mod.rs"));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["table", program] => read(program).and_then(|bytes| elf::table(&bytes)),
        ["count", program, to] => read(program)
            .and_then(|bytes| count::instrument(&bytes))
            .and_then(|module| std::fs::write(to, module).map_err(|e| format!("{to}: {e}").into()))
            .map(|()| String::new()),
        ["report", counts, files @ ..] => report(counts, files),
        _ => Err("footprint table PROGRAM | footprint count PROGRAM TO | footprint report COUNTS FILE...".into()),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn read(name: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(name).map_err(|e| format!("{name}: {e}").into())
}

/// The name to report, of a function that is reported.
fn reported(symbol: &str) -> Option<&str> {
    symbol.strip_prefix(KERNEL).or(symbol.starts_with(HAND).then_some(symbol))
}

fn report(counts: &str, files: &[&str]) -> Result<String, Failure> {
    let counts = String::from_utf8(read(counts)?)?;
    let counts: BTreeMap<&str, &str> = counts.lines().filter_map(|l| l.split_once(' ')).collect();
    let mut parts = Parts::default();
    for name in files {
        let bytes = read(name)?;
        let shared = name.contains("libcore-") || name.contains("libcompiler_builtins-");
        if !name.ends_with(".rlib") {
            parts.read(&bytes, shared)?;
            continue;
        }
        for member in ArchiveFile::parse(&*bytes)?.members() {
            let member = member?;
            if member.name().ends_with(b".o") {
                parts.read(member.data(&*bytes)?, shared)?;
            }
        }
    }
    let mut scratch = BTreeMap::new();
    for k in cotangent::kernels::KERNELS.iter().chain(shapes::KERNELS).chain(instances::KERNELS) {
        scratch.extend(k.functions.iter().map(|f| (format!("{}::{}::{}", k.op, k.name, f.name), f.scratch.scalar)));
    }
    let mut known = BTreeMap::new();
    let columns = |name: &str, all: [&str; 5]| {
        let [code, constants, stack, workspace, instructions] = all;
        format!("{name:<60} {code:>8} {constants:>9} {stack:>7} {workspace:>9} {instructions:>12}\n")
    };
    let mut out = columns("function", ["code", "constants", "stack", "workspace", "instructions"]);
    for (name, at) in &parts.reported {
        let reached = parts.closure(*at);
        if let Some(symbol) = reached.iter().find_map(|p| parts.undefined(*p)) {
            return Err(format!("{name} reaches `{symbol}`, which no object defines").into());
        }
        let own: Vec<&Part> = reached.iter().filter_map(|p| parts.all.get(p)).filter(|p| !p.shared).collect();
        let bytes = |code: bool| own.iter().filter(|p| p.code == code).map(|p| p.bytes).sum::<u64>().to_string();
        let stack = parts.stack(*at, &mut known).to_string();
        let workspace = scratch.get(name).map_or("-".into(), usize::to_string);
        let count = counts.get(name.as_str()).copied().unwrap_or("-");
        out += &columns(name, [&bytes(true), &bytes(false), &stack, &workspace, count]);
    }
    Ok(out)
}
