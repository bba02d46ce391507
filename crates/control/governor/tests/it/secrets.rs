//! Secrets reach the agents they are leased to, and nobody else.

use std::time::Duration;

use creto_governor::{
    Caller, GovernError, HandOverAnswer, HandOverRequest, LeaseAnswer, LeaseRequest, OutcomeKind,
    SecretAnswer, SecretReadRequest, SecretReading, SecretRequest,
};
use creto_types::Clock as _;
use serde_json::json;

use crate::policies::{code, publish, starter};
use crate::world::{World, delegate, enter, right};

const VALUE: &str = "hunter2-0f3a";

/// The rules of the tests: `api-key` and `token` may be read; `guarded` when a human approved.
const POLICIES: &str = r#"
@id("secrets")
permit (
  principal,
  action in [
    Creto::Action::"secret.read", Creto::Action::"secret.put", Creto::Action::"secret.lease"
  ],
  resource
) unless { resource.id == "secret:forbidden" };

@id("guarded")
@oversight("secrets")
@reason("it opens the safe")
forbid (principal is Creto::Agent, action == Creto::Action::"secret.read", resource)
when { resource.id == "secret:guarded" } unless { context.oversight.approved };
"#;

struct Scene {
    world: World,
    planner: Caller,
    bot: Caller,
    planner_link: String,
    bot_link: String,
}

/// The owner, a planner below and a bot below that, with rights to secrets.
async fn scene() -> Scene {
    let world = World::new().await;
    let governor = &world.governor;
    let mut files = starter();
    files.insert("secrets.cedar".to_owned(), POLICIES.to_owned());
    let published = governor.publish_policies(&world.owner, publish(files), None);
    published.await.expect("publishes");
    let expires = world.clock.now() + Duration::from_secs(3_600);
    let request = |to: &str| {
        let mut request = delegate(to, "1.00", expires);
        request.rights = vec![
            right("secret.read", "secret:*"),
            right("secret.put", "secret:*"),
            right("secret.lease", "secret:*"),
        ];
        request
    };
    let made = governor.delegate(&world.owner, request("planner"), None);
    let planner_link = made.await.expect("delegates").id;
    let planner = enter(governor, &world.owner, &planner_link).await;
    let made = governor.delegate(&planner, request("release-bot"), None);
    let bot_link = made.await.expect("delegates").id;
    let bot = enter(governor, &world.owner, &bot_link).await;
    Scene {
        world,
        planner,
        bot,
        planner_link,
        bot_link,
    }
}

impl Scene {
    async fn put(&self, caller: &Caller, name: &str) -> Result<SecretAnswer, GovernError> {
        let request = json!({ "name": name, "value": VALUE });
        let request: SecretRequest = serde_json::from_value(request).expect("a request");
        assert!(!format!("{request:?}").contains(VALUE));
        self.world.governor.put_secret(caller, request).await
    }

    async fn lease(
        &self,
        caller: &Caller,
        name: &str,
        link: &str,
        seconds: Option<u64>,
    ) -> Result<LeaseAnswer, GovernError> {
        let now = self.world.clock.now();
        let request = LeaseRequest {
            delegation: link.to_owned(),
            expires_at: seconds.map(|seconds| now + Duration::from_secs(seconds)),
        };
        let governor = &self.world.governor;
        governor.lease_secret(caller, name, request, None).await
    }

    async fn read(&self, caller: &Caller, name: &str) -> Result<SecretReading, GovernError> {
        let request = SecretReadRequest::default();
        self.world.governor.read_secret(caller, name, request).await
    }

    async fn reads(&self, caller: &Caller, name: &str) -> bool {
        let reading = self.read(caller, name).await.expect("it is answered");
        let value = reading.value.as_ref().expect("it is given");
        value.secret().expose() == VALUE.as_bytes()
    }

    fn count(&self, kind: &str) -> usize {
        let kinds = self.world.kinds();
        kinds.iter().filter(|found| *found == kind).count()
    }
}

