//! Signed tree heads: C2SP checkpoints, and the pair of keys that their lines are of, one
//! Ed25519 and one that holds against a quantum computer. The second is called composite
//! throughout, which is what it is by default.

use creto_crypto::{CryptoError, Signature, SignatureAlgorithm, VerifyingKey, sha256};
use creto_tlog::{Checkpoint, Hasher, Note, NoteError, NoteKey, NoteSignature};

use crate::AuditError;
use crate::bundle::Finding;

pub(crate) const HASHER: Hasher = Hasher::new(sha256);

/// Separates checkpoints from everything else the second key signs.
pub(crate) const CHECKPOINT_CONTEXT: &[u8] = b"creto/checkpoint/v1";

pub(crate) const ED25519_PLACE: &str = "checkpoint signature ed25519";
pub(crate) const COMPOSITE_PLACE: &str = "checkpoint signature composite";

/// The purpose of the key of the Ed25519 line.
pub(crate) const LOG_ED25519: &str = "log_ed25519";

/// The purpose of the key of the other line.
pub(crate) const LOG_COMPOSITE: &str = "log_composite";

/// A signed tree head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    /// The C2SP checkpoint, a signed note.
    pub note: Vec<u8>,
    /// How many leaves it covers.
    pub size: u64,
    /// The root over them.
    pub root: [u8; 32],
}

impl Checkpointed {
    pub(crate) fn of(head: &Checkpoint, note: Vec<u8>) -> Self {
        Self {
            note,
            size: head.size,
            root: *head.root.as_bytes(),
        }
    }
}

/// A key of checkpoint lines, as notes name it, and what it signs.
#[derive(Clone, Debug)]
pub(crate) struct LineKey {
    /// What its line is called in findings.
    pub(crate) place: &'static str,
    pub(crate) name: NoteKey,
    key: VerifyingKey,
    pub(crate) context: &'static [u8],
}

impl LineKey {
    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    /// Whether the line says that it is of this key.
    pub(crate) fn names(&self, line: &NoteSignature) -> bool {
        line.name == self.name.name() && line.key_id == self.name.id()
    }

    pub(crate) fn verify(&self, text: &str, line: &NoteSignature) -> Result<(), CryptoError> {
        Signature::from_bytes(self.key.algorithm(), &line.signature)
            .and_then(|signature| self.key.verify(self.context, text.as_bytes(), &signature))
    }

    /// Whether this line of the note is a good one of this key.
    pub(crate) fn holds(&self, note: &Note, line: &NoteSignature) -> bool {
        self.names(line) && self.verify(note.text(), line).is_ok()
    }
}

/// The public keys of one pair of a log's checkpoint lines.
#[derive(Clone, Debug)]
pub(crate) struct HeadKeys {
    origin: String,
    ed25519: LineKey,
    composite: LineKey,
}

