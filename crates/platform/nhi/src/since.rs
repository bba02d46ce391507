//! Since when something is so, for many readers.

use std::sync::atomic::{AtomicI64, Ordering};

use creto_types::Timestamp;

/// Whether something is so, and since when: to the nanosecond, within the years 1677 to
/// 2262, and the nearest of these beyond. One word, so that no reader sees the one without
/// the other.
#[derive(Debug)]
pub(crate) struct Since(AtomicI64);

/// Values that are no instant.
const NOT: i64 = i64::MIN;
const UNTOLD: i64 = i64::MIN + 1;

impl Default for Since {
    fn default() -> Self {
        Self(AtomicI64::new(NOT))
    }
}

fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    let nearest = if nanos < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(nanos).unwrap_or(nearest).max(UNTOLD + 1)
}

impl Since {
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::SeqCst) != NOT
    }

    /// `None` when it is not so, or since an instant that was not told.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::SeqCst) {
            NOT | UNTOLD => None,
            nanos => Timestamp::from_nanosecond(nanos.into()).ok(),
        }
    }

    /// It is so since then, whatever was told before.
    pub(crate) fn set(&self, at: Timestamp) {
        self.0.store(nanos(at), Ordering::SeqCst);
    }

    /// It is so since then, unless another instant was told before.
    pub(crate) fn first(&self, at: Timestamp) {
        self.replace(|now| now == NOT || now == UNTOLD, nanos(at));
    }

    /// It is so; what was told of its beginning stays.
    pub(crate) fn untold(&self) {
        self.replace(|now| now == NOT, UNTOLD);
    }

    /// It is not so any more.
    pub(crate) fn clear(&self) {
        self.0.store(NOT, Ordering::SeqCst);
    }

    fn replace(&self, old: impl Fn(i64) -> bool, new: i64) {
        let replaced = |now| old(now).then_some(new);
        // Refused where it is to stay as it is.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, replaced);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_first_stands_and_what_is_untold_hides_nothing() {
        let (one, two) = (Timestamp::UNIX_EPOCH, Timestamp::constant(7, 1));
        let since = Since::default();
        assert!(!since.is_so() && since.at().is_none());
        since.untold();
        assert!(since.is_so() && since.at().is_none());
        since.first(two);
        since.first(one);
        since.untold();
        assert_eq!(since.at(), Some(two));
        since.set(one);
        assert_eq!(since.at(), Some(one));
        since.clear();
        assert!(!since.is_so() && since.at().is_none());
    }

    #[test]
    fn every_instant_is_one() {
        for at in [Timestamp::MIN, Timestamp::MAX] {
            let since = Since::default();
            since.set(at);
            assert!(since.is_so() && since.at().is_some());
        }
    }
}
