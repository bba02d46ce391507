//! Lines of main memory, one after the other: the physical limit of whatever does not fit
//! the caches.

use crate::authz::Numbers;

/// Many more than caches hold.
const LINES: usize = (256 << 20) / 64;

/// All of them in one ring, in no order.
pub(crate) struct Ring(Vec<[usize; 8]>);

impl Ring {
    pub(crate) fn new() -> Self {
        let mut numbers = Numbers::new(1);
        let mut next: Vec<[usize; 8]> = (0..LINES).map(|line| [line; 8]).collect();
        // Sattolo's shuffle.
        for line in (1..LINES).rev() {
            next.swap(line, numbers.below(line));
        }
        Self(next)
    }

    pub(crate) const fn lines(&self) -> usize {
        self.0.len()
    }

    /// Where one comes to from a line by so many steps, each of which waits for the one before.
    pub(crate) fn walk(&self, from: usize, steps: u32) -> usize {
        (0..steps).fold(from, |at, _| self.0[at][0])
    }
}
