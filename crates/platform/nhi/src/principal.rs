//! Organizations, principals and their SPIFFE ids.

use std::fmt;
use std::str::FromStr;

use creto_crypto::VerifyingKey;
use creto_types::{OrgId, PrincipalName, Timestamp};
use serde::{Deserialize, Serialize};

/// A person or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalType {
    /// A person: the only kind of principal that authority starts from.
    Human,
    /// A program: may do what was delegated to it and nothing else.
    Agent,
}

impl PrincipalType {
    /// The name on the wire and in the SPIFFE id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for PrincipalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person of an organization is there for. Which calls a role allows is not
/// said here: this crate keeps and tells roles, it decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, other people and invoices included.
    Owner,
    /// Keeps agents running within bounds.
    Operator,
    /// Reads everything and changes nothing.
    Auditor,
    /// Decides what waits for a human.
    Approver,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Operator, Self::Auditor, Self::Approver];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Approver => "approver",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or(UnknownRole)
    }
}

/// A text that names no [`Role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`owner`, `operator`, `auditor` or `approver` is expected")]
pub struct UnknownRole;

/// The unit of isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    /// Its id, which is in every id, token and log of it.
    pub id: OrgId,
    /// What people call it.
    pub name: String,
    /// When it was founded.
    pub created_at: Timestamp,
}

/// Someone who can hold authority in one organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Whose principal.
    pub org: OrgId,
    /// Unique in the organization.
    pub name: PrincipalName,
    /// Person or program.
    pub kind: PrincipalType,
    /// `spiffe://<trust domain>/org/<org>/<kind>/<name>`.
    pub spiffe_id: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// Checks the delegation links it signed.
    pub verifying_key: VerifyingKey,
}

/// The longest SPIFFE trust domain (SPIFFE-ID, section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;

/// Whether the text is a trust domain: lower-case letters, digits, `.`, `-` and
/// `_` (SPIFFE-ID, section 2.1).
pub(crate) fn is_trust_domain(text: &str) -> bool {
    (1..=MAX_TRUST_DOMAIN).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_')
        })
}

/// The SPIFFE id of an organization; also the issuer of its tokens.
pub(crate) fn organization_id(trust_domain: &str, org: OrgId) -> String {
    format!("spiffe://{trust_domain}/org/{org}")
}

/// The SPIFFE id of a principal.
pub(crate) fn spiffe_id(
    trust_domain: &str,
    org: OrgId,
    kind: PrincipalType,
    name: &PrincipalName,
) -> String {
    principal_id(&organization_id(trust_domain, org), kind, name)
}

/// The same, of an organization by its own.
pub(crate) fn principal_id(
    organization: &str,
    kind: PrincipalType,
    name: &PrincipalName,
) -> String {
    format!("{organization}/{kind}/{name}")
}
