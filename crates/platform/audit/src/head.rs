//! Signed tree heads: C2SP checkpoints with one Ed25519 line and one composite
//! line.

use creto_crypto::{Signature, SignatureAlgorithm, VerifyingKey, sha256};
use creto_tlog::{Checkpoint, Hash, Hasher, Note, NoteError, NoteKey};

use crate::bundle::Finding;
use crate::{AuditError, LogKeys};

pub(crate) const HASHER: Hasher = Hasher::new(sha256);

/// Separates checkpoints from everything else the composite key signs.
pub(crate) const CHECKPOINT_CONTEXT: &[u8] = b"creto/checkpoint/v1";

pub(crate) const ED25519_PLACE: &str = "checkpoint signature ed25519";
pub(crate) const COMPOSITE_PLACE: &str = "checkpoint signature composite";

/// The purpose of the key of the Ed25519 line.
pub(crate) const LOG_ED25519: &str = "log_ed25519";

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

/// The public keys of a log's checkpoints, as notes name them.
#[derive(Clone, Debug)]
pub(crate) struct HeadKeys {
    origin: String,
    ed25519: (VerifyingKey, NoteKey),
    composite: (VerifyingKey, NoteKey),
}

impl HeadKeys {
    pub(crate) fn new(
        origin: &str,
        ed25519: &VerifyingKey,
        composite: &VerifyingKey,
    ) -> Result<Self, HeadKeyError> {
        expect(LOG_ED25519, SignatureAlgorithm::Ed25519, ed25519)?;
        expect(
            "log_composite",
            SignatureAlgorithm::MlDsa65Ed25519,
            composite,
        )?;
        let raw: &[u8; 32] = ed25519
            .as_bytes()
            .try_into()
            .expect("an Ed25519 key has 32 bytes");
        let plain = NoteKey::ed25519(HASHER, origin, raw)?;
        let hybrid = NoteKey::unassigned(
            HASHER,
            origin,
            SignatureAlgorithm::MlDsa65Ed25519.as_str(),
            composite.as_bytes(),
        )?;
        Ok(Self {
            origin: origin.to_owned(),
            ed25519: (ed25519.clone(), plain),
            composite: (composite.clone(), hybrid),
        })
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn ed25519_note_key(&self) -> &NoteKey {
        &self.ed25519.1
    }

    pub(crate) fn composite_note_key(&self) -> &NoteKey {
        &self.composite.1
    }

    /// Signs a tree head with both keys.
    pub(crate) fn sign(
        &self,
        keys: &LogKeys,
        size: u64,
        root: Hash,
    ) -> Result<Checkpointed, AuditError> {
        let head = Checkpoint::new(self.origin.clone(), size, root);
        let mut note = Note::new(&head.to_string()).map_err(|source| AuditError::Origin {
            origin: self.origin.clone(),
            source,
        })?;
        let text = note.text().as_bytes().to_vec();
        let plain = keys.ed25519.sign(b"", &text)?;
        note.add_signature(&self.ed25519.1, plain.as_bytes().to_vec());
        let hybrid = keys.composite.sign(CHECKPOINT_CONTEXT, &text)?;
        note.add_signature(&self.composite.1, hybrid.as_bytes().to_vec());
        Ok(Checkpointed::of(&head, note.encode()))
    }

    /// Reads a checkpoint in its one form and checks both its lines. What it
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
        let text = note.text().as_bytes();
        let mut lines = note.signatures().iter();
        for (place, (key, note_key), context) in [
            (ED25519_PLACE, &self.ed25519, &b""[..]),
            (COMPOSITE_PLACE, &self.composite, CHECKPOINT_CONTEXT),
        ] {
            let Some(line) = lines.next() else {
                findings.push(Finding::new(place, "the line is missing"));
                continue;
            };
            if line.name != note_key.name() || line.key_id != note_key.id() {
                let message = "the line names another key than keys.json";
                findings.push(Finding::new(place, message));
                continue;
            }
            let verified = Signature::from_bytes(key.algorithm(), &line.signature)
                .and_then(|signature| key.verify(context, text, &signature));
            if let Err(error) = verified {
                findings.push(Finding::new(place, error));
            }
        }
        if lines.next().is_some() {
            let message = "it has more than two signature lines";
            findings.push(Finding::new("checkpoint", message));
        }
        let head = match note.text().parse::<Checkpoint>() {
            Ok(head) => head,
            Err(error) => {
                findings.push(Finding::new("checkpoint", error));
                return (None, findings);
            }
        };
        if head.origin != self.origin {
            let message = format!("it is of the log `{}`, not `{}`", head.origin, self.origin);
            findings.push(Finding::new("checkpoint", message));
        }
        if !head.extensions.is_empty() {
            findings.push(Finding::new("checkpoint", "it has extension lines"));
        }
        (Some(head), findings)
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

/// Refuses a key of another algorithm than its purpose has.
pub(crate) fn expect(
    purpose: &'static str,
    expected: SignatureAlgorithm,
    key: &VerifyingKey,
) -> Result<(), HeadKeyError> {
    if key.algorithm() == expected {
        Ok(())
    } else {
        Err(HeadKeyError::Algorithm {
            purpose,
            expected: expected.as_str(),
            got: key.algorithm().as_str(),
        })
    }
}
