//! One record of the log as the bytes of its leaf.

use creto_types::{CanonicalError, Evidence, LeafIndex, canonical_json};
use serde::{Deserialize, Serialize};

/// How a record becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordClass {
    /// Durable before its effect: whatever changes authority, money or the
    /// outside world.
    Evidence,
    /// Batched: allowed reads, egress checks. Slows its producer rather than
    /// being dropped.
    Trace,
}

impl RecordClass {
    /// The name on the wire and in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Trace => "trace",
        }
    }
}

#[derive(Serialize)]
struct Leaf<'a> {
    index: LeafIndex,
    class: RecordClass,
    #[serde(flatten)]
    record: &'a Evidence,
}

/// The leaf: the RFC 8785 form of the record together with its place and class.
pub fn leaf_bytes(
    index: LeafIndex,
    class: RecordClass,
    record: &Evidence,
) -> Result<Vec<u8>, CanonicalError> {
    canonical_json(&Leaf {
        index,
        class,
        record,
    })
}
