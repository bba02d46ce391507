//! Making a bundle, one file after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use creto_crypto::sha256;
use creto_tlog::{Entries, TILE_WIDTH, encode_entries};
use creto_types::{OrgId, Timestamp};

use super::archive::entry_header;
use super::filter::Filter;
use super::payloads::{Absent, Scope, is_reason, path_of};
use super::{ATTACHMENTS, CHECKPOINT, KEYS, MANIFEST, is_attachment_name, keys, manifest};
use crate::error::{corrupt, entry_fault};
use crate::payload::join;
use crate::record::read_leaf;
use crate::search::LeafSet;
use crate::service::{Published, Shared};
use crate::tree::{LogFile, LogTree};
use crate::{
    Attachments, AuditError, Checkpointed, Content, Record, SearchQuery, StoredRecord, Withheld,
};

/// How often a bundle is given a later head because payloads were destroyed while it was
/// made. What has to be read again is what was appended meanwhile, so once is nearly
/// always enough.
const LATER_HEADS: usize = 8;

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Its relative path.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// An evidence bundle that is being made; see [`crate::Audit::export`].
///
/// It is made from the journal, up to the head that its checkpoint signs: it is whole
/// whatever is appended or happens to the published files meanwhile, and is compared with
/// the signed root. In memory are the files that one file of entries makes, and the digest
/// of each that was given.
pub struct Export {
    shared: Arc<Shared>,
    org: OrgId,
    attachments: Arc<dyn Attachments>,
    at: Timestamp,
    /// Keys and checkpoint of a bundle go together.
    published: Published,
    later_heads: usize,
    narrowed: Option<Narrowed>,
    tree: LogTree,
    payloads: Payloads,
    /// The attachments that are still to come.
    names: BTreeSet<String>,
    /// What was made and not given yet.
    ready: VecDeque<BundleFile>,
    digests: BTreeMap<String, [u8; 32]>,
    step: Step,
}

/// Which payloads are disclosed when not all are.
struct Narrowed {
    query: SearchQuery,
    leaves: LeafSet,
}

