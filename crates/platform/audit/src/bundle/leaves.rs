//! The leaves of a bundle, and the tree over them.

use std::collections::BTreeSet;

use creto_tlog::{
    Checkpoint, Entries, EntryError, Frontier, Hash, TILE_WIDTH, Tile, parse_entries,
};
use creto_types::{LeafIndex, OrgId};

use super::files::Files;
use super::payloads::{Absent, path_of};
use super::{CHECKPOINT, Finding, LeafCheck};
use crate::head::HASHER;
use crate::payload::join;
use crate::record::{Order, ReadLeaf, read_leaf};
use crate::{Content, Opening, Withheld};

/// Every path that a log of this size has.
pub(crate) fn paths(size: u64) -> BTreeSet<String> {
    Entries::all(size)
        .map(|entries| entries.to_string())
        .chain(Tile::all(size).map(|tile| tile.to_string()))
        .collect()
}

/// What the leaves of a bundle are like.
pub(crate) struct Checked {
    pub(crate) findings: Vec<Finding>,
    /// The payloads that are not there.
    pub(crate) absent: Absent,
    /// The files of payloads that these leaves have.
    pub(crate) payloads: BTreeSet<String>,
}

/// Checks every leaf with its payload, and that leaves, tiles and root are of one tree.
pub(crate) fn check(
    files: &mut Files<'_>,
    org: OrgId,
    head: &Checkpoint,
    absent: Absent,
    check_leaf: &mut LeafCheck<'_>,
) -> Checked {
    let mut pass = Pass {
        files,
        org,
        size: head.size,
        frontier: Frontier::new(HASHER),
        stored: None,
        tiles: Vec::new(),
        suspects: Vec::new(),
        findings: Vec::new(),
        order: Order::default(),
        whole: true,
        absent,
        payloads: BTreeSet::new(),
    };
    for entries in Entries::all(head.size) {
        pass.bundle(entries, check_leaf);
    }
    let absent = std::mem::take(&mut pass.absent);
    let payloads = std::mem::take(&mut pass.payloads);
    Checked {
        findings: pass.finish(head),
        absent,
        payloads,
    }
}

struct Pass<'a, 'b> {
    files: &'a mut Files<'b>,
    org: OrgId,
    size: u64,
    frontier: Frontier,
    /// The tile over the entries that were read last.
    stored: Option<(Tile, Vec<u8>)>,
    /// Tiles that the leaves do not lead to: those were changed, if the leaves are the ones
    /// that were signed.
    tiles: Vec<Finding>,
    /// Leaves whose hash is not the one in the tile; which of the two was
    /// changed shows when the root is known.
    suspects: Vec<u64>,
    findings: Vec<Finding>,
    order: Order,
    /// Whether every leaf took its place in the tree.
    whole: bool,
    absent: Absent,
    payloads: BTreeSet<String>,
}

/// The payloads beside one file of entries.
struct Beside<'a> {
    path: String,
    /// One for each entry, as far as they can be told apart; none when the file is missing.
    list: Option<Vec<&'a [u8]>>,
    fault: Option<EntryError>,
}

impl<'a> Beside<'a> {
    fn of(entries: Entries, width: usize, bytes: Option<&'a [u8]>) -> Self {
        let (list, fault) = match bytes.map(|bytes| parse_entries(bytes, width)) {
            None => (None, None),
            Some(Ok(list)) => (Some(list), None),
            Some(Err((fault, list))) => (Some(list), Some(fault)),
        };
        Self {
            path: path_of(entries),
            list,
            fault,
        }
    }
}

