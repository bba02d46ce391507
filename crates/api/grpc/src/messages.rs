//! Messages into the governor's words, and its answers into messages.

use creto_errors::Classify as _;
use creto_governor::{
    ActionAnswer, ActionRequest, BatchRule, Fact, GrantText, IdempotencyKey, OutcomeKind, Question,
    QuestionAnswer, QuotaAnswer, RateExceededAnswer, ReasonAnswer, ResourceJson, SettlementAnswer,
    Subject, SubjectAnswer, TypedResource,
};
use creto_proto::authz::v1 as wire;
use creto_types::{ActionId, LeafIndex, Money, Quantity, Timestamp};
use serde_json::Value;

use crate::refusal::Refusal;

/// The entity type of a resource that does not say.
const RESOURCE: &str = "Resource";

pub(crate) fn question(request: wire::CheckRequest) -> Result<Question, Refusal> {
    let resource = request.resource.unwrap_or_default();
    Ok(Question {
        subject: request.subject.map(|subject| Subject {
            kind: subject.r#type,
            id: subject.id,
            delegation: subject.delegation,
        }),
        action: request.action,
        resource_type: if resource.r#type.is_empty() {
            RESOURCE.to_owned()
        } else {
            resource.r#type
        },
        resource_id: resource.id,
        units: request.units.unwrap_or(1),
        context: facts(request.context)?,
    })
}

fn facts<C: FromIterator<(String, Fact)>>(
    context: impl IntoIterator<Item = (String, wire::Value)>,
) -> Result<C, Refusal> {
    let fact = |(name, value)| match fact(value) {
        Some(fact) => Ok((name, fact)),
        None => Err(Refusal::invalid(
            "context",
            format!("`{name}` has no value"),
        )),
    };
    context.into_iter().map(fact).collect()
}

fn fact(value: wire::Value) -> Option<Fact> {
    use wire::value::Kind;
    Some(match value.kind? {
        Kind::BoolValue(value) => Fact::Bool(value),
        Kind::LongValue(value) => Fact::Long(value),
        Kind::StringValue(value) => Fact::Text(value),
        Kind::SetValue(set) => Fact::Texts(set.values),
    })
}

pub(crate) fn rule(number: i32) -> Result<BatchRule, Refusal> {
    let rule = wire::BatchRule::try_from(number)
        .map_err(|_| Refusal::invalid("rule", format!("{number} is none")))?;
    Ok(match rule {
        wire::BatchRule::Unspecified | wire::BatchRule::ExecuteAll => BatchRule::ExecuteAll,
        wire::BatchRule::DenyOnFirstDeny => BatchRule::DenyOnFirstDeny,
        wire::BatchRule::PermitOnFirstPermit => BatchRule::PermitOnFirstPermit,
    })
}

pub(crate) fn answer(answer: QuestionAnswer) -> wire::CheckResponse {
    wire::CheckResponse {
        permitted: answer.permitted(),
        outcome: outcome(answer.outcome).into(),
        reason: Some(reason(answer.reason)),
        policy_ids: answer.policy_ids,
        approval: answer.approval.map(|approval| wire::ApprovalNeeded {
            kind: approval.kind,
            policy_id: approval.policy_id,
        }),
        quota: answer.quota.map(quota),
        rate: answer.rate.map(rate),
        retry_after: answer.retry_after_ms.map(duration),
    }
}

pub(crate) fn error(refusal: &Refusal) -> wire::CheckError {
    wire::CheckError {
        status: refusal.status().into(),
        code: refusal.code().to_owned(),
        message: refusal.to_string(),
        field: refusal.field().unwrap_or_default().to_owned(),
    }
}

pub(crate) fn action(
    request: wire::SubmitRequest,
) -> Result<(ActionRequest, Option<IdempotencyKey>), Refusal> {
    let key = key(request.idempotency_key.as_deref())?;
    let args = if request.args_json.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&request.args_json)
            .map_err(|error| Refusal::invalid("args_json", error.to_string()))?
    };
    let request = ActionRequest {
        action: request.action,
        resource: if request.resource_type.is_empty() {
            request.resource.into()
        } else {
            ResourceJson::Typed(TypedResource {
                kind: request.resource_type,
                id: request.resource,
            })
        },
        context: facts(request.context)?,
        args,
        units: request.units.unwrap_or(1),
        grant: request.grant.map(GrantText::from),
    };
    Ok((request, key))
}

