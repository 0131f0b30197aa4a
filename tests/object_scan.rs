//! Kernels cannot panic, allocate or call what is not theirs: takes every function of every bundled kernel, of every
//! other instance of these ops that `tests/reference` lists, and, when asked, of every program, compiles them to
//! objects at optimisation levels 3 and 2, and follows the relocations from each. All that may be reached is the
//! crate's own code and data, and the memory intrinsics; a bounds check that the compiler did not prove shows as a call
//! of `core::panicking`, and the function is named.
//!
//! Holds after it: the objects had every function of the enumeration, and none reached a panic, an allocator or a
//! library of mathematics.
// It reads ELF.
#![cfg(target_os = "linux")]

use cotangent_build::Build;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What compilers call of their own accord, on targets without an operating system too.
const MEMORY: &[&str] = &["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Where a scan ends: the choice of the instruction set, made once in a program, asks the system.
const CHOICE: &str = "isa::x86::chosen::choose";

/// Before the names of the functions that keep the kernels' alive.
const PREFIX: &str = "kernel ";

/// Appended to the crate: a function of a known name for each function of each kernel, so that inlined ones are
/// compiled too.
const TABLE: &str = r#"
macro_rules! keep {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident($($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)* $(; $within:ident)?);)*
    })*) => {$(const _: () = {
        use $($segment)::+ as kernel;
        $(
            #[unsafe(export_name = concat!("kernel ", stringify!($op), "::", stringify!($kernel), "::", stringify!($function)))]
            pub fn $function(
                $($read: &kernel::$read_type,)*
                $($write: &mut kernel::$write_type,)*
                $($within: &mut kernel::$within::Workspace)?
            ) {
                kernel::$function($($read,)* $($write,)* $($within)?);
            }
        )*
    };)*};
}
kernels::for_each_kernel!(keep);
"#;

/// The object of the whole crate with the kernels of `generated`, a folder as the build script's `OUT_DIR`. With `std`,
/// so that it holds each kernel for every instruction set, the portable one included. `appended`: to the crate's root.
fn compile(folder: &Path, generated: &Path, level: &str, appended: &str) -> Vec<u8> {
    let sources = folder.join("src");
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &sources);
    let root = sources.join("lib.rs");
    let text = std::fs::read_to_string(&root).expect("the copy of the crate's root") + appended;
    std::fs::write(&root, text).expect("the copy can be written");
    let object = folder.join("kernels.o");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--crate-name=cotangent", "--crate-type=lib", "--edition=2024", "--emit=obj", "--cap-lints=allow"]);
    rustc.args(["-Cpanic=abort", "-Ccodegen-units=1", "-Cembed-bitcode=no", "-Cdebuginfo=0"]);
    rustc.args(["--cfg", "feature=\"std\"", "--cfg", "feature=\"bundled\""]).arg(format!("-Copt-level={level}"));
    let run = rustc.arg(&root).arg("-o").arg(&object).env("OUT_DIR", generated).output().expect("rustc runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    std::fs::read(&object).expect("the object")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the sources") {
        let path = entry.expect("an entry").path();
        let into = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &into);
        } else {
            std::fs::copy(&path, into).expect("a copy");
        }
    }
}

/// What a scan saw.
struct Scan {
    /// `op::kernel::function` of each.
    functions: BTreeSet<String>,
    /// What is reached and must not be: the kernel's function, the code that refers to it, and its name.
    faults: Vec<String>,
}

/// Follows the relocations of each kernel's functions. Every function has a section of its own.
fn scan(bytes: &[u8]) -> Scan {
    let file = object::File::parse(bytes).expect("an object");
    let named = |at: usize| file.symbol_by_index(SymbolIndex(at)).expect("a symbol");
    let name = |at: usize| named(at).name().expect("a name").to_string();
    let mut functions = BTreeMap::new();
    let mut owners: BTreeMap<usize, String> = BTreeMap::new();
    for s in file.symbols() {
        if let (Some(section), Ok(symbol), true) = (s.section_index(), s.name(), s.is_definition()) {
            owners.insert(section.0, format!("{:#}", rustc_demangle::demangle(symbol)));
            if let Some(function) = symbol.strip_prefix(PREFIX) {
                functions.insert(function.to_string(), section.0);
            }
        }
    }
    let edges = edges(&file);
    let mut faults = Vec::new();
    for (function, section) in &functions {
        let (mut seen, mut next) = (BTreeSet::from([*section]), vec![*section]);
        while let Some(at) = next.pop() {
            for to in &edges[&at] {
                let owner = owners.get(&at).map_or("data", String::as_str);
                match named(*to).section_index() {
                    Some(SectionIndex(to)) => {
                        let opaque = owners.get(&to).is_some_and(|name| name.ends_with(CHOICE));
                        if !opaque && seen.insert(to) {
                            next.push(to);
                        }
                    }
                    None if MEMORY.contains(&name(*to).as_str()) => {}
                    None => faults
                        .push(format!("{function}: `{owner}` refers to `{:#}`", rustc_demangle::demangle(&name(*to)))),
                }
            }
        }
    }
    Scan { functions: functions.into_keys().collect(), faults }
}

