//! What is answered.

use creto_proto::authz::v1::quantity::Measure;
use creto_proto::authz::v1::{
    BatchRule, CheckBatchRequest, CheckRequest, CheckResponse, Outcome, ReleaseRequest,
    SettleRequest, SubmitRequest, Value, batch_item, value,
};
use creto_types::Clock as _;
use tonic::Code;

use crate::world::{World, check, refusal, request_id, submit};

fn says(answer: &CheckResponse) -> (bool, Outcome, &str) {
    let reason = answer.reason.as_ref().unwrap();
    assert!(!reason.message.is_empty());
    (answer.permitted, answer.outcome(), &reason.code)
}

#[tokio::test]
async fn a_check_is_the_decision_of_the_action_itself() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    for (action, id, expected) in [
        (
            "history.read",
            "repo:creto",
            (true, Outcome::Allow, "permitted"),
        ),
        (
            "history.read",
            "repo:other",
            (false, Outcome::Deny, "no_policy_permits"),
        ),
        (
            "can_read",
            "repo:creto",
            (false, Outcome::Deny, "unknown_action"),
        ),
    ] {
        for subject in [None, Some("bot")] {
            let answer = client.check(check(subject, action, id)).await.unwrap();
            assert!(request_id(answer.metadata()).starts_with("req_"));
            let answer = answer.into_inner();
            assert_eq!(says(&answer), expected, "{action} on {id}");
            assert_eq!(answer.policy_ids.is_empty(), !answer.permitted);
            assert_eq!(answer.approval, None);
        }
    }
    let answer = client.check(check(None, "release.publish", "repo:creto"));
    let answer = answer.await.unwrap().into_inner();
    let held = (false, Outcome::RequiresOversight, "needs_approval");
    assert_eq!(says(&answer), held);
    let approval = answer.approval.unwrap();
    assert_eq!(approval.kind, "release");
    assert_eq!(approval.policy_id, "publish-needs-a-human");

    // The owner asks about the agent, by name and by delegation.
    let mut owner = world.client(&world.owner);
    let mut about = check(Some("bot"), "history.read", "repo:creto");
    about.subject.as_mut().unwrap().delegation = Some(world.link.clone());
    assert!(owner.check(about).await.unwrap().into_inner().permitted);
    let nobody = owner.check(check(Some("nobody"), "history.read", "repo:creto"));
    let nobody = nobody.await.unwrap().into_inner();
    assert_eq!(says(&nobody), (false, Outcome::Deny, "unknown_subject"));
}

#[tokio::test]
async fn a_context_reaches_the_decision() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let mut asked = check(None, "history.read", "repo:creto");
    let undeclared = value::Kind::StringValue("OPS-7".to_owned());
    asked.context.insert(
        "ticket".to_owned(),
        Value {
            kind: Some(undeclared),
        },
    );
    let answer = client.check(asked.clone()).await.unwrap().into_inner();
    assert_eq!(says(&answer), (false, Outcome::Deny, "invalid_request"));
    asked
        .context
        .insert("none".to_owned(), Value { kind: None });
    let status = client.check(asked).await.unwrap_err();
    assert_eq!(refusal(&status).3.as_deref(), Some("context"));
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_as_far_as_its_rule_goes() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let checks = vec![
        check(None, "history.read", "repo:creto"),
        check(None, "history.read", ""),
        check(Some("alice"), "history.read", "repo:creto"),
        check(None, "history.read", "repo:other"),
    ];
    for (rule, answered) in [
        (BatchRule::Unspecified, 4),
        (BatchRule::ExecuteAll, 4),
        (BatchRule::DenyOnFirstDeny, 2),
        (BatchRule::PermitOnFirstPermit, 1),
    ] {
        let request = CheckBatchRequest {
            checks: checks.clone(),
            rule: rule.into(),
        };
        let items = client
            .check_batch(request)
            .await
            .unwrap()
            .into_inner()
            .items;
        let said: Vec<_> = items
            .iter()
            .map(|item| match item.result.as_ref().unwrap() {
                batch_item::Result::Answer(answer) => (says(answer).2.to_owned(), 0, ""),
                batch_item::Result::Error(error) => {
                    (error.code.clone(), error.status, error.field.as_str())
                }
            })
            .collect();
        let all = [
            ("permitted".to_owned(), 0, ""),
            (
                "invalid_request".to_owned(),
                Code::InvalidArgument.into(),
                "resource.id",
            ),
            ("forbidden".to_owned(), Code::PermissionDenied.into(), ""),
            ("no_policy_permits".to_owned(), 0, ""),
        ];
        assert_eq!(said, all[..answered], "{rule:?}");
    }
    for checks in [0, 101] {
        let request = CheckBatchRequest {
            checks: vec![check(None, "history.read", "repo:creto"); checks],
            rule: 0,
        };
        let status = client.check_batch(request).await.unwrap_err();
        let (code, own, _, field) = refusal(&status);
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(
            (own.as_str(), field.as_deref()),
            ("invalid_request", Some("checks"))
        );
    }
    let request = CheckBatchRequest { checks, rule: 9 };
    let status = client.check_batch(request).await.unwrap_err();
    assert_eq!(refusal(&status).3.as_deref(), Some("rule"));
}

