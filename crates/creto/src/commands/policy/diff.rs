//! `creto policy diff`.

use std::collections::BTreeMap;
use std::path::Path;

use creto_server::{Candidate, FailedTestsAnswer, PolicyDiff, PolicyFiles};
use serde_json::json;

use super::files;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Reply, printable, printable_lines};

pub(crate) fn run(context: &Context, before: &str, after: &str) -> Result<Reply, CliError> {
    let sets = (bundle(context, before)?, bundle(context, after)?);
    let diff = PolicyDiff::between(&sets.0, &sets.1);
    let (mut text, mut json) = (text(&diff), json!(diff));
    let sides = [("before", before, &sets.0), ("after", after, &sets.1)];
    for (side, named, set) in sides {
        if let Some(failed) = FailedTestsAnswer::of(&set.tests) {
            let failed = json!(failed);
            text.push_str(&files::failed_tests(named, &failed));
            if let Some(members) = json.as_object_mut() {
                members.insert(format!("{side}_tests_failed"), failed);
            }
        }
    }
    Ok(Reply::new(text, json))
}

/// A directory, or a published version.
fn bundle(context: &Context, named: &str) -> Result<Candidate, CliError> {
    let version = named.parse::<u64>().ok();
    let checked = match version.filter(|_| !Path::new(named).is_dir()) {
        None => Candidate::check(files::read(Path::new(named))?),
        Some(version) => {
            let answer = context.client()?.get(&format!("/v1/policies/{version}"))?;
            let texts: BTreeMap<String, String> = answer
                .get("files")
                .and_then(|files| serde_json::from_value(files.clone()).ok())
                .ok_or(CliError::Answer { what: "files" })?;
            PolicyFiles::new(texts).and_then(Candidate::check)
        }
    };
    checked.map_err(CliError::server)
}

fn text(diff: &PolicyDiff) -> String {
    if diff.same {
        return "Both say the same.\n".to_owned();
    }
    let mut text = String::new();
    for policy in &diff.removed {
        text.push_str(&marked("-", &policy.id, &policy.file, &policy.text));
    }
    for policy in &diff.added {
        text.push_str(&marked("+", &policy.id, &policy.file, &policy.text));
    }
    for change in &diff.changed {
        text.push_str(&format!("~ {}\n", printable(&change.id)));
        text.push_str(&indented("  - ", &change.before.text));
        text.push_str(&indented("  + ", &change.after.text));
    }
    for (sign, what, names) in [
        ("-", "action", &diff.actions_removed),
        ("+", "action", &diff.actions_added),
        ("-", "resource type", &diff.resources_removed),
        ("+", "resource type", &diff.resources_added),
        ("~", "file", &diff.files_changed),
    ] {
        for name in names {
            text.push_str(&format!("{sign} {what} {}\n", printable(name)));
        }
    }
    text
}

fn marked(sign: &str, id: &str, file: &str, policy: &str) -> String {
    let head = format!("{sign} {} ({})\n", printable(id), printable(file));
    head + &indented("    ", policy)
}

fn indented(before: &str, policy: &str) -> String {
    let shown = printable_lines(policy);
    shown
        .lines()
        .map(|line| format!("{before}{line}\n"))
        .collect()
}
