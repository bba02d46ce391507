//! The payloads of a bundle, and why some are not in it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use creto_tlog::{Entries, Resource};
use creto_types::{HybridTimestamp, SubjectId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter::Filter;
use crate::payload::Record;
use crate::record::SealedHead;
use crate::{PAYLOADS_EXPIRED, RecordClass, SUBJECT_ERASED};

const ENTRIES: &str = "tile/entries/";
const PAYLOADS: &str = "payloads/";
const GRANT: &str = "delegation.granted";
const FOUNDING: &str = "organization.created";

const NOTHING: &str = "its payload is not here, and nothing in the log says why";
const ASKED_FOR: &str = "its payload is not here, and is what payloads were chosen by";

/// Where the payloads of these entries lie. The file is there when one of them commits to
/// a payload, and has the form of a file of entries: for each entry its salt and payload,
/// or nothing.
pub(crate) fn path_of(entries: Entries) -> String {
    let path = entries.to_string();
    let place = path.strip_prefix(ENTRIES).unwrap_or(&path);
    format!("{PAYLOADS}{place}")
}

/// Whether payloads may lie there.
pub(crate) fn is_path(path: &str) -> bool {
    path.strip_prefix(PAYLOADS)
        .is_some_and(|place| format!("{ENTRIES}{place}").parse::<Resource>().is_ok())
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
    before: Timestamp,
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
    /// In a bundle that has only some payloads, which.
    asked: Option<Filter>,
    /// Whether those that the bundle was made without are left out of the count.
    uncounted: bool,
    /// In the order of their leaves, as long as nothing has explained them: those that are
    /// kept whatever their age, and those of each class.
    kept: Vec<Missing>,
    missing: HashMap<RecordClass, VecDeque<Missing>>,
    /// How many were kept long enough, of each subject that was not erased so far.
    ended: HashMap<SubjectId, u64>,
    /// How many of those are of a subject that was.
    ended_and_erased: u64,
    /// The leaf that erased a subject.
    erased: HashMap<SubjectId, u64>,
    /// Of each class the last end.
    expired: HashMap<RecordClass, Ended>,
    /// Whose the records are that say why payloads are gone: the organization's own.
    own: Option<SubjectId>,
    /// Who founded the organization, where that is not said in clear. The founder can be
    /// neither suspended nor revoked, and so not erased.
    founder: Option<SubjectId>,
}

/// A payload that is not there. There may be as many as leaves.
#[derive(Debug)]
struct Missing {
    index: u64,
    subject: SubjectId,
    ts: HybridTimestamp,
    /// Whether it would say why others are gone.
    reason: bool,
    /// Whether its leaf alone shows that it was asked for.
    asked_for: bool,
}

/// Payloads of a class that were kept long enough.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// The last leaf that it is about.
    through: u64,
    /// They are older than this.
    before: HybridTimestamp,
}

impl Ended {
    fn has(&self, missing: &Missing) -> bool {
        missing.index <= self.through && missing.ts < self.before
    }
}

impl Absent {
    /// Of a bundle with the payloads that this filter chooses; with all when there is none.
    pub(crate) fn new(asked: Option<Filter>) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// The same for who only asks whether there are some that nothing explains.
    pub(crate) fn unexplained_only(asked: Option<Filter>) -> Self {
        Self {
            uncounted: true,
            ..Self::new(asked)
        }
    }

    /// Takes a record that was read as far as it is there.
    pub(crate) fn take(
        &mut self,
        index: u64,
        head: Option<&SealedHead>,
        record: &Record,
    ) -> Result<(), String> {
        let (leaf, Some(head)) = (record.value(), head) else {
            let kind = record.value().get("kind").and_then(Value::as_str);
            return match kind.is_some_and(is_reason) {
                true => Err("says in clear why payloads are gone".to_owned()),
                false => Ok(()),
            };
        };
        let ts = leaf.get("ts").and_then(Value::as_str);
        let ts = ts.and_then(|ts| ts.parse::<HybridTimestamp>().ok());
        let ts = ts.ok_or("commits to a payload and has no timestamp")?;
        if head.kind == FOUNDING {
            self.founder.get_or_insert(head.subject);
        }
        let Record::Whole(whole) = record else {
            let asked = self.asked.as_ref();
            let missing = Missing {
                index,
                subject: head.subject,
                ts,
                reason: is_reason(&head.kind),
                asked_for: asked.is_none_or(|asked| asked.asks_for(leaf)),
            };
            if self.uncounted && !missing.asked_for && !missing.reason {
                return Ok(());
            }
            if is_kept(&head.kind) {
                self.kept.push(missing);
            } else {
                let of_class = self.missing.entry(head.class).or_default();
                of_class.push_back(missing);
            }
            return Ok(());
        };
        if is_reason(&head.kind) {
            return self.reason(index, head, ts, whole);
        }
        if self
            .asked
            .as_ref()
            .is_some_and(|asked| !asked.allows(whole))
        {
            let message = "is disclosed, and does not say what payloads were chosen by";
            return Err(message.to_owned());
        }
        Ok(())
    }

