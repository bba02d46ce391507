//! Evidence bundles: whole ones verify, and not one byte of them is free.

use std::collections::BTreeMap;
use std::sync::Arc;

use creto_audit::conformance::{org, record};
use creto_audit::memory::{MemoryAttachments, MemoryJournal};
use creto_audit::{
    Audit, AuditError, DirectoryBundle, Export, Finding, Journal as _, RecordClass, SealedHead,
    Trust, VerifyReport, Withheld, leaf_bytes, verify_bundle,
};
use creto_crypto::{Allowed, AllowedAlgorithms, SignatureAlgorithm, sha256};
use creto_errors::Classify as _;
use creto_types::{HybridTimestamp, LeafIndex};

use crate::World;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

const ATTACHMENT: &str = "policies/spending.cedar";

/// Every file of a bundle, the manifest last.
pub(crate) async fn collected(mut export: Export) -> Result<Files, AuditError> {
    let mut files = Files::new();
    while let Some(file) = export.next().await? {
        assert!(!files.contains_key("manifest.json"), "the manifest is last");
        let before = files.insert(file.path.clone(), file.bytes);
        assert!(before.is_none(), "{} came twice", file.path);
    }
    Ok(files)
}

/// A bundle with all payloads and these files.
pub(crate) async fn whole(
    audit: &Audit,
    attachments: Vec<(String, Vec<u8>)>,
) -> Result<Files, AuditError> {
    let attachments = Arc::new(MemoryAttachments::new(attachments, |_| None));
    collected(audit.export(org(1), attachments, None).await?).await
}

async fn export(world: &World) -> Files {
    let audit = world.open().await.unwrap();
    let attachments = vec![(ATTACHMENT.to_owned(), b"permit(principal);".to_vec())];
    whole(&audit, attachments).await.unwrap()
}

async fn bundle(leaves: u64) -> Files {
    let world = World::new();
    world.commit(org(1), leaves).await;
    export(&world).await
}

/// The algorithms that whoever verifies reads.
pub(crate) fn accepted() -> Allowed<SignatureAlgorithm> {
    AllowedAlgorithms::default().signature
}

pub(crate) fn verify(files: &Files) -> Result<VerifyReport, Vec<Finding>> {
    verify_as(files, &Trust::BundleKeys)
}

pub(crate) fn verify_as(files: &Files, trust: &Trust) -> Result<VerifyReport, Vec<Finding>> {
    verify_bundle(
        files,
        trust,
        &accepted(),
        &mut |_, _| Ok(()),
        &mut |_, _| Ok(()),
    )
}

fn places(files: &Files) -> Vec<String> {
    let findings = verify(files).expect_err("this bundle must be refused");
    findings.into_iter().map(|finding| finding.place).collect()
}

/// The bundle with one file changed.
fn with(files: &Files, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(path).unwrap());
    files
}

#[tokio::test]
async fn a_whole_bundle_verifies() {
    for leaves in [0, 1, 5, 256, 300] {
        let files = bundle(leaves).await;
        let mut seen = Vec::new();
        let mut attachments = Vec::new();
        let digest = sha256(&files["keys.json"]);
        let report = verify_bundle(
            &files,
            &Trust::Pinned(digest.to_vec()),
            &accepted(),
            &mut |index, leaf| {
                assert_eq!(leaf["body"]["n"], index.0);
                seen.push(index.0);
                Ok(())
            },
            &mut |name, bytes| {
                attachments.push((name.to_owned(), bytes.to_vec()));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..leaves).collect::<Vec<_>>());
        assert_eq!(attachments[0].0, ATTACHMENT);
        assert_eq!((report.size, report.leaves), (leaves, leaves));
        assert_eq!(report.origin, format!("creto.example/log/{}", org(1)));
        assert_eq!(report.keys_digest, digest);
        assert_eq!(report.signatures.len(), 3);
    }
}

/// Where a changed byte of a file has to be found.
fn expected_place(files: &Files, path: &str, at: usize) -> String {
    if path.starts_with("tile/entries/") || path.starts_with("payloads/") {
        // Which leaf the byte belongs to, with its length before it.
        let bytes = &files[path];
        let (mut leaf, mut end) = (0, 0);
        loop {
            end += 2 + usize::from(u16::from_be_bytes([bytes[end], bytes[end + 1]]));
            if at < end {
                return format!("leaf {leaf}");
            }
            leaf += 1;
        }
    }
    path.to_owned()
}

