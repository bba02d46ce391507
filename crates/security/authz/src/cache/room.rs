//! Memory for the slots, in pages as large as the system gives.

use std::mem::MaybeUninit;

/// So many values, in huge pages where the system has them: slots are read at random,
/// and with small pages most reads would wait for the page's address first.
pub(crate) fn room<T>(count: usize, mut make: impl FnMut() -> T) -> Box<[T]> {
    let mut values = Vec::with_capacity(count);
    // Before anything is written: a page has its size from its first touch on.
    prefer_huge_pages(values.spare_capacity_mut());
    values.extend((0..count).map(|_| make()));
    values.into_boxed_slice()
}

/// Less than this is not worth a page of its own.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// The least that advice can be about.
#[cfg(target_os = "linux")]
const PAGE: usize = 4 << 10;

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the system is told by an address")]
fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    use std::ptr::NonNull;

    use nix::sys::mman::{MmapAdvise, madvise};

    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let before = start.addr() % PAGE;
    let Some(page) = NonNull::new(start.wrapping_sub(before).cast()) else {
        return;
    };
    if bytes < HUGE {
        return;
    }
    // SAFETY: this advice changes no byte and no permission, of these pages or of what
    // else lies in their first one. Where the system does not follow it, all is as before.
    let _ = unsafe { madvise(page, before + bytes, MmapAdvise::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages<T>(_: &mut [MaybeUninit<T>]) {}
