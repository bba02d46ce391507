//! The same key and request give the same answer again.
//!
//! Calls with one key are made one at a time: the second one waits until the first
//! has finished, in the store and in memory, and finds its reply or that there is
//! none. So no call is refused for what its own twin holds, and no reply is repeated
//! before what it says is in effect.

use std::collections::HashMap;
use std::sync::Arc;

use creto_crypto::sha256;
use creto_types::{
    Idempotency, LeafIndex, OrgId, PrincipalName, StoredReply, Turn, canonical_json,
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{Answer, Caller, GovernError, Governor};

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

type TurnKey = (OrgId, PrincipalName, String);

/// Who waits for whom, by key. A key is here as long as somebody has its turn or
/// waits for it.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: Mutex<HashMap<TurnKey, Arc<AsyncMutex<()>>>>,
}

impl Turns {
    /// Waits until nobody else has the turn of this key.
    async fn wait(self: &Arc<Self>, key: TurnKey) -> Turn {
        let lock = Arc::clone(self.waiting.lock().entry(key.clone()).or_default());
        // Made before it waits: a call that is given up leaves no key behind.
        let mut place = Place {
            turns: Arc::clone(self),
            key,
            lock: Some(Arc::clone(&lock)),
            guard: None,
        };
        place.guard = Some(lock.lock_owned().await);
        Turn::of(Arc::new(place))
    }
}

/// One place among the calls with one key.
struct Place {
    turns: Arc<Turns>,
    key: TurnKey,
    /// Until it is dropped.
    lock: Option<Arc<AsyncMutex<()>>>,
    /// Once its turn came.
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guard = None;
        self.lock = None;
        let mut waiting = self.turns.waiting.lock();
        let left = waiting.get(&self.key);
        // Clones are made under the map's lock alone, so nobody comes in between.
        if left.is_some_and(|lock| Arc::strong_count(lock) == 1) {
            waiting.remove(&self.key);
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
    /// Held by the commit's record, too, and so by whatever carries it out.
    turn: Turn,
}

impl Governor {
    /// Waits for the key's turn and looks it up. A key that stands for another
    /// request is refused; the same words under another delegation are another
    /// request. Whoever lost its authority until its turn came is refused as well:
    /// nothing is done for it, nor repeated to it.
    pub(crate) async fn begin<T: Answer>(
        &self,
        caller: &Caller,
        key: Option<IdempotencyKey>,
        operation: &str,
        request: &impl Serialize,
    ) -> Result<Begun<T>, GovernError> {
        let digest = sha256(&canonical_json(&(operation, caller.link(), request))?);
        let mut ticket = Ticket {
            digest,
            key,
            ..Ticket::without_key(caller)
        };
        let Some(key) = &ticket.key else {
            return Ok(Begun::Fresh(ticket));
        };
        let (org, name) = (ticket.org, ticket.caller.clone());
        ticket.turn = self.turns.wait((org, name, key.0.clone())).await;
        caller.live(self.now())?;
        let replies = &self.parts.replies;
        match replies.find(ticket.org, &ticket.caller, &key.0).await? {
            Some(reply) => Ok(Begun::Replay(ticket.replay(reply)?)),
            None => Ok(Begun::Fresh(ticket)),
        }
    }
}

impl Ticket {
    /// For a call that has no key, or whose key is not to be used.
    pub(crate) fn without_key(caller: &Caller) -> Self {
        Self {
            org: caller.org(),
            caller: caller.name().clone(),
            key: None,
            digest: [0; 32],
            turn: Turn::default(),
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
            turn: self.turn.clone(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use creto_types::{IdSource, ManualClock, SeededRandom, SystemIds, Timestamp};

    use super::*;

    /// However many keys there were, and whoever gave up waiting.
    #[tokio::test]
    async fn a_key_is_kept_as_long_as_somebody_has_it_or_waits() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let ids: Arc<dyn IdSource> =
            Arc::new(SystemIds::new(clock, Arc::new(SeededRandom::new(1))));
        let org: OrgId = ids.next();
        let key = move |text: &str| (org, "bot".parse().unwrap(), text.to_owned());
        let turns = Arc::new(Turns::default());
        let first = turns.wait(key("a")).await;
        let kept = first.clone();
        let soon = Duration::from_millis(5);
        let waited = tokio::time::timeout(soon, turns.wait(key("a"))).await;
        assert!(waited.is_err(), "it is the first one's turn");
        drop(first);
        let waited = tokio::time::timeout(soon, turns.wait(key("a"))).await;
        assert!(waited.is_err(), "what goes on without its caller keeps it");
        assert_eq!(turns.waiting.lock().len(), 1);
        drop(kept);
        assert_eq!(turns.waiting.lock().len(), 0);

        let mut calls = tokio::task::JoinSet::new();
        for call in 0..200 {
            let (turns, key) = (Arc::clone(&turns), key(&(call % 7).to_string()));
            calls.spawn(async move {
                let turn = turns.wait(key).await;
                tokio::task::yield_now().await;
                drop(turn);
            });
        }
        calls.join_all().await;
        assert_eq!(turns.waiting.lock().len(), 0);
    }
}
