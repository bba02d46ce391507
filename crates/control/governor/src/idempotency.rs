//! The same key and request give the same answer again.

use creto_crypto::sha256;
use creto_types::{Idempotency, LeafIndex, OrgId, PrincipalName, StoredReply, canonical_json};
use serde::Serialize;

use crate::ports::Replies;
use crate::{Answer, Caller, GovernError};

/// The `Idempotency-Key` of a call: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Checks the key's form.
    pub fn new(text: &str) -> Result<Self, GovernError> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if (1..=255).contains(&text.len()) && visible {
            Ok(Self(text.to_owned()))
        } else {
            Err(GovernError::invalid(
                "Idempotency-Key",
                "1 to 255 visible ASCII characters are expected",
            ))
        }
    }
}

/// Where a mutation stands with its key.
pub(crate) enum Begun<T> {
    /// It happened before; this is the answer it gave.
    Replay(T),
    /// It has not happened.
    Fresh(Ticket),
}

/// Carries the key to the commit.
pub(crate) struct Ticket {
    org: OrgId,
    caller: PrincipalName,
    key: Option<IdempotencyKey>,
    digest: [u8; 32],
}

impl Ticket {
    /// Looks the key up. A key that stands for another request is refused; the
    /// same words under another delegation are another request.
    pub(crate) async fn begin<T: Answer>(
        replies: &dyn Replies,
        caller: &Caller,
        key: Option<IdempotencyKey>,
        operation: &str,
        request: &impl Serialize,
    ) -> Result<Begun<T>, GovernError> {
        let digest = sha256(&canonical_json(&(operation, caller.link(), request))?);
        let ticket = Self {
            org: caller.org(),
            caller: caller.name().clone(),
            key,
            digest,
        };
        let Some(key) = &ticket.key else {
            return Ok(Begun::Fresh(ticket));
        };
        match replies.find(ticket.org, &ticket.caller, &key.0).await? {
            Some(reply) => Ok(Begun::Replay(ticket.replay(reply)?)),
            None => Ok(Begun::Fresh(ticket)),
        }
    }

    /// The key, if the call has one.
    pub(crate) const fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    /// The record that makes `answer` the reply of this key from now on.
    pub(crate) fn record(&self, answer: &impl Answer) -> Result<Option<Idempotency>, GovernError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        Ok(Some(Idempotency {
            org: self.org,
            caller: self.caller.clone(),
            key: key.0.clone(),
            request_digest: self.digest,
            response: serde_json::to_value(answer).map_err(GovernError::Encoding)?,
        }))
    }

    /// Finishes a mutation: the answer with its leaf, or the answer of the call
    /// with the same key that came first.
    pub(crate) fn finish<T: Answer>(
        &self,
        mut answer: T,
        committed: Result<Option<LeafIndex>, GovernError>,
    ) -> Result<T, GovernError> {
        match committed {
            Ok(leaf) => {
                if let Some(leaf) = leaf {
                    answer.set_leaf(leaf);
                }
                Ok(answer)
            }
            Err(error) => self.replay(error.into_replay()?),
        }
    }

    /// The stored answer, if it answers this very request.
    pub(crate) fn replay<T: Answer>(&self, reply: StoredReply) -> Result<T, GovernError> {
        if reply.request_digest != self.digest {
            return Err(GovernError::IdempotencyKeyReused);
        }
        let mut answer: T =
            serde_json::from_value(reply.response).map_err(GovernError::Encoding)?;
        if let Some(leaf) = reply.leaves.first() {
            answer.set_leaf(*leaf);
        }
        Ok(answer)
    }
}
