//! What a monitor makes of a log that shows it less than it should.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{creto, said};
use crate::transparency::{Public, Running, answer, ask, until};

#[derive(Clone, Copy, PartialEq)]
enum Shows {
    All,
    /// The checkpoint, and that there is nothing else.
    NoTiles,
    /// The checkpoint, and errors.
    BrokenTiles,
    /// A checkpoint that no witness has seen, as another reader's would be.
    NoCosignatures,
    /// Errors alone.
    Nothing,
}

/// Stands between the log and its monitor.
struct Between {
    address: SocketAddr,
    shows: Arc<Mutex<Shows>>,
}

impl Between {
    fn new(log: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shows = Arc::new(Mutex::new(Shows::All));
        let now = Arc::clone(&shows);
        spawn(move || {
            for stream in listener.incoming() {
                pass_on(stream.unwrap(), log, *now.lock().unwrap());
            }
        });
        Self { address, shows }
    }

    fn show(&self, shows: Shows) {
        *self.shows.lock().unwrap() = shows;
    }
}

fn pass_on(mut stream: TcpStream, log: SocketAddr, shows: Shows) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let checkpoint = path.ends_with("/checkpoint");
    let (status, body) = match shows {
        Shows::NoTiles if !checkpoint => (404, Vec::new()),
        Shows::BrokenTiles if !checkpoint => (503, Vec::new()),
        Shows::Nothing => (502, Vec::new()),
        _ => {
            let answer = ask(log, "GET", path, "").unwrap();
            match checkpoint && shows == Shows::NoCosignatures {
                true => (answer.status, without_witnesses(&answer.body)),
                false => (answer.status, answer.body),
            }
        }
    };
    let head = format!(
        "HTTP/1.1 {status} .\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // Whoever asked may have gone.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}

fn without_witnesses(note: &[u8]) -> Vec<u8> {
    let note = String::from_utf8(note.to_vec()).unwrap();
    let kept = note
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("\u{2014} witness.example/"));
    kept.collect::<String>().into_bytes()
}

/// A public log with a witness, and who stands before it.
struct Scene {
    public: Public,
    between: Between,
    url: String,
}

impl Scene {
    fn new() -> Self {
        let public = Public::new(0);
        let between = Between::new(public.address);
        let url = format!("http://{}{}", between.address, public.path);
        Self {
            public,
            between,
            url,
        }
    }

    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let key = self.public.key.as_str();
        let fixed = [
            "audit",
            "watch",
            &self.url,
            "--key",
            key,
            "--state",
            "seen.json",
            "--withheld-after",
            "2",
            "--uncosigned-after",
            "2",
        ];
        [&fixed[..], more].concat()
    }

    fn look(&self, more: &[&str]) -> (Option<i32>, Value) {
        let words = [&["--once"], more].concat();
        answer(self.public.server.path(), &self.words(&words))
    }
}

#[test]
fn a_log_that_withholds_what_it_is_checked_by_raises_its_own_alarm() {
    let scene = Scene::new();
    let size = scene.public.grow(3, "first");
    scene.public.cosigned(size);
    let (status, first) = scene.look(&[]);
    assert_eq!((status, &first["size"]), (Some(0), &size.into()), "{first}");
    let grown = scene.public.grow(2, "second");
    scene.public.cosigned(grown);

    for shows in [Shows::NoTiles, Shows::BrokenTiles] {
        scene.between.show(shows);
        let (status, waits) = scene.look(&[]);
        assert_eq!(
            (status, &waits["error"]["code"]),
            (Some(1), &"log_file_missing".into()),
            "{waits}"
        );
        // Out of reach is another thing, and makes nothing good.
        scene.between.show(Shows::Nothing);
        let (status, away) = scene.look(&[]);
        assert_eq!(
            (status, &away["error"]["code"]),
            (Some(1), &"log_unreachable".into()),
            "{away}"
        );
        scene.between.show(shows);
        sleep(Duration::from_millis(2_100));
        // Each look is a process of its own, so the file is what remembers.
        let (status, alarm) = scene.look(&[]);
        assert_eq!(
            (status, &alarm["alarm"]["kind"]),
            (Some(4), &"withheld".into()),
            "{alarm}"
        );
        let (before, now) = (&alarm["alarm"]["seen"], &alarm["alarm"]["shown"]);
        let holds =
            |note: &Value, size: u64| note.as_str().unwrap().contains(&format!("\n{size}\n"));
        assert!(holds(before, size) && holds(now, grown), "{alarm}");
        scene.between.show(Shows::All);
        let state = scene.public.server.path().join("seen.json");
        let kept = std::fs::read_to_string(&state).unwrap();
        let (status, well) = scene.look(&[]);
        assert_eq!((status, &well["size"]), (Some(0), &grown.into()), "{well}");
        // Behind what was found before, for the next round.
        let mut older: Value = serde_json::from_str(&kept).unwrap();
        older.as_object_mut().unwrap().remove("unproven");
        std::fs::write(&state, older.to_string()).unwrap();
    }

    // One that goes on by itself waits, says why, and ends.
    scene.between.show(Shows::NoTiles);
    let dir = scene.public.server.path();
    let words = scene.words(&["--interval", "1"]);
    let mut watching = Running::start(dir, &words, "watch.log");
    assert_eq!(watching.ended(), Some(4));
    let log = std::fs::read_to_string(dir.join("watch.log")).unwrap();
    assert!(
        log.contains("after 2 s that is an alarm") && log.contains("ALARM: withheld"),
        "{log}"
    );
}

