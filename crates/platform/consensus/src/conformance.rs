//! The contract of [`WindowStore`] as a test. Every backend runs it on an empty
//! store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a conformance suite is test code: it fails by panicking"
)]

use creto_types::StoreError;

use crate::WindowStore;

/// The bound starts absent, only rises, and is read back.
pub async fn bound_only_rises(store: &dyn WindowStore) {
    assert_eq!(store.upper_bound().await.unwrap(), None);
    store.raise(1_000).await.unwrap();
    assert_eq!(store.upper_bound().await.unwrap(), Some(1_000));
    for refused in [1_000, 999, 0] {
        assert!(matches!(
            store.raise(refused).await,
            Err(StoreError::Conflict { .. })
        ));
    }
    assert_eq!(store.upper_bound().await.unwrap(), Some(1_000));
    // The last millisecond a timestamp can say.
    let highest = u64::MAX >> 18;
    store.raise(highest).await.unwrap();
    assert_eq!(store.upper_bound().await.unwrap(), Some(highest));
}
