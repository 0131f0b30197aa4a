//! The benchmark of programs: takes every kernel of `cotangent-programs` and of `ops/`, gives the time of each of its functions
//! beside that of its `forward`, of the same by hand or by a library, and the limits of the core, all measured in one
//! run on one thread.
//!
//! ```text
//! cargo bench -p cotangent-programs-bench
//! cargo bench -p cotangent-programs-bench -- --quick
//! cargo bench -p cotangent-programs-bench -- --filter mlp::mnist --csv programs.csv
//! ```
//!
//! All functions of a kernel and all their peers take turns in the same rounds. Before anything is timed, each peer's
//! results are compared with ours. All store: none adds to what is there. The table is Markdown, ready to be pasted. A
//! new spec is a new set of rows, without an edit here; its products (`products.rs`), peers (`peers/`) and variants
//! (`variants.rs`) are looked up by name. `ops/` has programs at sizes that nobody but this benchmark compiles.

mod bars;
mod peers;
mod products;
mod report;
mod subject;
mod variants;

use cotangent_measure::Places;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use subject::{Bench, Entry, filled, function};

/// What the benchmark alone has kernels of: `ops/`.
mod kernels {
    cotangent::include_kernels!();
}

/// The functions of each kernel of a list that are measured: what adds to a cotangent has a twin that stores.
macro_rules! entries {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident(
            $($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)* $(; $workspace:ident)?
        );)*
    })*) => {
        vec![$(Entry { kernel: &$($segment)::+::KERNEL, subjects: || {
            use $($segment)::+ as kernel;
            let mut functions = Vec::new();
            $(if let Some(info) = subject::wanted(&kernel::KERNEL, stringify!($function)) {
                let mut places = Places::default();
                let reads = ($(filled::<kernel::$read_type>(&mut places, &kernel::KERNEL, stringify!($read)),)*);
                let mut writes = ($(places.take::<kernel::$write_type>(),)*);
                let mut workspace = ($(Box::new(kernel::$workspace::Workspace::new()),)?);
                functions.push(function!(
                    info, reads, writes, workspace, kernel::$function,
                    ($($read,)*), ($($write,)*), ($($workspace)?)
                ));
            })*
            functions
        } },)*]
    };
}

/// The kernels that ship, then those at the benchmark's own sizes.
fn entries() -> Vec<Entry> {
    let mut all = cotangent_programs::for_each_kernel!(entries);
    all.extend(kernels::for_each_kernel!(entries));
    all
}

/// The command line.
struct Arguments {
    quick: bool,
    filter: Option<String>,
    csv: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Arguments { quick: false, filter: None, csv: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => arguments.quick = true,
                "--filter" => arguments.filter = Some(words.next().ok_or("--filter wants a part of a row's name")?),
                "--csv" => arguments.csv = Some(words.next().ok_or("--csv wants a path")?.into()),
                _ => return Err(format!("unknown argument {word}; there are --quick, --filter PART and --csv PATH")),
            }
        }
        Ok(arguments)
    }

    /// How long a kernel takes, calibration and the first rounds apart.
    fn budget(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 4000 })
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    // Big tensors pass over the stack on their way to the heap.
    let run = std::thread::Builder::new().stack_size(256 << 20).spawn(move || run(&arguments));
    run.expect("a thread").join().unwrap_or(ExitCode::FAILURE)
}

fn run(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    report::print_head();
    let mut bench = Bench::new(arguments.filter.clone(), arguments.budget());
    let entries = entries();
    for entry in entries.iter().filter(|entry| !variants::is_one(entry.kernel.op)) {
        bench.kernel(entry, &entries);
    }
    report::print_end(&bench.rows);
    bars::print(&bench.rows);
    let mut failed = !bench.wrong.is_empty();
    if let Some(path) = &arguments.csv {
        match std::fs::write(path, report::csv(&bench.rows)) {
            Ok(()) => println!("wrote {}", path.display()),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                failed = true;
            }
        }
    }
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    for wrong in &bench.wrong {
        eprintln!("wrong result: {wrong}");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
