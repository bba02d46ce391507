use std::sync::Arc;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    DryRunRequest, FilesRequest, GovernedEgress, IdempotencyKey, LimitsRequest, MountRequest,
    OutcomeKind, SandboxRequest, SandboxState, SuspensionRequest,
};
use creto_runtime::{EgressDecision as _, EgressProtocol, EgressRequest, EgressVerdict};
use creto_telemetry::Metrics;
use creto_types::{Clock as _, Commit, Evidence};
use serde_json::json;

use crate::policies::starter;
use crate::world::{World, action};

fn program(world: &World) -> SandboxRequest {
    SandboxRequest {
        delegation: world.bot_link.clone(),
        argv: vec!["true".to_owned()],
        env: std::collections::BTreeMap::new(),
        mounts: vec![MountRequest {
            name: "history".to_owned(),
            target: "/history".to_owned(),
        }],
        limits: LimitsRequest::default(),
    }
}

#[tokio::test]
async fn a_sandbox_is_its_agent_until_it_ends() {
    let world = World::new().await;
    let governor = &world.governor;
    let started = governor
        .launch(&world.owner, program(&world), None)
        .await
        .expect("starts");
    assert_eq!(started.state, SandboxState::Running);
    let id = started.id.parse().expect("an id");
    let inside = governor.sandbox_caller(id).expect("is bound");
    assert_eq!(inside.name().as_str(), "release-bot");
    let answer = governor.submit(&inside, action("history.read"), None).await;
    assert_eq!(answer.expect("answers").outcome, OutcomeKind::Allow);

    world.runtime.finish.notify_one();
    let wait = Some(Duration::from_secs(5));
    let ended = governor
        .sandbox(&world.owner, &started.id, wait)
        .await
        .expect("reads");
    assert_eq!(ended.state, SandboxState::Exited);
    assert_eq!(
        (ended.exit.as_deref(), ended.exit_code),
        (Some("exited"), Some(0))
    );
    assert_eq!(ended.stdout.as_deref(), Some("done"));
    assert!(
        governor.sandbox_caller(id).is_none(),
        "bound to nobody any more"
    );
}

#[tokio::test]
async fn a_repeated_launch_starts_nothing() {
    let world = World::new().await;
    let key = || Some(IdempotencyKey::new("launch").expect("a key"));
    let first = world
        .governor
        .launch(&world.owner, program(&world), key())
        .await;
    let second = world
        .governor
        .launch(&world.owner, program(&world), key())
        .await;
    assert_eq!(first.expect("starts").id, second.expect("repeats").id);
    assert_eq!(world.runtime.started.lock().len(), 1);
}

#[tokio::test]
async fn a_failed_start_is_said_and_recorded() {
    let world = World::new().await;
    *world.runtime.fail.lock() = true;
    let failed = world
        .governor
        .launch(&world.owner, program(&world), None)
        .await;
    assert_eq!(failed.expect_err("fails").code(), "sandbox_start_failed");
    let listed = world
        .governor
        .sandboxes(&world.owner, None, 10)
        .await
        .expect("lists");
    assert_eq!(listed[0].exit.as_deref(), Some("failed_to_start"));
    assert!(world.kinds().ends_with(&["sandbox.ended".to_owned()]));
}

#[tokio::test]
async fn killing_and_its_limits() {
    let world = World::new().await;
    let governor = &world.governor;
    let started = governor
        .launch(&world.owner, program(&world), None)
        .await
        .expect("starts");
    assert!(
        governor.kill(&world.bot, &started.id).await.is_err(),
        "owner's work"
    );
    let killed = governor
        .kill(&world.owner, &started.id)
        .await
        .expect("ends");
    assert_eq!(killed.exit.as_deref(), Some("killed"));

    let mut unknown = program(&world);
    unknown.mounts[0].name = "etc".to_owned();
    let refused = governor.launch(&world.owner, unknown, None).await;
    let text = refused.expect_err("no such volume").to_string();
    assert!(text.contains("the configuration has: history"), "{text}");
    let mut greedy = program(&world);
    greedy.limits.memory_bytes = Some(1 << 50);
    let refused = governor.launch(&world.owner, greedy, None).await;
    assert_eq!(refused.expect_err("too much").code(), "invalid_request");
    let by_agent = governor.launch(&world.planner, program(&world), None).await;
    assert_eq!(by_agent.expect_err("owner's work").code(), "forbidden");
}

#[tokio::test]
async fn what_was_running_is_lost_after_a_restart() {
    let world = World::new().await;
    let started = world
        .governor
        .launch(&world.owner, program(&world), None)
        .await;
    let id = started.expect("starts").id;
    world.governor.recover().await.expect("recovers");
    let lost = world
        .governor
        .sandbox(&world.owner, &id, None)
        .await
        .expect("reads");
    assert_eq!(lost.state, SandboxState::Lost);
}

fn egress(world: &World) -> GovernedEgress {
    GovernedEgress {
        bindings: world.bindings.clone(),
        authz: world.authz.clone(),
        audit: world.audit.clone(),
        oracle: world.oracle.clone(),
        metrics: Arc::new(Metrics::new("test")),
        shadow: world.shadow.clone(),
    }
}

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
    let egress = egress(&world);
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
    let egress = egress(&world);
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
    assert_eq!((same.judged, same.different, same.skipped), (2, 0, 2));
    let mut files = starter();
    files.remove("egress.cedar");
    files.remove("egress.test.json");
    let without = run(files).await;
    assert_eq!((without.judged, without.different), (2, 1), "{without:?}");
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
    let started = world
        .governor
        .launch(&world.owner, program(&world), None)
        .await;
    let sandbox = started.expect("starts").id.parse().expect("an id");
    let egress = egress(&world);
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
