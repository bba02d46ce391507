//! Whoever was revoked is nobody, over restarts, for ever.

use serde_json::json;

use crate::harness::{Server, code, creto, draft, said};

#[test]
fn a_revoked_agent_stays_nobody_and_its_name_stays_taken() {
    let mut server = Server::fresh();
    let (planner, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    draft(&agent).unwrap();

    // The planner: the worker stands below it.
    let words = ["agent", "revoke", "planner", "--reason", "not needed"];
    let told = creto(server.path(), &words);
    assert_eq!(told.status.code(), Some(0), "{}", said(&told));
    let again = creto(server.path(), &words);
    assert_eq!(again.status.code(), Some(1));
    let again = said(&again);
    assert!(again.contains("principal_already_revoked"), "{again}");

    for _ in 0..2 {
        assert_eq!(code(draft(&agent)), "principal_revoked");
        let owner = server.owner();
        for link in [&planner, &worker] {
            let body = json!({ "delegation": link });
            let refused = owner.post("/v1/tokens", &body);
            assert_eq!(code(refused), "principal_revoked");
            let shown = owner.get(&format!("/v1/delegations/{link}")).unwrap();
            assert_eq!(shown["state"], "revoked");
        }
        let namesake = json!({ "name": "planner", "kind": "agent" });
        let refused = owner.post("/v1/principals", &namesake);
        assert_eq!(code(refused), "principal_exists");
        let resumed = owner.post("/v1/principals/planner/resume", &json!({ "reason": "x" }));
        assert_eq!(code(resumed), "principal_revoked");
        let list = said(&creto(server.path(), &["agent", "list"]));
        let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("planner").contains("revoked since"), "{list}");
        assert!(!line("worker").contains("revoked"), "{list}");
        server.kill_and_restart();
    }

    let words = ["audit", "export", "evidence"];
    let exported = creto(server.path(), &words);
    assert_eq!(exported.status.code(), Some(0), "{}", said(&exported));
    let verified = creto(server.path(), &["verify", "evidence"]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}
