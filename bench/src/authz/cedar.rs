//! Cedar itself, with the same policies.

use std::error::Error;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Schema, SchemaFragment,
    ValidationMode, Validator,
};

use super::hot::at_random;
use super::world::policies;
use crate::peers::Measured;
use crate::ticks::Ticks;

/// One bare evaluation for one principal, by so many threads at once that share all of
/// it, and loading: parsed and strictly validated, on one thread.
pub(crate) fn cedar(count: usize, threads: u64) -> Result<Measured, Box<dyn Error>> {
    let sources = policies(count);
    let text: String = sources.policies.iter().map(|(_, text)| &**text).collect();
    let mut fragments = Vec::new();
    for (_, text) in &sources.schema {
        fragments.push(SchemaFragment::from_cedarschema_str(text)?.0);
    }
    let validator = Validator::new(Schema::from_schema_fragments(fragments)?);
    let mut loading = Ticks::new();
    let set = loading.time(|| -> Result<PolicySet, Box<dyn Error>> {
        let set: PolicySet = text.parse()?;
        let found = validator.validate(&set, ValidationMode::Strict);
        if !found.validation_passed() {
            return Err(found.to_string().into());
        }
        Ok(set)
    })?;
    let entities = Entities::from_json_value(
        serde_json::json!([
            {"uid": {"type": "Creto::Agent", "id": "bot"},
             "attrs": {"name": "bot", "depth": 3}, "parents": []},
            {"uid": {"type": "Creto::Resource", "id": "res:1"},
             "attrs": {"id": "res:1"}, "parents": []},
        ]),
        None,
    )?;
    let authorizer = Authorizer::new();
    let uid = |text: &str| text.parse::<EntityUid>().map_err(Box::new);
    let request = Request::new(
        uid("Creto::Agent::\"bot\"")?,
        uid("Creto::Action::\"act.0\"")?,
        uid("Creto::Resource::\"res:1\"")?,
        Context::from_json_value(
            serde_json::json!({"oversight": {"approved": false}, "units": 1}),
            None,
        )?,
        None,
    )?;
    let decision = authorizer.is_authorized(&request, &set, &entities);
    assert_eq!(decision.decision(), Decision::Allow);
    let decided = at_random(
        threads,
        1,
        |_| authorizer.is_authorized(&request, &set, &entities),
        |answer| answer.decision() == Decision::Allow,
    );
    Ok(Measured {
        name: "cedar-policy".to_owned(),
        median: decided.median,
        load: loading.summary().median,
    })
}
