//! What can be wrong with bytes that claim to be part of a log.

use creto_errors::{Class, Classify};

use crate::{Hash, Tile};

/// A proof does not prove what it claims, or cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not in a tree of this size.
    #[error("leaf {index} is outside a tree of {size} leaves")]
    IndexOutside {
        /// The leaf asked for.
        index: u64,
        /// The leaves there are.
        size: u64,
    },
    /// A tree does not shrink.
    #[error("a tree of {old} leaves is not a prefix of one of {new} leaves")]
    SizeShrinks {
        /// The size claimed to be older.
        old: u64,
        /// The size claimed to be newer.
        new: u64,
    },
    /// The proof has too many or too few hashes for these sizes.
    #[error("the proof has the wrong number of hashes")]
    WrongLength,
    /// The hashes lead to another root.
    #[error("the proof leads to the root {computed}, not {expected}")]
    WrongRoot {
        /// The root the tree head states.
        expected: Hash,
        /// The root the proof leads to.
        computed: Hash,
    },
}

impl Classify for ProofError {
    fn class(&self) -> Class {
        match self {
            Self::IndexOutside { .. } | Self::SizeShrinks { .. } => Class::Permanent,
            Self::WrongLength | Self::WrongRoot { .. } => Class::Security,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::IndexOutside { .. } => "leaf_outside_tree",
            Self::SizeShrinks { .. } => "tree_shrinks",
            Self::WrongLength => "proof_wrong_length",
            Self::WrongRoot { .. } => "proof_wrong_root",
        }
    }
}

/// A tile is missing or is not of its width.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The tile was not given to the [`crate::TileSet`].
    #[error("the tile `{0}` is missing")]
    Missing(Tile),
    /// The bytes are not `width` hashes of 32 bytes.
    #[error("the tile `{tile}` has {len} bytes, expected {expected}")]
    WrongSize {
        /// The tile.
        tile: Tile,
        /// The bytes it has.
        len: usize,
        /// The bytes its width asks for.
        expected: usize,
    },
}

impl Classify for TileError {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "log_tile_missing",
            Self::WrongSize { .. } => "log_tile_wrong_size",
        }
    }
}

/// A path that is not one of tlog-tiles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path of a tiled log")]
pub struct ResourceError {
    pub(crate) text: String,
}

impl Classify for ResourceError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "not_a_log_path"
    }
}

/// An entry bundle that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The entry does not fit the 16-bit length of the format.
    #[error("an entry of {len} bytes is over the limit of {limit} bytes")]
    TooLong {
        /// The entry's length.
        len: usize,
        /// The longest that fits.
        limit: usize,
    },
    /// The bundle ends inside an entry.
    #[error("the bundle ends inside its entry {position}")]
    Truncated {
        /// The entry's place in the bundle, from zero.
        position: usize,
    },
    /// The bundle has another number of entries than its name says.
    #[error("the bundle has {found} entries, expected {expected}")]
    WrongCount {
        /// The entries it has.
        found: usize,
        /// The entries its width asks for.
        expected: usize,
    },
}

impl Classify for EntryError {
    fn class(&self) -> Class {
        match self {
            Self::TooLong { .. } => Class::Permanent,
            Self::Truncated { .. } | Self::WrongCount { .. } => Class::Security,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "log_entry_too_long",
            Self::Truncated { .. } => "entry_bundle_truncated",
            Self::WrongCount { .. } => "entry_bundle_wrong_count",
        }
    }
}

/// Bytes that are not a signed note in its one encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Over the size this crate reads.
    #[error("the note has {len} bytes, over the limit of {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The longest that is read.
        limit: usize,
    },
    /// Not UTF-8, or a control character other than newline.
    #[error("the note is not plain UTF-8 text")]
    NotText,
    /// No blank line between text and signatures, or no newline at the end.
    #[error("the note has no signature block")]
    NoSignatures,
    /// The text does not end in a newline.
    #[error("the note's text must end in a newline")]
    TextEnd,
    /// A key name is empty or has a space or a plus.
    #[error("`{name}` is not a key name")]
    KeyName {
        /// The name.
        name: String,
    },
    /// A text is not a verifier key.
    #[error("`{text}` is not a verifier key: NAME+ID+KEY, as note tools write it")]
    VerifierKey {
        /// Its beginning.
        text: String,
    },
    /// A signature line is not in its form.
    #[error("signature line {line} of the note is malformed")]
    SignatureLine {
        /// The line, from one.
        line: usize,
    },
}

impl Classify for NoteError {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "note_too_long",
            Self::NotText => "note_not_text",
            Self::NoSignatures => "note_without_signatures",
            Self::TextEnd => "note_text_end",
            Self::KeyName { .. } => "note_key_name",
            Self::VerifierKey { .. } => "note_verifier_key",
            Self::SignatureLine { .. } => "note_signature_malformed",
        }
    }
}

/// A note's text that is not a checkpoint, or a text that is not a tlog-proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Fewer lines than the format has.
    #[error("the {what} is missing")]
    Missing {
        /// The line that is missing.
        what: &'static str,
    },
    /// A line that is not in its one form.
    #[error("the {what} is malformed")]
    Malformed {
        /// The line.
        what: &'static str,
    },
    /// The enclosing note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Classify for CheckpointError {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::Malformed { .. } => "checkpoint_malformed",
            Self::Note(error) => error.code(),
        }
    }
}
