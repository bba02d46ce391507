//! An agent's key signs for that agent, when everything that decides an action says so.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::sha256;
use creto_governor::{
    Caller, GovernError, IdempotencyKey, KeyRevocationRequest, LimitRequest, OutcomeKind,
    PrincipalKeyRequest, SignRequest, SigningAnswer, SuspensionRequest,
};
use creto_nhi::{PublicKeys, SignedStatement};
use creto_types::Clock as _;
use serde_json::json;

use crate::policies::{code, publish, starter};
use crate::world::{World, delegate, enter, right};

const MESSAGE: &[u8] = b"the release of July is reviewed";

/// The rules of the tests: reviews are signed, contracts when a human approved.
const POLICIES: &str = r#"
@id("signatures")
permit (principal, action == Creto::Action::"identity.sign", resource)
when { ["signature:review", "signature:contract"].contains(resource.id) };

@id("contracts")
@oversight("contracts")
@reason("a contract binds the organization")
forbid (principal is Creto::Agent, action == Creto::Action::"identity.sign", resource)
when { resource.id == "signature:contract" } unless { context.oversight.approved };
"#;

struct Scene {
    world: World,
    signer: Caller,
    link: String,
}

/// The owner, and a planner with the right to sign anything.
async fn scene() -> Scene {
    let world = World::new().await;
    let governor = &world.governor;
    let mut files = starter();
    files.insert("signatures.cedar".to_owned(), POLICIES.to_owned());
    let published = governor.publish_policies(&world.owner, publish(files), None);
    published.await.expect("publishes");
    let expires = world.clock.now() + Duration::from_secs(3_600);
    let mut request = delegate("planner", "1.00", expires);
    request.rights = vec![right("identity.sign", "signature:*")];
    let made = governor.delegate(&world.owner, request, None);
    let link = made.await.expect("delegates").id;
    let signer = enter(governor, &world.owner, &link).await;
    Scene {
        world,
        signer,
        link,
    }
}

fn request(purpose: &str, message: &[u8]) -> SignRequest {
    SignRequest {
        purpose: purpose.to_owned(),
        message: Some(URL_SAFE_NO_PAD.encode(message)),
        digest: None,
        grant: None,
    }
}

impl Scene {
    async fn sign(
        &self,
        caller: &Caller,
        request: SignRequest,
    ) -> Result<SigningAnswer, GovernError> {
        self.world.governor.sign(caller, request, None).await
    }

    /// Whether the answer's signature is the planner's over this message.
    fn holds(&self, answer: &SigningAnswer, message: &[u8]) -> bool {
        let signed = answer.signed.as_ref().expect("it is signed");
        let governor = &self.world.governor;
        let keys = governor
            .public_keys(&self.world.bot, &signed.signer)
            .expect("known");
        let keys = serde_json::to_value(keys).expect("JSON");
        let keys: PublicKeys = serde_json::from_value(keys).expect("keys");
        let signed = serde_json::to_value(signed).expect("JSON");
        let signed: SignedStatement = serde_json::from_value(signed).expect("a statement");
        let lists = creto_crypto::AllowedAlgorithms::default();
        keys.verify(&signed, message, &lists).is_ok()
    }

    fn count(&self, kind: &str) -> usize {
        let kinds = self.world.kinds();
        kinds.iter().filter(|found| *found == kind).count()
    }
}

#[tokio::test]
async fn what_is_permitted_is_signed_settled_and_on_record_without_the_message() {
    let scene = scene().await;
    let answer = scene
        .sign(&scene.signer, request("review", MESSAGE))
        .await
        .expect("signs");
    assert_eq!(answer.decision.outcome, OutcomeKind::Allow);
    assert!(scene.holds(&answer, MESSAGE));
    assert!(!scene.holds(&answer, b"the release of August is reviewed"));
    let signed = answer.signed.as_ref().expect("it is signed");
    assert_eq!(signed.purpose, "review");
    assert!(signed.signer.ends_with("/agent/planner"));
    assert_eq!(
        (scene.count("identity.signed"), scene.count("usage.settled")),
        (1, 1)
    );

    let evidence = scene.world.commits.evidence(scene.signer.org());
    let record = evidence
        .iter()
        .find(|record| record.kind == "identity.signed");
    let record = record.expect("it is on record");
    assert_eq!(record.action_id, Some(answer.decision.action_id));
    assert_eq!(record.actor, *scene.signer.name());
    assert_eq!(record.at, signed.signed_at);
    let signature = URL_SAFE_NO_PAD
        .decode(&signed.signature.sig)
        .expect("base64url");
    assert_eq!(
        record.body,
        json!({
            "signer": signed.signer,
            "purpose": "review",
            "digest": format!("sha-256:{}", hex::encode(sha256(MESSAGE))),
            "kid": signed.kid,
            "signature_sha256": hex::encode(sha256(&signature)),
            "delegation": scene.link,
        })
    );
    let text = serde_json::to_string(&evidence).expect("JSON");
    let message = std::str::from_utf8(MESSAGE).expect("text");
    let sent = request("review", MESSAGE).message.expect("it has one");
    assert!(!text.contains(message) && !text.contains(&sent));
    scene.world.check_records().await.expect("the log is sound");
}

