//! What the records say of the organization's own keys, those that seal and issue and
//! those that sign its log, and of the algorithms that are in force.
//!
//! The first of each are in no record, so only what changes made is compared.

use std::collections::{BTreeMap, BTreeSet};

use creto_crypto::{SignatureAlgorithm, VerifyingKey};
use creto_nhi::{KeyPurpose, key_id};
use serde::Deserialize;
use serde_json::Value;

use super::faults::{Fault, Kinds, absent};
use crate::algorithms::ALGORITHMS_CHANGED;

const ROTATIONS: Kinds = &["keys.rotated"];
const LOG_ROTATIONS: Kinds = &["log_keys.rotated"];
const LISTS: Kinds = &[ALGORITHMS_CHANGED];
const LOG_CHANGES: Kinds = &["log_keys.rotated", "log_keys.retired"];

/// The `kid` of each key, by the name of its purpose.
type Kids = BTreeMap<String, String>;

/// `keys.rotated`.
#[derive(Deserialize)]
pub(super) struct KeysRotated {
    wrapping_version: u32,
    issuer_kid: String,
    former_kid: String,
}

/// `keys.retired`.
#[derive(Deserialize)]
pub(super) struct KeysRetired {
    before_version: Option<u32>,
    issuer_kids: Vec<String>,
}

/// `log_keys.rotated`.
#[derive(Deserialize)]
pub(super) struct LogKeysRotated {
    keys: BTreeMap<String, VerifyingKey>,
    former_kids: Kids,
}

/// `log_keys.retired`.
#[derive(Deserialize)]
pub(super) struct LogKeysRetired {
    kids: Kids,
}

/// `crypto.algorithms_changed`.
#[derive(Deserialize)]
pub(super) struct AlgorithmsChanged {
    before: Option<Value>,
    after: Value,
}

#[derive(Default)]
pub(super) struct KeyringRecords {
    /// That of the last rotation.
    version: Option<u32>,
    issuer: Option<String>,
    /// Of the log since the last rotation.
    log: Option<Kids>,
    /// Those that sign checkpoints besides.
    former: Option<Kids>,
    /// The lists of algorithms since the last change.
    lists: Option<Value>,
}

impl KeyringRecords {
    pub(super) fn algorithms_changed(&mut self, changed: AlgorithmsChanged) -> Result<(), Fault> {
        if changed.before.as_ref() == Some(&changed.after) {
            return Err(Fault::Wrong("changes nothing".to_owned()));
        }
        let known = self.lists.replace(changed.after);
        if known.is_none() || known == changed.before {
            return Ok(());
        }
        Err(absent(
            LISTS,
            "replaces lists of algorithms that no record put in force".to_owned(),
        ))
    }

    pub(super) fn rotated(&mut self, rotated: KeysRotated) -> Result<(), Fault> {
        // Organizations are founded with the first version; the oldest of them made it by
        // their first rotation.
        let (least, next) = match self.version {
            None => (1, 2),
            Some(version) => (version.saturating_add(1), version.saturating_add(1)),
        };
        if rotated.wrapping_version < least {
            return Err(Fault::Wrong(format!(
                "makes version {} of the wrapping key, where {least} is next",
                rotated.wrapping_version
            )));
        }
        if rotated.issuer_kid == rotated.former_kid {
            return Err(Fault::Wrong("replaces a key by itself".to_owned()));
        }
        let follows = (least..=next).contains(&rotated.wrapping_version)
            && self
                .issuer
                .as_ref()
                .is_none_or(|kid| *kid == rotated.former_kid);
        self.version = Some(rotated.wrapping_version);
        self.issuer = Some(rotated.issuer_kid);
        if follows {
            return Ok(());
        }
        Err(absent(
            ROTATIONS,
            "follows a rotation that is not in the log".to_owned(),
        ))
    }

    pub(super) fn retired(&self, retired: &KeysRetired) -> Result<(), Fault> {
        if self
            .issuer
            .as_ref()
            .is_some_and(|kid| retired.issuer_kids.contains(kid))
        {
            return Err(absent(
                ROTATIONS,
                "ends the key that issues tokens".to_owned(),
            ));
        }
        if retired.before_version > self.version.or(Some(1)) {
            return Err(absent(
                ROTATIONS,
                "ends versions up to one that no rotation made".to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn log_rotated(&mut self, rotated: LogKeysRotated) -> Result<(), Fault> {
        let mut kids = Kids::new();
        for (purpose, key) in &rotated.keys {
            let kid = key_id(key).map_err(|error| creto_errors::chain(&error))?;
            kids.insert(purpose.clone(), kid);
        }
        if !kids.keys().eq(rotated.former_kids.keys()) || !signs_the_log(&kids) {
            return Err(Fault::Wrong(
                "does not replace each key of the log by another".to_owned(),
            ));
        }
        for (purpose, key) in &rotated.keys {
            let algorithm = key.algorithm();
            let fits = match purpose.parse::<KeyPurpose>().ok() {
                Some(purpose) => match purpose.fixed_algorithm() {
                    Some(fixed) => fixed == algorithm,
                    None => SignatureAlgorithm::OF_ORGANIZATIONS.contains(&algorithm),
                },
                None => false,
            };
            if !fits {
                return Err(Fault::Wrong(format!(
                    "has a key `{purpose}` by {algorithm}"
                )));
            }
        }
        let different: BTreeSet<&String> = kids.values().collect();
        if different.len() < kids.len() {
            return Err(Fault::Wrong("has one key for two purposes".to_owned()));
        }
        if kids.values().any(|kid| is_among(&rotated.former_kids, kid)) {
            return Err(Fault::Wrong("replaces a key by itself".to_owned()));
        }
        let pending = self.former.is_some();
        let follows = self
            .log
            .as_ref()
            .is_none_or(|log| *log == rotated.former_kids);
        self.log = Some(kids);
        self.former = Some(checkpoints(rotated.former_kids));
        match (follows, pending) {
            (true, false) => Ok(()),
            (false, _) => Err(absent(
                LOG_ROTATIONS,
                "replaces keys of the log that no rotation made".to_owned(),
            )),
            (true, true) => Err(absent(
                &["log_keys.retired"],
                "rotates keys of the log before those of before were retired".to_owned(),
            )),
        }
    }

    pub(super) fn log_retired(&mut self, retired: &LogKeysRetired) -> Result<(), Fault> {
        let current = self.log.as_ref();
        let ends = |log: &Kids| retired.kids.values().any(|kid| is_among(log, kid));
        if current.is_some_and(ends) {
            return Err(absent(
                LOG_ROTATIONS,
                "ends a key that signs the log".to_owned(),
            ));
        }
        if self.former.take().as_ref() == Some(&retired.kids) {
            return Ok(());
        }
        Err(absent(
            LOG_CHANGES,
            "ends keys of the log that no rotation replaced".to_owned(),
        ))
    }
}

/// Whether these are the purposes of a log's keys, all of them.
fn signs_the_log(kids: &Kids) -> bool {
    let mut expected = [
        KeyPurpose::LogEd25519,
        KeyPurpose::LogComposite,
        KeyPurpose::Evidence,
    ]
    .map(KeyPurpose::as_str);
    expected.sort_unstable();
    kids.keys().map(String::as_str).eq(expected)
}

/// Those that sign checkpoints.
fn checkpoints(mut kids: Kids) -> Kids {
    kids.remove(KeyPurpose::Evidence.as_str());
    kids
}

fn is_among(kids: &Kids, kid: &str) -> bool {
    kids.values().any(|known| known == kid)
}
