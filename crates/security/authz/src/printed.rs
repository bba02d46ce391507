//! Policies as text, for people who compare two sets of them.

use std::collections::BTreeMap;

use crate::error::PolicyError;
use crate::policies::named;
use crate::sources::PolicySources;

/// One policy as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// As it was written.
    pub text: String,
    /// The same for two policies that say the same: Cedar's JSON form, which knows
    /// no comments and no spaces.
    pub meaning: String,
}

impl PolicySources {
    /// What each policy says, by its name.
    pub fn printed(&self) -> Result<BTreeMap<String, Printed>, PolicyError> {
        let set = named(self)?;
        let texts = set.policies().map(|policy| {
            let id: &str = policy.id().as_ref();
            let text = policy.to_string();
            let meaning = policy
                .to_json()
                .map_or_else(|_| text.clone(), |json| json.to_string());
            (id.to_owned(), Printed { text, meaning })
        });
        Ok(texts.collect())
    }
}
