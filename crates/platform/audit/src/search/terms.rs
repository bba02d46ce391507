//! What a leaf can be found by.

use std::collections::{BTreeSet, HashMap};

use creto_types::{LeafIndex, OrgId};
use serde_json::Value;

use super::{IndexKey, SearchIndex};
use crate::error::corrupt;
use crate::{AuditError, Journal, StoredRecord};

/// The longest value that is searched for, in bytes; as long as names may be. A longer
/// one is in no index.
pub const MAX_VALUE_BYTES: usize = 512;

/// Ids whose chain is remembered; more than this and all are looked up anew.
const REMEMBERED: usize = 10_000;

/// Hops of a chain that are followed upwards. More than any configuration allows; a
/// circle, which no log of ours has, ends here too.
const MAX_HOPS: usize = 64;

/// What a search looks at. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SearchField {
    /// Who did it, and whom the record names as the agent it is about.
    Agent = 1,
    /// Whoever is in the chain of delegations behind it, the agent itself among them; and
    /// the ids of those delegations.
    Member = 2,
    /// The name of the action.
    Action = 3,
    /// The resource: its id; one with a type also as `TYPE::ID`.
    Resource = 4,
    /// What was decided.
    Outcome = 5,
    /// The record's kind.
    Kind = 6,
    /// The id of the delegation or sandbox that the record began. Leads from an id to
    /// its chain while leaves are indexed; nobody asks for it.
    Origin = 7,
}

impl SearchField {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Member => "member",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::Outcome => "outcome",
            Self::Kind => "kind",
            Self::Origin => "origin",
        }
    }

    /// The field that is asked for by this name.
    pub(crate) fn asked_for(name: &str) -> Option<Self> {
        [
            Self::Agent,
            Self::Member,
            Self::Action,
            Self::Resource,
            Self::Outcome,
            Self::Kind,
        ]
        .into_iter()
        .find(|field| field.name() == name)
    }
}

/// One thing that a leaf says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SearchTerm {
    /// About what.
    pub field: SearchField,
    /// Exactly this.
    pub value: String,
}

impl SearchTerm {
    /// That `field` is `value`.
    pub fn new(field: SearchField, value: impl Into<String>) -> Self {
        Self {
            field,
            value: value.into(),
        }
    }
}

/// Who stands behind an id, and the id above it.
#[derive(Clone, Debug, Default)]
struct Origin {
    members: Vec<String>,
    parent: Option<String>,
}

/// Where it is looked up what leaves before said.
pub(super) struct Known<'a> {
    pub(super) journal: &'a dyn Journal,
    pub(super) index: &'a dyn SearchIndex,
    pub(super) key: &'a IndexKey,
}

/// Reads the terms of leaves, in the order of one log after another.
#[derive(Debug, Default)]
pub(super) struct Reader {
    origins: HashMap<(OrgId, String), Origin>,
}

impl Reader {
    /// The terms of each leaf, of which the first stands at `from`; everything before it
    /// is in the index.
    pub(super) async fn read(
        &mut self,
        org: OrgId,
        from: u64,
        leaves: &[StoredRecord],
        known: &Known<'_>,
    ) -> Result<Vec<Vec<SearchTerm>>, AuditError> {
        if self.origins.len() > REMEMBERED {
            self.origins.clear();
        }
        let mut all = Vec::with_capacity(leaves.len());
        for (place, stored) in (from..).zip(leaves) {
            let record = stored
                .read()
                .map_err(|fault| corrupt(org, format!("leaf {place}"), fault))?;
            // Of a payload that is gone the leaf alone is found: by its kind.
            let (leaf, _) = record.into_parts();
            let mut terms = own_terms(&leaf);
            if let Some((id, origin)) = origin(&leaf) {
                add(&mut terms, SearchField::Origin, &id);
                self.origins.insert((org, id), origin);
            }
            for id in references(&leaf) {
                let mut above = Some(id);
                for _ in 0..MAX_HOPS {
                    let Some(id) = above.take() else { break };
                    add(&mut terms, SearchField::Member, &id);
                    let origin = self.origin(org, id, from, known).await?;
                    for member in &origin.members {
                        add(&mut terms, SearchField::Member, member);
                    }
                    above.clone_from(&origin.parent);
                }
            }
            all.push(terms.into_iter().collect());
        }
        Ok(all)
    }

