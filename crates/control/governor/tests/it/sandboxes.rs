use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    IdempotencyKey, LimitsRequest, MountRequest, OutcomeKind, SandboxRequest, SandboxState,
};

use crate::world::{World, action};

pub(crate) fn program(world: &World) -> SandboxRequest {
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