#[tokio::test]
async fn a_secret_is_read_along_the_chain_it_was_leased_to() {
    let scene = scene().await;
    let owner = &scene.world.owner;
    assert_eq!(scene.put(owner, "api-key").await.expect("puts").version, 1);
    assert_eq!(scene.put(owner, "api-key").await.expect("puts").version, 2);
    // Rights and policies alone give nothing, and whoever tries leaves a record.
    assert_eq!(code(scene.read(&scene.bot, "api-key").await), "not_found");
    assert_eq!(scene.count("secret.refused"), 1);
    let lease = scene.lease(owner, "api-key", &scene.bot_link, Some(60));
    let lease = lease.await.expect("leases");

    let reading = scene.read(&scene.bot, "api-key").await.expect("reads");
    assert_eq!(reading.decision.outcome, OutcomeKind::Allow);
    assert_eq!(reading.version, Some(2));
    assert!(!format!("{reading:?}").contains(VALUE));
    assert_eq!(scene.count("secret.read"), 1);
    let settled = scene.count("usage.settled");
    assert_eq!(settled, 1, "a reading is settled");

    // Nobody else: not who stands above, not the same agent by another delegation, not
    // the one who put it, not a stranger.
    assert_eq!(
        code(scene.read(&scene.planner, "api-key").await),
        "not_found"
    );
    let other = code(scene.read(&scene.world.bot, "api-key").await);
    assert_eq!(other, "not_found");
    assert_eq!(code(scene.read(owner, "api-key").await), "forbidden");
    let stranger = scene.world.stranger().await;
    assert_eq!(code(scene.read(&stranger, "api-key").await), "forbidden");
    let seen = scene.world.governor.secrets(&stranger, None, 10).await;
    assert!(seen.expect("lists").is_empty());
    let ended = scene
        .world
        .governor
        .revoke_lease(&stranger, &lease.id, None);
    assert_eq!(code(ended.await), "not_found");
    assert_eq!(scene.count("secret.read"), 1);

    // The list tells an agent of its own.
    let governor = &scene.world.governor;
    let own = governor.secrets(&scene.bot, None, 10).await.expect("lists");
    assert_eq!(own.len(), 1);
    let none = governor.secrets(&scene.planner, None, 10).await;
    assert!(none.expect("lists").is_empty());

    // The log never holds the value.
    let evidence = scene.world.commits.evidence(owner.org());
    let text = serde_json::to_string(&evidence).expect("JSON");
    assert!(!text.contains(VALUE));
    scene.world.check_records().await.expect("the log is sound");
}

#[tokio::test]
async fn a_lease_ends_at_its_instant_when_revoked_and_with_its_chain() {
    let scene = scene().await;
    let owner = &scene.world.owner;
    let governor = &scene.world.governor;
    scene.put(owner, "api-key").await.expect("puts");
    let lease = async |seconds| {
        let given = scene.lease(owner, "api-key", &scene.bot_link, Some(seconds));
        given.await.expect("leases")
    };
    lease(10).await;
    scene.world.clock.advance(Duration::from_secs(9));
    assert!(scene.reads(&scene.bot, "api-key").await);
    scene.world.clock.advance(Duration::from_secs(1));
    assert_eq!(code(scene.read(&scene.bot, "api-key").await), "not_found");

    let given = lease(600).await;
    assert!(scene.reads(&scene.bot, "api-key").await);
    let ended = governor.revoke_lease(owner, &given.id, None).await;
    assert!(ended.expect("revokes").revoked_at.is_some());
    assert_eq!(code(scene.read(&scene.bot, "api-key").await), "not_found");
    let again = governor.revoke_lease(owner, &given.id, None).await;
    assert_eq!(code(again), "conflict");
    let restarted = scene.world.restarted();
    let read = restarted.read_secret(&scene.bot, "api-key", SecretReadRequest::default());
    assert_eq!(code(read.await), "not_found");

    lease(600).await;
    let revoked = governor.revoke(owner, &scene.planner_link, None).await;
    revoked.expect("revokes");
    let dead = code(scene.read(&scene.bot, "api-key").await);
    assert_eq!(dead, "delegation_revoked");
    let late = scene.lease(owner, "api-key", &scene.bot_link, None).await;
    assert_eq!(code(late), "delegation_revoked");
}

