//! Following a log from outside, with public files alone (C2SP tlog-tiles).

use std::collections::BTreeSet;
use std::fmt;

use creto_errors::{Class, Classify};
use creto_tlog::{
    Checkpoint, CheckpointError, Entries, Frontier, Hash, Note, ProofPlan, TILE_WIDTH, Tile,
    TileSet, parse_entries, verify_consistency,
};
use creto_types::StoreError;
use serde::{Deserialize, Serialize};

use crate::NoteVerifier;
use crate::head::HASHER;

/// Where a log's public files are read.
pub trait LogReader {
    /// The file at this path of tlog-tiles, if there is one.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What a monitor remembers between two looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The last checkpoint that held, a signed note.
    pub checkpoint: String,
    /// How many entries were hashed and led to a root that held.
    pub entries: u64,
}

/// A look that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which log.
    pub origin: String,
    /// The size seen before; zero at the first look.
    pub before: u64,
    /// The size now.
    pub size: u64,
    /// The root now.
    pub root: Hash,
    /// How many of the entries were hashed, now or before.
    pub entries: u64,
}

/// What a log did that no honest log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// The checkpoint has no good signature by the log's key.
    BadSignature,
    /// The checkpoint is of another log.
    OtherLog,
    /// The tree is smaller than it was.
    Shrunk,
    /// The tree does not continue the one seen before.
    Fork,
    /// The tiles do not lead to the root that was signed.
    Tiles,
    /// The entries do not lead to the root that was signed.
    Entries,
}

impl AlarmKind {
    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadSignature => "bad_signature",
            Self::OtherLog => "other_log",
            Self::Shrunk => "shrunk",
            Self::Fork => "fork",
            Self::Tiles => "tiles_contradict",
            Self::Entries => "entries_contradict",
        }
    }
}

/// A log misbehaves; the checkpoints are the proof of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What it did.
    pub kind: AlarmKind,
    /// In words.
    pub detail: String,
    /// The checkpoint seen before.
    pub seen: Option<String>,
    /// The one shown now, as it came.
    pub shown: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.detail)
    }
}

/// A look that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The log misbehaves.
    #[error("the log misbehaves: {0}")]
    Alarm(Box<Alarm>),
    /// What was remembered cannot be read.
    #[error("the checkpoint that was remembered cannot be read")]
    Memory(#[source] CheckpointError),
    /// What was remembered is of another log, or not signed by the key.
    #[error("the checkpoint that was remembered is not of the log whose key was given")]
    OtherMemory,
    /// A file that the checkpoint promises is not there.
    #[error("the log does not serve `{path}`")]
    Missing {
        /// Its path.
        path: String,
    },
    /// The log cannot be read now.
    #[error("the log cannot be read")]
    Unreachable(#[from] StoreError),
}

impl Classify for WatchError {
    fn class(&self) -> Class {
        match self {
            Self::Alarm(_) => Class::Security,
            Self::Memory(_) | Self::OtherMemory => Class::Permanent,
            Self::Missing { .. } => Class::Transient,
            Self::Unreachable(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Alarm(_) => "log_misbehaves",
            Self::Memory(_) => "watch_memory",
            Self::OtherMemory => "watch_other_log",
            Self::Missing { .. } => "log_file_missing",
            Self::Unreachable(_) => "log_unreachable",
        }
    }
}

/// Looks at a log and compares it with what it was.
pub struct Monitor<'a> {
    log: &'a dyn LogReader,
    /// Without a key only the history is compared, whoever signs it.
    key: Option<&'a NoteVerifier>,
    /// Whether entries are fetched and hashed.
    entries: bool,
}

impl fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("key", &self.key)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

/// What a look is about.
struct Look<'a> {
    seen: Option<&'a Seen>,
    shown: String,
}

impl Look<'_> {
    fn alarm(&self, kind: AlarmKind, detail: impl Into<String>) -> WatchError {
        WatchError::Alarm(Box::new(Alarm {
            kind,
            detail: detail.into(),
            seen: self.seen.map(|seen| seen.checkpoint.clone()),
            shown: self.shown.clone(),
        }))
    }
}

