//! What is asked and what is answered.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::held::HeldBy;
use crate::in_force::{Pinned, permitting};
use crate::ports::{Exceeded, Hold, TooFast};

/// Codes of denials. They are part of the public interface: agents and tests
/// read them.
pub mod deny {
    /// A link of the chain was revoked.
    pub const DELEGATION_REVOKED: &str = "delegation_revoked";
    /// The key that signed a link was revoked.
    pub const DELEGATION_KEY_REVOKED: &str = "delegation_key_revoked";
    /// Somebody in the chain was revoked.
    pub const PRINCIPAL_REVOKED: &str = "principal_revoked";
    /// Somebody in the chain is suspended.
    pub const PRINCIPAL_SUSPENDED: &str = "principal_suspended";
    /// The token was superseded.
    pub const TOKEN_SUPERSEDED: &str = "token_superseded";
    /// The key that signed the token was retired.
    pub const INVALID_TOKEN: &str = "invalid_token";
    /// A link of the chain has expired.
    pub const DELEGATION_EXPIRED: &str = "delegation_expired";
    /// A link of the chain is not valid yet.
    pub const DELEGATION_NOT_YET_VALID: &str = "delegation_not_yet_valid";
    /// The links of the chain do not join up, or cross organizations.
    pub const CHAIN_BROKEN: &str = "chain_broken";
    /// An agent without a delegation has no authority at all.
    pub const NO_DELEGATION: &str = "no_delegation";
    /// A link of the chain does not cover the action on this resource.
    pub const RIGHT_NOT_DELEGATED: &str = "right_not_delegated";
    /// The organization has no policies.
    pub const NO_POLICIES: &str = "no_policies";
    /// The schema does not know the action.
    pub const UNKNOWN_ACTION: &str = "unknown_action";
    /// The request does not fit the schema: resource type or context.
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// A policy forbids it.
    pub const POLICY_FORBIDS: &str = "policy_forbids";
    /// No policy permits it.
    pub const NO_POLICY_PERMITS: &str = "no_policy_permits";
    /// A policy could not be evaluated.
    pub const POLICY_ERROR: &str = "policy_error";
    /// A budget of the chain is in another currency than the prices.
    pub const BUDGET_CURRENCY: &str = "budget_currency";
    /// Policies ask for different approvals of one action.
    pub const OVERSIGHT_CONFLICT: &str = "oversight_conflict";
    /// The amount, or what a limit holds, is beyond what can be counted exactly.
    pub const AMOUNT_OUT_OF_RANGE: &str = "amount_out_of_range";

    /// All of them.
    pub const ALL: [&str; 20] = [
        DELEGATION_REVOKED,
        DELEGATION_KEY_REVOKED,
        PRINCIPAL_REVOKED,
        PRINCIPAL_SUSPENDED,
        TOKEN_SUPERSEDED,
        INVALID_TOKEN,
        DELEGATION_EXPIRED,
        DELEGATION_NOT_YET_VALID,
        CHAIN_BROKEN,
        NO_DELEGATION,
        RIGHT_NOT_DELEGATED,
        NO_POLICIES,
        UNKNOWN_ACTION,
        INVALID_REQUEST,
        POLICY_FORBIDS,
        NO_POLICY_PERMITS,
        POLICY_ERROR,
        BUDGET_CURRENCY,
        OVERSIGHT_CONFLICT,
        AMOUNT_OUT_OF_RANGE,
    ];
}

/// The name of a policy: its `@id` annotation, or `policyN` by its position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct PolicyId(Arc<str>);

impl PolicyId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PolicyId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for PolicyId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<PolicyId> for String {
    fn from(id: PolicyId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for PolicyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an action is done to: an entity type of the schema and an id.
///
/// The rights of delegation links are matched against the id alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRef {
    /// The entity type, for example `Creto::Resource`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id, for example `repo:changelog`.
    pub id: String,
}

impl ResourceRef {
    /// The entity type of anything that needs no type of its own.
    pub const RESOURCE: &'static str = "Creto::Resource";
    /// The entity type of network destinations.
    pub const HOST: &'static str = "Creto::Host";

    /// A resource of the given entity type.
    #[must_use]
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
        }
    }

    /// A `Creto::Resource`.
    #[must_use]
    pub fn resource(id: impl Into<String>) -> Self {
        Self::new(Self::RESOURCE, id)
    }

    /// A `Creto::Host`.
    #[must_use]
    pub fn host(name: impl Into<String>) -> Self {
        Self::new(Self::HOST, name)
    }
}