#[tokio::test]
async fn a_submission_reserves_once_whatever_comes_again() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let request = submit("changelog.draft", "{\"from\": 1.50}", Some("k"));
    let first = client.submit(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.outcome(), Outcome::Allow, "{first:?}");
    assert_eq!(first.cost.as_ref().unwrap().currency, "USD");
    let until = first.reserved_until.unwrap().seconds;
    assert_eq!(until, world.clock.now().as_second() + 60);
    assert!(first.leaf.is_some());
    let again = client.submit(request).await.unwrap().into_inner();
    assert_eq!(again, first);
    let other = submit("changelog.draft", "{\"from\": 2}", Some("k"));
    let status = client.submit(other).await.unwrap_err();
    let (code, own, ..) = refusal(&status);
    assert_eq!(
        (code, own.as_str()),
        (Code::FailedPrecondition, "idempotency_key_reused")
    );

    // The same over HTTP is the same request: the keys are one space.
    let caller = world.governor.authenticate(&world.agent).unwrap();
    let request = serde_json::json!({
        "action": "changelog.draft", "resource": "repo:creto", "args": {"from": 1.5},
    });
    let request = serde_json::from_value(request).unwrap();
    let key = creto_governor::IdempotencyKey::new("k").unwrap();
    let there = world
        .governor
        .submit(&caller, request, Some(key))
        .await
        .unwrap();
    assert_eq!(there.action_id.to_string(), first.action_id);

    let settle = |units| SettleRequest {
        action_id: first.action_id.clone(),
        units,
        idempotency_key: Some("s".to_owned()),
    };
    let settled = client.settle(settle(1)).await.unwrap().into_inner();
    let settlement = settled.settlement.clone().unwrap();
    assert_eq!(
        (settlement.state.as_str(), settlement.units),
        ("settled", 1)
    );
    assert!(settlement.event_id.is_some() && settlement.leaf.is_some());
    assert_eq!(
        client.settle(settle(1)).await.unwrap().into_inner(),
        settled
    );
    let status = client.settle(settle(0)).await.unwrap_err();
    assert_eq!(refusal(&status).1, "idempotency_key_reused");
    let release = ReleaseRequest {
        action_id: first.action_id.clone(),
        idempotency_key: None,
    };
    let status = client.release(release).await.unwrap_err();
    let (code, own, ..) = refusal(&status);
    assert_eq!(
        (code, own.as_str()),
        (Code::FailedPrecondition, "reservation_closed")
    );
}

