//! The oracle as others see it, and the store it needs.

use std::num::NonZeroU32;

use async_trait::async_trait;
use creto_types::StoreError;

use crate::{HybridTimestamp, OracleError, TimestampRange};

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