/// Fails unless the first finding names the place.
fn expect_found(files: &Files, path: &str, at: usize, changed: &Files) {
    let findings = verify(changed).expect_err("a changed byte must be found");
    let first = &findings[0].place;
    let expected = expected_place(files, path, at);
    let named = match path {
        "checkpoint" => first.starts_with("checkpoint"),
        "manifest.json" => first == "manifest signature" || first == "manifest.json",
        // Other keys verify nothing: the file is named among what follows.
        "keys.json" => findings.iter().any(|finding| finding.place == expected),
        _ => *first == expected,
    };
    assert!(named, "{path} byte {at}: {findings:?}");
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let names = |what: &str| said.iter().any(|text| text.contains(what));
    let what = match path {
        "keys.json" => expected_key(files, at).unwrap_or("signature"),
        "checkpoint" | "manifest.json" => "signature",
        // No leaf records this one.
        _ if path.starts_with("attachments/") => return,
        _ => "lea",
    };
    assert!(names(what), "{path} byte {at}: {findings:?}");
}

/// The signature whose key this byte of `keys.json` is about.
fn expected_key(files: &Files, at: usize) -> Option<&'static str> {
    let text = str::from_utf8(&files["keys.json"]).unwrap();
    let mut from = text.find('[').unwrap() + 2;
    for (place, purpose) in [
        ("the key of checkpoint signature ed25519", "log_ed25519"),
        ("the key of checkpoint signature composite", "log_composite"),
        ("manifest signature", "evidence"),
    ] {
        let end = from + text[from..].find(purpose).unwrap() + purpose.len() + 1;
        if (from..end).contains(&at) {
            return Some(place);
        }
        from = end + 2;
    }
    None
}

/// Every byte of a small bundle, each on its own, and each bit of some.
#[tokio::test]
async fn not_one_byte_is_free() {
    let files = bundle(3).await;
    let mut work = Vec::new();
    for (path, bytes) in &files {
        for at in 0..bytes.len() {
            work.push((path.clone(), at, 1_u8 << (at % 8)));
            if at % 97 == 0 {
                work.extend((0..8).map(|bit| (path.clone(), at, 1 << bit)));
            }
        }
    }
    std::thread::scope(|scope| {
        for half in work.chunks(work.len().div_ceil(2)) {
            let files = &files;
            scope.spawn(move || {
                for (path, at, mask) in half {
                    let changed = with(files, path, |bytes| bytes[*at] ^= mask);
                    expect_found(files, path, *at, &changed);
                }
            });
        }
    });
}

#[tokio::test]
async fn cut_and_lengthened_files_are_named() {
    let files = bundle(300).await;
    for (path, bytes) in &files {
        for cut in [bytes.len() - 1, bytes.len() / 2, 0] {
            let changed = with(&files, path, |bytes| bytes.truncate(cut));
            let found = places(&changed);
            assert!(
                found.iter().any(|place| place.starts_with(path.as_str())),
                "{path} {cut}: {found:?}"
            );
        }
        for extra in [&b"\n"[..], b" ", b"\0", b"\0\0", b"="] {
            let changed = with(&files, path, |bytes| bytes.extend_from_slice(extra));
            let found = places(&changed);
            assert!(
                found.iter().any(|place| place.starts_with(path.as_str())),
                "{path}: {found:?}"
            );
        }
    }
}

