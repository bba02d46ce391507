//! Limits and rates: who may set them, and what is notified.

mod wire;

use std::collections::VecDeque;

use creto_authz::LimitScope;
use creto_metering::{
    Balance, Crossing, DEFAULT_THRESHOLDS, Limit, LimitId, LimitRef, RateId, RateRule, RateScope,
    Scope,
};
use creto_nhi::BudgetPeriod;
use creto_telemetry::LimitNotice;
use creto_types::{Commit, PrincipalName, Quantity, Receipt};
use serde_json::json;

pub use self::wire::{
    LimitAnswer, LimitRequest, LimitSubject, OnExceedName, RateAnswer, RateRequest, RateSubject,
    RemovalAnswer, WindowName,
};
use self::wire::{limit_answer, rate_answer, view_answer};
use crate::delegation::link_id;
use crate::egress::NETWORK_EGRESS;
use crate::idempotency::{Begun, Ticket};
use crate::{BalanceAnswer, Call, Caller, GovernError, Governor, IdempotencyKey, SubjectAnswer};

impl Governor {
    /// Sets a limit, in place of the one with the same scope, event type, measure and
    /// window. Once this returns, no decision uses the old one.
    ///
    /// The owner sets any; an agent one on a delegation that it gave, unless the owner
    /// set that one.
    pub async fn set_limit(
        &self,
        caller: &Caller,
        request: LimitRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<LimitAnswer, GovernError> {
        caller.may(Call::SetLimit, self.now())?;
        self.admit(caller)?;
        self.admit_change(caller)?;
        self.is_counted(request.event.as_deref())?;
        let ticket = match self.begin(caller, key, "limit.set", &request).await? {
            Begun::Replay(answer) => return self.limits_in_force(caller, answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let _one_at_a_time = self.limiting.alone(caller.org()).await;
        let scope = self.limit_scope(caller, &request)?;
        let drafted = self.parts.meter.draft_limit(Limit {
            id: self.parts.ids.next(),
            org: caller.org(),
            scope,
            event: request.event,
            limit: request.limit,
            window: request.window.into(),
            time_zone: request.time_zone.unwrap_or_else(|| "UTC".to_owned()),
            on_exceed: request.on_exceed.into(),
            grace: request.grace,
            thresholds: request
                .thresholds
                .unwrap_or_else(|| DEFAULT_THRESHOLDS.to_vec()),
            set_at: self.now(),
            set_by: caller.name().clone(),
        })?;
        if let Some(known) = self.parts.meter.limit(caller.org(), drafted.id) {
            may_change(caller, &known.set_by)?;
        }
        let mut answer = limit_answer(&drafted);
        answer.warning = self.undeclared(caller, drafted.event.as_deref());
        let evidence = self
            .record(caller.org(), caller.name(), "limit.set", None, &drafted)
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let set = self.parts.meter.set_limit(drafted, commit).await;
        self.finished(caller, &ticket, answer, set)
    }

    /// Ends a limit. Once this returns, no decision uses it.
    pub async fn remove_limit(
        &self,
        caller: &Caller,
        id: LimitId,
        key: Option<IdempotencyKey>,
    ) -> Result<RemovalAnswer, GovernError> {
        caller.may(Call::RemoveLimit, self.now())?;
        self.admit(caller)?;
        self.admit_change(caller)?;
        let ticket = match self.begin(caller, key, "limit.remove", &id).await? {
            Begun::Replay(answer) => return self.limits_in_force(caller, answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let _one_at_a_time = self.limiting.alone(caller.org()).await;
        let missing = GovernError::NotFound { what: "limit" };
        let Some(limit) = self.parts.meter.limit(caller.org(), id) else {
            return Err(missing);
        };
        if !caller.is_human() {
            if !self.gave(caller, &limit.scope) {
                return Err(missing);
            }
            may_change(caller, &limit.set_by)?;
        }
        let answer = RemovalAnswer {
            id: id.to_string(),
            leaf: None,
        };
        let evidence = self
            .record(caller.org(), caller.name(), "limit.removed", None, &limit)
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let removed = self
            .parts
            .meter
            .remove_limit(caller.org(), id, commit)
            .await;
        self.finished(caller, &ticket, answer, removed)
    }

    /// The limits that were set, oldest first. An agent sees those that count what it
    /// does itself, and those on delegations it gave.
    pub fn list_limits(
        &self,
        caller: &Caller,
        after: Option<LimitId>,
        limit: usize,
    ) -> Result<Vec<LimitAnswer>, GovernError> {
        caller.may(Call::ListLimits, self.now())?;
        let meter = &self.parts.meter;
        let views = if caller.is_human() {
            meter.limits(caller.org(), after, limit)
        } else {
            let mut own = meter.limits(caller.org(), after, usize::MAX);
            own.retain(|view| {
                let scope = &view.limit.scope;
                concerns(caller, scope) || self.gave(caller, scope)
            });
            own.truncate(limit);
            own
        };
        Ok(views.into_iter().map(view_answer).collect())
    }

    /// Sets a rate, in place of the one with the same scope and event type. Once this
    /// returns, no decision uses the old one.
    pub async fn set_rate(
        &self,
        caller: &Caller,
        request: RateRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<RateAnswer, GovernError> {
        caller.may(Call::SetRate, self.now())?;
        caller.require_person("set rates")?;
        self.is_counted(request.event.as_deref())?;
        let rate = request.rate()?;
        let ticket = match self.begin(caller, key, "rate.set", &request).await? {
            Begun::Replay(answer) => return self.limits_in_force(caller, answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let _one_at_a_time = self.limiting.alone(caller.org()).await;
        let scope = match request.scope {
            RateSubject::Organization => RateScope::Organization,
            RateSubject::EveryAgent => RateScope::EveryAgent,
            RateSubject::Agent(name) => RateScope::Agent(self.known(caller, name)?),
        };
        let drafted = self.parts.meter.draft_rate(RateRule {
            id: self.parts.ids.next(),
            org: caller.org(),
            scope,
            event: request.event,
            rate,
            set_at: self.now(),
            set_by: caller.name().clone(),
        })?;
        let mut answer = rate_answer(&drafted);
        answer.warning = self.undeclared(caller, drafted.event.as_deref());
        let evidence = self
            .record(caller.org(), caller.name(), "rate.set", None, &drafted)
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let set = self.parts.meter.set_rate(drafted, commit).await;
        self.finished(caller, &ticket, answer, set)
    }

    /// Ends a rate.
    pub async fn remove_rate(
        &self,
        caller: &Caller,
        id: RateId,
        key: Option<IdempotencyKey>,
    ) -> Result<RemovalAnswer, GovernError> {
        caller.may(Call::RemoveRate, self.now())?;
        caller.require_person("remove rates")?;
        let ticket = match self.begin(caller, key, "rate.remove", &id).await? {
            Begun::Replay(answer) => return self.limits_in_force(caller, answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let _one_at_a_time = self.limiting.alone(caller.org()).await;
        let rule = self
            .parts
            .meter
            .rate(caller.org(), id)
            .ok_or(GovernError::NotFound { what: "rate" })?;
        let answer = RemovalAnswer {
            id: id.to_string(),
            leaf: None,
        };
        let evidence = self
            .record(caller.org(), caller.name(), "rate.removed", None, &rule)
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let removed = self.parts.meter.remove_rate(caller.org(), id, commit).await;
        self.finished(caller, &ticket, answer, removed)
    }

    /// The rates that were set, oldest first.
    pub fn list_rates(
        &self,
        caller: &Caller,
        after: Option<RateId>,
        limit: usize,
    ) -> Result<Vec<RateAnswer>, GovernError> {
        caller.may(Call::ListRates, self.now())?;
        caller.require_person("list rates")?;
        let rules = self.parts.meter.rates(caller.org(), after, limit);
        Ok(rules.iter().map(rate_answer).collect())
    }

    /// Records that limits reached their thresholds: once a limit, amount, window and
    /// threshold, whatever restarts come between, in the order they were reached.
    pub(crate) async fn notify_thresholds(&self) -> Result<(), GovernError> {
        let mut due = VecDeque::from(self.parts.meter.crossings());
        while let Some(crossing) = due.pop_front() {
            if let Err(error) = self.notify(&crossing).await {
                due.push_front(crossing);
                self.parts.meter.not_noticed(due);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn notify(&self, crossing: &Crossing) -> Result<(), GovernError> {
        let actor = match (&crossing.agent, &crossing.scope) {
            (Some(agent), _) | (None, LimitScope::Agent(agent)) => agent.clone(),
            (None, LimitScope::Delegation { holder, .. }) => holder.clone(),
            (None, LimitScope::Organization) => self.owner(crossing)?,
        };
        let body = json!({
            "limit_id": crossing.limit,
            "subject": SubjectAnswer::from(&crossing.scope),
            "event": crossing.event,
            "threshold": crossing.threshold,
            "window_start": crossing.window_start,
            "limit": crossing.most,
            "taken": crossing.taken,
        });
        let evidence = self
            .record(crossing.org, &actor, "limit.threshold", None, &body)
            .await?;
        let noted = self
            .parts
            .meter
            .notice(crossing.key(), Commit::of(evidence))
            .await?;
        let Some(receipt) = noted else {
            return Ok(());
        };
        self.committed(crossing.org, &receipt);
        self.parts
            .metrics
            .limit_notices
            .inc(if crossing.threshold < 100 {
                LimitNotice::Approached
            } else {
                LimitNotice::Reached
            });
        let id = match &crossing.limit {
            LimitRef::Set(id) => id.to_string(),
            LimitRef::Budget(link) => link.to_string(),
        };
        tracing::warn!(
            limit = id,
            of = whose(&crossing.scope),
            threshold = crossing.threshold,
            taken = %crossing.taken,
            most = %crossing.most,
            "a limit reached a threshold"
        );
        Ok(())
    }

    fn owner(&self, crossing: &Crossing) -> Result<PrincipalName, GovernError> {
        Ok(self.parts.nhi.owner(crossing.org)?)
    }

    /// Refuses an agent that changes limits too often: everybody's reservations wait
    /// while the ledger is added up.
    fn admit_change(&self, caller: &Caller) -> Result<(), GovernError> {
        if caller.is_human() {
            return Ok(());
        }
        self.parts
            .meter
            .admit_change(caller.org(), caller.name())
            .map_err(|retry_after| GovernError::TooManyRequests { retry_after })
    }

    /// What the limit is set on, if the caller may set one there.
    fn limit_scope(&self, caller: &Caller, request: &LimitRequest) -> Result<Scope, GovernError> {
        match &request.scope {
            LimitSubject::Organization => {
                caller.require_person("set limits of the organization")?;
                Ok(Scope::Organization)
            }
            LimitSubject::Agent(name) => {
                caller.require_person("set limits of agents")?;
                Ok(Scope::Agent(self.known(caller, name.clone())?))
            }
            LimitSubject::Delegation(text) => {
                let id = link_id("scope.delegation", text)?;
                let nhi = &self.parts.nhi;
                let missing = || GovernError::NotFound { what: "delegation" };
                let view = nhi.link(caller.org(), id).ok_or_else(missing)?;
                let link = &view.signed.link;
                let root = nhi
                    .chain(caller.org(), id)?
                    .first()
                    .map_or(id, |hop| hop.link.id);
                let scope = Scope::Delegation {
                    link: id,
                    root,
                    holder: link.delegatee.clone(),
                };
                if !caller.is_human() && !self.gave(caller, &scope) {
                    return Err(missing());
                }
                within_budget(request.window, &request.limit, link.budget.as_ref())?;
                Ok(scope)
            }
        }
    }

    /// Whether the scope is a delegation that the caller gave from the one it acts
    /// under.
    fn gave(&self, caller: &Caller, scope: &Scope) -> bool {
        let Scope::Delegation { link, .. } = scope else {
            return false;
        };
        let view = self.parts.nhi.link(caller.org(), *link);
        view.is_some_and(|view| {
            let link = &view.signed.link;
            link.delegator == *caller.name() && link.parent == caller.link()
        })
    }

    fn known(&self, caller: &Caller, name: PrincipalName) -> Result<PrincipalName, GovernError> {
        match self.parts.nhi.principal(caller.org(), &name) {
            Some(_) => Ok(name),
            None => Err(GovernError::NotFound { what: "principal" }),
        }
    }

    /// What to tell whoever limits an action that nobody may do.
    fn undeclared(&self, caller: &Caller, event: Option<&str>) -> Option<String> {
        let event = event?;
        let policies = self.parts.authz.policies(caller.org());
        let declared = policies.is_some_and(|policies| {
            let actions = &policies.report().actions;
            actions.iter().any(|action| action == event)
        });
        (!declared).then(|| {
            format!(
                "no schema in force declares the action `{event}`; as long as that is so, \
                 nobody may do it and nothing counts here"
            )
        })
    }

    /// The answer of a call that was made before, once what it did is in force: its
    /// outcome may have been open until now.
    async fn limits_in_force<T>(&self, caller: &Caller, answer: T) -> Result<T, GovernError> {
        self.parts.meter.in_force(caller.org()).await?;
        Ok(answer)
    }

    /// Refuses limits and rates of what this server does not count.
    fn is_counted(&self, event: Option<&str>) -> Result<(), GovernError> {
        if event == Some(NETWORK_EGRESS) && !self.config.egress_counted {
            return Err(GovernError::Unsupported {
                message: "this server does not count connections out of sandboxes, so that no \
                          limit or rate of them would be kept; have its configuration say \
                          `runtime.egress.counted = true`, with `runtime.enabled`"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Refuses to leave uncounted what a limit or a rate in force is of. Asked before this
    /// server changes anything.
    pub fn counts_what_is_limited(&self) -> Result<(), GovernError> {
        let counted = self.parts.runtime.is_none() || self.config.egress_counted;
        let limited = self.parts.meter.limiting(NETWORK_EGRESS);
        if counted || limited.is_empty() {
            return Ok(());
        }
        Err(GovernError::Unsupported {
            message: format!(
                "connections out of sandboxes are limited by {}, and the configuration does not \
                 count them: set `runtime.egress.counted = true`, or start once so and remove \
                 what limits them",
                limited.join(", ")
            ),
        })
    }

    fn finished<T: crate::Answer>(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        answer: T,
        done: Result<Receipt, creto_metering::MeteringError>,
    ) -> Result<T, GovernError> {
        ticket.finish(
            answer,
            done.map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }
}

/// Whether a limit counts what the caller does.
fn concerns(caller: &Caller, scope: &Scope) -> bool {
    match scope {
        Scope::Organization => true,
        Scope::Agent(name) => name == caller.name(),
        Scope::Delegation { link, .. } => {
            let hops = &caller.identity().hops;
            hops.iter().any(|hop| hop.link.id == *link)
        }
    }
}

/// What the owner set, agents do not loosen.
fn may_change(caller: &Caller, set_by: &PrincipalName) -> Result<(), GovernError> {
    if caller.is_human() || caller.name() == set_by {
        return Ok(());
    }
    Err(GovernError::forbidden(format!(
        "this limit was set by {set_by}, who alone or the owner may change it"
    )))
}

/// The budget signed into a delegation is the ceiling of what is set on it.
pub(crate) fn within_budget(
    window: WindowName,
    limit: &Quantity,
    budget: Option<&creto_nhi::Budget>,
) -> Result<(), GovernError> {
    let Some(budget) = budget else {
        return Ok(());
    };
    let of_budget = match budget.period {
        BudgetPeriod::Total => WindowName::Total,
        BudgetPeriod::Month => WindowName::Monthly,
        BudgetPeriod::Day => WindowName::Daily,
        BudgetPeriod::Hour => WindowName::Hourly,
    };
    let above = window == of_budget && limit.at_most(&budget.limit) == Some(false);
    if above {
        return Err(GovernError::invalid(
            "limit",
            format!(
                "the delegation's own budget is {budget}; a limit set on it lies at or below that"
            ),
        ));
    }
    Ok(())
}

/// The subject of a limit or a rate, for people.
pub(crate) fn whose(scope: &LimitScope) -> String {
    match scope {
        LimitScope::Delegation { holder, .. } => holder.to_string(),
        LimitScope::Agent(name) => format!("agent {name}"),
        LimitScope::Organization => "the organization".to_owned(),
    }
}

impl From<&LimitScope> for SubjectAnswer {
    fn from(scope: &LimitScope) -> Self {
        let (scope, delegation, principal) = match scope {
            LimitScope::Delegation { link, holder } => {
                ("delegation", Some(link.to_string()), Some(holder.clone()))
            }
            LimitScope::Agent(name) => ("agent", None, Some(name.clone())),
            LimitScope::Organization => ("organization", None, None),
        };
        Self {
            scope: scope.to_owned(),
            delegation,
            principal,
        }
    }
}

impl From<Balance> for BalanceAnswer {
    fn from(balance: Balance) -> Self {
        Self {
            limit: balance.limit,
            used: balance.used,
            reserved: balance.reserved,
            remaining: balance.remaining,
            resets_at: balance.resets_at,
        }
    }
}
