//! What a request is about, as it is written in JSON: a resource of any type, and
//! the values of its context.

use std::collections::BTreeMap;

use creto_authz::{ContextValue, ResourceRef};
use creto_types::canonical_json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GovernError;
use crate::questions::check_facts;

/// The most bytes of an action's context as canonical JSON: it is stored in the log
/// and shown to a human.
const MAX_CONTEXT_BYTES: usize = 8 * 1024;

/// The values of a context by their names.
pub(crate) type ContextMap = BTreeMap<String, ContextJson>;

/// One value of a request's context as it is written in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a value of `context` is true or false, a whole number from -2^63 to 2^63-1, a \
                 text, or a list of texts"
)]
pub enum ContextJson {
    /// Cedar `Bool`.
    Bool(bool),
    /// Cedar `Long`.
    Long(i64),
    /// Cedar `String`.
    Text(String),
    /// Cedar `Set<String>`.
    Texts(Vec<String>),
}

/// What an action is done to: a name stands for a `Creto::Resource`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`resource` is a name, or an object with `type` and `id`, both texts"
)]
pub enum ResourceJson {
    /// The id of a `Creto::Resource`.
    Name(String),
    /// Any entity type of the schema.
    Typed(TypedResource),
}

/// An entity type of the schema and an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypedResource {
    /// For example `Creto::Host`; a bare name stands in `Creto`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For example `releases.example.test`.
    pub id: String,
}

impl ContextJson {
    /// How many texts it has, and how many bytes they take.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Self::Bool(_) | Self::Long(_) => (0, 0),
            Self::Text(text) => (1, text.len()),
            Self::Texts(texts) => (texts.len(), texts.iter().map(String::len).sum()),
        }
    }
}

impl ResourceJson {
    pub(crate) fn to_ref(&self) -> ResourceRef {
        match self {
            Self::Name(id) => ResourceRef::resource(id),
            Self::Typed(TypedResource { kind, id }) => ResourceRef::new(entity_type(kind), id),
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Name(id) | Self::Typed(TypedResource { id, .. }) => id,
        }
    }

    /// The entity type as it was given; `None` for a bare name.
    pub(crate) fn kind(&self) -> Option<&str> {
        match self {
            Self::Name(_) => None,
            Self::Typed(resource) => Some(&resource.kind),
        }
    }
}

/// The entity type with its namespace: a bare name stands in `Creto`.
pub(crate) fn entity_type(name: &str) -> String {
    if name.contains("::") {
        name.to_owned()
    } else {
        format!("Creto::{name}")
    }
}

impl From<&ResourceRef> for ResourceJson {
    fn from(resource: &ResourceRef) -> Self {
        if resource.kind == ResourceRef::RESOURCE {
            return Self::Name(resource.id.clone());
        }
        Self::Typed(TypedResource {
            kind: resource.kind.clone(),
            id: resource.id.clone(),
        })
    }
}

impl From<String> for ResourceJson {
    fn from(id: String) -> Self {
        Self::Name(id)
    }
}

impl From<&str> for ResourceJson {
    fn from(id: &str) -> Self {
        Self::Name(id.to_owned())
    }
}

/// The texts of each value, which [`context_values`] points into.
pub(crate) fn texts<'a>(values: impl Iterator<Item = &'a ContextJson>) -> Vec<Vec<&'a str>> {
    values
        .map(|value| match value {
            ContextJson::Texts(texts) => texts.iter().map(String::as_str).collect(),
            ContextJson::Bool(_) | ContextJson::Long(_) | ContextJson::Text(_) => Vec::new(),
        })
        .collect()
}

/// The context as a decision takes it: its values, with the texts of each.
pub(crate) fn context_values<'a>(
    context: impl Iterator<Item = (&'a String, &'a ContextJson)>,
    texts: &'a [Vec<&'a str>],
) -> Vec<(&'a str, ContextValue<'a>)> {
    context
        .zip(texts)
        .map(|((name, value), texts)| {
            let value = match value {
                ContextJson::Bool(value) => ContextValue::Bool(*value),
                ContextJson::Long(value) => ContextValue::Long(*value),
                ContextJson::Text(value) => ContextValue::Text(value),
                ContextJson::Texts(_) => ContextValue::Texts(texts),
            };
            (name.as_str(), value)
        })
        .collect()
}

/// Whether a context is within the bounds of a question's.
pub(crate) fn check_context(context: &ContextMap) -> Result<(), GovernError> {
    let values = context.iter();
    check_facts(values.map(|(name, value)| (name.as_str(), value.size())))
}

/// Whether an action's context is within its bounds. Whether it fits the schema is
/// for the decision.
pub(crate) fn validate_context(context: &ContextMap) -> Result<(), GovernError> {
    check_context(context)?;
    let size = canonical_json(context)?.len();
    if size > MAX_CONTEXT_BYTES {
        return Err(GovernError::invalid(
            "context",
            format!("{size} bytes as canonical JSON; at most {MAX_CONTEXT_BYTES} are allowed"),
        ));
    }
    Ok(())
}
