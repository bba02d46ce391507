//! The growing edge of a tree.

use crate::{Hash, Hasher, TILE_WIDTH, Tile, TileError, TileSet};

/// The right edge of a tree: enough to append leaves, to know the root and to
/// emit every tile exactly when it is full.
#[derive(Clone, Debug)]
pub struct Frontier {
    hasher: Hasher,
    size: u64,
    /// The hashes of the partial tile of each tile level, lowest first.
    levels: Vec<Vec<Hash>>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub const fn new(hasher: Hasher) -> Self {
        Self {
            hasher,
            size: 0,
            levels: Vec::new(),
        }
    }

    /// The tree of `size` leaves, from its [`Tile::edge`] tiles.
    pub fn resume(hasher: Hasher, size: u64, tiles: &TileSet) -> Result<Self, TileError> {
        let mut frontier = Self::new(hasher);
        frontier.size = size;
        for tile in Tile::edge(size) {
            let level = usize::try_from(tile.level()).unwrap_or(usize::MAX);
            if frontier.levels.len() <= level {
                frontier.levels.resize(level + 1, Vec::new());
            }
            if let Some(hashes) = frontier.levels.get_mut(level) {
                *hashes = tiles.hashes(tile)?.to_vec();
            }
        }
        Ok(frontier)
    }

    /// The number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        // The root of a row alone would close it too early: the rows below it
        // join its last perfect part first.
        let parts: Vec<Hash> = self
            .levels
            .iter()
            .rev()
            .flat_map(|hashes| self.hasher.perfect_parts(hashes))
            .collect();
        self.hasher.join(&parts)
    }

    /// Appends a leaf and returns the tiles that it filled, lowest first.
    pub fn push(&mut self, leaf: Hash) -> Vec<(Tile, Vec<u8>)> {
        let mut full = Vec::new();
        let mut carry = Some(leaf);
        let mut level = 0_u32;
        self.size += 1;
        let mut rows = self.levels.iter_mut();
        while let Some(hash) = carry.take() {
            let Some(row) = rows.next() else {
                self.levels.push(vec![hash]);
                break;
            };
            row.push(hash);
            if row.len() as u64 == TILE_WIDTH {
                let hashes_on_level = self.size >> (8 * level);
                let index = hashes_on_level / TILE_WIDTH - 1;
                full.extend(Tile::new(level, index, TILE_WIDTH).map(|tile| (tile, bytes(row))));
                carry = Some(self.hasher.root_of(row));
                row.clear();
                level += 1;
            }
        }
        full
    }

    /// The partial tiles of the tree as it is now.
    pub fn partial_tiles(&self) -> impl Iterator<Item = (Tile, Vec<u8>)> {
        Tile::edge(self.size).filter_map(|tile| {
            let row = self.levels.get(usize::try_from(tile.level()).ok()?)?;
            Some((tile, bytes(row)))
        })
    }
}

fn bytes(row: &[Hash]) -> Vec<u8> {
    row.iter().flat_map(|hash| *hash.as_bytes()).collect()
}
