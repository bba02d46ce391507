//! Payloads that were kept long enough: a record says so first, then they are removed
//! step by step, and what the search index has of them.

use std::sync::Arc;

use creto_audit::{RecordClass, SealedHead, is_kept};
use creto_governor::Expiry;
use creto_types::{Commit, HybridTimestamp, LeafIndex, OrgId, Receipt, StoreError, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::SqliteSubjects;
use crate::database::{admit_commit, corrupt, record_commit, sql};
use crate::governor::leaf_index;
use crate::leaves::{LEAVES, leaf_of};
use crate::nhi::one;
use crate::subjects::Change;

/// Places that are looked at in one step: what is read keeps SQLite's log of writes.
const LOOKED_AT: i64 = 16_384;

/// Payloads that are removed in one transaction. Few: appends wait for it.
const REMOVED: usize = 256;

/// Payloads of one class whose end is on record, and which may not all be gone.
#[derive(Clone, Debug)]
struct Ended {
    org: String,
    class: RecordClass,
    /// The last leaf whose payload ends.
    through: i64,
    /// The last leaf below which nothing is left; -1 when none was looked at.
    swept: i64,
}

/// Where payloads of a class may end: the log's number, the first leaf whose payload has not
/// ended yet, and the first that is too young.
fn may_end(
    connection: &Connection,
    org: &str,
    class: RecordClass,
    before: Timestamp,
) -> Result<Option<(i64, i64, i64)>, StoreError> {
    let log: Option<i64> = connection
        .prepare_cached("SELECT number FROM logs WHERE org = ?1")
        .and_then(|mut s| s.query_row([org], |row| row.get(0)).optional())
        .map_err(sql)?;
    let Some(log) = log else {
        return Ok(None);
    };
    let ended = through(connection, org, class)?.unwrap_or(-1);
    Ok(Some((
        log,
        ended + 1,
        first_since(connection, log, before)?,
    )))
}

/// What some leaves from this one on say: whether a payload of the class is left at one of
/// them, or which is next to be looked at, if any.
fn any_left(
    connection: &Connection,
    log: i64,
    class: RecordClass,
    (next, end): (i64, i64),
) -> Result<Result<(), Option<i64>>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT bytes FROM journal
             WHERE place >= ?1 AND place < ?2 AND sealed IS NOT NULL",
        )
        .map_err(sql)?;
    let first = log * LEAVES;
    let reached = end.min(next + LOOKED_AT);
    let mut rows = statement
        .query([first + next, first + reached])
        .map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let bytes: Vec<u8> = row.get(0).map_err(sql)?;
        if ends_with(&bytes, class)? {
            return Ok(Ok(()));
        }
    }
    Ok(Err((reached < end).then_some(reached)))
}

/// Whether the leaf commits to a payload that ends with those of the class.
fn ends_with(leaf: &[u8], class: RecordClass) -> Result<bool, StoreError> {
    let head = SealedHead::of(leaf)?;
    Ok(head.is_some_and(|head| head.class == class && !is_kept(&head.kind)))
}

/// Whether the end of a payload is on record: it may be missing.
pub(crate) fn is_ended(
    connection: &Connection,
    head: &SealedHead,
    leaf: i64,
) -> Result<bool, StoreError> {
    let ended = through(connection, &head.org.to_string(), head.class)?;
    Ok(!is_kept(&head.kind) && ended.is_some_and(|through| leaf <= through))
}

/// When the newest leaf of a log has its place.
pub(crate) fn newest(connection: &Connection, org: &str) -> Result<Option<Timestamp>, StoreError> {
    let ts: Option<Option<i64>> = connection
        .prepare_cached(
            "SELECT journal.ts FROM logs JOIN journal
             ON journal.place >= logs.number << 40 AND journal.place < (logs.number + 1) << 40
             WHERE logs.org = ?1 ORDER BY journal.place DESC LIMIT 1",
        )
        .and_then(|mut s| s.query_row([org], |row| row.get(0)).optional())
        .map_err(sql)?;
    let Some(ts) = ts.flatten() else {
        return Ok(None);
    };
    let ts = u64::try_from(ts).map_err(|e| corrupt("leaf timestamp", e))?;
    let millis = i64::try_from(HybridTimestamp::from_u64(ts).millis());
    let millis = millis.map_err(|e| corrupt("leaf timestamp", e))?;
    let at = Timestamp::from_millisecond(millis).map_err(|e| corrupt("leaf timestamp", e))?;
    Ok(Some(at))
}

