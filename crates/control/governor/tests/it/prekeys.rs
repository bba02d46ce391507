//! A prekey that serves once goes to one taker, for ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use creto_crypto::{AwsLcProvider, CryptoProvider as _, KemAlgorithm};
use creto_governor::{
    Caller, EncapsulationKeyValue, ExpulsionRequest, GovernError, IdempotencyKey,
    KeyRevocationRequest, LimitRequest, OutcomeKind, PrekeysRequest, PublishPrekeysAnswer,
    RecordChecker, SuspensionRequest, TakePrekeyAnswer, TakePrekeyRequest,
};
use creto_nhi::{MAX_ONE_TIME_PREKEYS, Prekey, PublicKeys};
use creto_types::{Clock as _, LeafIndex, SystemRandom};
use serde_json::{Value, json};

use crate::held::{self, Moment};
use crate::policies::{code, publish, starter};
use crate::world::{World, delegate, enter, right};

/// The rules of the tests: prekeys are published and taken, those of `guarded` when a
/// human approved.
const POLICIES: &str = r#"
@id("prekeys")
permit (
  principal,
  action in [Creto::Action::"prekey.publish", Creto::Action::"prekey.take"],
  resource
);

@id("not-of-the-bot")
forbid (principal, action == Creto::Action::"prekey.publish", resource)
when { resource.id == "prekey:release-bot" };

@id("guarded")
@oversight("prekeys")
@reason("what it is told is told to nobody else")
forbid (
  principal,
  action in [Creto::Action::"prekey.publish", Creto::Action::"prekey.take"],
  resource
)
when { resource.id == "prekey:guarded" } unless { context.oversight.approved };
"#;

struct Scene {
    world: World,
    /// Publishes.
    inbox: Caller,
    /// Takes.
    outbox: Caller,
    outbox_link: String,
}

/// The planner publishes, the bot takes; both may do either by their rights.
async fn scene() -> Scene {
    scene_in(World::paced(1_000).await).await
}

async fn scene_in(world: World) -> Scene {
    let governor = &world.governor;
    let mut files = starter();
    files.insert("prekeys.cedar".to_owned(), POLICIES.to_owned());
    let published = governor.publish_policies(&world.owner, publish(files), None);
    published.await.expect("publishes");
    let expires = world.clock.now() + Duration::from_secs(3_600);
    let allowed = async |agent| {
        let mut request = delegate(agent, "1.00", expires);
        request.rights = vec![right("prekey.*", "prekey:*")];
        let made = governor.delegate(&world.owner, request, None);
        let link = made.await.expect("delegates").id;
        (enter(governor, &world.owner, &link).await, link)
    };
    let (inbox, _) = allowed("planner").await;
    let (outbox, outbox_link) = allowed("release-bot").await;
    Scene {
        inbox,
        outbox,
        outbox_link,
        world,
    }
}

fn key(algorithm: KemAlgorithm) -> EncapsulationKeyValue {
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    let key = provider.generate_kem_key(algorithm).expect("it is made");
    EncapsulationKeyValue {
        alg: algorithm.to_string(),
        public: key.encapsulation_key().to_base64url(),
    }
}

fn keys(one_time: usize, last_resort: bool) -> PrekeysRequest {
    PrekeysRequest {
        last_resort: last_resort.then(|| key(KemAlgorithm::XWing)),
        one_time: (0..one_time).map(|_| key(KemAlgorithm::XWing)).collect(),
        grant: None,
    }
}

impl Scene {
    fn asked(&self) -> TakePrekeyRequest {
        TakePrekeyRequest {
            owner: self.inbox.identity().spiffe_id(),
            grant: None,
        }
    }

    async fn publish(
        &self,
        caller: &Caller,
        request: PrekeysRequest,
    ) -> Result<PublishPrekeysAnswer, GovernError> {
        self.world
            .governor
            .publish_prekeys(caller, request, None)
            .await
    }

