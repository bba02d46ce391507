//! A server in a directory of its own, and whoever calls it.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use creto_client::{Client, ClientError, ProofKey, ServerAddress, read_credential};
use creto_config::Secret;
use creto_types::{Clock, SystemClock, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use toml::Table;

/// What of the caller's environment the program would read.
const SETTINGS: [&str; 4] = [
    "CRETO_CONFIG",
    "CRETO_SERVER",
    "CRETO_CREDENTIAL_FILE",
    "CRETO_DPOP_KEY_FILE",
];

/// The built program: `CRETO_BIN`, or the one beside this test's own binary.
pub(crate) fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("CRETO_BIN") {
        return named.into();
    }
    let own = std::env::current_exe().unwrap();
    // <target>/<profile>/deps/e2e-<hash>
    let built = own.parent().unwrap().parent().unwrap().join("creto");
    assert!(
        built.is_file(),
        "{} is missing; run `cargo build -p creto` first",
        built.display()
    );
    built
}

/// Runs the program to its end, without anything of this process's settings.
pub(crate) fn creto(dir: &Path, words: &[&str]) -> Output {
    creto_with(dir, words, &[])
}

/// The same with variables of the environment.
pub(crate) fn creto_with(dir: &Path, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    for name in SETTINGS {
        command.env_remove(name);
    }
    command
        .current_dir(dir)
        .args(words)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What it says, when it has to succeed.
pub(crate) fn good(dir: &Path, words: &[&str]) -> String {
    let output = creto(dir, words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

/// What it says, when it has to refuse with this code.
pub(crate) fn refused(dir: &Path, words: &[&str], code: &str) -> String {
    let output = creto(dir, words);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(code), "{}", said(&output));
    said(&output)
}

/// Python with a script that lies beside these tests, and with the packages that
/// `scripts/setup.sh --test` installs, of which it needs this one.
pub(crate) fn python(script: &str, package: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    // <target>/<profile>/deps/e2e-<hash>
    let packages = own.ancestors().nth(3).unwrap().join("test-python");
    assert!(
        packages.join(package).is_dir(),
        "{} lacks {package}; run scripts/setup.sh --test first",
        packages.display()
    );
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(here.join(script))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// What the program printed on either stream.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// An instant that lies ahead, as text.
pub(crate) fn in_seconds(seconds: u64) -> String {
    (now() + Duration::from_secs(seconds)).to_string()
}

/// Where Debian has it; `scripts/setup.sh --test` installs it.
pub(crate) fn faketime() -> String {
    let arch = std::env::consts::ARCH;
    let library = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1");
    assert!(
        std::fs::exists(&library).unwrap(),
        "{library} is missing; run `scripts/setup.sh --test` first"
    );
    library
}

/// An organization with its configuration, without a running server.
pub(crate) struct Site {
    dir: TempDir,
    address: ServerAddress,
    /// Of the server's environment.
    variables: Vec<(&'static str, String)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = creto(dir.path(), &["init", "--org", "Test", "--owner", "owner"]);
        assert!(output.status.success(), "{}", said(&output));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ServerAddress::new(listener.local_addr().unwrap()).unwrap();
        let site = Self {
            dir,
            address,
            variables: Vec::new(),
        };
        site.configure(|table| {
            set(table, &["server", "listen"], address.socket().to_string());
            // Nothing here needs a sandbox, so it runs where none can.
            set(table, &["runtime", "enabled"], false);
            // Load tests mean the budget, not the rate.
            set(table, &["metering", "rate_per_second"], 1_000_000);
            set(table, &["metering", "burst"], 1_000_000);
            set(table, &["metering", "prices", "changelog.draft"], "0.01");
        });
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn configure(&self, change: impl FnOnce(&mut Table)) {
        let path = self.path().join("creto.toml");
        let mut table: Table = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut table);
        std::fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
    }

    /// A variable of the server's environment.
    pub(crate) fn give(&mut self, name: &'static str, value: String) {
        self.variables.push((name, value));
    }

    pub(crate) fn credential(&self) -> PathBuf {
        self.path().join("data/owner.credential")
    }

    pub(crate) fn start(self) -> Server {
        let child = self.spawn(&[]);
        let server = Server {
            site: self,
            child: Some(child),
        };
        server.until_ready();
        server
    }

    fn spawn(&self, more: &[&str]) -> Child {
        let log = self.log();
        let mut command = Command::new(program());
        for name in SETTINGS {
            command.env_remove(name);
        }
        command
            .current_dir(self.path())
            .arg("serve")
            .args(more)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("server.log"))
            .unwrap()
    }
}

/// The records of this kind, the newest first.
pub(crate) fn recorded(server: &Server, kind: &str) -> Vec<Value> {
    let words = ["--json", "audit", "search", "--kind", kind];
    let output = creto(server.path(), &words);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["items"].as_array().unwrap().clone()
}

pub(crate) fn set(table: &mut Table, path: &[&str], value: impl Into<toml::Value>) {
    let (key, above) = path.split_last().unwrap();
    let mut inner = table;
    for name in above {
        inner = inner
            .entry((*name).to_owned())
            .or_insert_with(|| toml::Value::Table(Table::new()))
            .as_table_mut()
            .unwrap();
    }
    inner.insert((*key).to_owned(), value.into());
}

/// A running server; it ends with this value.
pub(crate) struct Server {
    site: Site,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn fresh() -> Self {
        Site::new().start()
    }

    pub(crate) fn until_ready(&self) {
        for _ in 0..1200 {
            if self.stranger().get_bytes("/readyz").is_ok() {
                return;
            }
            sleep(Duration::from_millis(25));
        }
        let log = std::fs::read_to_string(self.site.path().join("server.log")).unwrap();
        panic!("the server did not come up:\n{log}");
    }

    /// SIGKILL, and a new start on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// SIGKILL; gives the id that the process had.
    pub(crate) fn kill(&mut self) -> u32 {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        child.id()
    }

    /// A new start on the same data.
    pub(crate) fn restart(&mut self) {
        self.start_again();
        self.until_ready();
    }

    /// A new start on the same data, which may take a moment yet.
    pub(crate) fn start_again(&mut self) {
        self.child = Some(self.site.spawn(&[]));
    }

    /// The same with more on the command line.
    pub(crate) fn restart_with(&mut self, more: &[&str]) {
        self.child = Some(self.site.spawn(more));
        self.until_ready();
    }

    /// SIGTERM; it has to end well.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub(crate) fn path(&self) -> &Path {
        self.site.path()
    }

    /// Changes the configuration of the next start.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Table)) {
        self.site.configure(change);
    }

    /// A variable of the environment of the next start.
    pub(crate) fn give(&mut self, name: &'static str, value: String) {
        self.site.give(name, value);
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Somebody without a credential.
    pub(crate) fn stranger(&self) -> Client {
        Client::new(self.site.address)
    }

    pub(crate) fn owner(&self) -> Client {
        let credential = read_credential(&self.site.credential()).unwrap();
        self.stranger().with_credential(credential).unwrap()
    }

    /// The agent that acts under a delegation.
    pub(crate) fn agent(&self, delegation: &str) -> Client {
        let body = json!({"delegation": delegation});
        let issued = self.owner().post("/v1/tokens", &body).unwrap();
        let token = issued["token"].as_str().unwrap().to_owned();
        self.stranger()
            .with_credential(Secret::new(token).unwrap())
            .unwrap()
    }

    /// Who has this token and the key that it is bound to.
    pub(crate) fn agent_with(&self, token: &Path, key: &Path) -> Client {
        let client = self
            .stranger()
            .with_credential(read_credential(token).unwrap());
        client
            .unwrap()
            .with_proof_key(ProofKey::from_file(key).unwrap())
    }

    pub(crate) fn make_agent(&self, name: &str) {
        let body = json!({"name": name, "kind": "agent"});
        self.owner().post("/v1/principals", &body).unwrap();
    }

    /// An owner, a planner with 5.00 USD and a worker below it with this budget;
    /// gives the two delegations.
    pub(crate) fn chain(&self, budget: &str) -> (String, String) {
        self.make_agent("planner");
        self.make_agent("worker");
        let planner = granted(&self.owner(), &delegation("planner", "5.00"));
        let worker = granted(&self.agent(&planner), &delegation("worker", budget));
        (planner, worker)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A request for a delegation of all work on repositories.
pub(crate) fn delegation(to: &str, budget: &str) -> Value {
    json!({
        "delegatee": to,
        "rights": [
            {"action": "history.read", "resource": "repo:*"},
            {"action": "changelog.draft", "resource": "repo:*"},
            {"action": "release.publish", "resource": "repo:*"},
        ],
        "expires_at": in_seconds(if to == "planner" { 7_200 } else { 3_600 }),
        "budget": {"limit": {"amount": budget, "currency": "USD"}, "period": "total"},
    })
}

/// Delegates, and gives the new delegation.
pub(crate) fn granted(delegator: &Client, body: &Value) -> String {
    let answer = delegator.post("/v1/delegations", body).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

/// One unit of the work that costs a cent.
pub(crate) fn draft(agent: &Client) -> Result<Value, ClientError> {
    let body = json!({
        "action": "changelog.draft", "resource": "repo:creto", "args": {}, "units": 1,
    });
    agent.post("/v1/actions", &body)
}

/// The server's code of a refusal.
pub(crate) fn code(result: Result<Value, ClientError>) -> String {
    match result {
        Ok(answer) => panic!("expected a refusal, got {answer}"),
        Err(error) => error.reported_code().to_owned(),
    }
}
