//! Checking a proof offline: C2SP tlog-proof against keys that the reader trusts.

use creto_errors::{Class, Classify};
use creto_tlog::{Checkpoint, CheckpointError, InclusionProof, ProofError, verify_inclusion};

use crate::head::HASHER;
use crate::verifier::{names, signers};
use crate::{BadSignature, NoteVerifier};

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// In which log.
    pub origin: String,
    /// At which place.
    pub index: u64,
    /// In the log of how many leaves.
    pub size: u64,
    /// Those of the witnesses asked about that have cosigned this state of the log.
    pub cosigned_by: Vec<String>,
}

/// A proof does not show what it should.
#[derive(Debug, thiserror::Error)]
pub enum UnprovenError {
    /// It is not a tlog-proof.
    #[error("the proof cannot be read")]
    Malformed(#[from] CheckpointError),
    /// Its checkpoint is of another log than the key.
    #[error("the proof is of the log `{found}`, the key of `{expected}`")]
    OtherLog {
        /// The checkpoint's origin.
        found: String,
        /// The key's name.
        expected: String,
    },
    /// Its checkpoint is not signed by the key.
    #[error("the proof's checkpoint has no good signature by the log's key")]
    NotSigned,
    /// A line of its checkpoint is under the key, or that of a witness, and is not by it.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
    /// Fewer witnesses have cosigned it than were asked for.
    #[error(
        "{found} of the witnesses have cosigned the proof's checkpoint, {quorum} are asked for"
    )]
    NotCosigned {
        /// How many have.
        found: usize,
        /// How many are asked for.
        quorum: usize,
    },
    /// The leaf is not where the proof says.
    #[error("the proof does not lead from the leaf to the checkpoint")]
    NotIncluded(#[from] ProofError),
}

impl Classify for UnprovenError {
    fn class(&self) -> Class {
        match self {
            Self::Malformed(error) => error.class(),
            Self::OtherLog { .. } => Class::Permanent,
            Self::NotSigned | Self::NotCosigned { .. } => Class::Security,
            Self::BadSignature(error) => error.class(),
            Self::NotIncluded(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed(error) => error.code(),
            Self::OtherLog { .. } => "proof_other_log",
            Self::NotSigned => "proof_not_signed",
            Self::BadSignature(error) => error.code(),
            Self::NotCosigned { .. } => "proof_not_cosigned",
            Self::NotIncluded(error) => error.code(),
        }
    }
}

/// Checks that the leaf is in the log that the key is of, in a state that at least
/// `quorum` of the witnesses have cosigned.
pub fn check_proof(
    proof: &str,
    leaf: &[u8],
    key: &NoteVerifier,
    witnesses: &[NoteVerifier],
    quorum: usize,
) -> Result<Proven, UnprovenError> {
    let proof: InclusionProof = proof.parse()?;
    let head: Checkpoint = proof.checkpoint.text().parse()?;
    if head.origin != key.name() {
        return Err(UnprovenError::OtherLog {
            found: head.origin,
            expected: key.name().to_owned(),
        });
    }
    if signers([key], &proof.checkpoint)?.is_empty() {
        return Err(UnprovenError::NotSigned);
    }
    let cosigned_by = names(signers(witnesses, &proof.checkpoint)?);
    if cosigned_by.len() < quorum {
        return Err(UnprovenError::NotCosigned {
            found: cosigned_by.len(),
            quorum,
        });
    }
    let hash = HASHER.leaf(leaf);
    verify_inclusion(
        HASHER,
        &hash,
        proof.index,
        head.size,
        &proof.hashes,
        &head.root,
    )?;
    Ok(Proven {
        origin: head.origin,
        index: proof.index,
        size: head.size,
        cosigned_by: cosigned_by.into_iter().map(str::to_owned).collect(),
    })
}
