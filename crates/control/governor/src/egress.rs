//! What leaves a sandbox is decided like everything else, and recorded.

use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::Audit;
use creto_authz::{
    Action, Authz, Bound, CheckRequest, ContextValue, Decision, PolicyIds, ResourceRef,
};
use creto_consensus::{TimestampOracle, TimestampOracleExt};
use creto_runtime::{
    EgressDecision, EgressEvent, EgressLog, EgressLogError, EgressRequest, EgressVerdict, SandboxId,
};
use creto_telemetry::{EgressVerdict as VerdictLabel, LeafClass, Metrics};
use creto_types::Evidence;

use crate::answers::refusal;
use crate::records::{Checked, EGRESS_CHECKED, EgressChecked};
use crate::{Bindings, PolicyShadow, ReasonAnswer};

/// The action that every connection out of a sandbox is judged as.
pub(crate) const NETWORK_EGRESS: &str = "network_egress";

/// Answers the egress gateway from policy and the sandbox's delegation, and
/// writes what it did to the log as trace.
pub struct GovernedEgress {
    /// Who the running sandboxes are.
    pub bindings: Arc<Bindings>,
    /// Decisions.
    pub authz: Arc<Authz>,
    /// The log.
    pub audit: Arc<Audit>,
    /// The instants of records.
    pub oracle: Arc<dyn TimestampOracle>,
    /// What operators see.
    pub metrics: Arc<Metrics>,
    /// Candidate policies.
    pub shadow: Arc<PolicyShadow>,
}

impl GovernedEgress {
    fn judge(&self, bound: &Bound, request: &EgressRequest) -> EgressVerdict {
        let host = ResourceRef::host(request.host.as_str());
        let question = CheckRequest {
            action: &Action::named(NETWORK_EGRESS),
            resource: &host,
            units: 1,
            reserve: false,
            context: &[
                ("port", ContextValue::Long(i64::from(request.port))),
                ("protocol", ContextValue::Text(request.protocol.as_str())),
            ],
            approval: None,
        };
        let decision = self.authz.ask(bound, &question);
        self.shadow
            .observe(bound.identity(), None, &question, &decision);
        let names =
            |policies: PolicyIds| policies.iter().map(ToString::to_string).collect::<Vec<_>>();
        let refuse = |code: &str, message: String, policies| EgressVerdict::Refuse {
            code: code.to_owned(),
            message,
            policies,
        };
        match decision {
            Decision::Allow { policies, .. } => EgressVerdict::Allow {
                policies: names(policies),
            },
            Decision::Deny { reason, policies } => {
                refuse(reason.code, reason.text, names(policies))
            }
            // A connection cannot wait for a human: the work behind it is what is
            // held, as an action.
            Decision::RequiresOversight { policies, .. } => refuse(
                refusal::NEEDS_APPROVAL,
                format!("connecting to {} needs an approved action", request.host),
                names(policies),
            ),
            Decision::QuotaExceeded { .. } => refuse(
                refusal::BUDGET_EXCEEDED,
                "a budget of the chain does not cover it".to_owned(),
                Vec::new(),
            ),
            Decision::RateLimited { .. } => refuse(
                refusal::RATE_LIMITED,
                "too many connections".to_owned(),
                Vec::new(),
            ),
        }
    }

    async fn write(&self, sandbox: SandboxId, event: &EgressEvent) -> Result<(), EgressLogError> {
        // None: it ended while the gateway was answering it.
        let bound = self
            .bindings
            .get(sandbox)
            .ok_or(EgressLogError::UnknownSandbox)?;
        let identity = bound.identity();
        let at = match self.oracle.next().await {
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
            EgressVerdict::Allow { policies } => (Checked::Allow, None, policies),
            EgressVerdict::Refuse {
                code,
                message,
                policies,
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
        };
        let record = Evidence {
            org: identity.org,
            kind: EGRESS_CHECKED.to_owned(),
            at,
            actor: identity.name.clone(),
            action_id: None,
            body: serde_json::to_value(body).map_err(EgressLogError::unavailable)?,
        };
        self.audit
            .trace(record)
            .await
            .map_err(EgressLogError::unavailable)?;
        self.metrics.leaves.inc(LeafClass::Trace);
        Ok(())
    }
}

#[async_trait]
impl EgressDecision for GovernedEgress {
    async fn decide(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict {
        match self.bindings.get(sandbox) {
            Some(bound) => self.judge(&bound, request),
            None => EgressVerdict::Refuse {
                code: "sandbox_unknown".to_owned(),
                message: "this sandbox is bound to no agent".to_owned(),
                policies: Vec::new(),
            },
        }
    }
}

#[async_trait]
impl EgressLog for GovernedEgress {
    async fn record(&self, sandbox: SandboxId, event: EgressEvent) -> Result<(), EgressLogError> {
        let written = self.write(sandbox, &event).await;
        // What is not on record does not pass.
        let passes = event.verdict.is_allow() && written.is_ok();
        self.metrics.egress.inc(if passes {
            VerdictLabel::Allowed
        } else {
            VerdictLabel::Refused
        });
        written
    }
}
