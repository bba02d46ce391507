//! Following a log over time: what is waited for, and when it no longer is.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use creto_audit::{
    Alarm, AlarmKind, Cosigners, LogReader, Looked, Memory, NoteVerifier, Patience, Steady, Watch,
    WatchError, Witness,
};
use creto_errors::{Class, Classify as _};
use creto_tlog::Note;
use creto_types::StoreError;

use crate::World;
use crate::monitors::{Away, Files, alarm, files, grown, key, other_history};
use crate::witnesses::{self, request, witness_over};

const PATIENCE: Patience = Patience {
    withheld: Duration::from_secs(300),
    uncosigned: Duration::from_secs(100),
};

pub(crate) fn at(boot: &str, seconds: u64) -> Steady {
    Steady {
        boot: boot.to_owned(),
        ms: seconds * 1_000,
    }
}

/// A monitor with its file, which every look reads and writes as a process of its own.
pub(crate) struct Follower {
    pub(crate) key: NoteVerifier,
    cosigners: Cosigners,
    entries: bool,
    file: RefCell<String>,
}

impl Follower {
    pub(crate) fn new(key: &NoteVerifier) -> Self {
        let file = serde_json::to_string(&Memory::default()).unwrap();
        Self {
            key: key.clone(),
            cosigners: Cosigners::default(),
            entries: false,
            file: RefCell::new(file),
        }
    }

    pub(crate) fn look(&self, log: &dyn LogReader, now: &Steady) -> Result<Looked, WatchError> {
        let mut memory: Memory = serde_json::from_str(&self.file.borrow()).unwrap();
        let watch = Watch::new(
            log,
            Some(&self.key),
            self.entries,
            &self.cosigners,
            PATIENCE,
        );
        let looked = watch.look(&mut memory, now);
        *self.file.borrow_mut() = serde_json::to_string(&memory).unwrap();
        looked
    }

    fn trusts(&self, size: u64) -> bool {
        self.file.borrow().contains(&format!("\\n{size}\\n"))
    }
}

fn without(files: &Files, path: &str) -> Files {
    let mut files = files.clone();
    assert!(files.0.remove(path).is_some(), "{path}");
    files
}

/// The checkpoint alone; every other file is refused with an error of the server.
struct Broken(Files);

impl LogReader for Broken {
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match path {
            "checkpoint" => self.0.get(path),
            _ => Away.get(path),
        }
    }
}

fn waits(result: Result<Looked, WatchError>, seconds: u64) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("log_file_missing", Class::Transient)
    );
    let said = format!("for {seconds} s so far, and after 300 s");
    assert!(error.to_string().contains(&said), "{error}");
}

fn withheld(result: Result<Looked, WatchError>) -> Alarm {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("log_withholds", Class::Security)
    );
    alarm(Err::<Looked, _>(error))
}

#[tokio::test]
async fn a_checkpoint_without_its_files_is_waited_for_and_then_an_alarm() {
    let world = World::new();
    let key = key(&world).await;
    let early = grown(&world, 3).await;
    let later = grown(&world, 300).await;
    // A file of the hashes, one of the entries, and a server that breaks off.
    let broken = Broken(later.clone());
    let cut = [
        without(&later, "tile/0/000"),
        without(&later, "tile/entries/000"),
    ];
    let logs: [(&dyn LogReader, &str); 3] = [
        (&cut[0], "tile/0/000"),
        (&cut[1], "tile/entries/000"),
        (&broken, "tile/0/000"),
    ];
    for (log, path) in logs {
        let follower = Follower {
            entries: true,
            ..Follower::new(&key)
        };
        follower.look(&early, &at("a", 0)).unwrap();
        waits(follower.look(log, &at("a", 10)), 0);
        waits(follower.look(log, &at("a", 309)), 299);
        let found = withheld(follower.look(log, &at("a", 310)));
        assert_eq!(found.kind, AlarmKind::Withheld);
        assert!(found.detail.starts_with("for 300 s "), "{found}");
        assert!(found.detail.contains(path), "{found}");
        assert!(found.seen.unwrap().contains("\n3\n"));
        assert!(found.shown.contains("\n303\n"));
        // It is found again, and what was trusted is what held last.
        withheld(follower.look(log, &at("a", 311)));
        assert!(follower.trusts(3));
        // Once it is shown, all is well, and the next time counts from its own start.
        follower.look(&later, &at("a", 400)).unwrap();
        assert!(!follower.file.borrow().contains("unproven"));
    }
}