#[tokio::test]
async fn added_and_removed_files_are_named() {
    let files = bundle(300).await;
    for path in files.keys() {
        let mut changed = files.clone();
        changed.remove(path);
        assert!(places(&changed).contains(path), "{path}");
    }
    for path in [
        "README",
        "attachments/another",
        "attachments/../escape",
        "tile/0/002",
        "tile/0/001.p/43",
        "tile/entries/002.p/1",
        "payloads/000.p/44",
        "payloads/002.p/1",
        "checkpoint.bak",
        ".hidden",
    ] {
        let mut changed = files.clone();
        changed.insert(path.to_owned(), Vec::new());
        assert!(places(&changed).contains(&path.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_tile_and_the_leaf_below_it_are_told_apart() {
    let files = bundle(300).await;
    let tile = with(&files, "tile/0/001.p/44", |bytes| bytes[40] ^= 1);
    let message = "tile/0/001.p/44: its hash 1 is not that of leaf 257";
    assert_eq!(verify(&tile).unwrap_err()[0].to_string(), message);
    let above = with(&files, "tile/1/000.p/1", |bytes| bytes[0] ^= 1);
    let message = "tile/1/000.p/1: its hash 0 is not that of leaves 0 to 255";
    assert_eq!(verify(&above).unwrap_err()[0].to_string(), message);
    let mut both = with(&files, "tile/0/001.p/44", |bytes| bytes[40] ^= 1);
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    last(both.get_mut("tile/entries/001.p/44").unwrap());
    let found = places(&both);
    assert!(found.contains(&"leaf 299".to_owned()), "{found:?}");
    assert!(found.contains(&"tile/0/001.p/44".to_owned()), "{found:?}");
}

#[tokio::test]
async fn the_parts_of_a_checkpoint_are_named() {
    let files = bundle(5).await;
    let note = String::from_utf8(files["checkpoint"].clone()).unwrap();
    let line = |number: usize| {
        let start: usize = note.split_inclusive('\n').take(number).map(str::len).sum();
        let length = note.split('\n').nth(number).unwrap().len();
        (start, start + length)
    };
    // Within the signature: after the key id, before the padding.
    let (_, end) = line(4);
    let changed = with(&files, "checkpoint", |bytes| bytes[end - 20] ^= 1);
    assert_eq!(places(&changed)[0], "checkpoint signature ed25519");
    // The first half of the composite signature and its second.
    let (start, end) = line(5);
    for at in [start + 120, end - 20] {
        let changed = with(&files, "checkpoint", |bytes| bytes[at] ^= 1);
        assert_eq!(places(&changed)[0], "checkpoint signature composite");
    }
    // One line alone is not enough, nor is a third.
    let cut = with(&files, "checkpoint", |bytes| bytes.truncate(start));
    assert!(places(&cut).contains(&"checkpoint signature composite".to_owned()));
    let more = with(&files, "checkpoint", |bytes| {
        bytes.extend_from_within(start..)
    });
    assert!(places(&more).contains(&"checkpoint".to_owned()));
    // A size without end is not walked.
    let huge = note.replacen("\n5\n", "\n18446744073709551615\n", 1);
    let changed = with(&files, "checkpoint", |bytes| *bytes = huge.into_bytes());
    assert!(places(&changed).contains(&"checkpoint".to_owned()));
}

/// The keys in a bundle show that it is whole, not whose it is.
#[tokio::test]
async fn another_logs_bundle_fails_only_when_keys_are_pinned() {
    let mine = bundle(5).await;
    let mut world = World::new();
    world.keys = crate::Keys::new(9);
    world.commit(org(1), 5).await;
    let forged = export(&world).await;
    verify(&forged).unwrap();
    let pinned = Trust::Pinned(sha256(&mine["keys.json"]).to_vec());
    verify_as(&mine, &pinned).unwrap();
    let findings = verify_as(&forged, &pinned).unwrap_err();
    assert_eq!(findings[0].place, "keys.json");
    assert!(verify_as(&mine, &Trust::Pinned(Vec::new())).is_err());
    // Nor does any file of one fit into the other.
    for path in ["checkpoint", "keys.json", "manifest.json"] {
        let mixed = with(&mine, path, |bytes| bytes.clone_from(&forged[path]));
        verify(&mixed).unwrap_err();
    }
}

/// Whoever holds the evidence key alone cannot change the log.
#[tokio::test]
async fn a_manifest_of_an_older_export_does_not_cover_a_newer_log() {
    let world = World::new();
    world.commit(org(1), 5).await;
    let older = export(&world).await;
    world.commit(org(1), 1).await;
    let newer = export(&world).await;
    verify(&newer).unwrap();
    let mixed = with(&newer, "manifest.json", |bytes| {
        bytes.clone_from(&older["manifest.json"]);
    });
    let found = places(&mixed);
    assert!(found.contains(&"checkpoint".to_owned()), "{found:?}");
}

/// A log that was signed as it is, whatever its leaves say of their order.
async fn signed_with(leaves: Vec<serde_json::Value>) -> Files {
    let world = World::new();
    world.journal.tamper(org(1), |log| {
        *log = leaves
            .iter()
            .map(|leaf| creto_types::canonical_json(leaf).unwrap())
            .collect();
    });
    export(&world).await
}

#[tokio::test]
async fn a_log_whose_timestamps_do_not_rise_is_found_out() {
    let at = |millis, logical| HybridTimestamp::from_parts(millis, logical).unwrap();
    let leaf = |index: u64, ts: Option<HybridTimestamp>| {
        let bytes = leaf_bytes(
            LeafIndex(index),
            ts.unwrap_or(HybridTimestamp::MAX),
            RecordClass::Evidence,
            &record(org(1), index),
        );
        let mut leaf: serde_json::Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        if ts.is_none() {
            leaf.as_object_mut().unwrap().remove("ts");
        }
        leaf
    };
    let start = 1_700_000_000_000;
    let good = [
        None,
        None,
        Some(at(start, 0)),
        Some(at(start, 1)),
        Some(at(start + 1, 0)),
    ];
    let log = |all: &[Option<HybridTimestamp>]| {
        (0..)
            .zip(all)
            .map(|(index, ts)| leaf(index, *ts))
            .collect::<Vec<_>>()
    };
    // Leaves from before there were timestamps stay valid.
    verify(&signed_with(log(&good)).await).unwrap();
    for (place, ts) in [
        (3, Some(at(start, 0))),
        (4, Some(at(start, 1))),
        (4, None),
        (2, Some(at(start - 1, 0))),
    ] {
        let mut bad = good;
        bad[place] = ts;
        let found = places(&signed_with(log(&bad)).await);
        assert_eq!(found, [format!("leaf {place}")], "{ts:?}");
    }
    let mut bad = log(&good);
    bad[2]["ts"] = serde_json::Value::Null;
    let world = World::new();
    world.journal.tamper(org(1), |log| {
        *log = bad
            .iter()
            .map(|leaf| creto_types::canonical_json(leaf).unwrap())
            .collect();
    });
    assert!(world.open().await.is_err(), "such a leaf is none");
}

#[tokio::test]
async fn what_leaves_and_attachments_mean_is_judged_by_the_caller() {
    let files = bundle(5).await;
    let findings = verify_bundle(
        &files,
        &Trust::BundleKeys,
        &accepted(),
        &mut |index, _| {
            if index.0 == 3 {
                Err("its signature does not verify".to_owned())
            } else {
                Ok(())
            }
        },
        &mut |name, _| Err(format!("{name} is unknown")),
    )
    .unwrap_err();
    let found: Vec<_> = findings.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(found, ["leaf 3", "attachments/policies/spending.cedar"]);
}

#[tokio::test]
async fn an_attachment_is_named_with_the_leaf_that_records_it() {
    let world = World::new();
    world.commit(org(1), 3).await;
    let mut issued = record(org(1), 3);
    issued.body = serde_json::json!({"id": "inv_7"});
    let append = world.journal.append(RecordClass::Evidence, vec![issued]);
    append.await.unwrap();
    let audit = world.open().await.unwrap();
    let attachments = vec![("invoices/inv_7.json".to_owned(), b"{}".to_vec())];
    let files = whole(&audit, attachments).await.unwrap();
    verify(&files).unwrap();
    let path = "attachments/invoices/inv_7.json";
    let changed = with(&files, path, |bytes| bytes[0] ^= 1);
    let finding = verify(&changed).unwrap_err().remove(0);
    assert_eq!(finding.place, path);
    assert!(
        finding.message.ends_with("; its record is leaf 3"),
        "{finding}"
    );
}

pub(crate) fn erased(subject: creto_types::SubjectId) -> creto_types::Evidence {
    creto_types::Evidence {
        kind: creto_audit::SUBJECT_ERASED.to_owned(),
        actor: "owner".parse().unwrap(),
        body: serde_json::json!({ "subject": subject }),
        ..record(org(1), 0)
    }
}

/// The log itself has to say why, or the bundle is not made.
#[tokio::test]
async fn payloads_may_be_gone_for_a_reason_in_the_log() {
    let world = World::new();
    world.commit(org(1), 300).await;
    let subject = MemoryJournal::subject(org(1), &record(org(1), 0).actor);
    let lose = || {
        let of = |_, head: &SealedHead| head.subject == subject;
        world.journal.withhold(org(1), Withheld::Erased, of);
    };
    lose();
    let audit = world.open().await.unwrap();
    let refused = whole(&audit, vec![]).await.unwrap_err();
    assert_eq!(refused.code(), "log_corrupt");
    let records = vec![erased(subject)];
    let append = world.journal.append(RecordClass::Evidence, records);
    append.await.unwrap();
    let files = whole(&audit, vec![]).await.unwrap();
    let mut seen = 0;
    let report = verify_bundle(
        &files,
        &Trust::BundleKeys,
        &accepted(),
        &mut |_, leaf| {
            seen += u64::from(leaf.get("body").is_some());
            Ok(())
        },
        &mut |_, _| Ok(()),
    );
    let report = report.unwrap();
    assert_eq!((report.leaves, report.unread.erased, seen), (301, 300, 1));
    assert_eq!(report.unread.total(), 300);
    // The record of the erasure does not explain what comes behind it.
    let records = vec![record(org(1), 301)];
    let append = world.journal.append(RecordClass::Evidence, records);
    append.await.unwrap();
    lose();
    let refused = whole(&audit, vec![]).await.unwrap_err();
    assert_eq!(refused.code(), "log_corrupt");
}

/// What was left out or put in afterwards is found, whatever the leaf is about.
#[tokio::test]
async fn payloads_are_those_that_were_exported() {
    let files = bundle(3).await;
    let path = "payloads/000.p/3";
    let entries = creto_tlog::parse_entries(&files[path], 3).unwrap();
    let [first, second, third] = entries[..] else {
        panic!("three leaves, three payloads")
    };
    let put = |list: [&[u8]; 3]| {
        let bytes = creto_tlog::encode_entries(list).unwrap();
        places(&with(&files, path, |file| *file = bytes))
    };
    assert_eq!(put([first, b"", third])[0], "leaf 1");
    assert_eq!(put([first, third, second])[..2], ["leaf 1", "leaf 2"]);
    assert_eq!(put([first, b"short", third])[0], "leaf 1");
}

/// Clear leaves have nothing beside them.
#[tokio::test]
async fn a_log_from_before_payloads_verifies() {
    let mut world = World::new();
    world.journal = MemoryJournal::clear().into();
    world.commit(org(1), 300).await;
    let files = export(&world).await;
    assert!(!files.keys().any(|path| path.starts_with("payloads/")));
    let report = verify(&files).unwrap();
    assert_eq!((report.leaves, report.unread.total()), (300, 0));
}

#[tokio::test]
async fn attachments_have_plain_names() {
    let world = World::new();
    let audit = world.open().await.unwrap();
    for names in [
        vec![""],
        vec!["a//b"],
        vec!["../a"],
        vec!["/a"],
        vec!["a/"],
        vec![".a"],
        vec!["a b"],
        vec!["a\\b"],
        vec!["same", "same"],
    ] {
        let attachments = names.iter().map(|n| ((*n).to_owned(), vec![])).collect();
        let error = whole(&audit, attachments).await.unwrap_err();
        assert_eq!(error.code(), "attachment_name_invalid", "{names:?}");
    }
}

#[tokio::test]
async fn a_directory_is_read_as_it_is() {
    let files = bundle(300).await;
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in &files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let check = || {
        let reader = DirectoryBundle(dir.path().to_owned());
        verify_bundle(
            &reader,
            &Trust::BundleKeys,
            &accepted(),
            &mut |_, _| Ok(()),
            &mut |_, _| Ok(()),
        )
    };
    assert_eq!(check().unwrap().size, 300);
    let link = dir.path().join("attachments/link");
    std::os::unix::fs::symlink(dir.path().join("keys.json"), &link).unwrap();
    assert_eq!(check().unwrap_err()[0].place, "attachments/link");
    std::fs::remove_file(link).unwrap();
    let gone = DirectoryBundle(dir.path().join("nowhere"));
    verify_bundle(
        &gone,
        &Trust::BundleKeys,
        &accepted(),
        &mut |_, _| Ok(()),
        &mut |_, _| Ok(()),
    )
    .unwrap_err();
}
