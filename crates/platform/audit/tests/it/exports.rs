//! How bundles are made: file by file, of one head each, whatever happens meanwhile.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use creto_audit::conformance::{org, record};
use creto_audit::memory::{MemoryAttachments, MemoryIndex, MemoryIndexKeys, MemoryJournal};
use creto_audit::{
    ARCHIVE_END, Audit, BundleArchive, Export, Journal, RecordClass, SealedHead, SearchField,
    SearchQuery, SearchTerm, StoredRecord, Withheld, entry_header, entry_padding,
};
use creto_types::{Evidence, LeafIndex, OrgId, StoreError};
use serde_json::json;

use crate::bundle::{Files, collected, erased, verify, whole};
use crate::{World, config};

/// A journal that counts the leaves it was asked for with what is beside them.
struct Counting {
    journal: Arc<MemoryJournal>,
    read: AtomicU64,
}

#[async_trait]
impl Journal for Counting {
    async fn append(
        &self,
        class: RecordClass,
        records: Vec<Evidence>,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        self.journal.append(class, records).await
    }

    async fn read(&self, org: OrgId, from: u64, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.journal.read(org, from, max).await
    }

    async fn records(
        &self,
        org: OrgId,
        from: u64,
        max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let records = self.journal.records(org, from, max).await?;
        self.read.fetch_add(records.len() as u64, Ordering::SeqCst);
        Ok(records)
    }

    async fn size(&self, org: OrgId) -> Result<u64, StoreError> {
        self.journal.size(org).await
    }

    async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        self.journal.organizations().await
    }
}

fn nothing() -> Arc<MemoryAttachments> {
    Arc::new(MemoryAttachments::new(Vec::new(), |_| None))
}

async fn begun(audit: &Audit) -> Export {
    audit.export(org(1), nothing(), None).await.unwrap()
}

/// Memory is that of one file of entries and of what it makes, however long the log is.
#[tokio::test]
async fn nothing_is_read_before_it_is_asked_for() {
    let world = World::new();
    world.commit(org(1), 1_000).await;
    let journal = Arc::new(Counting {
        journal: world.journal.clone(),
        read: AtomicU64::new(0),
    });
    let audit = world.open_over(journal.clone(), config()).await.unwrap();
    let files = ["a", "b", "c"].map(|name| (name.to_owned(), b"x".to_vec()));
    let attachments = Arc::new(MemoryAttachments::new(files.to_vec(), |_| None));
    let before = journal.read.load(Ordering::SeqCst);
    let export = audit.export(org(1), attachments.clone(), None).await;
    let mut export = export.unwrap();
    let read = || journal.read.load(Ordering::SeqCst) - before;
    assert_eq!(read(), 0);
    let (mut entries, mut attached) = (0, 0);
    while let Some(file) = export.next().await.unwrap() {
        entries += u64::from(file.path.starts_with("tile/entries/"));
        attached += usize::from(file.path.starts_with("attachments/"));
        assert!(read() <= 256 * (entries + 1), "{} {entries}", read());
        assert_eq!(attachments.reads(), attached, "{}", file.path);
    }
    assert_eq!((entries, attached, read()), (4, 3, 1_000));
    assert!(export.next().await.unwrap().is_none());
}

#[tokio::test]
async fn each_export_is_of_one_head_whatever_is_appended() {
    let world = World::new();
    world.commit(org(1), 300).await;
    let audit = world.open().await.unwrap();
    let mut exports = Vec::new();
    for size in [300, 555] {
        let mut export = begun(&audit).await;
        let first = export.next().await.unwrap().unwrap();
        exports.push((size, export, Files::from([(first.path, first.bytes)])));
        world.commit(org(1), 255).await;
        audit.checkpoint(org(1)).await.unwrap();
    }
    // In turns, with appends between their files.
    let mut open = true;
    while open {
        open = false;
        for (_, export, files) in &mut exports {
            if let Some(file) = export.next().await.unwrap() {
                files.insert(file.path, file.bytes);
                open = true;
            }
        }
        world.commit(org(1), 1).await;
    }
    for (size, _, files) in exports {
        assert_eq!(verify(&files).unwrap().size, size);
    }
}

async fn erase(world: &World, actor: &str, from: u64) {
    let subject = MemoryJournal::subject(org(1), &actor.parse().unwrap());
    let of = |index, head: &SealedHead| index >= from && head.subject == subject;
    world.journal.withhold(org(1), Withheld::Erased, of);
    let append = world
        .journal
        .append(RecordClass::Evidence, vec![erased(subject)]);
    append.await.unwrap();
}

