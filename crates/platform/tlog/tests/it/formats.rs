//! Paths, bundles, notes, checkpoints and proofs as text.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_tlog::{
    Checkpoint, CheckpointError, Entries, EntryError, Hash, InclusionProof, MAX_ENTRY_LEN, Note,
    NoteError, NoteKey, Resource, Tile, encode_entries, parse_entries,
};
use proptest::prelude::*;

use crate::HASHER;

#[test]
fn paths_are_those_of_the_specification() {
    let tile = |level, index, width| Tile::new(level, index, width).unwrap().to_string();
    assert_eq!(tile(0, 0, 256), "tile/0/000");
    assert_eq!(tile(1, 1_234_067, 256), "tile/1/x001/x234/067");
    assert_eq!(tile(7, 999, 1), "tile/7/999.p/1");
    assert_eq!(
        Entries::new(1_234_067, 8).unwrap().to_string(),
        "tile/entries/x001/x234/067.p/8"
    );
}

#[test]
fn only_the_one_spelling_of_a_path_is_read() {
    for good in [
        "checkpoint",
        "tile/0/000",
        "tile/3/x001/000.p/255",
        "tile/entries/x123/x456/789",
    ] {
        assert_eq!(good.parse::<Resource>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "/checkpoint",
        "checkpoint/",
        "tile/0/0",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/+01",
        "tile/8/000",
        "tile/0/../checkpoint",
        "tile/entries/000.p/",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(bad.parse::<Resource>().is_err(), "{bad}");
    }
}

/// The example of golang.org/x/mod/sumdb/note: key, text and signature were made
/// by its authors.
#[test]
fn a_note_of_the_reference_implementation_verifies() {
    let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let note = Note::parse(
        "If you think cryptography is the answer to your problem,\n\
         then you don't know what your problem is.\n\n\
         \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZ\
         SNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
            .as_bytes(),
    )
    .unwrap();
    let encoded = STANDARD
        .decode(verifier.rsplit('+').next().unwrap())
        .unwrap();
    let public: [u8; 32] = encoded[1..].try_into().unwrap();
    let key = NoteKey::ed25519(HASHER, "PeterNeumann", &public).unwrap();
    assert_eq!(key.id(), 0xc74f_20a3);
    assert_eq!(key.to_string(), verifier);
    let [line] = note.signatures() else {
        panic!("one signature, not {:?}", note.signatures());
    };
    assert_eq!((line.name.as_str(), line.key_id), (key.name(), key.id()));
    UnparsedPublicKey::new(&ED25519, public)
        .verify(note.text().as_bytes(), &line.signature)
        .unwrap();
}

/// The key id that the Go checksum database publishes for itself.
#[test]
fn the_go_checksum_database_key_has_its_id() {
    let public = STANDARD
        .decode("Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
        .unwrap();
    let public: [u8; 32] = public[1..].try_into().unwrap();
    let key = NoteKey::ed25519(HASHER, "sum.golang.org", &public).unwrap();
    assert_eq!(key.id(), 0x033d_e0ae);
}

fn note() -> Note {
    let checkpoint = Checkpoint::new("log.example/org".to_owned(), 7, Hash::from_bytes([9; 32]));
    let mut note = Note::new(&checkpoint.to_string()).unwrap();
    let ed25519 = NoteKey::ed25519(HASHER, "log.example/org", &[1; 32]).unwrap();
    let other = NoteKey::unassigned(HASHER, "log.example/org", "some-scheme", &[2; 50]).unwrap();
    assert_ne!(ed25519.id(), other.id());
    note.add_signature(&ed25519, vec![3; 64]);
    note.add_signature(&other, vec![4; 100]);
    note
}

#[test]
fn notes_are_read_in_their_one_form() {
    let note = note();
    let bytes = note.encode();
    assert_eq!(Note::parse(&bytes).unwrap(), note);
    let text = String::from_utf8(bytes).unwrap();
    for (bad, error) in [
        (text.replace("\n\n", "\n"), NoteError::NoSignatures),
        (text.trim_end().to_owned(), NoteError::NoSignatures),
        (text.replace("example", "exa\tmple"), NoteError::NotText),
        (format!("{text}\n"), NoteError::NoSignatures),
        (format!("{text}x\n"), NoteError::SignatureLine { line: 3 }),
        (
            text.replacen("\u{2014} log", "- log", 1),
            NoteError::SignatureLine { line: 1 },
        ),
    ] {
        assert_eq!(Note::parse(bad.as_bytes()).unwrap_err(), error, "{bad}");
    }
    assert!(NoteKey::ed25519(HASHER, "a b", &[0; 32]).is_err());
    assert!(NoteKey::ed25519(HASHER, "a+b", &[0; 32]).is_err());
    assert!(NoteKey::ed25519(HASHER, "", &[0; 32]).is_err());
    let huge = vec![b'a'; 300 * 1024];
    assert!(matches!(Note::parse(&huge), Err(NoteError::TooLong { .. })));
}

/// The example of tlog-checkpoint.
#[test]
fn checkpoints_are_read_in_their_one_form() {
    let text = "example.com/behind-the-sofa\n20852163\n\
                CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint: Checkpoint = text.parse().unwrap();
    assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
    assert_eq!(checkpoint.size, 20_852_163);
    assert_eq!(checkpoint.to_string(), text);
    let extended: Checkpoint = format!("{text}opaque\n").parse().unwrap();
    assert_eq!(extended.extensions, ["opaque"]);
    for bad in [
        "",
        "origin\n",
        "origin\n1\n",
        &text.replace("20852163", "020852163"),
        &text.replace("20852163", "+20852163"),
        &text.replace("2I=", "2J="),
        &text.replace("2I=", "2I"),
        &format!("{text}\n"),
        text.trim_end(),
    ] {
        assert!(bad.parse::<Checkpoint>().is_err(), "{bad}");
    }
}

#[test]
fn inclusion_proofs_are_text() {
    let proof = InclusionProof {
        index: 5,
        hashes: vec![Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32])],
        checkpoint: note(),
    };
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 5\n"));
    assert_eq!(text.parse::<InclusionProof>().unwrap(), proof);
    let extra = text.replacen("\nindex", "\nextra AAAA\nindex", 1);
    assert_eq!(extra.parse::<InclusionProof>().unwrap(), proof);
    let alone = InclusionProof {
        hashes: Vec::new(),
        ..proof
    };
    assert_eq!(alone.to_string().parse::<InclusionProof>().unwrap(), alone);
    for bad in [
        text.replace("index 5", "index 05"),
        text.replace("@v1", "@v2"),
        text.replacen("AQEB", "A*EB", 1),
    ] {
        assert!(matches!(
            bad.parse::<InclusionProof>(),
            Err(CheckpointError::Malformed { .. })
        ));
    }
}

