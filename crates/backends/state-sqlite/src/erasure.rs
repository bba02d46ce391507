//! Erasing a person: the key of the payloads goes at once, with every copy of it in the
//! files; what else was kept of the person goes right after, however often that is begun.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{RecordClass, SealedHead, SearchField};
use creto_governor::{Erasure, Expiry, Resealed, SubjectStore};
use creto_types::{
    Commit, LeafIndex, OrgId, PrincipalName, Receipt, StoreError, SubjectId, Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Database;
use crate::database::{SECONDS_A_DAY, admit_commit, corrupt, record_commit, sql};
use crate::leaves::{LEAVES, leaf_of};
use crate::leftovers;
use crate::nhi::{exists, one};
use crate::retention;
use crate::subjects::Change;

/// Leaves, or terms, that are looked at in one step.
const STEP: usize = 4_096;

/// Whose records there are, in this database.
#[derive(Clone, Debug)]
pub struct SqliteSubjects {
    pub(crate) db: Arc<Database>,
}

impl SqliteSubjects {
    /// The subjects of this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }
}

#[async_trait]
impl SubjectStore for SqliteSubjects {
    async fn subject(
        &self,
        org: OrgId,
        person: &PrincipalName,
    ) -> Result<Option<SubjectId>, StoreError> {
        let person = person.to_string();
        let id: Option<String> = self
            .db
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT id FROM subjects WHERE org = ?1 AND person = ?2")
                    .and_then(|mut s| {
                        s.query_row(params![org.to_string(), person], |row| row.get(0))
                            .optional()
                    })
                    .map_err(sql)
            })
            .await?;
        id.map(|id| id.parse().map_err(|e| corrupt("subject", e)))
            .transpose()
    }

    async fn erase(&self, erasure: Erasure, commit: Commit) -> Result<Receipt, StoreError> {
        let subject = erasure.subject;
        let erased = self
            .db
            .write(move |change| erase(change, &erasure, &commit))
            .await;
        // Also when it may have happened: the key is stored as long as it did not.
        if matches!(
            erased,
            Ok(_) | Err(StoreError::Unavailable(_) | StoreError::Replayed(_))
        ) {
            self.db.subjects().forget(subject);
            let emptied = self.db.truncate_log().await;
            return erased.and_then(|receipt| emptied.map(|()| receipt));
        }
        erased
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.db.truncate_log().await
    }

    async fn expirable(
        &self,
        org: OrgId,
        class: RecordClass,
        before: Timestamp,
    ) -> Result<Option<LeafIndex>, StoreError> {
        self.last_expirable(org, class, before).await
    }

    async fn newest(&self, org: OrgId) -> Result<Option<Timestamp>, StoreError> {
        let org = org.to_string();
        self.db
            .read(move |connection| retention::newest(connection, &org))
            .await
    }

    async fn expire(&self, expiry: Expiry, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |change| retention::expire(change, &expiry, &commit))
            .await
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        // One that fails keeps none of the others back.
        let mut swept = self.sweep_expired().await;
        for row in self.db.read(pending).await? {
            let one = self.sweep_one(row).await;
            swept = swept.and_then(|all| Ok(one? && all));
        }
        let emptied = self.db.truncate_log_at_last().await;
        swept.and_then(|all| emptied.map(|()| all))
    }

    async fn reseal(&self, org: OrgId) -> Result<Resealed, StoreError> {
        self.reseal_all(org).await
    }

    async fn forget_replies(&self, before: Timestamp) -> Result<(), StoreError> {
        let day = before.as_second().div_euclid(SECONDS_A_DAY);
        while leftovers::forget_replies(self, day).await? {}
        Ok(())
    }
}

/// A person of whom something may be left.
#[derive(Clone, Debug)]
pub(crate) struct Erased {
    pub(crate) subject: String,
    pub(crate) org: String,
    pub(crate) person: String,
    leaf: i64,
}