/// The first leaf of a log that has its place since then, or how many leaves there are.
/// Leaves from before timestamps are older than every time that is asked for.
fn first_since(connection: &Connection, log: i64, at: Timestamp) -> Result<i64, StoreError> {
    let at = HybridTimestamp::of_instant(at).as_u64();
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(place) FROM journal WHERE place >= ?1 AND place < ?2")
        .and_then(|mut s| s.query_row([log * LEAVES, (log + 1) * LEAVES], |row| row.get(0)))
        .map_err(sql)?;
    let mut statement = connection
        .prepare_cached("SELECT ts FROM journal WHERE place = ?1")
        .map_err(sql)?;
    let (mut low, mut high) = (0, last.map_or(0, |place| leaf_of(place) + 1));
    while low < high {
        let middle = low + (high - low) / 2;
        let ts: Option<i64> = statement
            .query_row([log * LEAVES + middle], |row| row.get(0))
            .map_err(sql)?;
        let ts = ts.map_or(Ok(0), u64::try_from);
        if ts.map_err(|e| corrupt("leaf timestamp", e))? < at {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn through(
    connection: &Connection,
    org: &str,
    class: RecordClass,
) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT through FROM expiries WHERE org = ?1 AND class = ?2")
        .and_then(|mut s| {
            s.query_row(params![org, class.as_str()], |row| row.get(0))
                .optional()
        })
        .map_err(sql)
}

pub(crate) fn expire(
    change: &Change<'_>,
    expiry: &Expiry,
    commit: &Commit,
) -> Result<Receipt, StoreError> {
    admit_commit(change, commit)?;
    let (org, class) = (expiry.org.to_string(), expiry.class);
    let last = i64::try_from(expiry.through.0).map_err(|e| corrupt("leaf index", e))?;
    let behind = through(change, &org, class)?.is_none_or(|before| before < last);
    one(usize::from(behind), "expiry")?;
    change
        .prepare_cached(
            "INSERT INTO expiries (org, class, through, swept) VALUES (?1, ?2, ?3, -1)
             ON CONFLICT (org, class) DO UPDATE SET through = excluded.through",
        )
        .and_then(|mut s| s.execute(params![org, class.as_str(), last]))
        .map_err(sql)?;
    record_commit(change, commit)
}

fn ended(connection: &Connection) -> Result<Vec<Ended>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT org, class, through, swept FROM expiries WHERE swept < through
             ORDER BY org, class",
        )
        .map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let class: String = row.get(1).map_err(sql)?;
        all.push(Ended {
            org: row.get(0).map_err(sql)?,
            class: class.parse().map_err(|e| corrupt("class of records", e))?,
            through: row.get(2).map_err(sql)?,
            swept: row.get(3).map_err(sql)?,
        });
    }
    Ok(all)
}

impl SqliteSubjects {
    /// The last leaf that has its place before then, if a payload of the class is left there
    /// or before it.
    pub(crate) async fn last_expirable(
        &self,
        org: OrgId,
        class: RecordClass,
        before: Timestamp,
    ) -> Result<Option<LeafIndex>, StoreError> {
        let org = org.to_string();
        let may_end = self
            .db
            .read(move |connection| may_end(connection, &org, class, before));
        let Some((log, mut next, end)) = may_end.await? else {
            return Ok(None);
        };
        loop {
            let step = self
                .db
                .read(move |connection| any_left(connection, log, class, (next, end)));
            match step.await? {
                Ok(()) => return leaf_index(end - 1).map(Some),
                Err(Some(more)) => next = more,
                Err(None) => return Ok(None),
            }
        }
    }

    /// Removes payloads whose end is on record. Whether nothing is left.
    pub(crate) async fn sweep_expired(&self) -> Result<bool, StoreError> {
        // One that fails keeps none of the others back.
        let mut swept = Ok(true);
        for ended in self.db.read(ended).await? {
            let one = self.sweep_class(ended).await;
            swept = swept.and_then(|all| Ok(one? && all));
        }
        swept
    }

    async fn sweep_class(&self, ended: Ended) -> Result<bool, StoreError> {
        let Some((log, covered)) = self.indexed(&ended.org).await? else {
            return Ok(false);
        };
        let class = ended.class;
        let places = self
            .places(log, ended.swept + 1, ended.through, move |leaf| {
                ends_with(leaf, class)
            })
            .await?;
        let places = Arc::new(places);
        let mut removed = places.iter().peekable();
        while removed.peek().is_some() {
            let some: Vec<i64> = removed.by_ref().take(REMOVED).collect();
            self.db
                .write(move |change| {
                    let mut remove = change
                        .prepare_cached(
                            "UPDATE journal SET sealed = NULL
                             WHERE place = ?1 AND sealed IS NOT NULL",
                        )
                        .map_err(sql)?;
                    for leaf in some {
                        remove.execute([log * LEAVES + leaf]).map_err(sql)?;
                    }
                    Ok(())
                })
                .await?;
        }
        // The index follows the journal: behind it may come what was read before.
        if covered <= ended.through {
            return Ok(false);
        }
        self.remove_terms(log, Arc::clone(&places)).await?;
        self.db.truncate_log().await?;
        self.db
            .write(move |change| {
                change
                    .prepare_cached("UPDATE expiries SET swept = ?3 WHERE org = ?1 AND class = ?2")
                    .and_then(|mut s| {
                        s.execute(params![ended.org, ended.class.as_str(), ended.through])
                    })
                    .map(|_| true)
                    .map_err(sql)
            })
            .await
    }
}
