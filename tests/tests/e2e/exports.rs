//! Evidence is exported while there is more of it all the time.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Server, creto, draft, good};

/// Each export is of one head: every record below it is there with what it refers to, and
/// nothing of what came later.
#[test]
fn exports_beside_work_are_whole() {
    let server = Server::fresh();
    let (_, worker) = server.chain("5.00");
    let agent = server.agent(&worker);
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let mut rounds = 0_usize;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                let decided = draft(&agent).unwrap();
                let id = decided["action_id"].as_str().unwrap();
                let settle = format!("/v1/actions/{id}/settle");
                agent.post(&settle, &json!({ "units": 1 })).unwrap();
                good(server.path(), &["invoice", "issue", "--from", "2020-01-01"]);
                rounds += 1;
            }
            rounds
        });
        let exporters = ["one", "other"].map(|name| {
            let server = &server;
            scope.spawn(move || {
                let mut sizes = Vec::new();
                for round in 0..4 {
                    let dir = format!("{name}-{round}");
                    good(server.path(), &["audit", "export", &dir]);
                    let said = creto(server.path(), &["--json", "verify", &dir]);
                    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
                    assert_eq!(said["findings"], Value::Null, "{dir}: {said}");
                    sizes.push(said["leaves"].as_u64().unwrap());
                }
                assert!(sizes.is_sorted(), "{sizes:?}");
                sizes
            })
        });
        let sizes = exporters.map(|exporter| exporter.join());
        done.store(true, Ordering::Relaxed);
        let sizes = sizes.map(Result::unwrap);
        assert!(
            sizes.iter().all(|sizes| sizes.first() < sizes.last()),
            "{sizes:?}"
        );
        work.join().unwrap()
    });
    assert!(rounds > 1, "{rounds}");
    assert!(!server.path().join("one-0.partial").exists());
}