#[tokio::test]
async fn an_unused_reservation_is_given_back() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let made = client
        .submit(submit("history.read", "", None))
        .await
        .unwrap();
    let release = ReleaseRequest {
        action_id: made.into_inner().action_id,
        idempotency_key: None,
    };
    let released = client.release(release).await.unwrap().into_inner();
    let settlement = released.settlement.unwrap();
    assert_eq!(
        (settlement.state.as_str(), settlement.units),
        ("released", 0)
    );
    assert_eq!(settlement.event_id, None);
    let unknown = ReleaseRequest {
        action_id: "act_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".to_owned(),
        idempotency_key: None,
    };
    let status = client.release(unknown).await.unwrap_err();
    let (code, own, ..) = refusal(&status);
    assert_eq!(
        (code, own.as_str()),
        (Code::NotFound, "reservation_not_found")
    );
}

#[tokio::test]
async fn what_a_human_has_to_see_is_held_and_points_there() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let request = submit("release.publish", "{\"version\":\"1\"}", None);
    let held = client.submit(request.clone()).await.unwrap().into_inner();
    assert_eq!(held.outcome(), Outcome::RequiresOversight);
    let needed = held.oversight.unwrap();
    assert!(needed.url.ends_with(&needed.request_id), "{}", needed.url);
    assert_eq!(needed.digest.len(), 64);
    assert!(needed.expires_at.unwrap().seconds > world.clock.now().as_second());
    let again = client.submit(request).await.unwrap().into_inner();
    assert_eq!(again.oversight.unwrap().request_id, needed.request_id);
}

#[tokio::test]
async fn a_limit_that_does_not_cover_it_is_named_with_its_figures() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let mut request = submit("changelog.draft", "", None);
    request.action = "history.read".to_owned();
    let free = client.submit(request).await.unwrap().into_inner();
    assert_eq!(free.outcome(), Outcome::Allow);
    assert!(free.quota.is_none() && free.retry_after.is_none());

    let mut request = submit("release.publish", "", None);
    request.units = Some(5);
    let status = client.submit(request.clone()).await.unwrap().into_inner();
    // Approval comes first; the budget is asked by whoever may go on.
    assert_eq!(status.outcome(), Outcome::RequiresOversight);
    let approved = approve(&world, &status.oversight.unwrap().request_id).await;
    request.grant = Some(approved);
    let refused = client.submit(request).await.unwrap().into_inner();
    assert_eq!(refused.outcome(), Outcome::QuotaExceeded, "{refused:?}");
    let quota = refused.quota.unwrap();
    let subject = quota.subject.unwrap();
    assert_eq!(subject.scope, "delegation");
    assert_eq!(subject.delegation.as_deref(), Some(world.link.as_str()));
    let amount = |quantity: Option<creto_proto::authz::v1::Quantity>| {
        let Some(Measure::Money(money)) = quantity.unwrap().measure else {
            panic!("the budget is money");
        };
        (money.amount, money.currency)
    };
    let usd = |amount: &str| (amount.to_owned(), "USD".to_owned());
    assert_eq!(amount(quota.limit), usd("1.00"));
    assert_eq!(amount(quota.requested), usd("1.25"));
    assert!(quota.resets_at.is_none(), "a total never resets");
}