impl HeadKeys {
    pub(crate) fn new(
        origin: &str,
        ed25519: &VerifyingKey,
        composite: &VerifyingKey,
    ) -> Result<Self, HeadKeyError> {
        if ed25519.algorithm() != SignatureAlgorithm::Ed25519 {
            return Err(HeadKeyError::Algorithm {
                purpose: LOG_ED25519,
                expected: SignatureAlgorithm::Ed25519.as_str(),
                got: ed25519.algorithm().as_str(),
            });
        }
        expect_of_organization(LOG_COMPOSITE, composite)?;
        let raw: &[u8; 32] = ed25519
            .as_bytes()
            .try_into()
            .expect("an Ed25519 key has 32 bytes");
        let plain = NoteKey::ed25519(HASHER, origin, raw)?;
        let hybrid = NoteKey::unassigned(
            HASHER,
            origin,
            composite.algorithm().as_str(),
            composite.as_bytes(),
        )?;
        Ok(Self {
            origin: origin.to_owned(),
            ed25519: LineKey {
                place: ED25519_PLACE,
                name: plain,
                key: ed25519.clone(),
                context: b"",
            },
            composite: LineKey {
                place: COMPOSITE_PLACE,
                name: hybrid,
                key: composite.clone(),
                context: CHECKPOINT_CONTEXT,
            },
        })
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// As note tools read them, Ed25519 first.
    pub(crate) fn note_keys(&self) -> [String; 2] {
        [
            self.ed25519_note_key().to_string(),
            self.composite_note_key().to_string(),
        ]
    }

    pub(crate) fn ed25519_note_key(&self) -> &NoteKey {
        &self.ed25519.name
    }

    pub(crate) fn composite_note_key(&self) -> &NoteKey {
        &self.composite.name
    }

    /// The keys in the order of their lines.
    pub(crate) fn lines(&self) -> [&LineKey; 2] {
        [&self.ed25519, &self.composite]
    }

    /// Reads a checkpoint with the lines of this pair alone, in its one form, and checks both. What it
    /// says is returned even if a signature fails, so that a verifier can go on
    /// and name what else was changed.
    pub(crate) fn check(&self, bytes: &[u8]) -> (Option<Checkpoint>, Vec<Finding>) {
        let mut findings = Vec::new();
        let note = match Note::parse(bytes) {
            Ok(note) => note,
            Err(error) => {
                let place = match error {
                    NoteError::SignatureLine { line: 1 } => ED25519_PLACE,
                    NoteError::SignatureLine { line: 2 } => COMPOSITE_PLACE,
                    _ => "checkpoint",
                };
                findings.push(Finding::new(place, error));
                for other in [ED25519_PLACE, COMPOSITE_PLACE] {
                    if other != place {
                        let message = "it cannot be checked: the checkpoint cannot be read";
                        findings.push(Finding::new(other, message));
                    }
                }
                return (None, findings);
            }
        };
        if note.encode() != bytes {
            findings.push(Finding::new("checkpoint", "it is not in its one encoding"));
        }
        let mut lines = note.signatures().iter();
        for key in self.lines() {
            let Some(line) = lines.next() else {
                findings.push(Finding::new(key.place, "the line is missing"));
                continue;
            };
            if !key.names(line) {
                let message = "the line names another key than keys.json";
                findings.push(Finding::new(key.place, message));
                continue;
            }
            if let Err(error) = key.verify(note.text(), line) {
                findings.push(Finding::new(key.place, error));
            }
        }
        if lines.next().is_some() {
            let message = "it has more than two signature lines";
            findings.push(Finding::new("checkpoint", message));
        }
        let head = self.head(&note, &mut findings);
        (head, findings)
    }

    /// What the note says, when it is a checkpoint, and what of it is not this log's form.
    pub(crate) fn head(&self, note: &Note, findings: &mut Vec<Finding>) -> Option<Checkpoint> {
        let head = match note.text().parse::<Checkpoint>() {
            Ok(head) => head,
            Err(error) => {
                findings.push(Finding::new("checkpoint", error));
                return None;
            }
        };
        if head.origin != self.origin {
            let message = format!("it is of the log `{}`, not `{}`", head.origin, self.origin);
            findings.push(Finding::new("checkpoint", message));
        }
        if !head.extensions.is_empty() {
            findings.push(Finding::new("checkpoint", "it has extension lines"));
        }
        Some(head)
    }
}

/// Keys that cannot sign checkpoints of an origin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadKeyError {
    #[error("the {purpose} key must be {expected}, not {got}")]
    Algorithm {
        purpose: &'static str,
        expected: &'static str,
        got: &'static str,
    },
    #[error(transparent)]
    Name(#[from] NoteError),
}

impl HeadKeyError {
    pub(crate) fn into_audit(self, origin: &str) -> AuditError {
        match self {
            Self::Algorithm {
                purpose,
                expected,
                got,
            } => AuditError::WrongKey {
                purpose,
                expected,
                got,
            },
            Self::Name(source) => AuditError::Origin {
                origin: origin.to_owned(),
                source,
            },
        }
    }
}

/// Refuses a key of an algorithm that no key of an organization is made by: it could not tell
/// what it signs for this purpose from what it signs for another one, or is too weak.
pub(crate) fn expect_of_organization(
    purpose: &'static str,
    key: &VerifyingKey,
) -> Result<(), HeadKeyError> {
    if SignatureAlgorithm::OF_ORGANIZATIONS.contains(&key.algorithm()) {
        Ok(())
    } else {
        Err(HeadKeyError::Algorithm {
            purpose,
            expected: "ML-DSA-65 or ML-DSA-65-Ed25519",
            got: key.algorithm().as_str(),
        })
    }
}