impl Pass<'_, '_> {
    fn bundle(&mut self, entries: Entries, check_leaf: &mut LeafCheck<'_>) {
        let path = entries.to_string();
        let Some(bytes) = self.files.take(&path) else {
            // The missing file is found by its path.
            self.whole = false;
            return;
        };
        let width = usize::try_from(entries.width()).unwrap_or(usize::MAX);
        let (list, fault) = match parse_entries(&bytes, width) {
            Ok(list) => (list, None),
            Err((fault, list)) => (list, Some(fault)),
        };
        let stored = self.stored_hashes(entries);
        let payloads = self.files.take(&path_of(entries));
        let beside = Beside::of(entries, width, payloads.as_deref());
        for (offset, (index, entry)) in (entries.start()..).zip(list).take(width).enumerate() {
            let hash = HASHER.leaf(entry);
            for (tile, expected) in self.frontier.push(hash) {
                self.compare(tile, &expected);
            }
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
                .and_then(|leaf| self.leaf(index, leaf, offset, &beside, check_leaf));
            if let Err(message) = checked {
                self.findings.push(Finding::leaf(index, message));
            }
        }
        if let Some(fault) = &beside.fault {
            self.findings.push(match fault {
                EntryError::Truncated { position } if *position < width => {
                    Finding::leaf(entries.start() + *position as u64, fault)
                }
                _ => Finding::new(&beside.path, fault),
            });
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

    /// One leaf with what lies beside it.
    fn leaf(
        &mut self,
        index: u64,
        leaf: ReadLeaf,
        offset: usize,
        beside: &Beside<'_>,
        check_leaf: &mut LeafCheck<'_>,
    ) -> Result<(), String> {
        self.order.take(index, &leaf.value)?;
        let head = leaf.sealed.clone();
        let bytes = beside
            .list
            .as_ref()
            .and_then(|list| list.get(offset))
            .copied()
            .unwrap_or_default();
        let content = match (&head, bytes) {
            (None, []) => Content::Clear,
            (_, []) => Content::Withheld(Withheld::NotDisclosed),
            (_, bytes) => Content::Opened(
                Opening::from_bytes(bytes).ok_or("its payload is shorter than a salt")?,
            ),
        };
        if head.is_some() {
            self.payloads.insert(beside.path.clone());
        }
        let record = join(leaf, &content).map_err(|fault| fault.to_string())?;
        // Where the file of all is missing, that is found by its path.
        if beside.list.is_some() || record.withheld().is_none() {
            self.absent.take(index, head.as_ref(), &record)?;
        }
        check_leaf(LeafIndex(index), record.value())
    }

    /// The hashes of these leaves as their tile has them, when it is readable.
    fn stored_hashes(&mut self, entries: Entries) -> Vec<Hash> {
        self.stored = Tile::new(0, entries.index(), entries.width())
            .and_then(|tile| Some((tile, self.files.take(&tile.to_string())?)));
        let hashes = |(tile, bytes): &(Tile, Vec<u8>)| tile.hashes(bytes).ok();
        self.stored.as_ref().and_then(hashes).unwrap_or_default()
    }

    /// Holds a tile against what the leaves lead to. When leaves are missing that is another
    /// one, and nothing is said.
    fn compare(&mut self, tile: Tile, expected: &[u8]) {
        let path = tile.to_string();
        if !self.whole {
            return;
        }
        let stored = match self.stored.take_if(|(stored, _)| *stored == tile) {
            Some((_, bytes)) => bytes,
            // The missing file is found by its path.
            None => match self.files.take(&path) {
                Some(bytes) => bytes,
                None => return,
            },
        };
        if stored != expected {
            let message = match first_difference(&stored, expected) {
                Some(place) => {
                    let leaves = leaves_below(&tile, place, self.size);
                    format!("its hash {place} is not that of {leaves}")
                }
                None => "it is not as long as its name says".to_owned(),
            };
            self.tiles.push(Finding::new(path, message));
        }
    }

    fn finish(mut self, head: &Checkpoint) -> Vec<Finding> {
        let root = self.frontier.root();
        if self.whole && root == head.root {
            // The leaves are the ones that were signed: a tile that differs is
            // what was changed.
            let partial: Vec<_> = self.frontier.partial_tiles().collect();
            for (tile, expected) in partial {
                self.compare(tile, &expected);
            }
            self.findings.append(&mut self.tiles);
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
