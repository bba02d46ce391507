//! Once `revoke` has answered, nothing is allowed any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, draft};

const CALLERS: usize = 16;

#[test]
fn no_call_that_begins_after_the_answer_is_allowed() {
    let mut server = Server::fresh();
    let (planner, worker) = server.chain("5.00");
    let agent = server.agent(&worker);
    let owner = server.owner();
    let revoked = AtomicBool::new(false);
    let stop = AtomicBool::new(false);

    let calls: Vec<(bool, Value)> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        // Read before the call begins: what begins later must fail.
                        let after = revoked.load(Ordering::SeqCst);
                        let answer = match draft(&agent) {
                            Ok(answer) => answer,
                            Err(error) => json!({"outcome": error.reported_code()}),
                        };
                        calls.push((after, answer));
                    }
                    calls
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        owner
            .post(&format!("/v1/delegations/{planner}/revoke"), &json!({}))
            .unwrap();
        revoked.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::SeqCst);
        callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect()
    });

    let allowed = |calls: &[(bool, Value)], after| {
        calls
            .iter()
            .filter(|(late, answer)| *late == after && answer["outcome"] == "allow")
            .count()
    };
    let late = calls.iter().filter(|(late, _)| *late).count();
    assert!(
        allowed(&calls, false) > 0,
        "nothing was allowed before either"
    );
    assert!(
        late >= CALLERS,
        "only {late} calls began after the revocation"
    );
    assert_eq!(
        allowed(&calls, true),
        0,
        "allowed after the revocation was answered"
    );

    // It holds over a restart, and a new token is not to be had.
    server.kill_and_restart();
    match draft(&agent) {
        Ok(answer) => assert_eq!(answer["reason"]["code"], "delegation_revoked", "{answer}"),
        Err(error) => {
            let status = error.problem().map_or(0, |problem| problem.status);
            assert!(status == 401 || status == 403, "{error}");
        }
    }
    let body = json!({"delegation": worker});
    assert!(server.owner().post("/v1/tokens", &body).is_err());
    let path = format!("/v1/delegations/{worker}");
    assert_eq!(server.owner().get(&path).unwrap()["state"], "revoked");
}
