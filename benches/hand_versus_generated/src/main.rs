//! Generated kernels against hand-written loops, ndarray and matrixmultiply: takes nothing, prints the time of each at
//! the same shapes and data.
//!
//! ```text
//! cargo bench -p hand_versus_generated
//! ```
//!
//! The contestants of a group compute the same thing: before anything is timed, each result is compared with the
//! hand-written loops. A group is an op and a mode. Throughput is in elements written, or for products and convolutions
//! in multiplications with their additions, so that shapes compare. A loop written by hand is what a careful author
//! writes first: plain, bounds known, innermost loop over contiguous memory.

use cotangent::Tensor;
use cotangent::kernels::{add, conv, matmul, softmax, tanh};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Zip};
use std::hint::black_box;
use std::time::Duration;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Numbers between -1 and 1, the same in every run, different in every tensor.
fn filled<T: Tensor<Scalar = f32>>(seed: u32) -> Box<T> {
    let mut tensor = T::zeros();
    let mut state = seed;
    for x in tensor.flat_mut() {
        // Numerical Recipes' generator; its upper bits are good enough for data.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *x = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    tensor
}

/// Times `run` on its output, once it is shown to give what is expected.
fn contest<T: Tensor<Scalar = f32>>(group: &mut Group, name: &str, shape: &str, expected: &T, run: impl Fn(&mut T)) {
    let mut out = T::zeros();
    run(&mut out);
    for (n, (got, want)) in out.flat().iter().zip(expected.flat()).enumerate() {
        assert!((got - want).abs() <= 1e-3 * (1.0 + want.abs()), "{name} at {shape}: element {n} is {got}, not {want}");
    }
    group.bench_function(BenchmarkId::new(name, shape), |b| b.iter(|| run(black_box(&mut out))));
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .nresamples(5_000);
    group
}

// ---- products ----

/// `z = x y`
fn hand_product<const I: usize, const J: usize, const K: usize>(
    x: &[[f32; J]; I],
    y: &[[f32; K]; J],
    z: &mut [[f32; K]; I],
) {
    for (x, z) in x.iter().zip(z) {
        *z = [0.0; K];
        for (x, y) in x.iter().zip(y) {
            for (z, y) in z.iter_mut().zip(y) {
                *z += x * y;
            }
        }
    }
}

/// `x_bar = z_bar yᵀ`
fn hand_product_x<const I: usize, const J: usize, const K: usize>(
    y: &[[f32; K]; J],
    z_bar: &[[f32; K]; I],
    x_bar: &mut [[f32; J]; I],
) {
    for (x_bar, z_bar) in x_bar.iter_mut().zip(z_bar) {
        for (x_bar, y) in x_bar.iter_mut().zip(y) {
            *x_bar = z_bar.iter().zip(y).map(|(z_bar, y)| z_bar * y).sum();
        }
    }
}

/// `y_bar = xᵀ z_bar`
fn hand_product_y<const I: usize, const J: usize, const K: usize>(
    x: &[[f32; J]; I],
    z_bar: &[[f32; K]; I],
    y_bar: &mut [[f32; K]; J],
) {
    *y_bar = [[0.0; K]; J];
    for (x, z_bar) in x.iter().zip(z_bar) {
        for (x, y_bar) in x.iter().zip(&mut *y_bar) {
            for (y_bar, z_bar) in y_bar.iter_mut().zip(z_bar) {
                *y_bar += x * z_bar;
            }
        }
    }
}

fn view<const I: usize, const J: usize>(x: &[[f32; J]; I]) -> ArrayView2<'_, f32> {
    ArrayView2::from(x)
}

fn view_mut<const I: usize, const J: usize>(x: &mut [[f32; J]; I]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from(x)
}

/// A matrix for `matrixmultiply`: its elements, and the steps from row to row and from column to column.
struct Strided<'a>(&'a [f32], isize, isize);

/// `c = a b`, c of `m` rows and `n` contiguous columns, `k` the shared extent.
#[allow(unsafe_code, reason = "sgemm takes pointers")]
fn sgemm([m, k, n]: [usize; 3], a: Strided, b: Strided, c: &mut [f32]) {
    let reach = |s: &Strided, rows: usize, columns: usize| s.1 as usize * (rows - 1) + s.2 as usize * (columns - 1) + 1;
    assert!(a.0.len() >= reach(&a, m, k) && b.0.len() >= reach(&b, k, n) && c.len() >= m * n);
    // SAFETY: the assertion keeps every element that sgemm reads or writes within its slice; `c` is borrowed alone.
    unsafe {
        let (a_data, b_data) = (a.0.as_ptr(), b.0.as_ptr());
        matrixmultiply::sgemm(m, k, n, 1.0, a_data, a.1, a.2, b_data, b.1, b.2, 0.0, c.as_mut_ptr(), n as isize, 1);
    }
}

