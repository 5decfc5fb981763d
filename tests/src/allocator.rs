//! An allocator that counts what is held. A program that measures memory takes it for its own.
#![allow(unsafe_code, reason = "an allocator is unsafe; every call goes on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Counts bytes that were served, of all threads.
pub struct Counting;

/// Begins to count anew; gives what is held now.
pub fn begin() -> usize {
    let held = HELD.load(Relaxed);
    MOST.store(held, Relaxed);
    held
}

/// What is held now.
pub fn held() -> usize {
    HELD.load(Relaxed)
}

/// Most bytes that were held at once since [`begin`].
pub fn most() -> usize {
    MOST.load(Relaxed)
}

fn add(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    // A read costs less than a change, and there is seldom a new most.
    if held > MOST.load(Relaxed) {
        MOST.fetch_max(held, Relaxed);
    }
}

// SAFETY: every method calls the system's with what it was given, and gives what that gave.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system's.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            add(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system's.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            add(layout.size());
        }
        pointer
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are the system's.
        let pointer = unsafe { System.realloc(old, layout, size) };
        if !pointer.is_null() {
            add(size);
            HELD.fetch_sub(layout.size(), Relaxed);
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(pointer, layout) };
        HELD.fetch_sub(layout.size(), Relaxed);
    }
}
