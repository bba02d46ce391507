//! What holds an action back, and what an approval of it lifts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::Policy;

use crate::model::{Approval, PolicyId};

/// Joins the ids of policies that hold one action back together; so no id
/// contains it.
pub(crate) const JOIN: char = '+';

/// The policies that hold an action back, each with what it says: the SHA-256, in
/// lower-case hexadecimal, of the policy in Cedar's JSON format with its annotations.
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
    /// Whether it lifts every policy that holds the action back.
    pub(crate) fn lifts(&self, held_by: &HeldBy) -> bool {
        match self {
            Self::Given(approved) => held_by
                .0
                .iter()
                .all(|(id, digest)| !digest.is_empty() && approved.0.get(id) == Some(digest)),
            Self::Supposed(named) => {
                let named: BTreeSet<&str> = named.as_str().split(JOIN).collect();
                held_by.0.keys().all(|id| named.contains(id.as_str()))
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
    Ok(hex::encode(creto_crypto::sha256(
        json.to_string().as_bytes(),
    )))
}
