//! Verifier keys, cosignatures and the request for one, as text.

use creto_tlog::{
    AddCheckpoint, Checkpoint, CheckpointError, Cosignature, CosignatureType, Note, NoteError,
    NoteKey, NoteKeyMaterial,
};
use proptest::prelude::*;

use crate::HASHER;

/// The key of golang.org/x/mod/sumdb/note's example.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

#[test]
fn a_key_is_read_in_its_one_form() {
    let key = NoteKey::parse(HASHER, PETER).unwrap();
    assert_eq!((key.name(), key.id()), ("PeterNeumann", 0xc74f_20a3));
    assert!(matches!(key.material(), NoteKeyMaterial::Ed25519(key) if key.len() == 32));
    assert_eq!(key.to_string(), PETER);
    for bad in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a3+",
        &PETER.replace("c74f20a3", "C74F20A3"),
        &PETER.replace("c74f20a3", "c74f20a4"),
        &PETER.replace("Peter", "Paul"),
        &PETER.replace("0TW", "0TX"),
        &format!("{PETER}\n"),
        &format!(" {PETER}"),
    ] {
        assert!(NoteKey::parse(HASHER, bad).is_err(), "{bad}");
    }
    let long = "x".repeat(10_000);
    // Errors do not repeat all that strangers send.
    let beginning = NoteError::VerifierKey {
        text: "x".repeat(80),
    };
    assert_eq!(NoteKey::parse(HASHER, &long), Err(beginning));
}

#[test]
fn the_types_of_keys_are_told_apart() {
    let public = [5; 32];
    let kinds = CosignatureType::ALL;
    let cosigner = |kind| NoteKey::cosigner(HASHER, "witness.example/w1", kind, &public).unwrap();
    let [one, other] = kinds.map(cosigner);
    let plain = NoteKey::ed25519(HASHER, "witness.example/w1", &public).unwrap();
    assert_ne!(one.id(), plain.id());
    assert_ne!(one.id(), other.id());
    for (kind, key) in kinds.into_iter().zip([&one, &other]) {
        assert_eq!(key.material(), NoteKeyMaterial::Cosigner(kind, &public));
    }
    assert_eq!(plain.material(), NoteKeyMaterial::Ed25519(&public));
    for key in [one, other, plain] {
        assert_eq!(NoteKey::parse(HASHER, &key.to_string()), Ok(key));
    }
}

/// The message of tlog-cosignature's example.
#[test]
fn what_is_cosigned_is_that_of_the_specification() {
    let checkpoint = "example.com/behind-the-sofa\n20852163\n\
                      CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let message = CosignatureType::Ed25519.message("anybody", 1_679_315_147, checkpoint);
    assert_eq!(
        String::from_utf8(message.unwrap()).unwrap(),
        format!("cosignature/v1\ntime 1679315147\n{checkpoint}")
    );
}

/// The line of tlog-cosignature's example.
#[test]
fn a_cosignature_of_the_specification_is_read() {
    let note = Note::parse(
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
         \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZC\
         B9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
            .as_bytes(),
    )
    .unwrap();
    let line = &note.signatures()[0];
    let cosignature = Cosignature::parse(CosignatureType::Ed25519, &line.signature).unwrap();
    assert_eq!(cosignature.time, 1_679_315_147);
    assert_eq!(cosignature.encode(), line.signature);
}

/// The structure of tlog-cosignature, byte by byte: the tree and both names, and none of the
/// text's other lines.
#[test]
fn what_ml_dsa_signs_is_that_of_the_specification() {
    let checkpoint = "example.com/behind-the-sofa\n20852163\n\
                      CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let extended = format!("{checkpoint}more\n");
    let root = checkpoint.parse::<Checkpoint>().unwrap().root;
    let kind = CosignatureType::MlDsa44;
    for text in [checkpoint, &extended] {
        let message = kind.message("witness.example.com/w1", 1_679_315_147, text);
        let expected = [
            &b"subtree/v1\n\0"[..],
            b"\x16witness.example.com/w1",
            b"\0\0\0\0\x64\x18\x50\xcb",
            b"\x1bexample.com/behind-the-sofa",
            b"\0\0\0\0\0\0\0\0",
            b"\0\0\0\0\x01\x3e\x2d\xc3",
            root.as_bytes(),
        ];
        assert_eq!(message.unwrap(), expected.concat());
    }
    let malformed = |what| Err(CheckpointError::Malformed { what });
    for (cosigner, says) in [
        (String::new(), malformed("cosigner name")),
        ("w".repeat(256), malformed("cosigner name")),
        ("w".repeat(255), Ok(())),
    ] {
        assert_eq!(kind.message(&cosigner, 0, checkpoint).map(drop), says);
    }
    let long = checkpoint.replacen("example", &"e".repeat(256), 1);
    assert_eq!(kind.message("w", 0, &long).map(drop), malformed("origin"));
    assert!(kind.message("w", 0, "no checkpoint\n").is_err());
}

