//! What can go wrong between the journal and the log's files.

use std::error::Error;
use std::sync::Arc;

use creto_crypto::CryptoError;
use creto_errors::{Class, Classify};
use creto_tlog::{EntryError, NoteError, ProofError, TileError};
use creto_types::{CanonicalError, LeafIndex, OrgId, StoreError};

/// A record cannot be a leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The record has no canonical JSON form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The leaf would not fit the log's entry format.
    #[error("a log record of {len} bytes is over the limit of {limit} bytes")]
    TooLong {
        /// Its length as canonical JSON.
        len: usize,
        /// The longest that fits.
        limit: usize,
    },
}

impl Classify for LeafError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Canonical(error) => error.code(),
            Self::TooLong { .. } => "log_record_too_long",
        }
    }
}

/// The log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The journal or the tile store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An organization's log keys cannot be had.
    #[error("the log keys of {org} are unavailable")]
    Keys {
        /// Whose.
        org: OrgId,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A log key is of another algorithm than its purpose asks for.
    #[error("the {purpose} key must be {expected}, not {got}")]
    WrongKey {
        /// What the key is for.
        purpose: &'static str,
        /// The algorithm that purpose has.
        expected: &'static str,
        /// The algorithm of the key.
        got: &'static str,
    },
    /// Signing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// What is stored contradicts itself: journal, tiles and checkpoint do not
    /// tell the same history. Never repaired, never signed over.
    #[error("the log of {org} contradicts itself at {place}: {detail}")]
    Corrupt {
        /// Whose log.
        org: OrgId,
        /// The leaf or file.
        place: String,
        /// What does not fit.
        detail: String,
    },
    /// The configured origin prefix makes no key name.
    #[error("`{origin}` cannot be the origin of a log")]
    Origin {
        /// The origin it leads to.
        origin: String,
        /// Why not.
        #[source]
        source: NoteError,
    },
    /// The record cannot be a leaf.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// There is no such leaf.
    #[error("the log of {org} has no leaf {leaf}; it has {size}")]
    UnknownLeaf {
        /// Whose log.
        org: OrgId,
        /// The leaf asked for.
        leaf: LeafIndex,
        /// The leaves there are.
        size: u64,
    },
    /// There are no such states of the log.
    #[error(
        "the log of {org} has no states of {from} and {to} leaves in this order; it has {size}"
    )]
    UnknownSize {
        /// Whose log.
        org: OrgId,
        /// The earlier size asked for.
        from: u64,
        /// The later one.
        to: u64,
        /// The leaves there are.
        size: u64,
    },
    /// The name of an attachment is not a plain relative path.
    #[error(
        "`{name}` cannot be the name of an attachment: letters, digits, `.`, `_`, `-`, in parts between `/`, each name once"
    )]
    AttachmentName {
        /// The name.
        name: String,
    },
    /// Trace records cannot be made durable at the moment: the ones accepted
    /// before are kept and tried again, new ones are refused.
    #[error("trace records cannot be written at the moment")]
    TraceFailing(#[source] Arc<StoreError>),
    /// The service was opened without a search index ([`crate::Audit::index_with`]).
    #[error("this log keeps no search index")]
    NotIndexed,
    /// The search index has not got to the end of the log for long.
    #[error("the search index of {org} has {searched} of {size} leaves and is not getting on")]
    IndexBehind {
        /// Whose log.
        org: OrgId,
        /// The leaves that can be found.
        searched: u64,
        /// The leaves there are.
        size: u64,
    },
    /// The service has stopped.
    #[error("the audit log has stopped")]
    Stopped,
}

impl Classify for AuditError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Crypto(error) => error.class(),
            Self::Leaf(error) => error.class(),
            Self::Corrupt { .. } | Self::WrongKey { .. } => Class::Security,
            Self::Keys { .. }
            | Self::Origin { .. }
            | Self::UnknownLeaf { .. }
            | Self::UnknownSize { .. }
            | Self::NotIndexed
            | Self::AttachmentName { .. } => Class::Permanent,
            Self::TraceFailing(_) | Self::IndexBehind { .. } | Self::Stopped => Class::Transient,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Keys { .. } => "log_keys_unavailable",
            Self::WrongKey { .. } => "log_key_wrong_algorithm",
            Self::Crypto(error) => error.code(),
            Self::Corrupt { .. } => "log_corrupt",
            Self::Origin { .. } => "log_origin_invalid",
            Self::Leaf(error) => error.code(),
            Self::UnknownLeaf { .. } => "unknown_leaf",
            Self::UnknownSize { .. } => "unknown_log_size",
            Self::AttachmentName { .. } => "attachment_name_invalid",
            Self::TraceFailing(_) => "trace_unavailable",
            Self::NotIndexed => "log_not_indexed",
            Self::IndexBehind { .. } => "log_index_behind",
            Self::Stopped => "audit_stopped",
        }
    }
}

/// Why stored bytes are not the leaf that belongs at their place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeafFault {
    #[error("it is not a record of the log: {0}")]
    NotARecord(String),
    #[error("it is not in canonical form (RFC 8785)")]
    NotCanonical,
    #[error("it says that it is leaf {0}")]
    OtherIndex(u64),
    #[error("it says that it belongs to {0}")]
    OtherOrg(String),
    #[error("it is of version {0}, which this program does not know")]
    OtherVersion(u8),
    #[error("the payload is not the one that it commits to")]
    OtherPayload,
    #[error("its payload is not one of a record: {0}")]
    NotAPayload(String),
    #[error("its payload is kept nowhere, and it is not in clear")]
    NoPayload,
    #[error("it is in clear, and has a payload beside it")]
    NeedlessPayload,
}

/// What is stored for a leaf is not the record that the leaf is of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct RecordFault(#[from] LeafFault);

impl From<RecordFault> for StoreError {
    fn from(fault: RecordFault) -> Self {
        Self::Corrupt {
            what: "record",
            source: Box::new(fault),
        }
    }
}

/// Contradictions that the log's own formats find.
pub(crate) fn corrupt(org: OrgId, place: impl ToString, detail: impl ToString) -> AuditError {
    AuditError::Corrupt {
        org,
        place: place.to_string(),
        detail: detail.to_string(),
    }
}

pub(crate) fn tile_fault(org: OrgId, error: &TileError) -> AuditError {
    let place = match error {
        TileError::Missing(tile) | TileError::WrongSize { tile, .. } => tile.to_string(),
    };
    corrupt(org, place, error)
}

pub(crate) fn proof_fault(org: OrgId, leaf: u64, error: &ProofError) -> AuditError {
    corrupt(org, format!("leaf {leaf}"), error)
}

pub(crate) fn entry_fault(org: OrgId, leaf: u64, error: &EntryError) -> AuditError {
    corrupt(org, format!("leaf {leaf}"), error)
}
