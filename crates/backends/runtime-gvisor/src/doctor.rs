//! What sandboxes need of the machine, checked one by one.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};

use crate::GvisorConfig;
use crate::cgroup::Hierarchy;
use crate::command::{SYSTEM_PATH, find};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What: `runsc`, `kernel: TPROXY`.
    pub name: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not.
    pub remedy: Option<String>,
}

impl Check {
    fn of(name: &str, found: Result<String, String>, remedy: &str) -> Self {
        match found {
            Ok(detail) => Self {
                name: name.to_owned(),
                ok: true,
                detail,
                remedy: None,
            },
            Err(detail) => Self {
                name: name.to_owned(),
                ok: false,
                detail,
                remedy: Some(remedy.to_owned()),
            },
        }
    }
}

const ROOT: &str = "Run as root (sudo): sandboxes need namespaces and cgroups.";

const KERNEL_FEATURES: [&str; 4] = [
    "kernel: network namespaces",
    "kernel: veth",
    "kernel: nftables TPROXY",
    "kernel: transparent sockets",
];

const SETUP: &str = "Run scripts/setup.sh, or install it with your package manager.";

/// Looks at everything that sandboxes need. Changes nothing: kernel features are
/// tried in a network namespace that ends with the check.
#[must_use]
pub fn doctor(config: &GvisorConfig) -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let mut checks = vec![
        Check::of(
            "root",
            if root {
                Ok("running as root".to_owned())
            } else {
                Err("not running as root".to_owned())
            },
            ROOT,
        ),
        Check::of(
            "runsc (gVisor)",
            runsc_version(config),
            "Run scripts/setup.sh; it prefers the newer runsc of the distribution's backports.",
        ),
    ];
    for (program, package) in [
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
        ("sh", "a shell"),
    ] {
        let found = find(program)
            .map(|path| path.display().to_string())
            .ok_or_else(|| format!("not found ({package})"));
        checks.push(Check::of(program, found, SETUP));
    }
    checks.push(Check::of(
        "python3",
        system_python(),
        "Install the distribution's python3: programs in a sandbox see /usr, and no version \
         manager's python.",
    ));
    checks.push(Check::of(
        "cgroups",
        Hierarchy::discover().map(|hierarchy| hierarchy.describe()),
        "Mount the memory and pids controllers of cgroups (version 1 or 2); in a container, \
         let it have its own cgroup namespace, writable.",
    ));
    if root {
        checks.extend(kernel_checks());
    } else {
        // Refused to anybody else, which says nothing about the kernel.
        let untried = || Err("not tried: needs root".to_owned());
        checks.extend(KERNEL_FEATURES.map(|name| Check::of(name, untried(), ROOT)));
    }
    checks
}

fn runsc_version(config: &GvisorConfig) -> Result<String, String> {
    let path = match &config.runsc {
        Some(path) => path.clone(),
        None => find("runsc").ok_or("not found")?,
    };
    let said = output(&path, &["--version"], "")?;
    let version = said.lines().next().unwrap_or("unknown version").to_owned();
    Ok(format!("{version} at {}", path.display()))
}

fn system_python() -> Result<String, String> {
    let path = Path::new("/usr/bin/python3");
    if !path.exists() {
        return Err("there is no /usr/bin/python3".to_owned());
    }
    // Version managers put their stand-ins elsewhere; this path is the system's.
    let said = output(path, &["-I", "--version"], "")?;
    Ok(format!("{} at {}", said.trim(), path.display()))
}

const KERNEL: &str = "Use a kernel with network namespaces, veth and nftables with TPROXY \
                      (CONFIG_NET_NS, CONFIG_VETH, CONFIG_NF_TABLES, CONFIG_NFT_TPROXY); on a \
                      distribution kernel, load the modules veth and nft_tproxy.";

const TPROXY_TRIAL: &str = "table inet creto_doctor {\n\
   chain trial {\n\
     type filter hook prerouting priority mangle; policy accept;\n\
     meta nfproto ipv4 meta l4proto tcp tproxy ip to :2 accept\n\
   }\n\
 }\n";

/// Tries each feature in a namespace of the trial's own thread.
fn kernel_checks() -> Vec<Check> {
    let trial = thread::Builder::new()
        .name("creto-doctor".to_owned())
        .spawn(|| {
            let namespace = unshare(CloneFlags::CLONE_NEWNET)
                .map(|()| "can be made".to_owned())
                .map_err(|error| error.to_string());
            let inside = namespace.is_ok();
            let run = |program: &str, arguments: &[&str], input: &str| {
                if !inside {
                    return Err("not tried: no network namespace".to_owned());
                }
                let path = find(program).ok_or(format!("not tried: {program} is missing"))?;
                output(&path, arguments, input).map(|_| "works".to_owned())
            };
            let veth = run(
                "ip",
                &["link", "add", "one", "type", "veth", "peer", "name", "two"],
                "",
            );
            let tproxy = run("nft", &["-f", "-"], TPROXY_TRIAL);
            let transparent = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
                .and_then(|socket| socket.set_ip_transparent_v4(true))
                .map(|()| "works".to_owned())
                .map_err(|error| error.to_string());
            let found = [namespace, veth, tproxy, transparent];
            KERNEL_FEATURES
                .into_iter()
                .zip(found)
                .map(|(name, found)| Check::of(name, found, KERNEL))
                .collect()
        })
        .map(thread::JoinHandle::join);
    match trial {
        Ok(Ok(checks)) => checks,
        _ => vec![Check::of(
            "kernel",
            Err("the trial could not be run".to_owned()),
            KERNEL,
        )],
    }
}

/// Runs a program that answers at once.
fn output(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says so by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("failed").to_owned())
}
