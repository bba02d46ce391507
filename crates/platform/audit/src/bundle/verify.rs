//! Checking a bundle, offline and with public keys alone.

use std::collections::{BTreeMap, BTreeSet};

use creto_crypto::{Allowed, SignatureAlgorithm, sha256};
use creto_tlog::{Checkpoint, TILE_WIDTH};
use creto_types::LeafIndex;

use super::files::Files;
use super::filter::Filter;
use super::keys::{self, BundleKeys};
use super::manifest::{self, Manifest};
use super::payloads::Absent;
use super::{
    ATTACHMENTS, BundleReader, CHECKPOINT, Finding, KEYS, MANIFEST, Unread, is_attachment_name,
    leaves,
};
use crate::head::LineKey;

/// Whose keys a bundle is believed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The SHA-256 of `keys.json`, known from elsewhere: shows that this log is
    /// the one of that organization.
    Pinned(Vec<u8>),
    /// The keys in the bundle: shows that the bundle is whole and unchanged
    /// since somebody with these keys signed it, not who that was.
    BundleKeys,
}

/// What a bundle that verified says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The log.
    pub origin: String,
    /// Its size.
    pub size: u64,
    /// Its root.
    pub root: [u8; 32],
    /// The leaves that were checked: all.
    pub leaves: u64,
    /// The leaves of which nothing but the leaf was checked, because the record is not
    /// there.
    pub unread: Unread,
    /// What the records were chosen by whose payloads are in the bundle, when it was made
    /// of some only.
    pub filter: Option<BTreeMap<String, String>>,
    /// The signatures that verified, each with its algorithm and its key's id.
    pub signatures: Vec<String>,
    /// SHA-256 of `keys.json`, to compare with what is known from elsewhere.
    pub keys_digest: [u8; 32],
}

/// Judges a record by what it means; an error becomes a finding that names its leaf.
/// Where the record is not there, for a reason that the bundle gives, it is the leaf
/// alone, which has a `commitment` in the place of actor and body.
pub type LeafCheck<'a> = dyn FnMut(LeafIndex, &serde_json::Value) -> Result<(), String> + 'a;

/// Judges an attachment by its name, without `attachments/`, and its bytes.
pub type AttachmentCheck<'a> = dyn FnMut(&str, &[u8]) -> Result<(), String> + 'a;

/// Checks a whole bundle: that it has exactly the files its manifest lists, that
/// each is in its one encoding, every signature, every leaf and the tree over
/// them. Its keys have to be of algorithms that are `accepted`. `check_leaf` and
/// `check_attachment` (which gets the name without `attachments/`) add what leaves and
/// attachments mean.
///
/// All that is wrong is returned, what names its place most exactly first. Each file is
/// read once, when it is needed, so that what is hashed is what is checked; in memory are
/// the manifest, the digests of the files, and those that one file of entries goes with.
pub fn verify_bundle(
    reader: &dyn BundleReader,
    trust: &Trust,
    accepted: &Allowed<SignatureAlgorithm>,
    check_leaf: &mut LeafCheck<'_>,
    check_attachment: &mut AttachmentCheck<'_>,
) -> Result<VerifyReport, Vec<Finding>> {
    let mut check = Check::default();
    let mut files = check.list(reader);
    let keys = check.keys(&mut files, trust, accepted);
    let manifest = check.manifest(&mut files, keys.as_ref());
    let head = keys.as_ref().and_then(|keys| check.head(&mut files, keys));
    let (mut unread, mut filter) = (Unread::default(), None);
    if let (Some(keys), Some(head)) = (&keys, &head) {
        let listed = manifest.iter().flat_map(|(m, _)| m.digests.keys());
        let mut records = Records::of(files.paths().chain(listed));
        let about = manifest.as_ref().map(|(manifest, _)| &manifest.predicate);
        let scope = about.and_then(|about| about.payloads.clone());
        filter = scope.and_then(|scope| scope.filter);
        let absent = Absent::new(check.filter(filter.as_ref()));
        let checked = leaves::check(&mut files, keys.org, head, absent, &mut |index, leaf| {
            records.leaf(index, leaf);
            check_leaf(index, leaf)
        });
        check.records = records;
        // Leaves before everything that follows from them.
        check.exact.splice(0..0, checked.findings);
        check.unexpected(&files, head, &checked.payloads);
        let unexplained;
        (unread, unexplained) = checked.absent.explained();
        for (index, message) in unexplained {
            check.exact.push(Finding::leaf(index, message));
        }
    }
    check.attachments(&mut files, check_attachment);
    let listed = manifest.as_ref().map(|(manifest, _)| manifest);
    let keys_digest = check.finish(files, listed);
    let (Some((manifest, key_id)), Some(keys), Some(head)) = (
        manifest.and_then(|(manifest, key_id)| Some((manifest, key_id?))),
        keys,
        head,
    ) else {
        return Err(check.findings());
    };
    check.about(&manifest, &keys, &head);
    if !check.exact.is_empty() || !check.whole_files.is_empty() {
        return Err(check.findings());
    }
    let signed = |place: &str, algorithm: SignatureAlgorithm, id: &str| {
        format!("{place} ({algorithm}, {id})")
    };
    let line = |key: &LineKey| {
        let id = format!("{:08x}", key.name.id());
        signed(key.place, key.algorithm(), &id)
    };
    let [ed25519, composite] = keys.head.lines().map(line);
    let evidence = signed(
        manifest::SIGNATURE_PLACE,
        keys.evidence.algorithm(),
        &key_id,
    );
    Ok(VerifyReport {
        origin: head.origin,
        size: head.size,
        root: *head.root.as_bytes(),
        leaves: head.size,
        unread,
        filter,
        signatures: vec![ed25519, composite, evidence],
        keys_digest,
    })
}

