//! Organizations, principals, keys and delegations.

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::unparsed;
use creto_nhi::{
    DelegationLink, LinkId, NhiStore, Part, PrekeyStore, PrincipalType, Rewrapped, SecretStore,
    SignedLink, Snapshot, StoredEpoch, StoredExpulsion, StoredKey, StoredKeyChange,
    StoredKeyRevocation, StoredLogRotation, StoredOrganization, StoredPrincipal, StoredRole,
    StoredRotation, StoredSuspension, WrappedKey, WrappingKey,
};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, SubjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Database;
use crate::algorithms;
use crate::database::{admit_commit, apply_commit, corrupt, record_commit, sql};
use crate::keys;
use crate::load::{self, Which};
use crate::principal_keys;
use crate::principals;
use crate::subjects::Change;

/// Identities in this database.
#[derive(Clone, Debug)]
pub struct SqliteNhi {
    db: Arc<Database>,
}

impl SqliteNhi {
    /// Identities in this database.
    #[must_use]
    pub fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }

    /// Opens wrapping keys before the change that takes them into use, which is not made
    /// when the keystore fails. A thread waits for it that nobody else waits for.
    async fn open_wrapping(&self, org: OrgId, keys: Vec<WrappingKey>) -> Result<(), StoreError> {
        let subjects = self.db.subjects();
        let open = move || {
            keys.iter()
                .try_for_each(|key| subjects.open_wrapping(org, key))
        };
        tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| StoreError::NotDone(Box::new(error)))?
    }
}

#[async_trait]
impl NhiStore for SqliteNhi {
    fn prekeys(&self) -> &dyn PrekeyStore {
        self
    }

    fn secrets(&self) -> &dyn SecretStore {
        self
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        self.db
            .read(|connection| {
                // One transaction, so that the lists are of one moment.
                let tx = connection.unchecked_transaction().map_err(sql)?;
                Ok(Snapshot {
                    organizations: load::organizations(&tx, None)?,
                    links: load::links(&tx, &Which::All)?,
                    ..load::people(&tx, &Which::All)?
                })
            })
            .await
    }

    async fn load_part(&self, part: Part) -> Result<Snapshot, StoreError> {
        self.db
            .read(move |connection| {
                let tx = connection.unchecked_transaction().map_err(sql)?;
                match part {
                    Part::Organization(org) => Ok(Snapshot {
                        organizations: load::organizations(&tx, Some(org))?,
                        ..Snapshot::default()
                    }),
                    Part::Principal(org, name) => load::people(&tx, &Which::one(org, &name)),
                    Part::Link(org, id) => Ok(Snapshot {
                        links: load::links(&tx, &Which::one(org, &id))?,
                        ..Snapshot::default()
                    }),
                }
            })
            .await
    }

