//! What holds an action back, and what an approval of it lifts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::Policy;
use serde_json::Value;

use crate::model::{Approval, PolicyId};

/// Joins the ids of policies that hold one action back together; so no id
/// contains it.
pub(crate) const JOIN: char = '+';

/// The policies that hold an action back, each with what it says: the SHA-256, in
/// lower-case hexadecimal, of the policy in Cedar's JSON format with its annotations,
/// written without white space and with the members of each object sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldBy(Arc<BTreeMap<PolicyId, String>>);

impl HeldBy {
    /// The policy's id, or all of them joined by `+`.
    #[must_use]
    pub fn policy_id(&self) -> PolicyId {
        let ids: Vec<&str> = self.0.keys().map(PolicyId::as_str).collect();
        PolicyId::from(ids.join(&JOIN.to_string()))
    }

    /// The digest of each, by its id.
    pub fn digests(&self) -> impl Iterator<Item = (&PolicyId, &str)> {
        self.0.iter().map(|(id, digest)| (id, digest.as_str()))
    }
}

impl FromIterator<(PolicyId, String)> for HeldBy {
    fn from_iter<T: IntoIterator<Item = (PolicyId, String)>>(digests: T) -> Self {
        Self(Arc::new(digests.into_iter().collect()))
    }
}

impl Approval {
    /// Whether it lifts every policy that holds the action back and asks for this kind.
    pub(crate) fn lifts(&self, held_by: &HeldBy, kind: &str) -> bool {
        match self {
            Self::Given {
                held_by: approved,
                oversight,
            } => {
                let same = |(id, digest): (&PolicyId, &String)| {
                    !digest.is_empty() && approved.0.get(id) == Some(digest)
                };
                oversight == kind && held_by.0.iter().all(same)
            }
            Self::Supposed {
                policies,
                oversight,
            } => {
                let named: BTreeSet<&str> = policies.as_str().split(JOIN).collect();
                oversight.as_ref().is_none_or(|known| known == kind)
                    && held_by.0.keys().all(|id| named.contains(id.as_str()))
            }
        }
    }
}

/// What a policy says, as [`HeldBy`] tells it. A policy made from a template says what
/// the template says of the entities it was linked to.
pub(crate) fn digest(policy: &Policy) -> Result<String, String> {
    let json = policy
        .to_json()
        .map_err(|error| creto_errors::chain(&error))?;
    let text = sorted(json).to_string();
    Ok(hex::encode(creto_crypto::sha256(text.as_bytes())))
}

/// With the members of each object by name. RFC 8785 does that too, but writes numbers so
/// that large ones of Cedar would be the same.
fn sorted(json: Value) -> Value {
    match json {
        Value::Object(members) => {
            let members: BTreeMap<String, Value> = members.into_iter().collect();
            let members = members.into_iter();
            members.map(|(name, value)| (name, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Open approvals end when this changes, so it does not by chance.
    #[test]
    fn what_a_policy_says_is_written_in_one_way() {
        let text = r#"@oversight("k") @id("a") forbid (principal, action, resource)
            when { context.units < 9007199254740993 } unless { context.oversight.approved };"#;
        let policy = Policy::parse(None, text).unwrap();
        let written = sorted(policy.to_json().unwrap()).to_string();
        assert!(
            written.starts_with(r#"{"action":{"op":"All"},"annotations":{"id":"a""#),
            "{written}"
        );
        assert!(written.contains("9007199254740993"), "{written}");
        let known = "7f59d21f63d92ad9bae3c3a3dcedaa19d97069314c87ebc972f13369d378ea20";
        assert_eq!(digest(&policy).unwrap(), known);
    }
}
