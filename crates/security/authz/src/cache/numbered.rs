//! The different verdicts of one set of policies, each kept once and known by a
//! small number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;

use parking_lot::Mutex;

/// Verdicts of one chunk.
const CHUNK: usize = 256;
/// Chunks: 65,536 verdicts in all.
const CHUNKS: usize = 256;

type Chunk<T> = Box<[OnceLock<T>]>;

/// Values that are numbered when they first appear and then never change. Reading
/// takes no lock.
pub(crate) struct Numbered<T> {
    chunks: Box<[OnceLock<Chunk<T>>]>,
    numbers: Mutex<HashMap<T, u32>>,
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            numbers: Mutex::default(),
        }
    }

    /// The value of a number that was given.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let number = usize::try_from(number).ok()?;
        self.chunks
            .get(number / CHUNK)?
            .get()?
            .get(number % CHUNK)?
            .get()
    }

    /// The number of a value; `None` when all numbers are given.
    pub(crate) fn number(&self, value: &T) -> Option<u32> {
        let mut numbers = self.numbers.lock();
        if let Some(number) = numbers.get(value) {
            return Some(*number);
        }
        let next = numbers.len();
        let chunk = self
            .chunks
            .get(next / CHUNK)?
            .get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        chunk.get(next % CHUNK)?.set(value.clone()).ok()?;
        let number = u32::try_from(next).ok()?;
        numbers.insert(value.clone(), number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_number_and_numbers_run_out() {
        let numbered = Numbered::new();
        let most = CHUNK * CHUNKS;
        for value in 0..most {
            assert_eq!(numbered.number(&value), u32::try_from(value).ok());
        }
        assert_eq!(numbered.number(&7), Some(7));
        assert_eq!(numbered.number(&most), None);
        assert_eq!(numbered.get(7), Some(&7));
        assert_eq!(numbered.get(u32::MAX), None);
    }
}
