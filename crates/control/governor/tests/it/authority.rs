use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    BudgetRequest, DelegationState, ExchangeRequest, OutcomeKind, PrincipalRequest, TokenRequest,
};
use serde_json::json;

use crate::world::{World, action, delegate, enter, right, usd};

#[tokio::test]
async fn nobody_gives_what_it_does_not_have() {
    let world = World::new().await;
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let links = world
        .governor
        .delegations(&world.owner, None, 100)
        .expect("lists")
        .len();
    let base = delegate("release-bot", "1.00", expires);

    let mut more_money = base.clone();
    more_money.budget.as_mut().expect("a budget").limit = usd("5.01").into();
    let mut more_rights = base.clone();
    more_rights.rights.push(right("payroll.run", "*"));
    let mut longer = base.clone();
    longer.expires_at = "2026-04-01T00:00:00Z".parse().expect("an instant");
    let mut deeper = base.clone();
    deeper.max_depth = Some(200);
    for (request, code) in [
        (more_money, "delegation_budget_exceeds_parent"),
        (more_rights, "delegation_rights_exceed_parent"),
        (longer, "delegation_outlives_parent"),
        (deeper, "delegation_depth_exceeded"),
    ] {
        let refused = world.governor.delegate(&world.planner, request, None).await;
        assert_eq!(refused.expect_err("is refused").code(), code);
    }
    let mut other_money = base.clone();
    other_money.budget.as_mut().expect("a budget").limit = creto_types::Money::new(
        "1.00".parse().expect("a decimal"),
        "EUR".parse().expect("a currency"),
    )
    .into();
    let refused = world
        .governor
        .delegate(&world.planner, other_money, None)
        .await;
    assert_eq!(
        refused.expect_err("not its money").code(),
        "invalid_request"
    );
    let mut anothers = base;
    anothers.parent = Some(world.planner_link.clone());
    let refused = world.governor.delegate(&world.bot, anothers, None).await;
    assert_eq!(refused.expect_err("not its own link").code(), "forbidden");
    let after = world
        .governor
        .delegations(&world.owner, None, 100)
        .expect("lists")
        .len();
    assert_eq!(after, links, "nothing was changed");

    // Who reached for what, and by how much it was too much; a request that nobody
    // could be granted is no attempt.
    let refused: Vec<_> = world
        .commits
        .evidence(world.owner.org())
        .into_iter()
        .filter(|record| record.kind == "delegation.refused")
        .map(|record| (record.actor.to_string(), record.body))
        .collect();
    let planner = |code: &str, asked: &str, held: &str| {
        let body = json!({
            "delegatee": "release-bot", "parent": world.planner_link,
            "code": code, "asked": asked, "held": held,
        });
        ("planner".to_owned(), body)
    };
    let held = "history.read on repo:*, changelog.draft on repo:*, release.publish on repo:*, \
                network_egress on releases.example.test";
    let by_bot = json!({
        "delegatee": "release-bot", "parent": world.planner_link, "code": "forbidden",
    });
    assert_eq!(
        refused,
        [
            planner(
                "delegation_budget_exceeds_parent",
                "5.01 USD per total",
                "5.00 USD per total"
            ),
            planner("delegation_rights_exceed_parent", "payroll.run on *", held),
            planner(
                "delegation_outlives_parent",
                "2026-04-01T00:00:00Z",
                "2026-03-02T12:00:00Z"
            ),
            planner("delegation_depth_exceeded", "200", "6"),
            ("release-bot".to_owned(), by_bot),
        ]
    );
    world.check_records().await.expect("the records hold");
}

/// Refusals are recorded as often as somebody may ask: four times the rate. Who asks
/// more often is still refused.
#[tokio::test]
async fn refused_delegations_do_not_fill_the_log() {
    let world = World::paced(5).await;
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let mut deeper = delegate("release-bot", "1.00", expires);
    deeper.max_depth = Some(200);
    let refused = async |caller: &creto_governor::Caller| {
        let mut codes = Vec::new();
        for _ in 0..60 {
            let refused = world.governor.delegate(caller, deeper.clone(), None).await;
            codes.push(refused.expect_err("is refused").code());
        }
        codes.dedup();
        let recorded = world.commits.evidence(world.owner.org()).into_iter();
        let by = recorded
            .filter(|record| record.kind == "delegation.refused" && record.actor == *caller.name());
        (codes, by.count())
    };
    let (codes, recorded) = refused(&world.planner).await;
    assert_eq!(codes, ["delegation_depth_exceeded", "too_many_requests"]);
    assert!((1..=20).contains(&recorded), "{recorded}");
    let (codes, recorded) = refused(&world.owner).await;
    assert_eq!(codes, ["delegation_depth_exceeded"]);
    assert_eq!(recorded, 20);
}

