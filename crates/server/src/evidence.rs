//! Verifying an evidence bundle, offline.

use std::cell::RefCell;
use std::path::Path;

use creto_audit::{DirectoryBundle, Finding, Trust, VerifyReport, verify_bundle};
use creto_crypto::AllowedAlgorithms;
use creto_governor::RecordChecker;

/// What was found out about a bundle that holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The log and its records.
    pub report: VerifyReport,
    /// Records and files that could not be judged, because a record they lean on is not
    /// there.
    pub unchecked: u64,
}

/// Checks a bundle directory with public keys alone: the manifest, both
/// signatures of the checkpoint, every leaf against the tree, every delegation's
/// signature, and that invoices add up to the settlements they point to. Keys and signatures
/// are of algorithms that `lists` read.
pub fn verify(
    directory: &Path,
    trust: &Trust,
    lists: AllowedAlgorithms,
) -> Result<Verified, Vec<Finding>> {
    let accepted = lists.signature.clone();
    let checker = RefCell::new(RecordChecker::reading(lists));
    let report = verify_bundle(
        &DirectoryBundle(directory.to_owned()),
        trust,
        &accepted,
        &mut |leaf, record| checker.borrow_mut().leaf(leaf, record),
        &mut |path, bytes| checker.borrow_mut().attachment(path, bytes),
    )?;
    let checker = checker.into_inner();
    let unchecked = checker.unchecked();
    let missing: Vec<Finding> = checker
        .missing()
        .into_iter()
        .map(|(place, message)| Finding { place, message })
        .collect();
    if missing.is_empty() {
        Ok(Verified { report, unchecked })
    } else {
        Err(missing)
    }
}