    async fn insert_organization(
        &self,
        organization: StoredOrganization,
        owner: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let (org, wrapping) = (organization.organization.id, &organization.wrapping);
        self.open_wrapping(org, wrapping.clone()).await?;
        self.db
            .write(move |tx| {
                admit_commit(tx, &commit)?;
                let StoredOrganization {
                    organization,
                    owner: founder,
                    keys: organization_keys,
                    wrapping,
                    former_issuers: _,
                    former_log_keys: _,
                } = organization;
                let added = tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO organizations (id, name, created_at, owner)
                         VALUES (?1, ?2, ?3, ?4)",
                    )
                    .and_then(|mut s| {
                        s.execute(params![
                            organization.id.to_string(),
                            organization.name,
                            organization.created_at.to_string(),
                            founder.as_str(),
                        ])
                    })
                    .map_err(sql)?;
                one(added, "organization")?;
                let org = organization.id.to_string();
                algorithms::founded_under(tx, &org)?;
                for key in &wrapping {
                    keys::add_wrapping_key(tx, &org, key)?;
                }
                for (purpose, key) in &organization_keys {
                    keys::key_may_be_stored(tx, &org, key)?;
                    tx.prepare_cached(
                        "INSERT INTO organization_keys (org, purpose, public, private)
                         VALUES (?1, ?2, ?3, ?4)",
                    )
                    .map_err(sql)?
                    .execute(params![
                        organization.id.to_string(),
                        purpose.as_str(),
                        json(&key.public)?,
                        json(&key.wrapped)?,
                    ])
                    .map_err(sql)?;
                }
                add_principal(tx, &owner)?;
                // Its records are sealed under its own wrapping key.
                record_commit(tx, &commit)
            })
            .await
    }

    async fn insert_principal(
        &self,
        principal: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                add_to_organization(tx, &principal)?;
                Ok(receipt)
            })
            .await
    }

    async fn insert_human(
        &self,
        human: StoredPrincipal,
        role: StoredRole,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                add_to_organization(tx, &human)?;
                put_role(tx, &role)?;
                Ok(receipt)
            })
            .await
    }

    async fn set_role(&self, role: StoredRole, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let known = exists(
                    tx,
                    "SELECT 1 FROM principals WHERE org = ?1 AND name = ?2 AND kind = 'human'",
                    params![role.org.to_string(), role.human.as_str()],
                )?;
                found(known, "human")?;
                put_role(tx, &role)?;
                Ok(receipt)
            })
            .await
    }

    async fn insert_link(&self, signed: SignedLink, commit: Commit) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let link = &signed.link;
                let org = link.org.to_string();
                for name in [&link.delegator, &link.delegatee] {
                    known_principal(tx, &org, name)?;
                }
                may_hold(tx, &org, link)?;
                let added = tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO delegations
                             (org, id, delegator, delegatee, parent, signed, key_version)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )
                    .map_err(sql)?
                    .execute(params![
                        org,
                        link.id.to_string(),
                        link.delegator.as_str(),
                        link.delegatee.as_str(),
                        link.parent.map(|id| id.to_string()),
                        json(&signed)?,
                        link.key_version.get(),
                    ])
                    .map_err(sql)?;
                one(added, "delegation")?;
                Ok(receipt)
            })
            .await
    }

    async fn revoke_link(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = org.to_string();
                if is_revoked(tx, &org, link)? {
                    return Err(StoreError::Conflict { what: "delegation" });
                }
                tx.prepare_cached(
                    "UPDATE delegations SET revoked_at = ?3 WHERE org = ?1 AND id = ?2",
                )
                .and_then(|mut s| s.execute(params![org, link.to_string(), at.to_string()]))
                .map_err(sql)?;
                Ok(receipt)
            })
            .await
    }

    async fn insert_suspension(
        &self,
        suspension: StoredSuspension,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = suspension.org.to_string();
                known_principal(tx, &org, &suspension.principal)?;
                principals::not_expelled(tx, &org, &suspension.principal)?;
                let added = tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO suspensions (org, principal, since)
                         VALUES (?1, ?2, ?3)",
                    )
                    .map_err(sql)?
                    .execute(params![
                        org,
                        suspension.principal.as_str(),
                        suspension.since.to_string(),
                    ])
                    .map_err(sql)?;
                one(added, "suspension")?;
                Ok(receipt)
            })
            .await
    }

    async fn end_suspension(
        &self,
        org: OrgId,
        principal: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = org.to_string();
                known_principal(tx, &org, &principal)?;
                principals::not_expelled(tx, &org, &principal)?;
                // What is kept of it goes by its name: what it did anew would go as well.
                let going = exists(
                    tx,
                    "SELECT 1 FROM erasures WHERE org = ?1 AND person = ?2",
                    params![org, principal.as_str()],
                )?;
                if going {
                    return Err(StoreError::Conflict { what: "erasure" });
                }
                let ended = tx
                    .prepare_cached("DELETE FROM suspensions WHERE org = ?1 AND principal = ?2")
                    .and_then(|mut s| s.execute(params![org, principal.as_str()]))
                    .map_err(sql)?;
                one(ended, "suspension")?;
                Ok(receipt)
            })
            .await
    }

    async fn insert_expulsion(
        &self,
        expulsion: StoredExpulsion,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let work = move |tx: &Change<'_>| principals::expel(tx, &expulsion, &commit);
        self.db.write(work).await
    }

    async fn replace_key(
        &self,
        change: StoredKeyChange,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let work = move |tx: &Change<'_>| principal_keys::replace(tx, &change, &commit);
        self.db.write(work).await
    }

    async fn revoke_key(
        &self,
        revocation: StoredKeyRevocation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let work = move |tx: &Change<'_>| principal_keys::revoke(tx, &revocation, &commit);
        self.db.write(work).await
    }

    async fn add_statement(
        &self,
        org: OrgId,
        signer: PrincipalName,
        kid: String,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let work =
            move |tx: &Change<'_>| principal_keys::add_statement(tx, org, &signer, &kid, &commit);
        self.db.write(work).await
    }

    async fn insert_epoch(
        &self,
        epoch: StoredEpoch,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.db
            .write(move |tx| {
                let receipt = apply_commit(tx, &commit)?;
                let org = epoch.org.to_string();
                let known = exists(
                    tx,
                    "SELECT 1 FROM principals WHERE org = ?1 AND name = ?2 AND kind = 'human'",
                    params![org, epoch.human.as_str()],
                )?;
                found(known, "human")?;
                let added = tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO credential_epochs (org, human, epoch, since)
                         VALUES (?1, ?2, ?3, ?4)",
                    )
                    .map_err(sql)?
                    .execute(params![
                        org,
                        epoch.human.as_str(),
                        epoch.epoch.to_string(),
                        epoch.since.to_string(),
                    ])
                    .map_err(sql)?;
                one(added, "epoch")?;
                Ok(receipt)
            })
            .await
    }

    async fn rotate_keys(
        &self,
        rotation: StoredRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let wrapping = vec![rotation.wrapping.clone()];
        self.open_wrapping(rotation.org, wrapping).await?;
        let work = move |tx: &Change<'_>| keys::rotate(tx, &rotation, &commit);
        self.db.write(work).await
    }

    async fn subject_keys(&self, org: OrgId) -> Result<Vec<(SubjectId, WrappedKey)>, StoreError> {
        self.db
            .read(move |connection| keys::subject_keys(connection, org))
            .await
    }

    async fn rewrap_keys(&self, org: OrgId, keys: Vec<Rewrapped>) -> Result<(), StoreError> {
        let work = move |tx: &Change<'_>| keys::rewrap(tx, org, &keys);
        self.db.write(work).await
    }

    async fn retire_keys(
        &self,
        org: OrgId,
        before_version: u32,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let work = move |tx: &Change<'_>| keys::retire(tx, org, before_version, &commit);
        let retired = self.db.write(work).await;
        // It may be on the disk all the same; one that is needed again is opened again.
        if matches!(retired, Ok(_) | Err(StoreError::Unavailable(_))) {
            self.db.subjects().retire_before(org, before_version);
        }
        retired
    }

    async fn rotate_log_keys(
        &self,
        rotation: StoredLogRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let work = move |tx: &Change<'_>| keys::rotate_log(tx, &rotation, &commit);
        self.db.write(work).await
    }

    async fn retire_log_keys(&self, org: OrgId, commit: Commit) -> Result<Receipt, StoreError> {
        let work = move |tx: &Change<'_>| keys::retire_log(tx, org, &commit);
        self.db.write(work).await
    }

    async fn replace_wrapping(
        &self,
        keys: Vec<(OrgId, WrappingKey)>,
        commits: Vec<Commit>,
    ) -> Result<(), StoreError> {
        let work = move |tx: &Change<'_>| keys::replace_wrapping(tx, &keys, &commits);
        self.db.write(work).await
    }
}

