//! Verifying an evidence bundle, offline.

use std::cell::RefCell;
use std::path::Path;

use creto_audit::{DirectoryBundle, Finding, Trust, VerifyReport, verify_bundle};
use creto_governor::RecordChecker;

/// Checks a bundle directory with public keys alone: the manifest, both
/// signatures of the checkpoint, every leaf against the tree, every delegation's
/// signature, and that invoices add up to the settlements they point to.
pub fn verify(directory: &Path, trust: &Trust) -> Result<VerifyReport, Vec<Finding>> {
    let checker = RefCell::new(RecordChecker::new());
    let report = verify_bundle(
        &DirectoryBundle(directory.to_owned()),
        trust,
        &mut |leaf, record| checker.borrow_mut().leaf(leaf, record),
        &mut |path, bytes| checker.borrow_mut().attachment(path, bytes),
    )?;
    let missing: Vec<Finding> = checker
        .into_inner()
        .missing()
        .into_iter()
        .map(|(place, message)| Finding { place, message })
        .collect();
    if missing.is_empty() {
        Ok(report)
    } else {
        Err(missing)
    }
}
