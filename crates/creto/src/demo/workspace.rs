//! The directory the demo runs in, and what it puts there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::error::DemoError;

/// Marks a directory that a demo may remove.
const MARKER: &str = ".creto-demo";

/// Paths inside the demo's directory, all absolute.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Refuses a directory that holds anything but an earlier demo.
    pub(crate) fn check(root: &Path) -> Result<(), DemoError> {
        if !root.exists() || root.join(MARKER).is_file() {
            return Ok(());
        }
        let mut entries = fs::read_dir(root).map_err(file_error("read", root))?;
        if entries.next().is_none() {
            return Ok(());
        }
        Err(DemoError::NotADemoDirectory {
            path: root.to_owned(),
        })
    }

    /// Removes what an earlier demo left there and starts anew.
    pub(crate) fn fresh(root: &Path) -> Result<Self, DemoError> {
        Self::check(root)?;
        if root.exists() {
            fs::remove_dir_all(root).map_err(file_error("remove", root))?;
        }
        fs::create_dir_all(root).map_err(file_error("make", root))?;
        let root = root.canonicalize().map_err(file_error("find", root))?;
        let marker = root.join(MARKER);
        fs::write(
            &marker,
            "`creto demo` removes this directory when it runs again.\n",
        )
        .map_err(file_error("write", &marker))?;
        Ok(Self { root })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("creto.toml")
    }

    /// Where everybody's programs say what they have to say.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, DemoError> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(file_error("read", &path))
    }
}

/// The checkout whose history the agent reads.
pub(crate) fn find_repository(named: Option<&Path>) -> Result<PathBuf, DemoError> {
    let start = named.unwrap_or_else(|| Path::new("."));
    let missing = |git: &[u8]| DemoError::NoRepository {
        path: start.to_owned(),
        git: String::from_utf8_lossy(git).trim().to_owned(),
    };
    let found = output(
        Command::new("git")
            .arg("-C")
            .arg(start)
            .args(["rev-parse", "--show-toplevel"]),
    )?;
    if !found.status.success() {
        return Err(missing(&found.stderr));
    }
    let root = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let complete = [
        "examples/release-bot/release_bot.py",
        "examples/release-host/release_host.py",
    ]
    .iter()
    .all(|file| root.join(file).is_file());
    let committed = output(git(&root).args(["rev-parse", "--verify", "--quiet", "HEAD"]))?;
    if complete && committed.status.success() {
        Ok(root)
    } else {
        Err(missing(&committed.stderr))
    }
}

/// Copies the history, as a bare repository, and the agent's program.
pub(crate) fn copy_inputs(space: &Workspace, repository: &Path) -> Result<(), DemoError> {
    let history = space.path("history.git");
    // A file:// address copies the objects, also from a shallow clone.
    let url = format!("file://{}", repository.display());
    run(Command::new("git")
        .args(["clone", "--quiet", "--bare"])
        .arg(url)
        .arg(&history))?;
    readable(&history)?;

    let source = repository.join("examples/release-bot");
    let target = space.path("release-bot");
    fs::create_dir(&target).map_err(file_error("make", &target))?;
    for entry in fs::read_dir(&source).map_err(file_error("read", &source))? {
        let path = entry.map_err(file_error("read", &source))?.path();
        let is_program = path.extension().is_some_and(|extension| extension == "py");
        if let Some(name) = path.file_name().filter(|_| is_program) {
            let copy = target.join(name);
            fs::copy(&path, &copy).map_err(file_error("copy", &path))?;
        }
    }
    readable(&target)
}

/// How many commits the copied history has, and the newest.
pub(crate) fn history_facts(space: &Workspace) -> Result<(u64, String), DemoError> {
    let history = space.path("history.git");
    let count = run(git(&history).args(["rev-list", "--count", "HEAD"]))?;
    let head = run(git(&history).args(["rev-parse", "HEAD"]))?;
    let commits = count
        .trim()
        .parse()
        .map_err(|_| DemoError::Fact(format!("git counts `{count}` commits")))?;
    Ok((commits, head.trim().to_owned()))
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory);
    command
}

/// Lets the sandbox's user read it, whatever the umask here is.
fn readable(path: &Path) -> Result<(), DemoError> {
    let metadata = fs::symlink_metadata(path).map_err(file_error("read", path))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let more = if metadata.is_dir() { 0o555 } else { 0o444 };
    let mode = metadata.permissions().mode() | more;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(file_error("make readable", path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(file_error("read", path))? {
            readable(&entry.map_err(file_error("read", path))?.path())?;
        }
    }
    Ok(())
}

/// Runs a program and returns what it printed; it has to succeed.
pub(crate) fn run(command: &mut Command) -> Result<String, DemoError> {
    let output = output(command)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(DemoError::Command {
            command: shown(command),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// Runs a program to its end.
pub(crate) fn output(command: &mut Command) -> Result<Output, DemoError> {
    command.output().map_err(|source| DemoError::Spawn {
        program: shown(command),
        source,
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    all.into_iter()
        .skip(skipped)
        .map(|line| format!("  {line}\n"))
        .collect()
}

/// An error about this file.
pub(crate) fn file_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> DemoError {
    let path = path.to_owned();
    move |source| DemoError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demos_directory_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("run");
        let space = Workspace::fresh(&root).unwrap();
        fs::write(space.path("old"), "x").unwrap();
        let space = Workspace::fresh(&root).unwrap();
        assert!(!space.path("old").exists());

        let foreign = parent.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        assert!(
            Workspace::fresh(&foreign).is_ok(),
            "an empty directory may be used"
        );
        fs::remove_dir_all(&foreign).unwrap();
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
        let error = Workspace::fresh(&foreign).unwrap_err();
        assert!(matches!(error, DemoError::NotADemoDirectory { .. }));
        assert!(foreign.join("thesis.txt").exists());
    }

    #[test]
    fn outside_of_a_checkout_the_error_says_so() {
        let parent = tempfile::tempdir().unwrap();
        let error = find_repository(Some(parent.path())).unwrap_err();
        assert!(error.to_string().contains("--repo"), "{error}");
    }

    #[test]
    fn a_log_is_cut_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "1\n2\n3\n").unwrap();
        assert_eq!(tail(&path, 2), "  2\n  3\n");
        assert_eq!(tail(&dir.path().join("none"), 2), "");
    }
}
