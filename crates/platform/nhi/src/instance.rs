//! Instances of agents: which of its running copies acts.

use std::fmt;
use std::str::FromStr;

use creto_types::PrincipalName;
use serde::{Deserialize, Serialize};

use crate::{AgentIdentity, NhiError, PrincipalType};

/// The name of one instance of an agent, of the form of a principal's name: it is
/// the last segment of `spiffe://<trust domain>/org/<org>/agent/<name>/<instance>`.
///
/// Whoever may have a token of the agent chooses it; it gives no authority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceName(PrincipalName);

impl InstanceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InstanceName {
    type Err = NhiError;

    fn from_str(text: &str) -> Result<Self, NhiError> {
        text.parse().map(Self).map_err(|_| NhiError::Invalid {
            field: "instance",
            why: "must be 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, starting with a \
                  letter or digit"
                .to_owned(),
        })
    }
}

impl AgentIdentity {
    /// The same authority, exercised by this instance. What is bound to an instance
    /// is never another's, and a human has none.
    pub fn of_instance(&self, instance: InstanceName) -> Result<Self, NhiError> {
        if self.kind != PrincipalType::Agent {
            return Err(NhiError::Invalid {
                field: "instance",
                why: format!("is of an agent, and `{}` is a human", self.name),
            });
        }
        if let Some(bound) = self.instance().filter(|bound| **bound != instance) {
            return Err(NhiError::InstanceBound {
                bound: bound.clone(),
                asked: instance,
            });
        }
        Ok(self.with(|narrowed| narrowed.instance = Some(instance)))
    }

    /// The SPIFFE id of who acts: that of the instance, where one is named.
    #[must_use]
    pub fn acting_id(&self) -> String {
        let id = self.spiffe_id();
        match self.instance() {
            Some(instance) => instance_id(&id, instance),
            None => id,
        }
    }
}

/// The SPIFFE id of an agent's instance.
pub(crate) fn instance_id(agent: &str, instance: &InstanceName) -> String {
    format!("{agent}/{instance}")
}

/// The instance in a SPIFFE id that must be this agent's or one of its instances'.
pub(crate) fn instance_in(id: &str, agent: &str) -> Option<Option<InstanceName>> {
    match id.strip_prefix(agent)? {
        "" => Some(None),
        rest => Some(Some(rest.strip_prefix('/')?.parse().ok()?)),
    }
}