/// What is made next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Leaves,
    Attachments,
    Manifest,
    Done,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("org", &self.org)
            .field("size", &self.size())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// Everything that can be refused before the first file.
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        org: OrgId,
        attachments: Arc<dyn Attachments>,
        query: Option<&SearchQuery>,
    ) -> Result<Self, AuditError> {
        // Before the head, so that what each is about is below it.
        let mut names = BTreeSet::new();
        for name in attachments.names(org).await? {
            if !is_storable(&name) || !names.insert(name.clone()) {
                return Err(AuditError::AttachmentName { name });
            }
        }
        let published = shared.signed_in_force(org).await?;
        let narrowed = match query.filter(|query| !query.named().is_empty()) {
            None => None,
            Some(query) => Some(Narrowed {
                query: query.clone(),
                leaves: shared.matching(org, query, published.head.size).await?,
            }),
        };
        let filter = narrowed
            .as_ref()
            .map(|some| Filter::read(&some.query.named()));
        let filter = filter.transpose();
        let filter = filter.map_err(|fault| corrupt(org, MANIFEST, fault))?;
        Ok(Self {
            org,
            at: shared.now(),
            published,
            later_heads: LATER_HEADS,
            // Of some records, what they refer to is known when they were read.
            names: match &narrowed {
                None => names,
                Some(_) => BTreeSet::new(),
            },
            narrowed,
            tree: LogTree::new(org),
            payloads: Payloads::new(org, Absent::unexplained_only(filter)),
            attachments,
            shared,
            ready: VecDeque::new(),
            digests: BTreeMap::new(),
            step: Step::Leaves,
        })
    }

    /// The leaves that it covers.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.published.head.size
    }

    /// When it was begun.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The next file; the manifest, which is signed over all others, is the last one. What
    /// was given before an error is no bundle.
    pub async fn next(&mut self) -> Result<Option<BundleFile>, AuditError> {
        loop {
            if let Some(file) = self.ready.pop_front() {
                let digest = sha256(&file.bytes);
                self.digests.insert(file.path.clone(), digest);
                return Ok(Some(file));
            }
            match self.step {
                Step::Leaves => self.leaves().await?,
                Step::Attachments => self.attachment().await?,
                Step::Manifest => self.manifest()?,
                Step::Done => return Ok(None),
            }
        }
    }

    /// The files that the next file of entries makes.
    async fn leaves(&mut self) -> Result<(), AuditError> {
        let (org, from, end) = (self.org, self.tree.size(), self.size());
        if from >= end {
            return self.end_of_leaves().await;
        }
        let width = (TILE_WIDTH - from % TILE_WIDTH).min(end - from);
        let width = usize::try_from(width).unwrap_or(usize::MAX);
        let journal = &self.shared.stores.journal;
        let records = journal.records(org, from, width).await?;
        if records.is_empty() {
            let place = format!("leaf {from}");
            return Err(corrupt(org, place, "the journal does not have it"));
        }
        for stored in records {
            let index = self.tree.size();
            let narrowed = self.narrowed.as_ref();
            let chosen = narrowed.is_none_or(|some| some.leaves.contains(index));
            let (leaf, record) = self.payloads.take(index, stored, chosen)?;
            if let Some(name) = record.and_then(|record| self.attachments.referred(&record))
                && is_storable(&name)
            {
                self.names.insert(name);
            }
            self.ready.extend(self.payloads.full()?);
            self.ready
                .extend(self.tree.push(leaf)?.into_iter().map(BundleFile::from));
        }
        Ok(())
    }

    async fn end_of_leaves(&mut self) -> Result<(), AuditError> {
        let head = &self.published.head;
        if *self.tree.root().as_bytes() != head.root {
            let detail = "the journal does not lead to the root that was signed";
            return Err(corrupt(self.org, CHECKPOINT, detail));
        }
        let (_, unexplained) = self.payloads.absent.explained();
        if let Some((index, fault)) = unexplained.first() {
            return self.later_head(*index, fault).await;
        }
        self.ready.extend(self.payloads.edge()?);
        self.ready
            .extend(self.tree.partials()?.into_iter().map(BundleFile::from));
        self.step = Step::Attachments;
        Ok(())
    }

    /// A payload went while leaves were read: the record that says why lies behind the head,
    /// and a later one covers it. Nothing given so far depends on where the log ends.
    async fn later_head(&mut self, index: u64, fault: &str) -> Result<(), AuditError> {
        let before = self.size();
        let published = self.shared.signed_in_force(self.org).await?;
        if published.head.size <= before || self.later_heads == 0 {
            return Err(corrupt(self.org, format!("leaf {index}"), fault));
        }
        self.later_heads -= 1;
        if let Some(some) = &mut self.narrowed {
            let size = published.head.size;
            some.leaves = self.shared.matching(self.org, &some.query, size).await?;
        }
        self.published = published;
        Ok(())
    }

    async fn attachment(&mut self) -> Result<(), AuditError> {
        let Some(name) = self.names.pop_first() else {
            return self.head();
        };
        // A record may name what nobody kept.
        if let Some(bytes) = self.attachments.read(self.org, &name).await? {
            let path = format!("{ATTACHMENTS}{name}");
            self.ready.push_back(BundleFile { path, bytes });
        }
        Ok(())
    }

    fn head(&mut self) -> Result<(), AuditError> {
        let Published { head, signing } = &self.published;
        let file = |path: &str, bytes| BundleFile {
            path: path.to_owned(),
            bytes,
        };
        let checkpoint = signing.in_force(self.org, &head.note)?;
        let keys = keys::encode(self.org, signing.names(), signing.keys());
        self.ready.push_back(file(CHECKPOINT, checkpoint));
        self.ready.push_back(file(KEYS, keys));
        self.step = Step::Manifest;
        Ok(())
    }

    fn manifest(&mut self) -> Result<(), AuditError> {
        let Published { head, signing } = &self.published;
        let Checkpointed { size, root, .. } = head;
        let predicate = manifest::Predicate {
            org: self.org,
            origin: signing.names().origin().to_owned(),
            size: *size,
            root: hex::encode(root),
            exported_at: self.at,
            payloads: Some(Scope {
                filter: self.narrowed.as_ref().map(|some| some.query.named()),
            }),
        };
        let digests = std::mem::take(&mut self.digests);
        let bytes = manifest::sign(digests, predicate, &*signing.keys().evidence)?;
        let path = MANIFEST.to_owned();
        self.ready.push_back(BundleFile { path, bytes });
        self.step = Step::Done;
        Ok(())
    }
}

