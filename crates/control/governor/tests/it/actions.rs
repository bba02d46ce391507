use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    AccessRequest, ActionAnswer, ApprovalReference, GovernError, Governor, IdempotencyKey,
    OutcomeKind, Question,
};
use serde_json::json;

use crate::policies::{publish, starter};
use crate::world::{World, action, usd};

fn key(text: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(text).expect("a key"))
}

fn remaining(world: &World, caller: &creto_governor::Caller) -> Vec<creto_types::Money> {
    let chain = world.governor.whoami(caller).expect("answers").chain;
    chain
        .into_iter()
        .filter_map(|hop| hop.balance)
        .filter_map(|balance| balance.remaining.money())
        .collect()
}

async fn request_id(governor: &Governor, bot: &creto_governor::Caller) -> String {
    let asked = governor
        .submit(bot, action("release.publish"), None)
        .await
        .expect("answers");
    assert_eq!(asked.outcome, OutcomeKind::RequiresOversight);
    asked.oversight.expect("names the request").request_id
}

#[tokio::test]
async fn an_allowed_action_is_charged_to_every_hop_and_settled() {
    let world = World::new().await;
    let mut request = action("history.read");
    request.units = 10;
    let answer = world.governor.submit(&world.bot, request, None).await;
    let answer = answer.expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::Allow);
    assert_eq!(answer.policy_ids, ["release-work"]);
    assert_eq!(answer.cost, Some(usd("0.10")));
    assert!(answer.leaf.is_some() && answer.reserved_until.is_some());
    assert_eq!(remaining(&world, &world.bot), [usd("4.90"), usd("0.90")]);

    let settled = world
        .governor
        .settle(&world.bot, answer.action_id, 4, None)
        .await
        .expect("settles");
    assert_eq!(settled.cost, usd("0.04"));
    assert_eq!(remaining(&world, &world.bot), [usd("4.96"), usd("0.96")]);
    assert_eq!(remaining(&world, &world.planner), [usd("4.96")]);

    let twice = world
        .governor
        .settle(&world.bot, answer.action_id, 4, None)
        .await
        .expect_err("is settled already");
    assert_eq!(twice.code(), "reservation_closed");
    let records = world
        .governor
        .action_records(&world.owner, answer.action_id)
        .await
        .expect("reads");
    let kinds: Vec<_> = records
        .iter()
        .map(|(_, record)| record.value()["kind"].clone())
        .collect();
    assert_eq!(kinds, [json!("action.decided"), json!("usage.settled")]);
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn what_no_policy_permits_is_denied_and_recorded() {
    let world = World::new().await;
    let mut request = action("history.read");
    request.resource = "payroll".into();
    let answer = world.governor.submit(&world.bot, request, None).await;
    let answer = answer.expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::Deny);
    assert_eq!(answer.reason.code, "right_not_delegated");
    assert!(answer.leaf.is_some(), "a denial is evidence");
    assert_eq!(remaining(&world, &world.bot), [usd("5.00"), usd("1.00")]);
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_and_charges_once() {
    let world = World::new().await;
    let submit = || {
        world
            .governor
            .submit(&world.bot, action("history.read"), key("k-1"))
    };
    let first = submit().await.expect("answers");
    let second = submit().await.expect("answers");
    assert_eq!(first, second);
    assert_eq!(remaining(&world, &world.bot), [usd("4.99"), usd("0.99")]);

    let other = world
        .governor
        .submit(&world.bot, action("changelog.draft"), key("k-1"))
        .await
        .expect_err("stands for another request");
    assert_eq!(other.code(), "idempotency_key_reused");
    let by_another = world
        .governor
        .submit(&world.planner, action("changelog.draft"), key("k-1"))
        .await;
    assert_eq!(by_another.expect("its own key").outcome, OutcomeKind::Allow);
}

#[tokio::test]
async fn concurrent_calls_with_one_key_are_one_action() {
    let world = World::new().await;
    let calls = (0..8).map(|_| {
        let (governor, bot) = (world.governor.clone(), world.bot.clone());
        tokio::spawn(async move {
            governor
                .submit(&bot, action("history.read"), key("same"))
                .await
                .expect("answers")
        })
    });
    let mut answers: Vec<ActionAnswer> = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.expect("ends"));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(remaining(&world, &world.bot), [usd("4.99"), usd("0.99")]);
}