impl<'a> Monitor<'a> {
    /// A monitor of this log.
    #[must_use]
    pub fn new(log: &'a dyn LogReader, key: Option<&'a NoteVerifier>, entries: bool) -> Self {
        Self { log, key, entries }
    }

    /// Looks once. What is to be remembered comes back only when everything held.
    pub fn look(&self, seen: Option<&Seen>) -> Result<(Observation, Seen), WatchError> {
        let before = seen.map(|seen| self.remembered(seen)).transpose()?;
        let bytes = self.required("checkpoint")?;
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let look = Look { seen, shown };
        let now = self.checkpoint(&look, &bytes)?;
        let (old, old_root) = match &before {
            Some(before) if before.origin != now.origin => {
                let detail = format!("it was `{}` and is `{}`", before.origin, now.origin);
                return Err(look.alarm(AlarmKind::OtherLog, detail));
            }
            Some(before) => (before.size, before.root),
            None => (0, HASHER.empty()),
        };
        if now.size < old {
            let detail = format!("it had {old} leaves and has {}", now.size);
            return Err(look.alarm(AlarmKind::Shrunk, detail));
        }
        self.compare(&look, old, &old_root, &now)?;
        let hashed = seen.map_or(0, |seen| seen.entries);
        let entries = if self.entries {
            self.hash_entries(&look, hashed.min(old), &now)?;
            now.size
        } else {
            hashed
        };
        let seen = Seen {
            checkpoint: look.shown,
            entries,
        };
        let observation = Observation {
            origin: now.origin,
            before: old,
            size: now.size,
            root: now.root,
            entries,
        };
        Ok((observation, seen))
    }

    fn remembered(&self, seen: &Seen) -> Result<Checkpoint, WatchError> {
        let note = Note::parse(seen.checkpoint.as_bytes())
            .map_err(|e| WatchError::Memory(CheckpointError::from(e)))?;
        let before: Checkpoint = note.text().parse().map_err(WatchError::Memory)?;
        match self.key {
            Some(key) if before.origin != key.name() || !key.verifies(&note) => {
                Err(WatchError::OtherMemory)
            }
            _ => Ok(before),
        }
    }

    fn checkpoint(&self, look: &Look<'_>, bytes: &[u8]) -> Result<Checkpoint, WatchError> {
        let malformed =
            |error: CheckpointError| look.alarm(AlarmKind::BadSignature, error.to_string());
        let note = Note::parse(bytes).map_err(|e| malformed(e.into()))?;
        let now: Checkpoint = note.text().parse().map_err(malformed)?;
        let Some(key) = self.key else {
            return Ok(now);
        };
        if now.origin != key.name() {
            let detail = format!("it is of `{}`, the key is of `{}`", now.origin, key.name());
            return Err(look.alarm(AlarmKind::OtherLog, detail));
        }
        if !key.verifies(&note) {
            let detail = "the checkpoint has no good signature by the log's key";
            return Err(look.alarm(AlarmKind::BadSignature, detail));
        }
        Ok(now)
    }

    /// That the tiles lead to the signed root, and that the tree contains the one
    /// seen before.
    fn compare(
        &self,
        look: &Look<'_>,
        old: u64,
        old_root: &Hash,
        now: &Checkpoint,
    ) -> Result<(), WatchError> {
        if old == now.size {
            return if old > 0 && *old_root != now.root {
                let detail = format!(
                    "there are two trees of {old} leaves: {old_root} and {}",
                    now.root
                );
                Err(look.alarm(AlarmKind::Fork, detail))
            } else if now.size == 0 && now.root != HASHER.empty() {
                Err(look.alarm(AlarmKind::Tiles, "the root of no leaves is another one"))
            } else {
                Ok(())
            };
        }
        let size = now.size;
        let impossible = |e: creto_tlog::ProofError| look.alarm(AlarmKind::Tiles, e.to_string());
        let whole = ProofPlan::root(size);
        let part = ProofPlan::prefix_root(old, size).map_err(impossible)?;
        let between = ProofPlan::consistency(old, size).map_err(impossible)?;
        let plans = [&whole, &part, &between];
        let wanted = plans.into_iter().flat_map(ProofPlan::tiles).collect();
        let tiles = self.tiles(look, wanted)?;
        let resolve = |plan: &ProofPlan| {
            plan.resolve(HASHER, &tiles)
                .map_err(|e| look.alarm(AlarmKind::Tiles, e.to_string()))
        };
        let (root, prefix, proof) = (resolve(&whole)?, resolve(&part)?, resolve(&between)?);
        let prefix = prefix.first().copied().unwrap_or_else(|| HASHER.empty());
        if root.first() != Some(&now.root)
            || verify_consistency(HASHER, old, &prefix, size, &now.root, &proof).is_err()
        {
            let detail = format!("the tiles do not lead to the root of {size} leaves");
            return Err(look.alarm(AlarmKind::Tiles, detail));
        }
        // The tiles are those that were signed; so it is the history that differs.
        if prefix != *old_root {
            let detail = format!(
                "the first {old} leaves had the root {old_root}, and have {prefix} in the tree of {size}"
            );
            return Err(look.alarm(AlarmKind::Fork, detail));
        }
        Ok(())
    }

