//! The schema an organization's policies are written against, and what the
//! engine fills in: entities and the two context values of every action.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId as CedarId,
    PolicySet, RestrictedExpression, Schema, SchemaFragment, ValidationMode, Validator,
};
use creto_nhi::{AgentIdentity, PrincipalType};
use creto_types::OrgId;

use crate::error::{Finding, PolicyError};
use crate::model::{ContextValue, ResourceRef};
use crate::policies::{line_of, message_of};

const NAMESPACE: &str = "Creto";

/// The names the engine gives values to in every context.
const ENGINE_CONTEXT: [&str; 2] = ["oversight", "units"];

/// Which facts about a resource its entity type declares.
#[derive(Clone, Copy, Debug)]
struct Shape {
    id: bool,
    organization: bool,
}

const SHAPES: [Shape; 4] = [
    Shape {
        id: true,
        organization: true,
    },
    Shape {
        id: true,
        organization: false,
    },
    Shape {
        id: false,
        organization: true,
    },
    Shape {
        id: false,
        organization: false,
    },
];

/// The entity types that the engine fills.
#[derive(Clone)]
struct Names {
    organization: EntityTypeName,
    human: EntityTypeName,
    agent: EntityTypeName,
    action: EntityTypeName,
}

impl Names {
    fn new() -> Self {
        let name = |text: &str| {
            format!("{NAMESPACE}::{text}")
                .parse()
                .expect("two identifiers make an entity type name")
        };
        Self {
            organization: name("Organization"),
            human: name("Human"),
            agent: name("Agent"),
            action: name("Action"),
        }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// A schema that can be served.
pub(crate) struct Served {
    pub(crate) schema: Schema,
    names: Names,
    actions: HashMap<String, EntityUid>,
    resources: HashMap<String, (EntityTypeName, Shape)>,
}

impl Served {
    /// Parses the files as one schema and checks that the engine can fill it.
    pub(crate) fn load(files: &[(String, String)]) -> Result<Self, PolicyError> {
        let schema = parse(files)?;
        let names = Names::new();
        let mut served = Self {
            actions: HashMap::new(),
            resources: HashMap::new(),
            names,
            schema,
        };
        let problems = served.fit();
        if problems.is_empty() {
            return Ok(served);
        }
        let file = files.first().map_or("", |(file, _)| file.as_str());
        let finding = |message| Finding {
            file: file.to_owned(),
            line: None,
            policy: None,
            message,
        };
        Err(PolicyError::SchemaUnfit(
            problems.into_iter().map(finding).collect(),
        ))
    }

    pub(crate) fn actions(&self) -> Vec<String> {
        let sorted: BTreeSet<String> = self.actions.keys().cloned().collect();
        sorted.into_iter().collect()
    }

    pub(crate) fn resources(&self) -> Vec<String> {
        let sorted: BTreeSet<String> = self.resources.keys().cloned().collect();
        sorted.into_iter().collect()
    }

    pub(crate) fn action(&self, name: &str) -> Option<&EntityUid> {
        self.actions.get(name)
    }

    /// Finds actions and resource types; returns what the engine cannot fill.
    fn fit(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut principals: BTreeMap<EntityUid, HashSet<EntityTypeName>> = BTreeMap::new();
        let mut resources: BTreeSet<EntityTypeName> = BTreeSet::new();
        for env in self.schema.request_envs() {
            let known = principals.entry(env.action().clone()).or_default();
            known.insert(env.principal().clone());
            resources.insert(env.resource().clone());
        }
        for (action, kinds) in principals {
            let name = action.id().unescaped().to_owned();
            if *action.type_name() != self.names.action {
                problems.push(format!(
                    "action `{action}` must be declared in the namespace {NAMESPACE}"
                ));
                continue;
            }
            if !kinds.contains(&self.names.human) || !kinds.contains(&self.names.agent) {
                problems.push(format!(
                    "action `{name}` must apply to both principal types, [Human, Agent]: \
                     everyone in a chain of delegations is asked"
                ));
                continue;
            }
            if let Err(problem) = self.probe_context(&action) {
                problems.push(format!(
                    "the context of action `{name}` must have \
                     `oversight: {{ approved: Bool }}` and `units: Long`: {problem}"
                ));
                continue;
            }
            self.actions.insert(name, action);
        }
        for kind in resources {
            match self.probe_resource(&kind) {
                Ok(shape) => {
                    self.resources.insert(kind.to_string(), (kind, shape));
                }
                Err(problem) => problems.push(format!(
                    "the engine gives a resource only `id: String` and the parent \
                     {NAMESPACE}::Organization, which does not fit `{kind}`: {problem}"
                )),
            }
        }
        if let Err(problem) = self.probe_principals() {
            problems.push(format!(
                "{NAMESPACE}::Human must have `name: String`, {NAMESPACE}::Agent \
                 `name: String, owner: Human, depth: Long`, and both the parent \
                 {NAMESPACE}::Organization: {problem}"
            ));
        }
        problems
    }

    /// A policy that reads what the engine fills in passes strict validation only
    /// when the action's context has exactly that.
    fn probe_context(&self, action: &EntityUid) -> Result<(), String> {
        let source = format!(
            "permit (principal, action == {action}, resource) \
             when {{ context.oversight.approved || 0 <= context.units }};"
        );
        let policy = Policy::parse(Some(CedarId::new("probe")), source)
            .map_err(|error| error.to_string())?;
        let set = PolicySet::from_policies([policy]).map_err(|error| error.to_string())?;
        let result = Validator::new(self.schema.clone()).validate(&set, ValidationMode::Strict);
        match result.validation_errors().next() {
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        }
    }

    fn probe_resource(&self, kind: &EntityTypeName) -> Result<Shape, String> {
        let organization = uid(&self.names.organization, "probe");
        let mut first = None;
        for shape in SHAPES {
            let built = resource_entity(kind, shape, "probe", &organization)
                .and_then(|entity| self.conform(vec![entity]));
            match built {
                Ok(()) => return Ok(shape),
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        Err(first.unwrap_or_default())
    }

    fn probe_principals(&self) -> Result<(), String> {
        let organization = uid(&self.names.organization, "probe");
        let human = uid(&self.names.human, "probe");
        let agent = self.agent("probe", &human, 1, &organization)?;
        let human = self.human("probe", &organization)?;
        self.conform(vec![Entity::with_uid(organization), human, agent])
    }

    fn conform(&self, entities: Vec<Entity>) -> Result<(), String> {
        Entities::from_entities(entities, Some(&self.schema))
            .map(|_| ())
            .map_err(|error| chain(&error))
    }

    fn human(&self, name: &str, organization: &EntityUid) -> Result<Entity, String> {
        entity(
            uid(&self.names.human, name),
            [("name", text(name))],
            organization,
        )
    }

    fn agent(
        &self,
        name: &str,
        owner: &EntityUid,
        depth: i64,
        organization: &EntityUid,
    ) -> Result<Entity, String> {
        let attributes = [
            ("name", text(name)),
            ("owner", RestrictedExpression::new_entity_uid(owner.clone())),
            ("depth", RestrictedExpression::new_long(depth)),
        ];
        entity(uid(&self.names.agent, name), attributes, organization)
    }

    /// Everyone a check asks for, the owner first, and all entities it needs.
    pub(crate) fn entities(
        &self,
        identity: &AgentIdentity,
        resource: &ResourceRef,
    ) -> Result<(Vec<EntityUid>, EntityUid, Entities), String> {
        let organization = self.organization(identity.org);
        let mut people: Vec<(EntityUid, Entity)> = Vec::new();
        let owner = uid(&self.names.human, identity.root().as_str());
        if identity.hops.is_empty() || identity.kind == PrincipalType::Agent {
            let root = self.human(identity.root().as_str(), &organization)?;
            people.push((owner.clone(), root));
        }
        let last = identity.hops.len();
        for (depth, hop) in (1..).zip(&identity.hops) {
            let name = hop.link.delegatee.as_str();
            let is_human = depth == last && identity.kind == PrincipalType::Human;
            let (uid, entity) = if is_human {
                (
                    uid(&self.names.human, name),
                    self.human(name, &organization)?,
                )
            } else {
                let depth = i64::try_from(depth).unwrap_or(i64::MAX);
                let agent = self.agent(name, &owner, depth, &organization)?;
                (uid(&self.names.agent, name), agent)
            };
            // An agent that stands in the chain twice counts at its lower place.
            people.retain(|(known, _)| *known != uid);
            people.push((uid, entity));
        }
        let (kind, shape) = self
            .resources
            .get(&resource.kind)
            .ok_or_else(|| format!("the schema has no resource type `{}`", resource.kind))?;
        let target = resource_entity(kind, *shape, &resource.id, &organization)?;
        let target_uid = target.uid();
        let (principals, mut all): (Vec<EntityUid>, Vec<Entity>) = people.into_iter().unzip();
        all.push(target);
        all.push(Entity::with_uid(organization));
        let entities =
            Entities::from_entities(all, Some(&self.schema)).map_err(|error| chain(&error))?;
        Ok((principals, target_uid, entities))
    }

    fn organization(&self, org: OrgId) -> EntityUid {
        uid(&self.names.organization, &org.to_string())
    }

    /// The context of a request.
    pub(crate) fn context(
        values: &[(&str, ContextValue<'_>)],
        units: u64,
        approved: bool,
    ) -> Result<Context, String> {
        let units = i64::try_from(units)
            .map_err(|_| format!("{units} units are more than can be asked for"))?;
        if let Some((name, _)) = values
            .iter()
            .find(|(name, _)| ENGINE_CONTEXT.contains(name))
        {
            return Err(format!("the context value `{name}` is the engine's"));
        }
        let oversight = RestrictedExpression::new_record([(
            "approved".to_owned(),
            RestrictedExpression::new_bool(approved),
        )])
        .map_err(|error| error.to_string())?;
        let given = values.iter().map(|(name, value)| {
            let value = match value {
                ContextValue::Bool(value) => RestrictedExpression::new_bool(*value),
                ContextValue::Long(value) => RestrictedExpression::new_long(*value),
                ContextValue::Text(value) => text(value),
                ContextValue::Texts(values) => {
                    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
                }
            };
            ((*name).to_owned(), value)
        });
        let filled = [
            ("oversight".to_owned(), oversight),
            ("units".to_owned(), RestrictedExpression::new_long(units)),
        ];
        Context::from_pairs(filled.into_iter().chain(given)).map_err(|error| chain(&error))
    }
}

fn entity<const N: usize>(
    uid: EntityUid,
    attributes: [(&str, RestrictedExpression); N],
    parent: &EntityUid,
) -> Result<Entity, String> {
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Entity::new(uid, attributes, HashSet::from([parent.clone()])).map_err(|error| chain(&error))
}

fn resource_entity(
    kind: &EntityTypeName,
    shape: Shape,
    id: &str,
    organization: &EntityUid,
) -> Result<Entity, String> {
    let attributes = if shape.id {
        HashMap::from([("id".to_owned(), text(id))])
    } else {
        HashMap::new()
    };
    let parents = if shape.organization {
        HashSet::from([organization.clone()])
    } else {
        HashSet::new()
    };
    Entity::new(uid(kind, id), attributes, parents).map_err(|error| chain(&error))
}

fn parse(files: &[(String, String)]) -> Result<Schema, PolicyError> {
    let mut fragments = Vec::new();
    let mut findings = Vec::new();
    for (file, text) in files {
        match SchemaFragment::from_cedarschema_str(text) {
            Ok((fragment, _warnings)) => fragments.push(fragment),
            Err(error) => findings.push(Finding {
                file: file.clone(),
                line: line_of(&error, text),
                policy: None,
                message: message_of(&error),
            }),
        }
    }
    if !findings.is_empty() {
        return Err(PolicyError::Schema(findings));
    }
    Schema::from_schema_fragments(fragments).map_err(|error| {
        let names: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
        PolicyError::Schema(vec![Finding {
            file: names.join(", "),
            line: None,
            policy: None,
            message: message_of(&error),
        }])
    })
}

/// An error of the engine with its causes, for a finding or a denial.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    creto_errors::chain(error)
}
