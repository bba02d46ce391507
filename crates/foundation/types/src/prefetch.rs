//! Asking memory for a line before it is read.

use std::ptr::{from_ref, without_provenance};

/// How much of memory comes at once.
const LINE: usize = 64;

/// A line of memory by its address. Whatever lay there may be gone by now: nothing is
/// read, and asking for it is then in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line(usize);

impl Line {
    /// None: whoever asks for it asks for nothing.
    pub const NONE: Self = Self(0);

    /// That in which a value begins.
    pub fn of<T>(value: &T) -> Self {
        Self(from_ref(value).addr())
    }

    /// That which is so many lines further.
    #[must_use]
    pub const fn further(self, lines: usize) -> Self {
        Self(self.0.wrapping_add(lines.wrapping_mul(LINE)))
    }

    /// Asks memory for it, and does not wait. Where reading it without need would be waited
    /// for by the next locked instruction, this is not. A processor that this is not written
    /// for reads it when it comes to it.
    #[inline]
    pub fn ask(self) {
        ask(self.0);
    }

    /// The same for a line that will be written: where another processor wrote it last, it
    /// comes over once, and not a second time to be written.
    #[inline]
    pub fn ask_to_write(self) {
        ask_to_write(self.0);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "the processor is told by an address")]
fn ask(line: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction is part of SSE, which every processor of this architecture
    // has. It reads nothing, and faults for no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(without_provenance(line)) };
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "the processor is told by an address")]
fn ask_to_write(line: usize) {
    use std::arch::asm;
    // SAFETY: it reads nothing, faults for no address, and does nothing on processors of
    // this architecture that do not know it.
    unsafe { asm!("prefetchw [{}]", in(reg) line, options(readonly, nostack, preserves_flags)) };
}

#[cfg(not(target_arch = "x86_64"))]
const fn ask(_: usize) {}

#[cfg(not(target_arch = "x86_64"))]
const fn ask_to_write(_: usize) {}
