//! The life of policies: published, refused, rolled back, followed, tried.

use std::collections::BTreeMap;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{
    CheckedBundle, DryRunRequest, Fact, FilesRequest, FollowRequest, GovernError, IdempotencyKey,
    OutcomeKind, PolicyFiles, PolicySource, PublishPoliciesRequest, Question, ResourceJson,
    RollbackPoliciesRequest, TypedResource,
};
use creto_types::{Clock as _, Commit, Evidence};
use serde_json::{Value, json};

use crate::world::{World, action, delegate, enter, right};

pub(crate) type Files = BTreeMap<String, String>;

pub(crate) fn starter() -> Files {
    PolicyFiles::starter().files().clone()
}

/// The starter set, in which nobody reads the history.
pub(crate) fn without_reading() -> Files {
    let mut files = starter();
    let policies = files.get_mut("release.cedar").expect("ships");
    *policies = policies.replace("Creto::Action::\"history.read\",", "");
    files.remove("release.test.json");
    files
}

pub(crate) fn publish(files: Files) -> PublishPoliciesRequest {
    PublishPoliciesRequest {
        files,
        reason: "a reason".to_owned(),
        expect_version: None,
    }
}

pub(crate) fn bundle(files: Files) -> CheckedBundle {
    CheckedBundle::check(PolicyFiles::new(files).expect("a bundle")).expect("passes")
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, GovernError>) -> &'static str {
    result.expect_err("is refused").code()
}

pub(crate) async fn reads(world: &World) -> OutcomeKind {
    let answer = world
        .governor
        .submit(&world.bot, action("history.read"), None)
        .await;
    answer.expect("answers").outcome
}

pub(crate) fn last(world: &World, kind: &str) -> Value {
    let evidence = world.commits.evidence(world.owner.org());
    let found = evidence
        .into_iter()
        .rev()
        .find(|record| record.kind == kind);
    found.expect("is recorded").body
}

