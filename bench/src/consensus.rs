//! Timestamps of the real server over loopback gRPC: how many a second, and how long one
//! takes beside a bare round trip over the same loopback.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use creto_consensus::{OracleError, TimestampOracle as _};
use creto_errors::Class;
use creto_grpc::RemoteOracle;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::report::{Entry, Report};
use crate::sample::Sample;

/// What TiDB's Placement Driver can give at most: 2^18 each time it moves its clock, by
/// default every 50 milliseconds.
const PD_CAP: f64 = (1_u32 << 18) as f64 * 20.0;

const BATCHED: &str = "consensus/grpc_batched";
const ONES: &str = "consensus/grpc_batched/ones";
const SINGLE: &str = "consensus/grpc_single";

const BUDGET: Duration = Duration::from_secs(4);

/// Single calls and bare round trips take turns, so that what else the machine does
/// hits both.
const TURNS: u32 = 200;
const CALLS_A_TURN: u32 = 200;

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if ![BATCHED, ONES, SINGLE]
        .iter()
        .any(|name| report.wants(name))
    {
        return Ok(());
    }
    if [BATCHED, ONES].iter().any(|name| report.wants(name)) {
        let server = Server::start()?;
        for (name, callers, each) in [(BATCHED, 8, 1_024), (ONES, 4_096, 1)] {
            if report.wants(name) {
                let rate = rate(&server, callers, NonZeroU32::new(each).ok_or("none")?)?;
                report.add(Entry::rate(name, rate).beside("TiDB PD's cap", PD_CAP));
            }
        }
    }
    if report.wants(SINGLE) {
        // On a thread of its own, which ends with the processor that it is bound to.
        let measured = std::thread::scope(|scope| {
            let measured = scope.spawn(|| single().map_err(|error| error.to_string()));
            measured
                .join()
                .map_err(|_| "the measurement broke off".to_owned())?
        });
        let (single, bare) = measured?;
        let bare = bare.micros();
        let entry = Entry::p99(SINGLE, "us", single.micros());
        report.add(entry.beside("bare loopback round trip", bare.p99));
    }
    Ok(())
}

/// Timestamps a second that these callers of one client get, each so many at a time.
fn rate(server: &Server, callers: usize, each: NonZeroU32) -> Result<f64, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let oracle = RemoteOracle::new(server.grpc, &server.token)?;
        oracle.reserve(each).await?;
        let start = Instant::now();
        let callers: Vec<_> = (0..callers)
            .map(|_| {
                let oracle = oracle.clone();
                tokio::spawn(async move {
                    let mut calls = 0_u32;
                    while start.elapsed() < BUDGET {
                        match oracle.reserve(each).await {
                            Ok(_) => calls += 1,
                            // Faster than the server hands out: half of what the clock has.
                            Err(OracleError::Refused {
                                class: Class::Transient,
                                ..
                            }) => {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                            Err(error) => return Err(creto_errors::chain(&error)),
                        }
                    }
                    Ok::<u32, String>(calls)
                })
            })
            .collect();
        let mut calls = 0.0;
        for caller in callers {
            calls += f64::from(caller.await??);
        }
        Ok(calls * f64::from(each.get()) / start.elapsed().as_secs_f64())
    })
}

/// One caller that takes one timestamp after the other, and as many bytes that go to
/// another thread and back. Who asks has one processor and who answers another: where
/// both are on one by chance, a round trip is no more than a change of threads, and where
/// they are not it wakes a processor, which takes several times as long.
fn single() -> Result<(Sample, Sample), Box<dyn Error>> {
    let (asking, answering) = two_processors()?;
    // What is started from here on is where it is started from.
    sched_setaffinity(ME, &answering)?;
    let server = Server::start()?;
    let mut echo = Echo::start()?;
    sched_setaffinity(ME, &asking)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let oracle = runtime.block_on(async { RemoteOracle::new(server.grpc, &server.token) })?;
    let (mut single, mut bare) = (Sample::new(), Sample::new());
    for turn in 0..TURNS {
        // The first turns warm up.
        let counts = turn >= TURNS / 10;
        runtime.block_on(async {
            for _ in 0..CALLS_A_TURN {
                let start = Instant::now();
                oracle.reserve(NonZeroU32::MIN).await?;
                if counts {
                    single.add(start.elapsed());
                }
            }
            Ok::<(), creto_consensus::OracleError>(())
        })?;
        for _ in 0..CALLS_A_TURN {
            let start = Instant::now();
            echo.round_trip()?;
            if counts {
                bare.add(start.elapsed());
            }
        }
    }
    Ok((single, bare))
}