/// Also for a monitor that has never seen anything else.
#[tokio::test]
async fn the_first_look_may_already_be_at_something_withheld() {
    let world = World::new();
    let key = key(&world).await;
    let files = without(&grown(&world, 5).await, "tile/0/000.p/5");
    let follower = Follower::new(&key);
    waits(follower.look(&files, &at("a", 0)), 0);
    let found = withheld(follower.look(&files, &at("a", 300)));
    assert_eq!(found.seen, None);
}

#[tokio::test]
async fn being_out_of_reach_neither_alarms_nor_forgives() {
    let world = World::new();
    let key = key(&world).await;
    let files = grown(&world, 5).await;
    let cut = without(&files, "tile/0/000.p/5");
    let follower = Follower::new(&key);
    for second in [0, 1_000, 2_000] {
        let error = follower.look(&Away, &at("a", second)).unwrap_err();
        assert_eq!(error.code(), "log_unreachable");
        let error = follower.look(&Files::default(), &at("a", second));
        assert_eq!(error.unwrap_err().code(), "log_file_missing");
    }
    waits(follower.look(&cut, &at("a", 3_000)), 0);
    let error = follower.look(&Away, &at("a", 3_500)).unwrap_err();
    assert_eq!(error.code(), "log_unreachable");
    withheld(follower.look(&cut, &at("a", 3_501)));
}

/// A machine that was started anew does not know for how long it was off.
#[tokio::test]
async fn what_was_counted_before_a_boot_counts_and_the_boot_does_not() {
    let world = World::new();
    let key = key(&world).await;
    let cut = without(&grown(&world, 5).await, "tile/0/000.p/5");
    let follower = Follower::new(&key);
    waits(follower.look(&cut, &at("a", 1_000)), 0);
    waits(follower.look(&cut, &at("a", 1_200)), 200);
    waits(follower.look(&cut, &at("b", 90_000)), 200);
    waits(follower.look(&cut, &at("b", 90_099)), 299);
    withheld(follower.look(&cut, &at("b", 90_100)));
}

/// A split view that was shown once, without its files, is not forgotten.
#[tokio::test]
async fn a_checkpoint_that_could_not_be_checked_is_checked_later() {
    let world = World::new();
    let key = key(&world).await;
    let honest = grown(&world, 5).await;
    let more = grown(&world, 3).await;
    let other = other_history(&world).await;
    let forked = grown(&other, 6).await;
    let cut = without(&forked, "tile/0/000.p/7");

    let follower = Follower::new(&key);
    follower.look(&honest, &at("a", 0)).unwrap();
    waits(follower.look(&cut, &at("a", 1)), 0);
    let found = alarm(follower.look(&more, &at("a", 2)));
    assert_eq!(found.kind, AlarmKind::Fork);
    assert!(found.seen.unwrap().contains("\n7\n") && found.shown.contains("\n8\n"));
    assert!(follower.trusts(5));

    // Two of one size contradict each other without any file.
    let follower = Follower::new(&key);
    let here = without(&more, "tile/0/000.p/8");
    waits(follower.look(&here, &at("a", 0)), 0);
    let there = without(&grown(&other, 1).await, "tile/0/000.p/8");
    assert_eq!(
        alarm(follower.look(&there, &at("a", 1))).kind,
        AlarmKind::Fork
    );

    // Behind one that was never proved nothing is forgiven.
    let follower = Follower::new(&key);
    waits(follower.look(&cut, &at("a", 0)), 0);
    let looked = follower.look(&honest, &at("a", 299)).unwrap();
    assert_eq!(looked.unproven, Some(Duration::from_secs(299)));
    let found = withheld(follower.look(&honest, &at("a", 300)));
    assert!(found.shown.contains("\n7\n"), "{}", found.shown);
    assert!(found.detail.contains("gone back"), "{found}");
}

