//! Making a bundle.

use std::collections::BTreeMap;

use creto_types::{OrgId, Timestamp};

use super::{ATTACHMENTS, CHECKPOINT, KEYS, MANIFEST, is_attachment_name, keys, manifest};
use crate::error::corrupt;
use crate::head::HeadKeys;
use crate::tree::LogTree;
use crate::{AuditError, Checkpointed, Journal, LogKeys};

/// Leaves read from the journal at a time.
const CHUNK: usize = 512;

/// What a bundle is made of.
pub(crate) struct Source<'a> {
    pub(crate) org: OrgId,
    pub(crate) journal: &'a dyn Journal,
    pub(crate) keys: &'a LogKeys,
    pub(crate) names: &'a HeadKeys,
    pub(crate) head: Checkpointed,
    pub(crate) at: Timestamp,
}

/// The bundle, made from the journal: it is whole whatever happens to the
/// published files meanwhile, and is compared with the signed root.
pub(crate) async fn export(
    source: Source<'_>,
    attachments: Vec<(String, Vec<u8>)>,
) -> Result<BTreeMap<String, Vec<u8>>, AuditError> {
    let org = source.org;
    let mut files = BTreeMap::new();
    for (name, bytes) in attachments {
        let path = format!("{ATTACHMENTS}{name}");
        if !is_attachment_name(&name) || files.insert(path, bytes).is_some() {
            return Err(AuditError::AttachmentName { name });
        }
    }
    let mut tree = LogTree::new(org);
    while tree.size() < source.head.size {
        let left = usize::try_from(source.head.size - tree.size()).unwrap_or(CHUNK);
        let leaves = source
            .journal
            .read(org, tree.size(), left.min(CHUNK))
            .await?;
        if leaves.is_empty() {
            let place = format!("leaf {}", tree.size());
            return Err(corrupt(org, place, "the journal does not have it"));
        }
        for leaf in leaves {
            for file in tree.push(leaf)? {
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
    let predicate = manifest::Predicate {
        org,
        origin: source.names.origin().to_owned(),
        size: source.head.size,
        root: hex::encode(source.head.root),
        exported_at: source.at,
    };
    files.insert(CHECKPOINT.to_owned(), source.head.note);
    files.insert(
        KEYS.to_owned(),
        keys::encode(org, source.names, source.keys),
    );
    let manifest = manifest::sign(&files, predicate, &*source.keys.evidence)?;
    files.insert(MANIFEST.to_owned(), manifest);
    Ok(files)
}
