//! `creto demo`: one governed action from the delegation to the proof, on this
//! machine, with this repository's own history as input.
//!
//! Everything is real: the server is a child process of the same program, the
//! agent runs in a gVisor sandbox, the outside world is an HTTP server of its own,
//! and most steps are the commands that a user would type. A step passes only when
//! every fact about it holds; a wrong fact ends the demo.

mod browser;
mod chapters;
mod children;
mod documents;
mod error;
mod proofs;
mod settings;
mod step;
mod workspace;
mod world;

use std::path::Path;

use serde_json::json;

pub(crate) use error::DemoError;

use self::children::ReleaseHost;
use self::step::Entry;
use self::workspace::{Workspace, copy_inputs, file_error, find_repository, tail};
use self::world::World;
use crate::cli::DemoArgs;
use crate::commands::server;
use crate::error::CliError;
use crate::output::{Reply, printable_lines, table, wrapped};

/// Runs the scenario. The reply is bad when a step did not end as it should.
pub(crate) fn run(args: DemoArgs) -> Result<Reply, CliError> {
    let repository = find_repository(args.repo.as_deref())?;
    Workspace::check(&args.dir)?;
    let missing = server::missing_for_sandboxes();
    if !missing.is_empty() {
        return Err(DemoError::Machine { missing }.into());
    }
    say("setting up");
    let space = Workspace::fresh(&args.dir)?;
    copy_inputs(&space, &repository)?;
    let host = ReleaseHost::start(&space, &repository)?;
    let mut world = World::new(space, host)?;

    let entries = play(&mut world, args.kill_between_steps);
    let stopped = world.stop_server();
    let report = world.space.path("report.json");
    write_report(&report, &entries, &world.root)?;
    stopped?;
    Ok(reply(&world, &args.dir, &entries))
}

/// Runs every step until one fails.
fn play(world: &mut World, kill: bool) -> Vec<Entry> {
    let steps = chapters::scenario();
    let mut entries: Vec<Entry> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        if entries.last().is_some_and(|last| !last.passed()) {
            entries.extend(steps.iter().skip(index).map(Entry::not_run));
            break;
        }
        say(&format!("{:>2}/{} {}", index + 1, steps.len(), step.name));
        let restarted = if kill {
            world.kill_and_restart()
        } else {
            Ok(())
        };
        entries.push(Entry::new(step, restarted.and_then(|()| (step.run)(world))));
    }
    entries
}

/// Progress goes where it does not mix with the result.
fn say(text: &str) {
    use std::io::Write as _;
    // Without a reader there is nobody to show progress to.
    let _ = writeln!(std::io::stderr(), "demo: {text}");
}

fn write_report(path: &Path, entries: &[Entry], root: &str) -> Result<(), DemoError> {
    let document = json!({ "steps": entries, "root": root });
    std::fs::write(path, format!("{document:#}\n")).map_err(file_error("write", path))
}

fn reply(world: &World, dir: &Path, entries: &[Entry]) -> Reply {
    let rows: Vec<Vec<String>> = entries.iter().flat_map(rows).collect();
    let headers = ["", "STEP", "DECISION", "WHY", "COST", "LEAF"];
    let mut text = table(&headers, &rows);
    let failed = entries.iter().find(|entry| !entry.passed());
    if let Some(failed) = failed {
        text.push_str(&format!(
            "\nfailed: {} (expected {}, came to {})\n  {}\n",
            failed.name,
            failed.expected,
            failed.outcome,
            printable_lines(&failed.detail)
        ));
        let log = world.space.log("server");
        text.push_str(&format!(
            "\nthe server's log is {}; it ends with:\n{}",
            log.display(),
            tail(&log, 15)
        ));
    } else {
        text.push_str(&format!(
            "\nroot {}\nverify it yourself: creto verify {}\n",
            world.root,
            dir.join("evidence").display()
        ));
    }
    Reply {
        text,
        json: json!({ "steps": entries, "root": world.root }),
        good: failed.is_none(),
        status: None,
    }
}

fn mark(entry: &Entry) -> &'static str {
    match (entry.passed(), entry.outcome.as_str()) {
        (true, _) => "ok",
        (false, "not_run") => "-",
        (false, _) => "FAILED",
    }
}

/// The row of a step, and below it what of its reason does not fit beside the
/// rest.
fn rows(entry: &Entry) -> Vec<Vec<String>> {
    // Wide enough for the address of a page, so that it can be copied.
    const WHY_WIDTH: usize = 80;
    let mut lines = wrapped(&entry.detail, WHY_WIDTH).into_iter();
    let first = vec![
        mark(entry).to_owned(),
        entry.name.to_owned(),
        entry.outcome.clone(),
        lines.next().unwrap_or_default(),
        entry.cost.clone(),
        entry.leaf.map_or_else(String::new, |leaf| leaf.to_string()),
    ];
    let further = lines.map(|line| vec![String::new(), String::new(), String::new(), line]);
    std::iter::once(first).chain(further).collect()
}
