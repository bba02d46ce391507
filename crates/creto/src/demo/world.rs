//! What the steps act on: the server, the release host, and whoever calls.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use creto_client::{Client, ClientError, ServerAddress, encode, read_credential};
use creto_types::Timestamp;
use serde_json::{Value, json};

use super::children::{
    ReleaseHost, ServerProcess, Witness, bare_command, creto_command, free_address,
};
use super::documents::{ensure, leaf, same, text};
use super::error::DemoError;
use super::workspace::{Workspace, history_facts, output, run};
use crate::commands::server;

/// The agent's program as the sandbox sees it.
const BOT: [&str; 2] = ["/usr/bin/python3", "/release-bot/release_bot.py"];

/// The world of the demo. Steps keep in it what later steps need.
pub(crate) struct World {
    pub(crate) space: Workspace,
    pub(crate) host: ReleaseHost,
    pub(crate) address: ServerAddress,
    server: Option<ServerProcess>,
    /// The first instant of the invoiced period.
    pub(crate) began: Timestamp,
    /// The newest commit of the history, and how many there are.
    pub(crate) head: String,
    pub(crate) commits: u64,
    pub(crate) planner: String,
    pub(crate) bot: String,
    /// The delegation to courier, and the SPIFFE id of reviewer, who hands it on.
    pub(crate) courier: String,
    pub(crate) reviewer_id: String,
    pub(crate) request: String,
    pub(crate) invoice: Value,
    pub(crate) root: String,
    /// Who cosigns the log, where strangers read it, and its key.
    pub(crate) witness: Option<Witness>,
    pub(crate) log_url: String,
    pub(crate) log_key: String,
    /// The pseudonym of who was erased.
    pub(crate) erased: String,
    /// What the evidence has to hold in the end: leaves, and what kind of record each is.
    pub(crate) recorded: Vec<(u64, &'static str)>,
}

impl World {
    pub(crate) fn new(space: Workspace, host: ReleaseHost) -> Result<Self, DemoError> {
        let (commits, head) = history_facts(&space)?;
        Ok(Self {
            address: ServerAddress::new(free_address()?)?,
            space,
            host,
            server: None,
            began: crate::context::now(),
            head,
            commits,
            planner: String::new(),
            bot: String::new(),
            courier: String::new(),
            reviewer_id: String::new(),
            request: String::new(),
            invoice: Value::Null,
            root: String::new(),
            witness: None,
            log_url: String::new(),
            log_key: String::new(),
            erased: String::new(),
            recorded: Vec::new(),
        })
    }

    /// The leaf that an answer points to, which the evidence has to show in the end as a
    /// record of this kind.
    pub(crate) fn on_record(
        &mut self,
        kind: &'static str,
        answer: &Value,
    ) -> Result<u64, DemoError> {
        let leaf = leaf(answer)?;
        self.recorded.push((leaf, kind));
        Ok(leaf)
    }

    // --- the server -----------------------------------------------------------

    pub(crate) fn start_server(&mut self) -> Result<(), DemoError> {
        self.server = Some(ServerProcess::start(&self.space, self.address)?);
        Ok(())
    }

    /// Ends the server as a power failure would, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), DemoError> {
        if let Some(server) = self.server.take() {
            server.kill();
            self.start_server()?;
        }
        Ok(())
    }

    /// Ends the server in an orderly way.
    pub(crate) fn stop_server(&mut self) -> Result<(), DemoError> {
        match self.server.take() {
            Some(server) => server.stop(),
            None => Ok(()),
        }
    }

    /// The address of the release host as the sandbox names it.
    pub(crate) fn host_url(&self) -> String {
        format!("http://releases.example.test:{}", self.host.http_port)
    }

    // --- callers --------------------------------------------------------------

    pub(crate) fn owner_credential(&self) -> Result<PathBuf, DemoError> {
        server::owner_credential_path(&self.space.config())
            .map_err(|error| DemoError::Fact(error.to_string()))
    }

    pub(crate) fn owner(&self) -> Result<Client, DemoError> {
        self.caller(&self.owner_credential()?)
    }

    pub(crate) fn planner_credential(&self) -> PathBuf {
        self.space.path("planner.token")
    }

    /// The planner, which runs outside of a sandbox and holds a token.
    pub(crate) fn planner_client(&self) -> Result<Client, DemoError> {
        self.caller(&self.planner_credential())
    }

    /// Who signs, and holds a token as well.
    pub(crate) fn reviewer_credential(&self) -> PathBuf {
        self.space.path("reviewer.token")
    }

    pub(crate) fn reviewer_client(&self) -> Result<Client, DemoError> {
        self.caller(&self.reviewer_credential())
    }

    /// Who has a token that is of no use without the key beside it.
    pub(crate) fn courier_credential(&self) -> PathBuf {
        self.space.path("courier.token")
    }

    pub(crate) fn courier_key(&self) -> PathBuf {
        self.space.path("courier.key")
    }

    fn caller(&self, credential: &Path) -> Result<Client, DemoError> {
        Ok(Client::new(self.address).with_credential(read_credential(credential)?)?)
    }

    // --- commands, as a user would type them ----------------------------------

    /// `creto --json ...` as the owner; has to succeed.
    pub(crate) fn creto(&self, words: &[&str]) -> Result<Value, DemoError> {
        let mut command = creto_command(&self.space.config())?;
        let printed = run(command.arg("--json").args(words))?;
        parse(&printed)
    }

    /// The same as somebody else.
    pub(crate) fn creto_as(&self, credential: &Path, words: &[&str]) -> Result<Value, DemoError> {
        let mut command = creto_command(&self.space.config())?;
        command.arg("--json").arg("--credential").arg(credential);
        parse(&run(command.args(words))?)
    }