/// The files with the lines of these witnesses, which have seen the log so far.
async fn cosigned(world: &World, files: &Files, witnesses: &[&Witness], old: u64) -> Files {
    let audit = world.open().await.unwrap();
    let request = request(&audit, old).await;
    let mut note = Note::parse(&files.0["checkpoint"]).unwrap();
    for witness in witnesses {
        let lines = witness.add_checkpoint(&request.to_string()).await.unwrap();
        for line in note.with_lines(&lines).unwrap().signatures() {
            note.add_line(line.clone());
        }
    }
    let mut files = files.clone();
    files.0.insert("checkpoint".to_owned(), note.encode());
    files
}

pub(crate) fn witness(seed: u64, key: &NoteVerifier) -> (Witness, NoteVerifier) {
    let memory = Arc::new(witnesses::Memory::default());
    let witness = witness_over(&memory, seed, &[key.to_string()]);
    let key = witnesses::own(&witness);
    (witness, key)
}

#[tokio::test]
async fn a_log_that_its_witnesses_do_not_cosign_is_waited_for_and_then_an_alarm() {
    let world = World::new();
    let key = key(&world).await;
    let (first, first_key) = witness(1, &key);
    let (second, second_key) = witness(2, &key);
    let keys = vec![first_key, second_key];
    for (quorum, enough) in [(None, 2), (Some(1), 1)] {
        assert_eq!(
            Cosigners::new(keys.clone(), quorum).unwrap().quorum(),
            enough
        );
    }
    let mut follower = Follower::new(&key);
    follower.cosigners = Cosigners::new(keys.clone(), None).unwrap();

    let early = grown(&world, 5).await;
    let both = cosigned(&world, &early, &[&first, &second], 0).await;
    let looked = follower.look(&both, &at("a", 0)).unwrap();
    assert_eq!(
        looked.cosigned_by,
        ["witness.example/w1", "witness.example/w2"]
    );
    assert_eq!(looked.uncosigned, None);

    let bare = grown(&world, 2).await;
    let looked = follower.look(&bare, &at("a", 10)).unwrap();
    assert!(looked.cosigned_by.is_empty());
    assert_eq!(looked.uncosigned, Some(Duration::ZERO));
    // The history is followed meanwhile, and one of two is too few.
    assert!(follower.trusts(7));
    let one = cosigned(&world, &bare, &[&first], 5).await;
    let looked = follower.look(&one, &at("a", 109)).unwrap();
    assert_eq!(looked.cosigned_by, ["witness.example/w1"]);
    assert_eq!(looked.uncosigned, Some(Duration::from_secs(99)));
    let error = follower.look(&one, &at("a", 110)).unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("log_uncosigned", Class::Security)
    );
    let found = alarm(Err::<Looked, _>(error));
    assert_eq!(found.kind, AlarmKind::Uncosigned);
    assert!(
        found.detail.ends_with("lacks witness.example/w2"),
        "{found}"
    );

    // To whom one is enough it was never lacking.
    let mut other = Follower::new(&key);
    other.cosigners = Cosigners::new(keys, Some(1)).unwrap();
    for second in [0, 1_000] {
        let looked = other.look(&one, &at("a", second)).unwrap();
        assert_eq!(looked.uncosigned, None);
    }

    let all = cosigned(&world, &one, &[&second], 5).await;
    let looked = follower.look(&all, &at("a", 200)).unwrap();
    assert_eq!(looked.uncosigned, None);
    assert!(!follower.file.borrow().contains("uncosigned"));
}

