//! The in-memory stores keep the contracts they stand in for.

use std::sync::Arc;

use creto_audit::conformance;
use creto_audit::memory::{MemoryJournal, MemoryTiles};

#[tokio::test]
async fn memory_journal() {
    conformance::journal_keeps_order(&MemoryJournal::new()).await;
    conformance::journal_batch_is_atomic(&MemoryJournal::new()).await;
    conformance::journal_concurrent_appends(Arc::new(MemoryJournal::new())).await;
}

#[tokio::test]
async fn memory_tiles() {
    conformance::tiles_are_kept(&MemoryTiles::new()).await;
}
