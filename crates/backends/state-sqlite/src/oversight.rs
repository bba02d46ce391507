//! Oversight requests.

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use creto_oversight::{
    ActionDigest, Filter, Grant, HeldAction, OversightError, OversightRequest, OversightStore,
    PENDING_LIMIT, RequestId, State, StateName,
};
use creto_types::{Commit, LeafIndex, Money, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use rusqlite::{Connection, Params, Row, Transaction, named_params, params};

use crate::Database;
use crate::database::{apply_commit, corrupt, sql};

const WHAT: &str = "oversight request";

/// Every column, and whether the grant is used up.
const SELECT: &str = "SELECT r.*, EXISTS (
        SELECT 1 FROM claims c WHERE c.org = r.org AND c.token = r.grant_token
    ) AS used FROM oversight_requests r";

/// An [`OversightStore`] in this database.
#[derive(Clone, Debug)]
pub struct SqliteOversight {
    db: Arc<Database>,
}

impl SqliteOversight {
    /// Oversight requests in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }
}

#[async_trait]
impl OversightStore for SqliteOversight {
    async fn insert(
        &self,
        request: OversightRequest,
        commit: Commit,
    ) -> Result<Receipt, OversightError> {
        let agent = request.held.agent.clone();
        // A job that changes nothing ends with a store's error; that there was no
        // room is told beside it.
        let full = Arc::new(AtomicBool::new(false));
        let found_full = Arc::clone(&full);
        let outcome = self
            .db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                refuse_second(tx, &request)?;
                if count_pending(tx, &request)? >= rows_at_most(PENDING_LIMIT) {
                    found_full.store(true, Ordering::Release);
                    return Err(StoreError::Conflict { what: WHAT });
                }
                insert(tx, &request, receipt.leaf())?;
                Ok(receipt)
            })
            .await;
        match outcome {
            Err(StoreError::Conflict { .. }) if full.load(Ordering::Acquire) => {
                Err(OversightError::TooManyPending {
                    agent,
                    limit: PENDING_LIMIT,
                })
            }
            outcome => Ok(outcome?),
        }
    }

    async fn decide(&self, next: OversightRequest, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                decide(tx, &next, receipt.leaf())?;
                Ok(receipt)
            })
            .await
    }

    async fn get(&self, org: OrgId, id: RequestId) -> Result<Option<OversightRequest>, StoreError> {
        self.db
            .read(move |connection| {
                let parameters = params![org.to_string(), id.to_string()];
                one(connection, "WHERE r.org = ?1 AND r.id = ?2", parameters)
            })
            .await
    }

    async fn find_pending(
        &self,
        org: OrgId,
        agent: &PrincipalName,
        link: Option<&str>,
        digest: &ActionDigest,
        now: Timestamp,
    ) -> Result<Option<OversightRequest>, StoreError> {
        let (agent, digest) = (agent.to_string(), digest.to_string());
        let link = link.map(ToOwned::to_owned);
        self.db
            .read(move |connection| {
                one(
                    connection,
                    "WHERE r.org = ?1 AND r.agent = ?2 AND r.digest = ?3
                       AND r.state = 'pending' AND r.expires_ns > ?4 AND r.link IS ?5",
                    params![org.to_string(), agent, digest, nanoseconds(now), link],
                )
            })
            .await
    }

    async fn find_by_grant(
        &self,
        org: OrgId,
        grant: &Grant,
    ) -> Result<Option<OversightRequest>, StoreError> {
        let grant = grant.as_str().to_owned();
        self.db
            .read(move |connection| {
                let parameters = params![org.to_string(), grant];
                one(
                    connection,
                    "WHERE r.org = ?1 AND r.grant_token = ?2",
                    parameters,
                )
            })
            .await
    }

    async fn list(
        &self,
        org: OrgId,
        filter: &Filter,
        now: Timestamp,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<OversightRequest>, StoreError> {
        let state = match filter.state {
            None => "TRUE",
            Some(StateName::Pending) => "state = 'pending' AND expires_ns > :now",
            Some(StateName::Expired) => {
                "(state = 'expired' OR state = 'pending' AND expires_ns <= :now)"
            }
            Some(StateName::Approved) => "state = 'approved' AND NOT used",
            Some(StateName::Used) => "state = 'approved' AND used",
            Some(StateName::Denied) => "state = 'denied'",
        };
        // Every branch names `:now`, so that one set of parameters fits them all.
        let query = format!(
            "SELECT * FROM ({SELECT} WHERE r.org = :org AND r.id > :after
                AND (:agent IS NULL OR r.agent = :agent))
             WHERE {state} AND :now IS NOT NULL ORDER BY id LIMIT :limit"
        );
        let agent = filter.agent.as_ref().map(ToString::to_string);
        let after = after.map_or_else(String::new, |id| id.to_string());
        self.db
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&query).map_err(sql)?;
                let mut rows = statement
                    .query(named_params! {
                        ":org": org.to_string(),
                        ":after": after,
                        ":agent": agent,
                        ":now": nanoseconds(now),
                        ":limit": rows_at_most(limit),
                    })
                    .map_err(sql)?;
                let mut found = Vec::new();
                while let Some(row) = rows.next().map_err(sql)? {
                    found.push(read(row)?);
                }
                Ok(found)
            })
            .await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<OversightRequest>, StoreError> {
        self.db
            .read(move |connection| {
                let query = format!(
                    "{SELECT} WHERE r.state = 'pending' AND r.expires_ns <= ?1
                     ORDER BY r.expires_ns, r.id LIMIT ?2"
                );
                let mut statement = connection.prepare_cached(&query).map_err(sql)?;
                let mut rows = statement
                    .query(params![nanoseconds(now), rows_at_most(limit)])
                    .map_err(sql)?;
                let mut found = Vec::new();
                while let Some(row) = rows.next().map_err(sql)? {
                    found.push(read(row)?);
                }
                Ok(found)
            })
            .await
    }
}

