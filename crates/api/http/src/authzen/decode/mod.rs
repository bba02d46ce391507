//! Reading requests. Nothing here takes more memory than a small multiple of what
//! is answered: a body is full of small things before it is too large.

mod access;
mod read;

use creto_governor::Subject as AskedAbout;
use creto_governor::{ApprovalReference, BatchRule, Fact, GovernError, Question};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use access::{Access, decode_access_request};
pub(crate) use access::{AccessRequestBody, Denial};
pub(crate) use read::ApprovalState;
use read::{Batch, Facts, Given, Object};

/// A body is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Where, as a path into the document; empty for the document itself.
    pub field: String,
    /// What is expected.
    pub message: String,
}

/// Reads the body of `POST /access/v1/evaluation`.
pub fn decode_evaluation(body: &[u8]) -> Result<Evaluation, DecodeError> {
    decode(body)
}

/// Reads the body of `POST /access/v1/evaluations`. Every evaluation in it is
/// complete once the defaults are filled in.
pub fn decode_evaluations(body: &[u8]) -> Result<Evaluations, DecodeError> {
    let given: EvaluationsRequest = decode(body)?;
    let rule = given
        .options
        .and_then(|Object(options)| options.evaluations_semantic)
        .unwrap_or_default()
        .rule();
    let defaults = PartialEvaluation {
        subject: given.subject,
        action: given.action,
        resource: given.resource,
        context: given.context,
    };
    let Some(Batch(batch)) = given.evaluations.filter(|batch| !batch.0.is_empty()) else {
        let one = PartialEvaluation::default().over(&defaults, "")?;
        return Ok(Evaluations::One(one));
    };
    let batch = batch
        .into_iter()
        .enumerate()
        .map(|(n, Object(given))| given.over(&defaults, &format!("evaluations[{n}].")))
        .collect::<Result<_, _>>()?;
    Ok(Evaluations::Many { batch, rule })
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let reader = &mut serde_json::Deserializer::from_slice(body);
    let Object(value) =
        serde_path_to_error::deserialize(&mut *reader).map_err(|error| DecodeError {
            field: error.path().to_string(),
            message: error.inner().to_string(),
        })?;
    reader.end().map_err(|error| DecodeError {
        field: String::new(),
        message: error.to_string(),
    })?;
    Ok(value)
}

/// One question (section 6.1).
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// About whom.
    subject: Object<Subject>,
    /// What.
    action: Object<Action>,
    /// To what.
    resource: Object<Resource>,
    /// The circumstances.
    #[serde(default)]
    #[schemars(schema_with = "read::context_schema")]
    context: Option<Facts>,
}

impl Evaluation {
    /// The question that it asks.
    pub fn question(&self) -> Result<Question, GovernError> {
        let values = self.context.iter().flat_map(|facts| &facts.values);
        question(&self.subject, &self.action, &self.resource, values)
    }

    /// The approval that it is to be decided with, after a human gave one.
    #[must_use]
    pub fn approval(&self) -> Option<ApprovalReference> {
        let given = self.context.as_ref()?.approval.as_ref()?;
        Some(ApprovalReference {
            request: given.id.clone(),
            grant: given
                .state
                .as_ref()
                .map_or_else(|| String::new().into(), |Object(state)| state.grant.clone()),
        })
    }
}

