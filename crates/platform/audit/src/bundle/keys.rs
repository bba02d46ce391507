//! `keys.json`: the public keys that a bundle is checked with.

use creto_crypto::VerifyingKey;
use creto_types::{OrgId, canonical_json};
use serde::{Deserialize, Serialize};

use crate::LogKeys;
use crate::head::{HeadKeys, expect};
use creto_crypto::SignatureAlgorithm;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    org: OrgId,
    origin: String,
    /// Always these three, in this order.
    keys: [KeyEntry; 3],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    purpose: Purpose,
    key: VerifyingKey,
    /// The same key as C2SP note tools take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Purpose {
    LogEd25519,
    LogComposite,
    Evidence,
}

/// The keys of one log, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct BundleKeys {
    pub(crate) org: OrgId,
    pub(crate) head: HeadKeys,
    pub(crate) evidence: VerifyingKey,
}

pub(crate) fn encode(org: OrgId, head: &HeadKeys, keys: &LogKeys) -> Vec<u8> {
    encode_parts(
        org,
        head,
        keys.ed25519.verifying_key(),
        keys.composite.verifying_key(),
        keys.evidence.verifying_key(),
    )
}

fn encode_parts(
    org: OrgId,
    head: &HeadKeys,
    ed25519: &VerifyingKey,
    composite: &VerifyingKey,
    evidence: &VerifyingKey,
) -> Vec<u8> {
    let entry = |purpose, key: &VerifyingKey, note_key: Option<String>| KeyEntry {
        purpose,
        key: key.clone(),
        note_key,
    };
    let file = KeysFile {
        org,
        origin: head.origin().to_owned(),
        keys: [
            entry(
                Purpose::LogEd25519,
                ed25519,
                Some(head.ed25519_note_key().to_string()),
            ),
            entry(
                Purpose::LogComposite,
                composite,
                Some(head.composite_note_key().to_string()),
            ),
            entry(Purpose::Evidence, evidence, None),
        ],
    };
    canonical_json(&file).expect("strings alone always have a canonical form")
}

/// Reads the file in its one form.
pub(crate) fn parse(bytes: &[u8]) -> Result<BundleKeys, String> {
    let file: KeysFile =
        serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
    let [ed25519, composite, evidence] = &file.keys;
    let head =
        HeadKeys::new(&file.origin, &ed25519.key, &composite.key).map_err(|e| e.to_string())?;
    expect(
        "evidence",
        SignatureAlgorithm::MlDsa65Ed25519,
        &evidence.key,
    )
    .map_err(|e| e.to_string())?;
    let again = encode_parts(file.org, &head, &ed25519.key, &composite.key, &evidence.key);
    if again != bytes {
        return Err("it is not in its one form".to_owned());
    }
    if !file.origin.ends_with(&format!("/{}", file.org)) {
        return Err("its origin is not that of its organization".to_owned());
    }
    Ok(BundleKeys {
        org: file.org,
        head,
        evidence: evidence.key.clone(),
    })
}
