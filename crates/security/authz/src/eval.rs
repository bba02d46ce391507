//! One evaluation of any Cedar policies, through the slices.
//!
//! Nothing here knows the namespace `Creto`: policies, schema, entities and request
//! are Cedar's own file formats, and the answer is what Cedar's authorizer gives.
//! It is what `creto policy eval` prints, and how the slices are compared with
//! Cedar from outside.

use std::str::FromStr as _;

use cedar_policy::{
    Context, Entities, EntityUid, Policy, PolicyId as CedarId, PolicySet, Request, Schema, Template,
};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use creto_errors::{Class, Classify};
use serde::{Deserialize, Serialize};

use crate::bounds::{Bounds, Grammar, deep, too_deep};
use crate::links;
use crate::policies::{line_of, message_of};
use crate::slice::Slices;

/// The texts to evaluate.
#[derive(Clone, Copy, Debug, Default)]
pub struct EvalInput<'a> {
    /// Cedar policies and templates or, when it starts with `{`, Cedar's JSON: of a
    /// set, in which links may be too, or of one policy or template.
    pub policies: &'a str,
    /// A schema in Cedar's syntax or, when it starts with `{`, its JSON. Entities
    /// and request must fit it; policies are not validated.
    pub schema: Option<&'a str>,
    /// Entities as a JSON array.
    pub entities: &'a str,
    /// The request as JSON: `principal`, `action` and `resource` as text such as
    /// `User::"alice"` or as an object of `type` and `id`, and `context` as an object.
    pub request: &'a str,
    /// Links of templates as JSON: `[{"template_id", "link_id", "args"}]`.
    pub links: Option<&'a str>,
}

/// Whether the request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EvalDecision {
    /// Some policy permits it and none forbids it.
    Allow,
    /// It is forbidden, or nothing permits it.
    Deny,
}

/// What Cedar answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvalAnswer {
    /// Whether it is allowed.
    pub decision: EvalDecision,
    /// The policies that decided, in the order of the set: their ids as they are.
    pub reason: Vec<String>,
    /// Policies that could not be evaluated and so did not count, in the words of
    /// Cedar.
    pub errors: Vec<String>,
}

/// A text that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The policies do not parse, or two of them have one id.
    #[error("the policies cannot be used: {0}")]
    Policies(String),
    /// The schema does not parse, or refers to what is not there.
    #[error("the schema cannot be used: {0}")]
    Schema(String),
    /// The entities do not parse, or do not fit the schema.
    #[error("the entities cannot be used: {0}")]
    Entities(String),
    /// The request does not parse, or does not fit the schema.
    #[error("the request cannot be used: {0}")]
    Request(String),
    /// The policies or the schema go deeper than a stack does.
    #[error("too deep: {0}")]
    TooDeep(String),
    /// A link does not parse, names no template, or does not fill its slots.
    #[error("a template link cannot be used: {0}")]
    Links(String),
}

impl Classify for EvalError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Policies(_) => "policy_syntax",
            Self::Schema(_) => "policy_schema_invalid",
            Self::Entities(_) => "policy_entities_invalid",
            Self::Request(_) => "policy_request_invalid",
            Self::TooDeep(_) => "policy_too_deep",
            Self::Links(_) => "policy_link_invalid",
        }
    }
}

#[derive(Deserialize)]
struct RequestText {
    principal: serde_json::Value,
    action: serde_json::Value,
    resource: serde_json::Value,
    context: serde_json::Value,
}

/// Evaluates one request.
pub fn evaluate(input: &EvalInput<'_>) -> Result<EvalAnswer, EvalError> {
    deep(Bounds::ONCE, || evaluated(input))
}

fn evaluated(input: &EvalInput<'_>) -> Result<EvalAnswer, EvalError> {
    for (what, text, grammar) in [
        ("policies", input.policies, Grammar::Policies),
        ("schema", input.schema.unwrap_or_default(), Grammar::Schema),
    ] {
        if let Some((line, message)) = too_deep(text, grammar, Bounds::ONCE) {
            return Err(EvalError::TooDeep(format!(
                "{what}, line {line}: {message}"
            )));
        }
    }
    let schema = input.schema.map(schema).transpose()?;
    let set = policies(input.policies, input.links)?;
    let entities = Entities::from_json_str(input.entities, schema.as_ref())
        .map_err(|error| EvalError::Entities(creto_errors::chain(&error)))?;
    let request = request(input.request, schema.as_ref())?;
    Ok(answer(&set, &entities, &request))
}

