//! What leaves a sandbox: judged, and counted where it counts.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    DryRunRequest, FilesRequest, GovernedEgress, Governor, OutcomeKind, RateRequest, RateSubject,
    SandboxState, SuspensionRequest, UsageQuery,
};
use creto_metering::{MeterConfig, OpenBounds};
use creto_runtime::{EgressDecision, EgressProtocol, EgressRequest, EgressVerdict, SandboxId};
use creto_types::{Clock as _, Commit, Evidence, Quantity};
use serde_json::{Value, json};

use crate::held::{self, Moment};
use crate::limits::limit;
use crate::policies::starter;
use crate::sandboxes::program;
use crate::world::{World, action};

fn ask(host: &str) -> EgressRequest {
    EgressRequest {
        host: host.to_owned(),
        port: 80,
        protocol: EgressProtocol::Http,
    }
}

/// It runs on and reaches nothing, whoever in its chain is suspended; what it asks of
/// the server is refused too.
#[tokio::test]
async fn a_running_sandbox_of_a_suspended_agent_reaches_nothing() {
    let world = World::new().await;
    let governor = &world.governor;
    let started = governor.launch(&world.owner, program(&world), None).await;
    let started = started.expect("starts").id;
    let sandbox = started.parse().expect("an id");
    let inside = governor.sandbox_caller(sandbox).expect("is bound");
    let egress = GovernedEgress::new(governor.clone());
    let because = || SuspensionRequest {
        reason: "it loops".to_owned(),
    };
    for who in ["release-bot", "planner"] {
        let name = who.parse().expect("a name");
        let allowed = egress.decide(sandbox, &ask("releases.example.test")).await;
        assert!(allowed.is_allow(), "{allowed:?}");
        let done = governor.suspend_principal(&world.owner, &name, because(), None);
        done.await.expect("suspends");
        for host in ["releases.example.test", "evil.example.test"] {
            let verdict = egress.decide(sandbox, &ask(host)).await;
            assert!(
                matches!(
                    verdict,
                    EgressVerdict::Refuse { ref code, .. } if code == "principal_suspended"
                ),
                "{who}, {host}: {verdict:?}"
            );
        }
        let answer = governor.submit(&inside, action("history.read"), None).await;
        assert_eq!(answer.expect("answers").reason.code, "principal_suspended");
        let runs = governor.sandbox(&world.owner, &started, None).await;
        assert_eq!(runs.expect("reads").state, SandboxState::Running);
        let done = governor.resume_principal(&world.owner, &name, because(), None);
        done.await.expect("resumes");
    }
    let allowed = egress.decide(sandbox, &ask("releases.example.test")).await;
    assert!(allowed.is_allow(), "{allowed:?}");
}

