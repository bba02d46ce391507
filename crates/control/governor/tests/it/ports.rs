use std::sync::Arc;

use creto_governor::conformance::{self, Backend};
use creto_governor::memory::MemoryGovernor;
use creto_types::memory::MemoryCommits;

#[tokio::test]
async fn memory_conforms() {
    let memory = Arc::new(MemoryGovernor::new(Arc::new(MemoryCommits::new())));
    conformance::run(Backend {
        commits: memory.clone(),
        replies: memory.clone(),
        records: memory.clone(),
        sandboxes: memory.clone(),
        policies: memory.clone(),
        subjects: memory,
    })
    .await;
}
