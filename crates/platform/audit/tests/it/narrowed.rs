//! Bundles with some payloads only prove as much as whole ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_audit::conformance::{org, record};
use creto_audit::memory::{MemoryAttachments, MemoryIndex, MemoryIndexKeys, MemoryJournal};
use creto_audit::{
    Audit, Journal as _, LogKeySource as _, RecordClass, SUBJECT_ERASED, SearchField, SearchQuery,
    SearchTerm, Trust, VerifyReport, Withheld, verify_bundle,
};
use creto_errors::Classify as _;
use creto_types::{Evidence, HybridTimestamp, Timestamp};
use serde_json::{Value, json};

use crate::World;
use crate::bundle::{accepted, collected, whole};

type Files = BTreeMap<String, Vec<u8>>;

const LEAVES: u64 = 300;

fn by(n: u64) -> Evidence {
    let actor = if n.is_multiple_of(3) {
        "planner"
    } else {
        "bot"
    };
    Evidence {
        actor: actor.parse().unwrap(),
        body: json!({ "n": n, "action": format!("a{}", n % 2) }),
        ..record(org(1), n)
    }
}

async fn world() -> (World, Arc<Audit>) {
    let world = World::new();
    let records = (0..LEAVES).map(by).collect();
    let append = world.journal.append(RecordClass::Evidence, records);
    append.await.unwrap();
    let audit = world.open().await.unwrap();
    audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
    (world, audit)
}

fn wanted(terms: &[(SearchField, &str)]) -> SearchQuery {
    let terms = terms.iter();
    SearchQuery {
        terms: terms
            .map(|(field, value)| SearchTerm::new(*field, *value))
            .collect(),
        ..SearchQuery::default()
    }
}

/// Each record refers to a file of its own.
fn refers(record: &Value) -> Option<String> {
    Some(format!("files/{}", record.pointer("/body/n")?))
}

fn attachments() -> Vec<(String, Vec<u8>)> {
    (0..LEAVES)
        .map(|n| (format!("files/{n}"), vec![b'x']))
        .collect()
}

async fn narrowed(audit: &Audit, query: &SearchQuery) -> Files {
    let files = Arc::new(MemoryAttachments::new(attachments(), refers));
    let export = audit.export(org(1), files, Some(query)).await.unwrap();
    collected(export).await.unwrap()
}

/// What can be read in a bundle, and which attachments it has.
fn read(files: &Files) -> (VerifyReport, BTreeSet<u64>, BTreeSet<u64>) {
    let (mut leaves, mut attached) = (BTreeSet::new(), BTreeSet::new());
    let report = verify_bundle(
        files,
        &Trust::BundleKeys,
        &accepted(),
        &mut |leaf, record| {
            if record.get("body").is_some() {
                leaves.insert(leaf.0);
            }
            Ok(())
        },
        &mut |path, _| {
            attached.insert(path.strip_prefix("files/").unwrap().parse().unwrap());
            Ok(())
        },
    );
    (report.unwrap(), leaves, attached)
}

#[tokio::test]
async fn what_is_asked_for_is_disclosed_and_nothing_else() {
    let (_, audit) = world().await;
    let whole = whole(&audit, attachments()).await.unwrap();
    let planner = wanted(&[(SearchField::Agent, "planner")]);
    let both = wanted(&[(SearchField::Agent, "planner"), (SearchField::Action, "a1")]);
    let nobody = wanted(&[(SearchField::Agent, "nobody")]);
    for (query, of) in [
        (&planner, (|n| n.is_multiple_of(3)) as fn(u64) -> bool),
        (&both, |n| n.is_multiple_of(3) && !n.is_multiple_of(2)),
        (&nobody, |_| false),
    ] {
        let files = narrowed(&audit, query).await;
        let (report, leaves, attached) = read(&files);
        let expected: BTreeSet<u64> = (0..LEAVES).filter(|n| of(*n)).collect();
        assert_eq!(leaves, expected);
        assert_eq!(attached, expected);
        assert_eq!(report.leaves, LEAVES);
        assert_eq!(report.unread.not_disclosed, LEAVES - expected.len() as u64);
        assert_eq!(report.filter.unwrap().len(), query.terms.len());
        // The same log, leaf by leaf.
        for (path, bytes) in &whole {
            if path.starts_with("tile/") {
                assert_eq!(files.get(path), Some(bytes), "{path}");
            }
        }
        let secret = br#""action":"a0""#;
        let any = files
            .values()
            .any(|bytes| bytes.windows(secret.len()).any(|window| window == secret));
        assert_eq!(any, expected.iter().any(|n| n.is_multiple_of(2)));
    }
}

