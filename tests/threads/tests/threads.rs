//! Threads: takes functions that run in parts and pools of one to three threads, finds the same bits under all of them,
//! values near those of the kernel that runs whole, and no allocation once the threads are there.

#[path = "../../support/counting.rs"]
mod counting;

use cotangent::pool::{Rayon, Sequential};
use cotangent::{Parameters, Pool, Tensor};
use cotangent_threads::kernels::{cnn, matmul, mlp};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Barrier, Mutex};

/// Numbers that are the same on every run, between -0.5 and 0.5.
fn fill(values: &mut [f32], seed: u32) {
    let mut state = seed;
    for v in values {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *v = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
    }
}

/// Each row is 1 at one class.
fn classes<const N: usize, const C: usize>() -> [[f32; C]; N] {
    std::array::from_fn(|n| std::array::from_fn(|c| f32::from(u8::from(n % C == c))))
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A pool without rayon: a thread for each piece.
struct Scoped;

impl Pool for Scoped {
    fn each<T: Send>(&self, pieces: &mut [T], run: &(impl Fn(usize, &mut T) + Sync)) {
        std::thread::scope(|scope| {
            pieces.iter_mut().enumerate().for_each(|(n, piece)| _ = scope.spawn(move || run(n, piece)));
        });
    }
}

/// A function in parts.
trait Job: Sync {
    /// What it computes.
    fn results(&self, pool: &impl Pool) -> Vec<f32>;
}

/// The same bits under every pool; gives the results.
fn under_all(job: &impl Job) -> Vec<f32> {
    let alone = job.results(&Sequential);
    assert!(alone.iter().all(|v| v.is_finite()) && alone.iter().any(|v| *v != 0.0));
    let same = |who: &str, other: Vec<f32>| assert_eq!(bits(&alone), bits(&other), "{who}");
    same("a thread for each part", job.results(&Scoped));
    // The global threads, from outside.
    same("rayon", job.results(&Rayon));
    for threads in 1..=3 {
        let pool = pool(threads);
        // Who is first differs from call to call.
        for _ in 0..20 {
            same(&format!("{threads} threads, from outside"), job.results(&pool));
            same(&format!("{threads} threads, from inside"), pool.install(|| job.results(&Rayon)));
        }
    }
    alone
}

/// As near as the order of a sum of some dozens of terms of about one lets values be.
fn near(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (n, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{n}: {a}, whole {b}");
    }
}

/// The inputs of the classifier.
struct Mlp {
    parameters: Box<mlp::wide::Parameters>,
    x: Box<mlp::wide::X>,
    t: mlp::wide::T,
}

impl Mlp {
    fn new() -> Self {
        let mut all = Mlp { parameters: Box::new(Parameters::ZERO), x: mlp::wide::X::zeros(), t: classes() };
        fill(all.x.flat_mut(), 1);
        all.parameters.slices_mut().zip(2..).for_each(|(slice, seed)| fill(slice, seed));
        all
    }
}

impl Job for Mlp {
    fn results(&self, pool: &impl Pool) -> Vec<f32> {
        static WORKSPACE: Mutex<mlp::wide::split::value_and_grad::Workspace> =
            Mutex::new(mlp::wide::split::value_and_grad::Workspace::new());
        let (mut loss, mut gradient) = (f32::NAN, Box::new(mlp::wide::Parameters::ZERO));
        gradient.slices_mut().for_each(|slice| slice.fill(f32::NAN));
        let mut workspace = WORKSPACE.lock().expect("no test panics while it has it");
        self.parameters.split_value_and_grad(&self.x, &self.t, &mut loss, &mut gradient, &mut workspace, pool);
        std::iter::once(loss).chain(gradient.slices().flatten().copied()).collect()
    }
}

#[test]
fn a_network_has_the_same_bits_for_any_number_of_threads() {
    static WORKSPACE: Mutex<mlp::wide::value_and_grad::Workspace> =
        Mutex::new(mlp::wide::value_and_grad::Workspace::new());
    let job = Mlp::new();
    let (mut loss, mut gradient) = (0.0, Box::new(mlp::wide::Parameters::ZERO));
    let mut workspace = WORKSPACE.lock().expect("no other test has it");
    job.parameters.value_and_grad(&job.x, &job.t, &mut loss, &mut gradient, &mut workspace);
    let whole: Vec<f32> = std::iter::once(loss).chain(gradient.slices().flatten().copied()).collect();
    near(&under_all(&job), &whole);
}

struct Cnn {
    parameters: cnn::thirds::Parameters,
    x: cnn::thirds::X,
    t: cnn::thirds::T,
}

impl Job for Cnn {
    fn results(&self, pool: &impl Pool) -> Vec<f32> {
        let mut workspace = Box::new(cnn::thirds::split::value_and_grad::Workspace::new());
        let (mut loss, mut gradient) = (f32::NAN, cnn::thirds::Parameters::ZERO);
        self.parameters.split_value_and_grad(&self.x, &self.t, &mut loss, &mut gradient, &mut workspace, pool);
        std::iter::once(loss).chain(gradient.slices().flatten().copied()).collect()
    }
}

#[test]
fn convolutions_in_thirds_have_the_same_bits_for_any_number_of_threads() {
    let mut job = Cnn { parameters: Parameters::ZERO, x: Tensor::ZERO, t: classes() };
    fill(job.x.flat_mut(), 11);
    job.parameters.slices_mut().zip(12..).for_each(|(slice, seed)| fill(slice, seed));
    let (mut loss, mut gradient) = (0.0, cnn::thirds::Parameters::ZERO);
    let mut workspace = Box::new(cnn::thirds::value_and_grad::Workspace::new());
    job.parameters.value_and_grad(&job.x, &job.t, &mut loss, &mut gradient, &mut workspace);
    let whole: Vec<f32> = std::iter::once(loss).chain(gradient.slices().flatten().copied()).collect();
    near(&under_all(&job), &whole);
}

/// A product, and both of its cotangents: that of the second factor is a sum over the parts.
struct Product {
    x: Box<matmul::rows::X>,
    y: Box<matmul::rows::Y>,
    z_bar: Box<matmul::rows::Z>,
}

impl Job for Product {
    fn results(&self, pool: &impl Pool) -> Vec<f32> {
        use matmul::rows::{Z, split};
        let (mut z, mut x_bar, mut y_bar) = (Z::zeros(), matmul::rows::X::zeros(), matmul::rows::Y::zeros());
        let mut workspace = Box::new(split::vjp_store::Workspace::new());
        split::forward(&self.x, &self.y, &mut z, pool);
        split::vjp_store(&self.x, &self.y, &self.z_bar, &mut x_bar, &mut y_bar, &mut workspace, pool);
        [z.flat(), x_bar.flat(), y_bar.flat()].concat()
    }
}

#[test]
fn a_product_has_the_same_bits_for_any_number_of_threads() {
    use matmul::rows::{X, Y, Z};
    let mut job = Product { x: X::zeros(), y: Y::zeros(), z_bar: Z::zeros() };
    let inputs = [job.x.flat_mut(), job.y.flat_mut(), job.z_bar.flat_mut()];
    inputs.into_iter().zip(21..).for_each(|(slice, seed)| fill(slice, seed));
    let (mut z, mut x_bar, mut y_bar) = (Z::zeros(), X::zeros(), Y::zeros());
    matmul::rows::forward(&job.x, &job.y, &mut z);
    matmul::rows::vjp_store(&job.x, &job.y, &job.z_bar, &mut x_bar, &mut y_bar);
    near(&under_all(&job), &[z.flat(), x_bar.flat(), y_bar.flat()].concat());
}

#[test]
fn threads_that_are_there_allocate_nothing() {
    assert_eq!(counting::counted(|| vec![1, 2, 3]).0, 1);
    let job = Mlp::new();
    let (mut loss, mut gradient) = (0.0, Box::new(mlp::wide::Parameters::ZERO));
    let mut workspace = Box::new(mlp::wide::split::value_and_grad::Workspace::new());
    let threads = 3;
    let pool = pool(threads);
    // What each thread has asked for so far.
    let calls = || pool.broadcast(|_| counting::calls());
    let mut run = |times: usize| {
        pool.install(|| {
            for _ in 0..times {
                let (loss, gradient) = (&mut loss, &mut *gradient);
                job.parameters.split_value_and_grad(&job.x, &job.t, loss, gradient, &mut workspace, &Rayon);
            }
        });
    };
    // What threads make when they first meet.
    let barrier = Barrier::new(threads);
    pool.broadcast(|_| _ = barrier.wait());
    run(50);
    let before = calls();
    run(500);
    let after = calls();
    let made: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    println!("allocations by thread in 500 calls: {made:?}");
    assert!(made.iter().all(|made| *made == 0), "{made:?}");
}
