//! The dependency rule.

use std::path::Path;

use xtask::layers;

use crate::{report, repository};

#[test]
fn this_tree_is_legal() {
    let findings = layers::check(&repository()).unwrap();
    assert_eq!(report(&findings), [""; 0]);
}

#[test]
fn every_illegal_edge_is_found_and_no_legal_one() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/illegal");
    let findings = layers::check(&fixture).unwrap();
    let expected = include_str!("../fixtures/illegal.expected");
    assert_eq!(report(&findings), expected.lines().collect::<Vec<_>>());
}
