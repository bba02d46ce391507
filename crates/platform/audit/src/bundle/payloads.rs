//! The payloads of a bundle, and why some are not in it.

use std::collections::{BTreeMap, HashMap};

use creto_tlog::Entries;
use creto_types::SubjectId;
use serde::{Deserialize, Serialize};

use crate::payload::Record;
use crate::record::SealedHead;
use crate::{PAYLOADS_EXPIRED, RecordClass, SUBJECT_ERASED, Withheld};

const ENTRIES: &str = "tile/entries/";
const PAYLOADS: &str = "payloads/";

/// Where the payloads of these entries lie. The file is there when one of them commits to
/// a payload, and has the form of a file of entries: for each entry its salt and payload,
/// or nothing.
pub(crate) fn path_of(entries: Entries) -> String {
    let path = entries.to_string();
    let place = path.strip_prefix(ENTRIES).unwrap_or(&path);
    format!("{PAYLOADS}{place}")
}

/// Which payloads a bundle is to have; its manifest says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    /// What was asked for, when only payloads of records that say all of it are in the
    /// bundle: the names and values of a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<BTreeMap<String, String>>,
}

/// The body of a record of the kind [`SUBJECT_ERASED`].
#[derive(Deserialize)]
struct Erased {
    subject: SubjectId,
}

/// The body of a record of the kind [`PAYLOADS_EXPIRED`].
#[derive(Deserialize)]
struct Expired {
    class: RecordClass,
    through: u64,
}

/// How many records were not read, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Their subject was erased.
    pub erased: u64,
    /// They were kept as long as they were to be kept.
    pub expired: u64,
    /// They are kept, and the bundle was made without them.
    pub not_disclosed: u64,
}

impl Unread {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.erased
            .saturating_add(self.expired)
            .saturating_add(self.not_disclosed)
    }
}

/// The payloads that are not there, and what the log says of that.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    missing: Vec<(u64, SealedHead)>,
    /// The leaf that erased a subject.
    erased: HashMap<SubjectId, u64>,
    /// Class, the last leaf that it is about, and the leaf that says so.
    expired: Vec<(RecordClass, u64, u64)>,
}

impl Absent {
    /// Takes a record that was read as far as it is there.
    pub(crate) fn take(
        &mut self,
        index: u64,
        head: Option<&SealedHead>,
        record: &Record,
    ) -> Result<(), String> {
        let whole = match (record, head) {
            (Record::Whole(whole), _) => whole,
            (Record::Withheld { .. }, Some(head)) => {
                self.missing.push((index, head.clone()));
                return Ok(());
            }
            (Record::Withheld { .. }, None) => return Ok(()),
        };
        let body = whole.get("body").cloned().unwrap_or_default();
        let said = |error: serde_json::Error| error.to_string();
        match whole.get("kind").and_then(serde_json::Value::as_str) {
            Some(SUBJECT_ERASED) => {
                let erased: Erased = serde_json::from_value(body).map_err(said)?;
                self.erased.entry(erased.subject).or_insert(index);
            }
            Some(PAYLOADS_EXPIRED) => {
                let expired: Expired = serde_json::from_value(body).map_err(said)?;
                self.expired.push((expired.class, expired.through, index));
            }
            _ => {}
        }
        Ok(())
    }

    /// Why the payload is gone by what the log itself says.
    fn why(&self, index: u64, head: &SealedHead) -> Option<Withheld> {
        // What follows the record of an end is not part of it.
        if self.erased.get(&head.subject).is_some_and(|by| index < *by) {
            return Some(Withheld::Erased);
        }
        self.expired
            .iter()
            .any(|(class, through, by)| *class == head.class && index <= *through && index < *by)
            .then_some(Withheld::Expired)
    }

    /// How many payloads are not there for each reason, and the leaves of those that
    /// nothing explains. `narrowed`: whether the bundle says that it has only some.
    pub(crate) fn explained(&self, narrowed: bool) -> (Unread, Vec<u64>) {
        let (mut unread, mut unexplained) = (Unread::default(), Vec::new());
        for (index, head) in &self.missing {
            match self.why(*index, head) {
                Some(Withheld::Erased) => unread.erased += 1,
                Some(_) => unread.expired += 1,
                // What says why others are gone is in every bundle.
                None if narrowed && !is_reason(&head.kind) => unread.not_disclosed += 1,
                None => unexplained.push(*index),
            }
        }
        (unread, unexplained)
    }
}

/// Whether records of this kind say why payloads are gone. They are the organization's
/// own, kept for ever and disclosed to whoever gets anything.
#[must_use]
pub fn is_reason(kind: &str) -> bool {
    matches!(kind, SUBJECT_ERASED | PAYLOADS_EXPIRED)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Commitment;

    fn head(subject: u8, class: RecordClass, kind: &str) -> SealedHead {
        SealedHead {
            org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap(),
            class,
            kind: kind.to_owned(),
            subject: SubjectId::of_random([subject; 16]),
            commitment: Commitment::from_bytes([0; 32]),
        }
    }

    #[test]
    fn only_what_a_record_says_is_explained() {
        use RecordClass::{Evidence, Trace};
        let mut absent = Absent::default();
        let gone = Record::Withheld {
            leaf: json!({}),
            why: Withheld::NotDisclosed,
        };
        for (index, head) in [
            (0, head(1, Evidence, "k")),
            (1, head(2, Evidence, "k")),
            (2, head(2, Trace, "k")),
            (3, head(2, Trace, "k")),
            (4, head(2, Trace, PAYLOADS_EXPIRED)),
            (9, head(1, Evidence, "k")),
        ] {
            absent.take(index, Some(&head), &gone).unwrap();
        }
        let subject = SubjectId::of_random([1; 16]);
        for (index, kind, body) in [
            (7, SUBJECT_ERASED, json!({ "subject": subject })),
            (
                8,
                PAYLOADS_EXPIRED,
                json!({ "class": "trace", "through": 2 }),
            ),
        ] {
            let record = Record::Whole(json!({ "kind": kind, "body": body }));
            absent
                .take(index, Some(&head(3, Evidence, kind)), &record)
                .unwrap();
        }
        let (unread, unexplained) = absent.explained(false);
        assert_eq!(
            (unread.erased, unread.expired, unread.not_disclosed),
            (1, 1, 0)
        );
        assert_eq!(unexplained, [1, 3, 4, 9]);
        // Who discloses only some discloses what says why others are gone.
        let (unread, unexplained) = absent.explained(true);
        assert_eq!(
            (unread.erased, unread.expired, unread.not_disclosed),
            (1, 1, 3)
        );
        assert_eq!(unexplained, [4]);
        let broken = Record::Whole(json!({ "kind": SUBJECT_ERASED, "body": {} }));
        assert!(absent.take(10, None, &broken).is_err());
    }
}
