//! The keys of a witness, of both types, and what they sign.

use std::sync::Arc;

use creto_audit::conformance::org;
use creto_audit::{Audit, Cosigners, NoteVerifier, Witness, WitnessKey, check_proof};
use creto_crypto::AwsLcProvider;
use creto_errors::Classify as _;
use creto_tlog::{InclusionProof, Note};
use creto_types::{LeafIndex, ManualClock, SeededRandom, Timestamp};

use crate::World;
use crate::witnesses::{KINDS, Memory, NOW, made, request};

/// A log of seven leaves, and its keys.
async fn grown() -> (Arc<Audit>, [NoteVerifier; 2]) {
    let world = World::new();
    let audit = world.open().await.unwrap();
    world.commit(org(1), 7).await;
    let logs = audit.verifier_keys(org(1)).unwrap();
    let logs = logs.map(|log| NoteVerifier::parse(&log).unwrap());
    (audit, logs)
}

#[test]
fn a_witness_key_is_a_line_of_text() {
    let provider = Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(3))));
    for kind in KINDS {
        let generate = |name| WitnessKey::generate(name, kind, provider.clone());
        let (key, text) = generate("witness.example/w1").unwrap();
        let text = std::str::from_utf8(text.expose()).unwrap();
        assert!(text.starts_with("PRIVATE+KEY+witness.example/w1+"));
        let again = WitnessKey::parse(text, provider.clone()).unwrap();
        assert_eq!(again.verifier_key(), key.verifier_key());
        let shown = format!("{again:?}");
        assert!(!shown.contains(text.rsplit('+').next().unwrap()));
        for bad in [
            "",
            "PRIVATE+KEY+",
            &text.replace("w1", "w2"),
            &text.replacen("PRIVATE", "PUBLIC", 1),
            &text[..text.len() - 4],
            // The seed of a key of no known type.
            &format!("PRIVATE+KEY+witness.example/w1+00000000+{}", "Ag=="),
        ] {
            assert!(WitnessKey::parse(bad, provider.clone()).is_err());
        }
        assert!(generate("two words").is_err());
        assert!(generate("a+b").is_err());
    }
}

/// While its readers move from one key to the other a witness cosigns by both.
#[tokio::test]
async fn a_witness_with_two_keys_is_one_witness() {
    let (audit, logs) = grown().await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let keys = KINDS.map(|kind| made(5, "witness.example/w5", kind));
    let witness = Witness::new(keys, logs.clone(), Arc::new(Memory::default()), clock);
    let asked = request(&audit, 0).await;
    let lines = witness.add_checkpoint(&asked.to_string()).await.unwrap();
    let note = asked.checkpoint.with_lines(&lines).unwrap();
    let keys = witness.verifier_keys();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| NoteVerifier::parse(key).unwrap())
        .collect();
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert!(key.verifies(&note));
        // For another text, name or time it is none.
        let mut other = Note::new(&note.text().replacen("\n7\n", "\n8\n", 1)).unwrap();
        for line in note.signatures() {
            other.add_line(line.clone());
        }
        assert!(!key.verifies(&other));
    }
    assert_eq!(Cosigners::new(keys.clone(), None).unwrap().quorum(), 1);
    let leaf = audit.prove(org(1), LeafIndex(3)).await.unwrap();
    let mut proof: InclusionProof = leaf.proof.parse().unwrap();
    proof.checkpoint = proof.checkpoint.with_lines(&lines).unwrap();
    let proof = proof.to_string();
    let proven = check_proof(&proof, &leaf.bytes, &logs[0], &keys, 1).unwrap();
    assert_eq!(proven.cosigned_by, ["witness.example/w5"]);
    let two = check_proof(&proof, &leaf.bytes, &logs[0], &keys, 2);
    assert_eq!(two.unwrap_err().code(), "proof_not_cosigned");
}

/// ML-DSA-44 signs names of up to 255 bytes. A tree that could not be signed is not
/// remembered.
#[tokio::test]
async fn a_name_that_cannot_be_signed_is_refused_before_anything_is_kept() {
    let (audit, logs) = grown().await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let asked = request(&audit, 0).await;
    for (length, signs) in [(255, [true, true]), (256, [true, false])] {
        for (kind, signs) in KINDS.into_iter().zip(signs) {
            let memory = Arc::new(Memory::default());
            let keys = [made(5, &"w".repeat(length), kind)];
            let witness = Witness::new(keys, logs.clone(), memory.clone(), clock.clone());
            let answer = witness.add_checkpoint(&asked.to_string()).await;
            assert_eq!(answer.is_ok(), signs, "{kind:?} {length}");
            assert_eq!(memory.kept.lock().is_empty(), !signs);
        }
    }
}
