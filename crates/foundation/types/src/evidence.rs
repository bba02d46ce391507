//! Evidence travels with the change it describes.
//!
//! Every port that changes authority, money or the outside world takes a
//! [`Commit`]: the evidence records and the idempotency record that become
//! durable in the same transaction as the change, or not at all. So a change
//! without its proof cannot exist, nor a proof without its change. The log
//! (`creto-audit`) reads what was committed and builds the tree behind it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ActionId, OrgId, PrincipalName, Timestamp};

/// A record's place in its organization's log, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeafIndex(pub u64);

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One record of the evidence class, before it has a place in the log.
///
/// The leaf is the RFC 8785 form of this value together with its index; see
/// `docs/formats/log.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Whose log it belongs to.
    pub org: OrgId,
    /// What happened, dotted and in the past tense: `delegation.granted`.
    pub kind: String,
    /// When, by the timestamp oracle's wall part.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: PrincipalName,
    /// The governed action it belongs to, when there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_id: Option<ActionId>,
    /// What a stranger needs to check it.
    pub body: serde_json::Value,
}

/// Makes a mutation safe to repeat: the same key and digest give the stored
/// response again, another digest under the same key is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Keys of two organizations never meet.
    pub org: OrgId,
    /// Nor do keys of two callers.
    pub caller: PrincipalName,
    /// The caller's `Idempotency-Key`.
    pub key: String,
    /// SHA-256 over the canonical request.
    pub request_digest: [u8; 32],
    /// The response to repeat, as JSON; leaf indexes are stored beside it.
    pub response: serde_json::Value,
    /// Never stored.
    pub turn: Turn,
}

/// Makes further calls with the same key wait as long as a clone of it lives.
///
/// Whoever carries a [`Commit`] out in a task of its own, which goes on without the
/// caller, holds one until memory followed the store: before that nobody may be
/// told the reply again.
#[derive(Clone, Default)]
pub struct Turn(Option<Arc<dyn Any + Send + Sync>>);

impl Turn {
    /// Lasts as long as `place` is not dropped.
    #[must_use]
    pub fn of(place: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Some(place))
    }
}

/// Records are the same whoever waits for them.
impl PartialEq for Turn {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Turn {}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turn").field(&self.0.is_some()).finish()
    }
}

/// What becomes durable together with a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Evidence records, in the order in which they take their leaves.
    pub evidence: Vec<Evidence>,
    /// The idempotency record, for a mutation that came from outside.
    pub idempotency: Option<Idempotency>,
    /// Single-use tokens this change uses up, for example an approval's grant.
    pub claims: Vec<Claim>,
}

/// Uses up a single-use token: the first commit that claims it succeeds, every
/// later one fails with [`crate::StoreError::AlreadyClaimed`] and changes
/// nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Tokens of two organizations never meet.
    pub org: OrgId,
    /// The token's text: whoever has it before it is used up may use it.
    pub token: String,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("org", &self.org)
            .finish_non_exhaustive()
    }
}

impl Commit {
    /// A commit of one evidence record.
    #[must_use]
    pub fn of(evidence: Evidence) -> Self {
        Self {
            evidence: vec![evidence],
            ..Self::default()
        }
    }

    /// Adds the idempotency record.
    #[must_use]
    pub fn with_idempotency(mut self, record: Option<Idempotency>) -> Self {
        self.idempotency = record;
        self
    }

    /// What a task that carries this out holds until memory followed the store.
    #[must_use]
    pub fn turn(&self) -> Turn {
        let record = self.idempotency.as_ref();
        record.map(|record| record.turn.clone()).unwrap_or_default()
    }

    /// Adds a token to use up.
    #[must_use]
    pub fn with_claim(mut self, claim: Claim) -> Self {
        self.claims.push(claim);
        self
    }
}

/// Proof that a commit is durable: the leaf of each evidence record, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// One index per evidence record.
    pub leaves: Vec<LeafIndex>,
}

impl Receipt {
    /// The first leaf, which most commits have exactly one of.
    #[must_use]
    pub fn leaf(&self) -> Option<LeafIndex> {
        self.leaves.first().copied()
    }
}
