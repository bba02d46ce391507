//! C2SP tlog-cosignature, with Ed25519 and with ML-DSA-44, and the request of C2SP
//! tlog-witness.

use std::fmt;
use std::str::FromStr;

use crate::{Checkpoint, CheckpointError, Hash, Note};

/// A proof between sizes of 64 bits has no more (C2SP tlog-witness).
const MAX_PROOF_HASHES: usize = 63;

/// What begins the message that ML-DSA-44 signs.
const SUBTREE_LABEL: &[u8; 12] = b"subtree/v1\n\0";

/// By which algorithm a cosigner signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CosignatureType {
    /// Version 1 with Ed25519 (signature type 0x04). The signature does not say who made it.
    Ed25519,
    /// ML-DSA-44 (signature type 0x06), which holds against quantum computers.
    MlDsa44,
}

impl CosignatureType {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::MlDsa44];

    /// The byte that verifier keys begin with.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x04,
            Self::MlDsa44 => 0x06,
        }
    }

    /// Bytes of a signature.
    const fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 => 64,
            Self::MlDsa44 => 2420,
        }
    }

    /// The bytes that a cosigner of this name signs of a checkpoint, whose text this is.
    ///
    /// # Errors
    ///
    /// For ML-DSA-44, which signs what the text says and not the text: that it is no
    /// checkpoint, or that a name is empty or longer than 255 bytes.
    pub fn message(
        self,
        cosigner: &str,
        time: u64,
        text: &str,
    ) -> Result<Vec<u8>, CheckpointError> {
        match self {
            // Two lines of its own, then the text.
            Self::Ed25519 => Ok(format!("cosignature/v1\ntime {time}\n{text}").into_bytes()),
            Self::MlDsa44 => subtree(cosigner, time, &text.parse()?),
        }
    }
}

/// The structure `cosigned_message` of the tree from its first leaf on.
fn subtree(cosigner: &str, time: u64, tree: &Checkpoint) -> Result<Vec<u8>, CheckpointError> {
    let mut message = SUBTREE_LABEL.to_vec();
    put_opaque(&mut message, "cosigner name", cosigner)?;
    message.extend(time.to_be_bytes());
    put_opaque(&mut message, "origin", &tree.origin)?;
    message.extend(0_u64.to_be_bytes());
    message.extend(tree.size.to_be_bytes());
    message.extend(tree.root.as_bytes());
    Ok(message)
}

/// `opaque<1..2^8-1>` (RFC 8446, section 3.4).
fn put_opaque(
    message: &mut Vec<u8>,
    what: &'static str,
    text: &str,
) -> Result<(), CheckpointError> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length > 0);
    message.push(length.ok_or(CheckpointError::Malformed { what })?);
    message.extend(text.as_bytes());
    Ok(())
}

/// A witness's timestamped signature: that this is the largest consistent tree it
/// had seen of the log at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When, in seconds since 1970. Of ML-DSA-44 it may be 0: then it is said that the tree is
    /// consistent with all that were seen, and not that it was the largest.
    pub time: u64,
    /// Over [`CosignatureType::message`], of the type's length.
    pub signature: Vec<u8>,
}

impl Cosignature {
    /// The signature of a note's line: the time in eight bytes, big-endian, then the
    /// signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.time.to_be_bytes()[..], &self.signature].concat()
    }

    /// Reads the signature of a line by a key of this type. A time over 2^63 - 1 is none.
    #[must_use]
    pub fn parse(kind: CosignatureType, bytes: &[u8]) -> Option<Self> {
        let (time, signature) = bytes.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        i64::try_from(time).ok()?;
        (signature.len() == kind.signature_len()).then(|| Self {
            time,
            signature: signature.to_vec(),
        })
    }
}

/// The body of a request to cosign: the size the witness knows, the proof from there,
/// and the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size the witness cosigned last; zero when it never did.
    pub old: u64,
    /// From the old size to the checkpoint's.
    pub proof: Vec<Hash>,
    /// The checkpoint, signed by its log.
    pub checkpoint: Note,
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = CheckpointError;

    /// Reads a request. What is read is written back the same.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(CheckpointError::Missing { what: "checkpoint" })?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(|size| size.parse().ok().filter(|n: &u64| n.to_string() == size))
            .ok_or(CheckpointError::Malformed { what: "old size" })?;
        let malformed = CheckpointError::Malformed { what: "proof hash" };
        let proof = lines
            .map(|line| line.parse().map_err(|_| malformed.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        if proof.len() > MAX_PROOF_HASHES {
            return Err(malformed);
        }
        Ok(Self {
            old,
            proof,
            checkpoint: Note::parse(checkpoint.as_bytes())?,
        })
    }
}