/// Connections are live traffic too.
#[tokio::test]
async fn a_candidate_is_asked_about_connections() {
    let world = World::new().await;
    let governor = &world.governor;
    let started = governor.launch(&world.owner, program(&world), None).await;
    let sandbox = started.expect("starts").id.parse().expect("an id");
    let mut files = starter();
    files.remove("egress.cedar");
    files.remove("egress.test.json");
    let request = FilesRequest { files };
    let shadow = governor.start_policy_shadow(&world.owner, request, None);
    assert!(shadow.await.expect("starts").active);
    let egress = GovernedEgress::new(governor.clone());
    let allowed = egress.decide(sandbox, &ask("releases.example.test")).await;
    assert!(allowed.is_allow(), "{allowed:?}");
    let told = loop {
        let told = governor.policy_shadow(&world.owner).expect("answers");
        if told.judged >= 1 {
            break told;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((told.judged, told.different), (1, 1));
}

/// And those that were checked are in the log.
#[tokio::test]
async fn a_candidate_is_asked_again_about_connections() {
    let world = World::new().await;
    let governor = &world.governor;
    let started = governor.launch(&world.owner, program(&world), None).await;
    let sandbox = started.expect("starts").id;
    let refused = |code: &str| json!({"code": code, "message": "why"});
    for (sandbox, host, outcome, reason) in [
        (
            sandbox.as_str(),
            "releases.example.test",
            "allow",
            json!(null),
        ),
        (
            &sandbox,
            "evil.example.test",
            "refuse",
            refused("no_policy_permits"),
        ),
        (&sandbox, "10.0.0.1", "refuse", refused("private_address")),
        (
            &sandbox,
            "releases.example.test",
            "refuse",
            refused("limit_exceeded"),
        ),
        ("sbx_unknown", "releases.example.test", "allow", json!(null)),
    ] {
        let record = Evidence {
            org: world.owner.org(),
            kind: "egress.checked".to_owned(),
            at: world.clock.now(),
            actor: "release-bot".parse().expect("a name"),
            action_id: None,
            body: json!({
                "sandbox_id": sandbox, "protocol": "http", "destination": host, "port": 80,
                "outcome": outcome, "reason": reason, "policy_ids": [],
            }),
        };
        world.commits.apply(&Commit::of(record)).expect("commits");
    }
    let run = async |files| {
        let request = DryRunRequest {
            files,
            since: world.clock.now() - Duration::from_secs(60),
            until: None,
            before: None,
        };
        let answer = governor.dry_run_policies(&world.owner, request).await;
        answer.expect("answers")
    };
    let same = run(starter()).await;
    assert_eq!((same.judged, same.different, same.skipped), (3, 0, 2));
    let mut files = starter();
    files.remove("egress.cedar");
    files.remove("egress.test.json");
    let without = run(files).await;
    assert_eq!((without.judged, without.different), (3, 2), "{without:?}");
    let difference = &without.items[0];
    assert_eq!(difference.resource, "releases.example.test");
    assert_eq!(difference.resource_type.as_deref(), Some("Creto::Host"));
    assert_eq!(difference.candidate.code, "no_policy_permits");
    assert_eq!(
        json!(difference.context),
        json!({"port": 80, "protocol": "http"})
    );
}

#[tokio::test]
async fn egress_follows_policy_and_delegation() {
    let world = World::new().await;
    let governor = &world.governor;
    let started = governor.launch(&world.owner, program(&world), None).await;
    let sandbox = started.expect("starts").id.parse().expect("an id");
    let egress = GovernedEgress::new(governor.clone());
    let allowed = egress.decide(sandbox, &ask("releases.example.test")).await;
    assert!(allowed.is_allow(), "{allowed:?}");
    let refused = egress.decide(sandbox, &ask("evil.example.test")).await;
    assert!(
        matches!(refused, EgressVerdict::Refuse { ref code, .. } if code == "right_not_delegated")
    );

    world
        .governor
        .revoke(&world.owner, &world.planner_link, None)
        .await
        .expect("revokes");
    let revoked = egress.decide(sandbox, &ask("releases.example.test")).await;
    assert!(
        matches!(revoked, EgressVerdict::Refuse { ref code, .. } if code == "delegation_revoked")
    );
}

/// A governor of the same organization that counts connections, and a sandbox of it.
async fn counting(world: &World) -> (Arc<Governor>, SandboxId) {
    let governor = world.restarted_with(|stores| stores.egress_counted = true);
    let started = governor.launch(&world.owner, program(world), None).await;
    let sandbox = started.expect("starts").id.parse().expect("an id");
    (governor, sandbox)
}

fn rate() -> RateRequest {
    let bot = RateSubject::Agent("release-bot".parse().expect("a name"));
    RateRequest {
        event: Some("network_egress".to_owned()),
        ..RateRequest::per_second(bot, NonZeroU32::MIN, NonZeroU32::MIN)
    }
}

fn code(verdict: &EgressVerdict) -> &str {
    match verdict {
        EgressVerdict::Allow { .. } => "",
        EgressVerdict::Refuse { code, .. } => code,
    }
}

fn bodies(world: &World, kind: &str) -> Vec<Value> {
    let evidence = world.commits.evidence(world.owner.org());
    let of_kind = evidence.iter().filter(|record| record.kind == kind);
    of_kind.map(|record| record.body.clone()).collect()
}

/// They are used and on record before anything passes, and the next one is refused.
#[tokio::test]
async fn connections_count_where_the_configuration_says_so() {
    let world = World::new().await;
    let (governor, sandbox) = counting(&world).await;
    let egress = GovernedEgress::new(governor.clone());
    let host = ask("releases.example.test");
    let set = governor.set_limit(&world.owner, limit(2, Some("network_egress")), None);
    set.await.expect("sets it");
    let name = EgressRequest {
        port: 0,
        protocol: EgressProtocol::Dns,
        ..host.clone()
    };
    for _ in 0..3 {
        let verdict = egress.decide(sandbox, &name).await;
        assert!(
            matches!(
                verdict,
                EgressVerdict::Allow {
                    on_record: false,
                    ..
                }
            ),
            "a name is no connection: {verdict:?}"
        );
    }
    for _ in 0..2 {
        let verdict = egress.decide(sandbox, &host).await;
        assert!(
            matches!(&verdict, EgressVerdict::Allow { on_record: true, policies } if !policies.is_empty()),
            "{verdict:?}"
        );
        assert!(egress.decide_again(sandbox, &host).await.is_allow());
    }
    let third = egress.decide(sandbox, &host).await;
    assert_eq!(code(&third), "limit_exceeded", "{third:?}");
    assert!(egress.decide_again(sandbox, &host).await.is_allow());
    // What policies refuse takes nothing.
    let evil = egress.decide(sandbox, &ask("evil.example.test")).await;
    assert_eq!(code(&evil), "right_not_delegated");

    let checked = bodies(&world, "egress.checked");
    assert_eq!(checked.len(), 2, "{checked:?}");
    assert_eq!(checked[0]["destination"], "releases.example.test");
    assert_eq!(checked[0]["units"], 1);
    assert_eq!(checked[0]["delegations"].as_array().map(Vec::len), Some(2));
    let settled = bodies(&world, "usage.settled");
    assert_eq!(settled.len(), 2);
    assert_eq!(settled[0]["action"], "network_egress");
    assert_eq!(settled[0]["expired"], Value::Null);
    world.check_records().await.expect("a good log");
    assert_eq!(world.meter.open_reservations(), 0);

    // The same in the counters that are built from the ledger.
    let listed = governor.list_limits(&world.owner, None, 10).expect("lists");
    let balance = listed[0].balance.as_ref().expect("is counted");
    assert_eq!(balance.used, Quantity::Units(2));
    world.clock.advance(Duration::from_secs(1));
    let usage = governor.usage(&world.owner, UsageQuery::default()).await;
    let lines = usage.expect("reads").lines;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&*lines[0].action, lines[0].events), ("network_egress", 2));
}

