//! A human looks before it happens.
//!
//! An action that policy holds back becomes an [`OversightRequest`]: the exact
//! arguments, the delegation chain, the cost so far, and the digest of all that
//! identifies the action. A human approves or denies it, or it expires. This
//! crate promises:
//!
//! - **What is approved is what runs.** An approval is a [`Grant`] bound to the
//!   [`ActionDigest`], SHA-256 over the RFC 8785 form of the action. Another
//!   argument, another agent, another unit: another digest, and the grant is
//!   refused. It is refused under another delegation, too: the approver saw one
//!   chain.
//! - **Once.** A grant is used up by the [`creto_types::Claim`] that
//!   [`Oversight::check_grant`] returns; it belongs in the commit of the decision
//!   it opens, and the store lets the first commit with it through and no other.
//! - **One decision.** A request leaves `Pending` by one compare-and-set. Whoever
//!   comes second gets an error and changes nothing. Denied and expired are
//!   different outcomes.
//! - **What waits is bounded.** At most [`PENDING_LIMIT`] requests of one agent
//!   wait at a time.
//! - **Time counts against the approval.** A request is decided before its expiry
//!   or not at all, and a grant is good only before its own.
//!
//! It is not a notifier and not an authority: who may decide is checked by the
//! caller before it gets here. The agent itself may not; that is checked here
//! too.

mod digest;
mod error;
mod grant;
mod model;
mod ports;
mod service;
mod waiters;

#[cfg(feature = "test-util")]
pub mod conformance;
#[cfg(feature = "test-util")]
pub mod memory;

pub use digest::{ActionDigest, HeldAction, InvalidDigest};
pub use error::{GrantError, OversightError};
pub use grant::{Grant, InvalidGrant};
pub use model::{
    Filter, NewRequest, OversightRequest, RequestId, RequestKind, State, StateName, UnknownState,
    Verdict,
};
pub use ports::{OversightStore, PENDING_LIMIT};
pub use service::{Granted, Oversight, OversightConfig};
