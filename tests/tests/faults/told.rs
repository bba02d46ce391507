//! What a process says of what it was told, when it was told, and who reads it after its end.

use std::fmt::Debug;
use std::io::Write as _;
use std::time::Duration;

use creto_audit::RecordClass;
use creto_errors::Classify;
use creto_tlog::Checkpoint;
use creto_types::OrgId;

use crate::opened::Opened;

/// How often something is tried again before the work counts as stuck. The layer fails
/// for a few calls at most.
pub(crate) const TRIES: usize = 30;

const IN_USE: &str = "store_in_use";
const MOMENT: Duration = Duration::from_millis(1);

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// That somebody was shown this tree.
pub(crate) fn say_tree(word: &str, head: &Checkpoint) {
    say(&format!("{word} {} {}", head.size, head.root));
}

pub(crate) async fn again<T, E: Classify>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    for _ in 0..TRIES {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => say(&format!("failed {what} {}", error.code())),
        }
    }
    panic!("{what} fails for ever");
}

/// Opens what others keep out of while they have it. So does, for a moment, each process that
/// is started meanwhile: it holds the locks of this one until it has its own program.
pub(crate) async fn once_free<T, E: Classify + Debug>(
    mut open: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    for _ in 0..1_000 {
        match open().await {
            Err(error) if error.code() == IN_USE => tokio::time::sleep(MOMENT).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("it is in use for ever");
}

/// Appends evidence of these numbers, in one transaction.
pub(crate) async fn append(log: &Opened, numbers: &[u64]) {
    let evidence = async || log.append(RecordClass::Evidence, numbers).await;
    let leaves = again("append", evidence).await;
    for (leaf, n) in leaves.iter().zip(numbers) {
        say(&format!("evidence {leaf} {n}"));
    }
}

/// Brings the log to a checkpoint, and says what whoever looked has seen, also after a
/// failure.
pub(crate) async fn signed_anew<T, E: Classify>(
    what: &str,
    log: &Opened,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    again(what, async || {
        let outcome = attempt().await;
        if let Some(head) = log.visible().await {
            say_tree("checkpoint", &head);
        }
        outcome
    })
    .await
}

/// The words of all lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Vec<Vec<String>>);

impl Told {
    pub(crate) fn read(&mut self, output: &str) {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect();
        self.0.extend(output.lines().map(words));
    }

    /// Whether exactly this was said.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.0.iter().any(|words| words.join(" ") == line)
    }

    /// What followed this word, each time.
    pub(crate) fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a [String]> {
        let lines = self.0.iter();
        lines.filter_map(move |words| match words.split_first() {
            Some((first, rest)) if first == word => Some(rest),
            _ => None,
        })
    }

    pub(crate) fn org(&self) -> Option<OrgId> {
        let keys = self.all("keys").next();
        keys.map(|words| words[0].parse().unwrap())
    }

    /// Place and number of each acknowledged record.
    pub(crate) fn evidence(&self) -> impl Iterator<Item = (u64, u64)> {
        let number = |word: &String| word.parse().unwrap();
        self.all("evidence")
            .map(move |words| (number(&words[0]), number(&words[1])))
    }

    /// Size and root of each tree that was shown so.
    pub(crate) fn trees<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (u64, &'a str)> {
        self.all(word)
            .map(|words| (words[0].parse().unwrap(), words[1].as_str()))
    }

    /// What failed, and how.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.all("failed").map(|words| words.join(" "))
    }
}