pub(crate) fn key(text: Option<&str>) -> Result<Option<IdempotencyKey>, Refusal> {
    Ok(text.map(IdempotencyKey::new).transpose()?)
}

pub(crate) fn action_id(text: &str) -> Result<ActionId, Refusal> {
    text.parse()
        .map_err(|error: creto_types::IdError| Refusal::invalid("action_id", error.to_string()))
}

pub(crate) fn submitted(answer: ActionAnswer) -> wire::SubmitResponse {
    wire::SubmitResponse {
        action_id: answer.action_id.to_string(),
        outcome: outcome(answer.outcome).into(),
        reason: Some(reason(answer.reason)),
        policy_ids: answer.policy_ids,
        cost: answer.cost.map(money),
        reserved_until: answer.reserved_until.map(instant),
        overage: answer.overage,
        oversight: answer.oversight.map(|needed| wire::OversightNeeded {
            request_id: needed.request_id,
            url: needed.url,
            digest: needed.digest,
            expires_at: Some(instant(needed.expires_at)),
        }),
        quota: answer.quota.map(quota),
        rate: answer.rate.map(rate),
        retry_after: answer.retry_after_ms.map(duration),
        leaf: answer.leaf.map(|LeafIndex(leaf)| leaf),
    }
}

pub(crate) fn settlement(answer: SettlementAnswer) -> wire::Settlement {
    wire::Settlement {
        action_id: answer.action_id.to_string(),
        state: answer.state,
        event_id: answer.event_id,
        units: answer.units,
        cost: Some(money(answer.cost)),
        overage: answer.overage,
        leaf: answer.leaf.map(|LeafIndex(leaf)| leaf),
    }
}

const fn outcome(outcome: OutcomeKind) -> wire::Outcome {
    match outcome {
        OutcomeKind::Allow => wire::Outcome::Allow,
        OutcomeKind::Deny => wire::Outcome::Deny,
        OutcomeKind::RequiresOversight => wire::Outcome::RequiresOversight,
        OutcomeKind::QuotaExceeded => wire::Outcome::QuotaExceeded,
        OutcomeKind::RateLimited => wire::Outcome::RateLimited,
    }
}

fn reason(reason: ReasonAnswer) -> wire::Reason {
    wire::Reason {
        code: reason.code,
        message: reason.message,
    }
}

fn quota(quota: QuotaAnswer) -> wire::QuotaExceeded {
    wire::QuotaExceeded {
        subject: Some(subject(quota.subject)),
        event: quota.event,
        limit: Some(quantity(quota.limit)),
        used: Some(quantity(quota.used)),
        requested: Some(quantity(quota.requested)),
        resets_at: quota.resets_at.map(instant),
        reserved: Some(quantity(quota.reserved)),
    }
}

fn rate(rate: RateExceededAnswer) -> wire::RateExceeded {
    let subject = subject(rate.subject);
    wire::RateExceeded {
        scope: subject.scope,
        delegation: subject.delegation,
        principal: subject.principal,
        event: rate.event,
    }
}

fn subject(subject: SubjectAnswer) -> wire::LimitSubject {
    wire::LimitSubject {
        scope: subject.scope,
        delegation: subject.delegation,
        principal: subject.principal.map(|name| name.to_string()),
    }
}

fn quantity(quantity: Quantity) -> wire::Quantity {
    use wire::quantity::Measure;
    wire::Quantity {
        measure: Some(match quantity {
            Quantity::Money(amount) => Measure::Money(money(amount)),
            Quantity::Units(units) => Measure::Units(units),
        }),
    }
}

fn money(money: Money) -> wire::Money {
    wire::Money {
        amount: money.amount().to_string(),
        currency: money.currency().to_string(),
    }
}

/// `google.protobuf.Timestamp`: its nanoseconds count forward, before 1970 as well.
fn instant(at: Timestamp) -> creto_proto::Timestamp {
    const SECOND: i32 = 1_000_000_000;
    let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
    if nanos < 0 {
        creto_proto::Timestamp {
            seconds: seconds - 1,
            nanos: nanos + SECOND,
        }
    } else {
        creto_proto::Timestamp { seconds, nanos }
    }
}

