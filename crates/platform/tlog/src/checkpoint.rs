//! C2SP tlog-checkpoint and tlog-proof.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{CheckpointError, Hash, Note};

/// A tree head: the text of a checkpoint's note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Opaque lines after the root; this crate's logs write none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A tree head without extension lines.
    #[must_use]
    pub const fn new(origin: String, size: u64, root: Hash) -> Self {
        Self {
            origin,
            size,
            root,
            extensions: Vec::new(),
        }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)?;
        for line in &self.extensions {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Reads a note's text. What is read is written back the same.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text
            .strip_suffix('\n')
            .ok_or(CheckpointError::Missing { what: "last line" })?;
        let mut lines = body.split('\n');
        let origin = next_line(&mut lines, "origin")?;
        let size = next_line(&mut lines, "tree size")?;
        let root = next_line(&mut lines, "root hash")?;
        let extensions: Vec<String> = lines.map(ToOwned::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Malformed {
                what: "extension line",
            });
        }
        Ok(Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or(CheckpointError::Malformed { what: "tree size" })?,
            root: root
                .parse()
                .map_err(|_| CheckpointError::Malformed { what: "root hash" })?,
            extensions,
        })
    }
}

fn next_line<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    what: &'static str,
) -> Result<&'a str, CheckpointError> {
    lines
        .next()
        .filter(|line| !line.is_empty())
        .ok_or(CheckpointError::Missing { what })
}

/// ASCII decimal without a sign or leading zeroes.
fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n: &u64| n.to_string() == text)
}

/// That an entry is in a log, for someone offline: C2SP tlog-proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's place.
    pub index: u64,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint the proof leads to.
    pub checkpoint: Note,
}

const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEADER}\nindex {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for InclusionProof {
    type Err = CheckpointError;

    /// Reads a proof. Extra data is checked for its form and then dropped: it is
    /// not authenticated, and nothing here gives it a meaning.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (proof, checkpoint) = text
            .split_once("\n\n")
            .ok_or(CheckpointError::Missing { what: "checkpoint" })?;
        let mut lines = proof.split('\n').peekable();
        if lines.next() != Some(PROOF_HEADER) {
            return Err(CheckpointError::Malformed {
                what: "proof header",
            });
        }
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            STANDARD
                .decode(extra)
                .map_err(|_| CheckpointError::Malformed { what: "extra data" })?;
            lines.next();
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or(CheckpointError::Malformed { what: "leaf index" })?;
        let hashes = lines
            .map(|line| {
                line.parse()
                    .map_err(|_| CheckpointError::Malformed { what: "proof hash" })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            index,
            hashes,
            checkpoint: Note::parse(checkpoint.as_bytes())?,
        })
    }
}
