//! Asking memory for a line before it is read.

/// How much of memory comes at once.
const LINE: usize = 64;

/// Asks memory for every line that this value lies in, and waits for none of them. Where
/// reading one without need would be waited for by the next locked instruction, this is
/// not. A processor that this is not written for reads them when it comes to them.
#[inline]
pub fn prefetch<T>(value: &T) {
    let at = std::ptr::from_ref(value).cast::<u8>();
    let first = at.addr() % LINE;
    for offset in (0..first + size_of::<T>()).step_by(LINE) {
        line(at.wrapping_add(offset).wrapping_sub(first));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "the processor is told by an address")]
fn line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction is part of SSE, which every processor of this architecture
    // has. It reads nothing, and faults for no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
const fn line(_: *const u8) {}