/// A budget that counts units counts these, and a rate tells how long to wait.
#[tokio::test]
async fn connections_are_paced_and_count_in_what_counts_all() {
    let world = World::new().await;
    let (governor, sandbox) = counting(&world).await;
    let egress = GovernedEgress::new(governor.clone());
    let host = ask("releases.example.test");
    let set = governor.set_rate(&world.owner, rate(), None);
    set.await.expect("sets it");
    let set = governor.set_limit(&world.owner, limit(3, None), None);
    set.await.expect("sets it");
    assert!(egress.decide(sandbox, &host).await.is_allow());
    let fast = egress.decide(sandbox, &host).await;
    let EgressVerdict::Refuse {
        code,
        message,
        retry_after: Some(wait),
        ..
    } = fast
    else {
        panic!("{fast:?}");
    };
    assert_eq!(code, "rate_limited");
    assert!(message.contains("`network_egress`"), "{message}");
    world.clock.advance(wait);
    assert!(egress.decide(sandbox, &host).await.is_allow());
    let inside = governor.sandbox_caller(sandbox).expect("is bound");
    let third = governor.submit(&inside, action("history.read"), None).await;
    assert_eq!(third.expect("answers").outcome, OutcomeKind::Allow);
    world.clock.advance(wait);
    let verdict = egress.decide(sandbox, &host).await;
    assert!(
        matches!(&verdict, EgressVerdict::Refuse { code, .. } if code == "limit_exceeded"),
        "{verdict:?}"
    );
}

/// What the ledger does not take does not pass.
#[tokio::test]
async fn what_cannot_be_counted_does_not_pass() {
    let (world, gate) = held::world().await;
    let (governor, sandbox) = counting(&world).await;
    let egress = GovernedEgress::new(governor);
    let host = ask("releases.example.test");
    gate.shut(Moment::Settle);
    let verdict = egress.decide(sandbox, &host).await;
    assert_eq!(code(&verdict), "store_unavailable", "{verdict:?}");
    assert!(bodies(&world, "usage.settled").is_empty());
    assert_eq!(bodies(&world, "egress.checked").len(), 1, "it was reserved");
    assert!(egress.decide(sandbox, &host).await.is_allow());
}