    fn reason(
        &mut self,
        index: u64,
        head: &SealedHead,
        ts: HybridTimestamp,
        whole: &Value,
    ) -> Result<(), String> {
        if *self.own.get_or_insert(head.subject) != head.subject {
            return Err("says why payloads are gone, and is not the organization's own".to_owned());
        }
        let body = whole.get("body").cloned().unwrap_or_default();
        let said = |error: serde_json::Error| error.to_string();
        if head.kind == SUBJECT_ERASED {
            let erased: Erased = serde_json::from_value(body).map_err(said)?;
            if erased.subject == head.subject {
                return Err("erases the organization's own records".to_owned());
            }
            if self.founder == Some(erased.subject) {
                return Err("erases the founder, who cannot be erased".to_owned());
            }
            self.erased.entry(erased.subject).or_insert(index);
            self.ended_and_erased += self.ended.remove(&erased.subject).unwrap_or_default();
            return Ok(());
        }
        let expired: Expired = serde_json::from_value(body).map_err(said)?;
        let ended = Ended {
            through: expired.through,
            before: HybridTimestamp::of_instant(expired.before),
        };
        if ended.through >= index || ended.before > ts {
            return Err("ends payloads of what comes after it".to_owned());
        }
        let before = self.expired.insert(expired.class, ended);
        self.end(expired.class, ended);
        if before.is_some_and(|before| before.through >= ended.through) {
            return Err("ends payloads that a record before it ended".to_owned());
        }
        Ok(())
    }

    /// Counts those that were kept long enough, so that no more are held than there are
    /// between a leaf and what ends it. Timestamps rise, so they are the first ones.
    fn end(&mut self, class: RecordClass, ended: Ended) {
        let Some(of_class) = self.missing.get_mut(&class) else {
            return;
        };
        while let Some(missing) = of_class.pop_front_if(|missing| ended.has(missing)) {
            match self.erased.get(&missing.subject) {
                Some(_) => self.ended_and_erased += 1,
                None => *self.ended.entry(missing.subject).or_default() += 1,
            }
        }
    }

