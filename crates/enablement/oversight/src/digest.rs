//! What exactly is approved: the action and its digest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use creto_errors::{Class, Classify};
use creto_types::{OrgId, PrincipalName, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::OversightError;

/// The largest integer that RFC 8785 writes exactly (I-JSON, RFC 7493 section
/// 2.2): 2^53 - 1.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// The action that is held, as the human sees it and as it must run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldAction {
    /// The organization.
    pub org: OrgId,
    /// Who wants to do it.
    pub agent: PrincipalName,
    /// What.
    pub action: String,
    /// To what.
    pub resource: String,
    /// Of this entity type; a `Creto::Resource` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// In this context.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// With exactly these arguments.
    pub args: Value,
    /// How much of it.
    pub units: u64,
    /// The policy that asks for a human, or several joined by `+`.
    pub policy_id: String,
    /// What each of them says, as a digest by its id: an approval is of the rule that
    /// asked for it, not of whatever takes its name later.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policy_digests: BTreeMap<String, String>,
}

impl HeldAction {
    /// SHA-256 over the RFC 8785 form of this action.
    ///
    /// Integers beyond 2^53 - 1 are refused: RFC 8785 writes numbers as IEEE 754
    /// doubles, so two of them could share a digest.
    pub fn digest(&self) -> Result<ActionDigest, OversightError> {
        if self.units > MAX_EXACT {
            return Err(OversightError::InexactNumber {
                place: "units".to_owned(),
            });
        }
        check_exact("args", &self.args)?;
        for (name, value) in &self.context {
            check_exact(&format!("context.{name}"), value)?;
        }
        let canonical = canonical_json(self)?;
        Ok(ActionDigest(creto_crypto::sha256(&canonical)))
    }
}

fn check_exact(place: &str, value: &Value) -> Result<(), OversightError> {
    match value {
        Value::Number(number) => {
            let magnitude = number
                .as_u64()
                .or_else(|| number.as_i64().map(i64::unsigned_abs));
            match magnitude {
                Some(magnitude) if magnitude > MAX_EXACT => Err(OversightError::InexactNumber {
                    place: place.to_owned(),
                }),
                _ => Ok(()),
            }
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_exact(&format!("{place}[{index}]"), item)),
        Value::Object(members) => members
            .iter()
            .try_for_each(|(name, member)| check_exact(&format!("{place}.{name}"), member)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// The digest of a [`HeldAction`]; 64 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActionDigest([u8; 32]);

impl ActionDigest {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl Classify for InvalidDigest {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "invalid_digest"
    }
}

impl fmt::Display for ActionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ActionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ActionDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidDigest)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ActionDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ActionDigest> for String {
    fn from(digest: ActionDigest) -> Self {
        digest.to_string()
    }
}