/// Rights may be long and many; the record of a refusal fits the log all the same.
#[tokio::test]
async fn a_refusal_under_many_long_rights_is_recorded() {
    let world = World::new().await;
    let expires: creto_types::Timestamp = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let mut wide = delegate("planner", "1.00", expires);
    wide.rights = (0..64)
        .map(|n| right(&format!("{n}.{}", "\"".repeat(250)), &"\\".repeat(256)))
        .collect();
    let wide = world.governor.delegate(&world.owner, wide, None).await;
    let caller = enter(&world.governor, &world.owner, &wide.expect("delegates").id).await;
    let mut more = delegate("release-bot", "1.00", expires);
    more.rights = vec![right("payroll.run", "*")];
    let refused = world.governor.delegate(&caller, more, None).await;
    assert_eq!(
        refused.expect_err("is refused").code(),
        "delegation_rights_exceed_parent"
    );
    assert_eq!(
        world.kinds().last().expect("a record"),
        "delegation.refused"
    );
}

#[tokio::test]
async fn budgets_in_units_and_by_the_hour_are_held() {
    let world = World::new().await;
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    for (limit, used, requested) in [
        ("2 units", "2 units", "1 units"),
        ("0.02 USD", "0.02 USD", "0.01 USD"),
    ] {
        let mut request = delegate("release-bot", "1.00", expires);
        request.budget = Some(BudgetRequest {
            limit: limit.parse().expect("a quantity"),
            period: "hour".to_owned(),
        });
        let link = world.governor.delegate(&world.owner, request, None).await;
        let link = link.expect("delegates").id;
        let bot = crate::world::enter(&world.governor, &world.owner, &link).await;
        let submit = || world.governor.submit(&bot, action("history.read"), None);
        for _ in 0..2 {
            let answer = submit().await.expect("answers");
            assert_eq!(answer.outcome, OutcomeKind::Allow, "{limit}: {answer:?}");
        }
        let answer = submit().await.expect("answers");
        assert_eq!(answer.outcome, OutcomeKind::QuotaExceeded, "{limit}");
        let quota = answer.quota.expect("names the budget");
        assert_eq!(quota.subject.scope, "delegation");
        assert_eq!(quota.subject.delegation.as_ref(), Some(&link));
        assert_eq!(quota.limit, limit.parse().expect("a quantity"));
        assert_eq!(quota.used, used.parse().expect("a quantity"));
        assert_eq!(quota.requested, requested.parse().expect("a quantity"));
        let end = "2026-03-01T13:00:00Z".parse().expect("an instant");
        assert_eq!(quota.resets_at, Some(end));
    }
}

