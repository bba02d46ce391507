//! What a leaf commits to, and the one door through which its record is read.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use creto_crypto::sha256_of;
use creto_tlog::MAX_ENTRY_LEN;
use creto_types::{
    ActionId, Evidence, PrincipalName, append_canonical, append_canonical_str, canonical_json,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::LeafFault;
use crate::record::{ReadLeaf, SealedHead, read_any};
use crate::{LeafError, RecordFault};

/// Separates commitments from every other digest.
const CONTEXT: &[u8] = b"creto/commitment/v1\0";

/// Bytes of a salt: as many as the digest has, so that trying payloads is no easier than
/// trying salts.
const SALT_LEN: usize = 32;

/// What a leaf commits to its payload by: SHA-256 over a context, a random salt and the
/// payload. It says nothing of the payload without the salt, and no other pair leads to
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commitment([u8; 32]);

impl Commitment {
    /// The commitment with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Commitment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Commitment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = || serde::de::Error::custom("64 lower-case hexadecimal digits are expected");
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(expected());
        }
        let bytes = hex::decode(&text).map_err(|_| expected())?;
        bytes.try_into().map(Self).map_err(|_| expected())
    }
}

/// The fields of a record that are not in its leaf.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFields {
    #[serde(default, rename = "action_id")]
    _action_id: Option<ActionId>,
    #[serde(rename = "actor")]
    _actor: PrincipalName,
    #[serde(rename = "body")]
    _body: serde::de::IgnoredAny,
}

/// What payloads are seldom longer than, in bytes.
const USUAL_LEN: usize = 512;

/// A payload and the salt it was committed to with: whoever has both can check the leaf.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    salt: [u8; SALT_LEN],
    payload: Vec<u8>,
}

impl Opening {
    /// The payload of a record: the RFC 8785 form of its `actor`, `action_id` and `body`.
    pub fn of(record: &Evidence, salt: [u8; 32]) -> Result<Self, LeafError> {
        let mut payload = Vec::with_capacity(USUAL_LEN);
        payload.push(b'{');
        if let Some(action) = record.action_id {
            // Writing to memory does not fail.
            let _ = write!(payload, "\"action_id\":\"{action}\",");
        }
        payload.extend_from_slice(b"\"actor\":");
        append_canonical_str(record.actor.as_str(), &mut payload)?;
        payload.extend_from_slice(b",\"body\":");
        append_canonical(&record.body, &mut payload)?;
        payload.push(b'}');
        // A file of payloads has the same form as one of entries.
        let (len, limit) = (payload.len(), MAX_ENTRY_LEN - SALT_LEN);
        if len > limit {
            return Err(LeafError::TooLong { len, limit });
        }
        Ok(Self { salt, payload })
    }

    /// An opening from its parts.
    pub fn from_parts(salt: &[u8], payload: Vec<u8>) -> Option<Self> {
        let salt = salt.try_into().ok()?;
        Some(Self { salt, payload })
    }

    /// The salt and, behind it, the payload; none when there are fewer bytes than a salt
    /// has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (salt, payload) = bytes.split_first_chunk()?;
        Some(Self {
            salt: *salt,
            payload: payload.to_vec(),
        })
    }

    /// As [`Opening::from_bytes`] takes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SALT_LEN + self.payload.len());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The salt.
    #[must_use]
    pub const fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// The payload as it was committed to.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What a leaf commits to this with.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        Commitment(sha256_of(&[CONTEXT, &self.salt, &self.payload]))
    }
}

/// Shows no content: openings end up in errors and logs otherwise.
impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({} bytes)", self.payload.len())
    }
}

/// Why the payload of a leaf is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// The person's data was erased: the key is destroyed.
    Erased,
    /// It was kept as long as it is to be kept.
    Expired,
    /// It is kept, and was not given to whoever reads.
    NotDisclosed,
}

impl Withheld {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Erased => "erased",
            Self::Expired => "expired",
            Self::NotDisclosed => "not_disclosed",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is not the name of a reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason for withholding a payload")]
pub struct UnknownWithheld;

impl FromStr for Withheld {
    type Err = UnknownWithheld;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Erased, Self::Expired, Self::NotDisclosed]
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownWithheld)
    }
}

