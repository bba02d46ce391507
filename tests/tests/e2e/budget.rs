//! Many callers, one budget.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use creto_client::Client;
use creto_types::Money;
use serde_json::{Value, json};

use crate::harness::{Server, code, draft};

const CALLERS: usize = 64;
/// Each caller's attempts; together far more than the budget covers.
const ATTEMPTS: usize = 4;
/// A budget of 1.00 USD at 0.01 USD each.
const AFFORDED: usize = 100;

fn money(value: &Value) -> Money {
    serde_json::from_value(value.clone()).unwrap()
}

fn usd(text: &str) -> Money {
    format!("{text} USD").parse().unwrap()
}

/// Lets every caller try at the same time; gives the answers.
fn all_at_once(agent: &Client) -> Vec<Value> {
    let barrier = Barrier::new(CALLERS);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    barrier.wait();
                    for _ in 0..ATTEMPTS {
                        answers.push(draft(agent).unwrap());
                    }
                    answers
                })
            })
            .collect();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect()
    })
}

#[test]
fn sixty_four_callers_never_spend_one_unit_too_many() {
    let mut server = Server::fresh();
    let (planner, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let answers = all_at_once(&agent);
    let allowed: Vec<&Value> = answers
        .iter()
        .filter(|answer| answer["outcome"] == "allow")
        .collect();
    assert_eq!(allowed.len(), AFFORDED);
    for answer in &answers {
        let outcome = answer["outcome"].as_str().unwrap();
        assert!(["allow", "quota_exceeded"].contains(&outcome), "{answer}");
    }

    // Half of it is used, the rest given back.
    for (index, answer) in allowed.iter().enumerate() {
        let id = answer["action_id"].as_str().unwrap();
        if index % 2 == 0 {
            let body = json!({"units": 1});
            agent
                .post(&format!("/v1/actions/{id}/settle"), &body)
                .unwrap();
        } else {
            agent
                .post(&format!("/v1/actions/{id}/release"), &json!({}))
                .unwrap();
        }
    }
    let half = |server: &Server| {
        let me = server.agent(&worker).get("/v1/self").unwrap();
        assert_eq!(money(&me["chain"][1]["balance"]["used"]), usd("0.50"));
        assert_eq!(money(&me["chain"][1]["balance"]["remaining"]), usd("0.50"));
        let above = server.agent(&planner).get("/v1/self").unwrap();
        assert_eq!(money(&above["chain"][0]["balance"]["used"]), usd("0.50"));
        assert_eq!(
            money(&above["chain"][0]["balance"]["remaining"]),
            usd("4.50")
        );
    };
    half(&server);
    server.kill_and_restart();
    half(&server);

    // What was given back can be spent, and again not one unit more.
    let agent = server.agent(&worker);
    let answers = all_at_once(&agent);
    let allowed = answers
        .iter()
        .filter(|answer| answer["outcome"] == "allow")
        .count();
    assert_eq!(allowed, AFFORDED / 2);
}

/// Killed while many work, three times: what was allowed before still counts, and what is
/// allowed afterwards is what the budget has left, at most.
#[test]
fn a_kill_in_the_midst_of_work_overspends_nothing() {
    const WORKERS: usize = 8;
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    // What callers were told, and what they asked to be given back.
    let (granted, given_back) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 1..=3 {
        let agent = server.agent(&worker);
        let ended = AtomicUsize::new(0);
        thread::scope(|scope| {
            for caller in 0..WORKERS {
                let (agent, ended) = (&agent, &ended);
                let (granted, given_back) = (&granted, &given_back);
                scope.spawn(move || {
                    // Until the server is gone.
                    while let Ok(answer) = draft(agent) {
                        if answer["outcome"] != "allow" {
                            break;
                        }
                        granted.fetch_add(1, Ordering::SeqCst);
                        let id = answer["action_id"].as_str().unwrap();
                        let (end, body) = if caller % 2 == 0 {
                            given_back.fetch_add(1, Ordering::SeqCst);
                            ("release", json!({}))
                        } else {
                            ("settle", json!({"units": 1}))
                        };
                        if agent
                            .post(&format!("/v1/actions/{id}/{end}"), &body)
                            .is_err()
                        {
                            break;
                        }
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            while granted.load(Ordering::SeqCst) < 10 * round
                && ended.load(Ordering::SeqCst) < WORKERS
            {
                thread::yield_now();
            }
            server.kill();
        });
        server.restart();
    }
    let agent = server.agent(&worker);
    let kept = granted.into_inner() - given_back.into_inner();
    let me = agent.get("/v1/self").unwrap();
    let balance = &me["chain"][1]["balance"];
    let counted = money(&balance["used"])
        .checked_add(&money(&balance["reserved"]))
        .unwrap();
    let least = usd("0.01").checked_mul(kept as u64).unwrap();
    assert!(
        least.at_most(&counted).unwrap(),
        "{kept} are counted: {balance}"
    );
    let mut more = 0;
    while draft(&agent).unwrap()["outcome"] == "allow" {
        more += 1;
    }
    assert!(kept + more <= AFFORDED, "{kept} before, {more} after");
}

#[test]
fn an_action_is_settled_once_and_within_its_budget() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    let body = json!({
        "action": "changelog.draft", "resource": "repo:creto", "args": {}, "units": 10,
    });
    let answer = agent.post("/v1/actions", &body).unwrap();
    let path = format!(
        "/v1/actions/{}/settle",
        answer["action_id"].as_str().unwrap()
    );
    let too_many = agent.post(&path, &json!({"units": 101}));
    assert_eq!(code(too_many), "settle_exceeds_reservation");
    let settled = agent.post(&path, &json!({"units": 3})).unwrap();
    assert_eq!(money(&settled["cost"]), usd("0.03"));
    assert!(
        agent.post(&path, &json!({"units": 3})).is_err(),
        "settled twice"
    );
    let me = agent.get("/v1/self").unwrap();
    assert_eq!(money(&me["chain"][1]["balance"]["used"]), usd("0.03"));
    assert_eq!(money(&me["chain"][1]["balance"]["reserved"]), usd("0"));
}
