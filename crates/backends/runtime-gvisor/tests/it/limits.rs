//! Each limit ends what it must, and the report says which one it was.

use std::time::Duration;

use creto_runtime::{ExitReason, Limits};

use crate::world::{World, limits, python, show, skipped, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_memory_is_out_of_memory() {
    if skipped() {
        return;
    }
    let world = World::new();
    let small = Limits {
        memory_bytes: 128 * 1024 * 1024,
        ..limits()
    };
    let report = world
        .run(
            "print('up', flush=True); b = bytearray(600_000_000); print(len(b))",
            small,
        )
        .await;
    assert_eq!(report.reason, ExitReason::OutOfMemory, "{}", show(&report));
    assert_eq!(text(&report.stdout), "up\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_tmp_are_bounded() {
    if skipped() {
        return;
    }
    let world = World::new();
    let out = world
        .print(
            "n = 0\n\
             f = open('/tmp/x', 'wb')\n\
             try:\n    \
                 while n < 200: n += f.write(bytes(1 << 20)) >> 20; f.flush()\n\
             except OSError as e: print(e.strerror)\n\
             print(n)",
        )
        .await;
    assert!(out.starts_with("No space left on device"), "{out}");
    let written: u32 = out
        .lines()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number");
    assert!(written <= 64, "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_counted_exactly() {
    if skipped() {
        return;
    }
    let world = World::new();
    let few = Limits {
        processes: 8,
        ..limits()
    };
    let code = r"
import os, time
forked = 0
try:
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(2); os._exit(0)
        forked += 1
except OSError as error:
    print(error.strerror)
print(forked)
";
    let report = world.run(code, few).await;
    assert_eq!(
        report.reason,
        ExitReason::Exited { code: 0 },
        "{}",
        show(&report)
    );
    // The eighth is the program itself.
    assert_eq!(
        text(&report.stdout),
        "Resource temporarily unavailable\n7\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_runs_out_and_a_kill_is_a_kill() {
    if skipped() {
        return;
    }
    let world = World::new();
    let sleeper = "import time; print('up', flush=True); time.sleep(600)";
    let short = Limits {
        wall_time: Duration::from_secs(1),
        ..limits()
    };
    let killed = async {
        let spec = python(sleeper, limits());
        let id = spec.id;
        let sandbox = world.start(spec).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        sandbox.kill().await.expect("killed");
        let report = sandbox.wait().await.expect("a report");
        // A second kill of a sandbox that ended changes nothing.
        sandbox.kill().await.expect("still killed");
        (id, report)
    };
    let (overdue, (id, killed)) = tokio::join!(world.run(sleeper, short), killed);
    assert_eq!(overdue.reason, ExitReason::TimedOut, "{}", show(&overdue));
    assert_eq!(text(&overdue.stdout), "up\n");
    assert_eq!(killed.reason, ExitReason::Killed, "{}", show(&killed));
    world.assert_clean(&[id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_cut_at_the_limit_and_the_program_goes_on() {
    if skipped() {
        return;
    }
    let world = World::new();
    let little = Limits {
        output_bytes: 1000,
        ..limits()
    };
    let code =
        "import sys\nsys.stdout.write('x' * 3_000_000)\nsys.stderr.write('y' * 1000)\nsys.exit(3)";
    let report = world.run(code, little).await;
    assert_eq!(report.reason, ExitReason::Exited { code: 3 });
    assert_eq!((report.stdout.len(), report.stdout_truncated), (1000, true));
    assert_eq!(
        (report.stderr.len(), report.stderr_truncated),
        (1000, false)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processor_time_is_limited_when_asked() {
    if skipped() {
        return;
    }
    let world = World::new();
    let slow = Limits {
        cpu_millis: Some(200),
        ..limits()
    };
    let spec = python("while True: pass", slow);
    let id = spec.id;
    let sandbox = world.start(spec).await;
    // The kernel's own count: a clock inside the sandbox goes on while it is held back.
    let held_back = async {
        while world.periods_held_back(id) < 5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let held_back = tokio::time::timeout(Duration::from_secs(30), held_back).await;
    sandbox.kill().await.expect("killed");
    let report = sandbox.wait().await.expect("a report");
    assert_eq!(report.reason, ExitReason::Killed, "{}", show(&report));
    held_back.expect("a program that never rests is held back to a fifth of a processor");
    world.assert_clean(&[id]);
}