#[tokio::test]
async fn policies_rights_and_roles_refuse_and_leave_no_signature() {
    let scene = scene().await;
    let denied = scene
        .sign(&scene.signer, request("payment", MESSAGE))
        .await
        .expect("answers");
    assert_eq!(denied.decision.outcome, OutcomeKind::Deny);
    assert_eq!(denied.decision.reason.code, "no_policy_permits");
    // The bot's delegation has no such right.
    let denied = scene
        .sign(&scene.world.bot, request("review", MESSAGE))
        .await
        .expect("answers");
    assert_eq!(denied.decision.reason.code, "right_not_delegated");
    assert!(denied.signed.is_none());
    let owner = scene
        .sign(&scene.world.owner, request("review", MESSAGE))
        .await;
    assert_eq!(code(owner), "forbidden");
    for wrong in [
        SignRequest {
            purpose: "Review!".to_owned(),
            ..request("review", MESSAGE)
        },
        SignRequest {
            message: Some("a=".to_owned()),
            ..request("review", MESSAGE)
        },
        SignRequest {
            message: None,
            ..request("review", MESSAGE)
        },
        SignRequest {
            digest: Some(format!("sha-256:{}", "00".repeat(32))),
            ..request("review", MESSAGE)
        },
        request("review", &[0; creto_nhi::MAX_SIGNED_LEN + 1]),
    ] {
        assert_eq!(
            code(scene.sign(&scene.signer, wrong).await),
            "invalid_request"
        );
    }
    assert_eq!(scene.count("identity.signed"), 0);
}

#[tokio::test]
async fn a_human_approves_what_is_signed_and_that_alone() {
    let scene = scene().await;
    let governor = &scene.world.governor;
    let held = scene
        .sign(&scene.signer, request("contract", MESSAGE))
        .await
        .expect("answers");
    assert_eq!(held.decision.outcome, OutcomeKind::RequiresOversight);
    assert!(held.signed.is_none());
    let id = held.decision.oversight.expect("it waits").request_id;
    let id = id.parse().expect("an id");
    let shown = governor
        .oversight_request(&scene.world.owner, id, None)
        .await
        .expect("reads");
    let shown = serde_json::to_value(shown).expect("JSON").to_string();
    assert!(
        shown.contains(std::str::from_utf8(MESSAGE).expect("text")),
        "{shown}"
    );
    let approved = governor.approve(&scene.world.owner, id, None, None).await;
    approved.expect("approves");
    let seen = governor.oversight_request(&scene.signer, id, None).await;
    let grant = seen.expect("reads").grant;
    assert!(grant.is_some());
    let with = |purpose, message| SignRequest {
        grant: grant.clone(),
        ..request(purpose, message)
    };
    let other = scene
        .sign(&scene.signer, with("contract", b"something else"))
        .await;
    assert_eq!(other.expect("answers").decision.outcome, OutcomeKind::Deny);
    let other = scene.sign(&scene.signer, with("review", MESSAGE)).await;
    assert_eq!(other.expect("answers").decision.outcome, OutcomeKind::Deny);
    let signed = scene
        .sign(&scene.signer, with("contract", MESSAGE))
        .await
        .expect("signs");
    assert!(scene.holds(&signed, MESSAGE));
    let again = scene
        .sign(&scene.signer, with("contract", MESSAGE))
        .await
        .expect("answers");
    assert!(again.signed.is_none(), "once");
    assert_eq!(scene.count("identity.signed"), 1);
}

