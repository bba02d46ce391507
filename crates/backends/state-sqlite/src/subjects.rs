//! Whose record each is, and the keys that payloads are sealed under.
//!
//! A record is that of the person it is about, where it is about one; otherwise of the
//! human in whose name it was done: the one who did it, or who stands at the root of the
//! delegations behind it. What has no person behind it is the organization's own.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use creto_audit::{
    Content, InForce, NewSubject, Opening, PAYLOADS_EXPIRED, RecordClass, SUBJECT_ERASED,
    SealedHead, Sealer, StoredRecord, SubjectKey, Withheld, unreadable,
};
use creto_nhi::{WrappedKey, WrappingKey};
use creto_types::{Evidence, OrgId, StoreError, SubjectId};
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::Value;

use crate::database::{corrupt, sql};
use crate::leaves::{NewLeaf, refused};
use crate::nhi::{exists, from_json, json};
use crate::retention::is_ended;

/// Subjects, and chains of delegations, that are remembered over all organizations. More
/// than this and all are looked up anew.
const REMEMBERED: usize = 10_000;

/// Hops of a chain that are followed upwards; more than any configuration allows.
const MAX_HOPS: usize = 64;

/// The person of the organization itself.
const ORGANIZATION: &str = "";

/// What a change of the database works on.
pub struct Change<'a> {
    tx: &'a Transaction<'a>,
    subjects: &'a Subjects,
}

impl<'a> Change<'a> {
    pub(crate) const fn new(tx: &'a Transaction<'a>, subjects: &'a Subjects) -> Self {
        Self { tx, subjects }
    }

    /// The record as a leaf, sealed under the key of its subject, which is made when this
    /// is the first.
    pub(crate) fn leaf(
        &self,
        class: RecordClass,
        record: &Evidence,
    ) -> Result<NewLeaf, StoreError> {
        let subject = self.subject(record.org, &Whose::of(record))?;
        self.subjects.leaf(class, record, &subject)
    }

    /// The lists that are in force.
    pub(crate) fn algorithms(&self) -> &InForce {
        self.subjects.algorithms()
    }

    pub(crate) const fn sealer(&self) -> &Sealer {
        self.subjects.sealer()
    }

    pub(crate) fn subject(&self, org: OrgId, whose: &Whose) -> Result<Subject, StoreError> {
        let (person, _) = self.subjects.person(self, org, whose)?;
        if let Some(subject) = self.subjects.stored(self, org, &person)? {
            return Ok(subject);
        }
        let newest = self
            .prepare_cached(
                "SELECT version, wrapped FROM wrapping_keys WHERE org = ?1
                 ORDER BY version DESC LIMIT 1",
            )
            .and_then(|mut s| s.query_row([org.to_string()], wrapping_columns).optional())
            .map_err(sql)?;
        let newest = newest.map(wrapping_key).transpose()?;
        let made = self.subjects.sealer.make(org, newest.as_ref());
        let NewSubject { id, key, wrapped } = made.map_err(|e| unreadable("wrapping key", e))?;
        self.prepare_cached(
            "INSERT INTO subjects (id, org, person, private) VALUES (?1, ?2, ?3, ?4)",
        )
        .map_err(sql)?
        .execute(params![
            id.to_string(),
            org.to_string(),
            person,
            json(&wrapped)?,
        ])
        .map_err(sql)?;
        // Should the change be undone, nothing leads to this id any more.
        self.subjects.remember_key(id, &key);
        Ok(Subject { id, key })
    }
}

impl<'a> Deref for Change<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        self.tx
    }
}

/// A subject that records can be sealed for.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) id: SubjectId,
    pub(crate) key: SubjectKey,
}

/// What a record itself says of whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// Nobody's, for ever: what is needed to understand the rest of the log.
    Organization,
    /// This person's.
    Person(String),
    /// The actor's, or of who stands behind the actor.
    Caused {
        /// The actor.
        by: String,
        /// The principal it is about, whose it is if that is a person.
        about: Option<String>,
        /// The id of a delegation or sandbox that it was done by.
        chain: Option<String>,
    },
}

