//! Cedar's own answer to the texts that `eval` is given, read as Cedar's command line
//! reads them. Beside the decoder that is tested, not through it.

use std::collections::HashMap;
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, Policy, PolicyId, PolicySet, Request,
    Schema, SlotId, Template,
};
use creto_authz::eval::{EvalAnswer, EvalDecision, EvalError, EvalInput, evaluate};
use serde::Deserialize;
use serde_json::Value;

/// The slices answer what Cedar answers over all policies: the decision, the policies
/// that decided, and the words and order of errors. What Cedar cannot read is refused.
pub(crate) fn agrees(input: &EvalInput<'_>) {
    let found = evaluate(input);
    if let Err(EvalError::TooDeep(_)) = found {
        return;
    }
    // What is not too deep may still be deeper than a thread's stack by default.
    let answered = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(256 << 20);
        let thread = thread.spawn_scoped(scope, || cedar(input));
        thread.expect("a thread").join().expect("no panic")
    });
    match (found, answered) {
        (Ok(mut found), Some(expected)) => {
            // Cedar gives a set of them.
            found.reason.sort();
            assert_eq!(found, expected);
        }
        (Ok(found), None) => panic!("Cedar reads something else than {found:?}"),
        (Err(error), Some(expected)) => {
            panic!("Cedar answers {expected:?}, and here it is refused: {error}")
        }
        (Err(_), None) => {}
    }
}

/// The fields of a request: each of them once, others are left alone.
#[derive(Deserialize)]
struct Asked {
    principal: Value,
    action: Value,
    resource: Value,
    context: Value,
}

/// The fields of a link: each of them once, and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    template_id: String,
    link_id: String,
    args: HashMap<String, String>,
}

fn cedar(input: &EvalInput<'_>) -> Option<EvalAnswer> {
    let schema = match input.schema {
        None => None,
        Some(text) if is_json(text) => Some(Schema::from_json_str(text).ok()?),
        Some(text) => Some(Schema::from_cedarschema_str(text).ok()?.0),
    };
    let mut set = policies(input.policies)?;
    link(&mut set, input.links.unwrap_or_default())?;
    let entities = Entities::from_json_str(input.entities, schema.as_ref()).ok()?;
    let request = request(input.request, schema.as_ref())?;
    let response = Authorizer::new().is_authorized(&request, &set, &entities);
    let diagnostics = response.diagnostics();
    let id = |id: &PolicyId| AsRef::<str>::as_ref(id).to_owned();
    let mut reason: Vec<String> = diagnostics.reason().map(id).collect();
    reason.sort();
    Some(EvalAnswer {
        decision: match response.decision() {
            Decision::Allow => EvalDecision::Allow,
            Decision::Deny => EvalDecision::Deny,
        },
        reason,
        errors: diagnostics.errors().map(ToString::to_string).collect(),
    })
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn policies(text: &str) -> Option<PolicySet> {
    if !is_json(text) {
        return by_annotation(&PolicySet::from_str(text).ok()?);
    }
    let json: Value = serde_json::from_str(text).ok()?;
    let of_set = ["staticPolicies", "templates", "templateLinks"];
    if of_set.iter().any(|field| json.get(field).is_some()) {
        return PolicySet::from_json_str(text).ok();
    }
    if let Ok(policy) = Policy::from_json(None, json.clone()) {
        return PolicySet::from_policies([policy]).ok();
    }
    let mut set = PolicySet::new();
    set.add_template(Template::from_json(None, json).ok()?)
        .ok()?;
    Some(set)
}

/// The policies by their `@id`, where they have one.
fn by_annotation(parsed: &PolicySet) -> Option<PolicySet> {
    let mut set = PolicySet::new();
    for template in parsed.templates() {
        let id = template.annotation("id").map(PolicyId::new);
        let named = id.map_or_else(|| template.clone(), |id| template.new_id(id));
        set.add_template(named).ok()?;
    }
    for policy in parsed.policies() {
        let id = policy.annotation("id").map(PolicyId::new);
        let named = id.map_or_else(|| policy.clone(), |id| policy.new_id(id));
        set.add(named).ok()?;
    }
    Some(set)
}

fn link(set: &mut PolicySet, text: &str) -> Option<()> {
    if text.trim().is_empty() {
        return Some(());
    }
    let links: Vec<Link> = serde_json::from_str(text).ok()?;
    for link in links {
        let values = link.args.iter().map(|(slot, entity)| {
            let slot = match slot.as_str() {
                "?principal" => SlotId::principal(),
                "?resource" => SlotId::resource(),
                _ => return None,
            };
            Some((slot, EntityUid::from_str(entity).ok()?))
        });
        let (template, id) = (PolicyId::new(link.template_id), PolicyId::new(link.link_id));
        set.link(template, id, values.collect::<Option<_>>()?)
            .ok()?;
    }
    Some(())
}

fn request(text: &str, schema: Option<&Schema>) -> Option<Request> {
    let asked: Asked = serde_json::from_str(text).ok()?;
    let uid = |entity: Value| match entity {
        Value::String(text) => EntityUid::from_str(&text).ok(),
        other => EntityUid::from_json(other).ok(),
    };
    let action = uid(asked.action)?;
    let described = schema.map(|schema| (schema, &action));
    let context = Context::from_json_value(asked.context, described).ok()?;
    let (principal, resource) = (uid(asked.principal)?, uid(asked.resource)?);
    Request::new(principal, action, resource, context, schema).ok()
}