#[tokio::test]
async fn a_secret_is_leased_downwards_by_whom_put_it() {
    let scene = scene().await;
    let owner = &scene.world.owner;
    scene.put(&scene.planner, "token").await.expect("puts");
    // Another's name, another's secret, somebody who is not below.
    assert_eq!(code(scene.put(owner, "token").await), "forbidden");
    let others = scene.lease(owner, "token", &scene.bot_link, None).await;
    assert_eq!(code(others), "not_found");
    let beside = &scene.world.bot_link;
    let beside = scene.lease(&scene.planner, "token", beside, None).await;
    assert_eq!(code(beside), "forbidden");
    let own = &scene.planner_link;
    let own = scene.lease(&scene.planner, "token", own, None).await;
    assert_eq!(code(own), "forbidden");
    let long = scene.lease(&scene.planner, "token", &scene.bot_link, Some(3_601));
    assert_eq!(code(long.await), "invalid_request");

    let given = scene.lease(&scene.planner, "token", &scene.bot_link, None);
    given.await.expect("leases");
    assert!(scene.reads(&scene.bot, "token").await);
    // The bot holds the value and still gives no lease.
    let on = scene
        .lease(&scene.bot, "token", &scene.bot_link, None)
        .await;
    assert_eq!(code(on), "not_found");
    let denied = scene.put(&scene.planner, "forbidden").await;
    assert_eq!(code(denied), "forbidden");
}

#[tokio::test]
async fn policies_and_people_decide_a_reading() {
    let scene = scene().await;
    let owner = &scene.world.owner;
    let governor = &scene.world.governor;
    for name in ["forbidden", "guarded"] {
        scene.put(owner, name).await.expect("puts");
        let given = scene.lease(owner, name, &scene.bot_link, None).await;
        given.expect("leases");
    }
    let denied = scene.read(&scene.bot, "forbidden").await.expect("answers");
    assert_eq!(denied.decision.outcome, OutcomeKind::Deny);
    assert!(denied.value.is_none());

    let held = scene.read(&scene.bot, "guarded").await.expect("answers");
    assert_eq!(held.decision.outcome, OutcomeKind::RequiresOversight);
    assert!(held.value.is_none());
    assert_eq!(scene.count("secret.read"), 0);
    let id = held.decision.oversight.expect("it waits").request_id;
    let id = id.to_string().parse().expect("an id");
    let approved = governor.approve(owner, id, None, None).await;
    approved.expect("approves");
    let seen = governor.oversight_request(&scene.bot, id, None).await;
    let request = SecretReadRequest {
        grant: seen.expect("reads").grant,
    };
    assert!(request.grant.is_some());
    let read = governor.read_secret(&scene.bot, "guarded", request.clone());
    assert!(read.await.expect("answers").value.is_some());
    let again = governor.read_secret(&scene.bot, "guarded", request);
    assert!(again.await.expect("answers").value.is_none(), "once");
    assert_eq!(scene.count("secret.read"), 1);
}

async fn hand_over(
    scene: &Scene,
    caller: &Caller,
    to: &str,
) -> Result<HandOverAnswer, GovernError> {
    let request = HandOverRequest { to: to.to_owned() };
    let governor = &scene.world.governor;
    governor
        .hand_over_secret(caller, "api-key", request, None)
        .await
}

