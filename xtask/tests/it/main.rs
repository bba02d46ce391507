//! The checks, on trees that break their rules and on this one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod layers;
mod tidy;

use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn report(findings: &[xtask::Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}
