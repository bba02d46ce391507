//! What is wrong with a record, and what of that a record which is not there may explain.

use creto_audit::{PAYLOADS_EXPIRED, SUBJECT_ERASED};

use super::{INVOICES, POLICIES};
use crate::records::EVENT_ORDERED;

/// What is wrong with a record.
pub(super) enum Fault {
    /// It contradicts itself, or what is there.
    Wrong(String),
    /// What it needs is not there, or was not undone.
    Absent(String),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

pub(super) const fn absent(message: String) -> Fault {
    Fault::Absent(message)
}

/// Whether a record of the kind `unread` may hold what a record of `kind`, or a file at
/// that path, needs.
pub(super) fn leans(kind: &str, unread: &str) -> bool {
    let any = |names: &[&str]| names.contains(&unread);
    let people = any(&["organization.created", "principal.created"]);
    let roles = people || unread == "role.set";
    let granted = unread == "delegation.granted";
    let keys = people || unread == "principal.key_rotated";
    let resumed = unread == "principal.resumed";
    match kind {
        "delegation.granted" => keys || granted || resumed,
        "delegation.refused" | "delegation.revoked" | "usage.settled" => granted,
        "role.set" | "principal.revoked" | SUBJECT_ERASED | PAYLOADS_EXPIRED | EVENT_ORDERED => {
            roles
        }
        "principal.suspended" | "principal.resumed" => {
            roles || any(&["principal.suspended", "principal.resumed"])
        }
        "principal.key_rotated" | "principal.key_revoked" => roles || keys,
        "identity.signed" => keys,
        "prekeys.published" => keys || resumed || any(&["prekeys.published", "prekey.taken"]),
        "prekey.taken" => keys || resumed || unread == "prekeys.published",
        _ => {
            let same = |family: &str| kind.starts_with(family) && unread.starts_with(family);
            if kind.starts_with(INVOICES) {
                any(&["usage.settled", "invoice.issued"])
            } else if kind.starts_with(POLICIES) {
                unread.starts_with("policy.")
            } else if kind.starts_with("limit.") {
                roles || granted || same("limit.")
            } else {
                roles || same("rate.") || same("policy.")
            }
        }
    }
}
