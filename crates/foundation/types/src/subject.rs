//! Whose record it is.

use crate::{Id, IdKind, OrgId};

/// The kind of [`SubjectId`].
#[derive(Debug)]
pub enum SubjectKind {}

impl IdKind for SubjectKind {
    const PREFIX: &'static str = "sub";
}

/// The pseudonym of a person, or of the organization itself, in the log of one
/// organization. Drawn at random: it says nothing, and nothing but the store leads from
/// it to a name.
pub type SubjectId = Id<SubjectKind>;

impl SubjectId {
    /// A new one, of random bytes throughout (UUIDv4): not even when it was made shows.
    #[must_use]
    pub fn of_random(bytes: [u8; 16]) -> Self {
        Self::from_uuid(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// What the subject's key at rest is bound to.
    #[must_use]
    pub fn key_purpose(self, org: OrgId) -> String {
        format!("creto/audit/{org}/subject/{self}")
    }
}
