//! Threads: takes networks and products whose instances are split, gives the time of a call whole, in parts on the
//! calling thread, and in parts on pools of one thread and more. All take turns in the same rounds. Threads stay awake
//! within a sample, as in a loop of training.
//!
//! ```text
//! cargo bench -p cotangent-threads-bench                    # 3 s a row
//! cargo bench -p cotangent-threads-bench -- 10 mlp          # 10 s, the rows with this word
//! ```

mod kernels {
    cotangent::include_kernels!();
}

use cotangent::pool::{Rayon, Sequential};
use cotangent::{Parameters, Tensor};
use cotangent_measure::fill;
use cotangent_measure::{Contestant, Plan, rounds};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Calls of a sample.
const CALLS: u64 = 20;

/// Times of one function: whole, in parts on the calling thread, in parts on each pool.
fn row<O: Send>(
    name: &str,
    seconds: u64,
    pools: &[ThreadPool],
    out: &mut O,
    whole: impl Fn(&mut O),
    alone: impl Fn(&mut O),
    threads: impl Fn(&mut O) + Sync,
) {
    let mut contestants = vec![Contestant::new("whole", whole), Contestant::new("alone", alone)];
    for pool in pools {
        let threads = &threads;
        // One way into the pool for a sample: the thread that runs the loop is one of it.
        contestants.push(Contestant::timed("pool", move |out: &mut O, calls| {
            pool.install(|| {
                let start = Instant::now();
                (0..calls).for_each(|_| threads(black_box(&mut *out)));
                start.elapsed()
            })
        }));
    }
    let plan = Plan { budget: Duration::from_secs(seconds), hopeless: None, calls: CALLS };
    let (_, times) = rounds(out, &[], &[contestants], plan);
    let times: Vec<_> = times.into_iter().flatten().collect();
    let micro = |n: usize| times[n].min / 1e3;
    print!("{name:<36} whole {:9.1} µs   in parts, alone {:9.1} µs", micro(0), micro(1));
    for (n, pool) in pools.iter().enumerate() {
        let (time, median) = (micro(n + 2), times[n + 2].median);
        let (over_whole, over_one) = (micro(0) / time, micro(2) / time);
        let medians = times[0].median / median;
        let threads = pool.current_num_threads();
        print!(
            "   {threads}: {time:9.1} µs = {over_whole:.2} of whole ({medians:.2} medians), {over_one:.2} of one thread"
        );
    }
    println!();
}

macro_rules! network {
    ($seconds:expr, $pools:expr, $word:expr, $op:ident::$kernel:ident) => {{
        use kernels::$op::$kernel as kernel;
        let name = concat!(stringify!($op), "::", stringify!($kernel), " value_and_grad");
        if name.contains($word) {
            static WHOLE: Mutex<kernel::value_and_grad::Workspace> =
                Mutex::new(kernel::value_and_grad::Workspace::new());
            static PARTS: Mutex<kernel::split::value_and_grad::Workspace> =
                Mutex::new(kernel::split::value_and_grad::Workspace::new());
            let (mut x, mut t) = (kernel::X::zeros(), kernel::T::zeros());
            fill(x.flat_mut(), 1, -1.0, 1.0);
            for (n, t) in t.iter_mut().enumerate() {
                t[n % 10] = 1.0;
            }
            let mut parameters = Box::new(kernel::Parameters::ZERO);
            parameters.slices_mut().zip(2..).for_each(|(slice, seed)| fill(slice, seed, -0.1, 0.1));
            let mut out = (0.0, Box::new(kernel::Parameters::ZERO));
            let (p, x, t) = (&parameters, &*x, &*t);
            row(
                name,
                $seconds,
                $pools,
                &mut out,
                |(loss, gradient)| p.value_and_grad(x, t, loss, gradient, &mut WHOLE.lock().expect("one caller")),
                |(loss, gradient)| {
                    let workspace = &mut PARTS.lock().expect("one caller");
                    p.split_value_and_grad(x, t, loss, gradient, workspace, &Sequential);
                },
                |(loss, gradient)| {
                    let workspace = &mut PARTS.lock().expect("one caller");
                    p.split_value_and_grad(x, t, loss, gradient, workspace, &Rayon);
                },
            );
        }
    }};
}

fn main() {
    // Cargo says `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let seconds = words.iter().find_map(|w| w.parse().ok()).unwrap_or(3);
    let word = words.iter().find(|w| w.parse::<u64>().is_err()).map_or("", String::as_str);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    let mut sizes = vec![1, 2, cores / 2, cores];
    sizes.retain(|n| (1..=cores).contains(n));
    sizes.sort_unstable();
    sizes.dedup();
    let pools: Vec<ThreadPool> = sizes.into_iter().map(pool).collect();
    network!(seconds, &pools, word, mlp::mnist);
    network!(seconds, &pools, word, mlp::mnist_128);
    network!(seconds, &pools, word, mlp::mnist_256);
    network!(seconds, &pools, word, mlp::mnist_256_8);
    network!(seconds, &pools, word, cnn::mnist);
    network!(seconds, &pools, word, cnn::mnist_8);
    product(seconds, &pools, word);
}

/// A product of square matrices, and its cotangents.
fn product(seconds: u64, pools: &[ThreadPool], word: &str) {
    use kernels::matmul::square::{X, Y, Z, forward, split, vjp_store};
    if !"matmul::square".contains(word) {
        return;
    }
    let (mut x, mut y, mut z_bar) = (X::zeros(), Y::zeros(), Z::zeros());
    [x.flat_mut(), y.flat_mut(), z_bar.flat_mut()].into_iter().zip(1..).for_each(|(v, seed)| fill(v, seed, -1.0, 1.0));
    let (x, y, z_bar) = (&*x, &*y, &*z_bar);
    row(
        "matmul::square forward",
        seconds,
        pools,
        &mut *Z::zeros(),
        |z| forward(x, y, z),
        |z| split::forward(x, y, z, &Sequential),
        |z| split::forward(x, y, z, &Rayon),
    );
    static PARTS: Mutex<split::vjp_store::Workspace> = Mutex::new(split::vjp_store::Workspace::new());
    row(
        "matmul::square vjp_store",
        seconds,
        pools,
        &mut (X::zeros(), Y::zeros()),
        |(x_bar, y_bar)| vjp_store(x, y, z_bar, x_bar, y_bar),
        |(x_bar, y_bar)| {
            split::vjp_store(x, y, z_bar, x_bar, y_bar, &mut PARTS.lock().expect("one caller"), &Sequential);
        },
        |(x_bar, y_bar)| split::vjp_store(x, y, z_bar, x_bar, y_bar, &mut PARTS.lock().expect("one caller"), &Rayon),
    );
}
