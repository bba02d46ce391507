//! Entry bundles, C2SP tlog-tiles: 16-bit length, entry, 16-bit length, entry.

use std::fmt;

use crate::tile::write_index;
use crate::{EntryError, TILE_WIDTH};

/// The longest entry: what a 16-bit length can say.
pub const MAX_ENTRY_LEN: usize = u16::MAX as usize;

/// An entry bundle: up to 256 consecutive entries.
///
/// Its text is its path, `tile/entries/<N>[.p/<W>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entries {
    index: u64,
    width: u64,
}

impl Entries {
    /// The bundle at this place with this many entries, when there can be one.
    #[must_use]
    pub const fn new(index: u64, width: u64) -> Option<Self> {
        if width >= 1 && width <= TILE_WIDTH && index <= u64::MAX / TILE_WIDTH {
            Some(Self { index, width })
        } else {
            None
        }
    }

    /// Every bundle of a tree of this size.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        (0..size.div_ceil(TILE_WIDTH)).map(move |index| Self {
            index,
            width: (size - index * TILE_WIDTH).min(TILE_WIDTH),
        })
    }

    /// The partial bundle at the end of a tree of this size.
    #[must_use]
    pub const fn edge(size: u64) -> Option<Self> {
        Self::new(size / TILE_WIDTH, size % TILE_WIDTH)
    }

    /// The place among the bundles.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The number of entries, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u64 {
        self.width
    }

    /// The place of its first entry in the log.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.index * TILE_WIDTH
    }
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_index(f, self.index, self.width)
    }
}

/// The bundle of these entries.
pub fn encode_entries<'a>(
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, EntryError> {
    let mut bundle = Vec::new();
    for entry in entries {
        let len = u16::try_from(entry.len()).map_err(|_| EntryError::TooLong {
            len: entry.len(),
            limit: MAX_ENTRY_LEN,
        })?;
        bundle.extend_from_slice(&len.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Splits a bundle into its `expected` entries.
///
/// The entries before the fault come with the error, so that a verifier can
/// still say which of them were changed.
pub fn parse_entries(bundle: &[u8], expected: usize) -> Result<Vec<&[u8]>, EntryFault<'_>> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let split = rest
            .split_first_chunk::<2>()
            .and_then(|(len, tail)| tail.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        let Some((entry, tail)) = split else {
            let error = EntryError::Truncated {
                position: entries.len(),
            };
            return Err((error, entries));
        };
        entries.push(entry);
        rest = tail;
    }
    if entries.len() == expected {
        Ok(entries)
    } else {
        let error = EntryError::WrongCount {
            found: entries.len(),
            expected,
        };
        Err((error, entries))
    }
}

type EntryFault<'a> = (EntryError, Vec<&'a [u8]>);
