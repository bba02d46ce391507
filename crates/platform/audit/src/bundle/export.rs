//! Making a bundle.

use std::collections::{BTreeMap, BTreeSet};

use creto_tlog::{Entries, TILE_WIDTH, encode_entries};
use creto_types::{OrgId, Timestamp};

use super::filter::Filter;
use super::payloads::{Absent, Scope, is_reason, path_of};
use super::{ATTACHMENTS, CHECKPOINT, KEYS, MANIFEST, is_attachment_name, keys, manifest};
use crate::error::{corrupt, entry_fault};
use crate::payload::join;
use crate::record::read_leaf;
use crate::signing::Signing;
use crate::tree::LogTree;
use crate::{AuditError, Checkpointed, Content, Journal, Record, StoredRecord, Withheld};

/// Leaves read from the journal at a time.
const CHUNK: usize = 512;

/// What a bundle is made of.
pub(crate) struct Source<'a> {
    pub(crate) org: OrgId,
    pub(crate) journal: &'a dyn Journal,
    pub(crate) signing: &'a Signing,
    pub(crate) head: Checkpointed,
    pub(crate) at: Timestamp,
    /// Which payloads are disclosed; all when absent.
    pub(crate) only: Option<Only<'a>>,
}

/// The name of the attachment that a record refers to.
pub(crate) type Refers<'a> = &'a (dyn Fn(&serde_json::Value) -> Option<String> + Send + Sync);

/// What is disclosed of a log when not all is.
pub(crate) struct Only<'a> {
    /// The leaves whose payloads are.
    pub(crate) leaves: BTreeSet<u64>,
    /// What they were chosen by: names and values of a search.
    pub(crate) filter: BTreeMap<String, String>,
    /// Attachments come along with the records that refer to them.
    pub(crate) refers: Refers<'a>,
}

/// What a bundle is made of once the leaves were read.
type Files = BTreeMap<String, Vec<u8>>;

/// The bundle, made from the journal: it is whole whatever happens to the
/// published files meanwhile, and is compared with the signed root. None when a payload
/// went meanwhile, for a reason that lies behind the checkpoint.
pub(crate) async fn export(
    source: Source<'_>,
    attachments: Vec<(String, Vec<u8>)>,
) -> Result<Option<Files>, AuditError> {
    let org = source.org;
    let mut files = Files::new();
    for (name, bytes) in attachments {
        let path = format!("{ATTACHMENTS}{name}");
        if !is_attachment_name(&name) || files.insert(path, bytes).is_some() {
            return Err(AuditError::AttachmentName { name });
        }
    }
    let mut tree = LogTree::new(org);
    let mut payloads = Payloads::new(&source)?;
    while tree.size() < source.head.size {
        let left = usize::try_from(source.head.size - tree.size()).unwrap_or(CHUNK);
        let leaves = source
            .journal
            .records(org, tree.size(), left.min(CHUNK))
            .await?;
        if leaves.is_empty() {
            let place = format!("leaf {}", tree.size());
            return Err(corrupt(org, place, "the journal does not have it"));
        }
        for stored in leaves {
            payloads.take(tree.size(), &stored, &mut files)?;
            for file in tree.push(stored.leaf)? {
                files.insert(file.resource.to_string(), file.bytes);
            }
        }
    }
    for file in tree.partials()? {
        files.insert(file.resource.to_string(), file.bytes);
    }
    if *tree.root().as_bytes() != source.head.root {
        let detail = "the journal does not lead to the root that was signed";
        return Err(corrupt(org, CHECKPOINT, detail));
    }
    payloads.finish(&mut files)?;
    if source.only.is_some() {
        let named = &payloads.referred;
        files.retain(|path, _| {
            let attachment = path.strip_prefix(ATTACHMENTS);
            attachment.is_none_or(|name| named.contains(name))
        });
    }
    let (_, unexplained) = payloads.absent.explained();
    if !unexplained.is_empty() {
        return Ok(None);
    }
    let (names, keys) = (source.signing.names(), source.signing.keys());
    let predicate = manifest::Predicate {
        org,
        origin: names.origin().to_owned(),
        size: source.head.size,
        root: hex::encode(source.head.root),
        exported_at: source.at,
        payloads: Some(Scope {
            filter: source.only.as_ref().map(|only| only.filter.clone()),
        }),
    };
    let checkpoint = source.signing.in_force(org, &source.head.note)?;
    files.insert(CHECKPOINT.to_owned(), checkpoint);
    files.insert(KEYS.to_owned(), keys::encode(org, names, keys));
    let manifest = manifest::sign(&files, predicate, &*keys.evidence)?;
    files.insert(MANIFEST.to_owned(), manifest);
    Ok(Some(files))
}