    async fn take(&self, caller: &Caller) -> Result<TakePrekeyAnswer, GovernError> {
        self.world
            .governor
            .take_prekey(caller, self.asked(), None)
            .await
    }

    /// Takes one: its kind and its id.
    async fn taken(&self) -> (String, String) {
        let answer = self.take(&self.outbox).await.expect("it is answered");
        let prekey = answer.prekey.expect("there is one");
        (prekey.kind, prekey.id)
    }

    async fn left(&self) -> usize {
        let left = self.world.governor.prekeys(&self.inbox, None).await;
        left.expect("reads").one_time
    }

    fn count(&self, kind: &str) -> usize {
        let kinds = self.world.kinds();
        kinds.iter().filter(|found| *found == kind).count()
    }
}

#[tokio::test]
async fn each_key_serves_once_and_then_the_last_resort_does_and_says_so() {
    let scene = scene().await;
    let published = scene
        .publish(&scene.inbox, keys(3, true))
        .await
        .expect("publishes");
    let published = published.published.expect("they are published");
    assert_eq!((published.one_time.len(), scene.left().await), (3, 3));

    let answer = scene.take(&scene.outbox).await.expect("takes");
    let prekey = answer.prekey.expect("there is one");
    let governor = &scene.world.governor;
    let known = governor
        .public_keys(&scene.outbox, &prekey.owner)
        .expect("known");
    let known: PublicKeys =
        serde_json::from_value(serde_json::to_value(known).expect("JSON")).expect("keys");
    let read: Prekey =
        serde_json::from_value(serde_json::to_value(&prekey).expect("JSON")).expect("a prekey");
    let lists = creto_crypto::AllowedAlgorithms::default();
    read.verify(&known, &lists).expect("it is the planner's");
    assert_eq!(scene.count("usage.settled"), 2, "both are settled");

    let mut seen = HashSet::from([prekey.id]);
    for left in [1, 0] {
        let (kind, id) = scene.taken().await;
        assert_eq!((kind.as_str(), scene.left().await), ("one_time", left));
        assert!(seen.insert(id));
    }
    assert_eq!(seen, published.one_time.iter().cloned().collect());
    let last = published.last_resort.expect("it is there");
    for _ in 0..2 {
        assert_eq!(
            scene.taken().await,
            ("last_resort".to_owned(), last.clone())
        );
    }

    // More are added, and the one of last resort is replaced.
    let more = scene
        .publish(&scene.inbox, keys(1, true))
        .await
        .expect("publishes");
    let more = more.published.expect("they are published");
    assert_eq!(scene.taken().await.1, more.one_time[0]);
    assert_eq!(
        scene.taken().await.1,
        more.last_resort.expect("it is there")
    );
    let added = scene
        .publish(&scene.inbox, keys(2, false))
        .await
        .expect("publishes");
    assert_eq!(
        added.published.expect("they are published").last_resort,
        None
    );
    assert_eq!(scene.left().await, 2);
    scene.world.check_records().await.expect("the log is sound");
}

#[tokio::test]
async fn many_at_once_get_one_each() {
    let scene = scene().await;
    scene
        .publish(&scene.inbox, keys(20, true))
        .await
        .expect("publishes");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (governor, taker) = (Arc::clone(&scene.world.governor), scene.outbox.clone());
        let asked = scene.asked();
        calls.spawn(async move {
            let answer = governor.take_prekey(&taker, asked, None).await;
            let prekey = answer.expect("takes").prekey.expect("there is one");
            (prekey.kind, prekey.id)
        });
    }
    let taken = calls.join_all().await;
    let once = taken.iter().filter(|(kind, _)| kind == "one_time");
    let once: Vec<_> = once.collect();
    let distinct: HashSet<_> = once.iter().map(|(_, id)| id).collect();
    assert_eq!((once.len(), distinct.len()), (20, 20));
    assert_eq!(scene.left().await, 0);
    assert_eq!(scene.count("prekey.taken"), 40);
    scene.world.check_records().await.expect("the log is sound");
}

