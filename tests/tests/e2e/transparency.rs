//! What strangers can do with a log: read its files, follow it, cosign it, and check it
//! with programs that share nothing with this one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, Site, creto, program, said, set};

/// An address that was free a moment ago, so that it stays over restarts.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// What the program says as JSON, be it a refusal, with its exit status.
pub(crate) fn answer(dir: &Path, words: &[&str]) -> (Option<i32>, Value) {
    let output = creto(dir, &[&["--json"], words].concat());
    let document = serde_json::from_slice(&[output.stdout.as_slice(), &output.stderr].concat());
    let document = document.unwrap_or_else(|_| panic!("{words:?}: {}", said(&output)));
    (output.status.code(), document)
}

/// The same when it has to succeed.
pub(crate) fn good(dir: &Path, words: &[&str]) -> Value {
    let (status, document) = answer(dir, words);
    assert_eq!(status, Some(0), "{words:?}: {document}");
    document
}

pub(crate) fn text(document: &Value, key: &str) -> String {
    document[key].as_str().unwrap().to_owned()
}

/// A running program that ends with this value.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(dir: &Path, words: &[&str], output: &str) -> Self {
        let output = std::fs::File::create(dir.join(output)).unwrap();
        let child = Command::new(program())
            .current_dir(dir)
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Its exit status, when it ends by itself in time.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        for _ in 0..600 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            sleep(Duration::from_millis(50));
        }
        panic!("it goes on");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{what}: it did not come about");
}

/// What came over plain HTTP, by nobody's client.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: log\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head: head.to_lowercase(),
        body: bytes[end + 4..].to_vec(),
    })
}

/// A witness to ask, as the configuration has it.
fn asked(url: &str, key: &str) -> toml::Value {
    let mut asked = toml::Table::new();
    asked.insert("url".to_owned(), url.into());
    asked.insert("key".to_owned(), key.into());
    toml::Value::Table(asked)
}

/// A server whose log is public, and a witness that cosigns it.
pub(crate) struct Public {
    pub(crate) server: Server,
    witness: Running,
    pub(crate) witness_at: SocketAddr,
    /// Where the log's files are.
    pub(crate) address: SocketAddr,
    /// `/log/<org>`.
    pub(crate) path: String,
    /// The log's Ed25519 key.
    pub(crate) key: String,
    /// The witness's key.
    pub(crate) witness_key: String,
    /// Its Ed25519 one, by which it cosigns besides.
    plain_witness_key: String,
}

impl Public {
    pub(crate) fn new(quorum: u32) -> Self {
        let mut server = Site::new().start();
        let dir = server.path().to_owned();
        let keys = good(&dir, &["audit", "keys"]);
        let key = text(&keys, "ed25519");
        let made = |out: &str, by: &[&str]| {
            let words = ["audit", "witness-key", "witness.example/w1", "--out", out];
            text(&good(&dir, &[&words, by].concat()), "key")
        };
        let witness_key = made("w1.key", &[]);
        let plain_witness_key = made("w1-plain.key", &["--algorithm", "Ed25519"]);
        let witness_at = free_address();
        let words = [
            "audit",
            "witness",
            "--listen",
            &witness_at.to_string(),
            "--key",
            "w1.key",
            "--key",
            "w1-plain.key",
            "--state",
            "w1",
            "--log",
            &key,
        ];
        let witness = Running::start(&dir, &words, "witness.log");
        until("the witness answers", || {
            TcpStream::connect(witness_at).ok()
        });
        let address = free_address();
        server.stop();
        server.configure(|table| {
            set(table, &["audit", "public_listen"], address.to_string());
            set(table, &["audit", "public_entries"], true);
            set(table, &["audit", "witness_quorum"], i64::from(quorum));
            let url = format!("http://{witness_at}");
            let asked = [&witness_key, &plain_witness_key].map(|key| asked(&url, key));
            set(table, &["audit", "witness"], asked.to_vec());
        });
        server.restart();
        let org = text(&keys, "origin").rsplit('/').next().unwrap().to_owned();
        Self {
            server,
            witness,
            witness_at,
            address,
            path: format!("/log/{org}"),
            key,
            witness_key,
            plain_witness_key,
        }
    }