fn question<'a>(
    Object(subject): &Object<Subject>,
    Object(action): &Object<Action>,
    Object(resource): &Object<Resource>,
    values: impl Iterator<Item = &'a (String, Given)>,
) -> Result<Question, GovernError> {
    let delegation = subject.properties.as_ref();
    let mut units = match action.properties.as_ref().and_then(|p| p.0.units.as_ref()) {
        Some(given) => Some(whole(given)?),
        None => None,
    };
    let mut context = Vec::new();
    for (name, given) in values {
        if name == "units" {
            let here = whole(given)?;
            if units.is_some_and(|units| units != here) {
                return Err(invalid(
                    "units",
                    "they differ in the action and the context",
                ));
            }
            units = Some(here);
            continue;
        }
        match given {
            Given::Fact(fact) => context.push((name.clone(), fact.clone())),
            Given::Unusable(kind) => {
                return Err(invalid(
                    "context",
                    format!(
                        "`{name}` is {kind}; a boolean, a whole number of 64 bits, a string or \
                         a set of strings is expected"
                    ),
                ));
            }
        }
    }
    Ok(Question {
        subject: Some(AskedAbout {
            kind: subject.kind.clone(),
            id: subject.id.clone(),
            delegation: delegation.and_then(|properties| properties.0.delegation.clone()),
        }),
        action: action.name.clone(),
        resource_type: resource.kind.clone(),
        resource_id: resource.id.clone(),
        units: units.unwrap_or(1),
        context,
    })
}

fn whole(given: &Given) -> Result<u64, GovernError> {
    match given {
        Given::Fact(Fact::Long(units)) => u64::try_from(*units).ok(),
        Given::Fact(_) | Given::Unusable(_) => None,
    }
    .ok_or_else(|| invalid("units", "a whole number is expected"))
}

fn invalid(field: &'static str, message: impl Into<String>) -> GovernError {
    GovernError::Invalid {
        field,
        message: message.into(),
    }
}

/// One or several questions (section 7.1).
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluations {
    /// Without an array, or with an empty one, it is a single evaluation.
    One(Evaluation),
    /// In order.
    Many {
        /// At most [`MAX_QUESTIONS`], with the defaults filled in.
        batch: Vec<Evaluation>,
        /// When to stop.
        rule: BatchRule,
    },
}

/// Several questions, with defaults for what they share.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct EvaluationsRequest {
    #[serde(default)]
    subject: Option<Object<Subject>>,
    #[serde(default)]
    action: Option<Object<Action>>,
    #[serde(default)]
    resource: Option<Object<Resource>>,
    #[serde(default)]
    #[schemars(schema_with = "read::context_schema")]
    context: Option<Facts>,
    /// At most 100; their members override those beside this list.
    #[serde(default)]
    #[schemars(schema_with = "read::batch_schema::<PartialEvaluation>")]
    evaluations: Option<Batch<Object<PartialEvaluation>>>,
    #[serde(default)]
    options: Option<Object<Options>>,
}

/// A question that may leave out what the defaults say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
struct PartialEvaluation {
    #[serde(default)]
    subject: Option<Object<Subject>>,
    #[serde(default)]
    action: Option<Object<Action>>,
    #[serde(default)]
    resource: Option<Object<Resource>>,
    #[serde(default)]
    #[schemars(schema_with = "read::context_schema")]
    context: Option<Facts>,
}

impl PartialEvaluation {
    fn over(self, defaults: &Self, place: &str) -> Result<Evaluation, DecodeError> {
        Ok(Evaluation {
            subject: either(self.subject, &defaults.subject, place, "subject")?,
            action: either(self.action, &defaults.action, place, "action")?,
            resource: either(self.resource, &defaults.resource, place, "resource")?,
            context: self.context.or_else(|| defaults.context.clone()),
        })
    }
}

fn either<T: Clone>(
    own: Option<T>,
    default: &Option<T>,
    place: &str,
    name: &str,
) -> Result<T, DecodeError> {
    own.or_else(|| default.clone()).ok_or_else(|| DecodeError {
        field: format!("{place}{name}"),
        message: format!("missing field `{name}`, and no default for it is given"),
    })
}

/// How a batch is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
struct Options {
    #[serde(default)]
    evaluations_semantic: Option<Semantic>,
}

/// When a batch ends (section 7.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Semantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

impl Semantic {
    const fn rule(self) -> BatchRule {
        match self {
            Self::ExecuteAll => BatchRule::ExecuteAll,
            Self::DenyOnFirstDeny => BatchRule::DenyOnFirstDeny,
            Self::PermitOnFirstPermit => BatchRule::PermitOnFirstPermit,
        }
    }
}