fn add_to_organization(tx: &Change<'_>, stored: &StoredPrincipal) -> Result<(), StoreError> {
    let org = stored.principal.org.to_string();
    let known = exists(tx, "SELECT 1 FROM organizations WHERE id = ?1", [&org])?;
    found(known, "organization")?;
    add_principal(tx, stored)
}

fn put_role(tx: &Transaction<'_>, row: &StoredRole) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO roles (org, human, role, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (org, human) DO UPDATE SET role = ?3, since = ?4",
    )
    .map_err(sql)?
    .execute(params![
        row.org.to_string(),
        row.human.as_str(),
        row.role.as_str(),
        row.since.to_string(),
    ])
    .map_err(sql)?;
    Ok(())
}

fn add_principal(tx: &Change<'_>, stored: &StoredPrincipal) -> Result<(), StoreError> {
    let StoredPrincipal { principal, key } = stored;
    let org = principal.org.to_string();
    keys::key_may_be_stored(tx, &org, key)?;
    let added = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO principals
                 (org, name, kind, spiffe_id, created_at, public, private)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .map_err(sql)?
        .execute(params![
            org,
            principal.name.as_str(),
            principal.kind.as_str(),
            principal.spiffe_id,
            principal.created_at.to_string(),
            json(&key.public)?,
            json(&key.wrapped)?,
        ])
        .map_err(sql)?;
    one(added, "principal")
}