/// The leaves that record attachments: an attachment is named by the id of what
/// its leaf is about, or by its digest.
#[derive(Default)]
struct Records(BTreeMap<String, Option<LeafIndex>>);

impl Records {
    fn of<'a>(paths: impl Iterator<Item = &'a String>) -> Self {
        let ids = paths.filter_map(|path| Self::id(path));
        Self(ids.map(|id| (id.to_owned(), None)).collect())
    }

    fn id(path: &str) -> Option<&str> {
        let name = path.strip_prefix(ATTACHMENTS)?.rsplit('/').next()?;
        Some(name.split_once('.').map_or(name, |(id, _)| id))
    }

    fn leaf(&mut self, index: LeafIndex, leaf: &serde_json::Value) {
        for field in ["/body/id", "/body/digest"] {
            let id = leaf.pointer(field).and_then(serde_json::Value::as_str);
            if let Some(record) = id.and_then(|id| self.0.get_mut(id)) {
                record.get_or_insert(index);
            }
        }
    }

    fn of_attachment(&self, path: &str) -> Option<LeafIndex> {
        *self.0.get(Self::id(path)?)?
    }
}

#[derive(Default)]
struct Check {
    records: Records,
    /// Findings that say which leaf, signature or line.
    exact: Vec<Finding>,
    /// Findings that only say which file.
    whole_files: Vec<Finding>,
}

impl Check {
    fn findings(mut self) -> Vec<Finding> {
        if self.exact.is_empty() && self.whole_files.is_empty() {
            // Every way here has left a finding; a bundle never fails silently
            // and never passes by mistake.
            self.exact
                .push(Finding::new(MANIFEST, "the bundle cannot be checked"));
        }
        self.exact.append(&mut self.whole_files);
        for finding in &mut self.exact {
            if let Some(leaf) = self.records.of_attachment(&finding.place) {
                finding
                    .message
                    .push_str(&format!("; its record is leaf {leaf}"));
            }
        }
        self.exact
    }

    /// Says which signatures nothing can be said about.
    fn unchecked(&mut self, places: &[&str], why: &str) {
        for place in places {
            self.exact(place, format!("it cannot be checked: {why}"));
        }
    }

    fn exact(&mut self, place: impl ToString, message: impl ToString) {
        self.exact.push(Finding::new(place, message));
    }

    fn file(&mut self, path: impl ToString, message: impl ToString) {
        self.whole_files.push(Finding::new(path, message));
    }

