//! Payloads that end or are sealed anew: those that were kept long enough, those of a person
//! who is erased, and the rest by another cipher, with another key to wrap keys under.
//!
//! The search index follows the log in transactions of its own and can be made from it
//! again: whatever becomes of them, what can be read is found, and nothing else.

use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;

use creto_audit::{
    IndexKeys as _, PAYLOADS_EXPIRED, RecordClass, Sealer, SearchField, SearchIndex as _,
    SearchQuery, SearchTerm, Withheld, index_all,
};
use creto_governor::{Erasure, Expiry, SubjectStore as _};
use creto_nhi::{NhiError, NhiStore as _};
use creto_state_sqlite::{Database, SqliteIndex, SqliteIndexKeys, SqliteNhi};
use creto_types::{LeafIndex, Receipt, StoreError};

use crate::check::Leaf;
use crate::opened::{ENDS, HERS, OLD, Opened, person, young};
use crate::told::{Told, again, append, once_free, say, signed_anew};

/// The cipher of new payloads in a run; the ones before it are of another one.
const CIPHER: &str = "ChaCha20-Poly1305";

const CLASSES: [(RecordClass, u64); 2] = [
    (RecordClass::Evidence, ENDS),
    (RecordClass::Trace, ENDS + 1),
];

/// Numbers of a run's records, from its first one on.
const FIRST: u64 = 100;
const ERASED: u64 = 1;
const ROTATED: u64 = 2;
const RETIRED: u64 = 3;

/// More than there are.
const ALL: usize = 1_000;

fn sealer() -> Sealer {
    Sealer::for_tests_with("7", CIPHER)
}

/// Without the other one.
fn only() -> Sealer {
    Sealer::for_tests_only_with("7", CIPHER)
}

impl Opened {
    /// Ends the old payloads of a class, on record, unless they have ended.
    async fn end(&self, class: RecordClass, n: u64) -> Result<Option<Receipt>, StoreError> {
        let org = self.org;
        let Some(through) = self.subjects.expirable(org, class, young()).await? else {
            return Ok(None);
        };
        assert_eq!(through, LeafIndex(OLD - 1));
        let expiry = Expiry {
            org,
            class,
            through,
        };
        let ended = self.subjects.expire(expiry, self.commit(n)).await;
        ended.map(Some)
    }

    /// Destroys the key of what the person's record says, unless that is done.
    async fn erase(&self, n: u64) -> Result<Option<Receipt>, StoreError> {
        let (org, person) = (self.org, person());
        let Some(subject) = self.subjects.subject(org, &person).await? else {
            return Ok(None);
        };
        let erasure = Erasure {
            org,
            person,
            subject,
        };
        let erased = self.subjects.erase(erasure, self.commit(n)).await;
        erased.map(Some)
    }

    /// Another key to wrap keys under, if there is none that was not retired yet.
    async fn rotate_wrapping(&self, n: u64) -> Result<Option<Receipt>, NhiError> {
        if !self.nhi.retiring(self.org)?.issuer_kids.is_empty() {
            return Ok(None);
        }
        let draft = self.nhi.draft_rotation(self.org)?;
        let committed = self.nhi.commit_rotation(draft, self.commit(n)).await;
        committed.map(Some)
    }

    /// Ends the wrapping keys before, under which nothing is any more.
    async fn retire_wrapping(&self, n: u64) -> Result<Option<Receipt>, NhiError> {
        let retiring = self.nhi.retiring(self.org)?;
        if retiring.issuer_kids.is_empty() {
            return Ok(None);
        }
        let commit = self.commit(n);
        let retired = self.nhi.retire_keys(self.org, retiring, commit).await;
        retired.map(Some)
    }

    /// The versions of the keys that keys are wrapped under.
    async fn wrapping_versions(&self) -> Vec<u32> {
        let stored = SqliteNhi::new(self.db.clone()).load().await.unwrap();
        let wrapping = &stored.organizations[0].wrapping;
        wrapping.iter().map(|key| key.version).collect()
    }

    fn index(&self) -> SqliteIndex {
        SqliteIndex::new(self.db.clone())
    }

    fn index_keys(&self) -> Arc<SqliteIndexKeys> {
        Arc::new(SqliteIndexKeys::new(self.db.clone()))
    }

    /// What is done in the background otherwise, and pauses there after a failure.
    async fn index_all(&self) {
        again("index", async || {
            let index = Arc::new(self.index());
            index_all(self.org, self.journal.clone(), index, self.index_keys()).await
        })
        .await;
    }

