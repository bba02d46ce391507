//! Asking witnesses to cosign what is published, in the background. The log never
//! waits for them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use creto_errors::{Class, Classify};
use creto_tlog::{
    AddCheckpoint, Checkpoint, Hash, Note, NoteError, NoteSignature, verify_consistency,
};
use creto_types::OrgId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::error::corrupt;
use crate::head::HASHER;
use crate::service::{Published, Shared};
use crate::verifier::names;
use crate::{AuditError, Checkpointed, NoteVerifier};

/// How soon a witness that did not cosign is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// Its signature lines.
    Cosigned(String),
    /// The size it cosigned last is another one.
    Conflict(u64),
    /// It did not cosign, and says why.
    Refused(String),
}

/// How one witness is reached.
#[async_trait]
pub trait WitnessClient: Send + Sync {
    /// Sends a request of tlog-witness's `add-checkpoint`. An error is a witness
    /// that cannot be reached.
    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, String>;
}

/// A witness that is asked.
#[derive(Clone)]
pub struct AskedWitness {
    /// Its key; what it answers counts when it verifies.
    pub key: NoteVerifier,
    /// The way to it.
    pub client: Arc<dyn WitnessClient>,
}

pub(crate) struct Witnessing {
    witnesses: Vec<AskedWitness>,
    /// How many cosignatures the public checkpoint has at least.
    pub(crate) quorum: usize,
    orgs: Mutex<BTreeSet<OrgId>>,
    wake: Notify,
    /// The size each witness knows, by its place in the list.
    known: Mutex<HashMap<(OrgId, usize), u64>>,
    /// Why each witness did not cosign when it was asked last.
    refusals: Mutex<HashMap<(OrgId, usize), String>>,
    /// The newest checkpoint of each log that witnesses have cosigned, with their lines
    /// alone: those of the log change with its keys, and these hold as before.
    cosigned: Mutex<HashMap<OrgId, Note>>,
    /// Who has it writes the files that witnesses have cosigned.
    writing: tokio::sync::Mutex<()>,
}

impl Witnessing {
    pub(crate) fn new(witnesses: Vec<AskedWitness>, quorum: usize) -> Self {
        Self {
            witnesses,
            quorum,
            orgs: Mutex::default(),
            wake: Notify::new(),
            known: Mutex::default(),
            refusals: Mutex::default(),
            cosigned: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn published(&self, org: OrgId) {
        self.orgs.lock().insert(org);
        self.wake.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.wake.notify_one();
    }

    /// The checkpoint with the lines of the witnesses that have cosigned it.
    pub(crate) fn note_of(&self, org: OrgId, head: &Checkpointed) -> Option<Vec<u8>> {
        let cosigned = self.cosigned.lock();
        let (own, cosigned) = (Note::parse(&head.note).ok()?, cosigned.get(&org)?);
        (own.text() == cosigned.text()).then(|| joined(&own, cosigned).encode())
    }

    /// What strangers are shown, of the newest checkpoint and of the file that witnesses have
    /// cosigned.
    pub(crate) fn public(
        &self,
        newest: Option<Vec<u8>>,
        witnessed: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, NoteError> {
        let witnessed = witnessed.map(Note::parse).transpose()?;
        let Some(cosigned) = witnessed else {
            return Ok(newest.filter(|_| self.quorum == 0));
        };
        // Same text, more lines. The log's own are those of the keys that sign now.
        let text = format!("{}\n", cosigned.text());
        let same = newest.as_ref();
        let same = same.filter(|bytes| bytes.starts_with(text.as_bytes()));
        let shown = match same {
            Some(bytes) => Some(joined(&Note::parse(bytes)?, &cosigned)),
            None => None,
        };
        if self.quorum == 0 {
            return Ok(shown.map(|note| note.encode()).or(newest));
        }
        let shown = shown.unwrap_or(cosigned);
        Ok((self.count(&shown) >= self.quorum).then(|| shown.encode()))
    }

    /// How many of the witnesses have cosigned.
    pub(crate) fn count(&self, note: &Note) -> usize {
        let keys = self.witnesses.iter().map(|witness| &witness.key);
        names(keys.filter(|key| key.verifies(note))).len()
    }

    /// Asks until the service ends.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        while !shared.closed.load(Ordering::Acquire) {
            let open = !self.orgs.lock().is_empty();
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(AGAIN), if open => {}
            }
            let orgs: Vec<OrgId> = self.orgs.lock().iter().copied().collect();
            for org in orgs {
                if shared.closed.load(Ordering::Acquire) {
                    return;
                }
                self.orgs.lock().remove(&org);
                match self.round(org, &shared).await {
                    Ok(true) => {}
                    // Asked again after the pause, or with the next checkpoint.
                    Ok(false) => drop(self.orgs.lock().insert(org)),
                    Err(error) => tracing::error!(
                        %org, error = &error as &dyn std::error::Error,
                        "witnesses cannot be asked"
                    ),
                }
            }
        }
    }

