//! Events of other services of the organization, put into the order of its log.

use std::num::NonZeroU32;

use creto_consensus::{Epoch, HybridTimestamp};
use creto_types::{Commit, LeafIndex, Receipt, StoreError};
use serde::{Deserialize, Serialize};

use crate::actions::check_name;
use crate::answers::Answer;
use crate::caller::Caller;
use crate::idempotency::Begun;
use crate::records::{EVENT_ORDERED, EventOrdered};
use crate::roles::Call;
use crate::timestamps::MAX_TIMESTAMPS;
use crate::{GovernError, Governor, IdempotencyKey};

/// The most events of one call.
pub const MAX_EVENTS: usize = 100;

/// An event of somebody else's. It stays where it is: the log has its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// SHA-256 of the event.
    pub sha256: [u8; 32],
    /// What people know it by, for example `payment.captured`: 1 to 512 bytes without
    /// control characters.
    pub label: String,
}

/// Where events stand: next to one another, the first at `first`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The leaf of the first event in the organization's log.
    pub first: LeafIndex,
    /// One for each event, strictly rising.
    pub timestamps: Vec<HybridTimestamp>,
    /// In which opening of the store they became durable. It never falls with the places,
    /// and nobody who opened the store before can order anything more: who keeps the
    /// highest that it was told can refuse what comes with a lower one. `None` when the
    /// call is from before epochs were told.
    pub epoch: Option<Epoch>,
}

/// What is kept under the call's key.
#[derive(Serialize, Deserialize)]
struct Placed {
    events: usize,
    #[serde(default)]
    first: Option<LeafIndex>,
    #[serde(default)]
    epoch: Option<u64>,
}

impl Answer for Placed {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.first = Some(leaf);
    }
}

impl Governor {
    /// Gives events their places in the order of everything that the organization's log
    /// holds: without a gap between them, behind everything that was acknowledged before
    /// the call began, durable when this returns, and provable as every leaf is. All of
    /// them or none.
    ///
    /// Their timestamps are greater than every one that anybody had the answer with before
    /// the call began, of this call or of [`Governor::reserve_timestamps`], and each that is
    /// asked for after the answer is greater than they are. Two of one log are never the
    /// same. One that an event got because another overtook it on its way to the log is none
    /// of the oracle's own, so a reservation that is under way meanwhile may hold the same.
    ///
    /// # Errors
    ///
    /// `forbidden` to everybody but owners, `invalid_request` for events that cannot be
    /// used, `fenced` when another process took the store over.
    pub async fn order_events(
        &self,
        caller: &Caller,
        events: Vec<Event>,
        key: Option<IdempotencyKey>,
    ) -> Result<Ordered, GovernError> {
        caller.may(Call::OrderEvents, self.now())?;
        caller.require_person("order events")?;
        if !(1..=MAX_EVENTS).contains(&events.len()) {
            return Err(GovernError::invalid(
                "events",
                format!("1 to {MAX_EVENTS} are expected, not {}", events.len()),
            ));
        }
        for event in &events {
            check_name("label", &event.label)?;
        }
        let ticket = match self.begin(caller, key, "events.order", &events).await? {
            Begun::Replay(placed) => return self.placed(caller, placed).await,
            Begun::Fresh(ticket) => ticket,
        };
        let org = caller.org();
        let mut evidence = Vec::with_capacity(events.len());
        for event in &events {
            let body = EventOrdered::of(event);
            let record = self.record(org, caller.name(), EVENT_ORDERED, None, &body);
            evidence.push(record.await?);
        }
        let placed = Placed {
            events: events.len(),
            first: None,
            epoch: Some(self.parts.sequencer.epoch().as_u64()),
        };
        let own = evidence.last().map(|event| event.at);
        let commit = Commit {
            evidence,
            ..Commit::default()
        };
        let commit = commit.with_idempotency(ticket.record(&placed)?);
        match self.parts.sequencer.order(commit).await {
            Ok(ordered) => {
                let receipt = Receipt {
                    leaves: ordered.iter().map(|event| event.place).collect(),
                };
                let first = self.committed(org, &receipt);
                if let Some(last) = ordered.last()
                    && own != Some(last.ts.to_instant())
                {
                    self.pass(last.ts).await?;
                }
                Ok(Ordered {
                    first: first.ok_or(StoreError::NotFound { what: "event" })?,
                    timestamps: ordered.iter().map(|event| event.ts).collect(),
                    epoch: ordered.last().map(|event| event.epoch),
                })
            }
            Err(error) => {
                let reply = GovernError::from(error).into_replay()?;
                self.placed(caller, ticket.replay(reply)?).await
            }
        }
    }

    /// What was answered before under the same key.
    async fn placed(&self, caller: &Caller, placed: Placed) -> Result<Ordered, GovernError> {
        let missing = StoreError::NotFound { what: "event" };
        let first = placed.first.ok_or(missing)?;
        let sequencer = &self.parts.sequencer;
        let timestamps = sequencer.timestamps(caller.org(), first, placed.events);
        let timestamps = timestamps.await?;
        match timestamps.last() {
            Some(last) if timestamps.len() == placed.events => self.pass(*last).await?,
            _ => return Err(StoreError::NotFound { what: "event" }.into()),
        }
        Ok(Ordered {
            first,
            timestamps,
            epoch: placed.epoch.map(Epoch::from_u64),
        })
    }

    /// Whatever timestamp is asked for from now on is greater than this one. An event that
    /// was overtaken has one that the oracle did not give, and is ahead of it by as many as
    /// were overtaken with it; by how much the oracle goes ahead of the clock it bounds
    /// itself.
    async fn pass(&self, ts: HybridTimestamp) -> Result<(), GovernError> {
        let mut count = NonZeroU32::MIN;
        loop {
            let last = self.parts.oracle.reserve(count).await?.last();
            let behind = ts.as_u64().saturating_sub(last.as_u64());
            let behind = u32::try_from(behind).unwrap_or(u32::MAX);
            match NonZeroU32::new(behind.min(MAX_TIMESTAMPS)) {
                Some(more) => count = more,
                None => return Ok(()),
            }
        }
    }
}
