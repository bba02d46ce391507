//! Payloads that were kept long enough are in no file any more.

use std::path::Path;
use std::sync::Arc;

use creto_audit::conformance::tag;
use creto_audit::{
    Journal as _, RecordClass, SUBJECT_ERASED, SearchField, SearchIndex as _, Withheld, conformance,
};
use creto_governor::{Expiry, SubjectStore as _};
use creto_state_sqlite::{Database, SqliteIndex, SqliteJournal, SqliteSubjects};
use creto_types::{Commit, Evidence, LeafIndex, OrgId, Timestamp};

use crate::payloads::found_in_files;

/// Leaves of a day: more than are removed in one step, and than are read in one.
const EACH: u64 = 3_000;

fn org() -> OrgId {
    conformance::org(1)
}

fn day(day: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(20_000 + day).unwrap() * 86_400).unwrap()
}

fn on(at: u64, n: u64) -> Evidence {
    Evidence {
        at: day(at),
        ..conformance::record(org(), n)
    }
}

/// Three days, of each leaf a third is evidence, and one of them says why others are gone.
async fn world(path: &Path) -> (Arc<Database>, SqliteJournal, SqliteSubjects) {
    let db = Database::open(path).unwrap();
    let journal = SqliteJournal::new(db.clone());
    for at in 0..3 {
        let of = |class, count| {
            let records = (0..count).map(|n| on(at, n)).collect();
            journal.append(class, records)
        };
        of(RecordClass::Evidence, EACH / 3).await.unwrap();
        of(RecordClass::Trace, EACH - EACH / 3 - 1).await.unwrap();
        let reason = Evidence {
            kind: SUBJECT_ERASED.to_owned(),
            ..on(at, 0)
        };
        let append = journal.append(RecordClass::Evidence, vec![reason]);
        append.await.unwrap();
    }
    (db.clone(), journal, SqliteSubjects::new(db))
}

/// The places of the leaves that are expired, and that all others can be read.
async fn expired(journal: &SqliteJournal) -> Vec<u64> {
    let stored = journal.records(org(), 0, usize::MAX).await.unwrap();
    let mut expired = Vec::new();
    for (stored, place) in stored.into_iter().zip(0..) {
        match stored.read().unwrap().withheld() {
            None => {}
            Some(why) => {
                assert_eq!(why, Withheld::Expired);
                expired.push(place);
            }
        }
    }
    expired
}

async fn end(
    subjects: &SqliteSubjects,
    class: RecordClass,
    before: Timestamp,
) -> Option<LeafIndex> {
    let through = subjects.expirable(org(), class, before).await.unwrap()?;
    let expiry = Expiry {
        org: org(),
        class,
        through,
    };
    let commit = Commit::of(Evidence {
        kind: creto_audit::PAYLOADS_EXPIRED.to_owned(),
        ..on(3, 0)
    });
    subjects.expire(expiry, commit).await.unwrap();
    Some(through)
}

#[tokio::test]
async fn what_was_kept_long_enough_is_in_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (db, journal, subjects) = world(&path).await;
    let leaves = journal.read(org(), 0, usize::MAX).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let sealed = |place: u64| -> Vec<u8> {
        let query = "SELECT sealed FROM journal WHERE place = (1 << 40) + ?1";
        let place = i64::try_from(place).unwrap();
        raw.query_row(query, [place], |row| row.get(0)).unwrap()
    };
    // Of evidence of the first day, of its trace, and of evidence of the second.
    let [first, trace, second] = [1, EACH - 2, EACH].map(sealed);
    drop(raw);

    let evidence = RecordClass::Evidence;
    assert_eq!(end(&subjects, evidence, day(0)).await, None);
    let through = end(&subjects, evidence, day(1)).await;
    assert_eq!(through, Some(LeafIndex(EACH - 1)));
    // The index is not there yet, and the payloads are gone all the same.
    assert!(!subjects.sweep().await.unwrap());
    let of_first: Vec<u64> = (0..EACH / 3).collect();
    assert_eq!(expired(&journal).await, of_first);

    let index = SqliteIndex::new(db.clone());
    let tags = (0..=EACH).map(|_| {
        vec![
            tag(SearchField::Agent, "release-bot"),
            tag(SearchField::Kind, "resource.read"),
        ]
    });
    index.extend(org(), 0, tags.collect()).await.unwrap();
    assert!(subjects.sweep().await.unwrap());
    for (field, value, count) in [
        (SearchField::Agent, "release-bot", EACH + 1 - EACH / 3),
        (SearchField::Kind, "resource.read", EACH + 1),
    ] {
        let tags = vec![tag(field, value)];
        let found = index.find(org(), 0..9 * EACH, tags, 10_000).await.unwrap();
        assert_eq!(found.leaves.len() as u64, count, "{field:?}");
    }
    assert!(!found_in_files(dir.path(), &first));
    assert!(found_in_files(dir.path(), &trace));
    assert!(found_in_files(dir.path(), &second));
    assert_eq!(end(&subjects, evidence, day(1)).await, None);

    // Each class by itself, and a restart between the record and the removal.
    let through = end(&subjects, RecordClass::Trace, day(1)).await;
    assert_eq!(through, Some(LeafIndex(EACH - 1)));
    drop((db, journal, subjects, index));
    let db = Database::open(&path).unwrap();
    let (journal, subjects) = (SqliteJournal::new(db.clone()), SqliteSubjects::new(db));
    assert!(subjects.sweep().await.unwrap());
    assert!(!found_in_files(dir.path(), &trace));
    let but_the_reason: Vec<u64> = (0..EACH - 1).collect();
    assert_eq!(expired(&journal).await, but_the_reason);
    // The tree is over the same leaves.
    let after = journal.read(org(), 0, leaves.len()).await.unwrap();
    assert_eq!(after, leaves);
}
