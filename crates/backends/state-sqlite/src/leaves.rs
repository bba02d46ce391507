//! Appending to the journal, inside the writer's transaction.

use std::collections::{HashMap, HashSet};

use creto_audit::{
    AeadAlgorithm, Commitment, InForce, LeafError, LeafForm, RecordClass, sealed_by,
};
use creto_types::{Evidence, HybridTimestamp, LeafIndex, OrgId, StoreError, SubjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::database::{corrupt, sql};
use crate::subjects::Change;

/// What is refused when the cipher that a payload was sealed by is accepted no more before
/// its leaf had its place.
pub(crate) const CIPHER: &str = "cipher of a record";

/// What is refused when the subject of a leaf was erased before it had its place.
pub(crate) const SUBJECT: &str = "subject of a record";

/// A place is the number of its log, shifted by this, plus the leaf.
const LEAF_BITS: u32 = 40;

/// One more than the last leaf that a log has room for.
pub(crate) const LEAVES: i64 = 1 << LEAF_BITS;

/// The leaf that stands at a place.
pub(crate) fn leaf_of(place: i64) -> i64 {
    place & (LEAVES - 1)
}

/// A leaf that is not yet in its log.
#[derive(Debug)]
pub(crate) struct NewLeaf {
    org: OrgId,
    kind: String,
    at: Timestamp,
    action: Option<String>,
    subject: SubjectId,
    form: LeafForm,
    cipher: AeadAlgorithm,
    sealed: Vec<u8>,
}

impl NewLeaf {
    /// `sealed` is the payload that is committed to, under the key of the subject.
    pub(crate) fn new(
        class: RecordClass,
        record: &Evidence,
        subject: SubjectId,
        commitment: Commitment,
        sealed: Vec<u8>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            org: record.org,
            kind: record.kind.clone(),
            at: record.at,
            action: record.action_id.map(|id| id.to_string()),
            subject,
            form: LeafForm::new(class, record, subject, commitment).map_err(refused)?,
            cipher: sealed_by(&sealed).map_err(|e| corrupt("payload", e))?,
            sealed,
        })
    }

    /// About how much it adds to its transaction, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.form.size_hint() + self.sealed.len()
    }
}

pub(crate) fn refused(error: LeafError) -> StoreError {
    match error {
        LeafError::TooLong { len, limit } => StoreError::TooLarge {
            what: "evidence record",
            size: len,
            limit,
        },
        LeafError::Canonical(error) => corrupt("evidence", error),
    }
}

/// The ends of logs, as the writer knows them between one append and the next. Whatever
/// else it does in between may append too, or undo: they are forgotten then.
#[derive(Debug)]
pub(crate) struct Heads {
    algorithms: InForce,
    ends: HashMap<OrgId, Head>,
    /// Subjects that are there and not erased.
    alive: HashSet<SubjectId>,
    /// Ciphers that are accepted, and on record as those of payloads.
    ciphers: HashSet<AeadAlgorithm>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    /// The log's number; none while it has no leaf.
    log: Option<i64>,
    next: i64,
    last: Option<HybridTimestamp>,
}

impl Heads {
    pub(crate) fn new(algorithms: InForce) -> Self {
        Self {
            algorithms,
            ends: HashMap::new(),
            alive: HashSet::new(),
            ciphers: HashSet::new(),
        }
    }

    pub(crate) fn forget(&mut self) {
        self.ends.clear();
        self.alive.clear();
        self.ciphers.clear();
    }