/// Where the rest of a record is that its leaf does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the leaf, which is one from before payloads were sealed.
    Clear,
    /// Here.
    Opened(Opening),
    /// Nowhere, or not here.
    Withheld(Withheld),
}

/// A leaf and what is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The leaf.
    pub leaf: Vec<u8>,
    /// The rest.
    pub content: Content,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// All of it, with the fields of a clear leaf; see [`crate::leaf_bytes`].
    Whole(Value),
    /// Only the fields of the leaf.
    Withheld {
        /// These.
        leaf: Value,
        /// Why there are no more.
        why: Withheld,
    },
}

impl Record {
    /// All of it, or none.
    #[must_use]
    pub fn whole(self) -> Option<Value> {
        match self {
            Self::Whole(record) => Some(record),
            Self::Withheld { .. } => None,
        }
    }

    /// The fields that are there.
    #[must_use]
    pub const fn value(&self) -> &Value {
        match self {
            Self::Whole(value) | Self::Withheld { leaf: value, .. } => value,
        }
    }

    /// Why some are not.
    #[must_use]
    pub const fn withheld(&self) -> Option<Withheld> {
        match self {
            Self::Whole(_) => None,
            Self::Withheld { why, .. } => Some(*why),
        }
    }

    /// The fields that are there, and why some are not.
    #[must_use]
    pub fn into_parts(self) -> (Value, Option<Withheld>) {
        match self {
            Self::Whole(value) => (value, None),
            Self::Withheld { leaf, why } => (leaf, Some(why)),
        }
    }
}

impl StoredRecord {
    /// A leaf from before payloads were sealed.
    #[must_use]
    pub const fn clear(leaf: Vec<u8>) -> Self {
        Self {
            leaf,
            content: Content::Clear,
        }
    }

    /// The record. A payload that is not the one the leaf commits to is never given.
    pub fn read(&self) -> Result<Record, RecordFault> {
        let (leaf, ..) = read_any(&self.leaf)?;
        Ok(join(leaf, &self.content)?)
    }
}

/// The record of a leaf, out of what is kept beside it.
pub(crate) fn join(leaf: ReadLeaf, content: &Content) -> Result<Record, LeafFault> {
    match (leaf.sealed, content) {
        (None, Content::Clear) => Ok(Record::Whole(leaf.value)),
        (None, _) => Err(LeafFault::NeedlessPayload),
        (Some(_), Content::Clear) => Err(LeafFault::NoPayload),
        (Some(_), Content::Withheld(why)) => Ok(Record::Withheld {
            leaf: leaf.value,
            why: *why,
        }),
        (Some(head), Content::Opened(opening)) => open(&head, leaf.value, opening),
    }
}

