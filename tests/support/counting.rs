//! An allocator that counts: takes nothing, gives the number of times that a piece of code asked for memory. A test
//! that includes this uses it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting calls that ask for memory, each thread for itself: the test harness has threads of
/// its own.
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
pub fn counted<T>(f: impl FnOnce() -> T) -> (u64, T) {
    let before = CALLS.get();
    let result = f();
    (CALLS.get() - before, result)
}

/// How often this thread has asked for memory.
#[allow(dead_code, reason = "tests of several threads ask")]
pub fn calls() -> u64 {
    CALLS.get()
}
