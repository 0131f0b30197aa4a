//! The roofline: takes the generated kernels of `instances/`, gives their times beside those of the libraries of the
//! field and the limits of the core, all measured in one run on one thread.
//!
//! ```text
//! cargo bench -p cotangent-roofline --bench roofline
//! cargo bench -p cotangent-roofline --bench roofline -- --quick
//! cargo bench -p cotangent-roofline --bench roofline -- --filter matmul/64
//! ```
//!
//! A row is an op, a shape and a mode. Before anything is timed, each contestant's result is compared with the
//! generated kernel's. All store: no contestant adds to what is there. Standard output has the table, the means and the
//! goals; `target/roofline.csv` and `target/roofline.svg` hold the same as data and as a picture.

mod bars;
mod chart;
mod convolutions;
mod elementwise;
mod harness;
mod machine;
mod many;
mod peers;
mod plain;
mod products;
mod report;

use harness::Bench;
use report::Roofs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The kernels: every instance is a row, or several.
pub mod kernels {
    cotangent::include_kernels!();
}

/// Products of which the tangent is measured too.
const PRODUCT_JVP: &[&str] = &["f32_16x16x16", "f32_64x64x64", "f32_32x784x128"];
/// Convolutions of which the tangent is measured too.
const CONV_JVP: &[&str] = &["x28x28x8_k3x3x16_pad1"];

/// Measures one kernel: what its op's rows are.
macro_rules! measure {
    ($bench:ident, matmul, $name:ident, f32) => {{
        use kernels::matmul::$name as kernel;
        products::nn($bench, kernel::forward);
        products::nt($bench, kernel::vjp_x_store);
        products::tn($bench, kernel::vjp_y_store);
    }};
    ($bench:ident, matmul, $name:ident, f64) => {
        products::nn($bench, kernels::matmul::$name::forward)
    };
    ($bench:ident, batch_matmul, $name:ident, $scalar:ident) => {{
        use kernels::batch_matmul::$name as kernel;
        products::batch_nn($bench, kernel::forward);
        products::batch_nt($bench, kernel::vjp_x_store);
        products::batch_tn($bench, kernel::vjp_y_store);
    }};
    ($bench:ident, conv, $name:ident, $scalar:ident) => {{
        use kernels::conv::$name as kernel;
        let jvp = CONV_JVP.contains(&kernel::KERNEL.name).then_some(kernel::jvp);
        convolutions::conv($bench, kernel::forward, kernel::vjp_x_store, kernel::vjp_k_store, jvp);
    }};
    ($bench:ident, add, $name:ident, $scalar:ident) => {
        elementwise::zip::<plain::Add, _>($bench, kernels::add::$name::forward)
    };
    ($bench:ident, mul, $name:ident, $scalar:ident) => {
        elementwise::zip::<plain::Mul, _>($bench, kernels::mul::$name::forward)
    };
    ($bench:ident, relu, $name:ident, $scalar:ident) => {
        elementwise::map::<plain::Relu, _>($bench, kernels::relu::$name::forward)
    };
    ($bench:ident, exp, $name:ident, $scalar:ident) => {
        elementwise::map::<plain::Exp, _>($bench, kernels::exp::$name::forward)
    };
    ($bench:ident, tanh, $name:ident, $scalar:ident) => {
        elementwise::map::<plain::Tanh, _>($bench, kernels::tanh::$name::forward)
    };
    ($bench:ident, logistic, $name:ident, $scalar:ident) => {
        elementwise::map::<plain::Logistic, _>($bench, kernels::logistic::$name::forward)
    };
    ($bench:ident, reduce_sum, $name:ident, $scalar:ident) => {
        elementwise::sum($bench, kernels::reduce_sum::$name::forward)
    };
    ($bench:ident, softmax, $name:ident, $scalar:ident) => {{
        use kernels::softmax::$name as kernel;
        elementwise::softmax($bench, kernel::forward, kernel::vjp_store);
    }};
    ($bench:ident, layer_norm, $name:ident, $scalar:ident) => {{
        use kernels::layer_norm::$name as kernel;
        elementwise::layer_norm($bench, kernel::forward, kernel::vjp_store);
    }};
}

/// The tangents: only of matrices, so apart from the rest.
macro_rules! measure_jvp {
    ($bench:ident, matmul, f32_128x784xv, f32) => {};
    ($bench:ident, matmul, $name:ident, f32) => {
        if PRODUCT_JVP.contains(&stringify!($name)) {
            products::jvp($bench, kernels::matmul::$name::jvp);
        }
    };
    ($bench:ident, $op:ident, $name:ident, $scalar:ident) => {};
}

/// Makes a function of all kernels.
macro_rules! measure_all {
    ($({ $path:path, $op:ident, $name:ident, $scalar:ident; $($functions:tt)* })*) => {
        fn measure_all(bench: &mut Bench) {
            $(
                measure!(bench, $op, $name, $scalar);
                measure_jvp!(bench, $op, $name, $scalar);
            )*
        }
    };
}
kernels::for_each_kernel!(measure_all);

/// The command line.
struct Arguments {
    quick: bool,
    filter: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Arguments { quick: false, filter: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => arguments.quick = true,
                "--filter" => arguments.filter = Some(words.next().ok_or("--filter wants a part of a row's name")?),
                _ => return Err(format!("unknown argument {word}; there are --quick and --filter PART")),
            }
        }
        Ok(arguments)
    }

    /// How long a row takes, calibration and the first rounds apart.
    fn budget(&self) -> Duration {
        Duration::from_millis(if self.quick { 250 } else { 2000 })
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
    let before = Roofs::measure();
    report::print_head(&before);
    let mut bench = Bench::new(arguments.filter.clone(), arguments.budget());
    measure_all(&mut bench);
    many::rows(&mut bench);
    let roofs = before.best(Roofs::measure());
    report::print_end(&bench, &roofs);
    bars::print(&bench.rows, &roofs);

    let folder = target_folder();
    for (name, text) in [("roofline.csv", report::csv(&bench.rows)), ("roofline.svg", chart::svg(&bench.rows, &roofs))]
    {
        let path = folder.join(name);
        match std::fs::write(&path, text) {
            Ok(()) => println!("wrote {}", path.display()),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    for wrong in &bench.wrong {
        eprintln!("wrong result, not timed: {wrong}");
    }
    if bench.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The build folder: this program stands in `<folder>/release/deps`.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).unwrap_or(&program).to_path_buf()
}
