//! An organization's tree as it grows, and the files that growing makes.

use creto_tlog::{Entries, Frontier, Hash, Resource, TILE_WIDTH, encode_entries};
use creto_types::OrgId;

use crate::AuditError;
use crate::error::{corrupt, entry_fault};
use crate::head::HASHER;
use crate::record::read_leaf;

/// A public file of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    pub(crate) resource: Resource,
    pub(crate) bytes: Vec<u8>,
}

/// The right edge of the tree and of its entries.
#[derive(Clone, Debug)]
pub(crate) struct LogTree {
    org: OrgId,
    frontier: Frontier,
    /// The entries of the last bundle, as long as it is partial.
    edge: Vec<Vec<u8>>,
}

impl LogTree {
    pub(crate) fn new(org: OrgId) -> Self {
        Self {
            org,
            frontier: Frontier::new(HASHER),
            edge: Vec::new(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Appends a leaf and returns the files it filled: the entries before the
    /// hashes over them.
    pub(crate) fn push(&mut self, leaf: Vec<u8>) -> Result<Vec<LogFile>, AuditError> {
        let index = self.size();
        read_leaf(&leaf, self.org, index)
            .map_err(|fault| corrupt(self.org, format!("leaf {index}"), fault))?;
        let tiles = self.frontier.push(HASHER.leaf(&leaf));
        self.edge.push(leaf);
        let mut files = Vec::new();
        if !tiles.is_empty() {
            let full = Entries::new(index / TILE_WIDTH, TILE_WIDTH);
            files.extend(self.bundle(full)?);
            self.edge.clear();
        }
        files.extend(tiles.into_iter().map(|(tile, bytes)| LogFile {
            resource: Resource::Tile(tile),
            bytes,
        }));
        Ok(files)
    }

    /// The partial files of the tree as it is now.
    pub(crate) fn partials(&self) -> Result<Vec<LogFile>, AuditError> {
        let mut files: Vec<LogFile> = self
            .bundle(Entries::edge(self.size()))?
            .into_iter()
            .collect();
        files.extend(self.frontier.partial_tiles().map(|(tile, bytes)| LogFile {
            resource: Resource::Tile(tile),
            bytes,
        }));
        Ok(files)
    }

    fn bundle(&self, entries: Option<Entries>) -> Result<Option<LogFile>, AuditError> {
        let Some(entries) = entries else {
            return Ok(None);
        };
        let bytes = encode_entries(self.edge.iter().map(Vec::as_slice))
            .map_err(|error| entry_fault(self.org, entries.start(), &error))?;
        Ok(Some(LogFile {
            resource: Resource::Entries(entries),
            bytes,
        }))
    }
}
