//! Public keys of notes as their readers hold them: parsed from the text that note
//! tools exchange, checked against the lines of a note.

use std::collections::BTreeSet;
use std::fmt;

use creto_crypto::{CryptoError, Signature, SignatureAlgorithm, VerifyingKey};
use creto_errors::{Class, Classify};
use creto_tlog::{
    Cosignature, CosignatureType, Note, NoteError, NoteKey, NoteKeyMaterial, NoteSignature,
};

use crate::head::{CHECKPOINT_CONTEXT, HASHER};

/// A text is not a verifier key that this build can check with.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// It is not a verifier key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The key's bytes cannot be a key.
    #[error(transparent)]
    Key(#[from] CryptoError),
    /// The key is of a type that is not known here.
    #[error("the key `{name}` is of a signature type that cannot be checked here")]
    UnknownType {
        /// Whose key.
        name: String,
    },
}

impl Classify for VerifierError {
    fn class(&self) -> Class {
        match self {
            Self::Note(_) | Self::UnknownType { .. } => Class::Permanent,
            Self::Key(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Note(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::UnknownType { .. } => "note_key_type",
        }
    }
}

/// A line of a note is under the name and id of a key that is known here and is no good
/// signature by it. Whoever knows the key rejects the whole note (C2SP signed-note), also
/// where a good line of the same key, or of another one, stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the note is under the key `{name}` and is no good signature by it")]
pub struct BadSignature {
    name: String,
}

impl BadSignature {
    /// Under which key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Classify for BadSignature {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        "note_bad_signature"
    }
}

/// A note has one line of a key, or a few cosignatures of different times. Whoever sends
/// more has others' processors in mind: one line more is a bad one.
const MAX_TRIED: usize = 8;

/// One public key, and what its lines sign.
#[derive(Clone, Debug)]
pub struct NoteVerifier {
    name: NoteKey,
    key: VerifyingKey,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    InContext,
    Cosigner(CosignatureType),
}

impl NoteVerifier {
    /// Reads a verifier key: Ed25519 (0x01), a cosigner's Ed25519 (0x04) or ML-DSA-44 (0x06),
    /// or one of the second lines of this product's logs (0xff and the algorithm's name).
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let name = NoteKey::parse(HASHER, text)?;
        let (kind, algorithm, bytes) = match name.material() {
            NoteKeyMaterial::Ed25519(bytes) => (Kind::Plain, SignatureAlgorithm::Ed25519, bytes),
            NoteKeyMaterial::Cosigner(kind, bytes) => {
                (Kind::Cosigner(kind), cosigning(kind), bytes)
            }
            NoteKeyMaterial::Unassigned(named) => {
                let (algorithm, bytes) = in_context(named).ok_or_else(|| unknown(&name))?;
                (Kind::InContext, algorithm, bytes)
            }
            NoteKeyMaterial::Unknown => return Err(unknown(&name)),
        };
        let key = VerifyingKey::from_bytes(algorithm, bytes)?;
        Ok(Self { name, key, kind })
    }

    /// The name on its lines: a log's origin, or a witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.name()
    }

    /// Whether it is the key of a cosigner and not of a log.
    #[must_use]
    pub fn is_cosigner(&self) -> bool {
        matches!(self.kind, Kind::Cosigner(_))
    }

    /// Whether the note has a good signature by this key, and no bad one.
    #[must_use]
    pub fn verifies(&self, note: &Note) -> bool {
        self.lines(note).is_ok_and(|lines| !lines.is_empty())
    }

    /// The lines of this key, all of which are good, or the note is rejected. Lines of
    /// other keys are passed over. The same line again is one line.
    pub(crate) fn lines<'a>(&self, note: &'a Note) -> Result<Vec<&'a NoteSignature>, BadSignature> {
        let mut lines: Vec<&NoteSignature> = Vec::new();
        let own =
            |line: &&NoteSignature| line.name == self.name.name() && line.key_id == self.name.id();
        for line in note.signatures().iter().filter(own) {
            if lines.contains(&line) {
                continue;
            }
            if lines.len() == MAX_TRIED || !self.holds(note.text(), &line.signature) {
                let name = line.name.clone();
                return Err(BadSignature { name });
            }
            lines.push(line);
        }
        Ok(lines)
    }

    fn holds(&self, text: &str, bytes: &[u8]) -> bool {
        let verified = |context: &[u8], message: &[u8], bytes: &[u8]| {
            Signature::from_bytes(self.key.algorithm(), bytes)
                .and_then(|signature| self.key.verify(context, message, &signature))
                .is_ok()
        };
        match self.kind {
            Kind::Plain => verified(b"", text.as_bytes(), bytes),
            Kind::InContext => verified(CHECKPOINT_CONTEXT, text.as_bytes(), bytes),
            Kind::Cosigner(kind) => Cosignature::parse(kind, bytes).is_some_and(|cosignature| {
                kind.message(self.name.name(), cosignature.time, text)
                    .is_ok_and(|message| verified(b"", &message, &cosignature.signature))
            }),
        }
    }
}

/// Those of the known keys that have signed the note. A bad line of any of them rejects it.
pub(crate) fn signers<'k>(
    known: impl IntoIterator<Item = &'k NoteVerifier>,
    note: &Note,
) -> Result<Vec<&'k NoteVerifier>, BadSignature> {
    let mut signed = Vec::new();
    for key in known {
        if !key.lines(note)?.is_empty() {
            signed.push(key);
        }
    }
    Ok(signed)
}

/// The names of whoever has these keys. One name is one witness, however many keys it has.
pub(crate) fn names<'k>(keys: impl IntoIterator<Item = &'k NoteVerifier>) -> BTreeSet<&'k str> {
    keys.into_iter().map(NoteVerifier::name).collect()
}

/// The verifier key as text.
impl fmt::Display for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// By which algorithm a cosigner's key of this type signs.
pub(crate) const fn cosigning(kind: CosignatureType) -> SignatureAlgorithm {
    match kind {
        CosignatureType::Ed25519 => SignatureAlgorithm::Ed25519,
        CosignatureType::MlDsa44 => SignatureAlgorithm::MlDsa44,
    }
}

/// The algorithm that is named before the bytes of a key. One name is the beginning of
/// another, so the bytes behind it have to be a key's.
fn in_context(named: &[u8]) -> Option<(SignatureAlgorithm, &[u8])> {
    let mut algorithms = SignatureAlgorithm::OF_ORGANIZATIONS.into_iter();
    algorithms.find_map(|algorithm| {
        let bytes = named.strip_prefix(algorithm.as_str().as_bytes())?;
        (bytes.len() == algorithm.public_key_len()).then_some((algorithm, bytes))
    })
}

fn unknown(name: &NoteKey) -> VerifierError {
    VerifierError::UnknownType {
        name: name.name().to_owned(),
    }
}
