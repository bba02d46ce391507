//! One record of the log as the bytes of its leaf.

use std::io::Write as _;
use std::str::FromStr;

use creto_tlog::MAX_ENTRY_LEN;
use creto_types::{
    ActionId, Evidence, HybridTimestamp, LeafIndex, OrgId, PrincipalName, SubjectId, Timestamp,
    append_canonical_str, canonical_json,
};
use serde::{Deserialize, Serialize};

use crate::error::LeafFault;
use crate::{Commitment, LeafError, RecordFault};

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

/// A text is not the name of a class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown class of records")]
pub struct UnknownClass;

impl FromStr for RecordClass {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Evidence, Self::Trace]
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or(UnknownClass)
    }
}

#[derive(Serialize)]
struct Clear<'a> {
    index: LeafIndex,
    ts: HybridTimestamp,
    class: RecordClass,
    #[serde(flatten)]
    record: &'a Evidence,
}

/// A record in clear: its RFC 8785 form together with its place, the timestamp that puts
/// it behind everything before ([`HybridTimestamp::behind`]), and its class. So records
/// are read; leaves were this before payloads were sealed.
pub fn leaf_bytes(
    index: LeafIndex,
    ts: HybridTimestamp,
    class: RecordClass,
    record: &Evidence,
) -> Result<Vec<u8>, LeafError> {
    bounded(canonical_json(&Clear {
        index,
        ts,
        class,
        record,
    })?)
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>, LeafError> {
    if bytes.len() > MAX_ENTRY_LEN {
        return Err(LeafError::TooLong {
            len: bytes.len(),
            limit: MAX_ENTRY_LEN,
        });
    }
    Ok(bytes)
}

/// The version of a leaf that commits to its payload. Clear ones have none.
const SEALED: u8 = 2;

#[derive(Serialize)]
struct Committing<'a> {
    v: u8,
    index: LeafIndex,
    ts: HybridTimestamp,
    class: RecordClass,
    org: OrgId,
    kind: &'a str,
    at: Timestamp,
    subject: SubjectId,
    commitment: Commitment,
}

/// The leaf that commits to the record's payload.
pub fn sealed_leaf_bytes(
    index: LeafIndex,
    ts: HybridTimestamp,
    class: RecordClass,
    record: &Evidence,
    subject: SubjectId,
    commitment: Commitment,
) -> Result<Vec<u8>, LeafError> {
    bounded(canonical_json(&Committing {
        v: SEALED,
        index,
        ts,
        class,
        org: record.org,
        kind: &record.kind,
        at: record.at,
        subject,
        commitment,
    })?)
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

impl LeafForm {
    /// Writes what is known before: the fields in the order of RFC 8785, section 3.2.3, of
    /// which `kind` alone may have to be escaped.
    pub fn new(
        class: RecordClass,
        record: &Evidence,
        subject: SubjectId,
        commitment: Commitment,
    ) -> Result<Self, LeafError> {
        let (mut head, mut tail) = (Vec::with_capacity(192), Vec::with_capacity(192));
        let (at, class, org) = (record.at, class.as_str(), record.org);
        // Writing to memory does not fail.
        let _ = write!(
            head,
            "{{\"at\":\"{at}\",\"class\":\"{class}\",\"commitment\":\"{commitment}\",\"index\":"
        );
        tail.extend_from_slice(b",\"kind\":");
        append_canonical_str(&record.kind, &mut tail)?;
        let _ = write!(
            tail,
            ",\"org\":\"{org}\",\"subject\":\"{subject}\",\"ts\":\""
        );
        Ok(Self { head, tail })
    }

    /// About how long the leaf will be, in bytes.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        self.head.len() + self.tail.len() + 40
    }

    /// The leaf at this place, which is below 2^53: the bytes of [`sealed_leaf_bytes`].
    pub fn at(&self, index: LeafIndex, ts: HybridTimestamp) -> Result<Vec<u8>, LeafError> {
        let mut bytes = Vec::with_capacity(self.size_hint());
        bytes.extend_from_slice(&self.head);
        // Writing to memory does not fail.
        let _ = write!(bytes, "{index}");
        bytes.extend_from_slice(&self.tail);
        let _ = write!(bytes, "{ts}\",\"v\":{SEALED}}}");
        bounded(bytes)
    }
}

/// A clear leaf as it is read back: exactly the fields that [`leaf_bytes`] writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredClear {
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

/// A leaf that commits, as it is read back: exactly the fields that
/// [`sealed_leaf_bytes`] writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSealed {
    v: u8,
    index: u64,
    #[serde(rename = "ts")]
    _ts: HybridTimestamp,
    class: RecordClass,
    org: OrgId,
    kind: String,
    #[serde(rename = "at")]
    _at: Timestamp,
    subject: SubjectId,
    commitment: Commitment,
}

