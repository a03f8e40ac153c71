//! How much memory the process has asked for: the system's allocator, counted.
//!
//! `memory_limit` and `$SYS/broker/heap` need the figure at every turn; the resident size, which the system tells, costs a
//! system call and does not fall when memory is given back. Counting costs two additions where memory is taken, which the
//! path of a message does not do.
//!
//! What is freed stays with the process otherwise, for as long as anything lives above it: [`Trimmer`] gives it back to the
//! system once a burst is over.
//!
//! The program installs it (`main.rs`); where another allocator is installed, in tests and benches, the figure is 0.
#![allow(
    unsafe_code,
    reason = "an allocator can only be replaced through this unsafe trait, and trimmed through the C library"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker::timers::Time;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// So much must have been freed for the rest to be looked through, in bytes: at less, it costs more than it brings.
const TRIM_BYTES_MIN: usize = 16 * 1024 * 1024;

/// How long the heap is left alone after it was trimmed. What comes and goes faster finds its memory where it left it.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);

/// The system's allocator, counted.
pub struct Counting;

/// Decides when freed memory goes back to the system: when no more than half is left of what was there at most since the
/// last time.
#[derive(Debug)]
pub struct Trimmer {
    most: usize,
    not_before: Time,
}

impl Default for Trimmer {
    fn default() -> Trimmer {
        Trimmer {
            most: 0,
            not_before: Time::ZERO,
        }
    }
}

impl Trimmer {
    /// Whether it is time, with `allocated` bytes at `now`.
    pub fn is_due(&mut self, allocated: usize, now: Time) -> bool {
        self.most = self.most.max(allocated);
        let freed = self.most - allocated;
        if freed < TRIM_BYTES_MIN || freed < self.most / 2 || now < self.not_before {
            return false;
        }
        (self.most, self.not_before) = (allocated, now + TRIM_INTERVAL);
        true
    }
}

/// Gives freed memory back to the system, where the C library is one that keeps it. It takes about a tenth of a millisecond
/// for each MiB.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it may be called at any time and from any thread (malloc_trim(3)); it touches only what is free.
        unsafe { malloc_trim(0) };
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_once_after_a_burst() {
        const MIB: usize = 1024 * 1024;
        let mut trimmer = Trimmer::default();
        // Seconds, MiB allocated, whether it is time.
        let table = [
            (10, 5, false),
            (11, 12, false),
            // Half is gone, but it is little.
            (12, 2, false),
            (13, 100, false),
            // Much is gone, but more is left.
            (14, 60, false),
            (15, 50, true),
            (16, 50, false),
            (20, 49, false),
            (21, 400, false),
            (22, 5, true),
            (23, 300, false),
            // Too soon, and then not any more.
            (23, 5, false),
            (24, 5, true),
            (30, 5, false),
        ];
        for (seconds, allocated, is_due) in table {
            let now = Time::ZERO + Duration::from_secs(seconds);
            assert_eq!(trimmer.is_due(allocated * MIB, now), is_due, "at {seconds}");
        }
    }
}