/// Section 5.1.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
struct Subject {
    /// `agent` or `human`.
    #[serde(rename = "type")]
    kind: String,
    /// A name or a SPIFFE id.
    id: String,
    #[serde(default)]
    properties: Option<Object<SubjectProperties>>,
}

/// Others are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
struct SubjectProperties {
    /// The delegation that an agent acts by; needed when it holds several.
    #[serde(default)]
    delegation: Option<String>,
}

/// Section 5.3.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
struct Action {
    name: String,
    #[serde(default)]
    properties: Option<Object<ActionProperties>>,
}

/// Others are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
struct ActionProperties {
    /// How many units it would use; 1 when absent.
    #[serde(default)]
    #[schemars(schema_with = "read::units_schema")]
    units: Option<Given>,
}

/// Section 5.2.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
struct Resource {
    /// An entity type of the policy schema; a bare name stands in `Creto`.
    #[serde(rename = "type")]
    kind: String,
    id: String,
    /// Ignored: what policies know of a resource does not come from who asks.
    #[serde(default, rename = "properties")]
    _properties: Option<Object<Ignored>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
struct Ignored {}

#[cfg(test)]
mod tests {
    use creto_governor::MAX_TEXTS;
    use serde_json::json;

    use super::*;

    fn asks(context: serde_json::Value) -> Result<Question, GovernError> {
        let body = json!({
            "subject": { "type": "agent", "id": "bot", "properties": { "colour": "red" } },
            "action": { "name": "can_read", "properties": { "method": "GET" } },
            "resource": { "type": "Resource", "id": "123", "properties": { "a": [1] } },
            "context": context,
            "unknown": [[[]]],
        });
        let read = decode_evaluation(body.to_string().as_bytes());
        read.unwrap_or_else(|error| panic!("{}: {error}", error.field))
            .question()
    }

    fn refused(body: &str) -> (String, String) {
        let error = decode_evaluations(body.as_bytes()).unwrap_err();
        (error.field, error.message)
    }

    #[test]
    fn a_context_becomes_facts() {
        let question = asks(json!({
            "flag": true, "port": -443, "time": "2026-01-01T00:00:00Z", "tags": ["a", "b"],
            "none": [], "units": 7,
        }))
        .unwrap();
        assert_eq!(question.units, 7);
        let expected = [
            ("flag", Fact::Bool(true)),
            ("port", Fact::Long(-443)),
            ("time", Fact::Text("2026-01-01T00:00:00Z".to_owned())),
            ("tags", Fact::Texts(vec!["a".to_owned(), "b".to_owned()])),
            ("none", Fact::Texts(Vec::new())),
        ]
        .map(|(name, fact)| (name.to_owned(), fact));
        assert_eq!(question.context, expected);
        assert_eq!(asks(json!({})).unwrap().units, 1);
    }

    #[test]
    fn what_cedar_has_no_value_for_is_refused_by_name() {
        for (value, kind) in [
            (json!(1.5), "not a whole number"),
            (json!(18_446_744_073_709_551_615_u64), "too large"),
            (json!(null), "null"),
            (json!({ "deep": { "er": 1 } }), "an object"),
            (json!(["a", 1]), "an array of something else"),
            (json!([["a"], ["b"]]), "an array of something else"),
            (json!(vec!["a"; MAX_TEXTS + 1]), "too long an array"),
        ] {
            let error = asks(json!({ "odd": value })).unwrap_err().to_string();
            assert!(error.contains("`odd` is"), "{error}");
            assert!(error.contains(kind), "{error}");
        }
        for units in [json!("7"), json!(-1), json!(1.0), json!([7])] {
            assert!(asks(json!({ "units": units })).is_err(), "{units}");
        }
    }

