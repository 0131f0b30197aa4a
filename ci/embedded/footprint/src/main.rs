//! What each kernel takes on a target.
//!
//! `footprint table PROGRAM` gives the addresses of the functions to count, as `instructions.c` reads them.
//!
//! `footprint report COUNTS FILE...` takes the instructions counted and the objects and archives that the program was linked from, compiled with
//! `-Zemit-stack-sizes`; gives a line for each function of each kernel, all in bytes but the last: its code and its constants, with all that it
//! reaches of the crate; the deepest stack on any path of calls, its own frame and those of the compiler's runtime included (a call that ends
//! its caller counts as any, so it is at most this); the workspace that the kernel publishes, of the class of machines that needs most, or `-`
//! for a kernel that is not bundled; instructions of one call. What is counted of `core` and the compiler's runtime (copies of memory, arithmetic in
//! software) is shared by a whole program and not in the first two.

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags, elf};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

/// Before the name of a kernel's function in the fixture.
const KERNEL: &str = "kernel ";
/// Before that of a loop of `hand.c`.
const HAND: &str = "hand_";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["table", program] => table(program),
        ["report", counts, files @ ..] => report(counts, files),
        _ => Err("footprint table PROGRAM | footprint report COUNTS FILE...".into()),
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

/// The name to report, of a function that is reported.
fn reported(symbol: &str) -> Option<&str> {
    symbol.strip_prefix(KERNEL).or(symbol.starts_with(HAND).then_some(symbol))
}

fn table(program: &str) -> Result<String, Failure> {
    let bytes = std::fs::read(program)?;
    let file = object::File::parse(&*bytes)?;
    // The lowest bit says that it is Thumb code.
    let thumb = u64::from(file.architecture() == object::Architecture::Arm);
    let mut out = String::new();
    for s in file.symbols() {
        let name = s.name()?;
        if let Some(name) = reported(name).or((name == "counted").then_some(name)) {
            out += &format!("{:x} {name}\n", s.address() & !thumb);
        }
    }
    Ok(out)
}

/// A section of a function or of a constant.
struct Part {
    code: bool,
    bytes: u64,
    /// Of `core` or the compiler's runtime.
    shared: bool,
    /// What it refers to.
    to: BTreeSet<Target>,
    frame: u64,
}

/// A part by the number of its file and section, or a symbol of another file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Part(usize, usize),
    Symbol(String),
}

#[derive(Default)]
struct Parts {
    all: BTreeMap<(usize, usize), Part>,
    global: BTreeMap<String, (usize, usize)>,
    reported: BTreeMap<String, (usize, usize)>,
    files: usize,
}

impl Parts {
    fn read(&mut self, bytes: &[u8], shared: bool) -> Result<(), Failure> {
        let file = object::File::parse(bytes)?;
        let n = self.files;
        self.files += 1;
        let target = |r: &object::Relocation| -> Result<Option<Target>, Failure> {
            let RelocationTarget::Symbol(s) = r.target() else { return Ok(None) };
            let s = file.symbol_by_index(s)?;
            Ok(Some(match s.section_index() {
                Some(section) => Target::Part(n, section.0),
                None => Target::Symbol(s.name()?.into()),
            }))
        };
        for s in file.symbols().filter(|s| s.is_definition()) {
            if let Some(section) = s.section_index() {
                let name = s.name()?;
                if s.is_global() {
                    self.global.entry(name.into()).or_insert((n, section.0));
                }
                if let Some(name) = reported(name) {
                    self.reported.insert(name.into(), (n, section.0));
                }
            }
        }
        let mut frames = Vec::new();
        for s in file.sections() {
            if s.name()? == ".stack_sizes" {
                // An address of four bytes, to be relocated, then the size in LEB128.
                let data = s.data()?;
                for (at, r) in s.relocations() {
                    if let Some(Target::Part(_, section)) = target(&r)? {
                        frames.push((section, leb128(&data[at as usize + 4..])));
                    }
                }
                continue;
            }
            let SectionFlags::Elf { sh_flags } = s.flags() else { return Err("not an ELF object".into()) };
            if sh_flags & u64::from(elf::SHF_ALLOC) == 0 {
                continue;
            }
            let mut to = BTreeSet::new();
            for (_, r) in s.relocations() {
                to.extend(target(&r)?);
            }
            let code = sh_flags & u64::from(elf::SHF_EXECINSTR) != 0;
            self.all.insert((n, s.index().0), Part { code, bytes: s.size(), shared, to, frame: 0 });
        }
        for (section, frame) in frames {
            if let Some(part) = self.all.get_mut(&(n, section)) {
                part.frame += frame;
            }
        }
        Ok(())
    }

    fn follow(&self, at: (usize, usize)) -> Vec<(usize, usize)> {
        let part = |t: &Target| match t {
            Target::Part(file, section) => Some((*file, *section)),
            Target::Symbol(name) => self.global.get(name).copied(),
        };
        self.all.get(&at).into_iter().flat_map(|p| &p.to).filter_map(part).filter(|p| *p != at).collect()
    }

    /// Everything that is reached.
    fn closure(&self, from: (usize, usize)) -> BTreeSet<(usize, usize)> {
        let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(self.follow(at).into_iter().filter(|to| seen.insert(*to)));
        }
        seen
    }

    /// The frames on the deepest path; nothing is recursive.
    fn stack(&self, from: (usize, usize), known: &mut BTreeMap<(usize, usize), u64>) -> u64 {
        if let Some(depth) = known.get(&from) {
            return *depth;
        }
        known.insert(from, 0);
        let below = self.follow(from).into_iter().map(|to| self.stack(to, known)).max().unwrap_or(0);
        let depth = below + self.all.get(&from).map_or(0, |p| p.frame);
        known.insert(from, depth);
        depth
    }
}

fn leb128(bytes: &[u8]) -> u64 {
    let length = bytes.iter().take_while(|b| **b & 0x80 != 0).count() + 1;
    bytes.iter().take(length).rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f))
}

fn report(counts: &str, files: &[&str]) -> Result<String, Failure> {
    let counts = std::fs::read_to_string(counts)?;
    let counts: BTreeMap<&str, &str> = counts.lines().filter_map(|l| l.split_once(' ')).collect();
    let mut parts = Parts::default();
    for name in files {
        let bytes = std::fs::read(name).map_err(|e| format!("{name}: {e}"))?;
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
    for k in cotangent::kernels::KERNELS {
        scratch.extend(k.functions.iter().map(|f| (format!("{}::{}::{}", k.op, k.name, f.name), f.scratch.scalar)));
    }
    let mut known = BTreeMap::new();
    let columns = |name: &str, all: [&str; 5]| {
        let [code, constants, stack, workspace, instructions] = all;
        format!("{name:<60} {code:>8} {constants:>9} {stack:>7} {workspace:>9} {instructions:>12}\n")
    };
    let mut out = columns("function", ["code", "constants", "stack", "workspace", "instructions"]);
    for (name, at) in &parts.reported {
        let own: Vec<&Part> =
            parts.closure(*at).iter().filter_map(|p| parts.all.get(p)).filter(|p| !p.shared).collect();
        let bytes = |code: bool| own.iter().filter(|p| p.code == code).map(|p| p.bytes).sum::<u64>().to_string();
        let stack = parts.stack(*at, &mut known).to_string();
        let workspace = scratch.get(name).map_or("-".into(), usize::to_string);
        let count = counts.get(name.as_str()).copied().unwrap_or("-");
        out += &columns(name, [&bytes(true), &bytes(false), &stack, &workspace, count]);
    }
    Ok(out)
}