/// The symbols that each section refers to.
fn edges(file: &object::File) -> BTreeMap<usize, BTreeSet<usize>> {
    let symbols = |s: object::Section| {
        let to = s.relocations().filter_map(|(_, r)| match r.target() {
            RelocationTarget::Symbol(to) => Some(to.0),
            _ => None,
        });
        (s.index().0, to.collect())
    };
    file.sections().map(symbols).collect()
}

/// The functions of kernels by their crate's own enumeration.
fn enumerated<'a>(kernels: impl Iterator<Item = &'a cotangent::KernelInfo>) -> BTreeSet<String> {
    kernels.flat_map(|k| k.functions.iter().map(move |f| format!("{}::{}::{}", k.op, k.name, f.name))).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("object_scan").join(name)
}

/// The scan of every kernel of the bundled ops: those that are bundled, and those at the sizes of the tests.
fn bundled(level: &str) -> Scan {
    let kernels = cotangent::kernels::KERNELS.iter().chain(cotangent_reference::instances::KERNELS);
    every("ops", &["ops", "tests/reference/instances"], enumerated(kernels), level)
}

/// The scan of every kernel of folders of specs, which have these functions.
fn every(name: &str, specs: &[&str], wanted: BTreeSet<String>, level: &str) -> Scan {
    let folder = folder(&format!("{name}_level_{level}"));
    // Of the kernels alone, whatever features this test was built with.
    let build = specs.iter().fold(Build::new().cargo_metadata(false), |build, specs| {
        build.ops(Path::new(env!("CARGO_MANIFEST_DIR")).join(specs))
    });
    build
        .templates(concat!(env!("CARGO_MANIFEST_DIR"), "/templates"))
        .out_dir(folder.join("cotangent"))
        .try_compile()
        .expect("the ops compile");
    let seen = scan(&compile(&folder, &folder, level, TABLE));
    assert!(wanted.len() > 100, "the enumeration has {} functions", wanted.len());
    assert_eq!(seen.functions, wanted, "functions in the object, and enumerated");
    seen
}

fn without_faults(level: &str, seen: &Scan) {
    assert!(seen.faults.is_empty(), "level {level}: {} faults\n{}", seen.faults.len(), seen.faults.join("\n"));
    println!("level {level}: {} functions of as many enumerated, no faults", seen.functions.len());
}

// Two tests, so that two compilers run side by side.

#[test]
fn kernels_reach_nothing_else_at_level_3() {
    without_faults("3", &bundled("3"));
}

#[test]
fn kernels_reach_nothing_else_at_level_2() {
    without_faults("2", &bundled("2"));
}

/// Programs, stages and workspaces included.
#[test]
#[ignore = "compiles the programs in one piece: `cargo test --test object_scan -- --ignored`"]
fn programs_reach_nothing_else() {
    without_faults("3", &every("programs", &["programs"], enumerated(cotangent_programs::KERNELS.iter()), "3"));
}

/// The functions that keep a check at the levels for size, and how many there are in all, against
/// `tests/object_scan_size.txt`.
#[test]
#[ignore = "compiles the kernels twice more: `cargo test --test object_scan -- --ignored`; BLESS=1 writes the list"]
fn exceptions_at_the_levels_for_size() {
    let mut text = String::new();
    for level in ["s", "z"] {
        let seen = bundled(level);
        let of = |f: &String| f.split(": ").next().map(str::to_string);
        let kept: BTreeSet<String> = seen.faults.iter().filter_map(of).collect();
        text += &format!("level {level}: {} of {} functions keep a check\n", kept.len(), seen.functions.len());
        let mut kernels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kernel, function) in kept.iter().filter_map(|f| f.rsplit_once("::")) {
            kernels.entry(kernel).or_default().push(function);
        }
        text.extend(kernels.iter().map(|(kernel, functions)| format!("  {kernel}: {}\n", functions.join(", "))));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/object_scan_size.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).expect("the list can be written");
    }
    let listed = std::fs::read_to_string(path).expect("the list");
    assert!(listed == text, "the list is another one now (BLESS=1 writes it):\n{text}");
}