    #[test]
    fn units_in_two_places_have_to_agree() {
        let body = |units: u64| {
            json!({
                "subject": { "type": "agent", "id": "bot" },
                "action": { "name": "x", "properties": { "units": 5 } },
                "resource": { "type": "Resource", "id": "123" },
                "context": { "units": units },
            })
            .to_string()
        };
        let ask = |units| {
            decode_evaluation(body(units).as_bytes())
                .unwrap()
                .question()
        };
        assert_eq!(ask(5).unwrap().units, 5);
        assert!(ask(6).is_err());
    }

    #[test]
    fn objects_are_objects_and_members_stand_once() {
        for (body, field, says) in [
            ("[]", "", "an object"),
            (r#"{"subject":["agent","bot"]}"#, "subject", "an object"),
            (
                r#"{"subject":{"type":"agent"}}"#,
                "subject",
                "missing field `id`",
            ),
            (
                r#"{"subject":{"type":1,"id":"b"}}"#,
                "subject.type",
                "a string",
            ),
            (
                r#"{"context":{"a":1,"a":2}}"#,
                "context",
                "duplicate field `a`",
            ),
            (r#"{"evaluations":{}}"#, "evaluations", "an array"),
            (r#"{"evaluations":[[]]}"#, "evaluations[0]", "an object"),
            (
                r#"{"options":{"evaluations_semantic":"some"}}"#,
                "options.evaluations_semantic",
                "unknown variant `some`",
            ),
            (
                r#"{"evaluations":[{}]}"#,
                "evaluations[0].subject",
                "missing field `subject`",
            ),
            ("{}", "subject", "missing field `subject`"),
        ] {
            let (at, message) = refused(body);
            assert_eq!(at.trim_start_matches('.'), field, "{body}: {message}");
            assert!(message.contains(says), "{body}: {message}");
        }
        let (_, message) = refused("{} {}");
        assert!(message.contains("trailing"), "{message}");
    }

    #[test]
    fn a_batch_has_bounds() {
        let items = |n: usize| {
            let one = json!({
                "subject": { "type": "agent", "id": "bot" },
                "action": { "name": "x" },
                "resource": { "type": "Resource", "id": "1" },
            });
            json!({ "evaluations": vec![one; n] }).to_string()
        };
        let Evaluations::Many { batch, .. } = decode_evaluations(items(100).as_bytes()).unwrap()
        else {
            panic!("a batch");
        };
        assert_eq!(batch.len(), 100);
        assert!(refused(&items(101)).1.contains("at most 100"));
        assert!(matches!(
            decode_evaluations(items(0).as_bytes()),
            Err(DecodeError { .. })
        ));
    }

    #[test]
    fn defaults_stand_in_for_what_is_left_out() {
        let body = json!({
            "subject": { "type": "agent", "id": "default" },
            "action": { "name": "read" },
            "resource": { "type": "Resource", "id": "0" },
            "context": { "port": 1 },
            "options": { "evaluations_semantic": "deny_on_first_deny", "another_option": 1 },
            "evaluations": [
                { "resource": { "type": "Host", "id": "1" } },
                { "subject": { "type": "human", "id": "own" }, "action": { "name": "edit" } },
                { "context": {} },
            ],
        });
        let Ok(Evaluations::Many { batch, rule }) = decode_evaluations(body.to_string().as_bytes())
        else {
            panic!("a batch");
        };
        assert_eq!(rule, BatchRule::DenyOnFirstDeny);
        let said: Vec<_> = batch
            .iter()
            .map(|evaluation| {
                let asked = evaluation.question().unwrap();
                let subject = asked.subject.unwrap();
                (
                    subject.id,
                    asked.action,
                    asked.resource_id,
                    asked.context.len(),
                )
            })
            .collect();
        let expected = [
            ("default", "read", "1", 1),
            ("own", "edit", "0", 1),
            ("default", "read", "0", 0),
        ]
        .map(|(s, a, r, n)| (s.to_owned(), a.to_owned(), r.to_owned(), n));
        assert_eq!(said, expected);
    }
}