/// What a leaf says of a payload that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHead {
    /// Whose log.
    pub org: OrgId,
    /// Durable before its effect, or batched.
    pub class: RecordClass,
    /// What happened.
    pub kind: String,
    /// Whose record.
    pub subject: SubjectId,
    /// To what it commits.
    pub commitment: Commitment,
}

/// The fields of any leaf that say whether and to what it commits.
#[derive(Deserialize)]
struct Loose {
    #[serde(default)]
    v: Option<u8>,
    class: RecordClass,
    org: OrgId,
    kind: String,
    #[serde(default)]
    subject: Option<SubjectId>,
    #[serde(default)]
    commitment: Option<Commitment>,
}

impl SealedHead {
    /// What a leaf of a journal says of its payload; none when it is in clear. Looks at no
    /// more than that: [`crate::StoredRecord::read`] checks the leaf.
    pub fn of(leaf: &[u8]) -> Result<Option<Self>, RecordFault> {
        let leaf: Loose = serde_json::from_slice(leaf)
            .map_err(|error| LeafFault::NotARecord(error.to_string()))?;
        Ok(match (leaf.v, leaf.subject, leaf.commitment) {
            (Some(_), Some(subject), Some(commitment)) => Some(Self {
                org: leaf.org,
                class: leaf.class,
                kind: leaf.kind,
                subject,
                commitment,
            }),
            _ => None,
        })
    }
}

/// A leaf that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadLeaf {
    /// Its fields.
    pub(crate) value: serde_json::Value,
    /// Where it commits to a payload; none when it is in clear.
    pub(crate) sealed: Option<SealedHead>,
}

/// Reads a leaf that stands at `index` of this organization's log.
pub(crate) fn read_leaf(bytes: &[u8], org: OrgId, index: u64) -> Result<ReadLeaf, LeafFault> {
    let leaf = read_any(bytes)?;
    if leaf.1 != index {
        return Err(LeafFault::OtherIndex(leaf.1));
    }
    if leaf.2 != org {
        return Err(LeafFault::OtherOrg(leaf.2.to_string()));
    }
    Ok(leaf.0)
}

/// Reads a leaf, and says where it claims to stand.
pub(crate) fn read_any(bytes: &[u8]) -> Result<(ReadLeaf, u64, OrgId), LeafFault> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| LeafFault::NotARecord(e.to_string()))?;
    // A repeated key, a space or another spelling of a number ends here.
    if canonical_json(&value).ok().as_deref() != Some(bytes) {
        return Err(LeafFault::NotCanonical);
    }
    let unreadable = |e: serde_json::Error| LeafFault::NotARecord(e.to_string());
    if value.get("v").is_none() {
        let leaf: StoredClear = serde_json::from_slice(bytes).map_err(unreadable)?;
        let sealed = None;
        return Ok((ReadLeaf { value, sealed }, leaf.index, leaf.org));
    }
    let leaf: StoredSealed = serde_json::from_slice(bytes).map_err(unreadable)?;
    if leaf.v != SEALED {
        return Err(LeafFault::OtherVersion(leaf.v));
    }
    let sealed = Some(SealedHead {
        org: leaf.org,
        class: leaf.class,
        kind: leaf.kind,
        subject: leaf.subject,
        commitment: leaf.commitment,
    });
    Ok((ReadLeaf { value, sealed }, leaf.index, leaf.org))
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
            // Whole seconds, milliseconds and less are written differently.
            nanos in prop_oneof![Just(0), (0..1_000).prop_map(|ms| ms * 1_000_000), 0..1_000_000_000],
            action in proptest::option::of(any::<u128>()),
            index in 0_u64..1 << 53,
            ts in any::<u64>(),
            subject in any::<[u8; 16]>(),
            commitment in any::<[u8; 32]>(),
        ) {
            let record = Evidence {
                org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap(),
                kind,
                at: Timestamp::new(second, nanos).unwrap(),
                actor: "release-bot".parse().unwrap(),
                // Any number, made into one that is of the version that ids have.
                action_id: action.map(|n| {
                    let n = (n & !(0xf << 76) & !(0x3 << 62)) | 0x7 << 76 | 0x2 << 62;
                    format!("act_{n:032x}").parse().unwrap()
                }),
                body: serde_json::json!({ "a": "not in the leaf" }),
            };
            let ts = HybridTimestamp::from_u64(ts);
            let subject = SubjectId::of_random(subject);
            let commitment = Commitment::from_bytes(commitment);
            for class in [RecordClass::Evidence, RecordClass::Trace] {
                let form = LeafForm::new(class, &record, subject, commitment).unwrap();
                let place = LeafIndex(index);
                let leaf =
                    sealed_leaf_bytes(place, ts, class, &record, subject, commitment).unwrap();
                prop_assert_eq!(&form.at(place, ts).unwrap(), &leaf);
                let read = read_leaf(&leaf, record.org, index).unwrap().sealed.unwrap();
                prop_assert_eq!((read.subject, read.commitment), (subject, commitment));
            }
        }
    }
}
