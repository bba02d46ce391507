//! Where a bundle's files come from.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a bundle by their relative paths, with `/` between the parts.
pub trait BundleReader {
    /// Every file there is.
    fn paths(&self) -> io::Result<Vec<String>>;

    /// A file's bytes.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
}

impl BundleReader for BTreeMap<String, Vec<u8>> {
    fn paths(&self) -> io::Result<Vec<String>> {
        Ok(self.keys().cloned().collect())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.get(path)
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// A bundle in a directory. Whatever in it is neither a directory nor a regular
/// file is a file that cannot be read.
#[derive(Clone, Debug)]
pub struct DirectoryBundle(pub PathBuf);

impl BundleReader for DirectoryBundle {
    fn paths(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let mut directories = vec![(self.0.clone(), String::new())];
        while let Some((directory, prefix)) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                // Another encoding keeps a visible, unreadable name.
                let path = format!("{prefix}{}", name.to_string_lossy());
                if entry.file_type()?.is_dir() {
                    directories.push((entry.path(), format!("{path}/")));
                } else {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file: PathBuf = self.0.join(Path::new(path));
        if fs::symlink_metadata(&file)?.is_file() {
            fs::read(file)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ))
        }
    }
}
