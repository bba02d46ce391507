//! Oversight requests under their port's contract.

use std::sync::Arc;

use creto_oversight::{OversightStore, conformance};
use creto_state_sqlite::{Database, SqliteOversight};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(async |name| {
        let db = Database::open(&dir.path().join(name)).unwrap();
        Arc::new(SqliteOversight::new(db)) as Arc<dyn OversightStore>
    })
    .await;
}
