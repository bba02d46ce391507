//! Requests and their states. No I/O, no clock: each transition consumes the
//! old state and is told the time.

use std::fmt;
use std::str::FromStr;

use creto_errors::{Class, Classify};
use creto_types::{ActionId, Id, IdKind, LeafIndex, Money, OrgId, PrincipalName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{ActionDigest, Grant, HeldAction, OversightError};

/// The kind of [`RequestId`].
#[derive(Debug)]
pub enum RequestKind {}

impl IdKind for RequestKind {
    const PREFIX: &'static str = "ovr";
}

/// One oversight request.
pub type RequestId = Id<RequestKind>;

/// The most characters of a reason.
const REASON_LIMIT: usize = 1_000;

/// What the approver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may happen, once.
    Approve,
    /// It may not.
    Deny,
}

/// Where a request is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided.
    Pending,
    /// A human said yes.
    Approved {
        /// Who.
        by: PrincipalName,
        /// When.
        at: Timestamp,
        /// What the approver wrote.
        reason: Option<String>,
        /// Opens the action, once.
        grant: Grant,
        /// The first instant at which the grant is refused.
        grant_expires_at: Timestamp,
    },
    /// A human said no.
    Denied {
        /// Who.
        by: PrincipalName,
        /// When.
        at: Timestamp,
        /// What the approver wrote.
        reason: Option<String>,
    },
    /// Nobody decided in time.
    Expired {
        /// When that was established.
        at: Timestamp,
    },
}

/// The name of a state, as lists are filtered by it and callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Waits for a human.
    Pending,
    /// Approved, and the grant is not used yet.
    Approved,
    /// Approved, and the grant is used up.
    Used,
    /// Denied.
    Denied,
    /// Not decided in time.
    Expired,
}

impl StateName {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Used => "used",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a state: `pending`, `approved`, `used`, `denied` or `expired` is expected"
)]
pub struct UnknownState {
    text: String,
}

impl Classify for UnknownState {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "oversight_unknown_state"
    }
}

impl FromStr for StateName {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pending" => Ok(Self::Pending),
            "approved" => Ok(Self::Approved),
            "used" => Ok(Self::Used),
            "denied" => Ok(Self::Denied),
            "expired" => Ok(Self::Expired),
            other => Err(UnknownState {
                text: other.chars().take(40).collect(),
            }),
        }
    }
}

/// What a new request is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRequest {
    /// The governed action that is held.
    pub action_id: ActionId,
    /// What is held, exactly.
    pub held: HeldAction,
    /// The delegation it is asked under.
    pub link: Option<String>,
    /// From the owner down to the agent.
    pub chain: Vec<PrincipalName>,
    /// What it would cost.
    pub cost: Option<Money>,
    /// What the agent spent so far under its delegation.
    pub spent: Option<Money>,
    /// The policy's `@oversight` annotation: which kind of human is asked.
    pub oversight: String,
}

/// An action waits for a human, or was decided by one.
#[derive(Clone, Debug, PartialEq)]
pub struct OversightRequest {
    /// The request.
    pub id: RequestId,
    /// The organization.
    pub org: OrgId,
    /// The governed action that is held.
    pub action_id: ActionId,
    /// What is held, exactly.
    pub held: HeldAction,
    /// The digest of `held`.
    pub digest: ActionDigest,
    /// The delegation it is asked under.
    pub link: Option<String>,
    /// From the owner down to the agent.
    pub chain: Vec<PrincipalName>,
    /// What it would cost.
    pub cost: Option<Money>,
    /// What the agent had spent under its delegation when it asked.
    pub spent: Option<Money>,
    /// The policy's `@oversight` annotation.
    pub oversight: String,
    /// When it was asked.
    pub created_at: Timestamp,
    /// The first instant at which it is too late to decide.
    pub expires_at: Timestamp,
    /// Where it is in its life.
    pub state: State,
    /// Whether the grant is used up; read from the claims, never written here.
    pub used: bool,
    /// Where the newest change lies in the log; written by the store.
    pub leaf: Option<LeafIndex>,
}

