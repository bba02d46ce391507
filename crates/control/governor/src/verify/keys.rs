//! What the records say of the keys of principals: which there were, and which ended.

use std::collections::HashMap;

use creto_crypto::VerifyingKey;
use creto_nhi::{KeyVersion, key_id};
use creto_types::PrincipalName;

use super::faults::{Fault, KEYS, PEOPLE, STRANGERS_KEYS, absent};
use crate::records::{PrincipalKeyRevoked, PrincipalKeyRotated};

#[derive(Default)]
pub(super) struct KeyRecords {
    /// Of each principal that was created, oldest first: a version is a place.
    keys: HashMap<PrincipalName, Vec<Key>>,
}

struct Key {
    key: VerifyingKey,
    kid: String,
    revoked: bool,
}

impl Key {
    fn new(key: VerifyingKey) -> Result<Self, String> {
        Ok(Self {
            kid: key_id(&key).map_err(|error| creto_errors::chain(&error))?,
            key,
            revoked: false,
        })
    }
}

impl KeyRecords {
    pub(super) fn created(&mut self, name: PrincipalName, key: VerifyingKey) -> Result<(), Fault> {
        if self.has(&name) {
            return Err(Fault::Wrong(format!("{name} was created before")));
        }
        self.keys.insert(name, vec![Key::new(key)?]);
        Ok(())
    }

    /// Whether there is such a principal.
    pub(super) fn has(&self, name: &PrincipalName) -> bool {
        self.keys.contains_key(name)
    }

    pub(super) fn rotated(&mut self, rotated: PrincipalKeyRotated) -> Result<(), Fault> {
        let (name, version) = (rotated.principal, rotated.version);
        let key = Key::new(rotated.key)?;
        let Some(keys) = self.keys.get_mut(&name) else {
            return Err(absent(
                PEOPLE,
                format!("is about {name}, who was never created"),
            ));
        };
        if keys.iter().any(|known| known.kid == key.kid) {
            let message = format!("gives {name} the key {}, which it had", key.kid);
            return Err(Fault::Wrong(message));
        }
        let next = keys.len();
        let message = || format!("calls the key {} of {name} the key {version}", next + 1);
        match place(version) {
            Some(place) if place == next => keys.push(key),
            // Those between may not have been read.
            Some(place) if place > next => return Err(absent(KEYS, message())),
            _ => return Err(Fault::Wrong(message())),
        }
        Ok(())
    }

    pub(super) fn revoked(&mut self, revoked: &PrincipalKeyRevoked) -> Result<(), Fault> {
        let (name, version) = (&revoked.principal, revoked.version);
        let keys = self.keys.get_mut(name);
        let key = keys.and_then(|keys| keys.get_mut(place(version)?));
        let missing = || {
            format!(
                "revokes the key {version} of {name}, {}, which is not there",
                revoked.kid
            )
        };
        let key = key.ok_or_else(|| absent(STRANGERS_KEYS, missing()))?;
        if key.kid != revoked.kid {
            return Err(Fault::Wrong(missing()));
        }
        if std::mem::replace(&mut key.revoked, true) {
            return Err(Fault::Wrong(format!(
                "revokes the key {version} of {name}, which was revoked already"
            )));
        }
        Ok(())
    }

    /// The key of this version.
    pub(super) fn of(&self, name: &PrincipalName, version: KeyVersion) -> Option<VerifyingKey> {
        self.key(name, version).map(|key| key.key.clone())
    }

    /// Whether the key of this version was revoked.
    pub(super) fn is_revoked(&self, name: &PrincipalName, version: KeyVersion) -> bool {
        self.key(name, version).is_some_and(|key| key.revoked)
    }

    /// The key of a principal that never had another one, nor lost it.
    pub(super) fn only(&self, name: &PrincipalName) -> Option<&str> {
        match self.keys.get(name)?.as_slice() {
            [key] if !key.revoked => Some(&key.kid),
            _ => None,
        }
    }

    /// Whether the principal has this key, and it was not revoked.
    pub(super) fn in_force(&self, name: &PrincipalName, kid: &str) -> Result<(), Fault> {
        if self.named(name, kid)?.revoked {
            return Err(Fault::Wrong(format!(
                "is signed by the key {kid} of {name}, which was revoked"
            )));
        }
        Ok(())
    }

    fn key(&self, name: &PrincipalName, version: KeyVersion) -> Option<&Key> {
        self.keys.get(name)?.get(place(version)?)
    }

    fn named(&self, name: &PrincipalName, kid: &str) -> Result<&Key, Fault> {
        let mut keys = self.keys.get(name).into_iter().flatten();
        keys.find(|key| key.kid == kid).ok_or_else(|| {
            let message = format!("is signed by {kid}, which is no key of {name}");
            absent(if self.has(name) { KEYS } else { STRANGERS_KEYS }, message)
        })
    }
}

fn place(version: KeyVersion) -> Option<usize> {
    usize::try_from(version.get()).ok()?.checked_sub(1)
}
