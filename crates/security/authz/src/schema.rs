//! The schema an organization's policies are written against.
//!
//! It is served only when it takes what the engine fills in (`filled.rs`). That is
//! tried here once, so that a request has nothing left to check but what its
//! caller chose: the action, the type of the resource, and the caller's context.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    Context, Entities, Entity, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
    SchemaFragment,
};
use cedar_policy_core::ast::{Entity as CoreEntity, EntityType, EntityUID, RestrictedExpr, Value};
use cedar_policy_core::entities::{Dereference, Entities as CoreEntities};
use cedar_policy_core::validator::types::{Attributes, Type};
use creto_nhi::{AgentIdentity, PrincipalType};
use creto_types::OrgId;

use crate::bounds::{Bounds, Grammar, too_deep, too_large};
use crate::error::{Finding, PolicyError};
use crate::evaluate::Question;
use crate::filled::{self, Clockwork, NOW, OVERSIGHT, Shape, UNITS};
use crate::model::ContextValue;
use crate::policies::{line_of, message_of};

const NAMESPACE: &str = "Creto";

/// Two names, since an enumerated entity type may happen to have one of them.
const PROBES: [&str; 2] = ["probe", "another probe"];

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
pub(crate) struct Names {
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

    pub(crate) fn organization(&self) -> &EntityType {
        self.organization.as_ref()
    }

    pub(crate) fn human(&self) -> &EntityType {
        self.human.as_ref()
    }

    pub(crate) fn agent(&self) -> &EntityType {
        self.agent.as_ref()
    }
}

/// What an action's context declares an attribute to be, of the types a caller
/// has values for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Bool,
    Long,
    Text,
    Texts,
    Other,
}

impl Declared {
    const fn of(value: &ContextValue<'_>) -> Self {
        match value {
            ContextValue::Bool(_) => Self::Bool,
            ContextValue::Long(_) => Self::Long,
            ContextValue::Text(_) => Self::Text,
            ContextValue::Texts(_) => Self::Texts,
        }
    }

    /// As Cedar's schemas call it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::Long => "Long",
            Self::Text => "String",
            Self::Texts => "Set<String>",
            Self::Other => "of a type that requests have no values of",
        }
    }
}

/// What is known of an action of the schema.
pub(crate) struct ActionShape {
    pub(crate) uid: Arc<EntityUID>,
    pub(crate) ancestors: Vec<EntityUID>,
    cedar: EntityUid,
    resources: HashSet<String>,
    /// The caller's part of the context, sorted, and which of it must be there.
    caller: BTreeMap<Box<str>, (Declared, bool)>,
    required: usize,
    /// Whether the engine fills in the time.
    pub(crate) now: bool,
    /// Whether what the engine fills in is all that the schema wants of it.
    engine_fits: bool,
    /// Whether the context has what the engine fills in.
    has_engine: bool,
}

