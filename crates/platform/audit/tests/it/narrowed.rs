//! Bundles with some payloads only prove as much as whole ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use creto_audit::conformance::{org, record};
use creto_audit::memory::{MemoryIndex, MemoryJournal};
use creto_audit::{
    Audit, Journal as _, RecordClass, SUBJECT_ERASED, SearchField, SearchQuery, SearchTerm, Trust,
    VerifyReport, Withheld, verify_bundle,
};
use creto_errors::Classify as _;
use creto_types::Evidence;
use serde_json::{Value, json};

use crate::World;

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
    audit.index_with(Arc::new(MemoryIndex::new()));
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
    let export = audit.export_matching(org(1), attachments(), query, &refers);
    export.await.unwrap()
}

/// What can be read in a bundle, and which attachments it has.
fn read(files: &Files) -> (VerifyReport, BTreeSet<u64>, BTreeSet<u64>) {
    let (mut leaves, mut attached) = (BTreeSet::new(), BTreeSet::new());
    let report = verify_bundle(
        files,
        &Trust::BundleKeys,
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
    let whole = audit.export(org(1), attachments()).await.unwrap();
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
    let whole = audit.export(org(1), attachments()).await.unwrap();
    let query = wanted(&[(SearchField::Agent, "planner")]);
    let files = narrowed(&audit, &query).await;
    let verify = |files: &Files| {
        verify_bundle(
            files,
            &Trust::BundleKeys,
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
    let export = audit.export_matching(org(1), vec![], &query, &refers);
    assert_eq!(export.await.unwrap_err().code(), "log_not_indexed");
    let index = Arc::new(MemoryIndex::new());
    index.fail_extensions(1, usize::MAX, false);
    audit.index_with(index);
    let export = audit.export_matching(org(1), vec![], &query, &refers);
    assert_eq!(export.await.unwrap_err().code(), "log_index_behind");
}
