//! `manifest.json`: an in-toto Statement v1 over every other file, in a DSSE
//! envelope.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_crypto::{Signature, Signer, VerifyingKey, sha256};
use creto_types::{OrgId, Timestamp, canonical_json};
use serde::{Deserialize, Serialize};

use super::payloads::Scope;
use super::{Finding, MANIFEST};
use crate::AuditError;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Of bundles that have payloads beside the entries.
const PREDICATE_TYPE: &str = "urn:creto:evidence-bundle:v2";

/// Of those from before.
const PREDICATE_TYPE_V1: &str = "urn:creto:evidence-bundle:v1";

/// Separates manifests from everything else the evidence key signs.
const CONTEXT: &[u8] = b"creto/evidence/v1";

pub(crate) const SIGNATURE_PLACE: &str = "manifest signature";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectDigest {
    sha256: String,
}

/// What the bundle is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Predicate {
    pub(crate) org: OrgId,
    pub(crate) origin: String,
    pub(crate) size: u64,
    /// Lower-case hexadecimal.
    pub(crate) root: String,
    pub(crate) exported_at: Timestamp,
    /// Which payloads are here. Absent in a bundle of the first version, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payloads: Option<Scope>,
}

impl Predicate {
    const fn kind(&self) -> &'static str {
        match self.payloads {
            Some(_) => PREDICATE_TYPE,
            None => PREDICATE_TYPE_V1,
        }
    }
}

/// A manifest whose form is right; its signature is judged apart.
pub(crate) struct Manifest {
    pub(crate) predicate: Predicate,
    /// SHA-256 in hexadecimal, by path.
    pub(crate) digests: BTreeMap<String, String>,
    payload: Vec<u8>,
    signature: EnvelopeSignature,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(sha256(bytes))
}

fn key_id(key: &VerifyingKey) -> String {
    format!("sha256:{}", digest(key.as_bytes()))
}

/// Pre-authentication encoding of DSSE.
fn pae(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// The signed manifest of the files with these SHA-256.
pub(crate) fn sign(
    digests: BTreeMap<String, [u8; 32]>,
    predicate: Predicate,
    signer: &dyn Signer,
) -> Result<Vec<u8>, AuditError> {
    let subject = digests
        .into_iter()
        .map(|(name, digest)| Subject {
            name,
            digest: SubjectDigest {
                sha256: hex::encode(digest),
            },
        })
        .collect();
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject,
        predicate_type: predicate.kind().to_owned(),
        predicate,
    };
    let payload = canonical_json(&statement).map_err(crate::LeafError::from)?;
    let signature = signer.sign(CONTEXT, &pae(&payload))?;
    let envelope = Envelope {
        payload: STANDARD.encode(&payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: [EnvelopeSignature {
            keyid: key_id(signer.verifying_key()),
            sig: STANDARD.encode(signature.as_bytes()),
        }],
    };
    Ok(canonical_json(&envelope).map_err(crate::LeafError::from)?)
}

/// Reads a manifest in its one form.
pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, Finding> {
    let fault = |message: &str| Finding::new(MANIFEST, message);
    let unreadable =
        |e: serde_json::Error| Finding::new(MANIFEST, format!("it cannot be read: {e}"));
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(unreadable)?;
    if canonical_json(&envelope).ok().as_deref() != Some(bytes) {
        return Err(fault("its envelope is not in canonical form (RFC 8785)"));
    }
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(fault("its payload is of another type"));
    }
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|_| fault("its payload is not base64"))?;
    let statement: Statement = serde_json::from_slice(&payload).map_err(unreadable)?;
    if canonical_json(&statement).ok().as_deref() != Some(payload.as_slice()) {
        return Err(fault("its statement is not in canonical form (RFC 8785)"));
    }
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != statement.predicate.kind() {
        return Err(fault("its statement is of another type"));
    }
    let listed = statement.subject.len();
    if !statement.subject.is_sorted_by(|a, b| a.name < b.name) {
        return Err(fault("its files are not in order, each once"));
    }
    let digests: BTreeMap<_, _> = statement
        .subject
        .into_iter()
        .map(|subject| (subject.name, subject.digest.sha256))
        .collect();
    if digests.len() != listed || digests.contains_key(MANIFEST) {
        return Err(fault("its list of files is not one of a bundle"));
    }
    let [signature] = envelope.signatures;
    Ok(Manifest {
        predicate: statement.predicate,
        digests,
        payload,
        signature,
    })
}

impl Manifest {
    /// Whether this key signed it.
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<String, Finding> {
        let fault = |message: &dyn ToString| Finding::new(SIGNATURE_PLACE, message.to_string());
        let expected = key_id(key);
        if self.signature.keyid != expected {
            return Err(fault(&"it names another key than keys.json"));
        }
        let bytes = STANDARD
            .decode(&self.signature.sig)
            .map_err(|_| fault(&"it is not base64"))?;
        let signature = Signature::from_bytes(key.algorithm(), &bytes).map_err(|e| fault(&e))?;
        key.verify(CONTEXT, &pae(&self.payload), &signature)
            .map_err(|e| fault(&e))?;
        Ok(expected)
    }
}
