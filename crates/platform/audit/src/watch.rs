//! Following a log over time: what a single look cannot tell from a bad moment.
//!
//! A file that is not there may come, and a witness may be slow, so neither is held
//! against a log at once. What stays so is: whoever shows one of its readers another
//! history than the rest of the world has no files to go with it that lead back to what
//! this reader saw, or no witness that cosigns it.

use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_tlog::Note;
use serde::{Deserialize, Serialize};

use crate::monitor::{AlarmKind, Monitor, Observation, Seen, WatchError, alarm};
use crate::verifier::{names, signers};
use crate::{BadSignature, LogReader, NoteVerifier};

/// A reading of a clock that never steps and counts on over restarts of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steady {
    /// Since when it counts: readings with another text here cannot be compared.
    pub boot: String,
    /// Milliseconds since then.
    pub ms: u64,
}

impl Steady {
    /// What has passed since an earlier reading; nothing where that cannot be known.
    fn since(&self, earlier: &Self) -> u64 {
        if self.boot == earlier.boot {
            self.ms.saturating_sub(earlier.ms)
        } else {
            0
        }
    }
}

/// A checkpoint that lacks something, and for how long something was lacking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    /// The first checkpoint that was found so, a signed note.
    checkpoint: String,
    /// For how many milliseconds, when it was last found so.
    for_ms: u64,
    /// When that was.
    at: Steady,
}

impl Pending {
    /// Notes that something is lacking now, and gives for how long it has been.
    ///
    /// What lies between two looks that found it counts whole, whatever looks in between
    /// found: a log that is out of reach now and then gains nothing by it.
    fn hold(kept: &mut Option<Self>, checkpoint: &str, now: &Steady) -> Duration {
        let pending = kept.get_or_insert_with(|| Self {
            checkpoint: checkpoint.to_owned(),
            for_ms: 0,
            at: now.clone(),
        });
        let passed = now.since(&pending.at);
        pending.for_ms = pending.for_ms.saturating_add(passed);
        pending.at = now.clone();
        Duration::from_millis(pending.for_ms)
    }
}

/// What is remembered of a log between two looks, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The last checkpoint that held; `null` before the first, and never left out: a file
    /// that lost it must not be taken for a new one.
    #[serde(deserialize_with = "Option::deserialize")]
    checkpoint: Option<String>,
    entries: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unproven: Option<Pending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncosigned: Option<Pending>,
}

impl Memory {
    /// The last look at which everything held.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        Some(Seen {
            checkpoint: self.checkpoint.clone()?,
            entries: self.entries,
        })
    }

    fn keep(&mut self, seen: &Seen) {
        self.checkpoint = Some(seen.checkpoint.clone());
        self.entries = seen.entries;
    }
}

/// How long something may be lacking before it is an alarm.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Files without which a checkpoint cannot be checked.
    pub withheld: Duration,
    /// Cosignatures.
    pub uncosigned: Duration,
}

impl Default for Patience {
    /// Five minutes of each.
    fn default() -> Self {
        Self {
            withheld: Duration::from_secs(5 * 60),
            uncosigned: Duration::from_secs(5 * 60),
        }
    }
}

/// Witnesses, and how many of them are to cosign.
#[derive(Clone, Debug, Default)]
pub struct Cosigners {
    keys: Vec<NoteVerifier>,
    quorum: usize,
}

/// More witnesses are asked for than there are, or none of those that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quorum of {quorum} is asked for; there are {witnesses} witnesses, and it is at least 1")]
pub struct QuorumError {
    quorum: usize,
    witnesses: usize,
}

impl Classify for QuorumError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "witness_quorum_invalid"
    }
}

impl Cosigners {
    /// The witnesses with these keys, of which `quorum`, or else all, have to cosign.
    /// Keys of one name are of one witness.
    pub fn new(keys: Vec<NoteVerifier>, quorum: Option<usize>) -> Result<Self, QuorumError> {
        let witnesses = names(&keys).len();
        let quorum = match quorum {
            None => witnesses,
            Some(quorum) if (1..=witnesses).contains(&quorum) => quorum,
            Some(quorum) => return Err(QuorumError { quorum, witnesses }),
        };
        Ok(Self { keys, quorum })
    }

    /// How many have to cosign.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.quorum
    }

    /// The names of those that have cosigned this note.
    fn of(&self, note: &str) -> Result<Vec<String>, BadSignature> {
        let Ok(note) = Note::parse(note.as_bytes()) else {
            return Ok(Vec::new());
        };
        let signed = names(signers(&self.keys, &note)?);
        Ok(signed.into_iter().map(str::to_owned).collect())
    }
}

/// A look at which everything held that a log can be held to at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What was seen.
    pub observation: Observation,
    /// The witnesses that have cosigned the checkpoint, of those that were named.
    pub cosigned_by: Vec<String>,
    /// For how long too few have, when too few have.
    pub uncosigned: Option<Duration>,
    /// For how long a checkpoint that was shown has not been proved, when there is one:
    /// the log has gone back behind it since.
    pub unproven: Option<Duration>,
}