    fn list<'a>(&mut self, reader: &'a dyn BundleReader) -> Files<'a> {
        let (files, fault) = Files::list(reader);
        if let Some(error) = fault {
            self.exact(".", format!("the bundle cannot be listed: {error}"));
        }
        files
    }

    fn keys(
        &mut self,
        files: &mut Files<'_>,
        trust: &Trust,
        accepted: &Allowed<SignatureAlgorithm>,
    ) -> Option<BundleKeys> {
        let Some(bytes) = files.take(KEYS) else {
            self.file(KEYS, "the file is missing");
            self.unchecked(&keys::PLACES, "keys.json is missing");
            return None;
        };
        if let Trust::Pinned(expected) = trust
            && expected.as_slice() != sha256(&bytes)
        {
            let message = format!(
                "these are not the pinned keys: its SHA-256 is {}",
                manifest::digest(&bytes)
            );
            self.exact(KEYS, message);
        }
        match keys::parse(&bytes, accepted) {
            Ok(keys) => Some(keys),
            Err(message) => {
                self.exact(KEYS, message);
                self.unchecked(&keys::PLACES, "keys.json cannot be used");
                None
            }
        }
    }

    fn manifest(
        &mut self,
        files: &mut Files<'_>,
        keys: Option<&BundleKeys>,
    ) -> Option<(Manifest, Option<String>)> {
        let Some(bytes) = files.take(MANIFEST) else {
            self.file(MANIFEST, "the file is missing");
            self.unchecked(&[manifest::SIGNATURE_PLACE], "the manifest is missing");
            return None;
        };
        let manifest = match manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(finding) => {
                self.exact.push(finding);
                self.unchecked(
                    &[manifest::SIGNATURE_PLACE],
                    "the manifest is not what was signed",
                );
                return None;
            }
        };
        let key_id = keys.and_then(|keys| match manifest.verify(&keys.evidence) {
            Ok(key_id) => Some(key_id),
            Err(finding) => {
                self.exact.push(finding);
                None
            }
        });
        Some((manifest, key_id))
    }

    /// What the payloads were chosen by. One that cannot be used is said to be so, once.
    fn filter(&mut self, named: Option<&BTreeMap<String, String>>) -> Option<Filter> {
        Some(Filter::read(named?).unwrap_or_else(|message| {
            self.exact(MANIFEST, message);
            Filter::default()
        }))
    }

    fn head(&mut self, files: &mut Files<'_>, keys: &BundleKeys) -> Option<Checkpoint> {
        let Some(bytes) = files.take(CHECKPOINT) else {
            self.file(CHECKPOINT, "the file is missing");
            return None;
        };
        let (head, mut findings) = keys.head.check(&bytes);
        self.exact.append(&mut findings);
        let head = head?;
        // A size that the files cannot hold is not worth walking through.
        let bundles = files
            .paths()
            .filter(|path| path.starts_with("tile/entries/"))
            .count() as u64;
        if head.size.div_ceil(TILE_WIDTH) > bundles {
            let message = format!(
                "it covers {} leaves, the bundle has {bundles} files of entries",
                head.size
            );
            self.exact(CHECKPOINT, message);
            return None;
        }
        Some(head)
    }

    /// A bundle has no file besides those of its log and its attachments.
    fn unexpected(&mut self, files: &Files<'_>, head: &Checkpoint, payloads: &BTreeSet<String>) {
        let mut expected = leaves::paths(head.size);
        expected.extend(payloads.iter().cloned());
        for path in &expected {
            if !files.contains(path) {
                self.file(path, "the file is missing");
            }
        }
        expected.extend([CHECKPOINT, KEYS, MANIFEST].map(str::to_owned));
        for path in files.paths() {
            if !expected.contains(path) && !path.starts_with(ATTACHMENTS) {
                self.file(path, "a bundle of this log has no such file");
            }
        }
    }

    fn attachments(&mut self, files: &mut Files<'_>, check_attachment: &mut AttachmentCheck<'_>) {
        let paths = files.paths().filter(|path| path.starts_with(ATTACHMENTS));
        let paths: Vec<String> = paths.cloned().collect();
        for path in paths {
            let name = path.strip_prefix(ATTACHMENTS).unwrap_or_default();
            if !is_attachment_name(name) {
                self.file(&path, "it is not a name of an attachment");
            } else if let Some(bytes) = files.take(&path)
                && let Err(message) = check_attachment(name, &bytes)
            {
                self.exact(&path, message);
            }
        }
    }

    /// Every file can be read and is listed, every listed file is there, and they are equal.
    /// Gives the digest of `keys.json`.
    fn finish(&mut self, files: Files<'_>, manifest: Option<&Manifest>) -> [u8; 32] {
        let (digests, unreadable) = files.finish();
        let others = std::mem::replace(&mut self.whole_files, unreadable);
        for (path, expected) in manifest.iter().flat_map(|manifest| &manifest.digests) {
            match digests.get(path) {
                Some(digest) if hex::encode(digest) == *expected => {}
                Some(_) => self.file(path, "its SHA-256 is not the one in the manifest"),
                None => self.file(path, "the file is missing"),
            }
        }
        if let Some(manifest) = manifest {
            for path in digests.keys() {
                if path != MANIFEST && !manifest.digests.contains_key(path) {
                    self.file(path, "the manifest does not list it");
                }
            }
        }
        self.whole_files.extend(others);
        digests.get(KEYS).copied().unwrap_or_default()
    }

    /// Manifest, keys and checkpoint are about the same log.
    fn about(&mut self, manifest: &Manifest, keys: &BundleKeys, head: &Checkpoint) {
        let about = &manifest.predicate;
        let same = about.org == keys.org
            && about.origin == keys.head.origin()
            && about.size == head.size
            && about.root == hex::encode(head.root.as_bytes());
        if !same {
            self.exact(MANIFEST, "it is about another log or another checkpoint");
        }
    }
}