/// The four contestants at one shape, for the value and both cotangents. A macro, because a kernel is a module.
macro_rules! product {
    ($c:expr, $kernel:ident, $i:literal $j:literal $k:literal) => {{
        use matmul::$kernel as kernel;
        let shape = concat!($i, "x", $j, "x", $k);
        let [m, j, n] = [$i, $j, $k];
        let (row_j, row_k) = (j as isize, n as isize);
        let (x, y, z_bar) = (filled::<kernel::X>(1), filled::<kernel::Y>(2), filled::<kernel::Z>(3));
        let work = Throughput::Elements((m * j * n) as u64);

        let mut g = group($c, "matmul forward");
        g.throughput(work.clone());
        let mut want = kernel::Z::zeros();
        hand_product(&x, &y, &mut want);
        contest(&mut g, "by hand", shape, &*want, |z| hand_product(black_box(&*x), black_box(&*y), z));
        contest(&mut g, "ndarray", shape, &*want, |z| {
            general_mat_mul(1.0, &view(black_box(&*x)), &view(black_box(&*y)), 0.0, &mut view_mut(z))
        });
        contest(&mut g, "matrixmultiply", shape, &*want, |z| {
            sgemm(
                [m, j, n],
                Strided(black_box(x.flat()), row_j, 1),
                Strided(black_box(y.flat()), row_k, 1),
                z.flat_mut(),
            )
        });
        contest(&mut g, "generated", shape, &*want, |z| kernel::forward(black_box(&x), black_box(&y), z));
        g.finish();

        let mut g = group($c, "matmul vjp_x");
        g.throughput(work.clone());
        let mut want = kernel::X::zeros();
        hand_product_x(&y, &z_bar, &mut want);
        contest(&mut g, "by hand", shape, &*want, |x_bar| hand_product_x(black_box(&*y), black_box(&*z_bar), x_bar));
        contest(&mut g, "ndarray", shape, &*want, |x_bar| {
            general_mat_mul(1.0, &view(black_box(&*z_bar)), &view(black_box(&*y)).t(), 0.0, &mut view_mut(x_bar))
        });
        contest(&mut g, "matrixmultiply", shape, &*want, |x_bar| {
            let (a, b) = (Strided(black_box(z_bar.flat()), row_k, 1), Strided(black_box(y.flat()), 1, row_k));
            sgemm([m, n, j], a, b, x_bar.flat_mut())
        });
        contest(&mut g, "generated", shape, &*want, |x_bar| {
            kernel::vjp_x_store(black_box(&y), black_box(&z_bar), x_bar)
        });
        g.finish();

        let mut g = group($c, "matmul vjp_y");
        g.throughput(work);
        let mut want = kernel::Y::zeros();
        hand_product_y(&x, &z_bar, &mut want);
        contest(&mut g, "by hand", shape, &*want, |y_bar| hand_product_y(black_box(&*x), black_box(&*z_bar), y_bar));
        contest(&mut g, "ndarray", shape, &*want, |y_bar| {
            general_mat_mul(1.0, &view(black_box(&*x)).t(), &view(black_box(&*z_bar)), 0.0, &mut view_mut(y_bar))
        });
        contest(&mut g, "matrixmultiply", shape, &*want, |y_bar| {
            let (a, b) = (Strided(black_box(x.flat()), 1, row_j), Strided(black_box(z_bar.flat()), row_k, 1));
            sgemm([j, m, n], a, b, y_bar.flat_mut())
        });
        contest(&mut g, "generated", shape, &*want, |y_bar| {
            kernel::vjp_y_store(black_box(&x), black_box(&z_bar), y_bar)
        });
        g.finish();
    }};
}

fn products(c: &mut Criterion) {
    product!(c, digits_hidden, 32 64 32);
    product!(c, digits_logits, 32 32 10);
    product!(c, dense_64x64x64, 64 64 64);
}

// ---- element by element ----