/// Whoever put it is gone: an owner makes it somebody else's, who goes on with it.
#[tokio::test]
async fn a_secret_outlives_whoever_put_it() {
    let scene = scene().await;
    let (owner, governor) = (&scene.world.owner, &scene.world.governor);
    scene.put(&scene.planner, "api-key").await.expect("puts");
    let lease = scene.lease(&scene.planner, "api-key", &scene.bot_link, Some(600));
    let lease = lease.await.expect("leases");
    assert_eq!(code(scene.put(owner, "api-key").await), "forbidden");
    let refused = scene.lease(owner, "api-key", &scene.bot_link, None);
    assert_eq!(code(refused.await), "not_found");

    // Only an owner hands it over: neither whose it is, nor another agent, nor another role.
    for other in [&scene.planner, &scene.bot] {
        assert_eq!(code(hand_over(&scene, other, "owner").await), "forbidden");
    }
    for role in ["operator", "auditor", "approver"] {
        let request = json!({ "name": format!("a-{role}"), "role": role });
        let request = serde_json::from_value(request).expect("a request");
        let added = governor
            .add_human(owner, request, None)
            .await
            .expect("adds");
        let token = added.token.expect("shown once");
        let person = governor.authenticate(&token).expect("a good token");
        let refused = hand_over(&scene, &person, owner.name().as_str()).await;
        assert_eq!(code(refused), "forbidden", "{role}");
        // Who could do nothing with it is not given it.
        let refused = hand_over(&scene, owner, person.name().as_str()).await;
        assert_eq!(code(refused), "invalid_request", "{role}");
    }
    assert_eq!(scene.count("secret.handed_over"), 0);
    assert_eq!(code(hand_over(&scene, owner, "nobody").await), "not_found");
    assert_eq!(
        code(hand_over(&scene, owner, "planner").await),
        "invalid_request"
    );

    let own = owner.name().as_str();
    let handed = hand_over(&scene, owner, own).await.expect("hands over");
    assert_eq!((handed.from.as_str(), handed.to.as_str()), ("planner", own));
    assert!(handed.leaf.is_some());
    // The lease is as it was, and gives the versions of whose it is now.
    assert_eq!(
        code(scene.put(&scene.planner, "api-key").await),
        "forbidden"
    );
    let refused = scene.lease(&scene.planner, "api-key", &scene.bot_link, None);
    assert_eq!(code(refused.await), "not_found");
    let ended = governor.revoke_lease(&scene.planner, &lease.id, None).await;
    assert_eq!(code(ended), "not_found");
    let put = scene.put(owner, "api-key").await.expect("puts");
    assert_eq!((put.version, put.owner.as_str()), (2, own));
    let reading = scene.read(&scene.bot, "api-key").await.expect("reads");
    assert_eq!(reading.version, Some(2));
    let listed = governor.secrets(&scene.planner, None, 10).await;
    assert!(listed.expect("lists").is_empty());
    let given = scene.lease(owner, "api-key", &scene.bot_link, None).await;
    given.expect("leases");

    // An agent takes it over as well; one that was revoked does not.
    hand_over(&scene, owner, "release-bot")
        .await
        .expect("hands over");
    assert_eq!(
        scene
            .put(&scene.bot, "api-key")
            .await
            .expect("puts")
            .version,
        3
    );
    let because = serde_json::from_value(json!({ "reason": "it leaves" })).expect("a request");
    let planner = scene.planner.name();
    let gone = governor
        .revoke_principal(owner, planner, because, None)
        .await;
    gone.expect("revokes");
    assert_eq!(code(hand_over(&scene, owner, "planner").await), "conflict");
    scene.world.check_records().await.expect("the log is sound");
}

