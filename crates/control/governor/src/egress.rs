//! What leaves a sandbox is decided like everything else, and recorded.
//!
//! Where it counts (`runtime.egress.counted`), a connection is an action of one unit that
//! is over at once: reserved, settled and on record before anything passes.

mod counted;

use std::sync::Arc;

use async_trait::async_trait;
use creto_authz::{
    Action, Bound, CheckRequest, ContextValue, Decision, Hold, PolicyIds, ResourceRef,
};
use creto_consensus::TimestampOracleExt;
use creto_runtime::{
    EgressDecision, EgressEvent, EgressLog, EgressLogError, EgressProtocol, EgressRequest,
    EgressVerdict, SandboxId,
};
use creto_telemetry::{EgressVerdict as VerdictLabel, LeafClass};
use creto_types::Evidence;

use counted::Counting;

use crate::actions::{ahead, over};
use crate::answers::refusal;
use crate::policies::Observed;
use crate::records::{Checked, EGRESS_CHECKED, EgressChecked};
use crate::{Governor, ReasonAnswer};

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

    /// For the candidate policies: connections are live traffic too.
    fn observed(
        &self,
        governor: &Governor,
        bound: &Bound,
        decision: &Decision,
    ) -> Option<Observed> {
        let shadow = &governor.parts.shadow;
        shadow.observed(bound.identity(), None, &self.asks(false), decision)
    }
}

impl GovernedEgress {
    /// For the sandboxes of this governor.
    #[must_use]
    pub const fn new(governor: Arc<Governor>) -> Self {
        Self { governor }
    }

    /// Whether connections count, and this is one: who asks for a name has none yet.
    fn is_counted(&self, request: &EgressRequest) -> bool {
        self.governor.config.egress_counted && request.protocol != EgressProtocol::Dns
    }

    /// What policies and rights say; nothing is taken.
    fn judge(&self, bound: &Bound, question: &Question) -> Decision {
        let question = question.asks(false);
        self.governor.parts.authz.ask(bound, &question)
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
        if self.is_counted(request) {
            let counting = Counting {
                governor: Arc::clone(&self.governor),
                sandbox,
                bound,
                request: request.clone(),
            };
            return counting.carried_through().await;
        }
        let question = Question::of(request);
        let decision = self.judge(&bound, &question);
        if let Some(observed) = question.observed(&self.governor, &bound, &decision) {
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

/// A decision that takes nothing, for the gateway.
fn verdict(decision: Decision, request: &EgressRequest) -> EgressVerdict {
    match allowed(decision, request) {
        Ok((policies, _)) => EgressVerdict::Allow {
            policies,
            on_record: false,
        },
        Err(refused) => refused,
    }
}

/// By which policies it is allowed, and what it reserved; or what the gateway is told.
fn allowed(
    decision: Decision,
    request: &EgressRequest,
) -> Result<(Vec<String>, Option<Hold>), EgressVerdict> {
    let (code, message, policies, retry_after) = match decision {
        Decision::Allow { policies, hold } => return Ok((names(&policies), hold)),
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
    Err(EgressVerdict::Refuse {
        code: code.to_owned(),
        message,
        policies: names(&policies),
        retry_after,
    })
}