impl ActionShape {
    /// The names a caller may give values to.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.caller.keys().map(|name| &**name)
    }

    /// Whether these values fit, seen without Cedar. What does not fit here may
    /// still: an empty set has no type of its own.
    fn takes(&self, values: &[(&str, ContextValue<'_>)]) -> bool {
        let mut required = 0_usize;
        for (position, (name, value)) in values.iter().enumerate() {
            let Some((declared, must)) = self.caller.get(*name) else {
                return false;
            };
            let fits = *declared == Declared::of(value);
            let again = values.iter().take(position).any(|(known, _)| known == name);
            if !fits || again {
                return false;
            }
            required = required.saturating_add(usize::from(*must));
        }
        required == self.required
    }

    /// What of these values does not fit, in words; `None` where that is something else.
    fn misfit(&self, values: &[(&str, ContextValue<'_>)]) -> Option<String> {
        for (name, value) in values {
            let Some((declared, _)) = self.caller.get(*name) else {
                let known: Vec<String> = self.names().map(|name| format!("`{name}`")).collect();
                let known = match known.is_empty() {
                    true => "declares none for this action".to_owned(),
                    false => format!("declares {} for this action", known.join(", ")),
                };
                return Some(format!(
                    "of the context, it does not declare `{name}`; it {known}"
                ));
            };
            let empty = matches!(value, ContextValue::Texts([]));
            if *declared != Declared::Other && *declared != Declared::of(value) && !empty {
                let (wanted, got) = (declared.as_str(), Declared::of(value).as_str());
                return Some(format!(
                    "of the context, `{name}` is {wanted} there, not {got}"
                ));
            }
        }
        let given = |wanted: &str| values.iter().any(|(name, _)| *name == wanted);
        let mut declared = self.caller.iter();
        let (name, (declared, _)) = declared.find(|(name, (_, must))| *must && !given(name))?;
        let kind = declared.as_str();
        Some(format!("of the context, it requires `{name}`, {kind}"))
    }

    /// Reads an action's declared context; `None` without one.
    fn read(schema: &Schema, action: &EntityUid, resources: HashSet<String>) -> Option<Self> {
        let uid: &EntityUID = action.as_ref();
        let Type::Record { attrs, .. } = schema.as_ref().context_type(uid)? else {
            return None;
        };
        let is_datetime = |kind: &Type| matches!(kind, Type::ExtensionType { name } if name.to_string() == "datetime");
        let now = attrs
            .get_attr(NOW)
            .is_some_and(|now| is_datetime(&now.attr_type));
        let engine = |name: &str| name == OVERSIGHT || name == UNITS || (now && name == NOW);
        let caller: BTreeMap<Box<str>, (Declared, bool)> = attrs
            .iter()
            .filter(|(name, _)| !engine(name))
            .map(|(name, attribute)| {
                let declared = (declared(&attribute.attr_type), attribute.is_required);
                (name.as_str().into(), declared)
            })
            .collect();
        let required = caller.values().filter(|(_, must)| *must).count();
        Some(Self {
            uid: Arc::new(uid.clone()),
            ancestors: Vec::new(),
            cedar: action.clone(),
            resources,
            caller,
            required,
            now,
            engine_fits: engine_fits(attrs),
            has_engine: has_engine(attrs),
        })
    }
}

fn declared(kind: &Type) -> Declared {
    match kind {
        Type::Bool(_) => Declared::Bool,
        Type::Long => Declared::Long,
        Type::String => Declared::Text,
        Type::Set {
            element_type: Some(element),
        } if **element == Type::String => Declared::Texts,
        _ => Declared::Other,
    }
}

/// Whether a policy may read what the engine fills in without asking whether it is there.
fn has_engine(attributes: &Attributes) -> bool {
    let required = |attributes: &Attributes, name: &str, kind: fn(&Type) -> bool| {
        attributes
            .get_attr(name)
            .is_some_and(|attribute| attribute.is_required && kind(&attribute.attr_type))
    };
    let approved = |kind: &Type| match kind {
        Type::Record { attrs, .. } => attrs.get_attr("approved").is_some_and(|approved| {
            approved.is_required && matches!(*approved.attr_type, Type::Bool(_))
        }),
        _ => false,
    };
    required(attributes, UNITS, |kind| *kind == Type::Long)
        && required(attributes, OVERSIGHT, approved)
}

fn engine_fits(attributes: &Attributes) -> bool {
    let units = attributes
        .get_attr(UNITS)
        .is_some_and(|units| *units.attr_type == Type::Long);
    let oversight = attributes.get_attr(OVERSIGHT).is_some_and(|oversight| {
        let Type::Record { attrs, .. } = &*oversight.attr_type else {
            return false;
        };
        attrs.iter().all(|(name, attribute)| {
            if name == "approved" {
                matches!(*attribute.attr_type, Type::Bool(_))
            } else {
                !attribute.is_required
            }
        })
    });
    units && oversight
}

/// A resource type that the engine can fill.
pub(crate) struct ResourceShape {
    pub(crate) kind: EntityType,
    pub(crate) shape: Shape,
}

/// A schema that can be served.
pub(crate) struct Served {
    pub(crate) schema: Schema,
    pub(crate) names: Names,
    actions: HashMap<String, ActionShape>,
    resources: HashMap<String, ResourceShape>,
    pub(crate) action_entities: CoreEntities,
    clockwork: Option<Clockwork>,
}

impl Served {
    /// Parses the files as one schema and checks that the engine can fill it.
    pub(crate) fn load(files: &[(String, String)]) -> Result<Self, PolicyError> {
        let unusable = |message| {
            let file = files.first().map_or("", |(file, _)| file.as_str());
            PolicyError::SchemaUnfit(vec![Finding {
                file: file.to_owned(),
                line: None,
                policy: None,
                message,
            }])
        };
        if files.is_empty() {
            let message = "there is no schema: no file ends in .cedarschema (`creto init` writes \
                           one to begin with)";
            return Err(unusable(message.to_owned()));
        }
        let schema = parse(files)?;
        let action_entities = schema
            .action_entities()
            .map_err(|error| unusable(chain(&error)))?;
        let mut served = Self {
            actions: HashMap::new(),
            resources: HashMap::new(),
            names: Names::new(),
            action_entities: action_entities.as_ref().clone(),
            clockwork: None,
            schema,
        };
        let problems = served.fit();
        if problems.is_empty() {
            if served.actions.values().any(|action| action.now) {
                served.clockwork = Some(Clockwork::new().map_err(unusable)?);
            }
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

    pub(crate) fn action(&self, name: &str) -> Option<&ActionShape> {
        self.actions.get(name)
    }

    /// The actions the schema knows.
    pub(crate) fn action_shapes(&self) -> impl Iterator<Item = (&str, &ActionShape)> {
        self.actions
            .iter()
            .map(|(name, shape)| (name.as_str(), shape))
    }

    pub(crate) fn resource(&self, kind: &str) -> Option<&ResourceShape> {
        self.resources.get(kind)
    }

    /// The types of resources the schema knows.
    pub(crate) fn resource_shapes(&self) -> impl Iterator<Item = (&str, &ResourceShape)> {
        self.resources
            .iter()
            .map(|(name, shape)| (name.as_str(), shape))
    }

    pub(crate) fn organization(&self, org: OrgId) -> EntityUID {
        filled::uid(self.names.organization(), &org.to_string())
    }

    /// The time of a question, for an action that declares it.
    pub(crate) fn now(&self, question: &Question<'_>) -> Result<Option<Value>, String> {
        let wanted = self
            .action(question.action)
            .is_some_and(|action| action.now);
        match &self.clockwork {
            Some(clockwork) if wanted => clockwork.at(question.now).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether a question fits the schema, as Cedar's own validation of a request
    /// says; most that do are seen to without asking it.
    pub(crate) fn check(
        &self,
        identity: &AgentIdentity,
        question: &Question<'_>,
        action: &ActionShape,
    ) -> Result<(), String> {
        if self.plainly_fits(question, action) {
            return Ok(());
        }
        let resource = question.resource;
        let shape = self
            .resource(&resource.kind)
            .ok_or_else(|| format!("the schema has no resource type `{}`", resource.kind))?;
        let context = self.context(question, action)?;
        let people = filled::people(identity);
        for person in people {
            let principal = filled::uid(self.kind_of(person.kind), person.name);
            Request::new(
                principal.into(),
                action.cedar.clone(),
                filled::uid(&shape.kind, &resource.id).into(),
                context.clone(),
                Some(&self.schema),
            )
            // Cedar names the context as a whole, and cuts a long one off.
            .map_err(|error| {
                action
                    .misfit(question.context)
                    .unwrap_or_else(|| chain(&error))
            })?;
        }
        Ok(())
    }

    /// Whether a question fits the schema, without Cedar and without allocating;
    /// `false` only says that it must be asked.
    pub(crate) fn plainly_fits(&self, question: &Question<'_>, action: &ActionShape) -> bool {
        action.engine_fits
            && action.resources.contains(&question.resource.kind)
            && filled::units(question).is_ok()
            && action.takes(question.context)
    }

    pub(crate) fn kind_of(&self, kind: PrincipalType) -> &EntityType {
        match kind {
            PrincipalType::Human => self.names.human(),
            PrincipalType::Agent => self.names.agent(),
        }
    }

    /// Finds actions and resource types; returns what the engine cannot fill.
    fn fit(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut actions: BTreeMap<EntityUid, [HashSet<EntityTypeName>; 2]> = BTreeMap::new();
        let mut resources: BTreeSet<EntityTypeName> = BTreeSet::new();
        for env in self.schema.request_envs() {
            let [principals, targets] = actions.entry(env.action().clone()).or_default();
            principals.insert(env.principal().clone());
            targets.insert(env.resource().clone());
            resources.insert(env.resource().clone());
        }
        for (action, [kinds, targets]) in actions {
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
            let targets = targets.iter().map(ToString::to_string).collect();
            let Some(mut shape) = ActionShape::read(&self.schema, &action, targets) else {
                problems.push(format!("the context of action `{name}` is not a record"));
                continue;
            };
            if !shape.has_engine {
                problems.push(format!(
                    "the context of action `{name}` must have \
                     `oversight: {{ approved: Bool }}` and `units: Long`, neither of them optional"
                ));
                continue;
            }
            if let Dereference::Data(entity) = self.action_entities.entity(&shape.uid) {
                shape.ancestors = entity.ancestors().cloned().collect();
            }
            self.actions.insert(name, shape);
        }
        for kind in resources {
            // A bare name in a request stands in the namespace, whoever asks.
            if kind.namespace().is_empty() {
                problems.push(format!(
                    "resource type `{kind}` stands in no namespace, so no request can name \
                     it: declare it in one, such as `namespace {NAMESPACE} {{ entity {kind}; }}`"
                ));
                continue;
            }
            match self.probe_resource(&kind) {
                Ok(shape) => {
                    let name = kind.to_string();
                    let kind = AsRef::<EntityType>::as_ref(&kind).clone();
                    self.resources.insert(name, ResourceShape { kind, shape });
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

    fn probe_resource(&self, kind: &EntityTypeName) -> Result<Shape, String> {
        let organization = filled::uid(self.names.organization(), PROBES[0]);
        let mut first = None;
        for shape in SHAPES {
            let built = PROBES
                .map(|id| filled::resource(filled::uid(kind.as_ref(), id), shape, &organization));
            match self.conform(built.into()) {
                Ok(()) => return Ok(shape),
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        Err(first.unwrap_or_default())
    }

    fn probe_principals(&self) -> Result<(), String> {
        let mut all = Vec::new();
        for id in PROBES {
            let organization = filled::uid(self.names.organization(), id);
            let owner = filled::uid(self.names.human(), id);
            let agent = filled::uid(self.names.agent(), id);
            all.push(filled::agent(
                agent,
                &Arc::new(owner.clone()),
                1,
                &organization,
            ));
            all.push(filled::human(owner, &organization));
            all.push(CoreEntity::with_uid(organization));
        }
        self.conform(all)
    }

    fn conform(&self, entities: Vec<CoreEntity>) -> Result<(), String> {
        let entities = entities.into_iter().map(Entity::from);
        Entities::from_entities(entities, Some(&self.schema))
            .map(|_| ())
            .map_err(|error| chain(&error))
    }

    /// The context of a request, built with every check Cedar makes.
    fn context(&self, question: &Question<'_>, action: &ActionShape) -> Result<Context, String> {
        let units = filled::units(question)?;
        let now = self.now(question)?;
        let engine = |name: &str| name == OVERSIGHT || name == UNITS || (action.now && name == NOW);
        if let Some((name, _)) = question.context.iter().find(|(name, _)| engine(name)) {
            return Err(format!("the context value `{name}` is the engine's"));
        }
        let oversight = RestrictedExpression::new_record([(
            "approved".to_owned(),
            RestrictedExpression::new_bool(false),
        )])
        .map_err(|error| error.to_string())?;
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let given = question.context.iter().map(|(name, value)| {
            let value = match *value {
                ContextValue::Bool(value) => RestrictedExpression::new_bool(value),
                ContextValue::Long(value) => RestrictedExpression::new_long(value),
                ContextValue::Text(value) => text(value),
                ContextValue::Texts(values) => {
                    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
                }
            };
            ((*name).to_owned(), value)
        });
        let now = now.map(|now| (NOW.to_owned(), RestrictedExpr::from(now).into()));
        let filled = [
            (OVERSIGHT.to_owned(), oversight),
            (UNITS.to_owned(), RestrictedExpression::new_long(units)),
        ];
        let all = filled.into_iter().chain(now).chain(given);
        Context::from_pairs(all).map_err(|error| chain(&error))
    }
}

fn parse(files: &[(String, String)]) -> Result<Schema, PolicyError> {
    let mut fragments = Vec::new();
    let mut findings = Vec::new();
    for (file, text) in files {
        if let Some((line, message)) = too_deep(text, Grammar::Schema, Bounds::LOADED) {
            findings.push(Finding {
                file: file.clone(),
                line: Some(line),
                policy: None,
                message,
            });
            continue;
        }
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
    let unusable = |message| {
        let names: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
        PolicyError::Schema(vec![Finding {
            file: names.join(", "),
            line: None,
            policy: None,
            message,
        }])
    };
    let mut written = Vec::with_capacity(fragments.len());
    for fragment in &fragments {
        let json = fragment.clone().to_json_value();
        written.push(json.map_err(|error| unusable(message_of(&error)))?);
    }
    if let Some(message) = too_large(&written) {
        return Err(unusable(message));
    }
    Schema::from_schema_fragments(fragments).map_err(|error| unusable(message_of(&error)))
}

/// An error of the engine with its causes, for a finding or a denial.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    creto_errors::chain(error)
}