/// The witnesses cosigned the history of everybody else.
#[tokio::test]
async fn a_view_for_this_monitor_alone_is_found_by_the_witnesses_silence() {
    let world = World::new();
    let key = key(&world).await;
    let (witness, witness_key) = witness(1, &key);
    let honest = grown(&world, 5).await;
    let honest = cosigned(&world, &honest, &[&witness], 0).await;
    let other = other_history(&world).await;
    let forked = grown(&other, 5).await;
    let audit = other.open().await.unwrap();
    let refused = witness
        .add_checkpoint(&request(&audit, 5).await.to_string())
        .await;
    assert_eq!(refused.unwrap_err().code(), "witness_inconsistent");
    let mut follower = Follower::new(&key);
    follower.cosigners = Cosigners::new(vec![witness_key], None).unwrap();
    // A line of another tree is a bad one of this.
    let mut note = Note::parse(&forked.0["checkpoint"]).unwrap();
    let lines = Note::parse(&honest.0["checkpoint"]).unwrap();
    note.add_line(lines.signatures().last().unwrap().clone());
    let mut taken = forked.clone();
    taken.0.insert("checkpoint".to_owned(), note.encode());
    let found = alarm(follower.look(&taken, &at("a", 0)));
    assert_eq!(found.kind, AlarmKind::BadSignature);

    assert!(follower.look(&forked, &at("a", 0)).is_ok());
    let found = alarm(follower.look(&forked, &at("a", 100)));
    assert_eq!(found.kind, AlarmKind::Uncosigned);
    // What everybody else sees is the proof.
    assert_eq!(
        alarm(follower.look(&honest, &at("a", 101))).kind,
        AlarmKind::Shrunk
    );
}

/// Neither of two silences hides the other.
#[tokio::test]
async fn cosignatures_are_counted_while_files_are_withheld() {
    let world = World::new();
    let key = key(&world).await;
    let (_, witness_key) = witness(1, &key);
    let mut follower = Follower::new(&key);
    follower.cosigners = Cosigners::new(vec![witness_key], None).unwrap();
    let cut = without(&grown(&world, 5).await, "tile/0/000.p/5");
    waits(follower.look(&cut, &at("a", 0)), 0);
    let found = alarm(follower.look(&cut, &at("a", 100)));
    assert_eq!(found.kind, AlarmKind::Uncosigned);
    let whole = files(&world).await;
    let found = alarm(follower.look(&whole, &at("a", 101)));
    assert_eq!(found.kind, AlarmKind::Uncosigned);
}

#[tokio::test]
async fn a_quorum_is_of_the_witnesses_there_are() {
    let world = World::new();
    let key = key(&world).await;
    let (_, one) = witness(1, &key);
    let (_, two) = witness(2, &key);
    let keys = [one.clone(), two];
    for (given, quorum) in [
        (&keys[..], 0),
        (&keys, 3),
        (&[], 1),
        (&[one.clone(), one], 2),
    ] {
        let error = Cosigners::new(given.to_vec(), Some(quorum)).unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("witness_quorum_invalid", Class::Permanent)
        );
    }
}

/// A file of before there was anything to wait for, and one that lost its checkpoint.
#[test]
fn the_memory_is_read_as_it_was_and_never_taken_for_a_new_one() {
    let old = r#"{"checkpoint":"a note","entries":3}"#;
    let memory: Memory = serde_json::from_str(old).unwrap();
    assert_eq!(memory.seen().unwrap().entries, 3);
    assert_eq!(serde_json::to_string(&memory).unwrap(), old);
    for broken in ["{}", r#"{"entries":3}"#, r#"{"checkpoint":null}"#] {
        assert!(serde_json::from_str::<Memory>(broken).is_err(), "{broken}");
    }
}