/// Whoever hands on a narrowed bundle cannot make it out to be whole, nor leave out more.
#[tokio::test]
async fn a_narrowed_bundle_is_no_whole_one() {
    let (_, audit) = world().await;
    let whole = whole(&audit, attachments()).await.unwrap();
    let query = wanted(&[(SearchField::Agent, "planner")]);
    let files = narrowed(&audit, &query).await;
    let verify = |files: &Files| {
        verify_bundle(
            files,
            &Trust::BundleKeys,
            &accepted(),
            &mut |_, _| Ok(()),
            &mut |_, _| Ok(()),
        )
    };
    verify(&files).unwrap();
    for path in ["manifest.json", "payloads/000"] {
        let mut mixed = files.clone();
        mixed.insert(path.to_owned(), whole[path].clone());
        verify(&mixed).unwrap_err();
        let mut mixed = whole.clone();
        mixed.insert(path.to_owned(), files[path].clone());
        verify(&mixed).unwrap_err();
    }
}

/// The bundle with another filter in its manifest, signed by whoever has the keys.
fn signed_with_filter(world: &World, files: &Files, filter: &Value) -> Files {
    let mut envelope: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let payload = STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["predicate"]["payloads"]["filter"] = filter.clone();
    let payload = creto_types::canonical_json(&statement).unwrap();
    let kind = envelope["payloadType"].as_str().unwrap();
    let (kind_len, len) = (kind.len(), payload.len());
    let mut signed = format!("DSSEv1 {kind_len} {kind} {len} ").into_bytes();
    signed.extend_from_slice(&payload);
    let signer = world.keys.keys(org(1)).unwrap().evidence;
    let signature = signer.sign(b"creto/evidence/v1", &signed).unwrap();
    envelope["payload"] = STANDARD.encode(&payload).into();
    envelope["signatures"][0]["sig"] = STANDARD.encode(signature.as_bytes()).into();
    let mut files = files.clone();
    let manifest = creto_types::canonical_json(&envelope).unwrap();
    files.insert("manifest.json".to_owned(), manifest);
    files
}

/// The instant of the timestamp of leaf n. All happen in one, and the counter rises.
fn nth(n: u64) -> Timestamp {
    let first = HybridTimestamp::of_instant(record(org(1), 0).at).as_u64();
    HybridTimestamp::from_u64(first + n).to_instant()
}

/// Whoever makes a bundle cannot say that other payloads were asked for than those in it.
#[tokio::test]
async fn the_payloads_are_those_that_the_manifest_says() {
    let (world, audit) = world().await;
    let planner = narrowed(&audit, &wanted(&[(SearchField::Agent, "planner")])).await;
    let kind = record(org(1), 0).kind;
    let late = "2100-01-01T00:00:00Z";
    for (filter, what) in [
        (json!({ "agent": "planner" }), None),
        (json!({ "agent": "planner", "kind": kind }), None),
        // Who is in a chain cannot be seen in a record alone.
        (json!({ "member": "carol" }), None),
        (json!({ "agent": "planner", "until": late }), None),
        (json!({}), Some(("manifest.json", "asks for nothing"))),
        (
            json!({ "colour": "red" }),
            Some(("manifest.json", "`colour`")),
        ),
        (
            json!({ "since": "monday" }),
            Some(("manifest.json", "no instant")),
        ),
        // Disclosed, and not what was asked for.
        (json!({ "agent": "bot" }), Some(("leaf 0", "does not say"))),
        (
            json!({ "kind": "other.kind" }),
            Some(("leaf 0", "does not say")),
        ),
        (
            json!({ "agent": "planner", "action": "a1" }),
            Some(("leaf 0", "does not say")),
        ),
        (
            json!({ "agent": "planner", "since": nth(1) }),
            Some(("leaf 0", "does not say")),
        ),
        // What was asked for, and not disclosed.
        (
            json!({ "kind": kind }),
            Some(("leaf 1", "is what payloads were chosen by")),
        ),
        (
            json!({ "until": late }),
            Some(("leaf 1", "is what payloads were chosen by")),
        ),
    ] {
        let forged = signed_with_filter(&world, &planner, &filter);
        let said = verify_bundle(
            &forged,
            &Trust::BundleKeys,
            &accepted(),
            &mut |_, _| Ok(()),
            &mut |_, _| Ok(()),
        );
        match (said, what) {
            (Ok(_), None) => {}
            (Err(findings), Some((place, what))) => {
                let finding = findings.iter().find(|finding| finding.place == place);
                let message = finding.map(|finding| finding.message.as_str());
                assert!(message.is_some_and(|m| m.contains(what)), "{findings:?}");
            }
            (said, _) => panic!("{filter}: {said:?}"),
        }
    }
}

