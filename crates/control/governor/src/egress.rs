//! What leaves a sandbox is decided like everything else, and recorded.
//!
//! Where it counts (`runtime.egress.counted`), a connection is an action of one unit that
//! is over at once: reserved, settled and on record before anything passes.

use std::sync::Arc;

use async_trait::async_trait;
use creto_authz::{
    Action, Bound, CheckRequest, ContextValue, Decision, Hold, PolicyIds, ResourceRef,
};
use creto_consensus::TimestampOracleExt;
use creto_errors::Classify as _;
use creto_metering::MeteringError;
use creto_runtime::{
    EgressDecision, EgressEvent, EgressLog, EgressLogError, EgressProtocol, EgressRequest,
    EgressVerdict, SandboxId,
};
use creto_telemetry::{EgressVerdict as VerdictLabel, LeafClass, ReservationEvent};
use creto_types::{ActionId, Commit, Evidence};

use crate::actions::{DECIDED_ANEW, ahead, over};
use crate::answers::refusal;
use crate::policies::Observed;
use crate::records::{Charged, Checked, EGRESS_CHECKED, EgressChecked};
use crate::settlement::SETTLED_ANEW;
use crate::{GovernError, Governor, ReasonAnswer};

/// The action that every connection out of a sandbox is judged as.
pub const NETWORK_EGRESS: &str = "network_egress";

/// Answers the egress gateway from policy and the sandbox's delegation, and writes what
/// it did to the log: as trace, or as evidence where it counts.
pub struct GovernedEgress {
    governor: Arc<Governor>,
}

/// One question of the gateway, as the decision point is asked it.
struct Question {
    action: Action,
    host: ResourceRef,
    context: [(&'static str, ContextValue<'static>); 2],
}

impl Question {
    fn of(request: &EgressRequest) -> Self {
        Self {
            action: Action::named(NETWORK_EGRESS),
            host: ResourceRef::host(request.host.as_str()),
            context: [
                ("port", ContextValue::Long(i64::from(request.port))),
                ("protocol", ContextValue::Text(request.protocol.as_str())),
            ],
        }
    }

    fn asks(&self, reserve: bool) -> CheckRequest<'_> {
        CheckRequest {
            action: &self.action,
            resource: &self.host,
            units: 1,
            reserve,
            context: &self.context,
            approval: None,
        }
    }
}

impl GovernedEgress {
    /// For the sandboxes of this governor.
    #[must_use]
    pub const fn new(governor: Arc<Governor>) -> Self {
        Self { governor }
    }

    /// What policies and rights say; nothing is taken.
    fn judge(&self, bound: &Bound, question: &Question) -> Decision {
        let question = question.asks(false);
        self.governor.parts.authz.ask(bound, &question)
    }

    /// For the candidate policies: connections are live traffic too.
    fn observed(
        &self,
        bound: &Bound,
        question: &Question,
        decision: &Decision,
    ) -> Option<Observed> {
        let shadow = &self.governor.parts.shadow;
        shadow.observed(bound.identity(), None, &question.asks(false), decision)
    }

    /// Whether connections count, and this is one: who asks for a name has none yet.
    fn counts(&self, request: &EgressRequest) -> bool {
        self.governor.config.egress_counted && request.protocol != EgressProtocol::Dns
    }

    /// Decides, and counts what is allowed: it is durable when this returns.
    async fn count(
        &self,
        sandbox: SandboxId,
        bound: &Bound,
        request: &EgressRequest,
    ) -> EgressVerdict {
        let question = Question::of(request);
        let authz = &self.governor.parts.authz;
        let mut again = 0..DECIDED_ANEW;
        let mut counted = None;
        loop {
            let bound = counted.as_ref().unwrap_or(bound);
            let epoch = bound.epoch();
            let decision = authz.ask(bound, &question.asks(true));
            let observed = self.observed(bound, &question, &decision);
            let answer = match decision {
                Decision::Allow {
                    policies,
                    hold: Some(hold),
                } => {
                    let policies = names(&policies);
                    let (authz, deciding) = (Arc::clone(authz), bound.clone());
                    let still = move || authz.still(&deciding, epoch);
                    let taken = self.take((sandbox, bound, request), &policies, hold, still);
                    match taken.await {
                        Ok(()) => EgressVerdict::Allow {
                            policies,
                            on_record: true,
                        },
                        Err(error) if is_void(&error) && again.next().is_some() => {
                            // Rates counted the call when it reserved what is void now.
                            counted = Some(bound.again());
                            continue;
                        }
                        Err(error) => uncounted(&error, policies),
                    }
                }
                decision => verdict(decision, request),
            };
            if let Some(observed) = observed {
                observed.hand_over();
            }
            return answer;
        }
    }

