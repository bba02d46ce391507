//! The body of an access request (AuthZEN Access Request and Approval Profile,
//! "Access Request Submission").

use creto_governor::{AccessRequest, Fact, GovernError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::read::{Given, Object};
use super::{Action, DecodeError, Resource, Subject, decode, question};

/// Reads the body of `POST /access/v1/requests`.
pub fn decode_access_request(body: &[u8]) -> Result<Access, DecodeError> {
    let given: AccessRequestBody = decode(body)?;
    let refused = |field: &str, message: &str| {
        Err(DecodeError {
            field: field.to_owned(),
            message: message.to_owned(),
        })
    };
    if given.items.is_some() {
        return refused("items", "one action is asked for at a time");
    }
    if given.callback.is_some() {
        return refused(
            "callback",
            "nobody is called back; ask the task's `status_endpoint`, which can wait",
        );
    }
    let access = given.requested_access.as_ref();
    let times = ["requested_duration", "requested_until"];
    if access.is_some_and(|access| times.iter().all(|name| access.contains_key(*name))) {
        return refused(
            "requested_access",
            "give one of `requested_duration` and `requested_until`",
        );
    }
    Ok(Access(given))
}

/// An access request.
#[derive(Clone, Debug, PartialEq)]
pub struct Access(AccessRequestBody);

impl Access {
    /// What is asked for, and what a human is to see beside it: everything but the
    /// denied evaluation itself, whose context had values of these names beside `units`.
    pub fn request(&self, facts: &[String]) -> Result<AccessRequest, GovernError> {
        let body = &self.0;
        let mut context = body.context.clone().unwrap_or_default();
        let units = context.remove("units");
        let units = units.map(|units| {
            let whole = units.as_i64().map(Fact::Long);
            let given = whole.map_or(Given::Unusable("not a whole number"), Given::Fact);
            ("units".to_owned(), given)
        });
        let mut evaluated: Vec<(String, Given)> = units.into_iter().collect();
        for name in facts {
            if let Some(value) = context.remove(name) {
                let given = Given::deserialize(value).map_err(|error| GovernError::Invalid {
                    field: "context",
                    message: error.to_string(),
                })?;
                evaluated.push((name.clone(), given));
            }
        }
        let shown: Map<String, Value> = [
            ("context", Some(context)),
            ("requested_access", body.requested_access.clone()),
            ("client", body.client.clone()),
        ]
        .into_iter()
        .filter_map(|(name, given)| Some((name.to_owned(), given?)))
        .filter(|(_, given)| !given.is_empty())
        .map(|(name, given)| (name, Value::Object(given)))
        .collect();
        Ok(AccessRequest {
            question: question(
                &body.subject,
                &body.action,
                &body.resource,
                evaluated.iter(),
            )?,
            shown: Value::Object(shown),
        })
    }

    pub(crate) fn denial(&self) -> &Denial {
        &self.0.denial.0
    }
}

/// A request for access that was denied.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessRequest")]
pub(crate) struct AccessRequestBody {
    /// As in the denied evaluation, and so are the next two.
    subject: Object<Subject>,
    action: Object<Action>,
    resource: Object<Resource>,
    /// That of the denied evaluation, and beside it what the human is to read, such as
    /// `business_justification`.
    #[serde(default)]
    context: Option<Map<String, Value>>,
    /// Shown to the human. What is approved lasts as the server is configured.
    #[serde(default)]
    requested_access: Option<Map<String, Value>>,
    /// Shown to the human.
    #[serde(default)]
    client: Option<Map<String, Value>>,
    /// The denied decision.
    denial: Object<Denial>,
    /// Refused: one action is asked for at a time.
    #[serde(default)]
    items: Option<Value>,
    /// Refused: nobody is called back.
    #[serde(default)]
    callback: Option<Value>,
}

/// What binds a request to the evaluation that was denied.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessRequestDenial")]
pub(crate) struct Denial {
    /// The `evaluation_id` of its context.
    #[serde(default)]
    pub(crate) evaluation_id: Option<String>,
    /// The `request_context` of its `access_request`; needed.
    #[serde(default)]
    pub(crate) request_context: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Value {
        json!({
            "subject": { "type": "agent", "id": "bot" },
            "action": { "name": "release.publish", "properties": { "units": 2 } },
            "resource": { "type": "Resource", "id": "repo:creto" },
            "context": { "units": 2, "business_justification": "the fix is due" },
            "requested_access": { "requested_duration": "PT4H" },
            "client": { "id": "gateway" },
            "denial": {
                "evaluation_id": "evl_1",
                "evaluated_at": "2026-03-01T12:00:00Z",
                "reason": "needs_approval",
                "request_context": "a.b.c",
                "template": "release",
            },
            "unknown": [1],
        })
    }

    fn read(body: &Value) -> Result<Access, DecodeError> {
        decode_access_request(body.to_string().as_bytes())
    }

    #[test]
    fn the_human_sees_all_but_the_evaluation() {
        let access = read(&body()).unwrap();
        let request = access.request(&[]).unwrap();
        assert_eq!(request.question.units, 2);
        assert_eq!(request.question.context, []);
        assert_eq!(
            request.shown,
            json!({
                "context": { "business_justification": "the fix is due" },
                "requested_access": { "requested_duration": "PT4H" },
                "client": { "id": "gateway" },
            })
        );
        let denial = access.denial();
        assert_eq!(denial.request_context.as_deref(), Some("a.b.c"));
        assert_eq!(denial.evaluation_id.as_deref(), Some("evl_1"));

        let mut bare = body();
        for name in ["context", "requested_access", "client"] {
            bare.as_object_mut().unwrap().remove(name);
        }
        let request = read(&bare).unwrap().request(&[]).unwrap();
        assert_eq!(request.shown, json!({}));
    }

    #[test]
    fn values_of_the_evaluation_are_not_shown_as_arguments() {
        let mut given = body();
        given["context"]["country"] = json!("DE");
        given["context"]["labels"] = json!(["a", "b"]);
        let access = read(&given).unwrap();
        let names = ["country", "labels", "absent"].map(str::to_owned);
        let request = access.request(&names).unwrap();
        assert_eq!(
            request.question.context,
            [
                ("country".to_owned(), Fact::Text("DE".to_owned())),
                (
                    "labels".to_owned(),
                    Fact::Texts(vec!["a".to_owned(), "b".to_owned()])
                ),
            ]
        );
        assert_eq!(
            request.shown["context"],
            json!({ "business_justification": "the fix is due" })
        );
        given["context"]["country"] = json!({ "not": "a value" });
        assert!(read(&given).unwrap().request(&names).is_err());
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (name, value) in [
            ("items", json!([])),
            ("callback", json!({ "endpoint": "https://pep.example" })),
            (
                "requested_access",
                json!({ "requested_duration": "PT4H", "requested_until": "2030-01-01T00:00:00Z" }),
            ),
        ] {
            let mut given = body();
            given[name] = value;
            assert_eq!(read(&given).unwrap_err().field, name);
        }
        let mut given = body();
        given["context"]["units"] = json!(3);
        assert!(read(&given).unwrap().request(&[]).is_err(), "units differ");
        given["context"]["units"] = json!("2");
        assert!(read(&given).unwrap().request(&[]).is_err());
        given.as_object_mut().unwrap().remove("denial");
        assert!(read(&given).unwrap_err().message.contains("`denial`"));
    }
}
