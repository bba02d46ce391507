//! The bodies of records that are read back when evidence is verified.

use std::fmt;

use creto_crypto::{Thumbprint, VerifyingKey, sha256};
use creto_errors::Classify as _;
use creto_metering::{EventId, Invoice, InvoiceId, Settlement};
use creto_nhi::{
    AgentIdentity, EscalationError, InstanceName, IssuedToken, KeyVersion, LinkId, NhiError,
    Organization, PrekeyId, PrekeyKind, Principal, Role, TokenId,
};
use creto_types::{CanonicalError, Money, Period, PrincipalName, Timestamp, canonical_json};
use serde::{Deserialize, Serialize};

use crate::ReasonAnswer;
use crate::actions::check_name;
use crate::ordering::Event;

/// The kind of the record of a decision.
pub const ACTION_DECIDED: &str = "action.decided";

/// The kind of the record of a connection out of a sandbox.
pub const EGRESS_CHECKED: &str = "egress.checked";

/// The kind of the record of somebody else's event.
pub(crate) const EVENT_ORDERED: &str = "event.ordered";

/// The kind of the record of a new token.
pub(crate) const TOKEN_ISSUED: &str = "token.issued";

/// `egress.checked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EgressChecked {
    pub(crate) sandbox_id: String,
    pub(crate) protocol: String,
    /// The name, or the address when there was no name.
    pub(crate) destination: String,
    /// 0 when only the name was asked for.
    pub(crate) port: u16,
    pub(crate) outcome: Checked,
    /// Why it was refused.
    pub(crate) reason: Option<ReasonAnswer>,
    pub(crate) policy_ids: Vec<String>,
    /// Where connections count.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) charged: Option<Charged>,
}

/// What a connection took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charged {
    pub(crate) action: String,
    pub(crate) units: u64,
    pub(crate) cost: Option<Money>,
    pub(crate) overage: bool,
    pub(crate) delegations: Vec<LinkId>,
}

/// What a sandbox was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Checked {
    Allow,
    Refuse,
}

/// `token.issued`. Never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TokenIssued {
    token_id: TokenId,
    principal: PrincipalName,
    delegation: Option<LinkId>,
    expires_at: Timestamp,
    /// The instance of the agent that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<InstanceName>,
    /// The token that it was exchanged for.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanged_for: Option<TokenId>,
    /// The thumbprint of the key that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    jkt: Option<Thumbprint>,
}

impl TokenIssued {
    pub(crate) fn of(
        identity: &AgentIdentity,
        issued: &IssuedToken,
        exchanged_for: Option<TokenId>,
    ) -> Self {
        Self {
            token_id: issued.id,
            principal: identity.name.clone(),
            delegation: identity.link().map(|hop| hop.link.id),
            expires_at: issued.expires_at,
            instance: identity.instance().cloned(),
            exchanged_for,
            jkt: identity.confirmation(),
        }
    }
}

/// `event.ordered`: an event of somebody else's, who keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventOrdered {
    /// SHA-256 of the event, as 64 hexadecimal digits in lower case.
    pub(crate) sha256: String,
    /// What people know it by.
    pub(crate) label: String,
}

impl EventOrdered {
    pub(crate) fn of(event: &Event) -> Self {
        Self {
            sha256: hex::encode(event.sha256),
            label: event.label.clone(),
        }
    }

    /// Whether it could have been made by [`EventOrdered::of`] of an event that is ordered.
    pub(crate) fn check(&self) -> Result<(), String> {
        let digits = self.sha256.bytes();
        if self.sha256.len() != 64 || !digits.into_iter().all(|b| b"0123456789abcdef".contains(&b))
        {
            return Err("names no SHA-256 of an event".to_owned());
        }
        check_name("label", &self.label).map_err(|error| error.to_string())
    }
}

/// `organization.created`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationCreated {
    /// The organization.
    pub organization: Organization,
    /// Its human.
    pub owner: Principal,
}

/// `invoice.issued`. The invoice itself lies beside the log: it may be longer than
/// a leaf, and its digest binds every byte of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvoiceIssued {
    pub(crate) id: InvoiceId,
    pub(crate) number: u64,
    pub(crate) customer: PrincipalName,
    pub(crate) period: Period,
    pub(crate) total: Money,
    /// SHA-256 of the invoice's canonical JSON, without its leaf; hexadecimal.
    pub(crate) invoice_sha256: String,
}

impl InvoiceIssued {
    pub(crate) fn of(invoice: &Invoice) -> Result<Self, CanonicalError> {
        let unplaced = Invoice {
            leaf: None,
            ..invoice.clone()
        };
        Ok(Self {
            id: invoice.id,
            number: invoice.number,
            customer: invoice.customer.clone(),
            period: invoice.period,
            total: invoice.total,
            invoice_sha256: hex::encode(sha256(&canonical_json(&unplaced)?)),
        })
    }
}

/// `usage.settled`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageSettled {
    pub(crate) event_id: EventId,
    pub(crate) customer: PrincipalName,
    pub(crate) agent: PrincipalName,
    pub(crate) action: String,
    pub(crate) units: u64,
    pub(crate) unit_price: Money,
    pub(crate) cost: Money,
    pub(crate) delegations: Vec<LinkId>,
    pub(crate) settled_at: Timestamp,
    /// Whether some of it lies beyond a limit that lets more pass.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) overage: bool,
    /// Whether nobody settled it in time, so that all of it counts.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) expired: bool,
}