#[test]
fn a_log_that_its_witnesses_do_not_cosign_raises_its_own_alarm() {
    let scene = Scene::new();
    let size = scene.public.grow(3, "first");
    scene.public.cosigned(size);
    let witness = scene.public.witness_key.clone();
    let named = ["--witness", &witness];
    let (status, well) = scene.look(&named);
    assert_eq!(status, Some(0), "{well}");
    assert_eq!(
        well["cosigned_by"],
        serde_json::json!(["witness.example/w1"])
    );

    scene.between.show(Shows::NoCosignatures);
    // Whoever names no witness misses none.
    let (status, well) = scene.look(&[]);
    assert_eq!(status, Some(0), "{well}");
    let (status, lacks) = scene.look(&named);
    assert_eq!(
        (status, &lacks["uncosigned_seconds"], &lacks["size"]),
        (Some(1), &0.into(), &size.into()),
        "{lacks}"
    );
    sleep(Duration::from_millis(2_100));
    let (status, alarm) = scene.look(&named);
    assert_eq!(
        (status, &alarm["alarm"]["kind"]),
        (Some(5), &"uncosigned".into()),
        "{alarm}"
    );
    assert!(
        alarm["alarm"]["detail"]
            .as_str()
            .unwrap()
            .contains("witness.example/w1")
    );
    scene.between.show(Shows::All);
    let (status, well) = scene.look(&named);
    assert_eq!(
        (status, &well["uncosigned_seconds"]),
        (Some(0), &Value::Null)
    );

    // One that goes on by itself.
    scene.between.show(Shows::NoCosignatures);
    let dir = scene.public.server.path();
    let words = scene.words(&["--interval", "1", "--witness", &witness]);
    let mut watching = Running::start(dir, &words, "watch.log");
    let log = || std::fs::read_to_string(dir.join("watch.log")).unwrap();
    until("it says what is lacking", || {
        log().contains("too few witnesses").then_some(())
    });
    assert_eq!(watching.ended(), Some(5));
    assert!(log().contains("ALARM: uncosigned"), "{}", log());
}

#[test]
fn witnesses_that_cannot_be_are_refused() {
    let scene = Scene::new();
    let (log, witness) = (scene.public.key.clone(), scene.public.witness_key.clone());
    for (words, code) in [
        (&["--witness", "nonsense"][..], "note_verifier_key"),
        (&["--witness", &log], "note_key_type"),
        (
            &["--witness", &witness, "--witness-quorum", "2"],
            "witness_quorum_invalid",
        ),
        (
            &["--witness", &witness, "--witness-quorum", "0"],
            "witness_quorum_invalid",
        ),
        // One witness is not two for being named twice.
        (
            &[
                "--witness",
                &witness,
                "--witness",
                &witness,
                "--witness-quorum",
                "2",
            ],
            "witness_quorum_invalid",
        ),
    ] {
        let (status, refused) = scene.look(words);
        assert_eq!(
            (status, &refused["error"]["code"]),
            (Some(1), &code.into()),
            "{refused}"
        );
    }
    let dir = scene.public.server.path();
    for words in [
        ["--witness-quorum", "1"],
        ["--withheld-after", "0"],
        ["--uncosigned-after", "soon"],
    ] {
        let usage = creto(
            dir,
            &[&["audit", "watch", &scene.url, "--state", "s"], &words[..]].concat(),
        );
        assert_eq!(usage.status.code(), Some(2), "{}", said(&usage));
    }
    assert!(!dir.join("s").exists());
}
