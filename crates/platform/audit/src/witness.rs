//! A witness: cosigns checkpoints of logs it is configured with, each one only as the
//! continuation of the one before (C2SP tlog-witness).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::CryptoError;
use creto_errors::{Class, Classify};
use creto_tlog::{
    AddCheckpoint, Checkpoint, CheckpointError, Cosignature, Hash, Note, ProofError,
    verify_consistency,
};
use creto_types::{Clock, StoreError};

use crate::head::HASHER;
use crate::verifier::signers;
use crate::{BadSignature, NoteVerifier, WitnessKey};

/// What a witness remembers: of each log, the checkpoint it cosigned last.
#[async_trait]
pub trait WitnessStore: Send + Sync {
    /// The checkpoint kept last for this origin.
    async fn get(&self, origin: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps the checkpoint in place of the one before. Atomic, and durable on
    /// return: a witness that forgot would sign a second history.
    async fn put(&self, origin: &str, checkpoint: Vec<u8>) -> Result<(), StoreError>;
}

/// A checkpoint was not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The request is not one of tlog-witness.
    #[error("the request cannot be read")]
    Malformed(#[from] CheckpointError),
    /// The old size is beyond the checkpoint's.
    #[error("the old size {old} is larger than the checkpoint's, {size}")]
    OldBeyondNew {
        /// The old size.
        old: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// No log of this origin is configured.
    #[error("the log `{origin}` is not known to this witness")]
    UnknownLog {
        /// The checkpoint's origin.
        origin: String,
    },
    /// No line is a good signature by a key of the log.
    #[error("no signature of the checkpoint is by a key of its log")]
    NotSigned,
    /// A line of the checkpoint is under a key of the log and is not by it.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
    /// The witness cosigned another size last, or another root at this size.
    #[error("{size} is the size that was cosigned last")]
    Conflict {
        /// The size cosigned last.
        size: u64,
    },
    /// The proof does not lead from the checkpoint cosigned last to this one.
    #[error("the checkpoint is not shown to continue the one cosigned last")]
    Inconsistent(#[source] ProofError),
    /// What is remembered cannot be read; nothing is signed over it.
    #[error("what the witness remembers of `{origin}` cannot be read")]
    Memory {
        /// Of which log.
        origin: String,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Signing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Classify for WitnessError {
    fn class(&self) -> Class {
        match self {
            Self::Malformed(_) | Self::OldBeyondNew { .. } | Self::UnknownLog { .. } => {
                Class::Permanent
            }
            Self::Conflict { .. } => Class::Transient,
            Self::NotSigned | Self::Inconsistent(_) | Self::Memory { .. } => Class::Security,
            Self::BadSignature(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Crypto(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed(error) => error.code(),
            Self::OldBeyondNew { .. } => "witness_old_size",
            Self::UnknownLog { .. } => "witness_unknown_log",
            Self::NotSigned => "witness_not_signed",
            Self::BadSignature(error) => error.code(),
            Self::Conflict { .. } => "witness_conflict",
            Self::Inconsistent(_) => "witness_inconsistent",
            Self::Memory { .. } => "witness_memory",
            Self::Store(error) => error.code(),
            Self::Crypto(error) => error.code(),
        }
    }
}

/// A witness. It never cosigns a smaller tree than before, nor one that does not
/// continue what it cosigned; and it remembers before it signs.
pub struct Witness {
    logs: HashMap<String, Vec<NoteVerifier>>,
    /// Each cosigns.
    keys: Vec<WitnessKey>,
    store: Arc<dyn WitnessStore>,
    clock: Arc<dyn Clock>,
    /// Looking at the last size and replacing it are one step.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness")
            .field("keys", &self.keys)
            .field("logs", &self.logs)
            .finish_non_exhaustive()
    }
}

impl Witness {
    /// A witness for the logs whose keys these are; a key's name is its log's origin. It
    /// cosigns by each of its own keys, so that readers may know one or another.
    /// The witness's own key is for it alone: a cosignature by Ed25519 does not name who
    /// made it.
    #[must_use]
    pub fn new(
        keys: impl IntoIterator<Item = WitnessKey>,
        logs: impl IntoIterator<Item = NoteVerifier>,
        store: Arc<dyn WitnessStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut known: HashMap<String, Vec<NoteVerifier>> = HashMap::new();
        for log in logs {
            known.entry(log.name().to_owned()).or_default().push(log);
        }
        Self {
            logs: known,
            keys: keys.into_iter().collect(),
            store,
            clock,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The verifier keys that logs and readers configure, one or another of them.
    #[must_use]
    pub fn verifier_keys(&self) -> Vec<String> {
        self.keys.iter().map(WitnessKey::verifier_key).collect()
    }

    /// Answers `add-checkpoint`: a signature line by each key, each with its newline.
    pub async fn add_checkpoint(&self, body: &str) -> Result<String, WitnessError> {
        let request: AddCheckpoint = body.parse()?;
        let note = &request.checkpoint;
        let new: Checkpoint = note.text().parse()?;
        let keys = self
            .logs
            .get(&new.origin)
            .ok_or_else(|| WitnessError::UnknownLog {
                origin: new.origin.clone(),
            })?;
        if signers(keys, note)?.is_empty() {
            return Err(WitnessError::NotSigned);
        }
        if request.old > new.size {
            return Err(WitnessError::OldBeyondNew {
                old: request.old,
                size: new.size,
            });
        }
        let _turn = self.turn.lock().await;
        let (size, root) = self.last(&new.origin).await?;
        let same_size = size == new.size && size > 0;
        if request.old != size || (same_size && root != new.root) {
            return Err(WitnessError::Conflict { size });
        }
        verify_consistency(HASHER, size, &root, new.size, &new.root, &request.proof)
            .map_err(WitnessError::Inconsistent)?;
        if new.size == 0 && new.root != root {
            return Err(WitnessError::Inconsistent(ProofError::WrongRoot {
                expected: root,
                computed: new.root,
            }));
        }
        // What cannot be signed is not remembered as if it were.
        let messages = self.messages(note)?;
        // Also when it is there already: a write that failed before may be there without
        // being durable.
        self.store.put(&new.origin, note.encode()).await?;
        self.cosign(note, messages)
    }

    /// What was cosigned last; the empty tree when nothing was.
    async fn last(&self, origin: &str) -> Result<(u64, Hash), WitnessError> {
        let Some(bytes) = self.store.get(origin).await? else {
            return Ok((0, HASHER.empty()));
        };
        let kept = Note::parse(&bytes)
            .map_err(CheckpointError::from)
            .and_then(|note| note.text().parse::<Checkpoint>())
            .and_then(|kept| {
                if kept.origin == origin {
                    Ok(kept)
                } else {
                    Err(CheckpointError::Malformed { what: "origin" })
                }
            })
            .map_err(|source| WitnessError::Memory {
                origin: origin.to_owned(),
                source,
            })?;
        Ok((kept.size, kept.root))
    }

    /// What each key signs, and when that is.
    fn messages(&self, note: &Note) -> Result<Messages, WitnessError> {
        // Before 1970 there was no log.
        let time = u64::try_from(self.clock.now().as_second()).unwrap_or(0);
        let message = |key: &WitnessKey| key.kind.message(key.name.name(), time, note.text());
        let messages = self.keys.iter().map(message).collect::<Result<_, _>>()?;
        Ok(Messages { time, messages })
    }

    fn cosign(&self, note: &Note, signed: Messages) -> Result<String, WitnessError> {
        let Messages { time, messages } = signed;
        let mut cosigned = Note::new(note.text()).map_err(CheckpointError::from)?;
        for (key, message) in self.keys.iter().zip(messages) {
            let signature = key.signer.sign(b"", &message)?.as_bytes().to_vec();
            let line = Cosignature { time, signature };
            cosigned.add_signature(&key.name, line.encode());
        }
        let lines = cosigned.signatures().iter().map(|line| format!("{line}\n"));
        Ok(lines.collect())
    }
}

/// By key.
struct Messages {
    time: u64,
    messages: Vec<Vec<u8>>,
}