impl Whose {
    pub(crate) fn of(record: &Evidence) -> Self {
        let text = |path: &[&str]| text_at(&record.body, path);
        let person = match record.kind.as_str() {
            SUBJECT_ERASED | PAYLOADS_EXPIRED => return Self::Organization,
            "organization.created" => text(&["owner", "name"]),
            "principal.created" if text(&["kind"]) == Some("human") => text(&["name"]),
            "role.set" | "credentials.superseded" => text(&["principal"]),
            _ => None,
        };
        if let Some(person) = person {
            return Self::Person(person.to_owned());
        }
        let handed = (record.kind == "secret.handed_over").then(|| text(&["from"]));
        let about = matches!(
            record.kind.as_str(),
            "principal.suspended"
                | "principal.resumed"
                | "principal.revoked"
                | "principal.key_rotated"
                | "principal.key_revoked"
        );
        let chain: [&[&str]; 7] = [
            &["link", "parent"],
            &["delegation"],
            &["delegations", "0"],
            &["parent"],
            &["sandbox_id"],
            &["subject", "delegation"],
            &["scope", "delegation", "link"],
        ];
        let revoked = (record.kind == "delegation.revoked").then_some(["id"].as_slice());
        Self::Caused {
            by: record.actor.to_string(),
            about: text(&["principal"])
                .filter(|_| about)
                .or(handed.flatten())
                .map(ToOwned::to_owned),
            chain: chain
                .into_iter()
                .chain(revoked)
                .find_map(text)
                .map(ToOwned::to_owned),
        }
    }
}

/// The text at the end of this path. A JSON Pointer would do, and copies each of its parts:
/// this is looked at for every record.
fn text_at<'a>(body: &'a Value, path: &[&str]) -> Option<&'a str> {
    let mut value = body;
    for part in path {
        value = match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
    }
    value.as_str()
}

/// Makes leaves of records and records of leaves.
#[derive(Debug)]
pub(crate) struct Subjects {
    sealer: Sealer,
    /// By what records say; only of what is durable and never changes.
    known: RwLock<Known>,
    keys: Mutex<Keys>,
    /// Who stands at the root of a delegation. Ids are used once, so that it does not
    /// matter whether the delegation came to be.
    roots: Mutex<HashMap<(OrgId, String), String>>,
}

/// Subjects by what records say of whose they are.
#[derive(Debug, Default)]
struct Known {
    orgs: HashMap<OrgId, HashMap<Whose, Subject>>,
    len: usize,
}

impl Known {
    fn insert(&mut self, org: OrgId, whose: &Whose, subject: Subject) {
        if self.len >= REMEMBERED {
            *self = Self::default();
        }
        let known = self.orgs.entry(org).or_default();
        self.len += usize::from(known.insert(whose.clone(), subject).is_none());
    }

    fn forget(&mut self, id: SubjectId) {
        for known in self.orgs.values_mut() {
            known.retain(|_, subject| subject.id != id);
        }
        self.len = self.orgs.values().map(HashMap::len).sum();
    }
}

#[derive(Debug, Default)]
struct Keys {
    opened: HashMap<SubjectId, SubjectKey>,
    /// Whose key is never to be remembered again: a reader may have it from a moment ago.
    erased: HashSet<SubjectId>,
}

impl Subjects {
    pub(crate) fn new(sealer: Sealer) -> Self {
        Self {
            sealer,
            known: RwLock::default(),
            keys: Mutex::default(),
            roots: Mutex::default(),
        }
    }

    pub(crate) fn algorithms(&self) -> &InForce {
        self.sealer.algorithms()
    }

