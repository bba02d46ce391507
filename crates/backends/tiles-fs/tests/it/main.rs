//! Files on disk, by the port's contract and by what a crash may leave.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::sync::Arc;

use creto_audit::{TileStore as _, WitnessStore as _, conformance};
use creto_tiles_fs::{FsTiles, FsWitness, KeptFile};
use creto_types::StoreError;

#[tokio::test]
async fn keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let tiles = FsTiles::open(&dir.path().join("log/of/all")).unwrap();
    conformance::tiles_are_kept(&tiles).await;
    drop(tiles);
    let tiles = FsTiles::open(&dir.path().join("log/of/all")).unwrap();
    let found = tiles.get(conformance::org(1), "checkpoint").await.unwrap();
    assert_eq!(found.as_deref(), Some(&b"three"[..]));
}

#[tokio::test]
async fn files_lie_where_a_static_server_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let tiles = FsTiles::open(dir.path()).unwrap();
    let org = conformance::org(1);
    tiles
        .put(org, "tile/0/x001/234.p/7", vec![7])
        .await
        .unwrap();
    let path = dir.path().join(org.to_string()).join("tile/0/x001/234.p/7");
    assert_eq!(fs::read(path).unwrap(), [7]);
}

#[tokio::test]
async fn nothing_outside_the_organization_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::write(dir.path().join("secret"), "secret").unwrap();
    let tiles = FsTiles::open(&root).unwrap();
    let org = conformance::org(1);
    for path in [
        "../../secret",
        "/etc/hostname",
        "tile/../../../secret",
        "",
        ".",
        "..",
        "tile//0",
        "tile/",
        "tile/0\\..\\secret",
        "tile/\0",
        ".hidden",
        "tile/...",
    ] {
        let refused = |outcome: Result<(), StoreError>| {
            assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{path}");
        };
        refused(tiles.get(org, path).await.map(|_| ()));
        refused(tiles.put(org, path, vec![]).await);
    }
    assert!(tiles.remove_partials(org, "..").await.is_err());
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    drop(FsTiles::open(dir.path()).unwrap());
    fs::write(dir.path().join(".tmp/0"), "half").unwrap();
    let tiles = FsTiles::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
    let org = conformance::org(1);
    tiles.put(org, "checkpoint", vec![1]).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
}

/// A reader beside a writer sees whole files only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let tiles = Arc::new(FsTiles::open(dir.path()).unwrap());
    let org = conformance::org(1);
    tiles.put(org, "checkpoint", vec![0; 50_000]).await.unwrap();
    let writer = {
        let tiles = Arc::clone(&tiles);
        tokio::spawn(async move {
            for n in 1..30_u8 {
                tiles.put(org, "checkpoint", vec![n; 50_000]).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let bytes = tiles.get(org, "checkpoint").await.unwrap().unwrap();
        assert_eq!(bytes.len(), 50_000);
        assert!(bytes.iter().all(|b| Some(b) == bytes.first()));
    }
    writer.await.unwrap();
}

/// A failed write leaves what was there.
#[tokio::test]
async fn a_failed_write_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tiles = FsTiles::open(dir.path()).unwrap();
    let org = conformance::org(1);
    tiles.put(org, "tile/0/000", vec![1]).await.unwrap();
    // A file where a directory would have to be.
    assert!(tiles.put(org, "tile/0/000/1", vec![2]).await.is_err());
    assert_eq!(tiles.get(org, "tile/0/000").await.unwrap(), Some(vec![1]));
    assert_eq!(fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_witness_remembers_one_checkpoint_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("witness");
    let store = FsWitness::open(&root).unwrap();
    for (origin, text) in [
        ("log.example/a", "one"),
        ("../b", "two"),
        ("log.example/a", "three"),
    ] {
        store.put(origin, text.as_bytes().to_vec()).await.unwrap();
    }
    // A second process would sign what the first does not know.
    assert!(matches!(
        FsWitness::open(&root),
        Err(StoreError::InUse { .. })
    ));
    drop(store);
    fs::write(root.join(".tmp/7"), "half").unwrap();
    let store = FsWitness::open(&root).unwrap();
    for (origin, expected) in [
        ("log.example/a", Some("three")),
        ("../b", Some("two")),
        ("c", None),
    ] {
        let found = store.get(origin).await.unwrap();
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{origin}");
    }
    for origin in [String::new(), "x".repeat(121)] {
        assert!(store.put(&origin, Vec::new()).await.is_err());
        assert!(store.get(&origin).await.is_err());
    }
    assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing beside it"
    );
}

#[test]
fn a_kept_file_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seen.json");
    let file = KeptFile::new(&path);
    assert_eq!(file.get().unwrap(), None);
    file.settle().unwrap();
    for text in [&b"one"[..], b"", b"three"] {
        file.put(text).unwrap();
        file.settle().unwrap();
        assert_eq!(file.get().unwrap().as_deref(), Some(text));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // What cannot be written leaves what was there.
    assert!(KeptFile::new(&path.join("below")).put(b"x").is_err());
    assert_eq!(file.get().unwrap().as_deref(), Some(&b"three"[..]));
}
