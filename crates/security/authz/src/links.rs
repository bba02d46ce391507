//! Links of policy templates, in the file format of Cedar's command line: a JSON
//! array of `{"template_id", "link_id", "args"}`, where `args` gives an entity to
//! each slot, such as `{"?principal": "Creto::Agent::\"bot\""}`.

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{EntityUid, PolicyId as CedarId, PolicySet, SlotId};
use serde::Deserialize;

/// One policy made from a template.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) template_id: String,
    pub(crate) link_id: String,
    args: BTreeMap<String, String>,
}

/// The links of one file; an empty file has none.
pub(crate) fn parse(text: &str) -> Result<Vec<Link>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Link {
    fn values(&self) -> Result<HashMap<SlotId, EntityUid>, String> {
        let value = |(slot, entity): (&String, &String)| {
            let slot = match slot.as_str() {
                "?principal" => SlotId::principal(),
                "?resource" => SlotId::resource(),
                other => return Err(format!("{other:?} is neither ?principal nor ?resource")),
            };
            let entity = entity
                .parse()
                .map_err(|error| format!("{entity:?} is not an entity: {error}"))?;
            Ok((slot, entity))
        };
        self.args.iter().map(value).collect()
    }

    /// Adds the policy to the set its template is in.
    pub(crate) fn apply(&self, set: &mut PolicySet) -> Result<(), String> {
        set.link(
            CedarId::new(&self.template_id),
            CedarId::new(&self.link_id),
            self.values()?,
        )
        .map_err(|error| creto_errors::chain(&error))
    }
}
