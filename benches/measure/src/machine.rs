//! The core's limits: takes nothing but time, gives what a row is held against: fused multiply-adds, clock, and streams
//! from and to memory.
//!
//! All unsafe code of the measurement is here: the calls into functions compiled for instructions that the build does
//! not assume. Each stands under a check that the machine has them.

use std::hint::black_box;

/// A loop over arrays, of `f32`: how many are read and how many written at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// `x[i]`
    Load,
    /// `y[i] =`
    Store,
    /// `y[i] = x[i]`
    Copy,
    /// `y[i] = u[i] + v[i]`
    Add,
}

impl Streams {
    /// Every kind.
    pub const ALL: [Streams; 4] = [Streams::Load, Streams::Store, Streams::Copy, Streams::Add];

    /// Arrays read, arrays written.
    pub fn counts(self) -> (usize, usize) {
        match self {
            Streams::Load => (1, 0),
            Streams::Store => (0, 1),
            Streams::Copy => (1, 1),
            Streams::Add => (2, 1),
        }
    }

    /// What the output calls it.
    pub fn name(self) -> &'static str {
        match self {
            Streams::Load => "load",
            Streams::Store => "store",
            Streams::Copy => "copy",
            Streams::Add => "add",
        }
    }
}

/// A vector width that the machine may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// What every machine of the target has, left to the compiler.
    Baseline,
    /// AVX2 and FMA, 32 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512, 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Width {
    /// Bytes of a vector's register, and such registers.
    pub fn registers(self) -> (usize, usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => (64, 32),
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => (32, 16),
            Width::Baseline => (16, if cfg!(target_arch = "aarch64") { 32 } else { 16 }),
        }
    }
}

/// The widths of this machine, without the baseline where there is better.
pub fn widths() -> Vec<Width> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut widths = Vec::new();
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            widths.push(Width::Avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            widths.push(Width::Avx512);
        }
        if !widths.is_empty() {
            return widths;
        }
    }
    vec![Width::Baseline]
}

/// Floating-point operations of one call of [`multiply_add`].
pub fn multiply_add_flops(width: Width, double: bool) -> f64 {
    let lanes = match width {
        Width::Baseline => return (2 * CHAINS * 16 * STEPS) as f64,
        #[cfg(target_arch = "x86_64")]
        Width::Avx2 => 32,
        #[cfg(target_arch = "x86_64")]
        Width::Avx512 => 64,
    } / if double { 8 } else { 4 };
    (2 * CHAINS * lanes * STEPS) as f64
}

/// Independent chains: latency times throughput is 8 to 10 on the cores of the last ten years.
const CHAINS: usize = 12;
/// Operations of each chain.
const STEPS: usize = 256;

/// Independent chains of fused multiply-adds, as fast as the core does them.
#[allow(unsafe_code, reason = "calls into functions with instructions of their own")]
pub fn multiply_add(width: Width, double: bool) {
    match (width, double) {
        (Width::Baseline, false) => chains_baseline::<f32>(0.5),
        (Width::Baseline, true) => chains_baseline::<f64>(0.5),
        // SAFETY: `widths` lists a width only where the machine has it.
        #[cfg(target_arch = "x86_64")]
        (Width::Avx2, false) => unsafe { x86::chains_ps256() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Width::Avx2, true) => unsafe { x86::chains_pd256() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Width::Avx512, false) => unsafe { x86::chains_ps512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Width::Avx512, true) => unsafe { x86::chains_pd512() },
    }
}

/// Chains left to the compiler's vectoriser: lanes of 16, a product and a sum each.
fn chains_baseline<T: Copy + std::ops::Mul<Output = T> + std::ops::Add<Output = T>>(half: T) {
    let half = black_box(half);
    let mut sums = [[half; 16]; CHAINS];
    for _ in 0..STEPS {
        for lanes in &mut sums {
            for x in lanes {
                *x = *x * half + half;
            }
        }
    }
    black_box(sums);
}

/// Additions of one call of [`count_cycles`].
pub const CYCLES: f64 = 16.0 * 256.0;