/// Refuses a link below anything that ended meanwhile: a revoked link or a link of a
/// revoked key, at whatever height, or a suspended or revoked principal.
fn may_hold(tx: &Transaction<'_>, org: &str, link: &DelegationLink) -> Result<(), StoreError> {
    const ABOVE: &str = "
        WITH RECURSIVE above (id, delegator, parent, revoked_at, key_version) AS (
            SELECT id, delegator, parent, revoked_at, key_version FROM delegations
            WHERE org = ?1 AND id = ?2
            UNION ALL
            SELECT d.id, d.delegator, d.parent, d.revoked_at, d.key_version
            FROM above JOIN delegations AS d ON d.id = above.parent
        )";
    let parent = link.parent.map(|id| id.to_string());
    if let Some(parent) = &parent {
        let known = exists(
            tx,
            "SELECT 1 FROM delegations WHERE org = ?1 AND id = ?2",
            params![org, parent],
        )?;
        found(known, "delegation")?;
    }
    let revoked = exists(
        tx,
        &format!("{ABOVE} SELECT 1 FROM above WHERE revoked_at IS NOT NULL"),
        params![org, parent],
    )?;
    if revoked {
        return Err(StoreError::Conflict {
            what: "delegation above",
        });
    }
    let by_ended_key = exists(
        tx,
        &format!(
            "{ABOVE} SELECT 1 FROM key_revocations WHERE org = ?1 AND (
                 (principal = ?3 AND version = ?4)
                 OR (principal, version) IN (SELECT delegator, key_version FROM above)
             )"
        ),
        params![org, parent, link.delegator.as_str(), link.key_version.get()],
    )?;
    if by_ended_key {
        return Err(StoreError::Conflict { what: "key" });
    }
    for stopped in ["suspensions", "expulsions"] {
        let stopped = exists(
            tx,
            &format!(
                "{ABOVE} SELECT 1 FROM {stopped} WHERE org = ?1 AND (
                     principal IN (?3, ?4) OR principal IN (SELECT delegator FROM above)
                 )"
            ),
            params![
                org,
                parent,
                link.delegator.as_str(),
                link.delegatee.as_str()
            ],
        )?;
        if stopped {
            return Err(StoreError::Conflict { what: "principal" });
        }
    }
    Ok(())
}

pub(crate) fn known_principal(
    tx: &Transaction<'_>,
    org: &str,
    name: &PrincipalName,
) -> Result<(), StoreError> {
    let known = exists(
        tx,
        "SELECT 1 FROM principals WHERE org = ?1 AND name = ?2",
        params![org, name.as_str()],
    )?;
    found(known, "principal")
}

/// Whether the organization's link is revoked; `NotFound` when there is none.
pub(crate) fn is_revoked(
    tx: &Transaction<'_>,
    org: &str,
    link: LinkId,
) -> Result<bool, StoreError> {
    tx.prepare_cached("SELECT revoked_at IS NOT NULL FROM delegations WHERE org = ?1 AND id = ?2")
        .and_then(|mut s| {
            s.query_row(params![org, link.to_string()], |row| row.get(0))
                .optional()
        })
        .map_err(sql)?
        .ok_or(StoreError::NotFound { what: "delegation" })
}

pub(crate) fn exists<P: rusqlite::Params>(
    connection: &Connection,
    query: &str,
    params: P,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(query)
        .and_then(|mut s| s.exists(params))
        .map_err(sql)
}

pub(crate) fn found(known: bool, what: &'static str) -> Result<(), StoreError> {
    known.then_some(()).ok_or(StoreError::NotFound { what })
}

/// An insert that ignored its row met one that was there.
pub(crate) fn one(added: usize, what: &'static str) -> Result<(), StoreError> {
    if added == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict { what })
    }
}

/// The key whose halves stand in this column and the next.
pub(crate) fn stored_key(row: &Row<'_>, column: usize) -> Result<StoredKey, StoreError> {
    let public: String = row.get(column).map_err(sql)?;
    let private: String = row.get(column + 1).map_err(sql)?;
    Ok(StoredKey {
        public: from_json("public key", &public)?,
        wrapped: from_json("wrapped key", &private)?,
    })
}

pub(crate) fn kind(row: &Row<'_>) -> Result<PrincipalType, StoreError> {
    let text: String = row.get(2).map_err(sql)?;
    [PrincipalType::Human, PrincipalType::Agent]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| corrupt("principal", "its kind is unknown"))
}

pub(crate) fn field<T: FromStr>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<T, StoreError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column).map_err(sql)?;
    parsed(what, &text)
}

pub(crate) fn parsed<T: FromStr>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| corrupt(what, error))
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt("value", error))
}

pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| unparsed(what, text, error))
}