fn elementwise(c: &mut Criterion) {
    use add::i1000 as sum;
    let (u, v, y_bar) = (filled::<sum::U>(1), filled::<sum::V>(2), filled::<sum::Y>(3));
    let by_hand = |u: &sum::U, v: &sum::V, y: &mut sum::Y| {
        for ((y, u), v) in y.iter_mut().zip(u).zip(v) {
            *y = u + v;
        }
    };
    let mut want = sum::Y::zeros();
    by_hand(&u, &v, &mut want);
    let mut g = group(c, "add forward");
    g.throughput(Throughput::Elements(1000));
    contest(&mut g, "by hand", "1000", &*want, |y| by_hand(black_box(&u), black_box(&v), y));
    contest(&mut g, "ndarray", "1000", &*want, |y| {
        let (u, v) = (ArrayView1::from(&black_box(&u)[..]), ArrayView1::from(&black_box(&v)[..]));
        Zip::from(ArrayViewMut1::from(&mut y[..])).and(u).and(v).for_each(|y, u, v| *y = u + v);
    });
    contest(&mut g, "generated", "1000", &*want, |y| sum::forward(black_box(&u), black_box(&v), y));
    g.finish();

    use tanh::i1000 as curve;
    let by_hand = |x: &curve::X, y: &mut curve::Y| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x.tanh();
        }
    };
    let mut y = curve::Y::zeros();
    by_hand(&u, &mut y);
    let mut g = group(c, "tanh forward");
    g.throughput(Throughput::Elements(1000));
    contest(&mut g, "by hand", "1000", &*y, |y| by_hand(black_box(&u), y));
    contest(&mut g, "ndarray", "1000", &*y, |y| {
        let x = ArrayView1::from(&black_box(&u)[..]);
        Zip::from(ArrayViewMut1::from(&mut y[..])).and(x).for_each(|y, x| *y = x.tanh());
    });
    contest(&mut g, "generated", "1000", &*y, |y| curve::forward(black_box(&u), y));
    g.finish();

    let by_hand = |y: &curve::Y, y_bar: &curve::Y, x_bar: &mut curve::X| {
        for ((x_bar, y), y_bar) in x_bar.iter_mut().zip(y).zip(y_bar) {
            *x_bar = y_bar * (1.0 - y * y);
        }
    };
    let mut want = curve::X::zeros();
    by_hand(&y, &y_bar, &mut want);
    let mut g = group(c, "tanh vjp");
    g.throughput(Throughput::Elements(1000));
    contest(&mut g, "by hand", "1000", &*want, |x_bar| by_hand(black_box(&y), black_box(&y_bar), x_bar));
    contest(&mut g, "ndarray", "1000", &*want, |x_bar| {
        let (y, y_bar) = (ArrayView1::from(&black_box(&y)[..]), ArrayView1::from(&black_box(&y_bar)[..]));
        let x_bar = ArrayViewMut1::from(&mut x_bar[..]);
        Zip::from(x_bar).and(y).and(y_bar).for_each(|x_bar, y, y_bar| *x_bar = y_bar * (1.0 - y * y));
    });
    contest(&mut g, "generated", "1000", &*want, |x_bar| curve::vjp_store(black_box(&y), black_box(&y_bar), x_bar));
    g.finish();
}

// ---- softmax ----

fn softmaxes(c: &mut Criterion) {
    use softmax::i32_j10 as rows;
    const ELEMENTS: u64 = 320;
    let (x, y_bar) = (filled::<rows::X>(1), filled::<rows::Y>(2));
    let by_hand = |x: &rows::X, y: &mut rows::Y| {
        for (x, y) in x.iter().zip(y) {
            let greatest = x.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            let mut sum = 0.0;
            for (y, x) in y.iter_mut().zip(x) {
                *y = (x - greatest).exp();
                sum += *y;
            }
            y.iter_mut().for_each(|y| *y /= sum);
        }
    };
    let mut y = rows::Y::zeros();
    by_hand(&x, &mut y);
    let mut g = group(c, "softmax forward");
    g.throughput(Throughput::Elements(ELEMENTS));
    contest(&mut g, "by hand", "32x10", &*y, |y| by_hand(black_box(&x), y));
    contest(&mut g, "ndarray", "32x10", &*y, |y| {
        Zip::from(view_mut(y).rows_mut()).and(view(black_box(&*x)).rows()).for_each(|mut y, x| {
            let greatest = x.fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            Zip::from(&mut y).and(x).for_each(|y, x| *y = (x - greatest).exp());
            let sum = y.sum();
            y /= sum;
        });
    });
    contest(&mut g, "generated", "32x10", &*y, |y| rows::forward(black_box(&x), y));
    g.finish();

    let by_hand = |y: &rows::Y, y_bar: &rows::Y, x_bar: &mut rows::X| {
        for ((y, y_bar), x_bar) in y.iter().zip(y_bar).zip(x_bar) {
            let mean: f32 = y.iter().zip(y_bar).map(|(y, y_bar)| y * y_bar).sum();
            for ((x_bar, y), y_bar) in x_bar.iter_mut().zip(y).zip(y_bar) {
                *x_bar = y * (y_bar - mean);
            }
        }
    };
    let mut want = rows::X::zeros();
    by_hand(&y, &y_bar, &mut want);
    let mut g = group(c, "softmax vjp");
    g.throughput(Throughput::Elements(ELEMENTS));
    contest(&mut g, "by hand", "32x10", &*want, |x_bar| by_hand(black_box(&y), black_box(&y_bar), x_bar));
    contest(&mut g, "ndarray", "32x10", &*want, |x_bar| {
        let (y, y_bar) = (view(black_box(&*y)), view(black_box(&*y_bar)));
        Zip::from(view_mut(x_bar).rows_mut()).and(y.axis_iter(Axis(0))).and(y_bar.axis_iter(Axis(0))).for_each(
            |x_bar, y, y_bar| {
                let mean = y.dot(&y_bar);
                Zip::from(x_bar).and(y).and(y_bar).for_each(|x_bar, y, y_bar| *x_bar = y * (y_bar - mean));
            },
        );
    });
    contest(&mut g, "generated", "32x10", &*want, |x_bar| rows::vjp_store(black_box(&y), black_box(&y_bar), x_bar));
    g.finish();
}