    /// A command that has to be refused; gives the document about it.
    pub(crate) fn creto_refused(&self, words: &[&str]) -> Result<Value, DemoError> {
        self.refused(&[], words)
    }

    /// The same as somebody else.
    pub(crate) fn creto_refused_as(
        &self,
        credential: &Path,
        words: &[&str],
    ) -> Result<Value, DemoError> {
        self.refused(&["--credential".as_ref(), credential.as_os_str()], words)
    }

    fn refused(&self, who: &[&OsStr], words: &[&str]) -> Result<Value, DemoError> {
        let mut command = creto_command(&self.space.config())?;
        refusal(command.arg("--json").args(who), words)
    }

    /// As courier, with a proof by the key that its token is bound to.
    pub(crate) fn creto_as_courier(&self, words: &[&str]) -> Result<Value, DemoError> {
        let key = self.courier_key().display().to_string();
        let words = [&["--dpop-key", &key], words].concat();
        self.creto_as(&self.courier_credential(), &words)
    }

    pub(crate) fn creto_refused_as_courier(&self, words: &[&str]) -> Result<Value, DemoError> {
        let key = self.courier_key().display().to_string();
        let words = [&["--dpop-key", &key], words].concat();
        self.creto_refused_as(&self.courier_credential(), &words)
    }

    /// Where a stranger keeps what was given to it. There is no configuration and no
    /// credential, and nothing tells where the server is.
    pub(crate) fn stranger(&self) -> PathBuf {
        self.space.path("stranger")
    }

    /// A command of the stranger's; has to succeed.
    pub(crate) fn creto_as_stranger(&self, words: &[&str]) -> Result<Value, DemoError> {
        let mut command = bare_command()?;
        command.current_dir(self.stranger()).arg("--json");
        parse(&run(command.args(words))?)
    }

    /// One that has to be refused; gives the document about it.
    pub(crate) fn creto_refused_as_stranger(&self, words: &[&str]) -> Result<Value, DemoError> {
        let mut command = bare_command()?;
        refusal(command.current_dir(self.stranger()).arg("--json"), words)
    }

    // --- the agent ------------------------------------------------------------

    /// The body that starts `argv` in a sandbox as the release bot.
    pub(crate) fn sandbox_body(&self, argv: &[&str]) -> Value {
        json!({
            "delegation": self.bot,
            "argv": argv,
            "env": {"PYTHONDONTWRITEBYTECODE": "1"},
            "mounts": [
                {"name": "history", "target": "/history"},
                {"name": "release-bot", "target": "/release-bot"},
            ],
        })
    }

    /// Starts a sandbox and does not wait for it.
    pub(crate) fn launch(&self, body: &Value) -> Result<String, DemoError> {
        let started = self.owner()?.post("/v1/sandboxes", body)?;
        Ok(text(&started, "/id")?.to_owned())
    }

    /// Waits until a sandbox has ended.
    pub(crate) fn await_sandbox(&self, id: &str) -> Result<Value, DemoError> {
        let owner = self.owner()?;
        let path = format!("/v1/sandboxes/{}?wait_seconds=20", encode(id));
        for _ in 0..10 {
            let answer = owner.get(&path)?;
            if text(&answer, "/state")? != "running" {
                return Ok(answer);
            }
        }
        Err(DemoError::Fact(format!("sandbox {id} does not end")))
    }

    /// One command of the release bot, as the words after its program.
    pub(crate) fn bot_argv<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        BOT.into_iter().chain(words.iter().copied()).collect()
    }

    /// Runs the release bot in a sandbox and returns what it reports.
    pub(crate) fn run_bot(&self, words: &[&str]) -> Result<Value, DemoError> {
        let id = self.launch(&self.sandbox_body(&self.bot_argv(words)))?;
        report(&self.await_sandbox(&id)?)
    }
}

/// Runs a command that has to be refused, and gives the document about it.
fn refusal(command: &mut Command, words: &[&str]) -> Result<Value, DemoError> {
    let result = output(command.args(words))?;
    let shown = words.join(" ");
    ensure(result.status.code() == Some(1), || {
        format!(
            "`creto {shown}` ended with {}, not with a refusal",
            result.status
        )
    })?;
    let said = if result.stdout.is_empty() {
        result.stderr
    } else {
        result.stdout
    };
    parse(&String::from_utf8_lossy(&said))
}

/// Fails unless a command was refused with this code.
pub(crate) fn refused_with(code: &str, document: &Value) -> Result<(), DemoError> {
    same("the refusal's code", code, text(document, "/error/code")?)
}

/// Fails unless a call was refused with this code.
pub(crate) fn call_refused_with(
    code: &str,
    answer: Result<Value, ClientError>,
) -> Result<(), DemoError> {
    match answer {
        Err(ClientError::Refused(problem)) => {
            same("the refusal's code", code, problem.code.as_str())
        }
        Err(error) => Err(error.into()),
        Ok(answer) => Err(DemoError::Fact(format!(
            "expected {code}, but this was answered: {answer}"
        ))),
    }
}

/// What the program in a sandbox printed: one JSON document.
pub(crate) fn report(ended: &Value) -> Result<Value, DemoError> {
    let exited = ended.pointer("/exit").and_then(Value::as_str) == Some("exited")
        && ended.pointer("/exit_code").and_then(Value::as_i64) == Some(0);
    ensure(exited, || {
        format!("the agent's program did not end well: {ended}")
    })?;
    parse(text(ended, "/stdout")?)
}

fn parse(printed: &str) -> Result<Value, DemoError> {
    serde_json::from_str(printed)
        .map_err(|_| DemoError::Fact(format!("expected one JSON document, got: {printed}")))
}