/// One value of a request's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextValue<'a> {
    /// Cedar `Bool`.
    Bool(bool),
    /// Cedar `Long`.
    Long(i64),
    /// Cedar `String`.
    Text(&'a str),
    /// Cedar `Set<String>`.
    Texts(&'a [&'a str]),
}

/// A human approved the action that these policies hold back.
///
/// Whoever was asked saw these policies and no others, so an approval lifts these
/// and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Given. It lifts what these policies said then, so not a policy that took the name
    /// since.
    Given {
        /// As the decision [`Decision::RequiresOversight`] named it, unchanged.
        held_by: HeldBy,
        /// The kind of approval that was asked for.
        oversight: String,
    },
    /// Taken for given, to ask what would be.
    Supposed {
        /// It lifts the policies of these names, joined by `+`, whatever they say.
        policies: PolicyId,
        /// Only those that ask for this kind of approval, where it is known.
        oversight: Option<String>,
    },
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct CheckRequest<'a> {
    /// The action, of the schema's namespace `Creto`.
    pub action: &'a Action,
    /// What it is done to.
    pub resource: &'a ResourceRef,
    /// How many units it is expected to use; priced and reserved by the quota.
    pub units: u64,
    /// Whether an allow reserves them. Otherwise the check is a pure question, and
    /// budgets and rates are not asked.
    pub reserve: bool,
    /// Values of the request's context. The names `oversight` and `units` are the
    /// engine's.
    pub context: &'a [(&'a str, ContextValue<'a>)],
    /// The approval that came with the request, already checked against the
    /// digest of this very action by the caller.
    pub approval: Option<&'a Approval>,
}

/// The policies that decided, sorted.
pub struct PolicyIds(Listed);

enum Listed {
    Owned(Arc<[PolicyId]>),
    /// A number of the set in force; naming them so costs no shared counter.
    Pinned(Pinned, u32),
}

impl PolicyIds {
    pub(crate) const fn pinned(in_force: Pinned, number: u32) -> Self {
        Self(Listed::Pinned(in_force, number))
    }
}

impl Clone for PolicyIds {
    fn clone(&self) -> Self {
        Self(Listed::Owned(match &self.0 {
            Listed::Owned(ids) => Arc::clone(ids),
            Listed::Pinned(in_force, number) => permitting(in_force, *number).into(),
        }))
    }
}

impl Deref for PolicyIds {
    type Target = [PolicyId];

    fn deref(&self) -> &[PolicyId] {
        match &self.0 {
            Listed::Owned(ids) => ids,
            Listed::Pinned(in_force, number) => permitting(in_force, *number),
        }
    }
}

impl From<Vec<PolicyId>> for PolicyIds {
    fn from(ids: Vec<PolicyId>) -> Self {
        Self(Listed::Owned(ids.into()))
    }
}

impl From<Arc<[PolicyId]>> for PolicyIds {
    fn from(ids: Arc<[PolicyId]>) -> Self {
        Self(Listed::Owned(ids))
    }
}

impl<'a> IntoIterator for &'a PolicyIds {
    type Item = &'a PolicyId;
    type IntoIter = std::slice::Iter<'a, PolicyId>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for PolicyIds {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for PolicyIds {}

impl fmt::Debug for PolicyIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyReason {
    /// One of [`deny`]; where the action itself is refused before it is judged, a code
    /// of what refused it.
    pub code: &'static str,
    /// One sentence for whoever asked.
    pub text: String,
}

/// The five outcomes. `policies` names the determining policies.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// It may.
    Allow {
        /// The policies that permit it.
        policies: PolicyIds,
        /// What was reserved for it; `None` for a pure question.
        hold: Option<Hold>,
    },
    /// It may not.
    Deny {
        /// Why.
        reason: DenyReason,
        /// The policies that forbid it, when it was they.
        policies: PolicyIds,
    },
    /// It may once a human approves. Nothing was reserved.
    RequiresOversight {
        /// What an approval is bound to.
        held_by: HeldBy,
        /// The value of the `@oversight` annotation, which all of them share.
        oversight: String,
        /// All policies that hold it back.
        policies: PolicyIds,
    },
    /// A limit of the chain does not suffice. Nothing was reserved.
    QuotaExceeded {
        /// The limit.
        exceeded: Box<Exceeded>,
        /// The policies that permit the action itself.
        policies: PolicyIds,
    },
    /// Too many calls. Nothing was reserved.
    RateLimited {
        /// The rate.
        too_fast: Box<TooFast>,
        /// The policies that permit the action itself.
        policies: PolicyIds,
    },
}

impl Decision {
    /// The outcome's name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Deny { .. } => "deny",
            Self::RequiresOversight { .. } => "requires_oversight",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::RateLimited { .. } => "rate_limited",
        }
    }

    /// Whether the action may be done now.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}