const ME: Pid = Pid::from_raw(0);

/// The first and the last processor that this thread may run on: the same where there is
/// only one.
fn two_processors() -> Result<(CpuSet, CpuSet), Box<dyn Error>> {
    let allowed = sched_getaffinity(ME)?;
    let mut usable = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
    let first = usable.next().ok_or("no processor")?;
    let only = |cpu| -> Result<CpuSet, Box<dyn Error>> {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        Ok(set)
    };
    Ok((only(first)?, only(usable.next_back().unwrap_or(first))?))
}

/// A thread that sends back what it is sent, as many bytes as a request and its answer
/// have on the wire, frames and all.
struct Echo(TcpStream);

/// A data frame with a message of one field, and one with two.
const REQUEST: usize = 16;
const ANSWER: usize = 27;

impl Echo {
    fn start() -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        stream.set_nodelay(true)?;
        let (mut other, _) = listener.accept()?;
        other.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut request = [0; REQUEST];
            while other.read_exact(&mut request).is_ok() && other.write_all(&[0; ANSWER]).is_ok() {}
        });
        Ok(Self(stream))
    }

    fn round_trip(&mut self) -> std::io::Result<()> {
        self.0.write_all(&[0; REQUEST])?;
        self.0.read_exact(&mut [0; ANSWER])
    }
}

/// The built program beside this one, serving an organization of its own.
struct Server {
    child: Child,
    grpc: SocketAddr,
    token: String,
    /// Open as long as it runs, for it may say more.
    _said: BufReader<ChildStdout>,
    _directory: TempDir,
}

impl Server {
    fn start() -> Result<Self, Box<dyn Error>> {
        let program = std::env::current_exe()?.with_file_name("creto");
        if !program.is_file() {
            let program = program.display();
            return Err(format!("{program} is not there; `make bench` builds it").into());
        }
        let directory = tempfile::tempdir()?;
        let init = ["init", "--org", "Bench", "--owner", "owner"];
        let made = command(&program, directory.path()).args(init).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into());
        }
        configure(&directory.path().join("creto.toml"))?;
        let mut child = command(&program, directory.path())
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        let grpc = loop {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                return Err("the server ended".into());
            }
            if let Some(address) = line.trim().strip_prefix("answering gRPC on ") {
                break address.parse()?;
            }
        };
        let token = fs::read_to_string(directory.path().join("data/owner.credential"))?;
        Ok(Self {
            child,
            grpc,
            token: token.trim().to_owned(),
            _said: said,
            _directory: directory,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["CRETO_CONFIG", "CRETO_SERVER", "CRETO_CREDENTIAL_FILE"] {
        command.env_remove(name);
    }
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// A port of its own for each interface, and no sandboxes.
fn configure(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut table: toml::Table = toml::from_str(&fs::read_to_string(path)?)?;
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut set = |section: &str, key: &str, value: toml::Value| {
        let section = table
            .entry(section)
            .or_insert_with(|| toml::Table::new().into());
        if let Some(section) = section.as_table_mut() {
            section.insert(key.to_owned(), value);
        }
    };
    set("server", "listen", listen.to_string().into());
    set("server", "grpc_listen", "127.0.0.1:0".into());
    set("runtime", "enabled", false.into());
    Ok(fs::write(path, toml::to_string(&table)?)?)
}
