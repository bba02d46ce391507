//! What the engine fills in: the entities of a chain and a resource, and the
//! context of a request.
//!
//! Whether a schema takes these is tried when it is loaded (`schema.rs`), with the
//! same functions. So a request needs no validation of what is built here.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy_core::ast::{
    Context, Eid, Entity, EntityType, EntityUID, ExtensionFunction, Name, PartialValue, Value,
    ValueKind,
};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;
use creto_nhi::{AgentIdentity, PrincipalType};

use crate::evaluate::Question;
use crate::model::ContextValue;

/// The context attribute that says whether a human approved.
pub(crate) const OVERSIGHT: &str = "oversight";
/// The context attribute with the number of units asked for.
pub(crate) const UNITS: &str = "units";
/// The context attribute with the time of the decision, where an action's context
/// declares it as a `datetime`.
pub(crate) const NOW: &str = "now";

pub(crate) fn uid(kind: &EntityType, id: &str) -> EntityUID {
    EntityUID::from_components(kind.clone(), Eid::new(id), None)
}

/// One principal a decision is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Person<'a> {
    pub(crate) kind: PrincipalType,
    pub(crate) name: &'a str,
    /// The place in the chain: 0 is the human it starts from, `i` the delegatee of
    /// hop `i`.
    pub(crate) place: u8,
}

/// Everyone in the chain, the owner first.
pub(crate) fn people(identity: &AgentIdentity) -> Vec<Person<'_>> {
    let mut people = Vec::with_capacity(1 + identity.hops.len());
    if identity.hops.is_empty() || identity.kind == PrincipalType::Agent {
        people.push(Person {
            kind: PrincipalType::Human,
            name: identity.root().as_str(),
            place: 0,
        });
    }
    let last = identity.hops.len();
    for (place, hop) in (1..).zip(&identity.hops) {
        let name = hop.link.delegatee.as_str();
        let kind = if place == last && identity.kind == PrincipalType::Human {
            PrincipalType::Human
        } else {
            PrincipalType::Agent
        };
        // An agent that stands in the chain twice counts at its lower place.
        people.retain(|known: &Person<'_>| (known.kind, known.name) != (kind, name));
        people.push(Person {
            kind,
            name,
            place: u8::try_from(place).unwrap_or(u8::MAX),
        });
    }
    people
}

/// Which facts about a resource its entity type declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) id: bool,
    pub(crate) organization: bool,
}

fn entity<const N: usize>(
    uid: EntityUID,
    attributes: [(&str, Value); N],
    parent: Option<&EntityUID>,
) -> Entity {
    Entity::new_with_attr_partial_value(
        uid,
        attributes
            .into_iter()
            .map(|(name, value)| (name.into(), PartialValue::Value(value))),
        HashSet::new(),
        parent.cloned().into_iter().collect(),
        [],
    )
}

pub(crate) fn human(uid: EntityUID, organization: &EntityUID) -> Entity {
    let name = Value::from(AsRef::<str>::as_ref(uid.eid()));
    entity(uid, [("name", name)], Some(organization))
}

pub(crate) fn agent(
    uid: EntityUID,
    owner: &Arc<EntityUID>,
    depth: u8,
    organization: &EntityUID,
) -> Entity {
    let attributes = [
        ("name", Value::from(AsRef::<str>::as_ref(uid.eid()))),
        ("owner", Value::from(Arc::clone(owner))),
        ("depth", Value::from(i64::from(depth))),
    ];
    entity(uid, attributes, Some(organization))
}

pub(crate) fn resource(uid: EntityUID, shape: Shape, organization: &EntityUID) -> Entity {
    let parent = shape.organization.then_some(organization);
    if shape.id {
        let id = Value::from(AsRef::<str>::as_ref(uid.eid()));
        entity(uid, [("id", id)], parent)
    } else {
        entity(uid, [], parent)
    }
}

/// Entities whose ancestors are all their parents, beside others.
pub(crate) fn together(base: Option<&Entities>, more: Vec<Entity>) -> Result<Entities, String> {
    let schema = None::<&NoEntitiesSchema>;
    let computed = TCComputation::AssumeAlreadyComputed;
    let extensions = Extensions::all_available();
    match base {
        None => Entities::from_entities(more, schema, computed, extensions),
        Some(base) => {
            let more = more.into_iter().map(Arc::new);
            base.clone()
                .add_entities(more, schema, computed, extensions)
        }
    }
    .map_err(|error| creto_errors::chain(&error))
}

/// Turns instants into Cedar's `datetime`, whose unit is the millisecond.
pub(crate) struct Clockwork {
    epoch: Value,
    duration: &'static ExtensionFunction,
    offset: &'static ExtensionFunction,
}

impl Clockwork {
    pub(crate) fn new() -> Result<Self, String> {
        let function = |name: &str| {
            let name: Name = name.parse().map_err(|error| format!("{error}"))?;
            let known = Extensions::all_available().func(&name);
            known.map_err(|error| creto_errors::chain(&error))
        };
        let epoch = call(function("datetime")?, &[Value::from("1970-01-01")])?;
        Ok(Self {
            epoch,
            duration: function("duration")?,
            offset: function("offset")?,
        })
    }

    /// The instant this many nanoseconds after the Unix epoch.
    pub(crate) fn at(&self, nanoseconds: i64) -> Result<Value, String> {
        let milliseconds = nanoseconds.div_euclid(1_000_000);
        let since = call(self.duration, &[Value::from(format!("{milliseconds}ms"))])?;
        call(self.offset, &[self.epoch.clone(), since])
    }
}

fn call(function: &ExtensionFunction, arguments: &[Value]) -> Result<Value, String> {
    let value = function
        .call(arguments)
        .map_err(|error| creto_errors::chain(&error))?;
    Value::try_from(value).map_err(|error| creto_errors::chain(&error))
}

/// The context of a request whose values are known to fit.
pub(crate) fn context(
    question: &Question<'_>,
    approved: bool,
    now: Option<Value>,
) -> Result<Context, String> {
    let units = units(question)?;
    let given = question.context.iter().map(|(name, value)| {
        let value = match *value {
            ContextValue::Bool(value) => Value::from(value),
            ContextValue::Long(value) => Value::from(value),
            ContextValue::Text(value) => Value::from(value),
            ContextValue::Texts(values) => {
                Value::set(values.iter().map(|value| Value::from(*value)), None)
            }
        };
        (*name, value)
    });
    let oversight = Value::record([("approved", Value::from(approved))], None);
    let filled = [(OVERSIGHT, oversight), (UNITS, Value::from(units))];
    let now = now.map(|now| (NOW, now));
    let record = Value::record(filled.into_iter().chain(now).chain(given), None);
    match record.value {
        ValueKind::Record(values) => Ok(Context::Value(values)),
        _ => Err("the context is not a record".to_owned()),
    }
}

pub(crate) fn units(question: &Question<'_>) -> Result<i64, String> {
    let units = question.units;
    i64::try_from(units).map_err(|_| format!("{units} units are more than can be asked for"))
}