/// A program that ends while its connection becomes durable leaves nothing half done.
#[tokio::test]
async fn a_connection_that_nobody_waits_for_any_more_is_carried_through() {
    let (world, gate) = held::world().await;
    let (governor, sandbox) = counting(&world).await;
    let egress = Arc::new(GovernedEgress::new(governor.clone()));
    gate.shut(Moment::Reserve);
    let deciding = {
        let egress = Arc::clone(&egress);
        tokio::spawn(async move { egress.decide(sandbox, &ask("releases.example.test")).await })
    };
    gate.arrival().await;
    deciding.abort();
    assert!(deciding.await.expect_err("was ended").is_cancelled());
    gate.open();
    while bodies(&world, "usage.settled").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.meter.open_reservations(), 0);
}

/// A connection needs a place among the open reservations, and no rate counts what has none.
#[tokio::test]
async fn a_connection_waits_for_room_among_the_open_reservations() {
    let config = MeterConfig {
        open: OpenBounds {
            per_agent: 1,
            ..OpenBounds::default()
        },
        ..MeterConfig::default()
    };
    let world = World::metered(config).await;
    let (governor, sandbox) = counting(&world).await;
    let egress = GovernedEgress::new(governor.clone());
    let host = ask("releases.example.test");
    let set = governor.set_rate(&world.owner, rate(), None);
    set.await.expect("sets it");
    let inside = governor.sandbox_caller(sandbox).expect("is bound");
    let open = governor.submit(&inside, action("history.read"), None).await;
    let crowded = egress.decide(sandbox, &host).await;
    assert!(
        matches!(&crowded, EgressVerdict::Refuse { code, retry_after: Some(_), .. }
            if code == "too_many_open_reservations"),
        "{crowded:?}"
    );
    let id = open.expect("answers").action_id;
    let released = governor.release(&inside, id, None).await;
    released.expect("releases");
    let verdict = egress.decide(sandbox, &host).await;
    assert!(verdict.is_allow(), "{verdict:?}");
}

/// Whoever is revoked while its connection becomes durable does not make it.
#[tokio::test]
async fn a_revocation_overtakes_a_connection() {
    let (world, gate) = held::world().await;
    let (governor, sandbox) = counting(&world).await;
    let egress = GovernedEgress::new(governor.clone());
    let host = ask("releases.example.test");
    gate.shut(Moment::Limit);
    // Becoming durable waits for the limit that is being set.
    let (set, verdict, revoked) = tokio::join!(
        governor.set_limit(&world.owner, limit(9, Some("network_egress")), None),
        egress.decide(sandbox, &host),
        async {
            gate.arrival().await;
            let revoked = governor
                .revoke(&world.owner, &world.planner_link, None)
                .await;
            gate.open();
            revoked
        }
    );
    set.expect("sets it");
    revoked.expect("revokes");
    assert_eq!(code(&verdict), "delegation_revoked", "{verdict:?}");
    assert!(bodies(&world, "egress.checked").is_empty());
}

/// Else a limit would be kept by nobody.
#[tokio::test]
async fn a_server_that_counts_no_connections_takes_no_limit_of_them_and_keeps_none() {
    let world = World::new().await;
    let governor = &world.governor;
    let egress = limit(1, Some("network_egress"));
    let limited = governor.set_limit(&world.owner, egress.clone(), None).await;
    assert_eq!(limited.expect_err("is refused").code(), "unsupported");
    let paced = governor.set_rate(&world.owner, rate(), None).await;
    assert_eq!(paced.expect_err("is refused").code(), "unsupported");
    let listed = governor.list_limits(&world.owner, None, 10);
    assert!(listed.expect("lists").is_empty());
    governor.counts_what_is_limited().expect("starts");

    let (counting, _) = counting(&world).await;
    let set = counting.set_limit(&world.owner, egress, None).await;
    let id = set.expect("sets it").id;
    let started = world.restarted().counts_what_is_limited();
    let text = started.expect_err("would not keep it").to_string();
    for part in ["runtime.egress.counted", &id] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let removed = counting.remove_limit(&world.owner, id.parse().expect("an id"), None);
    removed.await.expect("removes it");
    world.restarted().counts_what_is_limited().expect("starts");
}
