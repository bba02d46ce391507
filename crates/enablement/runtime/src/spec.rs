//! What is to run in a sandbox, and how it ended.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_types::{Id, IdKind, OrgId, PrincipalName};

/// The kind of [`SandboxId`].
#[derive(Debug)]
pub enum SandboxKind {}

impl IdKind for SandboxKind {
    const PREFIX: &'static str = "sbx";
}

/// One run of one program for one agent. Never used twice.
pub type SandboxId = Id<SandboxKind>;

/// A folder or file of the host that the sandbox sees. Always read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The absolute path on the host.
    pub source: PathBuf,
    /// The absolute path in the sandbox.
    pub target: PathBuf,
}

/// What a sandbox may use. `docs/formats/sandbox.md` says what each limit counts
/// and how it is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the whole sandbox in bytes, its kernel and `/tmp` included.
    pub memory_bytes: u64,
    /// Processes and threads that exist at the same time.
    pub processes: u32,
    /// From the start of the program to its end.
    pub wall_time: Duration,
    /// Processor time per second of wall time, in thousandths of one core.
    pub cpu_millis: Option<u32>,
    /// Bytes kept of standard output, and as many of standard error. What comes
    /// after is read and dropped, and the report says so.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 * 1024 * 1024,
            processes: 64,
            wall_time: Duration::from_secs(300),
            cpu_millis: None,
            output_bytes: 1024 * 1024,
        }
    }
}

/// A program to run in a sandbox of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Its id, made by the caller.
    pub id: SandboxId,
    /// Whose it is.
    pub org: OrgId,
    /// The agent it is bound to.
    pub agent: PrincipalName,
    /// The program (looked up in the sandbox's `PATH`) and its arguments.
    pub argv: Vec<String>,
    /// The whole environment. `PATH` and `HOME` are set when absent.
    pub env: BTreeMap<String, String>,
    /// The working directory in the sandbox.
    pub cwd: String,
    /// What the sandbox sees of the host besides the system's programs.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub limits: Limits,
}

/// A specification that no sandbox can be made from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox's `{field}` {problem}")]
pub struct SpecError {
    field: &'static str,
    problem: String,
}

impl SpecError {
    fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }

    /// The field that is wrong.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl Classify for SpecError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "sandbox_spec_invalid"
    }
}

/// The least memory with which the sandbox's own kernel and a small program
/// start: 64 MiB.
const MIN_MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// More than this in one specification is a mistake: 128 KiB of arguments or
/// environment, the size of one `execve` string on Linux.
const MAX_TEXT_BYTES: usize = 128 * 1024;
const MAX_MOUNTS: usize = 32;
/// A day. Longer work is started anew.
const MAX_WALL_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Output is kept in memory until it is read: 64 MiB.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024 * 1024;

/// Targets that the sandbox itself provides or that a mount would break.
const RESERVED_TARGETS: [&str; 12] = [
    "/", "/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr",
];

impl SandboxSpec {
    /// Checks everything that can be checked without touching the machine.
    ///
    /// # Errors
    ///
    /// Names the first field that is wrong.
    pub fn validate(&self) -> Result<(), SpecError> {
        let program = self
            .argv
            .first()
            .ok_or_else(|| SpecError::new("argv", "names no program"))?;
        if program.is_empty() {
            return Err(SpecError::new("argv", "starts with an empty program name"));
        }
        check_text("argv", self.argv.iter().map(String::as_str))?;
        check_text(
            "env",
            self.env.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]),
        )?;
        if let Some(name) = self.env.keys().find(|k| k.is_empty() || k.contains('=')) {
            return Err(SpecError::new(
                "env",
                format!("has a variable with the impossible name `{name}`"),
            ));
        }
        check_path("cwd", Path::new(&self.cwd))?;
        self.validate_mounts()?;
        self.limits.validate()
    }

    fn validate_mounts(&self) -> Result<(), SpecError> {
        if self.mounts.len() > MAX_MOUNTS {
            return Err(SpecError::new(
                "mounts",
                format!("has more than {MAX_MOUNTS} entries"),
            ));
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            check_path("mounts.source", &mount.source)?;
            check_path("mounts.target", &mount.target)?;
            let target = &mount.target;
            let reserved = RESERVED_TARGETS.iter().map(Path::new).any(|taken| {
                target == taken || (taken != Path::new("/") && target.starts_with(taken))
            });
            if reserved {
                return Err(SpecError::new(
                    "mounts.target",
                    format!("`{}` would cover the sandbox's own files", target.display()),
                ));
            }
            let overlaps =
                self.mounts.iter().take(index).any(|other| {
                    target.starts_with(&other.target) || other.target.starts_with(target)
                });
            if overlaps {
                return Err(SpecError::new(
                    "mounts.target",
                    format!("`{}` overlaps another mount", target.display()),
                ));
            }
        }
        Ok(())
    }
}

