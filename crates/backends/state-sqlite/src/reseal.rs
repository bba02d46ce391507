//! Payloads that are moved to another cipher, step by step and beside appends.

use creto_audit::{AeadAlgorithm, SealedHead, sealed_by};
use creto_governor::Resealed;
use creto_types::{OrgId, StoreError};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::SqliteSubjects;
use crate::database::{corrupt, sql};
use crate::leaves::{LEAVES, note_cipher};
use crate::subjects::{Change, Subjects};

/// Places that are looked at in one step: what is read keeps SQLite's log of writes.
const LOOKED_AT: i64 = 4_096;

/// The bytes after which a step ends before that: what it holds in memory.
const HELD: usize = 1 << 20;

/// Payloads that are written in one transaction, and bytes of them. Few: appends wait for
/// it.
const WRITTEN: usize = 256;
const WRITTEN_BYTES: usize = 256 << 10;

/// A payload as it is stored, and as it is to be.
struct Payload {
    place: i64,
    from: Vec<u8>,
    to: Vec<u8>,
}

/// What some places hold that is sealed by another cipher than this one.
#[derive(Default)]
struct Looked {
    resealed: Vec<Payload>,
    /// Payloads that somebody's key is there for and that could not be opened.
    unread: u64,
    /// The place to go on from.
    next: i64,
}

/// As many of these, from the first on, as one transaction writes, and their bytes.
fn some_of(resealed: &mut Vec<Payload>) -> (Vec<Payload>, usize) {
    let mut bytes = 0;
    let most = resealed.iter().take(WRITTEN).take_while(|row| {
        let room = bytes < WRITTEN_BYTES;
        bytes += if room { row.to.len() } else { 0 };
        room
    });
    let count = most.count();
    (resealed.drain(..count).collect(), bytes)
}

impl SqliteSubjects {
    /// Seals the payloads of an organization by the cipher for new ones, and forgets the
    /// ciphers that no payload of any organization is of any more. What it did stays done
    /// when it is ended in between.
    pub(crate) async fn reseal_all(&self, org: OrgId) -> Result<Resealed, StoreError> {
        let new = self.db.algorithms().now().aead.for_new();
        if self.db.read(move |c| others(c, new)).await?.is_empty() {
            return Ok(Resealed::default());
        }
        let number = self.db.read(move |connection| log_of(connection, org));
        let Some(log) = number.await? else {
            return Ok(Resealed::default());
        };
        let mut done = Resealed::default();
        let end = self.db.read(move |c| end_of(c, log)).await?;
        let mut next = 0;
        while next < end {
            let looked = self.look_from(log, next, new, true).await?;
            next = looked.next;
            done.unread = done.unread.saturating_add(looked.unread);
            let mut resealed = looked.resealed;
            while !resealed.is_empty() {
                let (some, bytes) = some_of(&mut resealed);
                let write = move |change: &Change<'_>| {
                    // One that was removed meanwhile, or is another by now, stays so.
                    let mut write = change
                        .prepare_cached(
                            "UPDATE journal SET sealed = ?3 WHERE place = ?1 AND sealed = ?2",
                        )
                        .map_err(sql)?;
                    some.iter().try_fold(0, |count, row| {
                        // Other lists may be in force by now.
                        let cipher = sealed_by(&row.to).map_err(|e| corrupt("payload", e))?;
                        note_cipher(change, change.algorithms(), cipher)?;
                        let changed = write.execute(params![row.place, row.from, row.to]);
                        Ok(count + changed.map_err(sql)?)
                    })
                };
                let written = self.db.write_bytes(bytes, write).await?;
                let written = u64::try_from(written).unwrap_or(u64::MAX);
                done.sealed = done.sealed.saturating_add(written);
            }
        }
        self.forget_ciphers(new).await?;
        Ok(done)
    }

    /// One step of a log, from its leaf `next` on.
    async fn look_from(
        &self,
        log: i64,
        next: i64,
        new: AeadAlgorithm,
        reseal: bool,
    ) -> Result<Looked, StoreError> {
        let subjects = self.db.subjects();
        let look = move |connection: &Connection| {
            let looked = look(connection, &subjects, new, log * LEAVES + next, reseal)?;
            Ok(Looked {
                next: looked.next - log * LEAVES,
                ..looked
            })
        };
        self.db.read(look).await
    }

    /// Forgets each cipher but this one that no payload with a key is of.
    async fn forget_ciphers(&self, new: AeadAlgorithm) -> Result<(), StoreError> {
        let mut random = [0; 8];
        random.copy_from_slice(&self.db.subjects().salt()[..8]);
        let scan = i64::from_le_bytes(random);
        // Whoever stores a payload of one from here on takes the mark away.
        self.db
            .write(move |change| {
                change
                    .prepare_cached("UPDATE payload_ciphers SET scan = ?1 WHERE name <> ?2")
                    .and_then(|mut s| s.execute(params![scan, new.as_str()]))
                    .map_err(sql)
            })
            .await?;
        let logs = self.db.read(logs).await?;
        for log in logs {
            let end = self.db.read(move |c| end_of(c, log)).await?;
            let mut next = 0;
            while next < end {
                let looked = self.look_from(log, next, new, false).await?;
                next = looked.next;
                if looked.unread > 0 {
                    return Ok(());
                }
            }
        }
        self.db
            .write(move |change| {
                change
                    .prepare_cached("DELETE FROM payload_ciphers WHERE scan = ?1")
                    .and_then(|mut s| s.execute([scan]))
                    .map_err(sql)
            })
            .await
            .map(drop)
    }
}