#[tokio::test]
async fn a_publication_is_in_force_when_it_returns_and_can_be_rolled_back() {
    let world = World::new().await;
    let governor = &world.governor;
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    let first = governor.publish_policies(&world.owner, publish(starter()), None);
    assert_eq!(first.await.expect("publishes").version, 1);

    let second = publish(without_reading());
    let second = governor.publish_policies(&world.owner, second, None).await;
    let second = second.expect("publishes");
    assert_eq!(second.version, 2);
    assert_eq!(reads(&world).await, OutcomeKind::Deny);
    let record = last(&world, "policy.published");
    assert_eq!(record["version"], 2);
    assert_eq!(record["author"], "alice");
    assert_eq!(record["reason"], "a reason");
    assert_eq!(record["digest"], second.digest);
    assert_eq!(record["previous"]["version"], 1);
    let current = governor.policies_in_force(&world.owner).expect("answers");
    assert_eq!(current.source, PolicySource::Published);
    assert_eq!(
        (current.version, current.digest),
        (Some(2), Some(second.digest))
    );

    let back = RollbackPoliciesRequest {
        version: 1,
        reason: "it was better".to_owned(),
        expect_version: Some(2),
    };
    let back = governor.rollback_policies(&world.owner, back, None).await;
    let back = back.expect("rolls back");
    assert_eq!((back.version, back.restores), (3, Some(1)));
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    assert_eq!(last(&world, "policy.rolled_back")["restores"], 1);
    let listed = governor.policy_versions(&world.owner, None, 10).await;
    let listed = listed.expect("lists");
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].digest, listed[2].digest);
    let shown = governor.policy_version(&world.owner, 2).await;
    assert_eq!(shown.expect("shows").files, without_reading());
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn what_cannot_be_published_changes_nothing() {
    let world = World::new().await;
    let governor = &world.governor;
    let before = governor.policies_in_force(&world.owner).expect("answers");
    let records = world.kinds().len();
    let attempt = async |change: &dyn Fn(&mut PublishPoliciesRequest)| {
        let mut request = publish(starter());
        change(&mut request);
        code(governor.publish_policies(&world.owner, request, None).await)
    };
    let put = |name: &'static str, text: &'static str| {
        move |request: &mut PublishPoliciesRequest| {
            request.files.insert(name.to_owned(), text.to_owned());
        }
    };
    assert_eq!(attempt(&put("a.cedar", "permit (")).await, "policy_syntax");
    let typo = "permit (principal, action == Creto::Action::\"nothing\", resource);";
    assert_eq!(attempt(&put("a.cedar", typo)).await, "policy_invalid");
    let open = "permit (principal, action, resource);";
    assert_eq!(attempt(&put("a.cedar", open)).await, "policy_tests_failed");
    assert_eq!(
        attempt(&put("a.test.json", "[]")).await,
        "policy_test_unreadable"
    );
    assert_eq!(
        attempt(&put("../a.cedar", "")).await,
        "policy_bundle_invalid"
    );
    assert_eq!(
        attempt(&|request| request.reason = " ".to_owned()).await,
        "invalid_request"
    );
    let stale = attempt(&|request| request.expect_version = Some(1)).await;
    assert_eq!(stale, "policy_version_conflict");
    let by_agent = governor.publish_policies(&world.bot, publish(starter()), None);
    assert_eq!(code(by_agent.await), "forbidden");
    let absent = RollbackPoliciesRequest {
        version: 1,
        reason: "r".to_owned(),
        expect_version: None,
    };
    let absent = governor.rollback_policies(&world.owner, absent, None).await;
    assert_eq!(code(absent), "not_found");

    assert_eq!(world.kinds().len(), records, "nothing was recorded");
    let after = governor.policies_in_force(&world.owner).expect("answers");
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_repeated_publication_is_one() {
    let world = World::new().await;
    let governor = &world.governor;
    let key = || Some(IdempotencyKey::new("once").expect("a key"));
    let first = governor.publish_policies(&world.owner, publish(starter()), key());
    let first = first.await.expect("publishes");
    let again = governor.publish_policies(&world.owner, publish(starter()), key());
    assert_eq!(again.await.expect("answers"), first);
    let other = governor.publish_policies(&world.owner, publish(without_reading()), key());
    assert_eq!(code(other.await), "idempotency_key_reused");
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
}

#[tokio::test]
async fn the_directory_is_followed_until_somebody_publishes() {
    let world = World::new().await;
    let governor = &world.governor;
    let current = || governor.policies_in_force(&world.owner).expect("answers");
    assert_eq!(current().source, PolicySource::Directory);
    assert_eq!(
        last(&world, "policy.reloaded")["digest"],
        json!(current().digest)
    );

    let reload = async |found| governor.reload_policies(found).await.expect("is taken");
    reload(Ok(bundle(without_reading()))).await;
    assert_eq!(reads(&world).await, OutcomeKind::Deny);
    let record = last(&world, "policy.reloaded");
    assert_eq!(record["digest"], json!(current().digest));
    assert_eq!(record["previous"]["source"], "directory");

    // What cannot be accepted is reported, and what was in force stays.
    let broken = [("a.cedar".to_owned(), "permit (".to_owned())];
    let broken = PolicyFiles::new(broken.into()).expect("a bundle");
    let records = world.kinds().len();
    reload(CheckedBundle::check(broken)).await;
    assert_eq!(reads(&world).await, OutcomeKind::Deny);
    let refused = current().refused.expect("is reported");
    assert!(!refused.findings.is_empty(), "{refused:?}");
    assert_eq!(world.kinds().len(), records + 1, "the decision alone");
    let follow = || FollowRequest {
        reason: "back to files".to_owned(),
    };
    let refused = governor.follow_policy_directory(&world.owner, follow(), None);
    assert_eq!(code(refused.await), "policy_directory_refused");

    // A published version holds whatever the directory says.
    let published = governor.publish_policies(&world.owner, publish(starter()), None);
    published.await.expect("publishes");
    reload(Ok(bundle(without_reading()))).await;
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    assert_eq!(current().source, PolicySource::Published);
    assert_eq!(current().refused, None);

    let followed = governor.follow_policy_directory(&world.owner, follow(), None);
    assert_eq!(
        Some(followed.await.expect("follows").digest),
        current().digest
    );
    assert_eq!(reads(&world).await, OutcomeKind::Deny);
    assert_eq!(last(&world, "policy.reloaded")["reason"], "back to files");
}

#[tokio::test]
async fn a_start_with_a_broken_directory_goes_on_with_what_was_served_last() {
    let world = World::new().await;
    let broken = || {
        let mut files = starter();
        files.insert("a.cedar".to_owned(), "permit (".to_owned());
        CheckedBundle::check(PolicyFiles::new(files).expect("a bundle"))
    };
    let edited = bundle(without_reading());
    let reloaded = world.governor.reload_policies(Ok(edited.clone()));
    reloaded.await.expect("is taken");
    let records = world.kinds().len();

    let again = world.restarted();
    again.serve_policies(broken()).await.expect("goes on");
    let current = again.policies_in_force(&world.owner).expect("answers");
    assert_eq!(current.digest, Some(edited.digest));
    assert_eq!(current.refused.expect("is reported").code, "policy_syntax");
    let read = again.submit(&world.bot, action("history.read"), None).await;
    assert_eq!(read.expect("answers").outcome, OutcomeKind::Deny);
    assert_eq!(world.kinds().len(), records + 1, "the decision alone");

    // The files are mended: they are taken as any other change.
    let reloaded = again.reload_policies(Ok(bundle(starter())));
    reloaded.await.expect("is taken");
    let read = again.submit(&world.bot, action("history.read"), None).await;
    assert_eq!(read.expect("answers").outcome, OutcomeKind::Allow);
    let current = again.policies_in_force(&world.owner).expect("answers");
    assert_eq!(current.refused, None);

    // What was taken from it last may be what a newer build does not accept.
    let policies = &world.stores.policies;
    let mut old = starter();
    old.insert("a.cedar".to_owned(), "forbid (".to_owned());
    let record = Evidence {
        org: world.owner.org(),
        kind: "policy.reloaded".to_owned(),
        at: world.clock.now(),
        actor: "owner".parse().expect("a name"),
        action_id: None,
        body: json!({}),
    };
    let old = PolicyFiles::new(old).expect("a bundle");
    let org = world.owner.org();
    let followed = policies.follow_directory(org, "old".to_owned(), old, Commit::of(record));
    followed.await.expect("follows");
    let newer = world.restarted();
    newer.serve_policies(broken()).await.expect("starts");
    let current = newer.policies_in_force(&world.owner).expect("answers");
    assert_eq!(current.digest, None, "nothing is in force");
    let reloaded = newer.reload_policies(Ok(bundle(starter())));
    reloaded.await.expect("is taken");
    let read = newer.submit(&world.bot, action("history.read"), None).await;
    assert_eq!(read.expect("answers").outcome, OutcomeKind::Allow);

    // An organization that was never served has nothing to go on with.
    world.stranger().await;
    let none = world.restarted().serve_policies(broken()).await;
    assert_eq!(code(none), "policy_syntax");
}

#[tokio::test]
async fn organizations_publish_for_themselves_alone() {
    let world = World::new().await;
    let stranger = world.stranger().await;
    let published = world
        .governor
        .publish_policies(&stranger, publish(without_reading()), None)
        .await;
    assert_eq!(published.expect("publishes").version, 1);
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    let seen = world.governor.policy_version(&world.owner, 1).await;
    assert_eq!(code(seen), "not_found");
}

#[tokio::test]
async fn a_candidate_is_asked_beside_and_decides_nothing() {
    let world = World::new().await;
    let governor = &world.governor;
    let request = FilesRequest {
        files: without_reading(),
    };
    let by_agent = governor.start_policy_shadow(&world.bot, request.clone(), None);
    assert_eq!(code(by_agent.await), "forbidden");
    let started = governor.start_policy_shadow(&world.owner, request, None);
    assert!(started.await.expect("starts").active);

    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    let draft = governor.submit(&world.bot, action("changelog.draft"), None);
    assert_eq!(draft.await.expect("answers").outcome, OutcomeKind::Allow);
    // What is only asked is asked of the candidate too.
    let asked = Question {
        subject: None,
        action: "history.read".to_owned(),
        resource_type: "Resource".to_owned(),
        resource_id: "repo:creto".to_owned(),
        units: 1,
        context: Vec::new(),
    };
    let asking = governor.asking(&world.bot).expect("is heard");
    assert!(asking.ask(&asked).expect("answers").permitted());
    // No right for it: not a question of policy.
    let outside = governor.submit(&world.bot, action("payroll.run"), None);
    assert_eq!(outside.await.expect("answers").outcome, OutcomeKind::Deny);
    let told = loop {
        let told = governor.policy_shadow(&world.owner).expect("answers");
        if told.judged >= 3 {
            break told;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((told.judged, told.different, told.dropped), (3, 2, 0));
    let [kind] = told.differences.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (kind.enforced, kind.candidate),
        (OutcomeKind::Allow, OutcomeKind::Deny)
    );
    let [question, sample] = kind.samples.as_slice() else {
        panic!("{kind:?}");
    };
    assert!(question.action_id.is_none() && sample.action_id.is_some());
    assert_eq!(question.action, "history.read");
    assert_eq!(sample.action, "history.read");
    assert_eq!(sample.candidate.code, "no_policy_permits");
    assert_eq!(sample.enforced.policies, ["release-work"]);

    let stopped = governor.stop_policy_shadow(&world.owner, None).await;
    let stopped = stopped.expect("stops");
    assert_eq!((stopped.active, stopped.different), (false, 2));
    assert_eq!(last(&world, "policy.shadow_stopped")["different"], 2);
    let nothing = governor.stop_policy_shadow(&world.owner, None).await;
    assert_eq!(code(nothing), "not_found");
}

#[tokio::test]
async fn a_candidate_is_asked_what_was_decided_before() {
    let world = World::new().await;
    let governor = &world.governor;
    let since = world.clock.now();
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    let approved = approved_publication(&world).await;
    let held = governor.submit(&world.bot, action("release.publish"), None);
    assert_eq!(
        held.await.expect("answers").outcome,
        OutcomeKind::RequiresOversight
    );
    let outside = governor.submit(&world.bot, action("payroll.run"), None);
    assert_eq!(
        outside.await.expect("answers").reason.code,
        "right_not_delegated"
    );
    // What has happened since is not what was decided.
    let revoked = governor.revoke(&world.owner, &world.planner_link, None);
    revoked.await.expect("revokes");

    let run = async |files: Files, before| {
        let request = DryRunRequest {
            files,
            since,
            until: None,
            before,
        };
        let answer = governor.dry_run_policies(&world.owner, request).await;
        answer.expect("answers")
    };
    let same = run(starter(), None).await;
    assert_eq!(
        (same.judged, same.different, same.skipped),
        (4, 0, 1),
        "{same:?}"
    );
    assert_eq!(same.next, None);
    let other = run(without_reading(), None).await;
    assert_eq!((other.judged, other.different), (4, 1), "{other:?}");
    assert_eq!(other.items[0].action, "history.read");
    assert_eq!(other.changes[0].candidate, OutcomeKind::Deny);
    assert!(other.items[0].leaf.is_some());

    // Without the policy that asks for a human, what was held goes through.
    let mut free = starter();
    free.remove("release.test.json");
    let policies = free.get_mut("release.cedar").expect("ships");
    let hold = policies.find("@id(\"publish-needs").expect("is there");
    policies.truncate(hold);
    let free = run(free, None).await;
    assert_eq!((free.judged, free.different), (4, 2), "{free:?}");
    assert!(
        free.items
            .iter()
            .all(|item| item.enforced.outcome == OutcomeKind::RequiresOversight)
    );
    assert!(
        !free
            .items
            .iter()
            .any(|item| item.action_id == Some(approved))
    );

    // Somebody else would have been asked, of what was approved since as well.
    let mut others = starter();
    others.remove("release.test.json");
    let policies = others.get_mut("release.cedar").expect("ships");
    *policies = policies.replace("@oversight(\"release\")", "@oversight(\"finance\")");
    let others = run(others, None).await;
    assert_eq!((others.judged, others.different), (4, 3), "{others:?}");
    let (was, would) = (&others.items[0].enforced, &others.items[0].candidate);
    let kinds = [&was.oversight, &would.oversight].map(Option::as_deref);
    assert_eq!(kinds, [Some("release"), Some("finance")]);

    // Below the oldest there is nothing to go on with.
    let rest = run(without_reading(), other.items[0].leaf).await;
    assert_eq!((rest.judged, rest.next), (0, None));
    let later = DryRunRequest {
        files: starter(),
        since: since + std::time::Duration::from_secs(3_600),
        until: None,
        before: None,
    };
    let later = governor.dry_run_policies(&world.owner, later).await;
    assert_eq!(later.expect("answers").judged, 0);
}

/// An action that a human approved and that was allowed then.
async fn approved_publication(world: &World) -> creto_types::ActionId {
    let governor = &world.governor;
    let mut request = action("release.publish");
    request.args = json!({ "version": "9" });
    let held = governor.submit(&world.bot, request.clone(), None).await;
    let needed = held.expect("answers").oversight.expect("is held");
    let id = needed.request_id.parse().expect("an id");
    let approved = governor.approve(&world.owner, id, None, None).await;
    approved.expect("approves");
    let seen = governor.oversight_request(&world.bot, id, None).await;
    request.grant = seen.expect("is seen").grant;
    let allowed = governor.submit(&world.bot, request, None).await;
    let allowed = allowed.expect("answers");
    assert_eq!(allowed.outcome, OutcomeKind::Allow);
    allowed.action_id
}

/// The starter set with an action on tickets that asks for a country.
fn with_tickets() -> Files {
    let mut files = starter();
    let schema = r#"namespace Creto {
        entity Ticket in [Organization] = { id: String };
        action "ticket.close" appliesTo {
            principal: [Human, Agent],
            resource: [Ticket],
            context: { oversight: Oversight, units: Long, country: String },
        };
    }"#;
    let policies = r#"@id("close-at-home")
        permit (principal, action == Creto::Action::"ticket.close", resource)
        when { context.country == "DE" };
        @id("close-with-a-human")
        @oversight("support")
        forbid (principal, action == Creto::Action::"ticket.close", resource)
        when { resource.id like "vip-*" }
        unless { context.oversight.approved };"#;
    files.insert("tickets.cedarschema".to_owned(), schema.to_owned());
    files.insert("tickets.cedar".to_owned(), policies.to_owned());
    files
}

#[tokio::test]
async fn actions_name_resources_and_contexts_of_the_users_own_schema() {
    let world = World::new().await;
    let governor = &world.governor;
    let published = governor.publish_policies(&world.owner, publish(with_tickets()), None);
    published.await.expect("publishes");
    let until = world.clock.now() + Duration::from_secs(3_600);
    let mut delegation = delegate("release-bot", "5.00", until);
    delegation.rights = vec![right("ticket.close", "*")];
    let delegation = governor.delegate(&world.owner, delegation, None).await;
    let clerk = enter(governor, &world.owner, &delegation.expect("delegates").id).await;
    let close = |ticket: &str, country: Value| {
        let request = json!({
            "action": "ticket.close",
            "resource": {"type": "Ticket", "id": ticket},
            "context": {"country": country},
        });
        let request = serde_json::from_value(request).expect("a request");
        async { governor.submit(&clerk, request, None).await }
    };
    let answer = close("7", json!("DE")).await.expect("answers");
    assert_eq!(answer.outcome, OutcomeKind::Allow);
    assert_eq!(answer.policy_ids, ["close-at-home"]);
    let record = last(&world, "action.decided");
    assert_eq!(
        record["resource"],
        json!({"type": "Creto::Ticket", "id": "7"})
    );
    assert_eq!(record["context"], json!({"country": "DE"}));
    let abroad = close("7", json!("FR")).await.expect("answers");
    assert_eq!(abroad.reason.code, "no_policy_permits");
    let misfit = close("7", json!(49)).await.expect("answers");
    assert_eq!(misfit.reason.code, "invalid_request");
    let engine = close("7", json!("x".repeat(9_000))).await;
    assert_eq!(code(engine), "invalid_request");

    // The approval is for this ticket of this type in this context.
    let held = close("vip-1", json!("DE")).await.expect("answers");
    let waiting = held.oversight.expect("a human is asked").request_id;
    let id = waiting.parse().expect("an id");
    let seen = governor.oversight_request(&world.owner, id, None).await;
    let seen = seen.expect("is shown");
    assert_eq!(seen.resource_type.as_deref(), Some("Creto::Ticket"));
    assert_eq!(json!(seen.context), json!({"country": "DE"}));
    let same = close("vip-1", json!("DE")).await.expect("answers");
    assert_eq!(same.oversight.expect("the same").request_id, waiting);
    let other = close("vip-2", json!("DE")).await.expect("answers");
    assert_ne!(other.oversight.expect("another").request_id, waiting);
    let alice = governor.approve(&world.owner, id, None, None).await;
    alice.expect("approves");
    let grant = governor.oversight_request(&clerk, id, None).await;
    let grant = grant.expect("is shown").grant.expect("the asker's own");
    let mut codes = Vec::new();
    for (kind, country) in [("Resource", "DE"), ("Ticket", "FR"), ("Ticket", "DE")] {
        let request = json!({
            "action": "ticket.close",
            "resource": {"type": kind, "id": "vip-1"},
            "context": {"country": country},
            "grant": grant,
        });
        let request = serde_json::from_value(request).expect("a request");
        let answer = governor.submit(&clerk, request, None).await;
        codes.push(answer.expect("answers").reason.code);
    }
    let mismatch = "grant_action_mismatch";
    assert_eq!(codes, [mismatch, mismatch, "permitted"]);

    // What was decided can be asked of a candidate again.
    let trial = DryRunRequest {
        files: with_tickets(),
        since: "2026-01-01T00:00:00Z".parse().expect("an instant"),
        until: None,
        before: None,
    };
    let without = DryRunRequest {
        files: starter(),
        ..trial.clone()
    };
    let trial = governor.dry_run_policies(&world.owner, trial).await;
    let trial = trial.expect("answers");
    assert_eq!((trial.judged, trial.different), (7, 0));
    // Which of two resources of one name it was, and in which context, is told.
    let without = governor.dry_run_policies(&world.owner, without).await;
    let without = without.expect("answers").items;
    let oldest = without.last().expect("was permitted");
    assert_eq!(oldest.resource_type.as_deref(), Some("Creto::Ticket"));
    assert_eq!(json!(oldest.context), json!({"country": "DE"}));
    world.check_records().await.expect("the records hold");
}

#[tokio::test]
async fn samples_of_a_candidate_say_of_which_type_and_in_which_context() {
    let world = World::new().await;
    let governor = &world.governor;
    let published = governor.publish_policies(&world.owner, publish(with_tickets()), None);
    published.await.expect("publishes");
    let request = FilesRequest { files: starter() };
    let started = governor.start_policy_shadow(&world.owner, request, None);
    started.await.expect("starts");
    let asking = governor.asking(&world.owner).expect("is heard");
    for (action, kind, id, context) in [
        ("ticket.close", "Ticket", "7", vec![("country", "DE")]),
        ("payroll.run", "Resource", "7", vec![]),
        ("history.read", "Resource", "repo:creto", vec![]),
    ] {
        let text = |(name, value): (&str, &str)| (name.to_owned(), Fact::Text(value.to_owned()));
        let question = Question {
            subject: None,
            action: action.to_owned(),
            resource_type: kind.to_owned(),
            resource_id: id.to_owned(),
            units: 1,
            context: context.into_iter().map(text).collect(),
        };
        asking.ask(&question).expect("answers");
    }
    let told = loop {
        let told = governor.policy_shadow(&world.owner).expect("answers");
        if told.judged >= 3 {
            break told;
        }
        tokio::task::yield_now().await;
    };
    let samples: Vec<Value> = told
        .differences
        .iter()
        .flat_map(|kind| kind.samples.iter().map(|sample| json!(sample)))
        .collect();
    let [ticket] = samples.as_slice() else {
        panic!("{samples:?}");
    };
    assert_eq!(ticket["resource"], "7");
    assert_eq!(ticket["resource_type"], "Creto::Ticket");
    assert_eq!(ticket["context"], json!({"country": "DE"}));
}

#[tokio::test]
async fn what_the_decision_point_counts_is_scraped() {
    let world = World::new().await;
    let mut files = starter();
    let overflows = r#"permit (principal, action == Creto::Action::"history.read", resource)
        when { context.units * 9223372036854775807 > 1 };"#;
    files.insert("overflow.cedar".to_owned(), overflows.to_owned());
    files.remove("release.test.json");
    let published = world
        .governor
        .publish_policies(&world.owner, publish(files), None);
    published.await.expect("publishes");
    let mut request = action("history.read");
    request.units = 2;
    let answer = world.governor.submit(&world.bot, request, None).await;
    assert_eq!(answer.expect("answers").reason.code, "policy_error");
    // A type that the schema does not have.
    let mut request = action("history.read");
    request.resource = ResourceJson::Typed(TypedResource {
        kind: "Creto::Nothing".to_owned(),
        id: "repo:creto".to_owned(),
    });
    let answer = world.governor.submit(&world.bot, request, None).await;
    assert_eq!(answer.expect("answers").reason.code, "invalid_request");
    let text = world.governor.metrics_text();
    for line in [
        "creto_checks_denied_total{code=\"policy_error\"} 1",
        "creto_checks_denied_total{code=\"invalid_request\"} 1",
        "creto_checks_denied_total{code=\"budget_currency\"} 0",
        "creto_checks_total 2",
        "creto_policy_evaluations_total 2",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
}
