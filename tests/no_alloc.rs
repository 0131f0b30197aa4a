//! Training allocates nothing: takes the example's network, trains it for two epochs under an allocator that counts, and finds zero allocations.

#[path = "../examples/train_digits/data.rs"]
mod data;
#[path = "../examples/train_digits/model.rs"]
#[expect(dead_code, reason = "the accuracy on other images is the example's")]
mod model;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting calls that ask for memory, each thread for itself: the test harness has threads of its own.
struct Counting;

thread_local! {
    // Initialised by a constant and without a destructor: access to it allocates nothing.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: every call goes to `System` with the arguments it came with, so what holds for `System` holds here.
#[allow(unsafe_code, reason = "an allocator cannot be written without; it only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`; `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` asked for memory, and what it gave.
fn counted<T>(f: impl FnOnce() -> T) -> (u64, T) {
    let before = CALLS.get();
    let result = f();
    (CALLS.get() - before, result)
}

#[test]
fn the_allocator_counts() {
    let (calls, numbers) = counted(|| vec![1, 2, 3]);
    assert_eq!((calls, numbers.len()), (1, 3));
}

#[test]
fn two_epochs_allocate_nothing_and_learn() {
    let (train, _) = data::load(1).expect("the images unpack");
    let mut trainer = model::Trainer::new(1);
    let mut seen = 0;
    let (calls, [first, second]) = counted(|| [0, 1].map(|_| trainer.epoch(&train, 0.005, |images| seen += images)));
    println!(
        "{calls} allocations in 2 epochs of {} images; loss {:.4}, then {:.4}",
        train.len(),
        first.loss,
        second.loss
    );
    assert_eq!(calls, 0);
    assert_eq!(seen, 2 * train.len());
    assert!(first.loss.is_finite() && second.loss < first.loss);
    assert!(second.accuracy > first.accuracy);
}
