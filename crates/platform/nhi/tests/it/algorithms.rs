//! Keys, links and tokens are made and read by the algorithms of the configuration.

use creto_crypto::{
    Allowed, AllowedAlgorithms, AwsLcProvider, CryptoProvider as _, Digest, HashAlgorithm, InForce,
    KemAlgorithm, SignatureAlgorithm, WrapAlgorithm,
};
use creto_errors::{Class, Classify as _};
use creto_nhi::test_util::{commit, name};
use creto_nhi::{DELEGATION_CONTEXT, KeyPurpose, NhiError, PrincipalType, SignedLink};
use creto_types::SystemRandom;
use std::sync::Arc;

use crate::tokens::part;
use crate::{chained, code, crew};

const ED25519: SignatureAlgorithm = SignatureAlgorithm::Ed25519;
const ML_DSA: SignatureAlgorithm = SignatureAlgorithm::MlDsa65;
const COMPOSITE: SignatureAlgorithm = SignatureAlgorithm::MlDsa65Ed25519;

fn signing(new: SignatureAlgorithm, accepted: &[SignatureAlgorithm]) -> AllowedAlgorithms {
    AllowedAlgorithms {
        signature: Allowed::new(new, accepted.iter().copied()).unwrap(),
        ..AllowedAlgorithms::default()
    }
}

/// New keys are of the new algorithm, what the old ones signed stays readable, and
/// chains of both hold.
#[tokio::test]
async fn an_organization_moves_to_another_algorithm() {
    let (mut world, org, [.., last]) = chained().await;
    let old = world.nhi.identity_for_link(org, last).unwrap();
    let old_token = world.nhi.issue_token(&old, None).unwrap().token;

    let both = signing(ML_DSA, &[ML_DSA, COMPOSITE, ED25519]);
    world.nhi = world.reopen_under(both.clone()).await.unwrap();
    world.nhi.verify_token(&old_token).unwrap();
    world.principal(org, "newcomer", PrincipalType::Agent).await;
    world.principal(org, "second", PrincipalType::Agent).await;
    let newcomer = world.nhi.principal(org, &name("newcomer")).unwrap();
    assert_eq!(newcomer.verifying_key.algorithm(), ML_DSA);
    let first = world
        .delegate(org, world.request("helper", "newcomer", Some(last)))
        .await
        .unwrap();
    let second = world
        .delegate(org, world.request("newcomer", "second", Some(first)))
        .await
        .unwrap();
    let signed = world.nhi.link(org, second).unwrap().signed.clone();
    assert_eq!(signed.signature.algorithm(), ML_DSA);

    // An organization that is founded now has its keys of the new one, but where the format
    // has another.
    let other = world.organization("bob").await;
    let algorithm = |purpose| {
        let signer = world.nhi.signer(other, purpose).unwrap();
        signer.verifying_key().algorithm()
    };
    assert_eq!(algorithm(KeyPurpose::Issuer), ML_DSA);
    assert_eq!(algorithm(KeyPurpose::LogEd25519), ED25519);
    assert_eq!(algorithm(KeyPurpose::LogComposite), ML_DSA);
    assert_eq!(algorithm(KeyPurpose::Evidence), ML_DSA);
    let bob = world.nhi.identity_for_human(other, &name("bob")).unwrap();
    let token = world.nhi.issue_token(&bob, None).unwrap().token;
    assert_eq!(part(&token, 0)["alg"], "ML-DSA-65");
    world.nhi.verify_token(&token).unwrap();

    // Everything is verified anew after a restart, and back under the old algorithm.
    for algorithms in [both, signing(COMPOSITE, &[COMPOSITE, ML_DSA, ED25519])] {
        let again = world.reopen_under(algorithms).await.unwrap();
        assert_eq!(again.chain(org, second).unwrap().len(), 5);
        again.verify_token(&token).unwrap();
        again.verify_token(&old_token).unwrap();
    }
    // What is still there of an algorithm keeps it from being retired unnoticed.
    let refused = world.reopen_under(AllowedAlgorithms::default()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.code(), "algorithm_not_allowed");
    assert_eq!(error.class(), Class::Security);
}

/// The log's keys move when they are rotated, and what they were needs no list then.
#[tokio::test]
async fn the_keys_of_a_log_move_to_another_algorithm() {
    let (mut world, org) = crew().await;
    world.nhi = world
        .reopen_under(signing(ML_DSA, &[ML_DSA, COMPOSITE, ED25519]))
        .await
        .unwrap();
    let algorithms = |nhi: &creto_nhi::Nhi| {
        let signers = nhi.log_signers(org).unwrap();
        let of = |signer: &dyn creto_crypto::Signer| signer.verifying_key().algorithm();
        let former = signers.former.map(|(one, two)| [of(&*one), of(&*two)]);
        let now = [&signers.ed25519, &signers.composite, &signers.evidence];
        (now.map(|signer| of(&**signer)), former)
    };
    assert_eq!(algorithms(&world.nhi).0, [ED25519, COMPOSITE, COMPOSITE]);
    let draft = world.nhi.draft_log_rotation(org).unwrap();
    let rotated = world
        .nhi
        .commit_log_rotation(draft, commit(org, "log_keys.rotated"));
    rotated.await.unwrap();
    let overlap = ([ED25519, ML_DSA, ML_DSA], Some([ED25519, COMPOSITE]));
    assert_eq!(algorithms(&world.nhi), overlap);
    let again = world.reopen_under(signing(ML_DSA, &[ML_DSA, COMPOSITE, ED25519]));
    assert_eq!(algorithms(&again.await.unwrap()), overlap);
    let former = world.nhi.former_log_keys(org).unwrap();
    let retired = world
        .nhi
        .retire_log_keys(org, former, commit(org, "log_keys.retired"));
    retired.await.unwrap();
    assert_eq!(algorithms(&world.nhi), ([ED25519, ML_DSA, ML_DSA], None));
}