    /// Makes what a connection takes durable, and that it was used.
    async fn take(
        &self,
        (sandbox, bound, request): (SandboxId, &Bound, &EgressRequest),
        policies: &[String],
        hold: Hold,
        still: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), GovernError> {
        let governor = &self.governor;
        let parts = &governor.parts;
        let identity = bound.identity();
        let (org, id): (_, ActionId) = (identity.org, parts.ids.next());
        let hops = identity.hops.iter();
        let body = EgressChecked {
            sandbox_id: sandbox.to_string(),
            protocol: request.protocol.to_string(),
            destination: request.host.clone(),
            port: request.port,
            outcome: Checked::Allow,
            reason: None,
            policy_ids: policies.to_vec(),
            charged: Some(Charged {
                units: hold.data().units,
                cost: hold.cost(),
                overage: hold.data().over,
                delegations: hops.map(|hop| hop.link.id).collect(),
            }),
        };
        let evidence = governor
            .record(org, &identity.name, EGRESS_CHECKED, Some(id), &body)
            .await?;
        let action = Action::named(NETWORK_EGRESS);
        let commit = Commit::of(evidence);
        let receipt = parts
            .meter
            .commit_reservation(id, &action, hold, commit, still)
            .await?;
        parts.metrics.reservations.inc(ReservationEvent::Granted);
        parts.metrics.reservations_open.inc();
        governor.committed(org, &receipt);
        let reservation = parts.meter.reservation(org, id);
        let reservation = reservation.ok_or(MeteringError::ReservationNotFound { action: id })?;
        let mut again = 0..SETTLED_ANEW;
        loop {
            match governor.settle_in_full(&reservation, false).await {
                Err(GovernError::Metering(MeteringError::LimitsChanged))
                    if again.next().is_some() => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        parts.metrics.reservations.inc(ReservationEvent::Settled);
        parts.metrics.egress.inc(VerdictLabel::Allowed);
        Ok(())
    }

    async fn write(&self, sandbox: SandboxId, event: &EgressEvent) -> Result<(), EgressLogError> {
        let parts = &self.governor.parts;
        // None: it ended while the gateway was answering it.
        let bound = parts
            .bindings
            .get(sandbox)
            .ok_or(EgressLogError::UnknownSandbox)?;
        let identity = bound.identity();
        let at = match parts.oracle.next().await {
            Ok(at) => at.to_instant(),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an egress record takes the gateway's own time"
                );
                event.at
            }
        };
        let (outcome, reason, policies) = match &event.verdict {
            EgressVerdict::Allow { policies, .. } => (Checked::Allow, None, policies),
            EgressVerdict::Refuse {
                code,
                message,
                policies,
                ..
            } => {
                let reason = ReasonAnswer {
                    code: code.clone(),
                    message: message.clone(),
                };
                (Checked::Refuse, Some(reason), policies)
            }
        };
        let body = EgressChecked {
            sandbox_id: sandbox.to_string(),
            protocol: event.protocol.to_string(),
            destination: event.destination.clone(),
            port: event.port,
            outcome,
            reason,
            policy_ids: policies.clone(),
            charged: None,
        };
        let record = Evidence {
            org: identity.org,
            kind: EGRESS_CHECKED.to_owned(),
            at,
            actor: identity.name.clone(),
            action_id: None,
            body: serde_json::to_value(body).map_err(EgressLogError::unavailable)?,
        };
        parts
            .audit
            .trace(record)
            .await
            .map_err(EgressLogError::unavailable)?;
        parts.metrics.leaves.inc(LeafClass::Trace);
        Ok(())
    }
}

#[async_trait]
impl EgressDecision for GovernedEgress {
    async fn decide(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict {
        let Some(bound) = self.governor.parts.bindings.get(sandbox) else {
            return unbound();
        };
        if self.counts(request) {
            return self.count(sandbox, &bound, request).await;
        }
        let question = Question::of(request);
        let decision = self.judge(&bound, &question);
        if let Some(observed) = self.observed(&bound, &question, &decision) {
            observed.hand_over();
        }
        verdict(decision, request)
    }

    async fn decide_again(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict {
        match self.governor.parts.bindings.get(sandbox) {
            Some(bound) => verdict(self.judge(&bound, &Question::of(request)), request),
            None => unbound(),
        }
    }
}

#[async_trait]
impl EgressLog for GovernedEgress {
    async fn record(&self, sandbox: SandboxId, event: EgressEvent) -> Result<(), EgressLogError> {
        let written = self.write(sandbox, &event).await;
        // What is not on record does not pass.
        let passes = event.verdict.is_allow() && written.is_ok();
        self.governor.parts.metrics.egress.inc(if passes {
            VerdictLabel::Allowed
        } else {
            VerdictLabel::Refused
        });
        written
    }
}

fn names(policies: &PolicyIds) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}

fn unbound() -> EgressVerdict {
    EgressVerdict::Refuse {
        code: "sandbox_unknown".to_owned(),
        message: "this sandbox is bound to no agent".to_owned(),
        policies: Vec::new(),
        retry_after: None,
    }
}

/// A decision, for the gateway.
fn verdict(decision: Decision, request: &EgressRequest) -> EgressVerdict {
    let (code, message, policies, retry_after) = match decision {
        Decision::Allow { policies, .. } => {
            return EgressVerdict::Allow {
                policies: names(&policies),
                on_record: false,
            };
        }
        Decision::Deny { reason, policies } => (reason.code, reason.text, policies, None),
        // A connection cannot wait for a human: the work behind it is what is held, as an
        // action.
        Decision::RequiresOversight { policies, .. } => (
            refusal::NEEDS_APPROVAL,
            format!("connecting to {} needs an approved action", request.host),
            policies,
            None,
        ),
        Decision::QuotaExceeded { exceeded, policies } => {
            let (code, message) = over(&exceeded);
            (code, message, policies, exceeded.retry_after)
        }
        Decision::RateLimited { too_fast, policies } => {
            let wait = Some(too_fast.retry_after);
            (refusal::RATE_LIMITED, ahead(&too_fast), policies, wait)
        }
    };
    EgressVerdict::Refuse {
        code: code.to_owned(),
        message,
        policies: names(&policies),
        retry_after,
    }
}

/// Whether what was reserved became void before it was durable.
const fn is_void(error: &GovernError) -> bool {
    matches!(
        error,
        GovernError::Metering(MeteringError::LimitsChanged | MeteringError::Outdated)
    )
}

/// What could not be counted does not pass.
fn uncounted(error: &GovernError, policies: Vec<String>) -> EgressVerdict {
    let (code, retry_after) = match error {
        GovernError::Metering(MeteringError::TooManyOpen { retry_after, .. }) => {
            (refusal::TOO_MANY_OPEN, Some(*retry_after))
        }
        error => {
            tracing::error!(
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
