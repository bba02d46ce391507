//! One governed action: decided, and held when a human must look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use creto_authz::{
    Action, Approval, CheckRequest, Decision, DenyReason, Exceeded, HeldBy, Hold, PolicyId,
    ResourceRef, TooFast,
};
use creto_crypto::sha256;
use creto_errors::Classify as _;
use creto_metering::MeteringError;
use creto_oversight::{GrantError, Granted, HeldAction, NewRequest, OversightError};
use creto_telemetry::{DecisionOutcome, ReservationEvent, record_action};
use creto_types::{ActionId, Commit, Evidence, StoreError, canonical_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::answers::refusal;
use crate::facts::{ContextJson, ResourceJson, context_values, texts, validate_context};
use crate::idempotency::{Begun, Ticket};
use crate::limits::whose;
use crate::records::ACTION_DECIDED;
use crate::{
    ActionAnswer, Call, Caller, GovernError, Governor, GrantText, IdempotencyKey, OutcomeKind,
    OversightNeeded, QuotaAnswer, RateExceededAnswer, ReasonAnswer,
};

/// The most bytes of canonical JSON that an action's arguments may take: they
/// are stored, shown to a human and digested as a whole.
const MAX_ARGS_BYTES: usize = 64 * 1024;

/// The most bytes of an action's or a resource's name.
const MAX_NAME_BYTES: usize = 512;

/// The most units of one action; keeps every price far from overflow.
pub(crate) const MAX_UNITS: u64 = 1_000_000_000;

/// How often one call is decided anew because a limit was set meanwhile, or what it
/// was decided by ended.
pub(crate) const DECIDED_ANEW: usize = 8;

/// A governed action, asked for before it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// What, for example `release.publish`.
    pub action: String,
    /// To what, for example `repo:creto`; a resource of a type of your own is
    /// `{"type": "Ticket", "id": "42"}`.
    pub resource: ResourceJson,
    /// What the action's context declares beside what the decision fills in. It
    /// stands in the log as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, ContextJson>,
    /// With exactly these arguments; an approval is bound to them.
    #[serde(default)]
    pub args: Value,
    /// How many units it is expected to use; 1 when absent.
    #[serde(default = "one")]
    pub units: u64,
    /// The single-use grant of an approved oversight request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantText>,
}

const fn one() -> u64 {
    1
}

/// Refuses names that no action, resource or policy has.
pub(crate) fn check_name(field: &'static str, text: &str) -> Result<(), GovernError> {
    let printable = text.chars().all(|c| !c.is_control());
    if (1..=MAX_NAME_BYTES).contains(&text.len()) && printable {
        return Ok(());
    }
    Err(GovernError::invalid(
        field,
        format!("1 to {MAX_NAME_BYTES} bytes without control characters are expected"),
    ))
}

/// Refuses what no action uses.
pub(crate) fn check_units(units: u64) -> Result<(), GovernError> {
    if (1..=MAX_UNITS).contains(&units) {
        return Ok(());
    }
    Err(GovernError::invalid(
        "units",
        format!("1 to {MAX_UNITS} units are expected"),
    ))
}

impl ActionRequest {
    /// Whether it can be submitted at all: names, units and the size of the
    /// arguments are within their bounds.
    pub fn validate(&self) -> Result<(), GovernError> {
        check_name("action", &self.action)?;
        check_name("resource", self.resource.id())?;
        if let Some(kind) = self.resource.kind() {
            check_name("resource.type", kind)?;
        }
        validate_context(&self.context)?;
        check_units(self.units)?;
        let size = canonical_json(&self.args)?.len();
        if size > MAX_ARGS_BYTES {
            return Err(GovernError::invalid(
                "args",
                format!("{size} bytes as canonical JSON; at most {MAX_ARGS_BYTES} are allowed"),
            ));
        }
        Ok(())
    }