/// Looks at a log again and again.
#[derive(Debug)]
pub struct Watch<'a> {
    monitor: Monitor<'a>,
    cosigners: &'a Cosigners,
    patience: Patience,
}

impl<'a> Watch<'a> {
    /// A watch of this log; `key` and `entries` are those of [`Monitor::new`].
    #[must_use]
    pub fn new(
        log: &'a dyn LogReader,
        key: Option<&'a NoteVerifier>,
        entries: bool,
        cosigners: &'a Cosigners,
        patience: Patience,
    ) -> Self {
        Self {
            monitor: Monitor::new(log, key, entries),
            cosigners,
            patience,
        }
    }

    /// Looks once. The memory is to be kept whatever the look found; its checkpoint
    /// changes only when everything held.
    pub fn look(&self, memory: &mut Memory, now: &Steady) -> Result<Looked, WatchError> {
        let found = self.monitor.look(memory.seen().as_ref());
        let found = found.and_then(|(observation, seen)| {
            let by = self.cosigners_of(memory, &seen.checkpoint)?;
            let proved = self.proves(memory, &seen)?;
            Ok((observation, seen, by, proved))
        });
        match found {
            Ok((observation, seen, by, proved)) => {
                let before = memory.checkpoint.clone();
                memory.keep(&seen);
                let unproven = if proved {
                    memory.unproven = None;
                    None
                } else {
                    Some(
                        self.withheld(memory, before.as_deref(), &seen.checkpoint, now, || {
                            "the log has gone back behind a checkpoint that it never proved"
                                .to_owned()
                        })?,
                    )
                };
                let (cosigned_by, uncosigned) =
                    self.cosigned(by, memory, before.as_deref(), &seen.checkpoint, now)?;
                if uncosigned.is_none() {
                    memory.uncosigned = None;
                }
                Ok(Looked {
                    observation,
                    cosigned_by,
                    uncosigned,
                    unproven,
                })
            }
            Err(WatchError::Unproven(mut unproven)) => {
                let by = self.cosigners_of(memory, &unproven.shown)?;
                if let Some(pending) = &memory.unproven {
                    self.monitor
                        .same_tree(&pending.checkpoint, &unproven.shown)?;
                }
                let (seen, shown) = (memory.checkpoint.clone(), unproven.shown.clone());
                let held = self.withheld(memory, seen.as_deref(), &shown, now, || {
                    format!("`{}`, which it takes to check the log", unproven.path)
                })?;
                self.cosigned(by, memory, seen.as_deref(), &shown, now)?;
                unproven.held = Some((held, self.patience.withheld));
                Err(WatchError::Unproven(unproven))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the tree that held contains the one that could not be checked before. One
    /// that it does not continue is a fork, however long ago it was shown.
    fn proves(&self, memory: &Memory, now: &Seen) -> Result<bool, WatchError> {
        match &memory.unproven {
            Some(pending) => self.monitor.continues(&pending.checkpoint, &now.checkpoint),
            None => Ok(true),
        }
    }

    /// Counts what is not shown, up to the alarm.
    fn withheld(
        &self,
        memory: &mut Memory,
        seen: Option<&str>,
        shown: &str,
        now: &Steady,
        what: impl FnOnce() -> String,
    ) -> Result<Duration, WatchError> {
        let held = Pending::hold(&mut memory.unproven, shown, now);
        if held < self.patience.withheld {
            return Ok(held);
        }
        // The first one is what it owes.
        let owed = memory.unproven.as_ref().map_or(shown, |p| &p.checkpoint);
        let detail = format!(
            "for {} a checkpoint has been shown and not what proves it: {}",
            seconds(held),
            what()
        );
        Err(alarm(AlarmKind::Withheld, detail, seen, owed))
    }

    /// Who cosigned. What has a bad line of a known witness is held for nothing.
    fn cosigners_of(&self, memory: &Memory, shown: &str) -> Result<Vec<String>, WatchError> {
        self.cosigners.of(shown).map_err(|error| {
            let seen = memory.checkpoint.as_deref();
            alarm(AlarmKind::BadSignature, error.to_string(), seen, shown)
        })
    }

    /// For how long those who cosigned have been too few, up to the alarm.
    fn cosigned(
        &self,
        by: Vec<String>,
        memory: &mut Memory,
        seen: Option<&str>,
        shown: &str,
        now: &Steady,
    ) -> Result<(Vec<String>, Option<Duration>), WatchError> {
        if by.len() >= self.cosigners.quorum {
            return Ok((by, None));
        }
        let held = Pending::hold(&mut memory.uncosigned, shown, now);
        if held < self.patience.uncosigned {
            return Ok((by, Some(held)));
        }
        let missing: Vec<&str> = names(&self.cosigners.keys)
            .into_iter()
            .filter(|name| !by.iter().any(|by| by == name))
            .collect();
        let detail = format!(
            "for {} no checkpoint has been shown that {} of the witnesses have cosigned: \
             this one lacks {}",
            seconds(held),
            self.cosigners.quorum,
            missing.join(", ")
        );
        Err(alarm(AlarmKind::Uncosigned, detail, seen, shown))
    }
}

fn seconds(held: Duration) -> String {
    format!("{} s", held.as_secs())
}