impl From<&Settlement> for UsageSettled {
    fn from(settlement: &Settlement) -> Self {
        Self {
            event_id: settlement.event_id,
            customer: settlement.customer.clone(),
            agent: settlement.agent.clone(),
            action: settlement.action.clone(),
            units: settlement.units,
            unit_price: settlement.unit_price,
            cost: settlement.cost,
            delegations: settlement.hops.clone(),
            settled_at: settlement.settled_at,
            overage: settlement.overage,
            expired: false,
        }
    }
}

/// What policies an organization was to be served before a record's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PoliciesBefore {
    /// The configured directory.
    Directory {
        /// SHA-256 of the bundle, in hexadecimal.
        digest: String,
    },
    /// A published version.
    Published {
        /// Which.
        version: u64,
        /// SHA-256 of the bundle, in hexadecimal.
        digest: String,
    },
}

impl fmt::Display for PoliciesBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { digest } => write!(f, "the directory with digest {digest}"),
            Self::Published { version, digest } => {
                write!(f, "version {version} with digest {digest}")
            }
        }
    }
}

/// `policy.published`, `policy.rolled_back`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyPublished {
    pub(crate) version: u64,
    pub(crate) digest: String,
    pub(crate) author: PrincipalName,
    pub(crate) reason: String,
    pub(crate) restores: Option<u64>,
    pub(crate) previous: Option<PoliciesBefore>,
}

/// `policy.reloaded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyReloaded {
    pub(crate) digest: String,
    /// Their names.
    pub(crate) files: Vec<String>,
    /// Absent when nobody asked for it.
    pub(crate) reason: Option<String>,
    pub(crate) previous: Option<PoliciesBefore>,
}

/// `delegation.refused`. Who asked is the record's actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelegationRefused {
    /// To whom.
    pub(crate) delegatee: PrincipalName,
    /// From which link; absent in person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) parent: Option<LinkId>,
    /// The code of the refusal.
    pub(crate) code: String,
    /// What was too much, when the link asked for more than the one above it holds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) asked: Option<String>,
    /// What that one holds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) held: Option<String>,
}

/// The longest text in a record of a refusal, in characters: a list of rights is as
/// long as its giver likes, a leaf is not.
const MAX_REFUSED_TEXT: usize = 1_024;

impl DelegationRefused {
    /// The record of this refusal.
    pub(crate) fn of(
        delegatee: PrincipalName,
        parent: Option<LinkId>,
        error: &crate::GovernError,
    ) -> Self {
        let (asked, held) = match error {
            crate::GovernError::Nhi(NhiError::Escalation(error)) => {
                let (asked, held) = measures(error);
                let shortened = |text: String| text.chars().take(MAX_REFUSED_TEXT).collect();
                (Some(shortened(asked)), Some(shortened(held)))
            }
            _ => (None, None),
        };
        Self {
            delegatee,
            parent,
            code: error.code().to_owned(),
            asked,
            held,
        }
    }
}

/// What was asked, and what is held.
fn measures(error: &EscalationError) -> (String, String) {
    match error {
        EscalationError::Rights { right, held, .. } => (right.to_string(), held.clone()),
        EscalationError::OutlivesParent {
            expires_at,
            parent_expires_at,
            ..
        } => (expires_at.to_string(), parent_expires_at.to_string()),
        EscalationError::PrecedesParent {
            not_before,
            parent_not_before,
            ..
        } => (not_before.to_string(), parent_not_before.to_string()),
        EscalationError::Depth { requested, allowed } => {
            let allowed = allowed.map_or_else(|| "none".to_owned(), |depth| depth.to_string());
            (requested.to_string(), allowed)
        }
        EscalationError::Budget {
            requested, held, ..
        } => (requested.to_string(), held.to_string()),
    }
}

/// A person has this role from here on: `role.set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleSet {
    /// Who.
    pub(crate) principal: PrincipalName,
    /// Which.
    pub(crate) role: Role,
    /// Why.
    pub(crate) reason: String,
}

/// Prekeys of an agent are there from here on: `prekeys.published`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrekeysPublished {
    /// Whose.
    pub(crate) owner: PrincipalName,
    /// The one of last resort, if it is another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) last_resort: Option<PrekeyId>,
    /// Those that serve once.
    pub(crate) one_time: Vec<PrekeyId>,
    /// Those that waited to serve once and end here: of an algorithm that is not read any
    /// more.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) withdrawn: Vec<PrekeyId>,
    /// The thumbprint of the owner's key that signed them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) kid: Option<String>,
    /// By which delegation; absent in the oldest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) delegation: Option<LinkId>,
}

/// Somebody, the record's actor, was given a prekey: `prekey.taken`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrekeyTaken {
    /// Whose it is.
    pub(crate) owner: PrincipalName,
    /// Which.
    pub(crate) id: PrekeyId,
    /// How often it serves.
    pub(crate) kind: PrekeyKind,
    /// By which delegation; absent in person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) delegation: Option<LinkId>,
}

/// A principal signs with this key from here on: `principal.key_rotated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrincipalKeyRotated {
    /// Who.
    pub(crate) principal: PrincipalName,
    /// Its version: one more than that of the key before.
    pub(crate) version: KeyVersion,
    /// The key.
    pub(crate) key: VerifyingKey,
    /// Why.
    pub(crate) reason: String,
}

/// Nothing that this key signed holds from here on: `principal.key_revoked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrincipalKeyRevoked {
    /// Whose.
    pub(crate) principal: PrincipalName,
    /// Which.
    pub(crate) version: KeyVersion,
    /// Its thumbprint.
    pub(crate) kid: String,
    /// Why.
    pub(crate) reason: String,
}
