//! A server that dies takes its sandboxes with it, and the next one tidies up.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use creto_runtime::SandboxRuntime;

use crate::world::{World, limits, python, skipped};

const ROLE: &str = "CRETO_TEST_DOOMED_SERVER";

/// Not a test by itself: run by the one below in a process of its own, it starts
/// a sandbox, says so, and waits to be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doomed_server() {
    let Ok(folder) = std::env::var(ROLE) else {
        return;
    };
    let world = World::at_path(folder.into());
    let spec = python("import time; time.sleep(600)", limits());
    let id = spec.id;
    let _sandbox = world.start(spec).await;
    println!("\nstarted {id}");
    tokio::time::sleep(Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_nothing_running_and_the_next_one_removes_the_rest() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "leftovers::doomed_server", "--nocapture"])
        .env(ROLE, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a server");
    let output = BufReader::new(server.stdout.take().expect("its output"));
    let id = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("started ")?.parse().ok())
        .expect("the sandbox's id");
    let short = short_name(id);
    assert!(running(&short) > 0, "the sandbox runs");

    server.kill().expect("SIGKILL");
    server.wait().expect("its end");
    let mut left = running(&short);
    for _ in 0..100 {
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        left = running(&short);
    }
    assert_eq!(left, 0, "the kernel ends the sandbox with its server");

    let world = World::at_path(folder.path().to_owned());
    let lost = world.runtime.cleanup_leftovers().await.expect("cleaned");
    assert_eq!(lost, [id]);
    world.assert_clean(&[id]);
    assert_eq!(
        world.runtime.cleanup_leftovers().await.expect("cleaned"),
        []
    );
    // And sandboxes run again.
    assert_eq!(world.print("print('again')").await, "again\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_do_not_share_a_folder() {
    if skipped() {
        return;
    }
    let first = World::new();
    let path = first.folder.clone();
    let second = std::panic::catch_unwind(|| World::at_path(path));
    assert!(second.is_err(), "the folder is taken");
}

fn short_name(id: creto_runtime::SandboxId) -> String {
    id.uuid().simple().to_string()[16..].to_owned()
}

/// How many processes of the machine are in the sandbox's cgroup.
fn running(short: &str) -> usize {
    ["/sys/fs/cgroup/pids/creto", "/sys/fs/cgroup/creto"]
        .iter()
        .filter_map(|place| std::fs::read_to_string(format!("{place}/{short}/cgroup.procs")).ok())
        .map(|text| text.lines().count())
        .sum()
}