/// Refuses a request whose id exists or that the same agent waits for already.
fn refuse_second(tx: &Transaction<'_>, request: &OversightRequest) -> Result<(), StoreError> {
    let taken: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM oversight_requests WHERE org = ?1 AND id = ?2)
                 OR EXISTS (SELECT 1 FROM oversight_requests
                     WHERE org = ?1 AND agent = ?3 AND digest = ?4
                       AND state = 'pending' AND expires_ns > ?5 AND link IS ?6)",
        )
        .and_then(|mut statement| {
            statement.query_row(
                params![
                    request.org.to_string(),
                    request.id.to_string(),
                    request.held.agent.as_str(),
                    request.digest.to_string(),
                    nanoseconds(request.created_at),
                    request.link,
                ],
                |row| row.get(0),
            )
        })
        .map_err(sql)?;
    if taken || request.state != State::Pending {
        return Err(StoreError::Conflict { what: WHAT });
    }
    Ok(())
}

/// How many requests of the agent a human can still decide when this one is made.
fn count_pending(tx: &Transaction<'_>, request: &OversightRequest) -> Result<i64, StoreError> {
    tx.prepare_cached(
        "SELECT count(*) FROM oversight_requests
         WHERE org = ?1 AND agent = ?2 AND state = 'pending' AND expires_ns > ?3",
    )
    .and_then(|mut statement| {
        let org = request.org.to_string();
        let agent = request.held.agent.as_str();
        let made = nanoseconds(request.created_at);
        statement.query_row(params![org, agent, made], |row| row.get(0))
    })
    .map_err(sql)
}

fn insert(
    tx: &Transaction<'_>,
    request: &OversightRequest,
    leaf: Option<LeafIndex>,
) -> Result<(), StoreError> {
    let chain = serde_json::to_string(&request.chain).map_err(|e| corrupt(WHAT, e))?;
    let context = serde_json::to_string(&request.held.context).map_err(|e| corrupt(WHAT, e))?;
    let policies =
        serde_json::to_string(&request.held.policy_digests).map_err(|e| corrupt(WHAT, e))?;
    let units = i64::try_from(request.held.units).map_err(|e| corrupt(WHAT, e))?;
    tx.prepare_cached(
        "INSERT INTO oversight_requests (org, id, action_id, agent, action, resource, resource_type,
             context, args, units, policy_id, policy_digests, digest, link, chain, cost, spent, oversight, created_at,
             expires_at, expires_ns, state, leaf)
         VALUES (:org, :id, :action_id, :agent, :action, :resource, :resource_type,
             :context, :args, :units, :policy_id, :policy_digests, :digest, :link, :chain, :cost, :spent, :oversight, :created_at,
             :expires_at, :expires_ns, 'pending', :leaf)",
    )
    .and_then(|mut statement| {
        statement.execute(named_params! {
            ":org": request.org.to_string(),
            ":id": request.id.to_string(),
            ":action_id": request.action_id.to_string(),
            ":agent": request.held.agent.as_str(),
            ":action": request.held.action,
            ":resource": request.held.resource,
            ":resource_type": request.held.resource_type,
            ":context": context,
            ":args": request.held.args.to_string(),
            ":units": units,
            ":policy_id": request.held.policy_id,
            ":policy_digests": policies,
            ":digest": request.digest.to_string(),
            ":link": request.link,
            ":chain": chain,
            ":cost": request.cost.map(|money| money.to_string()),
            ":spent": request.spent.map(|money| money.to_string()),
            ":oversight": request.oversight,
            ":created_at": request.created_at.to_string(),
            ":expires_at": request.expires_at.to_string(),
            ":expires_ns": nanoseconds(request.expires_at),
            ":leaf": leaf_column(leaf)?,
        })
    })
    .map_err(sql)?;
    Ok(())
}

