//! Erasing a person: the key of the payloads goes at once, with every copy of it in the
//! files; what else was kept of the person goes right after, however often that is begun.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{SealedHead, SearchField};
use creto_governor::{Erasure, SubjectStore};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, SubjectId};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Database;
use crate::database::{admit_commit, corrupt, record_commit, sql};
use crate::leaves::{LEAVES, leaf_of};
use crate::nhi::{exists, one};
use crate::subjects::Change;

/// Leaves, or terms, that are looked at in one step.
const STEP: usize = 4_096;

/// Whose records there are, in this database.
#[derive(Clone, Debug)]
pub struct SqliteSubjects {
    db: Arc<Database>,
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
        let receipt = self
            .db
            .write(move |change| erase(change, &erasure, &commit))
            .await?;
        self.db.subjects().forget(subject);
        self.db.truncate_log().await?;
        Ok(receipt)
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        let rows = self.db.read(pending).await?;
        let mut swept = true;
        for row in rows {
            swept &= self.sweep_one(row).await?;
        }
        Ok(swept)
    }
}

/// A person of whom something may be left.
#[derive(Clone, Debug)]
struct Erased {
    subject: String,
    org: String,
    person: String,
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
    let erased = change
        .prepare_cached(
            "UPDATE subjects SET person = NULL, private = NULL
             WHERE org = ?1 AND person = ?2 AND id = ?3",
        )
        .and_then(|mut s| s.execute(params![org, person, subject]))
        .map_err(sql)?;
    one(erased, "subject")?;
    change
        .prepare_cached("DELETE FROM replies WHERE org = ?1 AND caller = ?2")
        .and_then(|mut s| s.execute(params![org, person]))
        .map_err(sql)?;
    let receipt = record_commit(change, commit)?;
    let leaf = receipt.leaf().map(|leaf| i64::try_from(leaf.0));
    let leaf = leaf.transpose().map_err(|e| corrupt("leaf index", e))?;
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
        self.sweep_prekeys(erased.clone()).await?;
        let requests = self.sweep_requests(erased.clone()).await?;
        if !(requests && self.sweep_terms(erased.clone()).await?) {
            return Ok(false);
        }
        // Also what a process left that was killed right behind an erasure.
        self.db.truncate_log().await?;
        self.db
            .write(move |change| {
                change
                    .prepare_cached("DELETE FROM erasures WHERE subject = ?1")
                    .and_then(|mut s| s.execute([&erased.subject]))
                    .map(|_| true)
                    .map_err(sql)
            })
            .await
    }

    /// Who took a prekey stands in the record of that, which cannot be read any more.
    async fn sweep_prekeys(&self, erased: Erased) -> Result<(), StoreError> {
        self.db
            .write(move |change| {
                change
                    .prepare_cached(
                        "UPDATE prekeys SET taken_by = NULL WHERE org = ?1 AND taken_by = ?2",
                    )
                    .and_then(|mut s| s.execute(params![erased.org, erased.person]))
                    .map(|_| ())
                    .map_err(sql)
            })
            .await
    }

    /// What was held for a human in the person's name. A request that waits still is left
    /// until it expires: what is approved is the digest of all it holds.
    async fn sweep_requests(&self, erased: Erased) -> Result<bool, StoreError> {
        self.db
            .write(move |change| {
                let of = params![erased.org, erased.person];
                change
                    .prepare_cached(
                        "UPDATE oversight_requests
                         SET args = 'null', context = '{}', resource = '', reason = NULL
                         WHERE org = ?1 AND json_extract(chain, '$[0]') = ?2
                         AND state <> 'pending' AND args <> 'null'",
                    )
                    .and_then(|mut s| s.execute(of))
                    .map_err(sql)?;
                let waiting = exists(
                    change,
                    "SELECT 1 FROM oversight_requests
                     WHERE org = ?1 AND json_extract(chain, '$[0]') = ?2 AND state = 'pending'",
                    of,
                )?;
                Ok(!waiting)
            })
            .await
    }

    /// What the search index has of the person's leaves. It follows the journal: only when
    /// it is past the erasure can nothing come that was read before.
    async fn sweep_terms(&self, erased: Erased) -> Result<bool, StoreError> {
        let org = erased.org.clone();
        let log: Option<(i64, i64)> = self
            .db
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT logs.number, search_covered.leaves FROM logs
                         JOIN search_covered ON search_covered.log = logs.number
                         WHERE logs.org = ?1",
                    )
                    .and_then(|mut s| {
                        s.query_row([org], |row| Ok((row.get(0)?, row.get(1)?)))
                            .optional()
                    })
                    .map_err(sql)
            })
            .await?;
        let Some((log, _)) = log.filter(|(_, covered)| *covered > erased.leaf) else {
            return Ok(false);
        };
        let leaves = Arc::new(self.leaves(log, &erased).await?);
        // Field, value and leaf of the last term that was looked at.
        let mut after = (0_i64, String::new(), -1_i64);
        loop {
            let (from, of) = (after.clone(), Arc::clone(&leaves));
            let step = self
                .db
                .read(move |connection| terms(connection, log, &from, &of))
                .await?;
            let Some(last) = step.last else {
                return Ok(true);
            };
            after = last;
            if !step.of_person.is_empty() {
                self.db
                    .write(move |change| {
                        let mut delete = change
                            .prepare_cached(
                                "DELETE FROM search
                                 WHERE log = ?1 AND field = ?2 AND value = ?3 AND leaf = ?4",
                            )
                            .map_err(sql)?;
                        for (field, value, leaf) in &step.of_person {
                            delete
                                .execute(params![log, field, value, leaf])
                                .map_err(sql)?;
                        }
                        Ok(())
                    })
                    .await?;
            }
        }
    }

    /// The places of the person's leaves, up to the erasure.
    async fn leaves(&self, log: i64, erased: &Erased) -> Result<HashSet<i64>, StoreError> {
        let subject: SubjectId = erased.subject.parse().map_err(|e| corrupt("subject", e))?;
        let mut found = HashSet::new();
        let mut next = 0;
        while next <= erased.leaf {
            let end = erased.leaf;
            let (of_person, reached) = self
                .db
                .read(move |connection| {
                    let mut of_person = Vec::new();
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
                        if SealedHead::of(&bytes)?.is_some_and(|head| head.subject == subject) {
                            of_person.push(leaf);
                        }
                        count += 1;
                        if count == STEP {
                            reached = leaf;
                        }
                    }
                    Ok((of_person, reached))
                })
                .await?;
            found.extend(of_person);
            next = reached + 1;
        }
        Ok(found)
    }
}

type Term = (i64, String, i64);

/// Some terms of a log's search index.
struct Terms {
    /// Those of the person's leaves.
    of_person: Vec<Term>,
    /// The last that was looked at; none when there was none.
    last: Option<Term>,
}

fn terms(
    connection: &Connection,
    log: i64,
    (field, value, leaf): &Term,
    leaves: &HashSet<i64>,
) -> Result<Terms, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT field, value, leaf FROM search
             WHERE log = ?1 AND (field, value, leaf) > (?2, ?3, ?4)
             ORDER BY field, value, leaf LIMIT ?5",
        )
        .map_err(sql)?;
    let limit = i64::try_from(STEP).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![log, field, value, leaf, limit])
        .map_err(sql)?;
    let mut found = Terms {
        of_person: Vec::new(),
        last: None,
    };
    while let Some(row) = rows.next().map_err(sql)? {
        let term: Term = (
            row.get(0).map_err(sql)?,
            row.get(1).map_err(sql)?,
            row.get(2).map_err(sql)?,
        );
        // The kind stands in the leaf itself.
        if term.0 != i64::from(SearchField::Kind as u8) && leaves.contains(&term.2) {
            found.of_person.push(term.clone());
        }
        found.last = Some(term);
    }
    Ok(found)
}
