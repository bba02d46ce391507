//! What a human decides.

use std::time::Duration;

use creto_oversight::{
    Filter, OversightError, OversightRequest, RequestId, State, StateName, Verdict,
};
use creto_telemetry::{OversightState, record_action};
use creto_types::{Commit, StoreError};
use serde_json::json;

use crate::idempotency::Begun;
use crate::{Call, Caller, GovernError, Governor, GrantText, IdempotencyKey, OversightAnswer};

impl Governor {
    /// Requests after `after`, oldest first. An agent sees its own.
    pub async fn oversight_requests(
        &self,
        caller: &Caller,
        state: Option<StateName>,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<OversightAnswer>, GovernError> {
        caller.may(Call::ListOversightRequests, self.now())?;
        let filter = Filter {
            agent: (!caller.is_human()).then(|| caller.name().clone()),
            state,
        };
        let requests = self
            .parts
            .oversight
            .list(caller.org(), filter, after, limit)
            .await?;
        Ok(requests
            .into_iter()
            .map(|request| answer(request, caller))
            .collect())
    }

    /// One request. With `wait` the answer comes once it is decided, expired, or
    /// that time has passed.
    pub async fn oversight_request(
        &self,
        caller: &Caller,
        id: RequestId,
        wait: Option<Duration>,
    ) -> Result<OversightAnswer, GovernError> {
        caller.may(Call::GetOversightRequest, self.now())?;
        let missing = || GovernError::NotFound {
            what: "oversight request",
        };
        let service = &self.parts.oversight;
        let request = service.get(caller.org(), id).await?.ok_or_else(missing)?;
        if !visible(&request, caller) {
            return Err(missing());
        }
        record_action(&request.action_id);
        let request = match wait {
            Some(wait) => service
                .wait(caller.org(), id, wait)
                .await?
                .ok_or_else(missing)?,
            None => request,
        };
        // A wait may outlive the caller's authority.
        caller.may(Call::GetOversightRequest, self.now())?;
        Ok(answer(request, caller))
    }

    /// Approves exactly what the request shows: the agent gets a single-use grant
    /// for it. Only a person approves.
    pub async fn approve(
        &self,
        caller: &Caller,
        id: RequestId,
        reason: Option<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<OversightAnswer, GovernError> {
        self.decide_request(caller, id, Verdict::Approve, reason, key)
            .await
    }

    /// Denies the request; the agent can tell this from an expiry.
    pub async fn deny_request(
        &self,
        caller: &Caller,
        id: RequestId,
        reason: Option<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<OversightAnswer, GovernError> {
        self.decide_request(caller, id, Verdict::Deny, reason, key)
            .await
    }

    async fn decide_request(
        &self,
        caller: &Caller,
        id: RequestId,
        verdict: Verdict,
        reason: Option<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<OversightAnswer, GovernError> {
        let call = match verdict {
            Verdict::Approve => Call::ApproveRequest,
            Verdict::Deny => Call::DenyRequest,
        };
        caller.may(call, self.now())?;
        caller.require_person("decide oversight requests")?;
        let (operation, kind, state) = match verdict {
            Verdict::Approve => (
                "oversight.approve",
                "oversight.approved",
                OversightState::Approved,
            ),
            Verdict::Deny => ("oversight.deny", "oversight.denied", OversightState::Denied),
        };
        let ticket = match self.begin(caller, key, operation, &(id, &reason)).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let service = &self.parts.oversight;
        let next = service
            .draft_decision(
                caller.org(),
                id,
                verdict,
                caller.name().clone(),
                reason.clone(),
            )
            .await?;
        record_action(&next.action_id);
        let shown = answer(next.clone(), caller);
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                kind,
                Some(next.action_id),
                &json!({
                    "request_id": id,
                    "action_digest": next.digest.to_string(),
                    "agent": next.held.agent,
                    "reason": reason,
                }),
            )
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&shown)?);
        let committed = service.decide(next, commit).await;
        if committed.is_ok() {
            self.parts.metrics.oversight.inc(state);
            self.parts.metrics.oversight_pending.dec();
        }
        ticket.finish(
            shown,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Shows operators how many requests wait, from the store.
    pub(crate) async fn count_pending(&self) -> Result<(), GovernError> {
        /// Each may carry 64 KiB of arguments.
        const PAGE: usize = 16;
        let mut pending = 0_u64;
        for organization in self.parts.nhi.organizations() {
            let mut after = None;
            loop {
                let filter = Filter {
                    agent: None,
                    state: Some(StateName::Pending),
                };
                let service = &self.parts.oversight;
                let page = service.list(organization.id, filter, after, PAGE).await?;
                pending = pending.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
                after = page.last().map(|request| request.id);
                if page.is_empty() {
                    break;
                }
            }
        }
        self.parts.metrics.oversight_pending.set(pending);
        Ok(())
    }

    pub(crate) fn requested(&self) {
        self.parts.metrics.oversight.inc(OversightState::Pending);
        self.parts.metrics.oversight_pending.inc();
    }

    /// Expires what nobody decided in time.
    pub(crate) async fn expire_requests(&self) -> Result<(), GovernError> {
        /// As many as one sweep takes; the next one goes on. Each may carry 64 KiB
        /// of arguments.
        const BATCH: usize = 32;
        let service = &self.parts.oversight;
        for request in service.due(self.now(), BATCH).await? {
            let evidence = self
                .record(
                    request.org,
                    &request.held.agent,
                    "oversight.expired",
                    Some(request.action_id),
                    &json!({
                        "request_id": request.id,
                        "action_digest": request.digest.to_string(),
                        "delegation": request.link,
                    }),
                )
                .await?;
            let next = service.draft_expiry(&request);
            match service.decide(next, Commit::of(evidence)).await {
                Ok(receipt) => {
                    self.committed(request.org, &receipt);
                    self.parts.metrics.oversight.inc(OversightState::Expired);
                    self.parts.metrics.oversight_pending.dec();
                }
                // Decided in this very moment.
                Err(OversightError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn visible(request: &OversightRequest, caller: &Caller) -> bool {
    caller.is_human() || request.held.agent == *caller.name()
}

/// The request as the caller may see it: the grant is for the agent alone, so
/// that whoever approves cannot act on it.
fn answer(request: OversightRequest, caller: &Caller) -> OversightAnswer {
    let mut answer = OversightAnswer {
        id: request.id.to_string(),
        state: String::new(),
        action_id: request.action_id,
        agent: request.held.agent.clone(),
        chain: request.chain,
        action: request.held.action,
        resource: request.held.resource,
        resource_type: request.held.resource_type,
        context: request.held.context,
        args: request.held.args,
        units: request.held.units,
        digest: request.digest.to_string(),
        cost: request.cost,
        spent: request.spent,
        policy_id: request.held.policy_id,
        policy_digests: request.held.policy_digests,
        created_at: request.created_at,
        expires_at: request.expires_at,
        decided_by: None,
        decided_at: None,
        decision_reason: None,
        grant_expires_at: None,
        grant: None,
        leaf: request.leaf,
    };
    match request.state {
        State::Pending => answer.state = "pending".to_owned(),
        State::Approved {
            by,
            at,
            reason,
            grant,
            grant_expires_at,
        } => {
            let state = if request.used { "used" } else { "approved" };
            answer.state = state.to_owned();
            answer.decided_by = Some(by);
            answer.decided_at = Some(at);
            answer.decision_reason = reason;
            answer.grant_expires_at = Some(grant_expires_at);
            let own = request.held.agent == *caller.name();
            answer.grant = own.then(|| GrantText::from(String::from(grant)));
        }
        State::Denied { by, at, reason } => {
            answer.state = "denied".to_owned();
            answer.decided_by = Some(by);
            answer.decided_at = Some(at);
            answer.decision_reason = reason;
        }
        State::Expired { at } => {
            answer.state = "expired".to_owned();
            answer.decided_at = Some(at);
        }
    }
    answer
}