/// A query that asks for nothing narrows nothing.
#[tokio::test]
async fn whoever_asks_for_nothing_in_particular_gets_all() {
    let (_, audit) = world().await;
    let mut whole = whole(&audit, attachments()).await.unwrap();
    let mut all = narrowed(&audit, &SearchQuery::default()).await;
    // Which says when it was made.
    for files in [&mut whole, &mut all] {
        files.remove("manifest.json").unwrap();
    }
    assert_eq!(all, whole);
}

/// What is asked for by kind or time is whole, and verifies.
#[tokio::test]
async fn what_is_asked_for_by_leaf_fields_is_whole() {
    let (_, audit) = world().await;
    let some = SearchQuery {
        terms: vec![SearchTerm::new(SearchField::Kind, record(org(1), 0).kind)],
        since: Some(nth(40)),
        until: Some(nth(50)),
        ..SearchQuery::default()
    };
    let (report, leaves, _) = read(&narrowed(&audit, &some).await);
    assert_eq!(leaves, (40..50).collect());
    assert_eq!(report.unread.not_disclosed, LEAVES - 10);
}

/// Why payloads are gone is told to whoever gets anything.
#[tokio::test]
async fn reasons_are_always_disclosed() {
    let (world, audit) = world().await;
    let subject = MemoryJournal::subject(org(1), &"bot".parse().unwrap());
    let gone = Evidence {
        kind: SUBJECT_ERASED.to_owned(),
        actor: "owner".parse().unwrap(),
        body: json!({ "subject": subject }),
        ..record(org(1), 0)
    };
    let append = world.journal.append(RecordClass::Evidence, vec![gone]);
    append.await.unwrap();
    let of_bot = |_, head: &creto_audit::SealedHead| head.subject == subject;
    world.journal.withhold(org(1), Withheld::Erased, of_bot);
    let query = wanted(&[(SearchField::Action, "a1")]);
    let (report, leaves, _) = read(&narrowed(&audit, &query).await);
    assert!(leaves.contains(&LEAVES));
    assert!(leaves.iter().all(|n| *n == LEAVES || n.is_multiple_of(3)));
    assert_eq!(report.unread.erased, 200);
    assert_eq!(report.unread.not_disclosed, 50);
}

#[tokio::test]
async fn without_a_whole_index_nothing_is_exported() {
    let world = World::new();
    let records = (0..1_000).map(by).collect();
    let append = world.journal.append(RecordClass::Evidence, records);
    append.await.unwrap();
    let query = wanted(&[(SearchField::Agent, "planner")]);
    let audit = world.open().await.unwrap();
    let files = Arc::new(MemoryAttachments::new(vec![], refers));
    let export = audit.export(org(1), files, Some(&query));
    assert_eq!(export.await.unwrap_err().code(), "log_not_indexed");
    let index = Arc::new(MemoryIndex::new());
    index.fail_extensions(1, usize::MAX, false);
    audit.index_with(index, Arc::new(MemoryIndexKeys));
    let files = Arc::new(MemoryAttachments::new(vec![], refers));
    let export = audit.export(org(1), files, Some(&query));
    assert_eq!(export.await.unwrap_err().code(), "log_index_behind");
}
