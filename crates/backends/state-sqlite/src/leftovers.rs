//! What is kept of a person who was erased beside the log: it goes after the key, in the
//! background, however often that is begun.

use creto_audit::SealedHead;
use creto_types::{LeafIndex, OrgId, StoreError, SubjectId};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::SqliteSubjects;
use crate::database::{corrupt, sql};
use crate::erasure::Erased;
use crate::leaves::LEAVES;
use crate::nhi::{exists, from_json};

/// Rows that are read in one step.
const STEP: i64 = 1_024;

/// Rows that are changed in one transaction. Few: appends wait for it.
const CHANGED: usize = 256;
const FORGOTTEN: i64 = 256;

impl SqliteSubjects {
    /// Whether nothing of it is left.
    pub(crate) async fn sweep_leftovers(&self, erased: &Erased) -> Result<bool, StoreError> {
        self.sweep_prekeys(erased.clone()).await?;
        let requests = self.sweep_requests(erased.clone()).await?;
        let sandboxes = self.sweep_sandboxes(erased.clone()).await?;
        // Last: until the others are gone more of them may be made.
        if !(requests && sandboxes) {
            return Ok(false);
        }
        self.sweep_replies(erased.clone()).await?;
        Ok(true)
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

    /// What was held for a human in the person's name, and what the person decided of
    /// others. A request that waits still is left until it expires: what is approved is the
    /// digest of all it holds. That digest goes as well, for a guess could be checked by it.
    async fn sweep_requests(&self, erased: Erased) -> Result<bool, StoreError> {
        self.db
            .write(move |change| {
                let of = params![erased.org, erased.person];
                change
                    .prepare_cached(
                        "UPDATE oversight_requests
                         SET args = 'null', context = '{}', resource = '', resource_type = NULL,
                             reason = NULL, digest = printf('%064d', 0)
                         WHERE org = ?1 AND json_extract(chain, '$[0]') = ?2
                         AND state <> 'pending' AND resource <> ''",
                    )
                    .and_then(|mut s| s.execute(of))
                    .map_err(sql)?;
                change
                    .prepare_cached(
                        "UPDATE oversight_requests SET reason = NULL
                         WHERE org = ?1 AND decided_by = ?2 AND reason IS NOT NULL",
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

    /// What programs were started with and what they said, in sandboxes under delegations
    /// that began with the person. One that runs still is left until it has ended.
    async fn sweep_sandboxes(&self, erased: Erased) -> Result<bool, StoreError> {
        let mut none_runs = true;
        let mut after = String::new();
        loop {
            let (of, from, subjects) = (erased.clone(), after.clone(), self.db.subjects());
            let step = self.db.read(move |connection| {
                let org: OrgId = of.org.parse().map_err(|e| corrupt("organization", e))?;
                let mut found = Vec::new();
                let rows = sandboxes(connection, &of.org, &from)?;
                let last = rows.last().map(|row| row.id.clone());
                for row in rows {
                    let root = subjects.root(connection, org, &row.delegation)?;
                    if root.is_some_and(|root| root == of.person) {
                        found.push(row);
                    }
                }
                Ok((found, last))
            });
            let (found, last) = step.await?;
            none_runs &= found.iter().all(|row| !row.running);
            let ended: Vec<String> = found
                .into_iter()
                .filter(|row| !row.running)
                .map(|row| row.id)
                .collect();
            for some in ended.chunks(CHANGED) {
                let (org, some) = (erased.org.clone(), some.to_vec());
                self.db
                    .write(move |change| {
                        let mut blank = change
                            .prepare_cached(
                                "UPDATE sandboxes SET answer = json_set(
                                     json_remove(answer, '$.stdout', '$.stderr'),
                                     '$.argv', json('[]'))
                                 WHERE org = ?1 AND id = ?2 AND running = 0",
                            )
                            .map_err(sql)?;
                        for id in some {
                            blank.execute(params![org, id]).map_err(sql)?;
                        }
                        Ok(())
                    })
                    .await?;
            }
            match last {
                Some(last) => after = last,
                None => return Ok(none_runs),
            }
        }
    }

    /// The answers that are kept for idempotency keys, whoever asked: those whose record is
    /// the person's, and those that show what was held in the person's name.
    async fn sweep_replies(&self, erased: Erased) -> Result<(), StoreError> {
        let subject: SubjectId = erased.subject.parse().map_err(|e| corrupt("subject", e))?;
        let log = self.indexed(&erased.org).await?.map(|(log, _)| log);
        let mut after = (String::new(), String::new());
        loop {
            let (of, from) = (erased.clone(), after.clone());
            let step = self.db.read(move |connection| {
                let rows = replies(connection, &of.org, &from)?;
                let last = rows.last().map(|row| row.key.clone());
                let mut found = Vec::new();
                for row in rows {
                    if row.held_for.as_ref() == Some(&of.person)
                        || is_of(connection, log, &row.leaves, subject)?
                    {
                        found.push(row.key);
                    }
                }
                Ok((found, last))
            });
            let (found, last) = step.await?;
            for some in found.chunks(CHANGED) {
                let (org, some) = (erased.org.clone(), some.to_vec());
                self.db
                    .write(move |change| {
                        let mut delete = change
                            .prepare_cached(
                                "DELETE FROM replies WHERE org = ?1 AND caller = ?2 AND key = ?3",
                            )
                            .map_err(sql)?;
                        for (caller, key) in some {
                            delete.execute(params![org, caller, key]).map_err(sql)?;
                        }
                        Ok(())
                    })
                    .await?;
            }
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }
}

struct Sandbox {
    id: String,
    running: bool,
    delegation: String,
}

/// Those after this id of which something is left.
fn sandboxes(connection: &Connection, org: &str, after: &str) -> Result<Vec<Sandbox>, StoreError> {
    connection
        .prepare_cached(
            "SELECT id, running, json_extract(answer, '$.delegation') FROM sandboxes
             WHERE org = ?1 AND id > ?2
             AND (running = 1 OR json_array_length(answer, '$.argv') > 0
                  OR json_type(answer, '$.stdout') IS NOT NULL
                  OR json_type(answer, '$.stderr') IS NOT NULL)
             ORDER BY id LIMIT ?3",
        )
        .and_then(|mut statement| {
            statement
                .query_map(params![org, after, STEP], |row| {
                    Ok(Sandbox {
                        id: row.get(0)?,
                        running: row.get(1)?,
                        delegation: row.get(2)?,
                    })
                })?
                .collect()
        })
        .map_err(sql)
}

struct Reply {
    /// Caller and idempotency key.
    key: (String, String),
    leaves: Vec<LeafIndex>,
    /// In whose name what it shows was held for a human.
    held_for: Option<String>,
}

fn replies(
    connection: &Connection,
    org: &str,
    (caller, key): &(String, String),
) -> Result<Vec<Reply>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT caller, key, leaves, json_extract(response, '$.chain[0]') FROM replies
             WHERE org = ?1 AND (caller, key) > (?2, ?3) ORDER BY caller, key LIMIT ?4",
        )
        .map_err(sql)?;
    let mut rows = statement
        .query(params![org, caller, key, STEP])
        .map_err(sql)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let leaves: String = row.get(2).map_err(sql)?;
        all.push(Reply {
            key: (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?),
            leaves: from_json("reply", &leaves)?,
            held_for: row.get(3).map_err(sql)?,
        });
    }
    Ok(all)
}

/// Whether one of these leaves is the subject's.
fn is_of(
    connection: &Connection,
    log: Option<i64>,
    leaves: &[LeafIndex],
    subject: SubjectId,
) -> Result<bool, StoreError> {
    let Some(log) = log else {
        return Ok(false);
    };
    for leaf in leaves {
        let leaf = i64::try_from(leaf.0).map_err(|e| corrupt("leaf index", e))?;
        let bytes: Option<Vec<u8>> = connection
            .prepare_cached("SELECT bytes FROM journal WHERE place = ?1")
            .and_then(|mut s| {
                s.query_row([log * LEAVES + leaf], |row| row.get(0))
                    .optional()
            })
            .map_err(sql)?;
        let head = bytes.map(|bytes| SealedHead::of(&bytes)).transpose()?;
        if head.flatten().is_some_and(|head| head.subject == subject) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets replies from before this day, counted from 1970. Whether there may be more.
pub(crate) async fn forget_replies(
    subjects: &SqliteSubjects,
    before_day: i64,
) -> Result<bool, StoreError> {
    let forgotten = subjects.db.write(move |change| {
        change
            .prepare_cached(
                "DELETE FROM replies WHERE (org, caller, key) IN (
                     SELECT org, caller, key FROM replies WHERE day < ?1 LIMIT ?2)",
            )
            .and_then(|mut s| s.execute(params![before_day, FORGOTTEN]))
            .map_err(sql)
    });
    Ok(forgotten.await? > 0)
}
