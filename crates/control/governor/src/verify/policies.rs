//! Policies in the log: versions without a gap, each after what was in force before it,
//! and the files of each digest.

use std::collections::{BTreeMap, BTreeSet};

use creto_types::{LeafIndex, canonical_json};

use super::Known;
use super::faults::{Fault, POLICIES, absent};
use crate::policies::PolicyFiles;
use crate::records::{PoliciesBefore, PolicyPublished, PolicyReloaded};

#[derive(Default)]
pub(super) struct PolicyRecords {
    /// What was put in force last.
    in_force: Option<PoliciesBefore>,
    /// The digest of each version, the first one first.
    versions: Vec<String>,
    /// The digests whose files were not read yet, and the first leaf that puts them in
    /// force.
    unread: BTreeMap<String, LeafIndex>,
    /// The names of files that records give.
    names: BTreeMap<String, BTreeSet<String>>,
    seen: BTreeSet<String>,
}

impl PolicyRecords {
    pub(super) fn published(
        &mut self,
        known: &Known<'_>,
        leaf: LeafIndex,
        published: PolicyPublished,
    ) -> Result<(), Fault> {
        if published.author != *known.actor {
            return Err(Fault::Wrong(format!(
                "says that {} published it, not {}",
                published.author, known.actor
            )));
        }
        let next = u64::try_from(self.versions.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        if published.version != next {
            let message = format!(
                "publishes version {}; the next one is {next}",
                published.version
            );
            // Those between may not have been read.
            return Err(if published.version > next {
                absent(POLICIES, message)
            } else {
                Fault::Wrong(message)
            });
        }
        known.operator_only("publish policies")?;
        self.follows(published.previous.as_ref())?;
        let digest = published.digest;
        self.versions.push(digest.clone());
        self.in_force = Some(PoliciesBefore::Published {
            version: next,
            digest: digest.clone(),
        });
        self.mention(leaf, digest);
        Ok(())
    }

    pub(super) fn rolled_back(
        &mut self,
        known: &Known<'_>,
        leaf: LeafIndex,
        published: PolicyPublished,
    ) -> Result<(), Fault> {
        let restored = published
            .restores
            .and_then(|version| usize::try_from(version.checked_sub(1)?).ok())
            .and_then(|place| self.versions.get(place))
            .ok_or_else(|| {
                absent(
                    POLICIES,
                    "brings back a version that was never published".to_owned(),
                )
            })?;
        if *restored != published.digest {
            return Err(Fault::Wrong(format!(
                "does not bring back what it says: the digest of that version is {restored}"
            )));
        }
        self.published(known, leaf, published)
    }

    pub(super) fn reloaded(
        &mut self,
        known: &Known<'_>,
        leaf: LeafIndex,
        reloaded: PolicyReloaded,
    ) -> Result<(), Fault> {
        let digest = reloaded.digest;
        let names: BTreeSet<String> = reloaded.files.into_iter().collect();
        let first = self
            .names
            .entry(digest.clone())
            .or_insert_with(|| names.clone());
        if *first != names {
            let message = "names other files than a record with the same digest";
            return Err(Fault::Wrong(message.to_owned()));
        }
        known.operator_only("stand for the policy directory")?;
        self.follows(reloaded.previous.as_ref())?;
        self.in_force = Some(PoliciesBefore::Directory {
            digest: digest.clone(),
        });
        self.mention(leaf, digest);
        Ok(())
    }

    /// Whether what a record says was in force before it was.
    fn follows(&self, previous: Option<&PoliciesBefore>) -> Result<(), Fault> {
        if previous == self.in_force.as_ref() {
            return Ok(());
        }
        let told = |policies: Option<&PoliciesBefore>| match policies {
            Some(policies) => policies.to_string(),
            None => "nothing".to_owned(),
        };
        Err(absent(
            POLICIES,
            format!(
                "says that {} was in force before; it was {}",
                told(previous),
                told(self.in_force.as_ref())
            ),
        ))
    }

    fn mention(&mut self, leaf: LeafIndex, digest: String) {
        if self.seen.insert(digest.clone()) {
            self.unread.insert(digest, leaf);
        }
    }

    /// The files of one digest, as a bundle carries them.
    pub(super) fn files(&mut self, digest: &str, bytes: &[u8]) -> Result<(), Fault> {
        let files: BTreeMap<String, String> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if canonical_json(&files).map_err(|error| error.to_string())? != bytes {
            let message = "is not canonical JSON (RFC 8785)";
            return Err(Fault::Wrong(message.to_owned()));
        }
        let names: BTreeSet<String> = files.keys().cloned().collect();
        let files = PolicyFiles::new(files).map_err(|error| error.to_string())?;
        let found = files.digest().map_err(|error| error.to_string())?;
        if found != digest {
            return Err(Fault::Wrong(format!("its digest is {found}")));
        }
        if !self.seen.contains(digest) {
            return Err(absent(
                POLICIES,
                "the log knows no such policies".to_owned(),
            ));
        }
        if self.names.get(digest).is_some_and(|known| *known != names) {
            let message = "has other files than the record of its reload names";
            return Err(Fault::Wrong(message.to_owned()));
        }
        self.unread.remove(digest);
        Ok(())
    }

    /// Digests that the log mentions and nobody brought, with their leaves.
    pub(super) fn missing(&self) -> impl Iterator<Item = (&str, LeafIndex)> {
        self.unread
            .iter()
            .map(|(digest, leaf)| (digest.as_str(), *leaf))
    }
}
