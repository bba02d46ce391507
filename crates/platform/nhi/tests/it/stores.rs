//! The in-memory store obeys the port's contract.

use std::sync::Arc;

use creto_nhi::conformance;
use creto_nhi::memory::MemoryNhiStore;

#[tokio::test]
async fn memory_store_conforms() {
    conformance::all(Arc::new(MemoryNhiStore::new())).await;
}