impl Limits {
    /// Checks that every limit is one that can be kept.
    ///
    /// # Errors
    ///
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), SpecError> {
        let bound = |field, inside, problem: &str| {
            if inside {
                Ok(())
            } else {
                Err(SpecError::new(field, problem))
            }
        };
        bound(
            "limits.memory_bytes",
            self.memory_bytes >= MIN_MEMORY_BYTES && self.memory_bytes <= i64::MAX.unsigned_abs(),
            "must be at least 67108864 (64 MiB)",
        )?;
        bound(
            "limits.processes",
            (1..=32_768).contains(&self.processes),
            "must be from 1 to 32768",
        )?;
        bound(
            "limits.wall_time",
            !self.wall_time.is_zero() && self.wall_time <= MAX_WALL_TIME,
            "must be more than zero and at most 24 hours",
        )?;
        bound(
            "limits.cpu_millis",
            self.cpu_millis
                .is_none_or(|millis| (10..=1_024_000).contains(&millis)),
            "must be from 10 to 1024000",
        )?;
        bound(
            "limits.output_bytes",
            self.output_bytes <= MAX_OUTPUT_BYTES,
            "must be at most 67108864 (64 MiB)",
        )
    }
}

fn check_text<'a>(
    field: &'static str,
    texts: impl Iterator<Item = &'a str>,
) -> Result<(), SpecError> {
    let mut total = 0_usize;
    for text in texts {
        if text.contains('\0') {
            return Err(SpecError::new(field, "contains a zero byte"));
        }
        total = total.saturating_add(text.len());
    }
    if total > MAX_TEXT_BYTES {
        return Err(SpecError::new(field, "is longer than 131072 bytes"));
    }
    Ok(())
}

fn check_path(field: &'static str, path: &Path) -> Result<(), SpecError> {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let text = path.to_str();
    if !path.is_absolute() || !plain || text.is_none_or(|text| text.contains('\0')) {
        return Err(SpecError::new(
            field,
            format!(
                "must be an absolute UTF-8 path without `..`, not `{}`",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// How a sandbox ended. Each is told apart by what was observed, not guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The program ended by itself with this code.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// The program was ended by a signal inside the sandbox.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The sandbox needed more memory than its limit; the kernel ended it.
    OutOfMemory,
    /// It ran longer than its limit; the runtime ended it.
    TimedOut,
    /// [`crate::RunningSandbox::kill`] ended it.
    Killed,
    /// The sandbox went away without the runtime having ended it: its kernel
    /// failed or somebody killed it from outside.
    Lost,
}

impl ExitReason {
    /// `exited`, `signaled`, `out_of_memory`, `timed_out`, `killed` or `lost`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signaled { .. } => "signaled",
            Self::OutOfMemory => "out_of_memory",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
            Self::Lost => "lost",
        }
    }
}

/// What is left of a sandbox that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// How it ended.
    pub reason: ExitReason,
    /// Standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// Standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// Standard output was longer.
    pub stdout_truncated: bool,
    /// Standard error was longer.
    pub stderr_truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            id: "sbx_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e"
                .parse()
                .expect("an id"),
            org: "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e"
                .parse()
                .expect("an id"),
            agent: "release-bot".parse().expect("a name"),
            argv: vec!["true".into()],
            env: BTreeMap::new(),
            cwd: "/".into(),
            mounts: Vec::new(),
            limits: Limits::default(),
        }
    }

    fn mount(target: &str) -> Mount {
        Mount {
            source: "/srv/data".into(),
            target: target.into(),
        }
    }

    #[test]
    fn a_plain_specification_is_accepted() {
        let mut spec = spec();
        spec.mounts = vec![mount("/history"), mount("/data/a")];
        assert_eq!(spec.validate(), Ok(()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let field = |change: fn(&mut SandboxSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.validate().expect_err("refused").field()
        };
        assert_eq!(field(|s| s.argv.clear()), "argv");
        assert_eq!(field(|s| s.argv.push("a\0b".into())), "argv");
        assert_eq!(field(|s| s.argv.push("x".repeat(131_073))), "argv");
        assert_eq!(
            field(|s| {
                s.env.insert("A=B".into(), String::new());
            }),
            "env"
        );
        assert_eq!(field(|s| s.cwd = "tmp".into()), "cwd");
        assert_eq!(
            field(|s| s.mounts = vec![mount("/etc/ssl")]),
            "mounts.target"
        );
        assert_eq!(field(|s| s.mounts = vec![mount("/")]), "mounts.target");
        assert_eq!(
            field(|s| s.mounts = vec![mount("/a/../etc")]),
            "mounts.target"
        );
        assert_eq!(
            field(|s| s.mounts = vec![mount("/a"), mount("/a/b")]),
            "mounts.target"
        );
        assert_eq!(field(|s| s.limits.memory_bytes = 1), "limits.memory_bytes");
        assert_eq!(field(|s| s.limits.processes = 0), "limits.processes");
        assert_eq!(
            field(|s| s.limits.wall_time = Duration::ZERO),
            "limits.wall_time"
        );
        assert_eq!(
            field(|s| s.limits.cpu_millis = Some(0)),
            "limits.cpu_millis"
        );
        assert_eq!(
            field(|s| s.limits.output_bytes = u64::MAX),
            "limits.output_bytes"
        );
    }
}
