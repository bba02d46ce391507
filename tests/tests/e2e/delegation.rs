//! Attempts to have more authority than was given. Each is refused with its own
//! code and changes nothing.

use creto_client::Client;
use serde_json::{Value, json};

use crate::harness::{Server, Site, code, delegation, draft, granted, in_seconds, set};

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn leaves(server: &Server) -> usize {
    let owner = server.owner();
    (0..10_000)
        .take_while(|index| owner.get(&format!("/v1/audit/leaves/{index}")).is_ok())
        .count()
}

fn links(owner: &Client) -> Vec<Value> {
    owner.pages("/v1/delegations").map(Result::unwrap).collect()
}

#[test]
fn nobody_hands_on_more_than_it_has() {
    let server = Server::fresh();
    let (planner_link, worker_link) = server.chain("1.00");
    server.make_agent("accomplice");
    let planner = server.agent(&planner_link);
    let worker = server.agent(&worker_link);
    let body = delegation("accomplice", "0.50");
    let money = |amount: &str, currency: &str, period: &str| json!({"limit": {"amount": amount, "currency": currency}, "period": period});
    let right = |action: &str, resource: &str| json!([{"action": action, "resource": resource}]);
    let attempts = [
        (
            "delegation_rights_exceed_parent",
            with(body.clone(), "rights", right("*", "*")),
        ),
        (
            "delegation_rights_exceed_parent",
            with(body.clone(), "rights", right("history.read", "*")),
        ),
        (
            "delegation_rights_exceed_parent",
            with(body.clone(), "rights", right("history.*", "repo:creto")),
        ),
        (
            "delegation_outlives_parent",
            with(body.clone(), "expires_at", json!(in_seconds(7_300))),
        ),
        (
            "delegation_budget_exceeds_parent",
            with(body.clone(), "budget", money("5.01", "USD", "total")),
        ),
        (
            "invalid_request",
            with(body.clone(), "budget", money("1.00", "EUR", "total")),
        ),
        (
            "delegation_budget_exceeds_parent",
            with(body.clone(), "budget", money("5.00", "USD", "day")),
        ),
        (
            "delegation_depth_exceeded",
            with(body.clone(), "max_depth", json!(200)),
        ),
        (
            "unknown_principal",
            with(body.clone(), "delegatee", json!("nobody")),
        ),
    ];
    let before = links(&server.owner()).len();
    let leaves_before = leaves(&server);
    for (expected, attempt) in &attempts {
        let refused = planner.post("/v1/delegations", attempt);
        assert_eq!(code(refused), *expected, "{attempt}");
    }
    // An agent delegates from its own link, not from one above it, beside it, or
    // none.
    let parents = [
        json!(planner_link),
        json!("lnk_00000000000000000000000000000000"),
    ];
    for parent in parents {
        let attempt = with(body.clone(), "parent", parent);
        assert_eq!(code(worker.post("/v1/delegations", &attempt)), "forbidden");
    }
    assert_eq!(before, links(&server.owner()).len(), "something changed");
    let refused = leaves(&server) - leaves_before;
    assert_eq!(
        refused, 9,
        "all but the malformed one and the one to nobody"
    );

    // The same within its bounds is granted: the refusals were about the excess.
    granted(&planner, &body);
}

#[test]
fn what_was_not_delegated_is_denied_although_policy_permits_it() {
    let server = Server::fresh();
    server.make_agent("reader");
    let body = with(
        delegation("reader", "1.00"),
        "rights",
        json!([{"action": "history.read", "resource": "repo:creto"}]),
    );
    let reader = server.agent(&granted(&server.owner(), &body));
    let ask = |action: &str, resource: &str| {
        let body = json!({"action": action, "resource": resource, "args": {}, "units": 1});
        let answer = reader.post("/v1/actions", &body).unwrap();
        let code = answer["reason"]["code"].as_str().unwrap().to_owned();
        (answer["outcome"].as_str().unwrap().to_owned(), code)
    };
    assert_eq!(ask("history.read", "repo:creto").0, "allow");
    for (action, resource) in [
        ("changelog.draft", "repo:creto"),
        ("history.read", "repo:creto2"),
        ("history.read", "repo:"),
    ] {
        let expected = ("deny".to_owned(), "right_not_delegated".to_owned());
        assert_eq!(ask(action, resource), expected, "{action} {resource}");
    }
}

#[test]
fn a_budget_below_a_spent_one_gives_nothing() {
    let server = Server::fresh();
    server.make_agent("planner");
    server.make_agent("a");
    server.make_agent("b");
    let planner_link = granted(&server.owner(), &delegation("planner", "0.03"));
    let planner = server.agent(&planner_link);
    let a = server.agent(&granted(&planner, &delegation("a", "0.03")));
    let b = server.agent(&granted(&planner, &delegation("b", "0.03")));
    for _ in 0..2 {
        assert_eq!(draft(&a).unwrap()["outcome"], "allow");
    }
    assert_eq!(draft(&b).unwrap()["outcome"], "allow");
    for agent in [&a, &b] {
        let answer = draft(agent).unwrap();
        assert_eq!(answer["outcome"], "quota_exceeded", "{answer}");
        assert_eq!(answer["quota"]["principal"], "planner", "{answer}");
    }
}

/// Eight links by default: the first leaves seven for those below it.
#[test]
fn chains_are_as_deep_as_the_configuration_says() {
    for (configured, deepest) in [(None, 7), (Some(1), 0), (Some(12), 11)] {
        let site = Site::new();
        site.configure(|table| {
            if let Some(depth) = configured {
                set(table, &["identity", "max_delegation_depth"], depth);
            }
        });
        let server = site.start();
        server.make_agent("planner");
        let owner = server.owner();
        let mut body = delegation("planner", "5.00");
        body["max_depth"] = json!(deepest + 1);
        let refused = owner.post("/v1/delegations", &body);
        assert_eq!(code(refused), "delegation_depth_exceeded", "{configured:?}");
        body["max_depth"] = json!(deepest);
        granted(&owner, &body);
    }
}
