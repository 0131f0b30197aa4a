//! The stack: takes ops with panels, with locals that stand whole, and with neither, and a program with stages, gives
//! what their functions say that they need, and runs each in a thread of little more. What holds after it: a function
//! needs no more than it publishes, and 24 KiB for registers and the thread itself.

use crate::generated::{folder, render, run, rustc};
use cotangent_build::{Build, InstructionSet};
use std::path::Path;
use std::process::Command;

const OPS: [(&str, &str); 6] = [
    (
        "matmul",
        "use: matmul\ninstances:\n  - {name: large, I: 192, J: 384, K: 256}\n  - {name: small, I: 3, J: 5, K: 7, dtype: f64}\n",
    ),
    ("norm", "use: layer_norm\ninstances:\n  - {name: whole, N: 48, I: 256, eps: 1e-5}\n"),
    ("softmax", "use: softmax\ninstances:\n  - {name: rows, I: 64, J: 500, dtype: f64}\n"),
    (
        "conv",
        "use: conv\ninstances:\n  - {name: padded, N: 2, S: [14, 14], T: [3, 3], Cx: 16, Cy: 16, stride: 1, lo: 1, hi: 1, dilation: 1}\n",
    ),
    // Sums that are tried in scratch.
    (
        "sums",
        "op: sums\ninputs: {x: [N, I]}\noutputs: {y: [N, I]}\nforward:\n  - y[n,i] = exp(x[n,i])\n  - y[n,i] += sin(x[n,i])\n\
      instances:\n  - {name: a, N: 3, I: 700}\n",
    ),
    // Stages, with a workspace that the caller has.
    ("mlp", "use: mlp\ninstances:\n  - {name: staged, B: 32, D: 64, H: 32, C: 10}\n"),
];

/// Runs each function in a thread whose stack is what it publishes, and `beside`; prints what was published.
const MAIN: &str = r#"
mod kernels;
use kernels::cotangent::Tensor;

trait Number: Copy { fn of(x: f64) -> Self; }
impl Number for f32 { fn of(x: f64) -> f32 { x as f32 } }
impl Number for f64 { fn of(x: f64) -> f64 { x } }

fn filled<T: Tensor>() -> Box<T> where T::Scalar: Number {
    let mut x = Box::new(T::ZERO);
    x.flat_mut().iter_mut().enumerate().for_each(|(i, x)| *x = T::Scalar::of((i as f64 * 0.618).fract()));
    x
}

macro_rules! run {
    ($({ $path:path, $op:ident, $kernel:ident, $scalar:ident;
         $(fn $f:ident($($r:ident: $R:ident,)* => $($w:ident: $W:ident,)* $(; $workspace:ident)?);)* })*) => {
        $({
            use $path as k;
            $({
                let info = k::KERNEL.functions.iter().find(|f| f.name == stringify!($f)).unwrap();
                $(let $r: Box<k::$R> = filled();)*
                $(let mut $w: Box<k::$W> = filled();)*
                $(let mut $workspace = Box::new(k::$workspace::Workspace::new());)?
                println!("{} {} {}", stringify!($op), stringify!($f), info.scratch.most());
                let fixed: usize = std::env::var("FIXED").map_or(info.scratch.most() + 24 * 1024, |n| n.parse().unwrap());
                std::thread::scope(|scope| {
                    let thread = std::thread::Builder::new().stack_size(fixed);
                    thread.spawn_scoped(scope, || k::$f($(&$r,)* $(&mut $w,)* $(&mut $workspace,)?)).unwrap();
                });
            })*
        })*
    };
}

fn main() {
    kernels::for_each_kernel!(run);
}
"#;

/// What the functions publish, each run in its thread.
fn published(folder: &Path, name: &str, build: Build, sets: &[&str], fixed: Option<&str>) -> Vec<(String, u64)> {
    render(folder, name, build);
    std::fs::write(folder.join(format!("{name}_main.rs")), MAIN.replace("kernels", name)).expect("the file is written");
    let root = format!("{name}_main.rs");
    run(rustc().args(["--edition", "2024", &root, "-Copt-level=3", "-o", "main"]).current_dir(folder));
    let mut all = Vec::new();
    for set in sets {
        let mut command = Command::new(folder.join("main"));
        fixed.iter().for_each(|n| _ = command.env("FIXED", n));
        for line in run(command.env("COTANGENT_ISA", set)).0.lines() {
            let (function, bytes) = line.rsplit_once(' ').expect("a name and a number");
            all.push((function.to_string(), bytes.parse().expect("bytes")));
        }
    }
    all
}

#[test]
fn functions_need_no_more_stack_than_they_publish() {
    let folder = folder("stack_published", &OPS);
    let all =
        published(&folder, "kernels", Build::new().std(true).inline_limit(0), &["portable", "avx2", "avx512"], None);
    // Panels and whole locals beyond what is given besides.
    let large = |name: &str| all.iter().any(|(f, bytes)| f.starts_with(name) && *bytes > 32 * 1024);
    assert!(large("matmul") && large("layer_norm"), "{all:?}");
    let of = |f: &str| all.iter().find(|(name, _)| name == f).expect("a function").1;
    // A function that only calls others needs what the largest of them does.
    assert_eq!(of("matmul vjp"), of("matmul vjp_x").max(of("matmul vjp_y")));
}

#[test]
fn without_std_products_run_in_a_thread_of_64_kilobytes() {
    let folder = folder("stack_small", &[OPS[0], OPS[3]]);
    for (name, build) in
        [("portable", Build::new().instruction_sets([InstructionSet::Portable])), ("without_std", Build::new())]
    {
        let all = published(&folder, name, build, &["portable"], Some("65536"));
        assert!(all.iter().all(|(_, bytes)| *bytes <= 16 * 1024), "{all:?}");
    }
}

/// The compiler of the output reads all of a cache line whose beginning it needs, so the rest of it must be the local's
/// own, zeros: what the stack held before would raise flags, or take time as denormals do.
#[test]
fn locals_are_whole_cache_lines() {
    let specs: Vec<(&str, &str)> = OPS
        .into_iter()
        .chain([("lstm", "use: lstm\ninstances:\n  - {name: odd, T: 5, D: 3, H: 14, dtype: f64}\n")])
        .collect();
    let folder = folder("lines", &specs);
    let text = render(&folder, "lines", Build::new());
    let kernels = &text[..text.find("pub mod cotangent").unwrap_or(text.len())];
    let mut odd = 0;
    for line in kernels.lines().filter(|line| line.contains("Aligned(")) {
        let bytes = if line.contains("_f64") { 8 } else { 4 };
        let array = line.split("Aligned(").nth(1).expect("it has one");
        let extents = array.split("; ").skip(1).filter_map(|n| n.split(']').next()?.parse::<usize>().ok());
        assert_eq!(extents.product::<usize>() * bytes % 64, 0, "{line}");
        odd += usize::from(line.contains("let mut "));
    }
    assert!(odd > 0, "no local ends within a line");
    assert!(kernels.contains(".like(&[0.0_f64; 14]);"), "a tensor is a part of whole lines");
}
