//! What a durable store can answer besides success. Every state port uses this
//! error, so that a use case reads the same over SQLite, PostgreSQL or memory.

use std::error::Error;

use creto_errors::{Class, Classify};

use crate::{Claim, LeafIndex};

/// The reply kept for an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReply {
    /// SHA-256 over the canonical request that the reply answers.
    pub request_digest: [u8; 32],
    /// The response as it was built before its leaves were known.
    pub response: serde_json::Value,
    /// The leaves of that commit.
    pub leaves: Vec<LeafIndex>,
}

/// A store did not do what was asked. Nothing was changed, but where it says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A commit with this idempotency key is already durable; here is its reply.
    #[error("this idempotency key was already used")]
    Replayed(Box<StoredReply>),
    /// The single-use token was used up before.
    #[error("the single-use token was already used")]
    AlreadyClaimed {
        /// What the change would have used up.
        claim: Claim,
    },
    /// No such row in this organization.
    #[error("no such {what}")]
    NotFound {
        /// The kind of thing: `delegation`, `oversight request`.
        what: &'static str,
    },
    /// The row exists already, or is no longer in the state the change expects.
    #[error("{what} was changed by someone else or exists already")]
    Conflict {
        /// The kind of thing.
        what: &'static str,
    },
    /// Another process owns it.
    #[error("{what} is in use by another process")]
    InUse {
        /// The kind of thing.
        what: &'static str,
    },
    /// Another process opened the store after this one did, and owns it now: nothing
    /// that this one writes is taken any more.
    #[error("this process opened the store as number {own}, and number {newest} owns it now")]
    Fenced {
        /// The epoch of the caller.
        own: u64,
        /// The newest.
        newest: u64,
    },
    /// A record is larger than its place allows.
    #[error("{what} is too large to be stored: {size} bytes, at most {limit} are possible")]
    TooLarge {
        /// The kind of thing.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The largest possible.
        limit: usize,
    },
    /// What is stored cannot be read back. Never repaired silently.
    #[error("stored {what} cannot be read back")]
    Corrupt {
        /// The kind of thing.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// What is stored names an algorithm that this build does not know, or that the
    /// configuration does not accept any more. Nothing is wrong with it otherwise.
    #[error("stored {what} cannot be read by the algorithms that are accepted")]
    Algorithm {
        /// The kind of thing.
        what: &'static str,
        /// Whether it is unknown or not accepted.
        code: &'static str,
        /// Which algorithm.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Who keeps the root key did not open what is under it. Nothing was changed.
    #[error("the keystore gave no key for stored {what}")]
    Keystore {
        /// The kind of thing.
        what: &'static str,
        /// What the keystore's error is called.
        code: &'static str,
        /// And its class.
        class: Class,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The change was not made, and never will be: too many wait, the store is being
    /// closed, or its engine failed before the change was to become durable.
    #[error("the state store did not make the change")]
    NotDone(#[source] Box<dyn Error + Send + Sync>),
    /// There is no room left on the disk. The change was not made; it can be once there
    /// is room again, without a restart.
    #[error("the state store's disk is full")]
    Full(#[source] Box<dyn Error + Send + Sync>),
    /// The engine failed: closed, I/O. A change that was under way may be durable all the
    /// same.
    #[error("the state store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// Whether a file operation failed for want of room: on the disk, or in the share of it that
/// its user may take.
#[must_use]
pub fn is_disk_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Replayed(_)
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::TooLarge { .. } => Class::Permanent,
            Self::AlreadyClaimed { .. }
            | Self::Corrupt { .. }
            | Self::Algorithm { .. }
            | Self::Fenced { .. } => Class::Security,
            Self::Unavailable(_) | Self::NotDone(_) | Self::Full(_) | Self::InUse { .. } => {
                Class::Transient
            }
            Self::Keystore { class, .. } => *class,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Replayed(_) => "idempotency_replay",
            Self::AlreadyClaimed { .. } => "already_used",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::InUse { .. } => "store_in_use",
            Self::Fenced { .. } => "fenced",
            Self::TooLarge { .. } => "record_too_large",
            Self::Corrupt { .. } => "stored_data_corrupt",
            Self::Algorithm { code, .. } | Self::Keystore { code, .. } => code,
            Self::NotDone(_) => "store_not_done",
            Self::Full(_) => "storage_full",
            Self::Unavailable(_) => "store_unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_a_token() {
        let claim = Claim {
            org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap(),
            token: "grt_hunter2".to_owned(),
        };
        let error = StoreError::AlreadyClaimed { claim };
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("org_"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
