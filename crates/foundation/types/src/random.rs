//! Randomness as a dependency.

use std::cell::RefCell;

use parking_lot::Mutex;
use zeroize::Zeroize as _;

/// A source of random bytes.
pub trait Randomness: Send + Sync + 'static {
    /// Fills the buffer. Implementations used outside tests are
    /// cryptographically secure.
    fn fill(&self, buffer: &mut [u8]);

    /// The same for what need not be unpredictable before it is used, and may come back
    /// where a whole machine is set back to what it was: salts, and nonces of keys that are
    /// used once. Never keys.
    fn fill_short(&self, buffer: &mut [u8]) {
        self.fill(buffer);
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Randomness for SystemRandom {
    /// # Panics
    ///
    /// When the kernel cannot give random bytes, which leaves no safe way on.
    fn fill(&self, buffer: &mut [u8]) {
        ask(buffer);
    }

    fn fill_short(&self, buffer: &mut [u8]) {
        // A thread that ends may have given up its stock already.
        let filled = STOCK.try_with(|stock| stock.borrow_mut().fill(buffer));
        if filled != Ok(true) {
            ask(buffer);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that asks the system"
)]
fn ask(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system gives random bytes");
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock::empty()) };
}

/// Bytes of the system that nobody was given yet: salts and nonces are short, and asking
/// for each is most of what they cost. What was given is wiped here, so that the past is
/// not to be learnt from this memory; what was not given is used by nothing yet.
struct Stock {
    bytes: [u8; Self::LEN],
    given: usize,
}

impl Stock {
    const LEN: usize = 512;

    /// Longer requests are not worth a copy.
    const SHORT: usize = 64;

    const fn empty() -> Self {
        Self {
            bytes: [0; Self::LEN],
            given: Self::LEN,
        }
    }

    /// Whether it was filled: only a short buffer is.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        if buffer.len() > Self::SHORT {
            return false;
        }
        if Self::LEN - self.given < buffer.len() {
            ask(&mut self.bytes);
            self.given = 0;
        }
        let end = self.given + buffer.len();
        let Some(next) = self.bytes.get_mut(self.given..end) else {
            return false;
        };
        buffer.copy_from_slice(next);
        next.zeroize();
        self.given = end;
        true
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// A reproducible generator for tests and simulations (`SplitMix64`; not for
/// keys).
#[derive(Debug)]
pub struct SeededRandom {
    state: Mutex<u64>,
}

impl SeededRandom {
    /// The stream that `seed` names.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(seed),
        }
    }
}

impl Randomness for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.state.lock();
        for chunk in buffer.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            for (byte, random) in chunk.iter_mut().zip(z.to_le_bytes()) {
                *byte = random;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// No byte is given twice, whatever lengths are asked for and by whichever threads.
    #[test]
    fn nothing_is_given_twice() {
        let ask = || {
            let mut all = Vec::new();
            for length in [16_usize, 32, 12, 64, 65, 512, 24].repeat(100) {
                let mut buffer = vec![0; length];
                SystemRandom.fill_short(&mut buffer);
                // At any distance: what two calls share of eight bytes is found.
                all.extend(buffer.windows(8).map(<[u8]>::to_vec));
            }
            all
        };
        let threads = [std::thread::spawn(ask), std::thread::spawn(ask)];
        let mut all = ask();
        for thread in threads {
            all.extend(thread.join().unwrap());
        }
        let asked = all.len();
        let different: HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), asked);
    }

    #[test]
    fn what_was_given_is_not_kept() {
        let mut stock = Stock::empty();
        let mut buffer = [0; 32];
        for _ in 0..40 {
            assert!(stock.fill(&mut buffer));
            assert_ne!(buffer, [0; 32]);
            assert!(stock.bytes.iter().take(stock.given).all(|byte| *byte == 0));
        }
        assert!(!stock.fill(&mut [0; Stock::SHORT + 1]));
    }
}
