//! Following a log from outside: what is well, and what raises an alarm.

use std::collections::BTreeMap;

use creto_audit::conformance::{org, record};
use creto_audit::{
    Alarm, AlarmKind, Journal as _, LogReader, Monitor, NoteVerifier, RecordClass, Seen,
    TileStore as _, WatchError,
};
use creto_errors::{Class, Classify as _};
use creto_types::StoreError;

use crate::World;

/// The public files of a log at one moment.
#[derive(Clone, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

impl LogReader for Files {
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(path).cloned())
    }
}

/// Nobody answers.
pub(crate) struct Away;

#[derive(Debug, thiserror::Error)]
#[error("connection refused")]
struct Refused;

impl LogReader for Away {
    fn get(&self, _: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Err(StoreError::Unavailable(Box::new(Refused)))
    }
}

pub(crate) async fn files(world: &World) -> Files {
    let mut files = Files::default();
    for path in world.tiles.paths(org(1)) {
        let bytes = world.tiles.get(org(1), &path).await.unwrap().unwrap();
        files.0.insert(path, bytes);
    }
    files
}

/// The log after these leaves more.
pub(crate) async fn grown(world: &World, count: u64) -> Files {
    world.commit(org(1), count).await;
    let audit = world.open().await.unwrap();
    audit.checkpoint(org(1)).await.unwrap();
    files(world).await
}

pub(crate) async fn key(world: &World) -> NoteVerifier {
    let audit = world.open().await.unwrap();
    NoteVerifier::parse(&audit.verifier_keys(org(1)).unwrap()[0]).unwrap()
}

/// A log of the same keys with another first leaf.
pub(crate) async fn other_history(world: &World) -> World {
    let other = World {
        keys: world.keys.clone(),
        ..World::new()
    };
    other
        .journal
        .append(RecordClass::Evidence, vec![record(org(1), 99)])
        .await
        .unwrap();
    other
}

pub(crate) fn alarm(result: Result<impl Sized, WatchError>) -> Alarm {
    match result {
        Ok(_) => panic!("nothing was noticed"),
        Err(WatchError::Alarm(alarm)) => *alarm,
        Err(error) => panic!("no alarm: {error}"),
    }
}

#[tokio::test]
async fn a_log_that_grows_is_followed_with_and_without_its_entries() {
    for entries in [false, true] {
        let world = World::new();
        let key = key(&world).await;
        let mut seen: Option<Seen> = None;
        let mut before = 0;
        for count in [1, 4, 250, 1, 1, 43, 0, 300] {
            let files = grown(&world, count).await;
            let monitor = Monitor::new(&files, Some(&key), entries);
            let (observation, now) = monitor.look(seen.as_ref()).unwrap();
            assert_eq!(observation.before, before);
            assert_eq!(observation.size, before + count);
            assert_eq!(observation.origin, key.name());
            assert_eq!(
                observation.entries,
                if entries { before + count } else { 0 }
            );
            before += count;
            // What is kept survives as text.
            let text = serde_json::to_string(&now).unwrap();
            seen = Some(serde_json::from_str(&text).unwrap());
        }
        assert_eq!(before, 600);
    }
}

/// Entries that were not hashed before are caught up on.
#[tokio::test]
async fn entries_may_be_asked_for_later() {
    let world = World::new();
    let key = key(&world).await;
    let files = grown(&world, 300).await;
    let (_, seen) = Monitor::new(&files, Some(&key), false).look(None).unwrap();
    let files = grown(&world, 10).await;
    let monitor = Monitor::new(&files, Some(&key), true);
    let (observation, seen) = monitor.look(Some(&seen)).unwrap();
    assert_eq!((observation.entries, seen.entries), (310, 310));
    // One from before the first look counts as much.
    let mut changed = files.clone();
    changed.0.get_mut("tile/entries/000").unwrap()[100] ^= 1;
    let monitor = Monitor::new(&changed, Some(&key), true);
    assert_eq!(alarm(monitor.look(None)).kind, AlarmKind::Entries);
    // What was hashed is not fetched again.
    assert!(monitor.look(Some(&seen)).is_ok());
}

/// The files of an older checkpoint may have made way for full ones.
#[tokio::test]
async fn a_checkpoint_that_is_held_back_is_still_readable() {
    let world = World::new();
    let key = key(&world).await;
    let old = grown(&world, 100).await;
    let mut newer = grown(&world, 500).await;
    assert!(!newer.0.contains_key("tile/0/000.p/100"));
    newer
        .0
        .insert("checkpoint".to_owned(), old.0["checkpoint"].clone());
    let monitor = Monitor::new(&newer, Some(&key), true);
    assert_eq!(monitor.look(None).unwrap().0.size, 100);
}

#[tokio::test]
async fn a_fork_raises_an_alarm_with_both_checkpoints() {
    let world = World::new();
    let key = key(&world).await;
    let honest = grown(&world, 5).await;
    let (_, seen) = Monitor::new(&honest, Some(&key), false).look(None).unwrap();
    let other = other_history(&world).await;
    for (count, text) in [(4, "two trees of 5 leaves"), (7, "the first 5 leaves")] {
        let forked = grown(&other, count).await;
        for key in [Some(&key), None] {
            let found = alarm(Monitor::new(&forked, key, false).look(Some(&seen)));
            assert_eq!(found.kind, AlarmKind::Fork);
            assert!(found.detail.contains(text), "{found}");
            assert_eq!(found.seen.as_ref(), Some(&seen.checkpoint));
            assert_eq!(found.shown.as_bytes(), forked.0["checkpoint"]);
        }
    }
    let error = Monitor::new(&grown(&other, 1).await, Some(&key), false)
        .look(Some(&seen))
        .unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("log_misbehaves", Class::Security)
    );
}

