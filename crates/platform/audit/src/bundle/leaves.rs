//! The leaves of a bundle, and the tree over them.

use std::collections::{BTreeMap, BTreeSet};

use creto_tlog::{
    Checkpoint, Entries, EntryError, Frontier, Hash, TILE_WIDTH, Tile, parse_entries,
};
use creto_types::{LeafIndex, OrgId};

use super::{CHECKPOINT, Finding, LeafCheck};
use crate::head::HASHER;
use crate::record::{Order, read_leaf};

/// Every path that a log of this size has.
pub(crate) fn paths(size: u64) -> BTreeSet<String> {
    Entries::all(size)
        .map(|entries| entries.to_string())
        .chain(Tile::all(size).map(|tile| tile.to_string()))
        .collect()
}

/// Checks every leaf, and that leaves, tiles and root are of one tree.
pub(crate) fn check(
    files: &BTreeMap<String, Vec<u8>>,
    org: OrgId,
    head: &Checkpoint,
    check_leaf: &mut LeafCheck<'_>,
) -> Vec<Finding> {
    let mut pass = Pass {
        files,
        org,
        frontier: Frontier::new(HASHER),
        tiles: Vec::new(),
        suspects: Vec::new(),
        findings: Vec::new(),
        order: Order::default(),
        whole: true,
    };
    for entries in Entries::all(head.size) {
        pass.bundle(entries, check_leaf);
    }
    pass.finish(head)
}

struct Pass<'a> {
    files: &'a BTreeMap<String, Vec<u8>>,
    org: OrgId,
    frontier: Frontier,
    /// The full tiles that the leaves lead to.
    tiles: Vec<(Tile, Vec<u8>)>,
    /// Leaves whose hash is not the one in the tile; which of the two was
    /// changed shows when the root is known.
    suspects: Vec<u64>,
    findings: Vec<Finding>,
    order: Order,
    /// Whether every leaf took its place in the tree.
    whole: bool,
}

impl Pass<'_> {
    fn bundle(&mut self, entries: Entries, check_leaf: &mut LeafCheck<'_>) {
        let path = entries.to_string();
        let Some(bytes) = self.files.get(&path) else {
            // The missing file is found by its path.
            self.whole = false;
            return;
        };
        let width = usize::try_from(entries.width()).unwrap_or(usize::MAX);
        let (list, fault) = match parse_entries(bytes, width) {
            Ok(list) => (list, None),
            Err((fault, list)) => (list, Some(fault)),
        };
        let stored = self.stored_hashes(entries);
        for (offset, (index, entry)) in (entries.start()..).zip(list).take(width).enumerate() {
            let hash = HASHER.leaf(entry);
            self.tiles.extend(self.frontier.push(hash));
            if stored.get(offset).is_some_and(|stored| *stored != hash) {
                self.suspects.push(index);
                if fault.is_some() {
                    // From here on the entries are out of step.
                    self.whole = false;
                    return;
                }
                continue;
            }
            let checked = read_leaf(entry, self.org, index)
                .map_err(|fault| fault.to_string())
                .and_then(|leaf| {
                    self.order.take(index, &leaf)?;
                    check_leaf(LeafIndex(index), &leaf)
                });
            if let Err(message) = checked {
                self.findings.push(Finding::leaf(index, message));
            }
        }
        if let Some(fault) = fault {
            self.whole = false;
            self.findings.push(match fault {
                EntryError::Truncated { position } if position < width => {
                    Finding::leaf(entries.start() + position as u64, &fault)
                }
                _ => Finding::new(path, &fault),
            });
        }
    }

    /// The hashes of these leaves as their tile has them, when it is readable.
    fn stored_hashes(&self, entries: Entries) -> Vec<Hash> {
        Tile::new(0, entries.index(), entries.width())
            .and_then(|tile| {
                let bytes = self.files.get(&tile.to_string())?;
                tile.hashes(bytes).ok()
            })
            .unwrap_or_default()
    }

    fn finish(mut self, head: &Checkpoint) -> Vec<Finding> {
        let root = self.frontier.root();
        if self.whole && root == head.root {
            // The leaves are the ones that were signed: a tile that differs is
            // what was changed.
            self.tiles.extend(self.frontier.partial_tiles());
            for (tile, expected) in &self.tiles {
                let path = tile.to_string();
                if let Some(stored) = self.files.get(&path)
                    && stored != expected
                {
                    let message = match first_difference(stored, expected) {
                        Some(place) => {
                            let leaves = leaves_below(tile, place, head.size);
                            format!("its hash {place} is not that of {leaves}")
                        }
                        None => "it is not as long as its name says".to_owned(),
                    };
                    self.findings.push(Finding::new(path, message));
                }
            }
            return self.findings;
        }
        if self.whole && self.suspects.is_empty() {
            let message = format!("the leaves lead to the root {root}, it says {}", head.root);
            self.findings.push(Finding::new(CHECKPOINT, message));
        }
        let suspects = self
            .suspects
            .into_iter()
            .map(|index| Finding::leaf(index, "its hash is not the one in the tree"));
        suspects.chain(self.findings).collect()
    }
}

/// Which leaves the hash at this place of a tile is over.
fn leaves_below(tile: &Tile, place: usize, size: u64) -> String {
    let hash = (tile.index() * TILE_WIDTH).saturating_add(place as u64);
    // A hash of level 0 is over one leaf, one of each further level over as many
    // leaves as a tile has hashes times those of the level below.
    let span = TILE_WIDTH.saturating_pow(tile.level());
    let first = hash.saturating_mul(span);
    let last = first.saturating_add(span - 1).min(size.saturating_sub(1));
    if first == last {
        format!("leaf {first}")
    } else {
        format!("leaves {first} to {last}")
    }
}

/// The first hash in which two tiles of the same length differ.
fn first_difference(stored: &[u8], expected: &[u8]) -> Option<usize> {
    if stored.len() != expected.len() {
        return None;
    }
    stored
        .chunks(Hash::LEN)
        .zip(expected.chunks(Hash::LEN))
        .position(|(stored, expected)| stored != expected)
}
