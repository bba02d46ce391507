//! The place of an event among all of its organization's.

use std::fmt;

use creto_types::{HybridTimestamp, LeafIndex, OrgId};

/// Counts the openings of a store, from one. Whoever holds the highest may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// Whose order it is.
    pub org: OrgId,
    /// Its place, counted from zero: the leaf of the organization's log.
    pub place: LeafIndex,
    /// Rises strictly with the place.
    pub ts: HybridTimestamp,
    /// The epoch it became durable in. Never falls with the place.
    pub epoch: Epoch,
}