/// Whether an attachment may have this name, in a directory and in an archive.
fn is_storable(name: &str) -> bool {
    is_attachment_name(name) && entry_header(&format!("{ATTACHMENTS}{name}"), 0, 0).is_some()
}

impl From<LogFile> for BundleFile {
    fn from(file: LogFile) -> Self {
        Self {
            path: file.resource.to_string(),
            bytes: file.bytes,
        }
    }
}

/// The payloads beside the entries.
struct Payloads {
    org: OrgId,
    size: u64,
    absent: Absent,
    /// Of the entries that make one file.
    edge: Vec<Vec<u8>>,
    /// Whether one of those commits to a payload.
    sealed: bool,
}

impl Payloads {
    const fn new(org: OrgId, absent: Absent) -> Self {
        Self {
            org,
            size: 0,
            absent,
            edge: Vec::new(),
            sealed: false,
        }
    }

    /// Takes the next record, whose payload is disclosed if it is `chosen`. Gives the leaf,
    /// and the record as far as it is disclosed whole.
    fn take(
        &mut self,
        index: u64,
        stored: StoredRecord,
        chosen: bool,
    ) -> Result<(Vec<u8>, Option<serde_json::Value>), AuditError> {
        let fault =
            |fault: &dyn ToString| corrupt(self.org, format!("leaf {index}"), fault.to_string());
        let StoredRecord {
            leaf: bytes,
            content,
        } = stored;
        let leaf = read_leaf(&bytes, self.org, index).map_err(|error| fault(&error))?;
        let head = leaf.sealed.clone();
        let disclosed = chosen || head.as_ref().is_some_and(|head| is_reason(&head.kind));
        let content = match content {
            Content::Opened(_) if !disclosed => Content::Withheld(Withheld::NotDisclosed),
            content => content,
        };
        let record = join(leaf, &content).map_err(|error| fault(&error))?;
        self.absent
            .take(index, head.as_ref(), &record)
            .map_err(|error| fault(&error))?;
        self.sealed |= head.is_some();
        self.edge.push(match content {
            Content::Opened(opening) => opening.to_bytes(),
            Content::Clear | Content::Withheld(_) => Vec::new(),
        });
        self.size = index + 1;
        let whole = match record {
            Record::Whole(whole) => Some(whole),
            Record::Withheld { .. } => None,
        };
        Ok((bytes, whole))
    }

    /// The file that the last record filled.
    fn full(&mut self) -> Result<Option<BundleFile>, AuditError> {
        if (self.edge.len() as u64) < TILE_WIDTH {
            return Ok(None);
        }
        self.file(Entries::new(self.size / TILE_WIDTH - 1, TILE_WIDTH))
    }

    /// The file of those that fill none.
    fn edge(&mut self) -> Result<Option<BundleFile>, AuditError> {
        self.file(Entries::edge(self.size))
    }

    fn file(&mut self, entries: Option<Entries>) -> Result<Option<BundleFile>, AuditError> {
        let edge = std::mem::take(&mut self.edge);
        let sealed = std::mem::take(&mut self.sealed);
        let Some(entries) = entries.filter(|_| sealed) else {
            return Ok(None);
        };
        let bytes = encode_entries(edge.iter().map(Vec::as_slice))
            .map_err(|error| entry_fault(self.org, entries.start(), &error))?;
        let path = path_of(entries);
        Ok(Some(BundleFile { path, bytes }))
    }
}
