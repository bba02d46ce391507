use std::sync::Arc;

use creto_governor::conformance::{self, Backend};
use creto_state_sqlite::{Database, SqliteGovernor, SqliteReplies};

#[tokio::test]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = Database::open(&directory.path().join("creto.db")).expect("opens");
    let state = Arc::new(SqliteGovernor::new(Arc::clone(&database)));
    conformance::run(Backend {
        commits: state.clone(),
        replies: Arc::new(SqliteReplies::new(database)),
        records: state.clone(),
        sandboxes: state.clone(),
        policies: state,
    })
    .await;
}
