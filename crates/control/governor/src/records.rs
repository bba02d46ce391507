//! The bodies of records that are read back when evidence is verified.

use creto_crypto::sha256;
use creto_metering::{EventId, Invoice, InvoiceId, Settlement};
use creto_nhi::{LinkId, Organization, Principal};
use creto_types::{CanonicalError, Money, Period, PrincipalName, Timestamp, canonical_json};
use serde::{Deserialize, Serialize};

/// The kind of the record of a decision.
pub const ACTION_DECIDED: &str = "action.decided";

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
        }
    }
}