fn erase(change: &Change<'_>, erasure: &Erasure, commit: &Commit) -> Result<Receipt, StoreError> {
    admit_commit(change, commit)?;
    let (org, person) = (erasure.org.to_string(), erasure.person.as_str());
    let ended = exists(
        change,
        "SELECT 1 FROM suspensions WHERE org = ?1 AND principal = ?2
         UNION ALL SELECT 1 FROM expulsions WHERE org = ?1 AND principal = ?2",
        params![org, person],
    )?;
    one(usize::from(ended), "suspension")?;
    let subject = erasure.subject.to_string();
    let receipt = record_commit(change, commit)?;
    let leaf = receipt.leaf().map(|leaf| i64::try_from(leaf.0));
    let leaf = leaf.transpose().map_err(|e| corrupt("leaf index", e))?;
    let erased = change
        .prepare_cached(
            "UPDATE subjects SET person = NULL, private = NULL, erased_by = ?4
             WHERE org = ?1 AND person = ?2 AND id = ?3",
        )
        .and_then(|mut s| s.execute(params![org, person, subject, leaf]))
        .map_err(sql)?;
    one(erased, "subject")?;
    change
        .prepare_cached("DELETE FROM replies WHERE org = ?1 AND caller = ?2")
        .and_then(|mut s| s.execute(params![org, person]))
        .map_err(sql)?;
    change
        .prepare_cached("INSERT INTO erasures (subject, org, person, leaf) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| s.execute(params![subject, org, person, leaf.unwrap_or_default()]))
        .map_err(sql)?;
    Ok(receipt)
}

fn pending(connection: &Connection) -> Result<Vec<Erased>, StoreError> {
    connection
        .prepare_cached("SELECT subject, org, person, leaf FROM erasures ORDER BY subject")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| {
                    Ok(Erased {
                        subject: row.get(0)?,
                        org: row.get(1)?,
                        person: row.get(2)?,
                        leaf: row.get(3)?,
                    })
                })?
                .collect()
        })
        .map_err(sql)
}

impl SqliteSubjects {
    /// Whether nothing is left.
    async fn sweep_one(&self, erased: Erased) -> Result<bool, StoreError> {
        let leftovers = self.sweep_leftovers(&erased).await?;
        let terms = self.sweep_terms(erased.clone()).await?;
        if !(leftovers && terms) {
            return Ok(false);
        }
        self.db
            .write(move |change| {
                change
                    .prepare_cached("DELETE FROM erasures WHERE subject = ?1")
                    .and_then(|mut s| s.execute([&erased.subject]))
                    .map_err(sql)
            })
            .await?;
        // That row, too, names the person.
        self.db.truncate_log().await?;
        Ok(true)
    }

    /// What the search index has of the person's leaves. It follows the journal: only when
    /// it is past the erasure can nothing come that was read before.
    async fn sweep_terms(&self, erased: Erased) -> Result<bool, StoreError> {
        let indexed = self.indexed(&erased.org).await?;
        let Some((log, _)) = indexed.filter(|(_, covered)| *covered > erased.leaf) else {
            return Ok(false);
        };
        let subject: SubjectId = erased.subject.parse().map_err(|e| corrupt("subject", e))?;
        let of_person = move |leaf: &[u8]| {
            let head = SealedHead::of(leaf)?;
            Ok(head.is_some_and(|head| head.subject == subject))
        };
        let places = self.places(log, 0, erased.leaf, of_person).await?;
        self.remove_terms(log, Arc::new(places)).await?;
        Ok(true)
    }

    /// The number of the organization's log, and how many of its leaves are in the search
    /// index.
    pub(crate) async fn indexed(&self, org: &str) -> Result<Option<(i64, i64)>, StoreError> {
        let org = org.to_owned();
        self.db
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT logs.number, coalesce(search_covered.leaves, 0)
                         FROM logs LEFT JOIN search_covered
                         ON search_covered.log = logs.number WHERE logs.org = ?1",
                    )
                    .and_then(|mut s| {
                        s.query_row([org], |row| Ok((row.get(0)?, row.get(1)?)))
                            .optional()
                    })
                    .map_err(sql)
            })
            .await
    }

    /// The places from `from` through `end` whose leaves `of` accepts.
    pub(crate) async fn places<F>(
        &self,
        log: i64,
        from: i64,
        end: i64,
        of: F,
    ) -> Result<Places, StoreError>
    where
        F: Fn(&[u8]) -> Result<bool, StoreError> + Clone + Send + 'static,
    {
        let mut places = Places::new(from);
        let mut next = from;
        while next <= end {
            let of = of.clone();
            let (found, reached) = self
                .db
                .read(move |connection| {
                    let mut found = Vec::new();
                    let mut reached = end;
                    let mut statement = connection
                        .prepare_cached(
                            "SELECT place, bytes FROM journal
                             WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3",
                        )
                        .map_err(sql)?;
                    let first = log * LEAVES;
                    let step = i64::try_from(STEP).unwrap_or(i64::MAX);
                    let mut rows = statement
                        .query([first + next, first + end, step])
                        .map_err(sql)?;
                    let mut count = 0;
                    while let Some(row) = rows.next().map_err(sql)? {
                        let leaf = row.get(0).map(leaf_of).map_err(sql)?;
                        let bytes: Vec<u8> = row.get(1).map_err(sql)?;
                        if of(&bytes)? {
                            found.push(leaf);
                        }
                        count += 1;
                        if count == STEP {
                            reached = leaf;
                        }
                    }
                    Ok((found, reached))
                })
                .await?;
            found.into_iter().for_each(|leaf| places.insert(leaf));
            next = reached + 1;
        }
        Ok(places)
    }

    /// Removes what the search index has of these leaves, but their kinds, which they say
    /// themselves.
    pub(crate) async fn remove_terms(
        &self,
        log: i64,
        places: Arc<Places>,
    ) -> Result<(), StoreError> {
        // Field, tag and leaf of the last term that was looked at.
        let mut after = (0_i64, Vec::new(), -1_i64);
        loop {
            let (from, of) = (after.clone(), Arc::clone(&places));
            let step = self
                .db
                .read(move |connection| terms(connection, log, &from, &of))
                .await?;
            let Some(last) = step.last else {
                return Ok(());
            };
            after = last;
            if !step.found.is_empty() {
                self.db
                    .write(move |change| {
                        let mut delete = change
                            .prepare_cached(
                                "DELETE FROM search
                                 WHERE log = ?1 AND field = ?2 AND tag = ?3 AND leaf = ?4",
                            )
                            .map_err(sql)?;
                        for (field, tag, leaf) in &step.found {
                            delete
                                .execute(params![log, field, tag, leaf])
                                .map_err(sql)?;
                        }
                        Ok(())
                    })
                    .await?;
            }
        }
    }
}