impl OversightRequest {
    /// The name of its state.
    #[must_use]
    pub const fn state_name(&self) -> StateName {
        match &self.state {
            State::Pending => StateName::Pending,
            State::Approved { .. } if self.used => StateName::Used,
            State::Approved { .. } => StateName::Approved,
            State::Denied { .. } => StateName::Denied,
            State::Expired { .. } => StateName::Expired,
        }
    }

    /// The grant, once approved.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        match &self.state {
            State::Approved { grant, .. } => Some(grant),
            State::Pending | State::Denied { .. } | State::Expired { .. } => None,
        }
    }

    /// Whether it waits for nobody any more because its time is over, although
    /// that has not been recorded yet.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == State::Pending && self.expires_at <= now
    }

    /// The request as it is to be shown at this time: one that is due is expired
    /// to everybody, recorded or not.
    #[must_use]
    pub fn shown_at(mut self, now: Timestamp) -> Self {
        if self.is_due(now) {
            self.state = State::Expired {
                at: self.expires_at,
            };
        }
        self
    }

    /// Yes.
    pub fn approve(
        self,
        by: PrincipalName,
        at: Timestamp,
        reason: Option<String>,
        grant: Grant,
        grant_expires_at: Timestamp,
    ) -> Result<Self, OversightError> {
        self.check_decidable(&by, at, reason.as_deref())?;
        Ok(self.with(State::Approved {
            by,
            at,
            reason,
            grant,
            grant_expires_at,
        }))
    }

    /// No.
    pub fn deny(
        self,
        by: PrincipalName,
        at: Timestamp,
        reason: Option<String>,
    ) -> Result<Self, OversightError> {
        self.check_decidable(&by, at, reason.as_deref())?;
        Ok(self.with(State::Denied { by, at, reason }))
    }

    /// Nobody said anything in time.
    pub fn expire(self, at: Timestamp) -> Result<Self, OversightError> {
        self.check_pending()?;
        if at < self.expires_at {
            return Err(OversightError::NotDue {
                id: self.id,
                expires_at: self.expires_at,
            });
        }
        Ok(self.with(State::Expired { at }))
    }

    fn with(self, state: State) -> Self {
        Self { state, ..self }
    }

    fn check_pending(&self) -> Result<(), OversightError> {
        match &self.state {
            State::Pending => Ok(()),
            State::Expired { at } => Err(OversightError::Expired {
                id: self.id,
                at: *at,
            }),
            State::Approved { .. } | State::Denied { .. } => Err(OversightError::AlreadyDecided {
                id: self.id,
                state: self.state_name(),
            }),
        }
    }

    fn check_decidable(
        &self,
        by: &PrincipalName,
        at: Timestamp,
        reason: Option<&str>,
    ) -> Result<(), OversightError> {
        self.check_pending()?;
        if self.is_due(at) {
            return Err(OversightError::Expired {
                id: self.id,
                at: self.expires_at,
            });
        }
        if *by == self.held.agent {
            return Err(OversightError::SelfDecision {
                id: self.id,
                agent: by.clone(),
            });
        }
        let length = reason.map_or(0, |text| text.chars().count());
        if length > REASON_LIMIT {
            return Err(OversightError::ReasonTooLong {
                limit: REASON_LIMIT,
                length,
            });
        }
        Ok(())
    }
}

/// Which requests a list holds; an absent part matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this agent.
    pub agent: Option<PrincipalName>,
    /// In this state, as shown at the time of the query.
    pub state: Option<StateName>,
}

impl Filter {
    /// Whether a request, as shown now, belongs in the list.
    #[must_use]
    pub fn matches(&self, shown: &OversightRequest) -> bool {
        self.agent
            .as_ref()
            .is_none_or(|agent| *agent == shown.held.agent)
            && self.state.is_none_or(|state| state == shown.state_name())
    }
}