/// Why it went is behind the head that was begun with.
#[tokio::test]
async fn what_goes_meanwhile_is_explained_by_a_later_head() {
    let world = World::new();
    world.commit(org(1), 600).await;
    let audit = world.open().await.unwrap();
    audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
    let actor = record(org(1), 0).actor;
    let query = SearchQuery {
        terms: vec![SearchTerm::new(SearchField::Kind, record(org(1), 0).kind)],
        ..SearchQuery::default()
    };
    for (query, expected) in [(None, 0), (Some(&query), 0)] {
        let world = World::new();
        world.commit(org(1), 600).await;
        let audit = world.open().await.unwrap();
        audit.index_with(Arc::new(MemoryIndex::new()), Arc::new(MemoryIndexKeys));
        let mut export = audit.export(org(1), nothing(), query).await.unwrap();
        let first = export.next().await.unwrap().unwrap();
        erase(&world, actor.as_str(), 0).await;
        // Nor is what is appended after it left out below the later head.
        world
            .journal
            .append(RecordClass::Evidence, vec![other(601)])
            .await
            .unwrap();
        let mut files = collected(export).await.unwrap();
        files.insert(first.path, first.bytes);
        let report = verify(&files).unwrap();
        assert_eq!((report.size, report.unread.erased), (602, 344));
        assert_eq!(report.unread.not_disclosed, expected);
    }
    // When no record says why, no later head does.
    let mut export = begun(&audit).await;
    export.next().await.unwrap();
    world
        .journal
        .withhold(org(1), Withheld::Erased, |index, _| index > 500);
    world.commit(org(1), 1).await;
    let refused = collected(export).await.unwrap_err();
    assert_eq!(creto_errors::Classify::code(&refused), "log_corrupt");
}

fn other(n: u64) -> Evidence {
    Evidence {
        actor: "other".parse().unwrap(),
        body: json!({ "n": n, "file": "late" }),
        ..record(org(1), n)
    }
}

/// Of what comes meanwhile, what a record below the head refers to.
#[tokio::test]
async fn attachments_are_those_of_the_records_that_are_there() {
    for later_head in [false, true] {
        let world = World::new();
        world.commit(org(1), 300).await;
        let audit = world.open().await.unwrap();
        let files = vec![("early".to_owned(), b"x".to_vec())];
        let attachments = Arc::new(MemoryAttachments::new(files, |record| {
            let named = record.pointer("/body/file").and_then(|name| name.as_str());
            named.map(str::to_owned)
        }));
        let export = audit.export(org(1), attachments.clone(), None).await;
        let mut export = export.unwrap();
        export.next().await.unwrap();
        attachments.keep("late", b"y");
        let late = vec![other(300)];
        world
            .journal
            .append(RecordClass::Evidence, late)
            .await
            .unwrap();
        if later_head {
            erase(&world, record(org(1), 0).actor.as_str(), 256).await;
        }
        let files = collected(export).await.unwrap();
        assert!(files.contains_key("attachments/early"));
        assert_eq!(files.contains_key("attachments/late"), later_head);
    }
}

/// The archive is one for any `tar`, and for the reader of the command line.
#[tokio::test]
async fn a_bundle_travels_as_an_archive() {
    let world = World::new();
    world.commit(org(1), 300).await;
    let audit = world.open().await.unwrap();
    let long = format!("a/{}/{}", "b".repeat(90), "c".repeat(90));
    let bundle = whole(&audit, vec![(long, b"x".to_vec())]).await.unwrap();
    let (mut archive, mut last) = (Vec::new(), Vec::new());
    for (path, bytes) in &bundle {
        let to = match path.as_str() {
            "manifest.json" => &mut last,
            _ => &mut archive,
        };
        let len = bytes.len() as u64;
        to.extend(entry_header(path, len, 1_700_000_000).unwrap());
        to.extend(bytes);
        to.extend(entry_padding(len));
    }
    archive.extend(last);
    archive.extend(ARCHIVE_END);

    let mut read = Files::new();
    let mut reader = BundleArchive::new(archive.as_slice());
    while let Some(path) = reader.next_path().unwrap() {
        let mut bytes = Vec::new();
        reader.copy(&mut bytes).unwrap();
        read.insert(path, bytes);
    }
    assert_eq!(read, bundle);

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bundle.tar"), &archive).unwrap();
    let mut tar = Command::new("tar");
    let done = tar.args(["-xf", "bundle.tar"]).current_dir(dir.path());
    let done = done.output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    for (path, bytes) in &bundle {
        assert_eq!(
            &std::fs::read(dir.path().join(path)).unwrap(),
            bytes,
            "{path}"
        );
    }
}
