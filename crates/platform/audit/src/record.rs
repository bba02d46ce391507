//! One record of the log as the bytes of its leaf.

use creto_tlog::MAX_ENTRY_LEN;
use creto_types::{
    ActionId, Evidence, HybridTimestamp, LeafIndex, OrgId, PrincipalName, Timestamp, canonical_json,
};
use serde::{Deserialize, Serialize};

use crate::LeafError;
use crate::error::LeafFault;

/// How a record becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordClass {
    /// Durable before its effect: whatever changes authority, money or the
    /// outside world.
    Evidence,
    /// Batched: what egress was asked and told. Slows its producer rather than
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
    ts: HybridTimestamp,
    class: RecordClass,
    #[serde(flatten)]
    record: &'a Evidence,
}

/// The leaf: the RFC 8785 form of the record together with its place, the timestamp that
/// puts it behind everything before ([`HybridTimestamp::behind`]), and its class.
pub fn leaf_bytes(
    index: LeafIndex,
    ts: HybridTimestamp,
    class: RecordClass,
    record: &Evidence,
) -> Result<Vec<u8>, LeafError> {
    let bytes = canonical_json(&Leaf {
        index,
        ts,
        class,
        record,
    })?;
    if bytes.len() > MAX_ENTRY_LEN {
        return Err(LeafError::TooLong {
            len: bytes.len(),
            limit: MAX_ENTRY_LEN,
        });
    }
    Ok(bytes)
}

/// A leaf as it is read back: exactly the fields that [`leaf_bytes`] writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLeaf {
    index: u64,
    // Absent in leaves that are older than this field.
    #[serde(default, rename = "ts", deserialize_with = "present")]
    _ts: Option<HybridTimestamp>,
    #[serde(rename = "class")]
    _class: RecordClass,
    org: OrgId,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "at")]
    _at: Timestamp,
    #[serde(rename = "actor")]
    _actor: PrincipalName,
    #[serde(default, rename = "action_id")]
    _action_id: Option<ActionId>,
    #[serde(rename = "body")]
    _body: serde::de::IgnoredAny,
}

/// Reads a leaf that stands at `index` of this organization's log.
pub(crate) fn read_leaf(
    bytes: &[u8],
    org: OrgId,
    index: u64,
) -> Result<serde_json::Value, LeafFault> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| LeafFault::NotARecord(e.to_string()))?;
    // A repeated key, a space or another spelling of a number ends here.
    if canonical_json(&value).ok().as_deref() != Some(bytes) {
        return Err(LeafFault::NotCanonical);
    }
    let leaf: StoredLeaf =
        serde_json::from_slice(bytes).map_err(|e| LeafFault::NotARecord(e.to_string()))?;
    if leaf.index != index {
        return Err(LeafFault::OtherIndex(leaf.index));
    }
    if leaf.org != org {
        return Err(LeafFault::OtherOrg(leaf.org.to_string()));
    }
    Ok(value)
}

/// What is there is a timestamp; `null` is none.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<HybridTimestamp>, D::Error> {
    HybridTimestamp::deserialize(deserializer).map(Some)
}

/// That the timestamps of a log rise strictly from leaf to leaf.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: Option<(u64, HybridTimestamp)>,
}

#[derive(Deserialize)]
struct Placed {
    #[serde(default)]
    ts: Option<HybridTimestamp>,
    at: Timestamp,
}

impl Order {
    /// Takes a leaf that was read, behind those before it.
    pub(crate) fn take(&mut self, index: u64, leaf: &serde_json::Value) -> Result<(), String> {
        let placed = Placed::deserialize(leaf).map_err(|error| error.to_string())?;
        let Some(ts) = placed.ts else {
            return match self.last {
                None => Ok(()),
                Some((before, _)) => Err(format!("has no timestamp, and leaf {before} has one")),
            };
        };
        let before = self.last.replace((index, ts));
        if let Some((leaf, last)) = before
            && ts <= last
        {
            return Err(format!(
                "its timestamp {ts} is not behind {last} of leaf {leaf}"
            ));
        }
        if ts < HybridTimestamp::of_instant(placed.at) {
            return Err(format!("its timestamp {ts} is before it happened"));
        }
        Ok(())
    }
}