/// One change of the lists is in force for keys, their wrapping, prekeys and digests.
#[tokio::test]
async fn other_lists_are_in_force_for_everything_without_opening_anew() {
    let (mut world, org) = crew().await;
    let lists = InForce::default();
    world.nhi = world.reopen_under(lists.clone()).await.unwrap();
    let alice = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let old = world.nhi.issue_token(&alice, None).unwrap().token;
    let chacha = WrapAlgorithm::HkdfSha256ChaCha20Poly1305;
    let aes = WrapAlgorithm::HkdfSha256Aes256Gcm;
    lists.replace(AllowedAlgorithms {
        wrapping: Allowed::new(chacha, [chacha, aes]).unwrap(),
        kem: Allowed::only(KemAlgorithm::MlKem1024),
        hash: Allowed::only(HashAlgorithm::Blake3),
        ..signing(ML_DSA, &[ML_DSA, COMPOSITE, ED25519])
    });
    let draft = world.nhi.draft_rotation(org).unwrap();
    assert_eq!(draft.summary().issuer, ML_DSA);
    assert_eq!(draft.summary().wrapping, chacha);
    let rotated = world
        .nhi
        .commit_rotation(draft, commit(org, "keys.rotated"));
    rotated.await.unwrap();
    world.principal(org, "newcomer", PrincipalType::Agent).await;
    let newcomer = world.nhi.principal(org, &name("newcomer")).unwrap();
    assert_eq!(newcomer.verifying_key.algorithm(), ML_DSA);
    let new = world.nhi.issue_token(&alice, None).unwrap().token;
    assert_eq!(part(&new, 0)["alg"], "ML-DSA-65");
    for token in [&old, &new] {
        world.nhi.verify_token(token).unwrap();
    }
    assert_eq!(
        world.nhi.prekey_algorithms().for_new(),
        KemAlgorithm::MlKem1024
    );
    let digest = Digest::of(HashAlgorithm::Sha256, b"text").to_string();
    assert_eq!(
        code(world.nhi.digest("digest", &digest)),
        "algorithm_not_allowed"
    );
    // What is not read any more is refused from the next request on.
    lists.replace(signing(ML_DSA, &[ML_DSA, ED25519]));
    assert_eq!(code(world.nhi.verify_token(&old)), "algorithm_not_allowed");
}

#[tokio::test]
async fn a_link_of_an_algorithm_that_is_not_accepted_is_refused_unread() {
    let (world, org) = crew().await;
    let SignedLink { link, signature } = world
        .nhi
        .draft_delegation(org, world.request("alice", "worker", None))
        .unwrap();
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    let key = provider.generate_signing_key(ML_DSA).unwrap();
    let bytes = link.signing_bytes().unwrap();
    let foreign = provider.sign(&key, DELEGATION_CONTEXT, &bytes).unwrap();
    assert_ne!(foreign.algorithm(), signature.algorithm());
    let forged = SignedLink {
        link,
        signature: foreign,
    };
    let refused = world
        .nhi
        .commit_delegation(forged, commit(org, "delegation.granted"))
        .await;
    assert_eq!(code(refused), "algorithm_not_allowed");
}

#[tokio::test]
async fn keys_are_wrapped_by_the_new_algorithm_and_read_by_the_accepted() {
    let (mut world, org) = crew().await;
    let other = WrapAlgorithm::HkdfSha384Aes256Gcm;
    let aes = WrapAlgorithm::HkdfSha256Aes256Gcm;
    let wrapping = |new, accepted: &[WrapAlgorithm]| AllowedAlgorithms {
        wrapping: Allowed::new(new, accepted.iter().copied()).unwrap(),
        ..AllowedAlgorithms::default()
    };
    let refused = world.reopen_under(wrapping(other, &[other])).await;
    assert_eq!(code(refused), "algorithm_not_allowed");
    world.nhi = world
        .reopen_under(wrapping(other, &[other, aes]))
        .await
        .unwrap();
    world.principal(org, "newcomer", PrincipalType::Agent).await;
    let snapshot = world.store.load().await.unwrap();
    for stored in &snapshot.principals {
        let new = stored.principal.name.as_str() == "newcomer";
        let expected = if new { other } else { aes };
        assert_eq!(stored.key.wrapped.algorithm(), Some(expected));
    }
    assert_eq!(
        code(world.reopen_under(AllowedAlgorithms::default()).await),
        "algorithm_not_allowed"
    );
    world
        .reopen_under(wrapping(aes, &[aes, other]))
        .await
        .unwrap();
}

/// A link signed without a context could be passed off as something else that its
/// key signed.
#[tokio::test]
async fn new_keys_are_never_of_an_algorithm_without_contexts() {
    let (world, _) = crew().await;
    let refused = world
        .reopen_under(signing(ED25519, &[ED25519, COMPOSITE]))
        .await;
    assert!(matches!(
        refused,
        Err(NhiError::Invalid {
            field: "algorithms",
            ..
        })
    ));
}