/// A chain of integer additions, each waiting for the one before: one cycle each. False where this is not written for
/// the target.
#[allow(unsafe_code, reason = "the compiler would sum up any chain that it understands")]
pub fn count_cycles() -> bool {
    /// Sixteen of one instruction.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    macro_rules! sixteen {
        ($i:literal) => {
            concat!(
                $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i,
                "\n", $i, "\n", $i, "\n", $i, "\n", $i, "\n", $i
            )
        };
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let step: u64 = black_box(3);
        let mut x: u64 = 1;
        for _ in 0..256 {
            // The added value comes from a register: additions of constants are free on some cores.
            #[cfg(target_arch = "x86_64")]
            // SAFETY: arithmetic on two registers that are named.
            unsafe {
                std::arch::asm!(sixteen!("add {x}, {step}"), x = inout(reg) x, step = in(reg) step, options(nomem, nostack));
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: arithmetic on two registers that are named.
            unsafe {
                std::arch::asm!(sixteen!("add {x}, {x}, {step}"), x = inout(reg) x, step = in(reg) step, options(nomem, nostack));
            }
        }
        black_box(x);
        true
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Streams over arrays of one length, a multiple of 64 elements: what is read is `u`, or `u` and `v`; what is written
/// is `y`.
#[allow(unsafe_code, reason = "calls into functions with instructions of their own")]
pub fn stream(width: Width, streams: Streams, u: &[f32], v: &[f32], y: &mut [f32]) {
    match width {
        Width::Baseline => stream_baseline(streams, u, v, y),
        // SAFETY: `widths` lists a width only where the machine has it.
        #[cfg(target_arch = "x86_64")]
        Width::Avx2 => unsafe { x86::stream256(streams, u, v, y) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Width::Avx512 => unsafe { x86::stream512(streams, u, v, y) },
    }
}

fn stream_baseline(streams: Streams, u: &[f32], v: &[f32], y: &mut [f32]) {
    match streams {
        Streams::Load => {
            let mut sums = [0.0; 64];
            for u in u.as_chunks::<64>().0 {
                for (s, u) in sums.iter_mut().zip(u) {
                    *s += u;
                }
            }
            black_box(sums);
        }
        Streams::Store => y.fill(black_box(1.0)),
        Streams::Copy => y.copy_from_slice(u),
        Streams::Add => {
            for ((y, u), v) in y.iter_mut().zip(u).zip(v) {
                *y = u + v;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same with vector instructions by hand.

    use super::{CHAINS, STEPS, Streams};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Chains of one vector type.
    macro_rules! chains {
        ($name:ident $feature:literal $scalar:ident $set:ident $multiply_add:ident) => {
            #[target_feature(enable = $feature)]
            pub fn $name() {
                let half = $set(black_box(0.5 as $scalar));
                let mut sums = [half; CHAINS];
                for _ in 0..STEPS {
                    for x in &mut sums {
                        *x = $multiply_add(*x, half, half);
                    }
                }
                black_box(sums);
            }
        };
    }
    chains!(chains_ps256 "avx2,fma" f32 _mm256_set1_ps _mm256_fmadd_ps);
    chains!(chains_pd256 "avx2,fma" f64 _mm256_set1_pd _mm256_fmadd_pd);
    chains!(chains_ps512 "avx512f" f32 _mm512_set1_ps _mm512_fmadd_ps);
    chains!(chains_pd512 "avx512f" f64 _mm512_set1_pd _mm512_fmadd_pd);

    /// Streams with one vector type, four vectors a turn, eight where nothing is written.
    macro_rules! stream {
        ($name:ident $feature:literal $lanes:literal $set:ident $load:ident $store:ident $add:ident) => {
            #[target_feature(enable = $feature)]
            pub fn $name(streams: Streams, u: &[f32], v: &[f32], y: &mut [f32]) {
                const LANES: usize = $lanes;
                // SAFETY (both): a chunk has as many elements as the vector.
                #[allow(unsafe_code, reason = "loads take pointers")]
                let load = |from: &[f32; LANES]| unsafe { $load(from.as_ptr()) };
                #[allow(unsafe_code, reason = "stores take pointers")]
                let store = |to: &mut [f32; LANES], x| unsafe { $store(to.as_mut_ptr(), x) };
                let (us, vs, ys) = (u.as_chunks().0, v.as_chunks().0, y.as_chunks_mut().0);
                match streams {
                    Streams::Load => {
                        let mut sums = [$set(0.0); 8];
                        for us in us.as_chunks::<8>().0 {
                            for (s, u) in sums.iter_mut().zip(us) {
                                *s = $add(*s, load(u));
                            }
                        }
                        black_box(sums);
                    }
                    Streams::Store => {
                        let one = $set(black_box(1.0));
                        for ys in ys.as_chunks_mut::<4>().0 {
                            for y in ys {
                                store(y, one);
                            }
                        }
                    }
                    Streams::Copy => {
                        for (us, ys) in us.as_chunks::<4>().0.iter().zip(ys.as_chunks_mut::<4>().0) {
                            for (u, y) in us.iter().zip(ys) {
                                store(y, load(u));
                            }
                        }
                    }
                    Streams::Add => {
                        let inputs = us.as_chunks::<4>().0.iter().zip(vs.as_chunks::<4>().0);
                        for ((us, vs), ys) in inputs.zip(ys.as_chunks_mut::<4>().0) {
                            for ((u, v), y) in us.iter().zip(vs).zip(ys) {
                                store(y, $add(load(u), load(v)));
                            }
                        }
                    }
                }
            }
        };
    }
    stream!(stream256 "avx2,fma" 8 _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps);
    stream!(stream512 "avx512f" 16 _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps);
}
