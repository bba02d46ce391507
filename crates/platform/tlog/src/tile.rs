//! Tiles and their paths, C2SP tlog-tiles.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::{Entries, Hash, Hasher, Node, ResourceError, TileError};

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// Tree levels a tile spans.
const TILE_HEIGHT: u32 = 8;

/// Levels that a tree of 2^64 - 1 leaves has tiles on.
const TILE_LEVELS: u32 = u64::BITS.div_ceil(TILE_HEIGHT);

/// A hash tile: up to 256 consecutive hashes of the tree level `8 * level`.
///
/// Its text is its path, `tile/<L>/<N>[.p/<W>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u32,
    index: u64,
    width: u64,
}

impl Tile {
    /// The tile at this place with this many hashes, when there can be one.
    #[must_use]
    pub const fn new(level: u32, index: u64, width: u64) -> Option<Self> {
        if level < TILE_LEVELS && width >= 1 && width <= TILE_WIDTH {
            Some(Self {
                level,
                index,
                width,
            })
        } else {
            None
        }
    }

    /// The tile that a node of a tree of `size` leaves is computed from.
    pub(crate) fn of_node(node: Node, size: u64) -> Self {
        let level = node.level / TILE_HEIGHT;
        let first = node.index << (node.level % TILE_HEIGHT);
        let index = first / TILE_WIDTH;
        let hashes = size >> (level * TILE_HEIGHT);
        Self {
            level,
            index,
            width: (hashes - index * TILE_WIDTH).min(TILE_WIDTH),
        }
    }

    /// The tile at the same place, as wide as it is in a tree of this size.
    #[must_use]
    pub const fn within(&self, size: u64) -> Option<Self> {
        let hashes = size >> (self.level * TILE_HEIGHT);
        let left = hashes.saturating_sub(self.index.saturating_mul(TILE_WIDTH));
        let width = if left < TILE_WIDTH { left } else { TILE_WIDTH };
        Self::new(self.level, self.index, width)
    }

    /// Every tile of a tree of this size, level by level.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        Self::levels(size).flat_map(move |(level, hashes)| {
            (0..hashes.div_ceil(TILE_WIDTH)).map(move |index| Self {
                level,
                index,
                width: (hashes - index * TILE_WIDTH).min(TILE_WIDTH),
            })
        })
    }

    /// The partial tiles at the right edge of a tree of this size: what a tree
    /// needs to grow on.
    pub fn edge(size: u64) -> impl Iterator<Item = Self> {
        Self::levels(size).filter_map(|(level, hashes)| {
            Self::new(level, hashes / TILE_WIDTH, hashes % TILE_WIDTH)
        })
    }

    /// The tile levels of a tree and the hashes on each.
    fn levels(size: u64) -> impl Iterator<Item = (u32, u64)> {
        (0..TILE_LEVELS)
            .map(move |level| (level, size >> (level * TILE_HEIGHT)))
            .take_while(|(_, hashes)| *hashes > 0)
    }

    /// The level among tiles; its hashes are on tree level `8 * level`.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// The place among the tiles of this level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The number of hashes, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u64 {
        self.width
    }

    /// Splits the tile's bytes into its hashes.
    pub fn hashes(&self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        let expected = usize::try_from(self.width).unwrap_or(usize::MAX) * Hash::LEN;
        let (chunks, rest) = bytes.as_chunks::<{ Hash::LEN }>();
        if bytes.len() == expected && rest.is_empty() {
            Ok(chunks.iter().copied().map(Hash::from_bytes).collect())
        } else {
            Err(TileError::WrongSize {
                tile: *self,
                len: bytes.len(),
                expected,
            })
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_index(f, self.index, self.width)
    }
}

/// `<N>[.p/<W>]`: the index in groups of three digits, all but the last marked
/// with `x`.
pub(crate) fn write_index(f: &mut fmt::Formatter<'_>, index: u64, width: u64) -> fmt::Result {
    let mut groups = vec![index % 1_000];
    let mut rest = index / 1_000;
    while rest > 0 {
        groups.push(rest % 1_000);
        rest /= 1_000;
    }
    for (place, group) in groups.iter().enumerate().rev() {
        if place > 0 {
            write!(f, "x{group:03}/")?;
        } else {
            write!(f, "{group:03}")?;
        }
    }
    if width < TILE_WIDTH {
        write!(f, ".p/{width}")?;
    }
    Ok(())
}

fn parse_index(text: &str) -> Option<(u64, u64)> {
    let (number, width) = match text.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok()?),
        None => (text, TILE_WIDTH),
    };
    let mut index = 0_u64;
    for group in number.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index = index
            .checked_mul(1_000)?
            .checked_add(digits.parse::<u64>().ok()?)?;
    }
    Some((index, width))
}

/// One static file of a tiled log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// The signed tree head; the only file that changes.
    Checkpoint,
    /// Hashes.
    Tile(Tile),
    /// Entries.
    Entries(Entries),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Tile(tile) => tile.fmt(f),
            Self::Entries(entries) => entries.fmt(f),
        }
    }
}

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = if text == "checkpoint" {
            Some(Self::Checkpoint)
        } else if let Some(rest) = text.strip_prefix("tile/entries/") {
            parse_index(rest)
                .and_then(|(index, width)| Entries::new(index, width))
                .map(Self::Entries)
        } else {
            text.strip_prefix("tile/")
                .and_then(|rest| rest.split_once('/'))
                .and_then(|(level, rest)| Some((level.parse().ok()?, parse_index(rest)?)))
                .and_then(|(level, (index, width))| Tile::new(level, index, width))
                .map(Self::Tile)
        };
        // The one spelling: no sign, no missing or additional zero.
        parsed
            .filter(|resource| resource.to_string() == text)
            .ok_or_else(|| ResourceError {
                text: text.chars().take(80).collect(),
            })
    }
}

/// Tiles at hand, to compute nodes of the tree from.
#[derive(Clone, Debug, Default)]
pub struct TileSet {
    tiles: HashMap<(u32, u64), Vec<Hash>>,
}

impl TileSet {
    /// No tiles.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tile's bytes; a wider one replaces a narrower one.
    pub fn insert(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), TileError> {
        let hashes = tile.hashes(bytes)?;
        let place = self.tiles.entry((tile.level, tile.index)).or_default();
        if place.len() < hashes.len() {
            *place = hashes;
        }
        Ok(())
    }

    /// The hashes of a tile, as many as its width says.
    pub(crate) fn hashes(&self, tile: Tile) -> Result<&[Hash], TileError> {
        self.tiles
            .get(&(tile.level, tile.index))
            .and_then(|hashes| hashes.get(..usize::try_from(tile.width).ok()?))
            .ok_or(TileError::Missing(tile))
    }

    pub(crate) fn node(&self, hasher: Hasher, node: Node, size: u64) -> Result<Hash, TileError> {
        let tile = Tile::of_node(node, size);
        let count = 1_u64 << (node.level % TILE_HEIGHT);
        let first = (node.index * count) % TILE_WIDTH;
        let range = usize::try_from(first)
            .ok()
            .zip(usize::try_from(first + count).ok())
            .map(|(from, to)| from..to);
        let hashes = self.hashes(tile)?;
        range
            .and_then(|range| hashes.get(range))
            .map(|hashes| hasher.root_of(hashes))
            .ok_or(TileError::Missing(tile))
    }
}
