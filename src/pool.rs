//! Pools: takes pieces of work that do not meet, runs each once, at the same time where there are threads. Functions of
//! an instance with `split` run their parts on one. The trait asks for nothing but `core`: two cores of a controller
//! are a pool as well as [`Rayon`](#with-rayon) is.
//!
//! Holds: which thread runs a piece, and when, changes no result. Nothing is allocated here.
//!
//! # With rayon
//!
//! The feature `rayon` makes `Rayon` a pool, the threads of rayon that the calling thread belongs to, else the global
//! ones, and so `rayon::ThreadPool`. A loop that runs inside (`pool.install(|| ..)`) wakes no other thread to begin,
//! works itself, and allocates nothing; from outside rayon keeps a queue, which grows a block now and then.

use crate::isa;
use crate::real::Real;
use crate::tensor::Tensor;

/// What runs pieces of work.
pub trait Pool {
    /// Calls `run` once with each piece and its number, in any order; returns when all calls have.
    fn each<T: Send>(&self, pieces: &mut [T], run: &(impl Fn(usize, &mut T) + Sync));
}

/// The thread that calls, one piece after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Pool for Sequential {
    #[inline]
    fn each<T: Send>(&self, pieces: &mut [T], run: &(impl Fn(usize, &mut T) + Sync)) {
        pieces.iter_mut().enumerate().for_each(|(n, piece)| run(n, piece));
    }
}

/// The threads of rayon that the calling thread belongs to, else the global ones.
#[cfg(feature = "rayon")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Rayon;

#[cfg(feature = "rayon")]
impl Pool for Rayon {
    #[inline]
    fn each<T: Send>(&self, pieces: &mut [T], run: &(impl Fn(usize, &mut T) + Sync)) {
        halves(pieces, 0, run);
    }
}

/// A pool of its own. Each call goes into it, and is one more wait where the caller is outside.
#[cfg(feature = "rayon")]
impl Pool for ::rayon::ThreadPool {
    fn each<T: Send>(&self, pieces: &mut [T], run: &(impl Fn(usize, &mut T) + Sync)) {
        self.install(|| halves(pieces, 0, run));
    }
}

/// Runs pieces, of which the first has the number `first`: one half here, the other where a thread is free.
#[cfg(feature = "rayon")]
fn halves<T: Send>(pieces: &mut [T], first: usize, run: &(impl Fn(usize, &mut T) + Sync)) {
    match pieces {
        [] => {}
        [one] => run(first, one),
        more => {
            let half = more.len() / 2;
            let (left, right) = more.split_at_mut(half);
            ::rayon::join(|| halves(left, first, run), || halves(right, first + half, run));
        }
    }
}

/// The parts of a tensor along its outermost dimension.
#[doc(hidden)]
#[inline(always)]
pub fn parts<P: Tensor>(whole: &impl Tensor<Scalar = P::Scalar>) -> &[P] {
    P::nested_slice(whole.flat())
}

/// The parts of a tensor along its outermost dimension, to be changed in place.
#[doc(hidden)]
#[inline(always)]
pub fn parts_mut<P: Tensor>(whole: &mut impl Tensor<Scalar = P::Scalar>) -> &mut [P] {
    P::nested_slice_mut(whole.flat_mut())
}

/// As many scalars are one piece of a sum: 16 KiB of `f32`, which stay in the first-level cache while all parts are
/// added.
const CHUNK: usize = 4096;
/// Fewer chunks are added where the call is: to wake a thread takes about as long.
const FEW: usize = 4;

/// Adds to what the first part has written what the others have, in their order, and multiplies by `weight`.
#[doc(hidden)]
pub fn add<S: Real + Send + Sync, O: Sync>(
    sum: &mut impl Tensor<Scalar = S>,
    others: &[O],
    of: fn(&O) -> &[S],
    weight: S,
    pool: &impl Pool,
) {
    if others.is_empty() && weight == S::ONE {
        return;
    }
    let (chunks, rest) = sum.flat_mut().as_chunks_mut::<CHUNK>();
    let whole = chunks.len();
    let run = |n: usize, sum: &mut [S]| isa::dispatch(Add { sum, first: n * CHUNK, others, of, weight });
    if whole < FEW {
        chunks.iter_mut().enumerate().for_each(|(n, chunk)| run(n, chunk));
    } else {
        pool.each(chunks, &|n, chunk| run(n, chunk));
    }
    run(whole, rest);
}

/// A piece of a sum.
struct Add<'a, S, O> {
    sum: &'a mut [S],
    /// The number of its first scalar.
    first: usize,
    others: &'a [O],
    of: fn(&O) -> &[S],
    weight: S,
}

impl<S: Real, O> isa::Body for Add<'_, S, O> {
    #[inline(always)]
    fn run<I: isa::Isa>(self, _: I) {
        let Add { sum, first, others, of, weight } = self;
        for other in others {
            let terms = of(other).get(first..).unwrap_or_default();
            sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += *term);
        }
        if weight != S::ONE {
            sum.iter_mut().for_each(|sum| *sum *= weight);
        }
    }
}