    /// This action as it is held; by `None` where that is ignored.
    fn held(&self, caller: &Caller, by: Option<&HeldBy>) -> Result<HeldAction, GovernError> {
        let resource = self.resource.to_ref();
        let context = match serde_json::to_value(&self.context).map_err(GovernError::Encoding)? {
            Value::Object(context) => context,
            _ => Map::default(),
        };
        Ok(HeldAction {
            org: caller.org(),
            agent: caller.name().clone(),
            action: self.action.clone(),
            resource: resource.id,
            resource_type: (resource.kind != ResourceRef::RESOURCE).then_some(resource.kind),
            context,
            args: self.args.clone(),
            units: self.units,
            policy_id: by.map(|by| by.policy_id().to_string()).unwrap_or_default(),
            policy_digests: by
                .into_iter()
                .flat_map(HeldBy::digests)
                .map(|(id, digest)| (id.to_string(), digest.to_owned()))
                .collect(),
        })
    }
}

/// One decision on its way to the log.
struct Submission<'a> {
    caller: &'a Caller,
    request: &'a ActionRequest,
    id: ActionId,
    ticket: &'a Ticket,
    /// The approval it came with, if that covers exactly this action.
    grant: Option<&'a Granted>,
}

impl Governor {
    /// Decides one action. Every outcome is an answer and a record of the log;
    /// errors are for requests that could not be judged at all.
    ///
    /// An allowed action holds a durable reservation on every budget of the chain
    /// when this returns.
    pub async fn submit(
        &self,
        caller: &Caller,
        request: ActionRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<ActionAnswer, GovernError> {
        caller.allowed(Call::SubmitAction)?;
        request.validate()?;
        if let Err(wait) = self.parts.meter.admit(caller.org(), caller.name()) {
            return Ok(self.unheard(wait));
        }
        let ticket = match self.begin(caller, key, "action.submit", &request).await {
            Ok(Begun::Replay(answer)) => return Ok(answer),
            Ok(Begun::Fresh(ticket)) => ticket,
            // A reply that was an allow once is not repeated to whoever lost its
            // authority since: it is denied.
            Err(GovernError::Identity(_)) => Ticket::without_key(caller),
            Err(error) => return Err(error),
        };
        let id = self.parts.ids.next();
        record_action(&id);
        let granted = self.granted(caller, &request).await?;
        let submission = Submission {
            caller,
            request: &request,
            id,
            ticket: &ticket,
            grant: granted.as_ref().ok().and_then(Option::as_ref),
        };
        let answer = match granted {
            Ok(_) => self.decide(&submission).await?,
            Err(ref reason) => self.deny(&submission, reason.clone(), &[]).await?,
        };
        self.parts.metrics.decisions.inc(match answer.outcome {
            OutcomeKind::Allow => DecisionOutcome::Allow,
            OutcomeKind::Deny => DecisionOutcome::Deny,
            OutcomeKind::RequiresOversight => DecisionOutcome::RequiresOversight,
            OutcomeKind::QuotaExceeded => DecisionOutcome::QuotaExceeded,
            OutcomeKind::RateLimited => DecisionOutcome::RateLimited,
        });
        tracing::info!(
            action_id = %answer.action_id,
            outcome = answer.outcome.as_str(),
            code = answer.reason.code,
            "action decided"
        );
        Ok(answer)
    }

    /// The answer to a caller that asks too often to be judged: it costs no
    /// record, or asking alone could fill the disk.
    fn unheard(&self, wait: Duration) -> ActionAnswer {
        self.parts
            .metrics
            .decisions
            .inc(DecisionOutcome::RateLimited);
        ActionAnswer {
            action_id: self.parts.ids.next(),
            outcome: OutcomeKind::RateLimited,
            reason: ReasonAnswer {
                code: refusal::TOO_MANY_QUESTIONS.to_owned(),
                message: format!("too many questions, whatever the answers; try again in {wait:?}"),
            },
            policy_ids: Vec::new(),
            cost: None,
            reserved_until: None,
            oversight: None,
            overage: false,
            quota: None,
            rate: None,
            retry_after_ms: Some(millis_up(wait)),
            leaf: None,
        }
    }

    /// The grant that came with the request, if it covers exactly this action.
    async fn granted(
        &self,
        caller: &Caller,
        request: &ActionRequest,
    ) -> Result<Result<Option<Granted>, DenyReason>, GovernError> {
        let Some(grant) = &request.grant else {
            return Ok(Ok(None));
        };
        let held = request.held(caller, None)?;
        let checked = self
            .parts
            .oversight
            .check_grant(
                caller.org(),
                grant.as_str(),
                caller.name(),
                caller.link_text().as_deref(),
                &held,
            )
            .await;
        match checked {
            Ok(granted) => Ok(Ok(Some(granted))),
            // The question could not be asked or answered.
            Err(error @ (GrantError::Action(_) | GrantError::Store(_))) => Err(error.into()),
            Err(refusal) => Ok(Err(DenyReason {
                code: refusal.code(),
                text: refusal.to_string(),
            })),
        }
    }

    async fn decide(&self, submission: &Submission<'_>) -> Result<ActionAnswer, GovernError> {
        let request = submission.request;
        let resource = request.resource.to_ref();
        let texts = texts(request.context.values());
        let context = context_values(request.context.iter(), &texts);
        let approval = submission.grant.map(|grant| {
            let digests = grant.policy_digests.iter();
            let held_by = digests.map(|(id, digest)| (PolicyId::from(id.as_str()), digest.clone()));
            Approval::Given {
                held_by: held_by.collect(),
                oversight: grant.oversight.clone(),
            }
        });
        let action = Action::named(&request.action);
        let bound = submission.caller.bound();
        let question = CheckRequest {
            action: &action,
            resource: &resource,
            units: request.units,
            reserve: true,
            context: &context,
            approval: approval.as_ref(),
        };
        let mut again = 0..DECIDED_ANEW;
        let mut counted = None;
        loop {
            let bound = counted.as_ref().unwrap_or(bound);
            let epoch = bound.epoch();
            // What there is no room for is not reserved, so that no rate counts it.
            let (agent, org) = (submission.caller.name(), submission.caller.org());
            let crowded = self.parts.meter.room(org, agent).err();
            let decision = match crowded {
                None => self.parts.authz.ask(bound, &question),
                Some(_) => self.parts.authz.would(bound, &question),
            };
            let observed = self.parts.shadow.observed(
                bound.identity(),
                Some(submission.id),
                &question,
                &decision,
            );
            let answered = match (decision, crowded) {
                (Decision::Allow { policies, .. }, Some(error)) => {
                    self.crowded(submission, error, &policies).await
                }
                (
                    Decision::Allow {
                        policies,
                        hold: Some(hold),
                    },
                    None,
                ) => {
                    let (authz, bound) = (Arc::clone(&self.parts.authz), bound.clone());
                    let still = move || authz.still(&bound, epoch);
                    self.allow(submission, &policies, &action, hold, still)
                        .await
                }
                (other, crowded) => self.answer_refusal(submission, other, crowded).await,
            };
            match answered {
                Err(GovernError::Metering(
                    MeteringError::LimitsChanged | MeteringError::Outdated,
                )) if again.next().is_some() => {
                    // Rates counted the call when it reserved what is void now.
                    counted = Some(bound.again());
                }
                answered => {
                    if let Some(observed) = observed {
                        observed.hand_over();
                    }
                    return answered;
                }
            }
        }
    }

    /// Answers what reserves nothing. Where there is no room for it either, it waits for
    /// both.
    async fn answer_refusal(
        &self,
        submission: &Submission<'_>,
        decision: Decision,
        crowded: Option<MeteringError>,
    ) -> Result<ActionAnswer, GovernError> {
        match decision {
            // Asked to reserve, a check that allows has done so.
            Decision::Allow { .. } => {
                Err(GovernError::Metering(MeteringError::ReservationNotFound {
                    action: submission.id,
                }))
            }
            Decision::Deny { reason, policies } => self.deny(submission, reason, &policies).await,
            Decision::RequiresOversight {
                held_by,
                oversight,
                policies,
            } => self.hold(submission, &held_by, oversight, &policies).await,
            Decision::QuotaExceeded { exceeded, policies } => {
                let exceeded = later(*exceeded, crowded.as_ref());
                self.quota(submission, exceeded, &policies).await
            }
            Decision::RateLimited { too_fast, policies } => {
                let mut answer = submission.answer(
                    OutcomeKind::RateLimited,
                    refusal::RATE_LIMITED,
                    ahead(&too_fast),
                    &policies,
                );
                let retry_after = too_fast.retry_after.max(wait_of(crowded.as_ref()));
                answer.retry_after_ms = Some(millis_up(retry_after));
                answer.rate = Some(RateExceededAnswer::from(*too_fast));
                self.refuse(submission, answer).await
            }
        }
    }

    /// Makes the reservation durable together with its evidence, the reply and
    /// the use of the grant; `still` is whether the decision holds at the last moment.
    async fn allow(
        &self,
        submission: &Submission<'_>,
        policies: &[PolicyId],
        action: &Action,
        hold: Hold,
        still: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<ActionAnswer, GovernError> {
        let org = submission.caller.org();
        let meter = &self.parts.meter;
        let message = match submission.grant {
            Some(grant) => format!("permitted, as approved in {}", grant.request_id),
            None => "permitted".to_owned(),
        };
        let mut answer = submission.answer(OutcomeKind::Allow, "permitted", message, policies);
        answer.cost = hold.cost();
        answer.overage = hold.data().over;
        answer.reserved_until = Some(meter.reserved_until(&hold));
        let commit = self.decision_commit(submission, &answer).await?;
        let committed = meter.commit_reservation(submission.id, action, hold, commit, still);
        match committed.await {
            Ok(receipt) => {
                let metrics = &self.parts.metrics;
                metrics.reservations.inc(ReservationEvent::Granted);
                metrics.reservations_open.inc();
                answer.leaf = self.committed(org, &receipt);
                Ok(answer)
            }
            Err(MeteringError::Store(StoreError::AlreadyClaimed { .. })) => {
                let reason = DenyReason {
                    code: "grant_used",
                    text: "this grant was already used; ask again for another one".to_owned(),
                };
                self.deny(submission, reason, &[]).await
            }
            Err(error @ MeteringError::TooManyOpen { .. }) => {
                self.crowded(submission, error, policies).await
            }
            Err(error) => submission.ticket.finish(answer, Err(error.into())),
        }
    }

    /// Refuses what would be one open reservation too many.
    async fn crowded(
        &self,
        submission: &Submission<'_>,
        error: MeteringError,
        policies: &[PolicyId],
    ) -> Result<ActionAnswer, GovernError> {
        let mut answer = submission.answer(
            OutcomeKind::RateLimited,
            refusal::TOO_MANY_OPEN,
            error.to_string(),
            policies,
        );
        (answer.rate, answer.retry_after_ms) = crowd(&error);
        self.refuse(submission, answer).await
    }

    async fn deny(
        &self,
        submission: &Submission<'_>,
        reason: DenyReason,
        policies: &[PolicyId],
    ) -> Result<ActionAnswer, GovernError> {
        let answer = submission.answer(OutcomeKind::Deny, reason.code, reason.text, policies);
        self.refuse(submission, answer).await
    }

    async fn quota(
        &self,
        submission: &Submission<'_>,
        exceeded: Exceeded,
        policies: &[PolicyId],
    ) -> Result<ActionAnswer, GovernError> {
        let (code, message) = over(&exceeded);
        let mut answer = submission.answer(OutcomeKind::QuotaExceeded, code, message, policies);
        answer.retry_after_ms = exceeded.retry_after.map(millis_up);
        answer.quota = Some(QuotaAnswer::from(exceeded));
        self.refuse(submission, answer).await
    }

    /// Records an outcome that reserves nothing.
    async fn refuse(
        &self,
        submission: &Submission<'_>,
        answer: ActionAnswer,
    ) -> Result<ActionAnswer, GovernError> {
        let org = submission.caller.org();
        let commit = self.decision_commit(submission, &answer).await?;
        let committed = self.commit(commit).await;
        submission.ticket.finish(
            answer,
            committed.map(|receipt| self.committed(org, &receipt)),
        )
    }

    /// Opens a request for a human, or points to the one that already waits for
    /// the same action.
    async fn hold(
        &self,
        submission: &Submission<'_>,
        held_by: &HeldBy,
        oversight: String,
        policies: &[PolicyId],
    ) -> Result<ActionAnswer, GovernError> {
        let caller = submission.caller;
        let held = submission.request.held(caller, Some(held_by))?;
        let digest = held.digest()?;
        let service = &self.parts.oversight;
        if let Some(waiting) = service
            .find_pending(
                caller.org(),
                caller.name(),
                caller.link_text().as_deref(),
                &digest,
            )
            .await?
        {
            let answer = self.needs_human(submission, &waiting, policies);
            return self.refuse(submission, answer).await;
        }
        let request = service.draft_request(NewRequest {
            action_id: submission.id,
            held,
            link: caller.link_text(),
            chain: caller.chain(),
            cost: Some(self.price(&submission.request.action, submission.request.units)?),
            spent: self.spent(caller),
            oversight,
        })?;
        let answer = self.needs_human(submission, &request, policies);
        let commit = self.decision_commit(submission, &answer).await?;
        match service.create(request, commit).await {
            Ok(receipt) => {
                self.requested();
                submission
                    .ticket
                    .finish(answer, Ok(self.committed(caller.org(), &receipt)))
            }
            // The same action was held by a concurrent call.
            Err(OversightError::Store(StoreError::Conflict { .. })) => {
                let waiting = service
                    .find_pending(
                        caller.org(),
                        caller.name(),
                        caller.link_text().as_deref(),
                        &digest,
                    )
                    .await?
                    .ok_or(StoreError::Conflict {
                        what: "oversight request",
                    })?;
                let answer = self.needs_human(submission, &waiting, policies);
                self.refuse(submission, answer).await
            }
            Err(error) => submission.ticket.finish(answer, Err(error.into())),
        }
    }

    fn needs_human(
        &self,
        submission: &Submission<'_>,
        request: &creto_oversight::OversightRequest,
        policies: &[PolicyId],
    ) -> ActionAnswer {
        let mut answer = submission.answer(
            OutcomeKind::RequiresOversight,
            refusal::NEEDS_APPROVAL,
            format!("a human has to approve this; the request is {}", request.id),
            policies,
        );
        answer.oversight = Some(OversightNeeded {
            request_id: request.id.to_string(),
            url: self.approver_page(&request.id.to_string()),
            digest: request.digest.to_string(),
            expires_at: request.expires_at,
        });
        answer
    }

    async fn decision_commit(
        &self,
        submission: &Submission<'_>,
        answer: &ActionAnswer,
    ) -> Result<Commit, GovernError> {
        let evidence = self.decision_record(submission, answer).await?;
        let mut commit = Commit::of(evidence);
        // What time mends is not repeated: with the same key it is decided anew.
        let mended = matches!(
            answer.outcome,
            OutcomeKind::QuotaExceeded | OutcomeKind::RateLimited
        );
        if !mended {
            commit = commit.with_idempotency(submission.ticket.record(answer)?);
        }
        // An approval that a refusal left unused can be used later.
        if let Some(grant) = submission.grant
            && answer.outcome == OutcomeKind::Allow
        {
            commit = commit.with_claim(grant.claim.clone());
        }
        Ok(commit)
    }

    async fn decision_record(
        &self,
        submission: &Submission<'_>,
        answer: &ActionAnswer,
    ) -> Result<Evidence, GovernError> {
        let caller = submission.caller;
        let request = submission.request;
        let hops: Vec<String> = caller
            .identity()
            .hops
            .iter()
            .map(|hop| hop.link.id.to_string())
            .collect();
        let mut body = json!({
            "action": request.action,
            "resource": ResourceJson::from(&request.resource.to_ref()),
            "args_sha256": hex::encode(sha256(&canonical_json(&request.args)?)),
            "units": request.units,
            "delegations": hops,
            "outcome": answer.outcome,
            "reason": answer.reason,
            "policy_ids": answer.policy_ids,
            "cost": answer.cost,
            "overage": answer.overage,
            "quota": answer.quota,
            "oversight_request": answer.oversight.as_ref()
                .map(|needed| needed.request_id.clone())
                .or_else(|| submission.grant.map(|grant| grant.request_id.to_string())),
            "action_digest": answer.oversight.as_ref().map(|needed| needed.digest.clone()),
        });
        if let Some(body) = body.as_object_mut().filter(|_| !request.context.is_empty()) {
            body.insert("context".to_owned(), json!(request.context));
        }
        if let (Some(body), Some(instance)) = (body.as_object_mut(), caller.identity().instance()) {
            body.insert("instance".to_owned(), json!(instance));
        }
        self.record(
            caller.org(),
            caller.name(),
            ACTION_DECIDED,
            Some(submission.id),
            &body,
        )
        .await
    }
}

impl Submission<'_> {
    fn answer(
        &self,
        outcome: OutcomeKind,
        code: &str,
        message: String,
        policies: &[PolicyId],
    ) -> ActionAnswer {
        ActionAnswer {
            action_id: self.id,
            outcome,
            reason: ReasonAnswer {
                code: code.to_owned(),
                message,
            },
            policy_ids: policies.iter().map(ToString::to_string).collect(),
            cost: None,
            reserved_until: None,
            oversight: None,
            overage: false,
            quota: None,
            rate: None,
            retry_after_ms: None,
            leaf: None,
        }
    }
}

/// The code and the words of a limit that does not suffice.
pub(crate) fn over(exceeded: &Exceeded) -> (&'static str, String) {
    let resets = match exceeded.resets_at {
        Some(at) => format!("it starts anew at {at}"),
        None => "it does not start anew".to_owned(),
    };
    let (code, what) = if exceeded.is_budget {
        (refusal::BUDGET_EXCEEDED, "budget")
    } else {
        (refusal::LIMIT_EXCEEDED, "limit")
    };
    let event = of_event(exceeded.event.as_deref());
    let message = format!(
        "the {what} of {}{event} is {}; {} is used or reserved ({} only reserved) and this \
         takes {}; {resets}",
        whose(&exceeded.scope),
        exceeded.limit,
        exceeded.used,
        exceeded.reserved,
        exceeded.requested
    );
    (code, message)
}

/// The words of a rate that is kept to.
pub(crate) fn ahead(too_fast: &TooFast) -> String {
    format!(
        "too many actions of {}{}; try again in {:?}",
        whose(&too_fast.scope),
        of_event(too_fast.event.as_deref()),
        too_fast.retry_after
    )
}

fn of_event(event: Option<&str>) -> String {
    event.map_or_else(String::new, |event| format!(" for `{event}`"))
}

/// Whose open reservations are too many, and for how long.
pub(crate) fn crowd(error: &MeteringError) -> (Option<RateExceededAnswer>, Option<u64>) {
    match error {
        MeteringError::TooManyOpen {
            scope, retry_after, ..
        } => {
            let rate = RateExceededAnswer {
                subject: scope.into(),
                event: None,
            };
            (Some(rate), Some(millis_up(*retry_after)))
        }
        _ => (None, None),
    }
}

/// How long until there is room for one more open reservation.
pub(crate) fn wait_of(crowded: Option<&MeteringError>) -> Duration {
    match crowded {
        Some(MeteringError::TooManyOpen { retry_after, .. }) => *retry_after,
        _ => Duration::ZERO,
    }
}

/// The refusal of a limit, which waits for room as well.
pub(crate) fn later(mut exceeded: Exceeded, crowded: Option<&MeteringError>) -> Exceeded {
    exceeded.retry_after = exceeded.retry_after.map(|wait| wait.max(wait_of(crowded)));
    exceeded
}

/// Whole milliseconds, rounded up so that waiting that long is enough.
pub(crate) fn millis_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
