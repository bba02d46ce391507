//! The oracle as others see it, the store it needs, and the order of commits.

use std::num::NonZeroU32;

use async_trait::async_trait;
use creto_types::{Commit, HybridTimestamp, LeafIndex, OrgId, StoreError};

use crate::{Epoch, OracleError, Sequenced, TimestampRange};

/// Hands out timestamps.
#[async_trait]
pub trait TimestampOracle: Send + Sync {
    /// `count` consecutive timestamps, each greater than every timestamp that
    /// any call returned before this one was made, in this process or one
    /// before it.
    async fn reserve(&self, count: NonZeroU32) -> Result<TimestampRange, OracleError>;
}

/// Conveniences over [`TimestampOracle`].
#[async_trait]
pub trait TimestampOracleExt: TimestampOracle {
    /// One timestamp.
    async fn next(&self) -> Result<HybridTimestamp, OracleError> {
        Ok(self.reserve(NonZeroU32::MIN).await?.first())
    }
}

impl<O: TimestampOracle + ?Sized> TimestampOracleExt for O {}

/// Remembers how far timestamps may have been handed out.
#[async_trait]
pub trait WindowStore: Send + Sync {
    /// The bound in milliseconds since the Unix epoch: no timestamp at or above
    /// it was ever handed out. None before the first.
    async fn upper_bound(&self) -> Result<Option<u64>, StoreError>;

    /// Raises the bound. Durable on return. A bound at or below the stored one
    /// is refused with [`StoreError::Conflict`]: somebody else raised it.
    async fn raise(&self, to_ms: u64) -> Result<(), StoreError>;
}

/// Puts events into the order in which they become durable.
///
/// One of these is one opening of a store. Each opening takes an [`Epoch`] of its own,
/// durable and one above the one before, and every change goes with it: once a later
/// epoch is durable, the store refuses what comes with an earlier one
/// ([`StoreError::Fenced`]) in the transaction that would have made it durable. A process
/// that lost its store cannot write to it, whatever it still believes.
#[async_trait]
pub trait Sequencer: Send + Sync {
    /// The epoch that this opening took.
    fn epoch(&self) -> Epoch;

    /// Makes the events, which are the commit's evidence, durable in one transaction, all
    /// or none, and says the place of each, in order. The places of an organization count
    /// up from zero without a gap, over concurrent calls, restarts and epochs; so what was
    /// acknowledged before a call began stands before all of it, and the events of one call
    /// stand next to one another. What a commit can refuse (a replayed idempotency key, a
    /// used claim) orders nothing.
    async fn order(&self, commit: Commit) -> Result<Vec<Sequenced>, StoreError>;

    /// The timestamps of so many events from a place on: fewer when there are fewer.
    /// [`StoreError::Corrupt`] where one is older than timestamps are.
    async fn timestamps(
        &self,
        org: OrgId,
        from: LeafIndex,
        count: usize,
    ) -> Result<Vec<HybridTimestamp>, StoreError>;
}