/// What Cedar answers to a request about policies and entities.
fn answer(set: &PolicySet, entities: &Entities, request: &Request) -> EvalAnswer {
    let slices = Slices::new(set.policies().map(|policy| policy.as_ref().clone()));
    let mut permits = Vec::new();
    let mut forbids = Vec::new();
    let mut errors = Vec::new();
    // A request that was made from three entities has all three.
    if let (Some(principal), Some(action), Some(resource)) =
        (request.principal(), request.action(), request.resource())
    {
        let evaluator = Evaluator::new(
            request.as_ref().clone(),
            entities.as_ref(),
            Extensions::all_available(),
        );
        let candidates = slices.candidates_among(
            entities.as_ref(),
            principal.as_ref(),
            action.as_ref(),
            resource.as_ref(),
        );
        for sliced in candidates.iter().filter_map(|number| slices.get(*number)) {
            match sliced.applies(&evaluator) {
                Ok(false) => {}
                Ok(true) if sliced.permits() => permits.push(sliced.id.to_string()),
                Ok(true) => forbids.push(sliced.id.to_string()),
                // Printed, Cedar's own id has its control characters escaped.
                Err(error) => errors.push(format!(
                    "error while evaluating policy `{}`: {error}",
                    CedarId::new(sliced.id.as_str())
                )),
            }
        }
    }
    if forbids.is_empty() && !permits.is_empty() {
        EvalAnswer {
            decision: EvalDecision::Allow,
            reason: permits,
            errors,
        }
    } else {
        EvalAnswer {
            decision: EvalDecision::Deny,
            reason: forbids,
            errors,
        }
    }
}

fn schema(text: &str) -> Result<Schema, EvalError> {
    let parsed = if text.trim_start().starts_with('{') {
        Schema::from_json_str(text).map_err(|error| creto_errors::chain(&error))
    } else {
        Schema::from_cedarschema_str(text)
            .map(|(schema, _warnings)| schema)
            .map_err(|error| creto_errors::chain(&error))
    };
    parsed.map_err(EvalError::Schema)
}

/// Policies in either of Cedar's formats, with the links of templates.
fn policies(text: &str, linked: Option<&str>) -> Result<PolicySet, EvalError> {
    let mut set = if text.trim_start().starts_with('{') {
        of_json(text)?
    } else {
        named(text)?
    };
    for link in links::parse(linked.unwrap_or_default()).map_err(EvalError::Links)? {
        link.apply(&mut set)
            .map_err(|error| EvalError::Links(format!("`{}`: {error}", link.link_id)))?;
    }
    Ok(set)
}

/// The fields of Cedar's JSON of a set, of which one of a policy has none.
const FIELDS_OF_A_SET: [&str; 3] = ["staticPolicies", "templates", "templateLinks"];

fn unusable(error: &(dyn std::error::Error + 'static)) -> EvalError {
    EvalError::Policies(creto_errors::chain(error))
}

/// A set, or a single policy or template. In a set every policy has its name; a
/// single one gets Cedar's, `JSON policy`.
fn of_json(text: &str) -> Result<PolicySet, EvalError> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| unusable(&error))?;
    if FIELDS_OF_A_SET
        .iter()
        .any(|field| json.get(field).is_some())
    {
        // From the text: in a document an id that is there twice is there once.
        return PolicySet::from_json_str(text).map_err(|error| unusable(&error));
    }
    if let Ok(policy) = Policy::from_json(None, json.clone()) {
        return PolicySet::from_policies([policy]).map_err(|error| unusable(&error));
    }
    let template = Template::from_json(None, json).map_err(|error| unusable(&error))?;
    let mut set = PolicySet::new();
    set.add_template(template)
        .map_err(|error| unusable(&error))?;
    Ok(set)
}

/// Parses policies and gives those with an `@id` that name; the others keep
/// `policy0`, `policy1`, ... by their place in the text.
fn named(text: &str) -> Result<PolicySet, EvalError> {
    let parsed = PolicySet::from_str(text).map_err(|errors| {
        let texts: Vec<String> = errors
            .iter()
            .map(|error| match line_of(error, text) {
                Some(line) => format!("line {line}: {}", message_of(error)),
                None => message_of(error),
            })
            .collect();
        EvalError::Policies(texts.join("; "))
    })?;
    let taken =
        |error: cedar_policy::PolicySetError| EvalError::Policies(creto_errors::chain(&error));
    let mut set = PolicySet::new();
    for template in parsed.templates() {
        let named = template.annotation("id").map(CedarId::new);
        let template = named.map_or_else(|| template.clone(), |id| template.new_id(id));
        set.add_template(template).map_err(taken)?;
    }
    for policy in parsed.policies() {
        let named = policy.annotation("id").map(CedarId::new);
        let policy = named.map_or_else(|| policy.clone(), |id| policy.new_id(id));
        set.add(policy).map_err(taken)?;
    }
    Ok(set)
}

fn request(text: &str, schema: Option<&Schema>) -> Result<Request, EvalError> {
    let broken = |error: String| EvalError::Request(error);
    let parts: RequestText =
        serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
    let entity = |what: &str, value: serde_json::Value| -> Result<EntityUid, EvalError> {
        let shown = value.to_string();
        let parsed = match value {
            serde_json::Value::String(text) => text
                .parse()
                .map_err(|error: cedar_policy::ParseErrors| error.to_string()),
            other => EntityUid::from_json(other).map_err(|error| error.to_string()),
        };
        parsed.map_err(|error| broken(format!("{what} {shown} is not an entity: {error}")))
    };
    let principal = entity("principal", parts.principal)?;
    let action = entity("action", parts.action)?;
    let resource = entity("resource", parts.resource)?;
    let context = Context::from_json_value(parts.context, schema.map(|schema| (schema, &action)))
        .map_err(|error| broken(creto_errors::chain(&error)))?;
    Request::new(principal, action, resource, context, schema)
        .map_err(|error| broken(creto_errors::chain(&error)))
}