    /// Asks every witness that has not cosigned the published checkpoint, all at the
    /// same time. Gives whether all have now.
    async fn round(&self, org: OrgId, shared: &Arc<Shared>) -> Result<bool, AuditError> {
        let Some(published) = shared.signed(org) else {
            return Ok(true);
        };
        let mut complete = true;
        if let Err(error) = self.renew(org, &published, shared).await {
            complete = error.class() != Class::Transient;
            tracing::error!(
                %org, error = &error as &dyn std::error::Error,
                "the cosigned checkpoint keeps the log's lines that it has"
            );
        }
        let head = published.head;
        let mut note = self.cosigned_or_bare(org, &head)?;
        let mut asked = JoinSet::new();
        for (place, witness) in self.witnesses.iter().enumerate() {
            if witness.key.verifies(&note) {
                continue;
            }
            let old = self.known.lock().get(&(org, place)).copied().unwrap_or(0);
            let (witness, head, shared) = (witness.clone(), head.clone(), Arc::clone(shared));
            asked.spawn(async move { (place, ask(org, &witness, old, &head, &shared).await) });
        }
        while let Some(answered) = asked.join_next().await {
            let Ok((place, answer)) = answered else {
                complete = false;
                continue;
            };
            let Some(witness) = self.witnesses.get(place) else {
                continue;
            };
            match answer {
                Ok(lines) => {
                    self.known.lock().insert((org, place), head.size);
                    self.refusals.lock().remove(&(org, place));
                    // Only the lines of this witness's key, which are good ones.
                    for line in witness.key.lines(&lines).unwrap_or_default() {
                        note.add_line(line.clone());
                    }
                    // At once: one that is slow does not hold up the others' lines.
                    if let Err(error) = self.keep(org, &head, note.clone(), shared).await {
                        complete = false;
                        tracing::error!(
                            %org, error = &error as &dyn std::error::Error,
                            "a cosigned checkpoint cannot be written; it is tried again"
                        );
                    }
                }
                Err(why) => {
                    complete = false;
                    // It is asked again and again: what is new is said once.
                    let last = self.refusals.lock().insert((org, place), why.clone());
                    if last.as_ref() != Some(&why) {
                        tracing::warn!(
                            %org, witness = witness.key.name(), size = head.size, why,
                            "a witness did not cosign"
                        );
                    }
                }
            }
        }
        Ok(complete)
    }

    /// Gives the file that witnesses have cosigned the log's lines of its present keys.
    pub(crate) async fn renew(
        &self,
        org: OrgId,
        published: &Published,
        shared: &Shared,
    ) -> Result<(), AuditError> {
        let _alone = self.writing.lock().await;
        renew(org, published, shared).await
    }

    /// The lines of witnesses that this checkpoint has so far.
    fn cosigned_or_bare(&self, org: OrgId, head: &Checkpointed) -> Result<Note, AuditError> {
        let own = Note::parse(&head.note).map_err(|e| corrupt(org, "checkpoint", e))?;
        match self.cosigned.lock().get(&org) {
            Some(note) if note.text() == own.text() => Ok(note.clone()),
            _ => Note::new(own.text()).map_err(|e| corrupt(org, "checkpoint", e)),
        }
    }

    async fn keep(
        &self,
        org: OrgId,
        head: &Checkpointed,
        cosigned: Note,
        shared: &Shared,
    ) -> Result<(), AuditError> {
        let count = self.count(&cosigned);
        if count == 0 {
            return Ok(());
        }
        // What readers are shown never falls below what they were promised, and a
        // witness whose line could not be written is asked again.
        if count >= self.quorum {
            let _alone = self.writing.lock().await;
            let own = own_lines(org, head, shared)?;
            let bytes = joined(&own, &cosigned).encode();
            shared.stores.tiles.put(org, WITNESSED, bytes).await?;
        }
        self.cosigned.lock().insert(org, cosigned);
        Ok(())
    }
}

