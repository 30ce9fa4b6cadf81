//! An allocator that counts what is asked of the system's one, while it is told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static NUMBER: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted. Counting costs time, so no round that is timed is counted.
pub(crate) struct Counted;

/// Allocations since counting began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allocations {
    /// How many, growing an allocation included.
    pub(crate) number: u64,
    /// Bytes asked for; of one that grows, what it grows by.
    pub(crate) bytes: u64,
    /// Bytes given back; of one that shrinks, what it shrinks by.
    pub(crate) freed: u64,
}

impl Allocations {
    /// Counts what `run` allocates, on all threads.
    pub(crate) fn of(run: impl FnOnce()) -> Self {
        let before = Self::so_far();
        COUNTING.store(true, Ordering::Relaxed);
        run();
        COUNTING.store(false, Ordering::Relaxed);
        let after = Self::so_far();
        Self {
            number: after.number - before.number,
            bytes: after.bytes - before.bytes,
            freed: after.freed - before.freed,
        }
    }

    fn so_far() -> Self {
        let [number, bytes, freed] = [&NUMBER, &BYTES, &FREED].map(|sum| sum.load(Ordering::Relaxed));
        Self { number, bytes, freed }
    }
}

impl std::ops::AddAssign for Allocations {
    fn add_assign(&mut self, other: Self) {
        self.number += other.number;
        self.bytes += other.bytes;
        self.freed += other.freed;
    }
}

fn count(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        NUMBER.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn count_freed(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        FREED.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "what the trait asks for; everything is handed on to the system's allocator")]
// SAFETY: each method hands its arguments on to `System` and returns what that returns.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        count_freed(layout.size().saturating_sub(size));
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count_freed(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}