    /// Appends the leaf and returns its place, and the timestamp that puts it behind
    /// everything before. One that fails has changed nothing that is ever read.
    pub(crate) fn append(
        &mut self,
        tx: &Connection,
        leaf: &NewLeaf,
    ) -> Result<(LeafIndex, HybridTimestamp), StoreError> {
        if !self.alive.contains(&leaf.subject) {
            alive(tx, leaf.subject)?;
            self.alive.insert(leaf.subject);
        }
        if !self.ciphers.contains(&leaf.cipher) {
            note_cipher(tx, &self.algorithms, leaf.cipher)?;
            self.ciphers.insert(leaf.cipher);
        }
        let head = match self.ends.get(&leaf.org) {
            Some(head) => *head,
            None => read_head(tx, leaf.org)?,
        };
        if head.next >= LEAVES {
            return Err(corrupt("leaf index", "the log has no room for another"));
        }
        let index = LeafIndex(u64::try_from(head.next).map_err(|e| corrupt("leaf index", e))?);
        // SQLite's numbers end in the year 3084.
        let (ts, number) = HybridTimestamp::behind(head.last, leaf.at)
            .and_then(|ts| Some((ts, i64::try_from(ts.as_u64()).ok()?)))
            .ok_or_else(|| corrupt("leaf timestamp", "there is none left"))?;
        let bytes = leaf.form.at(index, ts).map_err(refused)?;
        let log = match head.log {
            Some(log) => log,
            None => begin_log(tx, leaf.org)?,
        };
        tx.prepare_cached(
            "INSERT INTO journal (place, kind, action_id, ts, bytes, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                (log << LEAF_BITS) + head.next,
                leaf.kind,
                leaf.action,
                number,
                bytes,
                leaf.sealed,
            ])
        })
        .map_err(sql)?;
        let after = Head {
            log: Some(log),
            next: head.next + 1,
            last: Some(ts),
        };
        self.ends.insert(leaf.org, after);
        Ok((index, ts))
    }
}

/// Appends one record as part of a change.
pub(crate) fn append_leaf(
    change: &Change<'_>,
    class: RecordClass,
    record: &Evidence,
) -> Result<(LeafIndex, HybridTimestamp), StoreError> {
    let leaf = change.leaf(class, record)?;
    let mut heads = Heads::new(change.algorithms().clone());
    // It was just looked up, in this transaction.
    heads.alive.insert(leaf.subject);
    heads.append(change, &leaf)
}

/// What was sealed for a subject that was erased meanwhile would be readable by nobody.
fn alive(tx: &Connection, subject: SubjectId) -> Result<(), StoreError> {
    let alive = tx
        .prepare_cached("SELECT 1 FROM subjects WHERE id = ?1 AND private IS NOT NULL")
        .and_then(|mut s| s.exists([subject.to_string()]))
        .map_err(sql)?;
    alive
        .then_some(())
        .ok_or(StoreError::Conflict { what: SUBJECT })
}

/// Nothing is stored by a cipher that a start with the lists that are in force would not
/// read: other lists are put in force in between two changes.
pub(crate) fn note_cipher(
    tx: &Connection,
    algorithms: &InForce,
    cipher: AeadAlgorithm,
) -> Result<(), StoreError> {
    if algorithms.now().aead.check(cipher).is_err() {
        return Err(StoreError::Conflict { what: CIPHER });
    }
    tx.prepare_cached("INSERT OR IGNORE INTO payload_ciphers (name) VALUES (?1)")
        .and_then(|mut s| s.execute([cipher.as_str()]))
        .map_err(sql)?;
    tx.prepare_cached("UPDATE payload_ciphers SET scan = NULL WHERE name = ?1 AND scan IS NOT NULL")
        .and_then(|mut s| s.execute([cipher.as_str()]))
        .map(drop)
        .map_err(sql)
}

fn read_head(tx: &Connection, org: OrgId) -> Result<Head, StoreError> {
    let log: Option<i64> = tx
        .prepare_cached("SELECT number FROM logs WHERE org = ?1")
        .and_then(|mut s| s.query_row([org.to_string()], |row| row.get(0)).optional())
        .map_err(sql)?;
    let none = Head {
        log,
        next: 0,
        last: None,
    };
    let Some(log) = log else {
        return Ok(none);
    };
    let first = log << LEAF_BITS;
    let last: Option<(i64, Option<i64>)> = tx
        .prepare_cached(
            "SELECT place, ts FROM journal WHERE place BETWEEN ?1 AND ?2
             ORDER BY place DESC LIMIT 1",
        )
        .and_then(|mut s| {
            s.query_row([first, first + (LEAVES - 1)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
        })
        .map_err(sql)?;
    let Some((place, ts)) = last else {
        return Ok(none);
    };
    let last = ts
        .map(|ts| u64::try_from(ts).map(HybridTimestamp::from_u64))
        .transpose()
        .map_err(|e| corrupt("leaf timestamp", e))?;
    Ok(Head {
        log: Some(log),
        next: leaf_of(place) + 1,
        last,
    })
}

fn begin_log(tx: &Connection, org: OrgId) -> Result<i64, StoreError> {
    tx.prepare_cached("INSERT INTO logs (org) VALUES (?1) RETURNING number")
        .and_then(|mut s| s.query_row([org.to_string()], |row| row.get(0)))
        .map_err(sql)
}
