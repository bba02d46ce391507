//! The second line of a checkpoint, and the evidence, by another algorithm than the composite.

use creto_audit::conformance::org;
use creto_audit::{AuditError, FormerLogKeys, LogKeySource as _, LogKeys, NoteVerifier};
use creto_audit::{Trust, VerifyReport, verify_bundle};
use creto_crypto::{Allowed, SignatureAlgorithm, sha256};
use creto_errors::Classify as _;
use creto_tlog::{Checkpoint, Hasher, Note, NoteKey};

use crate::World;
use crate::bundle::{Files, whole};
use crate::log::expect_whole;
use crate::rekeys::{pair, replaced, retired};

const ED25519: SignatureAlgorithm = SignatureAlgorithm::Ed25519;
const ML_DSA: SignatureAlgorithm = SignatureAlgorithm::MlDsa65;
const COMPOSITE: SignatureAlgorithm = SignatureAlgorithm::MlDsa65Ed25519;

fn verified(files: &Files, accepted: &[SignatureAlgorithm]) -> Result<VerifyReport, String> {
    let accepted = Allowed::new(accepted[0], accepted.iter().copied()).unwrap();
    let verified = verify_bundle(
        files,
        &Trust::BundleKeys,
        &accepted,
        &mut |_, _| Ok(()),
        &mut |_, _| Ok(()),
    );
    verified.map_err(|findings| findings[0].to_string())
}

#[tokio::test]
async fn a_log_is_signed_by_ml_dsa_alone_beside_ed25519() {
    let world = World::new();
    world.keys.make_by(ML_DSA);
    world.commit(org(1), 5).await;
    let audit = world.open().await.unwrap();
    let head = audit.checkpoint(org(1)).await.unwrap();
    expect_whole(&world, org(1), &head).await;
    let note = Note::parse(&head.note).unwrap();
    assert_eq!(note.signatures().len(), 2);
    let second = &note.signatures()[1].signature;
    assert_eq!(second.len(), ML_DSA.signature_len());
    for key in pair(&audit) {
        assert!(key.verifies(&note));
    }
    // It opens again by the same keys.
    drop(audit);
    let audit = world.open().await.unwrap();
    assert_eq!(audit.checkpoint(org(1)).await.unwrap().root, head.root);

    let files = whole(&audit, Vec::new()).await.unwrap();
    let report = verified(&files, &[ML_DSA, ED25519]).unwrap();
    assert_eq!(report.size, 5);
    let refused = verified(&files, &[COMPOSITE, ED25519]).unwrap_err();
    for word in [
        "checkpoint signature composite",
        "`ML-DSA-65` is not allowed",
        "--accept",
    ] {
        assert!(refused.contains(word), "{refused}");
    }
    // The Ed25519 line has its list too.
    let refused = verified(&files, &[ML_DSA]).unwrap_err();
    assert!(refused.contains("`Ed25519` is not allowed"), "{refused}");
}

/// Whoever follows the log goes on over the change, as over any other of its keys.
#[tokio::test]
async fn a_log_moves_to_another_algorithm_and_back() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 9).await;
    let signed = |note: &[u8], keys: &[&NoteVerifier]| {
        let note = Note::parse(note).unwrap();
        keys.iter().all(|key| key.verifies(&note))
    };
    for (algorithm, accepted) in [
        (ML_DSA, [ML_DSA, ED25519]),
        (COMPOSITE, [COMPOSITE, ED25519]),
    ] {
        world.keys.make_by(algorithm);
        let [old, new] = replaced(&world, &audit).await;
        let between = audit.checkpoint(org(1)).await.unwrap();
        let all: Vec<&NoteVerifier> = old.iter().chain(&new).collect();
        assert!(signed(&between.note, &all));
        retired(&world, &audit).await;
        let after = audit.checkpoint(org(1)).await.unwrap();
        let all: Vec<&NoteVerifier> = new.iter().collect();
        assert!(signed(&after.note, &all));
        assert!(!signed(&after.note, &[&old[1]]));
        let files = whole(&audit, Vec::new()).await.unwrap();
        verified(&files, &accepted).unwrap();
        let opened = world.open().await.unwrap();
        let again = opened.checkpoint(org(1)).await.unwrap();
        let read = |note: &[u8]| Note::parse(note).unwrap().text().parse::<Checkpoint>();
        assert_eq!(read(&again.note).unwrap(), read(&after.note).unwrap());
    }
}

/// Without a context a key could not tell a checkpoint from anything else.
#[tokio::test]
async fn a_key_without_a_context_signs_neither_the_second_line_nor_evidence() {
    let world = World::new();
    let good = world.keys.keys(org(1)).unwrap();
    let plain = good.ed25519.clone();
    let former = FormerLogKeys {
        ed25519: plain.clone(),
        composite: plain.clone(),
    };
    for bad in [
        LogKeys {
            composite: plain.clone(),
            ..good.clone()
        },
        LogKeys {
            evidence: plain.clone(),
            ..good.clone()
        },
        LogKeys {
            former: Some(former),
            ..good.clone()
        },
        LogKeys {
            ed25519: good.composite.clone(),
            ..good.clone()
        },
    ] {
        world.keys.set(org(1), bad);
        let opened = world.open().await;
        let refused = match opened {
            Ok(audit) => audit.checkpoint(org(1)).await.err(),
            Err(error) => Some(error),
        };
        let code = refused.as_ref().map(AuditError::code);
        assert_eq!(code, Some("log_key_wrong_algorithm"));
    }
}

/// One name is the beginning of the other, and each is read as itself.
#[tokio::test]
async fn verifier_keys_say_their_algorithm() {
    for algorithm in [ML_DSA, COMPOSITE] {
        let world = World::new();
        world.keys.make_by(algorithm);
        let audit = world.open().await.unwrap();
        let [_, text] = audit.verifier_keys(org(1)).unwrap();
        assert_eq!(NoteVerifier::parse(&text).unwrap().to_string(), text);
    }
    let (ml_dsa, composite) = (ML_DSA.public_key_len(), COMPOSITE.public_key_len());
    let read = |name: &str, public: &[u8]| {
        let key = NoteKey::unassigned(Hasher::new(sha256), "log.example/1", name, public);
        NoteVerifier::parse(&key.unwrap().to_string()).is_ok()
    };
    for (name, length, good) in [
        ("ML-DSA-65", ml_dsa, true),
        ("ML-DSA-65", composite, false),
        ("ML-DSA-65-Ed25519", composite, true),
        ("ML-DSA-65-Ed25519", ml_dsa, false),
        (
            "ML-DSA-44",
            SignatureAlgorithm::MlDsa44.public_key_len(),
            false,
        ),
        ("Ed25519", 32, false),
    ] {
        assert_eq!(read(name, &vec![7; length]), good, "{name} {length}");
    }
    // A key whose bytes go on like the other name.
    let mut public = vec![7; ml_dsa];
    public[..8].copy_from_slice(b"-Ed25519");
    assert!(read("ML-DSA-65", &public));
}
