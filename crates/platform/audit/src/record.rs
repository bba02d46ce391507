//! One record of the log as the bytes of its leaf.

use std::io::Write as _;

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

/// A leaf whose place and timestamp are not known yet: everything else is written.
///
/// A journal knows both only inside the transaction that appends the leaf, where every
/// append waits for the one before; the rest of the work need not be done there.
#[derive(Clone, Debug)]
pub struct LeafForm {
    /// Up to the place.
    head: Vec<u8>,
    /// From the place to the timestamp.
    tail: Vec<u8>,
}

/// The fields before `index` in the order of RFC 8785, section 3.2.3.
#[derive(Serialize)]
struct Head<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action_id: Option<ActionId>,
    actor: &'a PrincipalName,
    at: Timestamp,
    body: &'a serde_json::Value,
    class: RecordClass,
}

/// The fields between `index` and `ts`.
#[derive(Serialize)]
struct Tail<'a> {
    kind: &'a str,
    org: OrgId,
}

impl LeafForm {
    /// Writes what the record alone says.
    pub fn new(class: RecordClass, record: &Evidence) -> Result<Self, LeafError> {
        let mut head = canonical_json(&Head {
            action_id: record.action_id,
            actor: &record.actor,
            at: record.at,
            body: &record.body,
            class,
        })?;
        // The closing brace.
        head.pop();
        head.extend_from_slice(b",\"index\":");
        let fields = canonical_json(&Tail {
            kind: &record.kind,
            org: record.org,
        })?;
        let mut tail = Vec::with_capacity(fields.len() + 8);
        tail.push(b',');
        let inner = fields.get(1..fields.len().saturating_sub(1));
        tail.extend_from_slice(inner.unwrap_or_default());
        tail.extend_from_slice(b",\"ts\":\"");
        Ok(Self { head, tail })
    }

    /// About how long the leaf will be, in bytes.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        self.head.len() + self.tail.len() + 32
    }

    /// The leaf at this place, which is below 2^53: the bytes of [`leaf_bytes`].
    pub fn at(&self, index: LeafIndex, ts: HybridTimestamp) -> Result<Vec<u8>, LeafError> {
        let mut bytes = Vec::with_capacity(self.size_hint());
        bytes.extend_from_slice(&self.head);
        // Writing to memory does not fail.
        let _ = write!(bytes, "{index}");
        bytes.extend_from_slice(&self.tail);
        let _ = write!(bytes, "{ts}\"}}");
        if bytes.len() > MAX_ENTRY_LEN {
            return Err(LeafError::TooLong {
                len: bytes.len(),
                limit: MAX_ENTRY_LEN,
            });
        }
        Ok(bytes)
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The bytes are the same, whichever of the two ways a leaf is written.
        #[test]
        fn a_form_becomes_the_leaf(
            kind in ".{0,20}",
            second in 0_i64..4_000_000_000,
            action in proptest::option::of(any::<u128>()),
            index in 0_u64..1 << 53,
            ts in any::<u64>(),
            key in ".{0,10}",
            text in ".{0,40}",
            number in any::<i32>(),
        ) {
            let record = Evidence {
                org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap(),
                kind,
                at: Timestamp::from_second(second).unwrap(),
                actor: "release-bot".parse().unwrap(),
                // Any number, made into one that is of the version that ids have.
                action_id: action.map(|n| {
                    let n = (n & !(0xf << 76) & !(0x3 << 62)) | 0x7 << 76 | 0x2 << 62;
                    format!("act_{n:032x}").parse().unwrap()
                }),
                body: serde_json::json!({ key: text, "a": [number, null, "\"index\":0"] }),
            };
            let ts = HybridTimestamp::from_u64(ts);
            for class in [RecordClass::Evidence, RecordClass::Trace] {
                let form = LeafForm::new(class, &record).unwrap();
                let leaf = leaf_bytes(LeafIndex(index), ts, class, &record).unwrap();
                prop_assert_eq!(form.at(LeafIndex(index), ts).unwrap(), leaf);
            }
        }
    }
}
