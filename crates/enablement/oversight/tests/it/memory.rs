//! The in-memory backend under the contract.

use std::collections::HashMap;
use std::sync::Arc;

use creto_oversight::memory::MemoryOversightStore;
use creto_oversight::{OversightStore, conformance};
use parking_lot::Mutex;

#[tokio::test]
async fn conformance() {
    // "After a restart" means the same memory.
    let stores: Mutex<HashMap<&str, Arc<MemoryOversightStore>>> = Mutex::default();
    conformance::run(async |name| {
        let mut stores = stores.lock();
        let store = stores
            .entry(name)
            .or_insert_with(|| Arc::new(MemoryOversightStore::new(Arc::default())));
        Arc::clone(store) as Arc<dyn OversightStore>
    })
    .await;
}