    /// Has the server ask the witness there.
    pub(crate) fn ask_at(&self, url: &str) {
        let keys = [&self.witness_key, &self.plain_witness_key];
        self.server.configure(|table| {
            let asked = keys.map(|key| asked(url, key));
            set(table, &["audit", "witness"], asked.to_vec());
        });
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    /// The public checkpoint, once it covers this many leaves and is cosigned by both keys.
    pub(crate) fn cosigned(&self, size: u64) -> String {
        until("a cosigned checkpoint", || {
            let note = self.checkpoint()?;
            let covers = note.lines().nth(1)?.parse::<u64>().ok()? >= size;
            let lines = note.matches("\u{2014} witness.example/w1 ").count();
            (covers && lines == 2).then_some(note)
        })
    }

    pub(crate) fn checkpoint(&self) -> Option<String> {
        let answer = ask(
            self.address,
            "GET",
            &format!("{}/checkpoint", self.path),
            "",
        )?;
        (answer.status == 200).then(|| String::from_utf8(answer.body).unwrap())
    }

    /// Adds leaves, and gives how many there are.
    pub(crate) fn grow(&self, count: usize, name: &str) -> u64 {
        for n in 0..count {
            self.server.make_agent(&format!("{name}-{n}"));
        }
        self.size()
    }

    fn size(&self) -> u64 {
        let checkpoint = good(self.server.path(), &["audit", "checkpoint"]);
        let note = text(&checkpoint, "checkpoint");
        note.lines().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn watch(&self, more: &[&str]) -> (Option<i32>, Value) {
        let url = self.url();
        let words = [
            &["audit", "watch", &url, "--state", "seen.json", "--once"],
            more,
        ]
        .concat();
        answer(self.server.path(), &words)
    }
}

#[test]
fn a_log_is_public_cosigned_and_followed_until_it_forks() {
    let mut public = Public::new(0);
    let dir = public.server.path().to_owned();
    let size = public.grow(3, "first");
    let note = public.cosigned(size);
    // The owner is given the same lines.
    let own = good(&dir, &["audit", "checkpoint"]);
    assert_eq!(text(&own, "checkpoint"), note);

    // A proof with the witness's line, checked as a file.
    let words = ["audit", "prove", "1", "--leaf-to", "1.json"];
    let printed = creto(&dir, &words);
    assert!(printed.status.success(), "{}", said(&printed));
    std::fs::write(dir.join("1.tlog-proof"), printed.stdout).unwrap();
    let (key, witness) = (public.key.clone(), public.witness_key.clone());
    let check = |leaf: &str, witness: &str, more: &[&str]| {
        let words = [
            "audit",
            "check-proof",
            "1.tlog-proof",
            "--leaf",
            leaf,
            "--key",
            &key,
            "--witness",
            witness,
        ];
        answer(&dir, &[&words[..], more].concat())
    };
    let (status, proven) = check("1.json", &witness, &[]);
    assert_eq!(status, Some(0), "{proven}");
    assert_eq!(
        (&proven["index"], &proven["size"]),
        (&1.into(), &size.into())
    );
    assert_eq!(proven["cosigned_by"], json!(["witness.example/w1"]));
    // All that are named is one witness, by whichever of its keys.
    let plain = format!("--witness={}", public.plain_witness_key);
    let (status, proven) = check("1.json", &witness, &[&plain]);
    assert_eq!(status, Some(0), "{proven}");
    assert_eq!(proven["cosigned_by"], json!(["witness.example/w1"]));
    std::fs::write(dir.join("other.json"), "{}").unwrap();
    let (status, refused) = check("other.json", &witness, &[]);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (Some(1), &"proof_wrong_root".into())
    );
    let (_, refused) = check("1.json", &key, &[]);
    assert_eq!(refused["error"]["code"], "note_key_type");

    let key = public.key.clone();
    let (status, first) = public.watch(&["--key", &key, "--entries"]);
    assert_eq!(status, Some(0), "{first}");
    assert_eq!(
        (&first["size"], &first["entries"]),
        (&size.into(), &size.into())
    );
    let grown = public.grow(2, "second");
    public.cosigned(grown);
    let (status, second) = public.watch(&["--key", &key]);
    assert_eq!(status, Some(0), "{second}");
    assert_eq!(
        (&second["before"], &second["size"]),
        (&size.into(), &grown.into())
    );

    // The key of a witness, or of somebody else, is not the log's.
    let witness_key = public.witness_key.clone();
    let (status, refused) = public.watch(&["--key", &witness_key]);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (Some(1), &"note_key_type".into()),
        "{refused}"
    );

    // A copy of everything, from which the log goes on in another way.
    public.server.stop();
    let copied = Command::new("cp")
        .args(["-a", "data", "copy"])
        .current_dir(&dir)
        .status();
    assert!(copied.unwrap().success());
    // Out of reach is no alarm.
    let (status, away) = public.watch(&["--key", &key]);
    assert_eq!(
        (status, &away["error"]["code"]),
        (Some(1), &"log_unreachable".into()),
        "{away}"
    );
    public.server.restart();
    let url = public.url();
    let words = [
        "audit",
        "watch",
        &url,
        "--key",
        &key,
        "--state",
        "seen.json",
        "--interval",
        "1",
    ];
    let watching = Running::start(&dir, &words, "watch.log");
    let honest = public.grow(4, "honest");
    public.cosigned(honest);
    let seen = || std::fs::read_to_string(dir.join("seen.json")).unwrap_or_default();
    until("the monitor has seen it", || {
        seen().contains(&format!("\\n{honest}\\n")).then_some(())
    });