#[tokio::test]
async fn a_check_names_what_refuses_it_as_a_submission_does() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let owner = world.governor.authenticate(&world.owner).unwrap();
    let limit = serde_json::json!({
        "scope": { "agent": "bot" }, "limit": { "units": 3 }, "window": "daily",
    });
    let limit = serde_json::from_value(limit).unwrap();
    world.governor.set_limit(&owner, limit, None).await.unwrap();
    let read = |units| SubmitRequest {
        units: Some(units),
        ..submit("history.read", "", None)
    };
    let asked = |units| CheckRequest {
        units: Some(units),
        ..check(None, "history.read", "repo:creto")
    };
    let free = client.check(asked(1)).await.unwrap().into_inner();
    assert!(free.permitted && free.quota.is_none());
    assert!(free.rate.is_none() && free.retry_after.is_none());
    let done = client.submit(read(1)).await.unwrap().into_inner();
    assert_eq!(done.outcome(), Outcome::Allow);

    let no = client.check(asked(3)).await.unwrap().into_inner();
    assert_eq!(says(&no), (false, Outcome::QuotaExceeded, "limit_exceeded"));
    let quota = no.quota.clone().unwrap();
    let units = |quantity: &Option<creto_proto::authz::v1::Quantity>| {
        quantity.as_ref().unwrap().measure.clone()
    };
    assert_eq!(units(&quota.limit), Some(Measure::Units(3)));
    assert_eq!(units(&quota.used), Some(Measure::Units(1)));
    assert_eq!(units(&quota.reserved), Some(Measure::Units(1)));
    assert_eq!(units(&quota.requested), Some(Measure::Units(3)));
    let until = quota.resets_at.unwrap().seconds - world.clock.now().as_second();
    assert_eq!(no.retry_after.unwrap().seconds, until);
    let refused = client.submit(read(3)).await.unwrap().into_inner();
    assert_eq!(
        (no.quota, no.retry_after),
        (refused.quota, refused.retry_after)
    );
}

#[tokio::test]
async fn a_check_that_comes_too_fast_says_whose_and_how_long() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let owner = world.governor.authenticate(&world.owner).unwrap();
    let rate = serde_json::json!({
        "scope": { "agent": "bot" }, "event": "history.read", "per_second": 1, "burst": 1
    });
    let rate = serde_json::from_value(rate).unwrap();
    world.governor.set_rate(&owner, rate, None).await.unwrap();
    let read = submit("history.read", "", None);
    let done = client.submit(read).await.unwrap().into_inner();
    assert_eq!(done.outcome(), Outcome::Allow);
    let batch = CheckBatchRequest {
        checks: vec![check(None, "history.read", "repo:creto")],
        rule: 0,
    };
    let batch = client.check_batch(batch).await.unwrap().into_inner();
    let Some(batch_item::Result::Answer(no)) = batch.items[0].result.clone() else {
        panic!("an answer: {batch:?}");
    };
    assert_eq!(says(&no), (false, Outcome::RateLimited, "rate_limited"));
    let rate = no.rate.unwrap();
    assert_eq!(rate.scope, "agent");
    assert_eq!(rate.principal.as_deref(), Some("bot"));
    assert_eq!(rate.event.as_deref(), Some("history.read"));
    let read = submit("history.read", "", None);
    let refused = client.submit(read).await.unwrap().into_inner();
    assert_eq!(refused.rate, Some(rate));
    let wait = no.retry_after.unwrap();
    assert_eq!((wait.seconds, wait.nanos), (1, 0));
}

async fn approve(world: &World, id: &str) -> String {
    let owner = world.governor.authenticate(&world.owner).unwrap();
    let id = id.parse().unwrap();
    world
        .governor
        .approve(&owner, id, None, None)
        .await
        .unwrap();
    let agent = world.governor.authenticate(&world.agent).unwrap();
    let request = world
        .governor
        .oversight_request(&agent, id, None)
        .await
        .unwrap();
    request.grant.unwrap().as_str().to_owned()
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let world = World::new().await;
    let asked = check(None, "history.read", "repo:creto");
    world
        .client(&world.agent)
        .check(asked.clone())
        .await
        .unwrap();
    world.client("nonsense").check(asked).await.unwrap_err();
    let text = world.governor.metrics().encode();
    for line in [
        "creto_grpc_requests_total{method=\"/creto.authz.v1.Authz/Check\",code=\"OK\"} 1",
        "creto_grpc_requests_total{method=\"/creto.authz.v1.Authz/Check\",code=\"UNAUTHENTICATED\"} 1",
        "creto_errors_total{class=\"security\",code=\"invalid_token\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