#[test]
fn an_entry_over_sixteen_bits_is_refused() {
    let longest = vec![7; MAX_ENTRY_LEN];
    let bundle = encode_entries([longest.as_slice()]).unwrap();
    assert_eq!(parse_entries(&bundle, 1).unwrap(), [longest.as_slice()]);
    assert_eq!(
        encode_entries([vec![7; MAX_ENTRY_LEN + 1].as_slice()]),
        Err(EntryError::TooLong {
            len: 65_536,
            limit: 65_535
        })
    );
}

proptest! {
    #[test]
    fn bundles_survive(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let bundle = encode_entries(entries.iter().map(Vec::as_slice)).unwrap();
        prop_assert_eq!(parse_entries(&bundle, entries.len()).unwrap(), entries.clone());
        let wrong = parse_entries(&bundle, entries.len() + 1).unwrap_err();
        let (found, expected) = (entries.len(), entries.len() + 1);
        prop_assert_eq!(wrong.0, EntryError::WrongCount { found, expected });
        if let Some(cut) = bundle.len().checked_sub(1) {
            let (error, whole) = parse_entries(&bundle[..cut], entries.len()).unwrap_err();
            prop_assert_eq!(error, EntryError::Truncated { position: entries.len() - 1 });
            prop_assert_eq!(whole.len(), entries.len() - 1);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_entries(&bytes, 3);
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.encode(), bytes.clone());
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = text.parse::<Checkpoint>();
            let _ = text.parse::<InclusionProof>();
            let _ = text.parse::<Resource>();
        }
    }

    /// Whatever byte of a note changes, it is no longer read as the same note.
    #[test]
    fn a_changed_note_is_another_note(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let original = note();
        let mut bytes = original.encode();
        let place = at.index(bytes.len());
        prop_assume!(bytes[place] != to);
        bytes[place] = to;
        if let Ok(read) = Note::parse(&bytes) {
            prop_assert_ne!(&read, &original);
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