    pub(crate) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Opens a wrapping key before anything is under it: the keystore, which may be slow,
    /// is asked outside of changes. Fails when the keystore does; a key that does not open
    /// is named where it is needed.
    pub(crate) fn open_wrapping(&self, org: OrgId, key: &WrappingKey) -> Result<(), StoreError> {
        let opened = self.sealer.open_wrapping(org, key);
        match opened.map_err(|error| unreadable("wrapping key", error)) {
            Err(error @ StoreError::Keystore { .. }) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Forgets the wrapping keys before this version.
    pub(crate) fn retire_before(&self, org: OrgId, version: u32) {
        self.sealer.retire_before(org, version);
    }

    /// Seals the record for the subject: all of the work that needs no place.
    pub(crate) fn leaf(
        &self,
        class: RecordClass,
        record: &Evidence,
        subject: &Subject,
    ) -> Result<NewLeaf, StoreError> {
        let opening = Opening::of(record, self.sealer.salt()).map_err(refused)?;
        let commitment = opening.commitment();
        let sealed = self
            .sealer
            .seal(&subject.key, record.org, subject.id, commitment, &opening)
            .map_err(|e| corrupt("key of a subject", e))?;
        NewLeaf::new(class, record, subject.id, commitment, sealed)
    }

    /// A subject that is known by what records say.
    pub(crate) fn known(&self, org: OrgId, whose: &Whose) -> Option<Subject> {
        self.known.read().orgs.get(&org)?.get(whose).cloned()
    }

    /// Looks up whose records these are. None when it has no subject yet.
    pub(crate) fn look(
        &self,
        connection: &Connection,
        org: OrgId,
        whose: &Whose,
    ) -> Result<Option<Subject>, StoreError> {
        let (person, certain) = self.person(connection, org, whose)?;
        let found = self.stored(connection, org, &person)?;
        if let Some(subject) = found.as_ref().filter(|_| certain) {
            let mut known = self.known.write();
            if !self.keys.lock().erased.contains(&subject.id) {
                known.insert(org, whose, subject.clone());
            }
        }
        Ok(found)
    }

    /// Forgets the key of a subject that was erased, and never remembers it again.
    pub(crate) fn forget(&self, id: SubjectId) {
        let mut keys = self.keys.lock();
        keys.erased.insert(id);
        keys.opened.remove(&id);
        drop(keys);
        self.known.write().forget(id);
    }

    /// No longer takes for granted which subjects there are.
    pub(crate) fn forget_known(&self) {
        *self.known.write() = Known::default();
    }

    /// The name of the person whose it is, and whether that stays so whatever is added.
    fn person(
        &self,
        connection: &Connection,
        org: OrgId,
        whose: &Whose,
    ) -> Result<(String, bool), StoreError> {
        let (by, about, chain) = match whose {
            Whose::Organization => return Ok((ORGANIZATION.to_owned(), true)),
            Whose::Person(name) => return Ok((name.clone(), true)),
            Whose::Caused { by, about, chain } => (by, about, chain),
        };
        if let Some(about) = about
            && is_human(connection, org, about)? == Some(true)
        {
            return Ok((about.clone(), true));
        }
        match is_human(connection, org, by)? {
            Some(true) => return Ok((by.clone(), true)),
            Some(false) => {}
            None => {
                let founded = exists(
                    connection,
                    "SELECT 1 FROM organizations WHERE id = ?1",
                    [org.to_string()],
                )?;
                // Nobody joins an organization that is not kept here.
                return Ok((ORGANIZATION.to_owned(), !founded));
            }
        }
        match chain {
            Some(chain) => match self.root(connection, org, chain)? {
                Some(root) => Ok((root, true)),
                None => Ok((ORGANIZATION.to_owned(), false)),
            },
            None => Ok((ORGANIZATION.to_owned(), true)),
        }
    }

    /// Who gave the first of the delegations that lead to this delegation or sandbox.
    pub(crate) fn root(
        &self,
        connection: &Connection,
        org: OrgId,
        id: &str,
    ) -> Result<Option<String>, StoreError> {
        let key = (org, id.to_owned());
        if let Some(root) = self.roots.lock().get(&key) {
            return Ok(Some(root.clone()));
        }
        let sandbox: Option<String> = connection
            .prepare_cached(
                "SELECT json_extract(answer, '$.delegation') FROM sandboxes
                 WHERE org = ?1 AND id = ?2",
            )
            .and_then(|mut s| {
                s.query_row(params![org.to_string(), id], |row| row.get(0))
                    .optional()
            })
            .map_err(sql)?
            .flatten();
        let mut above = Some(sandbox.unwrap_or_else(|| id.to_owned()));
        let mut root = None;
        for _ in 0..MAX_HOPS {
            let Some(link) = above.take() else { break };
            let found: Option<(String, Option<String>)> = connection
                .prepare_cached(
                    "SELECT delegator, parent FROM delegations WHERE id = ?2 AND org = ?1",
                )
                .and_then(|mut s| {
                    s.query_row(params![org.to_string(), link], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()
                })
                .map_err(sql)?;
            let Some((delegator, parent)) = found else {
                return Ok(None);
            };
            root = Some(delegator);
            above = parent;
        }
        if let Some(root) = &root {
            let mut roots = self.roots.lock();
            if roots.len() >= REMEMBERED {
                roots.clear();
            }
            roots.insert(key, root.clone());
        }
        Ok(root)
    }

    fn stored(
        &self,
        connection: &Connection,
        org: OrgId,
        person: &str,
    ) -> Result<Option<Subject>, StoreError> {
        let row: Option<(String, String)> = connection
            .prepare_cached("SELECT id, private FROM subjects WHERE org = ?1 AND person = ?2")
            .and_then(|mut s| {
                s.query_row(params![org.to_string(), person], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
            })
            .map_err(sql)?;
        let Some((id, private)) = row else {
            return Ok(None);
        };
        let id = id.parse().map_err(|e| corrupt("subject", e))?;
        let key = self.key(connection, org, id, &private)?;
        Ok(Some(Subject { id, key }))
    }

    fn key(
        &self,
        connection: &Connection,
        org: OrgId,
        id: SubjectId,
        private: &str,
    ) -> Result<SubjectKey, StoreError> {
        if let Some(key) = self.keys.lock().opened.get(&id) {
            return Ok(key.clone());
        }
        let wrapped: WrappedKey = from_json("key of a subject", private)?;
        let wrapping = match wrapped.version() {
            None => None,
            Some(version) => {
                let found = connection
                    .prepare_cached(
                        "SELECT version, wrapped FROM wrapping_keys
                         WHERE org = ?1 AND version = ?2",
                    )
                    .and_then(|mut s| {
                        s.query_row(params![org.to_string(), version], wrapping_columns)
                            .optional()
                    })
                    .map_err(sql)?;
                found.map(wrapping_key).transpose()?
            }
        };
        let key = self
            .sealer
            .unlock(org, id, wrapping.as_ref(), &wrapped)
            .map_err(|e| unreadable("key of a subject", e))?;
        self.remember_key(id, &key);
        Ok(key)
    }

    fn remember_key(&self, id: SubjectId, key: &SubjectKey) {
        let mut keys = self.keys.lock();
        if keys.opened.len() >= REMEMBERED {
            keys.opened.clear();
        }
        if !keys.erased.contains(&id) {
            keys.opened.insert(id, key.clone());
        }
    }

    pub(crate) fn salt(&self) -> [u8; 32] {
        self.sealer.salt()
    }

    /// The wrapped key of a subject; none when it was erased.
    pub(crate) fn private(
        &self,
        connection: &Connection,
        id: SubjectId,
    ) -> Result<Option<String>, StoreError> {
        let private: Option<Option<String>> = connection
            .prepare_cached("SELECT private FROM subjects WHERE id = ?1")
            .and_then(|mut s| s.query_row([id.to_string()], |row| row.get(0)).optional())
            .map_err(sql)?;
        private.ok_or_else(|| corrupt("subject", "it is not there"))
    }

    /// The payload of a leaf, sealed by the cipher for new ones.
    pub(crate) fn reseal(
        &self,
        connection: &Connection,
        head: &SealedHead,
        private: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let SealedHead {
            org,
            subject,
            commitment,
            ..
        } = *head;
        let key = self.key(connection, org, subject, private)?;
        self.sealer
            .open(&key, org, subject, commitment, sealed)
            .and_then(|opening| self.sealer.seal(&key, org, subject, commitment, &opening))
            .map_err(|e| unreadable("payload", e))
    }

    /// A leaf with what is kept beside it. `place` is its own in its log.
    pub(crate) fn record(
        &self,
        connection: &Connection,
        place: i64,
        leaf: Vec<u8>,
        sealed: Option<Vec<u8>>,
    ) -> Result<StoredRecord, StoreError> {
        let Some(head) = SealedHead::of(&leaf)? else {
            return Ok(StoredRecord::clear(leaf));
        };
        let private = self.private(connection, head.subject)?;
        let content = match (private, sealed) {
            (None, _) => Content::Withheld(Withheld::Erased),
            (Some(_), None) if is_ended(connection, &head, place)? => {
                Content::Withheld(Withheld::Expired)
            }
            (Some(_), None) => {
                let why = "it is not there, and its end is not on record";
                return Err(corrupt("payload", why));
            }
            (Some(private), Some(sealed)) => {
                let key = self.key(connection, head.org, head.subject, &private)?;
                let opened =
                    self.sealer
                        .open(&key, head.org, head.subject, head.commitment, &sealed);
                Content::Opened(opened.map_err(|e| unreadable("payload", e))?)
            }
        };
        Ok(StoredRecord { leaf, content })
    }
}

fn is_human(connection: &Connection, org: OrgId, name: &str) -> Result<Option<bool>, StoreError> {
    connection
        .prepare_cached("SELECT kind = 'human' FROM principals WHERE org = ?1 AND name = ?2")
        .and_then(|mut s| {
            s.query_row(params![org.to_string(), name], |row| row.get(0))
                .optional()
        })
        .map_err(sql)
}

fn wrapping_columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u32, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn wrapping_key((version, wrapped): (u32, String)) -> Result<WrappingKey, StoreError> {
    Ok(WrappingKey {
        version,
        wrapped: from_json("wrapping key", &wrapped)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn whose(kind: &str, body: Value) -> Whose {
        Whose::of(&Evidence {
            kind: kind.to_owned(),
            actor: "worker".parse().unwrap(),
            body,
            ..creto_audit::conformance::record(creto_audit::conformance::org(1), 0)
        })
    }

    /// Over all organizations, and without those that were erased.
    #[test]
    fn so_many_are_remembered_and_no_more() {
        let made = Sealer::for_tests().make(creto_audit::conformance::org(1), None);
        let NewSubject { id, key, .. } = made.unwrap();
        let (mut known, mut most) = (Known::default(), 0);
        for number in 0..2 * REMEMBERED + 7 {
            let org = format!("org_{:032x}", number % 100).parse().unwrap();
            let whose = Whose::Person(number.to_string());
            let key = key.clone();
            known.insert(org, &whose, Subject { id, key });
            assert!(known.orgs[&org].contains_key(&whose));
            most = most.max(known.orgs.values().map(HashMap::len).sum());
        }
        assert_eq!(most, REMEMBERED);
        assert_eq!(known.len, 7);
        known.forget(id);
        assert_eq!(known.len, 0);
        assert!(known.orgs.values().all(HashMap::is_empty));
    }

    /// Whatever an agent causes leads to the delegation that it acted under.
    #[test]
    fn what_agents_cause_leads_to_a_person() {
        let link = "lnk_1";
        for (kind, body) in [
            ("action.decided", json!({ "delegations": [link, "lnk_2"] })),
            ("usage.settled", json!({ "delegations": [link] })),
            ("usage.released", json!({ "why": "w", "delegation": link })),
            ("oversight.expired", json!({ "delegation": link })),
            (
                "limit.threshold",
                json!({ "subject": { "delegation": link } }),
            ),
            (
                "limit.set",
                json!({ "scope": { "delegation": { "link": link } } }),
            ),
            ("identity.signed", json!({ "delegation": link })),
            ("prekeys.published", json!({ "delegation": link })),
            ("prekey.taken", json!({ "delegation": link })),
            ("secret.put", json!({ "delegation": link })),
            ("secret.refused", json!({ "delegation": link })),
            ("secret.read", json!({ "delegation": link })),
            ("delegation.granted", json!({ "link": { "parent": link } })),
            ("delegation.refused", json!({ "parent": link })),
            ("delegation.revoked", json!({ "id": link })),
            (
                "sandbox.started",
                json!({ "sandbox_id": "s", "delegation": link }),
            ),
        ] {
            let Whose::Caused { chain, .. } = whose(kind, body) else {
                panic!("{kind}");
            };
            assert_eq!(chain.as_deref(), Some(link), "{kind}");
        }
        for kind in ["sandbox.ended", "egress.checked"] {
            let Whose::Caused { chain, .. } = whose(kind, json!({ "sandbox_id": "sbx_1" })) else {
                panic!("{kind}");
            };
            assert_eq!(chain.as_deref(), Some("sbx_1"), "{kind}");
        }
        for kind in [
            "principal.suspended",
            "principal.resumed",
            "principal.revoked",
            "principal.key_rotated",
            "principal.key_revoked",
        ] {
            let Whose::Caused { about, .. } = whose(kind, json!({ "principal": "carol" })) else {
                panic!("{kind}");
            };
            assert_eq!(about.as_deref(), Some("carol"), "{kind}");
        }
    }
}
