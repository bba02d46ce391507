//! How a bundle is read: each file once, when it is needed.

use std::cell::RefCell;
use std::io;

use creto_audit::conformance::org;
use creto_audit::{BundleReader, Finding, Trust, VerifyReport, verify_bundle};

use crate::World;
use crate::bundle::{Files, accepted, whole};

/// Notes what is read.
struct Noting {
    files: Files,
    read: RefCell<Vec<String>>,
}

impl BundleReader for Noting {
    fn paths(&self) -> io::Result<Vec<String>> {
        self.files.paths()
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.read.borrow_mut().push(path.to_owned());
        self.files.read(path)
    }
}

impl Noting {
    fn new(files: Files) -> Self {
        Self {
            files,
            read: RefCell::default(),
        }
    }

    fn entries(&self) -> u64 {
        let read = self.read.borrow();
        let entries = read.iter().filter(|path| path.starts_with("tile/entries/"));
        entries.count() as u64
    }

    /// Verifies; no leaf is judged after a file of entries that comes later was read.
    fn verify(&self) -> Result<VerifyReport, Vec<Finding>> {
        verify_bundle(
            self,
            &Trust::BundleKeys,
            &accepted(),
            &mut |leaf, _| {
                assert!(self.entries() <= leaf.0 / 256 + 1, "{leaf}");
                Ok(())
            },
            &mut |name, _| {
                let last = self.read.borrow().last().cloned();
                assert_eq!(last, Some(format!("attachments/{name}")));
                Ok(())
            },
        )
    }

    fn expect_each_once(&self, what: &str) {
        let mut read = self.read.borrow().clone();
        read.sort();
        let files: Vec<String> = self.files.keys().cloned().collect();
        assert_eq!(read, files, "{what}");
    }
}

async fn bundle() -> Files {
    let world = World::new();
    world.commit(org(1), 700).await;
    let audit = world.open().await.unwrap();
    let attached = |name: &str| (name.to_owned(), b"x".to_vec());
    whole(&audit, vec![attached("one"), attached("two")])
        .await
        .unwrap()
}

#[tokio::test]
async fn every_file_is_read_once_and_no_sooner_than_it_is_needed() {
    let noting = Noting::new(bundle().await);
    assert_eq!(noting.verify().unwrap().size, 700);
    noting.expect_each_once("whole");
}

/// Also what nobody needs any more is hashed, whatever is wrong with the rest.
#[tokio::test]
async fn every_file_is_read_once_whatever_is_wrong() {
    let files = bundle().await;
    for path in files.keys() {
        for change in ["gone", "cut", "other"] {
            let mut files = files.clone();
            match change {
                "gone" => drop(files.remove(path)),
                "cut" => files.get_mut(path).unwrap().truncate(1),
                _ => *files.get_mut(path).unwrap().first_mut().unwrap() ^= 1,
            }
            files.insert("README".to_owned(), b"x".to_vec());
            files.insert("attachments/.hidden".to_owned(), b"x".to_vec());
            let noting = Noting::new(files);
            noting.verify().unwrap_err();
            noting.expect_each_once(&format!("{path} {change}"));
        }
    }
}