/// A checkpoint that the log signed, with the log's lines of its present keys: they may have
/// changed while witnesses were asked.
fn own_lines(org: OrgId, head: &Checkpointed, shared: &Shared) -> Result<Note, AuditError> {
    let fault = |error| corrupt(org, "checkpoint", error);
    let own = Note::parse(&head.note).map_err(fault)?;
    match shared.signed(org) {
        Some(Published { signing, .. }) if !signing.signs(own.signatures()) => {
            let signed = signing.sign(head.size, Hash::from_bytes(head.root))?;
            Note::parse(&signed.note).map_err(fault)
        }
        _ => Ok(own),
    }
}

/// The lines of the log that one note has, and those of others that another one of the same
/// text has.
fn joined(own: &Note, cosigned: &Note) -> Note {
    let mut note = own.clone();
    for line in of_others(cosigned) {
        note.add_line(line.clone());
    }
    note
}

/// Lines of a checkpoint that are not under the name of its log.
fn of_others(note: &Note) -> impl Iterator<Item = &NoteSignature> {
    let origin = note.text().lines().next().unwrap_or_default();
    let lines = note.signatures().iter();
    lines.filter(move |line| line.name != origin)
}

/// Gives the cosigned file the lines of the keys that sign now. With a quorum and witnesses
/// that are away it may stay for long, and its readers may know the pair in force alone.
async fn renew(org: OrgId, published: &Published, shared: &Shared) -> Result<(), AuditError> {
    let Published { head, signing } = published;
    let Some(bytes) = shared.stores.tiles.get(org, WITNESSED).await? else {
        return Ok(());
    };
    let note = Note::parse(&bytes).map_err(|e| corrupt(org, WITNESSED, e))?;
    let own = note
        .signatures()
        .len()
        .saturating_sub(of_others(&note).count());
    if signing.signs(note.signatures().get(..own).unwrap_or_default()) {
        return Ok(());
    }
    let cosigned: Checkpoint = note
        .text()
        .parse()
        .map_err(|e| corrupt(org, WITNESSED, e))?;
    // Whoever wrote the file and the tiles: signed is only what the signed head continues.
    let continued = cosigned.size <= head.size && {
        let proof = shared
            .consistency(org, cosigned.size, head.size, head.size)
            .await?;
        let (then, now) = (cosigned.root, Hash::from_bytes(head.root));
        verify_consistency(HASHER, cosigned.size, &then, head.size, &now, &proof).is_ok()
    };
    if !continued {
        let detail = "it is of another tree than the log's";
        return Err(corrupt(org, WITNESSED, detail));
    }
    let signed = signing.sign(cosigned.size, cosigned.root)?;
    let signed = Note::parse(&signed.note).map_err(|e| corrupt(org, WITNESSED, e))?;
    if signed.text() != note.text() {
        return Err(corrupt(org, WITNESSED, "it is of another log"));
    }
    let bytes = joined(&signed, &note).encode();
    Ok(shared.stores.tiles.put(org, WITNESSED, bytes).await?)
}

/// The file with the newest checkpoint that enough witnesses have cosigned.
pub(crate) const WITNESSED: &str = "witnessed";

/// Asks one witness, and once more when it knows another size than was thought.
async fn ask(
    org: OrgId,
    witness: &AskedWitness,
    old: u64,
    head: &Checkpointed,
    shared: &Arc<Shared>,
) -> Result<Note, String> {
    let checkpoint = Note::parse(&head.note).map_err(|e| e.to_string())?;
    let mut old = old;
    for _ in 0..2 {
        if old > head.size {
            return Err(format!(
                "it has cosigned {old} leaves of this log, and there are {}: \
                 the log lost leaves, or there is a second one of its name",
                head.size
            ));
        }
        let proof = shared
            .consistency(org, old, head.size, head.size)
            .await
            .map_err(|e| creto_errors::chain(&e))?;
        let request = AddCheckpoint {
            old,
            proof,
            checkpoint: checkpoint.clone(),
        };
        match witness.client.add_checkpoint(request.to_string()).await? {
            WitnessAnswer::Cosigned(lines) => {
                let cosigned = checkpoint.with_lines(&lines).map_err(|e| e.to_string())?;
                return if witness.key.verifies(&cosigned) {
                    Ok(cosigned)
                } else {
                    Err("its answer has no good signature by its key".to_owned())
                };
            }
            WitnessAnswer::Conflict(size) if size == old => {
                return Err(format!("it cosigned another tree of {size} leaves"));
            }
            WitnessAnswer::Conflict(size) => old = size,
            WitnessAnswer::Refused(why) => return Err(why),
        }
    }
    Err("it knows another size at every question".to_owned())
}