    /// Who stands behind the id. Nobody, when the log never said so.
    async fn origin(
        &mut self,
        org: OrgId,
        id: String,
        covered: u64,
        known: &Known<'_>,
    ) -> Result<&Origin, AuditError> {
        let key = (org, id);
        if !self.origins.contains_key(&key) {
            let term = SearchTerm::new(SearchField::Origin, key.1.clone());
            let tags = vec![known.key.tag(&term)];
            let found = known.index.find(org, 0..covered, tags, 1).await?;
            let stored = match found.leaves.first() {
                Some(LeafIndex(leaf)) => known.journal.records(org, *leaf, 1).await?.pop(),
                None => None,
            };
            let origin = stored
                .and_then(|stored| stored.read().ok())
                .and_then(|record| origin(record.value()))
                .map(|(_, origin)| origin)
                .unwrap_or_default();
            self.origins.insert(key.clone(), origin);
        }
        Ok(self.origins.entry(key).or_default())
    }
}

fn add(terms: &mut BTreeSet<SearchTerm>, field: SearchField, value: &str) {
    if (1..=MAX_VALUE_BYTES).contains(&value.len()) {
        terms.insert(SearchTerm::new(field, value));
    }
}

fn text<'a>(leaf: &'a Value, pointer: &str) -> Option<&'a str> {
    leaf.pointer(pointer).and_then(Value::as_str)
}

/// What the leaf says without any other.
pub(crate) fn own_terms(leaf: &Value) -> BTreeSet<SearchTerm> {
    use SearchField::{Action, Agent, Kind, Member, Outcome, Resource};
    let mut terms = BTreeSet::new();
    for (pointer, field) in [
        ("/actor", Agent),
        ("/actor", Member),
        ("/body/agent", Agent),
        ("/body/agent", Member),
        ("/body/delegatee", Member),
        ("/body/action", Action),
        ("/body/resource", Resource),
        ("/body/resource/id", Resource),
        ("/body/destination", Resource),
        ("/body/secret", Resource),
        ("/body/outcome", Outcome),
        ("/kind", Kind),
    ] {
        if let Some(value) = text(leaf, pointer) {
            add(&mut terms, field, value);
        }
    }
    if let (Some(kind), Some(id)) = (
        text(leaf, "/body/resource/type"),
        text(leaf, "/body/resource/id"),
    ) {
        add(&mut terms, Resource, &format!("{kind}::{id}"));
    }
    terms
}

/// The delegation or sandbox that the leaf begins, by its id.
fn origin(leaf: &Value) -> Option<(String, Origin)> {
    let owned = |pointer| text(leaf, pointer).map(ToOwned::to_owned);
    let (id, members, parent) = match text(leaf, "/kind")? {
        "delegation.granted" => (
            owned("/body/link/id")?,
            [owned("/body/link/delegator"), owned("/body/link/delegatee")],
            owned("/body/link/parent"),
        ),
        "sandbox.started" => (
            owned("/body/sandbox_id")?,
            [owned("/actor"), owned("/body/agent")],
            owned("/body/delegation"),
        ),
        _ => return None,
    };
    let members = members.into_iter().flatten().collect();
    Some((id, Origin { members, parent }))
}

/// The ids in the leaf that lead to its chain.
fn references(leaf: &Value) -> Vec<String> {
    let many = leaf.pointer("/body/delegations").and_then(Value::as_array);
    let one = [
        "/body/delegation",
        "/body/sandbox_id",
        "/body/link/id",
        "/body/parent",
    ];
    let one = one.into_iter().filter_map(|pointer| text(leaf, pointer));
    let revoked = (text(leaf, "/kind") == Some("delegation.revoked"))
        .then(|| text(leaf, "/body/id"))
        .flatten();
    many.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .chain(one)
        .chain(revoked)
        .map(ToOwned::to_owned)
        .collect()
}
