use std::sync::Arc;

use creto_governor::conformance::{self, Backend};
use creto_state_sqlite::{Database, SqliteGovernor, SqliteReplies, SqliteSubjects};

#[tokio::test]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = Database::open(&directory.path().join("creto.db")).expect("opens");
    let state = Arc::new(SqliteGovernor::new(Arc::clone(&database)));
    conformance::run(Backend {
        commits: state.clone(),
        replies: Arc::new(SqliteReplies::new(Arc::clone(&database))),
        records: state.clone(),
        sandboxes: state.clone(),
        policies: state,
        subjects: Arc::new(SqliteSubjects::new(database)),
    })
    .await;
}
