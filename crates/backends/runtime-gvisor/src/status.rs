//! How `runsc run` ended, from its logs.
//!
//! Its exit code alone cannot tell: it passes on the program's code, and says 128
//! and a number for a signal, for its own failure and for a sandbox that
//! vanished. Its logs say which. When they do not (another version of runsc), the
//! code is read the way a shell would.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use creto_runtime::ExitReason;
use serde::Deserialize;

/// The log of the command itself, at the level of information.
pub(crate) const RUN_LOG: &str = "run.log";
/// The log of its fatal errors.
pub(crate) const ERROR_LOG: &str = "errors.log";

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    msg: String,
    #[serde(default)]
    level: String,
}

fn entries(log: &str) -> impl DoubleEndedIterator<Item = Entry> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
}

/// The fatal error in the error log, if there is one.
pub(crate) fn fatal_error(errors: &str) -> Option<String> {
    entries(errors)
        .filter(|entry| entry.level == "error" || entry.level == "fatal")
        .map(|entry| entry.msg)
        .next_back()
}

/// The end of a sandbox whose program had started and that we did not end.
pub(crate) fn end(status: ExitStatus, log: &str, errors: &str) -> ExitReason {
    let Some(code) = status.code() else {
        // runsc itself was killed, by somebody else.
        return ExitReason::Lost;
    };
    if fatal_error(errors).is_some() {
        return ExitReason::Lost;
    }
    let mut vanished = false;
    let mut wait_status = None;
    for entry in entries(log) {
        vanished |= entry.msg.contains("Wait RPC to container") && entry.msg.contains("failed");
        if let Some((_, number)) = entry.msg.rsplit_once("Exiting with status: ") {
            wait_status = number.trim().parse::<i32>().ok();
        }
    }
    if vanished {
        return ExitReason::Lost;
    }
    match wait_status.map(ExitStatus::from_raw) {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ExitReason::Exited { code },
            (None, Some(signal)) => ExitReason::Signaled { signal },
            (None, None) => ExitReason::Lost,
        },
        None if code > 128 => ExitReason::Signaled {
            signal: code.saturating_sub(128),
        },
        None => ExitReason::Exited { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    const EXITED_137: &str = r#"{"msg":"main.go:222] Exiting with status: 35072","level":"info"}"#;
    const SIGNAL_9: &str = r#"{"msg":"main.go:222] Exiting with status: 9","level":"info"}"#;
    const VANISHED: &str =
        r#"{"msg":"sandbox.go:1248] Wait RPC to container \"c\" failed: EOF","level":"warning"}"#;

    #[test]
    fn the_same_code_has_three_meanings_and_the_log_tells_them_apart() {
        assert_eq!(
            end(ended(137), EXITED_137, ""),
            ExitReason::Exited { code: 137 }
        );
        assert_eq!(
            end(ended(137), SIGNAL_9, ""),
            ExitReason::Signaled { signal: 9 }
        );
        let log = format!("{VANISHED}\n{SIGNAL_9}\n");
        assert_eq!(end(ended(137), &log, ""), ExitReason::Lost);
    }

    #[test]
    fn without_a_log_the_code_is_read_as_a_shell_reads_it() {
        assert_eq!(end(ended(3), "", ""), ExitReason::Exited { code: 3 });
        assert_eq!(
            end(ended(134), "not json", ""),
            ExitReason::Signaled { signal: 6 }
        );
        assert_eq!(end(ExitStatus::from_raw(9), "", ""), ExitReason::Lost);
    }

    #[test]
    fn a_fatal_error_is_found_and_means_lost() {
        let errors = r#"{"msg":"running container: no","level":"error","time":"x"}"#;
        assert_eq!(
            fatal_error(errors).as_deref(),
            Some("running container: no")
        );
        assert_eq!(end(ended(128), "", errors), ExitReason::Lost);
        assert_eq!(fatal_error(""), None);
    }
}
