//! Other keys for the log: they replace those of before, and those end.

use creto_audit::NoteVerifier;
use creto_nhi::NhiError;
use creto_tlog::Note;
use creto_types::Receipt;

use crate::opened::Opened;
use crate::told::{Told, again, say, signed_anew};

/// Two verifier keys: of one pair of keys of the log.
pub(crate) type Pair = [String; 2];

impl Opened {
    pub(crate) fn pair(&self) -> Pair {
        self.audit.verifier_keys(self.org).unwrap()
    }

    fn former(&self) -> Option<Pair> {
        self.audit.former_verifier_keys(self.org).unwrap()
    }

    /// Replaces the keys of the log, if those of an earlier rotation do not sign besides.
    /// Nothing is committed when that was done already and only the answer was lost.
    async fn rotate(&self, n: u64) -> Result<Option<Receipt>, NhiError> {
        if !self.nhi.former_log_keys(self.org)?.is_empty() {
            return Ok(None);
        }
        let draft = self.nhi.draft_log_rotation(self.org)?;
        let committed = self.nhi.commit_log_rotation(draft, self.commit(n)).await;
        committed.map(Some)
    }

    /// Ends the keys that the last rotation replaced, likewise.
    async fn retire(&self, n: u64) -> Result<Option<Receipt>, NhiError> {
        let former = self.nhi.former_log_keys(self.org)?;
        if former.is_empty() {
            return Ok(None);
        }
        let retired = self
            .nhi
            .retire_log_keys(self.org, former, self.commit(n))
            .await;
        retired.map(Some)
    }
}

/// Whether somebody who knows these keys takes the note for the log's.
fn signed_by(note: &Note, pair: &Pair) -> bool {
    let holds = |key: &String| NoteVerifier::parse(key).unwrap().verifies(note);
    pair.iter().all(holds)
}

/// Other keys for the log, or the end of the former ones, in the order in which the server
/// does it.
pub(crate) async fn other_keys(log: &Opened, n: u64) {
    let rekey = async || log.audit.rekey(log.org).await;
    let done = if log.former().is_none() {
        let rotated = again("rotate", async || log.rotate(n).await).await;
        say(&format!("rotated {}", log.pair().join(" ")));
        signed_anew("rekey", log, rekey).await;
        say("rekeyed");
        rotated
    } else {
        // What is found after the former ones have ended is by keys that are there.
        signed_anew("rekey", log, rekey).await;
        say("retiring");
        let retired = again("retire", async || log.retire(n).await).await;
        say("retired");
        signed_anew("rekey", log, rekey).await;
        say("alone");
        retired
    };
    if let Some(leaf) = done.and_then(|receipt| receipt.leaf()) {
        say(&format!("evidence {leaf} {n}"));
    }
}

/// How far the change of the log's keys was acknowledged.
pub(crate) struct ToldKeys {
    before: Option<Pair>,
    after: Option<Pair>,
    rekeyed: bool,
    retiring: bool,
    retired: bool,
    alone: bool,
}

impl ToldKeys {
    pub(crate) fn of(told: &Told) -> Self {
        let pair = |words: &[String]| [words[0].clone(), words[1].clone()];
        Self {
            before: told.all("keys").next().map(|words| pair(&words[1..])),
            after: told.all("rotated").last().map(pair),
            rekeyed: told.has("rekeyed"),
            retiring: told.has("retiring"),
            retired: told.has("retired"),
            alone: told.has("alone"),
        }
    }

    /// What lies there for everybody, before anything is opened: whoever knows the keys of
    /// before can read it until their end was begun, and whoever knows the new ones can as
    /// soon as they were told.
    pub(crate) fn expect_readable(&self, note: &Note) {
        let signed = |pair: &Option<Pair>| pair.as_ref().map(|pair| signed_by(note, pair));
        assert!(
            self.retiring || signed(&self.before) != Some(false),
            "who knows the keys of before is lost: {note}"
        );
        if self.rekeyed {
            assert_eq!(signed(&self.after), Some(true), "{note}");
        }
        if self.alone {
            assert_eq!(signed(&self.before), Some(false), "{note}");
        }
    }

    /// The keys that were acknowledged are those of the store.
    pub(crate) fn expect_stored(&self, log: &Opened) {
        let (in_force, former) = (log.pair(), log.former());
        if let Some(after) = &self.after {
            assert_eq!(in_force, *after, "the rotation was acknowledged");
        }
        if self.retired {
            assert_eq!(former, None, "the end of the former keys was acknowledged");
        }
        if self.before.is_some() && !self.retiring {
            let of_before = former.as_ref().unwrap_or(&in_force);
            assert_eq!(Some(of_before), self.before.as_ref());
        }
    }
}

/// The keys change as ever: the former ones end, and others come.
pub(crate) async fn expect_other_keys(log: &Opened) {
    let in_force = log.pair();
    log.retire(10_000).await.unwrap();
    let alone = log.audit.rekey(log.org).await.unwrap();
    log.rotate(10_001).await.unwrap().unwrap();
    let both = log.audit.rekey(log.org).await.unwrap();
    assert_eq!(log.former(), Some(in_force.clone()));
    for (head, pairs) in [
        (alone, vec![&in_force]),
        (both, vec![&log.pair(), &in_force]),
    ] {
        let note = Note::parse(&head.note).unwrap();
        assert_eq!(note.signatures().len(), 2 * pairs.len(), "{note}");
        assert!(
            pairs.into_iter().all(|pair| signed_by(&note, pair)),
            "{note}"
        );
    }
}
