//! What the oracle needs from a state engine.

use async_trait::async_trait;
use creto_types::StoreError;

/// Remembers how far timestamps may have been given out.
#[async_trait]
pub trait WindowStore: Send + Sync {
    /// The highest bound that was ever stored, in milliseconds since the Unix
    /// epoch; `None` before the first.
    async fn upper_bound(&self) -> Result<Option<u64>, StoreError>;

    /// Stores a bound. Durable on return; a lower bound than the stored one
    /// changes nothing.
    async fn raise(&self, to_millis: u64) -> Result<(), StoreError>;
}
