//! That a chain was found live, remembered until authority ends anywhere in its
//! organization.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::Word;

/// The epoch in which a chain was last found live, plus one; zero before that. Why it is
/// exact to use it is said at [`creto_nhi::Authority`].
pub(crate) struct FoundLive<W = AtomicU64>(W);

impl<W: Word> FoundLive<W> {
    pub(crate) fn not_yet() -> Self {
        Self(W::zero())
    }

    /// What the walk says, which is left out where the present epoch is the one in which
    /// it said that the chain is live and `in_time` is still so. The epoch is read before
    /// the flags that the walk reads.
    #[inline]
    pub(crate) fn or_walk<E>(
        &self,
        epoch: impl FnOnce() -> u64,
        in_time: bool,
        walk: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let epoch = epoch().wrapping_add(1);
        if in_time && self.0.load(Ordering::Relaxed) == epoch {
            return Ok(());
        }
        walk()?;
        self.0.store(epoch, Ordering::Relaxed);
        Ok(())
    }
}

impl<W: Word> Clone for FoundLive<W> {
    /// What was found of the chain holds for its copy.
    fn clone(&self) -> Self {
        let copy = W::zero();
        copy.store(self.0.load(Ordering::Relaxed), Ordering::Relaxed);
        Self(copy)
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    /// A principal of the chain with the epoch of its organization, as
    /// [`creto_nhi::Authority`] keeps them.
    struct Chain {
        suspended: AtomicBool,
        epoch: AtomicU64,
        found: FoundLive<AtomicU64>,
    }

    impl Chain {
        fn live(&self) -> bool {
            let walk = || match self.suspended.load(Ordering::SeqCst) {
                true => Err(()),
                false => Ok(()),
            };
            self.found
                .or_walk(|| self.epoch.load(Ordering::SeqCst), true, walk)
                .is_ok()
        }

        fn change(&self, suspended: bool) {
            self.suspended.store(suspended, Ordering::SeqCst);
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Checks run while a principal is suspended and resumed. In every interleaving a
    /// check that begins after the one or the other returned knows it.
    #[test]
    fn no_check_believes_what_was_before_a_change_that_returned() {
        loom::model(|| {
            let chain = Arc::new(Chain {
                suspended: AtomicBool::new(false),
                epoch: AtomicU64::new(0),
                found: FoundLive::not_yet(),
            });
            let checker = {
                let chain = Arc::clone(&chain);
                loom::thread::spawn(move || {
                    chain.live();
                    chain.live();
                })
            };
            let changer = {
                let chain = Arc::clone(&chain);
                loom::thread::spawn(move || chain.change(true))
            };
            changer.join().unwrap();
            assert!(!chain.live(), "suspended");
            chain.change(false);
            assert!(chain.live(), "resumed");
            checker.join().unwrap();
            assert!(chain.live(), "still");
        });
    }
}
