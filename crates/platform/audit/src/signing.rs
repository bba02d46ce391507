//! What a log signs its checkpoints with, and by what a stored one is believed: the pair of
//! keys in force, and besides it the former one until that is retired.

use std::sync::Arc;

use creto_crypto::Signer;
use creto_tlog::{Checkpoint, Hash, Note, NoteSignature};
use creto_types::OrgId;

use crate::bundle::{self, CHECKPOINT, Finding};
use crate::error::corrupt;
use crate::head::{HeadKeys, LineKey};
use crate::{AuditError, Checkpointed, LogKeys};

/// The keys of one log, with the names that its notes give them.
#[derive(Debug)]
pub(crate) struct Signing {
    keys: LogKeys,
    names: HeadKeys,
    former: Option<HeadKeys>,
}

impl Signing {
    pub(crate) fn new(origin: &str, keys: LogKeys) -> Result<Self, AuditError> {
        let named = |ed25519: &Arc<dyn Signer>, composite: &Arc<dyn Signer>| {
            HeadKeys::new(origin, ed25519.verifying_key(), composite.verifying_key())
                .map_err(|error| error.into_audit(origin))
        };
        let names = named(&keys.ed25519, &keys.composite)?;
        let former = keys.former.as_ref();
        let former = former.map(|former| named(&former.ed25519, &former.composite));
        let former = former.transpose()?;
        bundle::check_evidence_key(&keys)?;
        Ok(Self {
            keys,
            names,
            former,
        })
    }

    pub(crate) fn keys(&self) -> &LogKeys {
        &self.keys
    }

    /// The names of the pair in force.
    pub(crate) fn names(&self) -> &HeadKeys {
        &self.names
    }

    /// Those of the pair that signs besides.
    pub(crate) fn former(&self) -> Option<&HeadKeys> {
        self.former.as_ref()
    }

    /// The keys of the lines, each with its signer, in the order of the lines.
    fn lines(&self) -> Vec<(&LineKey, &dyn Signer)> {
        let in_force = [&self.keys.ed25519, &self.keys.composite];
        let in_force = self.names.lines().into_iter().zip(in_force);
        let former = self.former.iter().zip(&self.keys.former);
        let former = former.flat_map(|(names, keys)| {
            let signers = [&keys.ed25519, &keys.composite];
            names.lines().into_iter().zip(signers)
        });
        let mut lines: Vec<(&LineKey, &dyn Signer)> = Vec::new();
        for (key, signer) in in_force.chain(former) {
            // A note has one line of a key, also when only the other one was replaced.
            if lines.iter().all(|(other, _)| other.name != key.name) {
                lines.push((key, signer.as_ref()));
            }
        }
        lines
    }

    /// Signs a tree head with every key.
    pub(crate) fn sign(&self, size: u64, root: Hash) -> Result<Checkpointed, AuditError> {
        let origin = self.names.origin();
        let head = Checkpoint::new(origin.to_owned(), size, root);
        let mut note = Note::new(&head.to_string()).map_err(|source| AuditError::Origin {
            origin: origin.to_owned(),
            source,
        })?;
        for (key, signer) in self.lines() {
            let signature = signer.sign(key.context, note.text().as_bytes())?;
            note.add_signature(&key.name, signature.as_bytes().to_vec());
        }
        Ok(Checkpointed::of(&head, note.encode()))
    }

    /// Whether these are exactly the lines that [`Signing::sign`] would make. Whether they
    /// are good ones is not asked.
    pub(crate) fn signs(&self, found: &[NoteSignature]) -> bool {
        let lines = self.lines();
        let same = |((key, _), line): (&(&LineKey, _), _)| key.names(line);
        lines.len() == found.len() && lines.iter().zip(found).all(same)
    }

    /// Reads the log's own stored checkpoint, and says whether its lines are those of the
    /// keys that sign now.
    ///
    /// Both keys of one pair have to have signed it: after a kill between a change of keys
    /// and the next checkpoint that is the former pair. A line of a pair that was retired
    /// meanwhile can say nothing; one of a key that is known has to hold.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<(Checkpoint, bool), Finding> {
        let note = Note::parse(bytes).map_err(|error| Finding::new(CHECKPOINT, error))?;
        let mut findings = Vec::new();
        if note.encode() != bytes {
            findings.push(Finding::new(CHECKPOINT, "it is not in its one encoding"));
        }
        let head = self.names.head(&note, &mut findings);
        for line in note.signatures() {
            findings.extend(self.fault(&note, line));
        }
        let signed = [Some(&self.names), self.former.as_ref()];
        let signed = signed.into_iter().flatten().any(|pair| {
            let good = |key: &LineKey| note.signatures().iter().any(|line| key.holds(&note, line));
            pair.lines().into_iter().all(good)
        });
        if !signed {
            let message = "it does not have a good line of each key of one pair of this log";
            findings.push(Finding::new(CHECKPOINT, message));
        }
        match (head, findings.into_iter().next()) {
            (Some(head), None) => Ok((head, self.signs(note.signatures()))),
            (_, Some(finding)) => Err(finding),
            (None, None) => Err(Finding::new(CHECKPOINT, "it says nothing")),
        }
    }

    /// What is wrong with a line, when it is of a known key. Key ids are short, so a line is
    /// wrong only when it is of none of the keys that it may be of.
    fn fault(&self, note: &Note, line: &NoteSignature) -> Option<Finding> {
        let mut fault = None;
        for (key, _) in self.lines() {
            if key.names(line) {
                match key.verify(note.text(), line) {
                    Ok(()) => return None,
                    Err(error) => fault = Some(Finding::new(key.place, error)),
                }
            }
        }
        fault
    }

    /// A checkpoint of this log with the lines of the pair in force alone, which is the form
    /// that bundles have it in.
    pub(crate) fn in_force(&self, org: OrgId, bytes: &[u8]) -> Result<Vec<u8>, AuditError> {
        let fault = |error: &dyn ToString| corrupt(org, CHECKPOINT, error.to_string());
        let published = Note::parse(bytes).map_err(|error| fault(&error))?;
        let mut note = Note::new(published.text()).map_err(|error| fault(&error))?;
        for key in self.names.lines() {
            let mut lines = published.signatures().iter();
            if let Some(line) = lines.find(|line| key.holds(&published, line)) {
                note.add_line(line.clone());
            }
        }
        let bytes = note.encode();
        // One that its reader would refuse is never handed out.
        match self.names.check(&bytes).1.into_iter().next() {
            Some(finding) => Err(corrupt(org, finding.place, finding.message)),
            None => Ok(bytes),
        }
    }
}
