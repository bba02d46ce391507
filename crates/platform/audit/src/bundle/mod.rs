//! Evidence bundles: a log and what its leaves refer to, as files that a
//! stranger checks offline. `docs/formats/evidence-bundle.md` describes them.

mod archive;
mod export;
mod files;
mod filter;
mod keys;
mod leaves;
mod manifest;
mod payloads;
mod reader;
mod verify;

use std::fmt;

pub use archive::{ARCHIVE_END, ArchiveError, BundleArchive, entry_header, entry_padding};
pub use export::{BundleFile, Export};
pub use payloads::{Unread, is_kept, is_reason};
pub use reader::{BundleReader, DirectoryBundle};
pub use verify::{AttachmentCheck, LeafCheck, Trust, VerifyReport, verify_bundle};

use creto_tlog::Resource;

use crate::head::expect_of_organization;
use crate::{AuditError, LogKeys};

pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const KEYS: &str = "keys.json";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const ATTACHMENTS: &str = "attachments/";

/// Something in a bundle is not as it was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `leaf 7`, `checkpoint signature ed25519`,
    /// `manifest signature`, or the path of a file.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(place: impl ToString, message: impl ToString) -> Self {
        Self {
            place: place.to_string(),
            message: message.to_string(),
        }
    }

    pub(crate) fn leaf(index: u64, message: impl ToString) -> Self {
        Self::new(format_args!("leaf {index}"), message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

pub(crate) fn check_evidence_key(keys: &LogKeys) -> Result<(), AuditError> {
    expect_of_organization("evidence", keys.evidence.verifying_key()).map_err(|e| e.into_audit(""))
}

/// Whether this is a plain relative path that every file system takes.
pub(crate) fn is_attachment_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 200
        && name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain))
}

/// Whether a file of a bundle may have this path. None of them leads out of the directory
/// that the bundle is in.
pub(crate) fn is_bundle_name(path: &str) -> bool {
    if let Some(name) = path.strip_prefix(ATTACHMENTS) {
        return is_attachment_name(name);
    }
    matches!(path, KEYS | MANIFEST) || path.parse::<Resource>().is_ok() || payloads::is_path(path)
}
