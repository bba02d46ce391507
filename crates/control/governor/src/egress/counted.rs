//! A connection that counts: an action of one unit that is over at once.

use std::sync::Arc;

use creto_authz::{Bound, Hold};
use creto_errors::Classify as _;
use creto_metering::MeteringError;
use creto_runtime::{EgressRequest, EgressVerdict, SandboxId};
use creto_telemetry::{EgressVerdict as VerdictLabel, ReservationEvent};
use creto_types::{ActionId, Commit};

use super::{NETWORK_EGRESS, Question, allowed};
use crate::actions::{DECIDED_ANEW, wait_of};
use crate::answers::refusal;
use crate::records::{Charged, Checked, EGRESS_CHECKED, EgressChecked};
use crate::settlement::Settled;
use crate::{GovernError, Governor};

/// One connection of a sandbox.
pub(super) struct Counting {
    pub(super) governor: Arc<Governor>,
    pub(super) sandbox: SandboxId,
    pub(super) bound: Bound,
    pub(super) request: EgressRequest,
}

impl Counting {
    /// Decides, and counts what is allowed: it is durable when this returns. Carried
    /// through though nobody waits for it any more, as when the program ends meanwhile:
    /// half of it would leave a reservation open.
    pub(super) async fn carried_through(self) -> EgressVerdict {
        match tokio::spawn(self.decide()).await {
            Ok(verdict) => verdict,
            Err(error) => uncounted(&MeteringError::Interrupted(error).into(), Vec::new()),
        }
    }

    async fn decide(self) -> EgressVerdict {
        let parts = &self.governor.parts;
        let question = Question::of(&self.request);
        let identity = self.bound.identity();
        let mut again = 0..DECIDED_ANEW;
        let mut bound = self.bound.clone();
        loop {
            let epoch = bound.epoch();
            // What there is no room for is not reserved, so that no rate counts it.
            let crowded = parts.meter.room(identity.org, &identity.name).err();
            let decision = match crowded {
                None => parts.authz.ask(&bound, &question.asks(true)),
                Some(_) => parts.authz.would(&bound, &question.asks(true)),
            };
            let observed = question.observed(&self.governor, &bound, &decision);
            let verdict = match (allowed(decision, &self.request), crowded) {
                (Ok((policies, _)), Some(crowded)) => uncounted(&crowded.into(), policies),
                (Ok((policies, hold)), None) => {
                    let (authz, deciding) = (Arc::clone(&parts.authz), bound.clone());
                    let still = move || authz.still(&deciding, epoch);
                    match self.take(&question, &policies, hold, still).await {
                        Ok(()) => EgressVerdict::Allow {
                            policies,
                            on_record: true,
                        },
                        Err(Untaken::Void(_)) if again.next().is_some() => {
                            // Rates counted the call when it reserved what is void now.
                            bound = self.bound.again();
                            continue;
                        }
                        Err(Untaken::Void(error) | Untaken::Failed(error)) => {
                            uncounted(&error, policies)
                        }
                    }
                }
                (Err(refused), _) => refused,
            };
            if let Some(observed) = observed {
                observed.hand_over();
            }
            return verdict;
        }
    }

    /// Makes durable what it takes, and then that it was used.
    async fn take(
        &self,
        question: &Question,
        policies: &[String],
        hold: Option<Hold>,
        still: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), Untaken> {
        let id: ActionId = self.governor.parts.ids.next();
        let missing = || MeteringError::ReservationNotFound { action: id };
        let hold = hold.ok_or_else(|| Untaken::Failed(missing().into()))?;
        self.reserve(id, question, policies, hold, still).await?;
        self.settle(id).await.map_err(Untaken::Failed)
    }

    async fn reserve(
        &self,
        id: ActionId,
        question: &Question,
        policies: &[String],
        hold: Hold,
        still: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), Untaken> {
        let (governor, identity) = (&self.governor, self.bound.identity());
        let body = EgressChecked {
            sandbox_id: self.sandbox.to_string(),
            protocol: self.request.protocol.to_string(),
            destination: self.request.host.clone(),
            port: self.request.port,
            outcome: Checked::Allow,
            reason: None,
            policy_ids: policies.to_vec(),
            charged: Some(Charged {
                action: NETWORK_EGRESS.to_owned(),
                units: hold.data().units,
                cost: hold.cost(),
                overage: hold.data().over,
                delegations: identity.hops.iter().map(|hop| hop.link.id).collect(),
            }),
        };
        let evidence = governor
            .record(
                identity.org,
                &identity.name,
                EGRESS_CHECKED,
                Some(id),
                &body,
            )
            .await
            .map_err(Untaken::Failed)?;
        let meter = &governor.parts.meter;
        let receipt = meter
            .commit_reservation(id, &question.action, hold, Commit::of(evidence), still)
            .await
            .map_err(|error| match error {
                MeteringError::LimitsChanged | MeteringError::Outdated => {
                    Untaken::Void(error.into())
                }
                error => Untaken::Failed(error.into()),
            })?;
        let metrics = &governor.parts.metrics;
        metrics.reservations.inc(ReservationEvent::Granted);
        metrics.reservations_open.inc();
        governor.committed(identity.org, &receipt);
        Ok(())
    }

    async fn settle(&self, id: ActionId) -> Result<(), GovernError> {
        let parts = &self.governor.parts;
        let reservation = parts.meter.reservation(self.bound.identity().org, id);
        let reservation = reservation.ok_or(MeteringError::ReservationNotFound { action: id })?;
        self.governor
            .settle_in_full(&reservation, Settled::AsUsed)
            .await?;
        parts.metrics.reservations.inc(ReservationEvent::Settled);
        parts.metrics.egress.inc(VerdictLabel::Allowed);
        Ok(())
    }
}

/// Why a connection was not counted.
enum Untaken {
    /// What was reserved became void before it was durable: it is to be decided anew.
    Void(GovernError),
    Failed(GovernError),
}

/// What could not be counted does not pass.
fn uncounted(error: &GovernError, policies: Vec<String>) -> EgressVerdict {
    let (code, retry_after) = match error {
        GovernError::Metering(error @ MeteringError::TooManyOpen { .. }) => {
            (refusal::TOO_MANY_OPEN, Some(wait_of(Some(error))))
        }
        error => {
            tracing::warn!(
                code = error.code(),
                error = error as &dyn std::error::Error,
                "a connection could not be counted"
            );
            (error.code(), None)
        }
    };
    EgressVerdict::Refuse {
        code: code.to_owned(),
        message: format!("nothing passes that is not counted, and {error}"),
        policies,
        retry_after,
    }
}