    /// The places of what says this, once the index has all that is in the log.
    async fn search(&self, term: &SearchTerm) -> Vec<u64> {
        loop {
            let query = SearchQuery {
                terms: vec![term.clone()],
                limit: ALL,
                ..SearchQuery::default()
            };
            let asked = async || self.audit.search(self.org, query.clone()).await;
            let page = again("search", asked).await;
            if page.searched == page.size {
                return page.records.iter().rev().map(|(leaf, _)| leaf.0).collect();
            }
        }
    }
}

fn kind() -> SearchTerm {
    SearchTerm::new(SearchField::Kind, "resource.read")
}

fn said(done: Option<Receipt>, n: u64) {
    if let Some(leaf) = done.and_then(|receipt| receipt.leaf()) {
        say(&format!("evidence {leaf} {n}"));
    }
}

/// What the server does in the background and what `creto crypto rotate` and `retire` do, each
/// in its order.
pub(crate) async fn session(dir: &Path) {
    let open = async || Opened::open_with(dir, FIRST + 1, sealer()).await;
    let log = again("open", open).await;
    log.index_all().await;
    append(&log, &[FIRST]).await;
    for (class, n) in CLASSES {
        say(&format!("ending {}", class.as_str()));
        let ended = again("expire", async || log.end(class, n).await).await;
        say(&format!("ended {}", class.as_str()));
        said(ended, n);
    }
    say("erasing");
    let n = FIRST + ERASED;
    let erased = again("erase", async || log.erase(n).await).await;
    say("erased");
    said(erased, n);
    log.index_all().await;
    let sweep = async || log.subjects.sweep().await;
    while !again("sweep", sweep).await {}
    say("swept");

    let n = FIRST + ROTATED;
    let rotated = again("rotate", async || log.rotate_wrapping(n).await).await;
    said(rotated, n);
    let rewrap = async || log.nhi.rewrap_keys(log.org).await;
    again("rewrap", rewrap).await;
    let reseal = async || log.subjects.reseal(log.org).await;
    let resealed = again("reseal", reseal).await;
    assert_eq!(resealed.unread, 0);
    say("resealed");
    let n = FIRST + RETIRED;
    let retired = again("retire", async || log.retire_wrapping(n).await).await;
    say("retired");
    said(retired, n);
    append(&log, &[FIRST + 4]).await;
    signed_anew("checkpoint", &log, async || {
        log.audit.checkpoint(log.org).await
    })
    .await;
}

/// The old payloads that end, and the key that is destroyed, as they lie in the files.
pub(crate) fn in_files(dir: &Path) -> Vec<String> {
    let raw = rusqlite::Connection::open(dir.join("state.db")).unwrap();
    let read = |word: &str, query: &str| {
        let bytes: Vec<u8> = raw.query_row(query, [], |row| row.get(0)).unwrap();
        // Its end is like nothing else.
        format!("{word} {}", hex::encode(&bytes[bytes.len() - 24..]))
    };
    let leaf = |n| format!("SELECT sealed FROM journal WHERE place = (1 << 40) + {n}");
    let key = "SELECT CAST(private AS BLOB) FROM subjects WHERE person = 'carol'";
    vec![
        read("old", &leaf(0)),
        read("old", &leaf(OLD - 1)),
        read("hers", key),
    ]
}

/// That what ended lies in none of the files.
fn expect_gone(dir: &Path, told: &Told, word: &str) {
    for name in ["state.db", "state.db-wal"] {
        let Ok(content) = std::fs::read(dir.join(name)) else {
            continue;
        };
        for words in told.all(word) {
            let bytes = hex::decode(&words[0]).unwrap();
            assert!(!contains(&content, &bytes), "{word} in {name}");
        }
    }
}

/// From one of its first bytes to the next, which is fast in every build.
fn contains(mut content: &[u8], bytes: &[u8]) -> bool {
    let (first, rest) = bytes.split_first().unwrap();
    while content.skip_until(*first).unwrap() > 0 {
        if content.starts_with(rest) {
            return true;
        }
    }
    false
}

/// That a payload is there, or may be gone: each goes after the record that says why, and as
/// soon as that was acknowledged it does not come back.
pub(crate) fn expect_payload(told: &Told, leaves: &[Leaf], leaf: &Leaf) {
    let class = leaf.class.as_str();
    let old = leaf.index < OLD;
    let hers = told.evidence().any(|one| one == (leaf.index, HERS));
    match leaf.withheld {
        Some(Withheld::Erased) => assert!(hers && told.has("erasing"), "erased by nobody"),
        Some(Withheld::Expired) => {
            let asked = told.has(&format!("ending {class}"));
            assert!(old && asked, "leaf {} ended by nobody", leaf.index);
            let says_why = |of: &Leaf| of.kind == PAYLOADS_EXPIRED && of.is_about(leaf.class);
            assert!(leaves.iter().any(says_why), "no record says why");
        }
        Some(why) => panic!("{}", why.as_str()),
        None => {
            assert!(!hers || !told.has("erased"), "the erasure was acknowledged");
            assert!(!old || !told.has("swept"), "the removal was acknowledged");
        }
    }
}