#[tokio::test]
async fn a_revocation_stops_everything_below() {
    let world = World::new().await;
    let before = world
        .governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    assert_eq!(before.expect("answers").outcome, OutcomeKind::Allow);
    let by_bot = world
        .governor
        .revoke(&world.bot, &world.planner_link, None)
        .await;
    assert_eq!(by_bot.expect_err("not above it").code(), "forbidden");

    let revoked = world
        .governor
        .revoke(&world.owner, &world.planner_link, None)
        .await;
    assert!(revoked.expect("revokes").leaf.is_some());
    let after = world
        .governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    let after = after.expect("answers");
    assert_eq!(after.outcome, OutcomeKind::Deny);
    assert_eq!(after.reason.code, "delegation_revoked");
    let other = world.governor.whoami(&world.bot);
    assert_eq!(
        other.expect_err("no call at all").code(),
        "delegation_revoked"
    );
    let request = TokenRequest {
        delegation: Some(world.bot_link.clone()),
        ttl_seconds: None,
        instance: None,
        jkt: None,
    };
    let token = world
        .governor
        .issue_token(&world.owner, request, None)
        .await;
    assert_eq!(
        token.expect_err("no new token").code(),
        "delegation_revoked"
    );
    let shown = world.governor.delegation(&world.owner, &world.bot_link);
    assert_eq!(shown.expect("reads").state, DelegationState::Revoked);
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn a_planner_revokes_what_it_gave() {
    let world = World::new().await;
    let revoked = world
        .governor
        .revoke(&world.planner, &world.bot_link, None)
        .await;
    revoked.expect("it is above");
    let planner = world
        .governor
        .submit(&world.planner, action("history.read"), None)
        .await;
    assert_eq!(planner.expect("answers").outcome, OutcomeKind::Allow);
    let bot = world
        .governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    assert_eq!(bot.expect("answers").outcome, OutcomeKind::Deny);
}

#[tokio::test]
async fn agents_do_not_administer() {
    let world = World::new().await;
    let governor = &world.governor;
    let request = PrincipalRequest {
        name: "mallory".parse().expect("a name"),
        kind: "agent".to_owned(),
    };
    let made = governor
        .create_principal(&world.planner, request, None)
        .await;
    assert_eq!(made.expect_err("owner's work").code(), "forbidden");
    let own = TokenRequest {
        delegation: Some(world.planner_link.clone()),
        ttl_seconds: None,
        instance: None,
        jkt: None,
    };
    let token = governor.issue_token(&world.planner, own, None).await;
    assert_eq!(token.expect_err("not below it").code(), "forbidden");
    assert!(governor.principals(&world.bot, None, 10).is_err());
    assert!(governor.export(&world.bot, None).await.is_err());
    let above = governor.delegation(&world.planner, &world.bot_link);
    assert_eq!(
        above.expect("its own subtree").delegatee.as_str(),
        "release-bot"
    );
}

/// A token is for beginning an export, however long that takes.
#[tokio::test]
async fn a_token_that_ends_breaks_no_export_off() {
    let world = World::new().await;
    let export = world.governor.export(&world.owner, None).await;
    let mut export = export.expect("an owner may");
    world.clock.advance(Duration::from_secs(400 * 86_400));
    let late = world.governor.export(&world.owner, None).await;
    assert_eq!(late.expect_err("it ended").code(), "delegation_expired");
    while export.next().await.expect("goes on").is_some() {}
}

#[tokio::test]
async fn a_repeated_token_is_not_shown_again() {
    let world = World::new().await;
    let key = || Some(creto_governor::IdempotencyKey::new("once").expect("a key"));
    let request = TokenRequest {
        delegation: Some(world.bot_link.clone()),
        ttl_seconds: Some(60),
        instance: None,
        jkt: None,
    };
    let first = world
        .governor
        .issue_token(&world.owner, request.clone(), key())
        .await;
    assert!(first.expect("issues").token.is_some());
    let second = world
        .governor
        .issue_token(&world.owner, request, key())
        .await;
    assert_eq!(second.expect("repeats").token, None);
}

#[tokio::test]
async fn organizations_do_not_meet() {
    let world = World::new().await;
    let governor = &world.governor;
    let answer = governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    let action_id = answer.expect("answers").action_id;
    let stranger = world.stranger().await;
    assert_ne!(stranger.org(), world.owner.org());

    let link = governor.delegation(&stranger, &world.bot_link);
    assert_eq!(link.expect_err("another's").code(), "not_found");
    let revoked = governor.revoke(&stranger, &world.bot_link, None).await;
    assert_eq!(revoked.expect_err("another's").code(), "not_found");
    let records = governor.action_records(&stranger, action_id).await;
    assert_eq!(records.expect_err("another's").code(), "not_found");
    let settled = governor.settle(&stranger, action_id, 1, None).await;
    assert_eq!(
        settled.expect_err("another's").code(),
        "reservation_not_found"
    );
    let listed = governor.delegations(&stranger, None, 100).expect("lists");
    assert_eq!(listed, vec![]);
    let principals = governor.principals(&stranger, None, 100).expect("lists");
    assert_eq!(principals.len(), 1, "itself alone");
}

#[tokio::test]
async fn an_answer_is_not_repeated_to_who_lost_its_authority() {
    let world = World::new().await;
    let key = || Some(creto_governor::IdempotencyKey::new("k").expect("a key"));
    let before = world
        .governor
        .submit(&world.bot, action("history.read"), key())
        .await;
    assert_eq!(before.expect("answers").outcome, OutcomeKind::Allow);
    let revoked = world
        .governor
        .revoke(&world.owner, &world.planner_link, None)
        .await;
    revoked.expect("revokes");
    let after = world
        .governor
        .submit(&world.bot, action("history.read"), key())
        .await;
    assert_eq!(after.expect("answers").outcome, OutcomeKind::Deny);
}

#[tokio::test]
async fn another_delegation_of_the_same_agent_is_another_caller() {
    let world = World::new().await;
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let direct = world
        .governor
        .delegate(&world.owner, delegate("release-bot", "2.00", expires), None)
        .await
        .expect("delegates");
    let other = crate::world::enter(&world.governor, &world.owner, &direct.id).await;
    let key = || Some(creto_governor::IdempotencyKey::new("k").expect("a key"));
    let submitted = world
        .governor
        .submit(&world.bot, action("history.read"), key())
        .await;
    let id = submitted.expect("answers").action_id;
    let replayed = world
        .governor
        .submit(&other, action("history.read"), key())
        .await;
    assert_eq!(
        replayed.expect_err("another request").code(),
        "idempotency_key_reused"
    );
    let settled = world.governor.settle(&other, id, 0, None).await;
    assert_eq!(settled.expect_err("not its own").code(), "not_found");
}

#[tokio::test]
async fn no_token_is_issued_into_a_sandbox() {
    let world = World::new().await;
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let agent = PrincipalRequest {
        name: "helper".parse().expect("a name"),
        kind: "agent".to_owned(),
    };
    let made = world
        .governor
        .create_principal(&world.owner, agent, None)
        .await;
    made.expect("is made");
    let inside = world.inside_a_sandbox().await;
    let below = world
        .governor
        .delegate(&inside, delegate("helper", "0.50", expires), None)
        .await
        .expect("delegating works there");
    let request = TokenRequest {
        delegation: Some(below.id),
        ttl_seconds: None,
        instance: None,
        jkt: None,
    };
    let token = world.governor.issue_token(&inside, request, None).await;
    assert_eq!(token.expect_err("never").code(), "forbidden");
}

#[tokio::test]
async fn an_agent_is_heard_at_a_bounded_rate() {
    let world = World::new().await;
    let unknown = "act_00000000000000000000000000000000"
        .parse()
        .expect("an id");
    let mut codes = Vec::new();
    // Four times the burst of a hundred, and one more.
    for _ in 0..401 {
        let refused = world.governor.settle(&world.bot, unknown, 1, None).await;
        codes.push(refused.expect_err("there is none").code());
    }
    assert_eq!(codes.first(), Some(&"reservation_not_found"));
    assert_eq!(codes.last(), Some(&"too_many_requests"));
    let expires = "2026-03-02T12:00:00Z".parse().expect("an instant");
    let delegated = world
        .governor
        .delegate(&world.bot, delegate("planner", "0.10", expires), None)
        .await;
    assert_eq!(
        delegated.expect_err("nor heard here").code(),
        "too_many_requests"
    );
    let revoked = world
        .governor
        .revoke(&world.owner, &world.bot_link, None)
        .await;
    revoked.expect("a person is always heard");
}

#[tokio::test]
async fn evidence_names_the_instance_that_acted_and_the_token_it_came_by() {
    let world = World::new().await;
    let request = ExchangeRequest {
        instance: Some("pod-1".to_owned()),
        jkt: None,
        ttl_seconds: Some(60),
    };
    let exchanged = world.governor.exchange_token(&world.bot, None, request);
    let exchanged = exchanged.await.expect("exchanges");
    assert!(exchanged.leaf.is_some());
    assert_eq!(exchanged.instance.as_deref(), Some("pod-1"));
    let token = exchanged.token.expect("a token");
    let one = world.governor.authenticate(&token).expect("it holds");
    let org = world.bot.org();
    let last = || world.commits.evidence(org).pop().expect("a record");
    let issued = last();
    assert_eq!(issued.kind, "token.issued");
    assert_eq!(issued.actor, *world.bot.name());
    assert_eq!(issued.body["instance"], "pod-1");
    assert_eq!(issued.body["token_id"], json!(one.identity().token_id));
    assert_eq!(
        issued.body["exchanged_for"],
        json!(world.bot.identity().token_id)
    );
    assert!(!issued.body.to_string().contains(&token));

    for (caller, instance) in [(&one, json!("pod-1")), (&world.bot, json!(null))] {
        let answer = world.governor.submit(caller, action("history.read"), None);
        assert_eq!(answer.await.expect("answers").outcome, OutcomeKind::Allow);
        let records = world.commits.evidence(org).into_iter();
        let decided = records.rev().find(|record| record.kind == "action.decided");
        assert_eq!(decided.expect("it is recorded").body["instance"], instance);
    }

    // The owner issues for an instance too; a person has none.
    let mut request = TokenRequest {
        delegation: Some(world.bot_link.clone()),
        ttl_seconds: None,
        instance: Some("pod-2".to_owned()),
        jkt: None,
    };
    let issued = world
        .governor
        .issue_token(&world.owner, request.clone(), None);
    assert_eq!(
        issued.await.expect("issues").instance.as_deref(),
        Some("pod-2")
    );
    assert_eq!(last().body["instance"], "pod-2");
    request.delegation = None;
    let issued = world.governor.issue_token(&world.owner, request, None);
    assert_eq!(
        issued.await.expect_err("a person").code(),
        "invalid_identity_request"
    );
    world.check_records().await.expect("the records hold");
}