fn decide(
    tx: &Transaction<'_>,
    next: &OversightRequest,
    leaf: Option<LeafIndex>,
) -> Result<(), StoreError> {
    let (by, at, reason, grant, grant_expires_at) = match &next.state {
        State::Pending => return Err(StoreError::Conflict { what: WHAT }),
        State::Approved {
            by,
            at,
            reason,
            grant,
            grant_expires_at,
        } => (
            Some(by),
            at,
            reason.as_deref(),
            Some(grant),
            Some(grant_expires_at),
        ),
        State::Denied { by, at, reason } => (Some(by), at, reason.as_deref(), None, None),
        State::Expired { at } => (None, at, None, None, None),
    };
    let (org, id) = (next.org.to_string(), next.id.to_string());
    let state = match next.state_name() {
        StateName::Used => StateName::Approved,
        other => other,
    };
    let changed = tx
        .prepare_cached(
            "UPDATE oversight_requests
             SET state = :state, decided_by = :by, decided_at = :at, reason = :reason,
                 grant_token = :grant, grant_expires_at = :grant_expires_at,
                 leaf = coalesce(:leaf, leaf)
             WHERE org = :org AND id = :id AND state = 'pending'",
        )
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":state": state.as_str(),
                ":by": by.map(PrincipalName::as_str),
                ":at": at.to_string(),
                ":reason": reason,
                ":grant": grant.map(Grant::as_str),
                ":grant_expires_at": grant_expires_at.map(ToString::to_string),
                ":leaf": leaf_column(leaf)?,
                ":org": org,
                ":id": id,
            })
        })
        .map_err(sql)?;
    if changed == 1 {
        return Ok(());
    }
    let exists: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM oversight_requests WHERE org = ?1 AND id = ?2)",
        )
        .and_then(|mut statement| statement.query_row(params![org, id], |row| row.get(0)))
        .map_err(sql)?;
    Err(if exists {
        StoreError::Conflict { what: WHAT }
    } else {
        StoreError::NotFound { what: WHAT }
    })
}

fn one(
    connection: &Connection,
    condition: &str,
    parameters: impl Params,
) -> Result<Option<OversightRequest>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("{SELECT} {condition}"))
        .map_err(sql)?;
    let mut rows = statement.query(parameters).map_err(sql)?;
    rows.next().map_err(sql)?.map(read).transpose()
}

/// A row with the columns of [`SELECT`].
fn read(row: &Row<'_>) -> Result<OversightRequest, StoreError> {
    let org = parsed::<OrgId>(row, "org")?;
    let by = || parsed::<PrincipalName>(row, "decided_by");
    let at = || parsed::<Timestamp>(row, "decided_at");
    let state = match column::<String>(row, "state")?.as_str() {
        "pending" => State::Pending,
        "approved" => State::Approved {
            by: by()?,
            at: at()?,
            reason: column(row, "reason")?,
            grant: parsed(row, "grant_token")?,
            grant_expires_at: parsed(row, "grant_expires_at")?,
        },
        "denied" => State::Denied {
            by: by()?,
            at: at()?,
            reason: column(row, "reason")?,
        },
        "expired" => State::Expired { at: at()? },
        other => return Err(corrupt(WHAT, format!("unknown state `{other}`"))),
    };
    let leaf = column::<Option<i64>>(row, "leaf")?
        .map(|leaf| u64::try_from(leaf).map(LeafIndex))
        .transpose()
        .map_err(|e| corrupt(WHAT, e))?;
    Ok(OversightRequest {
        id: parsed(row, "id")?,
        org,
        action_id: parsed(row, "action_id")?,
        held: HeldAction {
            org,
            agent: parsed(row, "agent")?,
            action: column(row, "action")?,
            resource: column(row, "resource")?,
            resource_type: column(row, "resource_type")?,
            context: json(row, "context")?,
            args: json(row, "args")?,
            units: u64::try_from(column::<i64>(row, "units")?).map_err(|e| corrupt(WHAT, e))?,
            policy_id: column(row, "policy_id")?,
            policy_digests: json(row, "policy_digests")?,
        },
        digest: parsed(row, "digest")?,
        link: column(row, "link")?,
        chain: json(row, "chain")?,
        cost: money(row, "cost")?,
        spent: money(row, "spent")?,
        oversight: column(row, "oversight")?,
        created_at: parsed(row, "created_at")?,
        expires_at: parsed(row, "expires_at")?,
        state,
        used: column(row, "used")?,
        leaf,
    })
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, name: &str) -> Result<T, StoreError> {
    row.get(name).map_err(|e| corrupt(WHAT, e))
}

fn parsed<T>(row: &Row<'_>, name: &str) -> Result<T, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    column::<String>(row, name)?
        .parse()
        .map_err(|e: T::Err| corrupt(WHAT, e))
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, name: &str) -> Result<T, StoreError> {
    serde_json::from_str(&column::<String>(row, name)?).map_err(|e| corrupt(WHAT, e))
}

fn money(row: &Row<'_>, name: &str) -> Result<Option<Money>, StoreError> {
    column::<Option<String>>(row, name)?
        .map(|text| text.parse().map_err(|e| corrupt(WHAT, e)))
        .transpose()
}

fn leaf_column(leaf: Option<LeafIndex>) -> rusqlite::Result<Option<i64>> {
    leaf.map(|leaf| {
        i64::try_from(leaf.0).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
    })
    .transpose()
}

/// Instants outside the years 1677 to 2262 count as the nearest one inside.
pub(crate) fn nanoseconds(at: Timestamp) -> i64 {
    let nanoseconds = at.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

fn rows_at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