    public.server.stop();
    let log = || std::fs::read_to_string(dir.join("watch.log")).unwrap();
    until("the monitor says that the log is away, and goes on", || {
        log().contains("the log cannot be read").then_some(())
    });
    // It does not look while the other history is still the shorter one, which would be
    // another alarm.
    drop(watching);
    std::fs::rename(dir.join("data"), dir.join("honest")).unwrap();
    std::fs::rename(dir.join("copy"), dir.join("data")).unwrap();
    public.server.restart();
    let before = seen();
    let forked = public.grow(6, "forked");
    assert!(forked > honest);
    let mut watching = Running::start(&dir, &words, "watch.log");
    assert_eq!(watching.ended(), Some(3));
    assert!(log().contains("ALARM: fork"));
    assert_eq!(seen(), before, "the proof is kept");
    let (status, alarm) = public.watch(&["--key", &key]);
    assert_eq!(status, Some(3));
    assert_eq!(alarm["alarm"]["kind"], "fork", "{alarm}");
    let both =
        [&alarm["alarm"]["seen"], &alarm["alarm"]["shown"]].map(|note| note.as_str().unwrap());
    assert!(
        both[0].contains(&format!("\n{honest}\n")) && both[1].contains(&format!("\n{forked}\n"))
    );

    // The witness has not cosigned the second history, and says why it did not.
    assert!(!public.checkpoint().unwrap().contains("witness.example"));
    let log = until("the witness objects", || {
        let log = std::fs::read_to_string(dir.join("witness.log")).unwrap();
        log.contains("does not continue").then_some(log)
    });
    assert!(log.contains("witnessing on http://"), "{log}");
}

/// The statuses of C2SP tlog-witness, as any client sees them.
#[test]
fn a_witness_answers_in_the_words_of_its_protocol() {
    let public = Public::new(1);
    let size = public.grow(2, "agent");
    let note = public.cosigned(size);
    let submit = |body: &str| ask(public.witness_at, "POST", "/add-checkpoint", body).unwrap();
    let again = submit(&format!("old {size}\n\n{note}"));
    assert_eq!(again.status, 200);
    let line = String::from_utf8(again.body).unwrap();
    assert!(line.starts_with("\u{2014} witness.example/w1 "), "{line}");
    assert_eq!(line.matches('\n').count(), 2, "one by each key: {line}");

    let conflict = submit(&format!("old 0\n\n{note}"));
    assert_eq!(conflict.status, 409);
    assert_eq!(conflict.body, format!("{size}\n").as_bytes());
    assert!(
        conflict.head.contains("content-type: text/x.tlog.size"),
        "{}",
        conflict.head
    );

    let hash = note.lines().nth(2).unwrap();
    for (body, status) in [
        ("rubbish".to_owned(), 400),
        (format!("old {}\n\n{note}", size + 1), 400),
        (
            format!(
                "old {size}\n\n{}",
                note.replacen("creto.local", "other.example", 1)
            ),
            404,
        ),
        (
            format!(
                "old {size}\n\n{}",
                note.replacen(&format!("\n{size}\n"), "\n9999\n", 1)
            ),
            403,
        ),
        (format!("old {size}\n{hash}\n\n{note}"), 422),
        ("x".repeat(200_000), 413),
    ] {
        let answer = submit(&body);
        assert_eq!(
            answer.status,
            status,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    let read = ask(public.witness_at, "GET", "/add-checkpoint", "").unwrap();
    assert_eq!(read.status, 405);
}

/// With a quorum nobody outside is shown what no witness has seen.
#[test]
fn a_checkpoint_below_its_quorum_is_not_public() {
    let mut public = Public::new(1);
    let size = public.grow(2, "agent");
    let note = public.cosigned(size);
    public.witness.0.kill().unwrap();
    let later = public.grow(2, "more");
    assert!(later > size);
    assert_eq!(public.checkpoint().unwrap(), note);
    // The interface of the organization is not held up.
    let proof = good(
        public.server.path(),
        &["audit", "prove", &(later - 1).to_string()],
    );
    assert!(text(&proof, "proof").starts_with("c2sp.org/tlog-proof@v1\n"));
    public.server.stop();
}

/// The checkpoint, every tile, and proofs of every size and every leaf are checked by
/// golang.org/x/mod/sumdb, which `scripts/setup.sh --test` installs.
#[test]
fn a_verifier_of_somebody_else_agrees_on_every_size() {
    const LEAVES: u64 = 520;
    let public = Public::new(1);
    let size = public.grow(usize::try_from(LEAVES).unwrap(), "leaf");
    assert!(size >= LEAVES);
    public.cosigned(size);
    let owner = public.server.owner();
    let get = |path: String| owner.get(&path).unwrap();
    let consistency: Vec<Value> = (1..=size)
        .map(|from| get(format!("/v1/audit/consistency?from={from}&to={size}")))
        .collect();
    let inclusion: Vec<Value> = (0..size)
        .map(|index| get(format!("/v1/audit/leaves/{index}"))["proof"].clone())
        .collect();
    let dir = public.server.path();
    let proofs = json!({"consistency": consistency, "inclusion": inclusion});
    std::fs::write(dir.join("proofs.json"), proofs.to_string()).unwrap();

    let verifier = built_verifier();
    let verify = |key: &str, witness: &str, url: &str| {
        Command::new(&verifier)
            .args([
                "-key",
                key,
                "-witness",
                witness,
                "-proofs",
                "proofs.json",
                url,
            ])
            .current_dir(dir)
            .output()
            .unwrap()
    };
    let output = verify(&public.key, &public.plain_witness_key, &public.url());
    assert!(output.status.success(), "{}", said(&output));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"size": size, "consistency": size, "inclusion": size});
    assert_eq!(checked, expected);

    // It does not agree with everything.
    let other = good(
        dir,
        &[
            "audit",
            "witness-key",
            "witness.example/w1",
            "--algorithm",
            "Ed25519",
            "--out",
            "w2.key",
        ],
    );
    let output = verify(&public.key, &text(&other, "key"), &public.url());
    assert!(!output.status.success());
    let mut changed = proofs.clone();
    changed["consistency"][300]["hashes"][0] = changed["consistency"][300]["hashes"][1].clone();
    std::fs::write(dir.join("proofs.json"), changed.to_string()).unwrap();
    let output = verify(&public.key, &public.plain_witness_key, &public.url());
    assert!(said(&output).contains("from 301 to"), "{}", said(&output));
}

