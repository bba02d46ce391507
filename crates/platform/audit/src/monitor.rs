//! Following a log from outside, with public files alone (C2SP tlog-tiles).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

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
    /// The files that a checkpoint is checked by have not been shown for too long.
    Withheld,
    /// No checkpoint with enough cosignatures has been shown for too long.
    Uncosigned,
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
            Self::Withheld => "withheld",
            Self::Uncosigned => "uncosigned",
        }
    }
}

/// A log misbehaves. The checkpoints are the proof of it, but where it is silence that
/// lasted too long: that others have to be asked about.
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

/// A checkpoint that was shown, and a file that was not, which it takes to check it.
#[derive(Debug)]
pub struct Unproven {
    /// The file's path.
    pub path: String,
    /// The checkpoint, a note with a good signature if there is a key.
    pub shown: String,
    /// Why the file cannot be read; nothing when the log says that there is none.
    pub source: Option<StoreError>,
    /// For how long this has been so, and from when on it is an alarm; of a single look
    /// nothing can be said.
    pub held: Option<(Duration, Duration)>,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        write!(
            f,
            "the log shows a checkpoint and does not serve `{path}`, which it takes to check it"
        )?;
        match self.held {
            Some((held, after)) => write!(
                f,
                ": for {} s so far, and after {} s that is an alarm",
                held.as_secs(),
                after.as_secs()
            ),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Unproven {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
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
    /// There is no checkpoint.
    #[error("the log does not serve a checkpoint")]
    NoCheckpoint,
    /// There is one, and a file that it promises cannot be read.
    #[error(transparent)]
    Unproven(Box<Unproven>),
    /// The log cannot be read now.
    #[error("the log cannot be read")]
    Unreachable(#[from] StoreError),
}

impl Classify for WatchError {
    fn class(&self) -> Class {
        match self {
            Self::Alarm(_) => Class::Security,
            Self::Memory(_) | Self::OtherMemory => Class::Permanent,
            Self::NoCheckpoint | Self::Unproven(_) => Class::Transient,
            Self::Unreachable(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Alarm(alarm) => match alarm.kind {
                AlarmKind::Withheld => "log_withholds",
                AlarmKind::Uncosigned => "log_uncosigned",
                _ => "log_misbehaves",
            },
            Self::Memory(_) => "watch_memory",
            Self::OtherMemory => "watch_other_log",
            Self::NoCheckpoint | Self::Unproven(_) => "log_file_missing",
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
    seen: Option<&'a str>,
    shown: String,
}

impl Look<'_> {
    fn alarm(&self, kind: AlarmKind, detail: impl Into<String>) -> WatchError {
        alarm(kind, detail, self.seen, &self.shown)
    }

    fn unproven(&self, path: impl fmt::Display, source: Option<StoreError>) -> WatchError {
        WatchError::Unproven(Box::new(Unproven {
            path: path.to_string(),
            shown: self.shown.clone(),
            source,
            held: None,
        }))
    }
}

pub(crate) fn alarm(
    kind: AlarmKind,
    detail: impl Into<String>,
    seen: Option<&str>,
    shown: &str,
) -> WatchError {
    WatchError::Alarm(Box::new(Alarm {
        kind,
        detail: detail.into(),
        seen: seen.map(str::to_owned),
        shown: shown.to_owned(),
    }))
}

impl<'a> Monitor<'a> {
    /// A monitor of this log.
    #[must_use]
    pub fn new(log: &'a dyn LogReader, key: Option<&'a NoteVerifier>, entries: bool) -> Self {
        Self { log, key, entries }
    }

    /// Looks once. What is to be remembered comes back only when everything held.
    pub fn look(&self, seen: Option<&Seen>) -> Result<(Observation, Seen), WatchError> {
        let before = seen
            .map(|seen| self.remembered(&seen.checkpoint))
            .transpose()?;
        let bytes = self.log.get("checkpoint")?;
        let bytes = bytes.ok_or(WatchError::NoCheckpoint)?;
        let look = Look {
            seen: seen.map(|seen| seen.checkpoint.as_str()),
            shown: String::from_utf8_lossy(&bytes).into_owned(),
        };
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

    /// Whether the tree that was shown contains an earlier one, and has as many leaves at
    /// least. Both checkpoints are such as held, or were shown to this monitor.
    pub(crate) fn continues(&self, earlier: &str, shown: &str) -> Result<bool, WatchError> {
        let (old, now) = (self.remembered(earlier)?, self.remembered(shown)?);
        if now.size < old.size {
            return Ok(false);
        }
        let look = Look {
            seen: Some(earlier),
            shown: shown.to_owned(),
        };
        self.compare(&look, old.size, &old.root, &now)?;
        Ok(true)
    }

    /// That two checkpoints of one size are of one tree, for which it takes no files.
    pub(crate) fn same_tree(&self, earlier: &str, shown: &str) -> Result<(), WatchError> {
        let (old, now) = (self.remembered(earlier)?, self.remembered(shown)?);
        if old.size == now.size {
            self.continues(earlier, shown)?;
        }
        Ok(())
    }

    fn remembered(&self, checkpoint: &str) -> Result<Checkpoint, WatchError> {
        let note = Note::parse(checkpoint.as_bytes())
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
        match key.lines(&note) {
            Ok(lines) if !lines.is_empty() => Ok(now),
            Ok(_) => {
                let detail = "the checkpoint has no good signature by the log's key";
                Err(look.alarm(AlarmKind::BadSignature, detail))
            }
            Err(error) => Err(look.alarm(AlarmKind::BadSignature, error.to_string())),
        }
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
            let (bytes, width) = self.bundle(look, bundle)?;
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
            // The partial one may have made way for the full one.
            let full = Tile::new(tile.level(), tile.index(), TILE_WIDTH);
            let (tile, bytes) = self.either(look, tile, full)?;
            tiles
                .insert(tile, &bytes)
                .map_err(|e| look.alarm(AlarmKind::Tiles, e.to_string()))?;
        }
        Ok(tiles)
    }

    /// The bundle and the entries it has; a full one may stand for a partial one.
    fn bundle(&self, look: &Look<'_>, bundle: Entries) -> Result<(Vec<u8>, usize), WatchError> {
        let full = Entries::new(bundle.index(), TILE_WIDTH);
        let (bundle, bytes) = self.either(look, bundle, full)?;
        Ok((bytes, usize::try_from(bundle.width()).unwrap_or(usize::MAX)))
    }

    /// The first of the two files that there is.
    fn either<F: fmt::Display + PartialEq>(
        &self,
        look: &Look<'_>,
        file: F,
        full: Option<F>,
    ) -> Result<(F, Vec<u8>), WatchError> {
        let read = |file: &F| {
            let bytes = self.log.get(&file.to_string());
            bytes.map_err(|error| look.unproven(file, Some(error)))
        };
        if let Some(bytes) = read(&file)? {
            return Ok((file, bytes));
        }
        match full {
            Some(full) if full != file => match read(&full)? {
                Some(bytes) => Ok((full, bytes)),
                None => Err(look.unproven(&full, None)),
            },
            _ => Err(look.unproven(&file, None)),
        }
    }
}