fn open(head: &SealedHead, leaf: Value, opening: &Opening) -> Result<Record, LeafFault> {
    if opening.commitment() != head.commitment {
        return Err(LeafFault::OtherPayload);
    }
    let fault = |error: serde_json::Error| LeafFault::NotAPayload(error.to_string());
    let fields: Map<String, Value> = serde_json::from_slice(&opening.payload).map_err(fault)?;
    if canonical_json(&fields).ok().as_deref() != Some(&opening.payload) {
        return Err(LeafFault::NotAPayload(
            "it is not in canonical form (RFC 8785)".to_owned(),
        ));
    }
    serde_json::from_slice::<StoredFields>(&opening.payload).map_err(fault)?;
    let Value::Object(mut record) = leaf else {
        return Err(LeafFault::NotARecord("it is no object".to_owned()));
    };
    for own in ["v", "subject", "commitment"] {
        record.remove(own);
    }
    record.extend(fields);
    Ok(Record::Whole(Value::Object(record)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use creto_types::{HybridTimestamp, LeafIndex, SubjectId, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::{RecordClass, leaf_bytes, sealed_leaf_bytes};

    fn record(text: &str, number: i32, action: bool) -> Evidence {
        let action = action.then(|| "act_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap());
        Evidence {
            org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap(),
            kind: "resource.read".to_owned(),
            at: Timestamp::from_second(1_700_000_000).unwrap(),
            actor: "release-bot".parse().unwrap(),
            action_id: action,
            body: serde_json::json!({ "text": text, "number": number }),
        }
    }

    fn sealed(record: &Evidence, opening: &Opening) -> Vec<u8> {
        sealed_leaf_bytes(
            LeafIndex(7),
            HybridTimestamp::of_instant(record.at),
            RecordClass::Evidence,
            record,
            SubjectId::of_random([3; 16]),
            opening.commitment(),
        )
        .unwrap()
    }

    proptest! {
        /// What is read through the door is the record that was written, and the leaf
        /// says none of it.
        #[test]
        fn an_opened_leaf_is_the_record(
            text in "[a-z]{12,40}",
            number in any::<i32>(),
            action in any::<bool>(),
            salt in any::<[u8; 32]>(),
        ) {
            let record = record(&text, number, action);
            let opening = Opening::of(&record, salt).unwrap();
            let leaf = sealed(&record, &opening);
            let shown = String::from_utf8(leaf.clone()).unwrap();
            prop_assert!(!shown.contains(&text) && !shown.contains("release-bot"));
            let stored = StoredRecord { leaf, content: Content::Opened(opening.clone()) };
            let ts = HybridTimestamp::of_instant(record.at);
            let clear = leaf_bytes(LeafIndex(7), ts, RecordClass::Evidence, &record).unwrap();
            let whole = stored.read().unwrap().whole().unwrap();
            prop_assert_eq!(canonical_json(&whole).unwrap(), clear.clone());
            prop_assert_eq!(StoredRecord::clear(clear).read().unwrap().whole(), Some(whole));
            prop_assert_eq!(Opening::from_bytes(&opening.to_bytes()), Some(opening));
        }

        /// One changed bit of salt or payload opens nothing.
        #[test]
        fn a_changed_opening_is_refused(place in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let record = record("text", 1, true);
            let opening = Opening::of(&record, [5; 32]).unwrap();
            let leaf = sealed(&record, &opening);
            let mut bytes = opening.to_bytes();
            let place = place.index(bytes.len());
            *bytes.get_mut(place).unwrap() ^= 1 << bit;
            let content = Content::Opened(Opening::from_bytes(&bytes).unwrap());
            let fault = StoredRecord { leaf, content }.read().unwrap_err();
            prop_assert_eq!(fault, RecordFault::from(LeafFault::OtherPayload));
        }
    }

    #[test]
    fn a_salt_makes_equal_payloads_differ() {
        let record = record("text", 1, true);
        let one = Opening::of(&record, [1; 32]).unwrap();
        let two = Opening::of(&record, [2; 32]).unwrap();
        assert_eq!(one.payload(), two.payload());
        assert_ne!(one.commitment(), two.commitment());
    }

    #[test]
    fn what_is_committed_to_is_never_taken_for_clear() {
        let record = record("text", 1, true);
        let opening = Opening::of(&record, [1; 32]).unwrap();
        let leaf = sealed(&record, &opening);
        let fault = StoredRecord::clear(leaf.clone()).read().unwrap_err();
        assert_eq!(fault, LeafFault::NoPayload.into());
        let content = Content::Withheld(Withheld::Erased);
        let read = StoredRecord { leaf, content }.read().unwrap();
        assert_eq!(read.withheld(), Some(Withheld::Erased));
        assert_eq!(read.value().get("actor"), None);
        assert_eq!(read.whole(), None);
        let ts = HybridTimestamp::of_instant(record.at);
        let leaf = leaf_bytes(LeafIndex(7), ts, RecordClass::Evidence, &record).unwrap();
        let content = Content::Opened(opening);
        let fault = StoredRecord { leaf, content }.read().unwrap_err();
        assert_eq!(fault, LeafFault::NeedlessPayload.into());
    }
}