/// Some places of one log: a bit for each, so that millions are few megabytes.
#[derive(Debug)]
pub(crate) struct Places {
    first: i64,
    bits: Vec<u64>,
}

impl Places {
    /// None, from this place on.
    fn new(first: i64) -> Self {
        Self {
            first,
            bits: Vec::new(),
        }
    }

    /// The word and the bit of a place; none for one before the first.
    fn bit(&self, place: i64) -> Option<(usize, u64)> {
        let offset = u64::try_from(place.checked_sub(self.first)?).ok()?;
        let word = usize::try_from(offset / 64).ok()?;
        Some((word, 1 << (offset % 64)))
    }

    fn insert(&mut self, place: i64) {
        let Some((word, bit)) = self.bit(place) else {
            return;
        };
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
    }

    fn contains(&self, place: i64) -> bool {
        let found = self.bit(place);
        found.is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|bits| bits & bit != 0))
    }

    /// All of them, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> {
        (self.first..)
            .zip(&self.bits)
            .flat_map(move |(word, bits)| {
                let start = self.first + (word - self.first) * 64;
                (0..64)
                    .filter(move |bit| bits & (1 << bit) != 0)
                    .map(move |bit| start + bit)
            })
    }
}

type Term = (i64, Vec<u8>, i64);

/// Some terms of a log's search index.
struct Terms {
    /// Those of the leaves that are looked for.
    found: Vec<Term>,
    /// The last that was looked at; none when there was none.
    last: Option<Term>,
}

fn terms(
    connection: &Connection,
    log: i64,
    (field, tag, leaf): &Term,
    places: &Places,
) -> Result<Terms, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT field, tag, leaf FROM search
             WHERE log = ?1 AND (field, tag, leaf) > (?2, ?3, ?4)
             ORDER BY field, tag, leaf LIMIT ?5",
        )
        .map_err(sql)?;
    let limit = i64::try_from(STEP).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![log, field, tag, leaf, limit])
        .map_err(sql)?;
    let mut terms = Terms {
        found: Vec::new(),
        last: None,
    };
    let kind = i64::from(SearchField::Kind as u8);
    while let Some(row) = rows.next().map_err(sql)? {
        let term: Term = (
            row.get(0).map_err(sql)?,
            row.get(1).map_err(sql)?,
            row.get(2).map_err(sql)?,
        );
        if term.0 != kind && places.contains(term.2) {
            terms.found.push(term.clone());
        }
        terms.last = Some(term);
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use creto_types::{Randomness as _, SeededRandom};

    use super::*;

    /// Bits hold what a set of numbers holds.
    #[test]
    fn places_are_a_set() {
        let random = SeededRandom::new(23);
        for first in 0_i64..200 {
            let mut offsets = vec![0_u8; usize::try_from(first).unwrap_or_default()];
            random.fill(&mut offsets);
            let offsets = offsets
                .into_iter()
                .map(|offset| first + 3 * i64::from(offset));
            let all: BTreeSet<i64> = offsets.collect();
            let mut places = Places::new(first);
            all.iter().for_each(|place| places.insert(*place));
            places.insert(first - 1);
            assert!(places.iter().eq(all.iter().copied()));
            for place in first - 2..first + 800 {
                assert_eq!(places.contains(place), all.contains(&place));
            }
        }
    }
}