// ---- convolution ----

fn convolutions(c: &mut Criterion) {
    // 2 images of 14 by 14, 8 channels to 16, 3 by 3 taps, one pixel of zeros around.
    use conv::same3x3 as same;
    const SIDE: usize = 14;
    const TAPS: usize = 3;
    const INPUTS: usize = 8;
    const OUTPUTS: usize = 16;
    const IMAGES: usize = 2;
    const PATCH: usize = TAPS * TAPS * INPUTS;
    const PIXELS: usize = IMAGES * SIDE * SIDE;
    let (x, k) = (filled::<same::X>(1), filled::<same::K>(2));

    // The input row under tap `t` of output row `o`, if it is not in the padding; for columns alike.
    let under = |o: usize, t: usize| (o + t).checked_sub(1).filter(|s| *s < SIDE);
    let by_hand = |x: &same::X, k: &same::K, y: &mut same::Y| {
        for (x, y) in x.iter().zip(y) {
            for (row, y) in y.iter_mut().enumerate() {
                for (column, y) in y.iter_mut().enumerate() {
                    *y = [0.0; OUTPUTS];
                    for (t, k) in k.iter().enumerate() {
                        let Some(x) = under(row, t).map(|s| &x[s]) else { continue };
                        for (t, k) in k.iter().enumerate() {
                            let Some(x) = under(column, t).map(|s| &x[s]) else { continue };
                            for (x, k) in x.iter().zip(k) {
                                for (y, k) in y.iter_mut().zip(k) {
                                    *y += x * k;
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    // The usual way through a matrix product: every patch as a row (im2col). The copy is part of the work.
    let mut patches = vec![[0.0f32; PATCH]; PIXELS];
    let gather = |x: &same::X, patches: &mut [[f32; PATCH]]| {
        for (p, patch) in patches.iter_mut().enumerate() {
            let (n, row, column) = (p / (SIDE * SIDE), p / SIDE % SIDE, p % SIDE);
            for (tap, patch) in patch.as_chunks_mut::<INPUTS>().0.iter_mut().enumerate() {
                *patch = match (under(row, tap / TAPS), under(column, tap % TAPS)) {
                    (Some(row), Some(column)) => x[n][row][column],
                    _ => [0.0; INPUTS],
                };
            }
        }
    };
    let patches = std::cell::RefCell::new(&mut patches);
    let mut want = same::Y::zeros();
    by_hand(&x, &k, &mut want);
    let mut g = group(c, "conv forward");
    let shape = "2x14x14x8, 3x3 to 16";
    g.throughput(Throughput::Elements((PIXELS * PATCH * OUTPUTS) as u64));
    contest(&mut g, "by hand", shape, &*want, |y| by_hand(black_box(&x), black_box(&k), y));
    contest(&mut g, "ndarray, im2col", shape, &*want, |y| {
        let mut patches = patches.borrow_mut();
        gather(black_box(&x), &mut patches);
        let k = ArrayView2::from_shape((PATCH, OUTPUTS), black_box(k.flat())).expect("as many as K has");
        let mut y = ArrayViewMut2::from_shape((PIXELS, OUTPUTS), y.flat_mut()).expect("as many as Y has");
        general_mat_mul(1.0, &ArrayView2::from(&patches[..]), &k, 0.0, &mut y);
    });
    contest(&mut g, "matrixmultiply, im2col", shape, &*want, |y| {
        let mut patches = patches.borrow_mut();
        gather(black_box(&x), &mut patches);
        let a = Strided(patches.as_flattened(), PATCH as isize, 1);
        let b = Strided(black_box(k.flat()), OUTPUTS as isize, 1);
        sgemm([PIXELS, PATCH, OUTPUTS], a, b, y.flat_mut())
    });
    contest(&mut g, "generated", shape, &*want, |y| same::forward(black_box(&x), black_box(&k), y));
    g.finish();
}

criterion_group!(benches, products, elementwise, softmaxes, convolutions);
criterion_main!(benches);
