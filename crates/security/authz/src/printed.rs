//! Policies as text, for people who compare two sets of them.

use std::collections::BTreeMap;

use cedar_policy::{PolicyId as CedarId, PolicyToJsonError};
use serde_json::Value;

use crate::bounds::{Bounds, deep};
use crate::error::PolicyError;
use crate::policies::{PolicyEffect, named};
use crate::sources::PolicySources;

/// One policy or template as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// What it does.
    pub effect: PolicyEffect,
    /// The file it stands in.
    pub file: String,
    /// As it was written.
    pub text: String,
    /// The same for two that say the same: Cedar's JSON form, which knows no comments
    /// and no spaces.
    pub meaning: String,
}

impl PolicySources {
    /// What each policy and each template says, by its name.
    pub fn printed(&self) -> Result<BTreeMap<String, Printed>, PolicyError> {
        deep(Bounds::LOADED, || self.each_printed())
    }

    fn each_printed(&self) -> Result<BTreeMap<String, Printed>, PolicyError> {
        let named = named(self)?;
        let said = |id: &str| {
            let id = CedarId::new(id);
            let policy = named.set.policy(&id);
            let template = named.set.template(&id);
            policy
                .map(|policy| in_both(policy, policy.to_json()))
                .or_else(|| template.map(|template| in_both(template, template.to_json())))
        };
        let infos = named.policies.iter().chain(&named.templates);
        let printed = infos.filter_map(|info| {
            let (text, meaning) = said(info.id.as_str())?;
            let printed = Printed {
                effect: info.effect,
                file: info.file.clone(),
                text,
                meaning,
            };
            Some((info.id.to_string(), printed))
        });
        Ok(printed.collect())
    }
}

fn in_both(policy: &impl ToString, json: Result<Value, PolicyToJsonError>) -> (String, String) {
    let text = policy.to_string();
    let meaning = json.map_or_else(|_| text.clone(), |json| json.to_string());
    (text, meaning)
}
