//! An allocator that counts, so that a target fails when an input makes it hold more than its bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with the bytes held and their highest number. Targets have one thread, so `Relaxed` is exact.
#[derive(Debug)]
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    let held = HELD.load(Relaxed).wrapping_add(bytes);
    HELD.store(held, Relaxed);
    if held > HIGHEST.load(Relaxed) {
        HIGHEST.store(held, Relaxed);
    }
}

fn give(bytes: usize) {
    HELD.store(HELD.load(Relaxed).wrapping_sub(bytes), Relaxed);
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `body`, which must at no time hold more than `bound` bytes on the heap.
pub fn bounded(bound: usize, body: impl FnOnce()) {
    let before = HELD.load(Relaxed);
    HIGHEST.store(before, Relaxed);
    body();
    let taken = HIGHEST.load(Relaxed) - before;
    assert!(
        taken <= bound,
        "held {taken} bytes at once; the bound for this input is {bound}"
    );
}
