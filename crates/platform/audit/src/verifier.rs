//! Public keys of notes as their readers hold them: parsed from the text that note
//! tools exchange, checked against the lines of a note.

use std::fmt;

use creto_crypto::{CryptoError, Signature, SignatureAlgorithm, VerifyingKey};
use creto_errors::{Class, Classify};
use creto_tlog::{Cosignature, Note, NoteError, NoteKey, NoteKeyMaterial};

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

/// A note has one line of a key, or a few cosignatures of different times. Whoever sends
/// more has others' processors in mind.
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
    Composite,
    Cosigner,
}

impl NoteVerifier {
    /// Reads a verifier key: Ed25519 (0x01), a cosigner's Ed25519 (0x04), or the
    /// composite of this product's logs (0xff).
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let name = NoteKey::parse(HASHER, text)?;
        let composite = SignatureAlgorithm::MlDsa65Ed25519;
        let (kind, algorithm, bytes) = match name.material() {
            NoteKeyMaterial::Ed25519(bytes) => (Kind::Plain, SignatureAlgorithm::Ed25519, bytes),
            NoteKeyMaterial::Cosigner(bytes) => {
                (Kind::Cosigner, SignatureAlgorithm::Ed25519, bytes)
            }
            NoteKeyMaterial::Unassigned(bytes) => bytes
                .strip_prefix(composite.as_str().as_bytes())
                .map(|bytes| (Kind::Composite, composite, bytes))
                .ok_or_else(|| unknown(&name))?,
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
        self.kind == Kind::Cosigner
    }

    /// Whether a line of the note is a good signature by this key.
    #[must_use]
    pub fn verifies(&self, note: &Note) -> bool {
        self.lines(note).next().is_some()
    }

    /// The good lines of this key. Lines of other keys are passed over, and so are
    /// lines that only claim to be of this one, of which few are tried.
    pub(crate) fn lines<'a>(
        &'a self,
        note: &'a Note,
    ) -> impl Iterator<Item = &'a creto_tlog::NoteSignature> {
        note.signatures()
            .iter()
            .filter(move |line| line.name == self.name.name() && line.key_id == self.name.id())
            .take(MAX_TRIED)
            .filter(move |line| self.holds(note.text(), &line.signature))
    }

    fn holds(&self, text: &str, bytes: &[u8]) -> bool {
        let verified = |context: &[u8], message: &[u8], bytes: &[u8]| {
            Signature::from_bytes(self.key.algorithm(), bytes)
                .and_then(|signature| self.key.verify(context, message, &signature))
                .is_ok()
        };
        match self.kind {
            Kind::Plain => verified(b"", text.as_bytes(), bytes),
            Kind::Composite => verified(CHECKPOINT_CONTEXT, text.as_bytes(), bytes),
            Kind::Cosigner => Cosignature::parse(bytes).is_some_and(|cosignature| {
                let message = Cosignature::message(cosignature.time, text);
                verified(b"", &message, &cosignature.signature)
            }),
        }
    }
}

/// The verifier key as text.
impl fmt::Display for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

fn unknown(name: &NoteKey) -> VerifierError {
    VerifierError::UnknownType {
        name: name.name().to_owned(),
    }
}
