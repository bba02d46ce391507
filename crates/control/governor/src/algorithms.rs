//! Which algorithms are in force, beside what the configuration says.

use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::{Algorithm, Allowed, AllowedAlgorithms};
use creto_types::{Evidence, OrgId, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Call, Caller, GovernError, Governor};

/// The kind of the record of other lists.
pub(crate) const ALGORITHMS_CHANGED: &str = "crypto.algorithms_changed";

/// Knows the lists that are in force, and those of the configuration.
#[async_trait]
pub trait ConfiguredAlgorithms: Send + Sync {
    /// Both, at this moment. The configuration is read for it.
    async fn lists(&self) -> ConfiguredLists;
}

/// The lists that are in force, and those of the configuration.
#[derive(Clone, Debug)]
pub struct ConfiguredLists {
    /// What is used and read.
    pub in_force: Arc<AllowedAlgorithms>,
    /// Since when.
    pub since: Timestamp,
    /// What the configuration says now; why it says nothing otherwise.
    pub configured: Result<AllowedAlgorithms, ListsRefusal>,
    /// The last time the configuration was read to put it in force, since the start.
    pub reload: Option<ListsReload>,
}

/// Why lists are not put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListsRefusal {
    /// The code of the error.
    pub code: String,
    /// What is wrong, in words.
    pub why: String,
}

/// A time at which the configuration was read to put it in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListsReload {
    /// When.
    pub at: Timestamp,
    /// Why it was refused; absent when its lists are in force since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<ListsRefusal>,
}

/// The algorithms of one kind, by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListAnswer {
    /// By which new objects are made.
    pub new: String,
    /// Which are read.
    pub accepted: Vec<String>,
}

/// The algorithms of every kind, called as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListsAnswer {
    /// Of signatures and their keys.
    pub signatures: ListAnswer,
    /// Of private keys at rest.
    pub key_wrapping: ListAnswer,
    /// Of payloads of records at rest.
    pub sealing: ListAnswer,
    /// Of prekeys.
    pub kem: ListAnswer,
    /// Of digests that agents have signed.
    pub digests: ListAnswer,
    /// Of proofs of possession: those that are read. Clients make them.
    pub dpop: Vec<String>,
}

/// Which algorithms are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlgorithmsAnswer {
    /// What is used and read.
    pub in_force: ListsAnswer,
    /// Since when: the start of the server, or when the configuration was last put in
    /// force.
    pub since: Timestamp,
    /// What the configuration says, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub configured: Option<ListsAnswer>,
    /// Why the configuration, as it is now, cannot be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unreadable: Option<ListsRefusal>,
    /// The last time the server was told to put the configuration in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reload: Option<ListsReload>,
}

/// Other lists are in force for an organization than its log says: what is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ListsChange {
    /// The organization.
    pub org: OrgId,
    /// Its owner, for whom whoever runs the server says which they are.
    pub owner: PrincipalName,
    /// The lists that its log says are in force, in the form of [`ListsAnswer`] that they
    /// were recorded in; none in a log of an earlier version.
    pub before: Option<Value>,
    /// The lists from here on.
    pub after: Value,
}

impl ListsChange {
    /// The record.
    #[must_use]
    pub fn evidence(self, at: Timestamp) -> Evidence {
        Evidence {
            org: self.org,
            kind: ALGORITHMS_CHANGED.to_owned(),
            at,
            actor: self.owner,
            action_id: None,
            body: json!({ "before": self.before, "after": self.after }),
        }
    }
}

impl ListsAnswer {
    /// These lists by their names.
    #[must_use]
    pub fn of(lists: &AllowedAlgorithms) -> Self {
        Self {
            signatures: ListAnswer::of(&lists.signature),
            key_wrapping: ListAnswer::of(&lists.wrapping),
            sealing: ListAnswer::of(&lists.aead),
            kem: ListAnswer::of(&lists.kem),
            digests: ListAnswer::of(&lists.hash),
            dpop: names(lists.holder.list()),
        }
    }
}

impl ListAnswer {
    fn of<A: Algorithm>(list: &Allowed<A>) -> Self {
        Self {
            new: list.for_new().name().to_owned(),
            accepted: names(list.accepted()),
        }
    }
}

fn names<A: Algorithm>(list: &[A]) -> Vec<String> {
    let names = list.iter().map(|algorithm| algorithm.name().to_owned());
    names.collect()
}

impl ConfiguredLists {
    /// Whether the configuration says something else than what is in force, or nothing
    /// that can be read.
    pub(crate) fn differ(&self) -> bool {
        self.configured.as_ref().ok() != Some(self.in_force.as_ref())
    }
}

impl Governor {
    /// Which algorithms are in force, and what the configuration says of them. For people.
    ///
    /// # Errors
    ///
    /// `forbidden` to agents, and to people whose role does not have it.
    pub async fn algorithms(&self, caller: &Caller) -> Result<AlgorithmsAnswer, GovernError> {
        caller.may(Call::GetAlgorithms, self.now())?;
        caller.require_person("see the algorithms of the deployment")?;
        let lists = self.parts.algorithms.lists().await;
        let configured = lists
            .configured
            .as_ref()
            .ok()
            .filter(|_| lists.differ())
            .map(ListsAnswer::of);
        Ok(AlgorithmsAnswer {
            in_force: ListsAnswer::of(&lists.in_force),
            since: lists.since,
            configured,
            unreadable: lists.configured.err(),
            reload: lists.reload,
        })
    }
}
