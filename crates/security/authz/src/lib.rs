//! May this agent do this, now?
//!
//! [`Authz::check`] answers with one of five outcomes ([`Decision`]) and keeps
//! these promises:
//!
//! - **Synchronous and in process.** No call leaves the process, nothing is
//!   awaited. Who asks was authenticated before and arrives as a [`Bound`]
//!   handle.
//! - **Authority only shrinks.** An agent may do what each delegation link of
//!   its chain covers and what policy permits to the agent *and* to every
//!   principal above it.
//! - **Exact.** Once [`Authz::publish`] returns, no call that starts later sees
//!   the old policies. Once whatever ends authority (a revocation, a suspension)
//!   returns, no call that starts later is allowed. What rights and policies say is
//!   remembered; approvals, quotas, rates and errors never are (`cache.rs`).
//! - **Fails closed.** A policy that cannot be evaluated, a request that does
//!   not fit the schema, an organization without policies, a quota that cannot
//!   answer: each is a denial with a code of its own ([`deny`]).
//! - **Isolated.** Policies, schema and entities of one organization are never
//!   seen by a check of another.
//!
//! Quota and rate are reserved as the last step, through the [`Quota`] port that
//! `creto-metering` implements, so a denied request reserves nothing.
//!
//! Policies are Cedar text, validated strictly against a schema when they are
//! loaded; `docs/policies.md` is their manual. What a human must approve is a
//! `forbid` policy with an `@oversight` annotation; `service.rs` states the rule
//! that keeps such a policy from turning a plain denial into a request.
//!
//! This crate does not issue identities, does not store policies and does not
//! ask humans.

mod action;
mod bound;
mod bounds;
mod cache;
mod counters;
mod error;
pub mod eval;
mod evaluate;
mod explain;
mod filled;
mod found;
mod held;
mod in_force;
mod links;
mod model;
mod moment;
mod policies;
mod ports;
mod printed;
mod rules;
mod schema;
mod service;
mod slice;
mod sources;
mod validation;

pub use action::{Action, ActionKey};
pub use bound::Bound;
pub use counters::Counters;
/// Of what lies behind [`Account::lines`].
pub use creto_types::Line;
pub use error::{Finding, PolicyError};
pub use explain::{
    Explanation, MissingPermit, NearPermit, Outcome, PolicyExplanation, PrincipalExplanation, Unfit,
};
pub use held::HeldBy;
pub use in_force::PolicyEpoch;
pub use model::{
    Approval, CheckRequest, ContextValue, Decision, DenyReason, PolicyId, PolicyIds, ResourceRef,
    deny,
};
pub use policies::{CompiledPolicies, LoadReport, PolicyEffect, PolicyInfo};
pub use ports::{
    Account, Exceeded, Hold, HoldData, Holder, LimitScope, Lines, Quota, Refusal, Spend, TooFast,
};
pub use printed::Printed;
pub use service::{Authz, AuthzConfig};
pub use sources::{PolicySources, read_file};
