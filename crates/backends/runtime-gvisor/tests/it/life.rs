//! Start, output, exit, and what a program can see.

use std::os::unix::fs::PermissionsExt;

use creto_runtime::{ExitReason, Mount, RuntimeError, SandboxRuntime};

use crate::world::{World, limits, python, show, skipped, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_runs_confined_and_reports_its_exit_code() {
    if skipped() {
        return;
    }
    let world = World::new();
    let data = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
    std::fs::write(data.path().join("note"), "read me").expect("a file");
    let code = r#"
import os, sys
print("uid", os.getuid(), os.getgid())
print("env", sorted(os.environ.items()))
print("note", open("/data/note").read())
for path in ("/usr/x", "/etc/x", "/x", "/data/x", "/proc/sys/kernel/hostname"):
    try:
        open(path, "w").write("x")
        print("written", path)
    except OSError as error:
        print("refused", path)
open("/tmp/x", "w").write("x")
caps = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "CapPrm"))]
print("caps", caps, "nnp", [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")])
print("top", sorted(os.listdir("/")))
print("etc", sorted(os.listdir("/etc")))
sys.stderr.write("to stderr")
sys.exit(7)
"#;
    let mut spec = python(code, limits());
    spec.env.insert("GIVEN".into(), "yes".into());
    spec.mounts.push(Mount {
        source: data.path().into(),
        target: "/data".into(),
    });
    let id = spec.id;
    let sandbox = world.start(spec).await;
    assert_eq!(sandbox.id(), id);
    let report = sandbox.wait().await.expect("a report");
    let out = text(&report.stdout);
    assert_eq!(
        report.reason,
        ExitReason::Exited { code: 7 },
        "{}",
        show(&report)
    );
    assert_eq!(text(&report.stderr), "to stderr");
    assert!(out.contains("uid 65532 65532"), "{out}");
    assert!(out.contains("('GIVEN', 'yes')"), "{out}");
    assert!(!out.contains("CARGO"), "{out}");
    assert!(out.contains("note read me"), "{out}");
    assert!(!out.contains("written"), "{out}");
    assert!(
        out.contains("caps ['0000000000000000', '0000000000000000', '0000000000000000']"),
        "{out}"
    );
    assert!(!out.contains("shadow"), "{out}");
    assert!(!out.contains("'root'") && !out.contains("'work'"), "{out}");
    // Every waiter gets the same report, late ones too.
    assert_eq!(sandbox.wait().await.expect("a report"), report);
    world.assert_clean(&[id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_told_from_the_same_exit_code() {
    if skipped() {
        return;
    }
    let world = World::new();
    let (exited, signaled) = tokio::join!(
        world.run("import os; os._exit(137)", limits()),
        world.run("import os; os.kill(os.getpid(), 9)", limits()),
    );
    assert_eq!(exited.reason, ExitReason::Exited { code: 137 });
    assert_eq!(signaled.reason, ExitReason::Signaled { signal: 9 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_start_says_why_and_leaves_nothing() {
    if skipped() {
        return;
    }
    let world = World::new();
    let mut missing = python("", limits());
    missing.argv = vec!["/usr/bin/no-such-program".into()];
    let mut nowhere = python("", limits());
    nowhere.mounts.push(Mount {
        source: "/no/such/folder".into(),
        target: "/data".into(),
    });
    let ids = [missing.id, nowhere.id];
    for (spec, step, word) in [
        (
            missing,
            "running /usr/bin/no-such-program",
            "no-such-program",
        ),
        (nowhere, "writing the bundle", "/no/such/folder"),
    ] {
        let error = world.runtime.start(spec).await.err().expect("refused");
        assert!(
            matches!(&error, RuntimeError::Start { step: known, .. } if known == step),
            "{error}"
        );
        let chain = creto_errors::chain(&error);
        assert!(chain.contains(word), "{chain}");
    }
    world.assert_clean(&ids);
}
