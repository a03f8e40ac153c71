//! How much memory the process has asked for: the system's allocator, counted.
//!
//! `memory_limit` and `$SYS/broker/heap` need the figure at every turn; the resident size, which the system tells, costs a
//! system call and does not fall when memory is given back. Counting costs two additions where memory is taken, which the
//! path of a message does not do.
//!
//! The program installs it (`main.rs`); where another allocator is installed, in tests and benches, the figure is 0.
#![allow(
    unsafe_code,
    reason = "an allocator can only be replaced through this unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
pub struct Counting;

/// How many bytes are allocated now.
pub fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

fn add(bytes: usize) {
    ALLOCATED.fetch_add(bytes, Ordering::Relaxed);
}

fn subtract(bytes: usize) {
    ALLOCATED.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with the arguments that it came with, and returns what that returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this same function.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            add(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            add(layout.size());
        }
        pointer
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { System.realloc(pointer, layout, size) };
        if !pointer.is_null() {
            add(size);
            subtract(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
        subtract(layout.size());
    }
}