/// What the store can be opened with: without the cipher of before as soon as it says so, and
/// then every payload is read without.
pub(crate) async fn expect_ciphers(dir: &Path, told: &Told) -> fn() -> Sealer {
    let path = dir.join("state.db");
    let db = once_free(async || Database::open_with(&path, only())).await;
    match db.reads_what_is_stored().await {
        Ok(()) => only,
        Err(error) => {
            assert!(!told.has("resealed"), "that was acknowledged: {error}");
            sealer
        }
    }
}

/// That exactly these are found which can be read.
async fn expect_found(log: &Opened, leaves: &[Leaf]) {
    for actor in ["release-bot", "carol"] {
        let term = SearchTerm::new(SearchField::Agent, actor);
        let of_actor = |leaf: &&Leaf| {
            leaf.read
                .as_ref()
                .is_some_and(|read| read["actor"] == actor)
        };
        let readable: Vec<u64> = leaves
            .iter()
            .filter(of_actor)
            .map(|leaf| leaf.index)
            .collect();
        assert_eq!(log.search(&term).await, readable, "{actor}");
    }
    let of_kind = leaves.iter().filter(|leaf| leaf.kind == "resource.read");
    let of_kind: Vec<u64> = of_kind.map(|leaf| leaf.index).collect();
    assert_eq!(log.search(&kind()).await, of_kind);
}

pub(crate) async fn check(dir: &Path, told: &Told, log: &Opened, leaves: &[Leaf]) {
    if told.has("erased") {
        expect_gone(dir, told, "hers");
    }
    if told.has("swept") {
        expect_gone(dir, told, "old");
    }
    expect_on_record(log, leaves).await;
    let retired = log.wrapping_versions().await == [2];
    assert!(retired || !told.has("retired"), "that was acknowledged");
    log.audit
        .index_with(Arc::new(log.index()), log.index_keys());
    expect_found(log, leaves).await;
}

/// What was done is on record, and what is on record was done.
async fn expect_on_record(log: &Opened, leaves: &[Leaf]) {
    let there = |n: u64| {
        let mut read = leaves.iter().filter_map(|leaf| leaf.read.as_ref());
        read.any(|read| read["body"]["n"] == n)
    };
    let subjects = &log.subjects;
    for (class, n) in CLASSES {
        let left = subjects.expirable(log.org, class, young()).await.unwrap();
        assert_eq!(left.is_none(), there(n), "{class:?}");
    }
    let subject = subjects.subject(log.org, &person()).await.unwrap();
    assert_eq!(subject.is_none(), there(FIRST + ERASED));
    let versions = log.wrapping_versions().await;
    assert_eq!(versions.contains(&2), there(FIRST + ROTATED));
    assert_eq!(!versions.contains(&1), there(FIRST + RETIRED));
}

/// All of it comes to its end, however far it was.
pub(crate) async fn expect_ended(dir: &Path, told: &Told, log: &Opened) {
    for (class, n) in CLASSES {
        log.end(class, n).await.unwrap();
        assert_eq!(log.end(class, n).await.unwrap().map(drop), None);
    }
    log.erase(10_002).await.unwrap();
    assert_eq!(log.erase(10_003).await.unwrap().map(drop), None);
    log.search(&kind()).await;
    assert!(log.subjects.sweep().await.unwrap());
    expect_gone(dir, told, "hers");
    expect_gone(dir, told, "old");

    log.rotate_wrapping(10_004).await.unwrap();
    log.nhi.rewrap_keys(log.org).await.unwrap();
    assert_eq!(log.subjects.reseal(log.org).await.unwrap().unread, 0);
    log.retire_wrapping(10_005).await.unwrap();
    assert_eq!(log.wrapping_versions().await.len(), 1);

    let leaves = crate::check::leaves(log).await;
    for leaf in &leaves {
        let gone = leaf.index <= OLD;
        assert_eq!(leaf.withheld.is_some(), gone, "leaf {}", leaf.index);
    }
    expect_found(log, &leaves).await;
    // And the index itself says no more of what is gone.
    let key = log.index_keys().key(log.org).await.unwrap();
    let agent = |name| key.tags(&[SearchTerm::new(SearchField::Agent, name)]);
    for (name, first) in [("release-bot", OLD + 1), ("carol", u64::MAX)] {
        let end = leaves.len() as u64;
        let found = log.index().find(log.org, 0..end, agent(name), ALL).await;
        let found = found.unwrap().leaves;
        assert!(
            found.iter().all(|leaf| leaf.0 >= first),
            "{name}: {found:?}"
        );
    }
}