    /// How many payloads are not there for each reason, and the leaves of those that
    /// nothing explains in their order, with what is wrong.
    pub(crate) fn explained(&self) -> (Unread, Vec<(u64, &'static str)>) {
        let mut unread = Unread {
            erased: self.ended_and_erased,
            expired: self.ended.values().sum(),
            not_disclosed: 0,
        };
        let mut unexplained = Vec::new();
        let of_classes = self.missing.iter().flat_map(|(class, of_class)| {
            // Each end reaches further than those before it.
            let ended = self.expired.get(class);
            of_class.iter().map(move |missing| (missing, ended))
        });
        let kept = self.kept.iter().map(|missing| (missing, None));
        for (missing, ended) in kept.chain(of_classes) {
            let by = self.erased.get(&missing.subject);
            match ended {
                // What says why others are gone is in every bundle.
                _ if missing.reason => unexplained.push((missing.index, NOTHING)),
                // What follows the record of an end is not part of it.
                _ if by.is_some_and(|by| missing.index < *by) => unread.erased += 1,
                Some(ended) if ended.has(missing) => unread.expired += 1,
                _ if self.asked.is_none() => unexplained.push((missing.index, NOTHING)),
                _ if missing.asked_for => unexplained.push((missing.index, ASKED_FOR)),
                _ => unread.not_disclosed += 1,
            }
        }
        unexplained.sort_unstable();
        (unread, unexplained)
    }
}

/// Whether payloads of records of this kind are kept whatever their age: those that say why
/// others are gone, and grants. A grant may be in force for longer than payloads are kept,
/// chains lead through it, and its store keeps it as it was signed.
#[must_use]
pub fn is_kept(kind: &str) -> bool {
    is_reason(kind) || kind == GRANT
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
    use crate::{Commitment, Withheld};

    fn head(subject: u8, class: RecordClass, kind: &str) -> SealedHead {
        SealedHead {
            org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap(),
            class,
            kind: kind.to_owned(),
            subject: SubjectId::of_random([subject; 16]),
            commitment: Commitment::from_bytes([0; 32]),
        }
    }

    fn ts(second: i64) -> HybridTimestamp {
        HybridTimestamp::of_instant(Timestamp::from_second(second).unwrap())
    }

    /// The leaf of the second that is its index.
    fn gone(absent: &mut Absent, index: u64, head: &SealedHead) -> Result<(), String> {
        let leaf = json!({ "ts": ts(i64::try_from(index).unwrap()), "kind": head.kind });
        let record = Record::Withheld {
            leaf,
            why: Withheld::NotDisclosed,
        };
        absent.take(index, Some(head), &record)
    }

    fn there(
        absent: &mut Absent,
        index: u64,
        head: &SealedHead,
        body: &Value,
    ) -> Result<(), String> {
        let ts = ts(i64::try_from(index).unwrap());
        let record = Record::Whole(json!({ "kind": head.kind, "ts": ts, "body": body }));
        absent.take(index, Some(head), &record)
    }

    fn expired(class: &str, through: u64, before: i64) -> Value {
        let before = Timestamp::from_second(before).unwrap();
        json!({ "class": class, "through": through, "before": before })
    }

    fn counts(absent: &Absent) -> ((u64, u64, u64), Vec<u64>) {
        let (unread, unexplained) = absent.explained();
        let counts = (unread.erased, unread.expired, unread.not_disclosed);
        (
            counts,
            unexplained.into_iter().map(|(index, _)| index).collect(),
        )
    }

    use RecordClass::{Evidence, Trace};

    #[test]
    fn only_what_a_record_says_is_explained() {
        let filter = BTreeMap::from([("agent".to_owned(), "planner".to_owned())]);
        for narrowed in [false, true] {
            let filter = narrowed.then(|| Filter::read(&filter).unwrap());
            let mut absent = Absent::new(filter);
            for (index, head) in [
                (0, head(1, Evidence, "k")),
                (1, head(2, Evidence, "k")),
                (2, head(2, Trace, "k")),
                (3, head(2, Trace, "k")),
                (4, head(2, Trace, PAYLOADS_EXPIRED)),
                (9, head(1, Evidence, "k")),
            ] {
                gone(&mut absent, index, &head).unwrap();
            }
            let erased = json!({ "subject": SubjectId::of_random([1; 16]) });
            there(&mut absent, 7, &head(3, Evidence, SUBJECT_ERASED), &erased).unwrap();
            let ended = head(3, Evidence, PAYLOADS_EXPIRED);
            there(&mut absent, 8, &ended, &expired("trace", 2, 3)).unwrap();
            // Who discloses only some discloses what says why others are gone.
            let expected = match narrowed {
                false => ((1, 1, 0), vec![1, 3, 4, 9]),
                true => ((1, 1, 3), vec![4]),
            };
            assert_eq!(counts(&absent), expected);
        }
    }

    #[test]
    fn a_reason_that_cannot_be_explains_nothing() {
        let reason = |kind| head(3, Evidence, kind);
        let erased = |subject| json!({ "subject": SubjectId::of_random([subject; 16]) });
        let mut absent = Absent::default();
        for (index, kind, body, why) in [
            (9, SUBJECT_ERASED, json!({}), "missing field"),
            // The organization's own: it would excuse every reason before it.
            (9, SUBJECT_ERASED, erased(3), "own records"),
            (9, PAYLOADS_EXPIRED, expired("trace", 9, 4), "after it"),
            (9, PAYLOADS_EXPIRED, expired("trace", 5, 10), "after it"),
        ] {
            let refused = there(&mut absent, index, &reason(kind), &body);
            let said = refused.unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        there(&mut absent, 9, &reason(SUBJECT_ERASED), &erased(1)).unwrap();
        gone(&mut absent, 10, &head(5, Evidence, FOUNDING)).unwrap();
        let founder = there(&mut absent, 11, &reason(SUBJECT_ERASED), &erased(5));
        assert!(founder.unwrap_err().contains("the founder"));
        let other = head(4, Evidence, SUBJECT_ERASED);
        let refused = there(&mut absent, 10, &other, &erased(2)).unwrap_err();
        assert!(refused.contains("not the organization's own"), "{refused}");
        let clear = Record::Whole(json!({ "kind": SUBJECT_ERASED, "body": erased(2) }));
        assert!(absent.take(11, None, &clear).is_err());
        let ended = reason(PAYLOADS_EXPIRED);
        there(&mut absent, 12, &ended, &expired("trace", 5, 8)).unwrap();
        let again = there(&mut absent, 13, &ended, &expired("trace", 5, 8));
        assert!(again.unwrap_err().contains("before it ended"));
    }

    /// That all of them are old enough is what leaves say themselves.
    #[test]
    fn what_is_too_young_has_not_expired() {
        let mut absent = Absent::default();
        for index in 0..4 {
            gone(&mut absent, index, &head(2, Trace, "k")).unwrap();
        }
        // A grant is kept whatever its age.
        gone(&mut absent, 0, &head(2, Trace, GRANT)).unwrap();
        let ended = head(3, Evidence, PAYLOADS_EXPIRED);
        there(&mut absent, 8, &ended, &expired("trace", 3, 2)).unwrap();
        assert_eq!(counts(&absent), ((0, 2, 0), vec![0, 2, 3]));
    }
}