/// Compiles one op with a line of Rust at the start of every function's body, and scans it.
fn planted(name: &str, line: &str) -> Scan {
    let folder = folder(name);
    let (templates, generated) = (folder.join("templates"), folder.join("cotangent"));
    let shipped = include_str!("../templates/run.rs.tera");
    let body = "_with<Isa_: _isa::Isa>";
    let start = shipped.find(body).and_then(|at| Some(at + shipped[at..].find('\n')? + 1)).expect("a body");
    std::fs::create_dir_all(&templates).expect("a folder");
    std::fs::create_dir_all(&generated).expect("a folder");
    std::fs::write(templates.join("run.rs.tera"), format!("{}{line}\n{}", &shipped[..start], &shipped[start..]))
        .expect("a template");
    let op = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/square.yaml");
    let output = Build::new().ops(op).templates(&templates).render().expect("the op compiles");
    for (name, text) in output.files {
        std::fs::write(generated.join(name), text).expect("a generated file");
    }
    scan(&compile(&folder, &folder, "3", TABLE))
}

#[test]
fn a_bounds_check_that_can_fail_is_found() {
    let clean = planted("clean", "");
    assert!(!clean.functions.is_empty() && clean.faults.is_empty(), "{}", clean.faults.join("\n"));
    // The index comes from the data: no compiler can prove it.
    let line = "let all = ::cotangent::Tensor::flat(x); let _ = ::core::hint::black_box(all[all[0] as usize]);";
    let bad = planted("bounds", line);
    assert_eq!(bad.functions, clean.functions);
    for function in &bad.functions {
        let named = |f: &&String| {
            f.starts_with(&format!("{function}: ")) && f.ends_with("`core::panicking::panic_bounds_check`")
        };
        assert!(bad.faults.iter().any(|f| named(&f)), "no fault of {function} in\n{}", bad.faults.join("\n"));
    }
}

/// A loop over small kernels within one body.
const LOOP: &str = r#"
pub struct Each<'a>(&'a [kernels::product::small::X; 1000], &'a mut [kernels::product::small::Z; 1000]);
impl isa::Body for Each<'_> {
    #[inline(always)]
    fn run<I: isa::Isa>(self, isa: I) {
        for (x, z) in self.0.iter().zip(self.1) {
            kernels::product::small::forward_with(isa, x, x, z);
        }
    }
}
#[unsafe(export_name = "the loop")]
pub fn each(x: &[kernels::product::small::X; 1000], z: &mut [kernels::product::small::Z; 1000]) {
    isa::dispatch(Each(x, z));
}
"#;

/// Who asks for the instruction set is the caller of the loop; for each set the loop is a function that has the kernels
/// in it: it refers to no function, and not to the choice.
#[test]
#[cfg(all(target_arch = "x86_64", not(target_feature = "avx2")))]
fn a_loop_within_a_body_dispatches_once() {
    let folder = folder("loop");
    let op = "op: product\ninputs: {x: [I, J], y: [J, K]}\noutputs: {z: [I, K]}\nforward:\n  \
              - z[i,k] = sum(j) x[i,j] * y[j,k]\ninstances: [{name: small, I: 4, J: 4, K: 4}]\n";
    let spec = folder.join("product.yaml");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(&spec, op).expect("a spec");
    let build = Build::new().cargo_metadata(false).ops(&spec).out_dir(folder.join("cotangent"));
    build.try_compile().expect("the op compiles");
    let bytes = compile(&folder, &folder, "3", LOOP);
    let file = object::File::parse(&*bytes).expect("an object");
    let edges = edges(&file);
    let name = |symbol: &object::Symbol| format!("{:#}", rustc_demangle::demangle(symbol.name().unwrap_or_default()));
    // The functions that a section refers to, and the byte with the choice.
    let refers = |section: usize| -> Vec<String> {
        let to = edges[&section].iter().map(|at| file.symbol_by_index(SymbolIndex(*at)).expect("a symbol"));
        let named =
            to.filter(|s| s.is_undefined() || s.kind() == object::SymbolKind::Text || name(s).contains("LEVEL"));
        named.map(|s| name(&s)).collect()
    };
    let mut bodies = 0;
    for symbol in file.symbols().filter(|s| s.kind() == object::SymbolKind::Text) {
        let (Some(section), name) = (symbol.section_index(), name(&symbol)) else { continue };
        if name == "the loop" {
            assert!(refers(section.0).iter().any(|to| to.contains("LEVEL")), "{:?}", refers(section.0));
        } else if ["avx2", "avx512", "portable"].iter().any(|set| name.ends_with(&format!("::{set}"))) {
            bodies += 1;
            assert_eq!(refers(section.0), Vec::<String>::new(), "{name}");
        }
    }
    assert_eq!(bodies, 3);
}