#[tokio::test]
async fn a_budget_runs_out_and_says_whose() {
    let world = World::new().await;
    for _ in 0..3 {
        let answer = world
            .governor
            .submit(&world.bot, action("changelog.draft"), None)
            .await;
        assert_eq!(answer.expect("answers").outcome, OutcomeKind::Allow);
    }
    let answer = world
        .governor
        .submit(&world.bot, action("changelog.draft"), None)
        .await;
    let answer = answer.expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::QuotaExceeded);
    let quota = answer.quota.expect("names the budget");
    assert_eq!(
        quota.subject.principal.expect("a principal").as_str(),
        "release-bot"
    );
    assert_eq!(
        (quota.limit, quota.used),
        (usd("1.00").into(), usd("0.90").into())
    );
    assert_eq!(quota.resets_at, None, "a total never resets");
    assert_eq!(answer.policy_ids, ["release-work"]);
}

#[tokio::test]
async fn what_nobody_settles_is_given_back() {
    let world = World::new().await;
    let answer = world
        .governor
        .submit(&world.bot, action("changelog.draft"), None)
        .await;
    let id = answer.expect("answers").action_id;
    world.clock.advance(Duration::from_secs(61));
    world.governor.sweep().await.expect("sweeps");
    assert_eq!(remaining(&world, &world.bot), [usd("5.00"), usd("1.00")]);
    let late = world.governor.settle(&world.bot, id, 1, None).await;
    assert!(late.is_err(), "too late");
    let released = last_body(&world, "usage.released");
    assert_eq!(released["delegation"], world.bot_link);
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn a_release_gives_everything_back() {
    let world = World::new().await;
    let answer = world
        .governor
        .submit(&world.bot, action("changelog.draft"), None)
        .await;
    let id = answer.expect("answers").action_id;
    let stranger = world.governor.release(&world.planner, id, None).await;
    assert_eq!(stranger.expect_err("not its own").code(), "not_found");
    let released = world.governor.release(&world.bot, id, None).await;
    assert_eq!(released.expect("releases").state, "released");
    assert_eq!(remaining(&world, &world.bot), [usd("5.00"), usd("1.00")]);
}

#[tokio::test]
async fn a_grant_covers_one_action_once() {
    let world = World::new().await;
    let governor = &world.governor;
    let id = request_id(governor, &world.bot).await;
    let again = request_id(governor, &world.bot).await;
    assert_eq!(id, again, "the same action waits once");
    let id = id.parse().expect("an id");

    let by_agent = governor.approve(&world.planner, id, None, None).await;
    assert_eq!(
        by_agent.expect_err("agents do not approve").code(),
        "forbidden"
    );
    let approved = governor
        .approve(&world.owner, id, None, None)
        .await
        .expect("approves");
    assert_eq!(approved.state, "approved");
    assert_eq!(approved.grant, None, "the grant is not the approver's");
    let seen = governor
        .oversight_request(&world.bot, id, None)
        .await
        .expect("reads");
    let grant = seen.grant.expect("the agent's");

    let mut changed = action("release.publish");
    changed.grant = Some(grant.clone());
    changed.args = json!({ "version": "6.6.6" });
    let refused = governor
        .submit(&world.bot, changed, None)
        .await
        .expect("answers");
    assert_eq!(refused.outcome, OutcomeKind::Deny);
    assert_eq!(refused.reason.code, "grant_action_mismatch");

    let mut exact = action("release.publish");
    exact.grant = Some(grant.clone());
    let stolen = governor
        .submit(&world.planner, exact.clone(), None)
        .await
        .expect("answers");
    assert_eq!(stolen.reason.code, "grant_not_yours");

    let used = governor
        .submit(&world.bot, exact.clone(), None)
        .await
        .expect("answers");
    assert_eq!(used.outcome, OutcomeKind::Allow, "{:?}", used.reason);
    let second = governor
        .submit(&world.bot, exact, None)
        .await
        .expect("answers");
    assert_eq!(second.outcome, OutcomeKind::Deny);
    assert_eq!(second.reason.code, "grant_used");
    let seen = governor
        .oversight_request(&world.bot, id, None)
        .await
        .expect("reads");
    assert_eq!(seen.state, "used");
}

#[tokio::test]
async fn a_grant_opens_what_the_policy_said_and_not_what_took_its_name() {
    let world = World::new().await;
    let governor = &world.governor;
    let id = request_id(governor, &world.bot).await;
    let asked = id.parse().expect("an id");
    let approved = governor.approve(&world.owner, asked, None, None).await;
    let digests = approved.expect("approves").policy_digests;
    assert!(digests["publish-needs-a-human"].len() == 64, "{digests:?}");
    let seen = governor.oversight_request(&world.bot, asked, None).await;
    let mut exact = action("release.publish");
    exact.grant = seen.expect("reads").grant;

    let policy = |kind: &str| {
        let mut files = starter();
        let text = files.get_mut("release.cedar").expect("ships");
        assert!(text.contains("@oversight(\"release\")"), "{text}");
        *text = text.replace("@oversight(\"release\")", kind);
        files.remove("release.test.json");
        publish(files)
    };
    let stricter = policy("@oversight(\"two-people\")");
    let published = governor.publish_policies(&world.owner, stricter, None);
    published.await.expect("publishes");
    let refused = governor.submit(&world.bot, exact.clone(), None).await;
    let refused = refused.expect("answers");
    assert_eq!(refused.outcome, OutcomeKind::RequiresOversight);
    let anew = refused.oversight.expect("names the request").request_id;
    assert_ne!(anew, id, "another rule asks another question");

    // The grant is not used up, and opens it once the rule is what it was.
    let as_before = policy("@oversight(\"release\")");
    let published = governor.publish_policies(&world.owner, as_before, None);
    published.await.expect("publishes");
    let used = governor.submit(&world.bot, exact, None).await;
    assert_eq!(used.expect("answers").outcome, OutcomeKind::Allow);
}

#[tokio::test]
async fn one_grant_in_many_hands_is_used_once() {
    let world = World::new().await;
    let governor = &world.governor;
    let id = request_id(governor, &world.bot)
        .await
        .parse()
        .expect("an id");
    governor
        .approve(&world.owner, id, None, None)
        .await
        .expect("approves");
    let seen = governor
        .oversight_request(&world.bot, id, None)
        .await
        .expect("reads");
    let mut exact = action("release.publish");
    exact.grant = seen.grant;
    // As many as the budget holds while all of them are being decided.
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (governor, bot, exact) = (governor.clone(), world.bot.clone(), exact.clone());
            tokio::spawn(async move { governor.submit(&bot, exact, None).await.expect("answers") })
        })
        .collect();
    let mut allowed = 0;
    for call in calls {
        match call.await.expect("ends") {
            answer if answer.outcome == OutcomeKind::Allow => allowed += 1,
            answer => assert_eq!(answer.reason.code, "grant_used"),
        }
    }
    assert_eq!(allowed, 1);
    assert_eq!(remaining(&world, &world.bot), [usd("4.75"), usd("0.75")]);
}

