//! Identities as they are stored: all of them, or some.

use creto_nhi::{
    Organization, Principal, SignedLink, Snapshot, StoredEpoch, StoredLink, StoredOrganization,
    StoredPrincipal, StoredRole, StoredSuspension,
};
use creto_types::{OrgId, PrincipalName, StoreError, Timestamp};
use rusqlite::{Connection, params_from_iter};

use crate::database::{corrupt, sql};
use crate::keys;
use crate::nhi::{field, from_json, kind, parsed, stored_key};
use crate::principal_keys;
use crate::principals;

/// Which rows of a table are read.
pub(crate) enum Which {
    All,
    /// Of this organization, those that have this name, or id, where the table has one.
    One(String, String),
}

impl Which {
    pub(crate) fn one(org: OrgId, name: &dyn std::fmt::Display) -> Self {
        Self::One(org.to_string(), name.to_string())
    }

    /// The query for them, by the column that has the name.
    pub(crate) fn of(&self, select: &str, column: &str, order: &str) -> String {
        let clause = match self {
            Self::All => String::new(),
            Self::One(..) => format!(" WHERE org = ?1 AND {column} = ?2"),
        };
        format!("{select}{clause} ORDER BY {order}")
    }

    pub(crate) fn params(&self) -> impl rusqlite::Params {
        let params = match self {
            Self::All => Vec::new(),
            Self::One(org, name) => vec![org.as_str(), name.as_str()],
        };
        params_from_iter(params)
    }
}

/// All that is stored of these principals.
pub(crate) fn people(connection: &Connection, which: &Which) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        organizations: Vec::new(),
        principals: principals(connection, which)?,
        links: Vec::new(),
        epochs: epochs(connection, which)?,
        suspensions: suspensions(connection, which)?,
        roles: roles(connection, which)?,
        expulsions: principals::load_expulsions(connection, which)?,
        former_keys: principal_keys::load_former(connection, which)?,
        key_revocations: principal_keys::load_revocations(connection, which)?,
    })
}

pub(crate) fn organizations(
    connection: &Connection,
    one: Option<OrgId>,
) -> Result<Vec<StoredOrganization>, StoreError> {
    let clause = if one.is_some() { "WHERE id = ?1" } else { "" };
    let text =
        format!("SELECT id, name, created_at, owner FROM organizations {clause} ORDER BY id");
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let one = params_from_iter(one.map(|org| org.to_string()));
    let rows = statement
        .query_map(one, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(sql)?;
    rows.into_iter()
        .map(|(id, name, created_at, owner): FoundedRow| {
            let mut keys = Vec::new();
            let mut statement = connection
                .prepare_cached(
                    "SELECT purpose, public, private FROM organization_keys
                     WHERE org = ?1 ORDER BY purpose",
                )
                .map_err(sql)?;
            let mut rows = statement.query([&id]).map_err(sql)?;
            while let Some(row) = rows.next().map_err(sql)? {
                let purpose: String = row.get(0).map_err(sql)?;
                let purpose = purpose
                    .parse()
                    .map_err(|e| corrupt("organization key", e))?;
                keys.push((purpose, stored_key(row, 1)?));
            }
            Ok(StoredOrganization {
                organization: Organization {
                    id: parsed("organization", &id)?,
                    name,
                    created_at: parsed("organization", &created_at)?,
                },
                owner: owner
                    .ok_or_else(|| corrupt("organization", "it has no owner"))
                    .and_then(|owner| parsed("organization", &owner))?,
                keys,
                wrapping: keys::load_wrapping_keys(connection, &id)?,
                former_issuers: keys::load_former_issuers(connection, &id)?,
                former_log_keys: keys::load_former_log_keys(connection, &id)?,
            })
        })
        .collect()
}

/// Id, name, instant and owner of an organization.
type FoundedRow = (String, String, String, Option<String>);

fn principals(connection: &Connection, which: &Which) -> Result<Vec<StoredPrincipal>, StoreError> {
    let text = which.of(
        "SELECT org, name, kind, spiffe_id, created_at, public, private FROM principals",
        "name",
        "org, name",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut principals = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let key = stored_key(row, 5)?;
        principals.push(StoredPrincipal {
            principal: Principal {
                org: field::<OrgId>(row, 0, "principal")?,
                name: field::<PrincipalName>(row, 1, "principal")?,
                kind: kind(row)?,
                spiffe_id: row.get(3).map_err(sql)?,
                created_at: field::<Timestamp>(row, 4, "principal")?,
                verifying_key: key.public.clone(),
            },
            key,
        });
    }
    Ok(principals)
}

pub(crate) fn links(connection: &Connection, which: &Which) -> Result<Vec<StoredLink>, StoreError> {
    let text = which.of(
        "SELECT org, id, signed, revoked_at FROM delegations",
        "id",
        "position",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let rows = statement
        .query_map(which.params(), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(sql)?;
    rows.into_iter()
        .map(
            |(org, id, signed, revoked_at): (String, String, String, Option<String>)| {
                let signed: SignedLink = from_json("delegation", &signed)?;
                if signed.link.org.to_string() != org || signed.link.id.to_string() != id {
                    return Err(corrupt("delegation", "its columns are of another link"));
                }
                let revoked_at = revoked_at.map(|at| parsed("delegation", &at)).transpose()?;
                Ok(StoredLink { signed, revoked_at })
            },
        )
        .collect()
}

fn epochs(connection: &Connection, which: &Which) -> Result<Vec<StoredEpoch>, StoreError> {
    let text = which.of(
        "SELECT org, human, epoch, since FROM credential_epochs",
        "human",
        "position",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut epochs = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        epochs.push(StoredEpoch {
            org: field(row, 0, "credential epoch")?,
            human: field(row, 1, "credential epoch")?,
            epoch: field(row, 2, "credential epoch")?,
            since: field(row, 3, "credential epoch")?,
        });
    }
    Ok(epochs)
}

fn suspensions(
    connection: &Connection,
    which: &Which,
) -> Result<Vec<StoredSuspension>, StoreError> {
    let text = which.of(
        "SELECT org, principal, since FROM suspensions",
        "principal",
        "org, principal",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut suspensions = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        suspensions.push(StoredSuspension {
            org: field(row, 0, "suspension")?,
            principal: field(row, 1, "suspension")?,
            since: field(row, 2, "suspension")?,
        });
    }
    Ok(suspensions)
}

fn roles(connection: &Connection, which: &Which) -> Result<Vec<StoredRole>, StoreError> {
    let text = which.of(
        "SELECT org, human, role, since FROM roles",
        "human",
        "org, human",
    );
    let mut statement = connection.prepare_cached(&text).map_err(sql)?;
    let mut rows = statement.query(which.params()).map_err(sql)?;
    let mut roles = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        roles.push(StoredRole {
            org: field(row, 0, "role")?,
            human: field(row, 1, "role")?,
            role: field(row, 2, "role")?,
            since: field(row, 3, "role")?,
        });
    }
    Ok(roles)
}