#[tokio::test]
async fn what_was_taken_stays_taken_over_restarts_and_repetitions() {
    let scene = scene().await;
    scene
        .publish(&scene.inbox, keys(2, true))
        .await
        .expect("publishes");
    let key = || IdempotencyKey::new("k").ok();
    let governor = &scene.world.governor;
    let first = governor
        .take_prekey(&scene.outbox, scene.asked(), key())
        .await;
    let again = governor
        .take_prekey(&scene.outbox, scene.asked(), key())
        .await;
    let first = first.expect("takes");
    assert_eq!(first, again.expect("answers"));
    assert_eq!((scene.count("prekey.taken"), scene.left().await), (1, 1));
    let restarted = scene.world.restarted();
    let next = restarted
        .take_prekey(&scene.outbox, scene.asked(), None)
        .await;
    let id = |answer: TakePrekeyAnswer| answer.prekey.expect("there is one").id;
    let (first, next) = (id(first), id(next.expect("takes")));
    assert_ne!(first, next);
    assert_eq!(scene.left().await, 0);
}

#[tokio::test]
async fn what_was_taken_is_not_repeated_once_its_key_is_revoked() {
    let scene = scene().await;
    scene
        .publish(&scene.inbox, keys(2, true))
        .await
        .expect("publishes");
    let (governor, owner) = (&scene.world.governor, &scene.world.owner);
    let take = || {
        let key = IdempotencyKey::new("k").ok();
        governor.take_prekey(&scene.outbox, scene.asked(), key)
    };
    let taken = take().await.expect("takes").prekey.expect("there is one");
    let revocation = KeyRevocationRequest {
        kid: taken.kid,
        reason: "it leaked".to_owned(),
    };
    let inbox = scene.inbox.name();
    let revoked = governor.revoke_principal_key(owner, inbox, revocation, None);
    revoked.await.expect("revokes");
    assert_eq!(code(take().await), "signing_key_revoked");
    assert_eq!(scene.left().await, 0);
    scene.world.check_records().await.expect("the log is sound");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_name_and_publishes_nothing() {
    let scene = scene().await;
    let refused = async |request: PrekeysRequest| code(scene.publish(&scene.inbox, request).await);
    assert_eq!(refused(keys(1, false)).await, "invalid_request");
    assert_eq!(refused(keys(101, true)).await, "invalid_request");
    let with = |key: EncapsulationKeyValue| PrekeysRequest {
        one_time: vec![key],
        ..keys(0, true)
    };
    let good = key(KemAlgorithm::XWing);
    let of = |alg: &str, public: &str| {
        with(EncapsulationKeyValue {
            alg: alg.to_owned(),
            public: public.to_owned(),
        })
    };
    assert_eq!(refused(of("RSA", &good.public)).await, "unknown_algorithm");
    assert_eq!(
        refused(with(key(KemAlgorithm::MlKem1024))).await,
        "algorithm_not_allowed"
    );
    assert_eq!(
        refused(of("ML-KEM-768", &good.public)).await,
        "malformed_crypto_object"
    );
    assert_eq!(refused(of("X-Wing", "a=")).await, "invalid_base64url");
    // Coefficients beyond the modulus (FIPS 203, section 7.2).
    let beyond = "_".repeat(good.public.len() - 1) + "w";
    assert_eq!(refused(of("X-Wing", &beyond)).await, "key_rejected");
    let twice = PrekeysRequest {
        one_time: vec![good.clone(), good.clone()],
        ..keys(0, true)
    };
    assert_eq!(refused(twice).await, "invalid_identity_request");
    assert_eq!(
        (scene.left().await, scene.count("prekeys.published")),
        (0, 0)
    );

    // Nor is any published twice, even when it was used up.
    scene
        .publish(&scene.inbox, with(good.clone()))
        .await
        .expect("publishes");
    scene.taken().await;
    assert_eq!(refused(with(good)).await, "conflict");
    scene
        .publish(&scene.inbox, keys(100, false))
        .await
        .expect("publishes");
    assert_eq!(refused(keys(1, false)).await, "invalid_request");
    assert_eq!(refused(keys(0, false)).await, "invalid_request");
}

#[tokio::test]
async fn policies_limits_and_standing_decide_who_gets_one() {
    let scene = scene().await;
    let governor = &scene.world.governor;
    assert_eq!(code(scene.take(&scene.outbox).await), "not_found");
    scene
        .publish(&scene.inbox, keys(9, true))
        .await
        .expect("publishes");
    // Not to itself, not without the right, not to another organization.
    assert_eq!(code(scene.take(&scene.inbox).await), "forbidden");
    let denied = scene.take(&scene.world.bot).await.expect("answers");
    assert_eq!(denied.decision.reason.code, "right_not_delegated");
    assert!(denied.prekey.is_none());
    let stranger = scene.world.stranger().await;
    assert_eq!(code(scene.take(&stranger).await), "not_found");
    let unknown = TakePrekeyRequest {
        owner: scene.world.owner.identity().spiffe_id(),
        grant: None,
    };
    let person = governor.take_prekey(&scene.outbox, unknown, None).await;
    assert_eq!(code(person), "not_found");
    // The owner is asked of like everybody.
    let owner = scene.take(&scene.world.owner).await.expect("takes");
    assert!(owner.prekey.is_some());
    let denied = scene
        .publish(&scene.outbox, keys(1, true))
        .await
        .expect("answers");
    assert_eq!(denied.decision.outcome, OutcomeKind::Deny);
    let owner = scene.publish(&scene.world.owner, keys(1, true)).await;
    assert_eq!(code(owner), "forbidden");
    let inbox = scene.inbox.identity().spiffe_id();
    let seen = governor.prekeys(&scene.outbox, Some(&inbox));
    assert_eq!(code(seen.await), "forbidden");
    let seen = governor.prekeys(&scene.world.owner, Some(&inbox));
    assert_eq!(seen.await.expect("reads").one_time, 8);

    let limit: LimitRequest = serde_json::from_value(json!({
        "scope": { "agent": "release-bot" },
        "event": "prekey.take",
        "limit": { "units": 2 },
        "window": "total",
    }))
    .expect("a limit");
    let set = governor.set_limit(&scene.world.owner, limit, None).await;
    set.expect("sets");
    for _ in 0..2 {
        scene.taken().await;
    }
    let more = scene.take(&scene.outbox).await.expect("answers");
    assert_eq!(more.decision.outcome, OutcomeKind::QuotaExceeded);
    assert_eq!(scene.left().await, 6);

    let reason = || SuspensionRequest {
        reason: "looked into".to_owned(),
    };
    let (owner, planner) = (&scene.world.owner, scene.inbox.name());
    let suspended = governor
        .suspend_principal(owner, planner, reason(), None)
        .await;
    suspended.expect("suspends");
    // Not the taker, so that it does not take itself for suspended.
    assert_eq!(code(scene.take(owner).await), "prekey_owner_suspended");
    let late = scene.publish(&scene.inbox, keys(1, true)).await;
    assert_eq!(code(late), "principal_suspended");
    let resumed = governor
        .resume_principal(owner, planner, reason(), None)
        .await;
    resumed.expect("resumes");
    assert!(scene.take(owner).await.expect("takes").prekey.is_some());
    let reason = ExpulsionRequest {
        reason: "it is gone".to_owned(),
    };
    let expelled = governor
        .revoke_principal(owner, planner, reason, None)
        .await;
    expelled.expect("revokes");
    assert_eq!(code(scene.take(owner).await), "prekey_owner_revoked");
    assert_eq!(
        code(scene.take(&scene.outbox).await),
        "prekey_owner_revoked"
    );
    let late = scene.publish(&scene.inbox, keys(1, true)).await;
    assert_eq!(code(late), "principal_revoked");
    let known = governor.public_keys(owner, &scene.inbox.identity().spiffe_id());
    assert!(known.expect("known").revoked);
    let revoked = governor.revoke(owner, &scene.outbox_link, None).await;
    revoked.expect("revokes");
    assert_eq!(code(scene.take(&scene.outbox).await), "delegation_revoked");
    scene.world.check_records().await.expect("the log is sound");
}

/// What can be refused without it is refused before the decision: that uses a grant up.
#[tokio::test]
async fn nothing_is_decided_of_what_cannot_be() {
    let scene = scene().await;
    let decided = || scene.count("action.decided");
    assert_eq!(code(scene.take(&scene.outbox).await), "not_found");
    let twice = key(KemAlgorithm::XWing);
    let again = PrekeysRequest {
        one_time: vec![twice.clone(), twice.clone()],
        ..keys(0, true)
    };
    let refused = scene.publish(&scene.inbox, again).await;
    assert_eq!(code(refused), "invalid_identity_request");
    let both = PrekeysRequest {
        last_resort: Some(twice.clone()),
        one_time: vec![twice.clone()],
        grant: None,
    };
    let refused = scene.publish(&scene.inbox, both).await;
    assert_eq!(code(refused), "invalid_identity_request");
    assert_eq!(decided(), 0);
    let once = PrekeysRequest {
        last_resort: Some(twice),
        ..keys(1, false)
    };
    let published = scene.publish(&scene.inbox, once.clone()).await;
    published.expect("publishes");
    assert_eq!(decided(), 1);
    let known = PrekeysRequest {
        last_resort: once.last_resort,
        ..keys(1, false)
    };
    assert_eq!(code(scene.publish(&scene.inbox, known).await), "conflict");
    assert_eq!(decided(), 1);
}

/// A grant is for the very keys that were approved, and for one taking.
#[tokio::test]
async fn prekeys_that_a_human_looks_at_are_published_and_taken_with_a_grant() {
    let scene = scene().await;
    let (governor, owner) = (&scene.world.governor, &scene.world.owner);
    let request = json!({ "name": "guarded", "kind": "agent" });
    let request = serde_json::from_value(request).expect("a request");
    let created = governor.create_principal(owner, request, None).await;
    created.expect("creates");
    let expires = scene.world.clock.now() + Duration::from_secs(3_600);
    let mut request = delegate("guarded", "1.00", expires);
    request.rights = vec![right("prekey.*", "prekey:*")];
    let link = governor.delegate(owner, request, None).await;
    let guarded = enter(governor, owner, &link.expect("delegates").id).await;
    let approved = async |caller: &Caller, held: creto_governor::ActionAnswer| {
        assert_eq!(held.outcome, OutcomeKind::RequiresOversight);
        let id = held.oversight.expect("it waits").request_id;
        let id = id.parse().expect("an id");
        let approved = governor.approve(owner, id, None, None).await;
        approved.expect("approves");
        let seen = governor.oversight_request(caller, id, None).await;
        seen.expect("reads").grant
    };
    let asked = keys(2, true);
    let held = scene.publish(&guarded, asked.clone()).await;
    let held = held.expect("answers");
    assert!(held.published.is_none());
    let grant = approved(&guarded, held.decision).await;
    let with = |request: PrekeysRequest| PrekeysRequest {
        grant: grant.clone(),
        ..request
    };
    let others = scene.publish(&guarded, with(keys(2, true))).await;
    let others = others.expect("answers").decision;
    assert_eq!(others.reason.code, "grant_action_mismatch");
    let published = scene.publish(&guarded, with(asked.clone())).await;
    let published = published.expect("answers").published;
    assert_eq!(published.expect("they are approved").one_time.len(), 2);
    assert_eq!(code(scene.publish(&guarded, with(asked)).await), "conflict");

    let taking = |grant| TakePrekeyRequest {
        owner: guarded.identity().spiffe_id(),
        grant,
    };
    let take = async |grant| {
        let taken = governor.take_prekey(&scene.outbox, taking(grant), None);
        taken.await.expect("answers")
    };
    let held = take(None).await;
    assert!(held.prekey.is_none());
    let grant = approved(&scene.outbox, held.decision).await;
    assert!(take(grant.clone()).await.prekey.is_some());
    assert_eq!(take(grant).await.decision.reason.code, "grant_used");
    scene.world.check_records().await.expect("the log is sound");
}

/// What is durable is answered, though its reservation could not be settled.
#[tokio::test]
async fn what_was_done_is_answered_whatever_becomes_of_its_reservation() {
    let (world, gate) = held::world().await;
    let scene = scene_in(world).await;
    gate.shut(Moment::Settle);
    let published = scene.publish(&scene.inbox, keys(2, true)).await;
    assert!(published.expect("publishes").published.is_some());
    assert_eq!(scene.count("usage.settled"), 0);
    gate.shut(Moment::Settle);
    assert_eq!(scene.taken().await.0, "one_time");
    assert_eq!((scene.count("usage.settled"), scene.left().await), (0, 1));
    assert_eq!(scene.taken().await.0, "one_time");
    assert_eq!((scene.count("usage.settled"), scene.left().await), (1, 0));
    scene.world.check_records().await.expect("the log is sound");
}

/// What no server writes: by nobody, of nobody, of none, of too many, to itself.
#[tokio::test]
async fn a_log_of_prekeys_that_could_not_be_does_not_hold() {
    let scene = scene().await;
    scene
        .publish(&scene.inbox, keys(3, true))
        .await
        .expect("publishes");
    let evidence = scene.world.commits.evidence(scene.inbox.org());
    let real = evidence
        .iter()
        .find(|record| record.kind == "prekeys.published")
        .expect("it was published");
    let known = real.body["one_time"][0].clone();
    let id = |number: usize| json!(format!("{number:0>43}"));
    let ids = |count: usize| (0..count).map(id).collect::<Vec<_>>();
    let published = |who: &str, body: Value| {
        let mut body = body;
        body["owner"] = json!(who);
        json!({ "kind": "prekeys.published", "actor": who, "body": body })
    };
    let taken = |actor: &str| {
        let body = json!({ "owner": "planner", "id": known, "kind": "one_time" });
        json!({ "kind": "prekey.taken", "actor": actor, "body": body })
    };
    let ended = |kind: &str| {
        let body = json!({ "principal": "planner" });
        json!({ "kind": kind, "actor": "alice", "body": body })
    };
    let with = |more: Vec<Value>| {
        let mut checker = scene.world.after_the_leaves();
        let mut next = u64::try_from(evidence.len()).expect("few")..;
        more.iter().try_for_each(|record| {
            let index = next.next().expect("there is always one more");
            checker.leaf(LeafIndex(index), record)
        })
    };
    let one = |who: &str| published(who, json!({ "one_time": ids(1), "last_resort": id(200) }));
    let more = |count, withdrawn: Vec<Value>| {
        let body = json!({ "one_time": ids(count), "withdrawn": withdrawn });
        published("planner", body)
    };
    for holds in [
        vec![one("planner"), taken("release-bot")],
        vec![one("release-bot"), taken("alice")],
        vec![more(97, Vec::new())],
        vec![more(98, vec![known.clone()])],
        vec![
            ended("principal.suspended"),
            ended("principal.resumed"),
            taken("alice"),
        ],
    ] {
        with(holds).expect("it holds");
    }
    let suspended = || ended("principal.suspended");
    let revoked = || ended("principal.revoked");
    for (records, why) in [
        (vec![one("alice")], "no agent"),
        (vec![one("nobody")], "never created"),
        (
            vec![published("planner", json!({ "one_time": [] }))],
            "no prekey",
        ),
        (
            vec![published("release-bot", json!({ "one_time": ids(1) }))],
            "last resort",
        ),
        (vec![more(98, Vec::new())], "101 of planner to wait"),
        (
            vec![more(99, vec![known.clone()])],
            "101 of planner to wait",
        ),
        (vec![more(1, vec![id(7)])], "did not wait"),
        (
            vec![more(1, vec![known.clone()]), taken("alice")],
            "taken before",
        ),
        (
            vec![taken("alice"), more(1, vec![known.clone()])],
            "did not wait",
        ),
        (vec![taken("planner")], "by itself"),
        (vec![suspended(), one("planner")], "who was suspended"),
        (vec![suspended(), taken("alice")], "who was suspended"),
        (vec![revoked(), one("planner")], "who was revoked"),
        (vec![revoked(), taken("alice")], "who was revoked"),
    ] {
        let found = with(records).expect_err(why);
        assert!(found.contains(why), "{found}");
    }
}

/// Of a log in which one is given out twice, or was never published, that is said.
#[tokio::test]
async fn a_log_with_a_key_given_out_twice_does_not_hold() {
    let scene = scene().await;
    scene
        .publish(&scene.inbox, keys(1, true))
        .await
        .expect("publishes");
    scene.taken().await;
    scene.taken().await;
    let evidence = scene.world.commits.evidence(scene.inbox.org());
    let taken = |kind: &str| {
        let mut records = evidence
            .iter()
            .map(|record| serde_json::to_value(record).expect("JSON"));
        records.find(|record| record["kind"] == "prekey.taken" && record["body"]["kind"] == kind)
    };
    let checker = || {
        let mut checker = RecordChecker::new();
        for (record, index) in evidence.iter().zip(0_u64..) {
            let value = serde_json::to_value(record).expect("JSON");
            checker.leaf(LeafIndex(index), &value).expect("it is sound");
        }
        checker
    };
    let next = LeafIndex(u64::try_from(evidence.len()).expect("few"));
    let once = taken("one_time").expect("it was taken");
    let error = checker().leaf(next, &once).expect_err("it is taken twice");
    assert!(error.contains("taken before"), "{error}");
    let last = taken("last_resort").expect("it was taken");
    checker().leaf(next, &last).expect("it serves again");
    let mut other = last;
    other["body"]["owner"] = json!("release-bot");
    checker().leaf(next, &other).expect_err("it is none of its");
    let published = evidence
        .iter()
        .find(|record| record.kind == "prekeys.published");
    let published = serde_json::to_value(published).expect("JSON");
    let error = checker().leaf(next, &published).expect_err("they were");
    assert!(error.contains("published before"), "{error}");
}

/// Who took them may have been erased: what is left of that is a leaf that says it no more.
#[tokio::test]
async fn what_was_taken_by_somebody_erased_leaves_the_log_sound() {
    let scene = scene().await;
    scene
        .publish(&scene.inbox, keys(MAX_ONE_TIME_PREKEYS, true))
        .await
        .expect("publishes");
    for _ in 0..2 {
        scene.taken().await;
    }
    scene
        .publish(&scene.inbox, keys(2, true))
        .await
        .expect("publishes");
    let last = async || loop {
        let (kind, _) = scene.taken().await;
        if kind == "last_resort" {
            break;
        }
    };
    last().await;
    let evidence = scene.world.commits.evidence(scene.inbox.org());
    for hidden in ["prekey.taken", "principal.key_revoked"] {
        let mut checker = RecordChecker::new();
        let mut hide = 2;
        for (record, index) in evidence.iter().zip(0_u64..) {
            let mut record = serde_json::to_value(record).expect("JSON");
            if record["kind"] == "prekey.taken" && hide > 0 {
                hide -= 1;
                record = json!({ "kind": hidden, "commitment": "c" });
            }
            let said = checker.leaf(LeafIndex(index), &record);
            said.unwrap_or_else(|said| panic!("{hidden}, leaf {index}: {said}"));
        }
        assert!(checker.unchecked() > 0);
    }
}