#[tokio::test]
async fn limits_count_signatures() {
    let scene = scene().await;
    let limit: LimitRequest = serde_json::from_value(json!({
        "scope": { "agent": "planner" },
        "event": "identity.sign",
        "limit": { "units": 2 },
        "window": "total",
    }))
    .expect("a limit");
    let set = scene
        .world
        .governor
        .set_limit(&scene.world.owner, limit, None)
        .await;
    set.expect("sets");
    for _ in 0..2 {
        let answer = scene
            .sign(&scene.signer, request("review", MESSAGE))
            .await
            .expect("signs");
        assert!(answer.signed.is_some());
    }
    let more = scene
        .sign(&scene.signer, request("review", MESSAGE))
        .await
        .expect("answers");
    assert_eq!(more.decision.outcome, OutcomeKind::QuotaExceeded);
    assert!(more.signed.is_none());
}

#[tokio::test]
async fn a_chain_that_is_suspended_or_revoked_has_nothing_signed() {
    let scene = scene().await;
    let governor = &scene.world.governor;
    let reason = || SuspensionRequest {
        reason: "looked into".to_owned(),
    };
    let planner = scene.signer.name();
    let suspended = governor
        .suspend_principal(&scene.world.owner, planner, reason(), None)
        .await;
    suspended.expect("suspends");
    let refused = scene.sign(&scene.signer, request("review", MESSAGE)).await;
    assert_eq!(code(refused), "principal_suspended");
    let id = &scene.signer.identity().spiffe_id();
    assert!(
        governor
            .public_keys(&scene.world.owner, id)
            .expect("known")
            .suspended
    );
    let resumed = governor
        .resume_principal(&scene.world.owner, planner, reason(), None)
        .await;
    resumed.expect("resumes");
    assert!(
        !governor
            .public_keys(&scene.world.owner, id)
            .expect("known")
            .suspended
    );
    let revoked = governor.revoke(&scene.world.owner, &scene.link, None).await;
    revoked.expect("revokes");
    let refused = scene.sign(&scene.signer, request("review", MESSAGE)).await;
    assert_eq!(code(refused), "delegation_revoked");
    assert_eq!(scene.count("identity.signed"), 0);
}

#[tokio::test]
async fn a_repeated_call_gives_the_same_signature_and_no_second_record() {
    let scene = scene().await;
    let governor = &scene.world.governor;
    let key = || IdempotencyKey::new("k").ok();
    let first = governor
        .sign(&scene.signer, request("review", MESSAGE), key())
        .await;
    let again = governor
        .sign(&scene.signer, request("review", MESSAGE), key())
        .await;
    assert_eq!(first.expect("signs"), again.expect("answers"));
    let other = governor
        .sign(&scene.signer, request("review", b"other"), key())
        .await;
    assert_eq!(code(other), "idempotency_key_reused");
    assert_eq!(scene.count("identity.signed"), 1);
}

#[tokio::test]
async fn what_a_key_signed_is_not_repeated_once_it_is_revoked() {
    let scene = scene().await;
    let governor = &scene.world.governor;
    let sign = || {
        let key = IdempotencyKey::new("k").ok();
        governor.sign(&scene.signer, request("review", MESSAGE), key)
    };
    let signed = sign().await.expect("signs").signed.expect("it may");
    let rotation = PrincipalKeyRequest {
        reason: "a year has passed".to_owned(),
    };
    let planner = scene.signer.name();
    let rotated = governor.rotate_principal_key(&scene.world.owner, planner, rotation, None);
    rotated.await.expect("rotates");
    assert_eq!(sign().await.expect("repeats").signed, Some(signed.clone()));
    let revocation = KeyRevocationRequest {
        kid: signed.kid,
        reason: "it leaked".to_owned(),
    };
    let revoked = governor.revoke_principal_key(&scene.world.owner, planner, revocation, None);
    revoked.await.expect("revokes");
    assert_eq!(code(sign().await), "signing_key_revoked");
    scene.world.check_records().await.expect("the log is sound");
}

#[tokio::test]
async fn keys_are_found_within_the_organization_alone() {
    let scene = scene().await;
    let governor = &scene.world.governor;
    let stranger = scene.world.stranger().await;
    let id = &scene.signer.identity().spiffe_id();
    assert_eq!(code(governor.public_keys(&stranger, id)), "not_found");
    let unknown = governor.public_keys(&scene.world.bot, "spiffe://creto.test/nobody");
    assert_eq!(code(unknown), "not_found");
    let known = governor.public_keys(&scene.world.bot, id).expect("known");
    assert_eq!(
        (known.name.as_str(), known.kind.as_str()),
        ("planner", "agent")
    );
}
