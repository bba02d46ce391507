//! What is wrong with a record, and which records that are not there may explain it.

use std::collections::{BTreeMap, HashSet};

use creto_nhi::LinkId;

/// What is wrong with a record.
#[derive(Debug)]
pub(super) enum Fault {
    /// It contradicts itself, or what is there.
    Wrong(String),
    /// What it needs is not there, or was not undone. A record of one of these kinds would
    /// say it.
    Absent(Kinds, String),
    /// It needs this delegation.
    Ungranted(LinkId, String),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

pub(super) const fn absent(kinds: Kinds, message: String) -> Fault {
    Fault::Absent(kinds, message)
}

/// Kinds of records.
pub(super) type Kinds = &'static [&'static str];

/// Who says that somebody is there.
pub(super) const PEOPLE: Kinds = &["organization.created", "principal.created"];
/// Who says what role a person has who is there.
pub(super) const ROLES: Kinds = &["role.set"];
/// Who says what role somebody has of whom nothing is known.
pub(super) const STRANGERS: Kinds = &["organization.created", "principal.created", "role.set"];
pub(super) const KEYS: Kinds = &["principal.key_rotated"];
pub(super) const STRANGERS_KEYS: Kinds = &[
    "organization.created",
    "principal.created",
    "principal.key_rotated",
];
pub(super) const SUSPENSIONS: Kinds = &["principal.suspended"];
pub(super) const RESUMPTIONS: Kinds = &["principal.resumed"];
pub(super) const LIMITS: Kinds = &["limit.set", "limit.removed"];
pub(super) const RATES: Kinds = &["rate.set", "rate.removed"];
pub(super) const POLICIES: Kinds = &["policy.published", "policy.rolled_back", "policy.reloaded"];
pub(super) const PREKEYS: Kinds = &["prekeys.published"];
/// Who ends the waiting of prekeys.
pub(super) const PREKEYS_GONE: Kinds =
    &["prekeys.published", "prekey.taken", "principal.key_revoked"];
pub(super) const SETTLEMENTS: Kinds = &["usage.settled"];
pub(super) const INVOICES: Kinds = &["invoice.issued"];

const GRANT: &str = "delegation.granted";

/// Records that are not there, or could not be judged, of those so far.
#[derive(Default)]
pub(super) struct Unread {
    kinds: BTreeMap<String, usize>,
    /// Delegations that others need and nobody granted. Each is in a record of its own.
    ungranted: HashSet<LinkId>,
}

impl Unread {
    /// One more of this kind.
    pub(super) fn add(&mut self, kind: &str) {
        let count = self.kinds.entry(kind.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// Whether what is missing may stand in one of them; what contradicts does not.
    pub(super) fn may_explain(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::Wrong(_) => false,
            Fault::Absent(kinds, _) => kinds.iter().any(|kind| self.kinds.contains_key(*kind)),
            Fault::Ungranted(link, _) => {
                self.ungranted.insert(*link);
                let holes = self.kinds.get(GRANT).copied().unwrap_or_default();
                self.ungranted.len() <= holes
            }
        }
    }
}