fn others(connection: &Connection, new: AeadAlgorithm) -> Result<Vec<String>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT name FROM payload_ciphers WHERE name <> ?1")
        .map_err(sql)?;
    let rows = statement.query_map([new.as_str()], |row| row.get(0));
    rows.map_err(sql)?.map(|row| row.map_err(sql)).collect()
}

fn logs(connection: &Connection) -> Result<Vec<i64>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT number FROM logs")
        .map_err(sql)?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(sql)?;
    rows.map(|row| row.map_err(sql)).collect()
}

fn log_of(connection: &Connection, org: OrgId) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT number FROM logs WHERE org = ?1")
        .and_then(|mut s| s.query_row([org.to_string()], |row| row.get(0)).optional())
        .map_err(sql)
}

/// How many leaves a log has.
fn end_of(connection: &Connection, log: i64) -> Result<i64, StoreError> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(place) FROM journal WHERE place >= ?1 AND place < ?2")
        .and_then(|mut s| s.query_row([log * LEAVES, (log + 1) * LEAVES], |row| row.get(0)))
        .map_err(sql)?;
    Ok(last.map_or(0, |place| place - log * LEAVES + 1))
}

/// Looks at one step of places. Without `reseal` every payload of another cipher that has a
/// key counts as not read.
fn look(
    connection: &Connection,
    subjects: &Subjects,
    new: AeadAlgorithm,
    from: i64,
    reseal: bool,
) -> Result<Looked, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT place, bytes, sealed FROM journal
             WHERE place >= ?1 AND place < ?2 AND sealed IS NOT NULL",
        )
        .map_err(sql)?;
    let mut rows = statement.query([from, from + LOOKED_AT]).map_err(sql)?;
    let mut looked = Looked {
        next: from + LOOKED_AT,
        ..Looked::default()
    };
    let mut held = 0;
    while let Some(row) = rows.next().map_err(sql)? {
        let sealed: Vec<u8> = row.get(2).map_err(sql)?;
        if sealed_by(&sealed).is_ok_and(|cipher| cipher == new) {
            continue;
        }
        let leaf: Vec<u8> = row.get(1).map_err(sql)?;
        let head = SealedHead::of(&leaf)?.ok_or_else(|| corrupt("leaf", "it has no commitment"))?;
        // Of whom was erased nobody reads any.
        let Some(private) = subjects.private(connection, head.subject)? else {
            continue;
        };
        let again = reseal.then(|| subjects.reseal(connection, &head, &private, &sealed));
        let to = match again {
            Some(Ok(to)) => to,
            // The store did not answer: that says nothing of the payload.
            Some(Err(error @ StoreError::Unavailable(_))) => return Err(error),
            _ => {
                looked.unread += 1;
                continue;
            }
        };
        let place = row.get(0).map_err(sql)?;
        held += sealed.len() + to.len();
        let from = sealed;
        looked.resealed.push(Payload { place, from, to });
        if held >= HELD {
            looked.next = place + 1;
            break;
        }
    }
    Ok(looked)
}
