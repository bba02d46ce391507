//! `creto policy validate` and `creto policy test`: files alone.

use std::path::Path;

use creto_server::{BundleError, CheckedBundle, PolicyFiles, ValidationAnswer};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::{Reply, at, printable};

pub(super) fn read(dir: &Path) -> Result<PolicyFiles, CliError> {
    if !dir.is_dir() {
        return Err(CliError::NoDirectory {
            path: dir.to_owned(),
        });
    }
    PolicyFiles::from_dir(dir).map_err(CliError::server)
}

pub(super) fn check(dir: &Path) -> Result<Result<CheckedBundle, BundleError>, CliError> {
    Ok(CheckedBundle::check(read(dir)?))
}

/// The files as a request carries them.
pub(super) fn body(dir: &Path) -> Result<Value, CliError> {
    Ok(json!(read(dir)?.files()))
}

fn answer(dir: &Path) -> Result<ValidationAnswer, CliError> {
    Ok(ValidationAnswer::from(&check(dir)?))
}

pub(crate) fn validate(dir: &Path) -> Result<Reply, CliError> {
    let answer = answer(dir)?;
    let good = answer.valid;
    let json = json!(answer);
    let mut text = lines(dir, json.get("findings"), "error");
    text.push_str(&lines(dir, json.get("warnings"), "warning"));
    if good {
        text.push_str(&format!(
            "{}: {} policies, {} tests passed\ndigest {}\n",
            dir.display(),
            answer.policies.len(),
            answer.tests.len(),
            answer.digest.unwrap_or_default(),
        ));
    } else {
        let code = answer.code.unwrap_or_default();
        text.push_str(&format!("{}: refused ({code})\n", dir.display()));
    }
    Ok(Reply {
        good,
        ..Reply::new(text, json)
    })
}

pub(crate) fn test(dir: &Path) -> Result<Reply, CliError> {
    let answer = answer(dir)?;
    // Without a test that ran, what is wrong is elsewhere.
    if answer.tests.is_empty() && !answer.valid {
        return validate(dir);
    }
    let mut text = String::new();
    for test in &answer.tests {
        let mark = if test.passed { "ok  " } else { "FAIL" };
        text.push_str(&format!(
            "{mark} {}: {}\n",
            printable(&test.file),
            printable(&test.name)
        ));
        if let Some(failure) = &test.failure {
            text.push_str(&format!("     {}\n", printable(failure)));
        }
    }
    let failed = answer.tests.iter().filter(|test| !test.passed).count();
    let passed = answer.tests.len() - failed;
    text.push_str(&if answer.tests.is_empty() {
        format!(
            "No tests in {}. Write some in NAME.test.json: docs/formats/policies.md\n",
            dir.display()
        )
    } else {
        format!("{passed} passed, {failed} failed\n")
    });
    let json = json!({ "passed": passed, "failed": failed, "tests": answer.tests });
    Ok(Reply {
        good: failed == 0,
        ..Reply::new(text, json)
    })
}

/// The tests beside a set that fail, as answers tell them; empty when none does.
pub(super) fn failed_tests(named: &str, failed: &Value) -> String {
    let items = failed.get("items").and_then(Value::as_array);
    let Some(items) = items else {
        return String::new();
    };
    let mut text = format!(
        "\nwarning: {} of {} tests beside {} fail\n",
        at(failed, "/failed"),
        at(failed, "/of"),
        printable(named)
    );
    for test in items {
        let told = ["/file", "/name", "/failure"].map(|part| at(test, part));
        text.push_str(&format!("  {}\n", printable(&told.join(": "))));
    }
    text
}

/// One finding a line, as editors and other tools jump to it.
fn lines(dir: &Path, findings: Option<&Value>, word: &str) -> String {
    let mut text = String::new();
    for finding in findings.and_then(Value::as_array).into_iter().flatten() {
        let file = at(finding, "/file");
        let mut place = dir.join(&file).display().to_string();
        let line = at(finding, "/line");
        if !line.is_empty() {
            place = format!("{place}:{line}");
        }
        let policy = match at(finding, "/policy") {
            policy if policy.is_empty() => String::new(),
            policy => format!(" ({policy})"),
        };
        text.push_str(&printable(&format!(
            "{place}: {word}{policy}: {}",
            at(finding, "/message")
        )));
        text.push('\n');
    }
    text
}