fn duration(millis: u64) -> creto_proto::Duration {
    creto_proto::Duration {
        seconds: i64::try_from(millis / 1_000).unwrap_or(i64::MAX),
        // Below a second, so it fits.
        nanos: i32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn value(kind: wire::value::Kind) -> wire::Value {
        wire::Value { kind: Some(kind) }
    }

    #[test]
    fn what_is_left_out_has_its_meaning() {
        let asked = question(wire::CheckRequest {
            action: "a".to_owned(),
            ..wire::CheckRequest::default()
        });
        let asked = asked.unwrap();
        assert_eq!(asked.subject, None);
        assert_eq!((asked.resource_type.as_str(), asked.units), ("Resource", 1));
        let (action, key) = action(wire::SubmitRequest::default()).unwrap();
        assert_eq!(
            (action.args, action.units, action.grant),
            (Value::Null, 1, None)
        );
        assert_eq!(key, None);
    }

    #[test]
    fn an_action_has_a_resource_of_any_type_and_a_context() {
        let country = value(wire::value::Kind::StringValue("DE".to_owned()));
        let request = wire::SubmitRequest {
            resource: "7".to_owned(),
            resource_type: "Ticket".to_owned(),
            context: [("country".to_owned(), country)].into_iter().collect(),
            ..wire::SubmitRequest::default()
        };
        let (action, _) = action(request.clone()).unwrap();
        let ticket = TypedResource {
            kind: "Ticket".to_owned(),
            id: "7".to_owned(),
        };
        assert_eq!(action.resource, ResourceJson::Typed(ticket));
        let country = ("country".to_owned(), Fact::Text("DE".to_owned()));
        assert_eq!(action.context, BTreeMap::from([country]));
        let empty = [("country".to_owned(), wire::Value { kind: None })];
        let refused = self::action(wire::SubmitRequest {
            context: empty.into_iter().collect(),
            ..request
        });
        assert_eq!(refused.unwrap_err().field(), Some("context"));
    }

    #[test]
    fn a_context_is_read_as_it_is_typed() {
        use wire::value::Kind;
        let texts = vec!["b".to_owned(), "a".to_owned()];
        let request = wire::CheckRequest {
            context: BTreeMap::from([
                ("flag".to_owned(), value(Kind::BoolValue(false))),
                ("count".to_owned(), value(Kind::LongValue(i64::MIN))),
                ("name".to_owned(), value(Kind::StringValue(String::new()))),
                (
                    "set".to_owned(),
                    value(Kind::SetValue(wire::StringSet {
                        values: texts.clone(),
                    })),
                ),
            ]),
            ..wire::CheckRequest::default()
        };
        assert_eq!(
            question(request).unwrap().context,
            [
                ("count".to_owned(), Fact::Long(i64::MIN)),
                ("flag".to_owned(), Fact::Bool(false)),
                ("name".to_owned(), Fact::Text(String::new())),
                ("set".to_owned(), Fact::Texts(texts)),
            ]
        );
        let request = wire::CheckRequest {
            context: BTreeMap::from([("x".to_owned(), wire::Value { kind: None })]),
            ..wire::CheckRequest::default()
        };
        assert_eq!(question(request).unwrap_err().field(), Some("context"));
    }

    #[test]
    fn instants_and_durations_are_exact() {
        let at: Timestamp = "2026-03-01T12:00:00.000000007Z".parse().unwrap();
        let said = instant(at);
        assert_eq!((said.seconds, said.nanos), (at.as_second(), 7));
        let said = instant("1969-12-31T23:59:58.5Z".parse().unwrap());
        assert_eq!((said.seconds, said.nanos), (-2, 500_000_000));
        let said = duration(61_039);
        assert_eq!((said.seconds, said.nanos), (61, 39_000_000));
        assert_eq!(duration(u64::MAX).nanos, 615_000_000);
    }

    #[test]
    fn a_key_and_a_rule_are_checked() {
        assert_eq!(key(Some("")).unwrap_err().field(), Some("idempotency_key"));
        assert_eq!(action_id("act_1").unwrap_err().field(), Some("action_id"));
        assert_eq!(rule(0).unwrap(), BatchRule::ExecuteAll);
        assert_eq!(rule(2).unwrap(), BatchRule::DenyOnFirstDeny);
        assert_eq!(rule(9).unwrap_err().field(), Some("rule"));
    }
}