#[test]
fn a_cosignature_has_one_length_and_a_time_that_is_one() {
    for (kind, length) in CosignatureType::ALL.into_iter().zip([64, 2420]) {
        let cosignature = Cosignature {
            time: 7,
            signature: vec![9; length],
        };
        let bytes = cosignature.encode();
        assert_eq!(Cosignature::parse(kind, &bytes), Some(cosignature));
        assert_eq!(Cosignature::parse(kind, &bytes[1..]), None);
        assert_eq!(Cosignature::parse(kind, &[&bytes[..], &[0]].concat()), None);
        let mut late = bytes;
        late[0] = 0x80;
        assert_eq!(Cosignature::parse(kind, &late), None, "over 2^63 - 1");
    }
}

/// The request of tlog-witness's example.
const REQUEST: &str = "old 20852014\n\
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
    jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
    5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
    /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
    \n\
    example.com/behind-the-sofa\n\
    20852163\n\
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
    \n\
    \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5\
    /Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
    \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks\
    +49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

#[test]
fn a_request_is_read_in_its_one_form() {
    let request: AddCheckpoint = REQUEST.parse().unwrap();
    assert_eq!(request.old, 20_852_014);
    assert_eq!(request.proof.len(), 4);
    let checkpoint: Checkpoint = request.checkpoint.text().parse().unwrap();
    assert_eq!(checkpoint.size, 20_852_163);
    assert_eq!(request.checkpoint.signatures().len(), 2);
    assert_eq!(request.to_string(), REQUEST);
    let first = AddCheckpoint {
        old: 0,
        proof: Vec::new(),
        ..request.clone()
    };
    assert!(first.to_string().starts_with("old 0\n\nexample.com/"));
    assert_eq!(first.to_string().parse::<AddCheckpoint>().unwrap(), first);
    let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
    let with_more = |count: usize| REQUEST.replacen(hash, &hash.repeat(1 + count), 1);
    assert!(with_more(59).parse::<AddCheckpoint>().is_ok(), "63 hashes");
    for bad in [
        with_more(60),
        REQUEST.replacen("old 2", "old 02", 1),
        REQUEST.replacen("old 2", "old +2", 1),
        REQUEST.replacen("old 2", "old  2", 1),
        REQUEST.replacen("old 20852014\n", "", 1),
        REQUEST.replacen("kaw=", "kax=", 1),
        REQUEST.replacen("\n\n", "\n", 1),
        REQUEST.replace('\n', "\r\n"),
        String::new(),
    ] {
        assert!(bad.parse::<AddCheckpoint>().is_err(), "{bad}");
    }
}

proptest! {
    /// A changed byte is another request or none, and nothing panics.
    #[test]
    fn a_changed_request_is_another_request(
        at in any::<prop::sample::Index>(), to in any::<char>(),
    ) {
        let original: AddCheckpoint = REQUEST.parse().unwrap();
        let (place, from) = {
            let all: Vec<_> = REQUEST.char_indices().collect();
            *at.get(&all)
        };
        prop_assume!(from != to);
        let mut changed = REQUEST.to_owned();
        changed.replace_range(place..place + from.len_utf8(), to.encode_utf8(&mut [0; 4]));
        if let Ok(read) = changed.parse::<AddCheckpoint>() {
            prop_assert_ne!(&read, &original);
            prop_assert_eq!(read.to_string(), changed);
        }
    }

    #[test]
    fn arbitrary_keys_never_panic(text in ".{0,80}") {
        if let Ok(key) = NoteKey::parse(HASHER, &text) {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}