/// A new owner's value reaches nobody below whom it was taken from, and what an agent keeps
/// for one person is nothing to it when it acts for another.
#[tokio::test]
async fn what_is_kept_in_one_chain_is_read_in_no_other() {
    let scene = scene().await;
    let (owner, governor) = (&scene.world.owner, &scene.world.governor);
    let request = json!({ "name": "bob", "role": "owner" });
    let request = serde_json::from_value(request).expect("a request");
    let added = governor.add_human(owner, request, None).await;
    let token = added.expect("adds").token.expect("shown once");
    let bob = governor.authenticate(&token).expect("a good token");

    scene.put(owner, "api-key").await.expect("puts");
    let leased = scene.lease(owner, "api-key", &scene.bot_link, None).await;
    leased.expect("leases");
    assert!(scene.reads(&scene.bot, "api-key").await);
    hand_over(&scene, owner, "bob").await.expect("hands over");
    assert_eq!(code(scene.read(&scene.bot, "api-key").await), "not_found");
    scene.put(&bob, "api-key").await.expect("puts");
    assert_eq!(code(scene.read(&scene.bot, "api-key").await), "not_found");
    let seen = governor.secrets(&scene.bot, None, 10).await;
    assert!(seen.expect("lists").is_empty());
    // Whoever stands above again gives it again.
    let own = owner.name().as_str();
    hand_over(&scene, owner, own).await.expect("hands over");
    assert!(scene.reads(&scene.bot, "api-key").await);

    // The planner acts for bob as well.
    let mut request = delegate(
        "planner",
        "1.00",
        scene.world.clock.now() + Duration::from_secs(3_600),
    );
    request.rights = ["secret.read", "secret.put", "secret.lease"]
        .map(|action| right(action, "secret:*"))
        .into();
    let made = governor.delegate(&bob, request.clone(), None).await;
    let for_bob = enter(governor, &bob, &made.expect("delegates").id).await;
    request.delegatee = scene.bot.name().clone();
    let made = governor.delegate(&for_bob, request, None).await;
    let below = made.expect("delegates").id;
    scene.put(&scene.planner, "notes").await.expect("puts");
    let leased = scene.lease(&scene.planner, "notes", &scene.bot_link, None);
    let lease = leased.await.expect("leases");
    assert!(scene.reads(&scene.bot, "notes").await);
    assert_eq!(code(scene.put(&for_bob, "notes").await), "forbidden");
    let refused = scene.lease(&for_bob, "notes", &below, None).await;
    assert_eq!(code(refused), "not_found");
    let seen = governor.secrets(&for_bob, None, 10).await;
    assert!(seen.expect("lists").is_empty());
    let ended = governor.revoke_lease(&for_bob, &lease.id, None).await;
    assert_eq!(code(ended), "not_found");
    scene.put(&scene.planner, "notes").await.expect("puts");
    scene.world.check_records().await.expect("the log is sound");
}

/// More than are looked at together, of secrets and of leases: what is behind the first of them
/// is found as well.
#[tokio::test]
async fn however_many_there_are_each_is_found() {
    const MANY: usize = 70;
    let scene = scene().await;
    let owner = &scene.world.owner;
    for n in 0..MANY {
        let name = format!("s-{n:03}");
        scene.put(owner, &name).await.expect("puts");
        let lease = scene.lease(owner, &name, &scene.bot_link, None);
        lease.await.expect("leases");
    }
    let own = scene.put(&scene.planner, "zz-own").await.expect("puts");
    let lease = scene.lease(&scene.planner, "zz-own", &scene.bot_link, None);
    let last = lease.await.expect("leases");

    let governor = &scene.world.governor;
    let names = async |caller, after, limit| {
        let found = governor.secrets(caller, after, limit).await;
        let found = found.expect("lists").into_iter();
        found.map(|secret| secret.name).collect::<Vec<_>>()
    };
    let all = names(owner, None, 100).await;
    assert_eq!(all.len(), MANY + 1);
    assert!(all.is_sorted());
    assert_eq!(names(owner, None, 68).await, all[..68]);
    assert_eq!(names(owner, Some("s-067"), 2).await, all[68..70]);
    assert_eq!(names(&scene.bot, None, 100).await, all);
    assert_eq!(names(&scene.planner, None, 100).await, ["zz-own"]);
    assert_eq!(own.version, 1);

    let leases = async |caller, after, limit| {
        let found = governor.leases(caller, after, limit).await;
        let found = found.expect("lists").into_iter();
        found.map(|lease| lease.id).collect::<Vec<_>>()
    };
    let all = leases(owner, None, 100).await;
    assert_eq!(all.len(), MANY + 1);
    assert_eq!(leases(owner, None, 68).await, all[..68]);
    assert_eq!(leases(owner, Some(&*all[67]), 2).await, all[68..70]);
    // Of the last of its own secrets.
    assert_eq!(leases(&scene.planner, None, 100).await, [last.id]);
    // And its lease is behind the others.
    assert!(scene.reads(&scene.bot, "zz-own").await);
}
