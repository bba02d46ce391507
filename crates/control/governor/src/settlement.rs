//! What became of an allowed action: settled, released, or closed because its time ran
//! out.

use std::future::poll_fn;
use std::task::Poll;

use creto_audit::Record;
use creto_metering::{Expired, MeteringError, Reservation};
use creto_telemetry::{ReservationEvent, record_action};
use creto_types::{
    ActionId, Commit, Idempotency, LeafIndex, Money, OrgId, PrincipalName, StoreError,
};
use serde_json::{Value, json};

use crate::actions::MAX_UNITS;
use crate::idempotency::{Begun, Ticket};
use crate::records::UsageSettled;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey, SettlementAnswer};

/// How often one settlement is drafted anew because a limit changed meanwhile.
const SETTLED_ANEW: usize = 8;

/// Why all of a reservation is settled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// So much was used.
    AsUsed,
    /// Nobody said in time what was used.
    Unheard,
}

impl Governor {
    /// Settles an allowed action with what was really used; the rest goes back to
    /// every limit that counted it. More than was reserved is settled when it fits
    /// them, or when those it does not fit let it pass.
    pub async fn settle(
        &self,
        caller: &Caller,
        action: ActionId,
        units: u64,
        key: Option<IdempotencyKey>,
    ) -> Result<SettlementAnswer, GovernError> {
        caller.may(Call::SettleAction, self.now())?;
        self.admit(caller)?;
        self.settle_admitted(caller, action, units, key).await
    }

    /// The same for a call that was heard already.
    pub(crate) async fn settle_admitted(
        &self,
        caller: &Caller,
        action: ActionId,
        units: u64,
        key: Option<IdempotencyKey>,
    ) -> Result<SettlementAnswer, GovernError> {
        record_action(&action);
        let ticket = match self
            .begin(caller, key, "action.settle", &(action, units))
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        if units > MAX_UNITS {
            return Err(GovernError::invalid(
                "units",
                format!("at most {MAX_UNITS} units are expected"),
            ));
        }
        self.own_reservation(caller, action)?;
        let mut again = 0..SETTLED_ANEW;
        loop {
            let settled = self.settle_once(caller, action, units, &ticket).await;
            match settled {
                Err(GovernError::Metering(MeteringError::LimitsChanged))
                    if again.next().is_some() => {}
                settled => return settled,
            }
        }
    }

    async fn settle_once(
        &self,
        caller: &Caller,
        action: ActionId,
        units: u64,
        ticket: &Ticket,
    ) -> Result<SettlementAnswer, GovernError> {
        let meter = &self.parts.meter;
        let settlement = meter.draft_settlement(caller.org(), action, units)?;
        let answer = SettlementAnswer {
            action_id: action,
            state: "settled".to_owned(),
            event_id: Some(settlement.event_id.to_string()),
            units,
            cost: settlement.cost,
            overage: settlement.overage,
            leaf: None,
        };
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "usage.settled",
                Some(action),
                &UsageSettled::from(&settlement),
            )
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = meter.settle(settlement, commit).await;
        if committed.is_ok() {
            self.parts
                .metrics
                .reservations
                .inc(ReservationEvent::Settled);
            self.parts.metrics.reservations_open.dec();
            tracing::info!(action_id = %action, units, "action settled");
        }
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Gives a reservation back: nothing was used.
    pub async fn release(
        &self,
        caller: &Caller,
        action: ActionId,
        key: Option<IdempotencyKey>,
    ) -> Result<SettlementAnswer, GovernError> {
        caller.may(Call::ReleaseAction, self.now())?;
        self.admit(caller)?;
        self.release_admitted(caller, action, key).await
    }

    /// The same for a call that was heard already.
    pub(crate) async fn release_admitted(
        &self,
        caller: &Caller,
        action: ActionId,
        key: Option<IdempotencyKey>,
    ) -> Result<SettlementAnswer, GovernError> {
        record_action(&action);
        let ticket = match self.begin(caller, key, "action.release", &action).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        self.own_reservation(caller, action)?;
        let answer = SettlementAnswer {
            action_id: action,
            state: "released".to_owned(),
            event_id: None,
            units: 0,
            cost: Money::zero(self.parts.meter.prices().currency()),
            overage: false,
            leaf: None,
        };
        let record = ticket.record(&answer)?;
        let leaf = self
            .give_back(
                caller.name(),
                caller.org(),
                action,
                "released by its agent",
                record,
            )
            .await;
        if leaf.is_ok() {
            self.parts
                .metrics
                .reservations
                .inc(ReservationEvent::Released);
        }
        ticket.finish(answer, leaf)
    }