    /// That the entries from `from` on lead to the signed root. The tree up to there
    /// is taken from the tiles; were they others, the root would be another too.
    fn hash_entries(&self, look: &Look<'_>, from: u64, now: &Checkpoint) -> Result<(), WatchError> {
        if from == now.size {
            return Ok(());
        }
        let edge: BTreeSet<Tile> = Tile::edge(from)
            .filter_map(|tile| tile.within(now.size))
            .collect();
        let tiles = self.tiles(look, edge)?;
        let mut frontier = Frontier::resume(HASHER, from, &tiles)
            .map_err(|e| look.alarm(AlarmKind::Tiles, e.to_string()))?;
        for bundle in Entries::all(now.size).skip(usize::try_from(from / TILE_WIDTH).unwrap_or(0)) {
            let (bytes, width) = self.bundle(bundle)?;
            let entries = parse_entries(&bytes, width).map_err(|(error, _)| {
                look.alarm(AlarmKind::Entries, format!("`{bundle}`: {error}"))
            })?;
            for (index, entry) in (bundle.start()..).zip(entries) {
                if index >= from && index < now.size {
                    frontier.push(HASHER.leaf(entry));
                }
            }
        }
        if frontier.root() == now.root {
            Ok(())
        } else {
            let detail = format!("the entries lead to the root {}", frontier.root());
            Err(look.alarm(AlarmKind::Entries, detail))
        }
    }

    fn tiles(&self, look: &Look<'_>, wanted: BTreeSet<Tile>) -> Result<TileSet, WatchError> {
        let mut tiles = TileSet::new();
        for tile in wanted {
            let (tile, bytes) = match self.log.get(&tile.to_string())? {
                Some(bytes) => (tile, bytes),
                // The partial one may have made way for the full one.
                None => match Tile::new(tile.level(), tile.index(), TILE_WIDTH) {
                    Some(full) if full != tile => (full, self.required(&full.to_string())?),
                    _ => {
                        let path = tile.to_string();
                        return Err(WatchError::Missing { path });
                    }
                },
            };
            tiles
                .insert(tile, &bytes)
                .map_err(|e| look.alarm(AlarmKind::Tiles, e.to_string()))?;
        }
        Ok(tiles)
    }

    /// The bundle and the entries it has; a full one may stand for a partial one.
    fn bundle(&self, bundle: Entries) -> Result<(Vec<u8>, usize), WatchError> {
        let width = |bundle: Entries| usize::try_from(bundle.width()).unwrap_or(usize::MAX);
        if let Some(bytes) = self.log.get(&bundle.to_string())? {
            return Ok((bytes, width(bundle)));
        }
        match Entries::new(bundle.index(), TILE_WIDTH) {
            Some(full) if full != bundle => Ok((self.required(&full.to_string())?, width(full))),
            _ => Err(WatchError::Missing {
                path: bundle.to_string(),
            }),
        }
    }

    fn required(&self, path: &str) -> Result<Vec<u8>, WatchError> {
        self.log.get(path)?.ok_or_else(|| WatchError::Missing {
            path: path.to_owned(),
        })
    }
}