/// The verifier, built with the distribution's own Go and packages: nothing is fetched.
fn built_verifier() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go/verifylog");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = scratch.join("verifylog");
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg("main.go")
        .current_dir(source)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", scratch.join("go-cache"))
        .env("GOFLAGS", "")
        .output()
        .expect("Go is missing; run scripts/setup.sh --test first");
    assert!(output.status.success(), "{}", said(&output));
    program
}

/// What cannot be served is refused at the start, by name; a key is shown as what it is.
#[test]
fn a_public_log_that_cannot_be_is_refused_in_the_configuration() {
    let site = Site::new();
    let dir = site.path().to_owned();
    let made = good(
        &dir,
        &[
            "audit",
            "witness-key",
            "witness.example/w1",
            "--out",
            "w1.key",
        ],
    );
    let key = text(&made, "key");
    let mode = std::fs::metadata(dir.join("w1.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = ["audit", "witness-key", "w", "--out", "w1.key"];
    assert!(
        !creto(&dir, &again).status.success(),
        "a key is not written over"
    );

    let log_key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let one = asked("http://127.0.0.1:1", &key);
    for (witnesses, quorum, what) in [
        (vec![one.clone()], 1, None),
        (vec![one.clone()], 2, Some("audit.witness_quorum")),
        (vec![], 1, Some("audit.witness_quorum")),
        (vec![one.clone(), one.clone()], 1, Some("twice")),
        (vec![one.clone(); 17], 1, Some("16")),
        (vec![asked("ftp://w.example", &key)], 1, Some("http[s]://")),
        (vec![asked("https://w.example", &key)], 1, None),
        (
            vec![asked("http://u:p@w.example", &key)],
            1,
            Some("credentials"),
        ),
        (
            vec![asked("http://w.example", log_key)],
            1,
            Some("not the key of a witness"),
        ),
        (
            vec![asked("http://w.example", "nonsense")],
            1,
            Some("not a verifier key"),
        ),
    ] {
        site.configure(|table| {
            set(table, &["audit", "witness"], witnesses);
            set(table, &["audit", "witness_quorum"], quorum);
            set(table, &["audit", "public_listen"], "127.0.0.1:0");
        });
        let checked = creto(&dir, &["config", "check"]);
        let text = said(&checked);
        match what {
            None => {
                assert!(checked.status.success(), "{text}");
                assert!(
                    text.contains("shows the logs' hashes to everybody"),
                    "{text}"
                );
            }
            Some(what) => {
                assert!(!checked.status.success(), "{what}");
                assert!(
                    text.contains("audit.witness") && text.contains(what),
                    "{text}"
                );
            }
        }
    }
    site.configure(|table| {
        let listen = table["server"]["listen"].clone();
        table.remove("audit");
        set(table, &["audit", "public_listen"], listen);
    });
    let text = said(&creto(&dir, &["config", "check"]));
    assert!(text.contains("audit.public_listen"), "{text}");
}
