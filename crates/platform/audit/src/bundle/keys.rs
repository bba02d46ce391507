//! `keys.json`: the public keys that a bundle is checked with.

use creto_crypto::{Allowed, SignatureAlgorithm, VerifyingKey, unknown_algorithm};
use creto_errors::Classify as _;
use creto_types::{OrgId, canonical_json};
use serde::{Deserialize, Serialize};

use super::manifest::SIGNATURE_PLACE;
use crate::LogKeys;
use crate::head::{
    COMPOSITE_PLACE, ED25519_PLACE, HeadKeyError, HeadKeys, LOG_COMPOSITE, LOG_ED25519,
    expect_of_organization,
};

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
    encode_file(&file_of(
        org,
        head,
        keys.ed25519.verifying_key(),
        keys.composite.verifying_key(),
        keys.evidence.verifying_key(),
    ))
}

fn file_of(
    org: OrgId,
    head: &HeadKeys,
    ed25519: &VerifyingKey,
    composite: &VerifyingKey,
    evidence: &VerifyingKey,
) -> KeysFile {
    let entry = |purpose, key: &VerifyingKey, note_key: Option<String>| KeyEntry {
        purpose,
        key: key.clone(),
        note_key,
    };
    KeysFile {
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
    }
}

fn encode_file(file: &KeysFile) -> Vec<u8> {
    canonical_json(file).expect("strings alone always have a canonical form")
}

fn of_key(place: &str, why: impl std::fmt::Display) -> String {
    format!("the key of {place}: {why}")
}

/// The signature whose key a file cannot be read at. In its one form an entry
/// ends with its purpose.
fn place_at(bytes: &[u8], error: &serde_json::Error) -> Option<&'static str> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let before = lines.take(error.line().saturating_sub(1));
    let position = before.map(<[u8]>::len).sum::<usize>() + error.column();
    let mut from = 0;
    for (place, purpose) in PLACES
        .into_iter()
        .zip([LOG_ED25519, LOG_COMPOSITE, "evidence"])
    {
        let end = format!("\"purpose\":\"{purpose}\"}}");
        let rest = bytes.get(from..)?;
        let Some(offset) = rest.windows(end.len()).position(|w| w == end.as_bytes()) else {
            // That end itself was changed, or cut off.
            return Some(place);
        };
        from += offset + end.len();
        if position <= from {
            return Some(place);
        }
    }
    None
}

/// The signatures that the keys are for, in the order of the file.
pub(crate) const PLACES: [&str; 3] = [ED25519_PLACE, COMPOSITE_PLACE, SIGNATURE_PLACE];

/// Reads the file in its one form; its keys have to be of accepted algorithms. What is wrong
/// says whose key it is wrong with, where that shows.
pub(crate) fn parse(
    bytes: &[u8],
    accepted: &Allowed<SignatureAlgorithm>,
) -> Result<BundleKeys, String> {
    let file: KeysFile = serde_json::from_slice(bytes).map_err(|error| {
        let document = serde_json::from_slice(bytes);
        let unknown = document.map(|document| unknown_algorithm(&document));
        let why = match unknown {
            Ok(Some(unknown)) => format!("{unknown} ({})", unknown.code()),
            _ => format!("it cannot be read: {error}"),
        };
        match place_at(bytes, &error) {
            Some(place) => of_key(place, why),
            None => why,
        }
    })?;
    let [ed25519, composite, evidence] = &file.keys;
    let head =
        HeadKeys::new(&file.origin, &ed25519.key, &composite.key).map_err(
            |error| match &error {
                HeadKeyError::Algorithm { purpose, .. } if *purpose == LOG_ED25519 => {
                    of_key(ED25519_PLACE, error)
                }
                HeadKeyError::Algorithm { .. } => of_key(COMPOSITE_PLACE, error),
                HeadKeyError::Name(_) => error.to_string(),
            },
        )?;
    expect_of_organization("evidence", &evidence.key)
        .map_err(|error| of_key(SIGNATURE_PLACE, error))?;
    for (place, entry) in PLACES.into_iter().zip(&file.keys) {
        let algorithm = entry.key.algorithm();
        accepted.check(algorithm).map_err(|error| {
            let code = error.code();
            of_key(
                place,
                format!("{error} ({code}); --accept {algorithm} reads it"),
            )
        })?;
    }
    let again = file_of(file.org, &head, &ed25519.key, &composite.key, &evidence.key);
    let altered: Vec<&str> = PLACES
        .into_iter()
        .zip(file.keys.iter().zip(&again.keys))
        .filter(|(_, (found, expected))| found != expected)
        .map(|(place, _)| place)
        .collect();
    if !altered.is_empty() {
        let why = "its purpose, its note key and the origin do not go together";
        return Err(of_key(&altered.join(" and of "), why));
    }
    if encode_file(&again) != bytes {
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
