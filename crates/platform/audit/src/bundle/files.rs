//! The files of a bundle that is checked.

use std::collections::BTreeMap;
use std::io;

use creto_crypto::sha256;

use super::{BundleReader, Finding};

/// Gives each file once, so that what is hashed is what is checked, and keeps its digest.
pub(crate) struct Files<'a> {
    reader: &'a dyn BundleReader,
    /// Of each file its SHA-256, once it was read.
    digests: BTreeMap<String, Option<[u8; 32]>>,
    unreadable: Vec<Finding>,
}

impl<'a> Files<'a> {
    /// Those that there are, and why they cannot be told.
    pub(crate) fn list(reader: &'a dyn BundleReader) -> (Self, Option<io::Error>) {
        let (paths, fault) = match reader.paths() {
            Ok(paths) => (paths, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let files = Self {
            reader,
            digests: paths.into_iter().map(|path| (path, None)).collect(),
            unreadable: Vec::new(),
        };
        (files, fault)
    }

    /// The bytes of a file; none when it is not there, cannot be read, or was taken before.
    pub(crate) fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        let digest = self.digests.get_mut(path)?;
        if digest.is_some() {
            return None;
        }
        match self.reader.read(path) {
            Ok(bytes) => {
                *digest = Some(sha256(&bytes));
                Some(bytes)
            }
            Err(error) => {
                self.digests.remove(path);
                let message = format!("it cannot be read: {error}");
                self.unreadable.push(Finding::new(path, message));
                None
            }
        }
    }

    /// Whether there is such a file, as far as is known.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.digests.contains_key(path)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.digests.keys()
    }

    /// Reads what nobody took. Gives the digest of every file that can be read, and says
    /// which cannot.
    pub(crate) fn finish(mut self) -> (BTreeMap<String, [u8; 32]>, Vec<Finding>) {
        let untaken = self.digests.iter().filter(|(_, digest)| digest.is_none());
        let untaken: Vec<String> = untaken.map(|(path, _)| path.clone()).collect();
        for path in untaken {
            self.take(&path);
        }
        let digests = self.digests.into_iter();
        let digests = digests.filter_map(|(path, digest)| Some((path, digest?)));
        self.unreadable.sort_by(|a, b| a.place.cmp(&b.place));
        (digests.collect(), self.unreadable)
    }
}
