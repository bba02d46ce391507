//! What the program keeps allocated, counted where it allocates.
#![allow(
    unsafe_code,
    reason = "an allocator is an unsafe trait; this one hands everything to the product's"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tikv_jemallocator::Jemalloc;

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The product's allocator, with a count of the bytes that were asked for and not yet
/// given back. It counts only where it is told to, so that nothing else pays for it but
/// one load.
pub(crate) struct Counting;

fn count(bytes: usize, sign: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        LIVE.fetch_add(sign * bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the product's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { Jemalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { Jemalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { Jemalloc.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { Jemalloc.dealloc(old, layout) }
    }
}

/// What was made, how many bytes it keeps allocated, and by how many the resident
/// memory of the process grew meanwhile. Nothing else may run.
pub(crate) fn kept<T>(make: impl FnOnce() -> T) -> (T, f64, f64) {
    let resident = resident();
    start();
    let made = make();
    stop();
    (made, live(), self::resident() - resident)
}

/// Counts from now on, from nothing, until [`stop`].
pub(crate) fn start() {
    LIVE.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
}

/// The bytes that were asked for while it counted, and not given back.
pub(crate) fn live() -> f64 {
    LIVE.load(Ordering::Relaxed) as f64
}

pub(crate) fn stop() {
    COUNTING.store(false, Ordering::Relaxed);
}

/// Bytes of this process that are in memory; zero where the system does not say.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
        .and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}
