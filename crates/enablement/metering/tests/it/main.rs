//! The meter over the in-memory ledger.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod crash;
mod faults;
mod invoices;
mod limits;
mod model;
mod overspend;
mod quota;
mod windows;
mod world;

use std::collections::HashMap;
use std::sync::Arc;

use creto_metering::memory::MemoryLedger;
use creto_metering::{LedgerStore, conformance};
use creto_types::memory::MemoryCommits;
use parking_lot::Mutex;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_ledger_keeps_the_contract() {
    let stores: Mutex<HashMap<&str, Arc<MemoryLedger>>> = Mutex::default();
    conformance::run(|name| {
        let store = Arc::clone(
            stores
                .lock()
                .entry(name)
                .or_insert_with(|| Arc::new(MemoryLedger::new(Arc::new(MemoryCommits::new())))),
        );
        async move { store as Arc<dyn LedgerStore> }
    })
    .await;
}