#[tokio::test]
async fn denied_and_expired_are_told_apart() {
    let world = World::new().await;
    let governor = &world.governor;
    let id = request_id(governor, &world.bot)
        .await
        .parse()
        .expect("an id");
    let reason = Some("not on a Friday".to_owned());
    governor
        .deny_request(&world.owner, id, reason, None)
        .await
        .expect("denies");
    let seen = governor
        .oversight_request(&world.bot, id, None)
        .await
        .expect("reads");
    assert_eq!(seen.state, "denied");
    assert_eq!(seen.decision_reason.as_deref(), Some("not on a Friday"));

    let late = request_id(governor, &world.bot)
        .await
        .parse()
        .expect("an id");
    world.clock.advance(Duration::from_secs(61));
    world.governor.sweep().await.expect("sweeps");
    let seen = governor
        .oversight_request(&world.bot, late, None)
        .await
        .expect("reads");
    assert_eq!(seen.state, "expired");
    let too_late = governor.approve(&world.owner, late, None, None).await;
    assert_eq!(too_late.expect_err("too late").code(), "oversight_expired");
    let expired = last_body(&world, "oversight.expired");
    assert_eq!(expired["delegation"], world.bot_link);
}

/// What the last record of this kind says. Whose a record is, for whom it is erased, is
/// found by the delegation that it names.
fn last_body(world: &World, kind: &str) -> serde_json::Value {
    let evidence = world.commits.evidence(world.owner.org());
    let mut records = evidence.into_iter().filter(|record| record.kind == kind);
    records.next_back().expect("there is one").body
}

