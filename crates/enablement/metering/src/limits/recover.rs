//! After a change of which the store could not say whether it happened: memory follows
//! what the store says. What limits and rates are in force is asked before anything
//! more is granted; whether a reservation was closed, when somebody closes it again or
//! the ledger is added up. Until then it counts.

use std::sync::Arc;
use std::time::Duration;

use creto_types::{ActionId, Receipt, StoreError};
use tokio::sync::OwnedRwLockWriteGuard;

use super::model::{Limit, LimitId, RateId, RateRule};
use super::registry::{Org, changed};
use super::rule::Rule;
use crate::error::MeteringError;
use crate::ports::Entry;
use crate::service::Core;

/// How long to wait before a store that cannot be read is asked again: at first, and
/// at most.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// An organization's gate, held alone.
pub(super) type Alone = OwnedRwLockWriteGuard<()>;

impl Core {
    /// What became of a change of the store.
    ///
    /// When the store cannot say whether it happened, memory has taken over what the
    /// store says is in force once this returns. When it cannot say that either, the
    /// gate stays shut until it can: nothing becomes durable by limits that may have
    /// been lowered.
    pub(super) async fn known(
        self: &Arc<Self>,
        done: Result<Receipt, StoreError>,
        org: &Arc<Org>,
        alone: Alone,
    ) -> Result<(Receipt, Alone), MeteringError> {
        let error = match done {
            Ok(receipt) => return Ok((receipt, alone)),
            Err(error) => error,
        };
        if matches!(error, StoreError::Unavailable(_)) && self.take_over(org).await.is_err() {
            let (core, org) = (Arc::clone(self), Arc::clone(org));
            tokio::spawn(async move {
                let mut wait = FIRST_WAIT;
                while core.take_over(&org).await.is_err() {
                    tokio::time::sleep(wait).await;
                    wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                }
                drop(alone);
            });
        }
        Err(error.into())
    }

    /// The ledger did not close the reservation. When that is because it is not
    /// open there, memory follows the ledger.
    pub(crate) async fn not_closed(
        &self,
        org: &Org,
        action: ActionId,
        error: StoreError,
    ) -> MeteringError {
        match error {
            StoreError::Conflict { .. } | StoreError::NotFound { .. } => {}
            StoreError::Unavailable(_) => {
                org.registry().doubt(action);
                return error.into();
            }
            error => return error.into(),
        }
        match self.follow(org, action).await {
            Err(error) => error,
            Ok(Some(Entry::Open)) => error.into(),
            Ok(None) => MeteringError::ReservationNotFound { action },
            Ok(Some(Entry::Released | Entry::Settled { .. })) => {
                MeteringError::ReservationClosed { action }
            }
        }
    }

    /// Memory takes over what the ledger says of a reservation, which this returns.
    async fn follow(&self, org: &Org, action: ActionId) -> Result<Option<Entry>, MeteringError> {
        let entry = self.store.entry(org.id, action).await?;
        let used = match &entry {
            Some(Entry::Settled { cost, units }) => Some((self.own(cost)?.billionths(), *units)),
            _ => None,
        };
        let mut registry = org.registry();
        match entry {
            Some(Entry::Open) => {
                if let Some(open) = registry.held.get_mut(action) {
                    open.doubtful = false;
                }
            }
            // It was never durable, and no commit of it is under way: only kept
            // reservations are closed.
            None => {
                registry.close(action, None);
            }
            Some(Entry::Released | Entry::Settled { .. }) => {
                registry.close(action, used);
                registry.closed.add(action);
            }
        }
        Ok(entry)
    }

    /// Follows the ledger where it could not say whether a reservation was closed. Who
    /// adds up the ledger does that first: an event that was lost on the way back would
    /// be counted again when its reservation is closed. The gate is held alone.
    pub(super) async fn settle_doubts(&self, org: &Org) -> Result<(), MeteringError> {
        let doubtful: Vec<ActionId> = {
            let registry = org.registry();
            let open = registry.held.values().filter(|open| open.doubtful);
            open.map(|open| open.reservation.action_id).collect()
        };
        for action in doubtful {
            self.follow(org, action).await?;
        }
        Ok(())
    }

    /// Makes what the store says is in force what is in force. The gate is held alone.
    async fn take_over(&self, org: &Arc<Org>) -> Result<(), MeteringError> {
        self.settle_doubts(org).await?;
        let mut limits = self.store.limits().await?;
        limits.retain(|limit| limit.org == org.id);
        let mut rates = self.store.rates().await?;
        rates.retain(|rule| rule.org == org.id);
        let mut fresh = Vec::new();
        for limit in &limits {
            let known = org.registry().in_force(limit.id);
            if known.is_some_and(|known| *known == *limit) {
                continue;
            }
            let limit = Arc::new(limit.clone());
            let rule = Rule::set(&limit)?;
            let (span, used) = self.counted(org, &limit, &rule).await?;
            fresh.push((limit, rule, span, used));
        }
        let mono = self.mono();
        let mut registry = org.registry();
        for id in ended(registry.limits(None).map(|(limit, _)| limit.id), &limits) {
            registry.uninstall(id);
        }
        for (limit, rule, span, used) in fresh {
            registry.install(&limit, rule, span, used);
        }
        let stored = |id: &RateId| rates.iter().any(|rule: &RateRule| rule.id == *id);
        let known: Vec<RateId> = registry.rates().after(None).map(|rule| rule.id).collect();
        for id in known.into_iter().filter(|id| !stored(id)) {
            registry.remove_rate(id, mono);
        }
        for rule in rates {
            if registry.rates().get(rule.id) != Some(&rule) {
                registry.set_rate(rule, mono);
            }
        }
        changed(org);
        drop(registry);
        org.note_all();
        Ok(())
    }
}

fn ended(known: impl Iterator<Item = LimitId>, stored: &[Limit]) -> Vec<LimitId> {
    known
        .filter(|id| stored.iter().all(|limit| limit.id != *id))
        .collect()
}
