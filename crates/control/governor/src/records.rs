//! The bodies of records that are read back when evidence is verified.

use creto_metering::{EventId, Settlement};
use creto_nhi::{LinkId, Organization, Principal};
use creto_types::{Money, PrincipalName, Timestamp};
use serde::{Deserialize, Serialize};

/// `organization.created`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationCreated {
    /// The organization.
    pub organization: Organization,
    /// Its human.
    pub owner: Principal,
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
        }
    }
}