/// The payloads beside the entries.
struct Payloads<'a> {
    org: OrgId,
    only: Option<&'a Only<'a>>,
    /// The attachments that disclosed records refer to, when not all are disclosed.
    referred: BTreeSet<String>,
    size: u64,
    absent: Absent,
    /// Of the entries that make one file.
    edge: Vec<Vec<u8>>,
    /// Whether one of those commits to a payload.
    sealed: bool,
}

impl<'a> Payloads<'a> {
    fn new(source: &'a Source<'_>) -> Result<Self, AuditError> {
        let filter = source.only.as_ref().map(|only| Filter::read(&only.filter));
        let filter = filter.transpose();
        let filter = filter.map_err(|fault| corrupt(source.org, MANIFEST, fault))?;
        Ok(Self {
            org: source.org,
            only: source.only.as_ref(),
            referred: BTreeSet::new(),
            size: 0,
            absent: Absent::new(filter),
            edge: Vec::new(),
            sealed: false,
        })
    }

    fn take(
        &mut self,
        index: u64,
        stored: &StoredRecord,
        files: &mut Files,
    ) -> Result<(), AuditError> {
        let fault =
            |fault: &dyn ToString| corrupt(self.org, format!("leaf {index}"), fault.to_string());
        let leaf = read_leaf(&stored.leaf, self.org, index).map_err(|error| fault(&error))?;
        let head = leaf.sealed.clone();
        let disclosed = self.only.is_none_or(|only| only.leaves.contains(&index))
            || head.as_ref().is_some_and(|head| is_reason(&head.kind));
        let content = match &stored.content {
            Content::Opened(_) if !disclosed => Content::Withheld(Withheld::NotDisclosed),
            content => content.clone(),
        };
        let record = join(leaf, &content).map_err(|error| fault(&error))?;
        self.absent
            .take(index, head.as_ref(), &record)
            .map_err(|error| fault(&error))?;
        if let (Some(only), Record::Whole(whole)) = (self.only, &record) {
            self.referred.extend((only.refers)(whole));
        }
        self.sealed |= head.is_some();
        self.edge.push(match content {
            Content::Opened(opening) => opening.to_bytes(),
            Content::Clear | Content::Withheld(_) => Vec::new(),
        });
        self.size = index + 1;
        if self.edge.len() as u64 == TILE_WIDTH {
            self.file(Entries::new(index / TILE_WIDTH, TILE_WIDTH), files)?;
        }
        Ok(())
    }

    fn finish(&mut self, files: &mut Files) -> Result<(), AuditError> {
        self.file(Entries::edge(self.size), files)
    }

    fn file(&mut self, entries: Option<Entries>, files: &mut Files) -> Result<(), AuditError> {
        let (edge, sealed) = (std::mem::take(&mut self.edge), self.sealed);
        self.sealed = false;
        if let Some(entries) = entries.filter(|_| sealed) {
            let bytes = encode_entries(edge.iter().map(Vec::as_slice))
                .map_err(|error| entry_fault(self.org, entries.start(), &error))?;
            files.insert(path_of(entries), bytes);
        }
        Ok(())
    }
}
