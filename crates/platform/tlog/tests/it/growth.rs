//! Tiles as a tree grows: what is emitted, and going on after a restart.

use std::collections::BTreeMap;

use creto_tlog::{Entries, Frontier, ProofPlan, Resource, Tile, TileError, TileSet};
use proptest::prelude::*;

use crate::vectors::grow;
use crate::{HASHER, leaves, naive};

/// The example of tlog-tiles, section "Partial Tiles".
#[test]
fn seventy_thousand_leaves_have_the_tiles_of_the_specification() {
    let count = |level, width| {
        Tile::all(70_000)
            .filter(|tile| tile.level() == level && tile.width() == width)
            .count()
    };
    assert_eq!(count(0, 256), 273);
    assert_eq!(count(0, 112), 1);
    assert_eq!(count(1, 256), 1);
    assert_eq!(count(1, 17), 1);
    assert_eq!(count(2, 1), 1);
    assert_eq!(Tile::all(70_000).count(), 277);
    let of_256: Vec<String> = Tile::all(256).map(|tile| tile.to_string()).collect();
    assert_eq!(of_256, ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(Entries::all(70_000).count(), 274);
    assert_eq!(Tile::all(0).count(), 0);
}

#[test]
fn a_tree_over_three_tile_levels() {
    let leaves = leaves(70_000);
    let (frontier, tiles) = grow(&leaves);
    let root = naive::mth(&leaves);
    assert_eq!(frontier.root(), root);
    for index in [0, 255, 256, 65_535, 65_536, 69_887, 69_999] {
        let plan = ProofPlan::inclusion(index, 70_000).unwrap();
        assert!(plan.tiles().len() <= 5, "{:?}", plan.tiles());
        let proof = plan.resolve(HASHER, &tiles).unwrap();
        assert_eq!(proof, naive::path(index as usize, &leaves));
    }
    for old in [1, 256, 257, 65_536, 65_537, 69_999] {
        let plan = ProofPlan::consistency(old, 70_000).unwrap();
        let proof = plan.resolve(HASHER, &tiles).unwrap();
        assert_eq!(proof, naive::proof(old as usize, &leaves));
    }
}

#[test]
fn a_missing_or_short_tile_is_named() {
    let plan = ProofPlan::inclusion(3, 300).unwrap();
    let (_, full) = grow(&leaves(300));
    let tile = Tile::new(0, 0, 256).unwrap();
    let error = plan.resolve(HASHER, &TileSet::new()).unwrap_err();
    assert_eq!(error, TileError::Missing(tile));
    assert!(plan.resolve(HASHER, &full).is_ok());
    let error = TileSet::new().insert(tile, &[0; 100]).unwrap_err();
    assert!(matches!(error, TileError::WrongSize { len: 100, .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Growing in steps with a restart between them gives the same tiles as
    /// growing at once; the tiles are exactly those of the specification.
    #[test]
    fn restarts_do_not_show(steps in prop::collection::vec(0_u64..400, 1..6)) {
        let leaves = leaves(steps.iter().sum());
        let mut stored: BTreeMap<Resource, Vec<u8>> = BTreeMap::new();
        let mut size = 0_u64;
        for step in steps {
            let mut edge = TileSet::new();
            for tile in Tile::edge(size) {
                edge.insert(tile, &stored[&Resource::Tile(tile)]).unwrap();
            }
            let mut frontier = Frontier::resume(HASHER, size, &edge).unwrap();
            for leaf in &leaves[size as usize..(size + step) as usize] {
                for (tile, bytes) in frontier.push(*leaf) {
                    prop_assert!(stored.insert(Resource::Tile(tile), bytes).is_none());
                }
            }
            size += step;
            prop_assert_eq!(frontier.size(), size);
            for (tile, bytes) in frontier.partial_tiles() {
                stored.insert(Resource::Tile(tile), bytes);
            }
            prop_assert_eq!(frontier.root(), naive::mth(&leaves[..size as usize]));
            let mut all = TileSet::new();
            for tile in Tile::all(size) {
                all.insert(tile, &stored[&Resource::Tile(tile)]).unwrap();
            }
            let root = ProofPlan::root(size).resolve(HASHER, &all).unwrap();
            prop_assert_eq!(root, vec![frontier.root()]);
        }
    }
}