/// A fork that lies across tiles, at any size before it.
#[tokio::test]
async fn a_fork_is_noticed_at_any_size() {
    let world = World::new();
    let key = key(&world).await;
    let mut seen = Vec::new();
    for count in [1, 1, 253, 1, 1, 255] {
        let files = grown(&world, count).await;
        seen.push(
            Monitor::new(&files, Some(&key), false)
                .look(None)
                .unwrap()
                .1,
        );
    }
    let honest = grown(&world, 88).await;
    let other = other_history(&world).await;
    let forked = grown(&other, 599).await;
    for seen in &seen {
        assert!(
            Monitor::new(&honest, Some(&key), false)
                .look(Some(seen))
                .is_ok()
        );
        let found = alarm(Monitor::new(&forked, Some(&key), false).look(Some(seen)));
        assert_eq!(found.kind, AlarmKind::Fork);
    }
}

#[tokio::test]
async fn a_log_that_shrinks_raises_an_alarm() {
    let world = World::new();
    let key = key(&world).await;
    let before = grown(&world, 5).await;
    let after = grown(&world, 5).await;
    let (_, seen) = Monitor::new(&after, Some(&key), false).look(None).unwrap();
    let found = alarm(Monitor::new(&before, Some(&key), false).look(Some(&seen)));
    assert_eq!(found.kind, AlarmKind::Shrunk);
    assert_eq!(found.detail, "it had 10 leaves and has 5");
}

#[tokio::test]
async fn a_checkpoint_without_a_good_signature_raises_an_alarm() {
    let world = World::new();
    let own = key(&world).await;
    let files = grown(&world, 5).await;
    let stranger = World {
        keys: crate::Keys::new(8),
        ..World::new()
    };
    let strangers = key(&stranger).await;
    let found = alarm(Monitor::new(&files, Some(&strangers), false).look(None));
    assert_eq!(found.kind, AlarmKind::BadSignature);
    let monitor = |change: &dyn Fn(String) -> String| {
        let mut files = files.clone();
        let text = String::from_utf8(files.0["checkpoint"].clone()).unwrap();
        files
            .0
            .insert("checkpoint".to_owned(), change(text).into_bytes());
        alarm(Monitor::new(&files, Some(&own), false).look(None)).kind
    };
    let signature = AlarmKind::BadSignature;
    assert_eq!(
        monitor(&|text| text.replacen("\n5\n", "\n6\n", 1)),
        signature
    );
    assert_eq!(monitor(&|_| "<html>".to_owned()), signature);
    assert_eq!(
        monitor(&|text| text.replace("creto", "cheto")),
        AlarmKind::OtherLog
    );
    let unsigned = |text: String| {
        let lines: Vec<&str> = text.lines().collect();
        // Without the Ed25519 line.
        format!("{}\n{}\n", lines[..4].join("\n"), lines[5])
    };
    assert_eq!(monitor(&unsigned), signature);
}

#[tokio::test]
pub(crate) async fn files_that_contradict_the_checkpoint_raise_an_alarm() {
    let world = World::new();
    let key = key(&world).await;
    let early = grown(&world, 3).await;
    let (_, seen) = Monitor::new(&early, Some(&key), true).look(None).unwrap();
    let files = grown(&world, 297).await;
    for (path, kind) in [
        ("tile/0/000", AlarmKind::Tiles),
        ("tile/0/001.p/44", AlarmKind::Tiles),
        ("tile/entries/000", AlarmKind::Entries),
        ("tile/entries/001.p/44", AlarmKind::Entries),
    ] {
        let mut changed = files.clone();
        *changed.0.get_mut(path).unwrap().last_mut().unwrap() ^= 1;
        let found = alarm(Monitor::new(&changed, Some(&key), true).look(Some(&seen)));
        assert_eq!(found.kind, kind, "{path}");
        let mut cut = files.clone();
        cut.0.get_mut(path).unwrap().pop();
        let found = alarm(Monitor::new(&cut, Some(&key), true).look(Some(&seen)));
        assert_eq!(found.kind, kind, "{path}");
        // A file that is not there may come; it proves nothing.
        let mut missing = files.clone();
        missing.0.remove(path);
        let error = Monitor::new(&missing, Some(&key), true).look(Some(&seen));
        let error = error.unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("log_file_missing", Class::Transient)
        );
    }
}

#[tokio::test]
async fn a_log_out_of_reach_is_no_alarm() {
    let error = Monitor::new(&Away, None, false).look(None).unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("log_unreachable", Class::Transient)
    );
    let error = Monitor::new(&Files::default(), None, false).look(None);
    assert_eq!(error.unwrap_err().code(), "log_file_missing");
}

/// Somebody changed the file in which the monitor remembers.
#[tokio::test]
async fn what_is_remembered_is_checked_too() {
    let world = World::new();
    let key = key(&world).await;
    let files = grown(&world, 5).await;
    let monitor = Monitor::new(&files, Some(&key), false);
    let (_, seen) = monitor.look(None).unwrap();
    for (checkpoint, code) in [
        (
            seen.checkpoint.replacen("\n5\n", "\n4\n", 1),
            "watch_other_log",
        ),
        (seen.checkpoint.replace("creto", "cheto"), "watch_other_log"),
        (String::new(), "watch_memory"),
    ] {
        let changed = Seen {
            checkpoint,
            ..seen.clone()
        };
        assert_eq!(monitor.look(Some(&changed)).unwrap_err().code(), code);
    }
}
