//! C2SP tlog-cosignature with Ed25519, and the request of C2SP tlog-witness.

use std::fmt;
use std::str::FromStr;

use crate::{CheckpointError, Hash, Note};

/// A proof between sizes of 64 bits has no more (C2SP tlog-witness).
const MAX_PROOF_HASHES: usize = 63;

/// A witness's timestamped signature: that this is the largest consistent tree it
/// had seen of the log at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When, in seconds since 1970.
    pub time: u64,
    /// Ed25519 over [`Cosignature::message`].
    pub signature: [u8; 64],
}

impl Cosignature {
    /// The bytes that are signed: two lines of its own, then the checkpoint's text.
    #[must_use]
    pub fn message(time: u64, checkpoint: &str) -> Vec<u8> {
        format!("cosignature/v1\ntime {time}\n{checkpoint}").into_bytes()
    }

    /// The signature of a note's line: the time in eight bytes, big-endian, then the
    /// signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.time.to_be_bytes()[..], &self.signature].concat()
    }

    /// Reads a line's signature. A time over 2^63 - 1 is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        i64::try_from(time).ok()?;
        Some(Self {
            time,
            signature: rest.try_into().ok()?,
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