    /// Everything the log says about one action, in order.
    pub async fn action_records(
        &self,
        caller: &Caller,
        action: ActionId,
    ) -> Result<Vec<(LeafIndex, Record)>, GovernError> {
        caller.may(Call::GetAction, self.now())?;
        let leaves = self.parts.records.records(caller.org(), action).await?;
        let mut records = Vec::with_capacity(leaves.len());
        for (leaf, stored) in leaves {
            records.push((leaf, stored.read().map_err(StoreError::from)?));
        }
        let asked_by = records
            .first()
            .and_then(|(_, record)| record.value().get("actor"))
            .and_then(Value::as_str);
        let visible = caller.is_human() || asked_by == Some(caller.name().as_str());
        if records.is_empty() || !visible {
            return Err(GovernError::NotFound { what: "action" });
        }
        Ok(records)
    }

    /// Refuses an action that is not the caller's own, under the delegation it acts
    /// under now.
    fn own_reservation(&self, caller: &Caller, action: ActionId) -> Result<(), GovernError> {
        match self.parts.meter.reservation(caller.org(), action) {
            Some(reservation)
                if !caller.is_human()
                    && (reservation.agent != *caller.name()
                        || reservation.hops.last().copied() != caller.link()) =>
            {
                Err(GovernError::NotFound { what: "action" })
            }
            // Whether it is open is for the meter to say.
            _ => Ok(()),
        }
    }

    async fn give_back(
        &self,
        actor: &PrincipalName,
        org: OrgId,
        action: ActionId,
        why: &str,
        record: Option<Idempotency>,
    ) -> Result<Option<LeafIndex>, GovernError> {
        let reservation = self.parts.meter.reservation(org, action);
        let delegation = reservation.and_then(|reservation| reservation.hops.last().copied());
        let body = json!({ "why": why, "delegation": delegation });
        let evidence = self
            .record(org, actor, "usage.released", Some(action), &body)
            .await?;
        let commit = Commit::of(evidence).with_idempotency(record);
        let receipt = self.parts.meter.release(org, action, commit).await?;
        self.parts.metrics.reservations_open.dec();
        Ok(self.committed(org, &receipt))
    }

    /// Gives back, or settles in full, what nobody settled in time.
    pub(crate) async fn close_expired(&self) -> Result<(), GovernError> {
        /// As many as one sweep takes; the next one goes on.
        const BATCH: usize = 1_024;
        /// As many as are under way at a time, so that the store makes them durable
        /// together.
        const AT_ONCE: usize = 32;
        let mut first_error = Ok(());
        let due = self.parts.meter.expired(self.now(), BATCH);
        for some in due.chunks(AT_ONCE) {
            let closing = some.iter().map(|reservation| self.close_one(reservation));
            // One that fails keeps none of the others back.
            for closed in together(closing).await {
                first_error = first_error.and(closed);
            }
        }
        first_error
    }

    async fn close_one(&self, reservation: &Reservation) -> Result<(), GovernError> {
        let closed = match self.parts.meter.expired_are() {
            Expired::Released => {
                let (agent, action) = (&reservation.agent, reservation.action_id);
                self.give_back(agent, reservation.org, action, "not settled in time", None)
                    .await
            }
            Expired::Settled => self.settle_in_full(reservation, Settled::Unheard).await,
        };
        match closed {
            Ok(_) => {
                let metrics = &self.parts.metrics;
                metrics.reservations.inc(ReservationEvent::Expired);
                Ok(())
            }
            // Settled or released by its agent in this very moment.
            Err(GovernError::Metering(
                MeteringError::ReservationClosed { .. }
                | MeteringError::ReservationNotFound { .. }
                | MeteringError::Store(StoreError::Conflict { .. }),
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Settles all that was reserved: it needs no more room than it has.
    pub(crate) async fn settle_in_full(
        &self,
        of: &Reservation,
        settled: Settled,
    ) -> Result<Option<LeafIndex>, GovernError> {
        let meter = &self.parts.meter;
        let settlement = meter.draft_settlement(of.org, of.action_id, of.units)?;
        let body = UsageSettled {
            expired: settled == Settled::Unheard,
            ..UsageSettled::from(&settlement)
        };
        let action = Some(of.action_id);
        let evidence = self
            .record(of.org, &of.agent, "usage.settled", action, &body)
            .await?;
        let receipt = meter.settle(settlement, Commit::of(evidence)).await?;
        self.parts.metrics.reservations_open.dec();
        Ok(self.committed(of.org, &receipt))
    }
}

/// Runs all of them to their ends, at once.
async fn together<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let started = futures.into_iter().map(|future| (Box::pin(future), None));
    let mut running: Vec<_> = started.collect();
    poll_fn(|context| {
        let mut all = Poll::Ready(());
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => all = Poll::Pending,
                }
            }
        }
        all
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first waits for the others, and fails.
    #[tokio::test]
    async fn all_are_under_way_at_once_and_each_ends() {
        let bell = tokio::sync::Notify::new();
        let run = |number: u8| {
            let bell = &bell;
            async move {
                if number > 0 {
                    bell.notify_one();
                    return Ok(number);
                }
                bell.notified().await;
                Err(number)
            }
        };
        let done = together([0, 1, 2].map(run)).await;
        assert_eq!(done, [Err(0), Ok(1), Ok(2)]);
    }
}