#[tokio::test]
async fn what_cannot_be_judged_is_refused_by_field() {
    let world = World::new().await;
    let mut cases = Vec::new();
    let changes: [fn(&mut creto_governor::ActionRequest); 4] = [
        |request| request.action.clear(),
        |request| request.resource = "x".repeat(600).into(),
        |request| request.units = 0,
        |request| request.args = json!("x".repeat(70_000)),
    ];
    for change in changes {
        let mut request = action("history.read");
        change(&mut request);
        let refused = world.governor.submit(&world.bot, request, None).await;
        cases.push(refused.expect_err("refused").to_string());
    }
    for (case, field) in cases.iter().zip(["action", "resource", "units", "args"]) {
        assert!(case.starts_with(&format!("`{field}`")), "{case}");
    }
}

#[tokio::test]
async fn asking_alone_has_a_bound_and_costs_no_record() {
    let world = World::new().await;
    let mut denied = action("history.read");
    denied.resource = "payroll".into();
    let records = || world.kinds().len();
    let mut unheard = 0;
    // Four times the burst of a hundred, and a few more.
    for _ in 0..410 {
        let before = records();
        let answer = world
            .governor
            .submit(&world.bot, denied.clone(), None)
            .await
            .expect("answers");
        if answer.reason.code == "too_many_questions" {
            assert_eq!(answer.outcome, OutcomeKind::RateLimited);
            assert!(answer.retry_after_ms.is_some());
            assert_eq!(records(), before, "no record");
            unheard += 1;
        }
    }
    assert_eq!(unheard, 10);

    // With an approval, or asking for one, it is the same: nothing was decided.
    let question = Question {
        subject: None,
        action: "history.read".to_owned(),
        resource_type: "Resource".to_owned(),
        resource_id: "repo:creto".to_owned(),
        units: 1,
        context: Vec::new(),
    };
    let approval = ApprovalReference {
        request: "ovr_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".to_owned(),
        grant: "grt_none".to_owned().into(),
    };
    let before = records();
    let governor = &world.governor;
    let used = governor.use_approval(&world.bot, &question, approval, None);
    let used = used.await.map(|answer| answer.reason.code);
    let shown = serde_json::Value::Null;
    let access = AccessRequest { question, shown };
    let requested = governor.request_access(&world.bot, access, None).await;
    for refused in [used.err(), requested.err()] {
        let wait = match &refused {
            Some(GovernError::TooManyRequests { retry_after }) => *retry_after,
            _ => Duration::ZERO,
        };
        assert!(wait > Duration::ZERO, "{refused:?}");
    }
    assert_eq!(records(), before, "no record");
}

#[tokio::test]
async fn gauges_start_from_what_is_there() {
    let world = World::new().await;
    let submitted = world
        .governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    let id = submitted.expect("answers").action_id;
    request_id(&world.governor, &world.bot).await;
    let metrics = world.governor.metrics();
    // As a process that was just started knows nothing.
    metrics.reservations_open.set(0);
    metrics.oversight_pending.set(0);
    world.governor.recover().await.expect("recovers");
    assert_eq!(metrics.reservations_open.get(), 1);
    assert_eq!(metrics.oversight_pending.get(), 1);
    world
        .governor
        .settle(&world.bot, id, 1, None)
        .await
        .expect("settles");
    assert_eq!(metrics.reservations_open.get(), 0);
}
